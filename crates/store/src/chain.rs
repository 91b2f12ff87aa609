//! The chain of audit records: appending to it, signing its head, cutting off its old end.
//!
//! Every record holds the hash of the one before it; the **head** row says which record is the last, and is signed in the
//! same transaction as the records. New records follow the head and not the last row found: rows cut off the end leave a
//! gap that stays to be seen.
//!
//! A **checkpoint** is a head that is kept; the **anchor** is the last record that retention has removed.

use crate::clock::Clock;
use crate::draft::{Draft, Recorded, Row, Stamp};
use crate::error::Fault;
use crate::key::{Kind, PublicKey, SecretKey, Statement, sha256};
use crate::sql::Sql;
use crate::value::values;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// The last record: its number and hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub seq: i64,
    pub hash: Arc<str>,
}

/// The `prev` of the first record of a file.
pub(crate) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The same where several chains lie in one database: none can pass for another.
pub(crate) fn genesis_of(chain: &str) -> String {
    sha256(format!("callgate audit chain v1\n{chain}\n").as_bytes()).to_string()
}

/// Who writes records: which process, and by which clock.
#[derive(Clone)]
pub(crate) struct Scribe {
    pub clock: Clock,
    /// The id of this process; records name it.
    pub instance: String,
    pub started: Instant,
}

impl Scribe {
    /// Appends to `out` the body of the record that follows `head`; gives what becomes of the draft.
    pub fn write(&self, draft: &Draft, head: &Head, at: i64, out: &mut String) -> Recorded {
        let (seq, begin) = (head.seq + 1, out.len());
        let instance = (!self.clock.is_simulated()).then(|| (self.instance.as_str(), self.started.elapsed().as_millis()));
        draft.write_body(&Stamp { seq, at, prev: &head.hash, instance }, out);
        Recorded { seq, at, hash: sha256(&out.as_bytes()[begin..]) }
    }
}

/// What jobs work with inside one transaction.
pub(crate) struct Ledger<'t> {
    pub sql: Sql<'t>,
    pub key: &'t SecretKey,
    pub scribe: &'t Scribe,
    pub head: Head,
    /// Where several chains lie in one database: which of them is continued, and the time there.
    pub shared: Option<Continued<'t>>,
}

/// One chain of several.
#[derive(Clone, Copy)]
pub(crate) struct Continued<'t> {
    /// Its id: letters and digits only.
    pub chain: &'t str,
    /// The database's time when the transaction began, in milliseconds since the Unix epoch.
    pub now: i64,
}

impl Ledger<'_> {
    /// The store's time.
    pub fn now(&self) -> i64 {
        self.shared.map_or_else(|| self.scribe.clock.now(), |shared| shared.now)
    }

    /// The `prev` of the chain's first record.
    pub fn genesis(&self) -> String {
        self.shared.map_or_else(|| GENESIS.to_owned(), |shared| genesis_of(shared.chain))
    }

    /// A statement that ends in a condition, for this chain only.
    pub fn of_chain(&self, text: &'static str) -> Cow<'static, str> {
        match self.shared {
            None => text.into(),
            Some(Continued { chain, .. }) => format!("{text} AND chain = '{chain}'").into(),
        }
    }

    /// Binds a draft into the chain.
    pub fn append(&mut self, draft: &Draft) -> Result<Recorded, Fault> {
        let mut body = String::with_capacity(768);
        let recorded = self.scribe.write(draft, &self.head, self.now(), &mut body);
        self.insert(recorded.seq, &body, &recorded.hash)?;
        Ok(recorded)
    }

    /// Takes over records of the journal.
    ///
    /// # Errors
    /// When one does not follow the head, or the one before it.
    pub fn take_over<'r>(&mut self, rows: impl Iterator<Item = &'r Row>) -> Result<(), Fault> {
        let mut insert = self.sql.file()?.prepare_cached("INSERT INTO audit(seq, body, hash) VALUES (?1, ?2, ?3)")?;
        let mut last: Option<&Row> = None;
        for row in rows {
            let (seq, hash) = last.map_or((self.head.seq, &*self.head.hash), |last| (last.seq, &*last.hash));
            let prev = row.body.strip_suffix("\"}").and_then(|body| body.strip_suffix(hash));
            let follows = row.seq == seq + 1 && prev.is_some_and(|body| body.ends_with(",\"prev\":\""));
            if !follows {
                return Err(Fault::State(format!(
                    "the database ends at record {seq}, and record {} of its journal does not follow; run `callgate audit verify`",
                    row.seq
                )));
            }
            insert.execute((row.seq, &row.body, &row.hash))?;
            last = Some(row);
        }
        if let Some(Row { seq, hash, .. }) = last {
            self.head = Head { seq: *seq, hash: hash.as_str().into() };
        }
        Ok(())
    }

    fn insert(&mut self, seq: i64, body: &str, hash: &str) -> Result<(), Fault> {
        match self.shared {
            None => self.sql.execute("INSERT INTO audit(seq, body, hash) VALUES (?1, ?2, ?3)", values![seq, body, hash])?,
            Some(Continued { chain, .. }) => {
                let insert = "INSERT INTO audit(chain, seq, body, hash) VALUES (?1, ?2, ?3, ?4)";
                self.sql.execute(insert, values![chain, seq, body, hash])?
            }
        };
        self.head = Head { seq, hash: hash.into() };
        Ok(())
    }

    /// Signs the head as it is now; keeps a checkpoint when `before` lies in another thousand.
    pub fn sign_head(&self, before: &Head) -> Result<(), Fault> {
        if self.head == *before {
            return Ok(());
        }
        let (&Head { seq, ref hash }, at) = (&self.head, self.now());
        let signature = self.key.sign(&Statement { kind: Kind::Head, seq, hash, at });
        let write = self.of_chain("UPDATE head SET seq = ?1, hash = ?2, at = ?3, signature = ?4 WHERE true");
        self.sql.execute(&write, values![seq, hash, at, &signature])?;
        if is_checkpoint(before.seq, self.head.seq) {
            self.keep_checkpoint()?;
        }
        Ok(())
    }

    /// Keeps the head as a checkpoint.
    pub fn keep_checkpoint(&self) -> Result<(), Fault> {
        if self.head.seq == 0 {
            return Ok(());
        }
        let (&Head { seq, ref hash }, at) = (&self.head, self.now());
        let signature = self.key.sign(&Statement { kind: Kind::Checkpoint, seq, hash, at });
        let values = values![seq, hash, at, &signature, self.shared.map(|shared| shared.chain)];
        match self.shared {
            None => self.sql.execute(
                "INSERT INTO checkpoints(seq, hash, at, signature) VALUES (?1, ?2, ?3, ?4) ON CONFLICT(seq) DO NOTHING",
                &values[..4],
            )?,
            Some(_) => self.sql.execute(
                "INSERT INTO checkpoints(seq, hash, at, signature, chain) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT(chain, seq) DO NOTHING",
                values,
            )?,
        };
        Ok(())
    }
}

