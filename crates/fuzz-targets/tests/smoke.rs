//! A short run of every fuzz target on stable: random bytes, and well-formed inputs with a few bytes spoilt.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use std::io::Write as _;
use std::process::{Command, Stdio};

const SEEDS: [&str; 21] = [
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","arguments":{"amount":5.0e1,"currency":"usd"}}}"#,
    r#"{"jsonrpc":"2.0","id":"a","result":{"tools":[{"name":"aa","inputSchema":{}},{"name":"b"}],"nextCursor":""}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"_meta":{"progressToken":"\u0041"}}}"#,
    "\u{0}{\"amount\": 9007199254740993, \"currency\": \"usd\", \"note\": \"x\"}",
    "\u{2}{\"items\": [{\"name\": \"ok-1\"}], \"kind\": \"a\", \"tags\": [\"public\", 1]}",
    include_str!("../policies/every-check.yaml"),
    include_str!("../policies/every-check.json"),
    "tools:\n  t:\n    rules:\n      - action: allow\n        rate_limit: {max: 10, window: 60}\n",
    "\u{8}{\"a\":1}\n\r\n{}\r\nlonger than eight\n\u{2028}\n[1]",
    "\u{20}id: 7\nevent: message\ndata: {\"a\":\ndata:  1}\n\n: ping\r\n\r\nretry: 10\rdata\r\r\u{feff}data: x\n\n",
    "\u{30}\u{feff}event: endpoint\ndata: /messages?session=1\n\nid\ndata:\n\ndata: a\r\n\r\n",
    "MCP-Protocol-Version: 2026-07-28\nMcp-Method: tools/call\nMcp-Name: pay\nMcp-Param-Region: =?base64?w6k=?=\nMcp-Param-Count: 7\n\n\
     {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"pay\",\"arguments\":{\"region\":\"é\",\"count\":7.0},\
     \"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"io.modelcontextprotocol/clientCapabilities\":{}}}}",
    "Mcp-Method: resources/read\nMcp-Name: =?base64?ZmlsZTovLy/DqQ==?=\n\n\
     {\"jsonrpc\":\"2.0\",\"id\":\"r\",\"method\":\"resources/read\",\"params\":{\"uri\":\"file:///é\"}}",
    "Mcp-Method: m\u{e9}thode\n\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\" m\u{e9}thode\",\"params\":{\
     \"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"io.modelcontextprotocol/clientCapabilities\":{}}}}",
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"files__\u0072ead","arguments":{"name":"a__b"}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"a__b"},"argument":{}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"result":{"resources":[{"uri":"x:1","name":"a"},{"uri":"x:1"}],"resourceTemplates":[{"uriTemplate":"x:{y}"}]}}"#,
    "{\"version\": 1, \"servers\": {\"files\": {\"instructions\": null, \"prompts\": {}, \"tools\": {\n\
     \"a\": {\"name\": \"a\", \"description\": \"Reads \\u202e it.\"}, \"b\": {\"name\": \"b\", \"inputSchema\": {\"enum\": [1.0, 1]}}}}}}",
    include_str!("../scripts/to_legacy.txt"),
    include_str!("../scripts/to_modern.txt"),
    "{\"content\": [{\"type\": \"text\", \"text\": \"a s3cret\\u202e \\u0073\\u0033cret\u{200d} \u{1f469}\u{200d}\u{1f467}\"}],\
     \"s3cret\": {\"s3cret\": -1.50e2, \"requestState\": \"AKIAIOSFODNN7EXAMPLE\"}, \"requestState\": \"s3cret\"}",
];

fn spoilt() -> impl Strategy<Value = Vec<u8>> {
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 0..6);
    (prop::sample::select(SEEDS.as_slice()), edits).prop_map(|(seed, edits)| {
        let mut bytes = seed.as_bytes().to_vec();
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len().max(1));
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.insert(at.min(bytes.len()), byte),
                _ => {
                    let copied = bytes[at.min(bytes.len())..].iter().take(16).copied().collect::<Vec<_>>();
                    bytes.extend(copied);
                }
            }
        }
        bytes
    })
}

/// The words of a language, put together at random; guided runs are given the same dictionaries.
fn of_words(dictionary: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let words: Vec<String> =
        dictionary.lines().map(|line| serde_json::from_str(line).expect("a word of a dictionary is a string")).collect();
    let part = prop_oneof![
        12 => prop::sample::select(words).prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 1..3),
    ];
    proptest::collection::vec(part, 0..9).prop_map(|parts| parts.concat())
}

