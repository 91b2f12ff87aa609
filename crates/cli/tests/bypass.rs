//! The bypass corpus: every case of `tests/bypass/*.json`, as exact bytes, through every mode and revision.
//!
//! One gateway takes all cases of a policy, one after the other; between two cases stands a marker call `sync_N`, which is
//! allowed and recorded. The stand-in behind it logs every call that *any* careless reading of what reached it would run, so
//! one pass covers servers that take the first duplicate, the last, the case-folded one, and so on. What stands between two
//! markers, in the stand-in's log and in the audit log, is what a case did. `tests/upstreams/selftest.py` shows that the same
//! bytes, sent to the stand-in directly, do run what they should not.

mod support;

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::events::Events;
use support::http::{Client, Reply, exchange, mirrored};
use support::stdio::Stdio;
use support::{HttpUpstream, LEGACY, MODERN, PATIENCE, Scratch, Served, call, is_modern, lenient, root};

// ---------------------------------------------------------------- the corpus

fn corpus() -> Vec<Value> {
    let mut files: Vec<_> =
        std::fs::read_dir(root().join("tests/bypass")).expect("the corpus").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let text = std::fs::read(file).expect("a readable file");
        let data: Value = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        cases.extend(data["cases"].as_array().cloned().unwrap_or_default());
    }
    cases
}

/// The exact bytes of a message: text, `{"base64"}`, or a list of parts, some of them repeated (`{n}` counts).
fn expand(message: &Value) -> Vec<u8> {
    match message {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(parts) => parts.iter().flat_map(expand).collect(),
        _ if message["base64"].is_string() => support::bytes_of(&json!({"b64": message["base64"]})),
        _ => {
            let text = message["text"].as_str().expect("a part has text");
            let times = message["times"].as_u64().expect("a part says how often");
            if text.contains("{n}") {
                (0..times).map(|n| text.replace("{n}", &n.to_string())).collect::<String>().into_bytes()
            } else {
                text.repeat(usize::try_from(times).expect("a sane number")).into_bytes()
            }
        }
    }
}

fn strings<'c>(case: &'c Value, key: &str) -> Vec<&'c str> {
    case[key].as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

fn names(case: &Value, key: &str, name: &str) -> bool {
    case[key].is_null() || strings(case, key).contains(&name)
}

