//! HTTP clients before an HTTP server: one exchange upstream for each downstream.
//!
//! The era is a property of the server, and clients tell it by exact statuses, headers and error bodies: those pass
//! unchanged. What passes is looked at all the same: every message is judged, every reply settled and every list filtered, on
//! whichever stream it comes.

mod lasting;
#[cfg(test)]
mod tests;

use crate::budget::REPLIES;
use crate::conversation::TOOLS_CHANGED;
use crate::downstream::http::{Body, empty, event_stream, json as json_response};
use crate::downstream::sessions::{failed, refusal};
use crate::enforcer::{Caller, Enforcer, Over, Permit};
use crate::gate::{Expected, Gate, Held, Judged, unreached};
use crate::ownership::Owner;
use crate::refusal::{UPSTREAM_FAILED, malformed, unreadable};
use crate::sink::{self, Down, MAX_WAITING, Sink};
use crate::tools::{Ask, LiveTools, Schemas};
use crate::unanswered::Unanswered;
use crate::upstream::http::{BodyKind, Events, HttpTarget, MAX_REPLY_BYTES, body_kind, reply_among_events};
use crate::upstream::pool::ReplyBody;
use crate::upstream::{Failure, Inbound};
use bytes::Bytes;
use futures_util::stream;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use json::{Document, Strictness};
use lasting::{InBatch, Lasting};
use mcp::{Era, Id, Incoming, Kind, Malformed, Message, Revision, Side, sse};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use store::Reply;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// What of a request travels upstream; never credentials, cookies, or who forwarded it.
const UP: [&str; 4] = ["accept", "content-type", "user-agent", "mcp-protocol-version"];
/// What of a response travels downstream. How the server would be satisfied (`WWW-Authenticate`) does not: a client's credentials
/// never go there, and what that names would lead it to the server's authority, or to whose the server likes.
const DOWN: [&str; 5] = ["content-type", "mcp-session-id", "mcp-protocol-version", "retry-after", "allow"];
/// What is said where a server answers 401: it refuses the gateway. A client that was given that status would take its own
/// credentials for refused, and ask for others again and again.
const NOT_BELIEVED: &str = "the server answered HTTP 401: it refuses the gateway's credentials";
/// Error bodies that are no messages pass up to this size.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// Past so many, the one that has not been used for longest is forgotten here; the server may still know it.
const MAX_SESSIONS: usize = 10_000;
/// Past so many requests of one session without their replies, the next is given up.
const MAX_ORPHANS: usize = 1_024;
/// How long what is under way gets to end when we are told to stop.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What must outlive one exchange of a legacy client.
#[derive(Default)]
struct Session {
    /// The id that the server has given it. What a client merely claims is no session.
    id: Option<String>,
    /// Who has opened it: to anybody else it is no session, and the server does not hear of it.
    owner: Option<Caller>,
    state: Mutex<SessionState>,
}

#[derive(Default)]
struct SessionState {
    revision: Option<Revision>,
    /// Requests whose stream has ended before their reply: it may be given to whoever resumes the stream.
    orphans: HashMap<Id, Expected>,
    /// Requests of the server's that the client has not answered.
    asked: Unanswered,
    /// Whether the client can ask a person something, as it has said itself.
    elicits: bool,
    /// Whether it can have a person open an address.
    opens_urls: bool,
    /// Questions of ours to the client.
    own_questions: HashMap<Id, oneshot::Sender<Message>>,
    /// Calls that wait for a person, to be given up where the client cancels them: the server knows nothing of them.
    held: HashMap<Id, CancellationToken>,
    /// Requests that came in batches, whose answers wait for each other: the server need not answer what was cancelled.
    in_batches: HashMap<Id, CancellationToken>,
    used: Option<Instant>,
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a request whose stream has ended; gives it back where there is no session to keep it in, or no room.
    fn orphan(&self, id: &Id, expected: Expected) -> Option<Expected> {
        let mut state = self.lock();
        if self.id.is_none() || state.orphans.len() >= MAX_ORPHANS {
            return Some(expected);
        }
        // An older request of the same id has waited in vain.
        state.orphans.insert(id.clone(), expected);
        None
    }
}

pub(crate) struct Proxy {
    enforcer: Arc<Enforcer>,
    target: HttpTarget,
    tools: Arc<LiveTools>,
    /// Those that the server has opened, by its ids.
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    /// Where questions of a server without sessions are remembered: what was asked of one is not for another to answer.
    loose: Mutex<HashMap<Owner, Arc<Session>>>,
    reloaded: watch::Receiver<u64>,
    stop: CancellationToken,
    running: TaskTracker,
}

/// What a session knows of a call that waits, for as long as it does.
struct Noted {
    session: Arc<Session>,
    asked: Option<Id>,
    held: Option<Id>,
}

