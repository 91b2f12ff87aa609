//! A list of servers to be asked: where each is from, how it is started, and with which dummy credentials.

use crate::cell::is_taken;
use crate::facts::Registry;
use jiff::SignedDuration;
use policy::{Fields, Kind, Node, Problem, Reader, Severity, Source, Vocabulary, parse_span};
use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// The servers of one file, in its order.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// Each name and version once.
    pub servers: Vec<Entry>,
    /// Files and directories with captures.
    pub captures: Vec<PathBuf>,
}

/// One server of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is called in the catalog.
    pub name: String,
    /// Where it is from.
    pub origin: Origin,
    /// What it is started with, besides its program.
    pub arguments: Vec<String>,
    /// Its environment; dummies, for the list and the catalog are no place for secrets.
    pub environment: BTreeMap<String, String>,
    /// How long it may take to start and to list its tools.
    pub timeout: Duration,
    /// Whether it has the machine's network in its cell.
    pub network: bool,
}

/// Where a server is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A package of npm, and which of its programs.
    Npm(Package),
    /// A package of PyPI, and which of its programs.
    Pypi(Package),
    /// A program of this machine.
    Command {
        /// Its name, or its path.
        program: String,
        /// What it must be able to read besides itself and the system's own files.
        reads: Vec<PathBuf>,
    },
    /// A server elsewhere.
    Url {
        /// Where.
        url: String,
        /// `Name: value`; a value may be a reference, `env:NAME` or `file:PATH`.
        headers: Vec<String>,
    },
}

/// One version of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name in the registry.
    pub name: String,
    /// The version, exactly.
    pub version: String,
    /// Which of its programs is the server; by default the one that is called like it.
    pub program: Option<String>,
    /// What is installed with it, as requirements of pip or npm: `mcp<2`.
    pub with: Vec<String>,
    /// A file with the versions of what it depends on, as pip reads it.
    pub constraints: Option<PathBuf>,
}

const VOCABULARY: Vocabulary = Vocabulary {
    synonyms: &[
        ("environment", "env"),
        ("pip", "pypi"),
        ("python", "pypi"),
        ("node", "npm"),
        ("arguments", "args"),
        ("upstream", "url"),
        ("entry_point", "program"),
        ("bin", "program"),
    ],
    places: &[
        ("servers", "at the top of the file"),
        ("npm", "in an element of `servers`"),
        ("pypi", "in an element of `servers`"),
    ],
};

const KEYS: &[&str] = &[
    "name",
    "npm",
    "pypi",
    "command",
    "url",
    "captures",
    "program",
    "with",
    "constraints",
    "args",
    "env",
    "read",
    "headers",
    "timeout",
    "network",
];
const ORIGINS: &[&str] = &["npm", "pypi", "command", "url", "captures"];

/// A server that has not answered by then will not.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is wrong in a list, besides what may be wrong in any such file. Stable.
mod code {
    pub const ORIGIN: &str = "L001";
    pub const VERSION: &str = "L002";
    pub const TWICE: &str = "L003";
    pub const VALUE: &str = "L004";
    pub const MISPLACED: &str = "L005";
}

impl List {
    /// Reads a list; `base` is what paths in it are relative to.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(source: &Source, base: &Path) -> Result<List, Vec<Problem>> {
        let mut reading = Reading { reader: Reader::new(source, &VOCABULARY), base };
        let root = reading.reader.root();
        let list = root.as_ref().and_then(|root| reading.list(root));
        let problems = reading.reader.finish();
        match list {
            Some(list) if problems.iter().all(|problem| problem.severity != Severity::Error) => Ok(list),
            _ => Err(problems),
        }
    }
}

/// What holds for all servers of a list that do not say otherwise.
struct Defaults {
    environment: BTreeMap<String, String>,
    timeout: Duration,
}

struct Reading<'s> {
    reader: Reader<'s>,
    base: &'s Path,
}

