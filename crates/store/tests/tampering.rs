//! Whoever changes the audit log is found out.

#![allow(clippy::unwrap_used, reason = "helpers of tests are test code")]

mod support;

use rusqlite::Connection;
use rusqlite::types::Value;
use std::path::Path;
use store::{Answer, Clock, Draft, Filter, Reader, Retention, StateUrl, Store, Verification};
use support::*;

/// A log of so many records, closed.
async fn log(directory: &Directory, records: usize) {
    let store = Store::open(directory.url(), options(&Clock::simulated(NOON))).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..records {
        let store = store.clone();
        let arguments = Some(format!(r#"{{"run":{i},"name":"größer"}}"#).into());
        tasks.spawn(async move {
            store.record(Draft { id: format!("call {i}").into(), arguments, ..Draft::default() }).await.unwrap()
        });
    }
    tasks.join_all().await;
    store.close().await;
}

fn verify(path: &Path) -> Verification {
    Reader::open(&StateUrl::Sqlite(path.to_owned()), Clock::simulated(NOON)).unwrap().verify().unwrap()
}

fn edit(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// Edits a copy of a log of `records`; gives what is found.
async fn after(records: usize, sql: &str) -> Verification {
    let directory = Directory::new();
    log(&directory, records).await;
    assert!(verify(&directory.file()).valid);
    edit(&directory.file(), sql);
    verify(&directory.file())
}

#[track_caller]
fn check(found: &Verification, seq: i64, problem: &str) {
    assert!(!found.valid, "{problem}");
    let broken = found.first_broken.as_ref().unwrap();
    assert!(broken.seq == seq && broken.problem.contains(problem), "{broken:?}");
}

#[tokio::test]
async fn a_sound_log_is_valid_and_says_what_cannot_be_found() {
    let directory = Directory::new();
    log(&directory, 5).await;
    let found = verify(&directory.file());
    assert_eq!((found.valid, found.records, &found.first_broken), (true, 5, &None));
    assert!(found.undetectable.iter().any(|limit| limit.contains("older state")));
    assert!(!found.undetectable.iter().any(|limit| limit.contains("no key file")));

    let copy = directory.0.join("elsewhere.db");
    std::fs::copy(directory.file(), &copy).unwrap();
    let found = verify(&copy);
    assert!(found.valid && found.undetectable.iter().any(|limit| limit.contains("no key file")));
}

#[tokio::test]
async fn a_clock_set_back_changes_the_order_of_nothing() {
    let (directory, clock) = (Directory::new(), Clock::simulated(NOON));
    let store = Store::open(directory.url(), options(&clock)).unwrap();
    for id in ["first", "second", "third"] {
        store.record(Draft { id: id.into(), ..Draft::default() }).await.unwrap();
        clock.advance(-3_600_000);
    }
    store.close().await;
    assert!(verify(&directory.file()).valid);
    let reader = Reader::open(&StateUrl::Sqlite(directory.file()), Clock::simulated(NOON)).unwrap();
    let lines: Vec<_> = reader.list(&Filter::default()).unwrap().map(|row| row.unwrap().line().to_string()).collect();
    let found: Vec<_> = ["first", "second", "third"].map(|id| lines.iter().position(|line| line.contains(id))).into();
    assert_eq!(found, [Some(0), Some(1), Some(2)], "{lines:?}");
}

/// Every byte of every column of every record, changed in several ways each.
#[tokio::test]
async fn every_changed_byte_of_every_record_is_found() {
    let directory = Directory::new();
    log(&directory, 4).await;
    let path = directory.file();
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA synchronous = OFF").unwrap();
    let reader = Reader::open(&StateUrl::Sqlite(path), Clock::simulated(NOON)).unwrap();
    let mut changes = 0;
    for seq in 1..=4 {
        for column in ["body", "hash"] {
            let before: String =
                connection.query_row(&format!("SELECT {column} FROM audit WHERE seq = {seq}"), [], |row| row.get(0)).unwrap();
            let update = format!("UPDATE audit SET {column} = CAST(?1 AS TEXT) WHERE seq = {seq}");
            let mut update = connection.prepare(&update).unwrap();
            for at in 0..before.len() {
                for mask in [0x01, 0x20, 0x80] {
                    let mut bytes = before.clone().into_bytes();
                    bytes[at] ^= mask;
                    update.execute([bytes]).unwrap();
                    let found = reader.verify().unwrap();
                    let place = format!("byte {at} of {column} {seq}");
                    assert!(!found.valid, "{place}");
                    assert_eq!(found.first_broken.unwrap().seq, seq, "{place}");
                    assert_eq!(
                        reader.list(&Filter::default()).unwrap().filter(|row| row.as_ref().unwrap().line().len() > 2).count(),
                        4
                    );
                    changes += 1;
                }
            }
            update.execute([before.as_bytes()]).unwrap();
        }
        for other in [0, 5, 9, -1, 1_000_000] {
            connection.execute("UPDATE audit SET seq = ?1 WHERE seq = ?2", [other, seq]).unwrap();
            let found = reader.verify().unwrap();
            assert_eq!(found.first_broken.unwrap().seq, seq.min(other), "number {seq} made {other}");
            connection.execute("UPDATE audit SET seq = ?2 WHERE seq = ?1", [other, seq]).unwrap();
            changes += 1;
        }
    }
    assert!(reader.verify().unwrap().valid, "everything is back in its place");
    assert!(changes > 4 * 3 * 380, "{changes}");
}

/// The rows that pin the chain: each byte, too.
#[tokio::test]
async fn every_changed_byte_of_the_signatures_is_found() {
    let directory = Directory::new();
    log(&directory, 4).await;
    let path = directory.file();
    let store = Store::open(directory.url(), options(&Clock::simulated(NOON + 1000))).unwrap();
    store.record(Draft { id: "last".into(), ..Draft::default() }).await.unwrap();
    store.tidy(Some(Retention { max_age: Some(std::time::Duration::from_millis(500)), max_bytes: None })).await.unwrap();
    store.close().await;
    assert_eq!(verify(&path).records, 1);

    let connection = Connection::open(&path).unwrap();
    let reader = Reader::open(&directory.url(), Clock::simulated(NOON)).unwrap();
    let columns = ["hash", "signature", "seq", "at"];
    let places = ["head", "anchor", "checkpoints"].into_iter().flat_map(|table| columns.map(|column| (table, column)));
    for (table, column) in places.chain([("meta WHERE name = 'public_key'", "value")]) {
        let (from, condition) = table.split_once(" WHERE ").unwrap_or((table, "true"));
        let before: Value =
            connection.query_row(&format!("SELECT {column} FROM {from} WHERE {condition}"), [], |row| row.get(0)).unwrap();
        let mut update = connection.prepare(&format!("UPDATE {from} SET {column} = ?1 WHERE {condition}")).unwrap();
        let changed: Vec<Value> = match &before {
            Value::Text(text) => (0..text.len())
                .map(|at| {
                    let mut bytes = text.clone().into_bytes();
                    bytes[at] ^= 1;
                    Value::from(String::from_utf8(bytes).unwrap())
                })
                .collect(),
            Value::Integer(number) => vec![Value::from(number + 1), Value::from(number - 1)],
            other => panic!("{other:?}"),
        };
        for value in changed {
            update.execute([&value]).unwrap();
            assert!(!reader.verify().unwrap().valid, "{column} of {table} made {value:?}");
        }
        update.execute([&before]).unwrap();
        assert!(reader.verify().unwrap().valid);
    }
}

#[tokio::test]
async fn removed_records_are_missed() {
    check(&after(5, "DELETE FROM audit WHERE seq = 3").await, 3, "missing");
    check(&after(5, "DELETE FROM audit WHERE seq IN (2, 3)").await, 2, "records 2 to 3 are missing");
    check(&after(5, "DELETE FROM audit WHERE seq = 1").await, 1, "missing");
    check(&after(5, "DELETE FROM audit WHERE seq > 3").await, 4, "missing");
    check(&after(5, "DELETE FROM audit").await, 1, "missing");
}

#[tokio::test]
async fn a_cut_tail_is_found_through_the_signed_head() {
    check(&after(5, "DELETE FROM audit WHERE seq = 5; DELETE FROM checkpoints").await, 5, "the signed head names record 5");
    check(&after(5, "DELETE FROM audit WHERE seq = 5; DELETE FROM head").await, 5, "missing");
    let forged = "DELETE FROM audit WHERE seq = 5; DELETE FROM checkpoints;
                  UPDATE head SET seq = 4, hash = (SELECT hash FROM audit WHERE seq = 4)";
    check(&after(5, forged).await, 4, "not signed");
    // A checkpoint is signed as a checkpoint, and does not pass as a head.
    let borrowed = "DELETE FROM audit WHERE seq > 1000; REPLACE INTO head SELECT 1, seq, hash, at, signature FROM checkpoints WHERE seq = 1000;
                    DELETE FROM checkpoints WHERE seq > 1000";
    let directory = Directory::new();
    log(&directory, 1000).await;
    let store = Store::open(directory.url(), options(&Clock::simulated(NOON))).unwrap();
    store.record(Draft::default()).await.unwrap();
    store.close().await;
    edit(&directory.file(), borrowed);
    check(&verify(&directory.file()), 1000, "not signed");
}

#[tokio::test]
async fn swapped_copied_and_foreign_records_are_found() {
    let swap = "UPDATE audit SET seq = -seq WHERE seq IN (2, 4); UPDATE audit SET seq = 6 + seq WHERE seq < 0";
    check(&after(5, swap).await, 2, "under another number");
    let copied = "UPDATE audit SET body = (SELECT body FROM audit WHERE seq = 2), hash = (SELECT hash FROM audit WHERE seq = 2) WHERE seq = 3";
    check(&after(5, copied).await, 3, "under another number");
    let added = "INSERT INTO audit SELECT 6, body, hash FROM audit WHERE seq = 5";
    check(&after(5, added).await, 6, "under another number");
    let moved_up = "DELETE FROM audit WHERE seq = 2; UPDATE audit SET seq = -seq WHERE seq > 2; UPDATE audit SET seq = -seq - 1 WHERE seq < 0";
    check(&after(5, moved_up).await, 2, "under another number");
}

/// Rewrites a record and makes the chain after it anew, as anybody can: only signatures stand against that.
fn rewrite(path: &Path, from: i64) {
    let connection = Connection::open(path).unwrap();
    let mut rows: Vec<(i64, String)> = connection
        .prepare("SELECT seq, body FROM audit WHERE seq >= ?1 ORDER BY seq")
        .unwrap()
        .query_map([from], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    rows[0].1 = rows[0].1.replace(r#""run":"#, r#""run":9"#);
    let mut prev: Option<String> = None;
    for (seq, body) in rows {
        let body = match &prev {
            Some(prev) => format!("{}\"prev\":\"{prev}\"}}", &body[..body.find("\"prev\":").unwrap()]),
            None => body,
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
        let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        connection.execute("UPDATE audit SET body = ?2, hash = ?3 WHERE seq = ?1", (seq, &body, &hash)).unwrap();
        prev = Some(hash);
    }
}

#[tokio::test]
async fn a_chain_made_anew_is_found_through_signatures() {
    let directory = Directory::new();
    log(&directory, 4).await;
    edit(&directory.file(), "DELETE FROM checkpoints");
    rewrite(&directory.file(), 2);
    check(&verify(&directory.file()), 4, "not the record that the signed head names");

    let directory = Directory::new();
    for _ in 0..3 {
        // Closing keeps a checkpoint.
        log(&directory, 4).await;
    }
    rewrite(&directory.file(), 6);
    check(&verify(&directory.file()), 5, "made anew somewhere from here to record 8");
}

#[tokio::test]
async fn another_key_is_found() {
    let (ours, theirs) = (Directory::new(), Directory::new());
    log(&ours, 3).await;
    log(&theirs, 3).await;
    std::fs::copy(theirs.file(), ours.file()).unwrap();
    check(&verify(&ours.file()), 1, "another public key");
}

#[tokio::test]
async fn a_running_gateway_does_not_cover_up_a_cut_tail() {
    let directory = Directory::new();
    let store = Store::open(directory.url(), options(&Clock::simulated(NOON))).unwrap();
    for _ in 0..4 {
        store.record(Draft::default()).await.unwrap();
    }
    // The database has them all by then.
    store.tidy(None).await.unwrap();
    edit(&directory.file(), "DELETE FROM audit WHERE seq > 2");
    assert_eq!(store.record(Draft::default()).await.unwrap().seq, 5, "it goes on behind the gap");
    store.close().await;
    check(&verify(&directory.file()), 3, "missing");
    let store = Store::open(directory.url(), options(&Clock::simulated(NOON))).unwrap();
    assert_eq!(store.record(Draft::default()).await.unwrap().seq, 6);
    check(&verify(&directory.file()), 3, "missing");
}

#[tokio::test]
async fn a_table_that_is_gone_is_a_broken_log() {
    for table in ["audit", "head", "anchor", "checkpoints", "meta", "journal"] {
        let found = after(3, &format!("DROP TABLE {table}")).await;
        // The mark of a journal that was closed says nothing that is missed.
        assert_eq!(found.valid, table == "journal", "{table}: {found:?}");
    }
}

#[tokio::test]
async fn a_head_that_we_did_not_sign_stops_the_log() {
    let directory = Directory::new();
    log(&directory, 3).await;
    edit(&directory.file(), "UPDATE head SET seq = 2, hash = (SELECT hash FROM audit WHERE seq = 2)");
    let store = Store::open(directory.url(), options(&Clock::simulated(NOON))).unwrap();
    let error = store.admit(call("g", vec![])).await.unwrap_err();
    assert!(error.to_string().contains("not signed"), "{error}");
}

#[tokio::test]
async fn an_older_file_put_in_place_while_running_is_refused() {
    let directory = Directory::new();
    let path = directory.file();
    log(&directory, 3).await;
    let old = directory.0.join("old.db");
    std::fs::copy(&path, &old).unwrap();
    let store = Store::open(directory.url(), options(&Clock::simulated(NOON))).unwrap();
    assert!(passes(&store, call("g", vec![limit(1, "day")])).await);
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    std::fs::copy(&old, directory.0.join("again.db")).unwrap();
    // So often the place of the file is looked at.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    std::fs::rename(&old, &path).unwrap();
    let error = store.admit(call("g", vec![limit(1, "day")])).await.unwrap_err();
    assert!(error.to_string().contains("belongs to another state"), "{error}");
    // Without its journal as well.
    std::fs::remove_file(format!("{}.journal", path.display())).unwrap();
    std::fs::rename(directory.0.join("again.db"), &path).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    let error = store.admit(call("g", vec![limit(1, "day")])).await.unwrap_err();
    assert!(error.to_string().contains("exchanged for an older one"), "{error}");
}

#[tokio::test]
async fn a_lost_key_is_not_quietly_replaced() {
    let directory = Directory::new();
    log(&directory, 1).await;
    let key = format!("{}.key", directory.file().display());
    std::fs::rename(&key, directory.0.join("kept")).unwrap();
    let error = Store::open(directory.url(), options(&Clock::System)).unwrap_err();
    assert!(error.to_string().contains("put it back"), "{error}");
    std::fs::rename(directory.0.join("kept"), &key).unwrap();
    assert!(Store::open(directory.url(), options(&Clock::System)).is_ok());
}

#[tokio::test]
async fn retention_by_age_keeps_the_chain_whole() {
    let directory = Directory::new();
    let clock = Clock::simulated(NOON);
    let store = Store::open(directory.url(), options(&clock)).unwrap();
    let week = Some(Retention { max_age: Some(std::time::Duration::from_secs(7 * 86_400)), max_bytes: None });
    for day in 0..20 {
        for _ in 0..3 {
            store.record(Draft { id: format!("day {day}").into(), ..Draft::default() }).await.unwrap();
        }
        store.tidy(week).await.unwrap();
        clock.advance(DAY);
    }
    let found = store.reader().unwrap().verify().unwrap();
    assert!(found.valid, "{found:?}");
    assert_eq!(found.records, 8 * 3);
    clock.advance(100 * DAY);
    store.tidy(week).await.unwrap();
    let found = store.reader().unwrap().verify().unwrap();
    assert_eq!((found.valid, found.records), (true, 0));
    assert_eq!(store.record(Draft::default()).await.unwrap().seq, 61);
    assert!(store.reader().unwrap().verify().unwrap().valid);
    store.close().await;

    edit(&directory.file(), "DELETE FROM anchor");
    check(&verify(&directory.file()), 1, "missing");
}

#[tokio::test]
async fn retention_by_size_keeps_the_newest() {
    let directory = Directory::new();
    let store = Store::open(directory.url(), options(&Clock::simulated(NOON))).unwrap();
    let detail = Some("x".repeat(2000));
    for _ in 0..1000 {
        store.record(Draft { detail: detail.clone(), ..Draft::default() }).await.unwrap();
    }
    let small = Some(Retention { max_age: None, max_bytes: Some(1 << 20) });
    store.tidy(small).await.unwrap();
    let found = store.reader().unwrap().verify().unwrap();
    assert!(found.valid && (200..450).contains(&found.records), "{found:?}");
    assert_eq!(store.reader().unwrap().last_seq().unwrap(), 1000);
    store.tidy(Some(Retention { max_age: None, max_bytes: Some(1) })).await.unwrap();
    assert_eq!(store.reader().unwrap().verify().unwrap().records, 1, "the last one stays");
}

#[tokio::test]
async fn retention_removes_nothing_that_is_broken() {
    let directory = Directory::new();
    log(&directory, 5).await;
    edit(&directory.file(), "UPDATE audit SET body = replace(body, '\"run\":', '\"run\":1') WHERE seq = 3");
    let store = Store::open(directory.url(), options(&Clock::simulated(NOON + DAY))).unwrap();
    store.tidy(Some(Retention { max_age: Some(std::time::Duration::from_secs(1)), max_bytes: None })).await.unwrap();
    check(&verify(&directory.file()), 3, "does not have its hash");
}

#[tokio::test]
async fn an_answer_to_an_approval_is_in_the_chain() {
    let directory = Directory::new();
    let store = Store::open(directory.url(), options(&Clock::simulated(NOON))).unwrap();
    assert!(store.answer("none", Answer::Deny, "bob").await.is_err());
    assert_eq!(store.reader().unwrap().verify().unwrap().records, 0, "what did not happen is not on record");
}
