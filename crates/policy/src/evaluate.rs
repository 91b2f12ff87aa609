//! The decision: `(Policy, Call) -> Plan`.
//!
//! Hidden names first, then the posture, then the rules of the most specific entry (the exact name, else the longest glob, else
//! the tool's class) in file order, then those of `*`. The first that denies ends it; a question counts only when nothing denies; what is left are
//! the charges. A rule that cannot be judged denies. A rule in shadow mode is judged like any other, and only noted.
//!
//! There is no clock here, no counter and no store: the time is the call's, and counters are somebody else's.

use crate::amount::Amount;
use crate::approval::{Asking, Webhook};
use crate::condition::CannotJudge;
use crate::decision::{ApprovalTerms, Charge, Decision, Once, Outcome, Plan, Reason, Step, StepResult, clock, note_shadow};
use crate::definitions::Definitions;
use crate::model::names::Names;
use crate::model::{
    AmountFrom, Bound, Check, Condition, Counter, Entry, Limit, Mode, Pattern, Policy, Posture, Rule, Scope, Validate, Watch,
};
use crate::risk::RiskClass;
use crate::schedule::Schedule;
use crate::validate::{Refusal, ToolSchema};
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
    /// What the tool may do, by its definition; `None` counts as every class at once. [`Policy::needs_class`] says whether it
    /// matters.
    pub class: Option<RiskClass>,
    /// When.
    pub at: Timestamp,
    /// Whether the decision keeps its steps. They are for people, and cost more than the decision.
    pub explained: bool,
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
        evaluate(std::iter::once(self), call)
    }

    /// Whether a tool of this class appears in lists: it is not hidden, and it is listed where the posture is to deny. The class
    /// as in [`Call::class`].
    pub fn lists(&self, tool: &str, class: Option<RiskClass>) -> bool {
        let refused = || self.hides(tool) || self.hidden_class(tool, class).is_some() || self.leaves_out(tool, class);
        self.mode == Mode::Shadow || !(refused() || self.imitated(tool).is_some())
    }

    /// Whether it matters of which class this tool is.
    pub fn needs_class(&self, tool: &str) -> bool {
        self.names().knows_classes() && !self.is_named(tool)
    }

    /// Whether some rule for this tool, of whatever class it is, judges arguments by its schema.
    pub fn needs_schema(&self, tool: &str) -> bool {
        self.rules_for(tool, None).any(|(_, rule)| rule.checks.iter().any(|check| matches!(check, Check::Validate(_))))
    }

    /// Whether some rule for this tool, of whatever class it is, may ask for an approval.
    pub fn may_ask(&self, tool: &str) -> bool {
        self.mode == Mode::Enforce
            && self.rules_for(tool, None).any(|(_, rule)| rule.checks.iter().any(|check| matches!(check, Check::Ask { .. })))
    }

    /// What the policy says of definitions that are not those that were pinned.
    pub fn definitions(&self) -> Definitions {
        self.definitions
    }

    /// Who is told that a call waits for an approval.
    pub fn webhook(&self) -> Option<&Webhook> {
        self.webhook.as_ref()
    }

    /// The same policy, with relative paths of the secrets that it refers to taken from the place of the file called `name`: for
    /// one that was read from no file.
    #[must_use]
    pub fn beside(self, name: &str) -> Policy {
        Policy { webhook: self.webhook.map(|webhook| webhook.beside(name)), ..self }
    }

    /// Names this version of the policy in records and approvals: 16 hexadecimal digits.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// What happens to a tool that no entry names.
    pub fn posture(&self) -> Posture {
        self.posture
    }

    /// Whether the policy as a whole is only tried out: it decides, and stops nothing.
    pub fn is_shadow(&self) -> bool {
        self.mode == Mode::Shadow
    }

    /// What the file says about itself.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// The rules that apply to a tool, in the order in which they are judged, each with its effective mode.
    pub(crate) fn rules_for(&self, tool: &str, class: Option<RiskClass>) -> impl Iterator<Item = (Mode, &Rule)> {
        let mode = |entry: &Entry, rule: &Rule| self.mode.max(entry.mode).max(rule.mode);
        let entries = self.entries_for(tool, class);
        entries.flat_map(move |entry| entry.rules.iter().map(move |rule| (mode(entry, rule), rule)))
    }

    /// The entries that apply to a tool: those that fit it best, then those of every tool.
    pub(crate) fn entries_for(&self, tool: &str, class: Option<RiskClass>) -> impl Iterator<Item = &Entry> {
        let names = self.names();
        let precision = move |entry: usize| self.entries[entry].pattern.precision(tool);
        let exact = names.entries(tool);
        // An exact name is better than any glob, a longer glob better than a shorter one.
        let globs = if exact.is_empty() { names.entry_globs() } else { &[] };
        let best = globs.iter().filter_map(|&entry| precision(entry)).max();
        let globs = globs.iter().filter(move |&&entry| best.is_some() && precision(entry) == best);
        let is_named = !exact.is_empty() || best.is_some();
        let of_class = (!is_named).then(|| names.class_entries(class)).into_iter().flatten();
        exact.iter().chain(globs).chain(of_class).chain(names.for_all()).map(|&entry| &self.entries[entry])
    }

    fn names(&self) -> &Names {
        self.names.get_or_init(|| Names::of(&self.hidden, &self.entries))
    }

    fn hides(&self, tool: &str) -> bool {
        let names = self.names();
        names.hides(tool) || names.hidden_globs().iter().any(|&pattern| self.hidden[pattern].matches(tool))
    }

    /// The name in the policy that a careless server could take this one for: by case, or Unicode normalisation.
    ///
    /// Where tools may be called that no entry names, `Delete_Repo` would otherwise pass by the rules of `delete_repo`.
    fn imitated(&self, tool: &str) -> Option<&str> {
        let names = self.names();
        // What a class says is for such tools, too.
        let only_named = self.posture == Posture::Deny && names.class_entries(None).next().is_none();
        if only_named || names.knows(tool) {
            return None;
        }
        let pattern = |number: usize| match number.checked_sub(self.hidden.len()) {
            Some(entry) => &self.entries[entry].pattern,
            None => &self.hidden[number],
        };
        let entry_globs = names.entry_globs().iter().map(|entry| self.hidden.len() + entry);
        let mut globs = names.hidden_globs().iter().copied().chain(entry_globs);
        let glob = globs.find(|&number| pattern(number).imitated_by(tool).is_some());
        // Of both kinds the one that stands first.
        let first = [names.folded(tool), glob].into_iter().flatten().min()?;
        pattern(first).imitated_by(tool)
    }

    fn leaves_out(&self, tool: &str, class: Option<RiskClass>) -> bool {
        let names = self.names();
        let listed = || names.entry_globs().iter().any(|&entry| self.entries[entry].pattern.lists(tool));
        let of_class = || is_plain(tool) && names.has_entries(class) && !self.is_named(tool);
        self.posture == Posture::Deny && names.entries(tool).is_empty() && !listed() && !of_class()
    }

    /// Whether an entry names the tool or a pattern of its name: what is said of its class is not meant for it then.
    pub(crate) fn is_named(&self, tool: &str) -> bool {
        let names = self.names();
        let by_glob = || names.entry_globs().iter().any(|&entry| self.entries[entry].pattern.precision(tool).is_some());
        !names.entries(tool).is_empty() || by_glob()
    }

    /// Whether more is said of a class than that its tools may be called.
    pub(crate) fn restricts_class(&self, class: RiskClass) -> bool {
        let names = self.names();
        let restricts = |&entry: &usize| self.entries[entry].rules.iter().any(|rule| !rule.checks.is_empty());
        names.hidden_class(Some(class)).is_some() || names.class_entries(Some(class)).any(restricts)
    }

    /// The class for the sake of which a tool is hidden, if it is.
    pub(crate) fn hidden_class(&self, tool: &str, class: Option<RiskClass>) -> Option<RiskClass> {
        self.names().hidden_class(class).filter(|_| !self.is_named(tool))
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
            Pattern::Class(_) | Pattern::Any => None,
        }
    }

    /// The pattern, if it fits the name only for a careless reader.
    pub(crate) fn imitated_by(&self, tool: &str) -> Option<&str> {
        let fits = match self {
            Pattern::Exact(name) => json::same_folded(name, tool),
            Pattern::Glob(glob) => matches(json::fold(glob).as_bytes(), json::fold(tool).as_bytes()),
            Pattern::Class(_) | Pattern::Any => false,
        };
        let (Pattern::Exact(text) | Pattern::Glob(text)) = self else { return None };
        (fits && !self.matches(tool)).then_some(text)
    }

    /// Whether the pattern lists the tool under default deny.
    ///
    /// A glob lists only names of letters, digits, `_`, `-`, `.` and `/`: who writes `read_*` has not seen `read_x; drop`.
    /// It *restricts* every name that it fits.
    fn lists(&self, tool: &str) -> bool {
        match self {
            Pattern::Exact(_) => self.matches(tool),
            Pattern::Glob(_) => is_plain(tool) && self.matches(tool),
            Pattern::Class(_) | Pattern::Any => false,
        }
    }
}

