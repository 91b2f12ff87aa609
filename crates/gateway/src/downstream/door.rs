//! What is checked on an HTTP request before its body is read: path, method, host, origin, type.
//!
//! A browser page can reach an address on this machine under a name of its own choosing (DNS rebinding), and can post forms
//! without asking. So a request counts only if its `Host` is one of ours, its `Origin`, if any, is one of ours, and its type is
//! one that a form cannot have.

use crate::budget::{REQUESTS, Uncollected, within};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, ORIGIN, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use mcp::Era;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

/// What is served at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/mcp`: streamable HTTP, and the stateless era.
    Mcp,
    /// `/sse`: where a client of 2024-11-05 opens its stream.
    Stream,
    /// `/messages`: where such a client posts.
    Messages,
    /// Where clients learn which authorization server lets them in (RFC 9728); before several servers only.
    Metadata,
}

impl Endpoint {
    const ALL: [Endpoint; 4] = [Endpoint::Mcp, Endpoint::Stream, Endpoint::Messages, Endpoint::Metadata];

    /// Where it is served.
    pub fn path(self) -> &'static str {
        match self {
            Endpoint::Mcp => "/mcp",
            Endpoint::Stream => "/sse",
            Endpoint::Messages => "/messages",
            Endpoint::Metadata => "/.well-known/oauth-protected-resource",
        }
    }
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub endpoint: Endpoint,
    /// The server behind it, where there are several: `/mcp/<server>`.
    pub server: Option<String>,
}

impl Place {
    /// Names of servers are checked where they are looked for.
    fn of(path: &str, several: bool) -> Option<Place> {
        Endpoint::ALL.into_iter().find_map(|endpoint| {
            let rest = path.strip_prefix(endpoint.path())?;
            if endpoint == Endpoint::Metadata && !several {
                return None;
            }
            match rest.strip_prefix('/') {
                None if rest.is_empty() => Some(Place { endpoint, server: None }),
                Some(server) if several && !server.is_empty() => Some(Place { endpoint, server: Some(server.to_owned()) }),
                _ => None,
            }
        })
    }
}

/// What may stand once, if at all.
static ONCE: [HeaderName; 2] = [mcp::headers::SESSION_ID, HeaderName::from_static("last-event-id")];
/// The same of what repeats the body.
static REPEATING: [HeaderName; 3] = [mcp::headers::PROTOCOL_VERSION, mcp::headers::METHOD, mcp::headers::NAME];
/// Servers behind us might go by these.
static OVERRIDING: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];
static FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How long a client may take to send a body.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// Why a request is turned away, with the status that says so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TurnedAway {
    pub status: StatusCode,
    /// Of the JSON-RPC error in the body.
    pub code: i64,
    pub why: Cow<'static, str>,
    /// The methods that would be served, where it is for the method.
    pub allow: Option<&'static str>,
}

fn away(status: StatusCode, why: impl Into<Cow<'static, str>>) -> TurnedAway {
    TurnedAway { status, code: mcp::reply::INVALID_REQUEST, why: why.into(), allow: None }
}

fn not_allowed(allow: &'static str, why: &'static str) -> TurnedAway {
    TurnedAway { allow: Some(allow), ..away(StatusCode::METHOD_NOT_ALLOWED, why) }
}

/// Knows the names under which we may be called.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// Our address as it stands in a URL, and its port.
    literal: String,
    port: String,
    /// Whether the port is the one that a URL of our scheme need not name.
    is_default_port: bool,
    /// Whether names of this machine are ours.
    is_local: bool,
    names: Vec<String>,
    /// Whether paths name servers.
    several: bool,
}

