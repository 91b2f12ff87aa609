//! The HTTP listener before many servers: who is calling, and which server is meant.
//!
//! `/mcp/<server>` is one server as it is, `/mcp` all that the grant is for. Whoever has no grant is answered 401 and nothing is recorded: strangers must not be
//! able to fill the audit log. A server outside of the grant is 403; to whom nothing is granted there, it looks as any other.

use super::authorizing;
use super::{Gateway, InForce};
use crate::certificate::ClientCertificate;
use crate::config::authorization::host_of;
use crate::downstream::door::{Door, Endpoint, Place, TurnedAway};
use crate::downstream::http::{Body, Listening, drain, json as json_response, read_request, turn_away, turned_away, until};
use crate::downstream::listener::Listener;
use crate::downstream::server::Server;
use crate::enforcer::Caller;
use crate::grants::Grant;
use crate::identity::Unknown;
use crate::refusal::unreadable;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use mcp::Malformed;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Which server a request is for; `None`: all that the grant is for.
type Meant = Option<Arc<Server>>;

/// Who is calling.
struct Known {
    caller: Caller,
    /// When what it has shown is not good any more, in milliseconds since the Unix epoch; a grant has an end of its own.
    until: Option<i64>,
}

/// What a request has shown of its caller.
struct Shown {
    grant: Arc<Grant>,
    principal: String,
    until: Option<i64>,
    /// Whether an authorization server's token has told it.
    by_token: bool,
    /// By what authority of its own the principal calls, where it is that token's subject.
    subject: Option<[u8; 32]>,
}

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
    let mut names = names.to_vec();
    if let Some(consents) = gateway.consents() {
        consents.set_origin(format!("{scheme}://{address}"));
        names.extend(consents.origin().and_then(host_of).map(str::to_owned));
    }
    let door = Door::new(address, scheme, &names).of_several();
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
        if authorizing::is_page(request.uri().path()) {
            return Box::pin(authorizing::answer(&self.gateway, &self.door, &request)).await;
        }
        let place = match self.door.check(&request) {
            Ok(place) => place,
            Err(away) => return unrecorded(&away),
        };
        if place.endpoint == Endpoint::Metadata {
            return self.metadata(&place, request.headers());
        }
        let (known, server) = match self.identify(&place, &request).await {
            Ok(found) => found,
            Err(response) => return *response,
        };
        match read_request(request).await {
            Ok(request) => {
                let listening = Listening::of(&request);
                let listens = listening.is_some();
                let caller = &known.caller;
                let response = match &server {
                    Some(server) => server.handle(place.endpoint, request, caller).await,
                    None => self.gateway.federation().handle(place.endpoint, request, caller).await,
                };
                // A whole session on one stream has an end of its own when we stop.
                let response = match listening.filter(|_| place.endpoint == Endpoint::Mcp) {
                    Some(listening) => listening.until(self.stop.clone().cancelled_owned(), response),
                    None => response,
                };
                match known.until.filter(|_| listens) {
                    Some(end) => until(response, tokio::time::sleep(self.time_to(end)), None),
                    None => response,
                }
            }
            Err(away) => match &server {
                Some(server) => turn_away(away, &server.enforcer, &known.caller).await,
                None => turn_away(away, self.gateway.federation().enforcer(), &known.caller).await,
            },
        }
    }

    /// Who is calling, and which server is meant; or what is answered.
    async fn identify(&self, place: &Place, request: &Request<Incoming>) -> Result<(Known, Meant), Box<Response<Body>>> {
        let (headers, in_force) = (request.headers(), self.gateway.in_force());
        let Shown { grant, principal, until, by_token, subject } = self.grant(&in_force, place, request).await?;
        // Its body may be long in coming: whatever has taken its place by then is another edition.
        let edition = Some(grant.edition);
        let known = Known { caller: Caller { principal, grant: grant.name.clone(), edition, session: None, subject }, until };
        if place.server.is_none() {
            return Ok((known, None));
        }
        let server = place.server.as_ref().and_then(|name| in_force.servers.get(name).cloned());
        let Some(server) = server else { return Err(Box::new(refused(StatusCode::NOT_FOUND, "there is no such server here"))) };
        if !grant.is_for(server.enforcer.server()) {
            let mut response = refused(StatusCode::FORBIDDEN, "this grant is not for this server");
            if by_token {
                self.ask_for_more(&in_force, place, headers, server.enforcer.server(), &mut response);
            }
            return Err(Box::new(response));
        }
        Ok((known, Some(server)))
    }

    /// How long it is to a time in milliseconds since the Unix epoch.
    fn time_to(&self, end: i64) -> Duration {
        Duration::from_millis(u64::try_from(end.saturating_sub(self.gateway.store().clock().now())).unwrap_or(0))
    }

    /// What a request shows of its caller: a token, else the certificate of its connection.
    async fn grant(&self, in_force: &InForce, place: &Place, request: &Request<Incoming>) -> Result<Shown, Box<Response<Body>>> {
        let (headers, now) = (request.headers(), self.gateway.store().clock().now());
        let plain = |grant: &Arc<Grant>, until| {
            let (grant, principal) = (grant.clone(), grant.principal.clone());
            Ok(Shown { grant, principal, until, by_token: false, subject: None })
        };
        let Some(token) = bearer(headers) else {
            let certificate = request.extensions().get::<Arc<ClientCertificate>>();
            let grants = in_force.snapshot.grants();
            return match certificate.and_then(|shown| Some((grants.of_certificate(shown, now)?, shown.expires()))) {
                Some((grant, expires)) => plain(grant, Some(expires)),
                None => Err(Box::new(self.challenge(place, headers, None))),
            };
        };
        let keyed = |token: &str| self.gateway.store().token_digest(token);
        if let Some(grant) = in_force.snapshot.grants().of_token(token, now, keyed) {
            return plain(grant, None);
        }
        // No token of ours has a dot in it.
        let Some(identity) = in_force.identity.as_ref().filter(|_| token.contains('.')) else {
            debug!("a request with an unknown token is answered 401");
            return Err(Box::new(self.challenge(place, headers, Some("the token is of no grant"))));
        };
        let claims = match identity.claims(token, now, self.gateway.store()).await {
            Ok(claims) => claims,
            Err(Unknown::Refused(why)) => {
                debug!(why, "a request with a token that is not believed is answered 401");
                return Err(Box::new(self.challenge(place, headers, Some(why))));
            }
            Err(Unknown::Unavailable) => {
                return Err(Box::new(refused(StatusCode::SERVICE_UNAVAILABLE, "tokens cannot be verified now; try again later")));
            }
        };
        let found = identity.grant_of(&claims).and_then(|(name, principal)| {
            let grant = in_force.snapshot.grants().named(name).filter(|grant| grant.is_valid(now)).cloned()?;
            Some((principal.unwrap_or_else(|| grant.principal.clone()), grant))
        });
        match found {
            Some((principal, grant)) => {
                let until = identity.end_of(&claims);
                // One that is another's by name must not be exchanged in this one's.
                let is_subject = claims.text("sub").as_ref() == Some(&principal);
                let subject = is_subject.then(|| {
                    let shown = (token, until.unwrap_or_default());
                    self.gateway.callers().subjects.note(&grant.name, &principal, shown, || claims.authority(), now)
                });
                Ok(Shown { grant, principal, until, by_token: true, subject })
            }
            None => Err(Box::new(self.challenge(place, headers, Some("the token leads to no grant")))),
        }
    }

    /// Where a client learns how to be let in, of the place that a request is for.
    fn metadata_of(&self, place: &Place, headers: &HeaderMap) -> String {
        let path = place.server.as_ref().map(|server| format!("/{server}")).unwrap_or_default();
        format!("{}/.well-known/oauth-protected-resource{}{path}", self.origin(headers), place.endpoint.path())
    }

    /// How we are called. The door has let only names of ours pass.
    fn origin(&self, headers: &HeaderMap) -> String {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        format!("{}://{host}", self.scheme)
    }

    /// 401, with the place where a client learns how to be let in (RFC 9728 §5.1). `why`: what is wrong with its token.
    fn challenge(&self, place: &Place, headers: &HeaderMap, why: Option<&str>) -> Response<Body> {
        let metadata = self.metadata_of(place, headers);
        let error = why.map(|why| format!("error=\"invalid_token\", error_description=\"{why}\", ")).unwrap_or_default();
        let mut response = refused(StatusCode::UNAUTHORIZED, "a grant is needed: send its token as `Authorization: Bearer …`");
        if let Ok(value) = HeaderValue::from_str(&format!("Bearer {error}resource_metadata=\"{metadata}\"")) {
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        response
    }

    /// Names the scopes with which a client would be let in (RFC 6750 §3.1).
    fn ask_for_more(&self, in_force: &InForce, place: &Place, headers: &HeaderMap, server: &str, response: &mut Response<Body>) {
        let is_wanted = |grant: &str| in_force.snapshot.grants().named(grant).is_some_and(|grant| grant.is_for(server));
        let scopes = in_force.identity.as_ref().map(|identity| identity.scopes_for(is_wanted)).unwrap_or_default();
        let scope = if scopes.is_empty() { String::new() } else { format!("scope=\"{}\", ", scopes.join(" ")) };
        let metadata = self.metadata_of(place, headers);
        let value = format!("Bearer error=\"insufficient_scope\", {scope}resource_metadata=\"{metadata}\"");
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
    }

    /// The protected-resource metadata (RFC 9728) of what a path names.
    fn metadata(&self, place: &Place, headers: &HeaderMap) -> Response<Body> {
        let path = place.server.as_deref().map_or_else(|| "/mcp".to_owned(), |path| format!("/{path}"));
        let resource = json::quote(&format!("{}{path}", self.origin(headers)));
        let in_force = self.gateway.in_force();
        let identity = &in_force.identity;
        let issuers = identity.as_ref().map(|identity| json::quote(&identity.config().issuer)).unwrap_or_default();
        let scopes: Vec<String> =
            identity.iter().flat_map(|identity| identity.scopes_for(|_| true)).map(|scope| json::quote(&scope)).collect();
        let body = format!(
            r#"{{"resource":{resource},"authorization_servers":[{issuers}],"scopes_supported":[{}],"bearer_methods_supported":["header"]}}"#,
            scopes.join(",")
        );
        json_response(StatusCode::OK, body.into())
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
    json_response(status, body)
}
