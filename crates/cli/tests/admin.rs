//! The admin API of a gateway with a configuration: servers, policies and grants that people make, change and take away while
//! it runs, on one machine and on a cluster.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

#[path = "../../store/tests/support/servers.rs"]
mod servers;

mod support;

use serde_json::{Value, json};
use servers::Postgres;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::http::{Client, Reply, exchange, open, response};
use support::openapi::assert_documented;
use support::{
    HttpUpstream, LEGACY, PATIENCE, Scratch, Served, audit, call, callgate, entries_of, is_denied, lenient, names, tools_run,
    until,
};

const ALICE: &str = "a-token-of-alice-0123456789";
const BOB: &str = "a-token-of-bob-0123456789";
const ADA: &str = "a-token-of-ada-0123456789";
const OPEN: &str = "version: \"1\"\ndefault: allow\n";
/// A revocation is to take effect within a second; a machine that does much else at the time gets this long.
const SOON: Duration = Duration::from_secs(10);

struct Stage {
    scratch: Scratch,
    upstream: HttpUpstream,
}

/// A gateway and its admin API.
struct Gate {
    served: Served,
    api: String,
}

impl Stage {
    fn new() -> Stage {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        scratch.write("open.yaml", OPEN);
        Stage { scratch, upstream }
    }

    /// A configuration with one server, one grant, an administrator and an approver.
    fn config(&self, state: &str) -> PathBuf {
        let config = json!({
            "listen": "127.0.0.1:0",
            "state": state,
            "servers": {"web": {"url": self.upstream.url(), "policy": "open.yaml", "pin": "off"}},
            "grants": [{"name": "ada", "principal": "person:ada", "token": "env:ADA", "servers": ["web"]}],
            "admin": {"listen": "127.0.0.1:0", "tokens": {"alice": "env:ALICE"}, "approvers": {"bob": "env:BOB"}},
        });
        self.scratch.write("callgate.yaml", config.to_string())
    }

    fn gateway(&self) -> Gate {
        self.gateway_on("home", &self.scratch.state())
    }

    /// One with a home of its own.
    fn gateway_on(&self, home: &str, state: &str) -> Gate {
        let address = if state.starts_with("postgres:") { "env:STATE" } else { state };
        self.start(home, state, self.config(address))
    }

    /// One of a configuration that was written.
    fn start(&self, home: &str, state: &str, config: PathBuf) -> Gate {
        let mut command = callgate();
        command.envs([("ALICE", ALICE), ("BOB", BOB), ("ADA", ADA), ("STATE", state), ("UPSTREAM_TOKEN", "hunter2-upstream")]);
        command.env("XDG_DATA_HOME", self.scratch.path(home)).args(["serve", "-c"]).arg(config);
        let served = Served::ready(command);
        let said = served.stderr.lock().unwrap().clone();
        let api = said.split_once("administered on http://").unwrap().1.split_once("/v1").unwrap().0.to_owned();
        Gate { served, api }
    }

    /// A child server's document.
    fn child(&self, policy: &str) -> String {
        json!({"command": lenient(&self.scratch.log(), &["--stdio"]), "policy": policy, "pin": "off"}).to_string()
    }
}

impl Gate {
    /// Asks as `curl` would.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.ask_as(ALICE, method, path, headers, body)
    }

    fn ask_as(&self, token: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n", self.api);
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()));
        let reply = exchange(&self.api, text.as_bytes()).expect("an answer");
        assert_documented(method, path, &reply);
        reply
    }

    fn get(&self, path: &str) -> Value {
        let reply = self.ask("GET", path, &[], "");
        assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
        json_of(&reply)
    }

    #[track_caller]
    fn put(&self, path: &str, body: &str) -> Value {
        let reply = self.ask("PUT", path, &[], body);
        assert!(matches!(reply.status, 200 | 201), "{path}: {} {}", reply.status, String::from_utf8_lossy(&reply.body));
        json_of(&reply)
    }

    /// What a refused request is answered: its status, its code, everything.
    fn refusal(&self, method: &str, path: &str, body: &str) -> (u16, String, String) {
        let reply = self.ask(method, path, &[], body);
        let code = json_of(&reply)["error"]["code"].as_str().unwrap_or_default().to_owned();
        (reply.status, code, String::from_utf8_lossy(&reply.body).into_owned())
    }

    fn client(&self, server: &str, token: &str) -> Client {
        Client::silent(&self.served.address, LEGACY).at(&format!("/mcp/{server}"), token)
    }
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("{reply:?}"))
}

