//! What comes back, judged before the client has it: the sections `results:`.
//!
//! A result is judged as what it means, and changed as what it is: every text in it (keys, values, numbers as they are
//! written) is looked at with its escapes decoded, and what must go is exchanged by its place in the message, the rest byte
//! for byte. What cannot be looked at (too large, too much to change) is withheld.
//!
//! This module knows nothing of tools, MCP or time; which sections hold for an answer is said elsewhere.

mod secrets;

use crate::hidden::{all_hidden, first_hidden};
use json::{Document, Kind, Strictness, Value, quote};
use regex::Regex;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What one section says.
#[derive(Debug)]
pub(crate) struct Results {
    /// The JSON Pointer of where it stands: `/tools/get_*/results`.
    pub reference: Arc<str>,
    pub max_bytes: Option<u64>,
    pub hidden_characters: Unwanted,
    pub secrets: Unwanted,
    pub withhold: Vec<Forbidden>,
    pub redact: Vec<Redaction>,
}

/// What becomes of what should not be in a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Unwanted {
    #[default]
    Pass,
    /// It is written out, or taken out.
    Change,
    /// The whole result is withheld.
    Withhold,
}

/// A text that must not be in a result.
#[derive(Debug)]
pub(crate) struct Forbidden {
    /// Its name, else its JSON Pointer.
    pub reference: Arc<str>,
    pub regex: Regex,
    /// What the model reads then.
    pub message: Option<String>,
}

/// A text that is taken out of a result.
#[derive(Debug)]
pub(crate) struct Redaction {
    /// What is said to have stood there.
    pub name: Arc<str>,
    pub regex: Regex,
}

/// What holds for one answer. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ResultFilter {
    pub(crate) enforced: Vec<Arc<Results>>,
    /// What is only tried out.
    pub(crate) shadow: Vec<Arc<Results>>,
}

/// What was found in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JudgedResult {
    /// What becomes of it.
    pub enforced: ResultFindings,
    /// What would become of it if sections in shadow mode were enforced.
    pub shadow: ResultFindings,
}

/// What becomes of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResultFindings {
    /// Why the client does not get it, if it does not; then there are no changes.
    pub withheld: Option<Withheld>,
    /// What is exchanged: places in the document's text, in no order and without overlaps, and what stands there then. The
    /// document remains JSON.
    pub changes: Vec<(Range<usize>, String)>,
    /// How many of each kind are changed, by what is said to have stood there.
    pub counts: BTreeMap<Arc<str>, u64>,
}

/// Why a result is withheld.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// The item's name, else a JSON Pointer.
    pub rule: Arc<str>,
    /// What the model reads: sentences.
    pub message: String,
}

impl Withheld {
    fn by(rule: &Arc<str>, why: &str) -> Withheld {
        Withheld { rule: rule.clone(), message: format!("The result is withheld: {why} {DONE}") }
    }

    /// Of what cannot be judged.
    pub fn unjudged() -> Withheld {
        Withheld::by(&"/results".into(), "it cannot be judged.")
    }
}

impl ResultFindings {
    /// `aws-key 2, jwt 1`; empty where nothing is changed.
    pub fn counted(&self) -> String {
        let each: Vec<String> = self.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        each.join(", ")
    }
}

impl ResultFilter {
    /// Whether nothing is said of the answer.
    pub fn is_empty(&self) -> bool {
        self.enforced.is_empty() && self.shadow.is_empty()
    }

    /// Whether something may come of judging: not all of it is only tried out.
    pub fn is_enforced(&self) -> bool {
        !self.enforced.is_empty()
    }

    /// Judges a result by itself, up to the sections' `max_bytes`.
    pub fn judge(&self, result: Value<'_>) -> JudgedResult {
        JudgedResult { enforced: judge(&self.enforced, result, None), shadow: judge(&self.shadow, result, None) }
    }

    /// Judges a message with all that it holds, but the members at its top with these keys; its size is that of the whole. The
    /// member `result` is a result.
    pub fn judge_message(&self, message: Value<'_>, but: &[&str]) -> JudgedResult {
        JudgedResult { enforced: judge(&self.enforced, message, Some(but)), shadow: judge(&self.shadow, message, Some(but)) }
    }
}

impl Results {
    fn most(&self) -> u64 {
        self.max_bytes.unwrap_or(MOST_BYTES)
    }

