//! What loads, and is probably not what is meant.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use policy::{Loaded, Severity, Source, load};

#[track_caller]
fn warnings(text: &str) -> Vec<(u32, String)> {
    let name = if text.trim_start().starts_with('{') { "p.json" } else { "p.yaml" };
    let source = Source::new(name, text);
    let loaded: Loaded = load(&source);
    let rendered: String = loaded.problems.iter().map(|problem| problem.render(&source, false)).collect();
    assert!(loaded.policy.is_some(), "{text}\n{rendered}");
    assert!(loaded.problems.iter().all(|problem| problem.severity == Severity::Warning));
    let whole = |problem: &policy::Problem| format!("{} {}", problem.message, problem.help.clone().unwrap_or_default());
    loaded.problems.iter().map(|problem| (problem.line, whole(problem))).collect()
}

#[track_caller]
fn warns(text: &str, line: u32, part: &str) {
    let found = warnings(text);
    assert!(found.iter().any(|(at, message)| *at == line && message.contains(part)), "no `{part}` in line {line}: {found:#?}");
}

#[track_caller]
fn silent(text: &str) {
    assert_eq!(warnings(text), [], "{text}");
}

/// The rules of a tool under `default: allow`, the first of them in line 5.
fn rules(lines: &[&str]) -> String {
    let rules: String = lines.iter().map(|line| format!("      - {line}\n")).collect();
    format!("version: \"1\"\ntools:\n  t:\n    rules:\n{rules}")
}

#[test]
fn a_file_without_a_version_is_told_the_line_to_add() {
    warns("default: deny\ntools: {t: {}}\n", 1, "add `version: \"1\"` as the first line");
}

#[test]
fn a_policy_that_allows_everything_says_so() {
    warns("version: \"1\"\n", 1, "allows every call");
    warns("version: \"1\"\ndefault: allow\ntools: {}\n", 2, "allows every call");
    warns("version: \"1\"\ntools: {t: {rules: [{action: allow}]}}\n", 1, "allows every call");
    warns("version: \"1\"\nmode: shadow\ndefault: deny\ntools: {t: {}}\n", 3, "shadow mode");
    silent("version: \"1\"\nhide: [t]\n");
}

#[test]
fn a_policy_that_denies_everything_says_so() {
    warns("version: \"1\"\ndefault: deny\n", 2, "every call is denied");
    warns("version: \"1\"\ndefault: deny\ntools: {}\n", 2, "every call is denied");
    warns("version: \"1\"\nhide: [\"*\"]\n", 2, "every tool is hidden");
    warns("version: \"1\"\ntools:\n  \"*\":\n    rules:\n      - action: deny\n", 5, "every tool");
}

#[test]
fn a_wildcard_does_not_rescue_under_default_deny() {
    warns("version: \"1\"\ndefault: deny\ntools:\n  \"*\": {rules: [{rate_limit: 5/hour}]}\n", 4, "lists no tool");
    warns("version: \"1\"\ndefault: deny\ntools:\n  t: {}\n  \"*\": {rules: [{action: allow}]}\n", 5, "lists no tool");
    silent("version: \"1\"\ndefault: deny\ntools:\n  t: {}\n  \"*\": {rules: [{rate_limit: 5/hour}]}\n");
}

#[test]
fn rules_after_an_unconditional_deny_are_shadowed() {
    warns(&rules(&["{name: no, action: deny}", "{name: pace, rate_limit: 5/hour}"]), 6, "`pace` is never reached");
    silent(&rules(&["{name: pace, rate_limit: 5/hour}", "{name: no, action: deny}"]));
}

#[test]
fn an_entry_for_a_hidden_tool_is_dead() {
    warns("version: \"1\"\nhide: [t]\ntools:\n  t: {rules: [{action: deny}]}\n", 4, "the tool is hidden");
    warns("version: \"1\"\nhide: [\"t_*\"]\ntools:\n  t_a: {rules: [{action: deny}]}\n", 4, "the tool is hidden");
}

