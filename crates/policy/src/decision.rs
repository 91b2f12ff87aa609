//! What was decided, and why.
//!
//! [`Policy::evaluate`](crate::Policy::evaluate) gives a [`Plan`]: a decision that holds *if* its charges succeed. Whoever
//! keeps the counters takes the charges and turns the plan into the final [`Decision`] with one of the plan's methods. The
//! decision explains itself: its steps were recorded while it was made, where anybody wants them, and nothing is evaluated twice.
//!
//! Messages are for a model to read: short, saying what would work and when. They name what the policy asks for, never the
//! values that were sent, for messages are recorded where arguments may not be.

use crate::amount::Amount;
use crate::approval::{Asking, Quorum};
use crate::model::{Bound, Counter, Mode, Template};
use crate::window::{instant, length_phrase};
use jiff::Timestamp;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What happens to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It goes to the server.
    Allow,
    /// A person is asked first.
    Ask,
    /// It does not.
    Deny,
}

impl Outcome {
    /// `allow`, `ask`, `deny`.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Allow => "allow",
            Outcome::Ask => "ask",
            Outcome::Deny => "deny",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// Why. Each has a code in kebab-case that never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, in the order of this list.
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];

            /// The code: `limit-reached`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$name => $code,)*
                }
            }

            /// The reason with this code.
            pub fn parse(code: &str) -> Option<Reason> {
                Reason::ALL.iter().copied().find(|reason| reason.as_str() == code)
            }
        }
    };
}

reasons! {
    /// Nothing stands against it.
    Allowed = "allowed",
    /// The policy hides the tool.
    Hidden = "hidden",
    /// The policy denies what it does not list, and does not list the tool.
    Unlisted = "default-deny",
    /// The policy names no such tool, but one that this could be taken for.
    UnknownTool = "unknown-tool",
    /// A rule denies always.
    Forbidden = "denied-by-rule",
    /// A condition that must hold does not.
    ConditionFailed = "condition-failed",
    /// The conditions under which a rule denies all hold.
    ConditionMatched = "condition-matched",
    /// A condition could not be judged: a value of the wrong type.
    RuleError = "rule-error",
    /// The arguments do not satisfy the tool's schema.
    InvalidArguments = "invalid-arguments",
    /// The tool's schema is not known, or cannot be judged by.
    SchemaUnknown = "schema-unknown",
    /// An amount is missing, negative, too large or too precise.
    BadAmount = "bad-amount",
    /// A counter is exhausted.
    LimitReached = "limit-reached",
    /// The tool may not be used at this time.
    OutsideHours = "outside-hours",
    /// The same call was made a short while ago.
    DuplicateCall = "duplicate-call",
    /// A person must approve first.
    ApprovalRequired = "approval-required",
    /// A person has said no.
    ApprovalDenied = "approval-denied",
    /// Too many approvals are waiting.
    TooManyApprovals = "too-many-approvals",
    /// The message is not one that every reader would read alike.
    Malformed = "malformed",
    /// The policy refuses this method.
    MethodRefused = "method-refused",
    /// The policy does not allow the server to ask its client for this.
    ServerRequestRefused = "server-request-refused",
    /// What the server is to be handed back was not issued for this call.
    UnknownState = "unknown-state",
    /// The task was not made for this caller.
    UnknownTask = "unknown-task",
    /// The tool is not among the definitions that were pinned.
    DefinitionUnpinned = "definition-unpinned",
    /// The tool's definition is not the one that was pinned.
    DefinitionChanged = "definition-changed",
    /// The tool's name or definition holds what hides, its name could be taken for another, or its list defines it twice.
    DefinitionRefused = "definition-refused",
    /// The tool's definition cannot be compared with the pinned one: the server does not say it.
    DefinitionUnknown = "definition-unknown",
    /// What came back is not given to the client.
    ResultWithheld = "result-withheld",
    /// The grant was revoked or has expired.
    GrantEnded = "grant-ended",
    /// The server is gone, or is another by now.
    ServerReplaced = "server-replaced",
    /// The call can be neither counted nor recorded.
    StoreUnavailable = "store-unavailable",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that was looked at on the way to a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whose check it was: the rule's reference.
    pub rule: Arc<str>,
    /// What was checked, in the policy's words: `args.amount lte 1000`.
    pub check: Cow<'static, str>,
    /// What came of it.
    pub result: StepResult,
    /// More about it, possibly empty. Never holds the value of an argument.
    pub detail: Cow<'static, str>,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepResult {
    /// What must hold does.
    Held,
    /// What must hold does not.
    Failed,
    /// It could not be judged, and so denies.
    Error,
    /// An amount was taken.
    Charged,
    /// It had no effect.
    Skipped,
    /// The conditions under which it denies or asks are given.
    Matched,
}

