//! What was sent is what arrives, byte for byte, in both directions and in every mode; and what is no JSON arrives nowhere.
//!
//! The upstream is `tests/upstreams/parrot.py`: it logs the bytes that reach it, and answers with bytes that the test chose.
//! The texts are those of JSONTestSuite, as arguments and as whole messages, and random ones in odd spellings.
//!
//! Few things may differ, and nothing else: the `id` on a line that carries ids of the gateway's own, what would end a line in
//! somebody's eyes on the way into a child (docs/wire.md, §The path), the prefix of a tool where there are many servers, and
//! between two eras the envelope of a request and the type of a result (§From one era to the other).

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::cell::RefCell;
use support::http::exchange;
use support::rig::{Channel, Mode, Setup};
use support::stdio::Stdio;
use support::{HttpUpstream, LEGACY, MODERN, PATIENCE, Scratch, is_modern, root};

// ---------------------------------------------------------------- the rig

/// The modes, in the groups in which they are tested.
const LINES: [Mode; 2] = [Mode::Run, Mode::Bridge];
const HTTP: [Mode; 2] = [Mode::Serve, Mode::ServeChild];
const SHARED: [Mode; 2] = [Mode::Shared, Mode::Federated];
const STREAMS: [Mode; 2] = [Mode::Stream, Mode::StreamOld];
const ACROSS: [Mode; 2] = [Mode::CrossRun, Mode::CrossServe];

/// Runs `check` in these modes, each with clients of two revisions; a stream has one.
fn in_modes(modes: [Mode; 2], legacy: &'static str, check: impl Fn(Mode, &'static str)) {
    for mode in modes {
        match mode {
            Mode::Stream | Mode::StreamOld => check(mode, "2024-11-05"),
            _ => [legacy, MODERN].into_iter().for_each(|revision| check(mode, revision)),
        }
    }
}

/// What a modern client says of itself, but for its braces.
const ENVELOPE: &str =
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;

/// A gateway in front of a parrot, that allows everything unless a policy says otherwise.
struct Rig {
    mode: Mode,
    revision: &'static str,
    scratch: Scratch,
    channel: Channel,
    _parrot: Option<HttpUpstream>,
    syncs: usize,
    /// So many lines of the log were looked at.
    read: usize,
}

impl Rig {
    fn new(mode: Mode, revision: &'static str) -> Rig {
        Rig::under("version: \"1\"\ndefault: allow\ntools: {}\n", mode, revision)
    }

    fn under(policy: &str, mode: Mode, revision: &'static str) -> Rig {
        let scratch = Scratch::new();
        let policy = scratch.policy(policy);
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = root().join("tests/upstreams/parrot.py").display().to_string();
        let log = scratch.log().display().to_string();
        let options = mode.server_options(revision);
        let command: Vec<_> = [&*python, &script, "--log", &log].into_iter().chain(options).map(str::to_owned).collect();
        let parrot = (!mode.has_child()).then(|| HttpUpstream::start_command(command.clone()));
        let url = parrot.as_ref().map(HttpUpstream::url).unwrap_or_default();
        let setup = Setup { policy: &policy, state: "memory:", child: &command, url: &url };
        let channel = Channel::open(mode, revision, &scratch, &setup);
        Rig { mode, revision, scratch, channel, _parrot: parrot, syncs: 0, read: 0 }
    }

