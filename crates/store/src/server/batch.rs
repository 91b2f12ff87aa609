//! The group of calls that is judged between the two trips of a commit.

use crate::admission::Taken;
use crate::book::{Book, change};
use crate::chain::{Head, Scribe};
use crate::draft::{Draft, Recorded, Row};
use crate::error::Fault;
use crate::journal::Change;
use crate::session::unkept;
use crate::tally::Tally;
use policy::Amount;
use std::collections::BTreeMap;

/// What the calls of a group are charged to and recorded in.
pub(crate) struct Batch<'s> {
    pub scribe: &'s Scribe,
    pub now: i64,
    pub head: Head,
    pub tally: Tally,
    pub records: Vec<Row>,
    pub changes: Vec<Change>,
}

/// How a batch stood before a call.
pub(crate) struct Before {
    head: Head,
    tally: usize,
    records: usize,
    changes: usize,
}

/// What is to be written, column by column.
#[derive(Default)]
pub(crate) struct Columns {
    pub keys: Vec<String>,
    pub buckets: Vec<i64>,
    pub micros: Vec<i64>,
    pub frees_at: Vec<i64>,
}

impl Batch<'_> {
    pub fn before(&self) -> Before {
        Before { head: self.head.clone(), tally: self.tally.mark(), records: self.records.len(), changes: self.changes.len() }
    }

    /// Undoes what one call has written.
    pub fn go_back(&mut self, before: Before) {
        self.tally.go_back(before.tally);
        self.records.truncate(before.records);
        self.changes.truncate(before.changes);
        self.head = before.head;
    }

    /// What was taken and what was given back, each bucket once.
    pub fn sums(&self) -> (Columns, Columns) {
        let mut sums: BTreeMap<(&str, i64, bool), (i64, i64)> = BTreeMap::new();
        for Change { key, bucket, frees_at, micros } in &self.changes {
            let sum = sums.entry((key, *bucket, *micros >= 0)).or_insert((0, *frees_at));
            sum.0 = sum.0.saturating_add(*micros);
        }
        let (mut taken, mut given) = (Columns::default(), Columns::default());
        for ((key, bucket, is_taken), (micros, frees_at)) in sums {
            let columns = if is_taken { &mut taken } else { &mut given };
            columns.keys.push(key.to_owned());
            columns.buckets.push(bucket);
            columns.micros.push(micros);
            columns.frees_at.push(frees_at);
        }
        (taken, given)
    }

    fn write(&mut self, change: Change) {
        self.tally.apply(&change);
        self.changes.push(change);
    }
}

impl Book for Batch<'_> {
    fn now(&self) -> i64 {
        self.now
    }

    fn held(&mut self, key: &str, from: i64) -> Result<Vec<(i64, Amount)>, Fault> {
        self.tally.held(key, from).ok_or_else(unkept)
    }

    fn take(&mut self, taken: &[Taken]) -> Result<(), Fault> {
        taken.iter().for_each(|taken| self.write(change(taken, 1)));
        Ok(())
    }

    fn give_back(&mut self, taken: &[Taken]) -> Result<(), Fault> {
        taken.iter().for_each(|taken| self.write(change(taken, -1)));
        Ok(())
    }

    fn append(&mut self, draft: &Draft) -> Result<Recorded, Fault> {
        let mut body = String::with_capacity(768);
        let recorded = self.scribe.write(draft, &self.head, self.now, &mut body);
        self.head = Head { seq: recorded.seq, hash: recorded.hash.clone() };
        self.records.push(Row { seq: recorded.seq, body, hash: recorded.hash.to_string() });
        Ok(recorded)
    }
}
