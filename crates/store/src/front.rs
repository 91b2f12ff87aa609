//! What a caller does by itself, without waiting for the writer.
//!
//! Charges and records that need nothing but the journal take a few microseconds, less than it takes to wake a thread: so
//! a caller does them where it is. It takes the desk, and on it the journal's lock; looks whether other processes have
//! written; judges by the counters at hand; appends one group; and leaves. Where several callers come at a time the first
//! lets the others come before it commits for all. Whatever is not as usual it leaves to the
//! writer, who may wait and who may use the database.

use crate::StoreError;
use crate::book::{Book, Page};
use crate::chain::{Head, Scribe};
use crate::entry::{Entered, Entry, Named};
use crate::error::Fault;
use crate::job::{Job, Plain, run};
use crate::journal::{Journal, Lock, Tail};
use crate::place::{FileId, file_id};
use crate::tally::Tally;
use crate::trouble::Trouble;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Where callers and the writer meet.
pub(crate) struct Front {
    pub scribe: Scribe,
    pub trouble: Arc<Trouble>,
    /// Whether callers may do anything by themselves: not where each commit waits for the disk.
    open_to_callers: bool,
    desk: Mutex<Desk>,
    /// The writer has the desk, or waits for it.
    writer: AtomicBool,
    /// Something was appended since the writer last looked.
    appended: AtomicBool,
    /// How far the database has come.
    pub followed: AtomicU64,
    /// Callers who share the next commit.
    waiting: Mutex<Vec<Box<dyn Job>>>,
    /// So many commits are made without waiting for others.
    alone: AtomicU32,
}

/// What lies on the desk: nothing, before state was opened and after it failed.
#[derive(Default)]
pub(crate) struct Desk {
    pub open: Option<Open>,
    /// The last record that this process has seen: no chain may end before it.
    pub known: Option<Head>,
}

/// The journal and what is known from it.
pub(crate) struct Open {
    pub journal: Journal,
    pub head: Head,
    pub tally: Tally,
    /// For the text of the next group.
    pub paper: String,
    /// What is above is not known yet: everything is to be fetched from the database.
    pub stale: bool,
    /// The state file, to notice when another lies in its place.
    pub state: (PathBuf, FileId),
    /// When it was last seen there.
    pub seen: Option<Instant>,
}

/// What others have written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    None,
    /// The database has gone ahead, or the journal is shorter than it was.
    Fetch,
    /// There is something after the last whole group.
    Bad(Tail),
}

impl Front {
    pub fn new(scribe: Scribe, trouble: Arc<Trouble>, open_to_callers: bool) -> Front {
        Front {
            scribe,
            trouble,
            open_to_callers,
            desk: Mutex::default(),
            writer: AtomicBool::new(false),
            appended: AtomicBool::new(false),
            followed: AtomicU64::new(0),
            waiting: Mutex::default(),
            alone: AtomicU32::new(0),
        }
    }

    /// Does the work here and now, or gives it back for the writer.
    pub fn commit<T>(&self, plain: Plain<T>) -> Result<Result<T, StoreError>, Plain<T>> {
        let Some(seat) = self.sit_down(plain.wants.iter().map(|(key, from)| (&**key, *from))) else { return Err(plain) };
        Ok(seat.write(|page| attempt(page, plain.work)).and_then(|done| done))
    }

    /// Makes all entries in one commit, or gives them back.
    pub fn enter(&self, entries: Vec<Entry>) -> Result<Vec<Result<Entered, StoreError>>, Vec<Entry>> {
        if !self.open_to_callers {
            return Err(entries);
        }
        let mut named = Vec::with_capacity(entries.len());
        let mut entries = entries.into_iter();
        while let Some(entry) = entries.next() {
            match Named::of(entry) {
                Ok(entry) => named.push(entry),
                Err(entry) => {
                    return Err(named.into_iter().map(Named::into_entry).chain([*entry]).chain(entries).collect());
                }
            }
        }
        let now = self.scribe.clock.now();
        let Some(seat) = self.sit_down(named.iter().flat_map(|entry| entry.wants(now))) else {
            return Err(named.into_iter().map(Named::into_entry).collect());
        };
        let count = named.len();
        let written =
            seat.write(|page| named.into_iter().map(|entry| attempt(page, |book| entry.write(book))).collect::<Vec<_>>());
        Ok(written.unwrap_or_else(|error| (0..count).map(|_| Err(error.clone())).collect()))
    }

