//! One server in a client's configuration.

use crate::tree::{Node, Value};

/// What a client is told of one server.
#[derive(Clone, Debug)]
pub struct Server {
    /// The name that the client has for it.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// What is set in its environment: names, and values as they are written.
    pub env: Vec<(String, String)>,
    /// Whether the client has been told not to use it.
    pub disabled: bool,
    /// The keys and positions that lead to its mapping in the tree.
    pub(crate) at: Vec<Key>,
}

/// A way down the tree by one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Name(String),
    Position(usize),
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A command that the client starts.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// An HTTP endpoint.
    Url {
        /// Its address.
        url: String,
        /// The headers that the client sends with each request.
        headers: Vec<(String, String)>,
    },
}

/// The names that clients have for the same things.
pub(crate) const COMMAND: [&str; 3] = ["command", "cmd", "path"];
pub(crate) const URL: [&str; 4] = ["url", "serverUrl", "httpUrl", "uri"];
pub(crate) const HEADERS: [&str; 2] = ["headers", "http_headers"];
pub(crate) const ENV: [&str; 3] = ["env", "envs", "environment"];

impl Server {
    /// Reads what `entry` says of a server; nothing, where it says of none: clients keep their own extensions in the same place.
    pub(crate) fn read(name: &str, entry: &Node, at: &[Key]) -> Option<Server> {
        let mut at = at.to_vec();
        // Zed and Goose have had a mapping of its own for the command.
        let inner = ["command", "config"].iter().find(|key| entry.get(key).is_some_and(|inner| !inner.members().is_empty()));
        let said = match inner {
            Some(key) => {
                at.push(Key::Name((*key).to_owned()));
                entry.get(key)?
            }
            None => entry,
        };
        let disabled = [entry, said].iter().any(|node| {
            let flag = |key| node.get(key).and_then(Node::flag);
            flag("disabled") == Some(true) || flag("enabled") == Some(false)
        });
        let pairs = |keys: &[&'static str]| pairs(first(said, keys).map(|(_, node)| node));
        let target = match (first(said, &COMMAND), first(said, &URL)) {
            (Some((_, command)), _) => Target::Command { command: whole_command(said, command)? },
            (None, Some((_, url))) => Target::Url { url: url.text()?.to_owned(), headers: pairs(&HEADERS) },
            (None, None) => return None,
        };
        Some(Server { name: name.to_owned(), target, env: pairs(&ENV), disabled, at })
    }

    /// Whether it goes through callgate already.
    pub fn is_wrapped(&self) -> bool {
        let Target::Command { command } = &self.target else { return false };
        let program = command.first().map(|program| program.rsplit(['/', '\\']).next().unwrap_or_default());
        let is_callgate = program.is_some_and(|program| matches!(program, "callgate" | "callgate.exe"));
        is_callgate && command.get(1).is_some_and(|word| word == "run")
    }

    /// The first place where it leaves something for its client to fill in, as `${env:TOKEN}`.
    pub fn variable(&self) -> Option<&str> {
        let env = self.env.iter().map(|(_, value)| value);
        let texts: Vec<&String> = match &self.target {
            Target::Command { command } => command.iter().chain(env).collect(),
            Target::Url { url, headers } => {
                std::iter::once(url).chain(headers.iter().map(|(_, value)| value)).chain(env).collect()
            }
        };
        texts.into_iter().map(String::as_str).find(|text| text.contains("${") || text.contains("{env:"))
    }
}

/// The first of `keys` that a mapping has.
pub(crate) fn first<'n>(node: &'n Node, keys: &[&'static str]) -> Option<(&'static str, &'n Node)> {
    keys.iter().find_map(|key| node.get(key).map(|value| (*key, value)))
}

fn whole_command(said: &Node, command: &Node) -> Option<Vec<String>> {
    let mut words = match &command.value {
        Value::Text(program) => vec![program.clone()],
        _ => command.texts()?,
    };
    if let Some(arguments) = said.get("args") {
        words.extend(arguments.texts()?);
    }
    (!words.is_empty()).then_some(words)
}

fn pairs(node: Option<&Node>) -> Vec<(String, String)> {
    let members = node.map(Node::members).unwrap_or_default();
    members.iter().filter_map(|member| Some((member.key.clone(), member.value.text()?.to_owned()))).collect()
}
