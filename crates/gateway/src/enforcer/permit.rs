//! What a call is let through with: the permit that goes to the upstream, and the ticket that stays behind.

use super::Enforcer;
use crate::observe::Observed;
use crate::ownership::Purpose;
use bytes::Bytes;
use http::HeaderMap;
use mcp::{Id, Message, Side};
use policy::{Outcome, Reason, Shadow};
use std::sync::Arc;
use std::time::Instant;
use store::{Draft, Entry, Reply, Reservation};
use tracing::error;

/// Proof that a message was judged, charged and recorded; and the message itself.
///
/// Only the enforcer makes one, and an upstream takes nothing else.
pub struct Permit {
    message: Message,
    /// The message's text, its ids perhaps exchanged for ours.
    text: Bytes,
    /// The id under which it goes upstream, of a request.
    wire_id: Option<Id>,
    /// What stands in the place of the client's `traceparent`, as JSON: the server is told the span that is ours.
    traceparent: Option<String>,
    /// Which of those who share a line has sent it.
    sharer: Option<u64>,
    passed: Passed,
    ticket: Option<Ticket>,
}

/// Headers of a client's HTTP request that its server gets too, where it has any and gets any.
pub(crate) type Passed = Option<Arc<HeaderMap>>;

impl Permit {
    /// A permit for a question of the gateway's own, which can never be a call.
    pub(crate) fn own(message: Message) -> Option<Permit> {
        let allowed = matches!(
            message.method(),
            Some(
                "tools/list"
                    | "prompts/list"
                    | "initialize"
                    | "notifications/initialized"
                    | "notifications/cancelled"
                    | "server/discover"
                    | "ping"
                    | "logging/setLevel"
                    | "resources/subscribe"
                    | "resources/unsubscribe"
                    | "subscriptions/listen"
            )
        );
        allowed.then(|| Permit::new(message, None))
    }

    /// A permit for an answer to a server's request, which can never be a call either.
    pub(crate) fn answer(message: Message) -> Option<Permit> {
        message.method().is_none().then(|| Permit::new(message, None))
    }

    pub(super) fn new(message: Message, ticket: Option<Ticket>) -> Permit {
        let wire_id = message.method().and(message.id()).cloned();
        let traceparent = ticket.as_ref().and_then(|ticket| ticket.observed.as_ref()?.traceparent());
        let traceparent = traceparent.map(|ours| json::quote(&ours));
        let text = match (&traceparent, message.meta("traceparent")) {
            (Some(ours), Some(theirs)) => message.edit().replace(theirs.span(), ours.clone()).finish(),
            _ => message.text().clone(),
        };
        Permit { text, message, wire_id, traceparent, sharer: None, passed: None, ticket }
    }

    /// The same permit, with which these headers travel.
    pub(crate) fn passing(mut self, passed: Passed) -> Permit {
        self.passed = passed;
        self
    }

    /// The headers that travel with it.
    pub(crate) fn passed(&self) -> &Passed {
        &self.passed
    }

    /// The message that was judged.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// What is sent: the judged text.
    pub(crate) fn text(&self) -> &Bytes {
        &self.text
    }

    /// The id under which a request goes upstream.
    pub(crate) fn wire_id(&self) -> Option<&Id> {
        self.wire_id.as_ref()
    }

    /// Which of those who share a line has sent it; `None` where nobody shares one, or all who do are one caller.
    pub(crate) fn sharer(&self) -> Option<u64> {
        self.sharer
    }

    /// The same permit, of one of those who share a line.
    pub(crate) fn of_sharer(mut self, sharer: u64) -> Permit {
        self.sharer = Some(sharer);
        self
    }

    /// Exchanges the id of a request for a number of ours, and its progress token too where `and_token`.
    pub(crate) fn renumbered(mut self, number: u64, and_token: bool) -> Permit {
        let number = Id::from(number);
        // Edits of one text, by spans of the judged text.
        let mut edit = self.message.edit();
        if let (Some(ours), Some(theirs)) = (&self.traceparent, self.message.meta("traceparent")) {
            edit = edit.replace(theirs.span(), ours.clone());
        }
        if let Some(id) = self.message.document().root().get("id") {
            edit = edit.replace(id.span(), number.text());
        }
        if let Some(token) = self.message.progress_token().filter(|_| and_token) {
            edit = edit.replace(token.span(), number.text());
        }
        self.text = edit.finish();
        self.wire_id = Some(number);
        self
    }

    /// The same permit for the text that a bridge between two eras has made of the judged one; its ticket stays behind.
    ///
    /// `None` where that is another method or, byte for byte, another tool, other arguments or another resource.
    pub(crate) fn bridged(&self, text: Bytes) -> Option<Permit> {
        let message = Message::parse(text, Side::Client).ok()?;
        let says = |message: &Message, key: &str| {
            message.params().and_then(|params| params.get(key)).map(|value| value.raw().to_owned())
        };
        let same = |key: &&str| says(&self.message, key) == says(&message, key);
        let is_same = message.kind() == self.message.kind() && message.method() == self.message.method();
        (is_same && ["name", "arguments", "uri", "ref"].iter().all(same))
            .then(|| Permit::new(message, None).passing(self.passed.clone()))
    }

