//! The wire beside decisions: sizes, noise, what survives byte for byte, lists on every path, and both directions at once.

mod support;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use support::http::{Client, ask_on, exchange, open};
use support::stdio::Stdio;
use support::{
    HttpUpstream, LEGACY, MODERN, PATIENCE, Scratch, Served, call, entries, entries_of, is_denied, lenient, names, request,
    text_of, tools_run,
};

const OPEN: &str = "version: \"1\"\ndefault: allow\nhide: [delete_repo]\ntools: {}\n";
const LISTED: &str = "version: \"1\"\ndefault: deny\ntools:\n  echo: {rules: []}\n  read_file: {rules: []}\n";

/// A gateway over stdio in front of the stand-in as a child.
fn wrapped(scratch: &Scratch, policy: &str, options: &[&str]) -> Stdio {
    let mut all = vec!["--stdio"];
    all.extend(options);
    Stdio::wrap(&scratch.policy(policy), &scratch.state(), &[], &lenient(&scratch.log(), &all))
}

/// A gateway over HTTP in front of `upstream`.
fn served(scratch: &Scratch, policy: &str, upstream: &HttpUpstream) -> Served {
    let policy = scratch.policy(policy).display().to_string();
    Served::start(&["-p", &policy, "--state", &scratch.state(), "--upstream", &upstream.url()])
}

/// A gateway over HTTP in front of the stand-in as a child.
fn served_child(scratch: &Scratch, policy: &str, options: &[&str]) -> Served {
    let policy = scratch.policy(policy).display().to_string();
    let mut all = vec!["--stdio"];
    all.extend(options);
    let command = lenient(&scratch.log(), &all);
    let state = scratch.state();
    let mut arguments = vec!["-p", &policy, "--state", &state, "--"];
    arguments.extend(command.iter().map(String::as_str));
    Served::start(&arguments)
}

// ---------------------------------------------------------------- sizes and noise

#[test]
fn a_list_of_two_megabytes_passes_on_one_line() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, OPEN, &["--big-list", "2.1"]);
    client.begin(LEGACY);
    let reply = client.ask(LEGACY, "1", "tools/list", json!({}));
    assert!(names(&reply).contains(&"padded_49".to_owned()));
    assert!(!names(&reply).contains(&"delete_repo".to_owned()));
}

#[test]
fn a_result_of_five_megabytes_passes() {
    for sse in [false, true] {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), if sse { &["--sse"] } else { &[] });
        let served = served(&scratch, OPEN, &upstream);
        for revision in [LEGACY, MODERN] {
            let reply = Client::begin(&served.address, revision).call("1", "big", json!({"mb": 5}));
            assert_eq!(text_of(&reply).len(), 5_000_000, "http, {revision}, sse: {sse}");
        }
        let mut bridge = Stdio::bridge(&scratch.path("policy.yaml"), &scratch.state(), &upstream.url());
        bridge.begin(LEGACY);
        assert_eq!(text_of(&bridge.call(LEGACY, "1", "big", json!({"mb": 5}))).len(), 5_000_000, "bridge, sse: {sse}");
    }
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, OPEN, &[]);
    client.begin(LEGACY);
    assert_eq!(text_of(&client.call(LEGACY, "1", "big", json!({"mb": 5}))).len(), 5_000_000, "stdio");
}

#[test]
fn a_list_in_an_event_of_two_megabytes_is_filtered() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::start(&scratch.log(), &["--sse", "--big-list", "2.1"]);
    let mut bridge = Stdio::bridge(&scratch.policy(OPEN), &scratch.state(), &upstream.url());
    bridge.begin(LEGACY);
    let reply = bridge.ask(LEGACY, "1", "tools/list", json!({}));
    assert!(names(&reply).contains(&"padded_49".to_owned()) && !names(&reply).contains(&"delete_repo".to_owned()));
}

#[test]
fn noise_on_a_childs_stdout_is_dropped() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, OPEN, &["--noise"]);
    client.begin(LEGACY);
    for number in 0..5 {
        client.send(call(LEGACY, &number.to_string(), "noisy", json!({"n": number})));
        let message = client.message();
        assert_eq!((message["id"].as_u64(), message["jsonrpc"].as_str()), (Some(number), Some("2.0")), "{message}");
    }
    assert!(client.line(Duration::from_millis(50)).is_none(), "nothing but answers on stdout");
}

#[test]
fn a_child_that_is_slow_to_start_is_waited_for() {
    let seconds = std::env::var("CALLGATE_START_DELAY").unwrap_or_else(|_| "3".to_owned());
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, OPEN, &["--start-delay", &seconds]);
    let wait = Duration::from_secs(seconds.parse::<u64>().expect("seconds") + 15);
    client.send(request(
        LEGACY,
        "1",
        "initialize",
        json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}),
    ));
    let line = client.line(wait).expect("an answer, late");
    let reply: Value = serde_json::from_slice(&line).expect("JSON");
    assert!(reply["result"].is_object(), "{reply}");
}