#[test]
fn every_evasion_and_weakness_is_a_case_or_is_reviewed_as_not_applicable() {
    let here: BTreeSet<String> = corpus().iter().map(|case| case["evasion"].as_str().expect("an id").to_owned()).collect();
    let read = |path: &str| -> Value { serde_json::from_slice(&std::fs::read(root().join(path)).expect(path)).expect(path) };
    let reviewed = read("tests/bypass/not-applicable.json");
    let elsewhere = reviewed["reviewed"].as_object().expect("an object by id");
    let mut problems = Vec::new();
    let (evasions, weaknesses) = (read("tests/corpora/evasions.json"), read("tests/corpora/weaknesses.json"));
    let ids = [&evasions["cases"], &weaknesses["rows"]].into_iter().flat_map(|list| list.as_array().expect("a list"));
    for id in ids.map(|entry| entry["id"].as_str().expect("an id")) {
        match (here.contains(id), elsewhere.get(id)) {
            (false, None) => problems.push(format!("{id} is neither a case nor reviewed")),
            (_, Some(review)) if review["reason"].as_str().is_none_or(str::is_empty) => problems.push(format!("{id}: no reason")),
            _ => {}
        }
    }
    // Where a review says that a test of this repository covers it, that test exists.
    for (id, review) in elsewhere {
        for place in strings(review, "tested") {
            let (path, name) = place.split_once("::").unwrap_or((place, ""));
            let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
            if text.is_empty() || !text.contains(name) {
                problems.push(format!("{id}: there is no {place}"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn without_a_gateway_the_same_bytes_run_what_they_should_not() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let ran = std::process::Command::new(python).arg(root().join("tests/upstreams/selftest.py")).output().expect("python3");
    assert!(ran.status.success(), "{}", shown(&String::from_utf8_lossy(&ran.stdout)));
}

// ---------------------------------------------------------------- the modes

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// stdio to a child.
    Run,
    /// stdio to HTTP.
    Bridge,
    /// HTTP to HTTP.
    Serve,
    /// HTTP to a child.
    ServeChild,
    /// HTTP+SSE of 2024-11-05 to a child.
    Stream,
    /// stdio to HTTP+SSE.
    BridgeOld,
    /// HTTP+SSE to HTTP+SSE.
    StreamOld,
}

impl Mode {
    fn transport(self) -> &'static str {
        if matches!(self, Mode::Run | Mode::Bridge | Mode::BridgeOld) { "stdio" } else { "http" }
    }

    fn has_child(self) -> bool {
        matches!(self, Mode::Run | Mode::ServeChild | Mode::Stream)
    }

    fn is_old(self) -> bool {
        matches!(self, Mode::BridgeOld | Mode::StreamOld)
    }

    /// Whether a case says anything here: what streamable HTTP has by itself does not concern a stream and its posts.
    fn takes(self, case: &Value) -> bool {
        let door = ["content-type", "content-encoding", "origin"];
        let of_the_door = |name: &String| door.contains(&name.to_ascii_lowercase().as_str());
        let streams = matches!(self, Mode::Stream | Mode::StreamOld);
        let is_plain = case["raw"] != true && case["headers"].as_object().is_none_or(|names| names.keys().all(of_the_door));
        names(case, "transports", self.transport()) && (!streams || is_plain)
    }
}

enum Channel {
    Stdio(Stdio),
    Http(Served, Client),
    Stream(Served, Events),
}

/// A gateway with one policy in front of a stand-in.
struct Rig {
    mode: Mode,
    revision: &'static str,
    policy: PathBuf,
    scratch: Scratch,
    upstream: Option<HttpUpstream>,
    channel: Option<Channel>,
    markers: usize,
}

impl Rig {
    fn new(mode: Mode, revision: &'static str, policy: &str) -> Rig {
        let scratch = Scratch::new();
        let upstream =
            (!mode.has_child()).then(|| HttpUpstream::start(&scratch.log(), if mode.is_old() { &["--old"] } else { &[] }));
        let policy = root().join("tests/bypass/policies").join(policy).with_extension("yaml");
        let mut rig = Rig { mode, revision, policy, scratch, upstream, channel: None, markers: 0 };
        rig.start();
        rig
    }

    fn start(&mut self) {
        self.channel = None;
        let state = self.scratch.state();
        let child = lenient(&self.scratch.log(), &["--stdio"]);
        let url = self.upstream.as_ref().map(HttpUpstream::url).unwrap_or_default();
        let policy = self.policy.display().to_string();
        let mut serve = vec!["-p", &policy, "--state", &state, "--audit-args", "full"];
        let mut channel = match self.mode {
            Mode::Run => Channel::Stdio(Stdio::wrap(&self.policy, &state, &["--audit-args", "full"], &child)),
            Mode::Bridge | Mode::BridgeOld => Channel::Stdio(Stdio::bridge(&self.policy, &state, &url)),
            Mode::Serve | Mode::ServeChild | Mode::Stream | Mode::StreamOld => {
                if self.mode.has_child() {
                    serve.push("--");
                    serve.extend(child.iter().map(String::as_str));
                } else {
                    serve.extend(["--upstream", &url]);
                }
                let served = Served::start(&serve);
                if matches!(self.mode, Mode::Stream | Mode::StreamOld) {
                    let client = Events::begin(&served.address);
                    client.ask("\"list\"", "tools/list", json!({}));
                    self.channel = Some(Channel::Stream(served, client));
                    return;
                }
                let client = Client::begin(&served.address, self.revision);
                Channel::Http(served, client)
            }
        };
        // A client lists the tools before it calls any: the gateway sees the schemas as they pass.
        match &mut channel {
            Channel::Stdio(client) => {
                client.begin(self.revision);
                client.ask(self.revision, "\"list\"", "tools/list", json!({}));
            }
            Channel::Http(_, client) => {
                client.ask("\"list\"", "tools/list", json!({})).reply("\"list\"");
            }
            Channel::Stream(..) => {}
        }
        self.channel = Some(channel);
    }

    /// Sends a case once for each name its headers may claim, and says what is wrong with the answers.
    fn judge(&mut self, case: &Value) -> Vec<String> {
        let era = if is_modern(self.revision) { "modern" } else { "legacy" };
        let bytes = expand(&case[era]);
        let mut problems = Vec::new();
        match self.channel.as_mut().expect("the channel is open") {
            Channel::Stdio(client) => {
                let marker = format!("\"sync-{}\"", self.markers);
                let sync = call(self.revision, &marker, &format!("sync_{}", self.markers), json!({}));
                match exchange_lines(client, &bytes, &marker, &sync, strings(case, "answer").contains(&"silent")) {
                    Err(problem) => problems.push(problem),
                    Ok(lines) => {
                        let answer = lines.first().map_or(Answer::silent(), |line| Answer::of_text(line));
                        problems.extend(answer.problems(case, &bytes));
                        if lines.len() > 1 {
                            problems.push(format!("{} answers to one message: {}", lines.len(), shown(&lines.join("  "))));
                        }
                    }
                }
            }
            Channel::Stream(_, client) => {
                let id = format!("sync-{}", self.markers);
                let sync = call(self.revision, &format!("\"{id}\""), &format!("sync_{}", self.markers), json!({}));
                problems.extend(match exchange_events(client, case, &bytes, &id, &sync) {
                    Ok(answer) => answer.problems(case, &bytes),
                    Err(problem) => vec![problem],
                });
            }
            Channel::Http(served, client) => {
                let mirrors = if case["mirrors"].is_null() || !is_modern(self.revision) {
                    vec![Some("delete_repo")]
                } else {
                    case["mirrors"].as_array().expect("a list").iter().map(Value::as_str).collect()
                };
                for mirror in mirrors {
                    let request = http_request(case, &bytes, served, client, mirror);
                    let answer = Answer::of_http(exchange(&served.address, &request));
                    problems.extend(answer.problems(case, &bytes));
                }
                let tool = format!("sync_{}", self.markers);
                let text = call(self.revision, "\"sync\"", &tool, json!({}));
                let reply = client.send(&client.headers("tools/call", Some(&tool)), text.as_bytes());
                if !reply.as_ref().is_some_and(|reply| reply.messages().iter().any(|message| message["id"] == "sync")) {
                    problems.push(format!("the next call was not answered: {reply:?}"));
                }
            }
        }
        self.markers += 1;
        if problems.iter().any(|problem| problem.contains("next call")) {
            self.start();
        }
        problems
    }

    /// Ends the gateway and gives what each case did: what reached the upstream, and what was recorded.
    fn finish(mut self) -> (BTreeMap<usize, Vec<Value>>, BTreeMap<usize, Vec<Value>>) {
        match self.channel.take() {
            Some(Channel::Stdio(mut client)) => {
                client.close_stdin();
                client.ended(PATIENCE);
            }
            Some(Channel::Http(mut served, _) | Channel::Stream(mut served, _)) => {
                served.signal(rustix::process::Signal::TERM);
                support::ended(&mut served.child, PATIENCE);
            }
            None => {}
        }
        let reached = segments(support::entries(&self.scratch.log()), |entry| (entry["t"] == "call").then(|| &entry["tool"]));
        let recorded = segments(support::audit(&self.scratch.state()), |record| Some(&record["tool"]));
        support::assert_verified(&self.scratch.state());
        (reached, recorded)
    }
}

/// Sends a line and then a marker, and gives what was answered before the marker.
fn exchange_lines(client: &mut Stdio, bytes: &[u8], id: &str, sync: &str, may_be_silent: bool) -> Result<Vec<String>, String> {
    let dead = |client: &Stdio| Err(format!("the next call was not answered: {}", shown(&client.said())));
    let id: Value = serde_json::from_str(id).expect("the marker's id");
    let mut lines = Vec::new();
    if !client.send(bytes) {
        return dead(client);
    }
    if !may_be_silent {
        match client.line(Duration::from_secs(10)) {
            Some(line) => lines.push(String::from_utf8_lossy(&line).into_owned()),
            None => lines.push("(nothing)".to_owned()),
        }
    }
    if !client.send(sync) {
        return dead(client);
    }
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let Some(line) = client.line(Duration::from_secs(5)) else { continue };
        let text = String::from_utf8_lossy(&line).into_owned();
        if serde_json::from_slice::<Value>(&line).is_ok_and(|message| message["id"] == id) {
            return Ok(lines);
        }
        lines.push(text);
    }
    dead(client)
}

/// Posts a case and then a marker, and gives what was answered before the marker: by HTTP, or on the stream.
fn exchange_events(client: &Events, case: &Value, bytes: &[u8], id: &str, sync: &str) -> Result<Answer, String> {
    let mut headers = BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]);
    for (name, value) in case["headers"].as_object().unwrap_or(&Map::new()) {
        match value.as_str() {
            Some(value) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => headers.remove(&name.to_ascii_lowercase()),
        };
    }
    let posted = client.post_with(&headers.into_iter().collect::<Vec<_>>(), bytes);
    let mut said = Vec::new();
    if posted.as_ref().is_some_and(|reply| reply.status == 202) && !strings(case, "answer").contains(&"silent") {
        said.push(client.text(Duration::from_secs(10)).unwrap_or_else(|| "(nothing)".to_owned()));
    }
    if client.post(sync).status != 202 {
        return Err("the next call was not answered".to_owned());
    }
    loop {
        let Some(text) = client.text(PATIENCE) else { return Err("the next call was not answered".to_owned()) };
        if serde_json::from_str::<Value>(&text).is_ok_and(|message| message["id"] == id) {
            break;
        }
        said.push(text);
    }
    Ok(match posted {
        Some(reply) if reply.status != 202 => Answer::of_http(Some(reply)),
        None => Answer::of_http(None),
        Some(_) if said.len() > 1 => return Err(format!("several answers to one message: {}", shown(&said.join("  ")))),
        Some(_) => said.first().map_or(Answer::silent(), |text| Answer::of_text(text)),
    })
}

