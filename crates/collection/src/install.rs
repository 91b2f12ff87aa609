//! Installing packages into a directory of their own, with the network, and without running anything of theirs.
//!
//! npm is told to run no scripts, pip to take wheels alone: what a package brings runs first in its cell.

use crate::list::{Entry, Origin, Package};
use json::{Document, Strictness, Value};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A server that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    /// The program's path.
    pub program: PathBuf,
    /// What it must be able to read.
    pub reads: Vec<PathBuf>,
    /// Where programs are looked for, besides the system's places.
    pub path: Vec<PathBuf>,
}

/// A package that is not there by then will not be.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Installs what an entry names below `work`, unless it lies there already. Of a server elsewhere there is nothing to install.
///
/// # Errors
/// Why it cannot be, in one sentence.
pub(crate) fn install(entry: &Entry, work: &Path) -> Result<Option<Installed>, String> {
    match &entry.origin {
        Origin::Npm(package) => npm(package, &place_of(work, "npm", package)).map(Some),
        Origin::Pypi(package) => pypi(package, &place_of(work, "pypi", package)).map(Some),
        Origin::Command { program, reads } => command(program, reads).map(Some),
        Origin::Url { .. } => Ok(None),
    }
}

fn place_of(work: &Path, registry: &str, package: &Package) -> PathBuf {
    let with: String = package.with.iter().map(|one| format!("+{one}")).collect();
    work.join(registry).join(format!("{}@{}{with}", package.name.replace('/', "__"), package.version))
}

/// Whether a package lies there as a whole; what an interrupted installation has left is cleared away.
fn is_ready(place: &Path) -> Result<bool, String> {
    if place.join(READY).exists() {
        return Ok(true);
    }
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(format!("cannot clear {}: {error}", place.display()));
        }
        _ => {}
    }
    fs::create_dir_all(place).map_err(|error| format!("cannot make {}: {error}", place.display()))?;
    Ok(false)
}

fn make_ready(place: &Path) -> Result<(), String> {
    fs::write(place.join(READY), "").map_err(|error| format!("cannot write to {}: {error}", place.display()))
}

const READY: &str = ".ready";

fn npm(package: &Package, place: &Path) -> Result<Installed, String> {
    if !is_ready(place)? {
        let what = format!("{}@{}", package.name, package.version);
        let words =
            ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error", "--prefix"];
        run(
            "npm",
            words.iter().map(OsStr::new).chain([place.as_os_str(), OsStr::new(&what)]).chain(package.with.iter().map(OsStr::new)),
            place,
        )?;
        make_ready(place)?;
    }
    let modules = place.join("node_modules");
    let manifest = modules.join(&package.name).join("package.json");
    let text = fs::read(&manifest).map_err(|error| format!("cannot read {}: {error}", manifest.display()))?;
    let document = Document::parse(text, Strictness::Reply).map_err(|error| format!("{}: {error}", manifest.display()))?;
    let own = package.name.rsplit('/').next().unwrap_or_default();
    let programs: Vec<String> = match document.root().get("bin") {
        Some(programs) if programs.as_str().is_some() => vec![own.to_owned()],
        programs => {
            let members = programs.and_then(Value::members).into_iter().flatten();
            members.map(|member| member.key.into_owned()).collect()
        }
    };
    let program = chosen(&programs, package, own)?;
    let node = found("node")?;
    let mut reads = vec![place.to_owned()];
    reads.extend(home_of(&node));
    let path = node.parent().map(Path::to_owned).into_iter().collect();
    Ok(Installed { program: modules.join(".bin").join(program), reads, path })
}

