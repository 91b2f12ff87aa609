//! No secret is found in anything that the gateway tells or keeps.
//!
//! A canary stands in the place of every secret of a configuration, in every header, argument and result; then everything that
//! is told (logs, records, figures, traces, errors, diagnostics, answers of the admin API) and every file of the state is
//! searched. The places are listed twice, by the configuration's schema and by the code that reads it: a new one without a row
//! here fails.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use support::authority::{Authority, CLIENT_SECRET};
use support::http::{Client, Reply, exchange};
use support::receiver::Receiver;
use support::{HttpUpstream, LEGACY, MODERN, PATIENCE, Scratch, Served, callgate, ended, lenient, root, until};

/// What every secret here holds.
const CANARY: &str = "canary";

/// The signature of what the gateway says of itself to authorization servers.
const ASSERTED: &str = "canary0123456789";

/// The keys of the configuration whose values are secrets, as the schema has them; and the variable that stands there in
/// [`config`].
const PLACES: [(&str, &str); 14] = [
    ("/$defs/grant/properties/token", "ADA"),
    ("/$defs/admin/properties/token", "ADMIN"),
    ("/$defs/admin/properties/tokens/additionalProperties", "ALICE"),
    ("/$defs/admin/properties/approvers/additionalProperties", "BOB"),
    ("/$defs/webhook/properties/secret", "HOOK_SECRET"),
    ("/$defs/authorization/properties/client_secret", "CLIENT_SECRET"),
    ("/$defs/authorization/properties/client_key", "CLIENT_KEY"),
    ("/$defs/authorization/properties/client_assertion", "ASSERTION"),
    ("/$defs/authorization/properties/assertion", "ASSERTION"),
    ("/$defs/authorization/properties/identity_provider/properties/client_secret", "CLIENT_SECRET"),
    ("/$defs/authorization/properties/identity_provider/properties/client_key", "CLIENT_KEY"),
    ("/$defs/authorization/properties/identity_provider/properties/client_assertion", "ASSERTION"),
    ("/$defs/authorizations/properties/key", "SEALING"),
    // Values that may be secret where their names sound so; the schema cannot tell.
    ("server.url, server.headers, server.env, webhook.url, state, audit.state", "URL HEADER CHILD HOOK DSN"),
];

/// How often each file of `config/` asks for a value that may be secret.
const READERS: [(&str, usize); 8] = [
    ("admin.rs", 1),
    ("approvals.rs", 1),
    ("audit.rs", 1),
    ("authorization.rs", 5),
    ("grants.rs", 1),
    ("mod.rs", 1),
    // By themselves: one for a state, one for a value.
    ("reading.rs", 2),
    ("servers.rs", 2),
];

#[test]
fn every_place_of_a_secret_is_listed() {
    let schema: Value = serde_json::from_slice(&std::fs::read(root().join("docs/callgate.schema.json")).unwrap()).unwrap();
    let mut found = Vec::new();
    references(&schema, String::new(), &mut found);
    let listed: Vec<&str> = PLACES.iter().map(|(place, _)| *place).filter(|place| place.starts_with('/')).collect();
    for place in &found {
        assert!(listed.contains(&place.as_str()), "{place} holds a secret: add a row to `PLACES`, and a canary to `config`");
    }
    assert_eq!(found.len(), listed.len(), "{found:?}");
    let directory = root().join("crates/gateway/src/config");
    let mut readers = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (name, text) = (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()));
        let Ok(text) = text else { continue };
        let asks = ["reading.secret(", "self.secret(", "reading.reference(", "reading.value(", "reading.state("];
        let count: usize = asks.iter().map(|ask| text.matches(ask).count()).sum();
        if count > 0 {
            readers.insert(name, count);
        }
    }
    let listed: BTreeMap<String, usize> = READERS.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    assert_eq!(readers, listed, "a value that may be secret is read in a new place: give it a canary in `config`");
}

