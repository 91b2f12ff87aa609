//! Callers who show access tokens of an authorization server: a real one, which signs, publishes its keys and changes them.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

#[path = "../../store/tests/support/servers.rs"]
mod servers;

mod support;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use servers::{Postgres, Redis};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use support::http::{Client, Reply, exchange, open};
use support::{HttpUpstream, LEGACY, PATIENCE, Scratch, Served, audit, until};

/// An authorization server with one key at a time.
struct Provider {
    issuer: String,
    key: Arc<Mutex<(String, Signer)>>,
    asked: Arc<Mutex<usize>>,
}

/// What it signs with.
enum Signer {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Signer {
    /// A new key for ES256.
    fn ec() -> Signer {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Signer::Ec(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap())
    }

    /// The one key for RS256 that these tests have: none can be made here.
    fn rsa() -> Signer {
        Signer::Rsa(RsaKeyPair::from_pkcs8(include_bytes!("support/rsa.pk8")).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Signer::Ec(_) => "ES256",
            Signer::Rsa(_) => "RS256",
        }
    }

    /// As it is published.
    fn published(&self, name: &str) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Signer::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": name, "x": encode(&point[1..33]), "y": encode(&point[33..])})
            }
            Signer::Rsa(key) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "kid": name, "n": encode(&public.n), "e": encode(&public.e)})
            }
        }
    }

    fn sign(&self, text: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Signer::Ec(key) => key.sign(&random, text).unwrap().as_ref().to_vec(),
            Signer::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).unwrap();
                signature
            }
        }
    }
}

