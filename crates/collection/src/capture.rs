//! What one server said, as a text: the form in which captures are kept and exchanged.
//!
//! `{"server": "…", "tools": […]}` is enough; `package`, `version`, `registry`, `command` (or `flags`), `env`,
//! `protocolVersion`, `serverInfo`, `instructions`, `prompts`, `isolation`, `capturedAt` and `problem` tell more. A reply to
//! `tools/list` or a bare list of tools does as well; then the server is called what the file is.

use crate::facts::{Facts, Isolation, Registry};
use jiff::Timestamp;
use json::{Document, Kind, Strictness, Value};

/// What one server said.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Where it is from.
    pub facts: Facts,
    document: Document,
}

/// Why a text is no capture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// Not JSON.
    #[error("it is not JSON: {0}")]
    Json(String),
    /// Nothing in it is a list of tools.
    #[error("it holds no list of tools: expected `{{\"server\": …, \"tools\": […]}}`, as a server answers `tools/list`")]
    NoTools,
    /// A tool that nobody could call.
    #[error("tool {0} of its list has no name")]
    Nameless(usize),
    /// More than anybody would list.
    #[error("it lists {0} tools, and at most {MOST_TOOLS} are taken")]
    TooMany(usize),
    /// A time that is none.
    #[error("its `capturedAt` is no time such as 2026-01-15T10:30:00Z")]
    Time,
}

/// No server has a hundredth of it.
const MOST_TOOLS: usize = 100_000;

/// Names and reasons are shown on one line; what is longer was not meant as a name.
const LONGEST_NAME: usize = 200;

impl Capture {
    /// Reads a capture. `name` is what the server is called where the text does not say, `now` when it was asked, likewise.
    ///
    /// # Errors
    /// When it is no list of tools.
    pub fn parse(text: Vec<u8>, name: &str, now: Timestamp) -> Result<Capture, CaptureError> {
        // As servers' replies are read: a definition may repeat a member, and is kept as it is.
        let document = Document::parse(text, Strictness::Reply).map_err(|error| CaptureError::Json(error.to_string()))?;
        let facts = facts(document.root(), name, now)?;
        Capture { facts, document }.checked()
    }

    /// What a server has just said: the definitions of its tools and prompts, each as JSON text.
    ///
    /// # Errors
    /// When it is no list of tools.
    pub(crate) fn of(facts: Facts, tools: &[String], prompts: &[String]) -> Result<Capture, CaptureError> {
        let text = format!("{{\"tools\":[{}],\"prompts\":[{}]}}", tools.join(","), prompts.join(","));
        let document = Document::parse(text, Strictness::Reply).map_err(|error| CaptureError::Json(error.to_string()))?;
        Capture { facts, document }.checked()
    }

    /// A server that could not be asked.
    pub(crate) fn failed(facts: Facts, problem: String) -> Capture {
        let facts = Facts { problem: Some(problem), ..facts };
        Capture { facts, document: Document::parse("{}", Strictness::Reply).expect("an empty object is JSON") }
    }

    fn checked(self) -> Result<Capture, CaptureError> {
        let capture = self;
        let tools = capture.list().ok_or(CaptureError::NoTools)?;
        if tools.len() > MOST_TOOLS {
            return Err(CaptureError::TooMany(tools.len()));
        }
        match tools.iter().position(|tool| tool.get("name").and_then(Value::as_str).is_none_or(|name| name.is_empty())) {
            Some(nameless) => Err(CaptureError::Nameless(nameless)),
            None => Ok(capture),
        }
    }

    /// The definitions of its tools, in the order of the list; each has a name.
    pub fn tools(&self) -> Vec<Value<'_>> {
        self.list().unwrap_or_default()
    }

    /// The definitions of its prompts.
    pub fn prompts(&self) -> Vec<Value<'_>> {
        self.document.root().get("prompts").and_then(Value::elements).into_iter().flatten().collect()
    }

    fn list(&self) -> Option<Vec<Value<'_>>> {
        let root = self.document.root();
        match root.get("tools").or_else(|| root.get("result")?.get("tools")) {
            Some(list) => Some(list.elements()?.collect()),
            None if root.kind() == Kind::Array => Some(root.elements()?.collect()),
            // One that did not start has nothing to list.
            None => self.facts.problem.is_some().then(Vec::new),
        }
    }
}

