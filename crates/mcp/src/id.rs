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
pub struct Id {
    /// The token as it came, with a string's quotes.
    text: Arc<str>,
    kind: IdKind,
    /// What it means, where that is not what stands there: an escaped string, minus zero.
    decoded: Option<Arc<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum IdKind {
    /// Digits, as JSON spells them; they fit no fixed width.
    Integer,
    String,
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
        let (kind, decoded) = match value.kind() {
            Kind::String => {
                let decoded = value.as_str().unwrap_or_default();
                (IdKind::String, (decoded.len() + 2 != text.len()).then(|| Arc::from(&*decoded)))
            }
            Kind::Number if text.bytes().all(|b| b.is_ascii_digit() || b == b'-') => {
                (IdKind::Integer, (text == "-0").then(|| Arc::from("0")))
            }
            Kind::Null => return Err("`id` is null; give a string or an integer"),
            Kind::Number | Kind::Bool | Kind::Array | Kind::Object => return Err("`id` must be a string or an integer"),
        };
        Ok(Id { text: text.into(), kind, decoded })
    }

    /// The JSON token exactly as it came, a string with its quotes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What equal ids have in common.
    fn meaning(&self) -> (IdKind, &str) {
        let meaning = match (&self.decoded, self.kind) {
            (Some(decoded), _) => decoded,
            (None, IdKind::Integer) => &*self.text,
            (None, IdKind::String) => &self.text[1..self.text.len() - 1],
        };
        (self.kind, meaning)
    }
}

impl From<u64> for Id {
    fn from(number: u64) -> Id {
        Id { text: number.to_string().into(), kind: IdKind::Integer, decoded: None }
    }
}

impl From<&str> for Id {
    /// Gives a string id. For ids that we mint: the 256 byte limit is not checked here.
    fn from(string: &str) -> Id {
        let text = quote(string);
        let decoded = (text.len() != string.len() + 2).then(|| string.into());
        Id { text: text.into(), kind: IdKind::String, decoded }
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Id) -> bool {
        self.meaning() == other.meaning()
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.meaning().hash(state);
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
