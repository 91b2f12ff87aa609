//! What a call is answered, rule by rule.

use super::*;
use crate::model::{AmountFrom, Literal, Operator, Path, Quantifier, Segment, Template};
use crate::window::{Window, Zone};
use crate::{Usage, decision::Shadow};
use jiff::SignedDuration;
use json::{Decimal, Document, Strictness};

fn policy(posture: Posture, hidden: &[Pattern], entries: Vec<Entry>) -> Policy {
    let (revision, description) = ("0123456789abcdef".to_owned(), None);
    Policy {
        revision,
        description,
        posture,
        mode: Mode::Enforce,
        hidden: hidden.to_vec(),
        entries,
        methods: Vec::new(),
        server_requests: Default::default(),
        webhook: None,
        definitions: Default::default(),
        results: None,
        names: Default::default(),
    }
}

fn entry(pattern: &str, rules: Vec<Rule>) -> Entry {
    let pattern = match pattern {
        "*" => Pattern::Any,
        glob if glob.contains(['*', '?']) => Pattern::Glob(glob.to_owned()),
        name => Pattern::Exact(name.to_owned()),
    };
    Entry { pattern, mode: Mode::Enforce, rules, results: None }
}

fn rule(reference: &str, checks: Vec<Check>) -> Rule {
    Rule { reference: reference.into(), mode: Mode::Enforce, message: None, checks }
}

fn shadow(mut rule: Rule) -> Rule {
    rule.mode = Mode::Shadow;
    rule
}

fn path(key: &str) -> Path {
    Path { text: format!("args.{key}").into(), segments: vec![Segment::Key(key.to_owned())] }
}

fn condition(key: &str, operator: Operator) -> Condition {
    Condition { path: path(key), quantifier: Quantifier::Each, operator, optional: false }
}

fn above(key: &str, bound: i64) -> Vec<Condition> {
    vec![condition(key, Operator::Greater(Decimal::from(bound)))]
}

fn counter(owner: &str, name: &str, window: &str) -> Arc<Counter> {
    let window = Window::parse(window).unwrap();
    Arc::new(Counter { owner: owner.into(), name: name.into(), window, scope: Scope::Grant })
}

fn limit(counter: Arc<Counter>, max: u64, amount: AmountFrom) -> Check {
    Check::Limit(Limit { counter, max: Amount::whole(max).unwrap(), amount, weight: None, lease: None })
}

fn calls(max: u64) -> Check {
    limit(counter("t", "calls", "minute"), max, AmountFrom::Fixed(Amount::ONE))
}

fn spend(max: u64) -> Check {
    limit(counter("t", "spend", "day"), max, AmountFrom::Path(path("amount")))
}

fn evaluate_at(policy: &Policy, tool: &str, arguments: &str, at: &str) -> Plan {
    let document = Document::parse(arguments.to_owned(), Strictness::Request).unwrap();
    let call = Call {
        tool,
        arguments: Some(document.root()),
        schema: Schema::Unjudged,
        class: None,
        at: at.parse().unwrap(),
        explained: true,
    };
    policy.evaluate(&call)
}

fn evaluate(policy: &Policy, tool: &str, arguments: &str) -> Plan {
    evaluate_at(policy, tool, arguments, NOW)
}

#[track_caller]
fn check(policy: &Policy, tool: &str, arguments: &str, reason: Reason, rule: Option<&str>) -> Plan {
    let plan = evaluate(policy, tool, arguments);
    assert_eq!((plan.decision.reason, plan.decision.rule.as_deref()), (reason, rule), "{tool} {arguments}: {:?}", plan.decision);
    if plan.decision.outcome == Outcome::Deny {
        assert!(plan.charges.is_empty() && plan.once.is_none() && plan.approval.is_none());
    }
    plan
}

const NOW: &str = "2026-01-15T10:31:30Z";

fn used(amount: u64, resets_at: &str) -> Usage {
    let resets_at = resets_at.parse::<Timestamp>().unwrap().as_millisecond();
    let wait = resets_at - NOW.parse::<Timestamp>().unwrap().as_millisecond();
    Usage { used: Amount::whole(amount).unwrap(), resets_at, retry_after_ms: wait.try_into().unwrap() }
}

