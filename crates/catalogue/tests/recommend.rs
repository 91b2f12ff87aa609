//! Recommended policies: what they say, and that each passes a check against the definitions it was made from.

use catalogue::{Profile, policy_by_risk, policy_json, policy_yaml, treatment};
use json::{Document, Strictness, Value};
use policy::{Source, Tools};
use proptest::prelude::*;

const PROFILES: [Profile; 3] = [Profile::Strict, Profile::Recommended, Profile::Permissive];

fn parse(list: &str) -> Document {
    Document::parse(list.to_owned(), Strictness::Reply).expect("JSON")
}

fn tools(document: &Document) -> Vec<Value<'_>> {
    document.root().get("tools").and_then(Value::elements).expect("a list of tools").collect()
}

/// What loading a policy and holding it against its tools finds.
fn problems(name: &str, text: &str, tools: &Tools) -> Vec<String> {
    let source = Source::new(name, text.to_owned());
    let loaded = policy::load(&source);
    let found = policy::check_tools(&source, &loaded, tools);
    // That two tools of a server are told apart by case alone is the server's doing, and rightly a warning.
    let all = loaded.problems.iter().chain(&found).filter(|problem| problem.code != "P109");
    all.map(|problem| problem.render(&source, false)).collect()
}

/// Every profile in both forms, without a single problem.
#[track_caller]
fn holds(list: &str) {
    holds_for(list, &PROFILES);
}

#[track_caller]
fn holds_for(list: &str, profiles: &[Profile]) {
    let document = parse(list);
    let known = Tools::parse(list.as_bytes()).expect("a list of tools");
    let known = known.graded(|tool, _| catalogue::grade(tool, "acme").class);
    for &profile in profiles {
        for (file, text) in [
            ("policy.yaml", policy_yaml("acme", &tools(&document), profile)),
            ("policy.json", policy_json("acme", &tools(&document), profile)),
            ("by-risk.yaml", policy_by_risk("acme", &tools(&document), profile)),
        ] {
            let found = problems(file, &text, &known);
            assert!(found.is_empty(), "{profile:?}:\n{text}\n{}", found.join("\n"));
        }
    }
}

#[test]
fn a_policy_by_risk_names_no_tool_and_treats_each_class() {
    let list = r#"{"tools": [{"name": "read_page", "description": "Reads a page."}, {"name": "delete_page", "description": "Deletes a page for good."}]}"#;
    let text = policy_by_risk("acme", &tools(&parse(list)), Profile::Recommended);
    let expected = "risk:
  # now 1: read_page
  read: {}
  # none now
  write: {rate_limit: 30/minute}
  # none now
  execute: {rate_limit: 10/minute, validate: {required_args: true}}
  # now 1: delete_page
  destructive: hide
  # none now
  financial: {action: require_approval, rate_limit: 5/minute, validate: {required_args: true, types: true, unknown: deny}}
";
    assert!(text.ends_with(expected), "{text}");
    holds(list);
}

fn recommended(list: &str) -> String {
    policy_yaml("acme", &tools(&parse(list)), Profile::Recommended)
}

const START_RUN: &str = r#"{"tools": [{"name": "StartRun", "description": "Start a workflow run.",
    "inputSchema": {"type": "object", "required": ["workflow_id", "role_arn"], "properties": {
        "workflow_id": {"type": "string"}, "role_arn": {"type": "string"}, "output_path": {"type": "string"}}}}]}"#;

#[test]
fn what_a_policy_does_with_a_tool_is_said_in_words() {
    let said = |list: &str, profile| treatment("acme", tools(&parse(list))[0], profile);
    let hidden = "it is hidden from the model, and calls are refused";
    assert_eq!(
        said(START_RUN, Profile::Recommended),
        "it is allowed, at most 10 calls a minute, with its required arguments checked"
    );
    let deletes = r#"{"tools": [{"name": "delete_page", "description": "Deletes a page for good."}]}"#;
    assert_eq!(said(deletes, Profile::Recommended), hidden);
    assert_eq!(
        said(deletes, Profile::Permissive),
        "a person is asked before each call, at most 10 calls a minute, with its required arguments checked"
    );
    let odd = r#"{"tools": [{"name": "read_*", "description": "Reads a page."}]}"#;
    assert_eq!(said(odd, Profile::Recommended), "it is refused, because its name would be a pattern");
}

