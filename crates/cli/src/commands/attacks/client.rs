//! The clients of a case: one on stdio, one on HTTP. They send what the script says and keep all that comes back.

use catalogue::attacks::{Send, Step};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What came back for one thing that was sent.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Of HTTP.
    pub status: Option<u16>,
    /// Everything: the head too, over HTTP.
    pub text: String,
}

impl Answer {
    /// Whether it says that this is why nothing was done: a reason, a JSON-RPC code, or an HTTP status.
    pub fn says(&self, stopped: &str) -> bool {
        if let Ok(code) = stopped.parse::<i64>() {
            return match u16::try_from(code) {
                Ok(status) => self.status == Some(status),
                Err(_) => self.text.contains(&format!("\"code\":{code}")),
            };
        }
        self.text.contains(&format!("\"reason\":\"{stopped}\""))
    }

    /// Whether it is a refusal of callgate's, of whatever kind.
    pub fn is_refused(&self) -> bool {
        self.text.contains("dev.callgate/decision") || self.status.is_some_and(|status| status >= 400)
    }

    /// Its beginning, for a person.
    pub fn shown(&self) -> String {
        let status = self.status.map(|status| format!("{status}: ")).unwrap_or_default();
        let body = self.text.split_once("\r\n\r\n").map_or(self.text.as_str(), |(_, body)| body);
        format!("{status}{}", crate::terminal::shortened(body, 160))
    }
}

/// A client on the streams of a child.
pub struct StdioClient {
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    next: u64,
    /// Everything that came, for what a client must not see.
    received: String,
}

impl StdioClient {
    /// Takes the child's streams and shakes hands. A server that refuses to is one to talk to all the same.
    pub fn start(child: &mut Child) -> Result<StdioClient, String> {
        let stdout: ChildStdout = child.stdout.take().ok_or("there is no stdout")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut client = StdioClient { stdin: child.stdin.take(), lines, next: 100, received: String::new() };
        client.ask("initialize", HELLO)?;
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)?;
        Ok(client)
    }

    /// Sends what a step says.
    pub fn take(&mut self, send: &Send) -> Result<Answer, String> {
        match send {
            Send::Call(..) | Send::Method(..) => {
                let (method, params) = request(send);
                self.ask(&method, &params)
            }
            Send::Raw(text) => {
                self.send(text)?;
                self.reply()
            }
        }
    }

    /// Closes the line, and gives everything that ever came.
    pub fn end(&mut self) -> &str {
        self.stdin = None;
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.received.push_str(&line);
            self.received.push('\n');
        }
        &self.received
    }

    fn ask(&mut self, method: &str, params: &str) -> Result<Answer, String> {
        self.next += 1;
        let id = self.next;
        self.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#))?;
        self.reply()
    }

    /// The next message that is an answer: nothing else is under way.
    fn reply(&mut self) -> Result<Answer, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).map_err(|_| "nobody answers".to_owned())?;
            self.received.push_str(&line);
            self.received.push('\n');
            let message: Value = serde_json::from_str(&line).unwrap_or_default();
            if message.get("method").is_none() && message.get("id").is_some() {
                return Ok(Answer { status: None, text: line });
            }
        }
    }

    fn send(&mut self, line: &str) -> Result<(), String> {
        let stdin = self.stdin.as_mut().ok_or("the line is closed")?;
        let sent = stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdin.flush());
        sent.map_err(|error| format!("the other side has ended: {error}"))
    }
}

/// Clients on HTTP, each request on a connection of its own.
pub struct HttpClient {
    /// `127.0.0.1:PORT`
    authority: String,
    /// Those that were opened, by the grant.
    sessions: HashMap<String, String>,
    /// Whether redirects are followed with everything, as careless clients do.
    pub follows: bool,
}

impl HttpClient {
    pub fn new(authority: String) -> HttpClient {
        HttpClient { authority, sessions: HashMap::new(), follows: false }
    }

    /// Sends what a step says.
    pub fn take(&mut self, step: &Step) -> Result<Answer, String> {
        let session = match &step.session_of {
            Some(grant) => Some(self.session(grant, step)?),
            None => None,
        };
        self.post(step, session)
    }

