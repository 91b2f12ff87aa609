//! What happens to each message, by kind and method: the same on every transport.
//!
//! Towards the upstream a message becomes a permit, an answer of ours, or nothing. Towards the client a reply is settled and
//! filtered. This module knows no sockets, processes or sessions.

mod asked;
mod definitions;
mod held;
mod other;
mod ourselves;
mod results;
mod sealed;
#[cfg(test)]
mod tests;
mod unreached;

use crate::approvers::Waiting;
use crate::enforcer::{Caller, Denied, Enforcer, Permit, Ticket, Undecided};
use crate::methods::judge_method;
use crate::refusal::{NOT_ALLOWED, is_modern, malformed};
use crate::tools::{Lack, Schemas, cursor_text};
use bytes::Bytes;
pub(crate) use held::{Held, Question as Elicitation};
use http::StatusCode;
use mcp::{Id, Kind, Malformed, Message, Route, Side};
pub(crate) use ourselves::discovery;
use policy::{Decision, Outcome, Policies, Reason};
use results::Screened;
use std::borrow::Cow;
use std::sync::Arc;
use store::{Entered, Entry, Reply, StoreError};
use tracing::warn;
pub(crate) use unreached::{unauthorised, unreached};

/// What becomes of a client's message.
pub(crate) enum Judged {
    /// It may go to the upstream.
    Pass(Box<Permit>),
    /// It is answered here.
    Answer(Answer),
    /// It was refused, and is recorded.
    Refused(Malformed),
    /// A person must approve it, and it may wait for that.
    Held(Box<Held>),
}

/// A call that was judged as far as that goes without waiting for anybody.
pub(crate) struct Begun {
    undecided: Undecided,
}

/// An answer of the gateway's own.
#[derive(Debug)]
pub(crate) struct Answer {
    pub body: Bytes,
    /// The status under which it goes over HTTP.
    pub status: u16,
}

impl Answer {
    /// Its status, as a response has it.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_GATEWAY)
    }
}

/// What a request expects of its reply.
pub(crate) struct Expected {
    pub method: String,
    pub modern: bool,
    pub ticket: Option<Ticket>,
    /// Whether its client can have a person open an address.
    pub opens_urls: bool,
    /// Of a request for a list, where its page begins.
    pub cursor: Option<Box<str>>,
    /// Whether its stream is told of changed lists of tools.
    pub hears: Hears,
    /// Whether it may be the reply to an earlier request of its id.
    pub is_resumed: bool,
}

/// Whether a listening stream is told that the list of tools has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hears {
    /// It has not asked for that, or is no listening stream.
    Nothing,
    /// It will be, once the server has acknowledged it: nothing comes before that.
    Later,
    /// It is.
    Now,
}

impl Expected {
    /// What a request expects before it has a ticket.
    pub fn of(request: &Message) -> Expected {
        let method = request.method().unwrap_or_default();
        let wants = || {
            let notifications = request.params().and_then(|params| params.get("notifications"));
            notifications.and_then(|wanted| wanted.get("toolsListChanged")?.as_bool()) == Some(true)
        };
        let hears = if method == "subscriptions/listen" && wants() { Hears::Later } else { Hears::Nothing };
        let cursor = || request.params()?.get("cursor").filter(|cursor| !cursor.is_null());
        let lists = matches!(method, "tools/list" | "prompts/list");
        Expected {
            method: method.to_owned(),
            modern: is_modern(request),
            ticket: None,
            opens_urls: request.opens_urls(),
            cursor: if lists { cursor().map(|cursor| cursor_text(cursor).into()) } else { None },
            hears,
            is_resumed: false,
        }
    }

    /// Takes note of what the server says on the stream.
    pub fn hear(&mut self, notice: &Message) {
        if self.hears == Hears::Later && notice.method() == Some("notifications/subscriptions/acknowledged") {
            self.hears = Hears::Now;
        }
    }

    /// What a listening stream under the client's `id` is told when another policy is in force, if it is told anything.
    pub fn tools_changed(&self, id: &Id) -> Option<Bytes> {
        (self.hears == Hears::Now).then(|| mcp::reply::tools_changed(id))
    }
}

/// Judges the messages of one caller.
#[derive(Clone)]
pub(crate) struct Gate {
    pub enforcer: Arc<Enforcer>,
    pub caller: Caller,
    pub schemas: Schemas,
    /// Whether one side speaks HTTP, where headers repeat arguments.
    pub over_http: bool,
    /// Whether all that goes this way is of the stateless era, also what does not say so itself: notifications may leave it to
    /// a header.
    pub stateless: bool,
    /// Whether the client of the legacy era can ask a person something (`elicitation`), as it has said itself.
    pub elicits: bool,
    /// Whether it can have a person open an address, as it has said itself.
    pub opens_urls: bool,
}

