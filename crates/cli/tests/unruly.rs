//! Servers that are silent, endless or strange: an answer for the client, in bounded time and memory, and nobody else harmed.
//!
//! A server of the test's own says exactly what each case wants. What is called `bystander` it answers as it should.

mod support;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use support::http::{Client, Reply};
use support::stdio::Stdio;
use support::{MODERN, PATIENCE, Scratch, Served, call, text_of};

const OPEN: &str = "version: \"1\"\ntools: {}\n";

/// What the server does with the connection of the request that is meant, whose id it is given.
type Conduct = dyn Fn(&mut TcpStream, &Value) -> Next + Send + Sync;

/// What becomes of the connection after that. One on which a whole answer was given is kept, as servers keep theirs: whoever
/// closes it without a word may do so just when the next request comes, which nobody could then tell to have been in vain.
#[derive(PartialEq)]
enum Next {
    Keep,
    Close,
}

struct Unruly {
    url: String,
    /// Connections that have been made.
    connections: Arc<AtomicUsize>,
}

/// Reads one request: its head, and as much of a body as that says.
fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).ok().filter(|&count| count > 0)?;
        bytes.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some(text);
        }
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A message that answers `id`.
fn answer(id: &Value, result: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

/// What a tool of the stateless era gives.
fn fine() -> Value {
    json!({"resultType": "complete", "content": [{"type": "text", "text": "fine"}]})
}

impl Unruly {
    fn start(conduct: Arc<Conduct>) -> Unruly {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(mut stream), conduct) = (stream, conduct.clone()) else { return };
                counted.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || {
                    while let Some(request) = read_request(&mut stream) {
                        let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                        let asked: Value = serde_json::from_str(body).unwrap_or_default();
                        let result = match asked["method"].as_str() {
                            Some("tools/list") => json!({"resultType": "complete", "tools": []}),
                            Some("server/discover") => json!({"resultType": "complete", "supportedVersions": [MODERN],
                                "capabilities": {}, "serverInfo": {"name": "unruly", "version": "1"}}),
                            Some("tools/call") if asked["params"]["name"] == "bystander" => fine(),
                            _ => match conduct(&mut stream, &asked["id"]) {
                                Next::Keep => continue,
                                Next::Close => return,
                            },
                        };
                        let answer = ok(&answer(&asked["id"], result));
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Unruly { url, connections }
    }
}

/// Writes `text` and keeps the connection open until the other side closes it.
fn then_silence(text: &'static str) -> Arc<Conduct> {
    Arc::new(move |stream, _| {
        let _ = stream.write_all(text.as_bytes());
        let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
        let _ = stream.read(&mut [0]);
        Next::Close
    })
}

/// Writes `head` and then `more` for as long as it is read, up to 200 MB.
fn endlessly(head: &'static str, more: &'static str) -> Arc<Conduct> {
    Arc::new(move |stream, _| {
        let block = more.repeat(65_536 / more.len());
        let _ = stream.write_all(head.as_bytes());
        for _ in 0..200_000_000 / block.len() {
            if stream.write_all(block.as_bytes()).is_err() {
                break;
            }
        }
        Next::Close
    })
}

/// Writes `text`, which is no whole answer, and closes.
fn then_closes(text: &'static str) -> Arc<Conduct> {
    Arc::new(move |stream, _| {
        let _ = stream.write_all(text.as_bytes());
        Next::Close
    })
}

/// Writes `text`, which is a whole answer.
fn then_goes_on(text: impl Into<String>) -> Arc<Conduct> {
    let text = text.into();
    Arc::new(move |stream, _| {
        let _ = stream.write_all(text.as_bytes());
        Next::Keep
    })
}

fn served(scratch: &Scratch, url: &str) -> Served {
    let policy = scratch.policy(OPEN).display().to_string();
    Served::start(&["-p", &policy, "--state", &scratch.state(), "--timeout", "2s", "--upstream", url])
}

fn ask(client: &Client, tool: &str) -> Reply {
    let headers = client.headers("tools/call", Some(tool));
    client.send(&headers, call(MODERN, "1", tool, json!({})).as_bytes()).expect("an answer")
}

/// Both through `serve` and over the bridge: an error under the call's id, in time, while a bystander is served.
#[track_caller]
fn check(what: &str, conduct: Arc<Conduct>) {
    let scratch = Scratch::new();
    let upstream = Unruly::start(conduct);
    let gate = served(&scratch, &upstream.url);
    let client = Client::silent(&gate.address, MODERN);
    let begun = Instant::now();
    let reply = thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&client, "unruly"));
        let bystander = Instant::now();
        let reply = ask(&client, "bystander");
        assert_eq!(text_of(&reply.reply("1")), "fine", "{what}: {reply:?}");
        assert!(bystander.elapsed() < Duration::from_secs(5), "{what}: {:?}", bystander.elapsed());
        asking.join().expect("no panic")
    });
    let error = reply.reply("1");
    assert!(error["error"].is_object(), "{what}: {reply:?}");
    assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", begun.elapsed());
    let finished =
        support::audit(&scratch.state()).into_iter().find(|record| record["phase"] == "finished" && record["tool"] == "unruly");
    assert_eq!(finished.expect("how it ended is recorded")["reply"], "lost", "{what}: nobody knows whether it ran");

    let mut run = support::callgate();
    run.arg("run").arg("-p").arg(scratch.path("policy.yaml")).args(["--state", "memory:", "--timeout", "2s"]);
    run.args(["--upstream", &upstream.url]);
    let mut bridge = Stdio::spawn(run);
    bridge.send(call(MODERN, "1", "unruly", json!({})));
    assert!(bridge.reply("1")["error"].is_object(), "{what}");
    assert_eq!(text_of(&bridge.call(MODERN, "1", "bystander", json!({}))), "fine", "{what}");
}