impl Drop for Noted {
    fn drop(&mut self) {
        let mut state = self.session.lock();
        if let Some(asked) = &self.asked {
            state.own_questions.remove(asked);
        }
        if let Some(held) = &self.held {
            state.held.remove(held);
        }
    }
}

/// The server, called in a caller's name, and its tools.
struct Called {
    target: HttpTarget,
    schemas: Schemas,
}

/// One downstream request on its way.
struct Exchange {
    proxy: Arc<Proxy>,
    /// The server, called in the caller's name.
    target: HttpTarget,
    gate: Gate,
    session: Arc<Session>,
    headers: HeaderMap,
    modern: bool,
}

impl Proxy {
    pub fn new(enforcer: Arc<Enforcer>, target: HttpTarget, reloaded: watch::Receiver<u64>) -> Arc<Proxy> {
        let tools = LiveTools::of(enforcer.definitions().clone());
        Arc::new(Proxy {
            enforcer,
            target,
            tools,
            sessions: Mutex::default(),
            loose: Mutex::default(),
            reloaded,
            stop: CancellationToken::new(),
            running: TaskTracker::new(),
        })
    }

    /// Ends all streams; how their calls ended is then recorded.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        self.running.close();
        let _ = tokio::time::timeout(LAST_WORDS, self.running.wait()).await;
    }

    /// The server that exchanges are passed on to.
    pub fn target(&self) -> &HttpTarget {
        &self.target
    }

    /// Serves `/mcp`.
    pub async fn handle(self: Arc<Proxy>, request: Request<Bytes>, caller: &Caller) -> Response<Body> {
        let (head, body) = request.into_parts();
        if self.is_of_another(&head.headers, caller) {
            let malformed = self.enforcer.refuse(unreadable("this session is unknown or over"), caller).await;
            return json_response(StatusCode::NOT_FOUND, malformed.error());
        }
        // What is rare is apart, here and below: a future is as large as the largest thing it may wait for, and is moved.
        match head.method {
            Method::POST => self.post(&head.headers, body, caller).await,
            method => Box::pin(self.without_body(method, &head.headers, caller)).await,
        }
    }

    /// Whether a request names a session that somebody else has opened. One that we do not know is the server's to judge: it
    /// may be from before we were started.
    fn is_of_another(&self, headers: &HeaderMap, caller: &Caller) -> bool {
        let named = headers.get("mcp-session-id").and_then(|id| id.to_str().ok());
        let session = named.and_then(|id| self.lock().get(id).cloned());
        session.is_some_and(|session| session.owner.as_ref().is_some_and(|owner| !owner.is_same(caller)))
    }

    /// The server, as it is called in a caller's name.
    fn called(&self, headers: &HeaderMap, caller: &Caller) -> Called {
        let target = self.target.of_caller(caller);
        let schemas = Schemas { tools: self.tools.clone(), ask: asker(&target, headers) };
        Called { target, schemas }
    }

    fn exchange(self: &Arc<Proxy>, headers: &HeaderMap, modern: bool, caller: &Caller, called: Called) -> Exchange {
        // The stateless era has no sessions: an id that is sent all the same is ignored.
        let id = if modern { None } else { headers.get("mcp-session-id").and_then(|id| id.to_str().ok()) };
        let session = if modern { Arc::default() } else { id.and_then(|id| self.find(id)).unwrap_or_else(|| self.loose(caller)) };
        let up = upstream_headers(headers, modern, self.target.passed());
        let Called { target, schemas } = called;
        let caller = Caller { session: session.id.clone(), ..caller.clone() };
        let (elicits, opens_urls) = {
            let state = session.lock();
            (state.elicits, state.opens_urls)
        };
        let enforcer = self.enforcer.clone();
        let gate = Gate { enforcer, caller, schemas, over_http: true, stateless: modern, elicits, opens_urls };
        Exchange { proxy: self.clone(), target, gate, session, headers: up, modern }
    }

    fn find(&self, id: &str) -> Option<Arc<Session>> {
        let session = self.lock().get(id).cloned()?;
        session.lock().used = Some(Instant::now());
        Some(session)
    }

    /// What stands for a session where a caller has none.
    fn loose(&self, caller: &Caller) -> Arc<Session> {
        let mut loose = self.loose.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = caller.owner();
        if !loose.contains_key(&owner) {
            make_room(&mut loose);
        }
        let session = loose.entry(owner).or_default().clone();
        session.lock().used = Some(Instant::now());
        session
    }

    /// Remembers a session that the server has opened.
    fn open(&self, id: &str, owner: &Caller) -> Arc<Session> {
        let mut sessions = self.lock();
        make_room(&mut sessions);
        let session = Arc::new(Session { id: Some(id.to_owned()), owner: Some(owner.clone()), state: Mutex::default() });
        session.lock().used = Some(Instant::now());
        sessions.insert(id.to_owned(), session.clone());
        session
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why what is under way in a caller's name is given up.
    fn cut(&self, caller: &Caller) -> Failure {
        Failure::lost(self.enforcer.over(caller).map_or("callgate ends before the server has answered", Over::why))
    }

    async fn post(self: Arc<Proxy>, headers: &HeaderMap, body: Bytes, caller: &Caller) -> Response<Body> {
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            return Box::pin(self.post_batch(headers, body, caller)).await;
        }
        let called = self.called(headers, caller);
        let checked = match Message::parse(body, Side::Client) {
            Ok(message) => called.schemas.check_headers(headers, &message).await.map(|revision| (message, revision)),
            Err(malformed) => Err(malformed),
        };
        let (message, revision) = match checked {
            Ok(checked) => checked,
            Err(malformed) => return refusal(&self.enforcer.refuse(malformed, caller).await),
        };
        let exchange = self.exchange(headers, revision.era() == Era::Modern, caller, called);
        let (id, modern, stop) = (message.id().cloned(), exchange.modern, self.stop.clone());
        let carried = Box::pin(stop.run_until_cancelled_owned(exchange.carry(message)));
        let response = if modern {
            // Closing the stream is the cancellation: this future is dropped then, and all it holds.
            carried.await
        } else {
            // A legacy client that disconnects has not cancelled: what has begun goes on, and its end is recorded.
            Lasting::of(carried, &self.running).await
        };
        response.unwrap_or_else(|| failed(id.as_ref(), &self.cut(caller)))
    }

    /// A batch of 2025-03-26: each item goes upstream by itself, the answers come back together.
    async fn post_batch(self: Arc<Proxy>, headers: &HeaderMap, body: Bytes, caller: &Caller) -> Response<Body> {
        let exchange = Arc::new(self.exchange(headers, false, caller, self.called(headers, caller)));
        let named = headers.get("mcp-protocol-version").and_then(|version| version.to_str().ok());
        // 2025-06-18 §Protocol Version Header: without one, 2025-03-26 is assumed, unless the session says otherwise.
        let agreed = exchange.session.lock().revision;
        let revision = agreed.or(named.map_or(Some(Revision::V2025_03_26), Revision::parse));
        let items = match Incoming::parse(body, Side::Client, revision.unwrap_or(Revision::V2026_07_28)) {
            Ok(Incoming::Batch(items)) => items,
            Ok(Incoming::One(_)) => {
                return refusal(&self.enforcer.refuse(unreadable("not a batch"), &exchange.gate.caller).await);
            }
            Err(malformed) => return refusal(&self.enforcer.refuse(malformed, &exchange.gate.caller).await),
        };
        let (whole, mut given) = mpsc::channel(MAX_WAITING);
        for (sink, item) in sink::batch(Sink::Exchange(whole), items.len()).zip(items) {
            let exchange = exchange.clone();
            self.running.spawn(async move { exchange.carry_item(item, sink).await });
        }
        loop {
            match given.recv().await {
                Some(Down::Last { body, .. }) => return json_response(StatusCode::OK, body),
                Some(Down::Accepted) => return empty(StatusCode::ACCEPTED),
                Some(Down::Event(_)) => debug!("dropped a notification within a batch"),
                None => return empty(StatusCode::BAD_GATEWAY),
            }
        }
    }

    async fn without_body(self: Arc<Proxy>, method: Method, headers: &HeaderMap, caller: &Caller) -> Response<Body> {
        let exchange = self.exchange(headers, false, caller, self.called(headers, caller));
        let is_delete = method == Method::DELETE;
        let sent = exchange.target.send(method, exchange.headers.clone(), Bytes::new());
        let response = match exchange.unless_ended(sent).await {
            Ok(response) => response,
            Err(failure) => return failed(None, &failure),
        };
        if is_delete && let Some(id) = headers.get("mcp-session-id").and_then(|id| id.to_str().ok()) {
            self.lock().remove(id);
        }
        if response.status().is_success() && body_kind(response.headers()) == BodyKind::Events {
            return exchange.stream(response, None);
        }
        exchange.answer_bare(response).await
    }
}

