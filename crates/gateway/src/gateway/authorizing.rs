//! The pages on which users authorise the gateway at servers: what of it is HTTP and HTML.
//!
//! They are few and plain: no script runs in them, nothing is loaded, nobody may frame them, and where they lead is told to
//! nobody else.

use super::Gateway;
use crate::config::Config;
use crate::downstream::door::Door;
use crate::downstream::http::{Body, empty, json as body_response};
use crate::oauth::{self, AuthorizationConfig, Authorizer, Callers, Consents, Flow, Page, Pins};
use crate::shown::visible;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use std::sync::Arc;
use store::Store;

/// What a browser holds between the steps.
const NAME: &str = "callgate-authorize";
/// The same over TLS: by this name browsers take it from this very host alone, whatever others of its domain set (RFC 6265bis
/// §4.1.3.2).
const HOST_NAME: &str = "__Host-callgate-authorize";

/// What the cookie is called, and for what it is good.
fn named(is_encrypted: bool) -> (&'static str, &'static str) {
    // Lax: it has to come along when the authorization server leads back here.
    match is_encrypted {
        true => (HOST_NAME, "Path=/; HttpOnly; SameSite=Lax; Secure"),
        false => (NAME, "Path=/authorize; HttpOnly; SameSite=Lax"),
    }
}

/// Where the client document stands.
const CLIENT_DOCUMENT: &str = "/authorize/client.json";

/// Whether a path is one of these pages'.
pub(super) fn is_page(path: &str) -> bool {
    path == oauth::BEGIN || path == CLIENT_DOCUMENT || oauth::led_back_for(path).is_some()
}

/// Answers a browser.
pub(super) async fn answer<B>(gateway: &Gateway, door: &Door, request: &Request<B>) -> Response<Body> {
    let Some(consents) = gateway.consents() else { return empty(StatusCode::NOT_FOUND) };
    // Links to these pages stand elsewhere, and authorization servers lead back here: a GET may come from other sites.
    let is_meant = if request.method() == Method::GET { door.check_host(request) } else { door.check_origin(request) };
    if let Err(away) = is_meant {
        return html(away.status, "Not here", &away.why);
    }
    if request.uri().path() == CLIENT_DOCUMENT {
        return match (gateway.client_document(consents), request.method()) {
            (Some(document), &Method::GET) => body_response(StatusCode::OK, document.into()),
            _ => empty(StatusCode::NOT_FOUND),
        };
    }
    let authorizers = |server: &str| gateway.authorizer(server);
    let query = request.uri().query().unwrap_or_default();
    let ticket = || oauth::ticket(query).unwrap_or_default();
    let is_encrypted = consents.origin().is_some_and(|origin| origin.starts_with("https:"));
    let page = match (oauth::led_back_for(request.uri().path()), request.method()) {
        (None, &Method::GET) => oauth::introduce(consents, &ticket()),
        (None, &Method::POST) => Box::pin(oauth::send_off(consents, &ticket(), &authorizers)).await,
        (Some(server), &Method::GET) => {
            let cookie = cookie(request.headers(), named(is_encrypted).0);
            Box::pin(oauth::callback(consents, server, query, cookie, &authorizers)).await
        }
        _ => {
            let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
            return response;
        }
    };
    show(page, is_encrypted)
}

impl Gateway {
    /// The client document: who the gateway is, and where authorization servers may lead browsers back to.
    fn client_document(&self, consents: &Consents) -> Option<String> {
        let id = self.callers.client_document.as_deref()?;
        let (_, whole) = self.applied()?;
        let is_meant = |by: &AuthorizationConfig| by.flow == Flow::AuthorizationCode && by.client_id.is_none();
        let servers = whole.servers.iter().filter(|server| server.authorization.as_ref().is_some_and(is_meant));
        Some(oauth::client_document(consents, id, servers.map(|server| server.name.as_str())))
    }

    /// Gets tokens for the server of this name, where users authorise that.
    fn authorizer(&self, name: &str) -> Option<Authorizer> {
        let (_, whole) = self.applied()?;
        let server = whole.servers.iter().find(|server| server.name == name)?;
        server.authorizer(&self.callers).filter(|authorizer| authorizer.flow() == Flow::AuthorizationCode)
    }
}

/// The address at which a principal authorises a server of `config`, for a quarter of an hour. Whoever has it can begin in that
/// name, so it is for that person alone.
///
/// # Errors
/// Why there is none, for people.
pub fn invitation(config: &Config, store: &Store, server: &str, principal: &str) -> Result<String, String> {
    let named = config.servers.iter().find(|known| known.name == server);
    let flow = named.ok_or_else(|| format!("the configuration has no server `{}`", visible(server)))?.authorization.as_ref();
    let section = config.authorizations.as_ref().filter(|_| flow.is_some_and(|by| by.flow == Flow::AuthorizationCode));
    let section = section.ok_or_else(|| format!("users authorise nothing at `{}`", visible(server)))?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let origin = section.url.clone().unwrap_or_else(|| format!("{scheme}://{}", config.listen));
    let consents = Consents::new(store.clone(), &section.key, Some(origin));
    let consent = consents.invite(server, principal, "").ok_or("the system gives no random numbers")?;
    Ok(consent.url.clone())
}

