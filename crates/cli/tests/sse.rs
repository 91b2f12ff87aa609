//! HTTP+SSE of 2024-11-05 on either side, and the sessions that the gateway itself serves.

mod support;

use serde_json::json;
use std::io::{BufRead, BufReader, Read};
use std::time::Duration;
use support::events::Events;
use support::http::{Client, exchange, open};
use support::stdio::Stdio;
use support::{
    HttpUpstream, LEGACY, PATIENCE, Scratch, Served, audit, call, callgate, entries_of, is_alive, is_denied, lenient, names,
    request, text_of, tools_run, until,
};

const OPEN: &str = "version: \"1\"\ndefault: allow\nhide: [delete_repo]\ntools: {}\n";

/// A gateway over HTTP in front of the stand-in as a child.
fn before_child(scratch: &Scratch, more: &[&str], options: &[&str]) -> Served {
    let policy = scratch.policy(OPEN).display().to_string();
    let mut all = vec!["--stdio"];
    all.extend(options);
    let command = lenient(&scratch.log(), &all);
    let state = scratch.state();
    let mut arguments = vec!["-p", &policy, "--state", &state];
    arguments.extend(more);
    arguments.push("--");
    arguments.extend(command.iter().map(String::as_str));
    Served::start(&arguments)
}

/// A gateway over HTTP in front of an HTTP server.
fn before_http(scratch: &Scratch, url: &str) -> Served {
    let policy = scratch.policy(OPEN).display().to_string();
    Served::start(&["-p", &policy, "--state", &scratch.state(), "--upstream", url])
}

/// The process ids of all children so far.
fn children(scratch: &Scratch) -> Vec<u64> {
    entries_of(&scratch.log(), "start").iter().filter_map(|entry| entry["pid"].as_u64()).collect()
}

/// How many children live.
fn alive(scratch: &Scratch) -> usize {
    children(scratch).into_iter().filter(|pid| is_alive(*pid)).count()
}

// ---------------------------------------------------------------- towards clients

#[test]
fn a_client_of_2024_11_05_is_served_before_a_child_and_before_http() {
    for http in [false, true] {
        let scratch = Scratch::new();
        let upstream = http.then(|| HttpUpstream::start(&scratch.log(), &[]));
        let served = match &upstream {
            Some(upstream) => before_http(&scratch, &upstream.url()),
            None => before_child(&scratch, &[], &[]),
        };
        let client = Events::begin(&served.address);
        assert!(client.endpoint.starts_with("/messages?session="), "relative: {}", client.endpoint);
        let listed = names(&client.ask("1", "tools/list", json!({})));
        assert!(listed.contains(&"echo".to_owned()) && !listed.contains(&"delete_repo".to_owned()), "{listed:?}");
        assert_eq!(text_of(&client.call("2", "echo", json!({"a": 1}))), "{\"a\":1}");
        assert!(is_denied(&client.call("3", "delete_repo", json!({}))));
        assert_eq!(tools_run(&scratch.log()), ["echo"]);
    }
}

#[test]
fn a_server_may_ask_a_client_of_2024_11_05() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &[], &[]);
    let client = Events::begin(&served.address);
    client.post(call("2024-11-05", "7", "sample", json!({})));
    let question = client.message();
    assert_eq!(question["method"], "sampling/createMessage", "{question}");
    client.post(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"model":"m"}}}}"#, question["id"]));
    assert!(text_of(&client.reply("7")).contains("\"model\""));
}

#[test]
fn the_end_of_the_stream_is_the_end_of_the_session_and_its_child() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &[], &[]);
    let client = Events::begin(&served.address);
    let endpoint = client.endpoint.clone();
    assert_eq!(alive(&scratch), 1);
    drop(client);
    assert!(until(PATIENCE, || (alive(&scratch) == 0).then_some(())).is_some(), "the child lives on");
    let mut other = Events::open(&served.address);
    other.endpoint = endpoint;
    assert_eq!(other.post(call("2024-11-05", "1", "echo", json!({}))).status, 404);
}

