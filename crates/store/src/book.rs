//! Where a call's charges and records are written: into the database, or into the journal.
//!
//! Most calls need nothing but this, and can do with either. What needs more (approvals, recent calls) works on the
//! database alone.

use crate::admission::Taken;
use crate::chain::{Head, Ledger, Scribe};
use crate::counters;
use crate::draft::{Draft, Recorded};
use crate::error::Fault;
use crate::journal::{self, Change};
use crate::tally::Tally;
use policy::Amount;

/// What a call is charged to and recorded in. What it writes stands once it is committed, or not at all.
pub(crate) trait Book {
    /// The store's time.
    fn now(&self) -> i64;

    /// What a counter's buckets from `from` on hold.
    fn held(&mut self, key: &str, from: i64) -> Result<Vec<(i64, Amount)>, Fault>;

    /// Writes down what was judged to fit.
    fn take(&mut self, taken: &[Taken]) -> Result<(), Fault>;

    /// Gives back what a call has taken, into the very buckets it was taken from.
    fn give_back(&mut self, taken: &[Taken]) -> Result<(), Fault>;

    /// Binds a draft into the chain.
    fn append(&mut self, draft: &Draft) -> Result<Recorded, Fault>;
}

impl Book for Ledger<'_> {
    fn now(&self) -> i64 {
        Ledger::now(self)
    }

    fn held(&mut self, key: &str, from: i64) -> Result<Vec<(i64, Amount)>, Fault> {
        counters::held(self.sql, key, from)
    }

    fn take(&mut self, taken: &[Taken]) -> Result<(), Fault> {
        counters::apply(self.sql, taken.iter().map(|taken| change(taken, 1)).collect::<Vec<_>>().iter())
    }

    fn give_back(&mut self, taken: &[Taken]) -> Result<(), Fault> {
        counters::apply(self.sql, taken.iter().map(|taken| change(taken, -1)).collect::<Vec<_>>().iter())
    }

    fn append(&mut self, draft: &Draft) -> Result<Recorded, Fault> {
        Ledger::append(self, draft)
    }
}

/// A group of the journal that is being written.
pub(crate) struct Page<'t> {
    pub scribe: &'t Scribe,
    pub head: Head,
    pub tally: &'t mut Tally,
    /// The group's text.
    pub text: String,
}

/// How a page stood before a call.
pub(crate) struct Before {
    head: Head,
    text: usize,
    tally: usize,
}

impl Page<'_> {
    pub fn before(&self) -> Before {
        Before { head: self.head.clone(), text: self.text.len(), tally: self.tally.mark() }
    }

    /// Undoes what one call has written.
    pub fn go_back(&mut self, before: Before) {
        self.text.truncate(before.text);
        self.tally.go_back(before.tally);
        self.head = before.head;
    }

    fn write(&mut self, change: &Change) {
        self.tally.apply(change);
        journal::write_change(&mut self.text, change);
    }
}

impl Book for Page<'_> {
    fn now(&self) -> i64 {
        self.scribe.clock.now()
    }

    fn held(&mut self, key: &str, from: i64) -> Result<Vec<(i64, Amount)>, Fault> {
        // It was fetched before; unless a clock was set back in between.
        self.tally
            .held(key, from)
            .ok_or_else(|| Fault::Refused(Fault::State("a counter is not at hand; try again".to_owned()).at("this call")))
    }

    fn take(&mut self, taken: &[Taken]) -> Result<(), Fault> {
        taken.iter().for_each(|taken| self.write(&change(taken, 1)));
        Ok(())
    }

    fn give_back(&mut self, taken: &[Taken]) -> Result<(), Fault> {
        taken.iter().for_each(|taken| self.write(&change(taken, -1)));
        Ok(())
    }

    fn append(&mut self, draft: &Draft) -> Result<Recorded, Fault> {
        let recorded = self.scribe.write(draft, &self.head, self.scribe.clock.now(), &mut self.text);
        journal::end_record(&mut self.text, &recorded.hash);
        self.head = Head { seq: recorded.seq, hash: recorded.hash.clone() };
        Ok(recorded)
    }
}

pub(crate) fn change(taken: &Taken, sign: i64) -> Change {
    let micros = i64::try_from(taken.amount.micros()).expect("the largest amount fits a signed 64-bit column");
    Change { key: taken.key.clone(), bucket: taken.bucket, frees_at: taken.frees_at, micros: sign * micros }
}
