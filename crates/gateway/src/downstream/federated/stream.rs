//! `/sse` before many servers: clients of 2024-11-05, to which all that their grant may use is one server.
//!
//! As before a single server, everything that is said to such a client goes to its one stream, and the end of the stream is
//! the end of the session. What is behind it is the same session that clients of streamable HTTP have; it begins with the
//! `initialize` that is posted, for that is what every server is told.

use super::Federation;
use super::session::Session;
use crate::chance;
use crate::downstream::door::Endpoint;
use crate::downstream::http::{Body, empty, event_stream, json};
use crate::downstream::stream::{endpoint, too_new};
use crate::enforcer::Caller;
use crate::refusal::{is_modern, malformed};
use crate::sink::Sink;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Response, StatusCode, Uri};
use mcp::{Message, Side, sse};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;

/// Messages that may wait for a client that reads slowly; then whoever speaks to it waits.
const MAX_WAITING: usize = 64;
/// More streams at once than this are refused.
const MAX_STREAMS: usize = 10_000;
/// How often it is looked whether something is still under way on a stream that is to end.
const LOOK: Duration = Duration::from_millis(50);

/// What belongs to one stream.
pub(super) struct Stream {
    caller: Caller,
    sink: mpsc::WeakSender<Bytes>,
    /// Begun by `initialize`.
    session: OnceLock<Arc<Session>>,
}

impl Stream {
    pub fn session(&self) -> Option<&Arc<Session>> {
        self.session.get()
    }

    async fn is_quiet(&self) {
        while self.session().is_some_and(|session| !session.is_quiet()) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Ends the session of a stream when that is dropped.
struct End {
    federation: Arc<Federation>,
    token: String,
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(session) = self.federation.lock_streams().remove(&self.token).as_ref().and_then(|stream| stream.session()) {
            session.close();
        }
    }
}

impl Federation {
    /// Opens the stream of a client.
    pub(super) fn open_stream(self: &Arc<Self>, caller: &Caller) -> Response<Body> {
        let (sink, given) = mpsc::channel(MAX_WAITING);
        let (Some(token), true) = (chance::token(), self.lock_streams().len() < MAX_STREAMS) else {
            let why = "there are too many sessions; close one, or try again later";
            return json(StatusCode::SERVICE_UNAVAILABLE, mcp::reply::error(None, mcp::reply::INTERNAL_ERROR, why, None));
        };
        let kept = Arc::new(Stream { caller: caller.clone(), sink: sink.downgrade(), session: OnceLock::new() });
        self.lock_streams().insert(token.clone(), kept.clone());
        let first = endpoint(Endpoint::Messages.path(), &token);
        // It holds the sender: the stream is open for as long as somebody reads it.
        let end = End { federation: self.clone(), token };
        let messages = stream::unfold((given, sink, end), |(mut given, sink, end)| async {
            let message: Bytes = given.recv().await?;
            Some((sse::encode(&message, None, Some("message")), (given, sink, end)))
        });
        let finishing = self.finishing.clone();
        let finished = async move {
            finishing.cancelled().await;
            kept.is_quiet().await;
        };
        event_stream(stream::iter([first]).chain(messages).take_until(finished))
    }

    /// Takes what a client has posted. What comes of it is said on the stream.
    pub(super) async fn post_to_stream(
        self: &Arc<Self>,
        target: &Uri,
        headers: HeaderMap,
        body: Bytes,
        caller: &Caller,
    ) -> Response<Body> {
        let token = target.query().and_then(|query| query.strip_prefix("session="));
        let found = token.and_then(|token| {
            let stream = self.lock_streams().get(token).filter(|stream| stream.caller.is_same(caller)).cloned()?;
            Some((Sink::Stream(stream.sink.upgrade()?), stream))
        });
        let Some((sink, stream)) = found else { return self.unknown_session(caller).await };
        let taken = Message::parse(body, Side::Client);
        match taken.and_then(|message| if is_modern(&message) { Err(too_new(&message)) } else { Ok(message) }) {
            Ok(message) => self.hear_on_stream(&stream, message, sink, headers).await,
            Err(malformed) => sink.refused(&self.enforcer.refuse(malformed, caller).await).await,
        }
        empty(StatusCode::ACCEPTED)
    }

    /// Nobody who posts waits for what comes of it.
    async fn hear_on_stream(self: &Arc<Self>, stream: &Stream, message: Message, sink: Sink, headers: HeaderMap) {
        match stream.session().cloned() {
            Some(session) => drop(self.running.spawn(async move { session.hear(message, sink, &headers).await })),
            None if message.method() == Some("initialize") && message.id().is_some() => {
                let id = chance::token().unwrap_or_default();
                let session = Session::begin(self, stream.caller.in_session(&id), message);
                if stream.session.set(session.clone()).is_err() {
                    // Another `initialize` came at the same moment: that one is answered.
                    return session.close();
                }
                session.attach(sink.clone());
                self.running.spawn(async move { sink.last(session.greet().await, 200).await });
            }
            None => {
                let refused = malformed(&message, mcp::reply::INVALID_REQUEST, "no session: begin with `initialize`");
                sink.refused(&self.enforcer.refuse(refused, &stream.caller).await).await;
            }
        }
    }
}
