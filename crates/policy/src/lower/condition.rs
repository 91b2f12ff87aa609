//! Conditions: `{path, op, value}`.

use super::Lowering;
use super::counter::Watched;
use super::path::Subject;
use crate::model::{Condition, Literal, Operator, Path, Quantifier, Segment};
use crate::outline::ConditionPlace;
use crate::problem::code;
use crate::reader::Fields;
use crate::semantic;
use crate::source::{Kind, Node};
use crate::text::shown;
use regex::RegexBuilder;

/// The conditions of one list.
#[derive(Default)]
pub(super) struct Conditions {
    pub arguments: Vec<(Condition, ConditionPlace)>,
    pub counters: Vec<Watched>,
    /// Whether none was lost to a mistake.
    pub whole: bool,
}

impl Lowering<'_> {
    /// Lowers a list of conditions. `counters_allowed` says whether `state.…` may stand here; if not, `instead` says what
    /// to do.
    pub(super) fn conditions(&mut self, node: &Node, counters: Counters) -> Conditions {
        let Some(nodes) = self.list(node, "`conditions`") else { return Conditions::default() };
        let mut lowered = Conditions { whole: true, ..Conditions::default() };
        for node in nodes {
            let before = self.problems.len();
            if self.condition(node, counters, &mut lowered).is_none() {
                lowered.whole = false;
                // A condition that is lost without a word would widen the policy.
                if self.problems.len() == before && !matches!(node.kind, Kind::Invalid) {
                    self.error(code::SYNTAX, &node.at, "this condition cannot be read");
                }
            }
        }
        lowered
    }

    fn condition(&mut self, node: &Node, counters: Counters, out: &mut Conditions) -> Option<()> {
        let fields = self.fields(node, "a condition", &["path", "op", "value", "quantifier", "optional"])?;
        let path = self.required(&fields, "path", "a condition");
        let subject = path.and_then(|path| self.subject(path));
        if let (Some(Subject::Counter(_)), Some(path), Counters::Refused { instead }) = (&subject, path, counters) {
            self.error(code::COMBINATION, &path.at, "a counter cannot be a condition here").help = Some(instead.into());
            return None;
        }
        if let (Some(Subject::Counter(name)), Some(path)) = (&subject, path) {
            out.counters.push(self.watched(name.clone(), path, &fields)?);
            return Some(());
        }
        let operator = self.operator(&fields);
        let quantifier = fields.get("quantifier").map(|node| self.word(node, "`quantifier`", QUANTIFIERS));
        let (Some(Subject::Argument(argument)), Some(path)) = (subject, path) else { return None };
        let operator = operator?;
        // Where conditions say what is refused or asked about, one bad element is enough: else it could hide among good ones.
        let many = argument.segments.contains(&Segment::All);
        let default = if many && matches!(counters, Counters::Refused { .. }) { Quantifier::Any } else { Quantifier::Each };
        let quantifier = quantifier.unwrap_or(Some(default))?;
        self.quantified(&argument, quantifier, &operator, &fields)?;
        let optional = self.optional(&operator, quantifier, counters, &fields)?;
        let value = fields.get("value").map_or(path.at.clone(), |value| value.at.clone());
        let place = ConditionPlace { path: path.at.clone(), value };
        out.arguments.push((Condition { path: argument, quantifier, operator, optional }, place));
        Some(())
    }

    /// Whether a call that leaves the argument out may go by.
    fn optional(&mut self, operator: &Operator, quantifier: Quantifier, counters: Counters, fields: &Fields<'_>) -> Option<bool> {
        let Some(node) = fields.get("optional") else { return Some(false) };
        let optional = self.boolean(node, "`optional`")?;
        let instead = match (operator, counters) {
            (Operator::Exists(_), _) => "`exists` says itself what is to be left out",
            (_, Counters::Refused { .. }) => "what is left out does not match here, and so is neither refused nor asked about",
            _ if optional && quantifier == Quantifier::Sum => {
                let problem = self.error(code::COMBINATION, &node.at, "a sum cannot be `optional`");
                problem.label = Some("an amount that is missing must not count as nothing".into());
                problem.help = Some("remove `optional`: the sum of an empty list is 0".into());
                return None;
            }
            _ => return Some(optional),
        };
        let problem = self.error(code::COMBINATION, &node.at, "`optional` means nothing here");
        problem.label = Some(instead.into());
        problem.help = Some("remove `optional`".into());
        None
    }

    fn quantified(&mut self, path: &Path, quantifier: Quantifier, operator: &Operator, fields: &Fields<'_>) -> Option<()> {
        let Some(node) = fields.get("quantifier") else { return Some(()) };
        if !path.segments.contains(&Segment::All) {
            self.error(code::COMBINATION, &node.at, "`quantifier` means nothing without `[*]` in the path").help =
                Some("write the path as in `args.items[*].amount`, or remove `quantifier`".into());
            return None;
        }
        let ordered =
            matches!(operator, Operator::Less(_) | Operator::LessOrEqual(_) | Operator::Greater(_) | Operator::GreaterOrEqual(_));
        if quantifier == Quantifier::Sum && !ordered {
            self.error(code::COMBINATION, &node.at, "a sum can only be compared").label =
                Some("expected `op` to be `lt`, `lte`, `gt` or `gte`".into());
            return None;
        }
        Some(())
    }

    fn operator(&mut self, fields: &Fields<'_>) -> Option<Operator> {
        let op = self.required(fields, "op", "a condition");
        let value = self.required(fields, "value", "a condition");
        let (op, value) = (op?, value?);
        if let Some(name) = op.as_str().filter(|name| semantic::NAMES.contains(name)) {
            return self.semantic(name, value);
        }
        let op = self.word(op, "operator", OPERATORS)?;
        Some(match op {
            Op::Eq => Operator::Equal(self.literal(value, "`value`")?),
            Op::Neq => Operator::NotEqual(self.literal(value, "`value`")?),
            Op::In => Operator::In(self.literals(value)?),
            Op::NotIn => Operator::NotIn(self.literals(value)?),
            Op::Lt => Operator::Less(self.decimal(value, "`value`")?),
            Op::Lte => Operator::LessOrEqual(self.decimal(value, "`value`")?),
            Op::Gt => Operator::Greater(self.decimal(value, "`value`")?),
            Op::Gte => Operator::GreaterOrEqual(self.decimal(value, "`value`")?),
            Op::Regex => Operator::Regex(Box::new(self.regex(value, "`value`")?)),
            Op::NotRegex => Operator::NotRegex(Box::new(self.regex(value, "`value`")?)),
            Op::Contains => Operator::Contains(self.literal(value, "`value`")?),
            Op::StartsWith => {
                let prefix = self.string(value, "`value`")?;
                if prefix.is_empty() {
                    self.error(code::COMBINATION, &value.at, "every string starts with the empty string");
                    return None;
                }
                Operator::StartsWith(prefix.to_owned())
            }
            Op::LengthLte => {
                let number = self.decimal(value, "`value`")?;
                let length = number.scaled(0).and_then(|n| u64::try_from(n).ok());
                if length.is_none() {
                    self.error(code::NUMBER, &value.at, format!("{number} is no length")).label =
                        Some("expected a whole number of 0 or more".into());
                }
                Operator::LengthAtMost(length?)
            }
            Op::Exists => Operator::Exists(self.boolean(value, "`value`")?),
        })
    }

    /// An operator that parses what it judges.
    fn semantic(&mut self, name: &str, value: &Node) -> Option<Operator> {
        let allowed = self.literal(value, "`value`")?;
        match semantic::operator(name, &allowed)? {
            Ok(operator) => Some(Operator::Semantic(operator)),
            Err(mistake) => {
                let problem =
                    self.error(code::COMBINATION, &value.at, format!("`{name}` cannot go by this: {}", mistake.message));
                problem.label = Some(mistake.expected.into());
                None
            }
        }
    }

    fn literals(&mut self, node: &Node) -> Option<Vec<Literal>> {
        let elements = self.list(node, "`value`")?;
        let literals: Vec<_> = elements.iter().map(|element| self.literal(element, "an element")).collect();
        literals.into_iter().collect()
    }

    /// A regular expression; `what` is the thing in messages.
    pub(super) fn regex(&mut self, node: &Node, what: &str) -> Option<regex::Regex> {
        let pattern = self.string(node, what)?;
        match RegexBuilder::new(pattern).size_limit(REGEX_BYTES).build() {
            Ok(regex) => Some(regex),
            Err(error) => {
                // The library draws a picture of several lines; its last one says what is wrong.
                let reason = match &error {
                    regex::Error::CompiledTooBig(_) => "it compiles to more than 1 MiB".to_owned(),
                    other => {
                        let text = other.to_string();
                        text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
                    }
                };
                let message = format!("`{}` is not a regular expression", shown(pattern));
                let problem = self.error(code::REGEX, &node.at, message);
                problem.label = Some(reason);
                if pattern.contains("(?=") || pattern.contains("(?!") || pattern.contains("(?<=") || pattern.contains("(?<!") {
                    problem.help = Some("look-around is not supported: a search takes linear time".into());
                }
                None
            }
        }
    }
}

/// Whether conditions on counters may stand in a list.
#[derive(Clone, Copy)]
pub(super) enum Counters {
    Allowed,
    Refused { instead: &'static str },
}

#[derive(Clone, Copy)]
enum Op {
    Eq,
    Neq,
    In,
    NotIn,
    Lt,
    Lte,
    Gt,
    Gte,
    Regex,
    NotRegex,
    Contains,
    StartsWith,
    LengthLte,
    Exists,
}

const OPERATORS: &[(&str, Op)] = &[
    ("eq", Op::Eq),
    ("neq", Op::Neq),
    ("in", Op::In),
    ("not_in", Op::NotIn),
    ("lt", Op::Lt),
    ("lte", Op::Lte),
    ("gt", Op::Gt),
    ("gte", Op::Gte),
    ("regex", Op::Regex),
    ("not_regex", Op::NotRegex),
    ("contains", Op::Contains),
    ("starts_with", Op::StartsWith),
    ("length_lte", Op::LengthLte),
    ("exists", Op::Exists),
];

const QUANTIFIERS: &[(&str, Quantifier)] = &[("each", Quantifier::Each), ("any", Quantifier::Any), ("sum", Quantifier::Sum)];

const REGEX_BYTES: usize = 1 << 20;
