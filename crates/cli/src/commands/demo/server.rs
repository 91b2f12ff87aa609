//! The server that the demo stands before: a stdio MCP server that plays a genomics service.
//!
//! It checks nothing and does whatever it is asked, as servers do. Every call it carries out is written to a file, so that
//! what really reached it can be seen.

use crate::failure::{Failure, OK};
use json::{Value, quote};
use mcp::{Kind, Message, Side, ToolCall, reply};
use std::io::{BufRead, Write};
use std::path::Path;

/// Serves stdin until it ends. `state` is written after every call.
pub fn serve(state: &Path) -> Result<u8, Failure> {
    let mut lab = Lab::default();
    lab.save(state)?;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().split(b'\n') {
        let line = line.map_err(|error| Failure::because("cannot read stdin", &error))?;
        let Ok(message) = Message::parse(line, Side::Client) else { continue };
        let (Kind::Request, Some(id), Some(method)) = (message.kind(), message.id(), message.method()) else { continue };
        let text = match method {
            "initialize" => reply::result(id, HELLO),
            "ping" => reply::result(id, "{}"),
            // Line breaks between tokens are the file's; one message is one line.
            "tools/list" => Message::for_line(&reply::result(id, TOOLS.trim())),
            "tools/call" => match ToolCall::of(&message) {
                Ok(call) => {
                    let said = lab.call(&call.name, call.arguments);
                    lab.save(state)?;
                    reply::result(id, &format!(r#"{{"content":[{{"type":"text","text":{}}}]}}"#, quote(&said)))
                }
                Err(malformed) => reply::error(Some(id), malformed.code, &malformed.message, None),
            },
            _ => reply::error(Some(id), reply::METHOD_NOT_FOUND, "there is no such method", None),
        };
        out.write_all(&text)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(OK)
}

/// What the service remembers.
#[derive(Default)]
struct Lab {
    runs: Vec<String>,
    batches: u64,
    /// The tools that were run, in order.
    calls: Vec<String>,
}

impl Lab {
    fn call(&mut self, tool: &str, arguments: Option<Value<'_>>) -> String {
        self.calls.push(tool.to_owned());
        let text = |name: &str| arguments.and_then(|all| all.get(name)?.as_str()).unwrap_or_default().into_owned();
        match tool {
            "StartAHORun" => {
                self.runs.push(text("name"));
                format!("run {} `{}` started", FIRST_RUN + self.runs.len(), text("name"))
            }
            "StartAHORunBatch" => {
                self.batches += 1;
                "a batch of 96 runs started".to_owned()
            }
            "ListAHOWorkflows" => "2 workflows: 5531 germline-variants, 5532 rna-seq".to_owned(),
            "ListAHORuns" => format!("{} runs", self.runs.len()),
            _ => format!("{tool}: done"),
        }
    }

    fn save(&self, path: &Path) -> Result<(), Failure> {
        let list = |texts: &[String]| texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(", ");
        let state = format!(
            "{{\n  \"runs\": [{}],\n  \"batches\": {},\n  \"calls\": [{}]\n}}\n",
            list(&self.runs),
            self.batches,
            list(&self.calls)
        );
        std::fs::write(path, state).map_err(|error| Failure::because("cannot write the server's state", &error))
    }
}

const HELLO: &str =
    r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"genomics","version":"1"}}"#;
pub(super) const TOOLS: &str = include_str!("tools.json");
const FIRST_RUN: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Source, Tools};

    #[test]
    fn the_example_policy_fits_the_tools_of_the_demo() {
        let tools = Tools::parse(TOOLS.as_bytes()).unwrap();
        assert_eq!(tools.names().count(), 12);
        let source = Source::new("policy.yaml", super::super::POLICY);
        let loaded = policy::load(&source);
        let problems = policy::check_tools(&source, &loaded, &tools);
        // That a call without a profile is denied is what the policy is for.
        let unmeant = problems.iter().chain(&loaded.problems).find(|problem| problem.code != "P205");
        assert_eq!(unmeant, None);
    }
}