impl Exchange {
    /// Carries one message upstream, and its answer back.
    async fn carry(mut self, message: Message) -> Response<Body> {
        if self.takes(&message) {
            if let (Some(id), Kind::Response { .. }) = (message.id().cloned(), message.kind())
                && let Some(waiting) = self.session.lock().own_questions.remove(&id)
            {
                let _ = waiting.send(message);
            }
            return empty(StatusCode::ACCEPTED);
        }
        if message.method() == Some("initialize") {
            self.gate.elicits = message.agrees_to_elicitation();
            self.gate.opens_urls = message.opens_urls();
        }
        if let Some(malformed) = self.unasked(&message) {
            return refusal(&self.gate.enforcer.refuse(malformed, &self.gate.caller).await);
        }
        let is_request = message.kind() == Kind::Request;
        let id = message.id().filter(|_| is_request).cloned();
        let expected = is_request.then(|| self.gate.expects(&message));
        match Box::pin(self.gate.judge(message)).await {
            Judged::Held(held) => Box::pin(self.hold(*held, id, expected)).await,
            judged => self.go_on(judged, id, expected).await,
        }
    }

    /// Whether a message is for ourselves alone: the answer to a question of ours, or the end of a call that waits here.
    fn takes(&self, message: &Message) -> bool {
        let state = self.session.lock();
        match message.kind() {
            Kind::Response { .. } => message.id().is_some_and(|id| state.own_questions.contains_key(id)),
            Kind::Notification if message.method() == Some("notifications/cancelled") => {
                let id = message.cancelled_id().and_then(|id| Id::of(id).ok());
                let in_batch = id.as_ref().and_then(|id| state.in_batches.get(id));
                in_batch.inspect(|in_batch| in_batch.cancel());
                let held = id.as_ref().and_then(|id| state.held.get(id));
                held.inspect(|held| held.cancel()).is_some()
            }
            Kind::Notification | Kind::Request => false,
        }
    }

