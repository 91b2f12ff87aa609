//! Counters in Redis, and what was used once, shared by gateways whose records lie elsewhere.
//!
//! All charges of a call are taken, or none, by one script: one trip. What waits goes out together. The script gives back
//! what it has found, and the call is judged by the same code as ever for what is told of it.
//!
//! **A charge comes before its record.** A call goes on when both are there; a charge whose record could not be written stays
//! spent. An answer that did not come may have been a charge: nothing is sent twice.
//!
//! **What a server may have forgotten counts as spent.** A server is known by an epoch that it keeps with the counters. Where
//! that is gone or another, where it has been restarted without a log of its writes, or where it knows of fewer charges than
//! this gateway has seen, the moment is marked, and everything that was open then is full until it ends.

mod address;
mod link;
mod wire;

pub use address::RedisAddress;

use crate::StoreError;
use crate::admission::Taken;
use crate::admit::Keyed;
use crate::clock::{Clock, ServerClock};
use crate::counters::{Judged, amount, judge};
use crate::error::Fault;
use crate::trouble::Trouble;
use link::{Link, Question, Script};
use policy::{Amount, Bound, Charge, Mode, Window};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::oneshot;
use wire::Reply;

/// What this gateway has kept of the server's epoch, and how it keeps it.
pub(crate) trait Memory: Send {
    fn recall(&self) -> Result<Option<String>, StoreError>;
    fn keep(&self, epoch: &str) -> Result<(), StoreError>;
}

/// The counters of a server.
pub(crate) struct Redis {
    questions: SyncSender<Question>,
    pub trouble: Arc<Trouble>,
    pub clock: Clock,
}

impl Redis {
    /// Starts the thread that talks to the server. With `now` it is reached before this returns.
    pub fn start(address: RedisAddress, clock: &Clock, memory: Box<dyn Memory>, now: bool) -> Result<Redis, StoreError> {
        let place = address.to_string();
        let trouble = Arc::new(Trouble::new(place.clone()));
        let server_clock = Arc::new(ServerClock::new());
        let simulated = clock.is_simulated().then(|| clock.clone());
        let (questions, asked) = sync_channel(QUEUE);
        let (opened, is_open) = sync_channel(1);
        let mut link = Link::new(address, simulated.clone(), server_clock.clone(), memory, trouble.clone());
        let run = move || {
            let begun = if now { link.begin() } else { Ok(()) };
            let goes_on = begun.is_ok();
            // Whoever opens it waits for that.
            let _ = opened.send(begun);
            if goes_on {
                link.run(&asked);
            }
        };
        let started = std::thread::Builder::new().name("callgate-redis".to_owned()).spawn(run);
        started.map_err(|error| Fault::Io("starting", error).at(&place))?;
        is_open.recv().unwrap_or_else(|_| Err(Fault::Slow.at(&place)))?;
        Ok(Redis { questions, trouble, clock: simulated.unwrap_or(Clock::Server(server_clock)) })
    }

    /// Takes every charge, or none; gives the server's time too.
    pub async fn charge(&self, charges: &Keyed) -> Result<(i64, Judged), StoreError> {
        let mut now = self.clock.now();
        // A calendar's span is said by us; at its edge it may be another one there.
        for _ in 0..3 {
            let reply = self.ask(Question::charge(charges, now)).await?;
            let answer = Answer::read(&reply).ok_or_else(|| self.senseless())?;
            match answer {
                Answer::OtherSpan { at } => now = at,
                Answer::Found { is_taken, at, lost, held } => {
                    return Ok((at, self.judged(charges, is_taken, at, lost, held)?));
                }
            }
        }
        Err(Fault::State("its clock jumps".to_owned()).at(&self.trouble.place))
    }

    fn judged(
        &self,
        charges: &Keyed,
        is_taken: bool,
        at: i64,
        lost: i64,
        held: Vec<Vec<(i64, Amount)>>,
    ) -> Result<Judged, StoreError> {
        if held.len() != charges.len() {
            return Err(self.senseless());
        }
        let mut each = held.into_iter().zip(charges);
        let judged = judge(charges, at, |_, _| {
            let Some((mut held, (_, charge))) = each.next() else { return Ok(Vec::new()) };
            if lost > 0 && matches!(charge.bound, Bound::AtMost(_)) {
                held.push((charge.counter.window.bucket(lost), Amount::MAX));
            }
            Ok(held)
        });
        let judged = judged.map_err(|fault| fault.at(&self.trouble.place))?;
        match (&judged, is_taken) {
            (Judged::Fit { .. }, true) | (Judged::Exhausted { .. }, false) => Ok(judged),
            // Both count alike; should they ever not, the call is denied, and what was taken is spent.
            _ => Err(self.senseless()),
        }
    }

    /// Gives back what a call has taken.
    pub async fn give_back(&self, taken: &[Taken]) -> Result<(), StoreError> {
        match taken.is_empty() {
            true => Ok(()),
            false => self.ask(Question::give_back(taken)).await.map(drop),
        }
    }

