//! The text of a policy file, and places in it.

use std::ops::Range;

/// A policy file: its name, for diagnostics, and its bytes.
#[derive(Clone, Debug)]
pub struct Source {
    /// As diagnostics show it; a name that ends in `.json` is read as JSON.
    pub name: String,
    /// The bytes as they are in the file.
    pub text: Vec<u8>,
}

impl Source {
    /// Makes a source of a name and a text.
    pub fn new(name: impl Into<String>, text: impl Into<Vec<u8>>) -> Source {
        Source { name: name.into(), text: text.into() }
    }

    /// Whether the text is JSON: by its name, or because it begins with `{`.
    pub(crate) fn is_json(&self) -> bool {
        let first = self.text.iter().find(|byte| !byte.is_ascii_whitespace());
        self.name.to_ascii_lowercase().ends_with(".json") || first == Some(&b'{')
    }

    /// The part of the text at `at`, as far as it is text.
    pub(crate) fn slice(&self, at: &Span) -> String {
        String::from_utf8_lossy(self.text.get(at.clone()).unwrap_or_default()).into_owned()
    }

    /// The line of a byte, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.text.iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
    }
}

/// Where something stands, in bytes of the text.
pub type Span = Range<usize>;

/// A piece of the user's text, fit for a message: short and without control characters.
pub fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(80).is_some() {
        out.push('…');
    }
    out
}
