//! What is a message, and what is refused: the evasions of `evasions.json` that lie in the text of a message.

use bytes::Bytes;
use mcp::{Id, Incoming, Kind, Malformed, Message, Revision, Route, Side, ToolCall, reply, route};
use proptest::prelude::*;

fn client(text: impl Into<Bytes>) -> Result<Message, Malformed> {
    Message::parse(text, Side::Client)
}

fn server(text: &str) -> Result<Message, Malformed> {
    Message::parse(text.to_owned(), Side::Server)
}

/// The code with which a client's message, or the call in it, is refused.
#[track_caller]
fn refused(text: &str, code: i64) -> Malformed {
    let malformed = match client(text.to_owned()) {
        Err(malformed) => malformed,
        Ok(message) => ToolCall::of(&message).expect_err(text),
    };
    assert_eq!(malformed.code, code, "{text}: {malformed}");
    malformed
}

const PARSE: i64 = reply::PARSE_ERROR;
const REQUEST: i64 = reply::INVALID_REQUEST;
const PARAMS: i64 = reply::INVALID_PARAMS;

#[test]
fn the_three_shapes_are_told_apart() {
    let request = client(r#"{"jsonrpc":"2.0","id":"a","method":"x/y","params":{"_meta":{"k":1}}}"#).unwrap();
    assert_eq!((request.kind(), request.method(), request.id()), (Kind::Request, Some("x/y"), Some(&Id::from("a"))));
    assert_eq!(request.meta("k").unwrap().raw(), "1");
    let notification = client(r#"{"jsonrpc":"2.0","method":"notifications/initialized","params":null}"#).unwrap();
    assert_eq!((notification.kind(), notification.id()), (Kind::Notification, None));
    assert!(notification.params().is_none());
    let result = client(r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":{"k":2}}}"#).unwrap();
    assert_eq!(result.kind(), Kind::Response { is_error: false });
    assert_eq!(result.meta("k").unwrap().raw(), "2");
    let error = server(r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}"#).unwrap();
    assert_eq!(error.kind(), Kind::Response { is_error: true });
}

#[test]
fn a_key_twice_is_refused_at_any_depth() {
    // EV-001 to EV-004
    refused(r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"x"}}"#, PARSE);
    refused(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ok","name":"denied"}}"#, PARSE);
    refused(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ok","arguments":{"p":1,"p":2}}}"#, PARSE);
    refused(r#"{"jsonrpc":"2.0","id":1,"\u006dethod":"x","method":"tools/call","params":{"name":"ok"}}"#, PARSE);
    let escaped = client(r#"{"jsonrpc":"2.0","id":1,"m\u0065thod":"tools\/call","params":{"nam\u0065":"\u0061"}}"#).unwrap();
    assert_eq!(escaped.method(), Some("tools/call"));
    assert_eq!(ToolCall::of(&escaped).unwrap().name, "a");
}

#[test]
fn keys_that_look_like_protocol_keys_are_refused() {
    // EV-005, next to the real key and instead of it
    refused(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","Method":"ping","params":{"name":"x"}}"#, PARSE);
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"Method":"tools/call","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","paramſ":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","PARAMS":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"ｍethod":"tools/call","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","argumentſ":{}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"Name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_META":{}}}"#,
        r#"{"jsonrpc":"2.0","ID":1,"method":"tools/call","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"x","Result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/PROTOCOLVERSION":"2026-07-28"}}}"#,
    ] {
        refused(text, REQUEST);
    }
    // EV-033: anything else is kept, and means nothing.
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"x","tool":"y","params2":{},"params":{"Region":1,"x":{"Name":2}}}"#;
    assert_eq!(client(text).unwrap().text(), text);
}

#[test]
fn a_call_needs_an_object_with_a_name_and_at_most_an_object_of_arguments() {
    // EV-006, EV-007
    for params in ["", r#","params":null"#, r#","params":[]"#, r#","params":"x""#, r#","params":1"#, r#","params":{}"#] {
        refused(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call"{params}}}"#), PARAMS);
    }
    for arguments in [r#""{\"path\":\"/etc/passwd\"}""#, "[]", "null", "5", "true"] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"x","arguments":{arguments}}}}}"#);
        let malformed = refused(&text, PARAMS);
        assert_eq!((malformed.id, malformed.tool.as_deref()), (Some(Id::from(1)), Some("x")));
    }
    for name in ["1", "null", "[\"x\"]", "{}", "true"] {
        refused(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":{name}}}}}"#), PARAMS);
    }
    for more in [r#""task":true"#, r#""requestState":{}"#, r#""inputResponses":[]"#, r#""_meta":[]"#, r#""_meta":null"#] {
        refused(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"x",{more}}}}}"#), PARAMS);
    }
}

#[test]
fn a_call_shows_all_its_channels() {
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","task":{"ttl":1},"requestState":"s","inputResponses":{"a":1}}}"#;
    let message = client(text).unwrap();
    let call = ToolCall::of(&message).unwrap();
    assert!(call.arguments.is_none());
    assert_eq!(call.task.unwrap().raw(), r#"{"ttl":1}"#);
    assert_eq!(call.request_state.unwrap().raw(), r#""s""#);
    assert_eq!(call.input_responses.unwrap().raw(), r#"{"a":1}"#);
}

#[test]
fn numbers_that_readers_round_differently_are_refused() {
    // EV-008, EV-022
    for number in ["1e400", "-1e400", "NaN", "Infinity", "-Infinity", &format!("1{}", "0".repeat(1_000_000))] {
        refused(
            &format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"x","arguments":{{"n":{number}}}}}}}"#),
            PARSE,
        );
    }
}

#[test]
fn other_texts_than_one_object_in_utf8_are_refused() {
    // EV-014, EV-017 to EV-019
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#;
    let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{}}}"#, "[".repeat(1_000_000));
    for text in
        [format!("\u{feff}{call}"), format!("{call}{call}"), format!("{call}x"), call.replace("1,", "1,,"), deep, String::new()]
    {
        refused(&text, PARSE);
    }
    for bytes in [&b"{\"jsonrpc\":\"2.0\",\"id\":\"\xC0\xAE\"}"[..], b"\xFF\xFE{\0}\0", b"{\"a\":\"\xED\xA0\x80\"}"] {
        assert_eq!(client(bytes.to_vec()).unwrap_err().code, PARSE);
    }
    for text in ["1", "\"x\"", "null", "true"] {
        refused(text, REQUEST);
    }
}

#[test]
fn ids_are_strings_and_integers_and_keep_their_text() {
    // EV-026, EV-028
    for id in ["null", "{}", "[]", "1.5", "1.0", "true", &format!("\"{}\"", "x".repeat(1_000_000))] {
        let malformed =
            refused(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"x"}}}}"#), REQUEST);
        assert_eq!(malformed.id, None);
        assert!(malformed.wants_reply);
    }
    for id in ["\"\"", "0", "-1", "18446744073709551615", "9007199254740993", "\"\\u0041\""] {
        let message = client(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"x"}}}}"#)).unwrap();
        assert_eq!(message.id().unwrap().text(), id);
    }
}

