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
