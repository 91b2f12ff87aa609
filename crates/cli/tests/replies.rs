//! Replies that could be taken for replies to something else: ids used twice, guessed, shared and resumed.
//!
//! A reply that is tied to the wrong request shows an unfiltered list as the answer to something else, and ends the audit
//! record of another call. The server is `tests/upstreams/slow.py`, which answers late whatever is cancelled.

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio as Pipe};
use std::time::Duration;
use support::http::{Client, open};
use support::stdio::Stdio;
use support::{
    HttpUpstream, LEGACY, MODERN, PATIENCE, Scratch, Served, audit, call, entries_of, lenient, names, request, text_of,
    tools_run, until,
};

/// The only revision that has batches.
const BATCHES: &str = "2025-03-26";
const POLICY: &str = "version: \"1\"\nhide: [secret_tool]\ntools: {}\n";

fn slow(options: &[&str]) -> Vec<String> {
    let script = support::root().join("tests/upstreams/slow.py").display().to_string();
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    [python, script].into_iter().chain(options.iter().map(|&option| option.to_owned())).collect()
}

fn wrapped(scratch: &Scratch, policy: &str) -> Stdio {
    Stdio::wrap(&scratch.policy(policy), &scratch.state(), &[], &slow(&[]))
}

struct SlowHttp {
    process: Child,
    url: String,
}

impl SlowHttp {
    fn start(scratch: &Scratch) -> SlowHttp {
        let words = slow(&["--http", &scratch.log().display().to_string()]);
        let mut process = Command::new(&words[0]).args(&words[1..]).stdout(Pipe::piped()).spawn().expect("python3");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let url = format!("http://127.0.0.1:{}/mcp", line.trim().rsplit(' ').next().expect("a port"));
        SlowHttp { process, url }
    }
}

impl Drop for SlowHttp {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn served(scratch: &Scratch, policy: &str, upstream: &SlowHttp) -> Served {
    let policy = scratch.policy(policy).display().to_string();
    Served::start(&["-p", &policy, "--state", &scratch.state(), "--upstream", &upstream.url])
}

fn cancel(id: u32) -> String {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}).to_string()
}

/// A client of the legacy era that has no session, as servers without sessions leave it.
fn sessionless(address: &str) -> Client {
    Client::begin(address, LEGACY)
}

#[test]
fn a_cancelled_list_is_not_the_answer_to_the_next_request_of_its_id() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, POLICY);
    client.begin(LEGACY);
    client.send(request(LEGACY, "1", "tools/list", json!({})));
    client.send(cancel(1));
    client.send(request(LEGACY, "1", "ping", json!({})));
    let reply = client.reply("1");
    assert_eq!(reply["result"], json!({}), "{reply}");
}

#[test]
fn an_id_is_free_again_when_its_request_was_cancelled_before_it_was_sent() {
    const VALIDATED: &str = "version: \"1\"\ntools: {ok: {rules: [{name: v, validate: {required_args: true}}]}}\n";
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, VALIDATED);
    client.begin(LEGACY);
    // It is not sent before the server has given its list, which takes a while.
    client.send(call(LEGACY, "1", "ok", json!({})));
    client.send(cancel(1));
    client.send(request(LEGACY, "1", "ping", json!({})));
    let reply = client.reply("1");
    assert_eq!(reply["result"], json!({}), "{reply}");
    client.close_stdin();
    client.ended(PATIENCE).expect("it ends");
    let records = audit(&scratch.state());
    let ends: Vec<&Value> = records.iter().filter(|record| record["phase"] == "finished").map(|end| &end["reply"]).collect();
    assert_eq!(ends, ["refused"], "what is cancelled before it is sent is not sent: {records:?}");
}

