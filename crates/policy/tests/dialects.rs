//! Every dialect loads: the parity corpus, the published policies, and the forms of the reference, one by one.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use policy::{Loaded, Severity, Source, load};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rendered(source: &Source, loaded: &Loaded) -> String {
    loaded.problems.iter().map(|problem| problem.render(source, false)).collect()
}

fn errors(loaded: &Loaded) -> usize {
    loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
}

#[track_caller]
fn loads(name: &str, text: &str) -> Loaded {
    let source = Source::new(name, text);
    let loaded = load(&source);
    assert!(loaded.policy.is_some(), "{text}\n{}", rendered(&source, &loaded));
    loaded
}

#[track_caller]
fn refused(text: &str, line: u32, part: &str) {
    let name = if text.trim_start().starts_with('{') { "p.json" } else { "p.yaml" };
    let source = Source::new(name, text);
    let loaded = load(&source);
    assert!(loaded.policy.is_none(), "this loads:\n{text}");
    let found = loaded.problems.iter().any(|problem| {
        let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
        let whole = format!("{} {} {}", problem.message, or_empty(&problem.label), or_empty(&problem.help));
        problem.severity == Severity::Error && problem.line == line && whole.contains(part)
    });
    assert!(found, "no error in line {line} with `{part}`:\n{}", rendered(&source, &loaded));
}

#[track_caller]
fn rule(text: &str) -> Loaded {
    let indented: String = text.lines().map(|line| format!("        {line}\n")).collect();
    loads("p.yaml", &format!("version: \"1\"\ntools:\n  t:\n    rules:\n      -{}", &indented[7..]))
}

/// A rule of one line, in line 5.
#[track_caller]
fn refused_rule(text: &str, part: &str) {
    refused(&format!("version: \"1\"\ntools:\n  t:\n    rules:\n      - {text}\n"), 5, part);
}

#[test]
fn the_parity_corpus_is_judged_as_stated() {
    let text = std::fs::read(repository().join("tests/corpora/intercept-parity.json")).unwrap();
    let corpus: Value = serde_json::from_slice(&text).unwrap();
    let mut judged = 0;
    for case in corpus["cases"].as_array().unwrap() {
        let (Some(id), Some(policy)) = (case["id"].as_str(), case["policy"].as_str()) else { continue };
        let source = Source::new("policy.yaml", policy);
        let loaded = load(&source);
        let report = format!("{id}\n{policy}\n{}", rendered(&source, &loaded));
        match case["kind"].as_str().unwrap() {
            "validate" => {
                assert_eq!(loaded.policy.is_some(), case["valid"].as_bool().unwrap(), "{report}");
                let lines: Vec<u64> =
                    loaded.problems.iter().filter(|p| p.severity == Severity::Error).map(|p| p.line.into()).collect();
                let hit = |group: &Value| group.as_array().unwrap().iter().any(|line| lines.contains(&line.as_u64().unwrap()));
                if let Some(group) = case.get("lines") {
                    assert!(hit(group), "{report}");
                }
                for group in case.get("each").and_then(Value::as_array).into_iter().flatten() {
                    assert!(hit(group), "{report}");
                }
            }
            // Refused, or counted: here it is refused.
            "counts" => assert!(loaded.policy.is_none(), "{report}"),
            _ => assert!(loaded.policy.is_some(), "{report}"),
        }
        judged += 1;
    }
    assert!(judged >= 70, "only {judged} cases were judged");
}

#[test]
fn the_published_policies_load_unchanged() {
    for name in PUBLISHED {
        let text = std::fs::read_to_string(repository().join("examples/healthomics/policies").join(name)).unwrap();
        let loaded = loads(name, &text);
        let warnings: Vec<_> = loaded.problems.iter().map(|problem| problem.help.clone().unwrap_or_default()).collect();
        if name.ends_with(".yaml") {
            assert_eq!(warnings, ["add `version: \"1\"` as the first line"], "{name}");
        } else {
            assert_eq!(warnings, [""; 0], "{name}");
        }
    }
}

