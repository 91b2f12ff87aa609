//! Writing to the file.

use crate::error::CollectionError;
use crate::file;
use crate::graded::{Graded, GradedTool};
use catalogue::{Level, RiskClass, Signal};
use json::quote;
use rusqlite::{Connection, OptionalExtension, params};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// The one who writes to a catalog. What it has taken is kept when it commits.
pub(crate) struct Writer {
    connection: Connection,
    uncommitted: usize,
}

/// Digest of a text that was taken in.
pub(crate) type SourceDigest = [u8; 32];

/// What is lost at most when a build from captures is killed.
const SERVERS_A_COMMIT: usize = 200;

impl Writer {
    pub fn open(path: &Path) -> Result<Writer, CollectionError> {
        Ok(Writer { connection: file::open_or_make(path)?, uncommitted: 0 })
    }

    /// The texts that were taken in before.
    pub fn sources(&self) -> Result<HashSet<SourceDigest>, CollectionError> {
        let mut statement = self.connection.prepare("SELECT digest FROM sources")?;
        let digests = statement.query_map([], |row| row.get::<_, SourceDigest>(0))?;
        Ok(digests.collect::<rusqlite::Result<_>>()?)
    }

    /// Takes a server in; whether it was not known before.
    pub fn take(&mut self, graded: &Graded, source: Option<&SourceDigest>) -> Result<bool, CollectionError> {
        if self.uncommitted == 0 {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
        }
        self.uncommitted += 1;
        let is_new = self.put(graded)?;
        if let Some(source) = source {
            self.connection.prepare_cached("INSERT OR IGNORE INTO sources VALUES (?1)")?.execute([source])?;
        }
        if self.uncommitted >= SERVERS_A_COMMIT {
            self.commit()?;
        }
        Ok(is_new)
    }

    fn put(&self, graded: &Graded) -> Result<bool, CollectionError> {
        let facts = &graded.facts;
        let flags = list(&facts.flags);
        let known = "SELECT id FROM servers WHERE package = ?1 AND version = ?2 AND flags = ?3 AND digest = ?4";
        let key = params![facts.package, facts.version, flags, graded.digest];
        let known: Option<i64> = self.connection.prepare_cached(known)?.query_row(key, |row| row.get(0)).optional()?;
        if let Some(id) = known {
            let seen = "UPDATE servers SET captured_at = max(captured_at, ?2), problem = ?3 WHERE id = ?1";
            self.connection.prepare_cached(seen)?.execute(params![id, facts.captured_at.as_second(), facts.problem])?;
            return Ok(false);
        }
        // It answers now.
        let failed = "DELETE FROM servers WHERE package = ?1 AND version = ?2 AND flags = ?3 AND digest = ''";
        self.connection.prepare_cached(failed)?.execute(params![facts.package, facts.version, flags])?;
        let insert = "INSERT INTO servers (name, package, version, flags, digest, registry, environment, reported_name, revision,
            instructions, prompts, isolation, problem, captured_at, tools, read, write, execute, destructive, financial)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)";
        let [read, write, execute, destructive, financial] =
            RiskClass::ALL.map(|class| graded.tools.iter().filter(|tool| tool.class == class).count());
        self.connection.prepare_cached(insert)?.execute(params![
            facts.name,
            facts.package,
            facts.version,
            flags,
            graded.digest,
            facts.registry.name(),
            list(&facts.environment),
            facts.reported_name,
            facts.revision,
            facts.instructions,
            graded.prompts,
            facts.isolation.name(),
            facts.problem,
            facts.captured_at.as_second(),
            graded.tools.len(),
            read,
            write,
            execute,
            destructive,
            financial,
        ])?;
        let server = self.connection.last_insert_rowid();
        graded.tools.iter().try_for_each(|tool| self.put_tool(server, tool))?;
        Ok(true)
    }

    fn put_tool(&self, server: i64, tool: &GradedTool) -> Result<(), CollectionError> {
        let digest = bytes_of(&tool.digest);
        let known = self
            .connection
            .prepare_cached("SELECT id FROM definitions WHERE digest = ?1")?
            .query_row([&digest], |row| row.get::<_, i64>(0))
            .optional()?;
        let definition = match known {
            Some(id) => id,
            None => {
                let insert = "INSERT INTO definitions (digest, text) VALUES (?1, ?2)";
                self.connection.prepare_cached(insert)?.execute(params![digest, tool.definition])?;
                self.connection.last_insert_rowid()
            }
        };
        let insert = "INSERT INTO tools (server, name, definition, class, level, confidence, signals)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.connection.prepare_cached(insert)?.execute(params![
            server,
            tool.name,
            definition,
            file::class_number(tool.class),
            file::level_number(tool.level),
            tool.confidence,
            tool.signals,
        ])?;
        let id = self.connection.last_insert_rowid();
        for (insert, words) in [
            ("INSERT INTO names (rowid, text) VALUES (?1, ?2)", &tool.words.of_name),
            ("INSERT INTO words (rowid, text) VALUES (?1, ?2)", &tool.words.of_all),
        ] {
            self.connection.prepare_cached(insert)?.execute(params![id, words])?;
        }
        Ok(())
    }

    /// Keeps what was taken in until now.
    pub fn commit(&mut self) -> Result<(), CollectionError> {
        if std::mem::take(&mut self.uncommitted) > 0 {
            self.connection.execute_batch("COMMIT")?;
        }
        Ok(())
    }

    /// Commits, and settles which version of each server is the current one.
    pub fn finish(mut self) -> Result<(), CollectionError> {
        self.commit()?;
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        self.settle_current()?;
        self.count()?;
        // No `ANALYZE`: once SQLite knows how many servers there are, it makes a Bloom filter of all of them for each question.
        self.connection.execute_batch(
            "INSERT INTO names (names) VALUES ('optimize'); INSERT INTO words (words) VALUES ('optimize');
             CREATE VIRTUAL TABLE temp.terms USING fts5vocab (main, words, row);
             DELETE FROM vocabulary;
             INSERT INTO vocabulary SELECT term FROM temp.terms;
             DROP TABLE temp.terms;
             COMMIT;",
        )?;
        Ok(())
    }

    /// Of the versions of a server the newest that could be asked.
    fn settle_current(&self) -> Result<(), CollectionError> {
        let mut newest: BTreeMap<String, Candidate> = BTreeMap::new();
        let mut statement =
            self.connection.prepare("SELECT id, name, version, digest <> '', captured_at FROM servers ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let candidate = Candidate { id: row.get(0)?, version: row.get(2)?, answered: row.get(3)?, captured_at: row.get(4)? };
            let name: String = row.get(1)?;
            match newest.get(&name) {
                Some(other) if candidate.against(other) == Ordering::Less => {}
                _ => drop(newest.insert(name, candidate)),
            }
        }
        self.connection.execute_batch("UPDATE servers SET current = 0 WHERE current")?;
        let mut update = self.connection.prepare("UPDATE servers SET current = 1 WHERE id = ?1")?;
        for candidate in newest.values() {
            update.execute([candidate.id])?;
        }
        Ok(())
    }
}