#[test]
fn what_executes_is_limited_and_its_arguments_are_checked() {
    let text = recommended(START_RUN);
    let expected = "  \"StartRun\":\n    rate_limit: 10/minute\n    validate: {required_args: true}\n";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("conditions: [{path: args.role_arn, op: in, value: [\"FILL-IN\"]}]"), "{text}");
    holds(START_RUN);
    let json = policy_json("acme", &tools(&parse(START_RUN)), Profile::Recommended);
    assert!(json.contains(r#""counter": "startrun_rate", "window": "minute", "max": 10, "scope": "grant""#), "{json}");
}

/// The rules of a policy for one tool, on one line, without the name.
fn rules(tool: &str, profile: Profile) -> String {
    let text = policy_yaml("acme", &tools(&parse(&format!(r#"{{"tools": [{tool}]}}"#))), profile);
    let said = text.lines().skip_while(|line| *line != "default: deny").skip(1).map(str::trim);
    said.filter(|line| !line.is_empty() && !line.starts_with('#')).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_profile_treats_each_class_by_what_it_can_do() {
    const ALL: &str = "{required_args: true, types: true, unknown: deny}";
    const HIDDEN: &str = "hide: - \"it\" tools: {}";
    let limited = |pace: u32| format!("tools: \"it\": rate_limit: {pace}/minute");
    let required = |pace: u32| format!("{} validate: {{required_args: true}}", limited(pace));
    let asked = |pace: u32, validate: &str| {
        format!("tools: \"it\": action: require_approval rate_limit: {pace}/minute validate: {validate}")
    };
    let whole = |pace: u32| format!("{} validate: {ALL}", limited(pace));
    let free = "tools: \"it\": {}".to_owned();
    for (description, [strict, recommended, permissive]) in [
        ("List items", [required(60), free.clone(), free]),
        ("Create an item", [whole(10), limited(30), limited(120)]),
        ("Start a workflow run.", [asked(5, ALL), required(10), required(60)]),
        ("Delete an item", [HIDDEN.into(), HIDDEN.into(), asked(10, "{required_args: true}")]),
        ("Refund a payment", [HIDDEN.into(), asked(5, ALL), asked(10, "{required_args: true}")]),
    ] {
        let tool = format!(r#"{{"name": "it", "description": "{description}"}}"#);
        for (profile, expected) in PROFILES.into_iter().zip([strict, recommended, permissive]) {
            assert_eq!(rules(&tool, profile), expected, "{profile:?}: {description}");
        }
        // A policy that lists nothing is warned of.
        holds(&format!(r#"{{"tools": [{tool}, {{"name": "plain", "description": "List things"}}]}}"#));
    }
}

#[test]
fn a_router_keeps_its_harmless_operations() {
    let list = r#"{"tools": [{"name": "manage_tables", "description": "Manage tables", "inputSchema": {"type": "object", "required": ["operation"],
        "properties": {"operation": {"type": "string", "enum": ["list", "create", "delete"]}}}}]}"#;
    let text = recommended(list);
    assert!(text.contains(r#"{conditions: [{path: "args.operation", op: in, value: ["list", "create"]}]}"#), "{text}");
    holds(list);
}

#[test]
fn a_flag_that_deletes_is_refused_and_the_rest_allowed() {
    let list = r#"{"tools": [{"name": "drain_node", "description": "Drain a node", "inputSchema": {"type": "object",
        "properties": {"node": {"type": "string"}, "delete_data": {"type": "boolean"}}}}]}"#;
    let text = recommended(list);
    assert!(text.contains(r#"deny_if:"#) && text.contains(r#"{path: "args.delete_data", op: eq, value: true}"#), "{text}");
    holds(list);
}

#[test]
fn a_batch_weighs_what_it_holds() {
    let list = r#"{"tools": [{"name": "create_issues", "description": "Create issues", "inputSchema": {"type": "object", "required": ["issues"],
        "properties": {"issues": {"type": "array", "items": {"type": "object"}}}}}]}"#;
    let text = recommended(list);
    assert!(text.contains("max: 30, weight: args.issues.length"), "{text}");
    holds(list);
}

#[test]
fn the_policies_of_real_servers_pass_check() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora/tools");
    let Ok(entries) = std::fs::read_dir(&directory) else {
        eprintln!("skipped: {} is not there", directory.display());
        return;
    };
    for (i, entry) in entries.enumerate() {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a file");
        // That a policy which lists nothing denies everything is a warning, and right.
        if !tools(&parse(&text)).is_empty() {
            holds_for(&text, &PROFILES[i % 3..=i % 3]);
            // A sample is enough: that each line loads is shown above.
            if i % 5 == 0 {
                let filled = filled_in(&policy_yaml("acme", &tools(&parse(&text)), PROFILES[i % 3]));
                let mut found = problems("policy.yaml", &filled, &Tools::parse(text.as_bytes()).expect("a list of tools"));
                // Where a rule refuses calls without its argument, it says so.
                if filled.contains("# refuses calls without it") {
                    found.retain(|problem| !problem.contains("is optional: a call without it is denied"));
                }
                assert!(found.is_empty(), "{filled}\n{}", found.join("\n"));
            }
        }
    }
}

