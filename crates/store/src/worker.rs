//! The one thread that uses the database.
//!
//! It does what callers cannot do by themselves: work that needs the database, counters that are not at hand yet, commits
//! that wait for the disk, and everything that is not as usual. Beside that it lets the database follow the journal, and
//! begins a new one when it has grown long.
//!
//! When state cannot be written the thread stays, denies, and tries again: soon, and by itself. A connection or a journal
//! on which anything failed is never used again, for what a failed write has left behind is not known.
//!
//! Locks are taken in one order: the desk, the journal, the database.

use crate::book::Page;
use crate::chain::{self, Head, Ledger};
use crate::error::Fault;
use crate::follow::{Followed, Mark, follow, follow_some};
use crate::front::{Desk, FAR_BEHIND, Front, Held, News, Open};
use crate::job::{Job, run_whole};
use crate::journal::{self, AHEAD, Journal, Lock, Tail};
use crate::lost;
use crate::place::Patience;
use crate::shared::{Message, Shared};
use crate::sql::Sql;
use crate::sqlite::{BUSY, Database};
use crate::{Durability, Options, StateUrl, StoreError};
use crate::{counters, instances, retention};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

pub(crate) struct Worker {
    url: StateUrl,
    options: Options,
    shared: Arc<Shared>,
    front: Arc<Front>,
    database: Option<Database>,
    patience: Patience,
    /// The head of the database as this process has seen it last.
    known: Option<Head>,
    started_at: i64,
    beat: Option<Instant>,
    tidied: Instant,
    /// When the database is to follow the journal.
    follow_at: Option<Instant>,
    /// A journal that was begun, whose place on the disk is not sure yet, the state file beside it, and since when.
    unflushed: Option<(Journal, PathBuf, Instant)>,
}

impl Worker {
    pub fn new(
        url: StateUrl,
        options: Options,
        shared: Arc<Shared>,
        front: Arc<Front>,
        database: Option<Database>,
        patience: Patience,
    ) -> Worker {
        Worker {
            started_at: options.clock.now(),
            url,
            options,
            shared,
            front,
            database,
            patience,
            known: None,
            beat: None,
            tidied: Instant::now(),
            follow_at: None,
            unflushed: None,
        }
    }

    pub fn run(mut self, messages: &Receiver<Message>) {
        loop {
            self.keep_up();
            // The disk may take long: who has come waits for nothing that can be done a little later.
            let is_urgent = self.unflushed.as_ref().is_some_and(|(.., begun)| begun.elapsed() >= FLUSH);
            let waiting = if is_urgent { None } else { messages.try_recv().ok() };
            let first = waiting.map_or_else(
                || {
                    self.flush_begun();
                    messages.recv_timeout(self.pause())
                },
                Ok,
            );
            let first = match first {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return self.sign_off(),
            };
            let mut jobs = Vec::new();
            let mut stop = None;
            let waiting = std::iter::once(first).chain(std::iter::from_fn(|| messages.try_recv().ok()));
            for message in waiting.take(BATCH) {
                match message {
                    Message::Job(job) => jobs.push(job),
                    Message::Appended => self.follow_soon(),
                    Message::Stop(done) => {
                        stop = Some(done);
                        break;
                    }
                }
            }
            if !jobs.is_empty() {
                self.patience.renew(BUSY);
                let committed = self.attempt(|worker| worker.commit(&mut jobs));
                for job in jobs {
                    job.finish(committed.clone());
                }
            }
            if let Some(done) = stop {
                self.sign_off();
                return done();
            }
        }
    }

    fn pause(&self) -> Duration {
        if self.shared.trouble.get().is_some() {
            return RETRY;
        }
        let beat = BEAT.saturating_sub(self.beat.map_or(BEAT, |beat| beat.elapsed())).max(RETRY);
        let follow = self.follow_at.map_or(BEAT, |at| at.saturating_duration_since(Instant::now()));
        beat.min(follow)
    }

    fn follow_soon(&mut self) {
        let after = self.options.follow_after;
        self.follow_at.get_or_insert_with(|| Instant::now() + after);
    }