const PUBLISHED: [&str; 5] = [
    "CreateAHORunGroup.policy.json",
    "StartAHORun.intercept.yaml",
    "StartAHORun.policy.json",
    "StartAHORunBatch.intercept.yaml",
    "StartAHORunBatch.policy.json",
];

#[test]
fn intercept_version_1_loads() {
    loads(
        "p.yaml",
        r#"
version: "1"
description: "all of it"
default: deny
hide: [tool_a, "tool_b"]
tools:
  pay:
    rules:
      - name: "amounts"
        action: evaluate
        conditions:
          - {path: "args.a.b", op: eq, value: 1}
          - {path: args.c, op: neq, value: x}
          - {path: args.d, op: in, value: [1, a, null]}
          - {path: args.e, op: not_in, value: [1]}
          - {path: args.f, op: lt, value: 1.5}
          - {path: args.f, op: gte, value: -1}
          - {path: args.g, op: regex, value: "^a$"}
          - {path: args.h, op: contains, value: x}
          - {path: args.i, op: exists, value: true}
        on_deny: "message"
      - name: spent
        conditions: [{path: state.pay.spent, op: lte, value: 1000.50}]
        state: {counter: spent, window: day, increment_from: args.amount}
      - name: pace
        rate_limit: 5/hour
      - name: watch
        conditions: [{path: state._global.calls, op: lt, value: 10}]
  "*":
    rules:
      - name: calls
        conditions: [{path: state._global.calls, op: lt, value: 30}]
        state: {counter: calls, window: minute, increment: 1}
"#,
    );
}

#[test]
fn later_intercept_forms_load() {
    rule(
        "name: large-refund\naction: require_approval\nconditions: [{path: args.amount, op: gt, value: 100000}]\napproval_timeout: 30m",
    );
    rule("action: require_approval");
    rule("name: image-budget\nspend: {per_call: 0.50, daily: 50.00}");
    rule("spend_limit: $500/day");
    rule("spend_limit: 500/month\nincrement_from: args.cost");
    rule("spend: {daily: \"€50\"}\nincrement_from: args.items[*].cost");
    rule("idempotency_window: 5m");
    let loaded = loads(
        "p.yaml",
        "version: \"1\"\ndefault: deny\ntools: {t: {}}\napprovals: {webhook: {url: \"https://h.example\", secret: hunter2}}\n",
    );
    assert_eq!(loaded.problems.len(), 1);
    assert!(loaded.problems[0].message.contains("secret is written out is not sent"));
    assert_eq!(loaded.problems[0].severity, Severity::Warning);
}

#[test]
fn catalogue_snippets_load() {
    rule("action: allow\nrate_limit: {max: 10, window: 60}\nvalidate: {required_args: true}");
    rule("action: deny\nreason: \"no\"");
    rule("rate_limit: 30/hour");
    let loaded = loads("github.yaml", "tools:\n  t:\n    rules:\n      - action: deny\n");
    assert_eq!(loaded.problems[0].help.as_deref(), Some("add `version: \"1\"` as the first line"));
}

#[test]
fn hosted_policies_load() {
    let loaded = loads(
        "policy.json",
        r#"{ "version": "1", "default": "deny", "hide": ["delete_account"],
  "all_tools": { "limits": [ {"counter": "calls", "window": "minute", "max": 60, "scope": "grant"} ] },
  "tools": {
    "create_charge": {
      "require": [ {"conditions": [ {"path": "args.currency", "op": "in", "value": ["usd","eur"]} ], "on_deny": "…"} ],
      "deny_if": [ {"conditions": [ {"path": "args.amount", "op": "gt", "value": 50000} ], "on_deny": "…"},
                   {"conditions": []} ],
      "limits":  [ {"counter": "create_charge_rate", "window": "minute", "max": 10, "scope": "grant"},
                   {"counter": "tokens", "window": "day", "max": 1e5, "scope": "principal", "increment_from": "args.max_tokens"} ] },
    "read_thing": {},
    "ask": {"action": "require_approval", "reason": "ask first", "approval_timeout": "1h"},
    "blocked": {"action": "deny"},
    "paced": {"action": "allow", "rate_limit": {"max": 10, "window": 60}, "validate": {"required_args": true}} } }"#,
    );
    assert!(loaded.problems.iter().all(|problem| problem.severity == Severity::Warning));
}

