//! Between the thread that uses the database and its callers: what both see, and what it is told.

use crate::StoreError;
use crate::error::Fault;
use crate::instances::Instance;
use crate::job::Job;
use crate::key::DigestKey;
use crate::trouble::Trouble;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the thread and its callers both see.
pub(crate) struct Shared {
    pub trouble: Arc<Trouble>,
    pub digests: Mutex<Option<DigestKey>>,
    pub instance: Mutex<Option<Instance>>,
}

impl Shared {
    /// A lock is held only to copy a value in or out, so a panic elsewhere cannot have left it half-changed.
    pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is answered after the end.
    pub fn gone(&self) -> StoreError {
        Fault::State("it has been closed".to_owned()).at(&self.trouble.place)
    }
}

/// What the thread is told.
pub(crate) enum Message {
    Job(Box<dyn Job>),
    /// Something was appended to the journal.
    Appended,
    Stop(Box<dyn FnOnce() + Send>),
}
