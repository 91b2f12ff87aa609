//! The commands as users and their scripts see them: exit codes, what is printed where, and the shapes of the JSON.

mod support;

use serde_json::{Value, json};
use std::path::Path;
use support::stdio::Stdio;
use support::{
    HttpUpstream, LEGACY, PATIENCE, Ran, Scratch, Served, audit, callgate, is_denied, names, run, send_signal, text_of, until,
};

const POLICY: &str = "\
version: \"1\"
default: deny
hide: [DeleteAHOConfiguration]
tools:
  StartAHORun:
    rules:
      - {name: the lab's own, conditions: [{path: args.aws_profile, op: eq, value: lab}], on_deny: Use lab.}
      - {name: two a minute, rate_limit: 2/minute}
  StartAHORunBatch:
    rules: [{name: ask first, action: require_approval}]
  ListAHORuns: {}
";

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[track_caller]
fn assert_code(ran: &Ran, code: i32) {
    assert_eq!(ran.code, code, "stdout: {}\nstderr: {}", ran.stdout, ran.stderr);
}

#[track_caller]
fn json_of(ran: &Ran) -> Value {
    serde_json::from_str(ran.stdout.trim()).unwrap_or_else(|error| panic!("{error}: {}{}", ran.stdout, ran.stderr))
}

/// The demo's own server behind `callgate run`, so that nothing else need be installed.
struct Wrapped {
    scratch: Scratch,
    state: String,
    client: Stdio,
}

impl Wrapped {
    #[track_caller]
    fn start() -> Wrapped {
        let scratch = Scratch::new();
        let state = scratch.state();
        let command =
            vec![env!("CARGO_BIN_EXE_callgate").to_owned(), "demo-server".to_owned(), text(&scratch.path("server.json"))];
        let mut client = Stdio::wrap(&scratch.policy(POLICY), &state, &["--server", "lab"], &command);
        client.begin(LEGACY);
        Wrapped { scratch, state, client }
    }

    #[track_caller]
    fn call(&mut self, id: u32, tool: &str, arguments: Value) -> Value {
        self.client.call(LEGACY, &id.to_string(), tool, arguments)
    }

    #[track_caller]
    fn end(&mut self) {
        self.client.close_stdin();
        let status = self.client.ended(PATIENCE).expect("the end of stdin ends the gateway");
        assert!(status.success(), "{status}: {}", self.client.said());
    }

    #[track_caller]
    fn command(&self, words: &[&str]) -> Ran {
        run(&[words, &["--state", &self.state]].concat(), "")
    }
}

#[test]
fn help_lists_every_command_and_no_other() {
    let ran = run(&["--help"], "");
    assert_code(&ran, 0);
    let listed: Vec<&str> = ran
        .stdout
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split_whitespace().next())
        .collect();
    let expected = [
        "run",
        "serve",
        "check",
        "explain",
        "simulate",
        "test",
        "replay",
        "policy",
        "scan",
        "pin",
        "diff",
        "inspect",
        "catalog",
        "attacks",
        "audit",
        "approvals",
        "grants",
        "authorizations",
        "status",
        "init",
        "demo",
        "completions",
        "man",
        "help",
    ];
    assert_eq!(listed, expected);
    for command in expected.into_iter().filter(|command| *command != "help") {
        let ran = run(&[command, "--help"], "");
        assert_code(&ran, 0);
        assert!(command == "demo" || ran.stdout.contains("Example"), "{command} shows no example");
    }
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for words in [
        &["grants", "create"][..],
        &["run", "-p", "p.yaml"],
        &["check"],
        &["explain", "-p", "p.yaml", "--tool", "t", "--args", "{"],
        &["explain", "-p", "p.yaml", "--tool", "t", "--args", "[]"],
        &["audit", "list", "--since", "yesterday"],
        &["run", "-p", "p.yaml", "--state", "mysql://h", "--", "cat"],
        &["serve", "-c", "callgate.yaml", "-p", "p.yaml"],
        &["serve", "-p", "p.yaml"],
        &["run", "-p", "p.yaml", "--upstream", "ftp://h/"],
    ] {
        let scratch = Scratch::new();
        let policy = text(&scratch.policy(POLICY));
        let words: Vec<&str> = words.iter().map(|word| if *word == "p.yaml" { policy.as_str() } else { word }).collect();
        assert_code(&run(&words, ""), 2);
    }
}

