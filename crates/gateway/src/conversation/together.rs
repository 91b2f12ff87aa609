//! What comes in together is charged and recorded together: one commit for all that one wake-up brings.

use super::{Admitted, Conversation, Request};
use crate::gate::Begun;
use crate::sink::Sink;
use bytes::Bytes;
use mcp::Message;
use std::future::ready;
use store::{Entered, Entry, StoreError};

/// So many are entered together: those that a pipe holds come in one commit, and nobody waits for more than that.
const MOST_TOGETHER: usize = 128;

/// What is entered into the record together, and what is left to do for each then.
#[derive(Default)]
pub(super) struct Together {
    entries: Vec<Entry>,
    /// With whether there is an entry of it.
    rest: Vec<(bool, Rest)>,
}

/// What is left to do once an entry is made.
#[expect(clippy::large_enum_variant, reason = "most are calls, and each is moved once")]
pub(super) enum Rest {
    Call { message: Message, begun: Begun, sink: Sink, exchange: u64, request: Request },
    Reply { sink: Sink, body: Bytes, status: u16 },
}

impl Conversation {
    /// Takes what was judged here and now, as most calls are. Those that came together are charged and recorded together.
    pub(super) fn put(&mut self, entry: Option<Entry>, rest: Rest) {
        self.together.rest.push((entry.is_some(), rest));
        self.together.entries.extend(entry);
        if self.together.rest.len() >= MOST_TOGETHER {
            self.enter_together();
        }
    }

    /// Makes one commit of all that has come in, and goes on with each. Where the store or what came before has to be waited
    /// for, each waits for itself.
    pub(super) fn enter_together(&mut self) {
        if self.together.rest.is_empty() {
            return;
        }
        let Together { entries, rest } = std::mem::take(&mut self.together);
        // What came before and is not entered yet is recorded before.
        let entered = match self.admissions.is_empty() {
            true => self.gate.enforcer.store().enter(entries),
            false => Err(entries),
        };
        match entered {
            Ok(entered) => {
                let mut entered = entered.into_iter();
                for (has_entry, rest) in rest {
                    let entered = if has_entry { entered.next() } else { None };
                    self.go_on(rest, entered);
                }
            }
            Err(entries) => {
                let mut entries = entries.into_iter();
                for (has_entry, rest) in rest {
                    match if has_entry { entries.next() } else { None } {
                        Some(entry) => self.enter_later(entry, rest),
                        None => self.go_on(rest, None),
                    }
                }
            }
        }
    }

    fn go_on(&mut self, rest: Rest, entered: Option<Result<Entered, StoreError>>) {
        match rest {
            Rest::Call { message, begun, sink, exchange, request } => {
                let judged = self.gate.conclude(message, begun, entered);
                let admitted = Admitted { judged, sink, exchange, request: Some(request) };
                match self.admissions.is_empty() {
                    true => self.forward(admitted),
                    false => self.admissions.push_back(Box::pin(ready(admitted))),
                }
            }
            Rest::Reply { sink, body, status } => {
                self.gate.enforcer.ended(entered.and_then(Result::err));
                self.give(sink, body, status);
            }
        }
    }

    fn enter_later(&mut self, entry: Entry, rest: Rest) {
        let gate = self.gate.clone();
        match rest {
            Rest::Call { message, begun, sink, exchange, request } => self.await_judgement(Box::pin(async move {
                let entered = gate.enforcer.store().enter_alone(entry).await;
                let judged = gate.conclude(message, begun, Some(entered));
                Admitted { judged, sink, exchange, request: Some(request) }
            })),
            Rest::Reply { sink, body, status } => self.let_go(async move {
                let entered = gate.enforcer.store().enter_alone(entry).await;
                gate.enforcer.ended(entered.err());
                sink.last(body, status).await;
            }),
        }
    }
}
