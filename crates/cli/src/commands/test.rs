//! `test`: the policy book's form, run.

use crate::arguments::Test;
use crate::commands::block_on;
use crate::failure::{DENIED, Failure, OK};
use crate::terminal::{Paint, counted, visible};
use gateway::BookRun;
use std::io::Write;
use std::path::{Path, PathBuf};

pub fn test(arguments: &Test) -> Result<u8, Failure> {
    let mut files = Vec::new();
    for place in &arguments.places {
        collect(place, true, &mut files)?;
    }
    let paint = Paint::stdout();
    let mut out = std::io::stdout().lock();
    let mut all = BookRun::default();
    for path in &files {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| Failure::because(&format!("cannot read `{}`", visible(&name)), &error))?;
        let run = block_on(async { Ok(gateway::run_book(&name, &text).await) })?;
        for failure in &run.failures {
            writeln!(out, "{}", visible(&failure.to_string()))?;
        }
        // Pages without policies (a table of contents) are passed over in silence.
        if run.policies > 0 || !run.failures.is_empty() {
            let verdict = if run.failures.is_empty() { paint.good("ok    ") } else { paint.bad("FAILED") };
            writeln!(out, "{verdict} {}: {}", visible(&name), summary(&run))?;
        }
        all.policies += run.policies;
        all.calls += run.calls;
        all.failures.extend(run.failures);
    }
    if all.policies == 0 && all.failures.is_empty() {
        return Err(Failure::general("there is nothing to test: no ```policy block was found"));
    }
    if files.len() > 1 {
        writeln!(out, "{}: {}", counted(files.len() as u64, "file", "files"), summary(&all))?;
    }
    Ok(if all.failures.is_empty() { OK } else { DENIED })
}

fn summary(run: &BookRun) -> String {
    let failed = match run.failures.len() as u64 {
        0 => String::new(),
        some => format!(", {some} failed"),
    };
    let (policies, calls) = (counted(run.policies, "policy", "policies"), counted(run.calls, "call", "calls"));
    format!("{policies}, {calls}{failed}")
}

/// The Markdown files at a place, in the order of their names. A file that was named is one, whatever it is called.
fn collect(place: &Path, named: bool, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if !place.is_dir() {
        if named || place.extension().is_some_and(|extension| extension == "md") {
            files.push(place.to_owned());
        }
        return Ok(());
    }
    let unreadable = |error| Failure::because(&format!("cannot read `{}`", visible(&place.display().to_string())), &error);
    let mut entries: Vec<PathBuf> = std::fs::read_dir(place)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable)?
        .iter()
        .map(std::fs::DirEntry::path)
        .collect();
    entries.sort();
    entries.iter().try_for_each(|entry| collect(entry, false, files))
}
