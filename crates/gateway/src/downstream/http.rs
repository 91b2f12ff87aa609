//! The HTTP listener before one upstream.

use crate::conversation::Command;
use crate::downstream::door::{Door, Endpoint, TurnedAway, read_body};
use crate::downstream::listener::Listener;
use crate::downstream::server::Server;
use crate::downstream::stdio::MAX_REQUEST_BYTES;
use crate::enforcer::{Caller, Enforcer};
use crate::refusal::{is_modern, unreadable};
use crate::sink::Down;
use crate::upstream::Upstream;
use crate::upstream::http::{BodyKind, body_kind};
use bytes::Bytes;
use futures_util::stream;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::server::graceful::GracefulShutdown;
use mcp::{Malformed, Message, Side, sse};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// How long open exchanges get when we are told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long what remains then gets to be told so.
const LAST_WORDS: Duration = Duration::from_millis(500);

struct Sole {
    door: Door,
    server: Server,
    /// The one caller there is.
    caller: Caller,
    stop: CancellationToken,
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
    let server = Server::new(enforcer, upstream, Endpoint::Messages.path(), reloaded);
    let sole = Arc::new(Sole { door, server, caller: Caller::local(None), stop: stop.clone() });
    let answering = sole.clone();
    let handle = move |request| {
        let sole = answering.clone();
        async move { sole.handle(request).await }
    };
    let graceful = listener.accept(handle, descriptors, &stop).await;
    sole.server.finish();
    drain(graceful, sole.server.shut_down()).await;
    Ok(())
}

/// Lets what is open end by itself for a while, then ends it by `shut_down`.
pub(crate) async fn drain(graceful: GracefulShutdown, shut_down: impl Future<Output = ()>) {
    // The listener is gone: whoever comes now is refused.
    let mut drained = std::pin::pin!(graceful.shutdown());
    let is_drained = tokio::time::timeout(DRAIN, &mut drained).await.is_ok();
    if !is_drained {
        warn!("what is still under way is cut off");
    }
    shut_down.await;
    if !is_drained {
        let _ = tokio::time::timeout(LAST_WORDS, drained).await;
    }
}

impl Sole {
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let caller = &self.caller;
        let admitted = match self.door.check(&request) {
            Ok(place) => read_request(request).await.map(|request| (place.endpoint, request)),
            Err(away) => Err(away),
        };
        match admitted {
            Ok((endpoint, request)) => {
                let listening = Listening::of(&request).filter(|_| endpoint == Endpoint::Mcp);
                let response = self.server.handle(endpoint, request, caller).await;
                match listening {
                    Some(listening) => listening.until(self.stop.clone().cancelled_owned(), response),
                    None => response,
                }
            }
            Err(away) => turn_away(away, &self.server.enforcer, caller).await,
        }
    }
}

/// Reads the body of a request whose head has passed the door; only a POST has one.
pub(crate) async fn read_request(request: Request<Incoming>) -> Result<Request<Bytes>, TurnedAway> {
    if request.method() != Method::POST {
        return Ok(request.map(|_| Bytes::new()));
    }
    let (head, body) = request.into_parts();
    Ok(Request::from_parts(head, read_body(body, MAX_REQUEST_BYTES).await?))
}

/// Records that a request was turned away, and answers it.
pub(crate) async fn turn_away(away: TurnedAway, enforcer: &Enforcer, caller: &Caller) -> Response<Body> {
    let malformed = enforcer.refuse(Malformed { code: away.code, ..unreadable(&away.why) }, caller).await;
    turned_away(&away, malformed.error())
}

/// The answer to a request that is turned away.
pub(crate) fn turned_away(away: &TurnedAway, body: Bytes) -> Response<Body> {
    let mut response = json(away.status, body);
    if let Some(allow) = away.allow {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

/// Whether a body may be an `initialize`: what it is, whoever takes it finds out.
pub(crate) fn names_initialize(body: &Bytes) -> bool {
    memchr::memmem::find(body, b"initialize").is_some()
}

/// A request that is answered by a stream on which nothing is under way: when we stop, it need not be waited for.
pub(crate) struct Listening {
    /// What is said last where we end the stream, as an event: in the stateless era a request is answered.
    last: Option<Bytes>,
}

impl Listening {
    /// `None` for a request on whose stream something may be under way.
    pub fn of(request: &Request<Bytes>) -> Option<Listening> {
        const METHOD: &str = "subscriptions/listen";
        if request.method() == Method::GET {
            return Some(Listening { last: None });
        }
        // The header has been held against the body where it decides anything; where it does not, nothing is answered by it.
        request.headers().get("mcp-method").filter(|method| *method == METHOD)?;
        let asked = Message::parse(request.body().clone(), Side::Client).ok().filter(|asked| asked.method() == Some(METHOD));
        let last = asked.filter(is_modern).and_then(|asked| Some(sse::encode(&mcp::reply::listened(asked.id()?), None, None)));
        Some(Listening { last })
    }

    /// Ends the stream in good order when `stop` is ready, unless it has ended before.
    pub fn until(self, stop: impl Future<Output = ()> + Send + Sync + 'static, response: Response<Body>) -> Response<Body> {
        let is_stream = body_kind(response.headers()) == BodyKind::Events;
        until(response, stop, self.last.filter(|_| is_stream))
    }
}

/// Ends the body of a response when `stop` is ready, with `last` as the last of it.
pub(crate) fn until(
    response: Response<Body>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
    last: Option<Bytes>,
) -> Response<Body> {
    use futures_util::StreamExt;
    response.map(|body| {
        let state = Some((BodyStream::new(body), Box::pin(stop), last));
        let frames = stream::unfold(state, |state| async {
            let (mut frames, mut stop, last) = state?;
            tokio::select! {
                biased;
                () = &mut stop => last.map(|last| (Ok(Frame::data(last)), None)),
                frame = frames.next() => frame.map(|frame| (frame, Some((frames, stop, last)))),
            }
        });
        BodyExt::boxed(StreamBody::new(frames))
    })
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

impl Abandonment {
    /// Of an exchange that is not given up by closing, and whose conversation need not know.
    pub fn by_nobody() -> Abandonment {
        Abandonment { commands: mpsc::channel(1).0, exchange: 0 }
    }
}

impl Drop for Abandonment {
    fn drop(&mut self) {
        if self.exchange != 0 {
            let _ = self.commands.try_send(Command::Abandon { exchange: self.exchange });
        }
    }
}

/// Turns what an exchange is given into a response: JSON if the answer comes first, else a stream that ends with it.
pub(crate) async fn respond(mut given: mpsc::Receiver<Down>, abandonment: Abandonment) -> Response<Body> {
    let first = given.recv().await;
    respond_from(first, given, abandonment)
}

/// The same, where the first has been taken already.
pub(crate) fn respond_from(first: Option<Down>, given: mpsc::Receiver<Down>, mut abandonment: Abandonment) -> Response<Body> {
    let first = match first {
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
    let events = stream::unfold(given, |mut given| async {
        loop {
            match given.recv().await? {
                Down::Event(event) | Down::Last { body: event, .. } => return Some((sse::encode(&event, None, None), given)),
                Down::Accepted => {}
            }
        }
    });
    use futures_util::StreamExt;
    event_stream(listening().chain(events))
}

/// A comment, which comes first: the head goes out at once, and the client knows that it is heard.
pub(crate) fn listening() -> impl futures_util::Stream<Item = Bytes> + Send + Sync + 'static {
    stream::once(async { Bytes::from_static(b": listening\n\n") })
}