#[test]
fn the_rest_of_a_batch_is_answered_over_http_when_an_item_is_cancelled() {
    for mode in ["before a child", "before HTTP", "federated"] {
        let scratch = Scratch::new();
        let policy = scratch.policy("version: \"1\"\ndefault: allow\n").display().to_string();
        let child = lenient(&scratch.log(), &["--stdio"]);
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        let (url, state) = (upstream.url(), scratch.state());
        let mut words = vec!["-p", &policy, "--state", &state];
        let (served, prefix) = match mode {
            "before a child" => {
                words.push("--");
                words.extend(child.iter().map(String::as_str));
                (Served::start(&words), "")
            }
            "before HTTP" => {
                words.extend(["--upstream", &url]);
                (Served::start(&words), "")
            }
            _ => {
                scratch.write("token", "a-token-of-the-tests-long-enough");
                let config = json!({
                    "listen": "127.0.0.1:0",
                    "state": state,
                    "servers": {"one": {"command": child, "policy": policy, "pin": "off"}},
                    "grants": [{"name": "ada", "principal": "ada", "token": "file:token", "servers": ["one"]}],
                });
                (Served::configured(&scratch.write("callgate.yaml", config.to_string()), &[]), "one__")
            }
        };
        let client = Client::silent(&served.address, BATCHES).at("/mcp", "a-token-of-the-tests-long-enough").shake_hands();
        let items = [("1", "hang"), ("2", "echo")].map(|(id, tool)| call(BATCHES, id, &format!("{prefix}{tool}"), json!({})));
        let waiting = std::thread::spawn({
            let client = client.clone();
            move || client.send(&client.headers("tools/call", None), format!("[{}]", items.join(",")).as_bytes())
        });
        let arrived = || (tools_run(&scratch.log()).len() == 2).then_some(());
        until(PATIENCE, arrived).unwrap_or_else(|| panic!("{mode}: both arrive"));
        let told = client.send(&client.headers("notifications/cancelled", None), cancel(1).as_bytes()).expect("an answer");
        assert_eq!(told.status, 202, "{mode}");
        let reply = waiting.join().expect("no panic").unwrap_or_else(|| panic!("{mode}: the rest is answered"));
        let answers: Value = serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("{mode}: {reply:?}"));
        let ids: Vec<&Value> = answers.as_array().expect("a batch").iter().map(|answer| &answer["id"]).collect();
        assert_eq!(ids, [2], "{mode}: {answers}");
        // The server is told all the same.
        let cancelled = || (!entries_of(&scratch.log(), "cancelled").is_empty()).then_some(());
        until(PATIENCE, cancelled).unwrap_or_else(|| panic!("{mode}: the server is told"));
    }
}

#[test]
fn the_rest_of_a_batch_is_answered_when_an_item_is_cancelled() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, POLICY);
    client.begin(BATCHES);
    let items = [call(BATCHES, "1", "ok", json!({"n": 1})), request(BATCHES, "2", "ping", json!({}))];
    client.send(format!("[{}]", items.join(",")));
    client.send(cancel(1));
    let line = client.line(PATIENCE).expect("an answer");
    let answers: Value = serde_json::from_slice(&line).expect("JSON");
    assert_eq!(answers, json!([{"jsonrpc": "2.0", "id": 2, "result": {}}]));
}

#[test]
fn a_cancelled_call_does_not_end_the_record_of_the_next_call_of_its_id() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, POLICY);
    client.begin(LEGACY);
    client.send(call(LEGACY, "1", "ok", json!({"n": 1})));
    until(PATIENCE, || (!audit(&scratch.state()).is_empty()).then_some(())).expect("it is let through");
    client.send(cancel(1));
    client.send(call(LEGACY, "1", "ok", json!({"n": 2})));
    assert_eq!(text_of(&client.reply("1")), "ran ok {\"n\": 2}");
    client.close_stdin();
    client.ended(PATIENCE).expect("it ends");
    let records = audit(&scratch.state());
    let of = |phase: &str| records.iter().filter(|record| record["phase"] == phase).cloned().collect::<Vec<Value>>();
    let ends: Vec<Value> = of("decided")
        .iter()
        .map(|decided| of("finished").iter().find(|end| end["id"] == decided["id"]).expect("each has its end")["reply"].clone())
        .collect();
    assert_eq!(ends, ["lost", "completed"]);
}

#[test]
fn no_id_of_a_clients_is_that_of_the_gateways_own_question() {
    const VALIDATED: &str =
        "version: \"1\"\nhide: [secret_tool]\ntools: {ok: {rules: [{name: v, validate: {required_args: true}}]}}\n";
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, VALIDATED);
    client.begin(LEGACY);
    let ids: Vec<String> = (1..=3)
        .map(|n| json!(format!("callgate-{}-{n}", client.child.id())).to_string())
        .chain((1..=4).map(|n| n.to_string()))
        .collect();
    client.send(call(LEGACY, "99", "ok", json!({})));
    for id in &ids {
        client.send(request(LEGACY, id, "ping", json!({})));
    }
    let replies: Vec<Value> = (0..=ids.len()).map(|_| client.message()).collect();
    assert!(replies.iter().all(|reply| !reply.to_string().contains("secret_tool")), "{replies:?}");
    let called = replies.iter().find(|reply| reply["id"] == 99).expect("the call is answered");
    assert_eq!(text_of(called), "ran ok {}");
}

#[test]
fn two_clients_without_sessions_may_count_alike() {
    let scratch = Scratch::new();
    let upstream = SlowHttp::start(&scratch);
    let gate = served(&scratch, POLICY, &upstream);
    let (lister, caller) = (sessionless(&gate.address), sessionless(&gate.address));
    std::thread::scope(|scope| {
        let listed = scope.spawn(|| lister.ask("1", "tools/list", json!({})).reply("1"));
        let called = scope.spawn(|| caller.call("1", "ok", json!({"seconds": 0.3})));
        assert_eq!(names(&listed.join().expect("a reply")), ["ok"]);
        assert_eq!(text_of(&called.join().expect("a reply")), "ran ok {\"seconds\": 0.3}");
    });
}

