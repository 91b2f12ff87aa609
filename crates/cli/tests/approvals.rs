//! People and calls: told by webhook, answered over the admin API, asked in the client, waited for.
//!
//! Everything here is real: the binary, a server behind it, a receiver of webhooks that checks what it is sent, and several
//! processes on one state.

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};
use support::http::{Client, exchange};
use support::stdio::Stdio;
use support::{
    HttpUpstream, LEGACY, MODERN, PATIENCE, Scratch, Served, call, callgate, is_denied, lenient, request, tools_run, until,
};

const ASKING: &str = "version: \"1\"\ntools:\n  delete_repo:\n    rules:\n      - {name: ask first, action: require_approval}\n";
const SECRET: &str = "a-secret-of-the-webhook";
const ALICE: &str = "a-token-of-alice";
const BOB: &str = "a-token-of-bob";

/// A policy whose rule asks with these further keys, and whose webhook is at `url`, if any.
fn policy(more: &str, webhook: Option<&str>) -> String {
    let webhook = webhook.map(|url| format!("approvals: {{webhook: {{url: \"{url}\", secret: \"env:WEBHOOK_SECRET\"}}}}\n"));
    let rule = format!("{{name: ask first, action: require_approval{more}}}");
    format!("version: \"1\"\n{}tools:\n  delete_repo:\n    rules:\n      - {rule}\n", webhook.unwrap_or_default())
}

/// `callgate serve -p` with an admin API, and where that listens.
fn administered(scratch: &Scratch, policy: &str, more: &[&str]) -> (Served, String) {
    let mut command = callgate();
    command.env("WEBHOOK_SECRET", SECRET).env("ALICE", ALICE).env("BOB", BOB);
    let path = scratch.policy(policy);
    let state = scratch.state();
    let mut arguments = vec!["-p", path.to_str().expect("a path is text"), "--state", &state, "--admin", "127.0.0.1:0"];
    arguments.extend(["--admin-token", "alice=env:ALICE", "--admin-token", "bob=env:BOB"]);
    arguments.extend(more);
    let server = lenient(&scratch.log(), &["--stdio"]);
    if !more.contains(&"--upstream") {
        arguments.push("--");
        arguments.extend(server.iter().map(String::as_str));
    }
    let served = Served::start_with(command, &arguments);
    let said = served.stderr.lock().expect("no reader panics").clone();
    let admin = said
        .split_once("administered on http://")
        .expect("it says where it is administered")
        .1
        .split_once("/v1")
        .expect("it says where it is administered")
        .0
        .to_owned();
    (served, admin)
}

/// Asks the admin API; gives the status and the answer.
fn admin(address: &str, token: &str, method: &str, path: &str) -> (u16, Value) {
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let reply = exchange(address, text.as_bytes()).expect("an answer");
    (reply.status, serde_json::from_slice(&reply.body).unwrap_or(Value::Null))
}

/// The id of the one approval that waits.
fn waiting(address: &str) -> String {
    let found = until(PATIENCE, || {
        let (_, listed) = admin(address, ALICE, "GET", "/v1/approvals");
        listed["items"].as_array()?.first()?["id"].as_str().map(str::to_owned)
    });
    found.expect("an approval waits")
}

/// One request that a receiver was sent.
struct Delivered {
    head: String,
    body: Vec<u8>,
}

impl Delivered {
    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        line.unwrap_or_else(|| panic!("no {name}: {}", self.head))
    }

    /// What a receiver has to check: the signature over the time and the body, and that the time is now.
    fn verify(&self) {
        let (seconds, signature) = (self.header("x-callgate-timestamp"), self.header("x-callgate-signature"));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
        let signed = [seconds.as_bytes(), b".", &self.body].concat();
        let hex = signature.strip_prefix("sha256=").expect("the scheme");
        let tag: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect();
        ring::hmac::verify(&key, &signed, &tag).expect("the signature is right");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is past 1970").as_secs();
        assert!(now.abs_diff(seconds.parse().expect("a number")) < 300);
    }
}

/// A receiver of webhooks that answers each request in turn with one of `statuses`, then with the last for ever.
fn receiver(statuses: &'static [&'static str]) -> (String, Receiver<Delivered>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}/hook?key=in-the-address", listener.local_addr().expect("it has an address"));
    let (send, delivered) = channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let Some(request) = read_request(&mut stream) else { continue };
            let status = statuses[number.min(statuses.len() - 1)];
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
            if send.send(request).is_err() {
                return;
            }
        }
    });
    (url, delivered)
}

