//! A policy against a real `tools/list`: names, arguments and types.
//!
//! A rule about a tool or an argument that does not exist either denies everything or nothing; both are found here, before
//! a call does. What a schema leaves open is not judged.

mod shape;

use crate::load::Loaded;
use crate::model::{AmountFrom, Check, Condition, Literal, Operator, Path, Pattern, Policy, Quantifier};
use crate::outline::{CheckPlace, ConditionPlace};
use crate::problem::{Problem, Severity, code, finish, nearest};
use crate::risk::RiskClass;
use crate::text::{Source, Span, shown};
use crate::tools::{Tool, Tools};
use shape::{Found, Types};

/// Checks the names, the paths to arguments and the types in a policy against what a server lists.
///
/// Gives problems only this check can find, in the order of the file; `loaded` is what [`crate::load`] made of `source`, and
/// may have errors of its own.
pub fn check_tools(source: &Source, loaded: &Loaded, tools: &Tools) -> Vec<Problem> {
    let Some(policy) = loaded.readable() else { return Vec::new() };
    let mut checker = Checker { source, tools, problems: Vec::new() };
    for (pattern, at) in policy.hidden.iter().zip(&loaded.outline.hidden) {
        checker.named(pattern, at);
    }
    for (number, place) in loaded.outline.entries.iter().enumerate() {
        checker.named(&policy.entries[number].pattern, &place.at);
        checker.entry(policy, loaded, number);
    }
    let mut problems = checker.problems;
    finish(source, &mut problems);
    problems
}

struct Checker<'c> {
    source: &'c Source,
    tools: &'c Tools,
    problems: Vec<Problem>,
}

/// What a rule wants of an argument.
#[derive(Clone, Copy)]
struct Use<'u> {
    path: &'u Path,
    path_at: &'u Span,
    value_at: &'u Span,
    wants: Wants<'u>,
    /// What helps where a call without the argument is denied; `None` where it is not.
    needed: Option<&'static str>,
}

/// A condition can let a call without the argument by; an amount that is missing cannot be counted.
const IF_A_CONDITION: &str = "if such a call is fine, write `optional: true` into the condition";
const IF_AN_AMOUNT: &str = "an amount must be given: take an argument that the tool requires, or limit the number of calls";

