//! Tools that do one of several things, as an argument says (R3).
//!
//! The operations are graded one by one, each like a tool's name. They are found in the values that the schema lists, and
//! else where the text lists them: in items of a list, in quotes, after `Actions:`.

use super::clauses::{self, Clause};
use super::reading::{Parameter, Reading};
use super::senses::{self, Context, Meaning};
use super::verbs::{self, Form, Sense};
use super::words::{self, Sentence};

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
    pub operations: Vec<Operation>,
    /// Whether the schema lists all of them, and all are understood.
    pub is_complete: bool,
    /// The operations that nobody understands, which could be anything, and where they are listed.
    pub doubtful: Option<Doubtful>,
}

/// Operations that nobody understands.
pub(super) struct Doubtful {
    pub at: String,
    pub names: Vec<String>,
}

/// The router that a tool is, if it is one.
pub(super) fn find(reading: &Reading, context: Context) -> Option<Router> {
    let object = clauses::of_name(&reading.name, &reading.server).first().map(|clause| clause.object.clone()).unwrap_or_default();
    let listed =
        reading.parameters.iter().filter(|parameter| parameter.values.len() > 1 && parameter.depth <= 1).find_map(|parameter| {
            let decides = parameter.is_one_of(DECIDES);
            if !decides && !parameter.is_one_of(MAY_DECIDE) || is_http(&parameter.values) {
                return None;
            }
            let mut operations = graded(&parameter.values, &parameter.path, &object, context, decides);
            let is_known = |name: &&String| operations.iter().any(|operation| operation.name == **name);
            let names: Vec<String> = parameter.values.iter().filter(|name| !is_known(name)).cloned().collect();
            let doubtful = (decides && !names.is_empty()).then(|| Doubtful { at: parameter.path.clone(), names });
            // Of each of a list of parts, such as its links, only that it belongs there is given and taken.
            if is_of_part(&parameter.path) {
                let removed = operations.iter_mut().filter(|operation| operation.name == "remove");
                removed.for_each(|operation| {
                    operation.meaning = senses::plain(crate::RiskClass::Write, "R6", "only an entry in a list goes")
                });
            }
            let (count, all) = (operations.len(), parameter.values.len());
            let enough = if decides { count * 2 >= all } else { count * 3 >= all * 2 };
            (enough && count > 0).then_some(Router { operations, is_complete: doubtful.is_none(), doubtful })
        });
    listed.or_else(|| in_alternatives(reading, &object, context)).or_else(|| in_text(reading, &object, context))
}

/// Whether a parameter says what happens to each of a list of what only belongs to something.
fn is_of_part(path: &str) -> bool {
    let Some((before, _)) = path.split_once(".items.properties.") else { return false };
    let parent = before.rsplit('.').next().unwrap_or_default();
    let belongs = "link relation label tag keyword dependency parent assignee watcher participant attendee";
    words::of_name(parent).iter().any(|word| words::is_one(&words::singular(word), belongs))
}

/// Operations of which each is the constant of one alternative: `oneOf: [{operation: "get"}, {operation: "delete"}]`.
fn in_alternatives(reading: &Reading, object: &[String], context: Context) -> Option<Router> {
    let constants = reading.parameters.iter().filter(|parameter| {
        // What each of a list of things is asks for nothing.
        parameter.depth <= 1
            && parameter.values.len() == 1
            && ![".items.", ".$defs.", ".definitions."].iter().any(|part| parameter.path.contains(part))
            && parameter.is_one_of(DECIDES)
    });
    let (mut count, mut operations) = (0, Vec::new());
    for parameter in constants {
        count += 1;
        operations.extend(graded(&parameter.values, &parameter.path, object, context, true));
    }
    let enough =
        operations.len() > 1 || operations.len() == 1 && reading.sentences.first().is_some_and(|first| is_choice(&first.words));
    // One that nobody understands could do anything.
    let is_complete = operations.len() == count;
    let only_reads = operations.iter().all(|operation| operation.meaning.class == crate::RiskClass::Read);
    (enough && (is_complete || !only_reads)).then_some(Router { operations, is_complete, doubtful: None })
}

/// Operations that only the text lists.
fn in_text(reading: &Reading, object: &[String], context: Context) -> Option<Router> {
    let parameter = reading.parameters.iter().find(|parameter| decides_unlisted(parameter))?;
    // It tells of an operation, and does it not: `Get the types of an API method`.
    let tells = |clause: &Clause| {
        matches!(clause.verb.sense, Sense::Look | Sense::Advise)
            && clause.mentions("info information type schema documentation doc help parameter spec signature definition usage")
    };
    if reading.sentences.first().is_some_and(|first| clauses::of_sentence(first).first().is_some_and(tells)) {
        return None;
    }
    let is_argument = |name: &String| reading.parameters.iter().any(|parameter| parameter.name == *name);
    let listed = |mut names: Vec<String>| {
        // Methods of HTTP say nothing of what happens.
        names.retain(|name| !is_argument(name) && !is_http(std::slice::from_ref(name)));
        let operations = graded(&names, "description", object, context, false);
        (operations.len() > 1).then_some(Router { operations, is_complete: false, doubtful: None })
    };
    // What the argument itself lists and what stands under a line about operations, else any list.
    let mut own = quoted(&parameter.description);
    own.extend(listed_in_line(&parameter.description));
    own.extend(parameter.description.lines().filter_map(|line| item(line.trim())));
    let of_argument = |sentence: &&Sentence| sentence.words.first().is_some_and(|first| *first == parameter.name.to_lowercase());
    for sentence in reading.sentences.iter().filter(of_argument) {
        own.extend(quoted(&sentence.text));
        own.extend(listed_in_line(&sentence.text));
    }
    let mut under = Vec::new();
    let mut announced = false;
    for sentence in &reading.sentences {
        if sentence.listed {
            under.extend(item(&sentence.text).filter(|_| announced));
        } else {
            announced =
                sentence.words.iter().any(|word| words::is_one(word, "operations operation actions commands subcommands"));
            under.extend(listed_in_line(&sentence.text));
        }
    }
    let any =
        || reading.sentences.iter().filter(|sentence| sentence.listed).filter_map(|sentence| item(&sentence.text)).collect();
    own.extend(under);
    listed(own).or_else(|| listed(any()))
}

