//! The tables of both databases, and how they came about.
//!
//! Each migration brings them from one version to the next. Released ones are never changed, only followed by others. What
//! is `both` is written as SQLite has it, and translated for PostgreSQL: `INTEGER` is 64 bits wide in one only.

/// One step.
pub(crate) struct Migration {
    /// For a state file.
    pub file: &'static str,
    /// For a PostgreSQL server, where several gateways have a chain each.
    pub server: &'static str,
    /// For either.
    pub both: &'static str,
}

impl Migration {
    /// The step for PostgreSQL.
    pub fn on_server(&self) -> String {
        let both = self.both.replace("INTEGER", "BIGINT").replace(") STRICT, WITHOUT ROWID;", ");").replace(") STRICT;", ");");
        format!("{}\n{both}", self.server)
    }
}

/// The steps; the version of a database says how many of them have been applied.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        file: "
    CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

    -- One row a record. The body is the record; hash is its SHA-256; nothing else is stored.
    CREATE TABLE audit(seq INTEGER PRIMARY KEY, body TEXT NOT NULL, hash TEXT NOT NULL) STRICT;
    CREATE TABLE head(id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL, at INTEGER NOT NULL,
        signature TEXT NOT NULL) STRICT;
    CREATE TABLE anchor(id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL, at INTEGER NOT NULL,
        signature TEXT NOT NULL) STRICT;
    CREATE TABLE checkpoints(seq INTEGER PRIMARY KEY, hash TEXT NOT NULL, at INTEGER NOT NULL, signature TEXT NOT NULL) STRICT;
",
        server: "
    CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL);

    -- A chain for each key that records are signed with, which is one for each gateway.
    CREATE TABLE chains(id TEXT PRIMARY KEY, public_key TEXT NOT NULL UNIQUE, begun BIGINT NOT NULL);
    -- The body is the record; hash is its SHA-256. The place only orders what is shown of several chains.
    CREATE TABLE audit(chain TEXT NOT NULL, seq BIGINT NOT NULL, body TEXT NOT NULL, hash TEXT NOT NULL,
        place BIGINT GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (chain, seq));
    CREATE INDEX audit_place ON audit(place);
    CREATE TABLE head(chain TEXT PRIMARY KEY, seq BIGINT NOT NULL, hash TEXT NOT NULL, at BIGINT NOT NULL,
        signature TEXT NOT NULL);
    CREATE TABLE anchor(chain TEXT PRIMARY KEY, seq BIGINT NOT NULL, hash TEXT NOT NULL, at BIGINT NOT NULL,
        signature TEXT NOT NULL);
    CREATE TABLE checkpoints(chain TEXT NOT NULL, seq BIGINT NOT NULL, hash TEXT NOT NULL, at BIGINT NOT NULL,
        signature TEXT NOT NULL, PRIMARY KEY (chain, seq));

    -- As SQLite has them: a body that was spoilt is no error.
    CREATE FUNCTION json_valid(body TEXT) RETURNS BOOLEAN LANGUAGE plpgsql IMMUTABLE AS $$
        BEGIN PERFORM body::json; RETURN body IS NOT NULL; EXCEPTION WHEN others THEN RETURN false; END $$;
    CREATE FUNCTION json_extract(body TEXT, path TEXT) RETURNS TEXT LANGUAGE plpgsql IMMUTABLE AS $$
        BEGIN RETURN body::json ->> substr(path, 3); EXCEPTION WHEN others THEN RETURN NULL; END $$;
