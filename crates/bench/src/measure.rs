//! What is run, and in which order.

use crate::load::{HttpLoad, LineLoad, Pace, Run};
use crate::peers::{Bed, Peer, Running, Transport};
use crate::wire::{Era, What};
use std::io;

/// How much is measured.
pub struct Plan {
    /// A few calls of each.
    pub quick: bool,
    /// Interleaved runs of each.
    pub rounds: usize,
    /// How long they are, of a hundred.
    pub percent: usize,
    /// Part of the names of the peers to be measured.
    pub only: Option<String>,
    /// The transport to be measured.
    pub transport: Option<String>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { quick: false, rounds: 5, percent: 100, only: None, transport: None }
    }
}

impl Plan {
    /// Whether a peer is to be measured.
    pub fn takes(&self, peer: &Peer) -> bool {
        !peer.is_process() || self.only.as_ref().is_none_or(|part| peer.name.contains(part.as_str()))
    }

    fn carries(&self, transport: Transport) -> bool {
        self.transport.as_ref().is_none_or(|word| word == transport.as_str())
    }

    fn calls(&self, peer: &Peer, full: usize) -> usize {
        match (self.quick, peer.slow) {
            (true, _) => 200,
            (false, true) => full * self.percent / 2_000,
            (false, false) => full * self.percent / 100,
        }
    }
}

/// One line of the main table: medians of runs, except that processor time is all of it over all calls.
#[derive(Clone, Debug)]
pub struct Cell {
    pub transport: Transport,
    pub era: Era,
    pub concurrency: usize,
    pub peer: String,
    /// p50, p90, p99 and p99.9 in microseconds.
    pub percentiles: [f64; 4],
    pub calls_a_second: f64,
    /// None where there is no process between.
    pub cpu_micros_a_call: Option<f64>,
    pub peak_megabytes: Option<f64>,
}

pub const PERCENTS: [f64; 4] = [50.0, 90.0, 99.0, 99.9];
const CONCURRENCIES: [usize; 2] = [1, 32];

/// A peer that is running, and what its runs have shown.
struct Subject<'p, L> {
    peer: &'p Peer,
    running: Option<Running>,
    load: L,
    runs: Vec<Run>,
    cpu_micros: u64,
}

impl<L> Subject<'_, L> {
    fn measure(&mut self, run: impl FnOnce(&mut L) -> io::Result<Run>) -> io::Result<()> {
        let before = self.running.as_ref().map_or(0, Running::cpu_micros);
        let done = run(&mut self.load).map_err(|error| io::Error::other(format!("{}: {error}", self.peer.name)))?;
        self.cpu_micros += self.running.as_ref().map_or(0, Running::cpu_micros) - before;
        self.runs.push(done);
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn cell(&self, transport: Transport, era: Era, concurrency: usize) -> Cell {
        let calls: usize = self.runs.iter().map(|run| run.latencies.len()).sum();
        let process = self.running.as_ref().filter(|_| self.peer.is_process());
        Cell {
            transport,
            era,
            concurrency,
            peer: self.peer.name.clone(),
            percentiles: PERCENTS.map(|percent| median(self.runs.iter().map(|run| run.percentile(percent)))),
            calls_a_second: median(self.runs.iter().map(Run::rate)),
            cpu_micros_a_call: process.map(|_| self.cpu_micros as f64 / calls as f64),
            peak_megabytes: process.map(|running| running.peak_kilobytes() as f64 / 1024.0),
        }
    }
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

/// Small calls through every peer.
pub fn calls(bed: &Bed, peers: &[Peer], plan: &Plan) -> io::Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for era in [Era::Legacy, Era::Modern] {
        for concurrency in CONCURRENCIES {
            if plan.carries(Transport::Http) {
                cells.extend(calls_over_http(bed, peers, plan, era, concurrency)?);
            }
            if plan.carries(Transport::Stdio) {
                cells.extend(calls_over_stdio(bed, peers, plan, era, concurrency)?);
            }
        }
    }
    Ok(cells)
}

