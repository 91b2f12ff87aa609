//! What is asked of the store for one call, and what it answers.

use crate::draft::{Draft, Recorded};
use policy::{Amount, Charge, Quorum, Usage};
use std::fmt;
use std::sync::Arc;

/// On whose account a call is charged. None of this may come from what a client says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The upstream's name.
    pub server: Arc<str>,
    /// The grant.
    pub grant: Arc<str>,
    /// Who holds it.
    pub principal: Arc<str>,
    /// The session, where the transport has them.
    pub session: Option<Arc<str>>,
}

/// One call at the door.
pub struct Admission {
    /// The decision's id; becomes that of the record.
    pub id: Arc<str>,
    /// On whose account.
    pub subject: Subject,
    /// What to take: all of it, or nothing.
    pub charges: Vec<Charge>,
    /// Refuse the call if an identical one was admitted a short while ago.
    pub once: Option<Once>,
    /// Let the call pass only by spending an approval.
    pub approval: Option<ApprovalRequest>,
    /// Makes the record of whichever verdict it becomes; both are one transaction.
    pub record: Recording,
}

/// Makes a record of what has become of an admission.
pub(crate) type Recording = Box<dyn FnOnce(&Verdict) -> Box<Draft> + Send>;

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("id", &self.id).field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// What makes two calls of one grant to one upstream identical, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// The tool.
    pub tool: String,
    /// A digest of the arguments' meaning.
    pub digest: String,
    /// For how long, in milliseconds.
    pub window_ms: u64,
}

/// What an approval is bound to, beside the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRequest {
    /// The tool.
    pub tool: String,
    /// A digest of the arguments' exact bytes.
    pub digest: String,
    /// The revision of the policy that asks.
    pub policy: String,
    /// The rule that asks.
    pub rule: String,
    /// For how long the approval waits for an answer, and then for how long it may be used, in milliseconds.
    pub timeout_ms: u64,
    /// Who must say yes, all of these; without any, one person whoever it is.
    pub quorums: Vec<Quorum>,
    /// The arguments, for whoever decides: JSON.
    pub arguments: Option<String>,
}

/// What became of an admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything has been taken.
    Granted {
        /// For each charge, the state of its counter before it.
        usages: Vec<Usage>,
        /// The approval that was spent.
        approval: Option<String>,
    },
    /// A counter cannot take its charge; nothing has been taken. Of several such counters, the one that frees last.
    Exhausted {
        /// Which charge.
        index: usize,
        /// The state of its counter.
        usage: Usage,
    },
    /// An identical call was admitted a short while ago; nothing has been taken.
    Duplicate {
        /// That call's id.
        first_id: String,
        /// When such a call will be admitted again.
        retry_after_ms: u64,
    },
    /// An approval is open, from now or from before.
    ApprovalPending {
        /// Which.
        id: String,
        /// Until when, in milliseconds since the Unix epoch.
        expires_at: i64,
        /// Whether it was opened for this call: then nobody has been told of it.
        opened: bool,
    },
    /// Somebody has said no.
    ApprovalDenied {
        /// To which request.
        id: String,
    },
    /// The grant has so many approvals open already that no further one is opened.
    ApprovalsFull {
        /// How many.
        open: u64,
    },
}

/// The answer to an admission. Whatever it is, it is on record.
#[derive(Debug)]
#[must_use = "the verdict says whether the call may pass"]
pub struct Admitted {
    /// What became of it.
    pub verdict: Verdict,
    /// The record that says so.
    pub recorded: Recorded,
    /// What was taken; empty unless granted. Hand it to [`crate::Store::settle`].
    pub reservation: Reservation,
    /// What was recorded: a draft of how the call ends has most of it.
    pub draft: Box<Draft>,
}

/// What one call has taken. Dropped, it stays taken.
#[derive(Debug, Default)]
pub struct Reservation {
    pub(crate) id: Arc<str>,
    pub(crate) taken: Vec<Taken>,
    pub(crate) once: Option<String>,
    pub(crate) approval: Option<String>,
}

/// What lies in one bucket of one counter for a call.
#[derive(Debug)]
pub(crate) struct Taken {
    pub key: Arc<str>,
    pub bucket: i64,
    pub amount: Amount,
    pub frees_at: i64,
}

/// Joins parts so that no part can pass for another: each with its length before it (`4:omic`).
pub(crate) fn joined(parts: &[&str]) -> String {
    let mut text = String::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        text.push_str(itoa::Buffer::new().format(part.len()));
        text.push(':');
        text.push_str(part);
    }
    text
}
