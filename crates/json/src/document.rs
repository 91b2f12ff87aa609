//! The parsed text and the views into it.

use crate::decimal::Decimal;
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number of any size.
    Number,
    /// A string.
    String,
    /// `[…]`
    Array,
    /// `{…}`
    Object,
}

/// One node of the index: 16 bytes, in the order of the text. An object's children are key, value, key, value, …
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub kind: Kind,
    /// Whether a string holds a `\` escape.
    pub escaped: bool,
    pub start: u32,
    pub end: u32,
    /// The index of the first node after this one and all it contains.
    pub next: u32,
}

impl Node {
    /// Whether it is this string. Most are not even as long, and hold no escapes.
    #[inline]
    fn says(&self, text: &[u8], said: &str) -> bool {
        if self.kind != Kind::String {
            return false;
        }
        if self.escaped {
            return Document::decode(text, self) == said;
        }
        (self.end - self.start) as usize == said.len() + 2
            && text[self.start as usize + 1..self.end as usize - 1] == *said.as_bytes()
    }
}

/// A text that has been parsed, with the index of its values.
#[derive(Clone)]
pub struct Document {
    text: Bytes,
    nodes: Vec<Node>,
}

impl Document {
    pub(crate) fn of(text: Bytes, nodes: Vec<Node>) -> Document {
        Document { text, nodes }
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'_> {
        Value { document: self, node: 0 }
    }

    /// The text as it came.
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// Decodes the string token at `node`, which must be one.
    pub(crate) fn decode<'t>(text: &'t [u8], node: &Node) -> Cow<'t, str> {
        let inner = utf8(&text[node.start as usize + 1..node.end as usize - 1]);
        if node.escaped { Cow::Owned(unescape(inner)) } else { Cow::Borrowed(inner) }
    }
}

/// Whether a number is an integer of so few digits that it is spelt by these alone.
fn is_plain_integer(raw: &str) -> bool {
    raw.len() <= 40 && raw.bytes().all(|byte| byte.is_ascii_digit())
}

fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the parser has checked that the text is UTF-8, and spans end at tokens")
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} bytes, {} nodes)", self.text.len(), self.nodes.len())
    }
}

/// A view of one value in a [`Document`]. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Value<'d> {
    document: &'d Document,
    node: u32,
}