#[test]
fn the_end_of_the_child_is_the_end_of_the_stream() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &[], &[]);
    let client = Events::begin(&served.address);
    client.post(call("2024-11-05", "1", "crash", json!({})));
    assert_eq!(client.reply("1")["error"]["code"], -31002);
    assert!(client.ends(PATIENCE));
}

#[test]
fn what_cannot_be_read_is_refused_on_the_stream_and_recorded() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &[], &[]);
    let client = Events::begin(&served.address);
    for (body, id) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"delete_repo"}}"#, json!(1)),
        (r#"{"jsonrpc":"2.0","id":2,"method":"tools/call"#, json!(null)),
        (r#"[{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"delete_repo"}}]"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":4,"result":{}}"#, json!(4)),
    ] {
        let reply = client.post(body);
        assert_eq!((reply.status, reply.body.len()), (202, 0), "{body}");
        if body.contains("result") {
            continue; // Nobody waits for an answer to a response.
        }
        let refusal = client.message();
        assert!(refusal["error"]["code"].is_i64() && refusal["id"] == id, "{body}: {refusal}");
    }
    client.call("5", "echo", json!({}));
    assert_eq!(tools_run(&scratch.log()), ["echo"]);
    let malformed = audit(&scratch.state()).iter().filter(|record| record["reason"] == "malformed").count();
    assert_eq!(malformed, 4);
}

#[test]
fn the_door_is_the_same_for_the_stream_and_its_posts() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &[], &[]);
    let client = Events::begin(&served.address);
    let status = |target: &str, method: &str, headers: &str, body: &str| {
        let text = format!("{method} {target} HTTP/1.1\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
        exchange(&served.address, text.as_bytes()).map(|reply| reply.status)
    };
    let host = format!("Host: {}\r\n", served.address);
    let json = format!("{host}Content-Type: application/json\r\n");
    let body = call("2024-11-05", "1", "echo", json!({}));
    assert_eq!(status("/sse", "GET", "Host: evil.example\r\n", ""), Some(403));
    assert_eq!(status("/sse", "GET", &format!("{host}Origin: http://evil.example\r\n"), ""), Some(403));
    assert_eq!(status("/sse", "POST", &json, &body), Some(405));
    assert_eq!(status(&client.endpoint, "GET", &host, ""), Some(405));
    assert_eq!(status(&client.endpoint, "POST", &format!("{json}Origin: http://evil.example\r\n"), &body), Some(403));
    assert_eq!(status(&client.endpoint, "POST", &format!("{host}Content-Type: text/plain\r\n"), &body), Some(415));
    for target in ["/messages", "/messages?session=", "/messages?session=0000", "/messages?Session=x"] {
        assert_eq!(status(target, "POST", &json, &body), Some(404), "{target}");
    }
    let token = client.endpoint.split_once('=').expect("a token").1;
    let as_session = format!("{json}Mcp-Session-Id: {token}\r\n");
    assert_eq!(status("/mcp", "POST", &as_session, &body), Some(404), "a stream's token is no session of /mcp");
    let legacy = Client::begin(&served.address, LEGACY);
    let id = legacy.session.expect("a session");
    assert_eq!(status(&format!("/messages?session={id}"), "POST", &json, &body), Some(404), "and the other way round");
    assert!(tools_run(&scratch.log()).is_empty());
    assert!(audit(&scratch.state()).iter().all(|record| record["session"].as_str() != Some(token)), "the token is a secret");
}

// ---------------------------------------------------------------- towards servers

/// The two addresses under which the stand-in serves HTTP+SSE: one tells by its name, the other is found out.
fn old_urls(upstream: &HttpUpstream) -> [String; 2] {
    [upstream.url(), upstream.url().replace("/mcp", "/sse")]
}

