//! `telemetry`: what is told to the outside.

use super::reading::Reading;
use policy::Node;
use std::net::SocketAddr;

/// What is told to the outside. By default, nothing but the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Where `/metrics` is served, in Prometheus' text form.
    pub metrics: Option<SocketAddr>,
    /// Where traces go: the base URL of an OTLP collector over HTTP.
    pub otlp: Option<String>,
    /// How much is logged; `None`: as the environment says.
    pub log: Option<LogLevel>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what has failed.
    Error,
    /// What may fail, too.
    Warn,
    /// What happens.
    Info,
    /// In detail.
    Debug,
}

/// The keys of `telemetry`.
pub(crate) const KEYS: &[&str] = &["metrics", "otlp", "log"];

pub(super) fn read(reading: &mut Reading<'_>, node: &Node) -> TelemetryConfig {
    let Some(fields) = reading.fields(node, "`telemetry`", KEYS) else { return TelemetryConfig::default() };
    let levels = [("error", LogLevel::Error), ("warn", LogLevel::Warn), ("info", LogLevel::Info), ("debug", LogLevel::Debug)];
    TelemetryConfig {
        metrics: fields.get("metrics").and_then(|node| reading.address(node, "`metrics`")),
        otlp: fields.get("otlp").and_then(|node| reading.string(node, "`otlp`")).map(str::to_owned),
        log: fields.get("log").and_then(|node| reading.word(node, "`log`", &levels)),
    }
}
