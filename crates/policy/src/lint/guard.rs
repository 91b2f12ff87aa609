//! Regular expressions that guard less than they seem to.

use crate::model::Operator;
use crate::text::shown;

/// What is loose about an operator, and help; `guards` says that the call is denied unless it holds.
pub(super) fn loose(operator: &Operator, guards: bool) -> Option<(String, String)> {
    match (operator, guards) {
        (Operator::Regex(regex), true) => loose_guard(regex.as_str()),
        // What must not match is got around at the front, not at the end.
        (Operator::Regex(regex), false) | (Operator::NotRegex(regex), true) => loose_trap(regex.as_str()),
        _ => None,
    }
}

/// An expression that must match: whatever it leaves open is let through.
fn loose_guard(pattern: &str) -> Option<(String, String)> {
    let alternatives = alternatives(without_flags(pattern));
    let open_end = alternatives.iter().any(|part| !anchored_end(part));
    let open_start = alternatives.iter().any(|part| !anchored_start(part));
    let written = shown(pattern);
    let message = match (open_start, open_end) {
        (_, true) if !open_start => format!("`{written}` fixes the beginning only: anything may follow it"),
        (true, true) => format!("`{written}` matches anywhere in the text: anything may stand around it"),
        (true, false) => format!("`{written}` fixes the end only: anything may stand before it"),
        _ => return None,
    };
    let body = pattern.trim_start_matches("(?i)").trim_start_matches('^').trim_start_matches('(');
    let first: String = body.chars().take_while(char::is_ascii_alphabetic).collect();
    let help = if body.starts_with(['/', '\\']) && body.contains('/') && open_end {
        format!(
            "`{}../../etc/passwd` matches too: list whole values with `op: in`",
            body.split(['.', '$', '(', '[']).next().unwrap_or("/")
        )
    } else if STATEMENTS.iter().any(|word| first.eq_ignore_ascii_case(word)) {
        format!("`{first} 1; DROP TABLE users` matches too: a regex on SQL is not a guard; list whole statements with `op: in`")
    } else {
        "write `^…$` around the whole value".to_owned()
    };
    Some((message, help))
}

/// An expression that must not match.
fn loose_trap(pattern: &str) -> Option<(String, String)> {
    alternatives(without_flags(pattern)).iter().any(|part| part.starts_with('^')).then(|| {
        let message = format!("`{}` looks at the beginning only: a space before it gets around it", shown(pattern));
        (message, "remove the `^`, or rather list what is allowed with `op: in`".to_owned())
    })
}

fn without_flags(pattern: &str) -> &str {
    match pattern.strip_prefix("(?").and_then(|rest| rest.split_once(')')) {
        Some((flags, rest)) if flags.chars().all(|c| "isxuU".contains(c)) => rest,
        _ => pattern,
    }
}

fn anchored_start(part: &str) -> bool {
    // A separator at the front bounds what may stand before it well enough: `@example\.com$`.
    part.starts_with('^') || part.starts_with("\\A") || part.starts_with(['@']) || part.starts_with("\\.")
}

fn anchored_end(part: &str) -> bool {
    let body = match (part.strip_suffix('$'), part.strip_suffix("\\z")) {
        (Some(body), _) if !escaped(body) => body,
        (_, Some(body)) => body,
        _ => return false,
    };
    // `.*$` is an anchor in name only.
    !(body.ends_with(".*") || body.ends_with(".+"))
}

/// Whether the text ends in an odd number of backslashes.
fn escaped(text: &str) -> bool {
    text.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

/// The alternatives at the top of an expression.
fn alternatives(pattern: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut class, mut skip) = (Vec::new(), 0, 0usize, false, false);
    for (at, c) in pattern.char_indices() {
        match c {
            _ if skip => skip = false,
            '\\' => skip = true,
            '[' => class = true,
            ']' => class = false,
            '(' if !class => depth += 1,
            ')' if !class => depth = depth.saturating_sub(1),
            '|' if !class && depth == 0 => {
                parts.push(&pattern[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&pattern[start..]);
    parts
}

const STATEMENTS: &[&str] = &["select", "insert", "update", "delete", "with", "show", "explain", "describe"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_that_leaves_an_end_open_is_loose() {
        for pattern in ["^SELECT", "^/app/", "abc", r"\d+", "^a$|^b", "^x.*$", "(?i)^select", r"^cost\$", "main$"] {
            assert!(loose_guard(pattern).is_some(), "{pattern}");
        }
    }

    #[test]
    fn a_guard_of_the_whole_value_is_not() {
        for pattern in [r"^[^@]+@[^@]+\.[^@]+$", "^(a|b)$", "^a$|^b$", r"\A[a|b]\z", "(?i)^abc$", r"@example\.com$", r"^a\\$"] {
            assert_eq!(loose_guard(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn a_trap_at_the_beginning_is_loose() {
        assert!(loose_trap("^DROP").is_some());
        assert_eq!(loose_trap("DROP"), None);
    }

    #[test]
    fn help_shows_what_gets_through() {
        assert!(loose_guard("^SELECT").unwrap().1.contains("DROP TABLE"));
        assert!(loose_guard("^/app/src/").unwrap().1.contains("/app/src/../../etc/passwd"));
    }
}
