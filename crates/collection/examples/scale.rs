//! A catalog of the size of the field, and how long it takes: `cargo xtask catalog-scale`.
//!
//! The servers are made up, in the shape of real ones: how many tools they have, how long definitions and descriptions are,
//! how often words repeat, how many servers are copies of others. Numbers come from a generator with a fixed seed, so that
//! every run measures the same.
//!
//! `scale [SERVERS [CATALOG]]`: where a file is named it is kept, and searched as it is where it is there already. It fails where
//! some kind of question finds nothing or a tool takes too much of the file; and, of as many servers as are in the field, where the
//! catalog takes too long to build, is too large, or answers too slowly.

use catalogue::{Level, RiskClass, Signal};
use collection::{Collection, Page, Query, import};
use jiff::Timestamp;
use std::error::Error;
use std::fmt::{Display, Write as _};
use std::fs::OpenOptions;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// What the registries together list, and their tools, where each was started.
const SERVERS: usize = 43_000;

fn main() -> Result<(), Box<dyn Error>> {
    let servers = match std::env::args().nth(1) {
        None => SERVERS,
        Some(count) => count.parse()?,
    };
    let directory = std::env::temp_dir().join(format!("callgate-scale-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let path = std::env::args().nth(2).map_or_else(|| directory.join("catalog.db"), PathBuf::from);
    let measured = measure(servers, &path, &directory);
    std::fs::remove_dir_all(&directory)?;
    let Measured { table, broken } = measured?;
    print!("{table}");
    match broken.as_slice() {
        [] => Ok(()),
        broken => Err(broken.join("; ").into()),
    }
}

/// What was measured, and which bounds it does not keep.
#[derive(Default)]
struct Measured {
    table: String,
    broken: Vec<String>,
}

impl Measured {
    fn row(&mut self, what: &str, figure: impl Display) {
        let _ = writeln!(self.table, "| {what} | {figure} |");
    }

    fn holds(&mut self, is_kept: bool, what: impl Display) {
        if !is_kept {
            self.broken.push(what.to_string());
        }
    }
}

/// Of the field: minutes to build, a gigabyte, and an answer before anybody has noticed that there was a question.
const LONGEST_BUILD: Duration = Duration::from_secs(600);
const LARGEST: u64 = 1_000_000_000;
const SLOWEST_MS: f64 = 20.0;
/// Of any catalog: half a million of these fit into the gigabyte.
const MOST_BYTES_A_TOOL: u64 = 2_000;

fn measure(servers: usize, path: &Path, directory: &Path) -> Result<Measured, Box<dyn Error>> {
    let mut measured = Measured { table: String::from("| what | figure |\n|---|--:|\n"), broken: Vec::new() };
    let is_field = servers >= SERVERS;
    if !path.exists() {
        let took = build(servers, path, directory, &mut measured)?;
        measured.holds(!is_field || took <= LONGEST_BUILD, format_args!("it took {took:.0?} to build"));
    }
    search(path, is_field, &mut measured)?;
    Ok(measured)
}

fn build(servers: usize, path: &Path, directory: &Path, measured: &mut Measured) -> Result<Duration, Box<dyn Error>> {
    // A pipe: captures of this many servers are a gigabyte, and nobody needs it twice.
    let captures = directory.join("captures.jsonl");
    if !Command::new("mkfifo").arg(&captures).status()?.success() {
        return Err("cannot make a pipe".into());
    }
    let began = Instant::now();
    let writer = thread::spawn({
        let captures = captures.clone();
        move || write_captures(servers, &captures)
    });
    let mut told = Instant::now();
    let imported = import(path, &[captures], Timestamp::now(), &mut |progress| {
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            eprintln!("{} servers, {} tools, {:.0} s", progress.added, progress.tools, began.elapsed().as_secs_f64());
        }
    })?;
    let bytes = writer.join().map_err(|_| "the captures could not be written")??;
    if let Some(failed) = imported.failed.first() {
        return Err(format!("{}: {}", failed.place, failed.why).into());
    }
    let took = began.elapsed();
    measured.row("captures, as text", format_args!("{:.0} MB", mega(bytes)));
    measured.row("building it", format_args!("{:.0} s", took.as_secs_f64()));
    Ok(took)
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn search(path: &Path, is_field: bool, measured: &mut Measured) -> Result<(), Box<dyn Error>> {
    let collection = Collection::open(path)?;
    let totals = collection.totals()?;
    let bytes = std::fs::metadata(path)?.len();
    measured.row("servers", totals.servers);
    measured.row("tools", totals.tools);
    measured.row("the catalog", format_args!("{:.0} MB", mega(bytes)));
    let a_tool = bytes / totals.tools.max(1);
    measured.holds(a_tool < MOST_BYTES_A_TOOL, format_args!("a tool takes {a_tool} bytes"));
    measured.holds(!is_field || bytes < LARGEST, format_args!("the catalog has {bytes} bytes"));
    for (what, queries) in questions() {
        let (mut times, mut hits) = (Vec::new(), 0);
        for query in &queries {
            let asked = Instant::now();
            hits += collection.search(query, Page { offset: 0, limit: 20 })?.hits.len();
            times.push(asked.elapsed());
        }
        times.sort();
        let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
        measured.row(&format!("search: {what}"), format_args!("{:.1} ms, p99 {:.1} ms", at(50), at(99)));
        measured.holds(hits > 0, format_args!("{what}: nothing is found"));
        measured.holds(!is_field || at(99) <= SLOWEST_MS, format_args!("{what}: p99 of {:.1} ms", at(99)));
    }
    Ok(())
}

/// Questions as people ask them, and those that are worst for an index: words that are everywhere.
fn questions() -> Vec<(&'static str, Vec<Query>)> {
    let mut random = Random(0x5eed);
    let text = |text: String| Query { text, ..Query::default() };
    let mut all = Vec::new();
    let names = (0..1_000).map(|_| text(format!("{}_{}", random.of(VERBS), random.of(NOUNS)))).collect();
    all.push(("a name", names));
    let words = (0..1_000).map(|_| text(format!("{} {} {}", random.of(VERBS), random.word(), random.of(NOUNS)))).collect();
    all.push(("three words", words));
    let rare = (0..1_000).map(|_| text(format!("{} {}", random.rare_word(), random.word()))).collect();
    all.push(("a rare word and another", rare));
    let common = ["get", "list", "the", "a", "of the", "get list", "create the", "data", "name", "id"];
    all.push(("words that are everywhere", common.iter().cycle().take(1_000).map(|word| text((*word).to_owned())).collect()));
    for (letters, what) in (1..).zip(BEGINNINGS) {
        let beginnings = (0..1_000_usize).map(|i| {
            let word = random.word();
            let beginning: String = word.chars().take(letters).collect();
            // By itself, as people type; with another word.
            text(if i.is_multiple_of(2) { format!("{beginning}*") } else { format!("{} {beginning}*", random.of(VERBS)) })
        });
        all.push((what, beginnings.collect()));
    }
    let class = |i: usize| vec![RiskClass::ALL[i % 5]];
    let levels = |i: usize| if i.is_multiple_of(3) { vec![Level::High, Level::Critical] } else { vec![Level::ALL[i % 4]] };
    let signals = |i: usize| vec![Signal::ALL[i % Signal::ALL.len()]];
    let filters = (0..1_000).map(|i| match i % 4 {
        0 => Query { classes: class(i / 4), ..Query::default() },
        1 => Query { levels: levels(i / 4), ..Query::default() },
        2 => Query { signals: signals(i / 4), ..Query::default() },
        _ => Query { text: String::new(), classes: class(i / 4), levels: levels(i / 4), signals: signals(i / 4) },
    });
    all.push(("filters alone", filters.collect()));
    let filtered = (0..1_000_usize).map(|i| Query {
        text: if i.is_multiple_of(2) { random.of(NOUNS).to_owned() } else { format!("{} {}", random.of(VERBS), random.word()) },
        classes: if i % 3 < 2 { class(i) } else { Vec::new() },
        levels: if i % 3 > 0 { levels(i) } else { Vec::new() },
        signals: if i.is_multiple_of(4) { signals(i) } else { Vec::new() },
    });
    all.push(("words with filters", filtered.collect()));
    all
}

const BEGINNINGS: [&str; 5] = [
    "the first letter of a word",
    "two letters of a word",
    "three letters of a word",
    "four letters of a word",
    "five letters of a word",
];

/// Writes as many captures, one a line; gives their length in bytes.
fn write_captures(servers: usize, path: &PathBuf) -> std::io::Result<u64> {
    let mut out = BufWriter::with_capacity(1 << 20, OpenOptions::new().write(true).open(path)?);
    let mut random = Random(1);
    let mut bytes = 0;
    let mut copied = String::from("[]");
    for number in 0..servers {
        // One server in ten is another's code under its own name.
        if number % 10 != 9 {
            copied = tools(&mut random);
        }
        let (registry, service) = (if number % 3 == 0 { "pypi" } else { "npm" }, random.of(NOUNS));
        let mut line = format!(
            "{{\"server\":\"@owner{}/{service}-mcp-{number}\",\"version\":\"1.{}.{}\",\"registry\":\"{registry}\",",
            number % 9_000,
            number % 7,
            number % 23
        );
        let _ = write!(line, "\"protocolVersion\":\"2025-11-25\",\"serverInfo\":{{\"name\":\"{service}\"}},\"tools\":{copied}}}");
        line.push('\n');
        bytes += line.len() as u64;
        out.write_all(line.as_bytes())?;
    }
    out.flush()?;
    Ok(bytes)
}

/// Most servers have a handful of tools, some a hundred.
fn tools(random: &mut Random) -> String {
    let count = 1 + random.below(7) + random.below(10) + if random.below(12) == 0 { random.below(80) } else { 0 };
    let tools: Vec<String> = (0..count).map(|_| tool(random)).collect();
    format!("[{}]", tools.join(","))
}

fn tool(random: &mut Random) -> String {
    let (verb, noun) = (random.of(VERBS), random.of(NOUNS));
    let name = match random.below(3) {
        0 => format!("{verb}_{noun}"),
        1 => format!("{verb}_{noun}_{}", random.of(NOUNS)),
        _ => format!("{verb}{}{}", noun[..1].to_uppercase(), &noun[1..]),
    };
    let mut description = format!("{}{}s the {noun}", verb[..1].to_uppercase(), &verb[1..]);
    for _ in 0..random.below(180) + 4 {
        let _ = write!(description, " {}", random.word());
        if random.below(11) == 0 {
            description.push('.');
        }
    }
    let mut properties = Vec::new();
    for number in 0..random.below(11) {
        let parameter =
            format!("{}_{}", random.of(NOUNS), ["id", "name", "path", "url", "limit", "filter", "token"][random.below(7)]);
        let mut told = String::new();
        for _ in 0..random.below(36) {
            let _ = write!(told, "{} ", random.word());
        }
        let kind = ["string", "string", "string", "integer", "boolean", "array"][random.below(6)];
        properties.push(format!(
            "\"{parameter}{number}\":{{\"type\":\"{kind}\",\"title\":\"{parameter}\",\"description\":\"{told}\"}}"
        ));
    }
    format!(
        "{{\"name\":\"{name}\",\"description\":\"{description}\",\"inputSchema\":{{\"$schema\":\"http://json-schema.org/draft-07/schema#\",\"type\":\"object\",\"properties\":{{{}}},\"required\":[],\"additionalProperties\":false}},\"annotations\":{{\"readOnlyHint\":{}}}}}",
        properties.join(","),
        random.below(2) == 0
    )
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 33) as usize) % bound
    }

    fn of(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len())]
    }

    /// A word of a text: a few are everywhere, most of forty thousand are rare.
    fn word(&mut self) -> String {
        match self.below(10) {
            0..5 => self.of(COMMON).to_owned(),
            5..8 => self.of(NOUNS).to_owned(),
            _ => self.rare_word(),
        }
    }

    /// One of forty thousand.
    fn rare_word(&mut self) -> String {
        // The smaller of two draws: the first syllables stand in far more words than the last.
        let mut number = self.below(40_000).min(self.below(40_000));
        let mut word = String::new();
        for _ in 0..4 {
            word.push_str(SYLLABLES[number % SYLLABLES.len()]);
            number /= SYLLABLES.len();
        }
        word
    }
}

