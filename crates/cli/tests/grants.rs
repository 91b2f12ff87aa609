//! `serve -c`: many servers, many callers, and what each may use.

mod support;

use serde_json::{Value, json};
use std::path::PathBuf;
use support::http::{Client, Reply, open, response};
use support::{HttpUpstream, LEGACY, MODERN, PATIENCE, Scratch, Served, audit, call, entries_of, lenient, names, until};

const OPEN: &str = "version: \"1\"\ndefault: allow\n";
const TOKENS: [(&str, &str); 3] =
    [("ADA", "token-of-ada-0123456789"), ("CI", "token-of-ci-0123456789"), ("ROOT", "token-of-root-0123")];

struct Stage {
    scratch: Scratch,
    _upstream: Option<HttpUpstream>,
    upstream: String,
}

impl Stage {
    /// A child and an HTTP server, which share one log.
    fn new() -> Stage {
        let scratch = Scratch::new();
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        let url = upstream.url();
        scratch.write("open.yaml", OPEN);
        scratch.write("no-echo.yaml", "version: \"1\"\ndefault: allow\nhide: [echo]\n");
        scratch.write("little.yaml", "version: \"1\"\ndefault: deny\ntools:\n  read_file: {}\n  echo: {}\n");
        Stage { scratch, _upstream: Some(upstream), upstream: url }
    }

    fn servers(&self) -> String {
        let child = serde_json::to_string(&lenient(&self.scratch.log(), &["--stdio"])).expect("words are JSON");
        format!(
            "listen: 127.0.0.1:0\nstate: {}\nservers:\n  child: {{command: {child}, policy: open.yaml}}\n  \
             web: {{url: '{}', policy: no-echo.yaml}}\n  bare: {{url: '{}'}}\n",
            self.scratch.state(),
            self.upstream,
            self.upstream
        )
    }

    fn config(&self, grants: &str) -> PathBuf {
        self.scratch.write("callgate.yaml", format!("{}grants:\n{grants}", self.servers()))
    }

    fn serve(&self, grants: &str) -> Served {
        Served::configured(&self.config(grants), &TOKENS)
    }
}

const ADA: &str = "  - {name: ada, principal: 'person:ada', token: 'env:ADA', servers: [child, web, bare]}\n";
const CI: &str = "  - {name: ci, principal: 'service:ci', token: 'env:CI', servers: [web], policy: little.yaml}\n";

fn client(gate: &Served, server: &str, token: &str) -> Client {
    Client::silent(&gate.address, LEGACY).at(&format!("/mcp/{server}"), token)
}

fn initialize(client: &Client) -> Reply {
    client.ask(
        "1",
        "initialize",
        json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}),
    )
}

#[test]
fn what_one_caller_is_told_is_kept_for_no_other_and_not_for_long() {
    let scratch = Scratch::new();
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = support::root().join("tests/upstreams/paged.py").display().to_string();
    let log = scratch.log().display().to_string();
    let command = |name: &str| vec![python.clone(), script.clone(), log.clone(), name.to_owned()];
    let upstream = HttpUpstream::start_command([command("web"), vec!["--http".to_owned()]].concat());
    scratch.write("open.yaml", OPEN);
    scratch
        .write("little.yaml", "version: \"1\"\ndefault: allow\nhide: [two]\nresults: {redact: [{matches: '[a-z]+@[a-z.]+'}]}\n");
    let config = json!({
        "listen": "127.0.0.1:0", "state": scratch.state(),
        "servers": {
            "child": {"command": command("child"), "policy": "open.yaml", "pin": "off"},
            "web": {"url": upstream.url(), "policy": "open.yaml", "pin": "off"},
        },
        "grants": [
            {"name": "ada", "principal": "person:ada", "token": "env:ADA", "servers": ["child", "web"]},
            {"name": "ci", "principal": "service:ci", "token": "env:CI", "servers": ["child", "web"], "policy": "little.yaml"},
        ],
    });
    let gate = Served::configured(&scratch.write("callgate.yaml", config.to_string()), &TOKENS);
    for (path, (grant, token)) in
        ["/mcp/child", "/mcp/web", "/mcp"].into_iter().flat_map(|path| [(path, TOKENS[0]), (path, TOKENS[1])])
    {
        let client = Client::silent(&gate.address, MODERN).at(path, token);
        let check = |method: &str, params: Value| {
            let reply = client.ask("1", method, params).reply("1");
            let result = &reply["result"];
            assert_eq!(result["cacheScope"], "private", "{grant} {path} {method}: {reply}");
            let ttl = result["ttlMs"].as_u64().unwrap_or_else(|| panic!("{grant} {path} {method}: {reply}"));
            assert!(ttl <= 60_000, "{grant} {path} {method}: {reply}");
            reply
        };
        check("server/discover", json!({}));
        for method in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
            let mut page = check(method, json!({}));
            let mut pages = 1;
            while let Some(cursor) = page["result"].get("nextCursor").cloned() {
                page = check(method, json!({"cursor": cursor}));
                pages += 1;
            }
            assert!(pages >= 2, "{grant} {path} {method}");
        }
        let uri = if path == "/mcp/child" { "child:///one" } else { "web:///one" };
        let read = check("resources/read", json!({"uri": uri}));
        assert_eq!(read.to_string().contains("ada@example.com"), grant == "ADA", "{grant} {path}: {read}");
    }
}

