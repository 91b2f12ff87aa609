//! The admin API: what people and their tools do to a running gateway, over HTTP.
//!
//! It has a listener and credentials of its own: no token of a caller opens it, and none of its tokens lets anybody call. Each
//! credential has a name, and whatever is done is recorded under it. The listener is checked as the door for callers is
//! (`Host`, `Origin`), and every request needs its credential in a header, so that no page of another site can make one.
//!
//! Every operation is a row of [`routes::ROUTES`]; the OpenAPI document is made from the same rows.

mod openapi;
mod resources;
mod routes;

pub use openapi::openapi;

use crate::credentials::AdminCredentials;
use crate::downstream::door::{Door, read_body};
use crate::downstream::http::{Body, json as json_response};
use crate::downstream::listener::Listener;
use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use json::quote;
use routes::{Access, Found, find};
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How much a request may say.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Requests that read or write state at once; further ones wait.
const MOST_AT_ONCE: usize = 8;
/// How long open requests get when we are told to stop.
const DRAIN: Duration = Duration::from_secs(2);

/// What the admin API administers.
pub struct Admin {
    /// Whose requests are carried out.
    pub credentials: AdminCredentials,
    /// Where things are remembered.
    pub store: Store,
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
}

impl Answered {
    fn ok(body: String) -> Answered {
        Answered { status: StatusCode::OK, body }
    }

    /// A refusal, in the one form that all have.
    fn refused(status: StatusCode, code: &str, message: &str) -> Answered {
        Answered { status, body: format!(r#"{{"error":{{"code":{},"message":{}}}}}"#, quote(code), quote(message)) }
    }
}

/// A request that was let in.
pub(crate) struct Asked<'a> {
    /// Under whose name it is carried out; empty where none is needed.
    by: &'a str,
    /// The part of the path that names one thing.
    id: Option<String>,
    query: Vec<(String, String)>,
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
        let by = match (route.access, self.admin.credentials.name_of(request.headers().get(AUTHORIZATION))) {
            (_, Some(name)) => name.to_owned(),
            (Access::Anybody, None) => String::new(),
            (Access::Administrators, None) => return unauthorized(),
        };
        let Some(query) = parameters(request.uri().query().unwrap_or_default()) else {
            return response(Answered::refused(StatusCode::BAD_REQUEST, "bad-request", "the query cannot be read"));
        };
        let unknown = query.iter().find(|(name, _)| !route.parameters.iter().any(|parameter| parameter.name == name));
        if let Some((name, _)) = unknown {
            let message = format!("there is no parameter `{}`", crate::shown::visible(name));
            return response(Answered::refused(StatusCode::BAD_REQUEST, "bad-request", &message));
        }
        if request.method() == Method::POST
            && let Err(away) = read_body(request.into_body(), MAX_BODY_BYTES).await
        {
            return response(Answered::refused(away.status, "bad-request", &away.why));
        }
        let _turn = self.turns.acquire().await;
        response(resources::carry_out(route.operation, &self.admin, Asked { by: &by, id, query }).await)
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
