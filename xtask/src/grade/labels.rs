//! Labels that people gave, and the grades of the definitions that they are about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use catalogue::{Level, RiskClass, Signal, ToolRisk};
use json::{Document, Strictness};
use serde_json::Value;

/// What people say of one tool.
pub struct Label {
    pub server: String,
    pub tool: String,
    /// One class, or two where readings differ and either counts.
    pub classes: Vec<RiskClass>,
    pub signals: BTreeSet<String>,
    /// Signals that one reading has and the other has not.
    pub either: BTreeSet<String>,
    pub reason: String,
    /// Whether the rules were changed by what this label showed.
    pub is_tuned_on: bool,
}

impl Label {
    /// The levels that follow from the label: with the signals that are in doubt, and without.
    pub fn levels(&self) -> BTreeSet<Level> {
        let named = |names: &BTreeSet<String>| -> Vec<Signal> {
            Signal::ALL.into_iter().filter(|signal| names.contains(signal.name())).collect()
        };
        let certain = named(&self.signals);
        let all = [certain.clone(), named(&self.either)].concat();
        self.classes.iter().flat_map(|class| [catalogue::level_of(*class, &certain), catalogue::level_of(*class, &all)]).collect()
    }
}

/// The labels of `gold-risk-labels.json`: a list, each with its server.
///
/// # Errors
/// A file that cannot be read, or is no JSON; a class or signal that there is not.
pub fn gold(path: &Path) -> Result<Vec<Label>, String> {
    let file = read(path)?;
    let labels = file["labels"].as_array().into_iter().flatten();
    labels.map(|said| label(path, said, text(&said["server"]), text(&said["tool"]), true)).collect()
}

/// The labels of `tests/corpora/risk-labels.json`: by server, then by tool.
///
/// # Errors
/// A file that cannot be read, or is no JSON; a class or signal that there is not.
pub fn own(path: &Path) -> Result<Vec<Label>, String> {
    let file = read(path)?;
    let mut labels = Vec::new();
    for server in file["servers"].as_array().into_iter().flatten() {
        let name = text(&server["server"]);
        let is_tuned_on = server["set"] == "tuned";
        for (tool, said) in server["tools"].as_object().into_iter().flatten() {
            labels.push(label(path, said, name.clone(), tool.clone(), is_tuned_on)?);
        }
    }
    Ok(labels)
}

fn label(path: &Path, said: &Value, server: String, tool: String, is_tuned_on: bool) -> Result<Label, String> {
    let unknown = |what: &str, name: &Value| format!("{}: {server}, {tool}: there is no {what} {name}", path.display());
    let class = |name: &Value| {
        let found = RiskClass::ALL.into_iter().find(|class| Some(class.name()) == name.as_str());
        found.ok_or_else(|| unknown("class", name))
    };
    let classes = match &said["risk"] {
        Value::Array(all) => all.iter().map(class).collect::<Result<_, _>>()?,
        one => vec![class(one)?],
    };
    let signal = |name: &Value| {
        let found = Signal::ALL.into_iter().find(|signal| Some(signal.name()) == name.as_str());
        found.map(|signal| signal.name().to_owned()).ok_or_else(|| unknown("signal", name))
    };
    let signals = |of: &Value| of.as_array().into_iter().flatten().map(signal).collect::<Result<BTreeSet<_>, _>>();
    let (signals, either) = (signals(&said["signals"])?, signals(&said["signals_either"])?);
    Ok(Label { server, tool, classes, signals, either, reason: text(&said["reason"]), is_tuned_on })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A file of JSON.
///
/// # Errors
/// One that cannot be read, or is none.
pub fn read(path: &Path) -> Result<Value, String> {
    serde_json::from_slice(&bytes(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The grades of every captured tool, by the server's name and the tool's.
#[derive(Default)]
pub struct Graded(pub BTreeMap<String, BTreeMap<String, ToolRisk>>);

impl Graded {
    /// The grade of one tool, if its definition is at hand.
    pub fn get(&self, label: &Label) -> Option<&ToolRisk> {
        self.0.get(&label.server)?.get(&label.tool)
    }

    /// Grades what a directory of captures holds, or a file with one capture a line, as `callgate catalog export --jsonl`
    /// writes it.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn captures(&mut self, path: &Path) -> Result<(), String> {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.sort();
            return files.iter().try_for_each(|file| self.capture(file, &bytes(file)?));
        }
        let text = bytes(path)?;
        text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).try_for_each(|line| self.capture(path, line))
    }

    fn capture(&mut self, path: &Path, text: &[u8]) -> Result<(), String> {
        let document = parse(path, text)?;
        let server = document.root().get("server").and_then(|name| name.as_str()).unwrap_or_default().into_owned();
        for tool in document.root().get("tools").and_then(|tools| tools.elements()).into_iter().flatten() {
            self.add(&server, tool);
        }
        Ok(())
    }

    /// Grades the honest definitions of a collection of attacks: `{"cases": [{"label", "server", "tool"}]}`.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn cases(&mut self, path: &Path) -> Result<(), String> {
        let document = parse(path, &bytes(path)?)?;
        for case in document.root().get("cases").and_then(|cases| cases.elements()).into_iter().flatten() {
            let said = |key: &str| case.get(key).and_then(|value| value.as_str()).unwrap_or_default().into_owned();
            if let Some(tool) = case.get("tool").filter(|_| said("label").starts_with("benign")) {
                self.add(&said("server"), tool);
            }
        }
        Ok(())
    }

    fn add(&mut self, server: &str, tool: json::Value<'_>) {
        if let Some(name) = tool.get("name").and_then(|name| name.as_str()) {
            self.0.entry(server.to_owned()).or_default().insert(name.into_owned(), catalogue::grade(tool, server));
        }
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Document, String> {
    Document::parse(text.to_vec(), Strictness::Reply).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_label_that_names_no_class_or_signal_is_refused() {
        let read = |said: Value| label(Path::new("labels.json"), &said, "a".into(), "b".into(), false).map(|label| label.classes);
        assert_eq!(read(json!({"risk": ["Read", "Write"], "signals": ["path"]})), Ok(vec![RiskClass::Read, RiskClass::Write]));
        let said = |what: &str| Err(format!("labels.json: a, b: there is no {what}"));
        assert_eq!(read(json!({"risk": "Reed"})), said("class \"Reed\""));
        assert_eq!(read(json!({"signals": []})), said("class null"));
        assert_eq!(read(json!({"risk": "Read", "signals_either": ["paths"]})), said("signal \"paths\""));
    }
}
