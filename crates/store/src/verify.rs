//! Checking the audit log: offline, reading only.
//!
//! Records are walked in order; each must have the next number, hold the hash of the one before it, and have its own hash.
//! Whoever can write to the file can make such a chain anew, so signed statements pin it: the anchor its beginning, the
//! checkpoints places in the middle, the head its end. What the journal holds beyond the database continues the walk, and
//! what both hold must be equal.

use crate::chain::GENESIS;
use crate::draft::Row;
use crate::error::Fault;
use crate::journal::Tail;
use crate::key::{Kind, PublicKey, Statement, sha256};
use crate::moment::{Beside, Contents};
use crate::sql::{self, Sql};
use json::{Decimal, Document, Strictness};
use rusqlite::{Connection, OptionalExtension};

/// What checking the audit log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Whether nothing is wrong.
    pub valid: bool,
    /// How many records there are.
    pub records: u64,
    /// The first place where something is wrong.
    pub first_broken: Option<Broken>,
    /// What such a check cannot find, whatever it says; sentences for people.
    pub undetectable: Vec<String>,
}

/// A place in the chain where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The number of the record; that of the one that should be there, where records are missing.
    pub seq: i64,
    /// The decision's id, as far as it can be read.
    pub id: Option<String>,
    /// What is wrong.
    pub problem: String,
}

impl Broken {
    pub(crate) fn at(seq: i64, problem: impl Into<String>) -> Broken {
        Broken { seq, id: None, problem: problem.into() }
    }
}

/// Checks the whole log. `key` is the public key from the key file; without it the one in the state file must do.
pub(crate) fn verify(connection: &Connection, key: Option<PublicKey>, beside: &Beside) -> Result<Verification, Fault> {
    let mut records = 0;
    let first_broken = match check(connection, key.as_ref(), beside, &mut records) {
        // A table that is gone, or damage below the level of rows.
        Err(Fault::Sqlite(error)) if is_damage(&error) => {
            Some(Broken::at(i64::try_from(records).unwrap_or(0) + 1, format!("the file is damaged: {error}")))
        }
        found => found?,
    };
    Ok(Verification { valid: first_broken.is_none(), records, first_broken, undetectable: undetectable(key.is_some()) })
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode as Code;
    !matches!(
        error.sqlite_error_code(),
        Some(Code::DatabaseBusy | Code::DatabaseLocked | Code::SystemIoFailure | Code::CannotOpen | Code::OutOfMemory)
    )
}

fn undetectable(has_key_file: bool) -> Vec<String> {
    let mut limits = vec![
        "the whole file put back to an older state: compare the number of records with a line exported earlier".to_owned(),
        "records made up or changed, and the chain signed anew, by someone who holds the key file or runs as its owner"
            .to_owned(),
        "the last records of a process that was killed, if the journal was cut between two of them before the database followed"
            .to_owned(),
        "events that never reached callgate, or that it could not write down: it denies those calls".to_owned(),
    ];
    if !has_key_file {
        limits.push(
            "the whole log made anew under another key: no key file lies beside this one, so its public key was taken from the file itself"
                .to_owned(),
        );
    }
    limits
}

fn check(connection: &Connection, key: Option<&PublicKey>, beside: &Beside, records: &mut u64) -> Result<Option<Broken>, Fault> {
    let sql = Sql::File(connection);
    let head = statement(sql, "SELECT seq, hash, at, signature FROM head")?;
    let anchor = statement(sql, "SELECT seq, hash, at, signature FROM anchor")?;
    let mut walk =
        Walk::after(anchor.as_ref().map_or(0, |anchor| anchor.seq), anchor.as_ref().map_or(GENESIS, |anchor| &anchor.hash));
    let beginning = walk.expected;
    let own = crate::sqlite::public_key(connection).unwrap_or_default();
    let public = match (key, own) {
        (Some(key), Some(own)) if *key != own => {
            return counted(
                connection,
                records,
                Broken::at(beginning, "the state file names another public key than its key file"),
            );
        }
        (Some(key), Some(_)) => key.clone(),
        (None, Some(own)) => own,
        (_, None) => {
            return counted(connection, records, Broken::at(beginning, "the public key of the log is missing or spoilt"));
        }
    };
    let mut signatures = Signatures::read(sql, CHECKPOINTS, &public, beginning - 1)?;
    if let Some(anchor) = &anchor
        && !anchor.is_signed(Kind::Anchor, &public)
    {
        return counted(
            connection,
            records,
            Broken::at(anchor.seq, "the mark of what retention has removed is not signed with the key"),
        );
    }

    let mut first: Option<Broken> = None;
    let mut query = connection.prepare("SELECT seq, body, hash FROM main.audit ORDER BY seq")?;
    let mut rows = query.query([])?;
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            // Damage below the level of rows is damage of the log.
            Err(error) => {
                first = first.or(Some(Broken::at(walk.expected, format!("the file is damaged here: {error}"))));
                break;
            }
        };
        *records += 1;
        if first.is_none() {
            first = match read(&sql::Row::File(row))? {
                Ok(row) => walk.step(&row).or_else(|| signatures.compare(&row)),
                Err(broken) => Some(broken),
            };
        }
    }
    drop(rows);
    let beginning = anchor.map_or(0, |anchor| anchor.seq);
    first = first.or_else(|| signatures.rest(walk.expected)).or_else(|| end(&walk, head.as_ref(), &public));
    let beyond = check_journal(connection, beside, beginning, &mut walk, records)?;
    Ok(first.or(beyond))
}