#[test]
fn our_own_forms_load_in_any_mix() {
    loads(
        "p.yaml",
        r#"
version: "1"
default: deny
mode: enforce
hide: ["internal_*"]
all_tools:
  limits:
    - {counter: all, window: 15m, max: 100, scope: upstream}
tools:
  delete_*:
    mode: shadow
    rate_limit: {max: 3, window: week}
  delete_it:
    require:
      - conditions: [{path: 'args.items[*].amount', op: lte, value: 10, quantifier: sum}]
        message: "too much"
    require_approval:
      - conditions: [{path: args.force, op: eq, value: true}]
        approval_timeout: 10m
    limits:
      - {counter: n, window: month, max: 0, weight: args.commands.length, timezone: Europe/Berlin, message: "{used} of {max} until {resets_at}"}
      - {counter: n, window: hour, max: 10, align: calendar, scope: global, mode: shadow}
    rules:
      - name: more
        time: {days: mon-fri, hours: 09:00-17:00, timezone: Europe/Berlin}
        validate: {required_args: true, types: true, unknown: deny}
        conditions:
          - {path: args.s, op: not_regex, value: DROP}
          - {path: args.s, op: starts_with, value: "a/"}
          - {path: args.s, op: length_lte, value: 100}
          - {path: 'args["a.b"][0]', op: exists, value: true}
          - {path: 'args.items[*].ok', op: eq, value: true, quantifier: any}
"#,
    );
}

