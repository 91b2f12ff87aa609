//! Several gateways on one server: what they may do at a time, what a server that is gone or slow does to them, what is
//! found when somebody changes what lies there.

#![allow(clippy::unwrap_used, reason = "helpers of tests are test code")]

mod support;

use policy::{Amount, Charge, Mode, Scope};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use store::{Clock, Draft, Filter, Options, Retention, StateUrl, Store, StoreError, Verdict};
use support::servers::{Postgres, Redis, SlowWay};
use support::*;

/// A gateway by itself: with keys, and where counters lie apart a file, of its own.
struct Gateway {
    store: Store,
    _directory: Directory,
}

fn gateway(url: &str) -> Gateway {
    gateway_at(url, Clock::System).unwrap()
}

fn gateway_at(url: &str, clock: Clock) -> Result<Gateway, StoreError> {
    let directory = Directory::new();
    let mut url: StateUrl = url.parse().unwrap();
    if matches!(url, StateUrl::Redis { .. }) {
        url = url.with_records_in(directory.url()).unwrap();
    }
    let store = Store::open(url, Options { clock, keys: Some(directory.0.join("keys")), ..Options::default() })?;
    Ok(Gateway { store, _directory: directory })
}

/// At most so many calls by all together, whoever makes them.
fn shared(name: &str, max: u64) -> Charge {
    charge_of(name, "2h", Scope::Global, "1", &max.to_string(), Mode::Enforce)
}

/// What came of calls that were made until there was nothing left.
#[derive(Default)]
struct Tally {
    granted: AtomicUsize,
    denied: AtomicUsize,
    exhausted: AtomicUsize,
    /// In milliseconds.
    slowest: AtomicUsize,
}

