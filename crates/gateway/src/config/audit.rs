//! `audit`: what is recorded, and how.

use super::reading::Reading;
use policy::Node;
use std::time::Duration;
use store::{ArgumentsMode, Durability, Retention, StateUrl};

/// What is recorded, and how.
#[derive(Clone, Debug, Default)]
pub struct AuditConfig {
    /// How much of a call's arguments is kept.
    pub arguments: ArgumentsMode,
    /// What a record survives before its call is forwarded.
    pub durability: Durability,
    /// When records are removed; never, without it.
    pub retention: Option<Retention>,
    /// Where records are kept, where it is not where counters are.
    pub state: Option<StateUrl>,
}

/// The keys of `audit`.
pub(crate) const KEYS: &[&str] = &["arguments", "durability", "keep_for", "keep_bytes", "state"];

pub(super) fn read(reading: &mut Reading<'_>, node: &Node) -> AuditConfig {
    let Some(fields) = reading.fields(node, "`audit`", KEYS) else { return AuditConfig::default() };
    let modes = [
        ("drop", ArgumentsMode::Drop),
        ("hmac", ArgumentsMode::Hmac),
        ("redacted", ArgumentsMode::Redacted),
        ("full", ArgumentsMode::Full),
    ];
    let arguments = fields.get("arguments").and_then(|node| reading.word(node, "`arguments`", &modes));
    let durabilities = [("process", Durability::Process), ("power", Durability::Power)];
    let durability = fields.get("durability").and_then(|node| reading.word(node, "`durability`", &durabilities));
    let max_age: Option<Duration> = fields.get("keep_for").and_then(|node| reading.span(node, "`keep_for`"));
    let max_bytes = fields.get("keep_bytes").and_then(|node| reading.number(node, "`keep_bytes`", 1, i64::MAX as u64));
    let retention = Retention { max_age, max_bytes };
    AuditConfig {
        arguments: arguments.unwrap_or_default(),
        durability: durability.unwrap_or_default(),
        retention: (retention != Retention::default()).then_some(retention),
        state: fields.get("state").and_then(|node| reading.state(node, "`state` of `audit`")),
    }
}
