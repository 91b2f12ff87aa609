//! A streamable HTTP server.
//!
//! A target has one pool of connections. Redirects are never followed: credentials belong to the address they were
//! configured for. Nothing is decompressed: we ask for plain bodies, and refuse others, because an unread body cannot be
//! filtered.

use crate::budget::{REPLIES, Share, Uncollected};
use crate::enforcer::{Caller, Passed, Permit};
use crate::refusal::is_modern;
use crate::tls::{self, TlsError, UpstreamTls, client_config, no_client_config};
use crate::tools::Schemas;
use crate::upstream::outside::Within;
use crate::upstream::pool::{NoResponse, Pool, ReplyBody};
use crate::upstream::reach::Reach;
use crate::upstream::{Bearers, Credentials, Errand, Failure, Inbound, PROOF, RefusedBearer, USE_NONCE, challenges, sse};
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use mcp::sse::{Decoder, Event};
use mcp::{Id, Kind, Message, Revision, Side};
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tracing::{debug, warn};

/// A reply may be as long as this, and so may one event of a stream.
pub(crate) const MAX_REPLY_BYTES: usize = 64 * 1024 * 1024;
/// How long a server is given to take in what it must have heard before the next message.
const HEARING: Duration = Duration::from_secs(5);
/// Before a broken stream is asked for again; 2025-11-25 servers may name another time by `retry`.
const RETRY: Duration = Duration::from_secs(1);
/// How often a stream that brings nothing is asked for again.
const MAX_RETRIES: u32 = 10;

/// Where an HTTP upstream is, and what is sent along.
#[derive(Clone)]
pub struct HttpTarget(Arc<Target>);

#[derive(Clone)]
struct Target {
    uri: Uri,
    /// What of it is asked for at the server.
    path: Uri,
    /// What a request names as `Host`.
    host: HeaderValue,
    /// What it has turned out to speak, whoever has asked.
    transport: Arc<AtomicU8>,
    headers: HeaderMap,
    pool: Pool,
    /// How long the server may be silent while a request waits for its answer.
    patience: Duration,
    /// Whether it answers, for the operator's log.
    reach: Arc<Reach>,
    /// Headers of clients' requests that it gets too, in lower case.
    passed: Arc<[String]>,
    /// Where access tokens come from, where requests need any.
    bearers: Option<Arc<dyn Bearers>>,
    /// In whose name requests are sent.
    caller: Arc<Caller>,
}

