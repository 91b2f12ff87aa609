//! Policies that change: what was recorded, decided again; what was tried in shadow; what is suggested.

mod support;

use serde_json::{Value, json};
use std::path::Path;
use support::http::Client;
use support::stdio::Stdio;
use support::{LEGACY, MODERN, Ran, Scratch, Served, audit, is_denied, lenient, run};

/// Makes calls through `callgate run` under a policy, and gives the replies. Everything is kept of their arguments.
#[track_caller]
fn live(scratch: &Scratch, policy: &str, calls: &[(&str, Value)]) -> Vec<Value> {
    let policy = scratch.policy(policy);
    let command = lenient(&scratch.log(), &["--stdio"]);
    let mut client = Stdio::wrap(&policy, &scratch.state(), &["--server", "s", "--audit-args", "full"], &command);
    client.begin(LEGACY);
    let mut replies = Vec::new();
    for (i, (tool, arguments)) in calls.iter().enumerate() {
        replies.push(client.call(LEGACY, &(i + 1).to_string(), tool, arguments.clone()));
        if replies[i]["result"]["_meta"]["dev.callgate/decision"]["reason"] == "approval-required" {
            approve(&scratch.state());
        }
    }
    client.close_stdin();
    client.ended(support::PATIENCE).expect("it ends with its client");
    replies
}

/// Says yes to whatever waits.
#[track_caller]
fn approve(state: &str) {
    let waiting = run(&["approvals", "list", "--json", "--state", state], "");
    for line in waiting.stdout.lines() {
        let approval: Value = serde_json::from_str(line).expect("one object a line");
        let answered = run(&["approvals", "approve", approval["id"].as_str().expect("an id"), "--state", state], "");
        assert_eq!(answered.code, 0, "{}", answered.stderr);
    }
}

fn replay(scratch: &Scratch, policy: &Path, more: &[&str]) -> Ran {
    let (policy, state) = (policy.display().to_string(), scratch.state());
    run(&[&["replay", "--policy", &policy, "--state", &state], more].concat(), "")
}

