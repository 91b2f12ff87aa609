//! Reading the file: servers and their tools.

use crate::error::CollectionError;
use crate::facts::{Facts, Isolation, Registry};
use crate::file;
use crate::graded::unpacked;
use catalogue::{Pinned, RiskClass, Signal, ToolRisk, grade};
use jiff::Timestamp;
use json::{Document, Strictness, Value};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A catalog, open for reading; any number of threads may ask.
pub struct Collection {
    connection: Mutex<Connection>,
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many are passed over.
    pub offset: usize,
    /// How many are given at most.
    pub limit: usize,
}

impl Page {
    /// All of it.
    pub const WHOLE: Page = Page { offset: 0, limit: i64::MAX as usize };
}

/// One server as it was asked once.
#[derive(Clone, Debug)]
pub struct Server {
    /// By which the catalog knows it, for as long as the file lives.
    pub id: i64,
    /// Where it is from, and what it says of itself.
    pub facts: Facts,
    /// The digest of all that it said; empty where it could not be asked.
    pub digest: String,
    /// Whether it is the newest of its name that could be asked.
    pub is_current: bool,
    /// How many tools it lists.
    pub tools: u64,
    /// How many of each class, in the order of [`RiskClass::ALL`].
    pub classes: [u64; 5],
}

impl Server {
    /// By which [`Collection::server`] finds this version: `name@version`, or the name where there is no version.
    pub fn designation(&self) -> String {
        match self.facts.version.as_str() {
            "" => self.facts.name.clone(),
            version => format!("{}@{version}", self.facts.name),
        }
    }

    /// How many of its tools have this class.
    pub fn count(&self, class: RiskClass) -> u64 {
        self.classes[file::class_number(class)]
    }
}

/// One tool, with its grade.
#[derive(Debug)]
pub struct Tool {
    /// By which the catalog knows it, for as long as the file lives.
    pub id: i64,
    /// The server that lists it.
    pub server: i64,
    /// What it is called.
    pub name: String,
    /// The definition as the server gave it, without white space between its tokens.
    pub definition: Document,
    /// Its grade, as this program grades.
    pub risk: ToolRisk,
}

/// What is in a catalog, of the current version of each server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many servers.
    pub servers: u64,
    /// How many of them could be asked.
    pub answered: u64,
    /// How many tools.
    pub tools: u64,
    /// How many tools of each class, in the order of [`RiskClass::ALL`].
    pub classes: [u64; 5],
    /// How many of each level, in the order of [`catalogue::Level::ALL`].
    pub levels: [u64; 4],
    /// How many with each signal, in the order of [`Signal::ALL`].
    pub signals: [u64; Signal::ALL.len()],
}

const SERVER: &str = "id, name, package, version, flags, digest, registry, environment, reported_name, revision, instructions,
    isolation, problem, captured_at, current, tools, read, write, execute, destructive, financial";

impl Collection {
    /// Opens the catalog at `path`, which is not changed.
    ///
    /// # Errors
    /// When there is none, or it is no catalog, or another version's.
    pub fn open(path: &Path) -> Result<Collection, CollectionError> {
        Ok(Collection { connection: Mutex::new(file::open(path)?) })
    }

