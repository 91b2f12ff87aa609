//! Spans: one for each request that was judged, from its arrival to its end.
//!
//! A client that names a span of its own in `_meta.traceparent` (W3C Trace Context, level 1; MCP, SEP-414) is continued, and
//! the server is told our span in its place. To who names none, nothing is added: what was judged is what is sent.

use mcp::Message;
use std::time::{SystemTime, UNIX_EPOCH};

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Live {
    trace: String,
    id: String,
    parent: Option<String>,
    begun_ns: u64,
    name: String,
    attributes: Vec<(&'static str, String)>,
}

/// A request that is over.
#[derive(Debug)]
pub(crate) struct Span {
    pub trace: String,
    pub id: String,
    pub parent: Option<String>,
    pub name: String,
    pub begun_ns: u64,
    pub ended_ns: u64,
    pub attributes: Vec<(&'static str, String)>,
    /// What went wrong, in a word.
    pub error: Option<&'static str>,
}

/// A trace as its client names it.
#[derive(Debug, PartialEq, Eq)]
struct Context {
    trace: String,
    span: String,
    is_sampled: bool,
}

/// The longest name of a span: callers choose the names of tools.
const LONGEST_NAME: usize = 128;

impl Live {
    /// Begins a span for a request; nothing where its client does not want it recorded, or there is no chance to be had.
    pub fn begin(message: &Message, server: &str, tool: Option<&str>) -> Option<Live> {
        let context = message.meta("traceparent").and_then(|value| value.as_str()).and_then(|text| Context::parse(&text));
        if context.as_ref().is_some_and(|context| !context.is_sampled) {
            return None;
        }
        let (trace, parent) = match context {
            Some(Context { trace, span, .. }) => (trace, Some(span)),
            None => (random::<16>()?, None),
        };
        let method = message.method().unwrap_or_default().to_owned();
        let name: String = match tool {
            Some(tool) => format!("{method} {tool}"),
            None => method.clone(),
        };
        let mut attributes = vec![("mcp.method.name", method), ("callgate.server", server.to_owned())];
        attributes.extend(tool.map(|tool| ("gen_ai.tool.name", tool.to_owned())));
        let name = name.chars().take(LONGEST_NAME).collect();
        Some(Live { trace, id: random::<8>()?, parent, begun_ns: now_ns(), name, attributes })
    }

    /// What stands for the client's `traceparent` towards the server, where there was one.
    pub fn traceparent(&self) -> Option<String> {
        self.parent.is_some().then(|| format!("00-{}-{}-01", self.trace, self.id))
    }

    /// Adds something to what is told of it.
    pub fn note(&mut self, key: &'static str, value: impl Into<String>) {
        self.attributes.push((key, value.into()));
    }

    /// Ends it.
    pub fn end(self, error: Option<&'static str>) -> Span {
        let Live { trace, id, parent, begun_ns, name, attributes } = self;
        Span { trace, id, parent, name, begun_ns, ended_ns: now_ns().max(begun_ns), attributes, error }
    }
}

impl Context {
    /// Reads a `traceparent`: version, trace, span and flags, in lower-case hexadecimal digits (Trace Context §3.2). Further
    /// fields of a later version are not looked at.
    fn parse(text: &str) -> Option<Context> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_right = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
        let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
        if !is_right || version == "ff" || (version == "00" && parts.next().is_some()) || is_zero(trace) || is_zero(span) {
            return None;
        }
        let is_sampled = u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1);
        Some(Context { trace: trace.to_owned(), span: span.to_owned(), is_sampled })
    }
}

/// So many bytes of chance, in hexadecimal digits.
pub(crate) fn random<const BYTES: usize>() -> Option<String> {
    let mut bytes = [0u8; BYTES];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcp::Side;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn call(meta: &str) -> Message {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","_meta":{{{meta}}}}}}}"#);
        Message::parse(text, Side::Client).unwrap()
    }

    #[test]
    fn a_trace_of_the_clients_is_continued_and_one_that_is_none_is_not() {
        let live = Live::begin(&call(&format!(r#""traceparent":"00-{TRACE}-{SPAN}-01""#)), "s", Some("t")).unwrap();
        assert_eq!((live.trace.as_str(), live.parent.as_deref()), (TRACE, Some(SPAN)));
        assert_eq!(live.traceparent(), Some(format!("00-{TRACE}-{}-01", live.id)));
        for wrong in [
            format!("00-{TRACE}-{SPAN}"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-x"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            "x".to_owned(),
        ] {
            let live = Live::begin(&call(&format!(r#""traceparent":"{wrong}""#)), "s", None).unwrap();
            assert!(live.trace != TRACE && live.parent.is_none() && live.traceparent().is_none(), "{wrong}");
        }
        assert!(Context::parse(&format!("01-{TRACE}-{SPAN}-01-later")).is_some(), "of a later version");
    }

    #[test]
    fn what_its_client_does_not_record_is_not_recorded() {
        assert!(Live::begin(&call(&format!(r#""traceparent":"00-{TRACE}-{SPAN}-00""#)), "s", None).is_none());
    }

    #[test]
    fn a_span_tells_what_was_asked_and_never_with_what() {
        let span = Live::begin(&call(""), "s", Some("pay")).unwrap().end(None);
        assert_eq!((span.name.as_str(), span.trace.len(), span.id.len()), ("tools/call pay", 32, 16));
        assert!(span.ended_ns >= span.begun_ns);
    }
}
