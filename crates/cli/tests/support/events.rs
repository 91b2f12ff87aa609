//! An MCP client of 2024-11-05 over HTTP+SSE: one stream of events, and posts of exact bytes.

use super::http::{Reply, exchange, open};
use super::{PATIENCE, call, request};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// A client with its stream open.
pub struct Events {
    pub address: String,
    /// The path that the stream has named.
    pub endpoint: String,
    /// What is shown with every request, where somebody asks for it.
    pub token: Option<String>,
    /// The head of the response that opened the stream.
    pub head: String,
    stream: TcpStream,
    events: Receiver<(String, String)>,
}

impl Events {
    /// Opens `/sse` and waits for the event that names the endpoint.
    #[track_caller]
    pub fn open(address: &str) -> Events {
        Events::open_with(address, None)
    }

    /// The same with a token.
    #[track_caller]
    pub fn open_with(address: &str, token: Option<&str>) -> Events {
        let authorization = authorization(token);
        let bytes = format!("GET /sse HTTP/1.1\r\nHost: {address}\r\n{authorization}Accept: text/event-stream\r\n\r\n");
        let stream = open(address, bytes.as_bytes());
        stream.set_read_timeout(None).expect("a timeout is settable");
        let mut reader = BufReader::new(stream.try_clone().expect("a socket clones"));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|length| length > 0) {}
        let (sender, events) = channel();
        thread::spawn(move || {
            let mut text = String::new();
            while let Some(chunk) = chunk(&mut reader) {
                text.push_str(&chunk);
                while let Some((event, rest)) = text.split_once("\n\n").map(|(event, rest)| (event.to_owned(), rest.to_owned())) {
                    text = rest;
                    let field = |name: &str| {
                        let lines = event.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                        lines.collect::<Vec<_>>().join("\n")
                    };
                    if !field("data").is_empty() && sender.send((field("event"), field("data"))).is_err() {
                        return;
                    }
                }
            }
        });
        let (address, token) = (address.to_owned(), token.map(str::to_owned));
        let mut client = Events { address, endpoint: String::new(), token, head, stream, events };
        let first = client.events.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no first event: {}", client.head));
        assert_eq!(first.0, "endpoint", "{first:?}");
        client.endpoint = first.1;
        client
    }

    /// Posts exactly `body`.
    #[track_caller]
    pub fn post(&self, body: impl AsRef<[u8]>) -> Reply {
        self.post_with(&[("Content-Type".to_owned(), "application/json".to_owned())], body.as_ref()).expect("an answer")
    }

    /// Posts exactly `body` with exactly these headers (and Host and Content-Length).
    pub fn post_with(&self, headers: &[(String, String)], body: &[u8]) -> Option<Reply> {
        let authorization = authorization(self.token.as_deref());
        let mut bytes = format!("POST {} HTTP/1.1\r\nHost: {}\r\n{authorization}", self.endpoint, self.address).into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        exchange(&self.address, &bytes)
    }

    /// The next message on the stream as text, or nothing within `wait`.
    pub fn text(&self, wait: Duration) -> Option<String> {
        let (name, data) = self.events.recv_timeout(wait).ok()?;
        assert_eq!(name, "message", "{data}");
        Some(data)
    }

    #[track_caller]
    pub fn message(&self) -> Value {
        let text = self.text(PATIENCE).expect("a message");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
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

    #[track_caller]
    pub fn ask(&self, id: &str, method: &str, params: Value) -> Value {
        assert_eq!(self.post(request("2024-11-05", id, method, params)).status, 202);
        self.reply(id)
    }

    #[track_caller]
    pub fn call(&self, id: &str, tool: &str, arguments: Value) -> Value {
        assert_eq!(self.post(call("2024-11-05", id, tool, arguments)).status, 202);
        self.reply(id)
    }

    /// The handshake.
    #[track_caller]
    pub fn begin(address: &str) -> Events {
        Events::open(address).shake_hands()
    }

    #[track_caller]
    pub fn shake_hands(self) -> Events {
        let params = json!({"protocolVersion": "2024-11-05", "capabilities": {"sampling": {}},
            "clientInfo": {"name": "test", "version": "1"}});
        let reply = self.ask("\"begin\"", "initialize", params);
        assert_eq!(reply["result"]["protocolVersion"], "2024-11-05", "{reply}");
        self.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        self
    }

    /// Whether the stream ends within `wait`; what it still brings is passed over.
    pub fn ends(&self, wait: Duration) -> bool {
        loop {
            match self.events.recv_timeout(wait) {
                Ok(_) => {}
                Err(error) => return error == RecvTimeoutError::Disconnected,
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

fn authorization(token: Option<&str>) -> String {
    token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default()
}

fn chunk(from: &mut impl BufRead) -> Option<String> {
    let mut size = String::new();
    from.read_line(&mut size).ok().filter(|length| *length > 0)?;
    let size = usize::from_str_radix(size.trim(), 16).ok().filter(|size| *size > 0)?;
    let mut bytes = vec![0; size + 2];
    from.read_exact(&mut bytes).ok()?;
    bytes.truncate(size);
    String::from_utf8(bytes).ok()
}
