//! The admin API: what people and their tools do to a running gateway, over HTTP. They answer approvals, look at records, and
//! make, change and remove servers, policies and grants.
//!
//! It has a listener and credentials of its own: no token of a caller opens it, and none of its tokens lets anybody call. Each
//! credential has a name, and whatever is done is recorded under it. The listener is checked as the door for callers is
//! (`Host`, `Origin`), and every request needs its credential in a header, so that no page of another site can make one.
//!
//! Every operation is a row of [`routes::ROUTES`]; the OpenAPI document is made from the same rows.

mod documents;
mod grants;
mod openapi;
mod policies;
mod resources;
mod routes;
mod servers;

pub use openapi::openapi;

use crate::credentials::AdminCredentials;
use crate::downstream::door::{Door, read_body};
use crate::downstream::http::{Body, json as json_response};
use crate::downstream::listener::Listener;
use crate::gateway::Gateway;
use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, ETAG, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use json::quote;
use routes::{Access, Found, find};
use std::sync::Arc;
use std::time::Duration;
use store::{Expected, Store};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How much a request may say.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Requests that read or write state at once; further ones wait.
const MOST_AT_ONCE: usize = 8;
/// How long open requests get when we are told to stop.
const DRAIN: Duration = Duration::from_secs(2);

/// What the admin API administers.
pub struct Admin {
    /// Whose requests are carried out. Where there is a gateway, its configuration says so instead, as it changes.
    pub credentials: AdminCredentials,
    /// Where things are remembered.
    pub store: Store,
    /// The gateway whose servers, policies and grants are administered, where it has a configuration.
    pub place: Option<Place>,
}

/// A gateway, and where clients find it.
pub struct Place {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The beginning of its URLs: `http://127.0.0.1:7420`.
    pub origin: String,
}

/// Answers administrators until `stop` is cancelled. `names` are host names by which we may be called besides the address
/// itself.
///
/// # Errors
/// When the listener's own address cannot be read.
pub async fn serve_admin(listener: Listener, admin: Admin, names: &[String], stop: CancellationToken) -> std::io::Result<()> {
    let door = Door::new(listener.address()?, listener.scheme(), names);
    let desk = Arc::new(Desk { door, admin, turns: Arc::new(Semaphore::new(MOST_AT_ONCE)) });
    let handle = move |request| {
        let desk = desk.clone();
        async move { desk.handle(request).await }
    };
    let graceful = listener.accept(handle, 1, &stop).await;
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    Ok(())
}

struct Desk {
    door: Door,
    admin: Admin,
    turns: Arc<Semaphore>,
}

/// What a request is answered.
pub(crate) struct Answered {
    status: StatusCode,
    body: String,
    /// The version of what is answered, where it has versions.
    etag: Option<i64>,
}

impl Answered {
    fn ok(body: String) -> Answered {
        Answered { status: StatusCode::OK, body, etag: None }
    }

    /// A refusal, in the one form that all have.
    fn refused(status: StatusCode, code: &str, message: &str) -> Answered {
        let body = format!(r#"{{"error":{{"code":{},"message":{}}}}}"#, quote(code), quote(message));
        Answered { status, body, etag: None }
    }
}

/// A request that was let in.
pub(crate) struct Asked<'a> {
    /// Under whose name it is carried out; empty where none is needed.
    by: &'a str,
    /// The part of the path that names one thing.
    id: Option<String>,
    query: Vec<(String, String)>,
    body: Bytes,
    /// Which version it is about, for what has versions.
    expected: Expected,
}

