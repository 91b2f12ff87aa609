//! The semantic operators, held against other readers of paths, hosts, networks, SQL and command lines.
//!
//! An operator that lets a value through promises that whoever acts on it does what was allowed. So here whatever passes is
//! read by others: naively, by another library, or by SQLite itself; and each reading must be one that is allowed. What is
//! plain, and allowed by the naive reading, must pass too: an operator that refuses everything would hold its promise.
//!
//! Each operator is asked as a call is: by the policy in `policies/operators.yaml`, whose lists stand here once more.

use json::{Document, Strictness, quote};
use policy::{Call, Outcome, Policy, Schema, Source};
use rusqlite::Connection;
use rusqlite::fallible_iterator::FallibleIterator as _;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;
use url::Url;

/// Paths: however a server reads what passes, it stays in the directories.
pub fn path_within(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lies_within = |reading: &str| DIRECTORIES.iter().any(|directory| lies_in(reading, directory));
    if passes("path", &quote(&text)) {
        for reading in readings_of_path(&text) {
            assert!(lies_within(&reading), "{text:?} passes, and can be read as {reading:?}");
        }
    } else {
        let is_plain = !text.starts_with("//") && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_'));
        assert!(!is_plain || text.len() > LONGEST || !lies_within(&text), "{text:?} lies within, and is refused");
    }
}

const DIRECTORIES: [&str; 2] = ["/srv/data", "docs"];

/// Where a relative path begins; neither of the directories leads there.
const HERE: &str = "/elsewhere/deep";

fn lies_in(path: &str, directory: &str) -> bool {
    !path.is_empty() && resolved(path).starts_with(resolved(directory))
}

/// Where a path leads, by its words alone.
fn resolved(path: &str) -> PathBuf {
    let mut out = PathBuf::new();
    for component in Path::new(HERE).join(path).components() {
        match component {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// A path as others read it: after decoding, on Windows, as a part of an address, without what some cut off.
fn readings_of_path(text: &str) -> Vec<String> {
    assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text:?} passes, and is folded by some");
    assert!(!text.starts_with('~') && !text.starts_with("//"), "{text:?} passes, and begins elsewhere");
    let mut readings = vec![text.to_owned(), decoded(text), decoded(&decoded(text)), text.replace('\\', "/")];
    let by_component = |cut: &dyn Fn(&str) -> &str| text.split('/').map(cut).collect::<Vec<_>>().join("/");
    readings.push(by_component(&|component| match component {
        "." => component,
        _ => component.trim_end_matches(['.', ' ']),
    }));
    readings.push(by_component(&|component| component.trim_matches(' ')));
    readings.push(by_component(&|component| component.split(';').next().unwrap_or_default()));
    // What stands before is a drive, to some.
    readings.push(by_component(&|component| component.rsplit(':').next().unwrap_or_default()));
    let base = Url::parse(&format!("http://host{HERE}/")).expect("the base is an address");
    readings.extend(base.join(text).ok().filter(|url| url.host_str() == Some("host")).map(|url| url.path().to_owned()));
    readings
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok()).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Hosts: whichever reader of addresses is asked, it goes to a host and port of the list, as nobody in particular.
pub fn host_in(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let bare = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    if passes("host", &quote(&text)) {
        let address = if text.contains("://") { text.clone() } else { Cow::Owned(format!("http://{text}")) };
        for (reader, target) in readings_of_address(&address) {
            let (host, port) = target.unwrap_or_else(|why| panic!("{text:?} passes, and to {reader} it is {why}"));
            assert!(is_listed(&host, port), "{text:?} passes, and {reader} goes to {host:?}, port {port:?}");
        }
    } else if text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'/' | b':')) && text.len() <= LONGEST {
        let host = bare.map_or(&*text, |rest| rest.split('/').next().unwrap_or_default());
        assert!(!["api.example.org", "10.0.0.7"].contains(&host), "{text:?} is listed, and is refused");
    }
}

/// `None` for the port that the scheme has.
fn is_listed(host: &str, port: Option<u16>) -> bool {
    let host = host.to_ascii_lowercase();
    // An address has many spellings.
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok());
    let is_address = address.is_some_and(|address| address.to_string() == "fd00::1");
    match port {
        None => is_address || ["api.example.org", "10.0.0.7"].contains(&&*host) || host.ends_with(".wild.example"),
        Some(port) => (&*host, port) == ("db.example.org", 8443),
    }
}

