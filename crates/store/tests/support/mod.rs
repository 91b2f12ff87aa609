//! What the tests of the store share: a directory that goes away, and calls in few words.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part; and this is test code")]

pub mod servers;

use policy::{Amount, Bound, Charge, Counter, Mode, Outcome, Reason, Scope, Window};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{Admission, Admitted, Clock, Draft, Options, Phase, StateUrl, Store, StoreError, Subject, Verdict};

/// 2026-01-15T10:30:00Z
pub const NOON: i64 = 1_768_473_000_000;
pub const MINUTE: i64 = 60_000;
pub const DAY: i64 = 86_400_000;

/// A directory of its own, removed at the end.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Directory {
        let path = std::env::temp_dir().join(format!("callgate-test-{}", store::fresh_id().unwrap()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("state").join("callgate.db")
    }

    pub fn url(&self) -> StateUrl {
        StateUrl::Sqlite(self.file())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn options(clock: &Clock) -> Options {
    Options { clock: clock.clone(), ..Options::default() }
}

pub fn subject(grant: &str) -> Subject {
    Subject { server: "omics".into(), grant: grant.into(), principal: "ann".into(), session: None }
}

pub fn charge_of(name: &str, window: &str, scope: Scope, amount: &str, max: &str, mode: Mode) -> Charge {
    let amount_of = |text: &str| Amount::from_decimal(&json::Decimal::parse(text).unwrap()).unwrap();
    let counter = Counter { owner: "tool".into(), name: name.into(), window: Window::parse(window).unwrap(), scope };
    Charge::new(Arc::new(counter), amount_of(amount), Bound::AtMost(amount_of(max)), "a rule".into(), mode)
}

/// One call a time, at most `max` in `window`, for each grant.
pub fn limit(max: u64, window: &str) -> Charge {
    charge_of("calls", window, Scope::Grant, "1", &max.to_string(), Mode::Enforce)
}

/// A call with charges and nothing else.
pub fn call(grant: &str, charges: Vec<Charge>) -> Admission {
    Admission {
        id: store::fresh_id().unwrap(),
        subject: subject(grant),
        charges,
        once: None,
        approval: None,
        record: Box::new(record),
    }
}

pub fn record(verdict: &Verdict) -> Box<Draft> {
    let (outcome, reason) = match verdict {
        Verdict::Granted { .. } => (Outcome::Allow, Reason::Allowed),
        Verdict::Exhausted { .. } => (Outcome::Deny, Reason::LimitReached),
        Verdict::Duplicate { .. } => (Outcome::Deny, Reason::DuplicateCall),
        Verdict::ApprovalPending { .. } => (Outcome::Ask, Reason::ApprovalRequired),
        Verdict::ApprovalDenied { .. } => (Outcome::Deny, Reason::ApprovalDenied),
        Verdict::ApprovalsFull { .. } => (Outcome::Deny, Reason::TooManyApprovals),
    };
    Box::new(Draft {
        phase: Phase::Decided,
        server: Some("omics".into()),
        method: Some("tools/call".into()),
        tool: Some("start_run".into()),
        principal: Some("ann".into()),
        grant: Some("local".into()),
        outcome: Some(outcome),
        reason: Some(reason),
        rule: (outcome != Outcome::Allow).then(|| "a rule".into()),
        ..Draft::default()
    })
}

pub fn is_granted(answer: &Result<Admitted, StoreError>) -> bool {
    matches!(answer, Ok(Admitted { verdict: Verdict::Granted { .. }, .. }))
}

/// Whether one more such call passes; it is charged then.
pub async fn passes(store: &Store, admission: Admission) -> bool {
    is_granted(&Ok(store.admit(admission).await.unwrap()))
}

/// The bodies of all records, in order.
pub fn bodies(store: &Store) -> Vec<String> {
    store.reader().unwrap().list(&store::Filter::default()).unwrap().map(|row| row.unwrap().body).collect()
}

/// A string member of a JSON object, or the raw text of another.
pub fn member(line: &str, key: &str) -> String {
    let doc = json::Document::parse(line.to_owned(), json::Strictness::Request).unwrap();
    let value = doc.root().get(key).unwrap_or_else(|| panic!("`{key}` in {line}"));
    value.as_str().map_or_else(|| value.raw().to_owned(), |text| text.into_owned())
}

/// Copies a state file with its key and write-ahead log, as somebody would who looks into an accident.
pub fn copy_state(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    for suffix in ["", "-wal", ".key", ".journal"] {
        let beside = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        if beside(from).exists() {
            std::fs::copy(beside(from), beside(to)).unwrap();
        }
    }
}