#[track_caller]
fn replayed(scratch: &Scratch, policy: &str) -> Value {
    let policy = scratch.write("candidate.yaml", policy);
    let ran = replay(scratch, &policy, &["--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("one object: {error}: {}", ran.stdout))
}

const POLICY: &str = r#"version: "1"
default: deny
tools:
  echo:
    rules:
      - {name: short, conditions: [{path: args.text, op: length_lte, value: 5}]}
      - {name: three, rate_limit: 3/hour}
      - {name: asks, action: require_approval, conditions: [{path: args.text, op: eq, value: ask}]}
  pay: {rules: [{name: once, idempotency_window: 1h}]}
"#;

fn calls() -> Vec<(&'static str, Value)> {
    let echo = |text: &str| ("echo", json!({"text": text}));
    vec![
        echo("a"),
        echo("much too long"),
        echo("ask"),
        // Approved meanwhile.
        echo("ask"),
        echo("b"),
        echo("c"),
        ("pay", json!({"count": 1, "region": "eu"})),
        ("pay", json!({"region": "eu", "count": 1.0})),
        ("unlisted", json!({})),
    ]
}

#[test]
fn a_replay_under_the_same_policy_predicts_exactly_what_happened() {
    let scratch = Scratch::new();
    let replies = live(&scratch, POLICY, &calls());
    let reasons: Vec<&str> = replies
        .iter()
        .map(|reply| reply["result"]["_meta"]["dev.callgate/decision"]["reason"].as_str().unwrap_or("allowed"))
        .collect();
    let expected = [
        "allowed",
        "condition-failed",
        "approval-required",
        "allowed",
        "allowed",
        "limit-reached",
        "allowed",
        "duplicate-call",
        "default-deny",
    ];
    assert_eq!(reasons, expected);
    let told = replayed(&scratch, POLICY);
    assert_eq!((&told["decided"], &told["different"], &told["not_known"]), (&json!(9), &json!(0), &json!(0)), "{told}");
    assert_eq!(told["notes"], json!([]));
    let shown = replay(&scratch, &scratch.path("candidate.yaml"), &["--exit-code"]);
    assert_eq!((shown.code, shown.stdout.as_str()), (0, "9 decisions made again: all the same\n"));
}

/// A configuration with two servers and these grants, under this name.
fn configuration(scratch: &Scratch, name: &str, grants: &Value) -> String {
    let child = lenient(&scratch.log(), &["--stdio"]);
    let server = json!({"command": child, "policy": "open.yaml", "pin": "off"});
    let config = json!({
        "listen": "127.0.0.1:0",
        "state": scratch.state(),
        "servers": {"one": server, "two": server},
        "grants": grants,
        "audit": {"arguments": "full"},
    });
    scratch.write(name, config.to_string()).display().to_string()
}

#[test]
fn a_configuration_is_replayed_with_its_servers_and_grants() {
    let scratch = Scratch::new();
    scratch.write("open.yaml", "version: \"1\"\ndefault: allow\n");
    scratch.write("little.yaml", "version: \"1\"\ndefault: deny\ntools: {echo: {}}\n");
    let tokens = ["ada", "ci"].map(|name| format!("a-token-of-{name}-0123456789"));
    scratch.write("ada", &tokens[0]);
    scratch.write("ci", &tokens[1]);
    let ada = json!({"name": "ada", "principal": "p:ada", "token": "file:ada", "servers": ["one", "two"], "limits": ["2/day"]});
    let ci = json!({"name": "ci", "principal": "p:ci", "token": "file:ci", "servers": ["one"], "policy": "little.yaml"});
    let now = configuration(&scratch, "callgate.yaml", &json!([ada, ci]));
    let made = run(&["grants", "create", "bot", "--server", "two", "-c", &now], "");
    assert_eq!(made.code, 0, "{}", made.stderr);
    let bot = made.stdout.trim().to_owned();

    let served = Served::configured(Path::new(&now), &[]);
    let call = |server: &str, token: &str, tool: &str, arguments: Value| {
        let client = Client::silent(&served.address, MODERN).at(&format!("/mcp/{server}"), token);
        is_denied(&client.call("1", tool, arguments))
    };
    let denied = [
        call("one", &tokens[0], "echo", json!({"n": 1})),
        call("one", &tokens[0], "echo", json!({"n": 2})),
        call("one", &tokens[0], "echo", json!({"n": 3})),
        call("two", &tokens[0], "echo", json!({"n": 4})),
        call("one", &tokens[1], "echo", json!({"n": 5})),
        call("one", &tokens[1], "read_file", json!({})),
        call("two", &bot, "echo", json!({"n": 6})),
    ];
    assert_eq!(denied, [false, false, true, false, false, true, false]);
    drop(served);

    let replayed = |config: &str, more: &[&str]| -> Value {
        let ran = run(&[&["replay", "-c", config, "--json"], more].concat(), "");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("one object: {error}: {}", ran.stdout))
    };
    let told = replayed(&now, &[]);
    assert_eq!((&told["decided"], &told["different"], &told["not_known"]), (&json!(7), &json!(0), &json!(0)), "{told}");
    assert_eq!(told["notes"], json!([]));

    // A tighter limit, a server less, a grant less; and what the state keeps is part of it.
    let mut less = ada.clone();
    (less["limits"], less["servers"]) = (json!(["1/day"]), json!(["one"]));
    let candidate = configuration(&scratch, "candidate.yaml", &json!([less]));
    let of = |told: &Value| -> Vec<String> {
        let differences = told["differences"].as_array().expect("a list").iter();
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        differences
            .map(|one| {
                [&one["grant"], &one["server"], &one["tool"], &one["was"]["reason"], &one["now"]["reason"]].map(word).join(" ")
            })
            .collect()
    };
    let expected = [
        "ada one echo allowed limit-reached",
        "ada two echo allowed default-deny",
        "ci one echo allowed grant-ended",
        "ci one read_file default-deny grant-ended",
    ];
    let told = replayed(&candidate, &[]);
    assert_eq!((of(&told), &told["decided"]), (expected.map(str::to_owned).to_vec(), &json!(7)), "{told}");
    assert_eq!(of(&replayed(&candidate, &["--grant", "ci"])), expected[2..]);
    assert_eq!(of(&replayed(&candidate, &["--server", "two"])), expected[1..2]);

    // What was taken back since says nothing of the candidate.
    assert_eq!(run(&["grants", "revoke", "bot", "-c", &now], "").code, 0);
    let told = replayed(&now, &[]);
    assert_eq!((&told["decided"], &told["different"], &told["not_known"]), (&json!(6), &json!(0), &json!(1)), "{told}");
    assert_eq!(told["unknown"][0]["why"], "its grant was revoked since");
}

#[test]
fn a_replay_under_another_policy_lists_what_would_differ() {
    let scratch = Scratch::new();
    live(&scratch, POLICY, &calls());
    let told = replayed(&scratch, &POLICY.replace("value: 5", "value: 50").replace("3/hour", "2/hour"));
    let differences: Vec<(String, String)> = told["differences"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["was"]["reason"].as_str().unwrap().to_owned(), one["now"]["reason"].as_str().unwrap().to_owned()))
        .collect();
    let pair = |was: &str, now: &str| (was.to_owned(), now.to_owned());
    // The long text takes one of the two, so that nothing is left for what was approved.
    let expected = [pair("condition-failed", "allowed"), pair("allowed", "limit-reached"), pair("allowed", "limit-reached")];
    assert_eq!(differences, expected, "{told}");
    assert_eq!((&told["stricter"], &told["looser"]), (&json!(2), &json!(1)));
    let shown = replay(&scratch, &scratch.path("candidate.yaml"), &["--exit-code"]);
    assert_eq!(shown.code, 1);
    assert!(shown.stdout.contains("was deny condition-failed (short), would be allow; id "), "{}", shown.stdout);
}

