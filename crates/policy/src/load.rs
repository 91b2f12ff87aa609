//! Loading: from a text to a policy, or to everything that is wrong with it.

use crate::model::Policy;
use crate::outline::Outline;
use crate::problem::{Problem, Severity, code, finish};
use crate::source::{Kind, read};
use crate::text::Source;
use crate::{lint, lower};

/// What became of a text.
#[derive(Debug)]
pub struct Loaded {
    /// The policy; `None` exactly if there is an error among the problems.
    pub policy: Option<Policy>,
    /// All that is wrong, in the order of the file: errors, and warnings about what loads but may not be meant.
    pub problems: Vec<Problem>,
    pub(crate) outline: Outline,
    /// What could be made of a file with errors: for checking the rest of it.
    pub(crate) draft: Option<Policy>,
}

impl Loaded {
    /// Whether the policy can be used.
    pub fn is_valid(&self) -> bool {
        self.policy.is_some()
    }

    pub(crate) fn readable(&self) -> Option<&Policy> {
        self.policy.as_ref().or(self.draft.as_ref())
    }
}

/// Reads a policy in any of its dialects, YAML or JSON.
///
/// A name that ends in `.json`, or a text that begins with `{`, is JSON; all else is YAML. Never fails otherwise than by
/// reporting problems, whatever the text.
///
/// ```
/// let loaded = policy::load(&policy::Source::new("p.yaml", "version: \"1\"\ndefualt: deny\n"));
/// assert!(loaded.policy.is_none());
/// assert_eq!(loaded.problems[0].help.as_deref(), Some("write `default`"));
/// ```
pub fn load(source: &Source) -> Loaded {
    let mut problems = Vec::new();
    let root = read(source, &mut problems);
    let mut draft = None;
    let mut outline = Outline::default();
    match root {
        Some(node) if !matches!(node.kind, Kind::Empty) => {
            let (policy, places) = lower::lower(source, &node, &mut problems);
            outline = places;
            if !has_error(&problems) {
                lint::lint(source, &policy, &outline, &mut problems);
            }
            draft = Some(policy);
        }
        _ if !has_error(&problems) => {
            let problem = Problem::new(source, Severity::Error, code::SYNTAX, 0..0, "the file holds no policy");
            problems
                .push(problem.help(r#"write `version: "1"`, `default: deny`, and the tools that may be used under `tools:`"#));
        }
        _ => {}
    }
    finish(source, &mut problems);
    let policy = if has_error(&problems) { None } else { draft.take() };
    Loaded { policy, problems, outline, draft }
}

fn has_error(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}
