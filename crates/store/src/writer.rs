//! The one thread that writes.
//!
//! Calls queue up for it; it takes all that wait into one transaction, so that many callers share one commit. Each has a
//! savepoint of its own, so that one that is refused does not undo the others, and nobody is answered before the commit.
//!
//! When state cannot be written the thread stays, denies, and tries again: soon, and by itself. A connection on which
//! anything failed is never used again, for what a failed write has left behind is not known.

use crate::chain::{self, Head, Ledger};
use crate::error::Fault;
use crate::instances::{self, Instance};
use crate::key::{DigestKey, random_id};
use crate::retention;
use crate::sqlite::{BUSY, Database, Patience};
use crate::{Options, StateUrl, StoreError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The callers' end of the queue.
pub(crate) struct Writer {
    queue: SyncSender<Message>,
    pub shared: Arc<Shared>,
}

/// What the thread and its callers both see.
pub(crate) struct Shared {
    pub place: String,
    /// Why state cannot be used just now.
    pub trouble: Mutex<Option<StoreError>>,
    pub digests: Mutex<Option<DigestKey>>,
    pub instance: Mutex<Option<Instance>>,
}

impl Shared {
    /// A lock is held only to copy a value in or out, so a panic elsewhere cannot have left it half-changed.
    pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gone(&self) -> StoreError {
        Fault::State("it has been closed".to_owned()).at(&self.place)
    }
}

enum Message {
    Job(Box<dyn Job>),
    Stop(Box<dyn FnOnce() + Send>),
}

impl Writer {
    /// Starts the thread. `database` is opened by the thread when it is not given.
    pub fn start(url: StateUrl, options: Options, database: Option<Database>, patience: Patience) -> Result<Writer, StoreError> {
        let (queue, messages) = sync_channel(QUEUE);
        let place = url.to_string();
        let shared = Arc::new(Shared {
            place: place.clone(),
            trouble: Mutex::new(None),
            digests: Mutex::new(database.as_ref().map(|database| database.key.digests().clone())),
            instance: Mutex::new(options.instance.clone()),
        });
        let id = random_id(8).map_err(|problem| Fault::State(problem).at(&place))?;
        let worker = Worker {
            started_at: options.clock.now(),
            url,
            options,
            shared: shared.clone(),
            database,
            patience,
            known: None,
            failed: None,
            id,
            started: Instant::now(),
            beat: None,
            tidied: Instant::now(),
        };
        std::thread::Builder::new()
            .name("callgate-store".to_owned())
            .spawn(move || worker.run(&messages))
            .map_err(|error| Fault::Io("starting the writer", error).at(&place))?;
        Ok(Writer { queue, shared })
    }

    /// Runs `work` in a transaction. Work that `may_be_dropped` is not begun when nobody waits for its answer any more.
    ///
    /// # Errors
    /// [`StoreError::Busy`] at once when the queue is full; [`StoreError::Unavailable`] also when no answer comes in time,
    /// and then the work may still be done later.
    pub async fn submit<T, F>(&self, may_be_dropped: bool, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Ledger<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let reply = if may_be_dropped { Reply::Droppable(answer) } else { Reply::Firm(answer) };
        self.send(Message::Job(Box::new(Task { work: Some(work), result: None, reply: Some(reply) })))?;
        match tokio::time::timeout(DEADLINE, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.shared.gone()),
            Err(_) => Err(Fault::State("it does not answer in time".to_owned()).at(&self.shared.place)),
        }
    }

    /// Runs `work` in a transaction and waits for it, from a thread that may wait.
    pub fn submit_and_wait<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Ledger<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (answer, answered) = sync_channel(1);
        self.send(Message::Job(Box::new(Task { work: Some(work), result: None, reply: Some(Reply::Waiting(answer)) })))?;
        answered.recv_timeout(DEADLINE).unwrap_or_else(|_| Err(self.shared.gone()))
    }

    /// Signs off and closes the file; gives when that is done.
    pub async fn stop(&self) {
        let (done, is_done) = oneshot::channel();
        // Stopping is rare and must not be refused, so it waits for room in the queue, but not for ever.
        let mut message = Message::Stop(Box::new(move || {
            let _ = done.send(());
        }));
        for _ in 0..DEADLINE.as_millis() / 10 {
            match self.queue.try_send(message) {
                Ok(()) => {
                    let _ = tokio::time::timeout(DEADLINE, is_done).await;
                    return;
                }
                Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(again)) => message = again,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn send(&self, message: Message) -> Result<(), StoreError> {
        self.queue.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => self.shared.gone(),
        })
    }
}

