//! What the state knows of things that were issued and this process does not: another gateway has seen them, or this one before
//! it was started anew. Asked for only where a request hands back what is not known here, before the request is judged.

use super::{Caller, Enforcer};
use crate::ownership::{LIFETIME_MS, Purpose, Whose, state_text, task_text};
use json::Value;
use mcp::Message;
use store::{Issued, StoreError};
use tracing::warn;

/// Of one message so many tasks are looked for; more are nobody's, unless they are known here.
const MOST: usize = 256;

impl Enforcer {
    /// Remembers to whom belongs what the server has given to be handed back, here and in the state. It is known here even if
    /// the state cannot be used.
    pub(crate) async fn issue(&self, caller: &Caller, purpose: &Purpose, state: Option<&str>, task: Option<&str>) {
        let (owner, now) = (caller.owner(), self.store.clock().now());
        let until = now.saturating_add(LIFETIME_MS);
        let mut things = Vec::new();
        if let Some(state) = state {
            self.owned.issue_state(&owner, purpose, state, until, now);
            things.push(state_text(purpose, state));
        }
        if let Some(task) = task {
            self.owned.issue_task(&owner, task, &purpose.target, until, now);
            things.push(task_text(task));
        }
        let issued = Issued { server: self.server.to_string(), purpose: purpose.target.to_string(), until };
        for thing in things {
            if let Err(error) = self.store.issue(&thing, &owner.text(), issued.clone()).await {
                warn!(server = %self.server, %error, "what the server has issued is known to no other gateway");
            }
        }
    }

    /// Whether a request hands back what is not known here, and may be in the state.
    pub(crate) fn must_recall(&self, message: &Message, caller: &Caller) -> bool {
        self.is_unissued(message, caller) || named_tasks(message).any(|task| self.is_unknown(&task, caller))
    }

    /// Looks in the state for what a request hands back.
    pub(crate) async fn recall(&self, message: &Message, caller: &Caller) {
        if self.is_unissued(message, caller)
            && let Some(purpose) = Purpose::of(message)
            && let Some(state) = message.params().and_then(|params| params.get("requestState")?.as_str())
        {
            let owner = caller.owner();
            if let Some(issued) = self.issued_here(&state_text(&purpose, &state), caller).await {
                self.owned.issue_state(&owner, &purpose, &state, issued.until, self.store.clock().now());
            }
        }
        self.recall_tasks(named_tasks(message), caller).await;
    }

    /// The same for tasks.
    pub(crate) async fn recall_tasks(&self, tasks: impl Iterator<Item = String>, caller: &Caller) {
        let owner = caller.owner();
        for task in tasks.filter(|task| self.is_unknown(task, caller)).take(MOST) {
            if let Some(issued) = self.issued_here(&task_text(&task), caller).await {
                self.owned.issue_task(&owner, &task, &issued.purpose, issued.until, self.store.clock().now());
            }
        }
    }

    /// Which servers have made this task for the caller, by any gateway on the state.
    pub(crate) async fn makers(&self, task: &str, caller: &Caller) -> Vec<String> {
        let issued = self.issued(&task_text(task), caller).await;
        issued.into_iter().map(|issued| issued.server).collect()
    }

    async fn issued_here(&self, thing: &str, caller: &Caller) -> Option<Issued> {
        self.issued(thing, caller).await.into_iter().find(|issued| *issued.server == *self.server)
    }

    async fn issued(&self, thing: &str, caller: &Caller) -> Vec<Issued> {
        let found: Result<_, StoreError> = self.store.issued(thing, &caller.owner().text()).await;
        found.unwrap_or_else(|error| {
            warn!(server = %self.server, %error, "what other gateways have seen issued cannot be looked up");
            Vec::new()
        })
    }

    /// Whether a task could be the caller's for all that is known here. Where nobody else could call, it may be used anyway.
    fn is_unknown(&self, task: &str, caller: &Caller) -> bool {
        !caller.is_alone() && self.owned.task(&caller.owner(), task, self.store.clock().now()) == Whose::Unknown
    }
}

/// The tasks that a client's request speaks of.
fn named_tasks(message: &Message) -> impl Iterator<Item = String> {
    let params = message.params();
    let method = message.method().unwrap_or_default();
    let one = params.filter(|_| mcp::TASK_METHODS.contains(&method)).and_then(|params| params.get("taskId"));
    let listened =
        params.filter(|_| method == "subscriptions/listen").and_then(|params| params.get("notifications")?.get("taskIds"));
    let many = listened.and_then(Value::elements).into_iter().flatten();
    one.into_iter().chain(many).filter_map(|id| Some(id.as_str()?.into_owned()))
}
