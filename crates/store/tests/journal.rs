//! The journal and the database are one: whoever writes, whenever somebody is killed, and whatever is done to either.

#![allow(clippy::unwrap_used, reason = "helpers of tests are test code")]

mod support;

use policy::{Mode, Scope};
use proptest::prelude::*;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::{
    Admission, Admitted, Clock, Draft, Durability, Entered, Entry, Filter, Once, Options, Phase, Reader, Reservation, Store,
    Verdict, Verification,
};
use support::*;

/// A store whose database follows only when it has to.
fn slow_to_follow(directory: &Directory) -> Store {
    let options = Options { follow_after: Duration::from_secs(3600), ..options(&Clock::simulated(NOON)) };
    Store::open(directory.url(), options).unwrap()
}

fn journal(directory: &Directory) -> PathBuf {
    PathBuf::from(format!("{}.journal", directory.file().display()))
}

fn verify(directory: &Directory) -> Verification {
    Reader::open(&directory.url(), Clock::simulated(NOON)).unwrap().verify().unwrap()
}

/// How many rows the database itself has.
fn rows(path: &Path) -> i64 {
    let connection = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.query_row("SELECT count(*) FROM audit", [], |row| row.get(0)).unwrap()
}

/// What a process that was killed leaves: so many records in the database, and so many more in the journal alone.
async fn killed(followed: usize, beyond: usize) -> Directory {
    let directory = Directory::new();
    let store = slow_to_follow(&directory);
    for i in 0..followed {
        assert!(passes(&store, call("g", vec![limit(100, "month")])).await, "{i}");
    }
    store.tidy(None).await.unwrap();
    assert_eq!(rows(&directory.file()), followed as i64);
    for i in 0..beyond {
        assert!(passes(&store, call("g", vec![limit(100, "month")])).await, "{i}");
    }
    let left = Directory::new();
    copy_state(&directory.file(), &left.file());
    store.close().await;
    left
}

/// Opens state as the next process does, makes calls up to a limit of a hundred, and gives how many passed.
async fn left_of_a_hundred(directory: &Directory) -> usize {
    let store = slow_to_follow(directory);
    let mut left = 0;
    while passes(&store, call("g", vec![limit(100, "month")])).await {
        left += 1;
    }
    store.close().await;
    left
}

#[tokio::test]
async fn the_database_has_every_record_once_a_process_has_ended() {
    let directory = Directory::new();
    let store = slow_to_follow(&directory);
    for i in 1..=5 {
        assert!(passes(&store, call("g", vec![limit(9, "month")])).await);
        assert_eq!(store.reader().unwrap().last_seq().unwrap(), i);
    }
    assert!(rows(&directory.file()) < 5, "nothing asked it to follow");
    store.close().await;
    assert_eq!(rows(&directory.file()), 5);
    assert!(!journal(&directory).exists());
    assert!(verify(&directory).valid);
}

#[tokio::test]
async fn what_is_entered_together_is_one_commit() {
    let directory = Directory::new();
    let store = slow_to_follow(&directory);
    assert!(passes(&store, call("g", vec![limit(3, "month")])).await, "the counter is at hand from here on");
    let spent = store.admit(call("h", Vec::new())).await.unwrap().reservation;
    let groups = || std::fs::read_to_string(journal(&directory)).unwrap().lines().filter(|line| line.starts_with('=')).count();
    let before = groups();
    let mut entries: Vec<Entry> = (0..3).map(|_| Entry::Admit(call("g", vec![limit(3, "month")]).into())).collect();
    entries.push(Entry::Settle(spent, Draft { phase: Phase::Finished, ..Draft::default() }.into()));
    entries.push(Entry::Record(Draft { phase: Phase::Refused, ..Draft::default() }.into()));
    let entered = store.enter(entries).unwrap_or_else(|_| panic!("nobody has to be waited for"));
    let granted = |entered: &Result<Entered, _>| matches!(entered, Ok(Entered::Admitted(admitted)) if matches!(admitted.verdict, Verdict::Granted { .. }));
    assert_eq!(entered.iter().map(granted).collect::<Vec<_>>(), [true, true, false, false, false]);
    assert!(entered.iter().all(Result::is_ok));
    assert_eq!(groups(), before + 1);
    let phases: Vec<_> = bodies(&store).iter().map(|body| member(body, "phase")).collect();
    assert_eq!(phases, ["decided", "decided", "decided", "decided", "decided", "finished", "refused"]);
    store.close().await;
    assert!(verify(&directory).valid);
}

