//! JSON texts, as strict as YAML ones.

use super::{Kind, MAX_DEPTH, MAX_NODES, Member, Node, Source, Span, Text, without_duplicates};
use crate::problem::{Problem, Severity, code};
use json::{Document, Strictness, Value};

pub(super) fn read(source: &Source, text: &str, start: usize, problems: &mut Vec<Problem>) -> Option<Node> {
    let document = match Document::parse(text.as_bytes().to_vec(), Strictness::Reply) {
        Ok(document) => document,
        Err(error) => {
            problems.push(syntax(source, text, start, error));
            return None;
        }
    };
    // The request's rules also refuse half surrogate pairs and numbers that other readers round; duplicates are reported
    // below, each with both places.
    if let Err(error) = Document::parse(text.as_bytes().to_vec(), Strictness::Request)
        && matches!(error.problem, json::Problem::Surrogate | json::Problem::Number)
    {
        problems.push(syntax(source, text, start, error));
    }
    let mut reader = Reader { source, start, nodes: 0, problems };
    reader.node(document.root(), 0)
}

fn syntax(source: &Source, text: &str, start: usize, error: json::Error) -> Problem {
    let mut at = error.offset.min(text.len());
    // The end of the text has no line of its own to show: point at the last character that is there.
    if text[at..].trim().is_empty() {
        at = text.trim_end().char_indices().next_back().map_or(0, |(at, _)| at);
    }
    let length = text[at..].chars().next().map_or(0, char::len_utf8);
    let message = error.to_string();
    let message = message.split(" (at byte").next().unwrap_or_default();
    let problem = Problem::new(source, Severity::Error, code::SYNTAX, start + at..start + at + length, message);
    match error.problem {
        json::Problem::Syntax | json::Problem::Trailing => {
            problem.help("JSON has no comments, no trailing commas, and only double quotes; a file named `.yaml` that does not begin with `{` is read as YAML")
        }
        json::Problem::Empty => problem.help(r#"the least is `{"version": "1", "default": "deny", "tools": {}}`"#),
        _ => problem,
    }
}

struct Reader<'s> {
    source: &'s Source,
    start: usize,
    nodes: usize,
    problems: &'s mut Vec<Problem>,
}

impl Reader<'_> {
    fn node(&mut self, value: Value<'_>, depth: usize) -> Option<Node> {
        let at = self.span(value.span());
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            let what = if depth > MAX_DEPTH { "nested more than 64 levels deep" } else { "more than 200,000 values" };
            self.problems.push(Problem::new(self.source, Severity::Error, code::SYNTAX, at.start..at.start + 1, what));
            return None;
        }
        let kind = match value.kind() {
            json::Kind::Null => Kind::Null,
            json::Kind::Bool => Kind::Bool(value.as_bool().unwrap_or_default()),
            json::Kind::Number => match value.as_decimal() {
                Some(number) => Kind::Number(number),
                None => Kind::Odd { hint: "the number is out of range".into() },
            },
            json::Kind::String => Kind::String(Text::Sure(value.as_str().unwrap_or_default().into_owned())),
            json::Kind::Array => {
                let elements = value.elements().into_iter().flatten();
                Kind::Array(elements.map(|element| self.node(element, depth + 1)).collect::<Option<_>>()?)
            }
            json::Kind::Object => {
                let mut members = Vec::new();
                for member in value.members().into_iter().flatten() {
                    let key_at = self.span(member.key_span);
                    members.push(Member { key: member.key.into_owned(), key_at, value: self.node(member.value, depth + 1)? });
                }
                Kind::Object(without_duplicates(self.source, members, self.problems))
            }
        };
        Some(Node { at, kind })
    }

    fn span(&self, span: Span) -> Span {
        span.start + self.start..span.end + self.start
    }
}
