//! JSON-RPC messages, as MCP has them.
//!
//! A message is one JSON object in exactly one of three shapes. What a client sends is read with all strictness, because a
//! server behind us that reads it differently is a way around the policy; what a server sends is read leniently, except for
//! the members that we (or a client) find their way by. A message that fails is never forwarded, so a failure carries what
//! its answer and its record need.

use crate::id::Id;
use crate::keys::{self, Clash};
use crate::reply;
use crate::revision::Revision;
use crate::splice::Edit;
use bytes::{Bytes, BytesMut};
use json::{Document, Kind as JsonKind, Strictness, Value};
use memchr::{memchr, memchr3};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// 2025-11-25 §Elicitation: an empty object means forms, as it did when there was nothing else.
fn elicits(capabilities: Value<'_>) -> bool {
    let Some(elicitation) = capabilities.get("elicitation").filter(|value| value.kind() == JsonKind::Object) else {
        return false;
    };
    elicitation.get("form").is_some() || elicitation.members().is_some_and(|mut members| members.next().is_none())
}

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client: read strictly.
    Client,
    /// The server: read leniently where nothing depends on it.
    Server,
}

/// The shape of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Has a method and an id; an answer is due.
    Request,
    /// Has a method and no id.
    Notification,
    /// Has a result or an error.
    Response {
        /// Whether it is an error.
        is_error: bool,
    },
}

/// One message and its text.
#[derive(Clone, Debug)]
pub struct Message {
    document: Document,
    kind: Kind,
    method: Option<Box<str>>,
    id: Option<(Id, Range<usize>)>,
}

/// Why a text is no message (or no call), and what its answer and its record need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// [`reply::PARSE_ERROR`], [`reply::INVALID_REQUEST`] or [`reply::INVALID_PARAMS`].
    pub code: i64,
    /// The id, when there is exactly one that can be read.
    pub id: Option<Id>,
    /// What is wrong, for a person: one sentence without a full stop.
    pub message: String,
    /// The error's `data` as JSON text, where its code asks for some.
    pub data: Option<String>,
    /// The method, as far as one can be read; for the record only.
    pub method: Option<String>,
    /// The tool's name, as far as one can be read; for the record only.
    pub tool: Option<String>,
    /// Whether the sender waits for an answer: false when the text is plainly a notification or a response.
    pub wants_reply: bool,
}

impl Malformed {
    /// Whether the text is no JSON at all: from a server, noise between its messages.
    pub fn is_noise(&self) -> bool {
        self.code == reply::PARSE_ERROR
    }

    /// The JSON-RPC error that answers it; `None` where nobody waits for one. The id is `null` where none could be read.
    pub fn reply(&self) -> Option<Bytes> {
        self.wants_reply.then(|| self.error())
    }

    /// The JSON-RPC error that says what is wrong, whether or not anybody waits for it: over HTTP there is always an answer.
    pub fn error(&self) -> Bytes {
        reply::error(self.id.as_ref(), self.code, &self.message, self.data.as_deref())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Malformed {}

impl Message {
    /// Reads exactly one message.
    ///
    /// From a client these are refused besides what is no JSON-RPC: whatever [`Strictness::Request`] refuses, keys that look
    /// like a protocol key (`Method`, `paramſ`) in the message, its `params` and its `_meta`, `params` that are no object
    /// (`null` counts as absent), and ids that are no string or integer. From a server: look-alikes in the message, and
    /// members that are read twice.
    ///
    /// # Errors
    /// [`Malformed`]: -32700 for a text that is no JSON or that readers would understand differently, -32600 for a wrong
    /// shape, -32602 for `params` that are no object.
    pub fn parse(text: impl Into<Bytes>, side: Side) -> Result<Message, Malformed> {
        let text = text.into();
        let strictness = match side {
            Side::Client => Strictness::Request,
            Side::Server => Strictness::Reply,
        };
        let document = match Document::parse(text.clone(), strictness) {
            Ok(document) => document,
            Err(error) => return Err(salvage(text, reply::PARSE_ERROR, format!("invalid message: {error}"))),
        };
        match shape(&document, side) {
            Ok((kind, method, id)) => Ok(Message { kind, method, id, document }),
            Err((code, message)) => Err(salvage(text, code, format!("invalid message: {message}"))),
        }
    }

    /// The message's shape.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The id of a request or response. A server's error may lack one: it could not read what it answers.
    pub fn id(&self) -> Option<&Id> {
        self.id.as_ref().map(|(id, _)| id)
    }

    /// The method of a request or notification, decoded.
    pub fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// The parameters, an object; `None` where absent or null.
    pub fn params(&self) -> Option<Value<'_>> {
        self.document.root().get("params").filter(|params| !params.is_null())
    }

    /// The result of a response that is no error.
    pub fn result(&self) -> Option<Value<'_>> {
        self.document.root().get("result")
    }

