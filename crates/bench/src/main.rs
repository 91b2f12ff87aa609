//! What callgate costs.
//!
//! Started by `cargo xtask bench`, which builds both binaries first. Load comes from here, answers from an echo server of
//! ours, and between the two stands a peer: nothing, nginx, a byte pipe, callgate with more and more to do. Runs of all peers
//! are interleaved, because machines are noisy; the peer has the last core for itself, everything else the others.
//!
//! The processor time of a peer is the steadiest figure; the latency at concurrency 1 is the one that a user feels.

mod echo;
mod load;
mod measure;
mod micro;
mod peers;
mod report;
mod start;
mod wire;

use measure::Plan;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask bench [OPTION…] [SECTION…]

  calls     small calls through every peer: both transports, both eras, one at a time and 32 at a time (6 minutes)
  half      the tail of latencies at half of the highest rate, open loop (2 minutes)
  list      a filtered tools/list of 2 MB (a moment, as what follows but for `memory`)
  memory    a million calls over each transport, and what memory grows by (2 minutes)
  start     1,000 grants, 50 servers and 3,000 tools: until it listens, and what it holds then
  micro     reading, judging and filtering by themselves, and judging over rules and tools

  --quick          a few calls of each, to see that it works
  --rounds N       so many interleaved runs of each (5)
  --calls PERCENT  so many of the usual calls in a run
  --only TEXT      only peers whose name holds TEXT, beside `direct`
  --transport T    only `http` or `stdio`
  --peers FILE     other peers than those of crates/bench/peers.json
  --json           print the results as JSON
  --write          put the tables into docs/performance.md
";

/// What was asked for.
struct Options {
    plan: Plan,
    sections: Vec<String>,
    peers: Option<PathBuf>,
    json: bool,
    write: bool,
}

fn options(words: &[String]) -> Result<Options, String> {
    let mut options = Options { plan: Plan::default(), sections: Vec::new(), peers: None, json: false, write: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().cloned().ok_or(format!("`{word}` needs a value"));
        match word.as_str() {
            "--quick" => options.plan.quick = true,
            "--json" => options.json = true,
            "--write" => options.write = true,
            "--rounds" => options.plan.rounds = value()?.parse().map_err(|_| "`--rounds` needs a number")?,
            "--calls" => options.plan.percent = value()?.parse().map_err(|_| "`--calls` needs a number")?,
            "--only" => options.plan.only = Some(value()?),
            "--transport" => options.plan.transport = Some(value()?),
            "--peers" => options.peers = Some(PathBuf::from(value()?)),
            section if SECTIONS.contains(&section) => options.sections.push(section.to_owned()),
            other => return Err(format!("`{other}` is no option and no section\n\n{HELP}")),
        }
    }
    if options.plan.quick {
        options.plan.rounds = 1;
    }
    Ok(options)
}

const SECTIONS: [&str; 6] = ["calls", "half", "list", "memory", "start", "micro"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.first().map(String::as_str) {
        Some("echo-stdio") => echo::stdio(&wire::Echo::new(0)).map_err(|error| error.to_string()),
        Some("echo-http") => {
            let bytes = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0);
            echo::http(&wire::Echo::new(bytes), ([127, 0, 0, 1], 0).into()).map_err(|error| error.to_string())
        }
        Some("pipe") => echo::pipe(&words[1..]).map_err(|error| error.to_string()),
        Some("--help" | "help") => {
            print!("{HELP}");
            Ok(())
        }
        _ => options(&words).and_then(|options| bench(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let text = match &options.peers {
        Some(path) => std::fs::read_to_string(path).map_err(|error| failed(&path.display().to_string(), &error))?,
        None => include_str!("../peers.json").to_owned(),
    };
    let all = peers::read(&text)?;
    // Below the workspace's own target directory: a disk as state lies on, and not a file system in memory.
    let target = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.parent()?.join("bench")));
    let target = target.ok_or("the target directory is not known")?;
    let directory = target.join(format!("run-{}", std::process::id()));
    let bed = peers::Bed::make(directory.clone()).map_err(|error| failed("the machine cannot be prepared", &error))?;
    let chosen = |section: &str| options.sections.is_empty() || options.sections.iter().any(|word| word == section);
    let mut report = report::Report::of_this_machine(&bed);
    for peer in all.iter().filter(|peer| peer.lacks().is_some()) {
        eprintln!("left out: {} ({} is not installed)", peer.name, peer.lacks().unwrap_or_default());
    }
    let installed: Vec<_> = all.into_iter().filter(|peer| peer.lacks().is_none() && options.plan.takes(peer)).collect();
    let measured = (|| {
        if chosen("calls") {
            report.calls = measure::calls(&bed, &installed, &options.plan)?;
        }
        if chosen("half") {
            report.half = measure::half(&bed, &installed, &options.plan)?;
        }
        if chosen("list") {
            report.lists = measure::lists(&bed, &installed, &options.plan)?;
        }
        if chosen("memory") {
            report.memory = measure::memory(&bed, &installed, &options.plan)?;
        }
        if chosen("start") {
            report.start = Some(start::start(&bed, &options.plan)?);
        }
        if chosen("micro") {
            report.micro = micro::all(options.plan.quick);
        }
        Ok(())
    })();
    if measured.is_ok() {
        let _ = std::fs::remove_dir_all(&directory);
    }
    measured.map_err(|error: std::io::Error| format!("{error}; what the peers said is in {}", directory.display()))?;
    let json = report.json();
    let stored = target.join(format!("{}.json", report.when.replace(':', "-")));
    std::fs::write(&stored, &json).map_err(|error| failed(&stored.display().to_string(), &error))?;
    if options.json {
        println!("{json}")
    } else {
        println!("{}", report.markdown())
    }
    eprintln!("stored in {}", stored.display());
    if options.write {
        report::rewrite(&report.markdown())?;
        eprintln!("written to {}", report::PAGE);
    }
    Ok(())
}
