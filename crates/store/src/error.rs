//! Why the store did not do what it was asked.

use std::error::Error;
use std::sync::Arc;

/// Why the store did not do what it was asked. Nothing has been charged, spent or recorded then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// More calls wait than the store takes on.
    #[error("too many calls are waiting for the state store")]
    Busy,
    /// State cannot be read or written just now: a full disk, a read-only directory, a damaged file.
    #[error("state at `{place}` cannot be used: {problem}")]
    Unavailable {
        /// Where: the file, or `memory:`.
        place: String,
        /// What is wrong there and how to mend it; for operators.
        problem: String,
        /// What the system said.
        #[source]
        source: Option<Arc<dyn Error + Send + Sync>>,
    },
    /// The address of the state is not one; the text says what is expected.
    #[error("{0}")]
    Address(String),
    /// A grant cannot be made, changed or revoked so.
    #[error("{0}")]
    Grant(String),
    /// There is no such server or policy among those that are kept.
    #[error("no {kind} `{name}` is kept")]
    NoSuchDocument {
        /// `server`, `policy` or `grant`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It is not the version that was to be changed.
    #[error("the {kind} `{name}` is not the version that was to be changed: {}", standing_shown(*.standing))]
    OtherVersion {
        /// `server`, `policy` or `grant`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Which version there is, if any.
        standing: Option<i64>,
    },
    /// Something was changed since the change was checked; check it again.
    #[error("something else was changed at the same time; try again")]
    Moved,
    /// There is no approval with this id.
    #[error("there is no approval `{0}`; `callgate approvals list` shows those that are open")]
    NoSuchApproval(String),
    /// The approval is no longer open to this decision.
    #[error("approval `{id}` is already {state}")]
    ApprovalClosed {
        /// Which.
        id: String,
        /// What it is: `approved`, `denied`, `spent` or `expired`.
        state: &'static str,
    },
    /// Somebody else must approve it.
    #[error("`{by}` is not asked about approval `{id}`, which needs {needs}")]
    NotAsked {
        /// Which.
        id: String,
        /// Who wanted to.
        by: String,
        /// Whose approval it needs: `2 of [alice, bob]`.
        needs: String,
    },
    /// The same person counts once.
    #[error("`{by}` has approved `{id}` already; it still needs {missing} more")]
    AlreadyApproved {
        /// Which.
        id: String,
        /// Who.
        by: String,
        /// How many others are missing.
        missing: u32,
    },
}

fn standing_shown(version: Option<i64>) -> String {
    version.map_or_else(|| "there is none".to_owned(), |version| format!("it is version {version} now"))
}

/// What goes wrong inside a transaction, before the place is known.
#[derive(Debug)]
pub(crate) enum Fault {
    Sqlite(rusqlite::Error),
    Io(&'static str, std::io::Error),
    Postgres(tokio_postgres::Error),
    /// A server does not answer in time. Whether it has done what it was asked is not known.
    Slow,
    /// A fact of our own: what is wrong and how to mend it.
    State(String),
    /// Somebody else has the lock for too long.
    Held,
    /// Concerns one job only; the rest of its transaction stands.
    Refused(StoreError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        Fault::Sqlite(error)
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Fault {
        Fault::Postgres(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault::Refused(error)
    }
}

impl Fault {
    pub fn at(self, place: &str) -> StoreError {
        let (problem, source): (String, Option<Arc<dyn Error + Send + Sync>>) = match self {
            Fault::Refused(error) => return error,
            Fault::State(problem) => (problem, None),
            Fault::Held => (HELD.to_owned(), None),
            Fault::Slow => (SLOW.to_owned(), None),
            Fault::Postgres(error) => (describe_postgres(&error).to_owned(), Some(Arc::new(error))),
            Fault::Io(doing, error) => (format!("{doing}: {error}"), Some(Arc::new(error))),
            Fault::Sqlite(error) => (describe(&error).to_owned(), Some(Arc::new(error))),
        };
        StoreError::Unavailable { place: place.to_owned(), problem, source }
    }

    /// Whether another try may succeed at once: somebody else held the lock.
    pub fn is_busy(&self) -> bool {
        matches!(self, Fault::Held)
            || matches!(self, Fault::Sqlite(error) if matches!(error.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)))
    }
}

fn describe_postgres(error: &tokio_postgres::Error) -> &'static str {
    use tokio_postgres::error::SqlState as State;
    let Some(state) = error.code() else {
        return "it cannot be reached; check that it runs, and the address";
    };
    match state.code() {
        code if code == State::INVALID_PASSWORD.code() || code.starts_with("28") => "it does not accept this user and password",
        code if code == State::INVALID_CATALOG_NAME.code() => "there is no such database; create it first",
        code if code == State::INSUFFICIENT_PRIVILEGE.code() => {
            "the user may not do what is needed; it must own the schema `callgate`, or be allowed to create it"
        }
        code if code == State::READ_ONLY_SQL_TRANSACTION.code() => "it is a standby, or read-only; name the primary",
        code if code == State::TOO_MANY_CONNECTIONS.code() => "it takes no more connections; raise `max_connections`",
        code if code == State::QUERY_CANCELED.code() || code == State::LOCK_NOT_AVAILABLE.code() => SLOW,
        code if code == State::ADMIN_SHUTDOWN.code() || code == State::CANNOT_CONNECT_NOW.code() => {
            "it is shutting down or starting"
        }
        code if code == State::CRASH_SHUTDOWN.code() => "it has crashed and is starting again",
        code if code.starts_with("53") => "it is out of space, memory or connections",
        code if code.starts_with("23") => "its contents contradict each other; run `callgate audit verify`",
        _ => "the database reports an error",
    }
}

fn describe(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(Code::DiskFull) => "the disk is full; free some space",
        Some(Code::ReadOnly | Code::PermissionDenied) => "it is read-only; check the owner and the mount",
        Some(Code::CannotOpen) => "it cannot be opened; check that the directory exists and is writable",
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => HELD,
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => "it is damaged or not a state file; move it away or restore a copy",
        Some(Code::SystemIoFailure) => "reading or writing failed; check the disk and its space",
        Some(Code::ConstraintViolation) => "its contents contradict each other; run `callgate audit verify`",
        _ => "the database reports an error",
    }
}

const SLOW: &str = "it does not answer in time";
const HELD: &str = "another process holds it for too long";