    /// The same permit once more, without its ticket: for the one of two eras that the server turns out to speak.
    pub(crate) fn copy(&self) -> Permit {
        let (message, text, wire_id) = (self.message.clone(), self.text.clone(), self.wire_id.clone());
        let (traceparent, passed) = (self.traceparent.clone(), self.passed.clone());
        Permit { message, text, wire_id, traceparent, sharer: self.sharer, passed, ticket: None }
    }

    /// Takes the ticket out, for whoever answers for the call from here on.
    pub(crate) fn take_ticket(&mut self) -> Option<Ticket> {
        self.ticket.take()
    }

    /// Takes the ticket: from here on the call counts as sent.
    pub(crate) fn into_ticket(mut self) -> Option<Ticket> {
        self.ticket.take()
    }
}

impl Drop for Permit {
    /// A permit that nobody has used: its call was never sent.
    fn drop(&mut self) {
        if let Some(mut ticket) = self.ticket.take() {
            ticket.leave(Reply::Refused);
        }
    }
}

/// The open end of a recorded call: says how it ended, exactly once. Dropped, it says that nobody knows.
pub(crate) struct Ticket {
    enforcer: Arc<Enforcer>,
    /// On the heap: a ticket goes from hand to hand.
    open: Option<Box<(Box<Draft>, Reservation)>>,
    started: Instant,
    purpose: Option<Purpose>,
    observed: Option<Observed>,
}

impl Ticket {
    pub(super) fn new(enforcer: Arc<Enforcer>, draft: Box<Draft>, reservation: Reservation, purpose: Option<Purpose>) -> Ticket {
        Ticket { enforcer, open: Some(Box::new((draft, reservation))), started: Instant::now(), purpose, observed: None }
    }

    /// The same, for a request that is observed.
    pub(super) fn observed(self, observed: Option<Observed>) -> Ticket {
        let mut ticket = self;
        ticket.observed = observed;
        ticket
    }

    /// What the request is about, where its server may interrupt it.
    pub fn purpose(&self) -> Option<&Purpose> {
        self.purpose.as_ref()
    }

    /// The tool that it is of, as far as that is known: of a task, the one that made it.
    pub fn tool(&self) -> Option<&str> {
        self.open.as_ref().and_then(|open| open.0.tool.as_deref())
    }

    /// The id of the decision that let it through: equal in all records of the call.
    pub fn id(&self) -> Arc<str> {
        self.open.as_ref().map(|open| open.0.id.clone()).unwrap_or_default()
    }

    /// Adds something worth keeping to the record of its end.
    pub fn note(&mut self, detail: String) {
        if let Some(open) = &mut self.open {
            open.0.detail = Some(match open.0.detail.take() {
                Some(noted) => format!("{noted}; {detail}"),
                None => detail,
            });
        }
    }

    /// Says in the record of its end why its result does not reach the client.
    pub fn because(&mut self, reason: Reason, rule: Option<&str>) {
        if let Some(open) = &mut self.open {
            (open.0.reason, open.0.rule) = (Some(reason), rule.map(Arc::from));
        }
    }

    /// Says there that rules in shadow mode would have withheld it.
    pub fn would_be_withheld(&mut self, rule: Arc<str>, message: String) {
        if let Some(open) = &mut self.open {
            let (outcome, reason) = (Outcome::Deny, Reason::ResultWithheld);
            open.0.shadow = Some(Shadow { outcome, reason, rule: Some(rule), message: Some(message) });
        }
    }

    /// Records how the call ended. Only what was never sent is refunded: unknown means spent, and an upstream must not be
    /// able to refund itself by answering with an error.
    pub async fn finish(mut self, reply: Reply, message: Option<String>) {
        if let Some((draft, reservation)) = self.take(reply, message) {
            let settled = self.enforcer.store.settle(reservation, draft, reply == Reply::Refused).await;
            self.enforcer.ended(settled.err());
        }
    }

    /// The same of a call that was sent, as an entry that is still to be made. What becomes of it goes to
    /// [`Enforcer::ended`].
    pub fn ending(mut self, reply: Reply) -> Option<Entry> {
        let (draft, reservation) = self.take(reply, None)?;
        Some(Entry::Settle(reservation, draft))
    }

    /// Records the ending without anybody waiting for it.
    fn leave(&mut self, reply: Reply) {
        let Some((draft, reservation)) = self.take(reply, None) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let store = self.enforcer.store.clone();
        let ending = async move {
            if let Err(error) = store.settle(reservation, draft, reply == Reply::Refused).await {
                error!(%error, "how a call ended could not be recorded");
            }
        };
        self.enforcer.endings.spawn_on(ending, &runtime);
    }

    fn take(&mut self, reply: Reply, message: Option<String>) -> Option<(Box<Draft>, Reservation)> {
        let (mut draft, reservation) = *self.open.take()?;
        if let Some(observer) = self.enforcer.observer.get() {
            let (method, tool) = (draft.method.as_deref(), draft.tool.as_deref());
            observer.ended(self.observed.take(), method, tool, reply, self.started.elapsed());
        }
        draft.duration_ms = u64::try_from(self.started.elapsed().as_millis()).ok();
        (draft.reply, draft.message) = (Some(reply), message);
        Some((draft, reservation))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave(Reply::Lost);
    }
}
