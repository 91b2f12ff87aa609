//! Clients' messages that are no calls: what the policy says of their methods, and to whom what they name belongs.

use super::{Answer, Gate, Judged, refusal_of, sealed};
use crate::enforcer::{Noted, unissued};
use crate::methods::judge_method;
use crate::ownership::Whose;
use crate::refusal::{NOT_ALLOWED, lacks_tasks, malformed};
use json::Value;
use mcp::{Era, Kind, Malformed, Message, Route, Side};
use policy::{Decision, Outcome, Policies, Reason};

impl Gate {
    /// Judges a message that is no call of a tool.
    pub(super) async fn judge_other(&self, message: Message, route: Option<Route>, modern: bool) -> Judged {
        let is_request = message.kind() == Kind::Request;
        // A response to what the server has asked: the conversation has seen to that.
        let Some(method) = message.method().map(str::to_owned) else { return self.pass(message, None).await };
        let policies = self.policies();
        if let Some(over) = self.enforcer.over(&self.caller) {
            return self.deny(&message, NOT_ALLOWED, over.decision()).await;
        }
        if route == Some(Route::Enforce) {
            return self.refuse(malformed(&message, mcp::reply::INVALID_REQUEST, "a call of a tool needs an id")).await;
        }
        // One server may speak both eras, and serve all clients of this one at once.
        if modern && matches!(route, Some(Route::Forward | Route::Filter)) && !is_modern_method(&method) {
            let why = "this protocol revision has no such method";
            return self.refuse(malformed(&message, mcp::reply::METHOD_NOT_FOUND, why)).await;
        }
        let decision = judge_method(&policies, &method, message.kind(), Side::Client, None);
        if decision.outcome != Outcome::Allow {
            if decision.rule.is_none() {
                let why = decision.message.unwrap_or_default();
                return self.refuse(malformed(&message, mcp::reply::METHOD_NOT_FOUND, &why)).await;
            }
            return self.deny(&message, NOT_ALLOWED, decision).await;
        }
        if let Some(decision) = self.prompt_denied(&message, &policies) {
            return self.deny(&message, NOT_ALLOWED, decision).await;
        }
        if is_request && !sealed::hands_back(&message) && self.enforcer.must_recall(&message, &self.caller) {
            self.enforcer.recall(&message, &self.caller).await;
        }
        if let Some(decision) = self.disowned(&message, &policies) {
            // Whoever knows of no tasks hears that first, as it would from the server.
            if decision.reason == Reason::UnknownTask
                && let Some(refused) = lacks_tasks(&message)
            {
                return self.refuse(refused).await;
            }
            return self.deny(&message, mcp::reply::INVALID_PARAMS, decision).await;
        }
        let (message, left_out) = match self.without_denied(message, &policies) {
            Ok(stripped) => stripped,
            Err(malformed) => return self.refuse(malformed).await,
        };
        let recorded = (is_request && !is_plumbing(&method)) || decision.shadow.is_some();
        let noted = recorded.then(|| {
            let mut noted = self.noted(&message);
            noted.detail = noted.detail.or(left_out);
            (decision, noted)
        });
        self.pass(message, noted).await
    }

    async fn pass(&self, message: Message, recorded: Option<(Decision, Noted)>) -> Judged {
        match self.enforcer.clone().pass(message, &self.caller, recorded).await {
            Ok(permit) => Judged::Pass(Box::new(permit)),
            Err(malformed) => Judged::Refused(malformed),
        }
    }

    /// Why a request must not go on what it names: a state that was not issued for it, or a task of somebody else.
    fn disowned(&self, message: &Message, policy: &Policies) -> Option<Decision> {
        // What is only tried out stops nothing.
        if message.kind() != Kind::Request || policy.is_shadow() {
            return None;
        }
        if self.enforcer.is_unissued(message, &self.caller) {
            return Some(unissued());
        }
        if !mcp::TASK_METHODS.contains(&message.method()?) {
            return None;
        }
        let id = message.params().and_then(|params| params.get("taskId")?.as_str());
        // What is no id names no task of anybody's; the server says so.
        (!self.may_use(&id?)).then(|| Decision::deny(Reason::UnknownTask, "Unknown task."))
    }

    /// Whether a task may be the caller's. One that nobody remembers, here or in the state, is left
    /// to the server where there is nobody else whose it could be.
    pub(super) fn may_use(&self, task: &str) -> bool {
        match self.whose(task) {
            Whose::Own(_) => true,
            Whose::Foreign => false,
            Whose::Unknown => self.caller.is_alone(),
        }
    }

    fn whose(&self, task: &str) -> Whose {
        self.enforcer.owned().task(&self.caller.owner(), task, self.enforcer.store().clock().now())
    }

