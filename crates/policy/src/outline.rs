//! Where the parts of a compiled policy stand in its text.
//!
//! The model knows nothing of texts. This is its shadow: entry by entry, rule by rule, check by check, in the same order,
//! for whoever has something to say about a part of a policy that loaded.

use crate::text::Span;
use std::sync::Arc;

/// The places of a policy's parts.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    /// Parallel to `Policy::hidden`.
    pub hidden: Vec<Span>,
    /// Parallel to `Policy::entries`.
    pub entries: Vec<EntryPlace>,
    /// What of `methods` and `server_requests` denies, with its reference.
    pub refusals: Vec<(Arc<str>, Span)>,
    /// The value of `default`, where it is written.
    pub default: Option<Span>,
    /// The first characters of the file: for what concerns the whole.
    pub top: Span,
    /// Whether the file is JSON.
    pub is_json: bool,
}

#[derive(Debug)]
pub(crate) struct EntryPlace {
    /// The key.
    pub at: Span,
    pub rules: Vec<RulePlace>,
}

#[derive(Debug)]
pub(crate) struct RulePlace {
    /// The name, else the rule's first characters.
    pub at: Span,
    pub checks: Vec<CheckPlace>,
}

#[derive(Clone, Debug)]
pub(crate) struct CheckPlace {
    pub at: Span,
    /// Parallel to the check's conditions, where it has some.
    pub conditions: Vec<ConditionPlace>,
    /// `increment_from`.
    pub amount: Option<Span>,
    pub weight: Option<Span>,
}

#[derive(Clone, Debug)]
pub(crate) struct ConditionPlace {
    pub path: Span,
    pub value: Span,
}

impl CheckPlace {
    pub fn of(at: &Span) -> CheckPlace {
        CheckPlace { at: at.clone(), conditions: Vec::new(), amount: None, weight: None }
    }
}
