//! The tokens that callers have shown, for as long as they may be exchanged for others.

use crate::enforcer::Caller;
use crate::secret::Secret;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// By grant, principal and what is said of that: what was shown last, and until when it is good, in milliseconds since the Unix
/// epoch. A token that leads to one grant is not exchanged for who calls by another, nor one that says more for who has shown one
/// that says less.
#[derive(Default)]
pub(crate) struct Subjects {
    /// Whether anybody exchanges any.
    are_wanted: AtomicBool,
    shown: Mutex<HashMap<Shower, (Secret, i64)>>,
}

/// A grant, the principal that has shown a token for it, and a digest of what that says.
type Shower = (String, String, [u8; 32]);

/// What is shown where nobody exchanges it: one session may go on with tokens that say something else then.
const ANY: [u8; 32] = [0; 32];

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

    /// A principal has shown a token that is good until a time, and it was believed; gives the authority by which it calls with
    /// that, where exchanges differ by it. `principal` must be its subject: else it could be another's.
    pub fn note(
        &self,
        grant: &str,
        principal: &str,
        (token, until): (&str, i64),
        authority: impl FnOnce() -> [u8; 32],
        now: i64,
    ) -> [u8; 32] {
        if !self.are_wanted.load(Ordering::Relaxed) {
            return ANY;
        }
        let authority = authority();
        let shower = (grant.to_owned(), principal.to_owned(), authority);
        let mut shown = self.lock();
        if shown.get(&shower).is_some_and(|(known, _)| known.expose() == token) {
            return authority;
        }
        if shown.len() >= MAX_SUBJECTS {
            shown.retain(|_, (_, until)| now < *until);
        }
        if shown.len() < MAX_SUBJECTS || shown.contains_key(&shower) {
            shown.insert(shower, (Secret::new(token), until));
        }
        authority
    }

    /// What `caller` has shown last, and until when it is good, if it still is: nothing, where it is not the one who has.
    pub fn of(&self, caller: &Caller, now: i64) -> Option<(Secret, i64)> {
        let shower = (caller.grant.clone(), caller.principal.clone(), caller.subject?);
        self.lock().get(&shower).filter(|(_, until)| now < *until).cloned()
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
        let (subjects, ada) = (Subjects::default(), caller("day", "ada", Some([1; 32])));
        let note = |shown, now| subjects.note("day", "ada", shown, || [1; 32], now);
        assert_eq!(note(("unwanted", 10), 1), ANY);
        assert!(subjects.of(&ada, 1).is_none(), "where nobody exchanges any, none is kept");
        subjects.want(true);
        note(("one", 10), 1);
        assert_eq!(note(("two", 20), 2), [1; 32]);
        let (token, until) = subjects.of(&ada, 19).unwrap();
        assert_eq!((token.expose(), until), ("two", 20));
        assert!(subjects.of(&ada, 20).is_none() && subjects.of(&caller("day", "eve", Some([1; 32])), 1).is_none());
        subjects.want(false);
        assert!(subjects.of(&ada, 2).is_none());
    }

    #[test]
    fn what_was_shown_for_one_grant_is_nobody_elses_of_that_name() {
        let subjects = Subjects::default();
        subjects.want(true);
        subjects.note("day", "ada", ("token", 10), || [1; 32], 1);
        assert!(subjects.of(&caller("day", "ada", Some([1; 32])), 2).is_some());
        assert!(subjects.of(&caller("day", "ada", None), 2).is_none(), "who has shown the grant's own token");
        assert!(subjects.of(&caller("night", "ada", Some([1; 32])), 2).is_none(), "who calls by another grant");
        assert!(subjects.of(&caller("day", "ada", Some([2; 32])), 2).is_none(), "whose token says something else");
    }

    fn caller(grant: &str, principal: &str, subject: Option<[u8; 32]>) -> Caller {
        Caller { principal: principal.into(), grant: grant.into(), session: None, subject }
    }
}
