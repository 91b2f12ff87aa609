//! The file: one SQLite database, and what is in it.
//!
//! `definitions` holds every definition once, by its digest, deflated; `tools` points there, and has of the grade what is
//! filtered by. `grades` says which grades there are among the tools of current servers, the few hundred that half a million
//! tools have. `names` and `words` are the indexes of full-text search, with the row ids of `tools`: of what stands in a name, and of
//! everything. They keep no text and no places in it, for each list of rows is read to its end where few rows have all words of
//! a question. Short beginnings of words have lists of their own: of thousands of words that begin so, all rows would be gathered
//! before the first is found; for longer ones `vocabulary` has all words that there are. `sources` has the digests of texts that
//! were taken in, by which an interrupted build knows where it was.

use crate::error::CollectionError;
use catalogue::{Level, RiskClass, Signal};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::path::Path;

/// "CGct": by which `file` and we know a catalog from other databases.
const APPLICATION_ID: i64 = 0x4347_6374;
const FORM: i64 = 2;

const SCHEMA: &str = "
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE servers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    flags TEXT NOT NULL,              -- JSON
    digest TEXT NOT NULL,             -- of what it said; empty where it was not asked
    registry TEXT NOT NULL,
    environment TEXT NOT NULL,        -- JSON
    reported_name TEXT,
    revision TEXT,
    isolation TEXT NOT NULL,
    problem TEXT,
    captured_at INTEGER NOT NULL,     -- seconds since 1970
    current INTEGER NOT NULL DEFAULT 0,
    tools INTEGER NOT NULL,
    read INTEGER NOT NULL, write INTEGER NOT NULL, execute INTEGER NOT NULL, destructive INTEGER NOT NULL,
    financial INTEGER NOT NULL,
    instructions TEXT,                -- long ones last: what is before them is found without them
    prompts BLOB NOT NULL,            -- JSON, deflated
    UNIQUE (package, version, flags, digest)
);
CREATE INDEX servers_by_name ON servers (name COLLATE NOCASE);
CREATE TABLE definitions (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, text BLOB NOT NULL);
CREATE TABLE tools (
    id INTEGER PRIMARY KEY,
    server INTEGER NOT NULL REFERENCES servers (id),
    name TEXT NOT NULL,
    definition INTEGER NOT NULL REFERENCES definitions (id),
    class INTEGER NOT NULL,
    level INTEGER NOT NULL,
    confidence INTEGER NOT NULL,
    signals INTEGER NOT NULL
);
CREATE INDEX tools_by_server ON tools (server);
CREATE INDEX tools_by_name ON tools (name COLLATE NOCASE);
CREATE INDEX tools_by_grade ON tools (level, class, signals);
CREATE TABLE grades (
    level INTEGER NOT NULL, class INTEGER NOT NULL, signals INTEGER NOT NULL, tools INTEGER NOT NULL,
    PRIMARY KEY (level, class, signals)
) WITHOUT ROWID;
CREATE VIRTUAL TABLE names USING fts5 (
    text, content = '', detail = none, columnsize = 0, prefix = '1 2 3 4', tokenize = \"ascii tokenchars '_'\"
);
CREATE VIRTUAL TABLE words USING fts5 (
    text, content = '', detail = none, columnsize = 0, prefix = '1 2 3 4', tokenize = \"ascii tokenchars '_'\"
);
CREATE TABLE vocabulary (word TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE sources (digest BLOB PRIMARY KEY) WITHOUT ROWID;
";

/// Opens a catalog to read it.
pub(crate) fn open(path: &Path) -> Result<Connection, CollectionError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| CollectionError::Open(path.to_owned(), error))?;
    check(&connection, path)?;
    // What is read is read again: the pages of the index, of names and servers.
    connection.execute_batch("PRAGMA mmap_size = 1073741824; PRAGMA cache_size = -16384;")?;
    Ok(connection)
}

/// Opens a catalog to write to it; makes it where there is none.
pub(crate) fn open_or_make(path: &Path) -> Result<Connection, CollectionError> {
    let connection = Connection::open(path).map_err(|error| CollectionError::Open(path.to_owned(), error))?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    let is_new = tables(&connection).map_err(|_| CollectionError::Foreign(path.to_owned()))? == 0;
    // A build can be run again: what a power failure takes, it brings back.
    connection.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA cache_size = -65536; PRAGMA foreign_keys = OFF;")?;
    if is_new {
        connection.execute_batch(&format!(
            "BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORM}; {SCHEMA} COMMIT;"
        ))?;
        connection.execute("INSERT INTO about VALUES ('grades', ?1)", [grades()])?;
    }
    check(&connection, path)?;
    Ok(connection)
}

fn tables(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
}

fn check(connection: &Connection, path: &Path) -> Result<(), CollectionError> {
    let number = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    match (number("application_id"), number("user_version")) {
        (Ok(APPLICATION_ID), Ok(FORM)) => {}
        (Ok(APPLICATION_ID), Ok(_)) => return Err(CollectionError::Version(path.to_owned())),
        _ => return Err(CollectionError::Foreign(path.to_owned())),
    }
    let known = connection.query_row("SELECT value FROM about WHERE name = 'grades'", [], |row| row.get::<_, String>(0));
    match known.optional()? {
        Some(known) if known == grades() => Ok(()),
        _ => Err(CollectionError::Version(path.to_owned())),
    }
}

/// The words that the numbers of `tools` stand for.
fn grades() -> String {
    let names = |names: &[&str]| names.join(" ");
    let classes = RiskClass::ALL.map(RiskClass::name);
    let levels = Level::ALL.map(Level::name);
    let signals = Signal::ALL.map(Signal::name);
    format!("{}; {}; {}", names(&classes), names(&levels), names(&signals))
}

/// The number under which a class is kept.
pub(crate) fn class_number(class: RiskClass) -> usize {
    RiskClass::ALL.iter().position(|known| *known == class).unwrap_or_default()
}

/// The number under which a level is kept.
pub(crate) fn level_number(level: Level) -> usize {
    Level::ALL.iter().position(|known| *known == level).unwrap_or_default()
}
