//! A capture made ready to be written: graded, minified, packed, cut into words.
//!
//! All that costs time is done here, on any thread; what is left to the one writer is to write.

use crate::capture::Capture;
use crate::facts::Facts;
use catalogue::{Level, RiskClass, Signal, ToolRisk, digest, digest_of, grade, words_of};
use json::{Document, Kind, Strictness, Value};
use std::fmt::Write as _;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// What is written of one server.
pub(crate) struct Graded {
    pub facts: Facts,
    /// Of what it said as a whole; empty where it said nothing.
    pub digest: String,
    /// The definitions of its prompts as a JSON array, packed.
    pub prompts: Vec<u8>,
    pub tools: Vec<GradedTool>,
}

/// What is written of one tool.
pub(crate) struct GradedTool {
    pub name: String,
    pub digest: String,
    /// The definition, packed.
    pub definition: Vec<u8>,
    pub class: RiskClass,
    pub level: Level,
    pub confidence: u8,
    pub signals: u32,
    pub words: Words,
}

/// What a tool is found by: words and marks, one text for each index.
pub(crate) struct Words {
    pub of_name: String,
    pub of_all: String,
}

impl Graded {
    pub fn of(capture: &Capture) -> Graded {
        let facts = capture.facts.clone();
        let tools: Vec<GradedTool> = capture.tools().into_iter().map(|tool| GradedTool::of(tool, &facts.name)).collect();
        let prompts: Vec<String> = capture.prompts().into_iter().map(minified).collect();
        let prompts = format!("[{}]", prompts.join(","));
        let digest = match facts.problem {
            Some(_) => String::new(),
            None => digest_of_server(&facts, &tools, &prompts),
        };
        Graded { digest, prompts: packed(&prompts), tools, facts }
    }
}

/// The order in which a server lists its tools does not make it another.
fn digest_of_server(facts: &Facts, tools: &[GradedTool], prompts: &str) -> String {
    let mut digests: Vec<&str> = tools.iter().map(|tool| tool.digest.as_str()).collect();
    digests.sort_unstable();
    let prompts = Document::parse(prompts.to_owned(), Strictness::Reply).map(|prompts| prompts.root().canonical());
    let instructions = facts.instructions.as_deref().unwrap_or_default();
    digest_of(&format!("{}\n{}\n{instructions}", digests.join(" "), prompts.unwrap_or_default()))
}

impl GradedTool {
    fn of(definition: Value<'_>, server: &str) -> GradedTool {
        let risk = grade(definition, server);
        let text = |key: &str| definition.get(key).and_then(Value::as_str).unwrap_or_default();
        GradedTool {
            name: text("name").into_owned(),
            digest: digest(definition),
            definition: packed(&minified(definition)),
            class: risk.class,
            level: risk.level,
            confidence: risk.confidence,
            signals: mask_of(&risk.signals),
            words: Words::of(definition, server, &risk),
        }
    }
}

/// The signals as bits, by their place in [`Signal::ALL`].
pub(crate) fn mask_of(signals: &[Signal]) -> u32 {
    let bit = |signal: &Signal| Signal::ALL.iter().position(|known| known == signal).map_or(0, |place| 1 << place);
    signals.iter().map(bit).fold(0, |mask, bit| mask | bit)
}

/// The signals whose bits are set.
pub(crate) fn signals_of(mask: u32) -> impl Iterator<Item = Signal> {
    Signal::ALL.into_iter().enumerate().filter(move |(bit, _)| mask >> bit & 1 == 1).map(|(_, signal)| signal)
}

impl Words {
    fn of(definition: Value<'_>, server: &str, risk: &ToolRisk) -> Words {
        let text = |key: &str| definition.get(key).and_then(Value::as_str).unwrap_or_default();
        let mut of_name = marks_of(risk);
        push_name(&text("name"), &mut of_name);
        let mut of_all = of_name.clone();
        push_name(server, &mut of_all);
        push_words(shortened(&format!("{} {}", text("title"), text("description"))), &mut of_all);
        let properties = definition.get("inputSchema").and_then(|schema| schema.get("properties")?.members());
        let parameters = properties.into_iter().flatten().take(MOST_PARAMETERS);
        parameters.for_each(|property| push_name(&property.key, &mut of_all));
        Words { of_name, of_all }
    }
}

/// Class, level and signals as words of the index, so that filters are as quick as words; class and level together too, for
/// what is critical of one class is far less than each.
fn marks_of(risk: &ToolRisk) -> String {
    let (class, level) = (risk.class.name(), risk.level.name());
    let mut marks = format!("{} {} {}", mark(&[class]), mark(&[level]), mark(&[class, level]));
    for signal in &risk.signals {
        let _ = write!(marks, " {}", mark(&[signal.name()]));
    }
    marks
}

/// The word of the index for a class, a level, a signal, or several at once: `_destructive`. No text has one: there `_` is in no
/// word.
pub(crate) fn mark(names: &[&str]) -> String {
    format!("_{}", names.concat().replace('-', "").to_lowercase())
}