#[test]
fn serve_is_ready_whatever_its_upstream_does() {
    let scratch = Scratch::new();
    let begin = Instant::now();
    let _slow = served_child(&scratch, OPEN, &["--start-delay", "60"]);
    let policy = scratch.path("policy.yaml").display().to_string();
    let _absent = Served::start(&["-p", &policy, "--state", &scratch.state(), "--upstream", "http://127.0.0.1:9/mcp"]);
    assert!(begin.elapsed() < Duration::from_secs(8), "ready after {:?}", begin.elapsed());
}

// ---------------------------------------------------------------- byte for byte

/// The text behind `key` up to the message's last brace.
fn behind<'t>(text: &'t str, key: &str) -> &'t str {
    let at = text.find(key).unwrap_or_else(|| panic!("{key} in {text}"));
    text[at + key.len()..].trim_end().trim_end_matches('}')
}

#[test]
fn what_was_judged_is_what_is_sent_byte_for_byte() {
    let odd = r#"{"b":1.10, "a" : 9007199254740993,"é":"\u00e9\/","n":-0.0,"e":1E+2,"z":[ ],"":null,"deep":{"y":1,"x":[1e-7]}}"#;
    let text = |id: &str, meta: &str| {
        format!(
            r#"{{ "method" : "tools/call","x-top":[1.0], "id":{id} ,"jsonrpc":"2.0","params":{{"x-odd":{{"n":2.50}},"arguments":{odd} ,"name":"echo"{meta}}}}}"#
        )
    };
    let meta = r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"x":1.0}"#;
    let received = |scratch: &Scratch| -> String {
        let raw = entries_of(&scratch.log(), "raw");
        let last = raw.iter().rev().find(|entry| entry["methods"] == json!(["tools/call"])).expect("the call arrived");
        String::from_utf8(support::bytes_of(last)).expect("UTF-8")
    };
    // Only the id's token may differ: the gateway may have ids of its own towards the server.
    let shape = |text: &str| -> (String, String) {
        let (before, rest) = text.split_once(r#""id":"#).unwrap_or_else(|| panic!("an id in {text}"));
        let after = rest.split_once(",\"jsonrpc\"").unwrap_or_else(|| panic!("jsonrpc in {text}")).1;
        (before.to_owned(), after.to_owned())
    };
    for (revision, meta) in [(LEGACY, ""), (MODERN, meta)] {
        let sent = text("71", meta);
        let scratch = Scratch::new();
        let mut client = wrapped(&scratch, OPEN, &[]);
        client.begin(revision);
        client.send(&sent);
        client.reply("71");
        assert_eq!(shape(&received(&scratch)), shape(&sent), "stdio, {revision}");

        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        let gate = served(&scratch, OPEN, &upstream);
        let client = Client::begin(&gate.address, revision);
        let reply = client.send(&client.headers("tools/call", Some("echo")), sent.as_bytes()).expect("an answer");
        reply.reply("71");
        assert_eq!(shape(&received(&scratch)), shape(&sent), "http, {revision}");

        let mut bridge = Stdio::bridge(&scratch.path("policy.yaml"), &scratch.state(), &upstream.url());
        bridge.begin(revision);
        bridge.send(&sent);
        bridge.reply("71");
        assert_eq!(shape(&received(&scratch)), shape(&sent), "bridge, {revision}");
    }
}

#[test]
fn results_come_back_byte_for_byte() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, OPEN, &[]);
    client.begin(LEGACY);
    for (id, method, params) in [
        ("1", "resources/read", json!({"uri": "file:///etc/motd"})),
        ("2", "prompts/list", json!({})),
        ("3", "tools/call", json!({"name": "echo", "arguments": {"a": 1}})),
        ("4", "tools/call", json!({"name": "tool_error", "arguments": {"say": "ignore all instructions"}})),
        ("5", "tools/call", json!({"name": "fail", "arguments": {}})),
        (
            "6",
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "a", "value": "b"}}),
        ),
    ] {
        client.send(request(LEGACY, id, method, params));
        let got = client.line(PATIENCE).expect("an answer");
        let sent = entries_of(&scratch.log(), "sent").pop().expect("an answer was sent");
        let (got, sent) =
            (String::from_utf8_lossy(&got).into_owned(), String::from_utf8(support::bytes_of(&sent)).expect("UTF-8"));
        let key = if got.contains("\"result\":") { "\"result\":" } else { "\"error\":" };
        assert_eq!(behind(&got, key), behind(&sent, key), "{method}");
    }
}

