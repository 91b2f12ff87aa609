//! The parts that compute, by themselves: reading a message, judging a call, filtering a list.
//!
//! Each figure is the least of many rounds, because whatever disturbs a round only ever makes it longer.

use crate::wire::{Era, FIRST_ID, What, line, tools};
use bytes::Bytes;
use jiff::Timestamp;
use mcp::{Message, Side};
use policy::{Call, Policy, Schema, Source};
use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

/// One part and what it takes.
#[derive(Clone, Debug)]
pub struct Part {
    pub what: String,
    pub nanos: f64,
}

/// Measures all of them.
pub fn all(quick: bool) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut add = |what: String, nanos: f64| {
        eprintln!("{what}: {nanos:.0} ns");
        parts.push(Part { what, nanos });
    };
    for era in [Era::Legacy, Era::Modern] {
        let mut text = Vec::new();
        line(era, What::Call).write(FIRST_ID, &mut text);
        let text = Bytes::from(text);
        let read = least(quick, 2_000, || drop(black_box(Message::parse(text.clone(), Side::Client))));
        add(format!("reading a call of {} bytes, {} era", text.len(), era.as_str()), read);
    }
    for rules in [1, 5, 20] {
        for tools in [10, 100, 1_000, 10_000] {
            let policy = policy(rules, tools);
            let text = r#"{"city":"Reykjavik","days":3,"unit":"metric"}"#;
            let arguments = json::Document::parse(text, json::Strictness::Request).expect("arguments are JSON");
            let name = format!("tool_{}", tools / 2);
            let (schema, at) = (Schema::Unknown, Timestamp::UNIX_EPOCH);
            let call = Call { tool: &name, arguments: Some(arguments.root()), schema, class: None, at, explained: false };
            assert_eq!(policy.evaluate(&call).decision.outcome, policy::Outcome::Allow, "the call is let through");
            let judged = least(quick, 500, || drop(black_box(policy.evaluate(black_box(&call)))));
            add(format!("judging a call: {rules} rules for the tool, {tools} tools"), judged);
        }
    }
    let list = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{}}}}}"#, tools(2_000_000));
    let list = Bytes::from(list);
    let read = least(quick, 3, || drop(black_box(Message::parse(list.clone(), Side::Server))));
    add(format!("reading a list of {} bytes", list.len()), read);
    let message = Message::parse(list, Side::Server).expect("the list is a message");
    let filtered = least(quick, 3, || {
        let kept = mcp::tools::filter(&message, |tool| !tool.name.ends_with('7'));
        drop(black_box(kept));
    });
    add("filtering it, one tool in ten taken out".to_owned(), filtered);
    parts
}

/// So many tools with a rule each, and so many rules for the one in the middle: conditions, and one limit of calls.
fn policy(rules: usize, tools: usize) -> Policy {
    let mut text = "version: \"1\"\ntools:\n".to_owned();
    for tool in 0..tools {
        let _ = writeln!(text, "  tool_{tool}:\n    rules:");
        for rule in 0..if tool == tools / 2 { rules } else { 1 } {
            let _ = match rule {
                1 => writeln!(text, "      - {{name: r{rule}, rate_limit: 1000/hour}}"),
                rule if rule % 3 == 0 => {
                    writeln!(text, "      - {{name: r{rule}, conditions: [{{path: args.city, op: neq, value: City{rule}}}]}}")
                }
                rule if rule % 3 == 1 => {
                    writeln!(text, "      - {{name: r{rule}, conditions: [{{path: args.days, op: lte, value: {}}}]}}", rule + 10)
                }
                _ => writeln!(
                    text,
                    "      - {{name: r{rule}, conditions: [{{path: args.unit, op: in, value: [metric, imperial]}}]}}"
                ),
            };
        }
    }
    let loaded = policy::load(&Source { name: "bench".into(), text: text.into_bytes() });
    loaded.policy.unwrap_or_else(|| panic!("the policy of the benchmark has mistakes: {:?}", loaded.problems.first()))
}

/// The least time that `work` took, in nanoseconds, over rounds of so many times each.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn least(quick: bool, times: u32, mut work: impl FnMut()) -> f64 {
    let rounds = if quick { 2 } else { 60 };
    let mut least = f64::MAX;
    for _ in 0..rounds {
        let began = Instant::now();
        for _ in 0..times {
            work();
        }
        least = least.min(began.elapsed().as_nanos() as f64 / f64::from(times));
    }
    least
}
