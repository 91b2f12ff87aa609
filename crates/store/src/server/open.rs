//! Opening state on a server: its tables, its secrets, this gateway's key and chain.

use crate::address::ServerAddress;
use crate::chain::genesis_of;
use crate::departed;
use crate::error::Fault;
use crate::key::{Kind, PublicKey, SecretKey, Statement, hex, random_id, unhex};
use crate::place::{private_directory, write_private};
use crate::session::Session;
use crate::sql::Sql;
use crate::tables::MIGRATIONS;
use crate::value::values;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// State on a server that can be written.
pub(crate) struct Opened {
    pub session: Session,
    pub key: SecretKey,
    /// The id of this gateway's chain.
    pub chain: String,
}

/// Opens state, and makes what is missing: tables, secrets, a key and a chain for this gateway. `keys` is the directory of
/// this gateway's keys.
pub(crate) fn open(address: &ServerAddress, keys: &Path, until: Instant) -> Result<Opened, Fault> {
    let session = Session::open(address, until)?;
    // One gateway at a time: two may start at once.
    session.batch("BEGIN; SELECT pg_advisory_xact_lock(1667329123, 1)")?;
    let sql = Sql::Server(&session);
    migrate(&session)?;
    let state = meta(sql, "state")?.ok_or_else(|| missing("id"))?;
    let digests = meta(sql, "digests")?.as_deref().and_then(unhex).ok_or_else(|| missing("secret for digests"))?;
    let path = key_path(keys, &state);
    let (key, new) = match read_key(&path)? {
        Some(key) => (key.sharing(&digests), None),
        None => {
            let (key, pkcs8) = SecretKey::generate().map_err(Fault::State)?;
            (key.sharing(&digests), Some(pkcs8))
        }
    };
    let public = key.public().hex();
    let chain = sql.row("SELECT id FROM chains WHERE public_key = ?1", values![&public], |row| row.get::<String>(0))?;
    let chain = match (chain, &new) {
        (Some(chain), _) => chain,
        (None, Some(_)) => begin(sql, &key, &public)?,
        // It was gone for so long that its chain was removed.
        (None, None) if departed::was_removed(sql, &public)? => begin(sql, &key, &public)?,
        (None, None) => {
            return Err(Fault::State(format!(
                "it has lost the chain of this gateway, whose key is `{}`; run `callgate audit verify`, and move the key away \
                 to begin a new chain",
                path.display()
            )));
        }
    };
    if let Some(pkcs8) = new {
        private_directory(keys).map_err(|error| Fault::Io("making the directory of keys", error))?;
        write_private(&path, &pkcs8).map_err(|error| Fault::Io("writing the key file", error))?;
    }
    session.batch("COMMIT")?;
    Ok(Opened { session, key, chain })
}

/// Brings the tables up to date.
fn migrate(session: &Session) -> Result<(), Fault> {
    let sql = Sql::Server(session);
    let from = version(sql)?;
    check_version(from)?;
    if from == MIGRATIONS.len() {
        return Ok(());
    }
    if from == 0 {
        session.batch("CREATE SCHEMA IF NOT EXISTS callgate")?;
    }
    for migration in &MIGRATIONS[from..] {
        session.batch(&migration.on_server())?;
    }
    if from == 0 {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| Fault::State(format!("the system gives no random numbers: {error}")))?;
        let state = random_id(16).map_err(Fault::State)?;
        let insert = "INSERT INTO meta(name, value) VALUES ('state', ?1), ('digests', ?2)";
        sql.execute(insert, values![&state, &hex(&secret)])?;
    }
    let version = MIGRATIONS.len().to_string();
    let write = "INSERT INTO meta(name, value) VALUES ('version', ?1) ON CONFLICT(name) DO UPDATE SET value = excluded.value";
    sql.execute(write, values![&version]).map(drop)
}

/// How many migrations the database has had; 0 where there are no tables.
pub(crate) fn version(sql: Sql<'_>) -> Result<usize, Fault> {
    let exists = sql.row("SELECT to_regclass('callgate.meta') IS NOT NULL", &[], |row| row.get::<bool>(0))?;
    if exists != Some(true) {
        return Ok(0);
    }
    let version = meta(sql, "version")?.ok_or_else(|| missing("version"))?;
    version.parse().map_err(|_| missing("version"))
}

/// # Errors
/// Where a newer callgate has been.
pub(crate) fn check_version(version: usize) -> Result<(), Fault> {
    match version > MIGRATIONS.len() {
        true => Err(Fault::State("it was written by a newer callgate; update this one".to_owned())),
        false => Ok(()),
    }
}

/// What the database says of itself.
pub(crate) fn meta(sql: Sql<'_>, name: &str) -> Result<Option<String>, Fault> {
    sql.row("SELECT value FROM meta WHERE name = ?1", values![name], |row| row.get(0))
}

fn missing(what: &str) -> Fault {
    Fault::State(format!("its {what} is missing or spoilt; restore a backup"))
}

/// Begins a chain.
fn begin(sql: Sql<'_>, key: &SecretKey, public: &str) -> Result<String, Fault> {
    let chain = random_id(10).map_err(Fault::State)?;
    let now = now(sql)?;
    let genesis = genesis_of(&chain);
    let signature = key.sign(&Statement { kind: Kind::Head, seq: 0, hash: &genesis, at: now });
    sql.execute("INSERT INTO chains(id, public_key, begun) VALUES (?1, ?2, ?3)", values![&chain, public, now])?;
    let write = "INSERT INTO head(chain, seq, hash, at, signature) VALUES (?1, 0, ?2, ?3, ?4)";
    sql.execute(write, values![&chain, &genesis, now, &signature])?;
    Ok(chain)
}

/// The server's time in milliseconds since the Unix epoch.
pub(crate) fn now(sql: Sql<'_>) -> Result<i64, Fault> {
    Ok(sql.row(NOW, &[], |row| row.get(0))?.unwrap_or(i64::MAX))
}

/// Where this gateway keeps its key for a state.
pub(crate) fn key_path(keys: &Path, state: &str) -> PathBuf {
    keys.join(format!("postgres-{state}.key"))
}

fn read_key(path: &Path) -> Result<Option<SecretKey>, Fault> {
    match std::fs::read(path) {
        Ok(bytes) => {
            SecretKey::parse(&bytes).map(Some).map_err(|problem| Fault::State(format!("key `{}`: {problem}", path.display())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::Io("reading the key file", error)),
    }
}

/// The public half of the key that this gateway has for a state, if it has one.
pub(crate) fn public_key(keys: &Path, state: &str) -> Result<Option<PublicKey>, Fault> {
    Ok(read_key(&key_path(keys, state))?.map(|key| key.public()))
}

pub(crate) const NOW: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
