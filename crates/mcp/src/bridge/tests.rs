//! Both translators, told what clients and servers say.

use super::*;
use crate::message::Side;
use proptest::prelude::*;

fn from(side: Side, text: &str) -> Message {
    Message::parse(text.to_owned(), side).unwrap_or_else(|malformed| panic!("{malformed}: {text}"))
}

const ENVELOPED: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{},"sampling":{}},"progressToken":"p"}"#;

/// A modern client's message on a line to a legacy server that has agreed to a session.
fn agreed(capabilities: &str) -> ToLegacy {
    let mut number = 0;
    let mint = move || {
        number += 1;
        Some(format!("state-{number}"))
    };
    let mut translator = ToLegacy::new(Client::unable(), Box::new(mint));
    let steps = translator.begin();
    let [Step::Say(hello)] = steps.as_slice() else { panic!("{steps:?}") };
    let hello = from(Side::Client, std::str::from_utf8(hello).unwrap());
    let result = format!(
        r#"{{"protocolVersion":"2025-06-18","capabilities":{capabilities},"serverInfo":{{"name":"s","version":"1"}},"instructions":"i"}}"#
    );
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, hello.id().unwrap().text());
    let steps = translator.server(&from(Side::Server, &answer), 0);
    assert!(matches!(steps.as_slice(), [Step::Say(_)]) && translator.is_ready());
    translator
}

fn text(step: &Step) -> String {
    let bytes = match step {
        Step::Forward(text) | Step::Say(text) | Step::Deliver(text) => text,
        Step::Again { text, .. } | Step::Close { text, .. } | Step::Beside { text, .. } => text,
    };
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn texts(steps: &[Step]) -> Vec<String> {
    steps.iter().map(text).collect()
}

fn call(id: u64, more: &str) -> Message {
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{{ENVELOPED},"name":"t","arguments":{{"a":1.50}}{more}}}}}"#
    );
    from(Side::Client, &text)
}

const QUESTION: &str = r#"{"jsonrpc":"2.0","id":"s1","method":"elicitation/create","params":{"message":"m","n":1.0}}"#;

#[test]
fn an_envelope_goes_and_all_else_stays() {
    let mut line = agreed("{}");
    let forwarded = line.client(&call(7, ""), 0);
    let expected = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"_meta":{"progressToken":"p"},"name":"t","arguments":{"a":1.50}}}"#;
    assert_eq!(texts(&forwarded), [expected]);
    let answer = from(Side::Server, r#"{"jsonrpc":"2.0","id":7,"result":{ "content":[1.0] , "x":2e0}}"#);
    let expected = r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete", "content":[1.0] , "x":2e0}}"#;
    assert_eq!(texts(&line.server(&answer, 0)), [expected]);
    assert!(line.is_idle());
}

