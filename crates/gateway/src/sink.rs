//! Where what is said to a client goes: lines, one HTTP exchange, the one stream of a 2024-11-05 client, or one place in a
//! batch.

use crate::outbox::{Outbox, OutboxError};
use crate::refusal::status_of;
use bytes::Bytes;
use mcp::{Malformed, Message};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tracing::warn;

/// What one HTTP exchange is given.
#[derive(Debug)]
pub(crate) enum Down {
    /// A message before the last.
    Event(Bytes),
    /// The answer, and the status under which it goes if nothing went before.
    Last { body: Bytes, status: u16 },
    /// There is nothing to answer.
    Accepted,
}

/// How many messages may wait for a slow HTTP client before its exchange is given up: others must not wait for it.
pub(crate) const MAX_WAITING: usize = 1_024;

/// Where an answer goes.
#[derive(Clone)]
pub(crate) enum Sink {
    /// A stdio client: everything goes to its one stream.
    Lines(Outbox),
    /// A request over HTTP.
    Exchange(mpsc::Sender<Down>),
    /// A client of HTTP+SSE (2024-11-05): everything goes to its one stream of events.
    Stream(mpsc::Sender<Bytes>),
    /// One item of a batch. Where all its sinks are dropped without a word, there is nothing to answer.
    Item(Arc<Item>),
    /// Another sink, whose owner looks at what goes there.
    Relay(Arc<dyn Relay>),
}

/// Looks at what is said to a client, on its way: at once, so that it stays in its order.
pub(crate) trait Relay: Send + Sync {
    /// What of a message before the answer goes on, and where.
    fn event(&self, message: Bytes) -> Option<(Sink, Bytes)>;

    /// The exchange is over; `body` is the answer, where there is one. Gives where it goes.
    fn over(&self, body: Option<&Bytes>) -> Option<Sink>;

    /// Whether nobody listens any more.
    fn is_closed(&self) -> bool;

    /// Whether it is one exchange over HTTP, which is always answered.
    fn is_exchange(&self) -> bool;
}

impl Sink {
    /// Says something that is not the answer.
    pub async fn event(&self, message: Bytes) {
        match self {
            Sink::Lines(outbox) => line(outbox, &message).await,
            Sink::Exchange(exchange) => give(exchange, Down::Event(message)),
            Sink::Stream(stream) => event(stream, message).await,
            Sink::Item(item) => Box::pin(item.batch.whole.event(message)).await,
            Sink::Relay(relay) => {
                if let Some((sink, message)) = relay.event(message) {
                    Box::pin(sink.event(message)).await;
                }
            }
        }
    }

    /// Gives the answer.
    pub async fn last(&self, body: Bytes, status: u16) {
        match self {
            Sink::Lines(outbox) => line(outbox, &body).await,
            Sink::Exchange(exchange) => give(exchange, Down::Last { body, status }),
            Sink::Stream(stream) => event(stream, body).await,
            Sink::Item(item) => Box::pin(item.answer(Some(body))).await,
            Sink::Relay(relay) => {
                if let Some(sink) = relay.over(Some(&body)) {
                    Box::pin(sink.last(body, status)).await;
                }
            }
        }
    }

    /// Gives the answer at once; gives it back where somebody has to be waited for.
    pub fn last_now(&self, body: Bytes, status: u16) -> Result<(), Bytes> {
        match self {
            Sink::Lines(outbox) => match outbox.try_push(Message::for_line(&body)) {
                // A client that has closed its input is about to close its output too: that ends the conversation.
                Ok(()) | Err(OutboxError::Closed) => Ok(()),
                Err(OutboxError::Full) => Err(body),
            },
            Sink::Exchange(exchange) => {
                give(exchange, Down::Last { body, status });
                Ok(())
            }
            Sink::Stream(_) | Sink::Item(_) | Sink::Relay(_) => Err(body),
        }
    }