/// What is known of the transport of a server.
const UNKNOWN: u8 = 0;
const STREAMABLE: u8 = 1;
const HTTP_SSE: u8 = 2;

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not an `http` or `https` URL with a host. It is not repeated: user information and query may hold secrets, and what
    /// cannot be read as a URL cannot be told apart into harmless parts.
    #[error("the server's address is not an http or https URL with a host, like `https://example.com/mcp`")]
    Url,
    /// A user name or password in the address.
    #[error(
        "the server's address holds a user name or password, which lists of processes and logs would show; leave it out, and send it with `--header \"Authorization: Basic …\"`, or under `headers` in a configuration file"
    )]
    Credentials,
    /// Not a header.
    #[error("a header must have the form `Name: value`")]
    Header,
    /// TLS is configured for an address that has none.
    #[error("certificates are of no use to an `http://` address: nothing is encrypted there; write `https://`")]
    NotEncrypted,
    /// A file of certificates or keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl HttpTarget {
    /// A target at `url`, with headers of the form `Name: value` sent on every request, and given up when it is silent for
    /// longer than `patience` over one.
    ///
    /// # Errors
    /// When the address, a header or a file that `tls` names cannot be used.
    pub fn new(url: &str, headers: &[String], tls: &UpstreamTls, patience: Duration) -> Result<HttpTarget, TargetError> {
        HttpTarget::build(url, headers, tls, patience, Within::Anywhere)
    }

    /// A target that is `within`: it is connected to nowhere else, whatever its name resolves to.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn within(url: &str, tls: &UpstreamTls, patience: Duration, within: Within) -> Result<HttpTarget, TargetError> {
        HttpTarget::build(url, &[], tls, patience, within)
    }

    fn build(
        url: &str,
        headers: &[String],
        tls: &UpstreamTls,
        patience: Duration,
        within: Within,
    ) -> Result<HttpTarget, TargetError> {
        let uri = Uri::from_str(url).map_err(|_| TargetError::Url)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(TargetError::Url);
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(TargetError::Credentials);
        }
        let mut map = HeaderMap::new();
        for header in headers {
            let (name, value) = header.split_once(':').ok_or(TargetError::Header)?;
            let name = HeaderName::from_str(name.trim()).map_err(|_| TargetError::Header)?;
            let mut value = HeaderValue::from_str(value.trim()).map_err(|_| TargetError::Header)?;
            value.set_sensitive(true);
            map.append(name, value);
        }
        let https = uri.scheme_str() == Some("https");
        if !https && !tls.is_default() {
            return Err(TargetError::NotEncrypted);
        }
        let tls = if https { client_config(tls)? } else { no_client_config() };
        Ok(HttpTarget(Arc::new(Target {
            pool: Pool::new(tls, within),
            transport: Arc::default(),
            path: path_of(&uri),
            host: host_of(&uri).ok_or(TargetError::Url)?,
            uri,
            headers: map,
            patience,
            reach: Arc::default(),
            passed: Arc::default(),
            bearers: None,
            caller: Arc::default(),
        })))
    }

    /// The same, with an access token of `bearers` on every request.
    pub(crate) fn authorized(self, bearers: Arc<dyn Bearers>) -> HttpTarget {
        HttpTarget(Arc::new(Target { bearers: Some(bearers), ..Target::clone(&self.0) }))
    }

    /// Whether it makes a difference in whose name it is called.
    pub(crate) fn is_authorized(&self) -> bool {
        self.0.bearers.is_some()
    }

    /// The same, called in the name of `caller`; `None` where that makes no difference, or it is done already.
    pub(crate) fn in_the_name_of(&self, caller: &Caller) -> Option<HttpTarget> {
        (self.is_authorized() && !self.0.caller.is_same(caller)).then(|| {
            let caller = Arc::new(caller.in_general());
            HttpTarget(Arc::new(Target { caller, ..Target::clone(&self.0) }))
        })
    }

    /// Why it cannot be called in the name of `caller`, who has to do something first.
    pub(crate) fn lacking(&self, caller: &Caller) -> Option<Failure> {
        self.0.bearers.as_ref()?.lacking(caller)
    }

    /// The same, called in the name of `caller` where that makes a difference.
    pub(crate) fn of_caller(&self, caller: &Caller) -> HttpTarget {
        self.in_the_name_of(caller).unwrap_or_else(|| self.clone())
    }

    /// The same, to which these headers of clients' requests are sent on; names in lower case.
    pub fn passing(self, names: &[String]) -> HttpTarget {
        HttpTarget(Arc::new(Target { passed: names.into(), ..Target::clone(&self.0) }))
    }

    /// Headers of clients' requests that travel on.
    pub(crate) fn passed(&self) -> &[String] {
        &self.0.passed
    }

    /// How long the server may be silent while a request waits for its answer.
    pub(crate) fn patience(&self) -> Duration {
        self.0.patience
    }

    /// Reads a whole body, up to the limit for replies.
    pub(crate) async fn whole(&self, body: ReplyBody) -> Result<Bytes, Failure> {
        REPLIES.collect(body, MAX_REPLY_BYTES, self.0.patience).await.map_err(|why| {
            Failure::lost(match why {
                Uncollected::TooLong => "the server's answer is too long",
                Uncollected::NoRoom => "the server's answers take too much room all together",
                Uncollected::Broken => "the server's answer was cut off",
                Uncollected::Silent => "the server fell silent in the middle of its answer",
            })
        })
    }

    /// Where it is.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0.uri
    }

    /// Another path of the same origin, with the same credentials.
    pub(crate) fn at(&self, path: PathAndQuery) -> HttpTarget {
        let mut parts = self.0.uri.clone().into_parts();
        parts.path_and_query = Some(path);
        let uri = Uri::from_parts(parts).expect("a URI with another path is a URI");
        HttpTarget(Arc::new(Target { path: path_of(&uri), uri, ..Target::clone(&self.0) }))
    }

    /// Whether the server is known to speak HTTP+SSE (2024-11-05), and not what came after it.
    pub(crate) fn is_old(&self) -> bool {
        self.0.transport.load(Ordering::Relaxed) == HTTP_SSE
    }

    /// Finds out whether the server speaks HTTP+SSE, where something hints at it: its path, or that it has refused an
    /// `initialize`.
    ///
    /// # Errors
    /// When it does, and would have messages posted to another origin.
    pub(crate) async fn turns_out_old(&self, has_refused: bool) -> Result<bool, Failure> {
        let is_unknown = self.0.transport.load(Ordering::Relaxed) == UNKNOWN;
        if !self.is_old() && (has_refused || (is_unknown && self.0.uri.path().ends_with("/sse"))) {
            match self.open_stream().await {
                Err(failure) if failure.status.is_some() => return Err(failure),
                // One that cannot be reached may be anything: it is asked again by whoever comes next.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(self.is_old())
    }

    /// Opens a stream of HTTP+SSE, where the server has one, and remembers whether.
    async fn open_stream(&self) -> Result<Option<sse::Opened>, Failure> {
        let opened = sse::open(self).await;
        if let Ok(opened) = &opened {
            self.0.transport.store(if opened.is_some() { HTTP_SSE } else { STREAMABLE }, Ordering::Relaxed);
        }
        opened
    }

    /// Sends one request. `headers` come before the configured ones, which win.
    ///
    /// # Errors
    /// A failure that says whether the request may have arrived.
    pub(crate) async fn send(&self, method: Method, headers: HeaderMap, body: Bytes) -> Result<Response<ReplyBody>, Failure> {
        match &self.0.bearers {
            None => self.send_once(method, headers, body, None).await,
            // On the heap, because it is rare: else every request had room for it.
            Some(bearers) => Box::pin(self.send_authorized(bearers.as_ref(), method, headers, body)).await,
        }
    }

    /// Sends one request with an access token; where the server does not take that, once more with another one, and where it wants
    /// another proof that the token is ours, once more with that.
    async fn send_authorized(
        &self,
        bearers: &dyn Bearers,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<ReplyBody>, Failure> {
        let caller = &*self.0.caller;
        let errand = Errand { method: &method, uri: &self.0.uri };
        // Whatever it says, it may have done what was asked.
        let spent = |failure| Failure { may_have_run: true, ..failure };
        let mut shown = bearers.bearer(caller, errand, None).await?;
        let (mut response, mut challenge) = self.send_shown(bearers, errand, (&headers, &body), &shown).await?;
        if response.status() == StatusCode::UNAUTHORIZED && shown.proof.is_some() && challenge.contains(USE_NONCE) {
            drop(response);
            shown = bearers.bearer(caller, errand, None).await.map_err(spent)?;
            (response, challenge) = self.send_shown(bearers, errand, (&headers, &body), &shown).await?;
        }
        let status = response.status();
        let lacks_scope = status == StatusCode::FORBIDDEN && challenge.contains("insufficient_scope");
        if status != StatusCode::UNAUTHORIZED && !lacks_scope {
            return Ok(response);
        }
        drop(response);
        let refused = RefusedBearer { bearer: &shown.authorization, status, challenge: &challenge };
        let another = bearers.bearer(caller, errand, Some(refused)).await.map_err(spent)?;
        let (response, _) = self.send_shown(bearers, errand, (&headers, &body), &another).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED => {
                Err(Failure { status: Some(502), ..Failure::lost("the server does not accept the gateway's access token") })
            }
            _ => Ok(response),
        }
    }

    /// Sends one request with what is shown; gives what the server says of that apart, which is meant for us, and not for the
    /// client.
    async fn send_shown(
        &self,
        bearers: &dyn Bearers,
        errand: Errand<'_>,
        (headers, body): (&HeaderMap, &Bytes),
        shown: &Credentials,
    ) -> Result<(Response<ReplyBody>, String), Failure> {
        let mut response = self.send_once(errand.method.clone(), headers.clone(), body.clone(), Some(shown)).await?;
        bearers.hears(errand, response.headers_mut());
        let challenge = challenges(response.headers());
        Ok((response, challenge))
    }

    async fn send_once(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
        shown: Option<&Credentials>,
    ) -> Result<Response<ReplyBody>, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.0.path.clone();
        *request.headers_mut() = headers;
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for name in self.0.headers.keys() {
            request.headers_mut().remove(name);
        }
        for (name, value) in &self.0.headers {
            request.headers_mut().append(name, value.clone());
        }
        if let Some(Credentials { authorization, proof }) = shown {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
            if let Some(proof) = proof {
                request.headers_mut().insert(PROOF, proof.clone());
            }
        }
        request.headers_mut().entry(HOST).or_insert_with(|| self.0.host.clone());
        let answered = tokio::time::timeout(self.0.patience, self.0.pool.send(&self.0.uri, request)).await;
        let response = match answered.map_err(|_| Failure::silent(self.0.patience))? {
            Ok(response) => response,
            Err(error) => {
                let (failure, help) = no_response(&error);
                self.0.reach.fails(self.0.uri.host().unwrap_or_default(), &failure.message, help);
                return Err(failure);
            }
        };
        self.0.reach.answers(self.0.uri.host().unwrap_or_default());
        if response.status().is_informational() {
            return Err(Failure {
                status: Some(502),
                ..Failure::lost("the server would go on in another protocol, which was not asked for")
            });
        }
        if response.status().is_redirection() {
            return Err(Failure {
                status: Some(502),
                ..Failure::lost("the server answered with a redirect, which is not followed")
            });
        }
        let encoding = response.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
        if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
            return Err(Failure {
                status: Some(502),
                ..Failure::lost("the server answered in an encoding that was not asked for")
            });
        }
        Ok(response)
    }
}

