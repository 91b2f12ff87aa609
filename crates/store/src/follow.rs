//! The database follows the journal: what calls have written there becomes rows, many at a time.
//!
//! The database keeps a **mark**: which journal it follows, and how far it has come. It is moved in the same transaction
//! as the rows, so that nothing is taken over twice or left out; and it is sealed, so that nobody can move it unseen.

use crate::chain::Ledger;
use crate::counters;
use crate::error::Fault;
use crate::journal::{Change, Group, Journal, Tail};
use crate::key::Seal;
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashMap;

/// How far the database has followed which journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub journal: String,
    pub place: u64,
    /// All of it was taken over, and it was removed.
    pub closed: bool,
}

impl Mark {
    /// Reads the mark; gives with it whether it is sealed with the key, as far as one is known.
    pub fn read(connection: &Connection, seal: Option<&Seal>) -> Result<Option<(Mark, bool)>, Fault> {
        let mut query = connection.prepare_cached("SELECT name, place, closed, seal FROM journal WHERE id = 1")?;
        let found: Option<(Mark, String)> = query
            .query_row([], |row| {
                let mark = Mark { journal: row.get(0)?, place: row.get::<_, i64>(1)?.unsigned_abs(), closed: row.get(2)? };
                Ok((mark, row.get(3)?))
            })
            .optional()?;
        Ok(found.map(|(mark, sealed)| {
            let is_sealed = seal.is_none_or(|seal| mark.sealed(seal) == sealed);
            (mark, is_sealed)
        }))
    }

    /// Puts the mark.
    pub fn write(&self, connection: &Connection, seal: &Seal) -> Result<(), Fault> {
        let mut write =
            connection.prepare_cached("REPLACE INTO journal(id, name, place, closed, seal) VALUES (1, ?1, ?2, ?3, ?4)")?;
        let place = i64::try_from(self.place).unwrap_or(i64::MAX);
        write.execute((&self.journal, place, self.closed, self.sealed(seal)))?;
        Ok(())
    }

    fn sealed(&self, seal: &Seal) -> String {
        seal.of(&self.journal, self.place, if self.closed { b"closed" } else { b"followed" })
    }
}

/// The mark of a database that is about to be written.
///
/// # Errors
/// When somebody else has put it.
pub(crate) fn mark(ledger: &Ledger<'_>) -> Result<Option<Mark>, Fault> {
    match Mark::read(ledger.sql.file()?, Some(ledger.key.seal()))? {
        None => Ok(None),
        Some((mark, true)) => Ok(Some(mark)),
        Some((_, false)) => {
            Err(Fault::State("the mark of its journal is not sealed with its key; run `callgate audit verify`".to_owned()))
        }
    }
}

/// What following a journal came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// The database has everything up to `place`, and this is how the journal ends there.
    Until { place: u64, tail: Tail },
    /// The database follows another journal by now.
    Another,
}

/// Takes over what the journal holds up to `to`.
pub(crate) fn follow(ledger: &mut Ledger<'_>, journal: &Journal, to: u64) -> Result<Followed, Fault> {
    follow_some(ledger, journal, to, u64::MAX)
}

/// The same, but no more than about so many bytes.
pub(crate) fn follow_some(ledger: &mut Ledger<'_>, journal: &Journal, to: u64, most: u64) -> Result<Followed, Fault> {
    let from = match mark(ledger)? {
        Some(mark) if mark.journal == journal.id => mark.place,
        _ => return Ok(Followed::Another),
    };
    if from >= to {
        return Ok(Followed::Until { place: from, tail: Tail::Whole });
    }
    let (mut place, mut piece) = (from, PIECE);
    let tail = loop {
        let until = to.min(place + piece);
        let (groups, tail) = journal.read(place, until)?;
        ledger.take_over(groups.iter().flat_map(|group| &group.records))?;
        counters::apply(ledger.sql, summed(&groups).iter())?;
        place = groups.last().map_or(place, |group| group.end);
        match tail {
            // A piece ends inside a group, which is longer than it where there is no other.
            Tail::Torn if until < to => piece = if groups.is_empty() { piece * 2 } else { PIECE },
            Tail::Whole if until < to => {}
            tail => break tail,
        }
        if place - from >= most {
            break Tail::Whole;
        }
    };
    if place > from {
        Mark { journal: journal.id.clone(), place, closed: false }.write(ledger.sql.file()?, ledger.key.seal())?;
    }
    Ok(Followed::Until { place, tail })
}

/// So many bytes are taken over at a time: what fits a processor's caches, and is little memory.
const PIECE: u64 = 64 << 10;

/// The changes of all groups, those that take from one bucket as one. What is given back stays by itself: where somebody has
/// spoilt a counter, it is not the same whether that comes before or after.
fn summed(groups: &[Group]) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    let mut last: HashMap<&str, usize> = HashMap::new();
    for change in groups.iter().flat_map(|group| &group.changes) {
        let before = last.get(&*change.key).map(|at| &mut all[*at]);
        match before {
            Some(before) if before.bucket == change.bucket && before.micros >= 0 && change.micros >= 0 => {
                before.micros = before.micros.saturating_add(change.micros);
            }
            _ => {
                last.insert(&change.key, all.len());
                all.push(change.clone());
            }
        }
    }
    all
}