impl StepResult {
    /// `held`, `failed`, `error`, `charged`, `skipped`, `matched`.
    pub fn as_str(self) -> &'static str {
        match self {
            StepResult::Held => "held",
            StepResult::Failed => "failed",
            StepResult::Error => "error",
            StepResult::Charged => "charged",
            StepResult::Skipped => "skipped",
            StepResult::Matched => "matched",
        }
    }
}

/// What would have been decided if rules in shadow mode were enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// [`Outcome::Ask`] or [`Outcome::Deny`].
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// By which rule.
    pub rule: Option<Arc<str>>,
    /// What the model would have read.
    pub message: Option<String>,
}

/// What was decided about one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// Which rule decided; none, when nothing stood against the call.
    pub rule: Option<Arc<str>>,
    /// What the model is told; none for an allow.
    pub message: Option<String>,
    /// After how many milliseconds the same call may succeed, where that is known.
    pub retry_after_ms: Option<u64>,
    /// How the decision came about.
    pub steps: Vec<Step>,
    /// What rules in shadow mode would have made of it.
    pub shadow: Option<Shadow>,
}

impl Decision {
    /// A denial that no rule has made: a malformed message, a store that does not answer.
    pub fn deny(reason: Reason, message: impl Into<String>) -> Decision {
        Decision { outcome: Outcome::Deny, reason, message: Some(message.into()), ..Decision::allow() }
    }

    /// An allow that needed no rule: a message that is no tool call.
    pub fn allow() -> Decision {
        Decision {
            outcome: Outcome::Allow,
            reason: Reason::Allowed,
            rule: None,
            message: None,
            retry_after_ms: None,
            steps: Vec::new(),
            shadow: None,
        }
    }