    /// Sends what a step says, without a session: several at once may.
    pub fn post(&self, step: &Step, session: Option<String>) -> Result<Answer, String> {
        let (body, mut headers) = match &step.send {
            Send::Raw(text) => (text.clone(), Vec::new()),
            Send::Call(..) | Send::Method(..) => {
                let (method, params) = request(&step.send);
                match &session {
                    Some(_) => (message(&method, &params), vec![("MCP-Protocol-Version", LEGACY.to_owned())]),
                    None => modern(&step.send, &method, &params),
                }
            }
        };
        headers.extend(session.map(|session| ("Mcp-Session-Id", session)));
        headers.extend(step.by.as_ref().map(|grant| ("Authorization", format!("Bearer {}", token_of(grant)))));
        let mut headers: Vec<(String, String)> = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        for (name, value) in &step.headers {
            headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
            headers.push((name.clone(), value.clone()));
        }
        let path = step.path.as_deref().unwrap_or("/mcp");
        let answer = exchange(&self.authority, path, &headers, &body)?;
        if self.follows
            && let Some(place) = header(&answer.text, "location")
            && let Some((authority, path)) = place.strip_prefix("http://").and_then(|place| place.split_once('/'))
        {
            return exchange(authority, &format!("/{path}"), &headers, &body);
        }
        Ok(answer)
    }

    /// The session of a grant at a step's path, opened when it is first used.
    fn session(&mut self, grant: &str, step: &Step) -> Result<String, String> {
        if let Some(session) = self.sessions.get(grant) {
            return Ok(session.clone());
        }
        let path = step.path.as_deref().unwrap_or("/mcp");
        let mut headers = vec![("Authorization".to_owned(), format!("Bearer {}", token_of(grant)))];
        let answer = exchange(&self.authority, path, &headers, &message("initialize", HELLO))?;
        let session = header(&answer.text, "mcp-session-id").ok_or_else(|| format!("no session: {}", answer.shown()))?;
        headers.push(("Mcp-Session-Id".to_owned(), session.clone()));
        exchange(&self.authority, path, &headers, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)?;
        self.sessions.insert(grant.to_owned(), session.clone());
        Ok(session)
    }
}

/// The token that is shown in the name of a grant; the configuration knows those of ada and eve.
pub fn token_of(grant: &str) -> String {
    format!("callgate_token_of_{grant}_0123456789abcdefghijklmnopqrstuv")
}

/// Every client counts alike, so that equal ids meet.
fn message(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

/// A request of the stateless era, and the headers that repeat what it says.
fn modern(send: &Send, method: &str, params: &str) -> (String, Vec<(&'static str, String)>) {
    let mut with: Value = serde_json::from_str(params).unwrap_or_else(|_| json!({}));
    with["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let mut headers = vec![("MCP-Protocol-Version", MODERN.to_owned()), ("Mcp-Method", method.to_owned())];
    if let Send::Call(tool, _) = send {
        headers.push(("Mcp-Name", tool.clone()));
    }
    (message(method, &with.to_string()), headers)
}

/// The method and the parameters of what a step sends.
pub fn request(send: &Send) -> (String, String) {
    match send {
        Send::Call(tool, arguments) => {
            ("tools/call".to_owned(), format!(r#"{{"name":{},"arguments":{arguments}}}"#, json::quote(tool)))
        }
        Send::Method(method, params) => (method.clone(), params.clone()),
        Send::Raw(text) => (text.clone(), String::new()),
    }
}

fn exchange(authority: &str, path: &str, headers: &[(String, String)], body: &str) -> Result<Answer, String> {
    let failed = |error: std::io::Error| format!("no answer over HTTP: {error}");
    let mut connection = TcpStream::connect(authority).map_err(failed)?;
    connection.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let has = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let mut head = format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    let usual = [("Host", authority), ("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
    for (name, value) in usual.into_iter().filter(|(name, _)| !has(name)) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    connection.write_all(format!("{head}\r\n{body}").as_bytes()).map_err(failed)?;
    let mut bytes = Vec::new();
    // A listener that has seen enough may close before the end: what came counts.
    let _ = connection.take(MOST).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.map(|status| Answer { status: Some(status), text }).ok_or_else(|| "no answer over HTTP".to_owned())
}

/// A header of a response.
fn header(text: &str, name: &str) -> Option<String> {
    let head = text.split("\r\n\r\n").next()?;
    let named = |line: &str| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    };
    head.lines().find_map(named)
}

const LEGACY: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";
const HELLO: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{"sampling":{},"elicitation":{"form":{},"url":{}}},"clientInfo":{"name":"case","version":"1"}}"#;
const MOST: u64 = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
