//! The tools of an upstream, as its own `tools/list` describes them.
//!
//! Learnt from every list that passes by. A rule that needs a schema which has not passed yet makes the gateway ask for one
//! list of its own, in the era of the connection; calls that need it meanwhile wait for that one list.

use crate::refusal::{is_modern, malformed};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use json::{Document, Strictness, Value};
use mcp::headers::{HeaderMismatch, Mirrored, check_request};
use mcp::tools::ToolList;
use mcp::{Malformed, Message, Revision, Side};
use policy::ToolSchema;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

/// Sends a question of the gateway's own and waits for its reply.
pub(crate) type Ask = Arc<dyn Fn(Message) -> BoxFuture<'static, Option<Message>> + Send + Sync>;

/// Servers take up to 30 s to start on a small machine; twice that.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a server that has failed to give its list is not asked again.
const SILENCE: Duration = Duration::from_secs(5);
/// No server pages today; this many pages is a server that never ends its list.
const MAX_PAGES: usize = 1_000;

/// What a definition says of a tool's arguments. Read when somebody asks: few of the tools of a long list are called.
pub(crate) struct ToolFacts {
    /// The whole definition as the list has it: a part of its text.
    definition: Bytes,
    /// The schema: a part of it.
    text: Bytes,
    schema: OnceLock<ToolSchema>,
    mirrored: OnceLock<Result<Mirrored, String>>,
}

impl ToolFacts {
    fn new(definition: Value<'_>, schema: Value<'_>) -> ToolFacts {
        let (definition, text) = (definition.bytes(), schema.bytes());
        ToolFacts { definition, text, schema: OnceLock::new(), mirrored: OnceLock::new() }
    }

    /// The definition in its canonical text: two that mean the same have the same.
    pub fn definition(&self) -> String {
        let document =
            Document::parse(self.definition.clone(), Strictness::Reply).expect("it was a value in a text that was read");
        document.root().canonical()
    }

    /// What the arguments must look like.
    pub fn schema(&self) -> &ToolSchema {
        self.schema.get_or_init(|| ToolSchema::new(self.document().root()))
    }

    /// Which of the arguments headers repeat; or why the definition is invalid over HTTP.
    pub fn mirrored(&self) -> &Result<Mirrored, String> {
        self.mirrored.get_or_init(|| Mirrored::of(self.document().root()))
    }

    fn document(&self) -> Document {
        Document::parse(self.text.clone(), Strictness::Reply).expect("it was a value in a text that was read")
    }
}

#[derive(Default)]
struct Known {
    tools: HashMap<String, Arc<ToolFacts>>,
    /// Whether all pages of one list have been seen since it last changed.
    complete: bool,
    /// How often it has changed.
    generation: u64,
    /// When the server last failed to give its list.
    failed: Option<Instant>,
}

/// What is known of an upstream's tools. Shared by all conversations with it.
#[derive(Default)]
pub(crate) struct LiveTools {
    known: Mutex<Known>,
    asking: tokio::sync::Mutex<()>,
}

/// The tools of an upstream, and a way to ask for them.
#[derive(Clone)]
pub(crate) struct Schemas {
    pub tools: Arc<LiveTools>,
    pub ask: Ask,
}

impl LiveTools {
    /// Takes in one page.
    pub fn learn(&self, list: &ToolList<'_>) {
        let mut known = self.lock();
        for tool in list.tools() {
            if let Some(schema) = tool.input_schema {
                // Most lists say what the last one has said.
                let is_known = known.tools.get(&*tool.name).is_some_and(|facts| facts.definition == tool.definition.raw());
                if !is_known {
                    known.tools.insert(tool.name.to_string(), Arc::new(ToolFacts::new(tool.definition, schema)));
                }
            }
        }
    }

    /// Forgets everything: the list has changed.
    pub fn forget(&self) {
        let mut known = self.lock();
        *known = Known { generation: known.generation + 1, ..Known::default() };
    }

    /// What is known of a tool.
    pub fn known(&self, tool: &str) -> Option<Arc<ToolFacts>> {
        self.lock().tools.get(tool).cloned()
    }

