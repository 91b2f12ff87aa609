//! No span of a sliding window's length ever holds more than the limit, however calls fall and clocks are set back.

#![allow(clippy::unwrap_used, reason = "helpers of tests are test code")]

mod support;

use policy::{Mode, Scope};
use proptest::prelude::*;
use store::{Clock, StateUrl, Store};
use support::*;

/// What happens before a call: so much time passes, and then the clock is set back by so much. Then the call's amount.
type Step = (i64, i64, u64);

fn step() -> impl Strategy<Value = Step> {
    let passes = prop_oneof![Just(0), 1..900_i64, 900..20_000_i64, 55_000..65_000_i64];
    let back = prop_oneof![9 => Just(0), 1 => 1..200_000_i64];
    (passes, back, 1..4_u64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_span_holds_more_than_its_limit(steps in prop::collection::vec(step(), 1..60), max in 1..6_u64) {
        let granted = play(&steps, max);
        for (i, &(start, _)) in granted.iter().enumerate() {
            let span: u64 = granted[i..].iter().take_while(|(at, _)| *at < start + MINUTE).map(|(_, amount)| amount).sum();
            prop_assert!(span <= max, "{} in the minute from {}", span, start);
        }
    }
}

/// Gives when each call that passed was made, by a clock that nobody sets, and what it took.
fn play(steps: &[Step], max: u64) -> Vec<(i64, u64)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let clock = Clock::simulated(NOON);
        let store = Store::open(StateUrl::Memory, options(&clock)).unwrap();
        let mut granted = Vec::new();
        let mut elapsed = 0;
        for &(passed, back, amount) in steps {
            elapsed += passed;
            clock.advance(passed - back);
            let charge = charge_of("calls", "minute", Scope::Grant, &amount.to_string(), &max.to_string(), Mode::Enforce);
            if passes(&store, call("g", vec![charge])).await {
                granted.push((elapsed, amount));
            }
        }
        granted
    })
}
