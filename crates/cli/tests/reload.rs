//! A configuration that changes while calls go on: what is in force is one whole, and what is taken back is gone at once.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

mod support;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::http::{Client, Reply, exchange, open, response};
use support::{
    HttpUpstream, LEGACY, MODERN, PATIENCE, Scratch, Served, audit, call, callgate, entries_of, is_denied, lenient, tools_run,
    until,
};

const OPEN: &str = "version: \"1\"\ndefault: allow\n";
/// Allows what both configurations allow, and no more.
const STRICT: &str = "version: \"1\"\ndefault: deny\ntools: {echo: {}}\n";
const ALICE: &str = "a-token-of-alice-0123456789";
const BOB: &str = "a-token-of-bob-0123456789";
const ADA: &str = "a-token-of-ada-0123456789";
const EVE: &str = "a-token-of-eve-0123456789";
/// A second on a machine with nothing else to do.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A directory, and what it is a configuration of.
struct Stage {
    scratch: Scratch,
}

/// A gateway and its admin API.
struct Gate {
    served: Served,
    api: String,
}

impl Stage {
    fn new() -> Stage {
        let scratch = Scratch::new();
        scratch.write("open.yaml", OPEN);
        scratch.write("strict.yaml", STRICT);
        for (name, token) in [("alice", ALICE), ("bob", BOB), ("ada", ADA), ("eve", EVE)] {
            scratch.write(name, token);
        }
        Stage { scratch }
    }

    /// A configuration of these servers and grants, with Alice and Bob as its administrators.
    fn config(&self, servers: &Value, grants: &Value) -> Value {
        json!({
            "listen": "127.0.0.1:0",
            "state": self.scratch.state(),
            "servers": servers,
            "grants": grants,
            "admin": {"listen": "127.0.0.1:0", "tokens": {"alice": "file:alice", "bob": "file:bob"}},
        })
    }

    /// Puts a configuration in the place of the one before, as an editor does: it is never there by half.
    fn write(&self, config: &Value) {
        let written = self.scratch.write("callgate.new", config.to_string());
        std::fs::rename(written, self.scratch.path("callgate.yaml")).expect("the directory is ours");
    }

    fn serve(&self, config: &Value) -> Gate {
        self.write(config);
        self.serve_file("callgate.yaml")
    }

    fn serve_file(&self, name: &str) -> Gate {
        let mut command = callgate();
        command.args(["serve", "-c"]).arg(self.scratch.path(name));
        let served = Served::ready(command);
        let said = served.stderr.lock().unwrap().clone();
        let api = said.split_once("administered on http://").unwrap().1.split_once("/v1").unwrap().0.to_owned();
        Gate { served, api }
    }

    /// A server that is a child.
    fn child(&self) -> Value {
        json!({"command": lenient(&self.scratch.log(), &["--stdio"]), "policy": "open.yaml", "pin": "off"})
    }

    /// How often a tool has run.
    fn ran(&self, tool: &str) -> usize {
        tools_run(&self.scratch.log()).iter().filter(|ran| *ran == tool).count()
    }
}

impl Gate {
    fn ask(&self, token: &str, method: &str, path: &str, body: &str) -> Reply {
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            self.api,
            body.len()
        );
        exchange(&self.api, text.as_bytes()).expect("an answer")
    }

    /// Has the file looked at, and gives the answer.
    #[track_caller]
    fn reload(&self) -> Value {
        let reply = self.ask(ALICE, "POST", "/v1/reload", "");
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        serde_json::from_slice(&reply.body).unwrap()
    }

    fn client(&self, revision: &str, path: &str, token: &str) -> Client {
        Client::silent(&self.served.address, revision).at(path, token)
    }
}

fn server(url: &str, policy: &str) -> Value {
    json!({"url": url, "policy": policy, "pin": "off"})
}

fn grant(name: &str, token: &str, servers: &[&str]) -> Value {
    json!({"name": name, "principal": format!("person:{name}"), "token": format!("file:{token}"), "servers": servers})
}

/// Begins a call that lasts, under an id of its own, and gives the connection on which its answer comes.
fn begin(client: &Client, tool: &str) -> TcpStream {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
    let text = call(&client.revision, &id, tool, json!({"seconds": 60}));
    open(&client.address, &client.post(&client.headers("tools/call", Some(tool)), text.as_bytes()))
}

