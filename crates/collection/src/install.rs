//! Installing packages into a directory of their own, with the network, and without running anything of theirs.
//!
//! npm is told to run no scripts, pip to take wheels alone: what a package brings runs first in its cell.

use crate::cell::is_taken;
use crate::list::{Entry, Origin, Package};
use json::{Document, Strictness, Value};
use rustix::process::{Pid, Signal};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
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

/// Whether what is under way is to be given up.
type Stop<'s> = &'s dyn Fn() -> bool;

/// Installs what an entry names below `work`, unless it lies there already. Of a server elsewhere there is nothing to install.
///
/// # Errors
/// Why it cannot be, in one sentence.
pub(crate) fn install(entry: &Entry, work: &Path, stop: Stop<'_>) -> Result<Option<Installed>, String> {
    let in_turn = |registry, package, install: fn(&Package, &Path, Stop<'_>) -> Result<Installed, String>| {
        let place = place_of(work, registry, package)?;
        let turn = turn_of(&place);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        install(package, &place, stop).map(Some)
    };
    match &entry.origin {
        Origin::Npm(package) => in_turn("npm", package, npm),
        Origin::Pypi(package) => in_turn("pypi", package, pypi),
        Origin::Command { program, reads } => command(program, reads).map(Some),
        Origin::Url { .. } => Ok(None),
    }
}

/// A directory for what is installed: the same package with other companions or other constraints is something else.
fn place_of(work: &Path, registry: &str, package: &Package) -> Result<PathBuf, String> {
    let constraints = match &package.constraints {
        Some(file) => Some(fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?),
        None => None,
    };
    let all = format!("{:?}", (&package.name, &package.version, &package.with, constraints));
    let digest = ring::digest::digest(&ring::digest::SHA256, all.as_bytes());
    let digest: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(work.join(registry).join(format!("{}@{}-{digest}", package.name.replace('/', "__"), package.version)))
}

