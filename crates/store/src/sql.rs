//! One way to ask both databases.
//!
//! What calls need beyond charges and records (approvals, recent calls, who is running) is written once, in SQL that SQLite
//! and PostgreSQL read alike: placeholders are `?1`, conflicts are `ON CONFLICT`, and what one of them lacks (`json_extract`)
//! it was given as a function. Whatever runs for every call has statements of its own.

use crate::error::Fault;
use crate::session::Session;
use crate::value::Value;
use rusqlite::Connection;

/// A database inside a transaction.
#[derive(Clone, Copy)]
pub(crate) enum Sql<'c> {
    /// A file, or memory.
    File(&'c Connection),
    /// PostgreSQL.
    Server(&'c Session),
}

/// A row of an answer.
pub(crate) enum Row<'r> {
    File(&'r rusqlite::Row<'r>),
    Server(&'r tokio_postgres::Row),
}

/// What both databases can give as a column.
pub(crate) trait Column: rusqlite::types::FromSql + for<'r> tokio_postgres::types::FromSql<'r> {}

impl<T: rusqlite::types::FromSql + for<'r> tokio_postgres::types::FromSql<'r>> Column for T {}

impl Row<'_> {
    /// A column by its place, from 0.
    pub fn get<T: Column>(&self, column: usize) -> Result<T, Fault> {
        Ok(match self {
            Row::File(row) => row.get(column)?,
            Row::Server(row) => row.try_get(column)?,
        })
    }

    /// A text, also where something else stands: bytes that are none show as replacement characters.
    pub fn lossy(&self, column: usize) -> Result<String, Fault> {
        Ok(match self {
            Row::File(row) => {
                let bytes = row.get_ref(column)?.as_bytes_or_null().ok().flatten();
                bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
            }
            Row::Server(row) => row.try_get::<_, Option<String>>(column)?.unwrap_or_default(),
        })
    }

    /// A text as it must be stored, or nothing where something else stands there.
    pub fn strict(&self, column: usize) -> Result<Option<String>, Fault> {
        Ok(match self {
            Row::File(row) => match row.get_ref(column)? {
                rusqlite::types::ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
                _ => None,
            },
            Row::Server(row) => row.try_get(column)?,
        })
    }
}

impl Sql<'_> {
    /// Does what gives no rows; gives how many it has changed.
    pub fn execute(self, text: &str, values: &[Value<'_>]) -> Result<u64, Fault> {
        match self {
            Sql::File(connection) => Ok(connection.prepare_cached(text)?.execute(rusqlite::params_from_iter(values))? as u64),
            Sql::Server(session) => session.execute(text, values),
        }
    }

    /// All rows of an answer, each as `read` has it.
    pub fn rows<T>(
        self,
        text: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        match self {
            Sql::File(connection) => {
                let mut statement = connection.prepare_cached(text)?;
                let mut rows = statement.query(rusqlite::params_from_iter(values))?;
                let mut all = Vec::new();
                while let Some(row) = rows.next()? {
                    all.push(read(&Row::File(row))?);
                }
                Ok(all)
            }
            Sql::Server(session) => session.query(text, values)?.iter().map(|row| read(&Row::Server(row))).collect(),
        }
    }

    /// The first row of an answer, if there is one.
    pub fn row<T>(
        self,
        text: &str,
        values: &[Value<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        Ok(self.rows(text, values, read)?.into_iter().next())
    }

    /// The file's own connection, for what only a file has: a journal, its size.
    ///
    /// # Errors
    /// On a server.
    pub fn file(&self) -> Result<&Connection, Fault> {
        match self {
            Sql::File(connection) => Ok(connection),
            Sql::Server(_) => Err(Fault::State("this belongs to a state file".to_owned())),
        }
    }
}
