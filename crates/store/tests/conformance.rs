//! What every backend must do. A further backend is one more line in `backends!`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are test code")]

mod support;

use policy::{Amount, Mode, Outcome, Quorum, Reason, Scope};
use store::{
    Admission, Answer, ApprovalRequest, ApprovalState, AuthorizationChange, Clock, Condition, DocumentKind, Draft, Expected,
    Filter, GrantChange, Instance, Issued, Once, Phase, Reply, ShownArguments, StateUrl, Store, StoreError, Verdict,
};
use support::servers::{Postgres, Redis};
use support::*;

/// A fresh place to keep state, and a simulated clock at [`NOON`].
struct Place {
    clock: Clock,
    url: StateUrl,
    store: Store,
    directory: Directory,
    /// The server, where there is one. Dropped last.
    _server: Option<Box<dyn std::any::Any + Send + Sync>>,
}

/// Where state is to be kept, and what has to live that long.
type Backend = (StateUrl, Option<Box<dyn std::any::Any + Send + Sync>>);

impl Place {
    /// `None` where what is needed is not installed.
    fn new(backend: impl Fn(&Directory) -> Option<Backend>) -> Option<Place> {
        let directory = Directory::new();
        let clock = Clock::simulated(NOON);
        let (url, server) = backend(&directory)?;
        let store = Store::open(url.clone(), Place::options(&directory, &clock)).unwrap();
        Some(Place { clock, url, store, directory, _server: server })
    }

    fn options(directory: &Directory, clock: &Clock) -> store::Options {
        store::Options { keys: Some(directory.0.join("keys")), ..options(clock) }
    }

    /// Another handle on the same state, as another process has; memory has only the one.
    fn another(&self) -> Store {
        match self.url {
            StateUrl::Memory => self.store.clone(),
            _ => Store::open(self.url.clone(), Place::options(&self.directory, &self.clock)).unwrap(),
        }
    }
}

macro_rules! backends {
    ($($backend:ident: $url:expr;)*) => {
        $(backends!(@one $backend, $url,
            limits_hold_under_concurrency,
            two_handles_share_every_limit_and_one_chain,
            several_limits_are_taken_together_or_not_at_all,
            a_sliding_window_holds_over_its_edge,
            waiting_as_told_is_enough,
            a_calendar_day_begins_anew,
            amounts_are_exact,
            a_charge_of_nothing_still_fails_past_the_bound,
            scopes_count_apart,
            a_clock_set_back_frees_nothing,
            a_shadow_charge_counts_and_never_refuses,
            only_what_was_never_sent_is_refunded,
            a_repeated_call_is_named_and_costs_nothing,
            an_approval_is_spent_once,
            several_people_approve_and_one_denies,
            an_approval_is_bound_to_all_that_was_asked,
            an_approval_expires,
            arguments_are_kept_while_there_is_something_to_decide,
            long_arguments_are_not_kept,
            a_refused_approval_stays_refused,
            an_exhausted_limit_leaves_the_approval,
            two_spenders_of_one_approval_cannot_both_win,
            too_many_approvals_are_refused,
            every_verdict_is_on_record,
            records_are_filtered,
            records_of_one_call_are_shown_together,
            a_mistake_in_one_call_does_not_touch_others,
            status_counts_calls_and_instances,
            what_is_kept_is_changed_one_version_at_a_time,
            a_grant_is_a_document_with_a_token,
            one_gateway_at_a_time_refreshes_an_authorization,
            the_issuer_that_was_named_first_stays,
            a_name_is_used_up_once_by_all,
            what_was_issued_is_its_owners_on_every_gateway,
            of_what_was_issued_to_one_owner_the_last_thousand_are_kept,
            a_closed_store_denies,
        );)*
    };
    (@one $backend:ident, $url:expr, $($test:ident,)*) => {
        mod $backend {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if let Some(place) = Place::new($url) {
                    super::$test(place).await;
                }
            })*
        }
    };
}

backends! {
    sqlite: |directory: &Directory| Some((directory.url(), None));
    memory: |_: &Directory| Some((StateUrl::Memory, None));
    postgres: |_: &Directory| {
        let server = Postgres::start()?;
        Some((server.url().parse().unwrap(), Some(Box::new(server))))
    };
    redis: |directory: &Directory| {
        let server = Redis::start()?;
        let url: StateUrl = server.url().parse().unwrap();
        Some((url.with_records_in(directory.url()).unwrap(), Some(Box::new(server))))
    };
}

/// Makes calls at once, alternating between stores; gives how many were granted.
async fn storm(stores: &[Store], calls: usize, make: impl Fn() -> Admission) -> usize {
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..calls {
        let (store, admission) = (stores[i % stores.len()].clone(), make());
        tasks.spawn(async move { is_granted(&store.admit(admission).await) });
    }
    tasks.join_all().await.into_iter().filter(|granted| *granted).count()
}

async fn limits_hold_under_concurrency(place: Place) {
    for round in 0..50 {
        let grant = format!("round {round}");
        assert_eq!(
            storm(std::slice::from_ref(&place.store), 200, || call(&grant, vec![limit(10, "minute")])).await,
            10,
            "{grant}"
        );
    }
}

async fn two_handles_share_every_limit_and_one_chain(place: Place) {
    let stores = [place.store.clone(), place.another()];
    for round in 0..10 {
        let grant = format!("round {round}");
        assert_eq!(storm(&stores, 200, || call(&grant, vec![limit(10, "minute")])).await, 10, "{grant}");
    }
    let verification = place.store.reader().unwrap().verify().unwrap();
    assert!(verification.valid, "{verification:?}");
    assert_eq!(verification.records, 2000);
}

