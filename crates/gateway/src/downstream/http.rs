//! The HTTP listener before one upstream.

use crate::conversation::Command;
use crate::downstream::door::{Door, Endpoint, TurnedAway, read_body};
use crate::downstream::proxy::Proxy;
use crate::downstream::sessions::Sessions;
use crate::downstream::stdio::MAX_REQUEST_BYTES;
use crate::enforcer::{Caller, Enforcer};
use crate::refusal::unreadable;
use crate::sink::Down;
use crate::upstream::Upstream;
use crate::upstream::sse::may_be_old;
use bytes::Bytes;
use futures_util::stream;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use mcp::{Era, Malformed, sse};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// Connections beyond this wait to be accepted.
const MAX_CONNECTIONS: usize = 16_384;
/// How long a client may take over the head of a request, and leave a connection idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// How long open exchanges get when we are told to stop.
const DRAIN: Duration = Duration::from_secs(5);

struct Server {
    door: Door,
    enforcer: Arc<Enforcer>,
    sessions: Arc<Sessions>,
    /// Where the server speaks streamable HTTP itself: its sessions are its own.
    proxy: Option<Arc<Proxy>>,
}

/// Serves `upstream` at `/mcp` until `stop` is cancelled, then drains for at most five seconds.
///
/// `names` are host names by which we may be called besides the address itself. `reloaded` is told when another policy is in
/// force.
///
/// # Errors
/// When the listener's own address cannot be read.
pub async fn serve(
    listener: TcpListener,
    enforcer: Arc<Enforcer>,
    upstream: Upstream,
    names: &[String],
    reloaded: watch::Receiver<u64>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let door = Door::new(listener.local_addr()?, names);
    let proxy = match &upstream {
        Upstream::Http(target) => Some(Proxy::new(enforcer.clone(), target.clone(), reloaded.clone())),
        _ => None,
    };
    let sessions = Sessions::new(enforcer.clone(), upstream, reloaded, stop.child_token());
    let server = Arc::new(Server { door, enforcer, sessions, proxy });
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepting = async { (places.clone().acquire_owned().await, listener.accept().await) };
        let (place, accepted) = tokio::select! {
            accepted = accepting => accepted,
            () = stop.cancelled() => break,
        };
        let (socket, _) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: it passes.
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = socket.set_nodelay(true);
        let server = server.clone();
        let service = service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.handle(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_headers(100)
            .serve_connection(TokioIo::new(socket), service);
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    server.sessions.shut_down().await;
    if let Some(proxy) = &server.proxy {
        proxy.shut_down().await;
    }
    server.enforcer.settled().await;
    Ok(())
}

impl Server {
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        // The one caller there is; who it is will be read off the request, here and nowhere else.
        let caller = Caller::local(None);
        let endpoint = match self.door.check(&request) {
            Ok(endpoint) => endpoint,
            Err(away) => return self.turn_away(&away, &caller).await,
        };
        let request = if request.method() == Method::POST {
            let (head, body) = request.into_parts();
            match read_body(body, MAX_REQUEST_BYTES).await {
                Ok(body) => Request::from_parts(head, body),
                Err(away) => return self.turn_away(&away, &caller).await,
            }
        } else {
            request.map(|_| Bytes::new())
        };
        match (endpoint, &self.proxy) {
            (Endpoint::Mcp, Some(proxy)) => self.fork(request, proxy, &caller).await,
            (Endpoint::Mcp, None) => self.sessions.handle(request, &caller).await,
            (Endpoint::Stream, _) => self.sessions.open_stream(&caller).await,
            (Endpoint::Messages, _) => {
                let (head, body) = request.into_parts();
                self.sessions.post_to_stream(&head.uri, body, &caller).await
            }
        }
    }

    /// Before an HTTP server: passes exchanges on as they are, but is the server of the HTTP binding where the server knows no
    /// more than HTTP+SSE.
    async fn fork(&self, request: Request<Bytes>, proxy: &Arc<Proxy>, caller: &Caller) -> Response<Body> {
        // A client of the stateless era tells the server's era by what it answers to the post, whatever transport it speaks.
        if mcp::headers::declared(request.headers()).is_ok_and(|revision| revision.era() == Era::Modern) {
            return proxy.clone().handle(request, caller).await;
        }
        let may_begin = request.method() == Method::POST && !request.headers().contains_key(mcp::headers::SESSION_ID);
        if proxy.target().is_old() || (may_begin && proxy.target().turns_out_old(false).await) {
            return self.sessions.handle(request, caller).await;
        }
        let begins = may_begin && names_initialize(request.body());
        let again = begins.then(|| request.clone());
        let response = proxy.clone().handle(request, caller).await;
        match again {
            Some(again) if may_be_old(response.status()) && proxy.target().turns_out_old(true).await => {
                self.sessions.handle(again, caller).await
            }
            _ => response,
        }
    }

    async fn turn_away(&self, away: &TurnedAway, caller: &Caller) -> Response<Body> {
        let malformed = self.enforcer.refuse(Malformed { code: away.code, ..unreadable(away.why) }, caller).await;
        let mut response = json(away.status, malformed.error());
        if let Some(allow) = away.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// Whether a body may be an `initialize`: what it is, whoever takes it finds out.
fn names_initialize(body: &Bytes) -> bool {
    const NAME: &[u8] = b"initialize";
    body.windows(NAME.len()).any(|window| window == NAME)
}

/// A response with a JSON body.
pub(crate) fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A response without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    *response.status_mut() = status;
    response
}

/// A response that is a stream of events, each already in its form on the wire.
pub(crate) fn event_stream(events: impl futures_util::Stream<Item = Bytes> + Send + Sync + 'static) -> Response<Body> {
    use futures_util::StreamExt;
    let frames = events.map(|event| Ok(Frame::data(event)));
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // A proxy before us must not hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// What tells the conversation that a client has gone, unless it was answered first.
pub(crate) struct Abandonment {
    pub commands: mpsc::Sender<Command>,
    /// 0 for exchanges that are not given up by closing: in the legacy era a client may come back for the answer.
    pub exchange: u64,
}

impl Drop for Abandonment {
    fn drop(&mut self) {
        if self.exchange != 0 {
            let _ = self.commands.try_send(Command::Abandon { exchange: self.exchange });
        }
    }
}

/// Turns what an exchange is given into a response: JSON if the answer comes first, else a stream that ends with it.
pub(crate) async fn respond(mut given: mpsc::Receiver<Down>, mut abandonment: Abandonment) -> Response<Body> {
    let first = match given.recv().await {
        Some(Down::Last { body, status }) => {
            abandonment.exchange = 0;
            return json(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), body);
        }
        Some(Down::Accepted) => {
            abandonment.exchange = 0;
            return empty(StatusCode::ACCEPTED);
        }
        Some(Down::Event(first)) => first,
        None => {
            let body = mcp::reply::error(None, mcp::reply::INTERNAL_ERROR, "the server has ended", None);
            return json(StatusCode::BAD_GATEWAY, body);
        }
    };
    event_stream(stream::unfold(Some((Some(first), given, abandonment)), |state| async {
        let (first, mut given, mut abandonment) = state?;
        if let Some(first) = first {
            return Some((sse::encode(&first, None, None), Some((None, given, abandonment))));
        }
        match given.recv().await? {
            Down::Event(event) => Some((sse::encode(&event, None, None), Some((None, given, abandonment)))),
            Down::Last { body, .. } => {
                abandonment.exchange = 0;
                Some((sse::encode(&body, None, None), None))
            }
            Down::Accepted => None,
        }
    }))
}

/// A stream of what a listening client is given, for as long as it listens.
pub(crate) fn listen(given: mpsc::Receiver<Down>) -> Response<Body> {
    // A comment first: the head goes out at once, and the client knows that it is heard.
    let greeting = stream::once(async { Bytes::from_static(b": listening\n\n") });
    let events = stream::unfold(given, |mut given| async {
        loop {
            match given.recv().await? {
                Down::Event(event) | Down::Last { body: event, .. } => return Some((sse::encode(&event, None, None), given)),
                Down::Accepted => {}
            }
        }
    });
    use futures_util::StreamExt;
    event_stream(greeting.chain(events))
}
