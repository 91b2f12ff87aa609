//! The header rules of 2026-07-28, and the one of the revisions before.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use http::{HeaderMap, HeaderName, HeaderValue};
use json::{Document, Strictness};
use mcp::headers::{Mirrored, check_request, declared, decode, encode, for_request};
use mcp::{Message, Revision, Side, reply};
use proptest::prelude::*;

const MODERN: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

fn message(text: &str) -> Message {
    Message::parse(text.to_owned(), Side::Client).unwrap()
}

/// A modern `tools/call` with `arguments`.
fn call(arguments: &str) -> Message {
    message(&format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"read_file","arguments":{arguments},"_meta":{{{MODERN}}}}}}}"#
    ))
}

fn mirrored(schema: &str) -> Result<Mirrored, String> {
    Mirrored::of(Document::parse(schema.to_owned(), Strictness::Reply).unwrap().root())
}

fn outcome(lines: &[(&str, &str)], message: &Message) -> Result<&'static str, i64> {
    check_request(&headers(lines), message, None).map(Revision::as_str).map_err(|refusal| refusal.code)
}

const GOOD: [(&str, &str); 3] = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call"), ("Mcp-Name", "read_file")];

/// `GOOD` with the header `name` in other values: none, one, or several.
#[track_caller]
fn check(name: &str, values: &[&str], expected: Result<&'static str, i64>) {
    let mut lines: Vec<_> = GOOD.into_iter().filter(|(other, _)| *other != name).collect();
    lines.extend(values.iter().map(|value| (name, *value)));
    assert_eq!(outcome(&lines, &call("{}")), expected, "{name}: {values:?}");
}

#[test]
fn headers_that_agree_with_the_body_pass() {
    assert_eq!(outcome(&GOOD, &call("{}")), Ok("2026-07-28"));
}

#[test]
fn method_and_name_must_be_there_once_and_exactly() {
    let mismatch = Err(reply::HEADER_MISMATCH);
    for values in
        [&[][..], &["tools/list"], &["TOOLS/CALL"], &["tools/call", "tools/call"], &[""], &["=?base64?dG9vbHMvY2FsbA==?="]]
    {
        check("Mcp-Method", values, mismatch);
    }
    for values in [
        &[][..],
        &["other"],
        &["read_file", "read_file"],
        &["read_file", "other"],
        &[""],
        &["read_file "],
        &["Read_File"],
        &["=?base64?b3RoZXI=?="],
        &["=?BASE64?cmVhZF9maWxl?="],
        &["=?base64?cmVhZF9maWxl"],
        &["=?base64?cmVhZF9maWx?="],
        &["=?base64?cmVhZF9maWxl==?="],
        &["=?base64?/w==?="],
        &["=?base64??="],
        &["=?base64?="],
        &["read_fil\u{e9}"],
    ] {
        check("Mcp-Name", values, mismatch);
    }
    check("Mcp-Name", &["=?base64?cmVhZF9maWxl?="], Ok("2026-07-28"));
}

#[test]
fn the_version_must_be_the_same_in_header_and_body() {
    let mismatch = Err(reply::HEADER_MISMATCH);
    for values in [&[][..], &["2025-11-25"], &["2026-07-29"], &["2026-07-28", "2026-07-28"], &[""], &["2026-07-28 "]] {
        check("MCP-Protocol-Version", values, mismatch);
    }
}

