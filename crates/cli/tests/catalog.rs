//! `catalog`: from captures and servers to a file that is searched; and servers that nobody should trust.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};
use support::{Scratch, callgate, root, send_signal};

fn run(scratch: &Scratch, arguments: &[&str]) -> Output {
    callgate().arg("catalog").args(arguments).current_dir(scratch.path("")).output().unwrap()
}

#[track_caller]
fn says(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn files(version: &str, most: u64) -> Value {
    json!({"server": "files", "version": version, "tools": [
        {"name": "read_file", "description": "Reads a file.\u{202e}", "inputSchema": {"type": "object",
            "properties": {"path": {"type": "string"}, "lines": {"type": "integer", "maximum": most}}, "required": ["path"]}},
        {"name": "delete_file", "description": "Deletes a file for good.", "inputSchema": {"type": "object",
            "properties": {"path": {"type": "string"}}, "required": ["path"]}},
    ]})
}

fn filled() -> Scratch {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("all.jsonl"), format!("{}\n{}\n", files("1.9.0", 10), files("1.10.0", 100))).unwrap();
    let built = run(&scratch, &["build", "--captures", "all.jsonl", "--json"]);
    let told: Value = serde_json::from_str(&says(&built, 0)).unwrap();
    assert_eq!((told["added"].as_u64(), told["tools"].as_u64()), (Some(2), Some(4)));
    scratch
}

#[test]
fn what_was_built_is_shown_found_and_exported() {
    let scratch = filled();
    let found = lines(&says(&run(&scratch, &["search", "delete", "--class", "destructive", "--signal", "path", "--json"]), 0));
    assert_eq!(found.len(), 1);
    assert_eq!(
        (&found[0]["server"], &found[0]["version"], &found[0]["tool"]),
        (&json!("files"), &json!("1.10.0"), &json!("delete_file"))
    );
    let tool: Value = serde_json::from_str(&says(&run(&scratch, &["show", "files@1.9.0/read_file", "--json"]), 0)).unwrap();
    assert_eq!(
        (&tool["risk"], &tool["definition"]["inputSchema"]["properties"]["lines"]["maximum"]),
        (&json!("Read"), &json!(10))
    );
    assert!(tool["policy"]["yaml"].as_str().unwrap().contains("\"read_file\""));
    assert!(tool["policy"]["json"].is_object());
    let shown = says(&run(&scratch, &["show", "files"]), 0) + &says(&run(&scratch, &["show", "files/read_file"]), 0);
    assert!(shown.contains("files@1.10.0") && shown.contains("\\u{202e}") && !shown.contains('\u{202e}'), "{shown}");
    assert!(says(&run(&scratch, &["show"]), 0).contains("1 server with 2 tools"));
    let exported = says(&run(&scratch, &["export", "--json"]), 0);
    let exported: Value = serde_json::from_str(&exported).unwrap();
    assert_eq!(exported[0]["risks"][1]["risk"], "Destructive");
    let facts = says(&run(&scratch, &["export", "--jsonl", "--facts"]), 0);
    assert!(facts.contains("delete_file") && !facts.contains("for good"), "{facts}");
}

#[test]
fn a_difference_is_shown_between_versions_and_between_catalogs() {
    let scratch = filled();
    let told: Value = serde_json::from_str(&says(&run(&scratch, &["diff", "files", "--json"]), 1)).unwrap();
    assert_eq!(told["differences"][0]["changes"][0]["text"], "`maximum` rose from 10 to 100");
    assert_eq!(told["differences"][0]["widens"], true);
    says(&run(&scratch, &["diff", "files@1.9.0", "files@1.9.0"]), 0);
    std::fs::write(scratch.path("old.json"), files("1.9.0", 10).to_string()).unwrap();
    says(&run(&scratch, &["build", "--captures", "old.json", "-o", "old.db"]), 0);
    let told = says(&run(&scratch, &["diff", "--since", "old.db"]), 1);
    assert!(told.contains("tool read_file is changed"), "{told}");
    says(&run(&scratch, &["diff", "--since", "catalog.db"]), 0);
    says(&run(&scratch, &["diff", "--since", "catalog.db", "absent"]), 1);
}

