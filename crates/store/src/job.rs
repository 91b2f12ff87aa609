//! Pieces of work, and who waits for them.

use crate::StoreError;
use crate::book::Book;
use crate::chain::Ledger;
use crate::error::Fault;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use tokio::sync::oneshot;

/// Work that needs charges and a record, and nothing else.
pub(crate) struct Plain<T> {
    /// The counters it will ask for, each from which bucket on.
    pub wants: Vec<(Arc<str>, i64)>,
    pub work: PlainWork<T>,
}

pub(crate) type PlainWork<T> = Box<dyn FnOnce(&mut dyn Book) -> Result<T, Fault> + Send>;

/// A piece of work inside a commit that others share.
pub(crate) trait Job: Send {
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
    /// The counters that plain work will ask for; `None` of work that needs the database.
    fn wants(&self) -> Option<&[(Arc<str>, i64)]>;
    /// All counters that the work may touch, whatever else it needs.
    fn counters(&self) -> &[(Arc<str>, i64)];
    /// Does plain work; gives whether it stands. A fault undoes the whole commit.
    fn run_plain(&mut self, book: &mut dyn Book) -> Result<bool, Fault>;
    /// Does any work, in the database; gives whether it stands. A fault undoes the whole commit.
    fn run_whole(&mut self, ledger: &mut Ledger<'_>) -> Result<bool, Fault>;
    /// Answers, once it is known whether everything was committed.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

pub(crate) struct Task<T> {
    work: Option<Work<T>>,
    result: Option<Result<T, StoreError>>,
    reply: Option<Reply<T>>,
}

pub(crate) type WholeWork<T> = Box<dyn FnOnce(&mut Ledger<'_>) -> Result<T, Fault> + Send>;

pub(crate) enum Work<T> {
    /// Can be done in the journal as well as in the database.
    Plain(Plain<T>),
    /// Needs the database; with the counters it will ask for.
    Whole(Vec<(Arc<str>, i64)>, WholeWork<T>),
}

/// Who waits for the answer.
pub(crate) enum Reply<T> {
    /// Somebody for whom the work need not be begun any more once he has gone.
    Droppable(oneshot::Sender<Result<T, StoreError>>),
    /// Somebody for whom it is done in any case.
    Firm(oneshot::Sender<Result<T, StoreError>>),
    /// A thread that waits.
    Waiting(SyncSender<Result<T, StoreError>>),
}

impl<T> Task<T> {
    pub fn new(work: Work<T>, reply: Reply<T>) -> Task<T> {
        Task { work: Some(work), result: None, reply: Some(reply) }
    }

    fn came_to(&mut self, result: Result<T, Fault>) -> Result<bool, Fault> {
        self.result = Some(match result {
            Ok(value) => Ok(value),
            Err(Fault::Refused(error)) => Err(error),
            Err(fault) => return Err(fault),
        });
        Ok(matches!(self.result, Some(Ok(_))))
    }
}

impl<T: Send> Job for Task<T> {
    fn is_abandoned(&self) -> bool {
        matches!(&self.reply, Some(Reply::Droppable(answer)) if answer.is_closed())
    }

    fn wants(&self) -> Option<&[(Arc<str>, i64)]> {
        match &self.work {
            Some(Work::Plain(plain)) => Some(&plain.wants),
            Some(Work::Whole(..)) => None,
            None => Some(&[]),
        }
    }

    fn counters(&self) -> &[(Arc<str>, i64)] {
        match &self.work {
            Some(Work::Plain(Plain { wants, .. }) | Work::Whole(wants, _)) => wants,
            None => &[],
        }
    }

    fn run_plain(&mut self, book: &mut dyn Book) -> Result<bool, Fault> {
        let Some(Work::Plain(plain)) = self.work.take() else { return Ok(false) };
        let result = run(|| (plain.work)(book));
        self.came_to(result)
    }

    fn run_whole(&mut self, ledger: &mut Ledger<'_>) -> Result<bool, Fault> {
        match self.work.take() {
            None => Ok(false),
            Some(Work::Plain(plain)) => {
                let result = run(|| (plain.work)(ledger));
                self.came_to(result)
            }
            Some(Work::Whole(_, work)) => {
                let result = run(|| work(ledger));
                self.came_to(result)
            }
        }
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            (Err(error), _) => Err(error),
            // It was abandoned, and nobody listens.
            (Ok(()), None) => return,
        };
        // Whoever has stopped listening is answered by nobody.
        match self.reply {
            Some(Reply::Droppable(answer) | Reply::Firm(answer)) => drop(answer.send(result)),
            Some(Reply::Waiting(answer)) => drop(answer.send(result)),
            None => {}
        }
    }
}

/// Runs the jobs in the database, each in a savepoint of its own, so that one that is refused does not undo the others.
pub(crate) fn run_whole(ledger: &mut Ledger<'_>, jobs: &mut [Box<dyn Job>]) -> Result<(), Fault> {
    for job in jobs.iter_mut().filter(|job| !job.is_abandoned()) {
        let head = ledger.head.clone();
        ledger.sql.execute("SAVEPOINT job", &[])?;
        if !job.run_whole(ledger)? {
            ledger.sql.execute("ROLLBACK TO job", &[])?;
            ledger.head = head;
        }
        ledger.sql.execute("RELEASE job", &[])?;
    }
    Ok(())
}

/// Runs one piece of work. A bug in one caller's closure must not end what all others depend on.
pub(crate) fn run<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let mistake = Fault::State("callgate has made a mistake; please report it".to_owned());
        Err(Fault::Refused(mistake.at("this call")))
    })
}
