//! Reading values of a configuration: addresses, files, policies, and references to secrets.

use super::Report;
use super::admin::References;
use super::kept::{KEPT, KeptPolicy};
use crate::policy_file::{PolicyFile, content};
use crate::secret::{self, Secret};
use policy::{Fields, Kind, Node, Policy, Problem, Reader, SecretReference, Source, Span, Vocabulary, shown};
use ring::digest::{Context, SHA256};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::StateUrl;

/// The codes of what is wrong in a configuration, besides the codes that policies have for the form of a file. Stable.
pub(crate) mod code {
    /// Something that must be there is not.
    pub const MISSING: &str = "C001";
    /// A value that cannot be what it should.
    pub const VALUE: &str = "C002";
    /// A secret that is written out.
    pub const LITERAL: &str = "C003";
    /// A reference that leads nowhere: a variable that is not set, a file that cannot be read. Or one that may not be
    /// named where it stands.
    pub const REFERENCE: &str = "C004";
    /// A secret that is empty.
    pub const EMPTY: &str = "C005";
    /// A name that stands twice.
    pub const TWICE: &str = "C006";
    /// A name that names nothing.
    pub const UNKNOWN: &str = "C007";
    /// Two things that exclude each other.
    pub const COMBINATION: &str = "C008";
    /// A listener that others can reach, without credentials.
    pub const REACHABLE: &str = "C009";
    /// A warning: something that allows nothing.
    pub const WITHOUT_POLICY: &str = "C101";
}

static VOCABULARY: Vocabulary = Vocabulary {
    synonyms: &[
        ("address", "listen"),
        ("bind", "listen"),
        ("upstreams", "servers"),
        ("mcpServers", "servers"),
        ("clients", "grants"),
        ("cmd", "command"),
        ("environment", "env"),
        ("policies", "policy"),
        ("endpoint", "url"),
        ("secret", "token"),
        ("database", "state"),
        ("store", "state"),
    ],
    places: &[
        ("token", "to a grant, or into `admin`"),
        ("policy", "to a server or a grant"),
        ("url", "to a server"),
        ("command", "to a server"),
        ("arguments", "into `audit`"),
        ("durability", "into `audit`"),
        ("log", "into `telemetry`"),
        ("metrics", "into `telemetry`"),
        ("otlp", "into `telemetry`"),
    ],
};

/// The reading of one configuration file.
pub(super) struct Reading<'s> {
    reader: Reader<'s>,
    base: &'s Path,
    environment: &'s dyn Fn(&str) -> Option<String>,
    /// By path; `None` for one with errors.
    policies: HashMap<PathBuf, Option<Arc<Policy>>>,
    /// Those that the state keeps, by name; `None`: of a file, which knows no state.
    kept: Option<&'s BTreeMap<String, KeptPolicy>>,
    /// What it may refer to; `None`: anything, as a file may.
    references: Option<&'s References>,
    of_policies: Vec<Report>,
    seen: Context,
    files: Vec<PathBuf>,
}

/// What reading a file has come to.
pub(super) struct Finished {
    /// What is wrong in the file itself.
    pub problems: Vec<Problem>,
    /// What is wrong in policies that it names.
    pub of_policies: Vec<Report>,
    /// A digest of all that was read.
    pub fingerprint: [u8; 32],
    /// The files that it names, whether or not they could be read.
    pub files: Vec<PathBuf>,
}

