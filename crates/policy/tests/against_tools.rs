//! Policies against what a server lists.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use jiff::Timestamp;
use json::{Document, Strictness};
use policy::{Call, Policies, RiskClass, Schema, Severity, Source, Tools, check_tools, load};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

const TOOLS: &str = r##"{"server": "s", "tools": [
  {"name": "create_charge", "inputSchema": {"type": "object", "required": ["amount", "currency"], "properties": {
    "amount": {"type": "integer"},
    "currency": {"enum": ["usd", "eur"]},
    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
    "extra": {"type": "object"}
  }, "$defs": {"item": {"type": "object", "required": ["price"], "properties": {"price": {"type": "number"}, "sku": {"type": "string"}}}}}},
  {"name": "delete_it", "inputSchema": {"type": "object", "properties": {"id": {"type": "string"}}}},
  {"name": "delete_all", "inputSchema": {"type": "object", "additionalProperties": true}}
]}"##;

#[track_caller]
fn found(text: &str) -> Vec<(Severity, u32, String)> {
    let source = Source::new("p.yaml", text);
    let by_name = |tool: json::Value<'_>, _: &str| match tool.get("name").unwrap().as_str().unwrap().starts_with("delete") {
        true => RiskClass::Destructive,
        false => RiskClass::Financial,
    };
    let tools = Tools::parse(TOOLS.as_bytes()).unwrap().graded(by_name);
    let loaded = load(&source);
    let whole = |problem: policy::Problem| {
        let parts = [Some(problem.message), problem.label, problem.help];
        (problem.severity, problem.line, parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    };
    check_tools(&source, &loaded, &tools).into_iter().map(whole).collect()
}

/// A condition on `create_charge`, in line 5.
fn condition(condition: &str) -> String {
    format!("version: \"1\"\ntools:\n  create_charge:\n    require:\n      - conditions: [{{{condition}}}]\n")
}

#[track_caller]
fn wrong(text: &str, line: u32, part: &str) {
    let problems = found(text);
    let hit = problems.iter().any(|(severity, at, whole)| *severity == Severity::Error && *at == line && whole.contains(part));
    assert!(hit, "no error `{part}` in line {line}: {problems:#?}");
}

#[track_caller]
fn right(text: &str) {
    assert_eq!(found(text), [], "{text}");
}

#[test]
fn a_name_that_the_server_does_not_list_is_an_error() {
    wrong("version: \"1\"\ntools:\n  create_charg: {}\n", 3, "write `create_charge`");
    wrong("version: \"1\"\ntools:\n  Create_Charge: {}\n", 3, "write `create_charge`");
    wrong("version: \"1\"\nhide: [delete_iit]\n", 2, "write `delete_it`");
    right("version: \"1\"\nhide: [delete_it]\ntools:\n  create_charge: {}\n  delete_*: {}\n");
    let problems = found("version: \"1\"\ntools:\n  remove_*: {}\n");
    assert_eq!((problems[0].0, problems[0].1), (Severity::Warning, 3));
}

#[test]
fn the_rules_of_a_class_are_held_to_the_tools_of_the_class_that_nothing_names() {
    let rules = "{deny_if: [{conditions: [{path: args.idd, op: eq, value: x}]}]}";
    // `delete_all` takes whatever it is given.
    right(&format!("version: \"1\"\ndefault: deny\nrisk: {{destructive: {rules}}}\n"));
    wrong(
        &format!("version: \"1\"\ndefault: deny\ntools: {{delete_all: {{}}}}\nrisk: {{destructive: {rules}}}\n"),
        4,
        "write `args.id`",
    );
    let problems = found("version: \"1\"\ndefault: deny\ntools:\n  delete_*: {}\nrisk: {destructive: hide}\n");
    assert_eq!((problems[0].0, problems[0].1), (Severity::Warning, 4));
    assert!(problems[0].2.contains("`delete_all` is Destructive, and 1 more like it"), "{problems:?}");
    right("version: \"1\"\ndefault: deny\ntools:\n  delete_*: {}\nrisk: {destructive: {}, read: {}}\n");
}

#[test]
fn an_argument_that_the_schema_does_not_declare_is_an_error() {
    wrong(&condition("path: args.amuont, op: lte, value: 1"), 5, "write `args.amount`");
    wrong(&condition("path: 'args.items[*].prize', op: lte, value: 1"), 5, "write `args.items[*].price`");
    wrong(&condition("path: 'args.amount[*]', op: lte, value: 1"), 5, "no list");
    wrong(&condition("path: args.amount.x, op: lte, value: 1"), 5, "no object");
    let limit = "version: \"1\"\ntools:\n  create_charge:\n    limits:\n      - {counter: c, window: day, max: 5, increment_from: args.cost}\n";
    wrong(limit, 5, "no argument `args.cost`");
    right(&condition("path: args.extra.whatever, op: eq, value: 1"));
    right("version: \"1\"\ntools:\n  delete_all: {deny_if: [{conditions: [{path: args.x, op: eq, value: 1}]}]}\n");
}