#[test]
fn a_list_that_is_given_again_is_not_the_answer_to_an_open_call() {
    let scratch = Scratch::new();
    let upstream = SlowHttp::start(&scratch);
    let gate = served(&scratch, POLICY, &upstream);
    let client = sessionless(&gate.address);
    assert_eq!(names(&client.ask("7", "tools/list", json!({})).reply("7")), ["ok"]);
    let bytes = client.post(&client.headers("tools/call", Some("ok")), call(LEGACY, "7", "ok", json!({"seconds": 2})).as_bytes());
    let open_call = open(&gate.address, &bytes);
    until(PATIENCE, || audit(&scratch.state()).iter().any(|record| record["tool"] == "ok").then_some(()))
        .expect("it is let through");
    let resume = format!(
        "GET /mcp HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nLast-Event-ID: list-7\r\nConnection: close\r\n\r\n",
        gate.address
    );
    let mut replayed = String::new();
    let mut listening = open(&gate.address, resume.as_bytes());
    listening.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout is settable");
    let _ = std::io::Read::read_to_string(&mut listening, &mut replayed);
    assert!(!replayed.contains("secret_tool"), "{replayed}");
    drop(open_call);
}

#[test]
fn a_session_that_a_client_makes_up_has_no_limit_of_its_own() {
    const ONCE: &str = "version: \"1\"\ntools: {ok: {limits: [{counter: c, window: hour, max: 1, scope: session}]}}\n";
    let scratch = Scratch::new();
    let upstream = SlowHttp::start(&scratch);
    let gate = served(&scratch, ONCE, &upstream);
    let client = sessionless(&gate.address);
    let mut passed = 0;
    for session in ["a", "b", "c"] {
        let mut headers = client.headers("tools/call", Some("ok"));
        headers.push(("Mcp-Session-Id".to_owned(), session.to_owned()));
        let reply = client.send(&headers, call(LEGACY, "1", "ok", json!({})).as_bytes()).expect("an answer").reply("1");
        passed += usize::from(!support::is_denied(&reply));
    }
    assert_eq!(passed, 1);
}

#[test]
fn headers_that_nobody_has_held_against_the_body_do_not_travel() {
    let scratch = Scratch::new();
    let upstream = SlowHttp::start(&scratch);
    let gate = served(&scratch, POLICY, &upstream);
    let client = sessionless(&gate.address);
    let mut headers = client.headers("tools/call", Some("ok"));
    for (name, value) in [("Mcp-Method", "tools/call"), ("Mcp-Name", "secret_tool"), ("Mcp-Param-Region", "evil")] {
        headers.push((name.to_owned(), value.to_owned()));
    }
    client.send(&headers, call(LEGACY, "1", "ok", json!({})).as_bytes()).expect("an answer");
    let log = std::fs::read_to_string(scratch.log()).expect("the upstream's log");
    assert!(log.contains("tools/call") && !log.contains("mcp-name") && !log.contains("mcp-param"), "{log}");
}

#[test]
fn no_client_changes_the_state_of_the_server_that_all_share() {
    let scratch = Scratch::new();
    let policy = scratch.policy(POLICY).display().to_string();
    let words = slow(&[]);
    let mut arguments = vec!["-p", &policy, "--state", "memory:", "--"];
    arguments.extend(words.iter().map(String::as_str));
    let gate = Served::start(&arguments);
    let client = Client::begin(&gate.address, MODERN);
    for method in ["initialize", "logging/setLevel", "resources/subscribe"] {
        let reply = client.ask("1", method, json!({}));
        assert_eq!((reply.status, &reply.reply("1")["error"]["code"]), (404, &json!(-32601)), "{method}");
    }
}

#[test]
fn a_client_that_never_reads_does_not_keep_us_from_ending() {
    let scratch = Scratch::new();
    let command = support::lenient(&scratch.path("lenient.log"), &["--stdio"]);
    let mut run = support::callgate();
    run.arg("run").arg("-p").arg(scratch.policy(POLICY)).args(["--state", &scratch.state(), "--"]).args(&command);
    let mut gate = run.stdin(Pipe::piped()).stdout(Pipe::piped()).stderr(Pipe::null()).spawn().expect("the gateway");
    let mut input = gate.stdin.take().expect("a pipe");
    for id in 0..20 {
        let line = call(LEGACY, &id.to_string(), "big", json!({"mb": 5}));
        std::io::Write::write_all(&mut input, format!("{line}\n").as_bytes()).expect("it reads");
    }
    until(PATIENCE, || (support::tools_run(&scratch.path("lenient.log")).len() > 5).then_some(())).expect("calls are under way");
    support::send_signal(gate.id(), rustix::process::Signal::TERM);
    assert!(support::ended(&mut gate, PATIENCE).is_some(), "it ends though nobody reads");
}