    /// Says that there will be no answer.
    pub async fn accepted(&self) {
        match self {
            Sink::Lines(_) | Sink::Stream(_) => {}
            Sink::Exchange(exchange) => give(exchange, Down::Accepted),
            Sink::Item(item) => Box::pin(item.answer(None)).await,
            Sink::Relay(relay) => {
                if let Some(sink) = relay.over(None) {
                    Box::pin(sink.accepted()).await;
                }
            }
        }
    }

    /// Says why a message was refused: over HTTP always, elsewhere only if somebody waits for an answer.
    pub async fn refused(&self, malformed: &Malformed) {
        let reply = if self.is_exchange() { Some(malformed.error()) } else { malformed.reply() };
        match reply {
            Some(reply) => self.last(reply, status_of(malformed)).await,
            None => self.accepted().await,
        }
    }

    /// Whether nobody listens any more.
    pub fn is_closed(&self) -> bool {
        match self {
            Sink::Lines(_) => false,
            Sink::Exchange(exchange) => exchange.is_closed(),
            Sink::Stream(stream) => stream.is_closed(),
            Sink::Item(item) => item.batch.whole.is_closed(),
            Sink::Relay(relay) => relay.is_closed(),
        }
    }

    /// Whether it is one exchange over HTTP.
    pub fn is_exchange(&self) -> bool {
        match self {
            Sink::Exchange(_) => true,
            Sink::Relay(relay) => relay.is_exchange(),
            Sink::Lines(_) | Sink::Stream(_) | Sink::Item(_) => false,
        }
    }
}

fn give(exchange: &mpsc::Sender<Down>, down: Down) {
    if let Err(mpsc::error::TrySendError::Full(_)) = exchange.try_send(down) {
        warn!("a client does not read what it is sent; a message to it is dropped");
    }
}

async fn event(stream: &mpsc::Sender<Bytes>, message: Bytes) {
    // Waits for a client that reads slowly: this is its only stream, and only its own conversation waits. One that has gone
    // has ended the conversation.
    let _ = stream.send(message).await;
}

async fn line(outbox: &Outbox, message: &Bytes) {
    // A client that has closed its input is about to close its output too: that ends the conversation.
    let _ = outbox.push(Message::for_line(message)).await;
}

/// The sinks for a batch of 2025-03-26 of so many items: they take their paths alone, their answers go to `whole` together.
pub(crate) fn batch(whole: Sink, items: usize) -> impl Iterator<Item = Sink> {
    let batch = Arc::new(Batch { whole, state: Mutex::new(BatchState { waiting: items, answers: Vec::new() }) });
    (0..items).map(move |_| Sink::Item(Arc::new(Item { batch: batch.clone(), over: AtomicBool::new(false) })))
}

/// One item of a batch.
pub(crate) struct Item {
    batch: Arc<Batch>,
    /// Whether it was answered, or said that it will not be.
    over: AtomicBool,
}

struct Batch {
    whole: Sink,
    state: Mutex<BatchState>,
}

struct BatchState {
    waiting: usize,
    answers: Vec<Bytes>,
}

impl Item {
    async fn answer(&self, body: Option<Bytes>) {
        if !self.over.swap(true, Ordering::Relaxed) {
            self.batch.answer(body).await;
        }
    }
}

impl Drop for Item {
    /// What was cancelled, or lost its way, must not keep the answers of the others.
    fn drop(&mut self) {
        if self.over.swap(true, Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let batch = self.batch.clone();
        runtime.spawn(async move { batch.answer(None).await });
    }
}

impl Batch {
    async fn answer(&self, body: Option<Bytes>) {
        let finished = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.answers.extend(body);
            state.waiting = state.waiting.saturating_sub(1);
            (state.waiting == 0).then(|| std::mem::take(&mut state.answers))
        };
        let Some(answers) = finished else { return };
        if answers.is_empty() {
            return self.whole.accepted().await;
        }
        let mut body = Vec::with_capacity(answers.iter().map(|answer| answer.len() + 1).sum::<usize>() + 1);
        for (i, answer) in answers.iter().enumerate() {
            body.push(if i == 0 { b'[' } else { b',' });
            body.extend_from_slice(answer);
        }
        body.push(b']');
        self.whole.last(Bytes::from(body), 200).await;
    }
}
