//! Where state is kept, as users write it: `sqlite:PATH` or `memory:`.

use crate::StoreError;
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
}

impl StateUrl {
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
            StateUrl::Memory => None,
        }
    }
}

impl FromStr for StateUrl {
    type Err = StoreError;

    /// Reads `sqlite:PATH`, `sqlite:///PATH` or `memory:`.
    ///
    /// Addresses may hold passwords, so an error repeats the scheme at most.
    fn from_str(text: &str) -> Result<StateUrl, StoreError> {
        let expected = "expected `sqlite:PATH` or `memory:`";
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
            "postgres" | "postgresql" | "redis" | "rediss" => {
                Err(StoreError::Address(format!("state in `{scheme}:` is not in this build yet; {expected}")))
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
        for text in ["postgres://u:hunter2@h/d", "redis://:hunter2@h"] {
            let error = text.parse::<StateUrl>().unwrap_err().to_string();
            assert!(error.contains("not in this build yet") && !error.contains("hunter2"), "{error}");
        }
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