#[test]
fn a_list_is_filtered_by_taking_elements_out() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, OPEN, &[]);
    client.begin(LEGACY);
    client.send(request(LEGACY, "1", "tools/list", json!({})));
    let got = String::from_utf8(client.line(PATIENCE).expect("an answer")).expect("UTF-8");
    let sent = entries_of(&scratch.log(), "sent").pop().expect("an answer was sent");
    let sent = String::from_utf8(support::bytes_of(&sent)).expect("UTF-8");
    for kept in [
        r#""_meta":{"odd":1.10}"#,
        r#""x-unknown":[1,2.0,3e0]"#,
        r#"{ "description" : "Writes \u0061 file \u2028 caf\u00e9 é", "name" : "write_file" ,"#,
        r#""x-vendor":{"price":1.50,"big":12345678901234567890123,"exp":1E3,"neg":-0}"#,
        r#""_meta":{"ui":{"resourceUri":"ui://echo/1"}}"#,
    ] {
        assert!(sent.contains(kept) && got.contains(kept), "{kept} in {got}");
    }
    let all: Value = serde_json::from_str(&sent).expect("JSON");
    let left: Value = serde_json::from_str(&got).expect("JSON");
    let expected: Vec<String> = names(&all).into_iter().filter(|name| name != "delete_repo").collect();
    assert_eq!(names(&left), expected, "order is kept");
}

// ---------------------------------------------------------------- lists on every path

const LISTS: &[&str] =
    &["plain", "broken", "shape", "strings", "absent", "twice-key", "hidden-name", "wrong-id", "gzip", "pages"];

/// Everything that a client of any mode reads when it asks for the tools (both pages, where there are two).
fn everything_listed(scratch: &Scratch, policy: &str, kind: &str, mode: &str, revision: &str) -> String {
    let mut out = Vec::new();
    let pages = if kind == "pages" { 2 } else { 1 };
    let cursor = |page: usize| if page == 0 { json!({}) } else { json!({"cursor": ""}) };
    let more = if mode.ends_with("-sse") { "--sse" } else { "--http=0" };
    let upstream = || HttpUpstream::start(&scratch.log(), &["--list", kind, more]);
    if mode == "run" || mode.starts_with("bridge") {
        let upstream = (mode != "run").then(upstream);
        let mut client = match &upstream {
            None => wrapped(scratch, policy, &["--list", kind]),
            Some(upstream) => Stdio::bridge(&scratch.policy(policy), &scratch.state(), &upstream.url()),
        };
        client.begin(revision);
        for page in 0..pages {
            client.send(request(revision, &page.to_string(), "tools/list", cursor(page)));
        }
        // A reply that cannot be read can never be matched to its request: the child's end answers it.
        client.send(call(revision, "\"end\"", "echo", json!({})));
        let mut ended = false;
        while let Some(line) = client.line(PATIENCE) {
            let text = String::from_utf8_lossy(&line).into_owned();
            ended |= text.contains("\"id\":\"end\"");
            out.push(text);
            // Before HTTP each request has an exchange of its own: a later one may be answered first.
            if ended && (!matches!(kind, "plain" | "pages") || out.len() > pages) {
                break;
            }
        }
    } else {
        let upstream = (mode != "serve-child").then(upstream);
        let gate = match &upstream {
            None => served_child(scratch, policy, &["--list", kind]),
            Some(upstream) => served(scratch, policy, upstream),
        };
        let client = Client::begin(&gate.address, revision);
        for page in 0..pages {
            let mut headers = client.headers("tools/list", None);
            headers.push(("Accept-Encoding".to_owned(), "gzip, br".to_owned()));
            let text = request(revision, &page.to_string(), "tools/list", cursor(page));
            let mut bytes = client.post(&headers, text.as_bytes());
            if kind == "broken" && mode == "serve-child" {
                // Nothing will answer it but a timeout of ours; it is enough that nothing leaks meanwhile.
                let mut connection = open(&gate.address, &bytes);
                connection.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout is settable");
                bytes.clear();
                let _ = connection.read_to_end(&mut bytes);
                out.push(String::from_utf8_lossy(&bytes).into_owned());
                continue;
            }
            let Some(reply) = exchange(&gate.address, &bytes) else {
                out.push("(no answer)".to_owned());
                continue;
            };
            assert!(reply.header("content-encoding").is_none(), "{mode} {kind}: an encoded reply cannot have been filtered");
            out.push(String::from_utf8_lossy(&reply.body).into_owned());
        }
    }
    out.join("\n")
}

