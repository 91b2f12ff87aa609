//! HTTP clients before an HTTP server: which way each request goes.
//!
//! Where the server speaks the client's era, the exchange is passed on as it is ([`Proxy`](super::proxy::Proxy)). Where it
//! does not, the gateway is the server of the HTTP binding, and the line behind it is bridged
//! ([`Sessions`](super::sessions::Sessions)).

use crate::downstream::http::names_initialize;
use crate::downstream::sessions::Sessions;
use crate::enforcer::Caller;
use crate::upstream::{Eras, HttpTarget};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use mcp::Era;
use std::sync::Arc;

/// Knows who has to cross from one era to the other.
pub(crate) struct Crossing {
    target: HttpTarget,
    eras: Arc<Eras>,
}

impl Crossing {
    /// The crossing before the server at `target`, of whose `eras` something may be known.
    pub fn new(target: &HttpTarget, eras: &Arc<Eras>) -> Crossing {
        Crossing { target: target.clone(), eras: eras.clone() }
    }

    /// Whether this request of `caller`'s has to cross from one era to the other. `sessions` are those that have done so
    /// before.
    pub async fn is_needed(&self, request: &Request<Bytes>, caller: &Caller, sessions: &Sessions) -> bool {
        let headers = request.headers();
        match self.era(request) {
            Some(era) => match self.eras.fresh(era) {
                Some(speaks) => !speaks,
                // It has to be asked, which is rare: on the heap, because whoever waits for this is moved.
                None => Box::pin(self.eras.of_http(&self.target.of_caller(caller), era)).await == Some(false),
            },
            None if is_modern(headers) => false,
            // A server that has never had sessions would take no notice of one that has ended, and its client must.
            None if has_session(headers) && sessions.holds(headers) => true,
            // Without a session, and not the beginning of one: nothing that would be worth asking the server for its era.
            None => self.eras.known().speaks(Era::Legacy) == Some(false),
        }
    }

    /// The era that the server has to speak, where it is worth asking it for that.
    fn era(&self, request: &Request<Bytes>) -> Option<Era> {
        let is_post = request.method() == Method::POST;
        // A client of the stateless era names it in a header, and is refused where it does not.
        match is_modern(request.headers()) {
            true => is_post.then_some(Era::Modern),
            false if has_session(request.headers()) => None,
            false => (is_post && names_initialize(request.body())).then_some(Era::Legacy),
        }
    }
}

fn is_modern(headers: &HeaderMap) -> bool {
    mcp::headers::declared(headers).is_ok_and(|revision| revision.era() == Era::Modern)
}

fn has_session(headers: &HeaderMap) -> bool {
    headers.contains_key(mcp::headers::SESSION_ID)
}