impl fmt::Debug for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the query nor the headers: both may hold secrets.
        write!(f, "HttpTarget({}{})", self.0.uri.host().unwrap_or_default(), self.0.uri.path())
    }
}

/// The target of a request as it goes on the wire (RFC 9112 §3.2.1).
fn path_of(uri: &Uri) -> Uri {
    let path = uri.path_and_query().filter(|path| path.as_str() != "/");
    path.map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()))
}

/// The `Host` of a request: without the port that the scheme has anyway (RFC 9110 §4.2.3).
fn host_of(uri: &Uri) -> Option<HeaderValue> {
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let host = uri.host()?;
    match uri.port_u16().filter(|port| *port != usual) {
        Some(port) => HeaderValue::from_str(&format!("{host}:{port}")).ok(),
        None => HeaderValue::from_str(host).ok(),
    }
}

/// Why a request got no response: for the client in a word, for the log with how to mend it.
fn no_response(error: &NoResponse) -> (Failure, Option<&'static str>) {
    let (cause, otherwise): (&(dyn Error + 'static), _) = match error {
        NoResponse::Unreached(cause) => (&**cause, "the server cannot be reached"),
        NoResponse::Broken(cause) => (cause, "the connection to the server broke before it answered"),
    };
    debug!(error = %cause, cause = ?cause.source(), "an upstream request failed");
    let (message, help) = match tls::complaint(cause) {
        Some((what, help)) => (what, Some(help)),
        None => (otherwise.to_owned(), None),
    };
    let failure = match error {
        NoResponse::Unreached(_) => Failure::unsent(message),
        NoResponse::Broken(_) => Failure::lost(message),
    };
    (failure, help)
}

/// What kind of body a response has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyKind {
    Json,
    Events,
    Other,
}

