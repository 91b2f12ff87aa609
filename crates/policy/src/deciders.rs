//! The rules of a policy as a list of what can decide a call: for whoever wants to know which of them ever has.

use crate::load::Loaded;
use crate::model::{Pattern, Policy};
use crate::risk::RiskClass;
use crate::text::Source;

/// Something that can deny a call or another message, or hold it for an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decider {
    /// How decisions name it: a rule's name, else its JSON Pointer, or `(hidden)`. Rules of different tools may have one name.
    pub reference: String,
    /// Where it stands, counted from 1.
    pub line: u32,
    /// Its number among the rules of the policy; `None` of what is no rule of a tool.
    pub number: Option<usize>,
}

impl Loaded {
    /// Everything in the policy that can decide, in no particular order. `source` is what it was loaded from.
    pub fn deciders(&self, source: &Source) -> Vec<Decider> {
        let Some(policy) = self.readable() else { return Vec::new() };
        let mut deciders = Vec::new();
        let mut number = 0;
        for (entry, place) in policy.entries.iter().zip(&self.outline.entries) {
            for (rule, place) in entry.rules.iter().zip(&place.rules) {
                if !rule.checks.is_empty() {
                    let (reference, line) = (rule.reference.to_string(), line_of(source, place.at.start));
                    deciders.push(Decider { reference, line, number: Some(number) });
                }
                number += 1;
            }
        }
        for (pattern, at) in policy.hidden.iter().zip(&self.outline.hidden) {
            let reference = match pattern {
                Pattern::Class(class) => format!("/risk/{}", class.key()),
                Pattern::Exact(_) | Pattern::Glob(_) | Pattern::Any => HIDDEN.to_owned(),
            };
            // A decision does not say which of the hidden names it was.
            if reference != HIDDEN || !deciders.iter().any(|decider| decider.reference == HIDDEN) {
                deciders.push(Decider { reference, line: line_of(source, at.start), number: None });
            }
        }
        for (reference, at) in &self.outline.refusals {
            deciders.push(Decider { reference: reference.to_string(), line: line_of(source, at.start), number: None });
        }
        deciders
    }
}

impl Policy {
    /// The number of the rule of this reference that a tool of this class is judged by.
    pub fn rule_number(&self, tool: &str, class: Option<RiskClass>, reference: &str) -> Option<usize> {
        let (_, rule) = self.rules_for(tool, class).find(|(_, rule)| &*rule.reference == reference)?;
        self.entries.iter().flat_map(|entry| &entry.rules).position(|each| std::ptr::eq(each, rule))
    }
}

fn line_of(source: &Source, offset: usize) -> u32 {
    u32::try_from(source.line(offset)).unwrap_or(u32::MAX)
}

const HIDDEN: &str = "(hidden)";
