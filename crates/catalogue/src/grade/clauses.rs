//! What is done to what: clauses, read from names and from sentences.
//!
//! A clause is a verb and the things it is done to. A name has one (`delete_branch`, `worker_delete`) or, joined by `and`
//! or `or`, several; a description says in its first sentence what the tool does, usually with the verb in front. Verbs
//! anywhere else in a text are about other tools, other times or the reader, and are left to narrower rules.

use super::verbs::{self, Form, Sense, Verb};
use super::words::{self, Sentence};

/// A verb, and what it is done to.
#[derive(Clone, Debug)]
pub(super) struct Clause {
    pub verb: Verb,
    /// Whether it is a verb without doubt: it is no noun as well, or its form tells.
    pub is_clear: bool,
    /// Whether it is in the third person, as in `deletes`.
    pub is_third: bool,
    /// What the verb is done to: the words of the noun phrase after it, in the singular.
    pub object: Vec<String>,
    /// All that comes after the verb, up to the end of the sentence.
    pub rest: Vec<String>,
    /// The words that say so, as they stand in the text.
    pub quote: String,
}

impl Clause {
    /// What the object is: the last noun of its phrase.
    pub(super) fn head(&self) -> &str {
        self.object.last().map_or("", String::as_str)
    }

    /// Whether the object is one of these, or is named by one of these words at the end of its phrase.
    pub(super) fn is_about(&self, nouns: &str) -> bool {
        words::is_one(self.head(), nouns)
    }

    /// Whether one of these words is anywhere in the object.
    pub(super) fn mentions(&self, nouns: &str) -> bool {
        self.object.iter().any(|word| words::is_one(word, nouns))
    }

    /// Whether one of these words comes anywhere after the verb.
    pub(super) fn goes_on_with(&self, list: &str) -> bool {
        self.rest.iter().any(|word| words::is_one(word, list) || words::is_one(&words::singular(word), list))
    }
}

/// The clauses of a tool's name, the main one first. `server` are the words of the server's name, which often stand in
/// front.
pub(super) fn of_name(name: &str, server: &[String]) -> Vec<Clause> {
    of_name_as_told(name, server, &[])
}

/// The same, where the description has been read: of several verbs in a name, the one that it begins with is meant.
pub(super) fn of_name_as_told(name: &str, server: &[String], told: &[Clause]) -> Vec<Clause> {
    let mut tokens = words::of_name(local(name));
    while tokens.len() > 1 && server.contains(&tokens[0]) && is_prefix(&tokens[0]) {
        tokens.remove(0);
    }
    if tokens.last().is_some_and(|last| last == "tool") && tokens.len() > 1 {
        tokens.pop();
    }
    // `index_advisor`, though an index may be made as well.
    if let Some(verb) = tokens.last().filter(|last| words::is_one(last, ADVISERS)).and_then(|last| agent_verb(last))
        && !tokens.iter().rev().skip(1).any(|token| name_verb(token).is_some_and(|verb| !verb.is_noun_too))
        && (tokens[0] == "index" || name_verb(&tokens[0]).is_none_or(|verb| is_look(&verb)))
    {
        return vec![name_clause(&tokens, tokens.len() - 1, verb, name)];
    }
    // `remove_viewer`, `run_analyzer`: done to a viewer, and with an analyzer.
    let is_thing = !tokens.iter().rev().skip(1).any(|token| name_verb(token).is_some_and(|verb| !is_look(&verb)));
    if let Some(verb) = tokens.last().filter(|_| tokens.len() > 1 && is_thing).and_then(|last| agent_verb(last)) {
        return vec![name_clause(&tokens, tokens.len() - 1, verb, name)];
    }
    let verbs = tokens.iter().enumerate().filter(|(i, _)| !is_in_compound(&tokens, *i));
    let found: Vec<(usize, Verb)> = verbs.filter_map(|(i, token)| Some((i, name_verb(token)?))).collect();
    let told = told.first().and_then(|told| found.iter().find(|(_, verb)| verb.word == told.verb.word).copied());
    let Some((at, verb)) = told.or_else(|| main_verb(&tokens, &found)) else { return Vec::new() };
    let mut clauses = vec![name_clause(&tokens, at, verb, name)];
    for (i, verb) in found {
        let joined = i > 0 && matches!(tokens[i - 1].as_str(), "and" | "or" | "then");
        if joined && i > at && tokens.get(i.wrapping_sub(2)).is_some() {
            clauses.push(name_clause(&tokens, i, verb, name));
        }
    }
    clauses
}