/// The places whose values are references to secrets.
fn references(schema: &Value, at: String, found: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            if members.get("pattern").and_then(Value::as_str).is_some_and(|pattern| pattern.starts_with("^(env|file")) {
                found.push(at.clone());
            }
            // What says which references are allowed is none itself.
            let others = members.iter().filter(|(key, _)| *key != "references");
            others.for_each(|(key, value)| references(value, format!("{at}/{key}"), found));
        }
        Value::Array(elements) => elements.iter().for_each(|value| references(value, at.clone(), found)),
        _ => {}
    }
}

/// What a platform says of the workload that the gateway is, to the authorization server; without a signature.
fn unsigned(authority: &Authority) -> String {
    let assertion = authority.signed("JWT", json!({"aud": authority.origin, "sub": "workload"}));
    assertion.rsplit_once('.').unwrap().0.to_owned()
}

/// A secret of this name.
fn canary(name: &str) -> String {
    format!("{CANARY}-{}-0123456789-abcdefghijklmnop", name.to_lowercase().replace('_', "-"))
}

struct Stage {
    scratch: Scratch,
    authority: Authority,
    _web: HttpUpstream,
    told: Receiver,
    variables: Vec<(String, String)>,
}

impl Stage {
    fn new() -> Stage {
        let (scratch, authority, told) = (Scratch::new(), Authority::start(), Receiver::start());
        let web = HttpUpstream::start(&scratch.path("web.log"), &[]);
        std::fs::create_dir(scratch.path("state")).unwrap();
        scratch.write(
            "open.yaml",
            "version: \"1\"\ndefault: allow\ntools:\n  pay:\n    rules: [{name: ask, action: require_approval}]\n",
        );
        let pem = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        use base64::Engine;
        let pem = base64::engine::general_purpose::STANDARD.encode(pem.as_ref());
        let mut variables: Vec<(String, String)> = ["ADA", "ADMIN", "ALICE", "BOB", "HOOK_SECRET", "SEALING", "HEADER", "CHILD"]
            .map(|name| (name.to_owned(), canary(name)))
            .to_vec();
        variables.extend([
            ("CLIENT_SECRET".to_owned(), CLIENT_SECRET.to_owned()),
            ("CLIENT_KEY".to_owned(), format!("-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----\n")),
            ("URL".to_owned(), format!("{}?key={}", web.url(), canary("url"))),
            ("HOOK".to_owned(), format!("{}/{}", told.url, canary("hook"))),
            ("GONE".to_owned(), format!("http://127.0.0.1:9/{}", canary("gone"))),
            ("ASSERTION".to_owned(), format!("{}.{ASSERTED}", unsigned(&authority))),
            ("DSN".to_owned(), format!("postgres://user:{}@127.0.0.1:9/d", canary("dsn"))),
        ]);
        Stage { scratch, authority, _web: web, told, variables }
    }

