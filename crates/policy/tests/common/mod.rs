//! Counters in memory, for tests: what a store does, without one.

use policy::{Amount, Call, Decision, Outcome, Plan, Policy, Schema, Usage};
use std::collections::HashMap;

/// The buckets of every counter, by owner, name and window.
#[derive(Default)]
pub struct Counters {
    held: HashMap<(String, String, String), Vec<(i64, Amount)>>,
}

impl Counters {
    /// Decides a call, and takes what it takes: all or none.
    pub fn decide(&mut self, policy: &Policy, call: &Call<'_>) -> Decision {
        self.take(policy.evaluate(call), call.at.as_millisecond())
    }

    pub fn take(&mut self, plan: Plan, now: i64) -> Decision {
        // A question is answered first; until then nothing is taken.
        if plan.decision.outcome != Outcome::Allow {
            return plan.granted(&[]);
        }
        let key = |counter: &policy::Counter| (counter.owner.to_string(), counter.name.to_string(), counter.window.key());
        let usages: Vec<Usage> = plan
            .charges
            .iter()
            .map(|charge| charge.usage(self.held.get(&key(&charge.counter)).map_or(&[], Vec::as_slice), now))
            .collect();
        if let Some(index) = plan.charges.iter().zip(&usages).position(|(charge, usage)| charge.refuses(usage)) {
            return plan.exhausted(index, &usages[index]);
        }
        for charge in plan.charges.iter().filter(|charge| charge.amount != Amount::ZERO) {
            let bucket = charge.counter.window.bucket(now);
            self.held.entry(key(&charge.counter)).or_default().push((bucket, charge.amount));
        }
        plan.granted(&usages)
    }
}

/// Decides a call whose arguments are this text (or absent), at this time.
pub fn decide(counters: &mut Counters, policy: &Policy, tool: &str, arguments: Option<&str>, at: jiff::Timestamp) -> Decision {
    let document = arguments.map(|text| json::Document::parse(text.to_owned(), json::Strictness::Request).expect("arguments"));
    let call = Call {
        tool,
        arguments: document.as_ref().map(json::Document::root),
        schema: Schema::Unjudged,
        class: None,
        at,
        explained: true,
    };
    counters.decide(policy, &call)
}

/// The policy of a text without errors.
#[track_caller]
pub fn load(name: &str, text: &str) -> Policy {
    let source = policy::Source::new(name, text);
    let loaded = policy::load(&source);
    let problems: Vec<String> = loaded.problems.iter().map(|problem| problem.render(&source, false)).collect();
    loaded.policy.unwrap_or_else(|| panic!("{text}\n{}", problems.join("\n")))
}
