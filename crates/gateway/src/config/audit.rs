//! `audit`: what is recorded, and how.

use super::reading::Reading;
use policy::Node;
use std::path::PathBuf;
use std::time::Duration;
use store::{ArgumentsMode, Durability, Retention, StateUrl};

/// What is recorded, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditConfig {
    /// How much of a call's arguments is kept.
    pub arguments: ArgumentsMode,
    /// What a record survives before its call is forwarded.
    pub durability: Durability,
    /// When records are removed; never, without it.
    pub retention: Option<Retention>,
    /// Where records are kept, where it is not where counters are.
    pub state: Option<StateUrl>,
    /// Where records go besides.
    pub export: ExportConfig,
}

/// Where records go besides the audit log, as they are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportConfig {
    /// A file of lines, which makes way for a new one when it has become long.
    pub file: Option<PathBuf>,
    /// How long it may become.
    pub rotate_bytes: u64,
    /// How many older ones are kept.
    pub keep: u32,
    /// The base URL of an OTLP collector over HTTP, which gets them as log records.
    pub otlp: Option<String>,
}

impl Default for ExportConfig {
    fn default() -> ExportConfig {
        ExportConfig { file: None, rotate_bytes: 64 * 1024 * 1024, keep: 10, otlp: None }
    }
}

/// The keys of `audit`.
pub(crate) const KEYS: &[&str] = &["arguments", "durability", "keep_for", "keep_bytes", "state", "export"];
/// The keys of `export`.
pub(crate) const EXPORT_KEYS: &[&str] = &["file", "rotate_bytes", "keep", "otlp"];

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
        export: fields.get("export").map(|node| export(reading, node)).unwrap_or_default(),
    }
}

fn export(reading: &mut Reading<'_>, node: &Node) -> ExportConfig {
    let default = ExportConfig::default();
    let Some(fields) = reading.fields(node, "`export`", EXPORT_KEYS) else { return default };
    let rotate_bytes = fields.get("rotate_bytes").and_then(|node| reading.number(node, "`rotate_bytes`", 4_096, 1 << 40));
    let keep = fields.get("keep").and_then(|node| reading.number(node, "`keep`", 1, 1_000));
    ExportConfig {
        file: fields.get("file").and_then(|node| reading.path(node, "`file`")),
        rotate_bytes: rotate_bytes.unwrap_or(default.rotate_bytes),
        keep: keep.and_then(|keep| u32::try_from(keep).ok()).unwrap_or(default.keep),
        otlp: fields.get("otlp").and_then(|node| reading.string(node, "`otlp`")).map(str::to_owned),
    }
}
