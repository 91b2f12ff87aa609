//! Amounts, numbers and literals of a policy; and the words that policies have.

use super::Lowering;
use crate::amount::Amount;
use crate::model::Literal;
use crate::problem::code;
use crate::reader::Vocabulary;
use crate::source::{Kind, Node, Text};
use crate::text::Span;
use json::Decimal;

impl Lowering<'_> {
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

/// The words of policies.
pub(super) static VOCABULARY: Vocabulary = Vocabulary { synonyms: SYNONYMS, places: PLACES };

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
    ("regex", "matches"),
    ("pattern", "value"),
    ("pattern", "matches"),
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
    ("max_bytes", "into `results`"),
    ("max", "into `rate_limit` or an item of `limits`"),
    ("on_deny", "into a rule"),
    ("rate_limit", "into a rule, or to a tool"),
    ("redact", "into `results`"),
    ("require", "to a tool"),
    ("results", "to a tool, or to the top of the file"),
    ("rules", "to a tool"),
    ("secrets", "into `results`"),
    ("tools", "to the top of the file"),
    ("validate", "into a rule, or to a tool"),
    ("version", "to the top of the file"),
    ("weight", "into `state` or an item of `limits`"),
    ("withhold", "into `results`"),
    ("window", "into `state`, `rate_limit` or an item of `limits`"),
];
