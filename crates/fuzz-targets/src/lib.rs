//! What is fuzzed: a function for each parser that an adversary can reach.
//!
//! Each takes arbitrary bytes and panics when a promise is broken. Coverage-guided runs call them from `fuzz_targets/`; the
//! tests of this crate call them with random and with slightly spoilt inputs, on stable.

mod operators;
mod results;

pub use operators::{allowed_command, cidr_in, command_in, host_in, path_within, sql_statement_in};
pub use results::results;

use bytes::Bytes;
use catalogue::Lock;
use http::{HeaderMap, HeaderName, HeaderValue};
use json::{Document, Kind, Strictness, Value};
use mcp::bridge::{Client, Step, ToLegacy, ToModern};
use mcp::federation::{self, Claims, Cursor, ListKind, Part, Target};
use mcp::framing::Lines;
use mcp::headers::{self, Mirrored};
use mcp::{Id, Message, Revision, Side, ToolCall, sse};
use policy::{Call, Outcome, Schema, Source};
use std::sync::LazyLock;

/// The strict JSON reader: whatever it accepts, another strict reader accepts too; its views lie within their parents; and
/// the canonical text means the same.
pub fn members(data: &[u8]) {
    let strict = Document::parse(data.to_vec(), Strictness::Request);
    let lenient = Document::parse(data.to_vec(), Strictness::Reply);
    if let Ok(document) = &strict {
        assert!(lenient.is_ok(), "what is strict is lenient too");
        assert!(serde_json::from_slice::<serde_json::Value>(data).is_ok(), "another reader refuses what we accept");
        walk(document.root());
        let canonical = document.root().canonical();
        // Leniently: the longest numbers are longer still in their canonical spelling.
        let again = Document::parse(canonical.clone(), Strictness::Reply).expect("the canonical text is JSON");
        assert_eq!(again.root().canonical(), canonical);
    }
    if let Ok(document) = &lenient {
        walk(document.root());
    }
}

fn walk(value: Value<'_>) {
    let outer = value.span();
    let inside = |inner: std::ops::Range<usize>| assert!(outer.start <= inner.start && inner.end <= outer.end);
    for member in value.members().into_iter().flatten() {
        inside(member.key_span);
        inside(member.value.span());
        walk(member.value);
    }
    for element in value.elements().into_iter().flatten() {
        inside(element.span());
        walk(element);
    }
    if value.kind() == Kind::String {
        assert!(value.as_str().is_some());
    }
}

/// The message reader and what is done to a message's text: exchanging the id and making it a line change nothing else.
pub fn message(data: &[u8]) {
    if let Ok(message) = Message::parse(data.to_vec(), Side::Client) {
        let line = Message::for_line(message.text());
        assert!(!line.contains(&b'\n') && !line.contains(&b'\r'), "a line holds no line end");
        let as_line = Message::parse(line, Side::Client).expect("a message is a message as a line too");
        assert_eq!(meaning(&as_line), meaning(&message));
        let renumbered = Message::parse(message.with_id(&Id::from(7)), Side::Client).expect("another id makes no other message");
        assert_eq!(renumbered.method(), message.method());
        assert_eq!(
            renumbered.params().map(|params| params.raw().to_owned()),
            message.params().map(|params| params.raw().to_owned())
        );
        if let Ok(call) = ToolCall::of(&message) {
            assert!(!call.name.is_empty() && !call.name.chars().any(char::is_control));
        }
    }
    if let Ok(reply) = Message::parse(data.to_vec(), Side::Server)
        && let Ok(filtered) = mcp::tools::filter(&reply, |tool| tool.name.len() % 2 == 0)
        && reply.result().is_some()
    {
        let filtered = Message::parse(filtered.text, Side::Server).expect("a filtered list is still a message");
        let tools = filtered.result().and_then(|result| result.get("tools")).and_then(Value::elements);
        for tool in tools.into_iter().flatten() {
            assert!(tool.get("name").and_then(Value::as_str).is_some_and(|name| name.len() % 2 == 0), "a hidden tool is listed");
        }
    }
}

fn meaning(message: &Message) -> String {
    message.document().root().canonical()
}

/// The framing of stdio: however the stream is cut, the same lines; each without a line feed and no longer than allowed, and
/// one error for each line that is longer.
pub fn lines(data: &[u8]) {
    let (choice, stream) = data.split_first().unwrap_or((&0, b""));
    let max_bytes = usize::from(*choice % 64);
    let whole = read_lines([stream], max_bytes);
    assert_eq!(read_lines(stream.chunks(1), max_bytes), whole);
    assert_eq!(read_lines(stream.chunks(usize::from(*choice) + 1), max_bytes), whole);
    // The oracle: cut at every line feed, take one CR off, leave out what is blank.
    let plain: Vec<Option<&[u8]>> = stream
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| line.len() > max_bytes || !line.iter().all(u8::is_ascii_whitespace))
        .map(|line| Some(line).filter(|line| line.len() <= max_bytes))
        .collect();
    assert_eq!(whole.iter().map(|line| line.as_deref().ok()).collect::<Vec<_>>(), plain);
}

