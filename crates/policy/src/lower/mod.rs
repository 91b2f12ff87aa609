//! From the tree to the policy: every dialect, in any mix.
//!
//! The dialects differ in how they spell a rule, not in what a rule can be, so there is one pass: a file has entries, an
//! entry has rules, and each spelling ([`rule`], [`entry`], [`counter`]) ends in the few checks of the model. Lowering goes
//! on after a mistake, so that all of them are reported; what was lowered is used only if there was none.
//!
//! Counters are the one thing that needs the whole file: a rule may watch a counter that a later entry declares. Such
//! watches are kept aside and resolved at the end.

mod approval;
mod condition;
mod counter;
mod definitions;
mod entry;
mod fields;
mod file;
mod methods;
mod name;
mod path;
mod results;
mod rule;

use crate::model::{Check, Condition, Mode, Policy, Template};
use crate::outline::{CheckPlace, ConditionPlace, Outline};
use crate::problem::Problem;
use crate::reader::Reader;
use crate::source::Node;
use crate::text::{Source, Span};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Lowers a file. What it gives is whole only if no error was added to `problems`.
pub(crate) fn lower(source: &Source, root: &Node, problems: &mut Vec<Problem>) -> (Policy, Outline) {
    let mut reader = Reader::new(source, &fields::VOCABULARY);
    reader.problems = std::mem::take(problems);
    let mut lowering =
        Lowering { reader, counters: Vec::new(), attempted: Vec::new(), entries: Vec::new(), refusals: Vec::new() };
    let lowered = lowering.file(root);
    *problems = lowering.reader.problems;
    lowered
}

struct Lowering<'s> {
    reader: Reader<'s>,
    counters: Vec<counter::Declared>,
    /// The counters that the file meant to declare, also where that went wrong.
    attempted: Vec<String>,
    entries: Vec<entry::EntryDraft>,
    /// What of `methods` and `server_requests` denies.
    refusals: Vec<(Arc<str>, Span)>,
}

/// Every part of the lowering reads.
impl<'s> Deref for Lowering<'s> {
    type Target = Reader<'s>;

    fn deref(&self) -> &Reader<'s> {
        &self.reader
    }
}

impl DerefMut for Lowering<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.reader
    }
}

/// What the rules of one entry have in common.
struct Context {
    /// Who owns its counters: the key, or `_global`.
    owner: Arc<str>,
    /// `/tools/<key>` or `/all_tools`.
    pointer: String,
}

/// A rule while it is being put together.
struct RuleDraft {
    reference: String,
    at: Span,
    mode: Mode,
    message: Option<Template>,
    checks: Vec<(Check, CheckPlace)>,
    watches: Vec<counter::Watched>,
}

impl RuleDraft {
    fn new(reference: String, at: &Span) -> RuleDraft {
        let (mode, message) = (Mode::Enforce, None);
        RuleDraft { reference, at: at.clone(), mode, message, checks: Vec::new(), watches: Vec::new() }
    }

    fn push(&mut self, check: Check, at: &Span) {
        self.checks.push((check, CheckPlace::of(at)));
    }

    fn push_conditions(&mut self, check: fn(Vec<Condition>) -> Check, conditions: Vec<(Condition, ConditionPlace)>, at: &Span) {
        let (conditions, places) = conditions.into_iter().unzip();
        self.checks.push((check(conditions), CheckPlace { conditions: places, ..CheckPlace::of(at) }));
    }
}

/// The keys of each mapping, by the pointer of its definition in the JSON Schema.
#[cfg(test)]
pub(crate) fn known_keys() -> [(&'static str, &'static [&'static str]); 14] {
    [
        ("", file::FILE_KEYS),
        ("/properties/approvals", approval::APPROVALS_KEYS),
        ("/properties/approvals/properties/webhook", approval::WEBHOOK_KEYS),
        ("/$defs/tool", entry::TOOL_KEYS),
        ("/$defs/rule", rule::RULE_KEYS),
        ("/$defs/limit", counter::LIMIT_KEYS),
        ("/$defs/state", counter::STATE_KEYS),
        ("/$defs/definitions", definitions::DEFINITION_KEYS),
        ("/properties/risk", crate::risk::RISK_KEYS),
        ("/$defs/server_requests", methods::SERVER_REQUEST_KEYS),
        ("/$defs/elicitation", methods::ELICITATION_KEYS),
        ("/$defs/results", results::RESULT_KEYS),
        ("/$defs/withheld", results::WITHHELD_KEYS),
        ("/$defs/redacted", results::REDACTED_KEYS),
    ]
}