impl Provider {
    fn start() -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let key = Arc::new(Mutex::new(("one".to_owned(), Signer::ec())));
        let asked = Arc::new(Mutex::new(0));
        let (of_thread, origin, count) = (key.clone(), issuer.clone(), asked.clone());
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(connection);
                let mut line = String::new();
                let _ = reader.read_line(&mut line);
                let mut header = String::new();
                while reader.read_line(&mut header).is_ok_and(|length| length > 2) {
                    header.clear();
                }
                let body = if line.contains("/.well-known/") {
                    json!({"issuer": origin, "jwks_uri": format!("{origin}/keys")})
                } else {
                    *count.lock().unwrap() += 1;
                    let key = of_thread.lock().unwrap();
                    json!({"keys": [key.1.published(&key.0)]})
                };
                let body = body.to_string();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
                let _ = write!(reader.get_mut(), "{head}Content-Length: {}\r\n\r\n{body}", body.len());
            }
        });
        Provider { issuer, key, asked }
    }

    fn rotate(&self, name: &str, key: Signer) {
        *self.key.lock().unwrap() = (name.to_owned(), key);
    }

    /// A token; `change` may make it another.
    fn token(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let key = self.key.lock().unwrap();
        let now = jiff::Timestamp::now().as_second();
        let mut header = json!({"alg": key.1.algorithm(), "typ": "at+jwt", "kid": key.0});
        let mut claims = json!({"iss": self.issuer, "aud": "https://mcp.example.org", "sub": "ada", "scope": "mcp.read",
            "exp": now + 600, "iat": now, "jti": "id-1"});
        change(&mut header, &mut claims);
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = key.1.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A token that names this algorithm and carries no signature: `header.claims.`
fn unsigned(provider: &Provider, algorithm: &str) -> String {
    let token = provider.token(|header, _| header["alg"] = json!(algorithm));
    format!("{}.", token.rsplit_once('.').unwrap().0)
}

struct Stage {
    scratch: Scratch,
    provider: Provider,
    upstream: HttpUpstream,
    gate: Served,
}

impl Stage {
    fn new(more: &str) -> Stage {
        let (scratch, provider) = (Scratch::new(), Provider::start());
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        scratch.write("open.yaml", "version: \"1\"\ndefault: allow\n");
        let config = config(&upstream, &provider, &scratch.state(), more);
        let gate = Served::configured(&scratch.write("callgate.yaml", config), &[]);
        Stage { scratch, provider, upstream, gate }
    }

    /// Another gateway, with a home of its own.
    fn gateway(&self, name: &str, state: &str, more: &str) -> Served {
        let config = config(&self.upstream, &self.provider, "env:STATE", more);
        let (config, home) = (self.scratch.write(&format!("{name}.yaml"), config), self.scratch.path(name).display().to_string());
        Served::configured(&config, &[("STATE", state), ("XDG_DATA_HOME", &home)])
    }

    fn ask(&self, server: &str, token: &str) -> Reply {
        ask(&self.gate, server, token)
    }

    /// A token of this id.
    fn token(&self, id: &str) -> String {
        self.provider.token(|_, claims| claims["jti"] = json!(id))
    }
}

fn config(upstream: &HttpUpstream, provider: &Provider, state: &str, more: &str) -> String {
    format!(
        "listen: 127.0.0.1:0\nstate: {state}\nservers:\n  web: {{url: '{url}', policy: open.yaml}}\n  other: {{url: '{url}', policy: open.yaml}}\n\
         grants:\n  - {{name: readers, principal: 'group:readers', servers: [web]}}\n  - {{name: writers, principal: 'group:writers', servers: [web, other]}}\n\
         identity:\n  issuer: {}\n  audience: [https://mcp.example.org]\n{more}  grants:\n    - {{grant: writers, claims: {{scope: mcp.write}}}}\n    \
         - {{grant: readers, claims: {{scope: mcp.read}}, principal: sub}}\n",
        provider.issuer,
        url = upstream.url(),
    )
}

fn ask(gate: &Served, server: &str, token: &str) -> Reply {
    let client = Client::silent(&gate.address, LEGACY).at(&format!("/mcp/{server}"), token);
    let params = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    client.ask("1", "initialize", params)
}

#[track_caller]
fn assert_used(reply: &Reply) {
    let challenge = reply.header("www-authenticate").unwrap_or_default();
    assert!(reply.status == 401 && challenge.contains("used before"), "{} {challenge}", reply.status);
}

#[test]
fn a_token_that_is_not_beyond_doubt_is_refused() {
    let stage = Stage::new("");
    let provider = &stage.provider;
    assert_eq!(stage.ask("web", &provider.token(|_, _| {})).status, 200);
    let now = jiff::Timestamp::now().as_second();
    let cases: Vec<(&str, String, &str)> = vec![
        ("audience", provider.token(|_, claims| claims["aud"] = json!("https://other")), "another audience"),
        ("issuer", provider.token(|_, claims| claims["iss"] = json!("https://evil.example")), "another issuer"),
        ("none, and signed", provider.token(|header, _| header["alg"] = json!("none")), "algorithm"),
        ("none", unsigned(provider, "none"), "algorithm"),
        ("none, spelt otherwise", unsigned(provider, "nOnE"), "algorithm"),
        ("none, spelt so too", unsigned(provider, "None"), "algorithm"),
        ("no signature", unsigned(provider, "ES256"), "signature"),
        ("shared secret", provider.token(|header, _| header["alg"] = json!("HS256")), "algorithm"),
        ("type", provider.token(|header, _| header["typ"] = json!("JWT")), "another type"),
        ("expired", provider.token(|_, claims| claims["exp"] = json!(now - 60)), "expired"),
        ("future", provider.token(|_, claims| claims["nbf"] = json!(now + 300)), "future"),
        ("unknown key", provider.token(|header, _| header["kid"] = json!("nobody's")), "signature"),
        ("no mapping", provider.token(|_, claims| claims["scope"] = json!("else")), "no grant"),
        ("text", "a.b.c".to_owned(), "no JWT"),
    ];
    for (what, token, why) in cases {
        let reply = stage.ask("web", &token);
        assert_eq!(reply.status, 401, "{what}");
        let challenge = reply.header("www-authenticate").unwrap_or_default();
        assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains(why), "{what}: {challenge}");
        assert!(challenge.contains("/.well-known/oauth-protected-resource/mcp/web\""), "{challenge}");
    }
    assert!(*provider.asked.lock().unwrap() <= 3, "the keys are asked for now and then, whatever tokens name");
    // Nothing of a token is on record or in the log.
    assert!(!stage.gate.stderr.lock().unwrap().contains("eyJ"));
    let records = audit(&stage.scratch.state());
    assert!(records.iter().all(|record| !record.to_string().contains("eyJ")));
}

