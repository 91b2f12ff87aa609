//! What a call costs on each kind of state: its charges and its two records, at concurrency 1 and 32.
//!
//! `cargo xtask bench stores` runs it. PostgreSQL and Redis are started here, on this machine and with their usual care for
//! the disk: over a network a trip is added for Redis, and two for PostgreSQL.

#[path = "../tests/support/servers.rs"]
mod servers;

use policy::{Amount, Bound, Charge, Counter, Mode, Outcome, Reason, Scope, Window};
use servers::{Postgres, Redis};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Admission, Draft, Options, Phase, Reply, StateUrl, Store, Subject, Verdict};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let quick = std::env::args().any(|word| word == "--quick");
    let time = if quick { Duration::from_millis(200) } else { Duration::from_secs(5) };
    let directory = std::env::temp_dir().join(format!("callgate-stores-{}", std::process::id()));
    let file = |name: &str| StateUrl::Sqlite(directory.join(name));
    let (postgres, redis) = (Postgres::start_durable(), Redis::start());
    let mut states = vec![("a file", file("file.db"))];
    if let Some(server) = &postgres {
        states.push(("PostgreSQL", server.url().parse()?));
    }
    if let Some(server) = &redis {
        states.push(("Redis, records in a file", server.url().parse::<StateUrl>()?.with_records_in(file("redis.db"))?));
    }
    println!("| state | callers | calls a second | median | 99th of 100 |\n|---|---|---|---|---|");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for (name, url) in states {
        let options = Options { keys: Some(directory.join("keys")), ..Options::default() };
        let store = Store::open(url, options)?;
        for callers in [1, 32] {
            let mut taken = runtime.block_on(calls(&store, callers, time))?;
            taken.sort_unstable();
            let at = |percent: usize| taken[(taken.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
            let rate = taken.len() as f64 / time.as_secs_f64();
            println!("| {name} | {callers} | {rate:.0} | {:.2} ms | {:.2} ms |", at(50), at(99));
        }
        runtime.block_on(store.close());
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

/// How long each call took, from before it is admitted until its end is on record.
async fn calls(store: &Store, callers: usize, time: Duration) -> Result<Vec<Duration>, store::StoreError> {
    let until = Instant::now() + time;
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let store = store.clone();
        tasks.spawn(async move {
            let mut taken = Vec::new();
            while Instant::now() < until {
                let begun = Instant::now();
                let admitted = store.admit(call(caller)).await?;
                assert!(matches!(admitted.verdict, Verdict::Granted { .. }), "{:?}", admitted.verdict);
                let end = Draft { phase: Phase::Finished, reply: Some(Reply::Completed), ..draft() };
                store.settle(admitted.reservation, end, false).await?;
                taken.push(begun.elapsed());
            }
            Ok::<_, store::StoreError>(taken)
        });
    }
    tasks.join_all().await.into_iter().collect::<Result<Vec<_>, _>>().map(|all| all.concat())
}

/// A call with a limit of its caller's and one that all share.
fn call(caller: usize) -> Admission {
    let charge = |name: &str, window: &str, scope| {
        let window = Window::parse(window).expect("a window");
        let counter = Counter { owner: "bench".into(), name: name.into(), window, scope };
        Charge::new(Arc::new(counter), Amount::ONE, Bound::AtMost(Amount::MAX), "bench".into(), Mode::Enforce)
    };
    Admission {
        id: store::fresh_id().expect("random numbers"),
        subject: Subject {
            server: "bench".into(),
            grant: format!("grant {caller}").into(),
            principal: format!("person {caller}").into(),
            session: None,
        },
        charges: vec![charge("own", "minute", Scope::Grant), charge("all", "day", Scope::Global)],
        once: None,
        approval: None,
        record: Box::new(|_| Box::new(Draft { outcome: Some(Outcome::Allow), reason: Some(Reason::Allowed), ..draft() })),
    }
}

fn draft() -> Draft {
    Draft {
        server: Some("bench".into()),
        method: Some("tools/call".into()),
        tool: Some("search_issues".into()),
        principal: Some("person".into()),
        grant: Some("grant".into()),
        ..Draft::default()
    }
}
