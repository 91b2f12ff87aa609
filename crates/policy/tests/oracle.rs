//! A second opinion: small policies and calls are generated, and every decision is compared with that of an oracle which is
//! as naive as can be. It shares no code with the library: it works on what the policies are *meant* to say, before they are
//! written as YAML, keeps a list of all that was ever charged, and counts by looking at each.

mod common;

use common::{Counters, decide, load};
use jiff::Timestamp;
use policy::{CalendarUnit, Window, Zone};
use proptest::prelude::*;

// ---- what is generated -------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Spec {
    default_deny: bool,
    hide: Vec<&'static str>,
    /// By key: `aa`, `a*`, `b`, `*`, each at most once.
    entries: Vec<(&'static str, Vec<Rule>)>,
}

#[derive(Clone, Debug)]
enum Rule {
    Deny,
    Require(Vec<Test>),
    Ask(Vec<Test>),
    /// `rate_limit: N/minute`
    Rate(u64),
    /// A calendar day's sum of `args.n`, at most so much, in millionths.
    Spend(u64),
}

#[derive(Clone, Debug)]
struct Test {
    key: &'static str,
    op: &'static str,
    value: Arg,
}

/// The arguments' values, few enough that they meet each other.
#[derive(Clone, Debug, PartialEq)]
enum Arg {
    Missing,
    Null,
    Bool(bool),
    /// In hundredths.
    Number(i64),
    Text(&'static str),
    List(Vec<Arg>),
}

#[derive(Clone, Debug)]
struct CallSpec {
    tool: &'static str,
    x: Arg,
    n: Arg,
    /// Milliseconds since the call before.
    later: i64,
}

const TOOLS: [&str; 5] = ["aa", "ab", "b", "c", "*"];

impl Arg {
    fn json(&self) -> String {
        match self {
            Arg::Missing | Arg::Null => "null".to_owned(),
            Arg::Bool(value) => value.to_string(),
            Arg::Number(hundredths) => format!("{}e-2", hundredths),
            Arg::Text(text) => format!("\"{text}\""),
            Arg::List(list) => format!("[{}]", list.iter().map(Arg::json).collect::<Vec<_>>().join(",")),
        }
    }