    /// Lets a call wait for a person. The client hears of it on a stream where there is something to hear.
    async fn hold(self, held: Held, id: Option<Id>, expected: Option<Expected>) -> Response<Body> {
        let (says, mut given) = mpsc::channel(MAX_WAITING);
        let sink = Sink::Exchange(says);
        let question = held.question().map(|(question, answer)| {
            self.session.lock().own_questions.insert(question.id.clone(), answer);
            question
        });
        let streams = question.is_some() || held.tells_progress();
        let (running, stopping) = (self.proxy.running.clone(), self.proxy.stop.clone());
        let stop = stopping.child_token();
        if let Some(id) = &id {
            self.session.lock().held.insert(id.clone(), stop.clone());
        }
        let waiting = async move {
            let asked = question.as_ref().map(|question| question.id.clone());
            if let Some(question) = &question {
                sink.event(question.request.clone()).await;
            }
            let noted = Noted { session: self.session.clone(), asked, held: id.clone() };
            let judged = held.judged(question, &sink, &stop).await;
            drop(noted);
            if stop.is_cancelled() && !stopping.is_cancelled() {
                // What was let through is given back by dropping it.
                return empty(StatusCode::ACCEPTED);
            }
            self.go_on(judged, id, expected).await
        };
        if !streams {
            return waiting.await;
        }
        let (out, frames) = mpsc::channel::<Bytes>(16);
        running.spawn(async move {
            let mut waiting = std::pin::pin!(waiting);
            let response = loop {
                tokio::select! {
                    response = &mut waiting => break response,
                    Some(Down::Event(event)) = given.recv() => drop(out.send(sse::encode(&event, None, None)).await),
                    // Nobody would hear the answer; and in the stateless era, closing is the cancellation.
                    () = out.closed() => return,
                }
            };
            pour(response, out).await;
        });
        event_stream(stream::unfold(frames, |mut frames| async { frames.recv().await.map(|frame| (frame, frames)) }))
    }

    /// Does what a judgement says.
    async fn go_on(self, judged: Judged, id: Option<Id>, expected: Option<Expected>) -> Response<Body> {
        let permit = match judged {
            Judged::Held(held) => {
                let answer = held.unanswered();
                return json_response(answer.status(), answer.body);
            }
            Judged::Pass(permit) => *permit,
            Judged::Answer(answer) => return json_response(answer.status(), answer.body),
            Judged::Refused(malformed) => return refusal(&malformed),
        };
        let body = permit.text().clone();
        let ticket = permit.into_ticket();
        let expected = expected.map(|expected| Expected { modern: self.modern, ticket, ..expected });
        let sent = self.unless_ended(self.target.send(Method::POST, self.headers.clone(), body)).await;
        match sent {
            Ok(response) => self.answer(response, id, expected).await,
            Err(failure) => {
                self.withdraw(id.as_ref());
                let (Some(id), Some(mut expected)) = (id, expected) else { return failed(None, &failure) };
                let answer = unreached(&id, &expected, &failure);
                if let Some(ticket) = expected.ticket.take() {
                    let reply = if failure.may_have_run { Reply::Lost } else { Reply::Refused };
                    ticket.finish(reply, Some(failure.message.clone())).await;
                }
                json_response(answer.status(), answer.body)
            }
        }
    }

