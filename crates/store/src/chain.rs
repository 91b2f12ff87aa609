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
use rusqlite::{Connection, OptionalExtension};
use std::time::Instant;

/// The last record: its number and hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub seq: i64,
    pub hash: String,
}

/// The `prev` of the first record.
pub(crate) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Who writes records: which process, and by which clock.
#[derive(Clone)]
pub(crate) struct Scribe {
    pub clock: Clock,
    /// The id of this process; records name it.
    pub instance: String,
    pub started: Instant,
}

impl Scribe {
    /// Makes the record that follows `head`: its body, and what becomes of the draft.
    pub fn write(&self, draft: &Draft, head: &Head) -> (String, Recorded) {
        let (seq, at) = (head.seq + 1, self.clock.now());
        let instance = (!self.clock.is_simulated()).then(|| (self.instance.as_str(), self.started.elapsed().as_millis()));
        let body = draft.body(&Stamp { seq, at, prev: &head.hash, instance });
        let hash = sha256(body.as_bytes());
        (body, Recorded { seq, at, hash })
    }
}

/// What jobs work with inside one transaction.
pub(crate) struct Ledger<'t> {
    pub connection: &'t Connection,
    pub key: &'t SecretKey,
    pub scribe: &'t Scribe,
    pub head: Head,
}

impl Ledger<'_> {
    /// The store's time.
    pub fn now(&self) -> i64 {
        self.scribe.clock.now()
    }

    /// Binds a draft into the chain.
    pub fn append(&mut self, draft: &Draft) -> Result<Recorded, Fault> {
        let (body, recorded) = self.scribe.write(draft, &self.head);
        self.insert(recorded.seq, &body, &recorded.hash)?;
        Ok(recorded)
    }

    /// Takes over a record of the journal.
    ///
    /// # Errors
    /// When it does not follow the head.
    pub fn take_over(&mut self, row: &Row) -> Result<(), Fault> {
        let prev = row.body.strip_suffix("\"}").and_then(|body| body.strip_suffix(self.head.hash.as_str()));
        let follows = row.seq == self.head.seq + 1 && prev.is_some_and(|body| body.ends_with(",\"prev\":\""));
        if !follows {
            return Err(Fault::State(format!(
                "the database ends at record {}, and record {} of its journal does not follow; run `callgate audit verify`",
                self.head.seq, row.seq
            )));
        }
        self.insert(row.seq, &row.body, &row.hash)
    }

    fn insert(&mut self, seq: i64, body: &str, hash: &str) -> Result<(), Fault> {
        let mut insert = self.connection.prepare_cached("INSERT INTO audit(seq, body, hash) VALUES (?1, ?2, ?3)")?;
        insert.execute((seq, body, hash))?;
        self.head = Head { seq, hash: hash.to_owned() };
        Ok(())
    }

    /// Signs the head as it is now; keeps a checkpoint when `before` lies in another thousand.
    pub fn sign_head(&self, before: &Head) -> Result<(), Fault> {
        if self.head == *before {
            return Ok(());
        }
        write_head(self.connection, self.key, &self.head, self.now())?;
        if self.head.seq / CHECKPOINT_EVERY != before.seq / CHECKPOINT_EVERY {
            self.keep_checkpoint()?;
        }
        Ok(())
    }

    /// Keeps the head as a checkpoint.
    pub fn keep_checkpoint(&self) -> Result<(), Fault> {
        if self.head.seq == 0 {
            return Ok(());
        }
        let (Head { seq, hash }, at) = (&self.head, self.now());
        let signature = self.key.sign(&Statement { kind: Kind::Checkpoint, seq: *seq, hash, at });
        self.connection.execute(
            "INSERT INTO checkpoints(seq, hash, at, signature) VALUES (?1, ?2, ?3, ?4) ON CONFLICT(seq) DO NOTHING",
            (seq, hash, at, signature),
        )?;
        Ok(())
    }
}

/// Writes the head of a chain without records.
pub(crate) fn begin(connection: &Connection, key: &SecretKey, at: i64) -> Result<(), Fault> {
    write_head(connection, key, &Head { seq: 0, hash: GENESIS.to_owned() }, at)
}

fn write_head(connection: &Connection, key: &SecretKey, head: &Head, at: i64) -> Result<(), Fault> {
    let signature = key.sign(&Statement { kind: Kind::Head, seq: head.seq, hash: &head.hash, at });
    let mut write = connection.prepare_cached("REPLACE INTO head(id, seq, hash, at, signature) VALUES (1, ?1, ?2, ?3, ?4)")?;
    write.execute((head.seq, &head.hash, at, signature))?;
    Ok(())
}

/// Reads the head that the next record follows. `known` is the head that this process has seen last.
///
/// # Errors
/// When the head is not signed with our key, or lies before `known`: then somebody has changed or exchanged the file, and
/// going on would cover it up.
pub(crate) fn read_head(connection: &Connection, public: &PublicKey, known: Option<&Head>) -> Result<Head, Fault> {
    let mut read = connection.prepare_cached("SELECT seq, hash, at, signature FROM head WHERE id = 1")?;
    let found = read
        .query_row([], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get::<_, String>(3)?))
        })
        .optional()?;
    let Some((seq, hash, at, signature)) = found else {
        return Err(Fault::State("the audit log has lost its signed head; run `callgate audit verify`".to_owned()));
    };
    let head = Head { seq, hash };
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
    let connection = ledger.connection;
    let hash: String = connection.query_row("SELECT hash FROM audit WHERE seq = ?1", [seq], |row| row.get(0))?;
    let at = ledger.now();
    let signature = ledger.key.sign(&Statement { kind: Kind::Anchor, seq, hash: &hash, at });
    connection
        .execute("REPLACE INTO anchor(id, seq, hash, at, signature) VALUES (1, ?1, ?2, ?3, ?4)", (seq, hash, at, signature))?;
    connection.execute("DELETE FROM audit WHERE seq <= ?1", [seq])?;
    connection.execute("DELETE FROM checkpoints WHERE seq <= ?1", [seq])?;
    Ok(())
}

/// A checkpoint is kept for every so many records.
const CHECKPOINT_EVERY: i64 = 1000;
