//! `scan`: a server's tools, as a policy to begin with.
//!
//! What a server says about itself is not to be trusted, and the policy will be read by people and models: descriptions are
//! shortened to one line, stand in comments only, and hold nothing that hides.

use crate::arguments::Scan;
use crate::commands::block_on;
use crate::commands::gate::NO_SERVER;
use crate::failure::{Failure, OK};
use crate::terminal::{counted, shortened, tell, visible};
use crate::{headers, server_name};
use gateway::{ChildCommand, HttpTarget, Listing, Upstream};
use json::{Document, Kind, Strictness, Value, quote};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;

pub fn scan(arguments: Scan) -> Result<u8, Failure> {
    let given = &arguments.upstream;
    let (upstream, name) = match &given.upstream {
        Some(url) => {
            let target = HttpTarget::new(url, &headers::resolved(&given.header)?, &given.tls.tls(), arguments.timeout)?;
            (Upstream::Http(target), server_name::of_url(url))
        }
        None if given.command.is_empty() => return Err(Failure::usage(NO_SERVER)),
        None => {
            let command = ChildCommand::inheriting(&given.command);
            (Upstream::Child(command), server_name::of_command(&given.command))
        }
    };
    let listing = block_on(async {
        let listed = gateway::list_tools(&upstream, arguments.timeout).await;
        listed.map_err(|error| Failure::because("cannot list the tools", &error))
    })?;
    let policy = policy_of(&name, &listing);
    match &arguments.output {
        None => std::io::stdout().write_all(policy.as_bytes())?,
        Some(path) => {
            let shown = visible(&path.display().to_string());
            // Never over a policy that somebody has edited.
            let file = OpenOptions::new().write(true).create_new(true).open(path);
            let written = file.and_then(|mut file| file.write_all(policy.as_bytes()));
            written.map_err(|error| Failure::because(&format!("cannot write `{shown}`"), &error))?;
            let tools = counted(listing.tools.len() as u64, "tool", "tools");
            tell!("{tools} of `{name}` written to {shown}; edit it, then: callgate check {shown}");
        }
    }
    Ok(OK)
}

/// What a server can do, in a line.
pub(super) fn summary(listing: &Listing) -> String {
    counted(listing.tools.len() as u64, "tool", "tools")
}

/// The policy: refuses what is not listed, and lists every tool that could be called at all.
pub(super) fn policy_of(name: &str, listing: &Listing) -> String {
    let tools: Vec<Entry> = listing.tools.iter().filter_map(|definition| Entry::of(definition)).collect();
    let mut out = format!(
        "# The {} of `{name}`, as listed by `callgate scan`.\n\
         # Whatever is not named here is refused, and not shown to the agent. Take out what it does not need, and add rules to\n\
         # what can do harm: https://github.com/callgate/callgate/blob/main/docs/policy/README.md\n\
         # The descriptions below are the server's own words, shortened.\n\
         version: \"1\"\n\
         description: {}\n\
         default: deny\n\n",
        counted(tools.len() as u64, "tool", "tools"),
        quote(&format!("the tools of {name}")),
    );
    if tools.is_empty() {
        out.push_str("# The server lists no tools.\ntools: {}\n");
        return out;
    }
    let nothing = tools.iter().all(|tool| tool.unusable.is_some());
    out.push_str(if nothing { "tools: {}\n" } else { "tools:\n" });
    for (i, tool) in tools.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        out.push_str(&tool.text());
    }
    out
}

/// One tool, as far as the policy says something of it.
struct Entry {
    name: String,
    description: Option<String>,
    parameters: Vec<Parameter>,
    hints: Vec<&'static str>,
    /// Why it cannot stand in a policy by its name.
    unusable: Option<&'static str>,
}

struct Parameter {
    name: String,
    kind: String,
    required: bool,
    description: Option<String>,
}

