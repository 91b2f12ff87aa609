//! Replies never cross: whoever waits under an id gets the answer to what they asked, however many others wait under the
//! same id, in whatever order the server answers, and whatever is cancelled and asked again meanwhile.
//!
//! The server is `tests/upstreams/shuffler.py`, which answers in random order, cancelled requests too. Each request carries
//! a word of its own, which its answer and its progress must repeat. `CALLGATE_SEED` picks another order.

mod support;

use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use support::http::{Client, ask_on};
use support::stdio::Stdio;
use support::{HttpUpstream, LEGACY, MODERN, PATIENCE, Scratch, Served, request, root};

const POLICY: &str = "version: \"1\"\nhide: [secret]\ntools: {}\n";
/// So many requests that were asked while others waited under the same id, on the path that most take …
const MANY: usize = 100_000;
/// … and on each of the others.
const SOME: usize = 10_000;

fn seed() -> u64 {
    std::env::var("CALLGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

fn shuffler(options: &[&str]) -> Vec<String> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = root().join("tests/upstreams/shuffler.py").display().to_string();
    let seed = seed().to_string();
    [&*python, &script, "--seed", &seed].into_iter().chain(options.iter().copied()).map(str::to_owned).collect()
}

/// xorshift64*: all that is needed is that the same seed gives the same run.
struct Chance(u64);

impl Chance {
    fn of(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

/// What is asked: a method, and the word that comes back in the answer.
fn question(chance: &mut Chance, word: &str) -> (&'static str, Value) {
    match chance.of(4) {
        0 => ("tools/call", json!({"name": "echo", "arguments": {"nonce": word}})),
        _ => listing(chance, word),
    }
}

/// The same where there is much to ask: most of it costs no record.
fn cheap_question(chance: &mut Chance, word: &str) -> (&'static str, Value) {
    if chance.of(4) == 0 { question(chance, word) } else { listing(chance, word) }
}

fn listing(chance: &mut Chance, word: &str) -> (&'static str, Value) {
    (if chance.of(3) == 0 { "tools/list" } else { "prompts/list" }, json!({"cursor": word}))
}

/// What is asked of one of two servers: lists have cursors of the gateway's there.
fn question_of_two(chance: &mut Chance, word: &str) -> (&'static str, Value) {
    let name = if chance.of(2) == 0 { "a__echo" } else { "b__echo" };
    ("tools/call", json!({"name": name, "arguments": {"nonce": word}}))
}

/// What is wrong with an answer, if anything is.
fn crossed(method: &str, word: &str, answer: &Value) -> Option<String> {
    let result = &answer["result"];
    let is_of_the_kind = match method {
        "tools/call" => result["content"][0]["text"] == word,
        // Filtered: an answer that was taken for one to something else would still hold the hidden tool.
        "tools/list" => result["nextCursor"] == word && support::names(answer) == ["echo"],
        _ => result["nextCursor"] == word && result["prompts"].is_array(),
    };
    (!is_of_the_kind).then(|| format!("{method} with `{word}` was answered {answer}"))
}

/// Many clients before one gateway. All of them use the id 1 and the progress token 1, always.
struct Crowd {
    client: Client,
    question: fn(&mut Chance, &str) -> (&'static str, Value),
    /// Whether every other request says that its client can be asked nothing.
    is_shy: bool,
    requests: usize,
}

impl Crowd {
    const CLIENTS: usize = 24;

    fn before(served: &Served, revision: &str, requests: usize) -> Crowd {
        let client = Client::silent(&served.address, revision);
        Crowd { client, question, is_shy: false, requests }
    }

    fn asks(&self) {
        let [cancelled, in_flight, overlapping] = std::array::from_fn(|_| AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..Crowd::CLIENTS {
                let (cancelled, in_flight, overlapping) = (&cancelled, &in_flight, &overlapping);
                scope.spawn(move || {
                    let mut one = One::new(self.client.clone().shake_hands(), number);
                    while overlapping.load(Ordering::Relaxed) < self.requests {
                        let word = format!("{number}-{}", one.chance.of(1 << 30));
                        let (method, params) = (self.question)(&mut one.chance, &word);
                        if in_flight.fetch_add(1, Ordering::Relaxed) > 0 {
                            overlapping.fetch_add(1, Ordering::Relaxed);
                        }
                        let is_shy = self.is_shy && one.chance.of(2) == 0;
                        if !one.asks(method, params, &word, is_shy) {
                            cancelled.fetch_add(1, Ordering::Relaxed);
                        }
                        in_flight.fetch_sub(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let (overlapping, cancelled, clients) = (overlapping.into_inner(), cancelled.into_inner(), Crowd::CLIENTS);
        println!("{overlapping} requests of {clients} clients, all under the id 1, while others waited; {cancelled} cancelled");
    }
}

/// One client of the crowd, and its connection.
struct One {
    client: Client,
    chance: Chance,
    connection: TcpStream,
}

impl One {
    fn new(client: Client, number: usize) -> One {
        let connection = TcpStream::connect(&client.address).expect("the listener is there");
        One { client, chance: Chance(seed() * 1_000 + number as u64 + 1), connection }
    }

    /// Asks one thing, and looks at what is answered; false where it was given up.
    fn asks(&mut self, method: &str, params: Value, word: &str, is_shy: bool) -> bool {
        let name = params["name"].as_str().map(str::to_owned);
        let mut text = with_token(&request(&self.client.revision, "1", method, params));
        if is_shy {
            text = text.replace(r#""elicitation":{},"sampling":{}"#, "");
        }
        let bytes = self.client.post(&self.client.headers(method, name.as_deref()), text.as_bytes());
        // In the stateless era, hanging up is the cancellation; the next request has the same id. In the other, the request
        // goes on.
        if support::is_modern(&self.client.revision) && self.chance.of(40) == 0 {
            let _ = std::io::Write::write_all(&mut self.connection, &bytes);
            self.connection = TcpStream::connect(&self.client.address).expect("the listener is there");
            return false;
        }
        let mut messages = ask_on(&mut self.connection, &bytes).expect("an answer").messages();
        let answer = messages.pop().expect("an answer");
        assert_eq!(answer["id"], 1, "{answer}");
        if let Some(problem) = crossed(method, word, &answer) {
            panic!("{problem}");
        }
        for told in messages {
            assert_eq!(told["method"], "notifications/progress", "{told}");
            assert_eq!(told["params"]["message"], json!(word), "another's progress");
            assert_eq!(told["params"]["progressToken"], 1);
        }
        true
    }
}

/// `callgate serve` before this, with a policy that hides a tool.
fn served(scratch: &Scratch, behind: &[&str]) -> Served {
    let policy = scratch.policy(POLICY).display().to_string();
    Served::start(&[&["-p", &policy, "--state", "memory:"], behind].concat())
}

fn before_child(scratch: &Scratch, options: &[&str], server: &[&str]) -> Served {
    let command = shuffler(server);
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    served(scratch, &[options, &["--"], &command].concat())
}

#[test]
fn answers_to_equal_ids_of_many_clients_never_cross() {
    let gate = before_child(&Scratch::new(), &[], &[]);
    Crowd { question: cheap_question, ..Crowd::before(&gate, MODERN, MANY) }.asks();
}

#[test]
fn answers_to_equal_ids_of_sessions_that_share_a_child_never_cross() {
    let gate = before_child(&Scratch::new(), &["--isolation", "shared"], &[]);
    Crowd::before(&gate, LEGACY, SOME).asks();
}

#[test]
fn answers_to_equal_ids_before_an_http_server_never_cross() {
    let upstream = HttpUpstream::start_command(shuffler(&["--http", "0"]));
    let gate = served(&Scratch::new(), &["--upstream", &upstream.url()]);
    Crowd::before(&gate, MODERN, SOME).asks();
}

/// Some of them share the common line, and some have one to themselves for a while.
#[test]
fn answers_to_equal_ids_on_their_way_from_one_era_to_the_other_never_cross() {
    let gate = before_child(&Scratch::new(), &[], &["--era", "legacy"]);
    Crowd { is_shy: true, ..Crowd::before(&gate, MODERN, SOME) }.asks();
}

#[test]
fn answers_to_equal_ids_of_many_servers_as_one_never_cross() {
    const TOKEN: &str = "a-token-of-the-tests-long-enough-to-be-one";
    let scratch = Scratch::new();
    let member = json!({"command": shuffler(&[]), "policy": scratch.policy(POLICY), "pin": "off"});
    let config = json!({
        "listen": "127.0.0.1:0",
        "state": "memory:",
        "servers": {"a": member, "b": member},
        "grants": [{"name": "tests", "principal": "service:tests", "token": "file:token", "servers": ["a", "b"]}],
    });
    scratch.write("token", TOKEN);
    let gate = Served::configured(&scratch.write("callgate.yaml", config.to_string()), &[]);
    let crowd = Crowd::before(&gate, MODERN, SOME);
    Crowd { client: crowd.client.clone().at("/mcp", TOKEN), question: question_of_two, ..crowd }.asks();
}

/// The same request, by somebody who wants to hear of its progress.
fn with_token(text: &str) -> String {
    const TOKEN: &str = r#""progressToken":1"#;
    match text.contains(r#""_meta":{"#) {
        true => text.replacen(r#""_meta":{"#, &format!(r#""_meta":{{{TOKEN},"#), 1),
        false => text.replacen(r#""params":{"#, &format!(r#""params":{{"_meta":{{{TOKEN}}},"#), 1),
    }
}

/// One client with few ids: what it cancels, it asks again at once under the same id. Late answers to the first are nobody's.
#[test]
fn answers_to_an_id_that_is_used_again_never_cross() {
    let scratch = Scratch::new();
    reuse_ids(Stdio::wrap(&scratch.policy(POLICY), "memory:", &[], &shuffler(&[])));
}

#[test]
fn answers_to_an_id_that_is_used_again_never_cross_over_the_bridge() {
    let scratch = Scratch::new();
    let upstream = HttpUpstream::start_command(shuffler(&["--http", "0"]));
    reuse_ids(Stdio::bridge(&scratch.policy(POLICY), "memory:", &upstream.url()));
}

fn reuse_ids(mut client: Stdio) {
    const IDS: u64 = 12;
    client.begin(LEGACY);
    let mut chance = Chance(seed() + 7);
    let mut waiting: HashMap<u64, (&'static str, String)> = HashMap::new();
    let (mut asked, mut cancelled, mut overlapping) = (0usize, 0usize, 0usize);
    while overlapping < SOME || !waiting.is_empty() {
        // Sends in bursts: the order in which they are answered is the server's.
        let mut burst = String::new();
        while overlapping < SOME && (waiting.len() as u64) < IDS && chance.of(8) > 0 {
            let free: Vec<u64> = (0..IDS).filter(|id| !waiting.contains_key(id)).collect();
            let id = free[usize::try_from(chance.of(free.len() as u64)).expect("small")];
            let word = format!("{asked}");
            let (method, params) = question(&mut chance, &word);
            burst.push_str(&format!("{}\n", request(LEGACY, &id.to_string(), method, params)));
            overlapping += usize::from(!waiting.is_empty());
            waiting.insert(id, (method, word));
            asked += 1;
            if chance.of(12) == 0 {
                let given_up = *waiting.keys().next().expect("one is waiting");
                burst.push_str(&format!(
                    "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{{\"requestId\":{given_up}}}}}\n"
                ));
                waiting.remove(&given_up);
                cancelled += 1;
            }
        }
        if !burst.is_empty() {
            assert!(client.send(burst.trim_end()), "nobody reads; stderr: {}", client.said());
        }
        if waiting.is_empty() {
            continue;
        }
        let line = client.line(PATIENCE).unwrap_or_else(|| panic!("{} wait for ever; stderr: {}", waiting.len(), client.said()));
        let answer: Value = serde_json::from_slice(&line).expect("JSON");
        let id = answer["id"].as_u64().expect("one of our ids");
        // What was answered before its cancellation was read is an answer to a request that is over: its word is not ours.
        let (method, word) = match waiting.get(&id) {
            Some(waiting) => waiting.clone(),
            None => continue,
        };
        match crossed(method, &word, &answer) {
            None => drop(waiting.remove(&id)),
            Some(problem) => assert!(is_of_the_past(&answer, &word), "{problem}"),
        }
    }
    println!(
        "{overlapping} requests of one client under {IDS} ids, while others waited; {cancelled} of them cancelled, and asked again"
    );
}

/// Whether an answer was on its way when its request was cancelled: it repeats an earlier word. If the gateway had taken it
/// for the answer to the later request, that one would wait for ever.
fn is_of_the_past(answer: &Value, word: &str) -> bool {
    let result = &answer["result"];
    let said = result["nextCursor"].as_str().or_else(|| result["content"][0]["text"].as_str());
    let number = |text: &str| text.parse::<usize>().ok();
    said.and_then(number).zip(number(word)).is_some_and(|(said, word)| said < word)
}
