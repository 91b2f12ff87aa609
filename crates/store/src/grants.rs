//! Grants that are made by people while gateways run, and what became of grants anywhere.
//!
//! A token is shown once and never kept: what is kept is its digest under the key of this state, so that whoever reads the
//! rows can neither use one nor try likely ones. What a grant allows is a text that this module does not read. A revocation
//! lies here also for a grant of a file. Each change counts up a version, so that gateways notice by looking at one row.

use crate::StoreError;
use crate::chain::Ledger;
use crate::draft::{Draft, Phase};
use crate::error::Fault;
use crate::key::{DigestKey, random_id};
use crate::sql::{Row, Sql};
use crate::value::values;

/// What is kept of a grant. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGrant {
    /// Its name.
    pub name: String,
    /// What it allows, as it was given; `None` of a grant of a file, of which only the revocation lies here.
    pub spec: Option<String>,
    /// The digest of its token, as [`DigestKey::of_token`] makes it.
    pub digest: Option<String>,
    /// The digest of the token before that, and until when it is good.
    pub former: Option<(String, i64)>,
    /// When it was made.
    pub created: i64,
    /// When it was changed last.
    pub changed: i64,
    /// When it was revoked.
    pub revoked: Option<i64>,
}

/// A change of grants.
#[derive(Clone, Debug)]
pub enum GrantChange {
    /// A new one, with the digest of its token.
    Create {
        /// What it allows.
        spec: String,
        /// The digest of its token.
        digest: String,
    },
    /// Another token; the one before is good for so many milliseconds more.
    Rotate {
        /// The digest of the new token.
        digest: String,
        /// For how long the one before is good.
        overlap_ms: i64,
    },
    /// The end of it. Of a grant that is not kept here (it stands in a file) the revocation is kept.
    Revoke,
}

impl DigestKey {
    /// The digest of a grant's token, in hexadecimal.
    pub fn of_token(&self, token: &str) -> String {
        self.digest(format!("callgate grant v1\n{token}").as_bytes())
    }
}

/// Carries out a change, and records it. `by` says who wanted it.
pub(crate) fn change(ledger: &mut Ledger<'_>, name: &str, change: &GrantChange, by: &str) -> Result<StoredGrant, Fault> {
    let now = ledger.now();
    let known = find(ledger.sql, name)?;
    let refused = |problem: &str| StoreError::Grant(format!("the grant `{name}` {problem}"));
    let (method, grant) = match (change, known) {
        (GrantChange::Create { .. }, Some(_)) => return Err(refused("exists already, or has existed; take another name").into()),
        (GrantChange::Create { spec, digest }, None) => {
            let (spec, digest) = (Some(spec.clone()), Some(digest.clone()));
            let (created, changed) = (now, now);
            ("grants/create", StoredGrant { name: name.to_owned(), spec, digest, former: None, created, changed, revoked: None })
        }
        (_, Some(StoredGrant { revoked: Some(_), .. })) => return Err(refused("is revoked").into()),
        (GrantChange::Rotate { digest, overlap_ms }, Some(known)) if known.spec.is_some() => {
            let former = known.digest.filter(|_| *overlap_ms > 0).map(|digest| (digest, now.saturating_add(*overlap_ms)));
            ("grants/rotate", StoredGrant { digest: Some(digest.clone()), former, changed: now, ..known })
        }
        (GrantChange::Rotate { .. }, _) => return Err(refused("is not kept here").into()),
        (GrantChange::Revoke, known) => {
            let kept = known.unwrap_or_else(|| StoredGrant {
                name: name.to_owned(),
                spec: None,
                digest: None,
                former: None,
                created: now,
                changed: now,
                revoked: None,
            });
            ("grants/revoke", StoredGrant { digest: None, former: None, changed: now, revoked: Some(now), ..kept })
        }
    };
    write(ledger.sql, &grant)?;
    ledger.append(&Draft {
        id: random_id(16).map_err(Fault::State)?,
        phase: Phase::Admin,
        method: Some(method.to_owned()),
        principal: Some(by.to_owned()),
        grant: Some(name.to_owned()),
        ..Draft::default()
    })?;
    Ok(grant)
}

fn write(sql: Sql<'_>, grant: &StoredGrant) -> Result<(), Fault> {
    let (former, until) = grant.former.as_ref().map(|(digest, until)| (digest.as_str(), *until)).unzip();
    sql.execute("DELETE FROM grants WHERE name = ?1", values![&grant.name])?;
    sql.execute(
        "INSERT INTO grants(name, spec, digest, former, former_until, created, changed, revoked)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        values![
            &grant.name,
            grant.spec.as_deref(),
            grant.digest.as_deref(),
            former,
            until,
            grant.created,
            grant.changed,
            grant.revoked
        ],
    )?;
    sql.execute(
        "INSERT INTO meta(name, value) VALUES ('grants', '1')
         ON CONFLICT(name) DO UPDATE SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT)",
        &[],
    )?;
    Ok(())
}

/// Counts up with every change; 0 before the first.
pub(crate) fn version(sql: Sql<'_>) -> Result<i64, Fault> {
    let version = sql.row("SELECT value FROM meta WHERE name = 'grants'", &[], |row| row.get::<String>(0))?;
    Ok(version.and_then(|version| version.parse().ok()).unwrap_or(0))
}

fn find(sql: Sql<'_>, name: &str) -> Result<Option<StoredGrant>, Fault> {
    sql.row(&format!("SELECT {COLUMNS} FROM grants WHERE name = ?1"), values![name], read)
}

/// All that are kept, by name.
pub(crate) fn all(sql: Sql<'_>) -> Result<Vec<StoredGrant>, Fault> {
    sql.rows(&format!("SELECT {COLUMNS} FROM grants ORDER BY name"), &[], read)
}

const COLUMNS: &str = "name, spec, digest, former, former_until, created, changed, revoked";

fn read(row: &Row<'_>) -> Result<StoredGrant, Fault> {
    let former: (Option<String>, Option<i64>) = (row.get(3)?, row.get(4)?);
    Ok(StoredGrant {
        name: row.get(0)?,
        spec: row.get(1)?,
        digest: row.get(2)?,
        former: former.0.zip(former.1),
        created: row.get(5)?,
        changed: row.get(6)?,
        revoked: row.get(7)?,
    })
}
