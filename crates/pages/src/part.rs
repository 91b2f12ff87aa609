//! What pages are made of.

use catalogue::{Level, RiskClass};

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
    /// What it says, and the path below the root without a form.
    Link(String, String),
    /// How dangerous something is.
    Badge(RiskClass, Level),
}

pub(crate) fn text(text: impl Into<String>) -> Piece {
    Piece::Text(text.into())
}

pub(crate) fn link(text: impl Into<String>, path: impl Into<String>) -> Piece {
    Piece::Link(text.into(), path.into())
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