    /// One JSON object: `outcome`, `reason`, `rule`, `message`, `steps`, and where there is one, `retryAfterMs` and `shadow`.
    pub fn to_json(&self) -> String {
        let mut out = format!(
            r#"{{"outcome":"{}","reason":"{}","rule":{},"message":{}"#,
            self.outcome,
            self.reason,
            quote_or_null(self.rule.as_deref()),
            quote_or_null(self.message.as_deref())
        );
        if let Some(millis) = self.retry_after_ms {
            out.push_str(&format!(r#","retryAfterMs":{millis}"#));
        }
        if let Some(shadow) = &self.shadow {
            out.push_str(&format!(
                r#","shadow":{{"outcome":"{}","reason":"{}","rule":{},"message":{}}}"#,
                shadow.outcome,
                shadow.reason,
                quote_or_null(shadow.rule.as_deref()),
                quote_or_null(shadow.message.as_deref())
            ));
        }
        out.push_str(r#","steps":["#);
        for (i, step) in self.steps.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            out.push_str(&format!(
                r#"{comma}{{"rule":{},"check":{},"result":"{}","detail":{}}}"#,
                json::quote(&step.rule),
                json::quote(&step.check),
                step.result.as_str(),
                json::quote(&step.detail)
            ));
        }
        out.push_str("]}");
        out
    }
}

/// An amount to take from a counter.
#[derive(Clone, Debug)]
pub struct Charge {
    /// From which.
    pub counter: Arc<Counter>,
    /// How much. Zero takes nothing, but still fails where the counter is past its bound.
    pub amount: Amount,
    /// What the counter must satisfy: `AtMost` after the charge, `AtLeast` before it.
    pub bound: Bound,
    /// The rule that demands it.
    pub rule: Arc<str>,
    /// In [`Mode::Shadow`] the amount is counted, and the charge never refused.
    pub mode: Mode,
    /// How much whoever keeps the counter for several gateways may hand to one of them at a time.
    pub lease: Option<Amount>,
    pub(crate) message: Option<Template>,
    /// Whether the counter counts calls: one each, whatever they hold.
    pub(crate) counts_calls: bool,
}

impl Charge {
    /// A charge without a message of its own.
    pub fn new(counter: Arc<Counter>, amount: Amount, bound: Bound, rule: Arc<str>, mode: Mode) -> Charge {
        let counts_calls = amount == Amount::ONE;
        Charge { counter, amount, bound, rule, mode, lease: None, message: None, counts_calls }
    }

    /// How the counter stands at `now`, before this charge.
    ///
    /// `held` are the counter's buckets as (start, amount), in any order; those that no longer count may be among them.
    pub fn usage(&self, held: &[(i64, Amount)], now: i64) -> Usage {
        let window = &self.counter.window;
        let from = window.counts_from(now);
        let counted = held.iter().copied().filter(|&(start, _)| start >= from);
        let used = sum(counted.clone());
        // The bucket after whose end this charge fits; when it fits already, or never will, the one that goes next or last.
        let bucket = match self.bound {
            Bound::AtMost(_) if !self.within(used) => {
                let mut counted: Vec<(i64, Amount)> = counted.collect();
                counted.sort_unstable();
                let fits = (0..counted.len()).find(|&i| self.within(sum(counted[i + 1..].iter().copied())));
                fits.map(|i| counted[i]).or(counted.last().copied()).map(|(start, _)| start)
            }
            Bound::AtMost(_) | Bound::AtLeast(_) => counted.map(|(start, _)| start).min(),
        };
        let resets_at = window.frees_at(bucket.unwrap_or_else(|| window.bucket(now)));
        let wait = u64::try_from(resets_at.saturating_sub(now)).unwrap_or(0);
        Usage { used, resets_at, retry_after_ms: wait.clamp(1, window.longest_wait()) }
    }

    /// Whether the charge must be refused. Never, in shadow mode.
    pub fn refuses(&self, usage: &Usage) -> bool {
        self.mode == Mode::Enforce && !self.within(usage.used)
    }

    /// Whether the bound holds when so much is used before this charge.
    fn within(&self, used: Amount) -> bool {
        match self.bound {
            Bound::AtMost(most) => used.checked_add(self.amount).is_some_and(|sum| sum <= most),
            Bound::AtLeast(least) => used >= least,
        }
    }

    fn reason(&self) -> Reason {
        match self.bound {
            Bound::AtMost(_) => Reason::LimitReached,
            Bound::AtLeast(_) => Reason::ConditionFailed,
        }
    }

    fn check(&self) -> String {
        let bound = match self.bound {
            Bound::AtMost(most) => format!("at most {}", self.shown(most)),
            Bound::AtLeast(least) => format!("at least {least}"),
        };
        format!("{} {bound} {}", self.counter.name, self.counter.window.phrase())
    }

    /// A bound as people count: `lt 3` on calls is "2", not 2.999999.
    fn shown(&self, amount: Amount) -> Amount {
        if self.counts_calls { Amount::whole(amount.micros() / Amount::ONE.micros()).unwrap_or(amount) } else { amount }
    }

    /// `spend=400/1000`
    fn standing(&self, used: Amount) -> String {
        let (Bound::AtMost(bound) | Bound::AtLeast(bound)) = self.bound;
        format!("{}={used}/{}", self.counter.name, self.shown(bound))
    }

    fn refusal(&self, usage: &Usage, at: Timestamp) -> String {
        let (Bound::AtMost(bound) | Bound::AtLeast(bound)) = self.bound;
        let time = clock(instant(usage.resets_at), at);
        if let Some(template) = &self.message {
            return template.fill(&[
                ("used", &usage.used.to_string()),
                ("max", &self.shown(bound).to_string()),
                ("resets_at", &time),
            ]);
        }
        let name = &self.counter.name;
        let most = match self.bound {
            Bound::AtLeast(least) => return format!("`{name}` stands at {} and must reach {least} first.", usage.used),
            Bound::AtMost(most) => self.shown(most),
        };
        if let Some(unit @ ("minute" | "hour" | "day")) = name.strip_prefix("_rate_") {
            // The wording of Intercept's `rate_limit: N/W`, which scripts and prompts of its users know.
            return format!("Rate limit of {most} per {unit} reached. Try again later.");
        }
        let per = self.counter.window.phrase();
        if self.counts_calls {
            let calls = if most == Amount::ONE { "call" } else { "calls" };
            return format!("Limit of {most} {calls} {per} reached. Try again after {time}.");
        }
        let left = bound.saturating_sub(usage.used);
        if self.amount > bound {
            format!("This call needs {} of `{name}`; at most {most} {per} is allowed.", self.amount)
        } else if left == Amount::ZERO || self.amount == Amount::ZERO {
            format!("Limit of {most} {per} for `{name}` reached. Try again after {time}.")
        } else {
            format!("Limit of {most} {per} for `{name}` reached: use at most {left} now, or try again after {time}.")
        }
    }
}

/// What these buckets hold together; at most the largest amount.
fn sum(mut buckets: impl Iterator<Item = (i64, Amount)>) -> Amount {
    buckets.try_fold(Amount::ZERO, |sum, (_, amount)| sum.checked_add(amount)).unwrap_or(Amount::MAX)
}

/// How a counter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What it holds, before the charge in question.
    pub used: Amount,
    /// When the charge would fit, in milliseconds since the Unix epoch; when it fits already, when the oldest amount goes.
    pub resets_at: i64,
    /// The same from now on: from 1 to the window's length and one sixtieth of it.
    pub retry_after_ms: u64,
}

/// A demand that the same call not be made twice in a short while.
#[derive(Clone, Debug)]
pub struct Once {
    /// Within how many milliseconds.
    pub window_ms: u64,
    /// The rule that demands it.
    pub rule: Arc<str>,
    pub(crate) message: Option<Template>,
}

/// On what terms a person is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalTerms {
    /// How long an approval waits, and then how long it may be used, in milliseconds.
    pub timeout_ms: u64,
    /// How long the call itself waits for the answer, in milliseconds; 0 where it does not.
    pub wait_ms: u64,
    /// Who must say yes: all of these must be met, each by different people.
    pub quorums: Vec<Quorum>,
    /// The rule that asks; of several, the first.
    pub rule: Arc<str>,
    /// What the policy says about it.
    pub message: Option<String>,
}

