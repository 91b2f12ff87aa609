//! The bypass corpus: the cases of `tests/bypass/*.json`, and their exact bytes.

use super::rig::Mode;
use super::{LEGACY, MODERN, is_modern, root};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Every case.
pub fn corpus() -> Vec<Value> {
    let mut files: Vec<_> =
        std::fs::read_dir(root().join("tests/bypass")).expect("the corpus").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let text = std::fs::read(file).expect("a readable file");
        let data: Value = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        cases.extend(data["cases"].as_array().cloned().unwrap_or_default());
    }
    cases
}

/// The exact bytes of a message: text, `{"base64"}`, or a list of parts, some of them repeated (`{n}` counts).
pub fn expand(message: &Value) -> Vec<u8> {
    match message {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(parts) => parts.iter().flat_map(expand).collect(),
        _ if message["base64"].is_string() => super::bytes_of(&json!({"b64": message["base64"]})),
        _ => {
            let text = message["text"].as_str().expect("a part has text");
            let times = message["times"].as_u64().expect("a part says how often");
            if text.contains("{n}") {
                (0..times).map(|n| text.replace("{n}", &n.to_string())).collect::<String>().into_bytes()
            } else {
                text.repeat(usize::try_from(times).expect("a sane number")).into_bytes()
            }
        }
    }
}

/// The texts of a list; none where there is no list.
pub fn strings<'c>(case: &'c Value, key: &str) -> Vec<&'c str> {
    case[key].as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// Whether a list holds `name`; a list that is not there holds all.
pub fn names(case: &Value, key: &str, name: &str) -> bool {
    case[key].is_null() || strings(case, key).contains(&name)
}

/// The cases that apply in a mode and revision, by the policies that they are sent under. `CALLGATE_CASE` picks some by id.
pub fn cases_for(mode: Mode, revision: &str) -> BTreeMap<String, Vec<Value>> {
    let era = if is_modern(revision) { "modern" } else { "legacy" };
    let only = std::env::var("CALLGATE_CASE").unwrap_or_default();
    let mut cases: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for case in corpus() {
        let id = case["id"].as_str().expect("an id");
        let heavy = case["heavy"] == true && revision != LEGACY && revision != MODERN;
        let applies = mode.takes(&case) && names(&case, "revisions", revision) && !heavy;
        if applies && !case[era].is_null() && id.contains(&only) {
            for policy in strings(&case, "policies") {
                cases.entry(policy.to_owned()).or_default().push(case.clone());
            }
        }
    }
    cases
}
