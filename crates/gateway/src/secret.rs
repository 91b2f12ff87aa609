//! Secrets: values that no log, error, record or diagnostic may show.

use policy::SecretReference;
use std::fmt;
use std::io;
use std::path::Path;

/// A value that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `value` from being shown.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// The value itself, for whoever sends or compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Why a secret cannot be had. Shows where it should be, and nothing of it.
#[derive(Debug, thiserror::Error)]
#[error("the secret `{reference}` {problem}")]
pub struct SecretError {
    reference: String,
    problem: String,
}

impl Secret {
    /// Looks up what a reference names.
    ///
    /// # Errors
    /// When it is not there, empty, or more than a secret.
    pub fn of(reference: &SecretReference) -> Result<Secret, SecretError> {
        let (named, found) = match reference {
            SecretReference::Env(name) => (format!("env:{name}"), std::env::var(name).map_err(|_| "is not set".to_owned())),
            SecretReference::File(path) => {
                (format!("file:{path}"), read(Path::new(path)).map_err(|error| format!("cannot be read: {error}")))
            }
        };
        let found = found.and_then(|value| if value.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(value) });
        found.map(Secret).map_err(|problem| SecretError { reference: named, problem })
    }
}

/// What a file of a secret holds, without its last line break.
///
/// # Errors
/// When it cannot be read, or is more than a secret: a device or pipe would keep us waiting.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(io::Error::other("it is not a small file"));
    }
    let text = std::fs::read_to_string(path)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// More than any secret needs.
const MAX_BYTES: u64 = 64 * 1024;

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?} {:#?}", Secret::new("hunter2"), Secret::new("hunter2")), "Secret(…) Secret(…)");
    }
}
