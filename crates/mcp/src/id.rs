//! Request ids.
//!
//! An id is an opaque name that must come back exactly as it was sent: its text is kept, never its value. Two ids are equal
//! when they mean the same (`"a"` and `"\u0061"`), and a number is never equal to a string.

use json::{Kind, Value, quote};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A request id: a string or an integer of any size, at most 256 bytes of text.
///
/// Equality is by meaning: `"\u0061"` equals `"a"`, `-0` equals `0`, and `1` differs from `"1"`.
///
/// Cheap to copy.
#[derive(Clone)]
pub struct Id(Arc<Token>);

struct Token {
    /// The token as it came, with a string's quotes.
    text: Box<str>,
    meaning: Meaning,
}

#[derive(PartialEq, Eq, Hash)]
enum Meaning {
    /// An integer's digits, as JSON spells them; they fit no fixed width.
    Integer(Box<str>),
    String(Box<str>),
}

const MAX_BYTES: usize = 256;

impl Id {
    /// Reads an id.
    ///
    /// # Errors
    /// Says what is wrong, for a person: null, fractions and exponents (readers disagree about `1.0` and `1`), booleans,
    /// arrays, objects and texts of more than 256 bytes are no ids.
    pub fn of(value: Value<'_>) -> Result<Id, &'static str> {
        let text = value.raw();
        if text.len() > MAX_BYTES {
            return Err("`id` is longer than 256 bytes");
        }
        let meaning = match value.kind() {
            Kind::String => Meaning::String(value.as_str().unwrap_or_default().into()),
            Kind::Number if text.bytes().all(|b| b.is_ascii_digit() || b == b'-') => {
                Meaning::Integer(if text == "-0" { "0" } else { text }.into())
            }
            Kind::Null => return Err("`id` is null; give a string or an integer"),
            Kind::Number | Kind::Bool | Kind::Array | Kind::Object => return Err("`id` must be a string or an integer"),
        };
        Ok(Id(Arc::new(Token { text: text.into(), meaning })))
    }

    /// The JSON token exactly as it came, a string with its quotes.
    pub fn text(&self) -> &str {
        &self.0.text
    }
}

impl From<u64> for Id {
    fn from(number: u64) -> Id {
        let text: Box<str> = number.to_string().into();
        Id(Arc::new(Token { text: text.clone(), meaning: Meaning::Integer(text) }))
    }
}

impl From<&str> for Id {
    /// Gives a string id. For ids that we mint: the 256 byte limit is not checked here.
    fn from(string: &str) -> Id {
        Id(Arc::new(Token { text: quote(string).into(), meaning: Meaning::String(string.into()) }))
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Id) -> bool {
        self.0.meaning == other.0.meaning
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.meaning.hash(state);
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use json::{Document, Strictness};

    fn id(text: &str) -> Result<Id, &'static str> {
        Id::of(Document::parse(text.to_owned(), Strictness::Request).unwrap().root())
    }

    #[test]
    fn strings_and_integers_keep_their_text() {
        for text in ["1", "-7", "\"\"", "\"a\\u0062\"", "18446744073709551616", "9007199254740993", "\"1\""] {
            assert_eq!(id(text).unwrap().text(), text);
        }
    }

    #[test]
    fn what_readers_disagree_about_is_no_id() {
        for text in ["null", "1.0", "1e0", "1E2", "true", "{}", "[]", "[1]"] {
            assert!(id(text).is_err(), "{text}");
        }
        assert!(id(&"9".repeat(256)).is_ok());
        assert!(id(&"9".repeat(257)).is_err());
        assert!(id(&format!("\"{}\"", "x".repeat(1_000_000))).is_err());
    }

    #[test]
    fn ids_are_equal_by_meaning() {
        assert_eq!(id("\"a\""), id("\"\\u0061\""));
        assert_eq!(id("-0"), id("0"));
        assert_eq!(id("7").unwrap(), Id::from(7));
        assert_eq!(id("\"c-1\"").unwrap(), Id::from("c-1"));
        assert_ne!(id("1"), id("\"1\""));
        assert_ne!(id("9007199254740993"), id("9007199254740992"));
    }
}