impl Reading<'_> {
    fn list(&mut self, root: &Node) -> Option<List> {
        let fields = self.reader.fields(root, "the list", &["version", "env", "timeout", "servers"])?;
        let defaults = Defaults {
            environment: fields.get("env").map(|node| self.environment(node)).unwrap_or_default(),
            timeout: fields.get("timeout").and_then(|node| self.timeout(node)).unwrap_or(TIMEOUT),
        };
        let mut list = List::default();
        let mut seen = HashSet::new();
        let Some(servers) = fields.get("servers") else {
            self.reader.error(code::ORIGIN, &root.at, "the list has no `servers`").help =
                Some("add `servers: [{npm: \"PACKAGE@VERSION\"}]`".into());
            return None;
        };
        for node in self.reader.list(servers, "`servers`")? {
            let Some(fields) = self.reader.fields(node, "a server", KEYS) else { continue };
            if let Some(place) = fields.get("captures") {
                list.captures.extend(self.reader.string(place, "`captures`").map(|place| self.base.join(place)));
                continue;
            }
            let Some(entry) = self.entry(&fields, &defaults) else { continue };
            let version = entry.origin.package().map(|package| package.version.clone());
            if !seen.insert((entry.name.clone(), version)) {
                let message = format!("server `{}` stands twice", policy::shown(&entry.name));
                self.reader.error(code::TWICE, &node.at, message).help = Some("give each a `name` of its own".into());
            }
            list.servers.push(entry);
        }
        Some(list)
    }

    fn entry(&mut self, fields: &Fields<'_>, defaults: &Defaults) -> Option<Entry> {
        let named: Vec<&str> = ORIGINS.iter().copied().filter(|key| fields.get(key).is_some()).collect();
        let [kind] = named.as_slice() else {
            let message = "a server is from one place";
            self.reader.error(code::ORIGIN, &fields.node.at, message).help =
                Some("write one of `npm`, `pypi`, `command`, `url` and `captures`".into());
            return None;
        };
        self.only_with(fields, kind);
        let (origin, mut arguments) = match *kind {
            "npm" => (Origin::Npm(self.package(fields, "npm", '@')?), Vec::new()),
            "pypi" => (Origin::Pypi(self.package(fields, "pypi", '=')?), Vec::new()),
            "command" => self.command(fields)?,
            _ => (Origin::Url { url: self.text(fields, "url")?, headers: self.texts(fields, "headers") }, Vec::new()),
        };
        arguments.extend(self.texts(fields, "args"));
        let mut environment = defaults.environment.clone();
        environment.extend(fields.get("env").map(|node| self.environment(node)).unwrap_or_default());
        let name = match fields.get("name") {
            Some(node) => self.reader.name(node, "`name`")?.to_owned(),
            None => origin.default_name(),
        };
        let timeout = fields.get("timeout").and_then(|node| self.timeout(node)).unwrap_or(defaults.timeout);
        let network = fields.get("network").and_then(|node| self.reader.boolean(node, "`network`")).unwrap_or_default();
        Some(Entry { name, origin, arguments, environment, timeout, network })
    }

    /// What stands beside an origin that has no use for it would be passed over in silence.
    fn only_with(&mut self, fields: &Fields<'_>, kind: &str) {
        let useless: &[&str] = match kind {
            "npm" | "pypi" => &["read", "headers"],
            "command" => &["program", "with", "headers"],
            _ => &["program", "with", "constraints", "args", "env", "read", "network"],
        };
        for key in useless {
            if let Some(member) = fields.member(key) {
                let message = format!("`{key}` means nothing beside `{kind}`");
                self.reader.error(code::MISPLACED, &member.key_at, message).help = Some("remove it".into());
            }
        }
    }

    /// `name@version` of npm, `name==version` of PyPI.
    fn package(&mut self, fields: &Fields<'_>, key: &'static str, mark: char) -> Option<Package> {
        let node = fields.get(key)?;
        let with = self.texts(fields, "with");
        // It becomes a word of a command.
        let is_strange = |one: &String| !one.starts_with(|c: char| c.is_ascii_alphanumeric()) || one.contains(['/', ':']);
        if let (true, Some(node)) = (with.iter().any(is_strange), fields.get("with")) {
            self.reader.error(code::VALUE, &node.at, "`with` must be packages of the same registry").help =
                Some("write `with: [\"mcp<2\"]`".into());
        }
        let text = self.reader.string(node, &format!("`{key}`"))?;
        let parts = if mark == '=' { text.split_once("==") } else { text.rsplit_once('@') };
        let registry = if mark == '=' { Registry::Pypi } else { Registry::Npm };
        match parts.filter(|(name, version)| is_package(registry, name, version)) {
            Some((name, version)) => Some(Package {
                name: name.to_owned(),
                version: version.to_owned(),
                program: fields.get("program").and_then(|node| self.reader.name(node, "`program`")).map(str::to_owned),
                with,
                constraints: self.text(fields, "constraints").map(|place| self.base.join(place)),
            }),
            None => {
                let example = if mark == '=' { "mcp-server-git==2026.10.19" } else { "@scope/server@1.2.3" };
                let message = format!("`{key}` must be a package with its exact version");
                self.reader.error(code::VERSION, &node.at, message).help = Some(format!("write it as `{example}`"));
                None
            }
        }
    }

    fn command(&mut self, fields: &Fields<'_>) -> Option<(Origin, Vec<String>)> {
        let words = self.texts(fields, "command");
        let Some((program, arguments)) = words.split_first() else {
            let at = &fields.get("command")?.at;
            self.reader.error(code::VALUE, at, "`command` is empty").help = Some("write `[PROGRAM, ARGUMENT…]`".into());
            return None;
        };
        let reads: Vec<PathBuf> = self.texts(fields, "read").iter().map(|place| self.base.join(place)).collect();
        let taken = reads.iter().find(|place| is_taken(&plain(place)));
        if let (Some(taken), Some(node)) = (taken, fields.get("read")) {
            let message = format!("`{}` cannot be shown: a cell has its own", policy::shown(&taken.display().to_string()));
            self.reader.error(code::VALUE, &node.at, message).help =
                Some("name what the server needs of it, outside of /dev and /proc".into());
        }
        Some((Origin::Command { program: program.clone(), reads }, arguments.to_vec()))
    }

    fn text(&mut self, fields: &Fields<'_>, key: &str) -> Option<String> {
        self.reader.string(fields.get(key)?, &format!("`{key}`")).map(str::to_owned)
    }

    fn texts(&mut self, fields: &Fields<'_>, key: &str) -> Vec<String> {
        let Some(node) = fields.get(key) else { return Vec::new() };
        let Some(list) = self.reader.list(node, &format!("`{key}`")) else { return Vec::new() };
        list.iter().filter_map(|node| self.reader.string(node, &format!("an element of `{key}`")).map(str::to_owned)).collect()
    }

    fn environment(&mut self, node: &Node) -> BTreeMap<String, String> {
        let Kind::Object(members) = &node.kind else {
            self.reader.wrong_type(node, "`env`", "a mapping");
            return BTreeMap::new();
        };
        let mut variables = BTreeMap::new();
        for member in members {
            // What makes the cell is given these too, and is ours: nothing of a package is to be loaded into it.
            if member.key.starts_with("LD_") {
                let message =
                    format!("`{}` is for the linker, which would load it outside of the cell", policy::shown(&member.key));
                self.reader.error(code::VALUE, &member.key_at, message).help = Some("remove it".into());
                continue;
            }
            let value = self.reader.string(&member.value, &format!("`{}`", policy::shown(&member.key)));
            variables.extend(value.map(|value| (member.key.clone(), value.to_owned())));
        }
        variables
    }

    fn timeout(&mut self, node: &Node) -> Option<Duration> {
        let text = self.reader.string(node, "`timeout`")?;
        let span = parse_span(text).filter(|span| *span <= SignedDuration::from_hours(1));
        if span.is_none() {
            self.reader.error(code::VALUE, &node.at, "`timeout` must be a time of at most an hour").help =
                Some("write `timeout: 60s`".into());
        }
        Duration::try_from(span?).ok()
    }
}

