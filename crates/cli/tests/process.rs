//! The child process: it ends with us on every exit, its status becomes ours, and it inherits what it should.

mod support;

use serde_json::json;
use std::time::{Duration, Instant};
use support::http::Client;
use support::stdio::Stdio;
use support::{LEGACY, MODERN, PATIENCE, Scratch, Served, entries_of, is_alive, lenient, until};

const OPEN: &str = "version: \"1\"\ntools: {}\n";

fn wrapped(scratch: &Scratch, options: &[&str]) -> Stdio {
    let mut all = vec!["--stdio"];
    all.extend(options);
    let mut client = Stdio::wrap(&scratch.policy(OPEN), &scratch.state(), &[], &lenient(&scratch.log(), &all));
    client.begin(LEGACY);
    client
}

/// The child and its own children.
fn family(scratch: &Scratch) -> Vec<u64> {
    let pids = |kind| entries_of(&scratch.log(), kind).into_iter().filter_map(|entry| entry["pid"].as_u64()).collect::<Vec<_>>();
    [pids("start"), pids("child")].concat()
}

#[track_caller]
fn assert_all_gone(pids: &[u64]) {
    let gone = until(PATIENCE, || pids.iter().all(|&pid| !is_alive(pid)).then_some(()));
    assert!(gone.is_some(), "still alive: {:?}", pids.iter().filter(|&&pid| is_alive(pid)).collect::<Vec<_>>());
}

/// A child that ignores signals and the end of its input, with a child of its own that does too.
const STUBBORN: &[&str] = &["--ignore-sigterm", "--ignore-eof", "--fork"];

#[test]
fn the_whole_process_group_ends_with_us() {
    use rustix::process::Signal;
    for (what, signal) in [("SIGTERM", Some(Signal::TERM)), ("SIGINT", Some(Signal::INT)), ("the end of our stdin", None)] {
        let scratch = Scratch::new();
        let mut client = wrapped(&scratch, STUBBORN);
        let pids = family(&scratch);
        assert_eq!(pids.len(), 2, "the child and its child");
        match signal {
            Some(signal) => client.signal(signal),
            None => client.close_stdin(),
        }
        assert!(client.ended(PATIENCE).is_some(), "{what} ends the gateway");
        assert_all_gone(&pids);
    }
}

#[test]
fn a_second_signal_ends_us_at_once_and_leaves_no_child() {
    use rustix::process::Signal;
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, STUBBORN);
    let pids = family(&scratch);
    client.signal(Signal::TERM);
    until(PATIENCE, || client.said().contains("asked to stop").then_some(())).expect("the first one is heard");
    client.signal(Signal::INT);
    // Left to itself the first would have ended it with another status, four seconds later.
    assert_eq!(client.ended(PATIENCE).expect("it ends").code(), Some(1));
    assert_all_gone(&pids);
}

#[test]
fn serve_takes_its_child_along() {
    let scratch = Scratch::new();
    let policy = scratch.policy(OPEN).display().to_string();
    let command = lenient(&scratch.log(), &["--stdio", "--ignore-sigterm", "--ignore-eof", "--fork"]);
    let state = scratch.state();
    let mut arguments = vec!["-p", &policy, "--state", &state, "--"];
    arguments.extend(command.iter().map(String::as_str));
    let mut served = Served::start(&arguments);
    Client::begin(&served.address, MODERN).call("1", "echo", json!({}));
    let pids = family(&scratch);
    served.signal(rustix::process::Signal::TERM);
    assert!(support::ended(&mut served.child, PATIENCE).is_some());
    assert_all_gone(&pids);
}

#[test]
fn a_child_that_ends_by_itself_leaves_none_of_its_own_behind() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, &["--fork", "--crash-on-call", "--exit-code", "9"]);
    let pids = family(&scratch);
    client.send(support::call(LEGACY, "1", "echo", json!({})));
    assert_eq!(client.ended(PATIENCE).expect("it ends with its child").code(), Some(9));
    assert_all_gone(&pids);
}

#[test]
fn after_kill_9_the_childs_input_closes() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, &[]);
    client.child.kill().expect("it is alive");
    client.child.wait().expect("it is ours");
    until(PATIENCE, || entries_of(&scratch.log(), "eof").pop()).expect("the child reads the end of its input");
}

#[test]
fn the_childs_exit_status_becomes_ours() {
    for code in [0, 7] {
        let scratch = Scratch::new();
        let mut client = wrapped(&scratch, &["--exit-code", &code.to_string()]);
        client.close_stdin();
        assert_eq!(client.ended(PATIENCE).expect("it ends").code(), Some(code));
    }
}

