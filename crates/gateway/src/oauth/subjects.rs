//! The tokens that callers have shown, for as long as they may be exchanged for others.

use crate::secret::Secret;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// By principal: what was shown last, and until when it is good, in milliseconds since the Unix epoch.
#[derive(Default)]
pub(crate) struct Subjects {
    /// Whether anybody exchanges any.
    are_wanted: AtomicBool,
    shown: Mutex<HashMap<Box<str>, (Secret, i64)>>,
}

/// Whose turn it is beyond this comes when somebody else's token has expired.
const MAX_SUBJECTS: usize = 10_000;

impl Subjects {
    /// Says whether any server is called by exchanged tokens; where none is, nothing is kept.
    pub fn want(&self, are_wanted: bool) {
        self.are_wanted.store(are_wanted, Ordering::Relaxed);
        if !are_wanted {
            self.lock().clear();
        }
    }

    /// A principal has shown a token, and it was believed. `principal` must be its subject: else it could be another's.
    pub fn note(&self, principal: &str, token: &str, until: i64, now: i64) {
        if !self.are_wanted.load(Ordering::Relaxed) {
            return;
        }
        let mut shown = self.lock();
        if shown.get(principal).is_some_and(|(known, _)| known.expose() == token) {
            return;
        }
        if shown.len() >= MAX_SUBJECTS {
            shown.retain(|_, (_, until)| now < *until);
        }
        if shown.len() < MAX_SUBJECTS || shown.contains_key(principal) {
            shown.insert(principal.into(), (Secret::new(token), until));
        }
    }

    /// What a principal has shown last, and until when it is good, if it still is.
    pub fn of(&self, principal: &str, now: i64) -> Option<(Secret, i64)> {
        self.lock().get(principal).filter(|(_, until)| now < *until).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, (Secret, i64)>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_last_is_exchanged_until_it_ends() {
        let subjects = Subjects::default();
        subjects.note("ada", "unwanted", 10, 1);
        assert!(subjects.of("ada", 1).is_none(), "where nobody exchanges any, none is kept");
        subjects.want(true);
        subjects.note("ada", "one", 10, 1);
        subjects.note("ada", "two", 20, 2);
        let (token, until) = subjects.of("ada", 19).unwrap();
        assert_eq!((token.expose(), until), ("two", 20));
        assert!(subjects.of("ada", 20).is_none() && subjects.of("eve", 1).is_none());
        subjects.want(false);
        assert!(subjects.of("ada", 2).is_none());
    }
}