async fn several_limits_are_taken_together_or_not_at_all(place: Place) {
    let charges = |amount: &str| {
        vec![
            limit(100, "minute"),
            charge_of("spend", "day", Scope::Grant, amount, "10", Mode::Enforce),
            charge_of("global", "hour", Scope::Global, "1", "100", Mode::Enforce),
        ]
    };
    assert!(passes(&place.store, call("g", charges("6"))).await);
    let admitted = place.store.admit(call("g", charges("5"))).await.unwrap();
    assert!(matches!(admitted.verdict, Verdict::Exhausted { index: 1, usage } if usage.used == Amount::whole(6).unwrap()));
    let Verdict::Granted { usages, .. } = place.store.admit(call("g", charges("4"))).await.unwrap().verdict else { panic!() };
    let used: Vec<String> = usages.iter().map(|usage| usage.used.to_string()).collect();
    assert_eq!(used, ["1", "6", "1"], "the refused call has taken nothing");
}

async fn a_sliding_window_holds_over_its_edge(place: Place) {
    // A calendar minute would let 20 pass within a second.
    place.clock.advance(MINUTE - 1);
    let mut granted = storm(std::slice::from_ref(&place.store), 20, || call("g", vec![limit(10, "minute")])).await;
    place.clock.advance(1);
    granted += storm(std::slice::from_ref(&place.store), 20, || call("g", vec![limit(10, "minute")])).await;
    assert_eq!(granted, 10);
    place.clock.advance(MINUTE - 2);
    assert!(!passes(&place.store, call("g", vec![limit(10, "minute")])).await);
    place.clock.advance(1002);
    assert!(passes(&place.store, call("g", vec![limit(10, "minute")])).await);
}

async fn waiting_as_told_is_enough(place: Place) {
    let both = || vec![limit(2, "minute"), charge_of("slow", "hour", Scope::Grant, "1", "3", Mode::Enforce)];
    let mut granted = 0;
    for _ in 0..20 {
        match place.store.admit(call("g", both())).await.unwrap().verdict {
            Verdict::Granted { .. } => granted += 1,
            Verdict::Exhausted { usage, .. } => {
                assert_eq!(usage.resets_at, place.clock.now() + usage.retry_after_ms as i64);
                place.clock.advance(usage.retry_after_ms as i64);
                assert!(passes(&place.store, call("g", both())).await, "told to wait {} ms", usage.retry_after_ms);
                granted += 1;
            }
            other => panic!("{other:?}"),
        }
        place.clock.advance(7_000);
    }
    assert_eq!(granted, 20);
}

async fn a_calendar_day_begins_anew(place: Place) {
    assert!(passes(&place.store, call("g", vec![limit(1, "day")])).await);
    place.clock.advance(13 * 60 * MINUTE + 29 * MINUTE);
    assert!(!passes(&place.store, call("g", vec![limit(1, "day")])).await, "23:59");
    place.clock.advance(MINUTE);
    assert!(passes(&place.store, call("g", vec![limit(1, "day")])).await, "00:00");
}

async fn amounts_are_exact(place: Place) {
    let spend = |amount: &str| vec![charge_of("spend", "day", Scope::Grant, amount, "1", Mode::Enforce)];
    for _ in 0..9 {
        assert!(passes(&place.store, call("g", spend("0.1"))).await);
    }
    assert!(!passes(&place.store, call("g", spend("0.100001"))).await);
    assert!(passes(&place.store, call("g", spend("0.1"))).await);
    let vast = |amount: &str| vec![charge_of("vast", "day", Scope::Grant, amount, "9223372036854.775807", Mode::Enforce)];
    assert!(passes(&place.store, call("g", vast("9223372036854.775807"))).await);
    assert!(!passes(&place.store, call("g", vast("0.000001"))).await);
}

async fn a_charge_of_nothing_still_fails_past_the_bound(place: Place) {
    let spend = |amount: &str, max: &str| vec![charge_of("spend", "day", Scope::Grant, amount, max, Mode::Enforce)];
    assert!(passes(&place.store, call("g", spend("5", "5"))).await);
    assert!(passes(&place.store, call("g", spend("0", "5"))).await);
    assert!(!passes(&place.store, call("g", spend("0", "4"))).await, "a smaller bound keeps what is counted");
}

async fn scopes_count_apart(place: Place) {
    let admit = |scope, server: &str, principal: &str, grant: &str, session: Option<&str>| {
        let mut admission = call(grant, vec![charge_of("calls", "day", scope, "1", "1", Mode::Enforce)]);
        admission.subject.server = server.into();
        admission.subject.principal = principal.into();
        admission.subject.session = session.map(std::sync::Arc::from);
        passes(&place.store, admission)
    };
    assert!(admit(Scope::Grant, "s", "p", "g", None).await);
    assert!(!admit(Scope::Grant, "s", "q", "g", Some("new session")).await);
    assert!(admit(Scope::Grant, "s", "p", "h", None).await);
    assert!(admit(Scope::Grant, "t", "p", "g", None).await);

    assert!(admit(Scope::Principal, "s", "p", "g", None).await);
    assert!(!admit(Scope::Principal, "s", "p", "h", None).await);

    assert!(admit(Scope::Session, "s", "p", "g", Some("1")).await);
    assert!(admit(Scope::Session, "s", "p", "g", Some("2")).await);
    assert!(admit(Scope::Session, "s", "p", "g", None).await);
    assert!(!admit(Scope::Session, "s", "p", "g", None).await);

    assert!(admit(Scope::Upstream, "s", "p", "g", None).await);
    assert!(!admit(Scope::Upstream, "s", "q", "h", None).await);
    assert!(admit(Scope::Upstream, "t", "q", "h", None).await);

    assert!(admit(Scope::Global, "s", "p", "g", None).await);
    assert!(!admit(Scope::Global, "t", "q", "h", None).await);
}