/// The exact bytes of a case's HTTP request.
fn http_request(case: &Value, body: &[u8], served: &Served, client: &Client, mirror: Option<&str>) -> Vec<u8> {
    if case["raw"] == true {
        let port = served.address.rsplit(':').next().unwrap_or_default();
        let mut session = String::new();
        for (name, value) in client.headers("tools/call", None).iter().filter(|(name, _)| name.starts_with('M')) {
            let _ = write!(session, "{name}: {value}\r\n");
        }
        let text = String::from_utf8_lossy(body);
        let text = text.replace("{{address}}", &served.address).replace("{{port}}", port);
        return text.replace("{{session}}", &session).into_bytes();
    }
    let method = case["mirror_method"].as_str().unwrap_or("tools/call");
    let mut headers = client.headers(method, None);
    if let Some(mirror) = mirror.filter(|_| is_modern(&client.revision)) {
        let value = if mirror.starts_with("=?base64?") { mirror.to_owned() } else { mirrored(mirror) };
        headers.push(("Mcp-Name".to_owned(), value));
    }
    for (name, value) in case["headers"].as_object().unwrap_or(&Map::new()) {
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        let values = match value {
            Value::Null => Vec::new(),
            Value::Array(values) => values.iter().map(|value| value.as_str().expect("a header").to_owned()).collect(),
            Value::String(value) => vec![value.clone()],
            _ => vec![String::from_utf8(expand(value)).expect("a header is text")],
        };
        headers.extend(values.into_iter().map(|value| (name.clone(), value)));
    }
    client.post(&headers, body)
}

