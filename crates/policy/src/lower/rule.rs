//! Rules: the items of `rules:`, and the parts they share with tools (`action`, `validate`, `time`, messages).

use super::approval::ASKING_KEYS;
use super::condition::{Conditions, Counters};
use super::{Context, Lowering, RuleDraft};
use crate::approval::Asking;
use crate::model::{Check, Condition, Mode, Template, Validate};
use crate::outline::CheckPlace;
use crate::problem::code;
use crate::reader::Fields;
use crate::schedule::Schedule;
use crate::source::{Kind, Node};
use crate::text::{Span, shown};
use crate::window::{Zone, parse_span};
use jiff::SignedDuration;

/// What `action:` says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Evaluate,
    Allow,
    Deny,
    RequireApproval,
}

impl Lowering<'_> {
    /// An item of `rules:`; a nameless one goes by its position, which is its JSON Pointer: `index` counts from 0.
    pub(super) fn rule(&mut self, context: &Context, index: usize, node: &Node) -> Option<RuleDraft> {
        let fields = self.fields(node, "a rule", RULE_KEYS)?;
        let name = self.rule_name(&fields);
        let at = fields.member("name").map_or(&node.at, |member| &member.value.at);
        let mut rule = RuleDraft::new(name.unwrap_or_else(|| format!("{}/rules/{index}", context.pointer)), at);
        self.message_and_mode(&fields, &mut rule);
        let action = fields.get("action").map(|node| self.word(node, "action", ACTIONS));
        let Some(action) = action.unwrap_or(Some(Action::Evaluate)) else {
            self.everything_in(context, &fields, &mut rule);
            return Some(rule);
        };
        self.combination(&fields, action);
        match action {
            Action::Deny => {
                rule.push(Check::Deny, fields.get("action").map_or(&node.at, |node| &node.at));
            }
            Action::Allow | Action::Evaluate | Action::RequireApproval => {
                self.restrictions(&fields, &mut rule);
                self.by_action(context, action, &fields, &mut rule);
                self.counters(context, &fields, &mut rule);
            }
        }
        Some(rule)
    }

    /// Lowers the parts of a rule whose action is unknown, so that their mistakes are found too.
    fn everything_in(&mut self, context: &Context, fields: &Fields<'_>, rule: &mut RuleDraft) {
        self.restrictions(fields, rule);
        if let Some(node) = fields.get("conditions") {
            self.conditions(node, Counters::Allowed);
        }
        self.counters(context, fields, rule);
    }

    /// Reports keys that do not go with the action.
    fn combination(&mut self, fields: &Fields<'_>, action: Action) {
        let (keys, help): (&[&str], &str) = match action {
            Action::Deny => (
                &["conditions", "state", "rate_limit", "validate", "spend", "spend_limit", "idempotency_window", "time"],
                "remove it; to deny some calls only, use `action: evaluate` with conditions that must hold, or `deny_if`",
            ),
            Action::Allow => {
                (&["conditions", "state"], "use `action: evaluate`: the conditions must then hold, else the call is denied")
            }
            Action::RequireApproval => (&["state"], "put the counter into a rule of its own"),
            Action::Evaluate => (&[], ""),
        };
        for key in keys {
            if let Some(member) = fields.member(key) {
                let action = ACTIONS.iter().find(|(_, known)| *known == action).map_or("", |(word, _)| word);
                let message = format!("`{key}` has no meaning with `action: {action}`");
                self.error(code::COMBINATION, &member.key_at, message).help = Some(help.into());
            }
        }
        // Whether such a limit counts the calls that the conditions are about, or all, would be anybody's guess (and for
        // `rate_limit` Intercept's documentation refuses it, too).
        let own_rule: &[&str] = match (action, fields.any(&["conditions", "state"])) {
            (Action::RequireApproval, Some(_)) => &[&COUNTED[..], &["validate", "time"]].concat(),
            (Action::Evaluate, Some(_)) => &["rate_limit"],
            _ => &[],
        };
        for key in own_rule {
            if let Some(member) = fields.member(key) {
                let other = fields.any(&["conditions", "state"]).map_or("conditions", |member| member.key.as_str());
                let message = format!("`{key}` beside `{other}`");
                let problem = self.error(code::COMBINATION, &member.key_at, message);
                problem.label = Some(format!("the `{other}` would not apply to it"));
                problem.help = Some(format!("put `{key}` into a rule of its own"));
            }
        }
        for key in ASKING_KEYS.iter().filter(|_| action != Action::RequireApproval) {
            if let Some(member) = fields.member(key) {
                self.error(code::COMBINATION, &member.key_at, format!("`{key}` without an approval")).help =
                    Some("add `action: require_approval`".into());
            }
        }
        let counters = ["rate_limit", "spend", "spend_limit"];
        for (key, needs) in
            [("increment_from", &counters[1..]), ("scope", &counters[..]), ("align", &counters[..]), ("timezone", &counters[..])]
        {
            if let Some(member) = fields.member(key)
                && fields.any(needs).is_none()
            {
                let place = if fields.get("state").is_some() { "move it into `state`" } else { "remove it" };
                self.error(code::COMBINATION, &member.key_at, format!("`{key}` has nothing to apply to here")).help =
                    Some(place.into());
            }
        }
    }

    /// `time` and `validate`.
    fn restrictions(&mut self, fields: &Fields<'_>, rule: &mut RuleDraft) {
        if let Some(node) = fields.get("time") {
            self.during(node, rule);
        }
        if let Some(node) = fields.get("validate") {
            self.validated(node, rule);
        }
    }

    pub(super) fn during(&mut self, node: &Node, rule: &mut RuleDraft) {
        if let Some(schedule) = self.time(node) {
            rule.push(Check::During(schedule), &node.at);
        }
    }

    pub(super) fn validated(&mut self, node: &Node, rule: &mut RuleDraft) {
        if let Some(validate) = self.validate(node) {
            rule.push(Check::Validate(validate), &node.at);
        }
    }

    fn by_action(&mut self, context: &Context, action: Action, fields: &Fields<'_>, rule: &mut RuleDraft) {
        let conditions = fields.get("conditions");
        match action {
            Action::RequireApproval => {
                let instead = "use `limits` or a `state` rule to bound a counter; an approval can only depend on arguments";
                let when = conditions.map(|node| self.conditions(node, Counters::Refused { instead }));
                let asking = self.asking(fields, &Asking::default());
                let at = fields.get("action").map_or(fields.node.at.clone(), |node| node.at.clone());
                push_ask(rule, when.unwrap_or_default(), asking, &at);
            }
            Action::Evaluate => self.evaluate(context, conditions, fields, rule),
            Action::Allow | Action::Deny => {}
        }
    }

    fn evaluate(&mut self, context: &Context, conditions: Option<&Node>, fields: &Fields<'_>, rule: &mut RuleDraft) {
        let mut lowered = Conditions { whole: true, ..Conditions::default() };
        if let Some(node) = conditions {
            lowered = self.conditions(node, Counters::Allowed);
            if matches!(&node.kind, Kind::Array(elements) if elements.is_empty()) {
                self.error(code::MISSING, &node.at, "`conditions` is empty").help =
                    Some("add a condition, or write `action: deny` or `action: allow`".into());
            }
        } else if fields.any(SHORTHANDS).is_none() && fields.get("state").is_none() {
            let problem = self.error(code::MISSING, &rule.at, format!("rule `{}` does nothing", shown(&rule.reference)));
            problem.label = Some("expected `conditions`, or a shorthand such as `rate_limit`".into());
            problem.help = Some("add `conditions:`, or write `action: deny` or `action: allow`".into());
        }
        if !lowered.arguments.is_empty() {
            let at = conditions.map_or(fields.node.at.clone(), |node| node.at.clone());
            rule.push_conditions(Check::Require, lowered.arguments, &at);
        }
        if let Some(node) = fields.get("state") {
            self.state(context, node, &mut lowered.counters, lowered.whole, rule);
        }
        rule.watches.append(&mut lowered.counters);
    }

    /// `idempotency_window` and the counters.
    fn counters(&mut self, context: &Context, fields: &Fields<'_>, rule: &mut RuleDraft) {
        if let Some(node) = fields.get("idempotency_window")
            && let Some(span) = self.span_of_time(node, "`idempotency_window`")
        {
            rule.push(Check::Once(span), &node.at);
        }
        if let Some(node) = fields.get("rate_limit") {
            self.rate_limit(context, fields, node, rule);
        }
        if let Some(node) = fields.get("spend") {
            self.spend(context, fields, node, rule);
        }
        if let Some(node) = fields.get("spend_limit") {
            self.spend_limit(context, fields, node, rule);
        }
    }

    pub(super) fn rule_name(&mut self, fields: &Fields<'_>) -> Option<String> {
        let node = fields.get("name")?;
        self.name(node, "`name`").map(str::to_owned)
    }

    /// `on_deny`, `reason` or `message`; and `mode`.
    pub(super) fn message_and_mode(&mut self, fields: &Fields<'_>, rule: &mut RuleDraft) {
        rule.message = self.message(fields);
        rule.mode = self.mode(fields);
    }

    pub(super) fn message(&mut self, fields: &Fields<'_>) -> Option<Template> {
        let mut message: Option<(&str, &Node)> = None;
        for key in ["on_deny", "reason", "message"] {
            let Some(member) = fields.member(key) else { continue };
            if let Some((first, _)) = message {
                let problem = self.error(code::COMBINATION, &member.key_at, format!("both `{first}` and `{key}`"));
                problem.help = Some("keep one: they are the same thing".into());
                continue;
            }
            message = Some((key, &member.value));
        }
        let (key, node) = message?;
        let text = self.string(node, &format!("`{key}`"))?;
        // A block (`|`) ends with a line break that nobody means.
        Some(Template(text.trim_end().to_owned())).filter(|template| !template.0.is_empty())
    }

    pub(super) fn mode(&mut self, fields: &Fields<'_>) -> Mode {
        let words = [("enforce", Mode::Enforce), ("shadow", Mode::Shadow)];
        fields.get("mode").and_then(|node| self.word(node, "`mode`", &words)).unwrap_or(Mode::Enforce)
    }

    pub(super) fn span_of_time(&mut self, node: &Node, what: &str) -> Option<SignedDuration> {
        let Some(text) = node.as_str() else {
            self.wrong_type(node, what, SPAN);
            if let (Kind::Number(number), Some(problem)) = (&node.kind, self.problems.last_mut()) {
                problem.help = Some(format!("write `{number}s` for seconds"));
            }
            return None;
        };
        let span = parse_span(text);
        if span.is_none() {
            let problem = self.error(code::TIME, &node.at, format!("`{}` is not a span of time", shown(text)));
            problem.label = Some(format!("expected {SPAN}, from one second to 400 days"));
        }
        span
    }

    fn validate(&mut self, node: &Node) -> Option<Validate> {
        let fields = self.fields(node, "`validate`", &["required_args", "types", "unknown"])?;
        let required_args = fields.get("required_args").map(|node| self.boolean(node, "`required_args`"));
        let types = fields.get("types").map(|node| self.boolean(node, "`types`"));
        let unknown = [("deny", true), ("allow", false)];
        let deny_unknown = fields.get("unknown").map(|node| self.word(node, "`unknown`", &unknown));
        if fields.members().is_empty() {
            self.error(code::MISSING, &node.at, "`validate` checks nothing").help =
                Some("write `validate: {required_args: true, types: true, unknown: deny}`".into());
        }
        let or_false = |value: Option<Option<bool>>| value.unwrap_or(Some(false));
        Some(Validate { required_args: or_false(required_args)?, types: or_false(types)?, deny_unknown: or_false(deny_unknown)? })
    }

    fn time(&mut self, node: &Node) -> Option<Schedule> {
        let fields = self.fields(node, "`time`", &["days", "hours", "timezone"])?;
        let zone = fields.get("timezone").map(|node| self.zone(node)).unwrap_or(Some(Zone::utc()));
        if fields.any(&["days", "hours"]).is_none() {
            self.error(code::MISSING, &node.at, "`time` names neither days nor hours").help =
                Some("write `time: {days: mon-fri, hours: 09:00-17:00, timezone: Europe/Berlin}`".into());
            return None;
        }
        let days = fields.get("days").map(|node| self.joined(node, "`days`"));
        let hours = fields.get("hours").map(|node| self.joined(node, "`hours`"));
        // Each by itself first, so that a mistake is reported where it is.
        let mut whole = true;
        for (node, days, hours) in
            [(fields.get("days"), days.clone().flatten(), None), (fields.get("hours"), None, hours.clone().flatten())]
        {
            if let (Some(node), true) = (node, days.is_some() || hours.is_some())
                && let Err(reason) = Schedule::parse(days.as_deref(), hours.as_deref(), Zone::utc())
            {
                self.error(code::TIME, &node.at, reason);
                whole = false;
            }
        }
        let (days, hours) = (days.unwrap_or(Some(String::new()))?, hours.unwrap_or(Some(String::new()))?);
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        if !whole {
            return None;
        }
        Schedule::parse(given(days).as_deref(), given(hours).as_deref(), zone?).ok()
    }

    /// A string, or a list of strings, which is joined by commas.
    fn joined(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.kind {
            Kind::Array(elements) if !elements.is_empty() => {
                let parts: Vec<_> = elements.iter().map(|element| self.string(element, what)).collect();
                Some(parts.into_iter().collect::<Option<Vec<_>>>()?.join(","))
            }
            _ => {
                let text = self.string(node, what)?;
                if text.is_empty() {
                    self.error(code::TIME, &node.at, format!("{what} is empty"));
                    return None;
                }
                Some(text.to_owned())
            }
        }
    }
}