#[test]
fn an_operator_or_value_of_the_wrong_type_is_an_error() {
    wrong(&condition("path: args.amount, op: regex, value: '^1$'"), 5, "is a number; this looks at strings");
    wrong(&condition("path: args.currency, op: lte, value: 5"), 5, "is a string; this compares numbers");
    wrong(&condition("path: args.amount, op: eq, value: \"5\""), 5, "\"5\" is a string");
    wrong(&condition("path: args.currency, op: in, value: [usd, 5]"), 5, "`5` is a number");
    wrong(&condition("path: args.currency, op: in, value: [usd, eurr]"), 5, "write \"eur\"");
    wrong(&condition("path: args.amount.length, op: lte, value: 5"), 5, "no");
    right(&condition("path: args.amount, op: lte, value: 5"));
    right(&condition("path: args.currency, op: in, value: [usd]"));
}

#[test]
fn a_condition_on_an_optional_argument_is_a_warning() {
    let problems = found(&condition("path: args.note, op: eq, value: x"));
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].0, Severity::Warning);
    assert!(problems[0].2.contains("a call without it is denied"));
    assert!(problems[0].2.contains("write `optional: true` into the condition"));
    right(&condition("path: args.note, op: exists, value: false"));
    right("version: \"1\"\ntools:\n  create_charge: {deny_if: [{conditions: [{path: args.note, op: eq, value: x}]}]}\n");
}

#[test]
fn an_amount_that_may_be_left_out_is_a_warning_that_proposes_no_condition() {
    let limit = |charge: &str| {
        format!("version: \"1\"\ntools:\n  delete_it:\n    limits:\n      - {{counter: c, window: day, max: 5, {charge}}}\n")
    };
    let sum = condition("path: 'args.items[*].price', op: lte, value: 5, quantifier: sum");
    for text in [limit("increment_from: args.id.length"), limit("weight: args.id.length"), sum] {
        let problems = found(&text);
        assert_eq!((problems.len(), problems[0].0, problems[0].1), (1, Severity::Warning, 5), "{text}{problems:?}");
        assert!(problems[0].2.contains("an amount must be given"), "{problems:?}");
        assert!(!problems[0].2.contains("optional: true"), "{problems:?}");
    }
}

#[test]
fn a_rule_for_many_tools_is_wrong_where_it_fits_none() {
    wrong(
        "version: \"1\"\ntools:\n  delete_i*: {require: [{conditions: [{path: args.ident, op: eq, value: x}]}]}\n",
        3,
        "`args.ident`",
    );
    let problems = found("version: \"1\"\ntools:\n  \"*\": {require: [{conditions: [{path: args.id, op: eq, value: x}]}]}\n");
    assert_eq!((problems.len(), problems[0].0), (1, Severity::Warning));
    assert!(problems[0].2.contains("1 of 3 tools"), "{problems:?}");
}

#[test]
fn a_file_with_errors_is_checked_all_the_same() {
    wrong("version: \"1\"\ndefualt: deny\ntools:\n  create_charg: {}\n", 4, "write `create_charge`");
}

#[test]
fn the_published_policies_fit_the_real_server() {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let list = root.join("../shared/corpora/tools/awslabs.aws-healthomics-mcp-server@0.0.37.json");
    let Ok(list) = std::fs::read(&list) else {
        eprintln!("skipped: {} is not here", list.display());
        return;
    };
    let tools = Tools::parse(&list).unwrap();
    for name in [
        "StartAHORun.intercept.yaml",
        "StartAHORunBatch.intercept.yaml",
        "StartAHORun.policy.json",
        "CreateAHORunGroup.policy.json",
    ] {
        let source = Source::new(name, std::fs::read(root.join("examples/healthomics/policies").join(name)).unwrap());
        let loaded = load(&source);
        assert_eq!(check_tools(&source, &loaded, &tools), [], "{name}");
    }
}

/// The lists that real servers have given, where they are at hand.
fn captured() -> Vec<(PathBuf, Tools)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora/tools");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: {} is not here", folder.display());
        return Vec::new();
    };
    let read = |path: PathBuf| {
        let tools = Tools::parse(&std::fs::read(&path).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, tools)
    };
    files.map(|file| read(file.unwrap().path())).collect()
}

