//! Warnings: what loads, and is probably not what is meant.
//!
//! Works on the compiled policy, so that it judges every dialect alike; the [`Outline`] says where things stand.

mod clash;
mod guard;

use crate::model::{Check, Condition, Entry, Mode, Pattern, Policy, Posture, Rule};
use crate::outline::{ConditionPlace, Outline, RulePlace};
use crate::problem::{Problem, Severity, code, nearest};
use crate::risk::RiskClass;
use crate::text::{Source, Span, shown};
use std::collections::HashMap;

/// Adds warnings about a policy that loads.
pub(crate) fn lint(source: &Source, policy: &Policy, outline: &Outline, problems: &mut Vec<Problem>) {
    let mut linter = Linter { source, policy, outline, problems };
    linter.whole();
    linter.classes();
    linter.names();
    for entry in 0..policy.entries.len() {
        // What is only recorded neither shadows nor contradicts.
        if policy.mode == Mode::Enforce && policy.entries[entry].mode == Mode::Enforce {
            linter.unreachable(entry);
            linter.clashes(entry);
        }
        linter.rules(entry);
    }
}

struct Linter<'p> {
    source: &'p Source,
    policy: &'p Policy,
    outline: &'p Outline,
    problems: &'p mut Vec<Problem>,
}

/// A condition with what it belongs to.
struct Stated<'p> {
    rule: usize,
    reference: &'p str,
    condition: &'p Condition,
    place: &'p ConditionPlace,
}

impl<'p> Linter<'p> {
    fn warn(&mut self, code: &'static str, at: &Span, message: impl Into<String>) -> &mut Problem {
        self.problems.push(Problem::new(self.source, Severity::Warning, code, at.clone(), message));
        self.problems.last_mut().expect("one has just been pushed")
    }

    /// What concerns the whole file.
    fn whole(&mut self) {
        let (policy, outline) = (self.policy, self.outline);
        let at = outline.default.as_ref().unwrap_or(&outline.top);
        let restricts = |rule: &Rule| rule.mode == Mode::Enforce && !rule.checks.is_empty();
        let enforced = policy.entries.iter().any(|entry| entry.mode == Mode::Enforce && entry.rules.iter().any(restricts));
        if policy.mode == Mode::Shadow {
            self.warn(code::ALLOWS_ALL, at, "the policy is in shadow mode: every call is allowed").help =
                Some("remove `mode: shadow` to enforce it".into());
        } else if policy.posture == Posture::Allow
            && policy.hidden.is_empty()
            && !enforced
            && !policy.restricts_methods()
            && !policy.judges_results()
        {
            let help = "write `default: deny` and list the tools that may be used, or add rules under `tools`";
            self.warn(code::ALLOWS_ALL, at, "the policy allows every call").help = Some(help.into());
        }
        for (pattern, at) in policy.hidden.iter().zip(&outline.hidden) {
            if *pattern == Pattern::Any {
                self.warn(code::DENIES_ALL, at, "every tool is hidden: no call is allowed").help =
                    Some("hide tools by name, or write `default: deny` and list those that may be used".into());
            }
        }
        let listed = policy.entries.iter().any(|entry| entry.pattern != Pattern::Any);
        if policy.posture == Posture::Deny && !listed && !policy.hidden.contains(&Pattern::Any) {
            match self.star() {
                Some(star) => self.no_rescue(star),
                None => {
                    self.warn(code::DENIES_ALL, at, "no tool is listed: every call is denied").help =
                        Some("list the tools that may be used under `tools`: `read_thing: {}` is enough".into());
                }
            }
        } else if policy.posture == Posture::Deny {
            // An allow under `*` is meant to let tools in, and does not.
            let allows = |entry: &Entry| !entry.rules.is_empty() && entry.rules.iter().all(|rule| rule.checks.is_empty());
            if let Some(star) = self.star().filter(|star| allows(&policy.entries[*star])) {
                self.no_rescue(star);
            }
        }
    }

