//! Clients of one era before servers that speak the other alone, over every transport.
//!
//! The servers are `tests/upstreams/one_era.py`: strict, so that whatever of the client's era reached them would show.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio as Pipe};
use support::events::Events;
use support::http::{Client, Reply, Stream, open, response};
use support::stdio::Stdio;
use support::{
    LEGACY, MODERN, PATIENCE, Scratch, Served, assert_verified, audit, entries_of, is_alive, is_denied, names, root, text_of,
    tools_run, until,
};

const POLICY: &str = "\
version: \"1\"
default: allow
hide: [delete_repo]
tools:
  touch: {rules: [{name: never-there, conditions: [{path: args.uri, op: neq, value: \"file:///forbidden\"}]}]}
  session: {limits: [{counter: sessions, window: day, max: 2}]}
";

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

fn server(log: &Path, options: &[&str]) -> Vec<String> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = root().join("tests/upstreams/one_era.py").display().to_string();
    let mut command = vec![python, script, "--log".to_owned(), log.display().to_string()];
    command.extend(options.iter().map(|&option| option.to_owned()));
    command
}

/// A server over HTTP.
struct HttpServer {
    child: Child,
    url: String,
}

impl HttpServer {
    fn start(log: &Path, era: &str) -> HttpServer {
        let command = server(log, &["--era", era, "--http", "0"]);
        let mut child =
            Command::new(&command[0]).args(&command[1..]).stdout(Pipe::piped()).spawn().expect("python3 is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("the server speaks");
        let port = line.trim().rsplit(' ').next().expect("`listening PORT`").to_owned();
        HttpServer { child, url: format!("http://127.0.0.1:{port}/mcp") }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `callgate serve` before a server of one era, over one transport.
struct Scene {
    scratch: Scratch,
    gate: Served,
    _server: Option<HttpServer>,
}

impl Scene {
    fn new(era: &str, transport: &str) -> Scene {
        Scene::with(era, transport, &[])
    }

    fn with(era: &str, transport: &str, more: &[&str]) -> Scene {
        Scene::under(POLICY, era, transport, more)
    }

    fn under(policy: &str, era: &str, transport: &str, more: &[&str]) -> Scene {
        let scratch = Scratch::new();
        let (policy, state) = (scratch.policy(policy).display().to_string(), scratch.state());
        let mut arguments = vec!["-p", &policy, "--state", &state];
        arguments.extend(more);
        let http = (transport == "http").then(|| HttpServer::start(&scratch.log(), era));
        let command = server(&scratch.log(), &["--era", era, "--stdio"]);
        match &http {
            Some(server) => arguments.extend(["--upstream", &server.url]),
            None => {
                arguments.push("--");
                arguments.extend(command.iter().map(String::as_str));
            }
        }
        let gate = Served::start(&arguments);
        Scene { scratch, gate, _server: http }
    }

    fn client(&self, revision: &str) -> Client {
        Client::begin(&self.gate.address, revision)
    }

    /// What the server has got of `method`.
    fn got(&self, method: &str) -> Vec<Value> {
        let got = entries_of(&self.scratch.log(), "got").into_iter().map(|entry| entry["message"].clone());
        got.filter(|message| message["method"] == method).collect()
    }

    /// Waits until the server has logged something of this kind.
    #[track_caller]
    fn saw(&self, kind: &str) {
        let seen = until(PATIENCE, || (!entries_of(&self.scratch.log(), kind).is_empty()).then_some(()));
        assert!(seen.is_some(), "the server saw no `{kind}`");
    }
}

/// A modern request with exactly these capabilities.
fn modern(client: &Client, id: &str, mut params: Value, capabilities: Value) -> Reply {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": capabilities,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    });
    let name = params["name"].as_str().expect("a tool").to_owned();
    let text = json!({"jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": params}).to_string();
    let text = text.replacen("\"id\":0", &format!("\"id\":{id}"), 1);
    client.send(&client.headers("tools/call", Some(&name)), text.as_bytes()).expect("an answer")
}

fn asked(reply: &Value) -> (String, Value, Value) {
    assert_eq!(reply["result"]["resultType"], "input_required", "{reply}");
    let requests = reply["result"]["inputRequests"].as_object().expect("questions");
    let (key, question) = requests.iter().next().expect("a question");
    (key.clone(), question.clone(), reply["result"]["requestState"].clone())
}

// ---------------------------------------------------------------- a modern client, a legacy server

#[test]
fn a_modern_client_uses_a_legacy_server() {
    for transport in ["stdio", "http"] {
        let scene = Scene::new("legacy", transport);
        let client = scene.client(MODERN);
        let discovered = client.ask("1", "server/discover", json!({})).reply("1");
        let result = &discovered["result"];
        assert_eq!(result["supportedVersions"][0], MODERN, "{transport}: {discovered}");
        assert_eq!(result["instructions"], "Read this.");
        assert_eq!(result["capabilities"]["tools"]["listChanged"], true);
        assert_eq!(result["capabilities"]["experimental"]["odd"]["n"], 1);
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "one-era");
        assert_eq!((&result["resultType"], &result["cacheScope"]), (&json!("complete"), &json!("private")));

        let list = client.ask("2", "tools/list", json!({})).reply("2");
        assert!(names(&list).contains(&"echo".to_owned()) && !names(&list).contains(&"delete_repo".to_owned()), "{list}");
        assert_eq!(list["result"]["resultType"], "complete");
        assert_eq!((&list["result"]["ttlMs"], &list["result"]["cacheScope"]), (&json!(0), &json!("private")));

        let call = client.call("3", "echo", json!({"a": "ä", "b": [1.5, null]}));
        assert_eq!(serde_json::from_str::<Value>(text_of(&call)).expect("JSON"), json!({"a": "ä", "b": [1.5, null]}));
        assert_eq!((&call["result"]["resultType"], &call["result"]["odd"]["n"]), (&json!("complete"), &json!(1)));
        assert!(is_denied(&client.call("4", "touch", json!({"uri": "file:///forbidden"}))));
        for id in ["5", "6"] {
            assert!(!is_denied(&client.call(id, "session", json!({}))));
        }
        assert!(is_denied(&client.call("7", "session", json!({}))), "the limit is counted");

        let missing = client.ask("8", "resources/read", json!({"uri": "file:///no"}));
        assert_eq!(missing.reply("8")["error"]["code"], -32602, "{missing:?}");
        let unknown = client.ask("9", "odd/method", json!({}));
        assert_eq!((unknown.status, &unknown.reply("9")["error"]["code"]), (404, &json!(-32601)));
        assert_eq!(tools_run(&scene.scratch.log()), ["echo", "session", "session"], "{transport}");
        let records = audit(&scene.scratch.state());
        let phases = |phase: &str| records.iter().filter(|record| record["phase"] == phase && record["tool"].is_string()).count();
        assert_eq!((phases("decided"), phases("finished")), (5, 3), "{transport}: {records:?}");
        assert_verified(&scene.scratch.state());
    }
}

#[test]
fn what_a_legacy_server_asks_ends_the_request_and_the_retry_answers() {
    for transport in ["stdio", "http"] {
        let scene = Scene::new("legacy", transport);
        let client = scene.client(MODERN);
        let first = client.call("1", "ask_twice", json!({"n": 1}));
        let (key, question, state) = asked(&first);
        assert_eq!((&question["method"], &question["params"]["message"]), (&json!("elicitation/create"), &json!("Who are you?")));
        let retry = |id: &str, key: &str, state: &Value, n: u64| {
            let answers = json!({key: {"action": "accept", "content": {"name": id}}});
            let params = json!({"name": "ask_twice", "arguments": {"n": n}, "inputResponses": answers, "requestState": state});
            client.ask(id, "tools/call", params).reply(id)
        };
        let other = retry("2", &key, &state, 2);
        assert_eq!(other["error"]["code"], -32602, "{transport}: the state is for the first arguments only: {other}");
        let second = retry("3", &key, &state, 1);
        let (key, question, next) = asked(&second);
        assert_eq!(question["params"]["message"], "Are you sure?");
        assert_ne!(next, state);
        assert_eq!(retry("4", &key, &state, 1)["error"]["code"], -32602, "a state is good once");
        let done = retry("5", &key, &next, 1);
        let said: Value = serde_json::from_str(text_of(&done)).unwrap_or_else(|_| panic!("{done}"));
        assert_eq!((&said[0]["content"]["name"], &said[1]["content"]["name"]), (&json!("3"), &json!("5")), "{transport}");
        assert_eq!(tools_run(&scene.scratch.log()), ["ask_twice"], "one call for the server");
        let records = audit(&scene.scratch.state());
        let replies: Vec<_> = records.iter().filter(|record| record["phase"] == "finished").map(|r| r["reply"].clone()).collect();
        assert_eq!(replies.iter().filter(|reply| *reply == "input_required").count(), 2, "{replies:?}");
        assert_eq!(records.iter().filter(|record| record["phase"] == "decided").count(), 5, "each retry is judged");
    }
}

#[test]
fn sampling_and_roots_are_asked_for_as_well() {
    for (tool, method) in [("sample", "sampling/createMessage"), ("roots", "roots/list")] {
        for transport in ["stdio", "http"] {
            let scene = Scene::new("legacy", transport);
            let client = scene.client(MODERN);
            let able = json!({"sampling": {}, "roots": {}});
            let (key, question, state) =
                asked(&modern(&client, "1", json!({"name": tool, "arguments": {}}), able.clone()).reply("1"));
            assert_eq!(question["method"], method);
            let retry = json!({"name": tool, "arguments": {}, "requestState": state, "inputResponses": {key: {"odd": 1.0}}});
            let done = modern(&client, "2", retry, able).reply("2");
            assert_eq!(text_of(&done), "[{\"odd\": 1.0}]", "{transport}: {done}");
        }
    }
}

#[test]
fn a_client_is_never_asked_what_it_has_not_declared() {
    for transport in ["stdio", "http"] {
        let scene = Scene::new("legacy", transport);
        let client = scene.client(MODERN);
        for (id, able) in [("1", json!({})), ("2", json!({"sampling": {}})), ("3", json!({"elicitation": {"url": {}}}))] {
            let reply = modern(&client, id, json!({"name": "ask", "arguments": {}}), able).reply(id);
            assert_eq!(reply["result"]["resultType"], "complete", "{transport}: {reply}");
            assert!(text_of(&reply).contains("-32601"), "the server was told: {reply}");
        }
    }
}

#[test]
fn a_server_whose_question_the_policy_refuses_does_not_wait_for_an_answer() {
    let policy = "version: \"1\"\ndefault: allow\nserver_requests: {elicitation: deny}\ntools: {}\n";
    for transport in ["stdio", "http"] {
        let scene = Scene::under(policy, "legacy", transport, &[]);
        let reply = scene.client(MODERN).call("1", "ask", json!({}));
        assert!(reply["result"].get("inputRequests").is_none(), "{transport}: {reply}");
        scene.saw("cancelled");
    }
}

#[test]
fn callers_at_once_are_each_asked_their_own_questions() {
    for transport in ["stdio", "http"] {
        let scene = Scene::new("legacy", transport);
        std::thread::scope(|scope| {
            for number in 0..6 {
                let client = scene.client(MODERN);
                scope.spawn(move || {
                    // The same ids for all.
                    let (key, _, state) = asked(&client.call("1", "ask", json!({"n": number})));
                    let answers = json!({key: {"action": "accept", "content": {"name": number}}});
                    let params =
                        json!({"name": "ask", "arguments": {"n": number}, "inputResponses": answers, "requestState": state});
                    let done = client.ask("2", "tools/call", params).reply("2");
                    let said: Value = serde_json::from_str(text_of(&done)).unwrap_or_else(|_| panic!("{done}"));
                    assert_eq!(said[0]["content"]["name"], number);
                });
            }
        });
    }
}

/// The client's answer to what it was asked under this key and state.
fn answered(client: &Client, (key, _, state): (String, Value, Value)) -> Value {
    let answers = json!({key: {"action": "decline"}});
    let params = json!({"name": "ask", "arguments": {}, "inputResponses": answers, "requestState": state});
    client.ask("2", "tools/call", params).reply("2")
}

#[test]
fn of_nine_callers_who_are_asked_the_one_who_was_asked_first_gives_way() {
    let scene = Scene::new("legacy", "stdio");
    let client = scene.client(MODERN);
    let mut questions: Vec<_> = (0..9).map(|_| asked(&client.call("1", "ask", json!({})))).collect();
    let late = answered(&client, questions.remove(0));
    assert_eq!(late["error"]["code"], -32602, "its line was given to the ninth: {late}");
    for question in questions {
        let done = answered(&client, question);
        assert_eq!(text_of(&done), "[{\"action\": \"decline\"}]", "{done}");
    }
}

#[test]
fn callers_who_can_be_asked_wait_for_one_of_eight_lines_and_so_many_wait_at_most() {
    let scene = Scene::new("legacy", "stdio");
    let client = scene.client(MODERN);
    let slow = |seconds: f64| {
        let body = support::call(MODERN, "1", "slow", json!({"seconds": seconds}));
        let stream = open(&client.address, &client.post(&client.headers("tools/call", Some("slow")), body.as_bytes()));
        stream.set_nonblocking(true).expect("it is ours");
        stream
    };
    let has_answer = |stream: &TcpStream| stream.peek(&mut [0]).is_ok();
    let running = || tools_run(&scene.scratch.log()).len();
    let mut busy: Vec<_> = (0..8).map(|_| slow(600.0)).collect();
    until(PATIENCE, || (running() == 8).then_some(())).expect("each has a line");
    // 256 wait, and one is told that it cannot.
    let waiting: Vec<_> = (0..257).map(|_| slow(0.0)).collect();
    let mut refused = until(PATIENCE, || waiting.iter().find(|stream| has_answer(stream))).expect("one too many");
    refused.set_nonblocking(false).expect("it is ours");
    let told = response(&mut refused).expect("an answer").reply("1");
    refused.set_nonblocking(true).expect("it is ours");
    assert!(told["error"]["message"].as_str().is_some_and(|why| why.contains("no line to the server")), "{told}");
    assert_eq!((running(), waiting.iter().filter(|stream| has_answer(stream)).count()), (8, 0), "all others wait");
    // Whoever has no need of a line to itself has not to wait for one.
    assert_eq!(text_of(&modern(&client, "1", json!({"name": "echo", "arguments": {}}), json!({})).reply("1")), "{}");
    busy.truncate(7);
    until(4 * PATIENCE, || (waiting.iter().filter(|stream| has_answer(stream)).count() == 256).then_some(()))
        .expect("the line that has become free is enough for all, one after the other");
}

#[test]
fn lines_of_ones_own_are_within_the_children_that_there_may_be() {
    let scene = Scene::with("legacy", "stdio", &["--max-children", "2"]);
    let client = scene.client(MODERN);
    // One for all, and one: whoever is asked and does not come back gives way, and is not waited for.
    let first = asked(&client.call("1", "ask", json!({})));
    let second = asked(&client.call("1", "ask", json!({})));
    let late = answered(&client, first);
    assert_eq!(late["error"]["code"], -32602, "{late}");
    assert_eq!(text_of(&answered(&client, second)), "[{\"action\": \"decline\"}]");
    // Whoever is not asked anything uses the line as long as it takes, and the others come after.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| client.call("1", "slow", json!({"seconds": 0.2})));
        }
    });
    assert_eq!(tools_run(&scene.scratch.log()).len(), 6);
    let children: BTreeSet<_> =
        entries_of(&scene.scratch.log(), "got").iter().map(|entry| entry["pid"].as_u64().expect("a process id")).collect();
    let alive = children.iter().filter(|pid| is_alive(**pid)).count();
    assert!(alive <= 2, "{alive} of {children:?}");
}

#[test]
fn a_server_that_keeps_something_in_its_session_finds_it_again() {
    let scene = Scene::new("legacy", "stdio");
    let client = scene.client(MODERN);
    let (first, second) = (client.call("1", "session", json!({})), client.call("2", "session", json!({})));
    let number = |reply: &Value| text_of(reply).rsplit_once(' ').map(|(pid, n)| (pid.to_owned(), n.to_owned()));
    assert_eq!(number(&first).map(|(pid, _)| pid), number(&second).map(|(pid, _)| pid), "one child: {first} {second}");
    assert_eq!(number(&second).map(|(_, n)| n).as_deref(), Some("2"));
}

#[test]
fn progress_and_logs_reach_the_modern_call_they_belong_to() {
    for transport in ["stdio", "http"] {
        let scene = Scene::new("legacy", transport);
        let client = scene.client(MODERN);
        let meta = |more: Value| {
            let mut meta = json!({
                "io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {},
            });
            for (key, value) in more.as_object().expect("members") {
                meta[key] = value.clone();
            }
            meta
        };
        let send = |name: &str, arguments: Value, more: Value| {
            let params = json!({"name": name, "arguments": arguments, "_meta": meta(more)});
            let text = json!({"jsonrpc": "2.0", "id": "x", "method": "tools/call", "params": params}).to_string();
            client.send(&client.headers("tools/call", Some(name)), text.as_bytes()).expect("an answer").messages()
        };
        let told = send("progress", json!({}), json!({"progressToken": "mine"}));
        assert_eq!(told.len(), 3, "{transport}: {told:?}");
        assert!(told[..2].iter().all(|message| message["params"]["progressToken"] == "mine"), "{told:?}");
        let told = send("log", json!({"say": "hello"}), json!({"io.modelcontextprotocol/logLevel": "info"}));
        assert_eq!(told[0]["params"]["data"], "hello", "{transport}: {told:?}");
        assert_eq!(scene.got("logging/setLevel").len(), 1);
        assert_eq!(send("log", json!({"say": "hello"}), json!({})).len(), 1, "nobody asked for logs");
    }
}

#[test]
fn closing_a_modern_stream_cancels_at_the_legacy_server() {
    for transport in ["stdio", "http"] {
        let scene = Scene::new("legacy", transport);
        let client = scene.client(MODERN);
        let stream = Stream::post(&client, "1", "tools/call", json!({"name": "slow", "arguments": {"seconds": 30}}));
        scene.saw("ran");
        drop(stream);
        scene.saw("cancelled");
    }
}

#[test]
fn a_modern_client_listens_to_a_legacy_server() {
    for transport in ["stdio", "http"] {
        let scene = Scene::new("legacy", transport);
        let client = scene.client(MODERN);
        let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///a"]});
        let mut stream = Stream::post(&client, "\"ear\"", "subscriptions/listen", json!({"notifications": wanted}));
        let acknowledged = stream.next();
        assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged", "{transport}: {acknowledged}");
        assert_eq!(acknowledged["params"]["notifications"], wanted);
        let tag = |message: &Value| message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone();
        assert_eq!(tag(&acknowledged), "ear");
        until(PATIENCE, || (!scene.got("resources/subscribe").is_empty()).then_some(())).expect("the server is told");
        // Who is not able to answer anything is on the same line as those who listen.
        modern(&client, "2", json!({"name": "change", "arguments": {}}), json!({}));
        let changed = stream.next();
        assert_eq!((changed["method"].as_str(), tag(&changed)), (Some("notifications/tools/list_changed"), json!("ear")));
        modern(&client, "3", json!({"name": "touch", "arguments": {"uri": "file:///a"}}), json!({}));
        let touched = stream.next();
        assert_eq!((touched["params"]["uri"].as_str(), tag(&touched)), (Some("file:///a"), json!("ear")));
        drop(stream);
        until(PATIENCE, || (!scene.got("resources/unsubscribe").is_empty()).then_some(())).expect("nobody listens any more");
    }
}

#[test]
fn another_policy_is_told_to_those_who_listen() {
    for (era, transport) in [("legacy", "stdio"), ("legacy", "http"), ("modern", "stdio"), ("modern", "http")] {
        let scene = Scene::new(era, transport);
        let client = scene.client(MODERN);
        let listening = |id: &str, wanted: Value| {
            let mut stream = Stream::post(&client, id, "subscriptions/listen", json!({"notifications": wanted}));
            assert_eq!(stream.next()["method"], "notifications/subscriptions/acknowledged", "{era} {transport}");
            stream
        };
        let mut ear = listening("\"ear\"", json!({"toolsListChanged": true}));
        let mut deaf = listening("\"deaf\"", json!({"resourceSubscriptions": ["file:///a"]}));
        scene.scratch.policy(&POLICY.replace("delete_repo", "echo"));
        let told = ear.next();
        assert_eq!(told["method"], "notifications/tools/list_changed", "{era} {transport}: {told}");
        assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "ear", "{era} {transport}: {told}");
        // Whoever has not asked for that hears of something else first.
        modern(&client, "2", json!({"name": "touch", "arguments": {"uri": "file:///a"}}), json!({}));
        assert_eq!(deaf.next()["method"], "notifications/resources/updated", "{era} {transport}");
    }
}

#[test]
fn another_policy_is_told_to_clients_with_a_session() {
    const CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    let changed: Value = serde_json::from_str(CHANGED).expect("JSON");
    let another = || POLICY.replace("delete_repo", "echo");
    for (era, transport) in [("legacy", "stdio"), ("legacy", "http"), ("modern", "stdio"), ("modern", "http")] {
        let scene = Scene::new(era, transport);
        let mut ear = Stream::get(&scene.client(LEGACY));
        let old = Events::begin(&scene.gate.address);
        scene.scratch.policy(&another());
        assert_eq!(ear.next(), changed, "{era} {transport}: a GET stream");
        assert_eq!(old.message(), changed, "{era} {transport}: HTTP+SSE");

        let scratch = Scratch::new();
        let (policy, state) = (scratch.policy(POLICY), scratch.state());
        let upstream = (transport == "http").then(|| HttpServer::start(&scratch.log(), era));
        let mut client = match &upstream {
            Some(upstream) => Stdio::bridge(&policy, &state, &upstream.url),
            None => Stdio::wrap(&policy, &state, &[], &server(&scratch.log(), &["--era", era, "--stdio"])),
        };
        client.begin(LEGACY);
        scratch.policy(&another());
        assert_eq!(client.message(), changed, "{era} {transport}: over stdio");
    }
}

#[test]
fn a_server_that_never_answers_the_question_for_its_era_is_a_legacy_one() {
    let scratch = Scratch::new();
    let command = server(&scratch.log(), &["--era", "legacy", "--stdio", "--mute"]);
    let mut client = Stdio::wrap(&scratch.policy(POLICY), &scratch.state(), &[], &command);
    let reply = client.call(MODERN, "1", "echo", json!({"a": 1}));
    assert_eq!(text_of(&reply), "{\"a\": 1}", "{reply}");
}

// ---------------------------------------------------------------- a legacy client, a modern server

#[test]
fn a_legacy_client_uses_a_modern_server() {
    for transport in ["stdio", "http"] {
        for revision in REVISIONS {
            let scene = Scene::new("modern", transport);
            let client = scene.client(revision);
            let list = client.ask("1", "tools/list", json!({})).reply("1");
            assert!(names(&list).contains(&"echo".to_owned()) && !names(&list).contains(&"delete_repo".to_owned()), "{list}");
            assert!(list["result"].get("resultType").is_none() && list["result"].get("ttlMs").is_none(), "{list}");
            let call = client.call("2", "echo", json!({"a": "ä", "b": [1.5, null]}));
            assert_eq!(serde_json::from_str::<Value>(text_of(&call)).expect("JSON"), json!({"a": "ä", "b": [1.5, null]}));
            assert_eq!((call["result"].get("resultType"), &call["result"]["odd"]["n"]), (None, &json!(1)));
            assert!(is_denied(&client.call("3", "touch", json!({"uri": "file:///forbidden"}))));
            for id in ["4", "5"] {
                assert!(!is_denied(&client.call(id, "session", json!({}))));
            }
            assert!(is_denied(&client.call("6", "session", json!({}))), "the limit is counted");
            assert_eq!(client.ask("7", "ping", json!({})).reply("7")["result"], json!({}));
            assert_eq!(client.ask("8", "logging/setLevel", json!({"level": "info"})).reply("8")["result"], json!({}));
            assert_eq!(client.ask("9", "resources/read", json!({"uri": "file:///no"})).reply("9")["error"]["code"], -32002);
            assert_eq!(client.ask("10", "odd/method", json!({})).reply("10")["error"]["code"], -32601);
            assert_eq!(tools_run(&scene.scratch.log()), ["echo", "session", "session"], "{transport}, {revision}");
            let last = scene.got("tools/call").pop().expect("a call");
            assert_eq!(last["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]["name"], "test");
            let records = audit(&scene.scratch.state());
            let phases = |phase: &str| records.iter().filter(|r| r["phase"] == phase && r["tool"].is_string()).count();
            assert_eq!((phases("decided"), phases("finished")), (5, 3), "{transport}: {records:?}");
        }
    }
}

#[test]
fn a_handshake_tells_what_a_modern_server_says_of_itself() {
    for transport in ["stdio", "http"] {
        let scene = Scene::new("modern", transport);
        let client = Client::silent(&scene.gate.address, LEGACY);
        let params = json!({"protocolVersion": "1999-01-01", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let reply = client.ask("1", "initialize", params);
        assert!(reply.header("mcp-session-id").is_some());
        let result = &reply.reply("1")["result"];
        assert_eq!(result["protocolVersion"], LEGACY, "the newest that it could be");
        assert_eq!((&result["instructions"], &result["serverInfo"]["name"]), (&json!("Read this."), &json!("one-era")));
        assert_eq!(result["capabilities"]["experimental"]["odd"]["n"], 1);
    }
}

#[test]
fn what_a_modern_server_needs_is_asked_of_the_legacy_client() {
    for transport in ["stdio", "http"] {
        for (tool, answers) in [("ask", 1), ("ask_twice", 2), ("sample", 1)] {
            let scene = Scene::new("modern", transport);
            let client = scene.client(LEGACY);
            let mut stream = Stream::post(&client, "1", "tools/call", json!({"name": tool, "arguments": {"n": 1.50}}));
            for number in 0..answers {
                let question = stream.next();
                assert!(question["method"].is_string() && question["id"].is_string(), "{transport}, {tool}: {question}");
                let text = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "n": number}});
                let sent = client.send(&client.headers("response", None), text.to_string().as_bytes()).expect("an answer");
                assert_eq!(sent.status, 202, "{sent:?}");
            }
            let done = stream.next();
            let said: Value = serde_json::from_str(text_of(&done)).unwrap_or_else(|_| panic!("{transport}, {tool}: {done}"));
            assert_eq!(said.as_array().map(Vec::len), Some(answers), "{said}");
            assert_eq!((&done["id"], &said[answers - 1]["n"]), (&json!(1), &json!(answers - 1)));
            let records = audit(&scene.scratch.state());
            let phases = |phase: &str| records.iter().filter(|r| r["phase"] == phase && r["tool"] == tool).count();
            assert_eq!((phases("decided"), phases("finished")), (1, 1), "one call of the client's is one: {records:?}");
        }
    }
}

#[test]
fn a_legacy_client_that_cannot_answer_is_not_asked_and_its_call_fails() {
    for transport in ["stdio", "http"] {
        let scene = Scene::new("modern", transport);
        let client = scene.client(LEGACY);
        // Its handshake has named sampling and elicitation.
        let reply = client.call("1", "roots", json!({}));
        assert_eq!(reply["error"]["code"], -32603, "{transport}: {reply}");
    }
}

#[test]
fn progress_reaches_the_legacy_client() {
    for transport in ["stdio", "http"] {
        let scene = Scene::new("modern", transport);
        let client = scene.client(LEGACY);
        let params = json!({"name": "progress", "arguments": {}, "_meta": {"progressToken": "mine"}});
        let told = client.ask("1", "tools/call", params).messages();
        assert_eq!(told.len(), 3, "{transport}: {told:?}");
        assert!(told[..2].iter().all(|message| message["params"]["progressToken"] == "mine"), "{told:?}");
    }
}

#[test]
fn a_legacy_cancellation_reaches_the_modern_server_in_its_own_way() {
    for (transport, kind) in [("stdio", "cancelled"), ("http", "closed")] {
        let scene = Scene::new("modern", transport);
        let client = scene.client(LEGACY);
        let _stream = Stream::post(&client, "1", "tools/call", json!({"name": "slow", "arguments": {"seconds": 30}}));
        scene.saw("ran");
        let notice = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
        client.send(&client.headers("notifications/cancelled", None), notice.to_string().as_bytes());
        scene.saw(kind);
    }
}

#[test]
fn a_legacy_client_hears_of_changes_at_a_modern_server() {
    for transport in ["stdio", "http"] {
        let scene = Scene::new("modern", transport);
        let client = scene.client(LEGACY);
        let mut ear = Stream::get(&client);
        until(PATIENCE, || (!scene.got("subscriptions/listen").is_empty()).then_some(())).expect("the gateway listens");
        client.call("1", "change", json!({}));
        let changed = ear.next();
        assert_eq!(changed["method"], "notifications/tools/list_changed", "{transport}");
        assert!(changed["params"]["_meta"].get("io.modelcontextprotocol/subscriptionId").is_none(), "{changed}");
        assert_eq!(client.ask("2", "resources/subscribe", json!({"uri": "file:///a"})).reply("2")["result"], json!({}));
        client.call("3", "touch", json!({"uri": "file:///a"}));
        assert_eq!(ear.next()["params"]["uri"], "file:///a", "{transport}");
        assert_eq!(client.ask("4", "resources/unsubscribe", json!({"uri": "file:///a"})).reply("4")["result"], json!({}));
    }
}

#[test]
fn a_batch_is_taken_apart_for_a_modern_server() {
    for transport in ["stdio", "http"] {
        let scene = Scene::new("modern", transport);
        let client = scene.client("2025-03-26");
        let batch = json!([
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"n": 1}}},
            {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "touch", "arguments": {"uri": "file:///forbidden"}}},
            {"jsonrpc": "2.0", "id": 3, "method": "ping"},
        ]);
        let reply = client.send(&client.headers("batch", None), batch.to_string().as_bytes()).expect("an answer");
        let replies: Vec<Value> = serde_json::from_slice(&reply.body).expect("an array");
        let by_id = |id: u64| replies.iter().find(|reply| reply["id"] == id).expect("an answer to each");
        assert_eq!(text_of(by_id(1)), "{\"n\": 1}", "{transport}");
        assert!(is_denied(by_id(2)));
        assert_eq!(by_id(3)["result"], json!({}));
    }
}

