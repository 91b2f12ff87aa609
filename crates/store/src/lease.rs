//! Leases: a part of a limit that a gateway takes at a time, and gives out to calls by itself.
//!
//! A limit that many calls of many gateways meet makes each of them wait for the counter's lock, or for a trip to the server
//! that counts. With a lease a gateway charges the counter once for many calls, with the very charge that a call would make;
//! so no more than the limit can ever be given out, and what a gateway has taken and not used is all that can be lost.
//!
//! **A lease is good for the bucket in which it was taken,** for calls count in the bucket in which they are made; it ends two
//! seconds before, which is longer than a call may take to be admitted. The time that counts is the server's: what it said
//! when the lease was taken, and how long ago that was *asked*, so that a slow answer can only end it early. How long ago is
//! read off two clocks, of which the later one counts: one stands still while the machine sleeps, the other may be set back.
//!
//! **There is one lease a counter,** and one caller at a time renews it; so a gateway holds at most one lease's worth unused.
//! What is left of one that has ended is given back before the next is taken, and when the gateway ends. Where the counter has
//! not enough left for a lease, calls are charged one by one, exactly.

use crate::admission::{Admission, Admitted, Subject, Taken, Verdict};
use crate::admit::Keyed;
use crate::book::Book;
use crate::counters::{self, Judged};
use crate::error::Fault;
use crate::job::{Plain, Work};
use crate::{Clock, Store, StoreError};
use policy::{Amount, Bound, Charge, Mode, Usage};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::OwnedMutexGuard;

/// What a gateway has taken of limits ahead of calls.
#[derive(Default)]
pub(crate) struct Leases {
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    /// By counter and bound: what was taken under one bound says nothing of another.
    by_counter: HashMap<(String, u64), Arc<Slot>>,
    /// When it was last looked for some that are of no use any more.
    swept: Option<Instant>,
}

/// The lease of one counter.
#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    /// Held by whoever renews it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    lease: Option<Lease>,
    /// There was not enough left for a lease; until then it is not tried again.
    dry_until: Option<Instant>,
    /// When it could not be renewed last, and why.
    failed: Option<(Instant, StoreError)>,
    /// Put back when there was no lease to put it to; given back with the next.
    spare: Vec<Taken>,
}

impl State {
    /// What is left to give back; nothing of it can be given out any more.
    fn rest(&mut self, key: &str) -> Vec<Taken> {
        let mut rest = std::mem::take(&mut self.spare);
        rest.extend(self.lease.take().and_then(|lease| lease.rest(key)));
        rest
    }
}

struct Lease {
    bucket: i64,
    frees_at: i64,
    left: Amount,
    /// How the counter stood before, with what was given out of this added.
    usage: Usage,
    /// By the store's clock, in milliseconds since the Unix epoch.
    ends_at: i64,
    asked: Moment,
    good_for: Duration,
}

/// A moment, by the time that passes while the machine is awake, and by the time of day.
#[derive(Clone, Copy)]
struct Moment(Instant, SystemTime);

impl Moment {
    fn now() -> Moment {
        Moment(Instant::now(), SystemTime::now())
    }

    /// Whether so much time has passed since by either.
    fn is_past(&self, span: Duration) -> bool {
        self.0.elapsed() >= span || self.1.elapsed().is_ok_and(|passed| passed >= span)
    }
}

/// An amount out of a lease, for one call.
struct Part {
    /// Which of the call's charges it is for.
    index: usize,
    slot: Arc<Slot>,
    taken: Taken,
    usage: Usage,
}

/// What a call has out of leases, put back unless the call goes on with it.
#[derive(Default)]
struct InHand(Vec<Part>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Part::put_back);
    }
}

