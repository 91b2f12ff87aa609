//! An MCP client over HTTP that sends exact bytes: one connection per exchange, nothing added.

use super::{PATIENCE, is_modern, request};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The JSON texts in the body: one, or the data of each event.
    pub fn texts(&self) -> Vec<String> {
        let body = String::from_utf8_lossy(&self.body).into_owned();
        if !self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return if body.trim().is_empty() { Vec::new() } else { vec![body] };
        }
        let events = body.replace("\r\n", "\n");
        let data = |event: &str| -> String {
            let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
            lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
        };
        events.split("\n\n").map(data).filter(|data| !data.is_empty()).collect()
    }

    pub fn messages(&self) -> Vec<Value> {
        self.texts().iter().filter_map(|text| serde_json::from_str(text).ok()).collect()
    }

    /// The answer to `id`.
    #[track_caller]
    pub fn reply(&self, id: &str) -> Value {
        let id: Value = serde_json::from_str(id).expect("the id is JSON");
        self.messages()
            .into_iter()
            .find(|message| message["id"] == id && message.get("method").is_none())
            .unwrap_or_else(|| panic!("no answer: {} {}", self.status, String::from_utf8_lossy(&self.body)))
    }
}

/// Sends exactly `bytes` and reads one response. `None`: the connection ended without one.
pub fn exchange(address: &str, bytes: &[u8]) -> Option<Reply> {
    let mut connection = TcpStream::connect(address).expect("the listener is there");
    connection.set_read_timeout(Some(PATIENCE)).expect("a timeout is settable");
    let mut sender = connection.try_clone().expect("a socket clones");
    let sent = bytes.to_vec();
    // Large bodies are refused before they are read whole: write beside the reading.
    let writer = std::thread::spawn(move || {
        let _ = sender.write_all(&sent);
    });
    let reply = Response { has_body: !bytes.starts_with(b"HEAD "), ..Response::default() }.read(&mut connection);
    let _ = connection.shutdown(std::net::Shutdown::Both);
    writer.join().expect("the writer ends");
    reply
}

/// Sends one request on a connection that stays open, and reads its response.
pub fn ask_on(connection: &mut TcpStream, bytes: &[u8]) -> Option<Reply> {
    connection.set_read_timeout(Some(PATIENCE)).expect("a timeout is settable");
    connection.write_all(bytes).ok()?;
    Response { has_body: true, ..Response::default() }.read(connection)
}

/// Reads one response off anything that can be read.
pub fn response(from: &mut impl Read) -> Option<Reply> {
    Response { has_body: true, ..Response::default() }.read(from)
}

/// Opens a request and leaves the response to the caller.
pub fn open(address: &str, bytes: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(address).expect("the listener is there");
    connection.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout is settable");
    connection.write_all(bytes).expect("the listener reads");
    connection
}

#[derive(Default)]
struct Response {
    buffer: Vec<u8>,
    has_body: bool,
}

impl Response {
    fn read(mut self, from: &mut impl Read) -> Option<Reply> {
        loop {
            let end = loop {
                if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                    break at;
                }
                if !self.more(from) {
                    return None;
                }
            };
            let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            self.buffer.drain(..end + 4);
            let mut lines = head.split("\r\n");
            let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
            if status == 100 {
                continue;
            }
            let headers: Vec<_> =
                lines.filter_map(|line| line.split_once(':')).map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect();
            let mut reply = Reply { status, headers, body: Vec::new() };
            if self.has_body {
                reply.body = self.body(&reply, from);
            }
            return Some(reply);
        }
    }

    fn body(mut self, reply: &Reply, from: &mut impl Read) -> Vec<u8> {
        if let Some(length) = reply.header("content-length").and_then(|length| length.parse().ok()) {
            while self.buffer.len() < length && self.more(from) {}
            self.buffer.truncate(length);
            return self.buffer;
        }
        let chunked = reply.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
        if reply.status == 202 || reply.status == 204 || (!chunked && reply.header("content-type").is_none()) {
            return Vec::new();
        }
        if !chunked {
            while self.more(from) {}
            return self.buffer;
        }
        let mut body = Vec::new();
        loop {
            let Some(end) = find(&self.buffer, b"\r\n") else {
                if self.more(from) {
                    continue;
                }
                return body;
            };
            let size = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
            while self.buffer.len() < end + 2 + size + 2 {
                if !self.more(from) {
                    return body;
                }
            }
            body.extend_from_slice(&self.buffer[end + 2..end + 2 + size]);
            self.buffer.drain(..end + 2 + size + 2);
            if size == 0 {
                return body;
            }
        }
    }

    fn more(&mut self, from: &mut impl Read) -> bool {
        let mut bytes = [0; 65_536];
        match from.read(&mut bytes) {
            Ok(count @ 1..) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                true
            }
            _ => false,
        }
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// A client of one revision, with its session.
#[derive(Clone)]
pub struct Client {
    pub address: String,
    pub revision: String,
    pub session: Option<String>,
    /// The path of the endpoint.
    pub path: String,
    /// What is sent as `Authorization: Bearer …`.
    pub token: Option<String>,
}

impl Client {
    /// A client that has said nothing yet.
    pub fn silent(address: &str, revision: &str) -> Client {
        let (address, revision) = (address.to_owned(), revision.to_owned());
        Client { address, revision, session: None, path: "/mcp".to_owned(), token: None }
    }