async fn a_clock_set_back_frees_nothing(place: Place) {
    for back in [1, MINUTE, 60 * MINUTE, DAY] {
        for window in ["minute", "hour", "day", "month"] {
            let grant = format!("{window} {back}");
            assert!(passes(&place.store, call(&grant, vec![limit(1, window)])).await);
            place.clock.advance(-back);
            place.store.tidy(None).await.unwrap();
            let verdict = place.store.admit(call(&grant, vec![limit(1, window)])).await.unwrap().verdict;
            let longest = limit(1, window).counter.window.longest_wait();
            assert!(
                matches!(verdict, Verdict::Exhausted { usage, .. } if (1..=longest).contains(&usage.retry_after_ms)),
                "{grant}"
            );
            place.clock.advance(back);
        }
    }
    // Ahead by a day, tidied there, and back: what counted before counts again. Redis, whose memory is dear, remembers an hour.
    let ahead = if matches!(place.url, StateUrl::Redis { .. }) { 50 * MINUTE } else { DAY };
    assert!(passes(&place.store, call("ahead", vec![limit(1, "minute")])).await);
    place.clock.advance(ahead);
    assert!(passes(&place.store, call("ahead", vec![limit(1, "minute")])).await);
    place.store.tidy(None).await.unwrap();
    place.clock.advance(-ahead);
    let verdict = place.store.admit(call("ahead", vec![limit(1, "minute")])).await.unwrap().verdict;
    assert!(matches!(verdict, Verdict::Exhausted { usage, .. } if usage.used == Amount::whole(2).unwrap()));
    assert!(place.store.reader().unwrap().verify().unwrap().valid);
}

async fn a_shadow_charge_counts_and_never_refuses(place: Place) {
    let charges = || vec![limit(4, "day"), charge_of("shadow", "day", Scope::Grant, "1", "2", Mode::Shadow)];
    for before in 0..4 {
        let Verdict::Granted { usages, .. } = place.store.admit(call("g", charges())).await.unwrap().verdict else { panic!() };
        assert_eq!(usages[1].used, Amount::whole(before).unwrap());
        assert!(usages[1].retry_after_ms >= 1);
    }
    assert!(!passes(&place.store, call("g", charges())).await, "the enforced one still refuses");
    let vast = || vec![charge_of("vast", "day", Scope::Grant, "9223372036854", "1", Mode::Shadow)];
    for _ in 0..3 {
        assert!(passes(&place.store, call("g", vast())).await);
    }
}

async fn only_what_was_never_sent_is_refunded(place: Place) {
    let finished = |reply| Draft { phase: Phase::Finished, reply: Some(reply), ..Draft::default() };
    let once = || Once { tool: "start_run".into(), digest: "d".into(), window_ms: 1000 };
    let make = || Admission { once: Some(once()), ..call("g", vec![limit(1, "day")]) };

    let sent = place.store.admit(make()).await.unwrap();
    place.store.settle(sent.reservation, finished(Reply::Lost), false).await.unwrap();
    place.clock.advance(1000);
    assert!(!passes(&place.store, make()).await, "a lost call stays spent");

    place.clock.advance(DAY);
    let unsent = place.store.admit(make()).await.unwrap();
    place.clock.advance(DAY);
    let next_day = place.store.admit(make()).await.unwrap();
    assert!(matches!(next_day.verdict, Verdict::Granted { .. }));
    place.store.settle(unsent.reservation, finished(Reply::Refused), true).await.unwrap();
    place.clock.advance(1000);
    assert!(!passes(&place.store, make()).await, "a late refund goes to its own day, not to this one");
    place.store.settle(next_day.reservation, finished(Reply::Refused), true).await.unwrap();
    assert!(passes(&place.store, make()).await, "the call, and that it is a repetition, are forgotten");

    let records = bodies(&place.store);
    let last = records.iter().rfind(|body| member(body, "phase") == "finished").unwrap();
    assert_eq!(member(last, "reply"), "refused");
    assert_eq!(records.iter().filter(|body| member(body, "id") == member(last, "id")).count(), 2);
}

async fn a_repeated_call_is_named_and_costs_nothing(place: Place) {
    let repeated = |digest: &str| Admission {
        once: Some(Once { tool: "start_run".into(), digest: digest.into(), window_ms: 300_000 }),
        ..call("g", vec![limit(3, "day")])
    };
    let first = repeated("same");
    let id = first.id.clone();
    assert!(passes(&place.store, first).await);
    place.clock.advance(1000);
    let verdict = place.store.admit(repeated("same")).await.unwrap().verdict;
    assert_eq!(verdict, Verdict::Duplicate { first_id: id.to_string(), retry_after_ms: 299_000 });
    place.clock.advance(-2000);
    assert!(!passes(&place.store, repeated("same")).await, "a clock set back");
    place.clock.advance(2000);
    assert!(passes(&place.store, repeated("other")).await);
    let mut elsewhere = repeated("same");
    elsewhere.subject.grant = "h".into();
    assert!(passes(&place.store, elsewhere).await);
    place.clock.advance(299_000);
    assert!(passes(&place.store, repeated("same")).await, "the third that was charged");
    assert!(!passes(&place.store, repeated("new")).await);
}

