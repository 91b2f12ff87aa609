//! What happens to each message, by kind and method: the same on every transport.
//!
//! Towards the upstream a message becomes a permit, an answer of ours, or nothing. Towards the client a reply is settled and
//! filtered. This module knows no sockets, processes or sessions.

use crate::enforcer::{Caller, Denied, Enforcer, Permit, Ticket};
use crate::refusal::{is_modern, malformed};
use crate::tools::Schemas;
use bytes::Bytes;
use mcp::headers::Mirrored;
use mcp::tools::{Tool, ToolList, filter};
use mcp::{Era, Id, Kind, Malformed, Message, Route, Side};
use policy::Posture;
use std::sync::Arc;
use store::Reply;
use tracing::warn;

/// What becomes of a client's message.
pub(crate) enum Judged {
    /// It may go to the upstream.
    Pass(Box<Permit>),
    /// It is answered here.
    Answer(Answer),
    /// It was refused, and is recorded.
    Refused(Malformed),
}

/// An answer of the gateway's own.
#[derive(Debug)]
pub(crate) struct Answer {
    pub body: Bytes,
    /// The status under which it goes over HTTP.
    pub status: u16,
}

/// What a request expects of its reply.
pub(crate) struct Expected {
    pub method: String,
    pub modern: bool,
    pub ticket: Option<Ticket>,
}

/// Judges the messages of one caller.
#[derive(Clone)]
pub(crate) struct Gate {
    pub enforcer: Arc<Enforcer>,
    pub caller: Caller,
    pub schemas: Schemas,
    /// Whether one side speaks HTTP, where headers repeat arguments.
    pub over_http: bool,
}

impl Gate {
    /// Judges a request or a notification of the client's.
    pub async fn judge(self, message: Message) -> Judged {
        let modern = is_modern(&message);
        let is_request = message.kind() == Kind::Request;
        let method = message.method().unwrap_or_default().to_owned();
        let route = mcp::route(&method, message.kind(), Side::Client);
        if is_request && route == Some(Route::Enforce) {
            if self.over_http
                && let Some(facts) = self.schemas.of_call(&message).await
                && let Err(why) = &facts.mirrored
            {
                let why = format!("the tool's definition is invalid over HTTP: {why}");
                return self.refuse(malformed(&message, mcp::reply::INVALID_PARAMS, &why)).await;
            }
            let id = message.id().cloned();
            return match self.enforcer.clone().admit(message, self.caller, self.schemas).await {
                Ok(permit) => Judged::Pass(Box::new(permit)),
                Err(Denied::Malformed(malformed)) => Judged::Refused(malformed),
                Err(Denied::ByPolicy { decision, id: decision_id }) => {
                    let id = id.unwrap_or_else(|| Id::from(""));
                    let message = decision.message.as_deref().unwrap_or("This call is not allowed.");
                    let body = mcp::reply::denied(&id, message, &decision_meta(&decision, &decision_id), modern);
                    Judged::Answer(Answer { body, status: 200 })
                }
            };
        }
        let of_this_era =
            |row: &&mcp::Method| row.name == method && row.from == Side::Client && row.revisions.1.era() == Era::Modern;
        let bygone = modern && route.is_some() && !mcp::METHODS.iter().any(|row| of_this_era(&row));
        let refuse = |why: &str| Some(malformed(&message, mcp::reply::METHOD_NOT_FOUND, why));
        let refused = match route {
            // One server may speak both eras, and serve all clients of this one at once.
            Some(Route::Forward) if bygone => refuse("this protocol revision has no such method"),
            Some(Route::Forward | Route::Filter) => None,
            // A known method of the other direction, or a call without an id.
            Some(Route::Enforce) => Some(malformed(&message, mcp::reply::INVALID_REQUEST, "a call of a tool needs an id")),
            Some(Route::Refuse) => refuse("this method is not let through"),
            // A response to what the server has asked: the conversation has seen to that.
            None if message.method().is_none() => None,
            None if self.enforcer.snapshot().policy.posture() == Posture::Allow => None,
            None => refuse("this method is unknown, and the policy denies what it does not name"),
        };
        if let Some(refused) = refused {
            return self.refuse(refused).await;
        }
        let recorded = is_request && !is_plumbing(&method);
        match self.enforcer.clone().pass(message, &self.caller, recorded).await {
            Ok(permit) => Judged::Pass(Box::new(permit)),
            Err(malformed) => Judged::Refused(malformed),
        }
    }

    /// The tool of a call that cannot be judged before the server's list of tools has been asked for.
    pub fn lacks(&self, message: &Message) -> Option<String> {
        if message.method() != Some("tools/call") {
            return None;
        }
        let tool = message.params()?.get("name")?.as_str()?;
        let repeats = self.over_http && is_modern(message);
        let needed = repeats || self.enforcer.snapshot().policy.needs_schema(&tool);
        (needed && !self.schemas.tools.is_settled(&tool)).then(|| tool.into_owned())
    }