#[test]
fn who_is_not_known_is_told_where_to_ask() {
    let stage = Stage::new();
    let gate = stage.serve(&format!("{ADA}{CI}"));
    for (server, token, status) in [
        ("web", "nobody's", 401),
        ("web", "", 401),
        ("web", TOKENS[1].1, 200),
        ("child", TOKENS[1].1, 403),
        ("nowhere", TOKENS[1].1, 404),
        ("child", TOKENS[0].1, 200),
    ] {
        let reply = initialize(&client(&gate, server, token));
        assert_eq!(reply.status, status, "{server} {token}");
        let challenge = reply.header("www-authenticate");
        assert_eq!(challenge.is_some(), status == 401);
        if let Some(challenge) = challenge {
            let place =
                format!("resource_metadata=\"http://{}/.well-known/oauth-protected-resource/mcp/{server}\"", gate.address);
            assert!(challenge.starts_with("Bearer ") && challenge.contains(&place), "{challenge}");
        }
    }
    let nobody = Client { token: None, ..client(&gate, "web", "") };
    assert_eq!(initialize(&nobody).status, 401);
    // Strangers leave nothing on record.
    assert!(audit(&stage.scratch.state()).iter().all(|record| record["grant"] != Value::Null));
}

#[test]
fn a_session_is_unknown_to_another_grant() {
    let stage = Stage::new();
    let gate = stage.serve(&format!("{ADA}{}", CI.replace("[web]", "[web, child]")));
    for server in ["child", "web"] {
        let ada = client(&gate, server, TOKENS[0].1).shake_hands();
        let thief = Client { token: Some(TOKENS[1].1.to_owned()), ..ada.clone() };
        assert_eq!(thief.ask("2", "tools/list", json!({})).status, 404, "{server}");
        assert_eq!(ada.ask("2", "tools/list", json!({})).status, 200, "{server}");
    }
}

#[test]
fn both_policies_must_allow_and_lists_show_what_is_callable() {
    let stage = Stage::new();
    let gate = stage.serve(&format!("{ADA}{CI}"));
    for revision in [LEGACY, MODERN] {
        let at = |server: &str, token: &str| {
            Client::silent(&gate.address, revision).at(&format!("/mcp/{server}"), token).shake_hands()
        };
        let ci = at("web", TOKENS[1].1);
        assert_eq!(names(&ci.ask("2", "tools/list", json!({})).reply("2")), ["read_file"], "{revision}");
        assert!(support::is_denied(&ci.call("3", "echo", json!({}))), "the server's policy hides it");
        assert!(support::is_denied(&ci.call("4", "write_file", json!({}))), "the grant's policy does not list it");
        assert!(!support::is_denied(&ci.call("5", "read_file", json!({}))));
        // Without any policy nothing is allowed.
        let bare = at("bare", TOKENS[0].1);
        assert!(names(&bare.ask("2", "tools/list", json!({})).reply("2")).is_empty(), "{revision}");
        assert!(support::is_denied(&bare.call("3", "echo", json!({}))));
    }
    let of_ci: Vec<Value> = audit(&stage.scratch.state()).into_iter().filter(|record| record["tool"] == "read_file").collect();
    assert!(
        of_ci.iter().all(|record| record["grant"] == "ci" && record["principal"] == "service:ci" && record["server"] == "web")
    );
    let revisions: Vec<&Value> = of_ci.iter().map(|record| &record["policy"]).collect();
    assert!(revisions.iter().all(|revision| revision.as_str().is_some_and(|revision| revision.len() == 16)), "{revisions:?}");
}

#[test]
fn what_a_grant_may_use_is_bounded() {
    let stage = Stage::new();
    let bounded = ADA.replace("servers:", "tools: ['read_*', echo], limits: [2/day], servers:");
    let gate = stage.serve(&bounded);
    let ada = client(&gate, "child", TOKENS[0].1).shake_hands();
    assert_eq!(names(&ada.ask("2", "tools/list", json!({})).reply("2")), ["read_file", "echo"]);
    let outcomes: Vec<bool> = (0..3).map(|n| support::is_denied(&ada.call(&format!("\"{n}\""), "echo", json!({})))).collect();
    assert_eq!(outcomes, [false, false, true]);
}

/// Waits until a client of `server` is answered with `status`.
#[track_caller]
fn answered(gate: &Served, server: &str, token: &str, status: u16) {
    let asked = || (initialize(&client(gate, server, token)).status == status).then_some(());
    until(PATIENCE, asked).unwrap_or_else(|| panic!("never {status}: {}", gate.stderr.lock().expect("no reader panics")));
}