fn asking(digest: &str) -> Admission {
    let request = ApprovalRequest {
        tool: "delete_run".into(),
        digest: digest.into(),
        policy: "0123456789abcdef".into(),
        rule: "ask".into(),
        timeout_ms: 60_000,
        quorums: Vec::new(),
        arguments: Some(r#"{"id":1}"#.into()),
    };
    Admission { approval: Some(request), ..call("g", Vec::new()) }
}

async fn pending(store: &Store, admission: Admission) -> String {
    match store.admit(admission).await.unwrap().verdict {
        Verdict::ApprovalPending { id, .. } => id,
        other => panic!("{other:?}"),
    }
}

async fn an_approval_is_spent_once(place: Place) {
    let id = pending(&place.store, asking("a")).await;
    assert_eq!(pending(&place.store, asking("a")).await, id, "the same request, not a second one");
    assert_eq!(place.store.reader().unwrap().approvals().unwrap().len(), 1);

    let approved = place.another().answer(&id, Answer::Approve, "bob").await.unwrap();
    assert_eq!((approved.state, approved.decided_by.as_deref()), (ApprovalState::Approved, Some("bob")));
    let again = place.store.answer(&id, Answer::Approve, "bob").await;
    assert!(matches!(again, Err(StoreError::ApprovalClosed { state: "approved", .. })), "{again:?}");

    let call = asking("a");
    let call_id = call.id.clone();
    let admitted = place.store.admit(call).await.unwrap();
    assert!(matches!(&admitted.verdict, Verdict::Granted { approval: Some(spent), .. } if *spent == id));
    let spent = place.store.reader().unwrap().approval(&id).unwrap();
    assert_eq!((spent.state, spent.spent_by.as_deref()), (ApprovalState::Spent, Some(&*call_id)));
    let second = pending(&place.store, asking("a")).await;
    assert_ne!(second, id);
    for answer in [Answer::Approve, Answer::Deny] {
        assert!(matches!(place.store.answer(&id, answer, "bob").await, Err(StoreError::ApprovalClosed { state: "spent", .. })));
    }

    // What was spent for a call that was never sent can be used again.
    place.store.settle(admitted.reservation, Draft::default(), true).await.unwrap();
    assert_eq!(place.store.reader().unwrap().approval(&id).unwrap().state, ApprovalState::Approved);

    let admin = bodies(&place.store).into_iter().find(|body| member(body, "phase") == "admin").unwrap();
    assert_eq!((member(&admin, "method").as_str(), member(&admin, "principal").as_str()), ("approvals/approve", "bob"));
    assert!(matches!(place.store.answer("nope", Answer::Approve, "bob").await, Err(StoreError::NoSuchApproval(_))));
}

async fn several_people_approve_and_one_denies(place: Place) {
    let of = |count, names: &[&str]| Quorum { count, of: names.iter().map(|name| (*name).to_owned()).collect() };
    let asking_all = |digest: &str, quorums: Vec<Quorum>| {
        let mut admission = asking(digest);
        admission.approval.as_mut().unwrap().quorums = quorums;
        admission
    };
    let asked = || asking_all("a", vec![of(2, &["alice", "bob", "carol"]), of(1, &[])]);
    let id = pending(&place.store, asked()).await;
    let one = place.store.answer(&id, Answer::Approve, "alice").await.unwrap();
    assert_eq!((one.state, one.still_needs(), one.decided_by), (ApprovalState::Pending, 1, None));
    assert_eq!(pending(&place.store, asked()).await, id, "one is not enough");
    let twice = place.another().answer(&id, Answer::Approve, "alice").await;
    assert!(matches!(twice, Err(StoreError::AlreadyApproved { missing: 1, .. })), "{twice:?}");
    let two = place.another().answer(&id, Answer::Approve, "carol").await.unwrap();
    assert_eq!((two.state, two.decided_by.as_deref()), (ApprovalState::Approved, Some("carol")));
    assert_eq!(two.votes.iter().map(|vote| vote.by.as_str()).collect::<Vec<_>>(), ["alice", "carol"]);
    assert!(passes(&place.store, asked()).await);

    let named = pending(&place.store, asking_all("b", vec![of(1, &["alice"])])).await;
    let stranger = place.store.answer(&named, Answer::Approve, "mallory").await;
    assert!(matches!(stranger, Err(StoreError::NotAsked { .. })), "{stranger:?}");
    let denied = place.store.answer(&named, Answer::Deny, "mallory").await.unwrap();
    assert_eq!(denied.state, ApprovalState::Denied, "a no needs nobody's leave");

    let half = pending(&place.store, asking_all("c", vec![of(2, &[])])).await;
    place.store.answer(&half, Answer::Approve, "alice").await.unwrap();
    place.store.answer(&half, Answer::Deny, "bob").await.unwrap();
    assert!(!passes(&place.store, asking_all("c", vec![of(2, &[])])).await);
}

async fn an_approval_is_bound_to_all_that_was_asked(place: Place) {
    let id = pending(&place.store, asking("a")).await;
    place.store.answer(&id, Answer::Approve, "bob").await.unwrap();
    let changed = |change: fn(&mut Admission)| {
        let mut admission = asking("a");
        change(&mut admission);
        admission
    };
    for other in [
        asking("other arguments"),
        changed(|admission| admission.approval.as_mut().unwrap().tool = "other".into()),
        changed(|admission| admission.approval.as_mut().unwrap().policy = "other".into()),
        changed(|admission| admission.subject.server = "other".into()),
        changed(|admission| admission.subject.grant = "other".into()),
        changed(|admission| admission.subject.principal = "other".into()),
    ] {
        assert_ne!(pending(&place.store, other).await, id);
    }
    assert!(passes(&place.store, asking("a")).await);
}

async fn an_approval_expires(place: Place) {
    let late = pending(&place.store, asking("late")).await;
    place.clock.advance(60_000);
    assert_eq!(place.store.reader().unwrap().approval(&late).unwrap().state, ApprovalState::Expired);
    let answer = place.store.answer(&late, Answer::Approve, "bob").await;
    assert!(matches!(answer, Err(StoreError::ApprovalClosed { state: "expired", .. })), "{answer:?}");
    assert_ne!(pending(&place.store, asking("late")).await, late, "the same call asks anew");

    let unused = pending(&place.store, asking("unused")).await;
    place.clock.advance(50_000);
    place.store.answer(&unused, Answer::Approve, "bob").await.unwrap();
    place.clock.advance(60_000);
    assert_ne!(pending(&place.store, asking("unused")).await, unused, "approved, and not used in time");

    let back = pending(&place.store, asking("back")).await;
    place.store.answer(&back, Answer::Approve, "bob").await.unwrap();
    place.clock.advance(-DAY);
    assert_ne!(pending(&place.store, asking("back")).await, back, "a clock set back does not prolong it");
}

async fn arguments_are_kept_while_there_is_something_to_decide(place: Place) {
    let shown = |id: &str| place.store.reader().unwrap().approval(id).unwrap().arguments;
    let whole = ShownArguments::Whole(r#"{"id":1}"#.into());

    let spent = pending(&place.store, asking("spent")).await;
    assert_eq!(shown(&spent), whole);
    let approved = place.store.answer(&spent, Answer::Approve, "bob").await.unwrap();
    assert_eq!((approved.arguments, shown(&spent)), (whole.clone(), whole));
    let admitted = place.store.admit(asking("spent")).await.unwrap();
    assert_eq!(shown(&spent), ShownArguments::Removed);
    place.store.settle(admitted.reservation, Draft::default(), true).await.unwrap();
    assert_eq!(shown(&spent), ShownArguments::Removed, "given back without them");

    let denied = pending(&place.store, asking("denied")).await;
    let answered = place.store.answer(&denied, Answer::Deny, "bob").await.unwrap();
    assert_eq!((answered.arguments, shown(&denied)), (ShownArguments::Removed, ShownArguments::Removed));

    let [tidied, next] = [pending(&place.store, asking("tidied")).await, pending(&place.store, asking("next")).await];
    place.clock.advance(60_000);
    assert_eq!(shown(&tidied), ShownArguments::Overdue, "never given out, though still stored");
    pending(&place.store, asking("another of this grant")).await;
    assert_eq!(shown(&next), ShownArguments::Removed);
    let mut other = asking("other");
    other.subject.grant = "h".into();
    let other = pending(&place.store, other).await;
    place.clock.advance(60_000);
    assert_eq!(shown(&other), ShownArguments::Overdue);
    place.store.tidy(None).await.unwrap();
    assert_eq!(shown(&other), ShownArguments::Removed);
}

async fn long_arguments_are_not_kept(place: Place) {
    let asking = |raw: &str| {
        let mut admission = asking(&format!("{} bytes", raw.len()));
        admission.approval.as_mut().unwrap().arguments = Some(raw.to_owned());
        admission
    };
    let shown = |id: &str| place.store.reader().unwrap().approval(id).unwrap().arguments;
    let long = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));

    let fits = pending(&place.store, asking(&long(64 << 10))).await;
    assert_eq!(shown(&fits), ShownArguments::Whole(long(64 << 10)));
    let id = pending(&place.store, asking(&long((64 << 10) + 1))).await;
    let ShownArguments::TooLong(note) = shown(&id) else { panic!("kept {:?}", shown(&id)) };
    assert_eq!((member(&note, "bytes").as_str(), member(&note, "hmac").len()), ("65537", 64));
    assert!(note.len() < 100, "{note}");
    let played = pending(&place.store, asking(&note)).await;
    assert_eq!(shown(&played), ShownArguments::Whole(note), "arguments that look like the note are arguments");
}

