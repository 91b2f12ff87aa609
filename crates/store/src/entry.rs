//! What one caller enters for several calls at a time, in one commit of its own.

use crate::admission::{Admission, Admitted, Reservation};
use crate::admit::{self, Charged, Keyed};
use crate::book::Book;
use crate::draft::{Draft, Recorded};
use crate::error::Fault;

/// Something to be entered together with others: see [`crate::Store::enter`].
pub enum Entry {
    /// As [`crate::Store::admit`] does.
    Admit(Box<Admission>),
    /// As [`crate::Store::record`] does.
    Record(Box<Draft>),
    /// As [`crate::Store::settle`] does; what was taken stays taken.
    Settle(Reservation, Box<Draft>),
}

/// What became of an [`Entry`].
#[derive(Debug)]
pub enum Entered {
    /// Of one that asked to be admitted.
    Admitted(Box<Admitted>),
    /// Of the others.
    Recorded(Recorded),
}

/// An entry whose counters have names.
pub(crate) struct Named {
    entry: Entry,
    charges: Keyed,
}

impl Named {
    /// Names the counters; gives the entry back where it needs more than charges and a record.
    pub fn of(entry: Entry) -> Result<Named, Box<Entry>> {
        match entry {
            Entry::Admit(admission) if !admit::is_plain(&admission) => Err(Box::new(Entry::Admit(admission))),
            Entry::Admit(mut admission) => {
                let charges = admit::keyed(std::mem::take(&mut admission.charges), &admission.subject);
                Ok(Named { entry: Entry::Admit(admission), charges })
            }
            entry => Ok(Named { entry, charges: Vec::new() }),
        }
    }

    /// The entry as it was.
    pub fn into_entry(self) -> Entry {
        match self.entry {
            Entry::Admit(mut admission) => {
                admission.charges = self.charges.into_iter().map(|(_, charge)| charge).collect();
                Entry::Admit(admission)
            }
            entry => entry,
        }
    }

    /// The counters that it asks for, each from which bucket on, at `now`.
    pub fn wants(&self, now: i64) -> impl Iterator<Item = (&str, i64)> {
        self.charges.iter().map(move |(key, charge)| (&**key, charge.counter.window.counts_from(now)))
    }

    /// Writes it into a book.
    pub fn write(self, book: &mut dyn Book) -> Result<Entered, Fault> {
        match self.entry {
            Entry::Admit(admission) => {
                let Admission { id, record, .. } = *admission;
                let admitted = admit::admit_plain(book, id, Charged::Here(self.charges), record)?;
                Ok(Entered::Admitted(Box::new(admitted)))
            }
            Entry::Record(draft) => book.append(&draft).map(Entered::Recorded),
            Entry::Settle(reservation, draft) => admit::settle_plain(book, &reservation, draft, false).map(Entered::Recorded),
        }
    }
}
