//! What servers ask of clients: as requests of their own, and within what they answer.

use super::{Expected, Gate, refusal_of};
use crate::enforcer::Noted;
use crate::methods::judge_method;
use crate::pins::Section;
use crate::refusal::{NOT_ALLOWED, UNAVAILABLE};
use bytes::Bytes;
use mcp::{Id, Kind, Message, Side};
use policy::{Decision, Outcome, Policies, Reason};
use tracing::{debug, warn};

/// What is asked for and must not be, and why.
struct Unwanted {
    method: String,
    decision: Decision,
}

impl Gate {
    /// What may reach the client of a notification of the server's.
    ///
    /// What is dropped by its method is logged and not recorded: a server could fill the record with it.
    pub fn screen_notice(&self, message: Message) -> Option<Message> {
        if self.enforcer.over(&self.caller).is_some() {
            return None;
        }
        let method = message.method().unwrap_or_default();
        let policy = &self.policies();
        let decision = judge_method(policy, method, message.kind(), Side::Server, None);
        if method == "notifications/tools/list_changed" {
            self.schemas.tools.forget(Section::Tools);
        }
        if method == "notifications/prompts/list_changed" {
            self.schemas.tools.forget(Section::Prompts);
        }
        if decision.outcome != Outcome::Allow {
            if decision.rule.is_some() {
                debug!(server = %self.enforcer.server(), method, "dropped a notification: the policy denies it");
            } else {
                warn!(server = %self.enforcer.server(), method, "dropped a message of the server's");
            }
            return None;
        }
        let unwanted = unwanted(policy, &message);
        if let Some(Unwanted { method, decision }) = &unwanted {
            let noted = Noted { detail: Some("asked by the server, of a task".into()), ..Noted::default() };
            self.enforcer.leave_denied(Some(method), decision, noted, &self.caller);
            return None;
        }
        let screened = self.screen_noticed(message);
        let server = self.enforcer.server();
        screened.inspect_err(|why| warn!(server, rule = why.rule.as_deref(), "dropped a notification for what it says")).ok()
    }

    /// Judges and records a request of the server's, and gives what of it may reach the client.
    ///
    /// # Errors
    /// What the server is answered in the client's place: it must not wait for ever.
    pub async fn screen_request(&self, message: Message) -> Result<Message, Bytes> {
        let policies = self.policies();
        let id = message.id().cloned();
        let answer = |code, why: &str| Err(mcp::reply::error(id.as_ref(), code, why, None));
        let method = &message.method().unwrap_or_default().to_owned();
        let refused = match (self.enforcer.over(&self.caller), unwanted(&policies, &message)) {
            (Some(over), _) => Err(over.decision()),
            (None, Some(Unwanted { decision, .. })) => Err(decision),
            (None, None) => self.screen_asked(message).await,
        };
        let message = match refused {
            Ok(message) => message,
            Err(decision) => {
                warn!(server = %self.enforcer.server(), method, "refused a request of the server's");
                let noted = Noted { detail: Some("asked by the server".into()), ..Noted::default() };
                self.enforcer.record_denied(Some(method), &decision, noted, &self.caller).await;
                let code = if decision.rule.is_some() { NOT_ALLOWED } else { mcp::reply::METHOD_NOT_FOUND };
                return answer(code, decision.message.as_deref().unwrap_or_default());
            }
        };
        let mode = message.params().and_then(|params| params.get("mode")?.as_str());
        let decision = judge_method(&policies, method, Kind::Request, Side::Server, mode.as_deref());
        if method == "ping" || self.enforcer.record_asked(method, &decision, &self.caller).await {
            return Ok(message);
        }
        answer(UNAVAILABLE, "refused: it cannot be recorded; try again later")
    }

    /// Records a request that has nobody to answer it, and gives what its server is told.
    pub async fn refuse_request(&self, message: &Message, why: &str) -> Bytes {
        let decision = Decision::deny(Reason::MethodRefused, why);
        let noted = Noted { detail: Some("asked by the server".into()), ..Noted::default() };
        self.enforcer.record_denied(message.method(), &decision, noted, &self.caller).await;
        mcp::reply::error(message.id(), mcp::reply::METHOD_NOT_FOUND, why, None)
    }

    /// Whether a reply asks of the client what it may not, or says what it may not: it is then withheld, and what it was to go
    /// on with will not.
    pub fn withholds(&self, expected: &Expected, reply: &Message) -> bool {
        unwanted(&self.policies(), reply).is_some() || self.is_withheld(expected, reply)
    }

    /// Looks for what a reply asks of the client. Gives the error that the client is told in its place, where it asks for
    /// something that it may not; else notes in the ticket what it asks for.
    pub async fn withhold(&self, expected: &mut Expected, reply: &Message, client_id: &Id) -> Option<Bytes> {
        let policies = self.policies();
        let Some(Unwanted { method, decision }) = unwanted(&policies, reply) else {
            let asked = mcp::asked(reply).unwrap_or_default();
            if let Some(ticket) = expected.ticket.as_mut().filter(|_| !asked.is_empty()) {
                let methods: Vec<&str> = asked.iter().map(|asked| asked.method.as_ref()).collect();
                ticket.note(format!("asks for {}", methods.join(", ")));
            }
            return None;
        };
        warn!(server = %self.enforcer.server(), method, "withheld a reply: what it asks of the client is not allowed");
        let tool = expected.ticket.as_ref().and_then(|ticket| ticket.purpose()).map(|purpose| purpose.target.to_string());
        let detail = Some(format!("asked by the server in its reply to {}", expected.method));
        let noted = Noted { tool: tool.filter(|_| expected.method == "tools/call"), detail, arguments: None };
        let id = Box::pin(self.enforcer.record_denied(Some(&method), &decision, noted, &self.caller)).await;
        if let Some(ticket) = expected.ticket.as_mut() {
            ticket.note(format!("asks for {method}, which is not allowed"));
        }
        Some(refusal_of(&decision, &id, NOT_ALLOWED, client_id))
    }
}

/// The first thing that a message asks for and may not.
fn unwanted(policy: &Policies, message: &Message) -> Option<Unwanted> {
    let asked = match mcp::asked(message) {
        Ok(asked) => asked,
        Err(why) => {
            let decision =
                Decision::deny(Reason::ServerRequestRefused, format!("what the server asks for cannot be read: {why}"));
            return Some(Unwanted { method: message.method().unwrap_or("inputRequests").to_owned(), decision });
        }
    };
    asked.into_iter().find_map(|asked| {
        let decision = judge_method(policy, &asked.method, Kind::Request, Side::Server, asked.mode.as_deref());
        (decision.outcome != Outcome::Allow).then(|| Unwanted { method: asked.method.into_owned(), decision })
    })
}
