//! What a call costs the store: a counted charge and its two records, one after the other and thirty-two at a time.
//!
//! `cargo run --release -p callgate-store --example cost [calls] [directory]`

use policy::{Amount, Bound, Charge, Counter, Mode, Outcome, Reason, Scope, Window};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Admission, Draft, Durability, Options, Phase, Reply, StateUrl, Store, Subject};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let calls: usize = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let place =
        arguments.next().map_or_else(std::env::temp_dir, Into::into).join(format!("callgate-cost-{}", std::process::id()));
    println!("{:>12} {:>7} {:>11} {:>8} {:>8} {:>9}", "durability", "at once", "CPU us/call", "p50 us", "p99 us", "calls/s");
    for (durability, calls) in [(Durability::Process, calls), (Durability::Power, calls / 20)] {
        for (threads, lanes) in [(1, 1), (1, 32), (2, 32)] {
            let runtime = match threads {
                1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
                _ => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?,
            };
            let row = runtime.block_on(measure(&place, durability, calls, lanes))?;
            println!("{:>12} {:>5}/{threads} {row}", format!("{durability:?}").to_lowercase(), lanes);
        }
    }
    std::fs::remove_dir_all(&place)?;
    Ok(())
}

async fn measure(place: &Path, durability: Durability, calls: usize, lanes: usize) -> Result<String, store::StoreError> {
    let _ = std::fs::remove_dir_all(place);
    let url = StateUrl::Sqlite(place.join("callgate.db"));
    let store = Store::open(url, Options { durability, ..Options::default() })?;
    let (cpu, begun) = (cpu_time(), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..lanes {
        let store = store.clone();
        tasks.spawn(async move { lane(&store, calls / lanes).await });
    }
    let mut latencies: Vec<Duration> = Vec::with_capacity(calls);
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done.expect("a lane ends")?);
    }
    let (elapsed, made) = (begun.elapsed(), latencies.len());
    store.close().await;
    let cpu = cpu_time().saturating_sub(cpu);
    latencies.sort_unstable();
    let at = |share: f64| micros(latencies[((made - 1) as f64 * share) as usize]);
    let (per_call, rate) = (micros(cpu) / made as f64, made as f64 / elapsed.as_secs_f64());
    Ok(format!("{per_call:>11.1} {:>8.1} {:>8.1} {rate:>9.0}", at(0.5), at(0.99)))
}

async fn lane(store: &Store, calls: usize) -> Result<Vec<Duration>, store::StoreError> {
    let counter = Arc::new(Counter {
        owner: "start_run".into(),
        name: "calls".into(),
        window: Window::parse("minute").expect("a window"),
        scope: Scope::Grant,
    });
    let mut latencies = Vec::with_capacity(calls);
    for _ in 0..calls {
        let begun = Instant::now();
        let id = store::fresh_id()?;
        let bound = Bound::AtMost(Amount::whole(1_000_000_000).expect("it fits"));
        let admission = Admission {
            id: id.clone(),
            subject: Subject { server: "omics".into(), grant: "local".into(), principal: "local".into(), session: None },
            charges: vec![Charge::new(counter.clone(), Amount::whole(1).expect("it fits"), bound, "many".into(), Mode::Enforce)],
            once: None,
            approval: None,
            record: Box::new(move |_| decided().into()),
        };
        let admitted = store.admit(admission).await?;
        latencies.push(begun.elapsed());
        let ended = Draft {
            id,
            phase: Phase::Finished,
            reply: Some(Reply::Completed),
            duration_ms: Some(1),
            arguments: None,
            outcome: None,
            reason: None,
            ..decided()
        };
        store.settle(admitted.reservation, ended, false).await?;
    }
    Ok(latencies)
}

fn decided() -> Draft {
    Draft {
        phase: Phase::Decided,
        server: Some("omics".into()),
        method: Some("tools/call".into()),
        tool: Some("start_run".into()),
        principal: Some("local".into()),
        grant: Some("local".into()),
        session: Some("stdio".into()),
        outcome: Some(Outcome::Allow),
        reason: Some(Reason::Allowed),
        policy: Some("0123456789abcdef".into()),
        arguments: Some(r#"{"bytes":21,"hmac":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}"#.into()),
        ..Draft::default()
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The time that all threads of this process have run: Linux counts it in hundredths of a second.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> =
        stat.rsplit(") ").next().unwrap_or_default().split(' ').map(|field| field.parse().unwrap_or(0)).collect();
    Duration::from_millis(10 * fields.get(11..13).unwrap_or_default().iter().sum::<u64>())
}
