//! `approvals`: a person's answers.
//!
//! Everything shown of a call came from a model, so what a reader would not see is made visible before anybody says yes.

use crate::arguments::{ApprovalArguments, Approvals, StateArgument};
use crate::commands::block_on;
use crate::failure::{Failure, OK};
use crate::terminal::{Paint, shortened, table, visible};
use json::{Document, Strictness, quote};
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

fn answer(arguments: &ApprovalArguments, answer: Answer) -> Result<u8, Failure> {
    let url = arguments.state.url()?;
    if url == StateUrl::Memory {
        return Err(Failure::usage("`memory:` belongs to one process, and nothing can be answered from another"));
    }
    // Reading first: opening to write would make a state file where there is none.
    arguments.state.reader()?.approval(&arguments.id)?;
    let by = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "local".to_owned());
    let answered = block_on(async {
        let store = Store::open(url, Options::default())?;
        let answered = store.answer(&arguments.id, answer, &by).await;
        store.close().await;
        Ok(answered?)
    })?;
    print(&answered, arguments.json)
}

fn print(approval: &Approval, json: bool) -> Result<u8, Failure> {
    let mut out = std::io::stdout().lock();
    match json {
        true => writeln!(out, "{}", approval_json(approval))?,
        false => write!(out, "{}", approval_text(approval, Paint::stdout()))?,
    }
    Ok(OK)
}

fn approval_json(approval: &Approval) -> String {
    let text = |text: Option<&str>| text.map_or("null".to_owned(), quote);
    let time = |millis: Option<i64>| millis.map_or("null".to_owned(), |millis| quote(&rfc3339(millis)));
    // Arguments are JSON as they came; should they ever not be, they are a string. A note of what is too long has a member
    // of its own, so that no arguments can pass for one.
    let plain = |raw: &str| {
        let one_line = !raw.contains(['\n', '\r']) && Document::parse(raw.to_owned(), Strictness::Reply).is_ok();
        if one_line { raw.to_owned() } else { quote(raw) }
    };
    let null = || "null".to_owned();
    let (arguments, too_long) = match &approval.arguments {
        ShownArguments::Whole(raw) => (plain(raw), null()),
        ShownArguments::TooLong(note) => (null(), plain(note)),
        ShownArguments::Overdue | ShownArguments::Removed => (null(), null()),
    };
    format!(
        concat!(
            r#"{{"id":{},"state":"{}","server":{},"grant":{},"principal":{},"tool":{},"arguments":{},"#,
            r#""arguments_too_long":{},"rule":{},"policy":{},"created":{},"expires":{},"decided":{},"decided_by":{},"spent_by":{}}}"#
        ),
        quote(&approval.id),
        approval.state.as_str(),
        quote(&approval.server),
        quote(&approval.grant),
        quote(&approval.principal),
        quote(&approval.tool),
        arguments,
        too_long,
        quote(&approval.rule),
        quote(&approval.policy),
        time(Some(approval.created)),
        time(Some(approval.expires)),
        time(approval.decided),
        text(approval.decided_by.as_deref()),
        text(approval.spent_by.as_deref()),
    )
}

fn approval_text(approval: &Approval, paint: Paint) -> String {
    let state = approval.state.as_str();
    let mut rows = vec![("id", visible(&approval.id)), ("state", paint.outcome(state, state))];
    for (name, text) in [
        ("tool", &approval.tool),
        ("server", &approval.server),
        ("principal", &approval.principal),
        ("grant", &approval.grant),
        ("rule", &approval.rule),
        ("policy", &approval.policy),
    ] {
        rows.push((name, visible(text)));
    }
    rows.push(("opened", rfc3339(approval.created)));
    rows.push((if state == "approved" { "usable until" } else { "expires" }, rfc3339(approval.expires)));
    if let (Some(decided), Some(by)) = (approval.decided, &approval.decided_by) {
        rows.push(("answered", format!("{} by {}", rfc3339(decided), visible(by))));
    }
    if let Some(spent_by) = &approval.spent_by {
        rows.push(("spent by", visible(spent_by)));
    }
    rows.push(("arguments", visible(&arguments_text(&approval.arguments))));
    rows.iter().map(|(name, value)| format!("{name:<13} {value}\n")).collect()
}

/// Arguments are objects and begin with `{`, so that they cannot pass for one of the other texts.
fn arguments_text(arguments: &ShownArguments) -> String {
    match arguments {
        ShownArguments::Whole(raw) => raw.clone(),
        ShownArguments::TooLong(note) => format!("too long to show: {note}"),
        ShownArguments::Overdue | ShownArguments::Removed => "no longer kept".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval(arguments: &str) -> Approval {
        Approval {
            id: "k3".into(),
            state: ApprovalState::Pending,
            server: "bank".into(),
            grant: "local".into(),
            principal: "local".into(),
            tool: "pay".into(),
            digest: String::new(),
            policy: "abc".into(),
            rule: "large".into(),
            arguments: ShownArguments::Whole(arguments.into()),
            created: 0,
            expires: 60_000,
            timeout_ms: 60_000,
            decided: None,
            decided_by: None,
            quorums: Vec::new(),
            votes: Vec::new(),
            spent_by: None,
        }
    }

    #[test]
    fn what_hides_in_arguments_is_visible_before_anybody_says_yes() {
        let text = approval_text(&approval("{\"to\":\"\u{202e}eciv\u{200b}\"}"), Paint::off());
        assert!(text.contains(r#"arguments     {"to":"\u{202e}eciv\u{200b}"}"#), "{text}");
    }

    #[test]
    fn what_is_too_long_to_show_is_said_to_be_and_cannot_be_played() {
        let note = r#"{"bytes":70000,"hmac":"ab"}"#;
        let long = Approval { arguments: ShownArguments::TooLong(note.into()), ..approval("") };
        assert!(approval_text(&long, Paint::off()).contains(&format!("arguments     too long to show: {note}\n")));
        assert!(approval_json(&long).contains(&format!(r#""arguments":null,"arguments_too_long":{note},"#)));
        let played = approval(note);
        assert!(approval_text(&played, Paint::off()).contains(&format!("arguments     {note}\n")));
        assert!(approval_json(&played).contains(&format!(r#""arguments":{note},"arguments_too_long":null,"#)));
    }

    #[test]
    fn an_approval_is_one_line_of_json() {
        let line = approval_json(&approval("{\"a\":1.0}"));
        assert!(line.contains(r#""arguments":{"a":1.0},"arguments_too_long":null,"rule":"large""#), "{line}");
        for broken in ["{\n}", "{"] {
            let line = approval_json(&approval(broken));
            assert!(!line.contains('\n'));
            assert!(Document::parse(line, Strictness::Request).is_ok());
        }
    }
}