#[test]
fn what_is_not_there_is_named() {
    let scratch = filled();
    for (arguments, code, words) in [
        (&["show", "absent"][..], 1, "no server `absent`"),
        (&["show", "files/absent"], 1, "`files` lists no tool `absent`"),
        (&["search", "x", "--catalog", "absent.db"], 1, "cannot open the catalog `absent.db`"),
        (&["search", "--class", "Awful"], 2, "Destructive"),
        (&["build", "absent.yaml"], 1, "cannot read the list `absent.yaml`"),
        (&["build", "--captures", "absent.json"], 1, "absent.json"),
        (&["diff"], 2, "SERVER"),
    ] {
        let output = run(&scratch, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words), "{arguments:?}: {stderr}");
    }
}

/// The servers of a list, each on a line of its own, asked; what became of each, or `None` where there are no namespaces.
fn asked(scratch: &Scratch, servers: &[String], more: &[&str]) -> Option<Vec<Value>> {
    let list = format!("servers:\n{}\n", servers.iter().map(|server| format!("  - {server}\n")).collect::<String>());
    std::fs::write(scratch.path("list.yaml"), list).unwrap();
    let output = run(scratch, &[&["build", "list.yaml", "--json"], more].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("cannot be isolated here") {
        eprintln!("skipped: {stderr}");
        return None;
    }
    let told: Value = serde_json::from_str(&says(&output, 0)).unwrap();
    Some(told["servers"].as_array().unwrap().clone())
}

/// An element of a list: the hostile server, a copy of it that it may try to change.
fn entry(scratch: &Scratch, name: &str, words: &str, seconds: u32) -> String {
    let server = scratch.path("server.py");
    std::fs::copy(root().join("tests/hostile/server.py"), &server).unwrap();
    let server = server.display();
    format!("{{name: {name}, command: [python3, {server}, {words}], read: [{server}], timeout: {seconds}s}}")
}

/// What a hostile server could do, by the names of its tools.
fn findings(scratch: &Scratch, name: &str) -> Vec<(String, String)> {
    let captured: Value = serde_json::from_str(&says(&run(scratch, &["show", name, "--json"]), 0)).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    captured["tools"].as_array().unwrap().iter().map(|tool| (text(&tool["name"]), text(&tool["description"]))).collect()
}

#[test]
fn a_server_in_its_cell_reaches_nothing_but_what_is_its_own() {
    let scratch = Scratch::new();
    let secret = scratch.path("secret.txt");
    std::fs::write(&secret, "hush-hush").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let words = format!("tells, {}, \"{}\", CARGO_MANIFEST_DIR", secret.display(), listener.local_addr().unwrap());
    let Some(told) = asked(&scratch, &[entry(&scratch, "hostile", &words, 120)], &[]) else { return };
    assert_eq!(told[0]["problem"], Value::Null, "{told:?}");
    for (name, found) in findings(&scratch, "hostile") {
        let is_as_it_should = match name.as_str() {
            "may_write_home" | "may_write_tmp" | "may_use_loopback" => found == "yes",
            "capabilities" => found.chars().all(|digit| digit == '0'),
            "limits" => found == LIMITS,
            _ => found.starts_with("no"),
        };
        assert!(is_as_it_should, "{name}: {found}");
    }
    let shown: Value = serde_json::from_str(&says(&run(&scratch, &["show", "hostile", "--json"]), 0)).unwrap();
    assert_eq!((&shown["isolation"], &shown["serverInfo"]["name"]), (&json!("isolated"), &json!("hostile")));
    assert!(std::fs::read_to_string(scratch.path("server.py")).unwrap().len() > 1_000, "it has not overwritten itself");
}

/// What docs/catalog.md says of each process, soft and hard: nothing raises it again.
const LIMITS: &str = "CPU=300:300 DATA=4294967296:4294967296 FSIZE=268435456:268435456 NOFILE=4096:4096 NPROC=512:512 CORE=0:0";

#[test]
fn a_server_that_needs_the_network_has_it_and_nothing_else() {
    let scratch = Scratch::new();
    let secret = scratch.path("secret.txt");
    std::fs::write(&secret, "hush-hush").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let words = format!("tells, {}, \"{}\", CARGO_MANIFEST_DIR", secret.display(), listener.local_addr().unwrap());
    let entry = entry(&scratch, "networked", &words, 120).replace("timeout:", "network: true, timeout:");
    let Some(told) = asked(&scratch, &[entry], &[]) else { return };
    assert_eq!(told[0]["problem"], Value::Null, "{told:?}");
    for (name, found) in findings(&scratch, "networked") {
        let is_as_it_should = match name.as_str() {
            "reach_host" | "may_write_home" | "may_write_tmp" | "may_use_loopback" => found == "yes",
            // Whatever the network of this machine leads to.
            "reach_world" => true,
            "capabilities" => found.chars().all(|digit| digit == '0'),
            "limits" => found == LIMITS,
            _ => found.starts_with("no"),
        };
        assert!(is_as_it_should, "{name}: {found}");
    }
    let shown: Value = serde_json::from_str(&says(&run(&scratch, &["show", "networked", "--json"]), 0)).unwrap();
    assert_eq!(shown["isolation"], "networked");
}

#[test]
fn what_makes_the_cell_is_never_a_program_that_lies_beside_the_server() {
    let scratch = Scratch::new();
    let mark = scratch.path("mark");
    for (name, does) in [("unshare", format!("echo outside > {}", mark.display())), ("serve", "echo no server >&2".to_owned())] {
        let program = scratch.write(name, format!("#!/bin/sh\n{does}\n"));
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let server = format!("{{name: beside, command: [{}], timeout: 60s}}", scratch.path("serve").display());
    let Some(told) = asked(&scratch, &[server], &[]) else { return };
    let problem = told[0]["problem"].as_str().unwrap_or_default();
    assert!(problem.contains("it said: no server"), "{told:?}");
    assert!(!mark.exists(), "`unshare` was taken from the directory of the server");
}

#[test]
fn what_does_not_answer_is_recorded_with_the_reason_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let mark = format!("callgate-test-{}", std::process::id());
    let servers = [
        entry(&scratch, "silent", &format!("keeps-silent, {mark}"), 5),
        entry(&scratch, "forking", &format!("forks, {mark}"), 5),
        entry(&scratch, "flooding", &format!("floods, {mark}"), 5),
        entry(&scratch, "leaving", "leaves", 60),
        entry(&scratch, "endless", "endless", 60),
        "{name: absent, command: [./no-such-server]}".to_owned(),
    ];
    let Some(told) = asked(&scratch, &servers, &["--jobs", "3"]) else { return };
    let problem = |name: &str| {
        let server = told.iter().find(|server| server["server"] == name).unwrap();
        server["problem"].as_str().unwrap_or_default().to_owned()
    };
    for (name, words) in [
        ("silent", "has not answered within 5s"),
        ("forking", "has not answered within 5s"),
        ("flooding", "has not answered within 5s"),
        ("leaving", "it said: no licence on this machine"),
        ("endless", "does not end"),
        ("absent", "cannot find"),
    ] {
        assert!(problem(name).contains(words), "{name}: {}", problem(name));
    }
    assert_eq!(living(&mark), Vec::<String>::new());
    let listed = lines(&says(&run(&scratch, &["show", "--json"]), 0));
    assert_eq!(listed.len(), 6, "what failed is in the catalog too");
    assert!(listed.iter().all(|server| server["tools"] == 0 && server["problem"].is_string()), "{listed:?}");
}

/// The processes of this machine whose command line holds the mark.
fn living(mark: &str) -> Vec<String> {
    let command_line = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read(entry.ok()?.path().join("cmdline")).ok();
    let lines = std::fs::read_dir("/proc").unwrap().filter_map(command_line);
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(mark)).collect()
}

