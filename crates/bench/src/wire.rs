//! What is sent and answered: the requests of both eras, and the fixed small replies of the echo servers.
//!
//! Every request is one template with a number of ten digits in it, so that requests are as long as each other and cost the
//! generator nothing to make.

/// Which generation of the protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// 2025-11-25: a handshake first, over HTTP a session.
    Legacy,
    /// 2026-07-28: every request says everything.
    Modern,
}

impl Era {
    /// `legacy` or `modern`.
    pub fn as_str(self) -> &'static str {
        match self {
            Era::Legacy => "legacy",
            Era::Modern => "modern",
        }
    }
}

/// The id of the first call; those after it count on. Always ten digits.
pub const FIRST_ID: u64 = 1_000_000_000;
const MARK: &str = "0000000000";

/// The tool that is called, as the echo server knows it.
pub const TOOL: &str = "get_forecast";

/// What an HTTP peer is called by.
#[derive(Clone, Debug)]
pub struct Site {
    /// The value of `Host`.
    pub host: String,
    /// Where is posted to.
    pub path: String,
    /// What the peer calls the echo server's tool.
    pub tool: String,
    /// Whose grant is used, where there are any.
    pub token: Option<String>,
}

/// A request with a place for its id.
pub struct Template {
    text: Vec<u8>,
    at: usize,
}

impl Template {
    fn new(text: String) -> Template {
        let at = text.find(MARK).expect("a template has a place for the id");
        Template { text: text.into_bytes(), at }
    }

    /// Appends the request under `id`.
    pub fn write(&self, id: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.text);
        let mut rest = id;
        for digit in out[start + self.at..start + self.at + MARK.len()].iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).expect("a digit");
            rest /= 10;
        }
    }
}

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;

fn call(era: Era, tool: &str) -> String {
    let meta = if era == Era::Modern { format!(",{META}") } else { String::new() };
    format!(
        r#"{{"jsonrpc":"2.0","id":{MARK},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"city":"Reykjavik","days":3}}{meta}}}}}"#
    )
}

fn list(era: Era) -> String {
    let meta = if era == Era::Modern { META } else { "" };
    format!(r#"{{"jsonrpc":"2.0","id":{MARK},"method":"tools/list","params":{{{meta}}}}}"#)
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// One small `tools/call`.
    Call,
    /// A `tools/list`.
    List,
}

fn body(era: Era, what: What, tool: &str) -> String {
    match what {
        What::Call => call(era, tool),
        What::List => list(era),
    }
}

/// One line of stdio.
pub fn line(era: Era, what: What) -> Template {
    Template::new(body(era, what, TOOL) + "\n")
}

/// One POST. `session`: the value of `Mcp-Session-Id`, where there is one.
pub fn post(era: Era, what: What, site: &Site, session: Option<&str>) -> Template {
    let body = body(era, what, &site.tool);
    let mut head = head(site, body.len());
    match era {
        Era::Legacy => head += "mcp-protocol-version: 2025-11-25\r\n",
        Era::Modern => {
            let (method, name) = match what {
                What::Call => ("tools/call", format!("mcp-name: {}\r\n", site.tool)),
                What::List => ("tools/list", String::new()),
            };
            head += &format!("mcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\n{name}");
        }
    }
    if let Some(session) = session {
        head += &format!("mcp-session-id: {session}\r\n");
    }
    Template::new(head + "\r\n" + &body)
}

fn head(site: &Site, length: usize) -> String {
    let Site { host, path, token, .. } = site;
    let grant = token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: callgate-bench\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json\r\n{grant}content-length: {length}\r\n"
    )
}

/// The handshake of the legacy era: `initialize`, and the notification after it.
pub const HANDSHAKE: [&str; 2] = [
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
];

/// A POST of the handshake.
pub fn post_handshake(site: &Site, body: &str, session: Option<&str>) -> Vec<u8> {
    let session = session.map(|id| format!("mcp-session-id: {id}\r\nmcp-protocol-version: 2025-11-25\r\n")).unwrap_or_default();
    format!("{}{session}\r\n{body}", head(site, body.len())).into_bytes()
}

/// What an echo server is to answer.
pub struct Echo {
    list: String,
}

impl Echo {
    /// An echo server whose `tools/list` is about so many bytes long, and at least one tool.
    pub fn new(list_bytes: usize) -> Echo {
        Echo { list: tools(list_bytes) }
    }

    /// Appends the reply to one message; nothing for a notification. `true` if it was `initialize`.
    pub fn answer(&self, message: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(id) = member(message, br#""id":"#) else { return false };
        let method = member(message, br#""method":"#).unwrap_or_default();
        out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
        out.extend_from_slice(id);
        match method {
            b"\"tools/call\"" => out.extend_from_slice(
                br#","result":{"content":[{"type":"text","text":"Light rain, 9 degrees, wind from the south-west."}],"isError":false}}"#,
            ),
            b"\"tools/list\"" => {
                out.extend_from_slice(b",\"result\":{");
                out.extend_from_slice(self.list.as_bytes());
                out.extend_from_slice(b"}}");
            }
            b"\"initialize\"" => out.extend_from_slice(
                br#","result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"echo","version":"1"}}}"#,
            ),
            b"\"server/discover\"" => out.extend_from_slice(
                br#","result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"echo","version":"1"}}}"#,
            ),
            _ => out.extend_from_slice(br#","error":{"code":-32601,"message":"no such method"}}"#),
        }
        method == b"\"initialize\""
    }
}

/// The members of a result that list tools: `get_forecast`, and fillers up to the length.
pub fn tools(bytes: usize) -> String {
    let schema = r#"{"type":"object","properties":{"city":{"type":"string","description":"Where"},"days":{"type":"integer","description":"How far ahead"}},"required":["city"]}"#;
    let tool =
        |name: &str| format!(r#"{{"name":"{name}","description":"What the weather will be like.","inputSchema":{schema}}}"#);
    let mut text = format!("\"tools\":[{}", tool("get_forecast"));
    for number in 0.. {
        if text.len() >= bytes {
            break;
        }
        text.push(',');
        text += &tool(&format!("filler_{number}"));
    }
    text + "]"
}

/// The scalar after a key: enough for the messages of this module.
fn member<'m>(message: &'m [u8], key: &[u8]) -> Option<&'m [u8]> {
    let at = message.windows(key.len()).position(|window| window == key)? + key.len();
    let length = message[at..].iter().position(|byte| matches!(byte, b',' | b'}'))?;
    Some(&message[at..at + length])
}

/// The id of a reply to one of our calls, if it is one with a result.
pub fn answered(reply: &[u8]) -> Option<u64> {
    // Whatever stands between does not matter, and ours is the only number of ten digits after this key.
    let id = std::str::from_utf8(member(reply, br#""id":"#)?).ok()?.parse().ok()?;
    let is_result =
        reply.windows(9).any(|window| window == br#""result":"#) && !reply.windows(13).any(|w| w == br#""isError":true"#);
    is_result.then_some(id)
}
