//! What a server asks of its client, wherever it asks it.
//!
//! Up to 2025-11-25 as a request of its own, or by the error -32042; from 2026-07-28 within a result, or within a task.

use crate::keys;
use crate::message::{Kind, Message};
use json::{Decimal, Kind as JsonKind, Value};
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
const ERROR: &[&str] = &["code", "data"];
const DATA: &[&str] = &["elicitations"];
const WITHIN: &[&str] = &["inputRequests"];
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
        Kind::Response { is_error: true } => by_error(message),
    }
}

/// 2026-07-28 §Multi Round-Trip Requests: a map of requests, in a result or a task.
fn within(holder: Option<Value<'_>>) -> Result<Vec<Asked<'_>>, String> {
    keys::check_twice(holder, WITHIN).map_err(|clash| clash.to_string())?;
    let Some(requests) = holder.and_then(|holder| holder.get("inputRequests")).filter(|requests| !requests.is_null()) else {
        return Ok(Vec::new());
    };
    let members = requests.members().ok_or("`inputRequests` is no object")?;
    members.map(|member| Asked::of(member.value)).collect()
}

fn by_error(message: &Message) -> Result<Vec<Asked<'_>>, String> {
    let error = message.error();
    // Readers take the first or the last of two, and `-32042.0` for the same number.
    check(error, ERROR)?;
    let code = error.and_then(|error| error.get("code")?.as_decimal());
    if code.is_none() || code != Decimal::parse(URL_ELICITATION_REQUIRED) {
        return Ok(Vec::new());
    }
    let data = error.and_then(|error| error.get("data"));
    check(data, DATA)?;
    let listed = data.and_then(|data| data.get("elicitations")?.elements());
    let mut modes = Vec::new();
    for elicitation in listed.into_iter().flatten() {
        modes.push(mode_of(Some(elicitation))?.unwrap_or(Cow::Borrowed("url")));
    }
    // The code alone says what is asked for.
    if modes.is_empty() {
        modes.push(Cow::Borrowed("url"));
    }
    Ok(modes.into_iter().map(|mode| Asked { method: Cow::Borrowed(ELICITATION), mode: Some(mode) }).collect())
}

/// Whether members that a client goes by stand once, and nothing beside them that it could take for them.
fn check(object: Option<Value<'_>>, known: &[&'static str]) -> Result<(), String> {
    let result = keys::check_twice(object, known).and_then(|()| keys::check_look_alikes(object, known));
    result.map_err(|clash| clash.to_string())
}

/// `mode` among the parameters of an elicitation.
fn mode_of(params: Option<Value<'_>>) -> Result<Option<Cow<'_, str>>, String> {
    check(params, PARAMS)?;
    let mode = params.and_then(|params| params.get("mode"));
    mode.map(|mode| mode.as_str().ok_or_else(|| "`mode` of an elicitation is no string".to_owned())).transpose()
}

impl<'m> Asked<'m> {
    fn of(request: Value<'m>) -> Result<Asked<'m>, String> {
        if request.kind() != JsonKind::Object {
            return Err("a request in `inputRequests` is no object".into());
        }
        check(Some(request), ENTRY)?;
        let method = request.get("method").and_then(Value::as_str).ok_or("a request of the server has no `method`")?;
        let params = request.get("params");
        let mode = if method == ELICITATION { mode_of(params)? } else { None };
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
        for code in ["-32042.0", "-3.2042e4", "-320420e-1"] {
            let text = text("").replace("-32042", code);
            check(&text, &[("elicitation/create", Some("url"))]);
        }
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
        let url = r#"{"elicitations":[{"mode":"url"}]}"#;
        for error in [
            r#""code":-1,"code":-32042"#.to_owned(),
            r#""code":-1,"Code":-32042"#.to_owned(),
            format!(r#""code":-32042,"data":{{}},"data":{url}"#),
            r#""code":-32042,"data":{"elicitations":[],"elicitations":[{"mode":"url"}]}"#.to_owned(),
            r#""code":-32042,"data":{"elicitations":[{"mode":"form","mode":"url"}]}"#.to_owned(),
            r#""code":-32042,"data":{"elicitations":[{"mode":1}]}"#.to_owned(),
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"message":"m",{error}}}}}"#);
            assert!(asked(&Message::parse(text, Side::Server).unwrap()).is_err(), "{error}");
        }
        let twice = r#""inputRequests":{},"inputRequests":{"a":{"method":"roots/list"}}"#;
        let text = format!(r#"{{"jsonrpc":"2.0","method":"notifications/tasks","params":{{"taskId":"t",{twice}}}}}"#);
        assert!(asked(&Message::parse(text, Side::Server).unwrap()).is_err(), "{twice}");
    }
}
