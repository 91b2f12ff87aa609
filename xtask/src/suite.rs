//! Everything that must hold, as a list of steps.
//!
//! A step that fails does not stop the next one: whoever reads the log wants all the bad news at once. Each step's output
//! passes through as it comes; its closing line is kept for the summary.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::workspace::{Workspace, cargo};
use crate::{bench, catalog, conformance, generate, grade, inspect, layers, tools};

/// One thing that must hold.
struct Step {
    name: &'static str,
    says: &'static str,
    run: fn(&Workspace) -> Result<Done, String>,
}

/// How a step ended that did not fail.
enum Done {
    /// It holds; the text is its closing line.
    Holds(String),
    /// It could not be judged here, and why.
    Skipped(String),
}

const STEPS: &[Step] = &[
    Step {
        name: "tools",
        says: "what the other steps need is installed",
        run: |workspace| tools::install(workspace).map(Done::Holds),
    },
    Step {
        name: "fmt",
        says: "the code is formatted",
        run: |workspace| pass(workspace, cargo().args(["fmt", "--all", "--check", "--", "--color=never"])),
    },
    Step { name: "layers", says: "crates know only what they may", run: |workspace| layers::check(workspace).map(Done::Holds) },
    Step { name: "clippy", says: "no warnings", run: clippy },
    Step { name: "deny", says: "licences, sources and banned crates", run: deny },
    Step { name: "advisories", says: "no known vulnerabilities, where the database is reachable", run: advisories },
    Step { name: "tests", says: "every test of every crate", run: tests },
    Step {
        name: "doctests",
        says: "the examples in the documentation",
        run: |workspace| pass(workspace, cargo().args(["test", "--workspace", "--doc"])),
    },
    Step {
        name: "generated",
        says: "generated files are up to date",
        run: |workspace| generate::check(workspace).map(Done::Holds),
    },
    Step { name: "readers", says: "what servers on the SDKs run is what is on record", run: readers },
    Step { name: "clients", says: "real clients and real servers on either side of callgate", run: clients },
    Step { name: "book", says: "the policy book does what it says", run: book },
    Step {
        name: "conformance",
        says: "the conformance suite finds through callgate what it finds directly",
        run: |workspace| conformance::run(workspace, &conformance::Options::default()).map(Done::Holds),
    },
    Step { name: "grade", says: "tools are graded as people grade them, where the labels are there", run: graded },
    Step { name: "catalog", says: "a catalog of real servers, each started in its cell, and one of made-up ones", run: catalogs },
    Step { name: "pages", says: "the catalog's pages in a real browser, and SARIF by its schema", run: pages },
    Step {
        name: "inspect",
        says: "poisoned definitions are found and honest ones left alone, where they are there",
        run: inspected,
    },
    Step { name: "bench", says: "the benchmark runs; its figures mean nothing here", run: benchmark },
    Step { name: "healthomics", says: "the real server behind callgate", run: healthomics },
    Step { name: "healthomics-direct", says: "and that its checks fail without callgate", run: healthomics_direct },
];

/// Prints the names of the steps.
pub fn list() {
    for step in STEPS {
        println!("{:20} {}", step.name, step.says);
    }
}

/// Runs the named steps, or all.
///
/// # Errors
/// When a name is unknown or a step fails; the summary has been printed then.
pub fn run(workspace: &Workspace, names: &[&str]) -> Result<(), String> {
    if let Some(unknown) = names.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        return Err(format!("no step `{unknown}`; `cargo xtask test --list` names them"));
    }
    let chosen: Vec<&Step> = STEPS.iter().filter(|step| names.is_empty() || names.contains(&step.name)).collect();
    let mut report = Vec::new();
    let began = Instant::now();
    for (number, step) in chosen.iter().enumerate() {
        println!("\n━━ {}/{} {}: {}", number + 1, chosen.len(), step.name, step.says);
        let start = Instant::now();
        let ended = (step.run)(workspace);
        match &ended {
            Ok(Done::Holds(_)) => println!("━━ {} holds, {}", step.name, seconds(start.elapsed())),
            Ok(Done::Skipped(why)) => println!("━━ {} skipped: {why}", step.name),
            Err(problem) => println!("━━ {} FAILED, {}: {problem}", step.name, seconds(start.elapsed())),
        }
        report.push((step, ended, start.elapsed()));
    }

    println!("\n━━ summary, {}", seconds(began.elapsed()));
    for (step, ended, time) in &report {
        let (word, note) = match ended {
            Ok(Done::Holds(note)) => ("ok", note.as_str()),
            Ok(Done::Skipped(why)) => ("skipped", why.as_str()),
            Err(problem) => ("FAILED", problem.lines().next().unwrap_or_default()),
        };
        println!("{word:8} {:20} {:>8}  {note}", step.name, seconds(*time));
    }
    match report.iter().filter(|(_, ended, _)| ended.is_err()).count() {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} steps failed", report.len())),
    }
}