    /// A class of which nothing is said is allowed where tools are that nobody names, while milder ones are not simply allowed.
    fn classes(&mut self) {
        let (policy, outline) = (self.policy, self.outline);
        if policy.posture == Posture::Deny || policy.mode == Mode::Shadow {
            return;
        }
        let hidden = policy.hidden.iter().zip(&outline.hidden).map(|(pattern, at)| (pattern, at, true));
        let restricts = |entry: &Entry| entry.rules.iter().any(|rule| !rule.checks.is_empty());
        let entries = policy.entries.iter().zip(&outline.entries);
        let entries = entries.map(|(entry, place)| (&entry.pattern, &place.at, restricts(entry)));
        let said: Vec<(RiskClass, &Span, bool)> = hidden
            .chain(entries)
            .filter_map(|(pattern, at, restricts)| match pattern {
                Pattern::Class(class) => Some((*class, at, restricts)),
                Pattern::Exact(_) | Pattern::Glob(_) | Pattern::Any => None,
            })
            .collect();
        let Some((mildest, at, _)) = said.iter().filter(|(.., restricts)| *restricts).min_by_key(|(class, ..)| *class) else {
            return;
        };
        for class in RiskClass::ALL.into_iter().filter(|class| class > mildest) {
            if !said.iter().any(|(of, ..)| *of == class) {
                let message = format!("nothing is said of {class} tools, which are worse: they are allowed");
                self.warn(code::CLASS_LEFT_OUT, at, message).help =
                    Some(format!("add `{}: hide` to `risk`, or what is meant; or write `default: deny`", class.key()));
            }
        }
    }

    /// The entry of `*` (not that of `all_tools`).
    fn star(&self) -> Option<usize> {
        let is_star = |at: &Span| self.source.slice(at).trim_matches(['"', '\'']) == "*";
        self.outline.entries.iter().position(|place| is_star(&place.at))
    }

    fn no_rescue(&mut self, entry: usize) {
        let outline = self.outline;
        let at = &outline.entries[entry].at;
        self.warn(code::NO_RESCUE, at, "`*` lists no tool: under `default: deny` unlisted tools stay denied").help =
            Some("list the tools that may be used by name or pattern; the rules of `*` then hold for them too".into());
    }

    /// Names that are hidden and have rules, and names that careless readers take for each other.
    fn names(&mut self) {
        let (policy, outline) = (self.policy, self.outline);
        let mut seen: HashMap<String, (&str, &Span)> = HashMap::new();
        let hidden = policy.hidden.iter().zip(&outline.hidden);
        let entries = policy.entries.iter().zip(&outline.entries).map(|(entry, place)| (&entry.pattern, &place.at));
        for (pattern, at) in hidden.clone().chain(entries.clone()) {
            let Pattern::Exact(name) = pattern else { continue };
            match seen.get(&*json::fold(name)) {
                Some((other, first)) if *other != name => {
                    let first = (*first).clone();
                    let message = format!("`{}` and `{}` differ only by case or normalisation", shown(name), shown(other));
                    let problem = self.warn(code::LOOK_ALIKE, at, message);
                    problem.also.push((first, "the other name".into()));
                    problem.help = Some("names are compared exactly: check how the server writes it (`check --tools`)".into());
                }
                Some(_) => {}
                None => {
                    seen.insert(json::fold(name).into_owned(), (name, at));
                }
            }
        }
        let globs: Vec<_> = hidden.clone().filter(|(pattern, _)| matches!(pattern, Pattern::Glob(_))).collect();
        let exact = hidden.filter_map(|(pattern, at)| match pattern {
            Pattern::Exact(name) => Some((name.as_str(), at)),
            Pattern::Glob(_) | Pattern::Class(_) | Pattern::Any => None,
        });
        let seen_hidden: HashMap<&str, &Span> = exact.collect();
        for (pattern, at) in entries {
            let covered = match pattern {
                Pattern::Any => None, // `hide: ["*"]` is said for the whole file
                Pattern::Class(_) => None,
                Pattern::Exact(name) => seen_hidden
                    .get(name.as_str())
                    .copied()
                    .or_else(|| globs.iter().find(|(glob, _)| glob.precision(name).is_some()).map(|(_, at)| *at)),
                Pattern::Glob(_) => globs.iter().find(|(glob, _)| *glob == pattern).map(|(_, at)| *at),
            };
            if let Some(hide) = covered {
                let hide = hide.clone();
                let problem = self.warn(code::HIDDEN_ENTRY, at, "these rules never apply: the tool is hidden");
                problem.also.push((hide, "hidden here".into()));
                problem.help = Some("remove one of the two".into());
            }
        }
    }

