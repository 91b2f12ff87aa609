//! The grade of one tool, from its definition.
//!
//! What a call may do at worst is read in four places: the name, the sentence that says what the tool does, the schema
//! (operations, flags, free forms), and the sentences that warn. Each gives findings, every one with the words that it
//! rests on; the class is the most severe of them, after those are dropped that something clearer contradicts. In doubt it
//! is never Read. The rules and their numbers are those of `docs/grading.md`; nothing is learnt, nothing is random.

mod clauses;
mod free_form;
mod further;
mod reading;
mod routers;
mod senses;
mod signals;
mod verbs;
mod words;

use crate::class::Level;
use clauses::Clause;
use json::quote;
use policy::RiskClass;
use reading::Reading;
use senses::{Context, Meaning};
use verbs::Sense;

pub use signals::Signal;

/// What a call of a tool may do, and what says so.
#[derive(Clone, Debug)]
pub struct ToolRisk {
    /// The worst that an argument can reach.
    pub class: RiskClass,
    /// How much attention the tool deserves.
    pub level: Level,
    /// 3: the definition says it; 2: inferred, or a hint contradicts; 1: a second careful reader may well differ.
    pub confidence: u8,
    /// What the class rests on, the most telling first, and what each signal rests on.
    pub evidence: Vec<Evidence>,
    /// Sorted, none twice.
    pub signals: Vec<Signal>,
    /// The arguments on which alone the class rests, where a rule on them would make it milder.
    pub avoidable: Option<Avoidable>,
}

impl ToolRisk {
    /// The grade as one line of JSON: `{"server", "tool", "risk", "level", "confidence", "evidence": […], "signals": […]}`.
    ///
    /// An element of `evidence` is `{"at", "quote", "rule", "why", "class" or "signal"}`.
    pub fn to_json(&self, server: &str, tool: &str) -> String {
        let evidence = self.evidence.iter().map(|evidence| {
            let (key, value) = match evidence.supports {
                Supports::Class(class) => ("class", class.name()),
                Supports::Signal(signal) => ("signal", signal.name()),
            };
            format!(
                "{{\"at\":{},\"quote\":{},\"rule\":\"{}\",\"why\":{},\"{key}\":\"{value}\"}}",
                quote(&evidence.at),
                quote(&evidence.quote),
                evidence.rule,
                quote(evidence.why)
            )
        });
        let evidence: Vec<String> = evidence.collect();
        let signals: Vec<String> = self.signals.iter().map(|signal| format!("\"{signal}\"")).collect();
        format!(
            "{{\"server\":{},\"tool\":{},\"risk\":\"{}\",\"level\":\"{}\",\"confidence\":{},\"evidence\":[{}],\"signals\":[{}]}}",
            quote(server),
            quote(tool),
            self.class,
            self.level,
            self.confidence,
            evidence.join(","),
            signals.join(",")
        )
    }
}

/// What makes a tool Destructive or Financial, if arguments alone do: values of an enumeration, flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Avoidable {
    /// The arguments to bound; all of them.
    pub arguments: Vec<Avoided>,
    /// The class of the tool where they are bounded.
    pub otherwise: RiskClass,
}

/// One argument that a rule can bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Avoided {
    /// Its name, at the top of the input schema.
    pub name: String,
    /// The values to refuse; empty for a flag, which must not be true.
    pub values: Vec<String>,
}

/// One thing that speaks for a class or a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Where it stands: `name`, `description`, `annotations.…` or a path such as `inputSchema.properties.action`.
    pub at: String,
    /// The words there.
    pub quote: String,
    /// The rule of the taxonomy, such as `R6`; `signal` for what a signal rests on.
    pub rule: &'static str,
    /// What it means, in a few words.
    pub why: &'static str,
    /// What it speaks for.
    pub supports: Supports,
}

/// The words of a name in lower case, cut where its writer would have put a space: `StartAHORun` is `start aho run`.
pub fn words_of(name: &str) -> Vec<String> {
    words::of_name(name)
}

