//! `/mcp` and `/sse` before many servers: everything that a grant may use, as if it were one server.
//!
//! This stands above the conversations of the single servers, and is a client of theirs. It takes the server's name off what
//! a client calls and puts it on what a client is shown; between the two, each server's own conversation judges, records and
//! filters, as it does for clients of `/mcp/<server>`. Nothing leaves here for a server in any other way.
//!
//! A legacy session has a seat at each server ([`Session`]); in the stateless era a request goes to the conversation that all
//! clients of a grant share at a server ([`stateless`]). No server keeps the others waiting: a list is given without those
//! that do not answer in time, and clients are told when they come.

mod gather;
mod listening;
mod member;
mod relay;
mod seat;
mod session;
mod stateless;
mod stream;

use crate::chance;
use crate::downstream::door::Endpoint;
use crate::downstream::http::{Abandonment, Body, empty, json, listen, respond};
use crate::downstream::sessions::{Sessions, refusal};
use crate::enforcer::{Caller, Denied, Enforcer};
use crate::ownership::Owner;
use crate::refusal::{malformed, unreadable};
use crate::sink::{self, MAX_WAITING, Sink};
use crate::tools::Schemas;
use crate::upstream::Condition;
use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use mcp::{Era, Incoming, Message, Revision, Side};
use member::Member;
use session::Session;
use stateless::Stateless;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use stream::Stream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use member::Standing;

/// How one server stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStanding {
    /// Its name.
    pub name: String,
    /// Whether it has answered the last time, as far as all servers were asked at once.
    pub standing: Standing,
    /// Its processes, where it is one.
    pub processes: Option<Condition>,
}

/// More sessions at many servers at once than this are refused.
const MAX_SESSIONS: usize = 10_000;
/// A session that nobody has used for so long is closed.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// How often that is looked for.
const SWEEP: Duration = Duration::from_secs(30);
const SESSION_HEADER: &str = "mcp-session-id";

/// Says whether a caller may use the server of this name.
pub(crate) type MayUse = Arc<dyn Fn(&Caller, &str) -> bool + Send + Sync>;

/// How long servers are waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the answer to `initialize` and `server/discover`, before the client is answered without them.
    pub greeting: Duration,
    /// The same for lists.
    pub list: Duration,
    /// For a server that has let the last list go without it.
    pub slow: Duration,
    /// For the first attempt to reach a server again; each further one waits twice as long.
    pub again: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        // Clients give up after 10 s (rmcp) to 60 s; servers take 0.2 s to 30 s to start.
        let (greeting, list) = (Duration::from_secs(4), Duration::from_secs(8));
        Patience { greeting, list, slow: Duration::from_millis(250), again: Duration::from_secs(1) }
    }
}

/// Everything that grants may use, at one endpoint.
pub(crate) struct Federation {
    /// Records what is refused before it is known for whom it was, and denies what no server has.
    enforcer: Arc<Enforcer>,
    may_use: MayUse,
    patience: Patience,
    members: RwLock<Members>,
    open: Mutex<HashMap<String, Arc<Session>>>,
    /// Those of clients of 2024-11-05, by the tokens that they post with.
    streams: Mutex<HashMap<String, Arc<Stream>>>,
    /// Cancelled when nothing new is to begin: streams end once nothing is under way on them.
    finishing: CancellationToken,
    stateless: Mutex<HashMap<Owner, Arc<Stateless>>>,
    stop: CancellationToken,
    running: TaskTracker,
}

type Members = Arc<BTreeMap<Arc<str>, Arc<Member>>>;

