//! The queue before the one thread that uses the database.
//!
//! What callers cannot do by themselves (see [`crate::front`]) queues up here. The thread takes all that waits into one
//! commit, and nobody is answered before it. A full queue is a denial.

use crate::address::ServerAddress;
use crate::chain::{Ledger, Scribe};
use crate::clock::{Clock, ServerClock};
use crate::entry::{Entered, Entry};
use crate::error::Fault;
use crate::front::Front;
use crate::job::{Job, Plain, Reply, Task, Work};
use crate::key::random_id;
use crate::place::Patience;
use crate::server;
use crate::shared::{Message, Shared};
use crate::sqlite::Database;
use crate::trouble::Trouble;
use crate::worker::Worker;
use crate::{Durability, Options, StateUrl, StoreError};
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The callers' end of the queue.
pub(crate) struct Writer {
    queue: SyncSender<Message>,
    front: Arc<Front>,
    pub shared: Arc<Shared>,
    /// Until then a caller is answered.
    deadline: Duration,
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
        Ok(Writer { queue, front, shared, deadline: DEADLINE })
    }

    /// Starts the thread for state on a server. With `now` state is opened before this returns.
    pub fn start_on_server(
        address: ServerAddress,
        keys: PathBuf,
        options: Options,
        clock: Arc<ServerClock>,
        now: bool,
    ) -> Result<Writer, StoreError> {
        let (queue, messages) = sync_channel(QUEUE);
        let place = address.to_string();
        let trouble = Arc::new(Trouble::new(place.clone()));
        let shared = Arc::new(Shared {
            trouble: trouble.clone(),
            digests: Mutex::new(None),
            instance: Mutex::new(options.instance.clone()),
        });
        let instance = random_id(8).map_err(|problem| Fault::State(problem).at(&place))?;
        let time = if options.clock.is_simulated() { options.clock.clone() } else { Clock::Server(clock.clone()) };
        let scribe = Scribe { clock: time, instance, started: Instant::now() };
        let front = Arc::new(Front::new(scribe.clone(), trouble, false));
        let mut worker = server::Worker::new(address, keys, options, shared.clone(), scribe, clock);
        let (opened, is_open) = sync_channel(1);
        std::thread::Builder::new()
            .name("callgate-store".to_owned())
            .spawn(move || {
                let begun = if now { worker.begin() } else { Ok(()) };
                let goes_on = begun.is_ok();
                // Whoever opens it waits for that.
                let _ = opened.send(begun);
                if goes_on {
                    worker.run(&messages);
                }
            })
            .map_err(|error| Fault::Io("starting the writer", error).at(&place))?;
        is_open.recv().unwrap_or_else(|_| Err(shared.gone()))?;
        Ok(Writer { queue, front, shared, deadline: SERVER_DEADLINE })
    }

    /// Does work: at once where that can be, else in the thread. Work that `may_be_dropped` is not begun when nobody waits for
    /// its answer any more.
    ///
    /// # Errors
    /// As those of [`Writer::submit`].
    pub async fn perform<T: Send + 'static>(&self, may_be_dropped: bool, work: Work<T>) -> Result<T, StoreError> {
        let plain = match work {
            Work::Plain(plain) if self.front.gathers() => return self.share(may_be_dropped, plain).await,
            Work::Plain(plain) => plain,
            whole @ Work::Whole(..) => return self.queued(may_be_dropped, whole).await,
        };
        match self.front.commit(plain) {
            Ok(result) => {
                self.tell();
                result
            }
            Err(plain) => self.queued(may_be_dropped, Work::Plain(plain)).await,
        }
    }

    /// Makes all entries in one commit, here and now, or gives them back.
    pub fn enter(&self, entries: Vec<Entry>) -> Result<Vec<Result<Entered, StoreError>>, Vec<Entry>> {
        let entered = self.front.enter(entries)?;
        self.tell();
        Ok(entered)
    }

    /// Does plain work in one commit with that of others.
    async fn share<T: Send + 'static>(&self, may_be_dropped: bool, plain: Plain<T>) -> Result<T, StoreError> {
        // Declared first and so dropped last: work that may be dropped is not begun for a caller that has gone.
        let turn;
        let (answer, answered) = oneshot::channel();
        let reply = if may_be_dropped { Reply::Droppable(answer) } else { Reply::Firm(answer) };
        let is_first = self.front.join(Box::new(Task::new(Work::Plain(plain), reply)));
        turn = is_first.then(|| Turn(self));
        // All that are ready now may join. Those that did are answered when they come again, without ever setting a timer.
        tokio::task::yield_now().await;
        drop(turn);
        self.answer(answered).await
    }

    /// Lets the thread know that something was appended.
    fn tell(&self) {
        if self.front.has_news() {
            // A full queue keeps the thread awake as well.
            let _ = self.queue.try_send(Message::Appended);
        }
    }

    /// Runs `work` in a transaction of the database. `wants` are the counters it will ask for.
    ///
    /// # Errors
    /// [`StoreError::Busy`] at once when the queue is full; [`StoreError::Unavailable`] also when no answer comes in time,
    /// and then the work may still be done later.
    pub async fn submit<T, F>(&self, may_be_dropped: bool, wants: Vec<(Arc<str>, i64)>, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Ledger<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.queued(may_be_dropped, Work::Whole(wants, Box::new(work))).await
    }

    async fn queued<T: Send + 'static>(&self, may_be_dropped: bool, work: Work<T>) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let reply = if may_be_dropped { Reply::Droppable(answer) } else { Reply::Firm(answer) };
        self.send(Message::Job(Box::new(Task::new(work, reply))))?;
        self.answer(answered).await
    }

    async fn answer<T>(&self, mut answered: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
        if let Ok(result) = answered.try_recv() {
            return result;
        }
        match tokio::time::timeout(self.deadline, answered).await {
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
        self.send(Message::Job(Box::new(Task::new(Work::Whole(Vec::new(), Box::new(work)), Reply::Waiting(answer)))))?;
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

    /// Lets the thread do it.
    fn hand_over(&self, job: Box<dyn Job>) {
        match self.queue.try_send(Message::Job(job)) {
            Ok(()) => {}
            Err(TrySendError::Full(Message::Job(job))) => job.finish(Err(StoreError::Busy)),
            Err(TrySendError::Disconnected(Message::Job(job))) => job.finish(Err(self.shared.gone())),
            Err(_) => {}
        }
    }

    fn send(&self, message: Message) -> Result<(), StoreError> {
        self.queue.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => self.shared.gone(),
        })
    }
}

/// The first of those who share a commit: makes it for all, also when its own caller has gone.
struct Turn<'w>(&'w Writer);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Turn(writer) = self;
        match writer.front.commit_all(writer.front.gathered()) {
            Ok(()) => writer.tell(),
            Err(jobs) => {
                for job in jobs {
                    writer.hand_over(job);
                }
            }
        }
    }
}

/// So many calls may wait; each beyond is denied.
const QUEUE: usize = 1024;
/// A store that does not answer must deny within five seconds; see also [`crate::sqlite::BUSY`].
const DEADLINE: Duration = Duration::from_millis(4000);
/// One on another machine within two.
const SERVER_DEADLINE: Duration = Duration::from_millis(1900);
