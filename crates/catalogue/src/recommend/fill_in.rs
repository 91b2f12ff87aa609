//! Rules that only the reader of a policy can complete: whose rights, where, which hosts.

use super::{is_required, kind_of};
use crate::grade::{Evidence, Signal, Supports};
use crate::paths;
use json::{Value, quote};
use std::fmt::Write as _;

/// A rule that waits for a name, a path or a host.
pub(super) struct FillIn {
    /// `deny_if` where the argument may be left out: a rule would refuse every call without it.
    key: &'static str,
    rule: String,
}

/// What of an entry waits to be completed, in comments: `is_bare` where it says nothing else, `denies` where it ends with a list
/// of what is refused.
pub(super) fn write(all: &[FillIn], out: &mut String, is_bare: bool, denies: bool) {
    if all.is_empty() {
        return;
    }
    let marks = if is_bare { "the marks and the `{}`" } else { "the marks" };
    let _ = writeln!(out, "    # Fill in, and take away {marks}:");
    for key in ["deny_if", "rules"] {
        let rules: Vec<&str> = all.iter().filter(|fill_in| fill_in.key == key).map(|fill_in| fill_in.rule.as_str()).collect();
        if rules.is_empty() {
            continue;
        }
        if !denies || key == "rules" {
            let _ = writeln!(out, "    # {key}:");
        }
        for rule in rules {
            let _ = writeln!(out, "    #   - {rule}");
        }
    }
}

impl FillIn {
    /// The rule that a signal of an argument asks for; `None` where a policy cannot name the argument.
    pub fn of(evidence: &Evidence, schema: Value<'_>) -> Option<FillIn> {
        let (title, op, value) = match evidence.supports {
            Supports::Signal(Signal::CredentialSelector) => ("whose rights", "in", "[\"FILL-IN\"]"),
            Supports::Signal(Signal::TenantSelector) => ("which account", "in", "[\"FILL-IN\"]"),
            Supports::Signal(Signal::Path) => ("where", "path_within", "[\"/srv/FILL-IN\"]"),
            Supports::Signal(Signal::Url) => ("which hosts", "host_in", "[\"FILL-IN.example\"]"),
            Supports::Signal(Signal::Sql) => ("which statements", "sql_statement_in", "[select]"),
            Supports::Signal(Signal::Shell) => ("which commands", "command_in", "[\"FILL-IN\"]"),
            _ => return None,
        };
        let Argument { path, is_required, is_list } = Argument::at(&evidence.at, schema)?;
        let path = if is_list { quote(&path) } else { path };
        let conditions = |op: &str, more: &str| format!("conditions: [{{path: {path}, op: {op}, value: {value}{more}}}]");
        Some(match (op, is_required) {
            ("in", false) => {
                let any = if is_list { ", quantifier: any" } else { "" };
                FillIn { key: "deny_if", rule: format!("{{{}}}", conditions("not_in", any)) }
            }
            (_, true) => FillIn { key: "rules", rule: format!("{{name: {title}, {}}}", conditions(op, "")) },
            (_, false) => {
                FillIn { key: "rules", rule: format!("{{name: {title}, {}}} # refuses calls without it", conditions(op, "")) }
            }
        })
    }
}

/// An argument as a policy names it.
struct Argument {
    /// `args.request.url`, `args.paths[*]`.
    path: String,
    /// Whether no call is valid without it.
    is_required: bool,
    /// Whether the path leads to elements of a list.
    is_list: bool,
}

impl Argument {
    /// The argument at a path of the definition, such as `inputSchema.properties.request.properties.url`.
    fn at(at: &str, schema: Value<'_>) -> Option<Argument> {
        let mut argument = Argument { path: "args".to_owned(), is_required: true, is_list: false };
        let mut schema = schema;
        let mut steps = at.strip_prefix("inputSchema.")?.split('.');
        while let Some(step) = steps.next() {
            match step {
                "properties" => {
                    let name = steps.next().filter(|name| paths::is_plain(name))?;
                    argument.is_required &= is_required(schema, name);
                    let _ = write!(argument.path, ".{name}");
                    schema = schema.get("properties")?.get(name)?;
                }
                "items" => {
                    argument.path.push_str("[*]");
                    argument.is_list = true;
                    schema = schema.get("items")?;
                }
                // An alternative: whether a call takes it, the path does not say.
                _ => return None,
            }
        }
        // What is listed needs no other list.
        if schema.get("enum").or_else(|| schema.get("items")?.get("enum")).is_some() {
            return None;
        }
        let kinds = kind_of(schema);
        if kinds.split(" or ").any(|kind| kind == "array") {
            if kinds.contains("string") {
                return None;
            }
            argument.path.push_str("[*]");
            argument.is_list = true;
        }
        Some(argument)
    }
}