/// The level of a tool of this class with these signals: one step above the class's own, where one of them says that more is
/// at stake.
pub fn level_of(class: RiskClass, signals: &[Signal]) -> Level {
    let has = |wanted: &[Signal]| signals.iter().any(|signal| wanted.contains(signal));
    let lifts = match class {
        RiskClass::Read => has(&[Signal::ReturnsSecrets, Signal::Url]),
        RiskClass::Write => has(&[Signal::ChangesAccess, Signal::SendsDataOut]),
        RiskClass::Execute => has(&[Signal::Shell, Signal::Code]),
        RiskClass::Destructive | RiskClass::Financial => false,
    };
    if lifts { Level::of(class).lifted() } else { Level::of(class) }
}

/// What evidence speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supports {
    /// A class.
    Class(RiskClass),
    /// A signal.
    Signal(Signal),
}

/// Something that speaks for a class.
#[derive(Clone, Debug)]
struct Finding {
    class: RiskClass,
    confidence: u8,
    is_weak: bool,
    /// Whether something is sent or posted.
    delivers: bool,
    evidence: Evidence,
}

impl Finding {
    fn new(meaning: Meaning, at: &str, quote: String) -> Finding {
        let evidence =
            Evidence { at: at.to_owned(), quote, rule: meaning.rule, why: meaning.why, supports: Supports::Class(meaning.class) };
        let delivers = meaning.rule == DELIVERY && !meaning.is_draft;
        let confidence = if meaning.is_weak { 2 } else { 3 };
        Finding { class: meaning.class, confidence, is_weak: meaning.is_weak, delivers, evidence }
    }

    fn said(class: RiskClass, confidence: u8, rule: &'static str, why: &'static str, at: &str, quote: String) -> Finding {
        let evidence = Evidence { at: at.to_owned(), quote, rule, why, supports: Supports::Class(class) };
        Finding { class, confidence, is_weak: false, delivers: rule == DELIVERY, evidence }
    }
}

/// Grades one tool of a server: `definition` is an element of its list of tools, `server` its name, as far as it is known.
pub fn grade(definition: json::Value<'_>, server: &str) -> ToolRisk {
    let reading = Reading::of(definition, server);
    let context = Context {
        is_about_money: further::is_about_money(&reading),
        is_in_browser: further::is_in_browser(&reading),
        language: free_form::language(&reading),
    };
    let told = told(&reading);
    let names = clauses::of_name_as_told(&reading.name, &reading.server, &told);
    let main = main_sense(&names, &told);
    let (mut findings, doubtful) = class_findings(&reading, context, &names, &told);
    findings.extend(cut_short(&reading, &findings));
    findings.extend(denied_reading(&reading, &findings));
    let worst = worst(&findings);
    findings.sort_by_key(|finding| (std::cmp::Reverse(finding.class), finding.is_weak, std::cmp::Reverse(finding.confidence)));
    let (class, confidence) = worst.unwrap_or((RiskClass::Execute, 1));
    let confidence = contradicted(&reading, class, confidence, &mut findings);
    let avoidable = avoidable(&reading, class, &findings, doubtful.as_ref());
    let name_words = words::of_name(&reading.name);
    let delivers = class != RiskClass::Read && findings.iter().any(|finding| finding.class == class && finding.delivers);
    let signals = signals::all(&reading, main, class, delivers, &name_words);
    let mut evidence: Vec<Evidence> =
        findings.into_iter().filter(|finding| finding.class == class).map(|finding| finding.evidence).collect();
    evidence.dedup();
    evidence.truncate(MOST_EVIDENCE);
    if evidence.is_empty() {
        let quote = clauses::quote(reading.sentences.first().map_or(&reading.name, |sentence| &sentence.text));
        let at = if reading.sentences.is_empty() { "name" } else { "description" };
        evidence.push(Evidence {
            at: at.into(),
            quote,
            rule: "R22",
            why: "nothing says what it does: in doubt, not a read",
            supports: Supports::Class(class),
        });
    }
    let (mut signals, its): (Vec<Signal>, Vec<Evidence>) = signals.into_iter().unzip();
    signals.dedup();
    evidence.extend(its);
    let level = level_of(class, &signals);
    ToolRisk { class, level, confidence, evidence, signals, avoidable }
}

