//! Killed at any moment, and several processes on one state file: what ran is recorded and counted.

mod support;

use serde_json::json;
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};
use support::stdio::Stdio;
use support::{LEGACY, PATIENCE, Scratch, assert_verified, audit, call, lenient, tools_run};

const FORTY_A_DAY: &str = r#"
version: "1"
default: deny
tools:
  "work_*":
    rules:
      - name: forty a day
        rate_limit: 40/day
"#;

const TEN_A_DAY: &str = r#"
version: "1"
tools:
  echo:
    rules:
      - name: ten a day
        rate_limit: 10/day
"#;

const UNLIMITED: &str = r#"
version: "1"
default: deny
tools:
  "work_*":
    rules: []
"#;

fn rounds() -> usize {
    std::env::var("CALLGATE_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(8)
}

/// Runs the gateway, keeps it busy, and kills it `after` the first answer. Gives the next free number.
fn burst(scratch: &Scratch, first: usize, after: Duration) -> usize {
    let command = lenient(&scratch.log(), &["--stdio"]);
    let mut client = Stdio::wrap(&scratch.path("policy.yaml"), &scratch.state(), &[], &command);
    client.begin(LEGACY);
    let end = Instant::now() + after;
    let mut number = first;
    while Instant::now() < end {
        // Several at a time, so that the kill finds calls at every step of the path.
        for _ in 0..4 {
            client.send(call(LEGACY, &number.to_string(), &format!("work_{number}"), json!({})));
            number += 1;
        }
        client.line(Duration::from_millis(20));
    }
    client.child.kill().expect("the gateway is alive");
    client.child.wait().expect("the gateway is ours");
    // The upstream ends when its input closes: then its log is complete.
    let eof = || {
        let count = |kind| support::entries_of(&scratch.log(), kind).len();
        (count("eof") == count("start")).then_some(())
    };
    support::until(PATIENCE, eof).expect("after kill -9 the child's input closes");
    number
}

/// Moments that differ from round to round and cover the first half second.
fn moment(round: usize) -> Duration {
    Duration::from_micros(3_000 + (round as u64 * 77_713) % 400_000)
}

#[test]
fn what_the_upstream_ran_is_in_the_audit_log_after_kill_9() {
    let scratch = Scratch::new();
    scratch.policy(UNLIMITED);
    let mut next = 0;
    for round in 0..rounds() {
        next = burst(&scratch, next, moment(round));
        assert_verified(&scratch.state());
    }
    let decided: BTreeSet<String> = audit(&scratch.state())
        .iter()
        .filter(|record| record["phase"] == "decided" && record["outcome"] == "allow")
        .map(|record| record["tool"].as_str().unwrap_or_default().to_owned())
        .collect();
    let ran = tools_run(&scratch.log());
    assert!(ran.len() > rounds(), "the upstream ran {} calls only", ran.len());
    let missing: Vec<&String> = ran.iter().filter(|tool| !decided.contains(*tool)).collect();
    assert!(missing.is_empty(), "ran without a record: {missing:?}");
    let once: BTreeSet<&String> = ran.iter().collect();
    assert_eq!(once.len(), ran.len(), "a call ran twice");
}

#[test]
fn counters_never_lag_behind_what_ran_whenever_we_are_killed() {
    let scratch = Scratch::new();
    scratch.policy(FORTY_A_DAY);
    let mut next = 0;
    for round in 0..rounds() {
        next = burst(&scratch, next, moment(round) / 8);
    }
    // Spend what is left, and one more.
    let command = lenient(&scratch.log(), &["--stdio"]);
    let mut client = Stdio::wrap(&scratch.path("policy.yaml"), &scratch.state(), &[], &command);
    client.begin(LEGACY);
    let mut denied = false;
    for number in next..next + 41 {
        denied = support::is_denied(&client.call(LEGACY, &number.to_string(), &format!("work_{number}"), json!({})));
    }
    assert!(denied, "the limit was never reached");
    let ran = tools_run(&scratch.log()).len();
    assert!(ran <= 40, "{ran} calls ran under a limit of 40");
    assert_verified(&scratch.state());
}

#[test]
fn several_processes_on_one_state_file_admit_exactly_max_in_total() {
    let scratch = Scratch::new();
    let policy = scratch.policy(TEN_A_DAY);
    let state = scratch.state();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            // One upstream name: limits are per upstream, and these four wrap the same one.
            let command = lenient(&scratch.log(), &["--stdio"]);
            let mut client = Stdio::wrap(&policy, &state, &["--server", "shared"], &command);
            client.begin(LEGACY);
            client
        })
        .collect();
    let answers: Vec<(usize, usize)> = thread::scope(|scope| {
        let threads: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                scope.spawn(move || {
                    for number in 0..50 {
                        client.send(call(LEGACY, &number.to_string(), "echo", json!({"n": number})));
                    }
                    let replies: Vec<_> = (0..50).map(|_| client.message()).collect();
                    let denied = replies.iter().filter(|reply| support::is_denied(reply)).count();
                    let retry = |reply: &&serde_json::Value| {
                        reply["result"]["_meta"]["dev.callgate/decision"]["retryAfterMs"].as_u64().is_some_and(|ms| ms >= 1)
                    };
                    assert_eq!(replies.iter().filter(retry).count(), denied, "a denial by a limit says when to try again");
                    (50 - denied, denied)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("the client ends")).collect()
    });
    assert_eq!(answers.iter().map(|(allowed, _)| allowed).sum::<usize>(), 10, "{answers:?}");
    assert_eq!(tools_run(&scratch.log()).len(), 10);
    assert_verified(&state);
    let records = audit(&state);
    let decided = records.iter().filter(|record| record["phase"] == "decided" || record["phase"] == "refused").count();
    assert!(decided >= 200, "{decided} decisions recorded of 200");
}

#[test]
fn a_limit_holds_for_two_hundred_concurrent_calls_over_http() {
    let scratch = Scratch::new();
    let policy = scratch.policy(TEN_A_DAY).display().to_string();
    let upstream = support::HttpUpstream::start(&scratch.log(), &[]);
    let (state, url) = (scratch.state(), upstream.url());
    let served = support::Served::start(&["-p", &policy, "--state", &state, "--upstream", &url]);
    let client = support::http::Client::begin(&served.address, support::MODERN);
    let allowed: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let client = client.clone();
                scope.spawn(move || {
                    let passes = |number: &usize| {
                        let id = (thread * 25 + number).to_string();
                        !support::is_denied(&client.call(&id, "echo", json!({"n": id})))
                    };
                    (0..25).filter(passes).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("the client ends")).sum()
    });
    assert_eq!(allowed, 10);
    assert_eq!(tools_run(&scratch.log()).len(), 10);
}
