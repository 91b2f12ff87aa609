//! `init`: the servers of the MCP clients on this machine, put behind callgate.

use crate::arguments::Init;
use crate::commands::machine::{self, Names};
use crate::commands::scan;
use crate::failure::{Failure, GENERAL, OK};
use crate::terminal::{Paint, counted, shortened, table, tell, visible};
use catalogue::{Level, Profile, RiskClass};
use clients::{Backups, Change, Configuration, Machine, ReadError, Server, Undone, Why, Wrapping};
use policy::Source;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufRead, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub fn init(arguments: &Init) -> Result<u8, Failure> {
    let machine = machine::this(arguments.project.as_ref())?;
    let backups = Backups::at(data_directory()?.join("init"));
    if arguments.undo {
        return undo(&backups, arguments.json);
    }
    let (configurations, unreadable) = machine::find(&arguments.client, &machine)?;
    let mut plan = Plan::of(&configurations, &policy_directory(&machine), unreadable);
    scan_all(&mut plan.servers, arguments.timeout)?;
    plan.make_changes(&configurations)?;
    if arguments.json {
        println!("{}", plan.json());
    } else {
        print!("{}", plan.text(arguments.show_policies, Paint::stdout()));
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

/// What was found out about a server, and what it gets.
struct Found {
    summary: String,
    /// The worst first.
    tools: Vec<Tool>,
    policy: Proposed,
}

/// One tool of a server.
struct Tool {
    name: String,
    class: RiskClass,
    level: Level,
    /// What the proposed policy does with it.
    treatment: String,
}

/// The policy of a server.
struct Proposed {
    /// What is proposed.
    text: String,
    /// What is at its place already.
    there: There,
}

#[derive(PartialEq, Eq)]
enum There {
    Nothing,
    TheSame,
    /// Somebody may have edited it: it stays, and is what will hold.
    Another(String),
}

impl Plan {
    fn of(configurations: &[Configuration], policies: &Path, unreadable: Vec<ReadError>) -> Plan {
        let (mut servers, mut names) = (Vec::new(), Names::default());
        for (i, configuration) in configurations.iter().enumerate() {
            for server in &configuration.servers {
                let name = names.of(server);
                let found = match machine::left_alone(server) {
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
        for (path, proposed) in self.policies() {
            proposed.write(path)?;
        }
        backups.apply(&self.changes).map_err(|error| Failure::because("the configurations cannot be changed", &error))
    }

    fn text(&self, with_policies: bool, paint: Paint) -> String {
        let mut out = String::new();
        for error in &self.unreadable {
            out += &format!("{} {}\n", paint.warn("not read:"), visible(&error.to_string()));
        }
        if self.servers.is_empty() {
            return out + "No MCP client on this machine has a server.\n";
        }
        let (mut last, mut shown) = (None, Vec::new());
        for proposal in &self.servers {
            if last != Some(&proposal.path) {
                out += &format!("\n{}  {}\n", paint.strong(proposal.client), visible(&proposal.path.display().to_string()));
                last = Some(&proposal.path);
            }
            out += &format!("  {}  {}\n", paint.strong(&visible(&proposal.server.name)), proposal.said(paint));
            // A server of several clients is one server.
            if let (Some(found), false) = (proposal.proposed(), shown.contains(&&proposal.name)) {
                out += &found.tools_text(paint);
                shown.push(&proposal.name);
            }
        }
        if !self.changes.is_empty() {
            out += &self.policies_text(with_policies, paint);
            out += "\nThe configurations then say:\n";
            for change in &self.changes {
                out += &format!("{}\n{}", paint.strong(&visible(&change.path.display().to_string())), difference(change, paint));
            }
        }
        out
    }

    fn policies_text(&self, whole: bool, paint: Paint) -> String {
        let more = if whole { "" } else { "; --show-policies prints them" };
        let mut out = format!("\nPolicies, which you can edit at any time{more}:\n");
        for (path, proposed) in self.policies() {
            let kept = match proposed.there {
                There::Nothing => "",
                There::TheSame => "  (is there already)",
                There::Another(_) => "  (is there already and says something else: it stays, and is what will hold)",
            };
            out += &format!("  {}{}\n", paint.strong(&visible(&path.display().to_string())), paint.warn(kept));
            if whole {
                proposed.in_force().lines().for_each(|line| out += &format!("    {}\n", visible(line)));
            }
        }
        out
    }

    fn policies(&self) -> BTreeMap<&PathBuf, &Proposed> {
        self.servers.iter().filter_map(|proposal| Some((&proposal.policy, &proposal.proposed()?.policy))).collect()
    }

    fn json(&self) -> Value {
        json!({
            "servers": self.servers.iter().map(Proposal::json).collect::<Vec<_>>(),
            "unreadable": self.unreadable.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "changes": self.changes.iter().map(|change| &change.path).collect::<Vec<_>>(),
        })
    }
}

impl Proposal {
    fn proposed(&self) -> Option<&Found> {
        self.found.as_ref().ok()?.as_ref()
    }

    fn said(&self, paint: Paint) -> String {
        match &self.found {
            Err(why) => format!("{} {}", paint.warn("left as it is:"), visible(why)),
            Ok(None) => String::new(),
            Ok(Some(found)) => found.summary.clone(),
        }
    }

    fn json(&self) -> Value {
        let found = self.proposed();
        let is = |there: &There| match there {
            There::Nothing => "new",
            There::TheSame => "same",
            There::Another(_) => "kept",
        };
        json!({
            "client": self.client, "path": self.path, "name": self.server.name, "server": self.name,
            "tools": found.map(|found| found.tools.len()),
            "grades": found.map(Found::grades),
            "policy": found.map(|_| &self.policy),
            "policy_is": found.map(|found| is(&found.policy.there)),
            "policy_text": found.map(|found| found.policy.in_force()),
            "left": self.found.as_ref().err(),
        })
    }
}

impl Found {
    fn of(name: &str, listing: &gateway::Listing, place: &Path) -> Result<Found, String> {
        let recommended = scan::recommendation(name, listing, Profile::Recommended);
        let tool = |tool: catalogue::Recommended<'_>| Tool {
            name: tool.name.to_owned(),
            class: tool.class,
            level: tool.level,
            treatment: tool.treatment,
        };
        let mut tools: Vec<Tool> = recommended.tools().map(tool).collect();
        tools.sort_by_key(|tool| std::cmp::Reverse(tool.class));
        let policy = Proposed::at(place, recommended.yaml())?;
        Ok(Found { summary: scan::summary(&recommended), tools, policy })
    }

    /// What is to become of a tool; nothing, where another policy says it.
    fn treatment<'f>(&self, tool: &'f Tool) -> Option<&'f str> {
        let is_ours = !matches!(self.policy.there, There::Another(_));
        is_ours.then_some(tool.treatment.as_str())
    }

    fn tools_text(&self, paint: Paint) -> String {
        let row = |tool: &Tool| {
            let treatment = self.treatment(tool).unwrap_or("as the policy says that is there already");
            vec![
                format!("     {}", shortened(&tool.name, 60)),
                tool.class.to_string(),
                tool.level.to_string(),
                treatment.to_owned(),
            ]
        };
        let rows: Vec<Vec<String>> = self.tools.iter().map(row).collect();
        table(&[], &rows, |column, cell, padded| match (column, cell) {
            (2, word) if word == Level::Critical.name() => paint.bad(&padded),
            (2, word) if word == Level::High.name() => paint.warn(&padded),
            (3, _) => paint.dim(&padded),
            _ => padded,
        })
    }

    fn grades(&self) -> Vec<Value> {
        let grade = |tool: &Tool| {
            let treatment = self.treatment(tool);
            json!({"tool": tool.name, "risk": tool.class.name(), "level": tool.level.name(), "treatment": treatment})
        };
        self.tools.iter().map(grade).collect()
    }
}

impl Proposed {
    /// What is proposed for this place, and what is there.
    fn at(path: &Path, text: String) -> Result<Proposed, String> {
        let there = There::at(path, &text)?;
        Ok(Proposed { text, there })
    }

    fn in_force(&self) -> &str {
        match &self.there {
            There::Another(text) => text,
            There::Nothing | There::TheSame => &self.text,
        }
    }

    /// Writes it where nothing is yet.
    fn write(&self, path: &Path) -> Result<(), Failure> {
        let shown = visible(&path.display().to_string());
        let failed = |error: std::io::Error| Failure::because(&format!("cannot write {shown}"), &error);
        // What was agreed to is what was shown.
        if There::at(path, &self.text).map_err(Failure::general)? != self.there {
            return Err(Failure::general(format!("{shown} has changed meanwhile; look once more")));
        }
        if self.there != There::Nothing {
            return Ok(());
        }
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        file.and_then(|mut file| file.write_all(self.text.as_bytes())).map_err(failed)
    }
}

impl There {
    /// A policy that does not load is none: behind it the server could not be started.
    fn at(path: &Path, proposed: &str) -> Result<There, String> {
        let shown = path.display();
        match std::fs::read_to_string(path) {
            Ok(text) if text == proposed => Ok(There::TheSame),
            Ok(text) if policy::load(&Source::new("policy.yaml", text.as_str())).policy.is_none() => {
                Err(format!("its policy {shown} is there already and has errors: callgate check tells them"))
            }
            Ok(text) => Ok(There::Another(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(There::Nothing),
            Err(error) => Err(format!("its policy {shown} is there already and cannot be read: {error}")),
        }
    }
}

/// Starts every server once and asks what it can do; each only once, however many clients have it.
fn scan_all(servers: &mut [Proposal], timeout: Duration) -> Result<(), Failure> {
    let mut wanted: BTreeMap<String, (&Server, &Path)> = BTreeMap::new();
    for proposal in servers.iter().filter(|proposal| proposal.found.is_ok()) {
        wanted.entry(proposal.name.clone()).or_insert((&proposal.server, &proposal.policy));
    }
    let named: Vec<(String, &Server)> = wanted.iter().map(|(name, (server, _))| (name.clone(), *server)).collect();
    let listings = machine::list_all(&named, timeout)?;
    let places = wanted.into_iter().map(|(name, (_, place))| (name, place.to_owned()));
    let answers: Vec<_> = places.zip(listings).collect();
    for proposal in servers.iter_mut().filter(|proposal| proposal.found.is_ok()) {
        let Some(((name, place), listed)) = answers.iter().find(|((name, _), _)| *name == proposal.name) else { continue };
        proposal.found = match listed {
            Ok(listing) => Found::of(name, listing, place).map(Some),
            Err(why) => Err(why.clone()),
        };
    }
    Ok(())
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
