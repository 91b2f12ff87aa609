//! A JSON Schema of the policy file, for editors.
//!
//! Editors complete keys and underline wrong words by it, in YAML and JSON alike. It says the shape only; what goes together
//! with what is [`crate::load`]'s to say, and a test holds the keys of the two against each other.

use crate::methods::METHOD_NAMES;
use crate::risk::RISK_KEYS;
use serde_json::{Value, json};

/// Gives the JSON Schema (2020-12) of the policy file, as indented text with a line break at the end.
pub fn json_schema() -> String {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://callgate.dev/policy.schema.json",
        "title": "Callgate policy",
        "description": "Which calls of which tools are allowed, limited, held for approval or denied.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "version": {"description": "The version of the format.", "const": "1"},
            "description": {"description": "What the policy is for.", "type": "string"},
            "default": {
                "description": "What happens to a tool that is not listed. Required in JSON; `allow` in YAML where absent.",
                "enum": ["allow", "deny"],
            },
            "mode": reference("mode"),
            "hide": {
                "description": "Tools that are neither listed nor callable: names, patterns, or \"*\".",
                "type": "array",
                "uniqueItems": true,
                "items": {"type": "string", "minLength": 1},
            },
            "all_tools": reference("tool"),
            "tools": {
                "description": "Rules by tool name. A name may be a pattern (`delete_*`); an exact name wins over a pattern. The rules of \"*\" hold for every tool.",
                "type": "object",
                "additionalProperties": reference("tool"),
            },
            "risk": risk(),
            "server_requests": reference("server_requests"),
            "definitions": reference("definitions"),
            "results": reference("results"),
            "methods": {
                "description": "Methods besides calls of tools: a name (`resources/read`), a group (`resources`) or a pattern (`resources/*`). What is not named passes and is recorded.",
                "type": "object",
                "properties": methods(),
                "additionalProperties": reference("stance"),
                "propertyNames": {"not": {"pattern": "^tools(/|$)"}},
            },
            "approvals": {
                "type": "object",
                "additionalProperties": false,
                "properties": {"webhook": {
                    "description": "Told of every call that waits for an approval.",
                    "type": "object",
                    "additionalProperties": false,
                    "properties": {
                        "url": {"description": "`https://…`, `env:NAME` or `file:PATH`.", "type": "string"},
                        "secret": {"description": "Signs what is sent: `env:NAME` or `file:PATH`.", "type": "string"},
                        "form": {"enum": ["json", "slack", "teams"]},
                    },
                }},
            },
        },
        "$defs": definitions(),
    });
    let mut text = serde_json::to_string_pretty(&schema).expect("a value with string keys can be written");
    text.push('\n');
    text
}

/// Rules by class.
fn risk() -> Value {
    let of_class = json!({"anyOf": [{"enum": ["allow", "require_approval", "deny", "hide"]}, reference("tool")]});
    let classes: Vec<(&str, Value)> = RISK_KEYS.iter().map(|key| (*key, of_class.clone())).collect();
    let description =
        "Rules by what tools may do, as their definitions are graded, for tools that no name or pattern under `tools` fits.";
    object(description, &[], &classes)
}

