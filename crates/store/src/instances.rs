//! Who is running: one row a process, with a heartbeat.

use crate::error::Fault;
use crate::sql::Sql;
use crate::value::values;

/// What a process says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// The upstream, or upstreams, that it stands before.
    pub server: String,
    /// `run`, `bridge`, `serve`.
    pub mode: String,
    /// Callgate's version.
    pub version: String,
    /// The revision of the policy.
    pub policy: Option<String>,
    /// How the servers behind it are, as JSON: an array.
    pub servers: Option<String>,
}

/// A process that has used the store, as it was last seen. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// What it says of itself.
    pub instance: Instance,
    /// Its id; records name it.
    pub id: String,
    /// Its process id.
    pub pid: u32,
    /// Since when.
    pub started: i64,
    /// Its last heartbeat.
    pub seen: i64,
    /// Whether that was a short while ago. A process that was killed stays listed for a day, and is not alive.
    pub alive: bool,
}

pub(crate) fn beat(sql: Sql<'_>, id: &str, instance: &Instance, started: i64, now: i64) -> Result<(), Fault> {
    let (pid, policy) = (i64::from(std::process::id()), instance.policy.as_deref());
    sql.execute(
        "INSERT INTO instances(id, pid, server, mode, version, policy, started, seen, servers)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT(id) DO UPDATE SET pid = excluded.pid, server = excluded.server, mode = excluded.mode,
             version = excluded.version, policy = excluded.policy, started = excluded.started, seen = excluded.seen,
             servers = excluded.servers",
        values![id, pid, &instance.server, &instance.mode, &instance.version, policy, started, now, instance.servers.as_deref()],
    )?;
    Ok(())
}

pub(crate) fn leave(sql: Sql<'_>, id: &str) -> Result<(), Fault> {
    sql.execute("DELETE FROM instances WHERE id = ?1", values![id])?;
    Ok(())
}

pub(crate) fn prune(sql: Sql<'_>, now: i64) -> Result<(), Fault> {
    sql.execute("DELETE FROM instances WHERE seen < ?1", values![now.saturating_sub(KEPT_MS)])?;
    Ok(())
}

pub(crate) fn all(sql: Sql<'_>, now: i64) -> Result<Vec<Running>, Fault> {
    let find = "SELECT id, pid, server, mode, version, policy, started, seen, servers FROM instances ORDER BY started, id";
    sql.rows(find, &[], |row| {
        let seen: i64 = row.get(7)?;
        Ok(Running {
            id: row.get(0)?,
            pid: u32::try_from(row.get::<i64>(1)?).unwrap_or(0),
            instance: Instance {
                server: row.get(2)?,
                mode: row.get(3)?,
                version: row.get(4)?,
                policy: row.get(5)?,
                servers: row.get(8)?,
            },
            started: row.get(6)?,
            seen,
            alive: now.saturating_sub(seen) < ALIVE_MS,
        })
    })
}

/// Three heartbeats.
const ALIVE_MS: i64 = 30_000;
const KEPT_MS: i64 = 24 * 3_600_000;