/// Whose turn it is at a place: two servers of one package are not to install it over each other.
fn turn_of(place: &Path) -> Arc<Mutex<()>> {
    static TURNS: Mutex<BTreeMap<PathBuf, Arc<Mutex<()>>>> = Mutex::new(BTreeMap::new());
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    turns.entry(place.to_owned()).or_default().clone()
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

fn npm(package: &Package, place: &Path, stop: Stop<'_>) -> Result<Installed, String> {
    if !is_ready(place)? {
        let what = format!("{}@{}", package.name, package.version);
        let words =
            ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error", "--prefix"];
        run(
            "npm",
            words.iter().map(OsStr::new).chain([place.as_os_str(), OsStr::new(&what)]).chain(package.with.iter().map(OsStr::new)),
            place,
            stop,
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
    reads.extend(needs_of(&node));
    let path = node.parent().map(Path::to_owned).into_iter().collect();
    Ok(Installed { program: modules.join(".bin").join(program), reads, path })
}

fn pypi(package: &Package, place: &Path, stop: Stop<'_>) -> Result<Installed, String> {
    let environment = place.join("venv");
    let python = environment.join("bin/python");
    if !is_ready(place)? {
        let system = found("python3")?;
        let words = ["-m", "venv", "--without-pip"];
        run(&system, words.iter().map(OsStr::new).chain([environment.as_os_str()]), place, stop)?;
        let what = format!("{}=={}", package.name, package.version);
        let words = ["-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "--python"];
        let install = ["install", "--only-binary=:all:", "--retries", "10", what.as_str()];
        let mut words: Vec<&OsStr> = words.iter().map(OsStr::new).chain([python.as_os_str()]).collect();
        words.extend(install.iter().map(OsStr::new).chain(package.with.iter().map(OsStr::new)));
        if let Some(constraints) = &package.constraints {
            words.extend([OsStr::new("--constraint"), constraints.as_os_str()]);
        }
        run(&system, words.into_iter(), place, stop)?;
        make_ready(place)?;
    }
    let programs = console_scripts(&environment, &package.name)?;
    let program = chosen(&programs, package, &package.name)?;
    // The interpreter is a link, and its libraries lie where it leads.
    let interpreter = fs::canonicalize(&python).map_err(|error| format!("cannot find {}: {error}", python.display()))?;
    let mut reads = vec![place.to_owned()];
    reads.extend(needs_of(&interpreter));
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
        let behind = fs::canonicalize(place).map_err(|error| format!("cannot read {}: {error}", place.display()))?;
        if is_taken(&behind) {
            return Err(format!("cannot show {}: a cell has its own {}", place.display(), behind.display()));
        }
        all.push(behind);
    }
    let mut path = Vec::new();
    if !is_of_the_system(&program) {
        path.extend(program.parent().map(Path::to_owned));
        all.push(program.clone());
        all.extend(needs_of(&behind));
    }
    Ok(Installed { program, reads: all, path })
}

/// What a program must be able to read: nothing more, where it is the system's; its libraries too, where it is of an environment
/// or of a version manager; else itself alone.
fn needs_of(program: &Path) -> Vec<PathBuf> {
    let own = std::env::var_os("HOME").and_then(|home| fs::canonicalize(home).ok());
    match is_of_the_system(program) {
        true => Vec::new(),
        false => libraries_of(program, own.as_deref()).unwrap_or_else(|| vec![program.to_owned()]),
    }
}

/// The directory above `bin`, if it is an environment of Python as a whole, or its programs and libraries, if it has those of an
/// interpreter. That there is a `bin` says nothing: somebody's `home` has one too.
fn libraries_of(program: &Path, home: Option<&Path>) -> Option<Vec<PathBuf>> {
    let bin = program.parent().filter(|directory| directory.ends_with("bin"))?;
    let above = bin.parent().filter(|above| !is_taken(above) && !home.is_some_and(|home| home.starts_with(above)))?;
    if above.join("pyvenv.cfg").is_file() {
        return Some(vec![above.to_owned()]);
    }
    let libraries = above.join("lib");
    let is_library = |name: &OsStr| name == "node_modules" || name.to_string_lossy().starts_with("python");
    let has_any = fs::read_dir(&libraries).ok()?.flatten().any(|entry| is_library(&entry.file_name()));
    has_any.then(|| vec![bin.to_owned(), libraries])
}

fn is_of_the_system(path: &Path) -> bool {
    ["/usr", "/bin", "/sbin", "/lib", "/nix/store"].iter().any(|system| path.starts_with(system))
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

/// Runs an installer to its end, unless it is stopped or takes too long; what it says goes to a file beside the package.
fn run<'w>(
    program: impl AsRef<OsStr>,
    words: impl Iterator<Item = &'w OsStr>,
    place: &Path,
    stop: Stop<'_>,
) -> Result<(), String> {
    let shown = Path::new(program.as_ref()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let log = place.join("install.log");
    let file = fs::File::create(&log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    // pip does its work in another process.
    command.process_group(0);
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
            Ok(None) if stop() => {
                kill(&mut child);
                return Err(format!("`{shown}` was stopped"));
            }
            Ok(None) if began.elapsed() > PATIENCE => {
                kill(&mut child);
                return Err(format!("`{shown}` has not installed it within {} minutes", PATIENCE.as_secs() / 60));
            }
            Ok(None) => thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(format!("`{shown}` cannot be waited for: {error}")),
        }
    }
}

/// Ends a process that leads a group, with its group.
fn kill(child: &mut Child) {
    let _ = rustix::process::kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
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
    fn libraries_are_shown_where_there_are_some_and_nobodys_home() {
        let home = std::env::temp_dir().join(format!("callgate-needs-{}", std::process::id()));
        let program = |directory: &str| home.join(directory).join("bin/server");
        for directory in ["bin", "lib/python3", "venv/bin", "node/bin", "node/lib/node_modules", "plain/bin", "plain/lib/x"] {
            fs::create_dir_all(home.join(directory)).unwrap();
        }
        fs::write(home.join("venv/pyvenv.cfg"), "").unwrap();
        let found = |directory| libraries_of(&program(directory), Some(&home));
        assert_eq!(found("venv"), Some(vec![home.join("venv")]));
        assert_eq!(found("node"), Some(vec![home.join("node/bin"), home.join("node/lib")]));
        assert_eq!(found("plain"), None);
        assert_eq!(found(""), None, "a home with a `lib` of its own is a home all the same");
        assert_eq!(libraries_of(&program(""), Some(&home.join("below"))), None, "nor what a home lies in");
        assert_eq!(needs_of(&program("plain")), [program("plain")]);
        assert_eq!(libraries_of(Path::new("/bin/server"), None), None);
        fs::remove_dir_all(&home).unwrap();
    }

    #[test]
    fn what_is_installed_with_something_else_lies_elsewhere() {
        let file = std::env::temp_dir().join(format!("callgate-constraints-{}", std::process::id()));
        let place = |with: &[&str], constraints: Option<&str>| {
            constraints.inspect(|text| fs::write(&file, text).unwrap());
            let package = Package {
                name: "@a/b".into(),
                version: "1".into(),
                program: None,
                with: with.iter().map(|one| (*one).to_owned()).collect(),
                constraints: constraints.map(|_| file.clone()),
            };
            place_of(Path::new("/work"), "npm", &package).unwrap()
        };
        let all =
            [place(&[], None), place(&["c"], None), place(&["c", "d"], None), place(&[], Some("x==1")), place(&[], Some("x==2"))];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
        assert_eq!(place(&[], None), all[0]);
        fs::remove_file(&file).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_command_is_not_shown_what_its_cell_has_itself() {
        let link = std::env::temp_dir().join(format!("callgate-link-{}", std::process::id()));
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        let refused = command("/bin/sh", std::slice::from_ref(&link));
        fs::remove_file(&link).unwrap();
        assert!(refused.unwrap_err().contains("a cell has its own /proc"));
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
