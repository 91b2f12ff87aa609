//! A byte stream's outgoing side: a queue with a budget in bytes, and one task that writes it out.
//!
//! A conversation must never wait for one peer while the other waits for it: so that a slow reader does not stop us from
//! reading, what is written is queued. The budget keeps the queue bounded; when it is used up, the sender waits or is told.

use bytes::Bytes;
use std::sync::Arc;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, TryAcquireError, mpsc};
use tokio::task::JoinHandle;

/// The sending end. Dropping it ends the writer once the queue is written out, which closes the stream.
#[derive(Clone)]
pub(crate) struct Outbox {
    queue: mpsc::UnboundedSender<Bytes>,
    budget: Arc<Semaphore>,
}

/// Why something could not be queued.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OutboxError {
    /// The other side has closed.
    Closed,
    /// The other side does not read: the budget is used up.
    Full,
}

/// What may wait to be written: the largest reply, once.
const BUDGET_BYTES: usize = 64 * 1024 * 1024;

impl Outbox {
    /// Starts a writer of `stream`; its handle ends when the outbox is dropped and all is written, or writing fails.
    pub fn start(mut stream: impl AsyncWrite + Unpin + Send + 'static) -> (Outbox, JoinHandle<()>) {
        let (queue, mut waiting) = mpsc::unbounded_channel::<Bytes>();
        let budget = Arc::new(Semaphore::new(BUDGET_BYTES));
        let returned = budget.clone();
        let writer = tokio::spawn(async move {
            while let Some(bytes) = waiting.recv().await {
                let written = stream.write_all(&bytes).await;
                returned.add_permits(cost(&bytes) as usize);
                let flushed = if waiting.is_empty() { stream.flush().await } else { Ok(()) };
                if written.and(flushed).is_err() {
                    break;
                }
            }
            // Whoever waits for room would wait for ever.
            returned.close();
            let _ = stream.shutdown().await;
        });
        (Outbox { queue, budget }, writer)
    }

    /// Queues `bytes`, waiting for room.
    pub async fn push(&self, bytes: Bytes) -> Result<(), OutboxError> {
        let permits = self.budget.acquire_many(cost(&bytes)).await.map_err(|_| OutboxError::Closed)?;
        permits.forget();
        self.queue.send(bytes).map_err(|_| OutboxError::Closed)
    }

    /// Queues `bytes` if there is room.
    pub fn try_push(&self, bytes: Bytes) -> Result<(), OutboxError> {
        match self.budget.try_acquire_many(cost(&bytes)) {
            Ok(permits) => permits.forget(),
            Err(TryAcquireError::NoPermits) => return Err(OutboxError::Full),
            Err(TryAcquireError::Closed) => return Err(OutboxError::Closed),
        }
        self.queue.send(bytes).map_err(|_| OutboxError::Closed)
    }
}

fn cost(bytes: &Bytes) -> u32 {
    u32::try_from(bytes.len().min(BUDGET_BYTES)).expect("the budget fits 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn what_is_pushed_is_written_in_order_and_dropping_closes() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let (outbox, writer) = Outbox::start(ours);
        outbox.push(Bytes::from_static(b"hello ")).await.unwrap();
        outbox.try_push(Bytes::from_static(b"world, this is longer than the pipe")).unwrap();
        drop(outbox);
        let mut all = String::new();
        theirs.read_to_string(&mut all).await.unwrap();
        writer.await.unwrap();
        assert_eq!(all, "hello world, this is longer than the pipe");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_found_out() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let (outbox, _writer) = Outbox::start(ours);
        let large = Bytes::from(vec![b'x'; BUDGET_BYTES]);
        outbox.try_push(large.clone()).unwrap();
        assert_eq!(outbox.try_push(large), Err(OutboxError::Full));
    }
}