#[test]
fn a_server_of_2024_11_05_is_bridged_to_stdio() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::start(&scratch.log(), &["--old"]);
    for url in old_urls(&upstream) {
        let mut client = Stdio::bridge(&scratch.policy(OPEN), &scratch.state(), &url);
        client.begin("2024-11-05");
        let listed = names(&client.ask("2024-11-05", "1", "tools/list", json!({})));
        assert!(listed.contains(&"echo".to_owned()) && !listed.contains(&"delete_repo".to_owned()), "{listed:?}");
        assert_eq!(text_of(&client.call("2024-11-05", "2", "echo", json!({"a": 1}))), "{\"a\":1}");
        assert!(is_denied(&client.call("2024-11-05", "3", "delete_repo", json!({}))));
        client.send(call("2024-11-05", "4", "sample", json!({})));
        let question = client.message();
        assert_eq!(question["method"], "sampling/createMessage", "{question}");
        client.send(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"model":"m"}}}}"#, question["id"]));
        assert!(text_of(&client.reply("4")).contains("\"model\""), "{url}");
    }
    assert_eq!(tools_run(&scratch.log()), ["echo", "sample", "echo", "sample"]);
}

#[test]
fn a_server_of_2024_11_05_serves_clients_of_either_transport() {
    for path in [0, 1] {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), &["--old"]);
        let served = before_http(&scratch, &old_urls(&upstream)[path]);
        let (new, old) = (Client::begin(&served.address, LEGACY), Events::begin(&served.address));
        assert!(new.session.is_some());
        for listed in [new.ask("1", "tools/list", json!({})).reply("1"), old.ask("1", "tools/list", json!({}))] {
            let listed = names(&listed);
            assert!(listed.contains(&"echo".to_owned()) && !listed.contains(&"delete_repo".to_owned()), "{listed:?}");
        }
        assert_eq!(text_of(&new.call("2", "echo", json!({"a": 1}))), "{\"a\":1}");
        assert_eq!(text_of(&old.call("2", "echo", json!({"a": 2}))), "{\"a\":2}");
        assert!(is_denied(&new.call("3", "delete_repo", json!({}))) && is_denied(&old.call("3", "delete_repo", json!({}))));
        assert_eq!(tools_run(&scratch.log()), ["echo", "echo"]);
        drop(old);
        let closed = || entries_of(&scratch.log(), "closed").len();
        assert!(until(PATIENCE, || (closed() > 0).then_some(())).is_some(), "the stream to the server is still open");
    }
}

#[test]
fn a_server_does_not_get_our_posts_sent_elsewhere() {
    let scratch = Scratch::new();
    let elsewhere = HttpUpstream::start(&scratch.path("elsewhere.log"), &["--old"]);
    for endpoint in [format!("http://127.0.0.1:{}/messages", elsewhere.port), format!("//localhost:{}/messages", elsewhere.port)]
    {
        let upstream = HttpUpstream::start(&scratch.log(), &["--old", "--endpoint", &endpoint]);
        let policy = scratch.policy(OPEN).display().to_string();
        let mut run = callgate();
        run.args(["run", "-p", &policy, "--state", &scratch.state(), "--header", "Authorization: Bearer secret"]);
        run.args(["--upstream", &old_urls(&upstream)[1]]);
        let mut client = Stdio::spawn(run);
        let reply = client.ask("2024-11-05", "1", "initialize", initialize());
        assert!(reply["error"]["message"].as_str().is_some_and(|why| why.contains("another origin")), "{reply}");
        for url in old_urls(&upstream) {
            let served = Served::start(&["-p", &policy, "--state", &scratch.state(), "--upstream", &url]);
            let reply = Client::silent(&served.address, LEGACY).ask("7", "initialize", initialize());
            assert_eq!(reply.status, 502, "{url}: {reply:?}");
            let why = reply.reply("7")["error"]["message"].to_string();
            assert!(why.contains("another origin"), "{url}: {why}");
        }
    }
    assert!(entries_of(&scratch.path("elsewhere.log"), "raw").is_empty());
}

#[test]
fn a_stream_that_names_an_endpoint_is_not_passed_on() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::start(&scratch.log(), &["--old"]);
    let served = before_http(&scratch, &upstream.url());
    let mut got = open(&served.address, format!("GET /mcp HTTP/1.1\r\nHost: {}\r\n\r\n", served.address).as_bytes());
    got.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout is settable");
    let mut text = String::new();
    let _ = got.read_to_string(&mut text);
    assert!(!text.contains("session="), "{text}");
}