/// The name without what it is kept under, where that says nothing of what is done: `TwilioApiV2010--FetchCall`.
fn local(name: &str) -> &str {
    let does = |text: &str| words::of_name(text).iter().any(|token| name_verb(token).is_some());
    let cut = ["--", "__", "::", "/"].iter().filter_map(|mark| name.rsplit_once(mark)).min_by_key(|(_, last)| last.len());
    cut.filter(|(before, last)| does(last) && !does(before)).map_or(name, |(_, last)| last)
}

/// Whether a word that could be a verb belongs to the noun `pull request` or its like.
fn is_in_compound(words: &[String], at: usize) -> bool {
    let is_request = |first: Option<&String>, second: Option<&String>| {
        first.is_some_and(|first| matches!(first.as_str(), "pull" | "merge"))
            && second.is_some_and(|second| matches!(second.as_str(), "request" | "requests"))
    };
    is_request(words.get(at), words.get(at + 1)) || at > 0 && is_request(words.get(at - 1), words.get(at))
}

/// A server's name that is a verb as well is kept: `search_x` of a server `search` searches.
fn is_prefix(token: &str) -> bool {
    name_verb(token).is_none_or(|verb| verb.is_noun_too)
}

fn name_verb(token: &str) -> Option<Verb> {
    verbs::base(token)
}

/// Those whose work is to tell.
const ADVISERS: &str = "advisor adviser analyzer validator checker inspector explainer estimator calculator";

/// What a thing is called by what it does: `project-services-reader`.
fn agent_verb(token: &str) -> Option<Verb> {
    let known = "advisor adviser analyzer validator checker inspector explainer estimator calculator reader viewer finder fetcher searcher updater writer creator deleter remover runner executor";
    let stem = words::is_one(token, known).then(|| token.trim_end_matches("er").trim_end_matches("or"))?;
    let undoubled = stem.strip_suffix("nn").map(|stem| format!("{stem}n"));
    verbs::base(stem).or_else(|| verbs::base(&format!("{stem}e"))).or_else(|| verbs::base(&undoubled?))
}

/// Whether what such a verb is said of is another thing afterwards.
fn alters(sense: Sense) -> bool {
    use Sense::{Access, Change, Consume, Delete, Label, Make, Move, Put, Remove, Replace, Reset};
    matches!(sense, Access | Change | Consume | Delete | Label | Make | Move | Put | Remove | Replace | Reset)
}

/// Which of the verbs in a name is the one that says what is done.
fn main_verb(tokens: &[String], found: &[(usize, Verb)]) -> Option<(usize, Verb)> {
    let last = tokens.len().checked_sub(1)?;
    let (first_at, first) = *found.first()?;
    if let Some((i, verb)) = found.last()
        && *i == last
        && *i > first_at + 1
    {
        // `deploy_plan_get`: what ends like this is done to what stands before.
        let is_done_to_it = matches!(verb.word, "get" | "describe" | "create" | "delete" | "update")
            && !matches!(first.word, "get" | "describe" | "create" | "delete" | "update" | "list" | "set");
        // `deploy_app_help` tells how.
        if is_done_to_it || verb.word == "help" {
            return Some((*i, *verb));
        }
    }
    if !first.is_noun_too {
        return Some((first_at, first));
    }
    // `update_credential_list` changes a list; in doubt it is no read.
    if first_at == 0 && words::is_one(first.word, CHANGES_WHAT_FOLLOWS) && found.last().is_some_and(|(_, last)| is_look(last)) {
        return Some((first_at, first));
    }
    // `monitor_delete`, `query_execution_start`: the noun comes first, and what is done to it last.
    let ending =
        found.iter().rev().find(|(i, verb)| *i == last && *i != first_at && (!verb.is_noun_too || first_at > 0 || is_tail(verb)));
    if let Some(ending) = ending {
        return Some(*ending);
    }
    let plain = found.iter().find(|(_, verb)| !verb.is_noun_too);
    match plain {
        Some(plain) if first_at > 0 => Some(*plain),
        _ => Some((first_at, first)),
    }
}

/// Verbs that could be nouns, and at the head of a name are none.
const CHANGES_WHAT_FOLLOWS: &str = "update edit change patch set move copy save put upload restore replace revert toggle switch rotate \
    lock reset";

