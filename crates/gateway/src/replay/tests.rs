//! What was really decided, decided again.

use super::*;
use crate::enforcer::{Caller, Enforcer, Facts};
use crate::suggest::Observed;
use json::Document;
use policy::Source;
use std::collections::BTreeSet;
use std::sync::Arc;
use store::{Answer, ArgumentsMode, Clock, Draft, Filter, Options, Phase, StateUrl, Store};

const POLICY: &str = r#"
version: "1"
default: deny
hide: [wipe]
tools:
  read:
    rules:
      - {name: inside, conditions: [{path: args.path, op: starts_with, value: /srv/}]}
      - {name: pace, rate_limit: 3/minute}
  pay:
    rules:
      - {name: budget, spend: {per_call: 50, daily: 200}}
      - {name: once, idempotency_window: 5m}
      - {name: large, action: require_approval, conditions: [{path: args.amount, op: gt, value: 40}], approval_timeout: 10m}
  list: {limits: [{counter: lists, window: 15m, max: 5, scope: principal}], time: {hours: "08:00-18:00"}}
"#;

/// A gateway without a server, whose clock only the test moves.
struct World {
    store: Store,
    clock: Clock,
    enforcer: Arc<Enforcer>,
    waiting: Vec<String>,
}

impl World {
    fn new(policy: &str, mode: ArgumentsMode) -> World {
        let start: Timestamp = "2026-01-15T09:00:00Z".parse().unwrap();
        let clock = Clock::simulated(start.as_millisecond());
        let store = Store::open(StateUrl::Memory, Options { clock: clock.clone(), ..Options::default() }).unwrap();
        let enforcer = Enforcer::new(store.clone(), "s", mode, policies(policy));
        World { store, clock, enforcer, waiting: Vec::new() }
    }

    /// Makes a call; where it is let through, it ends as `reply` says.
    async fn call(&mut self, grant: &str, tool: &str, arguments: &str, reply: Reply) -> Outcome {
        let document = Document::parse(arguments.to_owned(), Strictness::Request).unwrap();
        let facts = Facts::of(tool, Some(document.root()));
        let caller = Caller { principal: "ada".into(), grant: grant.into(), ..Caller::default() };
        let Decided { decision, id, reservation, waiting, .. } =
            self.enforcer.decide(facts, &self.enforcer.policies(&caller), &caller).await;
        self.waiting.extend(waiting.map(|waiting| waiting.approval.id));
        if decision.outcome == Outcome::Allow {
            let draft = Draft {
                id,
                phase: Phase::Finished,
                method: Some("tools/call".into()),
                tool: Some(tool.into()),
                reply: Some(reply),
                ..Draft::default()
            };
            self.store.settle(reservation, draft, reply == Reply::Refused).await.unwrap();
        }
        decision.outcome
    }

