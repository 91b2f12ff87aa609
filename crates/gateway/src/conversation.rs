//! One conversation over one line to an upstream.
//!
//! A single task owns all of its state: what is in flight, what the server has asked, who waits for what. Calls are admitted
//! side by side, so that the store can commit them together, and forwarded in the order in which they came; replies are
//! settled side by side and given back in the order in which they came. Nothing here waits for one peer while the other waits.
//!
//! Requests go upstream under numbers of ours, none of them used twice: whatever a client does with its ids, a late reply
//! is never taken for the reply to something else, and no id of a client's can be that of a question of our own.

mod together;

use crate::enforcer::{GRANT_ENDED, Passed, Permit, Ticket};
use crate::gate::{Answer, Elicitation, Expected, Gate, Held, Judged, unreached};
use crate::refusal::{malformed, unreadable};
use crate::sink::{self, Sink};
use crate::tools::{Ask, Lack};
use crate::unanswered::Unanswered;
use crate::upstream::{Failure, Inbound, Link};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use json::Value;
use mcp::{Id, Incoming, Kind, Malformed, Message, Revision, Side};
use std::collections::{HashMap, VecDeque};
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;
use store::Reply;
use together::{Rest, Together};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Whom a line carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clients {
    /// One, for as long as the line lasts.
    One,
    /// All of the stateless era: their ids and progress tokens may collide, and what belongs to no request is for nobody.
    Many,
}

/// What a conversation is told.
pub(crate) enum Command {
    /// The client has sent these bytes; they have not been read.
    Bytes { bytes: Bytes, sink: Sink },
    /// The client has sent this message; `exchange` names it for [`Command::Abandon`], and `passed` travels on with a request.
    Message { message: Message, sink: Sink, exchange: u64, passed: Passed },
    /// What the client has sent cannot even be read.
    Refuse { why: String, sink: Sink },
    /// What the server says by itself goes there from now on.
    Attach(Sink),
    /// The client has given up waiting for this exchange.
    Abandon { exchange: u64 },
    /// The policy has changed, and with it perhaps the list of tools.
    ToolsChanged,
    /// Once nothing is under way any more, this is over.
    Finish,
}

/// A question of the gateway's own, and who waits for the answer. On a way of its own: calls wait for it.
pub(crate) struct Question {
    message: Message,
    reply: oneshot::Sender<Message>,
}

/// A request that was forwarded.
struct Pending {
    waiter: Waiter,
    expected: Expected,
    since: Instant,
}

enum Waiter {
    Client { id: Id, sink: Sink, exchange: u64, token: Option<String> },
    Ourselves(oneshot::Sender<Message>),
}

struct Admitted {
    judged: Judged,
    sink: Sink,
    exchange: u64,
    /// Where it is a request.
    request: Option<Request>,
}

/// A request of the client's on its way to the upstream.
struct Request {
    id: Id,
    /// Under which it goes upstream. Tells it from other requests of the same id: a client may cancel one, and use its id again
    /// at once.
    number: u64,
    expected: Expected,
    passed: Passed,
}

/// A call for which the list of tools has been asked for, whatever came of it.
struct Learnt {
    message: Message,
    sink: Sink,
    exchange: u64,
    request: Request,
}

/// A call that has waited for a person, and what became of it.
struct Answered {
    judged: Judged,
    sink: Sink,
    exchange: u64,
    request: Option<Request>,
    /// The question to the client that was open meanwhile.
    asked: Option<Id>,
}

type Outgoing = BoxFuture<'static, ()>;

/// A subscription: never answered while it lasts.
const LISTEN: &str = "subscriptions/listen";
/// More requests in flight than any client has use for.
const MAX_IN_FLIGHT: usize = 4_096;
/// More open subscriptions than there can be connections.
const MAX_SUBSCRIPTIONS: usize = 16_384;
/// So many messages may be on their way through here; then nothing more is read of whoever sends them.
const MAX_QUEUED: usize = 1_024;
/// Requests that nobody waits for any more, and those that the server is silent about, are looked for this often.
const SWEEP: Duration = Duration::from_secs(5);
/// How long answers that are under way at the end are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Small against all that is waited for there.
const TICK: Duration = Duration::from_millis(500);
/// What the server says by itself before anybody listens.
const MAX_UNHEARD: usize = 256;

