//! Conditions: finding what a path names, and judging it.
//!
//! Types are kept apart and nothing is converted: `5` is neither `"5"` nor `[5]`. A value of the wrong type is an error, not
//! a *no*, so that a negated operator (`neq`, `not_in`, `not_regex`) and a `deny_if` never turn it into an allow.
//!
//! What is missing is no error: then a condition does not hold, whatever it asks, except `exists: false` and what is `optional`.
//! `null` counts as missing for those two, and on the way to a deeper member; where it is the value itself, it is a value like
//! any other.
//!
//! A member whose name could be taken for the one that is looked for (`Profile` for `profile`) is not passed by as another:
//! that is an error too, for the server may be such a reader.

use crate::amount::Amount;
use crate::model::{AmountFrom, Condition, Literal, Operator, Path, Quantifier, Segment};
use json::{Decimal, Kind, Value};
use std::borrow::Cow;
use std::cmp::Ordering;

/// Why something cannot be judged, as a sentence about the argument: `` `args.amount` must be a number ``.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CannotJudge {
    /// A value of the wrong type.
    Value(String),
    /// What should be an amount is none.
    Amount(String),
}

impl CannotJudge {
    pub(crate) fn problem(&self) -> &str {
        let (CannotJudge::Value(problem) | CannotJudge::Amount(problem)) = self;
        problem
    }
}

/// One thing that a path leads to.
enum Item<'d> {
    Missing,
    Value(Value<'d>),
    /// A length.
    Number(Decimal),
}

impl Item<'_> {
    fn is_left_out(&self) -> bool {
        match self {
            Item::Missing => true,
            Item::Value(value) => value.is_null(),
            Item::Number(_) => false,
        }
    }
}

impl Condition {
    /// Whether the condition holds for these arguments.
    pub(crate) fn holds(&self, arguments: Option<Value<'_>>) -> Result<bool, CannotJudge> {
        let mut items = find(&self.path, arguments)?;
        if self.optional {
            items.retain(|item| !item.is_left_out());
            if items.is_empty() {
                return Ok(true);
            }
        }
        let each = |item: &Item<'_>| {
            self.operator.holds(item).map_err(|must| CannotJudge::Value(format!("`{}` {must}", self.path.text)))
        };
        match self.quantifier {
            // Every item is judged even when the answer is known: one that cannot be judged is an error wherever it stands.
            // Of no items, none holds: `each` on an empty array is a no, because nothing that the rule wants to see is there.
            Quantifier::Each => {
                let judged = items.iter().map(each).collect::<Result<Vec<bool>, _>>()?;
                Ok(!judged.is_empty() && judged.into_iter().all(|holds| holds))
            }
            Quantifier::Any => {
                let judged = items.iter().map(each).collect::<Result<Vec<bool>, _>>()?;
                Ok(judged.into_iter().any(|holds| holds))
            }
            Quantifier::Sum => {
                if !items.is_empty() && items.iter().all(|item| matches!(item, Item::Missing)) {
                    return Ok(false);
                }
                let sum = sum(&self.path, &items)?;
                let sum = Decimal::parse(&sum.to_string()).expect("an amount's text is a JSON number");
                each(&Item::Number(sum))
            }
        }
    }

    /// What the condition demands, as a sentence without its end: `` `args.amount` must be at most 5 ``.
    pub(crate) fn demand(&self) -> String {
        format!("{} must {}", self.subject(), self.operator.phrase())
    }

    /// The opposite: `` `args.amount` must not be greater than 5 ``.
    pub(crate) fn opposite(&self) -> String {
        match (&self.operator, self.quantifier) {
            (Operator::Exists(exists), _) => {
                format!("`{}` must {}", self.path.text, Operator::Exists(!exists).phrase())
            }
            (_, Quantifier::Any) => format!("no `{}` may {}", self.path.text, self.operator.phrase()),
            (_, Quantifier::Each) if self.path.segments.contains(&Segment::All) => {
                format!("not {} may {}", self.subject(), self.operator.phrase())
            }
            (_, Quantifier::Each | Quantifier::Sum) => format!("{} must not {}", self.subject(), self.operator.phrase()),
        }
    }

    fn subject(&self) -> String {
        let path = &self.path.text;
        let many = self.path.segments.contains(&Segment::All);
        match self.quantifier {
            Quantifier::Each if many => format!("every `{path}`"),
            Quantifier::Each => format!("`{path}`"),
            Quantifier::Any => format!("at least one `{path}`"),
            Quantifier::Sum if many => format!("the sum of `{path}`"),
            Quantifier::Sum => format!("`{path}`"),
        }
    }

    /// The condition in the policy's words: `args.amount lte 1000`.
    pub(crate) fn text(&self) -> String {
        let quantifier = match self.quantifier {
            Quantifier::Each => "",
            Quantifier::Any => "any ",
            Quantifier::Sum => "sum ",
        };
        let (operator, optional) = (&self.operator, if self.optional { " if given" } else { "" });
        format!("{quantifier}{} {} {}{optional}", self.path.text, operator.word(), operator.operand())
    }
}