    /// Lives through many calls that depend on each other.
    async fn live(&mut self, seed: u64, calls: usize) {
        let mut chance = Chance(seed);
        for _ in 0..calls {
            self.clock.advance(chance.below(40_000));
            let (tool, arguments) = match chance.below(8) {
                0 => ("wipe", "{}".to_owned()),
                1 => ("other", "{}".to_owned()),
                2 | 3 => ("list", "{}".to_owned()),
                4 | 5 => ("read", format!(r#"{{"path":"/{}/{}"}}"#, ["srv/a", "srv/b", "etc"][chance.pick(3)], chance.below(9))),
                _ => ("pay", format!(r#"{{"amount":{},"to":"{}"}}"#, chance.below(60), ["bob", "eve"][chance.pick(2)])),
            };
            let reply = if chance.below(5) == 0 { Reply::Refused } else { Reply::Completed };
            let grant = ["day", "night"][chance.pick(2)];
            let outcome = self.call(grant, tool, &arguments, reply).await;
            if outcome == Outcome::Ask {
                let id = self.waiting.pop().unwrap();
                let answer = if chance.below(3) == 0 { Answer::Deny } else { Answer::Approve };
                self.store.answer(&id, answer, "bob").await.unwrap();
                self.clock.advance(chance.below(20_000));
                self.call(grant, tool, &arguments, reply).await;
            }
        }
    }

    fn rows(&self) -> Vec<Row> {
        let reader = self.store.reader().unwrap();
        reader.list(&Filter::default()).unwrap().map(Result::unwrap).collect()
    }
}

/// Numbers that are the same at every run (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        i64::try_from((z >> 1) % end.unsigned_abs()).unwrap()
    }

    fn pick(&mut self, end: usize) -> usize {
        usize::try_from(self.below(i64::try_from(end).unwrap())).unwrap()
    }
}

#[track_caller]
fn policies(text: &str) -> Policies {
    let loaded = policy::load(&Source::new("p.yaml", text));
    assert_eq!(loaded.problems, [], "{text}");
    loaded.policy.unwrap().into()
}

async fn replayed(rows: &[Row], policies: Policies) -> (Vec<Replayed>, Tally) {
    let keeping = rows.iter().filter_map(Replay::keeping).collect();
    let mut replay = Replay::new(policies, HashMap::new(), None, keeping, i64::MIN).unwrap();
    let mut all = Vec::new();
    for row in rows {
        all.push(replay.take(row).await);
    }
    (all, replay.tally())
}

#[tokio::test]
async fn under_the_same_policy_nothing_is_decided_otherwise() {
    for seed in 0..4 {
        let mut world = World::new(POLICY, ArgumentsMode::Full);
        world.live(seed, 150).await;
        let rows = world.rows();
        let (all, tally) = replayed(&rows, policies(POLICY)).await;
        let wrong: Vec<_> = all.iter().filter(|one| matches!(one, Replayed::Different(_) | Replayed::Unknown(_))).collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
        let allowed = all.iter().filter(|one| matches!(one, Replayed::Same { allowed: true })).count() as u64;
        assert!(tally.decided >= 150 && allowed > 20 && allowed < tally.decided, "{allowed} of {tally:?}");
    }
}

#[tokio::test]
async fn another_policy_shows_what_it_would_have_denied_and_allowed() {
    let mut world = World::new(
        "version: '1'\ntools: {a: {rules: [{name: two, rate_limit: 2/minute}]}, b: {action: deny}}\n",
        ArgumentsMode::Full,
    );
    for tool in ["a", "a", "a", "b"] {
        world.call("g", tool, "{}", Reply::Completed).await;
    }
    let (all, tally) =
        replayed(&world.rows(), policies("version: '1'\ntools: {a: {rules: [{name: one, rate_limit: 1/minute}]}}\n")).await;
    let told: Vec<String> = all
        .iter()
        .filter_map(|one| match one {
            Replayed::Different(found) => {
                Some(format!("{} {} {}", found.which.tool.as_deref()?, found.was.reason, found.now.reason))
            }
            _ => None,
        })
        .collect();
    assert_eq!(told, ["a allowed limit-reached", "b denied-by-rule allowed"]);
    assert_eq!((tally.decided, tally.different, tally.stricter, tally.looser), (4, 2, 1, 1));
}

#[tokio::test]
async fn what_is_not_kept_is_not_guessed_and_not_needed_where_nothing_looks_at_it() {
    for mode in [ArgumentsMode::Hmac, ArgumentsMode::Drop] {
        let mut world = World::new("version: '1'\ntools: {x: {action: deny}}\n", mode);
        world.call("g", "t", r#"{"a":1}"#, Reply::Completed).await;
        let looks = policies("version: '1'\ntools: {t: {require: [{conditions: [{path: args.a, op: eq, value: 1}]}]}}\n");
        assert_eq!(replayed(&world.rows(), looks).await.1.unknown, 1, "{mode:?}");
        let counts = policies("version: '1'\ntools: {t: {rate_limit: 1/minute}}\n");
        assert_eq!(replayed(&world.rows(), counts).await.1.decided, 1, "{mode:?}");
    }
    let mut world = World::new("version: '1'\ntools: {x: {action: deny}}\n", ArgumentsMode::Redacted);
    world.call("g", "t", r#"{"a":1,"token":"hunter2"}"#, Reply::Completed).await;
    let of = |path: &str| {
        policies(&format!(
            "version: '1'\ntools: {{t: {{require: [{{conditions: [{{path: {path}, op: exists, value: true}}]}}]}}}}\n"
        ))
    };
    assert_eq!(replayed(&world.rows(), of("args.a")).await.1.decided, 1);
    assert_eq!(replayed(&world.rows(), of("args.token")).await.1.unknown, 1);
}

#[tokio::test]
async fn a_suggested_policy_passes_the_check_and_allows_all_that_was_allowed() {
    for seed in 10..14 {
        let mut world = World::new(POLICY, ArgumentsMode::Full);
        world.live(seed, 120).await;
        let rows = world.rows();
        for includes_denied in [false, true] {
            let mut observed = Observed::new(includes_denied);
            rows.iter().for_each(|row| observed.take(row, |_| true));
            let suggested = policies(&observed.policy(&BTreeSet::new()));
            let (all, _) = replayed(&rows, suggested).await;
            let wanted = rows.iter().zip(&all).filter(|(row, _)| observed.wants(row));
            let refused = wanted.filter(|(_, replayed)| match replayed {
                Replayed::Same { allowed } => !allowed,
                Replayed::Different(difference) => difference.now.outcome != Outcome::Allow,
                Replayed::Unknown(_) | Replayed::Passed => true,
            });
            let refused: Vec<_> = refused.collect();
            assert!(refused.is_empty(), "seed {seed}: {refused:#?} {}", observed.policy(&BTreeSet::new()));
        }
    }
}

#[tokio::test]
async fn a_suggestion_lists_what_recurs_and_bounds_what_differs() {
    let mut world = World::new("version: '1'\ndefault: allow\ntools: {x: {action: deny}}\n", ArgumentsMode::Full);
    for n in 1..=4 {
        let arguments = format!(
            r#"{{"path":"/srv/data/{n}.txt","mode":"text","head":{n},"tags":["a","b"],"opts":{{"deep":true,"x.y":{n}}},"any":[{n}]}}"#
        );
        world.call("g", "read", &arguments, Reply::Completed).await;
    }
    world
        .call("g", "read", r#"{"path":"/srv/data/x","mode":"text","opts":{"deep":true,"x.y":1},"any":{}}"#, Reply::Completed)
        .await;
    let mut observed = Observed::new(false);
    world.rows().iter().for_each(|row| observed.take(row, |_| true));
    let text = observed.policy(&BTreeSet::new());
    let rules = &text[text.find("tools:").unwrap()..];
    let expected = r#"tools:
  "read":
    # 5 calls, at most 5 a minute
    rate_limit: 7/minute
    require:
      - conditions: [{path: "args.mode", op: in, value: ["text"]}]  # 1 value in 5 uses
      - conditions: [{path: "args.opts.deep", op: in, value: [true]}]  # 1 value in 5 uses
      - conditions: [{path: "args.path", op: path_within, value: ["/srv/data"]}]  # paths in this directory
    deny_if:
      - conditions: [{path: "args.any[*]", op: lt, value: 1, quantifier: any}]  # from 1 to 4
      - conditions: [{path: "args.any[*]", op: gt, value: 4, quantifier: any}]  # from 1 to 4
      - conditions: [{path: "args.head", op: lt, value: 1}]  # from 1 to 4
      - conditions: [{path: "args.head", op: gt, value: 4}]  # from 1 to 4
      - conditions: [{path: "args.opts[\"x.y\"]", op: lt, value: 1}]  # from 1 to 4
      - conditions: [{path: "args.opts[\"x.y\"]", op: gt, value: 4}]  # from 1 to 4
      - conditions: [{path: "args.tags[*]", op: not_in, value: ["a", "b"], quantifier: any}]  # 2 values in 8 uses
"#;
    assert_eq!(rules, expected);
    // What no condition can say of `any` shows when it is tried.
    let (all, _) = replayed(&world.rows(), policies(&text)).await;
    assert_eq!(all.iter().filter(|one| matches!(one, Replayed::Different(_))).count(), 1);
    policies(&observed.policy(&["read".to_owned()].into()));
}