/// Cuts a log at its markers. The entries of one arrival (the same `n`) stay together.
fn segments<'e>(log: Vec<Value>, tool: impl Fn(&'e Value) -> Option<&'e Value>) -> BTreeMap<usize, Vec<Value>> {
    let log: &'static [Value] = Vec::leak(log);
    let marker = |entry: &'e Value| tool(entry)?.as_str()?.strip_prefix("sync_")?.parse::<usize>().ok();
    let marked: BTreeMap<String, usize> =
        log.iter().filter_map(|entry| Some((entry["n"].to_string(), marker(entry)?))).filter(|(n, _)| n != "null").collect();
    let (mut out, mut here) = (BTreeMap::new(), Vec::new());
    for entry in log {
        if let Some(number) = marker(entry) {
            out.entry(number).or_insert_with(|| std::mem::take(&mut here));
        } else if !marked.contains_key(&entry["n"].to_string()) {
            here.push(entry.clone());
        }
    }
    out
}

// ---------------------------------------------------------------- answers

/// What kind of answer came, and the answer.
struct Answer {
    kind: &'static str,
    status: Option<u16>,
    code: Option<i64>,
    id: Option<Value>,
    text: String,
}

impl Answer {
    fn silent() -> Answer {
        Answer { kind: "silent", status: None, code: None, id: None, text: String::new() }
    }