/// The clauses of the first sentence that says what the tool does.
fn told(reading: &Reading) -> Vec<Clause> {
    let mut vague = Vec::new();
    let mut leading = true;
    for sentence in reading.sentences.iter().take(8).filter(|sentence| !further::is_notice(sentence)) {
        let clauses = clauses::of_sentence(sentence);
        // After the first sentence an imperative speaks to the reader, not of the tool.
        let speaks_of_tool = leading
            || clauses::has_subject(sentence) && !clauses.is_empty()
            || clauses.first().is_some_and(|clause| clause.is_third && clauses::begins(sentence));
        leading = false;
        if !speaks_of_tool || sentence.listed && !vague.is_empty() {
            continue;
        }
        if clauses.iter().any(|clause| !clauses::is_vague(clause)) {
            return clauses;
        }
        if vague.is_empty() {
            vague = clauses;
        }
    }
    if vague.is_empty()
        && let Some(title) = reading.titles.first()
    {
        return clauses::of_name(title, &reading.server);
    }
    vague
}

/// What the tool does in the main.
fn main_sense(names: &[Clause], told: &[Clause]) -> Option<Sense> {
    let clear = |clause: &&Clause| !clauses::is_vague(clause) && !clause.verb.is_noun_too;
    let all = || names.iter().take(1).chain(told);
    all().find(clear).or_else(|| all().next()).map(|clause| clause.verb.sense)
}

/// What speaks for a class, and the operations that nobody understands.
fn class_findings(
    reading: &Reading,
    context: Context,
    names: &[Clause],
    told: &[Clause],
) -> (Vec<Finding>, Option<routers::Doubtful>) {
    let mut findings = Vec::new();
    // Of what may be done it only tells: `Check whether a user can …`.
    let asks = |sentence: &words::Sentence| {
        sentence.has("check whether") || sentence.has("check if") || sentence.has("determine whether")
    };
    let router = if reading.sentences.first().is_some_and(asks) { None } else { routers::find(reading, context) };
    if let Some(form) = free_form::find(reading, names, told) {
        // R4 before all else that the clauses say: `run`, `execute` and `query` are about the language.
        findings.push(form);
        let doubtful = add_operations(router, &mut findings);
        return (findings, doubtful);
    }
    let vague = |clause: &&Clause| clauses::is_vague(clause);
    let of = |clause: &Clause, at: &str| Some(Finding::new(senses::of_clause(clause, context)?, at, clause.quote.clone()));
    let has_router = router.is_some();
    let only_vague = names.iter().all(|clause| vague(&clause)) && told.iter().all(|clause| vague(&clause));
    let mut read = read_in(names, told, "name", context);
    read.extend(read_in(told, names, "description", context));
    for title in &reading.titles {
        read.extend(read_in(&clauses::of_name_as_told(title, &reading.server, told), told, "title", context));
    }
    if only_vague {
        read.extend(
            names
                .iter()
                .chain(told)
                .filter(|clause| clause.verb.sense != Sense::Manage)
                .filter_map(|clause| of(clause, "description"))
                .map(|finding| Finding { is_weak: true, ..finding }),
        );
    }
    let manages = names.iter().chain(told).any(|clause| clause.verb.sense == Sense::Manage);
    let chooses = reading.sentences.first().is_some_and(|first| routers::is_choice(&first.words));
    if has_router && (manages || only_vague || chooses) {
        read.clear();
    } else if manages {
        read.extend(
            routers::gerunds(reading, context)
                .into_iter()
                .map(|(meaning, quote)| Finding { confidence: 2, ..Finding::new(meaning, "description", quote) }),
        );
    }
    settle(&mut read);
    findings.extend(read);
    let doubtful = add_operations(router, &mut findings);
    if let Some(quote) = routers::hides(reading) {
        findings.push(Finding::said(RiskClass::Execute, 2, "R3", "its operations are not listed here", "description", quote));
    }
    let so_far = worst(&findings).map(|(class, _)| class);
    findings.extend(further::findings(reading, names, told, so_far, context));
    let deletes = |finding: &Finding| finding.class == RiskClass::Destructive && finding.evidence.rule == "R6";
    if findings.iter().any(deletes)
        && let Some(quote) = further::way_back(reading)
    {
        findings.retain(|finding| !deletes(finding));
        findings.push(Finding::said(RiskClass::Write, 2, "R6", "the definition names the way back", "description", quote));
    }
    if findings.is_empty() {
        findings.extend(if manages { None } else { further::undecided(reading, context) });
    }
    (findings, doubtful)
}