fn is_look(verb: &Verb) -> bool {
    matches!(verb.sense, Sense::Look | Sense::Advise | Sense::Query)
}

/// Verbs that end a name as an operation, though they could be nouns: `monitor_run`, `cache_touch`.
fn is_tail(verb: &Verb) -> bool {
    matches!(
        verb.word,
        "run" | "set" | "list" | "read" | "touch" | "stop" | "update" | "search" | "status" | "close" | "reset" | "flush"
    )
}

fn name_clause(tokens: &[String], at: usize, verb: Verb, name: &str) -> Clause {
    let after: Vec<String> = tokens[at + 1..].to_vec();
    let mut object = if after.is_empty() { tokens[..at].to_vec() } else { noun_phrase(&after) };
    if after.first().is_some_and(|first| words::is_one(first, "and or then")) {
        // `create_or_update_file`: the object is that of the next verb.
        object = noun_phrase(after.get(2..).unwrap_or_default());
    }
    let object = object.iter().map(|word| words::singular(word)).collect();
    // `build_and_push_image`
    let is_clear = !verb.is_noun_too || at == 0 && after.first().is_some_and(|next| words::is_one(next, "and or then"));
    Clause { verb, is_clear, is_third: false, object, rest: after, quote: name.to_owned() }
}

/// The words before the first preposition or joint.
fn noun_phrase(words: &[String]) -> Vec<String> {
    let ends = |word: &String| words::is_one(word, ENDS_PHRASE);
    // `two or more polygons`, `up to ten records`
    let after_count =
        words.windows(2).take(3).position(|pair| pair[0] == "or" && pair[1] == "more" || pair[0] == "up" && pair[1] == "to");
    let words = after_count.map_or(words, |at| words.get(at + 2..).unwrap_or_default());
    let skipped = words.iter().skip_while(|word| words::is_one(word, SKIPPED));
    skipped.take_while(|word| !ends(word)).filter(|word| !words::is_one(word, SKIPPED)).cloned().collect()
}

/// The clauses of a sentence that says what a tool does; none where it does not begin like one.
pub(super) fn of_sentence(sentence: &Sentence) -> Vec<Clause> {
    let words = &sentence.words;
    let Some((at, verb, form)) = leading_verb(words) else { return Vec::new() };
    let mut places = vec![(at, verb)];
    for i in at + 1..words.len() {
        let joint = words::is_one(&words[i - 1], "and or , then / and/or")
            || (i > at + 1 && is_adverb(&words[i - 1]) && matches!(words[i - 2].as_str(), "and" | "or" | "," | "then"));
        let Some((verb, its)) = verbs::find(&words[i]) else { continue };
        // `Display or rotate tokens`: verb by verb.
        let beside = i == at + 2 && matches!(words[i - 1].as_str(), "and" | "or" | "/" | "and/or");
        if joint
            && its == form
            && !is_in_compound(words, i)
            // `an incremental add/remove of members`
            && words.get(i + 1).is_none_or(|next| next != "of")
            && (!verb.is_noun_too
                || beside
                || matches!(form, Form::Third | Form::Base)
                    && words.get(i + 1).is_some_and(|next| words::is_one(next, STARTS_PHRASE)))
        {
            places.push((i, verb));
        }
    }
    let clause = |(i, verb): &(usize, Verb)| {
        let clause = sentence_clause(sentence, *i, *verb, &places);
        Clause { is_clear: true, is_third: form == Form::Third, ..clause }
    };
    places.iter().map(clause).collect()
}

fn sentence_clause(sentence: &Sentence, at: usize, verb: Verb, places: &[(usize, Verb)]) -> Clause {
    let after = &sentence.words[at + 1..];
    let mut object = noun_phrase(after);
    if object.is_empty() {
        // `Create or update a file`: the object is that of the next verb.
        if let Some((next, _)) = places.iter().find(|(i, _)| *i > at) {
            object = noun_phrase(&sentence.words[next + 1..]);
        }
    }
    let object = object.iter().map(|word| words::singular(word)).collect();
    Clause { verb, is_clear: !verb.is_noun_too, is_third: false, object, rest: after.to_vec(), quote: quote(&sentence.text) }
}

