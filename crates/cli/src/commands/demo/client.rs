//! The demo's agent: a scripted MCP client before a `callgate run` of its own.

use crate::failure::Failure;
use json::{Document, Strictness, quote};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A running `callgate run` and the line to it.
pub struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    next: u64,
}

/// What came of a call, as the agent sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub verdict: Verdict,
    /// What it was told.
    pub text: String,
}

/// In the words of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Denied,
    /// Denied because a limit is reached.
    Limited,
    /// Held until a person approves.
    Held,
    /// As if there were no such tool.
    Hidden,
    /// Not even a message.
    Refused,
}

impl Client {
    /// Starts `command`, with its stderr in the file `log`, and shakes hands.
    pub fn start(mut command: Command, log: &Path) -> Result<Client, Failure> {
        let failed = |error: std::io::Error| Failure::because("cannot start callgate for the demo", &error);
        let log = File::create(log).map_err(failed)?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().map_err(failed)?;
        let missing = || Failure::general("callgate was started without standard streams");
        let stdout = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        let stdin = child.stdin.take();
        let (sender, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut client = Client { child, stdin, lines, next: 1 };
        let hello = r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"agent","version":"1"}}"#;
        client.ask("initialize", hello)?;
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)?;
        Ok(client)
    }

    /// The names of the tools that the agent is shown.
    pub fn tools(&mut self) -> Result<Vec<String>, Failure> {
        let reply = self.ask("tools/list", "{}")?;
        let tools = reply.root().get("result").and_then(|result| result.get("tools")?.elements());
        let names = tools.into_iter().flatten().filter_map(|tool| tool.get("name")?.as_str().map(|name| name.into_owned()));
        Ok(names.collect())
    }

    /// Calls a tool; `arguments` is JSON text, sent as it is.
    pub fn call(&mut self, tool: &str, arguments: &str) -> Result<Seen, Failure> {
        let reply = self.ask("tools/call", &format!(r#"{{"name":{},"arguments":{arguments}}}"#, quote(tool)))?;
        Ok(seen(&reply))
    }

    /// Closes the line and waits until callgate has ended.
    pub fn end(mut self) -> Result<(), Failure> {
        self.stdin = None;
        let status = self.child.wait().map_err(|error| Failure::because("callgate did not end", &error))?;
        if status.success() { Ok(()) } else { Err(Failure::general(format!("callgate ended with {status}"))) }
    }

    fn ask(&mut self, method: &str, params: &str) -> Result<Document, Failure> {
        let id = self.next;
        self.next += 1;
        self.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#))?;
        loop {
            let line = self.lines.recv_timeout(PATIENCE).map_err(|_| Failure::general("callgate does not answer"))?;
            let Ok(document) = Document::parse(line, Strictness::Reply) else { continue };
            let root = document.root();
            // What could not be read is answered without an id.
            let ours = root.get("id").is_some_and(|theirs| theirs.is_null() || theirs.raw() == id.to_string());
            if ours && root.get("method").is_none() {
                return Ok(document);
            }
        }
    }

    fn send(&mut self, line: &str) -> Result<(), Failure> {
        let Some(stdin) = &mut self.stdin else { return Err(Failure::general("the line to callgate is closed")) };
        let sent = stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdin.flush());
        sent.map_err(|error| Failure::because("callgate has ended", &error))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Closed input is how a server of MCP is asked to end; ours takes its child along.
        self.stdin = None;
        let _ = self.child.wait();
    }
}

fn seen(reply: &Document) -> Seen {
    let root = reply.root();
    if let Some(error) = root.get("error") {
        let text = error.get("message").and_then(|message| message.as_str()).unwrap_or_default().into_owned();
        return Seen { verdict: Verdict::Refused, text };
    }
    let result = root.get("result");
    let decision = result.and_then(|result| result.get("_meta")?.get("dev.callgate/decision"));
    let word = |name: &str| decision.and_then(|decision| decision.get(name)?.as_str()).unwrap_or_default();
    let verdict = match (&*word("outcome"), &*word("reason")) {
        ("ask", _) => Verdict::Held,
        ("deny", "hidden" | "default-deny") => Verdict::Hidden,
        ("deny", "limit-reached") => Verdict::Limited,
        ("deny", _) => Verdict::Denied,
        _ => Verdict::Allowed,
    };
    let content = result.and_then(|result| result.get("content")?.elements()?.next()?.get("text")?.as_str());
    let content = content.unwrap_or_default();
    let text = content.strip_prefix("[POLICY DENIED] ").unwrap_or(&content).to_owned();
    Seen { verdict, text }
}

const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reply: &str, verdict: Verdict, text: &str) {
        let document = Document::parse(reply.to_owned(), Strictness::Reply).unwrap();
        assert_eq!(seen(&document), Seen { verdict, text: text.to_owned() });
    }

    #[test]
    fn the_agent_sees_what_became_of_its_call() {
        let denied = |outcome: &str, reason: &str| {
            let id = mcp::Id::from(1);
            let decision = format!(r#"{{"outcome":"{outcome}","reason":"{reason}"}}"#);
            let reply = mcp::reply::denied(&id, "No.", &decision, false);
            String::from_utf8(reply.to_vec()).unwrap()
        };
        check(r#"{"id":1,"result":{"content":[{"type":"text","text":"done"}]}}"#, Verdict::Allowed, "done");
        check(&denied("deny", "condition-failed"), Verdict::Denied, "No.");
        check(&denied("deny", "limit-reached"), Verdict::Limited, "No.");
        check(&denied("deny", "hidden"), Verdict::Hidden, "No.");
        check(&denied("ask", "approval-required"), Verdict::Held, "No.");
        check(r#"{"id":null,"error":{"code":-32700,"message":"twice"}}"#, Verdict::Refused, "twice");
    }
}
