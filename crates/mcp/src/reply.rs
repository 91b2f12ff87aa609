//! Replies that the gateway itself gives.

use crate::id::Id;
use crate::keys;
use crate::revision::Revision;
use bytes::Bytes;
use json::quote;

/// No JSON, or JSON that readers would understand differently.
pub const PARSE_ERROR: i64 = -32700;
/// JSON, but no message.
pub const INVALID_REQUEST: i64 = -32600;
/// No such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The parameters are wrong; also an unknown tool.
pub const INVALID_PARAMS: i64 = -32602;
/// The answerer's own fault.
pub const INTERNAL_ERROR: i64 = -32603;
/// HTTP headers and body disagree (2026-07-28).
pub const HEADER_MISMATCH: i64 = -32020;
/// The client has not declared a capability that the request needs (2026-07-28).
pub const MISSING_CLIENT_CAPABILITY: i64 = -32021;
/// The revision is not spoken here (2026-07-28); `data` is `{"supported": […], "requested": "…"}`.
pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32022;

/// Gives a JSON-RPC error. `data` is JSON text. Without an id it says `"id":null`, as JSON-RPC asks for where the id of what
/// is answered could not be read; never send that in answer to a notification.
pub fn error(id: Option<&Id>, code: i64, message: &str, data: Option<&str>) -> Bytes {
    let id = id.map_or("null", Id::text);
    let data = data.map(|data| format!(",\"data\":{data}")).unwrap_or_default();
    let message = quote(message);
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":{code},\"message\":{message}{data}}}}}").into()
}

/// Gives a JSON-RPC result. `result` is JSON text.
pub fn result(id: &Id, result: &str) -> Bytes {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{result}}}", id.text()).into()
}

/// Gives the answer to a `tools/call` that was not let through: a result that the model reads as a failed call.
///
/// `message` is one sentence that says what would work; the text is `[POLICY DENIED] ` and it. `decision` is a JSON object
/// for machines, in `_meta["dev.callgate/decision"]`. `modern` adds the `resultType` that 2026-07-28 demands.
pub fn denied(id: &Id, message: &str, decision: &str, modern: bool) -> Bytes {
    let text = quote(&format!("[POLICY DENIED] {message}"));
    let kind = if modern { "\"resultType\":\"complete\"," } else { "" };
    let content = format!("\"content\":[{{\"type\":\"text\",\"text\":{text}}}],\"isError\":true");
    result(id, &format!("{{{kind}{content},\"_meta\":{{\"dev.callgate/decision\":{decision}}}}}"))
}

/// Gives the notification that the list of tools has changed, for the stream that `subscription` has opened (2026-07-28).
pub fn tools_changed(subscription: &Id) -> Bytes {
    let (key, id) = (quote(keys::SUBSCRIPTION_ID), subscription.text());
    let method = "notifications/tools/list_changed";
    format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{{\"_meta\":{{{key}:{id}}}}}}}").into()
}

/// Gives the last word on the stream that `subscription` has opened, where it is ended in good order (2026-07-28).
pub fn listened(subscription: &Id) -> Bytes {
    let (key, id) = (quote(keys::SUBSCRIPTION_ID), subscription.text());
    result(subscription, &format!("{{\"resultType\":\"complete\",\"_meta\":{{{key}:{id}}}}}"))
}

/// Gives the `data` of [`UNSUPPORTED_PROTOCOL_VERSION`]: what is spoken here.
pub fn unsupported_version(requested: &str) -> String {
    format!("{{\"supported\":{},\"requested\":{}}}", supported_versions(), quote(requested))
}

/// Gives the list, as JSON, of what is spoken here, the newest first.
pub fn supported_versions() -> String {
    let supported: Vec<_> = Revision::ALL.iter().rev().map(|revision| quote(revision.as_str())).collect();
    format!("[{}]", supported.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Kind, Message, Side};

    #[test]
    fn an_error_is_a_message_with_the_id_as_it_came() {
        let text = error(Some(&Id::from("a\"b")), METHOD_NOT_FOUND, "unknown method `x\ny`", Some("{\"a\":1}"));
        let message = Message::parse(text, Side::Server).unwrap();
        assert_eq!(message.kind(), Kind::Response { is_error: true });
        assert_eq!(message.id(), Some(&Id::from("a\"b")));
        assert_eq!(message.error().unwrap().get("message").unwrap().as_str().unwrap(), "unknown method `x\ny`");
        assert_eq!(message.error().unwrap().get("data").unwrap().raw(), "{\"a\":1}");
    }

    #[test]
    fn an_error_without_an_id_says_null() {
        assert_eq!(error(None, PARSE_ERROR, "m", None), r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}"#);
    }

    #[test]
    fn a_denial_is_a_failed_call_with_the_decision_beside_it() {
        let text = denied(&Id::from(7), "Try again later.", "{\"outcome\":\"deny\"}", false);
        let expected = concat!(
            r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"[POLICY DENIED] Try again later."}],"#,
            r#""isError":true,"_meta":{"dev.callgate/decision":{"outcome":"deny"}}}}"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_modern_denial_says_that_it_is_complete() {
        let text = denied(&Id::from(7), "no", "{}", true);
        let message = Message::parse(text, Side::Server).unwrap();
        assert_eq!(message.result().unwrap().get("resultType").unwrap().as_str().unwrap(), "complete");
    }
}