impl AmountFrom {
    /// Where it comes from, in the policy's words.
    pub(crate) fn text(&self) -> String {
        match self {
            AmountFrom::Fixed(amount) => amount.to_string(),
            AmountFrom::Path(path) => path.text.to_string(),
        }
    }

    /// The amount that this call has. The error names the argument, and what it must be.
    pub(crate) fn of(&self, arguments: Option<Value<'_>>) -> Result<Amount, CannotJudge> {
        match self {
            AmountFrom::Fixed(amount) => Ok(*amount),
            AmountFrom::Path(path) => sum(path, &find(path, arguments)?),
        }
    }
}

impl Path {
    /// The values to which it leads; `None` where that cannot be judged.
    pub(crate) fn found<'d>(&self, arguments: Value<'d>) -> Option<Vec<Value<'d>>> {
        let value = |item: Item<'d>| match item {
            Item::Value(value) => Some(value),
            Item::Missing | Item::Number(_) => None,
        };
        find(self, Some(arguments)).ok().map(|items| items.into_iter().filter_map(value).collect())
    }
}

fn sum(path: &Path, items: &[Item<'_>]) -> Result<Amount, CannotJudge> {
    let bad = || CannotJudge::Amount(format!("`{}` must be a number of 0 or more with at most six decimals", path.text));
    items.iter().try_fold(Amount::ZERO, |sum, item| {
        let number = match item {
            Item::Missing => None,
            Item::Value(value) => value.as_decimal(),
            Item::Number(number) => Some(number.clone()),
        };
        let amount = number.and_then(|number| Amount::from_decimal(&number)).ok_or_else(bad)?;
        sum.checked_add(amount).ok_or_else(bad)
    })
}

/// Follows the path. Without `[*]` it leads to exactly one item; with, to as many as there are.
fn find<'d>(path: &Path, arguments: Option<Value<'d>>) -> Result<Vec<Item<'d>>, CannotJudge> {
    let mut items = vec![arguments.map_or(Item::Missing, Item::Value)];
    for (depth, segment) in path.segments.iter().enumerate() {
        let last = depth + 1 == path.segments.len();
        let mut next = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Value(value) if !value.is_null() => step(value, segment, last, &mut next)
                    .map_err(|must| CannotJudge::Value(format!("`{}` {must}", prefix(path, depth))))?,
                // A length has no members, and comes last; what is missing has none either.
                Item::Value(_) | Item::Missing | Item::Number(_) => next.push(Item::Missing),
            }
        }
        items = next;
    }
    Ok(items)
}

/// Takes one step from a value. The error says what the value must be for that, or what is wrong with it.
fn step<'d>(value: Value<'d>, segment: &Segment, last: bool, out: &mut Vec<Item<'d>>) -> Result<(), Cow<'static, str>> {
    match segment {
        Segment::Key(key) => {
            if value.kind() != Kind::Object {
                return Err("must be an object".into());
            }
            out.push(member(value, key)?.map_or(Item::Missing, Item::Value));
        }
        Segment::Index(index) => {
            let mut elements = value.elements().ok_or("must be an array")?;
            out.push(elements.nth(*index).map_or(Item::Missing, Item::Value));
        }
        Segment::All => out.extend(value.elements().ok_or("must be an array")?.map(Item::Value)),
        Segment::Length => match member(value, "length")? {
            Some(member) => out.push(Item::Value(member)),
            None if last => out.push(Item::Number(Decimal::from(length(value)?))),
            None => out.push(Item::Missing),
        },
    }
    Ok(())
}

/// The member of exactly this name.
///
/// A member that could be taken for it is an error, whether or not the exact one is there too: the server may read the one,
/// the other, or whichever comes last.
fn member<'d>(value: Value<'d>, key: &str) -> Result<Option<Value<'d>>, Cow<'static, str>> {
    let mut found = None;
    for member in value.members().into_iter().flatten() {
        if member.key == key {
            found = Some(member.value);
        } else if json::could_be_taken_for(&member.key, &[key]).is_some() {
            let given = short(&member.key.escape_debug().to_string());
            return Err(format!("has a member `{given}` that could be taken for `{key}`; write `{key}`").into());
        }
    }
    Ok(found)
}

