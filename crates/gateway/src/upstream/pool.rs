//! Connections to one HTTP server, kept from one request to the next.
//!
//! A connection has no task of its own: whoever has a request on it carries it on, and then whoever reads the response. So
//! nothing is handed from task to task, and what is given up closes its connection, which is the only way that HTTP/1.1 has of
//! giving up a request. One that nobody uses is looked at when it is taken again; or it is closed, when its time is over.

use crate::upstream::outside::{Resolver, Within};
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower_service::Service;

/// A connection that nothing went over for so long is not used again. The servers of Node and of Python (uvicorn) close theirs
/// after five seconds, and a request that meets the closing may have been read or not: nobody could send it once more.
const IDLE: Duration = Duration::from_secs(4);

/// Connections to the server of one origin. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    connector: HttpsConnector<HttpConnector<Resolver>>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// With since when. The one that was used last is the last.
    wires: Vec<(Wire, Instant)>,
    /// Whether somebody closes those whose time is over.
    is_swept: bool,
}

/// One connection.
struct Wire {
    requests: SendRequest<Full<Bytes>>,
    /// `None` once it is over. On the heap, because a wire goes from hand to hand.
    connection: Option<Box<Connection>>,
}

type Connection = http1::Connection<MaybeHttpsStream<TokioIo<TcpStream>>, Full<Bytes>>;
type Unsent = TrySendError<Request<Full<Bytes>>>;

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum NoResponse {
    /// There is no connection: nothing has left us.
    Unreached(Box<dyn Error + Send + Sync>),
    /// The connection broke.
    Broken(hyper::Error),
}

