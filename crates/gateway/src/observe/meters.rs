//! What is counted: calls and other requests, how they ended, and how long they took.
//!
//! Counting takes no lock but to find a tool's row, and that one is shared. Who calls chooses the names of tools: so only the
//! first so many of a server get a row of their own, and all further ones share the row `other`.

use policy::{Outcome, Reason};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use store::Reply;

/// Tools of one server that are counted by name.
pub(crate) const MAX_TOOLS: usize = 256;
/// Where all further ones are counted, and methods that the protocol does not know.
pub(crate) const OTHER: &str = "other";
/// Upper bounds of the buckets of durations, in microseconds: from what judging takes to what a slow server takes.
pub(crate) const BOUNDS_US: [u64; 14] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000, 60_000_000];
pub(crate) const OUTCOMES: [Outcome; 3] = [Outcome::Allow, Outcome::Ask, Outcome::Deny];
pub(crate) const REPLIES: [Reply; 7] = [
    Reply::Completed,
    Reply::ToolError,
    Reply::UpstreamError,
    Reply::Withheld,
    Reply::Refused,
    Reply::InputRequired,
    Reply::Lost,
];

/// How long something took, each time.
#[derive(Default)]
pub(crate) struct Histogram {
    /// One more than there are bounds: what is beyond the last.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    pub fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS_US.partition_point(|bound| *bound < micros)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// How often each bucket was hit, and the sum in microseconds.
    pub fn read(&self) -> ([u64; BOUNDS_US.len() + 1], u64) {
        (std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed)), self.sum_us.load(Ordering::Relaxed))
    }
}

/// One tool, or one method.
pub(crate) struct Row {
    /// By outcome and reason.
    decisions: Vec<AtomicU64>,
    replies: [AtomicU64; REPLIES.len()],
    pub durations: Histogram,
}

impl Row {
    fn new() -> Row {
        let decisions = (0..OUTCOMES.len() * Reason::ALL.len()).map(|_| AtomicU64::new(0)).collect();
        Row { decisions, replies: Default::default(), durations: Histogram::default() }
    }

    pub fn decided(&self, outcome: Outcome, reason: Reason) {
        let outcome = OUTCOMES.iter().position(|known| *known == outcome);
        let reason = Reason::ALL.iter().position(|known| *known == reason);
        if let (Some(outcome), Some(reason)) = (outcome, reason) {
            self.decisions[outcome * Reason::ALL.len() + reason].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn ended(&self, reply: Reply, took: Duration) {
        if let Some(at) = REPLIES.iter().position(|known| *known == reply) {
            self.replies[at].fetch_add(1, Ordering::Relaxed);
        }
        self.durations.record(took);
    }

    /// How often each decision was made, of those that were.
    pub fn decisions(&self) -> impl Iterator<Item = (Outcome, Reason, u64)> + '_ {
        let of = |at: usize| (OUTCOMES[at / Reason::ALL.len()], Reason::ALL[at % Reason::ALL.len()]);
        let counts = self.decisions.iter().map(|count| count.load(Ordering::Relaxed)).enumerate();
        counts.filter(|(_, count)| *count > 0).map(move |(at, count)| (of(at).0, of(at).1, count))
    }

    /// How often each end was met, of those that were.
    pub fn replies(&self) -> impl Iterator<Item = (Reply, u64)> + '_ {
        let counts = self.replies.iter().map(|count| count.load(Ordering::Relaxed));
        REPLIES.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }
}

/// Rows by name, at most so many, and one for all others.
pub(crate) struct Rows {
    named: RwLock<BTreeMap<String, Arc<Row>>>,
    other: Arc<Row>,
    most: usize,
}

impl Rows {
    fn new(most: usize) -> Rows {
        Rows { named: RwLock::default(), other: Arc::new(Row::new()), most }
    }

    pub fn of(&self, name: &str) -> Arc<Row> {
        if let Some(row) = self.named.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return row.clone();
        }
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        if !named.contains_key(name) && named.len() >= self.most {
            return self.other.clone();
        }
        named.entry(name.to_owned()).or_insert_with(|| Arc::new(Row::new())).clone()
    }

    /// All rows, by name; `other` last.
    pub fn all(&self) -> Vec<(String, Arc<Row>)> {
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = named.iter().map(|(name, row)| (name.clone(), row.clone())).collect();
        all.push((OTHER.to_owned(), self.other.clone()));
        all
    }
}

/// Everything that is counted of one server.
pub(crate) struct ServerMeters {
    pub server: String,
    pub tools: Rows,
    pub methods: Rows,
    /// What a call waited for until it was decided, charged and recorded.
    pub decisions: Histogram,
    /// Records that could not be written.
    pub unrecorded: AtomicU64,
}

impl ServerMeters {
    pub fn new(server: &str) -> ServerMeters {
        ServerMeters {
            server: server.to_owned(),
            tools: Rows::new(MAX_TOOLS),
            methods: Rows::new(mcp::METHODS.len()),
            decisions: Histogram::default(),
            unrecorded: AtomicU64::new(0),
        }
    }

    /// Where a message is counted: a call by its tool, everything else by its method, as far as the protocol knows it.
    pub fn row(&self, method: Option<&str>, tool: Option<&str>) -> Arc<Row> {
        match (method, tool) {
            (Some("tools/call"), tool) => tool.map_or_else(|| self.tools.other.clone(), |tool| self.tools.of(tool)),
            (Some(method), _) if mcp::METHODS.iter().any(|row| row.name == method) => self.methods.of(method),
            _ => self.methods.other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_so_many_tools_further_ones_are_counted_together() {
        let meters = ServerMeters::new("s");
        for number in 0..MAX_TOOLS + 10 {
            meters.row(Some("tools/call"), Some(&format!("t{number}"))).decided(Outcome::Deny, Reason::Hidden);
        }
        let all = meters.tools.all();
        assert_eq!(all.len(), MAX_TOOLS + 1);
        let counts: Vec<u64> = all.iter().map(|(_, row)| row.decisions().map(|(_, _, count)| count).sum()).collect();
        assert_eq!((counts.iter().sum::<u64>(), counts.last()), (MAX_TOOLS as u64 + 10, Some(&10)));
        meters.row(Some("no/such"), None).decided(Outcome::Deny, Reason::MethodRefused);
        assert_eq!(meters.methods.all().len(), 1, "a method that nobody knows gets no row");
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for micros in [0, 50, 51, 60_000_000, 60_000_001] {
            histogram.record(Duration::from_micros(micros));
        }
        let (buckets, sum) = histogram.read();
        assert_eq!((buckets[0], buckets[1], buckets[13], buckets[14], sum), (2, 1, 1, 1, 120_000_102));
    }
}