#[test]
fn without_namespaces_a_server_is_started_only_where_somebody_says_so() {
    let scratch = Scratch::new();
    let words = format!("looks, {}", scratch.path("list.yaml").display());
    std::fs::write(scratch.path("list.yaml"), format!("servers:\n  - {}\n", entry(&scratch, "hostile", &words, 120))).unwrap();
    // Namespaces are made by `unshare`: where there is none, there are none.
    let refused = callgate()
        .args(["catalog", "build", "list.yaml"])
        .current_dir(scratch.path(""))
        .env("PATH", scratch.path(""))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cannot be isolated here") && stderr.contains("--unisolated"), "{stderr}");
    asked(&scratch, &[entry(&scratch, "hostile", &words, 120)], &["--unisolated"]).unwrap();
    let shown: Value = serde_json::from_str(&says(&run(&scratch, &["show", "hostile", "--json"]), 0)).unwrap();
    assert_eq!(shown["isolation"], "unisolated");
    let found = findings(&scratch, "hostile");
    let outside = found.iter().find(|(name, _)| name == "read_outside").unwrap();
    assert!(outside.1.starts_with("servers:"), "this server finds what it looks for, where it is let: {outside:?}");
    let again = asked(&scratch, &[entry(&scratch, "hostile", &words, 120)], &["--unisolated"]).unwrap();
    assert_eq!((&again[0]["tools"], &again[0]["problem"]), (&Value::Null, &Value::Null), "it has answered before");
}