/// The findings of clauses that say something by themselves.
fn read_in(clauses: &[Clause], other: &[Clause], at: &str, context: Context) -> Vec<Finding> {
    // `git_branch`, "List branches": what could be a noun gives way to what is a verb and says something else.
    let clear = other.first().filter(|other| !clauses::is_vague(other) && other.is_clear);
    let clear_class = clear.and_then(|clear| senses::of_clause(clear, context)).map(|meaning| meaning.class);
    let finding = |clause: &Clause| {
        let meaning = senses::of_clause(clause, context)?;
        let says_else = clear.is_some_and(|clear| clear.verb.sense != clause.verb.sense)
            || clear.is_some_and(|clear| clear.verb.word != clause.verb.word)
                && clear_class == Some(RiskClass::Read)
                && meaning.class != RiskClass::Read;
        // `drop_table`, "Returns whether it worked": what comes back is not what is done.
        let only_returns = at == "name"
            && clear.is_some_and(|clear| clear.verb.word == "return")
            && !clause.object.is_empty()
            && !clause.object.iter().any(|word| further::is_information(word))
            && matches!(
                clause.verb.sense,
                Sense::Delete | Sense::Remove | Sense::Reset | Sense::Run | Sense::Put | Sense::Change
            );
        let by_noun = !clause.is_clear && says_else && !only_returns;
        // `remove_droplets`, "Remove droplets from a load balancer": the text says more.
        let is_told_of = clear.is_some_and(|clear| clear.verb.word == clause.verb.word && clear.rest.len() > clause.rest.len());
        let by_noun = by_noun || is_told_of && clause.verb.sense == Sense::Remove && clear_class == Some(RiskClass::Write);
        // `get_plan`, "Creates a plan": it is made to be given back.
        let asks = at == "description" && clear.is_some_and(|clear| clear.verb.sense == Sense::Look);
        if asks && clause.verb.sense == Sense::Make && meaning.class == RiskClass::Write && clause.is_about(ADVICE) {
            return Some(Finding::new(senses::plain(RiskClass::Read, "R19", "gives back text"), at, clause.quote.clone()));
        }
        Some(Finding::new(Meaning { is_weak: meaning.is_weak || by_noun, ..meaning }, at, clause.quote.clone()))
    };
    // `Extract and categorize links`: what is done to what was taken out of a text changes nothing.
    let answers = clauses.first().is_some_and(|first| words::is_one(first.verb.word, "extract parse analyze analyse"));
    let shapes = |at: usize, clause: &Clause| at > 0 && answers && words::is_one(clause.verb.word, SHAPES_AN_ANSWER);
    let clauses = clauses.iter().enumerate().filter(|(at, clause)| !clauses::is_vague(clause) && !shapes(*at, clause));
    clauses.filter_map(|(_, clause)| finding(clause)).collect()
}

/// What is written to be read by who asked for it.
const ADVICE: &str = "plan guide summary diagram checklist overview recommendation snippet explanation";

/// What is done to what a tool has found, before it gives it back.
const SHAPES_AN_ANSWER: &str = "categorize categorise score highlight flatten";

/// Adds a finding for each operation of a router. One that nobody understands may do more than those that are understood.
fn add_operations(router: Option<routers::Router>, findings: &mut Vec<Finding>) -> Option<routers::Doubtful> {
    let routers::Router { operations, is_complete, doubtful } = router?;
    let is_mild = operations.iter().all(|operation| operation.meaning.class < RiskClass::Execute);
    findings.extend(operations.into_iter().map(|operation| {
        let finding = Finding::new(operation.meaning, &operation.at, operation.name);
        let confidence = if is_complete { finding.confidence } else { finding.confidence.min(2) };
        Finding { confidence, is_weak: false, ..finding }
    }));
    if let Some(routers::Doubtful { at, names }) = doubtful.as_ref().filter(|_| is_mild) {
        let why = "what this operation does cannot be told";
        findings.extend(names.iter().map(|name| Finding::said(RiskClass::Execute, 1, "R22", why, at, name.clone())));
    }
    doubtful
}

/// Drops what is said weakly where something else is said clearly.
fn settle(findings: &mut Vec<Finding>) {
    let clear = findings.iter().any(|finding| !finding.is_weak);
    if clear {
        findings.retain(|finding| !finding.is_weak);
    }
    // Name and description at odds: the worse counts, and is less sure.
    let classes = || findings.iter().map(|finding| finding.class);
    let at_odds = classes().min() != classes().max();
    if at_odds && classes().min() == Some(RiskClass::Read) {
        for finding in findings.iter_mut() {
            finding.confidence = finding.confidence.min(2);
        }
    }
}

