//! Two gateways on one state: what they let through together.
//!
//! Their clocks are two minutes apart, where `libfaketime` is there: the time that counts is the server's.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

#[path = "../../store/tests/support/servers.rs"]
mod servers;

mod support;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use servers::{Postgres, Redis, free_port};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::http::Client;
use support::{HttpUpstream, MODERN, Scratch, Served, callgate, is_denied, run, tools_run};

const MAX: usize = 40;
const POLICY: &str =
    "version: \"1\"\ndefault: allow\ntools:\n  echo:\n    limits: [{counter: calls, window: minute, max: 40, scope: global}]\n";

struct Stage {
    scratch: Scratch,
    upstream: HttpUpstream,
}

impl Stage {
    fn new() -> Stage {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        Stage { scratch, upstream }
    }

    fn home(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// A gateway with a home of its own, whose clock is off by so many seconds.
    fn gateway(&self, name: &str, state: &str, seconds: i32) -> Served {
        self.gateway_under(POLICY, name, state, seconds)
    }

    fn gateway_under(&self, policy: &str, name: &str, state: &str, seconds: i32) -> Served {
        let mut command = callgate();
        command.env("XDG_DATA_HOME", self.home(name)).env("STATE", state);
        // Without it the clocks of these gateways agree.
        if let Some(library) = faketime() {
            command.env("LD_PRELOAD", library).env("FAKETIME", format!("{seconds:+}s")).env("DONT_FAKE_MONOTONIC", "1");
        }
        let policy = self.scratch.policy(policy);
        let url = self.upstream.url();
        let words = ["-p", policy.to_str().unwrap(), "--server", "s", "--state", "env:STATE", "--upstream", &url];
        Served::start_with(command, &words)
    }

    fn check(&self, name: &str, state: &str) -> String {
        let mut command = callgate();
        command.env("XDG_DATA_HOME", self.home(name)).env("STATE", state);
        let output = command.args(["audit", "verify", "--json", "--state", "env:STATE"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn faketime() -> Option<&'static str> {
    let places =
        ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"];
    places.into_iter().find(|place| Path::new(place).exists()).or_else(|| servers::missing("libfaketime"))
}

/// Calls on 64 connections at once, half of them to each; gives how many got through.
fn storm(gateways: &[Served; 2]) -> usize {
    let (granted, ready) = (AtomicUsize::new(0), Barrier::new(64));
    std::thread::scope(|scope| {
        for connection in 0..64 {
            let (granted, ready, gateway) = (&granted, &ready, &gateways[connection % 2]);
            scope.spawn(move || {
                let client = Client::silent(&gateway.address, MODERN);
                ready.wait();
                for turn in 0..3 {
                    let reply = client.call(&format!("{}", connection * 10 + turn + 1), "echo", json!({"message": "m"}));
                    if !is_denied(&reply) {
                        assert!(reply["result"].is_object(), "{reply}");
                        granted.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    granted.into_inner()
}

#[test]
fn two_gateways_on_postgres_admit_exactly_what_is_allowed() {
    let Some(server) = Postgres::start() else { return };
    let (stage, state) = (Stage::new(), server.url());
    let gateways = [stage.gateway("one", &state, -60), stage.gateway("two", &state, 60)];
    assert_eq!(storm(&gateways), MAX);
    let verification = stage.check("one", &state);
    assert!(verification.contains("\"valid\":true"), "{verification}");
    assert_eq!(server.sql("SELECT count(*) FROM chains"), "2");
    let listed = run(&["audit", "list", "--json", "--state", &state], "");
    let allowed =
        listed.stdout.lines().filter(|line| line.contains("\"phase\":\"decided\"") && line.contains("\"outcome\":\"allow\""));
    assert_eq!(allowed.filter(|line| line.contains("\"tool\":\"echo\"")).count(), MAX, "{}", listed.stderr);
    let status = run(&["status", "--json", "--state", &state], "");
    assert_eq!(status.code, 0, "{}", status.stderr);
    let said = gateways.map(|gateway| gateway.stderr.lock().unwrap().clone()).concat() + &listed.stderr + &status.stderr;
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn two_gateways_on_redis_admit_exactly_what_is_allowed() {
    let Some(server) = Redis::start() else { return };
    let (stage, state) = (Stage::new(), server.url());
    let gateways = [stage.gateway("one", &state, -60), stage.gateway("two", &state, 60)];
    assert_eq!(storm(&gateways), MAX);
    for name in ["one", "two"] {
        let verification = stage.check(name, &state);
        assert!(verification.contains("\"valid\":true"), "{verification}");
    }
}

const LEASED: &str = "version: \"1\"\ndefault: allow\ntools:\n  echo:\n    limits: [{counter: calls, window: hour, max: 200, scope: global, lease: 16}]\n";

/// Calls on 64 connections at once, half of them to each gateway, of which one is killed in the middle. Gives how many got
/// through, and of how many it is not known.
fn storm_and_kill(gateways: [Served; 2]) -> (usize, usize) {
    let (granted, unknown) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let addresses = [0, 1].map(|at: usize| gateways[at].address.clone());
    let [killed, left] = gateways;
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..64)
            .map(|connection| {
                let (granted, unknown, address) = (&granted, &unknown, &addresses[connection % 2]);
                scope.spawn(move || {
                    let client = Client::silent(address, MODERN);
                    for turn in 0.. {
                        let text = support::call(MODERN, &turn.to_string(), "echo", json!({"message": "m"}));
                        let post = client.post(&client.headers("tools/call", Some("echo")), text.as_bytes());
                        // Nobody listens there any more, or it was killed before it has answered.
                        let Ok(mut stream) = std::net::TcpStream::connect(address) else { return };
                        let sent = std::io::Write::write_all(&mut stream, &post);
                        let reply = sent.ok().and_then(|()| support::http::response(&mut stream));
                        match reply.map(|reply| reply.reply(&turn.to_string())) {
                            Some(reply) if is_denied(&reply) => return,
                            Some(_) => {
                                granted.fetch_add(1, Ordering::SeqCst);
                            }
                            None => {
                                unknown.fetch_add(1, Ordering::SeqCst);
                                return;
                            }
                        }
                    }
                })
            })
            .collect();
        while granted.load(Ordering::SeqCst) < 60 && !all.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        drop(killed);
    });
    drop(left);
    (granted.into_inner(), unknown.into_inner())
}

#[test]
fn leases_exceed_nothing_when_a_gateway_is_killed_in_the_middle() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    for state in postgres.iter().map(Postgres::url).chain(redis.iter().map(Redis::url)) {
        let stage = Stage::new();
        let gateways = ["one", "two"].map(|name| stage.gateway_under(LEASED, name, &state, 0));
        let (granted, unknown) = storm_and_kill(gateways);
        assert!(granted <= 200, "{state}: {granted}");
        let ran = tools_run(&stage.scratch.log()).len();
        assert!(ran <= 200, "{state}: {ran} reached the server");
        // One lease of the gateway that was killed, and what was on its way there.
        assert!(granted + unknown + 2 * 16 >= 200, "{state}: {granted} and {unknown}");
    }
}

const TOKENS: [(&str, &str); 2] = [("ada", "a-token-of-ada-0123456789"), ("bob", "a-token-of-bob-0123456789")];

/// A gateway before two servers, with a data directory of its own.
fn federated(scratch: &Scratch, name: &str, state: &str) -> Served {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = support::root().join("tests/upstreams/member.py").display().to_string();
    let server = |server: &str| {
        // What stands in the command tells one server from another, so it is the same for every gateway.
        let log = scratch.path(&format!("{server}.log")).display().to_string();
        json!({"command": [python, script, server, "--pages", "--log", log], "policy": "open.yaml", "pin": "off"})
    };
    let grant = |(name, token): &(&str, &str)| {
        scratch.write(name, token);
        json!({"name": name, "principal": format!("person:{name}"), "token": format!("file:{name}"), "servers": ["one", "two"]})
    };
    scratch.write("open.yaml", "version: \"1\"\ndefault: allow\n");
    let config = json!({
        "listen": "127.0.0.1:0",
        "state": "env:STATE",
        "servers": {"one": server("one"), "two": server("two")},
        "grants": TOKENS.iter().map(grant).collect::<Vec<_>>(),
    });
    let mut command = callgate();
    command.env("XDG_DATA_HOME", scratch.path(name)).env("STATE", state);
    command.args(["serve", "-c"]).arg(scratch.write(&format!("{name}.yaml"), config.to_string()));
    Served::ready(command)
}

fn task_of_two(client: &Client) -> serde_json::Value {
    let text = support::request(MODERN, "6", "tasks/get", json!({"taskId": "task of two"}));
    let mut asked: serde_json::Value = serde_json::from_str(&text).unwrap();
    asked["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"]["extensions"] =
        json!({"io.modelcontextprotocol/tasks": {}});
    let text = asked.to_string();
    client.send(&client.headers("tasks/get", Some("task of two")), text.as_bytes()).expect("an answer").reply("6")
}

/// In a file the other gateway is the same one, started anew.
#[test]
fn a_stateless_client_goes_on_at_another_gateway() {
    let (scratch, server) = (Scratch::new(), Postgres::start());
    for state in server.iter().map(Postgres::url).chain([scratch.state()]) {
        let in_a_file = state.starts_with("sqlite");
        let first = federated(&scratch, "first", &state);
        let client =
            |gateway: &Served, who: usize, at: &str| Client::silent(&gateway.address, MODERN).at(at, TOKENS[who].1).shake_hands();
        let ada = client(&first, 0, "/mcp");
        let page = ada.ask("1", "tools/list", json!({})).reply("1");
        let cursor = page["result"]["nextCursor"].clone();
        assert!(cursor.is_string(), "{page}");
        let asked = ada.call("2", "one__ask", json!({"a": 1}));
        let state_of_one = asked["result"]["requestState"].clone();
        assert!(state_of_one.is_string(), "{asked}");
        let made = ada.call("3", "two__later", json!({}));
        assert_eq!(made["result"]["taskId"], "task of two", "{made}");

        let kept = if in_a_file {
            drop(first);
            None
        } else {
            Some(first)
        };
        let second = federated(&scratch, "second", &state);
        let (ada, bob) = (client(&second, 0, "/mcp"), client(&second, 1, "/mcp"));
        let goes_on = |client: &Client| client.ask("4", "tools/list", json!({"cursor": cursor})).reply("4");
        let next = goes_on(&ada);
        assert_eq!(support::names(&next), ["one__end", "two__end"], "{next}");
        assert_eq!(goes_on(&bob)["error"]["code"], -32602, "it is ada's");

        let retry = |client: &Client, name: &str, arguments: serde_json::Value| {
            let answers = json!({"q": {"action": "accept", "content": {}}});
            let params = json!({"name": name, "arguments": arguments, "inputResponses": answers, "requestState": state_of_one});
            client.ask("5", "tools/call", params).reply("5")
        };
        assert_eq!(retry(&bob, "one__ask", json!({"a": 1}))["error"]["code"], -32602, "it is ada's");
        assert_eq!(retry(&ada, "one__ask", json!({"a": 2}))["error"]["code"], -32602, "it is for another call");
        assert_eq!(retry(&ada, "two__ask", json!({"a": 1}))["error"]["code"], -32602, "it is another server's");
        let told = retry(&ada, "one__ask", json!({"a": 1.0}));
        assert!(support::text_of(&told).starts_with("one was told"), "{told}");

        for at in ["/mcp", "/mcp/two"] {
            let (ada, bob) = (client(&second, 0, at), client(&second, 1, at));
            assert_eq!(task_of_two(&bob)["error"]["code"], -32602, "{at}: it is ada's");
            assert_eq!(task_of_two(&ada)["result"]["status"], "completed", "{at}");
        }
        let elsewhere = task_of_two(&client(&second, 0, "/mcp/one"));
        assert_eq!(elsewhere["error"]["code"], -32602, "it is another server's");
        drop(kept);
    }
}

/// An authority's certificate in a file, and a certificate for 127.0.0.1 that it has signed, with its key.
fn certified(scratch: &Scratch, name: &str) -> (PathBuf, String, String) {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    (scratch.write(&format!("{name}.pem"), issuer.pem()), certificate.pem(), key.serialize_pem())
}

#[test]
fn a_state_server_is_known_by_its_certificate_or_not_used() {
    let stage = Stage::new();
    let (right, certificate, key) = certified(&stage.scratch, "right");
    let (wrong, ..) = certified(&stage.scratch, "wrong");
    let files = [stage.scratch.write("server.crt", &certificate), stage.scratch.write("server.key", &key)];
    let tls_port = free_port();
    let postgres = Postgres::start_with_tls(&certificate, &key);
    let redis = Redis::start_with(&[
        "--appendonly",
        "yes",
        "--tls-port",
        &tls_port.to_string(),
        "--tls-cert-file",
        files[0].to_str().unwrap(),
        "--tls-key-file",
        files[1].to_str().unwrap(),
        "--tls-auth-clients",
        "no",
        "--tls-ca-cert-file",
        right.to_str().unwrap(),
    ]);
    let mut places = Vec::new();
    if let Some(server) = &postgres {
        places.push((format!("postgres://callgate:hunter2@HOST:{}/postgres?sslmode=require", server.port), "&"));
    }
    if redis.is_some() {
        places.push((format!("rediss://HOST:{tls_port}"), "?"));
    }
    for (place, and) in places {
        let state = |host: &str, authority: Option<&Path>| {
            let roots = authority.map(|path| format!("{and}sslrootcert={}", path.display())).unwrap_or_default();
            format!("{}{roots}", place.replace("HOST", host))
        };
        let good = state("127.0.0.1", Some(&right));
        let gateway = stage.gateway("home", &good, 0);
        let reply = Client::silent(&gateway.address, MODERN).call("1", "echo", json!({"message": "m"}));
        assert!(!is_denied(&reply), "{place}: {reply}");
        if place.starts_with("postgres") {
            let server = postgres.as_ref().unwrap();
            let encrypted = "SELECT count(*) > 0 AND bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                WHERE application_name = 'callgate'";
            assert_eq!(server.sql(encrypted), "t");
        }
        drop(gateway);
        // Another authority; the system's; a name that is not in the certificate.
        for bad in [state("127.0.0.1", Some(&wrong)), state("127.0.0.1", None), state("localhost", Some(&right))] {
            let gateway = stage.gateway("home", &bad, 0);
            let reply = Client::silent(&gateway.address, MODERN).call("1", "echo", json!({"message": "m"}));
            assert!(is_denied(&reply) && reply.to_string().contains("store-unavailable"), "{bad}: {reply}");
            assert!(!gateway.stderr.lock().unwrap().contains("hunter2"));
        }
    }
}
