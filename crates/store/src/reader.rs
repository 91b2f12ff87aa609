//! Reading what is remembered.
//!
//! A reader of a file has its own connection, opened read-only, and looks into the journal as well, so that it sees what a
//! killed process has left. A reader of memory asks the writer. Either way records are read in pages, so that nobody holds
//! up anybody for long.

use crate::approvals::{self, Approval};
use crate::clock::{Clock, rfc3339};
use crate::draft::{Phase, Row};
use crate::error::Fault;
use crate::moment::{self, Beside};
use crate::sqlite::{self, Copied};
use crate::status::{self, Status};
use crate::verify::{self, Verification};
use crate::writer::Writer;
use crate::{StateUrl, StoreError};
use policy::{Outcome, Reason};
use rusqlite::Connection;
use rusqlite::types::Value;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// A reader of state. Its methods wait for the disk: call them where that may be.
pub struct Reader {
    source: Source,
    clock: Clock,
}

enum Source {
    File { path: PathBuf, connection: Connection, _copied: Option<Copied> },
    Memory(Arc<Writer>),
}

/// Which records are wanted: those that satisfy everything given.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// At or after, in milliseconds since the Unix epoch.
    pub since: Option<i64>,
    /// Before.
    pub until: Option<i64>,
    /// After this number.
    pub after_seq: Option<i64>,
    /// Of this tool.
    pub tool: Option<String>,
    /// With this outcome.
    pub outcome: Option<Outcome>,
    /// For this reason.
    pub reason: Option<Reason>,
    /// Of this phase.
    pub phase: Option<Phase>,
    /// Of this upstream.
    pub server: Option<String>,
    /// Of this principal.
    pub principal: Option<String>,
    /// Of this grant.
    pub grant: Option<String>,
    /// By this rule.
    pub rule: Option<String>,
    /// With this decision's id.
    pub id: Option<String>,
    /// Only the last so many of them.
    pub limit: Option<u64>,
}

impl Reader {
    /// Opens state to read it; nothing is made or changed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is no such file or it cannot be read; [`StoreError::Address`] for `memory:`,
    /// which only its own process can read.
    pub fn open(url: &StateUrl, clock: Clock) -> Result<Reader, StoreError> {
        let Some(path) = url.path() else {
            return Err(StoreError::Address("`memory:` can be read only by the process that holds it".to_owned()));
        };
        let (connection, copied) = sqlite::open_to_read(path).map_err(|fault| fault.at(&url.to_string()))?;
        Ok(Reader { source: Source::File { path: path.to_owned(), connection, _copied: copied }, clock })
    }

    pub(crate) fn of_memory(writer: Arc<Writer>, clock: Clock) -> Reader {
        Reader { source: Source::Memory(writer), clock }
    }

    /// The records that a filter lets through, oldest first. A record whose text was spoilt is never left out.
    ///
    /// Records written while this goes on may be among them.
    pub fn list(&self, filter: &Filter) -> Result<Rows<'_>, StoreError> {
        let mut rows = Rows {
            reader: self,
            filter: filter.clone(),
            after: filter.after_seq.unwrap_or(i64::MIN),
            page: VecDeque::new(),
            done: false,
        };
        if let Some(limit) = filter.limit {
            let (condition, mut values) = condition(filter);
            values.push(Value::from(i64::try_from(limit).unwrap_or(i64::MAX)));
            let query = format!("{SELECT} WHERE {condition} ORDER BY seq DESC LIMIT ?");
            let mut page = self.with(move |connection| rows_of(connection, &query, &values))?;
            page.reverse();
            rows.page = page.into();
            rows.done = true;
        }
        Ok(rows)
    }

    /// The records of a decision, or the one with this number.
    pub fn show(&self, id_or_seq: &str) -> Result<Vec<Row>, StoreError> {
        let by_id = self.list(&Filter { id: Some(id_or_seq.to_owned()), ..Filter::default() })?;
        let mut found = by_id.collect::<Result<Vec<_>, _>>()?;
        // A spoilt record passes every filter; here it would only stand in the way.
        let member = format!("\"id\":{}", json::quote(id_or_seq));
        found.retain(|row| row.body.contains(&member));
        if let (true, Ok(seq)) = (found.is_empty(), id_or_seq.parse::<i64>()) {
            let values = vec![Value::from(seq)];
            found = self.with(move |connection| rows_of(connection, &format!("{SELECT} WHERE seq = ?"), &values))?;
        }
        Ok(found)
    }

    /// The number of the last record; 0 when there is none.
    pub fn last_seq(&self) -> Result<i64, StoreError> {
        self.with(|connection| Ok(connection.query_row("SELECT coalesce(max(seq), 0) FROM audit", [], |row| row.get(0))?))
    }

    /// Checks the whole log: what is wrong first, and what such a check cannot find.
    pub fn verify(&self) -> Result<Verification, StoreError> {
        let Source::File { path, connection, .. } = &self.source else {
            return self.with(|connection| verify::verify(connection, None, &Beside::Nothing));
        };
        let check = || {
            let key = sqlite::key_beside(path)?;
            let (transaction, beside) = moment::look(connection, path, key.as_ref().map(|key| key.seal()), true)?;
            verify::verify(&transaction, key.map(|key| key.public()), &beside)
        };
        check().map_err(|fault: Fault| fault.at(&self.place()))
    }

    /// Calls and denials since a time, in milliseconds since the Unix epoch, or of all records; and who is running.
    pub fn status(&self, since: Option<i64>) -> Result<Status, StoreError> {
        let now = self.clock.now();
        self.with(move |connection| status::status(connection, now, since))
    }

    /// All approvals that are kept, oldest first.
    pub fn approvals(&self) -> Result<Vec<Approval>, StoreError> {
        let now = self.clock.now();
        self.with(move |connection| approvals::all(connection, now))
    }

    /// One approval.
    ///
    /// # Errors
    /// [`StoreError::NoSuchApproval`]
    pub fn approval(&self, id: &str) -> Result<Approval, StoreError> {
        let (now, wanted) = (self.clock.now(), id.to_owned());
        self.with(move |connection| approvals::find(connection, &wanted, now))?
            .ok_or_else(|| StoreError::NoSuchApproval(id.to_owned()))
    }

    /// Everything read inside `work` is of one moment.
    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.source {
            Source::File { path, connection, .. } => {
                let read = || {
                    let (transaction, beside) = moment::look(connection, path, None, false)?;
                    show(&transaction, beside)?;
                    work(&transaction)
                };
                read().map_err(|fault: Fault| fault.at(&self.place()))
            }
            Source::Memory(writer) => writer.submit_and_wait(move |ledger| work(ledger.connection)),
        }
    }

    fn place(&self) -> String {
        match &self.source {
            Source::File { path, .. } => StateUrl::Sqlite(path.clone()).to_string(),
            Source::Memory(_) => StateUrl::Memory.to_string(),
        }
    }
}

