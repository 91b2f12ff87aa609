//! The SQLite file: where it lies, who may read it, what is in it.
//!
//! Counters, records and approvals are rows of one file in WAL mode, so that any number of processes share them exactly.
//! A record is three columns: its number, its body and its hash; whatever else is asked of records is read from bodies.

use crate::error::Fault;
use crate::key::{PublicKey, SecretKey};
use crate::place::{FileId, Patience, beside, create_private, file_id, private_directory, write_private};
use crate::sql::Sql;
use crate::tables::MIGRATIONS;
use crate::{Durability, StateUrl};
use crate::{approvals, chain};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An open file, or memory, with its key.
pub(crate) struct Database {
    pub connection: Connection,
    pub key: SecretKey,
    /// Which file was opened, to notice when another lies in its place.
    file: Option<(PathBuf, FileId)>,
}

impl Database {
    /// Opens state for writing, and makes what is missing: the directory, the file, its tables, its key.
    pub fn open(url: &StateUrl, durability: Durability, now: i64, patience: &Patience) -> Result<Database, Fault> {
        match url {
            StateUrl::Postgres(_) | StateUrl::Redis { .. } => Err(Fault::State("it is no file".to_owned())),
            StateUrl::Memory => {
                let mut connection = Connection::open_in_memory()?;
                let key = prepare(&mut connection, None, now)?;
                Ok(Database { connection, key, file: None })
            }
            StateUrl::Sqlite(path) => {
                // Several processes may start at once, and the change to WAL mode does not wait for its lock.
                loop {
                    match open_file(path, durability, now, patience) {
                        Err(fault) if fault.is_busy() && patience.wait() => {}
                        opened => return opened,
                    }
                }
            }
        }
    }

    /// Which file was opened.
    pub fn id(&self) -> Option<FileId> {
        self.file.as_ref().map(|(_, id)| *id)
    }

    /// Brings what the write-ahead log holds into the file, as far as no reader keeps it.
    pub fn empty_log(&self) -> Result<(), Fault> {
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
    }

    /// Whether the path still names the file that was opened.
    pub fn is_in_place(&self) -> bool {
        self.file.as_ref().is_none_or(|(path, id)| file_id(path).is_ok_and(|now| now == *id))
    }
}

fn open_file(path: &Path, durability: Durability, now: i64, patience: &Patience) -> Result<Database, Fault> {
    create_private(path)?;
    let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let patience = patience.clone();
    connection.busy_handler(Some(move |_| patience.wait()))?;
    // Only an empty file takes these two. Records are appended: larger pages are fewer to write, into the write-ahead log and
    // out of it again. Retention can give space back.
    connection.pragma_update(None, "page_size", 8192)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::State(format!(
            "its file system allows no write-ahead log (journal mode `{mode}`); choose a local directory"
        )));
    }
    let synchronous = match durability {
        Durability::Process => "NORMAL",
        Durability::Power => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "journal_size_limit", JOURNAL_BYTES)?;
    // In pages. While the log is brought into the file both are flushed to the disk, and callers who append to the journal wait
    // for the file system meanwhile: so that is done when a journal is full or nobody calls, and else only as a last resort.
    connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
    // In KiB: what is appended is not read again.
    connection.pragma_update(None, "cache_size", -512)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // Arguments and old records are overwritten where they lay: `FAST` would leave long ones in pages that are free again.
    connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
    let key = prepare(&mut connection, Some(&key_path(path)), now)?;
    let id = file_id(path).map_err(|error| Fault::Io("finding the file", error))?;
    Ok(Database { connection, key, file: Some((path.to_owned(), id)) })
}

/// Opens a file for reading, with what a killed process has left in its write-ahead log.
///
/// Where even a reader would have to write beside the file and cannot, a private copy is read; it is removed when the
/// second value is dropped.
pub(crate) fn open_to_read(path: &Path) -> Result<(Connection, Option<Copied>), Fault> {
    if !path.exists() {
        return Err(Fault::State("there is no such file; `callgate run` or `callgate serve` make it".to_owned()));
    }
    let open = |path: &Path| -> Result<Connection, Fault> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        let version = version(&connection)?;
        if version == 0 {
            return Err(Fault::State("it holds no state yet".to_owned()));
        }
        check_version(version)?;
        connection.execute_batch(READING)?;
        if version < WITH_VOTES {
            connection.execute_batch(READING_BEFORE_VOTES)?;
        }
        if version < WITH_SERVERS {
            connection.execute_batch(READING_BEFORE_SERVERS)?;
        }
        Ok(connection)
    };
    match open(path) {
        Err(Fault::Sqlite(error)) if needs_copy(&error) => {
            let copied = Copied::of(path)?;
            Ok((open(&copied.0.join(COPY_NAME))?, Some(copied)))
        }
        opened => Ok((opened?, None)),
    }
}

fn needs_copy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure))
}

/// A private copy of a state file and its write-ahead log, removed when dropped.
pub(crate) struct Copied(PathBuf);

