//! `/mcp` before many servers: what is listed, where each request goes, and who is not harmed by whom.

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use support::events::Events;
use support::http::{Client, exchange, open};
use support::{LEGACY, MODERN, PATIENCE, Scratch, Served, audit, is_denied, names, root, text_of, until};

const TOKEN: &str = "a-token-of-the-tests-long-enough-to-be-one";

/// A gateway before some members.
struct Scene {
    gate: Served,
    scratch: Scratch,
}

impl Scene {
    /// Each member is a name and its options, between which `{}` stands for the scratch directory.
    fn of(members: &[(&str, &[&str])]) -> Scene {
        Scene::under("version: \"1\"\nhide: [end]\ndefault: allow\n", members)
    }

    fn under(policy: &str, members: &[(&str, &[&str])]) -> Scene {
        let scratch = Scratch::new();
        scratch.policy(policy);
        scratch.write("token", TOKEN);
        Scene::again(scratch, members)
    }

    fn again(scratch: Scratch, members: &[(&str, &[&str])]) -> Scene {
        Scene::with(scratch, members, &json!({}))
    }

    /// The same with more in what each server is configured by.
    fn with(scratch: Scratch, members: &[(&str, &[&str])], more: &Value) -> Scene {
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = root().join("tests/upstreams/member.py").display().to_string();
        let here = scratch.path("").display().to_string();
        let mut servers = serde_json::Map::new();
        for (name, options) in members {
            let mut command =
                vec![python.clone(), script.clone(), (*name).to_owned(), "--log".into(), format!("{here}{name}.log")];
            command.extend(options.iter().map(|option| option.replace("{}", &here)));
            let mut server = json!({"command": command, "policy": "policy.yaml"});
            server.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
            servers.insert((*name).to_owned(), server);
        }
        let named: Vec<_> = members.iter().map(|(name, _)| *name).collect();
        let config = json!({
            "listen": "127.0.0.1:0",
            "state": scratch.state(),
            "servers": servers,
            "grants": [{"name": "ada", "principal": "person:ada", "token": "file:token", "servers": named}],
        });
        let gate = Served::configured(&scratch.write("callgate.yaml", config.to_string()), &[]);
        Scene { gate, scratch }
    }

    fn client(&self, revision: &str) -> Client {
        Client::silent(&self.gate.address, revision).at("/mcp", TOKEN).shake_hands()
    }

    /// What has reached a member, as it came.
    fn heard(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.scratch.path(&format!("{name}.log"))).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("the log holds messages")).collect()
    }

    fn listens(&self, client: &Client) -> Listening {
        Listening::get(client)
    }
}

/// The stream on which a client is told what belongs to no answer.
struct Listening(Receiver<Value>);

impl Listening {
    fn get(client: &Client) -> Listening {
        let session = client.session.as_deref().expect("a session");
        let (address, token) = (&client.address, client.token.as_deref().unwrap_or_default());
        let head =
            format!("GET /mcp HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nMcp-Session-Id: {session}\r\n");
        Listening::follow(address, format!("{head}Accept: text/event-stream\r\n\r\n").as_bytes())
    }

    fn follow(address: &str, bytes: &[u8]) -> Listening {
        let stream = open(address, bytes);
        stream.set_read_timeout(None).expect("a timeout is settable");
        let (said, heard) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let message = line.strip_prefix("data: ").and_then(|data| serde_json::from_str(data).ok());
                if message.is_some_and(|message: Value| said.send(message).is_err()) {
                    return;
                }
            }
        });
        Listening(heard)
    }

    /// The next message of a method; others are passed over.
    #[track_caller]
    fn next(&self, method: &str) -> Value {
        let end = Instant::now() + PATIENCE * 2;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let message = self.0.recv_timeout(left).unwrap_or_else(|_| panic!("nobody said {method}"));
            if message["method"] == method {
                return message;
            }
        }
    }
}

fn listed(client: &Client) -> Vec<String> {
    names(&client.ask("1", "tools/list", json!({})).reply("1"))
}

/// All pages, and the cursors that lead to them.
fn listed_through(client: &Client) -> (Vec<String>, Vec<Value>) {
    let (mut all, mut cursors) = (Vec::new(), Vec::new());
    loop {
        let params = cursors.last().map_or(json!({}), |cursor| json!({"cursor": cursor}));
        let reply = client.ask("1", "tools/list", params).reply("1");
        all.extend(names(&reply));
        match reply["result"].get("nextCursor") {
            Some(next) => cursors.push(next.clone()),
            None => return (all, cursors),
        }
    }
}