impl Entry {
    fn of(definition: &str) -> Option<Entry> {
        let document = Document::parse(definition.to_owned(), Strictness::Reply).ok()?;
        let root = document.root();
        let name = root.get("name")?.as_str()?.into_owned();
        let annotations = root.get("annotations");
        let says = |hint: &str, value: bool| annotations.and_then(|all| all.get(hint)?.as_bool()) == Some(value);
        let hints = HINTS.iter().filter(|(hint, value, _)| says(hint, *value)).map(|(.., words)| *words).collect();
        let unusable = match &name {
            name if visible(name) != *name => Some("its name holds characters that hide"),
            name if name.is_empty() || name.len() > 256 => Some("its name is empty or longer than 256 bytes"),
            name if name.contains(['*', '?']) => Some("its name would be a pattern"),
            name if name.trim() != name => Some("its name begins or ends with white space"),
            _ => None,
        };
        let description = root.get("description").and_then(|text| text.as_str()).map(|text| shortened(&text, 110));
        Some(Entry { description, parameters: parameters(root.get("inputSchema")), hints, unusable, name })
    }

    /// The entry with its comments. How a tool is treated by default is decided here, for all alike.
    fn text(&self) -> String {
        let mut out = String::new();
        if let Some(description) = self.description.as_deref().filter(|text| !text.is_empty()) {
            let _ = writeln!(out, "  # {description}");
        }
        let name_width = self.parameters.iter().map(|parameter| parameter.name.chars().count()).max().unwrap_or(0);
        for parameter in &self.parameters {
            let required = if parameter.required { ", required" } else { "" };
            let description = parameter.description.as_deref().filter(|text| !text.is_empty());
            let description = description.map(|text| format!(": {text}")).unwrap_or_default();
            let _ = writeln!(out, "  #   {:<name_width$}  {}{required}{description}", parameter.name, parameter.kind);
        }
        if !self.hints.is_empty() {
            let _ = writeln!(out, "  # The server says, and need not keep to it: {}.", self.hints.join(", "));
        }
        match self.unusable {
            None => {
                let _ = writeln!(out, "  {}: {{}}", quote(&self.name));
            }
            Some(why) => {
                let _ = writeln!(out, "  # {} cannot be listed: {why}.", shortened(&self.name, 60));
            }
        }
        out
    }
}

fn parameters(schema: Option<Value<'_>>) -> Vec<Parameter> {
    let Some(schema) = schema else { return Vec::new() };
    let required: Vec<String> = schema
        .get("required")
        .and_then(Value::elements)
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(|name| name.into_owned()))
        .collect();
    let properties = schema.get("properties").and_then(Value::members).into_iter().flatten();
    let parameter = |member: json::Member<'_>| Parameter {
        kind: kind_of(member.value),
        required: required.iter().any(|name| *name == member.key),
        description: member.value.get("description").and_then(|text| text.as_str()).map(|text| shortened(&text, 70)),
        name: shortened(&member.key, 60),
    };
    properties.map(parameter).collect()
}

/// The type in a word or two: `string`, `integer or null`, `one of 3 words`.
fn kind_of(schema: Value<'_>) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut add = |value: Value<'_>| {
        if let Some(word) = value.as_str().map(|word| shortened(&word, 20)).filter(|word| !words.contains(word)) {
            words.push(word);
        }
    };
    match schema.get("type") {
        Some(kind) if kind.kind() == Kind::Array => kind.elements().into_iter().flatten().for_each(&mut add),
        Some(kind) => add(kind),
        None => {
            let alternatives = ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(key)?.elements()).flatten();
            alternatives.filter_map(|schema| schema.get("type")).for_each(&mut add);
        }
    }
    let allowed = schema.get("enum").and_then(Value::elements).map(Iterator::count);
    let kind = if words.is_empty() { "any".to_owned() } else { words.join(" or ") };
    match allowed {
        Some(count) => format!("{kind}, one of {count}"),
        None => kind,
    }
}

