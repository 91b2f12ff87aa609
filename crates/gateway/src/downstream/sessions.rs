//! HTTP clients before a line to a server: the gateway is the server of the HTTP binding.
//!
//! In the legacy era each session has a conversation of its own, so that what a session may see and do stays with it. In the
//! stateless era one conversation serves all who call with one grant: ids and progress tokens are exchanged for ours on the way, and closing a stream
//! becomes a cancellation. What kind of line a conversation goes over (a child, an HTTP server, one that several share) is for
//! [`Upstream::connect`] to know.
//!
//! A session belongs to the caller who has opened it; to anybody else it is unknown.

#[cfg(test)]
mod tests;

use crate::chance;
use crate::conversation::{Clients, Command, Conversation, questions};
use crate::downstream::http::{Abandonment, Body, empty, json, respond_from};
use crate::downstream::replay::{Replay, Resumed};
use crate::enforcer::{Caller, Enforcer, Passed};
use crate::gate::Gate;
use crate::ownership::Owner;
use crate::refusal::{UPSTREAM_FAILED, malformed, status_of, unreadable};
use crate::sink::{Down, MAX_WAITING, Sink};
use crate::tools::{Ask, LiveTools, Schemas};
use crate::upstream::{Condition, Connection, Failure, Upstream};
use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use mcp::{Era, Id, Malformed, Message, Side};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Past so many, nobody begins another; children have a bound of their own.
const MAX_SESSIONS: usize = 10_000;
/// A session that nobody has used for so long is closed, and its line with it.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// The same where there is no room for another.
const QUIET: Duration = Duration::from_secs(5 * 60);
/// Where there is no room, a session counts as abandoned so long after its `initialize` was answered, if nothing came after.
const GREETING: Duration = Duration::from_secs(2);
/// The same where the server has not answered: it may take half a minute to start.
const STARTING: Duration = Duration::from_secs(60);
/// How long the line of a session that was closed to make room may take to end.
const ENDING: Duration = Duration::from_secs(8);
/// An answer that takes longer than this goes out on a stream, where its client can come back for it.
const AT_ONCE: Duration = Duration::from_secs(1);
const SESSION_HEADER: &str = "mcp-session-id";

#[derive(Clone)]
pub(super) struct Session {
    pub owner: Caller,
    pub commands: mpsc::Sender<Command>,
    ask: Ask,
    pub stop: CancellationToken,
    /// Cancelled when its line is closed.
    ended: CancellationToken,
    /// The one stream that its client holds open for as long as it lasts (HTTP+SSE).
    stream: Option<mpsc::WeakSender<Bytes>>,
    state: Arc<Mutex<State>>,
    replay: Arc<Replay>,
}

/// What of a session tells whether somebody is still there.
struct State {
    begun: Instant,
    used: Instant,
    /// Whether its `initialize` was answered.
    answered: bool,
    /// Whether the client has said anything since.
    established: bool,
}

impl Session {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where everything goes that is said to its client, if that is one stream and it is still open.
    pub fn sink(&self) -> Option<Sink> {
        self.stream.as_ref()?.upgrade().map(Sink::Stream)
    }

    /// Somebody uses it.
    pub fn touch(&self) {
        self.state().used = Instant::now();
    }

    fn is_idle(&self, longest: Duration) -> bool {
        self.stream.is_none() && self.state().used.elapsed() > longest
    }

    /// The same for one that many share: nobody may be waiting in it either.
    fn is_unused(&self, longest: Duration) -> bool {
        // Each exchange that is under way holds a sender.
        self.commands.strong_count() == 1 && self.is_idle(longest)
    }

    /// Whether its client has begun it and left: the handshake was never finished.
    fn is_abandoned(&self) -> bool {
        let state = self.state();
        let patience = if state.answered { state.used.elapsed() > GREETING } else { state.begun.elapsed() > STARTING };
        !state.established && patience
    }
}

/// Whether the client of an exchange comes back for what it has not heard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coming {
    /// In the stateless era closing is the cancellation, of the exchange of this number.
    Never(u64),
    /// Where its connection broke after an event.
    Back,
    /// Also where the stream was closed before anything was said.
    Often,
}