#[test]
fn what_is_listed_leads_to_its_server() {
    let scene = Scene::of(&[("one", &[]), ("two", &[])]);
    for revision in [LEGACY, MODERN] {
        let client = scene.client(revision);
        let tools = listed(&client);
        let expected = ["echo", "ask", "progress", "sleep", "link", "later", "touch"];
        let expected: Vec<_> =
            ["one", "two"].iter().flat_map(|server| expected.map(|tool| format!("{server}__{tool}"))).collect();
        assert_eq!(tools, expected, "{revision}");
        for server in ["one", "two"] {
            let reply = client.call("2", &format!("{server}__echo"), json!({"n": 1.50}));
            assert_eq!(text_of(&reply), format!("{server} says {{\"n\": 1.5}}"), "{revision}: {reply}");
            let prompt = client.ask("3", "prompts/get", json!({"name": format!("{server}__hello")})).reply("3");
            assert_eq!(prompt["result"]["messages"][0]["content"]["text"], format!("{server} greets hello"));
            let prompts = client.ask("3", "prompts/list", json!({})).reply("3");
            assert_eq!(prompts["result"]["prompts"], json!([{"name": "one__hello"}, {"name": "two__hello"}]));
            for uri in [format!("{server}://1"), format!("{server}://item/7")] {
                let read = client.ask("4", "resources/read", json!({"uri": uri})).reply("4");
                assert_eq!(read["result"]["contents"][0]["text"], format!("{server} has {uri}"), "{read}");
            }
            let of = |reference: Value| json!({"ref": reference, "argument": {"name": "a", "value": ""}});
            let name = of(json!({"type": "ref/prompt", "name": format!("{server}__hello")}));
            let uri = of(json!({"type": "ref/resource", "uri": format!("{server}://item/{{id}}")}));
            for (params, own) in [(name, "hello".to_owned()), (uri, format!("{server}://item/{{id}}"))] {
                let text = support::request(revision, "5", "completion/complete", params);
                let reply = client.send(&client.headers("completion/complete", None), text.as_bytes()).unwrap().reply("5");
                assert_eq!(reply["result"]["completion"]["values"], json!([server, own]), "{reply}");
            }
        }
        // What is hidden, what no server has, and whatever is spelt otherwise.
        for name in ["one__end", "echo", "three__echo", "one_echo", "ONE__echo", "__echo", "one__"] {
            let reply = client.call("6", name, json!({}));
            assert!(is_denied(&reply) || reply["error"].is_object(), "{name}: {reply}");
        }
        let read = client.ask("7", "resources/read", json!({"uri": "three://1"})).reply("7");
        assert!(read["error"]["code"] == if revision == MODERN { -32602 } else { -32002 }, "{read}");
    }
    let tools: Vec<_> = scene
        .heard("one")
        .iter()
        .filter(|said| said["method"] == "tools/call")
        .map(|said| said["params"]["name"].clone())
        .collect();
    assert_eq!(tools, ["echo", "echo"], "only what was meant for it, under its own name");
    let records = audit(&scene.scratch.state());
    let of_one = records.iter().filter(|record| record["server"] == "one" && record["phase"] == "decided");
    assert!(of_one.clone().all(|record| record["grant"] == "ada"), "{records:?}");
    assert!(of_one.clone().any(|record| record["tool"] == "end" && record["reason"] == "hidden"), "{records:?}");
    assert!(records.iter().any(|record| record["server"] == "*" && record["tool"] == "three__echo"), "{records:?}");
}

#[test]
fn what_servers_say_of_themselves_is_said_together() {
    let scene = Scene::of(&[("one", &[]), ("two", &[])]);
    let client = Client::silent(&scene.gate.address, LEGACY).at("/mcp", TOKEN);
    let params = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let result = client.ask("1", "initialize", params).reply("1")["result"].clone();
    assert_eq!(result["instructions"], "# one\n\nAsk one.\n\n# two\n\nAsk two.");
    assert_eq!(result["serverInfo"]["name"], "callgate");
    assert_eq!(result["capabilities"]["tools"], json!({"listChanged": true}));
    assert_eq!(result["capabilities"]["resources"], json!({"listChanged": true, "subscribe": true}));
    let discovered = scene.client(MODERN).ask("1", "server/discover", json!({})).reply("1")["result"].clone();
    let versions = json!([MODERN, LEGACY, "2025-06-18", "2025-03-26", "2024-11-05"]);
    assert_eq!(discovered["supportedVersions"], versions, "all that is served here");
    assert_eq!(discovered["cacheScope"], "private");
}