",
        both: "
    -- Amounts in millionths, times in milliseconds since the Unix epoch.
    CREATE TABLE counters(key TEXT NOT NULL, bucket INTEGER NOT NULL, used INTEGER NOT NULL, frees_at INTEGER NOT NULL,
        PRIMARY KEY (key, bucket)) STRICT, WITHOUT ROWID;
    CREATE TABLE once(key TEXT PRIMARY KEY, id TEXT NOT NULL, at INTEGER NOT NULL, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE approvals(id TEXT PRIMARY KEY, state TEXT NOT NULL, server TEXT NOT NULL, grant_name TEXT NOT NULL,
        principal TEXT NOT NULL, tool TEXT NOT NULL, digest TEXT NOT NULL, policy TEXT NOT NULL, rule TEXT NOT NULL,
        arguments TEXT, created INTEGER NOT NULL, expires INTEGER NOT NULL, timeout INTEGER NOT NULL, decided INTEGER,
        decided_by TEXT, spent_by TEXT) STRICT;
    CREATE INDEX approvals_of_call ON approvals(tool, digest);
    CREATE INDEX approvals_of_grant ON approvals(grant_name, state);
    CREATE TABLE instances(id TEXT PRIMARY KEY, pid INTEGER NOT NULL, server TEXT NOT NULL, mode TEXT NOT NULL,
        version TEXT NOT NULL, policy TEXT, started INTEGER NOT NULL, seen INTEGER NOT NULL) STRICT;
",
    },
    Migration {
        file: "
    -- Which journal was followed, and how far.
    CREATE TABLE journal(id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL, place INTEGER NOT NULL,
        closed INTEGER NOT NULL, seal TEXT NOT NULL) STRICT;
",
        server: "
    -- What no longer counts is looked for once a minute, while calls wait.
    CREATE INDEX counters_over ON counters(frees_at);
",
        both: "",
    },
    Migration {
        file: "",
        server: "",
        both: "
    -- Who must say yes, and who has, as JSON: `[{\"count\":2,\"of\":[\"alice\",\"bob\"]}]`, `[{\"by\":\"alice\",\"at\":1}]`.
    ALTER TABLE approvals ADD COLUMN quorums TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE approvals ADD COLUMN votes TEXT NOT NULL DEFAULT '[]';
",
    },
    Migration {
        file: "",
        server: "",
        both: "
    -- What became of grants; without a spec, of one that stands in a file.
    CREATE TABLE grants(name TEXT PRIMARY KEY, spec TEXT, digest TEXT, former TEXT, former_until INTEGER,
        created INTEGER NOT NULL, changed INTEGER NOT NULL, revoked INTEGER) STRICT;
",
    },
    Migration {
        file: "",
        server: "
    -- When the gateway of a chain was last seen; of one that was removed when, and which chain tells of it.
    ALTER TABLE chains ADD COLUMN seen BIGINT, ADD COLUMN removed BIGINT, ADD COLUMN removed_by TEXT, ADD COLUMN former_key TEXT;
",
        both: "
    -- What people have given to keep, version by version; without a text, that it was removed.
    CREATE TABLE documents(kind TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, text TEXT, at INTEGER NOT NULL,
        by_whom TEXT NOT NULL, PRIMARY KEY (kind, name, version)) STRICT, WITHOUT ROWID;
    INSERT INTO documents(kind, name, version, text, at, by_whom)
        SELECT 'grant', name, 1, CASE WHEN revoked IS NULL THEN spec END, changed, '' FROM grants WHERE spec IS NOT NULL;
    -- How the servers behind a gateway are, as JSON.
    ALTER TABLE instances ADD COLUMN servers TEXT;
",
    },
    Migration {
        file: "",
        server: "",
        both: "
    -- What users have authorised a gateway to do at servers: sealed, and the key is not here.
    CREATE TABLE authorizations(server TEXT NOT NULL, principal TEXT NOT NULL, sealed TEXT NOT NULL, changed INTEGER NOT NULL,
        version INTEGER NOT NULL, busy_until INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (server, principal)) STRICT, WITHOUT ROWID;
",
    },
    Migration {
        file: "",
        server: "",
        both: "
    -- Which authorization server a server at an address has named first: our secrets are shown to no other.
    CREATE TABLE issuers(server TEXT NOT NULL, resource TEXT NOT NULL, issuer TEXT NOT NULL, since INTEGER NOT NULL,
        PRIMARY KEY (server, resource)) STRICT, WITHOUT ROWID;
",
    },
    Migration {
        file: "",
        server: "",
        both: "
    -- What servers have given callers to be handed back: keyed digests of it and of whose it is.
    CREATE TABLE issued(thing TEXT NOT NULL, owner TEXT NOT NULL, server TEXT NOT NULL, purpose TEXT NOT NULL,
        until INTEGER NOT NULL, PRIMARY KEY (thing, owner, server)) STRICT, WITHOUT ROWID;
    CREATE INDEX issued_over ON issued(until);
    CREATE INDEX issued_to ON issued(owner, until);
",
    },
];