/// The names that editors propose.
fn methods() -> serde_json::Map<String, Value> {
    METHOD_NAMES.iter().map(|name| ((*name).to_owned(), reference("stance"))).collect()
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

/// An object with these members, no others.
fn object(description: &str, required: &[&str], members: &[(&str, Value)]) -> Value {
    let properties: serde_json::Map<String, Value> =
        members.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    json!({
        "description": description, "type": "object", "additionalProperties": false,
        "required": required, "properties": properties,
    })
}

fn list(of: &str) -> Value {
    json!({"type": "array", "items": reference(of)})
}

fn definitions() -> Value {
    let amount = json!({"description": "0 or more, at most six decimals.", "type": "number", "minimum": 0});
    let money = json!({"description": "A number, or one with a currency sign, which is a label.", "type": ["number", "string"]});
    let name = json!({"type": "string", "minLength": 1, "maxLength": 256});
    let messages = [
        ("on_deny", reference("message")),
        ("reason", reference("message")),
        ("message", reference("message")),
        ("mode", reference("mode")),
    ];
    let extent = [("scope", reference("scope")), ("align", reference("align")), ("timezone", reference("timezone"))];
    let charge = [
        ("counter", name.clone()),
        ("window", reference("window")),
        (
            "increment",
            json!({"description": "How much one call counts; 1 where absent.", "type": "number", "exclusiveMinimum": 0}),
        ),
        ("increment_from", reference("argument")),
        ("weight", json!({"description": "Multiplies the amount.", "type": ["number", "string"]})),
    ];
    let shorthands = [
        ("rate_limit", reference("rate_limit")),
        ("validate", reference("validate")),
        ("spend", reference("spend")),
        ("spend_limit", json!({"description": "As in `$500/day`.", "type": "string"})),
        ("increment_from", reference("argument")),
        ("idempotency_window", reference("span")),
        ("approval_timeout", reference("span")),
        ("wait", reference("span")),
        ("approvals", reference("quorum")),
        ("time", reference("time")),
    ];
    let conditions = [("conditions", list("condition")), ("name", name.clone())];
    let rule = [
        &[("name", name.clone()), ("action", json!({"enum": ["evaluate", "allow", "deny", "require_approval"]}))],
        &[("conditions", list("condition")), ("state", reference("state"))][..],
        &shorthands,
        &messages,
        &extent,
    ]
    .concat();
    let tool = [
        &[("rules", list("rule")), ("require", list("group")), ("deny_if", list("group"))][..],
        &[("require_approval", list("approval")), ("limits", list("limit"))],
        &[("action", json!({"enum": ["allow", "deny", "require_approval"]})), ("results", reference("results"))],
        &shorthands,
        &messages,
        &extent,
    ]
    .concat();
    let asking = [("approval_timeout", reference("span")), ("wait", reference("span")), ("approvals", reference("quorum"))];
    let approval = [&conditions[..], &messages, &asking].concat();
    let matches = (
        "matches",
        json!({"description": "A regular expression, looked for in every text of the result.", "type": "string", "minLength": 1}),
    );
    let withheld = [&[matches.clone(), ("name", name.clone())][..], &messages[..3]].concat();
    let redacted = [
        matches,
        (
            "name",
            json!({"description": "Stands in its place: `[redacted: NAME]`.", "type": "string", "minLength": 1, "maxLength": 64}),
        ),
    ];
    let lease =
        json!({"description": "How much of the limit each gateway takes at a time.", "type": "number", "exclusiveMinimum": 0});
    let limit = [&charge[..], &extent, &messages, &[("max", amount.clone()), ("lease", lease), ("name", name.clone())]].concat();
    json!({
        "mode": {"description": "`shadow` decides and records, but does not enforce.", "enum": ["enforce", "shadow"]},
        "message": {"description": "What the model reads when this denies; may hold {used}, {max} and {resets_at}.", "type": "string"},
        "scope": {"description": "For whom a counter counts; `grant` where absent.", "enum": ["grant", "principal", "session", "upstream", "global"]},
        "align": {"enum": ["sliding", "calendar"]},
        "timezone": {"description": "A name of the IANA database.", "type": "string", "examples": ["UTC", "Europe/Berlin"]},
        "window": {
            "description": "`minute`, `hour`, `day`, `week`, `month`, or a span such as `15m`.",
            "type": "string",
            "anyOf": [{"enum": ["minute", "hour", "day", "week", "month"]}, {"pattern": "^[1-9][0-9]*[smhd]$"}],
        },
        "span": {"description": "A span of time such as `30s`, `15m`, `2h` or `3d`.", "type": "string", "pattern": "^[1-9][0-9]*[smhd]$"},
        "argument": {"description": "A path to an argument, as in `args.items[*].amount`.", "type": "string", "pattern": "^args"},
        "condition": object("A test on an argument or a counter.", &["path", "op", "value"], &[
            ("path", json!({"type": "string", "pattern": "^(args|state\\.)"})),
            ("op", json!({"enum": ["eq", "neq", "in", "not_in", "lt", "lte", "gt", "gte", "regex", "not_regex", "contains",
                "starts_with", "length_lte", "exists",
                "path_within", "host_in", "sql_statement_in", "command_in", "cidr_in"]})),
            ("value", json!({"description": "What the argument is compared with."})),
            ("quantifier", json!({"description": "For paths with [*].", "enum": ["each", "any", "sum"]})),
            ("optional", json!({"description": "Whether a call that leaves the argument out may go by.", "type": "boolean"})),
        ]),
        "state": object("A counter that the rule's own condition bounds.", &["counter", "window"], &[&charge[..], &extent].concat()),
        "rate_limit": {"anyOf": [
            {"description": "As in `5/hour`.", "type": "string", "pattern": "^[1-9][0-9]*/.+$"},
            object("A number of calls in a window; the window is in seconds.", &["max", "window"], &[
                &[("max", amount), ("window", json!({"type": ["number", "string"]}))][..], &extent].concat()),
        ]},
        "validate": object("The arguments against the tool's own schema.", &[], &[
            ("required_args", json!({"type": "boolean"})),
            ("types", json!({"type": "boolean"})),
            ("unknown", json!({"enum": ["allow", "deny"]})),
        ]),
        "spend": object("Bounds on `args.amount`, or what `increment_from` names.", &[], &[
            ("per_call", money.clone()),
            ("daily", money),
            ("increment_from", reference("argument")),
            ("scope", reference("scope")),
            ("timezone", reference("timezone")),
        ]),
        "time": object("When the tool may be used.", &[], &[
            ("days", json!({"description": "As in `mon-fri`.", "type": ["string", "array"]})),
            ("hours", json!({"description": "As in `09:00-17:00`.", "type": ["string", "array"]})),
            ("timezone", reference("timezone")),
        ]),
        "stance": {"enum": ["allow", "deny"]},
        "treatment": {"enum": ["allow", "warn", "ask", "deny"]},
        "definitions": object("What happens where a server's definitions are not those that were pinned, or hold characters that hide.", &[], &[
            ("new", json!({"$ref": "#/$defs/treatment", "description": "Of what is not pinned; `deny` where absent."})),
            ("changed", json!({"$ref": "#/$defs/treatment", "description": "Of a change; where absent, `deny` of one by which more is possible, and `warn` of any other."})),
            ("widened", json!({"$ref": "#/$defs/treatment", "description": "Of a change by which more is possible; as `changed` where absent."})),
            ("hidden_characters", json!({"enum": ["refuse", "escape"], "description": "Of bidirectional, invisible and control characters; `refuse` where absent."})),
        ]),
        "results": object("What becomes of what comes back, before the client has it.", &[], &[
            ("max_bytes", json!({"description": "A larger result is withheld; 4MB where absent. Bytes, or as in `64KB`, `1MB`.", "type": ["number", "string"]})),
            ("hidden_characters", json!({"description": "Of bidirectional, invisible and control characters; `pass` where absent.", "enum": ["withhold", "escape", "pass"]})),
            ("secrets", json!({"description": "Of what has the shape of a well-known credential; `pass` where absent.", "enum": ["withhold", "redact", "pass"]})),
            ("withhold", list("withheld")),
            ("redact", list("redacted")),
        ]),
        "withheld": object("A result in which this is found is withheld.", &["matches"], &withheld),
        "redacted": object("What is found is taken out.", &["matches"], &redacted),
        "server_requests": object("What a server may ask of its client. What is not named passes and is recorded.", &[], &[
            ("sampling", reference("stance")),
            ("elicitation", json!({"anyOf": [reference("stance"), reference("elicitation")]})),
            ("roots", reference("stance")),
        ]),
        "elicitation": object("Questions to the user: in a form, or at a URL.", &[], &[
            ("form", reference("stance")),
            ("url", reference("stance")),
        ]),
        "group": object("Conditions that belong together.", &["conditions"], &[&conditions[..], &messages].concat()),
        "approval": object("Calls that need an approval.", &["conditions"], &approval),
        "quorum": {"anyOf": [
            {"description": "How many different people must approve.", "type": "integer", "minimum": 1},
            {"description": "As in `2 of [alice, bob, carol]`.", "type": "string", "pattern": "^[1-9][0-9]*( of \\[.+\\])?$"},
            object("Who must approve.", &["count"], &[
                ("count", json!({"type": "integer", "minimum": 1})),
                ("of", json!({"type": "array", "items": {"type": "string", "minLength": 1}})),
            ]),
        ]},
        "limit": object("A bound on a counter.", &["counter", "window", "max"], &limit),
        "rule": object("A rule; the first that denies decides.", &[], &rule),
        "tool": object("The rules of a tool; `{}` lists it without any.", &[], &tool),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(schema: &Value, pointer: &str) -> Vec<String> {
        let mut keys: Vec<String> = schema.pointer(pointer).unwrap()["properties"].as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    }

    #[test]
    fn the_schema_knows_the_keys_that_the_loader_knows() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        for (pointer, known) in crate::lower::known_keys() {
            let mut known: Vec<&str> = known.to_vec();
            known.sort_unstable();
            assert_eq!(keys(&schema, pointer), known, "{pointer}");
        }
    }

    #[test]
    fn the_schema_is_one() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let policy = json!({"version": "1", "default": "deny", "tools": {"t": {"limits": [{"counter": "c", "window": "minute", "max": 10}]}}});
        assert!(validator.is_valid(&policy));
        assert!(!validator.is_valid(&json!({"defualt": "deny"})));
    }

    #[test]
    fn published_policies_are_valid_under_it() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/healthomics/policies");
        for name in ["StartAHORun.policy.json", "StartAHORunBatch.policy.json", "CreateAHORunGroup.policy.json"] {
            let policy: Value = serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap();
            assert!(validator.is_valid(&policy), "{name}");
        }
    }
}