fn calls_over_http(bed: &Bed, peers: &[Peer], plan: &Plan, era: Era, concurrency: usize) -> io::Result<Vec<Cell>> {
    let (_echo, upstream) = bed.echo_http(0)?;
    let mut subjects = Vec::new();
    for peer in peers.iter().filter(|peer| peer.speaks(Transport::Http)) {
        let (running, address) = bed.start_http(peer, upstream)?;
        let load = HttpLoad::connect(peer, address, era, What::Call, concurrency)
            .map_err(|error| io::Error::other(format!("{}: {error}", peer.name)))?;
        subjects.push(Subject { peer, running, load, runs: Vec::new(), cpu_micros: 0 });
    }
    let full = if concurrency == 1 { 8_000 } else { 32_000 };
    for round in 0..=plan.rounds {
        progress(Transport::Http, era, concurrency, round, plan);
        for subject in &mut subjects {
            let calls = plan.calls(subject.peer, full);
            if round == 0 {
                subject.load.run(calls / 4 + 1, Pace::Closed)?;
            } else {
                subject.measure(|load| load.run(calls, Pace::Closed))?;
            }
        }
    }
    Ok(subjects.iter().map(|subject| subject.cell(Transport::Http, era, concurrency)).collect())
}

fn calls_over_stdio(bed: &Bed, peers: &[Peer], plan: &Plan, era: Era, depth: usize) -> io::Result<Vec<Cell>> {
    let mut subjects = Vec::new();
    for peer in peers.iter().filter(|peer| peer.speaks(Transport::Stdio)) {
        let (running, to, from) = bed.start_stdio(peer)?;
        let load = LineLoad::start(to, from, era).map_err(|error| io::Error::other(format!("{}: {error}", peer.name)))?;
        subjects.push(Subject { peer, running: Some(running), load, runs: Vec::new(), cpu_micros: 0 });
    }
    let full = if depth == 1 { 20_000 } else { 100_000 };
    for round in 0..=plan.rounds {
        progress(Transport::Stdio, era, depth, round, plan);
        for subject in &mut subjects {
            let calls = plan.calls(subject.peer, full);
            if round == 0 {
                subject.load.run(calls / 4 + 1, depth)?;
            } else {
                subject.measure(|load| load.run(calls, depth))?;
            }
        }
    }
    Ok(subjects.iter().map(|subject| subject.cell(Transport::Stdio, era, depth)).collect())
}

fn progress(transport: Transport, era: Era, concurrency: usize, round: usize, plan: &Plan) {
    let what = if round == 0 { "warming up".to_owned() } else { format!("round {round} of {}", plan.rounds) };
    eprintln!("{} {}, {concurrency} at a time: {what}", transport.as_str(), era.as_str());
}

/// Latencies at half of a peer's highest rate.
#[derive(Clone, Debug)]
pub struct Half {
    pub peer: String,
    pub calls_a_second: f64,
    pub percentiles: [f64; 4],
}

/// Finds each peer's highest rate over 32 connections of the legacy era, and then makes calls at half of it, at their times.
pub fn half(bed: &Bed, peers: &[Peer], plan: &Plan) -> io::Result<Vec<Half>> {
    let (_echo, upstream) = bed.echo_http(0)?;
    let mut rows = Vec::new();
    for peer in peers.iter().filter(|peer| peer.speaks(Transport::Http)) {
        eprintln!("half of the highest rate: {}", peer.name);
        let (_running, address) = bed.start_http(peer, upstream)?;
        let mut load = HttpLoad::connect(peer, address, Era::Legacy, What::Call, 32)?;
        let calls = plan.calls(peer, 20_000);
        load.run(calls / 4 + 1, Pace::Closed)?;
        let highest = load.run(calls, Pace::Closed)?.rate();
        let runs = (0..plan.rounds).map(|_| load.run(calls, Pace::Open(highest / 2.0))).collect::<io::Result<Vec<_>>>()?;
        rows.push(Half {
            peer: peer.name.clone(),
            calls_a_second: highest / 2.0,
            percentiles: PERCENTS.map(|percent| median(runs.iter().map(|run| run.percentile(percent)))),
        });
    }
    Ok(rows)
}

