//! One server, as it is served to HTTP clients.

use crate::downstream::crossing::Crossing;
use crate::downstream::door::Endpoint;
use crate::downstream::http::{Body, json, names_initialize};
use crate::downstream::proxy::Proxy;
use crate::downstream::sessions::{Sessions, failed};
use crate::enforcer::{Caller, Enforcer};
use crate::gate::unauthorised;
use crate::upstream::sse::may_be_old;
use crate::upstream::{Failure, Upstream};
use bytes::Bytes;
use http::{Method, Request, Response};
use mcp::{Era, Message, Side};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// An upstream with everything that stands before it.
pub(crate) struct Server {
    pub enforcer: Arc<Enforcer>,
    sessions: Arc<Sessions>,
    /// Where the server speaks streamable HTTP itself: its sessions are its own.
    proxy: Option<Arc<Proxy>>,
    /// Where it may not speak the client's era: which way a request goes.
    crossing: Option<Crossing>,
}

impl Server {
    /// Stands before `upstream`. `messages` is the path at which clients of 2024-11-05 post; `reloaded` is told when another
    /// policy is in force.
    pub fn new(enforcer: Arc<Enforcer>, upstream: Upstream, messages: &str, reloaded: watch::Receiver<u64>) -> Server {
        let endpoint = upstream.endpoint();
        let proxy = endpoint.map(|(target, _)| Proxy::new(enforcer.clone(), target.clone(), reloaded.clone()));
        let crossing = endpoint.and_then(|(target, eras)| Some(Crossing::new(target, eras?)));
        // What is under way when we are told to stop goes on until it is drained: the lines do not hear of it.
        let sessions = Sessions::new(enforcer.clone(), upstream, messages, reloaded, CancellationToken::new());
        Server { enforcer, sessions, proxy, crossing }
    }

    /// The sessions at it, over whatever line it has.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Answers one request, whose head has passed the door.
    pub async fn handle(&self, endpoint: Endpoint, request: Request<Bytes>, caller: &Caller) -> Response<Body> {
        if let Some(failure) = self.sessions.lacking(caller) {
            return Box::pin(self.unauthorised(request, caller, &failure)).await;
        }
        match (endpoint, &self.proxy) {
            // Each on the heap: together they would make this future as large as all of them are deep, and it is moved.
            (Endpoint::Mcp, Some(_)) if self.crosses(&request, caller).await => {
                Box::pin(self.sessions.handle(request, caller)).await
            }
            (Endpoint::Mcp, Some(proxy)) => Box::pin(self.fork(request, proxy, caller)).await,
            (Endpoint::Mcp, None) => Box::pin(self.sessions.handle(request, caller)).await,
            (Endpoint::Stream, _) => Box::pin(self.sessions.open_stream(caller)).await,
            // It is answered before a server is looked for.
            (Endpoint::Metadata, _) => crate::downstream::http::empty(http::StatusCode::NOT_FOUND),
            (Endpoint::Messages, _) => {
                let (head, body) = request.into_parts();
                Box::pin(self.sessions.post_to_stream(&head.uri, &head.headers, body, caller)).await
            }
        }
    }

    /// Answers a caller who has to do something before the server can be called.
    async fn unauthorised(&self, request: Request<Bytes>, caller: &Caller, failure: &Failure) -> Response<Body> {
        let answer = match Message::parse(request.into_body(), Side::Client) {
            Ok(message) => unauthorised(&self.enforcer, &message, false, caller, failure).await,
            Err(_) => None,
        };
        match answer {
            Some(answer) => json(answer.status(), answer.body),
            None => failed(None, failure),
        }
    }

    /// Whether the server speaks another era than the client that sends this.
    async fn crosses(&self, request: &Request<Bytes>, caller: &Caller) -> bool {
        match &self.crossing {
            Some(crossing) => crossing.is_needed(request, caller, &self.sessions).await,
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
        let target = proxy.target().of_caller(caller);
        let is_old = target.is_old() || (may_begin && Box::pin(target.turns_out_old(false)).await.unwrap_or_default());
        if is_old {
            return Box::pin(self.sessions.handle(request, caller)).await;
        }
        let begins = may_begin && names_initialize(request.body());
        let again = begins.then(|| request.clone());
        let response = proxy.clone().handle(request, caller).await;
        let Some(again) = again.filter(|_| may_be_old(response.status())) else { return response };
        match Box::pin(target.turns_out_old(true)).await {
            Ok(true) => Box::pin(self.sessions.handle(again, caller)).await,
            Ok(false) => response,
            // It is one, and would have messages posted somewhere else: its own answer would not say so.
            Err(failure) => {
                let id = Message::parse(again.into_body(), Side::Client).ok().and_then(|message| message.id().cloned());
                failed(id.as_ref(), &failure)
            }
        }
    }

    /// Lets what is only kept open end: nobody new is let in from here on.
    pub fn finish(&self) {
        self.sessions.finish();
    }

    /// Ends all lines and streams, and waits until how their calls ended is on record.
    pub async fn shut_down(&self) {
        self.sessions.shut_down().await;
        if let Some(proxy) = &self.proxy {
            proxy.shut_down().await;
        }
        self.enforcer.settled().await;
    }
}
