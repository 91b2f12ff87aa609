//! The address of a state server. It may hold a password, and shows it nowhere.

use crate::StoreError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a PostgreSQL server is: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
///
/// `Display` and `Debug` show host, port, user and database; never the password.
#[derive(Clone)]
pub struct ServerAddress {
    config: Box<tokio_postgres::Config>,
    tls: bool,
    roots: Option<PathBuf>,
}

impl ServerAddress {
    /// Reads an address. `sslmode` may be `disable`, or `require`, `verify-ca` or `verify-full`, which all verify the server's
    /// certificate; `sslrootcert` names the certificates to trust instead of the system's. Without `sslmode` a connection
    /// within this machine is plain, and any other one verified.
    ///
    /// # Errors
    /// [`StoreError::Address`]; the text repeats nothing of the address.
    pub(crate) fn parse(text: &str) -> Result<ServerAddress, StoreError> {
        let wrong = |problem: &str| StoreError::Address(format!("the PostgreSQL address cannot be used: {problem}"));
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut mode, mut roots, mut rest) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => roots = Some(PathBuf::from(value)),
                _ => rest.push(pair),
            }
        }
        let plain = if rest.is_empty() { place.to_owned() } else { format!("{place}?{}", rest.join("&")) };
        // What the library says of a mistake may repeat a part of the address.
        let parsed = plain.parse::<tokio_postgres::Config>();
        let mut config = parsed.map_err(|_| wrong("expected `postgres://USER:PASSWORD@HOST:PORT/DATABASE`"))?;
        if config.get_hosts().is_empty() {
            return Err(wrong("it names no host"));
        }
        let tls = match mode {
            Some("disable") => false,
            Some("require" | "verify-ca" | "verify-full") => true,
            None => !config.get_hosts().iter().all(is_here),
            Some("allow" | "prefer") => {
                return Err(wrong("`sslmode` must be `disable`, or `require`, which verifies the server"));
            }
            Some(_) => return Err(wrong("`sslmode` is `disable`, `require`, `verify-ca` or `verify-full`")),
        };
        config.ssl_mode(if tls { tokio_postgres::config::SslMode::Require } else { tokio_postgres::config::SslMode::Disable });
        config.connect_timeout(CONNECTING).keepalives_idle(Duration::from_secs(10));
        Ok(ServerAddress { config: Box::new(config), tls, roots })
    }

    pub(crate) fn config(&self) -> &tokio_postgres::Config {
        &self.config
    }

    pub(crate) fn tls(&self) -> bool {
        self.tls
    }

    pub(crate) fn roots(&self) -> Option<&Path> {
        self.roots.as_deref()
    }
}

/// How long connecting may take at most, to each of the hosts that an address names.
const CONNECTING: Duration = Duration::from_millis(1200);

fn is_here(host: &tokio_postgres::config::Host) -> bool {
    match host {
        tokio_postgres::config::Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        tokio_postgres::config::Host::Unix(_) => true,
    }
}

impl PartialEq for ServerAddress {
    fn eq(&self, other: &ServerAddress) -> bool {
        self.config == other.config && self.tls == other.tls && self.roots == other.roots
    }
}

impl Eq for ServerAddress {}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.config.get_user() {
            write!(f, "{user}@")?;
        }
        for (i, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match host {
                tokio_postgres::config::Host::Tcp(name) => write!(f, "{comma}{name}")?,
                #[cfg(unix)]
                tokio_postgres::config::Host::Unix(path) => write!(f, "{comma}{}", path.display())?,
            }
            if let Some(port) = self.config.get_ports().get(i).or(self.config.get_ports().first()) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
