//! Counters as this process knows them: what the database and the journal say of them, kept at hand.
//!
//! A counter is here from when it is first asked for until something happens that only the database knows of. Then all
//! are forgotten, and fetched again as they are needed. Every change can be taken back until it is said to be final.

use crate::counters::amount;
use crate::journal::Change;
use policy::Amount;
use std::collections::HashMap;
use std::sync::Arc;

/// The counters that are known.
#[derive(Default)]
pub(crate) struct Tally {
    counters: HashMap<Arc<str>, Counter>,
    /// What the buckets held that were changed since the last [`Tally::keep`].
    undo: Vec<(Arc<str>, i64, Option<Bucket>)>,
}

struct Counter {
    /// Only buckets from here on are known.
    floor: i64,
    /// In the order of their starts.
    buckets: Vec<Bucket>,
}

#[derive(Clone, Copy)]
struct Bucket {
    start: i64,
    micros: i64,
}

impl Tally {
    /// Whether all buckets of a counter from `from` on are known.
    pub fn knows(&self, key: &str, from: i64) -> bool {
        self.counters.get(key).is_some_and(|counter| counter.floor <= from)
    }

    /// Takes over a counter as the database has it: buckets from `floor` on with their amounts in millionths.
    pub fn learn(&mut self, key: Arc<str>, floor: i64, mut buckets: Vec<(i64, i64)>) {
        if self.counters.len() >= MOST {
            self.forget();
        }
        buckets.sort_unstable();
        let buckets = buckets.into_iter().map(|(start, micros)| Bucket { start, micros }).collect();
        self.counters.insert(key, Counter { floor, buckets });
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        self.counters.clear();
        self.undo.clear();
    }

    /// The buckets of a counter from `from` on; `None` when they are not known.
    pub fn held(&mut self, key: &str, from: i64) -> Option<Vec<(i64, Amount)>> {
        let counter = self.counters.get_mut(key).filter(|counter| counter.floor <= from)?;
        let first = counter.buckets.partition_point(|bucket| bucket.start < from);
        // Time has passed over them. Should the clock be set back, they are fetched again.
        if first > OVER && self.undo.is_empty() {
            counter.buckets.drain(..first);
            counter.floor = from;
            return Some(counter.buckets.iter().map(Bucket::amount).collect());
        }
        Some(counter.buckets[first..].iter().map(Bucket::amount).collect())
    }

    /// Carries out a change, as [`crate::counters::apply`] does in the database.
    pub fn apply(&mut self, change: &Change) {
        let Some(counter) = self.counters.get_mut(&change.key).filter(|counter| counter.floor <= change.bucket) else { return };
        let at = counter.buckets.binary_search_by_key(&change.bucket, |bucket| bucket.start);
        let before = at.ok().map(|at| counter.buckets[at]);
        self.undo.push((change.key.clone(), change.bucket, before));
        match at {
            Ok(at) => counter.buckets[at].micros = changed(counter.buckets[at].micros, change.micros),
            Err(_) if change.micros < 0 => {}
            Err(at) => counter.buckets.insert(at, Bucket { start: change.bucket, micros: change.micros }),
        }
    }

    /// A point to go back to.
    pub fn mark(&self) -> usize {
        self.undo.len()
    }

    /// Takes back what was changed since `mark`.
    pub fn go_back(&mut self, mark: usize) {
        for (key, start, before) in self.undo.drain(mark..).rev() {
            let Some(counter) = self.counters.get_mut(&key) else { continue };
            match (counter.buckets.binary_search_by_key(&start, |bucket| bucket.start), before) {
                (Ok(at), Some(before)) => counter.buckets[at] = before,
                (Ok(at), None) => drop(counter.buckets.remove(at)),
                (Err(_), _) => {}
            }
        }
    }

    /// What was changed stays.
    pub fn keep(&mut self) {
        self.undo.clear();
    }
}

impl Bucket {
    fn amount(&self) -> (i64, Amount) {
        (self.start, amount(self.micros))
    }
}

/// Past the largest amount a counter stays there, and below nothing at nothing.
fn changed(used: i64, micros: i64) -> i64 {
    match micros >= 0 {
        true => used.saturating_add(micros),
        false => used.saturating_add(micros).max(0),
    }
}

/// So many counters are known at a time.
const MOST: usize = 20_000;
/// So many buckets that no longer count are kept at hand.
const OVER: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn change(bucket: i64, micros: i64) -> Change {
        Change { key: "k".into(), bucket, frees_at: bucket + 10, micros }
    }

    fn held(tally: &mut Tally) -> Vec<(i64, u64)> {
        tally.held("k", 0).unwrap().into_iter().map(|(start, amount)| (start, amount.micros())).collect()
    }

    #[test]
    fn changes_are_carried_out_and_taken_back() {
        let mut tally = Tally::default();
        tally.apply(&change(1, 5));
        assert!(tally.held("k", 0).is_none(), "what is not known stays unknown");
        tally.learn("k".into(), 0, vec![(3, 7), (1, 2)]);
        let mark = tally.mark();
        for (bucket, micros) in [(1, 5), (2, 1), (3, -9), (4, -1), (2, i64::MAX)] {
            tally.apply(&change(bucket, micros));
        }
        assert_eq!(held(&mut tally), [(1, 7), (2, i64::MAX as u64), (3, 0)]);
        tally.go_back(mark);
        assert_eq!(held(&mut tally), [(1, 2), (3, 7)]);
        assert!(!tally.knows("k", -1) && tally.held("k", -1).is_none());
    }

    #[test]
    fn a_spoilt_counter_is_full() {
        let mut tally = Tally::default();
        tally.learn("k".into(), 0, vec![(1, -5)]);
        assert_eq!(held(&mut tally), [(1, Amount::MAX.micros())]);
    }
}
