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
        // A client of the stateless era names it in a header, and is refused where it does not.
        let is_modern = mcp::headers::declared(headers).is_ok_and(|revision| revision.era() == Era::Modern);
        if is_modern {
            return request.method() == Method::POST
                && self.eras.of_http(&self.target.of_caller(caller), Era::Modern).await == Some(false);
        }
        if has_session(headers) {
            // A server that has never had sessions would take no notice of one that has ended, and its client must.
            return sessions.holds(headers) || self.eras.known().speaks(Era::Legacy) == Some(false);
        }
        if request.method() == Method::POST && names_initialize(request.body()) {
            return self.eras.of_http(&self.target.of_caller(caller), Era::Legacy).await == Some(false);
        }
        // Without a session, and not the beginning of one: nothing that would be worth asking the server for its era.
        self.eras.known().speaks(Era::Legacy) == Some(false)
    }
}

fn has_session(headers: &HeaderMap) -> bool {
    headers.contains_key(mcp::headers::SESSION_ID)
}
