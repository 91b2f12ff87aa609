//! Bodies, collected whole, and what all of them together may hold of memory.
//!
//! Each body has a limit of its own, but ten thousand peers may each keep that much waiting. So whatever is beyond a small free
//! part of a body is taken out of a budget that all share, and given back when the last view of the body is gone. Who asks for
//! more than there is left is refused, not kept waiting: those that hold a part would wait for each other. The free part keeps
//! ordinary messages going meanwhile.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Sleep;

/// Bytes that many bodies share.
pub(crate) struct Budget(Semaphore);

/// What clients send: the largest message 64 times.
pub(crate) static REQUESTS: Budget = Budget::of(256 * 1024 * 1024);
/// What servers answer: the largest reply eight times.
pub(crate) static REPLIES: Budget = Budget::of(512 * 1024 * 1024);
/// What waits for clients that may come back for it: the most of one session eight times.
pub(crate) static UNREAD: Budget = Budget::of(512 * 1024 * 1024);

/// What every body may have for nothing.
const FREE: usize = 64 * 1024;
/// Taken out at once, so that a large body does not ask for every frame.
const STEP: usize = 256 * 1024;
/// So much of what a long body announces is set aside at once, which takes address space and no memory.
const RESERVED: usize = 4 * 1024 * 1024;

/// Why a body could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uncollected {
    /// It is longer than a body may be.
    TooLong,
    /// All bodies together are.
    NoRoom,
    /// It ended before its end, or was no body.
    Broken,
    /// Nothing came for too long.
    Silent,
}

/// What a future gives, unless it takes longer than `patience`. Most that are asked for are there already: no clock is set before
/// something has to be waited for.
pub(crate) async fn within<T>(patience: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut clock = pin!(None::<Sleep>);
    poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        if clock.is_none() {
            clock.set(Some(tokio::time::sleep(patience)));
        }
        match clock.as_mut().as_pin_mut() {
            Some(clock) => clock.poll(context).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

impl Budget {
    pub const fn of(bytes: usize) -> Budget {
        Budget(Semaphore::const_new(bytes))
    }

    /// Reads a body of at most `max` bytes whose sender is never silent for longer than `patience`.
    pub async fn collect<B>(&'static self, body: B, max: usize, patience: Duration) -> Result<Bytes, Uncollected>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut body = body;
        let mut first = Bytes::new();
        let mut whole: Vec<u8> = Vec::new();
        let mut length = 0;
        let mut held: Option<SemaphorePermit<'static>> = None;
        while let Some(frame) = within(patience, body.frame()).await.ok_or(Uncollected::Silent)? {
            let Ok(data) = frame.map_err(|_| Uncollected::Broken)?.into_data() else { continue };
            length += data.len();
            if length > max {
                return Err(Uncollected::TooLong);
            }
            let covered = FREE + held.as_ref().map_or(0, SemaphorePermit::num_permits);
            if length > covered {
                let more = u32::try_from((length - covered).max(STEP)).map_err(|_| Uncollected::TooLong)?;
                let more = self.0.try_acquire_many(more).map_err(|_| Uncollected::NoRoom)?;
                match &mut held {
                    Some(held) => held.merge(more),
                    None => held = Some(more),
                }
            }
            match (first.is_empty(), whole.is_empty()) {
                // Most bodies are one frame, and need not be copied.
                (true, true) => first = data,
                (false, true) => {
                    // What is announced is not believed any further: nothing of it is used before it is there.
                    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX).saturating_add(length);
                    whole.reserve_exact(announced.min(RESERVED));
                    whole.extend_from_slice(&first);
                    whole.extend_from_slice(&data);
                }
                (_, false) => whole.extend_from_slice(&data),
            }
        }
        if whole.is_empty() {
            // What a frame holds on to is the reader's own buffer, which is small.
            return Ok(first);
        }
        drop(first);
        Ok(match held {
            None => Bytes::from(whole),
            Some(held) => Bytes::from_owner(Held { whole, _held: held }),
        })
    }
}

/// What one reader has taken out of a budget for something that grows and shrinks.
pub(crate) struct Share {
    budget: &'static Budget,
    held: Option<SemaphorePermit<'static>>,
}

impl Share {
    pub fn of(budget: &'static Budget) -> Share {
        Share { budget, held: None }
    }

    /// Takes out what `bytes` need beyond the free part, or gives all back where they need nothing.
    ///
    /// # Errors
    /// [`Uncollected::NoRoom`] when there is not so much left.
    pub fn cover(&mut self, bytes: usize) -> Result<(), Uncollected> {
        if bytes <= FREE {
            self.held = None;
            return Ok(());
        }
        let covered = FREE + self.held.as_ref().map_or(0, SemaphorePermit::num_permits);
        if bytes > covered {
            let more = u32::try_from((bytes - covered).max(STEP)).map_err(|_| Uncollected::TooLong)?;
            let more = self.budget.0.try_acquire_many(more).map_err(|_| Uncollected::NoRoom)?;
            match &mut self.held {
                Some(held) => held.merge(more),
                None => self.held = Some(more),
            }
        }
        Ok(())
    }
}

/// A body, and what it has taken out.
struct Held {
    whole: Vec<u8>,
    _held: SemaphorePermit<'static>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use std::convert::Infallible;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn body(frames: usize, each: usize) -> impl Body<Data = Bytes> + Unpin {
        let frames = (0..frames).map(move |_| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; each]))));
        StreamBody::new(futures_util::stream::iter(frames))
    }

    #[tokio::test]
    async fn what_is_held_is_bounded_and_given_back() {
        static SMALL: Budget = Budget::of(2 * 1024 * 1024);
        let megabyte = || SMALL.collect(body(16, 64 * 1024), usize::MAX, PATIENCE);
        let (one, two) = (megabyte().await.unwrap(), megabyte().await.unwrap());
        assert_eq!(one.len(), 1024 * 1024);
        assert_eq!(megabyte().await, Err(Uncollected::NoRoom));
        let part = one.slice(..10);
        drop(one);
        assert_eq!(megabyte().await, Err(Uncollected::NoRoom), "a view is left");
        assert_eq!(SMALL.collect(body(8, 1024), usize::MAX, PATIENCE).await.unwrap().len(), 8 * 1024, "small ones pass");
        drop(part);
        assert_eq!(megabyte().await.unwrap().len(), 1024 * 1024);
        drop(two);
    }

    #[test]
    fn what_grows_takes_out_more_and_gives_all_back() {
        static SMALL: Budget = Budget::of(1024 * 1024);
        let (mut one, mut other) = (Share::of(&SMALL), Share::of(&SMALL));
        one.cover(FREE + 1024 * 1024).unwrap();
        assert_eq!(other.cover(FREE + 1), Err(Uncollected::NoRoom));
        other.cover(FREE).unwrap();
        one.cover(10).unwrap();
        other.cover(FREE + 1).unwrap();
    }

    #[tokio::test]
    async fn a_body_has_a_limit_of_its_own() {
        assert_eq!(REQUESTS.collect(body(4, 1024), 4096, PATIENCE).await.unwrap().len(), 4096);
        assert_eq!(REQUESTS.collect(body(5, 1024), 4096, PATIENCE).await, Err(Uncollected::TooLong));
        assert!(REQUESTS.collect(body(0, 0), 4096, PATIENCE).await.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_falls_silent_is_given_up() {
        use futures_util::StreamExt;
        let begun = futures_util::stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"{")))]);
        let silent = StreamBody::new(begun.chain(futures_util::stream::pending()));
        assert_eq!(REQUESTS.collect(silent, 4096, PATIENCE).await, Err(Uncollected::Silent));
    }
}
