//! Searching for tools.
//!
//! The indexes find, this module ranks: by what of the question stands in the name. `bm25`, which SQLite offers, reads every
//! row that holds a word before it gives the first, and words such as `get` stand in every third tool; so only so many
//! candidates are looked at, those with all words in their name first. Classes, levels and signals are words of the indexes
//! too, and narrow a question as quickly as any. Alone there is nothing to rank: they are answered from the worst downwards, to
//! the last, by going through the grades that there are, of which each knows how many tools have it.

use crate::error::CollectionError;
use crate::file::{class_number, level_number};
use crate::graded::{folded, is_of_word, mark, mask_of, signals_of};
use crate::read::{Collection, Page, definition_of};
use catalogue::{Level, RiskClass, Signal, words_of};
use json::Value;
use rusqlite::{Connection, OptionalExtension, Params, params};
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
    /// Whether there are more than are counted and ranked; never without words.
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
    class: usize,
    level: usize,
    signals: u32,
}

impl Collection {
    /// The tools of current servers that answer `query`, the best first; without words, the worst first.
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
        let (candidates, count, is_cut) = match words.as_slice() {
            [] => by_grade(&connection, query, page)?,
            words => {
                let mut found = by_words(&connection, query, words)?;
                let is_cut = found.len() >= CANDIDATES;
                found.truncate(CANDIDATES);
                found.sort_by_cached_key(|candidate| rank(candidate, &query.text, words));
                let count = found.len();
                (part(found, page), count, is_cut)
            }
        };
        let hits = candidates.iter().map(|candidate| hit(&connection, candidate.tool)).collect::<Result<_, _>>()?;
        Ok(Found { hits, count, is_cut })
    }
}

/// What is told of a candidate, and whose tools are looked for.
const COLUMNS: &str = "tools.id, tools.name, servers.name, tools.class, tools.level, tools.signals";
const OF_CURRENT: &str = "CROSS JOIN servers ON servers.id = tools.server AND servers.current";

fn part(candidates: Vec<Candidate>, page: Page) -> Vec<Candidate> {
    candidates.into_iter().skip(page.offset).take(page.limit).collect()
}

/// A page of the tools that the filters let through, the worst first, and how many there are; never cut. Tools have half a million
/// rows and a few hundred different grades, so those are gone through, and only the tools of the page.
fn by_grade(connection: &Connection, query: &Query, page: Page) -> Result<(Vec<Candidate>, usize, bool), CollectionError> {
    let wanted = Wanted::of(query);
    let mut statement = connection.prepare_cached(
        "SELECT level, class, signals, tools FROM grades
         WHERE ?1 >> class & 1 AND ?2 >> level & 1 AND signals & ?3 = ?3 ORDER BY level DESC, class DESC, signals",
    )?;
    let rows = statement.query_map(params![wanted.classes, wanted.levels, wanted.signals], |row| {
        Ok(((row.get(0)?, row.get(1)?, row.get(2)?), row.get::<_, usize>(3)?))
    })?;
    let grades: Vec<((usize, usize, u32), usize)> = rows.collect::<rusqlite::Result<_>>()?;
    let count = grades.iter().map(|(_, tools)| tools).sum();
    // As many as can be put in the order of their names are; of more, only what is on one page.
    let is_few = count <= CANDIDATES;
    let (mut passed_over, mut left) = if is_few { (0, count) } else { (page.offset, page.limit) };
    let of_grade = format!(
        "SELECT {COLUMNS} FROM tools {OF_CURRENT} WHERE tools.level = ?1 AND tools.class = ?2 AND tools.signals = ?3
         ORDER BY tools.id LIMIT ?4 OFFSET ?5"
    );
    let mut found = Vec::new();
    for ((level, class, signals), tools) in grades {
        if left == 0 {
            break;
        }
        if passed_over >= tools {
            passed_over -= tools;
            continue;
        }
        let some = candidates(connection, &of_grade, params![level, class, signals, left, passed_over])?;
        passed_over = 0;
        left -= some.len();
        found.extend(some);
    }
    found.sort_by_cached_key(|candidate| rank(candidate, "", &[]));
    Ok((if is_few { part(found, page) } else { found }, count, false))
}

/// The tools that hold all words: what is called exactly so, what has them in its name, what has them anywhere. Each of these
/// is only asked for where those before are not enough.
fn by_words(connection: &Connection, query: &Query, words: &[String]) -> Result<Vec<Candidate>, CollectionError> {
    let wanted = Wanted::of(query);
    let called = format!("SELECT {COLUMNS} FROM tools {OF_CURRENT} WHERE tools.name = ?1 COLLATE NOCASE LIMIT ?2");
    let mut all = candidates(connection, &called, params![query.text.trim(), CANDIDATES])?;
    all.retain(|candidate| wanted.has(candidate));
    let mut seen: HashSet<i64> = all.iter().map(|candidate| candidate.tool).collect();
    let expression = expression(query, &expanded(connection, words)?);
    for index in ["names", "words"] {
        if all.len() >= CANDIDATES {
            break;
        }
        let matching = format!(
            "SELECT {COLUMNS} FROM {index} CROSS JOIN tools ON tools.id = {index}.rowid {OF_CURRENT}
             WHERE {index} MATCH ?1 LIMIT ?2"
        );
        let found = candidates(connection, &matching, params![expression, CANDIDATES])?;
        all.extend(found.into_iter().filter(|candidate| seen.insert(candidate.tool)));
    }
    Ok(all)
}

