//! How problems look, and that no text brings the loader down.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use policy::{Source, Tools, check_tools, load};
use proptest::prelude::*;

#[track_caller]
fn renders(name: &str, text: &str, expected: &str) {
    let source = Source::new(name, text);
    let rendered: Vec<String> = load(&source).problems.iter().map(|problem| problem.render(&source, false)).collect();
    assert_eq!(rendered.join("\n"), expected);
}

#[test]
fn an_error_says_what_where_and_how_to_mend_it() {
    renders(
        "policies/github.yaml",
        "version: \"1\"\ntools:\n  t:\n    rules:\n      - name: pace\n        conditions: [{path: state.t.n, op: lte, value: 5}]\n        state:\n          counter: n\n          window: hourly\n",
        "\
error[P014]: unknown window `hourly`
 --> policies/github.yaml:9:19
  |
9 |           window: hourly
  |                   ^^^^^^ expected `minute`, `hour`, `day`, `week`, `month`, or a span such as `15m`
  |
help: write `window: hour`
",
    );
}

#[test]
fn a_duplicate_shows_both_places() {
    renders(
        "p.yaml",
        "version: \"1\"\ndefault: deny\ntools: {t: {}}\ndefault: allow\n",
        "\
error[P004]: key `default` stands twice: first in line 2
 --> p.yaml:4:1
  |
2 | default: deny
  | ------- first here
3 | tools: {t: {}}
4 | default: allow
  | ^^^^^^^
  |
help: keep one of the two
",
    );
}

#[test]
fn columns_count_characters() {
    let source = Source::new("p.yaml", "version: \"1\"\ntools: {\"größe\": {rulez: []}}\n");
    let problem = &load(&source).problems[0];
    assert_eq!((problem.line, problem.column, problem.end_line, problem.end_column), (2, 19, 2, 24));
}

#[test]
fn a_problem_is_data_too() {
    let source = Source::new("p.yaml", "version: \"1\"\ndefault: block\n");
    let problem = load(&source).problems[0].to_json();
    let expected = r#"{"severity":"error","code":"P013","message":"unknown default `block`: expected `allow` or `deny`","file":"p.yaml","line":2,"column":10,"end_line":2,"end_column":15,"help":"write `deny`"}"#;
    assert_eq!(problem, expected);
}

#[test]
fn a_secret_is_never_shown() {
    for text in [
        "version: \"1\"\ndefault: deny\ntools: {t: {}}\napprovals:\n  webhook: {url: 12, secret: hunter2}\n",
        "version: \"1\"\napprovals:\n  webhook:\n    secret: 0hunter2\n    secret: hunter2\n",
        "version: \"1\"\napprovals:\n  webhook:\n    secrt: hunter2\n",
        "version: \"1\"\napprovals:\n  webhook:\n    secret: \"hunter2\n",
        "version: \"1\"\napprovals:\n  webhook:\n    secret: 0x686e2hunter2\n    url: hunter2\n",
        "{\"version\": \"1\", \"approvals\": {\"webhook\": {\"secret\": \"hunter2\" \"x\"}}}",
    ] {
        let source = Source::new("p.yaml", text);
        let problems = load(&source).problems;
        assert!(!problems.is_empty(), "{text}");
        for problem in problems {
            let all = problem.render(&source, false) + &problem.render(&source, true) + &problem.to_json();
            assert!(!all.contains("hunter2"), "{all}");
        }
    }
}

#[test]
fn hostile_texts_are_refused_in_time() {
    let deep = format!("version: \"1\"\ntools: {}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let wide = format!("version: \"1\"\ntools: [{}]", "1,".repeat(300_000));
    let bomb = "a: &a [1]\nb: &b [*a, *a]\nc: &c [*b, *b]\n".to_owned();
    let long = format!("version: \"1\"\n# {}", "x".repeat(5 << 20));
    let keys: String = (0..20_000).map(|i| format!("k{i}: 1\n")).collect();
    for text in [deep, wide, bomb, long, keys] {
        let source = Source::new("p.yaml", text);
        let loaded = load(&source);
        assert!(loaded.policy.is_none());
        assert!(loaded.problems.len() <= 101, "{}", loaded.problems.len());
    }
    for text in ["{\"a\":".repeat(400), format!("{{\"a\": {}{}}}", "[".repeat(400), "]".repeat(400))] {
        assert!(load(&Source::new("p.json", text)).policy.is_none());
    }
    assert!(load(&Source::new("p.yaml", b"\xff\xfev\0".to_vec())).problems[0].message.contains("UTF-16"));
    assert!(load(&Source::new("p.yaml", b"version: \"1\"\nx: \xe9\n".to_vec())).problems[0].line == 2);
}

/// Pieces that policies are made of, so that arbitrary texts get past the first line.
const PIECES: &[&str] = &[
    "version: \"1\"\n",
    "tools:\n",
    "  t:\n",
    "    rules:\n",
    "      - ",
    "name: r\n",
    "        conditions:\n",
    "          - ",
    "{path: args.x, op: eq, value: 1}",
    "path: state.t.n",
    "op: lte",
    "state: {counter: n, window: hour}",
    "rate_limit: 5/hour",
    "rate_limit: {max: 1, window: 60}",
    "spend: {per_call: 1}",
    "limits: [",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "\n",
    " ",
    "  ",
    ": ",
    ", ",
    "- ",
    "&a ",
    "*a",
    "!t ",
    "<<: ",
    "? ",
    "|\n",
    ">\n",
    "---\n",
    "...\n",
    "#",
    "\t",
    "\r",
    "é",
    "\u{2028}",
    "\u{0}",
    "😀",
    "~",
    "017",
    "1e9",
    ".inf",
    "deny_if: ",
    "args.items[*].x",
    "hide: [a, \"*\"]",
    "\"version\": \"1\", ",
    "\"default\": \"deny\"",
    "\"tools\": {\"t\": {}}",
    "mode: shadow\n",
    "time: {days: mon-fri}",
    "validate: {types: true}",
    "%YAML 1.2\n",
    "approvals: {webhook: {secret: s}}",
];

fn no_panic(bytes: Vec<u8>) {
    let tools =
        Tools::parse(br#"[{"name": "t", "inputSchema": {"type": "object", "properties": {"x": {"type": "string"}}}}]"#).unwrap();
    for name in ["p.yaml", "p.json"] {
        let source = Source::new(name, bytes.clone());
        let loaded = load(&source);
        assert_eq!(loaded.policy.is_none(), loaded.problems.iter().any(|p| p.severity == policy::Severity::Error));
        for problem in loaded.problems.iter().chain(&check_tools(&source, &loaded, &tools)) {
            problem.render(&source, false);
            problem.render(&source, true);
            json::Document::parse(problem.to_json(), json::Strictness::Request).expect("valid JSON");
        }
    }
}

proptest! {
    #[test]
    fn no_text_brings_the_loader_down(text in any::<Vec<u8>>()) {
        no_panic(text);
    }

    #[test]
    fn no_string_brings_the_loader_down(text in any::<String>()) {
        no_panic(text.into_bytes());
    }

    #[test]
    fn no_mixture_of_policy_pieces_brings_the_loader_down(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        no_panic(pieces.concat().into_bytes());
    }
}