/// What annotations may say (2025-03-26 and later), in plain words.
const HINTS: &[(&str, bool, &str)] = &[
    ("readOnlyHint", true, "it only reads"),
    ("destructiveHint", true, "it may destroy"),
    ("destructiveHint", false, "it only adds"),
    ("idempotentHint", true, "repeating it changes nothing more"),
    ("openWorldHint", true, "it reaches beyond this server"),
    ("openWorldHint", false, "it stays within this server"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Source, Tools};

    fn listing(tools: &[&str]) -> Listing {
        let tools = tools.iter().map(|tool| (*tool).to_owned()).collect();
        Listing { server_name: None, revision: "2025-11-25".into(), instructions: None, tools, prompts: Vec::new() }
    }

    /// Loads the policy of a listing, which must be without a single problem.
    #[track_caller]
    fn check(tools: &[&str]) -> String {
        let listing = listing(tools);
        let text = policy_of("files", &listing);
        let source = Source::new("policy.yaml", text.clone());
        let loaded = policy::load(&source);
        assert_eq!(loaded.problems, [], "{text}");
        let problems = policy::check_tools(&source, &loaded, &Tools::parse(listing.to_json().as_bytes()).unwrap());
        assert_eq!(problems, [], "{text}");
        text
    }

    #[test]
    fn every_tool_is_listed_with_its_parameters() {
        let text = check(&[
            r#"{"name":"read_file","description":"Reads a file.\n\nAll of it.","annotations":{"readOnlyHint":true},
                "inputSchema":{"required":["path"],"properties":{"path":{"type":"string","description":"Where"},
                "head":{"anyOf":[{"type":"integer"},{"type":"null"}]},"mode":{"type":"string","enum":["a","b"]},"x":{}}}}"#,
            r#"{"name":"off","inputSchema":{}}"#,
        ]);
        let expected = r#"  # Reads a file. All of it.
  #   path  string, required: Where
  #   head  integer or null
  #   mode  string, one of 2
  #   x     any
  # The server says, and need not keep to it: it only reads.
  "read_file": {}

  "off": {}
"#;
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn a_hostile_server_writes_nothing_but_comments() {
        let text = check(&[
            "{\"name\":\"a\",\"description\":\"x\\n  evil: {}\\u2028hide: []\\u0000\\u202e\\ud83d\\ude00\u{85}y\"}",
            "{\"name\":\"b\\\": {}\\\\\",\"inputSchema\":{\"properties\":{\"p\\nq: 1\":{\"type\":\"st\\nring\"}}}}",
            r#"{"name":"*"}"#,
            r#"{"name":"delete_?"}"#,
            r#"{"name":"hid\u200bden"}"#,
        ]);
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.is_empty());
        assert_eq!(lines.skip(4).collect::<Vec<_>>(), [r#"  "a": {}"#, r#"  "b\": {}\\": {}"#], "{text}");
        assert!(text.contains("# hid\\u{200b}den cannot be listed"), "{text}");
    }

    #[test]
    fn the_policies_of_real_servers_pass_check() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora/tools");
        let Ok(entries) = std::fs::read_dir(&directory) else {
            eprintln!("skipped: {} is not there", directory.display());
            return;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let text = std::fs::read(&path).unwrap();
            let document = Document::parse(text.clone(), Strictness::Reply).unwrap();
            let tools: Vec<String> =
                document.root().get("tools").unwrap().elements().unwrap().map(|tool| tool.raw().to_owned()).collect();
            // That a policy which lists nothing denies everything is a warning, and right.
            if tools.is_empty() {
                continue;
            }
            let policy = policy_of(
                "real",
                &Listing { server_name: None, revision: String::new(), instructions: None, tools, prompts: Vec::new() },
            );
            let source = Source::new("policy.yaml", policy);
            let loaded = policy::load(&source);
            let found = policy::check_tools(&source, &loaded, &Tools::parse(&text).unwrap());
            let problems: Vec<_> = loaded.problems.iter().chain(&found).collect();
            assert!(problems.is_empty(), "{}: {problems:?}", path.display());
        }
    }

    #[test]
    fn a_server_without_tools_gives_a_policy_all_the_same() {
        let text = policy_of("none", &listing(&[]));
        assert!(policy::load(&Source::new("policy.yaml", text)).policy.is_some());
    }
}