fn candidates(connection: &Connection, query: &str, parameters: impl Params) -> Result<Vec<Candidate>, CollectionError> {
    let mut statement = connection.prepare_cached(query)?;
    let rows = statement.query_map(parameters, |row| {
        Ok(Candidate {
            tool: row.get(0)?,
            name: row.get(1)?,
            server_name: row.get(2)?,
            class: row.get(3)?,
            level: row.get(4)?,
            signals: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The filters of a question: a bit for each class and level that may be, for each signal that must.
struct Wanted {
    classes: u32,
    levels: u32,
    signals: u32,
}

impl Wanted {
    fn of(query: &Query) -> Wanted {
        // None asked for is all.
        let any = |numbers: &mut dyn Iterator<Item = usize>| match numbers.fold(0, |mask, number| mask | 1 << number) {
            0 => u32::MAX,
            mask => mask,
        };
        Wanted {
            classes: any(&mut query.classes.iter().map(|class| class_number(*class))),
            levels: any(&mut query.levels.iter().map(|level| level_number(*level))),
            signals: mask_of(&query.signals),
        }
    }

    fn has(&self, candidate: &Candidate) -> bool {
        let bit = |mask: u32, number: usize| mask.checked_shr(number as u32).is_some_and(|rest| rest & 1 == 1);
        bit(self.classes, candidate.class)
            && bit(self.levels, candidate.level)
            && candidate.signals & self.signals == self.signals
    }
}

/// The words of a question as the index has them; the last mark of one that ends in `*` is kept.
fn words_in(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for part in text.split_whitespace() {
        let is_beginning = part.ends_with('*');
        let text = folded(part);
        let mut found: Vec<String> = text.split(|c| !is_of_word(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect();
        if let (true, Some(last)) = (is_beginning, found.last_mut()) {
            last.push('*');
        }
        words.append(&mut found);
    }
    words.truncate(MOST_WORDS);
    words
}

/// What a word of a question stands for: any of these words, or whatever begins so.
enum Term {
    AnyOf(Vec<String>),
    Beginning(String),
}

/// Short beginnings are in the index; longer ones are as many words as begin so, which it finds one by one.
fn expanded(connection: &Connection, words: &[String]) -> Result<Vec<Term>, CollectionError> {
    let mut statement =
        connection.prepare_cached("SELECT word FROM vocabulary WHERE word >= ?1 AND word < ?1 || char(0x10ffff) LIMIT ?2")?;
    let mut term = |word: &String| {
        let Some(beginning) = word.strip_suffix('*') else { return Ok(Term::AnyOf(forms(word).to_vec())) };
        if beginning.chars().count() > LONGEST_INDEXED {
            let found = statement.query_map(params![beginning, MOST_FORMS + 1], |row| row.get(0))?;
            let found: Vec<String> = found.collect::<rusqlite::Result<_>>()?;
            if (1..=MOST_FORMS).contains(&found.len()) {
                return Ok(Term::AnyOf(found));
            }
        }
        Ok(Term::Beginning(beginning.to_owned()))
    };
    words.iter().map(&mut term).collect()
}

/// Of so many letters the indexes have beginnings.
const LONGEST_INDEXED: usize = 4;

/// So many words are looked for one by one.
const MOST_FORMS: usize = 50;

/// The question in the language of the index.
fn expression(query: &Query, words: &[Term]) -> String {
    let any = |words: Vec<String>| {
        let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        (!words.is_empty()).then(|| format!("({})", words.join(" OR ")))
    };
    let mut parts: Vec<String> = Vec::new();
    parts.extend(words.iter().filter_map(|word| match word {
        Term::Beginning(beginning) => Some(format!("\"{beginning}\" *")),
        Term::AnyOf(words) => any(words.clone()),
    }));
    let classes: Vec<&str> = query.classes.iter().map(|class| class.name()).collect();
    let levels: Vec<&str> = query.levels.iter().map(|level| level.name()).collect();
    parts.extend(any(match (classes.as_slice(), levels.as_slice()) {
        (one, []) | ([], one) => one.iter().map(|name| mark(&[name])).collect(),
        (classes, levels) => classes.iter().flat_map(|class| levels.iter().map(|level| mark(&[class, level]))).collect(),
    }));
    parts.extend(query.signals.iter().filter_map(|signal| any(vec![mark(&[signal.name()])])));
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
type Rank = (bool, usize, usize, Reverse<usize>, Reverse<usize>, String, String);

fn rank(candidate: &Candidate, text: &str, words: &[String]) -> Rank {
    let by_risk = (Reverse(candidate.level), Reverse(candidate.class));
    let names = (candidate.server_name.to_lowercase(), candidate.name.clone());
    if words.is_empty() {
        return (false, 0, 0, by_risk.0, by_risk.1, names.0, names.1);
    }
    let name = candidate.name.to_lowercase();
    let own: Vec<String> = words_of(&candidate.name).iter().map(|word| folded(word)).collect();
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
            signals: signals_of(mask).collect(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_marks_in_a_name_is_found_in_the_name() {
        let candidate = |name: &str| Candidate {
            tool: 1,
            name: name.to_owned(),
            server_name: "files".to_owned(),
            class: class_number(RiskClass::Read),
            level: level_number(Level::Low),
            signals: 0,
        };
        let of = |name: &str| rank(&candidate(name), "größe", &words_in("größe"));
        assert!(of("größe_lesen") < of("andere_lesen"));
        assert_eq!(of("größe_lesen").1, 0);
    }
}
