//! The corpora, as far as they are about the text of messages and lists alone. What needs a policy or a connection is run
//! against the whole gateway.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json::{Document, Strictness, Value};
use mcp::tools::{ToolList, filter};
use mcp::{Incoming, Message, Revision, Side, ToolCall, reply};

fn document(text: &'static [u8]) -> Document {
    Document::parse(text, Strictness::Request).unwrap()
}

fn string(case: Value<'_>, key: &str) -> String {
    case.get(key).unwrap().as_str().unwrap().into_owned()
}

fn parity(kind: &str, mut check: impl FnMut(Value<'_>)) {
    let corpus = document(include_bytes!("../../../tests/corpora/intercept-parity.json"));
    let cases: Vec<_> = corpus.root().get("cases").unwrap().elements().unwrap().filter(|c| string(*c, "kind") == kind).collect();
    assert!(!cases.is_empty());
    cases.into_iter().for_each(&mut check);
}

#[test]
fn what_slipped_past_a_lenient_reader_is_refused() {
    parity("wire", |case| {
        let judged = Incoming::parse(string(case, "message"), Side::Client, Revision::V2025_11_25);
        let refused = match &judged {
            Err(_) => true,
            Ok(Incoming::One(message)) => ToolCall::of(message).is_err(),
            Ok(Incoming::Batch(_)) => false,
        };
        assert!(refused, "{}", string(case, "name"));
    });
}

#[test]
fn lists_are_filtered_as_the_peer_filters_them() {
    parity("filter", |case| {
        let reply = Message::parse(string(case, "reply"), Side::Server).unwrap();
        // These policies say `hide: ["a"]` and nothing else about tools.
        let policy = string(case, "policy");
        let hidden = policy.lines().find_map(|line| line.strip_prefix("hide: ")).unwrap();
        let hidden = Document::parse(hidden.to_owned(), Strictness::Request).unwrap();
        let is_hidden = |name: &str| hidden.root().elements().unwrap().any(|h| h.as_str().unwrap() == name);
        let filtered = filter(&reply, |tool| !is_hidden(&tool.name)).unwrap();
        if case.get("same").is_some() {
            assert_eq!(&filtered.text, reply.text());
            return;
        }
        let expected: Vec<_> = case.get("names").unwrap().elements().unwrap().map(|n| n.as_str().unwrap().into_owned()).collect();
        assert_eq!(filtered.kept, expected, "{}", string(case, "name"));
        let after = Message::parse(filtered.text, Side::Server).unwrap();
        let list = ToolList::of(after.result().unwrap()).unwrap();
        let cursor = list.next_cursor().map(|cursor| cursor.as_str().unwrap());
        assert_eq!(cursor, case.get("nextCursor").map(|cursor| cursor.as_str().unwrap()));
    });
}

#[test]
fn what_is_no_json_is_no_message() {
    let suite = document(include_bytes!("../../../tests/corpora/jsontestsuite.json"));
    for case in suite.root().get("cases").unwrap().elements().unwrap() {
        let (file, bytes) = (string(case, "file"), STANDARD.decode(string(case, "bytes_b64")).unwrap());
        for side in [Side::Client, Side::Server] {
            let code = Message::parse(bytes.clone(), side).map(drop).map_err(|malformed| malformed.code);
            let is_json = file.starts_with("y_") && !(side == Side::Client && file.starts_with("y_object_duplicated_key"));
            match &file[..2] {
                "n_" | "y_" => assert_eq!(code, Err(if is_json { reply::INVALID_REQUEST } else { reply::PARSE_ERROR }), "{file}"),
                _ => assert!(code.is_err(), "{file}"),
            }
        }
    }
}
