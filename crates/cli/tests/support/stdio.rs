//! An MCP client over stdio that sends exact bytes and reads whole lines.

use super::{PATIENCE, call, drain, ended, is_modern, request};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio as Pipe};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A process that speaks MCP on its stdin and stdout.
pub struct Stdio {
    pub child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
    pub stderr: Arc<Mutex<String>>,
}

impl Stdio {
    pub fn spawn(mut command: Command) -> Stdio {
        let mut child =
            command.stdin(Pipe::piped()).stdout(Pipe::piped()).stderr(Pipe::piped()).spawn().expect("the binary starts");
        let stderr = drain(child.stderr.take().expect("stderr is piped"));
        let mut stdout = BufReader::with_capacity(1 << 20, child.stdout.take().expect("stdout is piped"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            loop {
                let mut line = Vec::new();
                match stdout.read_until(b'\n', &mut line) {
                    Ok(1..) if line.ends_with(b"\n") => {
                        line.pop();
                        if sender.send(line).is_err() {
                            return;
                        }
                    }
                    _ => return,
                }
            }
        });
        Stdio { stdin: child.stdin.take(), child, lines, stderr }
    }

    /// `callgate run -p POLICY --state STATE [more] -- COMMAND`.
    pub fn wrap(policy: &std::path::Path, state: &str, more: &[&str], command: &[String]) -> Stdio {
        let mut run = super::callgate();
        run.arg("run").arg("-p").arg(policy).args(["--state", state]).args(more).arg("--").args(command);
        Stdio::spawn(run)
    }

    /// `callgate run -p POLICY --state STATE --upstream URL`.
    pub fn bridge(policy: &std::path::Path, state: &str, url: &str) -> Stdio {
        let mut run = super::callgate();
        run.arg("run").arg("-p").arg(policy).args(["--state", state, "--upstream", url]);
        Stdio::spawn(run)
    }

    /// Sends a line, without looking at it. False when nobody reads any more.
    pub fn send(&mut self, line: impl AsRef<[u8]>) -> bool {
        let mut bytes = line.as_ref().to_vec();
        bytes.push(b'\n');
        self.stdin.as_mut().is_some_and(|stdin| stdin.write_all(&bytes).and_then(|()| stdin.flush()).is_ok())
    }

    /// The next line, or nothing within `wait` (or for ever: the process is gone).
    pub fn line(&self, wait: Duration) -> Option<Vec<u8>> {
        self.lines.recv_timeout(wait).ok()
    }

    /// The next message; panics with what the process said when none comes or it is no JSON.
    #[track_caller]
    pub fn message(&self) -> Value {
        let line = self.line(PATIENCE).unwrap_or_else(|| panic!("no message; stderr: {}", self.said()));
        serde_json::from_slice(&line).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&line)))
    }

    /// The answer to `id`; other messages are passed over.
    #[track_caller]
    pub fn reply(&self, id: &str) -> Value {
        let id: Value = serde_json::from_str(id).expect("the id is JSON");
        loop {
            let message = self.message();
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
        }
    }

    /// Sends a request and gives its answer.
    #[track_caller]
    pub fn ask(&mut self, revision: &str, id: &str, method: &str, params: Value) -> Value {
        assert!(self.send(request(revision, id, method, params)), "nobody reads; stderr: {}", self.said());
        self.reply(id)
    }

    /// Calls a tool and gives the answer.
    #[track_caller]
    pub fn call(&mut self, revision: &str, id: &str, tool: &str, arguments: Value) -> Value {
        assert!(self.send(call(revision, id, tool, arguments)), "nobody reads; stderr: {}", self.said());
        self.reply(id)
    }

    /// The handshake of the legacy era; nothing in the stateless one.
    #[track_caller]
    pub fn begin(&mut self, revision: &str) {
        if !is_modern(revision) {
            let client = json!({"protocolVersion": revision, "capabilities": {"elicitation": {}, "sampling": {}},
                "clientInfo": {"name": "test", "version": "1"}});
            let reply = self.ask(revision, "\"begin\"", "initialize", client);
            assert_eq!(reply["result"]["protocolVersion"], revision, "{reply}");
            self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        }
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn ended(&mut self, wait: Duration) -> Option<ExitStatus> {
        ended(&mut self.child, wait)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        super::send_signal(self.child.id(), signal);
    }

    pub fn said(&self) -> String {
        self.stderr.lock().expect("no reader panics").clone()
    }
}

impl Drop for Stdio {
    fn drop(&mut self) {
        // How it ends by itself is tested where it matters; here it would only take time.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
