//! The decision: `(Policy, Call) -> Plan`.
//!
//! Hidden names first, then the posture, then the rules of the most specific entry (the exact name, else the longest glob) in
//! file order, then those of `*`. The first that denies ends it; a question counts only when nothing denies; what is left are
//! the charges. A rule that cannot be judged denies. A rule in shadow mode is judged like any other, and only noted.
//!
//! There is no clock here, no counter and no store: the time is the call's, and counters are somebody else's.

use crate::amount::Amount;
use crate::condition::CannotJudge;
use crate::decision::{ApprovalTerms, Charge, Decision, Once, Outcome, Plan, Reason, Step, StepResult, clock, note_shadow};
use crate::model::{
    Bound, Check, Condition, Counter, Entry, Limit, Mode, Pattern, Policy, Posture, Rule, Scope, Validate, Watch,
};
use crate::validate::{Refusal, ToolSchema};
use crate::window::Schedule;
use jiff::Timestamp;
use std::borrow::Cow;
use std::sync::Arc;

/// A tool call to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The tool's name, as the policy's file writes it.
    pub tool: &'a str,
    /// An object, or absent.
    pub arguments: Option<json::Value<'a>>,
    /// What is known of the tool's `inputSchema`; [`Policy::needs_schema`] says whether it matters.
    pub schema: Schema<'a>,
    /// When.
    pub at: Timestamp,
}

/// What is known of a tool's schema.
#[derive(Clone, Copy, Debug)]
pub enum Schema<'a> {
    /// It is this.
    Known(&'a ToolSchema),
    /// It should be known and is not: `validate` denies.
    Unknown,
    /// Nobody has asked for it (`simulate` without `--tools`): `validate` is not judged, and a step says so.
    Unjudged,
}

impl Policy {
    /// Judges a call.
    pub fn evaluate(&self, call: &Call<'_>) -> Plan {
        let mut judging = Judging { call, decision: Decision::allow(), charges: Vec::new(), once: None, approval: None };
        if judging.rules(self).is_err() {
            // A denial takes nothing and asks for nothing.
            judging.charges.clear();
            (judging.once, judging.approval) = (None, None);
        }
        judging.plan()
    }

    /// Whether the tool appears in lists: it is not hidden, and it is listed where the posture is to deny.
    pub fn lists(&self, tool: &str) -> bool {
        self.mode == Mode::Shadow || !(self.hides(tool) || self.leaves_out(tool))
    }

    /// Whether some rule for this tool judges arguments by its schema.
    pub fn needs_schema(&self, tool: &str) -> bool {
        self.rules_for(tool).any(|(_, rule)| rule.checks.iter().any(|check| matches!(check, Check::Validate(_))))
    }

    /// Names this version of the policy in records and approvals: 16 hexadecimal digits.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// What happens to a tool that no entry names.
    pub fn posture(&self) -> Posture {
        self.posture
    }

    /// What the file says about itself.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// The rules that apply to a tool, in the order in which they are judged, each with its effective mode.
    pub(crate) fn rules_for(&self, tool: &str) -> impl Iterator<Item = (Mode, &Rule)> {
        let best = self.entries.iter().filter_map(|entry| entry.pattern.precision(tool)).max();
        let specific = self.entries.iter().filter(move |entry| best.is_some() && entry.pattern.precision(tool) == best);
        let general = self.entries.iter().filter(|entry| entry.pattern == Pattern::Any);
        let mode = |entry: &Entry, rule: &Rule| self.mode.max(entry.mode).max(rule.mode);
        specific.chain(general).flat_map(move |entry| entry.rules.iter().map(move |rule| (mode(entry, rule), rule)))
    }

    fn hides(&self, tool: &str) -> bool {
        self.hidden.iter().any(|pattern| pattern.matches(tool))
    }

    fn leaves_out(&self, tool: &str) -> bool {
        self.posture == Posture::Deny && !self.entries.iter().any(|entry| entry.pattern.lists(tool))
    }
}

impl Pattern {
    /// Whether the pattern fits the name.
    pub(crate) fn matches(&self, tool: &str) -> bool {
        *self == Pattern::Any || self.precision(tool).is_some()
    }

    /// How well the pattern fits the name, if it does and is more than `*`: an exact name better than any glob, a longer glob
    /// better than a shorter one.
    pub(crate) fn precision(&self, tool: &str) -> Option<usize> {
        match self {
            Pattern::Exact(name) => (name == tool).then_some(usize::MAX),
            Pattern::Glob(glob) => matches(glob.as_bytes(), tool.as_bytes()).then_some(glob.len()),
            Pattern::Any => None,
        }
    }

    /// Whether the pattern lists the tool under default deny.
    ///
    /// A glob lists only names of letters, digits, `_`, `-`, `.` and `/`: who writes `read_*` has not seen `read_x; drop`.
    /// It *restricts* every name that it fits.
    fn lists(&self, tool: &str) -> bool {
        let plain = || tool.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b));
        match self {
            Pattern::Exact(_) => self.matches(tool),
            Pattern::Glob(_) => plain() && self.matches(tool),
            Pattern::Any => false,
        }
    }
}