async fn a_refused_approval_stays_refused(place: Place) {
    let id = pending(&place.store, asking("a")).await;
    place.store.answer(&id, Answer::Deny, "bob").await.unwrap();
    let verdict = place.store.admit(asking("a")).await.unwrap().verdict;
    assert_eq!(verdict, Verdict::ApprovalDenied { id: id.clone() });
    assert!(place.store.answer(&id, Answer::Approve, "bob").await.is_err());
    place.clock.advance(60_000);
    assert_ne!(pending(&place.store, asking("a")).await, id, "after its time it may be asked again");

    let taken_back = pending(&place.store, asking("b")).await;
    place.store.answer(&taken_back, Answer::Approve, "bob").await.unwrap();
    place.store.answer(&taken_back, Answer::Deny, "bob").await.unwrap();
    assert!(!passes(&place.store, asking("b")).await);
}

async fn an_exhausted_limit_leaves_the_approval(place: Place) {
    let both = || Admission { charges: vec![limit(1, "minute")], ..asking("a") };
    let id = pending(&place.store, both()).await;
    place.store.answer(&id, Answer::Approve, "bob").await.unwrap();
    assert!(passes(&place.store, call("g", vec![limit(1, "minute")])).await, "asking has charged nothing");
    assert!(matches!(place.store.admit(both()).await.unwrap().verdict, Verdict::Exhausted { .. }));
    assert_eq!(place.store.reader().unwrap().approval(&id).unwrap().state, ApprovalState::Approved);
}

async fn two_spenders_of_one_approval_cannot_both_win(place: Place) {
    let stores = [place.store.clone(), place.another()];
    for round in 0..20 {
        let digest = format!("round {round}");
        let id = pending(&place.store, asking(&digest)).await;
        place.store.answer(&id, Answer::Approve, "bob").await.unwrap();
        assert_eq!(storm(&stores, 20, || asking(&digest)).await, 1);
    }
}

async fn too_many_approvals_are_refused(place: Place) {
    for i in 0..100 {
        pending(&place.store, asking(&i.to_string())).await;
    }
    let verdict = place.store.admit(asking("one more")).await.unwrap().verdict;
    assert_eq!(verdict, Verdict::ApprovalsFull { open: 100 });
    pending(&place.store, asking("5")).await;
    let mut other = asking("one more");
    other.subject.grant = "h".into();
    pending(&place.store, other).await;
    place.clock.advance(60_000);
    pending(&place.store, asking("one more")).await;
}