fn facts(root: Value<'_>, name: &str, now: Timestamp) -> Result<Facts, CaptureError> {
    let text = |key: &str| root.get(key).and_then(Value::as_str).map(|text| text.into_owned()).filter(|text| !text.is_empty());
    let version = shortened(text("version").unwrap_or_default());
    let name = shortened(text("server").unwrap_or_else(|| name.to_owned()));
    let captured_at = match text("capturedAt") {
        None => now,
        Some(time) => time.parse().map_err(|_| CaptureError::Time)?,
    };
    Ok(Facts {
        package: text("package").map_or_else(|| name.clone(), shortened),
        // Versions of one server are versions of one server, however their files are called.
        name: match name.strip_suffix(version.as_str()).and_then(|name| name.strip_suffix('@')) {
            Some(plain) if !plain.is_empty() && !version.is_empty() => plain.to_owned(),
            _ => name,
        },
        version,
        registry: Registry::named(&text("registry").unwrap_or_default()),
        flags: match root.get("flags") {
            Some(flags) => strings(flags),
            None => root.get("command").map(strings).unwrap_or_default().into_iter().skip(1).collect(),
        },
        environment: match root.get("env") {
            Some(names) if names.kind() == Kind::Array => strings(names),
            Some(variables) => variables.members().into_iter().flatten().map(|variable| variable.key.into_owned()).collect(),
            None => Vec::new(),
        },
        reported_name: root.get("serverInfo").and_then(|info| info.get("name")?.as_str()).map(|name| name.into_owned()),
        revision: text("protocolVersion"),
        instructions: text("instructions"),
        isolation: Isolation::named(&text("isolation").unwrap_or_default()),
        problem: text("problem"),
        captured_at,
    })
}

fn strings(list: Value<'_>) -> Vec<String> {
    list.elements().into_iter().flatten().filter_map(|text| text.as_str().map(|text| text.into_owned())).collect()
}

fn shortened(name: String) -> String {
    match name.char_indices().nth(LONGEST_NAME) {
        None => name,
        Some((end, _)) => name[..end].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Capture, CaptureError> {
        Capture::parse(text.as_bytes().to_vec(), "file", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_list_of_tools_is_enough_in_whatever_form() {
        for text in
            [r#"{"tools":[{"name":"a"}]}"#, r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}]}}"#, r#"[{"name":"a"}]"#]
        {
            let capture = parse(text).unwrap();
            assert_eq!(capture.tools().len(), 1, "{text}");
            assert_eq!((capture.facts.name.as_str(), capture.facts.package.as_str()), ("file", "file"));
            assert_eq!(capture.facts.isolation, Isolation::Captured);
        }
    }

    #[test]
    fn what_a_capture_tells_is_kept_but_for_the_values_of_variables() {
        let capture = parse(
            r#"{"server":"files@1.2.0","package":"@a/files","version":"1.2.0","registry":"npm","command":["…","--all"],
                "env":{"TOKEN":"hush"},"protocolVersion":"2025-11-25","serverInfo":{"name":"Files"},"instructions":"Be kind.",
                "capturedAt":"2026-01-15T10:30:00Z","isolation":"isolated","prompts":[{"name":"p"}],"tools":[]}"#,
        )
        .unwrap();
        let facts = &capture.facts;
        assert_eq!((facts.name.as_str(), facts.package.as_str(), facts.version.as_str()), ("files", "@a/files", "1.2.0"));
        assert_eq!((facts.registry, facts.isolation), (Registry::Npm, Isolation::Isolated));
        assert_eq!(
            (facts.flags.as_slice(), facts.environment.as_slice()),
            (&["--all".to_owned()][..], &["TOKEN".to_owned()][..])
        );
        assert_eq!(facts.captured_at.to_string(), "2026-01-15T10:30:00Z");
        assert_eq!(capture.prompts().len(), 1);
        assert!(!format!("{facts:?}").contains("hush"));
    }

    #[test]
    fn what_is_no_capture_says_why() {
        for (text, why) in [
            ("", "not JSON"),
            ("{}", "no list of tools"),
            (r#"{"tools":{}}"#, "no list of tools"),
            (r#"{"tools":[{"name":"a"},{"title":"b"}]}"#, "tool 1 of its list has no name"),
            (r#"{"tools":[],"capturedAt":"yesterday"}"#, "`capturedAt`"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert_eq!(parse(r#"{"server":"a","problem":"it has not answered"}"#).unwrap().tools().len(), 0);
    }
}
