//! Catalogs: of real servers, of captures, and of made-up servers as many as there are in the field.

use crate::workspace::{Workspace, cargo};
use serde_json::Value;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The catalog that [`check`] builds.
pub fn built(workspace: &Workspace) -> PathBuf {
    workspace.target.join("catalog/catalog.db")
}

/// Builds a catalog from the example's servers, installed from PyPI and npm and each started in its cell, and from the captures
/// where they are there; looks whether what is known of them is in it.
///
/// # Errors
/// When a server did not start, or something is not as it is known to be.
pub fn check(workspace: &Workspace) -> Result<String, String> {
    let catalog = built(workspace);
    let work = workspace.target.join("catalog");
    std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let _ = std::fs::remove_file(&catalog);
    let run = |words: &[&str]| output(workspace, Command::new(workspace.callgate()).arg("catalog").args(words));
    let (path, place) = (catalog.to_string_lossy(), work.to_string_lossy());
    let mut build = vec!["build", "examples/catalog.yaml", "--json", "--output", &path, "--work", &place];
    let captures = workspace.corpora().join("tools");
    let shown = captures.to_string_lossy();
    if captures.exists() {
        build.extend(["--captures", &shown]);
    } else {
        println!("without the captures: {shown} is not there");
    }
    let isolated = Command::new(workspace.callgate()).arg("catalog").args(&build).current_dir(&workspace.root).output();
    let told = String::from_utf8_lossy(&isolated.map_err(|error| error.to_string())?.stderr).contains("cannot be isolated here");
    if told {
        println!("the kernel offers no namespaces here: the servers are started without");
        build.push("--unisolated");
    }
    let built: Value = serde_json::from_str(&run(&build)?).map_err(|error| error.to_string())?;
    let problem = |server: &Value| Some(format!("{}: {}", server["server"].as_str()?, server["problem"].as_str()?));
    let failed = built["servers"].as_array().into_iter().flatten().filter(|server| server["problem"].is_string());
    let (networked, isolated): (Vec<&Value>, Vec<&Value>) =
        failed.partition(|server| server["isolation"] == "networked" || server["server"] == NETWORKED);
    if !networked.is_empty() && !has_network() {
        println!("{NETWORK} cannot be reached from here, so what needs the network could not be asked");
    } else if let Some(problem) = networked.iter().find_map(|server| problem(server)) {
        return Err(format!("a server with the network did not answer: {problem}"));
    }
    let failed: Vec<String> = isolated.into_iter().filter_map(problem).collect();
    if !failed.is_empty() {
        return Err(format!("servers that did not answer: {}", failed.join("; ")));
    }
    let omics = run(&["show", "awslabs.aws-healthomics-mcp-server@0.0.37", "--json", "--catalog", &path])?;
    let omics: Value = serde_json::from_str(&omics).map_err(|error| error.to_string())?;
    let tools = omics["tools"].as_array().map_or(0, Vec::len);
    if tools != OMICS_TOOLS {
        return Err(format!("HealthOmics 0.0.37 lists {tools} tools, and not {OMICS_TOOLS}"));
    }
    let found = run(&["search", "StartAHORun", "--json", "--catalog", &path])?;
    let exact =
        found.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(|hit| hit["tool"] == "StartAHORun");
    let servers: Vec<String> = exact.map(|hit| hit["server"].as_str().unwrap_or_default().to_owned()).collect();
    if servers != ["awslabs.aws-healthomics-mcp-server"] {
        return Err(format!("StartAHORun is on {servers:?}, and not on HealthOmics alone"));
    }
    let listed = run(&["show", "--json", "--catalog", &path])?;
    Ok(format!("catalog: {} servers, {OMICS_TOOLS} tools of HealthOmics", listed.lines().count()))
}

/// The one server of the list that needs the network, and what it reads before it starts.
const NETWORKED: &str = "awslabs.aws-api-mcp-server";
const NETWORK: &str = "servicereference.us-east-1.amazonaws.com";

fn has_network() -> bool {
    let places = (NETWORK, 443).to_socket_addrs().into_iter().flatten();
    places.take(2).any(|place| TcpStream::connect_timeout(&place, Duration::from_secs(5)).is_ok())
}

/// The version of the running example lists so many.
const OMICS_TOOLS: usize = 73;

/// Builds a catalog of made-up servers and searches it. `--quick`: of a few, without optimization, to see that it works;
/// `--write`: puts the figures into docs/catalog.md.
///
/// # Errors
/// When it does not build, or does not keep a bound.
pub fn scale(workspace: &Workspace, words: &[&str]) -> Result<String, String> {
    let (quick, write) = match words {
        [] => (false, false),
        ["--quick"] => (true, false),
        ["--write"] => (false, true),
        _ => return Err(format!("catalog-scale does not take `{}`", words.join(" "))),
    };
    let mut run = cargo();
    run.args(["run", "--quiet", "-p", "callgate-collection", "--example", "scale"]);
    run.args(if quick { &["--", "200"][..] } else { &["--release"] });
    let table = output(workspace, &mut run)?;
    if !write {
        return Ok(table);
    }
    let page = workspace.root.join("docs/catalog.md");
    put(&page, &table)?;
    Ok(format!("{table}written to {}", page.display()))
}

fn put(page: &Path, table: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(page).map_err(|error| format!("{}: {error}", page.display()))?;
    let missing = || format!("{} has no place for the figures", page.display());
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    std::fs::write(page, format!("{before}{BEGIN}\n{table}{END}{after}")).map_err(|error| format!("{}: {error}", page.display()))
}

const BEGIN: &str = "<!-- written by `cargo xtask catalog-scale --write` -->";
const END: &str = "<!-- until here -->";

/// What a command prints; its standard error passes through.
fn output(workspace: &Workspace, command: &mut Command) -> Result<String, String> {
    let ran = command.current_dir(&workspace.root).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let ran = ran.map_err(|error| format!("{} does not start: {error}", command.get_program().to_string_lossy()))?;
    if !ran.status.success() {
        return Err(format!("{:?} failed", command));
    }
    String::from_utf8(ran.stdout).map_err(|error| error.to_string())
}