impl Gate {
    /// What holds for the caller now.
    fn policies(&self) -> Policies {
        self.enforcer.policies(&self.caller)
    }

    /// What a request of this client's expects before it has a ticket.
    pub fn expects(&self, request: &Message) -> Expected {
        let expected = Expected::of(request);
        Expected { opens_urls: expected.opens_urls || self.opens_urls, ..expected }
    }

    /// Judges a request or a notification of the client's.
    pub async fn judge(&self, message: Message) -> Judged {
        self.judge_in(message, true).await
    }

    /// Judges a call that has waited: it does not wait again.
    pub async fn judge_again(&self, message: Message) -> Judged {
        self.judge_in(message, false).await
    }

    async fn judge_in(&self, message: Message, may_wait: bool) -> Judged {
        let modern = self.stateless || is_modern(&message);
        let is_request = message.kind() == Kind::Request;
        if let Some(decision) = self.level_denied(&message) {
            return self.deny(&message, NOT_ALLOWED, decision).await;
        }
        if let Some(Lack { section, name }) = self.lacks(&message) {
            self.schemas.fill(section, name.as_deref(), &message).await;
        }
        let method = message.method().unwrap_or_default().to_owned();
        let route = mcp::route(&method, message.kind(), Side::Client);
        if is_request && route == Some(Route::Enforce) {
            if self.over_http
                && let Some(facts) = self.schemas.of_call(&message).await
                && let Some(Err(why)) = facts.mirrored()
            {
                let why = format!("the tool's definition is invalid over HTTP: {why}");
                return self.refuse(malformed(&message, mcp::reply::INVALID_PARAMS, &why)).await;
            }
            return self.judge_call(message, modern, may_wait).await;
        }
        Box::pin(self.judge_other(message, route, modern)).await
    }

    /// Judges a call as far as that goes without waiting for anybody: gives what is to be entered for it, and what is left to
    /// [`Gate::conclude`]. `None` for any other message, and where somebody may have to be waited for: then it is to be
    /// [`Gate::judge`]d.
    pub fn begin(&self, message: &Message) -> Option<(Option<Entry>, Begun)> {
        let is_call = message.kind() == Kind::Request && message.method() == Some("tools/call");
        if !is_call || self.over_http || sealed::hands_back(message) || self.level_denied(message).is_some() {
            return None;
        }
        if self.enforcer.must_recall(message, &self.caller) {
            return None;
        }
        let (entry, undecided) = self.enforcer.begin(message, &self.caller, &self.schemas)?;
        Some((entry, Begun { undecided }))
    }

    /// What becomes of a call, by what became of its entry.
    pub fn conclude(&self, message: Message, begun: Begun, entered: Option<Result<Entered, StoreError>>) -> Judged {
        let modern = self.stateless || is_modern(&message);
        let id = message.id().cloned().unwrap_or_else(|| Id::from(""));
        let permitted = self.enforcer.conclude(message, begun.undecided, entered, &self.caller);
        self.judged(permitted, &id, modern, true)
    }

    async fn judge_call(&self, message: Message, modern: bool, may_wait: bool) -> Judged {
        // A state of ours that is not for this call is left in it, and refused as one that was never issued.
        let is_ours = sealed::hands_back(&message);
        let message = if is_ours { Box::pin(sealed::take_back(self, message)).await } else { message };
        if !is_ours && self.enforcer.must_recall(&message, &self.caller) {
            Box::pin(self.enforcer.recall(&message, &self.caller)).await;
        }
        let id = message.id().cloned().unwrap_or_else(|| Id::from(""));
        let permitted = self.enforcer.clone().admit(message, &self.caller, &self.schemas).await;
        self.judged(permitted, &id, modern, may_wait)
    }

