//! Headers given on the command line.

use crate::failure::Failure;
use gateway::Secret;
use policy::SecretReference;

/// Reads `Name: value` headers; a value may be a reference, so that no secret stands in a command line, where everybody on the
/// machine can read it: `env:VARIABLE`, or `file:PATH` (without its last line break).
///
/// # Errors
/// When a variable is not set, or a file cannot be read.
pub fn resolved(headers: &[String]) -> Result<Vec<String>, Failure> {
    headers.iter().map(|header| one(header)).collect()
}

fn one(header: &str) -> Result<String, Failure> {
    let Some((name, value)) = header.split_once(':') else { return Ok(header.to_owned()) };
    let Some(reference) = SecretReference::parse(value.trim()) else { return Ok(header.to_owned()) };
    let secret = Secret::of(&reference).map_err(|error| Failure::usage(format!("`--header {name}`: {error}")))?;
    Ok(format!("{name}: {}", secret.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_be_kept_elsewhere() {
        let path = std::env::temp_dir().join(format!("callgate-header-{}", std::process::id()));
        std::fs::write(&path, "Bearer secret\r\n").unwrap();
        let given = ["X-Plain: a: b".to_owned(), format!("Authorization: file:{}", path.display())];
        assert_eq!(resolved(&given).unwrap(), ["X-Plain: a: b", "Authorization: Bearer secret"]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(resolved(&["A: env:PATH".to_owned()]).unwrap(), [format!("A: {}", std::env::var("PATH").unwrap())]);
        assert!(resolved(&["A: env:CALLGATE_NO_SUCH_VARIABLE".to_owned()]).is_err());
        assert!(resolved(&[format!("A: file:{}", path.display())]).is_err());
    }
}