const JSON: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

#[test]
fn a_server_that_falls_silent_is_given_up() {
    check("no answer", then_silence(""));
    check("half a head", then_silence("HTTP/1.1 200 OK\r\nContent-Ty"));
    check(
        "half a body",
        then_silence("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"jsonrpc\""),
    );
    check("a stream of nothing", then_silence("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"));
    check("half an event", then_silence("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {\"jsonrpc\""));
}

#[test]
fn a_server_that_never_ends_is_cut_off() {
    check("a body", endlessly("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", "[[[[[[[["));
    check("an event", endlessly("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: ", "xxxxxxxx"));
    check("a head", endlessly("HTTP/1.1 200 OK\r\n", "X-More: more\r\n"));
    check("a header", endlessly("HTTP/1.1 200 OK\r\nX-More: ", "xxxxxxxx"));
    check("a status line", endlessly("HTTP/1.1 200 ", "xxxxxxxx"));
}

#[test]
fn a_server_that_breaks_off_or_answers_something_else_is_an_error_at_once() {
    check("nothing", then_closes(""));
    check("half a head", then_closes("HTTP/1.1 200 OK\r\nConte"));
    check(
        "half a body",
        then_closes("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"jsonrpc\":"),
    );
    check(
        "half a chunk",
        then_closes("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"),
    );
    check("half an event", then_closes("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {"));
    check("no HTTP", then_closes("SSH-2.0-OpenSSH_9.6\r\n"));
    check(
        "another protocol",
        then_closes("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    );
    check(
        "two lengths",
        then_closes("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}   "),
    );
    check("nothing but a status", then_goes_on("HTTP/1.1 204 No Content\r\n\r\n"));
    check("a page", then_goes_on("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>"));
    check(
        "an answer to something else",
        then_goes_on(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 36\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}",
        ),
    );
    for encoding in ["gzip", "br", "deflate"] {
        check(
            encoding,
            Arc::new(move |stream, id| {
                let body = answer(id, fine());
                let head = format!("{JSON}Content-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes());
                Next::Keep
            }),
        );
    }
}

#[test]
fn what_a_server_says_before_and_beside_its_answer_stays_with_us() {
    let scratch = Scratch::new();
    let head = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                Set-Cookie: a=b\r\nAlt-Svc: h3=\"evil.example:443\"\r\nLocation: http://evil.example/\r\nRefresh: 0; url=http://evil.example/\r\n\
                Access-Control-Allow-Origin: *\r\nServer: unruly\r\nConnection: close\r\n";
    let upstream = Unruly::start(Arc::new(move |stream, id| {
        let body = answer(id, fine());
        let _ = stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        Next::Close
    }));
    let gate = served(&scratch, &upstream.url);
    let reply = ask(&Client::silent(&gate.address, MODERN), "unruly");
    assert_eq!(text_of(&reply.reply("1")), "fine", "{reply:?}");
    let passed: Vec<_> = reply.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    assert!(passed.iter().all(|name| ["content-type", "content-length", "date"].contains(&name.as_str())), "{passed:?}");
}

#[test]
fn a_connection_that_the_server_has_closed_meanwhile_costs_nobody_a_call() {
    let scratch = Scratch::new();
    let (closed, closing) = std::sync::mpsc::channel();
    let closed = Mutex::new(closed);
    let upstream = Unruly::start(Arc::new(move |stream, id| {
        let _ = stream.write_all(ok(&answer(id, fine())).as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Both);
        let _ = closed.lock().unwrap().send(());
        Next::Close
    }));
    let gate = served(&scratch, &upstream.url);
    let client = Client::silent(&gate.address, MODERN);
    for _ in 0..20 {
        assert_eq!(text_of(&ask(&client, "unruly").reply("1")), "fine");
        closing.recv_timeout(PATIENCE).expect("the server has closed the connection");
    }
    assert!(upstream.connections.load(Ordering::Relaxed) >= 20, "each call had a connection of its own");
}

#[test]
fn no_redirect_is_followed_by_any_method() {
    let elsewhere = Unruly::start(then_goes_on("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    for status in [
        "300 Multiple Choices",
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let scratch = Scratch::new();
        let text = format!("HTTP/1.1 {status}\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", elsewhere.url);
        let seen = Arc::new(Mutex::new(0));
        let counting = seen.clone();
        let upstream = Unruly::start(Arc::new(move |stream, _| {
            *counting.lock().unwrap() += 1;
            let _ = stream.write_all(text.as_bytes());
            Next::Keep
        }));
        let policy = scratch.policy(OPEN).display().to_string();
        let secret = ["--header", "Authorization: Bearer secret"];
        let mut arguments = vec!["-p", &policy, "--state", "memory:", "--upstream", &upstream.url];
        arguments.extend(secret);
        let gate = Served::start(&arguments);
        let client = Client::silent(&gate.address, MODERN);
        let reply = ask(&client, "unruly");
        assert_eq!(reply.status, 502, "{status}");
        assert!(reply.reply("1")["error"].is_object(), "{status}");
        assert!(reply.header("location").is_none(), "{status}");
        for method in ["GET", "DELETE"] {
            let request = format!(
                "{method} /mcp HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nMcp-Session-Id: a\r\n\r\n",
                gate.address
            );
            let reply = support::http::exchange(&gate.address, request.as_bytes()).expect("an answer");
            assert_eq!(reply.status, 502, "{method} {status}");
            assert!(reply.header("location").is_none(), "{method} {status}");
        }
        assert!(*seen.lock().unwrap() >= 3, "each was asked for");
    }
    assert_eq!(elsewhere.connections.load(Ordering::Relaxed), 0);
}

#[test]
fn nobody_is_sent_to_an_authority_that_a_server_names() {
    const TOKEN: &str = "a-token-of-the-tests-long-enough-to-be-one";
    for (status, error) in [(401, ""), (403, "error=\"insufficient_scope\", ")] {
        let scratch = Scratch::new();
        let upstream = Unruly::start(then_goes_on(format!(
            "HTTP/1.1 {status} No\r\nWWW-Authenticate: Bearer {error}resource_metadata=\"https://evil.example/.well-known/oauth-protected-resource\"\r\n\
             WWW-Authenticate: Basic realm=\"evil.example\"\r\nContent-Length: 0\r\n\r\n"
        )));
        let policy = scratch.policy(OPEN).display().to_string();
        let secret = "Authorization: Bearer secret";
        let alone = Served::start(&["-p", &policy, "--state", "memory:", "--upstream", &upstream.url, "--header", secret]);
        scratch.write("token", TOKEN);
        let config = json!({
            "listen": "127.0.0.1:0", "state": "memory:",
            "servers": {"web": {"url": upstream.url, "policy": "policy.yaml", "headers": {"Authorization": "file:token"}, "pin": "off"}},
            "grants": [{"name": "ada", "principal": "person:ada", "token": "file:token", "servers": ["web"]}],
        });
        let configured = Served::configured(&scratch.write("callgate.yaml", config.to_string()), &[]);
        let clients = [
            Client::silent(&alone.address, MODERN),
            Client { token: Some(TOKEN.to_owned()), ..Client::silent(&configured.address, MODERN).at("/mcp/web", TOKEN) },
        ];
        for client in clients {
            let mut replies = vec![("POST", ask(&client, "unruly"))];
            for method in ["GET", "DELETE"] {
                let authorization = client.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
                let request = format!(
                    "{method} {} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nMcp-Session-Id: a\r\n{}\r\n",
                    client.path,
                    client.address,
                    authorization.unwrap_or_default()
                );
                let reply = support::http::exchange(&client.address, request.as_bytes()).expect("an answer");
                replies.push((method, reply));
            }
            for (method, reply) in replies {
                // The gateway's credentials are refused, and not the client's: it would go and ask for others.
                let told = if status == 401 { 502 } else { status };
                assert_eq!(reply.status, told, "{method} {}: {reply:?}", client.path);
                assert!(!format!("{:?}", reply.headers).contains("evil.example"), "{method} {}: {reply:?}", client.path);
                assert!(!String::from_utf8_lossy(&reply.body).contains("evil.example"), "{method} {}: {reply:?}", client.path);
            }
        }
    }
}

#[test]
fn statuses_and_bodies_that_tell_clients_the_era_pass_unchanged() {
    let error = |code: i64, id: &str| {
        format!(
            "{{ \"jsonrpc\" : \"2.0\",\"id\":{id} ,\"error\":{{\"message\":\"n\\u006f\",\"code\":{code},\"data\":{{\"supported\":[\"{MODERN}\"],\"odd\":1.0}}}}}}"
        )
    };
    let mut cases: Vec<(u16, &str, String)> = Vec::new();
    for code in [-32020, -32021, -32022] {
        cases.extend(["1", "null"].map(|id| (400, "application/json", error(code, id))));
    }
    cases.extend([
        (
            400,
            "application/json",
            "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32000,\"message\":\"Bad Request: Missing session ID\"}}".to_owned(),
        ),
        (400, "application/json; charset=utf-8", "{\"detail\": \"no such version\"}".to_owned()),
        (400, "text/plain", "Bad Request\n".to_owned()),
        (400, "application/json", String::new()),
        (404, "application/json", error(-32601, "1")),
        (404, "application/json", error(-32001, "null")),
        (404, "text/html", "<html>not here</html>".to_owned()),
        (404, "", String::new()),
        (405, "text/plain", "Method Not Allowed".to_owned()),
        (405, "", String::new()),
    ]);
    let scratch = Scratch::new();
    let said = Arc::new(Mutex::new(String::new()));
    let saying = said.clone();
    let upstream = Unruly::start(Arc::new(move |stream, _| {
        let _ = stream.write_all(saying.lock().unwrap().as_bytes());
        Next::Keep
    }));
    let policy = scratch.policy(OPEN).display().to_string();
    let gate = Served::start(&["-p", &policy, "--state", "memory:", "--bridge-eras", "never", "--upstream", &upstream.url]);
    let (modern, legacy) = (Client::silent(&gate.address, MODERN), Client::silent(&gate.address, support::LEGACY));
    let hello = json!({"protocolVersion": support::LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    for (status, kind, body) in cases {
        let content = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let allow = if status == 405 { "Allow: POST, GET\r\n" } else { "" };
        *said.lock().unwrap() = format!("HTTP/1.1 {status} No\r\n{content}{allow}Content-Length: {}\r\n\r\n{body}", body.len());
        for (asked, reply) in [("a call", ask(&modern, "unruly")), ("initialize", legacy.ask("1", "initialize", hello.clone()))] {
            let what = format!("{asked}: {status} {kind} {body}");
            assert_eq!((reply.status, String::from_utf8_lossy(&reply.body).into_owned()), (status, body.clone()), "{what}");
            let expected = Some(kind).filter(|_| !body.is_empty());
            assert_eq!(reply.header("content-type"), expected, "{what}");
            assert_eq!(reply.header("allow").is_some(), status == 405, "{what}");
        }
    }
}

#[test]
fn a_child_that_does_not_answer_is_given_up_and_told() {
    let scratch = Scratch::new();
    let command = support::lenient(&scratch.log(), &["--stdio"]);
    let policy = scratch.policy(OPEN);
    let mut client = Stdio::wrap(&policy, &scratch.state(), &["--timeout", "2s"], &command);
    client.begin(support::LEGACY);
    client.send(call(support::LEGACY, "1", "hang", json!({})));
    assert_eq!(text_of(&client.call(support::LEGACY, "2", "echo", json!({"n": 2}))), r#"{"n":2}"#);
    let reply = client.reply("1");
    assert!(reply["error"]["message"].as_str().unwrap_or_default().contains("silent"), "{reply}");
    support::until(PATIENCE, || support::entries_of(&scratch.log(), "cancelled").pop()).expect("the server is told");

    let policy = policy.display().to_string();
    let mut arguments = vec!["-p", &policy, "--state", "memory:", "--timeout", "2s", "--"];
    arguments.extend(command.iter().map(String::as_str));
    let gate = Served::start(&arguments);
    for revision in [support::LEGACY, MODERN] {
        let client = Client::begin(&gate.address, revision);
        let reply = client.ask("1", "tools/call", json!({"name": "hang", "arguments": {}}));
        // A stream has begun by then, where the client can come back for it.
        assert_eq!(reply.status, if revision == MODERN { 502 } else { 200 }, "{reply:?}");
        assert!(reply.reply("1")["error"]["message"].as_str().unwrap_or_default().contains("silent"), "{reply:?}");
        assert_eq!(text_of(&client.call("2", "echo", json!({"n": 2}))), r#"{"n":2}"#);
    }
}
