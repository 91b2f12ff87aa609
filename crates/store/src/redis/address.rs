//! The address of a Redis server. It may hold a password, and shows it nowhere.

use crate::StoreError;
use std::fmt;
use std::path::PathBuf;

/// Where a Redis server is: `redis://USER:PASSWORD@HOST:PORT/DATABASE`, or `rediss://` with TLS.
///
/// `Display` and `Debug` show host, port, user and database; never the password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisAddress {
    pub(crate) tls: bool,
    pub(crate) roots: Option<PathBuf>,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: Option<String>,
    password: Option<String>,
    pub(crate) database: u16,
}

impl RedisAddress {
    /// Reads an address. `rediss` verifies the server's certificate, by the system's roots or those in `?sslrootcert=FILE`.
    ///
    /// # Errors
    /// [`StoreError::Address`]; the text repeats nothing of the address.
    pub(crate) fn parse(text: &str) -> Result<RedisAddress, StoreError> {
        let wrong = || {
            let expected = "`redis://USER:PASSWORD@HOST:PORT/DATABASE`, or `rediss://` with TLS";
            StoreError::Address(format!("the Redis address cannot be used: expected {expected}"))
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut roots = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslrootcert", value)) if scheme == "rediss" => roots = Some(PathBuf::from(value)),
                _ => return Err(wrong()),
            }
        }
        let (credentials, place) = place.rsplit_once('@').map_or((None, place), |(before, after)| (Some(before), after));
        let (user, password) = match credentials.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            None => (None, None),
            Some((user, password)) => {
                let [user, password] = [user, password].map(unescaped);
                (user.ok_or_else(wrong)?, password.ok_or_else(wrong)?)
            }
        };
        let (place, database) = place.split_once('/').unwrap_or((place, ""));
        let database = if database.is_empty() { 0 } else { database.parse().map_err(|_| wrong())? };
        let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').unwrap_or_default()),
            None => place.split_once(':').unwrap_or((place, "")),
        };
        let port = if port.is_empty() { 6379 } else { port.parse().map_err(|_| wrong())? };
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(RedisAddress { tls: scheme == "rediss", roots, host: host.to_owned(), port, user, password, database })
    }

    pub(crate) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }
}

/// Takes `%20` and the like back; `Some(None)` of an empty text.
#[expect(clippy::option_option, reason = "the outer one says whether it can be read")]
fn unescaped(text: &str) -> Option<Option<String>> {
    if text.is_empty() {
        return Some(None);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.get(..2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &after[2..];
    }
    Some(Some(String::from_utf8(bytes).ok()?))
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RedisAddress { tls, host, port, user, database, .. } = self;
        let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        write!(f, "redis{}://{user}{host}:{port}/{database}", if *tls { "s" } else { "" })
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
