//! The queue before the one thread that uses the database.
//!
//! What callers cannot do by themselves (see [`crate::front`]) queues up here. The thread takes all that waits into one
//! commit, and nobody is answered before it. A full queue is a denial.

use crate::book::Book;
use crate::chain::{Ledger, Scribe};
use crate::error::Fault;
use crate::front::{Front, Plain, run};
use crate::instances::Instance;
use crate::key::{DigestKey, random_id};
use crate::place::Patience;
use crate::sqlite::Database;
use crate::trouble::Trouble;
use crate::worker::Worker;
use crate::{Durability, Options, StateUrl, StoreError};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The callers' end of the queue.
pub(crate) struct Writer {
    queue: SyncSender<Message>,
    front: Arc<Front>,
    pub shared: Arc<Shared>,
}

/// What the thread and its callers both see.
pub(crate) struct Shared {
    pub trouble: Arc<Trouble>,
    pub digests: Mutex<Option<DigestKey>>,
    pub instance: Mutex<Option<Instance>>,
}

impl Shared {
    /// A lock is held only to copy a value in or out, so a panic elsewhere cannot have left it half-changed.
    pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gone(&self) -> StoreError {
        Fault::State("it has been closed".to_owned()).at(&self.trouble.place)
    }
}

pub(crate) enum Message {
    Job(Box<dyn Job>),
    /// Something was appended to the journal.
    Appended,
    Stop(Box<dyn FnOnce() + Send>),
}

impl Writer {
    /// Starts the thread. `database` is opened by the thread when it is not given.
    pub fn start(url: StateUrl, options: Options, database: Option<Database>, patience: Patience) -> Result<Writer, StoreError> {
        let (queue, messages) = sync_channel(QUEUE);
        let place = url.to_string();
        let trouble = Arc::new(Trouble::new(place.clone()));
        let shared = Arc::new(Shared {
            trouble: trouble.clone(),
            digests: Mutex::new(database.as_ref().map(|database| database.key.digests().clone())),
            instance: Mutex::new(options.instance.clone()),
        });
        let instance = random_id(8).map_err(|problem| Fault::State(problem).at(&place))?;
        let scribe = Scribe { clock: options.clock.clone(), instance, started: Instant::now() };
        let inline = url.path().is_some() && options.durability == Durability::Process;
        let front = Arc::new(Front::new(scribe, trouble, inline));
        let worker = Worker::new(url, options, shared.clone(), front.clone(), database, patience);
        std::thread::Builder::new()
            .name("callgate-store".to_owned())
            .spawn(move || worker.run(&messages))
            .map_err(|error| Fault::Io("starting the writer", error).at(&place))?;
        Ok(Writer { queue, front, shared })
    }

    /// Does plain work: at once where that can be, else in the thread. Work that `may_be_dropped` is not begun when nobody
    /// waits for its answer any more.
    ///
    /// # Errors
    /// As those of [`Writer::submit`].
    pub async fn commit<T: Send + 'static>(&self, may_be_dropped: bool, plain: Plain<T>) -> Result<T, StoreError> {
        match self.front.commit(plain) {
            Ok(result) => {
                if self.front.has_news() {
                    // A full queue keeps the thread awake as well.
                    let _ = self.queue.try_send(Message::Appended);
                }
                result
            }
            Err(plain) => self.queued(may_be_dropped, Work::Plain(plain)).await,
        }
    }

    /// Runs `work` in a transaction of the database.
    ///
    /// # Errors
    /// [`StoreError::Busy`] at once when the queue is full; [`StoreError::Unavailable`] also when no answer comes in time,
    /// and then the work may still be done later.
    pub async fn submit<T, F>(&self, may_be_dropped: bool, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Ledger<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.queued(may_be_dropped, Work::Whole(Box::new(work))).await
    }

    async fn queued<T: Send + 'static>(&self, may_be_dropped: bool, work: Work<T>) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let reply = if may_be_dropped { Reply::Droppable(answer) } else { Reply::Firm(answer) };
        self.send(Message::Job(Box::new(Task { work: Some(work), result: None, reply: Some(reply) })))?;
        match tokio::time::timeout(DEADLINE, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.shared.gone()),
            Err(_) => Err(Fault::State("it does not answer in time".to_owned()).at(&self.shared.trouble.place)),
        }
    }

    /// Runs `work` in a transaction of the database and waits for it, from a thread that may wait.
    pub fn submit_and_wait<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Ledger<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (answer, answered) = sync_channel(1);
        let work = Some(Work::Whole(Box::new(work)));
        self.send(Message::Job(Box::new(Task { work, result: None, reply: Some(Reply::Waiting(answer)) })))?;
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

/// A piece of work inside a commit that others share.
pub(crate) trait Job: Send {
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
    /// The counters that plain work will ask for; `None` of work that needs the database.
    fn wants(&self) -> Option<&[(String, i64)]>;
    /// Does plain work; gives whether it stands. A fault undoes the whole commit.
    fn run_plain(&mut self, book: &mut dyn Book) -> Result<bool, Fault>;
    /// Does any work, in the database; gives whether it stands. A fault undoes the whole commit.
    fn run_whole(&mut self, ledger: &mut Ledger<'_>) -> Result<bool, Fault>;
    /// Answers, once it is known whether everything was committed.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Task<T> {
    work: Option<Work<T>>,
    result: Option<Result<T, StoreError>>,
    reply: Option<Reply<T>>,
}

type WholeWork<T> = Box<dyn FnOnce(&mut Ledger<'_>) -> Result<T, Fault> + Send>;

enum Work<T> {
    /// Can be done in the journal as well as in the database.
    Plain(Plain<T>),
    /// Needs the database.
    Whole(WholeWork<T>),
}

enum Reply<T> {
    Droppable(oneshot::Sender<Result<T, StoreError>>),
    Firm(oneshot::Sender<Result<T, StoreError>>),
    Waiting(SyncSender<Result<T, StoreError>>),
}

impl<T> Task<T> {
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

    fn wants(&self) -> Option<&[(String, i64)]> {
        match &self.work {
            Some(Work::Plain(plain)) => Some(&plain.wants),
            Some(Work::Whole(_)) => None,
            None => Some(&[]),
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
            Some(Work::Whole(work)) => {
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

/// So many calls may wait; each beyond is denied.
const QUEUE: usize = 1024;
/// A store that does not answer must deny within five seconds; see also [`crate::sqlite::BUSY`].
const DEADLINE: Duration = Duration::from_millis(4000);
