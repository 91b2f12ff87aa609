//! What belongs to whom: states that clients hand back, and tasks.
//!
//! A server tells its callers apart by what it has given them, and often by nothing else: whoever holds the id of a task has
//! its result, and whoever holds a state may go on where another has begun. So both belong to the grant they were issued to,
//! a state also to the very call. Remembered by digests, for a day at most; the state that gateways share knows what this
//! process does not ([`Enforcer::recall`](crate::enforcer::Enforcer::recall)).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use json::{Document, Strictness, Value};
use mcp::Message;
use ring::digest::{Context, SHA256};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long something is remembered, in milliseconds: nobody comes back to a question after a day.
pub(crate) const LIFETIME_MS: i64 = 24 * 60 * 60 * 1_000;
/// So many of each kind are remembered, about 100 bytes each. Past them, the oldest of whoever has most is forgotten, so that
/// one caller's do not push out another's.
const MOST: usize = 20_000;

type Digest = [u8; 32];

/// What a request is about that a server may interrupt, and have taken up again by what it gives its caller.
#[derive(Clone, Debug)]
pub(crate) struct Purpose {
    pub method: &'static str,
    /// The tool, the prompt, or the resource.
    pub target: Box<str>,
    arguments: Option<Bytes>,
}

impl Purpose {
    /// That of a `tools/call`, `prompts/get` or `resources/read`; `None` for other messages.
    pub fn of(message: &Message) -> Option<Purpose> {
        let (method, key) = match message.method()? {
            "tools/call" => ("tools/call", "name"),
            "prompts/get" => ("prompts/get", "name"),
            "resources/read" => ("resources/read", "uri"),
            _ => return None,
        };
        let params = message.params()?;
        let target = params.get(key)?.as_str()?;
        Some(Purpose { method, target: target.into(), arguments: params.get("arguments").map(Value::bytes) })
    }

    /// Spelling does not make a call another call.
    fn arguments(&self) -> String {
        let document = self.arguments.clone().and_then(|text| Document::parse(text, Strictness::Reply).ok());
        document.map_or_else(|| "{}".to_owned(), |document| document.root().canonical())
    }
}

/// Whose a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The caller's own, made by a call of this tool.
    Own(String),
    /// Somebody else's.
    Foreign,
    /// Nobody remembers it.
    Unknown,
}

/// What was issued to whom; shared by all conversations with one upstream.
#[derive(Debug, Default)]
pub(crate) struct Ownership {
    states: Mutex<Memory<()>>,
    tasks: Mutex<Memory<String>>,
}

impl Ownership {
    /// Remembers that `state` was given to the owner as an answer to a request of this purpose, `until` when it counts. Times
    /// are in milliseconds.
    pub fn issue_state(&self, owner: &Owner, purpose: &Purpose, state: &str, until: i64, now: i64) {
        lock(&self.states).insert(owner.clone(), state_key(owner, purpose, state), (), until, now);
    }

    /// Whether `state` was given to this owner as an answer to a request of this purpose.
    pub fn holds_state(&self, owner: &Owner, purpose: &Purpose, state: &str, now: i64) -> bool {
        let key = state_key(owner, purpose, state);
        lock(&self.states).get(owner, &key, now).is_some()
    }

    /// Remembers that a task was made by a call of the owner's to `tool`, `until` when it counts.
    pub fn issue_task(&self, owner: &Owner, task: &str, tool: &str, until: i64, now: i64) {
        lock(&self.tasks).insert(owner.clone(), digest(&["task", task]), tool.to_owned(), until, now);
    }

    /// Whose a task is.
    pub fn task(&self, owner: &Owner, task: &str, now: i64) -> Whose {
        let key = digest(&["task", task]);
        let mut tasks = lock(&self.tasks);
        match tasks.get(owner, &key, now).cloned() {
            Some(tool) => Whose::Own(tool),
            None if tasks.is_held(&key) => Whose::Foreign,
            None => Whose::Unknown,
        }
    }
}

/// To whom something is issued. Sessions come and go, and a client takes up its tasks from another one: what belongs
/// together is the grant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub principal: String,
    pub grant: String,
    /// As of a caller: who has shown an authorization server's token is not who only is called the same, or has shown one that says
    /// something else.
    pub subject: Option<[u8; 32]>,
}