/// The verb with which a sentence says what the tool does.
fn leading_verb(words: &[String]) -> Option<(usize, Verb, Form)> {
    let mut at = 0;
    // `Notion | Update a block`
    if let Some(bar) = words.iter().take(4).position(|word| word == "|") {
        at = bar + 1;
    }
    // `Compute operations - Commands for managing …`, `Input: …`
    at += subject(&words[at..]);
    while words.get(at).is_some_and(|word| is_adverb(word)) {
        at += 1;
    }
    // `List all deploys` gives an order: no noun has an article after it.
    let has_object = words.get(at + 1).is_some_and(|next| words::is_one(next, STARTS_PHRASE));
    if !has_object && verbs::find(words.get(at)?).is_none_or(|(verb, form)| verb.is_noun_too && form == Form::Base) {
        at = after_noun(words, at).unwrap_or(at);
    }
    let (verb, form) = verbs::find(words.get(at)?)?;
    let next_is = |list: &str| words.get(at + 1).is_some_and(|next| words::is_one(next, list));
    // `Deletes are refused`, `the query is`
    let noun = verb.is_noun_too && form == Form::Base && next_is("is are was has can of : name id")
        || form == Form::Third && next_is("are were have can cannot");
    // `Login history of a user`
    let tells = verb.is_noun_too
        && form == Form::Base
        && !alters(verb.sense)
        && !matches!(verb.sense, Sense::Run)
        && next_is("history statistics stats overview");
    (form != Form::Past && !noun && !tells).then_some((at, verb, form))
}

/// The verb after a noun: `The local search API returns …`.
fn after_noun(words: &[String], at: usize) -> Option<usize> {
    let clause = words[at..].iter().take(7).take_while(|word| !words::is_one(word, ", : ( ) and or for to"));
    let third = |word: &String| matches!(verbs::find(word), Some((verb, Form::Third)) if !verb.is_noun_too || words::is_one(verb.word, "return provide list take"));
    clause.enumerate().skip(1).find(|(_, word)| third(word)).map(|(i, _)| at + i)
}

/// Whether a sentence begins by naming the tool: `this tool`, `it`.
pub(super) fn has_subject(sentence: &Sentence) -> bool {
    let first = sentence.words.first().map_or("", String::as_str);
    matches!(first, "this" | "it" | "tool") || sentence.has("this tool")
}

/// Whether a sentence begins with what somebody does.
pub(super) fn begins(sentence: &Sentence) -> bool {
    let verb = sentence.words.iter().find(|word| !is_adverb(word) && !matches!(word.as_str(), "and" | "also" | "then"));
    verb.and_then(|first| verbs::find(first)).is_some_and(|(_, form)| form == Form::Third)
}

/// How many words lead up to the verb: `this tool will`, `use this tool to`, `a tool that`, `allows you to`.
fn subject(words: &[String]) -> usize {
    let starts = |phrase: &&str| phrase.split(' ').enumerate().all(|(i, wanted)| words.get(i).is_some_and(|word| word == wanted));
    let longest = words::phrases(SUBJECTS).filter(starts).map(|phrase| phrase.split(' ').count()).max().unwrap_or(0);
    if longest > 0 {
        return longest + subject(&words[longest..]);
    }
    // `Generates a command to connect …` has its verb already.
    if words.first().and_then(|first| verbs::find(first)).is_some_and(|(verb, form)| !verb.is_noun_too && form != Form::Past) {
        return 0;
    }
    // `Goal Seek: change the constant …`
    if let Some(colon) = words.iter().take(4).position(|word| word == ":")
        && words
            .get(colon + 1)
            .and_then(|next| verbs::find(next))
            .is_some_and(|(verb, form)| !verb.is_noun_too && form != Form::Past)
    {
        return colon + 1;
    }
    // `MCP tool to query …`, `Primary entry point for finding …`, `Commands for managing …`
    let opens = words.iter().take(9).position(|word| matches!(word.as_str(), "to" | "for" | "that" | "which"));
    match opens {
        Some(opens) if opens > 0 && words.get(opens - 1).is_some_and(|before| words::is_one(before, CARRIERS)) => opens + 1,
        _ => 0,
    }
}

pub(super) fn is_adverb(word: &str) -> bool {
    (word.ends_with("ly") && word.len() > 4 && word != "apply" && word != "reply") || words::is_one(word, ADVERBS)
}