/// Whether a glob of `*` (any run) and `?` (one character) fits a name. Linear but for the last `*`, at worst their product.
fn matches(glob: &[u8], name: &[u8]) -> bool {
    let (mut g, mut n) = (0, 0);
    // Where to go on when the text after the last `*` does not fit: one character later.
    let mut retry = None;
    while n < name.len() {
        match glob.get(g) {
            Some(b'*') => {
                retry = Some((g + 1, n));
                g += 1;
            }
            Some(b'?') => {
                g += 1;
                n += character_length(name[n]);
            }
            Some(byte) if *byte == name[n] => {
                g += 1;
                n += 1;
            }
            _ => match retry {
                Some((after, from)) => {
                    let next = from + character_length(name[from]);
                    retry = Some((after, next));
                    (g, n) = (after, next);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}

/// Of the UTF-8 character that begins with this byte.
fn character_length(first: u8) -> usize {
    match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    }
}

/// A denial has been decided; nothing after it matters.
struct Denied;

/// What stands against a call.
struct Objection {
    reason: Reason,
    message: String,
    retry_after_ms: Option<u64>,
}

impl Objection {
    fn new(reason: Reason, message: impl Into<String>) -> Objection {
        Objection { reason, message: message.into(), retry_after_ms: None }
    }
}

struct Judging<'c> {
    call: &'c Call<'c>,
    decision: Decision,
    charges: Vec<Charge>,
    once: Option<Once>,
    approval: Option<ApprovalTerms>,
}

impl Judging<'_> {
    fn rules(&mut self, policy: &Policy) -> Result<(), Denied> {
        let tool = self.call.tool;
        // The same words whether a tool is hidden, unlisted or does not exist: what is hidden stays hidden.
        let no_such_tool = || format!("There is no tool `{}` here. Use one from `tools/list`.", tool.escape_debug());
        if policy.hides(tool) {
            let rule: Arc<str> = "(hidden)".into();
            self.step(&rule, "hide", StepResult::Matched, "");
            self.object(&rule, policy.mode, Objection::new(Reason::Hidden, no_such_tool()))?;
        }
        if policy.leaves_out(tool) {
            let rule: Arc<str> = "(default deny)".into();
            self.step(&rule, "default", StepResult::Failed, "the policy does not list this tool");
            self.object(&rule, policy.mode, Objection::new(Reason::Unlisted, no_such_tool()))?;
        }
        for (mode, rule) in policy.rules_for(tool) {
            for check in &rule.checks {
                self.check(check, rule, mode)?;
            }
        }
        Ok(())
    }

    fn check(&mut self, check: &Check, rule: &Rule, mode: Mode) -> Result<(), Denied> {
        let objection = match check {
            Check::Deny => {
                self.step(&rule.reference, "deny", StepResult::Matched, "");
                let message = format!("Calls of `{}` are not allowed; use another tool.", self.call.tool.escape_debug());
                Err(Objection::new(Reason::Forbidden, said(rule).unwrap_or(message)))
            }
            Check::Require(conditions) => self.require(conditions, rule),
            Check::DenyIf(conditions) => self.deny_if(conditions, rule),
            Check::Ask { when, timeout } => self.ask(when, *timeout, rule, mode),
            Check::Limit(limit) => self.limit(limit, rule, mode),
            Check::Watch(watch) => {
                self.watch(watch, rule, mode);
                Ok(())
            }
            Check::Validate(demands) => self.validate(*demands, rule),
            Check::During(schedule) => self.during(schedule, rule),
            Check::Once(window) => {
                self.once(*window, rule, mode);
                Ok(())
            }
        };
        match objection {
            Ok(()) => Ok(()),
            Err(objection) => self.object(&rule.reference, mode, objection),
        }
    }

    fn require(&mut self, conditions: &[Condition], rule: &Rule) -> Result<(), Objection> {
        for condition in conditions {
            match self.judge(condition, rule, (StepResult::Held, StepResult::Failed))? {
                true => {}
                false => {
                    let message = said(rule).unwrap_or_else(|| sentence(&condition.demand()));
                    return Err(Objection::new(Reason::ConditionFailed, message));
                }
            }
        }
        Ok(())
    }

    fn deny_if(&mut self, conditions: &[Condition], rule: &Rule) -> Result<(), Objection> {
        if !self.all_hold(conditions, rule)? {
            return Ok(());
        }
        let message = said(rule).unwrap_or_else(|| match conditions {
            [] => format!("Calls of `{}` are not allowed; use another tool.", self.call.tool.escape_debug()),
            [one] => sentence(&one.opposite()),
            many => {
                let opposites: Vec<String> = many.iter().map(Condition::opposite).collect();
                sentence(&format!("at least one of these is needed: {}", opposites.join("; ")))
            }
        });
        Err(Objection::new(Reason::ConditionMatched, message))
    }

    fn ask(&mut self, when: &[Condition], timeout: jiff::SignedDuration, rule: &Rule, mode: Mode) -> Result<(), Objection> {
        if !self.all_hold(when, rule)? {
            return Ok(());
        }
        self.step(&rule.reference, "require_approval", StepResult::Matched, if mode == Mode::Shadow { SHADOW } else { "" });
        if mode == Mode::Shadow {
            let message = said(rule).unwrap_or_else(|| "This call needs a person's approval.".to_owned());
            note_shadow(&mut self.decision.shadow, Outcome::Ask, Reason::ApprovalRequired, &rule.reference, message);
        } else if self.approval.is_none() {
            let terms = ApprovalTerms { timeout_ms: millis(timeout), rule: rule.reference.clone(), message: said(rule) };
            self.approval = Some(terms);
        }
        Ok(())
    }

    /// Whether all conditions hold, in order and no further than the first that does not: what comes after it may rely on it.
    fn all_hold(&mut self, conditions: &[Condition], rule: &Rule) -> Result<bool, Objection> {
        for condition in conditions {
            if !self.judge(condition, rule, (StepResult::Matched, StepResult::Skipped))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn judge(&mut self, condition: &Condition, rule: &Rule, results: (StepResult, StepResult)) -> Result<bool, Objection> {
        let judged = condition.holds(self.call.arguments);
        let (result, detail) = match &judged {
            Ok(true) => (results.0, Cow::Borrowed("")),
            Ok(false) => (results.1, Cow::Borrowed("")),
            Err(CannotJudge(problem)) => (StepResult::Error, Cow::Owned(problem.clone())),
        };
        self.step(&rule.reference, condition.text(), result, detail);
        judged.map_err(|CannotJudge(problem)| Objection::new(Reason::RuleError, said(rule).unwrap_or_else(|| sentence(&problem))))
    }

    fn limit(&mut self, limit: &Limit, rule: &Rule, mode: Mode) -> Result<(), Objection> {
        let amount = match self.amount(limit) {
            Ok(amount) => amount,
            Err(CannotJudge(problem)) => {
                let check = format!("amount for {}", limit.counter.name);
                self.step(&rule.reference, check, StepResult::Error, problem.clone());
                // Never the rule's own message: "limit exceeded" would send the model looking in the wrong place.
                return Err(Objection::new(Reason::BadAmount, sentence(&problem)));
            }
        };
        self.charge(limit.counter.clone(), amount, Bound::AtMost(limit.max), limit.counts_calls(), rule, mode);
        Ok(())
    }

    fn amount(&self, limit: &Limit) -> Result<Amount, CannotJudge> {
        let amount = limit.amount.of(self.call.arguments)?;
        let Some(weight) = &limit.weight else { return Ok(amount) };
        let weight = weight.of(self.call.arguments)?;
        let product = u128::from(amount.micros()) * u128::from(weight.micros());
        let unit = u128::from(Amount::ONE.micros());
        let exact = (product % unit == 0).then(|| u64::try_from(product / unit).ok()).flatten();
        exact.and_then(Amount::from_micros).ok_or_else(|| {
            CannotJudge(format!("the amount for `{}` must have at most six decimals and be below 9 trillion", limit.counter.name))
        })
    }

    fn watch(&mut self, watch: &Watch, rule: &Rule, mode: Mode) {
        self.charge(watch.counter.clone(), Amount::ZERO, watch.bound, false, rule, mode);
    }

    fn charge(&mut self, counter: Arc<Counter>, amount: Amount, bound: Bound, counts_calls: bool, rule: &Rule, mode: Mode) {
        let message = rule.message.clone();
        self.charges.push(Charge { counter, amount, bound, rule: rule.reference.clone(), mode, message, counts_calls });
    }

    fn validate(&mut self, demands: Validate, rule: &Rule) -> Result<(), Objection> {
        let words = [(demands.required_args, "required_args"), (demands.types, "types"), (demands.deny_unknown, "unknown: deny")];
        let words: Vec<&str> = words.iter().filter(|(demanded, _)| *demanded).map(|(_, word)| *word).collect();
        let check = format!("validate {}", words.join(", "));
        let schema = match self.call.schema {
            Schema::Known(schema) => schema,
            Schema::Unknown => {
                self.step(&rule.reference, check, StepResult::Error, "the tool's schema is not known");
                let message =
                    "The tool's input schema is not known, so its arguments cannot be checked. Ask `tools/list`, then try again.";
                return Err(Objection::new(Reason::SchemaUnknown, message));
            }
            Schema::Unjudged => {
                self.step(&rule.reference, check, StepResult::Skipped, "not judged: no tools/list was given (`--tools FILE`)");
                return Ok(());
            }
        };
        match schema.judge(demands, self.call.arguments) {
            Ok(()) => {
                self.step(&rule.reference, check, StepResult::Held, "");
                Ok(())
            }
            Err(Refusal::Arguments(message)) => {
                self.step(&rule.reference, check, StepResult::Failed, message.clone());
                Err(Objection::new(Reason::InvalidArguments, message))
            }
            Err(Refusal::Schema(problem)) => {
                self.step(&rule.reference, check, StepResult::Error, problem.clone());
                let message = format!("The tool's arguments cannot be checked: {problem}. Use another tool, or tell the user.");
                Err(Objection::new(Reason::SchemaUnknown, message))
            }
        }
    }

    fn during(&mut self, schedule: &Schedule, rule: &Rule) -> Result<(), Objection> {
        let at = self.call.at;
        let check = format!("time {schedule}");
        if schedule.is_open(at) {
            self.step(&rule.reference, check, StepResult::Held, "");
            return Ok(());
        }
        self.step(&rule.reference, check, StepResult::Failed, "");
        let opens = schedule.opens_at(at);
        let time = opens.map_or_else(|| "never".to_owned(), |opens| clock(opens, at));
        let message = match &rule.message {
            Some(template) => template.fill(&[("resets_at", &time)]),
            None => format!("This tool may be used {schedule}. Try again after {time}."),
        };
        let wait = opens.map(|opens| opens.as_millisecond().saturating_sub(at.as_millisecond()));
        let retry_after_ms = wait.and_then(|wait| u64::try_from(wait).ok()).map(|wait| wait.max(1));
        Err(Objection { reason: Reason::OutsideHours, message, retry_after_ms })
    }

    fn once(&mut self, window: jiff::SignedDuration, rule: &Rule, mode: Mode) {
        if mode == Mode::Shadow {
            // Only the store sees duplicates, and it has no shadow of itself.
            self.step(&rule.reference, "idempotency_window", StepResult::Skipped, SHADOW);
            return;
        }
        let window_ms = millis(window);
        // Of several, the longest contains the others.
        if self.once.as_ref().is_none_or(|once| once.window_ms < window_ms) {
            self.once = Some(Once { window_ms, rule: rule.reference.clone(), message: rule.message.clone() });
        }
    }

    /// Denies, or in shadow mode notes that it would have.
    fn object(&mut self, rule: &Arc<str>, mode: Mode, objection: Objection) -> Result<(), Denied> {
        let Objection { reason, message, retry_after_ms } = objection;
        if mode == Mode::Shadow {
            note_shadow(&mut self.decision.shadow, Outcome::Deny, reason, rule, message);
            return Ok(());
        }
        let steps = std::mem::take(&mut self.decision.steps);
        self.decision = Decision { rule: Some(rule.clone()), retry_after_ms, steps, ..Decision::deny(reason, message) };
        Err(Denied)
    }

    fn step(
        &mut self,
        rule: &Arc<str>,
        check: impl Into<Cow<'static, str>>,
        result: StepResult,
        detail: impl Into<Cow<'static, str>>,
    ) {
        self.decision.steps.push(Step { rule: rule.clone(), check: check.into(), result, detail: detail.into() });
    }

    fn plan(mut self) -> Plan {
        if let Some(terms) = &self.approval {
            self.decision.outcome = Outcome::Ask;
            self.decision.reason = Reason::ApprovalRequired;
            self.decision.rule = Some(terms.rule.clone());
            let said = terms.message.clone();
            self.decision.message = Some(said.unwrap_or_else(|| "This call needs a person's approval.".to_owned()));
        }
        let charges = one_for_each_counter(self.charges);
        Plan { decision: self.decision, charges, once: self.once, approval: self.approval, at: self.call.at }
    }
}

impl Limit {
    fn counts_calls(&self) -> bool {
        matches!(self.amount, crate::model::AmountFrom::Fixed(Amount::ONE)) && self.weight.is_none()
    }
}

/// Sorts charges by counter, and leaves at most one for each counter that takes something: a call is counted once, however
/// many rules bound the counter. Of two the tighter one stays (an enforced one before one in shadow), with the larger amount.
/// Those that take nothing come before it, so that they see the counter as it was before the call.
fn one_for_each_counter(mut charges: Vec<Charge>) -> Vec<Charge> {
    if charges.len() < 2 {
        return charges;
    }
    charges.sort_by_cached_key(|charge| {
        let Counter { owner, name, window, scope } = &*charge.counter;
        (owner.clone(), name.clone(), window.key(), order(*scope), charge.amount != Amount::ZERO)
    });
    let mut kept: Vec<Charge> = Vec::with_capacity(charges.len());
    for charge in charges {
        match kept.last_mut() {
            Some(last) if last.counter == charge.counter && last.amount != Amount::ZERO => {
                let amount = last.amount.max(charge.amount);
                let room = |charge: &Charge| match charge.bound {
                    Bound::AtMost(most) => most.micros().saturating_sub(charge.amount.micros()),
                    Bound::AtLeast(_) => u64::MAX,
                };
                if (charge.mode, room(&charge)) < (last.mode, room(last)) {
                    *last = charge;
                }
                last.amount = amount;
            }
            _ => kept.push(charge),
        }
    }
    kept
}

fn order(scope: Scope) -> u8 {
    match scope {
        Scope::Grant => 0,
        Scope::Principal => 1,
        Scope::Session => 2,
        Scope::Upstream => 3,
        Scope::Global => 4,
    }
}

/// What the rule's author wants said.
fn said(rule: &Rule) -> Option<String> {
    rule.message.as_ref().map(|template| template.0.clone())
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        None => String::new(),
    }
}

fn millis(duration: jiff::SignedDuration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(0)
}

const SHADOW: &str = "shadow: not enforced";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AmountFrom, Literal, Operator, Path, Quantifier, Segment, Template};
    use crate::window::{Window, Zone};
    use crate::{Usage, decision::Shadow};
    use jiff::SignedDuration;
    use json::{Decimal, Document, Strictness};

    fn policy(posture: Posture, hidden: &[Pattern], entries: Vec<Entry>) -> Policy {
        let (revision, description) = ("0123456789abcdef".to_owned(), None);
        Policy { revision, description, posture, mode: Mode::Enforce, hidden: hidden.to_vec(), entries }
    }

    fn entry(pattern: &str, rules: Vec<Rule>) -> Entry {
        let owner = if pattern == "*" { "_global".into() } else { pattern.into() };
        let pattern = match pattern {
            "*" => Pattern::Any,
            glob if glob.contains(['*', '?']) => Pattern::Glob(glob.to_owned()),
            name => Pattern::Exact(name.to_owned()),
        };
        Entry { pattern, owner, mode: Mode::Enforce, rules }
    }

    fn rule(reference: &str, checks: Vec<Check>) -> Rule {
        Rule { reference: reference.into(), mode: Mode::Enforce, message: None, checks }
    }

    fn shadow(mut rule: Rule) -> Rule {
        rule.mode = Mode::Shadow;
        rule
    }

    fn path(key: &str) -> Path {
        Path { text: format!("args.{key}").into(), segments: vec![Segment::Key(key.to_owned())] }
    }

    fn condition(key: &str, operator: Operator) -> Condition {
        Condition { path: path(key), quantifier: Quantifier::Each, operator }
    }

    fn above(key: &str, bound: i64) -> Vec<Condition> {
        vec![condition(key, Operator::Greater(Decimal::from(bound)))]
    }

    fn counter(owner: &str, name: &str, window: &str) -> Arc<Counter> {
        let window = Window::parse(window).unwrap();
        Arc::new(Counter { owner: owner.into(), name: name.into(), window, scope: Scope::Grant })
    }

    fn limit(counter: Arc<Counter>, max: u64, amount: AmountFrom) -> Check {
        Check::Limit(Limit { counter, max: Amount::whole(max).unwrap(), amount, weight: None })
    }

    fn calls(max: u64) -> Check {
        limit(counter("t", "calls", "minute"), max, AmountFrom::Fixed(Amount::ONE))
    }

    fn spend(max: u64) -> Check {
        limit(counter("t", "spend", "day"), max, AmountFrom::Path(path("amount")))
    }

    fn evaluate_at(policy: &Policy, tool: &str, arguments: &str, at: &str) -> Plan {
        let document = Document::parse(arguments.to_owned(), Strictness::Request).unwrap();
        let call = Call { tool, arguments: Some(document.root()), schema: Schema::Unjudged, at: at.parse().unwrap() };
        policy.evaluate(&call)
    }

    fn evaluate(policy: &Policy, tool: &str, arguments: &str) -> Plan {
        evaluate_at(policy, tool, arguments, NOW)
    }

    #[track_caller]
    fn check(policy: &Policy, tool: &str, arguments: &str, reason: Reason, rule: Option<&str>) -> Plan {
        let plan = evaluate(policy, tool, arguments);
        assert_eq!(
            (plan.decision.reason, plan.decision.rule.as_deref()),
            (reason, rule),
            "{tool} {arguments}: {:?}",
            plan.decision
        );
        if plan.decision.outcome == Outcome::Deny {
            assert!(plan.charges.is_empty() && plan.once.is_none() && plan.approval.is_none());
        }
        plan
    }

    const NOW: &str = "2026-01-15T10:31:30Z";

    fn used(amount: u64, resets_at: &str) -> Usage {
        let resets_at = resets_at.parse::<Timestamp>().unwrap().as_millisecond();
        let wait = resets_at - NOW.parse::<Timestamp>().unwrap().as_millisecond();
        Usage { used: Amount::whole(amount).unwrap(), resets_at, retry_after_ms: wait.try_into().unwrap() }
    }

    #[test]
    fn hidden_goes_before_posture_and_posture_before_rules() {
        let entries = vec![entry("t", vec![]), entry("h", vec![]), entry("*", vec![rule("all", vec![Check::Deny])])];
        let policy = policy(Posture::Deny, &[Pattern::Exact("h".to_owned())], entries);
        let hidden = check(&policy, "h", "{}", Reason::Hidden, Some("(hidden)"));
        let unlisted = check(&policy, "u", "{}", Reason::Unlisted, Some("(default deny)"));
        check(&policy, "t", "{}", Reason::Forbidden, Some("all"));
        let words = |plan: Plan, name: &str| plan.decision.message.unwrap().replace(&format!("`{name}`"), "X");
        assert_eq!(words(hidden, "h"), words(unlisted, "u"), "what is hidden looks like what does not exist");
        assert!(policy.lists("t") && !policy.lists("h") && !policy.lists("u"));
    }

    #[test]
    fn a_wildcard_lists_nothing_and_restricts_everything() {
        let policy = policy(Posture::Deny, &[], vec![entry("*", vec![])]);
        for name in ["t", "*", "_global", ""] {
            check(&policy, name, "{}", Reason::Unlisted, Some("(default deny)"));
        }
    }

    #[test]
    fn names_are_compared_as_they_are() {
        let policy = policy(Posture::Deny, &[], vec![entry("read_file", vec![])]);
        check(&policy, "read_file", "{}", Reason::Allowed, None);
        for name in
            ["read_file ", " read_file", "read_file\n", "Read_File", "re\u{430}d_file", "read_file\u{200b}", "read_file\0"]
        {
            check(&policy, name, "{}", Reason::Unlisted, Some("(default deny)"));
        }
    }

    #[test]
    fn the_exact_entry_wins_then_the_longest_glob_then_comes_the_wildcard() {
        let deny = |name: &str| vec![rule(name, vec![Check::DenyIf(above(name, 0))])];
        let entries = vec![
            entry("*", deny("any")),
            entry("delete_*", deny("short")),
            entry("delete_a*", deny("long")),
            entry("delete_ab", deny("exact")),
        ];
        let policy = policy(Posture::Deny, &[], entries);
        let all = r#"{"any":1,"short":1,"long":1,"exact":1}"#;
        check(&policy, "delete_ab", all, Reason::ConditionMatched, Some("exact"));
        check(&policy, "delete_ac", all, Reason::ConditionMatched, Some("long"));
        check(&policy, "delete_x", all, Reason::ConditionMatched, Some("short"));
        check(&policy, "delete_ab", r#"{"any":1,"short":1,"long":1}"#, Reason::ConditionMatched, Some("any"));
    }

    #[test]
    fn a_glob_lists_plain_names_only_but_restricts_all() {
        let globbed = |posture| policy(posture, &[], vec![entry("read_*", vec![rule("r", vec![Check::DenyIf(above("x", 0))])])]);
        check(&globbed(Posture::Deny), "read_x; drop", "{}", Reason::Unlisted, Some("(default deny)"));
        check(&globbed(Posture::Deny), "read_x", "{}", Reason::Allowed, None);
        check(&globbed(Posture::Allow), "read_x; drop", r#"{"x":1}"#, Reason::ConditionMatched, Some("r"));
    }

    #[test]
    fn globs_fit_whole_names() {
        for (glob, fits, fails) in [
            ("a*", &["a", "ab", "a*"][..], &["", "ba", "A"][..]),
            ("*a*b", &["ab", "xaxb", "abab"], &["a", "abx"]),
            ("a?c", &["abc", "a?c", "aéc", "a😀c"], &["ac", "abbc"]),
            ("*???y*", &["abcy", "😀bcyz"], &["😀yzz"]),
            ("a**b", &["ab", "axb"], &["a"]),
            ("a.c", &["a.c"], &["abc"]),
        ] {
            for name in fits {
                assert!(matches(glob.as_bytes(), name.as_bytes()), "{glob} {name}");
            }
            for name in fails {
                assert!(!matches(glob.as_bytes(), name.as_bytes()), "{glob} {name}");
            }
        }
    }

    #[test]
    fn the_first_denial_ends_it_and_takes_nothing() {
        let entries = vec![entry(
            "t",
            vec![rule("a", vec![calls(5)]), rule("b", vec![Check::Require(above("x", 0))]), rule("c", vec![Check::Deny])],
        )];
        let policy = policy(Posture::Allow, &[], entries);
        let plan = check(&policy, "t", r#"{"x":0}"#, Reason::ConditionFailed, Some("b"));
        assert_eq!(plan.decision.message.unwrap(), "`args.x` must be greater than 0.");
        check(&policy, "t", r#"{"x":1}"#, Reason::Forbidden, Some("c"));
        check(&policy, "other", "{}", Reason::Allowed, None);
    }

    #[test]
    fn what_cannot_be_judged_denies_in_every_kind_of_rule() {
        let ask = Check::Ask { when: above("x", 0), timeout: SignedDuration::from_mins(30) };
        let equal = Check::DenyIf(vec![condition("x", Operator::Equal(Literal::Bool(true)))]);
        for rule_check in [Check::Require(above("x", 0)), Check::DenyIf(above("x", 0)), ask, equal] {
            let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule("r", vec![rule_check])])]);
            let plan = check(&policy, "t", r#"{"x":"1"}"#, Reason::RuleError, Some("r"));
            assert_eq!(plan.decision.steps.last().unwrap().result, StepResult::Error);
        }
    }

    #[test]
    fn a_denying_rule_needs_all_its_conditions() {
        let both = above("x", 0).into_iter().chain(above("y", 0)).collect();
        let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule("r", vec![Check::DenyIf(both)])])]);
        check(&policy, "t", r#"{"x":1,"y":1}"#, Reason::ConditionMatched, Some("r"));
        check(&policy, "t", r#"{"x":1,"y":0}"#, Reason::Allowed, None);
        check(&policy, "t", r#"{"x":1}"#, Reason::Allowed, None);
        check(&policy, "t", r#"{"x":0,"y":"no number, and nobody asked"}"#, Reason::Allowed, None);
    }

    #[test]
    fn a_question_counts_only_when_nothing_denies() {
        let ask = || Check::Ask { when: above("x", 10), timeout: SignedDuration::from_mins(30) };
        let entries = vec![entry(
            "t",
            vec![rule("ask", vec![ask()]), rule("deny", vec![Check::DenyIf(above("x", 100))]), rule("calls", vec![calls(5)])],
        )];
        let policy = policy(Posture::Allow, &[], entries);
        check(&policy, "t", r#"{"x":101}"#, Reason::ConditionMatched, Some("deny"));
        check(&policy, "t", r#"{"x":10}"#, Reason::Allowed, None);
        let plan = check(&policy, "t", r#"{"x":11}"#, Reason::ApprovalRequired, Some("ask"));
        assert_eq!((plan.approval.as_ref().unwrap().timeout_ms, plan.charges.len()), (1_800_000, 1));
        let pending = plan.clone().approval_pending("ap1");
        assert_eq!(pending.outcome, Outcome::Ask);
        assert!(pending.message.unwrap().contains("`callgate approvals approve ap1` within 30 minutes"));
        assert_eq!(plan.clone().granted(&[used(0, NOW)]).outcome, Outcome::Ask, "without an approval nothing is granted");
        let granted = plan.clone().approved("ap1").granted(&[used(0, NOW)]);
        assert_eq!((granted.outcome, granted.reason), (Outcome::Allow, Reason::Allowed));
        assert_eq!(plan.approval_denied("ap1").reason, Reason::ApprovalDenied);
    }

    #[test]
    fn a_denial_is_final_whatever_is_said_afterwards() {
        let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule("r", vec![Check::Deny])])]);
        let plan = check(&policy, "t", "{}", Reason::Forbidden, Some("r"));
        assert_eq!(plan.approved("x").granted(&[]).outcome, Outcome::Deny);
    }

    #[test]
    fn an_exhausted_limit_says_what_would_work_and_when() {
        let rate = limit(counter("t", "_rate_hour", "hour"), 5, AmountFrom::Fixed(Amount::ONE));
        let said = Rule {
            message: Some(Template("Used {used} of {max}, {wait}; free at {resets_at}".to_owned())),
            ..rule("m", vec![calls(10)])
        };
        for (rule, arguments, usage, message) in [
            (
                rule("r", vec![calls(10)]),
                "{}",
                used(10, "2026-01-15T10:32:00Z"),
                "Limit of 10 calls a minute reached. Try again after 10:32:00 UTC.",
            ),
            (rule("r", vec![rate]), "{}", used(5, "2026-01-15T11:00:00Z"), "Rate limit of 5 per hour reached. Try again later."),
            (said, "{}", used(10, "2026-01-16T00:00:00Z"), "Used 10 of 10, {wait}; free at 2026-01-16 00:00:00 UTC"),
            (
                rule("r", vec![spend(1000)]),
                r#"{"amount":100}"#,
                used(950, "2026-01-16T00:00:00Z"),
                "Limit of 1000 a day for `spend` reached: use at most 50 now, or try again after 2026-01-16 00:00:00 UTC.",
            ),
            (
                rule("r", vec![spend(1000)]),
                r#"{"amount":1000.5}"#,
                used(0, "2026-01-16T00:00:00Z"),
                "This call needs 1000.5 of `spend`; at most 1000 a day is allowed.",
            ),
        ] {
            let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule])]);
            let decision = evaluate(&policy, "t", arguments).exhausted(0, &usage);
            assert_eq!((decision.outcome, decision.reason), (Outcome::Deny, Reason::LimitReached));
            assert_eq!((decision.message.as_deref(), decision.retry_after_ms), (Some(message), Some(usage.retry_after_ms)));
            assert_eq!(decision.steps.last().unwrap().result, StepResult::Failed);
        }
    }

    #[test]
    fn a_bad_amount_denies_in_words_of_its_own() {
        let rule = Rule { message: Some(Template("Budget exceeded".to_owned())), ..rule("r", vec![spend(1000)]) };
        let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule])]);
        for arguments in [r#"{"amount":-50}"#, r#"{"amount":1e300}"#, r#"{"amount":0.0000001}"#, r#"{"amount":"5"}"#, "{}"] {
            let plan = check(&policy, "t", arguments, Reason::BadAmount, Some("r"));
            assert_eq!(plan.decision.message.unwrap(), "`args.amount` must be a number of 0 or more with at most six decimals.");
        }
        let granted = check(&policy, "t", r#"{"amount":400}"#, Reason::Allowed, None).granted(&[used(0, NOW)]);
        assert_eq!(granted.steps.last().unwrap().detail, "spend=400/1000");
    }

    #[test]
    fn a_weight_multiplies_the_amount() {
        let length =
            Path { text: "args.commands.length".into(), segments: vec![Segment::Key("commands".to_owned()), Segment::Length] };
        let limit = Limit {
            counter: counter("t", "commands", "hour"),
            max: Amount::whole(100).unwrap(),
            amount: AmountFrom::Fixed(Amount::from_micros(500_000).unwrap()),
            weight: Some(AmountFrom::Path(length)),
        };
        let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule("r", vec![Check::Limit(limit)])])]);
        let plan = check(&policy, "t", r#"{"commands":["a","b","c"]}"#, Reason::Allowed, None);
        assert_eq!(plan.charges[0].amount.to_string(), "1.5");
        check(&policy, "t", r#"{"commands":5}"#, Reason::BadAmount, Some("r"));
    }

    #[test]
    fn a_call_is_counted_once_by_a_counter_and_watched_before_it() {
        let shared = || counter("t", "n", "hour");
        let watch = Check::Watch(Watch { counter: shared(), bound: Bound::AtLeast(Amount::ZERO) });
        let one = || AmountFrom::Fixed(Amount::ONE);
        let rules = vec![
            rule("loose", vec![limit(shared(), 10, one())]),
            rule("other", vec![limit(counter("a", "z", "day"), 7, one())]),
            rule("tight", vec![limit(shared(), 3, one())]),
            shadow(rule("shadow", vec![limit(shared(), 1, one())])),
            rule("watch", vec![watch]),
        ];
        let policy = policy(Posture::Allow, &[], vec![entry("t", rules)]);
        let charges = check(&policy, "t", "{}", Reason::Allowed, None).charges;
        let seen: Vec<(&str, u64)> = charges.iter().map(|charge| (&*charge.rule, charge.amount.micros() / 1_000_000)).collect();
        assert_eq!(seen, [("other", 1), ("watch", 0), ("tight", 1)]);
    }

    #[test]
    fn shadow_rules_are_noted_and_not_enforced() {
        let rules = vec![
            shadow(rule("ask", vec![Check::Ask { when: vec![], timeout: SignedDuration::from_mins(30) }])),
            shadow(rule("deny", vec![Check::DenyIf(above("x", 0))])),
            shadow(rule("calls", vec![calls(1)])),
        ];
        let policy = policy(Posture::Allow, &[], vec![entry("t", rules)]);
        let noted = |plan: Plan, usage: Usage| {
            assert!(!plan.charges[0].refuses(&usage));
            let decision = plan.granted(&[usage]);
            assert_eq!(decision.outcome, Outcome::Allow);
            decision.shadow.map(|Shadow { outcome, reason, .. }| (outcome, reason))
        };
        let free = used(0, "2026-01-15T10:32:00Z");
        let full = used(1, "2026-01-15T10:32:00Z");
        assert_eq!(noted(evaluate(&policy, "t", r#"{"x":1}"#), free), Some((Outcome::Deny, Reason::ConditionMatched)));
        assert_eq!(noted(evaluate(&policy, "t", "{}"), free), Some((Outcome::Ask, Reason::ApprovalRequired)));
        assert_eq!(noted(evaluate(&policy, "t", "{}"), full), Some((Outcome::Deny, Reason::LimitReached)));
    }

    #[test]
    fn a_file_in_shadow_hides_nothing() {
        let mut policy = policy(Posture::Deny, &[Pattern::Any], vec![]);
        policy.mode = Mode::Shadow;
        assert!(policy.lists("t"));
        let decision = check(&policy, "t", "{}", Reason::Allowed, None).granted(&[]);
        assert_eq!(decision.shadow.unwrap().reason, Reason::Hidden);
    }

    #[test]
    fn outside_its_hours_a_tool_says_when_it_opens() {
        let schedule = Schedule::parse(Some("mon-fri"), Some("09:00-17:00"), Zone::parse("Europe/Berlin").unwrap()).unwrap();
        let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule("hours", vec![Check::During(schedule)])])]);
        assert_eq!(evaluate(&policy, "t", "{}").decision.outcome, Outcome::Allow);
        let decision = evaluate_at(&policy, "t", "{}", "2026-01-15T06:30:00Z").decision;
        assert_eq!((decision.reason, decision.retry_after_ms), (Reason::OutsideHours, Some(90 * 60_000)));
        let message = "This tool may be used mon-fri 09:00-17:00 Europe/Berlin. Try again after 08:00:00 UTC.";
        assert_eq!(decision.message.as_deref(), Some(message));
    }

    #[test]
    fn a_duplicate_names_the_first_call() {
        let policy =
            policy(Posture::Allow, &[], vec![entry("t", vec![rule("once", vec![Check::Once(SignedDuration::from_mins(5))])])]);
        let plan = evaluate(&policy, "t", "{}");
        assert_eq!(plan.once.as_ref().unwrap().window_ms, 300_000);
        let decision = plan.duplicate("d1", 30_000);
        assert_eq!(
            (decision.reason, decision.rule.as_deref(), decision.retry_after_ms),
            (Reason::DuplicateCall, Some("once"), Some(30_000))
        );
        let message =
            "The same call was made within the last 5 minutes (d1). Change its arguments, or try again after 10:32:00 UTC.";
        assert_eq!(decision.message.as_deref(), Some(message));
    }

    #[test]
    fn validation_without_a_schema_denies_live_and_is_skipped_offline() {
        let demands = Validate { required_args: true, types: false, deny_unknown: false };
        let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule("v", vec![Check::Validate(demands)])])]);
        assert!(policy.needs_schema("t") && !policy.needs_schema("u"));
        let offline = evaluate(&policy, "t", "{}");
        assert_eq!((offline.decision.outcome, offline.decision.steps[0].result), (Outcome::Allow, StepResult::Skipped));
        let at = NOW.parse().unwrap();
        let unknown = policy.evaluate(&Call { tool: "t", arguments: None, schema: Schema::Unknown, at });
        assert_eq!(unknown.decision.reason, Reason::SchemaUnknown);
        let document = Document::parse(r#"{"required":["a"]}"#, Strictness::Reply).unwrap();
        let schema = ToolSchema::new(document.root());
        let known = policy.evaluate(&Call { tool: "t", arguments: None, schema: Schema::Known(&schema), at });
        assert_eq!(known.decision.message.as_deref(), Some("The argument `a` is required."));
    }

    #[test]
    fn a_decision_is_one_json_object() {
        let policy = policy(Posture::Allow, &[], vec![entry("t", vec![rule("r \"1\"", vec![calls(1)])])]);
        let decision = evaluate(&policy, "t", "{}").exhausted(0, &used(1, "2026-01-15T10:32:00Z"));
        let text = r#"{"outcome":"deny","reason":"limit-reached","rule":"r \"1\"","message":"Limit of 1 call a minute reached. Try again after 10:32:00 UTC.","retryAfterMs":30000,"steps":[{"rule":"r \"1\"","check":"calls at most 1 a minute","result":"failed","detail":"calls=1/1"}]}"#;
        assert_eq!(decision.to_json(), text);
        let allow = r#"{"outcome":"allow","reason":"allowed","rule":null,"message":null,"steps":[]}"#;
        assert_eq!(evaluate(&policy, "u", "{}").granted(&[]).to_json(), allow);
    }

    #[test]
    fn every_reason_has_a_code_of_its_own() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
    }
}
