//! `host_in`: the host of a URL, or a bare host, is one of some.

use super::{Mistake, listed, strings, text};
use crate::model::{Literal, SemanticOperator};
use json::Value;
use url::Url;

/// Hosts, with the port where one was given.
#[derive(Debug)]
pub(super) struct HostIn {
    shown: Vec<String>,
    allowed: Vec<Allowed>,
}

#[derive(Debug)]
struct Allowed {
    /// In lower case; of `*.example.org` the part after the star, with its dot.
    host: String,
    is_wildcard: bool,
    /// `None` allows the port that the scheme has by itself.
    port: Option<u16>,
}

/// What a text names: a host, and the port if it is not the scheme's own.
struct Target {
    host: String,
    port: Option<u16>,
}

impl HostIn {
    pub(super) fn new(allowed: &Literal) -> Result<HostIn, Mistake> {
        let shown = strings(allowed, EXPECTED)?;
        let read = |text: &String| {
            let is_wildcard = text.starts_with("*.");
            let target = host_and_port(text.strip_prefix('*').filter(|_| is_wildcard).map_or(text.as_str(), |rest| &rest[1..]));
            let target = target.map_err(|_| Mistake::new(format!("`{text}` is no host"), EXPECTED))?;
            // An address has no names below it.
            if is_wildcard && (target.host.starts_with('[') || is_address(&target.host)) {
                return Err(Mistake::new(format!("`{text}` is no host"), EXPECTED));
            }
            let host = if is_wildcard { format!(".{}", target.host) } else { target.host };
            Ok(Allowed { host, is_wildcard, port: target.port })
        };
        let allowed = shown.iter().map(read).collect::<Result<_, _>>()?;
        Ok(HostIn { shown, allowed })
    }
}

impl SemanticOperator for HostIn {
    fn name(&self) -> &'static str {
        "host_in"
    }

    fn phrase(&self) -> String {
        format!("name one of the hosts {}", self.operand())
    }

    fn operand(&self) -> String {
        listed(&self.shown)
    }

    fn holds(&self, value: Value<'_>) -> Result<bool, String> {
        let target = target(&text(value)?)?;
        let is = |allowed: &Allowed| {
            let same = if allowed.is_wildcard {
                target.host.len() > allowed.host.len() && target.host.ends_with(&allowed.host)
            } else {
                target.host == allowed.host
            };
            same && target.port == allowed.port
        };
        Ok(self.allowed.iter().any(is))
    }
}

/// What a URL or a bare host names; the error says what it must be.
fn target(text: &str) -> Result<Target, String> {
    let plain = |c: char| matches!(c, '!'..='~') && c != '\\';
    if !text.chars().all(plain) {
        return Err("must be a URL in plain ASCII, without blanks and backslashes".to_owned());
    }
    let Some((scheme, rest)) = text.split_once("://") else { return host_and_port(text) };
    let scheme = scheme.to_ascii_lowercase();
    let Some((_, default)) = SCHEMES.iter().find(|(known, _)| *known == scheme) else {
        return Err("must be a URL with http, https, ws or wss".to_owned());
    };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    // To some readers a user's name goes on over `?` and `#`.
    if rest.split('/').next().is_some_and(|before_the_path| before_the_path.contains('@')) {
        return Err("must be a URL without a user name".to_owned());
    }
    let read = host_and_port(authority)?;
    // The parser that browsers and most servers agree on must read the same host and the same port.
    let parsed = Url::parse(text).map_err(|_| "must be a URL".to_owned())?;
    let agrees = parsed.host_str() == Some(read.host.as_str())
        && parsed.port_or_known_default() == Some(read.port.unwrap_or(*default))
        && parsed.username().is_empty();
    if !agrees {
        return Err("must be a URL that every reader takes for the same".to_owned());
    }
    Ok(Target { port: read.port.filter(|port| port != default), host: read.host })
}

/// Reads `host` or `host:port` in the one spelling that it has: names of letters, digits and hyphens, addresses in full.
fn host_and_port(text: &str) -> Result<Target, String> {
    let wrong = || "must name a host in plain letters, such as `api.example.org`".to_owned();
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, after)) => {
            let address: std::net::Ipv6Addr = address.parse().map_err(|_| wrong())?;
            let port = after.strip_prefix(':').filter(|port| !port.is_empty());
            (format!("[{address}]"), port.or(after.is_empty().then_some("")).ok_or_else(wrong)?)
        }
        None if text.starts_with('[') => return Err(wrong()),
        None => match text.split_once(':') {
            Some((host, port)) if !port.is_empty() => (host.to_ascii_lowercase(), port),
            Some(_) => return Err(wrong()),
            None => (text.to_ascii_lowercase(), ""),
        },
    };
    let port = match port {
        "" => None,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0') => {
            Some(digits.parse().map_err(|_| wrong())?)
        }
        _ => return Err(wrong()),
    };
    let is_name = |name: &str| {
        name.len() <= 253
            && name.split('.').all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            })
    };
    // `0x7f.1`, `2130706433` and `0177.0.0.1` are addresses to some readers: what ends in a number must be one in full.
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    let fits = host.starts_with('[') || if numeric { is_address(&host) } else { is_name(&host) };
    if fits { Ok(Target { host, port }) } else { Err(wrong()) }
}

fn is_address(host: &str) -> bool {
    host.parse::<std::net::Ipv4Addr>().is_ok()
}

const SCHEMES: [(&str, u16); 4] = [("http", 80), ("https", 443), ("ws", 80), ("wss", 443)];
const EXPECTED: &str = "expected a host such as `api.example.org`, `*.example.org` or `db.example.org:8443`, or a list of them";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn host(text: &str, expected: Option<bool>) {
        let allowed = ["allowed", "*.example.org", "10.0.0.7", "db:8443"].map(|text| Literal::String(text.into()));
        let operator = HostIn::new(&Literal::Array(allowed.into())).unwrap();
        let document = json::Document::parse(json::quote(text), json::Strictness::Request).unwrap();
        assert_eq!(operator.holds(document.root()).ok(), expected, "{text}");
    }

    #[test]
    fn a_host_is_the_one_that_is_contacted() {
        host("https://allowed/x?y=@evil#z", Some(true));
        host("HTTP://ALLOWED:80/", Some(true));
        host("allowed", Some(true));
        host("https://a.example.org", Some(true));
        host("https://example.org", Some(false));
        host("https://evil-example.org", Some(false));
        host("http://allowed.evil.com", Some(false));
        host("https://allowed:8443/", Some(false));
        host("https://db:8443/", Some(true));
        host("https://10.0.0.7/", Some(true));
        host("http://169.254.169.254/", Some(false));
    }

    #[test]
    fn a_url_of_two_readings_cannot_be_judged() {
        for text in [
            "http://allowed@169.254.169.254/",
            "http://allowed?@169.254.169.254/",
            "http://allowed#@169.254.169.254",
            "http://evil\\@allowed",
            "http://allowed\\.evil.com",
            "//allowed",
            "http://[::ffff:7f00:1",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://127.1/",
            "http://0177.0.0.1/",
            "http://allowed./",
            "http://ａllowed/",
            "http://allowed%00/",
            "http://al\nlowed/",
            "http://allowed:0080/",
            "file:///etc/passwd",
            "http://",
            "javascript:alert(1)",
            "http:/allowed",
            "http:///allowed/x",
            "https://allowed:/",
            "https://[fd00::1]:/",
            "[evil/x.example.org",
            "",
        ] {
            host(text, None);
        }
    }
}
