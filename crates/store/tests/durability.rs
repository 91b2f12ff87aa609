//! What was promised is on disk: after `kill -9`, with several processes, on full and read-only disks.

#![allow(clippy::unwrap_used, reason = "helpers of tests are test code")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use store::{Clock, Durability, Filter, Options, Reader, StateUrl, Store, StoreError};
use support::*;

/// Starts this test program anew as another process that runs only [`other_process`].
fn other_process_on(path: &Path, calls: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "other_process", "--nocapture", "--test-threads=1"])
        .env("CALLGATE_TEST_STATE", path)
        .env("CALLGATE_TEST_CALLS", calls.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Makes calls against a limit of ten thousand a month, and prints the id of each as soon as it may be forwarded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_process() {
    let Some(path) = std::env::var_os("CALLGATE_TEST_STATE") else { return };
    let calls: usize = std::env::var("CALLGATE_TEST_CALLS").unwrap().parse().unwrap();
    let store = Store::open(StateUrl::Sqlite(path.into()), Options::default()).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..4 {
        let store = store.clone();
        tasks.spawn(async move {
            for number in (lane..calls).step_by(4) {
                let mut admission = call("g", vec![limit(100, "month")]);
                let id = admission.id.clone();
                if number % 5 == 0 {
                    // Of recent calls only the database knows.
                    admission.once = Some(store::Once { tool: "t".into(), digest: id.to_string(), window_ms: 1 });
                }
                if passes(&store, admission).await {
                    println!("forwarded {id}");
                }
            }
        });
    }
    tasks.join_all().await;
    println!("done");
}

/// The ids that a process has printed, until it ends or `enough` says so.
fn forwarded(child: &mut Child, enough: usize) -> Vec<String> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ids = lines.map_while(Result::ok).filter_map(|line| Some(line.split_once("forwarded ")?.1.to_owned()));
    ids.take(enough).collect()
}

#[tokio::test]
async fn processes_share_one_limit_and_one_chain() {
    let directory = Directory::new();
    let mut children: Vec<Child> = (0..3).map(|_| other_process_on(&directory.file(), 100)).collect();
    let granted: usize = children.iter_mut().map(|child| forwarded(child, usize::MAX).len()).sum();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(granted, 100);
    let found = Reader::open(&directory.url(), Clock::System).unwrap().verify().unwrap();
    assert!(found.valid, "{found:?}");
    assert_eq!(found.records, 300);
}

#[tokio::test]
async fn what_a_killed_process_forwarded_is_on_record_and_charged() {
    for enough in [1, 7, 30, 60] {
        let directory = Directory::new();
        let mut child = other_process_on(&directory.file(), 10_000);
        let mut ids = forwarded(&mut child, enough);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(ids.len(), enough);

        let copy = directory.0.join("copy").join("callgate.db");
        copy_state(&directory.file(), &copy);
        assert!(std::fs::metadata(format!("{}-wal", copy.display())).unwrap().len() > 0, "nothing was left in the log to see");
        let reader = Reader::open(&StateUrl::Sqlite(copy), Clock::System).unwrap();
        let found = reader.verify().unwrap();
        assert!(found.valid, "{found:?}");
        let rows: Vec<_> = reader.list(&Filter::default()).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len() as u64, found.records);
        let allowed: Vec<String> =
            rows.iter().filter(|row| member(&row.body, "outcome") == "allow").map(|row| member(&row.body, "id")).collect();
        ids.retain(|id| !allowed.contains(id));
        assert_eq!(ids, [""; 0], "forwarded, and not on record");

        // The counter holds exactly what is on record: it never lags behind.
        let store = Store::open(directory.url(), Options::default()).unwrap();
        let mut left = 0;
        while passes(&store, call("g", vec![limit(100, "month")])).await {
            left += 1;
        }
        assert_eq!(allowed.len() + left, 100);
        assert!(store.reader().unwrap().verify().unwrap().valid);
    }
}

