//! Forgetting: what no longer counts, and records past their age or beyond the room they may take.
//!
//! Records go from the oldest on, in pieces small enough not to hold up calls, and only after they have been checked: a
//! part of the chain that is broken stays, to be seen.

use crate::chain::{Ledger, cut};
use crate::clock::rfc3339;
use crate::error::Fault;
use crate::sql::Sql;
use crate::value::values;
use crate::verify::{self, Walk};
use crate::{approvals, counters, departed, instances, issued, once};
use std::time::Duration;

/// How long and how many audit records are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Records older than this go.
    pub max_age: Option<Duration>,
    /// The oldest records go while the state takes more room than this, in bytes.
    pub max_bytes: Option<u64>,
}

/// Forgets a piece of what may be forgotten; gives whether there is more.
pub(crate) fn tidy(ledger: &mut Ledger<'_>, retention: Option<Retention>) -> Result<bool, Fault> {
    let now = ledger.now();
    counters::prune(ledger.sql, now)?;
    once::prune(ledger.sql, now)?;
    approvals::prune(ledger.sql, now)?;
    instances::prune(ledger.sql, now)?;
    issued::prune(ledger.sql, now)?;
    let Some(retention) = retention else { return Ok(false) };
    let cutoff = retention.max_age.map(|age| now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
    if let Some(cutoff) = cutoff
        && departed::remove(ledger, cutoff)?
    {
        return Ok(true);
    }
    let excess = retention.max_bytes.is_some_and(|max| bytes(ledger).is_ok_and(|bytes| bytes > max));
    let cutoff = cutoff.map(rfc3339);
    let Some((last, taken)) = removable(ledger, cutoff.as_deref(), excess)? else { return Ok(false) };
    let told = departed::tell_again(ledger, last)?;
    cut(ledger, last)?;
    // What was told again is now at the end: it is not to go round and round.
    Ok(!told && (excess || taken == PIECE))
}

/// The end of the longest sound piece from the beginning that may go, and how many records it is.
fn removable(ledger: &Ledger<'_>, cutoff: Option<&str>, excess: bool) -> Result<Option<(i64, i64)>, Fault> {
    let anchor: Option<(i64, String)> =
        ledger.sql.row(&ledger.of_chain("SELECT seq, hash FROM anchor WHERE true"), &[], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut walk = match &anchor {
        Some((seq, hash)) => Walk::after(*seq, hash),
        None => Walk::after(0, &ledger.genesis()),
    };
    let first = walk.expected;
    // By size the oldest twentieth goes, so that it is not done again at every call; the last record always stays.
    let for_size = if excess { ((ledger.head.seq - first) / 20 + 1).min(PIECE) } else { 0 };
    let query = ledger
        .of_chain("SELECT seq, body, hash, CASE WHEN json_valid(body) THEN json_extract(body, '$.at') END FROM audit WHERE true");
    let rows = ledger.sql.rows(&format!("{query} ORDER BY seq LIMIT ?1"), values![PIECE], |row| {
        Ok((verify::read(row)?, row.strict(3).unwrap_or_default()))
    })?;
    let mut last = None;
    for (record, at) in rows {
        let Ok(record) = record else { break };
        let is_old = cutoff.is_some_and(|cutoff| at.is_some_and(|at| at.as_str() < cutoff));
        let is_excess = record.seq - first < for_size && record.seq < ledger.head.seq;
        if !(is_old || is_excess) {
            break;
        }
        if let Some(broken) = walk.step(&record) {
            tracing::error!(seq = broken.seq, problem = %broken.problem, "the audit log is broken; nothing is removed from it");
            break;
        }
        last = Some(record.seq);
    }
    Ok(last.map(|last| (last, last - first + 1)))
}

/// How much room the state takes, not counting pages that are free again.
fn bytes(ledger: &Ledger<'_>) -> Result<u64, Fault> {
    let Sql::File(connection) = ledger.sql else {
        return bytes_of_chain(ledger);
    };
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok(pages.unsigned_abs() * pragma("page_size")?.unsigned_abs())
}

/// How much room the records of a chain take, as far as the latest ones tell. What the server's files measure does not shrink
/// when records go.
fn bytes_of_chain(ledger: &Ledger<'_>) -> Result<u64, Fault> {
    let number = |query: &str| Ok::<i64, Fault>(ledger.sql.row(query, &[], |row| row.get(0))?.unwrap_or(0));
    let first = number(&ledger.of_chain("SELECT coalesce(min(seq), 1) FROM audit WHERE true"))?;
    let latest = ledger.of_chain("SELECT octet_length(body) AS bytes FROM audit WHERE true");
    let mean = number(&format!("SELECT coalesce(avg(bytes), 0)::bigint FROM ({latest} ORDER BY seq DESC LIMIT 200) AS latest"))?;
    Ok((ledger.head.seq - first + 1).unsigned_abs().saturating_mul(mean.unsigned_abs() + BESIDE_BODY))
}

const PIECE: i64 = 2000;
/// What a record takes beside its body: hash, number, indexes.
const BESIDE_BODY: u64 = 250;
