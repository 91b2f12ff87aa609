//! Reading typed values out of nodes, and saying what was expected where something else stands.

use super::Lowering;
use crate::amount::Amount;
use crate::model::Literal;
use crate::problem::{Problem, Severity, code, nearest, one_of};
use crate::source::{Kind, Member, Node, Text};
use crate::text::{Span, shown};
use json::Decimal;

/// The members of a mapping whose keys are all known.
#[derive(Clone, Copy)]
pub(super) struct Fields<'n> {
    pub node: &'n Node,
    members: &'n [Member],
}

impl<'n> Fields<'n> {
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.member(key).map(|member| &member.value)
    }

    pub fn member(&self, key: &str) -> Option<&'n Member> {
        self.members.iter().find(|member| member.key == key)
    }

    pub fn members(&self) -> &'n [Member] {
        self.members
    }

    /// The first of `keys` that is present.
    pub fn any(&self, keys: &[&str]) -> Option<&'n Member> {
        self.members.iter().find(|member| keys.contains(&member.key.as_str()))
    }
}

impl Lowering<'_> {
    pub(super) fn error(&mut self, code: &'static str, at: &Span, message: impl Into<String>) -> &mut Problem {
        self.report(Severity::Error, code, at, message)
    }

    pub(super) fn warn(&mut self, code: &'static str, at: &Span, message: impl Into<String>) -> &mut Problem {
        self.report(Severity::Warning, code, at, message)
    }

    fn report(&mut self, severity: Severity, code: &'static str, at: &Span, message: impl Into<String>) -> &mut Problem {
        self.problems.push(Problem::new(self.source, severity, code, at.clone(), message));
        self.problems.last_mut().expect("one has just been pushed")
    }

    /// Says that `node` is not what is expected: `what` is the thing (`` `max` ``), `expected` what it must be.
    pub(super) fn wrong_type(&mut self, node: &Node, what: &str, expected: &str) {
        let hint = match &node.kind {
            Kind::Invalid => return,
            Kind::Odd { hint } => Some(hint.clone()),
            Kind::Empty => Some("write a value, or remove the key".to_owned()),
            _ => None,
        };
        let written = self.source.slice(&node.at);
        let message = match &node.kind {
            Kind::Odd { .. } => format!("`{}` is no clear value for {what}", shown(&written)),
            _ => format!("{what} is {}", node.describe()),
        };
        let code = if matches!(node.kind, Kind::Odd { .. }) { code::DOUBTFUL } else { code::TYPE };
        let problem = self.error(code, &node.at, message);
        problem.label = Some(format!("expected {expected}"));
        problem.help = hint;
    }

    pub(super) fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&'static str]) -> Option<Fields<'n>> {
        let Kind::Object(members) = &node.kind else {
            self.wrong_type(node, what, "a mapping");
            return None;
        };
        for member in members {
            if !known.contains(&member.key.as_str()) {
                self.unknown_key(member, what, known);
            }
        }
        Some(Fields { node, members })
    }

    fn unknown_key(&mut self, member: &Member, what: &str, known: &[&'static str]) {
        let key = member.key.as_str();
        // A merge key or one that is no clear string has been reported by the reader.
        let is_word = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key != "null";
        if !is_word && self.problems.iter().any(|problem| problem.at == member.key_at) {
            return;
        }
        let synonym = SYNONYMS.iter().find(|(other, ours)| *other == key && known.contains(ours)).map(|(_, ours)| *ours);
        let longer = || known.iter().copied().find(|ours| ours.strip_prefix(key).is_some_and(|rest| rest.starts_with('_')));
        let help = match synonym.or_else(|| nearest(key, known.iter().copied())).or_else(longer) {
            Some(near) => format!("write `{near}`"),
            None => match PLACES.iter().find(|(place_key, _)| *place_key == key) {
                Some((_, place)) => format!("`{key}` belongs {place}"),
                None => format!("known keys are {}", one_of(known).replace(" or ", " and ")),
            },
        };
        let message = format!("unknown key `{}` in {what}", shown(key));
        self.error(code::UNKNOWN_KEY, &member.key_at, message).help = Some(help);
    }

    pub(super) fn string<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        let text = node.as_str();
        if text.is_none() {
            self.wrong_type(node, what, "a string");
            if let (Kind::Number(_) | Kind::Bool(_) | Kind::Null, Some(problem)) = (&node.kind, self.problems.last_mut()) {
                problem.help = Some(format!("write \"{}\"", shown(&self.source.slice(&node.at))));
            }
        }
        text
    }

    /// A string that is not empty, has no control characters and is not too long to be a name.
    pub(super) fn name<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        let text = self.string(node, what)?;
        match bad_name(text) {
            None => Some(text),
            Some(reason) => {
                self.error(code::NAME, &node.at, format!("{what} {reason}"));
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.kind {
            Kind::Bool(value) => return Some(*value),
            Kind::String(Text::Word(word)) => {
                let meant = matches!(word.to_ascii_lowercase().as_str(), "yes" | "on");
                let problem = self.error(code::DOUBTFUL, &node.at, format!("`{word}` is a string, not a boolean"));
                problem.label = Some("expected `true` or `false`".into());
                problem.help = Some(format!("write `{meant}`"));
            }
            _ => self.wrong_type(node, what, "`true` or `false`"),
        }
        None
    }

    pub(super) fn decimal(&mut self, node: &Node, what: &str) -> Option<Decimal> {
        if let Kind::Number(number) = &node.kind {
            return Some(number.clone());
        }
        self.wrong_type(node, what, "a number");
        if let Kind::String(text) = &node.kind
            && Decimal::parse(text.as_str()).is_some()
            && let Some(problem) = self.problems.last_mut()
        {
            problem.help = Some(format!("write `{}` without quotes", text.as_str()));
        }
        None
    }

    /// A number that can be counted: 0 or more, at most six decimals, not huge.
    pub(super) fn amount(&mut self, node: &Node, what: &str) -> Option<Amount> {
        let number = self.decimal(node, what)?;
        self.countable(&number, &node.at, what)
    }

    pub(super) fn countable(&mut self, number: &Decimal, at: &Span, what: &str) -> Option<Amount> {
        let amount = Amount::from_decimal(number);
        if amount.is_none() {
            let (message, label) = if number.is_negative() {
                (format!("{what} is negative"), "expected 0 or more".to_owned())
            } else if *number > Decimal::parse("9223372036854.775807").unwrap_or_else(|| Decimal::from(i64::MAX)) {
                (format!("{what} is too large"), format!("expected at most {}", Amount::MAX))
            } else {
                (format!("{what} has more than six decimals"), "expected at most six decimals".to_owned())
            };
            self.error(code::NUMBER, at, message).label = Some(label);
        }
        amount
    }

    pub(super) fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        match &node.kind {
            Kind::Array(elements) => Some(elements),
            _ => {
                self.wrong_type(node, what, "a list");
                None
            }
        }
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&'static str, T)]) -> Option<T> {
        let known: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
        let Some(text) = node.as_str() else {
            self.wrong_type(node, what, &one_of(&known));
            return None;
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let synonym = SYNONYMS.iter().find(|(other, ours)| *other == text && known.contains(ours)).map(|(_, ours)| *ours);
        let near = synonym.or_else(|| nearest(text, known.iter().copied()));
        let problem = self.error(code::WORD, &node.at, format!("unknown {} `{}`", what.trim_matches('`'), shown(text)));
        problem.label = Some(format!("expected {}", one_of(&known)));
        problem.help = near.map(|word| format!("write `{word}`"));
        None
    }

    /// Any value, to be compared with arguments.
    pub(super) fn literal(&mut self, node: &Node, what: &str) -> Option<Literal> {
        Some(match &node.kind {
            Kind::Null => Literal::Null,
            Kind::Bool(value) => Literal::Bool(*value),
            Kind::Number(number) => Literal::Number(number.clone()),
            Kind::String(Text::Sure(text)) => Literal::String(text.clone()),
            Kind::String(Text::Word(word)) => {
                let meant = matches!(word.to_ascii_lowercase().as_str(), "yes" | "on");
                let problem = self.error(code::DOUBTFUL, &node.at, format!("`{word}` is a boolean to some readers of YAML"));
                problem.label = Some("a string or a boolean?".into());
                problem.help = Some(format!("write \"{word}\" for the string, `{meant}` for the boolean"));
                return None;
            }
            Kind::Array(elements) => {
                let literals: Vec<_> = elements.iter().map(|element| self.literal(element, what)).collect();
                Literal::Array(literals.into_iter().collect::<Option<_>>()?)
            }
            Kind::Object(members) => {
                let literals: Vec<_> =
                    members.iter().map(|m| self.literal(&m.value, what).map(|value| (m.key.clone(), value))).collect();
                Literal::Object(literals.into_iter().collect::<Option<_>>()?)
            }
            Kind::Empty | Kind::Odd { .. } | Kind::Invalid => {
                self.wrong_type(node, what, "a value");
                return None;
            }
        })
    }
}