    /// What becomes of a call with this id.
    fn judged(&self, permitted: Result<Permit, Denied>, id: &Id, modern: bool, may_wait: bool) -> Judged {
        match permitted {
            Ok(permit) => Judged::Pass(Box::new(permit)),
            Err(Denied::Malformed(malformed)) => Judged::Refused(malformed),
            Err(Denied::ByPolicy { decision, id: decision_id, .. }) if decision.reason == Reason::UnknownState => {
                // 2026-07-28 §Multi Round-Trip Requests: a state that is not one is an error of the protocol's.
                let body = refusal_of(&decision, &decision_id, mcp::reply::INVALID_PARAMS, id);
                Judged::Answer(Answer { body, status: 200 })
            }
            Err(Denied::ByPolicy { decision, id: decision_id, waiting, message: call }) => {
                let answer = Answer { body: denial(&decision, &decision_id, id, modern), status: 200 };
                match waiting.filter(|_| may_wait) {
                    Some(waiting) => self.clone().hold(*call, *waiting, answer, modern),
                    None => Judged::Answer(answer),
                }
            }
        }
    }

    /// What becomes of a call that a person must approve.
    fn hold(self, call: Message, waiting: Waiting, answer: Answer, modern: bool) -> Judged {
        let in_client = self.enforcer.asks_in_client(&self.caller);
        if in_client
            && modern
            && let Some(body) = sealed::question(&self, &call, &waiting)
        {
            return Judged::Answer(Answer { body, status: 200 });
        }
        let may_ask_client = in_client && !modern && self.elicits && waiting.suits_client();
        let held = Held::new(self, call, waiting, answer, may_ask_client);
        if may_ask_client || held.waits() { Judged::Held(Box::new(held)) } else { Judged::Answer(held.unanswered()) }
    }

    /// Why a request must not set what the server logs: the stateless era does so in any request.
    ///
    /// The request is refused, and not sent without it: what was judged is what is sent, and a client that was told nothing
    /// would wait for logs. Nor is it left to a bridge, so that one policy says the same before servers of either era.
    fn level_denied(&self, message: &Message) -> Option<Decision> {
        message.log_level().filter(|_| message.kind() == Kind::Request)?;
        let decision = judge_method(&self.policies(), "logging/setLevel", Kind::Request, Side::Client, None);
        (decision.outcome != Outcome::Allow).then_some(decision)
    }

    /// Records what is refused.
    pub async fn refuse(&self, malformed: Malformed) -> Judged {
        Judged::Refused(self.enforcer.refuse(malformed, &self.caller).await)
    }

    /// The same as [`Gate::settle`] for the reply to a call, as far as it goes without waiting for anybody: gives what is to be
    /// entered, and what the client is given then. Gives back what was expected where the reply is to be settled as others are.
    pub fn begin_settling(
        &self,
        mut expected: Expected,
        reply: &Message,
        client_id: &Id,
    ) -> Result<(Option<Entry>, Bytes), Expected> {
        let asks = || !mcp::asked(reply).is_ok_and(|asked| asked.is_empty());
        let is_judged = || self.filter_of(&expected, reply.result().is_some()).is_some();
        let issues = || issued(reply) != (None, None);
        let is_over = self.enforcer.over(&self.caller).is_some();
        if expected.method != "tools/call" || is_over || asks() || is_judged() || issues() {
            return Err(expected);
        }
        let entry = expected.ticket.take().and_then(|ticket| ticket.ending(ending(reply, &expected.method)));
        Ok((entry, reply.with_id(client_id)))
    }

    /// Settles a reply and gives what the client may see of it, under the id that the client has used.
    pub async fn settle(&self, mut expected: Expected, reply: &Message, client_id: &Id) -> Bytes {
        if let Some(over) = self.enforcer.over(&self.caller) {
            if let Some(mut ticket) = expected.ticket {
                ticket.note("the result is withheld".to_owned());
                ticket.finish(ending(reply, &expected.method), Some(over.why().to_owned())).await;
            }
            return mcp::reply::error(Some(client_id), NOT_ALLOWED, over.why(), None);
        }
        // First of all: what the tasks of others say is no reason to withhold the list.
        let own;
        let reply = if expected.method == "tasks/list" {
            Box::pin(self.enforcer.recall_listed(mcp::listed_tasks(reply), &self.caller)).await;
            match self.own_tasks(reply, client_id) {
                Ok(message) => {
                    own = message;
                    &own
                }
                Err(told) => {
                    if let Some(ticket) = expected.ticket {
                        ticket.finish(ending(reply, &expected.method), None).await;
                    }
                    return told;
                }
            }
        } else {
            reply
        };
        let screened = match self.filter_of(&expected, reply.result().is_some()) {
            Some(filter) => Box::pin(self.screen_reply(filter, &mut expected, reply, client_id)).await,
            None => Screened::Same,
        };
        let reply = match &screened {
            Screened::Same => reply,
            Screened::Changed(changed) => changed,
            Screened::Withheld(told) => return told.clone(),
        };
        let withheld = self.withhold(&mut expected, reply, client_id).await;
        if withheld.is_none()
            && let Some(purpose) = expected.ticket.as_ref().and_then(Ticket::purpose)
            && let (state, task) = issued(reply)
            && (state.is_some() || task.is_some())
        {
            Box::pin(self.enforcer.issue(&self.caller, purpose, state.as_deref(), task.as_deref())).await;
        }
        if let Some(ticket) = expected.ticket.take() {
            ticket.finish(ending(reply, &expected.method), None).await;
        }
        if let Some(error) = withheld {
            return error;
        }
        let Some(result) = reply.result() else { return reply.with_id(client_id) };
        let mut edit = reply.edit_with_id(client_id);
        if expected.modern && mcp::caching::applies_to(&expected.method) {
            edit = mcp::caching::confine(edit, result);
        }
        match (expected.method.as_str(), reply.subscription_id()) {
            ("tools/list" | "prompts/list", _) => self.filter(reply, edit, client_id, &expected),
            (greets @ ("initialize" | "server/discover"), _) => self.greeting(greets, result, edit),
            // The last word of a subscription names it by the request's id, which was ours on the way.
            ("subscriptions/listen", Some(subscription)) => {
                edit.replace(subscription.span(), client_id.text().to_owned()).finish()
            }
            _ => edit.finish(),
        }
    }

