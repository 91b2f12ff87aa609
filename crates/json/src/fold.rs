//! Key folding: when two keys are the same to a careless reader.
//!
//! Go's `encoding/json` matches keys without regard to case (U+017F `ſ` and U+212A `K` fold to `s` and `k` there), and
//! some servers normalise keys (NFKC). Two keys that fold alike are one key to such a reader.

use std::borrow::Cow;
use unicode_normalization::UnicodeNormalization;

/// Gives the form under which careless readers find `key`: NFKC, then lower case.
pub fn fold(key: &str) -> Cow<'_, str> {
    if key.is_ascii() {
        if key.bytes().any(|b| b.is_ascii_uppercase()) {
            return Cow::Owned(key.to_ascii_lowercase());
        }
        return Cow::Borrowed(key);
    }
    // Upper case first: it merges what lower case alone keeps apart (`ς` and `σ`), as simple case folding does.
    Cow::Owned(key.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect())
}

/// Whether two keys are the same to a careless reader.
pub fn same_folded(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() { a.eq_ignore_ascii_case(b) } else { fold(a) == fold(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_a_careless_reader_merges_fold_alike() {
        for (a, b) in [("name", "NAME"), ("params", "param\u{17f}"), ("key", "\u{212a}ey"), ("name", "ｎame"), ("é", "e\u{301}")]
        {
            assert!(same_folded(a, b), "{a} and {b}");
        }
    }

    #[test]
    fn different_keys_stay_different() {
        for (a, b) in [("name", "names"), ("a", "b"), ("a b", "ab"), ("", "a")] {
            assert!(!same_folded(a, b), "{a} and {b}");
        }
    }
}