#[test]
fn the_version_of_json_rpc_is_one_string() {
    // EV-029
    for version in [r#""jsonrpc":"1.0","#, r#""jsonrpc":2.0,"#, r#""jsonrpc":"2.0 ","#, ""] {
        refused(&format!(r#"{{{version}"id":1,"method":"ping"}}"#), REQUEST);
    }
}

#[test]
fn a_message_has_one_shape() {
    // EV-032
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"method":"x","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"x","error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"x","result":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":"x"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":["tools/call"]}"#,
        "{}",
    ] {
        refused(text, REQUEST);
        assert!(text.contains("null,\"error") || server(text).is_err(), "{text}");
    }
}

#[test]
fn a_call_without_an_id_is_refused_and_not_answered() {
    // EV-025
    let message = client(r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x"}}"#).unwrap();
    assert_eq!(route("tools/call", message.kind(), Side::Client), Some(Route::Refuse));
    let malformed = ToolCall::of(&message).unwrap_err();
    assert_eq!((malformed.code, malformed.reply(), malformed.tool.as_deref()), (REQUEST, None, Some("x")));
}

#[test]
fn names_with_characters_nobody_sees_are_refused() {
    // EV-020, EV-039, EV-043. Never trimmed, and never left to a reader that trims. Any other visible difference makes
    // another name, for the policy to know.
    for name in [
        "read_file ",
        " read_file",
        "read_file\\u00a0",
        "read_file\\n",
        "read_file\\u0000",
        "read_file\\u200b",
        "\\u001b[31mx",
        "x\\u202ey",
        "\\ufeffx",
        "",
        "x\\u0085",
    ] {
        refused(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}"}}}}"#), PARAMS);
    }
    refused(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{}"}}}}"#, "x".repeat(257)), PARAMS);
    for name in ["read file", "Read_File", "reаd_file", "*", "../x", "日本"] {
        let message =
            client(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}"}}}}"#)).unwrap();
        assert_eq!(ToolCall::of(&message).unwrap().name, name);
    }
}

#[test]
fn a_refusal_carries_what_its_record_and_its_answer_need() {
    let text = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"x","arguments":{"p":1,"p":2}}}"#;
    let malformed = refused(text, PARSE);
    assert_eq!((malformed.method.as_deref(), malformed.tool.as_deref()), (Some("tools/call"), Some("x")));
    let answer = server(std::str::from_utf8(&malformed.reply().unwrap()).unwrap()).unwrap();
    assert_eq!(answer.id(), Some(&Id::from("a")));
    assert_eq!(answer.error().unwrap().get("code").unwrap().raw(), "-32700");
    // Of two ids, none is right.
    assert_eq!(refused(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}"#, PARSE).id, None);
    assert_eq!(refused(r#"{"jsonrpc":"2.0","id":1,"ID":2,"method":"x"}"#, PARSE).id, None);
    // Nobody waits for an answer to these.
    assert_eq!(refused(r#"{"jsonrpc":"2.0","method":"x","params":[]}"#, PARAMS).reply(), None);
    assert_eq!(refused(r#"{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}"#, PARSE).reply(), None);
}

#[test]
fn servers_may_repeat_what_nobody_goes_by() {
    let text =
        r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"x":1,"x":2}],"other":1,"other":2,"n":1e999,"s":"\ud800"},"z":1,"z":2}"#;
    assert!(server(text).is_ok());
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"id":2,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"ID":2,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"Result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"Error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"tools":[]}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"nextCursor":"","nextCursor":"a"}}"#,
        r#"{"jsonrpc":"2.0","method":"a","method":"b"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progressToken":2}}"#,
    ] {
        assert_eq!(server(text).unwrap_err().code, REQUEST, "{text}");
    }
}

