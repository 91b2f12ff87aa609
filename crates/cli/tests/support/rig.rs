//! A gateway with a policy in front of a server, to which the cases of the bypass corpus are sent one after the other.
//!
//! Between two cases stands a marker call `sync_N`, which is allowed and recorded. What stands between two markers, in the
//! server's log and in the audit log, is what a case did. What that may be is for the test files to say.

use super::corpus::{expand, names, strings};
use super::events::Events;
use super::http::{Client, Reply, exchange, mirrored};
use super::stdio::Stdio;
use super::{HttpUpstream, PATIENCE, Scratch, Served, call, entries, is_modern, root};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// stdio to a child.
    Run,
    /// stdio to HTTP.
    Bridge,
    /// HTTP to HTTP.
    Serve,
    /// HTTP to a child.
    ServeChild,
    /// HTTP to a child that all sessions share.
    Shared,
    /// HTTP+SSE of 2024-11-05 to a child.
    Stream,
    /// stdio to HTTP+SSE.
    BridgeOld,
    /// HTTP+SSE to HTTP+SSE.
    StreamOld,
    /// HTTP to a child, as one of many servers at one endpoint.
    Federated,
    /// stdio to a child that speaks the other era alone.
    CrossRun,
    /// HTTP to HTTP, where a server speaks the other era alone.
    CrossServe,
}

/// What the one server of [`Mode::Federated`] is called, and how names of its tools begin there.
const MEMBER: &str = "up";
const PREFIX: &str = "up__";
const TOKEN: &str = "a-token-of-the-tests-long-enough-to-be-one";

impl Mode {
    pub fn transport(self) -> &'static str {
        let over_lines = matches!(self, Mode::Run | Mode::Bridge | Mode::BridgeOld | Mode::CrossRun);
        if over_lines { "stdio" } else { "http" }
    }

    pub fn has_child(self) -> bool {
        matches!(self, Mode::Run | Mode::ServeChild | Mode::Shared | Mode::Stream | Mode::Federated | Mode::CrossRun)
    }

    /// Whether the client and the server speak different eras.
    pub fn crosses(self) -> bool {
        matches!(self, Mode::CrossRun | Mode::CrossServe)
    }

    /// The options of a server that is to stand behind the gateway in this mode, before clients of `revision`.
    pub fn server_options(self, revision: &str) -> Vec<&'static str> {
        let mut options = if self.has_child() { vec!["--stdio"] } else { vec!["--http", "0"] };
        if matches!(self, Mode::BridgeOld | Mode::StreamOld) {
            options.push("--old");
        }
        if self.crosses() {
            options.extend(["--era", if is_modern(revision) { "legacy" } else { "modern" }]);
        }
        options
    }

    /// How names of tools begin for clients.
    pub fn prefix(self) -> &'static str {
        if self == Mode::Federated { PREFIX } else { "" }
    }

    /// Whether a case says anything here: what streamable HTTP has by itself does not concern a stream and its posts.
    pub fn takes(self, case: &Value) -> bool {
        let door = ["content-type", "content-encoding", "origin"];
        let of_the_door = |name: &String| door.contains(&name.to_ascii_lowercase().as_str());
        let streams = matches!(self, Mode::Stream | Mode::StreamOld);
        let is_plain = case["raw"] != true && case["headers"].as_object().is_none_or(|names| names.keys().all(of_the_door));
        let of_many = self != Mode::Federated || is_for_many(case);
        names(case, "transports", self.transport()) && (!streams || is_plain) && of_many
    }
}

/// Whether a case says anything before many servers, where names begin with their server's and every request has a grant.
fn is_for_many(case: &Value) -> bool {
    let without = [
        // A body of exactly the longest length is longer with another name in it.
        "EV-082/limit",
        "EV-082/limit-minus-1",
        // Its name is not where it can be given a prefix: it names what no server has, which the header does not.
        "EV-004/escaped-name",
        // Its header names what no server has.
        "EV-066/right",
        // A method that nobody knows is not for many.
        "EV-031/extension-open",
    ];
    let own_grant = case["headers"].as_object().is_none_or(|headers| !headers.keys().any(|name| name == "Authorization"));
    own_grant && !without.contains(&case["id"].as_str().unwrap_or_default())
}

/// A server that can stand behind the gateway.
#[derive(Clone)]
pub struct Server {
    /// The program, and what it is always given.
    pub program: Vec<String>,
    /// The `t` of the entries of its log in which a tool is named.
    pub kind: &'static str,
}

