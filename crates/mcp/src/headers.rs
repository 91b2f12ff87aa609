//! The HTTP headers of a message.
//!
//! From 2026-07-28 on, headers repeat parts of the body so that intermediaries can route without reading it. Whoever reads
//! the body must refuse a request whose headers say something else, because the next hop may go by the other one
//! (`docs/specification/2026-07-28/basic/transports/streamable-http.mdx`, §Server Validation). Here, the body always decides.
//!
//! Before that, there is `MCP-Protocol-Version` only: absent it means 2025-03-26, and an unknown one is refused.

use crate::keys;
use crate::message::{Kind, Message};
use crate::reply;
use crate::revision::{Era, Revision};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use json::{Decimal, Kind as JsonKind, Value};
use std::borrow::Cow;
use std::fmt;

/// `MCP-Protocol-Version`
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// `Mcp-Method`
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// `Mcp-Name`
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// `Mcp-Session-Id` (up to 2025-11-25)
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// What every `Mcp-Param-…` header's name begins with, in lower case.
pub const PARAM_PREFIX: &str = "mcp-param-";

/// Why a request is refused by its headers. The answer is HTTP 400 with this JSON-RPC error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMismatch {
    /// [`reply::HEADER_MISMATCH`], [`reply::INVALID_PARAMS`] where a required member of `_meta` is missing,
    /// [`reply::UNSUPPORTED_PROTOCOL_VERSION`], or [`reply::INVALID_REQUEST`].
    pub code: i64,
    /// What is wrong, for a person.
    pub message: String,
    /// The error's `data` as JSON text, where its code asks for some.
    pub data: Option<String>,
}

impl HeaderMismatch {
    /// The HTTP status of the answer.
    pub const STATUS: http::StatusCode = http::StatusCode::BAD_REQUEST;

    fn new(code: i64, message: impl Into<String>) -> HeaderMismatch {
        HeaderMismatch { code, message: message.into(), data: None }
    }

    fn mismatch(message: impl fmt::Display) -> HeaderMismatch {
        HeaderMismatch::new(reply::HEADER_MISMATCH, format!("header mismatch: {message}"))
    }

    fn unsupported(requested: &str) -> HeaderMismatch {
        HeaderMismatch {
            code: reply::UNSUPPORTED_PROTOCOL_VERSION,
            message: format!("unsupported protocol version `{}`", requested.escape_debug()),
            data: Some(reply::unsupported_version(requested)),
        }
    }
}

impl fmt::Display for HeaderMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for HeaderMismatch {}

/// The one value of a header; `None` where it is absent.
///
/// # Errors
/// When the header stands twice (whatever it says: two readers may each take another), or holds something other than
/// visible ASCII, spaces and tabs.
pub fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, HeaderMismatch> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(HeaderMismatch::mismatch(format_args!("the header {name} stands more than once")));
    }
    match value.to_str() {
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(HeaderMismatch::mismatch(format_args!("the header {name} holds an invalid character"))),
    }
}

/// The revision that the headers alone name, before the body is read: 2025-03-26 where they name none.
///
/// It settles whether the body may be a batch. Where a session has agreed on a revision, a missing header means that one.
///
/// # Errors
/// [`HeaderMismatch`] for a header that stands twice or names a revision we do not know; answer with status 400.
pub fn declared(headers: &HeaderMap) -> Result<Revision, HeaderMismatch> {
    match single(headers, &PROTOCOL_VERSION)? {
        // 2025-06-18 and 2025-11-25 §Protocol Version Header: a server SHOULD assume 2025-03-26 without the header.
        None => Ok(Revision::V2025_03_26),
        Some(name) => Revision::parse(name).ok_or_else(|| HeaderMismatch::unsupported(name)),
    }
}

