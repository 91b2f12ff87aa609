//! What is counted, as Prometheus reads it: text exposition format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use super::Figures;
use crate::observe::Observatory;
use crate::observe::meters::{BOUNDS_US, Histogram, Row, ServerMeters};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The type of the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All figures as text.
pub(super) fn render(observatory: &Observatory, figures: &Figures) -> String {
    let mut out = String::with_capacity(16 * 1024);
    let servers = observatory.servers();
    let tools = rows(&servers, |server| server.tools.all());
    let methods = rows(&servers, |server| server.methods.all());
    decisions(&mut out, "callgate_calls_total", "Calls of tools that were decided.", "tool", &tools);
    decisions(&mut out, "callgate_requests_total", "Other requests that were decided and recorded.", "method", &methods);
    head(&mut out, "callgate_replies_total", "counter", "Calls that were let through, by how they ended.");
    for (server, tool, row) in &tools {
        for (reply, count) in row.replies() {
            let labels = format!("server=\"{server}\",tool=\"{tool}\",reply=\"{}\"", reply.as_str());
            let _ = writeln!(out, "callgate_replies_total{{{labels}}} {count}");
        }
    }
    let name = "callgate_call_duration_seconds";
    head(&mut out, name, "histogram", "How long calls took that were let through, the server's part included.");
    for (server, tool, row) in &tools {
        histogram(&mut out, name, &format!("server=\"{server}\",tool=\"{tool}\""), &row.durations);
    }
    let name = "callgate_decision_duration_seconds";
    head(&mut out, name, "histogram", "How long it took to decide on, charge and record a call.");
    for server in &servers {
        histogram(&mut out, name, &format!("server=\"{}\"", escaped(&server.server)), &server.decisions);
    }
    head(&mut out, "callgate_unrecorded_total", "counter", "Records that could not be written.");
    for server in &servers {
        let count = server.unrecorded.load(Ordering::Relaxed);
        let _ = writeln!(out, "callgate_unrecorded_total{{server=\"{}\"}} {count}", escaped(&server.server));
    }
    gauges(&mut out, observatory, figures);
    out
}

fn gauges(out: &mut String, observatory: &Observatory, figures: &Figures) {
    for (name, kind, help, value) in [
        ("callgate_store_up", "gauge", "Whether state can be written.", u64::from(figures.store_up)),
        ("callgate_ready", "gauge", "Whether calls are answered, as /readyz says.", u64::from(figures.is_ready())),
        ("callgate_spans_dropped_total", "counter", "Spans that were not exported.", observatory.dropped()),
        ("callgate_audit_exported_seq", "gauge", "The last record that was exported.", figures.exported.unwrap_or(0)),
        ("callgate_audit_export_up", "gauge", "Whether the last export went well.", u64::from(figures.export_up)),
        ("process_start_time_seconds", "gauge", "When this process was started.", observatory.begun_ns() / 1_000_000_000),
        ("process_resident_memory_bytes", "gauge", "What it holds of memory.", resident().unwrap_or(0)),
    ] {
        head(out, name, kind, help);
        let _ = writeln!(out, "{name} {value}");
    }
    head(out, "callgate_build_info", "gauge", "Which version this is.");
    let _ = writeln!(out, "callgate_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
}

type Named = (String, String, Arc<Row>);

fn rows(servers: &[Arc<ServerMeters>], of: impl Fn(&ServerMeters) -> Vec<(String, Arc<Row>)>) -> Vec<Named> {
    let of_server = |server: &Arc<ServerMeters>| {
        let name = escaped(&server.server);
        of(server).into_iter().map(move |(row, counts)| (name.clone(), escaped(&row), counts)).collect::<Vec<_>>()
    };
    servers.iter().flat_map(of_server).collect()
}

fn decisions(out: &mut String, name: &str, help: &str, label: &str, rows: &[Named]) {
    head(out, name, "counter", help);
    for (server, row, counts) in rows {
        for (outcome, reason, count) in counts.decisions() {
            let (outcome, reason) = (outcome.as_str(), reason.as_str());
            let labels = format!("server=\"{server}\",{label}=\"{row}\",outcome=\"{outcome}\",reason=\"{reason}\"");
            let _ = writeln!(out, "{name}{{{labels}}} {count}");
        }
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn histogram(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let (buckets, sum_us) = histogram.read();
    let all: u64 = buckets.iter().sum();
    if all == 0 {
        return;
    }
    let mut until = 0;
    for (bound, count) in BOUNDS_US.iter().zip(buckets) {
        until += count;
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {until}", seconds(*bound));
    }
    let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {all}");
    let _ = writeln!(out, "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {all}", seconds(sum_us));
}

/// Microseconds as seconds, exactly.
pub(super) fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A label's value: backslash, quote and line feed are escaped; what else could upset a reader of the log is replaced.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// What this process holds of memory, where the system says so.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_exactly() {
        for (micros, text) in [(0, "0"), (50, "0.00005"), (1_000_000, "1"), (2_500_000, "2.5"), (60_000_001, "60.000001")] {
            assert_eq!(seconds(micros), text);
        }
    }

    #[test]
    fn a_name_cannot_end_its_label() {
        assert_eq!(escaped("a\"b\\c\nd\re"), "a\\\"b\\\\c\\nd\u{fffd}e");
    }
}