// ---------------------------------------------------------------- streams that broke

#[test]
fn a_stream_that_broke_is_taken_up_again_where_it_broke() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &[], &[]);
    let client = Client::begin(&served.address, LEGACY);
    let params = json!({"name": "progress", "arguments": {}, "_meta": {"progressToken": "p"}});
    let body = request(LEGACY, "1", "tools/call", params);
    let mut stream =
        BufReader::new(open(&served.address, &client.post(&client.headers("tools/call", Some("progress")), body.as_bytes())));
    let mut line = String::new();
    // The first event has nothing but an id.
    while line.trim_end() != "id: 1-1" {
        line.clear();
        assert!(stream.read_line(&mut line).expect("an event") > 0, "no event has an id");
    }
    let id = line["id: ".len()..].trim().to_owned();
    drop(stream);
    let resume = |session: &str, id: &str| {
        let head = format!("GET /mcp HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n", served.address);
        let text = format!("{head}Mcp-Session-Id: {session}\r\nLast-Event-ID: {id}\r\nConnection: close\r\n\r\n");
        exchange(&served.address, text.as_bytes()).expect("an answer")
    };
    let session = client.session.clone().expect("a session");
    for _ in 0..2 {
        let rest = resume(&session, &id).messages();
        let progress: Vec<&str> = rest.iter().filter_map(|message| message["method"].as_str()).collect();
        assert_eq!(progress, ["notifications/progress"; 2], "{rest:?}");
        assert_eq!(rest.last().map(|message| message["id"].clone()), Some(json!(1)), "{rest:?}");
    }
    let other = Client::begin(&served.address, LEGACY).session.expect("a session");
    assert_eq!(resume("0000", &id).status, 404, "who has no session has no stream");
    // An event of one session is none of another: it listens, and is told nothing.
    let head = format!("GET /mcp HTTP/1.1\r\nHost: {}\r\nMcp-Session-Id: {other}\r\nLast-Event-ID: {id}\r\n\r\n", served.address);
    let mut listening = open(&served.address, head.as_bytes());
    listening.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout is settable");
    let mut told = String::new();
    let _ = listening.read_to_string(&mut told);
    assert!(told.starts_with("HTTP/1.1 200") && !told.contains("data:"), "{told}");
}

#[test]
fn a_call_whose_connection_broke_before_anything_was_said_is_found_again() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &[], &[]);
    let slow = json!({"seconds": 1.5});
    let client = Client::begin(&served.address, LEGACY);
    let body = call(LEGACY, "1", "slow", slow.clone());
    let post = client.post(&client.headers("tools/call", Some("slow")), body.as_bytes());
    let mut stream = BufReader::new(open(&served.address, &post));
    let mut line = String::new();
    while line.trim_end() != "id: 1-0" {
        line.clear();
        assert!(stream.read_line(&mut line).expect("a line") > 0, "the stream is not primed");
    }
    drop(stream);
    let session = client.session.as_deref().expect("a session");
    let resume =
        format!("GET /mcp HTTP/1.1\r\nHost: {}\r\nMcp-Session-Id: {session}\r\nLast-Event-ID: 1-0\r\n\r\n", served.address);
    let rest = exchange(&served.address, resume.as_bytes()).expect("an answer");
    assert_eq!(text_of(&rest.reply("1")), r#"{"seconds":1.5}"#, "{rest:?}");

    // Who need not know such events is sent none.
    let client = Client::begin(&served.address, "2025-06-18");
    let reply = client.ask("1", "tools/call", json!({"name": "slow", "arguments": slow}));
    assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
}

// ---------------------------------------------------------------- children

#[test]
fn past_the_bound_on_children_a_session_is_refused() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &["--max-children", "2"], &[]);
    let first = Client::begin(&served.address, LEGACY);
    let second = Events::begin(&served.address);
    first.call("1", "echo", json!({}));
    second.call("1", "echo", json!({}));
    let third = Client { session: None, ..first.clone() };
    let reply = third.ask("9", "initialize", initialize());
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(reply.messages()[0]["error"]["message"].as_str().is_some_and(|why| why.contains("too many sessions")));
    drop(second);
    let begun = until(PATIENCE, || (third.ask("9", "initialize", initialize()).status == 200).then_some(()));
    assert!(begun.is_some(), "there is room again");
    assert!(children(&scratch).len() == 3 && alive(&scratch) <= 2);
}

