//! Admitting a call and settling it, inside a transaction.

use crate::admission::{Admission, Admitted, ApprovalRequest, Reservation, Subject, Verdict, joined};
use crate::approvals::{self, Standing};
use crate::chain::Ledger;
use crate::counters::{self, Judged};
use crate::draft::{Draft, Recorded};
use crate::error::Fault;
use crate::once;

pub(crate) fn admit(ledger: &mut Ledger<'_>, admission: Admission) -> Result<Admitted, Fault> {
    let Admission { id, subject, charges, once, mut approval, record } = admission;
    if let Some(request) = &mut approval {
        // What is written down of arguments is keyed, so that likely ones cannot be tried.
        request.digest = ledger.key.digests().digest(joined(&[&request.tool, &request.digest]).as_bytes());
    }
    let mut reservation = Reservation { id: id.clone(), ..Reservation::default() };
    let verdict = 'verdict: {
        let once = once.map(|once| (once::key(ledger, &subject, &once), once.window_ms));
        if let Some((key, window_ms)) = &once
            && let Some((first_id, retry_after_ms)) = once::first(ledger, key, *window_ms)?
        {
            break 'verdict Verdict::Duplicate { first_id, retry_after_ms };
        }
        let approved = match &approval {
            Some(request) => match ask(ledger, &subject, request)? {
                Ok(id) => Some(id),
                Err(verdict) => break 'verdict verdict,
            },
            None => None,
        };
        let (usages, taken) = match counters::judge(ledger.connection, &charges, &subject, ledger.now())? {
            Judged::Exhausted { index, usage } => break 'verdict Verdict::Exhausted { index, usage },
            Judged::Fit { usages, taken } => (usages, taken),
        };
        counters::take(ledger.connection, &taken)?;
        if let Some((key, window_ms)) = once {
            once::remember(ledger, &key, &id, window_ms)?;
            reservation.once = Some(key);
        }
        if let Some(approval) = &approved {
            approvals::spend(ledger.connection, approval, &id)?;
        }
        reservation.taken = taken;
        reservation.approval.clone_from(&approved);
        Verdict::Granted { usages, approval: approved }
    };
    let draft = Draft { id, ..record(&verdict) };
    let recorded = ledger.append(&draft)?;
    Ok(Admitted { verdict, recorded, reservation })
}

/// Gives the approval that may be spent, or the verdict in its absence.
fn ask(ledger: &Ledger<'_>, subject: &Subject, request: &ApprovalRequest) -> Result<Result<String, Verdict>, Fault> {
    Ok(Err(match approvals::standing(ledger, subject, request)? {
        Standing::Approved { id } => return Ok(Ok(id)),
        Standing::Pending { id, expires } => Verdict::ApprovalPending { id, expires_at: expires },
        Standing::Denied { id } => Verdict::ApprovalDenied { id },
        Standing::Unasked => match approvals::waiting(ledger, &subject.grant)? {
            open if open >= approvals::MOST_WAITING => Verdict::ApprovalsFull { open },
            _ => {
                let (id, expires_at) = approvals::open(ledger, subject, request)?;
                Verdict::ApprovalPending { id, expires_at }
            }
        },
    }))
}

pub(crate) fn settle(ledger: &mut Ledger<'_>, reservation: &Reservation, draft: Draft, refund: bool) -> Result<Recorded, Fault> {
    let Reservation { id, taken, once, approval } = reservation;
    if refund {
        counters::give_back(ledger.connection, taken)?;
        if let Some(key) = once {
            once::forget(ledger.connection, key, id)?;
        }
        if let Some(approval) = approval {
            approvals::unspend(ledger.connection, approval, id)?;
        }
    }
    ledger.append(&Draft { id: id.clone(), ..draft })
}