impl<'d> Value<'d> {
    fn node(self) -> &'d Node {
        &self.document.nodes[self.node as usize]
    }

    /// What the value is.
    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// Where the value stands in the document's text, in bytes.
    pub fn span(self) -> Range<usize> {
        self.node().start as usize..self.node().end as usize
    }

    /// The value's text as it came, without white space around it.
    pub fn raw(self) -> &'d str {
        utf8(&self.document.text[self.span()])
    }

    /// The value's bytes, sharing the document's buffer.
    pub fn bytes(self) -> Bytes {
        self.document.text.slice(self.span())
    }

    /// Whether the value is `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// The decoded string, if it is one. A lone surrogate (possible in replies only) reads as U+FFFD.
    pub fn as_str(self) -> Option<Cow<'d, str>> {
        (self.kind() == Kind::String).then(|| Document::decode(&self.document.text, self.node()))
    }

    /// Where parts of the decoded string stand in the document's text; the parts are bytes of what [`Value::as_str`] gives, in
    /// order, without overlaps, and begin and end between characters. Of what is no string, nothing.
    ///
    /// ```
    /// let document = json::Document::parse(r#"["\u0061b\nc"]"#, json::Strictness::Reply).unwrap();
    /// let string = document.root().elements().unwrap().next().unwrap();
    /// assert_eq!(string.as_str().unwrap(), "ab\nc");
    /// assert_eq!(string.spans_of(&[0..1, 2..3]), [2..8, 9..11]);
    /// ```
    pub fn spans_of(self, parts: &[Range<usize>]) -> Vec<Range<usize>> {
        if self.kind() != Kind::String {
            return Vec::new();
        }
        let (node, begin) = (self.node(), self.node().start as usize + 1);
        let inner = utf8(&self.document.text[begin..node.end as usize - 1]);
        if !node.escaped {
            return parts.iter().map(|part| begin + part.start..begin + part.end).collect();
        }
        let (mut decoded, mut raw) = (0, 0);
        let mut place = |wanted: usize| {
            while decoded < wanted && raw < inner.len() {
                let (characters, length) = step(&inner[raw..]);
                decoded += characters;
                raw += length;
            }
            begin + raw
        };
        parts.iter().map(|part| place(part.start)..place(part.end)).collect()
    }

    /// `true` or `false`, if it is one.
    pub fn as_bool(self) -> Option<bool> {
        (self.kind() == Kind::Bool).then(|| self.raw() == "true")
    }

    /// The exact number, if it is one. `None` also for an exponent beyond nine digits (possible in replies only).
    pub fn as_decimal(self) -> Option<Decimal> {
        if self.kind() == Kind::Number { Decimal::parse(self.raw()) } else { None }
    }

    /// The members of an object, in the order of the text.
    pub fn members(self) -> Option<Members<'d>> {
        (self.kind() == Kind::Object).then(|| Members { children: self.children() })
    }

    /// The elements of an array.
    pub fn elements(self) -> Option<Elements<'d>> {
        (self.kind() == Kind::Array).then(|| Elements { children: self.children() })
    }

    /// The member of an object with exactly this key (after decoding escapes); the first, where a reply has several.
    pub fn get(self, key: &str) -> Option<Value<'d>> {
        let nodes = &self.document.nodes;
        let object = self.node();
        if object.kind != Kind::Object {
            return None;
        }
        // A key's value is the node after it; the next key, the one after all that the value contains.
        let (mut at, end) = (self.node + 1, object.next);
        while at < end {
            if nodes[at as usize].says(&self.document.text, key) {
                return Some(Value { document: self.document, node: at + 1 });
            }
            at = nodes[at as usize + 1].next;
        }
        None
    }

    /// The keys of an object, in the order of the text, as the strings that they are; of anything else, none.
    pub fn keys(self) -> impl Iterator<Item = Value<'d>> {
        let end = if self.kind() == Kind::Object { self.node().next } else { 0 };
        Children { document: self.document, at: self.node + 1, end }.step_by(2)
    }

    /// Whether the value is this string.
    pub fn says(self, text: &str) -> bool {
        self.node().says(&self.document.text, text)
    }

    fn children(self) -> Children<'d> {
        Children { document: self.document, at: self.node + 1, end: self.node().next }
    }

    /// A text that is equal for two values which mean the same: no white space, members sorted by key, numbers in one
    /// spelling, strings with the fewest escapes. For digests of values; never for what is forwarded.
    pub fn canonical(self) -> String {
        let mut out = String::with_capacity(self.raw().len());
        self.write_canonical(&mut out);
        out
    }

    fn write_canonical(self, out: &mut String) {
        match self.kind() {
            Kind::Null | Kind::Bool => out.push_str(self.raw()),
            // Its digits are its shortest spelling already.
            Kind::Number if is_plain_integer(self.raw()) => out.push_str(self.raw()),
            Kind::Number => match self.as_decimal() {
                Some(number) => out.push_str(&number.to_string()),
                None => out.push_str(self.raw()),
            },
            Kind::String => quote_into(&self.as_str().unwrap_or_default(), out),
            Kind::Array => {
                out.push('[');
                for (i, element) in self.elements().into_iter().flatten().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    element.write_canonical(out);
                }
                out.push(']');
            }
            Kind::Object => {
                let mut members: Vec<_> = self.members().into_iter().flatten().collect();
                members.sort_by(|a, b| a.key.cmp(&b.key));
                out.push('{');
                for (i, member) in members.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    quote_into(&member.key, out);
                    out.push(':');
                    member.value.write_canonical(out);
                }
                out.push('}');
            }
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.raw())
    }
}

/// One member of an object.
#[derive(Clone, Debug)]
pub struct Member<'d> {
    /// The key, escapes decoded.
    pub key: Cow<'d, str>,
    /// Where the key's token (with its quotes) stands in the text.
    pub key_span: Range<usize>,
    /// The value.
    pub value: Value<'d>,
}

#[derive(Clone)]
struct Children<'d> {
    document: &'d Document,
    at: u32,
    end: u32,
}

impl<'d> Iterator for Children<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Value<'d>> {
        if self.at >= self.end {
            return None;
        }
        let child = Value { document: self.document, node: self.at };
        self.at = child.node().next;
        Some(child)
    }
}

/// The members of an object, in the order of the text.
#[derive(Clone)]
pub struct Members<'d> {
    children: Children<'d>,
}

impl<'d> Iterator for Members<'d> {
    type Item = Member<'d>;

    fn next(&mut self) -> Option<Member<'d>> {
        let key = self.children.next()?;
        let value = self.children.next()?;
        Some(Member { key: key.as_str()?, key_span: key.span(), value })
    }
}

/// The elements of an array.
#[derive(Clone)]
pub struct Elements<'d> {
    children: Children<'d>,
}

impl<'d> Iterator for Elements<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Value<'d>> {
        self.children.next()
    }
}

/// Gives `text` as a JSON string token with its quotes.
///
/// Besides what JSON demands, it escapes U+007F, U+0085, U+2028 and U+2029: some readers end a line there.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote_into(text, &mut out);
    out
}

