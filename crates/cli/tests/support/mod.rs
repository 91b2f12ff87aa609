//! What the integration tests share: the binary, the upstream stand-in, and clients that send exact bytes.
//!
//! Nothing here knows what is right; the test files do. All waiting is for an event with a deadline: a line, a reply, the end
//! of a process. The stand-in is `tests/upstreams/lenient.py`, run with `python3` (or what `PYTHON` names).

#![allow(dead_code, reason = "each test file uses its own part")]

#[allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]
pub mod authority;
pub mod chain;
pub mod corpus;
pub mod events;
pub mod http;
pub mod openapi;
pub mod receiver;
pub mod rig;
pub mod stdio;

use base64::Engine;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as Pipe};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The longest a test waits for anything that should happen at once. Generous, for a loaded machine; never slept through.
pub const PATIENCE: Duration = Duration::from_secs(15);

pub const LEGACY: &str = "2025-11-25";
pub const MODERN: &str = "2026-07-28";

/// Whether `revision` is of the stateless era.
pub fn is_modern(revision: &str) -> bool {
    revision >= MODERN
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// A directory of its own, removed at the end, and what usually lies in it.
pub struct Scratch(scratch::Scratch);

impl Scratch {
    pub fn new() -> Scratch {
        Scratch(scratch::Scratch::new())
    }

    pub fn policy(&self, text: &str) -> PathBuf {
        self.write("policy.yaml", text)
    }

    /// The `--state` of this directory.
    pub fn state(&self) -> String {
        format!("sqlite:{}", self.path("callgate.db").display())
    }

    pub fn log(&self) -> PathBuf {
        self.path("upstream.log")
    }
}

impl std::ops::Deref for Scratch {
    type Target = scratch::Scratch;

    fn deref(&self) -> &scratch::Scratch {
        &self.0
    }
}

/// The binary under test, without what the caller's environment might add.
pub fn callgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callgate"));
    command.env_remove("RUST_LOG").env("NO_COLOR", "1");
    command
}

/// What a finished command left.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `callgate` to its end, `input` on its stdin.
pub fn run(arguments: &[&str], input: &str) -> Ran {
    let mut child = callgate()
        .args(arguments)
        .stdin(Pipe::piped())
        .stdout(Pipe::piped())
        .stderr(Pipe::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_owned();
    let writer = thread::spawn(move || {
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
    });
    let output = child.wait_with_output().expect("the binary ends");
    writer.join().expect("the writer ends");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Every record of the audit log, oldest first, as `audit list --json` prints them.
#[track_caller]
pub fn audit(state: &str) -> Vec<Value> {
    let ran = run(&["audit", "list", "--json", "--state", state], "");
    assert_eq!(ran.code, 0, "audit list: {}", ran.stderr);
    ran.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("not one record a line: {error}: {line}")))
        .collect()
}

/// Asserts that the chain holds.
#[track_caller]
pub fn assert_verified(state: &str) {
    let ran = run(&["audit", "verify", "--json", "--state", state], "");
    assert_eq!(ran.code, 0, "audit verify: {}{}", ran.stdout, ran.stderr);
}

/// The stand-in: a command that ends with the stand-in's own options.
pub fn lenient(log: &Path, options: &[&str]) -> Vec<String> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = root().join("tests/upstreams/lenient.py").display().to_string();
    let mut command = vec![python, script, "--log".to_owned(), log.display().to_string()];
    command.extend(options.iter().map(|&option| option.to_owned()));
    command
}

/// The stand-in as an HTTP server.
pub struct HttpUpstream {
    child: Child,
    pub port: u16,
}

impl HttpUpstream {
    pub fn start(log: &Path, options: &[&str]) -> HttpUpstream {
        let mut all = vec!["--http", "0"];
        all.extend(options);
        HttpUpstream::start_command(lenient(log, &all))
    }

    /// The one that lets its clients poll.
    pub fn polling(log: &Path) -> HttpUpstream {
        let mut command = lenient(log, &["--http", "0"]);
        command[1] = root().join("tests/upstreams/polling.py").display().to_string();
        HttpUpstream::start_command(command)
    }