    /// The error of a response.
    pub fn error(&self) -> Option<Value<'_>> {
        self.document.root().get("error")
    }

    /// The member `key` of `_meta`, which stands in `params`, or in `result` of a response.
    pub fn meta(&self, key: &str) -> Option<Value<'_>> {
        self.params().or_else(|| self.result())?.get("_meta")?.get(key)
    }

    /// The revision that the message names in `_meta`, as modern requests do; decoded, and not necessarily one we know.
    pub fn protocol_version(&self) -> Option<Cow<'_, str>> {
        self.meta(keys::PROTOCOL_VERSION)?.as_str()
    }

    /// The level from which on a modern request wants to be told what the server logs.
    pub fn log_level(&self) -> Option<Cow<'_, str>> {
        self.meta(keys::LOG_LEVEL)?.as_str()
    }

    /// Whether the client of the stateless era that sends this can ask a person to fill in a form.
    pub fn declares_elicitation(&self) -> bool {
        self.meta(keys::CLIENT_CAPABILITIES).is_some_and(elicits)
    }

    /// Whether the client of the stateless era that sends this knows an extension.
    pub fn declares_extension(&self, extension: &str) -> bool {
        let declared = self.meta(keys::CLIENT_CAPABILITIES).and_then(|able| able.get("extensions")?.get(extension));
        declared.is_some_and(|declared| !declared.is_null())
    }

    /// Whether the client of the legacy era that sends this `initialize` can ask a person to fill in a form.
    pub fn agrees_to_elicitation(&self) -> bool {
        self.params().and_then(|params| params.get("capabilities")).is_some_and(elicits)
    }

    /// Whether the client that sends this, a request of the stateless era or an `initialize`, can have a person open an
    /// address (elicitation in URL mode).
    pub fn opens_urls(&self) -> bool {
        let of_handshake = || self.params()?.get("capabilities");
        let elicitation = self.meta(keys::CLIENT_CAPABILITIES).or_else(of_handshake).and_then(|able| able.get("elicitation"));
        elicitation.and_then(|elicitation| elicitation.get("url")).is_some_and(|url| url.kind() == JsonKind::Object)
    }

    /// The progress token: of a request in `_meta`, of `notifications/progress` in `params`.
    pub fn progress_token(&self) -> Option<Value<'_>> {
        match self.kind {
            Kind::Request => self.meta("progressToken"),
            Kind::Notification => self.params()?.get("progressToken"),
            Kind::Response { .. } => None,
        }
    }

    /// The id that `notifications/cancelled` speaks of.
    pub fn cancelled_id(&self) -> Option<Value<'_>> {
        (self.method() == Some("notifications/cancelled")).then(|| self.params()?.get("requestId"))?
    }

    /// The id of the `subscriptions/listen` request that a notice or the final result belongs to.
    pub fn subscription_id(&self) -> Option<Value<'_>> {
        self.meta(keys::SUBSCRIPTION_ID)
    }

    /// The parsed text.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The text as it came.
    pub fn text(&self) -> &Bytes {
        self.document.text()
    }

    /// Begins an edit of the text, by the spans of values of [`Message::document`].
    pub fn edit(&self) -> Edit<'_> {
        Edit::new(self.text())
    }

    /// The same text with `id` in the place of the message's id; unchanged where it has none.
    pub fn with_id(&self, id: &Id) -> Bytes {
        self.edit_with_id(id).finish()
    }

    /// Begins an edit that puts `id` in the place of the message's id, where it has one.
    pub fn edit_with_id<'m>(&'m self, id: &'m Id) -> Edit<'m> {
        match &self.id {
            Some((_, span)) => self.edit().replace(span.clone(), id.text()),
            None => self.edit(),
        }
    }

    /// Gives a JSON text the form in which it is one line to every reader: CR and LF between tokens become spaces, U+0085,
    /// U+2028 and U+2029 in strings become `\u` escapes. Everything else stays byte for byte; the line end is not added.
    ///
    /// `text` must be valid JSON, as the text of a [`Message`] is.
    pub fn for_line(text: &Bytes) -> Bytes {
        let found = [memchr3(b'\r', b'\n', 0xC2, text), memchr(0xE2, text)];
        let Some(first) = found.into_iter().flatten().min() else { return text.clone() };
        let mut out = BytesMut::with_capacity(text.len() + 16);
        let (mut in_string, mut at, mut kept) = (text[..first].iter().filter(|b| **b == b'"').count() % 2 == 1, first, 0);
        // An escaped quote before `first` would upset the parity: then begin at the beginning.
        if text[..first].contains(&b'\\') {
            (in_string, at) = (false, 0);
        }
        while at < text.len() {
            let (replacement, length): (&[u8], usize) = match text[at] {
                b'"' => {
                    in_string = !in_string;
                    at += 1;
                    continue;
                }
                b'\\' if in_string => {
                    at += 2;
                    continue;
                }
                b'\r' | b'\n' => (b" ", 1),
                0xC2 if text[at..].starts_with(b"\xC2\x85") => (br"\u0085", 2),
                0xE2 if text[at..].starts_with(b"\xE2\x80\xA8") => (br"\u2028", 3),
                0xE2 if text[at..].starts_with(b"\xE2\x80\xA9") => (br"\u2029", 3),
                _ => {
                    at += 1;
                    continue;
                }
            };
            out.extend_from_slice(&text[kept..at]);
            out.extend_from_slice(replacement);
            at += length;
            kept = at;
        }
        out.extend_from_slice(&text[kept..]);
        out.freeze()
    }
}

