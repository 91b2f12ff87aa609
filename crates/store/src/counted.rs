//! State whose counters lie elsewhere: how charges and records go together.
//!
//! A call that stands no chance is refused first, and costs nothing. Then its charges are taken, and then its record is
//! written, with an approval spent and the call remembered. It goes on when both are there. A charge whose record could not be
//! written is given back where that can be done; else, as after a crash in between, it stays spent. Never the other way round.

use crate::StoreError;
use crate::admission::{Admission, Admitted, Reservation, Taken, Verdict};
use crate::admit::{self, Charged, Keyed};
use crate::book::Book;
use crate::counters::Judged;
use crate::job::{Plain, Work};
use crate::redis::{Memory, Redis};
use crate::value::values;
use crate::writer::Writer;
use std::sync::Arc;

/// Admits a call, or does not, and records which.
pub(crate) async fn admit(writer: &Writer, redis: &Redis, admission: Admission) -> Result<Admitted, StoreError> {
    let charges = admit::keyed(admission.charges.clone(), &admission.subject);
    if admit::is_plain(&admission) {
        let (judged, taken) = apart(charge(redis, &charges).await?);
        let Admission { id, record, .. } = admission;
        let work = Box::new(move |book: &mut dyn Book| admit::admit_plain(book, id, Charged::Elsewhere(judged), record));
        let admitted = writer.perform(true, Work::Plain(Plain { wants: Vec::new(), work })).await;
        return with_charges(redis, admitted, taken).await;
    }
    let considered = writer.submit(true, Vec::new(), |ledger| admit::consider(ledger, admission)).await?;
    let admission = match considered {
        Ok(refused) => return Ok(refused),
        Err(admission) => admission,
    };
    let (judged, taken) = apart(charge(redis, &charges).await?);
    let admitted = writer.submit(true, Vec::new(), |ledger| admit::admit(ledger, admission, Some(judged))).await;
    with_charges(redis, admitted, taken).await
}

/// Puts what was taken with the call, or gives it back where the call is not made: its record could not be written, or
/// somebody else has spent its approval meanwhile.
async fn with_charges(redis: &Redis, admitted: Result<Admitted, StoreError>, taken: Vec<Taken>) -> Result<Admitted, StoreError> {
    match admitted {
        Ok(Admitted { verdict: verdict @ Verdict::Granted { .. }, recorded, reservation, draft }) => {
            Ok(Admitted { verdict, recorded, reservation: Reservation { taken, ..reservation }, draft })
        }
        refused => {
            if let Err(error) = redis.give_back(&taken).await {
                tracing::warn!(%error, "a call that was not made could not be refunded, and stays spent");
            }
            refused
        }
    }
}

/// Takes what was taken out of the verdict, to have it where the call is refused after all.
fn apart(judged: Judged) -> (Judged, Vec<Taken>) {
    match judged {
        Judged::Fit { usages, taken } => (Judged::Fit { usages, taken: Vec::new() }, taken),
        exhausted @ Judged::Exhausted { .. } => (exhausted, Vec::new()),
    }
}

/// A call without limits does not need the server that counts.
async fn charge(redis: &Redis, charges: &Keyed) -> Result<Judged, StoreError> {
    match charges.is_empty() {
        true => Ok(Judged::Fit { usages: Vec::new(), taken: Vec::new() }),
        false => redis.charge(charges).await.map(|(_, judged)| judged),
    }
}

/// What this gateway knows of the server that counts, kept with its records.
pub(crate) struct Epoch(pub Arc<Writer>);

impl Memory for Epoch {
    fn recall(&self) -> Result<Option<String>, StoreError> {
        self.0
            .submit_and_wait(|ledger| ledger.sql.row("SELECT value FROM meta WHERE name = 'redis_epoch'", &[], |row| row.get(0)))
    }

    fn keep(&self, epoch: &str) -> Result<(), StoreError> {
        let epoch = epoch.to_owned();
        self.0.submit_and_wait(move |ledger| {
            let write = "INSERT INTO meta(name, value) VALUES ('redis_epoch', ?1)
                ON CONFLICT(name) DO UPDATE SET value = excluded.value";
            ledger.sql.execute(write, values![&epoch]).map(drop)
        })
    }
}
