//! The servers that the MCP clients on this machine are configured with.
//!
//! They are found in the clients' files, named so that a server of several clients has one name, and asked once each, some at a
//! time, as their clients would ask them.

use crate::commands::block_on;
use crate::failure::Failure;
use crate::headers;
use crate::server_name;
use crate::terminal::{shortened, tell, visible};
use clients::{CLIENTS, Client, Configuration, Machine, ReadError, Server, Target, Why};
use futures_util::{StreamExt, stream};
use gateway::{ChildCommand, HttpTarget, Listing, Upstream, UpstreamTls};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// Servers that are started side by side: package managers lock each other out, and laptops have few cores.
const AT_ONCE: usize = 4;

/// This machine; the project is the current directory, unless it is named.
pub(super) fn this(project: Option<&PathBuf>) -> Result<Machine, Failure> {
    let project = project.cloned().or_else(|| std::env::current_dir().ok());
    Machine::this(project).ok_or_else(|| Failure::general("nobody knows where your home is: set HOME"))
}

/// The configurations on a machine, of all clients or of those that are named, and those that cannot be read.
pub(super) fn find(named: &[String], machine: &Machine) -> Result<(Vec<Configuration>, Vec<ReadError>), Failure> {
    let is_named = |client: &&Client| named.is_empty() || named.iter().any(|id| id == client.id);
    if let Some(unknown) = named.iter().find(|id| CLIENTS.iter().all(|client| client.id != **id)) {
        let known: Vec<_> = CLIENTS.iter().map(|client| client.id).collect();
        return Err(Failure::usage(format!("no client is called `{}`; known are {}", visible(unknown), known.join(", "))));
    }
    let (mut found, mut unreadable, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for read in CLIENTS.iter().filter(is_named).flat_map(|client| Configuration::of(client, machine)) {
        match read {
            // The project may be the home, or one file a link to another.
            Ok(configuration) => {
                let is_new = seen.insert(configuration.path.canonicalize().unwrap_or_else(|_| configuration.path.clone()));
                if is_new && !configuration.servers.is_empty() {
                    found.push(configuration);
                }
            }
            Err(error) => unreadable.push(error),
        }
    }
    Ok((found, unreadable))
}

/// Names of servers, by what they are: the same server in two clients is one server, and no other has its name.
#[derive(Default)]
pub(super) struct Names(Vec<(Target, String)>);

impl Names {
    /// The name of a server, in counters and records and of its policy.
    pub fn of(&mut self, server: &Server) -> String {
        if let Some((_, name)) = self.0.iter().find(|(target, _)| *target == server.target) {
            return name.clone();
        }
        let plain = match &server.target {
            Target::Command { command } => server_name::of_command(command),
            Target::Url { url, .. } => server_name::of_url(url),
        };
        let is_free = |name: &String| self.0.iter().all(|(_, taken)| taken != name);
        let numbered = (2..).map(|number| format!("{plain}-{number}"));
        let name = std::iter::once(plain.clone()).chain(numbered).find(is_free).unwrap_or(plain);
        self.0.push((server.target.clone(), name.clone()));
        name
    }
}

/// Why nothing is tried with a server.
pub(super) fn left_alone(server: &Server) -> Option<String> {
    if server.is_wrapped() {
        return Some(Why::Wrapped.to_string());
    }
    if server.disabled {
        return Some("its client does not use it".to_owned());
    }
    server.variable().map(|variable| format!("its client fills something in (`{}`)", shortened(variable, 60)))
}

/// The server itself, where its client reaches it through callgate: the command behind `--`, or what the bridge leads to.
pub(super) fn unwrapped(server: &Server) -> Server {
    let target = match &server.target {
        Target::Command { command } if server.is_wrapped() => match command.iter().position(|word| word == "--") {
            Some(at) => Some(Target::Command { command: command[at + 1..].to_vec() }),
            None => bridged(command, &server.env),
        },
        Target::Command { .. } | Target::Url { .. } => None,
    };
    let mut server = server.clone();
    server.target = target.unwrap_or(server.target);
    server
}

/// Where the bridge leads to, with its headers, whose values may be kept elsewhere: in the environment of the command first.
fn bridged(command: &[String], env: &[(String, String)]) -> Option<Target> {
    let value = |said: &str| {
        let variable = said.strip_prefix("env:")?;
        env.iter().find(|(name, _)| name == variable).map(|(_, value)| value.clone())
    };
    let header = |line: &String| {
        let (name, said) = line.split_once(": ")?;
        let elsewhere = || {
            let line = headers::resolved(std::slice::from_ref(line)).ok()?.pop()?;
            Some(line.split_once(": ")?.1.to_owned())
        };
        Some((name.to_owned(), value(said).or_else(elsewhere).unwrap_or_else(|| said.to_owned())))
    };
    let url = following(command, "--upstream").next()?.clone();
    Some(Target::Url { url, headers: following(command, "--header").filter_map(header).collect() })
}

/// The words that follow this one.
fn following<'w>(words: &'w [String], option: &str) -> impl Iterator<Item = &'w String> {
    words.windows(2).filter(move |pair| pair[0] == option).map(|pair| &pair[1])
}

/// What each of these servers has, in their order. One that does not answer holds up none of the others.
pub(super) fn list_all(wanted: &[(String, &Server)], timeout: Duration) -> Result<Vec<Result<Listing, String>>, Failure> {
    let total = wanted.len();
    let asked = wanted.iter().enumerate().map(|(i, (name, server))| async move {
        tell!("asking {} what it has ({} of {total})", visible(name), i + 1);
        (i, list(server, timeout).await)
    });
    let mut listed = block_on(async { Ok(stream::iter(asked).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await) })?;
    listed.sort_by_key(|(i, _)| *i);
    Ok(listed.into_iter().map(|(_, listed)| listed).collect())
}

/// Starts or calls a server as its client would, and asks what it has.
async fn list(server: &Server, timeout: Duration) -> Result<Listing, String> {
    let upstream = match &server.target {
        Target::Command { command } => Upstream::Child(ChildCommand::inheriting(command).with(server.env.iter().cloned())),
        Target::Url { url, headers } => {
            // As they stand: what looks like a reference is none to any client.
            let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let target = HttpTarget::new(url, &lines, &UpstreamTls::default(), timeout);
            Upstream::Http(target.map_err(|error| error.to_string())?)
        }
    };
    let listed = gateway::list_tools(&upstream, timeout).await;
    listed.map_err(|error| format!("its tools cannot be listed: {}", shortened(&error.to_string(), 160)))
}
