//! `init`: the servers of the MCP clients on this machine, put behind callgate.

use crate::arguments::Init;
use crate::commands::{block_on, scan};
use crate::failure::{Failure, GENERAL, OK};
use crate::headers;
use crate::server_name;
use crate::terminal::{Paint, counted, shortened, tell, visible};
use clients::{Backups, CLIENTS, Change, Client, Configuration, Machine, ReadError, Server, Target, Undone, Why, Wrapping};
use futures_util::{StreamExt, stream};
use gateway::{ChildCommand, HttpTarget, Listing, Upstream, UpstreamTls};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Servers that are started side by side: package managers lock each other out, and laptops have few cores.
pub(super) const AT_ONCE: usize = 4;

pub fn init(arguments: &Init) -> Result<u8, Failure> {
    let project = arguments.project.clone().or_else(|| std::env::current_dir().ok());
    let Some(machine) = Machine::this(project) else { return Err(Failure::general("nobody knows where your home is: set HOME")) };
    let backups = Backups::at(data_directory()?.join("init"));
    if arguments.undo {
        return undo(&backups, arguments.json);
    }
    let (configurations, unreadable) = find(&arguments.client, &machine)?;
    let mut plan = Plan::of(&configurations, &policy_directory(&machine), unreadable);
    scan_all(&mut plan.servers, arguments.timeout)?;
    plan.make_changes(&configurations)?;
    if arguments.json {
        println!("{}", plan.json());
    } else {
        print!("{}", plan.text(Paint::stdout()));
    }
    if plan.changes.is_empty() || arguments.dry_run {
        return Ok(OK);
    }
    if !arguments.yes && !consents(&plan)? {
        tell!("nothing has been changed");
        return Ok(OK);
    }
    plan.carry_out(&backups)?;
    let files = counted(plan.changes.len() as u64, "configuration has", "configurations have");
    tell!("{files} been changed; restart the clients. To take it all back: callgate init --undo");
    Ok(OK)
}

/// Where callgate keeps what it remembers: beside the default state.
fn data_directory() -> Result<PathBuf, Failure> {
    let place = store::StateUrl::default_place()?;
    let directory = place.path().and_then(Path::parent).map(Path::to_owned);
    directory.ok_or_else(|| Failure::general("no user data directory is known"))
}