fn read_request(stream: &mut TcpStream) -> Option<Delivered> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let lower = head.to_ascii_lowercase();
        let length: usize = lower.split_once("content-length: ")?.1.lines().next()?.trim().parse().ok()?;
        if bytes.len() >= end + 4 + length {
            return Some(Delivered { head, body: bytes[end + 4..].to_vec() });
        }
    }
}

#[test]
fn a_person_is_told_by_webhook_and_answers_over_the_admin_api() {
    let scratch = Scratch::new();
    let (url, delivered) = receiver(&["503 Later", "204 Done"]);
    let (served, api) = administered(&scratch, &policy("", Some(&url)), &[]);
    let client = Client::begin(&served.address, LEGACY);
    let asked = client.call("1", "delete_repo", json!({"repo": "a\u{202e}b"}));
    assert_eq!(asked["result"]["_meta"]["dev.callgate/decision"]["outcome"], "ask", "{asked}");

    let refused = delivered.recv_timeout(PATIENCE).expect("a webhook");
    let accepted = delivered.recv_timeout(PATIENCE).expect("the same once more, after a failure");
    assert_eq!(refused.body, accepted.body);
    for each in [&refused, &accepted] {
        each.verify();
    }
    let told: Value = serde_json::from_slice(&accepted.body).unwrap();
    assert_eq!(told["type"], "approval.requested");
    assert_eq!(told["approval"]["arguments"]["repo"], "a\u{202e}b", "exactly the call");
    assert_eq!(told["approval"]["arguments_shown"], r#"{"repo":"a\u{202e}b"}"#, "and what hides in it");
    let id = told["approval"]["id"].as_str().unwrap();
    assert!(!String::from_utf8_lossy(&accepted.body).contains(SECRET));

    assert!(is_denied(&client.call("2", "delete_repo", json!({"repo": "a\u{202e}b"}))), "nobody has answered");
    let (status, approved) = admin(&api, ALICE, "POST", told["approve"]["path"].as_str().unwrap());
    assert_eq!((status, approved["state"].as_str(), approved["decided_by"].as_str()), (200, Some("approved"), Some("alice")));
    assert!(is_denied(&client.call("3", "delete_repo", json!({"repo": "ab"}))), "another call");
    assert!(!is_denied(&client.call("4", "delete_repo", json!({"repo": "a\u{202e}b"}))));
    assert_eq!(tools_run(&scratch.log()), ["delete_repo"]);
    assert_eq!(admin(&api, BOB, "POST", &format!("/v1/approvals/{id}/deny")).0, 409, "it is spent");

    let (_, records) = admin(&api, ALICE, "GET", "/v1/audit?limit=1000");
    let acts: Vec<&Value> = records["items"].as_array().unwrap().iter().filter(|record| record["phase"] == "admin").collect();
    assert_eq!((acts[0]["method"].as_str(), acts[0]["principal"].as_str()), (Some("approvals/approve"), Some("alice")));
    let log = served.stderr.lock().unwrap().clone();
    for secret in [SECRET, ALICE, BOB, "in-the-address"] {
        assert!(!log.contains(secret) && !records.to_string().contains(secret), "{secret} is told");
    }
}

#[test]
fn slack_and_teams_are_told_in_their_own_forms_and_no_redirect_is_followed() {
    for (form, member) in [("slack", "blocks"), ("teams", "attachments")] {
        let scratch = Scratch::new();
        let (elsewhere, strayed) = receiver(&["200 OK"]);
        let moved: &'static str = Box::leak(format!("302 Found\r\nLocation: {elsewhere}").into_boxed_str());
        let (url, delivered) = receiver(Box::leak(Box::new([moved, "200 OK"])));
        let policy = policy("", Some(&url)).replace("secret:", &format!("form: {form}, secret:"));
        let (served, _) = administered(&scratch, &policy, &[]);
        Client::begin(&served.address, LEGACY).call("1", "delete_repo", json!({"repo": "a"}));
        let told: Value = serde_json::from_slice(&delivered.recv_timeout(PATIENCE).expect("a webhook").body).unwrap();
        assert!(told[member].is_array(), "{told}");
        assert!(delivered.recv_timeout(PATIENCE).is_ok(), "a redirect is no acceptance");
        assert!(strayed.try_recv().is_err(), "and is not followed");
    }
}

#[test]
fn the_admin_api_is_for_administrators_on_this_machine() {
    let scratch = Scratch::new();
    let (served, api) = administered(&scratch, ASKING, &[]);
    let ask = |head: &str| exchange(&api, format!("{head}Content-Length: 0\r\n\r\n").as_bytes()).expect("an answer");
    let with = |more: &str| ask(&format!("GET /v1/approvals HTTP/1.1\r\nHost: {api}\r\n{more}"));
    assert_eq!(with("").status, 401);
    assert_eq!(with("").header("www-authenticate"), Some("Bearer realm=\"callgate admin\""));
    assert_eq!(with("Authorization: Bearer wrong\r\n").status, 401);
    let right = format!("Authorization: Bearer {ALICE}\r\n");
    assert_eq!(with(&right).status, 200);
    assert_eq!(with(&format!("{right}{right}")).status, 400);
    assert_eq!(with(&format!("{right}Origin: http://evil.example\r\n")).status, 403);
    let rebound = format!("GET /v1/approvals HTTP/1.1\r\nHost: evil.example\r\n{right}");
    assert_eq!(ask(&rebound).status, 403);
    for (path, status) in [
        ("/v1/approvals?state=all&limit=5", 200),
        ("/v1/approvals?limit=0", 400),
        ("/v1/approvals?nonsense=1", 400),
        ("/v1/approvals/nothing", 404),
        ("/v1/audit/nothing", 404),
        ("/v1/audit?outcome=ask", 200),
        ("/v1/status", 200),
        ("/v1/nonsense", 404),
        ("/mcp", 404),
    ] {
        assert_eq!(admin(&api, ALICE, "GET", path).0, status, "{path}");
    }
    assert_eq!(admin(&api, ALICE, "POST", "/v1/approvals").0, 405);
    let (status, document) = admin(&api, "", "GET", "/openapi.json");
    assert_eq!((status, document["openapi"].as_str()), (200, Some("3.1.0")));
    assert_eq!(admin(&api, "", "GET", "/healthz").0, 200);
    // Neither way round: an administrator's token calls nothing, and callers administer nothing.
    assert_eq!(admin(&served.address, ALICE, "GET", "/v1/approvals").0, 404);
}

#[test]
fn tokens_on_the_command_line_must_be_references() {
    let scratch = Scratch::new();
    let path = scratch.policy(ASKING);
    for (token, expected) in [("hunter2-itself", 3), ("env:NOT_SET_ANYWHERE", 3), ("file:/nonexistent", 3)] {
        let arguments = [
            "serve",
            "-p",
            path.to_str().unwrap(),
            "--state",
            "memory:",
            "--admin",
            "127.0.0.1:0",
            "--admin-token",
            token,
            "--",
            "cat",
        ];
        let ran = support::run(&arguments, "");
        assert_eq!(ran.code, expected, "{}", ran.stderr);
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    }
}

#[test]
fn two_people_approve_and_the_same_one_counts_once() {
    let scratch = Scratch::new();
    let (served, api) = administered(&scratch, &policy(", approvals: {count: 2, of: [alice, bob, carol]}", None), &[]);
    let client = Client::begin(&served.address, LEGACY);
    let asked = client.call("1", "delete_repo", json!({"repo": "a"}));
    assert!(support::text_of(&asked).contains("2 of [alice, bob, carol]"), "{asked}");
    let approve = format!("/v1/approvals/{}/approve", waiting(&api));
    let (status, half) = admin(&api, ALICE, "POST", &approve);
    assert_eq!((status, half["state"].as_str(), half["still_needs"].as_i64()), (200, Some("pending"), Some(1)));
    assert_eq!(admin(&api, ALICE, "POST", &approve).0, 409, "once is once");
    assert!(is_denied(&client.call("2", "delete_repo", json!({"repo": "a"}))));
    assert_eq!(admin(&api, BOB, "POST", &approve).1["state"], "approved");
    assert!(!is_denied(&client.call("3", "delete_repo", json!({"repo": "a"}))));
}

#[test]
fn a_call_waits_for_its_answer_and_goes_through() {
    let scratch = Scratch::new();
    let (served, api) = administered(&scratch, &policy(", wait: 60s", None), &[]);
    let client = Client::begin(&served.address, LEGACY);
    let caller = client.clone();
    let call = thread::spawn(move || {
        let params = json!({"name": "delete_repo", "arguments": {"repo": "a"}, "_meta": {"progressToken": "p"}});
        caller.ask("1", "tools/call", params)
    });
    let id = waiting(&api);
    // Nobody else waits meanwhile.
    assert!(!is_denied(&client.call("2", "get_repo", json!({"repo": "a"}))));
    admin(&api, ALICE, "POST", &format!("/v1/approvals/{id}/approve"));
    let reply = call.join().unwrap();
    assert!(!is_denied(&reply.reply("1")), "{reply:?}");
    let progress = reply.messages().into_iter().find(|message| message["method"] == "notifications/progress").expect("progress");
    assert_eq!(progress["params"]["message"], format!("waiting for approval {id}"), "{progress}");
    assert!(tools_run(&scratch.log()).contains(&"delete_repo".to_owned()));
}

#[test]
fn a_call_that_waits_is_refused_with_its_approval_or_ends_pending() {
    let scratch = Scratch::new();
    let (served, api) = administered(&scratch, &policy(", wait: 2s", None), &[]);
    let client = Client::begin(&served.address, LEGACY);
    let begun = Instant::now();
    let pending = client.call("1", "delete_repo", json!({"repo": "a"}));
    assert_eq!(pending["result"]["_meta"]["dev.callgate/decision"]["reason"], "approval-required", "{pending}");
    assert!(begun.elapsed() >= Duration::from_secs(2));
    admin(&api, ALICE, "POST", &format!("/v1/approvals/{}/deny", waiting(&api)));
    let denied = client.call("2", "delete_repo", json!({"repo": "a"}));
    assert_eq!(denied["result"]["_meta"]["dev.callgate/decision"]["reason"], "approval-denied", "{denied}");
    assert!(tools_run(&scratch.log()).is_empty());
}

#[test]
fn a_call_that_was_cancelled_while_it_waited_is_not_made() {
    let scratch = Scratch::new();
    let state = scratch.state();
    let mut client =
        Stdio::wrap(&scratch.policy(&policy(", wait: 60s", None)), &state, &[], &lenient(&scratch.log(), &["--stdio"]));
    client.begin(LEGACY);
    client.send(call(LEGACY, "7", "delete_repo", json!({"repo": "a"})));
    let list = || support::run(&["approvals", "list", "--json", "--state", &state], "").stdout;
    let id =
        until(PATIENCE, || serde_json::from_str::<Value>(&list()).ok()?["id"].as_str().map(str::to_owned)).expect("it waits");
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#);
    assert!(!is_denied(&client.call(LEGACY, "8", "get_repo", json!({"repo": "a"}))), "the cancellation has been heard");
    assert_eq!(support::run(&["approvals", "approve", &id, "--state", &state], "").code, 0);
    // What was let through for nobody is given back: the approval is there for the next call.
    let mut number = 9;
    let through = until(PATIENCE, || {
        number += 1;
        let id = number.to_string();
        (!is_denied(&client.call(LEGACY, &id, "delete_repo", json!({"repo": "a"})))).then_some(())
    });
    assert!(through.is_some());
    let runs = tools_run(&scratch.log());
    assert_eq!(runs.iter().filter(|tool| *tool == "delete_repo").count(), 1, "{runs:?}");
}

/// Reads messages until one asks something; gives its id and parameters.
fn question(client: &Stdio) -> (Value, Value) {
    loop {
        let message = client.message();
        if message["method"] == "elicitation/create" {
            return (message["id"].clone(), message["params"].clone());
        }
    }
}

#[test]
fn the_person_before_a_legacy_client_is_asked_only_where_that_is_allowed() {
    let scratch = Scratch::new();
    let path = scratch.policy(ASKING);
    let server = lenient(&scratch.log(), &["--stdio"]);
    let mut client = Stdio::wrap(&path, &scratch.state(), &["--approve-in-client"], &server);
    client.begin(LEGACY);
    for (id, result, passes) in [
        ("1", json!({"action": "accept", "content": {"approve": true}}), true),
        ("2", json!({"action": "accept", "content": {"approve": false}}), false),
        ("3", json!({"action": "decline"}), false),
        ("4", json!({"action": "cancel"}), false),
    ] {
        client.send(call(LEGACY, id, "delete_repo", json!({"repo": format!("{id}\u{200b}")})));
        let (asked, params) = question(&client);
        let message = params["message"].as_str().unwrap();
        assert!(message.contains("delete_repo") && message.contains(&format!(r#"{{"repo":"{id}\u{{200b}}"}}"#)), "{message}");
        client.send(json!({"jsonrpc": "2.0", "id": asked, "result": result}).to_string());
        let reply = client.reply(id);
        assert_eq!(!is_denied(&reply), passes, "{reply}");
    }
    assert_eq!(tools_run(&scratch.log()), ["delete_repo"]);
    let listed = support::run(&["approvals", "list", "--all", "--json", "--state", &scratch.state()], "").stdout;
    let states: Vec<String> =
        listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["state"].to_string()).collect();
    assert_eq!(states, ["\"spent\"", "\"denied\"", "\"denied\"", "\"pending\""], "what was put away waits for others");

    // Without the flag, nobody but others can answer.
    let scratch = Scratch::new();
    let mut client = Stdio::wrap(&scratch.policy(ASKING), &scratch.state(), &[], &lenient(&scratch.log(), &["--stdio"]));
    client.begin(LEGACY);
    assert!(is_denied(&client.call(LEGACY, "1", "delete_repo", json!({"repo": "a"}))));
    // Nor can a client answer what it was not asked.
    client.send(r#"{"jsonrpc":"2.0","id":"callgate-approval-x","result":{"action":"accept","content":{"approve":true}}}"#);
    assert!(is_denied(&client.call(LEGACY, "2", "delete_repo", json!({"repo": "a"}))));
}

/// A modern call with what a client hands back.
fn again(id: &str, arguments: &Value, state: &Value, result: Value) -> String {
    let params = json!({"name": "delete_repo", "arguments": arguments, "requestState": state,
        "inputResponses": {"callgate-approval": result}});
    request(MODERN, id, "tools/call", params)
}

#[test]
fn a_modern_client_is_asked_in_the_result_and_its_state_is_for_one_call() {
    let scratch = Scratch::new();
    let path = scratch.policy(ASKING);
    let server = lenient(&scratch.log(), &["--stdio", "--era", "modern"]);
    let mut client = Stdio::wrap(&path, &scratch.state(), &["--approve-in-client"], &server);
    let arguments = json!({"repo": "a"});
    let asked = client.call(MODERN, "1", "delete_repo", arguments.clone());
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    assert_eq!(asked["result"]["inputRequests"]["callgate-approval"]["method"], "elicitation/create");
    let state = asked["result"]["requestState"].clone();
    let yes = || json!({"action": "accept", "content": {"approve": true}});

    let forged = json!(state.as_str().unwrap().replace("callgate-approval.", "callgate-approval.x"));
    let mut last = state.as_str().unwrap().to_owned();
    last.pop();
    for (id, arguments, state) in
        [("2", json!({"repo": "b"}), state.clone()), ("3", arguments.clone(), forged), ("4", arguments.clone(), json!(last))]
    {
        client.send(again(id, &arguments, &state, yes()));
        let refused = client.reply(id);
        assert!(refused["error"].is_object(), "{refused}");
    }
    assert!(tools_run(&scratch.log()).is_empty());

    client.send(again("5", &arguments, &state, yes()));
    let passed = client.reply("5");
    assert!(!passed["result"]["isError"].as_bool().unwrap_or(false), "{passed}");
    assert_eq!(tools_run(&scratch.log()), ["delete_repo"]);
    client.send(again("6", &arguments, &state, yes()));
    assert_eq!(client.reply("6")["result"]["resultType"], "input_required", "the answer was spent; this call asks anew");
    assert_eq!(tools_run(&scratch.log()), ["delete_repo"]);
}

#[test]
fn what_waits_survives_a_restart_and_one_of_many_processes_spends_it() {
    let scratch = Scratch::new();
    let (served, api) = administered(&scratch, ASKING, &[]);
    let client = Client::begin(&served.address, LEGACY);
    assert!(is_denied(&client.call("1", "delete_repo", json!({"repo": "a"}))));
    let id = waiting(&api);
    served.signal(Signal::KILL);
    drop(served);

    let (first, api) = administered(&scratch, ASKING, &[]);
    let (second, _) = administered(&scratch, ASKING, &[]);
    assert_eq!(admin(&api, ALICE, "POST", &format!("/v1/approvals/{id}/approve")).0, 200);
    let racers: Vec<_> = (0..8)
        .map(|number| {
            let address = if number % 2 == 0 { first.address.clone() } else { second.address.clone() };
            thread::spawn(move || !is_denied(&Client::begin(&address, LEGACY).call("1", "delete_repo", json!({"repo": "a"}))))
        })
        .collect();
    let passed = racers.into_iter().map(|racer| racer.join().unwrap()).filter(|passed| *passed).count();
    assert_eq!(passed, 1, "one approval, one call");
    assert_eq!(tools_run(&scratch.log()), ["delete_repo"]);
    support::assert_verified(&scratch.state());
}

#[test]
fn before_an_http_server_a_client_is_asked_and_waited_for_all_the_same() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::start(&scratch.log(), &[]);
    let url = upstream.url();
    let (served, api) = administered(&scratch, &policy(", wait: 60s", None), &["--approve-in-client", "--upstream", &url]);
    let client = Client::begin(&served.address, LEGACY);
    let caller = client.clone();
    let calling =
        thread::spawn(move || caller.ask("1", "tools/call", json!({"name": "delete_repo", "arguments": {"repo": "a"}})));
    let id = waiting(&api);
    // Whoever is quicker answers: here it is not the client.
    admin(&api, ALICE, "POST", &format!("/v1/approvals/{id}/approve"));
    let reply = calling.join().unwrap();
    assert!(reply.messages().iter().any(|message| message["method"] == "elicitation/create"), "{reply:?}");
    assert!(!is_denied(&reply.reply("1")), "{reply:?}");
    assert_eq!(tools_run(&scratch.log()), ["delete_repo"]);
}

#[test]
fn a_configuration_says_who_administers_who_is_told_and_whose_client_is_asked() {
    let scratch = Scratch::new();
    let (url, delivered) = receiver(&["200 OK"]);
    scratch.policy(ASKING);
    let child = serde_json::to_string(&lenient(&scratch.log(), &["--stdio"])).unwrap();
    let config = format!(
        "listen: 127.0.0.1:0\nstate: {}\nservers:\n  child: {{command: {child}, policy: policy.yaml}}\ngrants:\n  \
         - {{name: ada, principal: 'person:ada', token: 'env:ADA', servers: [child], approve_in_client: true}}\n  \
         - {{name: ci, principal: 'service:ci', token: 'env:CI', servers: [child]}}\n\
         admin: {{listen: '127.0.0.1:0', tokens: {{alice: 'env:ALICE'}}}}\n\
         approvals: {{webhooks: [{{url: '{url}', secret: 'env:WEBHOOK_SECRET'}}]}}\n",
        scratch.state()
    );
    let (ada, ci) = ("token-of-ada-0123456789", "token-of-ci-0123456789");
    let variables = [("ADA", ada), ("CI", ci), ("ALICE", ALICE), ("WEBHOOK_SECRET", SECRET)];
    let served = Served::configured(&scratch.write("callgate.yaml", config), &variables);
    let said = served.stderr.lock().unwrap().clone();
    let api = said.split_once("administered on http://").unwrap().1.split_once("/v1").unwrap().0.to_owned();

    let call = |token: &str| {
        let client = Client::silent(&served.address, MODERN).at("/mcp/child", token);
        client.call("1", "delete_repo", json!({"repo": "a"}))
    };
    assert_eq!(call(ada)["result"]["resultType"], "input_required", "its grant allows it");
    assert!(is_denied(&call(ci)), "and this one does not");
    for _ in 0..2 {
        delivered.recv_timeout(PATIENCE).expect("a webhook for each").verify();
    }
    let (status, listed) = admin(&api, ALICE, "GET", "/v1/approvals?grant=ci");
    assert_eq!((status, listed["items"].as_array().map(Vec::len)), (200, Some(1)), "{listed}");
    assert_eq!(admin(&api, ada, "GET", "/v1/approvals").0, 401, "callers administer nothing");
}