#[test]
fn hidden_goes_before_posture_and_posture_before_rules() {
    let entries = vec![entry("t", vec![]), entry("h", vec![]), entry("*", vec![rule("all", vec![Check::Deny])])];
    let policy = policy(Posture::Deny, &[Pattern::Exact("h".to_owned())], entries);
    let hidden = check(&policy, "h", "{}", Reason::Hidden, Some("(hidden)"));
    let unlisted = check(&policy, "u", "{}", Reason::Unlisted, Some("(default deny)"));
    check(&policy, "t", "{}", Reason::Forbidden, Some("all"));
    let words = |plan: Plan, name: &str| plan.decision.message.unwrap().replace(&format!("`{name}`"), "X");
    assert_eq!(words(hidden, "h"), words(unlisted, "u"), "what is hidden looks like what does not exist");
    let lists = |tool| policy.lists(tool, None);
    assert!(lists("t") && !lists("h") && !lists("u"));
}

#[test]
fn a_wildcard_lists_nothing_and_restricts_everything() {
    let policy = policy(Posture::Deny, &[], vec![entry("*", vec![])]);
    for name in ["t", "*", "_global", ""] {
        check(&policy, name, "{}", Reason::Unlisted, Some("(default deny)"));
    }
}

#[test]
fn the_rules_of_a_class_hold_for_what_nothing_names_and_those_of_all_for_what_nobody_knows() {
    let of_class = |class, rules| Entry { pattern: Pattern::Class(class), ..entry("", rules) };
    let entries = vec![
        entry("named", vec![]),
        entry("glob_*", vec![]),
        of_class(RiskClass::Read, vec![]),
        of_class(RiskClass::Execute, vec![rule("/risk/execute", vec![Check::Deny])]),
    ];
    let policy = policy(Posture::Allow, &[Pattern::Class(RiskClass::Destructive)], entries);
    let judged = |tool, class| {
        let at = NOW.parse().unwrap();
        let call = Call { tool, arguments: None, schema: Schema::Unjudged, class, at, explained: true };
        let decision = policy.evaluate(&call).decision;
        (decision.reason, decision.rule.map(|rule| rule.to_string()).unwrap_or_default())
    };
    let allowed = (Reason::Allowed, String::new());
    assert_eq!(judged("t", Some(RiskClass::Read)), allowed);
    assert_eq!(judged("t", Some(RiskClass::Financial)), allowed);
    assert_eq!(judged("t", Some(RiskClass::Execute)), (Reason::Forbidden, "/risk/execute".to_owned()));
    assert_eq!(judged("t", Some(RiskClass::Destructive)), (Reason::Hidden, "/risk/destructive".to_owned()));
    assert_eq!(judged("t", None).0, Reason::Hidden);
    for named in ["named", "glob_x"] {
        assert!(!policy.needs_class(named));
        assert_eq!(judged(named, Some(RiskClass::Destructive)), allowed, "{named}");
        assert_eq!(judged(named, None), allowed, "{named}");
    }
}

#[test]
fn what_a_class_may_do_is_not_for_names_that_look_like_one_with_rules_of_its_own() {
    let of_class = |class| Entry { pattern: Pattern::Class(class), ..entry("", vec![]) };
    let mut entries: Vec<Entry> = RiskClass::ALL.into_iter().map(of_class).collect();
    entries.push(entry("delete_repo", vec![rule("never", vec![Check::Deny])]));
    let policy = policy(Posture::Deny, &[Pattern::Exact("merge_repo".into())], entries);
    check(&policy, "other_tool", "{}", Reason::Allowed, None);
    for name in ["Delete_Repo", "DELETE_REPO", "Merge_Repo"] {
        check(&policy, name, "{}", Reason::UnknownTool, Some("(look-alike)"));
        assert!(!policy.lists(name, None), "{name}");
    }
}

#[test]
fn names_are_compared_as_they_are() {
    let policy = policy(Posture::Deny, &[], vec![entry("read_file", vec![])]);
    check(&policy, "read_file", "{}", Reason::Allowed, None);
    for name in ["read_file ", " read_file", "read_file\n", "Read_File", "re\u{430}d_file", "read_file\u{200b}", "read_file\0"] {
        check(&policy, name, "{}", Reason::Unlisted, Some("(default deny)"));
    }
}