impl Copied {
    fn of(path: &Path) -> Result<Copied, Fault> {
        let name = crate::key::random_id(16).map_err(Fault::State)?;
        let directory = std::env::temp_dir().join(format!("callgate-{name}"));
        private_directory(&directory).map_err(|error| Fault::Io("making a directory for a copy to read", error))?;
        let copied = Copied(directory);
        let copy = |from: &Path, to: &str| match std::fs::copy(from, copied.0.join(to)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Fault::Io("copying the file to read it", error)),
            _ => Ok(()),
        };
        copy(path, COPY_NAME)?;
        copy(&beside(path, "-wal"), &format!("{COPY_NAME}-wal"))?;
        Ok(copied)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // Whatever cannot be removed lies in the temporary directory, readable for its owner only.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Brings the tables up to date and finds or makes the key, in one transaction: two processes may start at once.
fn prepare(connection: &mut Connection, key_path: Option<&Path>, now: i64) -> Result<SecretKey, Fault> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let from = version(&transaction)?;
    check_version(from)?;
    for migration in &MIGRATIONS[from..] {
        transaction.execute_batch(migration.file)?;
        transaction.execute_batch(migration.both)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    // While no gateway ran, nobody removed the arguments of calls that waited in vain.
    approvals::expire(Sql::File(&transaction), None, now)?;
    let public = public_key(&transaction)?;
    let key = match (key_path, &public) {
        (Some(path), _) => file_key(path, public.is_none())?,
        (None, None) => SecretKey::generate().map_err(Fault::State)?.0,
        (None, Some(_)) => return Err(Fault::State("state in memory cannot be opened twice".to_owned())),
    };
    match public {
        None => {
            transaction.execute("INSERT INTO meta(name, value) VALUES ('public_key', ?1)", [key.public().hex()])?;
            chain::begin(Sql::File(&transaction), &key, now)?;
        }
        Some(public) if public == key.public() => {}
        Some(_) => {
            return Err(Fault::State(
                "the key file beside it belongs to another state file; put the right `.key` file back".to_owned(),
            ));
        }
    }
    // A write in any case: a full disk should show now and not at the first call.
    transaction.execute("REPLACE INTO meta(name, value) VALUES ('opened', ?1)", [crate::clock::rfc3339(now)])?;
    transaction.commit()?;
    Ok(key)
}

/// The key that a file names as its own.
pub(crate) fn public_key(connection: &Connection) -> Result<Option<PublicKey>, Fault> {
    let text: Option<String> =
        connection.query_row("SELECT value FROM meta WHERE name = 'public_key'", [], |row| row.get(0)).optional()?;
    text.map(|text| PublicKey::parse(&text).ok_or_else(|| Fault::State("its public key is spoilt".to_owned()))).transpose()
}

fn version(connection: &Connection) -> Result<usize, Fault> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    usize::try_from(version).map_err(|_| Fault::State("it is not a state file of callgate".to_owned()))
}

fn check_version(version: usize) -> Result<(), Fault> {
    if version > MIGRATIONS.len() {
        return Err(Fault::State("it was written by a newer callgate; update this one".to_owned()));
    }
    Ok(())
}

/// Reads the key; makes it when `may_make`. The caller holds the file's write lock.
fn file_key(path: &Path, may_make: bool) -> Result<SecretKey, Fault> {
    match std::fs::read(path) {
        Ok(bytes) => SecretKey::parse(&bytes).map_err(|problem| Fault::State(format!("key `{}`: {problem}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_make => {
            let (key, pkcs8) = SecretKey::generate().map_err(Fault::State)?;
            write_private(path, &pkcs8).map_err(|error| Fault::Io("writing the key file", error))?;
            Ok(key)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Fault::State(format!(
            "its key `{}` is missing; put it back, or move the state file away to begin a new log",
            path.display()
        ))),
        Err(error) => Err(Fault::Io("reading the key file", error)),
    }
}

/// Reads the key that lies beside a state file, if one does.
pub(crate) fn key_beside(path: &Path) -> Result<Option<SecretKey>, Fault> {
    match std::fs::read(key_path(path)) {
        Ok(bytes) => SecretKey::parse(&bytes).map(Some).map_err(|problem| Fault::State(format!("key file: {problem}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::Io("reading the key file", error)),
    }
}

fn key_path(path: &Path) -> PathBuf {
    beside(path, ".key")
}

/// How long calls wait for transactions of other processes. A store that does not answer must deny within five seconds.
pub(crate) const BUSY: Duration = Duration::from_millis(1500);
const JOURNAL_BYTES: i64 = 64 << 20;
const COPY_NAME: &str = "copy.db";

/// What the journal holds beyond the database stands in `tail` while it is looked at, so that `audit` is both.
const READING: &str = "
    CREATE TEMP TABLE tail(seq INTEGER PRIMARY KEY, body TEXT NOT NULL, hash TEXT NOT NULL);
    CREATE TEMP VIEW audit AS
        SELECT seq, body, hash FROM main.audit UNION ALL SELECT seq, body, hash FROM temp.tail;
";

/// The version from which on approvals know of votes.
const WITH_VOTES: usize = 3;
/// How a file of an earlier version is read.
const READING_BEFORE_VOTES: &str = "CREATE TEMP VIEW approvals AS SELECT *, '[]' AS quorums, '[]' AS votes FROM main.approvals;";
/// The version from which on instances tell of their servers.
const WITH_SERVERS: usize = 5;
/// How a file of an earlier version is read.
const READING_BEFORE_SERVERS: &str = "CREATE TEMP VIEW instances AS SELECT *, NULL AS servers FROM main.instances;";
