//! The HTTP listener before many servers: who is calling, and which server is meant.
//!
//! `/mcp/<server>` is one server as it is, `/mcp` all that the grant is for. Whoever has no grant is answered 401 and nothing is recorded: strangers must not be
//! able to fill the audit log. A server outside of the grant is 403; to whom nothing is granted there, it looks as any other.

use crate::downstream::door::{Door, Endpoint, Place, TurnedAway};
use crate::downstream::http::{Body, drain, json, only_listens, read_request, turn_away, turned_away, until};
use crate::downstream::listener::Listener;
use crate::downstream::server::Server;
use crate::enforcer::Caller;
use crate::gateway::Gateway;
use crate::refusal::unreadable;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use mcp::Malformed;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Which server a request is for; `None`: all that the grant is for.
type Meant = Option<Arc<Server>>;

struct Front {
    door: Door,
    scheme: &'static str,
    gateway: Arc<Gateway>,
    stop: CancellationToken,
}

/// Serves all servers of `gateway` until `stop` is cancelled, then drains for at most five seconds.
///
/// `names` are host names by which we may be called besides the address itself.
///
/// # Errors
/// When the listener's own address cannot be read.
pub async fn serve_gateway(
    listener: Listener,
    gateway: Arc<Gateway>,
    names: &[String],
    stop: CancellationToken,
) -> std::io::Result<()> {
    let (address, scheme) = (listener.address()?, listener.scheme());
    let door = Door::new(address, scheme, names).of_several();
    let front = Arc::new(Front { door, scheme, gateway: gateway.clone(), stop: stop.clone() });
    let handle = move |request| {
        let front = front.clone();
        async move { front.handle(request).await }
    };
    // Each stream of a client's may be one to a server.
    let graceful = listener.accept(handle, 2, &stop).await;
    gateway.finish();
    drain(graceful, gateway.shut_down()).await;
    Ok(())
}

impl Front {
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let place = match self.door.check(&request) {
            Ok(place) => place,
            Err(away) => return unrecorded(&away),
        };
        let (caller, server) = match self.identify(&place, request.headers()) {
            Ok(found) => found,
            Err(response) => return *response,
        };
        match read_request(request).await {
            Ok(request) => {
                let listens = place.endpoint == Endpoint::Mcp && only_listens(&request);
                let response = match &server {
                    Some(server) => server.handle(place.endpoint, request, &caller).await,
                    None => self.gateway.federation().handle(request, &caller).await,
                };
                if listens { until(response, self.stop.clone()) } else { response }
            }
            Err(away) => match &server {
                Some(server) => turn_away(away, &server.enforcer, &caller).await,
                None => turn_away(away, self.gateway.federation().enforcer(), &caller).await,
            },
        }
    }

    /// Who is calling, and which server is meant; or what is answered.
    fn identify(&self, place: &Place, headers: &HeaderMap) -> Result<(Caller, Meant), Box<Response<Body>>> {
        let snapshot = self.gateway.snapshot();
        let now = self.gateway.store().clock().now();
        let keyed = |token: &str| self.gateway.store().token_digest(token);
        let grant = bearer(headers).and_then(|token| snapshot.grants().of_token(token, now, keyed));
        let Some(grant) = grant else {
            debug!("a request without a grant is answered 401");
            return Err(Box::new(self.challenge(place, headers)));
        };
        let caller = Caller { principal: grant.principal.clone(), grant: grant.name.clone(), session: None };
        if *place == (Place { endpoint: Endpoint::Mcp, server: None }) {
            return Ok((caller, None));
        }
        let server = place.server.as_ref().and_then(|name| self.gateway.servers().get(name).cloned());
        let Some(server) = server else { return Err(Box::new(refused(StatusCode::NOT_FOUND, "there is no such server here"))) };
        if !grant.is_for(server.enforcer.server()) {
            return Err(Box::new(refused(StatusCode::FORBIDDEN, "this grant is not for this server")));
        }
        Ok((caller, Some(server)))
    }

    /// 401, with the place where a client learns how to be let in (RFC 9728 §5.1).
    fn challenge(&self, place: &Place, headers: &HeaderMap) -> Response<Body> {
        // The door has let only names of ours pass.
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let path = place.server.as_ref().map(|server| format!("/{server}")).unwrap_or_default();
        let path = format!("{}{path}", place.endpoint.path());
        let metadata = format!("{}://{host}/.well-known/oauth-protected-resource{path}", self.scheme);
        let error = if headers.contains_key(AUTHORIZATION) { "error=\"invalid_token\", " } else { "" };
        let mut response = refused(StatusCode::UNAUTHORIZED, "a grant is needed: send its token as `Authorization: Bearer …`");
        if let Ok(value) = HeaderValue::from_str(&format!("Bearer {error}resource_metadata=\"{metadata}\"")) {
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        response
    }
}

/// The token that a request carries. The scheme's case does not matter (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unrecorded(away: &TurnedAway) -> Response<Body> {
    let malformed = Malformed { code: away.code, ..unreadable(&away.why) };
    turned_away(away, malformed.error())
}

fn refused(status: StatusCode, why: &str) -> Response<Body> {
    let body: Bytes = unreadable(why).error();
    json(status, body)
}