#[test]
fn a_version_we_do_not_know_is_named_with_those_we_do() {
    let text =
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2030-01-01"}}}"#;
    let lines = [("MCP-Protocol-Version", "2030-01-01"), ("Mcp-Method", "ping")];
    let refusal = check_request(&headers(&lines), &message(text), None).unwrap_err();
    assert_eq!(refusal.code, reply::UNSUPPORTED_PROTOCOL_VERSION);
    let data = refusal.data.unwrap();
    assert!(data.starts_with(r#"{"supported":["2026-07-28","#) && data.ends_with(r#""requested":"2030-01-01"}"#), "{data}");
}

#[test]
fn what_a_modern_request_must_say_of_itself_is_demanded() {
    let lines = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/list")];
    for params in [
        "",
        r#","params":{}"#,
        r#","params":{"_meta":{}}"#,
        r#","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#,
        r#","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":1,"io.modelcontextprotocol/clientCapabilities":{}}}"#,
        r#","params":{"_meta":{"io.modelcontextprotocol/clientCapabilities":{}}}"#,
    ] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list"{params}}}"#);
        assert_eq!(outcome(&lines, &message(&text)), Err(reply::INVALID_PARAMS), "{params}");
    }
}

#[test]
fn notifications_need_no_headers_but_right_ones() {
    let text = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let version = ("MCP-Protocol-Version", "2026-07-28");
    assert_eq!(outcome(&[version], &message(text)), Ok("2026-07-28"));
    assert_eq!(outcome(&[version, ("Mcp-Method", "x")], &message(text)), Err(reply::HEADER_MISMATCH));
}

#[test]
fn modern_clients_send_no_responses() {
    let text = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    assert_eq!(outcome(&[("MCP-Protocol-Version", "2026-07-28")], &message(text)), Err(reply::INVALID_REQUEST));
    assert_eq!(outcome(&[("MCP-Protocol-Version", "2025-11-25")], &message(text)), Ok("2025-11-25"));
}

#[test]
fn before_2026_only_the_version_counts() {
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#;
    assert_eq!(outcome(&[], &message(text)), Ok("2025-03-26"));
    assert_eq!(outcome(&[("MCP-Protocol-Version", "2025-06-18"), ("Mcp-Name", "b")], &message(text)), Ok("2025-06-18"));
    let unknown = Err(reply::UNSUPPORTED_PROTOCOL_VERSION);
    assert_eq!(outcome(&[("MCP-Protocol-Version", "2025-06-19")], &message(text)), unknown);
    assert_eq!(outcome(&[("MCP-Protocol-Version", "")], &message(text)), unknown);
    // The other way round: a body that calls itself modern without the header, or with an older one.
    assert_eq!(outcome(&[], &call("{}")), Err(reply::HEADER_MISMATCH));
    let legacy = text.replace(r#""a""#, r#""a","_meta":{"io.modelcontextprotocol/protocolVersion":"2025-11-25"}"#);
    assert_eq!(outcome(&[("MCP-Protocol-Version", "2025-11-25")], &message(&legacy)), Err(reply::HEADER_MISMATCH));
}

#[test]
fn the_headers_alone_settle_whether_a_batch_may_come() {
    let batches = |lines| declared(&headers(lines)).map(Revision::has_batches).map_err(|refusal| refusal.code);
    assert_eq!(batches(&[]), Ok(true));
    assert_eq!(batches(&[("MCP-Protocol-Version", "2025-06-18")]), Ok(false));
    assert_eq!(batches(&[("MCP-Protocol-Version", "2025-6-18")]), Err(reply::UNSUPPORTED_PROTOCOL_VERSION));
    let twice = [("MCP-Protocol-Version", "2025-03-26"), ("MCP-Protocol-Version", "2025-03-26")];
    assert_eq!(batches(&twice), Err(reply::HEADER_MISMATCH));
}

#[test]
fn each_method_repeats_its_own_name() {
    for (method, key) in [
        ("prompts/get", "name"),
        ("resources/read", "uri"),
        ("tasks/get", "taskId"),
        ("tasks/update", "taskId"),
        ("tasks/cancel", "taskId"),
    ] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"{key}":"é/1","_meta":{{{MODERN}}}}}}}"#);
        let message = message(&text);
        let lines = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", method)];
        assert_eq!(outcome(&lines, &message), Err(reply::HEADER_MISMATCH), "{method}");
        let sent: HeaderMap = for_request(&message, Revision::V2026_07_28, None).into_iter().collect();
        assert_eq!(sent["mcp-name"], "=?base64?w6kvMQ==?=");
        assert!(check_request(&sent, &message, None).is_ok());
    }
}

#[test]
fn a_method_that_no_header_carries_is_left_out() {
    for method in ["méthode", " tools/list", "tools/list ", "tools\nlist", "=?base64?YQ==?="] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":{method:?},"params":{{"_meta":{{{MODERN}}}}}}}"#);
        let message = message(&text);
        let sent: HeaderMap = for_request(&message, Revision::V2026_07_28, None).into_iter().collect();
        assert_eq!(sent.get("mcp-method"), None, "{method:?}");
        let refusal = check_request(&sent, &message, None).unwrap_err();
        assert_eq!(refusal.to_string(), "header mismatch: the header mcp-method is missing", "{method:?}");
    }
}

#[test]
fn values_are_encoded_as_the_specification_shows() {
    for (value, expected) in [
        ("us-west1", "us-west1"),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ("a\tb", "=?base64?YQli?="),
        ("=?base64?=", "=?base64?="),
        ("", ""),
    ] {
        assert_eq!(encode(value), expected);
        assert_eq!(decode(expected).unwrap(), value);
    }
}

const REGION: &str = r#"{"type":"object","properties":{
    "region":{"type":"string","x-mcp-header":"Region"},
    "count":{"type":["integer","null"],"x-mcp-header":"Count"},
    "deep":{"type":"object","properties":{"dry":{"type":"boolean","x-mcp-header":"Dry-Run"}}},
    "x-mcp-header":{"type":"number","default":{"x-mcp-header":"no"}}}}"#;

#[track_caller]
fn check_param(arguments: &str, lines: &[(&str, &str)], passes: bool) {
    let all: Vec<_> = GOOD.iter().chain(lines).copied().collect();
    let result = check_request(&headers(&all), &call(arguments), Some(&mirrored(REGION).unwrap()));
    let expected = if passes { Ok(Revision::V2026_07_28) } else { Err(reply::HEADER_MISMATCH) };
    assert_eq!(result.map_err(|refusal| refusal.code), expected, "{arguments} {lines:?}");
}