/// Whether a checkpoint is due after records have brought a chain from one number to another.
pub(crate) fn is_checkpoint(before: i64, after: i64) -> bool {
    after / CHECKPOINT_EVERY != before / CHECKPOINT_EVERY
}

/// Writes the head of a file's chain, which has no records yet.
pub(crate) fn begin(sql: Sql<'_>, key: &SecretKey, at: i64) -> Result<(), Fault> {
    let signature = key.sign(&Statement { kind: Kind::Head, seq: 0, hash: GENESIS, at });
    let write = "INSERT INTO head(id, seq, hash, at, signature) VALUES (1, 0, ?1, ?2, ?3)";
    sql.execute(write, values![GENESIS, at, &signature])?;
    Ok(())
}

/// Reads the head that the next record follows. `known` is the head that this process has seen last.
///
/// # Errors
/// When the head is not signed with our key, or lies before `known`: then somebody has changed or exchanged the file, and
/// going on would cover it up.
pub(crate) fn read_head(sql: Sql<'_>, public: &PublicKey, known: Option<&Head>) -> Result<Head, Fault> {
    let found = sql.row("SELECT seq, hash, at, signature FROM head WHERE id = 1", &[], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    signed_head(found, public, known)
}

/// The same of a row that was read: number, hash, time and signature.
pub(crate) fn signed_head(
    found: Option<(i64, String, i64, String)>,
    public: &PublicKey,
    known: Option<&Head>,
) -> Result<Head, Fault> {
    let Some((seq, hash, at, signature)) = found else {
        return Err(Fault::State("the audit log has lost its signed head; run `callgate audit verify`".to_owned()));
    };
    let head = Head { seq, hash: hash.into() };
    if known == Some(&head) {
        return Ok(head);
    }
    if !(Statement { kind: Kind::Head, seq, hash: &head.hash, at }).is_signed(public, &signature) {
        return Err(Fault::State("the head of the audit log is not signed with its key; run `callgate audit verify`".to_owned()));
    }
    check_not_older(&head, known)?;
    Ok(head)
}

/// Whether a head may come after the one that this process has seen last.
///
/// # Errors
/// When it lies before that: then somebody has exchanged the file, and going on would cover it up.
pub(crate) fn check_not_older(head: &Head, known: Option<&Head>) -> Result<(), Fault> {
    match known {
        Some(known) if head != known && head.seq <= known.seq => Err(Fault::State(format!(
            "the audit log ends at record {}, but this process has seen record {}: the file was exchanged for an older one; \
             restart callgate if that was meant",
            head.seq, known.seq
        ))),
        _ => Ok(()),
    }
}

/// Removes the records up to `seq`, which must be there, and leaves a signed anchor in their place.
pub(crate) fn cut(ledger: &Ledger<'_>, seq: i64) -> Result<(), Fault> {
    let sql = ledger.sql;
    let hash: Option<String> =
        sql.row(&ledger.of_chain("SELECT hash FROM audit WHERE seq = ?1"), values![seq], |row| row.get(0))?;
    let hash = hash.ok_or_else(|| Fault::State(format!("record {seq} is missing; run `callgate audit verify`")))?;
    let at = ledger.now();
    let signature = ledger.key.sign(&Statement { kind: Kind::Anchor, seq, hash: &hash, at });
    sql.execute(&ledger.of_chain("DELETE FROM anchor WHERE true"), &[])?;
    let values = values![seq, &hash, at, &signature, ledger.shared.map(|shared| shared.chain)];
    match ledger.shared {
        None => sql.execute("INSERT INTO anchor(id, seq, hash, at, signature) VALUES (1, ?1, ?2, ?3, ?4)", &values[..4])?,
        Some(_) => sql.execute("INSERT INTO anchor(seq, hash, at, signature, chain) VALUES (?1, ?2, ?3, ?4, ?5)", values)?,
    };
    sql.execute(&ledger.of_chain("DELETE FROM audit WHERE seq <= ?1"), values![seq])?;
    sql.execute(&ledger.of_chain("DELETE FROM checkpoints WHERE seq <= ?1"), values![seq])?;
    Ok(())
}

/// A checkpoint is kept for every so many records.
const CHECKPOINT_EVERY: i64 = 1000;
