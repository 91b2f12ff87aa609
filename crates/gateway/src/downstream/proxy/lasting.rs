//! What of a legacy client's requests does not end with its connection, and what of a batch may end before the others.

use super::Session;
use futures_util::future::BoxFuture;
use mcp::Id;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// What goes on by itself when whoever waits for it has gone.
pub(super) struct Lasting<T: Send + 'static> {
    carried: Option<BoxFuture<'static, T>>,
    running: TaskTracker,
    /// It is waited for wherever it goes on.
    _counted: TaskTrackerToken,
}

impl<T: Send + 'static> Lasting<T> {
    /// `carried`, which `running` carries on.
    pub fn of(carried: BoxFuture<'static, T>, running: &TaskTracker) -> Lasting<T> {
        Lasting { carried: Some(carried), running: running.clone(), _counted: running.token() }
    }
}

impl<T: Send + 'static> Future for Lasting<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(carried) = &mut self.carried else { return Poll::Pending };
        let done = ready!(carried.as_mut().poll(context));
        self.carried = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for Lasting<T> {
    fn drop(&mut self) {
        // What has panicked does not go on.
        let left = self.carried.take().filter(|_| !std::thread::panicking());
        if let (Some(left), Ok(runtime)) = (left, Handle::try_current()) {
            self.running.spawn_on(left, &runtime);
        }
    }
}

/// A request that came in a batch, for as long as it is under way.
pub(super) struct InBatch {
    session: Arc<Session>,
    id: Id,
    cancelled: CancellationToken,
}

impl InBatch {
    /// `None` where a cancellation could be meant for another: there is no session, or the id is in use.
    pub fn note(session: &Arc<Session>, id: &Id) -> Option<InBatch> {
        let (session, id, cancelled) = (session.clone(), id.clone(), CancellationToken::new());
        {
            let mut state = session.lock();
            if session.id.is_none() || state.in_batches.contains_key(&id) {
                return None;
            }
            state.in_batches.insert(id.clone(), cancelled.clone());
        }
        Some(InBatch { session, id, cancelled })
    }

    /// Cancelled when its client gives it up.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }
}

impl Drop for InBatch {
    fn drop(&mut self) {
        self.session.lock().in_batches.remove(&self.id);
    }
}