impl Door {
    /// A door at `address` that is also known under `names` (host names without port). `scheme` is `http` or `https`.
    pub fn new(address: SocketAddr, scheme: &str, names: &[String]) -> Door {
        let (ip, port) = (address.ip(), address.port());
        Door {
            literal: if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() },
            port: port.to_string(),
            is_default_port: port == if scheme == "https" { 443 } else { 80 },
            is_local: ip.is_loopback() || ip.is_unspecified(),
            names: names.to_vec(),
            several: false,
        }
    }

    /// The same, before several servers.
    pub fn of_several(self) -> Door {
        Door { several: true, ..self }
    }

    /// Checks everything but the body.
    pub fn check<B>(&self, request: &Request<B>) -> Result<Place, TurnedAway> {
        // RFC 9112 §3.2.2: an absolute target would name another host than the header.
        let place = Place::of(request.uri().path(), self.several).filter(|_| request.uri().authority().is_none());
        let Some(place) = place else {
            return Err(away(
                StatusCode::NOT_FOUND,
                "there is nothing here; the endpoint is /mcp, for clients of 2024-11-05 /sse",
            ));
        };
        self.check_origin(request)?;
        let headers = request.headers();
        for name in &ONCE {
            only(headers, name)?;
        }
        check_framing(headers)?;
        for name in &REPEATING {
            only(headers, name).map_err(|away| TurnedAway { code: mcp::reply::HEADER_MISMATCH, ..away })?;
        }
        match (place.endpoint, request.method()) {
            (Endpoint::Mcp | Endpoint::Messages, &Method::POST) => check_type(headers)?,
            // The stateless era has neither: nothing is resumed, and no session ends.
            (Endpoint::Mcp, &Method::GET | &Method::DELETE)
                if mcp::headers::declared(headers).is_ok_and(|revision| revision.era() == Era::Modern) =>
            {
                return Err(not_allowed("POST", "only POST is served in this protocol revision"));
            }
            (Endpoint::Mcp, &Method::GET | &Method::DELETE) | (Endpoint::Stream | Endpoint::Metadata, &Method::GET) => {}
            (Endpoint::Mcp, _) => return Err(not_allowed("POST, GET, DELETE", "only POST, GET and DELETE are served")),
            (Endpoint::Metadata, _) => return Err(not_allowed("GET", "only GET is served here")),
            // A client that tries streamable HTTP first takes this for the sign to open its stream.
            (Endpoint::Stream, _) => return Err(not_allowed("GET", "only GET is served at /sse")),
            (Endpoint::Messages, _) => return Err(not_allowed("POST", "only POST is served at /messages")),
        }
        Ok(place)
    }

    /// Checks that a request was meant for us, and that no page of another site has made it.
    pub fn check_origin<B>(&self, request: &Request<B>) -> Result<(), TurnedAway> {
        let headers = request.headers();
        self.check_host(request)?;
        if let Some(origin) = only(headers, &ORIGIN)? {
            let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if !host.is_some_and(|host| self.is_ours(host)) {
                return Err(away(StatusCode::FORBIDDEN, "requests from this origin are not served"));
            }
        }
        // A page of another site can have a GET made without an `Origin`, as for a picture; browsers say so here (Fetch
        // Metadata). A stream begins a session, and with it perhaps a process.
        let site = only(headers, &FETCH_SITE)?;
        if !headers.contains_key(ORIGIN) && site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return Err(away(StatusCode::FORBIDDEN, "requests from other sites are not served"));
        }
        only(headers, &AUTHORIZATION).map(drop)
    }

    /// Checks that a request was meant for us, wherever it comes from.
    pub fn check_host<B>(&self, request: &Request<B>) -> Result<(), TurnedAway> {
        match only(request.headers(), &HOST)? {
            Some(host) if self.is_ours(host) => Ok(()),
            _ => Err(away(StatusCode::FORBIDDEN, "this host name is not served here; allow it with --host")),
        }
    }

    /// Whether `host`, perhaps with a port, is a name of ours.
    fn is_ours(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, Some(port)),
            _ => (host, None),
        };
        if self.names.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
            return true;
        }
        // Under an address or `localhost` only our own port is meant.
        let port_is_ours = port.map_or(self.is_default_port, |port| port == self.port);
        port_is_ours && (name.eq_ignore_ascii_case(&self.literal) || (self.is_local && is_loopback_name(name)))
    }
}

fn is_loopback_name(name: &str) -> bool {
    matches!(name, "127.0.0.1" | "[::1]") || name.eq_ignore_ascii_case("localhost")
}