/// Admits a call, some of whose charges come out of leases.
pub(crate) async fn admit(store: &Store, leases: &Leases, mut admission: Admission) -> Result<Admitted, StoreError> {
    let mut in_hand = InHand::default();
    for (index, key) in leasable(&admission.charges, &admission.subject) {
        let charge = &admission.charges[index];
        if let Some(part) = leases.take(store, index, key, charge).await? {
            in_hand.0.push(part);
        }
    }
    let parts = std::mem::take(&mut in_hand.0);
    if parts.is_empty() {
        return store.admit_counted(admission).await;
    }
    // From here on what was taken stays taken, unless the call is seen to be refused: as with any charge.
    let of_leases: Vec<(usize, Usage)> = parts.iter().map(|part| (part.index, part.usage)).collect();
    let mut index = 0;
    admission.charges.retain(|_| {
        index += 1;
        of_leases.iter().all(|(of_lease, _)| *of_lease != index - 1)
    });
    let (record, seen) = (admission.record, of_leases.clone());
    admission.record = Box::new(move |verdict| record(&whole(verdict, &seen)));
    let Admitted { verdict, recorded, mut reservation, draft } = store.admit_counted(admission).await?;
    match verdict {
        Verdict::Granted { .. } => reservation.taken.extend(parts.into_iter().map(|part| part.taken)),
        _ => parts.into_iter().for_each(Part::put_back),
    }
    Ok(Admitted { verdict: whole(&verdict, &of_leases), recorded, reservation, draft })
}

/// The charges that may come out of a lease, with the keys of their counters: not those on whose counter the call lays
/// another demand.
fn leasable(charges: &[Charge], subject: &Subject) -> Vec<(usize, Arc<str>)> {
    let is_leased = |charge: &Charge| {
        let is_enforced = charge.mode == Mode::Enforce && matches!(charge.bound, Bound::AtMost(_));
        is_enforced && charge.amount > Amount::ZERO && charge.lease.is_some_and(|lease| charge.amount <= lease)
    };
    let alone = |charge: &Charge| charges.iter().filter(|other| other.counter == charge.counter).count() == 1;
    let found = charges.iter().enumerate().filter(|(_, charge)| is_leased(charge) && alone(charge));
    found.map(|(index, charge)| (index, counters::key(&charge.counter, subject))).collect()
}

/// A verdict on what was left of a call's charges, as one on all of them. `of_leases`: which were taken out, in their order.
fn whole(verdict: &Verdict, of_leases: &[(usize, Usage)]) -> Verdict {
    match verdict {
        Verdict::Granted { usages, approval } => {
            let mut usages = usages.clone();
            of_leases.iter().for_each(|(index, usage)| usages.insert(*index, *usage));
            Verdict::Granted { usages, approval: approval.clone() }
        }
        Verdict::Exhausted { index, usage } => {
            let mut index = *index;
            for (of_lease, _) in of_leases {
                index += usize::from(*of_lease <= index);
            }
            Verdict::Exhausted { index, usage: *usage }
        }
        other => other.clone(),
    }
}

impl Leases {
    /// Takes the amount of a charge out of its lease, which is renewed where that is needed; `None` where it is to be charged
    /// by itself.
    async fn take(&self, store: &Store, index: usize, key: Arc<str>, charge: &Charge) -> Result<Option<Part>, StoreError> {
        let Some(slot) = self.slot(&key, charge, &store.clock) else { return Ok(None) };
        let begun = Instant::now();
        match slot.part(index, &key, charge, &store.clock) {
            Found::Part(part) => return Ok(Some(part)),
            Found::Dry => return Ok(None),
            Found::Nothing => {}
        }
        let slow = || Fault::Slow.at(&store.url.to_string());
        let turn = tokio::time::timeout(DEADLINE, slot.turn.clone().lock_owned()).await.map_err(|_| slow())?;
        match slot.part(index, &key, charge, &store.clock) {
            Found::Part(part) => return Ok(Some(part)),
            Found::Dry => return Ok(None),
            Found::Nothing => {}
        }
        // In a burst of calls one failure answers all.
        if let Some((when, error)) = slot.lock().failed.clone()
            && when >= begun
        {
            return Err(error);
        }
        // By itself, so that a caller who goes does not take it along.
        let renewed = tokio::spawn(renew(store.clone(), slot.clone(), key.clone(), charge.clone(), turn));
        let left = DEADLINE.saturating_sub(begun.elapsed());
        tokio::time::timeout(left, renewed).await.map_err(|_| slow())?.unwrap_or(Err(StoreError::Busy))?;
        Ok(match slot.part(index, &key, charge, &store.clock) {
            Found::Part(part) => Some(part),
            Found::Dry | Found::Nothing => None,
        })
    }

