//! Results, as tables for people and as JSON for machines.

use crate::measure::{Cell, Half, List, Memory, PERCENTS};
use crate::micro::Part;
use crate::peers::{Bed, Transport};
use crate::start::Start;
use crate::wire::Era;
use serde_json::{Value, json};
use std::fmt::Write;

/// Everything that was measured, and on what.
pub struct Report {
    pub when: String,
    machine: String,
    pinned: bool,
    pub calls: Vec<Cell>,
    pub half: Vec<Half>,
    pub lists: Vec<List>,
    pub memory: Vec<Memory>,
    pub start: Option<Start>,
    pub micro: Vec<Part>,
}

/// Where the tables stand.
pub const PAGE: &str = "docs/performance.md";
const BEGIN: &str = "<!-- bench: written by `cargo xtask bench --write` -->";
const END: &str = "<!-- bench: end -->";

/// Puts the tables between the marks of the page.
pub fn rewrite(tables: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{PAGE}: {error}");
    let text = std::fs::read_to_string(PAGE).map_err(failed)?;
    let (before, rest) = text.split_once(BEGIN).ok_or(format!("{PAGE} has no line `{BEGIN}`"))?;
    let (_, after) = rest.split_once(END).ok_or(format!("{PAGE} has no line `{END}`"))?;
    std::fs::write(PAGE, format!("{before}{BEGIN}\n\n{tables}\n{END}{after}")).map_err(failed)
}

impl Report {
    /// An empty report.
    pub fn of_this_machine(bed: &Bed) -> Report {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
        let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let kernel = read("/proc/sys/kernel/osrelease");
        let load = read("/proc/loadavg");
        let machine = format!(
            "{cores} cores of {}, Linux {}, load {} at the start",
            model.unwrap_or("an unknown processor"),
            kernel.trim(),
            load.split(' ').next().unwrap_or("?")
        );
        let when = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (calls, half, lists, memory, start, micro) = Default::default();
        Report { when, machine, pinned: bed.cores.is_some(), calls, half, lists, memory, start, micro }
    }

    /// The results as one JSON object.
    pub fn json(&self) -> String {
        let named = |percentiles: &[f64; 4]| json!({"p50": percentiles[0], "p90": percentiles[1], "p99": percentiles[2], "p99.9": percentiles[3]});
        let calls: Vec<Value> = self
            .calls
            .iter()
            .map(|cell| {
                json!({
                    "transport": cell.transport.as_str(), "era": cell.era.as_str(), "concurrency": cell.concurrency,
                    "peer": cell.peer, "micros": named(&cell.percentiles), "callsPerSecond": cell.calls_a_second,
                    "cpuMicrosPerCall": cell.cpu_micros_a_call, "peakMegabytes": cell.peak_megabytes,
                })
            })
            .collect();
        let half: Vec<Value> = self
            .half
            .iter()
            .map(|row| json!({"peer": row.peer, "callsPerSecond": row.calls_a_second, "micros": named(&row.percentiles)}))
            .collect();
        let lists: Vec<Value> = self
            .lists
            .iter()
            .map(|row| {
                json!({"peer": row.peer, "era": row.era.as_str(), "bytes": row.bytes, "p50Millis": row.p50_millis, "cpuMillis": row.cpu_millis})
            })
            .collect();
        let memory: Vec<Value> = self
            .memory
            .iter()
            .map(|row| json!({"peer": row.peer, "transport": row.transport.as_str(), "megabytesAfterCalls": row.held}))
            .collect();
        let micro: Vec<Value> = self.micro.iter().map(|part| json!({"what": part.what, "nanos": part.nanos})).collect();
        let start = self.start.as_ref().map(|start| {
            json!({"grants": start.grants, "servers": start.servers, "tools": start.tools, "millis": start.millis, "megabytes": start.megabytes})
        });
        let all = json!({
            "when": self.when, "machine": self.machine, "pinned": self.pinned, "calls": calls, "halfOfHighestRate": half,
            "lists": lists, "memory": memory, "start": start, "micro": micro,
        });
        format!("{all:#}")
    }