/// The one value of a header; a header that stands twice is a way to show two readers two things.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, TurnedAway> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(away(StatusCode::BAD_REQUEST, format!("the header `{name}` stands twice, and may stand once")));
    }
    value.to_str().map(Some).map_err(|_| away(StatusCode::BAD_REQUEST, format!("the header `{name}` is not plain text")))
}

/// What would make of this request another one, or of this connection something else than HTTP/1.1.
fn check_framing(headers: &HeaderMap) -> Result<(), TurnedAway> {
    if OVERRIDING.iter().any(|name| headers.contains_key(name)) {
        return Err(away(StatusCode::BAD_REQUEST, "a method cannot be overridden here"));
    }
    // Some clients offer `h2c` with every request; as RFC 9110 §7.8 has it, that is ignored.
    if headers.get_all(UPGRADE).iter().any(|protocol| !protocol.as_bytes().eq_ignore_ascii_case(b"h2c")) {
        return Err(away(StatusCode::BAD_REQUEST, "this connection cannot be upgraded"));
    }
    // Any other coding is left in the body by our HTTP library, and would be judged as it stands.
    match only(headers, &TRANSFER_ENCODING)? {
        Some(coding) if !coding.eq_ignore_ascii_case("chunked") => {
            Err(away(StatusCode::NOT_IMPLEMENTED, "the body must not be compressed"))
        }
        _ => Ok(()),
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), TurnedAway> {
    let unsupported = |why| away(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
    let Some(value) = only(headers, &CONTENT_TYPE)? else {
        return Err(unsupported("the body must be application/json"));
    };
    let mut parts = value.split(';').map(str::trim);
    if !parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json")) {
        return Err(unsupported("the body must be application/json"));
    }
    for parameter in parts {
        let is_utf8 = parameter.split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("charset") && value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        });
        if !is_utf8 {
            return Err(unsupported("the body must be UTF-8"));
        }
    }
    match only(headers, &CONTENT_ENCODING)? {
        None => Ok(()),
        Some(encoding) if encoding.eq_ignore_ascii_case("identity") => Ok(()),
        Some(_) => Err(unsupported("the body must not be compressed")),
    }
}

