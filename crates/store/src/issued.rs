//! What servers have given callers to be handed back, and to whom: tasks, and states of interrupted requests.
//!
//! Any gateway on the state knows by it what another has seen, or it itself before it was started anew. Neither the thing nor
//! its owner is kept, only keyed digests of both: whoever reads the state learns no server's secret from it.

use crate::admission::joined;
use crate::chain::Ledger;
use crate::counters::CLOCK_DOUBT_MS;
use crate::error::Fault;
use crate::sql::Sql;
use crate::value::values;

/// One thing as it was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// By which server.
    pub server: String,
    /// For what: the tool that has made a task, for instance.
    pub purpose: String,
    /// Until when it counts, in milliseconds since the Unix epoch.
    pub until: i64,
}

/// So many servers may have issued one thing to one owner; nobody needs to know of more.
const MOST: i64 = 100;

/// Remembers that `server` has issued `thing` to `owner`.
pub(crate) fn keep(ledger: &Ledger<'_>, thing: &str, owner: &str, issued: &Issued) -> Result<(), Fault> {
    let (thing, owner) = (digest(ledger, "thing", thing), digest(ledger, "owner", owner));
    ledger.sql.execute(
        "INSERT INTO issued(thing, owner, server, purpose, until) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT(thing, owner, server) DO UPDATE SET purpose = excluded.purpose, until = excluded.until",
        values![&thing, &owner, &issued.server, &issued.purpose, issued.until],
    )?;
    Ok(())
}

/// Who has issued `thing` to `owner`, as far as it still counts.
pub(crate) fn find(ledger: &Ledger<'_>, thing: &str, owner: &str) -> Result<Vec<Issued>, Fault> {
    let (thing, owner) = (digest(ledger, "thing", thing), digest(ledger, "owner", owner));
    ledger.sql.rows(
        "SELECT server, purpose, until FROM issued WHERE thing = ?1 AND owner = ?2 AND until > ?3 ORDER BY server LIMIT ?4",
        values![&thing, &owner, ledger.now(), MOST],
        |row| Ok(Issued { server: row.get(0)?, purpose: row.get(1)?, until: row.get(2)? }),
    )
}

pub(crate) fn prune(sql: Sql<'_>, now: i64) -> Result<(), Fault> {
    sql.execute("DELETE FROM issued WHERE until < ?1", values![now.saturating_sub(CLOCK_DOUBT_MS)])?;
    Ok(())
}

fn digest(ledger: &Ledger<'_>, what: &str, text: &str) -> String {
    ledger.key.digests().digest(joined(&["issued", what, text]).as_bytes())
}