/// Judges a call by several policies, in order: the first denial ends it, questions and charges add up. By none, it is denied.
pub(crate) fn evaluate<'p>(policies: impl IntoIterator<Item = &'p Policy>, call: &Call<'_>) -> Plan {
    let mut judging =
        Judging { call, decision: Decision::allow(), charges: Vec::new(), looks: Vec::new(), once: None, approval: None };
    let mut policies = policies.into_iter().peekable();
    let judged = match policies.peek() {
        Some(_) => policies.try_for_each(|policy| judging.rules(policy)),
        None => judging.without_policy(),
    };
    if judged.is_err() {
        // A denial takes nothing and asks for nothing.
        judging.charges.clear();
        judging.looks.clear();
        (judging.once, judging.approval) = (None, None);
    }
    judging.plan()
}

/// Whether a name is of letters, digits, `_`, `-`, `.` and `/`: who speaks of many tools has such names in mind.
fn is_plain(tool: &str) -> bool {
    tool.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b))
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

    /// In words of its own: a rule's "limit exceeded" would send the model looking in the wrong place.
    fn bad_amount(problem: &str) -> Objection {
        Objection::new(Reason::BadAmount, sentence(problem))
    }
}

struct Judging<'c> {
    call: &'c Call<'c>,
    decision: Decision,
    charges: Vec<Charge>,
    /// Charges that only look at a counter.
    looks: Vec<Charge>,
    once: Option<Once>,
    approval: Option<ApprovalTerms>,
}