#[derive(Clone, Copy)]
enum Wants<'u> {
    /// Its presence is all that matters.
    Anything,
    Types(Types, &'static str),
    OneOf(&'u [Literal]),
}

/// What is wrong with a use of an argument of one tool.
struct Flaw {
    severity: Severity,
    code: &'static str,
    at: Span,
    message: String,
    label: Option<String>,
    help: Option<String>,
}

impl Checker<'_> {
    /// The tool or tools that a pattern names exist.
    fn named(&mut self, pattern: &Pattern, at: &Span) {
        match pattern {
            Pattern::Class(_) | Pattern::Any => {}
            Pattern::Exact(name) => {
                if self.tools.get(name).is_none() {
                    let near = nearest(name, self.tools.names());
                    let help = match near {
                        Some(near) => format!("write `{near}`"),
                        None => "run `callgate scan` to see what the server lists".to_owned(),
                    };
                    let message = format!("the server lists no tool `{}`", shown(name));
                    self.report(Severity::Error, code::UNKNOWN_TOOL, at, message, Some(help));
                }
            }
            Pattern::Glob(glob) => {
                if !self.tools.names().any(|name| pattern.precision(name).is_some()) {
                    let message = format!("the server lists no tool that `{glob}` fits");
                    self.report(Severity::Warning, code::UNMATCHED, at, message, None);
                }
            }
        }
    }

    fn report(&mut self, severity: Severity, code: &'static str, at: &Span, message: String, help: Option<String>) {
        let problem = Problem::new(self.source, severity, code, at.clone(), message);
        self.problems.push(Problem { help, ..problem });
    }

    fn entry(&mut self, policy: &Policy, loaded: &Loaded, number: usize) {
        let (entry, places) = (&policy.entries[number], &loaded.outline.entries[number]);
        let fits = |tool: &&Tool| match &entry.pattern {
            Pattern::Any => true,
            Pattern::Class(class) => tool.class == Some(*class) && !policy.is_named(&tool.name),
            pattern => pattern.precision(&tool.name).is_some(),
        };
        let tools: Vec<&Tool> = self.tools.iter().filter(fits).collect();
        if let Pattern::Glob(glob) = &entry.pattern {
            self.out_of_class(policy, glob, &tools, &places.at);
        }
        for (rule, places) in entry.rules.iter().zip(&places.rules) {
            for (check, place) in rule.checks.iter().zip(&places.checks) {
                for used in uses(check, place) {
                    self.used(&used, &tools);
                }
            }
        }
    }

    /// Tools that a pattern takes away from the rules for their class.
    fn out_of_class(&mut self, policy: &Policy, glob: &str, tools: &[&Tool], at: &Span) {
        let says_more = |class: RiskClass| policy.restricts_class(class);
        let taken: Vec<(&str, RiskClass)> =
            tools.iter().filter_map(|tool| Some((tool.name.as_str(), tool.class.filter(|class| says_more(*class))?))).collect();
        let Some((first, class)) = taken.first() else { return };
        let message = match taken.len() {
            1 => format!("`{}` is {class}; the rules for its class do not hold for it, as `{glob}` fits it", shown(first)),
            many => format!(
                "`{}` is {class}, and {} more like it; the rules for their classes do not hold for them, as `{glob}` fits them",
                shown(first),
                many - 1
            ),
        };
        let help =
            "what stands under a name or a pattern takes the place of `risk`: repeat the rules here, or hide the tools by name";
        self.report(Severity::Warning, code::OUT_OF_CLASS, at, message, Some(help.to_owned()));
    }

    /// One use of an argument, of all tools that the entry is about.
    fn used(&mut self, used: &Use<'_>, tools: &[&Tool]) {
        let flaws: Vec<Option<Flaw>> = tools.iter().map(|tool| flaw(used, tool)).collect();
        let flawed = flaws.iter().flatten().count();
        let unknown = |flaw: &Option<Flaw>| flaw.as_ref().is_some_and(|flaw| flaw.code == code::UNKNOWN_ARGUMENT);
        if flawed > 0 && flawed == tools.len() {
            if let Some(flaw) = flaws.into_iter().flatten().next() {
                self.flaw(flaw);
            }
        } else if used.needed.is_some() && flaws.iter().any(unknown) {
            // A pattern's rule that fits some of its tools denies the others always.
            let without: Vec<&str> =
                tools.iter().zip(&flaws).filter(|(_, flaw)| unknown(flaw)).map(|(tool, _)| tool.name.as_str()).collect();
            let names: Vec<String> = without.iter().take(3).map(|name| format!("`{}`", shown(name))).collect();
            let more = if without.len() > 3 { ", …" } else { "" };
            let message =
                format!("{} of {} tools have no `{}`: their calls are denied", without.len(), tools.len(), used.path.text);
            let help = format!("among them {}{more}", names.join(", "));
            self.report(Severity::Warning, code::UNKNOWN_ARGUMENT, used.path_at, message, Some(help));
        }
    }

    fn flaw(&mut self, flaw: Flaw) {
        let Flaw { severity, code, at, message, label, help } = flaw;
        let problem = Problem::new(self.source, severity, code, at, message);
        self.problems.push(Problem { label, help, ..problem });
    }
}

/// Every argument that a check looks at.
fn uses<'u>(check: &'u Check, place: &'u CheckPlace) -> Vec<Use<'u>> {
    let conditions = |conditions: &'u [Condition], needed: bool| -> Vec<Use<'u>> {
        conditions.iter().zip(&place.conditions).map(|(condition, place)| condition_use(condition, place, needed)).collect()
    };
    match check {
        Check::Require(list) => conditions(list, true),
        Check::DenyIf(list) | Check::Ask { when: list, .. } => conditions(list, false),
        Check::Limit(limit) => {
            let amount = amount_use(&limit.amount, place.amount.as_ref().unwrap_or(&place.at));
            let weight = limit.weight.as_ref().and_then(|weight| amount_use(weight, place.weight.as_ref().unwrap_or(&place.at)));
            amount.into_iter().chain(weight).collect()
        }
        Check::PerCall { amount, .. } => amount_use(amount, place.amount.as_ref().unwrap_or(&place.at)).into_iter().collect(),
        Check::Deny | Check::Watch(_) | Check::Validate(_) | Check::During(_) | Check::Once(_) => Vec::new(),
    }
}

fn amount_use<'u>(from: &'u AmountFrom, at: &'u Span) -> Option<Use<'u>> {
    let AmountFrom::Path(path) = from else { return None };
    let wants = Wants::Types(Types::NUMBER, "an amount is a number");
    Some(Use { path, path_at: at, value_at: at, wants, needed: Some(IF_AN_AMOUNT) })
}

