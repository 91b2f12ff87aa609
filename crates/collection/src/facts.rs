//! What is known of a server besides its tools.

use jiff::Timestamp;
use std::fmt;

/// Where a server comes from, how it was started, and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What it is called in the catalog.
    pub name: String,
    /// The package; the name again where there is none.
    pub package: String,
    /// Its version; empty where it is not known.
    pub version: String,
    /// Where the package is from.
    pub registry: Registry,
    /// The arguments with which it was started, without the program itself.
    pub flags: Vec<String>,
    /// The names of the variables that it was given; never their values.
    pub environment: Vec<String>,
    /// The name that it gives itself; not to be trusted.
    pub reported_name: Option<String>,
    /// The revision of the protocol that was spoken.
    pub revision: Option<String>,
    /// What it tells the model to begin with.
    pub instructions: Option<String>,
    /// How it was kept from the rest of the machine.
    pub isolation: Isolation,
    /// Why it could not be asked, if it could not.
    pub problem: Option<String>,
    /// When it was asked.
    pub captured_at: Timestamp,
}

/// Where a package is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registry {
    /// npmjs.com.
    Npm,
    /// PyPI.
    Pypi,
    /// A command of the machine that asked.
    Command,
    /// A server elsewhere, over HTTP.
    Url,
    /// Nobody has said.
    Unknown,
}

impl Registry {
    const ALL: [Registry; 5] = [Registry::Npm, Registry::Pypi, Registry::Command, Registry::Url, Registry::Unknown];

    /// As it is written: `npm`, `pypi`, `command`, `url`, `unknown`.
    pub fn name(self) -> &'static str {
        match self {
            Registry::Npm => "npm",
            Registry::Pypi => "pypi",
            Registry::Command => "command",
            Registry::Url => "url",
            Registry::Unknown => "unknown",
        }
    }

    /// The registry of that name; `Unknown` for any other.
    pub fn named(name: &str) -> Registry {
        Registry::ALL.into_iter().find(|registry| registry.name() == name).unwrap_or(Registry::Unknown)
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How a server was kept from the rest of the machine while it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// In namespaces of its own, without a network.
    Isolated,
    /// In namespaces of its own, with the machine's network: its entry in the list said `network: true`.
    Networked,
    /// Not at all: somebody said `--unisolated`.
    Unisolated,
    /// It runs elsewhere.
    Remote,
    /// Somebody else asked it; nothing is known.
    Captured,
}

impl Isolation {
    const ALL: [Isolation; 5] =
        [Isolation::Isolated, Isolation::Networked, Isolation::Unisolated, Isolation::Remote, Isolation::Captured];

    /// As it is written: `isolated`, `networked`, `unisolated`, `remote`, `captured`.
    pub fn name(self) -> &'static str {
        match self {
            Isolation::Isolated => "isolated",
            Isolation::Networked => "networked",
            Isolation::Unisolated => "unisolated",
            Isolation::Remote => "remote",
            Isolation::Captured => "captured",
        }
    }

    /// The one of that name; `Captured`, of which nothing is known, for any other.
    pub fn named(name: &str) -> Isolation {
        Isolation::ALL.into_iter().find(|isolation| isolation.name() == name).unwrap_or(Isolation::Captured)
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