    fn config(&self, state: &str) -> String {
        let child = serde_json::to_string(&lenient(&self.scratch.path("child.log"), &["--stdio"])).unwrap();
        let (guarded, told) = (self.authority.url(), &self.told.url);
        let servers = "[web, lab, gone, own, signed, mine, swap, work, stated, managed]";
        format!(
            "listen: 127.0.0.1:0\nstate: {state}\nlock: state/callgate.lock\nservers:\n  \
             web: {{url: env:URL, headers: {{X-Api-Key: env:HEADER}}, request_headers: [x-passed], policy: open.yaml}}\n  \
             lab: {{command: {child}, env: {{API_KEY: env:CHILD}}, policy: open.yaml}}\n  \
             gone: {{url: env:GONE, policy: open.yaml}}\n  \
             own: {{url: '{guarded}', policy: open.yaml, authorization: {{flow: client_credentials, client_id: the-gateway, client_secret: env:CLIENT_SECRET}}}}\n  \
             signed: {{url: '{guarded}', policy: open.yaml, authorization: {{flow: client_credentials, client_id: us, client_key: env:CLIENT_KEY}}}}\n  \
             mine: {{url: '{guarded}', policy: open.yaml, authorization: {{flow: authorization_code}}}}\n  \
             swap: {{url: '{guarded}', policy: open.yaml, authorization: {{flow: token_exchange, client_id: the-gateway, client_secret: env:CLIENT_SECRET}}}}\n  \
             work: {{url: '{guarded}', policy: open.yaml, authorization: {{flow: workload_identity, assertion: env:ASSERTION}}}}\n  \
             stated: {{url: '{guarded}', policy: open.yaml, authorization: {{flow: client_credentials, client_id: us, client_assertion: env:ASSERTION}}}}\n  \
             managed: {{url: '{guarded}', policy: open.yaml, authorization: {{flow: enterprise_managed, subject_token: access_token, client_id: the-gateway, \
             client_secret: env:CLIENT_SECRET, identity_provider: {{client_id: the-gateway, client_secret: env:CLIENT_SECRET}}}}}}\n\
             grants:\n  - {{name: ada, principal: 'person:ada', token: env:ADA, servers: {servers}}}\n  \
             - {{name: eve, principal: eve, servers: {servers}}}\n\
             identity:\n  issuer: {}\n  audience: https://mcp.example.org\n  grants: [{{grant: eve, claims: {{sub: eve}}, principal: sub}}]\n\
             authorizations: {{key: env:SEALING}}\n\
             admin: {{listen: '127.0.0.1:0', token: env:ADMIN, tokens: {{alice: env:ALICE}}, approvers: {{bob: env:BOB}}}}\n\
             approvals: {{webhooks: [{{url: env:HOOK, secret: env:HOOK_SECRET}}]}}\n\
             audit: {{arguments: hmac, export: {{file: state/export.jsonl, otlp: '{told}'}}}}\n\
             telemetry: {{metrics: '127.0.0.1:0', otlp: '{told}'}}\n",
            self.authority.origin
        )
    }

    fn serve(&self, name: &str, state: &str) -> Served {
        let path = self.scratch.write(name, self.config(state));
        let mut variables: Vec<(&str, &str)> =
            self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        variables.push(("CALLGATE_LOG", "trace"));
        Served::configured(&path, &variables)
    }

    /// What a command says.
    fn command(&self, words: &[&str]) -> String {
        let output = callgate().args(words).envs(self.variables.iter().cloned()).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }
}

/// Where the gateway says that something listens.
fn listening(gate: &Served, what: &str) -> String {
    let found = until(PATIENCE, || {
        let text = gate.stderr.lock().unwrap().clone();
        let rest = text.split_once(what)?.1;
        let rest = rest.split_once("://")?.1;
        Some(rest.split(['/', '\n', ' ']).next()?.to_owned())
    });
    found.unwrap_or_else(|| panic!("{what}: {}", gate.stderr.lock().unwrap()))
}

fn get(address: &str, path: &str, token: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
    text_of(&exchange(address, request.as_bytes()).expect("an answer"))
}

/// All of an answer, headers too.
fn text_of(reply: &Reply) -> String {
    let headers: String = reply.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{}\n{headers}\n{}\n", reply.status, String::from_utf8_lossy(&reply.body))
}

/// What callers were answered.
#[derive(Default)]
struct Answered {
    /// To what holds nothing that may come back: no canary at all is in it.
    told: String,
    /// To what servers repeat, or may name in an error: no canary of the configuration is in it. By server.
    repeated: Vec<(String, String)>,
}