/// The first words of a text, cut at a word.
pub(super) fn quote(text: &str) -> String {
    let text = text.trim();
    let mut end = text.len().min(LONGEST_QUOTE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if end == text.len() {
        return text.to_owned();
    }
    let cut = text[..end].rfind(' ').unwrap_or(end);
    format!("{}…", &text[..cut])
}

/// Whether a verb of this sense tells nothing until one knows of what.
pub(super) fn is_vague(clause: &Clause) -> bool {
    matches!(clause.verb.sense, Sense::Manage)
        || matches!(
            clause.verb.word,
            "perform" | "handle" | "provide" | "access" | "has" | "is" | "include" | "help" | "use" | "demonstrate" | "surface"
        )
        || clause.verb.word == "take" && clause.is_about("argument parameter input option")
        || clause.verb.word == "execute"
            && (clause.is_about("operation action tool method endpoint request api") || clause.object.is_empty())
}

const LONGEST_QUOTE: usize = 120;

const SUBJECTS: &str = "this tool, this, the tool, tool, it, this operation, the operation, this function, this method, \
    this command, this api, this endpoint, this action, use this tool to, use this to, use to, use it to, \
    use this tool when you need to, use this when you need to, will, can, can be used to, is used to, \
    is used for, used to, used for, allows you to, allows users to, allows to, lets you, enables you to, \
    enables users to, allows, enables, helps you, helps users, helps, helps to, provides the ability to, \
    provides tools to, provides a way to, a tool to, a tool for, tool to, tool for, tool that, a tool that, \
    designed to, and, new, mcp tool to, ability to, is, call this tool to, call this to, utility to, \
    useful for, function to, api to, attempts to, attempt to, automatically, tries to, try to, quickly, one-shot, bulk, batch, async, \
    asynchronously, please, simply, just, also, then, i, we, users can, you can, helper to, lets the user, \
    lets users, in order to, intended to, able to, make it possible to, api-, beta, experimental, ( beta ), \
    ( experimental ), read-only :, read-only, optional, step 1 :, 1, 2, 3, 4, 5, 6, 7, 8, 9";

/// Nouns after which `to`, `for` or `that` brings in what a tool does.
const CARRIERS: &str = "tool tools point command commands function way utility operations operation endpoint interface action \
    actions router helper wrapper method api ability step capability capabilities workflow client suite agent";

const ADVERBS: &str = "one-shot bulk batch async now also first then again either soft hard force mass multi auto optionally re \
    just cleanly";

/// Words that stand in front of a noun and are none.
const SKIPPED: &str = "a an the one or more new existing specific specified given single multiple all any some your its their this \
    that these another every each multi two three current currently active custom additional individual several many \
    entire whole complete full following provided list batch bulk up";

/// Words with which a noun phrase is over.
const ENDS_PHRASE: &str = "to from in into on onto for with by of at as and or if when using via within between across that which so \
    then but , : ( ) | / through without under over against about after before while where based matching per \
    inside out off up is are has have was who whose including available during not only per";

const STARTS_PHRASE: &str = "a an the it its all any them this new your their one each";

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(clauses: &[Clause]) -> Vec<String> {
        clauses.iter().map(|clause| format!("{} {}", clause.verb.word, clause.object.join(" "))).collect()
    }

    fn name(name: &str) -> Vec<String> {
        shown(&of_name(name, &["acme".into()]))
    }

    fn sentence(text: &str) -> Vec<String> {
        shown(&of_sentence(&words::sentences(text)[0]))
    }

    #[test]
    fn a_name_says_what_is_done_to_what() {
        assert_eq!(name("acme_delete_branch"), ["delete branch"]);
        assert_eq!(name("worker_delete"), ["delete worker"]);
        assert_eq!(name("CreateAHORunGroup"), ["create aho run group"]);
        assert_eq!(name("monitor_run"), ["run monitor"]);
        assert_eq!(name("create_or_update_file"), ["create file", "update file"]);
    }

    #[test]
    fn a_sentence_says_it_too() {
        assert_eq!(
            sentence("This tool permanently deletes a monitor and stops its schedule."),
            ["delete monitor", "stop schedule"]
        );
        assert_eq!(sentence("MCP tool to query Amazon Q Business"), ["query amazon q business"]);
        assert_eq!(sentence("Notion | Update a block"), ["update block"]);
        assert_eq!(
            sentence("Create a new file or completely overwrite an existing file with new content."),
            ["create file", "overwrite file"]
        );
        assert_eq!(sentence("Facts about the scene"), [""; 0]);
    }
}