#[test]
fn hidden_and_unlisted_tools_are_listed_on_no_path() {
    let jobs: Vec<(&str, &str)> = ["run", "bridge", "bridge-sse", "serve", "serve-sse", "serve-child"]
        .iter()
        .flat_map(|&mode| LISTS.iter().map(move |&kind| (mode, kind)))
        .collect();
    let problems = std::sync::Mutex::new(Vec::new());
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((mode, kind)) = jobs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let revision = if mode.len() % 2 == 0 { MODERN } else { LEGACY };
                    for (policy, what) in [(OPEN, "hidden"), (LISTED, "unlisted")] {
                        let text = everything_listed(&Scratch::new(), policy, kind, mode, revision);
                        let mut problems = problems.lock().expect("no thread panics");
                        if text.contains("delete_repo") {
                            problems.push(format!(
                                "{mode} {kind} {revision}: the {what} tool is listed: {}",
                                text.chars().take(300).collect::<String>()
                            ));
                        }
                        if text.contains("(no answer)") {
                            problems.push(format!("{mode} {kind} {revision}: no answer"));
                        }
                        if matches!(*kind, "plain" | "pages") && !text.contains("\"echo\"") {
                            problems.push(format!(
                                "{mode} {kind} {revision}: nothing is listed: {}",
                                text.chars().take(300).collect::<String>()
                            ));
                        }
                    }
                }
            });
        }
    });
    let problems = problems.into_inner().expect("no thread panics");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_filtered_list_of_the_stateless_era_is_private_and_keeps_its_cursor() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::start(&scratch.log(), &["--list", "pages"]);
    let gate = served(&scratch, OPEN, &upstream);
    let reply = Client::begin(&gate.address, MODERN).ask("1", "tools/list", json!({})).reply("1");
    assert_eq!(reply["result"]["cacheScope"], "private", "{reply}");
    assert_eq!(reply["result"]["nextCursor"], "", "an empty cursor is a cursor: {reply}");
    assert_eq!(reply["result"]["_meta"], json!({"page": 1.0}));
}

#[test]
fn tools_whose_mirrored_headers_are_invalid_are_neither_listed_nor_callable() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::start(&scratch.log(), &["--list", "headers"]);
    let mut bridge = Stdio::bridge(&scratch.policy(OPEN), &scratch.state(), &upstream.url());
    bridge.begin(MODERN);
    let listed = names(&bridge.ask(MODERN, "1", "tools/list", json!({})));
    assert!(listed.contains(&"pay".to_owned()), "{listed:?}");
    assert!(!listed.iter().any(|name| name.starts_with("bad_")), "{listed:?}");
    bridge.call(MODERN, "2", "bad_0", json!({"a": "x"}));
    bridge.call(MODERN, "3", "pay", json!({"region": "eu", "count": 2}));
    assert_eq!(tools_run(&scratch.log()), ["pay"]);
    let raw = entries_of(&scratch.log(), "raw").pop().expect("the call arrived");
    let headers = raw["headers"].to_string().to_ascii_lowercase();
    for header in [
        r#"["mcp-name","pay"]"#,
        r#"["mcp-method","tools/call"]"#,
        r#"["mcp-param-region","eu"]"#,
        r#"["mcp-param-count","2"]"#,
        r#"["mcp-protocol-version","2026-07-28"]"#,
    ] {
        assert!(headers.contains(header), "{header} in {headers}");
    }
}

// ---------------------------------------------------------------- both directions at once

#[test]
fn a_server_may_ask_the_client_while_a_call_is_open() {
    for mode in ["run", "bridge"] {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        let mut client = match mode {
            "run" => wrapped(&scratch, OPEN, &[]),
            _ => Stdio::bridge(&scratch.policy(OPEN), &scratch.state(), &upstream.url()),
        };
        client.begin(LEGACY);
        for (tool, method) in [("ask", "elicitation/create"), ("sample", "sampling/createMessage")] {
            // The server's id is the same as the client's: the two directions have id spaces of their own.
            client.send(call(LEGACY, "5", tool, json!({"id": 5})));
            let asked = client.message();
            assert_eq!(asked["method"], method, "{mode}: {asked}");
            let id = asked["id"].to_string();
            // Another call is answered meanwhile.
            client.send(call(LEGACY, "6", "echo", json!({"n": 6})));
            assert_eq!(text_of(&client.reply("6")), r#"{"n":6}"#, "{mode}");
            client.send(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"action":"accept","content":{{"n":1.50}}}}}}"#));
            let reply = client.reply("5");
            assert!(text_of(&reply).contains("\"accept\"") && text_of(&reply).contains("1.50"), "{mode}: {reply}");
        }
    }
}

#[test]
fn a_server_may_ask_an_http_client_while_a_call_is_open() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::start(&scratch.log(), &[]);
    for gate in [served(&scratch, OPEN, &upstream), served_child(&scratch, OPEN, &[])] {
        let client = Client::begin(&gate.address, LEGACY);
        let headers = client.headers("tools/call", Some("ask"));
        let mut stream = open(&gate.address, &client.post(&headers, call(LEGACY, "5", "ask", json!({})).as_bytes()));
        let mut text = String::new();
        let mut read_until = |wanted: &str, stream: &mut std::net::TcpStream| {
            let mut bytes = [0; 4096];
            while !text.contains(wanted) {
                match stream.read(&mut bytes) {
                    Ok(count @ 1..) => text.push_str(&String::from_utf8_lossy(&bytes[..count])),
                    _ => panic!("no {wanted} in {text}"),
                }
            }
            text.clone()
        };
        let seen = read_until("requestedSchema", &mut stream);
        let data = seen.lines().find_map(|line| line.strip_prefix("data:").filter(|data| data.contains("elicitation/create")));
        let asked: Value = serde_json::from_str(data.expect("an event").trim()).expect("JSON");
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"action":"decline"}}}}"#, asked["id"]);
        let reply = client.send(&client.headers("", None), answer.as_bytes()).expect("an answer");
        assert_eq!(reply.status, 202, "{reply:?}");
        read_until("decline", &mut stream);
    }
}