#[test]
fn check_reports_every_mistake_with_its_place() {
    let scratch = Scratch::new();
    let bad = text(
        &scratch.write("bad.yaml", "version: \"1\"\ndefualt: deny\ntools:\n  t: {rules: [{name: r, rate_limit: 5/fortnight}]}\n"),
    );
    let warned = text(&scratch.write("warned.yaml", "tools: {t: {rules: [{action: deny}]}}\n"));
    let ran = run(&["check", &bad, &warned, "--json"], "");
    assert_code(&ran, 3);
    let report = json_of(&ran);
    assert_eq!(report["valid"], false);
    let problems = report["problems"].as_array().unwrap();
    let first = &problems[0];
    assert_eq!(
        (
            first["file"].as_str(),
            first["line"].as_u64(),
            first["column"].as_u64(),
            first["end_line"].as_u64(),
            first["end_column"].as_u64()
        ),
        (Some(bad.as_str()), Some(2), Some(1), Some(2), Some(8))
    );
    assert_eq!(
        (&first["severity"], &first["code"], &first["help"]),
        (&json!("error"), &json!("P010"), &json!("write `default`"))
    );
    assert!(problems.iter().any(|problem| problem["line"] == 4), "{problems:?}");
    assert!(problems.iter().any(|problem| problem["file"] == warned.as_str() && problem["severity"] == "warning"));

    let ran = run(&["check", &bad], "");
    assert_code(&ran, 3);
    assert!(ran.stdout.contains("defualt: deny\n") && ran.stdout.contains("^^^^^^^"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with(&format!("{bad}: not valid, 2 errors\n")), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}'), "no colours but on a terminal");

    let ran = run(&["check", &warned], "");
    assert_code(&ran, 0);
    assert!(ran.stdout.ends_with("valid, 1 warning\n"), "{}", ran.stdout);
    assert_code(&run(&["check", "/nonexistent/policy.yaml"], ""), 3);
}

#[test]
fn check_judges_names_and_arguments_by_real_tools() {
    let scratch = Scratch::new();
    let tools = text(&scratch.write("tools.json", r#"{"server": "s", "tools": [{"name": "pay", "inputSchema": {"type": "object", "properties": {"amount": {"type": "number"}}}}]}"#));
    let policy = text(&scratch.policy("version: \"1\"\ntools:\n  pya: {rules: [{name: r, action: deny}]}\n"));
    let report = json_of(&run(&["check", &policy, "--tools", &tools, "--json"], ""));
    let problems = report["problems"].as_array().unwrap();
    assert!(problems.iter().any(|problem| problem["code"] == "P201" && problem["line"] == 3), "{report}");
    assert_code(&run(&["check", &policy, "--tools", "/nonexistent"], ""), 1);
}

#[test]
fn explain_shows_the_steps_and_exits_with_4_for_a_denial() {
    let scratch = Scratch::new();
    let policy = text(&scratch.policy(POLICY));
    let explain = |tool: &str, arguments: &str, more: &[&str]| {
        run(&[&["explain", "-p", &policy, "--tool", tool, "--args", arguments], more].concat(), "")
    };
    let ran = explain("StartAHORun", r#"{"aws_profile":"lab"}"#, &["--json"]);
    assert_code(&ran, 0);
    let decision = json_of(&ran);
    assert_eq!(
        (&decision["outcome"], &decision["reason"], &decision["rule"]),
        (&json!("allow"), &json!("allowed"), &Value::Null)
    );
    assert_eq!(decision["steps"].as_array().unwrap().len(), 2);

    let ran = explain("StartAHORun", r#"{"aws_profile":"admin"}"#, &["--json"]);
    assert_code(&ran, 4);
    assert_eq!(json_of(&ran)["message"], "Use lab.");

    let ran = explain("StartAHORun", r#"{"aws_profile":"admin"}"#, &[]);
    assert_code(&ran, 4);
    assert!(ran.stdout.starts_with("deny  StartAHORun\n  reason   condition-failed\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("args.aws_profile eq \"lab\""), "{}", ran.stdout);

    assert_code(&explain("StartAHORunBatch", "{}", &[]), 0);
    assert_code(&explain("Unlisted", "{}", &[]), 4);
}

#[test]
fn explain_knows_other_methods_than_calls() {
    let scratch = Scratch::new();
    let policy = "version: \"1\"\nmethods: {prompts: deny}\nserver_requests: {elicitation: {url: deny}}\n";
    let policy = text(&scratch.policy(policy));
    for (words, code, rule) in [
        (&["--method", "prompts/get"][..], 4, json!("/methods/prompts")),
        (&["--method", "elicitation/create", "--mode", "url"], 4, json!("/server_requests/elicitation/url")),
        (&["--method", "elicitation/create"], 0, Value::Null),
        (&["--method", "resources/read"], 0, Value::Null),
    ] {
        let ran = run(&[&["explain", "-p", &policy, "--json"], words].concat(), "");
        assert_code(&ran, code);
        assert_eq!(json_of(&ran)["rule"], rule, "{words:?}");
    }
    assert_code(&run(&["explain", "-p", &policy, "--tool", "t", "--method", "ping"], ""), 2);
    assert_code(&run(&["explain", "-p", &policy], ""), 2);
}

#[test]
fn simulate_prints_one_decision_a_line() {
    let scratch = Scratch::new();
    let policy = text(&scratch.policy(POLICY));
    let call = r#"{"tool":"StartAHORun","arguments":{"aws_profile":"lab"},"at":"2026-01-15T10:30:00Z"}"#;
    let later = call.replace("10:30:00", "10:32:00");
    let calls = format!("{call}\n{call}\n\n{call}\n{later}\n{}\n", call.replace("\"at\"", "\"grant\":\"other\",\"at\""));
    let ran = run(&["simulate", "-p", &policy, "--calls", "-", "--json"], &calls);
    assert_code(&ran, 0);
    let decisions: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: Vec<&str> = decisions.iter().map(|decision| decision["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["allow", "allow", "deny", "allow", "allow"]);
    assert_eq!((&decisions[2]["reason"], &decisions[2]["rule"]), (&json!("limit-reached"), &json!("two a minute")));
    let retry = decisions[2]["retryAfterMs"].as_u64().unwrap();
    assert!((1..=61_000).contains(&retry), "{retry}");
    let from_file = run(&["simulate", "-p", &policy, "--calls", &text(&scratch.write("calls.jsonl", &calls))], "");
    assert_eq!(from_file.stdout, ran.stdout);
}

#[test]
fn simulate_says_which_line_it_cannot_read() {
    let scratch = Scratch::new();
    let policy = text(&scratch.policy(POLICY));
    let ran = run(&["simulate", "-p", &policy, "--calls", "-"], "{\"tool\":\"ListAHORuns\"}\n{\"tool\":5}\n");
    assert_code(&ran, 1);
    assert_eq!(ran.stdout.lines().count(), 1);
    assert_eq!(ran.stderr, "error: stdin:2: `tool` must be a string\n");
    let broken = text(&scratch.write("broken.yaml", "defualt: deny\n"));
    for words in [&["simulate", "-p", &broken, "--calls", "-"][..], &["explain", "-p", &broken, "--tool", "t"]] {
        let ran = run(words, "");
        assert_code(&ran, 3);
        assert!(ran.stderr.contains("unknown key `defualt`"), "{}", ran.stderr);
    }
}

#[test]
fn tests_of_policies_exit_with_4_where_an_expectation_fails() {
    let scratch = Scratch::new();
    let book = |expected: &str| {
        format!(
            "# A page\n```policy\nversion: \"1\"\ntools: {{t: {{rules: [{{name: r, action: deny}}]}}}}\n```\n```calls\nt # {expected}\n```\n"
        )
    };
    let good = text(&scratch.write("good.md", book("deny denied-by-rule")));
    let ran = run(&["test", &good], "");
    assert_code(&ran, 0);
    assert_eq!(ran.stdout, format!("ok     {good}: 1 policy, 1 call\n"));
    let bad = text(&scratch.write("bad.md", book("allow")));
    scratch.write("notes.txt", "```policy\n");
    let ran = run(&["test", &text(&scratch.path(""))], "");
    assert_code(&ran, 4);
    assert!(ran.stdout.starts_with(&format!("{bad}:7: expected allow, got deny denied-by-rule")), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("2 files: 2 policies, 2 calls, 1 failed\n"), "{}", ran.stdout);
    assert_code(&run(&["test", &text(&scratch.write("none.md", "prose"))], ""), 1);
}

#[test]
fn a_policy_with_errors_starts_nothing() {
    let scratch = Scratch::new();
    let policy = text(&scratch.policy("version: \"1\"\ntools: {t: {rules: [{name: r, action: dney}]}}\n"));
    let started = text(&scratch.path("started"));
    for words in [&["run", "-p", &policy, "--", "touch", &started][..], &["serve", "-p", &policy, "--", "touch", &started]] {
        let ran = run(words, "");
        assert_code(&ran, 3);
        assert!(ran.stderr.contains("policy.yaml:2:") && ran.stderr.contains("dney"), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
    assert!(!scratch.path("started").exists());
    let everybody = scratch.write("open.yaml", POLICY);
    std::fs::set_permissions(&everybody, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let ran = run(&["run", "-p", &text(&everybody), "--", "cat"], "");
    assert_code(&ran, 3);
    assert!(ran.stderr.contains("chmod o-w"), "{}", ran.stderr);
}

#[test]
fn whoever_names_no_server_is_told_how() {
    let scratch = Scratch::new();
    let policy = text(&scratch.policy(POLICY));
    for words in [&["serve", "-p", &policy][..], &["run", "-p", &policy], &["scan"]] {
        let ran = run(words, "");
        assert_code(&ran, 2);
        assert!(ran.stderr.contains("`-- COMMAND`") && ran.stderr.contains("`--upstream URL`"), "{words:?}: {}", ran.stderr);
    }
}

#[test]
fn credentials_in_an_address_are_refused_and_not_repeated() {
    let scratch = Scratch::new();
    let policy = text(&scratch.policy(POLICY));
    for url in ["http://ada:5ecret@127.0.0.1:9/mcp", "https://5ecret@example.org/mcp"] {
        for command in ["serve", "run"] {
            let ran = run(&[command, "-p", &policy, "--upstream", url], "");
            assert_code(&ran, 2);
            assert!(ran.stderr.contains("--header") && !ran.stderr.contains("5ecret"), "{}", ran.stderr);
        }
    }
}

#[test]
fn run_passes_on_how_its_child_ends() {
    let scratch = Scratch::new();
    let (policy, state) = (text(&scratch.policy(POLICY)), scratch.state());
    assert_code(&run(&["run", "-c", &policy, "--state", &state, "--", "sh", "-c", "exit 7"], ""), 7);
    let ran = run(&["run", "-p", &policy, "--state", &state, "--", "/nonexistent/server"], "");
    assert_code(&ran, 1);
    assert!(ran.stderr.contains("cannot start `/nonexistent/server`"), "{}", ran.stderr);
}

#[test]
fn a_listener_that_others_could_reach_is_refused() {
    let scratch = Scratch::new();
    let policy = text(&scratch.policy(POLICY));
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7420"] {
        let ran = run(&["serve", "-p", &policy, "--listen", address, "--", "cat"], "");
        assert_code(&ran, 3);
        assert!(ran.stderr.contains("no credentials"), "{}", ran.stderr);
    }
}

#[test]
fn serve_says_where_it_listens_and_signs_off() {
    let scratch = Scratch::new();
    let (policy, state) = (text(&scratch.policy(POLICY)), scratch.state());
    let server = text(&scratch.path("server.json"));
    let served = Served::start(&["-p", &policy, "--state", &state, "--", env!("CARGO_BIN_EXE_callgate"), "demo-server", &server]);
    let mut client = support::http::Client::begin(&served.address, LEGACY);
    assert!(is_denied(&client.call("1", "StartAHORun", json!({"aws_profile": "admin"}))));
    client.session = None;
    let mut served = served;
    served.signal(rustix::process::Signal::TERM);
    let status = support::ended(&mut served.child, PATIENCE).expect("SIGTERM ends it");
    assert_eq!(status.code(), Some(0));
    assert_eq!(audit(&state)[0]["outcome"], "deny");
    support::assert_verified(&state);
}

#[test]
fn what_was_decided_can_be_listed_filtered_shown_and_verified() {
    let mut wrapped = Wrapped::start();
    let listed = wrapped.client.ask(LEGACY, "1", "tools/list", json!({}));
    assert_eq!(names(&listed), ["StartAHORun", "ListAHORuns", "StartAHORunBatch"]);
    for id in 2..=4 {
        wrapped.call(id, "StartAHORun", json!({"aws_profile": "lab", "name": "n"}));
    }
    let hidden = wrapped.call(5, "DeleteAHOConfiguration", json!({}));
    wrapped.end();

    let records = audit(&wrapped.state);
    let keys = [
        "seq",
        "id",
        "at",
        "phase",
        "server",
        "method",
        "tool",
        "principal",
        "grant",
        "outcome",
        "reason",
        "rule",
        "policy",
        "reply",
        "hash",
        "prev",
    ];
    for record in &records {
        for key in keys {
            assert!(record.get(key).is_some(), "{key}: {record}");
        }
    }
    let decided: Vec<&Value> = records.iter().filter(|record| record["phase"] == "decided").collect();
    assert_eq!(decided.len(), 4);
    assert!(decided.iter().all(|record| record["arguments"]["hmac"].is_string()), "arguments are kept as digests from the first");
    let id = hidden["result"]["_meta"]["dev.callgate/decision"]["id"].as_str().unwrap().to_owned();

    let lines = |words: &[&str]| wrapped.command(&[&["audit", "list", "--json"], words].concat()).stdout.lines().count();
    assert_eq!(lines(&["--outcome", "deny"]), 2);
    assert_eq!(lines(&["--reason", "limit-reached", "--tool", "StartAHORun", "--server", "lab"]), 1);
    assert_eq!(lines(&["--phase", "finished"]), 2);
    assert_eq!(lines(&["--since", "1h", "--limit", "3"]), 3);
    assert_eq!(lines(&["--until", "1h"]), 0);
    assert_eq!(lines(&["--server", "other"]), 0);
    assert_eq!(lines(&[]), records.len());

    let table = wrapped.command(&["audit", "list"]);
    assert!(table.stdout.starts_with("SEQ  AT"), "{}", table.stdout);
    assert!(table.stdout.contains("deny     limit-reached  two a minute"), "{}", table.stdout);
    assert!(wrapped.command(&["audit", "show", &id]).stdout.contains("tool       DeleteAHOConfiguration"));
    assert_eq!(json_of(&wrapped.command(&["audit", "show", &id, "--json"]))["reason"], "hidden");
    assert_code(&wrapped.command(&["audit", "show", "nothing"]), 1);
    let exported = wrapped.command(&["audit", "export"]).stdout;
    assert_eq!(exported, wrapped.command(&["audit", "list", "--json"]).stdout);

    let verified = wrapped.command(&["audit", "verify"]);
    assert_code(&verified, 0);
    assert!(verified.stdout.starts_with("the chain is whole") && verified.stdout.contains("cannot find"), "{}", verified.stdout);
    let verified = json_of(&wrapped.command(&["audit", "verify", "--json"]));
    assert_eq!((&verified["valid"], &verified["records"]), (&json!(true), &json!(records.len())));
    assert!(verified["first_broken"].is_null() && verified["undetectable"].is_array());

    let status = json_of(&wrapped.command(&["status", "--json"]));
    let server = &status["servers"][0];
    assert_eq!((&server["server"], &server["calls"], &server["denied"]), (&json!("lab"), &json!(4), &json!(2)), "{status}");
    assert_eq!(server["top_rules"].as_array().unwrap().len(), 2);
    assert!(wrapped.command(&["status"]).stdout.contains("two a minute"));
}

#[test]
fn a_spoilt_log_is_found_and_exits_with_5() {
    let mut wrapped = Wrapped::start();
    wrapped.call(1, "ListAHORuns", json!({}));
    wrapped.call(2, "StartAHORun", json!({"aws_profile": "admin"}));
    wrapped.end();
    let database = wrapped.scratch.path("callgate.db");
    let mut bytes = std::fs::read(&database).unwrap();
    let place = bytes.windows(9).position(|part| part == b"Use lab.\"").expect("the message of the denial is on record");
    bytes[place] = b'X';
    std::fs::write(&database, bytes).unwrap();
    let ran = wrapped.command(&["audit", "verify", "--json"]);
    assert_code(&ran, 5);
    let report = json_of(&ran);
    let denied = audit(&wrapped.state).into_iter().find(|record| record["outcome"] == "deny").unwrap();
    assert_eq!((&report["valid"], &report["first_broken"]["seq"]), (&json!(false), &denied["seq"]), "{report}");
    assert_code(&wrapped.command(&["audit", "verify"]), 5);
}

#[test]
fn an_approval_lets_one_call_pass() {
    let mut wrapped = Wrapped::start();
    let arguments = json!({"batch_run_settings": {"name": "in\u{200b}visible"}});
    let asked = wrapped.call(1, "StartAHORunBatch", arguments.clone());
    assert!(text_of(&asked).contains("callgate approvals approve"), "{asked}");
    let waiting = json_of(&wrapped.command(&["approvals", "list", "--json"]));
    assert_eq!(
        (&waiting["state"], &waiting["tool"], &waiting["rule"]),
        (&json!("pending"), &json!("StartAHORunBatch"), &json!("ask first"))
    );
    assert_eq!(waiting["arguments"], arguments);
    let id = waiting["id"].as_str().unwrap();
    assert!(text_of(&asked).contains(id));
    let shown = wrapped.command(&["approvals", "show", id]).stdout;
    assert!(shown.contains("in\\u{200b}visible"), "{shown}");

    assert_code(&wrapped.command(&["approvals", "approve", id]), 0);
    assert_code(&wrapped.command(&["approvals", "approve", id]), 1);
    assert_code(&wrapped.command(&["approvals", "deny", "nothing"]), 1);
    let passed = wrapped.call(2, "StartAHORunBatch", arguments.clone());
    assert_eq!(text_of(&passed), "a batch of 96 runs started");
    let again = wrapped.call(3, "StartAHORunBatch", arguments.clone());
    assert!(is_denied(&again), "one yes is for one call: {again}");

    let second = json_of(&wrapped.command(&["approvals", "list", "--json"]))["id"].as_str().unwrap().to_owned();
    assert_ne!(second, id);
    let refused = json_of(&wrapped.command(&["approvals", "deny", &second, "--json"]));
    assert_eq!(refused["state"], "denied");
    let denied = wrapped.call(4, "StartAHORunBatch", arguments);
    assert_eq!(denied["result"]["_meta"]["dev.callgate/decision"]["reason"], "approval-denied");
    assert_eq!(wrapped.command(&["approvals", "list"]).stdout, "nothing waits for an answer\n");
    assert_eq!(wrapped.command(&["approvals", "list", "--all", "--json"]).stdout.lines().count(), 2);
    wrapped.end();
    let answers: Vec<Value> = audit(&wrapped.state).into_iter().filter(|record| record["phase"] == "admin").collect();
    assert_eq!(
        answers.iter().map(|record| record["method"].as_str().unwrap()).collect::<Vec<_>>(),
        ["approvals/approve", "approvals/deny"]
    );
    support::assert_verified(&wrapped.state);
}

#[test]
fn arguments_are_shown_until_an_answer_and_then_no_longer() {
    let mut wrapped = Wrapped::start();
    let asked = |wrapped: &mut Wrapped, number, arguments: Value| {
        wrapped.call(number, "StartAHORunBatch", arguments);
        json_of(&wrapped.command(&["approvals", "list", "--json"]))["id"].as_str().unwrap().to_owned()
    };
    let id = asked(&mut wrapped, 1, json!({"batch_run_settings": {"name": "hunter2"}}));
    assert!(wrapped.command(&["approvals", "show", &id]).stdout.contains("hunter2"));
    let denied = wrapped.command(&["approvals", "deny", &id]).stdout;
    assert!(denied.contains("arguments     no longer kept\n"), "{denied}");
    let all = wrapped.command(&["approvals", "list", "--all", "--json"]).stdout;
    assert!(all.contains(r#""arguments":null"#) && !all.contains("hunter2"), "{all}");

    let id = asked(&mut wrapped, 2, json!({"batch_run_settings": {"name": "x".repeat(65 << 10)}}));
    let shown = wrapped.command(&["approvals", "show", &id]).stdout;
    assert!(shown.contains("arguments     too long to show: {\"bytes\":66594,"), "{shown}");
    wrapped.end();
}

#[test]
fn a_bad_address_of_a_server_is_not_repeated() {
    let directory = Scratch::new();
    let policy = directory.policy("version: \"1\"\ntools: {}\n").display().to_string();
    for url in ["ftp://ann:hunter2@example.com/mcp", "https://ann:hunter2 @example.com", "hunter2", "https:///?token=hunter2"] {
        for command in [&["run", "-p", &policy, "--state", "memory:", "--upstream", url][..], &["scan", "--upstream", url]] {
            let ran = support::run(command, "");
            assert_ne!(ran.code, 0);
            assert!(ran.stderr.contains("https://example.com/mcp"), "{}", ran.stderr);
            assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        }
    }
}

#[test]
fn tail_shows_what_comes() {
    let mut wrapped = Wrapped::start();
    wrapped.call(1, "ListAHORuns", json!({}));
    let mut command = callgate();
    command.args(["audit", "tail", "--json", "--outcome", "deny", "--state", &wrapped.state]);
    let tail = Stdio::spawn(command);
    wrapped.call(2, "Unlisted", json!({}));
    assert_eq!(tail.message()["tool"], "Unlisted");
    wrapped.call(3, "AlsoUnlisted", json!({}));
    assert_eq!(tail.message()["tool"], "AlsoUnlisted");
    send_signal(tail.child.id(), rustix::process::Signal::TERM);
}

#[test]
fn status_knows_who_is_running_and_under_which_policy() {
    let wrapped = Wrapped::start();
    let instance = || json_of(&wrapped.command(&["status", "--json"]))["instances"][0].clone();
    let first = until(PATIENCE, || Some(instance()).filter(Value::is_object)).expect("the gateway says that it runs");
    assert_eq!((&first["server"], &first["mode"], &first["alive"]), (&json!("lab"), &json!("run"), &json!(true)), "{first}");
    assert_eq!(first["pid"], json!(wrapped.client.child.id()));
    wrapped.scratch.policy(&POLICY.replace("2/minute", "3/minute"));
    let changed = until(PATIENCE, || Some(instance()).filter(|now| now["policy"] != first["policy"]));
    assert!(changed.is_some(), "a new policy is announced");
}

#[test]
fn a_bad_policy_is_reported_and_changes_nothing() {
    let mut wrapped = Wrapped::start();
    wrapped.scratch.policy("version: \"1\"\ndefualt: allow\n");
    until(PATIENCE, || wrapped.client.said().contains("unknown key `defualt`").then_some(())).expect("the mistake is reported");
    assert!(is_denied(&wrapped.call(1, "Unlisted", json!({}))));
    wrapped.scratch.policy("version: \"1\"\ndefault: allow\nhide: [x]\n");
    let passes = until(PATIENCE, || (!is_denied(&wrapped.call(2, "Unlisted", json!({})))).then_some(()));
    assert!(passes.is_some(), "the mended policy is taken up");
}

#[test]
fn a_scanned_policy_passes_check_against_the_tools_it_came_from() {
    let scratch = Scratch::new();
    let (policy, server) = (text(&scratch.path("scanned.yaml")), text(&scratch.path("server.json")));
    let command = [env!("CARGO_BIN_EXE_callgate"), "demo-server", &server];
    let ran = run(&[&["scan", "-o", &policy, "--"], &command[..]].concat(), "");
    assert_code(&ran, 0);
    let written = std::fs::read_to_string(&policy).unwrap();
    assert!(
        written.contains("  #   workflow_id       string, required\n")
            && written.contains("  \"StartAHORun\":\n    rate_limit: 10/minute\n    validate: {required_args: true}\n"),
        "{written}"
    );
    let tools = support::root().join("crates/cli/src/commands/demo/tools.json");
    let ran = run(&["check", &policy, "--tools", &text(&tools)], "");
    assert_code(&ran, 0);
    assert_eq!(ran.stdout, format!("{policy}: valid\n"));
    assert_code(&run(&["explain", "-p", &policy, "--tool", "GetAHORun"], ""), 0);
    assert_code(&run(&["explain", "-p", &policy, "--tool", "Other"], ""), 4);

    let again = run(&[&["scan", "-o", &policy, "--"], &command[..]].concat(), "");
    assert_code(&again, 1);
    assert_eq!(std::fs::read_to_string(&policy).unwrap(), written, "what is there is not written over");
    assert_eq!(run(&[&["scan", "--"], &command[..]].concat(), "").stdout, written);
    // The same policy for what reads JSON.
    let in_json = run(&[&["scan", "--format", "json", "--profile", "strict", "--"], &command[..]].concat(), "");
    let path = text(&scratch.write("scanned.json", &in_json.stdout));
    assert_code(&run(&["check", &path, "--tools", &text(&tools)], ""), 0);
    assert!(in_json.stdout.contains("\"action\": \"require_approval\""), "{}", in_json.stdout);
    assert_code(&run(&[&["scan", "--by-risk", "--format", "json", "--"], &command[..]].concat(), ""), 2);
    assert_code(&run(&["scan", "--timeout", "1s", "--", "sleep", "5"], ""), 1);
    assert_code(&run(&["scan", "--", "true"], ""), 1);
}

#[test]
fn a_scan_of_an_http_server_speaks_either_form() {
    for options in [&[][..], &["--sse"], &["--old"], &["--era", "modern"]] {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), options);
        let ran = run(&["scan", "--upstream", &upstream.url()], "");
        assert_code(&ran, 0);
        assert!(ran.stdout.contains("\"read_file\"") && ran.stdout.contains("\"delete_repo\""), "{options:?}: {}", ran.stdout);
    }
}

#[test]
fn a_scan_writes_the_tools_that_other_commands_read() {
    let scratch = Scratch::new();
    let server = text(&scratch.path("server.json"));
    let tools = text(&scratch.path("tools.json"));
    let command = [env!("CARGO_BIN_EXE_callgate"), "demo-server", &server];
    assert_code(&run(&[&["scan", "--json", "-o", &tools, "--"], &command[..]].concat(), ""), 0);
    let known = std::fs::read_to_string(support::root().join("crates/cli/src/commands/demo/tools.json")).unwrap();
    let (known, written): (Value, Value) =
        (serde_json::from_str(&known).unwrap(), serde_json::from_str(&std::fs::read_to_string(&tools).unwrap()).unwrap());
    assert_eq!((&written["server"], &written["tools"]), (&json!("callgate"), &known["tools"]));

    let policy = text(&scratch.policy("version: \"1\"\ntools:\n  StartAHORun: {validate: {required_args: true}}\n"));
    assert_code(&run(&["check", &policy, "--tools", &tools], ""), 0);
    assert_code(&run(&["explain", "-p", &policy, "--tool", "StartAHORun", "--args", "{}", "--tools", &tools], ""), 4);
    assert_code(&run(&["inspect", "--tools", &tools], ""), 0);
    assert_code(&run(&["catalog", "recommend", "--tools", &tools], ""), 0);
    assert_code(&run(&["scan", "--json", "--by-risk", "--", "true"], ""), 2);
}

#[test]
fn state_that_is_not_there_is_no_empty_state() {
    let scratch = Scratch::new();
    let state = scratch.state();
    for words in
        [&["audit", "verify"][..], &["audit", "list"], &["status"], &["approvals", "list"], &["approvals", "approve", "x"]]
    {
        let ran = run(&[words, &["--state", &state]].concat(), "");
        assert_code(&ran, 1);
        assert!(ran.stderr.contains("there is no such file"), "{}", ran.stderr);
    }
    assert!(!scratch.path("callgate.db").exists());
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(&["completions", shell], "");
        assert_code(&ran, 0);
        assert!(ran.stdout.contains("approvals") && !ran.stdout.contains("demo-server\n"), "{shell}");
    }
    let scratch = Scratch::new();
    let pages = scratch.path("man/man1");
    assert_code(&run(&["man", &text(&pages)], ""), 0);
    for page in ["callgate.1", "callgate-run.1", "callgate-audit-verify.1", "callgate-approvals-approve.1"] {
        let page = std::fs::read_to_string(pages.join(page)).expect(page);
        assert!(page.contains(".SH"), "{page}");
    }
    assert!(!pages.join("callgate-demo-server.1").exists());
}

#[test]
fn the_demo_shows_every_outcome_and_leaves_a_log_that_verifies() {
    let scratch = Scratch::new();
    let mut command = callgate();
    command.arg("demo").env("TMPDIR", scratch.path(""));
    let output = command.output().expect("the demo ends");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "  tools       9 of 12; the policy hides the others:",
        "  hidden      DeleteAHOConfiguration",
        "  allowed     StartAHORun              into the lab's bucket",
        "  denied      StartAHORun              with the credentials of `admin`",
        "  refused     StartAHORun              `aws_profile` twice: `admin` and `lab`",
        "  limited     StartAHORun              the eleventh",
        "  held        StartAHORunBatch         96 runs at once",
        "  you         callgate approvals approve ",
        "  allowed     StartAHORunBatch         the same call again",
        "  calls       12, exactly those that were allowed: among them 10 runs and 1 batch",
        "  verified    the chain is whole: 35 records",
        "  callgate scan -o policy.yaml -- npx -y",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let state = shown.lines().find_map(|line| line.split_once("callgate audit list --state ")).expect("where the records are").1;
    support::assert_verified(state);
    assert_eq!(audit(state).len(), 35);
}

#[test]
fn a_file_that_cannot_be_read_is_one_mistake_among_others() {
    let scratch = Scratch::new();
    let bad = text(&scratch.policy("version: \"1\"\ndefualt: deny\n"));
    let ran = run(&["check", "no-such-file.yaml", &bad, "--json"], "");
    assert_code(&ran, 3);
    let report = json_of(&ran);
    let codes: Vec<&str> =
        report["problems"].as_array().unwrap().iter().map(|problem| problem["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&"P000") && codes.contains(&"P010"), "{report}");
    assert_eq!(report["valid"], false);
}

#[test]
fn a_password_in_an_address_is_not_repeated() {
    for (line, fails) in [
        (&["status", "--state", "postgres://u:TOPSECRET@h/d"][..], true),
        (&["status", "--state", "mysql://u:TOPSECRET@h"], true),
        // Records are not kept there, so that there may be some.
        (&["audit", "list", "--state", "redis://:TOPSECRET@h"], false),
    ] {
        let ran = run(line, "");
        assert!(!fails || ran.code != 0);
        assert!(!ran.stderr.contains("TOPSECRET") && !ran.stdout.contains("TOPSECRET"), "{}", ran.stderr);
    }
}

#[test]
fn a_tool_on_two_pages_stands_once_in_the_scanned_policy() {
    let scratch = Scratch::new();
    let words = support::lenient(&scratch.log(), &["--stdio", "--list", "pages"]);
    let out = text(&scratch.path("scanned.yaml"));
    let mut command = vec!["scan", "-o", &out, "--"];
    command.extend(words.iter().map(String::as_str));
    assert_code(&run(&command, ""), 0);
    assert_code(&run(&["check", &out], ""), 0);
}