    pub(crate) fn connection(&self) -> MutexGuard<'_, Connection> {
        // Whoever panicked has changed nothing: it is read only.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much is in it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn totals(&self) -> Result<Totals, CollectionError> {
        let query = "SELECT value FROM about WHERE name = 'counts'";
        let counts: Option<String> = self.connection().query_row(query, [], |row| row.get(0)).optional()?;
        // A build that has not ended yet has not counted.
        let counts = counts.unwrap_or_default();
        let mut counts = counts.split(' ').map(|count| count.parse().unwrap_or_default());
        let mut next = || counts.next().unwrap_or_default();
        Ok(Totals {
            servers: next(),
            answered: next(),
            tools: next(),
            classes: std::array::from_fn(|_| next()),
            levels: std::array::from_fn(|_| next()),
            signals: std::array::from_fn(|_| next()),
        })
    }

    /// The current version of each server, by name; of those with `text` in their name or package, where it is not empty.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn servers(&self, text: &str, page: Page) -> Result<Vec<Server>, CollectionError> {
        let query = format!(
            "SELECT {SERVER} FROM servers
             WHERE current AND (?1 = '' OR instr(lower(name), ?1) OR instr(lower(package), ?1))
             ORDER BY name COLLATE NOCASE, name LIMIT ?2 OFFSET ?3"
        );
        self.servers_by(&query, params![text.to_lowercase(), bound(page.limit), bound(page.offset)])
    }

    /// Every version of the server of this name that is in the catalog, the newest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn versions(&self, name: &str) -> Result<Vec<Server>, CollectionError> {
        let query = format!("SELECT {SERVER} FROM servers WHERE name = ?1 COLLATE NOCASE AND name = ?1");
        let mut versions = self.servers_by(&query, [name])?;
        versions.sort_by(|one, other| {
            let by_version = crate::write::compare_versions(&other.facts.version, &one.facts.version);
            other.is_current.cmp(&one.is_current).then(by_version).then(other.id.cmp(&one.id))
        });
        Ok(versions)
    }

    /// The server of this designation: `NAME` for its current version, `NAME@VERSION`, or `NAME@VERSION#DIGEST`, where the
    /// first digits of the digest are enough.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn server(&self, designation: &str) -> Result<Option<Server>, CollectionError> {
        if let Some(current) = self.versions(designation)?.into_iter().next() {
            return Ok(Some(current));
        }
        let (designation, digest) = designation.rsplit_once('#').unwrap_or((designation, ""));
        let mut versions = self.versions(designation)?;
        if let (true, Some((name, version))) = (versions.is_empty(), designation.rsplit_once('@')) {
            versions = self.versions(name)?;
            versions.retain(|server| server.facts.version == version);
        }
        Ok(versions.into_iter().find(|server| server.digest.starts_with(digest)))
    }

    /// The server of this id.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn server_by_id(&self, id: i64) -> Result<Option<Server>, CollectionError> {
        Ok(self.servers_by(&format!("SELECT {SERVER} FROM servers WHERE id = ?1"), [id])?.into_iter().next())
    }

    fn servers_by(&self, query: &str, parameters: impl rusqlite::Params) -> Result<Vec<Server>, CollectionError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(query)?;
        let servers = statement.query_map(parameters, server_of)?;
        Ok(servers.collect::<rusqlite::Result<_>>()?)
    }

    /// The tools of a server, in the order of its list.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tools(&self, server: &Server) -> Result<Vec<Tool>, CollectionError> {
        let rows: Vec<(i64, String, Vec<u8>)> = {
            let connection = self.connection();
            let mut statement = connection.prepare_cached(
                "SELECT tools.id, tools.name, definitions.text FROM tools JOIN definitions ON definitions.id = tools.definition
                 WHERE tools.server = ?1 ORDER BY tools.id",
            )?;
            let rows = statement.query_map([server.id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        let tool = |(id, name, text): (i64, String, Vec<u8>)| -> Result<Tool, CollectionError> {
            let definition = definition_of(&text)?;
            let risk = grade(definition.root(), &server.facts.name);
            Ok(Tool { id, server: server.id, name, risk, definition })
        };
        rows.into_iter().map(tool).collect()
    }

    /// The names of the tools of a server, in the order of its list.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tool_names(&self, server: &Server) -> Result<Vec<String>, CollectionError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached("SELECT name FROM tools WHERE server = ?1 ORDER BY id")?;
        let names = statement.query_map([server.id], |row| row.get(0))?;
        Ok(names.collect::<rusqlite::Result<_>>()?)
    }

    /// The tool of this name of a server; the first of them, where it lists several.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tool(&self, server: &Server, name: &str) -> Result<Option<Tool>, CollectionError> {
        let row: Option<(i64, Vec<u8>)> = {
            let connection = self.connection();
            let mut statement = connection.prepare_cached(
                "SELECT tools.id, definitions.text FROM tools JOIN definitions ON definitions.id = tools.definition
                 WHERE tools.server = ?1 AND tools.name = ?2 ORDER BY tools.id LIMIT 1",
            )?;
            statement.query_row(params![server.id, name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?
        };
        let Some((id, text)) = row else { return Ok(None) };
        let definition = definition_of(&text)?;
        let risk = grade(definition.root(), &server.facts.name);
        Ok(Some(Tool { id, server: server.id, name: name.to_owned(), risk, definition }))
    }

    /// The definitions of a server's prompts, as a JSON array.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn prompts(&self, server: &Server) -> Result<Document, CollectionError> {
        let query = "SELECT prompts FROM servers WHERE id = ?1";
        let packed: Vec<u8> = self.connection().query_row(query, [server.id], |row| row.get(0))?;
        definition_of(&packed)
    }

    /// Everything that a server says of itself, to be compared.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn pinned(&self, server: &Server) -> Result<Pinned, CollectionError> {
        let tools = self.tools(server)?;
        let prompts = self.prompts(server)?;
        let named = |prompt: Value<'_>| Some((prompt.get("name")?.as_str()?.into_owned(), prompt.canonical()));
        let prompts: BTreeMap<String, String> = prompts.root().elements().into_iter().flatten().filter_map(named).collect();
        Ok(Pinned {
            instructions: Some(server.facts.instructions.clone()),
            tools: Some(tools.into_iter().map(|tool| (tool.name, tool.definition.root().canonical())).collect()),
            prompts: Some(prompts),
        })
    }
}

fn bound(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A packed JSON text, read.
pub(crate) fn definition_of(packed: &[u8]) -> Result<Document, CollectionError> {
    let text = unpacked(packed).ok_or(CollectionError::Damaged("a definition cannot be unpacked"))?;
    Document::parse(text, Strictness::Reply).map_err(|_| CollectionError::Damaged("a definition is not JSON"))
}

fn server_of(row: &Row<'_>) -> rusqlite::Result<Server> {
    let facts = Facts {
        name: row.get(1)?,
        package: row.get(2)?,
        version: row.get(3)?,
        flags: strings(&row.get::<_, String>(4)?),
        registry: Registry::named(&row.get::<_, String>(6)?),
        environment: strings(&row.get::<_, String>(7)?),
        reported_name: row.get(8)?,
        revision: row.get(9)?,
        instructions: row.get(10)?,
        isolation: Isolation::named(&row.get::<_, String>(11)?),
        problem: row.get(12)?,
        captured_at: Timestamp::from_second(row.get(13)?).unwrap_or(Timestamp::UNIX_EPOCH),
    };
    let class = |i: usize| row.get(16 + i);
    Ok(Server {
        id: row.get(0)?,
        digest: row.get(5)?,
        is_current: row.get(14)?,
        tools: row.get(15)?,
        classes: [class(0)?, class(1)?, class(2)?, class(3)?, class(4)?],
        facts,
    })
}

fn strings(list: &str) -> Vec<String> {
    let Ok(document) = Document::parse(list.to_owned(), Strictness::Reply) else { return Vec::new() };
    let texts = document.root().elements().into_iter().flatten();
    texts.filter_map(|text| text.as_str().map(|text| text.into_owned())).collect()
}