/// Why a text is no name; `None` when it is one.
pub(super) fn bad_name(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() {
        Some("is empty")
    } else if text.chars().any(char::is_control) {
        Some("contains a control character")
    } else if text.len() > MAX_NAME {
        Some("is longer than 256 bytes")
    } else {
        None
    }
}

/// The longest name of a tool that is let through; a longer one in a policy would never match.
const MAX_NAME: usize = 256;

/// What people write who know other tools, and our word for it.
const SYNONYMS: &[(&str, &str)] = &[
    ("allowlist", "tools"),
    ("arg", "path"),
    ("argument", "path"),
    ("ask", "require_approval"),
    ("approve", "require_approval"),
    ("approval", "require_approval"),
    ("block", "deny"),
    ("blocked", "hide"),
    ("condition", "conditions"),
    ("equals", "eq"),
    ("==", "eq"),
    ("!=", "neq"),
    ("<", "lt"),
    ("<=", "lte"),
    (">", "gt"),
    (">=", "gte"),
    ("le", "lte"),
    ("ge", "gte"),
    ("field", "path"),
    ("limit", "max"),
    ("log", "shadow"),
    ("matches", "regex"),
    ("match", "regex"),
    ("monitor", "shadow"),
    ("ne", "neq"),
    ("not_equals", "neq"),
    ("nin", "not_in"),
    ("operator", "op"),
    ("per", "window"),
    ("period", "window"),
    ("permit", "allow"),
    ("pattern", "value"),
    ("reject", "deny"),
    ("timeout", "approval_timeout"),
    ("tz", "timezone"),
    ("user", "principal"),
    ("when", "conditions"),
];

/// Where a key belongs that was found elsewhere.
const PLACES: &[(&str, &str)] = &[
    ("action", "into a rule, or to a tool"),
    ("conditions", "into a rule under `rules:`, or into an item of `require` or `deny_if`"),
    ("counter", "into `state` or an item of `limits`"),
    ("default", "to the top of the file"),
    ("deny_if", "to a tool"),
    ("hide", "to the top of the file"),
    ("increment", "into `state` or an item of `limits`"),
    ("increment_from", "into `state`, an item of `limits`, or beside `spend`"),
    ("limits", "to a tool"),
    ("max", "into `rate_limit` or an item of `limits`"),
    ("on_deny", "into a rule"),
    ("rate_limit", "into a rule, or to a tool"),
    ("require", "to a tool"),
    ("rules", "to a tool"),
    ("tools", "to the top of the file"),
    ("validate", "into a rule, or to a tool"),
    ("version", "to the top of the file"),
    ("weight", "into `state` or an item of `limits`"),
    ("window", "into `state`, `rate_limit` or an item of `limits`"),
];