fn initialize(client: &Client) -> u16 {
    let info = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    client.ask("1", "initialize", info).status
}

#[test]
fn a_grant_of_the_file_uses_a_server_that_the_state_keeps() {
    let stage = Stage::new();
    let config = stage.config(&stage.scratch.state());
    let text = std::fs::read_to_string(&config).unwrap().replace(r#""servers":["web"]"#, r#""servers":["web","state:files"]"#);
    let gate = stage.start("home", &stage.scratch.state(), stage.scratch.write("callgate.yaml", text));
    until(SOON, || gate.served.stderr.lock().unwrap().contains("the state does not keep").then_some(())).expect("it is told");
    assert_eq!(initialize(&gate.client("files", ADA)), 404);
    gate.put("/v1/servers/files", &stage.child("open.yaml"));
    let ada = gate.client("files", ADA).shake_hands();
    assert!(!is_denied(&ada.call("2", "echo", json!({}))));
    let (status, code, said) = gate.refusal("DELETE", "/v1/servers/files", "");
    assert_eq!((status, code.as_str()), (409, "in-use"), "{said}");
    assert!(said.contains("the grant `ada` of the configuration file"), "{said}");
}

#[test]
fn register_a_server_paste_a_policy_take_the_url() {
    let stage = Stage::new();
    let gate = stage.gateway();
    let policy = gate.put("/v1/policies/careful", "version: \"1\"\ndefault: allow\nhide: [echo]\n");
    assert_eq!((policy["version"].as_i64(), policy["source"].as_str()), (Some(1), Some("state")));
    let server = gate.put("/v1/servers/files", &stage.child("state:careful"));
    let url = server["url"].as_str().unwrap();
    assert_eq!(url, format!("http://{}/mcp/files", gate.served.address));
    let grant = gate.put("/v1/grants/bot", r#"{"principal": "agent:bot", "servers": ["files", "web"], "limits": ["2/hour"]}"#);
    let token = grant["token"].as_str().unwrap().to_owned();
    assert_eq!(grant["urls"]["files"], url);
    assert!(gate.get("/v1/grants/bot").get("token").is_none(), "it is told once");

    // At once, without a restart.
    let bot = gate.client("files", &token).shake_hands();
    let listed = names(&bot.ask("2", "tools/list", json!({})).reply("2"));
    assert!(listed.contains(&"read_file".to_owned()) && !listed.contains(&"echo".to_owned()), "{listed:?}");
    for (id, denied) in [("3", false), ("4", false), ("5", true)] {
        assert_eq!(is_denied(&bot.call(id, "get_repo", json!({"repo": "a"}))), denied, "the grant's limit");
    }

    // Another policy holds for the next call, in the sessions that are open.
    gate.put("/v1/policies/careful", "version: \"1\"\ndefault: deny\ntools: {echo: {}}\n");
    let listed = names(&bot.ask("6", "tools/list", json!({})).reply("6"));
    assert_eq!(listed, ["echo"]);
    assert_eq!(gate.get("/v1/policies/careful")["used_by"], json!({"servers": ["files"], "grants": []}));

    // A grant is taken away with what goes on in its name.
    let web = gate.client("web", &token).shake_hands();
    let text = call(LEGACY, "7", "slow", json!({"seconds": 60}));
    gate.put("/v1/grants/bot", r#"{"principal": "agent:bot", "servers": ["web"]}"#);
    assert_eq!(initialize(&gate.client("files", &token)), 403);
    let mut under_way = open(&web.address, &web.post(&web.headers("tools/call", Some("slow")), text.as_bytes()));
    until(PATIENCE, || (!entries_of(&stage.scratch.log(), "ran").is_empty()).then_some(())).expect("the call arrives");
    until(PATIENCE, || tools_run(&stage.scratch.log()).contains(&"slow".to_owned()).then_some(())).expect("the call arrives");
    assert_eq!(gate.ask("DELETE", "/v1/grants/bot", &[], "").status, 200);
    let reply = response(&mut under_way).expect("an answer");
    assert!(String::from_utf8_lossy(&reply.body).contains("the grant was revoked or has expired"));
    assert_eq!(initialize(&web), 401);

    assert_eq!(gate.ask("DELETE", "/v1/servers/files", &[], "").status, 200);
    assert_eq!(initialize(&gate.client("files", ADA)), 404);
    assert_eq!(gate.ask("DELETE", "/v1/policies/careful", &[], "").status, 200);
    assert_eq!(gate.refusal("GET", "/v1/servers/files", "").0, 404);

    let changes: Vec<Value> = audit(&stage.scratch.state()).into_iter().filter(|record| record["phase"] == "admin").collect();
    let done: Vec<_> = changes.iter().map(|record| record["method"].as_str().unwrap()).collect();
    let expected = [
        "policies/create",
        "servers/create",
        "grants/create",
        "policies/change",
        "grants/change",
        "grants/revoke",
        "servers/remove",
        "policies/remove",
    ];
    assert_eq!(done, expected);
    assert!(changes.iter().all(|record| record["principal"] == "alice"));
    assert_eq!(changes[3]["change"]["before"], changes[0]["change"]["after"]);
    assert!(changes[3]["change"]["after"].as_str().is_some_and(|digest| digest.len() == 64), "{}", changes[3]);
    support::assert_verified(&stage.scratch.state());
}

#[test]
fn what_a_file_would_be_refused_for_is_refused_and_changes_nothing() {
    let stage = Stage::new();
    let gate = stage.gateway();
    gate.put("/v1/policies/p", OPEN);
    gate.put("/v1/servers/a", &stage.child("state:p"));
    gate.put("/v1/grants/g", r#"{"principal": "p", "servers": ["a"]}"#);
    for (path, body, says) in [
        ("/v1/policies/p", "version: \"1\"\ndefualt: deny\n", "P010"),
        ("/v1/servers/a", r#"{"url": "http://h/mcp", "command": ["cat"]}"#, "C008"),
        ("/v1/servers/a", r#"{"url": "http://h/mcp", "headers": {"Authorization": "Bearer hunter2"}}"#, "C003"),
        ("/v1/servers/a", r#"{"command": ["cat"], "policy": "state:nothing"}"#, "C007"),
        ("/v1/servers/a", r#"{"command": ["cat"], "policy": "nowhere.yaml"}"#, "C004"),
        ("/v1/servers/Big", r#"{"command": ["cat"]}"#, "C002"),
        ("/v1/grants/g", r#"{"principal": "p", "servers": ["nowhere"]}"#, "C007"),
        ("/v1/grants/g", r#"{"principal": "p", "servers": ["a"], "token": "hunter2"}"#, "C008"),
        ("/v1/grants/g", r#"{"name": "h", "principal": "p", "servers": ["a"]}"#, "C002"),
        ("/v1/grants/g", r#"{"principal": "p", "servers": ["a"], "limits": ["often"]}"#, "C002"),
    ] {
        let (status, code, text) = gate.refusal("PUT", path, body);
        assert_eq!((status, code.as_str()), (422, "invalid"), "{path} {body}: {text}");
        assert!(text.contains(says) && !text.contains("hunter2"), "{says}: {text}");
    }
    for (method, path, body, status, code) in [
        ("PUT", "/v1/servers/a", "[1]", 400, "bad-request"),
        ("PUT", "/v1/servers/a", "{\"url\":1,\"url\":2}", 400, "bad-request"),
        ("PUT", "/v1/policies/..", OPEN, 400, "bad-request"),
        ("PUT", "/v1/servers/web", "{\"command\": [\"cat\"]}", 409, "conflict"),
        ("DELETE", "/v1/servers/web", "", 409, "conflict"),
        ("PUT", "/v1/grants/ada", "{\"principal\": \"p\", \"servers\": [\"a\"]}", 409, "conflict"),
        ("DELETE", "/v1/policies/p", "", 409, "in-use"),
        ("DELETE", "/v1/servers/a", "", 409, "in-use"),
        ("DELETE", "/v1/servers/nothing", "", 404, "not-found"),
        ("PUT", "/v1/grants/local", "{\"principal\": \"p\", \"servers\": [\"a\"]}", 422, "invalid"),
    ] {
        let refused = gate.refusal(method, path, body);
        assert_eq!((refused.0, refused.1.as_str()), (status, code), "{method} {path}: {}", refused.2);
    }
    for path in ["/v1/policies/p", "/v1/servers/a", "/v1/grants/g"] {
        assert_eq!(gate.get(path)["version"], 1, "{path}");
    }
    // Who only approves looks and changes nothing.
    assert_eq!(gate.ask_as(BOB, "GET", "/v1/servers", &[], "").status, 200);
    assert_eq!(gate.ask_as(BOB, "PUT", "/v1/policies/p", &[], OPEN).status, 403);
    assert_eq!(gate.ask_as(ADA, "GET", "/v1/servers", &[], "").status, 401, "a caller's token opens nothing here");

    // One list: what stands in the file and what is kept.
    let sources = |path: &str| -> Vec<(String, String)> {
        let items = gate.get(path)["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|item| (item["name"].as_str().unwrap().to_owned(), item["source"].as_str().unwrap().to_owned()))
            .collect()
    };
    let pair = |name: &str, source: &str| (name.to_owned(), source.to_owned());
    assert_eq!(sources("/v1/servers"), [pair("web", "file"), pair("a", "state")]);
    assert_eq!(sources("/v1/grants"), [pair("ada", "file"), pair("g", "state")]);
    let text = std::fs::read_to_string(stage.scratch.path("callgate.yaml")).unwrap();
    stage.scratch.write("callgate.yaml", text.replace("\"web\":", "\"a\":").replace("[\"web\"]", "[\"a\"]"));
    let (status, code, said) = gate.refusal("POST", "/v1/reload", "");
    assert_eq!((status, code.as_str()), (409, "conflict"), "{said}");
    assert!(said.contains("the server `a` stands in the configuration, and is kept in the state too"), "{said}");
    stage.scratch.write("callgate.yaml", "servers: 3\n");
    assert_eq!(gate.refusal("POST", "/v1/reload", "").0, 422);
    stage.scratch.write("callgate.yaml", text);
    assert_eq!(gate.ask("POST", "/v1/reload", &[], "").status, 200);
}

#[test]
fn a_gateway_may_refuse_commands_that_come_from_the_state() {
    let stage = Stage::new();
    let state = stage.scratch.state();
    let gate = stage.gateway();
    gate.put("/v1/servers/a", &stage.child("open.yaml"));
    assert_eq!(initialize(&gate.client("a", ADA)), 403);
    drop(gate);
    let text = std::fs::read_to_string(stage.config(&state)).unwrap();
    let config = stage.scratch.write("callgate.yaml", text.replace("\"tokens\"", "\"commands\": false, \"tokens\""));
    let gate = stage.start("home", &state, config);
    assert_eq!(initialize(&gate.client("a", ADA)), 404, "it is left out");
    assert_eq!(gate.refusal("PUT", "/v1/servers/b", &stage.child("open.yaml")).0, 422);
    gate.put("/v1/servers/b", &json!({"url": stage.upstream.url(), "policy": "open.yaml"}).to_string());
}

#[test]
fn a_server_that_is_refused_is_not_started() {
    let stage = Stage::new();
    let state = stage.scratch.state();
    let mark = stage.scratch.path("started");
    let server = |policy: &str| {
        json!({"command": ["touch", mark.to_str().unwrap()], "start": "at-start", "policy": policy, "pin": "off"}).to_string()
    };
    // What is started is started by another task: once would show little.
    let refused = |gate: &Gate, server: &str| {
        for _ in 0..20 {
            assert_eq!(gate.refusal("PUT", "/v1/servers/a", server).0, 422);
        }
        std::thread::sleep(Duration::from_millis(500));
        assert!(!mark.exists(), "{server}");
    };
    let gate = stage.gateway();
    refused(&gate, &server("state:nothing"));
    drop(gate);
    let text = std::fs::read_to_string(stage.config(&state)).unwrap();
    let config = stage.scratch.write("callgate.yaml", text.replace("\"tokens\"", "\"commands\": false, \"tokens\""));
    let gate = stage.start("home", &state, config);
    refused(&gate, &server("open.yaml"));
    // Nor does it learn what the gateway itself knows.
    let asking = json!({"url": stage.upstream.url(), "headers": {"X-Key": "env:ALICE"}, "policy": "open.yaml"}).to_string();
    let (status, _, said) = gate.refusal("PUT", "/v1/servers/a", &asking);
    assert!(status == 422 && said.contains("may not name `env:ALICE`"), "{said}");
    drop(gate);
    let gate = stage.start("home", &state, stage.config(&state));
    gate.put("/v1/servers/a", &server("open.yaml"));
    until(PATIENCE, || mark.exists().then_some(())).expect("one that is taken up is started");
}

#[test]
fn nobodys_change_is_lost_and_every_version_comes_back() {
    let stage = Stage::new();
    let gate = stage.gateway();
    let put = |headers: &[(&str, &str)], text: &str| gate.ask("PUT", "/v1/policies/p", headers, text);
    let created = put(&[("If-None-Match", "*")], "version: \"1\"\n");
    assert_eq!((created.status, created.header("etag")), (201, Some("\"1\"")));
    assert_eq!(put(&[("If-None-Match", "*")], OPEN).status, 412);
    assert_eq!(put(&[("If-Match", "\"1\"")], OPEN).status, 200);
    let stale = put(&[("If-Match", "\"1\"")], "version: \"1\"\ndefault: deny\n");
    assert_eq!((stale.status, json_of(&stale)["error"]["code"].as_str()), (412, Some("other-version")));
    assert_eq!(put(&[("If-Match", "1")], OPEN).status, 400);

    let history = gate.get("/v1/policies/p/history");
    let texts: Vec<_> = history["items"].as_array().unwrap().iter().map(|item| item["text"].as_str().unwrap()).collect();
    assert_eq!(texts, [OPEN, "version: \"1\"\n"]);
    assert_eq!(gate.ask("DELETE", "/v1/policies/p", &[("If-Match", "\"2\"")], "").status, 200);
    let restored = gate.ask("POST", "/v1/policies/p/restore?version=1", &[], "");
    assert_eq!((restored.status, restored.header("etag")), (201, Some("\"4\"")));
    assert_eq!(gate.get("/v1/policies/p")["text"], "version: \"1\"\n");
    assert_eq!(gate.refusal("POST", "/v1/policies/p/restore?version=3", "").0, 404, "it was removed then");

    // Eight people at once, each of whom goes by what all of them have seen: one is the first.
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|n| {
                let (gate, text) = (&gate, format!("version: \"1\"\ndescription: of {n}\n"));
                scope.spawn(move || gate.ask("PUT", "/v1/policies/p", &[("If-Match", "\"4\"")], &text).status)
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 412)), "{statuses:?}");
    assert_eq!(gate.get("/v1/policies/p")["version"], 5);
}

#[test]
fn what_is_kept_outlives_the_gateway_and_its_files_are_watched() {
    let stage = Stage::new();
    let token = {
        let gate = stage.gateway();
        let server = json!({"url": stage.upstream.url(), "policy": "kept.yaml", "pin": "off", "headers": {"X-Api-Key": "env:UPSTREAM_TOKEN"}});
        stage.scratch.write("kept.yaml", OPEN);
        let shown = gate.put("/v1/servers/kept", &server.to_string());
        assert!(!shown.to_string().contains("hunter2"), "{shown}");
        gate.put("/v1/grants/bot", r#"{"principal": "agent:bot", "servers": ["kept"]}"#)["token"].as_str().unwrap().to_owned()
    };
    let gate = stage.gateway();
    let bot = gate.client("kept", &token).shake_hands();
    assert!(names(&bot.ask("2", "tools/list", json!({})).reply("2")).contains(&"echo".to_owned()));
    stage.scratch.write("kept.yaml", "version: \"1\"\ndefault: deny\ntools: {echo: {}}\n");
    let listed = || (names(&bot.ask("3", "tools/list", json!({})).reply("3")) == ["echo"]).then_some(());
    until(PATIENCE, listed).expect("the policy's file is taken up");
    let again = gate.ask("POST", "/v1/grants/bot/rotate?overlap=1h", &[], "");
    let new = json_of(&again)["token"].as_str().unwrap().to_owned();
    assert_eq!((initialize(&gate.client("kept", &token)), initialize(&gate.client("kept", &new))), (200, 200));
    // With what a server needs gone it is left out, and said to be; nothing else suffers.
    stage.scratch.write("kept.yaml", "version: 2\n");
    let left_out = || (initialize(&gate.client("kept", &new)) == 404).then_some(());
    until(PATIENCE, left_out).expect("it is left out");
    let shown = gate.get("/v1/servers/kept");
    assert!(shown["in_force"] == false && !shown["problems"].as_array().unwrap().is_empty(), "{shown}");
    assert_eq!(initialize(&gate.client("web", ADA)), 200);
}

#[test]
fn status_tells_of_children_their_ends_and_what_they_said() {
    let stage = Stage::new();
    let gate = stage.gateway();
    let dying =
        json!({"command": ["sh", "-c", "echo no such luck: $API_KEY >&2; exit 3"], "env": {"API_KEY": "env:UPSTREAM_TOKEN"}});
    gate.put("/v1/servers/dying", &dying.to_string());
    let token = gate.put("/v1/grants/bot", r#"{"principal": "p", "servers": ["dying"]}"#)["token"].as_str().unwrap().to_owned();
    let found = until(PATIENCE, || {
        let _ = initialize(&gate.client("dying", &token));
        let status = gate.get("/v1/status");
        let servers = status["gateway"]["servers"].as_array()?.clone();
        let dying = servers.into_iter().find(|server| server["server"] == "dying")?;
        (dying["processes"]["ended"].as_i64()? > 0 && !dying["processes"]["stderr"].as_array()?.is_empty()).then_some(dying)
    });
    let dying = found.expect("its end is told");
    assert_eq!(dying["processes"]["stderr"][0], "no such luck: …", "{dying}");
    assert_eq!(dying["pins_pending"], 0);
    // Whoever asks the state is told too, a few seconds later.
    let shown = || {
        let ran = support::run(&["status", "--state", &stage.scratch.state()], "");
        (ran.stdout.contains("no such luck") && ran.stdout.contains("PINS PENDING")).then_some(ran.stdout)
    };
    let shown = until(PATIENCE * 3, shown).expect("status shows it");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn what_one_gateway_of_a_cluster_is_told_holds_on_all() {
    let Some(server) = Postgres::start() else { return };
    let (stage, state) = (Stage::new(), server.url());
    let (one, two) = (stage.gateway_on("one", &state), stage.gateway_on("two", &state));
    one.put("/v1/policies/ask", ASKING);
    one.put("/v1/servers/files", &stage.child("state:ask"));
    let grant = one.put("/v1/grants/bot", r#"{"principal": "agent:bot", "servers": ["files"]}"#);
    let token = grant["token"].as_str().unwrap().to_owned();
    let bot = two.client("files", &token);
    until(SOON, || (initialize(&bot) == 200).then_some(())).expect("the other gateway knows the server and the grant");
    // A name is one server, whoever makes it.
    let again = two.ask("PUT", "/v1/servers/files", &[("If-None-Match", "*")], &stage.child("state:ask"));
    assert_eq!(again.status, 412);

    // A revocation here ends a call under way there.
    let bot = bot.shake_hands();
    let text = call(LEGACY, "7", "slow", json!({"seconds": 60}));
    let mut under_way = open(&bot.address, &bot.post(&bot.headers("tools/call", Some("slow")), text.as_bytes()));
    until(PATIENCE, || tools_run(&stage.scratch.log()).contains(&"slow".to_owned()).then_some(())).expect("the call arrives");
    let begun = Instant::now();
    assert_eq!(one.ask("DELETE", "/v1/grants/bot", &[], "").status, 200);
    let reply = response(&mut under_way).expect("an answer");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert!(String::from_utf8_lossy(&reply.body).contains("the grant was revoked or has expired"));
    until(SOON, || (initialize(&two.client("files", &token)) == 401).then_some(())).expect("its token is unknown");

    one.ask("DELETE", "/v1/servers/files", &[], "");
    until(SOON, || (initialize(&two.client("files", ADA)) == 404).then_some(())).expect("the server is gone there too");
}

const ASKING: &str = "version: \"1\"\ntools:\n  delete_repo:\n    rules:\n      - {name: ask first, action: require_approval, approvals: {count: 2, of: [alice, bob]}}\n";

#[test]
fn two_people_at_two_gateways_approve_and_one_call_spends_it() {
    let Some(server) = Postgres::start() else { return };
    let (stage, state) = (Stage::new(), server.url());
    let gates = [stage.gateway_on("one", &state), stage.gateway_on("two", &state)];
    gates[0].put("/v1/policies/ask", ASKING);
    gates[0].put("/v1/servers/repos", &stage.child("state:ask"));
    let grant = gates[0].put("/v1/grants/bot", r#"{"principal": "agent:bot", "servers": ["repos"]}"#);
    let token = grant["token"].as_str().unwrap();
    until(SOON, || (initialize(&gates[1].client("repos", token)) == 200).then_some(())).expect("both know it");
    let clients = [0, 1].map(|at: usize| gates[at].client("repos", token).shake_hands());
    let delete = |client: &Client, id: &str| client.call(id, "delete_repo", json!({"repo": "a"}));
    assert!(is_denied(&delete(&clients[0], "2")));
    let waiting = gates[1].get("/v1/approvals")["items"][0]["id"].as_str().unwrap().to_owned();
    let approve = format!("/v1/approvals/{waiting}/approve");
    let half = gates[0].ask_as(ALICE, "POST", &approve, &[], "");
    assert_eq!((half.status, json_of(&half)["still_needs"].as_i64()), (200, Some(1)));
    assert_eq!(gates[1].ask_as(ALICE, "POST", &approve, &[], "").status, 409, "once is once, wherever");
    assert!(is_denied(&delete(&clients[1], "3")));
    assert_eq!(json_of(&gates[1].ask_as(BOB, "POST", &approve, &[], ""))["state"], "approved");
    // Sixteen at once, half of them at each gateway.
    let granted: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..16)
            .map(|n| {
                let client = clients[n % 2].clone();
                scope.spawn(move || usize::from(!is_denied(&delete(&client, &format!("{}", n + 10)))))
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(granted, 1);
    assert_eq!(tools_run(&stage.scratch.log()).iter().filter(|tool| *tool == "delete_repo").count(), 1);
}