#[test]
fn the_place_of_a_session_that_was_ended_is_free_for_the_next() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &["--max-children", "1"], &[]);
    for _ in 0..4 {
        let client = Client::begin(&served.address, LEGACY);
        let session = client.session.clone().expect("a session");
        let delete = format!("DELETE /mcp HTTP/1.1\r\nHost: {}\r\nMcp-Session-Id: {session}\r\n\r\n", served.address);
        assert_eq!(exchange(&served.address, delete.as_bytes()).map(|reply| reply.status), Some(200));
    }
    assert!(alive(&scratch) <= 1);
}

#[test]
fn a_session_that_was_begun_and_left_makes_room() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &["--max-children", "2"], &[]);
    let used = Client::begin(&served.address, LEGACY);
    let left = Client { session: None, ..used.clone() }.ask("9", "initialize", initialize());
    assert_eq!(left.status, 200);
    let third = Client { session: None, ..used.clone() };
    let begun = until(PATIENCE, || {
        let reply = third.ask("9", "initialize", initialize());
        (reply.status == 200).then_some(reply)
    });
    assert!(begun.is_some(), "nobody made room");
    let gone = Client { session: left.header("mcp-session-id").map(str::to_owned), ..used.clone() };
    assert_eq!(gone.ask("1", "tools/list", json!({})).status, 404);
    assert_eq!(text_of(&used.call("1", "echo", json!({}))), "{}", "who has finished the handshake stays");
    assert!(until(PATIENCE, || (alive(&scratch) == 2).then_some(())).is_some());
}

#[test]
fn deleting_a_session_reaps_its_child_and_all_it_has_started() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &[], &["--fork"]);
    let client = Client::begin(&served.address, LEGACY);
    let processes = || {
        let grandchildren = entries_of(&scratch.log(), "child").into_iter().filter_map(|entry| entry["pid"].as_u64());
        children(&scratch).into_iter().chain(grandchildren).filter(|pid| is_alive(*pid)).count()
    };
    assert_eq!(processes(), 2);
    let session = client.session.clone().expect("a session");
    let delete = format!("DELETE /mcp HTTP/1.1\r\nHost: {}\r\nMcp-Session-Id: {session}\r\n\r\n", served.address);
    assert_eq!(exchange(&served.address, delete.as_bytes()).map(|reply| reply.status), Some(200));
    assert!(until(PATIENCE, || (processes() == 0).then_some(())).is_some(), "something lives on");
    assert_eq!(client.ask("1", "tools/list", json!({})).status, 404);
}

// ---------------------------------------------------------------- resumed streams, sessions, batches

#[test]
fn a_list_that_is_resumed_is_filtered() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::polling(&scratch.log());
    let served = before_http(&scratch, &upstream.url());
    let client = Client::begin(&served.address, LEGACY);
    let get = |last_event: &str| {
        let session = client.session.as_deref().expect("a session");
        let text = format!(
            "GET /mcp HTTP/1.1\r\nHost: {}\r\nMcp-Session-Id: {session}\r\nLast-Event-ID: {last_event}\r\n\r\n",
            served.address
        );
        exchange(&served.address, text.as_bytes()).expect("an answer")
    };
    let polled = client.ask("\"l\"", "tools/list", json!({}));
    assert!(polled.messages().is_empty());
    assert_eq!(String::from_utf8_lossy(&polled.body), "id: event-0\nretry: 20\ndata:\n\n", "as the server has sent it");
    let resumed = get("event-0");
    assert_eq!(names(&resumed.reply("\"l\"")), ["echo"]);
    assert!(String::from_utf8_lossy(&resumed.body).starts_with("id: last\n"), "{resumed:?}");

    client.ask("2", "tools/call", json!({"name": "echo", "arguments": {"a": 1}}));
    assert_eq!(text_of(&get("event-1").reply("2")), "{\"a\": 1}");
    let ends = || audit(&scratch.state()).iter().filter(|record| record["reply"] == "completed").count();
    assert!(until(PATIENCE, || (ends() == 1).then_some(())).is_some(), "how the call ended is on record");
    assert_eq!(get("event-1").messages().len(), 0, "a reply is given once");
}