#[test]
fn what_was_tried_in_shadow_is_what_happens_when_it_is_enforced() {
    let rules = "tools:
  echo:
    rules:
      - {name: short, conditions: [{path: args.text, op: length_lte, value: 5}]}
      - {name: asks, action: require_approval, conditions: [{path: args.text, op: eq, value: ask}]}
";
    let enforced = format!("version: \"1\"\n{rules}");
    let tried = Scratch::new();
    let replies = live(&tried, &format!("version: \"1\"\nmode: shadow\n{rules}"), &calls()[..5]);
    assert!(replies.iter().all(|reply| !is_denied(reply)), "{replies:?}");
    let decided: Vec<Value> = audit(&tried.state()).into_iter().filter(|record| record["phase"] == "decided").collect();
    let marked: Vec<&Value> = decided.iter().filter(|record| record["shadow"].is_object()).map(|record| &record["seq"]).collect();
    let told = replayed(&tried, &enforced);
    let predicted: Vec<&Value> = told["differences"].as_array().unwrap().iter().map(|one| &one["seq"]).collect();
    assert_eq!(marked, predicted, "{told}");
    // And so it is, up to the question that a person answers here.
    let replies = live(&Scratch::new(), &enforced, &calls()[..3]);
    let marked: Vec<bool> = decided.iter().map(|record| record["shadow"].is_object()).collect();
    assert_eq!(replies.iter().map(is_denied).collect::<Vec<_>>(), marked[..3]);
}

#[test]
fn what_the_records_do_not_hold_is_said() {
    let scratch = Scratch::new();
    let policy = scratch.policy("version: \"1\"\ntools: {x: {action: deny}}\n");
    let command = lenient(&scratch.log(), &["--stdio"]);
    let mut client = Stdio::wrap(&policy, &scratch.state(), &["--server", "s"], &command);
    client.begin(LEGACY);
    client.call(LEGACY, "1", "echo", json!({"text": "a"}));
    drop(client);
    let told = replayed(&scratch, POLICY);
    assert_eq!((&told["decided"], &told["not_known"]), (&json!(0), &json!(1)), "{told}");
    assert!(told["unknown"][0]["why"].as_str().unwrap().contains("--audit-args full"), "{told}");
    let told = replayed(&scratch, "version: \"1\"\ndefault: deny\nrisk: {read: {}}\n");
    assert_eq!((&told["decided"], &told["different"]), (&json!(1), &json!(1)), "{told}");
    assert!(told["notes"][0].as_str().unwrap().contains("every class of risk"), "{told}");
}

