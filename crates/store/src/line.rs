//! JSON on one line: how records are written.
//!
//! Every call is written down twice, and most of each record is keys. So a key is written with its punctuation in one piece, a
//! plain text as it is, and what is known to be JSON on one line is not looked at again.

use json::{Document, Strictness, quote, quote_into};
use std::borrow::Cow;
use std::fmt;

/// JSON that stands on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneLine(String);

impl OneLine {
    /// For what was made as such.
    pub(crate) fn made(text: String) -> OneLine {
        debug_assert!(is_one_line(&text), "{text}");
        OneLine(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for OneLine {
    /// What is not JSON on one line becomes a string that holds it.
    fn from(raw: String) -> OneLine {
        match is_one_line(&raw) {
            true => OneLine(raw),
            false => OneLine(quote(&clipped(&raw))),
        }
    }
}

impl From<&str> for OneLine {
    fn from(raw: &str) -> OneLine {
        raw.to_owned().into()
    }
}

impl fmt::Display for OneLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of a member, with what stands before it and behind it when its value is a text.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":\"")
    };
}
pub(crate) use key;

/// An object that is being written. Keys are made by [`key!`].
pub(crate) struct Line<'o> {
    out: &'o mut String,
    is_empty: bool,
}

impl Line<'_> {
    pub fn new(out: &mut String) -> Line<'_> {
        out.push('{');
        Line { out, is_empty: true }
    }

    /// Writes a key as it stands before a text; the first without its comma.
    fn before_text(&mut self, key: &'static str) {
        self.out.push_str(if std::mem::take(&mut self.is_empty) { &key[1..] } else { key });
    }

    fn key(&mut self, key: &'static str) {
        self.before_text(&key[..key.len() - 1]);
    }

    pub fn raw(&mut self, key: &'static str, value: &str) {
        self.key(key);
        self.out.push_str(value);
    }

    pub fn number(&mut self, key: &'static str, number: impl itoa::Integer) {
        self.raw(key, itoa::Buffer::new().format(number));
    }

    /// A plain text that is written by `write`.
    pub fn written(&mut self, key: &'static str, write: impl FnOnce(&mut String)) {
        self.before_text(key);
        write(self.out);
        self.out.push('"');
    }

    /// A text that is plain.
    pub fn word(&mut self, key: &'static str, word: &str) {
        self.written(key, |out| out.push_str(word));
    }

    pub fn text(&mut self, key: &'static str, value: Option<&str>) {
        match value {
            Some(text) if text.len() <= LONGEST_TEXT && is_plain(text) => self.word(key, text),
            Some(text) => {
                self.key(key);
                quote_into(&clipped(text), self.out);
            }
            None => self.raw(key, "null"),
        }
    }

    pub fn present(&mut self, key: &'static str, value: Option<&str>) {
        if value.is_some() {
            self.text(key, value);
        }
    }

    pub fn end(self) {
        self.out.push('}');
    }
}

/// Whether all of it is printable ASCII that JSON writes as it is. Every byte is looked at, whatever the first are: that goes
/// many at a time.
fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\'))
}

/// Whether it is JSON on one line.
fn is_one_line(raw: &str) -> bool {
    let may_break = |c: char| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let breaks = match raw.is_ascii() {
        true => memchr::memchr2(b'\n', b'\r', raw.as_bytes()).is_some(),
        false => raw.contains(may_break),
    };
    !breaks && Document::parse(raw.to_owned(), Strictness::Reply).is_ok()
}

fn clipped(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_TEXT {
        return text.into();
    }
    let end = (0..=LONGEST_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}…", &text[..end]).into()
}

/// Longer texts are cut, in bytes.
const LONGEST_TEXT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_json_on_one_line_is_kept_as_a_string() {
        assert_eq!(OneLine::from(r#"{"x":1.0}"#).as_str(), r#"{"x":1.0}"#);
        for raw in ["{\n}", "{", "", "\"\u{2028}\"", "\"\u{85}\""] {
            let kept = OneLine::from(raw);
            assert!(is_one_line(kept.as_str()), "{raw:?}");
            let document = Document::parse(kept.as_str().to_owned(), Strictness::Request).unwrap();
            assert_eq!(document.root().as_str().unwrap(), raw);
        }
        assert!(OneLine::from("x".repeat(100_000)).as_str().len() < 5000);
    }
}