fn length(value: Value<'_>) -> Result<i64, &'static str> {
    let count = match value.kind() {
        Kind::String => value.as_str().map_or(0, |text| text.chars().count()),
        Kind::Array => value.elements().map_or(0, Iterator::count),
        Kind::Object => value.members().map_or(0, Iterator::count),
        Kind::Null | Kind::Bool | Kind::Number => return Err("must be a string, an array or an object"),
    };
    Ok(i64::try_from(count).expect("a text of 4 GiB holds fewer values than i64 counts"))
}

/// The text of the path's first `depth` segments.
fn prefix(path: &Path, depth: usize) -> String {
    let mut out = "args".to_owned();
    for segment in &path.segments[..depth] {
        match segment {
            Segment::Key(key) => out.push_str(&format!(".{key}")),
            Segment::Index(index) => out.push_str(&format!("[{index}]")),
            Segment::All => out.push_str("[*]"),
            Segment::Length => out.push_str(".length"),
        }
    }
    out
}

impl Operator {
    fn holds(&self, item: &Item<'_>) -> Result<bool, String> {
        match (self, item) {
            (Operator::Exists(wanted), Item::Missing) => Ok(!wanted),
            (Operator::Exists(wanted), Item::Value(value)) => Ok(*wanted != value.is_null()),
            (Operator::Exists(wanted), Item::Number(_)) => Ok(*wanted),
            (_, Item::Missing) => Ok(false),
            (_, Item::Number(number)) => self.holds_for_number(number),
            (_, Item::Value(value)) => self.holds_for(*value),
        }
    }

    fn holds_for(&self, value: Value<'_>) -> Result<bool, String> {
        let string = || value.as_str().ok_or_else(|| "must be a string".to_owned());
        match self {
            Operator::Equal(literal) => one_of(std::slice::from_ref(literal), value),
            Operator::NotEqual(literal) => one_of(std::slice::from_ref(literal), value).map(|equal| !equal),
            Operator::In(literals) => one_of(literals, value),
            Operator::NotIn(literals) => one_of(literals, value).map(|found| !found),
            Operator::Less(_) | Operator::LessOrEqual(_) | Operator::Greater(_) | Operator::GreaterOrEqual(_) => {
                let number = value.as_decimal().ok_or_else(|| "must be a number".to_owned())?;
                self.holds_for_number(&number)
            }
            Operator::Regex(regex) => Ok(regex.is_match(&string()?)),
            Operator::NotRegex(regex) => Ok(!regex.is_match(&string()?)),
            Operator::StartsWith(start) => Ok(string()?.starts_with(start.as_str())),
            Operator::Contains(literal) => contains(value, literal),
            Operator::LengthAtMost(most) => match value.kind() {
                Kind::String | Kind::Array => Ok(u64::try_from(length(value)?).is_ok_and(|length| length <= *most)),
                Kind::Null | Kind::Bool | Kind::Number | Kind::Object => Err("must be a string or an array".to_owned()),
            },
            Operator::Exists(wanted) => Ok(*wanted != value.is_null()),
            Operator::Semantic(operator) => operator.holds(value),
        }
    }

    /// Judges a number that is not in the text: a length, a sum.
    fn holds_for_number(&self, number: &Decimal) -> Result<bool, String> {
        let one_of = |literals: &[Literal]| {
            let kind_matches = literals.iter().any(|literal| matches!(literal, Literal::Number(_)));
            let found = literals.iter().any(|literal| matches!(literal, Literal::Number(other) if other == number));
            if kind_matches { Ok(found) } else { Err("is a number, and the rule compares it with something else".to_owned()) }
        };
        match self {
            Operator::Equal(literal) => one_of(std::slice::from_ref(literal)),
            Operator::NotEqual(literal) => one_of(std::slice::from_ref(literal)).map(|equal| !equal),
            Operator::In(literals) => one_of(literals),
            Operator::NotIn(literals) => one_of(literals).map(|found| !found),
            Operator::Less(bound) => Ok(number.cmp(bound) == Ordering::Less),
            Operator::LessOrEqual(bound) => Ok(number.cmp(bound) != Ordering::Greater),
            Operator::Greater(bound) => Ok(number.cmp(bound) == Ordering::Greater),
            Operator::GreaterOrEqual(bound) => Ok(number.cmp(bound) != Ordering::Less),
            Operator::Exists(wanted) => Ok(*wanted),
            Operator::Regex(_)
            | Operator::NotRegex(_)
            | Operator::StartsWith(_)
            | Operator::Contains(_)
            | Operator::LengthAtMost(_)
            | Operator::Semantic(_) => Err("is a number, and the rule asks for something else".to_owned()),
        }
    }

    /// The operator's name in policies.
    fn word(&self) -> &'static str {
        match self {
            Operator::Equal(_) => "eq",
            Operator::NotEqual(_) => "neq",
            Operator::In(_) => "in",
            Operator::NotIn(_) => "not_in",
            Operator::Less(_) => "lt",
            Operator::LessOrEqual(_) => "lte",
            Operator::Greater(_) => "gt",
            Operator::GreaterOrEqual(_) => "gte",
            Operator::Regex(_) => "regex",
            Operator::NotRegex(_) => "not_regex",
            Operator::Contains(_) => "contains",
            Operator::StartsWith(_) => "starts_with",
            Operator::LengthAtMost(_) => "length_lte",
            Operator::Exists(_) => "exists",
            Operator::Semantic(operator) => operator.name(),
        }
    }

    fn operand(&self) -> String {
        match self {
            Operator::Equal(literal) | Operator::NotEqual(literal) | Operator::Contains(literal) => shown(literal),
            Operator::In(literals) | Operator::NotIn(literals) => format!("[{}]", list(literals)),
            Operator::Less(n) | Operator::LessOrEqual(n) | Operator::Greater(n) | Operator::GreaterOrEqual(n) => n.to_string(),
            Operator::Regex(regex) | Operator::NotRegex(regex) => short(regex.as_str()),
            Operator::StartsWith(start) => short(&json::quote(start)),
            Operator::LengthAtMost(most) => most.to_string(),
            Operator::Exists(wanted) => wanted.to_string(),
            Operator::Semantic(operator) => short(&operator.operand()),
        }
    }

    /// What comes after "must".
    fn phrase(&self) -> String {
        let operand = self.operand();
        match self {
            Operator::Equal(_) => format!("be {operand}"),
            Operator::NotEqual(_) => format!("differ from {operand}"),
            Operator::In(_) => format!("be one of {operand}"),
            Operator::NotIn(_) => format!("be none of {operand}"),
            Operator::Less(_) => format!("be less than {operand}"),
            Operator::LessOrEqual(_) => format!("be at most {operand}"),
            Operator::Greater(_) => format!("be greater than {operand}"),
            Operator::GreaterOrEqual(_) => format!("be at least {operand}"),
            Operator::Regex(_) => format!("match `{operand}`"),
            Operator::NotRegex(_) => format!("have no match of `{operand}`"),
            Operator::Contains(_) => format!("contain {operand}"),
            Operator::StartsWith(_) => format!("start with {operand}"),
            Operator::LengthAtMost(_) => format!("have a length of at most {operand}"),
            Operator::Exists(true) => "be given".to_owned(),
            Operator::Exists(false) => "be left out".to_owned(),
            Operator::Semantic(operator) => operator.phrase(),
        }
    }
}

