//! Documented attacks on MCP, as data: what happened, what stops it, and the proof.
//!
//! Each attack lies in one of the files of `data/attacks`, in YAML, with its sources; they are embedded, and read when first
//! asked for. What a gateway can stop comes with a policy (or a configuration) and with cases: a script for a hostile server
//! and its client, and what must not reach the other side. Playing a case needs processes, so that is somebody else's; here
//! is what can be said from texts alone: which attacks apply to a tool, and which of those a policy stops.

mod applies;
mod case;
mod reading;
mod report;
mod stops;

pub use applies::{Answer, Applies, Way, applying};
pub use case::{Case, Scene, Send, Server, Step};
pub use stops::{Finding, Missing, Standing, judge, missing_policy, not_judged, some_of};

use policy::Source;
use std::fmt;
use std::sync::LazyLock;

/// All attacks, in the order of the files; each id once.
pub fn all() -> &'static [Attack] {
    &DATABASE.attacks
}

/// The attack of this id.
pub fn find(id: &str) -> Option<&'static Attack> {
    all().iter().find(|attack| attack.id == id)
}

/// The attack of this id, read by itself: for a process that needs one and starts often.
pub fn find_alone(id: &str) -> Option<Attack> {
    let first = format!("- id: {id}\n");
    let of_file = |(name, text): &(&str, &str)| {
        let at = text.find(&first).filter(|at| *at == 0 || text[..*at].ends_with('\n'))?;
        let rest = &text[at..];
        let end = rest[1..].find("\n- id: ").map_or(rest.len(), |end| end + 2);
        reading::attacks(&Source::new(*name, &rest[..end])).ok()?.pop()
    };
    FILES.iter().find_map(of_file)
}

/// All classes of attacks, in the order in which they are shown.
pub fn classes() -> &'static [AttackClass] {
    &DATABASE.classes
}

/// The class of this name.
pub fn class(name: &str) -> Option<&'static AttackClass> {
    classes().iter().find(|class| class.name == name)
}

/// One documented attack.
#[derive(Debug)]
pub struct Attack {
    /// Lower-case words with hyphens.
    pub id: String,
    /// One line.
    pub title: String,
    /// When it became known, as exactly as its sources say: `2025-04-01`, `2025-07`, `2026`, or words.
    pub date: String,
    /// Which products and versions.
    pub affected: String,
    /// Names of classes, the main one first; never empty.
    pub classes: Vec<String>,
    /// What happened, and how it works, in our own words.
    pub happened: String,
    /// Ids of the CVE list.
    pub cves: Vec<String>,
    /// Where it is documented; never empty.
    pub sources: Vec<AttackSource>,
    /// Where it stands in the frameworks.
    pub frameworks: Frameworks,
    /// How far a gateway reaches.
    pub reach: Reach,
    /// What a gateway does not see of it; always there unless it stops the attack whole.
    pub remains: Option<String>,
    /// What stops it here, the most telling first; empty where a gateway cannot.
    pub controls: Vec<Use>,
    /// What else stops it, and is not Callgate's.
    pub elsewhere: Vec<Use>,
    /// More for the reader.
    pub note: Option<String>,
    /// A policy that stops it, in our own form. Empty where none is needed.
    pub policy: Option<String>,
    /// A configuration for `serve -c` that stops it; its policy file is `policy.yaml`, its server [`SERVER`].
    pub configuration: Option<String>,
    /// In what it can be done to a tool.
    pub ways: Vec<Way>,
    /// The proofs.
    pub cases: Vec<Case>,
}

/// In a configuration, the command that starts a case's server, or the authority of its URL.
pub const SERVER: &str = "the-server";

impl Attack {
    /// Whether it belongs to this class.
    pub fn is_of(&self, class: &str) -> bool {
        self.classes.iter().any(|name| name == class)
    }

    /// Whether this control of ours is among those that stop it.
    pub fn is_stopped_by(&self, control: Control) -> bool {
        self.controls.iter().any(|used| used.control == control) || self.controls.is_empty() && control == Control::None
    }
}

/// A kind of attack.
#[derive(Debug)]
pub struct AttackClass {
    /// One word, such as `path-traversal`.
    pub name: String,
    /// As a heading.
    pub title: String,
    /// How attacks of this class work, and what stops them.
    pub works: String,
}

/// Where an attack is documented.
#[derive(Debug)]
pub struct AttackSource {
    /// Its address.
    pub url: String,
    /// How much of it was read for this database.
    pub seen: Seen,
}

/// How much of a source was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The whole text.
    Full,
    /// An excerpt of a stored copy.
    Excerpt,
    /// Its title and address, in somebody's list.
    Title,
    /// Not read: a source that was read names it.
    Cited,
    /// Not read: a mirror of it was.
    Original,
}

impl Seen {
    /// The word in the data.
    pub fn name(self) -> &'static str {
        match self {
            Seen::Full => "full",
            Seen::Excerpt => "excerpt",
            Seen::Title => "title",
            Seen::Cited => "cited",
            Seen::Original => "original",
        }
    }

    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Seen::Full => "full text read",
            Seen::Excerpt => "excerpt read",
            Seen::Title => "title only",
            Seen::Cited => "named by another source; not read",
            Seen::Original => "original of a mirror that was read",
        }
    }

    const ALL: [Seen; 5] = [Seen::Full, Seen::Excerpt, Seen::Title, Seen::Cited, Seen::Original];
}

/// Where an attack stands in the frameworks, by their own ids.
#[derive(Debug, Default)]
pub struct Frameworks {
    /// MITRE ATLAS techniques: `AML.T0051.001`.
    pub atlas: Vec<String>,
    /// OWASP Top 10 for MCP: `MCP03`.
    pub mcp: Vec<String>,
    /// OWASP Top 10 for LLM applications, 2025: `LLM01`.
    pub llm: Vec<String>,
    /// OWASP Top 10 for agentic applications, 2026: `ASI01`.
    pub agentic: Vec<String>,
}

