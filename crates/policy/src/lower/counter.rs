//! Everything that counts: `state`, `rate_limit`, `limits`, `spend`, `spend_limit`, and conditions on counters.

use super::{Context, Lowering, RuleDraft};
use crate::amount::Amount;
use crate::model::{AmountFrom, Bound, Check, Counter, Limit, Path, Scope, Segment, Watch};
use crate::outline::CheckPlace;
use crate::problem::{code, nearest};
use crate::reader::Fields;
use crate::source::{Kind, Node};
use crate::text::{Span, shown};
use crate::window::{Align, Window, Zone};
use json::Decimal;
use std::sync::Arc;

/// A counter that some rule takes from.
pub(super) struct Declared {
    pub counter: Arc<Counter>,
    pub at: Span,
}

/// A condition on a counter.
#[derive(Clone)]
pub(super) struct Watched {
    /// `<owner>.<counter>`
    pub name: String,
    pub bound: Bound,
    pub at: Span,
}

/// For which window and whom something counts.
#[derive(Clone, Default)]
struct Extent {
    scope: Option<Scope>,
    align: Option<Align>,
    zone: Option<Zone>,
}

/// What is charged, and where that is written.
struct Amounts {
    amount: AmountFrom,
    lease: Option<Amount>,
    amount_at: Option<Span>,
    weight: Option<AmountFrom>,
    weight_at: Option<Span>,
}

impl Amounts {
    fn one_call() -> Amounts {
        Amounts { amount: AmountFrom::Fixed(Amount::ONE), lease: None, amount_at: None, weight: None, weight_at: None }
    }
}