/// Reads a body of at most `max_bytes`, in at most half a minute.
pub(crate) async fn read_body(body: Incoming, max_bytes: usize) -> Result<Bytes, TurnedAway> {
    let collected = REQUESTS.collect(body, max_bytes, BODY_PATIENCE);
    let collected = within(BODY_PATIENCE, collected).await.unwrap_or(Err(Uncollected::Silent));
    collected.map_err(|why| match why {
        Uncollected::TooLong => away(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long"),
        Uncollected::NoRoom => away(StatusCode::SERVICE_UNAVAILABLE, "too many long bodies are being read; try again later"),
        Uncollected::Broken => away(StatusCode::BAD_REQUEST, "the body was cut off"),
        Uncollected::Silent => away(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Door {
        Door::new("127.0.0.1:7420".parse().unwrap(), "http", &["mcp.example.org".into()])
    }

    #[track_caller]
    fn check(method: &str, target: &str, headers: &[(&str, &str)], expected: Result<(), u16>) {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let got = door().check(&request.body(()).unwrap()).map(|_| ()).map_err(|away| away.status.as_u16());
        assert_eq!(got, expected, "{method} {target} {headers:?}");
    }

    const JSON: (&str, &str) = ("content-type", "application/json");

    #[test]
    fn only_names_of_ours_are_served() {
        for host in ["127.0.0.1:7420", "localhost:7420", "[::1]:7420", "LOCALHOST:7420", "mcp.example.org", "mcp.example.org:443"]
        {
            check("POST", "/mcp", &[("host", host), JSON], Ok(()));
        }
        for host in [
            "evil.example",
            "127.0.0.1",
            "127.0.0.1:80",
            "localhost.",
            "localhost:7420.evil.example",
            "127.0.0.1.nip.io:7420",
            "",
        ] {
            check("POST", "/mcp", &[("host", host), JSON], Err(403));
        }
        check("POST", "/mcp", &[JSON], Err(403));
        check("POST", "/mcp", &[("host", "localhost:7420"), ("host", "localhost:7420"), JSON], Err(400));
        check("POST", "http://localhost:7420/mcp", &[("host", "localhost:7420"), JSON], Err(404));
    }

    #[test]
    fn every_path_has_the_same_door() {
        for (method, path) in [("POST", "/mcp"), ("GET", "/sse"), ("POST", "/messages?session=x")] {
            check(method, path, &[("host", "evil.example"), JSON], Err(403));
            check(method, path, &[("host", "localhost:7420"), ("origin", "http://evil.example"), JSON], Err(403));
        }
        check("POST", "/messages", &[("host", "localhost:7420"), ("content-type", "text/plain")], Err(415));
        check("POST", "/messages", &[("host", "localhost:7420"), JSON, ("content-encoding", "gzip")], Err(415));
    }

    #[test]
    fn an_origin_must_be_one_of_ours() {
        let with = |origin: &'static str, expected| {
            check("POST", "/mcp", &[("host", "localhost:7420"), ("origin", origin), JSON], expected)
        };
        with("http://localhost:7420", Ok(()));
        with("https://mcp.example.org", Ok(()));
        for origin in ["null", "http://evil.example", "http://localhost:7421", "file://localhost:7420", "localhost:7420"] {
            with(origin, Err(403));
        }
    }

    #[test]
    fn another_site_opens_no_stream_without_an_origin() {
        for (method, path) in [("GET", "/sse"), ("GET", "/mcp"), ("POST", "/mcp")] {
            let with = |site: &'static str, expected| {
                check(method, path, &[("host", "localhost:7420"), JSON, ("sec-fetch-site", site)], expected)
            };
            with("cross-site", Err(403));
            with("same-site", Err(403));
            with("same-origin", Ok(()));
            with("none", Ok(()));
        }
        // One of ours under another name says so.
        let ours = [("host", "localhost:7420"), ("origin", "http://mcp.example.org"), ("sec-fetch-site", "cross-site")];
        check("GET", "/sse", &ours, Ok(()));
    }

    #[test]
    fn only_plain_utf8_json_is_read() {
        let with = |headers: &[(&'static str, &'static str)], expected| {
            let mut all = vec![("host", "localhost:7420")];
            all.extend(headers);
            check("POST", "/mcp", &all, expected);
        };
        with(&[("content-type", "application/json; charset=utf-8")], Ok(()));
        with(&[("content-type", "Application/JSON;charset=\"UTF-8\"")], Ok(()));
        for bad in ["text/plain", "application/json; charset=utf-16le", "multipart/form-data", "application/json; boundary=x"] {
            with(&[("content-type", bad)], Err(415));
        }
        with(&[], Err(415));
        with(&[JSON, ("content-encoding", "gzip")], Err(415));
        with(&[JSON, JSON], Err(400));
    }

    #[test]
    fn each_path_has_its_methods() {
        for path in ["/mcp/", "/mcp//", "/MCP", "/mcp;x", "/mcp%2f", "/", "/sse/", "/messages/"] {
            check("POST", path, &[("host", "localhost:7420"), JSON], Err(404));
        }
        for method in ["PUT", "OPTIONS", "HEAD", "PATCH", "TRACE"] {
            check(method, "/mcp", &[("host", "localhost:7420")], Err(405));
        }
        check("GET", "/sse", &[("host", "localhost:7420")], Ok(()));
        check("POST", "/messages?session=x", &[("host", "localhost:7420"), JSON], Ok(()));
        for (method, path) in [("POST", "/sse"), ("DELETE", "/sse"), ("GET", "/messages"), ("HEAD", "/sse")] {
            check(method, path, &[("host", "localhost:7420"), JSON], Err(405));
        }
        for revision in [("2025-11-25", Ok(())), ("2026-07-28", Err(405))] {
            check("GET", "/mcp", &[("host", "localhost:7420"), ("mcp-protocol-version", revision.0)], revision.1);
        }
        check("POST", "/mcp", &[("host", "localhost:7420"), JSON, ("mcp-name", "a"), ("mcp-name", "b")], Err(400));
    }
}