    /// What it does, in the policy's words.
    pub fn describe(&self) -> String {
        let mut said = vec![format!("max_bytes {}", self.most())];
        for (key, unwanted, change) in
            [("hidden_characters", self.hidden_characters, "escape"), ("secrets", self.secrets, "redact")]
        {
            match unwanted {
                Unwanted::Pass => {}
                Unwanted::Change => said.push(format!("{key} {change}")),
                Unwanted::Withhold => said.push(format!("{key} withhold")),
            }
        }
        for (key, count) in [("withhold", self.withhold.len()), ("redact", self.redact.len())] {
            if count > 0 {
                said.push(format!("{key} {count}"));
            }
        }
        format!("result: {}", said.join(", "))
    }
}

/// Judges a result, or the message that it is in `but` for some of its members.
fn judge(sections: &[Arc<Results>], answer: Value<'_>, but: Option<&[&str]>) -> ResultFindings {
    if sections.is_empty() {
        return ResultFindings::default();
    }
    let mut judging = Judging { sections, findings: ResultFindings::default() };
    let judged = judging.size(answer).and_then(|()| match but {
        Some(but) => judging.message(answer, but),
        None => judging.result(answer),
    });
    match judged {
        Ok(()) => judging.findings,
        Err(withheld) => ResultFindings { withheld: Some(withheld), ..ResultFindings::default() },
    }
}

struct Judging<'s> {
    sections: &'s [Arc<Results>],
    findings: ResultFindings,
}

/// A part of a text that must go.
struct Part<'s> {
    at: Range<usize>,
    what: What<'s>,
    section: &'s Results,
}

#[derive(Clone)]
enum What<'s> {
    Redacted(Cow<'s, Arc<str>>),
    Hidden(char),
}

/// The keys of an object that are changed, as they are then.
#[derive(Default)]
struct Keys(Vec<String>);

impl Keys {
    /// `changes` are those of this key, in order.
    fn changed(&mut self, key: Value<'_>, changes: &[(Range<usize>, String)]) {
        if changes.is_empty() {
            return;
        }
        let (mut written, begin) = (key.raw().to_owned(), key.span().start);
        for (place, text) in changes.iter().rev() {
            written.replace_range(place.start - begin..place.end - begin, text);
        }
        let document = Document::parse(written, Strictness::Reply);
        self.0.extend(document.ok().and_then(|key| key.root().as_str().map(String::from)));
    }

    /// Numbers keep changed keys apart from each other, but not from one that stood there.
    fn differ(mut self, object: Value<'_>) -> Result<(), Withheld> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_unstable();
        let is_taken = |key: &str| self.0.binary_search_by(|changed| (**changed).cmp(key)).is_ok();
        let is_twice = self.0.windows(2).any(|two| two[0] == two[1]);
        if is_twice || object.members().into_iter().flatten().any(|member| is_taken(&member.key)) {
            return Err(Withheld::by(&"/results".into(), "two of its keys would become one."));
        }
        Ok(())
    }
}

impl<'s> Judging<'s> {
    fn size(&self, answer: Value<'_>) -> Result<(), Withheld> {
        let size = answer.span().len() as u64;
        for section in self.sections {
            if size > section.most() {
                let rule: Arc<str> = format!("{}/max_bytes", section.reference).into();
                return Err(Withheld::by(&rule, &format!("it is larger than {} bytes. Ask for less at a time.", section.most())));
            }
        }
        Ok(())
    }

    fn message(&mut self, message: Value<'_>, but: &[&str]) -> Result<(), Withheld> {
        let mut keys = Keys::default();
        for (key, member) in message.keys().zip(message.members().into_iter().flatten()) {
            match &*member.key {
                "result" => self.result(member.value)?,
                name if but.contains(&name) => {}
                name => self.member(key, name, member.value, &mut keys)?,
            }
        }
        keys.differ(message)
    }

    fn result(&mut self, result: Value<'_>) -> Result<(), Withheld> {
        let Some(members) = result.members() else { return self.value(result, None) };
        let asks = result.get("resultType").is_some_and(|kind| kind.says("input_required"));
        let mut keys = Keys::default();
        for (key, member) in result.keys().zip(members) {
            // 2026-07-28 §Multi Round-Trip Requests: it is the server's own, comes back byte for byte, and no client may read it.
            let is_state = asks && member.key == "requestState" && member.value.kind() == Kind::String;
            if !is_state {
                self.member(key, &member.key, member.value, &mut keys)?;
            }
        }
        keys.differ(result)
    }

