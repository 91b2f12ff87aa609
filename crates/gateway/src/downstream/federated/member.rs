//! One server of a federation, as it has shown itself to whoever has asked it.

use crate::downstream::sessions::Sessions;
use crate::upstream::is_for_caller;
use mcp::federation::{Greeting, LeftOut};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tracing::{info, warn};

/// Past so many, what is left out of lists is not told of any more.
const MAX_TOLD: usize = 1_000;

/// How a server stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has asked it anything yet.
    Unknown,
    /// It has answered the last time.
    Well,
    /// It was waited for in vain, but may still answer.
    Slow,
    /// It cannot be reached; why.
    Away(String),
}

pub(super) struct Member {
    pub name: Arc<str>,
    pub sessions: Arc<Sessions>,
    state: Mutex<State>,
    /// Whether lists have been given without it since it last came.
    missed: AtomicBool,
    /// How often it has come after lists had been given without it.
    comings: watch::Sender<u64>,
}

struct State {
    known: Standing,
    /// What it has last answered to `initialize` or `server/discover`, whoever has asked.
    greeting: Option<Greeting>,
    /// What has been said of what is left out.
    told: HashSet<(String, &'static str)>,
}

impl Member {
    pub fn new(name: &str, sessions: Arc<Sessions>) -> Arc<Member> {
        let state = Mutex::new(State { known: Standing::Unknown, greeting: None, told: HashSet::new() });
        Arc::new(Member { name: name.into(), sessions, state, missed: AtomicBool::new(false), comings: watch::Sender::new(0) })
    }

    pub fn standing(&self) -> Standing {
        self.lock().known.clone()
    }

    pub fn is_slow(&self) -> bool {
        self.lock().known == Standing::Slow
    }

    /// What it has last said of itself.
    pub fn greeting(&self) -> Option<Greeting> {
        self.lock().greeting.clone()
    }

    /// Whether it may have what a capability stands for: it has said so, or not said anything yet.
    pub fn may_have(&self, capability: &str) -> bool {
        self.lock().greeting.as_ref().is_none_or(|greeting| greeting.has(&[capability]))
    }

    pub fn has_greeted(&self, greeting: Greeting) {
        self.lock().greeting = Some(greeting);
    }

    /// It has answered.
    pub fn is_well(&self) {
        let before = std::mem::replace(&mut self.lock().known, Standing::Well);
        if matches!(before, Standing::Slow | Standing::Away(_)) {
            info!(server = %self.name, "the server answers again");
        }
        if self.missed.swap(false, Ordering::Relaxed) {
            self.has_come();
        }
    }

    /// It was waited for in vain.
    pub fn let_wait(&self) {
        let mut state = self.lock();
        if matches!(state.known, Standing::Unknown | Standing::Well) {
            warn!(server = %self.name, "the server does not answer in time: lists are given without it");
            state.known = Standing::Slow;
        }
        self.missed.store(true, Ordering::Relaxed);
    }

    /// It cannot be reached.
    pub fn is_away(&self, why: &str) {
        if is_for_caller(why) {
            // That one caller has yet to authorise it says nothing of the server, and is for nobody else to read.
            return self.missed.store(true, Ordering::Relaxed);
        }
        let mut state = self.lock();
        if !matches!(state.known, Standing::Away(_)) {
            warn!(server = %self.name, why, "the server cannot be reached: lists are given without it");
        }
        state.known = Standing::Away(why.to_owned());
        self.missed.store(true, Ordering::Relaxed);
    }

    /// Whoever listens is told that its lists have changed.
    pub fn has_come(&self) {
        self.comings.send_modify(|comings| *comings += 1);
    }

    pub fn comings(&self) -> watch::Receiver<u64> {
        self.comings.subscribe()
    }

    /// Tells the operator once of what is not offered.
    pub fn report(&self, left_out: &LeftOut) {
        let mut state = self.lock();
        if state.told.len() < MAX_TOLD && state.told.insert((left_out.name.clone(), left_out.why)) {
            warn!(server = %self.name, name = left_out.name, why = left_out.why, "left out of the list of all servers");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
