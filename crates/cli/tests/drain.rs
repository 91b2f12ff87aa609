//! The end: what is in flight when we are told to stop gets five seconds, and nothing outlives it.

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::events::Events;
use support::http::{Client, Reply, exchange, open};
use support::stdio::Stdio;
use support::{
    HttpUpstream, LEGACY, MODERN, PATIENCE, Scratch, Served, call, entries_of, is_alive, lenient, request, text_of, tools_run,
    until,
};

/// What is said of what does not end by itself in time.
const CUT_OFF: &str = "what is still under way is cut off";
const OPEN: &str = "version: \"1\"\ntools: {}\n";

fn served(scratch: &Scratch, behind: &[&str]) -> Served {
    let (policy, state) = (scratch.policy(OPEN).display().to_string(), scratch.state());
    let mut arguments = vec!["-p", &policy, "--state", &state];
    arguments.extend(behind);
    Served::start(&arguments)
}

fn before_a_child(scratch: &Scratch) -> Served {
    let child = lenient(&scratch.log(), &["--stdio"]);
    let mut behind = vec!["--"];
    behind.extend(child.iter().map(String::as_str));
    served(scratch, &behind)
}

/// Begins a call and gives it once it runs; its answer comes when it comes.
fn begin(scratch: &Scratch, gate: &Served, revision: &str, tool: &str, arguments: Value) -> JoinHandle<Option<Reply>> {
    let client = Client::begin(&gate.address, revision);
    let before = tools_run(&scratch.log()).len();
    let headers = client.headers("tools/call", Some(tool));
    let bytes = client.post(&headers, call(revision, "1", tool, arguments).as_bytes());
    let answer = std::thread::spawn(move || exchange(&client.address, &bytes));
    until(PATIENCE, || (tools_run(&scratch.log()).len() > before).then_some(())).expect("it runs");
    answer
}

/// Asserts how the one call ended by the records, and that the chain and its signed head hold.
#[track_caller]
fn assert_recorded(scratch: &Scratch, reply: &str) {
    let records = support::audit(&scratch.state());
    let finished: Vec<_> = records.iter().filter(|record| record["phase"] == "finished").collect();
    assert_eq!(finished.len(), 1, "{records:?}");
    assert_eq!(finished[0]["reply"], reply, "{records:?}");
    support::assert_verified(&scratch.state());
}

#[track_caller]
fn assert_no_child_is_left(scratch: &Scratch) {
    let pids: Vec<u64> = entries_of(&scratch.log(), "start").iter().filter_map(|entry| entry["pid"].as_u64()).collect();
    until(PATIENCE, || pids.iter().all(|&pid| !is_alive(pid)).then_some(())).expect("children end with us");
}