/// The policy with the marks before the lines to fill in taken away, as a reader does it.
fn filled_in(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut fills = false;
    for line in text.lines() {
        match line.strip_prefix("    # ") {
            Some(said) if said.starts_with("Fill in") => {
                fills = true;
                if said.contains("{}") {
                    let entry = out.last_mut().expect("an entry comes before its rules");
                    *entry = entry.trim_end_matches(" {}").to_owned();
                }
            }
            Some(rule) if fills => out.push(format!("    {rule}")),
            _ => {
                fills = false;
                out.push(line.to_owned());
            }
        }
    }
    out.join("\n")
}

#[test]
fn what_is_filled_in_loads_and_leaves_what_may_be_left_out() {
    let list = r#"{"tools": [{"name": "copy", "description": "Copies a page.", "inputSchema": {"type": "object", "required": ["request", "urls"],
        "properties": {"profile": {"type": "string"}, "urls": {"type": "array", "items": {"type": "string"}},
        "file_path": {"type": "string"},
        "request": {"type": "object", "required": ["url"], "properties": {"url": {"type": "string"}}}}}}]}"#;
    let text = recommended(list);
    for line in [
        "- {name: whose rights, conditions: [{path: args.profile, op: in, value: [\"FILL-IN\"], optional: true}]}\n",
        "- {name: \"which hosts: urls[*]\", conditions: [{path: \"args.urls[*]\", op: host_in, value: [\"FILL-IN.example\"]}]}\n",
        "- {name: \"which hosts: request.url\", conditions: [{path: args.request.url, op: host_in, value: [\"FILL-IN.example\"]}]}\n",
        "- {name: where, conditions: [{path: args.file_path, op: path_within, value: [\"/srv/FILL-IN\"], optional: true}]} # calls without it go by: the server's default applies\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    let known = Tools::parse(list.as_bytes()).expect("a list of tools");
    let found = problems("policy.yaml", &filled_in(&text), &known);
    assert!(found.is_empty(), "{}\n{}", filled_in(&text), found.join("\n"));
}

#[test]
fn nothing_waits_to_be_filled_in_where_no_text_can_be_given_or_each_is_listed() {
    let list = r#"{"tools": [{"name": "list", "description": "Lists pages.", "inputSchema": {"type": "object",
        "properties": {"account": {"type": "array", "items": {"type": "object"}}, "profile": {"type": "array", "items": {"type": "string"}},
        "account_profile": {"const": "mine"}, "profile_account": {"oneOf": [{"const": "mine"}, {"type": "null"}]}}}}]}"#;
    let text = recommended(list);
    assert!(text.contains("args.profile[*]") && !text.contains("args.account") && !text.contains("args.profile_"), "{text}");
}

#[test]
fn a_command_may_be_a_list_of_its_words_and_commands_a_list_of_lines() {
    let list = r#"{"tools": [{"name": "exec", "description": "Executes commands in a shell.", "inputSchema": {"type": "object",
        "required": ["command"], "properties": {"command": {"type": "array", "items": {"type": "string"}, "description": "The command to execute"},
        "commands": {"type": "array", "items": {"type": "string"}, "description": "Shell commands to execute"},
        "cli_command": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}], "description": "A command to execute"}}}}]}"#;
    let text = recommended(list);
    for rule in [
        "{path: args.command, op: command_in, value: [\"FILL-IN\"]}]}\n",
        "{path: \"args.commands[*]\", op: command_in, value: [\"FILL-IN\"], optional: true}]} # calls without it go by",
        "{path: args.cli_command, op: command_in, value: [\"FILL-IN\"], optional: true}]} # a list is taken for the words of one command; calls without it go by",
    ] {
        assert!(text.contains(rule), "{rule}{text}");
    }
}

#[test]
fn a_rule_on_a_command_refuses_calls_that_say_it_in_another_way() {
    let list = r#"{"tools": [{"name": "exec", "description": "Executes a command or a script in a shell.", "inputSchema": {"type": "object",
        "properties": {"command": {"type": "string", "description": "The command to execute"},
        "script": {"type": "string", "description": "The script to execute"}}}}]}"#;
    let text = recommended(list);
    let rule = "{path: args.command, op: command_in, value: [\"FILL-IN\"]}]} # refuses calls without it\n";
    assert!(text.contains(rule), "{text}");
}

