//! Whole policies, and what calls under them are answered, in the order of the calls.

#![allow(clippy::unwrap_used, reason = "helpers of tests are test code")]

mod common;

use common::{Counters, decide, load};

/// Each call is `seconds tool arguments => outcome reason [rule]`; seconds count from 10:00 on a Thursday.
#[track_caller]
fn check(name: &str, policy: &str, calls: &[&str]) {
    let policy = load(name, policy);
    let mut counters = Counters::default();
    for line in calls {
        let (call, expected) = line.split_once(" => ").unwrap();
        let [seconds, tool, arguments] = call.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let start: jiff::Timestamp = "2026-01-15T10:00:00Z".parse().unwrap();
        let at = start + jiff::SignedDuration::from_secs(seconds.parse().unwrap());
        let decision = decide(&mut counters, &policy, tool, Some(arguments), at);
        let rule = decision.rule.as_deref().map(|rule| format!(" {rule}")).unwrap_or_default();
        let answer = format!("{} {}{rule}", decision.outcome, decision.reason);
        assert_eq!(answer, expected, "{line}\n{}", decision.to_json());
    }
}

#[test]
fn ten_a_minute_slide_and_the_eleventh_waits() {
    let policy = r#"{"version":"1","default":"deny","tools":{"t":{"limits":[{"counter":"c","window":"minute","max":10,"scope":"grant"}]}}}"#;
    let mut calls: Vec<String> = (0..10).map(|i| format!("{} t {{}} => allow allowed", 50 + i)).collect();
    let refused = "t {} => deny limit-reached /tools/t/limits/c";
    calls.extend([
        format!("60 {refused}"),
        format!("110 {refused}"),
        "111 t {} => allow allowed".to_owned(),
        format!("111 {refused}"),
    ]);
    check("policy.json", policy, &calls.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn one_bad_element_is_enough_to_refuse_and_all_must_be_good_to_pass() {
    check(
        "policy.json",
        r#"{"version":"1","default":"deny","tools":{
            "pay":{"deny_if":[{"conditions":[{"path":"args.items[*].amount","op":"gt","value":100}]}]},
            "send":{"require":[{"conditions":[{"path":"args.to[*]","op":"in","value":["a","b"]}]}]},
            "total":{"require":[{"conditions":[{"path":"args.items[*].amount","op":"lte","value":100,"quantifier":"sum"}]}]}}}"#,
        &[
            r#"0 pay {"items":[{"amount":1},{"amount":100}]} => allow allowed"#,
            r#"0 pay {"items":[{"amount":1},{"amount":101}]} => deny condition-matched /tools/pay/deny_if/args.items[*].amount-gt"#,
            r#"0 pay {"items":[{"amount":"101"}]} => deny rule-error /tools/pay/deny_if/args.items[*].amount-gt"#,
            r#"0 send {"to":["a","b"]} => allow allowed"#,
            r#"0 send {"to":["a","c"]} => deny condition-failed /tools/send/require/args.to[*]-in"#,
            r#"0 send {"to":[]} => deny condition-failed /tools/send/require/args.to[*]-in"#,
            r#"0 send {} => deny condition-failed /tools/send/require/args.to[*]-in"#,
            r#"0 total {"items":[{"amount":60},{"amount":40}]} => allow allowed"#,
            r#"0 total {"items":[{"amount":60},{"amount":40.01}]} => deny condition-failed /tools/total/require/args.items[*].amount-lte"#,
            r#"0 total {"items":[{"amount":600},{"amount":-540}]} => deny bad-amount /tools/total/require/args.items[*].amount-lte"#,
        ],
    );
}

#[test]
fn spending_is_bounded_for_each_call_and_each_day() {
    check(
        "policy.yaml",
        "version: \"1\"\ntools:\n  image:\n    rules:\n      - {name: budget, spend: {per_call: 0.50, daily: 1.00}}\n",
        &[
            r#"0 image {"amount":0.5} => allow allowed"#,
            r#"1 image {"amount":0.500001} => deny condition-failed budget"#,
            r#"2 image {"amount":-1} => deny bad-amount budget"#,
            r#"3 image {} => deny bad-amount budget"#,
            r#"3 image {"amount":"0.1"} => deny bad-amount budget"#,
            r#"4 image {"amount":0.4} => allow allowed"#,
            r#"5 image {"amount":0.2} => deny limit-reached budget"#,
            r#"6 image {"amount":0.1} => allow allowed"#,
            r#"7 image {"amount":0} => allow allowed"#,
            r#"50400 image {"amount":0.5} => allow allowed"#,
        ],
    );
}

#[test]
fn several_limits_take_all_or_nothing() {
    check(
        "policy.json",
        r#"{"version":"1","default":"deny",
            "all_tools":{"limits":[{"counter":"calls","window":"hour","max":3}]},
            "tools":{"a":{"limits":[{"counter":"c","window":"hour","max":1}]},"b":{}}}"#,
        &[
            "0 a {} => allow allowed",
            "1 a {} => deny limit-reached /tools/a/limits/c",
            "2 a {} => deny limit-reached /tools/a/limits/c",
            "3 c {} => deny default-deny (default deny)",
            "4 b {} => allow allowed",
            "5 b {} => allow allowed",
            "6 b {} => deny limit-reached /all_tools/limits/calls",
        ],
    );
}

#[test]
fn a_batch_weighs_what_it_holds() {
    check(
        "policy.yaml",
        "version: \"1\"\ntools:\n  run:\n    limits: [{counter: n, window: hour, max: 5, weight: args.commands.length}]\n",
        &[
            r#"0 run {"commands":["a","b","c"]} => allow allowed"#,
            r#"1 run {"commands":["a","b","c"]} => deny limit-reached /tools/run/limits/n"#,
            r#"2 run {"commands":["a","b"]} => allow allowed"#,
            r#"3 run {} => deny bad-amount /tools/run/limits/n"#,
        ],
    );
}