#[test]
fn conditions_that_contradict_deny_everything() {
    for (a, b) in [
        ("op: gt, value: 10", "op: lt, value: 10"),
        ("op: gte, value: 11", "op: lte, value: 10"),
        ("op: eq, value: a", "op: eq, value: b"),
        ("op: in, value: [a, b]", "op: not_in, value: [b, a]"),
        ("op: eq, value: abc", "op: starts_with, value: x"),
        ("op: exists, value: false", "op: eq, value: 1"),
        ("op: lte, value: 5", "op: starts_with, value: x"),
        ("op: in, value: [1, 2]", "op: gt, value: 2"),
    ] {
        let one = format!("{{conditions: [{{path: args.x, {a}}}, {{path: args.x, {b}}}]}}");
        warns(&rules(&[&one]), 5, "contradicts");
        let (one, two) = (format!("{{conditions: [{{path: args.x, {a}}}]}}"), format!("{{conditions: [{{path: args.x, {b}}}]}}"));
        warns(&rules(&[&one, &two]), 6, "contradicts the condition of rule `/tools/t/rules/0`");
    }
    for (a, b) in [
        ("op: gte, value: 10", "op: lte, value: 10"),
        ("op: neq, value: a", "op: eq, value: b"),
        ("op: exists, value: true", "op: eq, value: 1"),
    ] {
        silent(&rules(&[&format!("{{conditions: [{{path: args.x, {a}}}, {{path: args.x, {b}}}]}}")]));
    }
    warns(&rules(&["{conditions: [{path: args.x, op: in, value: []}]}"]), 5, "can never hold");
}

#[test]
fn what_is_optional_contradicts_what_holds_for_nothing_that_is_left_out() {
    let both = |other: &str| {
        let optional = "{path: args.x, op: in, value: [a], optional: true}";
        rules(&[&format!("{{conditions: [{optional}, {{path: args.x, {other}}}]}}")])
    };
    warns(&both("op: eq, value: b"), 5, "contradicts");
    warns(&both("op: starts_with, value: c"), 5, "contradicts");
    silent(&both("op: eq, value: b, optional: true"));
    silent(&both("op: exists, value: false"));
    // `null` counts as left out, and is a value like any other.
    silent(&both("op: eq, value: null"));
    silent(&both("op: in, value: [b, null]"));
}

#[test]
fn a_rule_that_can_never_fire_says_so() {
    let guard = "{name: small, conditions: [{path: args.amount, op: lte, value: 100}]}";
    let ask = "{name: large, action: require_approval, conditions: [{path: args.amount, op: gt, value: 1000}]}";
    warns(&rules(&[guard, ask]), 6, "`small` denies such calls already");
    let never = "{action: require_approval, conditions: [{path: args.a, op: eq, value: 1}, {path: args.a, op: eq, value: 2}]}";
    warns(&rules(&[never]), 5, "can never fire");
    warns(&rules(&["{validate: {types: false}}"]), 5, "checks nothing");
    let json = "{\"version\": \"1\", \"default\": \"deny\", \"tools\": {\"t\": {\n\"require\": [{\"conditions\": []}]}}}";
    warns(json, 2, "never denies");
}

#[test]
fn unanchored_guards_show_what_gets_through() {
    let guard = |pattern: &str| rules(&[&format!("{{conditions: [{{path: args.x, op: regex, value: '{pattern}'}}]}}")]);
    warns(&guard("^SELECT"), 5, "DROP TABLE");
    warns(&guard("^/app/"), 5, "../../etc/passwd");
    warns(&guard("abc"), 5, "anywhere");
    warns(&rules(&["{conditions: [{path: args.x, op: not_regex, value: ^DROP}]}"]), 5, "a space before it");
    silent(&guard("^[a-z]+$"));
}

#[test]
fn names_that_fold_together_are_pointed_out() {
    warns("version: \"1\"\ndefault: deny\ntools:\n  read_file: {}\n  Read_File: {}\n", 5, "differ only by case");
}

#[test]
fn placeholders_that_stay_unfilled_are_pointed_out() {
    warns(&rules(&["{rate_limit: 5/hour, message: \"{usde} calls\"}"]), 5, "write `{used}`");
    warns(&rules(&["{action: deny, message: \"{max} calls\"}"]), 5, "counts nothing");
    silent(&rules(&["{rate_limit: 5/hour, message: \"{used} of {max} until {resets_at}, {so}\"}"]));
}

#[test]
fn a_class_that_is_left_out_while_milder_ones_are_restricted_is_pointed_out() {
    warns(
        "version: \"1\"\nrisk: {write: {rate_limit: 5/hour}, destructive: hide, financial: deny}\n",
        2,
        "nothing is said of Execute",
    );
    silent("version: \"1\"\nrisk: {read: {}, write: {}, execute: {}, destructive: hide, financial: hide}\n");
    silent("version: \"1\"\ndefault: deny\nrisk: {read: {}, destructive: hide}\n");
}
