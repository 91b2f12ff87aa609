//! A state file that cannot be written: calls are denied within five seconds, the gateway stays, and it recovers within five
//! seconds of the cause going away.
//!
//! Each test has a small tmpfs of its own, which can be filled or made read-only even for root. Mounting needs root; without
//! it the tests say that they are skipped, and only the read-only directory (by its mode) is tried.

mod support;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::http::Client;
use support::stdio::Stdio;
use support::{HttpUpstream, LEGACY, MODERN, Scratch, Served, assert_verified, is_denied, lenient, tools_run};

const ALLOW: &str = "version: \"1\"\ntools:\n  echo:\n    rules:\n      - {name: many, rate_limit: 100000/day}\n";
const FIVE: Duration = Duration::from_secs(5);

/// A tmpfs, unmounted at the end.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf, kilobytes: u32) -> Option<Disk> {
        std::fs::create_dir_all(&at).expect("a directory");
        let size = format!("size={kilobytes}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).output().ok()?.status.success();
        if !mounted {
            eprintln!("skipped: mounting a tmpfs is not permitted here");
        }
        mounted.then_some(Disk(at))
    }

    fn remount(&self, option: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(&self.0).status().expect("mount runs");
        assert!(done.success(), "remount,{option}");
    }

    fn state(&self) -> String {
        format!("sqlite:{}", self.0.join("callgate.db").display())
    }

    /// Takes every block that is left.
    fn fill(&self) -> PathBuf {
        use std::io::Write;
        let path = self.0.join("ballast");
        let mut file = std::fs::File::create(&path).expect("a file");
        for size in [65_536, 4096, 512, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
    }
}

/// Calls until the answer is (not) a denial; panics after five seconds. Every single call is answered within five.
#[track_caller]
fn calls_until(denied: bool, mut call: impl FnMut() -> Value) -> Value {
    let begin = Instant::now();
    loop {
        let asked = Instant::now();
        let reply = call();
        assert!(asked.elapsed() < FIVE, "an answer took {:?}: {reply}", asked.elapsed());
        if is_denied(&reply) == denied {
            return reply;
        }
        assert!(begin.elapsed() < FIVE, "denied should be {denied} within five seconds: {reply}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn reason(reply: &Value) -> String {
    reply["result"]["_meta"]["dev.callgate/decision"]["reason"].as_str().unwrap_or_default().to_owned()
}

/// A gateway over stdio on `state`, and a way to call it.
fn caller(scratch: &Scratch, state: &str) -> impl FnMut() -> Value + use<> {
    let policy = scratch.policy(ALLOW);
    let mut client = Stdio::wrap(&policy, state, &[], &lenient(&scratch.log(), &["--stdio"]));
    client.begin(LEGACY);
    let mut number = 0;
    move || {
        number += 1;
        client.call(LEGACY, &number.to_string(), "echo", json!({"n": number}))
    }
}

/// While the disk is broken nothing runs; afterwards calls pass again.
#[track_caller]
fn check(scratch: &Scratch, state: &str, call: &mut dyn FnMut() -> Value, mend: impl FnOnce()) {
    let reply = calls_until(true, &mut *call);
    assert!(["store-unavailable", "audit-unavailable"].contains(&reason(&reply).as_str()), "{reply}");
    let before = tools_run(&scratch.log()).len();
    for _ in 0..3 {
        assert!(is_denied(&call()), "denied as long as nothing can be written");
    }
    assert_eq!(tools_run(&scratch.log()).len(), before, "nothing runs without a record");
    mend();
    calls_until(false, &mut *call);
    assert_verified(state);
}

#[test]
fn a_full_disk_denies_and_space_brings_calls_back() {
    let scratch = Scratch::new();
    let Some(disk) = Disk::mount(scratch.path("disk"), 1024) else { return };
    let state = disk.state();
    let mut call = caller(&scratch, &state);
    calls_until(false, &mut call);
    let ballast = disk.fill();
    // What SQLite has already allocated may take a few records more.
    let mut passed = 0;
    while !is_denied(&call()) {
        passed += 1;
        assert!(passed < 5000, "a full disk is noticed");
    }
    check(&scratch, &state, &mut call, || std::fs::remove_file(ballast).expect("the ballast goes"));
}

#[test]
fn a_disk_that_is_full_at_the_start_denies_and_space_brings_calls_back() {
    let scratch = Scratch::new();
    let Some(disk) = Disk::mount(scratch.path("disk"), 1024) else { return };
    let state = disk.state();
    let ballast = disk.fill();
    let mut call = caller(&scratch, &state);
    check(&scratch, &state, &mut call, || std::fs::remove_file(ballast).expect("the ballast goes"));
}

#[test]
fn a_disk_remounted_read_only_denies_and_recovers() {
    let scratch = Scratch::new();
    let Some(disk) = Disk::mount(scratch.path("disk"), 4096) else { return };
    let state = disk.state();
    let mut call = caller(&scratch, &state);
    calls_until(false, &mut call);
    // A tmpfs with a file open for writing cannot be remounted; the closest to it is a disk without room, tried above.
    // What can be tried is the directory, read-only from the start.
    drop(call);
    disk.remount("ro");
    let mut call = caller(&scratch, &state);
    check(&scratch, &state, &mut call, || disk.remount("rw"));
}

#[test]
fn a_read_only_directory_denies_and_recovers() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let directory = scratch.path("state");
    std::fs::create_dir_all(&directory).expect("a directory");
    let set = |mode| std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(mode)).expect("our own directory");
    set(0o500);
    if std::fs::write(directory.join("probe"), "").is_ok() {
        eprintln!("skipped: modes do not bind root; the tmpfs tests cover it");
        return;
    }
    let state = format!("sqlite:{}", directory.join("callgate.db").display());
    let mut call = caller(&scratch, &state);
    check(&scratch, &state, &mut call, || set(0o700));
}

#[test]
fn a_state_directory_that_is_a_file_denies_and_recovers() {
    let scratch = Scratch::new();
    let place = scratch.write("state", "in the way");
    let state = format!("sqlite:{}", place.join("callgate.db").display());
    let mut call = caller(&scratch, &state);
    check(&scratch, &state, &mut call, || std::fs::remove_file(&place).expect("the file goes"));
}

#[test]
fn the_http_gateway_denies_and_recovers_too() {
    let scratch = Scratch::new();
    let Some(disk) = Disk::mount(scratch.path("disk"), 1024) else { return };
    let (state, ballast) = (disk.state(), disk.fill());
    let policy = scratch.policy(ALLOW).display().to_string();
    let upstream = HttpUpstream::start(&scratch.log(), &[]);
    let served = Served::start(&["-p", &policy, "--state", &state, "--upstream", &upstream.url()]);
    let client = Client::begin(&served.address, MODERN);
    let mut number = 0;
    let mut call = || {
        number += 1;
        client.call(&number.to_string(), "echo", json!({}))
    };
    check(&scratch, &state, &mut call, || std::fs::remove_file(ballast).expect("the ballast goes"));
}

#[test]
fn a_damaged_state_file_denies_and_is_never_overwritten() {
    let scratch = Scratch::new();
    let file = scratch.write("callgate.db", "this is no database, and longer than a header of one would be");
    let mut call = caller(&scratch, &scratch.state());
    assert!(is_denied(&call()));
    assert!(tools_run(&scratch.log()).is_empty());
    drop(call);
    assert!(std::fs::read(Path::new(&file)).expect("the file").starts_with(b"this is no database"));
}
