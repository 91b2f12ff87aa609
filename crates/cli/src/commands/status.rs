//! `status`: who is running, what was called and denied, and by which rules.

use crate::arguments;
use crate::failure::{Failure, OK};
use crate::records::moment;
use crate::terminal::{Paint, counted, table, visible};
use gateway::status_json;
use std::io::Write;
use store::{Clock, Status, rfc3339};

pub fn status(arguments: &arguments::Status) -> Result<u8, Failure> {
    let since = arguments.since.as_deref().map(|text| moment(text, Clock::System.now())).transpose().map_err(Failure::usage)?;
    let state = arguments.state.url()?.to_string();
    let status = arguments.state.reader()?.status(since)?;
    let mut out = std::io::stdout().lock();
    match arguments.json {
        true => writeln!(out, "{}", status_json(&state, &status))?,
        false => write!(out, "{}", status_text(&state, &status, Paint::stdout()))?,
    }
    Ok(OK)
}

fn status_text(state: &str, status: &Status, paint: Paint) -> String {
    let mut out = format!("state      {}\n", visible(state));
    out.push_str(&format!("records    {}\n", status.records));
    if status.waiting > 0 {
        let waiting =
            format!("{} for an answer; see `callgate approvals list`", counted(status.waiting, "call waits", "calls wait"));
        out.push_str(&format!("approvals  {}\n", paint.warn(&waiting)));
    }
    out.push_str("\ninstances\n");
    let rows: Vec<Vec<String>> = status
        .instances
        .iter()
        .map(|running| {
            let instance = &running.instance;
            let alive = if running.alive { "running" } else { "gone" };
            let pid = running.pid.to_string();
            let policy = instance.policy.as_deref().map(visible).unwrap_or_default();
            [visible(&instance.server), visible(&instance.mode), pid, alive.into(), rfc3339(running.started), policy].to_vec()
        })
        .collect();
    out.push_str(&section(&["SERVER", "MODE", "PID", "STATE", "STARTED", "POLICY"], &rows, paint));
    out.push_str("\ncalls\n");
    let rows: Vec<Vec<String>> = status
        .servers
        .iter()
        .map(|server| {
            let counts = [server.calls, server.allowed, server.denied, server.asked].map(|count| count.to_string());
            [&[named(&server.server)][..], &counts[..]].concat()
        })
        .collect();
    out.push_str(&section(&["SERVER", "CALLS", "ALLOWED", "DENIED", "ASKED"], &rows, paint));
    let rules: Vec<Vec<String>> = status
        .servers
        .iter()
        .flat_map(|server| {
            server.top_rules.iter().map(|top| vec![top.count.to_string(), named(&server.server), visible(&top.rule)])
        })
        .collect();
    if !rules.is_empty() {
        out.push_str("\nrules that denied or asked most\n");
        out.push_str(&section(&["COUNT", "SERVER", "RULE"], &rows_sorted(rules), paint));
    }
    out
}

/// By count, the most frequent first; equal ones stay in the order of their servers.
fn rows_sorted(mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    rows.sort_by_key(|row| std::cmp::Reverse(row.first().and_then(|count| count.parse::<u64>().ok())));
    rows
}

fn named(server: &str) -> String {
    if server.is_empty() { "(none)".to_owned() } else { visible(server) }
}

fn section(heads: &[&str], rows: &[Vec<String>], paint: Paint) -> String {
    if rows.is_empty() {
        return format!("  {}\n", paint.dim("none"));
    }
    let text = table(heads, rows, |_, _, padded| padded);
    text.lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use json::{Document, Strictness};
    use store::{RuleCount, ServerStatus};

    fn status() -> Status {
        let rules = vec![RuleCount { rule: "ten a \u{1b}minute".into(), count: 3 }];
        let server = ServerStatus { server: "genomics".into(), calls: 14, allowed: 11, denied: 3, asked: 0, top_rules: rules };
        Status { servers: vec![server], instances: Vec::new(), waiting: 1, records: 25 }
    }

    #[test]
    fn the_table_says_what_matters() {
        let text = status_text("memory:", &status(), Paint::off());
        assert!(text.contains("  SERVER    CALLS  ALLOWED  DENIED  ASKED\n  genomics  14     11       3       0\n"), "{text}");
        assert!(text.contains("3      genomics  ten a \\u{1b}minute"), "{text}");
        assert!(text.contains("instances\n  none\n"));
        assert!(text.contains("1 call waits for an answer"));
    }

    #[test]
    fn the_json_is_one_object() {
        let text = status_json("memory:", &status());
        let document = Document::parse(text, Strictness::Request).unwrap();
        let server = document.root().get("servers").unwrap().elements().unwrap().next().unwrap();
        assert_eq!(server.get("denied").unwrap().raw(), "3");
        assert_eq!(server.get("top_rules").unwrap().elements().unwrap().next().unwrap().get("count").unwrap().raw(), "3");
    }
}
