//! `methods:` and `server_requests:`.

use super::Lowering;
use super::entry::escape;
use super::name::globs_overlap;
use crate::methods::{ELSEWHERE, METHOD_NAMES, PROTOCOL_METHODS};
use crate::model::{MethodRule, Pattern, ServerRequests, Stance};
use crate::problem::{code, nearest};
use crate::reader::bad_name;
use crate::source::{Kind, Member, Node};
use crate::text::{Span, shown};

impl Lowering<'_> {
    pub(super) fn server_requests(&mut self, node: &Node) -> ServerRequests {
        let Some(fields) = self.fields(node, "`server_requests`", SERVER_REQUEST_KEYS) else {
            return ServerRequests::default();
        };
        let mut stance = |key: &str| fields.get(key).and_then(|node| self.stance(node, format!("/server_requests/{key}")));
        let (sampling, roots) = (stance("sampling"), stance("roots"));
        let mut asked = ServerRequests { sampling, roots, ..ServerRequests::default() };
        match fields.get("elicitation") {
            Some(node) if matches!(node.kind, Kind::Object(_)) => {
                if let Some(forms) = self.fields(node, "`elicitation`", ELICITATION_KEYS) {
                    let mut stance = |key: &str| {
                        forms.get(key).and_then(|node| self.stance(node, format!("/server_requests/elicitation/{key}")))
                    };
                    (asked.elicitation_form, asked.elicitation_url) = (stance("form"), stance("url"));
                }
            }
            Some(node) => {
                let both = self.stance(node, "/server_requests/elicitation".into());
                (asked.elicitation_form, asked.elicitation_url) = (both.clone(), both);
            }
            None => {}
        }
        asked
    }

    pub(super) fn methods(&mut self, node: &Node) -> Vec<MethodRule> {
        let Kind::Object(members) = &node.kind else {
            self.wrong_type(node, "`methods`", "a mapping from the names of methods to `allow` or `deny`");
            return Vec::new();
        };
        let mut rules: Vec<(MethodRule, &Span)> = Vec::new();
        for member in members {
            let pattern = self.method_pattern(member);
            let stance = self.stance(&member.value, format!("/methods/{}", escape(&member.key)));
            let (Some(pattern), Some(stance)) = (pattern, stance) else { continue };
            let clash = rules.iter().find(|(other, _)| clashes(&other.pattern, &pattern, other.stance.allow == stance.allow));
            if let Some((_, first)) = clash {
                let first = (*first).clone();
                let message = format!("`{}` and the pattern above fit the same names equally well", shown(&member.key));
                let problem = self.error(code::NAME, &member.key_at, message);
                problem.also.push((first, "the other pattern".into()));
                problem.help = Some("the longer pattern wins: make one longer, or remove one".into());
                continue;
            }
            rules.push((MethodRule { pattern, stance }, &member.key_at));
        }
        rules.into_iter().map(|(rule, _)| rule).collect()
    }

    /// A method's name, a group (`resources`, which is `resources/*`), or a pattern.
    fn method_pattern(&mut self, member: &Member) -> Option<Pattern> {
        let (key, at) = (member.key.as_str(), &member.key_at);
        if let Some(reason) = bad_name(key) {
            self.error(code::NAME, at, format!("the name of a method {reason}"));
            return None;
        }
        if key == "*" {
            return Some(Pattern::Any);
        }
        let is_glob = key.contains(['*', '?']);
        if let Some(other) = key.chars().find(|c| !(c.is_ascii_alphanumeric() || "_-./*?".contains(*c))) {
            let problem = self.error(code::NAME, at, format!("`{other}` cannot stand in the name of a method"));
            problem.label = Some("expected letters, digits, `_`, `-`, `.`, `/`, `*` and `?`".into());
            return None;
        }
        let group = key.strip_suffix("/*").unwrap_or(key);
        if let Some((name, section)) = ELSEWHERE.iter().find(|(name, _)| *name == key || group_of(name) == group) {
            let problem = self.error(code::COMBINATION, at, format!("`{}` has rules of its own", shown(key)));
            problem.label = Some(format!("not under `methods`, but under `{section}`"));
            problem.help = Some(match *section {
                "tools" => "write rules under `tools`; `hide` takes tools out of lists".into(),
                _ => format!("write `{}: deny` under `server_requests`", group_of(name)),
            });
            return None;
        }
        if PROTOCOL_METHODS.contains(&key) || key == "server" {
            self.error(code::COMBINATION, at, format!("no conversation can do without `{}`", shown(key))).help =
                Some("remove it: it always passes".into());
            return None;
        }
        let groups = || METHOD_NAMES.iter().map(|name| group_of(name));
        if !key.contains('/') && !is_glob && groups().any(|group| group == key) {
            return Some(Pattern::Glob(format!("{key}/*")));
        }
        let is_known = METHOD_NAMES.contains(&key) || groups().any(|known| known == group_of(key));
        let near = match key.strip_suffix("/*") {
            Some(group) if !is_known && !group.contains(['*', '?']) => nearest(group, groups()).map(|group| format!("{group}/*")),
            None if !is_glob && !METHOD_NAMES.contains(&key) => {
                nearest(key, METHOD_NAMES.iter().copied().chain(groups())).map(str::to_owned)
            }
            _ => None,
        };
        if let Some(near) = near {
            self.error(code::UNKNOWN_KEY, at, format!("unknown method `{}`", shown(key))).help = Some(format!("write `{near}`"));
            return None;
        }
        if !key.contains('/') && !is_glob {
            self.error(code::UNKNOWN_KEY, at, format!("unknown method `{}`", shown(key))).help =
                Some("write a method as `resources/read`, a group as `resources`, or a pattern as `resources/*`".into());
            return None;
        }
        Some(if is_glob { Pattern::Glob(key.to_owned()) } else { Pattern::Exact(key.to_owned()) })
    }

    fn stance(&mut self, node: &Node, reference: String) -> Option<Stance> {
        let asks = matches!(node.as_str(), Some("ask" | "require_approval" | "approve"));
        let allow = self.word(node, "decision", &[("allow", true), ("deny", false)]);
        if let (true, Some(problem)) = (asks, self.problems.last_mut()) {
            problem.help = Some("nobody can be asked about this yet: write `deny` or `allow`".into());
        }
        let stance = Stance { allow: allow?, reference: reference.into() };
        if !stance.allow {
            self.refusals.push((stance.reference.clone(), node.at.clone()));
        }
        Some(stance)
    }
}

/// What stands before the first `/`.
fn group_of(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// Whether no rule says which of two patterns decides; `agree` where it does not matter.
fn clashes(a: &Pattern, b: &Pattern, agree: bool) -> bool {
    match (a, b) {
        (Pattern::Glob(a), Pattern::Glob(b)) if a == b => true,
        (Pattern::Glob(a), Pattern::Glob(b)) => !agree && a.len() == b.len() && globs_overlap(a, b),
        _ => false,
    }
}

pub(super) const SERVER_REQUEST_KEYS: &[&str] = &["sampling", "elicitation", "roots"];
pub(super) const ELICITATION_KEYS: &[&str] = &["form", "url"];