#[test]
fn a_change_of_the_file_is_taken_up_and_a_bad_one_is_not() {
    let stage = Stage::new();
    let gate = stage.serve(ADA);
    let ada = client(&gate, "child", TOKENS[0].1).shake_hands();
    let pid = entries_of(&stage.scratch.log(), "start").len();
    assert_eq!(initialize(&client(&gate, "web", TOKENS[1].1)).status, 401);
    stage.config(&format!("{ADA}{CI}"));
    answered(&gate, "web", TOKENS[1].1, 200);
    // A server that is called as before keeps its children and sessions.
    assert_eq!(ada.ask("2", "tools/list", json!({})).status, 200);
    assert_eq!(entries_of(&stage.scratch.log(), "start").len(), pid);

    stage.config("  - {name: ada, token: hunter2}\n");
    let said = || gate.stderr.lock().unwrap().contains("the configuration has mistakes").then_some(());
    until(PATIENCE, said).expect("a bad file is reported");
    assert!(!gate.stderr.lock().unwrap().contains("hunter2"));
    assert_eq!(initialize(&client(&gate, "web", TOKENS[1].1)).status, 200);

    // A policy is part of the whole; SIGHUP does not wait for the next look.
    stage.config(&format!("{ADA}{CI}"));
    stage.scratch.write("open.yaml", "version: \"1\"\ndefault: allow\nhide: [slow]\n");
    gate.signal(rustix::process::Signal::HUP);
    let hidden = || (!names(&ada.ask("3", "tools/list", json!({})).reply("3")).contains(&"slow".to_owned())).then_some(());
    until(PATIENCE, hidden).expect("the policy is taken up");
}

#[test]
fn a_grant_that_is_taken_away_ends_what_is_under_way() {
    for (server, revision) in [("child", LEGACY), ("web", LEGACY), ("child", MODERN), ("web", MODERN)] {
        let stage = Stage::new();
        let gate = stage.serve(&format!("{ADA}{CI}"));
        let ada = Client::silent(&gate.address, revision).at(&format!("/mcp/{server}"), TOKENS[0].1).shake_hands();
        let headers = ada.headers("tools/call", Some("slow"));
        let text = support::call(revision, "7", "slow", json!({"seconds": 60}));
        let mut under_way = open(&ada.address, &ada.post(&headers, text.as_bytes()));
        until(PATIENCE, || (!entries_of(&stage.scratch.log(), "ran").is_empty()).then_some(())).expect("the call arrives");
        stage.config(CI);
        let reply = response(&mut under_way).unwrap_or_else(|| panic!("{server} {revision}: an answer"));
        let body = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(body.contains("the grant was revoked or has expired"), "{server} {revision}: {body}");
        let told = || {
            let log = stage.scratch.log();
            (!entries_of(&log, "cancelled").is_empty() || !entries_of(&log, "closed").is_empty()).then_some(())
        };
        until(PATIENCE, told).unwrap_or_else(|| panic!("{server} {revision}: the server is told"));
        assert_eq!(ada.ask("8", "tools/list", json!({})).status, 401, "{server} {revision}");
        let recorded =
            || audit(&stage.scratch.state()).into_iter().find(|record| record["phase"] == "finished" && record["tool"] == "slow");
        let record = until(PATIENCE, recorded).expect("the end is on record");
        assert_eq!(record["reply"], "lost", "{record}");
    }
}

#[test]
fn a_grant_that_expires_ends_by_itself() {
    let stage = Stage::new();
    let gate = stage.serve(&ADA.replace("servers:", "expires: '2100-01-01', servers:"));
    assert_eq!(initialize(&client(&gate, "web", TOKENS[0].1)).status, 200);
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
    stage.config(&ADA.replace("servers:", &format!("expires: '{soon}', servers:")));
    answered(&gate, "web", TOKENS[0].1, 401);
}

#[test]
fn a_configuration_is_checked_as_policies_are() {
    let stage = Stage::new();
    let good = stage.config(&ADA.replace("env:ADA", "sha256:0000000000000000000000000000000000000000000000000000000000000000"));
    assert_eq!(support::run(&["check", good.to_str().unwrap()], "").code, 0);
    let bad = stage.config("  - {name: ada, principal: p, token: hunter2, servers: [child]}\n");
    for command in [
        vec!["check", bad.to_str().unwrap()],
        vec!["check", "--json", bad.to_str().unwrap()],
        vec!["serve", "-c", bad.to_str().unwrap()],
    ] {
        let ran = support::run(&command, "");
        assert_eq!(ran.code, 3, "{}{}", ran.stdout, ran.stderr);
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("hunter2"));
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains("C003"));
    }
}

