//! Reading what is remembered.
//!
//! A reader of a file has its own connection, opened read-only, and looks into the journal as well, so that it sees what a
//! killed process has left. A reader of memory asks the writer. Either way records are read in pages, so that nobody holds
//! up anybody for long.

use crate::address::ServerAddress;
use crate::approvals::{self, Approval};
use crate::authorizations::{self, StoredAuthorization};
use crate::clock::{Clock, rfc3339};
use crate::documents::{self, Document, DocumentKind};
use crate::draft::{Phase, Row};
use crate::error::Fault;
use crate::grants::{self, Kept};
use crate::issued::{self, Issued, Wanted};
use crate::moment::{self, Beside};
use crate::server::reading::Remote;
use crate::sql::Sql;
use crate::sqlite::{self, Copied};
use crate::status::{self, Status};
use crate::value::{Value, values};
use crate::verify::{self, Verification};
use crate::writer::Writer;
use crate::{StateUrl, StoreError};
use policy::{Outcome, Reason};
use rusqlite::Connection;
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
    Server { remote: Remote, place: String },
}

/// Which records are wanted: those that satisfy everything given.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// At or after, in milliseconds since the Unix epoch.
    pub since: Option<i64>,
    /// Before.
    pub until: Option<i64>,
    /// After this number, in every chain where there are several.
    pub after_seq: Option<i64>,
    /// After what was there at a moment.
    pub after: Option<Position>,
    /// Only what was there at a moment.
    pub until_position: Option<Position>,
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

/// How far the log went at a moment: the last number of every chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(Vec<(String, i64)>);

impl Reader {
    /// Opens state to read it; nothing is made or changed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is no such file or it cannot be read; [`StoreError::Address`] for `memory:`,
    /// which only its own process can read.
    pub fn open(url: &StateUrl, clock: Clock) -> Result<Reader, StoreError> {
        let url = url.records();
        let path = match url {
            StateUrl::Sqlite(path) => path,
            StateUrl::Memory => {
                return Err(StoreError::Address("`memory:` can be read only by the process that holds it".to_owned()));
            }
            StateUrl::Redis { .. } => return Err(StoreError::Address("records cannot lie in Redis".to_owned())),
            StateUrl::Postgres(address) => {
                let keys = StateUrl::default_keys()?;
                return Reader::of_server(address, keys, clock);
            }
        };
        let (connection, copied) = sqlite::open_to_read(path).map_err(|fault| fault.at(&url.to_string()))?;
        Ok(Reader { source: Source::File { path: path.to_owned(), connection, _copied: copied }, clock })
    }

    /// A reader of state on a server, where this gateway's keys lie in `keys`.
    pub(crate) fn of_server(address: &ServerAddress, keys: PathBuf, clock: Clock) -> Result<Reader, StoreError> {
        let place = address.to_string();
        let (remote, server_clock) = Remote::open(address.clone(), keys).map_err(|fault| fault.at(&place))?;
        let clock = if clock.is_simulated() { clock } else { server_clock };
        Ok(Reader { source: Source::Server { remote, place }, clock })
    }

    pub(crate) fn of_memory(writer: Arc<Writer>, clock: Clock) -> Reader {
        Reader { source: Source::Memory(writer), clock }
    }

