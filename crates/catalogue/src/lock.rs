//! The lock file: the definitions of servers as somebody has accepted them.
//!
//! It belongs in version control, and is written so that a difference in it can be read: one member on a line, sorted, and
//! with every character that hides as an escape. What is not there has not been seen yet: an absent `tools` says nothing,
//! an empty one says that there are none.

use json::{Document, Kind, Strictness, Value};
use policy::first_hidden;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The definitions of many servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// By the server's name.
    pub servers: BTreeMap<String, Pinned>,
}

/// What is pinned of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// What it tells the model to begin with; `Some(None)` where it tells nothing.
    pub instructions: Option<Option<String>>,
    /// Its tools: canonical definitions by name.
    pub tools: Option<BTreeMap<String, String>>,
    /// Its prompts, likewise.
    pub prompts: Option<BTreeMap<String, String>>,
}

impl Lock {
    /// Reads the file's text.
    ///
    /// # Errors
    /// One sentence: what is not as expected.
    pub fn parse(text: &[u8]) -> Result<Lock, String> {
        // As servers' replies are read: a definition may repeat a member, and is pinned as it is.
        let document = Document::parse(text.to_vec(), Strictness::Reply).map_err(|error| error.to_string())?;
        let root = document.root();
        only(root, &["version", "servers"], "the lock file")?;
        if root.get("version").is_none_or(|version| version.raw() != VERSION) {
            return Err(format!("its `version` is not {VERSION}: it was written by another version of callgate"));
        }
        let mut lock = Lock::default();
        let Some(servers) = root.get("servers").and_then(Value::members) else {
            return Err("`servers` must be an object".to_owned());
        };
        for member in servers {
            only(member.value, &["instructions", "prompts", "tools"], &format!("server `{}`", member.key))?;
            let instructions = match member.value.get("instructions") {
                None => None,
                Some(value) if value.is_null() => Some(None),
                Some(value) => Some(Some(value.as_str().ok_or("`instructions` must be a string or null")?.into_owned())),
            };
            let pinned = Pinned {
                instructions,
                tools: definitions(member.value, "tools")?,
                prompts: definitions(member.value, "prompts")?,
            };
            if let Some(twice) = lock.servers.insert(member.key.to_string(), pinned).map(|_| member.key) {
                return Err(format!("server `{}` stands there twice", twice.escape_debug()));
            }
        }
        Ok(lock)
    }

    /// The file's text, with a line break at the end.
    pub fn render(&self) -> String {
        let mut out = format!("{{\n  \"version\": {VERSION},\n  \"servers\": {{");
        for (i, (name, pinned)) in self.servers.iter().enumerate() {
            let _ = write!(out, "{}\n    {}: {{", if i == 0 { "" } else { "," }, quote(name));
            let mut comma = "";
            if let Some(instructions) = &pinned.instructions {
                let text = instructions.as_deref().map_or_else(|| "null".to_owned(), quote);
                let _ = write!(out, "\n      \"instructions\": {text}");
                comma = ",";
            }
            for (key, definitions) in [("prompts", &pinned.prompts), ("tools", &pinned.tools)] {
                let Some(definitions) = definitions else { continue };
                let _ = write!(out, "{comma}\n      \"{key}\": {{");
                comma = ",";
                for (j, (name, definition)) in definitions.iter().enumerate() {
                    let _ = write!(out, "{}\n        {}: ", if j == 0 { "" } else { "," }, quote(name));
                    indent(definition, 8, &mut out);
                }
                out.push_str(if definitions.is_empty() { "}" } else { "\n      }" });
            }
            out.push_str(if comma.is_empty() { "}" } else { "\n    }" });
        }
        out.push_str(if self.servers.is_empty() { "}\n}\n" } else { "\n  }\n}\n" });
        out
    }
}

const VERSION: &str = "1";

/// A lock file has no other members: one that is misspelt would pin nothing.
fn only(value: Value<'_>, known: &[&str], what: &str) -> Result<(), String> {
    let Some(members) = value.members() else { return Err(format!("{what} must be an object")) };
    let mut seen = Vec::new();
    for member in members {
        if !known.contains(&&*member.key) {
            return Err(format!("{what} has no member `{}`", member.key.escape_debug()));
        }
        if seen.contains(&member.key) {
            return Err(format!("{what} has `{}` twice", member.key));
        }
        seen.push(member.key);
    }
    Ok(())
}

fn definitions(server: Value<'_>, key: &str) -> Result<Option<BTreeMap<String, String>>, String> {
    let Some(value) = server.get(key) else { return Ok(None) };
    let Some(members) = value.members() else { return Err(format!("`{key}` must be an object")) };
    let mut found = BTreeMap::new();
    for member in members {
        let says_so = member.value.get("name").is_some_and(|name| name.says(&member.key));
        if !says_so {
            return Err(format!("the definition under `{}` has another `name`", member.key.escape_debug()));
        }
        if found.insert(member.key.to_string(), member.value.canonical()).is_some() {
            return Err(format!("`{}` is defined twice", member.key.escape_debug()));
        }
    }
    Ok(Some(found))
}

