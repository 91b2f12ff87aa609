//! Names that could be taken for one another.
//!
//! A model and a person read `read_file` and `Read_File`, `read_fi1e`, or one with a Cyrillic `а`, as one name; a gateway and a
//! server do not. Names are compared by what is left of them after reading like that: the skeleton of Unicode's
//! technical standard 39, without regard to case and to what cannot be seen.

use policy::first_hidden;
use std::collections::HashMap;
use unicode_security::skeleton;

/// Why a name is refused by itself; `None` for a name that shows what it is.
pub fn unreadable_name(name: &str) -> Option<String> {
    if let Some(hidden) = first_hidden(name) {
        return Some(format!("its name holds {}, U+{:04X}", hidden.kind.as_str(), u32::from(hidden.character)));
    }
    if name.chars().any(|c| c.is_whitespace() && c != ' ') || name.trim() != name {
        return Some("its name holds white space that is not seen".to_owned());
    }
    None
}

/// The names that have been seen, by what they look like. The first of those that look alike keeps its place.
#[derive(Clone, Debug, Default)]
pub struct Names {
    by_look: HashMap<String, String>,
}

/// Past so many names nothing more is kept, and every new name is taken for an imitation.
const MAX_NAMES: usize = 20_000;

impl Names {
    /// Takes in a name; gives the one that it could be taken for, where there is one already.
    pub fn admit(&mut self, name: &str) -> Option<String> {
        let looks = looks(name);
        if let Some(other) = looks.iter().find_map(|look| self.by_look.get(look)).filter(|other| *other != name) {
            return Some(other.clone());
        }
        if self.by_look.len() >= MAX_NAMES && !self.by_look.contains_key(&looks[0]) {
            return Some("too many others".to_owned());
        }
        for look in looks {
            self.by_look.insert(look, name.to_owned());
        }
        None
    }
}

impl Names {
    /// The names that have a place.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_look.iter().filter(|(look, _)| look.starts_with('1')).map(|(_, name)| name.as_str())
    }
}

/// Whether two different names could be taken for one another.
///
/// ```
/// assert!(catalogue::look_alike("read_file", "Read_File"));
/// assert!(catalogue::look_alike("read_file", "re\u{430}d_file"));
/// assert!(!catalogue::look_alike("read_file", "read_files"));
/// ```
pub fn look_alike(a: &str, b: &str) -> bool {
    a != b && looks(a).iter().zip(looks(b).iter()).any(|(a, b)| a == b)
}

/// A capital `I` is like an `l` as it stands, and like an `i` without regard to case: so a name has two looks.
pub(crate) fn looks(name: &str) -> [String; 2] {
    let seen: String = name.chars().filter(|c| !json::is_unprintable(*c) && !c.is_whitespace()).collect();
    let lower = |text: &str| json::fold(text).into_owned();
    let as_it_stands = lower(&skeleton(&seen).collect::<String>());
    let without_case = skeleton(&lower(&seen)).collect::<String>().to_lowercase();
    // Told apart: the two are compared each with its like.
    [format!("1{as_it_stands}"), format!("2{without_case}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_told() {
        for (a, b) in [
            ("read_file", "READ_FILE"),
            ("read_file", "read_fi1e"),
            ("read_file", "read_fiIe"),
            ("read_file", "r\u{435}ad_file"),
            ("read_file", "read\u{200b}_file"),
            ("read_file", "ｒead_file"),
            ("run", "rUn"),
            ("commit", "cornmit"),
            ("straße", "STRASSE"),
        ] {
            assert!(look_alike(a, b), "{a} and {b}");
            assert!(look_alike(b, a), "{b} and {a}");
        }
    }

    #[test]
    fn names_that_do_not_are_left_alone() {
        for (a, b) in [("read_file", "read_files"), ("get_2", "get_3"), ("a", "b"), ("read_file", "read-file"), ("x", "x")] {
            assert!(!look_alike(a, b), "{a} and {b}");
        }
    }

    #[test]
    fn the_first_of_two_keeps_its_place() {
        let mut names = Names::default();
        assert_eq!(names.admit("read_file"), None);
        assert_eq!(names.admit("Read_File").as_deref(), Some("read_file"));
        assert_eq!(names.admit("read_file"), None);
        assert_eq!(names.admit("write_file"), None);
    }

    #[test]
    fn a_name_must_show_what_it_is() {
        assert_eq!(unreadable_name("read_file"), None);
        assert_eq!(unreadable_name("datei-öffnen/v2.1"), None);
        assert!(unreadable_name("read\u{200b}_file").is_some_and(|why| why.contains("U+200B")));
        assert!(unreadable_name("read_file ").is_some());
        assert!(unreadable_name("read\u{a0}file").is_some());
    }
}