impl Owner {
    /// What tells this owner from all others.
    pub fn text(&self) -> String {
        text_of(&["owner", &self.principal, &self.grant, &self.subject_text()])
    }

    fn subject_text(&self) -> String {
        self.subject.map(|said| URL_SAFE_NO_PAD.encode(said)).unwrap_or_default()
    }
}

/// What tells a task from everything else that servers issue.
pub(crate) fn task_text(task: &str) -> String {
    text_of(&["task", task])
}

/// The same of a state that answers a request of this purpose.
pub(crate) fn state_text(purpose: &Purpose, state: &str) -> String {
    text_of(&["state", purpose.method, &purpose.target, &purpose.arguments(), state])
}

/// What each owner has, the oldest first, and who has a thing.
#[derive(Debug)]
struct Memory<T> {
    owned: HashMap<Owner, Shelf<T>>,
    holders: HashMap<Digest, usize>,
    count: usize,
}

#[derive(Debug)]
struct Shelf<T> {
    things: HashMap<Digest, T>,
    /// By age: until when, and what.
    order: VecDeque<(i64, Digest)>,
}

impl<T> Default for Memory<T> {
    fn default() -> Memory<T> {
        Memory { owned: HashMap::new(), holders: HashMap::new(), count: 0 }
    }
}

impl<T> Memory<T> {
    fn insert(&mut self, owner: Owner, key: Digest, thing: T, until: i64, now: i64) {
        self.expire(now);
        if self.count >= MOST {
            let most = self.owned.iter().max_by_key(|(_, shelf)| shelf.order.len()).map(|(owner, _)| owner.clone());
            if let Some(owner) = most {
                self.forget_oldest(&owner);
            }
        }
        let shelf = self.owned.entry(owner).or_insert_with(|| Shelf { things: HashMap::new(), order: VecDeque::new() });
        if shelf.things.insert(key, thing).is_none() {
            let at = shelf.order.partition_point(|(before, _)| *before <= until);
            shelf.order.insert(at, (until, key));
            *self.holders.entry(key).or_default() += 1;
            self.count += 1;
        }
    }

    fn get(&mut self, owner: &Owner, key: &Digest, now: i64) -> Option<&T> {
        self.expire(now);
        self.owned.get(owner)?.things.get(key)
    }

    fn is_held(&self, key: &Digest) -> bool {
        self.holders.contains_key(key)
    }

    fn expire(&mut self, now: i64) {
        let over = |shelf: &Shelf<T>| shelf.order.front().is_some_and(|(until, _)| *until <= now);
        let over: Vec<Owner> = self.owned.iter().filter(|(_, shelf)| over(shelf)).map(|(owner, _)| owner.clone()).collect();
        for owner in over {
            while self.owned.get(&owner).is_some_and(|shelf| shelf.order.front().is_some_and(|(until, _)| *until <= now)) {
                self.forget_oldest(&owner);
            }
        }
    }

    fn forget_oldest(&mut self, owner: &Owner) {
        let Some(shelf) = self.owned.get_mut(owner) else { return };
        if let Some((_, key)) = shelf.order.pop_front() {
            shelf.things.remove(&key);
            self.count -= 1;
            if let Some(holders) = self.holders.get_mut(&key) {
                *holders -= 1;
                if *holders == 0 {
                    self.holders.remove(&key);
                }
            }
        }
        if shelf.order.is_empty() {
            self.owned.remove(owner);
        }
    }
}

fn lock<T>(memory: &Mutex<Memory<T>>) -> MutexGuard<'_, Memory<T>> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

fn state_key(owner: &Owner, purpose: &Purpose, state: &str) -> Digest {
    let subject = owner.subject_text();
    digest(&["state", &owner.principal, &owner.grant, &subject, purpose.method, &purpose.target, &purpose.arguments(), state])
}

/// A digest of several texts, as text.
pub(crate) fn text_of(parts: &[&str]) -> String {
    URL_SAFE_NO_PAD.encode(digest(parts))
}