fn condition_use<'u>(condition: &'u Condition, place: &'u ConditionPlace, needed: bool) -> Use<'u> {
    let number = "this compares numbers";
    let text = "this looks at strings";
    let wants = match &condition.operator {
        _ if condition.quantifier == Quantifier::Sum => Wants::Types(Types::NUMBER, "a sum is of numbers"),
        Operator::Equal(literal) | Operator::NotEqual(literal) => Wants::OneOf(std::slice::from_ref(literal)),
        Operator::In(literals) | Operator::NotIn(literals) => Wants::OneOf(literals),
        Operator::Less(_) | Operator::LessOrEqual(_) | Operator::Greater(_) | Operator::GreaterOrEqual(_) => {
            Wants::Types(Types::NUMBER, number)
        }
        Operator::Regex(_) | Operator::NotRegex(_) | Operator::StartsWith(_) => Wants::Types(Types::STRING, text),
        Operator::Contains(_) | Operator::LengthAtMost(_) => {
            Wants::Types(Types::STRING.or(Types::ARRAY), "this looks at strings and lists")
        }
        Operator::Semantic(operator) if operator.takes_lists() => {
            Wants::Types(Types::STRING.or(Types::ARRAY), "this looks at strings and lists")
        }
        Operator::Semantic(_) => Wants::Types(Types::STRING, text),
        Operator::Exists(_) => Wants::Anything,
    };
    // `exists` says itself what a missing argument means.
    let needed = needed && !condition.optional && !matches!(condition.operator, Operator::Exists(_));
    let help = if condition.quantifier == Quantifier::Sum { IF_AN_AMOUNT } else { IF_A_CONDITION };
    let needed = needed.then_some(help);
    Use { path: &condition.path, path_at: &place.path, value_at: &place.value, wants, needed }
}

fn flaw(used: &Use<'_>, tool: &Tool) -> Option<Flaw> {
    let root = tool.schema.json()?;
    let name = shown(&tool.name);
    let error = |code, at: &Span, message: String, label: Option<String>, help: Option<String>| {
        Some(Flaw { severity: Severity::Error, code, at: at.clone(), message, label, help })
    };
    let found = match shape::find(root, &used.path.segments) {
        Found::Open => return None,
        Found::Unknown { key, known } => {
            let message = format!("tool `{name}` has no argument `{}`", shown(&used.path.text));
            let help = match nearest(&key, known.iter().map(String::as_str)) {
                Some(near) => format!("write `{}`", used.path.text.replacen(&key, near, 1)),
                None if known.is_empty() => "it takes no arguments here".to_owned(),
                None => {
                    let some: Vec<String> = known.iter().take(8).map(|key| format!("`{}`", shown(key))).collect();
                    format!("it declares {}{}", some.join(", "), if known.len() > 8 { ", …" } else { "" })
                }
            };
            return error(code::UNKNOWN_ARGUMENT, used.path_at, message, None, Some(help));
        }
        Found::Wrong { what } => {
            let message = format!("`{}` of tool `{name}` leads nowhere", shown(&used.path.text));
            return error(code::ARGUMENT_TYPE, used.path_at, message, Some(what), None);
        }
        Found::Declared(found) => found,
    };
    match used.wants {
        Wants::Types(types, reason) if !found.types.meets(types) => {
            let message = format!("`{}` of tool `{name}` is {}", shown(&used.path.text), found.types.describe());
            return error(code::ARGUMENT_TYPE, used.value_at, message, Some(reason.to_owned()), None);
        }
        Wants::OneOf(literals) => {
            for literal in literals {
                if !found.types.meets(Types::of(literal)) {
                    let message = format!("`{}` of tool `{name}` is {}", shown(&used.path.text), found.types.describe());
                    let label = format!("{} is {}", text_of(literal), Types::of(literal).describe());
                    return error(code::ARGUMENT_TYPE, used.value_at, message, Some(label), None);
                }
                if let (Some(allowed), Literal::String(text)) = (&found.strings, literal)
                    && !allowed.contains(text)
                {
                    let message = format!("`{}` of tool `{name}` is never \"{}\"", shown(&used.path.text), shown(text));
                    let near = nearest(text, allowed.iter().map(String::as_str)).map(|near| format!("write \"{near}\""));
                    let all: Vec<String> = allowed.iter().take(8).map(|word| format!("\"{}\"", shown(word))).collect();
                    return error(
                        code::ARGUMENT_TYPE,
                        used.value_at,
                        message,
                        None,
                        near.or(Some(format!("it is one of {}", all.join(", ")))),
                    );
                }
            }
        }
        Wants::Types(..) | Wants::Anything => {}
    }
    used.needed.filter(|_| found.optional).map(|help| Flaw {
        severity: Severity::Warning,
        code: code::OPTIONAL,
        at: used.path_at.clone(),
        message: format!("`{}` of tool `{name}` is optional: a call without it is denied", shown(&used.path.text)),
        label: None,
        help: Some(help.to_owned()),
    })
}

fn text_of(literal: &Literal) -> String {
    match literal {
        Literal::Null => "`null`".into(),
        Literal::Bool(value) => format!("`{value}`"),
        Literal::Number(number) => format!("`{number}`"),
        Literal::String(text) => format!("\"{}\"", shown(text)),
        Literal::Array(_) => "a list".into(),
        Literal::Object(_) => "a mapping".into(),
    }
}