/// Runs a command on the grants of `config`, which must succeed; gives what it prints.
#[track_caller]
fn grants(config: &std::path::Path, arguments: &[&str]) -> String {
    let mut command = support::callgate();
    let output = command.arg("grants").args(arguments).arg("-c").arg(config).envs(TOKENS).output().expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_grant_is_made_rotated_and_revoked_while_the_gateway_runs() {
    let stage = Stage::new();
    let gate = stage.serve(ADA);
    let config = stage.scratch.path("callgate.yaml");
    let token = grants(
        &config,
        &["create", "bot", "--principal", "agent:bot", "--server", "web", "--tool", "echo,read_file", "--label", "team=a"],
    );
    assert!(token.starts_with("callgate_") && token.len() == "callgate_".len() + 43, "{token}");
    answered(&gate, "web", &token, 200);
    assert_eq!(initialize(&client(&gate, "child", &token)).status, 403);
    let bot = client(&gate, "web", &token).shake_hands();
    // What the grant names and the server's policy does not hide.
    assert_eq!(names(&bot.ask("2", "tools/list", json!({})).reply("2")), ["read_file"]);

    let again = grants(&config, &["rotate", "bot", "--overlap", "1h"]);
    answered(&gate, "web", &again, 200);
    assert_eq!(initialize(&client(&gate, "web", &token)).status, 200, "for an hour");
    let last = grants(&config, &["rotate", "bot"]);
    answered(&gate, "web", &last, 200);
    for old in [&token, &again] {
        assert_eq!(initialize(&client(&gate, "web", old)).status, 401);
    }

    grants(&config, &["revoke", "bot", "ada"]);
    answered(&gate, "web", &last, 401);
    answered(&gate, "child", TOKENS[0].1, 401);
    let listed = grants(&config, &["list", "--json"]);
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown: Vec<_> = listed.iter().map(|grant| [&grant["name"], &grant["source"], &grant["state"]]).collect();
    assert_eq!(shown, [["ada", "file", "revoked"], ["bot", "store", "revoked"]]);
    assert_eq!((&listed[1]["principal"], &listed[1]["labels"]["team"]), (&json!("agent:bot"), &json!("a")));

    // Shown once, and kept nowhere.
    let found = std::fs::read_dir(stage.scratch.path(".")).unwrap().filter_map(Result::ok).any(|file| {
        let content = std::fs::read(file.path()).unwrap_or_default();
        [&token, &again, &last].iter().any(|token| content.windows(token.len()).any(|part| part == token.as_bytes()))
    });
    assert!(!found);
    let of_people: Vec<Value> = audit(&stage.scratch.state()).into_iter().filter(|record| record["phase"] == "admin").collect();
    let methods: Vec<_> = of_people.iter().map(|record| record["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["grants/create", "grants/rotate", "grants/rotate", "grants/revoke", "grants/revoke"]);
    support::assert_verified(&stage.scratch.state());
}

#[test]
fn a_revocation_from_elsewhere_ends_a_call_under_way() {
    let stage = Stage::new();
    let gate = stage.serve(ADA);
    let ada = client(&gate, "child", TOKENS[0].1).shake_hands();
    let text = support::call(LEGACY, "7", "slow", json!({"seconds": 60}));
    let mut under_way = open(&ada.address, &ada.post(&ada.headers("tools/call", Some("slow")), text.as_bytes()));
    until(PATIENCE, || (!entries_of(&stage.scratch.log(), "ran").is_empty()).then_some(())).expect("the call arrives");
    grants(&stage.scratch.path("callgate.yaml"), &["revoke", "ada"]);
    let reply = response(&mut under_way).expect("an answer");
    assert!(String::from_utf8_lossy(&reply.body).contains("the grant was revoked or has expired"));
    assert_eq!(ada.ask("8", "tools/list", json!({})).status, 401);
}

#[test]
fn a_grant_of_the_command_line_ends_at_its_time_with_what_is_under_way() {
    let stage = Stage::new();
    let gate = stage.serve(ADA);
    let config = stage.scratch.path("callgate.yaml");
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(30);
    let of_bot = ["create", "bot", "--principal", "agent:bot", "--server", "child", "--expires"];
    let token = grants(&config, &[&of_bot[..], &[&soon.to_string()]].concat());
    answered(&gate, "child", &token, 200);
    let bot = client(&gate, "child", &token).shake_hands();
    let text = support::call(LEGACY, "7", "slow", json!({"seconds": 60}));
    let mut under_way = open(&bot.address, &bot.post(&bot.headers("tools/call", Some("slow")), text.as_bytes()));
    under_way.set_read_timeout(Some(4 * PATIENCE)).expect("a timeout is settable");
    let reply = response(&mut under_way).expect("an answer");
    assert!(String::from_utf8_lossy(&reply.body).contains("the grant was revoked or has expired"), "{reply:?}");
    assert!(jiff::Timestamp::now() >= soon, "not before its time");
    assert_eq!(bot.ask("8", "tools/list", json!({})).status, 401);
    let listed = grants(&config, &["list", "--json"]);
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let bot = listed.iter().find(|grant| grant["name"] == "bot").expect("it is listed");
    assert_eq!((&bot["state"], bot["expires"].as_str().map(|at| at.len() > 10)), (&json!("expired"), Some(true)), "{bot}");
}

#[test]
fn another_token_ends_what_the_old_one_has_begun_unless_they_overlap() {
    let stage = Stage::new();
    let gate = stage.serve(ADA);
    let config = stage.scratch.path("callgate.yaml");
    let token = grants(&config, &["create", "bot", "--principal", "agent:bot", "--server", "child"]);
    answered(&gate, "child", &token, 200);
    let bot = client(&gate, "child", &token).shake_hands();
    let text = support::call(LEGACY, "7", "slow", json!({"seconds": 60}));
    let mut under_way = open(&bot.address, &bot.post(&bot.headers("tools/call", Some("slow")), text.as_bytes()));
    until(PATIENCE, || (!entries_of(&stage.scratch.log(), "ran").is_empty()).then_some(())).expect("the call arrives");
    let second = grants(&config, &["rotate", "bot", "--overlap", "1h"]);
    answered(&gate, "child", &second, 200);
    assert_eq!(bot.ask("8", "tools/list", json!({})).status, 200, "both are good");
    let third = grants(&config, &["rotate", "bot"]);
    let reply = response(&mut under_way).expect("an answer");
    assert!(String::from_utf8_lossy(&reply.body).contains("the grant was revoked or has expired"), "{reply:?}");
    answered(&gate, "child", &third, 200);
    let again = client(&gate, "child", &third).shake_hands();
    assert_eq!(again.ask("2", "tools/list", json!({})).status, 200, "what begins anew goes on");
}

/// The names and values of headers in all that has reached the server over HTTP, names in lower case.
fn headers_heard(stage: &Stage) -> Vec<(String, String)> {
    let raw = entries_of(&stage.scratch.log(), "raw").into_iter().filter(|entry| entry["via"] == "http");
    let headers = raw.flat_map(|entry| entry["headers"].as_array().cloned().unwrap_or_default());
    headers
        .map(|header| {
            let text = |at: usize| header[at].as_str().expect("a text").to_owned();
            (text(0).to_lowercase(), text(1))
        })
        .collect()
}

/// A server with these options, called at this path as this tool in this revision; `more` of how it is configured.
#[track_caller]
fn travels(options: &[&str], more: &str, path: &str, tool: &str, revision: &str) {
    let what = format!("{revision} {path} {options:?} {more}");
    let mut stage = Stage::new();
    let upstream = HttpUpstream::start(&stage.scratch.log(), options);
    (stage.upstream, stage._upstream) = (upstream.url(), Some(upstream));
    let said = format!("headers: {{X-Static: ours, X-Key: 'env:ROOT'}}, request_headers: [x-passed]{more}, policy: no-echo.yaml");
    let servers = stage.servers().replace("policy: no-echo.yaml", &said);
    let config = stage.scratch.write("callgate.yaml", format!("{servers}grants:\n{ADA}"));
    let gate = Served::configured(&config, &TOKENS);
    let ada = Client::silent(&gate.address, revision).at(path, TOKENS[0].1).shake_hands();
    let mut headers = ada.headers("tools/call", Some(tool));
    for name in ["X-Passed", "X-Other", "X-Static", "Cookie", "Proxy-Authorization", "Forwarded", "X-Forwarded-For"] {
        headers.push((name.to_owned(), "the client's".to_owned()));
    }
    let text = call(revision, "7", tool, json!({"path": "/x"}));
    let reply = ada.send(&headers, text.as_bytes()).expect("an answer").reply("7");
    assert!(!support::is_denied(&reply) && reply["result"].is_object(), "{what}: {reply}");
    let heard = headers_heard(&stage);
    let values = |name: &str| heard.iter().filter(|(of, _)| of == name).map(|(_, value)| value.as_str()).collect::<Vec<_>>();
    for (name, value) in [("x-static", "ours"), ("x-key", TOKENS[2].1), ("x-passed", "the client's")] {
        let values = values(name);
        assert!(!values.is_empty() && values.iter().all(|of| *of == value), "{what} {name}: {values:?}");
    }
    for name in ["x-other", "cookie", "authorization", "proxy-authorization", "forwarded", "x-forwarded-for"] {
        assert!(values(name).is_empty(), "{what}: {name}");
    }
    assert!(heard.iter().all(|(_, value)| !value.contains(TOKENS[0].1)), "{what}: the grant's own token");
}

#[test]
fn what_is_configured_travels_to_a_server_and_nothing_else() {
    for revision in [LEGACY, MODERN] {
        travels(&[], "", "/mcp/web", "read_file", revision);
        travels(&[], "", "/mcp", "web__read_file", revision);
    }
    // Where the server speaks another transport or another era, and where a line is shared.
    travels(&["--old"], "", "/mcp/web", "read_file", LEGACY);
    travels(&["--old"], "", "/mcp/web", "read_file", MODERN);
    travels(&[], ", isolation: shared", "/mcp/web", "read_file", LEGACY);
}

#[test]
fn credentials_of_clients_cannot_be_configured_to_travel_on() {
    let stage = Stage::new();
    for name in
        ["Cookie", "authorization", "Proxy-Authorization", "Host", "Mcp-Session-Id", "mcp-param-x", "Last-Event-ID", "a b"]
    {
        let said = format!("request_headers: ['{name}'], policy: no-echo.yaml");
        let servers = stage.servers().replace("policy: no-echo.yaml", &said);
        let config = stage.scratch.write("callgate.yaml", format!("{servers}grants:\n{ADA}"));
        let mut command = support::callgate();
        let ran = command.arg("check").arg(&config).envs(TOKENS).output().expect("the binary runs");
        assert_eq!(ran.status.code(), Some(3), "{name}: {}", String::from_utf8_lossy(&ran.stdout));
    }
}

#[test]
fn one_name_is_one_grant() {
    let stage = Stage::new();
    let config = stage.config(CI);
    grants(&config, &["create", "ada"]);
    let both = stage.config(&format!("{ADA}{CI}"));
    let mut command = support::callgate();
    let ran = command.args(["serve", "-c"]).arg(&both).envs(TOKENS).output().unwrap();
    assert_eq!(ran.status.code(), Some(3), "{}", String::from_utf8_lossy(&ran.stderr));
    let ran = support::callgate().args(["grants", "create", "ci", "-c"]).arg(&config).envs(TOKENS).output().unwrap();
    assert_eq!(ran.status.code(), Some(1), "the configuration has it");
}

#[test]
fn the_example_starts() {
    let example = support::root().join("examples/gateway/callgate.yaml");
    let variables = [("GITHUB_AUTHORIZATION", "Bearer x"), ("FILES_KEY", "x"), ("CALLGATE_TOKEN_CI", "a-token-of-the-example")];
    let ran = support::callgate().arg("check").arg(&example).envs(variables).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout).matches("valid").count(), 1, "{}", String::from_utf8_lossy(&ran.stdout));
    let gate = Served::configured(&example, &variables);
    assert_eq!(initialize(&client(&gate, "nowhere", "a-token-of-the-example")).status, 404);
    assert_eq!(initialize(&client(&gate, "files", "a-token-of-the-example")).status, 403);
}

#[test]
fn the_sessions_of_a_principal_share_a_child_and_others_do_not() {
    let stage = Stage::new();
    let servers = stage.servers().replace("policy: open.yaml}", "policy: open.yaml, isolation: principal, pin: 'off'}");
    let grants = "  - {name: ada, principal: 'person:ada', token: 'env:ADA', servers: [child]}\n  \
                  - {name: ci, principal: 'person:ada', token: 'env:CI', servers: [child]}\n  \
                  - {name: root, principal: 'person:root', token: 'env:ROOT', servers: [child]}\n";
    let config = stage.scratch.write("callgate.yaml", format!("{servers}grants:\n{grants}"));
    let gate = Served::configured(&config, &TOKENS);
    let open_session = |grant: usize| client(&gate, "child", TOKENS[grant].1).shake_hands();
    // The server over HTTP has started too.
    let starts = || entries_of(&stage.scratch.log(), "start").len() - 1;
    // Three sessions of one principal, with two grants.
    let of_ada = [open_session(0), open_session(0), open_session(1)];
    let before = starts();
    let of_root = open_session(2);
    let echo = |client: &Client, text: &str| {
        let reply = client.call("7", "echo", json!({"message": text}));
        assert!(support::text_of(&reply).contains(text), "{text}: {reply}");
    };
    // Everybody's request has the same id; each gets its own answer.
    std::thread::scope(|scope| {
        for (client, text) in of_ada.iter().chain([&of_root]).zip(["one", "two", "three", "four"]) {
            scope.spawn(move || (0..10).for_each(|turn| echo(client, &format!("{text} {turn}"))));
        }
    });
    assert_eq!((before, starts()), (1, 2), "a child for each principal");
    // What goes on for one principal ends with its grant, and leaves the others' alone.
    let text = call(LEGACY, "8", "slow", json!({"seconds": 60}));
    let mut under_way =
        open(&of_ada[0].address, &of_ada[0].post(&of_ada[0].headers("tools/call", Some("slow")), text.as_bytes()));
    until(PATIENCE, || support::tools_run(&stage.scratch.log()).contains(&"slow".to_owned()).then_some(())).expect("it arrives");
    stage.scratch.write("callgate.yaml", format!("{servers}grants:\n{}", grants.replace("{name: ada", "{name: other")));
    let reply = response(&mut under_way).expect("an answer");
    assert!(String::from_utf8_lossy(&reply.body).contains("the grant was revoked or has expired"));
    echo(&of_ada[2], "still there");
    echo(&of_root, "still there");
    assert_eq!(starts(), 2);
}

#[test]
fn all_grants_of_the_stateless_era_share_a_child_that_is_shared() {
    let scratch = Scratch::new();
    scratch.write("open.yaml", OPEN);
    let child = serde_json::to_string(&lenient(&scratch.log(), &["--stdio", "--quiet"])).expect("words are JSON");
    let grant = |name: &str| {
        let variable = name.to_uppercase();
        format!("  - {{name: {name}, principal: 'person:{name}', token: 'env:{variable}', servers: [child]}}\n")
    };
    let config = format!(
        "listen: 127.0.0.1:0\nstate: {}\nservers:\n  child: {{command: {child}, policy: open.yaml, isolation: shared, pin: 'off'}}\n\
         grants:\n{}{}",
        scratch.state(),
        grant("ada"),
        grant("ci")
    );
    let gate = Served::configured(&scratch.write("callgate.yaml", config), &TOKENS);
    let clients = [0, 1].map(|grant| Client::silent(&gate.address, MODERN).at("/mcp/child", TOKENS[grant].1));
    // Both use the same ids and tokens at the same time; each gets what is its own.
    std::thread::scope(|scope| {
        for (number, client) in clients.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..20 {
                    let arguments = json!({"client": number, "round": round});
                    let params = json!({"name": "progress", "arguments": arguments, "_meta": {"progressToken": "same"}});
                    let reply = client.ask("1", "tools/call", params);
                    let steps: Vec<_> =
                        reply.messages().into_iter().filter(|m| m["method"] == "notifications/progress").collect();
                    assert_eq!(steps.len(), 3, "{reply:?}");
                    assert!(steps.iter().all(|step| step["params"]["progressToken"] == "same"), "{steps:?}");
                    let text: Value = serde_json::from_str(support::text_of(&reply.reply("1"))).expect("JSON");
                    assert_eq!(text, arguments);
                }
            });
        }
    });
    // What belongs to a subscription comes under the id that its own client has given it.
    for client in &clients {
        let text = support::request(MODERN, "\"ear\"", "subscriptions/listen", json!({"notifications": {}}));
        let stream = open(&client.address, &client.post(&client.headers("subscriptions/listen", None), text.as_bytes()));
        let lines = std::io::BufRead::lines(std::io::BufReader::new(stream));
        let told = lines.map_while(Result::ok).find(|line| line.contains("subscriptions/acknowledged")).expect("it is told");
        assert!(told.contains(r#""io.modelcontextprotocol/subscriptionId":"ear""#), "{told}");
    }
    // Whoever goes cancels what is its own, and nothing else.
    let slow = |client: &Client, seconds: u64| {
        let text = support::call(MODERN, "7", "slow", json!({"seconds": seconds}));
        open(&client.address, &client.post(&client.headers("tools/call", Some("slow")), text.as_bytes()))
    };
    let (left, mut stays) = (slow(&clients[0], 60), slow(&clients[1], 2));
    let ran = || support::tools_run(&scratch.log()).iter().filter(|tool| *tool == "slow").count();
    until(PATIENCE, || (ran() == 2).then_some(())).expect("both arrive");
    drop(left);
    // The two that listened have gone, too.
    let cancelled = || entries_of(&scratch.log(), "cancelled").iter().map(|entry| entry["id"].to_string()).collect::<Vec<_>>();
    let told = until(PATIENCE, || Some(cancelled()).filter(|told| told.len() == 3)).expect("the server is told");
    assert_eq!(told.iter().collect::<std::collections::HashSet<_>>().len(), 3, "each of its own: {told:?}");
    let reply = response(&mut stays).expect("an answer");
    assert_eq!(support::text_of(&reply.reply("7")), r#"{"seconds":2}"#);
    assert_eq!(entries_of(&scratch.log(), "start").len(), 1, "one child for all");
}

#[test]
fn a_thousand_grants_before_fifty_servers_start_at_once_and_stay_small() {
    let scratch = Scratch::new();
    let mut servers = serde_json::Map::new();
    let upstream = many_servers();
    for server in 0..50 {
        let tools: Vec<String> = (0..60).map(|tool| format!("  tool_{server}_{tool}: {{rate_limit: 100/hour}}\n")).collect();
        let policy = format!("version: \"1\"\ndefault: deny\ntools:\n{}", tools.concat());
        scratch.write(&format!("policy-{server}.yaml"), policy);
        let url = format!("{upstream}/{server}");
        servers.insert(format!("server-{server}"), json!({"url": url, "policy": format!("policy-{server}.yaml")}));
    }
    let names: Vec<&String> = servers.keys().collect();
    let grant = |number: usize| {
        let token = if number == 0 { "env:ADA".to_owned() } else { format!("sha256:{number:064x}") };
        json!({"name": format!("g{number}"), "principal": format!("p{}", number / 2), "token": token, "servers": names,
            "tools": ["tool_*"], "limits": ["1000/hour"]})
    };
    let grants: Vec<Value> = (0..1_000).map(grant).collect();
    let config = json!({"listen": "127.0.0.1:0", "state": scratch.state(), "servers": servers, "grants": grants});
    let config = scratch.write("callgate.yaml", config.to_string());
    let begun = std::time::Instant::now();
    let gate = Served::configured(&config, &TOKENS);
    let started = begun.elapsed();
    let (at_start, worked) = (resident_kilobytes(&gate), processor_seconds(&gate));
    // All of them are seen by whoever may use them all. A list waits for no server for longer than eight seconds: a machine that
    // does much else may need several.
    let begun = std::time::Instant::now();
    let client = Client::silent(&gate.address, LEGACY).at("/mcp", TOKENS[0].1);
    let info = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let session = ask_patiently(&client, "initialize", info).header("mcp-session-id").map(str::to_owned);
    let client = Client { session, ..client };
    let seen = until(8 * PATIENCE, || {
        let seen = all_names(&client);
        (seen.len() == 3_000).then_some(seen)
    });
    assert!(seen.expect("all tools are listed").contains("server-49__tool_49_59"));
    let listed = begun.elapsed();
    let kilobytes = resident_kilobytes(&gate);
    println!(
        "1,000 grants, 50 servers, 3,000 tools: {started:?}, {worked} s of them work, {at_start} kB; after all were listed, which took {listed:?}, {kilobytes} kB"
    );
    assert!(kilobytes < 150_000, "{kilobytes}");
    // Two seconds where the build is optimised and the machine has time; what others take of it is not counted.
    assert!(worked < 8.0, "{worked} s");
}

/// How long a gateway has worked, on all processors together.
fn processor_seconds(gate: &Served) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gate.child.id())).expect("it runs");
    // The 14th and 15th field, in hundredths of a second; the second is a name in parentheses (proc_pid_stat(5)).
    let fields = stat.rsplit(')').next().expect("what follows the name").split_whitespace().skip(11).take(2);
    fields.map(|field| field.parse::<f64>().expect("a number")).sum::<f64>() / 100.0
}

