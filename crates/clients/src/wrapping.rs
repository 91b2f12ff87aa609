//! Putting callgate before the servers of a configuration, by changing as few bytes as possible.

use crate::configuration::Configuration;
use crate::server::{COMMAND, ENV, HEADERS, Server, Target, URL, first};
use crate::tree::{Format, Node, Value};
use std::fmt;
use std::ops::Range;

/// Bytes, and what stands there instead.
type Edit = (Range<usize>, String);

/// Changes to one configuration, under way.
#[derive(Debug)]
pub struct Wrapping<'c> {
    configuration: &'c Configuration,
    edits: Vec<Edit>,
    /// What must be read of each changed server afterwards.
    expected: Vec<(String, Vec<String>)>,
}

/// Why callgate cannot be put before a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is there already.
    Wrapped,
    /// The client logs in by itself, by what this key says; callgate would be refused.
    LogsIn(String),
    /// It has headers and an environment; only the one or the other can be carried over.
    HeadersAndEnvironment,
    /// The part that describes it is written in a way that cannot be changed at one place.
    Form,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Wrapped => write!(f, "it goes through callgate already"),
            Why::LogsIn(key) => write!(f, "its client logs in by itself (`{key}`); put it into callgate.yaml instead"),
            Why::HeadersAndEnvironment => write!(f, "it has both headers and an environment"),
            Why::Form => write!(f, "its entry is written in a way that cannot be changed safely"),
        }
    }
}

/// What a client goes by to log in, and nobody else can.
const LOGINS: [&str; 6] = ["bearer_token_env_var", "env_http_headers", "oauth", "auth", "authProvider", "authProviderType"];