impl Writer {
    /// Counts what everybody asks for, so that nobody has to go through half a million rows for it.
    fn count(&self) -> Result<(), CollectionError> {
        let servers = "SELECT count(*), coalesce(sum(digest <> ''), 0) FROM servers WHERE current";
        let servers: [u64; 2] = self.connection.query_row(servers, [], |row| Ok([row.get(0)?, row.get(1)?]))?;
        let (mut classes, mut levels, mut signals) = ([0; RiskClass::ALL.len()], [0; Level::ALL.len()], [0; Signal::ALL.len()]);
        self.connection.execute_batch(
            "DELETE FROM grades;
             INSERT INTO grades SELECT tools.level, tools.class, tools.signals, count(*)
             FROM tools JOIN servers ON servers.id = tools.server AND servers.current GROUP BY 1, 2, 3;",
        )?;
        let mut statement = self.connection.prepare("SELECT class, level, signals, tools FROM grades")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (mask, tools): (u32, u64) = (row.get(2)?, row.get(3)?);
            classes[row.get::<_, usize>(0)?] += tools;
            levels[row.get::<_, usize>(1)?] += tools;
            signals.iter_mut().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).for_each(|(_, count)| *count += tools);
        }
        let tools: u64 = classes.iter().sum();
        let counts = servers.iter().chain([&tools]).chain(&classes).chain(&levels).chain(&signals);
        let counts = counts.map(u64::to_string).collect::<Vec<_>>().join(" ");
        self.connection.execute("INSERT OR REPLACE INTO about VALUES ('counts', ?1)", [counts])?;
        Ok(())
    }
}

struct Candidate {
    id: i64,
    version: String,
    answered: bool,
    captured_at: i64,
}

impl Candidate {
    fn against(&self, other: &Candidate) -> Ordering {
        self.answered
            .cmp(&other.answered)
            .then_with(|| compare_versions(&self.version, &other.version))
            .then_with(|| self.captured_at.cmp(&other.captured_at))
    }
}

/// Part by part, numbers as numbers; what has a further part that is a number is newer, what has one that is a word
/// (`1.0-beta`) older.
pub(crate) fn compare_versions(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (version_parts(one), version_parts(other));
    loop {
        return match (one.next(), other.next()) {
            (None, None) => Ordering::Equal,
            (Some(Part::Word(_)), None) => Ordering::Less,
            (None, Some(Part::Word(_))) => Ordering::Greater,
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (Some(one), Some(other)) if one == other => continue,
            (Some(one), Some(other)) => one.cmp(&other),
        };
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'v> {
    Word(&'v str),
    // Without leading zeros: the longer is the greater.
    Number(usize, &'v str),
}

fn version_parts(version: &str) -> impl Iterator<Item = Part<'_>> {
    // The build, after `+`, makes no version newer.
    let version = version.split('+').next().unwrap_or_default().trim_start_matches('v');
    version.split(['.', '-', '_']).filter(|part| !part.is_empty()).flat_map(|part| {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, word) = part.split_at(digits);
        let significant = number.trim_start_matches('0');
        let number = (digits > 0).then_some(Part::Number(significant.len(), significant));
        let word = (!word.is_empty()).then_some(Part::Word(word));
        [number, word].into_iter().flatten()
    })
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(","))
}

fn bytes_of(digest: &str) -> Vec<u8> {
    let digits = digest.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
    digits.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_people_do() {
        let rising = ["", "0.0.9", "0.0.37", "0.1.5", "1.0-alpha", "1.0b2", "1.0", "1.0.1", "v2", "2025.4.8", "2025.12.1"];
        for pair in rising.windows(2) {
            assert_eq!(compare_versions(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
        assert_eq!(compare_versions("1.02+a", "1.2+b"), Ordering::Equal);
    }
}