/// A build of one server that answers and one that never does, which has come to the second: its processes have the mark in
/// their command lines. `None` where there are no namespaces.
fn hanging(scratch: &Scratch, mark: &str, more: &[&str]) -> Option<Child> {
    let servers = [first(scratch), entry(scratch, "silent", &format!("keeps-silent, {mark}"), 600)];
    std::fs::write(scratch.path("list.yaml"), format!("servers:\n  - {}\n  - {}\n", servers[0], servers[1])).unwrap();
    let mut build = callgate();
    build.args(["catalog", "build", "list.yaml", "--jobs", "1"]).args(more).current_dir(scratch.path(""));
    let mut child = build.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    if line.contains("cannot be isolated here") {
        eprintln!("skipped: {line}");
        child.wait().unwrap();
        return None;
    }
    assert!(line.starts_with("1/2 first: 1 tool"), "{line}");
    // What makes its cell, the first process of that, the server, and what it has started to outlive it.
    become_of(mark, |living| living.len() >= 4);
    Some(child)
}

fn first(scratch: &Scratch) -> String {
    entry(scratch, "first", &format!("looks, {}", scratch.path("list.yaml").display()), 120)
}

/// Waits until the processes with the mark are as they should be.
#[track_caller]
fn become_of(mark: &str, are_so: impl Fn(&[String]) -> bool) {
    let began = Instant::now();
    while !are_so(&living(mark)) {
        assert!(began.elapsed() < Duration::from_secs(60), "{:#?}", living(mark));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The first server of a list that [`hanging`] has begun with is not asked again.
#[track_caller]
fn is_kept(scratch: &Scratch) {
    let told = asked(scratch, &[first(scratch)], &[]).unwrap();
    assert_eq!((&told[0]["server"], &told[0]["tools"], &told[0]["problem"]), (&json!("first"), &Value::Null, &Value::Null));
    let shown: Value = serde_json::from_str(&says(&run(scratch, &["show", "first", "--json"]), 0)).unwrap();
    assert_eq!(shown["tools"].as_array().map(Vec::len), Some(1));
    assert!(run(scratch, &["show", "silent"]).status.code() == Some(1), "what was given up was not asked");
}

#[test]
fn a_signal_ends_a_build_and_its_servers_and_what_was_asked_is_kept() {
    for signal in [Signal::INT, Signal::TERM] {
        let scratch = Scratch::new();
        let mark = format!("callgate-stopped-{}-{}", std::process::id(), signal.as_raw());
        let Some(child) = hanging(&scratch, &mark, &[]) else { return };
        send_signal(child.id(), signal);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("stopped after 1 of 2 servers; the same command goes on with the others"), "{stderr}");
        become_of(&mark, <[String]>::is_empty);
        is_kept(&scratch);
    }
}

#[test]
fn a_build_that_is_killed_leaves_no_server_behind_and_loses_no_answer() {
    let scratch = Scratch::new();
    let mark = format!("callgate-killed-{}", std::process::id());
    let Some(mut child) = hanging(&scratch, &mark, &[]) else { return };
    child.kill().unwrap();
    child.wait().unwrap();
    become_of(&mark, <[String]>::is_empty);
    is_kept(&scratch);
}

#[test]
fn a_working_directory_is_one_builds_at_a_time() {
    let scratch = Scratch::new();
    let mark = format!("callgate-holding-{}", std::process::id());
    let Some(mut child) = hanging(&scratch, &mark, &["--work", "work"]) else { return };
    let second = ["build", "list.yaml", "--work", "work", "-o", "other.db"];
    let refused = run(&scratch, &second);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("is in use by process {}", child.id())) && stderr.contains("`--work`"), "{stderr}");
    send_signal(child.id(), Signal::TERM);
    child.wait().unwrap();
    std::fs::write(scratch.path("list.yaml"), format!("servers:\n  - {}\n", first(&scratch))).unwrap();
    says(&run(&scratch, &second), 0);
}
