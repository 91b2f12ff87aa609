//! The one thread that uses the server.

use super::batch::Batch;
use super::open::{self, NOW, Opened};
use crate::address::ServerAddress;
use crate::chain::{self, Continued, Head, Ledger, Scribe};
use crate::clock::ServerClock;
use crate::departed;
use crate::error::Fault;
use crate::instances;
use crate::job::{Job, run_whole};
use crate::key::{Kind, Statement, first_eight, sha256};
use crate::retention;
use crate::shared::{Message, Shared};
use crate::sql::Sql;
use crate::{Options, StoreError};
use futures_util::future::{BoxFuture, try_join_all};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;

pub(crate) struct Worker {
    pub address: ServerAddress,
    pub keys: PathBuf,
    pub options: Options,
    pub shared: Arc<Shared>,
    pub scribe: Scribe,
    pub clock: Arc<ServerClock>,
    state: Option<Opened>,
    /// The head of this gateway's chain as it has seen it last.
    known: Option<Head>,
    /// The chain that it is of.
    chain: Option<String>,
    started_at: i64,
    beat: Option<Instant>,
    tidied: Instant,
}

/// What the first trip of a commit has found.
struct Standing {
    head: Head,
    now: i64,
    held: Vec<(String, i64, i64)>,
}

impl Worker {
    pub fn new(
        address: ServerAddress,
        keys: PathBuf,
        options: Options,
        shared: Arc<Shared>,
        scribe: Scribe,
        clock: Arc<ServerClock>,
    ) -> Worker {
        let started_at = scribe.clock.now();
        let (state, known, chain, beat) = (None, None, None, None);
        Worker { address, keys, options, shared, scribe, clock, state, known, chain, started_at, beat, tidied: Instant::now() }
    }

    /// Opens state now instead of with the first call.
    pub fn begin(&mut self) -> Result<(), StoreError> {
        self.attempt(|worker| worker.open(Instant::now() + OPENING))
    }

