//! Searching for tools.
//!
//! The index finds, this module ranks: by what of the question stands in the name. `bm25`, which SQLite offers, reads every
//! row that holds a word before it gives the first, and words such as `get` stand in every third tool; so only so many
//! candidates are looked at, those with all words in their name first. Classes, levels and signals are words of the index
//! too, and narrow a question as quickly as any.

use crate::error::CollectionError;
use crate::file::{class_number, level_number};
use crate::graded::mark;
use crate::read::{Collection, Page, definition_of};
use catalogue::{Level, RiskClass, Signal, words_of};
use json::Value;
use rusqlite::{Connection, OptionalExtension, ToSql, params};
use std::cmp::Reverse;
use std::collections::HashSet;

/// What is looked for. Without anything, every tool is found.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Words, each of which must be there; `creat*` is every word that begins so.
    pub text: String,
    /// One of these classes; any, where there are none.
    pub classes: Vec<RiskClass>,
    /// One of these levels; any, where there are none.
    pub levels: Vec<Level>,
    /// All of these signals.
    pub signals: Vec<Signal>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The part of it that was asked for, the best first.
    pub hits: Vec<Hit>,
    /// How many there are in all.
    pub count: usize,
    /// Whether there are more than are counted and ranked.
    pub is_cut: bool,
}

/// A tool that was found.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The tool's id.
    pub tool: i64,
    /// What it is called.
    pub name: String,
    /// The server's id.
    pub server: i64,
    /// What the server is called.
    pub server_name: String,
    /// The server's version; empty where it is not known.
    pub version: String,
    /// Its class.
    pub class: RiskClass,
    /// Its level.
    pub level: Level,
    /// How sure that is: 1 to 3.
    pub confidence: u8,
    /// Its signals.
    pub signals: Vec<Signal>,
    /// The first line of what it says that it does; as the server wrote it.
    pub summary: String,
}

/// How many are ranked; whoever gets more has to ask more closely.
const CANDIDATES: usize = 1_000;

/// A question has a few words.
const MOST_WORDS: usize = 12;

struct Candidate {
    tool: i64,
    name: String,
    server_name: String,
    class: i64,
    level: i64,
}

impl Collection {
    /// The tools of current servers that answer `query`, the best first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn search(&self, query: &Query, page: Page) -> Result<Found, CollectionError> {
        let words = words_in(&query.text);
        if words.is_empty() && !query.text.trim().is_empty() {
            // Nothing but marks that are in no word.
            return Ok(Found::default());
        }
        let connection = self.connection();
        let (mut candidates, mut seen) = (Vec::new(), HashSet::new());
        let mut collect = |place| collect(&connection, place, &mut candidates, &mut seen);
        let everywhere = expression(query, &words, "");
        if !words.is_empty() {
            collect(Where::Named(query.text.trim(), query))?;
        }
        match everywhere.is_empty() {
            true => drop(collect(Where::Any)?),
            // A question that few tools answer takes the index longest, which has to look at all that hold one of its words.
            // So it is asked once; only where not all that it finds can be looked at, what is in names is asked for first.
            false => match all_matches(&connection, &everywhere)? {
                Some(tools) => tools.into_iter().try_for_each(|tool| collect(Where::Is(tool)).map(drop))?,
                None => {
                    let in_names = expression(query, &words, "name : ");
                    if words.is_empty() || collect(Where::Matches(&in_names))? < CANDIDATES {
                        collect(Where::Matches(&everywhere))?;
                    }
                }
            },
        }
        let is_cut = candidates.len() >= CANDIDATES;
        candidates.truncate(CANDIDATES);
        candidates.sort_by_cached_key(|candidate| rank(candidate, &query.text, &words));
        let count = candidates.len();
        let wanted = candidates.iter().skip(page.offset).take(page.limit);
        let hits = wanted.map(|candidate| hit(&connection, candidate.tool)).collect::<Result<_, _>>()?;
        Ok(Found { hits, count, is_cut })
    }
}

enum Where<'q> {
    Named(&'q str, &'q Query),
    Matches(&'q str),
    Is(i64),
    Any,
}