type Target = Result<(String, Option<u16>), String>;

/// Where readers of addresses go: browsers, clients in Rust, and those that cut at the signs that they know.
fn readings_of_address(address: &str) -> Vec<(&'static str, Target)> {
    let mut readings = Vec::new();
    let scheme = address.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let own = if matches!(&*scheme, "https" | "wss") { 443 } else { 80 };
    let unusual = |port: Option<u16>| port.filter(|port| *port != own);
    let url = Url::parse(address).map_err(|error| error.to_string());
    readings.push((
        "a browser",
        url.and_then(|url| {
            let is_somebody = !url.username().is_empty() || url.password().is_some();
            let host = url.host_str().filter(|_| !is_somebody).ok_or("without a host, or with a user")?;
            Ok((host.to_owned(), unusual(url.port_or_known_default())))
        }),
    ));
    // What it does not read it does not follow.
    if let Ok(uri) = http::Uri::try_from(address) {
        let target = uri.host().map(|host| (host.to_owned(), unusual(uri.port_u16())));
        readings.push(("a strict client", target.ok_or_else(|| "without a host".to_owned())));
    }
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let cut = |ends: &[char]| rest.split(ends).next().unwrap_or_default();
    for (reader, authority) in [
        ("one that cuts at every sign", cut(&['/', '?', '#', '\\', ';'])),
        ("one that follows the standard", cut(&['/', '?', '#'])),
        // A user's name may hold anything, to some.
        ("one that looks for a user first", cut(&['/']).rsplit('@').next().unwrap_or_default()),
    ] {
        let authority = authority.split(['?', '#']).next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((host, port)) => (host, port.parse().map(Some).map_err(|_| format!("of a port {port:?}"))),
            None => (authority, Ok(None)),
        };
        readings.push((reader, port.map(|port| (host.to_owned(), unusual(port)))));
    }
    readings
}

/// Networks: the answer is that of comparing first and last addresses as numbers, for every text in the usual spelling; and
/// nothing passes that would be outside.
pub fn cidr_in(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let range = range_of(&text);
    let is_within = range.is_some_and(|(is_v4, first, last)| {
        let mut allowed = NETWORKS.iter().filter_map(|network| range_of(network));
        allowed.any(|other| other.0 == is_v4 && other.1 <= first && last <= other.2)
    });
    let passes = passes("network", &quote(&text));
    assert!(!passes || is_within, "{text:?} passes, and is not within");
    assert!(passes || !is_within || !is_usual(&text), "{text:?} is within, and is refused");
}

const NETWORKS: [&str; 3] = ["10.0.0.0/8", "192.168.1.0/24", "2001:db8::/32"];