fn inputs() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![1 => proptest::collection::vec(any::<u8>(), 0..200), 6 => spoilt()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn members(input in inputs()) {
        targets::members(&input);
    }

    #[test]
    fn message(input in inputs()) {
        targets::message(&input);
    }

    #[test]
    fn policy(input in inputs()) {
        targets::policy(&input);
    }

    #[test]
    fn evaluate(input in inputs()) {
        targets::evaluate(&input);
    }

    #[test]
    fn lines(input in inputs()) {
        targets::lines(&input);
    }

    #[test]
    fn events(input in inputs()) {
        targets::events(&input);
    }

    #[test]
    fn header_codec(input in inputs()) {
        targets::header_codec(&input);
    }

    #[test]
    fn bridge(input in inputs()) {
        targets::bridge(&input);
    }

    #[test]
    fn federation(input in inputs()) {
        targets::federation(&input);
    }

    #[test]
    fn results(input in inputs()) {
        targets::results(&input);
    }

    #[test]
    fn lock_file(input in inputs()) {
        targets::lock_file(&input);
    }

    #[test]
    fn path_within(input in of_words(include_str!("../dictionaries/path_within.txt"))) {
        targets::path_within(&input);
    }

    #[test]
    fn host_in(input in of_words(include_str!("../dictionaries/host_in.txt"))) {
        targets::host_in(&input);
    }

    #[test]
    fn cidr_in(input in of_words(include_str!("../dictionaries/cidr_in.txt"))) {
        targets::cidr_in(&input);
    }

    #[test]
    fn sql_statement_in(input in of_words(include_str!("../dictionaries/sql_statement_in.txt"))) {
        targets::sql_statement_in(&input);
    }

    #[test]
    fn command_in(input in of_words(include_str!("../dictionaries/command_in.txt"))) {
        targets::command_in(&input);
    }
}

/// What the operators let through that would be one thing to us and another to somebody else, and what must pass.
#[test]
fn what_was_found_once_is_not_found_again() {
    for address in [
        "http://api.example.org?@evil",
        "http://api.example.org#@evil",
        "http://[fd00::1]:/",
        "[evil/x.wild.example",
        "http://api.example.org/@evil",
    ] {
        targets::host_in(address.as_bytes());
    }
    for question in ["SELECT a, b FROM t", "SELECT [a'] ; DROP TABLE t; --[']", "SELECT 1 ` ; DROP TABLE t; `"] {
        targets::sql_statement_in(question.as_bytes());
    }
    for path in ["/srv/data/.", "./docs", "docs/#/x", "/srv/data/;x/"] {
        targets::path_within(path.as_bytes());
    }
}

#[test]
fn shells_read_the_words_that_were_judged() {
    const HEADS: &[&str] = &["ls", "git status", "git log --oneline ", "echo ", "cat /srv/data/"];
    const PARTS: &[&str] =
        &["a", "b.txt", "/", " ", "  ", "'", "\"", "x y", "'a b'", "\"c d\"", "''", "-", ",", "@", "+", "#", "=", "$HOME"];
    let line = (prop::sample::select(HEADS), proptest::collection::vec(prop::sample::select(PARTS), 0..7))
        .prop_map(|(head, parts)| format!("{head}{}", parts.concat()));
    let mut runner = TestRunner::default();
    let lines = std::iter::repeat_with(|| line.new_tree(&mut runner).expect("nothing is filtered").current()).take(4_000);
    let judged: Vec<(String, Vec<String>)> = lines
        .filter_map(|line| Some((targets::allowed_command(&line)?, line)))
        .map(|(words, line)| (line, words))
        .take(500)
        .collect();
    assert!(judged.len() > 200, "only {} lines are allowed", judged.len());
    // Short enough for a pipe, so that neither side waits for the other.
    let mut script = "words() { printf '%s\\0' \"$@\"; printf '\\001\\0'; }\n".to_owned();
    judged.iter().for_each(|(line, _)| script.push_str(&format!("words {line}\n")));
    let expected: String = judged.iter().map(|(_, words)| format!("{}\0\u{1}\0", words.join("\0"))).collect();
    for shell in ["sh", "bash", "dash"] {
        let started = Command::new(shell).arg("-s").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = started else {
            eprintln!("skipped: there is no `{shell}`");
            continue;
        };
        child.stdin.take().expect("it is a pipe").write_all(script.as_bytes()).expect("the shell reads");
        let said = child.wait_with_output().expect("the shell ends").stdout;
        assert_eq!(String::from_utf8_lossy(&said), expected, "{shell} reads other words");
    }
}