#[test]
fn calls_in_flight_are_answered_and_newcomers_refused() {
    for behind in ["a child", "a server"] {
        for revision in [LEGACY, MODERN] {
            let scratch = Scratch::new();
            let upstream = HttpUpstream::start(&scratch.log(), &[]);
            let mut gate = match behind {
                "a child" => before_a_child(&scratch),
                _ => served(&scratch, &["--upstream", &upstream.url()]),
            };
            let answer = begin(&scratch, &gate, revision, "slow", json!({"seconds": 2}));
            gate.signal(Signal::TERM);
            until(PATIENCE, || TcpStream::connect(&gate.address).is_err().then_some(())).expect("newcomers are refused");
            assert!(gate.child.try_wait().expect("it is ours").is_none(), "{behind}, {revision}: the call holds us");
            let reply = answer.join().expect("no panic").unwrap_or_else(|| panic!("{behind}, {revision}: an answer"));
            assert_eq!(text_of(&reply.reply("1")), r#"{"seconds":2}"#, "{behind}, {revision}");
            let status = support::ended(&mut gate.child, PATIENCE).expect("it ends");
            assert_eq!(status.code(), Some(0), "{behind}, {revision}");
            assert_recorded(&scratch, "completed");
        }
    }
}

#[test]
fn calls_in_flight_over_stdio_are_answered() {
    for behind in ["a child", "a server"] {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        let mut client = match behind {
            "a child" => Stdio::wrap(&scratch.policy(OPEN), &scratch.state(), &[], &lenient(&scratch.log(), &["--stdio"])),
            _ => Stdio::bridge(&scratch.policy(OPEN), &scratch.state(), &upstream.url()),
        };
        client.begin(LEGACY);
        client.send(call(LEGACY, "1", "slow", json!({"seconds": 1})));
        until(PATIENCE, || tools_run(&scratch.log()).pop()).expect("it runs");
        client.signal(Signal::TERM);
        assert_eq!(text_of(&client.reply("1")), r#"{"seconds":1}"#, "{behind}");
        let status = client.ended(PATIENCE).expect("it ends");
        // A child is told by SIGTERM, unless the end of its input was faster.
        assert!(matches!(status.code(), Some(0 | 143)), "{behind}: {status}");
        assert_recorded(&scratch, "completed");
    }
}

#[test]
fn a_call_that_never_ends_gets_five_seconds_and_an_error() {
    for behind in ["a child", "a server", "a child, over stdio"] {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        let stdio = lenient(&scratch.log(), &["--stdio"]);
        let begun;
        if behind == "a child, over stdio" {
            let mut client = Stdio::wrap(&scratch.policy(OPEN), &scratch.state(), &[], &stdio);
            client.begin(LEGACY);
            client.send(call(LEGACY, "1", "hang", json!({})));
            until(PATIENCE, || tools_run(&scratch.log()).pop()).expect("it runs");
            begun = Instant::now();
            client.signal(Signal::TERM);
            assert!(client.reply("1")["error"].is_object());
            client.ended(PATIENCE).expect("it ends");
        } else {
            let mut gate = match behind {
                "a child" => before_a_child(&scratch),
                _ => served(&scratch, &["--upstream", &upstream.url()]),
            };
            let answer = begin(&scratch, &gate, LEGACY, "hang", json!({}));
            begun = Instant::now();
            gate.signal(Signal::TERM);
            let status = support::ended(&mut gate.child, PATIENCE).unwrap_or_else(|| panic!("{behind}: it ends"));
            assert_eq!(status.code(), Some(0), "{behind}");
            assert!(gate.stderr.lock().unwrap().contains(CUT_OFF), "{behind}");
            // Before a server the connection ends without a word: nobody knows yet what there is to say.
            if let Some(reply) = answer.join().expect("no panic") {
                assert!(reply.reply("1")["error"].is_object(), "{behind}: {reply:?}");
            }
        }
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(4500), "{behind}: {took:?}");
        assert_recorded(&scratch, "lost");
        if behind != "a server" {
            // It writes into the same log.
            drop(upstream);
            assert_no_child_is_left(&scratch);
        }
    }
}

/// Reads until the peer closes.
#[track_caller]
fn until_closed(mut stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is settable");
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it is closed");
}

/// Asserts that nothing was in flight, so that nothing was waited for. How long it took says nothing on a loaded machine.
#[track_caller]
fn assert_nothing_was_cut_off(gate: &Served) {
    let said = gate.stderr.lock().expect("no reader panics").clone();
    assert!(said.contains("asked to stop") && !said.contains(CUT_OFF), "{said}");
}

#[test]
fn idle_streams_and_connections_do_not_hold_us() {
    for behind in ["a child", "a server"] {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        let mut gate = match behind {
            "a child" => before_a_child(&scratch),
            _ => served(&scratch, &["--upstream", &upstream.url()]),
        };
        let legacy = Client::begin(&gate.address, LEGACY);
        let mut get = format!("GET /mcp HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n", gate.address);
        if let Some(session) = &legacy.session {
            get.push_str(&format!("Mcp-Session-Id: {session}\r\n"));
        }
        let mut listening = open(&gate.address, format!("{get}\r\n").as_bytes());
        let mut head = [0; 12];
        listening.read_exact(&mut head).expect("its head comes at once");
        assert_eq!(&head, b"HTTP/1.1 200");
        let idle = TcpStream::connect(&gate.address).expect("the listener is there");
        let stream = (behind == "a child").then(|| Events::begin(&gate.address));
        gate.signal(Signal::TERM);
        until_closed(listening);
        until_closed(idle);
        assert!(stream.is_none_or(|stream| stream.ends(PATIENCE)), "a stream on which nothing is under way ends");
        let status = support::ended(&mut gate.child, PATIENCE).expect("it ends");
        assert_eq!(status.code(), Some(0), "{behind}");
        assert_nothing_was_cut_off(&gate);
        support::assert_verified(&scratch.state());
    }
}

/// A server of the stateless era to whose changes one can listen.
fn listened_to(scratch: &Scratch, how: &[&str]) -> Vec<String> {
    let mut command = lenient(&scratch.log(), &["--era", "modern"]);
    command[1] = support::root().join("tests/upstreams/one_era.py").display().to_string();
    command.extend(how.iter().map(|&option| option.to_owned()));
    command
}

/// What ends a subscription in good order (2026-07-28 §Subscriptions).
#[track_caller]
fn assert_ended(last: &Value, behind: &str) {
    let meta = json!({"io.modelcontextprotocol/subscriptionId": "ear"});
    assert_eq!(*last, json!({"jsonrpc": "2.0", "id": "ear", "result": {"resultType": "complete", "_meta": meta}}), "{behind}");
}

#[test]
fn subscriptions_are_answered_at_the_end_and_do_not_hold_us() {
    let params = json!({"notifications": {"toolsListChanged": true}});
    let listen = request(MODERN, "\"ear\"", "subscriptions/listen", params);
    for behind in ["a child", "a server", "many servers"] {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start_command(listened_to(&scratch, &["--http", "0"]));
        let child = listened_to(&scratch, &["--stdio"]);
        let words: Vec<&str> = std::iter::once("--").chain(child.iter().map(String::as_str)).collect();
        let mut client = Client::silent("", MODERN);
        let mut gate = match behind {
            "a child" => served(&scratch, &words),
            "a server" => served(&scratch, &["--upstream", &upstream.url()]),
            _ => {
                const TOKEN: &str = "a-token-of-the-tests-long-enough-to-be-one";
                scratch.policy(OPEN);
                scratch.write("token", TOKEN);
                let config = json!({
                    "listen": "127.0.0.1:0", "state": scratch.state(),
                    "servers": {"one": {"command": child, "policy": "policy.yaml"}},
                    "grants": [{"name": "ada", "principal": "person:ada", "token": "file:token", "servers": ["one"]}],
                });
                client = client.at("/mcp", TOKEN);
                Served::configured(&scratch.write("callgate.yaml", config.to_string()), &[])
            }
        };
        client.address = gate.address.clone();
        let stream = open(&gate.address, &client.post(&client.headers("subscriptions/listen", None), listen.as_bytes()));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is settable");
        let mut lines = BufReader::new(stream).lines().map(|line| line.expect("it is ended, and not broken off"));
        let mut messages = lines.by_ref().filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?.trim()).ok());
        let first: Value = messages.next().expect("an event");
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{behind}: {first}");
        gate.signal(Signal::TERM);
        assert_ended(&messages.last().expect("a last word"), behind);
        let status = support::ended(&mut gate.child, PATIENCE).expect("it ends");
        assert_eq!(status.code(), Some(0), "{behind}");
        assert_nothing_was_cut_off(&gate);
        support::assert_verified(&scratch.state());
    }
    for behind in ["a child", "a server"] {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start_command(listened_to(&scratch, &["--http", "0"]));
        let mut client = match behind {
            "a child" => Stdio::wrap(&scratch.policy(OPEN), &scratch.state(), &[], &listened_to(&scratch, &["--stdio"])),
            _ => Stdio::bridge(&scratch.policy(OPEN), &scratch.state(), &upstream.url()),
        };
        client.send(&listen);
        assert_eq!(client.message()["method"], "notifications/subscriptions/acknowledged", "{behind}");
        client.signal(Signal::TERM);
        assert_ended(&client.message(), behind);
        client.ended(PATIENCE).expect("it ends");
        support::assert_verified(&scratch.state());
    }
}

#[test]
fn a_second_signal_ends_us_at_once_with_a_call_in_flight() {
    for behind in ["a child", "a server"] {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        let mut gate = match behind {
            "a child" => before_a_child(&scratch),
            _ => served(&scratch, &["--upstream", &upstream.url()]),
        };
        let answer = begin(&scratch, &gate, LEGACY, "hang", json!({}));
        gate.signal(Signal::TERM);
        until(PATIENCE, || gate.stderr.lock().unwrap().contains("asked to stop").then_some(())).expect("the first is heard");
        gate.signal(Signal::TERM);
        let status = support::ended(&mut gate.child, PATIENCE).expect("it ends");
        assert_eq!(status.code(), Some(1), "left to itself it would have ended with 0: {behind}");
        drop(answer.join());
        if behind == "a child" {
            drop(upstream);
            assert_no_child_is_left(&scratch);
        }
        support::assert_verified(&scratch.state());
    }
}
