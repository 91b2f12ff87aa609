//! The outgoing side of a stream of lines: a queue with a budget in bytes, and one task that writes it out.
//!
//! Lines that wait together are written together: a system call costs more than a small message.
//!
//! A conversation must never wait for one peer while the other waits for it: so that a slow reader does not stop us from
//! reading, what is written is queued. The budget keeps the queue bounded; when it is used up, the sender waits or is told.

use bytes::Bytes;
use std::io;
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

/// An outbox that does not keep its stream open.
pub(crate) struct WeakOutbox {
    queue: mpsc::WeakUnboundedSender<Bytes>,
    budget: Arc<Semaphore>,
}

impl WeakOutbox {
    /// The outbox, while somebody else has it.
    pub fn upgrade(&self) -> Option<Outbox> {
        Some(Outbox { queue: self.queue.upgrade()?, budget: self.budget.clone() })
    }
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
/// So many lines are written together at most, and so many bytes: what a pipe holds.
const TOGETHER: usize = 256;
const CHUNK_BYTES: usize = 64 * 1024;

impl Outbox {
    /// For whoever must not keep the stream open.
    pub fn downgrade(&self) -> WeakOutbox {
        WeakOutbox { queue: self.queue.downgrade(), budget: self.budget.clone() }
    }

    /// Starts a writer of `stream`; its handle ends when the outbox is dropped and all is written, or writing fails.
    pub fn start(mut stream: impl AsyncWrite + Unpin + Send + 'static) -> (Outbox, JoinHandle<()>) {
        let (queue, mut waiting) = mpsc::unbounded_channel::<Bytes>();
        let budget = Arc::new(Semaphore::new(BUDGET_BYTES));
        let returned = budget.clone();
        let writer = tokio::spawn(async move {
            let (mut lines, mut joined) = (Vec::new(), Vec::new());
            while waiting.recv_many(&mut lines, TOGETHER).await > 0 {
                let spent: usize = lines.iter().map(|line| cost(line) as usize).sum();
                let written = write(&mut stream, &mut lines, &mut joined).await;
                returned.add_permits(spent);
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

    /// Queues a line, without its end, waiting for room.
    pub async fn push(&self, bytes: Bytes) -> Result<(), OutboxError> {
        let permits = self.budget.acquire_many(cost(&bytes)).await.map_err(|_| OutboxError::Closed)?;
        permits.forget();
        self.queue.send(bytes).map_err(|_| OutboxError::Closed)
    }

    /// Queues a line, without its end, if there is room.
    pub fn try_push(&self, bytes: Bytes) -> Result<(), OutboxError> {
        match self.budget.try_acquire_many(cost(&bytes)) {
            Ok(permits) => permits.forget(),
            Err(TryAcquireError::NoPermits) => return Err(OutboxError::Full),
            Err(TryAcquireError::Closed) => return Err(OutboxError::Closed),
        }
        self.queue.send(bytes).map_err(|_| OutboxError::Closed)
    }
}

/// Writes lines, each with its end; several short ones at once. `joined` is empty before and after.
async fn write(stream: &mut (impl AsyncWrite + Unpin), lines: &mut Vec<Bytes>, joined: &mut Vec<u8>) -> io::Result<()> {
    for line in lines.drain(..) {
        if joined.len() + line.len() >= CHUNK_BYTES && !joined.is_empty() {
            stream.write_all(joined).await?;
            joined.clear();
        }
        if line.len() >= CHUNK_BYTES {
            stream.write_all(&line).await?;
        } else {
            joined.extend_from_slice(&line);
        }
        joined.push(b'\n');
    }
    let written = stream.write_all(joined).await;
    joined.clear();
    written
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
        let long = "x".repeat(3 * CHUNK_BYTES);
        let lines = ["hello", "world, this is longer than the pipe", "", &long, "end"];
        for line in lines {
            outbox.push(Bytes::copy_from_slice(line.as_bytes())).await.unwrap();
        }
        drop(outbox);
        let mut all = String::new();
        theirs.read_to_string(&mut all).await.unwrap();
        writer.await.unwrap();
        assert_eq!(all, lines.map(|line| line.to_owned() + "\n").concat());
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