#[test]
fn a_suggested_policy_is_checked_and_allows_what_was_allowed() {
    let scratch = Scratch::new();
    live(&scratch, POLICY, &calls());
    let (suggested, state) = (scratch.path("suggested.yaml"), scratch.state());
    let place = suggested.display().to_string();
    let ran = run(&["policy", "suggest", "--from-audit", "--state", &state, "-o", &place], "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("4 of 4 calls would be allowed"), "{}", ran.stderr);
    let checked = run(&["check", &place], "");
    assert_eq!((checked.code, checked.stdout.as_str()), (0, format!("{place}: valid\n").as_str()));
    let text = std::fs::read_to_string(&suggested).unwrap();
    assert!(text.contains("\"echo\":") && text.contains("\"pay\":") && !text.contains("unlisted"), "{text}");
    let told: Value = serde_json::from_str(&replay(&scratch, &suggested, &["--json"]).stdout).unwrap();
    assert_eq!(told["stricter"], 0, "{told}");
    // Never over what somebody has edited.
    assert_eq!(run(&["policy", "suggest", "--from-audit", "--state", &state, "-o", &place], "").code, 1);
    let all = run(&["policy", "suggest", "--from-audit", "--include-denied", "--state", &state], "");
    assert!(all.stdout.contains("\"unlisted\":") && all.stderr.contains("9 of 9"), "{}{}", all.stdout, all.stderr);
}

#[test]
fn rules_that_no_example_has_decided_are_listed() {
    let scratch = Scratch::new();
    scratch.write("policy.yaml", POLICY);
    let tests = "```policy file=policy.yaml\n```\n```calls\necho {\"text\": \"much too long\"} # deny rule=short\npay # allow\npay # deny rule=once\n```\n";
    let page = scratch.write("tests.md", tests);
    let page = page.display().to_string();
    let ran = run(&["test", &page, "--coverage"], "");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("policy.yaml:7: no example is decided by `three`\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("1 policy, 3 calls, 2 of 4 rules decided"), "{}", ran.stdout);
    let told: Value = serde_json::from_str(&run(&["test", &page, "--json"], "").stdout).unwrap();
    assert_eq!((&told["rules"], &told["undecided"][1]["rule"]), (&json!(4), &json!("asks")), "{told}");
}

#[test]
fn pinned_tools_say_what_schemas_and_classes_are() {
    let scratch = Scratch::new();
    let tools = json!({"server": "files", "tools": [
        {"name": "wipe", "description": "Deletes everything for good.", "inputSchema": {"type": "object", "required": ["really"]}},
        {"name": "look", "description": "Reads a file.", "inputSchema": {"type": "object", "required": ["path"]}},
    ]});
    let tools = scratch.write("tools.json", tools.to_string()).display().to_string();
    let lock = scratch.path("callgate.lock").display().to_string();
    assert_eq!(run(&["pin", "--lock", &lock, "--tools", &tools], "").code, 0);
    let policy = "version: \"1\"\ndefault: deny\nrisk: {read: {validate: {required_args: true}}, destructive: hide}\n";
    let policy = scratch.policy(policy).display().to_string();
    for source in [["--tools", &tools], ["--lock", &lock]] {
        let decided = |tool: &str| {
            let ran = run(&[&["explain", "-p", &policy, "--tool", tool, "--json"], &source[..]].concat(), "");
            let told: Value = serde_json::from_str(&ran.stdout).expect("one object");
            told["reason"].as_str().unwrap().to_owned()
        };
        assert_eq!(
            (decided("look"), decided("wipe"), decided("other")),
            ("invalid-arguments".into(), "hidden".into(), "hidden".into())
        );
        assert_eq!(run(&[&["check", &policy], &source[..]].concat(), "").code, 0);
    }
    let nothing = run(&["explain", "-p", &policy, "--tool", "look", "--lock", "/nowhere"], "");
    assert_eq!(nothing.code, 1, "{}", nothing.stderr);
}
