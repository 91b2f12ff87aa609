//! What people have given to the gateway to keep: servers, policies and grants, each as the text that was given.
//!
//! A document is changed by putting another version in its place; versions are numbered from 1, and the number goes on where
//! a document was removed and comes again, so that a number never means two texts. The last hundred versions of each are kept.
//! Whoever changes one may say which version it has seen, so that nobody's change is lost, and what everything was when the
//! change was checked, so that two changes that only together are wrong do not both pass.
//!
//! This module does not read the texts. Every change counts up one number, so that gateways notice by looking at one row.

use crate::StoreError;
use crate::chain::Ledger;
use crate::draft::{Changed, Draft, Phase};
use crate::error::Fault;
use crate::key::{random_id, sha256};
use crate::sql::{Row, Sql};
use crate::value::values;

/// What a document describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DocumentKind {
    /// An upstream.
    Server,
    /// A policy.
    Policy,
    /// A grant; its token and its revocation are kept with it.
    Grant,
}

impl DocumentKind {
    /// `server`, `policy` or `grant`.
    pub fn as_str(self) -> &'static str {
        match self {
            DocumentKind::Server => "server",
            DocumentKind::Policy => "policy",
            DocumentKind::Grant => "grant",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            DocumentKind::Server => "servers",
            DocumentKind::Policy => "policies",
            DocumentKind::Grant => "grants",
        }
    }
}

/// One version of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name: one of each kind.
    pub name: String,
    /// Its number, from 1.
    pub version: i64,
    /// What was given; `None`: it was removed.
    pub text: Option<String>,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
    /// By whom.
    pub by: String,
}

impl Document {
    /// The SHA-256 of the text in hexadecimal; `None` where it was removed.
    pub fn digest(&self) -> Option<String> {
        self.text.as_deref().map(digest)
    }
}

/// What must hold for a change to be carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Which version is to be changed.
    pub expected: Expected,
    /// The version of everything that is kept (`Kept::version`), as of which the change was checked.
    pub checked_at: Option<i64>,
}

/// Which version of a document is to be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Whichever there is, or none.
    #[default]
    Any,
    /// None: it is to be a new one.
    Nothing,
    /// Whichever there is, but one.
    Something,
    /// This one.
    Version(i64),
}

/// Puts another version of a server or policy in the place of the one there is, or removes it, and records that. `by` says
/// who wanted it.
pub(crate) fn change(
    ledger: &mut Ledger<'_>,
    kind: DocumentKind,
    name: &str,
    text: Option<&str>,
    condition: Condition,
    by: &str,
) -> Result<Document, Fault> {
    let before = current(ledger.sql, kind, name)?;
    check(ledger.sql, kind, name, before.as_ref(), condition)?;
    let stands = before.as_ref().is_some_and(|document| document.text.is_some());
    if text.is_none() && !stands {
        return Err(StoreError::NoSuchDocument { kind: kind.as_str(), name: name.to_owned() }.into());
    }
    if !stands && count(ledger.sql, kind)? >= MOST {
        let full = format!("{MOST} {} are kept already; remove one that is not used", kind.plural());
        return Err(StoreError::Grant(full).into());
    }
    let document = write(ledger, kind, name, text, by)?;
    let done = match (stands, text.is_some()) {
        (_, false) => "remove",
        (true, true) => "change",
        (false, true) => "create",
    };
    record(ledger, kind, &document, before.and_then(|before| before.digest()), done, by)?;
    Ok(document)
}

/// # Errors
/// Where the condition does not hold.
pub(crate) fn check(
    sql: Sql<'_>,
    kind: DocumentKind,
    name: &str,
    before: Option<&Document>,
    condition: Condition,
) -> Result<(), Fault> {
    let standing = before.filter(|document| document.text.is_some()).map(|document| document.version);
    let holds = match condition.expected {
        Expected::Any => true,
        Expected::Nothing => standing.is_none(),
        Expected::Something => standing.is_some(),
        Expected::Version(expected) => standing == Some(expected),
    };
    if !holds {
        return Err(StoreError::OtherVersion { kind: kind.as_str(), name: name.to_owned(), standing }.into());
    }
    match condition.checked_at {
        Some(checked_at) if version(sql)? != checked_at => Err(StoreError::Moved.into()),
        _ => Ok(()),
    }
}