#[test]
fn every_captured_list_is_read() {
    let source = Source::new(
        "p.yaml",
        "version: \"1\"\ntools:\n  \"*\": {deny_if: [{conditions: [{path: args.a.b, op: eq, value: 1}]}]}\n",
    );
    let loaded = load(&source);
    for (_, tools) in captured() {
        check_tools(&source, &loaded, &tools);
    }
}

/// The schemas that apply to the same value.
fn in_place<'s>(root: &'s Json, schema: &'s Json) -> Vec<&'s Json> {
    let mut parts = Vec::new();
    for (keyword, part) in schema.as_object().into_iter().flatten() {
        match (keyword.as_str(), part) {
            ("$ref", Json::String(reference)) => parts.extend(reference.strip_prefix('#').and_then(|place| root.pointer(place))),
            ("allOf" | "anyOf" | "oneOf", Json::Array(list)) => parts.extend(list),
            ("dependentSchemas", Json::Object(members)) => parts.extend(members.values()),
            ("not" | "if" | "then" | "else", part) => parts.push(part),
            _ => {}
        }
    }
    parts
}

/// Arguments that go as deep as the schema leads, `levels` at most, with every member that it declares.
fn sample(root: &Json, schema: &Json, levels: usize) -> Json {
    let applying = |keyword: &str| {
        let mut parts = vec![schema];
        let mut next = 0;
        while let Some(part) = parts.get(next).copied() {
            for more in in_place(root, part) {
                if !parts.iter().any(|known| std::ptr::eq(*known, more)) {
                    parts.push(more);
                }
            }
            next += 1;
        }
        parts.into_iter().filter_map(|part| part.get(keyword)).collect::<Vec<_>>()
    };
    let mut members = serde_json::Map::new();
    if levels > 0 {
        for (name, part) in applying("properties").into_iter().filter_map(Json::as_object).flatten() {
            members.entry(name).or_insert_with(|| sample(root, part, levels - 1));
        }
        if let (true, Some(items)) = (members.is_empty(), applying("items").first()) {
            return Json::Array(vec![sample(root, items, levels - 1); 2]);
        }
    }
    if members.is_empty() { Json::from("x") } else { Json::Object(members) }
}

#[test]
fn every_captured_schema_can_be_judged_by() {
    let source = Source::new("p.yaml", "version: \"1\"\ntools: {t: {rules: [{validate: {types: true}}]}}\n");
    let policy = load(&source).policy.unwrap();
    let mut refused = Vec::new();
    for (path, tools) in captured() {
        for tool in tools.iter() {
            let Some(schema) = tool.schema.json() else { continue };
            let arguments = sample(schema, schema, 5).to_string();
            let document = Document::parse(arguments.clone(), Strictness::Request).unwrap();
            let call = Call {
                tool: "t",
                // A schema without members is sampled by a text, which is no arguments.
                arguments: Some(document.root()).filter(|root| root.members().is_some()),
                schema: Schema::Known(&tool.schema),
                class: None,
                at: Timestamp::UNIX_EPOCH,
                explained: false,
            };
            let message = policy.evaluate(&call).decision.message.unwrap_or_default();
            if message.contains("too large or too deeply nested") {
                refused.push(format!("{} {} ({} bytes)", path.display(), tool.name, arguments.len()));
            }
        }
    }
    assert_eq!(refused, Vec::<String>::new());
}

#[test]
fn what_honest_servers_say_holds_no_secrets() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora/tools");
    let Ok(files) = std::fs::read_dir(&folder) else { return eprintln!("skipped: {} is not there", folder.display()) };
    let policy = load(&Source::new("p.yaml", "version: \"1\"\nresults: {secrets: redact, max_bytes: 64MB}\n")).policy.unwrap();
    let filter = Policies::from(policy).results_of_others();
    let (mut texts, mut found) = (0, Vec::new());
    for file in files.flatten().filter(|file| file.path().extension().is_some_and(|extension| extension == "json")) {
        let Ok(document) = Document::parse(std::fs::read(file.path()).unwrap(), Strictness::Reply) else { continue };
        // Beside them stands how the server was started, with a made-up key of AWS.
        let Some(tools) = document.root().get("tools") else { continue };
        texts += 1;
        let findings = filter.judge(tools).enforced;
        if !findings.counts.is_empty() {
            found.push(format!("{}: {}", file.path().display(), findings.counted()));
        }
    }
    assert!(texts > 0 && found.is_empty(), "{texts} captures: {found:?}");
}
