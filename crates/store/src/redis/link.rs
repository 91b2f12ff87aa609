//! The thread that talks to the server: connecting, finding out what it knows, sending what waits.

use super::Memory;
use super::address::RedisAddress;
use super::wire::{Connection, Reply, refused, write_command};
use crate::StoreError;
use crate::clock::{Clock, ServerClock};
use crate::error::Fault;
use crate::key::random_id;
use crate::trouble::Trouble;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// One run of a script, and who waits for it.
pub(crate) struct Question {
    pub script: Script,
    pub keys: Vec<String>,
    /// Without what comes before, where the script wants it: the time and the epoch.
    pub words: Vec<String>,
    pub answer: oneshot::Sender<Result<Reply, StoreError>>,
}

/// What the server is asked to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    Charge,
    GiveBack,
    UseUp,
}

pub(crate) struct Link {
    address: RedisAddress,
    simulated: Option<Clock>,
    clock: Arc<ServerClock>,
    memory: Box<dyn Memory>,
    trouble: Arc<Trouble>,
    open: Option<Open>,
    /// The number of the last charge that this gateway has seen, with the epoch it belongs to.
    last: (String, i64),
    looked: Instant,
}

struct Open {
    connection: Connection,
    epoch: String,
    /// The scripts by their digests, in the order of [`Script`].
    scripts: [String; 3],
}

impl Link {
    pub fn new(
        address: RedisAddress,
        simulated: Option<Clock>,
        clock: Arc<ServerClock>,
        memory: Box<dyn Memory>,
        trouble: Arc<Trouble>,
    ) -> Link {
        Link { address, simulated, clock, memory, trouble, open: None, last: (String::new(), 0), looked: Instant::now() }
    }

    /// Connects now instead of with the first call.
    pub fn begin(&mut self) -> Result<(), StoreError> {
        self.attempt(|link| link.attach(Instant::now() + PATIENCE))
    }

    pub fn run(mut self, questions: &Receiver<Question>) {
        loop {
            self.keep_up();
            let first = match questions.recv_timeout(TICK) {
                Ok(question) => question,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let waiting = std::iter::once(first).chain(std::iter::from_fn(|| questions.try_recv().ok()));
            let group: Vec<Question> = waiting.take(BATCH).filter(|question| !question.answer.is_closed()).collect();
            self.answer(group, Instant::now() + PATIENCE);
        }
    }

    fn answer(&mut self, mut group: Vec<Question>, until: Instant) {
        // A second time only for what the script itself has refused to begin.
        for _ in 0..2 {
            if group.is_empty() {
                return;
            }
            match self.attempt(|link| link.send(&group, until)) {
                Ok(replies) => {
                    let mut again = Vec::new();
                    for (question, reply) in group.into_iter().zip(replies) {
                        match reply {
                            Reply::Refusal(words) if words.starts_with("NOSCRIPT") => again.push(question),
                            reply if reply.items().first().and_then(Reply::text) == Some("epoch") => again.push(question),
                            Reply::Refusal(words) => {
                                let error = refused(&words).at(&self.trouble.place);
                                // Whoever has stopped waiting is answered by nobody.
                                let _ = question.answer.send(Err(error));
                            }
                            reply => drop(question.answer.send(Ok(reply))),
                        }
                    }
                    if !again.is_empty() {
                        self.open = None;
                    }
                    group = again;
                }
                Err(error) => {
                    for question in group {
                        let _ = question.answer.send(Err(error.clone()));
                    }
                    return;
                }
            }
        }
        for question in group {
            let _ = question.answer.send(Err(Fault::State("its counters keep vanishing".to_owned()).at(&self.trouble.place)));
        }
    }

    /// After a failure the connection is not used again.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Link) -> Result<T, Fault>) -> Result<T, StoreError> {
        match work(self) {
            Ok(value) => {
                self.trouble.clear();
                Ok(value)
            }
            Err(Fault::Refused(error)) => Err(error),
            Err(fault) => {
                self.open = None;
                Err(self.trouble.set(fault))
            }
        }
    }

    fn send(&mut self, group: &[Question], until: Instant) -> Result<Vec<Reply>, Fault> {
        self.attach(until)?;
        let now = self.simulated.as_ref().map(|clock| clock.now().to_string()).unwrap_or_default();
        let Some(open) = &mut self.open else { return Err(Fault::Slow) };
        let mut commands = Vec::new();
        for Question { script, keys, words, .. } in group {
            let count = keys.len().to_string();
            let mut all: Vec<&str> = vec!["EVALSHA", &open.scripts[*script as usize], &count];
            all.extend(keys.iter().map(String::as_str));
            if *script != Script::GiveBack {
                all.extend([now.as_str(), open.epoch.as_str()]);
            }
            all.extend(words.iter().map(String::as_str));
            write_command(&mut commands, &all);
        }
        let replies = open.connection.send(&commands, group.len(), until)?;
        for reply in &replies {
            if let [_, at, _, _, rest @ ..] = reply.items() {
                if let Some(at) = at.text().and_then(|at| at.parse().ok()) {
                    self.clock.tell(at);
                }
                if let [Reply::Number(number)] = rest {
                    self.last = (open.epoch.clone(), *number);
                }
            }
        }
        self.looked = Instant::now();
        Ok(replies)
    }

