//! Clients of 2024-11-05 over HTTP: one stream of events for all that is said to a client, and posts for what it says.
//!
//! `GET /sse` opens the stream; its first event names the path to post to, relative, with a token that nobody can guess. What
//! is behind that is a conversation with one client, as over stdio: each post is a line, and everything else goes to the
//! stream, also why a message was refused. The end of the stream is the end of the session.

use crate::conversation::Command;
use crate::downstream::http::{Body, empty, event_stream};
use crate::downstream::sessions::{Session, Sessions};
use crate::enforcer::Caller;
use crate::refusal::{is_modern, malformed};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Response, StatusCode, Uri};
use mcp::{Malformed, Message, Side, sse};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Messages that may wait for a client that reads slowly; then its conversation waits.
const MAX_WAITING: usize = 64;

/// Ends a session when its stream is dropped.
struct End {
    sessions: Arc<Sessions>,
    token: String,
    session: Session,
}

impl Drop for End {
    fn drop(&mut self) {
        self.sessions.end(&self.session);
        self.sessions.forget(&self.token);
    }
}

impl Sessions {
    /// Opens the stream of a client.
    pub(super) async fn open_stream(self: &Arc<Self>, caller: &Caller) -> Response<Body> {
        let (sink, given) = mpsc::channel(MAX_WAITING);
        let (token, session) = match self.begin(caller, Some(sink)).await {
            Ok(begun) => begun,
            Err(response) => return *response,
        };
        let first = endpoint(&self.messages, &token);
        let end = End { sessions: self.clone(), token, session };
        let messages = stream::unfold((given, end), |(mut given, end)| async {
            let message: Bytes = given.recv().await?;
            Some((sse::encode(&message, None, Some("message")), (given, end)))
        });
        event_stream(stream::iter([first]).chain(messages))
    }

    /// Takes what a client has posted. What comes of it is said on the stream.
    pub(super) async fn post_to_stream(&self, target: &Uri, headers: &HeaderMap, body: Bytes, caller: &Caller) -> Response<Body> {
        let token = target.query().and_then(|query| query.strip_prefix("session="));
        let found = token.and_then(|token| {
            let session = self.find(token, caller)?;
            Some((session.sink()?, session))
        });
        let Some((sink, session)) = found else { return self.unknown_session(caller).await };
        let command = match Message::parse(body.clone(), Side::Client) {
            // Neither session nor headers tell its era; a server that speaks both might take it for either.
            Ok(message) if is_modern(&message) => {
                sink.refused(&self.enforcer.refuse(too_new(&message), &session.owner).await).await;
                return empty(StatusCode::ACCEPTED);
            }
            Ok(message) => Command::Message { message, sink, exchange: 0, passed: self.passed(headers) },
            // A batch, or nothing that can be read: the conversation knows whether, and says why not.
            Err(_) => Command::Bytes { bytes: body, sink },
        };
        match session.commands.send(command).await {
            Ok(()) => empty(StatusCode::ACCEPTED),
            Err(_) => self.unknown_session(caller).await,
        }
    }
}

/// The first event of a stream, which says where to post: at `path`, with `token`.
pub(super) fn endpoint(path: &str, token: &str) -> Bytes {
    sse::encode(format!("{path}?session={token}").as_bytes(), None, Some("endpoint"))
}

/// Why a message of the stateless era is refused on a stream.
pub(super) fn too_new(message: &Message) -> Malformed {
    malformed(message, mcp::reply::INVALID_REQUEST, "this transport is of an older protocol revision; post to /mcp")
}