    /// The results as tables in Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!("Measured {} on {}", self.when, self.machine);
        out += if self.pinned { "; the peer alone on one core.\n" } else { ".\n" };
        for transport in [Transport::Http, Transport::Stdio] {
            for era in [Era::Legacy, Era::Modern] {
                let _ = self.calls_table(transport, era, &mut out);
            }
        }
        let _ = self.rest(&mut out);
        out
    }

    fn calls_table(&self, transport: Transport, era: Era, out: &mut String) -> std::fmt::Result {
        let cells: Vec<&Cell> = self.calls.iter().filter(|cell| cell.transport == transport && cell.era == era).collect();
        if cells.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n**{}, {} era**\n", if transport == Transport::Http { "HTTP" } else { "stdio" }, era.as_str())?;
        writeln!(out, "| | at a time | p50 µs | p90 | p99 | p99.9 | calls/s | CPU µs a call | peak MB |")?;
        writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for cell in cells {
            let shown = |figure: Option<f64>| figure.map_or("–".to_owned(), |figure| format!("{figure:.1}"));
            let [p50, p90, p99, p999] = cell.percentiles;
            writeln!(
                out,
                "| {} | {} | {p50:.1} | {p90:.1} | {p99:.1} | {p999:.1} | {:.0} | {} | {} |",
                cell.peer,
                cell.concurrency,
                cell.calls_a_second,
                shown(cell.cpu_micros_a_call),
                shown(cell.peak_megabytes)
            )?;
        }
        Ok(())
    }

    fn rest(&self, out: &mut String) -> std::fmt::Result {
        if !self.half.is_empty() {
            writeln!(out, "\n**At half of the highest rate** (HTTP, 32 connections, open loop)\n")?;
            writeln!(out, "| | calls/s | {} |", PERCENTS.map(|percent| format!("p{percent} µs")).join(" | "))?;
            writeln!(out, "|---|--:|--:|--:|--:|--:|")?;
            for row in &self.half {
                let figures = row.percentiles.map(|micros| format!("{micros:.0}")).join(" | ");
                writeln!(out, "| {} | {:.0} | {figures} |", row.peer, row.calls_a_second)?;
            }
        }
        if !self.lists.is_empty() {
            writeln!(out, "\n**A `tools/list` of 2 MB** (HTTP, one at a time)\n")?;
            writeln!(out, "| | era | p50 ms | CPU ms |\n|---|---|--:|--:|")?;
            for row in &self.lists {
                let cpu = row.cpu_millis.map_or("–".to_owned(), |millis| format!("{millis:.2}"));
                writeln!(out, "| {} | {} | {:.2} | {cpu} |", row.peer, row.era.as_str(), row.p50_millis)?;
            }
        }
        if !self.memory.is_empty() {
            writeln!(out, "\n**Memory over a million calls**\n\n| | calls made: MB held |")?;
            writeln!(out, "|---|---|")?;
            for row in &self.memory {
                let held: Vec<String> = row.held.iter().map(|(calls, megabytes)| format!("{calls}: {megabytes:.1}")).collect();
                writeln!(out, "| {}, {} | {} |", row.peer, row.transport.as_str(), held.join(", "))?;
            }
        }
        if let Some(Start { grants, servers, tools, millis, megabytes }) = &self.start {
            writeln!(out, "\n**A large gateway**: with {grants} grants, {servers} servers and {tools} tools it listens after")?;
            writeln!(out, "{millis:.0} ms (in steps of 20), and holds {megabytes:.0} MB.")?;
        }
        if !self.micro.is_empty() {
            writeln!(out, "\n**Parts by themselves** (least of many rounds)\n\n| | µs |\n|---|--:|")?;
            for part in &self.micro {
                writeln!(out, "| {} | {:.2} |", part.what, part.nanos / 1e3)?;
            }
        }
        Ok(())
    }
}
