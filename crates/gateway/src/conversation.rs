//! One conversation over one line to an upstream.
//!
//! A single task owns all of its state: what is in flight, what the server has asked, who waits for what. Calls are admitted
//! side by side, so that the store can commit them together, and forwarded in the order in which they came; replies are
//! settled side by side and given back in the order in which they came. Nothing here waits for one peer while the other waits.

use crate::enforcer::{Permit, Ticket};
use crate::gate::{Expected, FromServer, Gate, Judged};
use crate::refusal::{UPSTREAM_FAILED, is_modern, malformed, unreadable};
use crate::sink::{Batch, Sink};
use crate::upstream::{Failure, Inbound, Link};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use mcp::{Id, Incoming, Kind, Malformed, Message, Revision, Side};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use store::Reply;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Whose ids go upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// The client's: the line carries one client.
    Kept,
    /// Ours: the line is shared, and the clients' ids may collide.
    Ours,
}

/// What a conversation is told.
pub(crate) enum Command {
    /// The client has sent these bytes; they have not been read.
    Bytes { bytes: Bytes, sink: Sink },
    /// The client has sent this message; `exchange` names it for [`Command::Abandon`].
    Message { message: Message, sink: Sink, exchange: u64 },
    /// What the client has sent cannot even be read.
    Refuse { why: String, sink: Sink },
    /// What the server says by itself goes there from now on.
    Attach(Sink),
    /// The client has given up waiting for this exchange.
    Abandon { exchange: u64 },
    /// A question of the gateway's own.
    Ask { question: Message, reply: oneshot::Sender<Message> },
    /// The policy has changed, and with it perhaps the list of tools.
    ToolsChanged,
}

/// A request that was forwarded.
struct Pending {
    waiter: Waiter,
    expected: Expected,
}

enum Waiter {
    Client { id: Id, sink: Sink, exchange: u64, token: Option<String> },
    Ourselves(oneshot::Sender<Message>),
}

/// A request whose admission is under way.
#[derive(Default)]
struct Admitting {
    /// What to send right after it: the client has cancelled it already.
    cancellation: Option<Permit>,
}

struct Admitted {
    judged: Judged,
    sink: Sink,
    exchange: u64,
    /// The client's id and its request, where it is a request that was admitted side by side with others.
    request: Option<(Id, Expected)>,
}

type Outgoing = BoxFuture<'static, ()>;

/// More requests in flight than any client has use for.
const MAX_IN_FLIGHT: usize = 4_096;
/// What the server says by itself before anybody listens.
const MAX_UNHEARD: usize = 256;

pub(crate) struct Conversation {
    gate: Gate,
    link: Link,
    numbering: Numbering,
    revision: Option<Revision>,
    initialized: bool,
    pending: HashMap<Id, Pending>,
    admitting: HashMap<Id, Admitting>,
    admissions: FuturesOrdered<BoxFuture<'static, Admitted>>,
    outgoing: FuturesOrdered<Outgoing>,
    /// Requests of the server's that the client has not answered.
    asked: HashSet<Id>,
    listener: Option<Sink>,
    unheard: VecDeque<Bytes>,
    next: u64,
}

impl Conversation {
    pub fn new(gate: Gate, link: Link, numbering: Numbering) -> Conversation {
        Conversation {
            gate,
            link,
            numbering,
            revision: None,
            initialized: false,
            pending: HashMap::new(),
            admitting: HashMap::new(),
            admissions: FuturesOrdered::new(),
            outgoing: FuturesOrdered::new(),
            asked: HashSet::new(),
            listener: None,
            unheard: VecDeque::new(),
            next: 1,
        }
    }

    /// What the server says by itself goes to `sink` from the beginning.
    pub fn listening(mut self, sink: Sink) -> Conversation {
        self.listener = Some(sink);
        self
    }