    /// Carries one item of a batch.
    async fn carry_item(&self, item: Result<Message, Malformed>, sink: Sink) {
        let message = match item {
            Ok(message) => message,
            Err(malformed) => return sink.refused(&self.gate.enforcer.refuse(malformed, &self.gate.caller).await).await,
        };
        let response = Exchange {
            proxy: self.proxy.clone(),
            target: self.target.clone(),
            // The answers of a batch come back together: a question would not reach the client.
            gate: Gate { elicits: false, ..self.gate.clone() },
            session: self.session.clone(),
            headers: self.headers.clone(),
            modern: false,
        };
        let id = message.id().cloned();
        let replied = async {
            let response = response.carry(message).await;
            let is_stream = body_kind(response.headers()) == BodyKind::Events;
            // All that is said on its stream, and not the reply alone, is kept until it ends.
            let collected = REPLIES.collect(response.into_body(), MAX_REPLY_BYTES, self.proxy.target.patience()).await;
            match (&id, collected) {
                (Some(id), Ok(body)) if is_stream => last_reply(&body, id),
                (_, Ok(body)) if !is_stream && !body.is_empty() => Some(body),
                _ => None,
            }
        };
        let noted = id.as_ref().and_then(|id| InBatch::note(&self.session, id));
        let reply = match &noted {
            Some(noted) => noted.cancelled().run_until_cancelled(replied).await,
            None => Some(replied.await),
        };
        // What is cancelled is not answered, and the others do not wait for it.
        let Some(reply) = reply else { return sink.accepted().await };
        match (reply, id) {
            (Some(reply), _) => sink.last(reply, 200).await,
            (None, Some(id)) => {
                let why = "the server did not answer within what a batch may hold";
                sink.last(mcp::reply::error(Some(&id), UPSTREAM_FAILED, why, None), 200).await;
            }
            (None, None) => sink.accepted().await,
        }
    }

    /// A response to nothing that the server has asked must not reach it.
    fn unasked(&self, message: &Message) -> Option<Malformed> {
        let Kind::Response { .. } = message.kind() else { return None };
        let asked = message.id().is_some_and(|id| self.session.lock().asked.answer(id));
        (!asked).then(|| malformed(message, mcp::reply::INVALID_REQUEST, "a response to nothing that was asked"))
    }

    async fn answer(self, response: Response<ReplyBody>, id: Option<Id>, expected: Option<Expected>) -> Response<Body> {
        let (status, headers) = (response.status(), downstream_headers(response.headers()));
        let is_initialize = expected.as_ref().is_some_and(|expected| expected.method == "initialize");
        let opened =
            headers.get("mcp-session-id").and_then(|id| id.to_str().ok()).filter(|_| is_initialize && status.is_success());
        let session = opened.map_or_else(|| self.session.clone(), |id| self.proxy.open(id, &self.gate.caller));
        let exchange = Exchange { session, ..self };
        match (id, expected, body_kind(response.headers())) {
            (Some(id), Some(expected), BodyKind::Events) if status.is_success() => {
                exchange.stream(response, Some((id, expected)))
            }
            (Some(id), Some(expected), kind) => exchange.answer_whole(response, &id, expected, kind).await,
            _ => exchange.answer_bare(response).await,
        }
    }

    /// Passes on what is answered to no request: there is nothing to say, but an error may have its reasons, for people.
    async fn answer_bare(&self, response: Response<ReplyBody>) -> Response<Body> {
        let (status, headers) = (response.status(), downstream_headers(response.headers()));
        if status == StatusCode::UNAUTHORIZED {
            return failed(None, &Failure::lost(NOT_BELIEVED));
        }
        let body = self.unless_ended(self.proxy.target.whole(response.into_body())).await.unwrap_or_default();
        let is_reason = !status.is_success() && body.len() <= MAX_ERROR_BYTES;
        with(status, headers, if is_reason { self.gate.screen_bare(body) } else { Bytes::new() })
    }

    async fn answer_whole(
        self,
        response: Response<ReplyBody>,
        id: &Id,
        mut expected: Expected,
        kind: BodyKind,
    ) -> Response<Body> {
        let (status, headers) = (response.status(), downstream_headers(response.headers()));
        let body = match self.unless_ended(self.proxy.target.whole(response.into_body())).await {
            Ok(body) => body,
            Err(failure) => {
                self.withdraw(Some(id));
                return Box::pin(self.lost(id, expected, failure)).await;
            }
        };
        let reply = if kind == BodyKind::Json { Message::parse(body.clone(), Side::Server).ok() } else { None };
        match reply {
            Some(reply) if reply.id() == Some(id) => {
                self.note(&reply, &expected);
                let status = if status == StatusCode::UNAUTHORIZED { StatusCode::BAD_GATEWAY } else { status };
                with(status, headers, self.gate.settle(expected, &reply, id).await)
            }
            _ if status == StatusCode::UNAUTHORIZED => Box::pin(self.lost(id, expected, Failure::lost(NOT_BELIEVED))).await,
            // An error that could not be tied to its request, or one of HTTP's own: it tells the client the server's era.
            _ if !status.is_success() && kind != BodyKind::Events && body.len() <= MAX_ERROR_BYTES && !holds_more(&body) => {
                let withheld = match Message::parse(body.clone(), Side::Server) {
                    Ok(said) => self.gate.withhold(&mut expected, &said, id).await,
                    Err(_) => None,
                };
                let body = self.gate.screen_body(&expected, body);
                if let Some(ticket) = expected.ticket {
                    ticket.finish(Reply::UpstreamError, Some(format!("HTTP {}", status.as_u16()))).await;
                }
                withheld.map_or_else(|| with(status, headers, body), |error| json_response(status, error))
            }
            _ => {
                let failure =
                    Failure::lost(format!("the server answered HTTP {} without a reply to the request", status.as_u16()));
                Box::pin(self.lost(id, expected, failure)).await
            }
        }
    }

