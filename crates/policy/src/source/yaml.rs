//! YAML texts: the part of YAML 1.2 in which two readers cannot disagree.
//!
//! Events of `saphyr-parser` become nodes. Anchors, aliases, merge keys, tags, complex keys, several documents and tabs
//! in the indentation are refused: each makes a file mean more, or something else, than it shows. Plain scalars follow
//! the core schema of YAML 1.2, and where YAML 1.1 reads them differently the difference is kept for whoever needs a type.

use super::{Kind, MAX_DEPTH, MAX_NODES, Member, Node, Source, Span, Text, shown, without_duplicates};
use crate::problem::{Problem, Severity, code};
use ::json::Decimal;
use saphyr_parser::{Event, Parser, ScalarStyle};

pub(super) fn read(source: &Source, text: &str, start: usize, problems: &mut Vec<Problem>) -> Option<Node> {
    let mut builder = Builder::new(source, text, start, problems);
    builder.refuse_bad_white_space();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, span)) => {
                let at = builder.span(span.start.index(), span.end.index());
                builder.event(event, at)?;
            }
            Err(error) => {
                builder.syntax(&error);
                return None;
            }
        }
    }
    builder.root
}

/// A mapping or sequence that is not closed yet.
struct Open {
    start: usize,
    elements: Vec<Node>,
    members: Vec<Member>,
    /// The key whose value is due.
    key: Option<(String, Span)>,
    is_mapping: bool,
}

struct Builder<'s> {
    source: &'s Source,
    text: &'s str,
    start: usize,
    /// The byte offset of each character, where they differ.
    offsets: Option<Vec<usize>>,
    problems: &'s mut Vec<Problem>,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    nodes: usize,
    /// Where the last event ended: anchors and tags stand between it and the next.
    last: usize,
}

impl<'s> Builder<'s> {
    fn new(source: &'s Source, text: &'s str, start: usize, problems: &'s mut Vec<Problem>) -> Builder<'s> {
        let offsets = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect());
        Builder { source, text, start, offsets, problems, open: Vec::new(), root: None, documents: 0, nodes: 0, last: 0 }
    }

    fn error(&mut self, code: &'static str, at: Span, message: impl Into<String>, help: &str) {
        self.problems.push(Problem::new(self.source, Severity::Error, code, at, message).help(help));
    }

    /// The bytes from one character to another, without white space at the end.
    fn span(&self, from: usize, to: usize) -> Span {
        let byte = |index: usize| match &self.offsets {
            None => index.min(self.text.len()),
            Some(offsets) => offsets.get(index).copied().unwrap_or(self.text.len()),
        };
        let (from, to) = (byte(from), byte(to));
        let length = self.text[from..to.max(from)].trim_end().len();
        self.start + from..self.start + from + length
    }

    fn refuse_bad_white_space(&mut self) {
        let mut at = self.start;
        for line in self.text.split_inclusive('\n') {
            let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
            let content = line.trim();
            if let Some(tab) = line[..indentation].find('\t')
                && !content.is_empty()
                && !content.starts_with('#')
            {
                self.error(code::YAML, at + tab..at + tab + 1, "a tab in the indentation", "indent with spaces");
            }
            if let Some(cr) = line.trim_end_matches(['\r', '\n']).find('\r') {
                let help = "end lines with a line feed: some readers end a line here and some do not";
                self.error(code::YAML, at + cr..at + cr + 1, "a carriage return inside a line", help);
            }
            at += line.len();
        }
    }

    fn syntax(&mut self, error: &saphyr_parser::ScanError) {
        let info = error.info();
        let mut at = self.span(error.marker().index(), error.marker().index()).start - self.start;
        // At the end of the text there is nothing to show: point at the last character that is there.
        if self.text[at..].trim().is_empty() {
            at = self.text.trim_end().char_indices().next_back().map_or(0, |(at, _)| at);
        }
        let length = self.text[at..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
        let at = self.start + at..self.start + at + length;
        if info.contains("unknown anchor") {
            return self.refuse_alias(at);
        }
        // A tab that the parser stumbles over has been reported, with better words.
        if self
            .problems
            .iter()
            .any(|problem| problem.code == code::YAML && info.contains("tab") && problem.message.contains("tab"))
        {
            return;
        }
        let help = "look at the indentation, and for an unclosed quote or bracket above";
        self.error(code::SYNTAX, at, format!("not valid YAML: {info}"), help);
    }

    fn refuse_alias(&mut self, at: Span) {
        self.error(code::YAML, at, "an alias (`*name`)", "write the value out: in a policy each rule shows what it does");
    }

    /// Takes one event; `None` when it makes no sense to go on.
    fn event(&mut self, event: Event<'_>, at: Span) -> Option<()> {
        let end = at.end;
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let help = "keep one document a file: some readers would see the first only, some the last";
                    self.error(code::YAML, at, "a second document in the file", help);
                    return None;
                }
            }
            Event::Scalar(value, style, anchor, tag) => {
                self.refuse_decoration(anchor, tag.is_some(), &at);
                let kind = if style == ScalarStyle::Plain { plain(&value) } else { sure(value.into_owned()) };
                self.value(Node { at, kind })?;
            }
            Event::Alias(_) => {
                self.refuse_alias(at.clone());
                self.value(Node { at, kind: Kind::Invalid })?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_decoration(anchor, tag.is_some(), &at);
                self.begin(at, false)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_decoration(anchor, tag.is_some(), &at);
                self.begin(at, true)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(&at)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        self.last = self.last.max(end);
        Some(())
    }

