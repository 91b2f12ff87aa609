//! `audit`: the log of what was decided, read and verified.

use crate::arguments::{Audit, FilterArguments, StateArgument};
use crate::failure::{BROKEN, Failure, OK};
use crate::records::{details_of, line_of, moment, table_of};
use crate::terminal::{Paint, counted, visible};
use json::quote;
use std::io::{BufWriter, Write};
use std::time::Duration;
use store::{Clock, Filter, Reader, Row, Verification};

pub fn audit(command: Audit) -> Result<u8, Failure> {
    match command {
        Audit::Verify { state, json } => verify(&state, json),
        Audit::List { filter, limit, state, json } => list(&state, &filter, limit, json),
        Audit::Export { filter, state, json: _ } => list(&state, &filter, None, true),
        Audit::Show { id, state, json } => show(&state, &id, json),
        Audit::Tail { filter, limit, state, json } => tail(&state, &filter, limit, json),
    }
}

fn verify(state: &StateArgument, json: bool) -> Result<u8, Failure> {
    let verification = state.reader()?.verify()?;
    let mut out = std::io::stdout().lock();
    match json {
        true => writeln!(out, "{}", verification_json(&verification))?,
        false => write!(out, "{}", verification_text(&verification, Paint::stdout()))?,
    }
    Ok(if verification.valid { OK } else { BROKEN })
}

fn verification_json(verification: &Verification) -> String {
    let broken = verification.first_broken.as_ref().map_or("null".to_owned(), |broken| {
        let id = broken.id.as_deref().map_or("null".to_owned(), quote);
        format!(r#"{{"seq":{},"id":{id},"problem":{}}}"#, broken.seq, quote(&broken.problem))
    });
    let undetectable: Vec<String> = verification.undetectable.iter().map(|limit| quote(limit)).collect();
    format!(
        r#"{{"valid":{},"records":{},"first_broken":{broken},"undetectable":[{}]}}"#,
        verification.valid,
        verification.records,
        undetectable.join(",")
    )
}

fn verification_text(verification: &Verification, paint: Paint) -> String {
    let records = counted(verification.records, "record", "records");
    let mut out = match &verification.first_broken {
        None => {
            format!("{}: {records}, each bound to the one before it, the last one signed\n", paint.good("the chain is whole"))
        }
        Some(broken) => {
            let id = broken.id.as_deref().map(|id| format!(" (id {})", visible(id))).unwrap_or_default();
            let problem = visible(&broken.problem);
            format!("{} at record {}{id}: {problem}\n{records} looked at\n", paint.bad("the chain is broken"), broken.seq)
        }
    };
    out.push_str("\nwhat this check cannot find:\n");
    for limit in &verification.undetectable {
        out.push_str(&format!("  - {}\n", visible(limit)));
    }
    out
}

fn list(state: &StateArgument, filter: &FilterArguments, limit: Option<u64>, json: bool) -> Result<u8, Failure> {
    let filter = filter.filter(limit)?;
    let reader = state.reader()?;
    let rows = reader.list(&filter)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    if json {
        for row in rows {
            writeln!(out, "{}", row?.line())?;
        }
    } else {
        let rows: Vec<Row> = rows.collect::<Result<_, _>>()?;
        write!(out, "{}", table_of(&rows, Paint::stdout(), true))?;
    }
    out.flush()?;
    Ok(OK)
}

fn show(state: &StateArgument, id: &str, json: bool) -> Result<u8, Failure> {
    let rows = state.reader()?.show(id)?;
    if rows.is_empty() {
        return Err(Failure::general(format!("there is no record `{}`; `callgate audit list --json` shows ids", visible(id))));
    }
    let texts: Vec<String> = rows.iter().map(|row| if json { format!("{}\n", row.line()) } else { details_of(row) }).collect();
    write!(std::io::stdout(), "{}", texts.join(if json { "" } else { "\n" }))?;
    Ok(OK)
}

fn tail(state: &StateArgument, filter: &FilterArguments, limit: u64, json: bool) -> Result<u8, Failure> {
    let paint = Paint::stdout();
    let mut reader = state.reader()?;
    let mut wanted = Filter { until_position: Some(reader.position()?), ..filter.filter(Some(limit))? };
    loop {
        let mut out = std::io::stdout().lock();
        for row in reader.list(&wanted)? {
            let row = row?;
            match json {
                true => writeln!(out, "{}", row.line())?,
                false => writeln!(out, "{}", line_of(&row, paint))?,
            }
        }
        out.flush()?;
        drop(out);
        std::thread::sleep(POLL);
        // A new reader each time: one that had to copy the file would see nothing new.
        reader = reopened(state, reader);
        let position = reader.position()?;
        wanted = Filter { after: wanted.until_position, until_position: Some(position), limit: None, ..wanted };
    }
}

/// A state that is just being replaced is looked for again at the next turn.
fn reopened(state: &StateArgument, reader: Reader) -> Reader {
    state.reader().unwrap_or(reader)
}

impl FilterArguments {
    fn filter(&self, limit: Option<u64>) -> Result<Filter, Failure> {
        let now = Clock::System.now();
        let time = |text: &Option<String>| text.as_deref().map(|text| moment(text, now)).transpose().map_err(Failure::usage);
        Ok(Filter {
            since: time(&self.since)?,
            until: time(&self.until)?,
            tool: self.tool.clone(),
            outcome: self.outcome,
            reason: self.reason,
            phase: self.phase,
            server: self.server.clone(),
            limit,
            ..Filter::default()
        })
    }
}

const POLL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use store::Broken;

    #[test]
    fn a_verification_says_what_is_broken_and_what_it_cannot_find() {
        let broken = Broken { seq: 7, id: Some("k\u{1b}".into()), problem: "its hash is another".into() };
        let verification =
            Verification { valid: false, records: 9, first_broken: Some(broken), undetectable: vec!["a \"rollback\"".into()] };
        assert_eq!(
            verification_json(&verification),
            r#"{"valid":false,"records":9,"first_broken":{"seq":7,"id":"k\u001b","problem":"its hash is another"},"undetectable":["a \"rollback\""]}"#
        );
        let text = verification_text(&verification, Paint::off());
        assert!(text.starts_with("the chain is broken at record 7 (id k\\u{1b}): its hash is another\n"), "{text}");
        assert!(text.contains("what this check cannot find:\n  - a \"rollback\"\n"));
    }
}