pub(crate) struct Conversation {
    gate: Gate,
    link: Link,
    clients: Clients,
    revision: Option<Revision>,
    initialized: bool,
    /// By the number under which they went upstream.
    pending: HashMap<u64, Pending>,
    /// The numbers of requests that are under way, by the one client's id. What it cancels is taken out.
    under_way: HashMap<Id, u64>,
    /// Calls that wait for the server's list of tools. They keep nobody else waiting, and lose their place in the order.
    learning: FuturesUnordered<BoxFuture<'static, Learnt>>,
    /// Calls that wait for a person. They keep nobody else waiting either.
    held: FuturesUnordered<BoxFuture<'static, Answered>>,
    /// Questions of ours to the client, by their ids.
    own_questions: HashMap<Id, oneshot::Sender<Message>>,
    /// Cancelled when calls that wait must wait no longer: there is no client any more.
    hurry: CancellationToken,
    /// What has just come in. Nothing is awaited before it is entered.
    together: Together,
    admissions: FuturesOrdered<BoxFuture<'static, Admitted>>,
    outgoing: FuturesOrdered<Outgoing>,
    /// Requests of the server's that are being judged and recorded.
    screening: FuturesOrdered<BoxFuture<'static, Result<Message, Bytes>>>,
    /// Requests of the server's that the client has not answered.
    asked: Unanswered,
    listener: Option<Sink>,
    unheard: VecDeque<Bytes>,
    /// Whether it ends once nothing is under way.
    finishing: bool,
    next: u64,
}

impl Conversation {
    pub fn new(gate: Gate, mut link: Link, clients: Clients) -> Conversation {
        if clients == Clients::Many {
            link.share();
        }
        Conversation {
            gate,
            link,
            clients,
            revision: None,
            initialized: false,
            pending: HashMap::new(),
            under_way: HashMap::new(),
            learning: FuturesUnordered::new(),
            held: FuturesUnordered::new(),
            own_questions: HashMap::new(),
            hurry: CancellationToken::new(),
            together: Together::default(),
            admissions: FuturesOrdered::new(),
            outgoing: FuturesOrdered::new(),
            screening: FuturesOrdered::new(),
            asked: Unanswered::default(),
            listener: None,
            unheard: VecDeque::new(),
            finishing: false,
            next: 1,
        }
    }

    /// What the server says by itself goes to `sink` from the beginning.
    pub fn listening(mut self, sink: Sink) -> Conversation {
        self.listener = Some(sink);
        self
    }

