//! Entries: what stands under a tool's name, or in `all_tools`.

use super::approval::ASKING_KEYS;
use super::condition::Counters;
use super::rule::{ACTIONS, Action, push_ask};
use super::{Context, Lowering, RuleDraft};
use crate::approval::Asking;
use crate::model::{Check, Entry, Mode, Pattern, Rule, Template};
use crate::outline::{EntryPlace, RulePlace};
use crate::problem::code;
use crate::reader::Fields;
use crate::results::Results;
use crate::risk::RiskClass;
use crate::source::{Kind, Member, Node};
use crate::text::Span;
use std::collections::HashSet;
use std::sync::Arc;

/// An entry while the file is being lowered.
pub(super) struct EntryDraft {
    pub pattern: Pattern,
    pub at: Span,
    pub mode: Mode,
    pub rules: Vec<RuleDraft>,
    pub results: Option<Arc<Results>>,
}

/// What a list of conditions does to a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group<'a> {
    Require,
    DenyIf,
    /// On these terms, where an item does not name its own.
    RequireApproval(&'a Asking),
}

impl Lowering<'_> {
    /// Lowers one entry. `pattern` is what its key says.
    pub(super) fn entry(&mut self, member: &Member, pattern: Pattern, owner: &str, pointer: String) {
        let (mode, rules, results) = (Mode::Enforce, Vec::new(), None);
        let mut entry = EntryDraft { pattern, at: member.key_at.clone(), mode, rules, results };
        let what = match entry.pattern {
            Pattern::Any => "the rules of all tools",
            Pattern::Class(_) => "the rules of a class",
            Pattern::Exact(_) | Pattern::Glob(_) => "a tool",
        };
        if matches!(member.value.kind, Kind::Empty) {
            let problem = self.error(code::MISSING, &member.key_at, format!("`{}` has nothing under it", member.key));
            let listed = if matches!(entry.pattern, Pattern::Class(_)) { "its tools" } else { "the tool" };
            problem.help = Some(format!("write `{}: {{}}` to list {listed} without rules", member.key));
        } else if let Some(fields) = self.fields(&member.value, what, TOOL_KEYS) {
            let context = Context { owner: owner.into(), pointer };
            entry.mode = self.mode(&fields);
            self.modifiers(&fields);
            let message = self.message(&fields);
            for member in fields.members() {
                self.part(&context, &fields, member, &message, &mut entry.rules);
            }
            unique(&mut entry.rules);
            let results = fields.get("results");
            entry.results = results.and_then(|node| self.results(node, format!("{}/results", context.pointer)));
        }
        self.entries.push(entry);
    }

    /// Lowers the entry of a class that is one word, as an entry with nothing but that `action`.
    pub(super) fn class_entry(&mut self, member: &Member, class: RiskClass, action: Action, pointer: String) {
        let at = &member.value.at;
        let mut rule = RuleDraft::new(pointer, at);
        acted(action, Asking::default(), at, &mut rule);
        let pattern = Pattern::Class(class);
        let (at, mode, rules) = (member.key_at.clone(), Mode::Enforce, vec![rule]);
        self.entries.push(EntryDraft { pattern, at, mode, rules, results: None });
    }

    /// One key of an entry, and the rules it makes.
    fn part(
        &mut self,
        context: &Context,
        fields: &Fields<'_>,
        member: &Member,
        message: &Option<Template>,
        rules: &mut Vec<RuleDraft>,
    ) {
        let node = &member.value;
        match member.key.as_str() {
            "rules" => {
                for (i, node) in self.list(node, "`rules`").unwrap_or_default().iter().enumerate() {
                    rules.extend(self.rule(context, i, node));
                }
            }
            "limits" => {
                for node in self.list(node, "`limits`").unwrap_or_default() {
                    rules.extend(self.limit_item(context, node));
                }
            }
            "require" => self.groups(context, node, Group::Require, rules),
            "deny_if" => self.groups(context, node, Group::DenyIf, rules),
            "require_approval" => {
                let asking = self.asking(fields, &Asking::default());
                self.groups(context, node, Group::RequireApproval(&asking), rules);
            }
            key @ ("action" | "time" | "validate" | "rate_limit" | "spend" | "spend_limit" | "idempotency_window") => {
                let mut rule = RuleDraft::new(format!("{}/{key}", context.pointer), &node.at);
                rule.message = message.clone();
                self.shorthand(context, fields, key, node, &mut rule);
                rules.push(rule);
            }
            _ => {}
        }
    }

    /// A key that is a rule of its own.
    fn shorthand(&mut self, context: &Context, fields: &Fields<'_>, key: &str, node: &Node, rule: &mut RuleDraft) {
        match key {
            "action" => {
                let words: Vec<_> = ACTIONS.iter().filter(|(_, action)| *action != Action::Evaluate).copied().collect();
                if let Some(action) = self.word(node, "action", &words) {
                    let asking = match action {
                        Action::RequireApproval => self.asking(fields, &Asking::default()),
                        Action::Allow | Action::Evaluate | Action::Deny => Asking::default(),
                    };
                    acted(action, asking, &node.at, rule);
                }
            }
            "time" => self.during(node, rule),
            "validate" => self.validated(node, rule),
            "rate_limit" => self.rate_limit(context, fields, node, rule),
            "spend" => self.spend(context, fields, node, rule),
            "spend_limit" => self.spend_limit(context, fields, node, rule),
            _ => {
                if let Some(span) = self.span_of_time(node, "`idempotency_window`") {
                    rule.push(Check::Once(span), &node.at);
                }
            }
        }
    }

    /// Keys that say something about others: without these they mean nothing.
    fn modifiers(&mut self, fields: &Fields<'_>) {
        let counters: &[&str] = &["rate_limit", "spend", "spend_limit"];
        for (key, needs) in [
            ("approval_timeout", &["action", "require_approval"][..]),
            ("wait", &["action", "require_approval"]),
            ("approvals", &["action", "require_approval"]),
            ("increment_from", &counters[1..]),
            ("scope", counters),
            ("align", counters),
            ("timezone", counters),
            ("on_deny", SHORTHANDS),
            ("reason", SHORTHANDS),
            ("message", SHORTHANDS),
        ] {
            let Some(member) = fields.member(key) else { continue };
            let asks = || fields.get("action").is_some_and(|node| node.as_str() == Some("require_approval"));
            let applies = match key {
                key if ASKING_KEYS.contains(&key) => fields.get("require_approval").is_some() || asks(),
                _ => fields.any(needs).is_some(),
            };
            if !applies {
                let problem = self.error(code::COMBINATION, &member.key_at, format!("`{key}` has nothing to apply to here"));
                problem.help = Some("move it into the rule or limit it belongs to".into());
            }
        }
    }

    fn groups(&mut self, context: &Context, node: &Node, group: Group<'_>, rules: &mut Vec<RuleDraft>) {
        let key = group.key();
        for (i, node) in self.list(node, &format!("`{key}`")).unwrap_or_default().iter().enumerate() {
            rules.extend(self.group(context, node, group, i));
        }
    }

    fn group(&mut self, context: &Context, node: &Node, group: Group<'_>, index: usize) -> Option<RuleDraft> {
        let mut known = vec!["conditions", "on_deny", "reason", "message", "name", "mode"];
        if let Group::RequireApproval(_) = group {
            known.extend(ASKING_KEYS);
        }
        let key = group.key();
        let fields = self.fields(node, &format!("an item of `{key}`"), &known)?;
        let conditions = self.required(&fields, "conditions", &format!("an item of `{key}`"));
        let name = self.rule_name(&fields);
        let pointer = format!("{}/{key}/{}", context.pointer, conditions.and_then(tail).unwrap_or_else(|| index.to_string()));
        let mut rule = RuleDraft::new(name.unwrap_or(pointer), &node.at);
        self.message_and_mode(&fields, &mut rule);
        let conditions = conditions?;
        let counters = match group {
            Group::Require => Counters::Allowed,
            Group::DenyIf | Group::RequireApproval(_) => {
                Counters::Refused { instead: "bound the counter with `limits`, or with a condition in `require` or a rule" }
            }
        };
        let mut lowered = self.conditions(conditions, counters);
        match group {
            Group::RequireApproval(asking) => {
                let asking = self.asking(&fields, asking);
                push_ask(&mut rule, lowered, asking, &conditions.at);
            }
            Group::Require => {
                rule.watches.append(&mut lowered.counters);
                if matches!(&conditions.kind, Kind::Array(elements) if elements.is_empty()) {
                    self.warn(code::NEVER_FIRES, &conditions.at, "no conditions: this never denies").help =
                        Some("remove it, or add what must hold".into());
                }
                if !lowered.arguments.is_empty() {
                    rule.push_conditions(Check::Require, lowered.arguments, &conditions.at);
                }
            }
            // Only an empty list that was meant to be empty denies always; one whose conditions were lost is an error anyway.
            Group::DenyIf if lowered.arguments.is_empty() => rule.push(Check::Deny, &conditions.at),
            Group::DenyIf => rule.push_conditions(Check::DenyIf, lowered.arguments, &conditions.at),
        }
        Some(rule)
    }

    /// The finished entries, with watches resolved, and their places.
    pub(super) fn finished(&mut self) -> (Vec<Entry>, Vec<EntryPlace>) {
        let drafts = std::mem::take(&mut self.entries);
        let mut entries = Vec::new();
        let mut places = Vec::new();
        for draft in drafts {
            let (mut rules, mut rule_places) = (Vec::new(), Vec::new());
            for mut rule in draft.rules {
                for watched in &rule.watches {
                    rule.checks.extend(self.resolve(watched));
                }
                let (checks, check_places) = rule.checks.into_iter().unzip();
                let reference = rule.reference.into();
                rules.push(Rule { reference, mode: rule.mode, message: rule.message, checks });
                rule_places.push(RulePlace { at: rule.at, checks: check_places });
            }
            entries.push(Entry { pattern: draft.pattern, mode: draft.mode, rules, results: draft.results });
            places.push(EntryPlace { at: draft.at, rules: rule_places });
        }
        (entries, places)
    }
}

