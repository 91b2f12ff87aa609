//! The methods of MCP besides calls of tools, and what a server asks of its client: who may, by name.
//!
//! Nothing stands against them unless the policy says so. Names are compared exactly; a denial holds as well for a name that
//! a careless reader takes for the one that is denied.

use crate::decision::{Decision, Outcome, Reason, Shadow, Step, StepResult};
use crate::model::{MethodRule, Mode, Pattern, Policy, Stance};

/// The methods that can be named under `methods`: those of every revision, but for calls and lists of tools, what a server
/// asks of its client, and what no conversation can do without. Others can be named too.
pub const METHOD_NAMES: &[&str] = &[
    "completion/complete",
    "logging/setLevel",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "notifications/elicitation/complete",
    "notifications/message",
    "notifications/progress",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/roots/list_changed",
    "notifications/tasks",
    "notifications/tasks/status",
    "notifications/tools/list_changed",
];

/// The methods that no conversation can do without: nothing can be said of them.
pub const PROTOCOL_METHODS: &[&str] = &[
    "initialize",
    "ping",
    "server/discover",
    "notifications/cancelled",
    "notifications/initialized",
    "notifications/subscriptions/acknowledged",
];

/// The methods that have rules of their own, and the section of those.
pub(crate) const ELSEWHERE: &[(&str, &str)] = &[
    ("tools/call", "tools"),
    ("tools/list", "tools"),
    ("sampling/createMessage", "server_requests"),
    ("elicitation/create", "server_requests"),
    ("roots/list", "server_requests"),
];

impl Policy {
    /// What the policy says of a request or notification of this method, whoever sends it; `None` where no line of
    /// `methods` fits. Calls and lists of tools, and what a server asks of its client, are never meant.
    ///
    /// The exact name wins over patterns, a longer pattern over a shorter one. A pattern fits notifications only if it
    /// begins with `notifications/`.
    pub fn method_decision(&self, method: &str) -> Option<Decision> {
        let elsewhere = ELSEWHERE.iter().any(|(name, _)| *name == method);
        if self.methods.is_empty() || elsewhere || PROTOCOL_METHODS.contains(&method) {
            return None;
        }
        let fitting = self.methods.iter().filter(|rule| rule.fits(method));
        let best = fitting.max_by_key(|rule| rule.pattern.precision(method).unwrap_or(0));
        let careless = || self.methods.iter().find(|rule| !rule.stance.allow && rule.pattern.imitated_by(method).is_some());
        let exact = best.filter(|rule| matches!(rule.pattern, Pattern::Exact(_)));
        let rule = exact.or_else(careless).or(best)?;
        let message = format!("The policy does not allow `{method}`.");
        Some(self.decided(&rule.stance, Reason::MethodRefused, format!("method {method}"), &message))
    }

    /// What the policy says of something that a server asks of its client; `None` where `server_requests` says nothing.
    ///
    /// `mode` is that of an elicitation: none means `form`. One that is neither `form` nor `url` is denied if either is.
    pub fn server_request_decision(&self, method: &str, mode: Option<&str>) -> Option<Decision> {
        let asked = &self.server_requests;
        let stance = match (method, mode) {
            ("sampling/createMessage", _) => &asked.sampling,
            ("roots/list", _) => &asked.roots,
            ("elicitation/create", None | Some("form")) => &asked.elicitation_form,
            ("elicitation/create", Some("url")) => &asked.elicitation_url,
            ("elicitation/create", Some(_)) => match &asked.elicitation_form {
                Some(form) if !form.allow => &asked.elicitation_form,
                _ => &asked.elicitation_url,
            },
            _ => &None,
        };
        let what = match (method, mode) {
            ("sampling/createMessage", _) => "sampling (`sampling/createMessage`)",
            ("roots/list", _) => "roots (`roots/list`)",
            (_, Some("url")) => "elicitation by URL (`elicitation/create`)",
            _ => "elicitation (`elicitation/create`)",
        };
        let message = format!("The policy does not allow this server to ask for {what}.");
        let check = mode.map_or_else(|| method.to_owned(), |mode| format!("{method}, mode {mode}"));
        Some(self.decided(stance.as_ref()?, Reason::ServerRequestRefused, format!("server asks for {check}"), &message))
    }

    /// Whether anything is denied under `methods` or `server_requests`.
    pub(crate) fn restricts_methods(&self) -> bool {
        let asked = &self.server_requests;
        let asked = [&asked.sampling, &asked.elicitation_form, &asked.elicitation_url, &asked.roots];
        let stances = self.methods.iter().map(|rule| &rule.stance).chain(asked.into_iter().flatten());
        stances.into_iter().any(|stance| !stance.allow)
    }

    fn decided(&self, stance: &Stance, reason: Reason, check: String, message: &str) -> Decision {
        let rule = Some(stance.reference.clone());
        let result = if stance.allow { StepResult::Held } else { StepResult::Failed };
        let detail = if stance.allow { "allow" } else { "deny" };
        let steps = vec![Step { rule: stance.reference.clone(), check: check.into(), result, detail: detail.into() }];
        if stance.allow {
            return Decision { rule, steps, ..Decision::allow() };
        }
        if self.mode == Mode::Shadow {
            let shadow = Shadow { outcome: Outcome::Deny, reason, rule, message: Some(message.to_owned()) };
            return Decision { shadow: Some(shadow), steps, ..Decision::allow() };
        }
        Decision { rule, steps, ..Decision::deny(reason, message) }
    }
}

