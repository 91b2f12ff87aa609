//! Several policies, all of which must allow: a server's and a grant's.
//!
//! They are judged in order. The first denial ends it; questions and charges add up, so that a call needs one approval and
//! takes from each counter once, whichever of the policies bound it. Without any policy everything is denied.

use crate::approval::Webhook;
use crate::decision::{Decision, Outcome, Plan, Reason};
use crate::definitions::Definitions;
use crate::evaluate::{Call, evaluate};
use crate::methods::{ELSEWHERE, PROTOCOL_METHODS};
use crate::model::{Policy, Posture};
use crate::risk::RiskClass;
use ring::digest::{Context, SHA256};
use std::fmt::Write as _;
use std::sync::Arc;

/// The policies that hold for a caller of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Policies(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    each: Vec<Arc<Policy>>,
    revision: Arc<str>,
    judge_results: bool,
}

impl Policies {
    /// All of these, in this order. Of none, everything is denied.
    pub fn all_of(each: Vec<Arc<Policy>>) -> Policies {
        let revision = match each.as_slice() {
            [one] => one.revision().into(),
            several => revision(several).into(),
        };
        let judge_results = each.iter().any(|policy| policy.judges_results());
        Policies(Arc::new(Inner { each, revision, judge_results }))
    }

    /// Whether some of them says anything of what comes back.
    pub fn judge_results(&self) -> bool {
        self.0.judge_results
    }

    /// Each of them.
    pub fn each(&self) -> &[Arc<Policy>] {
        &self.0.each
    }

    /// Judges a call.
    pub fn evaluate(&self, call: &Call<'_>) -> Plan {
        evaluate(self.iter(), call)
    }

    /// Whether a tool of this class appears in lists: every one of them lists it; see [`Policy::lists`].
    pub fn lists(&self, tool: &str, class: Option<RiskClass>) -> bool {
        !self.0.each.is_empty() && self.iter().all(|policy| policy.lists(tool, class))
    }

    /// Whether it matters of which class this tool is.
    pub fn needs_class(&self, tool: &str) -> bool {
        self.iter().any(|policy| policy.needs_class(tool))
    }

    /// Whether some rule for this tool judges arguments by its schema.
    pub fn needs_schema(&self, tool: &str) -> bool {
        self.iter().any(|policy| policy.needs_schema(tool))
    }

    /// Whether some rule for this tool may ask for an approval.
    pub fn may_ask(&self, tool: &str) -> bool {
        self.iter().any(|policy| policy.may_ask(tool))
    }

    /// Who is told that a call waits for an approval.
    pub fn webhooks(&self) -> Vec<Webhook> {
        self.iter().filter_map(Policy::webhook).cloned().collect()
    }

    /// What they say of definitions that are not those that were pinned: the strictest word of each.
    pub fn definitions(&self) -> Definitions {
        let each = self.iter().map(Policy::definitions);
        each.reduce(Definitions::and).unwrap_or_default()
    }

    /// Names these versions of them in records and approvals: 16 hexadecimal digits, of one policy its own revision.
    pub fn revision(&self) -> &Arc<str> {
        &self.0.revision
    }

    /// What happens to what no entry names: it is denied unless all allow it.
    pub fn posture(&self) -> Posture {
        let allows = !self.0.each.is_empty() && self.iter().all(|policy| policy.posture() == Posture::Allow);
        if allows { Posture::Allow } else { Posture::Deny }
    }

    /// Whether all of them are only tried out: they decide, and stop nothing.
    pub fn is_shadow(&self) -> bool {
        !self.0.each.is_empty() && self.iter().all(Policy::is_shadow)
    }

    /// What they say of a request or notification of this method; see [`Policy::method_decision`].
    pub fn method_decision(&self, method: &str) -> Option<Decision> {
        let elsewhere = ELSEWHERE.iter().any(|(name, _)| *name == method);
        if self.0.each.is_empty() && !elsewhere && !PROTOCOL_METHODS.contains(&method) {
            return Some(without_policy(Reason::MethodRefused));
        }
        self.strictest(|policy| policy.method_decision(method))
    }

    /// What they say of something that a server asks of its client; see [`Policy::server_request_decision`].
    pub fn server_request_decision(&self, method: &str, mode: Option<&str>) -> Option<Decision> {
        if self.0.each.is_empty() && ELSEWHERE.iter().any(|(name, section)| *name == method && *section == "server_requests") {
            return Some(without_policy(Reason::ServerRequestRefused));
        }
        self.strictest(|policy| policy.server_request_decision(method, mode))
    }

    fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.0.each.iter().map(Arc::as_ref)
    }

    /// The first denial; else what is noted of one in shadow; else the first that says anything.
    fn strictest(&self, of: impl Fn(&Policy) -> Option<Decision>) -> Option<Decision> {
        let weight = |decision: &Decision| match (decision.outcome, &decision.shadow) {
            (Outcome::Allow, None) => 2,
            (Outcome::Allow, Some(_)) => 1,
            (Outcome::Ask | Outcome::Deny, _) => 0,
        };
        self.iter().filter_map(of).min_by_key(weight)
    }
}

impl From<Arc<Policy>> for Policies {
    fn from(policy: Arc<Policy>) -> Policies {
        Policies::all_of(vec![policy])
    }
}

impl From<Policy> for Policies {
    fn from(policy: Policy) -> Policies {
        Arc::new(policy).into()
    }
}

fn without_policy(reason: Reason) -> Decision {
    Decision { rule: Some("(no policy)".into()), ..Decision::deny(reason, "There is no policy that would allow this.") }
}

fn revision(policies: &[Arc<Policy>]) -> String {
    let mut context = Context::new(&SHA256);
    for policy in policies {
        context.update(policy.revision().as_bytes());
        context.update(b"\n");
    }
    context.finish().as_ref().iter().take(8).fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