/// Checks the headers of a POST against the message in its body, and gives the revision they agree on.
///
/// `mirrored` are the annotations of the called tool, where its definition is known. `Mcp-Param-…` headers that no annotation
/// speaks of may say anything, but once.
///
/// # Errors
/// [`HeaderMismatch`], to be answered with status 400; the message must not be forwarded.
pub fn check_request(headers: &HeaderMap, message: &Message, mirrored: Option<&Mirrored>) -> Result<Revision, HeaderMismatch> {
    let revision = agreed_revision(headers, message)?;
    if !revision.mirrors_headers() {
        return Ok(revision);
    }
    if matches!(message.kind(), Kind::Response { .. }) {
        let problem = format!("protocol revision {revision} has no responses from clients");
        return Err(HeaderMismatch::new(reply::INVALID_REQUEST, problem));
    }
    let is_request = message.kind() == Kind::Request;
    if is_request {
        check_required_meta(message)?;
    }
    // The revision leaves the headers of notifications undefined: one that is there must be right.
    expect(single(headers, &METHOD)?, message.method(), &METHOD, is_request)?;
    if let Some(name) = mirrored_name(message) {
        let sent = match single(headers, &NAME)? {
            Some(sent) => {
                Some(decode(sent).map_err(|problem| HeaderMismatch::mismatch(format_args!("the header {NAME} {problem}")))?)
            }
            None => None,
        };
        expect(sent.as_deref(), name.as_deref(), &NAME, is_request)?;
    } else {
        single(headers, &NAME)?;
    }
    // Whatever annotation they belong to, if to any.
    for name in headers.keys().filter(|name| name.as_str().starts_with(PARAM_PREFIX)) {
        if headers.get_all(name).iter().nth(1).is_some() {
            return Err(HeaderMismatch::mismatch(format_args!("the header {name} stands more than once")));
        }
    }
    if let Some(mirrored) = mirrored {
        mirrored.check(headers, message)?;
    }
    Ok(revision)
}

/// Checks what a modern request must say of itself in `_meta`, over any transport.
///
/// # Errors
/// -32602, with status 400 over HTTP, when `protocolVersion` is no string or `clientCapabilities` no object.
pub fn check_required_meta(message: &Message) -> Result<(), HeaderMismatch> {
    let has = |key, kind| message.params().is_some() && message.meta(key).is_some_and(|value| value.kind() == kind);
    for (key, kind, what) in
        [(keys::PROTOCOL_VERSION, JsonKind::String, "string"), (keys::CLIENT_CAPABILITIES, JsonKind::Object, "object")]
    {
        if !has(key, kind) {
            let problem = format!("`_meta` must have the member `{key}`, of type {what}");
            return Err(HeaderMismatch::new(reply::INVALID_PARAMS, problem));
        }
    }
    Ok(())
}

/// The revision that header and body name.
fn agreed_revision(headers: &HeaderMap, message: &Message) -> Result<Revision, HeaderMismatch> {
    let header = single(headers, &PROTOCOL_VERSION)?;
    // A response has no `_meta` of this kind, and what a server put into a result must not be taken for it.
    let body = message.params().and_then(|_| message.protocol_version());
    match (header, body.as_deref()) {
        (None, None) => declared(headers),
        (None, Some(_)) => Err(HeaderMismatch::mismatch(format_args!("the header {PROTOCOL_VERSION} is missing"))),
        (Some(header), Some(body)) if header != body => Err(HeaderMismatch::mismatch(format_args!(
            "the header {PROTOCOL_VERSION} says `{}` and the body `{}`",
            header.escape_debug(),
            body.escape_debug()
        ))),
        (Some(_), body) => {
            let revision = declared(headers)?;
            if revision.era() == Era::Modern && body.is_none() && message.kind() == Kind::Request {
                check_required_meta(message)?;
            }
            if revision.era() == Era::Legacy && body.is_some() {
                // Only modern requests say their version in the body: a lenient server would take this one for either.
                return Err(HeaderMismatch::mismatch(format_args!("revision {revision} does not name itself in `_meta`")));
            }
            Ok(revision)
        }
    }
}

/// Compares a header with what the body says.
fn expect(sent: Option<&str>, said: Option<&str>, name: &HeaderName, required: bool) -> Result<(), HeaderMismatch> {
    match (sent, said) {
        (None, Some(_)) if required => Err(HeaderMismatch::mismatch(format_args!("the header {name} is missing"))),
        (Some(sent), Some(said)) if sent != said => Err(HeaderMismatch::mismatch(format_args!(
            "the header {name} says `{}` and the body `{}`",
            sent.escape_debug(),
            said.escape_debug()
        ))),
        // What the body lacks is wrong in its own right: that is said by whoever reads the parameters.
        (None | Some(_), _) => Ok(()),
    }
}

/// What `Mcp-Name` repeats: `None` for a method without; `Some(None)` where the body lacks it.
///
/// For tasks: `seps/2663-tasks-extension.md` §Routing Headers.
fn mirrored_name(message: &Message) -> Option<Option<Cow<'_, str>>> {
    let key = match message.method()? {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return None,
    };
    Some(message.params().and_then(|params| params.get(key)?.as_str()))
}