type Shape = (Kind, Option<Box<str>>, Option<(Id, Range<usize>)>);

/// Finds the one shape that the document has, or says with which code it is refused and why.
fn shape(document: &Document, side: Side) -> Result<Shape, (i64, String)> {
    let invalid = |message: &str| (reply::INVALID_REQUEST, message.to_owned());
    let clash = |clash: Clash| (reply::INVALID_REQUEST, clash.to_string());
    let root = document.root();
    if root.kind() != JsonKind::Object {
        return Err(invalid("a message must be one JSON object"));
    }
    keys::check_twice(Some(root), keys::MESSAGE).map_err(clash)?;
    keys::check_look_alikes(Some(root), keys::MESSAGE).map_err(clash)?;
    if root.get("jsonrpc").and_then(Value::as_str).as_deref() != Some("2.0") {
        return Err(invalid("`jsonrpc` must be the string \"2.0\""));
    }
    let (params, result, error) = (root.get("params"), root.get("result"), root.get("error"));
    let id = match root.get("id") {
        None => None,
        // A server that could not read the id of what it answers says so with null.
        Some(id) if id.is_null() && side == Side::Server && error.is_some() => None,
        Some(id) => Some((Id::of(id).map_err(invalid)?, id.span())),
    };
    let Some(method) = root.get("method") else {
        let is_error = match (result, error) {
            (Some(_), None) => false,
            (None, Some(error)) if error.kind() == JsonKind::Object => true,
            (None, Some(_)) => return Err(invalid("`error` must be an object")),
            (None, None) => return Err(invalid("none of `method`, `result` and `error` is there")),
            (Some(_), Some(_)) => return Err(invalid("`result` and `error` exclude each other")),
        };
        if id.is_none() && !(is_error && side == Side::Server) {
            return Err(invalid("a response needs an `id`"));
        }
        keys::check_twice(result, keys::RESULT).map_err(clash)?;
        keys::check_twice(result.and_then(|result| result.get("_meta")), keys::META).map_err(clash)?;
        return Ok((Kind::Response { is_error }, None, id));
    };
    if result.is_some() || error.is_some() {
        return Err(invalid("`method` excludes `result` and `error`"));
    }
    let Some(method) = method.as_str() else { return Err(invalid("`method` must be a string")) };
    if method.len() > MAX_NAME_BYTES {
        return Err(invalid("`method` is longer than 256 bytes"));
    }
    if params.is_some_and(|params| !matches!(params.kind(), JsonKind::Object | JsonKind::Null)) {
        return Err((reply::INVALID_PARAMS, "`params` must be an object".to_owned()));
    }
    let meta = params.and_then(|params| params.get("_meta"));
    keys::check_twice(params, keys::PARAMS).map_err(clash)?;
    keys::check_twice(meta, keys::META).map_err(clash)?;
    if side == Side::Client {
        keys::check_look_alikes(params, keys::PARAMS).map_err(clash)?;
        keys::check_look_alikes(meta, keys::META).map_err(clash)?;
        if meta.is_some_and(|meta| meta.kind() != JsonKind::Object) {
            return Err((reply::INVALID_PARAMS, "`_meta` must be an object".to_owned()));
        }
    }
    let kind = if id.is_some() { Kind::Request } else { Kind::Notification };
    Ok((kind, Some(method.into()), id))
}