    pub fn run(mut self, messages: &Receiver<Message>) {
        loop {
            self.keep_up();
            let first = match messages.recv_timeout(TICK) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return self.sign_off(),
            };
            let (mut plain, mut whole, mut stop) = (Vec::new(), Vec::new(), None);
            let waiting = std::iter::once(first).chain(std::iter::from_fn(|| messages.try_recv().ok()));
            for message in waiting.take(BATCH) {
                match message {
                    Message::Job(job) if job.is_abandoned() => {}
                    Message::Job(job) if job.wants().is_some() => plain.push(job),
                    Message::Job(job) => whole.push(job),
                    Message::Appended => {}
                    Message::Stop(done) => {
                        stop = Some(done);
                        break;
                    }
                }
            }
            let until = Instant::now() + PATIENCE;
            self.answer(plain, until, Worker::commit);
            self.answer(whole, until, Worker::commit_whole);
            if let Some(done) = stop {
                self.sign_off();
                return done();
            }
        }
    }

    /// Does a group of jobs in one commit, and answers them.
    fn answer(
        &mut self,
        mut jobs: Vec<Box<dyn Job>>,
        until: Instant,
        commit: impl FnOnce(&mut Worker, &mut [Box<dyn Job>]) -> Result<(), Fault>,
    ) {
        if jobs.is_empty() {
            return;
        }
        let committed = self.attempt(|worker| {
            worker.open(until)?;
            commit(worker, &mut jobs)
        });
        for job in jobs {
            job.finish(committed.clone());
        }
    }

    /// After a failure the connection is not used again.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Worker) -> Result<T, Fault>) -> Result<T, StoreError> {
        match work(self) {
            Ok(value) => {
                self.shared.trouble.clear();
                Ok(value)
            }
            Err(Fault::Refused(error)) => {
                // It may stand in the middle of a transaction.
                if self.state.as_ref().is_some_and(|state| state.session.batch("ROLLBACK").is_err()) {
                    self.state = None;
                }
                Err(error)
            }
            Err(fault) => {
                self.state = None;
                Err(self.shared.trouble.set(fault))
            }
        }
    }

    /// Connects where that is needed; until then everything has to be done.
    fn open(&mut self, until: Instant) -> Result<(), Fault> {
        if self.state.as_ref().is_some_and(|state| state.session.is_closed()) {
            self.state = None;
        }
        if let Some(state) = &self.state {
            state.session.allow(until);
            return Ok(());
        }
        // In a burst of calls one failure answers all.
        if let Some((when, error)) = self.shared.trouble.get()
            && when.elapsed() < PAUSE
        {
            return Err(Fault::Refused(error));
        }
        let state = open::open(&self.address, &self.keys, until)?;
        self.clock.tell(open::now(Sql::Server(&state.session))?);
        *Shared::lock(&self.shared.digests) = Some(state.key.digests().clone());
        if self.chain.as_ref() != Some(&state.chain) {
            // Another chain has another head: the one before was removed while we were away.
            (self.known, self.chain) = (None, Some(state.chain.clone()));
        }
        self.state = Some(state);
        Ok(())
    }

    /// Commits jobs that need charges and records only.
    fn commit(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Fault> {
        let state = self.state.as_ref().ok_or_else(not_open)?;
        let mut keys: Vec<&str> = jobs.iter().flat_map(|job| job.counters()).map(|(key, _)| &**key).collect();
        // One with a zero byte stays unknown, so that its own job is refused and no other.
        keys.retain(|key| !key.contains('\0'));
        keys.sort_unstable();
        keys.dedup();
        let standing = self.stand(state, &keys, false)?;
        let mut batch = Batch {
            scribe: &self.scribe,
            now: standing.now,
            head: standing.head.clone(),
            tally: Default::default(),
            records: Vec::new(),
            changes: Vec::new(),
        };
        for (key, buckets) in grouped(&keys, standing.held) {
            batch.tally.learn(key.into(), i64::MIN, buckets);
        }
        for job in jobs.iter_mut().filter(|job| !job.is_abandoned()) {
            let before = batch.before();
            if !job.run_plain(&mut batch)? {
                batch.go_back(before);
            }
        }
        write(state, &batch, &standing.head)?;
        let head = batch.head;
        self.known = Some(head);
        Ok(())
    }

    /// Commits jobs that need more.
    fn commit_whole(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Fault> {
        let state = self.state.as_ref().ok_or_else(not_open)?;
        let mut keys: Vec<Arc<str>> = jobs.iter().flat_map(|job| job.counters()).map(|(key, _)| key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        let keys: Vec<&str> = keys.iter().map(|key| &**key).filter(|key| !key.contains('\0')).collect();
        self.transact(state, &keys, |ledger| run_whole(ledger, jobs)).map(|(head, ())| self.known = Some(head))
    }

    /// Does `work` in a transaction that nobody else's of this kind runs beside.
    fn transact<T>(
        &self,
        state: &Opened,
        keys: &[&str],
        work: impl FnOnce(&mut Ledger<'_>) -> Result<T, Fault>,
    ) -> Result<(Head, T), Fault> {
        let standing = self.stand(state, keys, true)?;
        let mut ledger = Ledger {
            sql: Sql::Server(&state.session),
            key: &state.key,
            scribe: &self.scribe,
            head: standing.head.clone(),
            shared: Some(Continued { chain: &state.chain, now: standing.now }),
        };
        let value = work(&mut ledger)?;
        ledger.sign_head(&standing.head)?;
        let head = ledger.head;
        state.session.batch("COMMIT")?;
        Ok((head, value))
    }

    /// The first trip: begins a transaction, locks, and reads how counters, chain and clock stand.
    fn stand(&self, state: &Opened, keys: &[&str], is_whole: bool) -> Result<Standing, Fault> {
        let session = &state.session;
        let locks: Vec<i64> = {
            // In the order of the locks, which is not that of the keys.
            let mut locks: Vec<i64> = keys.iter().map(|key| first_eight(&sha256(key.as_bytes()))).collect();
            locks.sort_unstable();
            locks.dedup();
            locks
        };
        let simulated = self.options.clock.is_simulated().then(|| self.options.clock.now());
        let begin = if is_whole { "BEGIN; SELECT pg_advisory_xact_lock(1667329123, 2)" } else { "BEGIN" };
        let (lock, held) = (session.statement(LOCK)?, session.statement(HELD)?);
        let (head, time) = (session.statement(HEAD)?, session.statement(NOW)?);
        let (client, own): (_, [&(dyn ToSql + Sync); 1]) = (session.client(), [&state.chain]);
        let reads = !keys.is_empty() && !is_whole;
        let (_, _, rows, head, now) = session.wait(async {
            Ok(tokio::try_join!(
                client.batch_execute(begin),
                async {
                    match locks.is_empty() {
                        true => Ok(Vec::new()),
                        false => client.query(&lock, &[&locks]).await,
                    }
                },
                async {
                    match reads {
                        true => client.query(&held, &[&keys, &simulated]).await,
                        false => Ok(Vec::new()),
                    }
                },
                client.query_opt(&head, &own),
                client.query_one(&time, &[]),
            )?)
        })?;
        let head = head.map(|row| Ok::<_, Fault>((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)));
        let head = chain::signed_head(head.transpose()?, &state.key.public(), self.known.as_ref())?;
        let server_now: i64 = now.try_get(0)?;
        self.clock.tell(server_now);
        let held = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
        Ok(Standing { head, now: simulated.unwrap_or(server_now), held: held.collect::<Result<_, Fault>>()? })
    }

    /// What is due between calls: finding out whether the server has come back, the heartbeat, tidying up.
    fn keep_up(&mut self) {
        let trouble = self.shared.trouble.get();
        let mending = trouble.as_ref().is_some_and(|(when, _)| when.elapsed() >= RETRY);
        let lost = self.state.as_ref().is_some_and(|state| state.session.is_closed());
        let beats = self.beat.is_none_or(|beat| beat.elapsed() >= BEAT) && trouble.is_none();
        if mending || lost || beats {
            let beaten = self.attempt(|worker| {
                worker.open(Instant::now() + PATIENCE)?;
                let state = worker.state.as_ref().ok_or_else(not_open)?;
                worker.beat(state)
            });
            // Otherwise a file in which something is wrong would be asked without a pause.
            if beaten.is_ok() || trouble.is_none() {
                self.beat = Some(Instant::now());
            }
        }
        if self.tidied.elapsed() >= TIDY && self.shared.trouble.get().is_none() && self.state.is_some() {
            let retention = self.options.retention;
            let tidied = self.attempt(|worker| {
                worker.open(Instant::now() + PATIENCE)?;
                let state = worker.state.as_ref().ok_or_else(not_open)?;
                worker.transact(state, &[], |ledger| retention::tidy(ledger, retention))
            });
            match tidied {
                Ok((head, more)) => {
                    self.known = Some(head);
                    self.tidied = if more { self.tidied } else { Instant::now() };
                }
                Err(_) => self.tidied = Instant::now(),
            }
        }
    }

    /// Says that this process lives, and looks at the server's clock.
    fn beat(&self, state: &Opened) -> Result<(), Fault> {
        let sql = Sql::Server(&state.session);
        let now = open::now(sql)?;
        self.clock.tell(now);
        let now = if self.options.clock.is_simulated() { self.options.clock.now() } else { now };
        departed::is_seen(sql, &state.chain, now)?;
        match Shared::lock(&self.shared.instance).clone() {
            Some(instance) => instances::beat(sql, &self.scribe.instance, &instance, self.started_at, now),
            None => Ok(()),
        }
    }

    /// Keeps the head as a checkpoint, and takes this process off the list.
    fn sign_off(&mut self) {
        let left = (|| {
            let Some(state) = self.state.as_ref().filter(|state| !state.session.is_closed()) else { return Ok(()) };
            state.session.allow(Instant::now() + PATIENCE);
            let instance = &self.scribe.instance;
            self.transact(state, &[], |ledger| {
                ledger.keep_checkpoint()?;
                instances::leave(ledger.sql, instance)
            })
            .map(drop)
        })();
        if let Err(fault) = left {
            tracing::warn!(error = %fault.at(&self.shared.trouble.place), "this gateway stays listed until it is forgotten");
        }
        self.state = None;
    }
}

/// The second trip: writes what the calls have come to, and commits.
fn write(state: &Opened, batch: &Batch<'_>, before: &Head) -> Result<(), Fault> {
    let (session, chain) = (&state.session, &state.chain);
    if batch.records.is_empty() && batch.changes.is_empty() {
        return session.batch("ROLLBACK");
    }
    let (taken, given) = batch.sums();
    let seqs: Vec<i64> = batch.records.iter().map(|row| row.seq).collect();
    let bodies: Vec<&str> = batch.records.iter().map(|row| row.body.as_str()).collect();
    let hashes: Vec<&str> = batch.records.iter().map(|row| row.hash.as_str()).collect();
    let (Head { seq, hash }, at) = (&batch.head, batch.now);
    let hash: &str = hash;
    let sign = |kind| state.key.sign(&Statement { kind, seq: *seq, hash, at });
    let (signature, checkpoint) = (sign(Kind::Head), sign(Kind::Checkpoint));
    let mut steps: Vec<(&str, Vec<&(dyn ToSql + Sync)>)> = Vec::new();
    if !taken.keys.is_empty() {
        steps.push((TAKE, vec![&taken.keys, &taken.buckets, &taken.micros, &taken.frees_at]));
    }
    if !given.keys.is_empty() {
        steps.push((GIVE_BACK, vec![&given.keys, &given.buckets, &given.micros]));
    }
    if !seqs.is_empty() {
        steps.push((APPEND, vec![chain, &seqs, &bodies, &hashes]));
        steps.push((SIGN, vec![chain, seq, &hash, &at, &signature]));
    }
    if chain::is_checkpoint(before.seq, *seq) {
        steps.push((KEEP, vec![chain, seq, &hash, &at, &checkpoint]));
    }
    let mut prepared = Vec::with_capacity(steps.len());
    for (text, values) in &steps {
        prepared.push((session.statement(text)?, values));
    }
    let client = session.client();
    session.wait(async {
        let mut writes: Vec<BoxFuture<'_, Result<(), tokio_postgres::Error>>> = Vec::with_capacity(prepared.len() + 1);
        for (statement, values) in &prepared {
            writes.push(Box::pin(async move { client.execute(statement, values).await.map(drop) }));
        }
        // In a transaction that has failed this undoes everything, and the failure is what comes back.
        writes.push(Box::pin(client.batch_execute("COMMIT")));
        try_join_all(writes).await?;
        Ok(())
    })
}

/// Buckets by key, in the order of `keys`: also of those that have none.
fn grouped(keys: &[&str], held: Vec<(String, i64, i64)>) -> Vec<(String, Vec<(i64, i64)>)> {
    let mut all: Vec<(String, Vec<(i64, i64)>)> = keys.iter().map(|key| ((*key).to_owned(), Vec::new())).collect();
    for (key, bucket, used) in held {
        if let Ok(at) = all.binary_search_by(|(known, _)| known.as_str().cmp(&key)) {
            all[at].1.push((bucket, used));
        }
    }
    all
}

fn not_open() -> Fault {
    Fault::State("it is not open".to_owned())
}

const LOCK: &str = "SELECT pg_advisory_xact_lock(counter) FROM unnest(?1::bigint[]) AS counter";
/// What still counts, with some margin for a clock that is being corrected.
const HELD: &str = "SELECT key, bucket, used FROM counters WHERE key = ANY(?1::text[]) AND frees_at > \
    coalesce(?2::bigint, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) - 5000";
const HEAD: &str = "SELECT seq, hash, at, signature FROM head WHERE chain = ?1 FOR UPDATE";
const TAKE: &str = "INSERT INTO counters(key, bucket, used, frees_at)
    SELECT * FROM unnest(?1::text[], ?2::bigint[], ?3::bigint[], ?4::bigint[])
    ON CONFLICT(key, bucket) DO UPDATE SET used = CASE WHEN counters.used > 9223372036854775807 - excluded.used
        THEN 9223372036854775807 ELSE counters.used + excluded.used END";
const GIVE_BACK: &str = "UPDATE counters SET used = greatest(0, counters.used + given.micros)
    FROM unnest(?1::text[], ?2::bigint[], ?3::bigint[]) AS given(key, bucket, micros)
    WHERE counters.key = given.key AND counters.bucket = given.bucket";
const APPEND: &str = "INSERT INTO audit(chain, seq, body, hash)
    SELECT ?1::text, * FROM unnest(?2::bigint[], ?3::text[], ?4::text[])";
const SIGN: &str = "UPDATE head SET seq = ?2, hash = ?3, at = ?4, signature = ?5 WHERE chain = ?1";
const KEEP: &str = "INSERT INTO checkpoints(chain, seq, hash, at, signature) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT(chain, seq) DO NOTHING";

/// So many are taken into one commit.
const BATCH: usize = 512;
/// Within this a call is answered, or denied: two seconds are promised.
const PATIENCE: Duration = Duration::from_millis(1500);
/// At the start tables may have to be made, or another gateway is just making them.
const OPENING: Duration = Duration::from_millis(4000);
const PAUSE: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(500);
const BEAT: Duration = Duration::from_secs(10);
const TIDY: Duration = Duration::from_secs(60);