fn pypi(package: &Package, place: &Path) -> Result<Installed, String> {
    let environment = place.join("venv");
    let python = environment.join("bin/python");
    if !is_ready(place)? {
        let system = found("python3")?;
        let words = ["-m", "venv", "--without-pip"];
        run(&system, words.iter().map(OsStr::new).chain([environment.as_os_str()]), place)?;
        let what = format!("{}=={}", package.name, package.version);
        let words = ["-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "--python"];
        let install = ["install", "--only-binary=:all:", "--retries", "10", what.as_str()];
        let mut words: Vec<&OsStr> = words.iter().map(OsStr::new).chain([python.as_os_str()]).collect();
        words.extend(install.iter().map(OsStr::new).chain(package.with.iter().map(OsStr::new)));
        if let Some(constraints) = &package.constraints {
            words.extend([OsStr::new("--constraint"), constraints.as_os_str()]);
        }
        run(&system, words.into_iter(), place)?;
        make_ready(place)?;
    }
    let programs = console_scripts(&environment, &package.name)?;
    let program = chosen(&programs, package, &package.name)?;
    // The interpreter is a link, and its libraries lie where it leads.
    let interpreter = fs::canonicalize(&python).map_err(|error| format!("cannot find {}: {error}", python.display()))?;
    let mut reads = vec![place.to_owned()];
    reads.extend(home_of(&interpreter));
    let bin = environment.join("bin");
    Ok(Installed { program: bin.join(program), reads, path: vec![bin] })
}

/// The programs that a package of an environment brings, as its metadata say.
fn console_scripts(environment: &Path, package: &str) -> Result<Vec<String>, String> {
    let plain = |name: &str| name.to_lowercase().replace(['.', '-'], "_");
    let unreadable = |error: io::Error| format!("cannot look into {}: {error}", environment.display());
    let mut programs = Vec::new();
    for version in fs::read_dir(environment.join("lib")).map_err(unreadable)? {
        let packages = version.map_err(unreadable)?.path().join("site-packages");
        for entry in fs::read_dir(packages).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(distribution) = name.strip_suffix(".dist-info") else { continue };
            let is_it = distribution.rsplit_once('-').is_some_and(|(name, _)| plain(name) == plain(package));
            let Some(text) = is_it.then(|| fs::read_to_string(path.join("entry_points.txt")).ok()).flatten() else { continue };
            let section = text.lines().skip_while(|line| line.trim() != "[console_scripts]").skip(1);
            let names = section.take_while(|line| !line.trim_start().starts_with('['));
            programs.extend(names.filter_map(|line| Some(line.split_once('=')?.0.trim().to_owned())));
        }
    }
    Ok(programs)
}

/// The program of a package that is the server.
fn chosen(programs: &[String], package: &Package, own: &str) -> Result<String, String> {
    // It becomes part of a path.
    let mut programs = programs.iter().filter(|name| !name.contains('/') && !name.starts_with('.'));
    let plain = |name: &str| name.to_lowercase().replace(['.', '_'], "-");
    if let Some(wanted) = &package.program {
        return match programs.clone().any(|name| name == wanted) {
            true => Ok(wanted.clone()),
            false => Err(format!("the package has no program `{wanted}`; it has {}", listed(programs))),
        };
    }
    let called_so = programs.clone().find(|name| plain(name) == plain(own));
    let single = (programs.clone().count() == 1).then(|| programs.clone().next()).flatten();
    let sounding_so = || programs.clone().find(|name| plain(name).contains("mcp"));
    match called_so.or(single).or_else(sounding_so).cloned() {
        Some(program) => Ok(program),
        None if programs.next().is_none() => Err("the package has no program".to_owned()),
        None => Err(format!("the package has several programs; name one with `program`: {}", listed(programs))),
    }
}

fn listed<'n>(names: impl Iterator<Item = &'n String>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn command(program: &str, reads: &[PathBuf]) -> Result<Installed, String> {
    let program = if program.contains('/') { PathBuf::from(program) } else { found(program)? };
    let program = std::path::absolute(&program).map_err(|error| format!("cannot find {}: {error}", program.display()))?;
    let behind = fs::canonicalize(&program).map_err(|error| format!("cannot find {}: {error}", program.display()))?;
    let mut all = Vec::new();
    for place in reads {
        all.push(fs::canonicalize(place).map_err(|error| format!("cannot read {}: {error}", place.display()))?);
    }
    let mut path = Vec::new();
    if !is_of_the_system(&program) {
        path.extend(program.parent().map(Path::to_owned));
        all.push(program.clone());
        // A program of an environment or of a version manager lies beside its libraries.
        match behind.parent().is_some_and(|directory| directory.ends_with("bin")) {
            true => all.extend(home_of(&behind)),
            false => all.push(behind),
        }
    }
    Ok(Installed { program, reads: all, path })
}

