//! Whether two conditions on one path can hold together.

use crate::model::{Condition, Literal, Operator, Quantifier};
use json::Decimal;
use std::cmp::Ordering;

/// Whether the two can never both hold. In doubt they can.
pub(super) fn clash(a: &Condition, b: &Condition) -> bool {
    let each = |condition: &Condition| condition.quantifier == Quantifier::Each;
    // Where nothing is given, or `null`, what is optional holds; then it is for the other to hold too.
    let lenient = (a.optional || b.optional) && may_hold_for_nothing(a) && may_hold_for_nothing(b);
    a.path.segments == b.path.segments && each(a) && each(b) && !lenient && operators_clash(&a.operator, &b.operator)
}

/// Whether the condition may hold where nothing is given, or `null`.
fn may_hold_for_nothing(condition: &Condition) -> bool {
    condition.optional
        || match &condition.operator {
            Operator::Exists(exists) => !exists,
            Operator::Equal(value) => *value == Literal::Null,
            Operator::In(values) => values.contains(&Literal::Null),
            _ => false,
        }
}

/// Whether the condition holds for no value, and not for none.
pub(super) fn never(condition: &Condition) -> bool {
    !condition.optional && matches!(&condition.operator, Operator::In(values) if values.is_empty())
}

fn operators_clash(a: &Operator, b: &Operator) -> bool {
    match (a, b) {
        (Operator::Exists(a), Operator::Exists(b)) => return a != b,
        // A missing path holds for nothing but `exists: false`.
        (Operator::Exists(false), _) | (_, Operator::Exists(false)) => return true,
        (Operator::Exists(true), _) | (_, Operator::Exists(true)) => return false,
        (Operator::StartsWith(a), Operator::StartsWith(b)) => return !a.starts_with(b.as_str()) && !b.starts_with(a.as_str()),
        _ => {}
    }
    if let Some(values) = values(a) {
        return !values.iter().any(|value| may_hold(b, value));
    }
    if let Some(values) = values(b) {
        return !values.iter().any(|value| may_hold(a, value));
    }
    match (range(a), range(b)) {
        (Some(a), Some(b)) => a.excludes(&b) || b.excludes(&a),
        (Some(_), None) => wants_string(b),
        (None, Some(_)) => wants_string(a),
        (None, None) => false,
    }
}

/// The only values for which the operator holds.
fn values(operator: &Operator) -> Option<&[Literal]> {
    match operator {
        Operator::Equal(value) => Some(std::slice::from_ref(value)),
        Operator::In(values) => Some(values),
        _ => None,
    }
}

fn wants_string(operator: &Operator) -> bool {
    matches!(operator, Operator::Regex(_) | Operator::NotRegex(_) | Operator::StartsWith(_))
}

fn may_hold(operator: &Operator, value: &Literal) -> bool {
    let text = match value {
        Literal::String(text) => Some(text),
        _ => None,
    };
    match operator {
        Operator::Equal(other) => value == other,
        Operator::NotEqual(other) => value != other,
        Operator::In(others) => others.contains(value),
        Operator::NotIn(others) => !others.contains(value),
        Operator::Less(_) | Operator::LessOrEqual(_) | Operator::Greater(_) | Operator::GreaterOrEqual(_) => match value {
            Literal::Number(number) => range(operator).is_none_or(|range| range.contains(number)),
            _ => false,
        },
        Operator::Regex(regex) => text.is_some_and(|text| regex.is_match(text)),
        Operator::NotRegex(regex) => text.is_some_and(|text| !regex.is_match(text)),
        Operator::StartsWith(prefix) => text.is_some_and(|text| text.starts_with(prefix.as_str())),
        Operator::LengthAtMost(most) => match value {
            Literal::String(text) => text.chars().count() as u64 <= *most,
            Literal::Array(elements) => elements.len() as u64 <= *most,
            _ => false,
        },
        Operator::Contains(_) | Operator::Semantic(_) => true,
        Operator::Exists(exists) => *exists,
    }
}

/// An interval of numbers with at most one end.
struct Range<'o> {
    bound: &'o Decimal,
    /// Whether the interval lies below its bound.
    below: bool,
    inclusive: bool,
}

fn range(operator: &Operator) -> Option<Range<'_>> {
    let (bound, below, inclusive) = match operator {
        Operator::Less(bound) => (bound, true, false),
        Operator::LessOrEqual(bound) => (bound, true, true),
        Operator::Greater(bound) => (bound, false, false),
        Operator::GreaterOrEqual(bound) => (bound, false, true),
        _ => return None,
    };
    Some(Range { bound, below, inclusive })
}

impl Range<'_> {
    fn contains(&self, number: &Decimal) -> bool {
        match number.cmp(self.bound) {
            Ordering::Less => self.below,
            Ordering::Equal => self.inclusive,
            Ordering::Greater => !self.below,
        }
    }

    /// Whether this one, which lies below its bound, and the other, which lies above, have nothing in common.
    fn excludes(&self, other: &Range<'_>) -> bool {
        self.below
            && !other.below
            && match self.bound.cmp(other.bound) {
                Ordering::Less => true,
                Ordering::Equal => !(self.inclusive && other.inclusive),
                Ordering::Greater => false,
            }
    }
}