/// Whether an argument says what is done, and its schema does not list the values.
fn decides_unlisted(parameter: &Parameter) -> bool {
    let changes =
        parameter.kind == "array" && parameter.is_one_of("requests, operations, actions, updates, changes, commands, edits");
    parameter.depth <= 1
        && parameter.values.is_empty()
        && parameter.kind != "boolean"
        && (parameter.is_one_of(DECIDES) || changes)
}

/// Those of the names that are operations. In capitals they may be the states of things, unless the argument `decides`.
fn graded(names: &[String], at: &str, object: &[String], context: Context, decides: bool) -> Vec<Operation> {
    let operation = |name: &String| {
        let clauses = clauses::of_name(name, &[]);
        let is_verb =
            clauses.first().is_some_and(|clause| !clause.verb.is_noun_too || words::is_one(clause.verb.word, CLEAR_AS_VALUES));
        let is_shouted = name.contains('_') && name.chars().all(|c| !c.is_lowercase());
        let leads =
            || clauses.first().is_some_and(|clause| words::of_name(name).first().is_some_and(|first| first == clause.verb.word));
        if !is_verb || is_shouted && !(decides && leads()) {
            return None;
        }
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
        return Some(senses::weak(crate::RiskClass::Destructive, "R3", "manage means delete as well"));
    }
    senses::of_clause(clause, context)
}

/// The things that a description says a tool manages by doing: `including creating, listing and deleting catalogs`.
pub(super) fn gerunds(reading: &Reading, context: Context) -> Vec<(Meaning, String)> {
    let mut found = Vec::new();
    for sentence in reading.sentences.iter().take(6).filter(|sentence| !is_negated(&sentence.words)) {
        let lists = sentence
            .words
            .iter()
            .any(|word| words::is_one(word, "including for operations with crud supports supporting allows to"));
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
            let clause = Clause { verb, is_clear: true, is_third: false, object, rest, quote: clauses::quote(&sentence.text) };
            if let Some(meaning) = senses::of_clause(&clause, context) {
                found.push((meaning, clause.quote));
            }
        }
    }
    found
}

/// Whether a text says that one of several things is done, and no more than that.
pub(super) fn is_choice(words: &[String]) -> bool {
    let does = words.iter().take(4).any(|word| words::is_one(word, "run runs execute executes perform performs select selects"));
    does && words::has_phrase(words, "one of the following")
        && words.iter().any(|word| words::is_one(word, "operations actions commands"))
}

/// Whether a tool says that it passes on commands which it does not list.
pub(super) fn hides(reading: &Reading) -> Option<String> {
    let has = |name: &str| reading.parameters.iter().any(|parameter| parameter.depth == 0 && parameter.is_named(name));
    let learns = has("learn") && has("command");
    let sentence = reading
        .says_any("sub commands, sub-commands, command router, subcommands are routed")
        .or_else(|| if learns { reading.sentences.first() } else { None })?;
    (has("command") || has("subcommand") || has("action") || has("operation")).then(|| clauses::quote(&sentence.text))
}

/// Whether these are the methods of HTTP, which say nothing of what happens.
pub(super) fn is_http(values: &[String]) -> bool {
    let methods = "get post put patch delete head options";
    values.iter().all(|value| words::is_one(&value.to_lowercase(), methods))
        && values.iter().any(|value| value.eq_ignore_ascii_case("get") || value.eq_ignore_ascii_case("post"))
}

fn is_negated(words: &[String]) -> bool {
    words.iter().any(|word| words::is_one(word, "not never cannot don't doesn't without"))
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
    let Some(start) = words::phrases(LIST_WORDS).filter_map(|word| Some(lowered.find(word)? + word.len())).min() else {
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

/// Verbs that could be nouns, and are operations where they are listed as values.
const CLEAR_AS_VALUES: &str = "list search view update set run stop start reset copy rename move close open test export import query load \
    restore pause resume retry undo archive trash tag label pin upload download share publish post reply comment clear drop remove \
    status history read access touch flush drain rollback scale sync refresh lock switch push pull save store replace convert write \
    transfer refund charge order book swap trade empty trim clean destroy purge terminate kill trigger merge rebase fork clone install mark toggle enable flag assign link schedule manage count describe info help";

/// Arguments that say what is done.
const DECIDES: &str = "operation, action, op, command, subcommand, sub command, api operation, operation name, action type, \
    operation type, command name, verb, task, method, tool, query type, request type, event";

/// Arguments that may do so, where most of their values are verbs.
const MAY_DECIDE: &str = "type, mode, kind, mutation, workflow action, step";

const LIST_WORDS: &str = "actions:, operations:, commands:, types:, one of:, one of , methods:, action can be, must be one of, \
    supported:, available:, subcommands:, options:, choices:, either ";
const MOST_OPERATIONS: usize = 1000;