    /// Carries the conversation to its end: the server closes, `stop` is cancelled, or the client has closed (all senders of
    /// `commands` are gone) and what was in flight is answered or `patience` is over. Gives the line back, to be shut down.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut inbound: mpsc::Receiver<Inbound>,
        stop: CancellationToken,
        patience: std::time::Duration,
    ) -> Link {
        let mut client_open = true;
        let give_up = tokio::time::sleep(patience);
        tokio::pin!(give_up);
        while client_open || !self.is_idle() {
            tokio::select! {
                command = commands.recv(), if client_open => match command {
                    Some(command) => self.take(command),
                    None => {
                        client_open = false;
                        give_up.as_mut().reset(tokio::time::Instant::now() + patience);
                    }
                },
                Some(admitted) = self.admissions.next() => self.forward(admitted),
                Some(()) = self.outgoing.next() => {}
                arrived = inbound.recv() => match arrived {
                    Some(Inbound::Message(message)) => self.arrive(message),
                    Some(Inbound::Failed { id, failure }) => self.fail(&id, &failure),
                    Some(Inbound::Closed) | None => break,
                },
                () = stop.cancelled() => break,
                () = &mut give_up, if !client_open => break,
            }
        }
        for (_, pending) in std::mem::take(&mut self.pending) {
            self.answer_failure(pending, &Failure::lost("the server has ended before it answered"));
        }
        while self.outgoing.next().await.is_some() {}
        self.link
    }

    fn is_idle(&self) -> bool {
        // A subscription is never answered while it lasts: it is no reason to go on.
        let answered = self.pending.values().all(|pending| pending.expected.method == "subscriptions/listen");
        answered && self.admissions.is_empty() && self.outgoing.is_empty()
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Bytes { bytes, sink } => {
                match Incoming::parse(bytes, Side::Client, self.revision.unwrap_or(Revision::V2025_11_25)) {
                    Ok(Incoming::One(message)) => self.hear(message, sink, 0),
                    Ok(Incoming::Batch(items)) => {
                        let sink = Batch::of(sink, items.len());
                        for item in items {
                            match item {
                                Ok(message) => self.hear(message, sink.clone(), 0),
                                Err(malformed) => self.refuse(malformed, sink.clone()),
                            }
                        }
                    }
                    Err(malformed) => self.refuse(malformed, sink),
                }
            }
            Command::Message { message, sink, exchange } => self.hear(message, sink, exchange),
            Command::Refuse { why, sink } => self.refuse(unreadable(&why), sink),
            Command::Attach(sink) => {
                for message in std::mem::take(&mut self.unheard) {
                    self.say(sink.clone(), message);
                }
                self.listener = Some(sink);
            }
            Command::Abandon { exchange } => self.abandon(exchange),
            Command::Ask { question, reply } => self.ask(question, reply),
            Command::ToolsChanged => {
                if self.initialized {
                    self.tell_client(Bytes::from_static(TOOLS_CHANGED));
                }
            }
        }
    }

    /// Takes one message of the client's.
    fn hear(&mut self, message: Message, sink: Sink, exchange: u64) {
        match message.kind() {
            Kind::Request => self.hear_request(message, sink, exchange),
            Kind::Notification => self.hear_notification(message, sink),
            Kind::Response { .. } => {
                let asked = message.id().is_some_and(|id| self.asked.remove(id));
                if !asked {
                    let malformed = malformed(&message, mcp::reply::INVALID_REQUEST, "a response to nothing that was asked");
                    // Nobody waits for an answer to a response: it is recorded, and over HTTP refused.
                    return self.refuse(malformed, sink);
                }
                // At once: a call may be waiting for a list that the server gives only when it has its answer.
                if let Some(permit) = Permit::answer(message) {
                    self.link.send(permit);
                }
                self.finish_accepted(sink);
            }
        }
    }

    fn hear_request(&mut self, message: Message, sink: Sink, exchange: u64) {
        let Some(id) = message.id().cloned() else { return };
        let taken = self.numbering == Numbering::Kept && (self.pending.contains_key(&id) || self.admitting.contains_key(&id));
        let refusal = if taken {
            Some("a request of this id is still being answered")
        } else if self.pending.len() + self.admitting.len() >= MAX_IN_FLIGHT {
            Some("too many requests are waiting for their answers")
        } else if message.method() == Some("initialize") && self.initialized {
            Some("this session is initialized already")
        } else {
            None
        };
        if let Some(why) = refusal {
            return self.refuse(malformed(&message, mcp::reply::INVALID_REQUEST, why), sink);
        }
        let method = message.method().unwrap_or_default().to_owned();
        let expected = Expected { method, modern: is_modern(&message), ticket: None };
        if self.numbering == Numbering::Kept {
            self.admitting.insert(id.clone(), Admitting::default());
        }
        self.admit(message, sink, exchange, Some((id, expected)));
    }

    fn hear_notification(&mut self, message: Message, sink: Sink) {
        if message.method() == Some("notifications/cancelled")
            && let Some(id) = message.cancelled_id().and_then(|id| Id::of(id).ok())
        {
            if self.numbering == Numbering::Ours {
                // Over HTTP a modern client cancels by closing the stream, and may not know our ids.
                return self.finish_accepted(sink);
            }
            if let Some(admitting) = self.admitting.get_mut(&id) {
                admitting.cancellation = Permit::own(message);
                return self.finish_accepted(sink);
            }
            // 2026-07-28, streamable HTTP: closing the stream is the cancellation, and the only one.
            let closes = self.pending.get(&id).is_some_and(|pending| pending.expected.modern) && self.link.abandon(&id);
            self.cancelled(&id);
            if closes {
                return self.finish_accepted(sink);
            }
        }
        self.admit(message, sink, 0, None);
    }

    /// The client waits no longer: a reply that comes all the same is dropped, as the protocol tells clients to do.
    fn cancelled(&mut self, id: &Id) {
        if !self.pending.get(id).is_some_and(|pending| matches!(pending.waiter, Waiter::Client { .. })) {
            return;
        }
        let Some(ticket) = self.pending.remove(id).and_then(|pending| pending.expected.ticket) else { return };
        let finished = ticket.finish(Reply::Lost, Some("cancelled by the client".into()));
        self.outgoing.push_back(Box::pin(finished));
    }

    /// Starts the judgement of a message. Judgements run side by side; their results come back in order.
    fn admit(&mut self, message: Message, sink: Sink, exchange: u64, request: Option<(Id, Expected)>) {
        let judgement = self.gate.clone().judge(message);
        self.admissions.push_back(Box::pin(async move { Admitted { judged: judgement.await, sink, exchange, request } }));
    }

    fn refuse(&mut self, malformed: Malformed, sink: Sink) {
        let gate = self.gate.clone();
        self.admissions.push_back(Box::pin(async move {
            let judged = gate.refuse(malformed).await;
            Admitted { judged, sink, exchange: 0, request: None }
        }));
    }

    fn forward(&mut self, admitted: Admitted) {
        let Admitted { judged, sink, exchange, request } = admitted;
        let admitting = request.as_ref().and_then(|(id, _)| self.admitting.remove(id));
        let permit = match judged {
            Judged::Pass(permit) => *permit,
            Judged::Answer(answer) => {
                self.outgoing.push_back(Box::pin(async move { sink.last(answer.body, answer.status).await }));
                return;
            }
            Judged::Refused(malformed) => {
                self.outgoing.push_back(Box::pin(async move { sink.refused(&malformed).await }));
                return;
            }
        };
        let Some((id, mut expected)) = request else {
            let sent = self.link.send(permit);
            if let Err(failure) = sent.outcome {
                debug!(%failure.message, "a notification could not be sent");
            }
            return self.finish_accepted(sink);
        };
        let (wire_id, token, permit) = self.number(&id, permit);
        let sent = self.link.send(permit);
        expected.ticket = sent.ticket;
        let pending = Pending { waiter: Waiter::Client { id, sink, exchange, token }, expected };
        match sent.outcome {
            Ok(()) => {
                self.pending.insert(wire_id, pending);
            }
            Err(failure) => return self.answer_failure(pending, &failure),
        }
        if let Some(cancellation) = admitting.and_then(|admitting| admitting.cancellation) {
            self.link.send(cancellation);
        }
    }

    /// Gives the id under which a request goes upstream, and the permit that carries it.
    fn number(&mut self, id: &Id, permit: Permit) -> (Id, Option<String>, Permit) {
        if self.numbering == Numbering::Kept {
            return (id.clone(), None, permit);
        }
        let number = self.next;
        self.next += 1;
        let token = permit.message().progress_token().map(|token| token.raw().to_owned());
        (Id::from(number), token, permit.renumbered(number))
    }

    /// Takes one message of the server's.
    fn arrive(&mut self, message: Message) {
        if !matches!(message.kind(), Kind::Response { .. }) {
            return self.arrive_unasked(message);
        }
        let Some(pending) = message.id().and_then(|id| self.pending.remove(id)) else {
            warn!(server = %self.gate.enforcer.server(), "dropped a reply to nothing that was asked");
            return;
        };
        match pending.waiter {
            Waiter::Ourselves(waiting) => {
                let _ = waiting.send(message);
            }
            Waiter::Client { id, sink, .. } => {
                if pending.expected.method == "initialize" && message.result().is_some() {
                    self.initialized = true;
                    let negotiated = message.result().and_then(|result| result.get("protocolVersion")).and_then(|v| v.as_str());
                    self.revision = negotiated.and_then(|version| Revision::parse(&version));
                }
                let gate = self.gate.clone();
                let expected = pending.expected;
                self.outgoing.push_back(Box::pin(async move {
                    let status = http_status(&message, expected.modern);
                    let body = gate.settle(expected, &message, &id).await;
                    sink.last(body, status).await;
                }));
            }
        }
    }

    fn arrive_unasked(&mut self, message: Message) {
        match self.gate.screen(&message) {
            FromServer::Pass => {}
            FromServer::Answer(answer) => return self.answer_server(answer),
            FromServer::Drop => return,
        }
        if message.kind() == Kind::Request {
            if self.numbering == Numbering::Ours {
                // In the stateless era a server asks within a result; a question on a shared line has no addressee.
                if let Some(id) = message.id() {
                    self.answer_server(mcp::reply::error(
                        Some(id),
                        -32601,
                        "requests of the server are not let through here",
                        None,
                    ));
                }
                return;
            }
            if let Some(id) = message.id() {
                self.asked.insert(id.clone());
            }
        }
        if self.numbering == Numbering::Kept {
            return self.tell_client(message.text().clone());
        }
        match self.addressee(&message) {
            Some((sink, text)) => self.say(sink, text),
            None => debug!(method = message.method(), "dropped a notification that belongs to no request"),
        }
    }

    /// Whom a notification on a shared line is for, and its text with that client's own names for things.
    fn addressee(&self, message: &Message) -> Option<(Sink, Bytes)> {
        if let Some(token) = message.progress_token() {
            let number: u64 = token.raw().parse().ok()?;
            let Waiter::Client { sink, token: Some(original), .. } = &self.pending.get(&Id::from(number))?.waiter else {
                return None;
            };
            return Some((sink.clone(), message.edit().replace(token.span(), original.clone()).finish()));
        }
        let subscription = message.subscription_id()?;
        let Waiter::Client { id, sink, .. } = &self.pending.get(&Id::of(subscription).ok()?)?.waiter else { return None };
        Some((sink.clone(), message.edit().replace(subscription.span(), id.text().to_owned()).finish()))
    }

    /// Says to the client what belongs to no answer: on the listening stream, else on any that is open, else later.
    fn tell_client(&mut self, message: Bytes) {
        let open = self.pending.values().find_map(|pending| match &pending.waiter {
            Waiter::Client { sink, .. } if !sink.is_closed() => Some(sink.clone()),
            _ => None,
        });
        let listening = self.listener.clone().filter(|sink| !sink.is_closed());
        match listening.or(open) {
            Some(sink) => self.say(sink, message),
            None if self.unheard.len() < MAX_UNHEARD => self.unheard.push_back(message),
            None => warn!("dropped a message of the server's: nobody listens"),
        }
    }

    fn say(&mut self, sink: Sink, message: Bytes) {
        self.outgoing.push_back(Box::pin(async move { sink.event(message).await }));
    }

    fn finish_accepted(&mut self, sink: Sink) {
        self.outgoing.push_back(Box::pin(async move { sink.accepted().await }));
    }

    fn answer_server(&mut self, answer: Bytes) {
        if let Some(permit) = Message::parse(answer, Side::Client).ok().and_then(Permit::answer) {
            self.link.send(permit);
        }
    }

    fn ask(&mut self, question: Message, reply: oneshot::Sender<Message>) {
        let Some(id) = question.id().cloned() else { return };
        let Some(permit) = Permit::own(question) else { return };
        let (wire_id, _, permit) = self.number(&id, permit);
        if self.link.send(permit).outcome.is_ok() {
            let expected = Expected { method: "tools/list".into(), modern: false, ticket: None };
            self.pending.insert(wire_id, Pending { waiter: Waiter::Ourselves(reply), expected });
        }
    }

    fn abandon(&mut self, given_up: u64) {
        let of_exchange = |pending: &Pending| matches!(&pending.waiter, Waiter::Client { exchange, .. } if *exchange == given_up);
        let Some(id) = self.pending.iter().find(|(_, pending)| of_exchange(pending)).map(|(id, _)| id.clone()) else { return };
        // Dropping the ticket records that nobody knows how it ended.
        self.pending.remove(&id);
        let cancellation = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{},"reason":"the client has closed the stream"}}}}"#,
            id.text()
        );
        if let Some(permit) = Message::parse(cancellation, Side::Client).ok().and_then(Permit::own) {
            self.link.send(permit);
        }
    }

    fn fail(&mut self, id: &Id, failure: &Failure) {
        if let Some(pending) = self.pending.remove(id) {
            self.answer_failure(pending, failure);
        }
    }

    fn answer_failure(&mut self, pending: Pending, failure: &Failure) {
        let Waiter::Client { id, sink, .. } = pending.waiter else { return };
        let body = mcp::reply::error(Some(&id), UPSTREAM_FAILED, &failure.message, None);
        let status = failure.status.filter(|status| (400..500).contains(status)).unwrap_or(502);
        let reply = if failure.may_have_run { Reply::Lost } else { Reply::Refused };
        let ticket = pending.expected.ticket;
        let message = failure.message.clone();
        self.outgoing.push_back(Box::pin(async move {
            if let Some(ticket) = ticket {
                Ticket::finish(ticket, reply, Some(message)).await;
            }
            sink.last(body, status).await;
        }));
    }
}