#[test]
fn classes_of_risk_take_what_tools_take_or_a_word() {
    let policy = loads(
        "p.yaml",
        "version: '1'\ndefault: deny\nrisk:\n  read: {}\n  write: allow\n  execute: {limits: [{counter: c, window: hour, max: 5}]}\n  destructive: hide\n  financial: require_approval\n",
    );
    let policy = policy.policy.unwrap();
    let listed = |class| policy.lists("t", Some(class));
    let hidden: Vec<_> = policy::RiskClass::ALL.into_iter().filter(|class| !listed(*class)).collect();
    assert_eq!(hidden, [policy::RiskClass::Destructive]);
    assert!(policy.may_ask("t") && policy.needs_class("t") && !policy.lists("t", None));
    loads("p.json", r#"{"version": "1", "default": "deny", "risk": {"read": {}, "execute": "deny"}}"#);
    refused("version: '1'\nrisk: {reed: {}}\n", 2, "write `read`");
    refused("version: '1'\nrisk: {read: maybe}\n", 2, "`allow`, `require_approval`, `deny` or `hide`");
    refused("version: '1'\nrisk: {read: [hide]}\n", 2, "expected a mapping");
    refused("version: '1'\nrisk:\n  read:\n", 3, "write `read: {}` to list its tools");
    refused("version: '1'\nrisk: {read: {rate: 5}}\n", 2, "unknown key `rate`");
    refused("version: '1'\ntools: {_risk_read: {}}\n", 2, "`risk: {read: …}`");
}

#[test]
fn an_operator_that_parses_says_what_it_cannot_go_by() {
    for (op, value) in [
        ("path_within", "[../x]"),
        ("host_in", "['*']"),
        ("sql_statement_in", "[selec]"),
        ("command_in", "['ls; id']"),
        ("cidr_in", "[10.0.0.1/8]"),
    ] {
        refused_rule(
            &format!("{{conditions: [{{path: args.x, op: {op}, value: {value}}}]}}"),
            &format!("`{op}` cannot go by this"),
        );
    }
}

#[test]
fn methods_and_what_servers_ask_for_are_named_as_the_protocol_has_them() {
    let methods = |line: &str, part: &str| refused(&format!("version: \"1\"\nmethods: {{{line}}}\n"), 2, part);
    methods("tools/call: deny", "`tools/call` has rules of its own");
    methods("\"tools/*\": allow", "write rules under `tools`");
    methods("tools: deny", "write rules under `tools`");
    methods("sampling/createMessage: deny", "write `sampling: deny` under `server_requests`");
    methods("roots: deny", "write `roots: deny` under `server_requests`");
    methods("ping: deny", "no conversation can do without `ping`");
    methods("resource/read: deny", "write `resources/read`");
    methods("prompt: deny", "write `prompts`");
    methods("\"promts/*\": deny", "write `prompts/*`");
    methods("frobnicate: deny", "write a method as `resources/read`");
    methods("\"x y\": deny", "cannot stand in the name of a method");
    methods("prompts/get: ask", "nobody can be asked about this yet");
    methods("prompts/get: block", "write `deny`");
    methods("prompts: deny, \"prompts/*\": deny", "equally well");
    methods("\"prom?ts/*\": deny, \"*rompts/*\": allow", "equally well");
    refused("version: \"1\"\nmethods: [prompts]\n", 2, "a mapping from the names of methods");
    refused("version: \"1\"\nserver_requests: {samplin: deny}\n", 2, "write `sampling`");
    refused("version: \"1\"\nserver_requests: {elicitation: {urls: deny}}\n", 2, "write `url`");
    refused("version: \"1\"\nserver_requests: {elicitation: ask}\n", 2, "nobody can be asked about this yet");
    refused("version: \"1\"\ndefinitions: {change: deny}\n", 2, "write `changed`");
    refused("version: \"1\"\ndefinitions: {new: hide}\n", 2, "expected `allow`, `warn`, `ask` or `deny`");
    refused("version: \"1\"\nserver_requests: {roots: yes}\n", 2, "expected `allow` or `deny`");
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    refused("version: \"1\"\ndefualt: deny\n", 2, "write `default`");
    refused("version: \"1\"\nhidden: [x]\n", 2, "write `hide`");
    refused_rule("{name: r, action: deny, on_denny: x}", "write `on_deny`");
    refused_rule("{conditions: [{path: args.x, operator: eq, value: 1}]}", "write `op`");
    refused_rule("{conditions: [{path: args.x, op: eqq, value: 1}]}", "write `eq`");
    refused_rule("{action: block}", "write `deny`");
    refused("version: \"1\"\nconditions: []\n", 2, "belongs into a rule");
}

#[test]
fn numbers_that_count_nothing_sensible_are_refused() {
    for rate in
        ["0/hour", "-1/hour", "1.5/hour", "/hour", "5/", "5", "5/fortnight", "01/hour", "5 / hour", "99999999999999999999/hour"]
    {
        refused_rule(&format!("{{rate_limit: \"{rate}\"}}"), "expected");
    }
    for (max, part) in [
        ("-1", "negative"),
        (".nan", "finite"),
        ("18446744073709551615", "too large"),
        ("0.0000001", "six decimals"),
        ("\"5\"", "without quotes"),
    ] {
        refused_rule(&format!("{{rate_limit: {{max: {max}, window: 60}}}}"), part);
    }
    for window in ["0", "-1", "0.5", "1e12", "0s", "401d"] {
        refused_rule(&format!("{{rate_limit: {{max: 1, window: {window}}}}}"), "expected");
    }
    for increment in ["-5", ".inf", "0", "1e300"] {
        let conditions = "conditions: [{path: state.t.c, op: lte, value: 1}]";
        refused_rule(&format!("{{{conditions}, state: {{counter: c, window: hour, increment: {increment}}}}}"), "increment");
    }
    rule("rate_limit: {max: 0, window: 60}");
}

#[test]
fn a_counter_without_a_bound_or_a_declaration_is_refused() {
    refused_rule("{conditions: [{path: args.x, op: exists, value: true}], state: {counter: n, window: hour}}", "no upper bound");
    refused_rule("{conditions: [{path: state.t.n, op: gt, value: 1}], state: {counter: n, window: hour}}", "no upper bound");
    refused_rule("{conditions: [{path: state.t.n, op: lte, value: 1}]}", "nothing counts `t.n`");
    refused_rule("{conditions: [{path: state.n, op: lte, value: 1}]}", "state.<tool>.<counter>");
    refused_rule(
        "{conditions: [{path: state.t.n, op: eq, value: 1}], state: {counter: n, window: hour}}",
        "does not apply to a counter",
    );
    refused_rule("{action: require_approval, conditions: [{path: state.t.n, op: gt, value: 1}]}", "cannot be a condition here");
    refused(
        r#"{"version": "1", "default": "deny",
 "tools": {"t": {"deny_if": [
   {"conditions": [{"path": "state.t.n", "op": "gt", "value": 1}]}]}}}"#,
        3,
        "cannot be a condition here",
    );
}