#[test]
fn the_exact_entry_wins_then_the_longest_glob_then_comes_the_wildcard() {
    let deny = |name: &str| vec![rule(name, vec![Check::DenyIf(above(name, 0))])];
    let entries = vec![
        entry("*", deny("any")),
        entry("delete_*", deny("short")),
        entry("delete_a*", deny("long")),
        entry("delete_ab", deny("exact")),
    ];
    let policy = policy(Posture::Deny, &[], entries);
    let all = r#"{"any":1,"short":1,"long":1,"exact":1}"#;
    check(&policy, "delete_ab", all, Reason::ConditionMatched, Some("exact"));
    check(&policy, "delete_ac", all, Reason::ConditionMatched, Some("long"));
    check(&policy, "delete_x", all, Reason::ConditionMatched, Some("short"));
    check(&policy, "delete_ab", r#"{"any":1,"short":1,"long":1}"#, Reason::ConditionMatched, Some("any"));
}

#[test]
fn a_glob_lists_plain_names_only_but_restricts_all() {
    let globbed = |posture| policy(posture, &[], vec![entry("read_*", vec![rule("r", vec![Check::DenyIf(above("x", 0))])])]);
    check(&globbed(Posture::Deny), "read_x; drop", "{}", Reason::Unlisted, Some("(default deny)"));
    check(&globbed(Posture::Deny), "read_x", "{}", Reason::Allowed, None);
    check(&globbed(Posture::Allow), "read_x; drop", r#"{"x":1}"#, Reason::ConditionMatched, Some("r"));
}

#[test]
fn globs_fit_whole_names() {
    for (glob, fits, fails) in [
        ("a*", &["a", "ab", "a*"][..], &["", "ba", "A"][..]),
        ("*a*b", &["ab", "xaxb", "abab"], &["a", "abx"]),
        ("a?c", &["abc", "a?c", "aéc", "a😀c"], &["ac", "abbc"]),
        ("*???y*", &["abcy", "😀bcyz"], &["😀yzz"]),
        ("a**b", &["ab", "axb"], &["a"]),
        ("a.c", &["a.c"], &["abc"]),
    ] {
        for name in fits {
            assert!(matches(glob.as_bytes(), name.as_bytes()), "{glob} {name}");
        }
        for name in fails {
            assert!(!matches(glob.as_bytes(), name.as_bytes()), "{glob} {name}");
        }
    }
}

#[test]
fn the_first_denial_ends_it_and_takes_nothing() {
    let entries = vec![entry(
        "t",
        vec![rule("a", vec![calls(5)]), rule("b", vec![Check::Require(above("x", 0))]), rule("c", vec![Check::Deny])],
    )];
    let policy = policy(Posture::Allow, &[], entries);
    let plan = check(&policy, "t", r#"{"x":0}"#, Reason::ConditionFailed, Some("b"));
    assert_eq!(plan.decision.message.unwrap(), "`args.x` must be greater than 0.");
    check(&policy, "t", r#"{"x":1}"#, Reason::Forbidden, Some("c"));
    check(&policy, "other", "{}", Reason::Allowed, None);
}

#[test]
fn what_cannot_be_judged_denies_in_every_kind_of_rule() {
    let ask = Check::Ask { when: above("x", 0), asking: Asking::default() };
    let equal = Check::DenyIf(vec![condition("x", Operator::Equal(Literal::Bool(true)))]);
    for rule_check in [Check::Require(above("x", 0)), Check::DenyIf(above("x", 0)), ask, equal] {
        let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule("r", vec![rule_check])])]);
        let plan = check(&policy, "t", r#"{"x":"1"}"#, Reason::RuleError, Some("r"));
        assert_eq!(plan.decision.steps.last().unwrap().result, StepResult::Error);
    }
}

#[test]
fn a_denying_rule_needs_all_its_conditions() {
    let both = above("x", 0).into_iter().chain(above("y", 0)).collect();
    let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule("r", vec![Check::DenyIf(both)])])]);
    check(&policy, "t", r#"{"x":1,"y":1}"#, Reason::ConditionMatched, Some("r"));
    check(&policy, "t", r#"{"x":1,"y":0}"#, Reason::Allowed, None);
    check(&policy, "t", r#"{"x":1}"#, Reason::Allowed, None);
    check(&policy, "t", r#"{"x":0,"y":"no number, and nobody asked"}"#, Reason::Allowed, None);
}

#[test]
fn a_question_counts_only_when_nothing_denies() {
    let ask = || Check::Ask { when: above("x", 10), asking: Asking::default() };
    let entries = vec![entry(
        "t",
        vec![rule("ask", vec![ask()]), rule("deny", vec![Check::DenyIf(above("x", 100))]), rule("calls", vec![calls(5)])],
    )];
    let policy = policy(Posture::Allow, &[], entries);
    check(&policy, "t", r#"{"x":101}"#, Reason::ConditionMatched, Some("deny"));
    check(&policy, "t", r#"{"x":10}"#, Reason::Allowed, None);
    let plan = check(&policy, "t", r#"{"x":11}"#, Reason::ApprovalRequired, Some("ask"));
    assert_eq!((plan.approval.as_ref().unwrap().timeout_ms, plan.charges.len()), (1_800_000, 1));
    let pending = plan.clone().approval_pending("ap1");
    assert_eq!(pending.outcome, Outcome::Ask);
    assert!(pending.message.unwrap().contains("`callgate approvals approve ap1` within 30 minutes"));
    assert_eq!(plan.clone().granted(&[used(0, NOW)]).outcome, Outcome::Ask, "without an approval nothing is granted");
    let granted = plan.clone().approved("ap1").granted(&[used(0, NOW)]);
    assert_eq!((granted.outcome, granted.reason), (Outcome::Allow, Reason::Allowed));
    assert_eq!(plan.approval_denied("ap1").reason, Reason::ApprovalDenied);
}

#[test]
fn a_denial_is_final_whatever_is_said_afterwards() {
    let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule("r", vec![Check::Deny])])]);
    let plan = check(&policy, "t", "{}", Reason::Forbidden, Some("r"));
    assert_eq!(plan.approved("x").granted(&[]).outcome, Outcome::Deny);
}

#[test]
fn an_exhausted_limit_says_what_would_work_and_when() {
    let rate = limit(counter("t", "_rate_hour", "hour"), 5, AmountFrom::Fixed(Amount::ONE));
    let said = Rule {
        message: Some(Template("Used {used} of {max}, {wait}; free at {resets_at}".to_owned())),
        ..rule("m", vec![calls(10)])
    };
    for (rule, arguments, usage, message) in [
        (
            rule("r", vec![calls(10)]),
            "{}",
            used(10, "2026-01-15T10:32:00Z"),
            "Limit of 10 calls a minute reached. Try again after 10:32:00 UTC.",
        ),
        (rule("r", vec![rate]), "{}", used(5, "2026-01-15T11:00:00Z"), "Rate limit of 5 per hour reached. Try again later."),
        (said, "{}", used(10, "2026-01-16T00:00:00Z"), "Used 10 of 10, {wait}; free at 2026-01-16 00:00:00 UTC"),
        (
            rule("r", vec![spend(1000)]),
            r#"{"amount":100}"#,
            used(950, "2026-01-16T00:00:00Z"),
            "Limit of 1000 a day for `spend` reached: use at most 50 now, or try again after 2026-01-16 00:00:00 UTC.",
        ),
        (
            rule("r", vec![spend(1000)]),
            r#"{"amount":1000.5}"#,
            used(0, "2026-01-16T00:00:00Z"),
            "This call needs 1000.5 of `spend`; at most 1000 a day is allowed.",
        ),
    ] {
        let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule])]);
        let decision = evaluate(&policy, "t", arguments).exhausted(0, &usage);
        assert_eq!((decision.outcome, decision.reason), (Outcome::Deny, Reason::LimitReached));
        assert_eq!((decision.message.as_deref(), decision.retry_after_ms), (Some(message), Some(usage.retry_after_ms)));
        assert_eq!(decision.steps.last().unwrap().result, StepResult::Failed);
    }
}