fn clippy(workspace: &Workspace) -> Result<Done, String> {
    pass(workspace, cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn graded(workspace: &Workspace) -> Result<Done, String> {
    Ok(match grade::hold(workspace)? {
        Some(held) => Done::Holds(held),
        None => Done::Skipped("the labels are not part of the repository".to_owned()),
    })
}

fn inspected(workspace: &Workspace) -> Result<Done, String> {
    Ok(match inspect::hold(workspace)? {
        Some(held) => Done::Holds(held),
        None => Done::Skipped("the definitions are not part of the repository".to_owned()),
    })
}

fn catalogs(workspace: &Workspace) -> Result<Done, String> {
    build(workspace)?;
    catalog::scale(workspace, &["--quick"])?;
    catalog::check(workspace).map(Done::Holds)
}

fn benchmark(workspace: &Workspace) -> Result<Done, String> {
    bench::run(workspace, &["--quick", "--only", "callgate"])?;
    Ok(Done::Holds("every section has run".to_owned()))
}

fn deny(workspace: &Workspace) -> Result<Done, String> {
    pass(
        workspace,
        Command::new(tools::cargo_deny(workspace)).args(["--log-level", "error", "check", "bans", "licenses", "sources"]),
    )
}

fn advisories(workspace: &Workspace) -> Result<Done, String> {
    let mut check = Command::new(tools::cargo_deny(workspace));
    // Without a terminal git fails where it would ask for a password.
    let output = check
        .args(["check", "advisories"])
        .current_dir(&workspace.root)
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| format!("cargo-deny does not start: {error}; `cargo xtask test tools` installs it"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(Done::Holds(last_line(&said)));
    }
    if said.contains("failed to fetch advisory database") {
        return Ok(Done::Skipped("the advisory database is not reachable from here".to_owned()));
    }
    print!("{said}");
    Err("a known vulnerability is in the tree".to_owned())
}

fn tests(workspace: &Workspace) -> Result<Done, String> {
    let mut run = cargo();
    if tools::has_nextest() {
        run.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    } else {
        run.args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"]);
    }
    // The same inputs each time: a suite that judges a change must not find another's fault. Without it, as in a plain
    // `cargo nextest run`, every run looks at others.
    run.env("PROPTEST_RNG_SEED", "1");
    // What `tools` installs must be there: a test that were skipped for want of it would hold nothing.
    pass(workspace, run.env("CALLGATE_SUITE", "1"))
}

fn book(workspace: &Workspace) -> Result<Done, String> {
    build(workspace)?;
    pass(workspace, Command::new(workspace.callgate()).args(["test", "docs/policy"]))
}

fn healthomics(workspace: &Workspace) -> Result<Done, String> {
    build(workspace)?;
    environments(workspace)?;
    pass(workspace, drive(workspace).arg("--callgate").arg(workspace.callgate()))
}

/// One scenario of each way in is enough: the checks are the same code.
fn healthomics_direct(workspace: &Workspace) -> Result<Done, String> {
    environments(workspace)?;
    pass(workspace, drive(workspace).args(["--direct", "run-json", "run-genomics", "serve-0.1.5"]))
}

/// Ignored among the tests, because they need what is installed here.
fn readers(workspace: &Workspace) -> Result<Done, String> {
    let installed = tested_clients(workspace)?;
    pass(workspace, cargo().args(["build", "-p", "callgate-cli", "-p", "rmcp-reader"]))?;
    let mut run = cargo();
    if tools::has_nextest() {
        run.args(["nextest", "run", "-p", "callgate-cli", "--test", "readers", "--run-ignored", "all", "--no-fail-fast"]);
    } else {
        run.args(["test", "-p", "callgate-cli", "--test", "readers", "--no-fail-fast", "--", "--ignored"]);
    }
    pass(workspace, run.env("CALLGATE_CLIENTS", installed))
}

fn clients(workspace: &Workspace) -> Result<Done, String> {
    let installed = tested_clients(workspace)?;
    build(workspace)?;
    let mut drive = Command::new("python3");
    drive.arg("tests/clients/drive.py").arg("--callgate").arg(workspace.callgate()).arg("--clients").arg(installed);
    pass(workspace, &mut drive)
}

fn pages(workspace: &Workspace) -> Result<Done, String> {
    let modules = workspace.target.join("pages-tests");
    pass(workspace, Command::new("tests/pages/setup.sh").arg(&modules))?;
    build(workspace)?;
    let run = |script: &str, work: &str| {
        let mut node = Command::new("node");
        node.arg(script).arg(workspace.callgate()).arg(&modules).arg(workspace.target.join(work));
        node
    };
    pass(workspace, &mut run("tests/pages/sarif.mjs", "sarif"))?;
    // Of the step before; a catalog of real servers takes minutes to build.
    let catalog = catalog::built(workspace);
    if !catalog.exists() {
        catalog::check(workspace)?;
    }
    pass(workspace, run("tests/pages/drive.mjs", "pages").arg(workspace.corpora().join("tools")).arg(catalog))
}

/// Installs the clients and servers of `tests/clients`, and gives the directory.
fn tested_clients(workspace: &Workspace) -> Result<PathBuf, String> {
    let directory = workspace.target.join("clients");
    pass(workspace, Command::new("tests/clients/setup.sh").arg(&directory))?;
    Ok(directory)
}

fn drive(workspace: &Workspace) -> Command {
    let mut drive = Command::new("python3");
    drive.arg("examples/healthomics/drive.py").env("CALLGATE_WORK", workspace.target.join("healthomics"));
    drive
}

fn environments(workspace: &Workspace) -> Result<Done, String> {
    pass(workspace, Command::new("examples/healthomics/setup.sh").arg(workspace.target.join("healthomics")))
}

fn build(workspace: &Workspace) -> Result<Done, String> {
    pass(workspace, cargo().args(["build", "-p", "callgate-cli"]))
}

/// Runs a command in the workspace's root, passes its output through, and keeps the closing line.
fn pass(workspace: &Workspace, command: &mut Command) -> Result<Done, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    if io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command.current_dir(&workspace.root).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("`{program}` does not start: {error}"))?;
    let closing = Arc::new(Mutex::new(String::new()));
    let readers = [
        child.stdout.take().map(|out| relay(out, io::stdout(), Arc::clone(&closing))),
        child.stderr.take().map(|out| relay(out, io::stderr(), Arc::clone(&closing))),
    ];
    for reader in readers.into_iter().flatten() {
        reader.join().map_err(|_| format!("the output of `{program}` could not be passed on"))?;
    }
    let status = child.wait().map_err(|error| format!("`{program}` cannot be waited for: {error}"))?;
    let closing = closing.lock().map_or_else(|poisoned| poisoned.into_inner().clone(), |line| line.clone());
    if status.success() {
        Ok(Done::Holds(closing))
    } else {
        Err(format!("{} ({status}); it closed with: {closing}", said(command)))
    }
}

/// A command as one would type it.
fn said(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn relay(
    from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    closing: Arc<Mutex<String>>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let _ = to.write_all(&line).and_then(|()| to.flush());
            let text = String::from_utf8_lossy(&line);
            if let (false, Ok(mut closing)) = (text.trim().is_empty(), closing.lock()) {
                *closing = text.trim().to_owned();
            }
            line.clear();
        }
    })
}

fn last_line(text: &str) -> String {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
