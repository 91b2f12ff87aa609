//! Reading typed values out of nodes, and saying what was expected where something else stands.
//!
//! Policies are read by it, and so are other files of the same form: a [`Vocabulary`] says what people write who know other
//! tools, and where a key belongs that was found elsewhere.

use crate::problem::{Problem, Severity, code, finish, nearest, one_of};
use crate::source::{Kind, Member, Node, Text, read};
use crate::text::{Source, Span, shown};

/// The members of a mapping whose keys are all known.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'n> {
    /// The mapping.
    pub node: &'n Node,
    members: &'n [Member],
}

impl<'n> Fields<'n> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.member(key).map(|member| &member.value)
    }

    /// A key and its value.
    pub fn member(&self, key: &str) -> Option<&'n Member> {
        self.members.iter().find(|member| member.key == key)
    }

    /// All of them, in the order of the text.
    pub fn members(&self) -> &'n [Member] {
        self.members
    }

    /// The first of `keys` that is present.
    pub fn any(&self, keys: &[&str]) -> Option<&'n Member> {
        self.members.iter().find(|member| keys.contains(&member.key.as_str()))
    }
}

/// What is known of the words of one kind of file.
#[derive(Debug)]
pub struct Vocabulary {
    /// What people write who know other tools, and our word for it.
    pub synonyms: &'static [(&'static str, &'static str)],
    /// Where a key belongs that was found elsewhere.
    pub places: &'static [(&'static str, &'static str)],
}

/// Reads one text, and gathers what is wrong with it.
#[derive(Debug)]
pub struct Reader<'s> {
    /// The text.
    pub source: &'s Source,
    /// What is wrong, so far.
    pub problems: Vec<Problem>,
    vocabulary: &'static Vocabulary,
}

