//! A server's `tools/list`, as captured in a file or answered by the server.

use crate::risk::RiskClass;
use crate::validate::ToolSchema;
use json::{Document, Strictness, Value};
use std::collections::BTreeMap;

/// The tools of a server, by name.
#[derive(Debug, Default)]
pub struct Tools {
    server: Option<String>,
    tools: BTreeMap<String, Tool>,
}

/// One tool.
#[derive(Debug)]
pub struct Tool {
    /// Its name, as the server writes it.
    pub name: String,
    /// Its whole definition, as JSON text.
    pub definition: String,
    /// Its `inputSchema`, ready to judge arguments; one that is missing or unfit denies what needs it.
    pub schema: ToolSchema,
    /// What it may do at worst; `None` until somebody has graded it ([`Tools::graded`]).
    pub class: Option<RiskClass>,
}

impl Tools {
    /// Reads `{"tools": […]}` (of other members only `server` is looked at), a whole reply `{"result": {"tools": […]}}`, or
    /// a bare array.
    ///
    /// # Errors
    /// One sentence: what is not as expected.
    pub fn parse(text: &[u8]) -> Result<Tools, String> {
        let document = Document::parse(text.to_vec(), Strictness::Reply).map_err(|error| error.to_string())?;
        let root = document.root();
        let list = root.get("tools").or(root.get("result").and_then(|result| result.get("tools"))).unwrap_or(root);
        let Some(elements) = list.elements() else {
            return Err("no list of tools: expected `{\"tools\": […]}`, as a server answers `tools/list`".into());
        };
        let nothing = Document::parse("null", Strictness::Reply).map_err(|error| error.to_string())?;
        let mut tools = BTreeMap::new();
        for (i, definition) in elements.enumerate() {
            let tool = tool(definition, nothing.root()).ok_or_else(|| format!("tool {} has no name", i + 1))?;
            if let Some(twice) = tools.insert(tool.name.clone(), tool) {
                return Err(format!("tool `{}` is listed twice", crate::text::shown(&twice.name)));
            }
        }
        let server = root.get("server").and_then(Value::as_str).map(|name| name.into_owned());
        Ok(Tools { server, tools })
    }

    /// The same tools, each of the class that `grade` says, of its definition and the name of the server (empty where the text
    /// does not say it).
    #[must_use]
    pub fn graded(mut self, grade: impl Fn(Value<'_>, &str) -> RiskClass) -> Tools {
        let server = self.server.as_deref().unwrap_or_default();
        for tool in self.tools.values_mut() {
            let definition = Document::parse(tool.definition.clone(), Strictness::Reply);
            tool.class = definition.ok().map(|definition| grade(definition.root(), server));
        }
        self
    }

    /// The name of the server, where the text says it.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// The tool with exactly this name.
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.tools.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tools.keys().map(String::as_str)
    }

    /// All tools, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Tool> {
        self.tools.values()
    }
}

fn tool(definition: Value<'_>, nothing: Value<'_>) -> Option<Tool> {
    let name = definition.get("name")?.as_str()?.into_owned();
    let schema = ToolSchema::new(definition.get("inputSchema").unwrap_or(nothing));
    Some(Tool { name, definition: definition.raw().to_owned(), schema, class: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_list_is_read() {
        let list = r#"[{"name": "b", "inputSchema": {"type": "object"}}, {"name": "a"}]"#;
        for text in [
            list.to_owned(),
            format!(r#"{{"tools": {list}}}"#),
            format!(r#"{{"server": "s", "tools": {list}}}"#),
            format!(r#"{{"jsonrpc": "2.0", "id": 1, "result": {{"tools": {list}}}}}"#),
        ] {
            let tools = Tools::parse(text.as_bytes()).unwrap();
            assert_eq!(tools.names().collect::<Vec<_>>(), ["a", "b"]);
            assert!(tools.get("b").unwrap().schema.json().is_some());
            assert!(tools.get("a").unwrap().schema.json().is_none());
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", "{}", r#"{"tools": {}}"#, r#"[{"title": "x"}]"#, r#"[{"name": "a"}, {"name": "a"}]"#] {
            assert!(Tools::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
