//! Paths: `args.a.b[*].c` and `state.<tool>.<counter>`.

use super::Lowering;
use crate::model::{Path, Segment};
use crate::problem::code;
use crate::source::Node;
use crate::text::{Span, shown};

/// What a condition's path names.
pub(super) enum Subject {
    Argument(Path),
    /// `<owner>.<counter>`: an owner may contain dots, so only who knows the counters can split it.
    Counter(String),
}

impl Lowering<'_> {
    pub(super) fn subject(&mut self, node: &Node) -> Option<Subject> {
        let text = self.string(node, "`path`")?;
        if let Some(rest) = text.strip_prefix("state.") {
            if rest.split('.').count() >= 2 && rest.split('.').all(|part| !part.is_empty()) {
                return Some(Subject::Counter(rest.to_owned()));
            }
            let problem = self.error(code::PATH, &node.at, format!("`{}` names no counter", shown(text)));
            problem.label = Some("expected `state.<tool>.<counter>`".into());
            problem.help = Some("write `state._global.<counter>` for a counter of `*`".into());
            return None;
        }
        self.argument_text(text, &node.at).map(Subject::Argument)
    }

    /// A path that must name an argument (`increment_from`, `weight`).
    pub(super) fn argument(&mut self, node: &Node, what: &str) -> Option<Path> {
        let text = self.string(node, what)?;
        self.argument_text(text, &node.at)
    }

    fn argument_text(&mut self, text: &str, at: &Span) -> Option<Path> {
        match parse(text) {
            Ok(path) => Some(path),
            Err(label) => {
                let problem = self.error(code::PATH, at, format!("`{}` is not a path to an argument", shown(text)));
                problem.label = Some(label);
                let first = text.split(['.', '[']).next().unwrap_or_default();
                problem.help = match first {
                    "arg" | "arguments" | "params" | "input" | "$" if text.len() > first.len() => {
                        Some(format!("write `args{}`", &text[first.len()..]))
                    }
                    "args" | "state" | "" => None,
                    _ if text.contains([' ', '[', ']']) => None,
                    _ => Some(format!("write `args.{text}` for the argument, `state.<tool>.<counter>` for a counter")),
                };
                None
            }
        }
    }
}

/// Reads `args`, `args.a.b`, `args.items[*].amount`, `args.items[0]`, `args["a.b"]`, `args.items.length`.
fn parse(text: &str) -> Result<Path, String> {
    let Some(mut rest) = text.strip_prefix("args") else {
        return Err("expected `args.…`".into());
    };
    let mut segments = Vec::new();
    while !rest.is_empty() {
        if rest.starts_with('.') && rest.split('[').next().is_some_and(|plain| plain.contains('\\')) {
            return Err("`\\` quotes nothing here; write a key with a dot in it as `args[\"a.b\"]`".into());
        }
        let (segment, after) = if let Some(key) = rest.strip_prefix('.') {
            let end = key.find(['.', '[']).unwrap_or(key.len());
            (key_segment(&key[..end])?, &key[end..])
        } else if let Some(inner) = rest.strip_prefix('[') {
            bracket(inner)?
        } else {
            return Err("expected `.` or `[` after `args`".into());
        };
        segments.push(segment);
        rest = after;
    }
    // Only at the end is `length` a length; before it, it can only be a member.
    if segments.last() == Some(&Segment::Key("length".into())) {
        segments.pop();
        segments.push(Segment::Length);
    }
    if segments.len() > MAX_SEGMENTS {
        return Err("at most 32 steps".into());
    }
    Ok(Path { text: text.into(), segments })
}

fn key_segment(key: &str) -> Result<Segment, String> {
    if key.is_empty() {
        return Err("a name is missing between the dots".into());
    }
    if key.contains([']', '*', '"']) || key.chars().any(char::is_control) || key.trim() != key {
        return Err(r#"write `[*]` for every element, `["…"]` for an unusual name"#.into());
    }
    Ok(Segment::Key(key.to_owned()))
}

/// Reads `*]`, `3]` or `"a.b"]`, and gives what follows.
fn bracket(inner: &str) -> Result<(Segment, &str), String> {
    for quote in ['"', '\''] {
        if let Some(quoted) = inner.strip_prefix(quote) {
            let end = quoted.find(quote).ok_or("the quote is not closed")?;
            let after = quoted[end + 1..].strip_prefix(']').ok_or("expected `]` after the name")?;
            if end == 0 {
                return Err("the name is empty".into());
            }
            return Ok((Segment::Key(quoted[..end].to_owned()), after));
        }
    }
    let (index, after) = inner.split_once(']').ok_or("the bracket is not closed")?;
    if index == "*" {
        return Ok((Segment::All, after));
    }
    if index.len() > 9 || index.is_empty() || !index.bytes().all(|b| b.is_ascii_digit()) {
        return Err("expected `[*]` or `[0]`".into());
    }
    Ok((Segment::Index(index.parse().map_err(|_| "expected a number in the brackets")?), after))
}

const MAX_SEGMENTS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(text: &str) -> Vec<Segment> {
        parse(text).unwrap().segments
    }

    fn key(text: &str) -> Segment {
        Segment::Key(text.into())
    }

    #[test]
    fn a_path_steps_into_objects_and_arrays() {
        assert_eq!(segments("args.a.b"), [key("a"), key("b")]);
        assert_eq!(segments("args.items[*].amount"), [key("items"), Segment::All, key("amount")]);
        assert_eq!(segments("args.rows[2][0]"), [key("rows"), Segment::Index(2), Segment::Index(0)]);
        assert_eq!(segments(r#"args["a.b"].c-d"#), [key("a.b"), key("c-d")]);
        assert_eq!(segments("args.0"), [key("0")]);
        assert_eq!(segments("args"), []);
    }

    #[test]
    fn length_is_a_length_only_at_the_end() {
        assert_eq!(segments("args.commands.length"), [key("commands"), Segment::Length]);
        assert_eq!(segments("args.length.unit"), [key("length"), key("unit")]);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "",
            "arg.x",
            "args.",
            "args..x",
            "args.x[",
            "args.x[]",
            "args.x[-1]",
            "args.x[*",
            "args.*",
            "argsx",
            "foo.bar",
            "args[\"\"]",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