/// The directory above `bin` in which a program and its libraries lie, unless the system's own are meant.
fn home_of(program: &Path) -> Option<PathBuf> {
    if is_of_the_system(program) {
        return None;
    }
    program.parent()?.parent().filter(|home| *home != Path::new("/")).map(Path::to_owned)
}

fn is_of_the_system(path: &Path) -> bool {
    ["/usr", "/bin", "/sbin", "/lib", "/nix"].iter().any(|system| path.starts_with(system))
}

/// A program of ours, by its name; the file itself, where the name is a link or a shim asks a version manager.
fn found(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&path).map(|directory| directory.join(name));
    let program =
        candidates.into_iter().find(|candidate| candidate.is_file()).ok_or(format!("`{name}` is not installed here"))?;
    if !program.parent().is_some_and(|directory| directory.ends_with("shims")) {
        return fs::canonicalize(&program).map_err(|error| format!("cannot find {}: {error}", program.display()));
    }
    // pyenv, nodenv and their like: only the program itself knows which one it is.
    let question: &[&str] = match name {
        "node" => &["-p", "process.execPath"],
        _ => &["-c", "import sys; print(sys.executable)"],
    };
    let answer = Command::new(&program).args(question).stdin(Stdio::null()).output();
    let answer = answer.map_err(|error| format!("`{name}` cannot be started: {error}"))?;
    let told = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    fs::canonicalize(&told).map_err(|error| format!("cannot find {}: {error}", told.display()))
}

/// Runs an installer to its end; what it says goes to a file beside the package.
fn run<'w>(program: impl AsRef<OsStr>, words: impl Iterator<Item = &'w OsStr>, place: &Path) -> Result<(), String> {
    let shown = Path::new(program.as_ref()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let log = place.join("install.log");
    let file = fs::File::create(&log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let mut child = command.spawn().map_err(|error| format!("`{shown}` cannot be started: {error}"))?;
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => {
                let said = fs::read(&log).unwrap_or_default();
                let said = String::from_utf8_lossy(&said);
                let line = said.lines().rev().find(|line| line.to_lowercase().contains("err")).or(said.lines().last());
                return Err(format!("`{shown}` cannot install it: {}", line.unwrap_or("it fails without a word").trim()));
            }
            Ok(None) if began.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("`{shown}` has not installed it within {} minutes", PATIENCE.as_secs() / 60));
            }
            Ok(None) => thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(format!("`{shown}` cannot be waited for: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(programs: &[&str], program: Option<&str>) -> Result<String, String> {
        let programs: Vec<String> = programs.iter().map(|name| (*name).to_owned()).collect();
        let package = Package {
            name: "@a/server.x".into(),
            version: "1".into(),
            program: program.map(str::to_owned),
            with: Vec::new(),
            constraints: None,
        };
        chosen(&programs, &package, "server.x")
    }

    #[test]
    fn the_program_is_the_one_that_is_called_like_the_package() {
        assert_eq!(choose(&["cli", "server-x"], None).as_deref(), Ok("server-x"));
        assert_eq!(choose(&["anything"], None).as_deref(), Ok("anything"));
        assert_eq!(choose(&["cli", "serve-mcp"], None).as_deref(), Ok("serve-mcp"));
        assert_eq!(choose(&["a", "b"], Some("b")).as_deref(), Ok("b"));
        assert!(choose(&["a", "b"], None).unwrap_err().contains("name one with `program`"));
        assert!(choose(&["a"], Some("c")).unwrap_err().contains("it has `a`"));
        assert_eq!(choose(&["../../bin/sh"], None), Err("the package has no program".to_owned()));
    }
}
