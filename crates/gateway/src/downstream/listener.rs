//! The listening socket, and what one connection may cost.
//!
//! Whoever can reach the socket may be hostile, slow or gone. So everything about a connection has an end: its handshake, the
//! head of each request, its idleness, and the time for which it may leave what it is sent unread. How many there are at once is
//! bounded by what this process has descriptors for; one too many is told so, instead of waiting for nobody knows what.

use crate::certificate::ClientCertificate;
use crate::descriptors;
use crate::downstream::http::Body;
use crate::tls::ListenerTls;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustix::net::sockopt;
use std::convert::Infallible;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// More connections at once than this are turned away, or fewer where there are no descriptors for so many.
const MAX_CONNECTIONS: usize = 16_384;
/// TLS handshakes under way at once; further ones wait for their turn within their own time.
const MAX_HANDSHAKES: usize = 1_024;
/// How long a client may take over a TLS handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take over the head of a request, and leave a connection idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// The head of a request, all in all; also how much of a body is read ahead.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
/// How long a client may leave what it is sent unread, or take over [`WORTH_WAITING_FOR`] of it.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
const WORTH_WAITING_FOR: usize = 64 * 1024;
/// A peer that has vanished without a word is found out after about two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// The first byte of every TLS connection: a record of type `handshake` (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 22;

const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 46\r\n\r\nThis port speaks HTTPS; use an https:// URL.\r\n";
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Type: text/plain\r\nContent-Length: 43\r\n\r\nToo many connections are open; try later.\r\n";

/// A socket that listens, and the certificate that it shows, if any.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<ListenerTls>,
}

impl Listener {
    /// Listens at `address`: with TLS where there is a certificate, else in the clear.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(address: SocketAddr, tls: Option<ListenerTls>) -> io::Result<Listener> {
        Ok(Listener { socket: TcpListener::bind(address).await?, tls })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Answers requests by `handle` until `stop` is cancelled; gives the connections that are then open. Each of them needs
    /// `descriptors` descriptors. Requests of a client that has shown a certificate have it as an extension, an
    /// `Arc<ClientCertificate>`.
    pub(crate) async fn accept<H, F>(self, handle: H, descriptors: u64, stop: &CancellationToken) -> GracefulShutdown
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let graceful = GracefulShutdown::new();
        let room = MAX_CONNECTIONS.min(descriptors::room(descriptors));
        let places = Arc::new(Semaphore::new(room));
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        let acceptor = self.tls.as_ref().map(ListenerTls::acceptor);
        let is_tls = acceptor.is_some();
        let watching = self.tls.map(|tls| tokio::spawn(tls.watch()));
        let mut accepts = true;
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let socket = match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    // Out of descriptors, most likely: it passes.
                    if std::mem::replace(&mut accepts, false) {
                        warn!(%error, "connections cannot be accepted");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                if std::mem::replace(&mut accepts, false) {
                    warn!(room, "there are too many connections; further ones are turned away");
                }
                if !is_tls {
                    let _ = socket.try_write(BUSY);
                }
                continue;
            };
            accepts = true;
            prepare(&socket);
            let (handle, watcher, handshakes) = (handle.clone(), graceful.watcher(), handshakes.clone());
            let acceptor = acceptor.as_ref().map(|acceptor| acceptor());
            let stop = stop.clone();
            tokio::spawn(async move {
                match acceptor {
                    None => carry(socket, None, handle, watcher).await,
                    Some(acceptor) => {
                        let stream = tokio::select! {
                            stream = shake_hands(socket, &acceptor, &handshakes) => stream,
                            () = stop.cancelled() => None,
                        };
                        if let Some(stream) = stream {
                            let certificate = certificate_of(&stream);
                            carry(stream, certificate, handle, watcher).await;
                        }
                    }
                }
                drop(place);
            });
        }
        if let Some(watching) = watching {
            watching.abort();
        }
        graceful
    }
}

/// What cannot be set is not set: each of these is a matter of speed or tidiness.
fn prepare(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE);
    let _ = sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES);
}

/// The stream of a client that speaks TLS, in time.
async fn shake_hands(mut socket: TcpStream, acceptor: &TlsAcceptor, handshakes: &Semaphore) -> Option<TlsStream<TcpStream>> {
    let handshake = async {
        let mut first = [0];
        if socket.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first[0] != TLS_HANDSHAKE {
            // A word for whoever has typed http://; nothing of what came is read.
            socket.write_all(NOT_TLS).await?;
            socket.shutdown().await?;
            return Err(io::Error::other("not TLS"));
        }
        let _turn = handshakes.acquire().await.map_err(io::Error::other)?;
        acceptor.accept(socket).await
    };
    match tokio::time::timeout(HANDSHAKE_PATIENCE, handshake).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            debug!("a TLS handshake took too long");
            None
        }
    }
}