    /// The records that a filter lets through, oldest first. A record whose text was spoilt is never left out.
    ///
    /// Records written while this goes on may be among them.
    pub fn list(&self, filter: &Filter) -> Result<Rows<'_>, StoreError> {
        let mut rows = Rows { reader: self, filter: filter.clone(), after: i64::MIN, page: VecDeque::new(), done: false };
        if let Some(limit) = filter.limit {
            let (condition, bound, order) = (condition(filter), Bound::of(filter), self.order());
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let query =
                format!("SELECT seq, body, hash, {order} FROM audit WHERE {condition} ORDER BY {order} DESC LIMIT {limit}");
            let mut page = self.with(move |sql| rows_of(sql, &query, &bound.values()))?;
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
            let order = self.order();
            let query = format!("SELECT seq, body, hash, {order} FROM audit WHERE seq = ?1 ORDER BY {order}");
            let rows = self.with(move |sql| rows_of(sql, &query, values![seq]))?;
            found = rows.into_iter().map(|(_, row)| row).collect();
        }
        Ok(found)
    }

    /// The number of the last record; 0 when there is none.
    pub fn last_seq(&self) -> Result<i64, StoreError> {
        self.with(|sql| Ok(sql.row("SELECT coalesce(max(seq), 0) FROM audit", &[], |row| row.get(0))?.unwrap_or(0)))
    }

    /// How far the log goes now; what comes later lies after it, whichever gateway writes it.
    pub fn position(&self) -> Result<Position, StoreError> {
        self.with(|sql| {
            let find = match sql {
                Sql::File(_) => "SELECT '', coalesce(max(seq), 0) FROM audit",
                Sql::Server(_) => "SELECT chain, seq FROM head ORDER BY chain",
            };
            Ok(Position(sql.rows(find, &[], |row| Ok((row.get(0)?, row.get(1)?)))?))
        })
    }

    /// Checks the whole log: what is wrong first, and what such a check cannot find.
    pub fn verify(&self) -> Result<Verification, StoreError> {
        let (path, connection) = match &self.source {
            Source::File { path, connection, .. } => (path, connection),
            Source::Memory(_) => return self.with(|sql| verify::verify(sql.file()?, None, &Beside::Nothing)),
            Source::Server { remote, place } => return remote.verify().map_err(|fault| fault.at(place)),
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
        self.with(move |sql| status::status(sql, now, since))
    }

    /// All approvals that are kept, oldest first.
    pub fn approvals(&self) -> Result<Vec<Approval>, StoreError> {
        let now = self.clock.now();
        self.with(move |sql| approvals::all(sql, now))
    }

    /// One approval.
    ///
    /// # Errors
    /// [`StoreError::NoSuchApproval`]
    pub fn approval(&self, id: &str) -> Result<Approval, StoreError> {
        let (now, wanted) = (self.clock.now(), id.to_owned());
        self.with(move |sql| approvals::find(sql, &wanted, now))?.ok_or_else(|| StoreError::NoSuchApproval(id.to_owned()))
    }

    /// Counts up with every change of a server, policy or grant that is kept. Cheap: for whoever looks often.
    pub fn kept_version(&self) -> Result<i64, StoreError> {
        self.with_database(documents::version)
    }

    /// What people have given to keep, as it is now.
    pub fn kept(&self) -> Result<Kept, StoreError> {
        // The version first: what comes in between is seen again.
        let version = self.kept_version()?;
        self.with_database(move |sql| {
            let (servers, policies) = (documents::all(sql, DocumentKind::Server)?, documents::all(sql, DocumentKind::Policy)?);
            Ok(Kept { version, servers, policies, grants: grants::all(sql)? })
        })
    }

    /// The versions of a document that are kept, the latest first: at most a hundred.
    pub fn history(&self, kind: DocumentKind, name: &str) -> Result<Vec<Document>, StoreError> {
        let name = name.to_owned();
        self.with_database(move |sql| documents::history(sql, kind, &name, documents::HISTORY))
    }

    /// Counts up with every change of an authorisation. Cheap: for whoever looks often.
    pub fn authorizations_version(&self) -> Result<i64, StoreError> {
        self.with_database(authorizations::version)
    }

    /// All authorisations that are kept, by server and principal, and the version that they are of.
    pub fn authorizations(&self) -> Result<(i64, Vec<StoredAuthorization>), StoreError> {
        let version = self.authorizations_version()?;
        Ok((version, self.with_database(authorizations::all)?))
    }

    /// Who has issued each of the things that are wanted.
    pub(crate) fn issued(&self, wanted: Arc<Wanted>) -> Result<Vec<Vec<Issued>>, StoreError> {
        let now = self.clock.now();
        self.with_database(move |sql| issued::find(sql, &wanted, now))
    }

    /// Whether it reads from a server, to which it holds a connection.
    pub(crate) fn is_of_server(&self) -> bool {
        matches!(self.source, Source::Server { .. })
    }

    /// The same as [`Reader::with`] for what is never in the journal.
    fn with_database<T: Send + 'static>(
        &self,
        work: impl FnOnce(Sql<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.source {
            Source::File { connection, .. } => work(Sql::File(connection)).map_err(|fault| fault.at(&self.place())),
            Source::Memory(_) | Source::Server { .. } => self.with(work),
        }
    }

    /// Everything read inside `work` is of one moment.
    fn with<T: Send + 'static>(&self, work: impl FnOnce(Sql<'_>) -> Result<T, Fault> + Send + 'static) -> Result<T, StoreError> {
        match &self.source {
            Source::File { path, connection, .. } => {
                let read = || {
                    let (transaction, beside) = moment::look(connection, path, None, false)?;
                    show(&transaction, beside)?;
                    work(Sql::File(&transaction))
                };
                read().map_err(|fault: Fault| fault.at(&self.place()))
            }
            Source::Memory(writer) => writer.submit_and_wait(move |ledger| work(ledger.sql)),
            Source::Server { remote, place } => remote.ask(work).map_err(|fault| fault.at(place)),
        }
    }

    /// The column that records are shown in the order of. Numbers are those of one chain.
    fn order(&self) -> &'static str {
        match self.source {
            Source::File { .. } | Source::Memory(_) => "seq",
            Source::Server { .. } => "place",
        }
    }

    fn place(&self) -> String {
        match &self.source {
            Source::File { path, .. } => StateUrl::Sqlite(path.clone()).to_string(),
            Source::Memory(_) => StateUrl::Memory.to_string(),
            Source::Server { place, .. } => place.clone(),
        }
    }
}