fn policy_directory(machine: &Machine) -> PathBuf {
    machine.config.clone().unwrap_or_else(|| machine.home.join(".config")).join("callgate").join("policies")
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

/// What is to be done, and why some of it is not.
struct Plan {
    servers: Vec<Proposal>,
    unreadable: Vec<ReadError>,
    changes: Vec<Change>,
}

/// One server of one configuration.
struct Proposal {
    /// Which configuration, by its place in the list.
    configuration: usize,
    client: &'static str,
    path: PathBuf,
    server: Server,
    /// The name in counters and records, and of the policy.
    name: String,
    policy: PathBuf,
    /// What it can do; or why it is left as it is.
    found: Result<Option<Found>, String>,
}

struct Found {
    listing: Listing,
    policy: String,
}

impl Plan {
    fn of(configurations: &[Configuration], policies: &Path, unreadable: Vec<ReadError>) -> Plan {
        let mut servers: Vec<Proposal> = Vec::new();
        for (i, configuration) in configurations.iter().enumerate() {
            for server in &configuration.servers {
                let name = name_of(server, &servers);
                let found = match left_alone(server) {
                    Some(why) => Err(why),
                    None => Ok(None),
                };
                let policy = policies.join(format!("{name}.yaml"));
                let (client, path) = (configuration.client.name, configuration.path.clone());
                servers.push(Proposal { configuration: i, client, path, server: server.clone(), name, policy, found });
            }
        }
        Plan { servers, unreadable, changes: Vec::new() }
    }

    /// What the configurations become. A server whose entry cannot be changed is left as it is, and said.
    fn make_changes(&mut self, configurations: &[Configuration]) -> Result<(), Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::because("nobody knows where callgate is", &error))?;
        for (i, configuration) in configurations.iter().enumerate() {
            let mut wrapping = Wrapping::of(configuration);
            for proposal in self.servers.iter_mut().filter(|proposal| proposal.configuration == i) {
                if !matches!(proposal.found, Ok(Some(_))) {
                    continue;
                }
                let policy = proposal.policy.display().to_string();
                let words = [&*program.to_string_lossy(), "run", "-p", &policy, "--server", &proposal.name];
                if let Err(why) = wrapping.put(&proposal.server, &words.map(str::to_owned)) {
                    proposal.found = Err(why.to_string());
                }
            }
            if wrapping.is_empty() {
                continue;
            }
            match wrapping.finish() {
                Ok(new) => {
                    self.changes.push(Change { path: configuration.path.clone(), old: configuration.text.clone(), new });
                }
                Err(why) => self.leave(i, &why),
            }
        }
        Ok(())
    }

    fn leave(&mut self, configuration: usize, why: &Why) {
        for proposal in self.servers.iter_mut().filter(|proposal| proposal.configuration == configuration) {
            proposal.found = Err(why.to_string());
        }
    }

    fn carry_out(&self, backups: &Backups) -> Result<(), Failure> {
        for proposal in &self.servers {
            if let Ok(Some(found)) = &proposal.found {
                write_policy(&proposal.policy, &found.policy)?;
            }
        }
        backups.apply(&self.changes).map_err(|error| Failure::because("the configurations cannot be changed", &error))
    }

    fn text(&self, paint: Paint) -> String {
        let mut out = String::new();
        for error in &self.unreadable {
            out += &format!("{} {}\n", paint.warn("not read:"), visible(&error.to_string()));
        }
        if self.servers.is_empty() {
            return out + "No MCP client on this machine has a server.\n";
        }
        let mut last = None;
        for proposal in &self.servers {
            if last != Some(&proposal.path) {
                out += &format!("\n{}  {}\n", paint.strong(proposal.client), visible(&proposal.path.display().to_string()));
                last = Some(&proposal.path);
            }
            out += &format!("  {}  {}\n", paint.strong(&visible(&proposal.server.name)), proposal.said(paint));
        }
        if !self.changes.is_empty() {
            out += "\nPolicies, which you can edit at any time:\n";
            for policy in self.policies() {
                let kept = if policy.exists() { "  (is there already, and stays)" } else { "" };
                out += &format!("  {}{kept}\n", visible(&policy.display().to_string()));
            }
            out += "\nThe configurations then say:\n";
            for change in &self.changes {
                out += &format!("{}\n{}", paint.strong(&visible(&change.path.display().to_string())), difference(change, paint));
            }
        }
        out
    }

    fn policies(&self) -> BTreeSet<&PathBuf> {
        let proposed = self.servers.iter().filter(|proposal| matches!(proposal.found, Ok(Some(_))));
        proposed.map(|proposal| &proposal.policy).collect()
    }

    fn json(&self) -> Value {
        let server = |proposal: &Proposal| {
            let left = proposal.found.as_ref().err();
            let found = proposal.found.as_ref().ok().and_then(Option::as_ref);
            json!({
                "client": proposal.client, "path": proposal.path, "name": proposal.server.name, "server": proposal.name,
                "tools": found.map(|found| found.listing.tools.len()),
                "policy": found.map(|_| &proposal.policy), "left": left,
            })
        };
        json!({
            "servers": self.servers.iter().map(server).collect::<Vec<_>>(),
            "unreadable": self.unreadable.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "changes": self.changes.iter().map(|change| &change.path).collect::<Vec<_>>(),
        })
    }
}

impl Proposal {
    fn said(&self, paint: Paint) -> String {
        match &self.found {
            Err(why) => format!("{} {}", paint.warn("left as it is:"), visible(why)),
            Ok(None) => String::new(),
            Ok(Some(found)) => scan::summary(&found.listing),
        }
    }
}

/// A name for a server that no other server has: the same server in two clients is one server.
fn name_of(server: &Server, before: &[Proposal]) -> String {
    if let Some(same) = before.iter().find(|proposal| proposal.server.target == server.target) {
        return same.name.clone();
    }
    let name = match &server.target {
        Target::Command { command } => server_name::of_command(command),
        Target::Url { url, .. } => server_name::of_url(url),
    };
    let is_free = |name: &String| before.iter().all(|proposal| proposal.name != *name);
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.clone()).chain(numbered).find(is_free).unwrap_or(name)
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

