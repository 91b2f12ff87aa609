//! Problems: what is wrong in a policy file, where, and how to mend it.
//!
//! A problem is data first ([`Problem::to_json`]), and text for a terminal second ([`Problem::render`]).

use crate::text::{Source, Span};
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The policy is not loaded.
    Error,
    /// The policy is loaded; it may not do what is meant.
    Warning,
}

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// A stable code: `P014`.
    pub code: &'static str,
    /// What is wrong: one lower-case sentence without a full stop.
    pub message: String,
    /// The file's name, as the [`Source`] gives it.
    pub file: String,
    /// Where it begins; from 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// Where it ends: the line of the first character after it.
    pub end_line: u32,
    /// In characters, from 1; the first column after it.
    pub end_column: u32,
    /// What was expected, in a few words; stands under the text.
    pub label: Option<String>,
    /// How to mend it.
    pub help: Option<String>,
    pub(crate) at: Span,
    pub(crate) also: Vec<(Span, String)>,
    /// Whether the place may hold a secret: then its text is never shown.
    pub(crate) secret: bool,
}

impl Problem {
    pub(crate) fn new(source: &Source, severity: Severity, code: &'static str, at: Span, message: impl Into<String>) -> Problem {
        let (message, file) = (message.into(), source.name.clone());
        // Lines and columns are filled in by `finish`, for all problems at once.
        Problem {
            severity,
            code,
            message,
            file,
            line: 1,
            column: 1,
            end_line: 1,
            end_column: 1,
            label: None,
            help: None,
            at: fit(source, &at),
            also: Vec::new(),
            secret: false,
        }
    }

    /// A mistake about a file as a whole: it could not even be read.
    pub fn unreadable(file: impl Into<String>, why: impl Into<String>) -> Problem {
        let source = Source { name: file.into(), text: Vec::new() };
        Problem::new(&source, Severity::Error, code::UNREADABLE, 0..0, why)
    }

    /// Says how to mend it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    /// The same, never shown with the text that it is about: for files in which a secret may stand where nobody expects one.
    pub fn without_text(mut self) -> Problem {
        self.secret = true;
        self
    }

    /// Points at a second place.
    pub(crate) fn also(mut self, at: Span, label: impl Into<String>) -> Problem {
        self.also.push((at, label.into()));
        self
    }

    /// Gives the problem as text for a terminal: what, where, the reader's own line with the place underlined, and help.
    /// Ends with a line break. `source` is the one that the problem was found in.
    pub fn render(&self, source: &Source, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let title = level.primary_title(clean(&self.message)).id(self.code);
        let mut report = Vec::new();
        let text = Shown::of(source, std::iter::once(&self.at).chain(self.also.iter().map(|(at, _)| at)));
        if self.secret || source.text.is_empty() || text.has_secret() {
            let place =
                annotate_snippets::Origin::path(clean(&self.file)).line(self.line as usize).char_column(self.column as usize);
            report.push(title.element(place));
        } else {
            let primary = AnnotationKind::Primary.span(text.place(&self.at)).label(self.label.as_deref().map(clean));
            let also = self
                .also
                .iter()
                .map(|(at, label)| -> Annotation<'_> { AnnotationKind::Context.span(text.place(at)).label(clean(label)) });
            let snippet = Snippet::source(text.text.clone()).line_start(text.first_line).path(clean(&self.file));
            report.push(title.element(snippet.annotation(primary).annotations(also.collect::<Vec<_>>())));
        }
        if let Some(help) = &self.help {
            report.push(Group::with_title(Level::HELP.secondary_title(clean(help))));
        }
        let mut out = renderer.render(&report);
        out.push('\n');
        out
    }

    /// Gives the problem as a JSON object: `severity`, `code`, `message`, `file`, `line`, `column`, `end_line`,
    /// `end_column`, `help` (or null).
    pub fn to_json(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let message = match &self.label {
            Some(label) => format!("{}: {label}", self.message),
            None => self.message.clone(),
        };
        format!(
            r#"{{"severity":"{severity}","code":"{}","message":{},"file":{},"line":{},"column":{},"end_line":{},"end_column":{},"help":{}}}"#,
            self.code,
            json::quote(&message),
            json::quote(&self.file),
            self.line,
            self.column,
            self.end_line,
            self.end_column,
            self.help.as_deref().map_or("null".to_owned(), json::quote),
        )
    }
}

/// Puts problems in the order of the file, and says in which lines and columns they are. Of a file with very many, the first
/// are kept.
pub(crate) fn finish(source: &Source, problems: &mut Vec<Problem>) {
    problems.sort_by_key(|problem| (problem.at.start, problem.at.end));
    if problems.len() > MOST {
        // An error must stay an error: warnings go first.
        problems.sort_by_key(|problem| problem.severity == Severity::Warning);
        let more = problems.len() - MOST;
        problems.truncate(MOST);
        problems.sort_by_key(|problem| (problem.at.start, problem.at.end));
        if let Some(last) = problems.last_mut() {
            last.help = Some(format!("and {more} more problems in this file"));
        }
    }
    let lines = Lines::of(&source.text);
    for problem in problems {
        (problem.line, problem.column) = lines.place(&source.text, problem.at.start);
        (problem.end_line, problem.end_column) = lines.place(&source.text, problem.at.end);
    }
}

/// Where the lines of a text begin.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &[u8]) -> Lines {
        let breaks = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        Lines { starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// Line and column (in characters) of a byte, both from 1.
    fn place(&self, text: &[u8], offset: usize) -> (u32, u32) {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let column = String::from_utf8_lossy(&text[self.starts[line - 1]..offset]).chars().count() + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (number(line), number(column))
    }
}

/// So many problems of one file are kept: more than anyone mends at once.
pub(crate) const MOST: usize = 100;

/// Keeps a span within the text, and on its first line where it covers several: underlining a block helps nobody.
fn fit(source: &Source, at: &Span) -> Span {
    let start = at.start.min(source.text.len());
    let end = at.end.clamp(start, source.text.len());
    let line = source.text[start..end].iter().position(|byte| *byte == b'\n').map_or(end, |length| start + length);
    let trailing = source.text[start..line].iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
    start..line - trailing
}

/// What of a file is shown: the lines that are pointed at, so that rendering costs nothing in a long file.
struct Shown {
    text: String,
    first_line: usize,
    start: usize,
    source_length: usize,
}

impl Shown {
    fn of<'a>(source: &Source, places: impl Iterator<Item = &'a Span>) -> Shown {
        let bytes = &source.text;
        let (mut start, mut end) = (bytes.len(), 0);
        for place in places {
            start = start.min(place.start);
            end = end.max(place.end).min(bytes.len());
        }
        let end = end.max(start);
        let start = bytes[..start].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let end = bytes[end..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| end + at);
        let first_line = source.line(start);
        // One byte stays one byte: offsets must not move. Text that is not UTF-8 is shown as far as it is ASCII.
        let shown = &bytes[start..end];
        let text = match std::str::from_utf8(shown) {
            Ok(text) => text.to_owned(),
            Err(_) => shown.iter().map(|b| if b.is_ascii() { char::from(*b) } else { '?' }).collect(),
        };
        Shown { source_length: text.len(), text, first_line, start }
    }