/// Records, one after the other.
pub struct Rows<'r> {
    reader: &'r Reader,
    filter: Filter,
    after: i64,
    page: VecDeque<(i64, Row)>,
    done: bool,
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Result<Row, StoreError>> {
        if self.page.is_empty() && !self.done {
            let (condition, bound) = (condition(&self.filter), Bound::of(&self.filter));
            let (order, after) = (self.reader.order(), self.after);
            let query = format!(
                "SELECT seq, body, hash, {order} FROM audit WHERE {condition} AND {order} > {after} ORDER BY {order} LIMIT {PAGE}"
            );
            match self.reader.with(move |sql| rows_of(sql, &query, &bound.values())) {
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
        let (place, row) = self.page.pop_front()?;
        self.after = place;
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
fn rows_of(sql: Sql<'_>, query: &str, values: &[Value<'_>]) -> Result<Vec<(i64, Row)>, Fault> {
    sql.rows(query, values, |row| Ok((row.get(3)?, Row { seq: row.get(0)?, body: row.lossy(1)?, hash: row.lossy(2)? })))
}

/// The texts that a filter compares with, in the order of [`MEMBERS`].
struct Bound(Vec<String>);

impl Bound {
    fn of(filter: &Filter) -> Bound {
        Bound(MEMBERS.iter().filter_map(|(_, _, value)| value(filter)).collect())
    }

    fn values(&self) -> Vec<Value<'_>> {
        self.0.iter().map(Value::from).collect()
    }
}

/// The filter as SQL; its texts stand in [`Bound`].
fn condition(filter: &Filter) -> String {
    let wanted = MEMBERS.iter().filter(|(_, _, value)| value(filter).is_some());
    let tests =
        wanted.enumerate().map(|(i, (member, operator, _))| format!("json_extract(body, '$.{member}') {operator} ?{}", i + 1));
    let tests: Vec<String> = tests.collect();
    let mut condition = match tests.is_empty() {
        true => "true".to_owned(),
        false => format!("CASE WHEN json_valid(body) THEN {} ELSE true END", tests.join(" AND ")),
    };
    if let Some(seq) = filter.after_seq {
        condition.push_str(&format!(" AND seq > {seq}"));
    }
    for (position, operator, elsewhere) in [(&filter.after, ">", true), (&filter.until_position, "<=", false)] {
        if let Some(position) = position {
            condition.push_str(&format!(" AND {}", position.compared(operator, elsewhere)));
        }
    }
    condition
}

impl Position {
    /// The comparison as SQL. In a chain that was not there yet everything is `elsewhere`. Ids are letters and digits.
    fn compared(&self, operator: &str, elsewhere: bool) -> String {
        match &self.0[..] {
            [(chain, seq)] if chain.is_empty() => format!("seq {operator} {seq}"),
            chains => {
                let cases = chains.iter().filter(|(chain, _)| chain.bytes().all(|byte| byte.is_ascii_alphanumeric()));
                let cases: String =
                    cases.map(|(chain, seq)| format!(" WHEN chain = '{chain}' THEN seq {operator} {seq}")).collect();
                if cases.is_empty() { elsewhere.to_string() } else { format!("CASE{cases} ELSE {elsewhere} END") }
            }
        }
    }
}

/// What a filter compares: the member, how, and with what.
type Member = (&'static str, &'static str, fn(&Filter) -> Option<String>);

const MEMBERS: &[Member] = &[
    ("at", ">=", |filter| filter.since.map(rfc3339)),
    ("at", "<", |filter| filter.until.map(rfc3339)),
    ("tool", "=", |filter| filter.tool.clone()),
    ("outcome", "=", |filter| filter.outcome.map(|outcome| outcome.as_str().to_owned())),
    ("reason", "=", |filter| filter.reason.map(|reason| reason.as_str().to_owned())),
    ("phase", "=", |filter| filter.phase.map(|phase| phase.as_str().to_owned())),
    ("server", "=", |filter| filter.server.clone()),
    ("principal", "=", |filter| filter.principal.clone()),
    ("grant", "=", |filter| filter.grant.clone()),
    ("rule", "=", |filter| filter.rule.clone()),
    ("id", "=", |filter| filter.id.clone()),
];

const PAGE: usize = 256;