impl<'s> Reading<'s> {
    pub fn new(source: &'s Source, base: &'s Path, environment: &'s dyn Fn(&str) -> Option<String>) -> Reading<'s> {
        let mut seen = Context::new(&SHA256);
        seen.update(&source.text);
        let (policies, of_policies) = (HashMap::new(), Vec::new());
        Reading {
            reader: Reader::new(source, &VOCABULARY),
            base,
            environment,
            policies,
            kept: None,
            references: None,
            of_policies,
            seen,
            files: Vec::new(),
        }
    }

    /// The same of a text beside which the state keeps these policies: `state:NAME` names one of them.
    pub fn beside_policies(self, kept: &'s BTreeMap<String, KeptPolicy>) -> Reading<'s> {
        Reading { kept: Some(kept), ..self }
    }

    /// The same of a text that may refer to nothing but these.
    pub fn referring_to(self, references: &'s References) -> Reading<'s> {
        Reading { references: Some(references), ..self }
    }

    /// Whether the text may name this, which is said where it may not.
    pub fn may_name(&mut self, at: &Span, reference: &str) -> bool {
        let may = self.references.is_none_or(|references| references.allow(reference));
        if !may {
            let message = format!("what the state keeps may not name `{}` here", shown(reference));
            self.error(code::REFERENCE, at, message).help =
                Some("the configuration says what it may: `references` under `admin`".into());
        }
        may
    }

    /// Whether the text may name the policy at `path`, which it calls `text`; said where it may not.
    fn may_name_policy(&mut self, at: &Span, path: &Path, text: &str) -> bool {
        // What is wrong in a file tells of what it holds.
        let may = self.references.is_none_or(|references| references.allow_policy(self.base, path, text));
        if !may {
            let problem = self.error(code::REFERENCE, at, "what the state keeps may name policies beside the configuration");
            let help =
                "write a path below the configuration's directory, or `state:NAME`; or list it under `references` of `admin`";
            problem.help = Some(help.into());
        }
        may
    }

    /// Whether it is known what the state keeps: a file is read without it.
    pub fn knows_state(&self) -> bool {
        self.kept.is_some()
    }

    /// What paths are relative to.
    pub fn base(&self) -> &'s Path {
        self.base
    }

    pub fn root(&mut self) -> Option<Node> {
        self.reader.root()
    }

    pub fn finish(self) -> Finished {
        let problems = self.reader.finish().into_iter().map(Problem::without_text).collect();
        let digest = self.seen.finish();
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest.as_ref());
        Finished { problems, of_policies: self.of_policies, fingerprint, files: self.files }
    }

    pub fn error(&mut self, code: &'static str, at: &Span, message: impl Into<String>) -> &mut Problem {
        self.reader.error(code, at, message)
    }

    pub fn warn(&mut self, code: &'static str, at: &Span, message: impl Into<String>) -> &mut Problem {
        self.reader.warn(code, at, message)
    }

    /// What something must be that is not.
    pub fn expected(&mut self, at: &Span, what: &str, expected: &str) {
        self.error(code::VALUE, at, format!("{what} is not what it must be")).label = Some(format!("expected {expected}"));
        if let Some(problem) = self.reader.problems.last_mut() {
            problem.help = Some(format!("write {expected}"));
        }
    }

    pub fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&'static str]) -> Option<Fields<'n>> {
        self.reader.fields(node, what, known)
    }

    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        self.reader.list(node, what).unwrap_or_default()
    }

    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        self.reader.boolean(node, what)
    }

    pub fn word<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&'static str, T)]) -> Option<T> {
        self.reader.word(node, what, words)
    }

    /// A string that is not empty. What else stands there is not repeated.
    pub fn string<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match node.as_str() {
            Some("") => self.expected(&node.at, what, "a text that is not empty"),
            None if matches!(node.kind, Kind::Invalid) => {}
            None => self.expected(&node.at, what, "a text, in quotes"),
            text => return text,
        }
        None
    }

    /// A whole number from `least` to `most`.
    pub fn number(&mut self, node: &Node, what: &str, least: u64, most: u64) -> Option<u64> {
        let number = match &node.kind {
            Kind::Number(number) => number.to_string().parse().ok().filter(|number| (least..=most).contains(number)),
            _ => None,
        };
        if number.is_none() && !matches!(node.kind, Kind::Invalid) {
            self.expected(&node.at, what, &format!("a whole number from {least} to {most}"));
        }
        number
    }

    /// A list of strings, or one string.
    pub fn names(&mut self, node: &Node, what: &str, each: &str) -> Vec<String> {
        self.strings(node, what, each).into_iter().map(|(text, _)| text.to_owned()).collect()
    }

    /// The same, each with its place.
    pub fn strings<'n>(&mut self, node: &'n Node, what: &str, each: &str) -> Vec<(&'n str, &'n Node)> {
        if let Some(text) = node.as_str().filter(|text| !text.is_empty()) {
            return vec![(text, node)];
        }
        let elements = self.list(node, what);
        elements.iter().filter_map(|node| Some((self.string(node, each)?, node))).collect()
    }

    /// The value of a key that must be there.
    pub fn required<'n>(&mut self, fields: &Fields<'n>, key: &str, what: &str) -> Option<&'n Node> {
        let node = fields.get(key);
        if node.is_none() {
            let at = fields.members().first().map_or(fields.node.at.clone(), |member| member.key_at.clone());
            self.error(code::MISSING, &at, format!("`{key}` is missing in {what}")).help = Some(format!("add `{key}: …`"));
        }
        node
    }

    /// An address with a port; `localhost:PORT` is 127.0.0.1.
    pub fn address(&mut self, node: &Node, what: &str) -> Option<SocketAddr> {
        let text = self.string(node, what)?;
        let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let address = local.as_deref().unwrap_or(text).parse().ok();
        if address.is_none() {
            self.expected(&node.at, what, "an address and a port, such as `127.0.0.1:7420`");
        }
        address
    }

    /// A span of time such as `30s`.
    pub fn span(&mut self, node: &Node, what: &str) -> Option<Duration> {
        let span = node.as_str().and_then(policy::parse_span).and_then(|span| Duration::try_from(span).ok());
        if span.is_none() {
            self.expected(&node.at, what, "a time such as `30s`, `15m`, `2h` or `90d`");
        }
        span
    }

    /// A path, relative to the file.
    pub fn path(&mut self, node: &Node, what: &str) -> Option<PathBuf> {
        self.string(node, what).map(|text| self.base.join(text))
    }

    /// The path of `name` beside the file.
    pub fn neighbour(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// The path of a file that must be there; what it holds belongs to the configuration.
    pub fn file(&mut self, node: &Node, what: &str) -> Option<PathBuf> {
        let path = self.path(node, what)?;
        if !self.may_name(&node.at, &format!("file:{}", node.as_str().unwrap_or_default())) {
            return None;
        }
        self.files.push(path.clone());
        match content(&path) {
            Ok(content) => {
                self.saw(&content);
                Some(path)
            }
            Err(error) => {
                self.unreadable(&node.at, what, &path, &error);
                None
            }
        }
    }

    fn unreadable(&mut self, at: &Span, what: &str, path: &Path, error: &io::Error) {
        let message = format!("the file of {what} cannot be read: `{}`: {error}", shown(&path.display().to_string()));
        self.error(code::REFERENCE, at, message).help = Some("paths are relative to the configuration file".into());
    }

    /// The policy in a file, or one that the state keeps. Its own mistakes are reported once, with their own places.
    pub fn policy(&mut self, node: &Node, what: &str) -> Option<Arc<Policy>> {
        if let Some(name) = node.as_str().and_then(|text| text.strip_prefix(KEPT)) {
            return self.kept_policy(node, name);
        }
        let path = self.path(node, what)?;
        if !self.may_name_policy(&node.at, &path, node.as_str().unwrap_or_default()) {
            return None;
        }
        if let Some(known) = self.policies.get(&path) {
            return known.clone();
        }
        self.files.push(path.clone());
        let policy = match PolicyFile::read_bounded(&path) {
            Ok(file) => {
                self.saw(&file.source().text);
                let source = Arc::new(file.source().clone());
                self.of_policies
                    .extend(file.problems().iter().map(|problem| Report { problem: problem.clone(), source: source.clone() }));
                file.policy()
            }
            Err(error) => {
                self.unreadable(&node.at, what, &path, &error);
                None
            }
        };
        self.policies.insert(path, policy.clone());
        policy
    }

    fn kept_policy(&mut self, node: &Node, name: &str) -> Option<Arc<Policy>> {
        let Some(kept) = self.kept else {
            self.error(code::VALUE, &node.at, "a file cannot name a policy that the state keeps").help =
                Some("write the path of a policy file".into());
            return None;
        };
        let policy = kept.get(name).map(|kept| kept.policy().cloned());
        match policy {
            Some(Some(policy)) => return Some(policy),
            Some(None) => drop(self.error(code::UNKNOWN, &node.at, format!("the policy `{}` has mistakes", shown(name)))),
            None => {
                let names: Vec<&str> = kept.keys().map(String::as_str).collect();
                let help = match names.is_empty() {
                    true => "no policy is kept yet; put one first".to_owned(),
                    false => format!("the policies that are kept: {}", names.join(", ")),
                };
                self.error(code::UNKNOWN, &node.at, format!("no policy `{}` is kept", shown(name))).help = Some(help);
            }
        }
        None
    }

    /// Where state is kept. A URL that holds a password comes by reference.
    pub fn state(&mut self, node: &Node, what: &str) -> Option<StateUrl> {
        let text = match SecretReference::parse(node.as_str().unwrap_or_default()) {
            Some(_) => self.secret(node, what)?.expose().to_owned(),
            None => {
                let text = self.string(node, what)?;
                if has_password(text) {
                    self.literal(&node.at, what);
                    return None;
                }
                text.to_owned()
            }
        };
        let url: Result<StateUrl, _> = text.parse();
        match url {
            Ok(StateUrl::Sqlite(path)) => Some(StateUrl::Sqlite(self.base.join(path))),
            Ok(url) => Some(url),
            Err(error) => {
                self.error(code::VALUE, &node.at, format!("{what} cannot be used: {error}"));
                None
            }
        }
    }

    /// The same reference, from wherever this file lies.
    pub fn beside(&self, reference: SecretReference) -> SecretReference {
        reference.beside(&self.reader.source.name)
    }

    /// A secret, by reference. Neither the value nor what stands in its place is ever repeated.
    pub fn secret(&mut self, node: &Node, what: &str) -> Option<Secret> {
        let reference = self.referred(node, what)?;
        if let SecretReference::File(path) = &reference {
            self.files.push(path.into());
        }
        let value = self.value_of(&reference, node, what)?;
        self.saw(value.expose().as_bytes());
        Some(value)
    }

    /// Where a secret is that is read anew whenever it is needed. It must be there already; that it changes is no change of the
    /// configuration.
    pub fn reference(&mut self, node: &Node, what: &str) -> Option<SecretReference> {
        let reference = self.referred(node, what)?;
        self.value_of(&reference, node, what).map(|_| reference)
    }

    /// Which secret stands there, with its whole path.
    fn referred(&mut self, node: &Node, what: &str) -> Option<SecretReference> {
        let Some(text) = node.as_str() else {
            if !matches!(node.kind, Kind::Invalid) {
                self.literal(&node.at, what);
            }
            return None;
        };
        let Some(reference) = SecretReference::parse(text) else {
            self.literal(&node.at, what);
            return None;
        };
        if !self.may_name(&node.at, text) {
            return None;
        }
        Some(match reference {
            SecretReference::File(place) => SecretReference::File(self.base.join(place).display().to_string()),
            variable => variable,
        })
    }

    fn value_of(&mut self, reference: &SecretReference, node: &Node, what: &str) -> Option<Secret> {
        let value = match reference {
            SecretReference::Env(name) => match (self.environment)(name) {
                Some(value) => value,
                None => {
                    let message = format!("the variable that {what} refers to is not set: `{}`", shown(name));
                    self.error(code::REFERENCE, &node.at, message).help = Some("set it in the environment of callgate".into());
                    return None;
                }
            },
            SecretReference::File(path) => match secret::read(Path::new(path)) {
                Ok(value) => value,
                Err(error) => {
                    self.unreadable(&node.at, what, Path::new(path), &error);
                    return None;
                }
            },
        };
        if value.trim().is_empty() {
            self.error(code::EMPTY, &node.at, format!("{what} is empty")).help = Some("put a value where it refers to".into());
            return None;
        }
        Some(Secret::new(value))
    }

    /// A value that may be a secret: by reference, or written out where its name does not sound like one.
    pub fn value(&mut self, name: &str, node: &Node, what: &str) -> Option<Secret> {
        match node.as_str() {
            Some(text) if SecretReference::parse(text).is_none() && !sounds_secret(name) => Some(Secret::new(text)),
            _ => self.secret(node, what),
        }
    }

    pub fn literal(&mut self, at: &Span, what: &str) {
        let problem = self.error(code::LITERAL, at, format!("{what} must not be written into this file"));
        problem.help = Some("write `env:NAME` for a variable of callgate's environment, or `file:PATH`".into());
    }

    fn saw(&mut self, content: &[u8]) {
        self.seen.update(&(content.len() as u64).to_le_bytes());
        self.seen.update(content);
    }
}

/// Whether a header or variable of this name may hold a credential.
fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "token", "key", "secret", "passw", "cookie", "credential", "session", "signature"]
        .iter()
        .any(|part| name.contains(part))
}

/// Whether a URL has a password in it.
fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.is_some_and(|user| user.contains(':')) || url.to_ascii_lowercase().contains("password=")
}

/// Reads a file that decides what is allowed: one that anybody may write to protects nothing.
pub(super) fn read_guarded(path: &Path) -> io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.permissions().mode() & 0o002 != 0 {
        let why = "anybody may write to this file, so that it protects nothing; mend it with `chmod o-w`";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    std::fs::read(path)
}