impl Server {
    /// The stand-in, which logs every call that any careless reading would run.
    pub fn lenient() -> Server {
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = root().join("tests/upstreams/lenient.py").display().to_string();
        Server { program: vec![python, script], kind: "call" }
    }

    fn command(&self, log: &Path, options: &[&str]) -> Vec<String> {
        let log = ["--log".to_owned(), log.display().to_string()];
        self.program.iter().cloned().chain(log).chain(options.iter().map(|&option| option.to_owned())).collect()
    }
}

/// A client, and the gateway before it.
pub enum Channel {
    Stdio(Stdio),
    Http(Served, Client),
    Stream(Served, Events),
}

/// What a gateway is started with.
pub struct Setup<'s> {
    pub policy: &'s Path,
    pub state: &'s str,
    /// The command of a server that is a child, …
    pub child: &'s [String],
    /// … and the address of one that is not.
    pub url: &'s str,
}

impl Channel {
    /// Starts the gateway of a mode, and a client of `revision` that has begun.
    pub fn open(mode: Mode, revision: &str, scratch: &Scratch, setup: &Setup<'_>) -> Channel {
        let Setup { policy, state, child, url } = *setup;
        let lines = |mut client: Stdio| {
            client.begin(revision);
            Channel::Stdio(client)
        };
        let path = policy.display().to_string();
        match mode {
            Mode::Run | Mode::CrossRun => lines(Stdio::wrap(policy, state, &["--audit-args", "full"], child)),
            Mode::Bridge | Mode::BridgeOld => lines(Stdio::bridge(policy, state, url)),
            Mode::Federated => {
                let config = json!({
                    "listen": "127.0.0.1:0",
                    "state": state,
                    "audit": {"arguments": "full"},
                    "servers": {MEMBER: {"command": child, "policy": path, "pin": "off"}},
                    "grants": [{"name": "tests", "principal": "service:tests", "token": "file:token", "servers": [MEMBER]}],
                });
                scratch.write("token", TOKEN);
                let served = Served::configured(&scratch.write("callgate.yaml", config.to_string()), &[]);
                let client = Client::silent(&served.address, revision).at("/mcp", TOKEN).shake_hands();
                Channel::Http(served, client)
            }
            Mode::Serve | Mode::ServeChild | Mode::Shared | Mode::Stream | Mode::StreamOld | Mode::CrossServe => {
                let mut serve = vec!["-p", &path, "--state", state, "--audit-args", "full"];
                if mode == Mode::Shared {
                    serve.extend(["--isolation", "shared"]);
                }
                if mode.has_child() {
                    serve.push("--");
                    serve.extend(child.iter().map(String::as_str));
                } else {
                    serve.extend(["--upstream", url]);
                }
                let served = Served::start(&serve);
                if matches!(mode, Mode::Stream | Mode::StreamOld) {
                    let client = Events::begin(&served.address);
                    return Channel::Stream(served, client);
                }
                let client = Client::begin(&served.address, revision);
                Channel::Http(served, client)
            }
        }
    }
}

/// A gateway with one policy in front of a stand-in.
pub struct Rig {
    mode: Mode,
    revision: &'static str,
    server: Server,
    policy: PathBuf,
    scratch: Scratch,
    upstream: Option<HttpUpstream>,
    channel: Option<Channel>,
    markers: usize,
}

impl Rig {
    /// A gateway under one of `tests/bypass/policies`, in front of `server`.
    pub fn new(mode: Mode, revision: &'static str, policy: &str, server: Server) -> Rig {
        let scratch = Scratch::new();
        let command = server.command(&scratch.log(), &mode.server_options(revision));
        let upstream = (!mode.has_child()).then(|| HttpUpstream::start_command(command));
        let policy = root().join("tests/bypass/policies").join(policy).with_extension("yaml");
        let mut rig = Rig { mode, revision, server, policy, scratch, upstream, channel: None, markers: 0 };
        rig.start();
        rig
    }

    fn start(&mut self) {
        self.channel = None;
        let child = self.server.command(&self.scratch.log(), &self.mode.server_options(self.revision));
        let url = self.upstream.as_ref().map(HttpUpstream::url).unwrap_or_default();
        let setup = Setup { policy: &self.policy, state: &self.scratch.state(), child: &child, url: &url };
        let mut channel = Channel::open(self.mode, self.revision, &self.scratch, &setup);
        // A client lists the tools before it calls any: the gateway sees the schemas as they pass.
        match &mut channel {
            Channel::Stdio(client) => drop(client.ask(self.revision, "\"list\"", "tools/list", json!({}))),
            Channel::Http(_, client) => drop(client.ask("\"list\"", "tools/list", json!({})).reply("\"list\"")),
            Channel::Stream(_, client) => drop(client.ask("\"list\"", "tools/list", json!({}))),
        }
        self.channel = Some(channel);
    }