fn read_lines<'c>(chunks: impl IntoIterator<Item = &'c [u8]>, max_bytes: usize) -> Vec<Result<Bytes, mcp::framing::TooLong>> {
    let mut lines = Lines::new(max_bytes);
    let mut out = Vec::new();
    for chunk in chunks {
        lines.push(chunk);
        out.extend(std::iter::from_fn(|| lines.next_line()));
    }
    out.extend(lines.finish());
    out
}

/// The event streams: however the stream is cut, the same events; their originals are the stream; and what is encoded anew
/// reads back as what it was.
pub fn events(data: &[u8]) {
    let (choice, stream) = data.split_first().unwrap_or((&0, b""));
    let max_bytes = 16 + usize::from(*choice);
    let whole = read_events([stream], max_bytes);
    assert_eq!(read_events(stream.chunks(1), max_bytes), whole);
    assert_eq!(read_events(stream.chunks(usize::from(*choice) + 1), max_bytes), whole);
    let originals: Vec<u8> = whole.iter().flatten().flat_map(|event| event.original.iter().copied()).collect();
    assert!(stream.starts_with(&originals), "an event's original is its part of the stream");
    for event in whole.iter().flatten() {
        assert!(event.original.len() <= max_bytes);
        let Some(data) = event.message() else { continue };
        let encoded = sse::encode(data, event.id.as_deref(), event.name.as_deref());
        let again = read_events([&encoded[..]], encoded.len());
        let [Ok(again)] = &again[..] else { panic!("one event, encoded, is {} events", again.len()) };
        assert_eq!((again.message(), &again.id, &again.name), (Some(data), &event.id, &event.name));
    }
}

fn read_events<'c>(chunks: impl IntoIterator<Item = &'c [u8]>, max_bytes: usize) -> Vec<Result<sse::Event, sse::TooLarge>> {
    let mut decoder = sse::Decoder::new(max_bytes);
    let mut out = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        out.extend(std::iter::from_fn(|| decoder.next_event()));
    }
    out.extend(decoder.finish());
    out
}

/// The header codec: every text survives it; what a client sends for a message agrees with the message; and headers pass
/// only beside a body that says the same.
///
/// The input is header lines, a blank line, and a message.
pub fn header_codec(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert_eq!(headers::decode(headers::encode(&text).to_str().expect("visible ASCII")).as_deref(), Ok(&*text));
    let (head, body) = text.split_once("\n\n").unwrap_or(("", &text));
    let Ok(message) = Message::parse(body.to_owned(), Side::Client) else { return };
    for mirrored in [None, Some(&*MIRRORED)] {
        // What a careful client sends is never refused, unless the message itself lacks what it must have, or its method is
        // one that no header carries.
        let mut own = HeaderMap::new();
        let modern = message.protocol_version().as_deref() == Some(Revision::V2026_07_28.as_str());
        if modern && message.method().is_none_or(|method| headers::encode(method) == method) {
            for (name, value) in headers::for_request(&message, Revision::V2026_07_28, mirrored) {
                own.append(name, value);
            }
            if let Err(refusal) = headers::check_request(&own, &message, mirrored) {
                assert_ne!(refusal.code, mcp::reply::HEADER_MISMATCH, "our own headers are refused: {refusal}");
            }
        }
        let mut sent = HeaderMap::new();
        for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                sent.append(name, value);
            }
        }
        if headers::check_request(&sent, &message, mirrored) == Ok(Revision::V2026_07_28)
            && message.method() == Some("tools/call")
        {
            let name = message.params().and_then(|params| params.get("name")).and_then(Value::as_str);
            let header =
                sent.get(headers::NAME).and_then(|value| value.to_str().ok()).and_then(|value| headers::decode(value).ok());
            assert!(name.is_none() || message.id().is_none() || name == header, "a header that names another tool passes");
            assert!(sent.get_all(headers::NAME).iter().count() <= 1 && sent.get_all(headers::METHOD).iter().count() <= 1);
        }
    }
}

static MIRRORED: LazyLock<Mirrored> = LazyLock::new(|| {
    let schema = r#"{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},
        "count":{"type":"integer","x-mcp-header":"Count"},"fast":{"type":"boolean","x-mcp-header":"Fast"}}}"#;
    let schema = Document::parse(schema, Strictness::Reply).expect("the schema is JSON");
    Mirrored::of(schema.root()).expect("its annotations are valid")
});

