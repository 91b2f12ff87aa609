//! Finding the journal that a database follows, and what is done where it is not there.
//!
//! A part of the journal that is gone is said to be gone: in the log, and in the chain itself, by a record of its own.

use crate::chain::Ledger;
use crate::draft::{Draft, Phase};
use crate::error::Fault;
use crate::follow::{Mark, mark};
use crate::journal::{self, Journal, Opened};
use crate::key::random_id;
use std::path::Path;

/// What finding the journal came to.
pub(crate) enum Found {
    Journal(Journal),
    /// It is gone, or a part of it: to be put on record, and then looked for again.
    Loss(Loss),
}

/// What is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Missing,
    Spoilt,
    Damaged { bytes: u64 },
}

impl Loss {
    /// For people.
    pub fn text(self) -> String {
        match self {
            Loss::Missing => "the journal is missing: records after this one's predecessor may be lost".to_owned(),
            Loss::Spoilt => {
                "the journal was not one any more, and was moved to `.journal.damaged`: records may be lost".to_owned()
            }
            Loss::Damaged { bytes } => {
                format!(
                    "the last {bytes} bytes of the journal were damaged, and were moved to `.journal.damaged`: records may be lost"
                )
            }
        }
    }

    /// The record that says so.
    pub fn draft(self) -> Result<Draft, Fault> {
        Ok(Draft {
            id: random_id(16).map_err(Fault::State)?.into(),
            phase: Phase::Admin,
            method: Some("state/journal".into()),
            principal: Some("callgate".into()),
            detail: Some(self.text()),
            ..Draft::default()
        })
    }
}

/// Finds the journal of a state file, or begins one.
pub(crate) fn find(ledger: &mut Ledger<'_>, state: &Path) -> Result<Found, Fault> {
    let mark = mark(ledger)?;
    let loss = match (Journal::open(state, Some(ledger.key.seal()), true)?, mark) {
        (Opened::Found(journal), Some(mark)) if mark.journal == journal.id => return Ok(Found::Journal(journal)),
        (Opened::Found(journal), _) => {
            // One that was just begun when its process was killed: nothing is in it, and nothing is missing before it.
            if journal.base != ledger.head || journal.length()? != Some(journal.begin) {
                return Err(Fault::State(
                    "the journal beside it belongs to another state of this file; put the right file back, or move the journal away"
                        .to_owned(),
                ));
            }
            Mark { journal: journal.id.clone(), place: journal.begin, closed: false }
                .write(ledger.sql.file()?, ledger.key.seal())?;
            return Ok(Found::Journal(journal));
        }
        (Opened::Missing, None) => return begin(ledger, state, true).map(Found::Journal),
        (Opened::Missing, Some(mark)) if mark.closed => return begin(ledger, state, true).map(Found::Journal),
        (Opened::Missing, Some(_)) => Loss::Missing,
        (Opened::Spoilt, _) => {
            journal::move_aside(state)?;
            Loss::Spoilt
        }
    };
    // The record goes first, alone: the journal that is begun then names it as the one before its own.
    ledger.append(&loss.draft()?)?;
    Mark { journal: String::new(), place: 0, closed: true }.write(ledger.sql.file()?, ledger.key.seal())?;
    Ok(Found::Loss(loss))
}

/// Begins a journal after the last record, in place of one that the database has followed to its end, or of none.
pub(crate) fn begin(ledger: &Ledger<'_>, state: &Path, flush: bool) -> Result<Journal, Fault> {
    let journal = Journal::begin(state, ledger.key.seal(), ledger.head.clone(), flush)?;
    Mark { journal: journal.id.clone(), place: journal.begin, closed: false }.write(ledger.sql.file()?, ledger.key.seal())?;
    Ok(journal)
}
