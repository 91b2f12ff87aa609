//! Tools that do one of several things, as an argument says (R3).
//!
//! The operations are graded one by one, each like a tool's name. They are found in the values that the schema lists, and
//! else where the text lists them: in items of a list, in quotes, after `Actions:`.

use super::clauses::{self, Clause};
use super::reading::{Parameter, Reading};
use super::senses::{self, Context, Meaning};
use super::verbs::{self, Form, Sense};
use super::words;

/// One operation of a router.
pub(super) struct Operation {
    /// As it is written.
    pub name: String,
    /// Where it is listed.
    pub at: String,
    pub meaning: Meaning,
}

/// What a router can do, as far as it says so.
pub(super) struct Router {
    /// The path of the argument that decides.
    pub argument: String,
    pub operations: Vec<Operation>,
    /// Whether the schema lists all of them.
    pub is_complete: bool,
}

/// The router that a tool is, if it is one.
pub(super) fn find(reading: &Reading, context: Context) -> Option<Router> {
    let object = clauses::of_name(&reading.name, &reading.server).first().map(|clause| clause.object.clone()).unwrap_or_default();
    let listed = reading.parameters.iter().filter(|parameter| parameter.values.len() > 1).find_map(|parameter| {
        let decides = parameter.is_one_of(DECIDES);
        if !decides && !parameter.is_one_of(MAY_DECIDE) || is_http(&parameter.values) {
            return None;
        }
        let operations = graded(&parameter.values, &parameter.path, &object, context);
        let enough = if decides {
            operations.len() * 2 >= parameter.values.len()
        } else {
            operations.len() * 3 >= parameter.values.len() * 2
        };
        (enough && !operations.is_empty()).then(|| Router { argument: parameter.path.clone(), operations, is_complete: true })
    });
    listed.or_else(|| in_text(reading, &object, context))
}

/// Operations that only the text lists.
fn in_text(reading: &Reading, object: &[String], context: Context) -> Option<Router> {
    let decides = |parameter: &&Parameter| {
        parameter.depth == 0 && parameter.is_one_of(DECIDES) && parameter.values.is_empty() && parameter.kind != "boolean"
    };
    let parameter = reading.parameters.iter().find(decides)?;
    let mut names = quoted(&parameter.description);
    names.extend(listed_in_line(&parameter.description));
    for sentence in &reading.sentences {
        if sentence.listed {
            names.extend(item(&sentence.text));
        }
        names.extend(listed_in_line(&sentence.text));
        let of_argument = sentence.words.first().is_some_and(|first| *first == parameter.name.to_lowercase());
        if of_argument {
            names.extend(quoted(&sentence.text));
        }
    }
    names.sort();
    names.dedup();
    let operations = graded(&names, "description", object, context);
    (operations.len() > 1).then(|| Router { argument: parameter.path.clone(), operations, is_complete: false })
}

fn graded(names: &[String], at: &str, object: &[String], context: Context) -> Vec<Operation> {
    let operation = |name: &String| {
        let clauses = clauses::of_name(name, &[]);
        let meanings = clauses.into_iter().filter_map(|mut clause| {
            if clause.object.is_empty() {
                clause.object = object.to_vec();
            }
            meaning(&clause, context)
        });
        let meaning = meanings.max_by_key(|meaning| meaning.class)?;
        Some(Operation { name: name.clone(), at: at.to_owned(), meaning })
    };
    names.iter().take(MOST_OPERATIONS).filter_map(operation).collect()
}

fn meaning(clause: &Clause, context: Context) -> Option<Meaning> {
    // "manage" in a list counts as create, change and delete.
    if clause.verb.sense == Sense::Manage {
        return Some(Meaning {
            class: crate::RiskClass::Destructive,
            rule: "R3",
            why: "manage means delete as well",
            is_weak: true,
        });
    }
    senses::of_clause(clause, context)
}

/// The things that a description says a tool manages by doing: `including creating, listing and deleting catalogs`.
pub(super) fn gerunds(reading: &Reading, context: Context) -> Vec<(Meaning, String)> {
    let mut found = Vec::new();
    for sentence in reading.sentences.iter().take(6).filter(|sentence| !is_negated(&sentence.words)) {
        let lists = sentence.words.iter().any(|word| {
            matches!(
                word.as_str(),
                "including" | "for" | "operations" | "with" | "crud" | "supports" | "supporting" | "allows" | "to"
            )
        });
        if !lists {
            continue;
        }
        for (i, word) in sentence.words.iter().enumerate() {
            let Some((verb, form)) = verbs::find(word) else { continue };
            let named = form == Form::Gerund
                || (form == Form::Base
                    && !verb.is_noun_too
                    && i > 0
                    && matches!(sentence.words[i - 1].as_str(), "," | "and" | "or" | "to" | "(" | "/"));
            if !named || verb.sense == Sense::Manage {
                continue;
            }
            let rest = sentence.words[i + 1..].to_vec();
            let object = rest
                .iter()
                .skip_while(|word| verbs::find(word).is_some() || matches!(word.as_str(), "," | "and" | "or"))
                .take(3)
                .map(|word| words::singular(word))
                .collect();
            let clause = Clause { verb, object, rest, quote: clauses::quote(&sentence.text) };
            if let Some(meaning) = senses::of_clause(&clause, context) {
                found.push((meaning, clause.quote));
            }
        }
    }
    found
}