/// Tells the authorization server of a server that what a principal has authorised there is not needed any more.
///
/// # Errors
/// Why it does not know, for people.
pub async fn take_back(config: &Config, store: &Store, server: &str, principal: &str) -> Result<(), String> {
    let section = config.authorizations.as_ref().ok_or("the configuration has no `authorizations`")?;
    let consents = Consents::new(store.clone(), &section.key, None);
    let pins = Arc::new(Pins::kept_in(store.clone()));
    let callers = Callers { consents: Some(consents), clock: store.clock().clone(), pins, ..Callers::default() };
    let named = config.servers.iter().find(|known| known.name == server);
    match named.and_then(|named| named.authorizer(&callers)) {
        Some(authorizer) => authorizer.take_back(principal).await,
        None => Err("the configuration has no such server with an `authorization`".to_owned()),
    }
}

/// The one cookie of this name. Of several, one is not ours, and nobody says which.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let cookies = cookies.flat_map(|cookies| cookies.split(';'));
    let mut found = cookies.filter_map(|cookie| cookie.trim().strip_prefix(name)?.strip_prefix('='));
    found.next().filter(|_| found.next().is_none())
}

fn show(page: Page, is_encrypted: bool) -> Response<Body> {
    let (name, attributes) = named(is_encrypted);
    match page {
        Page::Ask { server, principal, ticket } => {
            let (server, principal) = (escaped(&server), escaped(&visible(&principal)));
            let action = format!("{}?ticket={}", oauth::BEGIN, escaped(&ticket));
            let body = format!(
                "<p>Callgate asks to use the server <b>{server}</b> in your name, for its caller <b>{principal}</b>.</p>\
                 <p>Go on only if that is you, and you have just asked for it. If somebody else has sent you here, close this \
                 page: what you allow would be theirs to use.</p>\
                 <form method=\"post\" action=\"{action}\"><button>Go on as {principal}</button></form>"
            );
            html_of(StatusCode::OK, "Use a server in your name", &body)
        }
        Page::Done { server, principal } => {
            let (server, principal) = (escaped(&server), escaped(&visible(&principal)));
            let body = format!(
                "<p>Callgate may use <b>{server}</b> for <b>{principal}</b>. Close this page, and make the call again.</p>"
            );
            let mut response = html_of(StatusCode::OK, "Done", &body);
            insert(&mut response, SET_COOKIE, &format!("{name}=; Max-Age=0; {attributes}"));
            response
        }
        Page::Failed(status, why) => html(status, "That did not work", &why),
        Page::Go { to, cookie } => {
            let mut response = html(StatusCode::SEE_OTHER, "Going on", "You are taken to the authorization server.");
            insert(&mut response, SET_COOKIE, &format!("{name}={cookie}; Max-Age=600; {attributes}"));
            insert(&mut response, LOCATION, &to);
            response
        }
    }
}

fn html(status: StatusCode, title: &str, text: &str) -> Response<Body> {
    html_of(status, title, &format!("<p>{}</p>", escaped(text)))
}

/// A page; `body` is HTML.
fn html_of(status: StatusCode, title: &str, body: &str) -> Response<Body> {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title} – Callgate</title><body><h1>{title}</h1>{body}</body></html>"
    );
    let mut response = body_response(status, page.into());
    insert(&mut response, CONTENT_TYPE, "text/html; charset=utf-8");
    insert(&mut response, CACHE_CONTROL, "no-store");
    // Browsers hold forms to this also where they are led on to, which is the authorization server.
    let policy = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self' https: http://127.0.0.1:* http://localhost:*";
    insert(&mut response, CONTENT_SECURITY_POLICY, policy);
    insert(&mut response, X_FRAME_OPTIONS, "DENY");
    insert(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    // With `no-referrer`, browsers would not say where a form comes from.
    insert(&mut response, REFERRER_POLICY, "same-origin");
    response
}

fn insert(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_on_a_page() {
        assert_eq!(escaped("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=b; callgate-authorize-not=1"));
        assert_eq!(cookie(&headers, NAME), None);
        headers.append(COOKIE, HeaderValue::from_static("c=d;callgate-authorize=x.y"));
        assert_eq!(cookie(&headers, NAME), Some("x.y"));
        assert_eq!(cookie(&headers, HOST_NAME), None, "over TLS, what another host of the domain may set is not looked at");
    }

    #[test]
    fn of_two_cookies_of_the_name_neither_is_believed() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("callgate-authorize=x; callgate-authorize=y"));
        assert_eq!(cookie(&headers, NAME), None);
    }

    #[test]
    fn over_tls_the_cookie_is_this_very_hosts() {
        let go = || Page::Go { to: "https://id/authorize".to_owned(), cookie: "x".to_owned() };
        let set = |page, is_encrypted| show(page, is_encrypted).headers()[SET_COOKIE].to_str().unwrap().to_owned();
        assert_eq!(set(go(), true), "__Host-callgate-authorize=x; Max-Age=600; Path=/; HttpOnly; SameSite=Lax; Secure");
        assert_eq!(set(go(), false), "callgate-authorize=x; Max-Age=600; Path=/authorize; HttpOnly; SameSite=Lax");
        let done = Page::Done { server: "web".to_owned(), principal: "ada".to_owned() };
        assert!(set(done, true).starts_with("__Host-callgate-authorize=; Max-Age=0; Path=/; "));
    }
}