#[test]
fn a_question_ends_the_request_and_the_retry_gets_the_answer() {
    let mut line = agreed("{}");
    line.client(&call(7, ""), 0);
    let ended = texts(&line.server(&from(Side::Server, QUESTION), 0));
    let expected = concat!(
        r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"input_required","inputRequests":{"elicitation-3":"#,
        r#"{"method":"elicitation/create","params":{"message":"m","n":1.0}}},"requestState":"state-1"}}"#
    );
    assert_eq!(ended, [expected]);
    assert!(line.knows("state-1") && !line.is_idle());
    let retry = call(9, r#","requestState":"state-1","inputResponses":{"elicitation-3":{"action":"accept","n":1.0}}"#);
    let said = texts(&line.client(&retry, 1));
    assert_eq!(said, [r#"{"jsonrpc":"2.0","id":"s1","result":{"action":"accept","n":1.0}}"#]);
    let answer = from(Side::Server, r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
    assert_eq!(texts(&line.server(&answer, 2)), [r#"{"jsonrpc":"2.0","id":9,"result":{"resultType":"complete"}}"#]);
    assert!(line.is_idle());
}

#[test]
fn a_state_is_good_once_for_its_request_and_for_a_while() {
    let with = |id, state: &str| call(id, &format!(r#","requestState":"{state}","inputResponses":{{}}"#));
    let refused = |steps: Vec<Step>| matches!(steps.as_slice(), [Step::Deliver(text)] if text.windows(6).any(|w| w == b"-32602"));
    let mut line = agreed("{}");
    line.client(&call(7, ""), 0);
    line.server(&from(Side::Server, QUESTION), 0);
    assert!(refused(line.client(&with(8, "state-0"), 0)), "unknown");
    let other = with(8, "state-1").text().to_vec();
    let other = String::from_utf8(other).unwrap().replace("1.50", "1.51");
    assert!(refused(line.client(&from(Side::Client, &other), 0)), "other arguments");
    assert!(refused(line.client(&with(8, "state-1"), PATIENCE_MS + 1)), "expired");
    let again = line.client(&with(8, "state-1"), 1);
    assert!(text(&again[0]).contains("state-2"), "what was not answered is asked again: {again:?}");
    assert!(refused(line.client(&with(9, "state-1"), 1)), "used");
    let given_up = texts(&line.tick(PATIENCE_MS + 2));
    assert!(given_up[0].contains(r#""id":"s1","error""#) && given_up[1].contains("notifications/cancelled"), "{given_up:?}");
    assert!(line.is_idle());
}

#[test]
fn an_answer_that_comes_while_the_client_is_asked_is_kept() {
    let mut line = agreed("{}");
    line.client(&call(7, ""), 0);
    line.server(&from(Side::Server, QUESTION), 0);
    let answer = from(Side::Server, r#"{"jsonrpc":"2.0","id":7,"result":{"n":1.0}}"#);
    assert!(line.server(&answer, 0).is_empty());
    let retry = call(9, r#","requestState":"state-1","inputResponses":{"elicitation-3":{}}"#);
    assert_eq!(texts(&line.client(&retry, 1)), [r#"{"jsonrpc":"2.0","id":9,"result":{"resultType":"complete","n":1.0}}"#]);
}

#[test]
fn nobody_is_asked_who_cannot_answer() {
    let mut line = agreed("{}");
    let said = texts(&line.server(&from(Side::Server, QUESTION), 0));
    assert!(said[0].contains(r#""id":"s1","error":{"code":-32601"#), "{said:?}");
    line.client(&call(7, ""), 0);
    let roots = from(Side::Server, r#"{"jsonrpc":"2.0","id":3,"method":"roots/list"}"#);
    assert!(texts(&line.server(&roots, 0))[0].contains(r#""id":3,"error""#));
    let ping = from(Side::Server, r#"{"jsonrpc":"2.0","id":4,"method":"ping"}"#);
    assert_eq!(texts(&line.server(&ping, 0)), [r#"{"jsonrpc":"2.0","id":4,"result":{}}"#]);
}

#[test]
fn a_url_that_must_be_visited_first_is_asked_for_and_the_retry_is_made_anew() {
    let able = |id, more: &str| {
        let text = call(id, more).text().to_vec();
        from(Side::Client, &String::from_utf8(text).unwrap().replace(r#""elicitation":{}"#, r#""elicitation":{"url":{}}"#))
    };
    let mut line = agreed("{}");
    line.client(&able(7, ""), 0);
    let error =
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","url":"u"}]}}}"#;
    let ended = texts(&line.server(&from(Side::Server, error), 0));
    assert!(ended[0].contains(r#"{"method":"elicitation/create","params":{"mode":"url","url":"u"}}"#), "{ended:?}");
    assert!(line.is_parked() && !line.is_idle(), "all waits for the client");
    let steps = line.client(&able(8, r#","requestState":"state-1","inputResponses":{"elicitation-1":{"action":"accept"}}"#), 0);
    let [Step::Forward(text)] = steps.as_slice() else { panic!("{steps:?}") };
    assert!(!text.windows(12).any(|window| window == b"requestState"), "{text:?}");
}

#[test]
fn a_request_asks_only_so_much_and_no_more_wait_for_their_clients_than_that() {
    let question = |number: usize| from(Side::Server, &QUESTION.replace("s1", &format!("s{number}")));
    let mut line = agreed("{}");
    line.client(&call(7, ""), 0);
    assert!(texts(&line.server(&question(1), 0))[0].contains("input_required"));
    for number in 2..=16 {
        assert!(line.server(&question(number), 0).is_empty(), "{number}: it is asked with the next retry");
    }
    assert!(texts(&line.server(&question(17), 0))[0].contains(r#""id":"s17","error""#), "one too many is refused");

    let visit = |id: u64| {
        let data = r#"{"elicitations":[{"mode":"url","url":"u"}]}"#;
        from(Side::Server, &format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32042,"message":"m","data":{data}}}}}"#))
    };
    let able = |id| {
        let text = String::from_utf8(call(id, "").text().to_vec()).unwrap();
        from(Side::Client, &text.replace(r#""elicitation":{}"#, r#""elicitation":{"url":{}}"#))
    };
    let mut line = agreed("{}");
    for id in 0..256 {
        line.client(&able(id), 0);
        assert!(texts(&line.server(&visit(id), 0))[0].contains("input_required"), "{id}");
    }
    line.client(&able(256), 0);
    let refused = texts(&line.server(&visit(256), 0));
    assert!(refused[0].contains(r#""id":256,"error""#) && refused[0].contains("too many requests wait"), "{refused:?}");
    // The places are free again once those who were to answer have not.
    line.tick(PATIENCE_MS + 1);
    line.client(&able(257), PATIENCE_MS + 1);
    assert!(texts(&line.server(&visit(257), PATIENCE_MS + 1))[0].contains("input_required"));
}

#[test]
fn an_error_that_only_a_modern_server_knows_shows_its_era() {
    let shows =
        |error: &str| ToModern::shows_modern(&from(Side::Server, &format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{{error}}}}}"#)));
    assert!(shows(r#""code":-32020,"message":"""#));
    assert!(shows(r#""code":-32021,"message":"""#));
    assert!(shows(r#""code":-32022,"message":"","data":{"supported":["2025-11-25","2026-07-28"]}"#));
    assert!(!shows(r#""code":-32022,"message":"","data":{"supported":["2025-11-25"]}"#), "it speaks the other era");
    assert!(!shows(r#""code":-32601,"message":"""#));
}

#[test]
fn discovery_is_answered_from_the_handshake() {
    let mut line = agreed(r#"{"tools":{"x":1.0},"tasks":{},"extensions":{"io.modelcontextprotocol/tasks":{},"e":{}}}"#);
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{{ENVELOPED}}}}}"#);
    let expected = concat!(
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","#,
        r#""supportedVersions":["2026-07-28","2025-11-25","2025-06-18","2025-03-26","2024-11-05"],"#,
        r#""capabilities":{"tools":{"x":1.0},"extensions":{"e":{}}},"instructions":"i","ttlMs":0,"cacheScope":"private","#,
        r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}}"#
    );
    assert_eq!(texts(&line.client(&from(Side::Client, &text), 0)), [expected]);
}

#[test]
fn notices_go_to_those_who_listen_for_them_and_a_resource_is_subscribed_to_once() {
    let mut line = agreed(r#"{"tools":{"listChanged":true},"resources":{"subscribe":true}}"#);
    let listen = |id: &str, wanted: &str| {
        let params = format!(r#"{ENVELOPED},"notifications":{wanted}"#);
        from(Side::Client, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{{{params}}}}}"#))
    };
    let first = texts(
        &line.client(&listen("1", r#"{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["a"]}"#), 0),
    );
    assert!(first.len() == 1 && first[0].contains("resources/subscribe"), "{first:?}");
    let granted = texts(&line.server(&answer_to(&first[0], r#""result":{}"#), 0));
    assert!(granted[0].contains(r#"{"toolsListChanged":true,"resourceSubscriptions":["a"]}"#), "{granted:?}");
    assert_eq!(line.client(&listen("2", r#"{"resourceSubscriptions":["a"]}"#), 0).len(), 1);
    let notice = from(Side::Server, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    let expected = concat!(
        r#"{"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}},"#,
        r#""jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#
    );
    assert_eq!(texts(&line.server(&notice, 0)), [expected]);
    let notice = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a/b"}}"#;
    assert_eq!(line.server(&from(Side::Server, notice), 0).len(), 2);
    let cancel = |id: u64| {
        from(Side::Client, &format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#))
    };
    assert!(line.client(&cancel(1), 0).is_empty());
    assert!(texts(&line.client(&cancel(2), 0))[0].contains("resources/unsubscribe"));
    assert!(line.is_idle());
}

/// The server's answer to what it was sent.
fn answer_to(sent: &str, answer: &str) -> Message {
    let id = from(Side::Client, sent).id().unwrap().text().to_owned();
    from(Side::Server, &format!(r#"{{"jsonrpc":"2.0","id":{id},{answer}}}"#))
}

fn listen_to(id: u64, uris: &str) -> Message {
    let params = format!(r#"{ENVELOPED},"notifications":{{"toolsListChanged":true,"resourceSubscriptions":[{uris}]}}"#);
    from(Side::Client, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{{{params}}}}}"#))
}

#[test]
fn a_resource_that_the_server_refuses_is_not_acknowledged() {
    let updated = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"b"}}"#;
    let mut line = agreed(r#"{"tools":{"listChanged":true},"resources":{"subscribe":true}}"#);
    let asked = texts(&line.client(&listen_to(1, r#""a","b""#), 0));
    assert_eq!(asked.len(), 2);
    assert!(line.server(&from(Side::Server, updated), 0).is_empty(), "nothing comes before the acknowledgement");
    assert!(line.server(&answer_to(&asked[0], r#""error":{"code":-32602,"message":"no"}"#), 0).is_empty());
    let told = texts(&line.server(&answer_to(&asked[1], r#""result":{}"#), 0));
    assert!(told[0].contains(r#""notifications":{"toolsListChanged":true,"resourceSubscriptions":["b"]}"#), "{told:?}");
    assert_eq!(line.server(&from(Side::Server, updated), 0).len(), 1);
    // A server that says nothing has granted nothing, and one whose answer was lost neither.
    let asked = texts(&line.client(&listen_to(2, r#""c""#), 0));
    let told = texts(&line.tick(10_001));
    assert!(asked.len() == 1 && told[0].contains("resources/unsubscribe"), "{told:?}");
    assert!(told[1].contains(r#""notifications":{"toolsListChanged":true}"#), "{told:?}");
    let asked = texts(&line.client(&listen_to(3, r#""d""#), 0));
    let (_, told) = line.fail(from(Side::Client, &asked[0]).id().unwrap(), "lost");
    assert!(texts(&told)[0].contains(r#""notifications":{"toolsListChanged":true}"#));
}

#[test]
fn what_is_listened_to_is_bounded_by_bytes_and_given_back() {
    let mut line = agreed(r#"{"resources":{"subscribe":true}}"#);
    let long: Vec<_> = (0..10).map(|number| format!("\"{number}{}\"", "x".repeat(100_000))).collect();
    assert_eq!(line.client(&listen_to(1, &long.join(",")), 0).len(), 10);
    let refused = texts(&line.client(&listen_to(2, &long.join(",")), 0));
    assert!(refused[0].contains("too many subscriptions"), "{refused:?}");
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    assert_eq!(line.client(&from(Side::Client, cancel), 0).len(), 10);
    assert_eq!(line.client(&listen_to(3, &long.join(",")), 0).len(), 10);
}

#[test]
fn a_revision_that_nobody_speaks_is_refused_with_those_that_are_spoken() {
    let mut line = agreed("{}");
    let text = String::from_utf8(call(7, "").text().to_vec()).unwrap().replace("2026-07-28", "2099-01-01");
    let refused = texts(&line.client(&from(Side::Client, &text), 0));
    assert!(
        refused[0].contains(r#""code":-32022"#) && refused[0].contains(r#""supported":["2026-07-28","2025-11-25""#),
        "{refused:?}"
    );
}

#[test]
fn a_notice_without_its_subscription_has_no_empty_meta() {
    let mut line = greeted(r#"{"tools":{"listChanged":true}}"#);
    let tagged = |more: &str| {
        let meta = format!(r#"{{"io.modelcontextprotocol/subscriptionId":1{more}}}"#);
        let method = "notifications/tools/list_changed";
        let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"_meta":{meta}}}}}"#);
        texts(&line.server(&from(Side::Server, &text), 0)).remove(0)
    };
    let mut tagged = tagged;
    assert!(tagged("").ends_with(r#""params":{}}"#));
    assert!(tagged(r#","x":1"#).ends_with(r#""params":{"_meta":{"x":1}}}"#));
}

#[test]
fn errors_are_spelled_as_the_client_knows_them() {
    let mut line = agreed("{}");
    let read = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{{{ENVELOPED},"uri":"u"}}}}"#);
    line.client(&from(Side::Client, &read), 0);
    let missing = from(Side::Server, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"m","data":{"uri":"u"}}}"#);
    let expected = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"m","data":{"uri":"u"}}}"#;
    assert_eq!(texts(&line.server(&missing, 0)), [expected]);
}

// ---------------------------------------------------------------- towards a modern server

fn greeted(capabilities: &str) -> ToModern {
    let discovered =
        r#"{"jsonrpc":"2.0","id":0,"result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}}}}"#;
    let discovered = from(Side::Server, discovered);
    assert!(ToModern::is_modern(&discovered) && !ToModern::is_legacy_too(&discovered));
    let mut line = ToModern::new(discovered);
    let params =
        format!(r#"{{"protocolVersion":"2025-06-18","capabilities":{capabilities},"clientInfo":{{"name":"c","version":"1"}}}}"#);
    let hello = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{params}}}"#);
    let expected = concat!(
        r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true}},"#,
        r#""serverInfo":{"name":"","version":""}}}"#
    );
    assert_eq!(texts(&line.client(&from(Side::Client, &hello))), [expected]);
    line
}

const MADE: &str = concat!(
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"#,
    r#""io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}"#
);

#[test]
fn an_envelope_is_put_around_what_a_legacy_client_says() {
    let mut line = greeted(r#"{"elicitation":{}}"#);
    for (params, expected) in [
        ("", format!(r#"{{"params":{{"_meta":{{{MADE}}}}},"jsonrpc":"2.0","id":2,"method":"m"}}"#)),
        (r#","params":null"#, format!(r#"{{"jsonrpc":"2.0","id":2,"method":"m","params":{{"_meta":{{{MADE}}}}}}}"#)),
        (r#","params":{}"#, format!(r#"{{"jsonrpc":"2.0","id":2,"method":"m","params":{{"_meta":{{{MADE}}}}}}}"#)),
        (
            r#","params":{ "a":1.0}"#,
            format!(r#"{{"jsonrpc":"2.0","id":2,"method":"m","params":{{"_meta":{{{MADE}}}, "a":1.0}}}}"#),
        ),
        (
            r#","params":{"a":1.0,"_meta":{"progressToken":3}}"#,
            format!(r#"{{"jsonrpc":"2.0","id":2,"method":"m","params":{{"a":1.0,"_meta":{{{MADE},"progressToken":3}}}}}}"#),
        ),
    ] {
        let request = from(Side::Client, &format!(r#"{{"jsonrpc":"2.0","id":2,"method":"m"{params}}}"#));
        assert_eq!(texts(&line.client(&request)), [expected]);
    }
}

#[test]
fn what_a_modern_server_needs_is_asked_and_the_request_made_once_more() {
    let mut line = greeted(r#"{"elicitation":{}}"#);
    line.client(&from(
        Side::Client,
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"t","arguments":{"a":1.50}}}"#,
    ));
    let needs = r#"{"jsonrpc":"2.0","id":2,"result":{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"n":1.0}}},"requestState":"\u0073"}}"#;
    let asked = line.server(&from(Side::Server, needs), 0);
    let question = from(Side::Server, &text(&asked[0]));
    assert_eq!((question.method(), question.params().unwrap().raw()), (Some("elicitation/create"), r#"{"n":1.0}"#));
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"action":"accept","x":1.0}}}}"#, question.id().unwrap().text());
    let again = line.client(&from(Side::Client, &answer));
    let [Step::Again { id, text: sent }] = again.as_slice() else { panic!("{again:?}") };
    assert_eq!(id, &Id::from(2));
    let sent = from(Side::Client, std::str::from_utf8(sent).unwrap());
    let params = sent.params().unwrap();
    assert_eq!(params.get("arguments").unwrap().raw(), r#"{"a":1.50}"#);
    assert_eq!(params.get("requestState").unwrap().raw(), r#""\u0073""#, "the state goes back as it came");
    assert_eq!(params.get("inputResponses").unwrap().raw(), r#"{"k":{"action":"accept","x":1.0}}"#);
    assert_ne!(sent.id(), Some(&Id::from(2)));
    let done =
        format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[],"resultType":"complete"}}}}"#, sent.id().unwrap().text());
    assert_eq!(texts(&line.server(&from(Side::Server, &done), 0)), [r#"{"jsonrpc":"2.0","id":2,"result":{"content":[]}}"#]);
}

/// A modern server that needs answers to so many questions before it goes on with the request `id`.
fn needs(id: &Id, questions: usize) -> Message {
    let one = |number| format!(r#""k{number}":{{"method":"elicitation/create","params":{{"message":"m"}}}}"#);
    let asked: Vec<_> = (0..questions).map(one).collect();
    let result = format!(r#"{{"resultType":"input_required","inputRequests":{{{}}}}}"#, asked.join(","));
    from(Side::Server, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.text()))
}

#[test]
fn a_modern_server_asks_only_so_often_and_so_much_at_once() {
    let begun = || {
        let mut line = greeted(r#"{"elicitation":{}}"#);
        line.client(&from(Side::Client, r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"t"}}"#));
        line
    };
    let is_failed =
        |steps: &[Step], why: &str| matches!(steps, [Step::Deliver(text)] if std::str::from_utf8(text).unwrap().contains(why));
    let mut line = begun();
    let mut wire = Id::from(2);
    for round in 1..=32 {
        let asked = line.server(&needs(&wire, 1), 0);
        let question = from(Side::Server, &text(&asked[0])).id().unwrap().text().to_owned();
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{question},"result":{{"action":"decline"}}}}"#);
        let again = line.client(&from(Side::Client, &answer));
        assert!(matches!(again[..], [Step::Again { .. }]), "{round}: {again:?}");
        wire = from(Side::Client, &text(&again[0])).id().unwrap().clone();
    }
    let ended = line.server(&needs(&wire, 1), 0);
    assert!(is_failed(&ended, "asks without end"), "{ended:?}");

    assert_eq!(begun().server(&needs(&Id::from(2), 16), 0).len(), 16);
    let refused = begun().server(&needs(&Id::from(2), 17), 0);
    assert!(is_failed(&refused, "asks too much at once"), "{refused:?}");
}

#[test]
fn white_space_between_a_value_and_what_is_taken_out_behind_it_stays() {
    let mut line = greeted("{}");
    line.client(&from(Side::Client, r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"t"}}"#));
    let done = r#"{"jsonrpc":"2.0","id":2,"result":{"content":[1.0] , "resultType":"complete" ,"x":2}}"#;
    let expected = r#"{"jsonrpc":"2.0","id":2,"result":{"content":[1.0]  ,"x":2}}"#;
    assert_eq!(texts(&line.server(&from(Side::Server, done), 0)), [expected]);
}

#[test]
fn a_form_that_was_refused_with_an_error_is_cancelled_and_a_call_without_an_answer_fails() {
    let needs = |method: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":2,"result":{{"resultType":"input_required","inputRequests":{{"k":{{"method":"{method}"}}}}}}}}"#
        )
    };
    for (method, expected) in [("elicitation/create", r#"{"k":{"action":"cancel"}}"#), ("roots/list", "-32603")] {
        let mut line = greeted(r#"{"elicitation":{},"roots":{}}"#);
        line.client(&from(Side::Client, r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"t"}}"#));
        let question = from(Side::Server, &text(&line.server(&from(Side::Server, &needs(method)), 0)[0]));
        let error = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-1,"message":"no"}}}}"#, question.id().unwrap().text());
        let steps = texts(&line.client(&from(Side::Client, &error)));
        assert!(steps[0].contains(expected), "{method}: {steps:?}");
    }
    let mut line = greeted("{}");
    line.client(&from(Side::Client, r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"t"}}"#));
    assert!(texts(&line.server(&from(Side::Server, &needs("roots/list")), 0))[0].contains("-32603"), "it was not declared");
}

#[test]
fn changes_are_listened_for_once_the_client_is_ready_and_again_when_the_stream_ends() {
    let mut line = greeted("{}");
    let ready = from(Side::Client, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    let listen = from(Side::Client, &text(&line.client(&ready)[0]));
    assert_eq!(listen.params().unwrap().get("notifications").unwrap().raw(), r#"{"toolsListChanged":true}"#);
    let id = listen.id().unwrap().text().to_owned();
    let notice = |method: &str| {
        let tag = format!(r#"{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id},"x":1}},"notifications":{{}}}}"#);
        from(Side::Server, &format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{tag}}}"#))
    };
    assert!(line.server(&notice("notifications/subscriptions/acknowledged"), 0).is_empty());
    let told = texts(&line.server(&notice("notifications/tools/list_changed"), 0));
    assert_eq!(
        told,
        [r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"x":1},"notifications":{}}}"#]
    );
    assert_eq!(line.fail(listen.id().unwrap(), 10).0, None);
    assert!(line.tick(11).is_empty());
    assert!(texts(&line.tick(10_000))[0].contains("subscriptions/listen"));
}

proptest! {
    /// There and back again: the arguments, the names and the results of the other era are the same bytes. (Blanks before the
    /// first member of a result go with the member that was put before it.)
    #[test]
    fn what_both_eras_have_crosses_unchanged(
        arguments in "(\\{\"[a-z]{1,3}\": ?(1\\.0|\"é\\\\u0041\"|\\[ \\]|null)\\})",
        before in "(\"x-odd\":1\\.0,)?",
        result in "(\\{(\"content\":\\[ 1\\.0 \\])? ?\\}|null|\\[1\\])",
    ) {
        let text = format!(r#"{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{{before}"name":"t","arguments":{arguments}}}}}"#);
        let client = from(Side::Client, &text);
        let mut to_modern = greeted("{}");
        let modern = from(Side::Client, &self::text(&to_modern.client(&client)[0]));
        let mut to_legacy = agreed("{}");
        let legacy = from(Side::Client, &self::text(&to_legacy.client(&modern, 0)[0]));
        for message in [&modern, &legacy] {
            prop_assert_eq!(message.params().unwrap().get("arguments").unwrap().raw(), &arguments);
            prop_assert_eq!(message.params().unwrap().get("name").unwrap().raw(), "\"t\"");
        }
        let without_meta = |text: &str| text.replace("\"_meta\":{},", "");
        prop_assert_eq!(without_meta(std::str::from_utf8(legacy.text()).unwrap()), text);
        let answer = from(Side::Server, &format!(r#"{{"jsonrpc":"2.0","id":5,"result":{result}}}"#));
        let modern = from(Side::Server, &self::text(&to_legacy.server(&answer, 0)[0]));
        let legacy = to_modern.server(&modern, 0);
        prop_assert_eq!(self::text(&legacy[0]), std::str::from_utf8(answer.text()).unwrap());
    }

    /// Whatever either says, in whatever order: no panic, and what comes out are messages.
    #[test]
    fn nothing_upsets_the_translators(script in proptest::collection::vec((any::<bool>(), 0usize..12, 0u64..4), 0..40)) {
        let mut to_legacy = agreed(r#"{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{}}"#);
        let mut to_modern = greeted(r#"{"elicitation":{},"sampling":{},"roots":{}}"#);
        for (step, (is_client, which, id)) in script.into_iter().enumerate() {
            let side = if is_client { Side::Client } else { Side::Server };
            let said = script_line(is_client, which, id);
            let Ok(message) = Message::parse(said, side) else { continue };
            let now = step as u64 * 60_000;
            let (first, second) = if is_client {
                (to_legacy.client(&message, now), to_modern.client(&message))
            } else {
                (to_legacy.server(&message, now), to_modern.server(&message, now))
            };
            let late = [to_legacy.tick(now), to_modern.tick(now)].concat();
            for step in first.iter().chain(&second).chain(&late) {
                let bytes = text(step);
                let readable = Message::parse(bytes.clone(), Side::Server).is_ok();
                prop_assert!(readable, "{}", bytes);
            }
        }
    }
}

fn script_line(is_client: bool, which: usize, id: u64) -> String {
    if is_client {
        let methods = ["tools/call", "resources/read", "subscriptions/listen", "resources/subscribe", "initialize", "ping"];
        return match which {
            0..=5 => format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"{}","params":{{{ENVELOPED},"name":"t","uri":"u{id}","notifications":{{"toolsListChanged":true,"resourceSubscriptions":["u{id}"]}}}}}}"#,
                methods[which]
            ),
            6 | 7 => call(id, &format!(r#","requestState":"state-{id}","inputResponses":{{"elicitation-{which}":{{}}}}"#))
                .text()
                .escape_ascii()
                .to_string()
                .replace("\\\"", "\""),
            8 => format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#),
            9 => format!(r#"{{"jsonrpc":"2.0","id":"callgate-bridge-{id}","result":{{}}}}"#),
            10 => format!(r#"{{"jsonrpc":"2.0","id":"callgate-bridge-{id}","error":{{"code":1,"message":"m"}}}}"#),
            _ => r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned(),
        };
    }
    match which {
        0 => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"x":1.0}}}}"#),
        1 => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32002,"message":"m"}}}}"#),
        2 => format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"input_required","inputRequests":{{"k":{{"method":"roots/list"}}}},"requestState":"s"}}}}"#
        ),
        3 => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"input_required","requestState":"s"}}}}"#),
        4 | 5 => QUESTION.replace("s1", &format!("s{id}")),
        6 => format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":"s{id}"}}}}"#),
        7 => r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}"#.to_owned(),
        8 => r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#.to_owned(),
        9 => format!(r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"u{id}"}}}}"#),
        10 => format!(r#"{{"jsonrpc":"2.0","id":"callgate-bridge-{id}","result":{{"resultType":"complete"}}}}"#),
        _ => format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":"callgate-bridge-{id}"}},"notifications":{{}}}}}}"#
        ),
    }
}
