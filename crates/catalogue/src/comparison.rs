//! Two states of one server's definitions side by side: what is new, what is gone, what has changed.

use crate::difference::{Change, prompt_changes, text_changes, tool_changes};
use crate::lock::Pinned;
use json::{Document, Strictness, Value};
use std::collections::{BTreeMap, BTreeSet};

type Compare = fn(Value<'_>, Value<'_>) -> Vec<Change>;

/// What a difference is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// What the server tells the model to begin with.
    Instructions,
    /// A prompt.
    Prompt(String),
    /// A tool.
    Tool(String),
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is about.
    pub subject: Subject,
    /// What has become of it.
    pub kind: DifferenceKind,
}

/// What has become of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// It was not there before; its definition.
    New(String),
    /// It is not there any more.
    Gone,
    /// It is another.
    Changed(Vec<Change>),
}

impl Difference {
    /// Whether more is possible by it than before.
    pub fn widens(&self) -> bool {
        match &self.kind {
            DifferenceKind::New(_) => true,
            DifferenceKind::Gone => false,
            DifferenceKind::Changed(changes) => changes.iter().any(|change| change.widens),
        }
    }
}

/// The differences from one state to the other. Where `whole` is false, `new` holds only some definitions, and what it does
/// not hold is not gone. A section that has not been seen in one of the states says nothing of the other.
pub fn compare(old: &Pinned, new: &Pinned, whole: bool) -> Vec<Difference> {
    let mut differences = Vec::new();
    if let (before, Some(after)) = (old.instructions.clone().flatten(), &new.instructions) {
        let changes = text_changes("instructions", before.as_deref(), after.as_deref());
        if !changes.is_empty() {
            differences.push(Difference { subject: Subject::Instructions, kind: DifferenceKind::Changed(changes) });
        }
    }
    for (before, after, subject, changes) in [
        (&old.prompts, &new.prompts, Subject::Prompt as fn(String) -> Subject, prompt_changes as Compare),
        (&old.tools, &new.tools, Subject::Tool, tool_changes),
    ] {
        let Some(after) = after else { continue };
        let nothing = BTreeMap::new();
        let before = before.as_ref().unwrap_or(&nothing);
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            let kind = match (before.get(name), after.get(name)) {
                (None, Some(definition)) => DifferenceKind::New(definition.clone()),
                (Some(_), None) if whole => DifferenceKind::Gone,
                (Some(old), Some(new)) if old != new => {
                    let read = |text: &String| Document::parse(text.clone(), Strictness::Reply).ok();
                    let (Some(old), Some(new)) = (read(old), read(new)) else { continue };
                    let changes: Vec<Change> = changes(old.root(), new.root());
                    if changes.is_empty() {
                        continue;
                    }
                    DifferenceKind::Changed(changes)
                }
                _ => continue,
            };
            differences.push(Difference { subject: subject(name.clone()), kind });
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_states_are_told_apart() {
        let tools = |list: &[(&str, &str)]| Some(list.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect());
        let old = Pinned {
            tools: tools(&[("a", r#"{"name":"a"}"#), ("b", r#"{"name":"b"}"#), ("c", r#"{"name":"c"}"#)]),
            ..Pinned::default()
        };
        let new = Pinned {
            tools: tools(&[("a", r#"{"name":"a"}"#), ("b", r#"{"name":"b","x":1}"#), ("d", r#"{"name":"d"}"#)]),
            instructions: Some(Some("Be brief.".into())),
            ..Pinned::default()
        };
        let told = |whole| -> Vec<(Subject, bool)> {
            compare(&old, &new, whole).iter().map(|difference| (difference.subject.clone(), difference.widens())).collect()
        };
        let tool = |name: &str| Subject::Tool(name.to_owned());
        assert_eq!(told(false), [(Subject::Instructions, false), (tool("b"), true), (tool("d"), true)]);
        assert_eq!(told(true), [(Subject::Instructions, false), (tool("b"), true), (tool("c"), false), (tool("d"), true)]);
        assert_eq!(compare(&new, &new, true), []);
    }
}
