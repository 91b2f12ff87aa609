//! How the children of one server are: how often they were started, how they ended, what they said on standard error.
//!
//! A child that ends before it has said anything would be started again at once by whoever comes next, without end. So after
//! such an end nobody may start another for a while, each time for longer; they are told so at once. One that has worked and
//! ends later is started again without a pause: what ends it may be one caller's doing, and is no reason to turn away others.
//!
//! A child that is silent while nobody waits for it is asked for a sign of life. One that gives none is ended, so that whoever
//! comes next gets a new one. While a request is under way it is left alone: many servers do one thing at a time, and the
//! request has a limit of its own.

use crate::enforcer::Permit;
use crate::outbox::Outbox;
use crate::tools::own_id;
use mcp::{Id, Kind, Message, Side};
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// What is kept of a server's standard error, of all its children together.
const KEPT_BYTES: usize = 16 * 1024;
/// The pause after the first child that has ended before it has said anything, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The state of one server's children. Shared by all of them, and by whoever shows it.
pub struct Vitals {
    /// The server's name.
    name: String,
    /// After so long a silence a child is asked for a sign of life, and after so long again it is ended.
    silence: Duration,
    /// Whether what they say on standard error is passed on to ours.
    echoes: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    living: usize,
    starts: u64,
    ends: u64,
    /// Children in a row that have ended before they had said anything.
    stillborn: u32,
    /// Before that no other is started.
    not_before: Option<Instant>,
    last_end: Option<String>,
    said: VecDeque<u8>,
}

/// What can be shown of a server's children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// How many live now.
    pub living: usize,
    /// How many were started, and how many of them have ended by themselves.
    pub starts: u64,
    /// How many have ended without being told to.
    pub ends: u64,
    /// How the last of those has ended.
    pub last_end: Option<String>,
    /// How long nobody may start another.
    pub paused: Option<Duration>,
    /// The end of what they have said on standard error. Not ours, and not to be trusted.
    pub said: String,
}

impl Vitals {
    /// Of a server's children, none of which has been started.
    pub fn new(name: impl Into<String>, silence: Duration) -> Arc<Vitals> {
        Arc::new(Vitals { name: name.into(), silence, echoes: true, state: Mutex::default() })
    }

    /// The same of a server whose standard error is for nobody's terminal; the end of it is kept all the same.
    pub fn quiet(name: impl Into<String>, silence: Duration) -> Arc<Vitals> {
        Arc::new(Vitals { name: name.into(), silence, echoes: false, state: Mutex::default() })
    }

    /// How the children are now.
    pub fn condition(&self) -> Condition {
        let state = self.lock();
        Condition {
            living: state.living,
            starts: state.starts,
            ends: state.ends,
            last_end: state.last_end.clone(),
            paused: state.not_before.and_then(|until| until.checked_duration_since(Instant::now())),
            said: String::from_utf8_lossy(&state.said.iter().copied().collect::<Vec<_>>()).into_owned(),
        }
    }

    /// Whether a child may be started now; else why not.
    pub(super) fn may_start(&self) -> Result<(), String> {
        let state = self.lock();
        let Some(left) = state.not_before.and_then(|until| until.checked_duration_since(Instant::now())) else { return Ok(()) };
        let why = state.last_end.as_deref().unwrap_or("it has ended");
        Err(format!("{why}; it is tried again in {} s", left.as_secs() + 1))
    }

    /// A child could not even be started.
    pub(super) fn has_not_started(&self) {
        self.lock().pause("it cannot be started");
    }

    /// A child has been started; from here on it is watched.
    pub(super) fn has_started(self: &Arc<Vitals>, outbox: &Outbox, stderr: impl AsyncRead + Unpin + Send + 'static) -> Arc<Life> {
        let mut state = self.lock();
        state.living += 1;
        state.starts += 1;
        drop(state);
        let life = Arc::new(Life {
            vitals: self.clone(),
            begun: Instant::now(),
            heard: AtomicU64::new(0),
            open: AtomicU64::new(0),
            asked: Mutex::new(None),
            told: CancellationToken::new(),
            sick: CancellationToken::new(),
        });
        tokio::spawn(listen(self.clone(), stderr));
        tokio::spawn(examine(Arc::downgrade(&life), self.silence, outbox.clone()));
        life
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Vitals {
    /// What a server says on standard error is for nobody's log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vitals({})", self.name)
    }
}

impl State {
    fn pause(&mut self, why: &str) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.stillborn.min(16)).min(LONGEST_PAUSE);
        self.stillborn = self.stillborn.saturating_add(1);
        self.not_before = Some(Instant::now() + jittered(pause));
        self.last_end = Some(why.to_owned());
    }
}