/// Reads the kind off the content type.
pub(crate) fn body_kind(headers: &HeaderMap) -> BodyKind {
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => BodyKind::Json,
        "text/event-stream" => BodyKind::Events,
        _ => BodyKind::Other,
    }
}

/// The events of a body, in order.
pub(crate) struct Events {
    body: ReplyBody,
    decoder: Decoder,
    /// What is kept of an event that has not ended.
    share: Share,
}

impl Events {
    pub fn of(body: ReplyBody) -> Events {
        Events { body, decoder: Decoder::new(MAX_REPLY_BYTES), share: Share::of(&REPLIES) }
    }

    /// The next event, as [`Events::next`]; a failure when there is none within `patience`.
    pub async fn next_within(&mut self, patience: Option<Duration>) -> Result<Option<Event>, Failure> {
        match patience {
            None => Ok(self.next().await),
            Some(patience) => tokio::time::timeout(patience, self.next()).await.map_err(|_| Failure::silent(patience)),
        }
    }

    /// The next event; `None` when the stream has ended, broke, or holds an event that is too long.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.decoder.next_event() {
                Some(Ok(event)) => return Some(event),
                Some(Err(error)) => {
                    warn!(%error, "dropped the rest of an event stream");
                    return None;
                }
                None => {}
            }
            if let Ok(data) = self.body.frame().await?.ok()?.into_data() {
                self.decoder.push(&data);
                if self.share.cover(self.decoder.buffered()).is_err() {
                    warn!("dropped the rest of an event stream: the server's answers take too much room all together");
                    return None;
                }
            }
        }
    }
}