/// Whether a tool says that it passes on commands which it does not list.
pub(super) fn hides(reading: &Reading) -> Option<String> {
    let has = |name: &str| reading.parameters.iter().any(|parameter| parameter.depth == 0 && parameter.is_named(name));
    let learns = has("learn") && has("command");
    let sentence = reading
        .says_any(&["sub commands", "sub-commands", "command router", "subcommands are routed"])
        .or_else(|| if learns { reading.sentences.first() } else { None })?;
    (has("command") || has("subcommand") || has("action") || has("operation")).then(|| clauses::quote(&sentence.text))
}

/// Whether these are the methods of HTTP, which say nothing of what happens.
pub(super) fn is_http(values: &[String]) -> bool {
    let methods = ["get", "post", "put", "patch", "delete", "head", "options"];
    values.iter().all(|value| methods.contains(&value.to_lowercase().as_str()))
        && values.iter().any(|value| value.eq_ignore_ascii_case("get") || value.eq_ignore_ascii_case("post"))
}

fn is_negated(words: &[String]) -> bool {
    words.iter().any(|word| matches!(word.as_str(), "not" | "never" | "cannot" | "don't" | "doesn't" | "without"))
}

/// What stands in quotes or back quotes, if it could be an operation.
fn quoted(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for mark in ['"', '`', '\''] {
        found.extend(text.split(mark).skip(1).step_by(2).filter(|piece| is_identifier(piece)).map(str::to_owned));
    }
    found
}

/// The operation at the head of an item: `- delete-table: removes …`, `* **create** (…)`.
fn item(text: &str) -> Option<String> {
    let text = text.trim_start_matches(|c: char| c.is_ascii_digit() || ".)-*•+ ".contains(c));
    let text = text.trim_start_matches(['*', '`', '"', '\'', '_']);
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_')).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    let after = after.trim_start_matches(['*', '`', '"', '\'', '_']).trim_start();
    let named = after.is_empty() || after.starts_with([':', '(', '-', '–', '—', '→']) || name.contains(['-', '_']);
    (named && is_identifier(name)).then(|| name.to_owned())
}

/// What a line lists after a word such as `Actions:`.
fn listed_in_line(text: &str) -> Vec<String> {
    let lowered = text.to_lowercase();
    let Some(start) = LIST_WORDS.iter().filter_map(|word| Some(lowered.find(word)? + word.len())).min() else {
        return Vec::new();
    };
    let Some(rest) = text.get(start..) else { return Vec::new() };
    let names = rest.split([',', '/', ';', '|', '.']).map(|piece| piece.trim_matches(|c: char| !c.is_alphanumeric()));
    let names = names.map(|piece| piece.strip_prefix("and ").or(piece.strip_prefix("or ")).unwrap_or(piece));
    names
        .map(|piece| piece.split([' ', '(']).next().unwrap_or_default())
        .filter(|piece| is_identifier(piece))
        .map(str::to_owned)
        .collect()
}

fn is_identifier(text: &str) -> bool {
    (2..60).contains(&text.len())
        && text.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
        && text.chars().any(char::is_alphabetic)
}

/// Arguments that say what is done.
const DECIDES: &[&str] = &[
    "operation",
    "action",
    "op",
    "command",
    "subcommand",
    "sub command",
    "api operation",
    "operation name",
    "action type",
    "operation type",
    "command name",
    "verb",
    "task",
    "method",
    "tool",
    "query type",
    "request type",
    "event",
];

/// Arguments that may do so, where most of their values are verbs.
const MAY_DECIDE: &[&str] = &["type", "mode", "kind", "state event", "mutation", "workflow action", "step"];

const LIST_WORDS: &[&str] = &[
    "actions:",
    "operations:",
    "commands:",
    "types:",
    "one of:",
    "one of ",
    "methods:",
    "action can be",
    "must be one of",
    "supported:",
    "available:",
    "subcommands:",
    "options:",
    "choices:",
    "either ",
];
const MOST_OPERATIONS: usize = 300;