#[test]
fn pages_lead_through_every_server_and_belong_to_their_holder() {
    let scene = Scene::of(&[("one", &["--pages"]), ("two", &[])]);
    let client = scene.client(LEGACY);
    let (all, cursors) = listed_through(&client);
    assert_eq!((cursors.len() + 1, all.len()), (8, 14), "{all:?}");
    let cursor = cursors.last().expect("there were pages");
    let other = scene.client(LEGACY);
    for (client, method) in [(&other, "tools/list"), (&client, "prompts/list")] {
        let reply = client.ask("1", method, json!({"cursor": cursor})).reply("1");
        assert_eq!(reply["error"]["code"], -32602, "{method}");
    }
}

#[test]
fn what_is_defined_twice_or_named_too_long_is_left_out_and_told_of() {
    for (options, pin) in
        [(vec!["--unruly"], "off"), (vec!["--unruly", "--pages"], "off"), (vec!["--unruly", "--pages"], "on-first-use")]
    {
        for revision in [LEGACY, MODERN] {
            let scratch = Scratch::new();
            scratch.policy("version: \"1\"\ndefault: allow\n");
            scratch.write("token", TOKEN);
            let scene = Scene::with(scratch, &[("one", &options), ("two", &[])], &json!({"pin": pin}));
            let client = scene.client(revision);
            let (first, _) = listed_through(&client);
            let what = format!("{revision} {options:?} {pin}: {first:?}");
            let offered = first.iter().filter(|name| *name == "one__echo").count();
            // Where nobody has read the whole list before, the first page cannot know what the last one says.
            assert_eq!(offered, usize::from(options.len() == 2 && pin == "off"), "{what}");
            assert!(first.iter().all(|name| name.len() <= 128), "{what}");
            assert!(first.contains(&"one__touch".to_owned()) && first.contains(&"two__echo".to_owned()), "{what}");
            let (again, _) = listed_through(&client);
            assert!(!again.contains(&"one__echo".to_owned()), "{what}: {again:?}");
            let refused = client.call("2", "one__echo", json!({}));
            assert!(is_denied(&refused), "{what}: {refused}");
            let long = client.call("3", &format!("one__{}", "x".repeat(140)), json!({}));
            assert!(is_denied(&long), "{what}: {long}");
            assert_eq!(text_of(&client.call("4", "two__echo", json!({}))), "two says {}");
            assert!(scene.heard("one").iter().all(|said| said["method"] != "tools/call"), "{what}");
            let told = scene.gate.stderr.lock().unwrap().clone();
            for why in ["another definition of the same name", "longer than 128 characters"] {
                // At most once for each of the two definitions.
                assert!((1..=2).contains(&told.matches(why).count()), "{what}: {why}: {told}");
            }
            let records = audit(&scene.scratch.state());
            let reason = |record: &&Value| record["tool"] == "echo" && record["reason"] == "definition-refused";
            assert!(records.iter().filter(reason).count() >= 2, "{what}: the definition, and the call: {records:?}");
        }
    }
}

#[test]
fn results_are_judged_under_the_names_of_their_servers() {
    let policy = "version: \"1\"\ndefault: allow\ntools:\n  echo:\n    results: {redact: [{matches: hunter2, name: password}], \
                  withhold: [{matches: internal, name: marked}]}\n";
    let scene = Scene::under(policy, &[("one", &[]), ("two", &[])]);
    for revision in [LEGACY, MODERN] {
        let client = scene.client(revision);
        for server in ["one", "two"] {
            let name = format!("{server}__echo");
            let redacted = client.call("1", &name, json!({"a": "it is hunter2"}));
            let text = text_of(&redacted);
            assert!(text.starts_with(&format!("{server} says")) && !text.contains("hunter2"), "{revision}: {redacted}");
            let withheld = client.call("2", &name, json!({"a": "internal"}));
            assert!(is_denied(&withheld) && !withheld.to_string().contains("internal\\\""), "{revision}: {withheld}");
            let passed = client.call("3", &format!("{server}__progress"), json!({"a": "internal hunter2"}));
            assert!(text_of(&passed).contains("internal hunter2"), "{revision}: no rule is about it: {passed}");
        }
    }
    let records = audit(&scene.scratch.state());
    let withheld = records.iter().filter(|record| record["reply"] == "withheld" && record["reason"] == "result-withheld");
    let servers: Vec<_> = withheld.map(|record| &record["server"]).collect();
    assert_eq!(servers, ["one", "two", "one", "two"], "{records:?}");
}

