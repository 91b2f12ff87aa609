//! Headers given on the command line.

use crate::failure::Failure;

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
    let value = value.trim();
    let failed = |why: &str| Failure::usage(format!("`--header {name}: {value}` cannot be used: {why}"));
    let read = if let Some(variable) = value.strip_prefix("env:") {
        std::env::var(variable).map_err(|_| failed(&format!("the variable {variable} is not set")))?
    } else if let Some(path) = value.strip_prefix("file:") {
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error.to_string()))?;
        text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(&text).to_owned()
    } else {
        return Ok(header.to_owned());
    };
    if read.trim().is_empty() {
        return Err(failed("what it refers to is empty"));
    }
    Ok(format!("{name}: {read}"))
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