#[test]
fn a_bad_amount_denies_in_words_of_its_own() {
    let rule = Rule { message: Some(Template("Budget exceeded".to_owned())), ..rule("r", vec![spend(1000)]) };
    let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule])]);
    for arguments in [r#"{"amount":-50}"#, r#"{"amount":1e300}"#, r#"{"amount":0.0000001}"#, r#"{"amount":"5"}"#, "{}"] {
        let plan = check(&policy, "t", arguments, Reason::BadAmount, Some("r"));
        assert_eq!(plan.decision.message.unwrap(), "`args.amount` must be a number of 0 or more with at most six decimals.");
    }
    let granted = check(&policy, "t", r#"{"amount":400}"#, Reason::Allowed, None).granted(&[used(0, NOW)]);
    assert_eq!(granted.steps.last().unwrap().detail, "spend=400/1000");
}

#[test]
fn a_weight_multiplies_the_amount() {
    let length =
        Path { text: "args.commands.length".into(), segments: vec![Segment::Key("commands".to_owned()), Segment::Length] };
    let limit = Limit {
        counter: counter("t", "commands", "hour"),
        max: Amount::whole(100).unwrap(),
        amount: AmountFrom::Fixed(Amount::from_micros(500_000).unwrap()),
        weight: Some(AmountFrom::Path(length)),
        lease: None,
    };
    let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule("r", vec![Check::Limit(limit)])])]);
    let plan = check(&policy, "t", r#"{"commands":["a","b","c"]}"#, Reason::Allowed, None);
    assert_eq!(plan.charges[0].amount.to_string(), "1.5");
    check(&policy, "t", r#"{"commands":5}"#, Reason::BadAmount, Some("r"));
}

#[test]
fn a_counter_that_two_rules_bound_passes_neither_bound() {
    // (amount, max) of each rule, the charge that comes of them.
    let cases = [
        ([(1, 10), (5, 12)], (5, 10)),
        ([(5, 12), (1, 10)], (5, 10)),
        ([(5, 10), (1, 12)], (5, 10)),
        ([(0, 10), (5, 12)], (5, 10)),
    ];
    for (limits, charged) in cases {
        let shared = || counter("t", "n", "hour");
        let whole = |amount: u64| Amount::whole(amount).unwrap();
        let rules = limits.map(|(amount, max)| rule("r", vec![limit(shared(), max, AmountFrom::Fixed(whole(amount)))]));
        let policy = policy(Posture::Allow, &[], vec![entry("t", rules.into())]);
        let charges = check(&policy, "t", "{}", Reason::Allowed, None).charges;
        let [charge] = charges.as_slice() else { panic!("{charges:?}") };
        assert_eq!((charge.amount, charge.bound), (whole(charged.0), Bound::AtMost(whole(charged.1))), "{limits:?}");
    }
}

#[test]
fn a_call_is_counted_once_by_a_counter_and_watched_before_it() {
    let shared = || counter("t", "n", "hour");
    let watch = Check::Watch(Watch { counter: shared(), bound: Bound::AtLeast(Amount::ZERO) });
    let one = || AmountFrom::Fixed(Amount::ONE);
    let rules = vec![
        rule("loose", vec![limit(shared(), 10, one())]),
        rule("other", vec![limit(counter("a", "z", "day"), 7, one())]),
        rule("tight", vec![limit(shared(), 3, one())]),
        shadow(rule("shadow", vec![limit(shared(), 1, one())])),
        rule("watch", vec![watch]),
    ];
    let policy = policy(Posture::Allow, &[], vec![entry("t", rules)]);
    let charges = check(&policy, "t", "{}", Reason::Allowed, None).charges;
    let seen: Vec<(&str, u64)> = charges.iter().map(|charge| (&*charge.rule, charge.amount.micros() / 1_000_000)).collect();
    assert_eq!(seen, [("other", 1), ("watch", 0), ("tight", 1)]);
}

#[test]
fn shadow_rules_are_noted_and_not_enforced() {
    let rules = vec![
        shadow(rule("ask", vec![Check::Ask { when: vec![], asking: Asking::default() }])),
        shadow(rule("deny", vec![Check::DenyIf(above("x", 0))])),
        shadow(rule("calls", vec![calls(1)])),
    ];
    let policy = policy(Posture::Allow, &[], vec![entry("t", rules)]);
    let noted = |plan: Plan, usage: Usage| {
        assert!(!plan.charges[0].refuses(&usage));
        let decision = plan.granted(&[usage]);
        assert_eq!(decision.outcome, Outcome::Allow);
        decision.shadow.map(|Shadow { outcome, reason, .. }| (outcome, reason))
    };
    let free = used(0, "2026-01-15T10:32:00Z");
    let full = used(1, "2026-01-15T10:32:00Z");
    assert_eq!(noted(evaluate(&policy, "t", r#"{"x":1}"#), free), Some((Outcome::Deny, Reason::ConditionMatched)));
    assert_eq!(noted(evaluate(&policy, "t", "{}"), free), Some((Outcome::Ask, Reason::ApprovalRequired)));
    assert_eq!(noted(evaluate(&policy, "t", "{}"), full), Some((Outcome::Deny, Reason::LimitReached)));
}

#[test]
fn a_file_in_shadow_hides_nothing() {
    let mut policy = policy(Posture::Deny, &[Pattern::Any], vec![]);
    policy.mode = Mode::Shadow;
    assert!(policy.lists("t", None));
    let decision = check(&policy, "t", "{}", Reason::Allowed, None).granted(&[]);
    assert_eq!(decision.shadow.unwrap().reason, Reason::Hidden);
}

#[test]
fn outside_its_hours_a_tool_says_when_it_opens() {
    let schedule = Schedule::parse(Some("mon-fri"), Some("09:00-17:00"), Zone::parse("Europe/Berlin").unwrap()).unwrap();
    let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule("hours", vec![Check::During(schedule)])])]);
    assert_eq!(evaluate(&policy, "t", "{}").decision.outcome, Outcome::Allow);
    let decision = evaluate_at(&policy, "t", "{}", "2026-01-15T06:30:00Z").decision;
    assert_eq!((decision.reason, decision.retry_after_ms), (Reason::OutsideHours, Some(90 * 60_000)));
    let message = "This tool may be used mon-fri 09:00-17:00 Europe/Berlin. Try again after 08:00:00 UTC.";
    assert_eq!(decision.message.as_deref(), Some(message));
}

