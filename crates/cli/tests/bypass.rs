//! The bypass corpus: every case of `tests/bypass/*.json`, as exact bytes, through every mode and revision.
//!
//! One gateway takes all cases of a policy, one after the other. The stand-in behind it logs every call that *any* careless
//! reading of what reached it would run, so one pass covers servers that take the first duplicate, the last, the case-folded
//! one, and so on. `tests/upstreams/selftest.py` shows that the same bytes, sent to the stand-in directly, do run what they
//! should not.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::corpus::{cases_for, corpus, strings};
use support::rig::{Mode, Rig, Server, shown};
use support::stdio::Stdio;
use support::{HttpUpstream, LEGACY, MODERN, Scratch, call, lenient, root};

// ---------------------------------------------------------------- the corpus

#[test]
fn every_evasion_and_weakness_is_a_case_or_is_reviewed_as_not_applicable() {
    let here: BTreeSet<String> = corpus().iter().map(|case| case["evasion"].as_str().expect("an id").to_owned()).collect();
    let read = |path: &str| -> Value { serde_json::from_slice(&std::fs::read(root().join(path)).expect(path)).expect(path) };
    let reviewed = read("tests/bypass/not-applicable.json");
    let elsewhere = reviewed["reviewed"].as_object().expect("an object by id");
    let mut problems = Vec::new();
    let (evasions, weaknesses) = (read("tests/corpora/evasions.json"), read("tests/corpora/weaknesses.json"));
    let ids = [&evasions["cases"], &weaknesses["rows"]].into_iter().flat_map(|list| list.as_array().expect("a list"));
    for id in ids.map(|entry| entry["id"].as_str().expect("an id")) {
        match (here.contains(id), elsewhere.get(id)) {
            (false, None) => problems.push(format!("{id} is neither a case nor reviewed")),
            (_, Some(review)) if review["reason"].as_str().is_none_or(str::is_empty) => problems.push(format!("{id}: no reason")),
            _ => {}
        }
    }
    // What a gateway can see, a test of this repository shows, and that test exists.
    for (id, review) in elsewhere {
        let tested = strings(review, "tested");
        if tested.is_empty() && review["invisible"] != true {
            problems.push(format!("{id}: no test shows it"));
        }
        problems.extend(tested.iter().filter(|place| !is_test(place)).map(|place| format!("{id}: there is no test {place}")));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Whether there is a test `file::name`: a function, or a case of a corpus.
fn is_test(place: &str) -> bool {
    let Some((path, name)) = place.split_once("::") else { return false };
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
    text.contains(&if path.ends_with(".json") { format!("\"id\": \"{name}\"") } else { format!("fn {name}(") })
}

#[test]
fn without_a_gateway_the_same_bytes_run_what_they_should_not() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let ran = std::process::Command::new(python).arg(root().join("tests/upstreams/selftest.py")).output().expect("python3");
    assert!(ran.status.success(), "{}", shown(&String::from_utf8_lossy(&ran.stdout)));
}

// ---------------------------------------------------------------- what a case did

/// What the gateway itself may send besides what the client asked for.
const OWN_METHODS: &[&str] =
    &["tools/list", "ping", "initialize", "notifications/initialized", "server/discover", "notifications/cancelled"];

/// The same where there are many servers: it asks them whose a resource is.
const OF_MANY: &[&str] = &["resources/list", "resources/templates/list"];

/// The same where a server speaks another era than its client: it listens to the server in the client's place.
const ACROSS: &[&str] = &["subscriptions/listen"];

fn reach_problems(case: &Value, reached: &[Value], mode: Mode, revision: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let wanted = strings(case, "reaches");
    let tools: Vec<&str> = wanted.iter().chain(&strings(case, "may_reach")).copied().collect();
    let methods: Vec<&str> = ["reaches_methods", "may_reach_methods"].iter().flat_map(|key| strings(case, key)).collect();
    let calls = || reached.iter().filter(|entry| entry["t"] == "call");
    for call in calls().filter(|call| !tools.contains(&call["tool"].as_str().unwrap_or_default())) {
        problems.push(format!(
            "BYPASS: the upstream would run {} with {} (readings {})",
            call["tool"], call["arguments"], call["reading"]
        ));
    }
    for tool in &wanted {
        if !calls().any(|call| call["tool"] == *tool) {
            problems.push(format!("the allowed call of {tool} did not reach the upstream"));
        }
    }
    let raw = || reached.iter().filter(|entry| entry["t"] == "raw" && entry["b64"] != "");
    for entry in raw() {
        let seen: Vec<&str> = strings(entry, "methods");
        let known = |method: &&str| {
            let is_own = OWN_METHODS.contains(method)
                || (mode == Mode::Federated && OF_MANY.contains(method))
                || (mode.crosses() && ACROSS.contains(method));
            is_own || methods.contains(method) || (*method == "tools/call" && !tools.is_empty())
        };
        if seen.is_empty() || !seen.iter().all(known) {
            let bytes = support::bytes_of(entry);
            problems.push(format!("the upstream received {seen:?}: {}", shown(&String::from_utf8_lossy(&bytes))));
        }
        let bytes = support::bytes_of(entry);
        let is_enveloped = String::from_utf8_lossy(&bytes).contains("io.modelcontextprotocol/protocolVersion");
        if mode.crosses() && seen.contains(&"tools/call") && is_enveloped == support::is_modern(revision) {
            problems.push(format!("the upstream got a call of the client's era: {}", shown(&String::from_utf8_lossy(&bytes))));
        }
        let never = case["never_raw"].as_str().filter(|_| entry["via"] == "stdio");
        if never.is_some_and(|text| String::from_utf8_lossy(&bytes).contains(text)) {
            problems.push(format!("{} reached the child unescaped", case["never_raw"]));
        }
        let headers = entry["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
        for name in headers.iter().filter_map(|header| header[0].as_str()) {
            if strings(case, "never_headers").contains(&name.to_ascii_lowercase().as_str()) {
                problems.push(format!("the header {name} reached the upstream"));
            }
        }
    }
    let has_text = |text: &str| raw().any(|entry| String::from_utf8_lossy(&support::bytes_of(entry)).contains(text));
    if let Some(text) = case["reaches_text"].as_str().filter(|text| !has_text(text)) {
        problems.push(format!("what reached the upstream lacks {text}"));
    }
    for method in strings(case, "reaches_methods") {
        if !raw().any(|entry| strings(entry, "methods").contains(&method)) {
            problems.push(format!("{method} did not reach the upstream"));
        }
    }
    problems
}

/// Every case of the corpus in one mode and revision.
fn check(mode: Mode, revision: &'static str) {
    let mut problems = Vec::new();
    let mut count = 0;
    for (policy, cases) in cases_for(mode, revision) {
        let mut rig = Rig::new(mode, revision, &policy, Server::lenient());
        let found: Vec<_> = cases.iter().map(|case| rig.judge(case)).collect();
        let (reached, recorded) = rig.finish();
        count += cases.len();
        for (number, case) in cases.iter().enumerate() {
            let mut found = found[number].clone();
            let none = Vec::new();
            found.extend(reach_problems(case, reached.get(&number).unwrap_or(&none), mode, revision));
            // Whoever is turned away at the door of many servers may be a stranger, and is not recorded.
            let at_the_door = mode == Mode::Federated && (case["raw"] == true || case["headers"].is_object());
            if case["recorded"] != false && !at_the_door && recorded.get(&number).is_none_or(Vec::is_empty) {
                found.push("no record in the audit log".to_owned());
            }
            let id = case["id"].as_str().expect("an id");
            problems.extend(found.into_iter().map(|problem| format!("{id} [{mode:?} {revision} {policy}] {problem}")));
        }
    }
    assert!(problems.is_empty(), "{} problems in {count} exchanges:\n{}", problems.len(), problems.join("\n"));
}

macro_rules! corpus {
    ($($name:ident: $mode:ident $revision:literal;)*) => {
        $(#[test] fn $name() { check(Mode::$mode, $revision); })*
    };
}

corpus! {
    nothing_slips_through_run_2024_11_05: Run "2024-11-05";
    nothing_slips_through_run_2025_03_26: Run "2025-03-26";
    nothing_slips_through_run_2025_06_18: Run "2025-06-18";
    nothing_slips_through_run_2025_11_25: Run "2025-11-25";
    nothing_slips_through_run_2026_07_28: Run "2026-07-28";
    nothing_slips_through_the_bridge_2025_03_26: Bridge "2025-03-26";
    nothing_slips_through_the_bridge_2025_11_25: Bridge "2025-11-25";
    nothing_slips_through_the_bridge_2026_07_28: Bridge "2026-07-28";
    nothing_slips_through_serve_2025_03_26: Serve "2025-03-26";
    nothing_slips_through_serve_2025_06_18: Serve "2025-06-18";
    nothing_slips_through_serve_2025_11_25: Serve "2025-11-25";
    nothing_slips_through_serve_2026_07_28: Serve "2026-07-28";
    nothing_slips_through_serve_with_a_child_2025_11_25: ServeChild "2025-11-25";
    nothing_slips_through_serve_with_a_child_2026_07_28: ServeChild "2026-07-28";
    nothing_slips_through_a_child_that_is_shared_2025_03_26: Shared "2025-03-26";
    nothing_slips_through_a_child_that_is_shared_2025_11_25: Shared "2025-11-25";
    nothing_slips_through_a_stream_to_a_child: Stream "2024-11-05";
    nothing_slips_through_a_stream_to_a_stream: StreamOld "2024-11-05";
    nothing_slips_through_the_bridge_to_a_stream: BridgeOld "2024-11-05";
    nothing_slips_through_many_servers_as_one_2025_03_26: Federated "2025-03-26";
    nothing_slips_through_many_servers_as_one_2025_11_25: Federated "2025-11-25";
    nothing_slips_through_many_servers_as_one_2026_07_28: Federated "2026-07-28";
    nothing_slips_through_to_a_modern_child: CrossRun "2025-03-26";
    nothing_slips_through_to_a_legacy_child: CrossRun "2026-07-28";
    nothing_slips_through_to_a_modern_server: CrossServe "2025-11-25";
    nothing_slips_through_to_a_legacy_server: CrossServe "2026-07-28";
}

// ---------------------------------------------------------------- sequences

#[test]
fn a_second_initialize_does_not_bring_batches_back() {
    let scratch = Scratch::new();
    let policy = root().join("tests/bypass/policies/closed.yaml");
    let mut client = Stdio::wrap(&policy, &scratch.state(), &[], &lenient(&scratch.log(), &["--stdio"]));
    client.begin(LEGACY);
    let params = json!({"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}});
    client.ask(LEGACY, "2", "initialize", params);
    client.send(format!("[{}]", call(LEGACY, "3", "delete_repo", json!({}))));
    client.call(LEGACY, "4", "sync_1", json!({}));
    assert_eq!(support::tools_run(&scratch.log()), ["sync_1"]);
}

#[test]
fn calls_need_no_handshake_to_be_judged() {
    for mode in [Mode::Run, Mode::Bridge] {
        let scratch = Scratch::new();
        let policy = root().join("tests/bypass/policies/closed.yaml");
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        let mut client = match mode {
            Mode::Run => Stdio::wrap(&policy, &scratch.state(), &[], &lenient(&scratch.log(), &["--stdio"])),
            _ => Stdio::bridge(&policy, &scratch.state(), &upstream.url()),
        };
        client.send(call(LEGACY, "1", "delete_repo", json!({})));
        let reply = client.reply("1");
        assert!(support::is_denied(&reply) || reply["error"].is_object(), "{mode:?}: {reply}");
        client.call(MODERN, "2", "sync_2", json!({}));
        assert_eq!(support::tools_run(&scratch.log()), ["sync_2"], "{mode:?}");
    }
}