/// A digest of several texts, each with its length, so that no two lists of texts run into one.
fn digest(parts: &[&str]) -> Digest {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_le_bytes());
        context.update(part.as_bytes());
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcp::Side;

    fn owner(name: &str) -> Owner {
        Owner { principal: name.into(), grant: format!("{name}-grant"), subject: None }
    }

    fn purpose(method: &str, params: &str) -> Purpose {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        Purpose::of(&Message::parse(text, Side::Client).unwrap()).unwrap()
    }

    fn call(tool: &str, arguments: &str) -> Purpose {
        purpose("tools/call", &format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#))
    }

    #[test]
    fn a_state_belongs_to_the_call_it_was_issued_for() {
        let owned = Ownership::default();
        let (ada, bob) = (owner("ada"), owner("bob"));
        owned.issue_state(&ada, &call("pay", r#"{"a":1,"b":2}"#), "s", LIFETIME_MS, 0);
        assert!(owned.holds_state(&ada, &call("pay", r#"{"b":2.0, "a":1}"#), "s", 1));
        for (who, purpose, state, why) in [
            (&bob, call("pay", r#"{"a":1,"b":2}"#), "s", "somebody else"),
            (&ada, call("refund", r#"{"a":1,"b":2}"#), "s", "another tool"),
            (&ada, call("pay", r#"{"a":1,"b":3}"#), "s", "other arguments"),
            (&ada, call("pay", "{}"), "s", "no arguments"),
            (&ada, purpose("prompts/get", r#"{"name":"pay","arguments":{"a":1,"b":2}}"#), "s", "another method"),
            (&ada, call("pay", r#"{"a":1,"b":2}"#), "s-changed", "another state"),
        ] {
            assert!(!owned.holds_state(who, &purpose, state, 1), "{why}");
        }
    }

    #[test]
    fn servers_may_give_one_state_to_several_callers() {
        let owned = Ownership::default();
        let (ada, bob) = (owner("ada"), owner("bob"));
        let call = call("pay", "{}");
        owned.issue_state(&ada, &call, "step 1", LIFETIME_MS, 0);
        owned.issue_state(&bob, &call, "step 1", LIFETIME_MS, 0);
        assert!(owned.holds_state(&ada, &call, "step 1", 1) && owned.holds_state(&bob, &call, "step 1", 1));
    }

    #[test]
    fn another_grant_of_the_same_principal_is_another_owner() {
        let owned = Ownership::default();
        let day = Owner { grant: "day".into(), ..owner("ada") };
        let night = Owner { grant: "night".into(), ..owner("ada") };
        owned.issue_task(&day, "t", "deploy", LIFETIME_MS, 0);
        assert_eq!(owned.task(&night, "t", 0), Whose::Foreign);
        assert_eq!(owned.task(&day, "t", 0), Whose::Own("deploy".into()));
    }

    #[test]
    fn a_task_is_its_makers_alone() {
        let owned = Ownership::default();
        owned.issue_task(&owner("ada"), "t", "deploy", LIFETIME_MS, 0);
        assert_eq!(owned.task(&owner("ada"), "t", 1), Whose::Own("deploy".into()));
        assert_eq!(owned.task(&owner("bob"), "t", 1), Whose::Foreign);
        assert_eq!(owned.task(&owner("bob"), "u", 1), Whose::Unknown);
    }

    #[test]
    fn everything_is_forgotten_after_a_day() {
        let owned = Ownership::default();
        let (ada, call) = (owner("ada"), call("pay", "{}"));
        owned.issue_state(&ada, &call, "s", LIFETIME_MS, 0);
        owned.issue_task(&ada, "t", "pay", LIFETIME_MS, 0);
        assert!(owned.holds_state(&ada, &call, "s", LIFETIME_MS - 1));
        assert!(!owned.holds_state(&ada, &call, "s", LIFETIME_MS));
        assert_eq!(owned.task(&ada, "t", LIFETIME_MS), Whose::Unknown);
        assert!(lock(&owned.tasks).owned.is_empty() && lock(&owned.tasks).holders.is_empty());
    }

    #[test]
    fn whoever_has_most_is_forgotten_first() {
        let owned = Ownership::default();
        let (ada, bob) = (owner("ada"), owner("bob"));
        owned.issue_task(&ada, "ada's", "t", LIFETIME_MS, 0);
        for number in 0..MOST + 10 {
            owned.issue_task(&bob, &number.to_string(), "t", LIFETIME_MS, 1);
        }
        assert_eq!(owned.task(&ada, "ada's", 2), Whose::Own("t".into()));
        assert_eq!(owned.task(&bob, "0", 2), Whose::Unknown);
        assert_eq!(lock(&owned.tasks).count, MOST);
    }
}