/// Calls, well and badly, with a canary wherever there is room for one.
fn talk(stage: &Stage, gate: &Served) -> Answered {
    let mut answered = Answered::default();
    let ada = canary("ada");
    for revision in [LEGACY, MODERN] {
        for server in ["web", "lab", "gone", "own", "signed", "mine", "swap", "work", "stated", "managed"] {
            let client = Client::silent(&gate.address, revision).at(&format!("/mcp/{server}?q={}", canary("query")), &ada);
            let send = |method: &str, params: Value| {
                let mut headers = client.headers(method, params["name"].as_str());
                for name in ["Cookie", "X-Passed", "X-Other", "Proxy-Authorization", "User-Agent", "Forwarded"] {
                    headers.push((name.to_owned(), canary(name)));
                }
                let text = support::request(revision, "1", method, params);
                client.send(&headers, text.as_bytes()).expect("an answer")
            };
            let hello = json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": canary("client"), "version": "1"}});
            let greeted = send("initialize", hello);
            let session = greeted.header("mcp-session-id").map(str::to_owned);
            let client = Client { session, ..client.clone() };
            let call = |name: &str| {
                let params = json!({"name": name, "arguments": {"text": canary("argument"), canary("key"): 1}});
                client.ask("2", "tools/call", params)
            };
            let uri = json!({"uri": format!("file:///{}", canary("uri"))});
            let listed = client.ask("4", "tools/list", json!({}));
            for reply in [greeted, call("echo"), call("whoami"), client.ask("3", "resources/read", uri), listed] {
                answered.repeated.push((format!("{revision} {server}"), text_of(&reply)));
            }
            let broken = client.send(&client.headers("tools/call", Some("echo")), b"{\"jsonrpc\":\"2.0\",\"canary-broken\"");
            answered.told += &text_of(&broken.expect("an answer"));
        }
    }
    // Somebody whose own token is exchanged.
    let shown = stage.authority.token_for_gateway("eve");
    for server in ["swap", "managed"] {
        let eve = Client::silent(&gate.address, LEGACY).at(&format!("/mcp/{server}"), &shown).shake_hands();
        assert_eq!(support::text_of(&eve.call("1", "whoami", json!({}))), "eve");
    }
    // Nobody at all, and a session of nobody's.
    let nobody = Client::silent(&gate.address, LEGACY).at("/mcp/web", &canary("wrong"));
    answered.told += &text_of(&nobody.ask("1", "ping", json!({})));
    let lost = Client { session: Some(canary("session")), ..Client::silent(&gate.address, LEGACY).at("/mcp/web", &ada) };
    answered.told += &text_of(&lost.ask("1", "tools/list", json!({})));
    // A call that waits for a person, of whom webhooks tell: what it holds is for them to read.
    let asks = Client::silent(&gate.address, LEGACY).at("/mcp/lab", &ada).shake_hands();
    answered.told += &asks.call("1", "pay", json!({"amount": 1})).to_string();
    answered
}

#[test]
fn no_secret_is_told_or_kept() {
    let stage = Stage::new();
    let state = format!("sqlite:{}", stage.scratch.path("state/callgate.db").display());
    let mut gate = stage.serve("callgate.yaml", &state);
    let (metrics, admin) = (listening(&gate, "callgate metrics at"), listening(&gate, "callgate administered on"));
    let answered = talk(&stage, &gate);
    let mut told: Vec<(String, String)> = vec![("answers".to_owned(), answered.told)];
    told.push(("figures".to_owned(), get(&metrics, "/metrics", "")));
    let document: Value = serde_json::from_slice(&std::fs::read(root().join("docs/admin.openapi.json")).unwrap()).unwrap();
    let records = support::audit(&state);
    let id = records.iter().find_map(|record| record["id"].as_str()).expect("a record");
    for (path, methods) in document["paths"].as_object().unwrap() {
        if methods.get("get").is_some() {
            let path = path.replace("{id}", id);
            told.push((path.clone(), get(&admin, &path, &canary("ADMIN"))));
            told.push((path.clone(), get(&admin, &path, &canary("wrong"))));
        }
    }
    gate.signal(Signal::TERM);
    ended(&mut gate.child, PATIENCE).expect("it ends");
    told.push(("the log".to_owned(), gate.stderr.lock().unwrap().clone()));
    let config = stage.scratch.path("callgate.yaml").display().to_string();
    for words in [
        &["audit", "list", "--json", "--state", &state][..],
        &["audit", "export", "--state", &state],
        &["status", "--state", &state],
        &["approvals", "list", "--json", "--state", &state],
        &["grants", "list", "-c", &config],
        &["authorizations", "list", "-c", &config],
        &["check", &config],
    ] {
        told.push((words.join(" "), stage.command(words)));
    }
    let posted = stage.told.posted.lock().unwrap().clone();
    let hooked = posted.iter().any(|(path, _)| path.contains("canary-hook"));
    assert!(hooked, "the webhook was told");
    for (path, body) in posted {
        told.push((format!("posted to {}", path.replace(CANARY, "…")), String::from_utf8_lossy(&body).into_owned()));
    }
    // The same with a state that cannot be had, and its password.
    let mut broken = stage.serve("broken.yaml", "env:DSN");
    let client = Client::silent(&broken.address, LEGACY).at("/mcp/own", &canary("ada"));
    for (method, params) in [
        ("initialize", json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {}})),
        ("tools/call", json!({"name": "echo", "arguments": {}})),
    ] {
        told.push((format!("the answer to {method} without a state"), text_of(&client.ask("1", method, params))));
    }
    broken.signal(Signal::TERM);
    ended(&mut broken.child, PATIENCE).expect("it ends");
    told.push(("the log without a state".to_owned(), broken.stderr.lock().unwrap().clone()));
    kept(&stage.scratch.path("state"), &mut told);
    assert!(told.iter().any(|(_, text)| text.contains("callgate_calls_total")) && told.len() > 30, "something was told");
    let pem = stage.variables.iter().find(|(name, _)| name == "CLIENT_KEY").unwrap().1.lines().nth(1).unwrap().to_owned();
    told.iter().for_each(|(place, text)| assert_holds_none(place, text, &[CANARY, &pem]));
    // Arguments come back in results, and are the caller's; what the gateway is configured with is nobody's.
    let parts = ["url", "hook", "gone", "dsn"].map(canary);
    let values = stage.variables.iter().map(|(_, value)| value);
    let configured: Vec<&str> = values.chain(&parts).map(String::as_str).chain([&*pem, ASSERTED]).collect();
    assert!(answered.repeated.len() == 100 && answered.repeated.iter().any(|(_, text)| text.contains("canary-argument")));
    answered.repeated.iter().for_each(|(place, text)| assert_holds_none(place, text, &configured));
}