impl MethodRule {
    fn fits(&self, method: &str) -> bool {
        let of_notifications = || match &self.pattern {
            Pattern::Exact(text) | Pattern::Glob(text) => text.starts_with("notifications/"),
            Pattern::Class(_) | Pattern::Any => false,
        };
        if method.starts_with("notifications/") && !of_notifications() {
            return false;
        }
        // As with tools: a pattern lets in only what is plain to see.
        let plain = || method.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b));
        let exact = matches!(self.pattern, Pattern::Exact(_));
        self.pattern.matches(method) && (exact || !self.stance.allow || plain())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Decision, Outcome, Policy, Source, load};

    fn policy(text: &str) -> Policy {
        let loaded = load(&Source::new("p.yaml", format!("version: \"1\"\n{text}")));
        loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.problems))
    }

    /// `deny /methods/x`, `allow`, or `-` where nothing is said.
    fn shown(decision: Option<Decision>) -> String {
        let Some(decision) = decision else { return "-".into() };
        let rule = decision.rule.as_deref().map(|rule| format!(" {rule}")).unwrap_or_default();
        format!("{}{rule}", decision.outcome)
    }

    #[test]
    fn the_best_fitting_line_decides() {
        let policy = policy(
            "methods: {\"*\": allow, resources: deny, resources/read: allow, \"resources/t*\": allow, tasks/get: deny, \"x/*\": deny}\n",
        );
        for (method, expected) in [
            ("resources/read", "allow /methods/resources~1read"),
            ("resources/list", "deny /methods/resources"),
            ("resources/templates/list", "allow /methods/resources~1t*"),
            ("tasks/get", "deny /methods/tasks~1get"),
            ("tasks/list", "allow /methods/*"),
            ("x/anything", "deny /methods/x~1*"),
            ("X/anything", "deny /methods/x~1*"),
            ("y/z", "allow /methods/*"),
            ("y/z; drop", "-"),
        ] {
            assert_eq!(shown(policy.method_decision(method)), expected, "{method}");
        }
    }

    #[test]
    fn what_has_rules_elsewhere_is_never_meant() {
        let policy = policy("methods: {\"*\": deny}\n");
        for method in ["tools/call", "tools/list", "initialize", "ping", "server/discover", "sampling/createMessage"] {
            assert_eq!(shown(policy.method_decision(method)), "-", "{method}");
        }
        for method in super::METHOD_NAMES.iter().filter(|method| !method.starts_with("notifications/")) {
            assert_eq!(shown(policy.method_decision(method)), "deny /methods/*");
        }
    }

    #[test]
    fn notifications_are_named_as_such() {
        assert_eq!(shown(policy("methods: {\"*\": deny}\n").method_decision("notifications/message")), "-");
        let policy = policy("methods: {notifications: deny, notifications/progress: allow}\n");
        assert_eq!(shown(policy.method_decision("notifications/message")), "deny /methods/notifications");
        assert_eq!(shown(policy.method_decision("notifications/progress")), "allow /methods/notifications~1progress");
        assert_eq!(shown(policy.method_decision("notifications/cancelled")), "-");
    }

    #[test]
    fn what_a_server_may_ask_for() {
        let policy = policy("server_requests: {sampling: deny, elicitation: {url: deny}, roots: allow}\n");
        for (method, mode, expected) in [
            ("sampling/createMessage", None, "deny /server_requests/sampling"),
            ("elicitation/create", None, "-"),
            ("elicitation/create", Some("form"), "-"),
            ("elicitation/create", Some("url"), "deny /server_requests/elicitation/url"),
            ("elicitation/create", Some("telepathy"), "deny /server_requests/elicitation/url"),
            ("roots/list", None, "allow /server_requests/roots"),
            ("ping", None, "-"),
        ] {
            assert_eq!(shown(policy.server_request_decision(method, mode)), expected, "{method} {mode:?}");
        }
    }

    #[test]
    fn one_word_is_for_both_forms_of_elicitation() {
        let policy = policy("server_requests: {elicitation: deny}\n");
        for mode in [None, Some("url"), Some("form"), Some("other")] {
            assert_eq!(shown(policy.server_request_decision("elicitation/create", mode)), "deny /server_requests/elicitation");
        }
    }

    #[test]
    fn in_shadow_mode_a_denial_is_only_noted() {
        let policy = policy("mode: shadow\nmethods: {prompts: deny}\nserver_requests: {roots: deny}\n");
        for decision in [policy.method_decision("prompts/get"), policy.server_request_decision("roots/list", None)] {
            let decision = decision.unwrap();
            assert_eq!((decision.outcome, decision.shadow.unwrap().outcome), (Outcome::Allow, Outcome::Deny));
        }
    }
}
