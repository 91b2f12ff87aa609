//! The one strict pass: bytes to index.
//!
//! No recursion, so depth costs no stack; limits are checked before work is done.

use crate::document::{Document, Kind, Node};
use crate::fold::{fold, same_folded};
use bytes::Bytes;
use std::collections::HashSet;
use std::fmt;

/// How much of what readers disagree about is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// What clients send. Refused at every depth: duplicate keys, keys that differ only by case or normalisation, lone
    /// surrogates, numbers beyond the range of a double or longer than 512 characters. At most 128 levels and 200,000 values.
    Request,
    /// What servers answer, and files: duplicate keys and the rest pass, for nothing is decided by them unless it is read.
    /// At most 512 levels and 4,000,000 values.
    Reply,
}

impl Strictness {
    fn max_depth(self) -> usize {
        match self {
            Strictness::Request => 128,
            Strictness::Reply => 512,
        }
    }

    fn max_nodes(self) -> usize {
        match self {
            Strictness::Request => 200_000,
            Strictness::Reply => 4_000_000,
        }
    }
}

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nothing but white space.
    Empty,
    /// Not JSON's grammar.
    Syntax,
    /// More after the value.
    Trailing,
    /// Not UTF-8.
    Encoding,
    /// Begins with a byte-order mark.
    ByteOrderMark,
    /// A `\u` escape of half a surrogate pair.
    Surrogate,
    /// A number that other readers round to infinity, or an unreasonably long one.
    Number,
    /// The same key twice in one object.
    DuplicateKey,
    /// Two keys in one object that differ only by case or Unicode normalisation.
    SimilarKeys,
    /// Nested too deeply.
    Depth,
    /// Too many values, or a text of 4 GiB or more.
    Size,
}

/// What is wrong with a text, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub problem: Problem,
    /// At which byte.
    pub offset: usize,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.problem {
            Problem::Empty => "nothing where one JSON value is expected",
            Problem::Syntax => "not valid JSON",
            Problem::Trailing => "more text after the JSON value",
            Problem::Encoding => "not valid UTF-8",
            Problem::ByteOrderMark => "a byte-order mark before the JSON value",
            Problem::Surrogate => "half a surrogate pair in a string",
            Problem::Number => "a number that is out of range or too long",
            Problem::DuplicateKey => "a key that stands twice in one object",
            Problem::SimilarKeys => "two keys in one object that differ only by case or normalisation",
            Problem::Depth => "nested too deeply",
            Problem::Size => "too many values",
        };
        write!(f, "{what} (at byte {})", self.offset)
    }
}

impl std::error::Error for Error {}

const MAX_NUMBER_LENGTH: usize = 512;

impl Document {
    /// Parses exactly one JSON value, white space around it allowed.
    ///
    /// # Errors
    /// What is wrong, and at which byte. Nothing of a text that fails can be read.
    pub fn parse(text: impl Into<Bytes>, strictness: Strictness) -> Result<Document, Error> {
        let text = text.into();
        let nodes = index(&text, strictness)?;
        Ok(Document::of(text, nodes))
    }
}

/// Indexes `text`; the first node is the outermost value.
fn index(text: &Bytes, strictness: Strictness) -> Result<Vec<Node>, Error> {
    let fail = |problem, offset| Err(Error { problem, offset });
    if text.starts_with(b"\xEF\xBB\xBF") {
        return fail(Problem::ByteOrderMark, 0);
    }
    if u32::try_from(text.len()).is_err() {
        return fail(Problem::Size, 0);
    }
    if let Err(error) = std::str::from_utf8(text) {
        return fail(Problem::Encoding, error.valid_up_to());
    }
    let mut parser = Parser { text, at: 0, strictness, nodes: Vec::with_capacity(text.len() / 7 + 4), open: Vec::new() };
    parser.run()?;
    let Parser { nodes, .. } = parser;
    Ok(nodes)
}

struct Parser<'t> {
    text: &'t [u8],
    at: usize,
    strictness: Strictness,
    nodes: Vec<Node>,
    /// Indices of the arrays and objects that are not closed yet.
    open: Vec<usize>,
}