#[test]
fn what_a_server_prints_besides_messages_is_noise() {
    // EV-096
    for text in ["Listening on port 3000", "{\"jsonrpc\":\"2.0\",\"id\":1,\"resu", "", "{} {}", "[info] ready"] {
        assert!(server(text).unwrap_err().is_noise(), "{text}");
    }
    assert!(!server(r#"{"level":"info"}"#).unwrap_err().is_noise());
}

#[test]
fn an_error_about_an_unreadable_request_has_no_id() {
    let message = server(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}"#).unwrap();
    assert_eq!((message.kind(), message.id()), (Kind::Response { is_error: true }, None));
}

#[test]
fn batches_are_for_one_revision() {
    // EV-023
    let text = r#" [{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_repo"}}]"#;
    for revision in Revision::ALL.into_iter().filter(|revision| !revision.has_batches()) {
        let malformed = Incoming::parse(text, Side::Client, revision).unwrap_err();
        assert_eq!((malformed.code, malformed.tool.as_deref(), malformed.id), (REQUEST, Some("delete_repo"), None));
    }
    assert!(matches!(Incoming::parse(text, Side::Client, Revision::V2025_03_26), Ok(Incoming::Batch(items)) if items.len() == 1));
    assert_eq!(client(text).unwrap_err().code, REQUEST);
}

#[test]
fn the_items_of_a_batch_are_judged_alone() {
    let text = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},
        {"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"x","name":"y"}},
        [{"jsonrpc":"2.0","id":3,"method":"ping"}],
        {"jsonrpc":"2.0","id":4,"method":"initialize","params":{}},
        {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}]"#;
    let Ok(Incoming::Batch(items)) = Incoming::parse(text, Side::Client, Revision::V2025_03_26) else { panic!("no batch") };
    let codes: Vec<_> = items.iter().map(|item| item.as_ref().err().map(|malformed| malformed.code)).collect();
    assert_eq!(codes, [None, Some(PARSE), Some(REQUEST), Some(REQUEST), None]);
    assert_eq!(items[0].as_ref().unwrap().text(), r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
}

#[test]
fn empty_nested_and_huge_batches_are_refused() {
    // EV-024
    for text in ["[]".to_owned(), format!("[{}1]", "1,".repeat(100_000)), "[".repeat(100_000), "[{}".to_owned()] {
        assert!(Incoming::parse(text, Side::Client, Revision::V2025_03_26).is_err());
    }
    let Ok(Incoming::Batch(items)) = Incoming::parse("[[]]", Side::Client, Revision::V2025_03_26) else { panic!("no batch") };
    assert!(items[0].is_err());
}

#[test]
fn a_line_has_one_reading() {
    let line = |text: &str| String::from_utf8(Message::for_line(&Bytes::from(text.to_owned())).to_vec()).unwrap();
    assert_eq!(line("{\r\n\t\"a\\\"\":\r\"x\u{2028}y\u{85}\\\\\"\n}"), "{  \t\"a\\\"\": \"x\\u2028y\\u0085\\\\\" }");
    assert_eq!(line("{\"\u{2029}\":\"é€\u{2027}\u{86}\"}"), "{\"\\u2029\":\"é€\u{2027}\u{86}\"}");
    let untouched = Bytes::from_static(b"{ \"a\" : \"\\n\" }");
    assert_eq!(Message::for_line(&untouched).as_ptr(), untouched.as_ptr());
}

#[test]
fn what_has_to_change_can_be_found_and_exchanged() {
    let text =
        r#"{ "id" : "a", "jsonrpc":"2.0", "method":"tools/call","params":{"name":"x","_meta":{"progressToken": 7 ,"z":1.0}}}"#;
    let message = client(text).unwrap();
    let edit = message.edit().replace(message.progress_token().unwrap().span(), "\"p9\"");
    assert_eq!(edit.finish(), text.replace(" 7 ", " \"p9\" "));
    assert_eq!(message.with_id(&Id::from(3)), text.replace("\"a\"", "3"));
    let progress = server(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p9"}}"#).unwrap();
    assert_eq!(progress.progress_token().unwrap().raw(), "\"p9\"");
    let cancelled = client(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#).unwrap();
    assert_eq!(cancelled.cancelled_id().unwrap().raw(), "5");
    for text in [
        r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":4}}}"#,
        r#"{"jsonrpc":"2.0","id":4,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":4}}}"#,
    ] {
        assert_eq!(server(text).unwrap().subscription_id().unwrap().raw(), "4");
    }
}

/// Any JSON value, as text with white space in odd places.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,3})?",
        any::<String>().prop_map(|s| json::quote(&s)),
        "[ -!#-\\[\\]-~é\u{85}\u{2028}\u{2029}]{0,6}".prop_map(|s| format!("\"{s}\\\"\\\\\"")),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            ("[ \r\n\t]{0,2}", proptest::collection::vec(inner.clone(), 0..3))
                .prop_map(|(space, items)| format!("[{space}{}{space}]", items.join(&format!("{space},")))),
            ("[ \r\n\t]{0,2}", proptest::collection::vec(inner, 0..3)).prop_map(|(space, items)| {
                let members: Vec<_> = items.iter().enumerate().map(|(i, item)| format!("\"k{i}\"{space}:{item}")).collect();
                format!("{{{space}{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn changing_the_id_there_and_back_leaves_every_byte(
        id in prop_oneof!["[1-9][0-9]{0,30}", "[ -!#-\\[\\]-~]{0,20}".prop_map(|s| format!("\"{s}\""))],
        params in value(),
        space in "[ \r\n\t]{0,3}",
        other in any::<u64>(),
    ) {
        let text = format!("{space}{{\"x\":{params},{space}\"id\"{space}:{space}{id}{space},\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{{\"id\":{params}}}}}");
        let message = client(text.clone()).unwrap();
        let changed = client(message.with_id(&Id::from(other))).unwrap();
        prop_assert_eq!(changed.id(), Some(&Id::from(other)));
        prop_assert_eq!(changed.params().unwrap().raw(), message.params().unwrap().raw());
        prop_assert_eq!(changed.with_id(message.id().unwrap()), text);
    }

    #[test]
    fn a_text_as_a_line_means_the_same_and_holds_no_line_end(value in value()) {
        let text = format!("{{\"jsonrpc\":\"2.0\",\r\n\"method\":\"m\",\"x\":{value}}}\n");
        let message = client(text).unwrap();
        let line = client(Message::for_line(message.text())).unwrap();
        prop_assert_eq!(line.document().root().canonical(), message.document().root().canonical());
        let text = std::str::from_utf8(line.text()).unwrap();
        let has_line_end = text.contains(['\r', '\n', '\u{85}', '\u{2028}', '\u{2029}']);
        prop_assert!(!has_line_end);
        prop_assert_eq!(Message::for_line(line.text()), line.text());
    }

    #[test]
    fn any_bytes_are_a_message_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), tail in value()) {
        let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{tail}}}");
        for side in [Side::Client, Side::Server] {
            for text in [Bytes::from(bytes.clone()), Bytes::from(text.clone())] {
                if let Ok(message) = Message::parse(text.clone(), side) {
                    prop_assert_eq!(message.text(), &text);
                    let _ = ToolCall::of(&message);
                }
                let _ = Incoming::parse(text.clone(), side, Revision::V2025_03_26);
                Message::for_line(&text);
            }
        }
    }
}
