//! What a policy or a call meant to the peer, as far as it means the same here: `tests/corpora/intercept-parity.json`; and, in
//! the same form, what misleads a careless loader: `tests/corpora/policy-load.json`.
//!
//! Every kind goes through the binary: `eval` through `simulate`, `validate` through `check --json`, `filter`, `wire` and
//! `counts` through `run` in front of the stand-in. `CALLGATE_PARITY` names another file of the same form.

mod support;

use serde_json::{Value, json};
use std::fmt::Write as _;
use support::stdio::Stdio;
use support::{LEGACY, Scratch, entries_of, lenient, root, run, tools_run};

fn cases(kind: &str) -> Vec<Value> {
    let corpora = root().join("tests/corpora");
    let files = match std::env::var_os("CALLGATE_PARITY") {
        Some(path) => vec![path.into()],
        None => vec![corpora.join("intercept-parity.json"), corpora.join("policy-load.json")],
    };
    let read = |path: std::path::PathBuf| -> Value {
        serde_json::from_slice(&std::fs::read(&path).expect("the corpus")).expect("a corpus is JSON")
    };
    let all = files.into_iter().flat_map(|path| read(path)["cases"].as_array().cloned().expect("cases"));
    all.filter(|case| case["kind"] == kind).collect()
}

/// Runs every case of a kind; a case says what is wrong, or nothing.
#[track_caller]
fn check(kind: &str, judge: impl Fn(&Value, &Scratch) -> Vec<String>) {
    let cases = cases(kind);
    assert!(!cases.is_empty(), "the corpus has no case of kind {kind}");
    let mut problems = Vec::new();
    for case in &cases {
        let scratch = Scratch::new();
        scratch.policy(case["policy"].as_str().expect("a policy"));
        let id = case["id"].as_str().expect("an id");
        problems.extend(judge(case, &scratch).into_iter().map(|problem| format!("{id}: {problem}")));
    }
    assert!(problems.is_empty(), "{} problems in {} cases:\n{}", problems.len(), cases.len(), problems.join("\n"));
}

/// Cases of the corpus that contradict themselves, and why. They are run: once corrected, they must leave this list.
const CONTRADICTORY: &[(&str, &str)] = &[("p068-stateless-allow", "its path does not hold the `/tmp` that its rule asks for")];

#[test]
fn calls_are_decided_alike() {
    check("eval", |case, scratch| {
        let problems = decided(case, scratch);
        match CONTRADICTORY.iter().find(|(id, _)| case["id"] == *id) {
            Some((_, why)) if problems.is_empty() => vec![format!("no longer contradictory ({why})")],
            Some(_) => Vec::new(),
            None => problems,
        }
    });
}