impl Parser<'_> {
    fn run(&mut self) -> Result<(), Error> {
        self.space();
        if self.at == self.text.len() {
            return self.fail(Problem::Empty, 0);
        }
        loop {
            // Here a value is due.
            if self.value()? {
                continue; // a non-empty array or object was opened: its first value is due
            }
            // Here a value has just ended: close what ends with it, up to the next comma.
            loop {
                self.space();
                let Some(&container) = self.open.last() else {
                    return if self.at == self.text.len() { Ok(()) } else { self.fail(Problem::Trailing, self.at) };
                };
                let is_object = self.nodes[container].kind == Kind::Object;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if is_object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if is_object => self.close(container)?,
                    Some(b']') if !is_object => self.close(container)?,
                    _ => return self.fail(Problem::Syntax, self.at),
                }
            }
        }
    }

    /// Takes one scalar or empty container, or opens a container; true when another value is due inside it.
    fn value(&mut self) -> Result<bool, Error> {
        let start = self.at;
        match self.peek() {
            Some(b'{') => return self.open(Kind::Object, b'}'),
            Some(b'[') => return self.open(Kind::Array, b']'),
            Some(b'"') => self.string()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => {
                let (word, kind) = match self.peek() {
                    Some(b't') => ("true", Kind::Bool),
                    Some(b'f') => ("false", Kind::Bool),
                    Some(b'n') => ("null", Kind::Null),
                    _ => return self.fail(Problem::Syntax, start),
                };
                if !self.text[start..].starts_with(word.as_bytes()) {
                    return self.fail(Problem::Syntax, start);
                }
                self.at += word.len();
                self.push(kind, false, start)?;
            }
        }
        Ok(false)
    }

    fn open(&mut self, kind: Kind, closing: u8) -> Result<bool, Error> {
        if self.open.len() >= self.strictness.max_depth() {
            return self.fail(Problem::Depth, self.at);
        }
        let start = self.at;
        self.at += 1;
        let container = self.nodes.len();
        self.push(kind, false, start)?;
        self.open.push(container);
        self.space();
        if self.peek() == Some(closing) {
            self.close(container)?;
            return Ok(false);
        }
        if kind == Kind::Object {
            self.key()?;
        }
        Ok(true)
    }

    fn close(&mut self, container: usize) -> Result<(), Error> {
        self.at += 1;
        self.open.pop();
        let next = self.nodes.len() as u32;
        let node = &mut self.nodes[container];
        node.end = self.at as u32;
        node.next = next;
        if node.kind == Kind::Object && self.strictness == Strictness::Request { self.check_keys(container) } else { Ok(()) }
    }

    /// A key and its colon, up to where the member's value begins.
    fn key(&mut self) -> Result<(), Error> {
        if self.peek() != Some(b'"') {
            return self.fail(Problem::Syntax, self.at);
        }
        self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return self.fail(Problem::Syntax, self.at);
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    fn string(&mut self) -> Result<(), Error> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at += plain(&self.text[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                None | Some(_) => return self.fail(Problem::Syntax, self.at),
            }
        }
        self.at += 1;
        self.push(Kind::String, escaped, start)
    }

    fn escape(&mut self) -> Result<(), Error> {
        let start = self.at;
        match self.text.get(start + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let Some(unit) = self.code_unit(start) else { return self.fail(Problem::Syntax, start) };
                self.at += 6;
                if self.strictness == Strictness::Reply || !(0xD800..0xE000).contains(&unit) {
                    return Ok(());
                }
                let low = (self.text[self.at..].starts_with(b"\\u")).then(|| self.code_unit(self.at)).flatten();
                match (unit, low) {
                    (0xD800..0xDC00, Some(0xDC00..0xE000)) => {
                        self.at += 6;
                        Ok(())
                    }
                    _ => self.fail(Problem::Surrogate, start),
                }
            }
            _ => self.fail(Problem::Syntax, start),
        }
    }

    /// The four hexadecimal digits of the `\uXXXX` that begins at `start`.
    fn code_unit(&self, start: usize) -> Option<u32> {
        let hex = self.text.get(start + 2..start + 6)?;
        // `from_str_radix` would take a sign.
        if !hex.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
    }

    fn number(&mut self) -> Result<(), Error> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return self.fail(Problem::Syntax, start),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let has_exponent = matches!(self.peek(), Some(b'e' | b'E'));
        if has_exponent {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        if self.strictness == Strictness::Request {
            let text = &self.text[start..self.at];
            let in_range = || std::str::from_utf8(text).ok().and_then(|t| t.parse::<f64>().ok()).is_some_and(f64::is_finite);
            // A double takes any integer of 308 digits: only longer texts and exponents need a look.
            if text.len() > MAX_NUMBER_LENGTH || ((has_exponent || text.len() > 300) && !in_range()) {
                return self.fail(Problem::Number, start);
            }
        }
        self.push(Kind::Number, false, start)
    }

    fn digits(&mut self) -> Result<(), Error> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.fail(Problem::Syntax, start) } else { Ok(()) }
    }

    /// Refuses keys that a second reader could take for one another.
    fn check_keys(&self, container: usize) -> Result<(), Error> {
        // Most objects are small: their keys are compared in pairs, without a set.
        let mut few: [(usize, Option<&[u8]>); 8] = [(0, None); 8];
        let mut count = 0;
        let mut at = container + 1;
        let end = self.nodes[container].next as usize;
        while at < end {
            if count == few.len() {
                return self.check_many_keys(container);
            }
            let plain = self.plain_key(at);
            let similar = few[..count].iter().find(|&&(other, of_other)| match (plain, of_other) {
                (Some(plain), Some(of_other)) => plain.eq_ignore_ascii_case(of_other),
                _ => same_folded(&self.decoded(at), &self.decoded(other)),
            });
            if let Some(&(other, _)) = similar {
                return self.clash(at, self.decoded(at) == self.decoded(other));
            }
            few[count] = (at, plain);
            count += 1;
            at = self.nodes[at + 1].next as usize;
        }
        Ok(())
    }

    /// The text of a key that every reader takes for the same, but for the case of its letters.
    fn plain_key(&self, key: usize) -> Option<&[u8]> {
        let node = &self.nodes[key];
        let inner = &self.text[node.start as usize + 1..node.end as usize - 1];
        (!node.escaped && inner.is_ascii()).then_some(inner)
    }

    fn check_many_keys(&self, container: usize) -> Result<(), Error> {
        let mut keys = Vec::new();
        let mut at = container + 1;
        while at < self.nodes[container].next as usize {
            keys.push(at);
            at = self.nodes[at + 1].next as usize;
        }
        let mut seen = HashSet::with_capacity(keys.len());
        for &key in &keys {
            let text = self.decoded(key);
            let folded = fold(&text).into_owned();
            if !seen.insert(folded) {
                let exact = keys.iter().take_while(|&&earlier| earlier != key).any(|&earlier| self.decoded(earlier) == text);
                return self.clash(key, exact);
            }
        }
        Ok(())
    }

    fn clash(&self, key: usize, exact: bool) -> Result<(), Error> {
        let problem = if exact { Problem::DuplicateKey } else { Problem::SimilarKeys };
        self.fail(problem, self.nodes[key].start as usize)
    }

    fn decoded(&self, key: usize) -> std::borrow::Cow<'_, str> {
        Document::decode(self.text, &self.nodes[key])
    }

    fn push(&mut self, kind: Kind, escaped: bool, start: usize) -> Result<(), Error> {
        if self.nodes.len() >= self.strictness.max_nodes() {
            return self.fail(Problem::Size, start);
        }
        let next = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { kind, escaped, start: start as u32, end: self.at as u32, next });
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn fail<T>(&self, problem: Problem, offset: usize) -> Result<T, Error> {
        Err(Error { problem, offset })
    }
}

