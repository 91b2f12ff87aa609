//! Where state is kept, as users write it: `sqlite:PATH` or `memory:`.

use crate::StoreError;
use crate::address::ServerAddress;
use crate::redis::RedisAddress;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateUrl {
    /// One SQLite file, shared by any number of processes on this machine.
    Sqlite(PathBuf),
    /// In this process only, gone when it ends.
    Memory,
    /// A PostgreSQL server, shared by gateways on any number of machines.
    Postgres(ServerAddress),
    /// Counters in a Redis server, everything else in `records`.
    Redis {
        /// Where counters lie.
        counters: RedisAddress,
        /// Where all the rest lies: a file, or PostgreSQL.
        records: Box<StateUrl>,
    },
}

impl StateUrl {
    /// Where a gateway keeps the keys that it signs its chains with, where state itself lies on a server: `callgate/keys` in
    /// the user's data directory.
    ///
    /// # Errors
    /// [`StoreError::Address`] when neither `XDG_DATA_HOME` nor `HOME` says where that is.
    pub(crate) fn default_keys() -> Result<PathBuf, StoreError> {
        let place = StateUrl::default_place()?;
        Ok(place.path().map(|path| path.with_file_name("keys")).unwrap_or_default())
    }

    /// The default: `callgate.db` in the user's data directory (`$XDG_DATA_HOME/callgate`, else `~/.local/share/callgate`).
    ///
    /// # Errors
    /// [`StoreError::Address`] when neither `XDG_DATA_HOME` nor `HOME` says where that is.
    pub fn default_place() -> Result<StateUrl, StoreError> {
        StateUrl::default_in(std::env::var_os("XDG_DATA_HOME").map(PathBuf::from), std::env::home_dir())
    }

    fn default_in(data: Option<PathBuf>, home: Option<PathBuf>) -> Result<StateUrl, StoreError> {
        // The XDG base directory specification tells readers to ignore relative paths.
        let data = data.filter(|path| path.is_absolute());
        let home = home.filter(|path| path.is_absolute()).map(|home| home.join(".local/share"));
        let Some(directory) = data.or(home) else {
            return Err(StoreError::Address(
                "no user data directory is known; name a file with `--state sqlite:PATH`".to_owned(),
            ));
        };
        Ok(StateUrl::Sqlite(directory.join("callgate").join("callgate.db")))
    }

    /// The file, where there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            StateUrl::Sqlite(path) => Some(path),
            StateUrl::Redis { records, .. } => records.path(),
            StateUrl::Memory | StateUrl::Postgres(_) => None,
        }
    }

    /// Where records lie, and all that is no counter.
    pub fn records(&self) -> &StateUrl {
        match self {
            StateUrl::Redis { records, .. } => records,
            StateUrl::Sqlite(_) | StateUrl::Memory | StateUrl::Postgres(_) => self,
        }
    }

    /// The same place for counters, with the rest in another than the default one.
    ///
    /// # Errors
    /// [`StoreError::Address`] where counters and the rest lie together, or `records` is a Redis server.
    pub fn with_records_in(self, records: StateUrl) -> Result<StateUrl, StoreError> {
        match (self, records) {
            (StateUrl::Redis { .. }, StateUrl::Redis { .. }) => {
                Err(StoreError::Address("records cannot lie in Redis; name a file or PostgreSQL".to_owned()))
            }
            (StateUrl::Redis { counters, .. }, records) => Ok(StateUrl::Redis { counters, records: Box::new(records) }),
            (StateUrl::Sqlite(_) | StateUrl::Memory | StateUrl::Postgres(_), _) => Err(StoreError::Address(
                "records lie with the rest of the state; another place for them goes with `redis://…` only".to_owned(),
            )),
        }
    }
}

impl FromStr for StateUrl {
    type Err = StoreError;

    /// Reads `sqlite:PATH`, `sqlite:///PATH` or `memory:`.
    ///
    /// Addresses may hold passwords, so an error repeats the scheme at most.
    fn from_str(text: &str) -> Result<StateUrl, StoreError> {
        let expected = "expected `sqlite:PATH`, `postgres://…`, `redis://…` or `memory:`";
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(StoreError::Address(format!("the state address has no scheme; {expected}")));
        };
        match scheme {
            "memory" if rest.is_empty() => Ok(StateUrl::Memory),
            "memory" => Err(StoreError::Address("nothing may follow `memory:`".to_owned())),
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() || path.contains('\0') {
                    return Err(StoreError::Address(format!("the state address names no file; {expected}")));
                }
                Ok(StateUrl::Sqlite(PathBuf::from(path)))
            }
            "postgres" | "postgresql" => Ok(StateUrl::Postgres(ServerAddress::parse(text)?)),
            "redis" | "rediss" => {
                let counters = RedisAddress::parse(text)?;
                Ok(StateUrl::Redis { counters, records: Box::new(StateUrl::default_place()?) })
            }
            _ => Err(StoreError::Address(format!("unknown scheme in the state address; {expected}"))),
        }
    }
}

impl fmt::Display for StateUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            StateUrl::Memory => f.write_str("memory:"),
            StateUrl::Postgres(address) => write!(f, "{address}"),
            StateUrl::Redis { counters, .. } => write!(f, "{counters}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, path) in [("sqlite:a/b.db", "a/b.db"), ("sqlite:/v/b.db", "/v/b.db"), ("sqlite:///v/b.db", "/v/b.db")] {
            assert_eq!(text.parse::<StateUrl>().unwrap(), StateUrl::Sqlite(PathBuf::from(path)), "{text}");
        }
        assert_eq!("memory:".parse::<StateUrl>().unwrap().to_string(), "memory:");
    }

    #[test]
    fn what_is_not_an_address_says_what_is() {
        for text in ["", "callgate.db", "sqlite:", "sqlite://", "memory:x", "mysql://u:hunter2@h/d"] {
            let error = text.parse::<StateUrl>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let wrong =
            ["postgres://u:hunter2@h:x/d", "postgres://u:hunter2@h/d?sslmode=prefer", "postgres://u:hunter2@h/d?a=hunter2"];
        for text in wrong.into_iter().chain([
            "postgres:hunter2",
            "redis://:hunter2@h:x",
            "redis://:hunter2@h/%",
            "rediss://h?password=hunter2",
        ]) {
            let error = text.parse::<StateUrl>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let url: StateUrl = "postgres://u:hunter2@h/d?sslmode=require&sslrootcert=/ca.pem".parse().unwrap();
        assert_eq!(
            (url.to_string(), format!("{url:?}")),
            ("postgres://u@h:5432/d".into(), "Postgres(postgres://u@h:5432/d)".into())
        );
    }

    #[test]
    fn the_default_lies_in_the_data_directory() {
        let place =
            |data: Option<&str>, home: Option<&str>| StateUrl::default_in(data.map(PathBuf::from), home.map(PathBuf::from));
        assert_eq!(place(Some("/d"), Some("/h")).unwrap().to_string(), "sqlite:/d/callgate/callgate.db");
        assert_eq!(place(Some("relative"), Some("/h")).unwrap().to_string(), "sqlite:/h/.local/share/callgate/callgate.db");
        assert!(place(None, None).is_err());
    }
}
