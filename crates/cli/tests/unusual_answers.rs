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
    assert_eq!((reply.status, &*reply.body), (401, &br#"{"error":"invalid_token"}"#[..]));
}