    fn slot(&self, key: &str, charge: &Charge, clock: &Clock) -> Option<Arc<Slot>> {
        let Bound::AtMost(bound) = charge.bound else { return None };
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (key.to_owned(), bound.micros());
        if slots.by_counter.len() >= MOST && !slots.by_counter.contains_key(&name) {
            // That takes a while: not for every call that comes while there is no room.
            if slots.swept.is_some_and(|swept| swept.elapsed() < SWEEP) {
                return None;
            }
            slots.swept = Some(Instant::now());
            let is_of_use = |slot: &Slot| slot.lock().lease.as_ref().is_some_and(|lease| lease.is_of_use(clock));
            slots.by_counter.retain(|_, slot| Arc::strong_count(slot) > 1 || is_of_use(slot));
            if slots.by_counter.len() >= MOST {
                return None;
            }
        }
        Some(slots.by_counter.entry(name).or_default().clone())
    }

    /// Gives back what is left of all leases.
    pub async fn give_back(&self, store: &Store) {
        let slots = std::mem::take(&mut *self.slots.lock().unwrap_or_else(PoisonError::into_inner));
        let left: Vec<Taken> = slots.by_counter.into_iter().flat_map(|((key, _), slot)| slot.lock().rest(&key)).collect();
        for piece in left.chunks(AT_ONCE) {
            give_back(store, piece.iter().map(copied).collect()).await;
        }
    }
}

/// What a lease has for a call.
enum Found {
    Part(Part),
    /// There is not enough left of the limit for a lease.
    Dry,
    Nothing,
}