    /// Connects where that is needed, and finds out what the server knows.
    fn attach(&mut self, until: Instant) -> Result<(), Fault> {
        if self.open.is_some() {
            return Ok(());
        }
        // In a burst of calls one failure answers all.
        if let Some((when, error)) = self.trouble.get()
            && when.elapsed() < PAUSE
        {
            return Err(Fault::Refused(error));
        }
        let mut connection = Connection::open(&self.address, until)?;
        let facts = connection.ask(&["INFO"], until)?;
        let facts = Facts::read(facts.text().unwrap_or_default())?;
        let load = |connection: &mut Connection, script| {
            let sha = connection.ask(&["SCRIPT", "LOAD", script], until)?;
            sha.text().map(str::to_owned).ok_or_else(|| Fault::State("it takes no scripts".to_owned()))
        };
        let mut loaded = |script| load(&mut connection, script);
        let scripts = [loaded(CHARGE)?, loaded(GIVE_BACK)?, loaded(USE_UP)?];
        let kept = if self.last.0.is_empty() { self.memory.recall()?.unwrap_or_default() } else { self.last.0.clone() };
        let now = self.simulated.as_ref().map(|clock| clock.now().to_string()).unwrap_or_default();
        let (seen, fresh) = (self.last.1.to_string(), random_id(16).map_err(Fault::State)?);
        let survives = if facts.survives { "1" } else { "0" };
        let words = ["EVAL", ATTACH, "1", KNOWN, &now, &kept, &seen, &facts.run, survives, &fresh];
        let attached = connection.ask(&words, until)?;
        let [epoch, at, state] = attached.items() else {
            return Err(Fault::State("what it answers makes no sense".to_owned()));
        };
        let (Some(epoch), Some(at)) = (epoch.text(), at.text().and_then(|at| at.parse().ok())) else {
            return Err(Fault::State("what it answers makes no sense".to_owned()));
        };
        if state.text() == Some("lost") {
            tracing::error!(state = %self.trouble.place, "counters were lost; what was open then counts as spent until it ends");
        }
        if kept != epoch {
            self.memory.keep(epoch)?;
        }
        if self.last.0 != epoch {
            self.last = (epoch.to_owned(), 0);
        }
        self.clock.tell(at);
        self.open = Some(Open { connection, epoch: epoch.to_owned(), scripts });
        Ok(())
    }

    /// Finds out whether the server has gone or come back.
    fn keep_up(&mut self) {
        let mending = self.trouble.get().is_some_and(|(when, _)| when.elapsed() >= RETRY);
        if mending || (self.trouble.get().is_none() && self.looked.elapsed() >= LOOK) {
            self.looked = Instant::now();
            // What went wrong is kept and logged where all are.
            let _ = self.attempt(|link| {
                let until = Instant::now() + PATIENCE;
                link.attach(until)?;
                match &mut link.open {
                    Some(open) => open.connection.ask(&["PING"], until).map(drop),
                    None => Ok(()),
                }
            });
        }
    }
}

/// What a server says of itself.
struct Facts {
    /// Changes with every start.
    run: String,
    /// Whether what it has answered is there again after its end.
    survives: bool,
}

impl Facts {
    fn read(info: &str) -> Result<Facts, Fault> {
        let fact = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        if fact("role").is_some_and(|role| role != "master") {
            return Err(Fault::State("it is a replica; name the primary".to_owned()));
        }
        if fact("maxmemory").is_some_and(|most| most != "0")
            && fact("maxmemory_policy").is_some_and(|policy| policy != "noeviction")
        {
            return Err(Fault::State(
                "it may throw counters away when memory is short; set `maxmemory-policy noeviction`".to_owned(),
            ));
        }
        let run = fact("run_id").ok_or_else(|| Fault::State("it does not say which run of it this is".to_owned()))?;
        Ok(Facts { run: run.to_owned(), survives: fact("aof_enabled") == Some("1") })
    }
}

/// What is known of a server: its epoch, its run, how many charges it has taken, when it has lost some.
pub(crate) const KNOWN: &str = "callgate:known";

const CHARGE: &str = include_str!("charge.lua");
const GIVE_BACK: &str = include_str!("give_back.lua");
const USE_UP: &str = include_str!("use_up.lua");
const ATTACH: &str = include_str!("attach.lua");

/// So many are sent in one go.
const BATCH: usize = 256;
/// Within this a call is answered, or denied: two seconds are promised.
const PATIENCE: Duration = Duration::from_millis(1500);
/// In a burst of calls one failure answers all of them for so long.
const PAUSE: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_secs(2);