/// The tools that answer, of whichever version of a server; `None` where they are too many to be looked at.
fn all_matches(connection: &Connection, expression: &str) -> Result<Option<Vec<i64>>, CollectionError> {
    let mut statement = connection.prepare_cached("SELECT rowid FROM words WHERE words MATCH ?1 LIMIT ?2")?;
    let tools = statement.query_map(params![expression, CANDIDATES as i64], |row| row.get(0))?;
    let tools: Vec<i64> = tools.collect::<rusqlite::Result<_>>()?;
    Ok((tools.len() < CANDIDATES).then_some(tools))
}

/// Adds what is there to the candidates, where it is not among them yet; how many there are then.
fn collect(
    connection: &Connection,
    place: Where<'_>,
    candidates: &mut Vec<Candidate>,
    seen: &mut HashSet<i64>,
) -> Result<usize, CollectionError> {
    let columns = "SELECT tools.id, tools.name, servers.name, tools.class, tools.level";
    let joined = "JOIN servers ON servers.id = tools.server AND servers.current";
    let (from, value): (String, &dyn ToSql) = match &place {
        Where::Named(name, _) => (format!("{columns} FROM tools {joined} WHERE tools.name = ?1 COLLATE NOCASE"), name),
        Where::Matches(expression) => {
            (format!("{columns} FROM words CROSS JOIN tools ON tools.id = words.rowid {joined} WHERE words MATCH ?1"), expression)
        }
        Where::Is(tool) => (format!("{columns} FROM tools {joined} WHERE tools.id = ?1"), tool),
        Where::Any => (format!("{columns} FROM tools {joined} WHERE ?1 = ''"), &""),
    };
    let mut statement = connection.prepare_cached(&format!("{from} LIMIT ?2"))?;
    let mut rows = statement.query(params![value, CANDIDATES as i64])?;
    while let Some(row) = rows.next()? {
        let candidate =
            Candidate { tool: row.get(0)?, name: row.get(1)?, server_name: row.get(2)?, class: row.get(3)?, level: row.get(4)? };
        let wanted = match place {
            Where::Named(_, query) => query.wants(connection, &candidate)?,
            Where::Matches(_) | Where::Is(_) | Where::Any => true,
        };
        if wanted && seen.insert(candidate.tool) {
            candidates.push(candidate);
        }
    }
    Ok(candidates.len())
}

impl Query {
    /// Whether the filters let a tool through that was found by its name.
    fn wants(&self, connection: &Connection, candidate: &Candidate) -> Result<bool, CollectionError> {
        let is_in = |number: i64, wanted: Vec<usize>| {
            wanted.is_empty() || usize::try_from(number).is_ok_and(|number| wanted.contains(&number))
        };
        let classes = self.classes.iter().map(|class| class_number(*class)).collect();
        let levels = self.levels.iter().map(|level| level_number(*level)).collect();
        if !is_in(candidate.class, classes) || !is_in(candidate.level, levels) {
            return Ok(false);
        }
        if self.signals.is_empty() {
            return Ok(true);
        }
        let mask = crate::graded::mask_of(&self.signals);
        let query = "SELECT signals FROM tools WHERE id = ?1";
        let signals: u32 = connection.prepare_cached(query)?.query_row([candidate.tool], |row| row.get(0))?;
        Ok(signals & mask == mask)
    }
}

/// The words of a question as the index has them; the last mark of one that ends in `*` is kept.
fn words_in(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for part in text.split_whitespace() {
        let is_beginning = part.ends_with('*');
        let found: Vec<&str> = part.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        let last = found.len();
        for (i, word) in found.into_iter().enumerate() {
            words.push(format!("{}{}", word.to_lowercase(), if is_beginning && i + 1 == last { "*" } else { "" }));
        }
    }
    words.truncate(MOST_WORDS);
    words
}