/// The reply to `id` in a stream of events.
pub(crate) async fn reply_among_events(body: ReplyBody, id: &Id, patience: Duration) -> Option<Message> {
    let mut events = Events::of(body);
    while let Some(event) = events.next_within(Some(patience)).await.ok()? {
        let reply = event.message().and_then(|text| Message::parse(text.clone(), Side::Server).ok());
        if let Some(reply) = reply.filter(|reply| reply.id() == Some(id)) {
            return Some(reply);
        }
    }
    None
}

/// What a session with an HTTP upstream has agreed on.
#[derive(Clone, Debug, Default)]
struct Agreed {
    session: Option<HeaderValue>,
    revision: Option<Revision>,
}

/// The client's side of a conversation over HTTP: each message is a request of its own.
pub(crate) struct HttpLink {
    line: Arc<Line>,
    open: HashMap<Id, AbortHandle>,
    /// Ends when what the server must have heard before anything else has been answered.
    heard: Option<watch::Receiver<()>>,
}

struct Line {
    target: HttpTarget,
    inbound: mpsc::Sender<Inbound>,
    schemas: Schemas,
    agreed: Mutex<Agreed>,
    /// Where to post, with a server of 2024-11-05: what it answers comes on the one stream.
    posts: OnceLock<HttpTarget>,
    closed: Notify,
}

impl HttpLink {
    /// A line to `target`; what comes back arrives in `inbound`. `schemas` says which arguments headers must repeat.
    pub fn start(target: HttpTarget, inbound: mpsc::Sender<Inbound>, schemas: Schemas) -> HttpLink {
        let line = Line { target, inbound, schemas, agreed: Mutex::default(), posts: OnceLock::new(), closed: Notify::new() };
        HttpLink { line: Arc::new(line), open: HashMap::new(), heard: None }
    }

    /// How long the server may be silent over one request, where its answer does not come on a stream of its own.
    pub fn patience(&self) -> Option<Duration> {
        self.line.posts.get().map(HttpTarget::patience)
    }

    /// Starts the exchange for a permitted message. Failures arrive as [`Inbound::Failed`].
    pub fn send(&mut self, permit: &Permit) {
        self.open.retain(|_, exchange| !exchange.is_finished());
        let line = self.line.clone();
        let message = permit.message().clone();
        let body = permit.text().clone();
        let (id, passed) = (permit.wire_id().cloned(), permit.passed().clone());
        let asked = id.clone();
        let before = self.heard.clone();
        let heard = matches!(message.method(), Some("notifications/initialized" | "logging/setLevel")).then(|| {
            let (heard, after) = watch::channel(());
            self.heard = Some(after);
            heard
        });
        let exchange = tokio::spawn(async move {
            // Exchanges overtake one another. A server may refuse what comes before it knows that the handshake is over.
            if let Some(mut before) = before {
                let _ = tokio::time::timeout(HEARING, before.changed()).await;
            }
            line.exchange(&message, body, asked, passed).await;
            drop(heard);
        });
        if let Some(id) = id {
            self.open.insert(id, exchange.abort_handle());
        }
    }

    /// Closes the exchange of a request. In the stateless era that is the cancellation.
    pub fn abandon(&mut self, id: &Id) -> bool {
        let exchange = self.open.remove(id);
        if let Some(exchange) = &exchange {
            exchange.abort();
        }
        exchange.is_some()
    }

    /// Ends the session, where there is one.
    pub async fn shut_down(self) {
        for exchange in self.open.values() {
            exchange.abort();
        }
        self.line.closed.notify_waiters();
        let headers = self.line.headers(None, &None).await;
        if self.line.agreed().session.is_some() {
            let goodbye = self.line.target.send(Method::DELETE, headers, Bytes::new());
            // A server may refuse (405), or not answer: the session is over for us either way.
            let _ = tokio::time::timeout(Duration::from_secs(2), goodbye).await;
        }
    }
}