/// Three processes at a time, all killed at a moment that differs from round to round.
#[tokio::test]
async fn processes_killed_at_any_moment_share_one_limit_and_one_chain() {
    let rounds: u64 = std::env::var("CALLGATE_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(6);
    let directory = Directory::new();
    Store::open(directory.url(), Options::default()).unwrap().close().await;
    let mut ids: Vec<String> = Vec::new();
    for round in 0..rounds {
        let mut children: Vec<Child> = (0..3).map(|_| other_process_on(&directory.file(), 10_000)).collect();
        let outputs: Vec<_> = children.iter_mut().map(|child| child.stdout.take().unwrap()).collect();
        std::thread::sleep(Duration::from_micros(20_000 + (round * 77_713) % 120_000));
        children.iter_mut().for_each(|child| child.kill().unwrap());
        for (child, output) in children.iter_mut().zip(outputs) {
            child.wait().unwrap();
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            ids.extend(lines.filter_map(|line| Some(line.split_once("forwarded ")?.1.to_owned())).filter(|id| id.len() == 16));
        }
        let found = Reader::open(&directory.url(), Clock::System).unwrap().verify().unwrap();
        assert!(found.valid, "round {round}: {found:?}");
    }
    let store = Store::open(directory.url(), Options::default()).unwrap();
    let mut left = 0;
    while passes(&store, call("g", vec![limit(100, "month")])).await {
        left += 1;
    }
    store.close().await;
    let reader = Reader::open(&directory.url(), Clock::System).unwrap();
    assert!(reader.verify().unwrap().valid);
    let all = reader.list(&Filter::default()).unwrap().map(|row| row.unwrap().body);
    let allowed: Vec<String> = all.filter(|body| member(body, "outcome") == "allow").map(|body| member(&body, "id")).collect();
    assert_eq!(allowed.len(), 100, "{left} were left");
    ids.retain(|id| !allowed.contains(id));
    assert_eq!(ids, [""; 0], "forwarded, and not on record");
}

#[tokio::test]
async fn files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new();
    let store = Store::open(directory.url(), Options::default()).unwrap();
    assert!(passes(&store, call("g", vec![])).await);
    let mode = |path: PathBuf| std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(directory.file().parent().unwrap().to_owned()), 0o700);
    for suffix in ["", "-wal", "-shm", ".key"] {
        assert_eq!(mode(PathBuf::from(format!("{}{suffix}", directory.file().display()))), 0o600, "{suffix}");
    }
}

#[tokio::test]
async fn power_is_flushed_and_as_exact() {
    let directory = Directory::new();
    let store = Store::open(directory.url(), Options { durability: Durability::Power, ..Options::default() }).unwrap();
    for granted in [true, true, false] {
        assert_eq!(passes(&store, call("g", vec![limit(2, "month")])).await, granted);
    }
}

