//! A short run of every fuzz target on stable: random bytes, and well-formed inputs with a few bytes spoilt.

use proptest::prelude::*;

const SEEDS: [&str; 8] = [
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","arguments":{"amount":5.0e1,"currency":"usd"}}}"#,
    r#"{"jsonrpc":"2.0","id":"a","result":{"tools":[{"name":"aa","inputSchema":{}},{"name":"b"}],"nextCursor":""}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"_meta":{"progressToken":"\u0041"}}}"#,
    "\u{0}{\"amount\": 9007199254740993, \"currency\": \"usd\", \"note\": \"x\"}",
    "\u{2}{\"items\": [{\"name\": \"ok-1\"}], \"kind\": \"a\", \"tags\": [\"public\", 1]}",
    include_str!("../policies/every-check.yaml"),
    include_str!("../policies/every-check.json"),
    "tools:\n  t:\n    rules:\n      - action: allow\n        rate_limit: {max: 10, window: 60}\n",
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
}