/// What a gateway holds besides its own code, of which a build that is not optimised has several times as much.
fn resident_kilobytes(gate: &Served) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.child.id())).expect("it runs");
    let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a process has memory").trim();
    resident.trim_end_matches("kB").trim().parse().expect("a number")
}

/// Asks, and waits for as long as a build that is not optimised may take over three thousand tools.
fn ask_patiently(client: &Client, method: &str, params: Value) -> Reply {
    let text = support::request(LEGACY, "2", method, params);
    let mut asked = open(&client.address, &client.post(&client.headers(method, None), text.as_bytes()));
    asked.set_read_timeout(Some(4 * PATIENCE)).expect("a timeout is settable");
    response(&mut asked).expect("an answer")
}

/// The names on all pages of a list.
fn all_names(client: &Client) -> std::collections::BTreeSet<String> {
    let (mut seen, mut params) = (std::collections::BTreeSet::new(), json!({}));
    loop {
        let page = ask_patiently(client, "tools/list", params).reply("2");
        seen.extend(names(&page));
        match &page["result"]["nextCursor"] {
            Value::Null => return seen,
            cursor => params = json!({"cursor": cursor}),
        }
    }
}

/// Many servers in one process: at `/N` one with sixty tools of its own, each with a schema as real ones have it.
fn many_servers() -> String {
    use std::io::{BufRead, BufReader, Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serve = |connection: std::net::TcpStream| -> std::io::Result<()> {
        let mut reader = BufReader::new(connection);
        loop {
            let (mut first, mut length) = (String::new(), 0);
            if reader.read_line(&mut first)? == 0 {
                return Ok(());
            }
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                match line.to_ascii_lowercase().split_once(':') {
                    Some(("content-length", value)) => length = value.trim().parse().expect("a length"),
                    Some(_) => {}
                    None => break,
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let server = first.split(['/', ' ']).nth(2).unwrap_or_default();
            let message: Value = serde_json::from_slice(&body).unwrap_or_default();
            let result = match message["method"].as_str().unwrap_or_default() {
                "initialize" => {
                    json!({"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": {"name": "many", "version": "1"}})
                }
                "tools/list" => json!({"tools": (0..60).map(|tool| described(server, tool)).collect::<Vec<_>>()}),
                _ => Value::Null,
            };
            let (status, answer) = match &message["id"] {
                _ if !first.starts_with("POST") => (405, String::new()),
                Value::Null => (202, String::new()),
                id if result.is_null() => {
                    (200, json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "unknown"}}).to_string())
                }
                id => (200, json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()),
            };
            let head =
                format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", answer.len());
            reader.get_mut().write_all((head + &answer).as_bytes())?;
        }
    };
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(connection));
        }
    });
    url
}

/// A tool of about a kilobyte.
fn described(server: &str, tool: usize) -> Value {
    let properties: serde_json::Map<String, Value> = (0..6)
        .map(|number| {
            let description = format!("What is looked for, part {number}, as a text or a pattern of the collection's own.");
            (format!("part_{number}"), json!({"type": "string", "description": description, "maxLength": 200}))
        })
        .collect();
    json!({"name": format!("tool_{server}_{tool}"), "title": format!("Look up {tool}"),
        "description": format!("Looks up records of collection {tool} at service {server}, and gives those that fit, the newest first."),
        "inputSchema": {"type": "object", "properties": properties, "required": ["part_0"], "additionalProperties": false}})
}