/// How many bytes at the start of `text` neither end a string nor begin an escape nor are control characters.
fn plain(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, rest) = text.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let word = u64::from_ne_bytes(*word);
        let quote = has_zero(word ^ (ONES * u64::from(b'"')));
        let backslash = has_zero(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        // This says that one of the eight is it, and not always which: that is looked for below.
        if (quote | backslash | control) & HIGHS != 0 {
            break;
        }
        at += 8;
    }
    let tail = if at < words.len() * 8 { &text[at..] } else { rest };
    at + tail.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: impl AsRef<[u8]>, expected: Result<(), Problem>) {
        let text = text.as_ref();
        let got = Document::parse(text.to_vec(), Strictness::Request).map(drop).map_err(|e| e.problem);
        assert_eq!(got, expected, "{}", String::from_utf8_lossy(text));
    }

    #[test]
    fn a_key_twice_is_refused_at_every_depth() {
        check(r#"{"a":1,"a":1}"#, Err(Problem::DuplicateKey));
        check(r#"{"x":[{"y":{"a":1,"b":2,"a":3}}]}"#, Err(Problem::DuplicateKey));
        check(r#"{"method":1,"m\u0065thod":2}"#, Err(Problem::DuplicateKey));
        let many: String = (0..50).map(|i| format!("\"k{i}\":{i},")).collect();
        check(format!("{{{many}\"k7\":0}}"), Err(Problem::DuplicateKey));
        check(format!("{{{many}\"K7\":0}}"), Err(Problem::SimilarKeys));
        check(format!("{{{many}\"l\":0}}"), Ok(()));
    }

    #[test]
    fn keys_that_differ_by_case_or_normalisation_are_refused() {
        check(r#"{"name":1,"NAME":2}"#, Err(Problem::SimilarKeys));
        check("{\"params\":1,\"param\u{17f}\":2}", Err(Problem::SimilarKeys));
        check(r#"{"name":1,"names":2}"#, Ok(()));
    }

    #[test]
    fn a_reply_may_repeat_a_key() {
        assert!(Document::parse(&br#"{"a":1,"a":2,"A":3}"#[..], Strictness::Reply).is_ok());
    }

    #[test]
    fn what_readers_disagree_about_is_refused() {
        check("\u{feff}{}", Err(Problem::ByteOrderMark));
        check("1e400", Err(Problem::Number));
        check("-1e400", Err(Problem::Number));
        check(format!("1{}", "0".repeat(1_000_000)), Err(Problem::Number));
        check(r#""\ud800""#, Err(Problem::Surrogate));
        check(r#""\udc00\ud800""#, Err(Problem::Surrogate));
        check(b"\"\xc0\xae\"", Err(Problem::Encoding));
        check(b"\"\xed\xa0\x80\"", Err(Problem::Encoding));
        for text in [
            "NaN",
            "Infinity",
            "-Infinity",
            "[1,]",
            "{a:1}",
            "{'a':1}",
            "// x\n1",
            "\"\t\"",
            "\"\\u+123\"",
            "{\"a\" 1}",
            "[1 2]",
            "}",
            "[",
            "tru",
        ] {
            check(text, Err(Problem::Syntax));
        }
        check("{} {}", Err(Problem::Trailing));
        check("{}x", Err(Problem::Trailing));
        check("01", Err(Problem::Trailing));
        check("", Err(Problem::Empty));
        check(" \n", Err(Problem::Empty));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        check(format!("{}{}", "[".repeat(128), "]".repeat(128)), Ok(()));
        check("[".repeat(129), Err(Problem::Depth));
        check("[".repeat(1_000_000), Err(Problem::Depth));
        check(format!("[{}1]", "1,".repeat(300_000)), Err(Problem::Size));
    }

    #[test]
    fn what_ends_a_string_is_found_at_every_place() {
        for length in 0..40 {
            for ending in [b'"', b'\\', 0, 0x1f, b'\n'] {
                for filler in [b'a', 0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xff] {
                    let mut text = vec![filler; length];
                    assert_eq!(plain(&text), length);
                    text.push(ending);
                    text.extend([filler; 9]);
                    assert_eq!(plain(&text), length, "{ending:#x} after {length} times {filler:#x}");
                }
            }
        }
    }

    proptest! {
        /// serde_json is the oracle for grammar; we refuse more, never less.
        #[test]
        fn we_accept_only_what_another_strict_reader_accepts(text in r#"[\[\]{}",:0-9eE.+\- a-c\\u]{0,24}"#) {
            if Document::parse(text.clone(), Strictness::Reply).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok() || text.contains('e') || text.contains('E') || text.contains("\\u"));
            } else {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_err());
            }
        }

        #[test]
        fn any_bytes_are_parsed_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for strictness in [Strictness::Request, Strictness::Reply] {
                if let Ok(document) = Document::parse(bytes.clone(), strictness) {
                    document.root().canonical();
                }
            }
        }
    }
}