    /// Rules after one that denies always.
    fn unreachable(&mut self, entry: usize) {
        let (rules, places) = self.parts(entry);
        let denies = |rule: &Rule| rule.mode == Mode::Enforce && rule.checks.iter().any(|check| matches!(check, Check::Deny));
        let Some(first) = rules.iter().position(denies) else { return };
        let (reference, at) = (rules[first].reference.clone(), places[first].at.clone());
        if self.policy.entries[entry].pattern == Pattern::Any {
            self.warn(code::DENIES_ALL, &at, "this denies every call of every tool").help =
                Some("move it to a tool; first deny wins, and the rules of `*` hold for listed tools too".into());
        }
        for (rule, place) in rules.iter().zip(places).skip(first + 1) {
            let message = format!("rule `{}` is never reached", shown(&rule.reference));
            let problem = self.warn(code::SHADOWED, &place.at, message);
            problem.also.push((at.clone(), format!("`{}` denies every call before it", shown(&reference))));
            problem.help = Some("remove one of the two: the first rule that denies decides".into());
        }
    }

    /// Conditions that cannot hold together.
    fn clashes(&mut self, entry: usize) {
        let (rules, places) = self.parts(entry);
        let stated = |rule: usize, conditions: &'p [Condition], places: &'p [ConditionPlace]| {
            let reference: &'p str = &rules[rule].reference;
            let stated = move |(condition, place)| Stated { rule, reference, condition, place };
            conditions.iter().zip(places).map(stated).collect::<Vec<_>>()
        };
        let mut required: Vec<Stated<'p>> = Vec::new();
        let mut triggers: Vec<Vec<Stated<'p>>> = Vec::new();
        for (number, (rule, place)) in rules.iter().zip(places).enumerate() {
            for (check, place) in rule.checks.iter().zip(&place.checks) {
                match check {
                    Check::Require(conditions) if rule.mode == Mode::Enforce => {
                        required.extend(stated(number, conditions, &place.conditions));
                    }
                    Check::Require(conditions) | Check::DenyIf(conditions) | Check::Ask { when: conditions, .. } => {
                        triggers.push(stated(number, conditions, &place.conditions));
                    }
                    _ => {}
                }
            }
        }
        if required.len() + triggers.len() > MOST_COMPARED {
            return;
        }
        for (i, later) in required.iter().enumerate() {
            if clash::never(later.condition) {
                self.warn(code::CONTRADICTION, &later.place.value, "this can never hold: every call is denied").help =
                    Some("write at least one value, or `action: deny`".into());
            } else if let Some(earlier) = required[..i].iter().find(|earlier| clash::clash(earlier.condition, later.condition)) {
                self.contradiction(earlier, later);
            }
        }
        for trigger in &triggers {
            self.trigger(trigger, &required);
        }
    }

    fn contradiction(&mut self, earlier: &Stated<'_>, later: &Stated<'_>) {
        let whose =
            if earlier.rule == later.rule { "above".to_owned() } else { format!("of rule `{}`", shown(earlier.reference)) };
        let message = format!("this contradicts the condition {whose}: every call is denied");
        let problem = self.warn(code::CONTRADICTION, &later.place.value, message);
        problem.also.push((earlier.place.value.clone(), "both cannot hold".into()));
        problem.help = Some("all conditions of all rules must hold: change or remove one".into());
    }