    /// Uses up a name; gives whether nobody had used it. Times are milliseconds since the Unix epoch.
    pub async fn use_up(&self, name: &str, since: i64, until: i64) -> Result<bool, StoreError> {
        let reply = self.ask(Question::use_up(name, since, until)).await?;
        match reply.items().first().and_then(Reply::text) {
            Some("fresh") => Ok(true),
            Some("used") => Ok(false),
            Some("lost") => Err(Fault::State("it has lost what was used once".to_owned()).at(&self.trouble.place)),
            _ => Err(self.senseless()),
        }
    }

    async fn ask(&self, make: impl FnOnce(oneshot::Sender<Result<Reply, StoreError>>) -> Question) -> Result<Reply, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.questions.try_send(make(answer)).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => Fault::State("it has been closed".to_owned()).at(&self.trouble.place),
        })?;
        match tokio::time::timeout(DEADLINE, answered).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) | Err(_) => Err(Fault::Slow.at(&self.trouble.place)),
        }
    }

    fn senseless(&self) -> StoreError {
        Fault::State("what it answers makes no sense; another may be writing its keys `callgate:*`".to_owned())
            .at(&self.trouble.place)
    }
}

/// What the script for charges answers.
enum Answer {
    OtherSpan { at: i64 },
    Found { is_taken: bool, at: i64, lost: i64, held: Vec<Vec<(i64, Amount)>> },
}

impl Answer {
    fn read(reply: &Reply) -> Option<Answer> {
        let number = |reply: &Reply| reply.text()?.parse::<i64>().ok();
        match reply.items() {
            [word, at] if word.text() == Some("clock") => Some(Answer::OtherSpan { at: number(at)? }),
            [word, at, lost, found, ..] => {
                let is_taken = match word.text()? {
                    "ok" => true,
                    "no" => false,
                    _ => return None,
                };
                let held = found.items().iter().map(|rows| {
                    let (pairs, []) = rows.items().as_chunks::<2>() else { return None };
                    pairs
                        .iter()
                        .map(|[start, held]| Some((number(start)?, held.text()?.parse().map_or(Amount::MAX, amount))))
                        .collect()
                });
                Some(Answer::Found { is_taken, at: number(at)?, lost: number(lost)?, held: held.collect::<Option<_>>()? })
            }
            _ => None,
        }
    }
}

impl Question {
    fn charge(charges: &Keyed, now: i64) -> impl FnOnce(oneshot::Sender<Result<Reply, StoreError>>) -> Question {
        let mut keys = Vec::with_capacity(charges.len() * 2 + 1);
        let mut words = Vec::with_capacity(charges.len() * 7);
        for (key, charge) in charges {
            keys.extend([format!("callgate:buckets:{key}"), format!("callgate:amounts:{key}")]);
            words.extend(described(charge, now));
        }
        keys.push(link::KNOWN.to_owned());
        move |answer| Question { script: Script::Charge, keys, words, answer }
    }

    fn give_back(taken: &[Taken]) -> impl FnOnce(oneshot::Sender<Result<Reply, StoreError>>) -> Question {
        let keys = taken.iter().map(|taken| format!("callgate:amounts:{}", taken.key)).collect();
        let words = taken.iter().flat_map(|taken| [taken.bucket.to_string(), taken.amount.micros().to_string()]).collect();
        move |answer| Question { script: Script::GiveBack, keys, words, answer }
    }

    fn use_up(name: &str, since: i64, until: i64) -> impl FnOnce(oneshot::Sender<Result<Reply, StoreError>>) -> Question {
        let keys = vec![format!("callgate:once:{name}"), link::KNOWN.to_owned()];
        let words = vec![since.to_string(), until.to_string()];
        move |answer| Question { script: Script::UseUp, keys, words, answer }
    }
}

/// A charge as the script reads it.
fn described(charge: &Charge, now: i64) -> [String; 7] {
    let window = &charge.counter.window;
    let (length, grain, first, last) = match window {
        Window::Sliding { millis } => {
            let length = i64::try_from(*millis).unwrap_or(i64::MAX);
            (length, window.frees_at(0).saturating_sub(length), 0, 0)
        }
        Window::Calendar { .. } => {
            let first = window.bucket(now);
            (0, 0, first, window.frees_at(first))
        }
    };
    let (kind, bound) = match (charge.mode, charge.bound) {
        (Mode::Shadow, Bound::AtMost(bound) | Bound::AtLeast(bound)) => ("count", bound),
        (Mode::Enforce, Bound::AtMost(bound)) => ("most", bound),
        (Mode::Enforce, Bound::AtLeast(bound)) => ("least", bound),
    };
    let [amount, bound] = [charge.amount, bound].map(|amount| amount.micros().to_string());
    [length.to_string(), grain.to_string(), first.to_string(), last.to_string(), amount, kind.to_owned(), bound]
}

/// So many calls may wait; each beyond is denied.
const QUEUE: usize = 1024;
/// A server that does not answer must deny within two seconds.
const DEADLINE: Duration = Duration::from_millis(1900);
