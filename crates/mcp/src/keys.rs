//! Keys that are ours to read, and keys that only look like them.
//!
//! Go's `encoding/json` finds `method` in `"Method"` and in `"METHOD"`; others normalise first. Such a key **instead of** the
//! real one means nothing to us and everything to such a reader, so it is refused; next to the real one, the parser refuses it
//! already in what clients send.

use json::{Value, could_be_taken_for};

/// The members of a JSON-RPC message.
pub(crate) const MESSAGE: &[&str] = &["jsonrpc", "id", "method", "params", "result", "error"];

/// The members of `params` that are read here, by the gateway, or by a server to find out what is meant.
pub(crate) const PARAMS: &[&str] = &[
    "_meta",
    "name",
    "arguments",
    "task",
    "taskId",
    "requestState",
    "inputResponses",
    "uri",
    "cursor",
    "ref",
    "argument",
    "context",
    "protocolVersion",
    "capabilities",
    "clientInfo",
    "requestId",
    "progressToken",
    "notifications",
];

/// The members of a result that are read here or by the gateway.
pub(crate) const RESULT: &[&str] = &[
    "_meta",
    "tools",
    "prompts",
    "instructions",
    "tasks",
    "nextCursor",
    "cacheScope",
    "ttlMs",
    "resultType",
    "protocolVersion",
    "capabilities",
    "isError",
    "task",
    "taskId",
    "inputRequests",
    "requestState",
];

/// The members of `_meta` that are read here or by the gateway.
pub(crate) const META: &[&str] =
    &["progressToken", PROTOCOL_VERSION, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL, SUBSCRIPTION_ID, SERVER_INFO];

pub(crate) const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub(crate) const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
pub(crate) const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
pub(crate) const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
pub(crate) const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

/// A member that must not be there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Clash {
    Twice(&'static str),
    LooksLike(&'static str, String),
}

impl std::fmt::Display for Clash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Clash::Twice(key) => write!(f, "the member `{key}` stands twice"),
            Clash::LooksLike(key, found) => write!(f, "the member `{}` could be taken for `{key}`", found.escape_debug()),
        }
    }
}

/// Whether one of `known` stands twice among the members of `object`; other members may. Anything but an object passes.
pub(crate) fn check_twice(object: Option<Value<'_>>, known: &[&'static str]) -> Result<(), Clash> {
    let mut seen = 0u64;
    for member in object.into_iter().flat_map(Value::keys) {
        if let Some(index) = known.iter().position(|key| member.says(key)) {
            if seen & (1 << index) != 0 {
                return Err(Clash::Twice(known[index]));
            }
            seen |= 1 << index;
        }
    }
    Ok(())
}

/// Whether a member of `object` is not one of `known`, but could be taken for one. Anything but an object passes.
pub(crate) fn check_look_alikes(object: Option<Value<'_>>, known: &[&'static str]) -> Result<(), Clash> {
    // Most members are what they look like.
    let strangers = object.into_iter().flat_map(Value::keys).filter(|member| !known.iter().any(|key| member.says(key)));
    for member in strangers.filter_map(Value::as_str) {
        if let Some(key) = could_be_taken_for(&member, known) {
            return Err(Clash::LooksLike(key, member.into_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use json::{Document, Strictness};

    #[test]
    fn look_alikes_of_protocol_keys_are_found() {
        for key in [
            "Method",
            "METHOD",
            "method\\u0000x",
            " method",
            "met\\u200bhod",
            "param\u{17f}",
            "ｍethod",
            "\\u0049D",
            "ＩＤ",
            "Re\u{17f}ult",
        ] {
            let document = Document::parse(format!("{{\"{key}\":1}}"), Strictness::Request).unwrap();
            assert!(check_look_alikes(Some(document.root()), MESSAGE).is_err(), "{key}");
        }
        for key in ["method", "methods", "tool", "params2", "i d"] {
            let document = Document::parse(format!("{{\"{key}\":1}}"), Strictness::Request).unwrap();
            assert_eq!(check_look_alikes(Some(document.root()), MESSAGE), Ok(()), "{key}");
        }
    }

    #[test]
    fn key_lists_fit_the_mask() {
        for list in [MESSAGE, PARAMS, RESULT, META] {
            assert!(list.len() <= 64);
        }
    }
}