    /// A number as YAML writes it.
    fn yaml(&self) -> String {
        match self {
            Arg::Number(hundredths) => format!("{}", *hundredths as f64 / 100.0),
            Arg::List(list) => format!("[{}]", list.iter().map(Arg::yaml).collect::<Vec<_>>().join(", ")),
            other => other.json(),
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Arg::Missing => 0,
            Arg::Null => 1,
            Arg::Bool(_) => 2,
            Arg::Number(_) => 3,
            Arg::Text(_) => 4,
            Arg::List(_) => 5,
        }
    }
}

impl Spec {
    fn yaml(&self) -> String {
        let mut out = format!("version: \"1\"\ndefault: {}\n", if self.default_deny { "deny" } else { "allow" });
        if !self.hide.is_empty() {
            out += &format!("hide: [{}]\n", self.hide.join(", "));
        }
        out += "tools:\n";
        for (key, rules) in &self.entries {
            out += &format!("  \"{key}\":\n    rules:\n");
            for (i, rule) in rules.iter().enumerate() {
                out += &format!("      - {{name: \"{key} {i}\", {}}}\n", rule.yaml(key, i));
            }
            if rules.is_empty() {
                out = out.trim_end().to_owned() + " []\n";
            }
        }
        if self.entries.is_empty() {
            out = out.trim_end().to_owned() + " {}\n";
        }
        out
    }
}

impl Rule {
    fn yaml(&self, key: &str, index: usize) -> String {
        let tests = |tests: &[Test]| {
            let tests: Vec<String> =
                tests.iter().map(|t| format!("{{path: args.{}, op: {}, value: {}}}", t.key, t.op, t.value.yaml())).collect();
            format!("conditions: [{}]", tests.join(", "))
        };
        match self {
            Rule::Deny => "action: deny".to_owned(),
            Rule::Require(all) => tests(all),
            Rule::Ask(all) => format!("action: require_approval, approval_timeout: 30m, {}", tests(all)),
            Rule::Rate(max) => format!("rate_limit: {max}/minute"),
            Rule::Spend(max) => {
                let owner = if key == "*" { "_global" } else { key };
                let max = *max as f64 / 1e6;
                format!(
                    "conditions: [{{path: \"state.{owner}.sum{index}\", op: lte, value: {max}}}], \
                     state: {{counter: sum{index}, window: day, increment_from: args.n}}"
                )
            }
        }
    }
}

fn arg() -> impl Strategy<Value = Arg> {
    prop_oneof![
        2 => Just(Arg::Missing),
        1 => Just(Arg::Null),
        2 => any::<bool>().prop_map(Arg::Bool),
        6 => (-1i64..4).prop_map(|n| Arg::Number(n * 50)),
        4 => prop_oneof![Just("a"), Just("ab"), Just("1"), Just("true"), Just("")].prop_map(Arg::Text),
        2 => prop::collection::vec((0i64..3).prop_map(|n| Arg::Number(n * 100)), 0..3).prop_map(Arg::List),
        1 => Just(Arg::List(vec![Arg::Text("a")])),
    ]
}

fn test() -> impl Strategy<Value = Test> {
    let number = || (-1i64..4).prop_map(|n| Arg::Number(n * 50));
    let text = || prop_oneof![Just("a"), Just("1"), Just("true"), Just("b")].prop_map(Arg::Text);
    let scalar = || prop_oneof![number(), text(), any::<bool>().prop_map(Arg::Bool)];
    let operator = prop_oneof![
        3 => (prop_oneof![Just("eq"), Just("neq")], scalar()),
        2 => (prop_oneof![Just("in"), Just("not_in")], prop::collection::vec(scalar(), 1..3).prop_map(Arg::List)),
        3 => (prop_oneof![Just("lt"), Just("lte"), Just("gt"), Just("gte")], number()),
        1 => (Just("contains"), scalar()),
        1 => (Just("exists"), any::<bool>().prop_map(Arg::Bool)),
        1 => (prop_oneof![Just("regex"), Just("not_regex"), Just("starts_with")], text()),
    ];
    (prop_oneof![Just("x"), Just("n")], operator).prop_map(|(key, (op, value))| Test { key, op, value })
}

fn rule() -> impl Strategy<Value = Rule> {
    prop_oneof![
        1 => Just(Rule::Deny),
        5 => prop::collection::vec(test(), 1..3).prop_map(Rule::Require),
        2 => prop::collection::vec(test(), 1..3).prop_map(Rule::Ask),
        3 => (1u64..5).prop_map(Rule::Rate),
        3 => (0u64..6).prop_map(|n| Rule::Spend(n * 500_000)),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    let keys = prop::sample::subsequence(vec!["aa", "a*", "b", "*"], 0..=4).prop_shuffle();
    let hide = prop::sample::subsequence(vec!["aa", "c"], 0..=2);
    let entries = keys
        .prop_flat_map(|keys| keys.into_iter().map(|key| (Just(key), prop::collection::vec(rule(), 0..4))).collect::<Vec<_>>());
    // One counter twice in one entry is an error of its own.
    let one_rate = |(key, mut rules): (&'static str, Vec<Rule>)| {
        let mut rates = 0;
        rules.retain(|rule| {
            rates += usize::from(matches!(rule, Rule::Rate(_)));
            rates < 2 || !matches!(rule, Rule::Rate(_))
        });
        (key, rules)
    };
    (any::<bool>(), prop_oneof![4 => Just(vec![]), 1 => hide], entries).prop_map(move |(default_deny, hide, entries)| Spec {
        default_deny,
        hide,
        entries: entries.into_iter().map(one_rate).collect(),
    })
}

fn calls() -> impl Strategy<Value = Vec<CallSpec>> {
    let later = prop_oneof![6 => 0i64..3_000, 3 => 3_000i64..70_000, 1 => 70_000i64..100_000_000];
    let call = (prop::sample::select(TOOLS.to_vec()), arg(), arg(), later).prop_map(|(tool, x, n, later)| CallSpec {
        tool,
        x,
        n,
        later,
    });
    prop::collection::vec(call, 1..40)
}

// ---- the oracle --------------------------------------------------------------------------------------------------

/// What came of a test: true, false, or no answer.
fn holds(test: &Test, call: &CallSpec) -> Option<bool> {
    let arg = if test.key == "x" { &call.x } else { &call.n };
    let absent = matches!(arg, Arg::Missing | Arg::Null);
    if test.op == "exists" {
        return Some(test.value == Arg::Bool(!absent));
    }
    if *arg == Arg::Missing {
        return Some(false);
    }
    let list = match &test.value {
        Arg::List(list) => list.clone(),
        one => vec![one.clone()],
    };
    let among = || list.iter().any(|value| value.kind() == arg.kind()).then(|| list.contains(arg));
    match (test.op, arg, &test.value) {
        ("eq" | "in", _, _) => among(),
        ("neq" | "not_in", _, _) => among().map(|found| !found),
        ("lt", Arg::Number(a), Arg::Number(b)) => Some(a < b),
        ("lte", Arg::Number(a), Arg::Number(b)) => Some(a <= b),
        ("gt", Arg::Number(a), Arg::Number(b)) => Some(a > b),
        ("gte", Arg::Number(a), Arg::Number(b)) => Some(a >= b),
        ("contains" | "regex", Arg::Text(a), Arg::Text(b)) => Some(a.contains(b)),
        ("not_regex", Arg::Text(a), Arg::Text(b)) => Some(!a.contains(b)),
        ("starts_with", Arg::Text(a), Arg::Text(b)) => Some(a.starts_with(b)),
        ("contains", Arg::List(a), b) if a.contains(b) => Some(true),
        ("contains", Arg::List(a), b) if a.iter().all(|e| e.kind() == b.kind()) => Some(false),
        _ => None,
    }
}

/// One amount that was taken: by which rule's counter, when, how much.
struct Taken {
    counter: String,
    at: i64,
    micros: u64,
}

struct Wanted {
    counter: String,
    rule: String,
    micros: u64,
    max: u64,
    minute: bool,
}

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// How much of a counter counts now.
fn used(taken: &[Taken], wanted: &Wanted, now: i64) -> u64 {
    let counts = |at: i64| match wanted.minute {
        // By whole seconds, and a second counts until all of it is a minute ago.
        true => at / 1000 + 61 > now / 1000,
        false => at / DAY == now / DAY,
    };
    taken.iter().filter(|taken| taken.counter == wanted.counter && counts(taken.at)).map(|taken| taken.micros).sum()
}

/// Outcome, reason, and the rule (several, where it is open which limit is named).
type Verdict = (&'static str, &'static str, Vec<String>);

fn verdict(spec: &Spec, call: &CallSpec, now: i64, taken: &mut Vec<Taken>) -> Verdict {
    let tool = call.tool;
    if spec.hide.contains(&tool) {
        return ("deny", "hidden", vec!["(hidden)".to_owned()]);
    }
    let named = |wanted: &str| spec.entries.iter().find(|(key, _)| *key == wanted && wanted != "*");
    let globbed = || spec.entries.iter().find(|(key, _)| *key == "a*" && tool.starts_with('a'));
    let specific = named(tool).or_else(globbed);
    if spec.default_deny && specific.is_none() {
        return ("deny", "default-deny", vec!["(default deny)".to_owned()]);
    }
    let general = spec.entries.iter().find(|(key, _)| *key == "*");
    let mut asks: Option<String> = None;
    let mut wanted: Vec<Wanted> = Vec::new();
    for (key, rules) in specific.into_iter().chain(general) {
        for (i, rule) in rules.iter().enumerate() {
            let name = format!("{key} {i}");
            match rule {
                Rule::Deny => return ("deny", "denied-by-rule", vec![name]),
                Rule::Require(tests) => {
                    for test in tests {
                        match holds(test, call) {
                            Some(true) => {}
                            Some(false) => return ("deny", "condition-failed", vec![name]),
                            None => return ("deny", "rule-error", vec![name]),
                        }
                    }
                }
                Rule::Ask(tests) => {
                    let mut all = true;
                    for test in tests {
                        match holds(test, call) {
                            Some(true) => {}
                            Some(false) => {
                                all = false;
                                break;
                            }
                            None => return ("deny", "rule-error", vec![name]),
                        }
                    }
                    if all && asks.is_none() {
                        asks = Some(name);
                    }
                }
                Rule::Rate(max) => wanted.push(Wanted {
                    counter: format!("{key} rate"),
                    rule: name,
                    micros: 1_000_000,
                    max: max * 1_000_000,
                    minute: true,
                }),
                Rule::Spend(max) => match call.n {
                    Arg::Number(n) if n >= 0 => wanted.push(Wanted {
                        counter: name.clone(),
                        rule: name,
                        micros: n as u64 * 10_000,
                        max: *max,
                        minute: false,
                    }),
                    _ => return ("deny", "bad-amount", vec![name]),
                },
            }
        }
    }
    if let Some(name) = asks {
        return ("ask", "approval-required", vec![name]);
    }
    let over: Vec<String> = wanted.iter().filter(|w| used(taken, w, now) + w.micros > w.max).map(|w| w.rule.clone()).collect();
    if !over.is_empty() {
        return ("deny", "limit-reached", over);
    }
    taken.extend(wanted.into_iter().map(|w| Taken { counter: w.counter, at: now, micros: w.micros }));
    ("allow", "allowed", vec![])
}

// ---- the comparison ----------------------------------------------------------------------------------------------

const START: i64 = 1_768_471_800_000; // 2026-01-15T10:10:00Z

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decisions_are_those_of_the_oracle(spec in spec(), calls in calls()) {
        let policy = load("policy.yaml", &spec.yaml());
        let mut counters = Counters::default();
        let mut taken = Vec::new();
        let mut now = START;
        for call in &calls {
            now += call.later;
            let members: Vec<String> = [("x", &call.x), ("n", &call.n)]
                .into_iter()
                .filter(|(_, arg)| **arg != Arg::Missing)
                .map(|(key, arg)| format!("\"{key}\": {}", arg.json()))
                .collect();
            let arguments = format!("{{{}}}", members.join(", "));
            let at = Timestamp::from_millisecond(now).unwrap();
            let decision = decide(&mut counters, &policy, call.tool, Some(&arguments), at);
            let (outcome, reason, rules) = verdict(&spec, call, now, &mut taken);
            let ours = (decision.outcome.as_str(), decision.reason.as_str());
            prop_assert_eq!(ours, (outcome, reason), "{}\n{} {}\n{}", spec.yaml(), call.tool, arguments, decision.to_json());
            let rule = decision.rule.as_deref().unwrap_or_default();
            prop_assert!(rules.is_empty() == rule.is_empty() && (rules.is_empty() || rules.iter().any(|r| r == rule)), "{rule} is none of {rules:?}");
            prop_assert_eq!(decision.retry_after_ms.is_some(), reason == "limit-reached");
            prop_assert_eq!(decision.message.is_some(), outcome != "allow");
        }
    }

    #[test]
    fn a_sliding_window_never_admits_more_than_its_bound_in_any_span(
        seconds in prop_oneof![Just(1u64), Just(10), Just(60), Just(97), Just(3600), Just(86_400)],
        max in 1u64..6,
        waits in prop::collection::vec(0.0f64..1.2, 1..80),
    ) {
        let policy = load("policy.yaml", &format!(
            "version: \"1\"\ntools:\n  t:\n    rules:\n      - {{name: r, action: allow, rate_limit: {{max: {max}, window: {seconds}}}}}\n"
        ));
        let length = seconds as i64 * 1000;
        let mut counters = Counters::default();
        let mut admitted: Vec<i64> = Vec::new();
        let mut now = START;
        for wait in waits {
            now += (wait * length as f64 / max as f64) as i64;
            let mut decide_at = |now| decide(&mut counters, &policy, "t", None, Timestamp::from_millisecond(now).unwrap());
            let decision = decide_at(now);
            let Some(retry) = decision.retry_after_ms else {
                admitted.push(now);
                continue;
            };
            prop_assert!((1..=length as u64 + length as u64 / 60).contains(&retry), "{retry}");
            // No waiting without cause: within the window and a sixtieth there are as many calls as it admits.
            let recent = admitted.iter().filter(|at| **at > now - length - length / 60).count();
            prop_assert!(recent as u64 >= max);
            // And what is promised is kept: not a moment before, and then for sure.
            if retry > 1 {
                prop_assert!(decide_at(now + retry as i64 - 1).retry_after_ms.is_some());
            }
            now += retry as i64;
            prop_assert!(decide_at(now).retry_after_ms.is_none());
            admitted.push(now);
        }
        for (i, first) in admitted.iter().enumerate() {
            let in_span = admitted[i..].iter().filter(|at| **at - first <= length).count();
            prop_assert!(in_span as u64 <= max, "{in_span} from {first}: {admitted:?}");
        }
    }

    #[test]
    fn a_calendar_window_is_what_a_calendar_shows(
        unit in prop::sample::select(vec![CalendarUnit::Minute, CalendarUnit::Hour, CalendarUnit::Day, CalendarUnit::Week, CalendarUnit::Month]),
        name in prop::sample::select(ZONES.to_vec()),
        now in 946_684_800_000i64..2_051_222_400_000,
    ) {
        let window = Window::Calendar { unit, zone: Zone::parse(name).unwrap() };
        let zone = jiff::tz::TimeZone::get(name).unwrap();
        // What a person reads off the calendar and the clock; two instants with the same face share a span.
        let face = |at: i64| {
            let local = Timestamp::from_millisecond(at).unwrap().to_zoned(zone.clone());
            let offset = local.offset().seconds();
            let week = local.date().iso_week_date();
            match unit {
                CalendarUnit::Minute => (local.date().to_string(), i32::from(local.hour()) * 60 + i32::from(local.minute()), offset),
                CalendarUnit::Hour => (local.date().to_string(), i32::from(local.hour()), offset),
                CalendarUnit::Day => (local.date().to_string(), 0, 0),
                CalendarUnit::Week => (week.year().to_string(), i32::from(week.week()), 0),
                CalendarUnit::Month => (local.year().to_string(), i32::from(local.month()), 0),
            }
        };
        let start = window.bucket(now);
        let end = window.frees_at(start);
        prop_assert!(start <= now && now < end, "{start} {now} {end}");
        prop_assert!((end - start) as u64 <= window.millis());
        prop_assert_eq!(window.counts_from(now), start);
        prop_assert_eq!(window.bucket(end), end, "the next span begins where this one ends");
        prop_assert_eq!(face(start), face(now));
        prop_assert_eq!(face(end - 1), face(now));
        prop_assert_ne!(face(start - 1), face(now));
        prop_assert_ne!(face(end), face(now));
    }
}

/// Offsets of quarters and halves of hours, and clocks that change at midnight, or by half an hour, or skip a whole day.
const ZONES: [&str; 9] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/Havana",
    "Asia/Beirut",
    "Pacific/Apia",
    "Africa/Cairo",
];
