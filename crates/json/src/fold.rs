//! Key folding: when two keys are the same to a careless reader.
//!
//! Go's `encoding/json` matches keys without regard to case (U+017F `ſ` and U+212A `K` fold to `s` and `k` there), and
//! some servers normalise keys (NFKC). Two keys that fold alike are one key to such a reader.
//!
//! Others trim keys, drop what cannot be seen, or end at a NUL. A key that only such a reader takes for another is no error in
//! a text, but whoever looks for the other must not pass it by: [`could_be_taken_for`].

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

/// The one of `known` for which a careless reader could take `key`: by case or Unicode form, by spaces around it, by characters
/// that cannot be seen, by what follows a NUL. `None` when `key` itself is one of them.
///
/// ```
/// assert_eq!(json::could_be_taken_for("Profile ", &["name", "profile"]), Some("profile"));
/// assert_eq!(json::could_be_taken_for("profile", &["name", "profile"]), None);
/// assert_eq!(json::could_be_taken_for("profiles", &["name", "profile"]), None);
/// ```
pub fn could_be_taken_for<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    if known.contains(&key) {
        return None;
    }
    let is_plain = |key: &str| key.bytes().all(|byte| byte.is_ascii_graphic());
    let is_key_plain = is_plain(key);
    known.iter().copied().find(|known| {
        // Of two plain keys nothing is trimmed or folded but case.
        if is_key_plain && is_plain(known) {
            return key.eq_ignore_ascii_case(known);
        }
        same_folded(&read_carelessly(key), &read_carelessly(known))
    })
}

/// The key up to a NUL, without what cannot be seen, trimmed.
fn read_carelessly(key: &str) -> Cow<'_, str> {
    if key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(key);
    }
    let until_nul = key.split('\0').next().unwrap_or_default();
    // Trimmed last: a space may hide behind a character that cannot be seen.
    let visible: String = until_nul.chars().filter(|c| !is_unprintable(*c)).collect();
    Cow::Owned(visible.trim().to_owned())
}

/// Whether a reader of a log or a list would not see the character, or would see it do something: control characters, and
/// the format characters that hide, join or reverse.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
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
    fn a_key_that_a_careless_reader_takes_for_another_is_told() {
        for key in [
            "Profile",
            "PROFILE",
            "ｐrofile",
            "profile ",
            "\tprofile",
            "\u{a0}profile",
            "pro\u{200b}file",
            "\u{200b} profile",
            "profile\0x",
            "profi\u{ad}le",
        ] {
            assert_eq!(could_be_taken_for(key, &["name", "profile"]), Some("profile"), "{key:?}");
        }
        for key in ["profile", "profiles", "pro file", "\0profile", "", "pr0file"] {
            assert_eq!(could_be_taken_for(key, &["name", "profile"]), None, "{key:?}");
        }
        assert_eq!(could_be_taken_for("profile", &["Profile", "profile"]), None);
    }

    #[test]
    fn different_keys_stay_different() {
        for (a, b) in [("name", "names"), ("a", "b"), ("a b", "ab"), ("", "a")] {
            assert!(!same_folded(a, b), "{a} and {b}");
        }
    }
}