// ---------------------------------------------------------------- stdio clients

#[test]
fn a_stdio_client_of_either_era_uses_a_child_of_the_other() {
    for (client_era, server_era) in [(MODERN, "legacy"), (LEGACY, "modern")] {
        let scratch = Scratch::new();
        let command = server(&scratch.log(), &["--era", server_era, "--stdio"]);
        let mut client = Stdio::wrap(&scratch.policy(POLICY), &scratch.state(), &[], &command);
        check_stdio(&mut client, client_era);
    }
}

#[test]
fn a_stdio_client_of_either_era_uses_an_http_server_of_the_other() {
    for (client_era, server_era) in [(MODERN, "legacy"), (LEGACY, "modern")] {
        let scratch = Scratch::new();
        let upstream = HttpServer::start(&scratch.log(), server_era);
        let mut client = Stdio::bridge(&scratch.policy(POLICY), &scratch.state(), &upstream.url);
        check_stdio(&mut client, client_era);
    }
}

#[track_caller]
fn check_stdio(client: &mut Stdio, revision: &str) {
    client.begin(revision);
    if revision == MODERN {
        let discovered = client.ask(revision, "0", "server/discover", json!({}));
        assert_eq!(discovered["result"]["supportedVersions"][0], MODERN, "{discovered}");
    }
    let list = client.ask(revision, "1", "tools/list", json!({}));
    assert!(names(&list).contains(&"echo".to_owned()) && !names(&list).contains(&"delete_repo".to_owned()), "{list}");
    assert_eq!(text_of(&client.call(revision, "2", "echo", json!({"a": 1}))), "{\"a\": 1}");
    assert!(is_denied(&client.call(revision, "3", "touch", json!({"uri": "file:///forbidden"}))));
    if revision == MODERN {
        let (key, _, state) = asked(&client.call(revision, "4", "ask", json!({})));
        let params =
            json!({"name": "ask", "arguments": {}, "requestState": state, "inputResponses": {key: {"action": "decline"}}});
        let done = client.ask(revision, "5", "tools/call", params);
        assert_eq!(text_of(&done), "[{\"action\": \"decline\"}]", "{done}");
    } else {
        client.send(support::call(revision, "4", "ask", json!({})));
        let question = client.message();
        assert_eq!(question["method"], "elicitation/create", "{question}");
        client.send(json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}).to_string());
        let done = client.reply("4");
        assert_eq!(text_of(&done), "[{\"action\": \"decline\"}]", "{done}");
    }
}

// ---------------------------------------------------------------- off

#[test]
fn bridging_can_be_switched_off() {
    for transport in ["stdio", "http"] {
        let scene = Scene::with("legacy", transport, &["--bridge-eras", "never"]);
        let client = scene.client(MODERN);
        let reply = client.ask("1", "tools/call", json!({"name": "echo", "arguments": {}}));
        assert!(reply.messages()[0]["error"].is_object(), "{transport}: {reply:?}");
        assert!(scene.got("initialize").is_empty(), "nothing is said in the client's place");
    }
}