    /// Any server that prints `listening PORT`.
    pub fn start_command(command: Vec<String>) -> HttpUpstream {
        let mut child =
            Command::new(&command[0]).args(&command[1..]).stdout(Pipe::piped()).spawn().expect("python3 is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("the stand-in speaks");
        let port = line.trim().rsplit(' ').next().and_then(|port| port.parse().ok()).expect("`listening PORT`");
        HttpUpstream { child, port }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    /// The same where it was started with `--tls`.
    pub fn https(&self) -> String {
        format!("https://localhost:{}/mcp", self.port)
    }
}

impl Drop for HttpUpstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `callgate serve`, ready.
pub struct Served {
    pub child: Child,
    pub address: String,
    pub stderr: Arc<Mutex<String>>,
}

impl Served {
    /// Starts `callgate serve --listen 127.0.0.1:0` with further `arguments` and waits for its line.
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Served {
        Served::start_with(callgate(), arguments)
    }

    #[track_caller]
    pub fn start_with(mut command: Command, arguments: &[&str]) -> Served {
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        Served::ready(command)
    }

    /// Starts `callgate serve -c` with these variables in its environment.
    #[track_caller]
    pub fn configured(config: &Path, variables: &[(&str, &str)]) -> Served {
        let mut command = callgate();
        command.args(["serve", "-c"]).arg(config).envs(variables.iter().copied());
        Served::ready(command)
    }

    #[track_caller]
    pub fn ready(mut command: Command) -> Served {
        let mut child =
            command.stdin(Pipe::null()).stdout(Pipe::null()).stderr(Pipe::piped()).spawn().expect("the binary starts");
        let stderr = drain(child.stderr.take().expect("stderr is piped"));
        let ready = "callgate listening on ";
        let address = until(PATIENCE, || {
            let text = stderr.lock().expect("no reader panics").clone();
            let (_, address) = text.split_once(ready)?.1.split_once("://")?;
            Some(address.split_once("/mcp")?.0.to_owned())
        });
        let Some(address) = address else {
            let _ = child.kill();
            panic!("serve did not say that it listens: {}", stderr.lock().expect("no reader panics"));
        };
        Served { child, address, stderr }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        send_signal(self.child.id(), signal);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects what a process says, so that its pipe never fills.
pub fn drain(mut from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = text.clone();
    thread::spawn(move || {
        let mut bytes = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            into.lock().expect("no reader panics").push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    });
    text
}

/// Asks again and again until there is an answer or the time is up.
pub fn until<T>(wait: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + wait;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > end {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for a child process to end.
pub fn ended(child: &mut Child, wait: Duration) -> Option<std::process::ExitStatus> {
    until(wait, || child.try_wait().expect("the child is ours"))
}

/// Whether a process exists (and is no zombie).
pub fn is_alive(pid: u64) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z')
}

pub fn send_signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    let _ = rustix::process::kill_process(pid, signal);
}

/// The stand-in's log so far.
pub fn entries(log: &Path) -> Vec<Value> {
    let Ok(bytes) = std::fs::read(log) else { return Vec::new() };
    let text = String::from_utf8_lossy(&bytes);
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("the stand-in's log: {error}: {line}")))
        .collect()
}

/// The entries of one kind.
pub fn entries_of(log: &Path, kind: &str) -> Vec<Value> {
    entries(log).into_iter().filter(|entry| entry["t"] == kind).collect()
}

/// The tools that the upstream really ran, in order.
pub fn tools_run(log: &Path) -> Vec<String> {
    entries_of(log, "ran").iter().map(|entry| entry["tool"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The bytes of an entry's `b64`.
pub fn bytes_of(entry: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(entry["b64"].as_str().unwrap_or_default()).expect("base64")
}

/// A request's text; modern ones with their `_meta`.
pub fn request(revision: &str, id: &str, method: &str, mut params: Value) -> String {
    if is_modern(revision) {
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(revision);
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({"elicitation": {}, "sampling": {}});
    }
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

/// A tools/call's text.
pub fn call(revision: &str, id: &str, tool: &str, arguments: Value) -> String {
    request(revision, id, "tools/call", json!({"name": tool, "arguments": arguments}))
}

/// The text of a result's first content.
pub fn text_of(reply: &Value) -> &str {
    reply["result"]["content"][0]["text"].as_str().unwrap_or_default()
}

/// Whether a reply is a denial by us.
pub fn is_denied(reply: &Value) -> bool {
    reply["result"]["isError"] == true && reply["result"]["_meta"]["dev.callgate/decision"].is_object()
}

/// The names in a reply to tools/list.
pub fn names(reply: &Value) -> Vec<String> {
    let tools = reply["result"]["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    tools.iter().map(|tool| tool["name"].as_str().unwrap_or_default().to_owned()).collect()
}