/// A name as it stands, and its words.
fn push_name(name: &str, out: &mut String) {
    push_words(shortened(name), out);
    words_of(name).iter().for_each(|word| push_words(word, out));
}

fn push_words(text: &str, out: &mut String) {
    for word in folded(text).split(|c| !is_of_word(c)).filter(|word| !word.is_empty()) {
        out.push(' ');
        out.push_str(word);
    }
}

/// A text as it is searched: in lower case, without accents, with the forms of a letter made one.
pub(crate) fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let bare = text.nfkd().filter(|c| !('\u{300}'..='\u{36f}').contains(c));
    bare.flat_map(char::to_lowercase).collect()
}

/// Whether a character is part of a word. Index and questions are cut by this alone; SQLite is given words between spaces.
pub(crate) fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

/// A text as far as it is searched.
fn shortened(text: &str) -> &str {
    text.char_indices().nth(SEARCHED).map_or(text, |(end, _)| &text[..end])
}

/// Nobody looks for a tool by what stands on the third page of its description.
const SEARCHED: usize = 4_000;
const MOST_PARAMETERS: usize = 200;

/// The value's own text without the white space between its tokens: nothing else is another, not even the order of members.
pub(crate) fn minified(value: Value<'_>) -> String {
    let mut out = String::with_capacity(value.raw().len());
    minify(value, &mut out);
    out
}

fn minify(value: Value<'_>, out: &mut String) {
    match value.kind() {
        Kind::Object => {
            out.push('{');
            for (i, member) in value.members().into_iter().flatten().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                json::quote_into(&member.key, out);
                out.push(':');
                minify(member.value, out);
            }
            out.push('}');
        }
        Kind::Array => {
            out.push('[');
            for (i, element) in value.elements().into_iter().flatten().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                minify(element, out);
            }
            out.push(']');
        }
        Kind::Null | Kind::Bool | Kind::Number | Kind::String => out.push_str(value.raw()),
    }
}

/// Deflated: definitions are most of the file, and repeat themselves.
pub(crate) fn packed(text: &str) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec(text.as_bytes(), EFFORT)
}

/// The text again; `None` for what this crate has not packed.
pub(crate) fn unpacked(packed: &[u8]) -> Option<String> {
    let bytes = miniz_oxide::inflate::decompress_to_vec_with_limit(packed, LONGEST_TEXT).ok()?;
    String::from_utf8(bytes).ok()
}

/// Of ten; more of it makes the file hardly smaller.
const EFFORT: u8 = 5;

/// What a message may be long is long enough for a part of one.
const LONGEST_TEXT: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_loses_its_white_space_and_nothing_else() {
        let text = "{ \"b\" : [ 1.0 , \"x \\u0061\" ] ,\n \"a\" : { } , \"a\" : null }";
        let document = Document::parse(text.to_owned(), Strictness::Reply).unwrap();
        let minified = minified(document.root());
        assert_eq!(minified, r#"{"b":[1.0,"x \u0061"],"a":{},"a":null}"#);
        assert_eq!(unpacked(&packed(&minified)), Some(minified));
        assert_eq!(unpacked(b"not packed"), None);
    }

    #[test]
    fn a_signal_that_is_named_twice_is_one_signal() {
        assert_eq!(mask_of(&[Signal::Path, Signal::Path]), mask_of(&[Signal::Path]));
        assert_eq!(mask_of(&[Signal::Path, Signal::Url]), mask_of(&[Signal::Path]) | mask_of(&[Signal::Url]));
    }

    #[test]
    fn bits_are_read_as_the_signals_that_they_were_written_for() {
        for signal in Signal::ALL {
            assert!(signals_of(mask_of(&[signal])).eq([signal]));
        }
        assert!(signals_of(mask_of(&Signal::ALL)).eq(Signal::ALL));
    }

    #[test]
    fn marks_differ_and_are_no_words() {
        let classes = RiskClass::ALL.map(RiskClass::name);
        let levels = Level::ALL.map(Level::name);
        let both = classes.iter().flat_map(|class| levels.map(|level| mark(&[class, level])));
        let single = classes.iter().chain(&levels).copied().chain(Signal::ALL.map(Signal::name)).map(|name| mark(&[name]));
        let mut all: Vec<String> = single.chain(both).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        for mark in all {
            assert!(mark.strip_prefix('_').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_lowercase())), "{mark}");
            let mut words = String::new();
            push_words(&mark, &mut words);
            assert!(!words.contains('_'), "a text that says {mark} would be found by the filter");
        }
    }

    #[test]
    fn words_are_cut_and_folded() {
        let words = |text: &str| {
            let mut out = String::new();
            push_words(text, &mut out);
            out
        };
        assert_eq!(words("Größe_der-Datei (ÜBER \u{3000}ﬁle)…"), " große der datei uber file");
        assert_eq!(words("हिन्दी a\u{24b6}b — ,"), " हिन्दी aab");
        let mut name = String::new();
        push_name("readFile", &mut name);
        assert_eq!(name, " readfile read file");
    }
}