/// Where a conversation is that many share; locked while it is being begun.
type Slot = tokio::sync::Mutex<Option<Session>>;

pub(crate) struct Sessions {
    pub(super) enforcer: Arc<Enforcer>,
    upstream: Upstream,
    tools: Arc<LiveTools>,
    /// By the id or the token that their clients name them by.
    open: Mutex<HashMap<String, Session>>,
    /// Of the stateless era: one conversation for all clients of a grant.
    shared: Mutex<HashMap<Owner, Arc<Slot>>>,
    /// Where clients of 2024-11-05 post.
    pub(super) messages: String,
    reloaded: watch::Receiver<u64>,
    stop: CancellationToken,
    /// Cancelled when nothing new is to begin: streams that carry whole sessions end once nothing is under way on them.
    finishing: CancellationToken,
    /// Lines of sessions that are over, until they are closed.
    ending: Mutex<Vec<CancellationToken>>,
    running: TaskTracker,
    next_exchange: AtomicU64,
}

impl Sessions {
    pub fn new(
        enforcer: Arc<Enforcer>,
        upstream: Upstream,
        messages: &str,
        reloaded: watch::Receiver<u64>,
        stop: CancellationToken,
    ) -> Arc<Sessions> {
        let tools = LiveTools::of(enforcer.definitions().clone());
        let sessions = Arc::new(Sessions {
            enforcer,
            upstream,
            tools,
            open: Mutex::default(),
            shared: Mutex::default(),
            messages: messages.to_owned(),
            reloaded,
            stop,
            finishing: CancellationToken::new(),
            ending: Mutex::default(),
            running: TaskTracker::new(),
            next_exchange: AtomicU64::new(1),
        });
        let sweeping = Arc::downgrade(&sessions);
        tokio::spawn(async move {
            while let Some(sessions) = sweeping.upgrade() {
                sessions.sweep();
                drop(sessions);
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
        });
        sessions
    }

    /// Why the server cannot be called in the name of `caller`, who has to do something first.
    pub fn lacking(&self, caller: &Caller) -> Option<Failure> {
        self.upstream.endpoint()?.0.lacking(caller)
    }

    /// What of the headers of a client's request the server gets too.
    pub fn passed(&self, headers: &HeaderMap) -> Passed {
        let named = self.upstream.endpoint()?.0.passed();
        let passed: HeaderMap = headers.iter().filter(|(name, _)| named.iter().any(|passed| passed == name.as_str())).fold(
            HeaderMap::new(),
            |mut passed, (name, value)| {
                passed.append(name, value.clone());
                passed
            },
        );
        (!passed.is_empty()).then(|| Arc::new(passed))
    }

    /// How the server's processes are, where it has any that are watched.
    pub fn condition(&self) -> Option<Condition> {
        self.upstream.condition()
    }

    /// Lets streams that carry whole sessions end, each when nothing is under way on it.
    pub fn finish(&self) {
        self.finishing.cancel();
    }

    /// Ends all lines; at most about five seconds.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        self.running.close();
        self.running.wait().await;
        self.upstream.shut_down().await;
    }

    /// Serves `/mcp`.
    pub async fn handle(self: &Arc<Self>, request: Request<Bytes>, caller: &Caller) -> Response<Body> {
        let (head, body) = request.into_parts();
        match head.method {
            Method::POST => self.post(&head.headers, body, caller).await,
            Method::GET => self.get(&head.headers, caller),
            _ => self.delete(&head.headers, caller),
        }
    }

    /// Whether the session that `headers` name is one of these.
    pub fn holds(&self, headers: &HeaderMap) -> bool {
        let id = headers.get(SESSION_HEADER).and_then(|id| id.to_str().ok());
        id.is_some_and(|id| self.lock().contains_key(id))
    }