#[test]
fn one_counter_charged_twice_is_refused() {
    let rules = "version: \"1\"\ntools:\n  t:\n    rules:\n      - rate_limit: 5/hour\n      - rate_limit: 10/hour\n";
    refused(rules, 6, "also in line 5");
    let state =
        |window| format!("{{conditions: [{{path: state.t.n, op: lte, value: 1}}], state: {{counter: n, window: {window}}}}}");
    let rules = format!("version: \"1\"\ntools:\n  t:\n    rules:\n      - {}\n      - {}\n", state("hour"), state("day"));
    refused(&rules, 6, "also in line 5");
}

#[test]
fn keys_that_do_not_go_together_are_refused() {
    refused_rule("{action: deny, conditions: [{path: args.x, op: eq, value: 1}]}", "no meaning with `action: deny`");
    refused_rule("{action: allow, conditions: [{path: args.x, op: eq, value: 1}]}", "use `action: evaluate`");
    refused_rule("{action: deny, reason: a, on_deny: b}", "they are the same thing");
    refused_rule("{rate_limit: 5/hour, approval_timeout: 5m}", "without an approval");
    refused_rule("{name: r}", "does nothing");
    refused_rule("{rate_limit: {max: 5, window: 15m, align: calendar}}", "no span of this length");
    refused_rule("{rate_limit: 5/minute, timezone: Europe/Berlin}", "align: calendar");
    refused_rule("{conditions: []}", "is empty");
    refused_rule("{rate_limit: 5/hour, conditions: [{path: args.x, op: eq, value: 1}]}", "a rule of its own");
    refused_rule(
        "{action: require_approval, spend: {daily: 5}, conditions: [{path: args.x, op: eq, value: 1}]}",
        "a rule of its own",
    );
}

