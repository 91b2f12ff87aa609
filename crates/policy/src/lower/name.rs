//! Names of tools, and patterns of them.

use super::Lowering;
use crate::model::Pattern;
use crate::problem::code;
use crate::reader::bad_name;
use crate::text::{Span, shown};

impl Lowering<'_> {
    /// A tool's name, a glob, or `*`. `what` is the thing in messages.
    pub(super) fn pattern(&mut self, text: &str, at: &Span, what: &str) -> Option<Pattern> {
        if let Some(reason) = bad_name(text) {
            self.error(code::NAME, at, format!("{what} {reason}"));
            return None;
        }
        if text.trim() != text {
            let help = format!("write `{}`", shown(text.trim()));
            self.error(code::NAME, at, format!("{what} begins or ends with white space")).help = Some(help);
            return None;
        }
        if text == "*" {
            return Some(Pattern::Any);
        }
        if !text.contains(['*', '?']) {
            return Some(Pattern::Exact(text.to_owned()));
        }
        // What a pattern matches must be plain to see; names with other characters can be listed one by one.
        if let Some(other) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "_-.*?".contains(*c))) {
            let problem = self.error(code::NAME, at, format!("`{other}` cannot stand in a pattern of names"));
            problem.label = Some("expected letters, digits, `_`, `-`, `.`, `*` and `?`".into());
            return None;
        }
        if text.chars().all(|c| c == '*') {
            self.error(code::NAME, at, "a pattern of stars only").help = Some("write `*`".into());
            return None;
        }
        Some(Pattern::Glob(text.to_owned()))
    }
}

/// Whether some name matches both globs.
pub(super) fn globs_overlap(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    // reachable[j]: the globs' tails a[i..] and b[j..] can match the same text, worked out from the end.
    let mut next = vec![false; b.len() + 1];
    for i in (0..=a.len()).rev() {
        let mut row = vec![false; b.len() + 1];
        for j in (0..=b.len()).rev() {
            row[j] = match (a.get(i), b.get(j)) {
                (None, None) => true,
                (Some(b'*'), None) => next[j],
                (None, Some(b'*')) => row[j + 1],
                (None, Some(_)) | (Some(_), None) => false,
                (Some(b'*'), Some(b'*')) => next[j] || row[j + 1],
                // A star matches nothing more, or one character of the other glob.
                (Some(b'*'), Some(_)) => next[j] || row[j + 1],
                (Some(_), Some(b'*')) => row[j + 1] || next[j],
                (Some(x), Some(y)) => (x == y || *x == b'?' || *y == b'?') && next[j + 1],
            };
        }
        next = row;
    }
    next[0]
}

#[cfg(test)]
mod tests {
    use super::globs_overlap;

    #[test]
    fn globs_overlap_where_one_name_matches_both() {
        for (a, b) in [("get_*", "*_all"), ("a?c", "ab?"), ("x*", "xy*"), ("*a", "a*"), ("*", "anything"), ("a*b*c", "abc")] {
            assert!(globs_overlap(a, b) && globs_overlap(b, a), "{a} and {b}");
        }
        for (a, b) in [("get_*", "set_*"), ("a?", "abc"), ("*_a", "*_b"), ("a*b", "c*"), ("ab", "a?c")] {
            assert!(!globs_overlap(a, b) && !globs_overlap(b, a), "{a} and {b}");
        }
    }
}
