//! Asking authorization servers: for what they say of themselves, and for tokens.
//!
//! Over TLS, or on this very machine; no redirect is followed, nothing long is read, and nobody is waited for long. Why
//! something cannot be had is said in fixed words: what such a server says may repeat what it was sent.

use crate::tls::UpstreamTls;
use crate::upstream::outside::{Within, literal};
use crate::upstream::{HttpTarget, TargetError};
use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use json::{Document, Strictness};
use std::time::Duration;

/// How long an authorization server may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Nothing that such a server says is longer.
const MAX_BYTES: usize = 1024 * 1024;

/// How somebody is asked.
#[derive(Clone, Copy)]
pub(crate) struct Way<'w> {
    /// How it is told from an impostor.
    pub tls: &'w UpstreamTls,
    /// Where it must be: a server on the internet, which says where to ask, leads nobody into our own network.
    pub within: Within,
}

impl<'w> Way<'w> {
    /// To whomever the operator has named, wherever that is.
    pub fn anywhere(tls: &'w UpstreamTls) -> Way<'w> {
        Way { tls, within: Within::Anywhere }
    }
}

/// What is at `url`.
pub(crate) async fn get(url: &str, way: Way<'_>) -> Result<Bytes, &'static str> {
    match send(Method::GET, url, way, HeaderMap::new(), Bytes::new()).await? {
        Answer { status: StatusCode::OK, body, .. } => Ok(body),
        _ => Err("it answers with an error"),
    }
}

/// What is answered.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What is answered to `body`.
pub(crate) async fn post(url: &str, way: Way<'_>, headers: HeaderMap, body: Bytes) -> Result<Answer, &'static str> {
    send(Method::POST, url, way, headers, body).await
}

async fn send(method: Method, url: &str, way: Way<'_>, mut headers: HeaderMap, body: Bytes) -> Result<Answer, &'static str> {
    let target = target(url, way)?;
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let response = target.send(method, headers, body).await.map_err(|_| "it does not answer")?;
    let (parts, body) = response.into_parts();
    let body = target.whole(body).await.map_err(|_| "its answer cannot be read")?;
    let answer = Answer { status: parts.status, headers: parts.headers, body };
    if answer.body.len() <= MAX_BYTES { Ok(answer) } else { Err("its answer is too long") }
}

/// What is at `url`, to be asked.
fn target(url: &str, way: Way<'_>) -> Result<HttpTarget, &'static str> {
    if !is_safe(url) {
        return Err("its address is not https");
    }
    // What is no name is not resolved, and judged here.
    let address = url.parse().ok().and_then(|uri| literal(&uri));
    if address.is_some_and(|address| !way.within.has(address)) {
        return Err(match way.within {
            Within::Inside => "its address is not in a private network, as the server's is",
            Within::Outside | Within::Anywhere => "its address is not on the internet",
        });
    }
    let is_encrypted = url.starts_with("https:");
    let tls = if is_encrypted { way.tls.clone() } else { UpstreamTls::default() };
    HttpTarget::within(url, &tls, PATIENCE, way.within).map_err(|_: TargetError| "its address cannot be used")
}

/// What an authorization server says of itself. MCP 2025-11-25 §Authorization Server Metadata Discovery: RFC 8414 first, then
/// OpenID Connect, and where the issuer has a path that with the path in the middle or at the end. The first that has `member`.
pub(crate) async fn metadata(issuer: &str, way: Way<'_>, member: &str) -> Result<Document, &'static str> {
    let bare = issuer.trim_end_matches('/');
    let (origin, path) = split(bare);
    let (oauth, openid) = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration");
    let mut places = vec![format!("{origin}{oauth}{path}"), format!("{origin}{openid}{path}")];
    if !path.is_empty() {
        places.push(format!("{bare}{openid}"));
    }
    let mut why = "it has no discovery document";
    for place in places {
        match get(&place, way).await.and_then(|text| checked(text, issuer, member)) {
            Ok(document) => return Ok(document),
            Err(problem) => why = problem,
        }
    }
    Err(why)
}

fn checked(text: Bytes, issuer: &str, member: &str) -> Result<Document, &'static str> {
    let document = Document::parse(text, Strictness::Reply).map_err(|_| "its discovery document is no JSON")?;
    let root = document.root();
    // RFC 8414 §3.3: identical, or somebody else speaks for it.
    if root.get("issuer").and_then(|named| named.as_str()).as_deref() != Some(issuer) {
        return Err("its discovery document is of another issuer");
    }
    if root.get(member).is_none() {
        return Err("its discovery document does not name what is needed");
    }
    Ok(document)
}

/// The origin of an address, and its path.
pub(crate) fn split(url: &str) -> (&str, &str) {
    let Some(begin) = url.find("://").map(|at| at + 3) else { return (url, "") };
    match url[begin..].find(['/', '?', '#']) {
        Some(at) => {
            let (origin, rest) = url.split_at(begin + at);
            (origin, rest.split(['?', '#']).next().unwrap_or_default())
        }
        None => (url, ""),
    }
}

/// Whether what is read there can be believed: over TLS, or on this very machine.
pub(crate) fn is_safe(url: &str) -> bool {
    url.starts_with("https://") || is_here(url)
}

/// Whether it is on this machine, in the clear.
pub(crate) fn is_here(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .any(|host| authority.strip_prefix(host).is_some_and(|port| port.is_empty() || port.starts_with(':')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_safe_over_tls_or_here() {
        for url in ["https://id.example.org", "http://127.0.0.1:8080/x", "http://localhost", "http://[::1]:1/x"] {
            assert!(is_safe(url), "{url}");
        }
        for url in
            ["http://id.example.org", "http://127.0.0.1.evil.example", "http://localhost@evil.example", "ftp://x", "", "https"]
        {
            assert!(!is_safe(url), "{url}");
        }
    }

    #[test]
    fn a_server_out_there_leads_nobody_into_our_own_network() {
        let tls = UpstreamTls::default();
        let way = Way { tls: &tls, within: Within::Outside };
        for url in ["https://10.0.0.1/token", "https://[::1]:8443/", "https://169.254.169.254/", "http://127.0.0.1:1/"] {
            assert_eq!(target(url, way).err(), Some("its address is not on the internet"), "{url}");
        }
        assert!(target("http://127.0.0.1:1/", Way::anywhere(&tls)).is_ok(), "the operator may");
    }

    #[test]
    fn an_address_has_an_origin_and_a_path() {
        assert_eq!(split("https://h:1/a/b?c#d"), ("https://h:1", "/a/b"));
        assert_eq!(split("https://h"), ("https://h", ""));
        assert_eq!(split("https://h?x"), ("https://h", ""));
    }
}
