//! Policy texts, read into one tree with spans.
//!
//! YAML and JSON become the same [`Node`]s, so that everything after this module works for both. Each node keeps where
//! it stands in the text, for diagnostics; scalars whose type readers of YAML disagree about keep that fact
//! ([`Kind::Odd`], [`Text::Word`]), so that whoever knows which type is due can refuse them with a hint.
//!
//! This module knows nothing of policies.

mod json;
mod yaml;

use crate::problem::{MOST, Problem, Severity, code};
use crate::text::{Source, Span, shown};
use ::json::Decimal;

/// One value of the text.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it stands.
    pub at: Span,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Nothing after a YAML key or dash.
    Empty,
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An exact number.
    Number(Decimal),
    /// A plain scalar that some reader takes for a number or null, in a notation that JSON does not have (`017`,
    /// `0x1f`, `1_000`, `.inf`, `~`); with how to mend it.
    Odd {
        /// How to mend it.
        hint: String,
    },
    /// A string.
    String(Text),
    /// A list.
    Array(Vec<Node>),
    /// A mapping, without keys that stand twice.
    Object(Vec<Member>),
    /// Something that has been reported already.
    Invalid,
}

/// A string, and how it was written.
#[derive(Clone, Debug)]
pub enum Text {
    /// In quotes or as a block, or plain and beyond doubt.
    Sure(String),
    /// Plain `yes`, `no`, `on`, `off`: a string in YAML 1.2, a boolean in 1.1.
    Word(String),
}

impl Text {
    /// Its characters.
    pub fn as_str(&self) -> &str {
        match self {
            Text::Sure(text) | Text::Word(text) => text,
        }
    }
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Member {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_at: Span,
    /// The value.
    pub value: Node,
}

impl Node {
    /// What the node is, for messages.
    pub fn describe(&self) -> &'static str {
        match self.kind {
            Kind::Empty => "nothing",
            Kind::Null => "null",
            Kind::Bool(_) => "a boolean",
            Kind::Number(_) => "a number",
            Kind::Odd { .. } => "a value of doubtful type",
            Kind::String(_) => "a string",
            Kind::Array(_) => "a list",
            Kind::Object(_) => "a mapping",
            Kind::Invalid => "an invalid value",
        }
    }

    /// The text, of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(text) => Some(text.as_str()),
            _ => None,
        }
    }
}

/// Reads a text; `None` when it cannot be read at all. `problems` gets every mistake.
pub(crate) fn read(source: &Source, problems: &mut Vec<Problem>) -> Option<Node> {
    let fail = |problems: &mut Vec<Problem>, at: Span, message: &str, help: &str| {
        problems.push(Problem::new(source, Severity::Error, code::ENCODING, at, message).help(help));
    };
    let bytes = &source.text;
    if bytes.len() > MAX_BYTES {
        fail(problems, 0..0, "the file is larger than 4 MiB", "split the policy, or remove what is not policy");
        return None;
    }
    if bytes.starts_with(&[0xFE, 0xFF]) || bytes.starts_with(&[0xFF, 0xFE]) {
        fail(problems, 0..0, "the file is UTF-16", "save it as UTF-8");
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            fail(problems, at..at, "the file is not valid UTF-8 from here on", "save it as UTF-8");
            return None;
        }
    };
    let mut start = 0;
    if text.starts_with('\u{feff}') {
        start = '\u{feff}'.len_utf8();
        fail(problems, 0..0, "the file begins with a byte-order mark", "save it as UTF-8 without a byte-order mark");
    }
    let read = if source.is_json() || is_json_after(text, start) { json::read } else { yaml::read };
    read(source, &text[start..], start, problems)
}

fn is_json_after(text: &str, start: usize) -> bool {
    start > 0 && text[start..].trim_start().starts_with('{')
}

/// Reports keys that stand twice; the first stays, the others go.
fn without_duplicates(source: &Source, members: Vec<Member>, problems: &mut Vec<Problem>) -> Vec<Member> {
    let mut first: std::collections::HashMap<String, Span> = std::collections::HashMap::new();
    let mut kept = Vec::with_capacity(members.len());
    for member in members {
        if let Some(earlier) = first.get(&member.key) {
            // Each message looks for a line number; past what is kept there is no need.
            if problems.len() > MOST {
                continue;
            }
            let message = format!("key `{}` stands twice: first in line {}", shown(&member.key), source.line(earlier.start));
            let problem = Problem::new(source, Severity::Error, code::DUPLICATE, member.key_at, message);
            problems.push(problem.also(earlier.clone(), "first here").help("keep one of the two"));
            continue;
        }
        first.insert(member.key.clone(), member.key_at.clone());
        kept.push(member);
    }
    kept
}

/// Far more than any hand-written policy; a generated one with a thousand tools is a few hundred kilobytes.
const MAX_BYTES: usize = 4 << 20;
const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 200_000;