#[test]
fn a_duplicate_names_the_first_call() {
    let policy =
        policy(Posture::Allow, &[], vec![entry("t", vec![rule("once", vec![Check::Once(SignedDuration::from_mins(5))])])]);
    let plan = evaluate(&policy, "t", "{}");
    assert_eq!(plan.once.as_ref().unwrap().window_ms, 300_000);
    let decision = plan.duplicate("d1", 30_000);
    assert_eq!(
        (decision.reason, decision.rule.as_deref(), decision.retry_after_ms),
        (Reason::DuplicateCall, Some("once"), Some(30_000))
    );
    let message = "The same call was made within the last 5 minutes (d1). Change its arguments, or try again after 10:32:00 UTC.";
    assert_eq!(decision.message.as_deref(), Some(message));
}

#[test]
fn validation_without_a_schema_denies_live_and_is_skipped_offline() {
    let demands = Validate { required_args: true, types: false, deny_unknown: false };
    let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule("v", vec![Check::Validate(demands)])])]);
    assert!(policy.needs_schema("t") && !policy.needs_schema("u"));
    let offline = evaluate(&policy, "t", "{}");
    assert_eq!((offline.decision.outcome, offline.decision.steps[0].result), (Outcome::Allow, StepResult::Skipped));
    let at = NOW.parse().unwrap();
    let unknown =
        policy.evaluate(&Call { tool: "t", arguments: None, schema: Schema::Unknown, class: None, at, explained: true });
    assert_eq!(unknown.decision.reason, Reason::SchemaUnknown);
    let document = Document::parse(r#"{"required":["a"]}"#, Strictness::Reply).unwrap();
    let schema = ToolSchema::new(document.root());
    let known =
        policy.evaluate(&Call { tool: "t", arguments: None, schema: Schema::Known(&schema), class: None, at, explained: true });
    assert_eq!(known.decision.message.as_deref(), Some("The argument `a` is required."));
}

#[test]
fn a_decision_is_one_json_object() {
    let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule("r \"1\"", vec![calls(1)])])]);
    let decision = evaluate(&policy, "t", "{}").exhausted(0, &used(1, "2026-01-15T10:32:00Z"));
    let text = r#"{"outcome":"deny","reason":"limit-reached","rule":"r \"1\"","message":"Limit of 1 call a minute reached. Try again after 10:32:00 UTC.","retryAfterMs":30000,"steps":[{"rule":"r \"1\"","check":"calls at most 1 a minute","result":"failed","detail":"calls=1/1"}]}"#;
    assert_eq!(decision.to_json(), text);
    let allow = r#"{"outcome":"allow","reason":"allowed","rule":null,"message":null,"steps":[]}"#;
    assert_eq!(evaluate(&policy, "u", "{}").granted(&[]).to_json(), allow);
}

#[test]
fn every_reason_has_a_code_of_its_own() {
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
    }
}
