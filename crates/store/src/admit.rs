//! Admitting a call and settling it.

use crate::admission::{Admission, Admitted, ApprovalRequest, Reservation, Subject, Verdict, joined};
use crate::approvals::{self, Standing};
use crate::book::Book;
use crate::chain::Ledger;
use crate::counters::{self, Judged};
use crate::draft::{Draft, Recorded};
use crate::error::Fault;
use crate::once;
use policy::Charge;
use std::sync::Arc;

/// Charges, each with the key of its counter.
pub(crate) type Keyed = Vec<(Arc<str>, Charge)>;

/// Names the counters of a call's charges.
pub(crate) fn keyed(charges: Vec<Charge>, subject: &Subject) -> Keyed {
    charges.into_iter().map(|charge| (counters::key(&charge.counter, subject), charge)).collect()
}

/// Whether a call asks for charges and a record, and nothing else.
pub(crate) fn is_plain(admission: &Admission) -> bool {
    admission.once.is_none() && admission.approval.is_none()
}

/// The charges of a call: to be taken with its record, or taken already where counters lie elsewhere.
pub(crate) enum Charged {
    Here(Keyed),
    Elsewhere(Judged),
}

/// Admits a plain call.
pub(crate) fn admit_plain(
    book: &mut dyn Book,
    id: Arc<str>,
    charges: Charged,
    record: impl FnOnce(&Verdict) -> Box<Draft>,
) -> Result<Admitted, Fault> {
    let mut reservation = Reservation { id: id.clone(), ..Reservation::default() };
    let judged = match charges {
        Charged::Elsewhere(judged) => judged,
        Charged::Here(charges) => {
            let judged = counters::judge(&charges, book.now(), |key, from| book.held(key, from))?;
            if let Judged::Fit { taken, .. } = &judged {
                book.take(taken)?;
            }
            judged
        }
    };
    let verdict = match judged {
        Judged::Exhausted { index, usage } => Verdict::Exhausted { index, usage },
        Judged::Fit { usages, taken } => {
            reservation.taken = taken;
            Verdict::Granted { usages, approval: None }
        }
    };
    let mut draft = record(&verdict);
    draft.id = id;
    let recorded = book.append(&draft)?;
    Ok(Admitted { verdict, recorded, reservation, draft })
}

/// Refuses a call that stands no chance whatever its charges, and records that; else gives it back. Nothing is spent yet.
pub(crate) fn consider(ledger: &mut Ledger<'_>, admission: Admission) -> Result<Result<Admitted, Admission>, Fault> {
    match stand(ledger, &admission)? {
        Ok(_) => Ok(Err(admission)),
        Err(verdict) => refuse(ledger, admission, verdict).map(Ok),
    }
}

/// Whether an identical call was made, and how the approval stands that is needed: which one may be spent, or the verdict.
fn stand(ledger: &Ledger<'_>, admission: &Admission) -> Result<Result<Option<String>, Verdict>, Fault> {
    let Admission { subject, once, approval, .. } = admission;
    if let Some(once) = once
        && let Some((first_id, retry_after_ms)) = once::first(ledger, &once::key(ledger, subject, once), once.window_ms)?
    {
        return Ok(Err(Verdict::Duplicate { first_id, retry_after_ms }));
    }
    let Some(mut request) = approval.clone() else { return Ok(Ok(None)) };
    // What is written down of arguments is keyed, so that likely ones cannot be tried.
    request.digest = ledger.key.digests().digest(joined(&[&request.tool, &request.digest]).as_bytes());
    Ok(ask(ledger, subject, &request)?.map(Some))
}

fn refuse(ledger: &mut Ledger<'_>, admission: Admission, verdict: Verdict) -> Result<Admitted, Fault> {
    let Admission { id, record, .. } = admission;
    let mut draft = record(&verdict);
    draft.id = id.clone();
    let recorded = ledger.append(&draft)?;
    Ok(Admitted { verdict, recorded, reservation: Reservation { id, ..Reservation::default() }, draft })
}

/// Admits any call. `judged` is what has become of its charges where counters lie elsewhere.
pub(crate) fn admit(ledger: &mut Ledger<'_>, admission: Admission, judged: Option<Judged>) -> Result<Admitted, Fault> {
    let approved = match stand(ledger, &admission)? {
        Ok(approved) => approved,
        Err(verdict) => return refuse(ledger, admission, verdict),
    };
    let Admission { id, subject, charges, once, approval: _, record } = admission;
    let once = once.map(|once| (once::key(ledger, &subject, &once), once.window_ms));
    let charged = judged.map_or_else(|| Charged::Here(keyed(charges, &subject)), Charged::Elsewhere);
    let spent = approved.clone();
    let mut admitted = admit_plain(ledger, id.clone(), charged, |verdict| match verdict {
        Verdict::Granted { usages, .. } => record(&Verdict::Granted { usages: usages.clone(), approval: spent }),
        other => record(other),
    })?;
    if let Verdict::Granted { approval, .. } = &mut admitted.verdict {
        approval.clone_from(&approved);
        if let Some((key, window_ms)) = once {
            once::remember(ledger, &key, &id, window_ms)?;
            admitted.reservation.once = Some(key);
        }
        if let Some(approval) = approved {
            approvals::spend(ledger.sql, &approval, &id)?;
            admitted.reservation.approval = Some(approval);
        }
    }
    Ok(admitted)
}

/// Gives the approval that may be spent, or the verdict in its absence.
fn ask(ledger: &Ledger<'_>, subject: &Subject, request: &ApprovalRequest) -> Result<Result<String, Verdict>, Fault> {
    Ok(Err(match approvals::standing(ledger, subject, request)? {
        Standing::Approved { id } => return Ok(Ok(id)),
        Standing::Pending { id, expires } => Verdict::ApprovalPending { id, expires_at: expires, opened: false },
        Standing::Denied { id } => Verdict::ApprovalDenied { id },
        Standing::Unasked => match approvals::waiting(ledger, &subject.grant)? {
            open if open >= approvals::MOST_WAITING => Verdict::ApprovalsFull { open },
            _ => {
                let (id, expires_at) = approvals::open(ledger, subject, request)?;
                Verdict::ApprovalPending { id, expires_at, opened: true }
            }
        },
    }))
}

/// Records how a call ended, and gives back the charges of one that was never sent.
pub(crate) fn settle_plain(
    book: &mut dyn Book,
    reservation: &Reservation,
    mut draft: Box<Draft>,
    refund: bool,
) -> Result<Recorded, Fault> {
    if refund {
        book.give_back(&reservation.taken)?;
    }
    // Requests that are charged nothing have the id in their draft alone.
    if !reservation.id.is_empty() {
        draft.id = reservation.id.clone();
    }
    book.append(&draft)
}

/// The same for any call: with its approval, and its place among recent calls.
pub(crate) fn settle(
    ledger: &mut Ledger<'_>,
    reservation: &Reservation,
    draft: Box<Draft>,
    refund: bool,
) -> Result<Recorded, Fault> {
    let Reservation { id, once, approval, .. } = reservation;
    if refund {
        if let Some(key) = once {
            once::forget(ledger.sql, key, id)?;
        }
        if let Some(approval) = approval {
            approvals::unspend(ledger.sql, approval, id)?;
        }
    }
    settle_plain(ledger, reservation, draft, refund)
}

impl Reservation {
    /// Whether giving it back takes charges and nothing else.
    pub(crate) fn is_plain(&self) -> bool {
        self.once.is_none() && self.approval.is_none()
    }
}