    /// Does the plain work of several callers in one commit and answers them, or gives it back for the writer.
    pub fn commit_all(&self, mut jobs: Vec<Box<dyn Job>>) -> Result<(), Vec<Box<dyn Job>>> {
        let wants = jobs.iter().filter_map(|job| job.wants()).flatten().map(|(key, from)| (&**key, *from));
        let Some(seat) = self.sit_down(wants) else { return Err(jobs) };
        let committed = seat.write(|page| {
            for job in jobs.iter_mut().filter(|job| !job.is_abandoned()) {
                let before = page.before();
                if !matches!(job.run_plain(page), Ok(true)) {
                    page.go_back(before);
                }
            }
        });
        for job in jobs {
            job.finish(committed.clone());
        }
        Ok(())
    }

    /// Whether to wait for others who may want to share a commit. Where that was in vain it is not tried for a while.
    pub fn gathers(&self) -> bool {
        self.open_to_callers && self.alone.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }

    /// Joins those who wait; gives whether the caller is the first, and has to commit for all.
    pub fn join(&self, job: Box<dyn Job>) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(job);
        waiting.len() == 1
    }

    /// Those who have joined.
    pub fn gathered(&self) -> Vec<Box<dyn Job>> {
        let jobs = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.alone.store(if jobs.len() > 1 { 0 } else { ALONE }, Ordering::Relaxed);
        jobs
    }

    /// Whether the writer has to be told that something was appended. Asked after each commit.
    pub fn has_news(&self) -> bool {
        !self.appended.swap(true, Ordering::AcqRel)
    }

    /// A handle on the journal up to where this process knows it; the writer's, who looks now.
    pub fn look(&self) -> Option<Journal> {
        self.appended.store(false, Ordering::Release);
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        desk.open.as_ref().filter(|open| !open.stale).map(|open| open.journal.reader())
    }

    /// Whether any of this work needs more than lies on the desk.
    pub fn misses(&self, jobs: &[Box<dyn Job>]) -> bool {
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = desk.open.as_ref().filter(|open| !open.stale) else { return true };
        let is_known = |(key, from): &(Arc<str>, i64)| open.tally.knows(key, *from);
        !jobs.iter().all(|job| job.wants().is_some_and(|wants| wants.iter().all(is_known)))
    }

    /// Whether there is anything on the desk.
    pub fn is_open(&self) -> bool {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner).open.is_some()
    }

    /// The desk for the writer; callers turn away meanwhile.
    pub fn hold(&self) -> Held<'_> {
        self.writer.store(true, Ordering::Release);
        Held { front: self, desk: self.desk.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Takes the desk, and on it the journal's lock, where everything is as usual and all counters that are wanted, each from
    /// which bucket on, are at hand.
    fn sit_down<'w>(&self, mut wants: impl Iterator<Item = (&'w str, i64)>) -> Option<Seat<'_>> {
        let mut desk = self.take_desk()?;
        let open = desk.open.as_mut()?;
        let at_hand = wants.all(|(key, from)| open.tally.knows(key, from));
        let behind = open.journal.end.saturating_sub(self.followed.load(Ordering::Relaxed)) > FAR_BEHIND;
        if !at_hand || behind {
            return None;
        }
        let lock = open.enter()?;
        Some(Seat { front: self, lock, desk })
    }

    fn take_desk(&self) -> Option<MutexGuard<'_, Desk>> {
        if !self.open_to_callers {
            return None;
        }
        loop {
            // The writer may be gone for long; other callers are not.
            if self.writer.load(Ordering::Acquire) {
                return None;
            }
            match self.desk.try_lock() {
                Ok(desk) => return Some(desk),
                Err(TryLockError::Poisoned(desk)) => return Some(desk.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
    }
}

/// A caller at the desk, who has the journal's lock.
struct Seat<'f> {
    front: &'f Front,
    // Before the desk, so that it is given back first.
    lock: Lock,
    desk: MutexGuard<'f, Desk>,
}

