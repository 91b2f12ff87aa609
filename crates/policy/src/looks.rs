//! What the rules for a tool go by: for whoever judges a call anew and does not have all of it any more.

use crate::model::{AmountFrom, Check, Condition, Path, Policy, Segment};
use crate::policies::Policies;
use crate::risk::RiskClass;
use json::Value;

/// A part of the arguments.
enum Look<'p> {
    At(&'p Path),
    /// All of them.
    Whole,
}

impl Policies {
    /// Whether some rule for a tool of this class looks at the arguments of its calls.
    pub fn look_at_arguments(&self, tool: &str, class: Option<RiskClass>) -> bool {
        self.each().iter().any(|policy| !looks(policy, tool, class).is_empty())
    }

    /// What of a call's arguments the rules for a tool of this class look at, as far as it is there.
    pub fn looked_at<'v>(&self, tool: &str, class: Option<RiskClass>, arguments: Value<'v>) -> Vec<Value<'v>> {
        let looks = self.each().iter().flat_map(|policy| looks(policy, tool, class));
        looks
            .flat_map(|look| match look {
                Look::Whole => vec![arguments],
                Look::At(path) => path.values(arguments),
            })
            .collect()
    }

    /// The beginning of what matters for a call at this time, in milliseconds since the Unix epoch: what was counted, asked or
    /// called before it does not count any more.
    pub fn goes_back_to(&self, at: i64) -> i64 {
        let checks = self.each().iter().flat_map(|policy| &policy.entries).flat_map(|entry| &entry.rules);
        let back = |span: jiff::SignedDuration| at.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
        let from = checks.flat_map(|rule| &rule.checks).filter_map(|check| match check {
            Check::Limit(limit) => Some(limit.counter.window.counts_from(at)),
            Check::Watch(watch) => Some(watch.counter.window.counts_from(at)),
            Check::Once(span) => Some(back(*span)),
            // It waits so long, and then may be used for as long again.
            Check::Ask { asking, .. } => Some(back(asking.timeout).saturating_sub(at.saturating_sub(back(asking.timeout)))),
            Check::Deny
            | Check::Require(_)
            | Check::DenyIf(_)
            | Check::PerCall { .. }
            | Check::Validate(_)
            | Check::During(_) => None,
        });
        from.min().unwrap_or(at)
    }
}

fn looks<'p>(policy: &'p Policy, tool: &str, class: Option<RiskClass>) -> Vec<Look<'p>> {
    let of_conditions = |conditions: &'p [Condition]| conditions.iter().map(|condition| Look::At(&condition.path)).collect();
    let of_amount = |amount: &'p AmountFrom| match amount {
        AmountFrom::Fixed(_) => None,
        AmountFrom::Path(path) => Some(Look::At(path)),
    };
    let of_check = |check: &'p Check| -> Vec<Look<'p>> {
        match check {
            Check::Require(conditions) | Check::DenyIf(conditions) | Check::Ask { when: conditions, .. } => {
                of_conditions(conditions)
            }
            Check::Limit(limit) => {
                of_amount(&limit.amount).into_iter().chain(limit.weight.as_ref().and_then(of_amount)).collect()
            }
            Check::PerCall { amount, .. } => of_amount(amount).into_iter().collect(),
            Check::Validate(_) => vec![Look::Whole],
            // Two calls are the same by a digest, which is there where the arguments are not.
            Check::Deny | Check::Watch(_) | Check::During(_) | Check::Once(_) => Vec::new(),
        }
    };
    let rules: Vec<_> = policy.rules_for(tool, class).collect();
    rules.into_iter().flat_map(|(_, rule)| &rule.checks).flat_map(of_check).collect()
}

impl Path {
    /// The values to which it leads; where it leads nowhere for another reason than that something is missing, all.
    fn values<'v>(&self, arguments: Value<'v>) -> Vec<Value<'v>> {
        // A length is of something that must be there.
        let is_length = self.segments.last() == Some(&Segment::Length);
        let segments = &self.segments[..self.segments.len() - usize::from(is_length)];
        let path = Path { text: self.text.clone(), segments: segments.to_vec() };
        path.found(arguments).unwrap_or_else(|| vec![arguments])
    }
}
