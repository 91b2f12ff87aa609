//! `catalog build`.

use crate::arguments::Build;
use crate::failure::{Failure, GENERAL, OK};
use crate::terminal::{counted, tell, visible};
use collection::{Imported, Progress, import};
use jiff::Timestamp;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

pub fn build(arguments: &Build) -> Result<u8, Failure> {
    let began = Instant::now();
    let mut shown = Shown::new();
    let imported = import(&arguments.output, &arguments.captures, Timestamp::now(), &mut |progress| shown.update(progress))?;
    shown.clear();
    for failed in &imported.failed {
        tell!("{}: {}", visible(&failed.place), visible(&failed.why));
    }
    if arguments.json {
        writeln!(std::io::stdout(), "{}", in_json(&imported))?;
    } else {
        let Progress { captures, added, tools } = imported.progress;
        tell!(
            "{} read in {:.1} s: {} with {} added to {}",
            counted(captures, "capture", "captures"),
            began.elapsed().as_secs_f64(),
            counted(added, "server", "servers"),
            counted(tools, "tool", "tools"),
            visible(&arguments.output.display().to_string())
        );
    }
    Ok(if imported.failed.is_empty() { OK } else { GENERAL })
}

fn in_json(imported: &Imported) -> String {
    let failed = imported
        .failed
        .iter()
        .map(|failed| format!("{{\"place\":{},\"why\":{}}}", json::quote(&failed.place), json::quote(&failed.why)));
    let failed: Vec<String> = failed.collect();
    let Progress { captures, added, tools } = imported.progress;
    format!("{{\"captures\":{captures},\"added\":{added},\"tools\":{tools},\"failed\":[{}]}}", failed.join(","))
}

/// How far it is, on a line of a terminal that is written again and again; nowhere else.
struct Shown {
    is_on: bool,
    last: Option<Instant>,
}

/// What an eye can follow.
const PAUSE: Duration = Duration::from_millis(100);

impl Shown {
    fn new() -> Shown {
        Shown { is_on: stderr().is_terminal(), last: None }
    }

    fn update(&mut self, progress: &Progress) {
        if self.is_on && self.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            self.last = Some(Instant::now());
            let Progress { captures, added, tools } = progress;
            let _ = write!(stderr(), "\r\u{1b}[K{captures} captures, {added} servers, {tools} tools");
        }
    }

    fn clear(&mut self) {
        if self.last.take().is_some() {
            let _ = write!(stderr(), "\r\u{1b}[K");
        }
    }
}