impl Seat<'_> {
    /// Writes one group.
    fn write<R>(mut self, work: impl FnOnce(&mut Page<'_>) -> R) -> Result<R, StoreError> {
        let Desk { open: Some(open), known } = &mut *self.desk else {
            return Err(Fault::State("it is not open".to_owned()).at(&self.front.trouble.place));
        };
        let text = std::mem::take(&mut open.paper);
        let mut page = Page { scribe: &self.front.scribe, head: open.head.clone(), tally: &mut open.tally, text };
        let value = work(&mut page);
        let Page { head, mut text, .. } = page;
        if text.is_empty() {
            return Ok(value);
        }
        if let Err(fault) = open.journal.append(&mut text, false) {
            drop(self.lock);
            self.desk.open = None;
            return Err(self.front.trouble.set(fault));
        }
        open.tally.keep();
        *known = Some(head.clone());
        open.head = head;
        if text.capacity() <= PAPER {
            text.clear();
            open.paper = text;
        }
        Ok(value)
    }
}

/// Does one piece of work on a page; undoes what it has written if it fails.
fn attempt<T>(page: &mut Page<'_>, work: impl FnOnce(&mut dyn Book) -> Result<T, Fault>) -> Result<T, StoreError> {
    let before = page.before();
    run(|| work(page)).map_err(|fault| {
        page.go_back(before);
        fault.at("this call")
    })
}

/// The desk in the hands of the writer.
pub(crate) struct Held<'f> {
    front: &'f Front,
    pub desk: MutexGuard<'f, Desk>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.front.writer.store(false, Ordering::Release);
    }
}

impl Open {
    /// Locks the journal and reads what others have written; `None` where that is not as usual.
    fn enter(&mut self) -> Option<Lock> {
        // To look costs as much as the lock; what is exchanged within a millisecond is noticed by the next call after it.
        if self.stale || (self.seen.is_none_or(|seen| seen.elapsed() >= GLANCE) && !self.is_in_place()) {
            return None;
        }
        let lock = self.journal.try_lock().ok()??;
        let length = self.journal.length().ok()??;
        (length == self.journal.end || self.catch_up(length).is_ok_and(|news| news == News::None)).then_some(lock)
    }

    /// Whether the path still names the state file that was opened.
    pub fn is_in_place(&mut self) -> bool {
        self.seen = Some(Instant::now());
        file_id(&self.state.0).is_ok_and(|id| id == self.state.1)
    }

    /// Takes in what others have written up to `length`, if that can be had from the journal alone.
    pub fn catch_up(&mut self, length: u64) -> Result<News, Fault> {
        if self.stale || length < self.journal.end {
            return Ok(News::Fetch);
        }
        let (groups, tail) = self.journal.read(self.journal.end, length)?;
        if groups.iter().any(|group| group.ahead) {
            return Ok(News::Fetch);
        }
        for group in groups {
            group.changes.iter().for_each(|change| self.tally.apply(change));
            if let Some(row) = group.records.into_iter().next_back() {
                self.head = Head { seq: row.seq, hash: row.hash.into() };
            }
            self.journal.end = group.end;
        }
        self.tally.keep();
        Ok(if tail == Tail::Whole { News::None } else { News::Bad(tail) })
    }
}

/// After nobody else came, so many commits are made at once.
const ALONE: u32 = 15;
/// How often the state file's place is looked at.
const GLANCE: Duration = Duration::from_millis(1);
/// When the database is so many bytes behind, callers wait for it.
pub(crate) const FAR_BEHIND: u64 = 32 << 20;
/// So much paper is kept for the next group.
const PAPER: usize = 64 << 10;