const SYLLABLES: &[&str] = &["ka", "lo", "mi", "ren", "sta", "tu", "vel", "xi", "bor", "den", "fa", "gri", "hul", "jo", "pe"];
const VERBS: &[&str] = &[
    "get", "get", "get", "list", "list", "search", "create", "create", "update", "delete", "read", "write", "run", "send",
    "query", "fetch", "add", "remove", "execute", "describe", "start", "stop", "upload", "download", "analyze", "generate",
    "refund", "pay",
];
const NOUNS: &[&str] = &[
    "file",
    "issue",
    "user",
    "project",
    "database",
    "table",
    "query",
    "message",
    "channel",
    "repository",
    "branch",
    "commit",
    "document",
    "page",
    "event",
    "calendar",
    "invoice",
    "payment",
    "order",
    "customer",
    "product",
    "image",
    "video",
    "workflow",
    "bucket",
    "cluster",
    "instance",
    "deployment",
    "log",
    "metric",
    "alert",
    "dashboard",
    "ticket",
    "comment",
    "task",
    "note",
    "contact",
    "email",
    "campaign",
    "report",
    "token",
    "secret",
    "policy",
    "role",
    "group",
    "session",
    "node",
    "service",
    "model",
    "dataset",
    "schema",
    "index",
    "record",
    "field",
    "webhook",
    "template",
    "folder",
    "account",
    "wallet",
    "balance",
    "weather",
];
const COMMON: &[&str] = &[
    "the",
    "a",
    "of",
    "to",
    "and",
    "in",
    "for",
    "with",
    "is",
    "this",
    "that",
    "returns",
    "data",
    "name",
    "id",
    "optional",
    "from",
    "by",
    "if",
    "not",
    "when",
    "use",
    "all",
    "or",
    "an",
    "be",
    "as",
    "on",
    "value",
    "specified",
];