#[test]
fn updates_of_a_resource_are_told_of_by_its_server_alone() {
    let scene = Scene::of(&[("one", &[]), ("two", &[])]);
    let touch = |client: &Client, server: &str, uri: &str| {
        let reply = client.call("9", &format!("{server}__touch"), json!({"uri": uri}));
        assert!(text_of(&reply).starts_with(server), "{reply}");
    };
    let client = scene.client(LEGACY);
    let listening = scene.listens(&client);
    for uri in ["one://1", "two://1"] {
        let subscribed = client.ask("1", "resources/subscribe", json!({"uri": uri})).reply("1");
        assert!(subscribed["result"].is_object(), "{subscribed}");
    }
    for server in ["one", "two"] {
        let told = scene.heard(server);
        let subscribed: Vec<_> = told.iter().filter(|said| said["method"] == "resources/subscribe").collect();
        assert_eq!(subscribed.len(), 1, "{told:?}");
        assert_eq!(subscribed[0]["params"]["uri"], format!("{server}://1"));
    }
    // What the one says of the other's is not heard.
    for (server, uri) in [("two", "one://1"), ("one", "one://1"), ("one", "two://1"), ("two", "two://1")] {
        touch(&client, server, uri);
    }
    let updated = || listening.next("notifications/resources/updated")["params"]["uri"].clone();
    assert_eq!([updated(), updated()], ["one://1", "two://1"]);

    let client = scene.client(MODERN);
    let wanted = json!({"notifications": {"resourceSubscriptions": ["one://1", "three://1"]}});
    let text = support::request(MODERN, "\"l\"", "subscriptions/listen", wanted);
    let bytes = client.post(&client.headers("subscriptions/listen", None), text.as_bytes());
    let streaming = Listening::follow(&client.address, &bytes);
    let granted = streaming.next("notifications/subscriptions/acknowledged");
    assert_eq!(granted["params"]["notifications"], json!({"resourceSubscriptions": ["one://1"]}), "nobody has the other");
    let asked = |server: &str| {
        let heard = scene.heard(server);
        let listened = heard.iter().filter(|said| said["method"] == "subscriptions/listen");
        let named = |said: &Value| said["params"]["notifications"]["resourceSubscriptions"].clone();
        listened.map(named).collect::<Vec<_>>()
    };
    until(PATIENCE, || (asked("one") == [json!(["one://1"])]).then_some(())).expect("its server is asked for it");
    until(PATIENCE, || (asked("two") == [Value::Null]).then_some(())).expect("the other is not");
    touch(&client, "two", "one://1");
    touch(&client, "one", "one://1");
    let update = streaming.next("notifications/resources/updated");
    assert_eq!(update["params"]["uri"], "one://1");
    assert_eq!(update["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "l");
    assert!(streaming.0.try_iter().all(|said| said["method"] != "notifications/resources/updated"), "it is told once");
}

#[test]
fn in_the_stateless_era_progress_and_cancellation_go_with_the_stream() {
    let scene = Scene::of(&[("one", &[]), ("two", &[])]);
    let client = scene.client(MODERN);
    let params = json!({"name": "two__progress", "arguments": {}, "_meta": {"progressToken": "mine"}});
    let reply = client.ask("1", "tools/call", params);
    let told = reply.messages().into_iter().filter(|said| said["method"] == "notifications/progress");
    let told: Vec<_> = told.map(|said| (said["params"]["progressToken"].clone(), said["params"]["progress"].clone())).collect();
    assert_eq!(told, [(json!("mine"), json!(1)), (json!("mine"), json!(2))], "{reply:?}");

    let text = support::call(MODERN, "7", "one__sleep", json!({}));
    let sleeper = open(&client.address, &client.post(&client.headers("tools/call", Some("one__sleep")), text.as_bytes()));
    let slept = || scene.heard("one").iter().any(|said| said["params"]["name"] == "sleep").then_some(());
    until(PATIENCE, slept).expect("the call reaches its server");
    drop(sleeper);
    let cancelled = || scene.heard("one").iter().any(|said| said["method"] == "notifications/cancelled").then_some(());
    until(PATIENCE, cancelled).expect("its server is told");
    assert!(!scene.heard("two").iter().any(|said| said["method"] == "notifications/cancelled"), "and no other");
}

#[test]
fn methods_of_the_older_era_are_unknown_in_the_stateless_one() {
    let scene = Scene::of(&[("one", &[])]);
    let client = scene.client(MODERN);
    for (method, params) in [
        ("resources/subscribe", json!({"uri": "one://1"})),
        ("resources/unsubscribe", json!({"uri": "one://1"})),
        ("tasks/result", json!({"taskId": "1"})),
        ("tasks/list", json!({})),
        ("logging/setLevel", json!({"level": "debug"})),
        ("ping", json!({})),
    ] {
        let reply = client.ask("1", method, params);
        let code = reply.reply("1")["error"]["code"].clone();
        assert_eq!((reply.status, code), (404, json!(-32601)), "{method}");
    }
    assert!(scene.heard("one").iter().all(|message| message["method"] != "resources/subscribe"));
}

#[test]
fn a_resource_of_two_servers_is_nobodys() {
    let scene = Scene::of(&[("one", &["--uri", "shared://x"]), ("two", &["--uri", "shared://x"])]);
    for revision in [LEGACY, MODERN] {
        let client = scene.client(revision);
        let reply = client.ask("1", "resources/list", json!({})).reply("1");
        let uris: Vec<_> = reply["result"]["resources"].as_array().unwrap().iter().map(|one| one["uri"].clone()).collect();
        assert_eq!(uris, ["one://1", "two://1"]);
        let error = &client.ask("2", "resources/read", json!({"uri": "shared://x"})).reply("2")["error"];
        assert_eq!(error["data"]["uri"], "shared://x", "{error}");
        // What a result links to leads to whoever has given it.
        let link = client.call("3", "two__link", json!({}))["result"]["content"][0]["uri"].clone();
        let read = client.ask("4", "resources/read", json!({"uri": link})).reply("4");
        assert_eq!(read["result"]["contents"][0]["text"], "two has two-hidden://x");
    }
    assert!(scene.gate.stderr.lock().unwrap().contains("another server has the same"), "the operator is told");
}

#[test]
fn what_a_server_asks_is_answered_to_it() {
    let scene = Scene::of(&[("one", &[]), ("two", &[])]);
    let client = scene.client(LEGACY);
    let listening = scene.listens(&client);
    let asked: Vec<_> = ["one", "two"]
        .iter()
        .enumerate()
        .map(|(number, server)| {
            let (client, tool) = (client.clone(), format!("{server}__ask"));
            std::thread::spawn(move || client.call(&(10 + number).to_string(), &tool, json!({})))
        })
        .collect();
    // Both ask under one id of theirs.
    let mut questions = [listening.next("elicitation/create"), listening.next("elicitation/create")];
    questions.sort_by_key(|question| question["params"]["message"].to_string());
    assert_ne!(questions[0]["id"], questions[1]["id"]);
    for question in questions.iter().rev() {
        let said = &question["params"]["message"];
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"of": said}}});
        let reply = client.send(&client.headers("", None), answer.to_string().as_bytes()).unwrap();
        assert_eq!(reply.status, 202);
        let again = client.send(&client.headers("", None), answer.to_string().as_bytes()).unwrap();
        assert_ne!(again.status, 202, "it is answered once");
    }
    for (thread, server) in asked.into_iter().zip(["one", "two"]) {
        let said = thread.join().unwrap();
        assert!(
            text_of(&said).contains(&format!("{server} was told")) && text_of(&said).contains(&format!("{server}?")),
            "{said}"
        );
    }
}