#[test]
fn claims_say_who_it_is_and_what_is_missing() {
    let stage = Stage::new("");
    let reader = stage.provider.token(|_, _| {});
    let client = Client::silent(&stage.gate.address, LEGACY).at("/mcp/web", &reader).shake_hands();
    client.call("2", "echo", json!({}));
    let record =
        audit(&stage.scratch.state()).into_iter().find(|record| record["tool"] == "echo").expect("the call is on record");
    assert_eq!((&record["principal"], &record["grant"]), (&json!("ada"), &json!("readers")));
    // Another principal of the same grant has not opened that session.
    let eve = stage.provider.token(|_, claims| claims["sub"] = json!("eve"));
    assert_eq!(Client { token: Some(eve), ..client }.ask("3", "tools/list", json!({})).status, 404);

    let refused = stage.ask("other", &reader);
    assert_eq!(refused.status, 403);
    let challenge = refused.header("www-authenticate").unwrap_or_default();
    assert!(challenge.contains("error=\"insufficient_scope\", scope=\"mcp.write\""), "{challenge}");
    assert_eq!(stage.ask("other", &stage.provider.token(|_, claims| claims["scope"] = json!("mcp.read mcp.write"))).status, 200);

    let request = format!("GET /.well-known/oauth-protected-resource/mcp/web HTTP/1.1\r\nHost: {}\r\n\r\n", stage.gate.address);
    let metadata = exchange(&stage.gate.address, request.as_bytes()).expect("the metadata");
    let metadata: Value = serde_json::from_slice(&metadata.body).unwrap();
    assert_eq!(metadata["resource"], json!(format!("http://{}/mcp/web", stage.gate.address)));
    assert_eq!(metadata["authorization_servers"], json!([stage.provider.issuer]));
    assert_eq!(metadata["scopes_supported"], json!(["mcp.read", "mcp.write"]));
}

#[test]
fn a_rotated_key_is_found() {
    let stage = Stage::new("");
    let old = stage.provider.token(|_, _| {});
    assert_eq!(stage.ask("web", &old).status, 200);
    stage.provider.rotate("two", Signer::ec());
    let new = stage.provider.token(|_, _| {});
    // Keys are asked for again after a pause.
    until(PATIENCE, || (stage.ask("web", &new).status == 200).then_some(())).expect("the new key is found");
    assert_eq!(stage.ask("web", &old).status, 401, "the old one is gone");
}

#[test]
fn a_token_that_is_signed_with_rsa_is_believed_and_its_public_key_is_no_secret() {
    let stage = Stage::new("");
    stage.provider.rotate("rsa", Signer::rsa());
    let token = stage.provider.token(|_, _| {});
    assert_eq!(stage.ask("web", &token).status, 200);
    let (signed, _) = token.rsplit_once('.').unwrap();
    let other = stage.provider.token(|_, claims| claims["sub"] = json!("eve"));
    assert_eq!(stage.ask("web", &format!("{signed}.{}", other.rsplit_once('.').unwrap().1)).status, 401, "another's signature");
    // HS256 with what is published as the shared secret, in every form in which people keep it.
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "typ": "at+jwt", "kid": "rsa"}).to_string());
    let signed = format!("{header}.{}", signed.split_once('.').unwrap().1);
    let published = stage.provider.key.lock().unwrap().1.published("rsa");
    let modulus = published["n"].as_str().unwrap();
    let Signer::Rsa(key) = Signer::rsa() else { unreachable!("it is one") };
    let pkcs1 = key.public().as_ref().to_vec();
    let spki = [RSA_2048_SPKI, &pkcs1].concat();
    assert_eq!(spki.len(), 4 + 0x122, "the key has 2048 bits");
    let secrets = [
        published.to_string().into_bytes(),
        modulus.as_bytes().to_vec(),
        URL_SAFE_NO_PAD.decode(modulus).unwrap(),
        pem("PUBLIC KEY", &spki).into_bytes(),
        pem("PUBLIC KEY", &spki).trim_end().as_bytes().to_vec(),
        pem("RSA PUBLIC KEY", &pkcs1).into_bytes(),
        spki,
        pkcs1,
        Vec::new(),
    ];
    for secret in secrets {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
        let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, signed.as_bytes())));
        let reply = stage.ask("web", &forged);
        assert_eq!(reply.status, 401);
        assert!(reply.header("www-authenticate").unwrap_or_default().contains("algorithm"), "{reply:?}");
    }
}