/// Writes the next version of a document, and counts up.
pub(crate) fn write(
    ledger: &Ledger<'_>,
    kind: DocumentKind,
    name: &str,
    text: Option<&str>,
    by: &str,
) -> Result<Document, Fault> {
    let (sql, at) = (ledger.sql, ledger.now());
    let version = current(sql, kind, name)?.map_or(0, |document| document.version) + 1;
    sql.execute(
        "INSERT INTO documents(kind, name, version, text, at, by_whom) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        values![kind.as_str(), name, version, text, at, by],
    )?;
    sql.execute(
        "DELETE FROM documents WHERE kind = ?1 AND name = ?2 AND version <= ?3",
        values![kind.as_str(), name, version - HISTORY],
    )?;
    count_up(sql)?;
    Ok(Document { name: name.to_owned(), version, text: text.map(str::to_owned), at, by: by.to_owned() })
}

/// Records that a document has another version.
pub(crate) fn record(
    ledger: &mut Ledger<'_>,
    kind: DocumentKind,
    document: &Document,
    before: Option<String>,
    done: &str,
    by: &str,
) -> Result<(), Fault> {
    let named = |of: DocumentKind| (kind == of).then(|| document.name.as_str().into());
    let after = document.digest();
    ledger.append(&Draft {
        id: random_id(16).map_err(Fault::State)?.into(),
        phase: Phase::Admin,
        method: Some(format!("{}/{done}", kind.plural()).into()),
        principal: Some(by.into()),
        server: named(DocumentKind::Server),
        grant: named(DocumentKind::Grant),
        change: Some(Changed { kind: kind.as_str(), name: document.name.clone(), version: document.version, before, after }),
        ..Draft::default()
    })?;
    Ok(())
}

/// The last version of a document, which may say that it was removed.
pub(crate) fn current(sql: Sql<'_>, kind: DocumentKind, name: &str) -> Result<Option<Document>, Fault> {
    Ok(history(sql, kind, name, 1)?.pop())
}

/// The last versions of a document, the latest first.
pub(crate) fn history(sql: Sql<'_>, kind: DocumentKind, name: &str, most: i64) -> Result<Vec<Document>, Fault> {
    let find =
        "SELECT name, version, text, at, by_whom FROM documents WHERE kind = ?1 AND name = ?2 ORDER BY version DESC LIMIT ?3";
    sql.rows(find, values![kind.as_str(), name, most], read)
}

/// The documents of a kind that there are now, by name.
pub(crate) fn all(sql: Sql<'_>, kind: DocumentKind) -> Result<Vec<Document>, Fault> {
    let find = format!("SELECT name, version, text, at, by_whom FROM documents AS d WHERE {STANDING} ORDER BY name");
    sql.rows(&find, values![kind.as_str()], read)
}

fn count(sql: Sql<'_>, kind: DocumentKind) -> Result<i64, Fault> {
    let find = format!("SELECT count(*) FROM documents AS d WHERE {STANDING}");
    Ok(sql.row(&find, values![kind.as_str()], |row| row.get(0))?.unwrap_or(0))
}

fn read(row: &Row<'_>) -> Result<Document, Fault> {
    Ok(Document { name: row.get(0)?, version: row.get(1)?, text: row.get(2)?, at: row.get(3)?, by: row.get(4)? })
}

/// Counts up with every change of a document or grant; 0 before the first.
pub(crate) fn version(sql: Sql<'_>) -> Result<i64, Fault> {
    let version = sql.row("SELECT value FROM meta WHERE name = 'grants'", &[], |row| row.get::<String>(0))?;
    Ok(version.and_then(|version| version.parse().ok()).unwrap_or(0))
}

/// Says that something has changed. The name of the number is that of what changed first, in earlier versions.
pub(crate) fn count_up(sql: Sql<'_>) -> Result<(), Fault> {
    sql.execute(
        "INSERT INTO meta(name, value) VALUES ('grants', '1')
         ON CONFLICT(name) DO UPDATE SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT)",
        &[],
    )?;
    Ok(())
}

/// The SHA-256 of a text, in hexadecimal.
pub(crate) fn digest(text: &str) -> String {
    sha256(text.as_bytes()).to_string()
}

const STANDING: &str = "kind = ?1 AND text IS NOT NULL AND version =
    (SELECT max(version) FROM documents AS other WHERE other.kind = d.kind AND other.name = d.name)";
/// So many versions of a document are kept.
pub(crate) const HISTORY: i64 = 100;
/// So many documents of a kind may stand.
const MOST: i64 = 10_000;