    /// Whether asking would bring nothing new: the tool is known, or is in no list, or the server has just failed to give one.
    pub fn is_settled(&self, tool: &str) -> bool {
        let known = self.lock();
        let silent = known.failed.is_some_and(|failed| failed.elapsed() < SILENCE);
        known.tools.contains_key(tool) || known.complete || silent
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Schemas {
    /// Checks the headers of a POST against its body, and gives the revision they agree on.
    pub async fn check_headers(&self, headers: &HeaderMap, message: &Message) -> Result<Revision, Malformed> {
        let refused =
            |mismatch: HeaderMismatch| Malformed { data: mismatch.data, ..malformed(message, mismatch.code, &mismatch.message) };
        let revision = check_request(headers, message, None).map_err(refused)?;
        // Nobody is asked for the sake of a message that is refused anyway.
        match self.of_call(message).await.as_deref().map(ToolFacts::mirrored) {
            Some(Ok(mirrored)) if !mirrored.is_empty() => check_request(headers, message, Some(mirrored)).map_err(refused),
            Some(_) | None => Ok(revision),
        }
    }

    /// What is known of the tool that a `tools/call` of the stateless era calls: its headers repeat some of its arguments.
    pub async fn of_call(&self, message: &Message) -> Option<Arc<ToolFacts>> {
        if !is_modern(message) || message.method() != Some("tools/call") {
            return None;
        }
        self.of(&message.params()?.get("name")?.as_str()?, message).await
    }

    /// What is known of `tool`; asks the upstream where it is not known yet. `like` is a message of the connection whose era
    /// the question takes.
    pub async fn of(&self, tool: &str, like: &Message) -> Option<Arc<ToolFacts>> {
        if self.tools.is_settled(tool) {
            return self.tools.known(tool);
        }
        let _one_at_a_time = self.tools.asking.lock().await;
        if self.tools.is_settled(tool) {
            return self.tools.known(tool);
        }
        if tokio::time::timeout(PATIENCE, self.list(like)).await.is_err() {
            warn!(tool, "the server has not answered a tools/list of ours");
        }
        let mut known = self.tools.lock();
        known.failed = (!known.complete).then(Instant::now);
        drop(known);
        self.tools.known(tool)
    }

    async fn list(&self, like: &Message) {
        let (mut cursor, mut seen) = (None, HashSet::new());
        let generation = self.tools.lock().generation;
        for _ in 0..MAX_PAGES {
            let Some(question) = question(like, cursor.as_deref()) else { return };
            let Some(reply) = (self.ask)(question).await else { return };
            let Some(Ok(list)) = reply.result().map(ToolList::of) else {
                warn!("the server has answered a tools/list of ours with something else");
                return;
            };
            self.tools.learn(&list);
            cursor = list.next_cursor().and_then(|cursor| cursor.as_str()).map(|cursor| cursor.into_owned());
            if cursor.is_none() {
                let mut known = self.tools.lock();
                // A list that has changed meanwhile is not the one that was read.
                known.complete = known.generation == generation;
                return;
            }
            // A cursor that was there before leads round in a circle.
            if !seen.insert(cursor.clone()) {
                break;
            }
        }
        warn!("the server's tools/list does not end");
    }
}

/// A `tools/list` under an id that no client uses. In the modern era it carries the caller's own envelope.
fn question(like: &Message, cursor: Option<&str>) -> Option<Message> {
    let mut params = Vec::new();
    if let Some(cursor) = cursor {
        params.push(format!("\"cursor\":{}", json::quote(cursor)));
    }
    let envelope = like.params().and_then(|params| params.get("_meta")).and_then(Value::members);
    let envelope: Vec<_> = envelope
        .into_iter()
        .flatten()
        .filter(|member| member.key.starts_with("io.modelcontextprotocol/"))
        .map(|member| format!("{}:{}", json::quote(&member.key), member.value.raw()))
        .collect();
    if !envelope.is_empty() {
        params.push(format!("\"_meta\":{{{}}}", envelope.join(",")));
    }
    let text =
        format!(r#"{{"jsonrpc":"2.0","id":{},"method":"tools/list","params":{{{}}}}}"#, json::quote(&own_id()), params.join(","));
    Message::parse(text, Side::Client).ok()
}

/// An id for a question of the gateway's own, never used twice in a process.
pub(crate) fn own_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("callgate-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_list_that_leads_round_in_a_circle_is_given_up() {
        let asked = Arc::new(AtomicU64::new(0));
        let count = asked.clone();
        let ask: Ask = Arc::new(move |question| {
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                let id = question.id()?.text().to_owned();
                let page = r#"{"tools":[{"name":"a","inputSchema":{"type":"object"}}],"nextCursor":""}"#;
                Message::parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{page}}}"#), Side::Server).ok()
            })
        });
        let schemas = Schemas { tools: Arc::default(), ask };
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"b"}}"#;
        let call = Message::parse(call, Side::Client).expect("it is a message");
        assert!(schemas.of("b", &call).await.is_none());
        // Its first page, and the one that says the same again.
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert!(schemas.of("a", &call).await.is_some());
    }
}