impl Slot {
    fn part(self: &Arc<Slot>, index: usize, key: &str, charge: &Charge, clock: &Clock) -> Found {
        let mut state = self.lock();
        let is_good = |lease: &Lease| lease.is_good(clock) && lease.left >= charge.amount;
        if let Some(lease) = state.lease.as_mut().filter(|lease| is_good(lease)) {
            let usage = lease.usage;
            lease.left = lease.left.saturating_sub(charge.amount);
            lease.usage.used = usage.used.checked_add(charge.amount).unwrap_or(Amount::MAX);
            let taken = Taken { key: key.into(), bucket: lease.bucket, amount: charge.amount, frees_at: lease.frees_at };
            return Found::Part(Part { index, slot: self.clone(), taken, usage });
        }
        match state.dry_until.is_some_and(|until| Instant::now() < until) {
            true => Found::Dry,
            false => Found::Nothing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// What the server has said of its time since is believed as well.
    fn is_good(&self, clock: &Clock) -> bool {
        clock.now() < self.ends_at && !self.asked.is_past(self.good_for)
    }

    fn is_of_use(&self, clock: &Clock) -> bool {
        self.is_good(clock) && self.left > Amount::ZERO
    }

    /// What is left of it.
    fn rest(self, key: &str) -> Option<Taken> {
        let Lease { bucket, frees_at, left, .. } = self;
        (left > Amount::ZERO).then(|| Taken { key: key.into(), bucket, amount: left, frees_at })
    }
}

impl Part {
    fn put_back(self) {
        let mut state = self.slot.lock();
        if let Some(lease) = state.lease.as_mut().filter(|lease| lease.bucket == self.taken.bucket) {
            lease.left = lease.left.checked_add(self.taken.amount).unwrap_or(lease.left);
            lease.usage.used = lease.usage.used.saturating_sub(self.taken.amount);
        } else if state.spare.len() < AT_ONCE {
            // What there is no room for stays taken.
            state.spare.push(copied(&self.taken));
        }
    }
}

/// Gives back what is left of a lease, and takes another. Whoever has the turn calls it.
async fn renew(
    store: Store,
    slot: Arc<Slot>,
    key: Arc<str>,
    charge: Charge,
    _turn: OwnedMutexGuard<()>,
) -> Result<(), StoreError> {
    let rest = slot.lock().rest(&key);
    let window = &charge.counter.window;
    let now = store.clock.now();
    // Towards the end of a bucket there is nothing to be had.
    if window.bucket_end(window.bucket(now)).saturating_sub(now) <= 2 * EARLY_MS {
        give_back(&store, rest).await;
        slot.lock().dry_until = Some(Instant::now() + DRY);
        return Ok(());
    }
    let amount = charge.lease.unwrap_or(charge.amount);
    let Charge { counter, bound, rule, mode, .. } = charge.clone();
    let whole: Keyed = vec![(key, Charge::new(counter, amount, bound, rule, mode))];
    // What is left is short of what the call needs, or of another bucket.
    give_back(&store, rest).await;
    let asked = Moment::now();
    let charged = charge_ahead(&store, &whole).await;
    let mut state = slot.lock();
    match charged {
        Ok((at, Judged::Fit { usages, taken })) => {
            let (Some(usage), Some(Taken { bucket, frees_at, .. })) = (usages.first(), taken.first()) else { return Ok(()) };
            let ends_at = whole[0].1.counter.window.bucket_end(*bucket).saturating_sub(EARLY_MS);
            let good_for = Duration::from_millis(u64::try_from(ends_at.saturating_sub(at)).unwrap_or(0));
            let (bucket, frees_at, usage) = (*bucket, *frees_at, *usage);
            state.lease = Some(Lease { bucket, frees_at, left: amount, usage, ends_at, asked, good_for });
            state.failed = None;
            Ok(())
        }
        Ok((_, Judged::Exhausted { .. })) => {
            state.dry_until = Some(Instant::now() + DRY);
            state.failed = None;
            Ok(())
        }
        Err(error) => {
            state.failed = Some((Instant::now(), error.clone()));
            Err(error)
        }
    }
}

/// Charges a counter for calls to come; gives the server's time, and what came of it.
async fn charge_ahead(store: &Store, charges: &Keyed) -> Result<(i64, Judged), StoreError> {
    if let Some(redis) = &store.counters {
        return redis.charge(charges).await;
    }
    let charges: Keyed = charges.clone();
    let wants = charges.iter().map(|(key, _)| (key.clone(), i64::MIN)).collect();
    let work = Box::new(move |book: &mut dyn Book| {
        let now = book.now();
        let judged = counters::judge(&charges, now, |key, from| book.held(key, from))?;
        if let Judged::Fit { taken, .. } = &judged {
            book.take(taken)?;
        }
        Ok((now, judged))
    });
    store.writer.perform(false, Work::Plain(Plain { wants, work })).await
}

/// Gives back what was not used. What cannot be given back stays spent.
async fn give_back(store: &Store, rest: Vec<Taken>) {
    if rest.is_empty() {
        return;
    }
    let given = match &store.counters {
        Some(redis) => redis.give_back(&rest).await,
        None => {
            let wants = rest.iter().map(|taken| (taken.key.clone(), taken.bucket)).collect();
            let work = Box::new(move |book: &mut dyn Book| book.give_back(&rest));
            store.writer.perform(false, Work::Plain(Plain { wants, work })).await
        }
    };
    if let Err(error) = given {
        tracing::warn!(%error, "what was taken of a limit and not used could not be given back, and stays spent");
    }
}

fn copied(taken: &Taken) -> Taken {
    Taken { key: taken.key.clone(), ..*taken }
}

/// So many counters have a lease at a time.
const MOST: usize = 10_000;
/// So often it is looked for leases that are of no use, where there is no room for another.
const SWEEP: Duration = Duration::from_secs(1);
/// So many are given back in one commit.
const AT_ONCE: usize = 256;
/// A lease ends so long before its bucket: longer than a call may take to be admitted.
const EARLY_MS: i64 = 2_000;
/// How long a lease is not tried again where there was not enough left for one.
const DRY: Duration = Duration::from_secs(1);
/// A store that does not answer must deny within two seconds.
const DEADLINE: Duration = Duration::from_millis(1900);

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Counter, Scope, Window};