#[test]
fn the_bridge_resumes_what_a_server_lets_it_poll_for() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::polling(&scratch.log());
    let mut client = Stdio::bridge(&scratch.policy(OPEN), &scratch.state(), &upstream.url());
    client.begin(LEGACY);
    assert_eq!(names(&client.ask(LEGACY, "1", "tools/list", json!({}))), ["echo"]);
    assert_eq!(text_of(&client.call(LEGACY, "2", "echo", json!({"a": 1}))), "{\"a\": 1}");
}

#[test]
fn deleting_a_session_of_the_servers_reaches_it() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::polling(&scratch.log());
    let served = before_http(&scratch, &upstream.url());
    let client = Client::begin(&served.address, LEGACY);
    let session = client.session.expect("a session");
    let delete = format!("DELETE /mcp HTTP/1.1\r\nHost: {}\r\nMcp-Session-Id: {session}\r\n\r\n", served.address);
    assert_eq!(exchange(&served.address, delete.as_bytes()).map(|reply| reply.status), Some(200));
    let log = std::fs::read_to_string(scratch.log()).expect("the upstream's log");
    assert!(log.contains(&format!("DELETE /mcp {session}")), "{log}");
}

#[test]
fn each_item_of_a_batch_is_judged_alone() {
    for http in [false, true] {
        let scratch = Scratch::new();
        let upstream = http.then(|| HttpUpstream::start(&scratch.log(), &[]));
        let served = match &upstream {
            Some(upstream) => before_http(&scratch, &upstream.url()),
            None => before_child(&scratch, &[], &[]),
        };
        let of = |revision: &str| {
            let items = [("1", "echo"), ("2", "delete_repo")].map(|(id, tool)| call("2025-03-26", id, tool, json!({})));
            let text =
                format!("[{},{},{}]", items[0], items[1], r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#);
            let client = Client::begin(&served.address, revision);
            client.send(&client.headers("tools/call", None), text.as_bytes()).expect("an answer")
        };
        let batch = of("2025-03-26");
        let answers = batch.messages()[0].as_array().cloned().unwrap_or_else(|| panic!("http: {http}, {batch:?}"));
        assert_eq!(answers.len(), 2, "http: {http}, {answers:?}");
        let answer = |id: u64| answers.iter().find(|answer| answer["id"] == id).expect("each has its answer");
        assert!(text_of(answer(1)) == "{}" && is_denied(answer(2)), "http: {http}, {answers:?}");
        assert_eq!(of("2025-06-18").status, 400, "http: {http}: no other revision has batches");
        assert_eq!(tools_run(&scratch.log()), ["echo"], "http: {http}");
    }
}

// ---------------------------------------------------------------- sharing

/// How often the server was sent `method`.
fn arrived(scratch: &Scratch, method: &str) -> usize {
    entries_of(&scratch.log(), "raw").iter().filter(|entry| entry["methods"][0] == method).count()
}

#[test]
fn one_child_serves_all_sessions_where_they_share_it() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &["--isolation", "shared", "--max-children", "1"], &[]);
    let clients: Vec<_> = (0..4).map(|_| Client::begin(&served.address, LEGACY)).collect();
    std::thread::scope(|scope| {
        for (number, client) in clients.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..20 {
                    let arguments = json!({"client": number, "round": round});
                    let reply = client.call(&round.to_string(), "echo", arguments.clone());
                    assert_eq!(text_of(&reply).parse::<serde_json::Value>().expect("JSON"), arguments);
                }
            });
        }
    });
    let listed = names(&clients[0].ask("1", "tools/list", json!({})).reply("1"));
    assert!(listed.contains(&"echo".to_owned()) && !listed.contains(&"delete_repo".to_owned()), "{listed:?}");
    assert!(is_denied(&clients[1].call("1", "delete_repo", json!({}))));
    assert_eq!(
        (children(&scratch).len(), arrived(&scratch, "initialize"), arrived(&scratch, "notifications/initialized")),
        (1, 1, 1)
    );
}