/// A piece of work inside a transaction that others share.
trait Job: Send {
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
    /// Does the work; gives whether it stands. A fault undoes the whole transaction.
    fn run(&mut self, ledger: &mut Ledger<'_>) -> Result<bool, Fault>;
    /// Answers, once it is known whether the transaction was committed.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Task<T, F> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: Option<Reply<T>>,
}

enum Reply<T> {
    Droppable(oneshot::Sender<Result<T, StoreError>>),
    Firm(oneshot::Sender<Result<T, StoreError>>),
    Waiting(SyncSender<Result<T, StoreError>>),
}

impl<T: Send, F> Job for Task<T, F>
where
    F: FnOnce(&mut Ledger<'_>) -> Result<T, Fault> + Send,
{
    fn is_abandoned(&self) -> bool {
        matches!(&self.reply, Some(Reply::Droppable(answer)) if answer.is_closed())
    }

    fn run(&mut self, ledger: &mut Ledger<'_>) -> Result<bool, Fault> {
        let Some(work) = self.work.take() else { return Ok(false) };
        // A bug in one caller's closure must not end the thread on which all others depend.
        match catch_unwind(AssertUnwindSafe(|| work(ledger))) {
            Ok(Ok(value)) => self.result = Some(Ok(value)),
            Ok(Err(Fault::Refused(error))) => self.result = Some(Err(error)),
            Ok(Err(fault)) => return Err(fault),
            Err(_) => {
                self.result = Some(Err(Fault::State("callgate has made a mistake; please report it".to_owned()).at("this call")))
            }
        }
        Ok(matches!(self.result, Some(Ok(_))))
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

struct Worker {
    url: StateUrl,
    options: Options,
    shared: Arc<Shared>,
    database: Option<Database>,
    patience: Patience,
    /// The head as this process has seen it last.
    known: Option<Head>,
    /// When state failed last, and how.
    failed: Option<(Instant, StoreError)>,
    id: String,
    started: Instant,
    started_at: i64,
    beat: Option<Instant>,
    tidied: Instant,
}

impl Worker {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            self.keep_up();
            let first = match messages.recv_timeout(self.patience()) {
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
                    Message::Stop(done) => {
                        stop = Some(done);
                        break;
                    }
                }
            }
            self.patience.renew(BUSY);
            let committed = self.commit(&mut jobs);
            for job in jobs {
                job.finish(committed.clone());
            }
            if let Some(done) = stop {
                self.sign_off();
                return done();
            }
        }
    }

    fn patience(&self) -> Duration {
        if self.failed.is_some() { RETRY } else { BEAT.saturating_sub(self.beat.map_or(BEAT, |beat| beat.elapsed())).max(RETRY) }
    }

    /// Runs the jobs in one transaction.
    fn commit(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        self.transact(|ledger| {
            for job in jobs.iter_mut().filter(|job| !job.is_abandoned()) {
                let head = ledger.head.clone();
                ledger.connection.prepare_cached("SAVEPOINT job")?.execute([])?;
                if !job.run(ledger)? {
                    ledger.connection.prepare_cached("ROLLBACK TO job")?.execute([])?;
                    ledger.head = head;
                }
                ledger.connection.prepare_cached("RELEASE job")?.execute([])?;
            }
            Ok(())
        })
    }

    /// Does `work` in a transaction that ends with the head signed. After a failure the connection is given up.
    fn transact<T>(&mut self, work: impl FnOnce(&mut Ledger<'_>) -> Result<T, Fault>) -> Result<T, StoreError> {
        match self.try_transact(work) {
            Ok(value) => {
                if self.failed.take().is_some() {
                    tracing::info!(state = %self.shared.place, "state can be used again");
                }
                *Shared::lock(&self.shared.trouble) = None;
                Ok(value)
            }
            Err(Fault::Refused(error)) => Err(error),
            Err(fault) => {
                if !fault.is_busy() {
                    self.database = None;
                }
                let error = fault.at(&self.shared.place);
                if self.failed.is_none() {
                    tracing::error!(error = %error, "state cannot be used; calls are denied");
                }
                self.failed = Some((Instant::now(), error.clone()));
                *Shared::lock(&self.shared.trouble) = Some(error.clone());
                Err(error)
            }
        }
    }

    fn try_transact<T>(&mut self, work: impl FnOnce(&mut Ledger<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        let Worker { options, known, id, started, .. } = &mut *self;
        let (clock, instance, started) = (options.clock.clone(), id.clone(), *started);
        let known = known.clone();
        let database = self.open()?;
        let Database { connection, key, .. } = database;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let before = chain::read_head(&transaction, &key.public(), known.as_ref())?;
        let mut ledger =
            Ledger { connection: &transaction, key, clock: &clock, head: before.clone(), instance: &instance, started };
        let value = work(&mut ledger)?;
        ledger.sign_head(&before)?;
        let head = ledger.head;
        transaction.commit()?;
        self.known = Some(head);
        Ok(value)
    }

    /// The open database; opens it where it is not, or no longer in its place.
    fn open(&mut self) -> Result<&mut Database, Fault> {
        if self.database.as_ref().is_some_and(|database| !database.is_in_place()) {
            tracing::warn!(state = %self.shared.place, "the state file was moved or removed");
            self.database = None;
        }
        if self.database.is_none() {
            // In a burst of calls one failure answers all.
            if let Some((when, error)) = &self.failed
                && when.elapsed() < PAUSE
            {
                return Err(Fault::Refused(error.clone()));
            }
            let database = Database::open(&self.url, self.options.durability, self.options.clock.now(), &self.patience)?;
            *Shared::lock(&self.shared.digests) = Some(database.key.digests().clone());
            self.database = Some(database);
        }
        self.database.as_mut().ok_or_else(|| Fault::State("it is not open".to_owned()))
    }

    /// What is due between calls: finding out whether failed state has mended, the heartbeat, tidying up.
    fn keep_up(&mut self) {
        // Calls that come meanwhile wait for this, and then have patience of their own.
        self.patience.renew(PAUSE);
        let mending = self.failed.as_ref().is_some_and(|(when, _)| when.elapsed() >= RETRY);
        if mending || self.beat.is_none_or(|beat| beat.elapsed() >= BEAT) {
            self.beat = Some(Instant::now());
            let instance = Shared::lock(&self.shared.instance).clone();
            let (id, started_at) = (self.id.clone(), self.started_at);
            // A failure is kept and logged where all are; the next call or the next try shows whether it lasts.
            let _ = self.transact(|ledger| match &instance {
                Some(instance) => instances::beat(ledger.connection, &id, instance, started_at, ledger.now()),
                None => Ok(()),
            });
        }
        if self.tidied.elapsed() >= TIDY && self.failed.is_none() {
            let retention = self.options.retention;
            let more = self.transact(|ledger| retention::tidy(ledger, retention)).unwrap_or(false);
            if !more {
                self.tidied = Instant::now();
            }
            self.give_space_back();
        }
    }

    fn give_space_back(&mut self) {
        if let Some(database) = &self.database {
            // Only a matter of size: what it does not free now it frees next time.
            let _ = database.connection.execute_batch("PRAGMA incremental_vacuum(2000)");
        }
    }

    /// Keeps the head as a checkpoint and takes this process off the list. Closing the last connection empties the
    /// write-ahead log into the file.
    fn sign_off(&mut self) {
        self.patience.renew(BUSY);
        // A file that is gone is not made anew only to say goodbye in it.
        if !self.database.as_ref().is_some_and(Database::is_in_place) {
            return;
        }
        let id = self.id.clone();
        let _ = self.transact(|ledger| {
            ledger.keep_checkpoint()?;
            instances::leave(ledger.connection, &id)
        });
        self.database = None;
    }
}

/// So many calls may wait; each beyond is denied.
const QUEUE: usize = 1024;
/// So many are taken into one transaction.
const BATCH: usize = 512;
/// A store that does not answer must deny within five seconds; see also [`crate::sqlite::BUSY`].
const DEADLINE: Duration = Duration::from_millis(4000);
/// After a failure, how long its answer stands for others, and when it is tried again without a call.
const PAUSE: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_millis(500);
const BEAT: Duration = Duration::from_secs(10);
const TIDY: Duration = Duration::from_secs(60);
