//! What a caller does by itself, without waiting for the writer.
//!
//! Charges and records that need nothing but the journal take a few microseconds, less than it takes to wake a thread: so
//! a caller does them where it is. It takes the desk, and on it the journal's lock; looks whether other processes have
//! written; judges by the counters at hand; appends one group; and leaves. Whatever is not as usual it leaves to the
//! writer, who may wait and who may use the database.

use crate::StoreError;
use crate::book::{Book, Page};
use crate::chain::{Head, Scribe};
use crate::error::Fault;
use crate::journal::{Journal, Lock, Tail};
use crate::place::{FileId, file_id};
use crate::tally::Tally;
use crate::trouble::Trouble;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// Work that needs charges and a record, and nothing else.
pub(crate) struct Plain<T> {
    /// The counters it will ask for, each from which bucket on.
    pub wants: Vec<(String, i64)>,
    pub work: PlainWork<T>,
}

pub(crate) type PlainWork<T> = Box<dyn FnOnce(&mut dyn Book) -> Result<T, Fault> + Send>;

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
    /// What is above is not known yet: everything is to be fetched from the database.
    pub stale: bool,
    /// The state file, to notice when another lies in its place.
    pub state: (PathBuf, FileId),
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
        }
    }

    /// Does the work here and now, or gives it back for the writer.
    pub fn commit<T>(&self, plain: Plain<T>) -> Result<Result<T, StoreError>, Plain<T>> {
        let Some(mut desk) = self.sit_down() else { return Err(plain) };
        let Desk { open: Some(open), known } = &mut *desk else { return Err(plain) };
        let at_hand = plain.wants.iter().all(|(key, from)| open.tally.knows(key, *from));
        let behind = open.journal.end.saturating_sub(self.followed.load(Ordering::Relaxed)) > FAR_BEHIND;
        if !at_hand || behind {
            return Err(plain);
        }
        let Some(lock) = open.enter() else { return Err(plain) };
        let mut page =
            Page { scribe: &self.scribe, head: open.head.clone(), tally: &mut open.tally, text: String::with_capacity(PAGE) };
        let before = page.before();
        let result = run(|| (plain.work)(&mut page));
        let value = match result {
            Ok(value) => value,
            Err(fault) => {
                page.go_back(before);
                return Ok(Err(fault.at("this call")));
            }
        };
        let Page { head, text, .. } = page;
        if let Err(fault) = open.journal.append(text, false) {
            drop(lock);
            desk.open = None;
            return Ok(Err(self.trouble.set(fault)));
        }
        open.tally.keep();
        *known = Some(head.clone());
        open.head = head;
        Ok(Ok(value))
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

    /// Whether there is anything on the desk.
    pub fn is_open(&self) -> bool {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner).open.is_some()
    }

    /// The desk for the writer; callers turn away meanwhile.
    pub fn hold(&self) -> Held<'_> {
        self.writer.store(true, Ordering::Release);
        Held { front: self, desk: self.desk.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    fn sit_down(&self) -> Option<MutexGuard<'_, Desk>> {
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

/// Runs one piece of work. A bug in one caller's closure must not end what all others depend on.
pub(crate) fn run<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let mistake = Fault::State("callgate has made a mistake; please report it".to_owned());
        Err(Fault::Refused(mistake.at("this call")))
    })
}

impl Open {
    /// Locks the journal and reads what others have written; `None` where that is not as usual.
    fn enter(&mut self) -> Option<Lock> {
        if self.stale || !self.is_in_place() {
            return None;
        }
        let lock = self.journal.try_lock().ok()??;
        let length = self.journal.length().ok()??;
        (length == self.journal.end || self.catch_up(length).is_ok_and(|news| news == News::None)).then_some(lock)
    }

    /// Whether the path still names the state file that was opened.
    pub fn is_in_place(&self) -> bool {
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
                self.head = Head { seq: row.seq, hash: row.hash };
            }
            self.journal.end = group.end;
        }
        self.tally.keep();
        Ok(if tail == Tail::Whole { News::None } else { News::Bad(tail) })
    }
}

/// When the database is so many bytes behind, callers wait for it.
const FAR_BEHIND: u64 = 32 << 20;
/// Enough for most groups.
const PAGE: usize = 1536;