    /// The conditions of a rule that fires when they hold.
    fn trigger(&mut self, trigger: &[Stated<'_>], required: &[Stated<'_>]) {
        for (i, later) in trigger.iter().enumerate() {
            if clash::never(later.condition) {
                self.warn(code::NEVER_FIRES, &later.place.value, "this can never hold: the rule never fires");
            } else if let Some(earlier) = trigger[..i].iter().find(|earlier| clash::clash(earlier.condition, later.condition)) {
                let problem =
                    self.warn(code::NEVER_FIRES, &later.place.value, "the rule can never fire: its conditions contradict");
                problem.also.push((earlier.place.value.clone(), "both cannot hold".into()));
                problem.help = Some("split it into two rules, or change one condition".into());
            } else if let Some(guard) =
                required.iter().find(|guard| guard.rule != later.rule && clash::clash(guard.condition, later.condition))
            {
                let message = format!("the rule can never fire: `{}` denies such calls already", shown(guard.reference));
                let problem = self.warn(code::NEVER_FIRES, &later.place.value, message);
                problem.also.push((guard.place.value.clone(), "denied here".into()));
                problem.help = Some("remove the rule, or change one of the two".into());
            }
        }
    }

    /// What concerns one rule at a time.
    fn rules(&mut self, entry: usize) {
        let (rules, places) = self.parts(entry);
        for (rule, place) in rules.iter().zip(places) {
            self.placeholders(rule, place);
            for (check, place) in rule.checks.iter().zip(&place.checks) {
                let (conditions, guards) = match check {
                    Check::Require(conditions) => (conditions, true),
                    Check::DenyIf(conditions) | Check::Ask { when: conditions, .. } => (conditions, false),
                    Check::Validate(validate) => {
                        if !validate.required_args && !validate.types && !validate.deny_unknown {
                            self.warn(code::NEVER_FIRES, &place.at, "`validate` checks nothing").help =
                                Some("write `required_args: true`, `types: true` or `unknown: deny`".into());
                        }
                        continue;
                    }
                    _ => continue,
                };
                for (condition, place) in conditions.iter().zip(&place.conditions) {
                    if let Some((message, help)) = guard::loose(&condition.operator, guards) {
                        self.warn(code::LOOSE_REGEX, &place.value, message).help = Some(help);
                    }
                }
            }
        }
    }

    /// `{used}` and the like: spelt rightly, and in a rule that counts.
    fn placeholders(&mut self, rule: &Rule, place: &RulePlace) {
        let Some(message) = &rule.message else { return };
        let counts = rule.checks.iter().any(|check| matches!(check, Check::Limit(_) | Check::Watch(_)));
        let waits = rule.checks.iter().any(|check| matches!(check, Check::During(_) | Check::Once(_)));
        for word in message.0.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(word, _)| word) {
            if PLACEHOLDERS.contains(&word) {
                if !counts && (!waits || word != "resets_at") {
                    let message = format!("`{{{word}}}` stays as it is: this rule counts nothing");
                    self.warn(code::PLACEHOLDER, &place.at, message);
                }
            } else if let Some(near) = nearest(word, PLACEHOLDERS.iter().copied()).filter(|_| counts) {
                let message = format!("`{{{}}}` in the message is not filled in", shown(word));
                self.warn(code::PLACEHOLDER, &place.at, message).help = Some(format!("write `{{{near}}}`"));
            }
        }
    }

    fn parts(&self, entry: usize) -> (&'p [Rule], &'p [RulePlace]) {
        (&self.policy.entries[entry].rules, &self.outline.entries[entry].rules)
    }
}

const PLACEHOLDERS: &[&str] = &["used", "max", "resets_at"];

/// Past so many conditions in one entry they are not compared: every pair would be.
const MOST_COMPARED: usize = 500;
