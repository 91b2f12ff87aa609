//! What was found, for programs: JSON, and SARIF 2.1.0 for the tools that show findings of many scanners.

use super::{Flaw, Grade, Inspection, Suspicion, Weight};
use crate::comparison::Subject;
use json::quote;

/// Where the definitions of an inspected server were read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'t> {
    /// The file, as a relative or absolute path with `/` between its parts.
    pub file: &'t str,
    /// Its text, by which places become lines; without it, findings are at its first line.
    pub text: Option<&'t str>,
}

impl Flaw {
    /// `tool add`, `prompt greet`, `instructions`, or `server`.
    fn about(&self) -> (&'static str, Option<&str>) {
        match &self.subject {
            None => ("server", None),
            Some(Subject::Instructions) => ("instructions", None),
            Some(Subject::Prompt(name)) => ("prompt", Some(name)),
            Some(Subject::Tool(name)) => ("tool", Some(name)),
        }
    }

    /// `{"rule", "weight", "what", "name", "path", "quote", "why"}`; `what` is `tool`, `prompt`, `instructions` or `server`.
    fn to_json(&self) -> String {
        let (what, name) = self.about();
        format!(
            r#"{{"rule":"{}","weight":"{}","what":"{what}","name":{},"path":{},"quote":{},"why":{}}}"#,
            self.rule,
            self.weight.name(),
            name.map_or("null".to_owned(), quote),
            quote(&self.path),
            quote(&self.quote),
            quote(&self.why)
        )
    }
}

impl Inspection {
    /// `{"server", "grade", "tools", "findings": […]}`, on one line.
    pub fn to_json(&self) -> String {
        let findings: Vec<String> = self.findings.iter().map(Flaw::to_json).collect();
        let (name, grade, tools) = (quote(&self.server), self.grade, self.tools);
        format!(r#"{{"server":{name},"grade":"{grade}","tools":{tools},"findings":[{}]}}"#, findings.join(","))
    }
}

/// The findings as a SARIF 2.1.0 log with one run. `sources` are those of the servers, in their order.
///
/// A finding's `level` is `error` from dangerous on, `warning` where it is doubtful, else `note`; its place is the file, and
/// the server, tool and path as a logical location. Fingerprints stay the same while the words do. `unseen` says of what could not
/// be inspected that it was not: each is a notification of the run, which counts as successful without any.
pub fn sarif(inspections: &[(&Inspection, Option<Source<'_>>)], unseen: &[String], version: &str) -> String {
    let rules = Suspicion::ALL.map(|rule| {
        let id = rule.id();
        format!(r#"{{"id":"{id}","shortDescription":{{"text":{}}},"helpUri":"{HELP}"}}"#, quote(rule.meaning()))
    });
    let mut results = Vec::new();
    for (inspection, source) in inspections {
        // One pass over the file for all places in it.
        let lines = source.and_then(|source| source.text).map(line_starts);
        results.extend(inspection.findings.iter().map(|flaw| result(inspection, flaw, *source, lines.as_deref())));
    }
    let note = |text: &String| format!(r#"{{"level":"error","message":{{"text":{}}}}}"#, quote(text));
    let notes: Vec<String> = unseen.iter().map(note).collect();
    format!(
        concat!(
            r#"{{"$schema":"https://json.schemastore.org/sarif-2.1.0.json","version":"2.1.0","runs":[{{"#,
            r#""tool":{{"driver":{{"name":"callgate","semanticVersion":{},"informationUri":"https://github.com/callgate/callgate","#,
            r#""rules":[{}]}}}},"invocations":[{{"executionSuccessful":{},"toolExecutionNotifications":[{}]}}],"#,
            r#""columnKind":"unicodeCodePoints","results":[{}]}}]}}"#
        ),
        quote(version),
        rules.join(","),
        unseen.is_empty(),
        notes.join(","),
        results.join(",")
    )
}

/// Where the rules are explained.
const HELP: &str = "https://github.com/callgate/callgate/blob/main/docs/inspect.md#rules";

fn result(inspection: &Inspection, flaw: &Flaw, source: Option<Source<'_>>, lines: Option<&[usize]>) -> String {
    let level = match flaw.weight {
        Weight::Remark => "note",
        Weight::Doubtful => "warning",
        Weight::Dangerous | Weight::Hostile => "error",
    };
    let (what, name) = flaw.about();
    let whole = [&inspection.server, name.unwrap_or(what), flaw.path.as_str()];
    let whole = whole.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    let message = format!("{}: {}; \"{}\"", whole, flaw.why, flaw.quote);
    let mut location = Vec::new();
    if let Some(source) = source {
        let region = match (&flaw.span, source.text, lines) {
            (Some(span), Some(text), Some(lines)) => region(text, lines, span),
            _ => r#"{"startLine":1}"#.to_owned(),
        };
        let uri = quote(&uri(source.file));
        location.push(format!(r#""physicalLocation":{{"artifactLocation":{{"uri":{uri}}},"region":{region}}}"#));
    }
    location.push(format!(r#""logicalLocations":[{{"fullyQualifiedName":{},"kind":"member"}}]"#, quote(&whole)));
    let index = Suspicion::ALL.iter().position(|rule| *rule == flaw.rule).unwrap_or_default();
    let print = crate::definition::digest_of(&format!("{} {whole} {}", flaw.rule, flaw.quote));
    format!(
        concat!(
            r#"{{"ruleId":"{}","ruleIndex":{index},"level":"{level}","message":{{"text":{}}},"locations":[{{{}}}],"#,
            r#""partialFingerprints":{{"callgate/v1":"{}"}}}}"#
        ),
        flaw.rule,
        quote(&message),
        location.join(","),
        &print[..32],
        index = index,
        level = level
    )
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

/// Lines and columns count from 1; columns in characters.
fn region(text: &str, lines: &[usize], span: &std::ops::Range<usize>) -> String {
    let place = |at: usize| {
        let line = lines.partition_point(|start| *start <= at);
        let column = text.get(lines[line - 1]..at).map_or(1, |before| before.chars().count() + 1);
        (line, column)
    };
    let ((line, column), (end_line, end_column)) = (place(span.start), place(span.end));
    format!(r#"{{"startLine":{line},"startColumn":{column},"endLine":{end_line},"endColumn":{end_column}}}"#)
}

/// A path as a reference to a URI: what a URI gives a meaning of its own is written out.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The worst grade of several servers.
pub fn worst(inspections: &[Inspection]) -> Grade {
    inspections.iter().map(|inspection| inspection.grade).max().unwrap_or(Grade::A)
}