/// Appends to `out` what [`quote`] gives.
pub fn quote_into(text: &str, out: &mut String) {
    out.push('"');
    // Most texts are plain: they are taken over as they are.
    let is_plain = |byte: u8| matches!(byte, 0x20..=0x7e) & (byte != b'"') & (byte != b'\\');
    // All of them are looked at, whatever the first are: that goes many at a time.
    let plain = match text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        true => text.len(),
        false => text.bytes().take_while(|byte| is_plain(*byte)).count(),
    };
    out.push_str(&text[..plain]);
    for c in text[plain..].chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{0}'..='\u{1f}' | '\u{7f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Decodes the inside of a string token that the parser has accepted.
fn unescape(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes()[at + 1];
        rest = &rest[at + 2..];
        let simple = match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (c, length) = code_point(rest);
                rest = &rest[length..];
                c
            }
            other => char::from(other),
        };
        out.push(simple);
    }
    out.push_str(rest);
    out
}

/// How long the first character of the inside of a string token is, which is not empty: decoded, and as it is written.
fn step(inner: &str) -> (usize, usize) {
    match inner.as_bytes() {
        [b'\\', b'u', ..] => {
            let (c, length) = code_point(&inner[2..]);
            (c.len_utf8(), 2 + length)
        }
        [b'\\', ..] => (1, 2),
        _ => inner.chars().next().map_or((1, 1), |c| (c.len_utf8(), c.len_utf8())),
    }
}

/// Decodes `XXXX` or `XXXX\uXXXX` at the start of `text`; gives the character and how many bytes it took.
fn code_point(text: &str) -> (char, usize) {
    let unit = |at: usize| text.get(at..at + 4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let high = unit(0).unwrap_or(0xFFFD);
    if (0xD800..0xDC00).contains(&high)
        && text[4..].starts_with("\\u")
        && let Some(low @ 0xDC00..0xE000) = unit(6)
    {
        let scalar = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
        return (char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER), 10);
    }
    (char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Strictness;
    use proptest::prelude::*;

    fn document(text: &str) -> Document {
        Document::parse(text.to_owned(), Strictness::Request).unwrap()
    }

    #[test]
    fn members_keep_their_order_and_their_texts() {
        let doc = document(r#" {"b": 1.0e0, "a" : [ 1 ,2], "\u0063": "x\ny"} "#);
        let members: Vec<_> = doc.root().members().unwrap().map(|m| (m.key.into_owned(), m.value.raw().to_owned())).collect();
        assert_eq!(members, [("b".into(), "1.0e0".into()), ("a".into(), "[ 1 ,2]".into()), ("c".into(), r#""x\ny""#.into())]);
    }

    #[test]
    fn escapes_are_decoded() {
        let doc = document(r#"["\u0041\n\"\\\/\b\f\t\ud83d\ude00é"]"#);
        let first = doc.root().elements().unwrap().next().unwrap();
        assert_eq!(first.as_str().unwrap(), "A\n\"\\/\u{8}\u{c}\t😀é");
    }

    #[test]
    fn a_lone_surrogate_in_a_reply_reads_as_a_replacement() {
        let doc = Document::parse(r#""a\ud800b""#.as_bytes().to_vec(), Strictness::Reply).unwrap();
        assert_eq!(doc.root().as_str().unwrap(), "a\u{fffd}b");
    }

    #[test]
    fn an_integer_is_canonical_as_its_digits() {
        for digits in 1..50 {
            for text in
                ["1", "9", "0"].map(|digit| digit.repeat(digits)).iter().filter(|text| *text == "0" || !text.starts_with('0'))
            {
                let expected = document(text).root().as_decimal().unwrap().to_string();
                assert_eq!(document(text).root().canonical(), expected);
                assert_eq!(document(&format!("{text}.0")).root().canonical(), expected);
            }
        }
    }

    #[test]
    fn equal_meanings_have_one_canonical_text() {
        let a = document(r#"{ "b":[1.0,"\u00e9"], "a":{"y":null,"x":true} }"#);
        let b = document(r#"{"a":{"x":true,"y":null},"b":[10e-1,"é"]}"#);
        assert_eq!(a.root().canonical(), b.root().canonical());
        assert_ne!(a.root().canonical(), document(r#"{"a":{"x":true,"y":null},"b":["1","é"]}"#).root().canonical());
    }

    proptest! {
        #[test]
        fn quoting_reads_back(text in any::<String>()) {
            let doc = document(&quote(&text));
            prop_assert_eq!(doc.root().as_str().unwrap(), text);
        }
    }
}