#[tokio::test]
async fn what_has_to_wait_is_given_back_and_changes_nothing() {
    let directory = Directory::new();
    let store = slow_to_follow(&directory);
    assert!(passes(&store, call("g", Vec::new())).await);
    let once = Some(Once { tool: "t".into(), digest: "x".into(), window_ms: 1_000 });
    let asks = Admission { once, ..call("g", Vec::new()) };
    let all = |last| vec![Entry::Record(Box::default()), Entry::Admit(call("g", vec![limit(3, "month")]).into()), last];
    // A counter that nobody has asked for yet is not at hand; nor is what was called a short while ago.
    for last in [Entry::Record(Box::default()), Entry::Admit(asks.into())] {
        let Err(entries) = store.enter(all(last)) else { panic!("the database has to be asked") };
        assert_eq!(bodies(&store).len(), 1);
        let Some(Entry::Admit(admission)) = entries.into_iter().nth(1) else { panic!("as they were") };
        assert_eq!(admission.charges.len(), 1);
    }
    store.close().await;
}

#[tokio::test]
async fn the_database_follows_soon() {
    let directory = Directory::new();
    let store = Store::open(directory.url(), Options::default()).unwrap();
    assert!(passes(&store, call("g", vec![limit(9, "month")])).await);
    let start = std::time::Instant::now();
    while rows(&directory.file()) == 0 {
        assert!(start.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What `store` makes of `entries` once the writer has left the desk.
async fn entered(store: &Store, mut entries: Vec<Entry>) -> Vec<Result<Entered, store::StoreError>> {
    let begun = std::time::Instant::now();
    loop {
        match store.enter(entries) {
            Ok(entered) => return entered,
            Err(back) => entries = back,
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "callers cannot do it by themselves");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The first line of the journal, by which one is told from another.
fn header(directory: &Directory) -> String {
    let mut line = String::new();
    let file = std::fs::File::open(journal(directory)).unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(file), &mut line).unwrap();
    line
}

/// Fifty records of four kilobytes.
fn long_records() -> Vec<Entry> {
    (0..50).map(|_| Entry::Record(Draft { detail: Some("x".repeat(4096)), ..Draft::default() }.into())).collect()
}

#[tokio::test]
async fn callers_go_on_by_themselves_in_a_new_journal() {
    let directory = Directory::new();
    let options = Options { follow_after: Duration::from_millis(1), ..options(&Clock::simulated(NOON)) };
    let store = Store::open(directory.url(), options).unwrap();
    assert!(passes(&store, call("g", vec![limit(2, "month")])).await, "the counter is at hand from here on");
    let first = header(&directory);
    // One of sixteen megabytes makes way for another.
    for _ in 0..1_000 {
        if header(&directory) != first {
            break;
        }
        assert!(entered(&store, long_records()).await.iter().all(Result::is_ok));
    }
    assert_ne!(header(&directory), first);
    // Nobody asks the writer for anything, and what was known is known still.
    let admitted = entered(&store, (0..2).map(|_| Entry::Admit(call("g", vec![limit(2, "month")]).into())).collect()).await;
    let granted = |entered: &Result<Entered, _>| matches!(entered, Ok(Entered::Admitted(admitted)) if matches!(admitted.verdict, Verdict::Granted { .. }));
    assert_eq!(admitted.iter().map(granted).collect::<Vec<_>>(), [true, false]);
    store.close().await;
    assert!(verify(&directory).valid);
}

#[tokio::test]
async fn a_new_journal_that_the_database_cannot_take_loses_nothing() {
    let directory = Directory::new();
    let options = Options { follow_after: Duration::from_millis(1), ..options(&Clock::simulated(NOON)) };
    let store = Store::open(directory.url(), options).unwrap();
    assert!(passes(&store, call("g", Vec::new())).await);
    store.tidy(None).await.unwrap();
    let first = header(&directory);
    let database = Connection::open(directory.file()).unwrap();
    database.busy_timeout(Duration::from_secs(60)).unwrap();
    let stuck = "CREATE TRIGGER stuck BEFORE INSERT ON journal WHEN NEW.name <> (SELECT name FROM journal) \
                 BEGIN SELECT RAISE(ABORT, 'stuck'); END";
    database.execute_batch(stuck).unwrap();
    let mut kept = 1;
    let begun = std::time::Instant::now();
    let mut records = long_records();
    while header(&directory) == first {
        assert!(begun.elapsed() < Duration::from_secs(120), "no new journal is begun");
        records = match store.enter(records) {
            Ok(entered) => {
                kept += entered.iter().filter(|entered| entered.is_ok()).count() as u64;
                long_records()
            }
            Err(back) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                back
            }
        };
    }
    database.execute_batch("DROP TRIGGER stuck").unwrap();
    while store.admit(call("g", Vec::new())).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(180), "the state does not mend");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    kept += 1;
    store.close().await;
    let found = verify(&directory);
    assert!(found.valid && found.records == kept, "{kept}: {found:?}");
}

#[tokio::test]
async fn what_a_killed_process_left_is_seen_and_taken_over() {
    let left = killed(3, 4).await;
    assert_eq!(rows(&left.file()), 3);
    let found = verify(&left);
    assert!(found.valid && found.records == 7, "{found:?}");
    let reader = Reader::open(&left.url(), Clock::simulated(NOON)).unwrap();
    let all: Vec<_> = reader.list(&Filter::default()).unwrap().map(Result::unwrap).collect();
    assert_eq!(all.iter().map(|row| row.seq).collect::<Vec<_>>(), (1..=7).collect::<Vec<_>>());
    assert_eq!(reader.show(&member(&all[6].body, "id")).unwrap(), [all[6].clone()]);
    let last = Filter { limit: Some(2), ..Filter::default() };
    assert_eq!(reader.list(&last).unwrap().map(|row| row.unwrap().seq).collect::<Vec<_>>(), [6, 7]);
    let status = reader.status(None).unwrap();
    assert_eq!((status.records, status.servers[0].allowed), (7, 7));
    assert_eq!(left_of_a_hundred(&left).await, 93);
    assert!(verify(&left).valid && !journal(&left).exists());
}

#[tokio::test]
async fn a_write_that_was_never_finished_is_removed() {
    let left = killed(1, 2).await;
    let whole = std::fs::read(journal(&left)).unwrap();
    // The last group, cut off everywhere.
    let start = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'=').unwrap();
    let start = whole[..start].windows(2).rposition(|pair| pair == b"\n{").unwrap() + 1;
    for length in (start..whole.len()).step_by(7).chain([whole.len() - 1]) {
        let copy = Directory::new();
        copy_state(&left.file(), &copy.file());
        std::fs::write(journal(&copy), &whole[..length]).unwrap();
        let found = verify(&copy);
        assert!(found.valid && found.records == 2, "{length}: {found:?}");
        let store = slow_to_follow(&copy);
        assert_eq!(store.record(Draft::default()).await.unwrap().seq, 3);
        store.close().await;
        assert!(verify(&copy).valid);
    }
}

/// Every byte of the journal, changed in several ways, whether the database has it already or not.
#[tokio::test]
async fn every_changed_byte_of_the_journal_is_found() {
    let left = killed(2, 2).await;
    let whole = std::fs::read(journal(&left)).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let first_line = text.find('\n').unwrap();
    let reader = Reader::open(&left.url(), Clock::simulated(NOON)).unwrap();
    for at in 0..whole.len() {
        for mask in [0x01, 0x20, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            std::fs::write(journal(&left), bytes).unwrap();
            let found = reader.verify().unwrap();
            assert!(!found.valid, "byte {at} changed by {mask}");
            // Each group has one record, but for the mark between those that the database has and the others.
            if at > first_line {
                let groups = text[..at].matches("\n=").count() as i64;
                let named = found.first_broken.as_ref().unwrap().seq;
                assert!((named - groups).abs() <= 1, "byte {at}, group {groups}: {found:?}");
            }
        }
    }
    std::fs::write(journal(&left), &whole).unwrap();
    assert!(reader.verify().unwrap().valid);
}

#[tokio::test]
async fn groups_that_were_moved_copied_or_removed_are_found() {
    let left = killed(1, 4).await;
    let text = std::fs::read_to_string(journal(&left)).unwrap();
    let (header, rest) = text.split_once('\n').unwrap();
    let mut groups: Vec<&str> = Vec::new();
    let mut start = 0;
    for (end, _) in rest.match_indices("\n=") {
        let end = end + 67;
        groups.push(&rest[start..end]);
        start = end;
    }
    let broken = |groups: Vec<&str>| {
        std::fs::write(journal(&left), format!("{header}\n{}", groups.concat())).unwrap();
        !verify(&left).valid
    };
    assert!(!broken(groups.clone()));
    let last = groups.len() - 1;
    for at in 0..last {
        let mut without = groups.clone();
        without.remove(at);
        assert!(broken(without), "without {at}");
        let mut swapped = groups.clone();
        swapped.swap(at, at + 1);
        assert!(broken(swapped), "{at} behind the next");
        let mut copied = groups.clone();
        copied.push(groups[at]);
        assert!(broken(copied), "{at} once more");
    }
    std::fs::remove_file(journal(&left)).unwrap();
    let found = verify(&left);
    assert!(!found.valid && found.first_broken.as_ref().unwrap().seq == 2, "{found:?}");
}

#[tokio::test]
async fn the_database_is_compared_with_the_journal() {
    let left = killed(3, 2).await;
    let edit = |sql: &str| Connection::open(left.file()).unwrap().execute_batch(sql).unwrap();
    edit("UPDATE journal SET place = place + 1");
    assert!(!verify(&left).valid, "the mark is sealed");
    edit("UPDATE journal SET place = place - 1");
    assert!(verify(&left).valid);
    edit("DELETE FROM audit WHERE seq = 3");
    assert_eq!(verify(&left).first_broken.unwrap().seq, 3);
}

#[tokio::test]
async fn a_lost_journal_is_on_record_afterwards() {
    let left = killed(2, 3).await;
    std::fs::remove_file(journal(&left)).unwrap();
    assert_eq!(left_of_a_hundred(&left).await, 98, "what the database knows still counts");
    let reader = Reader::open(&left.url(), Clock::simulated(NOON)).unwrap();
    let told = reader.list(&Filter { phase: Some(Phase::Admin), ..Filter::default() }).unwrap().next().unwrap().unwrap();
    assert_eq!(told.seq, 3);
    assert!(member(&told.body, "detail").contains("the journal is missing"));
    assert!(verify(&left).valid);
}

#[tokio::test]
async fn a_damaged_part_of_the_journal_is_put_aside_and_on_record() {
    let left = killed(2, 3).await;
    let mut bytes = std::fs::read(journal(&left)).unwrap();
    let at = bytes.len() - 1000;
    bytes[at] ^= 1;
    std::fs::write(journal(&left), bytes).unwrap();
    assert!(!verify(&left).valid);
    assert!(left_of_a_hundred(&left).await > 95);
    let reader = Reader::open(&left.url(), Clock::simulated(NOON)).unwrap();
    let told = reader.list(&Filter { phase: Some(Phase::Admin), ..Filter::default() }).unwrap().next().unwrap().unwrap();
    assert!(member(&told.body, "detail").contains("were damaged"), "{}", told.body);
    assert!(PathBuf::from(format!("{}.damaged", journal(&left).display())).exists());
    assert!(verify(&left).valid);
}

#[tokio::test]
async fn a_journal_of_another_state_is_refused_and_not_touched() {
    let (ours, theirs) = (killed(1, 2).await, killed(1, 1).await);
    std::fs::copy(format!("{}.key", ours.file().display()), format!("{}.key", theirs.file().display())).unwrap();
    let older = Directory::new();
    let store = slow_to_follow(&older);
    store.close().await;
    for suffix in ["", ".key"] {
        let beside = |directory: &Directory| format!("{}{suffix}", directory.file().display());
        std::fs::copy(beside(&older), beside(&theirs)).unwrap();
    }
    let _ = std::fs::remove_file(format!("{}-wal", theirs.file().display()));
    let before = std::fs::read(journal(&theirs)).unwrap();
    assert!(!verify(&theirs).valid);
    let store = slow_to_follow(&theirs);
    drop(store.admit(call("g", vec![])).await);
    store.close().await;
    let aside = format!("{}.damaged", journal(&theirs).display());
    assert!(std::fs::read(journal(&theirs)).is_ok_and(|now| now == before) || std::fs::read(aside).unwrap() == before);
}

#[tokio::test]
async fn a_journal_removed_while_in_use_loses_nothing() {
    let directory = Directory::new();
    let store = slow_to_follow(&directory);
    for _ in 0..3 {
        assert!(passes(&store, call("g", vec![limit(5, "month")])).await);
        std::fs::remove_file(journal(&directory)).unwrap();
    }
    assert!(passes(&store, call("g", vec![limit(5, "month")])).await);
    let found = verify(&directory);
    assert!(found.valid && found.records == 4, "{found:?}");
    assert!(passes(&store, call("g", vec![limit(5, "month")])).await);
    assert!(!passes(&store, call("g", vec![limit(5, "month")])).await);
    store.close().await;
    assert_eq!(rows(&directory.file()), 6);
}

#[tokio::test]
async fn a_journal_cut_short_while_in_use_stops_the_log() {
    let directory = Directory::new();
    let store = slow_to_follow(&directory);
    for _ in 0..3 {
        assert!(passes(&store, call("g", vec![limit(5, "month")])).await);
    }
    let file = std::fs::File::options().write(true).open(journal(&directory)).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let error = store.admit(call("g", vec![limit(5, "month")])).await.unwrap_err();
    assert!(error.to_string().contains("this process has seen record 3"), "{error}");
}

#[tokio::test]
async fn a_long_journal_makes_way_for_another() {
    let directory = Directory::new();
    let stores = [slow_to_follow(&directory), Store::open(directory.url(), Options::default()).unwrap()];
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(journal(&directory)).unwrap());
    assert!(passes(&stores[0], call("g", vec![limit(5, "month")])).await);
    let first = inode();
    let arguments = Some(format!("\"{}\"", "x".repeat(60_000)).into());
    for i in 0..300 {
        stores[i % 2].record(Draft { arguments: arguments.clone(), ..Draft::default() }).await.unwrap();
    }
    let start = std::time::Instant::now();
    while inode() == first {
        assert!(start.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for store in &stores {
        assert!(passes(store, call("g", vec![limit(3, "month")])).await);
    }
    assert!(!passes(&stores[0], call("g", vec![limit(3, "month")])).await);
    let found = verify(&directory);
    assert!(found.valid && found.records == 304, "{found:?}");
}

#[tokio::test]
async fn a_journal_that_another_process_holds_denies_in_time() {
    let directory = Directory::new();
    let store = slow_to_follow(&directory);
    assert!(passes(&store, call("g", vec![])).await);
    let held = std::fs::File::open(journal(&directory)).unwrap();
    held.lock().unwrap();
    let start = std::time::Instant::now();
    let error = store.admit(call("g", vec![])).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(4) && error.to_string().contains("another process"), "{error}");
    held.unlock().unwrap();
    let start = std::time::Instant::now();
    while !is_granted(&store.admit(call("g", vec![])).await) {
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn the_journal_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new();
    let store = slow_to_follow(&directory);
    assert!(passes(&store, call("g", vec![])).await);
    assert_eq!(std::fs::metadata(journal(&directory)).unwrap().permissions().mode() & 0o777, 0o600);
}

/// What may happen next. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    /// A call that takes so much, with or without a place among recent calls, which only the database knows of.
    Call { process: usize, counter: usize, amount: u64, once: bool },
    /// The call is settled, given back or not.
    Settle { process: usize, refund: bool },
    /// The database follows.
    Follow { process: usize },
    /// A process ends, and another begins.
    Restart { process: usize, power: bool },
    /// All are killed; one of them while it was writing so much.
    Kill { torn: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..3_usize, 0..2_usize, 1..4_u64, prop::bool::weighted(0.15))
            .prop_map(|(process, counter, amount, once)| Step::Call { process, counter, amount, once }),
        8 => (0..3_usize, any::<bool>()).prop_map(|(process, refund)| Step::Settle { process, refund }),
        1 => (0..3_usize).prop_map(|process| Step::Follow { process }),
        1 => (0..3_usize, any::<bool>()).prop_map(|(process, power)| Step::Restart { process, power }),
        1 => (0..400_usize).prop_map(|torn| Step::Kill { torn }),
    ]
}