/// Starts every server once and asks what it can do; each only once, however many clients have it.
fn scan_all(servers: &mut [Proposal], timeout: Duration) -> Result<(), Failure> {
    let mut wanted: Vec<&Proposal> = Vec::new();
    for proposal in servers.iter().filter(|proposal| proposal.found.is_ok()) {
        if wanted.iter().all(|other| other.name != proposal.name) {
            wanted.push(proposal);
        }
    }
    let total = wanted.len();
    let listings = block_on(async {
        let scans = stream::iter(wanted.into_iter().enumerate().map(|(i, proposal)| async move {
            tell!("asking {} what it can do ({} of {total})", visible(&proposal.name), i + 1);
            (proposal.name.clone(), list(&proposal.server, timeout).await)
        }));
        Ok(scans.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await)
    })?;
    for proposal in servers.iter_mut().filter(|proposal| proposal.found.is_ok()) {
        let Some((name, listed)) = listings.iter().find(|(name, _)| *name == proposal.name) else { continue };
        proposal.found = match listed {
            Ok(listing) => Ok(Some(Found {
                policy: scan::policy_of(name, listing, catalogue::Profile::Recommended),
                listing: listing.clone(),
            })),
            Err(why) => Err(why.clone()),
        };
    }
    Ok(())
}

/// Starts or calls a server as its client would, and asks what it has.
pub(super) async fn list(server: &Server, timeout: Duration) -> Result<Listing, String> {
    let upstream = match &server.target {
        Target::Command { command } => Upstream::Child(ChildCommand::inheriting(command).with(server.env.iter().cloned())),
        Target::Url { url, headers } => {
            let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let lines = headers::resolved(&lines).map_err(|_| "one of its headers cannot be read".to_owned())?;
            let target = HttpTarget::new(url, &lines, &UpstreamTls::default(), timeout);
            Upstream::Http(target.map_err(|error| error.to_string())?)
        }
    };
    let listed = gateway::list_tools(&upstream, timeout).await;
    listed.map_err(|error| format!("its tools cannot be listed: {}", shortened(&error.to_string(), 160)))
}

/// Writes a policy that is not there yet: one that is may have been edited.
fn write_policy(path: &Path, policy: &str) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::because(&format!("cannot write {}", visible(&path.display().to_string())), &error);
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(policy.as_bytes()).map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn consents(plan: &Plan) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("nobody is there to agree; look with --dry-run, then give --yes"));
    }
    let files = counted(plan.changes.len() as u64, "configuration", "configurations");
    eprint!("\nWrite the policies and change {files}? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn undo(backups: &Backups, json: bool) -> Result<u8, Failure> {
    let undone = backups.undo().map_err(|error| Failure::because("not everything could be restored", &error))?;
    let mut code = OK;
    for file in &undone {
        match file {
            Undone::Restored(path) => tell!("restored {}", visible(&path.display().to_string())),
            Undone::Untouched(_) => {}
            Undone::Changed { path, backup } => {
                code = GENERAL;
                let (path, backup) = (visible(&path.display().to_string()), visible(&backup.display().to_string()));
                tell!("left as it is: {path} has been changed since; what it held before callgate is in {backup}");
            }
        }
    }
    if json {
        let restored = undone.iter().filter_map(|file| if let Undone::Restored(path) = file { Some(path) } else { None });
        let left = undone.iter().filter_map(|file| match file {
            Undone::Changed { path, backup } => Some(json!({"path": path, "backup": backup})),
            Undone::Restored(_) | Undone::Untouched(_) => None,
        });
        println!("{}", json!({"restored": restored.collect::<Vec<_>>(), "left": left.collect::<Vec<_>>()}));
    } else if undone.is_empty() {
        tell!("there is nothing to take back");
    }
    Ok(code)
}

/// The lines that change, as a reviewer would want to see them.
fn difference(change: &Change, paint: Paint) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (change.old.lines().collect(), change.new.lines().collect());
    let mut out = String::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        // How far the next line is that both have; changes are a few lines each.
        let meets = (1..=64).flat_map(|n| (0..=n).map(move |k| (k, n - k)));
        let same = |(a, b): &(usize, usize)| old.get(i + a).is_some() && old.get(i + a) == new.get(j + b);
        let (a, b) = meets.into_iter().find(same).unwrap_or((old.len() - i, new.len() - j));
        old[i..i + a].iter().for_each(|line| out += &format!("{}\n", paint.bad(&format!("  - {}", visible(line)))));
        new[j..j + b].iter().for_each(|line| out += &format!("{}\n", paint.good(&format!("  + {}", visible(line)))));
        (i, j) = (i + a, j + b);
    }
    out
}