    /// Sends exact bytes and gives every message that came back.
    fn send(&mut self, body: &[u8]) -> Vec<Vec<u8>> {
        self.syncs += 1;
        let sync = format!("\"sync-{}\"", self.syncs);
        // A blank line carries no message. Over the bridge each request has an exchange of its own: the answer to the next one
        // may come first, so it is asked only now. It shows where the answers to these bytes end.
        let is_blank = body.iter().all(u8::is_ascii_whitespace);
        let is_sync = |text: &[u8]| String::from_utf8_lossy(text).contains(&sync);
        let end = support::request(self.revision, &sync, "x-sync/ask", json!({}));
        match &mut self.channel {
            Channel::Http(_, client) => {
                let echo = format!("{}echo", self.mode.prefix());
                let request = client.post(&client.headers("tools/call", Some(&echo)), body);
                let reply = exchange(&client.address, &request).expect("an answer");
                if reply.status >= 400 { vec![br#"{"error":{}}"#.to_vec()] } else { texts(&reply) }
            }
            Channel::Stdio(client) => {
                let next =
                    |client: &Stdio| client.line(PATIENCE).unwrap_or_else(|| panic!("no answer; stderr: {}", client.said()));
                assert!(client.send(body));
                let mut lines: Vec<_> = (!is_blank).then(|| next(client)).into_iter().collect();
                assert!(client.send(end));
                lines.extend(std::iter::from_fn(|| Some(next(client)).filter(|line| !is_sync(line))));
                lines
            }
            Channel::Stream(_, client) => {
                if client.post(body).status != 202 {
                    return vec![br#"{"error":{}}"#.to_vec()];
                }
                let next = || client.text(PATIENCE).expect("an answer").into_bytes();
                let mut texts = vec![next()];
                client.post(end);
                texts.extend(std::iter::from_fn(|| Some(next()).filter(|text| !is_sync(text))));
                texts
            }
        }
    }

    /// The calls that the upstream has received since this was asked last, as bytes.
    fn heard(&mut self) -> Vec<Vec<u8>> {
        const OWN: [&str; 8] = [
            "initialize",
            "notifications/initialized",
            "tools/list",
            "server/discover",
            "ping",
            "x-sync/ask",
            "resources/list",
            "resources/templates/list",
        ];
        let log = std::fs::read_to_string(self.scratch.log()).unwrap_or_default();
        let before = std::mem::replace(&mut self.read, log.lines().count());
        let messages = log.lines().skip(before).map(|line| STANDARD.decode(line).expect("base64"));
        let own = |bytes: &Vec<u8>| {
            let message: Result<Value, _> = serde_json::from_slice(bytes);
            message.is_ok_and(|message| message["method"].as_str().is_some_and(|method| OWN.contains(&method)))
        };
        messages.filter(|bytes| !own(bytes)).collect()
    }

    /// A `tools/call` of `echo` around `value`, with the answer that it asks for.
    fn call(&self, id: &str, value: &[u8], back: &[u8]) -> Vec<u8> {
        let meta = if is_modern(self.revision) { format!(r#""_meta":{{{ENVELOPE}}},"#) } else { String::new() };
        let head = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{{meta}"name":"{}echo","arguments":{{"back":"{}","v":"#,
            self.mode.prefix(),
            STANDARD.encode(back)
        );
        [head.as_bytes(), value, b"}}}"].concat()
    }

    /// What of a message must arrive: all behind the id, in the form in which a child reads it, without what only the client's
    /// side has.
    fn arriving(&self, message: &[u8]) -> Vec<u8> {
        let line = if self.mode.has_child() { behind_id(&as_line(message)) } else { behind_id(message) };
        let name = format!(r#""name":"{}echo""#, self.mode.prefix());
        let line = exchanged(line, name.as_bytes(), br#""name":"echo""#);
        if self.mode.crosses() { exchanged(line, ENVELOPE.as_bytes(), b"") } else { line }
    }

    /// What of a message has arrived, without what only the server's side has.
    fn arrived(&self, message: &[u8]) -> Vec<u8> {
        let all = behind_id(message);
        if !self.mode.crosses() || is_modern(self.revision) {
            return all;
        }
        const BEGIN: &[u8] = br#""params":{"_meta":"#;
        let begin = position(&all, BEGIN).expect("an envelope at the beginning");
        let mut values = serde_json::Deserializer::from_slice(&all[begin + BEGIN.len()..]).into_iter::<Value>();
        let envelope = values.next().expect("an envelope").expect("JSON");
        assert_eq!(envelope["io.modelcontextprotocol/protocolVersion"], MODERN);
        // With the comma behind it.
        let end = begin + BEGIN.len() + values.byte_offset() + 1;
        [&all[..begin], br#""params":{"#, &all[end..]].concat()
    }

    /// What a result of the parrot's is for the client.
    fn result(&self, back: &[u8]) -> Vec<u8> {
        const TYPE: &str = r#""resultType":"complete""#;
        let (head, tail) = match (is_modern(self.revision), self.mode.crosses()) {
            (true, false) => (String::new(), format!(",{TYPE}")),
            (true, true) => (format!("{TYPE},"), String::new()),
            (false, _) => (String::new(), String::new()),
        };
        let head = format!(r#","result":{{{head}"content":[],"structuredContent":"#);
        [head.as_bytes(), back, tail.as_bytes(), b"}}"].concat()
    }
}

/// A text with the first `old` in it exchanged.
fn exchanged(text: Vec<u8>, old: &[u8], new: &[u8]) -> Vec<u8> {
    match position(&text, old) {
        Some(at) => [&text[..at], new, &text[at + old.len()..]].concat(),
        None => text,
    }
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn texts(reply: &support::http::Reply) -> Vec<Vec<u8>> {
    let is_stream = reply.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
    if is_stream { reply.texts().into_iter().map(String::into_bytes).collect() } else { vec![reply.body.clone()] }
}

/// A message without what stands before its method or result.
fn behind_id(message: &[u8]) -> Vec<u8> {
    let at = |needle: &[u8]| position(message, needle);
    let start = at(br#","method""#).or_else(|| at(br#","result""#)).or_else(|| at(br#","error""#));
    message[start.unwrap_or(0)..].to_vec()
}

/// Line ends as spaces, and as escapes where they are of those that only some readers know.
fn as_line(message: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(message).expect("only what is UTF-8 is let through");
    let text = text.replace(['\n', '\r'], " ").replace('\u{85}', "\\u0085");
    text.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029").into_bytes()
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(300).collect()
}

// ---------------------------------------------------------------- JSONTestSuite

/// The cases of JSONTestSuite, as (file, bytes).
fn suite() -> Vec<(String, Vec<u8>)> {
    let text = std::fs::read(root().join("tests/corpora/jsontestsuite.json")).expect("the suite");
    let suite: Value = serde_json::from_slice(&text).expect("the suite is JSON");
    let cases = suite["cases"].as_array().expect("cases").iter();
    let of = |case: &Value, key: &str| case[key].as_str().expect("a text").to_owned();
    cases.map(|case| (of(case, "file"), STANDARD.decode(of(case, "bytes_b64")).expect("base64"))).collect()
}

/// Every text of the suite in the place of an argument's value.
fn check_suite_as_values(mode: Mode, revision: &'static str) {
    let mut rig = Rig::new(mode, revision);
    let mut arrived: Vec<(String, Vec<u8>)> = Vec::new();
    for (number, (file, bytes)) in suite().into_iter().enumerate() {
        let mut bytes = bytes;
        // A line cannot hold its own end. In what is no JSON it stays, and makes two lines of no JSON.
        if mode.transport() == "stdio" && !file.starts_with("n_") {
            bytes.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        }
        let must_pass = file.starts_with("y_");
        let back = if must_pass { as_line(&bytes) } else { b"{}".to_vec() };
        let sent = rig.call(&number.to_string(), &bytes, &back);
        let answers = rig.send(&sent);
        let heard = rig.heard();
        let told = || format!("{mode:?} {revision} {file}: answers {:?}", answers.iter().map(|a| shown(a)).collect::<Vec<_>>());
        let forwarded = !heard.is_empty();
        if file.starts_with("n_") || file.starts_with("y_object_duplicated_key") {
            assert!(!forwarded, "what must be refused was forwarded: {} {}", told(), shown(&heard[0]));
        }
        if must_pass && !file.starts_with("y_object_duplicated_key") {
            assert!(forwarded, "what must pass was not forwarded: {}", told());
        }
        if forwarded {
            assert_eq!(heard.len(), 1, "{}", told());
            let arrived_here = rig.arrived(&heard[0]);
            assert_eq!(shown(&arrived_here), shown(&rig.arriving(&sent)), "{}", told());
            assert_eq!(arrived_here, rig.arriving(&sent), "{}", told());
            let [answer] = &answers[..] else { panic!("one answer is due: {}", told()) };
            assert!(contains(answer, &rig.result(&back)), "the result came back as something else: {}", told());
            arrived.push((file, bytes));
        } else {
            assert!(!answers.is_empty() && answers.iter().all(|answer| contains(answer, br#""error""#)), "{}", told());
        }
    }
    // Beside what must pass, only what is kept exactly: numbers of any size, and escapes that every reader reads alike.
    let beside: Vec<_> = arrived.iter().map(|(file, _)| file).filter(|file| !file.starts_with("y_")).collect();
    assert!(
        beside.iter().all(|file| ["i_number", "number", "string_with_escaped_NULL"].iter().any(|kept| file.starts_with(kept))),
        "readers differ about {beside:?}"
    );
}

/// Every text of the suite as a whole body: none of them is a message, so none arrives.
fn check_suite_as_bodies(mode: Mode, revision: &'static str) {
    let mut rig = Rig::new(mode, revision);
    for (file, bytes) in suite() {
        let answers = rig.send(&bytes);
        let told = || format!("{mode:?} {revision} {file}: {:?}", answers.iter().map(|a| shown(a)).collect::<Vec<_>>());
        assert!(answers.iter().all(|answer| contains(answer, br#""error""#)), "{}", told());
        assert!(!answers.is_empty() || bytes.iter().all(u8::is_ascii_whitespace), "{}", told());
    }
    assert_eq!(rig.heard().iter().map(|bytes| shown(bytes)).collect::<Vec<_>>(), [""; 0], "{mode:?} {revision}");
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    position(bytes, needle).is_some()
}

#[test]
fn json_arrives_byte_for_byte_and_what_is_no_json_never_over_stdio() {
    in_modes(LINES, LEGACY, check_suite_as_values);
}

#[test]
fn json_arrives_byte_for_byte_and_what_is_no_json_never_over_http() {
    in_modes(HTTP, LEGACY, check_suite_as_values);
}

#[test]
fn json_arrives_byte_for_byte_and_what_is_no_json_never_where_servers_or_children_are_shared() {
    in_modes(SHARED, LEGACY, check_suite_as_values);
}

#[test]
fn json_arrives_byte_for_byte_and_what_is_no_json_never_over_streams() {
    in_modes(STREAMS, LEGACY, check_suite_as_values);
}

#[test]
fn json_arrives_byte_for_byte_and_what_is_no_json_never_across_eras() {
    in_modes(ACROSS, LEGACY, check_suite_as_values);
}

#[test]
fn json_that_is_no_message_never_arrives() {
    for modes in [LINES, HTTP, SHARED] {
        in_modes(modes, "2025-03-26", check_suite_as_bodies);
    }
}

#[test]
fn json_that_is_no_message_never_arrives_over_streams_and_across_eras() {
    for modes in [STREAMS, ACROSS] {
        in_modes(modes, "2025-03-26", check_suite_as_bodies);
    }
}

// ---------------------------------------------------------------- random values in odd spellings

fn white() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t\r]{1,3}"]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?(0|[1-9][0-9]{0,24})",
        r"-?(0|[1-9][0-9]{0,18})\.[0-9]{1,24}",
        r"-?(0|[1-9][0-9]{0,6})(\.[0-9]{1,4})?[eE][+-]?[0-9]{1,2}",
        Just("-0".to_owned()),
        Just("9007199254740993".to_owned()),
    ]
}

/// The inside of a string: plain, escaped needlessly, escaped because it must be, beyond the basic plane, and line ends that
/// only some readers know.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ !#-\\[\\]-~]{1,6}",
        1 => r#"\\["\\/bfnrt]"#,
        1 => r"\\u00[2-7][0-9a-fA-F]",
        1 => r"\\u[efEF][0-9a-fA-F]{3}",
        1 => r"\\u[dD]83[dD]\\u[dD][eE][0-4][0-9a-f]",
        1 => "[éß漢😀\u{7f}\u{a0}\u{200b}\u{301}\u{85}\u{2028}\u{2029}]",
        1 => Just(r"\u0000".to_owned()),
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        number(),
        text().prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let spaced = (white(), inner, white()).prop_map(|(before, inner, after)| format!("{before}{inner}{after}"));
        let spaced = spaced.boxed();
        prop_oneof![
            (white(), proptest::collection::vec(spaced.clone(), 0..5)).prop_map(|(white, items)| match items.is_empty() {
                true => format!("[{white}]"),
                false => format!("[{}]", items.join(",")),
            }),
            proptest::collection::vec((white(), any::<bool>(), white(), spaced), 0..5).prop_map(|members| {
                // No two keys that a careless reader could take for one, and none of the protocol's.
                let member = |(number, (before, odd, after, value)): (usize, &(String, bool, String, String))| {
                    let key = if *odd { format!(r"\u007a{number}") } else { format!("z{number}") };
                    format!("{before}\"{key}\"{after}:{value}")
                };
                format!("{{{}}}", members.iter().enumerate().map(member).collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

fn check_random_values(mode: Mode, revision: &'static str) {
    let rig = RefCell::new(Rig::new(mode, revision));
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) });
    let id = prop_oneof!["[1-9][0-9]{0,14}", r#""[a-z]{0,6}\\u00(4[1-9]|6[1-9a-f])-?""#];
    let done = runner.run(&(value(), value(), value(), id), |(there, beside, back, id)| {
        let mut rig = rig.borrow_mut();
        let back = as_line(back.as_bytes());
        let mut sent = rig.call(&id, there.as_bytes(), &back);
        // Members that nobody knows, of the parameters and of the message itself.
        sent.truncate(sent.len() - 2);
        sent.extend_from_slice(format!(",\"x-odd\":{beside}}},\"x-more\":{beside}}}").as_bytes());
        let answers = rig.send(&sent);
        let heard = rig.heard();
        prop_assert_eq!(heard.len(), 1, "{:?} {:?}", shown(&sent), answers.iter().map(|a| shown(a)).collect::<Vec<_>>());
        prop_assert_eq!(String::from_utf8(rig.arrived(&heard[0])), String::from_utf8(rig.arriving(&sent)));
        prop_assert_eq!(answers.len(), 1);
        prop_assert_eq!(String::from_utf8(behind_id(&answers[0])), String::from_utf8(rig.result(&back)));
        let (asked, answered): (Value, Value) = (
            serde_json::from_slice(&sent).expect("what we send is JSON"),
            serde_json::from_slice(&answers[0]).expect("what comes back is JSON"),
        );
        prop_assert_eq!(&asked["id"], &answered["id"]);
        Ok(())
    });
    if let Err(problem) = done {
        panic!("{mode:?} {revision}: {problem}");
    }
}

#[test]
fn values_arrive_as_they_were_spelt_both_ways_over_stdio() {
    in_modes(LINES, LEGACY, check_random_values);
}

#[test]
fn values_arrive_as_they_were_spelt_both_ways_over_http() {
    in_modes(HTTP, LEGACY, check_random_values);
}

#[test]
fn values_arrive_as_they_were_spelt_both_ways_where_servers_or_children_are_shared() {
    in_modes(SHARED, LEGACY, check_random_values);
}

#[test]
fn values_arrive_as_they_were_spelt_both_ways_over_streams() {
    in_modes(STREAMS, LEGACY, check_random_values);
}

#[test]
fn values_arrive_as_they_were_spelt_both_ways_across_eras() {
    in_modes(ACROSS, LEGACY, check_random_values);
}

// ---------------------------------------------------------------- what comes back, and must not

const RESULTS: &str = "\
version: \"1\"
default: allow
tools:
  echo:
    results: {secrets: redact, hidden_characters: escape, withhold: [{matches: 'g[o0]ne', name: gone}]}
";

/// A secret, each character of it as `spelling` says: as it is, or as an escape in one of two cases.
fn spelt(secret: &str, spelling: u64) -> String {
    let one = |(i, c): (usize, char)| match (spelling >> (i * 2 % 64)) & 3 {
        0 | 1 => c.to_string(),
        2 => format!("\\u{:04x}", u32::from(c)),
        _ => format!("\\u{:04X}", u32::from(c)),
    };
    secret.chars().enumerate().map(one).collect()
}

/// Whether a text stands anywhere in what a client reads.
fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(said) => said.contains(text),
        Value::Array(values) => values.iter().any(|value| holds(value, text)),
        Value::Object(members) => members.iter().any(|(key, value)| key.contains(text) || holds(value, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The parrot says a secret in every place of a result and in many spellings.
fn check_secrets(mode: Mode, revision: &'static str) {
    const SECRET: &str = "AKIAIOSFODNN7EXAMPLE";
    let mut rig = Rig::under(RESULTS, mode, revision);
    for (number, spelling) in
        [0, u64::MAX, 0xAAAA_AAAA_AAAA_AAAA, 0x9249_2492_4924_9249, 0x8000_0000_0000_0002].into_iter().enumerate()
    {
        let secret = spelt(SECRET, spelling);
        for place in [
            r#""S""#,
            r#"{"a": "S", "b": [1.50, "S S"], "\u0063": {"d": [[["S"]]]}}"#,
            r#"{"S": {"S": 1, "x S y": "\u202e"}}"#,
            r#"{},"content":[{"type":"text","text":"key: S\n"},{"type":"resource","resource":{"uri":"a:S","text":"S"}}]"#,
            r#"{},"_meta":{"x":"S"},"isError":true"#,
            r#"{},"isError":true,"error":{"message":"S"}"#,
        ] {
            let back = place.replace('S', &secret);
            let call = rig.call(&number.to_string(), b"1", back.as_bytes());
            let answers = rig.send(&call);
            let [answer] = &answers[..] else { panic!("{mode:?} {revision}: {} answers", answers.len()) };
            let answer: Value = serde_json::from_slice(answer).unwrap_or_else(|error| panic!("{error}: {}", shown(answer)));
            assert!(answer["result"].is_object() && holds(&answer, "[redacted: aws-key"), "{mode:?} {revision} {back}: {answer}");
            assert!(!holds(&answer, SECRET) && !holds(&answer, "\u{202e}"), "{mode:?} {revision} {back}: {answer}");
        }
    }
    // What holds nothing comes as it was; what must be withheld comes not at all.
    let same = br#"{"a" :[1.50,"\u0041B \ud83d\ude00"]}"#;
    let call = rig.call("7", b"1", same);
    let answers = rig.send(&call);
    assert!(contains(&answers[0], same), "{}", shown(&answers[0]));
    let call = rig.call("8", b"1", br#"{"a":"it is \u0067one"}"#);
    let answer: Value = serde_json::from_slice(&rig.send(&call)[0]).expect("an answer");
    let decision = &answer["result"]["_meta"]["dev.callgate/decision"];
    assert_eq!((&decision["reason"], &decision["rule"]), (&json!("result-withheld"), &json!("gone")), "{answer}");
    assert!(answer["result"]["isError"] == true && !holds(&answer, "it is gone"), "{answer}");
}

#[test]
fn a_secret_in_any_spelling_and_place_reaches_no_client() {
    for modes in [LINES, HTTP, SHARED, STREAMS, ACROSS] {
        in_modes(modes, LEGACY, check_secrets);
    }
}
