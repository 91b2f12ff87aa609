//! What a server says in `WWW-Authenticate` of how it would be satisfied (RFC 9110 §11.6.1).

/// Whether a server asks for a token that is bound to a key (RFC 9449 §7.1).
pub(super) fn wants_proof(challenge: &str) -> bool {
    after_scheme(challenge, "dpop").is_some()
}

/// A parameter of the challenge of a header by which an access token is asked for.
pub(super) fn parameter(challenge: &str, name: &str) -> Option<String> {
    ["bearer", "dpop"].iter().find_map(|scheme| parameter_of(after_scheme(challenge, scheme)?, name))
}

/// What comes after the name of a scheme, where a challenge of that is in the header.
fn after_scheme<'c>(challenge: &'c str, scheme: &str) -> Option<&'c str> {
    let lower = challenge.to_ascii_lowercase();
    let found = lower.match_indices(scheme).map(|(at, scheme)| (at, at + scheme.len())).find(|(at, end)| {
        // At the beginning, or after another challenge.
        let before = lower[..*at].trim_end();
        let after = &lower[*end..];
        (before.is_empty() || before.ends_with(',')) && (after.is_empty() || after.starts_with([' ', ',']))
    });
    Some(&challenge[found?.1..])
}

fn parameter_of(mut rest: &str, name: &str) -> Option<String> {
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
    fn a_token_that_is_bound_may_be_asked_for() {
        for asks in ["DPoP", "DPoP algs=\"ES256\"", "Bearer realm=\"x\", DPoP algs=\"ES256\"", "DPoP, Bearer"] {
            assert!(wants_proof(asks), "{asks}");
        }
        for not in ["", "Bearer", "Bearer realm=\"a dpop\"", "dpopx a=b"] {
            assert!(!wants_proof(not), "{not}");
        }
        check("DPoP error=\"use_dpop_nonce\", resource_metadata=\"https://h/x\"", "resource_metadata", Some("https://h/x"));
        check("DPoP algs=\"ES256\", Bearer scope=\"a\"", "scope", Some("a"));
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
