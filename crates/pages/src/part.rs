//! What pages are made of.

use catalogue::attacks::Reach;
use catalogue::{Grade, Level, RiskClass};

/// A page before it is rendered.
pub(crate) struct Page {
    /// What it is about; its main heading.
    pub title: String,
    /// One sentence, for search engines and `llms.txt`.
    pub summary: String,
    pub parts: Vec<Part>,
    /// The same as data.
    pub data: String,
}

pub(crate) enum Part {
    /// A heading below the title; 2 or 3.
    Heading(u8, String),
    Paragraph(Vec<Piece>),
    List(Vec<Vec<Piece>>),
    /// Names and what is to be said of each.
    Facts(Vec<(&'static str, Vec<Piece>)>),
    Table {
        caption: String,
        heads: Vec<&'static str>,
        rows: Vec<Vec<Vec<Piece>>>,
    },
    /// Text that is copied: a policy, a command.
    Code {
        label: String,
        text: String,
    },
    /// What a server wrote, as it stands.
    Quote(String),
    /// How many tools of each class.
    Chart([u64; 5]),
    /// A question and its answer.
    Question(String, String),
    /// What is only of interest to who asks for it.
    Folded(String, Vec<Part>),
    /// The search, with what is looked for now.
    Search {
        text: String,
        class: Option<RiskClass>,
        level: Option<Level>,
        signal: Option<catalogue::Signal>,
    },
}

/// A piece of a line.
pub(crate) enum Piece {
    Text(String),
    Code(String),
    /// What it says, and the path below the root without a form; `?…` or `#…` may follow. `#…` alone is on the same page.
    Link(String, String),
    /// An address elsewhere. Only such as are written in this project: nothing of a server's becomes one. It is a link where
    /// nobody on the way can change what is there.
    Away(String, String),
    Badge(Badge),
}

/// A judgement in a word, and a further one.
pub(crate) struct Badge {
    pub tone: Level,
    pub word: &'static str,
    pub more: &'static str,
}

pub(crate) fn text(text: impl Into<String>) -> Piece {
    Piece::Text(text.into())
}

pub(crate) fn code(text: impl Into<String>) -> Piece {
    Piece::Code(text.into())
}

pub(crate) fn link(text: impl Into<String>, path: impl Into<String>) -> Piece {
    Piece::Link(text.into(), path.into())
}

/// How dangerous a tool is.
pub(crate) fn risk(class: RiskClass, level: Level) -> Piece {
    Piece::Badge(Badge { tone: level, word: class.name(), more: level.name() })
}

/// How far a gateway gets with an attack.
pub(crate) fn reach(reach: Reach) -> Piece {
    let (tone, word) = match reach {
        Reach::Stops => (Level::Low, "stopped"),
        Reach::Limits => (Level::Medium, "limited"),
        Reach::Cannot => (Level::High, "out of reach"),
    };
    Piece::Badge(Badge { tone, word, more: "" })
}

/// What to make of a server by its definitions.
pub(crate) fn grade(grade: Grade) -> Piece {
    let (tone, more) = match grade {
        Grade::A => (Level::Low, "nothing was found"),
        Grade::B => (Level::Low, "there are remarks"),
        Grade::C => (Level::Medium, "something is doubtful"),
        Grade::D => (Level::High, "something is dangerous"),
        Grade::F => (Level::Critical, "written to deceive"),
    };
    Piece::Badge(Badge { tone, word: grade.letter(), more })
}

/// A text of ours in which names stand between backticks.
pub(crate) fn marked(said: &str) -> impl Iterator<Item = Piece> {
    let piece = |(i, part): (usize, &str)| if i % 2 == 0 { text(part) } else { code(part) };
    said.split('`').enumerate().map(piece)
}

/// Links in a line, with dots between them.
pub(crate) fn in_line(links: impl Iterator<Item = Piece>) -> Vec<Piece> {
    links.enumerate().flat_map(|(i, link)| (i > 0).then(|| text(" · ")).into_iter().chain([link])).collect()
}

/// By what a heading is found on its page: its words, with hyphens between them.
pub(crate) fn anchor(heading: &str) -> String {
    let words = heading.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

pub(crate) fn is_secure(address: &str) -> bool {
    address.starts_with("https://")
}

/// The path of a page, and the query or place on it that follows.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.split_at(path.find(['?', '#']).unwrap_or(path.len()))
}

/// `1 tool`, `2 tools`.
pub(crate) fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// The first line of a text, and not without end.
pub(crate) fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if line.chars().count() <= LONGEST_LINE {
        return line.to_owned();
    }
    line.chars().take(LONGEST_LINE - 1).chain(['…']).collect()
}

const LONGEST_LINE: usize = 200;