#[test]
fn no_call_of_sixty_four_callers_is_judged_by_one_configuration_and_sent_by_the_other() {
    let stage = Stage::new();
    let (first_log, second_log) = (stage.scratch.path("first.log"), stage.scratch.path("second.log"));
    let (first, second) = (HttpUpstream::start(&first_log, &[]), HttpUpstream::start(&second_log, &[]));
    let of = |url: &str, policy: &str| stage.config(&json!({"x": server(url, policy)}), &json!([grant("ada", "ada", &["x"])]));
    let both = [of(&first.url(), "strict.yaml"), of(&second.url(), "open.yaml")];
    let gate = stage.serve(&both[0]);
    let (is_over, allowed) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for caller in 0..64 {
            let (gate, is_over, allowed) = (&gate, &is_over, &allowed);
            scope.spawn(move || {
                // Sessions that stay open, requests by themselves, and both at the endpoint of all servers.
                let (revision, path, prefix) = match caller % 4 {
                    0 => (LEGACY, "/mcp/x", ""),
                    1 => (MODERN, "/mcp/x", ""),
                    2 => (LEGACY, "/mcp", "x__"),
                    _ => (MODERN, "/mcp", "x__"),
                };
                let silent = gate.client(revision, path, ADA);
                let mut client = silent.clone();
                let mut turn = 0u32;
                while !is_over.load(Ordering::Relaxed) {
                    turn += 1;
                    if support::is_modern(revision) || client.session.is_some() {
                        let tool = if turn.is_multiple_of(2) { "echo" } else { "read_file" };
                        let name = format!("{prefix}{tool}");
                        let text = call(revision, "1", &name, json!({"path": "x"}));
                        let asked = Instant::now();
                        let reply = client.send(&client.headers("tools/call", Some(&name)), text.as_bytes());
                        let is_answered = reply.is_some() || asked.elapsed() < PATIENCE;
                        assert!(is_answered, "{revision} {path}: nobody answers");
                        let answer = reply.as_ref().and_then(|reply| reply.messages().pop()).unwrap_or_default();
                        if answer["result"].is_object() && !is_denied(&answer) {
                            allowed.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        if is_denied(&answer) {
                            continue;
                        }
                    }
                    // Its server is another now: a client begins anew.
                    client = silent.clone();
                    let hello = json!({"protocolVersion": revision, "capabilities": {},
                        "clientInfo": {"name": "test", "version": "1"}});
                    if !support::is_modern(revision) {
                        let text = support::request(revision, "0", "initialize", hello);
                        let reply = client.send(&client.headers("initialize", None), text.as_bytes());
                        client.session = reply.and_then(|reply| reply.header("mcp-session-id").map(str::to_owned));
                    }
                }
            });
        }
        let end = Instant::now() + Duration::from_secs(8);
        for turn in 1..=30 {
            stage.write(&both[turn % 2]);
            if turn % 5 > 0 {
                gate.reload();
            }
            // Some calls go by under each, the ones that nobody has asked to be taken up too.
            let before = allowed.load(Ordering::Relaxed);
            until(Duration::from_millis(if turn % 5 > 0 { 150 } else { 500 }), || {
                (allowed.load(Ordering::Relaxed) > before + 32 && turn % 5 > 0).then_some(())
            });
            if Instant::now() > end {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let of = |log: &std::path::Path, tool: &str| tools_run(log).iter().filter(|ran| *ran == tool).count();
    println!("the strict one ran echo {} times, the open one {}", of(&first_log, "echo"), of(&second_log, "echo"));
    assert!(of(&first_log, "echo") > 0 && of(&second_log, "read_file") > 0, "both were called");
    assert_eq!(of(&first_log, "read_file"), 0, "what only the other configuration allows");
    support::assert_verified(&stage.scratch.state());
}

#[test]
fn a_request_whose_body_is_long_in_coming_is_judged_as_whoever_it_was_let_in_as() {
    let stage = Stage::new();
    let upstream = HttpUpstream::start(&stage.scratch.log(), &[]);
    let servers = |policy: &str| json!({"x": server(&upstream.url(), policy)});
    let gate = stage.serve(&stage.config(&servers("strict.yaml"), &json!([grant("bot", "ada", &["x"])])));
    let client = gate.client(MODERN, "/mcp/x", ADA);
    let body = call(MODERN, "1", "read_file", json!({"path": "x"}));
    let mut headers = client.headers("tools/call", Some("read_file"));
    headers.push(("Expect".to_owned(), "100-continue".to_owned()));
    let whole = client.post(&headers, body.as_bytes());
    let (head, body) = whole.split_at(whole.len() - body.len());
    let mut connection = open(&client.address, head);
    // It is asked for its body: so it is known whose it is.
    let mut told = [0; 25];
    connection.read_exact(&mut told).unwrap();
    assert!(told.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&told));
    // Meanwhile the grant is somebody else's, and may do more.
    stage.write(&stage.config(&servers("open.yaml"), &json!([grant("bot", "eve", &["x"])])));
    assert_eq!(gate.reload()["reloaded"], true);
    connection.write_all(body).unwrap();
    let reply = response(&mut connection).expect("an answer");
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(text.contains("\"grant-ended\""), "{text}");
    assert_eq!(stage.ran("read_file"), 0);
    let eve = gate.client(MODERN, "/mcp/x", EVE);
    assert!(!is_denied(&eve.call("2", "read_file", json!({"path": "x"}))));
}

#[test]
fn administrators_are_taken_up_and_what_is_not_is_named() {
    let stage = Stage::new();
    let servers = json!({"x": server("http://127.0.0.1:9/mcp", "open.yaml")});
    let mut config = stage.config(&servers, &json!([grant("ada", "ada", &["x"])]));
    let gate = stage.serve(&config);
    let status = |token: &str| gate.ask(token, "GET", "/v1/status", "").status;
    assert_eq!([ALICE, BOB, EVE].map(status), [200, 200, 401]);
    assert_eq!(gate.reload(), json!({"reloaded": true, "needs_restart": []}));

    config["admin"]["tokens"] = json!({"alice": "file:alice", "eve": "file:eve"});
    config["hosts"] = json!(["gateway.example"]);
    config["audit"] = json!({"arguments": "full"});
    config["telemetry"] = json!({"metrics": "127.0.0.1:0"});
    stage.write(&config);
    assert_eq!(gate.reload(), json!({"reloaded": true, "needs_restart": ["hosts", "audit", "telemetry"]}));
    assert_eq!([ALICE, BOB, EVE].map(status), [200, 401, 200]);
    let told = || gate.served.stderr.lock().unwrap().contains("hosts, audit, telemetry").then_some(());
    until(PATIENCE, told).expect("the log names them too");

    // An approver answers and looks, and does nothing more from the moment on at which it is one.
    config["admin"]["tokens"] = json!({"alice": "file:alice"});
    config["admin"]["approvers"] = json!({"eve": "file:eve"});
    (config["hosts"], config["audit"]) = (json!([]), json!({}));
    stage.write(&config);
    assert_eq!(gate.reload()["needs_restart"], json!(["telemetry"]));
    assert_eq!((status(EVE), gate.ask(EVE, "POST", "/v1/reload", "").status), (200, 403));

    // Without administrators nobody administers, though the listener stays until the next start.
    config.as_object_mut().unwrap().remove("admin");
    stage.write(&config);
    until(PATIENCE, || (status(ALICE) == 401).then_some(())).expect("the file is looked at without being asked");
}

#[test]
fn a_revocation_is_in_force_within_five_seconds() {
    const ROUNDS: usize = 5;
    let stage = Stage::new();
    let upstream = HttpUpstream::start(&stage.scratch.log(), &[]);
    let servers = json!({"x": server(&upstream.url(), "open.yaml")});
    let names: Vec<String> = (0..ROUNDS).map(|round| format!("file-{round}")).collect();
    let token = |name: &str| format!("a-token-of-{name}-0123456789");
    for name in &names {
        stage.scratch.write(name, token(name));
    }
    let of_file = |from: usize| Value::Array(names[from..].iter().map(|name| grant(name, name, &["x"])).collect());
    let gate = stage.serve(&stage.config(&servers, &of_file(0)));
    let path = stage.scratch.path("callgate.yaml").display().to_string();
    // Another gateway on the same state, with a file of its own.
    stage.scratch.write("other.yaml", stage.config(&servers, &json!([])).to_string());
    let other = stage.serve_file("other.yaml");

    let mut rounds = 0;
    let mut answered_after = |token: &str, revoke: &mut dyn FnMut()| {
        let client = gate.client(LEGACY, "/mcp/x", token);
        let known = || {
            let hello = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
            (client.ask("0", "initialize", hello).status == 200).then_some(())
        };
        until(PATIENCE, known).expect("the grant is known");
        let mut under_way = begin(&client.clone().shake_hands(), "slow");
        rounds += 1;
        until(PATIENCE, || (stage.ran("slow") == rounds).then_some(())).expect("the call arrives");
        revoke();
        let revoked = Instant::now();
        let reply = response(&mut under_way).expect("an answer");
        assert!(String::from_utf8_lossy(&reply.body).contains("the grant was revoked or has expired"), "{reply:?}");
        revoked.elapsed()
    };
    let report = |how: &str, mut taken: Vec<Duration>| {
        taken.sort();
        let (median, longest) = (taken[taken.len() / 2], taken[taken.len() - 1]);
        println!("revoked {how}: p50 {} ms, max {} ms of {}", median.as_millis(), longest.as_millis(), taken.len());
        assert!(longest < AT_ONCE, "revoked {how}: {taken:?}");
    };
    let by_file = (0..ROUNDS)
        .map(|round| {
            let config = stage.config(&servers, &of_file(round + 1));
            answered_after(&token(&names[round]), &mut || stage.write(&config))
        })
        .collect();
    report("in the file", by_file);
    let run = |arguments: &[&str]| {
        let ran = support::run(&[&["grants"], arguments, &["-c", &path]].concat(), "");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stdout.trim().to_owned()
    };
    let by_command = (0..ROUNDS)
        .map(|round| {
            let name = format!("kept-{round}");
            let token = run(&["create", &name, "--principal", "agent:bot", "--server", "x"]);
            answered_after(&token, &mut || drop(run(&["revoke", &name])))
        })
        .collect();
    report("on the command line", by_command);
    let by_other = (0..ROUNDS)
        .map(|round| {
            let place = format!("/v1/grants/other-{round}");
            let made = other.ask(ALICE, "PUT", &place, r#"{"principal": "agent:bot", "servers": ["x"]}"#);
            let made: Value = serde_json::from_slice(&made.body).unwrap();
            let token = made["token"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
            answered_after(&token, &mut || assert_eq!(other.ask(ALICE, "DELETE", &place, "").status, 200))
        })
        .collect();
    report("at another gateway", by_other);
}

#[test]
fn what_a_server_answers_in_spite_of_the_cancellation_reaches_nobody() {
    for (name, revision) in [("child", LEGACY), ("web", LEGACY), ("events", LEGACY), ("child", MODERN), ("events", MODERN)] {
        let stage = Stage::new();
        let options: &[&str] = if name == "events" { &["--sse"] } else { &[] };
        let upstream = HttpUpstream::start(&stage.scratch.log(), options);
        let servers = match name {
            "child" => json!({"x": stage.child(), "y": stage.child()}),
            _ => json!({"x": server(&upstream.url(), "open.yaml"), "y": stage.child()}),
        };
        let grants = json!([grant("ada", "ada", &["x"]), grant("eve", "eve", &["y"])]);
        let gate = stage.serve(&stage.config(&servers, &grants));
        let ada = gate.client(revision, "/mcp/x", ADA).shake_hands();
        // Where a client of a session listens, a server may say it there.
        let listening = ada.session.as_ref().map(|session| {
            let head = format!(
                "GET /mcp/x HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nMCP-Protocol-Version: {revision}\r\n\
                 Mcp-Session-Id: {session}\r\nAuthorization: Bearer {ADA}\r\nConnection: close\r\n\r\n",
                ada.address
            );
            open(&ada.address, head.as_bytes())
        });
        let mut under_way = begin(&ada, "stubborn");
        until(PATIENCE, || (stage.ran("stubborn") == 1).then_some(())).unwrap_or_else(|| panic!("{name} {revision}: no call"));
        stage.write(&stage.config(&servers, &json!([grant("eve", "eve", &["y"])])));
        let mut heard = response(&mut under_way).unwrap_or_else(|| panic!("{name} {revision}: an answer")).body;
        assert!(String::from_utf8_lossy(&heard).contains("the grant was revoked or has expired"), "{name} {revision}");
        let insisted = || (!entries_of(&stage.scratch.log(), "insisted").is_empty()).then_some(());
        until(PATIENCE, insisted).unwrap_or_else(|| panic!("{name} {revision}: the server is told"));
        // Both streams end with the grant: this is all that is ever said there.
        under_way.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = under_way.shutdown(std::net::Shutdown::Write);
        let _ = under_way.read_to_end(&mut heard);
        if let Some(mut listening) = listening {
            let _ = listening.read_to_end(&mut heard);
        }
        let finished =
            || audit(&stage.scratch.state()).into_iter().find(|of| of["phase"] == "finished" && of["tool"] == "stubborn");
        until(PATIENCE, finished).unwrap_or_else(|| panic!("{name} {revision}: the end is on record"));
        let records = audit(&stage.scratch.state()).iter().map(Value::to_string).collect::<String>();
        for (place, text) in [("client", String::from_utf8_lossy(&heard).into_owned()), ("record", records)] {
            assert!(!text.contains("server alone"), "{name} {revision}: the {place} has it: {text}");
        }
    }
}
