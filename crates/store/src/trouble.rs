//! Why state cannot be used just now: found by the writer or by a caller, seen by all.

use crate::StoreError;
use crate::error::Fault;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Why state cannot be used just now, if it cannot.
pub(crate) struct Trouble {
    pub place: String,
    last: Mutex<Option<(Instant, StoreError)>>,
}

impl Trouble {
    pub fn new(place: String) -> Trouble {
        Trouble { place, last: Mutex::new(None) }
    }

    /// Keeps what went wrong, and says so once.
    pub fn set(&self, fault: Fault) -> StoreError {
        let error = fault.at(&self.place);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none() {
            tracing::error!(error = %error, "state cannot be used; calls are denied");
        }
        *last = Some((Instant::now(), error.clone()));
        error
    }

    /// Everything went well.
    pub fn clear(&self) {
        if self.last.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!(state = %self.place, "state can be used again");
        }
    }

    /// When something last went wrong, and what.
    pub fn get(&self) -> Option<(Instant, StoreError)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