async fn every_verdict_is_on_record(place: Place) {
    let admitted = place.store.admit(call("g", vec![limit(1, "day")])).await.unwrap();
    assert_eq!(admitted.recorded.seq, 1);
    assert!(!passes(&place.store, call("g", vec![limit(1, "day")])).await);
    pending(&place.store, asking("a")).await;
    let refused = Draft { id: "r".into(), phase: Phase::Refused, method: Some("tools/call".into()), ..Draft::default() };
    assert_eq!(place.store.record(refused).await.unwrap().seq, 4);

    let rows: Vec<_> = place.store.reader().unwrap().list(&Filter::default()).unwrap().map(Result::unwrap).collect();
    let outcomes: Vec<String> = rows.iter().map(|row| member(&row.line(), "outcome")).collect();
    assert_eq!(outcomes, ["allow", "deny", "ask", "null"]);
    for (before, row) in rows.iter().zip(&rows[1..]) {
        assert_eq!(member(&row.line(), "prev"), before.hash);
        assert_eq!(member(&row.line(), "at"), "2026-01-15T10:30:00.000Z");
    }
    let members =
        ["seq", "id", "at", "phase", "server", "method", "tool", "principal", "grant", "outcome", "reason", "rule", "policy"];
    for key in members.iter().chain(&["reply", "hash", "prev"]) {
        member(&rows[3].line(), key);
    }
}

async fn records_are_filtered(place: Place) {
    for i in 0..600 {
        assert!(passes(&place.store, call("g", vec![limit(600, "month")])).await);
        if i == 299 {
            place.clock.advance(DAY);
        }
    }
    assert!(!passes(&place.store, call("g", vec![limit(600, "month")])).await);
    let seqs = |filter: Filter| -> Vec<i64> {
        place.store.reader().unwrap().list(&filter).unwrap().map(|row| row.unwrap().seq).collect()
    };
    let all = Filter::default;
    assert_eq!(seqs(all()), (1..=601).collect::<Vec<_>>());
    assert_eq!(seqs(Filter { since: Some(NOON + 1), ..all() }), (301..=601).collect::<Vec<_>>());
    assert_eq!(seqs(Filter { until: Some(NOON + DAY), ..all() }), (1..=300).collect::<Vec<_>>());
    assert_eq!(seqs(Filter { outcome: Some(Outcome::Deny), ..all() }), [601]);
    assert_eq!(seqs(Filter { reason: Some(Reason::LimitReached), ..all() }), [601]);
    assert_eq!(seqs(Filter { rule: Some("a rule".into()), phase: Some(Phase::Decided), ..all() }), [601]);
    assert_eq!(seqs(Filter { tool: Some("other".into()), ..all() }), [0; 0]);
    assert_eq!(seqs(Filter { server: Some("omics".into()), principal: Some("ann".into()), limit: Some(2), ..all() }), [600, 601]);
    assert_eq!(seqs(Filter { after_seq: Some(599), ..all() }), [600, 601]);
    assert_eq!(seqs(Filter { tool: Some("' OR 1=1 --".into()), ..all() }), [0; 0]);
    assert_eq!(place.store.reader().unwrap().last_seq().unwrap(), 601);
}

async fn records_of_one_call_are_shown_together(place: Place) {
    let admission = call("g", Vec::new());
    let id = admission.id.clone();
    let admitted = place.store.admit(admission).await.unwrap();
    assert!(passes(&place.store, call("g", Vec::new())).await);
    place.store.settle(admitted.reservation, Draft { phase: Phase::Finished, ..Draft::default() }, false).await.unwrap();
    let reader = place.store.reader().unwrap();
    let seqs = |what: &str| reader.show(what).unwrap().iter().map(|row| row.seq).collect::<Vec<_>>();
    assert_eq!(seqs(&id), [1, 3]);
    assert_eq!(seqs("2"), [2]);
    assert_eq!(seqs("nothing"), [0; 0]);
}

async fn a_mistake_in_one_call_does_not_touch_others(place: Place) {
    let panics = Admission { record: Box::new(|_| panic!("a mistake")), ..call("g", vec![limit(1, "day")]) };
    let store = place.store.clone();
    let (broken, sound) = tokio::join!(store.admit(panics), place.store.admit(call("h", vec![limit(1, "day")])));
    assert!(matches!(broken, Err(StoreError::Unavailable { .. })));
    assert!(is_granted(&sound));
    assert!(passes(&place.store, call("g", vec![limit(1, "day")])).await, "what it would have taken was not taken");
    assert!(place.store.reader().unwrap().verify().unwrap().valid);
}

async fn status_counts_calls_and_instances(place: Place) {
    let store = match place.url {
        StateUrl::Memory => place.store.clone(),
        _ => {
            let instance =
                Instance { server: "omics".into(), mode: "run".into(), version: "0.1.0".into(), ..Instance::default() };
            Store::open(
                place.url.clone(),
                store::Options { instance: Some(instance), ..Place::options(&place.directory, &place.clock) },
            )
            .unwrap()
        }
    };
    assert!(passes(&store, call("g", vec![limit(1, "day")])).await);
    for _ in 0..3 {
        assert!(!passes(&store, call("g", vec![limit(1, "day")])).await);
    }
    pending(&store, asking("a")).await;
    store
        .record(Draft { id: "f".into(), phase: Phase::Finished, server: Some("omics".into()), ..Draft::default() })
        .await
        .unwrap();
    let status = store.reader().unwrap().status(None).unwrap();
    let [omics] = &status.servers[..] else { panic!("{status:?}") };
    assert_eq!((omics.calls, omics.allowed, omics.denied, omics.asked), (5, 1, 3, 1));
    assert_eq!((omics.top_rules[0].rule.as_str(), omics.top_rules[0].count), ("a rule", 4));
    assert_eq!((status.waiting, status.records), (1, 6));
    assert!(store.health().trouble.is_none());
    if place.url != StateUrl::Memory {
        assert_eq!(status.instances.len(), 1);
        assert!(status.instances[0].alive && status.instances[0].pid == std::process::id());
        store.close().await;
        assert!(place.store.reader().unwrap().status(None).unwrap().instances.is_empty());
    }
    assert_eq!(place.store.reader().unwrap().status(Some(NOON + 1)).unwrap().servers, []);
}