/// Asks when all of `when` hold, always when there are none.
pub(super) fn push_ask(rule: &mut RuleDraft, when: Conditions, asking: Asking, at: &Span) {
    let (when, conditions): (Vec<Condition>, Vec<_>) = when.arguments.into_iter().unzip();
    rule.checks.push((Check::Ask { when, asking }, CheckPlace { conditions, ..CheckPlace::of(at) }));
}

const SPAN: &str = "a span such as `30s`, `15m`, `2h` or `3d`";

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("evaluate", Action::Evaluate),
    ("allow", Action::Allow),
    ("deny", Action::Deny),
    ("require_approval", Action::RequireApproval),
];

/// What takes something from a counter, or remembers the call.
const COUNTED: [&str; 4] = ["rate_limit", "spend", "spend_limit", "idempotency_window"];

/// What makes a rule do something without conditions.
const SHORTHANDS: &[&str] = &["rate_limit", "validate", "spend", "spend_limit", "idempotency_window", "time"];

pub(super) const RULE_KEYS: &[&str] = &[
    "name",
    "action",
    "conditions",
    "on_deny",
    "reason",
    "message",
    "state",
    "rate_limit",
    "validate",
    "spend",
    "spend_limit",
    "increment_from",
    "idempotency_window",
    "approval_timeout",
    "wait",
    "approvals",
    "time",
    "scope",
    "align",
    "timezone",
    "mode",
];