    async fn post(self: &Arc<Self>, headers: &HeaderMap, body: Bytes, caller: &Caller) -> Response<Body> {
        let session = headers.get(SESSION_HEADER);
        // A batch may stand only in a session that has agreed on a revision with batches: the conversation knows.
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            let Some(session) = session else { return self.refuse(unreadable("a batch needs a session"), caller).await };
            return match self.of_header(session, caller) {
                Some(session) => Self::exchange(&session, |sink| Command::Bytes { bytes: body, sink }, Coming::Back).await,
                None => self.unknown_session(caller).await,
            };
        }
        let message = match Message::parse(body, Side::Client) {
            Ok(message) => message,
            Err(malformed) => return self.refuse(malformed, caller).await,
        };
        let schemas = self.schemas(caller);
        let revision = match schemas.check_headers(headers, &message).await {
            Ok(revision) => revision,
            Err(malformed) => return self.refuse(malformed, caller).await,
        };
        let passed = self.passed(headers);
        if revision.era() == Era::Modern {
            let exchange = self.next_exchange();
            return match self.shared(caller).await {
                Ok(session) => {
                    let command = |sink| Command::Message { message, sink, exchange, passed };
                    Self::exchange(&session, command, Coming::Never(exchange)).await
                }
                Err(response) => *response,
            };
        }
        match session {
            Some(id) => match self.of_header(id, caller) {
                Some(session) => {
                    let coming = if revision.has_polling() { Coming::Often } else { Coming::Back };
                    Self::exchange(&session, |sink| Command::Message { message, sink, exchange: 0, passed }, coming).await
                }
                None => self.unknown_session(caller).await,
            },
            None if message.method() == Some("initialize") => match self.begin(caller, None).await {
                Ok((id, session)) => {
                    let begins = |sink| Command::Message { message, sink, exchange: 0, passed };
                    let mut response = Self::exchange(&session, begins, Coming::Back).await;
                    let mut state = session.state();
                    (state.answered, state.used) = (true, Instant::now());
                    drop(state);
                    if let Ok(id) = HeaderValue::from_str(&id) {
                        response.headers_mut().insert(SESSION_HEADER, id);
                    }
                    response
                }
                Err(response) => *response,
            },
            None => {
                let why = "no session: begin with `initialize`";
                self.refuse(malformed(&message, mcp::reply::INVALID_REQUEST, why), caller).await
            }
        }
    }

    fn get(&self, headers: &HeaderMap, caller: &Caller) -> Response<Body> {
        let Some(session) = headers.get(SESSION_HEADER) else { return not_allowed() };
        let Some(session) = self.of_header(session, caller) else { return empty(StatusCode::NOT_FOUND) };
        let last_event = headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let missed = match last_event.map(|id| session.replay.after(id)) {
            Some(Resumed::Stream(response)) => return *response,
            Some(Resumed::Missed(missed)) => missed,
            // Whoever names an event that is not kept any more listens from now on.
            Some(Resumed::Unknown) | None => Vec::new(),
        };
        let (sink, given) = mpsc::channel(MAX_WAITING);
        match session.commands.try_send(Command::Attach(Sink::Exchange(sink))) {
            Ok(()) => session.replay.listen(missed, given),
            Err(_) => empty(StatusCode::NOT_FOUND),
        }
    }

    fn delete(&self, headers: &HeaderMap, caller: &Caller) -> Response<Body> {
        let Some(id) = headers.get(SESSION_HEADER) else { return not_allowed() };
        match self.of_header(id, caller) {
            Some(session) => {
                self.end(&session);
                self.forget(id.to_str().unwrap_or_default());
                empty(StatusCode::OK)
            }
            None => empty(StatusCode::NOT_FOUND),
        }
    }

    async fn exchange(session: &Session, command: impl FnOnce(Sink) -> Command, coming: Coming) -> Response<Body> {
        let (sink, mut given) = mpsc::channel(MAX_WAITING);
        let exchange = if let Coming::Never(exchange) = coming { exchange } else { 0 };
        let abandonment = Abandonment { commands: session.commands.clone(), exchange };
        // A conversation that has ended drops the command, and with it the sink: `respond` says so.
        let _ = session.commands.send(command(Sink::Exchange(sink))).await;
        let first = match coming {
            Coming::Often => tokio::time::timeout(AT_ONCE, given.recv()).await,
            Coming::Back | Coming::Never(_) => Ok(given.recv().await),
        };
        let polls = coming == Coming::Often;
        match first {
            Err(_) => session.replay.answer(None, given, polls),
            Ok(Some(Down::Event(first))) if exchange == 0 => session.replay.answer(Some(&first), given, polls),
            Ok(first) => respond_from(first, given, abandonment),
        }
    }

    /// The conversation that all clients of the stateless era share who call with one grant; begun when there is none.
    pub(super) async fn shared(&self, caller: &Caller) -> Result<Session, Box<Response<Body>>> {
        let slot = self.slot(caller)?;
        let mut shared = slot.lock().await;
        match &*shared {
            // One that was begun in another edition of the grant is about to end.
            Some(session) if !session.commands.is_closed() && session.owner.edition == caller.edition => {
                session.state().used = Instant::now();
                Ok(session.clone())
            }
            _ => {
                let session = self.start(caller.clone(), Clients::Many, None).await?;
                Ok(shared.insert(session).clone())
            }
        }
    }

    fn slot(&self, caller: &Caller) -> Result<Arc<Slot>, Box<Response<Body>>> {
        let mut shared = self.lock_shared();
        if let Some(slot) = shared.get(&caller.owner()) {
            return Ok(slot.clone());
        }
        if shared.len() >= MAX_SESSIONS {
            return Err(full());
        }
        Ok(shared.entry(caller.owner()).or_default().clone())
    }

    /// A number for an exchange, that no other has.
    pub(super) fn next_exchange(&self) -> u64 {
        self.next_exchange.fetch_add(1, Ordering::Relaxed)
    }

    /// The server's tools, and a way to ask for them in the stateless era.
    pub(super) fn schemas(self: &Arc<Self>, caller: &Caller) -> Schemas {
        Schemas { tools: self.tools.clone(), ask: self.asker(caller) }
    }

    /// A way to ask the server that all clients of the stateless era share.
    fn asker(self: &Arc<Self>, caller: &Caller) -> Ask {
        let (sessions, caller) = (self.clone(), caller.clone());
        // Begun only when something is really asked: a legacy client needs no such line.
        Arc::new(move |question| {
            let (sessions, caller) = (sessions.clone(), caller.clone());
            Box::pin(async move { (sessions.shared(&caller).await.ok()?.ask)(question).await })
        })
    }

    /// Begins a session for `caller`, and gives the secret by which it is named. `stream`: where everything that is said to
    /// its client goes, if that is one stream.
    pub(super) async fn begin(
        &self,
        caller: &Caller,
        stream: Option<mpsc::Sender<Bytes>>,
    ) -> Result<(String, Session), Box<Response<Body>>> {
        self.make_room()?;
        let ids = chance::token().zip(chance::token());
        let Some((id, token)) = ids else { return Err(Box::new(unavailable("no session can be made"))) };
        // The token of a stream stands in URLs: it is not what records name the session by.
        let secret = if stream.is_some() { token } else { id.clone() };
        let session = self.start(caller.in_session(&id), Clients::One, stream).await?;
        self.lock().insert(secret.clone(), session.clone());
        Ok((secret, session))
    }

    /// Begins a session here for one that has sessions at many servers, and gives the secret by which it is forgotten.
    /// `caller` is in that one.
    pub(super) async fn begin_seat(&self, caller: &Caller) -> Result<(String, Session), Box<Response<Body>>> {
        self.make_room()?;
        let Some(secret) = chance::token() else { return Err(Box::new(unavailable("no session can be made"))) };
        let session = self.start(caller.clone(), Clients::One, None).await?;
        let mut state = session.state();
        (state.answered, state.established) = (true, true);
        drop(state);
        self.lock().insert(secret.clone(), session.clone());
        Ok((secret, session))
    }

    fn make_room(&self) -> Result<(), Box<Response<Body>>> {
        if self.lock().len() >= MAX_SESSIONS {
            self.sweep();
            // Whoever has left without a word makes room first.
            self.close_one();
        }
        if self.lock().len() >= MAX_SESSIONS { Err(full()) } else { Ok(()) }
    }

    async fn start(
        &self,
        caller: Caller,
        clients: Clients,
        stream: Option<mpsc::Sender<Bytes>>,
    ) -> Result<Session, Box<Response<Body>>> {
        if let Some(failure) = self.lacking(&caller) {
            return Err(Box::new(failed(None, &failure)));
        }
        let (commands, heard) = mpsc::channel(256);
        let (ask, asked) = questions();
        let schemas = Schemas { tools: self.tools.clone(), ask: ask.clone() };
        let Connection { link, inbound } = self.connect(&schemas, clients, &caller).await?;
        // A client with one stream sends no headers that would have to agree with anything.
        let over_http = stream.is_none() || self.upstream.is_http();
        let gate = Gate {
            enforcer: self.enforcer.clone(),
            caller: caller.clone(),
            schemas,
            over_http,
            stateless: clients == Clients::Many,
            elicits: false,
            opens_urls: false,
        };
        let (stop, ended) = (self.stop.child_token(), CancellationToken::new());
        let mut conversation = Conversation::new(gate, link, clients);
        let weak = stream.as_ref().map(mpsc::Sender::downgrade);
        if let Some(stream) = stream {
            conversation = conversation.listening(Sink::Stream(stream));
        }
        let (stopped, ends) = (stop.clone(), ended.clone().drop_guard());
        self.running.spawn(async move {
            let link = conversation.run(heard, asked, inbound, stopped, Duration::ZERO).await;
            let _ = link.shut_down(Duration::from_millis(500)).await;
            drop(ends);
        });
        let notices = commands.downgrade();
        let (mut reloaded, finishing) = (self.reloaded.clone(), self.finishing.clone());
        let is_stream = weak.is_some();
        tokio::spawn(async move {
            loop {
                let notice = tokio::select! {
                    changed = reloaded.changed() => if changed.is_ok() { Command::ToolsChanged } else { return },
                    () = finishing.cancelled(), if is_stream => Command::Finish,
                };
                let last = matches!(notice, Command::Finish);
                let Some(commands) = notices.upgrade() else { return };
                let _ = commands.send(notice).await;
                if last {
                    return;
                }
            }
        });
        let now = Instant::now();
        // The first word on a stream is ours, and answered at once.
        let state = State { begun: now, used: now, answered: weak.is_some(), established: false };
        Ok(Session {
            owner: caller,
            commands,
            ask,
            stop,
            ended,
            stream: weak,
            state: Arc::new(Mutex::new(state)),
            replay: Arc::default(),
        })
    }

    /// Opens a line; where there are as many children as there may be, in the place of a session that nobody uses.
    async fn connect(&self, schemas: &Schemas, clients: Clients, caller: &Caller) -> Result<Connection, Box<Response<Body>>> {
        let deadline = tokio::time::Instant::now() + ENDING;
        loop {
            let opened = match clients {
                Clients::Many => self.upstream.connect_stateless(schemas, caller),
                Clients::One => self.upstream.connect(schemas, caller),
            };
            match opened {
                Ok(connection) => return Ok(connection),
                Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
                    let ending = self.next_ending().or_else(|| self.close_one().map(|closed| closed.ended));
                    let Some(ending) = ending else { return Err(full()) };
                    if tokio::time::timeout_at(deadline, ending.cancelled()).await.is_err() {
                        return Err(full());
                    }
                }
                // It is not tried again just yet: why was said when it was.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Box::new(unavailable(&error.to_string()))),
                Err(error) => {
                    warn!(%error, "the server cannot be started");
                    return Err(Box::new(unavailable("the server cannot be started")));
                }
            }
        }
    }

    /// Finds the session that a header names.
    fn of_header(&self, id: &HeaderValue, caller: &Caller) -> Option<Session> {
        self.find(id.to_str().ok()?, caller).filter(|session| session.stream.is_none())
    }

    /// Finds a session of this caller's, which counts as used by that.
    pub(super) fn find(&self, secret: &str, caller: &Caller) -> Option<Session> {
        let session = self.lock().get(secret).filter(|session| session.owner.is_same(caller)).cloned()?;
        let mut state = session.state();
        (state.used, state.established) = (Instant::now(), true);
        drop(state);
        Some(session)
    }

    /// Ends a session whose client has said goodbye. Its line takes a while to close, and its place is free only then.
    pub(super) fn end(&self, session: &Session) {
        session.stop.cancel();
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        ending.retain(|ended| !ended.is_cancelled());
        ending.push(session.ended.clone());
    }

    /// A line that is about to close. Whoever takes it waits for it, and nobody else does.
    fn next_ending(&self) -> Option<CancellationToken> {
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        ending.retain(|ended| !ended.is_cancelled());
        ending.pop()
    }

    pub(super) fn forget(&self, secret: &str) {
        self.lock().remove(secret);
    }

    /// Closes and forgets sessions that nobody has used for long, and forgets those that have ended.
    fn sweep(&self) {
        self.lock().retain(|_, session| {
            let idle = session.is_idle(IDLE);
            if idle {
                session.stop.cancel();
            }
            !idle && !session.commands.is_closed()
        });
        self.lock_shared().retain(|_, slot| {
            // Whoever is about to use it, or is beginning it, holds the slot.
            if Arc::strong_count(slot) > 1 {
                return true;
            }
            let Ok(session) = slot.try_lock() else { return true };
            let Some(session) = &*session else { return false };
            let idle = session.is_unused(IDLE);
            if idle {
                session.stop.cancel();
            }
            !idle && !session.commands.is_closed()
        });
    }

    /// Closes one session to make room: the oldest whose client has left in the middle of the handshake, else the one that
    /// has been quiet for longest. Says which.
    fn close_one(&self) -> Option<Session> {
        let mut open = self.lock();
        let abandoned = open.iter().filter(|(_, session)| session.is_abandoned());
        let quiet = open.iter().filter(|(_, session)| session.is_idle(QUIET));
        let oldest = abandoned.min_by_key(|(_, session)| session.state().begun);
        let secret = oldest.or_else(|| quiet.min_by_key(|(_, session)| session.state().used)).map(|(secret, _)| secret.clone());
        let session = match secret {
            Some(secret) => open.remove(&secret)?,
            None => self.take_unused()?,
        };
        session.stop.cancel();
        info!("closed a session that nobody uses, to make room for another");
        Some(session)
    }

    /// Takes out the conversation of the stateless era that has been quiet for longest, if there is one.
    fn take_unused(&self) -> Option<Session> {
        let mut shared = self.lock_shared();
        let unused = |slot: &Arc<Slot>| {
            if Arc::strong_count(slot) > 1 {
                return None;
            }
            let session = slot.try_lock().ok()?;
            session.as_ref().filter(|session| session.is_unused(QUIET)).map(|session| session.state().used)
        };
        let found = shared.iter().filter_map(|(owner, slot)| Some((unused(slot)?, owner.clone())));
        let (_, owner) = found.min_by_key(|(used, _)| *used)?;
        shared.remove(&owner)?.try_lock().ok()?.take()
    }

    async fn refuse(&self, malformed: Malformed, caller: &Caller) -> Response<Body> {
        refusal(&self.enforcer.refuse(malformed, caller).await)
    }

    pub(super) async fn unknown_session(&self, caller: &Caller) -> Response<Body> {
        let malformed = self.enforcer.refuse(unreadable("this session is unknown or over"), caller).await;
        json(StatusCode::NOT_FOUND, malformed.error())
    }

    fn lock_shared(&self) -> MutexGuard<'_, HashMap<Owner, Arc<Slot>>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The response to a message that was refused.
pub(crate) fn refusal(malformed: &Malformed) -> Response<Body> {
    let status = StatusCode::from_u16(status_of(malformed)).unwrap_or(StatusCode::BAD_REQUEST);
    json(status, malformed.error())
}

/// GET or DELETE without a session: the stateless era has neither.
fn not_allowed() -> Response<Body> {
    let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("POST"));
    response
}

/// The response where the server has given none.
pub(super) fn failed(id: Option<&Id>, failure: &Failure) -> Response<Body> {
    json(StatusCode::BAD_GATEWAY, mcp::reply::error(id, UPSTREAM_FAILED, &failure.told(), None))
}

fn full() -> Box<Response<Body>> {
    warn!("a session is refused: there are too many");
    Box::new(unavailable("there are too many sessions; close one, or try again later"))
}

fn unavailable(why: &str) -> Response<Body> {
    json(StatusCode::SERVICE_UNAVAILABLE, mcp::reply::error(None, mcp::reply::INTERNAL_ERROR, why, None))
}