    fn lease(ends_at: i64, asked: Moment) -> Lease {
        let usage = Usage { used: Amount::ZERO, resets_at: 0, retry_after_ms: 1 };
        let good_for = Duration::from_secs(60);
        Lease { bucket: 0, frees_at: 0, left: Amount::MAX, usage, ends_at, asked, good_for }
    }

    #[test]
    fn a_lease_ends_with_its_bucket_while_the_machine_sleeps_and_where_its_clock_is_set_back() {
        let clock = Clock::simulated(0);
        let Moment(awake, day) = Moment::now();
        let minutes = |count: u64| Duration::from_secs(60 * count);
        assert!(lease(60_000, Moment(awake, day)).is_good(&clock));
        assert!(lease(60_000, Moment(awake, day + minutes(5))).is_good(&clock), "set back, and taken just now");
        assert!(!lease(60_000, Moment(awake, day - minutes(1))).is_good(&clock), "the time it slept has passed");
        if let Some(earlier) = awake.checked_sub(minutes(1)) {
            assert!(!lease(60_000, Moment(earlier, day + minutes(5))).is_good(&clock), "set back, and taken long ago");
        }
        assert!(!lease(0, Moment(awake, day)).is_good(&clock), "the server says that the bucket is over");
    }

    #[test]
    fn where_there_is_no_room_for_a_lease_it_is_not_looked_for_at_every_call() {
        let (leases, clock) = (Leases::default(), Clock::simulated(0));
        let counter =
            Counter { owner: "tool".into(), name: "n".into(), window: Window::parse("hour").unwrap(), scope: Scope::Global };
        let bound = Bound::AtMost(Amount::ONE);
        let charge = Charge::new(Arc::new(counter), Amount::ONE, bound, "a rule".into(), Mode::Enforce);
        let begin = |key: usize, ends_at: i64| {
            let slot = leases.slot(&key.to_string(), &charge, &clock).expect("there is room");
            slot.lock().lease = Some(lease(ends_at, Moment::now()));
        };
        (0..MOST).for_each(|key| begin(key, 60_000));
        assert!(leases.slot("another", &charge, &clock).is_none());
        let swept = || leases.slots.lock().unwrap().swept;
        let first = swept();
        assert!(first.is_some());
        assert!((0..1_000).all(|key| leases.slot(&format!("another {key}"), &charge, &clock).is_none()));
        let again = swept();
        assert!(again == first || again.unwrap() - first.unwrap() >= SWEEP);
        // Those that are there are found all the same; and those that are over make room.
        assert!(leases.slot("7", &charge, &clock).is_some());
        clock.advance(60_000);
        leases.slots.lock().unwrap().swept = None;
        assert!(leases.slot("another", &charge, &clock).is_some());
        assert_eq!(leases.slots.lock().unwrap().by_counter.len(), 1);
    }

    #[test]
    fn a_verdict_counts_all_charges_of_the_call() {
        let usage = |used| Usage { used: Amount::whole(used).unwrap(), resets_at: 0, retry_after_ms: 1 };
        let of_leases = [(0, usage(7)), (2, usage(9))];
        let granted = Verdict::Granted { usages: vec![usage(1), usage(3)], approval: None };
        let usages = [7, 1, 9, 3].map(usage).to_vec();
        assert_eq!(whole(&granted, &of_leases), Verdict::Granted { usages, approval: None });
        for (of_the_rest, of_all) in [(0, 1), (1, 3)] {
            let exhausted = |index| Verdict::Exhausted { index, usage: usage(0) };
            assert_eq!(whole(&exhausted(of_the_rest), &of_leases), exhausted(of_all));
        }
    }
}
