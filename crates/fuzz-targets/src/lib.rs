//! What is fuzzed: a function for each parser that an adversary can reach.
//!
//! Each takes arbitrary bytes and panics when a promise is broken. Coverage-guided runs call them from `fuzz_targets/`; the
//! tests of this crate call them with random and with slightly spoilt inputs, on stable.

use bytes::Bytes;
use json::{Document, Kind, Strictness, Value};
use mcp::{Id, Message, Side, ToolCall};
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
        && let Ok(filtered) = mcp::tools::filter(&reply, |tool| tool.name.len() % 2 == 0, true)
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
        let call = || Call { tool, arguments: Some(document.root()), schema: Schema::Unjudged, at: jiff::Timestamp::UNIX_EPOCH };
        let plan = policy.evaluate(&call());
        assert_eq!(plan.decision, policy.evaluate(&call()).decision, "the same call, the same decision");
        if plan.decision.outcome == Outcome::Deny {
            assert!(plan.decision.message.is_some() && plan.charges.is_empty());
        }
        if !policy.lists(tool) {
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
