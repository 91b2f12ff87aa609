//! How people are asked about a call: who is told, who is waited for, and whether the client itself may be asked.
//!
//! One of these stands beside every enforcer of a process. It knows no sockets: how people are told is handed to it.

mod answers;

use answers::Answers;
use policy::{Quorum, Webhook};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use store::{Approval, ShownArguments, Store};

/// Tells people that a call waits; returns at once. Besides the approval it is given the webhooks that the policies name.
pub type Tell = Arc<dyn Fn(&Approval, &[Webhook]) + Send + Sync>;

/// How people are asked. Cheap to clone.
#[derive(Clone)]
pub struct Approvers {
    tell: Option<Tell>,
    answers: Arc<Answers>,
    in_client: bool,
}

impl Approvers {
    /// Nobody is told; calls may wait for answers that are given in `store`.
    pub fn new(store: Store) -> Approvers {
        Approvers { tell: None, answers: Answers::new(store), in_client: false }
    }

    /// The same, and people are told.
    pub fn telling(self, tell: Tell) -> Approvers {
        Approvers { tell: Some(tell), ..self }
    }

    /// The same, and where there are no grants the client may be asked.
    pub fn in_client(self, allowed: bool) -> Approvers {
        Approvers { in_client: allowed, ..self }
    }

    pub(crate) fn tell(&self, approval: &Approval, webhooks: &[Webhook]) {
        if let Some(tell) = &self.tell {
            tell(approval, webhooks);
        }
    }

    /// Waits until the approval of this id waits no longer.
    pub(crate) async fn answered(&self, id: &str) {
        self.answers.answered(id).await;
    }

    /// Whether the client of a caller without a grant may be asked.
    pub(crate) fn asks_sole_client(&self) -> bool {
        self.in_client
    }
}

impl fmt::Debug for Approvers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Approvers").field("tells", &self.tell.is_some()).field("in_client", &self.in_client).finish()
    }
}

/// A call that was not let through because somebody must approve it.
#[derive(Debug)]
pub struct Waiting {
    /// What waits. Its arguments are those of the call.
    pub approval: Approval,
    /// How long the call itself may wait.
    pub wait: Duration,
}

impl Waiting {
    /// Whether whoever sits before the client could answer: any one person may, and can be shown all of the call.
    pub(crate) fn suits_client(&self) -> bool {
        let whole = matches!(&self.approval.arguments, ShownArguments::Whole(raw) if raw.len() <= MOST_IN_CLIENT);
        whole && self.approval.votes.is_empty() && self.approval.quorums.iter().all(|quorum| *quorum == Quorum::anybody())
    }
}

/// Longer arguments are not read in a dialog.
const MOST_IN_CLIENT: usize = 16 * 1024;
