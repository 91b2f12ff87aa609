//! What servers have given callers to be handed back, and to whom: tasks, and states of interrupted requests.
//!
//! Any gateway on the state knows by it what another has seen, or it itself before it was started anew. Neither the thing nor
//! its owner is kept, only keyed digests of both: whoever reads the state learns no server's secret from it.

use crate::admission::joined;
use crate::chain::Ledger;
use crate::counters::CLOCK_DOUBT_MS;
use crate::error::Fault;
use crate::key::DigestKey;
use crate::sql::Sql;
use crate::value::{Value, values};
use std::collections::HashMap;

/// One thing as it was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// By which server: kept as it is given, so a name that may come to stand for another server will not do.
    pub server: String,
    /// For what: the tool that has made a task, for instance.
    pub purpose: String,
    /// Until when it counts, in milliseconds since the Unix epoch.
    pub until: i64,
}

/// So many things of one owner are kept; past them the oldest go.
const MOST: i64 = 1_000;
/// So many of those go at a time: more are never too many, as long as all that write keep to [`MOST`].
const PIECE: i64 = 100;

/// What is looked for, as the state has it: one owner, and things that may be the owner's.
pub(crate) struct Wanted {
    owner: String,
    things: Vec<String>,
}

impl Wanted {
    pub fn new(key: &DigestKey, things: &[String], owner: &str) -> Wanted {
        let things = things.iter().map(|thing| digest(key, "thing", thing)).collect();
        Wanted { owner: digest(key, "owner", owner), things }
    }
}

/// Remembers that a server has issued `thing` to `owner`.
pub(crate) fn keep(ledger: &Ledger<'_>, thing: &str, owner: &str, issued: &Issued) -> Result<(), Fault> {
    let key = ledger.key.digests();
    let (thing, owner) = (digest(key, "thing", thing), digest(key, "owner", owner));
    ledger.sql.execute(
        "INSERT INTO issued(thing, owner, server, purpose, until) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT(thing, owner, server) DO UPDATE SET purpose = excluded.purpose, until = excluded.until",
        values![&thing, &owner, &issued.server, &issued.purpose, issued.until],
    )?;
    ledger.sql.execute(
        "DELETE FROM issued WHERE owner = ?1 AND (thing, server) IN
             (SELECT thing, server FROM issued WHERE owner = ?1 ORDER BY until DESC LIMIT ?3 OFFSET ?2)",
        values![&owner, MOST, PIECE],
    )?;
    Ok(())
}

/// Who has issued each of the things, as far as it still counts `now`; in the order in which they are wanted.
pub(crate) fn find(sql: Sql<'_>, wanted: &Wanted, now: i64) -> Result<Vec<Vec<Issued>>, Fault> {
    let Some(last) = wanted.things.last() else { return Ok(Vec::new()) };
    // A few lengths of the question, and not as many as there are: each is prepared once.
    let length = wanted.things.len().next_power_of_two();
    let places: Vec<String> = (0..length).map(|at| format!("?{}", at + 3)).collect();
    let question = format!(
        "SELECT thing, server, purpose, until FROM issued WHERE owner = ?1 AND until > ?2 AND thing IN ({}) ORDER BY server",
        places.join(", ")
    );
    let things = wanted.things.iter().chain(std::iter::repeat(last)).take(length).map(Value::from);
    let values: Vec<Value<'_>> = [Value::from(&wanted.owner), Value::from(now)].into_iter().chain(things).collect();
    let rows = sql.rows(&question, &values, |row| {
        Ok((row.get::<String>(0)?, Issued { server: row.get(1)?, purpose: row.get(2)?, until: row.get(3)? }))
    })?;
    let mut found: HashMap<String, Vec<Issued>> = HashMap::new();
    for (thing, issued) in rows {
        found.entry(thing).or_default().push(issued);
    }
    Ok(wanted.things.iter().map(|thing| found.get(thing).cloned().unwrap_or_default()).collect())
}

pub(crate) fn prune(sql: Sql<'_>, now: i64) -> Result<(), Fault> {
    sql.execute("DELETE FROM issued WHERE until < ?1", values![now.saturating_sub(CLOCK_DOUBT_MS)])?;
    Ok(())
}

fn digest(key: &DigestKey, what: &str, text: &str) -> String {
    key.digest(joined(&["issued", what, text]).as_bytes())
}