/// Whether it is of the fourth version, and its first and last address.
fn range_of(text: &str) -> Option<(bool, u128, u128)> {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let (is_v4, number, full) = match address.parse().ok()? {
        IpAddr::V4(address) => (true, u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (false, u128::from(address), 128),
    };
    let length: u32 = length.map_or(Some(full), |length| length.parse().ok()).filter(|length| *length <= full)?;
    let others = 1u128.checked_shl(full - length).map_or(u128::MAX, |size| size - 1);
    Some((is_v4, number & !others, number | others))
}

/// Whether it is spelt as the standard library would, from the first address of the network.
fn is_usual(text: &str) -> bool {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let Ok(read) = address.parse::<IpAddr>() else { return false };
    let is_first = range_of(text).is_some_and(|(_, first, _)| match read {
        IpAddr::V4(address) => u128::from(u32::from(address)) == first,
        IpAddr::V6(address) => u128::from(address) == first,
    });
    let is_plain = length.is_none_or(|length| length.parse::<u8>().is_ok_and(|number| number.to_string() == length));
    is_first
        && is_plain
        && read.to_string() == address
        && !matches!(read, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

/// SQL: what passes is one statement to a reader of each dialect, and begins as a question does; to SQLite itself it is one
/// statement too, and one that only reads.
pub fn sql_statement_in(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let value = quote(&text);
    let all: &[Dialect] = &[Dialect::Postgres, Dialect::MySql, Dialect::Sqlite];
    for (tool, dialects) in [
        ("select", all),
        ("select_postgresql", &[Dialect::Postgres]),
        ("select_mysql", &[Dialect::MySql]),
        ("select_sqlite", &[Dialect::Sqlite]),
        ("change", all),
    ] {
        if !passes(tool, &value) {
            assert!(!is_plain_question(&text), "{text:?} is refused as `{tool}`");
            continue;
        }
        let only_reads = tool != "change";
        for dialect in dialects {
            let found = statements(&text, *dialect);
            let [statement] = &found[..] else { panic!("{text:?} passes as `{tool}`, and is {found:?} to {dialect:?}") };
            let word = statement.trim_start_matches(|c: char| c == '(' || c.is_whitespace());
            let word: String = word.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
            let is_question = ["select", "with", "values", "table"].contains(&&*word);
            let is_change = ["insert", "update", "delete", "replace"].contains(&&*word);
            assert!(is_question || !only_reads && is_change, "{text:?} passes as `{tool}`, and begins with {word:?}");
        }
        if dialects.contains(&Dialect::Sqlite) {
            as_sqlite_reads(&text, only_reads);
        }
    }
}

fn is_plain_question(text: &str) -> bool {
    let columns = text.strip_prefix("SELECT ").and_then(|rest| rest.strip_suffix(" FROM t"));
    columns.is_some_and(|columns| columns.len() < 1_000 && columns.split(", ").all(|column| ["a", "b", "n"].contains(&column)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Postgres,
    MySql,
    Sqlite,
}

/// What a reader of this dialect would run one after the other, cut by its own rules of quotes and comments, which are left out.
fn statements(text: &str, dialect: Dialect) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after_quote = |mark: char, backslash: bool| {
            let mut characters = rest.char_indices().skip(1).peekable();
            while let Some((at, inner)) = characters.next() {
                if inner == '\\' && backslash {
                    characters.next();
                } else if inner == mark && characters.next_if(|(_, next)| *next == mark).is_none() {
                    return &rest[at + inner.len_utf8()..];
                }
            }
            ""
        };
        let to_line_end = || rest.find('\n').map_or("", |end| &rest[end..]);
        let is_mysql = dialect == Dialect::MySql;
        let next = match c {
            '\'' => after_quote(
                '\'',
                is_mysql || dialect == Dialect::Postgres && found.last().is_some_and(|s| s.ends_with(['e', 'E'])),
            ),
            '"' => after_quote('"', is_mysql),
            '`' if dialect != Dialect::Postgres => after_quote('`', false),
            '[' if dialect == Dialect::Sqlite => rest.find(']').map_or("", |end| &rest[end + 1..]),
            '#' if is_mysql => to_line_end(),
            '-' if rest.starts_with("--") => to_line_end(),
            // MySQL runs what stands in these.
            '/' if rest.starts_with("/*!") && is_mysql => &rest[3..],
            '/' if rest.starts_with("/*") => rest.find("*/").map_or("", |end| &rest[end + 2..]),
            '$' if dialect == Dialect::Postgres => after_dollars(rest).unwrap_or(&rest[1..]),
            _ => &rest[c.len_utf8()..],
        };
        let taken = &rest[..rest.len() - next.len()];
        rest = next;
        match (c, found.last_mut()) {
            (';', _) => found.push(String::new()),
            (_, Some(statement)) if !taken.starts_with("--") && !taken.starts_with("/*") => statement.push_str(taken),
            _ => {}
        }
    }
    found.retain(|statement| !statement.trim().is_empty());
    found
}

/// What comes after a text between dollars, if one begins here.
fn after_dollars(text: &str) -> Option<&str> {
    let tag = &text[..text[1..].find('$')? + 2];
    let is_tag = tag[1..tag.len() - 1].chars().all(|c| c.is_alphanumeric() || c == '_')
        && !tag[1..].starts_with(|c: char| c.is_ascii_digit());
    is_tag.then(|| text[tag.len()..].split_once(tag).map_or("", |(_, after)| after))
}

/// Lets SQLite read it, without running anything.
fn as_sqlite_reads(text: &str, only_reads: bool) {
    DATABASE.with(|database| {
        let mut batch = rusqlite::Batch::new(database, text);
        // What it does not read it does not run.
        let Ok(Some(statement)) = batch.next() else { return };
        assert!(!only_reads || statement.readonly(), "{text:?} passes, and SQLite would write");
        assert!(matches!(batch.next(), Ok(None)), "{text:?} passes, and SQLite would go on after the first statement");
    });
}

thread_local! {
    static DATABASE: Connection = {
        let database = Connection::open_in_memory().expect("memory is a place for a database");
        let tables = "CREATE TABLE t (a, b, n); CREATE TABLE u (a, b, id); CREATE TABLE x (a); CREATE VIEW v AS SELECT * FROM t;";
        database.execute_batch(tables).expect("the tables are well formed");
        database
    };
}

/// Commands: what passes is, to another reader of command lines, the words of one of the commands, and nothing in it is a sign
/// to a shell.
pub fn command_in(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(words) = allowed_command(&text) {
        assert!(is_listed_command(&words), "{text:?} passes, and is {words:?}");
    } else {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let is_plain = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b' ' | b'-'));
        let is_short = words.len() < 256 && text.len() <= LONGEST;
        assert!(!is_plain || !is_short || !is_listed_command(&words), "{text:?} is listed, and is refused");
    }
    // The same as an argument vector, which no shell reads.
    let words: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let list: Vec<String> = words.iter().map(|word| quote(word)).collect();
    if passes("command", &format!("[{}]", list.join(","))) {
        assert!(is_listed_command(&words), "{words:?} passes");
    }
}

/// The words of a command line that passes, as another reader cuts them.
pub fn allowed_command(text: &str) -> Option<Vec<String>> {
    passes("command", &quote(text)).then(|| {
        assert_eq!(first_sign(text), None, "{text:?} passes, and a shell would do something with it");
        shlex::split(text).unwrap_or_else(|| panic!("{text:?} passes, and its quotes are open"))
    })
}

/// The first character that a shell would not take as it stands.
fn first_sign(text: &str) -> Option<char> {
    let mut quote = None;
    text.chars().find(|c| match quote {
        Some(mark) if *c == mark => {
            quote = None;
            false
        }
        Some('"') => matches!(c, '$' | '`' | '\\' | '!') || c.is_control(),
        Some(_) => c.is_control(),
        None if matches!(c, '\'' | '"') => {
            quote = Some(*c);
            false
        }
        None => !c.is_ascii_alphanumeric() && !" _-./,:@+=".contains(*c),
    })
}

fn is_listed_command(words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["ls"] | ["git", "status"] => true,
        ["git", "log", "--oneline", ref rest @ ..] => rest.iter().all(|word| is_harmless(word)),
        ["cat", path] => readings_of_path(path).iter().all(|reading| lies_in(reading, "/srv/data")),
        ["echo", word] => is_harmless(word),
        _ => false,
    }
}

/// Whether a word is no option, and as a path leads nowhere but down from here.
fn is_harmless(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with(['-', '+', '@', '/', '~'])
        && !word.contains(['$', '`', '\\', '*', '?', '[', '{', '=', ';', '|', '&', '<', '>', '(', '\n'])
        && readings_of_path(word).iter().all(|reading| lies_in(reading, HERE))
}

/// Whether the policy allows a call whose one argument is this JSON text.
fn passes(tool: &str, value: &str) -> bool {
    let document = Document::parse(format!("{{\"value\":{value}}}"), Strictness::Request).expect("what was quoted is JSON");
    let (at, arguments) = (jiff::Timestamp::UNIX_EPOCH, Some(document.root()));
    let call = Call { tool, arguments, schema: Schema::Unjudged, class: None, at, explained: false };
    POLICY.evaluate(&call).decision.outcome == Outcome::Allow
}

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let text = include_str!("../policies/operators.yaml");
    let loaded = policy::load(&Source::new("operators.yaml", text));
    loaded.policy.unwrap_or_else(|| panic!("the fuzzed policy has mistakes: {:?}", loaded.problems))
});

/// What is longer is refused unread.
const LONGEST: usize = 16 * 1024;