fn decided(case: &Value, scratch: &Scratch) -> Vec<String> {
    let calls = case["calls"].as_array().expect("calls");
    let (mut input, mut expected) = (String::new(), Vec::new());
    for call in calls {
        let mut line = format!(r#"{{"tool":{},"at":{}"#, call["tool"], call["at"]);
        let arguments = call["arguments_text"].as_str().map(str::to_owned);
        if let Some(arguments) = arguments.or_else(|| call.get("arguments").map(Value::to_string)) {
            let _ = write!(line, r#","arguments":{arguments}"#);
        }
        if let Some(reply) = call.get("reply") {
            let _ = write!(line, r#","reply":{reply}"#);
        }
        for _ in 0..call["repeat"].as_u64().unwrap_or(1) {
            let _ = writeln!(input, "{line}}}");
            expected.push(&call["expect"]);
        }
    }
    let policy = scratch.path("policy.yaml").display().to_string();
    let ran = run(&["simulate", "-p", &policy, "--calls", "-", "--json"], &input);
    let lines: Vec<Value> = ran.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if lines.len() != expected.len() {
        return vec![format!("{} decisions for {} calls (exit {}): {}", lines.len(), expected.len(), ran.code, ran.stderr)];
    }
    let differs = |(number, (decision, expect)): (usize, (&Value, &&Value))| {
        let text = |key: &str| decision[key].as_str().unwrap_or_default();
        let same = decision["outcome"] == expect["outcome"]
            && expect["rule"].as_str().is_none_or(|rule| text("rule").contains(rule))
            && expect["message"].as_str().is_none_or(|message| text("message") == message)
            && expect["message_contains"].as_str().is_none_or(|part| text("message").contains(part));
        (!same).then(|| format!("call {}: {expect} expected, got {decision}", number + 1))
    };
    lines.iter().zip(&expected).enumerate().filter_map(differs).collect()
}

#[test]
fn mistakes_are_found_where_they_are() {
    check("validate", |case, scratch| {
        let policy = scratch.path("policy.yaml").display().to_string();
        let ran = run(&["check", &policy, "--json"], "");
        let Ok(report) = serde_json::from_str::<Value>(&ran.stdout) else {
            return vec![format!("check --json printed no object: {}{}", ran.stdout, ran.stderr)];
        };
        let mut problems = Vec::new();
        let wanted = if case["valid"] == true { 0 } else { 3 };
        if report["valid"] != case["valid"] || ran.code != wanted {
            problems.push(format!("valid {} and exit {wanted} expected, got exit {}: {report}", case["valid"], ran.code));
        }
        let found = report["problems"].as_array().cloned().unwrap_or_default();
        let errors: Vec<&Value> = found.iter().filter(|problem| problem["severity"] == "error").collect();
        let hit = |lines: &Value| {
            let lines = lines.as_array().map(Vec::as_slice).unwrap_or_default();
            lines.is_empty() || errors.iter().any(|error| lines.contains(&error["line"]))
        };
        if case["warns"] == true && !found.iter().any(|problem| problem["severity"] == "warning") {
            problems.push(format!("a warning expected: {report}"));
        }
        let groups = case["each"].as_array().map(Vec::as_slice).unwrap_or_default();
        for lines in groups.iter().chain(case.get("lines")) {
            if !hit(lines) {
                problems.push(format!("no error on the lines {lines}: {report}"));
            }
        }
        problems
    });
}

#[test]
fn lists_are_filtered_alike() {
    check("filter", |case, scratch| {
        let text = case["reply"].as_str().expect("a reply");
        let reply: Value = serde_json::from_str(text).expect("JSON");
        let id = reply["id"].to_string();
        let open = text.replacen(&format!(r#""id": {id}"#), r#""id": {{id}}"#, 1);
        let file = scratch.write("reply.json", open.replacen(&format!(r#""id":{id}"#), r#""id":{{id}}"#, 1));
        let command = lenient(&scratch.log(), &["--stdio", "--reply-file", &file.display().to_string()]);
        let mut client = Stdio::wrap(&scratch.path("policy.yaml"), &scratch.state(), &[], &command);
        client.begin(LEGACY);
        let got = client.ask(LEGACY, &id, "tools/list", json!({}));
        let mut problems = Vec::new();
        if case["same"] == true && got != reply {
            problems.push(format!("the same reply expected, got {got}"));
        }
        if case["names"].is_array() && json!(support::names(&got)) != case["names"] {
            problems.push(format!("{} expected, got {got}", case["names"]));
        }
        if case["nextCursor"].is_string() && got["result"]["nextCursor"] != case["nextCursor"] {
            problems.push(format!("nextCursor {} expected, got {got}", case["nextCursor"]));
        }
        problems
    });
}

#[test]
fn what_slipped_through_there_does_not_here() {
    check("wire", |case, scratch| {
        let command = lenient(&scratch.log(), &["--stdio"]);
        let mut client = Stdio::wrap(&scratch.path("policy.yaml"), &scratch.state(), &[], &command);
        client.begin(LEGACY);
        client.send(case["message"].as_str().expect("a message"));
        client.ask(LEGACY, "\"after\"", "tools/list", json!({}));
        client.close_stdin();
        client.ended(support::PATIENCE);
        entries_of(&scratch.log(), "call").iter().map(|call| format!("the upstream would run {call}")).collect()
    });
}

#[test]
fn a_counter_without_a_limit_is_refused_or_counts() {
    check("counts", |case, scratch| {
        let policy = scratch.path("policy.yaml");
        if run(&["check", &policy.display().to_string()], "").code == 3 {
            return Vec::new();
        }
        let mut client = Stdio::wrap(&policy, &scratch.state(), &[], &lenient(&scratch.log(), &["--stdio"]));
        client.begin(LEGACY);
        for number in 0..case["calls"].as_u64().expect("a number") {
            let tool = case["tool"].as_str().expect("a tool");
            client.call(LEGACY, &number.to_string(), tool, case["arguments"].clone());
        }
        let passed = tools_run(&scratch.log()).len() as u64;
        let most = case["at_most"].as_u64().expect("a number");
        if passed > most { vec![format!("{passed} calls passed, at most {most} expected")] } else { Vec::new() }
    });
}
