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
use support::{LEGACY, MODERN, PATIENCE, Scratch, Served, request, root};

const POLICY: &str = "version: \"1\"\nhide: [secret]\ntools: {}\n";
/// So many requests, in the two tests below together, that were asked while others waited under the same ids.
const INTERLEAVINGS: usize = 100_000;

fn seed() -> u64 {
    std::env::var("CALLGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

fn shuffler() -> Vec<String> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    vec![python, root().join("tests/upstreams/shuffler.py").display().to_string(), "--seed".to_owned(), seed().to_string()]
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

/// What is asked: a method, and where in the answer the word comes back. Most of it costs no record.
fn question(chance: &mut Chance, word: &str) -> (&'static str, Value) {
    match chance.of(16) {
        0 => ("tools/call", json!({"name": "echo", "arguments": {"nonce": word}})),
        1..=5 => ("tools/list", json!({"cursor": word})),
        _ => ("prompts/list", json!({"cursor": word})),
    }
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

/// Many clients of the stateless era share one child. All of them use the id 1 and the progress token 1, always.
#[test]
fn answers_to_equal_ids_of_many_clients_never_cross() {
    const CLIENTS: usize = 24;
    let scratch = Scratch::new();
    let policy = scratch.policy(POLICY).display().to_string();
    let command = shuffler();
    let mut arguments = vec!["-p", &policy, "--state", "memory:", "--"];
    arguments.extend(command.iter().map(String::as_str));
    let served = Served::start(&arguments);
    let [cancelled, in_flight, overlapping] = std::array::from_fn(|_| AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (served, cancelled, in_flight, overlapping) = (&served, &cancelled, &in_flight, &overlapping);
            scope.spawn(move || {
                let client = Client::begin(&served.address, MODERN);
                let mut chance = Chance(seed() * 1_000 + number as u64 + 1);
                let mut connection = None;
                while overlapping.load(Ordering::Relaxed) < INTERLEAVINGS / 2 {
                    let word = format!("{number}-{}", chance.of(1 << 30));
                    let (method, params) = question(&mut chance, &word);
                    let name = params["name"].as_str().map(str::to_owned);
                    let text = with_token(&request(MODERN, "1", method, params));
                    let bytes = client.post(&client.headers(method, name.as_deref()), text.as_bytes());
                    let connection: &mut TcpStream =
                        connection.get_or_insert_with(|| TcpStream::connect(&served.address).expect("the listener is there"));
                    if in_flight.fetch_add(1, Ordering::Relaxed) > 0 {
                        overlapping.fetch_add(1, Ordering::Relaxed);
                    }
                    if chance.of(40) == 0 {
                        // In this era, hanging up is the cancellation; the next request has the same id.
                        let _ = std::io::Write::write_all(connection, &bytes);
                        *connection = TcpStream::connect(&served.address).expect("the listener is there");
                        cancelled.fetch_add(1, Ordering::Relaxed);
                    } else {
                        let reply = ask_on(connection, &bytes).expect("an answer");
                        for message in reply.messages() {
                            if message["method"] == "notifications/progress" {
                                assert_eq!(message["params"]["message"], json!(word), "another's progress");
                                assert_eq!(message["params"]["progressToken"], 1);
                            } else if let Some(problem) = crossed(method, &word, &message) {
                                panic!("{problem}");
                            }
                        }
                        assert_eq!(reply.reply("1")["id"], 1);
                    }
                    in_flight.fetch_sub(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (overlapping, cancelled) = (overlapping.into_inner(), cancelled.into_inner());
    println!(
        "{overlapping} requests of {CLIENTS} clients, all under the id 1, while others waited; {cancelled} of them cancelled"
    );
}

/// `request` writes `_meta` itself.
fn with_token(text: &str) -> String {
    text.replacen(r#""_meta":{"#, r#""_meta":{"progressToken":1,"#, 1)
}

/// One client with few ids: what it cancels, it asks again at once under the same id. Late answers to the first are nobody's.
#[test]
fn answers_to_an_id_that_is_used_again_never_cross() {
    const IDS: u64 = 12;
    let scratch = Scratch::new();
    let mut client = Stdio::wrap(&scratch.policy(POLICY), "memory:", &[], &shuffler());
    client.begin(LEGACY);
    let mut chance = Chance(seed() + 7);
    let mut waiting: HashMap<u64, (&'static str, String)> = HashMap::new();
    let (mut asked, mut cancelled, mut overlapping) = (0usize, 0usize, 0usize);
    while overlapping < INTERLEAVINGS / 2 || !waiting.is_empty() {
        // Sends in bursts: the order in which they are answered is the server's.
        let mut burst = String::new();
        while overlapping < INTERLEAVINGS / 2 && (waiting.len() as u64) < IDS && chance.of(8) > 0 {
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