/// The bridge between the eras: whatever both sides say, in whatever order, what comes out are messages of their side; a call
/// that reaches the server is one of the client's, with its name and arguments byte for byte; and nothing of the bridge's own
/// is a call.
///
/// The input is lines: `c` and what the client says, `s` and what the server says, anything else for a second that passes.
pub fn bridge(data: &[u8]) {
    let script: Vec<&[u8]> = data.split(|byte| *byte == b'\n').take(64).collect();
    let mut states = 0;
    let mint = move || {
        states += 1;
        Some(format!("state-{states}"))
    };
    let mut to_legacy = ToLegacy::new(Client::unable(), Box::new(mint));
    let hello = to_legacy.begin();
    let [Step::Say(hello)] = &hello[..] else { panic!("a handshake begins with one request") };
    let hello = Message::parse(hello.clone(), Side::Client).expect("the handshake is a message");
    let id = hello.id().expect("it is a request");
    let agreed = format!(
        r#"{{"jsonrpc":"2.0","id":{},"result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}},"resources":{{"subscribe":true}}}},"serverInfo":{{"name":"s","version":"1"}}}}}}"#,
        id.text()
    );
    to_legacy.server(&Message::parse(agreed, Side::Server).expect("a message"), 0);
    assert!(to_legacy.is_ready());
    play(&script, &mut |said, now| match said {
        Said::Client(message) => to_legacy.client(message, now),
        Said::Server(message) => to_legacy.server(message, now),
        Said::Nothing => to_legacy.tick(now),
    });

    let discovered = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true}},"ttlMs":0,"cacheScope":"private"}}"#;
    let mut to_modern = ToModern::new(Message::parse(discovered, Side::Server).expect("a message"));
    play(&script, &mut |said, now| match said {
        Said::Client(message) => to_modern.client(message),
        Said::Server(message) => to_modern.server(message, now),
        Said::Nothing => to_modern.tick(now),
    });
}