async fn a_closed_store_denies(place: Place) {
    assert!(passes(&place.store, call("g", Vec::new())).await);
    place.store.close().await;
    let answer = place.store.admit(call("g", Vec::new())).await;
    assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
    place.store.close().await;
}

async fn what_is_kept_is_changed_one_version_at_a_time(place: Place) {
    let (one, other) = (place.store.clone(), place.another());
    let seen = |version| Condition { expected: Expected::Version(version), checked_at: None };
    let put = async |store: &Store, text: Option<&str>, condition| {
        store.change_document(DocumentKind::Policy, "p", text.map(str::to_owned), condition, "ada").await
    };
    let new = Condition { expected: Expected::Nothing, checked_at: Some(0) };
    assert_eq!(put(&one, Some("first"), new).await.unwrap().version, 1);
    assert!(matches!(put(&other, Some("again"), new).await, Err(StoreError::OtherVersion { standing: Some(1), .. })));
    let stale = Condition { expected: Expected::Any, checked_at: Some(0) };
    assert!(matches!(put(&other, Some("again"), stale).await, Err(StoreError::Moved)));
    assert_eq!(put(&other, Some("second"), seen(1)).await.unwrap().version, 2);
    assert!(matches!(put(&one, Some("lost"), seen(1)).await, Err(StoreError::OtherVersion { standing: Some(2), .. })));
    put(&one, None, seen(2)).await.unwrap();
    assert!(matches!(put(&one, None, Condition::default()).await, Err(StoreError::NoSuchDocument { .. })));
    assert_eq!(put(&one, Some("third"), Condition::default()).await.unwrap().version, 4, "a number never means two texts");

    let reader = other.reader().unwrap();
    let kept = reader.kept().unwrap();
    assert_eq!((kept.version, kept.policies.len(), kept.policies[0].text.as_deref()), (4, 1, Some("third")));
    let history = reader.history(DocumentKind::Policy, "p").unwrap();
    let texts: Vec<_> = history.iter().map(|document| document.text.as_deref()).collect();
    assert_eq!(texts, [Some("third"), None, Some("second"), Some("first")]);

    let changes: Vec<String> = bodies(&one).iter().filter(|body| member(body, "phase") == "admin").cloned().collect();
    let done: Vec<String> = changes.iter().map(|body| member(body, "method")).collect();
    assert_eq!(done, ["policies/create", "policies/change", "policies/remove", "policies/create"]);
    let digest = |text: &str| history.iter().find(|document| document.text.as_deref() == Some(text)).unwrap().digest().unwrap();
    let change = member(&changes[1], "change");
    assert!(
        change.contains(&format!(r#""version":2,"before":"{}","after":"{}""#, digest("first"), digest("second"))),
        "{change}"
    );
    assert!(member(&changes[2], "change").ends_with(r#""after":null}"#));
    assert_eq!(member(&changes[1], "principal"), "ada");
}

async fn a_grant_is_a_document_with_a_token(place: Place) {
    let change = async |change, expected| {
        let condition = Condition { expected, checked_at: None };
        place.store.change_grant("g", change, condition, "ada").await
    };
    let spec = |text: &str| GrantChange::Replace { spec: text.to_owned() };
    let create = GrantChange::Create { spec: "one".into(), digest: "d".into() };
    assert_eq!(change(create.clone(), Expected::Nothing).await.unwrap().version, 1);
    assert_eq!(change(spec("two"), Expected::Version(1)).await.unwrap().version, 2);
    assert!(matches!(change(spec("three"), Expected::Version(1)).await, Err(StoreError::OtherVersion { .. })));
    let rotated = change(GrantChange::Rotate { digest: "e".into(), overlap_ms: 0 }, Expected::Any).await.unwrap();
    assert_eq!((rotated.version, rotated.spec.as_deref(), rotated.digest.as_deref()), (2, Some("two"), Some("e")));
    assert_eq!(change(GrantChange::Revoke, Expected::Version(2)).await.unwrap().version, 3);
    assert!(matches!(change(spec("four"), Expected::Any).await, Err(StoreError::Grant(_))));
    assert!(matches!(change(create, Expected::Any).await, Err(StoreError::Grant(_))), "a name is not given twice");
    let kept = place.another().reader().unwrap().kept().unwrap();
    assert_eq!((kept.version, kept.grants.len(), kept.grants[0].revoked), (4, 1, Some(NOON)));
}

async fn the_issuer_that_was_named_first_stays(place: Place) {
    let (one, two) = (place.store.clone(), place.another());
    let first = async |store: &Store, at: &str, issuer| store.first_issuer("web", at, issuer, "old").await.unwrap();
    assert_eq!(first(&one, "https://web/mcp", "https://id").await, "https://id");
    assert_eq!(first(&two, "https://web/mcp", "https://evil").await, "https://id", "on every gateway");
    // Whatever else is called so speaks for itself.
    assert_eq!(first(&two, "https://elsewhere/mcp", "https://other").await, "https://other");
    let recorded: Vec<_> = bodies(&one).iter().map(|body| (member(body, "method"), member(body, "detail"))).collect();
    let told = |issuer: &str| ("authorizations/issuer".to_owned(), format!("first named: {issuer}"));
    assert_eq!(recorded, [told("https://id"), told("https://other")]);
    // What was kept in another form is so once.
    assert_eq!(first(&one, "https://before/mcp", "old").await, "old");
    assert_eq!(first(&two, "https://before/mcp", "https://new").await, "https://new");
    assert_eq!(first(&one, "https://before/mcp", "https://evil").await, "https://new");
    assert_eq!(member(bodies(&one).last().unwrap(), "detail"), "first named, now in full: https://new");
}

async fn a_name_is_used_up_once_by_all(place: Place) {
    let stores = [place.store.clone(), place.another()];
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..64 {
        let store = stores[i % 2].clone();
        tasks.spawn(async move { store.use_up(&format!("token {}", i % 4 / 2), NOON - MINUTE, NOON + MINUTE).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|fresh| *fresh).count(), 2, "each of two names once");
    // As long as it is good somewhere, whatever clocks say, and not for ever.
    let again = async || place.store.use_up("token 0", NOON - MINUTE, NOON + MINUTE).await.unwrap();
    for moment in [0, MINUTE, 60 * MINUTE] {
        place.clock.advance(moment);
        place.store.tidy(None).await.unwrap();
        assert!(!again().await, "{moment}");
        place.clock.advance(-moment);
    }
    // Redis forgets by a clock of its own.
    if !matches!(place.url, StateUrl::Redis { .. }) {
        place.clock.advance(2 * DAY);
        place.store.tidy(None).await.unwrap();
        assert!(again().await);
    }
    assert!(bodies(&place.store).is_empty(), "strangers must not fill the log");
}

async fn what_was_issued_is_its_owners_on_every_gateway(place: Place) {
    let (store, other) = (place.store.clone(), place.another());
    let day = place.clock.now() + 24 * 60 * MINUTE;
    let by = |server: &str, until: i64| Issued { server: server.to_owned(), purpose: "deploy".to_owned(), until };
    for server in ["b", "a", "a"] {
        store.issue("task 1", "ada", by(server, day)).await.unwrap();
    }
    let known = async |store: &Store, thing: &str, owner: &str| {
        let mut found = store.issued(&[thing.to_owned()], owner).await.unwrap();
        assert_eq!(found.len(), 1, "one answer for one thing");
        found.remove(0)
    };
    assert_eq!(known(&other, "task 1", "ada").await, [by("a", day), by("b", day)]);
    for (thing, owner) in [("task 1", "bob"), ("task 2", "ada"), ("ada", "task 1")] {
        assert_eq!(known(&other, thing, owner).await, [], "{thing} of {owner}");
    }
    store.issue("task 3", "ada", by("a", day)).await.unwrap();
    let things = ["task 3", "task 2", "task 1"].map(str::to_owned);
    let found = other.issued(&things, "ada").await.unwrap();
    assert_eq!(found, [vec![by("a", day)], vec![], vec![by("a", day), by("b", day)]], "many are asked for at once");
    assert_eq!(other.issued(&[], "ada").await.unwrap(), Vec::<Vec<Issued>>::new());
    other.issue("task 1", "bob", by("a", day + MINUTE)).await.unwrap();
    place.clock.advance(24 * 60 * MINUTE);
    assert_eq!(known(&store, "task 1", "ada").await, [], "its day is over");
    assert_eq!(known(&store, "task 1", "bob").await, [by("a", day + MINUTE)]);
}

async fn of_what_was_issued_to_one_owner_the_last_thousand_are_kept(place: Place) {
    let (store, day) = (&place.store, place.clock.now() + 24 * 60 * MINUTE);
    let by = |until: i64| Issued { server: "a".to_owned(), purpose: "deploy".to_owned(), until };
    store.issue("task 0", "bob", by(day)).await.unwrap();
    for number in 0..1_010 {
        store.issue(&format!("task {number}"), "ada", by(day + number)).await.unwrap();
    }
    let things = ["task 0", "task 9", "task 10", "task 1009"].map(str::to_owned);
    let found = store.issued(&things, "ada").await.unwrap();
    assert_eq!(found, [vec![], vec![], vec![by(day + 10)], vec![by(day + 1009)]]);
    assert_eq!(store.issued(&things[..1], "bob").await.unwrap(), [[by(day)]], "nobody's push out another's");
}

async fn one_gateway_at_a_time_refreshes_an_authorization(place: Place) {
    let (one, two) = (place.store.clone(), place.another());
    let change = async |store: &Store, change| store.change_authorization("web", "ann", change, "ann").await.unwrap();
    assert!(change(&one, AuthorizationChange::Give("first".into())).await);
    let kept = |store: &Store| store.reader().unwrap().authorizations().unwrap();
    let (version, all) = kept(&two);
    let first = all[0].version;
    assert_eq!((all.len(), all[0].sealed.as_str(), version), (1, "first", first));
    let claim = AuthorizationChange::Claim { version: first, for_ms: 30_000 };
    assert!(change(&one, claim.clone()).await);
    assert!(!change(&two, claim.clone()).await, "somebody is at it");
    place.clock.advance(30_000);
    assert!(change(&two, claim).await, "whoever has claimed it has been gone for long");
    let refresh = |sealed: &str| AuthorizationChange::Refresh { version: first, sealed: sealed.into() };
    assert!(change(&two, refresh("second")).await);
    assert!(!change(&one, refresh("late")).await, "it was written over meanwhile");
    assert!(!change(&one, AuthorizationChange::Forget(Some(first))).await, "that one is gone already");
    assert_eq!(kept(&one).1[0].sealed, "second");
    assert!(kept(&one).0 > version);
    assert!(change(&one, AuthorizationChange::Forget(None)).await);
    assert!(kept(&two).1.is_empty());
    let recorded: Vec<_> = bodies(&one).iter().map(|body| member(body, "method")).collect();
    assert_eq!(recorded, ["authorizations/give", "authorizations/forget"], "refreshing is no event");
}
