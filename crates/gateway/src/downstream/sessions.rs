//! HTTP clients before a line to a server: the gateway is the server of the HTTP binding.
//!
//! In the legacy era each session has a line of its own, so that what a session may see and do stays with it. In the
//! stateless era one line serves all: ids and progress tokens are exchanged for ours on the way, and closing a stream
//! becomes a cancellation. What kind of line it is (a child, an HTTP server) is for [`Upstream::connect`] to know.

use crate::conversation::{Clients, Command, Conversation, new_session_id, questions};
use crate::downstream::http::{Abandonment, Body, empty, json, listen, respond};
use crate::enforcer::{Caller, Enforcer};
use crate::gate::Gate;
use crate::refusal::{malformed, status_of, unreadable};
use crate::sink::{MAX_WAITING, Sink};
use crate::tools::{Ask, LiveTools, Schemas};
use crate::upstream::{Connection, Upstream};
use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use mcp::{Era, Malformed, Message, Side};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// One child each: as many as a machine of modest size carries.
const MAX_SESSIONS: usize = 64;
/// A session that nobody has used for so long is closed, and its child with it.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// The same where there is no room for another.
const QUIET: Duration = Duration::from_secs(5 * 60);
const SESSION_HEADER: &str = "mcp-session-id";

#[derive(Clone)]
struct Session {
    commands: mpsc::Sender<Command>,
    ask: Ask,
    stop: CancellationToken,
    used: Arc<Mutex<Instant>>,
}

pub(crate) struct Sessions {
    enforcer: Arc<Enforcer>,
    upstream: Upstream,
    tools: Arc<LiveTools>,
    open: Mutex<HashMap<String, Session>>,
    shared: Mutex<Option<Session>>,
    reloaded: watch::Receiver<u64>,
    stop: CancellationToken,
    running: TaskTracker,
    next_exchange: AtomicU64,
}

impl Sessions {
    pub fn new(
        enforcer: Arc<Enforcer>,
        upstream: Upstream,
        reloaded: watch::Receiver<u64>,
        stop: CancellationToken,
    ) -> Arc<Sessions> {
        let sessions = Arc::new(Sessions {
            enforcer,
            upstream,
            tools: Arc::default(),
            open: Mutex::default(),
            shared: Mutex::default(),
            reloaded,
            stop,
            running: TaskTracker::new(),
            next_exchange: AtomicU64::new(1),
        });
        let sweeping = Arc::downgrade(&sessions);
        tokio::spawn(async move {
            while let Some(sessions) = sweeping.upgrade() {
                sessions.sweep(IDLE);
                drop(sessions);
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
        });
        sessions
    }

    /// Ends all lines; at most about five seconds.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        self.running.close();
        self.running.wait().await;
    }

    pub async fn handle(self: &Arc<Self>, request: Request<Bytes>) -> Response<Body> {
        let (head, body) = request.into_parts();
        match head.method {
            Method::POST => self.post(&head.headers, body).await,
            Method::GET => self.get(&head.headers),
            _ => self.delete(&head.headers),
        }
    }