enum Said<'m> {
    Client(&'m Message),
    Server(&'m Message),
    Nothing,
}

fn play(script: &[&[u8]], translator: &mut dyn FnMut(Said<'_>, u64) -> Vec<Step>) {
    let mut calls: Vec<(String, Option<String>)> = Vec::new();
    let mut now = 0;
    for line in script {
        let message = |side| Message::parse(line[1..].to_vec(), side);
        let steps = match line.first() {
            Some(b'c') => {
                let Ok(message) = message(Side::Client) else { continue };
                // What is no proper call is refused before it comes to the bridge.
                if message.method() == Some("tools/call") {
                    let Ok(call) = ToolCall::of(&message) else { continue };
                    calls.push((call.name.to_string(), arguments(&message)));
                }
                translator(Said::Client(&message), now)
            }
            Some(b's') => match message(Side::Server) {
                Ok(message) => translator(Said::Server(&message), now),
                Err(_) => continue,
            },
            _ => {
                now += 1_000;
                translator(Said::Nothing, now)
            }
        };
        for step in &steps {
            match step {
                Step::Forward(text) | Step::Again { text, .. } => {
                    let sent = Message::parse(text.clone(), Side::Client).expect("what goes to the server is a message");
                    if sent.method() == Some("tools/call") {
                        let call = ToolCall::of(&sent).expect("a call that is sent is a proper one");
                        let call = (call.name.to_string(), arguments(&sent));
                        assert!(calls.contains(&call), "a call that the client has not made: {call:?}");
                    }
                }
                Step::Say(text) | Step::Close { text, .. } => {
                    let said = Message::parse(text.clone(), Side::Client).expect("what the bridge says is a message");
                    assert_ne!(said.method(), Some("tools/call"), "the bridge calls by itself");
                }
                Step::Deliver(text) | Step::Beside { text, .. } => {
                    Message::parse(text.clone(), Side::Server).expect("what goes to the client is a message");
                }
            }
        }
    }
}

fn arguments(message: &Message) -> Option<String> {
    Some(message.params()?.get("arguments")?.raw().to_owned())
}

/// The policy reader, in every dialect: a policy or at least one error, and every problem can be shown.
pub fn policy(data: &[u8]) {
    let source = Source { name: "fuzz.yaml".into(), text: data.to_vec() };
    let loaded = policy::load(&source);
    let has_errors = loaded.problems.iter().any(|problem| problem.severity == policy::Severity::Error);
    assert_eq!(loaded.policy.is_none(), has_errors, "no policy exactly when there are errors");
    for problem in &loaded.problems {
        assert!(problem.line >= 1 && problem.column >= 1);
        problem.render(&source, false);
        assert!(Document::parse(problem.to_json(), Strictness::Request).is_ok());
    }
}

/// The decision: the same every time, never silent when it denies, and never an allow of what is hidden or unlisted.
pub fn evaluate(data: &[u8]) {
    let (choice, arguments) = data.split_first().unwrap_or((&0, b"{}"));
    let Ok(document) = Document::parse(Bytes::copy_from_slice(arguments), Strictness::Request) else { return };
    if document.root().kind() != Kind::Object {
        return;
    }
    let tool = TOOLS[usize::from(*choice) % TOOLS.len()];
    for policy in POLICIES.iter() {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let arguments = Some(document.root());
        let class = policy::RiskClass::ALL.get(usize::from(*choice) / TOOLS.len()).copied();
        let call = || Call { tool, arguments, schema: Schema::Unjudged, class, at, explained: true };
        let plan = policy.evaluate(&call());
        assert_eq!(plan.decision, policy.evaluate(&call()).decision, "the same call, the same decision");
        if plan.decision.outcome == Outcome::Deny {
            assert!(plan.decision.message.is_some() && plan.charges.is_empty());
        }
        if !policy.lists(tool, class) {
            assert_eq!(plan.decision.outcome, Outcome::Deny, "what is not listed is not callable");
        }
    }
}

const TOOLS: [&str; 5] = ["pay", "delete_all", "read", "run", "*"];

static POLICIES: LazyLock<Vec<policy::Policy>> = LazyLock::new(|| {
    let texts: [&str; 2] = [include_str!("../policies/every-check.yaml"), include_str!("../policies/every-check.json")];
    texts
        .iter()
        .map(|text| {
            let loaded = policy::load(&Source { name: "every-check".into(), text: text.as_bytes().to_vec() });
            loaded.policy.unwrap_or_else(|| panic!("the fuzzed policy has mistakes: {:?}", loaded.problems))
        })
        .collect()
});

/// Many servers as one: of a request only the prefix of its name is taken off; what is listed leads back to who has listed it,
/// and to nobody where two have.
pub fn federation(data: &[u8]) {
    if let Ok(message) = Message::parse(data.to_vec(), Side::Client)
        && let Target::Name(name) = Target::of(&message)
        && let Some((server, own)) = federation::split(&name)
    {
        let text = federation::own_name(&message, server).finish();
        let inner = Message::parse(text, Side::Client).expect("a request under a server's own name is one");
        assert_eq!(Target::of(&inner), Target::Name(own.into()));
        let says = |message: &Message, key: &str| {
            message.params().and_then(|params| params.get(key)).map(|value| value.raw().to_owned())
        };
        for key in ["arguments", "argument", "_meta", "requestState", "inputResponses", "task"] {
            assert_eq!(says(&inner, key), says(&message, key), "{key} has changed");
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        for kind in ListKind::ALL {
            // A seal that cannot stand in a cursor.
            assert!(Cursor::open(kind, text, |_| Some("a.b".to_owned())).is_none());
        }
    }
    let Ok(reply) = Message::parse(data.to_vec(), Side::Server) else { return };
    for kind in ListKind::ALL {
        let parts = ["a", "b"].map(|server| Part { server: server.into(), reply: reply.clone(), first: true });
        let merged = federation::merge(kind, &parts, &mut Claims::default(), true, true);
        let page = Document::parse(format!("{{{}}}", merged.members), Strictness::Reply).expect("a merged page is JSON");
        let list = page.root().members().and_then(|mut members| members.next()).and_then(|list| list.value.elements());
        let mut names = std::collections::HashSet::new();
        for element in list.expect("a page is a list") {
            // Both have listed it.
            assert!(matches!(kind, ListKind::Tools | ListKind::Prompts), "two servers have one resource");
            let name = element.get("name").and_then(Value::as_str).expect("what is listed has a name");
            assert!(federation::split(&name).is_some_and(|(server, _)| matches!(server, "a" | "b")));
            assert!(names.insert(name), "one name stands twice");
        }
    }
}

/// The lock file: what was read says the same once it is written, and nothing hides in what is written; whatever two
/// definitions hold, there is something to say of their difference, and of one and itself there is not.
pub fn lock_file(data: &[u8]) {
    let Ok(lock) = Lock::parse(data) else { return };
    let text = lock.render();
    assert!(text.lines().all(|line| catalogue::first_hidden(line).is_none()), "something hides in what is written");
    assert_eq!(Lock::parse(text.as_bytes()).as_ref(), Ok(&lock), "what was written is another lock file");
    for tools in lock.servers.values().filter_map(|pinned| pinned.tools.as_ref()) {
        let read = |text: &String| Document::parse(text.clone(), Strictness::Reply).expect("a pinned definition is JSON");
        let tools: Vec<Document> = tools.values().map(read).collect();
        for (old, new) in tools.iter().zip(tools.iter().skip(1)) {
            assert!(!catalogue::tool_changes(old.root(), new.root()).is_empty(), "two names are no difference");
        }
        assert!(tools.iter().all(|tool| catalogue::tool_changes(tool.root(), tool.root()).is_empty()));
    }
}
