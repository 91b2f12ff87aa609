//! What a server says in `WWW-Authenticate` of how it would be satisfied (RFC 9110 §11.6.1).

/// A parameter of the `Bearer` challenge of a header.
pub(super) fn parameter(challenge: &str, name: &str) -> Option<String> {
    let lower = challenge.to_ascii_lowercase();
    let begin = lower.match_indices("bearer").map(|(at, scheme)| (at, at + scheme.len())).find(|(at, end)| {
        // At the beginning, or after another challenge.
        let before = lower[..*at].trim_end();
        (before.is_empty() || before.ends_with(',')) && lower[*end..].starts_with(' ')
    });
    let mut rest = &challenge[begin?.1..];
    loop {
        rest = rest.trim_start_matches([' ', ',', '\t']);
        let (key, after) = rest.split_once('=')?;
        let (value, after) = value(after)?;
        // Where the next challenge begins, its scheme stands before the name.
        if key.trim().contains(' ') {
            return None;
        }
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

/// The value at the beginning, and what comes after it.
fn value(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(challenge: &str, name: &str, expected: Option<&str>) {
        assert_eq!(parameter(challenge, name).as_deref(), expected, "{challenge}");
    }

    #[test]
    fn parameters_are_read_off_the_bearer_challenge() {
        let whole = r#"Bearer realm="a, b", error="insufficient_scope", scope="one two", resource_metadata="https://h/x""#;
        check(whole, "scope", Some("one two"));
        check(whole, "resource_metadata", Some("https://h/x"));
        check(whole, "SCOPE", Some("one two"));
        check("bearer scope=one", "scope", Some("one"));
        check("Basic realm=x, Bearer scope=\"a\"", "scope", Some("a"));
        check("Bearer scope=\"a\\\"b\"", "scope", Some("a\"b"));
        for nothing in ["", "Bearer", "Basic scope=\"a\"", "Bearer scope=\"a", "Bearer realm=\"x\", Basic scope=\"a\""] {
            check(nothing, "scope", None);
        }
    }
}