    /// Whether a line gives something called `secret` a value. Looked for in the text, because a file whose syntax is broken
    /// has no tree to ask.
    fn has_secret(&self) -> bool {
        let folded = self.text.to_ascii_lowercase();
        folded.match_indices("secret").any(|(at, word)| {
            let before = folded[..at].chars().next_back();
            let value = folded[at + word.len()..].trim_start_matches(['"', '\'', ' ']);
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '-') && value.starts_with(':')
        })
    }

    /// A span within the text that is shown, at character boundaries.
    fn place(&self, at: &Span) -> Span {
        let within = |offset: usize| {
            let mut offset = offset.saturating_sub(self.start).min(self.source_length);
            while !self.text.is_char_boundary(offset) {
                offset -= 1;
            }
            offset
        };
        within(at.start)..within(at.end).max(within(at.start))
    }
}

/// Without control characters: a file must not move the reader's cursor.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// The known word that is nearest to what was written, if one is near.
pub(crate) fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let folded = json::fold(written);
    let limit = (written.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|word| (strsim::osa_distance(&folded, &json::fold(word)), word))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `a`, `b` or `c`, in backticks.
pub(crate) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// The codes of problems. They are stable: scripts and the book name them.
pub(crate) mod code {
    pub const UNREADABLE: &str = "P000";
    pub const ENCODING: &str = "P001";
    pub const SYNTAX: &str = "P002";
    pub const YAML: &str = "P003";
    pub const DUPLICATE: &str = "P004";
    pub const DOUBTFUL: &str = "P005";
    pub const UNKNOWN_KEY: &str = "P010";
    pub const MISSING: &str = "P011";
    pub const TYPE: &str = "P012";
    pub const WORD: &str = "P013";
    pub const WINDOW: &str = "P014";
    pub const NUMBER: &str = "P015";
    pub const PATH: &str = "P016";
    pub const REGEX: &str = "P017";
    pub const NAME: &str = "P018";
    pub const COMBINATION: &str = "P019";
    pub const COUNTER: &str = "P020";
    pub const TIME: &str = "P022";

    pub const NO_VERSION: &str = "P101";
    pub const ALLOWS_ALL: &str = "P102";
    pub const DENIES_ALL: &str = "P103";
    pub const NEVER_FIRES: &str = "P104";
    pub const CONTRADICTION: &str = "P105";
    pub const SHADOWED: &str = "P106";
    pub const HIDDEN_ENTRY: &str = "P107";
    pub const LOOSE_REGEX: &str = "P108";
    pub const LOOK_ALIKE: &str = "P109";
    pub const NO_RESCUE: &str = "P110";
    pub const NOT_SENT: &str = "P111";
    pub const PLACEHOLDER: &str = "P112";
    pub const CLASS_LEFT_OUT: &str = "P113";

    pub const UNKNOWN_TOOL: &str = "P201";
    pub const UNKNOWN_ARGUMENT: &str = "P202";
    pub const ARGUMENT_TYPE: &str = "P203";
    pub const UNMATCHED: &str = "P204";
    pub const OPTIONAL: &str = "P205";
    pub const OUT_OF_CLASS: &str = "P206";
}