#[test]
fn a_well_behaved_child_is_not_kept_waiting_at_the_end() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, &[]);
    let begin = Instant::now();
    client.close_stdin();
    client.ended(PATIENCE).expect("it ends");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn a_command_that_does_not_exist_is_an_error_with_its_name() {
    let scratch = Scratch::new();
    let policy = scratch.policy(OPEN).display().to_string();
    let ran = support::run(&["run", "-p", &policy, "--state", "memory:", "--", "/no/such/server"], "");
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("/no/such/server"), "{}", ran.stderr);
    assert!(ran.stdout.is_empty(), "stdout is the protocol's: {}", ran.stdout);
}

#[test]
fn answers_that_are_due_are_given_before_the_end() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, &[]);
    for number in 0..20 {
        client.send(support::call(LEGACY, &number.to_string(), "echo", json!({"n": number})));
    }
    client.close_stdin();
    let ids: Vec<_> = (0..20).map(|_| client.message()["id"].as_u64()).collect();
    assert_eq!(ids.iter().flatten().count(), 20, "{ids:?}");
}

#[test]
fn a_call_that_never_ends_does_not_keep_us_after_the_clients_end() {
    let scratch = Scratch::new();
    let mut client = wrapped(&scratch, &["--hang"]);
    let pids = family(&scratch);
    client.send(support::call(LEGACY, "1", "echo", json!({})));
    until(PATIENCE, || support::tools_run(&scratch.log()).pop()).expect("the call runs");
    client.close_stdin();
    assert!(client.ended(PATIENCE).is_some(), "the gateway ends");
    assert_all_gone(&pids);
    let records = support::audit(&scratch.state());
    let finished = records.iter().find(|record| record["phase"] == "finished").expect("how it ended is recorded");
    assert_eq!(finished["reply"], "lost");
    support::assert_verified(&scratch.state());
}

#[test]
fn a_child_inherits_no_descriptor_of_ours() {
    let descriptors = |scratch: &Scratch| -> Vec<String> {
        let start = until(PATIENCE, || entries_of(&scratch.log(), "start").pop()).expect("it started");
        let fds = start["fds"].as_array().expect("a list").iter().filter(|fd| fd[0].as_u64() > Some(2));
        fds.filter_map(|fd| fd[1].as_str()).filter(|target| !target.ends_with("upstream.log")).map(str::to_owned).collect()
    };
    // What this test itself was given without CLOEXEC is not the gateway's doing.
    let plain = Scratch::new();
    let command = lenient(&plain.log(), &["--stdio"]);
    let mut direct = std::process::Command::new(&command[0]);
    let _direct = Stdio::spawn({
        direct.args(&command[1..]);
        direct
    });
    let known = descriptors(&plain);
    let scratch = Scratch::new();
    let _client = wrapped(&scratch, &[]);
    let ours: Vec<_> = descriptors(&scratch).into_iter().filter(|target| !known.contains(target)).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
fn run_passes_its_environment_on_and_serve_only_what_is_harmless() {
    let names = |scratch: &Scratch| -> Vec<String> {
        let start = until(PATIENCE, || entries_of(&scratch.log(), "start").pop()).expect("it started");
        start["env"].as_array().expect("a list").iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect()
    };
    let set = |command: &mut std::process::Command| {
        command
            .env("SECRET_TOKEN", "x")
            .env("LD_PRELOAD", "")
            .env("NODE_OPTIONS", "")
            .env("BASH_ENV", "")
            .env("npm_config_x", "1");
    };
    let scratch = Scratch::new();
    let mut run = support::callgate();
    set(&mut run);
    run.arg("run").arg("-p").arg(scratch.policy(OPEN)).args(["--state", "memory:", "--"]);
    run.args(lenient(&scratch.log(), &["--stdio"]));
    let mut client = Stdio::spawn(run);
    client.begin(LEGACY);
    assert!(names(&scratch).contains(&"SECRET_TOKEN".to_owned()));

    let scratch = Scratch::new();
    let policy = scratch.policy(OPEN).display().to_string();
    let command = lenient(&scratch.log(), &["--stdio"]);
    let mut arguments = vec!["-p", &policy, "--state", "memory:", "--"];
    arguments.extend(command.iter().map(String::as_str));
    let mut serve = support::callgate();
    set(&mut serve);
    let served = Served::start_with(serve, &arguments);
    Client::begin(&served.address, MODERN).call("1", "echo", json!({}));
    let known = ["PATH", "HOME", "LANG", "TMPDIR", "LC_CTYPE", "SHLVL", "_", "PWD"];
    let seen = names(&scratch);
    // `python3` may be a script of pyenv's, which adds its own.
    let is_known = |name: &str| known.contains(&name) || name.trim_start_matches('_').starts_with("PYENV_");
    let more: Vec<_> = seen.iter().filter(|name| !is_known(name)).collect();
    assert!(more.is_empty(), "inherited: {more:?}");
    drop(served);
}
