//! Which patterns of a policy concern a tool, without looking at all of them.
//!
//! A policy may name thousands of tools, and a call is of one. Exact names are found by hashing, as they are and folded (for
//! look-alikes); only globs are tried one by one.

use crate::model::{Entry, Pattern};
use crate::risk::RiskClass;
use std::collections::HashMap;

/// The index of a policy's patterns. Patterns are numbered: the hidden ones first, then those of the entries.
#[derive(Debug, Default)]
pub(crate) struct Names {
    hidden: HashMap<String, usize>,
    /// Of one exact name, in file order.
    entries: HashMap<String, Vec<usize>>,
    /// The first exact name of each folded form.
    folded: HashMap<String, usize>,
    hidden_globs: Vec<usize>,
    entry_globs: Vec<usize>,
    hides_all: bool,
    for_all: Vec<usize>,
    /// By class, the mildest first.
    hidden_classes: [bool; RiskClass::ALL.len()],
    classes: [Vec<usize>; RiskClass::ALL.len()],
}

impl Names {
    pub fn of(hidden: &[Pattern], entries: &[Entry]) -> Names {
        let mut names = Names::default();
        for (number, pattern) in hidden.iter().enumerate() {
            match pattern {
                Pattern::Exact(name) => {
                    names.hidden.entry(name.clone()).or_insert(number);
                    names.folded.entry(json::fold(name).into_owned()).or_insert(number);
                }
                Pattern::Glob(_) => names.hidden_globs.push(number),
                Pattern::Class(class) => names.hidden_classes[*class as usize] = true,
                Pattern::Any => names.hides_all = true,
            }
        }
        for (number, entry) in entries.iter().enumerate() {
            match &entry.pattern {
                Pattern::Exact(name) => {
                    names.entries.entry(name.clone()).or_default().push(number);
                    names.folded.entry(json::fold(name).into_owned()).or_insert(hidden.len() + number);
                }
                Pattern::Glob(_) => names.entry_globs.push(number),
                Pattern::Class(class) => names.classes[*class as usize].push(number),
                Pattern::Any => names.for_all.push(number),
            }
        }
        names
    }

    /// Whether a hidden pattern is this very name, or everything is hidden.
    pub fn hides(&self, tool: &str) -> bool {
        self.hides_all || self.hidden.contains_key(tool)
    }

    /// The hidden patterns that are globs.
    pub fn hidden_globs(&self) -> &[usize] {
        &self.hidden_globs
    }

    /// The entries of this very name.
    pub fn entries(&self, tool: &str) -> &[usize] {
        self.entries.get(tool).map(Vec::as_slice).unwrap_or_default()
    }

    /// The entries whose patterns are globs.
    pub fn entry_globs(&self) -> &[usize] {
        &self.entry_globs
    }

    /// The entries for every tool.
    pub fn for_all(&self) -> &[usize] {
        &self.for_all
    }

    /// The hidden class of a tool of this class: of one whose class is not known, any.
    pub fn hidden_class(&self, class: Option<RiskClass>) -> Option<RiskClass> {
        of(class).iter().copied().find(|class| self.hidden_classes[*class as usize])
    }

    /// The entries of a class; where the class is not known, those of all.
    pub fn class_entries(&self, class: Option<RiskClass>) -> impl Iterator<Item = &usize> {
        of(class).iter().flat_map(|class| &self.classes[*class as usize])
    }

    /// Whether every class that a tool may be of has an entry.
    pub fn has_entries(&self, class: Option<RiskClass>) -> bool {
        of(class).iter().all(|class| !self.classes[*class as usize].is_empty())
    }

    /// Whether anything is said of classes.
    pub fn knows_classes(&self) -> bool {
        self.hidden_class(None).is_some() || self.class_entries(None).next().is_some()
    }

    /// Whether a pattern is this very name.
    pub fn knows(&self, tool: &str) -> bool {
        self.hidden.contains_key(tool) || self.entries.contains_key(tool)
    }

    /// The number of the first exact name that a careless reader takes for this one.
    pub fn folded(&self, tool: &str) -> Option<usize> {
        self.folded.get(&*json::fold(tool)).copied()
    }
}

/// What a tool may be: whose class is not known, anything.
fn of(class: Option<RiskClass>) -> &'static [RiskClass] {
    match class {
        Some(class) => std::slice::from_ref(&RiskClass::ALL[class as usize]),
        None => &RiskClass::ALL,
    }
}