    async fn lost(&self, id: &Id, expected: Expected, failure: Failure) -> Response<Body> {
        json_response(StatusCode::BAD_GATEWAY, self.give_up(id, expected, &failure).await)
    }

    /// Waits for something of the server's as long as the caller's grant lasts, and the server is this one.
    async fn unless_ended<T>(&self, waiting: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.gate.enforcer.end_of(&self.gate.caller) => Err(self.proxy.cut(&self.gate.caller)),
            () = self.proxy.stop.cancelled() => Err(self.proxy.cut(&self.gate.caller)),
            come = waiting => come,
        }
    }

    /// Tells the server that nobody waits for a request any more, where nothing goes on in the caller's name. In the stateless
    /// era closing the connection does.
    fn withdraw(&self, id: Option<&Id>) {
        let over = self.gate.enforcer.over(&self.gate.caller).filter(|_| !self.modern);
        let (Some(id), Some(over)) = (id, over) else { return };
        let notice = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{},"reason":"{}"}}}}"#,
            id.text(),
            over.why()
        );
        let Some(permit) = Message::parse(notice, Side::Client).ok().and_then(Permit::own) else { return };
        let (target, headers) = (self.target.clone(), self.headers.clone());
        self.proxy.running.spawn(async move {
            let sent = target.send(Method::POST, headers, permit.text().clone());
            let _ = tokio::time::timeout(LAST_WORDS, sent).await;
        });
    }

    /// Remembers what an `initialize` has agreed on.
    fn note(&self, reply: &Message, expected: &Expected) {
        if expected.method == "initialize" {
            let version = reply.result().and_then(|result| result.get("protocolVersion")).and_then(|version| version.as_str());
            self.session.lock().elicits = self.gate.elicits;
            self.session.lock().opens_urls = self.gate.opens_urls;
            self.session.lock().revision = version.and_then(|version| Revision::parse(&version));
        }
    }

    /// Passes a stream of events on, each looked at. `awaited`: the request whose reply ends it; none where a client listens.
    fn stream(self, response: Response<ReplyBody>, awaited: Option<(Id, Expected)>) -> Response<Body> {
        let (status, headers) = (response.status(), downstream_headers(response.headers()));
        // Few: each may be as long as a reply, and a client that does not read must not make us keep more.
        let (events, given) = mpsc::channel::<Bytes>(2);
        let running = self.proxy.running.clone();
        running.spawn(self.pump(response.into_body(), awaited, events));
        let body = stream::unfold(given, |mut given| async { given.recv().await.map(|event| (event, given)) });
        let mut response = event_stream(body);
        *response.status_mut() = status;
        for (name, value) in &headers {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }

    async fn pump(self, body: ReplyBody, mut awaited: Option<(Id, Expected)>, down: mpsc::Sender<Bytes>) {
        let mut events = Events::of(body);
        let listening = awaited.is_none();
        let answers = awaited.as_ref().is_some_and(|(_, expected)| expected.method != "subscriptions/listen");
        let patience = answers.then(|| self.proxy.target.patience());
        let mut why = Failure::lost("the server's stream ended before it answered");
        let mut resumable = false;
        let mut reloaded = self.proxy.reloaded.clone();
        let ended = self.gate.enforcer.end_of(&self.gate.caller);
        tokio::pin!(ended);
        loop {
            let gone = down.is_closed();
            if gone && (self.modern || awaited.is_none()) {
                break;
            }
            let subscribed = awaited.as_ref().and_then(|(id, expected)| expected.tools_changed(id));
            let event = tokio::select! {
                event = events.next_within(patience) => event.unwrap_or_else(|failure| {
                    why = failure;
                    None
                }),
                () = down.closed(), if !gone => None,
                () = self.proxy.stop.cancelled() => {
                    why = self.proxy.cut(&self.gate.caller);
                    None
                }
                () = &mut ended => {
                    self.withdraw(awaited.as_ref().map(|(id, _)| id));
                    (why, resumable) = (self.proxy.cut(&self.gate.caller), false);
                    break;
                }
                // The stream on which a server speaks by itself is where its list of tools may be said to have changed.
                Ok(()) = reloaded.changed(), if listening || subscribed.is_some() => {
                    let notice = subscribed.unwrap_or_else(|| Bytes::from_static(TOOLS_CHANGED));
                    let _ = down.send(sse::encode(&notice, None, None)).await;
                    continue;
                }
            };
            let stopped = self.proxy.stop.is_cancelled();
            match event {
                Some(event) => {
                    resumable |= event.id.is_some();
                    if let Some(event) = self.look_at(event, &mut awaited, listening).await {
                        let _ = down.send(event).await;
                    }
                }
                // In the stateless era the client's closing is the cancellation; else what has begun is seen to its end.
                None if !stopped && !gone && down.is_closed() && !self.modern && awaited.is_some() => {}
                None => break,
            }
        }
        let Some((id, expected)) = awaited else { return };
        // A legacy server may close early and give the reply to whoever resumes the stream.
        let left = if !self.modern && resumable { self.session.orphan(&id, expected) } else { Some(expected) };
        let Some(expected) = left else { return };
        let error = Box::pin(self.give_up(&id, expected, &why)).await;
        let _ = down.send(sse::encode(&error, None, None)).await;
    }

    /// Records that nobody knows how a request ended; gives what its client is told.
    async fn give_up(&self, id: &Id, expected: Expected, failure: &Failure) -> Bytes {
        if let Some(ticket) = expected.ticket {
            ticket.finish(Reply::Lost, Some(failure.message.clone())).await;
        }
        mcp::reply::error(Some(id), UPSTREAM_FAILED, &failure.message, None)
    }

    /// Takes out what a reply of this id is the reply to: on the stream of a request, that request alone; where a client
    /// listens, one whose own stream has ended before.
    fn expected(&self, id: &Id, awaited: &mut Option<(Id, Expected)>, listening: bool) -> Option<Expected> {
        if listening {
            return self.session.lock().orphans.remove(id);
        }
        awaited.take_if(|(awaited, _)| awaited == id).map(|(_, expected)| expected)
    }

    /// Looks at one event; gives what of it passes.
    async fn look_at(&self, event: sse::Event, awaited: &mut Option<(Id, Expected)>, listening: bool) -> Option<Bytes> {
        if event.name.as_deref() == Some("endpoint") {
            // 2024-11-05: where to post to. A client that went by it would go past us.
            warn!("dropped an event of the server's that would send the client elsewhere");
            return None;
        }
        let Some(text) = event.message().cloned() else {
            // The protocol has no other events, but there are clients that do not look at an event's name.
            let says_something = event.data.as_ref().is_some_and(|data| !data.is_empty());
            if says_something {
                warn!("dropped an event of the server's that is no message");
            }
            return (!says_something).then_some(event.original);
        };
        let message = match Inbound::read(text.clone())? {
            Inbound::Message(message) => message,
            Inbound::Failed { id, failure } => {
                let expected = self.expected(&id, awaited, listening)?;
                let error = Box::pin(self.give_up(&id, expected, &failure)).await;
                return Some(sse::encode(&error, event.id.as_deref(), event.name.as_deref()));
            }
            Inbound::Closed | Inbound::Beside { .. } | Inbound::Of { .. } => return None,
        };
        if let Kind::Response { .. } = message.kind() {
            let id = message.id()?.clone();
            let Some(mut expected) = self.expected(&id, awaited, listening) else {
                warn!("dropped a reply to nothing that was asked");
                return None;
            };
            // What a resumed stream brings may be the reply to an older request of the same id: a list is a list.
            expected.is_resumed = listening;
            let holds = |key: &str| listening && message.result().is_some_and(|result| result.get(key).is_some());
            if holds("tools") {
                expected.method = "tools/list".into();
            } else if holds("tasks") {
                expected.method = "tasks/list".into();
            }
            self.note(&message, &expected);
            let settled = self.gate.settle(expected, &message, &id).await;
            return Some(with_message(event, &text, &settled));
        }
        if message.kind() != Kind::Request {
            if let Some((_, expected)) = awaited {
                expected.hear(&message);
            }
            let passed = self.gate.screen_notice(message)?;
            return Some(with_message(event, &text, passed.text()));
        }
        match self.gate.screen_request(message).await {
            Ok(message) => {
                let mut state = self.session.lock();
                if let Some(id) = message.id() {
                    state.asked.ask(id);
                }
                Some(with_message(event, &text, message.text()))
            }
            Err(answer) => {
                if let Some(permit) = Message::parse(answer, Side::Client).ok().and_then(Permit::answer) {
                    let _ = self.target.send(Method::POST, self.headers.clone(), permit.text().clone()).await;
                }
                None
            }
        }
    }
}

