//! Rules that only the reader of a policy can complete: whose rights, where, which hosts.

use super::kind_of;
use crate::argument::Argument;
use crate::grade::{Evidence, Signal, Supports};
use crate::paths;
use json::{Value, quote};
use std::fmt::Write as _;

/// A rule that waits for a name, a path or a host.
pub(super) struct FillIn {
    /// What the rule says, in a word or two.
    title: &'static str,
    /// The argument, as a policy names it.
    path: String,
    condition: String,
    /// What a reader should know of it.
    remarks: Vec<&'static str>,
}

/// What of an entry waits to be completed, in comments; `is_bare` where it says nothing else.
pub(super) fn write(all: &[FillIn], out: &mut String, is_bare: bool) {
    if all.is_empty() {
        return;
    }
    let marks = if is_bare { "the marks and the `{}`" } else { "the marks" };
    let _ = writeln!(out, "    # Fill in, and take away {marks}:\n    # rules:");
    for fill_in in all {
        // Who is denied is told the name of the rule.
        let is_alone = all.iter().filter(|other| other.title == fill_in.title).count() == 1;
        let name = match is_alone {
            true => fill_in.title.to_owned(),
            false => quote(&format!("{}: {}", fill_in.title, fill_in.path.trim_start_matches("args."))),
        };
        let FillIn { condition, remarks, .. } = fill_in;
        let remark = if remarks.is_empty() { String::new() } else { format!(" # {}", remarks.join("; ")) };
        let _ = writeln!(out, "    #   - {{name: {name}, conditions: [{condition}]}}{remark}");
    }
}

impl FillIn {
    /// The rules that the signals of arguments ask for, as far as a policy can name the arguments.
    pub fn all(evidence: &[Evidence], schema: Value<'_>) -> Vec<FillIn> {
        let says_anything = |evidence: &&Evidence| {
            matches!(evidence.supports, Supports::Signal(Signal::Code | Signal::Sql | Signal::Shell))
                && evidence.at.starts_with("inputSchema.")
        };
        // Whether a call takes an alternative, the way to it does not say; and rules are about texts.
        let mut arguments = Argument::all(schema);
        arguments.retain(|argument| argument.is_direct && argument.holds_text());
        let is_bounded = |at: &str| evidence.iter().any(|one| one.at == at && FillIn::of(one, &arguments, false).is_some());
        // What a rule forbids could be said there.
        let has_way_around = evidence.iter().filter(says_anything).any(|evidence| !is_bounded(&evidence.at));
        evidence.iter().filter_map(|one| FillIn::of(one, &arguments, has_way_around)).collect()
    }

    fn of(evidence: &Evidence, arguments: &[Argument<'_>], has_way_around: bool) -> Option<FillIn> {
        let (title, op, value) = match evidence.supports {
            Supports::Signal(Signal::CredentialSelector) => ("whose rights", "in", "[\"FILL-IN\"]"),
            Supports::Signal(Signal::TenantSelector) => ("which account", "in", "[\"FILL-IN\"]"),
            Supports::Signal(Signal::Path) => ("where", "path_within", "[\"/srv/FILL-IN\"]"),
            Supports::Signal(Signal::Url) => ("which hosts", "host_in", "[\"FILL-IN.example\"]"),
            Supports::Signal(Signal::Sql) => ("which statements", "sql_statement_in", "[select]"),
            Supports::Signal(Signal::Shell) => ("which commands", "command_in", "[\"FILL-IN\"]"),
            _ => return None,
        };
        let &Argument { ref path, ref name, schema, is_required, .. } =
            arguments.iter().find(|argument| argument.at == evidence.at)?;
        // What is listed needs no other list.
        if is_listed(schema) || schema.get("items").is_some_and(is_listed) {
            return None;
        }
        let (mut path, kinds) = (format!("args.{path}"), kind_of(schema));
        let has = |kind: &str| kinds.split(" or ").any(|one| one == kind);
        let mut remarks = Vec::new();
        match (op, has("array"), has("string")) {
            ("command_in", true, false) if paths::has_words_of_one_command(name) => {}
            ("command_in", true, true) => remarks.push("a list is taken for the words of one command"),
            (_, true, true) => remarks.push("refuses lists"),
            (_, true, false) => path.push_str("[*]"),
            (_, false, _) => {}
        }
        // A call that leaves the argument out stays what it is, unless it can do the same in another way.
        let optional = match op {
            _ if is_required => "",
            "command_in" | "sql_statement_in" if has_way_around => {
                remarks.push("refuses calls without it");
                ""
            }
            "command_in" | "sql_statement_in" | "path_within" => {
                remarks.push("calls without it go by: the server's default applies");
                ", optional: true"
            }
            _ => ", optional: true",
        };
        let shown = if path.contains('[') { quote(&path) } else { path.clone() };
        let condition = format!("{{path: {shown}, op: {op}, value: {value}{optional}}}");
        Some(FillIn { title, path, condition, remarks })
    }
}

/// Whether a schema lists the values that there may be.
fn is_listed(schema: Value<'_>) -> bool {
    let is_nothing = |one: &Value<'_>| one.get("type").is_some_and(|kind| kind.says("null"));
    let alternatives =
        |key: &str| -> Vec<Value<'_>> { schema.get(key).and_then(Value::elements).into_iter().flatten().collect() };
    let all_listed =
        |all: Vec<Value<'_>>| all.iter().any(|one| !is_nothing(one)) && all.iter().all(|one| is_nothing(one) || is_listed(*one));
    schema.get("enum").is_some()
        || schema.get("const").is_some()
        || ["anyOf", "oneOf"].into_iter().map(alternatives).any(all_listed)
}