    async fn post(self: &Arc<Self>, headers: &HeaderMap, body: Bytes) -> Response<Body> {
        let session = headers.get(SESSION_HEADER);
        // A batch may stand only in a session that has agreed on a revision with batches: the conversation knows.
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            let Some(session) = session else { return self.refuse(unreadable("a batch needs a session")).await };
            return match self.find(session) {
                Some(session) => Self::exchange(&session, |sink| Command::Bytes { bytes: body, sink }, 0).await,
                None => self.unknown_session().await,
            };
        }
        let message = match Message::parse(body, Side::Client) {
            Ok(message) => message,
            Err(malformed) => return self.refuse(malformed).await,
        };
        let schemas = Schemas { tools: self.tools.clone(), ask: self.asker() };
        let revision = match schemas.check_headers(headers, &message).await {
            Ok(revision) => revision,
            Err(malformed) => return self.refuse(malformed).await,
        };
        if revision.era() == Era::Modern {
            let exchange = self.next_exchange.fetch_add(1, Ordering::Relaxed);
            return match self.shared() {
                Ok(session) => Self::exchange(&session, |sink| Command::Message { message, sink, exchange }, exchange).await,
                Err(response) => *response,
            };
        }
        match session {
            Some(id) => match self.find(id) {
                Some(session) => Self::exchange(&session, |sink| Command::Message { message, sink, exchange: 0 }, 0).await,
                None => self.unknown_session().await,
            },
            None if message.method() == Some("initialize") => match self.begin() {
                Ok((id, session)) => {
                    let mut response = Self::exchange(&session, |sink| Command::Message { message, sink, exchange: 0 }, 0).await;
                    if let Ok(id) = HeaderValue::from_str(&id) {
                        response.headers_mut().insert(SESSION_HEADER, id);
                    }
                    response
                }
                Err(response) => *response,
            },
            None => self.refuse(malformed(&message, mcp::reply::INVALID_REQUEST, "no session: begin with `initialize`")).await,
        }
    }

    fn get(&self, headers: &HeaderMap) -> Response<Body> {
        let Some(session) = headers.get(SESSION_HEADER) else { return not_allowed() };
        let Some(session) = self.find(session) else { return empty(StatusCode::NOT_FOUND) };
        let (sink, given) = mpsc::channel(MAX_WAITING);
        match session.commands.try_send(Command::Attach(Sink::Exchange(sink))) {
            Ok(()) => listen(given),
            Err(_) => empty(StatusCode::NOT_FOUND),
        }
    }

    fn delete(&self, headers: &HeaderMap) -> Response<Body> {
        let Some(id) = headers.get(SESSION_HEADER).and_then(|id| id.to_str().ok()) else { return not_allowed() };
        match self.lock().remove(id) {
            Some(session) => {
                session.stop.cancel();
                empty(StatusCode::OK)
            }
            None => empty(StatusCode::NOT_FOUND),
        }
    }

    async fn exchange(session: &Session, command: impl FnOnce(Sink) -> Command, exchange: u64) -> Response<Body> {
        let (sink, given) = mpsc::channel(MAX_WAITING);
        let abandonment = Abandonment { commands: session.commands.clone(), exchange };
        // A conversation that has ended drops the command, and with it the sink: `respond` says so.
        let _ = session.commands.send(command(Sink::Exchange(sink))).await;
        respond(given, abandonment).await
    }

    /// The conversation that all clients of the stateless era share; begun when there is none.
    fn shared(&self) -> Result<Session, Box<Response<Body>>> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shared {
            Some(session) if !session.commands.is_closed() => Ok(session.clone()),
            _ => {
                let session = self.start(Caller::local(None), Clients::Many)?;
                Ok(shared.insert(session).clone())
            }
        }
    }

    /// A way to ask the server that all clients of the stateless era share.
    fn asker(self: &Arc<Self>) -> Ask {
        let sessions = self.clone();
        // Begun only when something is really asked: a legacy client needs no such child.
        Arc::new(move |question| match sessions.shared() {
            Ok(session) => (session.ask)(question),
            Err(_) => Box::pin(async { None }),
        })
    }

    fn begin(&self) -> Result<(String, Session), Box<Response<Body>>> {
        self.sweep(IDLE);
        if self.lock().len() >= MAX_SESSIONS {
            // Whoever has left without a word makes room first.
            self.sweep(QUIET);
        }
        if self.lock().len() >= MAX_SESSIONS {
            warn!(MAX_SESSIONS, "a session is refused: there are too many");
            return Err(Box::new(unavailable("there are too many sessions; close one, or try again later")));
        }
        let Some(id) = new_session_id() else { return Err(Box::new(unavailable("no session can be made"))) };
        let session = self.start(Caller::local(Some(id.clone())), Clients::One)?;
        self.lock().insert(id.clone(), session.clone());
        Ok((id, session))
    }

    fn start(&self, caller: Caller, clients: Clients) -> Result<Session, Box<Response<Body>>> {
        let (commands, heard) = mpsc::channel(256);
        let (ask, asked) = questions();
        let schemas = Schemas { tools: self.tools.clone(), ask: ask.clone() };
        let Connection { link, inbound } = self.upstream.connect(&schemas).map_err(|error| {
            warn!(%error, "the server cannot be started");
            Box::new(unavailable("the server cannot be started"))
        })?;
        let gate = Gate { enforcer: self.enforcer.clone(), caller, schemas, over_http: true };
        let stop = self.stop.child_token();
        let conversation = Conversation::new(gate, link, clients);
        let stopped = stop.clone();
        self.running.spawn(async move {
            let link = conversation.run(heard, asked, inbound, stopped, Duration::ZERO).await;
            let _ = link.shut_down(Duration::from_millis(500)).await;
        });
        let notices = commands.downgrade();
        let mut reloaded = self.reloaded.clone();
        tokio::spawn(async move {
            while reloaded.changed().await.is_ok() {
                let Some(commands) = notices.upgrade() else { return };
                let _ = commands.send(Command::ToolsChanged).await;
            }
        });
        Ok(Session { commands, ask, stop, used: Arc::new(Mutex::new(Instant::now())) })
    }

    fn find(&self, id: &HeaderValue) -> Option<Session> {
        let session = self.lock().get(id.to_str().ok()?).cloned()?;
        *session.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Some(session)
    }

    /// Forgets sessions that have ended or that nobody has used for so long.
    fn sweep(&self, longest: Duration) {
        self.lock().retain(|_, session| {
            let idle = session.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > longest;
            if idle {
                session.stop.cancel();
            }
            !idle && !session.commands.is_closed()
        });
    }

    async fn refuse(&self, malformed: Malformed) -> Response<Body> {
        let malformed = self.enforcer.refuse(malformed, &Caller::local(None)).await;
        refusal(&malformed)
    }

    async fn unknown_session(&self) -> Response<Body> {
        let malformed = self.enforcer.refuse(unreadable("this session is unknown or over"), &Caller::local(None)).await;
        json(StatusCode::NOT_FOUND, malformed.error())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Session>> {
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

fn unavailable(why: &str) -> Response<Body> {
    json(StatusCode::SERVICE_UNAVAILABLE, mcp::reply::error(None, mcp::reply::INTERNAL_ERROR, why, None))
}
