//! What must not be there twice: calls in a short while, and names that may be used once.

use crate::admission::{Once, Subject, joined};
use crate::chain::Ledger;
use crate::counters::CLOCK_DOUBT_MS;
use crate::error::Fault;
use crate::sql::Sql;
use crate::value::values;

/// The key of a call: equal for calls of one grant to one upstream with the same tool and arguments.
pub(crate) fn key(ledger: &Ledger<'_>, subject: &Subject, once: &Once) -> String {
    let call = ledger.key.digests().digest(joined(&[&once.tool, &once.digest]).as_bytes());
    joined(&[&subject.server, &subject.grant, &call])
}

/// The first such call that still stands in the way: its id, and for how many milliseconds.
pub(crate) fn first(ledger: &Ledger<'_>, key: &str, window_ms: u64) -> Result<Option<(String, u64)>, Fault> {
    let find = "SELECT id, at FROM once WHERE key = ?1";
    let found: Option<(String, i64)> = ledger.sql.row(find, values![key], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.and_then(|(id, at)| {
        let until = at.saturating_add(signed(window_ms));
        let left = u64::try_from(until.saturating_sub(ledger.now())).ok().filter(|left| *left > 0)?;
        // A call of the future stands in the way until then; nobody is told to wait for a clock's mistake.
        Some((id, left.clamp(1, window_ms.max(1))))
    }))
}

/// Remembers the call.
pub(crate) fn remember(ledger: &Ledger<'_>, key: &str, id: &str, window_ms: u64) -> Result<(), Fault> {
    let at = ledger.now();
    ledger.sql.execute(
        "INSERT INTO once(key, id, at, until) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT(key) DO UPDATE SET id = excluded.id, at = excluded.at, until = excluded.until",
        values![key, id, at, at.saturating_add(signed(window_ms))],
    )?;
    Ok(())
}

/// Uses up a name, which is remembered until then at least; gives whether nobody had used it.
pub(crate) fn use_up(ledger: &Ledger<'_>, name: &str, until: i64) -> Result<bool, Fault> {
    // The key of a call has three parts.
    let key = joined(&[name]);
    let insert = "INSERT INTO once(key, id, at, until) VALUES (?1, '', ?2, ?3) ON CONFLICT(key) DO NOTHING";
    Ok(ledger.sql.execute(insert, values![&key, ledger.now(), until])? == 1)
}

/// Forgets a call that was never sent.
pub(crate) fn forget(sql: Sql<'_>, key: &str, id: &str) -> Result<(), Fault> {
    sql.execute("DELETE FROM once WHERE key = ?1 AND id = ?2", values![key, id])?;
    Ok(())
}

pub(crate) fn prune(sql: Sql<'_>, now: i64) -> Result<(), Fault> {
    sql.execute("DELETE FROM once WHERE until < ?1", values![now.saturating_sub(CLOCK_DOUBT_MS)])?;
    Ok(())
}

fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}