/// Between three and five quarters of a pause, so that not all come back at once.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let mut chance = [128u8];
    // Without chance all come back at once: no reason not to come back.
    let _ = getrandom::fill(&mut chance);
    pause.mul_f64(0.75 + f64::from(chance[0]) / 512.0)
}

/// The life of one child.
pub(super) struct Life {
    vitals: Arc<Vitals>,
    begun: Instant,
    /// When it was last heard, in milliseconds since it began; 0 before that.
    heard: AtomicU64,
    /// Requests that it has not answered.
    open: AtomicU64,
    /// What it was asked for a sign of life.
    asked: Mutex<Option<Id>>,
    /// It was told to end.
    told: CancellationToken,
    /// It gives no sign of life.
    pub sick: CancellationToken,
}

impl Life {
    /// Something is sent to it.
    pub fn send(&self, permit: &Permit) {
        match permit.message().method() {
            // Never answered while it lasts.
            Some("subscriptions/listen") | None => {}
            // A request that is cancelled may never be answered.
            Some("notifications/cancelled") => self.close_one(),
            Some(_) if permit.wire_id().is_some() => drop(self.open.fetch_add(1, Ordering::Relaxed)),
            Some(_) => {}
        }
    }

    /// It has said something; true for a sign of life that we have asked for, which is for nobody else.
    pub fn hear(&self, message: Option<&Message>) -> bool {
        if self.heard.swap(self.age(), Ordering::Relaxed) == 0 {
            let mut state = self.vitals.lock();
            (state.stillborn, state.not_before) = (0, None);
        }
        let Some(message) = message.filter(|message| matches!(message.kind(), Kind::Response { .. })) else { return false };
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_some() && asked.as_ref() == message.id() {
            *asked = None;
            return true;
        }
        self.close_one();
        false
    }

    /// It is told to end: that it does is no failure of its own.
    pub fn tell(&self) {
        self.told.cancel();
    }

    /// It has closed its output, and says nothing any more.
    pub fn end(&self) {
        if self.told.is_cancelled() {
            return;
        }
        let is_sick = self.sick.is_cancelled();
        let how = if is_sick { "it gave no sign of life, and was ended" } else { "it has ended by itself" };
        let mut state = self.vitals.lock();
        state.ends += 1;
        let was_heard = self.heard.load(Ordering::Relaxed) != 0;
        warn!(server = self.vitals.name, after = ?self.begun.elapsed(), how, "a process of the server is gone");
        if was_heard { state.last_end = Some(how.to_owned()) } else { state.pause(how) }
    }

    fn close_one(&self) {
        let _ = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| open.checked_sub(1));
    }

    /// At least 1.
    fn age(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// How long it has been silent while nobody waited for it; none before its first word.
    fn silent(&self) -> Option<Duration> {
        let heard = self.heard.load(Ordering::Relaxed);
        let waits = heard == 0 || self.open.load(Ordering::Relaxed) > 0;
        (!waits).then(|| Duration::from_millis(self.age().saturating_sub(heard)))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.vitals.lock().living -= 1;
    }
}