impl ApprovalTerms {
    /// The terms where another rule asks too: nobody's demand is dropped for another's.
    pub fn and(mut self, other: ApprovalTerms) -> ApprovalTerms {
        self.timeout_ms = self.timeout_ms.min(other.timeout_ms);
        self.wait_ms = self.wait_ms.max(other.wait_ms);
        for quorum in other.quorums {
            if !self.quorums.contains(&quorum) {
                self.quorums.push(quorum);
            }
        }
        self.message = self.message.or(other.message);
        self
    }

    /// What is special about who must say yes, as a sentence; empty where any one person may.
    fn demand(&self) -> String {
        let special = self.quorums.iter().filter(|quorum| **quorum != Quorum::anybody());
        let demands: Vec<String> = special
            .map(|quorum| match &*quorum.of {
                [] => format!("{} people", quorum.count),
                _ => quorum.to_string(),
            })
            .collect();
        if demands.is_empty() { String::new() } else { format!(" It needs the approval of {}.", demands.join(" and ")) }
    }
}

/// A decision that holds if what it takes can be taken.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `Allow`, if the charges succeed; `Ask`, if an approval is spent as well; `Deny` is final.
    pub decision: Decision,
    /// All are taken, or none. Sorted by counter, so that two calls lock in one order; on one counter, those that take
    /// nothing come first, and at most one takes something. Empty for a denial.
    pub charges: Vec<Charge>,
    /// Whether the call must differ from recent ones.
    pub once: Option<Once>,
    /// The terms of an `Ask`.
    pub approval: Option<ApprovalTerms>,
    /// When it was evaluated.
    pub(crate) at: Timestamp,
    /// Whether steps are kept.
    pub(crate) explained: bool,
}

impl Plan {
    /// The same plan where a person must agree first, whatever the rules say; `said` is what that person and the model are
    /// told. A denial stays one, and terms that a rule has made are kept.
    pub fn asking(mut self, rule: &str, said: &str) -> Plan {
        if self.decision.outcome == Outcome::Deny {
            return self;
        }
        let rule: Arc<str> = rule.into();
        if self.decision.outcome == Outcome::Allow {
            self.decision.outcome = Outcome::Ask;
            self.decision.reason = Reason::ApprovalRequired;
            self.decision.rule = Some(rule.clone());
        }
        let asking = Asking::default();
        let terms = ApprovalTerms {
            timeout_ms: u64::try_from(asking.timeout.as_millis()).unwrap_or(u64::MAX),
            wait_ms: 0,
            quorums: vec![asking.quorum],
            rule,
            message: Some(said.to_owned()),
        };
        self.approval = Some(match self.approval.take() {
            Some(before) => before.and(terms),
            None => terms,
        });
        self
    }