/// How far a gateway reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// With the recommended policy or configuration, the attack does not get through.
    Stops,
    /// A part of it does not; what remains is said.
    Limits,
    /// Nothing of it passes by the gateway, or nothing of what passes tells it.
    Cannot,
}

impl Reach {
    /// All of them.
    pub const ALL: [Reach; 3] = [Reach::Stops, Reach::Limits, Reach::Cannot];

    /// The word in the data.
    pub fn name(self) -> &'static str {
        match self {
            Reach::Stops => "stops",
            Reach::Limits => "limits",
            Reach::Cannot => "cannot",
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One control, and how it bears on an attack.
#[derive(Debug)]
pub struct Use {
    /// Which.
    pub control: Control,
    /// How.
    pub how: String,
}

/// What stops attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Control {
    /// A tool, a method or a server's request is refused, by name or because nothing lists it.
    Deny,
    /// A tool is neither shown nor callable.
    Hide,
    /// A condition on arguments, or their schema.
    ArgumentRule,
    /// A bound on how often or how much.
    Limit,
    /// A person is asked first.
    Approval,
    /// Definitions are held against those that were accepted.
    Pin,
    /// Who calls is known by a credential, and may do what its grant says.
    Identity,
    /// Host, origin, path, type and headers of HTTP requests.
    Door,
    /// A message that two readers would read differently is refused.
    StrictReading,
    /// Sessions, replies and children of one caller are not another's.
    Isolation,
    /// What happened is on record.
    Record,
    /// What tools return is looked at, and changed or withheld.
    ResponseFilter,
    /// Where a server may connect to is bounded. That is the network's.
    Egress,
    /// Which programs are started, and in which sandbox. That is the host's.
    Launch,
    /// Nothing here.
    None,
}

impl Control {
    /// All of them, those of Callgate first.
    pub const ALL: [Control; 15] = [
        Control::Deny,
        Control::Hide,
        Control::ArgumentRule,
        Control::Limit,
        Control::Approval,
        Control::Pin,
        Control::Identity,
        Control::Door,
        Control::StrictReading,
        Control::Isolation,
        Control::Record,
        Control::ResponseFilter,
        Control::Egress,
        Control::Launch,
        Control::None,
    ];

    /// The word in the data and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Control::Deny => "deny",
            Control::Hide => "hide",
            Control::ArgumentRule => "argument-rule",
            Control::Limit => "limit",
            Control::Approval => "approval",
            Control::Pin => "pin",
            Control::Identity => "identity",
            Control::Door => "door",
            Control::StrictReading => "strict-reading",
            Control::Isolation => "isolation",
            Control::Record => "record",
            Control::ResponseFilter => "response-filter",
            Control::Egress => "egress",
            Control::Launch => "launch",
            Control::None => "none",
        }
    }

    /// What it is, in a sentence without its full stop.
    pub fn meaning(self) -> &'static str {
        match self {
            Control::Deny => "a tool, a method or a server's request is refused",
            Control::Hide => "a tool is neither shown nor callable",
            Control::ArgumentRule => "a condition on arguments, or their schema",
            Control::Limit => "a bound on how often or how much",
            Control::Approval => "a person is asked first",
            Control::Pin => "definitions are held against those that were accepted",
            Control::Identity => "who calls is known by a credential, and may do what its grant says",
            Control::Door => "host, origin, path, type and headers of HTTP requests are checked",
            Control::StrictReading => "a message that two readers would read differently is refused",
            Control::Isolation => "sessions, replies and children of one caller are not another's",
            Control::Record => "what happened is on record",
            Control::ResponseFilter => "what tools return is looked at, and changed or withheld",
            Control::Egress => "where a server may connect to is bounded; the network's",
            Control::Launch => "which programs are started, and in which sandbox; the host's",
            Control::None => "no gateway stops it",
        }
    }

    /// Whether Callgate has it.
    pub fn is_ours(self) -> bool {
        !matches!(self, Control::Egress | Control::Launch | Control::None)
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

struct Database {
    classes: Vec<AttackClass>,
    attacks: Vec<Attack>,
}

static DATABASE: LazyLock<Database> = LazyLock::new(|| {
    let read = |(name, text): &(&str, &str)| match reading::attacks(&Source::new(*name, *text)) {
        Ok(attacks) => attacks,
        Err(problem) => unreachable!("the embedded data is read by the tests: {problem}"),
    };
    let classes = match reading::classes(&Source::new("classes.yaml", CLASSES)) {
        Ok(classes) => classes,
        Err(problem) => unreachable!("the embedded data is read by the tests: {problem}"),
    };
    Database { classes, attacks: FILES.iter().flat_map(read).collect() }
});

const CLASSES: &str = include_str!("../data/attacks/classes.yaml");

/// By what the attacks in them begin with.
const FILES: &[(&str, &str)] = &[
    ("definitions.yaml", include_str!("../data/attacks/definitions.yaml")),
    ("injection.yaml", include_str!("../data/attacks/injection.yaml")),
    ("arguments.yaml", include_str!("../data/attacks/arguments.yaml")),
    ("access.yaml", include_str!("../data/attacks/access.yaml")),
    ("transport.yaml", include_str!("../data/attacks/transport.yaml")),
    ("excess.yaml", include_str!("../data/attacks/excess.yaml")),
    ("configuration.yaml", include_str!("../data/attacks/configuration.yaml")),
];

#[cfg(test)]
mod tests;
