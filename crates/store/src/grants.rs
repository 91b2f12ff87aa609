//! Grants that are made by people while gateways run, and what became of grants anywhere.
//!
//! A token is shown once and never kept: what is kept is its digest under the key of this state, so that whoever reads the
//! rows can neither use one nor try likely ones. What a grant allows is a text that this module does not read. A revocation
//! lies here also for a grant of a file. Each text is a document,
//! version by version.

use crate::StoreError;
use crate::chain::Ledger;
use crate::documents::{self, Condition, Document, DocumentKind};
use crate::error::Fault;
use crate::key::DigestKey;
use crate::sql::{Row, Sql};
use crate::value::values;

/// What is kept of a grant. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGrant {
    /// Its name.
    pub name: String,
    /// The number of what it allows, as [`Document::version`]; 0 of a grant of a file.
    pub version: i64,
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

/// Everything that people have given to keep, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Counts up with every change; 0 before the first.
    pub version: i64,
    /// The servers, by name.
    pub servers: Vec<Document>,
    /// The policies, by name.
    pub policies: Vec<Document>,
    /// What became of grants, by name: also of those that are revoked, and of those that stand in a file.
    pub grants: Vec<StoredGrant>,
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
    /// Something else that it allows; its token stays.
    Replace {
        /// What it allows from now on.
        spec: String,
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
pub(crate) fn change(
    ledger: &mut Ledger<'_>,
    name: &str,
    change: &GrantChange,
    condition: Condition,
    by: &str,
) -> Result<StoredGrant, Fault> {
    let (now, known) = (ledger.now(), find(ledger.sql, name)?);
    let before = documents::current(ledger.sql, KIND, name)?;
    documents::check(ledger.sql, KIND, name, before.as_ref(), condition)?;
    let (done, mut grant) = changed(name, change, known, now)?;
    // A grant of a file has no text here, and a token is no part of it.
    let text = match change {
        GrantChange::Rotate { .. } => None,
        GrantChange::Revoke => grant.spec.is_some().then_some(None),
        GrantChange::Create { spec, .. } | GrantChange::Replace { spec } => Some(Some(spec.as_str())),
    };
    write(ledger.sql, &grant)?;
    let was = before.as_ref().and_then(Document::digest);
    let document = match text {
        Some(text) => documents::write(ledger, KIND, name, text, by)?,
        None => {
            documents::count_up(ledger.sql)?;
            let nothing = || Document { name: name.to_owned(), version: 0, text: None, at: now, by: by.to_owned() };
            before.unwrap_or_else(nothing)
        }
    };
    grant.version = document.version;
    documents::record(ledger, KIND, &document, was, done, by)?;
    Ok(grant)
}

/// What a change makes of a grant, and its name in records.
fn changed(
    name: &str,
    change: &GrantChange,
    known: Option<StoredGrant>,
    now: i64,
) -> Result<(&'static str, StoredGrant), StoreError> {
    let refused = |problem: &str| StoreError::Grant(format!("the grant `{name}` {problem}"));
    let new = |spec, digest| StoredGrant {
        name: name.to_owned(),
        version: 0,
        spec,
        digest,
        former: None,
        created: now,
        changed: now,
        revoked: None,
    };
    Ok(match (change, known) {
        (GrantChange::Create { .. }, Some(_)) => return Err(refused("exists already, or has existed; take another name")),
        (GrantChange::Create { spec, digest }, None) => ("create", new(Some(spec.clone()), Some(digest.clone()))),
        (_, Some(StoredGrant { revoked: Some(_), .. })) => return Err(refused("is revoked")),
        (GrantChange::Replace { spec }, Some(known)) if known.spec.is_some() => {
            ("change", StoredGrant { spec: Some(spec.clone()), changed: now, ..known })
        }
        (GrantChange::Rotate { digest, overlap_ms }, Some(known)) if known.spec.is_some() => {
            let former = known.digest.filter(|_| *overlap_ms > 0).map(|digest| (digest, now.saturating_add(*overlap_ms)));
            ("rotate", StoredGrant { digest: Some(digest.clone()), former, changed: now, ..known })
        }
        (GrantChange::Replace { .. } | GrantChange::Rotate { .. }, _) => return Err(refused("is not kept here")),
        (GrantChange::Revoke, known) => {
            let kept = known.unwrap_or_else(|| new(None, None));
            ("revoke", StoredGrant { digest: None, former: None, changed: now, revoked: Some(now), ..kept })
        }
    })
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
    Ok(())
}

fn find(sql: Sql<'_>, name: &str) -> Result<Option<StoredGrant>, Fault> {
    sql.row(&format!("SELECT {COLUMNS} FROM grants WHERE name = ?1"), values![name], read)
}

/// All that are kept, by name.
pub(crate) fn all(sql: Sql<'_>) -> Result<Vec<StoredGrant>, Fault> {
    sql.rows(&format!("SELECT {COLUMNS} FROM grants ORDER BY name"), &[], read)
}

const COLUMNS: &str = "name, spec, digest, former, former_until, created, changed, revoked,
    (SELECT coalesce(max(version), 0) FROM documents AS d WHERE d.kind = 'grant' AND d.name = grants.name)";
const KIND: DocumentKind = DocumentKind::Grant;

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
        version: row.get(8)?,
    })
}