impl Lowering<'_> {
    /// `state:` of a rule; `conditions` are the rule's own on counters: those on this counter become its bound. `whole`
    /// says that none of them was lost to a mistake.
    pub(super) fn state(
        &mut self,
        context: &Context,
        node: &Node,
        conditions: &mut Vec<Watched>,
        whole: bool,
        rule: &mut RuleDraft,
    ) {
        let Some(fields) = self.fields(node, "`state`", STATE_KEYS) else { return };
        let counter = self.required(&fields, "counter", "`state`").and_then(|node| self.name(node, "`counter`"));
        if let Some(name) = counter {
            self.attempted.push(format!("{}.{name}", context.owner));
        }
        let extent = self.extent(&fields);
        let window = self.required(&fields, "window", "`state`").and_then(|node| self.window(node, "window"));
        let amounts = self.amounts(&fields);
        let (Some(name), Some(window), Some(amounts)) = (counter, window, amounts) else { return };
        let own = format!("{}.{name}", context.owner);
        let upper = |watched: &Watched| matches!(watched.bound, Bound::AtMost(_)) && watched.name == own;
        let max = conditions.iter().filter(|watched| upper(watched)).filter_map(|watched| match watched.bound {
            Bound::AtMost(max) => Some(max),
            Bound::AtLeast(_) => None,
        });
        let Some(max) = max.min() else {
            if !whole {
                return;
            }
            let at = fields.member("counter").map_or(&node.at, |member| &member.value.at);
            let problem = self.error(code::COUNTER, at, format!("counter `{}` has no upper bound in its own rule", shown(name)));
            problem.label = Some("it would be counted, and never limit anything".into());
            problem.help = Some(format!("add `- {{path: state.{own}, op: lte, value: 10}}` to the rule's `conditions`"));
            return;
        };
        conditions.retain(|watched| !upper(watched));
        // Conditions name a counter without its window: two of one name could not be told apart.
        let same = |declared: &&Declared| declared.counter.owner == context.owner && *declared.counter.name == *name;
        if let Some(earlier) = self.counters.iter().find(same).map(|declared| declared.at.clone()) {
            let at = fields.member("counter").map_or(&node.at, |member| &member.value.at);
            return self.declared_twice(name, at, earlier);
        }
        let extended = self.extended(window, &extent, &node.at);
        self.limit(context, name, extended, &extent, max, amounts, &node.at, rule);
    }

    /// `rate_limit: 5/hour`, or `{max, window}` with the window in seconds.
    pub(super) fn rate_limit(&mut self, context: &Context, outer: &Fields<'_>, node: &Node, rule: &mut RuleDraft) {
        let mut extent = self.extent(outer);
        let (max, window, word) = if let Kind::Object(_) = node.kind {
            let Some(fields) = self.fields(node, "`rate_limit`", &["max", "window", "scope", "align", "timezone"]) else {
                return;
            };
            let max = self.required(&fields, "max", "`rate_limit`").and_then(|node| self.amount(node, "`max`"));
            let window = self.required(&fields, "window", "`rate_limit`").and_then(|node| self.window_or_seconds(node));
            let own = self.extent(&fields);
            extent =
                Extent { scope: own.scope.or(extent.scope), align: own.align.or(extent.align), zone: own.zone.or(extent.zone) };
            let (Some(max), Some((window, word))) = (max, window) else { return };
            (max, window, word)
        } else {
            let Some((max, window, word)) = self.rate(node) else { return };
            (max, window, word)
        };
        let extended = self.extended(window, &extent, &node.at);
        self.limit(context, &format!("_rate_{word}"), extended, &extent, max, Amounts::one_call(), &node.at, rule);
    }

    /// `5/hour`
    fn rate(&mut self, node: &Node) -> Option<(Amount, Window, String)> {
        let expected = "expected a number, `/` and a window, as in `5/hour`";
        let Some(text) = node.as_str() else {
            self.wrong_type(node, "`rate_limit`", "a string such as `5/hour`");
            return None;
        };
        let Some((count, window)) = text.split_once('/') else {
            self.error(code::WINDOW, &node.at, format!("`{}` is not a rate", shown(text))).label = Some(expected.into());
            return None;
        };
        let whole = count.parse::<u64>().ok().filter(|_| count.bytes().all(|b| b.is_ascii_digit()) && !count.starts_with('0'));
        let max = whole.and_then(Amount::whole);
        if max.is_none() {
            let problem = self.error(code::NUMBER, &node.at, format!("`{}` is not a number of calls", shown(count)));
            problem.label = Some("expected a whole number of 1 or more before the `/`".into());
            problem.help = (count == "0").then(|| "write `action: deny` to allow none".into());
        }
        let window =
            self.window_text(window, &node.at, "rate_limit", &format!("{count}/")).map(|parsed| (parsed, window.to_owned()));
        let (window, word) = window?;
        Some((max?, window, word))
    }

    /// `limits:` of a tool.
    pub(super) fn limit_item(&mut self, context: &Context, node: &Node) -> Option<RuleDraft> {
        let fields = self.fields(node, "a limit", LIMIT_KEYS)?;
        let counter = self.required(&fields, "counter", "a limit").and_then(|node| self.name(node, "`counter`"));
        let window = self.required(&fields, "window", "a limit").and_then(|node| self.window(node, "window"));
        let max = self.required(&fields, "max", "a limit").and_then(|node| self.amount(node, "`max`"));
        let extent = self.extent(&fields);
        let amounts = self.amounts(&fields);
        let at = fields.member("counter").map_or(&node.at, |member| &member.value.at);
        let name = self.rule_name(&fields);
        let pointer = format!("{}/limits/{}", context.pointer, super::entry::escape(counter.unwrap_or_default()));
        let mut rule = RuleDraft::new(name.unwrap_or(pointer), at);
        self.message_and_mode(&fields, &mut rule);
        let lease = fields.get("lease").map(|node| self.lease(node, max, window.as_ref()));
        let (counter, window, max, amounts) = (counter?, window?, max?, amounts?);
        let amounts = Amounts { lease: lease.flatten(), ..amounts };
        let extended = self.extended(window, &extent, &node.at);
        self.limit(context, counter, extended, &extent, max, amounts, &node.at, &mut rule);
        Some(rule)
    }

    /// `spend: {per_call: 0.50, daily: 50.00}`
    pub(super) fn spend(&mut self, context: &Context, outer: &Fields<'_>, node: &Node, rule: &mut RuleDraft) {
        let known = &["per_call", "daily", "increment_from", "scope", "timezone"];
        let Some(fields) = self.fields(node, "`spend`", known) else { return };
        let Some(path) = self.spend_path(outer, Some(&fields)) else { return };
        if fields.any(&["per_call", "daily"]).is_none() {
            self.error(code::MISSING, &node.at, "`spend` bounds nothing").help =
                Some("write `spend: {per_call: 0.50, daily: 50.00}`".into());
        }
        if let Some(node) = fields.get("per_call")
            && let Some(max) = self.money(node, "`per_call`")
        {
            let (path, amount_at) = path.clone();
            let place = CheckPlace { amount: amount_at, ..CheckPlace::of(&node.at) };
            rule.checks.push((Check::PerCall { amount: AmountFrom::Path(path), max }, place));
        }
        if let Some(node) = fields.get("daily")
            && let Some(max) = self.money(node, "`daily`")
        {
            let (own, outer) = (self.extent(&fields), self.extent(outer));
            let extent = Extent { scope: own.scope.or(outer.scope), align: None, zone: own.zone.or(outer.zone) };
            self.spend_counter(context, path, "day", &extent, max, node, rule);
        }
    }

    /// `spend_limit: $500/day`
    pub(super) fn spend_limit(&mut self, context: &Context, outer: &Fields<'_>, node: &Node, rule: &mut RuleDraft) {
        let Some(text) = node.as_str() else {
            return self.wrong_type(node, "`spend_limit`", "a string such as `$500/day`");
        };
        let Some((money, window)) = text.split_once('/') else {
            let problem = self.error(code::WINDOW, &node.at, format!("`{}` names no window", shown(text)));
            problem.label = Some("expected an amount, `/` and a window, as in `$500/day`".into());
            return;
        };
        let max = self.money_text(money, &node.at, "the amount");
        let known = self.window_text(window, &node.at, "spend_limit", &format!("{money}/")).is_some();
        let (Some(path), Some(max), true) = (self.spend_path(outer, None), max, known) else { return };
        let extent = self.extent(outer);
        self.spend_counter(context, path, window, &extent, max, node, rule);
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one counter")]
    fn spend_counter(
        &mut self,
        context: &Context,
        path: (Path, Option<Span>),
        word: &str,
        extent: &Extent,
        max: Amount,
        node: &Node,
        rule: &mut RuleDraft,
    ) {
        let Some(window) = Window::parse(word) else { return };
        let (path, amount_at) = path;
        // Sums of different arguments are different counters.
        let name = match &*path.text {
            "args.amount" => format!("_spend_{word}"),
            other => format!("_spend_{word}_{other}"),
        };
        let amounts = Amounts { amount: AmountFrom::Path(path), amount_at, ..Amounts::one_call() };
        let extended = self.extended(window, extent, &node.at);
        self.limit(context, &name, extended, extent, max, amounts, &node.at, rule);
    }

    /// What `spend` and `spend_limit` add up: `args.amount`, or what `increment_from` names.
    fn spend_path(&mut self, outer: &Fields<'_>, inner: Option<&Fields<'_>>) -> Option<(Path, Option<Span>)> {
        match inner.and_then(|fields| fields.get("increment_from")).or(outer.get("increment_from")) {
            Some(node) => Some((self.argument(node, "`increment_from`")?, Some(node.at.clone()))),
            None => Some((Path { text: "args.amount".into(), segments: vec![Segment::Key("amount".into())] }, None)),
        }
    }

    fn money(&mut self, node: &Node, what: &str) -> Option<Amount> {
        match node.as_str() {
            Some(text) => self.money_text(text, &node.at, what),
            None => self.amount(node, what),
        }
    }

    /// `500`, `$500`, `€0.50`, `500 USD`: the currency is a label.
    fn money_text(&mut self, text: &str, at: &Span, what: &str) -> Option<Amount> {
        let is_label = |c: char| c.is_ascii_uppercase() || (!c.is_ascii() && !c.is_alphanumeric()) || matches!(c, '$' | ' ');
        match Decimal::parse(text.trim_matches(is_label)) {
            Some(number) => self.countable(&number, at, what),
            None => {
                let problem = self.error(code::NUMBER, at, format!("`{}` is not an amount", shown(text)));
                problem.label = Some("expected a number, as in `$500` or `0.50`".into());
                None
            }
        }
    }

    /// Adds the check and declares its counter.
    #[expect(clippy::too_many_arguments, reason = "the parts of one limit")]
    fn limit(
        &mut self,
        context: &Context,
        name: &str,
        window: Option<Window>,
        extent: &Extent,
        max: Amount,
        amounts: Amounts,
        at: &Span,
        rule: &mut RuleDraft,
    ) {
        let Some(window) = window else { return };
        let scope = extent.scope.unwrap_or(Scope::Grant);
        let counter = Arc::new(Counter { owner: context.owner.clone(), name: name.into(), window, scope });
        if let Some(earlier) = self.counters.iter().find(|declared| declared.counter == counter) {
            let earlier = earlier.at.clone();
            return self.declared_twice(name, at, earlier);
        }
        self.counters.push(Declared { counter: counter.clone(), at: at.clone() });
        let Amounts { amount, lease, amount_at, weight, weight_at } = amounts;
        let place = CheckPlace { amount: amount_at, weight: weight_at, ..CheckPlace::of(at) };
        rule.checks.push((Check::Limit(Limit { counter, max, amount, weight, lease }), place));
    }

    fn declared_twice(&mut self, name: &str, at: &Span, earlier: Span) {
        let line = self.source.line(earlier.start);
        let message = format!("counter `{}` is charged twice by one call: also in line {line}", shown(name));
        let problem = self.error(code::COUNTER, at, message);
        problem.also.push((earlier, "first here".into()));
        problem.help = Some("keep one of the two limits, or give them different counters or windows".into());
    }

    /// `increment`, `increment_from` and `weight`.
    fn amounts(&mut self, fields: &Fields<'_>) -> Option<Amounts> {
        let mut amounts = Amounts::one_call();
        if let (Some(_), Some(from)) = (fields.get("increment"), fields.member("increment_from")) {
            let problem = self.error(code::COMBINATION, &from.key_at, "both `increment` and `increment_from`");
            problem.help = Some("keep one: a fixed amount, or the argument that holds it".into());
            return None;
        }
        if let Some(node) = fields.get("increment") {
            let increment = self.amount(node, "`increment`")?;
            if increment == Amount::ZERO {
                self.error(code::NUMBER, &node.at, "`increment` is 0").label = Some("nothing would ever be counted".into());
                return None;
            }
            amounts.amount = AmountFrom::Fixed(increment);
        }
        if let Some(node) = fields.get("increment_from") {
            amounts.amount = AmountFrom::Path(self.argument(node, "`increment_from`")?);
            amounts.amount_at = Some(node.at.clone());
        }
        if let Some(node) = fields.get("weight") {
            amounts.weight = Some(match node.kind {
                Kind::Number(_) => AmountFrom::Fixed(self.amount(node, "`weight`")?),
                _ => AmountFrom::Path(self.argument(node, "`weight`")?),
            });
            amounts.weight_at = Some(node.at.clone());
        }
        Some(amounts)
    }

    /// `lease: 32`: how much of the limit a gateway takes at a time.
    fn lease(&mut self, node: &Node, max: Option<Amount>, window: Option<&Window>) -> Option<Amount> {
        let lease = self.amount(node, "`lease`")?;
        if lease == Amount::ZERO || max.is_some_and(|max| lease > max) {
            let problem = self.error(code::NUMBER, &node.at, format!("`lease` is {lease}"));
            problem.label = Some("expected more than 0, and no more than `max`".into());
            problem.help = Some("a small part of `max`: what a gateway has taken and not used, no other can use".into());
            return None;
        }
        if window.is_some_and(|window| window.millis() < SHORTEST_LEASED_MS) {
            let problem = self.error(code::COMBINATION, &node.at, "`lease` in a window of less than ten minutes");
            problem.label = Some("what is taken is good for a sixtieth of the window, which is too short to be of use".into());
            problem.help = Some("remove `lease`, or count over a longer window".into());
            return None;
        }
        Some(lease)
    }

    fn extent(&mut self, fields: &Fields<'_>) -> Extent {
        let scope = fields.get("scope").and_then(|node| self.word(node, "`scope`", SCOPES));
        let align = fields.get("align").and_then(|node| self.word(node, "`align`", ALIGNS));
        let zone = fields.get("timezone").and_then(|node| self.zone(node));
        Extent { scope, align, zone }
    }

    pub(super) fn zone(&mut self, node: &Node) -> Option<Zone> {
        let text = self.string(node, "`timezone`")?;
        let zone = Zone::parse(text);
        if zone.is_none() {
            let problem = self.error(code::TIME, &node.at, format!("unknown time zone `{}`", shown(text)));
            problem.label = Some("expected a name of the IANA database, as in `Europe/Berlin` or `UTC`".into());
        }
        zone
    }

    /// The window with its alignment and time zone.
    fn extended(&mut self, window: Window, extent: &Extent, at: &Span) -> Option<Window> {
        let align = match (extent.align, &extent.zone, &window) {
            (Some(align), _, _) => align,
            (None, Some(_), Window::Calendar { .. }) => Align::Calendar,
            (None, Some(_), Window::Sliding { .. }) => {
                self.error(code::COMBINATION, at, "`timezone` means nothing for a sliding window").help =
                    Some("add `align: calendar`, or remove `timezone`".into());
                return None;
            }
            (None, None, _) => return Some(window),
        };
        if align == Align::Sliding && extent.zone.is_some() {
            self.error(code::COMBINATION, at, "`timezone` means nothing for a sliding window").help =
                Some("remove `timezone`, or write `align: calendar`".into());
            return None;
        }
        let aligned = window.aligned(align, extent.zone.clone());
        if aligned.is_none() {
            let problem = self.error(code::COMBINATION, at, "the calendar has no span of this length");
            problem.help = Some("use `minute`, `hour`, `day`, `week` or `month` with `align: calendar`".into());
        }
        aligned
    }

    fn window(&mut self, node: &Node, key: &str) -> Option<Window> {
        let Some(text) = node.as_str() else {
            self.wrong_type(node, "`window`", WINDOWS);
            if let (Kind::Number(number), Some(problem)) = (&node.kind, self.problems.last_mut()) {
                problem.help = Some(format!("write `{key}: {number}s` for seconds"));
            }
            return None;
        };
        self.window_text(text, &node.at, key, "")
    }

    /// In the catalogue form a window is a number of seconds; a word will do too.
    fn window_or_seconds(&mut self, node: &Node) -> Option<(Window, String)> {
        let Kind::Number(number) = &node.kind else {
            let window = self.window(node, "window")?;
            return Some((window, node.as_str().unwrap_or_default().to_owned()));
        };
        let seconds = number.scaled(0).and_then(|seconds| u64::try_from(seconds).ok());
        let window = seconds.and_then(Window::seconds);
        if window.is_none() {
            let problem = self.error(code::WINDOW, &node.at, format!("a window of {number} seconds"));
            problem.label = Some("expected a whole number of seconds, from 1 to 400 days".into());
        }
        Some((window?, format!("{}s", seconds?)))
    }

    /// `before` is what stands before the window in the same value (`5/`), for the help.
    fn window_text(&mut self, text: &str, at: &Span, key: &str, before: &str) -> Option<Window> {
        let window = Window::parse(text);
        if window.is_none() {
            let near = ALIASES.iter().find(|(other, _)| text.eq_ignore_ascii_case(other)).map(|(_, ours)| *ours);
            let near = near.or_else(|| nearest(text, ["minute", "hour", "day", "week", "month"]));
            let message = if text.is_empty() { "no window".to_owned() } else { format!("unknown window `{}`", shown(text)) };
            let problem = self.error(code::WINDOW, at, message);
            problem.label = Some(format!("expected {WINDOWS}"));
            problem.help = near.map(|word| format!("write `{key}: {}{word}`", shown(before)));
        }
        window
    }

    /// A condition on a counter, as a bound.
    pub(super) fn watched(&mut self, name: String, path: &Node, fields: &Fields<'_>) -> Option<Watched> {
        let op = self.required(fields, "op", "a condition")?;
        let words = [("lt", "lt"), ("lte", "lte"), ("gt", "gt"), ("gte", "gte")];
        let text = op.as_str();
        if text.is_some_and(|text| ["eq", "neq", "in", "not_in", "regex", "contains", "exists"].contains(&text)) {
            let problem =
                self.error(code::COMBINATION, &op.at, format!("`{}` does not apply to a counter", text.unwrap_or_default()));
            problem.label = Some("expected `lt`, `lte`, `gt` or `gte`".into());
            return None;
        }
        let op = self.word(op, "`op`", &words)?;
        let value = self.required(fields, "value", "a condition")?;
        let number = self.decimal(value, "`value`")?;
        let step = Decimal::parse("0.000001").unwrap_or_else(|| Decimal::from(1));
        let bound = match op {
            "lt" | "lte" => {
                let max = self.amount(value, "a counter's bound")?;
                let max = if op == "lte" { Some(max) } else { max.micros().checked_sub(1).and_then(Amount::from_micros) };
                let Some(max) = max else {
                    let problem = self.error(code::NUMBER, &value.at, "no counter is ever below 0");
                    problem.help = Some("write `op: lte` with `value: 0` to deny every call".into());
                    return None;
                };
                Bound::AtMost(max)
            }
            _ if number.is_negative() => Bound::AtLeast(Amount::ZERO),
            _ => {
                let min = self.amount(value, "a counter's bound")?;
                let more = Amount::from_decimal(&step).and_then(|step| min.checked_add(step));
                Bound::AtLeast(if op == "gte" { min } else { more? })
            }
        };
        Some(Watched { name, bound, at: path.at.clone() })
    }

    /// Turns conditions on other rules' counters into checks, now that all counters are known.
    pub(super) fn resolve(&mut self, watched: &Watched) -> Option<(Check, CheckPlace)> {
        let full = |declared: &Declared| format!("{}.{}", declared.counter.owner, declared.counter.name);
        let mut found = self.counters.iter().filter(|declared| full(declared) == watched.name);
        match (found.next(), found.next()) {
            (Some(one), None) => {
                let watch = Watch { counter: one.counter.clone(), bound: watched.bound };
                return Some((Check::Watch(watch), CheckPlace::of(&watched.at)));
            }
            (Some(_), Some(_)) => {
                let message = format!("several counters are called `{}`", shown(&watched.name));
                self.error(code::COUNTER, &watched.at, message).help =
                    Some("give them different names: they differ by window or scope only".into());
            }
            // Its declaration has a mistake of its own.
            (None, _) if self.attempted.contains(&watched.name) => {}
            (None, _) => {
                let names: Vec<String> = self.counters.iter().map(full).collect();
                let near = nearest(&watched.name, names.iter().map(String::as_str)).map(|near| format!("write `state.{near}`"));
                let problem = self.error(code::COUNTER, &watched.at, format!("nothing counts `{}`", shown(&watched.name)));
                problem.label = Some("no rule declares this counter".into());
                let declare = "add `state: {counter: …, window: hour}` to this rule, or use a counter of another rule";
                problem.help = Some(near.unwrap_or_else(|| declare.into()));
            }
        }
        None
    }

    pub(super) fn required<'n>(&mut self, fields: &Fields<'n>, key: &str, what: &str) -> Option<&'n Node> {
        let node = fields.get(key);
        if node.is_none() && !matches!(fields.node.kind, Kind::Invalid) {
            self.error(code::MISSING, &fields.node.at, format!("{what} without `{key}`")).help = Some(format!("add `{key}:`"));
        }
        node
    }
}