/// Compares the journal with the database, and walks on through what only the journal has.
fn check_journal(
    connection: &Connection,
    beside: &Beside,
    beginning: i64,
    walk: &mut Walk,
    records: &mut u64,
) -> Result<Option<Broken>, Fault> {
    let contents = match beside {
        Beside::Nothing => return Ok(None),
        Beside::Missing => {
            return Ok(Some(Broken::at(walk.expected, "the journal is missing: records may have been cut off with it")));
        }
        Beside::Spoilt => return Ok(Some(Broken::at(walk.expected, "the first line of the journal was changed"))),
        Beside::Foreign => {
            return Ok(Some(Broken::at(
                walk.expected,
                "the journal belongs to another state of this file: one of them was exchanged",
            )));
        }
        Beside::FalseMark => {
            return Ok(Some(Broken::at(
                walk.expected,
                "the mark of how far the journal was followed is not sealed with the key",
            )));
        }
        Beside::Found(contents) => contents,
    };
    let Contents { base, groups, tail, followed, rest } = contents;
    let mut compare = connection.prepare("SELECT body, hash FROM main.audit WHERE seq = ?1")?;
    let (mut first, mut next) = (None, base + 1);
    for group in groups {
        for row in &group.records {
            next = row.seq + 1;
            if first.is_none() && group.end <= *followed && row.seq > beginning {
                let stored: Option<(String, String)> =
                    compare.query_row([row.seq], |row| Ok((row.get(0)?, row.get(1)?))).optional().unwrap_or_default();
                if stored.is_none_or(|(body, hash)| body != row.body || hash != row.hash) {
                    first =
                        Some(Broken { seq: row.seq, id: id_of(&row.body), problem: "the journal has it otherwise".to_owned() });
                }
            }
            if group.end > *followed {
                *records += 1;
                first = first.or_else(|| walk.step(row));
            }
        }
    }
    if first.is_some() || *tail != Tail::Damaged {
        return Ok(first);
    }
    // Which record of the damaged part it is, as far as that can be made out.
    let mut rows = rest.iter().take(1).flat_map(|group| &group.records);
    let named = rows.find(|row| *sha256(row.body.as_bytes()) != *row.hash).map(|row| Broken {
        seq: row.seq,
        id: id_of(&row.body),
        problem: "its text in the journal does not have its hash: one of them was changed".to_owned(),
    });
    let there = "the journal was changed here, or damaged: this part is not sealed with the key";
    Ok(Some(named.filter(|broken| broken.seq == next).unwrap_or_else(|| Broken::at(next, there))))
}

fn counted(connection: &Connection, records: &mut u64, broken: Broken) -> Result<Option<Broken>, Fault> {
    let count: i64 = connection.query_row("SELECT count(*) FROM main.audit", [], |row| row.get(0))?;
    *records = count.unsigned_abs();
    Ok(Some(broken))
}

/// Compares where the walk ended with the signed head.
pub(crate) fn end(walk: &Walk, head: Option<&Signed>, public: &PublicKey) -> Option<Broken> {
    let last = walk.expected - 1;
    let Some(head) = head else {
        return Some(Broken::at(last, "the signed head of the chain is missing: records may have been cut off"));
    };
    if !head.is_signed(Kind::Head, public) {
        return Some(Broken::at(last, "the head of the chain is not signed with the key: records may have been cut off"));
    }
    if head.seq > last {
        return Some(Broken::at(
            walk.expected,
            format!("records are missing at the end: the signed head names record {}", head.seq),
        ));
    }
    if head.seq < last {
        return Some(Broken::at(head.seq + 1, "it comes after the signed head: it was not written by callgate"));
    }
    (head.hash != walk.prev).then(|| Broken::at(last, "it is not the record that the signed head names: the chain was made anew"))
}