/// How long a long `tools/list` takes.
#[derive(Clone, Debug)]
pub struct List {
    pub peer: String,
    pub era: Era,
    pub bytes: usize,
    pub p50_millis: f64,
    pub cpu_millis: Option<f64>,
}

/// A `tools/list` of two megabytes.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub fn lists(bed: &Bed, peers: &[Peer], plan: &Plan) -> io::Result<Vec<List>> {
    let bytes = 2_000_000;
    let (_echo, upstream) = bed.echo_http(bytes)?;
    let mut rows = Vec::new();
    for era in [Era::Legacy, Era::Modern] {
        for peer in peers.iter().filter(|peer| peer.speaks(Transport::Http) && !peer.slow) {
            eprintln!("a list of {bytes} bytes, {}: {}", era.as_str(), peer.name);
            let (running, address) = bed.start_http(peer, upstream)?;
            let mut load = HttpLoad::connect(peer, address, era, What::List, 1)?;
            let calls = if plan.quick { 3 } else { 60 };
            load.run(calls / 4 + 1, Pace::Closed)?;
            let before = running.as_ref().map_or(0, Running::cpu_micros);
            let run = load.run(calls, Pace::Closed)?;
            let cpu = running.as_ref().map(|running| (running.cpu_micros() - before) as f64 / 1e3 / calls as f64);
            rows.push(List { peer: peer.name.clone(), era, bytes, p50_millis: run.percentile(50.0) / 1e3, cpu_millis: cpu });
        }
    }
    Ok(rows)
}

/// What a process holds after so many calls.
#[derive(Clone, Debug)]
pub struct Memory {
    pub peer: String,
    pub transport: Transport,
    /// Calls made, and megabytes held after them.
    pub held: Vec<(usize, f64)>,
}

/// A million calls through the callgate that does the most.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub fn memory(bed: &Bed, peers: &[Peer], plan: &Plan) -> io::Result<Vec<Memory>> {
    let Some(peer) = peers.iter().rfind(|peer| peer.name.starts_with("callgate") && !peer.slow) else { return Ok(Vec::new()) };
    let steps: &[usize] = if plan.quick { &[100, 100] } else { &[10_000, 90_000, 400_000, 500_000] };
    let mut rows = Vec::new();
    if plan.carries(Transport::Http) {
        let (_echo, upstream) = bed.echo_http(0)?;
        let (running, address) = bed.start_http(peer, upstream)?;
        let mut load = HttpLoad::connect(peer, address, Era::Modern, What::Call, 32)?;
        rows.push(grow(peer, Transport::Http, running.as_ref(), steps, |calls| load.run(calls, Pace::Closed).map(drop))?);
    }
    if plan.carries(Transport::Stdio) {
        let (running, to, from) = bed.start_stdio(peer)?;
        let mut load = LineLoad::start(to, from, Era::Modern)?;
        rows.push(grow(peer, Transport::Stdio, Some(&running), steps, |calls| load.run(calls, 32).map(drop))?);
    }
    return Ok(rows);

    fn grow(
        peer: &Peer,
        transport: Transport,
        running: Option<&Running>,
        steps: &[usize],
        mut run: impl FnMut(usize) -> io::Result<()>,
    ) -> io::Result<Memory> {
        let mut held = Vec::new();
        let mut made = 0;
        for &calls in steps {
            eprintln!("memory over {}: {} calls", transport.as_str(), made + calls);
            run(calls)?;
            made += calls;
            held.push((made, running.map_or(0, Running::kilobytes) as f64 / 1024.0));
        }
        Ok(Memory { peer: peer.name.clone(), transport, held })
    }
}
