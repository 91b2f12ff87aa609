//! The least policy that would have allowed what was recorded.
//!
//! Of every tool that was called it is remembered what its arguments had in common and how many calls the busiest minute had;
//! of that a policy is made, for a person to read. Values that were seen stand in it as what is allowed. What must be left
//! open, because it was not kept or differs too much, is said in a comment.

mod values;

use crate::recorded::{Event, Kept, Recorded, RecordedCall};
use json::{Document, Kind, Strictness, Value, quote};
use policy::Outcome;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;
use store::{Row, rfc3339};
use values::{Bound, Values};

/// What was recorded, as far as a policy can be made of it.
#[derive(Debug, Default)]
pub struct Observed {
    tools: BTreeMap<String, Tool>,
    servers: BTreeSet<String>,
    calls: u64,
    /// The times of the first and the last call.
    span: Option<(i64, i64)>,
    includes_denied: bool,
}

#[derive(Debug, Default)]
struct Tool {
    calls: u64,
    /// Those whose arguments were not kept.
    blind: u64,
    /// Those that a person has approved.
    approved: u64,
    /// By paths, as policies write them.
    arguments: BTreeMap<String, Values>,
    /// Whether there are more arguments than are looked at.
    is_wide: bool,
    /// When calls of the last minute were made, by grant.
    recent: HashMap<String, VecDeque<i64>>,
    busiest: usize,
}

impl Observed {
    /// Nothing yet. With `includes_denied`, what was denied is to be allowed too.
    pub fn new(includes_denied: bool) -> Observed {
        Observed { includes_denied, ..Observed::default() }
    }

    /// Whether a record is of a call that the policy is to allow.
    pub fn wants(&self, row: &Row) -> bool {
        Recorded::read(row).is_some_and(|recorded| self.call_of(&recorded).is_some())
    }

    /// Takes in a record. `keeps` says whether the process that wrote it keeps arguments.
    pub fn take(&mut self, row: &Row, keeps: impl Fn(&str) -> bool) {
        let Some(recorded) = Recorded::read(row) else { return };
        if let Event::Call(call) = &recorded.event {
            // What was denied may be let through by bounds that were made without it, and then takes its part of the limit.
            self.tools.entry(call.tool.clone()).or_default().pace(&recorded.grant, recorded.at);
        }
        let Some(call) = self.call_of(&recorded) else { return };
        self.calls += 1;
        self.servers.insert(recorded.server.clone());
        let (from, until) = self.span.unwrap_or((recorded.at, recorded.at));
        self.span = Some((from.min(recorded.at), until.max(recorded.at)));
        self.tools.entry(call.tool.clone()).or_default().add(call, keeps(&recorded.instance));
    }

    fn call_of<'r>(&self, recorded: &'r Recorded) -> Option<&'r RecordedCall> {
        match &recorded.event {
            Event::Call(call) if call.was.outcome == Outcome::Allow || self.includes_denied => Some(call),
            Event::Call(_) | Event::Ended(_) | Event::Answered(..) | Event::Method { .. } | Event::Other { .. } => None,
        }
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// The servers that were called.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(String::as_str)
    }

    /// The policy, in YAML with comments. The arguments of the tools in `unbounded` are left open.
    pub fn policy(&self, unbounded: &BTreeSet<String>) -> String {
        let mut out = String::from("# The least policy that would have allowed what was recorded");
        if let Some((from, until)) = self.span {
            let _ = write!(out, ":\n# {} calls from {} to {}", self.calls, rfc3339(from), rfc3339(until));
        }
        out.push_str(
            ".\n# It is a beginning: what was seen is not all that is right, and what is right was not all seen. The numbers have\n\
             # half of themselves as headroom. Read it, change it, and try it with `callgate replay`.\n\
             version: \"1\"\ndefault: deny\n",
        );
        let called = self.tools.iter().filter(|(_, tool)| tool.calls > 0);
        let (called, left_out): (Vec<_>, Vec<_>) = called.partition(|(name, _)| stands_for_itself(name));
        if !left_out.is_empty() {
            // A line of this comment must not end where a name wants it to.
            let names = left_out.iter().take(MOST_SHOWN).map(|(name, _)| quote(&catalogue::visible(name)));
            let names: Vec<String> = names.map(|name| name.chars().take(LONGEST_SHOWN).collect()).collect();
            let more = if left_out.len() > MOST_SHOWN { ", and more" } else { "" };
            let _ = writeln!(out, "# Left out, as a policy cannot mean these names alone: {}{more}", names.join(", "));
        }
        out.push_str(if called.is_empty() { "tools: {}\n" } else { "tools:\n" });
        for (i, (name, tool)) in called.into_iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            tool.write(name, unbounded.contains(name), &mut out);
        }
        out
    }
}