    fn member(&mut self, key: Value<'_>, name: &str, value: Value<'_>, keys: &mut Keys) -> Result<(), Withheld> {
        let before = self.findings.changes.len();
        self.text(key, name, None)?;
        keys.changed(key, &self.findings.changes[before..]);
        self.value(value, Some(name))
    }

    /// Any value; `key` is that of the member whose value it is.
    fn value(&mut self, value: Value<'_>, key: Option<&str>) -> Result<(), Withheld> {
        match value.kind() {
            Kind::Null | Kind::Bool => Ok(()),
            Kind::Number => self.number(value),
            Kind::String => self.text(value, &value.as_str().unwrap_or_default(), Some(key.unwrap_or_default())),
            Kind::Array => value.elements().into_iter().flatten().try_for_each(|element| self.value(element, key)),
            Kind::Object => {
                let (mut members, mut keys) = (value.keys().zip(value.members().into_iter().flatten()), Keys::default());
                members.try_for_each(|(key, member)| self.member(key, &member.key, member.value, &mut keys))?;
                keys.differ(value)
            }
        }
    }

    /// A string, `text` when decoded. `under`: the key whose value it is; none of a key.
    fn text(&mut self, string: Value<'_>, text: &str, under: Option<&str>) -> Result<(), Withheld> {
        if text.is_empty() || WORDS.binary_search(&text).is_ok() {
            return Ok(());
        }
        let mut parts: Vec<Part<'s>> = Vec::new();
        for section in self.sections {
            section.withheld(text, under)?;
            let add = |at: Range<usize>, what: What<'s>| Part { at, what, section };
            // One more than may be changed: what is found after that changes nothing, and may take long to find.
            let left = MOST_CHANGES - self.findings.changes.len();
            let enough = |found: usize| if found > left { Err(too_much(section)) } else { Ok(()) };
            if section.hidden_characters == Unwanted::Change && first_hidden(text).is_some() {
                let before = parts.len();
                let hidden = all_hidden(text)
                    .map(|hidden| add(hidden.at..hidden.at + hidden.character.len_utf8(), What::Hidden(hidden.character)));
                parts.extend(hidden.take(left + 1));
                enough(parts.len() - before)?;
            }
            if section.secrets == Unwanted::Change {
                let secrets = secrets::found(text, under, left + 1);
                enough(secrets.len())?;
                parts.extend(secrets.into_iter().map(|(at, name)| add(at, What::Redacted(Cow::Owned(name.into())))));
            }
            for redaction in &section.redact {
                let before = parts.len();
                let found = redaction.regex.find_iter(text).filter(|found| !found.is_empty()).take(left + 1);
                parts.extend(found.map(|found| add(found.range(), What::Redacted(Cow::Borrowed(&redaction.name)))));
                enough(parts.len() - before)?;
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        let parts = merged(parts);
        let places = string.spans_of(&parts.iter().map(|part| part.at.clone()).collect::<Vec<_>>());
        for (part, place) in parts.into_iter().zip(places) {
            self.change(part.section, &part.what, place, under.is_none(), false)?;
        }
        Ok(())
    }

    /// A number, as it is written. What is found in it takes all of its place, as a string.
    fn number(&mut self, number: Value<'_>) -> Result<(), Withheld> {
        self.sections.iter().try_for_each(|section| section.forbidden(number.raw()))?;
        for section in self.sections {
            if let Some(redaction) = section.redact.iter().find(|redaction| redaction.regex.is_match(number.raw())) {
                let what = What::Redacted(Cow::Borrowed(&redaction.name));
                return self.change(section, &what, number.span(), false, true);
            }
        }
        Ok(())
    }

    fn change(
        &mut self,
        section: &Results,
        what: &What<'_>,
        place: Range<usize>,
        is_key: bool,
        whole: bool,
    ) -> Result<(), Withheld> {
        if self.findings.changes.len() >= MOST_CHANGES {
            return Err(too_much(section));
        }
        let text = match what {
            What::Redacted(name) => {
                let count = self.findings.counts.entry(Arc::clone(name)).or_default();
                *count += 1;
                // Two members of one object must not come to have one key.
                if is_key && *count > 1 { format!("[redacted: {name} {count}]") } else { format!("[redacted: {name}]") }
            }
            What::Hidden(character) => {
                *self.findings.counts.entry(HIDDEN.into()).or_default() += 1;
                format!("\\u{{{:x}}}", u32::from(*character))
            }
        };
        let token = quote(&text);
        let written = if whole { token } else { token[1..token.len() - 1].to_owned() };
        self.findings.changes.push((place, written));
        Ok(())
    }
}

impl Results {
    /// Whether a text is a reason to withhold the whole.
    fn withheld(&self, text: &str, under: Option<&str>) -> Result<(), Withheld> {
        let by = |key: &str| -> Arc<str> { format!("{}/{key}", self.reference).into() };
        if self.hidden_characters == Unwanted::Withhold
            && let Some(hidden) = first_hidden(text)
        {
            let why = format!("it holds {}, U+{:04X}.", hidden.kind.as_str(), u32::from(hidden.character));
            return Err(Withheld::by(&by("hidden_characters"), &why));
        }
        if self.secrets == Unwanted::Withhold
            && let Some((_, name)) = secrets::found(text, under, 1).first()
        {
            return Err(Withheld::by(&by("secrets"), &format!("it holds what looks like a secret ({name}).")));
        }
        self.forbidden(text)
    }

    fn forbidden(&self, text: &str) -> Result<(), Withheld> {
        let Some(forbidden) = self.withhold.iter().find(|forbidden| forbidden.regex.is_match(text)) else { return Ok(()) };
        Err(match &forbidden.message {
            Some(message) => Withheld { rule: forbidden.reference.clone(), message: format!("{message} {DONE}") },
            None => Withheld::by(&forbidden.reference, "it holds what the policy forbids."),
        })
    }
}

fn too_much(section: &Results) -> Withheld {
    Withheld::by(&section.reference, &format!("more than {MOST_CHANGES} places of it would have to be changed."))
}

/// The same without overlaps, in order: what overlaps becomes one, under the name of the first.
fn merged(mut parts: Vec<Part<'_>>) -> Vec<Part<'_>> {
    let is_hidden = |part: &Part<'_>| matches!(part.what, What::Hidden(_));
    // Of those that begin at one place the longest first, and what is taken out before what is written out.
    parts.sort_by_key(|part| (part.at.start, std::cmp::Reverse(part.at.end), is_hidden(part)));
    let mut merged: Vec<Part<'_>> = Vec::with_capacity(parts.len());
    for part in parts {
        match merged.last_mut() {
            Some(last) if part.at.start < last.at.end => last.at.end = last.at.end.max(part.at.end),
            _ => merged.push(part),
        }
    }
    merged
}

/// What the model is told besides: it must not try again for the sake of the answer.
const DONE: &str = "The call was made; do not repeat it to see its result.";

/// Where a section does not say how large a result may be: what a client may send. 4 MiB are judged in a few hundredths of a
/// second.
const MOST_BYTES: u64 = 4 << 20;

/// Each change may make the message longer by as much as a name is long; and each search for the next place may read what is
/// left of a text.
const MOST_CHANGES: usize = 10_000;

/// What is counted where characters that hide are written out.
const HIDDEN: &str = "hidden-characters";

/// Words of the protocol, as they stand in results: they find the way of a client, and by themselves say nothing else. In order.
const WORDS: &[&str] = &[
    "_meta",
    "annotations",
    "assistant",
    "audience",
    "audio",
    "blob",
    "cancelled",
    "code",
    "complete",
    "completed",
    "content",
    "contents",
    "data",
    "description",
    "error",
    "failed",
    "image",
    "inputRequests",
    "input_required",
    "isError",
    "lastModified",
    "level",
    "logger",
    "message",
    "messages",
    "method",
    "mimeType",
    "name",
    "params",
    "priority",
    "progress",
    "progressToken",
    "requestId",
    "requestState",
    "resource",
    "resource_link",
    "result",
    "resultType",
    "role",
    "size",
    "status",
    "statusMessage",
    "structuredContent",
    "task",
    "taskId",
    "text",
    "title",
    "total",
    "type",
    "uri",
    "user",
    "working",
];

#[cfg(test)]
mod tests;