impl<'s> Reader<'s> {
    /// A reader of `source`.
    pub fn new(source: &'s Source, vocabulary: &'static Vocabulary) -> Reader<'s> {
        Reader { source, problems: Vec::new(), vocabulary }
    }

    /// The tree of the text; `None` when it cannot be read at all.
    pub fn root(&mut self) -> Option<Node> {
        read(self.source, &mut self.problems)
    }

    /// All problems, in the order of the text, each with its line and column.
    pub fn finish(mut self) -> Vec<Problem> {
        finish(self.source, &mut self.problems);
        self.problems
    }

    /// Reports an error; more can be said of it.
    pub fn error(&mut self, code: &'static str, at: &Span, message: impl Into<String>) -> &mut Problem {
        self.report(Severity::Error, code, at, message)
    }

    /// Reports a warning; more can be said of it.
    pub fn warn(&mut self, code: &'static str, at: &Span, message: impl Into<String>) -> &mut Problem {
        self.report(Severity::Warning, code, at, message)
    }

    fn report(&mut self, severity: Severity, code: &'static str, at: &Span, message: impl Into<String>) -> &mut Problem {
        self.problems.push(Problem::new(self.source, severity, code, at.clone(), message));
        self.problems.last_mut().expect("one has just been pushed")
    }

    /// Says that `node` is not what is expected: `what` is the thing (`` `max` ``), `expected` what it must be.
    pub fn wrong_type(&mut self, node: &Node, what: &str, expected: &str) {
        let hint = match &node.kind {
            Kind::Invalid => return,
            Kind::Odd { hint } => Some(hint.clone()),
            Kind::Empty => Some("write a value, or remove the key".to_owned()),
            _ => None,
        };
        let written = self.source.slice(&node.at);
        let message = match &node.kind {
            Kind::Odd { .. } => format!("`{}` is no clear value for {what}", shown(&written)),
            _ => format!("{what} is {}", node.describe()),
        };
        let code = if matches!(node.kind, Kind::Odd { .. }) { code::DOUBTFUL } else { code::TYPE };
        let problem = self.error(code, &node.at, message);
        problem.label = Some(format!("expected {expected}"));
        problem.help = hint;
    }

    /// The members of a mapping; every key that is not `known` is reported.
    pub fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&'static str]) -> Option<Fields<'n>> {
        let Kind::Object(members) = &node.kind else {
            self.wrong_type(node, what, "a mapping");
            return None;
        };
        for member in members {
            if !known.contains(&member.key.as_str()) {
                self.unknown_key(member, what, known);
            }
        }
        Some(Fields { node, members })
    }

    fn unknown_key(&mut self, member: &Member, what: &str, known: &[&'static str]) {
        let key = member.key.as_str();
        // A merge key or one that is no clear string has been reported by the reader.
        let is_word = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key != "null";
        if !is_word && self.problems.iter().any(|problem| problem.at == member.key_at) {
            return;
        }
        let synonym =
            self.vocabulary.synonyms.iter().find(|(other, ours)| *other == key && known.contains(ours)).map(|(_, ours)| *ours);
        let longer = || known.iter().copied().find(|ours| ours.strip_prefix(key).is_some_and(|rest| rest.starts_with('_')));
        let help = match synonym.or_else(|| nearest(key, known.iter().copied())).or_else(longer) {
            Some(near) => format!("write `{near}`"),
            None => match self.vocabulary.places.iter().find(|(place_key, _)| *place_key == key) {
                Some((_, place)) => format!("`{key}` belongs {place}"),
                None => format!("known keys are {}", one_of(known).replace(" or ", " and ")),
            },
        };
        let message = format!("unknown key `{}` in {what}", shown(key));
        self.error(code::UNKNOWN_KEY, &member.key_at, message).help = Some(help);
    }

    /// A string.
    pub fn string<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        let text = node.as_str();
        if text.is_none() {
            self.wrong_type(node, what, "a string");
            if let (Kind::Number(_) | Kind::Bool(_) | Kind::Null, Some(problem)) = (&node.kind, self.problems.last_mut()) {
                problem.help = Some(format!("write \"{}\"", shown(&self.source.slice(&node.at))));
            }
        }
        text
    }

    /// A string that is not empty, has no control characters and is not too long to be a name.
    pub fn name<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        let text = self.string(node, what)?;
        match bad_name(text) {
            None => Some(text),
            Some(reason) => {
                self.error(code::NAME, &node.at, format!("{what} {reason}"));
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.kind {
            Kind::Bool(value) => return Some(*value),
            Kind::String(Text::Word(word)) => {
                let meant = matches!(word.to_ascii_lowercase().as_str(), "yes" | "on");
                let problem = self.error(code::DOUBTFUL, &node.at, format!("`{word}` is a string, not a boolean"));
                problem.label = Some("expected `true` or `false`".into());
                problem.help = Some(format!("write `{meant}`"));
            }
            _ => self.wrong_type(node, what, "`true` or `false`"),
        }
        None
    }

    /// A list.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        match &node.kind {
            Kind::Array(elements) => Some(elements),
            _ => {
                self.wrong_type(node, what, "a list");
                None
            }
        }
    }

    /// One of some words.
    pub fn word<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&'static str, T)]) -> Option<T> {
        let known: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
        let Some(text) = node.as_str() else {
            self.wrong_type(node, what, &one_of(&known));
            return None;
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let synonym =
            self.vocabulary.synonyms.iter().find(|(other, ours)| *other == text && known.contains(ours)).map(|(_, ours)| *ours);
        let near = synonym.or_else(|| nearest(text, known.iter().copied()));
        let problem = self.error(code::WORD, &node.at, format!("unknown {} `{}`", what.trim_matches('`'), shown(text)));
        problem.label = Some(format!("expected {}", one_of(&known)));
        problem.help = near.map(|word| format!("write `{word}`"));
        None
    }
}

/// Why a text is no name; `None` when it is one.
pub(crate) fn bad_name(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() {
        Some("is empty")
    } else if text.chars().any(char::is_control) {
        Some("contains a control character")
    } else if text.len() > MAX_NAME {
        Some("is longer than 256 bytes")
    } else {
        None
    }
}

/// The longest name of a tool that is let through; a longer one in a policy would never match.
const MAX_NAME: usize = 256;