    /// Carries the conversation to its end: the server closes, or the client has closed (all senders of `commands` are gone) or
    /// `stop` is cancelled, and what was in flight then is answered or `patience` is over. Gives the line back, to be shut down.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut questions: mpsc::Receiver<Question>,
        mut inbound: mpsc::Receiver<Inbound>,
        stop: CancellationToken,
        patience: Duration,
    ) -> Link {
        let mut client_open = true;
        let (give_up, stopped) = (tokio::time::sleep(patience), stop.cancelled());
        let ended = self.gate.enforcer.end_of(&self.gate.caller);
        tokio::pin!(give_up, stopped, ended);
        let (mut told, mut arrived) = (Vec::new(), Vec::new());
        let mut sweep = tokio::time::interval(self.link.patience().map_or(SWEEP, |silence| SWEEP.min(silence / 4)));
        // So often a bridge is asked whether something has waited too long.
        let mut tick = tokio::time::interval(TICK);
        while (client_open && !self.finishing) || !self.is_idle() {
            let mut is_over = false;
            while let Some(arrived) = self.link.ready() {
                is_over |= self.take_inbound(arrived);
            }
            self.enter_together();
            if is_over {
                break;
            }
            let room_to_send = MAX_QUEUED.saturating_sub(self.outgoing.len() + self.screening.len());
            let room = room_to_send.saturating_sub(self.admissions.len() + self.learning.len());
            tokio::select! {
                count = commands.recv_many(&mut told, room), if client_open && room > 0 => {
                    told.drain(..).for_each(|command| self.take(command));
                    self.enter_together();
                    if count == 0 {
                        client_open = false;
                        give_up.as_mut().reset(tokio::time::Instant::now() + patience);
                    }
                }
                Some(Learnt { message, sink, exchange, request }) = self.learning.next() => {
                    self.admit(message, sink, exchange, Some(request));
                    self.enter_together();
                }
                Some(admitted) = self.admissions.next() => self.forward(admitted),
                Some(answered) = self.held.next() => self.resume(answered),
                Some(()) = self.outgoing.next() => {}
                Some(screened) = self.screening.next() => self.screened(screened),
                Some(question) = questions.recv() => self.ask(question),
                count = inbound.recv_many(&mut arrived, room_to_send), if room_to_send > 0 => {
                    let mut is_over = count == 0;
                    for arrived in arrived.drain(..) {
                        let arrived = self.link.receive(arrived);
                        is_over |= arrived.is_some_and(|arrived| self.take_inbound(arrived));
                    }
                    self.enter_together();
                    if is_over {
                        break;
                    }
                }
                () = &mut stopped, if client_open => {
                    client_open = false;
                    self.hurry.cancel();
                    give_up.as_mut().reset(tokio::time::Instant::now() + patience);
                }
                () = &mut ended => {
                    self.withdraw_all(GRANT_ENDED);
                    break;
                }
                _ = sweep.tick() => self.sweep(),
                _ = tick.tick(), if self.link.ticks() => self.link.tick(),
                () = &mut give_up, if !client_open => break,
            }
        }
        let stopped = stop.is_cancelled();
        for (_, pending) in std::mem::take(&mut self.pending) {
            if stopped && pending.expected.method == LISTEN {
                self.end_subscription(pending);
                continue;
            }
            self.answer_failure(pending, &Failure::lost("the server has ended before it answered"));
        }
        // What is still being judged is dropped now: it may have a turn in the store, which the endings would wait for.
        self.admissions = FuturesOrdered::new();
        self.screening = FuturesOrdered::new();
        self.learning.clear();
        self.held.clear();
        // A client that does not read does not hold us up.
        let _ = tokio::time::timeout(LAST_WORDS, async { while self.outgoing.next().await.is_some() {} }).await;
        self.link
    }

    /// Takes what comes from the server; true when nothing more will come.
    fn take_inbound(&mut self, arrived: Inbound) -> bool {
        match arrived {
            Inbound::Message(message) => self.arrive(message),
            Inbound::Failed { id, failure } => {
                if let Some(pending) = number_of(&id).and_then(|number| self.take_pending(number)) {
                    self.answer_failure(pending, &failure);
                }
            }
            Inbound::Beside { id, message } => self.arrive_beside(&id, message),
            // Only a bridge has several lines, and it has taken this in itself.
            Inbound::Of { .. } => {}
            Inbound::Closed => return true,
        }
        false
    }

    fn is_idle(&self) -> bool {
        // A subscription is never answered while it lasts: it is no reason to go on.
        let answered = self.pending.values().all(|pending| pending.expected.method == LISTEN);
        answered && self.learning.is_empty() && self.held.is_empty() && self.admissions.is_empty() && self.outgoing.is_empty()
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Bytes { bytes, sink } => {
                match Incoming::parse(bytes, Side::Client, self.revision.unwrap_or(Revision::V2025_11_25)) {
                    Ok(Incoming::One(message)) => self.hear(message, sink, 0, None),
                    Ok(Incoming::Batch(items)) => {
                        for (sink, item) in sink::batch(sink, items.len()).zip(items) {
                            match item {
                                Ok(message) => self.hear(message, sink, 0, None),
                                Err(malformed) => self.refuse(malformed, sink),
                            }
                        }
                    }
                    Err(malformed) => self.refuse(malformed, sink),
                }
            }
            Command::Message { message, sink, exchange, passed } => self.hear(message, sink, exchange, passed),
            Command::Refuse { why, sink } => self.refuse(unreadable(&why), sink),
            Command::Attach(sink) => {
                for message in std::mem::take(&mut self.unheard) {
                    self.say(sink.clone(), message);
                }
                self.listener = Some(sink);
            }
            Command::Abandon { exchange } => self.abandon(exchange),
            Command::Finish => self.finishing = true,
            Command::ToolsChanged => {
                if self.initialized {
                    self.tell_client(Bytes::from_static(TOOLS_CHANGED));
                }
                let told = self.pending.values().filter_map(|pending| match &pending.waiter {
                    Waiter::Client { id, sink, .. } => Some((sink.clone(), pending.expected.tools_changed(id)?)),
                    Waiter::Ourselves(_) => None,
                });
                for (sink, notice) in told.collect::<Vec<_>>() {
                    self.say(sink, notice);
                }
            }
        }
    }

    /// Takes one message of the client's.
    fn hear(&mut self, message: Message, sink: Sink, exchange: u64, passed: Passed) {
        match message.kind() {
            Kind::Request => self.hear_request(message, sink, exchange, passed),
            Kind::Notification => self.hear_notification(message, sink),
            Kind::Response { .. } => {
                if let Some(waiting) = message.id().and_then(|id| self.own_questions.remove(id)) {
                    let _ = waiting.send(message);
                    return self.finish_accepted(sink);
                }
                let asked = message.id().is_some_and(|id| self.asked.answer(id));
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

    fn hear_request(&mut self, message: Message, sink: Sink, exchange: u64, passed: Passed) {
        let Some(id) = message.id().cloned() else { return };
        let taken = self.clients == Clients::One && self.under_way.contains_key(&id);
        let refusal = if taken {
            Some("a request of this id is still being answered")
        } else if self.pending.len().max(self.under_way.len()) + self.held.len() >= self.room_for(&message) {
            Some("too many requests are waiting for their answers")
        } else if message.method() == Some("initialize") && self.initialized {
            Some("this session is initialized already")
        } else {
            None
        };
        if let Some(why) = refusal {
            return self.refuse(malformed(&message, mcp::reply::INVALID_REQUEST, why), sink);
        }
        if message.method() == Some("initialize") && self.clients == Clients::One {
            self.gate.elicits = message.agrees_to_elicitation();
            self.gate.opens_urls = message.opens_urls();
        }
        let expected = self.gate.expects(&message);
        let number = self.number();
        if self.clients == Clients::One {
            self.under_way.insert(id.clone(), number);
        }
        let request = Request { id, number, expected, passed };
        if let Some((entry, begun)) = self.gate.begin(&message) {
            return self.put(entry, Rest::Call { message, begun, sink, exchange, request });
        }
        match self.gate.lacks(&message) {
            None => self.admit(message, sink, exchange, Some(request)),
            Some(Lack { section, name }) => {
                let schemas = self.gate.schemas.clone();
                self.learning.push(Box::pin(async move {
                    schemas.fill(section, name.as_deref(), &message).await;
                    Learnt { message, sink, exchange, request }
                }));
            }
        }
    }

    /// How many requests may be in flight before this one.
    fn room_for(&self, message: &Message) -> usize {
        // Subscriptions wait for nothing; where many clients share the line, theirs leave the others' room alone.
        match self.clients {
            Clients::Many if message.method() == Some(LISTEN) => MAX_SUBSCRIPTIONS,
            Clients::Many => MAX_SUBSCRIPTIONS + MAX_IN_FLIGHT,
            Clients::One => MAX_IN_FLIGHT,
        }
    }

    fn hear_notification(&mut self, message: Message, sink: Sink) {
        if message.method() == Some("notifications/cancelled")
            && let Some(id) = message.cancelled_id().and_then(|id| Id::of(id).ok())
        {
            // Over HTTP a client of the stateless era cancels by closing the stream; here it may not know whose id this is.
            if self.clients == Clients::One
                && let Some(number) = self.under_way.remove(&id)
            {
                // Where it is not in flight yet, it is stopped on its way.
                self.cancel(number, "cancelled by the client");
            }
            return self.finish_accepted(sink);
        }
        self.admit(message, sink, 0, None);
    }

    /// Gives up what the server has been silent about for too long, and what no client waits for any more.
    fn sweep(&mut self) {
        let silence = self.link.patience();
        let is_late = |pending: &Pending| {
            // A subscription is never answered while it lasts.
            silence.is_some_and(|silence| pending.since.elapsed() > silence) && pending.expected.method != LISTEN
        };
        // A client that closes says so itself, unless too many say so at once.
        let is_left = |pending: &Pending| matches!(&pending.waiter, Waiter::Client { exchange, sink, .. } if *exchange != 0 && sink.is_closed());
        let found: Vec<_> =
            self.pending.iter().filter(|(_, pending)| is_late(pending) || is_left(pending)).map(|(number, _)| *number).collect();
        for number in found {
            if self.pending.get(&number).is_some_and(is_left) {
                self.cancel(number, "the client has closed the stream");
            } else if let Some(pending) = self.withdraw(number, "no answer in time") {
                self.answer_failure(pending, &Failure::silent(silence.unwrap_or_default()));
            }
        }
    }

    fn cancel(&mut self, number: u64, why: &str) {
        let Some(Pending { expected, .. }) = self.withdraw(number, why) else { return };
        if let Some(ticket) = expected.ticket {
            self.let_go(ticket.finish(Reply::Lost, Some(why.to_owned())));
        }
    }

    /// Tells the server that nobody waits for a request any more; a reply that comes all the same is dropped.
    fn withdraw(&mut self, number: u64, why: &str) -> Option<Pending> {
        let pending = self.take_pending(number)?;
        // 2026-07-28, streamable HTTP: closing the stream is the cancellation, and the only one.
        let closes = pending.expected.modern && self.link.abandon(&Id::from(number));
        if !closes {
            let notice = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number},"reason":{}}}}}"#,
                json::quote(why)
            );
            if let Some(permit) = Message::parse(notice, Side::Client).ok().and_then(Permit::own) {
                self.link.send(permit);
            }
        }
        Some(pending)
    }

    /// The same of everything that is in flight; their clients are told.
    fn withdraw_all(&mut self, why: &str) {
        let all: Vec<u64> = self.pending.keys().copied().collect();
        for number in all {
            if let Some(pending) = self.withdraw(number, why) {
                self.answer_failure(pending, &Failure::lost(why));
            }
        }
    }

    /// Takes out a request that is in flight no more.
    fn take_pending(&mut self, number: u64) -> Option<Pending> {
        let pending = self.pending.remove(&number)?;
        if let Waiter::Client { id, .. } = &pending.waiter {
            self.free_id(id, number);
        }
        Some(pending)
    }

    /// From here on the client may use the id again.
    fn free_id(&mut self, id: &Id, number: u64) {
        if self.under_way.get(id) == Some(&number) {
            self.under_way.remove(id);
        }
    }

    /// A number that no request has had.
    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// Starts the judgement of a message. Judgements run side by side; their results come back in order.
    fn admit(&mut self, message: Message, sink: Sink, exchange: u64, request: Option<Request>) {
        // What came before is forwarded before.
        self.enter_together();
        let gate = self.gate.clone();
        // The judgement is begun inside: else the future had room for it twice.
        self.await_judgement(Box::pin(async move {
            let judged = gate.judge(message).await;
            Admitted { judged, sink, exchange, request }
        }));
    }

    /// Gives a client its answer.
    fn give(&mut self, sink: Sink, body: Bytes, status: u16) {
        if let Err(body) = sink.last_now(body, status) {
            self.let_go(async move { sink.last(body, status).await });
        }
    }

    /// Forwards what a judgement gives: at once where it is over at once and nothing waits before it. It is begun in any case,
    /// so that those that were read together share a commit.
    fn await_judgement(&mut self, mut judgement: BoxFuture<'static, Admitted>) {
        match judgement.as_mut().now_or_never() {
            Some(admitted) if self.admissions.is_empty() => self.forward(admitted),
            Some(admitted) => self.admissions.push_back(Box::pin(ready(admitted))),
            None => self.admissions.push_back(judgement),
        }
    }

    /// Lets a client be told something: at once where that goes. It is begun in any case, as judgements are.
    fn let_go(&mut self, outgoing: impl Future<Output = ()> + Send + 'static) {
        let mut outgoing: Outgoing = Box::pin(outgoing);
        if outgoing.as_mut().now_or_never().is_none() {
            self.outgoing.push_back(outgoing);
        }
    }

    fn refuse(&mut self, malformed: Malformed, sink: Sink) {
        // What came before is recorded before.
        self.enter_together();
        let gate = self.gate.clone();
        self.await_judgement(Box::pin(async move {
            let judged = gate.refuse(malformed).await;
            Admitted { judged, sink, exchange: 0, request: None }
        }));
    }

    fn forward(&mut self, admitted: Admitted) {
        let Admitted { judged, sink, exchange, request } = admitted;
        if let Judged::Held(held) = judged {
            return self.hold(*held, sink, exchange, request);
        }
        let cancelled = request.as_ref().is_some_and(|request| self.was_cancelled(request));
        if let (Some(Request { id, number, .. }), Judged::Answer(_) | Judged::Refused(_)) = (&request, &judged) {
            self.free_id(id, *number);
        }
        let permit = match judged {
            // Taken care of above.
            Judged::Held(_) => return,
            Judged::Pass(permit) => *permit,
            Judged::Answer(answer) => return self.give(sink, answer.body, answer.status),
            Judged::Refused(malformed) => {
                self.let_go(async move { sink.refused(&malformed).await });
                return;
            }
        };
        let Some(Request { id, number, mut expected, passed }) = request else {
            let sent = self.link.send(permit);
            if let Err(failure) = sent.outcome {
                debug!(%failure.message, "a notification could not be sent");
            }
            return self.finish_accepted(sink);
        };
        if cancelled {
            // Its permit is dropped, and with it what it was charged; nothing was sent.
            return;
        }
        let (token, permit) = self.numbered(permit.passing(passed), number);
        let sent = self.link.send(permit);
        expected.ticket = sent.ticket;
        let pending = Pending { waiter: Waiter::Client { id, sink, exchange, token }, expected, since: Instant::now() };
        match sent.outcome {
            Ok(()) => {
                self.pending.insert(number, pending);
            }
            Err(failure) => {
                if let Waiter::Client { id, .. } = &pending.waiter {
                    self.free_id(id, number);
                }
                self.answer_failure(pending, &failure);
            }
        }
    }

    /// Lets a call wait for a person, and asks the one before the client where that is allowed.
    fn hold(&mut self, held: Held, sink: Sink, exchange: u64, request: Option<Request>) {
        let question: Option<Elicitation> = held.question().map(|(question, answer)| {
            self.own_questions.insert(question.id.clone(), answer);
            self.say(sink.clone(), question.request.clone());
            question
        });
        let (asked, hurry) = (question.as_ref().map(|question| question.id.clone()), self.hurry.clone());
        self.held.push(Box::pin(async move {
            let judged = held.judged(question, &sink, &hurry).await;
            Answered { judged, sink, exchange, request, asked }
        }));
    }

    /// Goes on with a call that has waited. What was cancelled meanwhile goes nowhere, approved or not.
    fn resume(&mut self, answered: Answered) {
        let Answered { judged, sink, exchange, request, asked } = answered;
        if let Some(asked) = asked {
            self.own_questions.remove(&asked);
        }
        let cancelled = match (&request, self.clients) {
            (Some(request), Clients::One) => self.was_cancelled(request),
            (_, _) => sink.is_closed(),
        };
        if !cancelled {
            self.forward(Admitted { judged, sink, exchange, request });
        }
    }

    /// Whether the client has cancelled a request while it was being admitted.
    fn was_cancelled(&self, request: &Request) -> bool {
        self.clients == Clients::One && self.under_way.get(&request.id) != Some(&request.number)
    }

    /// Gives the permit that carries a request upstream under its number, and the client's progress token where ours takes its
    /// place.
    fn numbered(&self, permit: Permit, number: u64) -> (Option<String>, Permit) {
        let shared = self.clients == Clients::Many;
        let token = permit.message().progress_token().filter(|_| shared).map(|token| token.raw().to_owned());
        (token, permit.renumbered(number, shared))
    }

    /// Takes one message of the server's.
    fn arrive(&mut self, message: Message) {
        if !matches!(message.kind(), Kind::Response { .. }) {
            return self.arrive_unasked(message);
        }
        let Some(pending) = message.id().and_then(number_of).and_then(|number| self.take_pending(number)) else {
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
                if let Some(state) = message.result().and_then(|result| result.get("requestState")?.as_str())
                    && self.gate.withholds(&pending.expected, &message)
                {
                    self.link.give_up(&state);
                }
                let status = http_status(&message, pending.expected.modern);
                let expected = match self.gate.begin_settling(pending.expected, &message, &id) {
                    Ok((entry, body)) => return self.put(entry, Rest::Reply { sink, body, status }),
                    Err(expected) => expected,
                };
                // What came before is given before.
                self.enter_together();
                let gate = self.gate.clone();
                self.let_go(async move {
                    let body = gate.settle(expected, &message, &id).await;
                    sink.last(body, status).await;
                });
            }
        }
    }

    /// Takes what the server says by itself. A request is recorded first, and keeps nothing else waiting meanwhile.
    fn arrive_unasked(&mut self, message: Message) {
        self.enter_together();
        if message.kind() != Kind::Request {
            if let Some(message) = self.gate.screen_notice(message) {
                self.pass_on(message);
            }
            return;
        }
        let (gate, clients) = (self.gate.clone(), self.clients);
        self.screening.push_back(Box::pin(async move {
            match clients {
                Clients::One => gate.screen_request(message).await,
                // In the stateless era a server asks within a result; a question on a shared line has no addressee.
                Clients::Many => Err(gate.refuse_request(&message, "requests of the server are not let through here").await),
            }
        }));
    }

    fn screened(&mut self, screened: Result<Message, Bytes>) {
        match screened {
            Ok(message) => {
                if let Some(id) = message.id() {
                    self.asked.ask(id);
                }
                self.pass_on(message);
            }
            Err(answer) => self.answer_server(answer),
        }
    }

    /// Gives what the server says by itself to whom it is meant for.
    fn pass_on(&mut self, message: Message) {
        let listening = message.subscription_id().and_then(|id| number_of(&Id::of(id).ok()?));
        if let Some(pending) = listening.and_then(|number| self.pending.get_mut(&number)) {
            pending.expected.hear(&message);
        }
        match (self.addressee(&message), self.clients) {
            (Some((sink, text)), Clients::Many) => self.say(sink, text),
            (Some((_, text)), Clients::One) => self.tell_client(text),
            (None, Clients::One) => self.tell_client(message.text().clone()),
            (None, Clients::Many) => debug!(method = message.method(), "dropped a notification that belongs to no request"),
        }
    }

    /// Takes a notification that belongs to a request of ours, without saying so.
    fn arrive_beside(&mut self, id: &Id, message: Message) {
        let Some(message) = self.gate.screen_notice(message) else { return };
        let pending = number_of(id).and_then(|number| self.pending.get(&number));
        if let Some(Pending { waiter: Waiter::Client { sink, .. }, .. }) = pending {
            self.say(sink.clone(), message.text().clone());
        }
    }

    /// Whose request a notification belongs to, and its text with that client's own names for things.
    fn addressee(&self, message: &Message) -> Option<(Sink, Bytes)> {
        let shared_token = message.progress_token().filter(|_| self.clients == Clients::Many);
        // A server of the legacy era cancels what it has asked itself, by its own ids.
        let of_ours = |id: &Value<'_>| !Id::of(*id).is_ok_and(|id| self.asked.holds(&id));
        let named = shared_token.or_else(|| message.subscription_id()).or_else(|| message.cancelled_id().filter(of_ours))?;
        let Waiter::Client { id, sink, token, .. } = &self.pending.get(&number_of(&Id::of(named).ok()?)?)?.waiter else {
            return None;
        };
        let original = if shared_token.is_some() { token.clone()? } else { id.text().to_owned() };
        Some((sink.clone(), message.edit().replace(named.span(), original).finish()))
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
        self.let_go(async move { sink.event(message).await });
    }

    fn finish_accepted(&mut self, sink: Sink) {
        self.let_go(async move { sink.accepted().await });
    }

    fn answer_server(&mut self, answer: Bytes) {
        if let Some(permit) = Message::parse(answer, Side::Client).ok().and_then(Permit::answer) {
            self.link.send(permit);
        }
    }

    fn ask(&mut self, question: Question) {
        let expected = Expected::of(&question.message);
        let Some(permit) = Permit::own(question.message) else { return };
        let number = self.number();
        let (_, permit) = self.numbered(permit, number);
        if self.link.send(permit).outcome.is_ok() {
            let waiter = Waiter::Ourselves(question.reply);
            self.pending.insert(number, Pending { waiter, expected, since: Instant::now() });
        }
    }

    fn abandon(&mut self, given_up: u64) {
        let of_exchange = |pending: &Pending| matches!(&pending.waiter, Waiter::Client { exchange, .. } if *exchange == given_up);
        let found = self.pending.iter().find(|(_, pending)| of_exchange(pending)).map(|(number, _)| *number);
        if let Some(number) = found {
            self.cancel(number, "the client has closed the stream");
        }
    }

    /// Ends a subscription in good order.
    fn end_subscription(&mut self, pending: Pending) {
        let Waiter::Client { id, sink, .. } = pending.waiter else { return };
        let ticket = pending.expected.ticket;
        self.let_go(async move {
            if let Some(ticket) = ticket {
                ticket.finish(Reply::Completed, None).await;
            }
            sink.last(mcp::reply::listened(&id), 200).await;
        });
    }

    fn answer_failure(&mut self, pending: Pending, failure: &Failure) {
        let Waiter::Client { id, sink, .. } = pending.waiter else { return };
        let Answer { body, status } = unreached(&id, &pending.expected, failure);
        let reply = if failure.may_have_run { Reply::Lost } else { Reply::Refused };
        let ticket = pending.expected.ticket;
        let message = failure.message.clone();
        self.let_go(async move {
            if let Some(ticket) = ticket {
                Ticket::finish(ticket, reply, Some(message)).await;
            }
            sink.last(body, status).await;
        });
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

/// A way to ask the upstream of a conversation, and where the questions arrive.
pub(crate) fn questions() -> (Ask, mpsc::Receiver<Question>) {
    let (asking, questions) = mpsc::channel(16);
    let ask: Ask = Arc::new(move |message| {
        let asking = asking.clone();
        Box::pin(async move {
            let (reply, waiting) = oneshot::channel();
            asking.send(Question { message, reply }).await.ok()?;
            waiting.await.ok()
        })
    });
    (ask, questions)
}

/// The number that an id of ours is.
fn number_of(id: &Id) -> Option<u64> {
    id.text().parse().ok()
}