#[test]
fn mirrored_arguments_must_agree() {
    check_param("{}", &[], true);
    check_param(r#"{"region":"us"}"#, &[("Mcp-Param-Region", "us")], true);
    check_param(r#"{"region":"us"}"#, &[("mcp-param-REGION", "=?base64?dXM=?=")], true);
    check_param(r#"{"region":"us"}"#, &[("Mcp-Param-Region", "eu")], false);
    check_param(r#"{"region":"us"}"#, &[("Mcp-Param-Region", "us"), ("Mcp-Param-Region", "us")], false);
    check_param(r#"{"region":"us"}"#, &[], false);
    check_param(r#"{"region":null}"#, &[], true);
    check_param(r#"{"region":null}"#, &[("Mcp-Param-Region", "null")], false);
    check_param("{}", &[("Mcp-Param-Region", "us")], false);
    check_param(r#"{"region":["us"]}"#, &[("Mcp-Param-Region", "us")], false);
    check_param(r#"{"region":5}"#, &[("Mcp-Param-Region", "5")], true);
}

#[test]
fn integers_are_compared_as_numbers() {
    for (body, header, passes) in [
        ("42", "42", true),
        ("42", "42.0", true),
        ("42.0", "42", true),
        ("-7", "-7", true),
        ("9007199254740993", "9007199254740992", false),
        ("42", "+42", false),
        ("42", " 42", false),
        ("42", "0x2a", false),
        ("42", "", false),
    ] {
        check_param(&format!(r#"{{"count":{body}}}"#), &[("Mcp-Param-Count", header)], passes);
    }
}

#[test]
fn booleans_are_lower_case_and_nested_arguments_are_found() {
    check_param(r#"{"deep":{"dry":true}}"#, &[("Mcp-Param-Dry-Run", "true")], true);
    check_param(r#"{"deep":{"dry":true}}"#, &[("Mcp-Param-Dry-Run", "True")], false);
    check_param(r#"{"deep":{"dry":false}}"#, &[("Mcp-Param-Dry-Run", "true")], false);
    check_param(r#"{"deep":7}"#, &[], true);
}

#[test]
fn parameters_that_nobody_annotated_may_say_anything_but_once() {
    check_param("{}", &[("Mcp-Param-Other", "x")], true);
    check_param("{}", &[("Mcp-Param-Other", "x"), ("Mcp-Param-Other", "y")], false);
}

#[test]
fn annotations_that_break_the_rules_are_invalid() {
    let property = |annotation: &str| format!(r#"{{"properties":{{"a":{annotation}}}}}"#);
    for schema in [
        property(r#"{"type":"string","x-mcp-header":""}"#),
        property(r#"{"type":"string","x-mcp-header":"a\r\nb"}"#),
        property(r#"{"type":"string","x-mcp-header":"a b"}"#),
        property(r#"{"type":"string","x-mcp-header":"é"}"#),
        property(r#"{"type":"string","x-mcp-header":1}"#),
        property(r#"{"type":"number","x-mcp-header":"A"}"#),
        property(r#"{"type":"object","x-mcp-header":"A"}"#),
        property(r#"{"type":["string","integer"],"x-mcp-header":"A"}"#),
        property(r#"{"type":"number","type":"string","x-mcp-header":"A"}"#),
        property(r#"{"x-mcp-header":"A"}"#),
        property(r#"{"type":"array","items":{"type":"string","x-mcp-header":"A"}}"#),
        r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#.to_owned(),
        r#"{"oneOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}"#.to_owned(),
        r#"{"if":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}"#.to_owned(),
        r#"{"$defs":{"d":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}}"#.to_owned(),
        r#"{"type":"string","x-mcp-header":"A"}"#.to_owned(),
    ] {
        assert!(mirrored(&schema).is_err(), "{schema}");
    }
    for schema in ["{}", "true", REGION, r#"{"properties":{"a":{"type":"string","enum":[{"x-mcp-header":1}]}}}"#] {
        assert!(mirrored(schema).is_ok(), "{schema}");
    }
}

#[test]
fn older_revisions_get_the_version_alone_and_initialize_nothing() {
    let initialize = message(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#);
    let list = message(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert_eq!(for_request(&initialize, Revision::V2025_11_25, None), []);
    assert_eq!(for_request(&list, Revision::V2025_03_26, None), []);
    let lines = for_request(&list, Revision::V2025_06_18, None);
    assert_eq!(lines, [(mcp::headers::PROTOCOL_VERSION, HeaderValue::from_static("2025-06-18"))]);
}

proptest! {
    #[test]
    fn what_we_send_is_what_we_accept(region in any::<String>(), count in any::<i64>(), dry in any::<bool>()) {
        let arguments = format!(r#"{{"region":{},"count":{count},"deep":{{"dry":{dry}}}}}"#, json::quote(&region));
        let (message, mirrored) = (call(&arguments), mirrored(REGION).unwrap());
        let sent: HeaderMap = for_request(&message, Revision::V2026_07_28, Some(&mirrored)).into_iter().collect();
        prop_assert_eq!(sent.len(), 6);
        prop_assert_eq!(check_request(&sent, &message, Some(&mirrored)), Ok(Revision::V2026_07_28));
    }
}
