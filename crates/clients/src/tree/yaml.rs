//! YAML: the part of it in which a change at one place means a change at that place alone.

use super::{Member, Node, Value};
use saphyr_parser::{Event, Parser, ScalarStyle};
use std::ops::Range;

/// Deeper than any configuration.
const MAX_DEPTH: usize = 64;

pub(crate) fn parse(text: &str) -> Result<Node, String> {
    let mut reader = Reader { text, offsets: text.char_indices().map(|(at, _)| at).collect(), open: Vec::new(), root: None };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let span = reader.bytes(span.start.index()..span.end.index());
        reader.take(event, span)?;
    }
    reader.root.ok_or_else(|| "the file is empty".to_owned())
}

struct Reader<'t> {
    text: &'t str,
    /// The byte offset of each character.
    offsets: Vec<usize>,
    open: Vec<Open>,
    root: Option<Node>,
}

/// A list or mapping that has not ended yet.
struct Open {
    start: usize,
    is_list: bool,
    items: Vec<Node>,
    members: Vec<Member>,
    key: Option<(String, Range<usize>)>,
}

impl Reader<'_> {
    fn bytes(&self, characters: Range<usize>) -> Range<usize> {
        let byte = |index: usize| self.offsets.get(index).copied().unwrap_or(self.text.len());
        byte(characters.start)..byte(characters.end)
    }

    fn take(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), String> {
        match event {
            Event::Alias(_) => Err("an alias (`*name`) stands for text from elsewhere".to_owned()),
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) if anchor > 0 => {
                Err("an anchor (`&name`) may be meant in several places".to_owned())
            }
            Event::Scalar(text, style, _, _) => {
                let value = match (&*text, style) {
                    ("true", ScalarStyle::Plain) => Value::Flag(true),
                    ("false", ScalarStyle::Plain) => Value::Flag(false),
                    ("" | "~" | "null", ScalarStyle::Plain) => Value::Other,
                    _ => Value::Text(text.into_owned()),
                };
                self.add(Node { span, value })
            }
            Event::SequenceStart(..) => self.begin(span.start, true),
            Event::MappingStart(..) => self.begin(span.start, false),
            Event::SequenceEnd | Event::MappingEnd => self.end(span.end),
            Event::DocumentStart(_) if self.root.is_some() => Err("the file holds several documents".to_owned()),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, start: usize, is_list: bool) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err("it is nested too deeply".to_owned());
        }
        self.open.push(Open { start, is_list, items: Vec::new(), members: Vec::new(), key: None });
        Ok(())
    }

    fn end(&mut self, end: usize) -> Result<(), String> {
        let Some(open) = self.open.pop() else { return Err("it ends before it begins".to_owned()) };
        // In block style the end is wherever the next thing begins.
        let enclosed = self.text[open.start..].starts_with(['[', '{']);
        let value = if open.is_list {
            Value::List { items: open.items, bracketed: enclosed }
        } else {
            Value::Mapping { members: open.members, braced: enclosed }
        };
        self.add(Node { span: open.start..end, value })
    }

    fn add(&mut self, node: Node) -> Result<(), String> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(open) if open.is_list => open.items.push(node),
            Some(open) => match open.key.take() {
                Some((key, key_span)) => open.members.push(Member { key, key_span, value: node }),
                None => {
                    let Some(key) = self.text.get(node.span.clone()) else { return Err("a key cannot be read".to_owned()) };
                    // `1:` and `true:` are keys by the way they are written.
                    let key = node.text().unwrap_or(key).to_owned();
                    open.key = Some((key, node.span));
                }
            },
        }
        Ok(())
    }
}
