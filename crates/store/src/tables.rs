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
];