/// The most severe class that something speaks for, and how surely.
fn worst(findings: &[Finding]) -> Option<(RiskClass, u8)> {
    let class = findings.iter().map(|finding| finding.class).max()?;
    let confidence = findings.iter().filter(|finding| finding.class == class).map(|finding| finding.confidence).max()?;
    Some((class, confidence))
}

/// Whether rules on arguments would leave a milder tool: all that speaks for a critical class stands at arguments which a
/// condition can name.
fn avoidable(
    reading: &Reading,
    class: RiskClass,
    findings: &[Finding],
    doubtful: Option<&routers::Doubtful>,
) -> Option<Avoidable> {
    if class < RiskClass::Destructive {
        return None;
    }
    let (grave, rest): (Vec<&Finding>, Vec<&Finding>) =
        findings.iter().partition(|finding| finding.class >= RiskClass::Destructive);
    let mut arguments: Vec<Avoided> = Vec::new();
    for finding in grave.iter().filter(|finding| finding.evidence.rule != "R21") {
        let at = |parameter: &&reading::Parameter| parameter.depth == 0 && parameter.path == finding.evidence.at;
        let parameter = reading.parameters.iter().find(at).filter(|parameter| parameter.is_plain())?;
        let value = match (parameter.kind, parameter.values.contains(&finding.evidence.quote)) {
            ("boolean", _) => None,
            ("string", true) => Some(finding.evidence.quote.clone()),
            _ => return None,
        };
        match arguments.iter_mut().find(|known| known.name == parameter.name) {
            Some(known) => known.values.extend(value),
            None => {
                // What nobody understands may be as bad.
                let also = doubtful.filter(|doubtful| doubtful.at == parameter.path && value.is_some());
                let also = also.into_iter().flat_map(|doubtful| doubtful.names.iter().cloned());
                arguments.push(Avoided { name: parameter.name.clone(), values: value.into_iter().chain(also).collect() });
            }
        }
    }
    let otherwise = rest.iter().map(|finding| finding.class).max()?;
    (!arguments.is_empty()).then_some(Avoidable { arguments, otherwise })
}

/// R22: what is too long to be read as a whole may say anything further on.
fn cut_short(reading: &Reading, findings: &[Finding]) -> Option<Finding> {
    let is_read = worst(findings).is_some_and(|(class, _)| class == RiskClass::Read);
    let why = "the definition is too long to be read as a whole";
    let finding = || Finding::said(RiskClass::Execute, 1, "R22", why, "name", reading.name.clone());
    (is_read && reading.is_cut).then(finding)
}

/// R21: the definition itself denies that it only reads, and what says that it does is no plain look.
fn denied_reading(reading: &Reading, findings: &[Finding]) -> Option<Finding> {
    let looks = |finding: &Finding| finding.evidence.rule == "R16" && !finding.is_weak;
    let is_read = worst(findings).is_some_and(|(class, _)| class == RiskClass::Read);
    (is_read && reading.hints.read_only == Some(false) && !findings.iter().any(looks)).then(|| {
        let why = "the hint says that it does not only read";
        Finding::said(RiskClass::Write, 1, "R21", why, "annotations.readOnlyHint", "false".into())
    })
}

/// R21: what the annotations say against the class makes it less sure, and never milder.
fn contradicted(reading: &Reading, class: RiskClass, confidence: u8, findings: &mut Vec<Finding>) -> u8 {
    let hint = match (class, reading.hints.read_only, reading.hints.destructive) {
        (RiskClass::Read, Some(false), _) => Some(("annotations.readOnlyHint", "false")),
        (RiskClass::Read | RiskClass::Write, _, Some(true)) => Some(("annotations.destructiveHint", "true")),
        (RiskClass::Write | RiskClass::Execute | RiskClass::Destructive | RiskClass::Financial, Some(true), _) => {
            Some(("annotations.readOnlyHint", "true"))
        }
        _ => None,
    };
    let Some((at, quote)) = hint else { return confidence };
    findings.push(Finding::said(class, 2, "R21", "the hint says otherwise, which makes it less sure", at, quote.to_owned()));
    confidence.min(2)
}

const MOST_EVIDENCE: usize = 12;
/// The rule about what is sent or posted.
const DELIVERY: &str = "R13";