    /// Takes the tasks of others out of a list of tasks.
    ///
    /// # Errors
    /// What the client is told of a list that cannot be read.
    fn own_tasks(&self, reply: &Message, client_id: &Id) -> Result<Message, Bytes> {
        let filtered = mcp::filter_tasks(reply, |task| self.may_use(task)).map_err(|error| error.to_string());
        let parsed = filtered.and_then(|text| Message::parse(text, Side::Server).map_err(|malformed| malformed.message));
        parsed.map_err(|why| {
            warn!(server = self.enforcer.server(), why, "withheld a list of tasks");
            mcp::reply::error(Some(client_id), mcp::reply::INTERNAL_ERROR, "the server's list of tasks cannot be read", None)
        })
    }
}

/// What a reply gives its client to be handed back: a state, a task.
fn issued(reply: &Message) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    let state = reply.result().and_then(|result| result.get("requestState")?.as_str());
    (state, mcp::created_task(reply))
}

/// How a request ended, by its reply.
pub(crate) fn ending(reply: &Message, method: &str) -> Reply {
    let Some(mut result) = reply.result() else { return Reply::UpstreamError };
    let text = |key: &str| result.get(key).and_then(|value| value.as_str());
    if method == "tasks/get" {
        // A task tells how its call stands, and has its result within.
        match text("status").as_deref() {
            Some("input_required") => return Reply::InputRequired,
            Some("failed") if result.get("error").is_some() => return Reply::UpstreamError,
            _ => {}
        }
        result = result.get("result").unwrap_or(result);
    }
    let kind = result.get("resultType").and_then(|kind| kind.as_str());
    match (kind.as_deref(), result.get("isError").and_then(|flag| flag.as_bool())) {
        (Some("input_required"), _) => Reply::InputRequired,
        (_, Some(true)) => Reply::ToolError,
        _ => Reply::Completed,
    }
}

/// A decision against a call as the result that its client gets.
pub(crate) fn denial(decision: &policy::Decision, decision_id: &str, id: &Id, modern: bool) -> Bytes {
    let message = decision.message.as_deref().unwrap_or("This call is not allowed.");
    mcp::reply::denied(id, message, &decision_meta(decision, decision_id), modern)
}

/// A decision against a request as a JSON-RPC error.
fn refusal_of(decision: &policy::Decision, decision_id: &str, code: i64, id: &Id) -> Bytes {
    let data = format!(r#"{{"dev.callgate/decision":{}}}"#, decision_meta(decision, decision_id));
    let why = decision.message.as_deref().unwrap_or("The policy does not allow this.");
    mcp::reply::error(Some(id), code, why, Some(&data))
}

/// What machines are told of a decision against a call.
fn decision_meta(decision: &policy::Decision, id: &str) -> String {
    let rule = decision.rule.as_deref().map_or_else(|| "null".to_owned(), json::quote);
    let retry = decision.retry_after_ms.map(|millis| format!(",\"retryAfterMs\":{millis}")).unwrap_or_default();
    let (outcome, reason) = (decision.outcome.as_str(), decision.reason.as_str());
    format!(r#"{{"id":{},"outcome":"{outcome}","reason":"{reason}","rule":{rule}{retry}}}"#, json::quote(id))
}