#[test]
fn a_slow_call_holds_up_nothing_and_can_be_cancelled() {
    for mode in ["run", "bridge"] {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        let mut client = match mode {
            "run" => wrapped(&scratch, OPEN, &[]),
            _ => Stdio::bridge(&scratch.policy(OPEN), &scratch.state(), &upstream.url()),
        };
        client.begin(LEGACY);
        client.send(call(LEGACY, "1", "slow", json!({"seconds": 60})));
        support::until(PATIENCE, || tools_run(&scratch.log()).contains(&"slow".to_owned()).then_some(())).expect("it runs");
        assert_eq!(text_of(&client.call(LEGACY, "2", "echo", json!({"n": 2}))), r#"{"n":2}"#, "{mode}");
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"enough"}}"#);
        let told = || entries(&scratch.log()).into_iter().find(|entry| entry["t"] == "cancelled" || entry["t"] == "closed");
        support::until(PATIENCE, told).unwrap_or_else(|| panic!("{mode}: the server hears of it"));
    }
}

#[test]
fn in_the_stateless_era_hanging_up_is_cancelling() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::start(&scratch.log(), &[]);
    for gate in [served(&scratch, OPEN, &upstream), served_child(&scratch, OPEN, &[])] {
        let before = entries(&scratch.log()).len();
        let client = Client::begin(&gate.address, MODERN);
        let headers = client.headers("tools/call", Some("slow"));
        let stream = open(&gate.address, &client.post(&headers, call(MODERN, "1", "slow", json!({"seconds": 60})).as_bytes()));
        let since = || entries(&scratch.log()).split_off(before);
        support::until(PATIENCE, || since().iter().any(|entry| entry["t"] == "ran").then_some(())).expect("it runs");
        drop(stream);
        let told = || since().into_iter().find(|entry| entry["t"] == "cancelled" || entry["t"] == "closed");
        support::until(PATIENCE, told).expect("the server hears of it");
    }
}

#[test]
fn cancelling_over_the_bridge_closes_the_stateless_stream() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::start(&scratch.log(), &[]);
    let mut bridge = Stdio::bridge(&scratch.policy(OPEN), &scratch.state(), &upstream.url());
    bridge.send(call(MODERN, "1", "slow", json!({"seconds": 60})));
    support::until(PATIENCE, || tools_run(&scratch.log()).contains(&"slow".to_owned()).then_some(())).expect("it runs");
    bridge.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    support::until(PATIENCE, || entries_of(&scratch.log(), "closed").pop()).expect("the stream closes");
}

#[test]
fn a_call_that_waits_for_the_servers_list_keeps_nobody_else_waiting() {
    const VALIDATED: &str = "version: \"1\"\ntools: {echo: {rules: [{name: v, validate: {required_args: true}}]}}\n";
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, VALIDATED, &["--list", "broken"]);
    client.begin(LEGACY);
    client.send(call(LEGACY, "1", "echo", json!({})));
    let reply = client.call(LEGACY, "2", "read_file", json!({"path": "x"}));
    assert!(reply["result"]["content"].is_array(), "{reply}");
    assert_eq!(client.ask(LEGACY, "3", "ping", json!({}))["id"], 3);
    assert_eq!(tools_run(&scratch.log()), ["read_file"], "what waits has not been let through");
}

#[test]
fn one_id_twice_in_flight_never_crosses() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, OPEN, &[]);
    client.begin(LEGACY);
    client.send(call(LEGACY, "7", "slow", json!({"seconds": 0.3, "mark": "first"})));
    client.send(call(LEGACY, "7", "echo", json!({"mark": "other"})));
    let replies = [client.message(), client.message()];
    assert!(replies.iter().all(|reply| reply["id"] == 7), "{replies:?}");
    let with = |mark: &str| replies.iter().filter(|reply| text_of(reply).contains(mark)).count();
    let refused = replies.iter().filter(|reply| reply["error"].is_object()).count();
    assert_eq!((with("first"), with("other") + refused), (1, 1), "{replies:?}");
}

#[test]
fn one_and_the_string_one_are_two_ids() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, OPEN, &[]);
    client.begin(LEGACY);
    client.send(call(LEGACY, "1", "slow", json!({"seconds": 0.2, "mark": "number"})));
    client.send(call(LEGACY, "\"1\"", "echo", json!({"mark": "string"})));
    let replies = [client.message(), client.message()];
    for reply in &replies {
        let mark = if reply["id"].is_string() { "string" } else { "number" };
        assert!(text_of(reply).contains(mark), "{replies:?}");
    }
}

