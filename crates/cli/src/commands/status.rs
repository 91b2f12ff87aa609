//! `status`: who is running, what was called and denied, and by which rules.

use crate::arguments;
use crate::failure::{Failure, OK};
use crate::records::moment;
use crate::terminal::{Paint, counted, table, visible};
use gateway::status_json;
use json::{Document, Strictness};
use std::io::Write;
use store::{Clock, Running, Status, rfc3339};

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
    let standings: Vec<Standing> = status.instances.iter().filter(|running| running.alive).flat_map(standings).collect();
    if !standings.is_empty() {
        out.push_str("\nservers\n");
        let rows: Vec<Vec<String>> = standings.iter().map(|standing| standing.row.clone()).collect();
        let heads = ["SERVER", "PID", "STATE", "LIVING", "STARTED", "ENDED", "PINS PENDING", "LAST END"];
        out.push_str(&section(&heads, &rows, paint));
        for standing in standings.iter().filter(|standing| !standing.said.is_empty()) {
            out.push_str(&format!("  {} has said on standard error:\n", standing.row[0]));
            standing.said.iter().for_each(|line| out.push_str(&format!("    {line}\n")));
        }
    }
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

/// How one server stands behind one gateway.
struct Standing {
    row: Vec<String>,
    /// What its processes have said last on standard error, where one has ended.
    said: Vec<String>,
}

/// How the servers behind a gateway are, as it has said itself.
fn standings(running: &Running) -> Vec<Standing> {
    let Some(text) = running.instance.servers.clone() else { return Vec::new() };
    let Ok(document) = Document::parse(text, Strictness::Reply) else { return Vec::new() };
    let servers = document.root().elements().into_iter().flatten();
    let standing = |server: json::Value<'_>| {
        let text = |of: json::Value<'_>, key: &str| {
            let value = of.get(key);
            value.and_then(|value| value.as_str().map(|text| visible(&text))).unwrap_or_default()
        };
        let processes = server.get("processes");
        let number = |key: &str| processes.and_then(|of| of.get(key)).map_or_else(String::new, |value| value.raw().to_owned());
        let pending = server.get("pins_pending").map_or_else(String::new, |value| value.raw().to_owned());
        let last_end = processes.map(|of| text(of, "last_end")).unwrap_or_default();
        let lines = processes.and_then(|of| of.get("stderr")).and_then(|lines| lines.elements()).into_iter().flatten();
        let lines = lines.filter_map(|line| line.as_str().map(|line| visible(&line))).collect();
        let (name, state) = (text(server, "server"), text(server, "standing"));
        let row =
            vec![name, running.pid.to_string(), state, number("living"), number("started"), number("ended"), pending, last_end];
        Standing { said: if row[7].is_empty() { Vec::new() } else { lines }, row }
    };
    servers.map(standing).collect()
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
    use store::{Instance, RuleCount, ServerStatus};

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
    fn servers_are_shown_with_their_processes() {
        let servers = r#"[{"server":"files","standing":"away","pins_pending":2,
            "processes":{"living":0,"started":3,"ended":3,"last_end":"it has ended by itself","stderr":["no \u001b[2Jsuch file"]}}]"#;
        let instance = Instance { servers: Some(servers.into()), ..Instance::default() };
        let running = Running { instance, id: "i".into(), pid: 7, started: 0, seen: 0, alive: true };
        let text = status_text("memory:", &Status { instances: vec![running], ..status() }, Paint::off());
        assert!(text.contains("  files   7    away   0       3        3      2             it has ended by itself\n"), "{text}");
        assert!(text.contains("    no \\u{1b}[2Jsuch file\n"), "{text}");
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