impl Asked<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Desk {
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        if let Err(away) = self.door.check_origin(&request) {
            return response(Answered::refused(away.status, "forbidden", &away.why));
        }
        let (route, id) = match find(request.method(), request.uri().path()) {
            Found::Route(route, id) => (route, id),
            Found::OtherMethods(methods) => {
                let refused = Answered::refused(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "not with this method");
                let mut response = response(refused);
                if let Ok(allow) = HeaderValue::from_str(&methods) {
                    response.headers_mut().insert(ALLOW, allow);
                }
                return response;
            }
            Found::Nothing => {
                let refused = Answered::refused(StatusCode::NOT_FOUND, "not-found", "there is nothing here; see /openapi.json");
                return response(refused);
            }
        };
        let in_force = self.admin.place.as_ref().map(|place| place.gateway.in_force());
        let credentials = in_force.as_ref().map_or(&self.admin.credentials, |in_force| &in_force.administrators);
        let by = match (route.access, credentials.holder(request.headers().get(AUTHORIZATION))) {
            (Access::Administrators, Some(holder)) if !holder.may_change => {
                let message = "this credential answers approvals and looks; it changes nothing";
                return response(Answered::refused(StatusCode::FORBIDDEN, "forbidden", message));
            }
            (_, Some(holder)) => holder.name.clone(),
            (Access::Anybody, None) => String::new(),
            (Access::Approvers | Access::Administrators, None) => return unauthorized(),
        };
        let Some(query) = parameters(request.uri().query().unwrap_or_default()) else {
            return response(Answered::refused(StatusCode::BAD_REQUEST, "bad-request", "the query cannot be read"));
        };
        let unknown = query.iter().find(|(name, _)| !route.parameters.iter().any(|parameter| parameter.name == name));
        if let Some((name, _)) = unknown {
            let message = format!("there is no parameter `{}`", crate::shown::visible(name));
            return response(Answered::refused(StatusCode::BAD_REQUEST, "bad-request", &message));
        }
        let expected = match documents::expected(request.headers()) {
            Ok(expected) if expected == Expected::Any || route.operation.changes_a_version() => expected,
            Ok(_) => {
                let message = "this has no versions; leave `If-Match` and `If-None-Match` out";
                return response(Answered::refused(StatusCode::BAD_REQUEST, "bad-request", message));
            }
            Err(refused) => return response(refused),
        };
        let body = match *request.method() {
            Method::POST | Method::PUT => read_body(request.into_body(), MAX_BODY_BYTES).await,
            _ => Ok(Bytes::new()),
        };
        let body = match body {
            Ok(body) => body,
            Err(away) => return response(Answered::refused(away.status, "bad-request", &away.why)),
        };
        let _turn = self.turns.acquire().await;
        let asked = Asked { by: &by, id, query, body, expected };
        // On the heap: it has room for all that can be asked.
        response(Box::pin(resources::carry_out(route.operation, &self.admin, asked)).await)
    }
}

fn unauthorized() -> Response<Body> {
    let message = "a credential of an administrator is needed: send its token as `Authorization: Bearer …`";
    let mut response = response(Answered::refused(StatusCode::UNAUTHORIZED, "unauthorized", message));
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"callgate admin\""));
    response
}

fn response(answered: Answered) -> Response<Body> {
    let mut response = json_response(answered.status, Bytes::from(answered.body));
    if let Some(version) = answered.etag.and_then(|version| HeaderValue::from_str(&format!("\"{version}\"")).ok()) {
        response.headers_mut().insert(ETAG, version);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// The parameters of a query, each name once; `None` where it cannot be read.
fn parameters(query: &str) -> Option<Vec<(String, String)>> {
    let mut found: Vec<(String, String)> = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (unescaped(name)?, unescaped(value)?);
        if found.iter().any(|(known, _)| *known == name) {
            return None;
        }
        found.push((name, value));
    }
    Some(found)
}

/// Undoes percent-encoding (RFC 3986 §2.1), and `+` for a space as forms have it.
pub(crate) fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit()? << 4 | digit()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_each_thing_once() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(parameters("tool=a%20b&limit=3"), Some(vec![pair("tool", "a b"), pair("limit", "3")]));
        assert_eq!(parameters(""), Some(vec![]));
        for broken in ["a=1&a=2", "a=%", "a=%zz", "a=%ff"] {
            assert_eq!(parameters(broken), None, "{broken}");
        }
    }
}