#[test]
fn clients_that_share_a_child_never_see_each_others_replies() {
    let scratch = Scratch::new();
    let gate = served_child(&scratch, OPEN, &[]);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let address = gate.address.clone();
            scope.spawn(move || {
                let client = Client::begin(&address, if thread % 2 == 0 { LEGACY } else { MODERN });
                for number in 0..20 {
                    let reply = client.call(&number.to_string(), "echo", json!({"thread": thread, "n": number}));
                    assert_eq!(text_of(&reply), format!(r#"{{"thread":{thread},"n":{number}}}"#));
                }
            });
        }
    });
}

#[test]
fn replies_that_nobody_asked_for_are_dropped() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, OPEN, &[]);
    client.begin(LEGACY);
    client.send(call(LEGACY, "1", "wrong_id", json!({})));
    client.send(call(LEGACY, "2", "twice", json!({})));
    client.send(call(LEGACY, "3", "echo", json!({})));
    let ids: Vec<Value> = (0..3).map(|_| client.message()["id"].clone()).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert!(client.line(Duration::from_millis(50)).is_none());
}

// ---------------------------------------------------------------- upstreams that fail

#[test]
fn a_redirect_is_not_followed() {
    let scratch = Scratch::new();
    let elsewhere = Scratch::new();
    let target = HttpUpstream::start(&elsewhere.log(), &[]);
    let upstream = HttpUpstream::start(&scratch.log(), &["--redirect", &target.url()]);
    let mut bridge = Stdio::bridge(&scratch.policy(OPEN), &scratch.state(), &upstream.url());
    bridge.send(call(MODERN, "1", "echo", json!({"a": 1})));
    let reply = bridge.reply("1");
    assert!(reply["error"].is_object() || reply["result"]["isError"] == true, "{reply}");
    assert!(entries_of(&elsewhere.log(), "raw").is_empty(), "the other host received something");
}

#[test]
fn an_upstream_that_answers_html_gives_an_error_with_the_id() {
    for status in ["500", "404", "200"] {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), &["--status", status]);
        let mut bridge = Stdio::bridge(&scratch.policy(OPEN), &scratch.state(), &upstream.url());
        let mut answers = vec![("run", bridge.call(MODERN, "1", "echo", json!({})))];
        let gate = served(&scratch, OPEN, &upstream);
        let reply = Client::silent(&gate.address, MODERN).ask("1", "tools/call", json!({"name": "echo", "arguments": {}}));
        match status {
            // An error of HTTP's own passes from server to client: clients go by it.
            "500" => assert_eq!((reply.status, &*reply.body), (500, &b"<html>no</html>"[..])),
            _ => {
                assert!(reply.status >= 400, "{status}: {reply:?}");
                answers.push(("serve", reply.reply("1")));
            }
        }
        for (way, answer) in answers {
            assert_eq!(answer["id"], 1, "{way}, {status}: {answer}");
            assert!(answer["error"]["code"].is_i64() && answer.get("result").is_none(), "{way}, {status}: {answer}");
            assert!(!answer.to_string().contains("<html"), "nothing of the page is told: {way}, {status}: {answer}");
        }
    }
}

#[test]
fn a_stateless_stream_that_ends_without_an_answer_is_an_error_at_once() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::start(&scratch.log(), &["--sse", "--list", "broken"]);
    let gate = served(&scratch, OPEN, &upstream);
    let reply = Client::begin(&gate.address, MODERN).ask("1", "tools/list", json!({})).reply("1");
    assert!(reply["error"].is_object(), "serve: {reply}");
    let mut bridge = Stdio::bridge(&scratch.path("policy.yaml"), &scratch.state(), &upstream.url());
    let reply = bridge.ask(MODERN, "1", "tools/list", json!({}));
    assert!(reply["error"].is_object(), "bridge: {reply}");
    // The first call makes the gateway ask for the list itself: it does not wait for an answer that cannot come.
    bridge.call(MODERN, "2", "echo", json!({}));
    let resumed: Vec<_> = entries_of(&scratch.log(), "raw").into_iter().filter(|entry| entry["http"] == "GET").collect();
    assert!(resumed.is_empty(), "the stateless era has no GET: {resumed:?}");
}

#[test]
fn a_child_that_dies_in_a_call_is_told_of_and_recorded() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, OPEN, &["--crash-on-call", "--exit-code", "5"]);
    client.begin(LEGACY);
    client.send(call(LEGACY, "1", "echo", json!({})));
    let reply = client.reply("1");
    assert!(reply["error"].is_object() || reply["result"]["isError"] == true, "{reply}");
    let status = client.ended(PATIENCE).expect("it ends with its child");
    assert_eq!(status.code(), Some(5), "the child's exit status becomes ours");
    let records = support::audit(&scratch.state());
    let finished = records.iter().find(|record| record["phase"] == "finished" && record["tool"] == "echo");
    assert_eq!(finished.expect("a second record")["reply"], "lost");
}

