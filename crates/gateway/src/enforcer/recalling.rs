//! What the state knows of things that were issued and this process does not: another gateway has seen them, or this one before
//! it was started anew. Asked for only where a request hands back what is not known here, and nothing else stands against it.

use super::{Caller, Enforcer};
use crate::ownership::{LIFETIME_MS, Purpose, Whose, state_text, task_text};
use json::Value;
use mcp::Message;
use store::{Issued, StoreError};
use tracing::warn;

/// So many tasks that a client names in one message are looked for; more are nobody's, unless they are known here.
pub(crate) const MOST_NAMED: usize = 16;
/// The same of a list that a server gives.
const MOST_LISTED: usize = 256;

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
        let Some(server) = self.server_digest() else { return };
        let issued = Issued { server, purpose: purpose.target.to_string(), until };
        for thing in things {
            if let Err(error) = self.store.issue(&thing, &owner.text(), issued.clone()).await {
                warn!(server = %self.server, %error, "what the server has issued is known to no other gateway");
            }
        }
    }

    /// Looks in the state for what a request hands back. To be asked for one that [must](Enforcer::must_recall), and against
    /// which nothing else stands.
    pub(crate) async fn recall(&self, message: &Message, caller: &Caller) {
        if self.is_unissued(message, caller)
            && let Some(purpose) = Purpose::of(message)
            && let Some(state) = message.params().and_then(|params| params.get("requestState")?.as_str())
        {
            let found = self.issued_here(vec![state_text(&purpose, &state)], caller).await;
            for issued in found.into_iter().flatten() {
                self.owned.issue_state(&caller.owner(), &purpose, &state, issued.until, self.store.clock().now());
            }
        }
        self.recall_tasks(named_tasks(message), MOST_NAMED, caller).await;
    }

    /// Whether a request hands back what is not known here, and may be in the state.
    pub(crate) fn must_recall(&self, message: &Message, caller: &Caller) -> bool {
        self.fingerprint.get().is_some()
            && self.over(caller).is_none()
            && (self.is_unissued(message, caller) || named_tasks(message).any(|task| self.is_unknown(&task, caller)))
    }

    /// The same as [`Enforcer::recall`] for the tasks of a server's list.
    pub(crate) async fn recall_listed(&self, tasks: impl Iterator<Item = String>, caller: &Caller) {
        if self.fingerprint.get().is_some() {
            self.recall_tasks(tasks, MOST_LISTED, caller).await;
        }
    }

    async fn recall_tasks(&self, tasks: impl Iterator<Item = String>, most: usize, caller: &Caller) {
        let tasks: Vec<String> = tasks.filter(|task| self.is_unknown(task, caller)).take(most).collect();
        let found = self.issued_here(tasks.iter().map(|task| task_text(task)).collect(), caller).await;
        for (task, issued) in tasks.iter().zip(found) {
            if let Some(issued) = issued {
                self.owned.issue_task(&caller.owner(), task, &issued.purpose, issued.until, self.store.clock().now());
            }
        }
    }

    /// Which servers have made each of these tasks for the caller, by any gateway on the state; as [`Enforcer::server_digest`]
    /// tells them apart.
    pub(crate) async fn makers(&self, tasks: &[String], caller: &Caller) -> Vec<Vec<String>> {
        let issued = self.issued(tasks.iter().map(|task| task_text(task)).collect(), caller).await;
        issued.into_iter().map(|issued| issued.into_iter().map(|issued| issued.server).collect()).collect()
    }

    /// What the state knows the server by: a keyed digest of what its name stands for. Under another address, or with another
    /// authority, the same name is another server, to which nothing goes that this one has issued. `None` where that is not
    /// told, and while the state's key cannot be read: then nothing is kept in the state.
    pub(crate) fn server_digest(&self) -> Option<String> {
        self.store.digest(self.fingerprint.get()?)
    }

    /// Of each thing, whether the state knows that this server has issued it.
    async fn issued_here(&self, things: Vec<String>, caller: &Caller) -> Vec<Option<Issued>> {
        let Some(server) = self.server_digest() else { return Vec::new() };
        let issued = self.issued(things, caller).await;
        issued.into_iter().map(|issued| issued.into_iter().find(|issued| issued.server == server)).collect()
    }

    async fn issued(&self, things: Vec<String>, caller: &Caller) -> Vec<Vec<Issued>> {
        if things.is_empty() {
            return Vec::new();
        }
        let found: Result<_, StoreError> = self.store.issued(&things, &caller.owner().text()).await;
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