/// The question in the language of the index; empty where everything is wanted. `column` narrows the words to one.
fn expression(query: &Query, words: &[String], column: &str) -> String {
    let any = |marks: Vec<String>| (!marks.is_empty()).then(|| format!("marks : ({})", marks.join(" OR ")));
    let mut parts: Vec<String> = Vec::new();
    if !words.is_empty() {
        let quoted = words.iter().map(|word| match word.strip_suffix('*') {
            Some(beginning) => format!("\"{beginning}\" *"),
            None => format!("({})", forms(word).map(|form| format!("\"{form}\"")).join(" OR ")),
        });
        parts.push(format!("{column}({})", quoted.collect::<Vec<_>>().join(" AND ")));
    }
    parts.extend(any(query.classes.iter().map(|class| mark(class.name())).collect()));
    parts.extend(any(query.levels.iter().map(|level| mark(level.name())).collect()));
    parts.extend(query.signals.iter().map(|signal| format!("marks : {}", mark(signal.name()))));
    parts.join(" AND ")
}

/// A word as it stands, and with and without the `s` of plurals and verbs: names say `list_query`, descriptions `lists queries`.
/// A stemmer of the index's own would do more, but then the beginning of a word is not that of its stem.
fn forms(word: &str) -> [String; 2] {
    let other = if let Some(stem) = word.strip_suffix("ies") {
        format!("{stem}y")
    } else if let Some(stem) = word.strip_suffix('s').filter(|stem| stem.len() > 2 && !stem.ends_with('s')) {
        stem.to_owned()
    } else if let Some(stem) = word.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u'])) {
        format!("{stem}ies")
    } else {
        format!("{word}s")
    };
    [word.to_owned(), other]
}

/// The best has the least.
type Rank = (bool, usize, usize, Reverse<i64>, Reverse<i64>, String, String);

fn rank(candidate: &Candidate, text: &str, words: &[String]) -> Rank {
    let by_risk = (Reverse(candidate.level), Reverse(candidate.class));
    let names = (candidate.server_name.to_lowercase(), candidate.name.clone());
    if words.is_empty() {
        return (false, 0, 0, by_risk.0, by_risk.1, names.0, names.1);
    }
    let name = candidate.name.to_lowercase();
    let own = words_of(&candidate.name);
    // 0 where the word is in the name, 1 where another form of it is (`runs` for `run`), 2 where it is elsewhere.
    let distance = |word: &String| match word.strip_suffix('*') {
        Some(beginning) if own.iter().any(|own| own.starts_with(beginning)) => 0,
        None if own.contains(word) => 0,
        None if forms(word).iter().any(|form| own.contains(form)) => 1,
        _ => 2,
    };
    let distance: usize = words.iter().map(distance).sum();
    let of_others = own.len().abs_diff(words.len());
    (name != text.trim().to_lowercase(), distance, of_others, by_risk.0, by_risk.1, names.0, names.1)
}

fn hit(connection: &Connection, tool: i64) -> Result<Hit, CollectionError> {
    let query = "SELECT tools.name, servers.id, servers.name, servers.version, tools.class, tools.level, tools.confidence,
        tools.signals, definitions.text FROM tools JOIN servers ON servers.id = tools.server
        JOIN definitions ON definitions.id = tools.definition WHERE tools.id = ?1";
    let row = connection.prepare_cached(query)?.query_row([tool], |row| {
        let number = |column| row.get::<_, usize>(column);
        let mask: u32 = row.get(7)?;
        let hit = Hit {
            tool,
            name: row.get(0)?,
            server: row.get(1)?,
            server_name: row.get(2)?,
            version: row.get(3)?,
            // What no class has such a number has is in doubt.
            class: RiskClass::ALL.get(number(4)?).copied().unwrap_or(RiskClass::Execute),
            level: Level::ALL.get(number(5)?).copied().unwrap_or(Level::Critical),
            confidence: row.get(6)?,
            signals: Signal::ALL
                .into_iter()
                .enumerate()
                .filter(|(bit, _)| mask >> bit & 1 == 1)
                .map(|(_, signal)| signal)
                .collect(),
            summary: String::new(),
        };
        Ok((hit, row.get::<_, Vec<u8>>(8)?))
    });
    let (mut hit, packed) = row.optional()?.ok_or(CollectionError::Damaged("the index names a tool that is not there"))?;
    let definition = definition_of(&packed)?;
    let text = |key: &str| definition.root().get(key).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    let told = Some(text("description")).filter(|text| !text.is_empty()).unwrap_or_else(|| text("title"));
    hit.summary = told.lines().next().unwrap_or_default().trim().to_owned();
    Ok(hit)
}