/// Gives the headers that a client must send with `message` over HTTP.
///
/// From 2025-06-18 on the revision (not with `initialize`, which settles it); from 2026-07-28 on also what the body says:
/// the method, the name, and the arguments that the tool's definition wants `mirrored`.
pub fn for_request(message: &Message, revision: Revision, mirrored: Option<&Mirrored>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    if revision.has_version_header() && message.method() != Some("initialize") {
        headers.push((PROTOCOL_VERSION, HeaderValue::from_static(revision.as_str())));
    }
    if !revision.mirrors_headers() {
        return headers;
    }
    // No Base64 for methods: one that a header does not carry as it is stays out, and the server refuses the request for that.
    if let Some(method) = message.method().filter(|method| is_plain(method)) {
        headers.push((METHOD, encode(method)));
    }
    if let Some(Some(name)) = mirrored_name(message) {
        headers.push((NAME, encode(&name)));
    }
    if let Some(mirrored) = mirrored {
        headers.extend(mirrored.headers_for(message));
    }
    headers
}

const SENTINEL: (&str, &str) = ("=?base64?", "?=");

fn sentinel(value: &str) -> Option<&str> {
    value.strip_prefix(SENTINEL.0)?.strip_suffix(SENTINEL.1)
}

/// Gives `value` as a header value: as it is, or in Base64 between `=?base64?` and `?=` where a header cannot carry it, or
/// where it looks like that itself (§Value Encoding).
pub fn encode(value: &str) -> HeaderValue {
    let text = if is_plain(value) { value.to_owned() } else { format!("{}{}{}", SENTINEL.0, STANDARD.encode(value), SENTINEL.1) };
    HeaderValue::try_from(text).expect("visible ASCII and spaces are a header value")
}

/// Whether `value`, sent as it is, is read as itself: `HeaderValue` would also take bytes that no reader takes for text, and
/// spaces at the ends are lost on the way.
fn is_plain(value: &str) -> bool {
    value.bytes().all(|b| (0x20..0x7F).contains(&b))
        && !value.starts_with(' ')
        && !value.ends_with(' ')
        && sentinel(value).is_none()
}

/// Reads a header value that may be in Base64 between the markers; the markers are compared with case.
///
/// # Errors
/// Says what is wrong when the markers are there and what stands between them is no canonical, padded Base64 of UTF-8.
pub fn decode(value: &str) -> Result<Cow<'_, str>, &'static str> {
    let Some(encoded) = sentinel(value) else { return Ok(Cow::Borrowed(value)) };
    let bytes = STANDARD.decode(encoded).map_err(|_| "is not valid Base64")?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| "is not UTF-8 in Base64")
}

/// Which arguments of a tool are repeated in `Mcp-Param-…` headers: the `x-mcp-header` annotations of its `inputSchema`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrored {
    arguments: Vec<Argument>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Argument {
    header: HeaderName,
    /// The keys that lead to it, from `arguments` down.
    path: Vec<String>,
}

const ANNOTATION: &str = "x-mcp-header";

impl Mirrored {
    /// Reads the annotations of an `inputSchema`; none is valid, and repeats nothing.
    ///
    /// # Errors
    /// Says which constraint is violated (§Schema Extension): an annotation must be a non-empty HTTP token, stand once
    /// (whatever its case), on a parameter of type `string`, `integer` or `boolean` that is reached from the root by
    /// `properties` alone. Towards HTTP, a tool with an invalid one must be taken off the list, and not be called.
    pub fn of(input_schema: Value<'_>) -> Result<Mirrored, String> {
        let mut mirrored = Mirrored::default();
        // Few schemas have any. An escape could spell the key.
        let text = input_schema.raw();
        if !text.contains(ANNOTATION) && !text.contains('\\') {
            return Ok(mirrored);
        }
        mirrored.visit(input_schema, &mut Vec::new(), true)?;
        Ok(mirrored)
    }

    /// Whether nothing is repeated.
    pub fn is_empty(&self) -> bool {
        self.arguments.is_empty()
    }

    /// Walks one schema. `reachable` is whether only `properties` lead to it.
    fn visit(&mut self, schema: Value<'_>, path: &mut Vec<String>, reachable: bool) -> Result<(), String> {
        for element in schema.elements().into_iter().flatten() {
            self.visit(element, path, false)?;
        }
        for member in schema.members().into_iter().flatten() {
            match &*member.key {
                ANNOTATION => self.annotate(schema, member.value, path, reachable)?,
                // Their values are data, in which the key means nothing.
                "const" | "default" | "enum" | "examples" => {}
                // Their keys are names, not keywords.
                "properties" | "$defs" | "definitions" | "patternProperties" | "dependentSchemas"
                    if member.value.kind() == JsonKind::Object =>
                {
                    for named in member.value.members().into_iter().flatten() {
                        path.push(named.key.into_owned());
                        self.visit(named.value, path, reachable && member.key == "properties")?;
                        path.pop();
                    }
                }
                _ => self.visit(member.value, path, false)?,
            }
        }
        Ok(())
    }