impl Line {
    fn agreed(&self) -> Agreed {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn headers(&self, message: Option<&Message>, passed: &Passed) -> HeaderMap {
        // What the protocol says comes after them, and wins.
        let mut headers = passed.as_deref().cloned().unwrap_or_default();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let agreed = self.agreed();
        if let Some(message) = message.filter(|message| is_modern(message)) {
            let facts = self.schemas.of_call(message).await;
            let mirrored = facts.as_deref().and_then(|facts| facts.mirrored()?.as_ref().ok());
            let revision =
                message.protocol_version().and_then(|version| Revision::parse(&version)).unwrap_or(Revision::V2026_07_28);
            headers.extend(mcp::headers::for_request(message, revision, mirrored));
            return headers;
        }
        if let Some(session) = agreed.session {
            headers.insert(mcp::headers::SESSION_ID, session);
        }
        if let Some(revision) = agreed.revision.filter(|revision| revision.has_version_header()) {
            headers.insert(mcp::headers::PROTOCOL_VERSION, HeaderValue::from_static(revision.as_str()));
        }
        headers
    }

    async fn exchange(self: Arc<Line>, message: &Message, body: Bytes, id: Option<Id>, passed: Passed) {
        let result = self.clone().try_exchange(message, body, id.as_ref(), &passed).await;
        if let (Err(failure), Some(id)) = (result, id) {
            let _ = self.inbound.send(Inbound::Failed { id, failure }).await;
        }
    }

    async fn try_exchange(
        self: Arc<Line>,
        message: &Message,
        body: Bytes,
        id: Option<&Id>,
        passed: &Passed,
    ) -> Result<(), Failure> {
        let begins = message.method() == Some("initialize");
        if begins && self.target.turns_out_old(false).await? {
            self.clone().open_stream().await?;
        }
        if let Some(posts) = self.posts.get() {
            return self.post(posts, message, body, passed).await;
        }
        let response = self.target.send(Method::POST, self.headers(Some(message), passed).await, body.clone()).await?;
        let status = response.status();
        if begins && sse::may_be_old(status) && self.clone().open_stream().await? {
            let posts = self.posts.get().expect("an open stream says where to post");
            return self.post(posts, message, body, passed).await;
        }
        if message.method() == Some("initialize") && status.is_success() {
            let session = response.headers().get("mcp-session-id").cloned();
            *self.agreed.lock().unwrap_or_else(PoisonError::into_inner) = Agreed { session, revision: None };
        }
        let unanswered = |status: StatusCode| Failure {
            status: Some(status.as_u16()),
            ..Failure::lost(format!("the server answered HTTP {} without a message", status.as_u16()))
        };
        match body_kind(response.headers()) {
            BodyKind::Events if status.is_success() => {
                let listens = message.method() == Some("subscriptions/listen");
                self.clone().follow(response.into_body(), id, !is_modern(message), listens).await?;
            }
            BodyKind::Json => {
                let text = self.target.whole(response.into_body()).await?;
                // Error bodies of HTTP servers need not carry the request's id.
                match Message::parse(text, Side::Server) {
                    Ok(reply) if id.is_none() || reply.id() == id => self.deliver(reply).await,
                    Ok(reply) if reply.error().is_some() && reply.id().is_none() => {
                        let error = reply.error().map(|error| error.raw().to_owned()).unwrap_or_default();
                        let Some(id) = id else { return Ok(()) };
                        let text = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.text());
                        match Message::parse(text, Side::Server) {
                            Ok(reply) => self.deliver(reply).await,
                            Err(_) => return Err(unanswered(status)),
                        }
                    }
                    _ => return Err(unanswered(status)),
                }
            }
            _ if id.is_some() || !status.is_success() => return Err(unanswered(status)),
            _ => {}
        }
        if message.method() == Some("notifications/initialized") {
            tokio::spawn(self.listen());
        }
        Ok(())
    }

