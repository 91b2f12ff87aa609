//! The HTTP listener before one upstream.

use crate::conversation::Command;
use crate::downstream::crossing::Crossing;
use crate::downstream::door::{Door, Endpoint, TurnedAway, read_body};
use crate::downstream::listener::Listener;
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
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use mcp::{Era, Malformed, sse};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// How long open exchanges get when we are told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long what remains then gets to be told so.
const LAST_WORDS: Duration = Duration::from_millis(500);

struct Server {
    door: Door,
    enforcer: Arc<Enforcer>,
    sessions: Arc<Sessions>,
    /// Where the server speaks streamable HTTP itself: its sessions are its own.
    proxy: Option<Arc<Proxy>>,
    stop: CancellationToken,
    /// Where it may not speak the client's era: which way a request goes.
    crossing: Option<Crossing>,
}

/// Serves `upstream` at `/mcp` until `stop` is cancelled, then drains for at most five seconds.
///
/// `names` are host names by which we may be called besides the address itself. `reloaded` is told when another policy is in
/// force.
///
/// # Errors
/// When the listener's own address cannot be read.
pub async fn serve(
    listener: Listener,
    enforcer: Arc<Enforcer>,
    upstream: Upstream,
    names: &[String],
    reloaded: watch::Receiver<u64>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let door = Door::new(listener.address()?, listener.scheme(), names);
    // Each stream of a client's may be one to the server.
    let descriptors = if upstream.is_http() { 2 } else { 1 };
    let endpoint = upstream.endpoint();
    let proxy = endpoint.map(|(target, _)| Proxy::new(enforcer.clone(), target.clone(), reloaded.clone()));
    let crossing = endpoint.and_then(|(target, eras)| Some(Crossing::new(target, eras?)));
    // What is under way when we are told to stop goes on until it is drained: the lines do not hear of `stop`.
    let sessions = Sessions::new(enforcer.clone(), upstream, reloaded, CancellationToken::new());
    let server = Arc::new(Server { door, enforcer, sessions, proxy, crossing, stop: stop.clone() });
    let answering = server.clone();
    let handle = move |request| {
        let server = answering.clone();
        async move { server.handle(request).await }
    };
    // The listener is gone after this: whoever comes now is refused.
    let graceful = listener.accept(handle, descriptors, &stop).await;
    let mut drained = std::pin::pin!(graceful.shutdown());
    let is_drained = tokio::time::timeout(DRAIN, &mut drained).await.is_ok();
    server.sessions.shut_down().await;
    if let Some(proxy) = &server.proxy {
        proxy.shut_down().await;
    }
    if !is_drained {
        let _ = tokio::time::timeout(LAST_WORDS, drained).await;
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
        let listens = endpoint == Endpoint::Mcp && only_listens(&request);
        let response = match (endpoint, &self.proxy) {
            (Endpoint::Mcp, Some(_)) if self.crosses(&request).await => self.sessions.handle(request, &caller).await,
            (Endpoint::Mcp, Some(proxy)) => self.fork(request, proxy, &caller).await,
            (Endpoint::Mcp, None) => self.sessions.handle(request, &caller).await,
            (Endpoint::Stream, _) => self.sessions.open_stream(&caller).await,
            (Endpoint::Messages, _) => {
                let (head, body) = request.into_parts();
                self.sessions.post_to_stream(&head.uri, body, &caller).await
            }
        };
        if listens { until(response, self.stop.clone()) } else { response }
    }

    /// Whether the server speaks another era than the client that sends this.
    async fn crosses(&self, request: &Request<Bytes>) -> bool {
        match &self.crossing {
            Some(crossing) => crossing.is_needed(request, &self.sessions).await,
            None => false,
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
pub(crate) fn names_initialize(body: &Bytes) -> bool {
    const NAME: &[u8] = b"initialize";
    body.windows(NAME.len()).any(|window| window == NAME)
}

/// Whether nothing is under way on the stream that answers a request: when we stop, it need not be waited for.
fn only_listens(request: &Request<Bytes>) -> bool {
    // The header has been held against the body where it decides anything.
    let method = request.headers().get("mcp-method");
    request.method() == Method::GET || method.is_some_and(|method| method == "subscriptions/listen")
}

/// Ends the body of a response when `stop` is cancelled.
fn until(response: Response<Body>, stop: CancellationToken) -> Response<Body> {
    use futures_util::StreamExt;
    response.map(|body| BodyExt::boxed(StreamBody::new(BodyStream::new(body).take_until(stop.cancelled_owned()))))
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