impl Group<'_> {
    fn key(self) -> &'static str {
        match self {
            Group::Require => "require",
            Group::DenyIf => "deny_if",
            Group::RequireApproval(_) => "require_approval",
        }
    }
}

/// What a rule does that is nothing but its action; `asking` says how, where it asks.
fn acted(action: Action, asking: Asking, at: &Span, rule: &mut RuleDraft) {
    match action {
        Action::Deny => rule.push(Check::Deny, at),
        Action::RequireApproval => push_ask(rule, Default::default(), asking, at),
        Action::Allow | Action::Evaluate => {}
    }
}

/// `args.amount-gt`: the first condition, as it stands in references.
fn tail(conditions: &Node) -> Option<String> {
    let Kind::Array(conditions) = &conditions.kind else { return None };
    let Kind::Object(members) = &conditions.first()?.kind else { return None };
    let text = |key| members.iter().find(|member| member.key == key).and_then(|member| member.value.as_str());
    Some(escape(&format!("{}-{}", text("path")?, text("op")?)))
}

/// Makes references differ, so that a record names one rule.
fn unique(rules: &mut [RuleDraft]) {
    let mut seen = HashSet::new();
    for rule in rules {
        if !seen.insert(rule.reference.clone()) {
            let number = (2..).find(|n| seen.insert(format!("{}-{n}", rule.reference)));
            rule.reference = format!("{}-{}", rule.reference, number.unwrap_or_default());
        }
    }
}

/// One step of a JSON Pointer (RFC 6901 §3).
pub(super) fn escape(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

/// Who owns the counters of `*` and `all_tools`.
pub(super) const GLOBAL: &str = "_global";

/// Keys of a tool to which its message applies.
const SHORTHANDS: &[&str] = &["action", "time", "validate", "rate_limit", "spend", "spend_limit", "idempotency_window"];

pub(super) const TOOL_KEYS: &[&str] = &[
    "rules",
    "require",
    "deny_if",
    "require_approval",
    "limits",
    "action",
    "reason",
    "on_deny",
    "message",
    "time",
    "validate",
    "rate_limit",
    "spend",
    "spend_limit",
    "increment_from",
    "idempotency_window",
    "approval_timeout",
    "wait",
    "approvals",
    "scope",
    "align",
    "timezone",
    "mode",
    "results",
];