impl<'c> Wrapping<'c> {
    /// No changes to `configuration` yet.
    pub fn of(configuration: &'c Configuration) -> Wrapping<'c> {
        Wrapping { configuration, edits: Vec::new(), expected: Vec::new() }
    }

    /// Puts `before` (callgate, `run` and its options) before `server`. Headers go into the environment, and are named to
    /// callgate by `--header "Name: env:VARIABLE"`, so that no secret stands in a command line.
    ///
    /// # Errors
    /// When that is not possible; nothing is changed then.
    pub fn put(&mut self, server: &Server, before: &[String]) -> Result<(), Why> {
        if server.is_wrapped() {
            return Err(Why::Wrapped);
        }
        let entry = self.configuration.entry(server).ok_or(Why::Form)?;
        let (edits, whole) = match &server.target {
            Target::Command { command } => {
                let whole = [before, &["--".to_owned()], command].concat();
                (self.before_command(entry, &whole[..=before.len() + 1])?, whole)
            }
            Target::Url { url, headers } => self.instead_of_url(entry, url, headers, before, server)?,
        };
        self.edits.extend(edits);
        self.expected.push((server.name.clone(), whole));
        Ok(())
    }

    /// Whether nothing has been changed.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The configuration's new text.
    ///
    /// It is read once more, and must say what it is meant to say of every changed server, and the same as before of the others.
    ///
    /// # Errors
    /// [`Why::Form`] when it does not; then the file is better left as it is.
    pub fn finish(mut self) -> Result<String, Why> {
        self.edits.sort_by_key(|(span, _)| (span.start, span.end));
        let mut text = String::with_capacity(self.configuration.text.len() + 1024);
        let mut at = 0;
        for (span, replacement) in &self.edits {
            text.push_str(self.configuration.text.get(at..span.start).ok_or(Why::Form)?);
            text.push_str(replacement);
            at = span.end;
        }
        text.push_str(self.configuration.text.get(at..).ok_or(Why::Form)?);
        let Configuration { client, path, servers, .. } = self.configuration;
        let changed = Configuration::parse(client, path, text).map_err(|_| Why::Form)?;
        let same_number = changed.servers.len() == servers.len();
        let is_right = |(old, new): (&Server, &Server)| {
            let expected = self.expected.iter().find(|(name, _)| *name == old.name && old.target != new.target);
            old.name == new.name
                && match (&new.target, expected) {
                    (Target::Command { command }, Some((_, expected))) => command == expected,
                    (target, _) => *target == old.target && new.env == old.env,
                }
        };
        let all_right = same_number && servers.iter().zip(&changed.servers).all(is_right);
        if all_right { Ok(changed.text) } else { Err(Why::Form) }
    }

    /// Puts words before a command: `words` ends with the program itself.
    fn before_command(&self, entry: &Node, words: &[String]) -> Result<Vec<Edit>, Why> {
        let (key, command) = first(entry, &COMMAND).ok_or(Why::Form)?;
        if command.items().is_some() {
            return Ok(vec![self.at_head_of(command, &words[..words.len() - 1])?]);
        }
        let program = (command.span.clone(), quote(&words[0]));
        let arguments = match entry.get("args") {
            Some(list) => self.at_head_of(list, &words[1..])?,
            None => {
                // Before the command, so that a comment behind it stays with it.
                let at = entry.member(key).ok_or(Why::Form)?.key_span.start;
                (at..at, format!("{}{}", self.member("args", &self.list(&words[1..])), self.between(entry, at)?))
            }
        };
        Ok(vec![program, arguments])
    }

    fn instead_of_url(
        &self,
        entry: &Node,
        url: &str,
        headers: &[(String, String)],
        before: &[String],
        server: &Server,
    ) -> Result<(Vec<Edit>, Vec<String>), Why> {
        if let Some(key) = LOGINS.iter().find(|key| entry.get(key).is_some()) {
            return Err(Why::LogsIn((*key).to_owned()));
        }
        let words = &self.configuration.client.words;
        let mut edits = Vec::new();
        let mut whole = [before, &["--upstream".to_owned(), url.to_owned()]].concat();
        if let Some((key, mapping)) = first(entry, &HEADERS).filter(|(_, mapping)| !mapping.members().is_empty()) {
            if !server.env.is_empty() || first(entry, &ENV).is_some() {
                return Err(Why::HeadersAndEnvironment);
            }
            let all_texts = mapping.members().len() == headers.len();
            let member = entry.member(key).filter(|_| all_texts).ok_or(Why::Form)?;
            edits.push((member.key_span.clone(), self.key(words.env)));
            for (i, header) in mapping.members().iter().enumerate() {
                let variable = format!("CALLGATE_HEADER_{}", i + 1);
                edits.push((header.key_span.clone(), self.key(&variable)));
                whole.extend(["--header".to_owned(), format!("{}: env:{variable}", header.key)]);
            }
        }
        if let Some(kind) = entry.get("type").filter(|kind| kind.text().is_some()) {
            edits.push((kind.span.clone(), quote(words.stdio)));
        }
        let (key, _) = first(entry, &URL).ok_or(Why::Form)?;
        let member = entry.member(key).ok_or(Why::Form)?;
        let instead = if words.command_is_list {
            self.member(words.command, &self.list(&whole))
        } else {
            let program = self.member(words.command, &quote(&whole[0]));
            format!("{program}{}{}", self.between(entry, member.key_span.start)?, self.member("args", &self.list(&whole[1..])))
        };
        edits.push((member.key_span.start..member.value.span.end, instead));
        Ok((edits, whole))
    }

    /// Puts words at the beginning of a list.
    fn at_head_of(&self, list: &Node, words: &[String]) -> Result<Edit, Why> {
        let Value::List { items, bracketed } = &list.value else { return Err(Why::Form) };
        let text = &self.configuration.text;
        let Some(item) = items.first() else {
            let at = list.span.start + 1;
            let is_empty_brackets = *bracketed && text[list.span.clone()].starts_with('[');
            return if is_empty_brackets { Ok((at..at, joined(words, ", "))) } else { Err(Why::Form) };
        };
        let first = item.span.start;
        if *bracketed {
            // One below the other, where they stand so.
            let space = &text[list.span.start + 1..first];
            let separator = if space.is_empty() || !space.trim().is_empty() { ", ".to_owned() } else { format!(",{space}") };
            return Ok((first..first, joined(words, &separator) + &separator));
        }
        let line = text[..first].rfind('\n').map_or(0, |at| at + 1);
        let before = &text[line..first];
        let dash = before.find('-').filter(|dash| before[..*dash].trim().is_empty() && before[dash + 1..].trim().is_empty());
        let indent = &before[..dash.ok_or(Why::Form)?];
        let lines: String = words.iter().map(|word| format!("{indent}- {}\n", quote(word))).collect();
        Ok((line..line, lines))
    }

    /// What stands between two members of a mapping, of which one begins at `at`.
    fn between(&self, entry: &Node, at: usize) -> Result<String, Why> {
        let Value::Mapping { braced, .. } = &entry.value else { return Err(Why::Form) };
        let line = self.configuration.text[..at].rfind('\n').map_or(0, |at| at + 1);
        let before = &self.configuration.text[line..at];
        let comma = if *braced { "," } else { "" };
        match (before.trim().is_empty(), *braced) {
            (true, _) => Ok(format!("{comma}\n{before}")),
            (false, true) => Ok(format!("{comma} ")),
            // `- cmd: …`: what comes after stands below it.
            (false, false) if before.trim() == "-" => Ok(format!("\n{}", before.replace('-', " "))),
            (false, false) => Err(Why::Form),
        }
    }

    fn member(&self, key: &str, value: &str) -> String {
        let equals = if self.configuration.tree.format == Format::Toml { " = " } else { ": " };
        format!("{}{equals}{value}", self.key(key))
    }

    fn key(&self, key: &str) -> String {
        if self.configuration.tree.format == Format::Json { quote(key) } else { key.to_owned() }
    }

    fn list(&self, words: &[String]) -> String {
        format!("[{}]", joined(words, ", "))
    }
}

fn joined(words: &[String], separator: &str) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(separator)
}

/// A text in double quotes, as JSON, YAML and TOML all read it.
fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("any text is a JSON string")
}
