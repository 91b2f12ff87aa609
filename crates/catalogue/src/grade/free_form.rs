//! Languages in which anything can be said (R4): SQL and its like, code, commands.
//!
//! Such a tool is Execute, unless the definition says as its own contract that only reads are run, or the language cannot
//! write at all.

use super::clauses::{self, Clause};
use super::reading::{Parameter, Reading};
use super::senses::Language;
use super::verbs::Sense;
use super::{Finding, words};
use policy::RiskClass;

/// What a free form makes of a tool, if it takes one and runs it.
pub(super) fn find(reading: &Reading, names: &[Clause], told: &[Clause]) -> Option<Finding> {
    let runs = |clause: &Clause| {
        matches!(clause.verb.sense, Sense::Run | Sense::Query)
            || matches!(clause.verb.word, "evaluate" | "read" | "write" | "perform")
    };
    let advises = |clause: &Clause| {
        matches!(
            clause.verb.sense,
            Sense::Advise
                | Sense::Generate
                | Sense::Convert
                | Sense::Make
                | Sense::Import
                | Sense::Manage
                | Sense::Delete
                | Sense::Remove
        ) && clause.verb.word != "evaluate"
    };
    let mut clauses = names.iter().take(1).chain(told.iter().take(1));
    if clauses.clone().any(advises) || !clauses.any(runs) && !names.is_empty() {
        return None;
    }
    let name = words::of_name(&reading.name);
    let said = |list: &str| {
        let texts = reading.sentences.iter().take(12).flat_map(|sentence| sentence.words.iter());
        name.iter().chain(texts).any(|word| words::is_one(word, list))
    };
    let (parameter, what) = statement(reading, &said)?;
    let quote = format!("{}: {}", parameter.name, clauses::quote(&parameter.description));
    let quote = quote.trim_end_matches([':', ' ']).to_owned();
    if what == "statement" && language(reading) == Language::Reads {
        return Some(Finding::said(RiskClass::Read, 2, "R4", "a language that cannot write", &parameter.path, quote));
    }
    if let Some(contract) = reads_only(reading) {
        return Some(Finding::said(RiskClass::Read, 2, "R4", "its own contract: only reads are run", "description", contract));
    }
    Some(Finding::said(RiskClass::Execute, 3, "R4", "a language in which anything can be said", &parameter.path, quote))
}

/// The parameter that takes the free form.
fn statement<'r>(reading: &'r Reading, said: &dyn Fn(&str) -> bool) -> Option<(&'r Parameter, &'static str)> {
    let is_free = |parameter: &&Parameter| parameter.values.is_empty() && (parameter.is_text() || parameter.kind == "array");
    let texts = || reading.parameters.iter().filter(is_free);
    let explicit = texts().find(|parameter| parameter.mentions("sql cypher gremlin cql") && !parameter.ends_in("id type name"));
    if let Some(parameter) = explicit {
        return Some((parameter, "statement"));
    }
    if (said(DATABASE_LANGUAGES) || said(CANNOT_WRITE))
        && let Some(parameter) = texts().find(|parameter| {
            parameter.is_one_of("query, queries, statement, statements, query string, expression, code, query text")
        })
    {
        return Some((parameter, "statement"));
    }
    if said(DATABASE_LANGUAGES)
        && name_says(reading, "sql psql mysql cypher query")
        && let Some(parameter) = texts().find(|parameter| parameter.is_named("command"))
    {
        return Some((parameter, "statement"));
    }
    let program = |parameter: &&Parameter| {
        parameter.is_one_of("code, script, javascript, python, function, js, program, python code, source code")
            || parameter.is_one_of("expression, source, query") && parameter.said.iter().any(|word| words::is_one(word, PROGRAMS))
    };
    if runs_programs(reading)
        && let Some(parameter) = texts().find(program)
    {
        return Some((parameter, "program"));
    }
    texts()
        .find(|parameter| parameter.is_one_of("cli command, shell command, bash command, cmd, shell, command line"))
        .map(|parameter| (parameter, "command"))
}

fn name_says(reading: &Reading, list: &str) -> bool {
    words::of_name(&reading.name).iter().any(|word| words::is_one(word, list))
}

/// Whether a sentence says that code is run.
fn runs_programs(reading: &Reading) -> bool {
    let runs = |words: &[String]| {
        words.iter().any(|word| words::is_one(word, "execute executes run runs evaluate evaluates executing running"))
    };
    let code = |words: &[String]| words.iter().any(|word| words::is_one(word, PROGRAMS));
    reading.sentences.iter().take(12).any(|sentence| runs(&sentence.words) && code(&sentence.words))
}

/// The language that a tool speaks of, wherever it does.
pub(super) fn language(reading: &Reading) -> Language {
    let name = words::of_name(&reading.name);
    let texts = || name.iter().chain(reading.sentences.iter().take(4).flat_map(|sentence| sentence.words.iter()));
    let says = |list: &str| texts().any(|word| words::is_one(word, list));
    if says(CANNOT_WRITE) {
        return Language::Reads;
    }
    if says(DATABASE_LANGUAGES) && reads_only(reading).is_none() { Language::Writes } else { Language::None }
}

/// The sentence in which a tool promises to run nothing but reads.
fn reads_only(reading: &Reading) -> Option<String> {
    let unsure = |words: &[String]| words.iter().any(|word| words::is_one(word, UNSURE));
    if reading.says_any(DEPENDS).is_some() {
        return None;
    }
    let phrases = reading.possible(PROMISES);
    let promises = reading.sentences.iter().filter(|sentence| phrases.iter().any(|phrase| sentence.has(phrase)));
    promises.into_iter().find(|sentence| !unsure(&sentence.words)).map(|sentence| clauses::quote(&sentence.text))
}

const DATABASE_LANGUAGES: &str =
    "sql cypher opencypher gremlin cql sparql graphql mysql postgresql aql partiql duckdb sqlite n1ql";
const CANNOT_WRITE: &str = "promql logql jql trql nrql lucene kql traceql insights";
const PROGRAMS: &str = "javascript python typescript script code lua applescript";
const PROMISES: &str = "read-only sql, read-only query, read-only queries, readonly query, readonly queries, readonly sql, \
    read only query, read only queries, read only sql, read-only select, read-only cypher, read cypher, \
    read query, read-only mode, read-only transaction, readonly transaction, read only transaction, \
    read-only statements, only select, only read, select query, a select, select statement, read-only graph, \
    read-only command, read-only commands, mutations are rejected, mutations are not, mutations are blocked, mutations are refused, mutations are disallowed, \
    only supports select, read-only graphql, only reads, \
    read-only duckdb, read-only access, select queries only, read-only";
const UNSURE: &str = "default unless if when depending depends otherwise use should prefer recommended e example such like \
    disabled or";
const DEPENDS: &str = "by default, by mode, read-write mode, write mode, allow-write, writes are allowed, write access, \
    --allow-writes, write operations are enabled, insert or update, ddl";