/// Reads from a refused text what its answer and its record need, as far as that is without doubt.
fn salvage(text: Bytes, code: i64, message: String) -> Malformed {
    let mut malformed = Malformed { code, id: None, message, data: None, method: None, tool: None, wants_reply: true };
    let Ok(document) = Document::parse(text, Strictness::Reply) else { return malformed };
    let mut root = document.root();
    // Of a batch that is refused as a whole, the first item stands in the record; it gets no answer of its own.
    let is_batch = root.kind() == JsonKind::Array;
    if let Some(first) = root.elements().and_then(|mut elements| elements.next()) {
        root = first;
    }
    malformed.method = root.get("method").and_then(Value::as_str).map(Cow::into_owned);
    if malformed.method.as_deref() == Some("tools/call") {
        malformed.tool = root.get("params").and_then(|params| params.get("name")?.as_str()).map(Cow::into_owned);
    }
    if is_batch {
        return malformed;
    }
    if keys::check_twice(Some(root), &["id"]).is_ok() && keys::check_look_alikes(Some(root), &["id"]).is_ok() {
        malformed.id = root.get("id").and_then(|id| Id::of(id).ok());
        let is_response = root.get("method").is_none() && (root.get("result").is_some() || root.get("error").is_some());
        let is_notification = malformed.method.is_some() && root.get("id").is_none();
        malformed.wants_reply = !is_response && !is_notification;
    }
    malformed
}

const MAX_NAME_BYTES: usize = 256;

/// The largest batch that is read, in items. A limit of ours: the protocol states none.
pub const MAX_BATCH: usize = 100;

/// What one line or one body holds.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// One message.
    One(Message),
    /// A batch, never empty, each item by itself. Items that fail are answered one by one.
    Batch(Vec<Result<Message, Malformed>>),
}