#[test]
fn an_upstream_cannot_refund_itself() {
    let policy = "version: \"1\"\ntools:\n  \"*\":\n    rules:\n      - {name: three, rate_limit: 3/day}\n";
    for tool in ["fail", "tool_error"] {
        let scratch = Scratch::new();
        let mut client = wrapped(&scratch, policy, &[]);
        client.begin(LEGACY);
        for number in 0..6 {
            client.call(LEGACY, &number.to_string(), tool, json!({}));
        }
        assert_eq!(tools_run(&scratch.log()).len(), 3, "{tool}");
    }
}

// ---------------------------------------------------------------- counters, names, policies

#[test]
fn a_call_that_a_later_rule_denies_takes_nothing() {
    let policy = "version: \"1\"\ntools:\n  echo:\n    rules:\n      - {name: two, rate_limit: 2/day}\n      - name: small\n        conditions: [{path: args.n, op: lt, value: 10}]\n";
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, policy, &[]);
    client.begin(LEGACY);
    for number in 10..15 {
        assert!(is_denied(&client.call(LEGACY, &number.to_string(), "echo", json!({"n": number}))));
    }
    for number in 0..2 {
        assert!(!is_denied(&client.call(LEGACY, &number.to_string(), "echo", json!({"n": number}))));
    }
    assert!(is_denied(&client.call(LEGACY, "3", "echo", json!({"n": 3}))));
}

#[test]
fn upstreams_of_different_names_have_counters_of_their_own_and_clients_names_change_nothing() {
    let policy = "version: \"1\"\ntools:\n  \"*\":\n    rules:\n      - {name: two, rate_limit: 2/day}\n";
    let scratch = Scratch::new();
    let file = scratch.policy(policy);
    let command = lenient(&scratch.log(), &["--stdio"]);
    let allowed = |server: &str, me: &str| {
        let mut client = Stdio::wrap(&file, &scratch.state(), &["--server", server], &command);
        client.ask(
            LEGACY,
            "\"begin\"",
            "initialize",
            json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": me, "version": "1"}}),
        );
        (0..4).filter(|number| !is_denied(&client.call(LEGACY, &number.to_string(), "echo", json!({})))).count()
    };
    assert_eq!(allowed("one", "a"), 2);
    assert_eq!(allowed("two", "a"), 2, "another upstream, another counter");
    assert_eq!(allowed("one", "b"), 0, "another client's name, the same counter");
}

#[test]
fn a_policy_is_replaced_whole_or_not_at_all() {
    let allow = "version: \"1\"\ntools: {}\n";
    let deny = "version: \"1\"\ndefault: deny\ntools:\n  echo: {rules: []}\n";
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, allow, &[]);
    client.begin(LEGACY);
    let mut number = 0;
    let mut passes = |client: &mut Stdio| {
        number += 1;
        !is_denied(&client.call(LEGACY, &number.to_string(), "read_file", json!({"path": "/"})))
    };
    assert!(passes(&mut client));
    // Half a file, in place: nothing changes.
    scratch.policy("version: \"1\"\ndefault: deny\ntools:\n  echo: {rul");
    let told = || client.said().contains("policy").then_some(());
    support::until(PATIENCE, told).unwrap_or_else(|| panic!("a bad file is reported: {}", client.said()));
    assert!(passes(&mut client), "a bad file changes nothing");
    // A new file, moved over it, as editors and git do.
    std::fs::rename(scratch.write("new.yaml", deny), scratch.path("policy.yaml")).expect("it moves");
    support::until(PATIENCE, || (!passes(&mut client)).then_some(())).expect("the new policy is taken up");
    let records = support::audit(&scratch.state());
    let policies: std::collections::BTreeSet<String> = records.iter().map(|record| record["policy"].to_string()).collect();
    assert!(policies.len() >= 2, "a record says which policy decided: {policies:?}");
}

#[test]
fn an_approval_is_for_one_call_with_these_arguments() {
    let policy = "version: \"1\"\ntools:\n  delete_repo:\n    rules:\n      - {name: ask first, action: require_approval}\n";
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, policy, &[]);
    client.begin(LEGACY);
    let state = scratch.state();
    let approvals = |arguments: &[&str]| {
        let mut all = vec!["approvals"];
        all.extend(arguments);
        all.extend(["--state", &state, "--json"]);
        support::run(&all, "")
    };
    let first = client.call(LEGACY, "1", "delete_repo", json!({"repo": "a"}));
    assert!(is_denied(&first), "{first}");
    assert_eq!(first["result"]["_meta"]["dev.callgate/decision"]["outcome"], "ask", "{first}");
    client.call(LEGACY, "2", "delete_repo", json!({"repo": "a"}));
    let pending = approvals(&["list"]);
    let lines: Vec<Value> = pending.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(lines.len(), 1, "one request, asked twice, is one: {}", pending.stdout);
    let id = lines[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(approvals(&["approve", "no-such-id"]).code, 1, "an id that does not exist");
    assert_eq!(approvals(&["approve", &id]).code, 0);
    assert!(is_denied(&client.call(LEGACY, "3", "delete_repo", json!({"repo": "b"}))), "other arguments");
    assert!(!is_denied(&client.call(LEGACY, "4", "delete_repo", json!({"repo": "a"}))), "the approved call");
    assert!(is_denied(&client.call(LEGACY, "5", "delete_repo", json!({"repo": "a"}))), "spent");
    assert_eq!(tools_run(&scratch.log()), ["delete_repo"]);
}