/// Waits until calls pass again, without restarting anything; gives how long that took.
async fn recovery(store: &Store) -> Duration {
    let start = Instant::now();
    while !is_granted(&store.admit(call("g", vec![])).await) {
        assert!(start.elapsed() < Duration::from_secs(5), "no recovery: {:?}", store.health());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}

/// A call is denied in time.
async fn denied_in_time(store: &Store) -> StoreError {
    let start = Instant::now();
    let error = store.admit(call("g", vec![])).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    error
}

#[tokio::test]
async fn a_start_without_a_usable_place_recovers() {
    let directory = Directory::new();
    let obstacle = directory.0.join("state");
    std::fs::write(&obstacle, "a file where the directory should be").unwrap();
    assert!(Store::open(directory.url(), Options::default()).is_err());
    let store = Store::open_lazy(directory.url(), Options::default()).unwrap();
    denied_in_time(&store).await;
    assert!(store.health().trouble.is_some());
    assert!(store.render(store::ArgumentsMode::Hmac, None).is_none());
    std::fs::remove_file(&obstacle).unwrap();
    recovery(&store).await;
    assert!(store.health().trouble.is_none());
}

#[tokio::test]
async fn health_mends_by_itself() {
    let directory = Directory::new();
    let obstacle = directory.0.join("state");
    std::fs::write(&obstacle, "").unwrap();
    let store = Store::open_lazy(directory.url(), Options::default()).unwrap();
    denied_in_time(&store).await;
    std::fs::remove_file(&obstacle).unwrap();
    let start = Instant::now();
    while store.health().trouble.is_some() {
        assert!(start.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_file_that_is_no_state_is_left_alone() {
    let directory = Directory::new();
    std::fs::create_dir_all(directory.file().parent().unwrap()).unwrap();
    let text = "not a database, but somebody's diary\n".repeat(100);
    std::fs::write(directory.file(), &text).unwrap();
    let error = Store::open(directory.url(), Options::default()).unwrap_err();
    assert!(error.to_string().contains("not a state file"), "{error}");
    assert!(Reader::open(&directory.url(), Clock::System).is_err());
    assert_eq!(std::fs::read_to_string(directory.file()).unwrap(), text);
}

#[tokio::test]
async fn a_newer_file_is_left_alone() {
    let directory = Directory::new();
    Store::open(directory.url(), Options::default()).unwrap().close().await;
    rusqlite::Connection::open(directory.file()).unwrap().pragma_update(None, "user_version", 1000).unwrap();
    let error = Store::open(directory.url(), Options::default()).unwrap_err();
    assert!(error.to_string().contains("newer callgate"), "{error}");
}

#[tokio::test]
async fn a_file_that_another_process_holds_denies_in_time() {
    let directory = Directory::new();
    let store = Store::open(directory.url(), Options::default()).unwrap();
    let other = rusqlite::Connection::open(directory.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Calls pass as long as the database need not follow.
    let start = Instant::now();
    while store.admit(call("g", vec![])).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(4));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = denied_in_time(&store).await;
    assert!(error.to_string().contains("another process"), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    recovery(&store).await;
}

#[tokio::test]
async fn a_flood_is_refused_and_not_queued_for_ever() {
    let directory = Directory::new();
    let store = Store::open(directory.url(), Options::default()).unwrap();
    assert!(passes(&store, call("g", vec![])).await);
    let journal = std::fs::File::open(format!("{}.journal", directory.file().display())).unwrap();
    journal.lock().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4000 {
        let store = store.clone();
        tasks.spawn(async move { store.admit(call("g", vec![])).await.err() });
    }
    let errors = tasks.join_all().await;
    assert!(errors.iter().any(|error| matches!(error, Some(StoreError::Busy))));
    assert!(errors.iter().all(Option::is_some));
    journal.unlock().unwrap();
    recovery(&store).await;
}

#[tokio::test]
async fn missing_state_is_said_to_be_missing() {
    let directory = Directory::new();
    let Err(error) = Reader::open(&directory.url(), Clock::System) else { panic!() };
    assert!(error.to_string().contains("no such file"), "{error}");
    assert!(!directory.file().exists(), "reading makes nothing");
}

/// A small file system of its own, where this user may mount one.
struct Mounted(PathBuf);

impl Mounted {
    fn new(directory: &Directory, size: &str) -> Option<Mounted> {
        let path = directory.0.join("state");
        std::fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Mounted(path));
        }
        eprintln!("skipped: this user may not mount a file system");
        None
    }

    fn remount(&self, how: &str) {
        assert!(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status().unwrap().success());
    }

    fn fill(&self) {
        // Byte by byte at the end, so that no room is left at all.
        for (name, size) in [("large", 4096), ("small", 1)] {
            let mut file = std::fs::File::create(self.0.join(name)).unwrap();
            while std::io::Write::write(&mut file, &vec![0; size]).is_ok_and(|written| written > 0) {}
        }
    }

    fn empty(&self) {
        for name in ["large", "small"] {
            std::fs::remove_file(self.0.join(name)).unwrap();
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_denies_in_time_and_recovers() {
    let directory = Directory::new();
    let Some(mounted) = Mounted::new(&directory, "2m") else { return };
    let store = Store::open(directory.url(), Options::default()).unwrap();
    for _ in 0..2 {
        assert!(passes(&store, call("g", vec![])).await);
        mounted.fill();
        let mut granted = 0;
        let error = loop {
            // A little may still fit into room that the log has taken already.
            let start = Instant::now();
            match store.admit(call("g", vec![])).await {
                Ok(_) => granted += 1,
                Err(error) => break error,
            }
            assert!(start.elapsed() < Duration::from_secs(4) && granted < 2000);
        };
        assert!(error.to_string().contains("full") || error.to_string().contains("space"), "{error}");
        assert!(store.health().trouble.is_some());
        denied_in_time(&store).await;
        mounted.empty();
        recovery(&store).await;
    }
    assert!(store.reader().unwrap().verify().unwrap().valid);
}

#[tokio::test]
async fn a_start_on_a_full_disk_recovers() {
    let directory = Directory::new();
    let Some(mounted) = Mounted::new(&directory, "2m") else { return };
    mounted.fill();
    let store = Store::open_lazy(directory.url(), Options::default()).unwrap();
    denied_in_time(&store).await;
    mounted.empty();
    recovery(&store).await;
    assert!(store.reader().unwrap().verify().unwrap().valid);
}

#[tokio::test]
async fn a_read_only_disk_denies_in_time_and_recovers() {
    let directory = Directory::new();
    let Some(mounted) = Mounted::new(&directory, "2m") else { return };
    let store = Store::open(directory.url(), Options::default()).unwrap();
    assert!(passes(&store, call("g", vec![])).await);
    store.close().await;
    mounted.remount("ro");
    let store = Store::open_lazy(directory.url(), Options::default()).unwrap();
    denied_in_time(&store).await;

    // It can still be read, although a reader, too, would like to write beside it.
    let reader = Reader::open(&directory.url(), Clock::System).unwrap();
    assert!(reader.verify().unwrap().valid);
    drop(reader);

    mounted.remount("rw");
    recovery(&store).await;
}

#[tokio::test]
async fn leftovers_on_a_read_only_disk_are_seen() {
    let directory = Directory::new();
    let Some(mounted) = Mounted::new(&directory, "8m") else { return };
    let elsewhere = Directory::new();
    let mut child = other_process_on(&elsewhere.file(), 10_000);
    let ids = forwarded(&mut child, 10);
    child.kill().unwrap();
    child.wait().unwrap();
    copy_state(&elsewhere.file(), &directory.file());
    mounted.remount("ro");
    let reader = Reader::open(&directory.url(), Clock::System).unwrap();
    let found = reader.verify().unwrap();
    assert!(found.valid && found.records >= 10, "{found:?}");
    for id in ids {
        assert_eq!(reader.show(&id).unwrap().len(), 1);
    }
}

/// Whether the state's files hold this text.
fn holds(directory: &Directory, text: &str) -> bool {
    ["", "-wal"].iter().any(|suffix| {
        let bytes = std::fs::read(format!("{}{suffix}", directory.file().display())).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[tokio::test]
async fn nothing_of_the_arguments_is_left_in_the_file_once_an_approval_is_over() {
    let directory = Directory::new();
    let clock = Clock::simulated(NOON);
    let asking = |digest: &str| {
        // Long enough to lie in pages of its own.
        let arguments = format!(r#"{{"text":"{}"}}"#, format!("hunter2 {digest} ").repeat(2000));
        let request = store::ApprovalRequest {
            tool: "send".into(),
            digest: digest.into(),
            policy: "0123456789abcdef".into(),
            rule: "ask".into(),
            timeout_ms: 60_000,
            quorums: Vec::new(),
            arguments: Some(arguments),
        };
        store::Admission { approval: Some(request), ..call("g", Vec::new()) }
    };
    let store = Store::open(directory.url(), options(&clock)).unwrap();
    let mut ids = Vec::new();
    for digest in ["denied", "late"] {
        match store.admit(asking(digest)).await.unwrap().verdict {
            store::Verdict::ApprovalPending { id, .. } => ids.push(id),
            other => panic!("{other:?}"),
        }
    }
    store.answer(&ids[0], store::Answer::Deny, "bob").await.unwrap();
    store.close().await;
    assert!(!holds(&directory, "hunter2 denied"));
    assert!(holds(&directory, "hunter2 late"), "it still waits");

    clock.advance(MINUTE);
    Store::open(directory.url(), options(&clock)).unwrap().close().await;
    assert!(!holds(&directory, "hunter2"), "opening state removes what ran out while nothing ran");
}