/// A sixtieth of it is ten seconds: more than a call may take to be admitted.
const SHORTEST_LEASED_MS: u64 = 600_000;
const WINDOWS: &str = "`minute`, `hour`, `day`, `week`, `month`, or a span such as `15m`";
pub(super) const STATE_KEYS: &[&str] =
    &["counter", "window", "increment", "increment_from", "weight", "scope", "align", "timezone"];
pub(super) const LIMIT_KEYS: &[&str] = &[
    "counter",
    "window",
    "max",
    "scope",
    "increment",
    "increment_from",
    "weight",
    "lease",
    "align",
    "timezone",
    "name",
    "on_deny",
    "reason",
    "message",
    "mode",
];

const SCOPES: &[(&str, Scope)] = &[
    ("grant", Scope::Grant),
    ("principal", Scope::Principal),
    ("session", Scope::Session),
    ("upstream", Scope::Upstream),
    ("global", Scope::Global),
];

const ALIGNS: &[(&str, Align)] = &[("sliding", Align::Sliding), ("calendar", Align::Calendar)];

/// What people write for windows.
const ALIASES: &[(&str, &str)] = &[
    ("sec", "1s"),
    ("second", "1s"),
    ("min", "minute"),
    ("minutely", "minute"),
    ("h", "hour"),
    ("hr", "hour"),
    ("hourly", "hour"),
    ("d", "day"),
    ("daily", "day"),
    ("weekly", "week"),
    ("monthly", "month"),
];