/// Calls on all gateways at once until each caller has heard that nothing is left.
fn storm(gateways: &[Gateway], name: &'static str, max: u64) -> (Arc<Tally>, tokio::task::JoinSet<()>) {
    let (tally, mut callers) = (Arc::new(Tally::default()), tokio::task::JoinSet::new());
    for i in 0..8 {
        let (store, tally) = (gateways[i % gateways.len()].store.clone(), tally.clone());
        callers.spawn(async move {
            loop {
                let begun = Instant::now();
                let answer = store.admit(call("g", vec![shared(name, max)])).await;
                tally.slowest.fetch_max(begun.elapsed().as_millis() as usize, Ordering::SeqCst);
                match answer.map(|admitted| admitted.verdict) {
                    Ok(Verdict::Granted { .. }) => tally.granted.fetch_add(1, Ordering::SeqCst),
                    Ok(Verdict::Exhausted { .. }) => {
                        tally.exhausted.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => tally.denied.fetch_add(1, Ordering::SeqCst),
                };
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    (tally, callers)
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

/// Interrupts the server while gateways call, and looks at what they were told.
async fn interrupted(gateways: &[Gateway], name: &'static str, begin: impl Fn(), end: impl Fn()) {
    const MAX: u64 = 150;
    let (tally, callers) = storm(gateways, name, MAX);
    eventually("calls pass", || tally.granted.load(Ordering::SeqCst) >= 10).await;
    begin();
    eventually("calls are denied", || tally.denied.load(Ordering::SeqCst) >= 8).await;
    let troubled = |gateway: &Gateway| gateway.store.health().trouble.is_some();
    eventually("that is said", || gateways.iter().all(troubled)).await;
    let during = tally.granted.load(Ordering::SeqCst);
    end();
    let answered = || tally.granted.load(Ordering::SeqCst) > during || tally.exhausted.load(Ordering::SeqCst) > 0;
    let recovered = eventually("calls pass again", answered).await;
    callers.join_all().await;

    let granted = tally.granted.load(Ordering::SeqCst);
    assert!((11..=MAX as usize).contains(&granted), "{granted} of {MAX}");
    // Two and six seconds are what is promised where a machine has time.
    let slowest = tally.slowest.load(Ordering::SeqCst);
    eprintln!("{name}: denied after {slowest} ms at most; {} ms after its return calls pass again", recovered.as_millis());
    assert!(slowest < 4_000, "denied after {slowest} ms");
    assert!(recovered < Duration::from_secs(12), "{recovered:?}");
    eventually("nothing is wrong any more", || !gateways.iter().any(troubled)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_stops_dies_and_returns_multiplies_nothing() {
    let Some(server) = Postgres::start() else { return };
    let gateways = [gateway(&server.url()), gateway(&server.url())];
    interrupted(&gateways, "frozen", || server.freeze(), || server.thaw()).await;
    interrupted(&gateways, "killed", || server.kill(), || server.resume()).await;
    assert!(gateways[0].store.reader().unwrap().verify().unwrap().valid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stops_dies_and_returns_multiplies_nothing() {
    let Some(server) = Redis::start() else { return };
    let gateways = [gateway(&server.url()), gateway(&server.url())];
    interrupted(&gateways, "frozen", || server.freeze(), || server.thaw()).await;
    interrupted(&gateways, "killed", || server.kill(), || server.resume()).await;
}

/// Gateways whose way to the server becomes slow, and then slower than they may wait: never more than the limit, and nothing that
/// was neither let through nor denied.
async fn slowed(way: &SlowWay, url: &str) {
    const MAX: u64 = 60;
    let gateways = [gateway(url), gateway(url)];
    let (tally, callers) = storm(&gateways, "slow", MAX);
    let granted = || tally.granted.load(Ordering::SeqCst);
    eventually("calls pass", || granted() >= 10).await;
    way.takes(Duration::from_millis(300));
    let before = granted();
    eventually("calls pass slowly, or are denied", || granted() + tally.denied.load(Ordering::SeqCst) >= before + 8).await;
    for delay in [700, 1300, 1900] {
        way.takes(Duration::from_millis(delay));
        let before = tally.denied.load(Ordering::SeqCst);
        eventually("calls are denied", || {
            tally.exhausted.load(Ordering::SeqCst) >= 8 || tally.denied.load(Ordering::SeqCst) > before
        })
        .await;
    }
    way.takes(Duration::ZERO);
    callers.join_all().await;
    let (granted, denied) = (granted(), tally.denied.load(Ordering::SeqCst));
    let slowest = tally.slowest.load(Ordering::SeqCst);
    eprintln!("slow: {granted} of {MAX} let through, {denied} denied, after {slowest} ms at most");
    // Whoever is denied because nobody knows may have been counted.
    assert!(granted <= MAX as usize && granted + denied >= MAX as usize, "{granted} of {MAX}, {denied} denied");
    assert!(slowest < 4_000, "denied after {slowest} ms");
    // And not one more is left, whoever asks.
    assert!(!passes(&gateway(url).store, call("g", vec![shared("slow", MAX)])).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_slow_multiplies_nothing() {
    let Some(server) = Postgres::start() else { return };
    let way = SlowWay::to(server.port);
    slowed(&way, &server.url().replace(&server.port.to_string(), &way.port.to_string())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_slow_multiplies_nothing() {
    let Some(server) = Redis::start() else { return };
    let way = SlowWay::to(server.port);
    slowed(&way, &format!("redis://127.0.0.1:{}", way.port)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_limits_needs_no_counters() {
    let Some(server) = Redis::start() else { return };
    let gateway = gateway(&server.url());
    server.kill();
    assert!(passes(&gateway.store, call("g", Vec::new())).await);
    assert!(gateway.store.admit(call("g", vec![shared("calls", 1)])).await.is_err());
}

/// How many calls of a minute's limit pass.
async fn spend(gateway: &Gateway, max: u64) -> usize {
    let mut granted = 0;
    while passes(&gateway.store, call("g", vec![limit(max, "minute"), limit(max, "day")])).await {
        granted += 1;
    }
    granted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_has_forgotten_counts_as_spent_until_its_window_ends() {
    let Some(server) = Redis::start_with(&["--appendonly", "no"]) else { return };
    let clock = Clock::simulated(NOON);
    let gateways = [gateway_at(&server.url(), clock.clone()).unwrap(), gateway_at(&server.url(), clock.clone()).unwrap()];
    assert!(passes(&gateways[0].store, call("g", vec![limit(3, "minute"), limit(3, "day")])).await);
    assert_eq!(server.cli(&["FLUSHALL"]), "OK");
    for gateway in &gateways {
        let verdict = gateway.store.admit(call("g", vec![limit(3, "minute")])).await.unwrap().verdict;
        assert!(matches!(verdict, Verdict::Exhausted { usage, .. } if usage.retry_after_ms == 61_000), "{verdict:?}");
    }
    clock.advance(61_000);
    assert!(passes(&gateways[1].store, call("g", vec![limit(3, "minute")])).await);
    assert!(!passes(&gateways[1].store, call("g", vec![limit(3, "day")])).await, "the day lasts");
    assert!(passes(&gateways[1].store, call("g", vec![charge_of("count", "day", Scope::Grant, "1", "1", Mode::Shadow)])).await);
    clock.advance(DAY);
    assert_eq!(spend(&gateways[0], 3).await, 3);

    server.kill();
    server.resume();
    clock.advance(DAY);
    let denied = Instant::now();
    let verdict = loop {
        match gateways[0].store.admit(call("g", vec![limit(3, "day")])).await {
            Ok(admitted) => break admitted.verdict,
            Err(_) if denied.elapsed() < Duration::from_secs(30) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(matches!(verdict, Verdict::Exhausted { .. }), "restarted without a log of its writes: {verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_may_have_forgotten_was_perhaps_used() {
    let Some(server) = Redis::start() else { return };
    let clock = Clock::simulated(NOON);
    let gateways = [gateway_at(&server.url(), clock.clone()).unwrap(), gateway_at(&server.url(), clock.clone()).unwrap()];
    let used = async |gateway: &Gateway, since| gateway.store.use_up("token", since, NOON + DAY).await;
    assert!(used(&gateways[0], NOON).await.unwrap());
    assert_eq!(server.cli(&["FLUSHALL"]), "OK");
    for gateway in &gateways {
        let error = used(gateway, NOON).await.unwrap_err().to_string();
        assert!(error.contains("lost"), "{error}");
    }
    // What was made since then cannot have been used before.
    assert!(used(&gateways[0], NOON + 1).await.unwrap());
    assert!(!used(&gateways[1], NOON + 1).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_was_restarted_knows_that_redis_has_forgotten() {
    let Some(server) = Redis::start() else { return };
    let directory = Directory::new();
    let url = server.url().parse::<StateUrl>().unwrap().with_records_in(directory.url()).unwrap();
    let store = Store::open(url.clone(), Options::default()).unwrap();
    assert!(passes(&store, call("g", vec![limit(3, "day")])).await);
    store.close().await;
    drop(store);
    assert_eq!(server.cli(&["FLUSHALL"]), "OK");
    let store = Store::open(url, Options::default()).unwrap();
    assert!(!passes(&store, call("g", vec![limit(3, "day")])).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_could_throw_counters_away_is_refused() {
    let Some(server) = Redis::start_with(&["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"]) else { return };
    let error = gateway_at(&server.url(), Clock::System).err().unwrap().to_string();
    assert!(error.contains("noeviction"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_opens_redis_and_is_not_repeated() {
    let Some(server) = Redis::start_with(&["--requirepass", "hunter2 @/"]) else { return };
    for credentials in ["", ":hunter3@", "nobody:hunter2@"] {
        let error = gateway_at(&format!("redis://{credentials}127.0.0.1:{}", server.port), Clock::System).err().unwrap();
        assert!(error.to_string().contains("password") && !error.to_string().contains("hunter"), "{error}");
    }
    let gateway = gateway(&format!("redis://:hunter2%20%40%2F@127.0.0.1:{}/2", server.port));
    assert!(passes(&gateway.store, call("g", vec![limit(1, "day")])).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_start_at_once_make_the_tables_once() {
    let Some(server) = Postgres::start() else { return };
    let url = server.url();
    let opened: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..6).map(|_| scope.spawn(|| gateway_at(&url, Clock::System))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    for gateway in &opened {
        assert!(passes(&gateway.as_ref().unwrap().store, call("g", vec![limit(6, "day")])).await);
    }
    assert_eq!(server.sql("SELECT count(*) FROM chains"), "6");

    server.sql("UPDATE meta SET value = '99' WHERE name = 'version'");
    let error = gateway_at(&url, Clock::System).err().unwrap().to_string();
    assert!(error.contains("newer callgate") && !error.contains("hunter2"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_gateway_has_a_chain_and_all_are_verified() {
    let Some(server) = Postgres::start() else { return };
    let gateways = [gateway(&server.url()), gateway(&server.url()), gateway(&server.url())];
    let position = gateways[0].store.reader().unwrap().position().unwrap();
    for _ in 0..5 {
        for gateway in &gateways {
            assert!(passes(&gateway.store, call("g", vec![limit(15, "day")])).await);
        }
    }
    let reader = gateways[0].store.reader().unwrap();
    let verification = reader.verify().unwrap();
    assert!(verification.valid, "{verification:?}");
    assert_eq!(verification.records, 15);
    let news = Filter { after: Some(position), until_position: Some(reader.position().unwrap()), ..Filter::default() };
    assert_eq!(reader.list(&news).unwrap().count(), 15);
    let last = |limit| reader.list(&Filter { limit: Some(limit), ..Filter::default() }).unwrap().count();
    assert_eq!((last(4), last(40)), (4, 15));

    let chain = server.sql("SELECT id FROM chains ORDER BY begun DESC LIMIT 1");
    let tampering = [
        (
            "a record was changed",
            format!("UPDATE audit SET body = replace(body, 'ann', 'bob') WHERE chain = '{chain}' AND seq = 3"),
        ),
        ("a record is gone", format!("DELETE FROM audit WHERE chain = '{chain}' AND seq = 2")),
        ("the last records are gone", format!("DELETE FROM audit WHERE chain = '{chain}' AND seq > 3")),
        (
            "the head was set back",
            format!("UPDATE head SET seq = 4 WHERE chain = '{chain}'; DELETE FROM audit WHERE chain = '{chain}' AND seq = 5"),
        ),
        ("the head is gone", format!("DELETE FROM head WHERE chain = '{chain}'")),
        (
            "a record was put in another chain",
            format!(
                "UPDATE audit SET chain = (SELECT id FROM chains WHERE id <> '{chain}' LIMIT 1), seq = 6 WHERE chain = '{chain}' AND seq = 5"
            ),
        ),
        ("another key", format!("UPDATE chains SET public_key = repeat('ab', 32) WHERE id = '{chain}'")),
        ("the chain is not listed", format!("DELETE FROM chains WHERE id = '{chain}'")),
    ];
    server.sql(
        "CREATE TABLE kept_audit AS TABLE audit; CREATE TABLE kept_head AS TABLE head; CREATE TABLE kept_chains AS TABLE chains",
    );
    for (what, sql) in tampering {
        server.sql(&sql);
        let verification = reader.verify().unwrap();
        assert!(!verification.valid, "{what}");
        let problem = verification.first_broken.unwrap().problem;
        assert!(problem.contains(&chain) || what.contains("another chain"), "{what}: {problem}");
        server.sql(
            "DELETE FROM audit; INSERT INTO audit(chain, seq, body, hash) SELECT chain, seq, body, hash FROM kept_audit ORDER BY place; \
             DELETE FROM head; INSERT INTO head TABLE kept_head; DELETE FROM chains; INSERT INTO chains TABLE kept_chains",
        );
        assert!(reader.verify().unwrap().valid, "{what}: put back");
    }

    // Everything of one gateway removed: it finds that by its own key, and writes nothing over it.
    let own = server.sql("SELECT id FROM chains ORDER BY begun LIMIT 1");
    server.sql(&format!(
        "DELETE FROM chains WHERE id = '{own}'; DELETE FROM head WHERE chain = '{own}'; DELETE FROM audit WHERE chain = '{own}'"
    ));
    let found = gateways.iter().filter(|gateway| !gateway.store.reader().unwrap().verify().unwrap().valid).count();
    assert_eq!(found, 1);
    let answers = [0, 1, 2].map(|i| gateways[i].store.record(Draft { id: "late".into(), ..Draft::default() }));
    let written = futures_util::future::join_all(answers).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(written, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_postgres_cannot_keep_denies_its_own_call_only() {
    let Some(server) = Postgres::start() else { return };
    let gateway = gateway(&server.url());
    let (odd, sound) = tokio::join!(
        gateway.store.admit(call("g\0", vec![limit(1, "day")])),
        gateway.store.admit(call("h", vec![limit(1, "day")]))
    );
    assert!(odd.is_err() && is_granted(&sound));
    assert!(gateway.store.health().trouble.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_gateway_removes_what_is_old_of_its_own_chain() {
    let Some(server) = Postgres::start() else { return };
    let clock = Clock::simulated(NOON);
    let gateways = [gateway_at(&server.url(), clock.clone()).unwrap(), gateway_at(&server.url(), clock.clone()).unwrap()];
    for gateway in &gateways {
        for _ in 0..300 {
            assert!(passes(&gateway.store, call("g", Vec::new())).await);
        }
    }
    let [one, two] = &gateways;
    let count = || one.store.reader().unwrap().verify().unwrap();
    one.store.tidy(Some(Retention { max_bytes: Some(100_000), max_age: None })).await.unwrap();
    let left = count().records - 300;
    assert!((60..=200).contains(&left) && count().valid, "{left}");
    one.store.tidy(Some(Retention { max_bytes: Some(100_000), max_age: None })).await.unwrap();
    assert_eq!(count().records - 300, left, "it fits");
    clock.advance(DAY);
    two.store.tidy(Some(Retention { max_bytes: None, max_age: Some(Duration::from_secs(3600)) })).await.unwrap();
    assert_eq!(count().records, left);
    assert!(passes(&two.store, call("g", Vec::new())).await);
    assert!(count().valid);
}

/// The same with a lease.
fn leased(name: &str, max: u64, lease: u64) -> Charge {
    let mut charge = shared(name, max);
    charge.lease = Amount::whole(lease).filter(|_| lease > 0);
    charge
}

/// Calls on 64 connections at once, spread over the gateways, until each has heard that nothing is left; gives how many were
/// granted. Without a lease each is counted by itself.
async fn exhaust(gateways: &[&Gateway], name: &'static str, max: u64, lease: u64) -> usize {
    let mut callers = tokio::task::JoinSet::new();
    for connection in 0..64 {
        let store = gateways[connection % gateways.len()].store.clone();
        callers.spawn(async move {
            let mut granted = 0;
            loop {
                match store.admit(call("g", vec![limit(10_000, "day"), leased(name, max, lease)])).await.unwrap().verdict {
                    Verdict::Granted { usages, .. } => {
                        assert_eq!(usages.len(), 2);
                        granted += 1;
                    }
                    Verdict::Exhausted { index, .. } => {
                        assert_eq!(index, 1);
                        return granted;
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
    }
    callers.join_all().await.into_iter().sum()
}

/// What leases promise, whatever counts: never more than the limit, and at most a lease for each gateway unused.
async fn leases(url: &str) {
    const MAX: u64 = 200;
    const LEASE: u64 = 32;
    // Towards the end of a bucket nothing is leased.
    let gateway = || gateway_at(url, Clock::simulated(NOON)).unwrap();
    let gateways = [gateway(), gateway()];
    // All of it is used where all gateways are called.
    let granted = exhaust(&[&gateways[0], &gateways[1]], "both", MAX, LEASE).await;
    assert!(granted <= MAX as usize && granted + 2 * LEASE as usize > MAX as usize, "{granted}");

    // One that has taken a lease and is not called any more keeps it.
    assert!(passes(&gateways[1].store, call("g", vec![leased("idle", MAX, LEASE)])).await);
    assert_eq!(exhaust(&[&gateways[0]], "idle", MAX, LEASE).await, (MAX - LEASE) as usize);
    assert_eq!(exhaust(&[&gateways[1]], "idle", MAX, LEASE).await, LEASE as usize - 1, "what it has taken is good");

    // What was not sent is refunded, where it was taken.
    let admitted = gateways[0].store.admit(call("g", vec![leased("refund", LEASE, LEASE)])).await.unwrap();
    gateways[0].store.settle(admitted.reservation, Draft::default(), true).await.unwrap();
    assert_eq!(exhaust(&[&gateways[0]], "refund", LEASE, LEASE).await, LEASE as usize);

    // One that ends gives back; one that is killed in the middle keeps what it had.
    let [one, two] = gateways;
    assert!(passes(&two.store, call("g", vec![leased("ends", MAX, LEASE)])).await);
    assert!(passes(&one.store, call("g", vec![leased("killed", MAX, LEASE)])).await);
    two.store.close().await;
    assert_eq!(exhaust(&[&one], "ends", MAX, LEASE).await, MAX as usize - 1);
    drop(one);
    let three = gateway();
    assert_eq!(exhaust(&[&three], "killed", MAX, LEASE).await, (MAX - LEASE) as usize);
}

/// Twenty gateways, as a platform has them.
async fn twenty(url: &str) {
    const MAX: u64 = 200;
    const LEASE: u64 = 4;
    let gateways: Vec<Gateway> = (0..20).map(|_| gateway_at(url, Clock::simulated(NOON)).unwrap()).collect();
    let all: Vec<&Gateway> = gateways.iter().collect();
    assert_eq!(exhaust(&all, "each", MAX, 0).await, MAX as usize);
    let granted = exhaust(&all, "leased", MAX, LEASE).await;
    assert!(granted <= MAX as usize && granted + 20 * LEASE as usize > MAX as usize, "{granted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_gateways_on_postgres_admit_exactly_what_is_allowed() {
    let Some(server) = Postgres::start() else { return };
    twenty(&server.url()).await;
    assert_eq!(server.sql("SELECT count(*) FROM chains"), "20");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_gateways_on_redis_admit_exactly_what_is_allowed() {
    let Some(server) = Redis::start() else { return };
    twenty(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_of_postgres_exceed_nothing_and_lose_one_a_gateway() {
    let Some(server) = Postgres::start() else { return };
    leases(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_of_redis_exceed_nothing_and_lose_one_a_gateway() {
    let Some(server) = Redis::start() else { return };
    leases(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_counts_where_it_was_taken_and_no_longer() {
    let Some(server) = Redis::start() else { return };
    let clock = Clock::simulated(NOON);
    let gateway = gateway_at(&server.url(), clock.clone()).unwrap();
    let one = || call("g", vec![leased("calls", 20, 10)]);
    assert!(passes(&gateway.store, one()).await);
    // The next bucket of two hours: what is left of the first is given back, and counts no more.
    clock.advance(3 * MINUTE);
    assert!(passes(&gateway.store, one()).await);
    assert_eq!(exhaust(&[&gateway], "calls", 20, 10).await, 18);
    // The first call frees up two hours and a bucket after it was made, the others three minutes later.
    clock.advance(120 * MINUTE);
    assert_eq!(exhaust(&[&gateway], "calls", 20, 10).await, 1);
    clock.advance(3 * MINUTE);
    assert_eq!(exhaust(&[&gateway], "calls", 20, 10).await, 19);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_tells_of_removed_chains_outlives_retention_by_size() {
    let Some(server) = Postgres::start() else { return };
    let clock = Clock::simulated(NOON);
    for _ in 0..2 {
        let gone = gateway_at(&server.url(), clock.clone()).unwrap();
        assert!(passes(&gone.store, call("g", Vec::new())).await);
        gone.store.close().await;
    }
    clock.advance(8 * DAY);
    let lives = gateway_at(&server.url(), clock.clone()).unwrap();
    // Both chains go by their age, and then everything that there is room for nowhere.
    let retention = Some(Retention { max_age: Some(Duration::from_secs(7 * 24 * 3600)), max_bytes: Some(1) });
    for _ in 0..6 {
        assert!(passes(&lives.store, call("g", Vec::new())).await);
        lives.store.tidy(retention).await.unwrap();
        let verification = lives.store.reader().unwrap().verify().unwrap();
        assert!(verification.valid, "{verification:?}");
    }
    let told = |body: &&String| body.contains("audit/forget");
    assert_eq!(bodies(&lives.store).iter().filter(told).count(), 2, "each is told of once");
    // They go with the listing.
    clock.advance(8 * DAY);
    for _ in 0..6 {
        assert!(passes(&lives.store, call("g", Vec::new())).await);
        lives.store.tidy(retention).await.unwrap();
    }
    assert_eq!(bodies(&lives.store).iter().filter(told).count(), 0);
    assert!(lives.store.reader().unwrap().verify().unwrap().valid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateway_that_is_gone_has_left_goes_with_its_age() {
    let Some(server) = Postgres::start() else { return };
    let clock = Clock::simulated(NOON);
    let gone = gateway_at(&server.url(), clock.clone()).unwrap();
    for _ in 0..5 {
        assert!(passes(&gone.store, call("g", Vec::new())).await);
    }
    gone.store.close().await;
    clock.advance(DAY);
    let lives = gateway_at(&server.url(), clock.clone()).unwrap();
    assert!(passes(&lives.store, call("g", Vec::new())).await);
    let week = Some(Retention { max_age: Some(Duration::from_secs(7 * 24 * 3600)), max_bytes: None });
    lives.store.tidy(week).await.unwrap();
    assert_eq!(bodies(&lives.store).len(), 6, "not as old yet");

    clock.advance(6 * DAY + MINUTE);
    lives.store.tidy(week).await.unwrap();
    let left = bodies(&lives.store);
    assert_eq!(left.len(), 2);
    assert_eq!(member(&left[1], "method"), "audit/forget");
    assert!(member(&left[1], "detail").contains("up to record 5"), "{}", left[1]);
    let verification = || lives.store.reader().unwrap().verify().unwrap();
    assert!(verification().valid, "{:?}", verification());
    assert_eq!(server.sql("SELECT count(*) FROM head"), "1");

    // It comes back after all, and begins anew.
    let directory = gone._directory;
    let options = || Options { clock: clock.clone(), keys: Some(directory.0.join("keys")), ..Options::default() };
    let back = Store::open(server.url().parse().unwrap(), options()).unwrap();
    assert!(passes(&back, call("g", Vec::new())).await);
    assert!(back.reader().unwrap().verify().unwrap().valid);
    back.close().await;

    // Whoever says that a chain was removed, where no record does, is found.
    server.sql("CREATE TABLE kept_chains AS TABLE chains");
    server.sql(
        "UPDATE chains SET removed = 1, removed_by = (SELECT removed_by FROM chains WHERE removed IS NOT NULL), former_key = public_key, \
         public_key = 'x' WHERE begun = (SELECT max(begun) FROM chains); DELETE FROM audit WHERE chain = (SELECT id FROM chains WHERE removed = 1)",
    );
    let problem = verification().first_broken.unwrap().problem;
    assert!(problem.contains("no record says so"), "{problem}");
    server.sql("DELETE FROM chains; INSERT INTO chains TABLE kept_chains");

    // What tells of it goes at the same age.
    clock.advance(7 * DAY + MINUTE);
    assert!(passes(&lives.store, call("g", Vec::new())).await);
    lives.store.tidy(week).await.unwrap();
    let left = bodies(&lives.store);
    assert!(left.iter().all(|body| !body.contains("up to record 5")), "{left:?}");
}