#[cfg(test)]
#[path = "../tests/support/servers.rs"]
mod servers;

#[cfg(test)]
mod tests {
    use super::servers::Postgres;
    use super::*;
    use crate::chain::{self, Continued, Head, Ledger, Scribe, genesis_of};
    use crate::key::{Kind, SecretKey, Statement, hex, random_id};
    use crate::session::Session;
    use crate::sql::Sql;
    use crate::value::values;
    use crate::{ApprovalState, Clock, Draft, Options, StateUrl, Store};
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    const NOON: i64 = 1_772_366_400_000;
    const LATER: i64 = NOON + 3_600_000;

    /// A directory that goes away.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Directory {
            let path = std::env::temp_dir().join(format!("callgate-test-{}", random_id(16).unwrap()));
            std::fs::create_dir_all(&path).unwrap();
            Directory(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// What somebody has left in tables of this version: three records, and a row of everything that was there then.
    fn fill(ledger: &mut Ledger<'_>, version: usize) {
        let before = ledger.head.clone();
        for id in ["one", "two", "three"] {
            ledger.append(&Draft { id: id.into(), ..Draft::default() }).unwrap();
        }
        ledger.sign_head(&before).unwrap();
        let sql = ledger.sql;
        let insert = |text: &str| assert_eq!(sql.execute(text, values![LATER]).unwrap(), 1, "{text}");
        insert("INSERT INTO counters(key, bucket, used, frees_at) VALUES ('k', 0, 1000000, ?1)");
        insert("INSERT INTO once(key, id, at, until) VALUES ('k', 'one', 0, ?1)");
        insert(
            "INSERT INTO approvals(id, state, server, grant_name, principal, tool, digest, policy, rule, created, expires, timeout)
             VALUES ('a', 'pending', 's', 'g', 'p', 't', 'd', 'v', 'r', 0, ?1, 1)",
        );
        if version >= 4 {
            insert("INSERT INTO grants(name, spec, digest, created, changed) VALUES ('bot', '{}', '00', 0, ?1)");
        }
        if version >= 5 {
            insert("INSERT INTO documents(kind, name, version, text, at, by_whom) VALUES ('grant', 'bot', 1, '{}', ?1, '')");
        }
        if version >= 6 {
            insert("INSERT INTO authorizations(server, principal, sealed, changed, version) VALUES ('s', 'p', 'sealed', ?1, 1)");
        }
        if version >= 7 {
            insert("INSERT INTO issuers(server, resource, issuer, since) VALUES ('s', 'https://s', 'https://id', ?1)");
        }
    }

    /// Opens state of this version as a gateway does, and finds all of it again.
    fn check(version: usize, url: StateUrl, options: Options) {
        let store = Store::open(url, options).unwrap_or_else(|error| panic!("version {version}: {error}"));
        let reader = store.reader().unwrap();
        let verification = reader.verify().unwrap();
        assert!(verification.valid && verification.records >= 3, "version {version}: {verification:?}");
        let approvals = reader.approvals().unwrap();
        let found: Vec<_> = approvals.iter().map(|approval| (&*approval.id, approval.state, approval.quorums.len())).collect();
        assert_eq!(found, [("a", ApprovalState::Pending, 0)], "version {version}");
        let grants = reader.kept().unwrap().grants;
        let grants: Vec<_> = grants.iter().map(|grant| (&*grant.name, grant.spec.as_deref(), grant.version)).collect();
        assert_eq!(grants, [("bot", Some("{}"), 1)][..usize::from(version >= 4)], "version {version}");
        assert_eq!(reader.authorizations().unwrap().1.len(), usize::from(version >= 6), "version {version}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let first = runtime.block_on(store.first_issuer("s", "https://s", "https://new", "")).unwrap();
        assert_eq!(first == "https://id", version >= 7, "version {version}: {first}");
        // And it goes on.
        runtime.block_on(store.record(Draft { id: "four".into(), ..Draft::default() })).unwrap();
        assert!(store.reader().unwrap().verify().unwrap().valid, "version {version}");
        runtime.block_on(store.close());
    }

    fn scribe() -> Scribe {
        Scribe { clock: Clock::simulated(NOON), instance: "i".to_owned(), started: Instant::now() }
    }

    fn options(directory: &Directory) -> Options {
        Options { clock: Clock::simulated(NOON), keys: Some(directory.0.clone()), ..Options::default() }
    }

    #[test]
    fn a_file_of_every_version_is_brought_up_to_date() {
        for version in 1..MIGRATIONS.len() {
            let directory = Directory::new();
            let path = directory.0.join("callgate.db");
            let connection = rusqlite::Connection::open(&path).unwrap();
            for migration in &MIGRATIONS[..version] {
                connection.execute_batch(migration.file).unwrap();
                connection.execute_batch(migration.both).unwrap();
            }
            connection.pragma_update(None, "user_version", version as i64).unwrap();
            let (key, pkcs8) = SecretKey::generate().unwrap();
            std::fs::write(directory.0.join("callgate.db.key"), pkcs8).unwrap();
            connection.execute("INSERT INTO meta(name, value) VALUES ('public_key', ?1)", [key.public().hex()]).unwrap();
            let sql = Sql::File(&connection);
            chain::begin(sql, &key, NOON).unwrap();
            let head = Head { seq: 0, hash: chain::GENESIS.into() };
            fill(&mut Ledger { sql, key: &key, scribe: &scribe(), head, shared: None }, version);
            drop(connection);
            check(version, StateUrl::Sqlite(path.clone()), options(&directory));
            let connection = rusqlite::Connection::open(&path).unwrap();
            let count = |text: &str| connection.query_row(text, [], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(count("PRAGMA user_version"), MIGRATIONS.len() as i64);
            assert_eq!((count("SELECT count(*) FROM counters"), count("SELECT count(*) FROM once")), (1, 1), "version {version}");
        }
    }

    #[test]
    fn a_database_of_every_version_is_brought_up_to_date() {
        let Some(server) = Postgres::start() else { return };
        let StateUrl::Postgres(address) = server.url().parse().unwrap() else { panic!("it is one") };
        for version in 1..MIGRATIONS.len() {
            let directory = Directory::new();
            let session = Session::open(&address, Instant::now() + Duration::from_secs(60)).unwrap();
            session.batch("DROP SCHEMA IF EXISTS callgate CASCADE; CREATE SCHEMA callgate").unwrap();
            for migration in &MIGRATIONS[..version] {
                session.batch(&migration.on_server()).unwrap();
            }
            let (digests, sql) = ([7; 32], Sql::Server(&session));
            for (name, value) in [("version", version.to_string()), ("state", "s".to_owned()), ("digests", hex(&digests))] {
                sql.execute("INSERT INTO meta(name, value) VALUES (?1, ?2)", values![name, &value]).unwrap();
            }
            let (key, pkcs8) = SecretKey::generate().unwrap();
            std::fs::write(directory.0.join("postgres-s.key"), pkcs8).unwrap();
            let (key, genesis) = (key.sharing(&digests), genesis_of("c"));
            let public = key.public().hex();
            let insert = "INSERT INTO chains(id, public_key, begun) VALUES ('c', ?1, ?2)";
            sql.execute(insert, values![&public, NOON]).unwrap();
            let signature = key.sign(&Statement { kind: Kind::Head, seq: 0, hash: &genesis, at: NOON });
            let insert = "INSERT INTO head(chain, seq, hash, at, signature) VALUES ('c', 0, ?1, ?2, ?3)";
            sql.execute(insert, values![&genesis, NOON, &signature]).unwrap();
            let head = Head { seq: 0, hash: genesis.as_str().into() };
            let shared = Some(Continued { chain: "c", now: NOON });
            fill(&mut Ledger { sql, key: &key, scribe: &scribe(), head, shared }, version);
            drop(session);
            check(version, server.url().parse().unwrap(), options(&directory));
            assert_eq!(server.sql("SELECT value FROM meta WHERE name = 'version'"), MIGRATIONS.len().to_string());
            assert_eq!(server.sql("SELECT (SELECT count(*) FROM counters), (SELECT count(*) FROM once)"), "1|1");
        }
    }
}