/// Asks a silent child for a sign of life, until it has ended.
async fn examine(life: std::sync::Weak<Life>, silence: Duration, outbox: Outbox) {
    let mut asked_at: Option<Instant> = None;
    // The queue is not kept open for this: the child's input closes when whoever speaks to it has gone.
    let outbox = outbox.downgrade();
    loop {
        tokio::time::sleep(silence / 4).await;
        let Some(life) = life.upgrade() else { return };
        let is_waiting = life.asked.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let Some(silent) = life.silent() else {
            asked_at = None;
            continue;
        };
        match asked_at.filter(|_| is_waiting) {
            Some(at) if at.elapsed() >= silence && silent >= silence => {
                warn!(server = life.vitals.name, "the server gives no sign of life: its process is ended");
                life.sick.cancel();
                return;
            }
            Some(_) => {}
            None if silent >= silence => {
                let id = own_id();
                let text = format!(r#"{{"jsonrpc":"2.0","id":{},"method":"ping"}}"#, json::quote(&id));
                let Some(permit) = Message::parse(text, Side::Client).ok().and_then(Permit::own) else { return };
                *life.asked.lock().unwrap_or_else(PoisonError::into_inner) = permit.wire_id().cloned();
                asked_at = Some(Instant::now());
                let Some(outbox) = outbox.upgrade() else { return };
                let _ = outbox.try_push(Message::for_line(permit.text()));
            }
            None => {}
        }
    }
}

/// Keeps the end of what a child says on standard error, and passes it on to ours where it is wanted there.
async fn listen(vitals: Arc<Vitals>, mut stderr: impl AsyncRead + Unpin) {
    let mut buffer = vec![0u8; 4 * 1024];
    let mut ours = tokio::io::stderr();
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        let said = &buffer[..length];
        {
            let mut state = vitals.lock();
            state.said.extend(said);
            let over = state.said.len().saturating_sub(KEPT_BYTES);
            state.said.drain(..over);
        }
        if vitals.echoes {
            let _ = ours.write_all(said).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Inbound;
    use crate::upstream::child::{ChildCommand, ChildLink};
    use tokio::sync::mpsc;

    #[test]
    fn who_never_speaks_is_tried_ever_more_seldom() {
        let vitals = Vitals::new("s", Duration::from_secs(30));
        assert_eq!(vitals.may_start(), Ok(()));
        let mut pauses = Vec::new();
        for _ in 0..9 {
            vitals.has_not_started();
            pauses.push(vitals.condition().paused.unwrap().as_secs_f64());
        }
        for (pause, expected) in pauses.iter().zip([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]) {
            assert!((expected * 0.7..=expected * 1.25).contains(pause), "{pauses:?}");
        }
        assert!(vitals.may_start().unwrap_err().starts_with("it cannot be started; it is tried again in "));
    }

    const HELLO: &str = r#"echo '{"jsonrpc":"2.0","method":"notifications/hello"}'; "#;
    /// So long nobody waits for what must not happen; and what must happen has time on a loaded machine.
    const WHILE: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    fn child(script: &str, silence: Duration) -> (ChildCommand, Arc<Vitals>) {
        let vitals = Vitals::new("s", silence);
        (ChildCommand::inheriting(&["sh".into(), "-c".into(), script.into()]).watched(&vitals), vitals)
    }

    async fn next(heard: &mut mpsc::Receiver<Inbound>) -> Inbound {
        tokio::time::timeout(PATIENCE, heard.recv()).await.expect("in time").expect("it speaks")
    }

    #[tokio::test]
    async fn a_child_that_gives_no_sign_of_life_is_given_up() {
        let (command, vitals) = child(&format!("{HELLO} exec sleep 1000"), Duration::from_millis(100));
        let (to_us, mut heard) = mpsc::channel(8);
        let _link = ChildLink::start(&command, to_us).unwrap();
        assert!(matches!(next(&mut heard).await, Inbound::Message(_)));
        assert!(matches!(next(&mut heard).await, Inbound::Closed));
        assert_eq!(vitals.condition().last_end.as_deref(), Some("it gave no sign of life, and was ended"));
        assert_eq!(vitals.may_start(), Ok(()), "it has worked: another may be started at once");
    }

    #[tokio::test]
    async fn one_that_gives_a_sign_is_left_alone_and_nobody_hears_of_it() {
        let answer = r#"exec sed -u 's/"method":"ping"/"result":{}/'"#;
        let (command, vitals) = child(&format!("{HELLO} {answer}"), Duration::from_millis(100));
        let (to_us, mut heard) = mpsc::channel(8);
        let _link = ChildLink::start(&command, to_us).unwrap();
        assert!(matches!(next(&mut heard).await, Inbound::Message(_)));
        assert!(tokio::time::timeout(WHILE, heard.recv()).await.is_err(), "neither the sign nor an end");
        assert_eq!((vitals.condition().living, vitals.condition().ends), (1, 0));
    }

    #[tokio::test]
    async fn what_a_child_says_on_standard_error_is_kept() {
        let (command, vitals) = child("echo 'no key, no work' >&2; exit 4", Duration::from_secs(30));
        let (to_us, mut heard) = mpsc::channel(8);
        let _link = ChildLink::start(&command, to_us).unwrap();
        assert!(matches!(next(&mut heard).await, Inbound::Closed));
        let kept = async {
            while vitals.condition().said != "no key, no work\n" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, kept).await.expect("it is kept");
        assert!(vitals.may_start().unwrap_err().starts_with("it has ended by itself; it is tried again in "));
    }

    #[tokio::test]
    async fn a_child_that_was_started_ahead_is_taken_and_another_started() {
        let (command, vitals) = child(&format!("{HELLO} exec cat"), Duration::from_secs(30));
        let command = command.ahead();
        let living = async |count: usize| {
            let there = async {
                while vitals.condition().living != count {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(PATIENCE, there).await.unwrap_or_else(|_| panic!("{count}: {:?}", vitals.condition()));
        };
        living(1).await;
        let (to_us, mut heard) = mpsc::channel(8);
        let link = ChildLink::start(&command, to_us).unwrap();
        assert!(matches!(next(&mut heard).await, Inbound::Message(_)), "what it has said before is not lost");
        living(2).await;
        assert_eq!(vitals.condition().starts, 2);
        link.shut_down(Duration::ZERO).await.unwrap();
        living(1).await;
        assert_eq!(vitals.condition().ends, 0, "it was told to");
        drop(command);
        living(0).await;
    }
}