#[track_caller]
fn assert_holds_none(place: &str, text: &str, secrets: &[&str]) {
    for secret in secrets {
        let found = text.find(secret).map(|at| {
            let from = text[..at].char_indices().rev().nth(300).map_or(0, |(from, _)| from);
            &text[from..at + secret.len()]
        });
        assert_eq!(found, None, "in {place}");
    }
}

/// Every file below a directory.
fn kept(directory: &Path, told: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        match path.is_dir() {
            true => kept(&path, told),
            false => {
                let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
                told.push((path.display().to_string(), text));
            }
        }
    }
}

#[test]
fn no_diagnostic_shows_a_secret() {
    let stage = Stage::new();
    let whole = stage.config("memory:");
    // Written out where a reference belongs, empty, missing, and in a file that cannot be read as one.
    for (name, value) in &stage.variables {
        let written = whole.replace(&format!("env:{name}"), &format!("'{}'", value.lines().nth(1).unwrap_or(value)));
        let path = stage.scratch.write("written.yaml", written);
        for words in [&["check", &path.display().to_string()][..], &["check", &path.display().to_string(), "--json"]] {
            let said = stage.command(words);
            assert!(!said.contains(CANARY), "{name}: {said}");
        }
    }
    let broken = stage.scratch.write("broken.yaml", whole.replace("env:ADA", &format!("[{}", canary("ada"))));
    assert!(!stage.command(&["check", &broken.display().to_string()]).contains(CANARY));
    // A reference to nothing, and to something empty, ends `serve` with 3.
    for name in ["ADA", "HOOK_SECRET", "HOOK", "SEALING", "CLIENT_SECRET", "CLIENT_KEY", "HEADER", "CHILD", "ADMIN"] {
        for value in ["", " \n"] {
            let path = stage.scratch.write("empty.yaml", &whole);
            let mut command = callgate();
            command.args(["serve", "-c"]).arg(path).envs(stage.variables.iter().cloned());
            if value.is_empty() {
                command.env_remove(name)
            } else {
                command.env(name, value)
            };
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(3), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(!String::from_utf8_lossy(&output.stderr).contains(CANARY), "{name}");
        }
    }
}