impl Incoming {
    /// Reads one line or body, in which a batch may stand if `revision` has batches.
    ///
    /// # Errors
    /// As [`Message::parse`]; and -32600 for a batch in a revision without, an empty one, and one of more than [`MAX_BATCH`]
    /// items: then no item of it may pass. An item that is an array, or `initialize`, fails alone.
    pub fn parse(text: impl Into<Bytes>, side: Side, revision: Revision) -> Result<Incoming, Malformed> {
        let text = text.into();
        if text.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'[') {
            return Message::parse(text, side).map(Incoming::One);
        }
        // The frame is read leniently and every item strictly, by itself: an item must not pass or fail by its neighbours.
        let document = match Document::parse(text.clone(), Strictness::Reply) {
            Ok(document) => document,
            Err(error) => return Err(salvage(text, reply::PARSE_ERROR, format!("invalid message: {error}"))),
        };
        let length = document.root().elements().into_iter().flatten().take(MAX_BATCH + 1).count();
        let problem = match length {
            _ if !revision.has_batches() => Some(format!("protocol revision {revision} has no batches; send one message")),
            0 => Some("an empty batch".to_owned()),
            _ if length > MAX_BATCH => Some(format!("a batch of more than {MAX_BATCH} messages")),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(salvage(text, reply::INVALID_REQUEST, format!("invalid message: {problem}")));
        }
        let items = document.root().elements().into_iter().flatten().map(|item| {
            let message = Message::parse(item.bytes(), side)?;
            if message.method() == Some("initialize") {
                // 2025-03-26 §Lifecycle: the initialize request MUST NOT be part of a batch.
                let problem = "invalid message: `initialize` must not be part of a batch".to_owned();
                return Err(salvage(item.bytes(), reply::INVALID_REQUEST, problem));
            }
            Ok(message)
        });
        Ok(Incoming::Batch(items.collect()))
    }
}

/// A `tools/call`, checked.
#[derive(Clone, Debug)]
pub struct ToolCall<'m> {
    /// The tool's name, decoded: 1 to 256 bytes, without control and invisible characters.
    pub name: Cow<'m, str>,
    /// The arguments, an object; `None` where absent.
    pub arguments: Option<Value<'m>>,
    /// The task the client wants to follow the call by (2025-11-25), an object.
    pub task: Option<Value<'m>>,
    /// What the server gave to be handed back (2026-07-28), a string; forwarded as it came, never logged whole.
    pub request_state: Option<Value<'m>>,
    /// Answers to what the server asked (2026-07-28), an object: a second channel of arguments.
    pub input_responses: Option<Value<'m>>,
}

impl<'m> ToolCall<'m> {
    /// Reads the call that a `tools/call` request makes. Call it by the method table, not by trial: it is an error, not
    /// another method, when the parameters are wrong.
    ///
    /// # Errors
    /// -32602 for parameters that are missing or of a wrong type, also `"arguments": null`; -32600 for a message that is no
    /// `tools/call` request.
    pub fn of(message: &'m Message) -> Result<ToolCall<'m>, Malformed> {
        let refuse = |code, problem: &str| Err(salvage(message.text().clone(), code, format!("invalid call: {problem}")));
        let wrong = |problem: &str| refuse(reply::INVALID_PARAMS, problem);
        if message.kind() != Kind::Request || message.method() != Some("tools/call") {
            return refuse(reply::INVALID_REQUEST, "`tools/call` must be a request with an `id`");
        }
        let Some(params) = message.params() else { return wrong("`params` must be an object with a `name`") };
        let Some(name) = params.get("name").and_then(Value::as_str) else { return wrong("`name` must be a string") };
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return wrong("`name` must have 1 to 256 bytes");
        }
        if name.chars().any(json::is_unprintable) {
            return wrong("`name` holds a control or invisible character");
        }
        // A reader that trims would take it for another tool.
        if name.trim() != name {
            return wrong("`name` begins or ends with white space");
        }
        let is = |key: &str, kind| params.get(key).is_none_or(|value| value.kind() == kind);
        if !is("arguments", JsonKind::Object) {
            return wrong("`arguments` must be an object");
        }
        if !is("task", JsonKind::Object) {
            return wrong("`task` must be an object");
        }
        if !is("requestState", JsonKind::String) {
            return wrong("`requestState` must be a string");
        }
        if !is("inputResponses", JsonKind::Object) {
            return wrong("`inputResponses` must be an object");
        }
        Ok(ToolCall {
            name,
            arguments: params.get("arguments"),
            task: params.get("task"),
            request_state: params.get("requestState"),
            input_responses: params.get("inputResponses"),
        })
    }
}