    /// Takes out of a subscription what its caller may not have anyway: resources where `resources/subscribe` is denied,
    /// tasks where `tasks/get` is, and tasks of others. The server's acknowledgement tells the client what is left.
    fn without_denied(&self, message: Message, policy: &Policies) -> Result<(Message, Option<String>), Malformed> {
        let named = message.params().and_then(|params| params.get("notifications"));
        let (Some("subscriptions/listen"), Some(named)) = (message.method(), named) else { return Ok((message, None)) };
        for member in named.members().into_iter().flatten() {
            if let Some(key) = json::could_be_taken_for(&member.key, &["resourceSubscriptions", "taskIds"]) {
                let why = format!("a member of `notifications` could be taken for `{key}`");
                return Err(malformed(&message, mcp::reply::INVALID_PARAMS, &why));
            }
        }
        let denied = |methods: [&str; 2]| {
            let denies = |method: &&str| policy.method_decision(method).is_some_and(|decision| decision.outcome == Outcome::Deny);
            methods.iter().any(denies)
        };
        let (mut edit, mut left_out) = (message.edit(), Vec::new());
        if let Some(resources) = named.get("resourceSubscriptions")
            && denied(["resources/subscribe", "notifications/resources/updated"])
        {
            edit = edit.replace(resources.span(), "[]");
            left_out.push("resources");
        }
        if let Some(tasks) = named.get("taskIds") {
            let no_tasks = denied(["tasks/get", "notifications/tasks"]);
            let foreign = |id: Value<'_>| id.as_str().is_some_and(|id| !self.may_use(&id));
            let all: Vec<_> = tasks.elements().into_iter().flatten().collect();
            let kept: Vec<_> = all.iter().filter(|id| !no_tasks && (policy.is_shadow() || !foreign(**id))).collect();
            if no_tasks || kept.len() < all.len() {
                let kept: Vec<&str> = kept.into_iter().map(|id| id.raw()).collect();
                edit = edit.replace(tasks.span(), format!("[{}]", kept.join(",")));
                left_out.push("tasks");
            }
        }
        if left_out.is_empty() {
            return Ok((message, None));
        }
        let text = edit.finish();
        Ok((Message::parse(text, Side::Client)?, Some(format!("left out: {}", left_out.join(", ")))))
    }

    /// What a record says of a request besides its method: what stands for arguments there.
    pub(super) fn noted(&self, message: &Message) -> Noted {
        let enforcer = &self.enforcer;
        let params = message.params();
        let param = |key: &str| params.and_then(|params| params.get(key));
        let name = |key: &str| param(key).and_then(|value| value.as_str()).map(|name| name.into_owned());
        let beside = enforcer.kept_beside(message);
        match message.method().unwrap_or_default() {
            "tools/call" => Noted { tool: name("name"), arguments: enforcer.kept(param("arguments")), detail: beside },
            "prompts/get" => {
                let detail: Vec<String> = name("name").map(|name| format!("prompt: {name}")).into_iter().chain(beside).collect();
                Noted { tool: None, arguments: enforcer.kept(param("arguments")), detail: Some(detail.join("; ")) }
            }
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
                Noted { tool: None, arguments: enforcer.kept(param("uri")), detail: beside }
            }
            "completion/complete" => Noted { arguments: enforcer.kept(param("argument")), ..Noted::default() },
            "subscriptions/listen" => Noted { arguments: enforcer.kept(param("notifications")), ..Noted::default() },
            method if mcp::TASK_METHODS.contains(&method) => {
                let tool = name("taskId").and_then(|id| match self.whose(&id) {
                    Whose::Own(tool) => Some(tool),
                    Whose::Foreign | Whose::Unknown => None,
                });
                Noted { tool, arguments: enforcer.kept(param("inputResponses")), detail: None }
            }
            _ => Noted::default(),
        }
    }

    /// Records a denial by the policy, and answers it where somebody waits.
    pub(super) async fn deny(&self, message: &Message, code: i64, decision: Decision) -> Judged {
        let id = self.enforcer.record_denied(message.method(), &decision, self.noted(message), &self.caller).await;
        match message.id().filter(|_| message.kind() == Kind::Request) {
            Some(client_id) => Judged::Answer(Answer { body: refusal_of(&decision, &id, code, client_id), status: 200 }),
            None => Judged::Refused(malformed(message, code, decision.message.as_deref().unwrap_or_default())),
        }
    }
}

fn is_modern_method(method: &str) -> bool {
    let of_this_era = |row: &mcp::Method| row.name == method && row.from == Side::Client && row.revisions.1.era() == Era::Modern;
    mcp::METHODS.iter().any(of_this_era)
}

/// Methods that carry no effect of the caller's choosing: their traffic is not worth a record each.
fn is_plumbing(method: &str) -> bool {
    matches!(
        method,
        "initialize" | "ping" | "server/discover" | "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list"
    )
}