#[test]
fn a_client_of_2024_11_05_has_all_servers_on_one_stream() {
    let scene = Scene::of(&[("one", &[]), ("two", &[])]);
    let open = || Events::open_with(&scene.gate.address, Some(TOKEN));
    let before = open();
    before.post(support::request("2024-11-05", "1", "tools/list", json!({})));
    assert!(before.message()["error"]["message"].as_str().unwrap().contains("initialize"), "nothing before the handshake");
    before.post(support::request(MODERN, "2", "tools/list", json!({})));
    assert!(before.message()["error"]["message"].as_str().unwrap().contains("post to /mcp"));

    let client = before.shake_hands();
    let tools = names(&client.ask("3", "tools/list", json!({})));
    assert!(tools.contains(&"one__echo".to_owned()) && tools.contains(&"two__echo".to_owned()), "{tools:?}");
    assert!(!tools.contains(&"one__end".to_owned()), "{tools:?}");
    for server in ["one", "two"] {
        let reply = client.call("4", &format!("{server}__echo"), json!({"n": 1}));
        assert_eq!(text_of(&reply), format!("{server} says {{\"n\": 1}}"), "{reply}");
    }
    assert!(is_denied(&client.call("5", "one__end", json!({}))));
    // What a server asks comes on the stream, and is answered by a post.
    client.post(support::call("2024-11-05", "6", "two__ask", json!({})));
    let question = client.message();
    assert_eq!(question["method"], "elicitation/create", "{question}");
    client.post(json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}).to_string());
    assert!(text_of(&client.reply("6")).contains("two was told"));

    // A stream is its holder's, and ends with its reader.
    let status = |path: &str, method: &str| {
        let text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", scene.gate.address);
        exchange(&scene.gate.address, text.as_bytes()).map(|reply| reply.status)
    };
    assert_eq!(status("/sse", "GET"), Some(401));
    let endpoint = client.endpoint.clone();
    drop(client);
    let mut other = open();
    other.endpoint = endpoint;
    let gone = || (other.post(support::request("2024-11-05", "7", "ping", json!({}))).status == 404).then_some(());
    until(PATIENCE, gone).expect("the session is over");
    let calls = audit(&scene.scratch.state());
    let called = calls.iter().filter(|record| record["phase"] == "decided" && record["method"] == "tools/call");
    let called: Vec<_> = called.map(|record| &record["server"]).collect();
    assert_eq!(called, ["one", "two", "one", "two"]);
}