/// An event with `said` in the place of the message that it was read with: as it came, where that is the same.
fn with_message(event: sse::Event, read: &Bytes, said: &Bytes) -> Bytes {
    if read == said { event.original } else { sse::encode(said, event.id.as_deref(), event.name.as_deref()) }
}

/// A way to ask the server in the name of a client's session, or of none.
fn asker(target: &HttpTarget, headers: &HeaderMap) -> Ask {
    let target = target.clone();
    // Only put together when something is asked, which is rare.
    let [session, version] = [mcp::headers::SESSION_ID, mcp::headers::PROTOCOL_VERSION].map(|name| headers.get(&name).cloned());
    Arc::new(move |question: Message| {
        let (target, session, version) = (target.clone(), session.clone(), version.clone());
        Box::pin(async move {
            let named = [(mcp::headers::SESSION_ID, session), (mcp::headers::PROTOCOL_VERSION, version)];
            let mut headers = match question.protocol_version().and_then(|version| Revision::parse(&version)) {
                Some(revision) => mcp::headers::for_request(&question, revision, None).into_iter().collect(),
                None => HeaderMap::from_iter(named.into_iter().filter_map(|(name, value)| Some((name, value?)))),
            };
            headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let id = question.id()?.clone();
            let permit = Permit::own(question)?;
            let response = target.send(Method::POST, headers, permit.text().clone()).await.ok()?;
            match body_kind(response.headers()) {
                BodyKind::Json => Message::parse(target.whole(response.into_body()).await.ok()?, Side::Server).ok(),
                BodyKind::Events => reply_among_events(response.into_body(), &id, target.patience()).await,
                BodyKind::Other => None,
            }
        })
    })
}