    /// Records what is refused.
    pub async fn refuse(&self, malformed: Malformed) -> Judged {
        Judged::Refused(self.enforcer.refuse(malformed, &self.caller).await)
    }

    /// Settles a reply and gives what the client may see of it, under the id that the client has used.
    pub async fn settle(&self, expected: Expected, reply: &Message, client_id: &Id) -> Bytes {
        if let Some(ticket) = expected.ticket {
            ticket.finish(ending(reply), None).await;
        }
        if expected.method == "tools/list" && reply.result().is_some() {
            return self.filter(reply, client_id, expected.modern);
        }
        match (reply.subscription_id(), reply.document().root().get("id")) {
            // The last word of a subscription names it by the request's id, which was ours on the way.
            (Some(subscription), Some(id)) if expected.method == "subscriptions/listen" => {
                let edit = reply.edit().replace(id.span(), client_id.text().to_owned());
                edit.replace(subscription.span(), client_id.text().to_owned()).finish()
            }
            _ => reply.with_id(client_id),
        }
    }

    fn filter(&self, reply: &Message, client_id: &Id, modern: bool) -> Bytes {
        let snapshot = self.enforcer.snapshot();
        if let Some(Ok(list)) = reply.result().map(ToolList::of) {
            self.schemas.tools.learn(&list);
        }
        let server = self.enforcer.server();
        let filtered = filter(reply, |tool| snapshot.policy.lists(&tool.name) && !(modern && self.is_invalid(tool)), modern)
            .map_err(|error| error.to_string());
        let filtered = filtered.and_then(|filtered| {
            for (tool, why) in filtered.removed.iter().filter_map(|(tool, why)| Some((tool, why.as_ref()?))) {
                warn!(server, tool, why, "left a tool out of the list");
            }
            // The text without some elements is still the text of a message; its id is found anew.
            Message::parse(filtered.text, Side::Server).map_err(|malformed| malformed.message)
        });
        match filtered {
            Ok(message) => message.with_id(client_id),
            Err(why) => {
                warn!(server, why, "withheld a list of tools");
                mcp::reply::error(Some(client_id), mcp::reply::INTERNAL_ERROR, "the server's list of tools cannot be read", None)
            }
        }
    }

    /// 2026-07-28, streamable HTTP: a client must leave out a tool whose annotations for headers are invalid.
    fn is_invalid(&self, tool: &Tool<'_>) -> bool {
        self.over_http && tool.input_schema.is_some_and(|schema| Mirrored::of(schema).is_err())
    }

    /// What becomes of a notification or request that the server sends by itself.
    pub fn screen(&self, message: &Message) -> FromServer {
        let method = message.method().unwrap_or_default();
        match mcp::route(method, message.kind(), Side::Server) {
            Some(Route::Forward | Route::Filter) => {
                if method == "notifications/tools/list_changed" {
                    self.schemas.tools.forget();
                }
                FromServer::Pass
            }
            None if self.enforcer.snapshot().policy.posture() == Posture::Allow => FromServer::Pass,
            _ => {
                warn!(server = %self.enforcer.server(), method, "dropped a message of the server's");
                match message.id() {
                    Some(id) => FromServer::Answer(mcp::reply::error(
                        Some(id),
                        mcp::reply::METHOD_NOT_FOUND,
                        "this method is not let through",
                        None,
                    )),
                    None => FromServer::Drop,
                }
            }
        }
    }
}

/// What becomes of a server's own message.
pub(crate) enum FromServer {
    Pass,
    /// The server is answered in the client's place.
    Answer(Bytes),
    Drop,
}

/// How a call ended, by its reply.
pub(crate) fn ending(reply: &Message) -> Reply {
    let Some(result) = reply.result() else { return Reply::UpstreamError };
    let kind = result.get("resultType").and_then(|kind| kind.as_str());
    match (kind.as_deref(), result.get("isError").and_then(|flag| flag.as_bool())) {
        (Some("input_required"), _) => Reply::InputRequired,
        (_, Some(true)) => Reply::ToolError,
        _ => Reply::Completed,
    }
}

/// What machines are told of a decision against a call.
fn decision_meta(decision: &policy::Decision, id: &str) -> String {
    let rule = decision.rule.as_deref().map_or_else(|| "null".to_owned(), json::quote);
    let retry = decision.retry_after_ms.map(|millis| format!(",\"retryAfterMs\":{millis}")).unwrap_or_default();
    let (outcome, reason) = (decision.outcome.as_str(), decision.reason.as_str());
    format!(r#"{{"id":{},"outcome":"{outcome}","reason":"{reason}","rule":{rule}{retry}}}"#, json::quote(id))
}

/// Methods that carry no effect of the caller's choosing: their traffic is not worth a record each.
fn is_plumbing(method: &str) -> bool {
    matches!(
        method,
        "initialize" | "ping" | "server/discover" | "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list"
    )
}
