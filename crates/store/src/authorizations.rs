//! What users have authorised a gateway to do at servers, sealed by whoever keeps it here.
//!
//! What is kept is a text that this module cannot read, by server and principal; the key to it never comes near the state.
//! A token that is refreshed may be good once only, so one gateway at a time refreshes: it claims the row first, and writes
//! only over what it has read. Each change counts up a version, so that gateways notice by looking at one row.

use crate::chain::Ledger;
use crate::draft::{Draft, Phase};
use crate::error::Fault;
use crate::key::random_id;
use crate::sql::{Row, Sql};
use crate::value::values;

/// What is kept of one authorisation. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAuthorization {
    /// The server it is for.
    pub server: String,
    /// Whose it is. Empty: what the gateway itself is known by there, for all principals.
    pub principal: String,
    /// What only its keeper can open.
    pub sealed: String,
    /// When it was written.
    pub changed: i64,
    /// Counts up with every write of this row, and is never the same again.
    pub version: i64,
}

/// A change of an authorisation.
#[derive(Clone, Debug)]
pub enum AuthorizationChange {
    /// Given anew, whatever was there; recorded.
    Give(String),
    /// Refreshed, if this version is still there; not recorded.
    Refresh {
        /// What was read before.
        version: i64,
        /// What takes its place.
        sealed: String,
    },
    /// Nobody else is to refresh this version for so many milliseconds; not recorded.
    Claim {
        /// What was read before.
        version: i64,
        /// For how long.
        for_ms: i64,
    },
    /// The end of it; recorded. With a version: only of that one.
    Forget(Option<i64>),
}

/// Carries out a change; says whether there was anything to change. `by` says who wanted it.
pub(crate) fn change(
    ledger: &mut Ledger<'_>,
    server: &str,
    principal: &str,
    change: &AuthorizationChange,
    by: &str,
) -> Result<bool, Fault> {
    let now = ledger.now();
    let sql = ledger.sql;
    let (done, recorded) = match change {
        AuthorizationChange::Give(sealed) => {
            let version = next_version(sql)?;
            sql.execute("DELETE FROM authorizations WHERE server = ?1 AND principal = ?2", values![server, principal])?;
            let row = values![server, principal, sealed, now, version];
            sql.execute(
                "INSERT INTO authorizations(server, principal, sealed, changed, version) VALUES (?1, ?2, ?3, ?4, ?5)",
                row,
            )?;
            (1, Some("authorizations/give"))
        }
        AuthorizationChange::Refresh { version, sealed } => {
            let next = next_version(sql)?;
            let text = "UPDATE authorizations SET sealed = ?4, changed = ?5, version = ?6, busy_until = 0
                        WHERE server = ?1 AND principal = ?2 AND version = ?3";
            (sql.execute(text, values![server, principal, *version, sealed, now, next])?, None)
        }
        AuthorizationChange::Claim { version, for_ms } => {
            let text = "UPDATE authorizations SET busy_until = ?4
                        WHERE server = ?1 AND principal = ?2 AND version = ?3 AND busy_until <= ?5";
            (sql.execute(text, values![server, principal, *version, now.saturating_add(*for_ms), now])?, None)
        }
        AuthorizationChange::Forget(version) => {
            let done = match version {
                Some(version) => sql.execute(
                    "DELETE FROM authorizations WHERE server = ?1 AND principal = ?2 AND version = ?3",
                    values![server, principal, *version],
                )?,
                None => {
                    sql.execute("DELETE FROM authorizations WHERE server = ?1 AND principal = ?2", values![server, principal])?
                }
            };
            if done > 0 {
                next_version(sql)?;
            }
            (done, Some("authorizations/forget"))
        }
    };
    if let Some(method) = recorded.filter(|_| done > 0) {
        ledger.append(&Draft {
            id: random_id(16).map_err(Fault::State)?.into(),
            phase: Phase::Admin,
            method: Some(method.to_owned().into()),
            principal: Some(by.into()),
            server: Some(server.into()),
            detail: Some(if principal.is_empty() { "of the gateway itself".to_owned() } else { format!("of {principal}") }),
            ..Draft::default()
        })?;
    }
    Ok(done > 0)
}

/// Which issuer a server at the address `resource` has named first: `issuer`, where none is known or that is known as `formerly`,
/// and that is recorded.
pub(crate) fn first_issuer(
    ledger: &mut Ledger<'_>,
    server: &str,
    resource: &str,
    issuer: &str,
    formerly: &str,
) -> Result<String, Fault> {
    let (sql, now) = (ledger.sql, ledger.now());
    let known = "SELECT issuer FROM issuers WHERE server = ?1 AND resource = ?2";
    let known: Option<String> = sql.row(known, values![server, resource], |row| row.get(0))?;
    let told = match known {
        Some(known) if known == issuer || known != formerly => return Ok(known),
        Some(_) => {
            let text = "UPDATE issuers SET issuer = ?3 WHERE server = ?1 AND resource = ?2";
            sql.execute(text, values![server, resource, issuer])?;
            "first named, now in full"
        }
        None => {
            let row = values![server, resource, issuer, now];
            sql.execute("INSERT INTO issuers(server, resource, issuer, since) VALUES (?1, ?2, ?3, ?4)", row)?;
            "first named"
        }
    };
    ledger.append(&Draft {
        id: random_id(16).map_err(Fault::State)?.into(),
        phase: Phase::Admin,
        method: Some("authorizations/issuer".into()),
        principal: Some("callgate".into()),
        server: Some(server.into()),
        detail: Some(format!("{told}: {issuer}")),
        ..Draft::default()
    })?;
    Ok(issuer.to_owned())
}

/// Counts the version of all of them up; gives what it is then.
fn next_version(sql: Sql<'_>) -> Result<i64, Fault> {
    sql.execute(
        "INSERT INTO meta(name, value) VALUES ('authorizations', '1')
         ON CONFLICT(name) DO UPDATE SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT)",
        &[],
    )?;
    version(sql)
}

/// Counts up with every change; 0 before the first.
pub(crate) fn version(sql: Sql<'_>) -> Result<i64, Fault> {
    let version = sql.row("SELECT value FROM meta WHERE name = 'authorizations'", &[], |row| row.get::<String>(0))?;
    Ok(version.and_then(|version| version.parse().ok()).unwrap_or(0))
}

/// All that are kept, by server and principal.
pub(crate) fn all(sql: Sql<'_>) -> Result<Vec<StoredAuthorization>, Fault> {
    sql.rows("SELECT server, principal, sealed, changed, version FROM authorizations ORDER BY server, principal", &[], read)
}

fn read(row: &Row<'_>) -> Result<StoredAuthorization, Fault> {
    Ok(StoredAuthorization {
        server: row.get(0)?,
        principal: row.get(1)?,
        sealed: row.get(2)?,
        changed: row.get(3)?,
        version: row.get(4)?,
    })
}