    /// The decision when everything was taken; `usages` are those of the charges, in their order.
    ///
    /// A plan that denies, or asks and has not been [`approved`](Plan::approved), stays what it is.
    pub fn granted(mut self, usages: &[Usage]) -> Decision {
        if self.decision.outcome != Outcome::Allow {
            return self.decision;
        }
        for (charge, usage) in self.charges.iter().zip(usages) {
            let after = usage.used.checked_add(charge.amount).unwrap_or(Amount::MAX);
            let passes = charge.within(usage.used);
            if !passes {
                let message = charge.refusal(usage, self.at);
                note_shadow(&mut self.decision.shadow, Outcome::Deny, charge.reason(), &charge.rule, message);
            }
            if !self.explained {
                continue;
            }
            let note = if passes { "" } else { " (shadow: not enforced)" };
            self.decision.steps.push(Step {
                rule: charge.rule.clone(),
                check: charge.check().into(),
                result: if charge.amount == Amount::ZERO { StepResult::Held } else { StepResult::Charged },
                detail: format!("{}{note}", charge.standing(after)).into(),
            });
        }
        self.decision
    }

    /// The decision when the charge at `index` did not fit, and nothing was taken.
    pub fn exhausted(self, index: usize, usage: &Usage) -> Decision {
        let Some(charge) = self.charges.get(index) else {
            // Only a store that breaks its contract gets here; and then nothing may pass.
            return Decision::deny(Reason::StoreUnavailable, "The gateway cannot count this call. Try again later.");
        };
        let retry_after_ms = (charge.reason() == Reason::LimitReached).then_some(usage.retry_after_ms);
        let message = charge.refusal(usage, self.at);
        let (reason, rule) = (charge.reason(), charge.rule.clone());
        let (check, detail) = (charge.check(), charge.standing(usage.used));
        self.denied(reason, rule, check, detail, message, retry_after_ms)
    }

    /// The decision when the same call was made `window_ms` ago or less; `first_id` is the id of that call's decision.
    pub fn duplicate(self, first_id: &str, retry_after_ms: u64) -> Decision {
        let (rule, window_ms, template) = match &self.once {
            Some(once) => (once.rule.clone(), once.window_ms, once.message.clone()),
            None => (Arc::from("idempotency_window"), retry_after_ms, None),
        };
        let resets_at = self.at.as_millisecond().saturating_add(i64::try_from(retry_after_ms).unwrap_or(i64::MAX));
        let time = clock(instant(resets_at), self.at);
        let length = length_phrase(window_ms);
        let message = match template {
            Some(template) => template.fill(&[("resets_at", &time)]),
            None => format!(
                "The same call was made within the last {length} ({first_id}). Change its arguments, or try again after {time}."
            ),
        };
        let detail = format!("first call: {first_id}");
        self.denied(
            Reason::DuplicateCall,
            rule,
            format!("idempotency_window {length}"),
            detail,
            message,
            Some(retry_after_ms.max(1)),
        )
    }

    /// The decision while a person has not answered.
    pub fn approval_pending(mut self, approval_id: &str) -> Decision {
        let (rule, timeout_ms, demand, said) = match self.approval.take() {
            Some(terms) => {
                let demand = terms.demand();
                (Some(terms.rule), terms.timeout_ms, demand, terms.message)
            }
            None => (self.decision.rule.take(), 0, String::new(), None),
        };
        let said = said.map_or_else(|| "This call needs a person's approval.".to_owned(), |said| said.trim_end().to_owned());
        let within = if timeout_ms == 0 { String::new() } else { format!(" within {}", length_phrase(timeout_ms)) };
        let message = format!(
            "{said}{demand} Ask the user to run `callgate approvals approve {approval_id}`{within}, then repeat exactly the same call."
        );
        self.decision.outcome = Outcome::Ask;
        self.decision.reason = Reason::ApprovalRequired;
        self.decision.rule = rule;
        self.decision.message = Some(message);
        self.decision
    }

