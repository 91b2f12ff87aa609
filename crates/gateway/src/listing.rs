//! Asking a server for its tools, as a client would.
//!
//! First with the handshake of the legacy era, which nearly every server speaks; a server that refuses it is asked in the
//! stateless era.

use crate::enforcer::{Caller, Permit};
use crate::pins::Section;
use crate::tools::{Schemas, own_id, section_of};
use crate::upstream::{Connection, Inbound, Link, Upstream};
use catalogue::Pinned;
use json::{Document, Strictness, quote};
use mcp::{Id, Message, Revision, Side};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// What a server says of itself and its tools.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The name it gives itself; not to be trusted.
    pub server_name: Option<String>,
    /// The revision that was spoken.
    pub revision: String,
    /// What it tells the model to begin with.
    pub instructions: Option<String>,
    /// Each tool's whole definition, as JSON text, in the order of the list.
    pub tools: Vec<String>,
    /// The same of its prompts.
    pub prompts: Vec<String>,
}

impl Listing {
    /// All of it as a capture: `{"server", "protocolVersion", "instructions"?, "prompts", "tools"}`, each definition as the server
    /// wrote it. What reads a `tools/list` reads it too.
    pub fn to_capture(&self, server: &str) -> String {
        let instructions = self.instructions.as_deref().map(|text| format!(r#""instructions":{},"#, quote(text)));
        format!(
            r#"{{"server":{},"protocolVersion":{},{}"prompts":[{}],"tools":[{}]}}"#,
            quote(server),
            quote(&self.revision),
            instructions.unwrap_or_default(),
            self.prompts.join(","),
            self.tools.join(",")
        )
    }

    /// The definitions as they are pinned.
    pub fn to_pinned(&self) -> Pinned {
        let pinned = |list: &[String]| {
            let read = |text: &String| Document::parse(text.clone(), Strictness::Reply).ok();
            let named = |document: Document| {
                let root = document.root();
                Some((root.get("name")?.as_str()?.into_owned(), root.canonical()))
            };
            Some(list.iter().filter_map(read).filter_map(named).collect())
        };
        Pinned { instructions: Some(self.instructions.clone()), tools: pinned(&self.tools), prompts: pinned(&self.prompts) }
    }
}

/// Why a server's tools could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// The child cannot be started.
    #[error("the server cannot be started: {0}")]
    Start(#[from] std::io::Error),
    /// It did not answer in time.
    #[error("the server has not answered within {0:?}; give it longer with --timeout")]
    Timeout(Duration),
    /// It ended, or answered with something else.
    #[error("{0}")]
    Answer(String),
}

const MAX_PAGES: usize = 1_000;

/// All pages together may be as long as a single reply.
const MAX_LISTED_BYTES: usize = 64 * 1024 * 1024;

/// Lists the tools of `upstream`, all pages, within `timeout`.
pub async fn list_tools(upstream: &Upstream, timeout: Duration) -> Result<Listing, ListingError> {
    // Nothing is known yet that headers would have to repeat.
    let schemas = Schemas { tools: Arc::default(), ask: Arc::new(|_| Box::pin(async { None })) };
    let Connection { mut link, mut inbound } = upstream.connect(&schemas, &Caller::nobody())?;
    let listed = tokio::time::timeout(timeout, list(&mut link, &mut inbound)).await;
    let _ = link.shut_down(Duration::from_secs(1)).await;
    listed.unwrap_or(Err(ListingError::Timeout(timeout)))
}

async fn list(link: &mut Link, inbound: &mut mpsc::Receiver<Inbound>) -> Result<Listing, ListingError> {
    let latest = Revision::V2025_11_25;
    let greeting = ask(link, inbound, "initialize", &mcp::initialize_params(latest)).await?;
    let (envelope, greeting) = match greeting.result().is_some() {
        true => {
            send(link, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned())?;
            (None, greeting)
        }
        false => {
            let envelope = format!(
                concat!(
                    r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"{}","io.modelcontextprotocol/clientCapabilities":{{}},"#,
                    r#""io.modelcontextprotocol/clientInfo":{}}}"#
                ),
                Revision::V2026_07_28.as_str(),
                mcp::IMPLEMENTATION
            );
            let greeting = ask(link, inbound, "server/discover", &format!("{{{envelope}}}")).await?;
            (Some(envelope), greeting)
        }
    };
    let result = greeting.result();
    let text = |value: Option<json::Value<'_>>| value.and_then(|value| value.as_str()).map(|text| text.into_owned());
    let server_name = text(result.and_then(|result| {
        let info = result.get("serverInfo").or_else(|| result.get("_meta")?.get("io.modelcontextprotocol/serverInfo"));
        info?.get("name")
    }));
    let revision = match envelope {
        Some(_) => Revision::V2026_07_28.as_str().to_owned(),
        None => text(result.and_then(|result| result.get("protocolVersion"))).unwrap_or_else(|| latest.as_str().to_owned()),
    };
    let says = |name: &str| result.and_then(|result| result.get("capabilities")?.get(name)).is_some();
    let instructions = text(result.and_then(|result| result.get("instructions")));
    let tools = pages(link, inbound, Section::Tools, envelope.as_deref()).await?;
    let prompts = match says("prompts") {
        true => pages(link, inbound, Section::Prompts, envelope.as_deref()).await?,
        false => Vec::new(),
    };
    Ok(Listing { server_name, revision, instructions, tools, prompts })
}

/// All pages of a list.
async fn pages(
    link: &mut Link,
    inbound: &mut mpsc::Receiver<Inbound>,
    section: Section,
    envelope: Option<&str>,
) -> Result<Vec<String>, ListingError> {
    let (method, what) = match section {
        Section::Tools => ("tools/list", "tools"),
        Section::Prompts => ("prompts/list", "prompts"),
    };
    let text = |value: Option<json::Value<'_>>| value.and_then(|value| value.as_str()).map(|text| text.into_owned());
    let (mut definitions, mut names) = (Vec::new(), HashSet::new());
    let (mut cursor, mut seen): (Option<String>, HashSet<Option<String>>) = Default::default();
    let mut listed = 0;
    for _ in 0..MAX_PAGES {
        let mut params: Vec<String> = envelope.map(str::to_owned).into_iter().collect();
        params.extend(cursor.take().map(|cursor| format!("\"cursor\":{}", json::quote(&cursor))));
        let page = ask(link, inbound, method, &format!("{{{}}}", params.join(","))).await?;
        let Some(result) = page.result() else {
            let why = text(page.error().and_then(|error| error.get("message"))).unwrap_or_default();
            return Err(ListingError::Answer(format!("the server refuses to list its {what}: {}", why.escape_debug())));
        };
        listed += result.raw().len();
        if listed > MAX_LISTED_BYTES {
            break;
        }
        let list = section_of(section, result).map_err(|error| ListingError::Answer(error.to_string()))?;
        // Of two definitions of one name the first counts here; on one page the second is left out already. Before a server
        // that says so to clients, neither is shown.
        definitions
            .extend(list.tools().filter(|tool| names.insert(tool.name.to_string())).map(|tool| tool.definition.raw().to_owned()));
        cursor = text(list.next_cursor());
        if cursor.is_none() {
            return Ok(definitions);
        }
        // A cursor that was there before leads round in a circle.
        if !seen.insert(cursor.clone()) {
            break;
        }
    }
    Err(ListingError::Answer(format!("the server's list of {what} does not end")))
}

/// Asks one question and waits for its reply; whatever else the server says meanwhile is passed over, its questions refused.
async fn ask(
    link: &mut Link,
    inbound: &mut mpsc::Receiver<Inbound>,
    method: &str,
    params: &str,
) -> Result<Message, ListingError> {
    let id = Id::from(own_id().as_str());
    send(link, format!(r#"{{"jsonrpc":"2.0","id":{},"method":"{method}","params":{params}}}"#, id.text()))?;
    loop {
        match inbound.recv().await {
            Some(Inbound::Message(message)) if message.method().is_none() && message.id() == Some(&id) => return Ok(message),
            Some(Inbound::Message(message)) if message.method().is_some() && message.id().is_some() => {
                let answer = mcp::reply::error(message.id(), mcp::reply::METHOD_NOT_FOUND, "not here", None);
                if let Some(permit) = Message::parse(answer, Side::Client).ok().and_then(Permit::answer) {
                    link.send(permit);
                }
            }
            Some(Inbound::Message(_) | Inbound::Beside { .. } | Inbound::Of { .. }) => {}
            Some(Inbound::Failed { id: failed, failure }) if failed == id => {
                // An HTTP server of the stateless era refuses `initialize` with a bare status.
                let refused = failure.status.is_some_and(|status| (400..500).contains(&status));
                if method == "initialize" && refused {
                    let error = mcp::reply::error(Some(&id), mcp::reply::METHOD_NOT_FOUND, &failure.message, None);
                    return Message::parse(error, Side::Server).map_err(|malformed| ListingError::Answer(malformed.message));
                }
                return Err(ListingError::Answer(failure.message));
            }
            Some(Inbound::Failed { .. }) => {}
            Some(Inbound::Closed) | None => {
                return Err(ListingError::Answer("the server has ended before it listed its tools".into()));
            }
        }
    }
}

fn send(link: &mut Link, text: String) -> Result<(), ListingError> {
    let message = Message::parse(text, Side::Client).map_err(|malformed| ListingError::Answer(malformed.message))?;
    let permit = Permit::own(message).ok_or_else(|| ListingError::Answer("not a question of the gateway's".into()))?;
    link.send(permit).outcome.map_err(|failure| ListingError::Answer(failure.message))
}