    /// Sends a case once for each name its headers may claim, and says what is wrong with the answers.
    pub fn judge(&mut self, case: &Value) -> Vec<String> {
        let era = if is_modern(self.revision) { "modern" } else { "legacy" };
        let bytes = self.spelt(expand(&case[era]));
        let prefix = self.mode.prefix();
        let mut problems = Vec::new();
        let mut channel = self.channel.take().expect("the channel is open");
        match &mut channel {
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
                    let named = mirror.map(|name| self.mirror(name, case));
                    let mirror = named.as_deref();
                    let request = http_request(case, &bytes, served, client, mirror);
                    let answer = Answer::of_http(exchange(&served.address, &request));
                    problems.extend(answer.problems(case, &bytes));
                }
                let tool = format!("{prefix}sync_{}", self.markers);
                let text = call(self.revision, "\"sync\"", &tool, json!({}));
                let reply = client.send(&client.headers("tools/call", Some(&tool)), text.as_bytes());
                if !reply.as_ref().is_some_and(|reply| reply.messages().iter().any(|message| message["id"] == "sync")) {
                    problems.push(format!("the next call was not answered: {reply:?}"));
                }
            }
        }
        self.channel = Some(channel);
        self.markers += 1;
        if problems.iter().any(|problem| problem.contains("next call")) {
            self.start();
        }
        problems
    }

    /// The `Mcp-Name` that a case says, as it is said in this mode.
    fn mirror(&self, name: &str, case: &Value) -> String {
        use base64::engine::{Engine, general_purpose::STANDARD};
        let names_tool = case["mirror_method"].as_str().is_none_or(|method| matches!(method, "tools/call" | "prompts/get"));
        if self.mode != Mode::Federated || !names_tool {
            return name.to_owned();
        }
        match name.strip_prefix("=?base64?").and_then(|rest| STANDARD.decode(rest.strip_suffix("?=")?).ok()) {
            Some(plain) => format!("=?base64?{}?=", STANDARD.encode([PREFIX.as_bytes(), &plain].concat())),
            None if name.starts_with("=?") => name.to_owned(),
            None => format!("{PREFIX}{name}"),
        }
    }

    /// A message as it is sent in this mode: tools have other names where there are many servers.
    fn spelt(&self, bytes: Vec<u8>) -> Vec<u8> {
        const NAME: &[u8] = br#""name":""#;
        if self.mode != Mode::Federated {
            return bytes;
        }
        let mut spelt = Vec::with_capacity(bytes.len());
        for (at, byte) in bytes.iter().enumerate() {
            spelt.push(*byte);
            if bytes[..=at].ends_with(NAME) {
                spelt.extend_from_slice(PREFIX.as_bytes());
            }
        }
        spelt
    }

    /// Ends the gateway and gives what each case did: what reached the upstream, and what was recorded.
    pub fn finish(mut self) -> (BTreeMap<usize, Vec<Value>>, BTreeMap<usize, Vec<Value>>) {
        match self.channel.take() {
            Some(Channel::Stdio(mut client)) => {
                client.close_stdin();
                client.ended(PATIENCE);
            }
            Some(Channel::Http(mut served, _) | Channel::Stream(mut served, _)) => {
                served.signal(rustix::process::Signal::TERM);
                super::ended(&mut served.child, PATIENCE);
            }
            None => {}
        }
        let reached = segments(entries(&self.scratch.log()), |entry| (entry["t"] == self.server.kind).then(|| &entry["tool"]));
        let recorded = segments(super::audit(&self.scratch.state()), |record| Some(&record["tool"]));
        super::assert_verified(&self.scratch.state());
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
        for (name, value) in
            client.headers("tools/call", None).iter().filter(|(name, _)| name.starts_with(['M', 'A']) && name != "Accept")
        {
            let _ = write!(session, "{name}: {value}\r\n");
        }
        let text = String::from_utf8_lossy(body);
        let text = text.replace("{{address}}", &served.address).replace("{{port}}", port);
        // In the stateless era the grant is all that a request needs besides.
        return match &client.token {
            Some(token) if !text.contains("{{session}}") => {
                text.replacen(" HTTP/1.1\r\n", &format!(" HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"), 1)
            }
            _ => text.replace("{{session}}", &session),
        }
        .into_bytes();
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
            _ if super::is_denied(&message) => "denied",
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

/// The beginning of a text.
pub fn shown(text: &str) -> String {
    text.chars().take(260).collect()
}
