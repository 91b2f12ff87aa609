//! A capture made ready to be written: graded, minified, packed, cut into words.
//!
//! All that costs time is done here, on any thread; what is left to the one writer is to write.

use crate::capture::Capture;
use crate::facts::Facts;
use catalogue::{Level, RiskClass, Signal, ToolRisk, digest, digest_of, grade, words_of};
use json::{Document, Kind, Strictness, Value};
use std::fmt::Write as _;

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

/// What a tool is found by, one text for each column of the index.
pub(crate) struct Words {
    pub name: String,
    pub server: String,
    pub description: String,
    pub parameters: String,
    pub marks: String,
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
            words: Words {
                name: searchable(&text("name")),
                server: searchable(server),
                description: shortened(&format!("{} {}", text("title"), text("description"))).to_owned(),
                parameters: parameters(definition),
                marks: marks_of(&risk),
            },
        }
    }
}

/// The signals as bits, by their place in [`Signal::ALL`].
pub(crate) fn mask_of(signals: &[Signal]) -> u32 {
    let bit = |signal: &Signal| Signal::ALL.iter().position(|known| known == signal).map_or(0, |place| 1 << place);
    signals.iter().map(bit).sum()
}

/// Class, level and signals as words of the index, so that filters are as quick as words: `isdestructive`.
fn marks_of(risk: &ToolRisk) -> String {
    let mut marks = format!("{} {}", mark(risk.class.name()), mark(risk.level.name()));
    for signal in &risk.signals {
        let _ = write!(marks, " {}", mark(signal.name()));
    }
    marks
}

/// The word of the index for a class, a level or a signal.
pub(crate) fn mark(word: &str) -> String {
    format!("is{}", word.replace('-', "").to_lowercase())
}

/// A name as it stands, and its words.
fn searchable(name: &str) -> String {
    format!("{} {}", shortened(name), words_of(name).join(" "))
}

fn parameters(definition: Value<'_>) -> String {
    let properties = definition.get("inputSchema").and_then(|schema| schema.get("properties")?.members());
    let names = properties.into_iter().flatten().take(MOST_PARAMETERS);
    names.map(|property| searchable(&property.key)).collect::<Vec<_>>().join(" ")
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
    fn marks_are_single_words_that_differ() {
        let classes = RiskClass::ALL.map(|class| mark(class.name())).to_vec();
        let levels = Level::ALL.map(|level| mark(level.name())).to_vec();
        let signals = Signal::ALL.map(|signal| mark(signal.name())).to_vec();
        let mut all = [classes, levels, signals].concat();
        assert!(all.iter().all(|mark| mark.bytes().all(|byte| byte.is_ascii_lowercase())), "{all:?}");
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
