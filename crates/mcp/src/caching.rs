//! What results say of being kept, from 2026-07-28 on: for how long (`ttlMs`), and for whom (`cacheScope`).
//!
//! A result that has passed a gateway is for the one who asked: another may not have the method, or not see all of it. And a
//! client that listens to nothing must hear some day that another policy hides what it still shows.
//!
//! Sources: 2026-07-28 §Caching, `seps/2549-TTL-for-list-results.md`.

use crate::splice::Edit;
use json::Value;

/// The methods whose results say so.
const METHODS: [&str; 6] =
    ["server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"];

/// The longest that a client may keep a result without asking again, in milliseconds.
pub const MAX_TTL_MS: u32 = 60_000;

/// Whether the results of a method say how long they may be kept, and for whom.
pub fn applies_to(method: &str) -> bool {
    METHODS.contains(&method)
}

/// Makes what `result` says of being kept hold for whoever has asked alone, and for at most [`MAX_TTL_MS`]: `cacheScope` becomes
/// `"private"`, and is added where it is missing, because that means public; `ttlMs` stays where it is as short. `edit` is an edit
/// of the text that holds `result`, the result of a method that this [applies to](applies_to).
///
/// What only asks for more (`"resultType": "input_required"`) is no result that anybody keeps, and stays as it is.
pub fn confine<'t>(edit: Edit<'t>, result: Value<'_>) -> Edit<'t> {
    let Some(mut members) = result.members() else { return edit };
    if result.get("resultType").is_some_and(|kind| kind.says("input_required")) {
        return edit;
    }
    let edit = match result.get("cacheScope") {
        Some(scope) if scope.says("private") => edit,
        Some(scope) => edit.replace(scope.span(), "\"private\""),
        None => {
            let (begin, comma) = (result.span().start + 1, if members.next().is_some() { "," } else { "" });
            edit.replace(begin..begin, format!("\"cacheScope\":\"private\"{comma}"))
        }
    };
    match result.get("ttlMs") {
        Some(ttl) if !is_short(ttl) => edit.replace(ttl.span(), MAX_TTL_MS.to_string()),
        Some(_) | None => edit,
    }
}

/// Whether every reader takes this for a time that is short enough, or for none.
fn is_short(ttl: Value<'_>) -> bool {
    ttl.is_null() || ttl.raw().parse::<f64>().is_ok_and(|millis| millis <= f64::from(MAX_TTL_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, Side};

    #[track_caller]
    fn check(result: &str, expected: &str) {
        let reply =
            |result: &str| Message::parse(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#), Side::Server).unwrap();
        let message = reply(result);
        assert_eq!(confine(message.edit(), message.result().unwrap()).finish(), *reply(expected).text());
    }

    #[test]
    fn what_passes_a_gateway_is_for_whoever_has_asked() {
        let private = r#"{"ttlMs":5,"cacheScope":"private","tools":[]}"#;
        check(r#"{"ttlMs":5,"cacheScope":"public","tools":[]}"#, private);
        check(private, private);
        check(r#"{"tools":[]}"#, r#"{"cacheScope":"private","tools":[]}"#);
        check(r#"{ }"#, r#"{"cacheScope":"private" }"#);
        check(r#"{"cacheScope":1,"tools":[]}"#, r#"{"cacheScope":"private","tools":[]}"#);
        check("[]", "[]");
    }

    #[test]
    fn nothing_is_kept_for_longer_than_a_minute() {
        for (said, expected) in [
            ("0", "0"),
            ("6e4", "6e4"),
            ("60000.0", "60000.0"),
            ("-1", "-1"),
            ("null", "null"),
            ("60001", "60000"),
            ("1e300", "60000"),
            ("\"1\"", "60000"),
            ("[]", "60000"),
        ] {
            let result = |ttl: &str| format!(r#"{{"cacheScope":"private","ttlMs":{ttl}}}"#);
            check(&result(said), &result(expected));
        }
    }

    #[test]
    fn what_asks_for_more_is_kept_by_nobody() {
        let asks = r#"{"resultType":"input_required","requestState":"s"}"#;
        check(asks, asks);
        let complete = |scope: &str| format!(r#"{{"resultType":"complete",{scope}"contents":[]}}"#);
        check(&complete(r#""cacheScope":"public","#), &complete(r#""cacheScope":"private","#));
    }
}