#[test]
fn progress_and_cancellation_find_their_request() {
    let scene = Scene::of(&[("one", &[]), ("two", &[])]);
    let client = scene.client(LEGACY);
    let listening = scene.listens(&client);
    let params = json!({"name": "two__progress", "arguments": {}, "_meta": {"progressToken": "mine"}});
    client.ask("1", "tools/call", params).reply("1");
    for step in [1, 2] {
        let progress = listening.next("notifications/progress");
        assert_eq!((&progress["params"]["progressToken"], &progress["params"]["progress"]), (&json!("mine"), &json!(step)));
    }
    let sleeper = {
        let client = client.clone();
        std::thread::spawn(move || client.ask("7", "tools/call", json!({"name": "one__sleep", "arguments": {}})))
    };
    let slept = || scene.heard("one").iter().any(|said| said["params"]["name"] == "sleep").then_some(());
    until(PATIENCE, slept).expect("the call reaches its server");
    client.send(&client.headers("", None), br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#);
    let cancelled = || scene.heard("one").iter().any(|said| said["method"] == "notifications/cancelled").then_some(());
    until(PATIENCE, cancelled).expect("its server is told");
    assert!(!scene.heard("two").iter().any(|said| said["method"] == "notifications/cancelled"), "and no other");
    sleeper.join().unwrap();
    // Nobody has said what another's token is for.
    assert!(listening.0.try_iter().all(|said| said["params"]["progressToken"] != "another's"));
}

#[test]
fn a_task_leads_back_to_its_server() {
    let scene = Scene::of(&[("one", &[]), ("two", &[])]);
    let client = scene.client(LEGACY);
    assert!(
        client.ask("1", "tasks/get", json!({"taskId": "task of two"})).reply("1")["error"].is_object(),
        "nobody was told of it"
    );
    let made = client.call("2", "two__later", json!({}));
    assert_eq!(made["result"]["task"]["taskId"], "task of two");
    let task = client.ask("3", "tasks/get", json!({"taskId": "task of two"})).reply("3");
    assert_eq!(task["result"]["status"], "completed", "{task}");
    let all = client.ask("4", "tasks/list", json!({})).reply("4");
    assert_eq!(all["result"]["tasks"].as_array().unwrap().len(), 1, "{all}");
}

fn is_there(path: &Path, there: bool) {
    let done = if there { std::fs::write(path, "") } else { std::fs::remove_file(path) };
    done.expect("the scratch directory is ours");
}

/// One server does not start, one does not answer, one is well: the list is given without the first two, and they come.
#[test]
fn neither_a_dead_server_nor_a_slow_one_holds_up_the_others() {
    let scratch = Scratch::new();
    scratch.policy("version: \"1\"\ntools: {echo: {}}\ndefault: deny\n");
    scratch.write("token", TOKEN);
    for marker in ["dead", "mute"] {
        is_there(&scratch.path(marker), true);
    }
    let scene = Scene::again(scratch, &[("dead", &["--unless", "{}dead"]), ("mute", &["--mute", "{}mute"]), ("well", &[])]);
    let begun = Instant::now();
    let client = scene.client(LEGACY);
    let reply = client.ask("1", "tools/list", json!({})).reply("1");
    assert_eq!(names(&reply), ["well__echo"]);
    assert_eq!(reply["result"]["_meta"]["dev.callgate/unavailable"], json!(["dead", "mute"]));
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    assert_eq!(text_of(&client.call("2", "well__echo", json!({}))), "well says {}");
    // What cannot be reached is denied at once, and says why.
    let asked = Instant::now();
    let refused = client.call("3", "dead__echo", json!({}));
    assert!(
        refused["error"]["message"].as_str().unwrap_or_default().contains("the server `dead` cannot be reached"),
        "{refused}"
    );
    assert!(asked.elapsed() < Duration::from_secs(5));
    let modern = scene.client(MODERN);
    assert_eq!(listed(&modern), ["well__echo"]);
    let listening = scene.listens(&client);
    let text = support::request(MODERN, "\"l\"", "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    let bytes = modern.post(&modern.headers("subscriptions/listen", None), text.as_bytes());
    let streaming = Listening::follow(&modern.address, &bytes);
    streaming.next("notifications/subscriptions/acknowledged");

    is_there(&scene.scratch.path("mute"), false);
    is_there(&scene.scratch.path("dead"), false);
    let all = ["dead__echo", "mute__echo", "well__echo"];
    let complete = until(PATIENCE * 6, || {
        listening.next("notifications/tools/list_changed");
        (listed(&client) == all).then_some(())
    });
    complete.expect("both come back, and the client is told each time");
    let notice = streaming.next("notifications/tools/list_changed");
    assert_eq!(notice["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "l");
    until(PATIENCE * 4, || (listed(&modern) == all).then_some(())).expect("in the stateless era too");
    assert_eq!(text_of(&client.call("9", "dead__echo", json!({}))), "dead says {}");
    assert_eq!(text_of(&client.call("9", "mute__echo", json!({}))), "mute says {}");
}

#[test]
fn a_server_that_ends_comes_back_and_harms_nobody() {
    let scene = Scene::under("version: \"1\"\ndefault: allow\n", &[("one", &[]), ("two", &[])]);
    let client = scene.client(LEGACY);
    listed(&client);
    let listening = scene.listens(&client);
    let subscribed = client.ask("1", "resources/subscribe", json!({"uri": "one://1"})).reply("1");
    assert!(subscribed["result"].is_object(), "{subscribed}");
    let ended = client.call("2", "one__end", json!({}));
    assert!(ended["error"].is_object(), "{ended}");
    assert_eq!(text_of(&client.call("3", "two__echo", json!({}))), "two says {}");
    listening.next("notifications/tools/list_changed");
    assert_eq!(text_of(&client.call("4", "one__echo", json!({}))), "one says {}");
    let told = || (scene.heard("one").iter().filter(|said| said["method"] == "resources/subscribe").count() == 2).then_some(());
    until(PATIENCE, told).expect("it is told again what the client has subscribed to");
}

#[test]
fn a_session_is_its_holders() {
    let scene = Scene::of(&[("one", &[])]);
    let client = scene.client(LEGACY);
    let stranger = Client { token: Some("another".to_owned()), ..client.clone() };
    assert_eq!(stranger.ask("1", "tools/list", json!({})).status, 401);
    let unknown = Client { session: Some("0".repeat(32)), ..client.clone() };
    assert_eq!(unknown.ask("1", "tools/list", json!({})).status, 404);
    assert_eq!(listed(&client).len(), 7);
}

/// Servers that speak one era each, of which none is a client's alone.
struct Eras {
    gate: Served,
    _far: support::HttpUpstream,
    _scratch: Scratch,
}

impl Eras {
    fn new() -> Eras {
        let scratch = Scratch::new();
        scratch.policy("version: \"1\"\ndefault: allow\n");
        scratch.write("token", TOKEN);
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = root().join("tests/upstreams/one_era.py").display().to_string();
        let log = |name: &str| scratch.path(name).display().to_string();
        let near =
            |era: &str| json!({"command": [python, script, "--era", era, "--log", log(era), "--stdio"], "policy": "policy.yaml"});
        let far = [&python, &script, "--era", "legacy", "--log", &log("far"), "--http", "0"].map(|word: &str| word.to_owned());
        let far = support::HttpUpstream::start_command(far.to_vec());
        let config = json!({
            "listen": "127.0.0.1:0",
            "state": scratch.state(),
            "servers": {"far": {"url": far.url(), "policy": "policy.yaml"}, "new": near("modern"), "old": near("legacy")},
            "grants": [{"name": "ada", "principal": "person:ada", "token": "file:token", "servers": ["far", "new", "old"]}],
        });
        let gate = Served::configured(&scratch.write("callgate.yaml", config.to_string()), &[]);
        Eras { gate, _far: far, _scratch: scratch }
    }
}

#[test]
fn eras_meet_behind_one_endpoint() {
    let scene = Eras::new();
    for revision in [LEGACY, MODERN] {
        let client = Client::silent(&scene.gate.address, revision).at("/mcp", TOKEN).shake_hands();
        let tools = listed(&client);
        for server in ["far", "new", "old"] {
            let tool = format!("{server}__echo");
            assert!(tools.contains(&tool), "{revision}: {tools:?}");
            let said = client.call("1", &tool, json!({"a": [1.5, null]}));
            assert_eq!(
                serde_json::from_str::<Value>(text_of(&said)).expect("JSON"),
                json!({"a": [1.5, null]}),
                "{revision}: {said}"
            );
        }
    }
    // A question is answered by a retry, under the state of the server that has asked.
    let client = Client::silent(&scene.gate.address, MODERN).at("/mcp", TOKEN);
    for server in ["far", "new", "old"] {
        let name = format!("{server}__ask");
        let first = client.call("2", &name, json!({}));
        assert_eq!(first["result"]["resultType"], "input_required", "{server}: {first}");
        let key = first["result"]["inputRequests"].as_object().expect("questions").keys().next().expect("a question").clone();
        let answers = json!({key: {"action": "accept", "content": {"name": server}}});
        let retry =
            json!({"name": name, "arguments": {}, "inputResponses": answers, "requestState": first["result"]["requestState"]});
        let other = ["far", "new", "old"].into_iter().find(|other| *other != server).expect("there are three");
        let mut astray = retry.clone();
        astray["name"] = json!(format!("{other}__ask"));
        let refused = client.ask("3", "tools/call", astray).reply("3");
        assert!(refused["error"].is_object(), "{server}'s state is nothing to {other}: {refused}");
        let done = client.ask("4", "tools/call", retry).reply("4");
        assert!(text_of(&done).contains(server), "{done}");
    }
}

#[test]
fn a_server_that_cannot_start_is_not_tried_without_end() {
    let scratch = Scratch::new();
    scratch.policy("version: \"1\"\ndefault: allow\n");
    scratch.write("token", TOKEN);
    is_there(&scratch.path("dead"), true);
    let scene = Scene::again(scratch, &[("dead", &["--unless", "{}dead"]), ("well", &[])]);
    let client = Client::silent(&scene.gate.address, LEGACY).at("/mcp/dead", TOKEN);
    let params = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let said = || scene.gate.stderr.lock().unwrap().matches("dead will not start").count();
    let mut told = false;
    let refused = until(PATIENCE, || {
        let reply = client.ask("1", "initialize", params.clone());
        told |= String::from_utf8_lossy(&reply.body).contains("it is tried again in");
        told.then_some(())
    });
    refused.expect("whoever asks is told that it is not tried just now");
    let begun = Instant::now();
    let before = said();
    for _ in 0..50 {
        client.ask("1", "initialize", params.clone());
    }
    // Half a second, one, two, four: so many starts fit in a time, however many ask.
    let fits = 2 + usize::try_from(begun.elapsed().as_millis() / 350).unwrap();
    assert!(said() - before <= fits.min(12), "{} starts in {:?}", said() - before, begun.elapsed());
    assert_eq!(text_of(&scene.client(LEGACY).call("1", "well__echo", json!({}))), "well says {}");
}
