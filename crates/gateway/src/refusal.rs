//! Refusals: what is answered to messages that are not judged.

use mcp::{Kind, Malformed, Message};

/// "It cannot be recorded" as a JSON-RPC error: outside of the range that JSON-RPC and MCP keep for themselves.
pub(crate) const UNAVAILABLE: i64 = -31001;

/// "The server did not answer" as a JSON-RPC error.
pub(crate) const UPSTREAM_FAILED: i64 = -31002;

/// "The policy does not allow it" as a JSON-RPC error.
pub(crate) const NOT_ALLOWED: i64 = -31003;

/// "The caller has to authorise it first" as a JSON-RPC error.
pub(crate) const NOT_AUTHORISED: i64 = -31004;

/// 2025-11-25 §URL Elicitation Required Error: the same for clients that can show an address.
pub(crate) const URL_ELICITATION_REQUIRED: i64 = -32042;

/// The HTTP status under which a refusal goes.
pub(crate) fn status_of(malformed: &Malformed) -> u16 {
    match malformed.code {
        mcp::reply::METHOD_NOT_FOUND => 404,
        UNAVAILABLE => 503,
        // Of a notification: a request is answered, with 200.
        NOT_ALLOWED => 403,
        _ => 400,
    }
}

/// Whether a message speaks the stateless era: it names its revision itself.
pub(crate) fn is_modern(message: &Message) -> bool {
    message.params().is_some() && message.protocol_version().is_some()
}

/// A refusal of a message that could be read.
pub(crate) fn malformed(message: &Message, code: i64, why: &str) -> Malformed {
    let called = if message.method() == Some("tools/call") {
        message.params().and_then(|params| params.get("name")?.as_str())
    } else {
        None
    };
    Malformed {
        code,
        id: message.id().cloned(),
        message: why.to_owned(),
        data: None,
        method: message.method().map(str::to_owned),
        tool: called.map(|tool| tool.into_owned()),
        wants_reply: message.kind() == Kind::Request,
    }
}

/// The refusal of a request about a task whose client knows of none: in the stateless era it says so itself, with each request
/// (`seps/2663-tasks-extension.md`). `None` for any other request.
pub(crate) fn lacks_tasks(message: &Message) -> Option<Malformed> {
    let is_about_tasks = message.method().is_some_and(|method| mcp::TASK_METHODS.contains(&method));
    if !is_about_tasks || !is_modern(message) || message.declares_extension(mcp::TASKS_EXTENSION) {
        return None;
    }
    let data = format!(r#"{{"requiredCapabilities":{{"extensions":{{"{}":{{}}}}}}}}"#, mcp::TASKS_EXTENSION);
    let why = "the client has not declared the extension that tasks are";
    Some(Malformed { data: Some(data), ..malformed(message, mcp::reply::MISSING_CLIENT_CAPABILITY, why) })
}

/// A refusal of something that was not even read.
pub(crate) fn unreadable(why: &str) -> Malformed {
    Malformed {
        code: mcp::reply::INVALID_REQUEST,
        id: None,
        message: why.to_owned(),
        data: None,
        method: None,
        tool: None,
        wants_reply: true,
    }
}
