//! Looking things up for calls, beside the writer: what only asks must not hold up what is charged and recorded.

use crate::error::Fault;
use crate::reader::Reader;
use crate::{Store, StoreError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// So long a call waits for what it looks up, whatever the state does.
const DEADLINE: Duration = Duration::from_secs(2);
/// So many are looked up at a time.
const AT_A_TIME: usize = 4;

/// Readers for calls.
pub(crate) struct Lookups {
    room: Arc<Semaphore>,
    /// A connection to a server, for the next one: to make it takes longer than to ask.
    idle: Mutex<Option<Reader>>,
}

impl Lookups {
    pub fn new() -> Arc<Lookups> {
        Arc::new(Lookups { room: Arc::new(Semaphore::new(AT_A_TIME)), idle: Mutex::new(None) })
    }

    /// What `work` reads, on a thread that may wait.
    pub async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        store: &Store,
        work: impl Fn(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (lookups, of_store) = (self.clone(), store.clone());
        let look = async move {
            // Held until it is over, also when nobody waits for it any more.
            let room = self.room.clone().acquire_owned().await.ok()?;
            let read = tokio::task::spawn_blocking(move || {
                let _room = room;
                lookups.look(&of_store, work)
            });
            read.await.ok()
        };
        let looked = tokio::time::timeout(DEADLINE, look).await.ok().flatten();
        looked.unwrap_or_else(|| Err(Fault::Slow.at(&store.url().to_string())))
    }

    fn look<T>(&self, store: &Store, work: impl Fn(&Reader) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.idle().take();
        let (reader, found) = match idle.map(|reader| (work(&reader), reader)) {
            Some((Ok(found), reader)) => (reader, found),
            // The server may have hung up long ago.
            Some((Err(_), _)) | None => {
                let reader = store.reader()?;
                let found = work(&reader)?;
                (reader, found)
            }
        };
        if reader.is_of_server() {
            *self.idle() = Some(reader);
        }
        Ok(found)
    }

    /// Lets go of what is kept for the next one.
    pub fn close(&self) {
        self.idle().take();
    }

    fn idle(&self) -> MutexGuard<'_, Option<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