/// Whether the value is one of the literals; an error when it is of no literal's type.
fn one_of(literals: &[Literal], value: Value<'_>) -> Result<bool, String> {
    if literals.iter().any(|literal| equal(value, literal)) {
        return Ok(true);
    }
    // Against `null` everything compares: who writes `neq null` asks whether there is a value, of whatever type.
    if literals.iter().any(|literal| kind(literal) == value.kind() || kind(literal) == Kind::Null) {
        return Ok(false);
    }
    let mut expected: Vec<&str> = literals.iter().map(|literal| kind_name(kind(literal))).collect();
    expected.dedup();
    Err(if expected.is_empty() { "cannot be one of nothing".to_owned() } else { format!("must be {}", expected.join(" or ")) })
}

/// A substring of a string, or an element of an array.
fn contains(value: Value<'_>, literal: &Literal) -> Result<bool, String> {
    match (value.kind(), literal) {
        (Kind::String, Literal::String(part)) => Ok(value.as_str().is_some_and(|text| text.contains(part.as_str()))),
        (Kind::String, _) => Err(format!("must be an array, to contain {}", kind_name(kind(literal)))),
        (Kind::Array, _) => {
            let elements = || value.elements().into_iter().flatten();
            if elements().any(|element| equal(element, literal)) {
                return Ok(true);
            }
            match elements().all(|element| element.kind() == kind(literal)) {
                true => Ok(false),
                // `[["b"]]` may well contain "b" for a reader that flattens.
                false => Err(format!("must be an array of which each element is {}", kind_name(kind(literal)))),
            }
        }
        (Kind::Null | Kind::Bool | Kind::Number | Kind::Object, _) => Err("must be a string or an array".to_owned()),
    }
}