    /// Opens the one stream of a server of 2024-11-05, and reads it for as long as it lasts; says whether it has one.
    async fn open_stream(self: Arc<Line>) -> Result<bool, Failure> {
        if self.posts.get().is_some() {
            return Ok(true);
        }
        let Some(sse::Opened { mut events, endpoint }) = self.target.open_stream().await? else { return Ok(false) };
        if self.posts.set(endpoint).is_err() {
            return Ok(true);
        }
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = self.closed.notified() => return,
                    () = self.inbound.closed() => return,
                };
                let Some(event) = event else { break };
                self.event(&event, None).await;
            }
            warn!("the server has closed its stream");
            let _ = self.inbound.send(Inbound::Closed).await;
        });
        Ok(true)
    }

    /// Posts to a server of 2024-11-05. What it answers comes on the stream.
    async fn post(&self, posts: &HttpTarget, message: &Message, body: Bytes, passed: &Passed) -> Result<(), Failure> {
        let response = posts.send(Method::POST, self.headers(Some(message), passed).await, body).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let refused = format!("the server answered HTTP {} to what was posted", status.as_u16());
        Err(Failure { status: Some(status.as_u16()), ..Failure::lost(refused) })
    }

    /// Reads a stream of events until the reply to `id` has come; where streams can be resumed, and the server closes early,
    /// it is asked for the rest.
    async fn follow(self: Arc<Line>, body: ReplyBody, id: Option<&Id>, resumable: bool, listens: bool) -> Result<(), Failure> {
        let mut answered = false;
        let mut last_event = None;
        let mut retry = RETRY;
        let mut body = Some(body);
        let patience = (!listens).then(|| self.target.patience());
        for _ in 0..=MAX_RETRIES {
            if let Some(mut events) = body.take().map(Events::of) {
                while let Some(event) = events.next_within(patience).await? {
                    retry = event.retry.map_or(retry, Duration::from_millis);
                    last_event = event.id.clone().or(last_event);
                    answered |= self.event(&event, id).await;
                }
            }
            let Some(resume) = last_event.as_deref().filter(|_| resumable && !answered && id.is_some()) else { break };
            tokio::time::sleep(retry).await;
            let mut headers = self.headers(None, &None).await;
            headers.remove(CONTENT_TYPE);
            headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
            if let Ok(value) = HeaderValue::from_str(resume) {
                headers.insert("last-event-id", value);
            }
            let resumed = self.target.send(Method::GET, headers, Bytes::new()).await;
            body = resumed.ok().filter(|response| body_kind(response.headers()) == BodyKind::Events).map(Response::into_body);
        }
        if answered || id.is_none() { Ok(()) } else { Err(Failure::lost("the server's stream ended before it answered")) }
    }

    /// Takes one event in; true when it was the reply to `id`.
    async fn event(&self, event: &Event, id: Option<&Id>) -> bool {
        let Some(text) = event.message() else { return false };
        match Inbound::read(text.clone()) {
            Some(Inbound::Message(message)) => {
                let answered = matches!(message.kind(), Kind::Response { .. }) && message.id() == id;
                self.deliver(message).await;
                answered
            }
            Some(failed) => {
                let answered = matches!(&failed, Inbound::Failed { id: failed, .. } if Some(failed) == id);
                let _ = self.inbound.send(failed).await;
                answered
            }
            None => false,
        }
    }

    async fn deliver(&self, message: Message) {
        let version = message.result().and_then(|result| result.get("protocolVersion")).and_then(|version| version.as_str());
        if let Some(version) = version {
            let mut agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner);
            agreed.revision = agreed.revision.or(Revision::parse(&version));
        }
        let _ = self.inbound.send(Inbound::Message(message)).await;
    }

    /// Listens to what the server says by itself, for as long as it lets us.
    async fn listen(self: Arc<Line>) {
        let mut last_event: Option<String> = None;
        let mut retry = RETRY;
        let mut failures = 0;
        while failures < MAX_RETRIES {
            let mut headers = self.headers(None, &None).await;
            headers.remove(CONTENT_TYPE);
            headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
            if let Some(value) = last_event.as_deref().and_then(|id| HeaderValue::from_str(id).ok()) {
                headers.insert("last-event-id", value);
            }
            let answered = tokio::select! {
                answered = self.target.send(Method::GET, headers, Bytes::new()) => answered,
                () = self.closed.notified() => return,
                () = self.inbound.closed() => return,
            };
            match answered {
                Ok(response) if response.status().is_success() && body_kind(response.headers()) == BodyKind::Events => {
                    failures = 0;
                    let mut events = Events::of(response.into_body());
                    loop {
                        let event = tokio::select! {
                            event = events.next() => event,
                            () = self.closed.notified() => return,
                            () = self.inbound.closed() => return,
                        };
                        let Some(event) = event else { break };
                        retry = event.retry.map_or(retry, Duration::from_millis);
                        last_event = event.id.clone().or(last_event);
                        self.event(&event, None).await;
                    }
                }
                // 405: the server has nothing to say by itself; 404: the session is over.
                Ok(response) if response.status().is_client_error() => return,
                _ => failures += 1,
            }
            tokio::time::sleep(retry).await;
        }
    }
}
