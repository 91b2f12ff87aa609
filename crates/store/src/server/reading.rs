//! Reading state on a server: a thread of its own with a connection of its own, so that any thread may ask.

use super::open::{self, check_version};
use super::verify;
use crate::address::ServerAddress;
use crate::clock::{Clock, ServerClock};
use crate::error::Fault;
use crate::session::Session;
use crate::sql::Sql;
use crate::tables::MIGRATIONS;
use crate::verify::Verification;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

type Question = Box<dyn FnOnce(&Session) + Send>;

/// The askers' end of the thread.
pub(crate) struct Remote {
    questions: SyncSender<Question>,
    keys: PathBuf,
}

impl Remote {
    /// Connects; gives with it the server's clock.
    pub fn open(address: ServerAddress, keys: PathBuf) -> Result<(Remote, Clock), Fault> {
        let (questions, asked) = sync_channel::<Question>(16);
        let (opened, is_open) = sync_channel(1);
        let reader = move || {
            let session = match connect(&address) {
                Ok((session, now)) => {
                    // Whoever opens it waits for that.
                    let _ = opened.send(Ok(now));
                    session
                }
                Err(fault) => return drop(opened.send(Err(fault))),
            };
            for question in asked {
                session.allow(Instant::now() + LONGEST);
                question(&session);
            }
        };
        let started = std::thread::Builder::new().name("callgate-reader".to_owned()).spawn(reader);
        started.map_err(|error| Fault::Io("starting a reader", error))?;
        let now = is_open.recv().unwrap_or(Err(Fault::Slow))?;
        let clock = Arc::new(ServerClock::new());
        clock.tell(now);
        Ok((Remote { questions, keys }, Clock::Server(clock)))
    }

    /// Asks; what is read inside `work` is of one moment.
    pub fn ask<T: Send + 'static>(&self, work: impl FnOnce(Sql<'_>) -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
        let (answer, answered) = sync_channel(1);
        let question: Question = Box::new(move |session| {
            let ask = || {
                session.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
                let value = work(Sql::Server(session))?;
                session.batch("COMMIT")?;
                Ok(value)
            };
            let result = ask();
            if result.is_err() {
                // Should this fail, so will the next question.
                let _ = session.batch("ROLLBACK");
            }
            // Whoever has stopped waiting is answered by nobody.
            let _ = answer.send(result);
        });
        self.questions.send(question).map_err(|_| Fault::Slow)?;
        answered.recv().unwrap_or(Err(Fault::Slow))
    }

    /// Checks every chain.
    pub fn verify(&self) -> Result<Verification, Fault> {
        let keys = self.keys.clone();
        self.ask(move |sql| verify::verify(sql, &keys))
    }
}

fn connect(address: &ServerAddress) -> Result<(Session, i64), Fault> {
    let session = Session::open(address, Instant::now() + CONNECTING)?;
    session.batch("SET statement_timeout = 60000; SET idle_in_transaction_session_timeout = 60000")?;
    let sql = Sql::Server(&session);
    match open::version(sql)? {
        0 => return Err(Fault::State("it holds no state yet; `callgate run` or `callgate serve` make it".to_owned())),
        version => check_version(version)?,
    }
    if open::version(sql)? < MIGRATIONS.len() {
        return Err(Fault::State("its tables are those of an earlier callgate; start a gateway of this one first".to_owned()));
    }
    let now = open::now(sql)?;
    Ok((session, now))
}

/// For people, who may wait a little longer than calls.
const CONNECTING: Duration = Duration::from_secs(4);
const LONGEST: Duration = Duration::from_secs(60);