/// Whether a key under `tools` can mean this name and no other: not where it would be a pattern, or no policy takes it.
fn stands_for_itself(name: &str) -> bool {
    let policy = format!("version: \"1\"\ndefault: deny\ntools:\n  {}:\n    rate_limit: 1/minute\n", quote(name));
    !name.contains(['*', '?']) && policy::load(&policy::Source::new("name", policy)).policy.is_some()
}

impl Tool {
    fn add(&mut self, call: &RecordedCall, keeps: bool) {
        self.calls += 1;
        self.approved += u64::from(call.approval.is_some());
        let document = match &call.arguments {
            Kept::Whole(text) => Document::parse(text.clone(), Strictness::Reply).ok(),
            Kept::Nothing if keeps => return,
            Kept::Nothing | Kept::Digest(_) => None,
        };
        let Some(document) = document else {
            self.blind += 1;
            return;
        };
        let mut found: BTreeMap<String, (usize, Vec<Value<'_>>)> = BTreeMap::new();
        flatten(document.root(), "args", 1, &mut found);
        for (path, (expected, values)) in found {
            if self.arguments.len() >= MOST_ARGUMENTS && !self.arguments.contains_key(&path) {
                self.is_wide = true;
                continue;
            }
            let seen = self.arguments.entry(path).or_default();
            seen.calls += u64::from(values.len() == expected);
            values.into_iter().for_each(|value| seen.add(value));
        }
    }

    /// Counts the calls of a grant in the minute that ends now, as a sliding window of a minute does: with what is a sixtieth
    /// of it older.
    fn pace(&mut self, grant: &str, at: i64) {
        let recent = self.recent.entry(grant.to_owned()).or_default();
        recent.push_back(at);
        while recent.front().is_some_and(|first| first.saturating_add(MINUTE + MINUTE / 60) < at) {
            recent.pop_front();
        }
        self.busiest = self.busiest.max(recent.len());
    }

    fn write(&self, name: &str, unbounded: bool, out: &mut String) {
        let calls = if self.calls == 1 { "1 call".to_owned() } else { format!("{} calls", self.calls) };
        let _ = writeln!(out, "  {}:\n    # {calls}, at most {} a minute", quote(name), self.busiest);
        if self.approved > 0 {
            let _ = writeln!(
                out,
                "    # {} of them approved by a person; nobody is asked here: add `action: require_approval`",
                self.approved
            );
        }
        // Half as many again, and at least one more.
        let _ = writeln!(out, "    rate_limit: {}/minute", self.busiest + (self.busiest / 2).max(1));
        if self.blind > 0 {
            let _ = writeln!(out, "    # The arguments of {} calls were not kept: nothing bounds them.", self.blind);
        } else if unbounded {
            out.push_str("    # What the arguments have in common cannot be said in a policy: nothing bounds them.\n");
        } else {
            self.write_bounds(out);
        }
    }

    fn write_bounds(&self, out: &mut String) {
        let (mut require, mut deny_if, mut open) = (String::new(), String::new(), Vec::new());
        for (path, values) in &self.arguments {
            let always = values.calls == self.calls;
            match values.bound() {
                Some(Bound { holds: Some((operator, value)), seen, .. }) if always => {
                    line(&mut require, path, operator, &value, "", &seen);
                }
                Some(Bound { fails, seen, .. }) if !fails.is_empty() => {
                    let any = if path.contains("[*]") { ", quantifier: any" } else { "" };
                    for (operator, value) in fails {
                        line(&mut deny_if, path, operator, &value, any, &seen);
                    }
                }
                Some(_) | None => open.push(path.as_str()),
            }
        }
        for (key, lines) in [("require", require), ("deny_if", deny_if)] {
            if !lines.is_empty() {
                let _ = write!(out, "    {key}:\n{lines}");
            }
        }
        if !open.is_empty() {
            let shown: Vec<String> = open.iter().take(MOST_SHOWN).map(|path| catalogue::visible(path).into_owned()).collect();
            let more = if open.len() > MOST_SHOWN || self.is_wide { ", and more" } else { "" };
            let _ = writeln!(out, "    # Not bounded, as too much was seen of it: {}{more}", shown.join(", "));
        }
    }
}

/// A condition on one line.
fn line(out: &mut String, path: &str, operator: &str, value: &str, more: &str, seen: &str) {
    let _ = writeln!(out, "      - conditions: [{{path: {}, op: {operator}, value: {value}{more}}}]  # {seen}", quote(path));
}

/// The values in the arguments by their paths, each with how many there should be: as many as there are elements on the way.
/// What lies deeper than lists of objects is one value.
fn flatten<'v>(value: Value<'v>, path: &str, expected: usize, found: &mut BTreeMap<String, (usize, Vec<Value<'v>>)>) {
    let depth = path.matches(['.', '[']).count();
    match value.kind() {
        Kind::Object if depth < DEEPEST => {
            for member in value.members().into_iter().flatten() {
                if let Some(step) = step(&member.key) {
                    flatten(member.value, &format!("{path}{step}"), expected, found);
                }
            }
        }
        Kind::Array if depth < DEEPEST && !path.contains("[*]") => {
            let elements: Vec<Value<'v>> = value.elements().into_iter().flatten().collect();
            for element in &elements {
                flatten(*element, &format!("{path}[*]"), elements.len(), found);
            }
        }
        _ => {
            let entry = found.entry(path.to_owned()).or_insert((expected, Vec::new()));
            entry.1.push(value);
        }
    }
}

/// The step of a path to a member: `.key`, or `["a.b"]`; `None` where no path leads there.
fn step(key: &str) -> Option<String> {
    let is_word = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    match key {
        // At the end of a path it would be a length.
        "" | "length" => None,
        key if is_word(key) => Some(format!(".{key}")),
        key if key.contains(['"', '\\']) || key.chars().any(char::is_control) => None,
        key => Some(format!("[\"{key}\"]")),
    }
}

const MINUTE: i64 = 60_000;
/// More arguments of one tool are left open.
const MOST_ARGUMENTS: usize = 64;
const MOST_SHOWN: usize = 8;
/// Characters of a name in a comment.
const LONGEST_SHOWN: usize = 100;
/// Steps of a path, the first included.
const DEEPEST: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_mean_more_than_itself_is_left_out_and_named() {
        let of = |names: &[&str]| {
            let tools = names.iter().map(|name| ((*name).to_owned(), Tool { calls: 1, ..Tool::default() }));
            let observed = Observed { tools: tools.collect(), ..Observed::default() };
            let text = observed.policy(&BTreeSet::new());
            let loaded = policy::load(&policy::Source::new("suggested", text.clone()));
            assert!(loaded.policy.is_some(), "{:?}: {text}", loaded.problems);
            text
        };
        let long = "x".repeat(300);
        let strange = ["*", "read_?", "*x y*", "_global", "_risk_execute", " padded", "", "a\ntools: {}\nb", long.as_str()];
        for name in strange {
            let text = of(&[name, "plain"]);
            assert!(text.contains("\n# Left out, as a policy cannot mean these names alone: \""), "{text}");
            assert_eq!(text.lines().filter(|line| line.ends_with(':') && line.starts_with("  \"")).count(), 1, "{text}");
            assert!(text.contains("  \"plain\":\n"), "{text}");
        }
        assert!(of(&strange).contains("tools: {}\n"));
        assert!(!of(&["plain", "a.b/c d"]).contains("Left out"));
    }
}