impl Pool {
    /// Connections that begin with TLS where the address has it, to addresses that are `within`.
    pub fn new(tls: rustls::ClientConfig, within: Within) -> Pool {
        let mut http = HttpConnector::new_with_resolver(Resolver::new(within));
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(Duration::from_secs(10)));
        // A server that has vanished without a word is found out after about two minutes.
        http.set_keepalive(Some(Duration::from_secs(60)));
        http.set_keepalive_interval(Some(Duration::from_secs(15)));
        http.set_keepalive_retries(Some(4));
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
        Pool(Arc::new(Inner { connector, idle: Mutex::default() }))
    }

    /// Sends a request to `origin`, the same every time. The request has a `Host`, and its target is a path.
    pub async fn send(&self, origin: &Uri, mut request: Request<Full<Bytes>>) -> Result<Response<ReplyBody>, NoResponse> {
        loop {
            let kept = self.0.take();
            let is_kept = kept.is_some();
            let mut wire = match kept {
                Some(wire) => wire,
                None => self.connect(origin).await?,
            };
            match wire.send(request).await {
                Ok(response) => return Ok(response.map(|body| ReplyBody::of(body, wire, self))),
                Err(mut error) => match error.take_message().filter(|_| is_kept) {
                    // The server had closed it meanwhile, and nothing of the request has left us.
                    Some(unsent) => request = unsent,
                    None => return Err(NoResponse::Broken(error.into_error())),
                },
            }
        }
    }

    async fn connect(&self, origin: &Uri) -> Result<Wire, NoResponse> {
        let mut connector = self.0.connector.clone();
        poll_fn(|context| connector.poll_ready(context)).await.map_err(NoResponse::Unreached)?;
        let stream = connector.call(origin.clone()).await.map_err(NoResponse::Unreached)?;
        let (requests, connection) = http1::handshake(stream).await.map_err(NoResponse::Broken)?;
        Ok(Wire { requests, connection: Some(Box::new(connection)) })
    }

    /// Keeps a connection, unless it is still busy or over.
    fn keep(&self, mut wire: Wire) {
        // With nobody to wake: whoever has used it last is not woken by what becomes of it.
        wire.carry(&mut Context::from_waker(Waker::noop()));
        if !wire.requests.is_ready() {
            return;
        }
        let mut idle = self.0.idle();
        idle.wires.push((wire, Instant::now()));
        if !std::mem::replace(&mut idle.is_swept, true) {
            drop(idle);
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that may be used again.
    fn take(&self) -> Option<Wire> {
        let (wire, since) = self.idle().wires.pop()?;
        // All others have waited longer. They are closed by whoever sweeps.
        (since.elapsed() < IDLE).then_some(wire)
    }
}

/// Closes connections that nobody has used for too long, until none is left.
async fn sweep(pool: Weak<Inner>) {
    loop {
        tokio::time::sleep(IDLE / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle();
        let fresh = idle.wires.iter().position(|(_, since)| since.elapsed() < IDLE).unwrap_or(idle.wires.len());
        let closed: Vec<_> = idle.wires.drain(..fresh).collect();
        idle.is_swept = !idle.wires.is_empty();
        let goes_on = idle.is_swept;
        drop(idle);
        drop(closed);
        if !goes_on {
            return;
        }
    }
}

impl Wire {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Unsent> {
        let mut answered = pin!(self.requests.try_send_request(request));
        let connection = &mut self.connection;
        poll_fn(|context| {
            carry(connection, context);
            answered.as_mut().poll(context)
        })
        .await
    }

    fn carry(&mut self, context: &mut Context<'_>) {
        carry(&mut self.connection, context);
    }

    #[cfg(test)]
    fn is_open(&mut self) -> bool {
        self.carry(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some()
    }
}

/// Carries a connection on as far as it goes. Whoever waits for something of one that is over is answered by its end.
fn carry(connection: &mut Option<Box<Connection>>, context: &mut Context<'_>) {
    if let Some(going) = connection
        && Pin::new(going).poll(context).is_ready()
    {
        *connection = None;
    }
}

/// The body of a response, and the connection that it comes over until it is whole.
pub(crate) struct ReplyBody {
    body: Incoming,
    rest: Option<(Wire, Pool)>,
}

impl ReplyBody {
    fn of(body: Incoming, wire: Wire, pool: &Pool) -> ReplyBody {
        // Most bodies come with their heads.
        if wire.requests.is_ready() {
            pool.keep(wire);
            return ReplyBody { body, rest: None };
        }
        ReplyBody { body, rest: Some((wire, pool.clone())) }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let ReplyBody { body, rest } = self.get_mut();
        let mut frame = Pin::new(&mut *body).poll_frame(context);
        if let (true, Some((wire, _))) = (frame.is_pending(), &mut *rest) {
            wire.carry(context);
            frame = Pin::new(body).poll_frame(context);
        }
        if let Poll::Ready(None) = frame
            && let Some((wire, pool)) = rest.take()
        {
            pool.keep(wire);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::no_client_config;
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server, and a pool of connections to it.
    async fn pool() -> (TcpListener, Pool, Uri) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        (listener, Pool::new(no_client_config(), Within::Anywhere), origin)
    }

    async fn ask(pool: &Pool, origin: &Uri) -> Result<Response<ReplyBody>, NoResponse> {
        let request = Request::post("/mcp").header("host", "h").body(Full::from("{}")).unwrap();
        pool.send(origin, request).await
    }

    /// Answers the next request on a connection, up to `said` of a body of two bytes.
    async fn answer(socket: &mut TcpStream, said: &str) {
        let mut read = Vec::new();
        while !read.ends_with(b"{}") {
            assert_ne!(socket.read_buf(&mut read).await.unwrap(), 0, "the client has closed");
        }
        socket.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{said}").as_bytes()).await.unwrap();
    }

    async fn whole(response: Result<Response<ReplyBody>, NoResponse>) -> Bytes {
        response.unwrap().into_body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_connection_is_used_again_whether_or_not_the_body_came_with_the_head() {
        let (listener, pool, origin) = pool().await;
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            answer(&mut socket, "ab").await;
            answer(&mut socket, "c").await;
            tokio::task::yield_now().await;
            socket.write_all(b"d").await.unwrap();
            answer(&mut socket, "ef").await;
        };
        let client = async {
            for body in ["ab", "cd", "ef"] {
                assert_eq!(whole(ask(&pool, &origin).await).await, body);
            }
        };
        tokio::join!(server, client);
    }

    #[tokio::test]
    async fn a_request_that_meets_a_closed_connection_goes_over_another() {
        let (listener, pool, origin) = pool().await;
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            answer(&mut socket, "ab").await;
            drop(socket);
            let (mut socket, _) = listener.accept().await.unwrap();
            answer(&mut socket, "cd").await;
        };
        let client = async {
            assert_eq!(whole(ask(&pool, &origin).await).await, "ab");
            // Until the system has told us of the closing.
            while pool.0.idle().wires.iter_mut().any(|(wire, _)| wire.is_open()) {
                tokio::task::yield_now().await;
            }
            assert_eq!(whole(ask(&pool, &origin).await).await, "cd");
        };
        tokio::join!(server, client);
    }

    #[tokio::test]
    async fn a_response_that_is_given_up_closes_its_connection() {
        let (listener, pool, origin) = pool().await;
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            answer(&mut socket, "a").await;
            assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
        };
        let client = async { drop(ask(&pool, &origin).await.unwrap()) };
        tokio::join!(server, client);
        assert!(pool.0.idle().wires.is_empty());
    }

    #[tokio::test]
    async fn a_connection_that_was_idle_for_long_is_closed_and_not_used_again() {
        let (listener, pool, origin) = pool().await;
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            answer(&mut socket, "ab").await;
            assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
        };
        let client = async {
            assert_eq!(whole(ask(&pool, &origin).await).await, "ab");
            tokio::time::pause();
            tokio::time::advance(IDLE).await;
            assert!(pool.0.take().is_none());
        };
        tokio::join!(server, client);
    }
}