    fn annotate(&mut self, schema: Value<'_>, name: Value<'_>, path: &[String], reachable: bool) -> Result<(), String> {
        let Some(name) = name.as_str() else { return Err(format!("`{ANNOTATION}` must be a string")) };
        let shown = name.escape_debug();
        if !reachable || path.is_empty() {
            return Err(format!("`{ANNOTATION}` `{shown}` is not on a parameter reached by `properties` alone"));
        }
        if schema.members().into_iter().flatten().filter(|member| member.key == "type").count() > 1 || !is_primitive(schema) {
            return Err(format!("`{ANNOTATION}` `{shown}` is not on a string, integer or boolean"));
        }
        let header = if name.is_empty() { None } else { HeaderName::try_from(format!("{PARAM_PREFIX}{name}")).ok() };
        let Some(header) = header else { return Err(format!("`{ANNOTATION}` `{shown}` is no HTTP token")) };
        if self.arguments.iter().any(|argument| argument.header == header) {
            return Err(format!("`{ANNOTATION}` `{shown}` stands twice"));
        }
        self.arguments.push(Argument { header, path: path.to_vec() });
        Ok(())
    }

    fn check(&self, headers: &HeaderMap, message: &Message) -> Result<(), HeaderMismatch> {
        for Argument { header, path } in &self.arguments {
            let sent = match single(headers, header)? {
                Some(sent) => Some(decode(sent).map_err(|p| HeaderMismatch::mismatch(format_args!("the header {header} {p}")))?),
                None => None,
            };
            let agrees = match (argument(message, path), sent) {
                (None, None) => true,
                (Some(value), Some(sent)) => same(value, &sent),
                (Some(_), None) | (None, Some(_)) => false,
            };
            if !agrees {
                let argument = path.join(".");
                let shown = argument.escape_debug();
                return Err(HeaderMismatch::mismatch(format_args!(
                    "the header {header} does not say what the argument `{shown}` does"
                )));
            }
        }
        Ok(())
    }

    fn headers_for(&self, message: &Message) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.arguments.iter().filter_map(|Argument { header, path }| {
            let value = argument(message, path)?;
            let text = match value.kind() {
                JsonKind::String => value.as_str()?,
                JsonKind::Number => match value.as_decimal().and_then(|number| number.scaled(0)) {
                    Some(integer) => Cow::Owned(integer.to_string()),
                    None => Cow::Borrowed(value.raw()),
                },
                JsonKind::Bool => Cow::Borrowed(value.raw()),
                JsonKind::Null | JsonKind::Array | JsonKind::Object => return None,
            };
            Some((header.clone(), encode(&text)))
        })
    }
}

/// Whether the schema's `type` is one of the three, or one of them and `null` (which is sent as no header).
fn is_primitive(schema: Value<'_>) -> bool {
    let primitive = |name: &str| matches!(name, "string" | "integer" | "boolean");
    let Some(kind) = schema.get("type") else { return false };
    match (kind.as_str(), kind.elements()) {
        (Some(name), _) => primitive(&name),
        (None, Some(names)) => {
            let names: Vec<_> = names.map(|name| name.as_str().unwrap_or_default()).filter(|name| name != "null").collect();
            names.len() == 1 && primitive(&names[0])
        }
        (None, None) => false,
    }
}

/// The argument at `path`; null counts as absent.
fn argument<'m>(message: &'m Message, path: &[String]) -> Option<Value<'m>> {
    let arguments = message.params()?.get("arguments")?;
    path.iter().try_fold(arguments, |value, key| value.get(key)).filter(|value| !value.is_null())
}

/// Whether a header says what an argument says. Integers are compared as numbers: `42.0` is `42`.
fn same(value: Value<'_>, sent: &str) -> bool {
    match value.kind() {
        JsonKind::String => value.as_str().as_deref() == Some(sent),
        JsonKind::Number => value.as_decimal().is_some() && value.as_decimal() == Decimal::parse(sent),
        JsonKind::Bool => value.raw() == sent,
        JsonKind::Null | JsonKind::Array | JsonKind::Object => false,
    }
}