#[test]
fn what_is_hidden_is_described_and_arguments_are_not_told_twice() {
    let list = r#"{"tools": [{"name": "drop_index", "description": "Drops an index.\n\nArgs:\n    name: the index\n", "inputSchema": {"type": "object"}}]}"#;
    let text = recommended(list);
    assert!(text.contains("hide:\n  # Drops an index.\n  # Destructive"), "{text}");
}

fn words(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(of), 1..4).prop_map(|words| words.join("_"))
}

fn property() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        Just(serde_json::json!({"type": "string"})),
        Just(serde_json::json!({"type": "boolean"})),
        Just(serde_json::json!({"type": ["string", "null"], "default": null})),
        Just(serde_json::json!({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]})),
        Just(serde_json::json!({"type": "array", "items": {"type": "object"}})),
        Just(serde_json::json!({"type": "string", "const": "delete"})),
        Just(serde_json::json!({"oneOf": [{"const": "list"}, {"const": "delete", "title": "Delete"}]})),
        Just(serde_json::json!({"oneOf": [{"type": "object", "properties": {"operation": {"const": "get"}}},
            {"type": "object", "required": ["operation"], "properties": {"operation": {"const": "delete"}, "path": {"type": "string"}}}]})),
        Just(serde_json::json!({"type": "object", "required": ["url"], "properties": {
            "url": {"type": "string", "description": "URL to fetch"}, "file_path": {"type": "string"},
            "rows": {"type": "array", "items": {"type": "object", "properties": {"sql": {"type": "string"}, "command": {"type": "string"}}}}}})),
        prop::collection::vec(words(&["list", "get", "create", "delete", "run", "refund"]), 1..5).prop_map(|mut values| {
            values.sort();
            values.dedup();
            serde_json::json!({"type": "string", "enum": values})
        }),
        any::<String>().prop_map(|text| serde_json::json!({"description": text})),
    ]
}

fn definition() -> impl Strategy<Value = serde_json::Value> {
    let name = prop_oneof![
        words(&["list", "get", "create", "delete", "update", "run", "manage", "order", "item", "node", "and"]),
        any::<String>()
    ];
    let key = prop_oneof![
        words(&["operation", "path", "url", "sql", "delete", "ids", "token", "items", "data", "command", "profile", "account"]),
        any::<String>()
    ]
    .boxed();
    let properties = || prop::collection::btree_map(key.clone(), property(), 0..6);
    let hint = || prop::option::of(any::<bool>());
    let more = (prop::option::of(any::<String>()), [hint(), hint(), hint(), hint()], prop::option::of(properties()));
    (name, any::<String>(), properties(), any::<u8>(), more).prop_map(
        |(name, description, properties, required, (title, hints, output))| {
            let required: Vec<&String> =
                properties.keys().enumerate().filter(|(i, _)| required >> i & 1 == 1).map(|(_, key)| key).collect();
            let mut definition = serde_json::json!({"name": name, "description": description,
                "inputSchema": {"type": "object", "properties": properties, "required": required}});
            if let Some(title) = title {
                definition["title"] = title.into();
            }
            let names = ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"];
            for (name, hint) in names.into_iter().zip(hints) {
                if let Some(hint) = hint {
                    definition["annotations"][name] = hint.into();
                }
            }
            if let Some(output) = output {
                definition["outputSchema"] = serde_json::json!({"type": "object", "properties": output});
            }
            definition
        },
    )
}

proptest! {
    #[test]
    fn whatever_a_server_says_its_policy_passes_check(definition in definition(), clashes in any::<bool>()) {
        let mut all = vec![definition.clone(), serde_json::json!({"name": "plain", "description": "List things"})];
        if clashes {
            // Another tool whose name is told apart by case alone.
            let mut other = definition;
            other["name"] = other["name"].as_str().unwrap_or_default().to_uppercase().into();
            all.push(other);
        }
        let list = serde_json::json!({"tools": all}).to_string();
        if let Ok(known) = Tools::parse(list.as_bytes()) {
            holds(&list);
            let filled = filled_in(&recommended(&list));
            let mut found = problems("policy.yaml", &filled, &known);
            // Where a rule refuses calls without its argument, it says so.
            if filled.contains("# refuses calls without it") {
                found.retain(|problem| !problem.contains("is optional: a call without it is denied"));
            }
            assert!(found.is_empty(), "{filled}\n{}", found.join("\n"));
        }
    }
}