/// Equality of two JSON values: numbers by value, strings by code points, members in any order.
fn equal(value: Value<'_>, literal: &Literal) -> bool {
    match literal {
        Literal::Null => value.is_null(),
        Literal::Bool(wanted) => value.as_bool() == Some(*wanted),
        Literal::Number(wanted) => value.as_decimal().as_ref() == Some(wanted),
        Literal::String(wanted) => value.as_str().is_some_and(|text| text == wanted.as_str()),
        Literal::Array(wanted) => value.elements().is_some_and(|elements| {
            let mut wanted = wanted.iter();
            elements.into_iter().all(|element| wanted.next().is_some_and(|literal| equal(element, literal)))
                && wanted.next().is_none()
        }),
        Literal::Object(wanted) => value.members().is_some_and(|members| {
            // Keys are unique on both sides, so equal counts and every member found make equal objects.
            let mut count = 0;
            let found = members.into_iter().all(|member| {
                count += 1;
                wanted.get(member.key.as_ref()).is_some_and(|literal| equal(member.value, literal))
            });
            found && count == wanted.len()
        }),
    }
}

fn kind(literal: &Literal) -> Kind {
    match literal {
        Literal::Null => Kind::Null,
        Literal::Bool(_) => Kind::Bool,
        Literal::Number(_) => Kind::Number,
        Literal::String(_) => Kind::String,
        Literal::Array(_) => Kind::Array,
        Literal::Object(_) => Kind::Object,
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Bool => "true or false",
        Kind::Number => "a number",
        Kind::String => "a string",
        Kind::Array => "an array",
        Kind::Object => "an object",
    }
}

/// The literal as JSON, shortened.
fn shown(literal: &Literal) -> String {
    fn write(literal: &Literal) -> String {
        match literal {
            Literal::Null => "null".to_owned(),
            Literal::Bool(value) => value.to_string(),
            Literal::Number(number) => number.to_string(),
            Literal::String(text) => json::quote(text),
            Literal::Array(elements) => format!("[{}]", elements.iter().map(write).collect::<Vec<_>>().join(", ")),
            Literal::Object(members) => {
                let members: Vec<String> =
                    members.iter().map(|(key, value)| format!("{}: {}", json::quote(key), write(value))).collect();
                format!("{{{}}}", members.join(", "))
            }
        }
    }
    short(&write(literal))
}

/// At most ten of them.
fn list(literals: &[Literal]) -> String {
    let mut out: Vec<String> = literals.iter().take(10).map(shown).collect();
    if literals.len() > 10 {
        out.push(format!("and {} more", literals.len() - 10));
    }
    out.join(", ")
}

