//! State as it is at one moment, for readers: the database, and the journal beside it.
//!
//! Nothing that is written can be seen half: while a reader looks, nobody appends to the journal, and what the database
//! follows meanwhile it does not see. No process has to be alive for that.

use crate::error::Fault;
use crate::follow::Mark;
use crate::journal::{self, Group, Journal, Opened, Tail};
use crate::key::Seal;
use crate::place::Patience;
use crate::sqlite::BUSY;
use rusqlite::{Connection, OptionalExtension, Transaction};
use std::path::Path;
use std::time::Duration;

/// The journal as it was at a moment.
pub(crate) enum Beside {
    /// There is none, and need not be one.
    Nothing,
    /// There should be one.
    Missing,
    /// It is none.
    Spoilt,
    /// It belongs to another state of the database.
    Foreign,
    /// The mark that says how far it was followed is not ours.
    FalseMark,
    Found(Contents),
}

/// What a journal held.
pub(crate) struct Contents {
    /// The number of the record before its first.
    pub base: i64,
    pub groups: Vec<Group>,
    pub tail: Tail,
    /// The groups that end here or before are in the database as well.
    pub followed: u64,
    /// Where the groups end, and everything after it once more, without looking at seals.
    pub rest: Vec<Group>,
}

/// Looks at the database and at the journal: the whole of it where `whole`, else what the database does not have yet.
pub(crate) fn look<'c>(
    connection: &'c Connection,
    state: &Path,
    seal: Option<&Seal>,
    whole: bool,
) -> Result<(Transaction<'c>, Beside), Fault> {
    let patience = Patience::new(BUSY);
    let settling = Patience::new(SETTLING);
    loop {
        let opened = Journal::open(state, seal, false)?;
        let locked = match &opened {
            Opened::Found(journal) => Some((journal, journal.lock_shared(&patience)?)),
            Opened::Missing | Opened::Spoilt => None,
        };
        let transaction = connection.unchecked_transaction()?;
        // The first look fixes the moment.
        let mark = read_mark(&transaction, seal)?;
        let beside = match (locked, mark) {
            (None, _) if matches!(opened, Opened::Spoilt) => Beside::Spoilt,
            (None, None) => Beside::Nothing,
            (None, Some((mark, _))) if mark.closed => Beside::Nothing,
            (None, Some(_)) => Beside::Missing,
            (Some(_), Some((_, false))) => Beside::FalseMark,
            (Some((journal, _lock)), mark) => match journal.length()? {
                None => Beside::Foreign,
                Some(length) => contents(&transaction, journal, length, mark.map(|(mark, _)| mark), whole)?,
            },
        };
        // A journal may just have made way for another.
        let unsettled = match &beside {
            Beside::Missing => journal::exists(state),
            Beside::Foreign => true,
            _ => false,
        };
        if !unsettled || !settling.wait() {
            return Ok((transaction, beside));
        }
    }
}

/// A file of an earlier version has no mark; one that was spoilt shows where the database is checked.
fn read_mark(connection: &Connection, seal: Option<&Seal>) -> Result<Option<(Mark, bool)>, Fault> {
    let has_marks = connection
        .query_row("SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = 'journal'", [], |_| Ok(()))
        .optional()?
        .is_some();
    if has_marks { Mark::read(connection, seal) } else { Ok(None) }
}

fn contents(connection: &Connection, journal: &Journal, length: u64, mark: Option<Mark>, whole: bool) -> Result<Beside, Fault> {
    let followed = match mark {
        Some(mark) if mark.journal == journal.id => mark.place,
        _ => {
            // One that was just begun: there is nothing in it, and nothing missing before it.
            let head: Option<i64> = connection.query_row("SELECT seq FROM head", [], |row| row.get(0)).optional()?;
            if length != journal.begin || head != Some(journal.base.seq) {
                return Ok(Beside::Foreign);
            }
            journal.begin
        }
    };
    let from = if whole { journal.begin } else { followed };
    if from >= length {
        return Ok(Beside::Found(Contents {
            base: journal.base.seq,
            groups: Vec::new(),
            tail: Tail::Whole,
            followed,
            rest: Vec::new(),
        }));
    }
    let (groups, tail) = journal.read(from, length)?;
    let end = groups.last().map_or(from, |group| group.end);
    let rest = if tail == Tail::Damaged { journal.read_unsealed(end, length)?.0 } else { Vec::new() };
    Ok(Beside::Found(Contents { base: journal.base.seq, groups, tail, followed, rest }))
}

/// How long a journal that has just been exchanged for another is waited for.
const SETTLING: Duration = Duration::from_millis(250);