    fn of_text(text: &str) -> Answer {
        let mut answer = Answer { text: text.to_owned(), ..Answer::silent() };
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            answer.kind = "no JSON";
            return answer;
        };
        answer.kind = match &message {
            Value::Array(items) => {
                let passed = items.iter().any(|item| Answer::of_text(&item.to_string()).kind == "result" && item["id"] != "g");
                if passed { "result" } else { "batch" }
            }
            _ if message["error"]["code"].is_i64() => "refused",
            _ if support::is_denied(&message) => "denied",
            _ if message["result"].is_object() => "result",
            _ => "odd",
        };
        answer.code = message["error"]["code"].as_i64();
        answer.id = message.get("id").cloned();
        answer
    }

    fn of_http(reply: Option<Reply>) -> Answer {
        let Some(reply) = reply else { return Answer { kind: "closed", ..Answer::silent() } };
        let texts = reply.texts();
        let answers = || texts.iter().map(|text| Answer::of_text(text));
        // An allowed item of a batch may come as an event of its own: the worst event counts.
        let worst = answers().find(|answer| answer.kind == "result").or_else(|| answers().next());
        let mut answer = match worst {
            Some(answer) if !matches!(answer.kind, "no JSON" | "odd") || reply.status < 400 => answer,
            _ if reply.status >= 400 => Answer { kind: "refused", ..Answer::silent() },
            _ => Answer::silent(),
        };
        answer.status = Some(reply.status);
        answer.text = texts.join("\n");
        answer
    }

    fn problems(&self, case: &Value, sent: &[u8]) -> Vec<String> {
        let mut problems = Vec::new();
        let allowed = strings(case, "answer");
        let seen = || format!("{} (status {:?}, code {:?}): {}", self.kind, self.status, self.code, shown(&self.text));
        let statuses = case["status"].as_array();
        if self.status.zip(statuses).is_some_and(|(status, wanted)| !wanted.contains(&json!(status))) {
            problems.push(format!("status {} expected, got {}", case["status"], seen()));
        }
        // A silent case over HTTP may be refused with a status; `status` alone asks for nothing else.
        let is_fine = allowed.contains(&self.kind)
            || (allowed.contains(&"silent") && self.kind == "refused" && self.status.is_some())
            || (allowed == ["status"] && self.kind != "result")
            || (allowed.contains(&"status") && self.kind == "closed");
        if !is_fine {
            problems.push(format!("answer {allowed:?} expected, got {}", seen()));
        }
        let codes = case["codes"].as_array();
        if self.kind == "refused" && codes.zip(self.code).is_some_and(|(codes, code)| !codes.contains(&json!(code))) {
            problems.push(format!("code {} expected, got {}", case["codes"], seen()));
        }
        if let Some(text) = case["reply_contains"].as_str().filter(|text| !self.text.contains(*text)) {
            problems.push(format!("the reply lacks {text}: {}", seen()));
        }
        if let Some(text) = case["reply_never"].as_str().filter(|text| self.text.contains(*text)) {
            problems.push(format!("the reply holds {text}: {}", seen()));
        }
        let asked = serde_json::from_slice::<Value>(sent).ok().and_then(|message| message.get("id").cloned());
        if matches!(self.kind, "denied" | "result") && asked.is_some() && self.id != asked {
            problems.push(format!("the answer has another id than {asked:?}: {}", seen()));
        }
        problems
    }
}