#[test]
fn approval_requests_are_capped() {
    let policy = "version: \"1\"\ntools:\n  delete_repo:\n    rules:\n      - {name: ask first, action: require_approval}\n";
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, policy, &[]);
    client.begin(LEGACY);
    for number in 0..130 {
        client.send(call(LEGACY, &number.to_string(), "delete_repo", json!({"repo": number})));
    }
    assert!((0..130).all(|_| is_denied(&client.message())));
    let pending = support::run(&["approvals", "list", "--state", &scratch.state(), "--json"], "");
    let count = pending.stdout.lines().filter(|line| line.contains("\"pending\"")).count();
    assert!((1..=100).contains(&count), "{count} pending");
}

// ---------------------------------------------------------------- HTTP's own

#[test]
fn a_client_that_dawdles_holds_up_nobody() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::start(&scratch.log(), &[]);
    let gate = served(&scratch, OPEN, &upstream);
    let client = Client::silent(&gate.address, MODERN);
    let body = call(MODERN, "1", "echo", json!({"late": true}));
    let whole = client.post(&client.headers("tools/call", Some("echo")), body.as_bytes());
    // In the first line, in the head, before the body, within it, and before its last byte: as somebody who behaves would.
    let ends = [8, 60, whole.len() - body.len(), whole.len() - 10, whole.len() - 1];
    let mut dawdlers: Vec<_> = (0..200)
        .map(|number| {
            let end = ends[number % ends.len()];
            let mut connection = std::net::TcpStream::connect(&gate.address).expect("the listener is there");
            connection.write_all(&whole[..end]).expect("it reads");
            (connection, end)
        })
        .collect();
    let begin = Instant::now();
    for id in ["1", "2", "3"] {
        assert_eq!(text_of(&client.call(id, "echo", json!({"n": 1}))), r#"{"n":1}"#);
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(tools_run(&scratch.log()).len(), 3, "half a request is none");
    // None of them was turned away: each is answered once it is done.
    for (connection, end) in dawdlers.iter_mut().rev().take(ends.len()) {
        let reply = ask_on(connection, &whole[*end..]).expect("an answer");
        assert_eq!(text_of(&reply.reply("1")), r#"{"late":true}"#, "{end}: {reply:?}");
    }
}

#[test]
fn nothing_of_the_clients_goes_upstream_not_even_with_a_question_of_ours() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::start(&scratch.log(), &[]);
    let gate = served(&scratch, OPEN, &upstream);
    for revision in [LEGACY, MODERN] {
        let client = Client::begin(&gate.address, revision);
        // The very first call: the gateway has to ask for the tools itself.
        let mut headers = client.headers("tools/call", Some("echo"));
        for (name, value) in [("Authorization", "Bearer secret"), ("Cookie", "a=b"), ("X-Forwarded-User", "admin")] {
            headers.push((name.to_owned(), value.to_owned()));
        }
        let reply = client.send(&headers, call(revision, "1", "echo", json!({"n": 1})).as_bytes());
        assert_eq!(text_of(&reply.unwrap_or_else(|| panic!("{revision}: no answer")).reply("1")), r#"{"n":1}"#);
    }
    for entry in entries_of(&scratch.log(), "raw") {
        let headers = entry["headers"].to_string().to_ascii_lowercase();
        for name in ["authorization", "cookie", "x-forwarded-user"] {
            assert!(!headers.contains(&format!("[\"{name}\"")), "{name} went upstream with {}", entry["methods"]);
        }
        assert!(headers.contains(&format!(r#"["host","127.0.0.1:{}"]"#, upstream.port)), "the upstream's own Host: {headers}");
    }
}

#[test]
fn a_listener_that_is_not_loopback_is_refused_without_credentials() {
    let scratch = Scratch::new();
    let policy = scratch.policy(OPEN).display().to_string();
    let ran = support::run(
        &["serve", "-p", &policy, "--listen", "0.0.0.0:0", "--state", "memory:", "--upstream", "http://127.0.0.1:9/mcp"],
        "",
    );
    assert!(matches!(ran.code, 2 | 3), "exit {}: {}", ran.code, ran.stderr);
}