    fn refuse_decoration(&mut self, anchor: usize, tagged: bool, at: &Span) {
        let from = self.last.clamp(self.start, at.start);
        let before = &self.text[from - self.start..at.start - self.start];
        let find = |mark: char| {
            before.rfind(mark).map_or(at.clone(), |found| {
                let length = before[found..].find(char::is_whitespace).unwrap_or(before.len() - found);
                from + found..from + found + length
            })
        };
        let (anchored_at, tagged_at) = (find('&'), find('!'));
        if anchor != 0 {
            self.error(code::YAML, anchored_at, "an anchor (`&name`)", "write each value out where it is used");
        }
        if tagged {
            self.error(
                code::YAML,
                tagged_at,
                "a tag (`!type`)",
                "leave it out: a quoted value is a string, a plain one what it looks like",
            );
        }
    }

    fn begin(&mut self, at: Span, is_mapping: bool) -> Option<()> {
        if self.open.len() >= MAX_DEPTH {
            self.error(code::SYNTAX, at, "nested more than 64 levels deep", "a policy needs about eight");
            return None;
        }
        if self.key_is_due() {
            self.error(code::YAML, at, "a key that is a list or mapping", "a key must be a string");
            return None;
        }
        self.open.push(Open { start: at.start, elements: Vec::new(), members: Vec::new(), key: None, is_mapping });
        Some(())
    }

    fn end(&mut self, at: &Span) -> Option<()> {
        let open = self.open.pop()?;
        // A block has no end of its own: it ends with its last child.
        let last = open.members.last().map(|member| &member.value).or(open.elements.last()).map(|node| node.at.end);
        let end = if at.is_empty() { last.unwrap_or(open.start) } else { at.end.max(last.unwrap_or_default()) };
        let kind = if open.is_mapping {
            Kind::Object(without_duplicates(self.source, open.members, self.problems))
        } else {
            Kind::Array(open.elements)
        };
        self.value(Node { at: open.start..end.max(open.start), kind })
    }

    fn key_is_due(&self) -> bool {
        self.open.last().is_some_and(|open| open.is_mapping && open.key.is_none())
    }

    fn value(&mut self, node: Node) -> Option<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            self.error(code::SYNTAX, node.at, "more than 200,000 values", "split the policy");
            return None;
        }
        if self.key_is_due() {
            let key = self.key(node);
            if let Some(open) = self.open.last_mut() {
                open.key = Some(key);
            }
            return Some(());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(open) => match open.key.take() {
                Some((key, key_at)) => open.members.push(Member { key, key_at, value: node }),
                None => open.elements.push(node),
            },
        }
        Some(())
    }

    /// A scalar in a key's place.
    fn key(&mut self, node: Node) -> (String, Span) {
        let written = self.source.slice(&node.at);
        let key = match &node.kind {
            Kind::String(text) if text.as_str() == "<<" && written == "<<" => {
                self.error(code::YAML, node.at.clone(), "a merge key (`<<`)", "write the rules out where they apply");
                written
            }
            Kind::String(text) => text.as_str().to_owned(),
            Kind::Invalid => written,
            _ => {
                let help = format!("write \"{}\"", shown(&written));
                self.error(code::DOUBTFUL, node.at.clone(), format!("a key that is {}, not a string", node.describe()), &help);
                written
            }
        };
        (key, node.at)
    }
}

fn sure(text: String) -> Kind {
    Kind::String(Text::Sure(text))
}

/// What a plain scalar is, in the core schema of YAML 1.2.
fn plain(text: &str) -> Kind {
    let odd = |hint: String| Kind::Odd { hint };
    match text {
        "" => return Kind::Empty,
        "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        "~" => return odd("write `null`, or \"~\" for the character".into()),
        _ => {}
    }
    if let Some(number) = Decimal::parse(text) {
        return Kind::Number(number);
    }
    if ["yes", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Kind::String(Text::Word(text.to_owned()));
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if [".inf", ".Inf", ".INF"].contains(&unsigned) || [".nan", ".NaN", ".NAN"].contains(&text) {
        return odd("infinity and NaN are not numbers here; write a finite number, or quotes around a string".into());
    }
    let radix = |prefix: &str, radix: u32| {
        let digits = unsigned.strip_prefix(prefix)?;
        (!digits.is_empty() && digits.chars().all(|c| c.is_digit(radix) || c == '_')).then_some(())
    };
    if radix("0x", 16).or(radix("0o", 8)).or(radix("0b", 2)).is_some() {
        return odd(format!("write the number in decimal digits, or \"{text}\" for a string"));
    }
    // `017`, `1_000`, `+5`, `1.`, `.5`, `1e` and their mixtures: numbers to some readers, in different values to others.
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let part = |s: &str| s.is_empty() || digits(s);
    let has_digit = mantissa.starts_with(|c: char| c.is_ascii_digit()) || (mantissa.starts_with('.') && digits(fraction));
    let exponent_fits = exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)));
    if has_digit && part(whole) && part(fraction) && exponent_fits {
        return odd(format!("write a number as in `17`, `0.5` or `1000`, or \"{text}\" for a string"));
    }
    sure(text.to_owned())
}
