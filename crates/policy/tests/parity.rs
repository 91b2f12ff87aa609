//! Policies of Intercept mean here what they mean there: the `eval` cases of the parity corpus, in which each states what is
//! wanted. Counters are in memory; calls run in order, at the times that they name.

#![allow(clippy::unwrap_used, reason = "helpers of tests are test code")]

mod common;

use common::{Counters, decide, load};
use serde_json::Value;
use std::path::Path;

#[test]
fn policies_of_intercept_decide_as_the_corpus_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpora/intercept-parity.json");
    let corpus: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let cases: Vec<&Value> = corpus["cases"].as_array().unwrap().iter().filter(|case| case["kind"] == "eval").collect();
    assert!(cases.len() > 40, "the corpus has shrunk to {}", cases.len());
    let (contradictory, cases): (Vec<&Value>, Vec<&Value>) = cases.into_iter().partition(|case| case["id"] == CONTRADICTORY);
    for case in contradictory {
        assert!(!failures(case).is_empty(), "the corpus has been mended: judge {CONTRADICTORY} like the rest");
    }
    let failures: Vec<String> = cases.into_iter().flat_map(failures).collect();
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

/// This case wants `/srv/test.txt` to contain `/tmp`, against `p030` to `p033` of the same corpus, where `contains` is a
/// substring. The path seems to have been changed without its policy; a missing `/tmp` goes on to deny.
const CONTRADICTORY: &str = "p068-stateless-allow";

fn failures(case: &Value) -> Vec<String> {
    let policy = load("policy.yaml", case["policy"].as_str().unwrap());
    let mut counters = Counters::default();
    let mut failures = Vec::new();
    for call in case["calls"].as_array().unwrap() {
        let tool = call["tool"].as_str().unwrap();
        // `arguments_text` where a reader would change the number.
        let arguments =
            call["arguments_text"].as_str().map(str::to_owned).or_else(|| call.get("arguments").map(Value::to_string));
        let at = call["at"].as_str().unwrap().parse().unwrap();
        for _ in 0..call["repeat"].as_u64().unwrap_or(1) {
            let decision = decide(&mut counters, &policy, tool, arguments.as_deref(), at);
            let expected = &call["expect"];
            let text = |key: &str| expected[key].as_str();
            let message = decision.message.as_deref().unwrap_or_default();
            let met = text("outcome") == Some(decision.outcome.as_str())
                && text("rule").is_none_or(|rule| decision.rule.as_deref().is_some_and(|ours| ours.contains(rule)))
                && text("message").is_none_or(|expected| message == expected)
                && text("message_contains").is_none_or(|part| message.contains(part));
            if !met {
                failures.push(format!("{}: {call}\n  gave {}", case["id"], decision.to_json()));
            }
        }
    }
    failures
}