#[test]
fn yaml_that_readers_disagree_about_is_refused() {
    refused("version: 1\ndefault: deny\n", 1, "version: \"1\"");
    refused("version: 1.0\ndefault: deny\n", 1, "version: \"1\"");
    refused("version: \"1\"\ndefault: deny\ndefault: allow\n", 3, "first in line 2");
    refused("version: \"1\"\nx: &a {}\n", 2, "anchor");
    refused("version: \"1\"\ntools: {t: &a {}, u: *a}\n", 2, "alias");
    refused("version: \"1\"\ntools:\n  t:\n    <<: {}\n", 4, "merge key");
    refused("version: \"1\"\ntools: !!map {}\n", 2, "tag");
    refused("version: \"1\"\ntools: {}\n---\nversion: \"1\"\n", 3, "second document");
    refused("version: \"1\"\ntools:\n\tt: {}\n", 3, "tab");
    refused("\u{feff}version: \"1\"\n", 1, "byte-order mark");
    refused("version: \"1\"\n? [a]\n: b\n", 2, "list or mapping");
    refused("version: \"1\"\ntools: {null: {}}\n", 2, "not a string");
    refused("version: \"1\"\ntools: {1.0: {}}\n", 2, "write \"1.0\"");
    refused("version: \"1\"\ntools: {0o10: {}}\n", 2, "write \"0o10\"");
    refused_rule("{validate: {required_args: yes}}", "write `true`");
    refused_rule("{rate_limit: {max: 010, window: 60}}", "write a number as in");
    refused_rule("{rate_limit: {max: 1_000, window: 60}}", "write a number as in");
    refused_rule("{rate_limit: {max: 0x1f, window: 60}}", "decimal digits");
    refused_rule("{rate_limit: {max: ~, window: 60}}", "null");
    refused_rule("{conditions: [{path: args.x, op: in, value: [se, no]}]}", "write \"no\"");
    refused("", 1, "holds no policy");
    refused("# only this\n", 1, "holds no policy");
    refused("[1]\n", 1, "expected a mapping");
    loads(
        "p.yaml",
        "version: \"1\"\ndefault: deny\ntools: {no: {}, y: {}, 12:30: {}, 2026-01-01: {}, \"1.0\": {}, \"yes\": {}}\n",
    );
}

#[test]
fn json_is_read_as_strictly_as_yaml() {
    refused("{\"version\": \"1\", \"default\": \"deny\",\n \"tools\": {\"t\": {},\n \"t\": {}}}", 3, "first in line 2");
    refused("{\"version\": \"1\"}", 1, "\"default\": \"deny\"");
    refused("{\"version\": 1, \"default\": \"deny\"}", 1, "\"version\": \"1\"");
    refused("{\"version\": \"1\", \"default\": \"deny\",\n}", 2, "trailing commas");
    refused("{\"version\": \"1\", \"default\": \"deny\",\n \"tols\": {}}", 2, "write `tools`");
    refused("{\"version\": \"1\", \"default\": \"deny\", \"description\": \"\\ud800\"}", 1, "surrogate");
    loads("p.json", "{\"version\": \"1\", \"default\": \"deny\", \"tools\": {\"t\": {}}, \"description\": \"\\ud83d\\ude00\"}");
}

#[test]
fn names_that_no_tool_can_have_are_refused() {
    refused("version: \"1\"\nhide: [\"\"]\n", 2, "is empty");
    refused("version: \"1\"\nhide: [a, a]\n", 2, "hidden twice");
    refused("version: \"1\"\ntools: {\"a\\nb\": {}}\n", 2, "control character");
    refused("version: \"1\"\ntools: {\"read x*\": {}}\n", 2, "cannot stand in a pattern");
    refused("version: \"1\"\ntools: {get_*: {}, \"*_all\": {}}\n", 2, "");
}

#[test]
fn globs_of_one_length_that_overlap_are_refused() {
    refused("version: \"1\"\ntools:\n  get_*: {}\n  \"*_all\": {}\n  \"*_get\": {}\n", 5, "equally long");
}

#[test]
fn every_mistake_of_a_file_is_reported() {
    let source = Source::new(
        "p.yaml",
        "version: \"2\"\ndefault: block\ntools:\n  t:\n    rules:\n      - name: r\n        conditions:\n          - path: foo.bar\n            op: eqq\n            value: 1\n      - rate_limit: 5/fortnight\n      - action: denied\n        on_denny: x\n  u:\n    limits:\n      - counter: ''\n        window: hourly\n        max: -1\n",
    );
    let loaded = load(&source);
    let lines: Vec<u32> = loaded.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 2, 8, 9, 11, 12, 13, 16, 17, 18], "{}", rendered(&source, &loaded));
    assert_eq!(errors(&loaded), 10);
}