    /// The same at another path, with a token.
    pub fn at(self, path: &str, token: &str) -> Client {
        Client { path: path.to_owned(), token: Some(token.to_owned()), ..self }
    }

    /// Shakes hands where the revision has a handshake.
    #[track_caller]
    pub fn begin(address: &str, revision: &str) -> Client {
        Client::silent(address, revision).shake_hands()
    }

    /// Shakes hands where the revision has a handshake.
    #[track_caller]
    pub fn shake_hands(self) -> Client {
        let mut client = self;
        let revision = client.revision.clone();
        let revision = revision.as_str();
        if !is_modern(revision) {
            let params = json!({"protocolVersion": revision, "capabilities": {"elicitation": {}, "sampling": {}},
                "clientInfo": {"name": "test", "version": "1"}});
            let headers = client.headers("initialize", None);
            let text = request(revision, "\"begin\"", "initialize", params);
            let reply = client.send(&headers, text.as_bytes()).expect("an answer to initialize");
            assert_eq!(reply.reply("\"begin\"")["result"]["protocolVersion"], revision, "{reply:?}");
            client.session = reply.header("mcp-session-id").map(str::to_owned);
            let headers = client.headers("notifications/initialized", None);
            client.send(&headers, br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        }
        client
    }

    /// The headers that a well-behaved client sends with `method` (and the tool's or prompt's name, or the URI).
    pub fn headers(&self, method: &str, name: Option<&str>) -> Vec<(String, String)> {
        let mut headers =
            vec![("Content-Type", "application/json".to_owned()), ("Accept", "application/json, text/event-stream".to_owned())];
        if is_modern(&self.revision) {
            headers.push(("MCP-Protocol-Version", self.revision.clone()));
            headers.push(("Mcp-Method", method.to_owned()));
            if let Some(name) = name {
                headers.push(("Mcp-Name", mirrored(name)));
            }
        } else {
            if self.revision.as_str() >= "2025-06-18" && method != "initialize" {
                headers.push(("MCP-Protocol-Version", self.revision.clone()));
            }
            if let Some(session) = &self.session {
                headers.push(("Mcp-Session-Id", session.clone()));
            }
        }
        if let Some(token) = &self.token {
            headers.push(("Authorization", format!("Bearer {token}")));
        }
        headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The exact bytes of a POST.
    pub fn post(&self, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
        let mut bytes = format!("POST {} HTTP/1.1\r\nHost: {}\r\n", self.path, self.address).into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    /// A POST with exactly these headers (and Host and Content-Length).
    pub fn send(&self, headers: &[(String, String)], body: &[u8]) -> Option<Reply> {
        exchange(&self.address, &self.post(headers, body))
    }

    /// A request as a well-behaved client sends it.
    #[track_caller]
    pub fn ask(&self, id: &str, method: &str, params: Value) -> Reply {
        let name = params.get("name").or_else(|| params.get("uri")).and_then(Value::as_str).map(str::to_owned);
        let headers = self.headers(method, name.as_deref());
        let text = request(&self.revision, id, method, params);
        self.send(&headers, text.as_bytes()).expect("an answer")
    }

    /// A tools/call as a well-behaved client sends it.
    #[track_caller]
    pub fn call(&self, id: &str, tool: &str, arguments: Value) -> Value {
        self.ask(id, "tools/call", json!({"name": tool, "arguments": arguments})).reply(id)
    }
}

/// An exchange that is read event by event.
pub struct Stream(BufReader<TcpStream>);

impl Stream {
    /// Posts a request.
    pub fn post(client: &Client, id: &str, method: &str, params: Value) -> Stream {
        let name = params.get("name").and_then(Value::as_str).map(str::to_owned);
        let body = request(&client.revision, id, method, params);
        Stream(BufReader::new(open(&client.address, &client.post(&client.headers(method, name.as_deref()), body.as_bytes()))))
    }

    /// Opens the stream of a session.
    pub fn get(client: &Client) -> Stream {
        let session = client.session.clone().expect("a session");
        let head = format!(
            "GET /mcp HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nMcp-Session-Id: {session}\r\nMCP-Protocol-Version: {}\r\n\r\n",
            client.address, client.revision
        );
        let mut stream = Stream(BufReader::new(open(&client.address, head.as_bytes())));
        // The comment that says that the client is heard.
        let mut line = String::new();
        while !line.starts_with(": ") {
            line.clear();
            assert!(stream.0.read_line(&mut line).expect("a stream") > 0);
        }
        stream
    }

    /// The next message.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).expect("an event in time") > 0, "the stream has ended");
            // An event without data has only an id, to come back by.
            if let Some(data) = line.strip_prefix("data:").filter(|data| !data.trim().is_empty()) {
                return serde_json::from_str(data).expect("a message");
            }
            if line.starts_with('{') {
                return serde_json::from_str(&line).expect("a message");
            }
        }
    }
}

/// A name as `Mcp-Name` carries it.
pub fn mirrored(name: &str) -> String {
    use base64::Engine;
    let plain = name.bytes().all(|b| (0x21..0x7f).contains(&b)) && !name.starts_with("=?base64?");
    if plain { name.to_owned() } else { format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(name)) }
}