    /// Does `work`, which uses the database and the journal. After a failure neither is used again.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Worker) -> Result<T, Fault>) -> Result<T, StoreError> {
        match work(self) {
            Ok(value) => {
                self.shared.trouble.clear();
                Ok(value)
            }
            Err(Fault::Refused(error)) => Err(error),
            Err(fault) => {
                if !fault.is_busy() {
                    self.database = None;
                }
                self.front.hold().desk.open = None;
                Err(self.shared.trouble.set(fault))
            }
        }
    }

    /// Runs the jobs in one commit.
    fn commit(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Fault> {
        if self.url == StateUrl::Memory {
            return self.transact(|ledger| run_whole(ledger, jobs)).map(drop);
        }
        self.follow_ahead(jobs)?;
        let front = self.front.clone();
        let mut held = front.hold();
        let lock = self.enter(&mut held)?;
        let Desk { open: Some(open), known } = &mut *held.desk else { return Err(not_open()) };
        match jobs.iter().all(|job| job.wants().is_some()) {
            true => self.commit_to_journal(open, jobs)?,
            false => self.commit_to_database(open, jobs)?,
        }
        *known = Some(open.head.clone());
        drop(lock);
        Ok(())
    }

    fn commit_to_journal(&mut self, open: &mut Open, jobs: &mut [Box<dyn Job>]) -> Result<(), Fault> {
        self.fetch(open, jobs)?;
        let front = self.front.clone();
        let mut page = Page { scribe: &front.scribe, head: open.head.clone(), tally: &mut open.tally, text: String::new() };
        for job in jobs.iter_mut().filter(|job| !job.is_abandoned()) {
            let before = page.before();
            if !job.run_plain(&mut page)? {
                page.go_back(before);
            }
        }
        let Page { head, mut text, .. } = page;
        if !text.is_empty() {
            open.journal.append(&mut text, self.flushes())?;
        }
        open.tally.keep();
        open.head = head;
        self.follow_soon();
        Ok(())
    }

    /// Fetches the counters that are not at hand.
    fn fetch(&mut self, open: &mut Open, jobs: &[Box<dyn Job>]) -> Result<(), Fault> {
        let wants = jobs.iter().filter_map(|job| job.wants()).flatten();
        let missing: Vec<(Arc<str>, i64)> = wants.filter(|(key, from)| !open.tally.knows(key, *from)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let journal = &open.journal;
        let fetched = self.transact(|ledger| {
            all_of(follow(ledger, journal, journal.end)?, journal.end)?;
            // A little further back, for clocks that are set back a little.
            let stored = |(key, from): (Arc<str>, i64)| {
                let floor = from.saturating_sub(SLACK_MS);
                Ok((counters::stored(ledger.sql, &key, floor)?, key, floor))
            };
            missing.into_iter().map(stored).collect::<Result<Vec<_>, Fault>>()
        })?;
        self.front.followed.store(open.journal.end, Ordering::Relaxed);
        for (buckets, key, floor) in fetched {
            open.tally.learn(key, floor, buckets);
        }
        Ok(())
    }

    fn commit_to_database(&mut self, open: &mut Open, jobs: &mut [Box<dyn Job>]) -> Result<(), Fault> {
        // First of all others must know that the journal is not all any more; should nothing come of it, no harm is done.
        open.journal.append(&mut AHEAD.to_owned(), self.flushes())?;
        let journal = &open.journal;
        self.transact(|ledger| {
            all_of(follow(ledger, journal, journal.end)?, journal.end)?;
            run_whole(ledger, jobs)
        })?;
        self.front.followed.store(open.journal.end, Ordering::Relaxed);
        open.tally.forget();
        open.head = self.known.clone().ok_or_else(not_open)?;
        Ok(())
    }

    /// Opens what is not open, locks the journal, and knows all that others have written.
    fn enter(&mut self, held: &mut Held<'_>) -> Result<Lock, Fault> {
        loop {
            let desk = &mut *held.desk;
            if desk.open.as_mut().is_some_and(|open| !open.is_in_place()) {
                desk.open = None;
            }
            let open = match &mut desk.open {
                Some(open) => open,
                nothing => nothing.insert(self.open_journal()?),
            };
            let lock = open.journal.lock(&self.patience)?;
            let Some(length) = open.journal.length()? else {
                self.leave_nameless(open)?;
                desk.open = None;
                if !self.patience.wait() {
                    return Err(Fault::Held);
                }
                continue;
            };
            let news = if length == open.journal.end && !open.stale { News::None } else { open.catch_up(length)? };
            let tail = match news {
                News::None => return Ok(lock),
                News::Bad(tail) => tail,
                News::Fetch => match self.reload(open, length, desk.known.as_ref())? {
                    Some(tail) => tail,
                    // It ends before the mark.
                    None => {
                        desk.open = Some(self.begin_anew(open, true)?);
                        continue;
                    }
                },
            };
            match tail {
                Tail::Whole => return Ok(lock),
                Tail::Torn => {
                    tracing::warn!(state = %self.shared.trouble.place, "a write that a killed process began was removed from the journal");
                    open.journal.cut(open.journal.end)?;
                    return Ok(lock);
                }
                Tail::Damaged => {
                    self.set_aside(open, length)?;
                    desk.open = Some(self.begin_anew(open, true)?);
                }
            }
        }
    }

    /// Knows what the database knows after it has followed the journal to its end; gives how that ends, or nothing when
    /// it ends before the mark.
    fn reload(&mut self, open: &mut Open, length: u64, known: Option<&Head>) -> Result<Option<Tail>, Fault> {
        let journal = &open.journal;
        let followed = self.transact(|ledger| follow(ledger, journal, length))?;
        let head = self.known.clone().ok_or_else(not_open)?;
        chain::check_not_older(&head, known)?;
        let Followed::Until { place, tail } = followed else { return Err(foreign()) };
        self.front.followed.store(place, Ordering::Relaxed);
        open.tally.forget();
        open.head = head;
        open.journal.end = place;
        open.stale = false;
        Ok((place <= length).then_some(tail))
    }

    /// The journal has no name any more: another has begun a new one, or somebody has removed it.
    fn leave_nameless(&mut self, open: &Open) -> Result<(), Fault> {
        if open.stale || journal::exists(&open.state.0) {
            return Ok(());
        }
        tracing::warn!(state = %self.shared.trouble.place, "the journal was removed; what it held is kept");
        let journal = &open.journal;
        self.transact(|ledger| match follow(ledger, journal, journal.end)? {
            Followed::Another => Ok(()),
            Followed::Until { place, .. } => {
                Mark { journal: journal.id.clone(), place, closed: true }.write(ledger.sql.file()?, ledger.key.seal())
            }
        })
    }

    /// Opens the journal that the database follows, or begins one. Nothing of it is known yet.
    fn open_journal(&mut self) -> Result<Open, Fault> {
        let Some(state) = self.url.path().map(ToOwned::to_owned) else { return Err(not_open()) };
        loop {
            let found = self.transact(|ledger| lost::find(ledger, &state))?;
            match found {
                lost::Found::Journal(journal) => {
                    let head = self.known.clone().ok_or_else(not_open)?;
                    let state = (state.clone(), self.database.as_ref().and_then(Database::id).ok_or_else(not_open)?);
                    return Ok(Open {
                        journal,
                        head,
                        tally: Default::default(),
                        paper: String::new(),
                        stale: true,
                        state,
                        seen: None,
                    });
                }
                lost::Found::Loss(loss) => tracing::error!(state = %self.shared.trouble.place, "{}", loss.text()),
            }
        }
    }

    /// Puts on record that a part of the journal is damaged, and keeps that part for people to look into.
    fn set_aside(&mut self, open: &Open, length: u64) -> Result<(), Fault> {
        open.journal.keep_aside(&open.state.0, open.journal.end, length)?;
        let loss = lost::Loss::Damaged { bytes: length - open.journal.end };
        tracing::error!(state = %self.shared.trouble.place, "{}", loss.text());
        let journal = &open.journal;
        self.transact(|ledger| {
            all_of(follow(ledger, journal, journal.end)?, journal.end)?;
            ledger.append(&loss.draft()?).map(drop)
        })
    }

    /// Begins a new journal in place of one that the database has followed to its end. The caller has that one's lock.
    fn begin_anew(&mut self, open: &Open, flush: bool) -> Result<Open, Fault> {
        let (state, journal) = (open.state.clone(), &open.journal);
        // Two transactions: the old one's name is taken once what was in it is safe. Whoever is killed in between, or cannot
        // commit the second, leaves a journal that is empty and begins where the database ends: `lost::find` takes that up.
        self.transact(|ledger| all_of(follow(ledger, journal, journal.end)?, journal.end))?;
        let begun = self.transact(|ledger| lost::begin(ledger, &state.0, flush))?;
        self.front.followed.store(begun.end, Ordering::Relaxed);
        let head = self.known.clone().ok_or_else(not_open)?;
        Ok(Open { journal: begun, head, tally: Default::default(), paper: String::new(), stale: true, state, seen: None })
    }

    /// Does `work` in a transaction of the database that ends with the head signed.
    fn transact<T>(&mut self, work: impl FnOnce(&mut Ledger<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        self.open()?;
        let known = self.known.clone();
        let Database { connection, key, .. } = self.database.as_mut().ok_or_else(not_open)?;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let before = chain::read_head(Sql::File(&transaction), &key.public(), known.as_ref())?;
        let mut ledger =
            Ledger { sql: Sql::File(&transaction), key, scribe: &self.front.scribe, head: before.clone(), shared: None };
        let value = work(&mut ledger)?;
        ledger.sign_head(&before)?;
        let head = ledger.head;
        transaction.commit()?;
        self.known = Some(head);
        Ok(value)
    }

    /// Opens the database where it is not, or no longer in its place.
    fn open(&mut self) -> Result<(), Fault> {
        if self.database.as_ref().is_some_and(|database| !database.is_in_place()) {
            tracing::warn!(state = %self.shared.trouble.place, "the state file was moved or removed");
            self.database = None;
        }
        if self.database.is_none() {
            // In a burst of calls one failure answers all.
            if let Some((when, error)) = self.shared.trouble.get()
                && when.elapsed() < PAUSE
            {
                return Err(Fault::Refused(error));
            }
            let database = Database::open(&self.url, self.options.durability, self.options.clock.now(), &self.patience)?;
            *Shared::lock(&self.shared.digests) = Some(database.key.digests().clone());
            self.database = Some(database);
        }
        Ok(())
    }

    fn flushes(&self) -> bool {
        self.options.durability == Durability::Power
    }

    /// What is due between calls: following the journal, finding out whether failed state has mended, the heartbeat,
    /// tidying up.
    fn keep_up(&mut self) {
        // Calls that come meanwhile wait for this, and then have patience of their own.
        self.patience.renew(PAUSE);
        let trouble = self.shared.trouble.get();
        let mending = trouble.as_ref().is_some_and(|(when, _)| when.elapsed() >= RETRY);
        let following = trouble.is_none() && self.follow_at.is_some_and(|at| at <= Instant::now());
        if mending || following || self.beat.is_none_or(|beat| beat.elapsed() >= BEAT) {
            // A failure is kept and logged where all are; the next call or the next try shows whether it lasts.
            let _ = self.attempt(Worker::catch_up);
        }
        if self.tidied.elapsed() >= TIDY && self.shared.trouble.get().is_none() {
            let retention = self.options.retention;
            let tidied = self.attempt(|worker| worker.transact(|ledger| retention::tidy(ledger, retention)));
            if !tidied.unwrap_or(false) {
                self.tidied = Instant::now();
            }
            self.give_space_back();
        }
    }

    /// Lets the database follow as far as this process knows the journal; meanwhile callers go on. With the heartbeat.
    fn catch_up(&mut self) -> Result<(), Fault> {
        let follows = self.follow_at.take_if(|at| *at <= Instant::now()).is_some();
        let mut journal = if follows { self.front.look() } else { None };
        if self.url != StateUrl::Memory && (self.shared.trouble.get().is_some() || !self.front.is_open()) {
            // Nothing is open yet, or not any more.
            let front = self.front.clone();
            let mut held = front.hold();
            drop(self.enter(&mut held)?);
            journal = held.desk.open.as_ref().map(|open| open.journal.reader());
        }
        let beats = self.beat.is_none_or(|beat| beat.elapsed() >= BEAT);
        let instance = Shared::lock(&self.shared.instance).clone().filter(|_| beats);
        let (id, started_at) = (self.front.scribe.instance.clone(), self.started_at);
        let begun = Instant::now();
        let behind = |journal: &Journal| journal.end.saturating_sub(self.front.followed.load(Ordering::Relaxed));
        let some = journal.as_ref().map_or(SLICE, |journal| (behind(journal) / 8).clamp(SLICE, 16 * SLICE));
        let followed = self.transact(|ledger| {
            if let Some(instance) = &instance {
                instances::beat(ledger.sql, &id, instance, started_at, ledger.now())?;
            }
            journal.as_ref().map(|journal| follow_some(ledger, journal, journal.end, some)).transpose()
        })?;
        if beats {
            self.beat = Some(Instant::now());
        }
        let (Some(journal), Some(Followed::Until { place, tail })) = (journal, followed) else { return Ok(()) };
        if tail != Tail::Whole {
            return Err(damaged());
        }
        self.front.followed.store(place, Ordering::Relaxed);
        let left = journal.end.saturating_sub(place);
        if left > 0 {
            // On one core calls have a turn in between, unless the database falls behind.
            let rest = if left < HURRY { begun.elapsed() } else { Duration::ZERO };
            self.follow_at = Some(Instant::now() + rest.min(self.options.follow_after));
        }
        // Callers wait while a new journal is begun: not for much that is still to be followed, and not for the disk, which a
        // commit waits for where the write-ahead log has grown long.
        let length = place - journal.begin;
        if length < LONG || (left > 0 && length < LONGEST) {
            return Ok(());
        }
        if let Some(database) = &self.database {
            database.empty_log()?;
        }
        // That may have taken long, and callers went on.
        self.follow_ahead(&[])?;
        let front = self.front.clone();
        let mut held = front.hold();
        let lock = self.enter(&mut held)?;
        let Some(open) = &mut held.desk.open else { return Err(not_open()) };
        let begun = self.begin_anew(open, self.flushes())?;
        // The database has all that was known here, and nobody can have written since: callers go on by themselves.
        let tally = std::mem::take(&mut open.tally);
        let begun = Open { tally, stale: false, seen: open.seen, paper: std::mem::take(&mut open.paper), ..begun };
        // Callers need not wait for the disk; what a power failure may do meanwhile it may do to their records as well.
        let unflushed = (begun.journal.reader(), begun.state.0.clone(), Instant::now());
        self.unflushed = Some(unflushed).filter(|_| !self.flushes());
        held.desk.open = Some(begun);
        drop(lock);
        Ok(())
    }

    fn flush_begun(&mut self) {
        let Some((journal, state, _)) = self.unflushed.take() else { return };
        if let Err(fault) = journal.flush(&state) {
            // A failure is kept and logged where all are.
            let _ = self.attempt(|_| Err::<(), Fault>(fault));
        }
    }

    /// Lets the database follow most of the way before the desk is taken, so that callers are not kept waiting for that: where
    /// `jobs` need the database, or none are given. Where they do not, callers wait for it only if it is far behind.
    fn follow_ahead(&mut self, jobs: &[Box<dyn Job>]) -> Result<(), Fault> {
        let Some(journal) = self.front.look() else { return Ok(()) };
        let behind = journal.end.saturating_sub(self.front.followed.load(Ordering::Relaxed));
        let most = match jobs.is_empty() || self.front.misses(jobs) {
            true if behind >= BEHIND => u64::MAX,
            false if behind > FAR_BEHIND => HURRY,
            _ => {
                self.follow_soon();
                return Ok(());
            }
        };
        let followed = self.transact(|ledger| follow_some(ledger, &journal, journal.end, most))?;
        if let Followed::Until { place, .. } = followed {
            self.front.followed.store(place, Ordering::Relaxed);
        }
        self.follow_soon();
        Ok(())
    }

    fn give_space_back(&mut self) {
        if let Some(database) = &self.database {
            // Only a matter of size: what it does not free now it frees next time.
            let _ = database.connection.execute_batch("PRAGMA incremental_vacuum(2000)");
            // While nobody calls, nobody has to wait for the disk.
            if self.follow_at.is_none() {
                let _ = database.empty_log();
            }
        }
    }

    /// Lets the database follow to the end, keeps the head as a checkpoint, removes the journal and takes this process off
    /// the list. Closing the last connection empties the write-ahead log into the file.
    fn sign_off(&mut self) {
        self.patience.renew(BUSY);
        let front = self.front.clone();
        let mut held = front.hold();
        // A file that is gone is not made anew only to say goodbye in it.
        if self.database.as_ref().is_some_and(Database::is_in_place)
            && let Err(fault) = self.leave(&mut held)
        {
            tracing::warn!(error = %fault.at(&self.shared.trouble.place), "the journal stays; the next start takes it over");
        }
        held.desk.open = None;
        self.database = None;
    }

    fn leave(&mut self, held: &mut Held<'_>) -> Result<(), Fault> {
        let id = self.front.scribe.instance.clone();
        if self.url == StateUrl::Memory {
            return self.transact(|ledger| ledger.keep_checkpoint());
        }
        let lock = self.enter(held)?;
        let Some(open) = &held.desk.open else { return Err(not_open()) };
        let journal = &open.journal;
        self.transact(|ledger| {
            all_of(follow(ledger, journal, journal.end)?, journal.end)?;
            Mark { journal: journal.id.clone(), place: journal.end, closed: true }
                .write(ledger.sql.file()?, ledger.key.seal())?;
            ledger.keep_checkpoint()?;
            instances::leave(ledger.sql, &id)
        })?;
        journal::remove(&open.state.0).map_err(|error| Fault::Io("removing the journal", error))?;
        drop(lock);
        Ok(())
    }
}

/// Whether the database has followed to `end`, as it must when that was read or written by us.
fn all_of(followed: Followed, end: u64) -> Result<(), Fault> {
    match followed {
        Followed::Until { place, tail: Tail::Whole } if place >= end => Ok(()),
        Followed::Until { .. } => Err(damaged()),
        Followed::Another => Err(foreign()),
    }
}

fn damaged() -> Fault {
    Fault::State("its journal was changed by somebody else; run `callgate audit verify`".to_owned())
}

fn foreign() -> Fault {
    Fault::State("its journal was exchanged while it was in use".to_owned())
}

fn not_open() -> Fault {
    Fault::State("it is not open".to_owned())
}

/// So many are taken into one commit.
const BATCH: usize = 512;
/// After a failure, how long its answer stands for others, and when it is tried again without a call.
const PAUSE: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_millis(500);
const BEAT: Duration = Duration::from_secs(10);
const TIDY: Duration = Duration::from_secs(60);
/// A journal that was begun is brought to the disk so soon, whoever waits.
const FLUSH: Duration = Duration::from_secs(1);
/// So many bytes are followed in a moment.
const BEHIND: u64 = 64 << 10;
/// So many are taken over in one transaction while the database keeps up: half a millisecond of work, and 50 calls.
const SLICE: u64 = 64 << 10;
/// So many bytes behind, it does not rest any more.
const HURRY: u64 = 4 << 20;
/// A journal that is so long, and was followed to its end, makes way for a new one.
const LONG: u64 = 16 << 20;
/// One that is so long does so in any case.
const LONGEST: u64 = 64 << 20;
/// How far a clock may be set back without counters being fetched anew.
const SLACK_MS: i64 = 60_000;
