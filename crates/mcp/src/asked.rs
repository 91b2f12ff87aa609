//! What a server asks of its client, wherever it asks it.
//!
//! Up to 2025-11-25 as a request of its own, or by the error -32042; from 2026-07-28 within a result, or within a task.

use crate::keys;
use crate::message::{Kind, Message};
use json::{Kind as JsonKind, Value};
use std::borrow::Cow;

/// One thing that a server asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<'m> {
    /// `sampling/createMessage`, `elicitation/create`, `roots/list`, or another.
    pub method: Cow<'m, str>,
    /// `mode` of an elicitation, where there is one.
    pub mode: Option<Cow<'m, str>>,
}

/// 2025-11-25 §Error Handling: the client must send its user to URLs first; `data` names them.
const URL_ELICITATION_REQUIRED: &str = "-32042";
const ELICITATION: &str = "elicitation/create";
/// The members by which a client understands what it is asked for.
const ENTRY: &[&str] = &["method", "params"];
const PARAMS: &[&str] = &["mode"];

/// Gives everything that a message of the server's asks of the client; empty for most.
///
/// # Errors
/// What cannot be read without doubt, for a person: nobody can say then what is asked for.
pub fn asked(message: &Message) -> Result<Vec<Asked<'_>>, String> {
    match message.kind() {
        Kind::Request => Ok(vec![Asked::of(message.document().root())?]),
        Kind::Notification => within(message.params()),
        Kind::Response { is_error: false } => within(message.result()),
        Kind::Response { is_error: true } => Ok(by_error(message).unwrap_or_default()),
    }
}

/// 2026-07-28 §Multi Round-Trip Requests: a map of requests, in a result or a task.
fn within(holder: Option<Value<'_>>) -> Result<Vec<Asked<'_>>, String> {
    let Some(requests) = holder.and_then(|holder| holder.get("inputRequests")).filter(|requests| !requests.is_null()) else {
        return Ok(Vec::new());
    };
    let members = requests.members().ok_or("`inputRequests` is no object")?;
    members.map(|member| Asked::of(member.value)).collect()
}

fn by_error(message: &Message) -> Option<Vec<Asked<'_>>> {
    let error = message.error()?;
    error.get("code").filter(|code| code.raw() == URL_ELICITATION_REQUIRED)?;
    let listed = error.get("data").and_then(|data| data.get("elicitations")?.elements());
    let modes = listed.into_iter().flatten().map(|elicitation| elicitation.get("mode").and_then(Value::as_str));
    // The code alone says what is asked for.
    let mut modes: Vec<_> = modes.map(|mode| mode.unwrap_or(Cow::Borrowed("url"))).collect();
    if modes.is_empty() {
        modes.push(Cow::Borrowed("url"));
    }
    Some(modes.into_iter().map(|mode| Asked { method: Cow::Borrowed(ELICITATION), mode: Some(mode) }).collect())
}

impl<'m> Asked<'m> {
    fn of(request: Value<'m>) -> Result<Asked<'m>, String> {
        let check = |object: Option<Value<'_>>, known| {
            let result = keys::check_twice(object, known).and_then(|()| keys::check_look_alikes(object, known));
            result.map_err(|clash| clash.to_string())
        };
        if request.kind() != JsonKind::Object {
            return Err("a request in `inputRequests` is no object".into());
        }
        check(Some(request), ENTRY)?;
        let method = request.get("method").and_then(Value::as_str).ok_or("a request of the server has no `method`")?;
        let params = request.get("params");
        let mut mode = None;
        if method == ELICITATION {
            check(params, PARAMS)?;
            if let Some(value) = params.and_then(|params| params.get("mode")) {
                mode = Some(value.as_str().ok_or("`mode` of an elicitation is no string")?);
            }
        }
        Ok(Asked { method, mode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Side;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, Option<&str>)]) {
        let message = Message::parse(text.to_owned(), Side::Server).unwrap();
        let found = asked(&message).unwrap();
        let found: Vec<_> = found.iter().map(|asked| (asked.method.as_ref(), asked.mode.as_deref())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_request_asks_for_itself() {
        check(r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#, &[("roots/list", None)]);
        let elicitation = r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"mode":"url","url":"https://x"}}"#;
        check(elicitation, &[("elicitation/create", Some("url"))]);
    }

    #[test]
    fn a_result_may_ask_for_several_things() {
        let text = concat!(
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"#,
            r#""a":{"method":"elicitation/create","params":{"message":"m"}},"b":{"method":"sampling/createMessage"}}}}"#
        );
        check(text, &[("elicitation/create", None), ("sampling/createMessage", None)]);
        check(r#"{"jsonrpc":"2.0","id":1,"result":{"inputRequests":null,"content":[]}}"#, &[]);
    }

    #[test]
    fn so_may_what_is_told_of_a_task() {
        let text = concat!(
            r#"{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"t","status":"input_required","#,
            r#""inputRequests":{"a":{"method":"roots/list"}}}}"#
        );
        check(text, &[("roots/list", None)]);
        check(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":1}}"#, &[]);
    }

    #[test]
    fn an_error_may_ask_to_visit_a_page() {
        let text = |data: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32042,"message":"m"{data}}}}}"#);
        check(&text(r#","data":{"elicitations":[{"mode":"url"},{}]}"#), &[("elicitation/create", Some("url")); 2]);
        check(&text(""), &[("elicitation/create", Some("url"))]);
        check(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"m"}}"#, &[]);
    }

    #[test]
    fn what_cannot_be_read_without_doubt_is_an_error() {
        for requests in [
            "[]",
            "\"x\"",
            r#"{"a":1}"#,
            r#"{"a":{}}"#,
            r#"{"a":{"method":1}}"#,
            r#"{"a":{"method":"ping","method":"roots/list"}}"#,
            r#"{"a":{"method":"ping","Method":"roots/list"}}"#,
            r#"{"a":{"method":"elicitation/create","params":{"mode":"form","mode":"url"}}}"#,
            r#"{"a":{"method":"elicitation/create","params":{"mode":1}}}"#,
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"inputRequests":{requests}}}}}"#);
            assert!(asked(&Message::parse(text, Side::Server).unwrap()).is_err(), "{requests}");
        }
    }
}
