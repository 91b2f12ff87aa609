//! What a legacy server says late, or of no request in particular, reaches no other modern client.
//!
//! The server is `tests/upstreams/indiscreet.py`.

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::time::Duration;
use support::http::{Client, open};
use support::{MODERN, Scratch, Served, root};

const POLICY: &str = "version: \"1\"\ndefault: allow\n";

struct Scene {
    _scratch: Scratch,
    gate: Served,
}

impl Scene {
    fn new() -> Scene {
        let scratch = Scratch::new();
        let (policy, state) = (scratch.policy(POLICY).display().to_string(), scratch.state());
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = root().join("tests/upstreams/indiscreet.py").display().to_string();
        let gate = Served::start(&["-p", &policy, "--state", &state, "--", &python, &script]);
        let scene = Scene { _scratch: scratch, gate };
        // The server's era is known from here on.
        scene.client().ask("0", "server/discover", json!({}));
        scene
    }

    fn client(&self) -> Client {
        Client::silent(&self.gate.address, MODERN)
    }
}

/// The bytes of a request with these capabilities, and more in its `_meta`.
fn request(client: &Client, method: &str, mut params: Value, capabilities: Value, level: Option<&str>) -> Vec<u8> {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    });
    if let Some(level) = level {
        params["_meta"]["io.modelcontextprotocol/logLevel"] = json!(level);
    }
    let name = params["name"].as_str().map(str::to_owned);
    let text = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    client.post(&client.headers(method, name.as_deref()), text.as_bytes())
}

#[test]
fn a_question_for_who_has_given_up_is_asked_of_nobody_else() {
    let scene = Scene::new();
    let client = scene.client();
    let able = json!({"elicitation": {}});
    let late = json!({"name": "ask_late", "arguments": {"after": 2, "what": "a secret of the first"}});
    let first = open(&client.address, &request(&client, "tools/call", late, able.clone(), None));
    std::thread::sleep(Duration::from_secs(1));
    drop(first);
    std::thread::sleep(Duration::from_millis(300));
    let wait = json!({"name": "wait", "arguments": {"seconds": 2}});
    let bytes = request(&client, "tools/call", wait, able, None);
    let second = support::http::exchange(&client.address, &bytes).expect("an answer").reply("1");
    assert_eq!(second["result"]["resultType"], "complete", "{second}");
    assert!(!second.to_string().contains("secret"), "{second}");
}

#[test]
fn what_is_logged_of_one_request_is_told_to_no_other() {
    let scene = Scene::new();
    let client = scene.client();
    // A request on the line that all share, of a client that wants to be told.
    let bytes = request(&client, "prompts/list", json!({}), json!({}), Some("debug"));
    let asking = {
        let address = client.address.clone();
        std::thread::spawn(move || support::http::exchange(&address, &bytes).expect("an answer"))
    };
    std::thread::sleep(Duration::from_millis(300));
    let log = json!({"name": "log", "arguments": {"say": "a secret of the other"}});
    let bytes = request(&client, "tools/call", log, json!({}), None);
    support::http::exchange(&client.address, &bytes).expect("an answer");
    let told = asking.join().expect("the exchange ends").texts().join("\n");
    assert!(told.contains("prompts") && !told.contains("secret"), "{told}");
}

#[test]
fn a_resource_is_not_told_of_to_who_listens_to_a_beginning_of_its_name() {
    let scene = Scene::new();
    let client = scene.client();
    let wanted = json!({"notifications": {"resourceSubscriptions": ["", "file:///a", "file:///sec"]}});
    let mut stream = BufReader::new(open(&client.address, &request(&client, "subscriptions/listen", wanted, json!({}), None)));
    let mut next = || {
        let mut line = String::new();
        while !line.starts_with("data:") {
            line.clear();
            assert!(stream.read_line(&mut line).expect("an event in time") > 0, "the stream has ended");
        }
        line
    };
    assert!(next().contains("acknowledged"));
    for uri in ["file:///secret", "file:///a/part"] {
        let bytes = request(&client, "resources/templates/list", json!({"cursor": uri}), json!({}), None);
        support::http::exchange(&client.address, &bytes).expect("an answer");
    }
    let told = next();
    assert!(told.contains("file:///a/part"), "{told}");
}