/// Puts the answer to a request onto a stream that has begun already.
async fn pour(response: Response<Body>, out: mpsc::Sender<Bytes>) {
    let is_stream = body_kind(response.headers()) == BodyKind::Events;
    let mut body = response.into_body();
    if is_stream {
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            if out.send(data).await.is_err() {
                return;
            }
        }
        return;
    }
    let Ok(body) = body.collect().await;
    let body = body.to_bytes();
    if !body.is_empty() {
        let _ = out.send(sse::encode(&body, None, None)).await;
    }
}

/// Whether an error body holds more than an error: a result that nobody would filter, several messages, or one that two
/// readers would understand differently.
fn holds_more(body: &Bytes) -> bool {
    Document::parse(body.clone(), Strictness::Reply).is_ok_and(|document| {
        let root = document.root();
        let is_message = root.get("jsonrpc").is_some();
        root.elements().is_some()
            || root.get("result").is_some()
            || (is_message && Message::parse(body.clone(), Side::Server).is_err())
    })
}

/// Forgets the session that has not been used for longest, where there are as many as there may be.
fn make_room<K: Clone + Eq + Hash>(sessions: &mut HashMap<K, Arc<Session>>) {
    if sessions.len() < MAX_SESSIONS {
        return;
    }
    let oldest = sessions.iter().min_by_key(|(_, session)| session.lock().used).map(|(key, _)| key.clone());
    if let Some(oldest) = oldest {
        sessions.remove(&oldest);
    }
}

/// What of a client's headers travels upstream; `passed` are those that the configuration names besides. Those that repeat the body do so only in the stateless era, where they have
/// been held against it.
fn upstream_headers(headers: &HeaderMap, modern: bool, passed: &[String]) -> HeaderMap {
    let mut up = HeaderMap::with_capacity(8);
    for (name, value) in headers {
        let repeats = matches!(name.as_str(), "mcp-method" | "mcp-name") || name.as_str().starts_with(mcp::headers::PARAM_PREFIX);
        let of_session = matches!(name.as_str(), "mcp-session-id" | "last-event-id");
        let is_passed = UP.contains(&name.as_str()) || passed.iter().any(|passed| passed == name.as_str());
        if (repeats && modern) || (of_session && !modern) || is_passed {
            up.append(name, value.clone());
        }
    }
    up
}

fn downstream_headers(headers: &HeaderMap) -> HeaderMap {
    let mut down = HeaderMap::new();
    for name in DOWN {
        if let Some(value) = headers.get(name) {
            down.insert(HeaderName::from_static(name), value.clone());
        }
    }
    down
}

fn with(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let has_body = !body.is_empty();
    let mut response = json_response(status, body);
    response.headers_mut().remove(CONTENT_TYPE);
    for (name, value) in &headers {
        if has_body || name != CONTENT_TYPE {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// The reply to `id` in a stream that has been read to its end.
fn last_reply(stream: &Bytes, id: &Id) -> Option<Bytes> {
    let mut decoder = sse::Decoder::new(MAX_REPLY_BYTES);
    decoder.push(stream);
    let events = std::iter::from_fn(|| decoder.next_event()).map_while(Result::ok);
    let messages = events.filter_map(|event| Message::parse(event.message()?.clone(), Side::Server).ok());
    messages.into_iter().find(|message| message.id() == Some(id)).map(|message| message.text().clone())
}