/// What stands before an RSA key of 2048 bits (RFC 8017) where it is a public key of any kind (RFC 5280 §4.1).
const RSA_2048_SPKI: &[u8] = b"\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03\x82\x01\x0f\x00";

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[test]
fn a_stream_ends_with_the_token_that_has_opened_it() {
    let stage = Stage::new("  leeway: 1s\n");
    let soon = jiff::Timestamp::now().as_second() + 2;
    let brief = stage.provider.token(|_, claims| claims["exp"] = json!(soon));
    let listen = |token: &str| {
        let head = format!("GET /sse/web HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", stage.gate.address);
        let stream = open(&stage.gate.address, format!("{head}Authorization: Bearer {token}\r\n\r\n").as_bytes());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut lasting = BufReader::new(listen(&stage.provider.token(|_, _| {})));
    let mut text = String::new();
    listen(&brief).read_to_string(&mut text).expect("it ends");
    assert!(text.contains("event: endpoint"), "{text}");
    assert!(jiff::Timestamp::now().as_second() > soon, "not before its time");
    let mut line = String::new();
    while !line.starts_with("event: endpoint") {
        line.clear();
        assert!(lasting.read_line(&mut line).expect("it is open") > 0, "the other one goes on");
    }
}

#[test]
fn a_token_can_be_for_one_use() {
    let stage = Stage::new("  once: true\n");
    let token = stage.token("id-1");
    assert_eq!(stage.ask("web", &token).status, 200);
    assert_used(&stage.ask("web", &token));
    for claim in ["jti", "iat"] {
        let without = stage.provider.token(|_, claims| {
            claims.as_object_mut().unwrap().remove(claim);
        });
        assert_eq!(stage.ask("web", &without).status, 401, "{claim}");
    }

    // It stays used when the section changes, ...
    let path = stage.scratch.path("callgate.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    stage
        .scratch
        .write("callgate.yaml", text.replace("[https://mcp.example.org]", "[https://mcp.example.org, https://new.example]"));
    let mut number = 0;
    let taken_up = until(PATIENCE, || {
        number += 1;
        let new = stage.provider.token(|_, claims| {
            claims["aud"] = json!("https://new.example");
            claims["jti"] = json!(format!("new-{number}"));
        });
        (stage.ask("web", &new).status == 200).then_some(())
    });
    taken_up.expect("the new audience is taken up");
    assert_used(&stage.ask("web", &token));
    // ... and when the gateway is started anew.
    let Stage { scratch, gate, .. } = &stage;
    gate.signal(rustix::process::Signal::KILL);
    assert_used(&ask(&Served::configured(&scratch.path("callgate.yaml"), &[]), "web", &token));
}

#[test]
fn a_token_that_was_used_at_one_gateway_was_used_at_all() {
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let stage = Stage::new("");
    let places = postgres.iter().map(Postgres::url).chain(redis.iter().map(Redis::url));
    let clusters: Vec<[Served; 2]> = places
        .enumerate()
        .map(|(number, state)| ["one", "two"].map(|name| stage.gateway(&format!("{name}{number}"), &state, "  once: true\n")))
        .collect();
    for [one, two] in &clusters {
        let token = stage.token("id-1");
        assert_eq!(ask(one, "web", &token).status, 200);
        assert_used(&ask(two, "web", &token));
        let token = stage.token("id-2");
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..16).map(|at| (if at % 2 == 0 { one } else { two }, &token)).collect();
            let asked: Vec<_> = asked.into_iter().map(|(gate, token)| scope.spawn(|| ask(gate, "web", token).status)).collect();
            asked.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    }
    // Where that cannot be found out, nobody is let in.
    postgres.iter().for_each(Postgres::kill);
    redis.iter().for_each(Redis::kill);
    for gate in clusters.iter().flatten() {
        assert_eq!(ask(gate, "web", &stage.token("id-3")).status, 503);
    }
}
