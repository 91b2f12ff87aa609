//! What the client is told where the server could not be asked.
//!
//! Where that is because the caller has not yet authorised the gateway there, the client is told what to open: so that it can
//! show it to the person before it (elicitation in URL mode), where it has said that it can, else in words.

use super::{Answer, Expected, discovery};
use crate::enforcer::{Caller, Enforcer};
use crate::refusal::{NOT_AUTHORISED, UPSTREAM_FAILED, URL_ELICITATION_REQUIRED, malformed};
use crate::upstream::{Consent, Failure};
use json::quote;
use mcp::{Id, Kind, Message};

/// Under which a client of the stateless era answers. What it says is not needed: the call is made again, or it is not.
const QUESTION: &str = "callgate-consent";
/// How a state begins that goes with that question. It holds nothing.
pub(super) const STATE: &str = "callgate-consent.";

/// The answer to a caller who has to do something before the server can be called: before anything is judged, since nothing can be
/// found out about the server in this caller's name. On record, it was refused. `None` where nobody waits for an answer.
/// `opens_urls`: whether the client has said before that it can show an address.
pub(crate) async fn unauthorised(
    enforcer: &Enforcer,
    message: &Message,
    opens_urls: bool,
    caller: &Caller,
    failure: &Failure,
) -> Option<Answer> {
    let id = message.id().filter(|_| message.kind() == Kind::Request)?;
    let expected = Expected::of(message);
    let expected = Expected { opens_urls: expected.opens_urls || opens_urls, ..expected };
    enforcer.refuse(malformed(message, NOT_AUTHORISED, &failure.message), caller).await;
    Some(unreached(id, &expected, failure))
}

/// The answer to the request `id`, of which `failure` has come.
pub(crate) fn unreached(id: &Id, expected: &Expected, failure: &Failure) -> Answer {
    let status = failure.status.filter(|status| (400..500).contains(status)).unwrap_or(502);
    let error = |code, data: Option<&str>| mcp::reply::error(Some(id), code, &failure.told(), data);
    let Some(consent) = &failure.consent else { return Answer { body: error(UPSTREAM_FAILED, None), status } };
    let is_call = expected.method == "tools/call";
    // Clients of the stateless era take an error here for a server that is none, and would never hear what to open. What they ask
    // next says that.
    if expected.modern && expected.method == "server/discover" {
        return Answer { body: discovery(id, r#"{"tools":{}}"#, ""), status: 200 };
    }
    let body = match (expected.opens_urls, expected.modern) {
        (true, false) => {
            let asked = asked(consent, failure, true);
            error(URL_ELICITATION_REQUIRED, Some(&format!(r#"{{"elicitations":[{asked}]}}"#)))
        }
        (true, true) if is_call => {
            let asked = format!(r#"{{"method":"elicitation/create","params":{}}}"#, asked(consent, failure, false));
            let (asked, state) = (format!(r#"{{"{QUESTION}":{asked}}}"#), quote(&format!("{STATE}{}", consent.id)));
            let result = format!(r#"{{"resultType":"input_required","inputRequests":{asked},"requestState":{state}}}"#);
            mcp::reply::result(id, &result)
        }
        _ if is_call => {
            let kind = if expected.modern { "\"resultType\":\"complete\"," } else { "" };
            let text = quote(&failure.told());
            mcp::reply::result(id, &format!(r#"{{{kind}"content":[{{"type":"text","text":{text}}}],"isError":true}}"#))
        }
        _ => error(NOT_AUTHORISED, None),
    };
    Answer { body, status: 200 }
}

/// The parameters of an elicitation in URL mode. The id is one of the legacy era alone.
fn asked(consent: &Consent, failure: &Failure, with_id: bool) -> String {
    let id = if with_id { format!(r#","elicitationId":{}"#, quote(&consent.id)) } else { String::new() };
    format!(r#"{{"mode":"url"{id},"url":{},"message":{}}}"#, quote(&consent.url), quote(&failure.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Hears;
    use serde_json::{Value, json};
    use std::sync::Arc;

    #[track_caller]
    fn check(method: &str, opens_urls: bool, modern: bool, pointer: &str, expected: Value) {
        let consent = Consent { id: "7".into(), url: "https://us/authorize".into() };
        let failure = Failure { consent: Some(Arc::new(consent)), ..Failure::unsent("allow it") };
        let expects = Expected {
            method: method.into(),
            modern,
            ticket: None,
            opens_urls,
            cursor: None,
            hears: Hears::Nothing,
            is_resumed: false,
        };
        let body = unreached(&Id::from("a"), &expects, &failure).body;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer.pointer(pointer), Some(&expected), "{answer}");
    }

    #[test]
    fn a_client_is_told_what_to_open_as_it_can_show_it() {
        let told = json!("allow it: open https://us/authorize");
        for modern in [false, true] {
            check("tools/call", false, modern, "/result/content/0/text", told.clone());
            check("tools/list", false, modern, "/error/message", told.clone());
        }
        check("tools/call", true, false, "/error/code", json!(-32042));
        check("initialize", true, false, "/error/data/elicitations/0/url", json!("https://us/authorize"));
        check("tools/call", true, true, "/result/inputRequests/callgate-consent/params/mode", json!("url"));
        check("tools/list", true, true, "/error/message", told);
        check("server/discover", true, true, "/result/cacheScope", json!("private"));
    }
}
