//! Servers of 2024-11-05 over HTTP: one stream of events for all that the server says, and posts elsewhere.
//!
//! Such a server is found out as 2025-03-26 and later have it: it refuses an `initialize` that is posted to its address with
//! 400, 404 or 405, and answers a GET there with a stream whose first event, `endpoint`, says where to post. An address whose
//! path ends in `/sse` is asked by GET first, since nothing else was ever served under that name.
//!
//! Where to post is taken from the stream, and credentials go there: so it must be of the same origin as the address, and the
//! scheme, host and port that are used are those of the address, whatever the stream says.

use crate::upstream::Failure;
use crate::upstream::http::{BodyKind, Events, HttpTarget, body_kind};
use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode, Uri};
use std::str::FromStr;
use std::time::Duration;
use tracing::warn;

/// How long the first event of a stream is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stream that was opened, and where to post what belongs to it.
pub(crate) struct Opened {
    pub events: Events,
    pub endpoint: HttpTarget,
}

/// Whether an answer to a posted `initialize` may be that of a server that knows streams only.
pub(crate) fn may_be_old(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
}

/// Opens a stream at `target`; nothing where it has none whose first event says where to post.
///
/// # Errors
/// When the server cannot be reached, or would have us post to another origin.
pub(crate) async fn open(target: &HttpTarget) -> Result<Option<Opened>, Failure> {
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("text/event-stream"))]);
    let response = target.send(Method::GET, headers, Bytes::new()).await?;
    if !response.status().is_success() || body_kind(response.headers()) != BodyKind::Events {
        return Ok(None);
    }
    let mut events = Events::of(response.into_body());
    let first = tokio::time::timeout(PATIENCE, async {
        loop {
            // Comments and what only sets a time to wait come before the first event, at most.
            match events.next().await {
                Some(event) if event.data.is_none() => {}
                event => return event,
            }
        }
    });
    let first = first.await.ok().flatten().filter(|event| event.name.as_deref() == Some("endpoint"));
    let Some(named) = first.and_then(|event| event.data) else { return Ok(None) };
    let named = String::from_utf8_lossy(&named).into_owned();
    match path_of(&named, target.uri()) {
        Some(path) => Ok(Some(Opened { events, endpoint: target.at(path) })),
        None => {
            warn!("the server would have messages posted to another origin, or nowhere; refused");
            Err(Failure { status: Some(502), ..Failure::unsent("the server would have messages posted to another origin") })
        }
    }
}

/// The path and query that an `endpoint` event names; nothing where it names another origin, or no path.
fn path_of(named: &str, base: &Uri) -> Option<PathAndQuery> {
    let scheme = base.scheme_str()?;
    let of_same_origin = |uri: Uri| {
        let port = |uri: &Uri, scheme: &str| uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        let same = uri.scheme_str().is_some_and(|theirs| theirs.eq_ignore_ascii_case(scheme))
            && uri.host()?.eq_ignore_ascii_case(base.host()?)
            && port(&uri, scheme) == port(base, scheme);
        same.then(|| uri.path_and_query().cloned()).flatten()
    };
    if named.starts_with("//") {
        return of_same_origin(Uri::from_str(&format!("{scheme}:{named}")).ok()?);
    }
    let head = named.split(['/', '?']).next().unwrap_or_default();
    if head.contains(':') {
        return of_same_origin(Uri::from_str(named).ok()?);
    }
    let path = match named.chars().next()? {
        '/' => named.to_owned(),
        '?' => format!("{}{named}", base.path()),
        _ => format!("{}{named}", &base.path()[..=base.path().rfind('/')?]),
    };
    PathAndQuery::from_str(&path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(named: &str, expected: Option<&str>) {
        let base = Uri::from_static("http://example.org:8080/api/sse?x=1");
        assert_eq!(path_of(named, &base).as_ref().map(PathAndQuery::as_str), expected, "{named}");
    }

    #[test]
    fn an_endpoint_is_read_against_the_address_of_the_stream() {
        check("/messages?session=7", Some("/messages?session=7"));
        check("messages?session=7", Some("/api/messages?session=7"));
        check("?session=7", Some("/api/sse?session=7"));
        check("http://example.org:8080/messages", Some("/messages"));
        check("HTTP://EXAMPLE.org:8080/messages", Some("/messages"));
        check("//example.org:8080/messages?a=http://x", Some("/messages?a=http://x"));
    }

    #[test]
    fn an_endpoint_of_another_origin_is_refused() {
        for named in [
            "http://evil.example/messages",
            "https://example.org:8080/messages",
            "http://example.org/messages",
            "http://example.org:8080@evil.example/messages",
            "//evil.example/messages",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "",
        ] {
            check(named, None);
        }
        // These are no addresses of others: they stay paths under our scheme, host and port, or are refused.
        assert!(path_of("/\\evil.example/x", &Uri::from_static("http://a/sse")).is_none_or(|path| path.path().starts_with('/')));
        check("/@evil.example/x", Some("/@evil.example/x"));
    }
}
