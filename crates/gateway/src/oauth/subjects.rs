//! The tokens that callers have shown, for as long as they may be exchanged for others.

use crate::enforcer::Caller;
use crate::secret::Secret;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tracing::warn;

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

/// Of all, and of one principal with one grant: beyond this, what ends soonest makes room. A token that differs by what it says
/// each time (a claim that counts) would fill the table otherwise. Who is dropped is known again when its token is shown again.
const MAX_SUBJECTS: usize = 10_000;
const MAX_OF_ONE: usize = 100;

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
        if !shown.contains_key(&shower) && shown.len() >= MAX_OF_ONE {
            let is_theirs = |of: &Shower| (&of.0, &of.1) == (&shower.0, &shower.1);
            make_room(&mut shown, MAX_OF_ONE, is_theirs, (grant, principal), now);
            if shown.len() >= MAX_SUBJECTS {
                make_room(&mut shown, MAX_SUBJECTS, |_| true, (grant, principal), now);
            }
        }
        shown.insert(shower, (Secret::new(token), until));
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

/// Drops what has ended by `now`, and of those that `counts` speaks of, if there are `most`, the one that ends soonest.
fn make_room(
    shown: &mut HashMap<Shower, (Secret, i64)>,
    most: usize,
    counts: impl Fn(&Shower) -> bool,
    (grant, principal): (&str, &str),
    now: i64,
) {
    if shown.keys().filter(|shower| counts(shower)).count() < most {
        return;
    }
    shown.retain(|_, (_, until)| now < *until);
    let counted = || shown.iter().filter(|(shower, _)| counts(shower));
    if counted().count() < most {
        return;
    }
    let soonest = counted().min_by_key(|(_, (_, until))| *until).map(|(shower, _)| shower.clone());
    if let Some(soonest) = soonest {
        warn!(
            grant,
            principal, "too many different tokens are shown; the one that ends soonest is not exchanged until it is shown again"
        );
        shown.remove(&soonest);
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

    #[test]
    fn whoever_shows_ever_other_tokens_makes_room_for_them_by_those_alone() {
        let subjects = Subjects::default();
        subjects.want(true);
        let authority = |number: usize| {
            let mut authority = [0; 32];
            authority[..8].copy_from_slice(&number.to_be_bytes());
            authority
        };
        let note = |principal: &str, number: usize, until| {
            subjects.note("day", principal, ("token", until), || authority(number), 1);
        };
        let has = |principal: &str, number| subjects.of(&caller("day", principal, Some(authority(number))), 1).is_some();
        note("ada", 1, 2);
        for number in 1..=MAX_OF_ONE {
            note("eve", number, 1_000 + i64::try_from(number).unwrap());
        }
        note("eve", MAX_OF_ONE, 5_000);
        assert!(has("eve", 1), "what is shown again is no other");
        note("eve", MAX_OF_ONE + 1, 9_000);
        assert!(!has("eve", 1), "it would have ended soonest");
        assert!(has("eve", 2) && has("eve", MAX_OF_ONE + 1) && has("ada", 1));

        // And many of them leave room for everybody who comes later.
        let room = MAX_SUBJECTS - subjects.lock().len();
        let many = (0..room).map(|number| (("day".into(), format!("eve {number}"), authority(1)), (Secret::new("token"), 9_000)));
        subjects.lock().extend(many);
        note("bob", 1, 9_000);
        assert!(has("bob", 1) && !has("ada", 1));
        assert_eq!(subjects.lock().len(), MAX_SUBJECTS);
    }

    fn caller(grant: &str, principal: &str, subject: Option<[u8; 32]>) -> Caller {
        Caller { principal: principal.into(), grant: grant.into(), subject, ..Caller::default() }
    }
}