/// Writes canonical JSON with one member on a line.
fn indent(canonical: &str, depth: usize, out: &mut String) {
    match Document::parse(canonical.to_owned(), Strictness::Reply) {
        Ok(document) => write(document.root(), depth, out),
        Err(_) => out.push_str("null"),
    }
}

fn write(value: Value<'_>, depth: usize, out: &mut String) {
    match value.kind() {
        Kind::Object => {
            let mut members: Vec<_> = value.members().into_iter().flatten().collect();
            members.sort_by(|a, b| a.key.cmp(&b.key));
            lines(members.len(), ['{', '}'], depth, out, |i, out| {
                let _ = write!(out, "{}: ", quote(&members[i].key));
                write(members[i].value, depth + 2, out);
            });
        }
        Kind::Array => {
            let elements: Vec<_> = value.elements().into_iter().flatten().collect();
            lines(elements.len(), ['[', ']'], depth, out, |i, out| write(elements[i], depth + 2, out));
        }
        Kind::String => out.push_str(&quote(&value.as_str().unwrap_or_default())),
        Kind::Null | Kind::Bool | Kind::Number => out.push_str(value.raw()),
    }
}

fn lines(count: usize, ends: [char; 2], depth: usize, out: &mut String, mut item: impl FnMut(usize, &mut String)) {
    out.push(ends[0]);
    for i in 0..count {
        let _ = write!(out, "{}\n{:width$}", if i == 0 { "" } else { "," }, "", width = depth + 2);
        item(i, out);
    }
    if count > 0 {
        let _ = write!(out, "\n{:depth$}", "");
    }
    out.push(ends[1]);
}

/// A string token in which nothing hides.
fn quote(text: &str) -> String {
    let token = json::quote(text);
    if first_hidden(&token).is_none() {
        return token;
    }
    let mut out = String::with_capacity(token.len() + 16);
    for c in token.chars() {
        let shows = c.is_ascii() || (c.is_alphanumeric() && first_hidden(c.encode_utf8(&mut [0; 4])).is_none());
        if shows {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _ = write!(out, "\\u{unit:04x}");
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        let tool = r#"{"description":"Reads \u202e a file. ⚠️","inputSchema":{"properties":{"path":{"type":["string","null"]}},"required":[]},"name":"read"}"#;
        let canonical = |text: &str| Document::parse(text.to_owned(), Strictness::Reply).unwrap().root().canonical();
        let files = Pinned {
            instructions: Some(Some("Be kind.\nAlways.".into())),
            tools: Some(BTreeMap::from([("read".to_owned(), canonical(tool))])),
            prompts: Some(BTreeMap::new()),
        };
        let quiet = Pinned { instructions: Some(None), ..Pinned::default() };
        Lock {
            servers: BTreeMap::from([
                ("files".to_owned(), files),
                ("new".to_owned(), Pinned::default()),
                ("quiet".into(), quiet),
            ]),
        }
    }

    #[test]
    fn what_is_written_reads_back_and_is_written_the_same() {
        let text = lock().render();
        assert_eq!(Lock::parse(text.as_bytes()), Ok(lock()), "{text}");
        assert_eq!(Lock::parse(text.as_bytes()).unwrap().render(), text);
        assert_eq!(Lock::parse(Lock::default().render().as_bytes()), Ok(Lock::default()));
    }

    #[test]
    fn each_member_has_its_line_and_nothing_hides() {
        let text = lock().render();
        let expected = r#"{
  "version": 1,
  "servers": {
    "files": {
      "instructions": "Be kind.\nAlways.",
      "prompts": {},
      "tools": {
        "read": {
          "description": "Reads \u202e a file. \u26a0\ufe0f",
          "inputSchema": {
            "properties": {
              "path": {
                "type": [
                  "string",
                  "null"
                ]
              }
            },
            "required": []
          },
          "name": "read"
        }
      }
    },
    "new": {},
    "quiet": {
      "instructions": null
    }
  }
}
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_no_lock_file_says_why() {
        for (text, why) in [
            ("", "JSON"),
            ("[]", "must be an object"),
            (r#"{"version":2,"servers":{}}"#, "`version` is not 1"),
            (r#"{"version":1}"#, "`servers` must be an object"),
            (r#"{"version":1,"servers":{"a":{"tool":{}}}}"#, "has no member `tool`"),
            (r#"{"version":1,"servers":{"a":{"tools":{"x":{"name":"y"}}}}}"#, "another `name`"),
            (r#"{"version":1,"servers":{"a":{},"a":{}}}"#, "server `a` stands there twice"),
            (r#"{"version":1,"servers":{"a":{"tools":{},"tools":{}}}}"#, "has `tools` twice"),
            (r#"{"version":1,"servers":{"a":{"tools":{"x":{"name":"x"},"x":{"name":"x"}}}}}"#, "`x` is defined twice"),
        ] {
            let error = Lock::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
