//! `approvals`: a person's answers.
//!
//! Everything shown of a call came from a model, so what a reader would not see is made visible before anybody says yes.

use crate::arguments::{AnswerArguments, Approvals, StateArgument};
use crate::commands::block_on;
use crate::failure::{Failure, OK};
use crate::terminal::{Paint, shortened, table, visible};
use gateway::{approval_facts, approval_json, arguments_text};
use std::io::Write;
use store::{Answer, Approval, ApprovalState, Options, ShownArguments, StateUrl, Store, rfc3339};

pub fn approvals(command: Approvals) -> Result<u8, Failure> {
    match command {
        Approvals::List { all, state, json } => list(&state, all, json),
        Approvals::Show(arguments) => {
            let approval = arguments.state.reader()?.approval(&arguments.id)?;
            print(&approval, arguments.json)
        }
        Approvals::Approve(arguments) => answer(&arguments, Answer::Approve),
        Approvals::Deny(arguments) => answer(&arguments, Answer::Deny),
    }
}

fn list(state: &StateArgument, all: bool, json: bool) -> Result<u8, Failure> {
    let approvals = state.reader()?.approvals()?;
    if approvals.iter().any(|approval| approval.arguments == ShownArguments::Overdue) {
        remove_overdue(state)?;
    }
    let wanted: Vec<Approval> =
        approvals.into_iter().filter(|approval| all || approval.state == ApprovalState::Pending).collect();
    let mut out = std::io::stdout().lock();
    if json {
        for approval in &wanted {
            writeln!(out, "{}", approval_json(approval))?;
        }
        return Ok(OK);
    }
    if wanted.is_empty() {
        writeln!(out, "{}", if all { "there are no approvals" } else { "nothing waits for an answer" })?;
        return Ok(OK);
    }
    let rows: Vec<Vec<String>> = wanted
        .iter()
        .map(|approval| {
            vec![
                visible(&approval.id),
                approval.state.as_str().to_owned(),
                rfc3339(approval.expires),
                visible(&approval.principal),
                visible(&approval.server),
                visible(&approval.tool),
                shortened(&arguments_text(&approval.arguments), 60),
            ]
        })
        .collect();
    let heads = ["ID", "STATE", "EXPIRES", "PRINCIPAL", "SERVER", "TOOL", "ARGUMENTS"];
    let paint = Paint::stdout();
    let colour = |column, cell: &str, padded: String| if column == 1 { paint.outcome(cell, &padded) } else { padded };
    write!(out, "{}", table(&heads, &rows, colour))?;
    Ok(OK)
}

/// Opening state to write removes what is over; a list is right without that, so where it cannot be done it is left.
fn remove_overdue(state: &StateArgument) -> Result<(), Failure> {
    let url = state.url()?;
    block_on(async {
        if let Ok(store) = Store::open(url, Options::default()) {
            store.close().await;
        }
        Ok(())
    })
}

fn answer(AnswerArguments { approval: arguments, by }: &AnswerArguments, answer: Answer) -> Result<u8, Failure> {
    let url = arguments.state.url()?;
    if url == StateUrl::Memory {
        return Err(Failure::usage("`memory:` belongs to one process, and nothing can be answered from another"));
    }
    // Reading first: opening to write would make a state file where there is none.
    arguments.state.reader()?.approval(&arguments.id)?;
    let by = by.clone().unwrap_or_else(user);
    let answered = block_on(async {
        let store = Store::open(url, Options::default())?;
        let answered = store.answer(&arguments.id, answer, &by).await;
        store.close().await;
        Ok(answered?)
    })?;
    print(&answered, arguments.json)
}

/// Who sits here, as the system says.
fn user() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "local".to_owned())
}

fn print(approval: &Approval, json: bool) -> Result<u8, Failure> {
    let mut out = std::io::stdout().lock();
    match json {
        true => writeln!(out, "{}", approval_json(approval))?,
        false => write!(out, "{}", approval_text(approval, Paint::stdout()))?,
    }
    Ok(OK)
}

fn approval_text(approval: &Approval, paint: Paint) -> String {
    let line = |(name, value): (&str, String)| {
        let value = if name == "state" { paint.outcome(&value, &value) } else { value };
        format!("{name:<13} {value}\n")
    };
    approval_facts(approval).into_iter().map(line).collect()
}