/// What must be true, kept in the simplest way.
#[derive(Default)]
struct Model {
    used: [u64; 2],
    records: Vec<String>,
    open: Vec<(Reservation, usize, u64)>,
}

const MOST: u64 = 12;

fn start(directory: &Directory, power: bool) -> Store {
    let durability = if power { Durability::Power } else { Durability::Process };
    let follow_after = Duration::from_millis(if power { 1 } else { 3_600_000 });
    Store::open(directory.url(), Options { durability, follow_after, ..options(&Clock::simulated(NOON)) }).unwrap()
}

async fn play(steps: &[Step]) {
    let mut directory = Directory::new();
    let mut processes: Vec<Store> = (0..3).map(|i| start(&directory, i == 2)).collect();
    let mut model = Model::default();
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Call { process, counter, amount, once } => {
                let name = ["one", "two"][counter];
                let charge = charge_of(name, "month", Scope::Grant, &amount.to_string(), &MOST.to_string(), Mode::Enforce);
                let once = once.then(|| Once { tool: "t".into(), digest: number.to_string(), window_ms: 1 });
                let admission = Admission { once, ..call("g", vec![charge]) };
                model.records.push(admission.id.to_string());
                let Admitted { verdict, recorded, reservation, .. } = processes[process].admit(admission).await.unwrap();
                assert_eq!(recorded.seq, model.records.len() as i64);
                let fits = model.used[counter] + amount <= MOST;
                assert_eq!(matches!(verdict, Verdict::Granted { .. }), fits, "step {number}: {verdict:?}");
                if fits {
                    model.used[counter] += amount;
                    model.open.push((reservation, counter, amount));
                }
            }
            Step::Settle { process, refund } => {
                let Some((reservation, counter, amount)) = model.open.pop() else { continue };
                let id = format!("{reservation:?}");
                let recorded = processes[process].settle(reservation, Draft::default(), refund).await.unwrap();
                assert_eq!(recorded.seq, model.records.len() as i64 + 1, "{id}");
                let row = &processes[process].reader().unwrap().show(&recorded.seq.to_string()).unwrap()[0];
                model.records.push(member(&row.body, "id"));
                if refund {
                    model.used[counter] -= amount;
                }
            }
            Step::Follow { process } => processes[process].tidy(None).await.unwrap(),
            Step::Restart { process, power } => {
                processes[process].close().await;
                processes[process] = start(&directory, power);
            }
            Step::Kill { torn } => {
                // What is on disk now is what a kill leaves; whoever held it goes on elsewhere and is not looked at.
                let left = Directory::new();
                copy_at_one_moment(&directory, &left);
                tear(&left, torn);
                let old = std::mem::replace(&mut directory, left);
                let killed = std::mem::replace(&mut processes, (0..3).map(|i| start(&directory, i == 2)).collect());
                drop((killed, old));
            }
        }
    }
    let listed: Vec<String> = bodies(&processes[0]).iter().map(|body| member(body, "id")).collect();
    assert_eq!(listed, model.records);
    let found = verify(&directory);
    assert!(found.valid && found.records == model.records.len() as u64, "{found:?}");
    for process in processes {
        process.close().await;
    }
    assert_eq!(rows(&directory.file()), model.records.len() as i64);
    assert!(verify(&directory).valid && !journal(&directory).exists());
}

/// A kill stops everybody at once; copying file by file does not, so the writers are kept out meanwhile.
fn copy_at_one_moment(from: &Directory, to: &Directory) {
    let database = Connection::open(from.file()).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    copy_state(&from.file(), &to.file());
    database.execute_batch("ROLLBACK").unwrap();
}

/// The beginning of a group, as a process leaves it that is killed while it writes.
fn tear(directory: &Directory, length: usize) {
    let Ok(mut bytes) = std::fs::read(journal(directory)) else { return };
    let Some(start) = bytes.windows(2).position(|pair| pair == b"\n{").map(|at| at + 1) else { return };
    let line = bytes[start..].iter().position(|byte| *byte == b'\n').unwrap();
    let begun = bytes[start..start + line.min(length)].to_vec();
    bytes.extend(begun);
    std::fs::write(journal(directory), bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn several_processes_with_kills_are_as_one_that_never_failed(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(&steps));
    }
}
