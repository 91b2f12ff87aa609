//! `test`: the policy book's form, run.

use crate::arguments::Test;
use crate::commands::block_on;
use crate::failure::{DENIED, Failure, OK};
use crate::terminal::{Paint, counted, visible};
use gateway::{BookFailure, BookRun, Undecided};
use json::quote;
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
        let beside = path.parent().unwrap_or(Path::new(""));
        let read = |file: &str| std::fs::read(beside.join(file)).map_err(|error| error.to_string());
        let run = block_on(async { Ok(gateway::run_book(&name, &text, read).await) })?;
        if arguments.json {
            all.add(run);
            continue;
        }
        for failure in &run.failures {
            writeln!(out, "{}", visible(&failure.to_string()))?;
        }
        for Undecided { file, line, rule } in run.undecided.iter().filter(|_| arguments.coverage) {
            writeln!(out, "{}:{line}: no example is decided by `{}`", visible(file), visible(rule))?;
        }
        // Pages without policies (a table of contents) are passed over in silence.
        if run.policies > 0 || !run.failures.is_empty() {
            let verdict = if run.failures.is_empty() { paint.good("ok    ") } else { paint.bad("FAILED") };
            writeln!(out, "{verdict} {}: {}", visible(&name), summary(&run, arguments.coverage))?;
        }
        all.add(run);
    }
    if all.policies == 0 && all.failures.is_empty() {
        return Err(Failure::general("there is nothing to test: no ```policy block was found"));
    }
    if arguments.json {
        writeln!(out, "{}", in_json(&all))?;
    } else if files.len() > 1 {
        writeln!(out, "{}: {}", counted(files.len() as u64, "file", "files"), summary(&all, arguments.coverage))?;
    }
    Ok(if all.failures.is_empty() { OK } else { DENIED })
}

fn summary(run: &BookRun, coverage: bool) -> String {
    let failed = match run.failures.len() as u64 {
        0 => String::new(),
        some => format!(", {some} failed"),
    };
    let (policies, calls) = (counted(run.policies, "policy", "policies"), counted(run.calls, "call", "calls"));
    let decided = run.rules - run.undecided.len() as u64;
    let covered =
        if coverage { format!(", {decided} of {} decided", counted(run.rules, "rule", "rules")) } else { String::new() };
    format!("{policies}, {calls}{failed}{covered}")
}

fn in_json(run: &BookRun) -> String {
    let failures = run.failures.iter().map(|BookFailure { file, line, message }| {
        format!(r#"{{"file":{},"line":{line},"message":{}}}"#, quote(file), quote(message))
    });
    let undecided = run
        .undecided
        .iter()
        .map(|Undecided { file, line, rule }| format!(r#"{{"file":{},"line":{line},"rule":{}}}"#, quote(file), quote(rule)));
    format!(
        r#"{{"passed":{},"policies":{},"calls":{},"failures":[{}],"rules":{},"undecided":[{}]}}"#,
        run.failures.is_empty(),
        run.policies,
        run.calls,
        failures.collect::<Vec<_>>().join(","),
        run.rules,
        undecided.collect::<Vec<_>>().join(",")
    )
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
