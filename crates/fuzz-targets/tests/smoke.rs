//! A short run of every fuzz target on stable: random bytes, and well-formed inputs with a few bytes spoilt.

use proptest::prelude::*;

const SEEDS: [&str; 20] = [
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
    fn lock_file(input in inputs()) {
        targets::lock_file(&input);
    }
}