/// What the client has shown, where that was asked for and can be read.
fn certificate_of(stream: &TlsStream<TcpStream>) -> Option<Arc<ClientCertificate>> {
    let shown = stream.get_ref().1.peer_certificates()?.first()?;
    ClientCertificate::read(shown).map(Arc::new)
}

/// Answers the requests of one connection until it ends.
async fn carry<I, H, F>(io: I, certificate: Option<Arc<ClientCertificate>>, handle: H, watcher: Watcher)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        // In a box of its own, which is gone once there is a response: a stream may stay open for days after it.
        let response = Box::pin(handle(request));
        async move { Ok::<_, Infallible>(response.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(Patient::new(io)), service);
    if let Err(error) = watcher.watch(connection).await {
        debug!(%error, "a connection ended");
    }
}

/// A stream whose peer must read what it is sent.
///
/// A peer that reads nothing would keep its response, the exchange behind it and the upstream's side for ever. The clock starts
/// when something cannot be written, and is stopped when all is, or starts anew with so much that the peer is merely slow.
struct Patient<I> {
    io: I,
    deadline: Option<Pin<Box<Sleep>>>,
    since: usize,
}

impl<I> Patient<I> {
    fn new(io: I) -> Patient<I> {
        Patient { io, deadline: None, since: 0 }
    }

    /// What is made of an attempt to write `wanted` bytes.
    fn judge(&mut self, attempt: Poll<io::Result<usize>>, wanted: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &attempt {
            Poll::Ready(Ok(written)) => {
                self.since += written;
                if *written >= wanted || self.since >= WORTH_WAITING_FOR {
                    self.deadline = None;
                    self.since = 0;
                }
                attempt
            }
            Poll::Ready(Err(_)) => attempt,
            Poll::Pending => {
                ready!(self.wait(context));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
            }
        }
    }

    fn wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_PATIENCE)));
        deadline.as_mut().poll(context)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Patient<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.io).poll_write(context, bytes);
        self.judge(attempt, bytes.len(), context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let attempt = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.judge(attempt, slices.iter().map(|slice| slice.len()).sum(), context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Asked for once all is written, and so done when nothing is left.
        let attempt = Pin::new(&mut self.io).poll_flush(context).map_ok(|()| 0);
        self.judge(attempt, 0, context).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let attempt = Pin::new(&mut self.io).poll_shutdown(context).map_ok(|()| 0);
        self.judge(attempt, 0, context).map_ok(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downstream::http::json;
    use bytes::Bytes;
    use http::StatusCode;
    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::time::Instant;

    /// A connection that answers everything with `answer` bytes, over a pipe that holds little; the clock stands still but for
    /// what is waited for.
    fn connection(answer: usize) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (theirs, ours) = tokio::io::duplex(16 * 1024);
        let handle = move |_| async move { json(StatusCode::OK, Bytes::from(vec![b'x'; answer])) };
        let graceful = GracefulShutdown::new();
        let carried = carry(ours, None, handle, graceful.watcher());
        let ended = tokio::spawn(async move {
            carried.await;
            drop(graceful);
        });
        (theirs, ended)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_half_a_minute_however_it_trickles() {
        for head in ["", "GET /mcp HTTP/1.1\r\nX: "] {
            let (mut client, ended) = connection(1);
            client.write_all(head.as_bytes()).await.unwrap();
            let begun = Instant::now();
            let trickle = async {
                while !head.is_empty() && client.write_all(b"a").await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                std::future::pending::<()>().await
            };
            tokio::select! {
                _ = ended => {}
                () = trickle => {}
            }
            assert!((HEAD_PATIENCE..HEAD_PATIENCE * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed() {
        let (mut client, ended) = connection(1);
        client.write_all(b"GET /mcp HTTP/1.1\r\n\r\n").await.unwrap();
        let begun = Instant::now();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        ended.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!((HEAD_PATIENCE..HEAD_PATIENCE * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up() {
        let (mut client, ended) = connection(1024 * 1024);
        client.write_all(b"GET /mcp HTTP/1.1\r\n\r\n").await.unwrap();
        let begun = Instant::now();
        ended.await.unwrap();
        assert!((WRITE_PATIENCE..WRITE_PATIENCE * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sips_is_given_up_and_a_slow_one_is_not() {
        // Once a second, so many bytes.
        let reading = |each: usize| async move {
            let (mut client, ended) = connection(1024 * 1024);
            client.write_all(b"GET /mcp HTTP/1.1\r\n\r\n").await.unwrap();
            let mut read = 0;
            let mut bytes = vec![0; each];
            while read < 1024 * 1024 {
                match client.read(&mut bytes).await {
                    Ok(count @ 1..) => read += count,
                    _ => break,
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            drop(client);
            ended.await.unwrap();
            read
        };
        assert!(reading(1024).await < 100 * 1024);
        assert!(reading(4 * 1024).await >= 1024 * 1024);
    }
}