/// Whether this is the name of a package in a registry and one version of it, and nothing that an installer would take for an
/// option, a path or an address: `owner/name` is a repository to npm.
pub fn is_package(registry: Registry, name: &str, version: &str) -> bool {
    let is_plain = |text: &str| {
        let signs = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
        text.len() <= 200
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(signs)
            && !text.contains("..")
    };
    let is_name = match (registry, name.strip_prefix('@').and_then(|scoped| scoped.split_once('/'))) {
        (Registry::Npm, Some((scope, name))) => is_plain(scope) && is_plain(name),
        (Registry::Npm | Registry::Pypi, None) => is_plain(name),
        _ => false,
    };
    is_name && is_plain(version) && version.starts_with(|c: char| c.is_ascii_digit())
}

/// A path from the root without `.` and `..`, as far as its words say.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match component {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

impl Origin {
    /// The package, where it is one.
    pub(crate) fn package(&self) -> Option<&Package> {
        match self {
            Origin::Npm(package) | Origin::Pypi(package) => Some(package),
            Origin::Command { .. } | Origin::Url { .. } => None,
        }
    }

    fn default_name(&self) -> String {
        match self {
            Origin::Npm(package) | Origin::Pypi(package) => package.name.clone(),
            Origin::Command { program, .. } => Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Origin::Url { url, .. } => url.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<List, Vec<Problem>> {
        List::read(&Source::new("list.yaml", text), Path::new("/lists"))
    }

    #[test]
    fn servers_are_from_four_places_and_captures_from_a_fifth() {
        let list = read(
            r#"
version: "1"
env: {AWS_REGION: us-east-1}
timeout: 90s
servers:
  - {npm: "@scope/server@1.2.3", args: [--all], env: {TOKEN: dummy}}
  - {pypi: "server.name==0.0.37", program: other, name: omics}
  - {command: [./serve, --stdio], read: [data], timeout: 5s, network: true}
  - {url: "https://mcp.example.org/mcp", headers: ["Authorization: env:TOKEN"]}
  - captures: captures
"#,
        )
        .unwrap();
        let names: Vec<_> = list.servers.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["@scope/server", "omics", "serve", "https://mcp.example.org/mcp"]);
        assert_eq!(list.captures, [PathBuf::from("/lists/captures")]);
        let npm = &list.servers[0];
        let package =
            Package { name: "@scope/server".into(), version: "1.2.3".into(), program: None, with: Vec::new(), constraints: None };
        assert_eq!((&npm.origin, npm.timeout.as_secs()), (&Origin::Npm(package), 90));
        assert_eq!(npm.environment.keys().collect::<Vec<_>>(), ["AWS_REGION", "TOKEN"]);
        assert_eq!(list.servers[1].origin.package().unwrap().program.as_deref(), Some("other"));
        let reads = vec![PathBuf::from("/lists/data")];
        assert_eq!(list.servers[2].origin, Origin::Command { program: "./serve".into(), reads });
        assert_eq!(list.servers.iter().map(|entry| entry.network).collect::<Vec<_>>(), [false, false, true, false]);
        assert_eq!((list.servers[2].arguments.as_slice(), list.servers[2].timeout.as_secs()), (&["--stdio".to_owned()][..], 5));
    }

    #[test]
    fn every_mistake_says_how_to_mend_it() {
        for (server, message, help) in [
            ("{}", "a server is from one place", "one of `npm`"),
            ("{npm: \"a@1\", pypi: \"b==1\"}", "a server is from one place", "one of `npm`"),
            ("{npm: server}", "exact version", "@scope/server@1.2.3"),
            ("{npm: \"server@latest\"}", "exact version", "@scope/server@1.2.3"),
            ("{npm: \"../../x@1\"}", "exact version", "@scope/server@1.2.3"),
            ("{npm: \"owner/server@1\"}", "exact version", "@scope/server@1.2.3"),
            ("{npm: \"server@1/2\"}", "exact version", "@scope/server@1.2.3"),
            ("{pypi: \"./server==1\"}", "exact version", "mcp-server-git=="),
            ("{npm: \"a@1\", with: [.]}", "`with` must be packages", "mcp<2"),
            ("{command: [a], read: [/tmp]}", "`/tmp` cannot be shown", "what the server needs"),
            ("{command: [a], read: [/home]}", "`/home` cannot be shown", "what the server needs"),
            ("{command: [a], read: [/tmp/../dev/shm/x]}", "cannot be shown", "what the server needs"),
            ("{command: [a], read: [/]}", "`/` cannot be shown", "what the server needs"),
            ("{command: [a], read: [/proc/1]}", "cannot be shown", "what the server needs"),
            ("{npm: \"--prefix@1\"}", "exact version", "@scope/server@1.2.3"),
            ("{pypi: \"server>=1\"}", "exact version", "mcp-server-git=="),
            ("{npm: \"a@1\", with: [--global]}", "`with` must be packages", "mcp<2"),
            ("{command: [a], env: {LD_PRELOAD: x.so}}", "`LD_PRELOAD` is for the linker", "remove it"),
            ("{command: []}", "`command` is empty", "PROGRAM"),
            ("{url: \"http://h/\", network: true}", "`network` means nothing beside `url`", "remove it"),
            ("{command: [a], network: yes}", "`yes` is a string, not a boolean", "write `true`"),
            ("{url: \"http://h/\", args: [a]}", "`args` means nothing beside `url`", "remove it"),
            ("{command: [a], timeout: 2h}", "at most an hour", "60s"),
            ("{command: [a], enviroment: {}}", "unknown key", ""),
            ("{command: [a]}, {command: [a]}", "`a` stands twice", "a `name` of its own"),
        ] {
            let problems = read(&format!("servers: [{server}]")).unwrap_err();
            let found = problems
                .iter()
                .any(|problem| problem.message.contains(message) && problem.help.as_deref().unwrap_or_default().contains(help));
            assert!(found, "{server}: {problems:?}");
        }
        assert!(read("name: x").is_err());
    }
}