fn shown(text: &str) -> String {
    text.chars().take(260).collect()
}

// ---------------------------------------------------------------- what a case did

/// What the gateway itself may send besides what the client asked for.
const OWN_METHODS: &[&str] =
    &["tools/list", "ping", "initialize", "notifications/initialized", "server/discover", "notifications/cancelled"];

fn reach_problems(case: &Value, reached: &[Value]) -> Vec<String> {
    let mut problems = Vec::new();
    let wanted = strings(case, "reaches");
    let tools: Vec<&str> = wanted.iter().chain(&strings(case, "may_reach")).copied().collect();
    let methods: Vec<&str> = ["reaches_methods", "may_reach_methods"].iter().flat_map(|key| strings(case, key)).collect();
    let calls = || reached.iter().filter(|entry| entry["t"] == "call");
    for call in calls().filter(|call| !tools.contains(&call["tool"].as_str().unwrap_or_default())) {
        problems.push(format!(
            "BYPASS: the upstream would run {} with {} (readings {})",
            call["tool"], call["arguments"], call["reading"]
        ));
    }
    for tool in &wanted {
        if !calls().any(|call| call["tool"] == *tool) {
            problems.push(format!("the allowed call of {tool} did not reach the upstream"));
        }
    }
    let raw = || reached.iter().filter(|entry| entry["t"] == "raw" && entry["b64"] != "");
    for entry in raw() {
        let seen: Vec<&str> = strings(entry, "methods");
        let known = |method: &&str| {
            OWN_METHODS.contains(method) || methods.contains(method) || (*method == "tools/call" && !tools.is_empty())
        };
        if seen.is_empty() || !seen.iter().all(known) {
            let bytes = support::bytes_of(entry);
            problems.push(format!("the upstream received {seen:?}: {}", shown(&String::from_utf8_lossy(&bytes))));
        }
        let bytes = support::bytes_of(entry);
        let never = case["never_raw"].as_str().filter(|_| entry["via"] == "stdio");
        if never.is_some_and(|text| String::from_utf8_lossy(&bytes).contains(text)) {
            problems.push(format!("{} reached the child unescaped", case["never_raw"]));
        }
        let headers = entry["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
        for name in headers.iter().filter_map(|header| header[0].as_str()) {
            if strings(case, "never_headers").contains(&name.to_ascii_lowercase().as_str()) {
                problems.push(format!("the header {name} reached the upstream"));
            }
        }
    }
    let has_text = |text: &str| raw().any(|entry| String::from_utf8_lossy(&support::bytes_of(entry)).contains(text));
    if let Some(text) = case["reaches_text"].as_str().filter(|text| !has_text(text)) {
        problems.push(format!("what reached the upstream lacks {text}"));
    }
    for method in strings(case, "reaches_methods") {
        if !raw().any(|entry| strings(entry, "methods").contains(&method)) {
            problems.push(format!("{method} did not reach the upstream"));
        }
    }
    problems
}

/// Every case of the corpus in one mode and revision.
fn check(mode: Mode, revision: &'static str) {
    let era = if is_modern(revision) { "modern" } else { "legacy" };
    let only = std::env::var("CALLGATE_CASE").unwrap_or_default();
    let mut cases: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for case in corpus() {
        let id = case["id"].as_str().expect("an id");
        let heavy = case["heavy"] == true && revision != LEGACY && revision != MODERN;
        let applies = mode.takes(&case) && names(&case, "revisions", revision) && !heavy;
        if applies && !case[era].is_null() && id.contains(&only) {
            for policy in strings(&case, "policies") {
                cases.entry(policy.to_owned()).or_default().push(case.clone());
            }
        }
    }
    let mut problems = Vec::new();
    let mut count = 0;
    for (policy, cases) in cases {
        let mut rig = Rig::new(mode, revision, &policy);
        let found: Vec<_> = cases.iter().map(|case| rig.judge(case)).collect();
        let (reached, recorded) = rig.finish();
        count += cases.len();
        for (number, case) in cases.iter().enumerate() {
            let mut found = found[number].clone();
            let none = Vec::new();
            found.extend(reach_problems(case, reached.get(&number).unwrap_or(&none)));
            if case["recorded"] != false && recorded.get(&number).is_none_or(Vec::is_empty) {
                found.push("no record in the audit log".to_owned());
            }
            let id = case["id"].as_str().expect("an id");
            problems.extend(found.into_iter().map(|problem| format!("{id} [{mode:?} {revision} {policy}] {problem}")));
        }
    }
    assert!(problems.is_empty(), "{} problems in {count} exchanges:\n{}", problems.len(), problems.join("\n"));
}

macro_rules! corpus {
    ($($name:ident: $mode:ident $revision:literal;)*) => {
        $(#[test] fn $name() { check(Mode::$mode, $revision); })*
    };
}

corpus! {
    nothing_slips_through_run_2024_11_05: Run "2024-11-05";
    nothing_slips_through_run_2025_03_26: Run "2025-03-26";
    nothing_slips_through_run_2025_06_18: Run "2025-06-18";
    nothing_slips_through_run_2025_11_25: Run "2025-11-25";
    nothing_slips_through_run_2026_07_28: Run "2026-07-28";
    nothing_slips_through_the_bridge_2025_03_26: Bridge "2025-03-26";
    nothing_slips_through_the_bridge_2025_11_25: Bridge "2025-11-25";
    nothing_slips_through_the_bridge_2026_07_28: Bridge "2026-07-28";
    nothing_slips_through_serve_2025_03_26: Serve "2025-03-26";
    nothing_slips_through_serve_2025_06_18: Serve "2025-06-18";
    nothing_slips_through_serve_2025_11_25: Serve "2025-11-25";
    nothing_slips_through_serve_2026_07_28: Serve "2026-07-28";
    nothing_slips_through_serve_with_a_child_2025_11_25: ServeChild "2025-11-25";
    nothing_slips_through_serve_with_a_child_2026_07_28: ServeChild "2026-07-28";
    nothing_slips_through_a_stream_to_a_child: Stream "2024-11-05";
    nothing_slips_through_a_stream_to_a_stream: StreamOld "2024-11-05";
    nothing_slips_through_the_bridge_to_a_stream: BridgeOld "2024-11-05";
}

// ---------------------------------------------------------------- sequences

#[test]
fn a_second_initialize_does_not_bring_batches_back() {
    let scratch = Scratch::new();
    let policy = root().join("tests/bypass/policies/closed.yaml");
    let mut client = Stdio::wrap(&policy, &scratch.state(), &[], &lenient(&scratch.log(), &["--stdio"]));
    client.begin(LEGACY);
    let params = json!({"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}});
    client.ask(LEGACY, "2", "initialize", params);
    client.send(format!("[{}]", call(LEGACY, "3", "delete_repo", json!({}))));
    client.call(LEGACY, "4", "sync_1", json!({}));
    assert_eq!(support::tools_run(&scratch.log()), ["sync_1"]);
}

#[test]
fn calls_need_no_handshake_to_be_judged() {
    for mode in [Mode::Run, Mode::Bridge] {
        let scratch = Scratch::new();
        let policy = root().join("tests/bypass/policies/closed.yaml");
        let upstream = HttpUpstream::start(&scratch.log(), &[]);
        let mut client = match mode {
            Mode::Run => Stdio::wrap(&policy, &scratch.state(), &[], &lenient(&scratch.log(), &["--stdio"])),
            _ => Stdio::bridge(&policy, &scratch.state(), &upstream.url()),
        };
        client.send(call(LEGACY, "1", "delete_repo", json!({})));
        let reply = client.reply("1");
        assert!(support::is_denied(&reply) || reply["error"].is_object(), "{mode:?}: {reply}");
        client.call(MODERN, "2", "sync_2", json!({}));
        assert_eq!(support::tools_run(&scratch.log()), ["sync_2"], "{mode:?}");
    }
}