/// At most 100 characters.
fn short(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use json::{Document, Strictness};

    fn path(text: &str) -> Path {
        let mut segments = Vec::new();
        for part in text.split('.').skip(1) {
            let (key, rest) = part.split_once('[').map_or((part, None), |(key, rest)| (key, Some(rest)));
            segments.push(if key == "length" { Segment::Length } else { Segment::Key(key.to_owned()) });
            match rest {
                Some("*]") => segments.push(Segment::All),
                Some(index) => segments.push(Segment::Index(index.trim_end_matches(']').parse().unwrap())),
                None => {}
            }
        }
        Path { text: text.into(), segments }
    }

    fn literal(text: &str) -> Literal {
        fn of(value: Value<'_>) -> Literal {
            match value.kind() {
                Kind::Null => Literal::Null,
                Kind::Bool => Literal::Bool(value.as_bool().unwrap()),
                Kind::Number => Literal::Number(value.as_decimal().unwrap()),
                Kind::String => Literal::String(value.as_str().unwrap().into_owned()),
                Kind::Array => Literal::Array(value.elements().unwrap().map(of).collect()),
                Kind::Object => Literal::Object(value.members().unwrap().map(|m| (m.key.into_owned(), of(m.value))).collect()),
            }
        }
        of(Document::parse(text.to_owned(), Strictness::Request).unwrap().root())
    }

    fn operator(word: &str, operand: &str) -> Operator {
        let value = literal(operand);
        let number = || match &value {
            Literal::Number(number) => number.clone(),
            other => panic!("{other:?}"),
        };
        let text = || match &value {
            Literal::String(text) => text.clone(),
            other => panic!("{other:?}"),
        };
        let all = || match &value {
            Literal::Array(all) => all.clone(),
            other => panic!("{other:?}"),
        };
        let regex = || Box::new(regex::Regex::new(&text()).unwrap());
        match word {
            "eq" => Operator::Equal(value),
            "neq" => Operator::NotEqual(value),
            "in" => Operator::In(all()),
            "not_in" => Operator::NotIn(all()),
            "lt" => Operator::Less(number()),
            "lte" => Operator::LessOrEqual(number()),
            "gt" => Operator::Greater(number()),
            "gte" => Operator::GreaterOrEqual(number()),
            "regex" => Operator::Regex(regex()),
            "not_regex" => Operator::NotRegex(regex()),
            "contains" => Operator::Contains(value),
            "starts_with" => Operator::StartsWith(text()),
            "length_lte" => Operator::LengthAtMost(operand.parse().unwrap()),
            "exists" => Operator::Exists(value == Literal::Bool(true)),
            other => panic!("{other}"),
        }
    }

    /// `[optional] [quantifier] path operator operand`, judged for these arguments.
    #[track_caller]
    fn judge(condition: &str, arguments: &str) -> Result<bool, String> {
        let (optional, condition) = match condition.strip_prefix("optional ") {
            Some(rest) => (true, rest),
            None => (false, condition),
        };
        let (quantifier, rest) = match condition.split_once(' ').unwrap() {
            ("any", rest) => (Quantifier::Any, rest),
            ("sum", rest) => (Quantifier::Sum, rest),
            _ => (Quantifier::Each, condition),
        };
        let [at, word, operand] = rest.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{condition}") };
        let condition = Condition { path: path(at), quantifier, operator: operator(word, operand), optional };
        let document = Document::parse(arguments.to_owned(), Strictness::Request).unwrap();
        condition.holds(Some(document.root())).map_err(|error| error.problem().to_owned())
    }

    #[track_caller]
    fn check(condition: &str, holds: &[&str], fails: &[&str], errs: &[&str]) {
        for arguments in holds {
            assert_eq!(judge(condition, arguments), Ok(true), "{condition} on {arguments}");
        }
        for arguments in fails {
            assert_eq!(judge(condition, arguments), Ok(false), "{condition} on {arguments}");
        }
        for arguments in errs {
            assert!(judge(condition, arguments).is_err(), "{condition} on {arguments}: {:?}", judge(condition, arguments));
        }
    }

    #[test]
    fn types_are_kept_apart() {
        check(
            "args.x eq 5",
            &[r#"{"x":5}"#, r#"{"x":5.0}"#, r#"{"x":50e-1}"#],
            &[r#"{"x":6}"#],
            &[r#"{"x":"5"}"#, r#"{"x":[5]}"#],
        );
        check("args.x eq true", &[r#"{"x":true}"#], &[r#"{"x":false}"#], &[r#"{"x":"true"}"#, r#"{"x":1}"#, r#"{"x":null}"#]);
        check(r#"args.x in [5,"a"]"#, &[r#"{"x":5}"#, r#"{"x":"a"}"#], &[r#"{"x":"5"}"#], &[r#"{"x":true}"#, r#"{"x":[5]}"#]);
        check("args.x lt 10", &[r#"{"x":9}"#], &[r#"{"x":10}"#], &[r#"{"x":"9"}"#, r#"{"x":null}"#, r#"{"x":{}}"#]);
        check(
            r#"args.x eq {"a":[1,{"b":null}]}"#,
            &[r#"{"x":{"a":[1.0,{"b":null}]}}"#],
            &[r#"{"x":{"a":[1]}}"#, r#"{"x":{}}"#],
            &[],
        );
    }

    #[test]
    fn a_key_that_could_be_taken_for_the_one_asked_for_cannot_be_judged() {
        let alike =
            ["Profile", "PROFILE", "ｐrofile", "profile ", " profile", "pro\\u200bfile", "profile\\u0000", "profile\\u0000x"];
        for key in alike {
            let alone = format!(r#"{{"{key}":"prod"}}"#);
            check(r#"args.profile eq "prod""#, &[], &[], &[&alone]);
            check("args.profile exists false", &[], &[], &[&alone]);
            check("sum args.profile lte 5", &[], &[], &[&alone]);
            check(r#"args.a[*].profile eq "prod""#, &[], &[], &[&format!(r#"{{"a":[{{"profile":"prod"}},{alone}]}}"#)]);
        }
        check(r#"args.profile eq "dev""#, &[], &[], &[r#"{"profile":"dev","profile ":"prod"}"#]);
        check("args.c.length lte 2", &[], &[], &[r#"{"c":{"Length":9}}"#]);
        check("args.profile exists false", &[r#"{"profiles":1,"pro file":1,"Name":1}"#], &[], &[]);
        assert_eq!(
            judge(r#"args.x.profile eq "prod""#, r#"{"x":{"Profile":"prod"}}"#),
            Err("`args.x` has a member `Profile` that could be taken for `profile`; write `profile`".to_owned())
        );
    }

    #[test]
    fn a_negated_operator_does_not_turn_an_error_into_a_yes() {
        check(
            r#"args.x neq "main""#,
            &[r#"{"x":"Main"}"#, r#"{"x":"main "}"#],
            &[r#"{"x":"main"}"#, "{}"],
            &[r#"{"x":["main"]}"#, r#"{"x":null}"#],
        );
        check(r#"args.x not_in ["a"]"#, &[r#"{"x":"b"}"#], &[r#"{"x":"a"}"#, "{}"], &[r#"{"x":{}}"#, r#"{"x":["a"]}"#]);
        check(r#"args.x not_regex "^a""#, &[r#"{"x":"ba"}"#], &[r#"{"x":"ab"}"#, "{}"], &[r#"{"x":5}"#, r#"{"x":["a"]}"#]);
    }

    #[test]
    fn numbers_are_exact() {
        check("args.x lte 9007199254740992", &[r#"{"x":9007199254740992}"#], &[r#"{"x":9007199254740993}"#], &[]);
        check("args.x gt 0", &[r#"{"x":1e-300}"#], &[r#"{"x":-0}"#, r#"{"x":-0.0}"#, r#"{"x":0e9}"#], &[]);
        check("args.x gte 0", &[r#"{"x":-0}"#, r#"{"x":-0.0}"#, r#"{"x":0e9}"#], &[], &[]);
        check("sum args.p[*] eq 0.3", &[r#"{"p":[0.1,0.2]}"#], &[r#"{"p":[0.1,0.200001]}"#], &[]);
    }

    #[test]
    fn what_is_missing_holds_for_nothing_but_exists_false() {
        for condition in [
            r#"args.x eq "a""#,
            r#"args.x neq "a""#,
            r#"args.x in ["a"]"#,
            r#"args.x not_in ["a"]"#,
            "args.x lt 5",
            "args.x gte 5",
            r#"args.x regex "a""#,
            r#"args.x not_regex "a""#,
            r#"args.x contains "a""#,
            r#"args.x starts_with "a""#,
            "args.x length_lte 5",
            "args.x exists true",
            "args.x eq null",
            "sum args.x[*] lt 5",
            "any args.x[*] neq 5",
        ] {
            check(condition, &[], &["{}"], &[]);
        }
        check("args.x exists false", &["{}", r#"{"x":null}"#], &[r#"{"x":0}"#, r#"{"x":false}"#, r#"{"x":""}"#], &[]);
        check("args.x.y exists true", &[r#"{"x":{"y":1}}"#], &[r#"{"x":{"y":null}}"#, r#"{"x":null}"#, "{}"], &[r#"{"x":"y"}"#]);
    }

    #[test]
    fn against_null_everything_compares() {
        check("args.x neq null", &[r#"{"x":5}"#, r#"{"x":"a"}"#], &[r#"{"x":null}"#, "{}"], &[]);
        check("args.x eq null", &[r#"{"x":null}"#], &[r#"{"x":5}"#], &[]);
    }

    #[test]
    fn contains_is_a_part_of_a_string_or_an_element_of_an_array() {
        check(
            r#"args.x contains "b""#,
            &[r#"{"x":"abc"}"#, r#"{"x":["a","b"]}"#, r#"{"x":[1,"b"]}"#],
            &[r#"{"x":"a"}"#, r#"{"x":["bc"]}"#, r#"{"x":[]}"#],
            &[r#"{"x":42}"#, r#"{"x":[["b"]]}"#, r#"{"x":{"b":1}}"#],
        );
        check("args.x contains 4", &[r#"{"x":[4.0]}"#], &[r#"{"x":[42]}"#], &[r#"{"x":"42"}"#, r#"{"x":["4"]}"#]);
    }

    #[test]
    fn texts_are_compared_as_they_are() {
        check(r#"args.x regex "^/app/""#, &[r#"{"x":"/app/../etc"}"#], &[r#"{"x":"/srv/app/"}"#], &[]);
        check(r#"args.x starts_with "ä""#, &[r#"{"x":"\u00e4b"}"#], &[r#"{"x":"a\u0308"}"#], &[r#"{"x":1}"#]);
        check(
            "args.x length_lte 2",
            &[r#"{"x":"äö"}"#, r#"{"x":[1,2]}"#],
            &[r#"{"x":"abc"}"#, r#"{"x":[1,2,3]}"#],
            &[r#"{"x":1}"#, r#"{"x":{}}"#],
        );
    }

    #[test]
    fn quantifiers_look_at_every_element() {
        let each = "args.i[*].n lte 5";
        check(
            each,
            &[r#"{"i":[{"n":1},{"n":5}]}"#],
            &[r#"{"i":[{"n":1},{"n":6}]}"#, r#"{"i":[]}"#, r#"{"i":[{"n":1},{}]}"#],
            &[r#"{"i":[{"n":6},{"n":"1"}]}"#, r#"{"i":{"n":1}}"#, r#"{"i":[1]}"#],
        );
        check(
            "any args.i[*].n gt 5",
            &[r#"{"i":[{"n":1},{"n":6}]}"#],
            &[r#"{"i":[{"n":1},{}]}"#, r#"{"i":[]}"#],
            &[r#"{"i":[{"n":6},{"n":"1"}]}"#],
        );
        check(
            "sum args.i[*].n lte 5",
            &[r#"{"i":[{"n":2},{"n":3}]}"#, r#"{"i":[]}"#],
            &[r#"{"i":[{"n":2},{"n":3.000001}]}"#],
            &[r#"{"i":[{"n":9},{"n":-9}]}"#, r#"{"i":[{"n":1},{}]}"#, r#"{"i":[{"n":0.0000001}]}"#],
        );
        check("args.i[1] eq 2", &[r#"{"i":[1,2]}"#], &[r#"{"i":[1]}"#], &[r#"{"i":{"1":2}}"#]);
    }

    #[test]
    fn length_counts_unless_there_is_a_member_of_that_name() {
        check(
            "args.c.length lte 2",
            &[r#"{"c":[1,2]}"#, r#"{"c":"äö"}"#, r#"{"c":{"a":1}}"#, r#"{"c":{"length":1,"a":1,"b":1}}"#],
            &[r#"{"c":[1,2,3]}"#, "{}"],
            &[r#"{"c":5}"#, r#"{"c":{"length":"1"}}"#],
        );
        check(r#"args.c.length regex "a""#, &[], &[], &[r#"{"c":[1]}"#]);
    }

    #[test]
    fn amounts_are_unsigned_with_six_decimals() {
        let of = |at: &str, arguments: &str| {
            let document = Document::parse(arguments.to_owned(), Strictness::Request).unwrap();
            AmountFrom::Path(path(at))
                .of(Some(document.root()))
                .map(|amount| amount.to_string())
                .map_err(|error| error.problem().to_owned())
        };
        let bad = "`args.amount` must be a number of 0 or more with at most six decimals";
        for arguments in [
            r#"{"amount":-50}"#,
            r#"{"amount":1e300}"#,
            r#"{"amount":0.0000001}"#,
            r#"{"amount":"10"}"#,
            r#"{"amount":null}"#,
            "{}",
        ] {
            assert_eq!(of("args.amount", arguments), Err(bad.to_owned()), "{arguments}");
        }
        assert_eq!(of("args.amount", r#"{"amount":10.005}"#).unwrap(), "10.005");
        assert_eq!(of("args.c.length", r#"{"c":["a","b"]}"#).unwrap(), "2");
        assert_eq!(of("args.i[*].n", r#"{"i":[{"n":0.1},{"n":0.2}]}"#).unwrap(), "0.3");
    }

    #[test]
    fn what_is_optional_holds_where_nothing_is_given_and_nowhere_else() {
        check(
            r#"optional args.to regex "^/srv/""#,
            &["{}", r#"{"to":null}"#, r#"{"to":"/srv/a"}"#],
            &[r#"{"to":"/etc/passwd"}"#],
            &[r#"{"to":5}"#, r#"{"To":"/etc/passwd"}"#, r#"{"to":["/srv/a"]}"#],
        );
        check(
            r#"optional args.all[*] in ["a"]"#,
            &["{}", r#"{"all":null}"#, r#"{"all":[]}"#, r#"{"all":["a",null]}"#],
            &[r#"{"all":["a","b"]}"#, r#"{"all":[null,"b"]}"#],
            &[r#"{"all":"a"}"#],
        );
        check(
            r#"optional args.rows[*].path starts_with "/srv/""#,
            &[r#"{"rows":[{"path":"/srv/a"},{}]}"#, r#"{"rows":[{}]}"#],
            &[r#"{"rows":[{"path":"/etc/passwd"},{}]}"#],
            &[r#"{"rows":["/srv/a"]}"#],
        );
        check(r#"optional args.request.url starts_with "a""#, &["{}", r#"{"request":{}}"#], &[], &[r#"{"request":5}"#]);
    }

    #[test]
    fn a_condition_says_what_it_demands() {
        let condition = |at: &str, quantifier, word: &str, operand: &str| Condition {
            path: path(at),
            quantifier,
            operator: operator(word, operand),
            optional: false,
        };
        let c = condition("args.currency", Quantifier::Each, "in", r#"["usd","eur"]"#);
        assert_eq!(c.demand(), r#"`args.currency` must be one of ["usd", "eur"]"#);
        assert_eq!(c.text(), r#"args.currency in ["usd", "eur"]"#);
        let c = condition("args.amount", Quantifier::Each, "gt", "50000");
        assert_eq!(c.opposite(), "`args.amount` must not be greater than 50000");
        let c = condition("args.i[*].n", Quantifier::Any, "gt", "5");
        assert_eq!(c.opposite(), "no `args.i[*].n` may be greater than 5");
    }
}