impl Federation {
    /// A federation of `servers`, by their names. `enforcer` must allow nothing: it answers for what no server has.
    pub fn new(
        enforcer: Arc<Enforcer>,
        servers: impl IntoIterator<Item = (String, Arc<Sessions>)>,
        may_use: MayUse,
        patience: Patience,
    ) -> Arc<Federation> {
        let federation = Arc::new(Federation {
            enforcer,
            may_use,
            patience,
            members: RwLock::new(members_of(servers, &BTreeMap::new())),
            open: Mutex::default(),
            streams: Mutex::default(),
            finishing: CancellationToken::new(),
            stateless: Mutex::default(),
            stop: CancellationToken::new(),
            running: TaskTracker::new(),
        });
        let sweeping = Arc::downgrade(&federation);
        tokio::spawn(async move {
            while let Some(federation) = sweeping.upgrade() {
                federation.sweep();
                drop(federation);
                tokio::time::sleep(SWEEP).await;
            }
        });
        federation
    }

    /// Puts other servers in the place of these. One whose sessions are the same object stays as it is; whoever has a session
    /// is told that the lists have changed.
    pub fn replace(self: &Arc<Self>, servers: impl IntoIterator<Item = (String, Arc<Sessions>)>) {
        let members = members_of(servers, &self.members());
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = members;
        let mut open: Vec<_> = self.lock().values().cloned().collect();
        open.extend(self.lock_streams().values().filter_map(|stream| stream.session().cloned()));
        for session in open {
            session.reseat();
        }
        for member in self.members().values() {
            member.has_come();
        }
    }

    /// Records what is refused here, for all servers.
    pub fn enforcer(&self) -> &Enforcer {
        &self.enforcer
    }

    /// How each server stands, by name.
    pub fn standings(&self) -> Vec<ServerStanding> {
        let standing = |member: &Arc<Member>| ServerStanding {
            name: member.name.to_string(),
            standing: member.standing(),
            processes: member.sessions.condition(),
        };
        self.members().values().map(standing).collect()
    }

    /// Lets streams end, each when nothing is under way on it.
    pub fn finish(&self) {
        self.finishing.cancel();
    }

