//! The tokens that callers have shown, for as long as they may be exchanged for others.

use crate::enforcer::Caller;
use crate::secret::Secret;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// By grant and principal: what was shown last, and until when it is good, in milliseconds since the Unix epoch. A token that
/// leads to one grant is not exchanged for who calls by another.
#[derive(Default)]
pub(crate) struct Subjects {
    /// Whether anybody exchanges any.
    are_wanted: AtomicBool,
    shown: Mutex<HashMap<Shower, (Secret, i64)>>,
}

/// A grant, and the principal that has shown a token for it.
type Shower = (String, String);

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
    pub fn note(&self, grant: &str, principal: &str, token: &str, until: i64, now: i64) {
        if !self.are_wanted.load(Ordering::Relaxed) {
            return;
        }
        let shower = (grant.to_owned(), principal.to_owned());
        let mut shown = self.lock();
        if shown.get(&shower).is_some_and(|(known, _)| known.expose() == token) {
            return;
        }
        if shown.len() >= MAX_SUBJECTS {
            shown.retain(|_, (_, until)| now < *until);
        }
        if shown.len() < MAX_SUBJECTS || shown.contains_key(&shower) {
            shown.insert(shower, (Secret::new(token), until));
        }
    }

    /// What `caller` has shown last, and until when it is good, if it still is: nothing, where it is not the one who has.
    pub fn of(&self, caller: &Caller, now: i64) -> Option<(Secret, i64)> {
        if !caller.is_subject {
            return None;
        }
        self.lock().get(&(caller.grant.clone(), caller.principal.clone())).filter(|(_, until)| now < *until).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Shower, (Secret, i64)>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_last_is_exchanged_until_it_ends() {
        let (subjects, ada) = (Subjects::default(), caller("day", "ada", true));
        subjects.note("day", "ada", "unwanted", 10, 1);
        assert!(subjects.of(&ada, 1).is_none(), "where nobody exchanges any, none is kept");
        subjects.want(true);
        subjects.note("day", "ada", "one", 10, 1);
        subjects.note("day", "ada", "two", 20, 2);
        let (token, until) = subjects.of(&ada, 19).unwrap();
        assert_eq!((token.expose(), until), ("two", 20));
        assert!(subjects.of(&ada, 20).is_none() && subjects.of(&caller("day", "eve", true), 1).is_none());
        subjects.want(false);
        assert!(subjects.of(&ada, 2).is_none());
    }

    #[test]
    fn what_was_shown_for_one_grant_is_nobody_elses_of_that_name() {
        let subjects = Subjects::default();
        subjects.want(true);
        subjects.note("day", "ada", "token", 10, 1);
        assert!(subjects.of(&caller("day", "ada", true), 2).is_some());
        assert!(subjects.of(&caller("day", "ada", false), 2).is_none(), "who has shown the grant's own token");
        assert!(subjects.of(&caller("night", "ada", true), 2).is_none(), "who calls by another grant");
    }

    fn caller(grant: &str, principal: &str, is_subject: bool) -> Caller {
        Caller { principal: principal.into(), grant: grant.into(), session: None, is_subject }
    }
}
