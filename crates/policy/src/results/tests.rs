//! What is found in a result, and what is left of it.

use super::{HIDDEN, ResultFilter, WORDS};
use crate::{Policies, Source, load};
use json::{Document, Strictness, Value, quote};
use proptest::prelude::*;
use std::sync::Arc;

fn filter(section: &str) -> ResultFilter {
    let loaded = load(&Source::new("p.yaml", format!("version: \"1\"\nresults: {section}\n")));
    let policy = loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.problems));
    Policies::from(policy).results_of_others()
}

fn parsed(text: &str) -> Document {
    Document::parse(text.to_owned(), Strictness::Reply).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What the client gets of a result, or by what it is withheld.
fn given(section: &str, result: &str) -> Result<String, String> {
    let document = parsed(result);
    let findings = filter(section).judge(document.root()).enforced;
    if let Some(withheld) = findings.withheld {
        return Err(withheld.rule.to_string());
    }
    let (mut out, mut changes) = (result.to_owned(), findings.changes);
    changes.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
    for (place, text) in changes {
        out.replace_range(place, &text);
    }
    parsed(&out);
    Ok(out)
}

#[track_caller]
fn check(section: &str, result: &str, expected: Result<&str, &str>) {
    let given = given(section, result);
    assert_eq!(given.as_deref().map_err(String::as_str), expected, "{section}");
}

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";

#[test]
fn the_words_of_the_protocol_are_in_order() {
    assert!(WORDS.is_sorted());
}

#[test]
fn a_secret_is_taken_out_wherever_it_stands() {
    let given = given(
        "{secrets: redact}",
        &format!(
            r#"{{ "content": [{{"type":"text","text":"id: {KEY};\n"}}],"structuredContent":{{"{KEY}":["{KEY}",1.50]}},"_meta":{{"x":"\u0041KIAIOSFODNN7\u0045XAMPLE"}} }}"#
        ),
    );
    let expected = r#"{ "content": [{"type":"text","text":"id: [redacted: aws-key];\n"}],"structuredContent":{"[redacted: aws-key 2]":["[redacted: aws-key]",1.50]},"_meta":{"x":"[redacted: aws-key]"} }"#;
    assert_eq!(given.unwrap(), expected);
}

#[test]
fn what_is_withheld_says_by_what() {
    let policy = "{max_bytes: 60, hidden_characters: withhold, secrets: withhold, withhold: [{matches: 'ignore (all|previous)', name: orders}, {matches: x9}]}";
    check(policy, r#"{"text":"fine"}"#, Ok(r#"{"text":"fine"}"#));
    check(policy, r#"{"a":"ignore previous rules"}"#, Err("orders"));
    check(policy, r#"{"ignore all":1}"#, Err("orders"));
    check(policy, r#"{"a":"\u0069gnore \u0061ll"}"#, Err("orders"));
    check(policy, r#"{"a":["x9"]}"#, Err("/results/withhold/1"));
    check(policy, r#"{"a":"\u001b[8m"}"#, Err("/results/hidden_characters"));
    check(policy, &format!(r#"{{"a":"{KEY}"}}"#), Err("/results/secrets"));
    check(policy, &format!(r#"{{"a":"{}"}}"#, "y".repeat(60)), Err("/results/max_bytes"));
}

#[test]
fn characters_that_hide_are_written_out() {
    let tags = "\u{e0049}\u{e0067}";
    check(
        "{hidden_characters: escape}",
        &format!("{{\"a\":\"pay\u{202e}lap \\u001b[8m{tags} \u{26a0}\u{fe0f}\"}}"),
        Ok("{\"a\":\"pay\\\\u{202e}lap \\\\u{1b}[8m\\\\u{e0049}\\\\u{e0067} \u{26a0}\u{fe0f}\"}"),
    );
}

#[test]
fn numbers_are_looked_at_as_they_are_written() {
    let policy = "{redact: [{matches: '^4[0-9]{15}$', name: card}], withhold: [{matches: '^1337$'}]}";
    check(policy, r#"{"a":[4111111111111111,41]}"#, Ok(r#"{"a":["[redacted: card]",41]}"#));
    check(policy, r#"{"a":1337}"#, Err("/results/withhold/0"));
}

#[test]
fn what_overlaps_is_taken_out_once() {
    let policy = "{hidden_characters: escape, redact: [{matches: 'abc', name: one}, {matches: 'b\\x{200b}?cd', name: two}, {matches: 'c'}]}";
    check(policy, r#"{"a":"xabcdx c"}"#, Ok(r#"{"a":"x[redacted: one]x [redacted: text]"}"#));
    check(policy, "{\"a\":\"b\u{200b}cd\"}", Ok(r#"{"a":"[redacted: two]"}"#));
}

#[test]
fn the_protocols_own_words_and_the_servers_state_stay() {
    let policy = "{redact: [{matches: '[a-z]+', name: w}]}";
    let result = r#"{"resultType":"input_required","content":[{"type":"text","text":"a"}],"requestState":"a"}"#;
    check(policy, result, Ok(&result.replacen(r#""text":"a""#, r#""text":"[redacted: w]""#, 1)));
    for result in [
        r#"{"requestState":"a"}"#,
        r#"{"resultType":"complete","requestState":"a"}"#,
        r#"{"resultType":"input_required","requestState":["a"]}"#,
        r#"{"resultType":"input_required","_meta":{"requestState":"a"}}"#,
    ] {
        check(policy, result, Ok(&result.replacen(r#""a""#, r#""[redacted: w]""#, 1)));
    }
}

#[test]
fn two_keys_do_not_become_one() {
    let both = |one: &str, other: &str| format!(r#"{{"x":[{{"{one}":1,"{other}":2}}]}}"#);
    check("{secrets: redact}", &both("[redacted: aws-key]", KEY), Err("/results"));
    check("{secrets: redact}", &both(KEY, "[redacted: aws-ke\\u0079]"), Err("/results"));
    check("{hidden_characters: escape}", &both("a\\u200b", "a\\\\u{200b}"), Err("/results"));
    let apart = both("[redacted: aws-key]", &format!("{KEY}."));
    check("{secrets: redact}", &apart, Ok(&both("[redacted: aws-key]", "[redacted: aws-key].")));
}

#[test]
fn more_than_can_be_changed_is_withheld() {
    let result = format!(r#"{{"a":"{}"}}"#, "x.".repeat(super::MOST_CHANGES + 1));
    check("{redact: [{matches: x}]}", &result, Err("/results"));
}

#[test]
fn keys_without_an_end_take_no_longer_than_their_length() {
    let beginnings = format!("-----BEGIN PRIVATE KEY-----{} ", "A".repeat(64)).repeat(super::MOST_CHANGES);
    let result = format!(r#"{{"a":"{beginnings}"}}"#);
    let judged = std::time::Instant::now();
    assert!(given("{secrets: redact}", &result).is_ok());
    // Were each searched to the end of the text, these were ten thousand times 900 KB.
    assert!(judged.elapsed().as_secs() < 10, "{:?}", judged.elapsed());
    let more = result.replacen("{", &format!(r#"{{"b":"{KEY}","#), 1);
    check("{secrets: redact}", &more, Err("/results"));
}

#[test]
fn several_policies_add_up_and_withholding_wins() {
    let policy = |section: &str| {
        let text = format!(
            "version: \"1\"\ntools: {{'get_*': {{results: {section}}}, b: {{}}}}\nall_tools: {{results: {{redact: [{{matches: q, name: q}}]}}}}\n"
        );
        Arc::new(load(&Source::new("p.yaml", text)).policy.unwrap())
    };
    let both = Policies::all_of(vec![policy("{redact: [{matches: a}]}"), policy("{withhold: [{matches: b, name: no}]}")]);
    let judged = |tool: &str, text: &str| {
        let document = parsed(&format!("[{}]", quote(text)));
        let findings = both.results_of_tool(tool, None).judge(document.root()).enforced;
        findings.withheld.as_ref().map(|withheld| withheld.rule.to_string()).unwrap_or_else(|| findings.counted())
    };
    assert_eq!(judged("get_x", "aq"), "q 1, text 1");
    assert_eq!(judged("get_x", "abq"), "no");
    assert_eq!(judged("b", "abq"), "q 1");
    let both = Policies::all_of(vec![policy("{redact: [{matches: '1'}]}"), policy("{withhold: [{matches: '2', name: no}]}")]);
    let findings = both.results_of_tool("get_x", None).judge(parsed("[12]").root()).enforced;
    assert_eq!(&*findings.withheld.unwrap().rule, "no", "of a number too");
    assert!(both.results_of_others().is_empty());
    assert_eq!(both.results_of_any().enforced.len(), 4);
}

#[test]
fn what_is_in_shadow_mode_changes_nothing() {
    let text = "version: \"1\"\ntools: {t: {mode: shadow, results: {secrets: redact, withhold: [{matches: gone}]}}}\n";
    let policies = Policies::from(load(&Source::new("p.yaml", text)).policy.unwrap());
    let judged = |text: &str| policies.results_of_tool("t", None).judge(parsed(&format!("[{}]", quote(text))).root());
    let redacted = judged(KEY);
    assert_eq!((redacted.enforced, redacted.shadow.counted()), (Default::default(), "aws-key 1".to_owned()));
    assert_eq!(&*judged("gone").shadow.withheld.unwrap().rule, "/tools/t/results/withhold/0");
}

#[test]
fn policies_that_say_nothing_of_results_have_nothing_to_judge() {
    let policies = Policies::from(load(&Source::new("p.yaml", "version: \"1\"\ntools: {t: {action: deny}}\n")).policy.unwrap());
    assert!(!policies.judge_results() && policies.results_of_any().is_empty());
}

/// Every credential in its place, and its name.
const SECRETS: &[(&str, &str)] = &[
    ("aws-key", "<AKIAIOSFODNN7EXAMPLE>"),
    ("aws-key", "<ASIAY34FZKBOKMUTVV7A>"),
    ("aws-secret", "aws_secret_access_key = <wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY>"),
    ("aws-secret", "\"SecretAccessKey\": \"<wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY>\""),
    (
        "azure-key",
        "AccountName=a;AccountKey=<Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==>;",
    ),
    ("bearer-token", "Authorization: Bearer <00Dxx0000001gPL!AR8AQJXg5oj8jXSgxJfA0lBog>"),
    ("google-key", "key=<AIzaSyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe>"),
    ("github-token", "<ghp_16C7e42F292c6912E7710c838347Ae178B4a>"),
    ("gitlab-token", "<glpat-1a2B3c4D5e6F7g8H9i0J>"),
    ("jwt", "<eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U>."),
    ("model-key", "<sk-ant-api03-aaaaBBBBccccDDDDeeeeFFFFgggg>"),
    ("npm-token", "//registry.npmjs.org/:_authToken=<npm_abcdefghijklmnopqrstuvwxyz0123456789>"),
    (
        "private-key",
        "<-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ==\n-----END OPENSSH PRIVATE KEY----->\n",
    ),
    ("private-key", "x <-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj>"),
    ("private-key", "<-----BEGIN PRIVATE KEY-----\n-MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n------END PRIVATE KEY----->"),
    ("slack-token", "<xoxb-123456789012-123456789012-abcdefABCDEF>"),
    ("slack-webhook", "<https://hooks.slack.com/services/T0000ABCD/B0000ABCD/abcdefghijklmnop>"),
    ("stripe-key", "<sk_live_4eC39HqLyjWDarjtT1zdp7dc>"),
];

#[test]
fn well_known_credentials_are_found_and_nothing_beside_them() {
    for (name, text) in SECRETS {
        let (before, rest) = text.split_once('<').unwrap();
        let (secret, after) = rest.split_once('>').unwrap();
        let given = given("{secrets: redact}", &format!("[{}]", quote(&format!("{before}{secret}{after}")))).unwrap();
        assert_eq!(
            parsed(&given).root().elements().unwrap().next().unwrap().as_str().unwrap(),
            format!("{before}[redacted: {name}]{after}")
        );
    }
}

#[test]
fn the_second_part_of_an_aws_key_is_known_by_its_name() {
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    check(
        "{secrets: redact}",
        &format!(r#"{{"SecretAccessKey":"{secret}","x":"{secret}"}}"#),
        Ok(&format!(r#"{{"SecretAccessKey":"[redacted: aws-secret]","x":"{secret}"}}"#)),
    );
}

#[test]
fn what_only_resembles_a_credential_passes() {
    for text in [
        "AKIA is how the ids of AWS keys begin; AKIAIOSFODNN7 is too short",
        "Bearer authentication is described in RFC6750; Bearer internationalization-guidelines",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "550e8400-e29b-41d4-a716-446655440000",
        "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf\n-----END PUBLIC KEY-----",
        "a file that begins with -----BEGIN PRIVATE KEY----- is a private key",
        "sk-learn and sk-ant-colony-optimization; ghp_ and npm_config_registry",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.",
        "xoxb-your-token-here",
    ] {
        check("{secrets: withhold}", &format!("[{}]", quote(text)), Ok(&format!("[{}]", quote(text))));
    }
}

/// A string token in which each character is written as a client may meet it.
fn token(text: &str, spelling: &[u8]) -> String {
    let mut out = String::from('"');
    for (i, c) in text.chars().enumerate() {
        match spelling.get(i % spelling.len().max(1)).unwrap_or(&0) % 3 {
            0 => {
                let quoted = quote(&c.to_string());
                out.push_str(&quoted[1..quoted.len() - 1]);
            }
            1 => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04X}"))),
        }
    }
    out.push('"');
    out
}

/// All strings of a value, keys and values, decoded.
fn strings(value: Value<'_>, out: &mut Vec<String>) {
    out.extend(value.as_str().map(String::from));
    for member in value.members().into_iter().flatten() {
        out.push(member.key.into_owned());
        strings(member.value, out);
    }
    value.elements().into_iter().flatten().for_each(|element| strings(element, out));
}

proptest! {
    /// The oracle replaces in decoded strings, one after another.
    #[test]
    fn a_filtered_text_is_the_naively_filtered_one(
        texts in proptest::collection::vec("([a-z\\\\\"\u{e9}\u{1f600}\n ]{0,6}(s3cret|\u{e9}\u{1f600}x)?){0,3}", 1..6),
        spelling in proptest::collection::vec(any::<u8>(), 1..8),
    ) {
        let section = "{redact: [{matches: s3cret, name: s}, {matches: 'é😀x', name: t}]}";
        let members: Vec<String> = texts.iter().enumerate().map(|(i, text)| {
            let key = token(&format!("{i}{text}"), &spelling);
            format!("{key} : [{}, {i}e2]", token(text, &spelling))
        }).collect();
        let result = format!("{{ {} }}", members.join(" ,\n"));
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        strings(parsed(&result).root(), &mut expected);
        let out = given(section, &result).unwrap();
        strings(parsed(&out).root(), &mut found);
        let plain = |text: &String| text.replace("s3cret", "[redacted: s]").replace("é😀x", "[redacted: t]");
        // Keys are numbered, so that they stay different.
        let unnumbered = |text: &String| regex::Regex::new(r"\[redacted: ([st]) \d+\]").unwrap().replace_all(text, "[redacted: $1]").into_owned();
        prop_assert_eq!(found.iter().map(unnumbered).collect::<Vec<_>>(), expected.iter().map(plain).collect::<Vec<_>>());
        if !result.contains("s3cret") && found == expected {
            prop_assert_eq!(out, result);
        }
    }

    #[test]
    fn hidden_characters_never_get_through(text in "[a\u{200b}\u{202e}\u{1b}\u{e0041}é\u{feff}]{0,8}", spelling in proptest::collection::vec(any::<u8>(), 1..8)) {
        let result = format!("[{}]", token(&text, &spelling));
        let out = given("{hidden_characters: escape}", &result).unwrap();
        let shown = parsed(&out).root().elements().unwrap().next().unwrap().as_str().unwrap().into_owned();
        prop_assert_eq!(shown, crate::visible(&text));
        let withheld = given("{hidden_characters: withhold}", &result).is_err();
        prop_assert_eq!(withheld, crate::first_hidden(&text).is_some());
    }
}

#[test]
fn counted_is_what_was_changed() {
    let document = parsed(&format!("[\"{KEY} {KEY}\",\"\u{200b}\"]"));
    let findings = filter("{secrets: redact, hidden_characters: escape}").judge(document.root()).enforced;
    assert_eq!(findings.counted(), format!("aws-key 2, {HIDDEN} 1"));
}