/// A signed row: of `head`, `anchor` or `checkpoints`.
pub(crate) struct Signed {
    pub seq: i64,
    pub hash: String,
    at: i64,
    signature: String,
}

impl Signed {
    pub fn is_signed(&self, kind: Kind, public: &PublicKey) -> bool {
        Statement { kind, seq: self.seq, hash: &self.hash, at: self.at }.is_signed(public, &self.signature)
    }

    fn read(row: &sql::Row<'_>) -> Result<Signed, Fault> {
        Ok(Signed { seq: row.get(0)?, hash: row.get(1)?, at: row.get(2)?, signature: row.get(3)? })
    }
}

/// Reads a signed row: its number, hash, time and signature.
pub(crate) fn statement(sql: Sql<'_>, query: &str) -> Result<Option<Signed>, Fault> {
    sql.row(query, &[], Signed::read)
}

const CHECKPOINTS: &str = "SELECT seq, hash, at, signature FROM checkpoints ORDER BY seq DESC";

/// The checkpoints, met one by one on the way.
pub(crate) struct Signatures<'k> {
    public: &'k PublicKey,
    /// Latest first.
    ahead: Vec<Signed>,
    /// The last record that is known to be the one that was written.
    passed: i64,
}

impl<'k> Signatures<'k> {
    /// `query` gives them, latest first.
    pub fn read(sql: Sql<'_>, query: &str, public: &'k PublicKey, passed: i64) -> Result<Signatures<'k>, Fault> {
        Ok(Signatures { public, ahead: sql.rows(query, &[], Signed::read)?, passed })
    }

    pub fn compare(&mut self, row: &Row) -> Option<Broken> {
        let checkpoint = self.ahead.pop_if(|checkpoint| checkpoint.seq <= row.seq)?;
        if checkpoint.seq != row.seq || !checkpoint.is_signed(Kind::Checkpoint, self.public) {
            return Some(Broken::at(checkpoint.seq, "the checkpoint at this record is not signed with the key"));
        }
        if checkpoint.hash != row.hash {
            let problem = format!(
                "the chain was made anew somewhere from here to record {}: the checkpoint there names another hash",
                row.seq
            );
            return Some(Broken::at(self.passed + 1, problem));
        }
        self.passed = row.seq;
        None
    }

    pub fn rest(&self, expected: i64) -> Option<Broken> {
        let next = self.ahead.last()?;
        Some(Broken::at(expected, format!("records are missing: there is a checkpoint at record {}", next.seq)))
    }
}

/// Walks from record to record.
pub(crate) struct Walk {
    pub expected: i64,
    pub prev: String,
}

impl Walk {
    pub fn after(seq: i64, hash: &str) -> Walk {
        Walk { expected: seq + 1, prev: hash.to_owned() }
    }

    /// Takes one step, or says what is wrong with it.
    pub fn step(&mut self, row: &Row) -> Option<Broken> {
        let broken = |problem: &str| Some(Broken { seq: row.seq, id: id_of(&row.body), problem: problem.to_owned() });
        if row.seq < self.expected {
            return broken("it comes before the beginning of the log");
        }
        if row.seq > self.expected {
            let until = row.seq - 1;
            let problem = if until == self.expected {
                "it is missing".to_owned()
            } else {
                format!("records {} to {until} are missing", self.expected)
            };
            return Some(Broken::at(self.expected, problem));
        }
        if *sha256(row.body.as_bytes()) != *row.hash {
            return broken("its text does not have its hash: one of them was changed");
        }
        let Ok(document) = Document::parse(row.body.clone(), Strictness::Request) else {
            return broken("it is not a record");
        };
        let number = document.root().get("seq").and_then(json::Value::as_decimal);
        if number != Decimal::parse(&row.seq.to_string()) {
            return broken("its text belongs under another number");
        }
        let prev = document.root().get("prev").and_then(json::Value::as_str);
        if prev.as_deref() != Some(self.prev.as_str()) {
            return broken("it does not follow the record before it");
        }
        *self = Walk::after(row.seq, &row.hash);
        None
    }
}

pub(crate) fn id_of(body: &str) -> Option<String> {
    let document = Document::parse(body.to_owned(), Strictness::Request).ok()?;
    document.root().get("id")?.as_str().map(std::borrow::Cow::into_owned)
}

/// Reads a row as it is stored: a text kept as anything but text has been changed.
pub(crate) fn read(row: &sql::Row<'_>) -> Result<Result<Row, Broken>, Fault> {
    let seq = row.get(0)?;
    Ok(match (row.strict(1)?, row.strict(2)?) {
        (Some(body), Some(hash)) => Ok(Row { seq, body, hash }),
        _ => Err(Broken::at(seq, "it is not a text")),
    })
}
