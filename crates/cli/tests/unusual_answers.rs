//! What a server says where one might not look for it: in bodies of failed requests, and in events that are no messages.
//!
//! The server is `tests/upstreams/careless.py`.

mod support;

use serde_json::json;
use support::http::Client;
use support::{HttpUpstream, LEGACY, Scratch, Served, root};

const POLICY: &str = "\
version: \"1\"
default: allow
hide: [hidden]
server_requests:
  elicitation: {form: allow, url: deny}
";

#[test]
fn nothing_is_asked_or_listed_in_an_unusual_place() {
    let scratch = Scratch::new();
    let (policy, state) = (scratch.policy(POLICY).display().to_string(), scratch.state());
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = root().join("tests/upstreams/careless.py").display().to_string();
    let upstream = HttpUpstream::start_command(vec![python, script]);
    let gate = Served::start(&["-p", &policy, "--state", &state, "--upstream", &upstream.url()]);
    let client = Client::begin(&gate.address, LEGACY);
    for how in [
        "error without an id",
        "error of another id",
        "error of another type",
        "two codes",
        "two errors",
        "events",
        "array",
        "list in a named event",
        "question in a named event",
    ] {
        let reply = client.ask("1", "tools/call", json!({"name": "x", "arguments": {"how": how}}));
        let body = String::from_utf8_lossy(&reply.body);
        assert!(!body.contains("evil.example") && !body.contains("hidden"), "{how}: {body}");
        assert_eq!(reply.reply("1")["id"], 1, "{how}: {body}");
    }
    // What is no message passes: it tells a client what to do.
    let reply = client.ask("1", "tools/call", json!({"name": "x", "arguments": {"how": "plain"}}));
    assert_eq!((reply.status, &*reply.body), (403, &br#"{"error":"insufficient_scope"}"#[..]));
    // But no client is told that its credentials are not good: these are the gateway's.
    for (how, told) in [
        ("refused", "refuses the gateway's credentials"),
        ("refused without an id", "refuses the gateway's credentials"),
        ("refused by a reply", "who are you?"),
    ] {
        let reply = client.ask("1", "tools/call", json!({"name": "x", "arguments": {"how": how}}));
        assert_eq!(reply.status, 502, "{how}: {reply:?}");
        let message = reply.reply("1")["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(told), "{how}: {message}");
    }
}

#[test]
fn what_comes_back_is_judged_in_unusual_places_too() {
    let scratch = Scratch::new();
    let policy = "version: \"1\"\ntools: {x: {results: {secrets: redact}}}\n";
    let (policy, state) = (scratch.policy(policy).display().to_string(), scratch.state());
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = root().join("tests/upstreams/careless.py").display().to_string();
    let upstream = HttpUpstream::start_command(vec![python, script]);
    let gate = Served::start(&["-p", &policy, "--state", &state, "--upstream", &upstream.url()]);
    let client = Client::begin(&gate.address, LEGACY);
    for (how, passes) in [
        ("secret in an error", true),
        ("secret in an error without an id", false),
        ("secret in an error of another type", false),
        ("secret in a log", true),
        ("secret in a question", true),
    ] {
        let reply = client.ask("1", "tools/call", json!({"name": "x", "arguments": {"how": how}}));
        let body = String::from_utf8_lossy(&reply.body);
        assert!(!body.contains("AKIA"), "{how}: {body}");
        assert_eq!(body.contains("[redacted: aws-key]"), passes, "{how}: {body}");
    }
    let changed = support::audit(&state).into_iter().find(|record| record["detail"] == "changed: aws-key 3");
    assert!(changed.is_some_and(|record| record["phase"] == "finished"), "what is redacted is on record");
}