/// What clients are told when another policy is in force: it may list other tools.
pub(crate) const TOOLS_CHANGED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

/// 2026-07-28, streamable HTTP: clients tell a server's era by exact statuses.
pub(crate) fn http_status(reply: &Message, modern: bool) -> u16 {
    let code = reply.error().and_then(|error| error.get("code")).and_then(|code| code.raw().parse::<i64>().ok());
    match code {
        Some(mcp::reply::METHOD_NOT_FOUND) if modern => 404,
        Some(mcp::reply::UNSUPPORTED_PROTOCOL_VERSION..=mcp::reply::HEADER_MISMATCH) if modern => 400,
        _ => 200,
    }
}

/// A way to ask the upstream of a conversation.
pub(crate) fn asker(commands: &mpsc::Sender<Command>) -> crate::tools::Ask {
    // Weak: a conversation ends when the client's senders are gone; this one must not keep it open.
    let commands = commands.downgrade();
    Arc::new(move |question| {
        let commands = commands.upgrade();
        Box::pin(async move {
            let (reply, waiting) = oneshot::channel();
            commands?.send(Command::Ask { question, reply }).await.ok()?;
            waiting.await.ok()
        })
    })
}

/// A session id: 32 hexadecimal digits of chance, visible ASCII as the protocol demands.
pub(crate) fn new_session_id() -> Option<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