    /// The decision when a person has said no.
    pub fn approval_denied(self, approval_id: &str) -> Decision {
        let rule = self.approval.as_ref().map_or_else(|| Arc::from("require_approval"), |terms| terms.rule.clone());
        let message = "A person has refused this call. Do not repeat it; ask the user how to go on.".to_owned();
        self.denied(Reason::ApprovalDenied, rule, "require_approval".to_owned(), format!("approval {approval_id}"), message, None)
    }

    /// The decision when too many approvals are waiting to open another.
    pub fn too_many_approvals(self) -> Decision {
        let rule = self.approval.as_ref().map_or_else(|| Arc::from("require_approval"), |terms| terms.rule.clone());
        let message =
            "Too many calls are waiting for approval. Ask the user to answer them with `callgate approvals list`.".to_owned();
        self.denied(Reason::TooManyApprovals, rule, "require_approval".to_owned(), String::new(), message, None)
    }

    /// The plan when an approval for this very call is being spent: an allow, if its charges succeed.
    ///
    /// A plan that denies stays a denial.
    pub fn approved(mut self, approval_id: &str) -> Plan {
        if self.decision.outcome == Outcome::Ask
            && let Some(terms) = self.approval.take()
        {
            self.decision.outcome = Outcome::Allow;
            self.decision.reason = Reason::Allowed;
            self.decision.rule = None;
            self.decision.message = None;
            if self.explained {
                self.decision.steps.push(Step {
                    rule: terms.rule,
                    check: "require_approval".into(),
                    result: StepResult::Held,
                    detail: format!("approval {approval_id} spent").into(),
                });
            }
        }
        self
    }

    fn denied(
        self,
        reason: Reason,
        rule: Arc<str>,
        check: String,
        detail: String,
        message: String,
        retry_after_ms: Option<u64>,
    ) -> Decision {
        let mut steps = self.decision.steps;
        if self.explained {
            steps.push(Step { rule: rule.clone(), check: check.into(), result: StepResult::Failed, detail: detail.into() });
        }
        Decision { rule: Some(rule), retry_after_ms, steps, ..Decision::deny(reason, message) }
    }
}

/// Notes what a rule in shadow mode would have done. The first counts, except that a denial counts more than a question.
pub(crate) fn note_shadow(shadow: &mut Option<Shadow>, outcome: Outcome, reason: Reason, rule: &Arc<str>, message: String) {
    let weaker = shadow.as_ref().is_none_or(|noted| noted.outcome == Outcome::Ask && outcome == Outcome::Deny);
    if weaker {
        *shadow = Some(Shadow { outcome, reason, rule: Some(rule.clone()), message: Some(message) });
    }
}

impl Template {
    /// The text with `{name}` replaced for each given name. What is put in is not looked at again.
    pub(crate) fn fill(&self, values: &[(&str, &str)]) -> String {
        let mut out = String::with_capacity(self.0.len());
        let mut rest = self.0.as_str();
        while let Some(open) = rest.find('{') {
            out.push_str(&rest[..open]);
            rest = &rest[open..];
            let placeholder = values.iter().find_map(|(name, value)| {
                let after = rest[1..].strip_prefix(name)?.strip_prefix('}')?;
                Some((value, after))
            });
            match placeholder {
                Some((value, after)) => {
                    out.push_str(value);
                    rest = after;
                }
                None => {
                    out.push('{');
                    rest = &rest[1..];
                }
            }
        }
        out.push_str(rest);
        out
    }
}

/// `10:32:00 UTC`, with the date when it is not that of `now`. Rounded up to a whole second, so that it is late enough.
pub(crate) fn clock(time: Timestamp, now: Timestamp) -> String {
    let utc = |time: Timestamp| time.to_zoned(jiff::tz::TimeZone::UTC);
    let up = utc(instant(time.as_millisecond().saturating_add(999)));
    if up.date() == utc(now).date() {
        format!("{} UTC", up.strftime("%H:%M:%S"))
    } else {
        format!("{} UTC", up.strftime("%Y-%m-%d %H:%M:%S"))
    }
}

fn quote_or_null(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), json::quote)
}
