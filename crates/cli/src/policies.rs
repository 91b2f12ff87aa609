//! Policies and tool lists, from files.

use crate::arguments::ToolsArgument;
use crate::failure::Failure;
use crate::terminal::{Paint, counted, tell, visible};
use gateway::PolicyFile;
use policy::{Problem, Severity, Tools};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Reads a policy file whose errors end the command: they are printed to stderr, and the exit code is 3.
pub fn read(path: &Path) -> Result<PolicyFile, Failure> {
    let file = open(path)?;
    if file.policy().is_none() {
        print(&file, Severity::Error);
        let errors = count(file.problems(), Severity::Error);
        return Err(Failure::invalid(format!(
            "`{}` has {}",
            visible(&path.display().to_string()),
            counted(errors, "error", "errors")
        )));
    }
    Ok(file)
}

/// Reads a policy file, whatever is wrong with it.
pub fn open(path: &Path) -> Result<PolicyFile, Failure> {
    let shown = visible(&path.display().to_string());
    PolicyFile::read(path).map_err(|error| Failure::invalid(format!("cannot read the policy `{shown}`: {error}")))
}

/// Prints the problems of a policy that are at least so bad to stderr.
pub fn print(file: &PolicyFile, least: Severity) {
    for problem in file.problems().iter().filter(|problem| least == Severity::Warning || problem.severity == Severity::Error) {
        tell!("{}", problem.render(file.source(), Paint::stderr().is_on()));
    }
}

/// How many problems are so bad.
pub fn count<'p>(problems: impl IntoIterator<Item = &'p Problem>, severity: Severity) -> u64 {
    problems.into_iter().filter(|problem| problem.severity == severity).count() as u64
}

/// Reads the tools that were named, if any were: captured, or pinned.
pub fn tools(arguments: &ToolsArgument) -> Result<Option<Tools>, Failure> {
    if let Some(path) = &arguments.tools {
        return captured(path).map(Some);
    }
    let Some(path) = &arguments.lock else { return Ok(None) };
    pinned("", &merged(&read_pinned(path)?)?).map(Some)
}

/// The same, by the names of the servers where they are known; else, of any server.
pub fn tools_of_servers(arguments: &ToolsArgument) -> Result<(HashMap<String, Tools>, Option<Tools>), Failure> {
    let Some(path) = &arguments.lock else { return Ok((HashMap::new(), tools(arguments)?)) };
    Ok((each(read_pinned(path)?)?.into_iter().collect(), None))
}

/// The same for one policy that is to hold for all of them, by the names of the servers; a captured list may not say its own,
/// which is empty then.
pub fn tools_by_server(arguments: &ToolsArgument) -> Result<BTreeMap<String, Tools>, Failure> {
    if let Some(path) = &arguments.tools {
        let tools = captured(path)?;
        return Ok(BTreeMap::from([(tools.server().unwrap_or_default().to_owned(), tools)]));
    }
    let Some(path) = &arguments.lock else { return Ok(BTreeMap::new()) };
    let read = read_pinned(path)?;
    merged(&read)?;
    each(read)
}

/// The tools of all servers, none of which may have another one of the same name.
fn merged(servers: &BTreeMap<String, Pinned>) -> Result<Pinned, Failure> {
    let mut all = Pinned::new();
    for (name, definition) in servers.values().flatten() {
        if all.insert(name.clone(), definition.clone()).is_some_and(|other| other != *definition) {
            let name = visible(name);
            return Err(Failure::general(format!(
                "several servers in the lock file have another tool `{name}`; give the tools of one with --tools"
            )));
        }
    }
    Ok(all)
}

fn each(servers: BTreeMap<String, Pinned>) -> Result<BTreeMap<String, Tools>, Failure> {
    servers.into_iter().map(|(name, tools)| pinned(&name, &tools).map(|tools| (name, tools))).collect()
}

/// The tools of one server in a lock file: definitions by name.
type Pinned = BTreeMap<String, String>;

/// The definitions of tools in a lock file, by their servers: of those whose tools are pinned.
fn read_pinned(path: &Path) -> Result<BTreeMap<String, Pinned>, Failure> {
    let servers = read_lock(path)?.servers.into_iter();
    let tools: BTreeMap<_, _> = servers.filter_map(|(name, known)| Some((name, known.tools?))).collect();
    if tools.is_empty() {
        return Err(Failure::general(format!(
            "`{}` pins no tools yet: `callgate pin` asks the servers for them, or give a captured list with --tools",
            visible(&path.display().to_string())
        )));
    }
    Ok(tools)
}

fn read_lock(path: &Path) -> Result<catalogue::Lock, Failure> {
    if !path.exists() {
        return Err(Failure::general(format!("there is no lock file `{}`", visible(&path.display().to_string()))));
    }
    Ok(gateway::read_lock(path)?)
}

fn pinned(server: &str, tools: &Pinned) -> Result<Tools, Failure> {
    let list: Vec<&str> = tools.values().map(String::as_str).collect();
    let text = format!(r#"{{"server":{},"tools":[{}]}}"#, json::quote(server), list.join(","));
    gateway::read_tools(text.as_bytes())
        .map_err(|error| Failure::general(format!("the lock file holds what is no tool of `{}`: {error}", visible(server))))
}

fn captured(path: &Path) -> Result<Tools, Failure> {
    let shown = visible(&path.display().to_string());
    let text = std::fs::read(path).map_err(|error| Failure::because(&format!("cannot read the tools in `{shown}`"), &error))?;
    gateway::read_tools(&text).map_err(|error| Failure::general(format!("cannot read the tools in `{shown}`: {error}")))
}