/// Records, one after the other.
pub struct Rows<'r> {
    reader: &'r Reader,
    filter: Filter,
    after: i64,
    page: VecDeque<Row>,
    done: bool,
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Result<Row, StoreError>> {
        if self.page.is_empty() && !self.done {
            let filter = Filter { after_seq: Some(self.after), ..self.filter.clone() };
            let (condition, values) = condition(&filter);
            let query = format!("{SELECT} WHERE {condition} ORDER BY seq LIMIT {PAGE}");
            match self.reader.with(move |connection| rows_of(connection, &query, &values)) {
                Ok(page) => {
                    self.done = page.len() < PAGE;
                    self.page = page.into();
                }
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        let row = self.page.pop_front()?;
        self.after = row.seq;
        Some(Ok(row))
    }
}

/// Puts what only the journal holds beside the records of the database.
fn show(connection: &Connection, beside: Beside) -> Result<(), Fault> {
    connection.prepare_cached("DELETE FROM temp.tail")?.execute([])?;
    let Beside::Found(contents) = beside else { return Ok(()) };
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO temp.tail(seq, body, hash) VALUES (?1, ?2, ?3)")?;
    for row in contents.groups.iter().chain(&contents.rest).flat_map(|group| &group.records) {
        insert.execute((row.seq, &row.body, &row.hash))?;
    }
    Ok(())
}

/// Reads what is there even where it is not what we wrote: bytes that are no text show as replacement characters.
fn rows_of(connection: &Connection, query: &str, values: &[Value]) -> Result<Vec<Row>, Fault> {
    let mut query = connection.prepare_cached(query)?;
    let text = |value: rusqlite::types::ValueRef<'_>| {
        value.as_bytes_or_null().ok().flatten().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let rows = query.query_map(rusqlite::params_from_iter(values), |row| {
        Ok(Row {
            seq: row.get(0)?,
            body: text(row.get_ref(1)?).unwrap_or_default(),
            hash: text(row.get_ref(2)?).unwrap_or_default(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The filter as SQL, with its values in order.
fn condition(filter: &Filter) -> (String, Vec<Value>) {
    let mut tests = Vec::new();
    let mut values = Vec::new();
    let members = [
        ("at >=", filter.since.map(rfc3339)),
        ("at <", filter.until.map(rfc3339)),
        ("tool =", filter.tool.clone()),
        ("outcome =", filter.outcome.map(|outcome| outcome.as_str().to_owned())),
        ("reason =", filter.reason.map(|reason| reason.as_str().to_owned())),
        ("phase =", filter.phase.map(|phase| phase.as_str().to_owned())),
        ("server =", filter.server.clone()),
        ("principal =", filter.principal.clone()),
        ("grant =", filter.grant.clone()),
        ("rule =", filter.rule.clone()),
        ("id =", filter.id.clone()),
    ];
    for (test, value) in members {
        if let (Some(value), Some((member, operator))) = (value, test.split_once(' ')) {
            tests.push(format!("json_extract(body, '$.{member}') {operator} ?"));
            values.push(Value::from(value));
        }
    }
    let mut condition = match tests.is_empty() {
        true => "true".to_owned(),
        false => format!("CASE WHEN json_valid(body) THEN {} ELSE true END", tests.join(" AND ")),
    };
    if let Some(seq) = filter.after_seq {
        condition.push_str(" AND seq > ?");
        values.push(Value::from(seq));
    }
    (condition, values)
}

const SELECT: &str = "SELECT seq, body, hash FROM audit";
const PAGE: usize = 256;