impl Judging<'_> {
    /// What nothing allows is denied.
    fn without_policy(&mut self) -> Result<(), Denied> {
        let rule: Arc<str> = "(no policy)".into();
        self.step(&rule, "policy", StepResult::Failed, "neither the server nor the grant has a policy");
        self.object(&rule, Mode::Enforce, Objection::new(Reason::Unlisted, no_such_tool(self.call.tool)))
    }

    fn rules(&mut self, policy: &Policy) -> Result<(), Denied> {
        let tool = self.call.tool;
        let no_such_tool = || no_such_tool(tool);
        if policy.hides(tool) {
            let rule: Arc<str> = "(hidden)".into();
            self.step(&rule, "hide", StepResult::Matched, "");
            self.object(&rule, policy.mode, Objection::new(Reason::Hidden, no_such_tool()))?;
        }
        if let Some(known) = policy.imitated(tool) {
            let rule: Arc<str> = "(look-alike)".into();
            self.step(&rule, "name", StepResult::Matched, format!("could be taken for `{known}`"));
            self.object(&rule, policy.mode, Objection::new(Reason::UnknownTool, no_such_tool()))?;
        }
        let class = self.call.class;
        if policy.needs_class(tool) {
            let of_class = match class {
                Some(class) => format!("{class}, by its definition"),
                None => "its definition is not known, so that it counts as every class".to_owned(),
            };
            self.step(&"(risk)".into(), "class", StepResult::Matched, of_class);
        }
        if let Some(hidden) = policy.hidden_class(tool, class) {
            let rule: Arc<str> = format!("/risk/{}", hidden.key()).into();
            self.step(&rule, "hide", StepResult::Matched, "");
            self.object(&rule, policy.mode, Objection::new(Reason::Hidden, no_such_tool()))?;
        }
        if policy.leaves_out(tool, class) {
            let rule: Arc<str> = "(default deny)".into();
            self.step(&rule, "default", StepResult::Failed, "the policy does not list this tool");
            self.object(&rule, policy.mode, Objection::new(Reason::Unlisted, no_such_tool()))?;
        }
        for (mode, rule) in policy.rules_for(tool, class) {
            for check in &rule.checks {
                self.check(check, rule, mode)?;
            }
        }
        if self.call.explained {
            for (mode, results) in policy.results_for(tool, class) {
                let detail = if mode == Mode::Shadow { "in shadow mode" } else { "judged when the server answers" };
                self.step(&results.reference, results.describe(), StepResult::Skipped, detail);
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
            Check::Ask { when, asking } => self.ask(when, asking, rule, mode),
            Check::Limit(limit) => self.limit(limit, rule, mode),
            Check::PerCall { amount, max } => self.per_call(amount, *max, rule),
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

    fn ask(&mut self, when: &[Condition], asking: &Asking, rule: &Rule, mode: Mode) -> Result<(), Objection> {
        if !self.all_hold(when, rule)? {
            return Ok(());
        }
        self.step(&rule.reference, "require_approval", StepResult::Matched, if mode == Mode::Shadow { SHADOW } else { "" });
        if mode == Mode::Shadow {
            let message = said(rule).unwrap_or_else(|| "This call needs a person's approval.".to_owned());
            note_shadow(&mut self.decision.shadow, Outcome::Ask, Reason::ApprovalRequired, &rule.reference, message);
        } else {
            let terms = ApprovalTerms {
                timeout_ms: millis(asking.timeout),
                wait_ms: millis(asking.wait),
                quorums: vec![asking.quorum.clone()],
                rule: rule.reference.clone(),
                message: said(rule),
            };
            self.approval = Some(match self.approval.take() {
                Some(before) => before.and(terms),
                None => terms,
            });
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
            Err(error) => (StepResult::Error, Cow::Owned(error.problem().to_owned())),
        };
        if self.call.explained {
            self.step(&rule.reference, condition.text(), result, detail);
        }
        judged.map_err(|error| match error {
            CannotJudge::Value(problem) => Objection::new(Reason::RuleError, said(rule).unwrap_or_else(|| sentence(&problem))),
            CannotJudge::Amount(problem) => Objection::bad_amount(&problem),
        })
    }

    fn limit(&mut self, limit: &Limit, rule: &Rule, mode: Mode) -> Result<(), Objection> {
        let amount = match self.amount(limit) {
            Ok(amount) => amount,
            Err(error) => {
                let check = format!("amount for {}", limit.counter.name);
                self.step(&rule.reference, check, StepResult::Error, error.problem().to_owned());
                return Err(Objection::bad_amount(error.problem()));
            }
        };
        let bound = Bound::AtMost(limit.max);
        let charge = charge(limit.counter.clone(), amount, bound, limit.counts_calls(), rule, mode);
        self.charges.push(Charge { lease: limit.lease, ..charge });
        Ok(())
    }

    fn per_call(&mut self, amount: &AmountFrom, max: Amount, rule: &Rule) -> Result<(), Objection> {
        let check = if self.call.explained { format!("{} per_call {max}", amount.text()) } else { String::new() };
        match amount.of(self.call.arguments) {
            Err(error) => {
                self.step(&rule.reference, check, StepResult::Error, error.problem().to_owned());
                Err(Objection::bad_amount(error.problem()))
            }
            Ok(amount) if amount <= max => {
                self.step(&rule.reference, check, StepResult::Held, "");
                Ok(())
            }
            Ok(_) => {
                self.step(&rule.reference, check, StepResult::Failed, "");
                let message = said(rule).unwrap_or_else(|| sentence(&format!("`{}` must be at most {max}", amount.text())));
                Err(Objection::new(Reason::ConditionFailed, message))
            }
        }
    }

    fn amount(&self, limit: &Limit) -> Result<Amount, CannotJudge> {
        let amount = limit.amount.of(self.call.arguments)?;
        let Some(weight) = &limit.weight else { return Ok(amount) };
        let weight = weight.of(self.call.arguments)?;
        let product = u128::from(amount.micros()) * u128::from(weight.micros());
        let unit = u128::from(Amount::ONE.micros());
        let exact = (product % unit == 0).then(|| u64::try_from(product / unit).ok()).flatten();
        exact.and_then(Amount::from_micros).ok_or_else(|| {
            CannotJudge::Amount(format!(
                "the amount for `{}` must have at most six decimals and be below 9 trillion",
                limit.counter.name
            ))
        })
    }

    fn watch(&mut self, watch: &Watch, rule: &Rule, mode: Mode) {
        self.looks.push(charge(watch.counter.clone(), Amount::ZERO, watch.bound, false, rule, mode));
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
        let check = if self.call.explained { format!("time {schedule}") } else { String::new() };
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
        if self.call.explained {
            self.decision.steps.push(Step { rule: rule.clone(), check: check.into(), result, detail: detail.into() });
        }
    }

    fn plan(mut self) -> Plan {
        if let Some(terms) = &self.approval {
            self.decision.outcome = Outcome::Ask;
            self.decision.reason = Reason::ApprovalRequired;
            self.decision.rule = Some(terms.rule.clone());
            let said = terms.message.clone();
            self.decision.message = Some(said.unwrap_or_else(|| "This call needs a person's approval.".to_owned()));
        }
        let charges = one_for_each_counter(self.charges, self.looks);
        let Call { at, explained, .. } = *self.call;
        Plan { decision: self.decision, charges, once: self.once, approval: self.approval, at, explained }
    }
}

impl Limit {
    fn counts_calls(&self) -> bool {
        matches!(self.amount, crate::model::AmountFrom::Fixed(Amount::ONE)) && self.weight.is_none()
    }
}

fn charge(counter: Arc<Counter>, amount: Amount, bound: Bound, counts_calls: bool, rule: &Rule, mode: Mode) -> Charge {
    let message = rule.message.clone();
    Charge { counter, amount, bound, rule: rule.reference.clone(), mode, lease: None, message, counts_calls }
}

/// Sorts charges by counter, and leaves at most one for each counter besides those that only look: a call is counted once,
/// however many rules bound the counter. Of two the lower bound stays (an enforced one before one in shadow), with the larger
/// amount: so the counter passes neither bound, whatever the two amounts are.
/// Those that only look come before it, so that they see the counter as it was before the call.
fn one_for_each_counter(mut charges: Vec<Charge>, mut looks: Vec<Charge>) -> Vec<Charge> {
    let key = |charge: &Charge| {
        let Counter { owner, name, window, scope } = &*charge.counter;
        (owner.clone(), name.clone(), window.key(), order(*scope))
    };
    charges.sort_by_cached_key(key);
    let mut kept: Vec<Charge> = Vec::with_capacity(charges.len());
    for charge in charges {
        match kept.last_mut() {
            Some(last) if last.counter == charge.counter => {
                let amount = last.amount.max(charge.amount);
                let counts_calls = last.counts_calls && charge.counts_calls;
                let most = |charge: &Charge| match charge.bound {
                    Bound::AtMost(most) => most.micros(),
                    Bound::AtLeast(_) => u64::MAX,
                };
                if (charge.mode, most(&charge)) < (last.mode, most(last)) {
                    *last = charge;
                }
                (last.amount, last.counts_calls) = (amount, counts_calls);
            }
            _ => kept.push(charge),
        }
    }
    looks.append(&mut kept);
    // Stable: of one counter, those that look stay before the one that takes.
    looks.sort_by_cached_key(key);
    looks
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

/// The same words whether a tool is hidden, unlisted or does not exist: what is hidden stays hidden.
fn no_such_tool(tool: &str) -> String {
    format!("There is no tool `{}` here. Use one from `tools/list`.", tool.escape_debug())
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
mod tests;