    /// Ends all sessions.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        self.running.close();
        self.running.wait().await;
    }

    /// Serves what is not for a single server.
    pub async fn handle(self: &Arc<Self>, endpoint: Endpoint, request: Request<Bytes>, caller: &Caller) -> Response<Body> {
        let (head, body) = request.into_parts();
        match endpoint {
            Endpoint::Mcp => {}
            Endpoint::Stream => return self.open_stream(caller),
            Endpoint::Messages => return Box::pin(self.post_to_stream(&head.uri, head.headers, body, caller)).await,
            // It is answered before a server is looked for.
            Endpoint::Metadata => return empty(StatusCode::NOT_FOUND),
        }
        match head.method {
            Method::POST => self.post(&head.headers, body, caller).await,
            Method::GET => self.get(&head.headers, caller),
            _ => self.delete(&head.headers, caller),
        }
    }

    async fn post(self: &Arc<Self>, headers: &HeaderMap, body: Bytes, caller: &Caller) -> Response<Body> {
        let named = headers.get(SESSION_HEADER);
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            let Some(named) = named else { return self.refuse(unreadable("a batch needs a session"), caller).await };
            return match self.find(named, caller) {
                Some(session) => self.post_batch(&session, headers, body).await,
                None => self.unknown_session(caller).await,
            };
        }
        let message = match Message::parse(body, Side::Client) {
            Ok(message) => message,
            Err(malformed) => return self.refuse(malformed, caller).await,
        };
        let revision = match mcp::headers::check_request(headers, &message, None) {
            Ok(revision) => revision,
            Err(mismatch) => {
                let refused = malformed(&message, mismatch.code, &mismatch.message);
                return self.refuse(mcp::Malformed { data: mismatch.data, ..refused }, caller).await;
            }
        };
        if revision.era() == Era::Modern {
            return self.stateless(caller).handle(headers, message).await;
        }
        match named {
            Some(named) => match self.find(named, caller) {
                Some(session) => Self::exchange(&session, headers, message).await,
                None => self.unknown_session(caller).await,
            },
            None if message.method() == Some("initialize") => self.begin(message, caller).await,
            None => {
                let why = "no session: begin with `initialize`";
                self.refuse(malformed(&message, mcp::reply::INVALID_REQUEST, why), caller).await
            }
        }
    }

    async fn exchange(session: &Arc<Session>, headers: &HeaderMap, message: Message) -> Response<Body> {
        let (sink, given) = mpsc::channel(MAX_WAITING);
        session.hear(message, Sink::Exchange(sink), headers).await;
        respond(given, Abandonment::by_nobody()).await
    }

    /// A batch of 2025-03-26: its items take their ways alone.
    async fn post_batch(&self, session: &Arc<Session>, headers: &HeaderMap, body: Bytes) -> Response<Body> {
        let items = match Incoming::parse(body, Side::Client, session.revision()) {
            Ok(Incoming::Batch(items)) => items,
            Ok(Incoming::One(_)) => return self.refuse(unreadable("not a batch"), session.caller()).await,
            Err(malformed) => return self.refuse(malformed, session.caller()).await,
        };
        let (whole, given) = mpsc::channel(MAX_WAITING);
        for (sink, item) in sink::batch(Sink::Exchange(whole), items.len()).zip(items) {
            match item {
                Ok(message) => {
                    let (session, headers) = (session.clone(), headers.clone());
                    self.running.spawn(async move { session.hear(message, sink, &headers).await });
                }
                Err(malformed) => sink.refused(&self.enforcer.refuse(malformed, session.caller()).await).await,
            }
        }
        respond(given, Abandonment::by_nobody()).await
    }

    /// Begins a session at every server that the caller may use.
    async fn begin(self: &Arc<Self>, initialize: Message, caller: &Caller) -> Response<Body> {
        self.make_room();
        let (Some(id), true) = (chance::token(), self.lock().len() < MAX_SESSIONS) else {
            let why = "there are too many sessions; close one, or try again later";
            return json(StatusCode::SERVICE_UNAVAILABLE, mcp::reply::error(None, mcp::reply::INTERNAL_ERROR, why, None));
        };
        let session = Session::begin(self, caller.in_session(&id), initialize);
        self.lock().insert(id.clone(), session.clone());
        let answer = session.greet().await;
        let mut response = json(StatusCode::OK, answer);
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(SESSION_HEADER, id);
        }
        response
    }

    fn get(&self, headers: &HeaderMap, caller: &Caller) -> Response<Body> {
        let Some(named) = headers.get(SESSION_HEADER) else { return not_allowed() };
        let Some(session) = self.find(named, caller) else { return empty(StatusCode::NOT_FOUND) };
        let (sink, given) = mpsc::channel(MAX_WAITING);
        session.attach(Sink::Exchange(sink));
        listen(given)
    }

    fn delete(&self, headers: &HeaderMap, caller: &Caller) -> Response<Body> {
        let Some(named) = headers.get(SESSION_HEADER) else { return not_allowed() };
        match self.find(named, caller) {
            Some(session) => {
                session.close();
                self.lock().remove(named.to_str().unwrap_or_default());
                empty(StatusCode::OK)
            }
            None => empty(StatusCode::NOT_FOUND),
        }
    }

    fn find(&self, named: &HeaderValue, caller: &Caller) -> Option<Arc<Session>> {
        let session = self.lock().get(named.to_str().ok()?).filter(|session| session.caller().is_same(caller)).cloned()?;
        if session.is_over() {
            return None;
        }
        session.touch();
        Some(session)
    }

    /// What is kept for a caller of the stateless era.
    fn stateless(self: &Arc<Self>, caller: &Caller) -> Arc<Stateless> {
        let mut stateless = self.stateless.lock().unwrap_or_else(PoisonError::into_inner);
        if stateless.len() >= MAX_SESSIONS && !stateless.contains_key(&caller.owner()) {
            // Whoever comes back learns anew what belongs to whom.
            stateless.retain(|_, kept| Arc::strong_count(kept) > 1);
        }
        let kept = stateless.entry(caller.owner()).or_insert_with(|| Stateless::new(self, caller));
        if kept.caller().edition != caller.edition {
            *kept = Stateless::new(self, caller);
        }
        kept.clone()
    }

    fn members(&self) -> Members {
        self.members.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The servers that a caller may use now.
    fn members_for(&self, caller: &Caller) -> Vec<Arc<Member>> {
        self.members().values().filter(|member| (self.may_use)(caller, &member.name)).cloned().collect()
    }

    /// The server of this name, if the caller may use it now.
    fn member_for(&self, caller: &Caller, name: &str) -> Option<Arc<Member>> {
        self.members().get(name).filter(|_| (self.may_use)(caller, name)).cloned()
    }

    /// The seal of a cursor that `caller` holds: any gateway on the same state knows it again. `None` while the state's key cannot
    /// be read.
    fn seal(&self, caller: &Caller, text: &str) -> Option<String> {
        let session = caller.session.as_deref().unwrap_or_default();
        let parts = ["callgate cursor v1", &caller.owner().text(), session, text];
        let sealed: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
        self.enforcer.store().digest(&sealed)
    }

    /// Denies a call of a tool that no server has, in the words that a hidden one gets.
    async fn deny_unknown(&self, message: Message, caller: &Caller, sink: &Sink, modern: bool) {
        let nobody = Schemas { tools: Arc::default(), ask: Arc::new(|_| Box::pin(async { None })) };
        let id = message.id().cloned();
        match self.enforcer.clone().admit(message, caller, &nobody).await {
            Err(Denied::Malformed(malformed)) => sink.refused(&malformed).await,
            Err(Denied::ByPolicy { decision, id: decision_id, .. }) => {
                let id = id.unwrap_or_else(|| mcp::Id::from(""));
                sink.last(crate::gate::denial(&decision, &decision_id, &id, modern), 200).await;
            }
            // The permit is dropped, and the record says that nothing was sent.
            Ok(_) => sink.last(mcp::reply::error(id.as_ref(), mcp::reply::INVALID_PARAMS, "no such tool", None), 200).await,
        }
    }

    async fn refuse(&self, malformed: mcp::Malformed, caller: &Caller) -> Response<Body> {
        refusal(&self.enforcer.refuse(malformed, caller).await)
    }

    async fn unknown_session(&self, caller: &Caller) -> Response<Body> {
        let malformed = self.enforcer.refuse(unreadable("this session is unknown or over"), caller).await;
        json(StatusCode::NOT_FOUND, malformed.error())
    }

    fn make_room(&self) {
        if self.lock().len() >= MAX_SESSIONS {
            self.sweep();
        }
    }

    fn sweep(&self) {
        self.lock().retain(|_, session| {
            if session.is_idle(IDLE) {
                session.close();
            }
            !session.is_over()
        });
    }

    fn lock_streams(&self) -> MutexGuard<'_, HashMap<String, Arc<Stream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn members_of(servers: impl IntoIterator<Item = (String, Arc<Sessions>)>, known: &BTreeMap<Arc<str>, Arc<Member>>) -> Members {
    let member = |(name, sessions): (String, Arc<Sessions>)| {
        let same = known.get(name.as_str()).filter(|member| Arc::ptr_eq(&member.sessions, &sessions)).cloned();
        let member = same.unwrap_or_else(|| Member::new(&name, sessions));
        (member.name.clone(), member)
    };
    Arc::new(servers.into_iter().map(member).collect())
}

fn not_allowed() -> Response<Body> {
    let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("POST"));
    response
}

/// The revision that is agreed on with a client that asks for this one.
fn agreed(asked: Option<&str>) -> Revision {
    asked.and_then(Revision::parse).filter(|revision| revision.era() == Era::Legacy).unwrap_or(Revision::V2025_11_25)
}