#[test]
fn progress_goes_to_whoever_has_asked_under_their_own_token() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &["--isolation", "shared"], &[]);
    let clients = [Client::begin(&served.address, LEGACY), Client::begin(&served.address, LEGACY)];
    for (number, client) in clients.iter().enumerate() {
        let params = json!({"name": "progress", "arguments": {"n": number}, "_meta": {"progressToken": "same"}});
        let reply = client.ask("1", "tools/call", params);
        let steps: Vec<_> = reply.messages().into_iter().filter(|m| m["method"] == "notifications/progress").collect();
        assert_eq!(steps.len(), 3, "{reply:?}");
        assert!(steps.iter().all(|step| step["params"]["progressToken"] == "same"), "{steps:?}");
        assert_eq!(text_of(&reply.reply("1")), format!("{{\"n\":{number}}}"));
    }
}

#[test]
fn what_belongs_to_one_session_is_not_shared() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &["--isolation", "shared"], &[]);
    let (one, other) = (Client::begin(&served.address, LEGACY), Events::begin(&served.address));
    for method in ["logging/setLevel", "resources/subscribe", "resources/unsubscribe", "tasks/list"] {
        let reply = one.ask("5", method, json!({"level": "debug", "uri": "file:///x"})).reply("5");
        assert_eq!(reply["error"]["code"], -32601, "{method}: {reply}");
        assert_eq!(arrived(&scratch, method), 0, "{method}");
    }
    // A question of the server's has no addressee: it is answered in the client's place, and the call goes on.
    let reply = one.call("6", "sample", json!({}));
    assert!(text_of(&reply).contains("-32601"), "{reply}");
    // One client's cancellation is not another's, though their ids are equal.
    one.send(
        &one.headers("notifications/cancelled", None),
        br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#,
    );
    let waiting = std::thread::spawn({
        let one = one.clone();
        move || one.call("7", "slow", json!({"seconds": 2}))
    });
    assert!(until(PATIENCE, || tools_run(&scratch.log()).contains(&"slow".to_owned()).then_some(())).is_some());
    other.post(call("2024-11-05", "7", "hang", json!({})));
    other.post(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#);
    assert_eq!(text_of(&waiting.join().expect("the call returns")), "{\"seconds\":2}");
}

#[test]
fn that_a_list_has_changed_is_said_to_all() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &["--isolation", "shared"], &[]);
    let clients = [Events::begin(&served.address), Events::begin(&served.address)];
    clients[0].post(call("2024-11-05", "1", "changed", json!({})));
    for client in &clients {
        assert_eq!(client.message()["method"], "notifications/tools/list_changed");
    }
    assert_eq!(children(&scratch).len(), 1);
}

#[test]
fn a_shared_child_outlives_sessions_and_its_end_is_theirs() {
    let scratch = Scratch::new();
    let served = before_child(&scratch, &["--isolation", "shared"], &[]);
    drop(Events::begin(&served.address));
    let (one, other) = (Events::begin(&served.address), Events::begin(&served.address));
    assert_eq!(children(&scratch).len(), 1);
    one.post(call("2024-11-05", "1", "crash", json!({})));
    assert_eq!(one.reply("1")["error"]["code"], -31002);
    assert!(one.ends(PATIENCE) && other.ends(PATIENCE));
    let next = Events::begin(&served.address);
    assert_eq!(text_of(&next.call("1", "echo", json!({}))), "{}");
    assert_eq!(children(&scratch).len(), 2);
    served.signal(rustix::process::Signal::TERM);
    assert!(until(PATIENCE, || (alive(&scratch) == 0).then_some(())).is_some(), "the shared child lives on");
}

fn initialize() -> serde_json::Value {
    json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}})
}
