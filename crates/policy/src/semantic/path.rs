//! `path_within`: a path lies in one of some directories, by its components.

use super::{Mistake, listed, strings, text};
use crate::model::{Literal, SemanticOperator};
use json::Value;

/// Directories, each as its components.
#[derive(Debug)]
pub(super) struct PathWithin {
    shown: Vec<String>,
    directories: Vec<Place>,
}

/// A path that has one reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    is_absolute: bool,
    components: Vec<String>,
}

impl PathWithin {
    pub(super) fn new(allowed: &Literal) -> Result<PathWithin, Mistake> {
        let shown = strings(allowed, EXPECTED)?;
        let read = |text: &String| {
            Place::read(text).map_err(|why| Mistake::new(format!("`{text}` cannot be a directory: it {why}"), EXPECTED))
        };
        let directories = shown.iter().map(read).collect::<Result<_, _>>()?;
        Ok(PathWithin { shown, directories })
    }
}

impl SemanticOperator for PathWithin {
    fn name(&self) -> &'static str {
        "path_within"
    }

    fn phrase(&self) -> String {
        format!("be a path within {}", self.operand())
    }

    fn operand(&self) -> String {
        listed(&self.shown)
    }

    fn holds(&self, value: Value<'_>) -> Result<bool, String> {
        let place = Place::read(&text(value)?)?;
        Ok(self.directories.iter().any(|directory| place.is_within(directory)))
    }
}

impl Place {
    /// Reads a path; the error says what it must be.
    ///
    /// Refused is whatever servers read differently: `..` (a link may stand before it), percent signs (decoded once, twice
    /// or never), backslashes and colons (separators, drives and streams on Windows), `~` (a home), components that end in
    /// a dot or a blank (dropped by Windows), and all that is not printable ASCII (folded by some file systems).
    pub(super) fn read(text: &str) -> Result<Place, String> {
        if text.is_empty() {
            return Err("must not be empty".to_owned());
        }
        if let Some(c) =
            text.chars().find(|c| !matches!(c, ' '..='~') || matches!(c, '%' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|'))
        {
            return Err(format!("must be a plain path, without `{}`", c.escape_debug()));
        }
        if text.starts_with("//") || text.starts_with('~') {
            return Err("must be a plain path, not begin with `//` or `~`".to_owned());
        }
        let mut components = Vec::new();
        for component in text.split('/') {
            match component {
                "" | "." => {}
                _ if component.starts_with("..") => return Err("must be a plain path, without `..`".to_owned()),
                _ if component.ends_with(['.', ' ']) || component.starts_with(' ') || component.ends_with(';') => {
                    return Err(
                        "must be a plain path, whose parts do not begin or end in a blank, nor end in `.` or `;`".to_owned()
                    );
                }
                _ => components.push(component.to_owned()),
            }
        }
        Ok(Place { is_absolute: text.starts_with('/'), components })
    }

    /// Whether it is that directory or lies in it.
    pub(super) fn is_within(&self, directory: &Place) -> bool {
        self.is_absolute == directory.is_absolute && self.components.starts_with(&directory.components)
    }
}

const EXPECTED: &str = "expected a directory such as `/srv/project`, or a list of them";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn within(path: &str, expected: Option<bool>) {
        let directory = Place::read("/srv/data").unwrap();
        assert_eq!(Place::read(path).ok().map(|place| place.is_within(&directory)), expected, "{path}");
    }

    #[test]
    fn a_path_is_within_by_its_components() {
        within("/srv/data", Some(true));
        within("/srv/data/a/b.txt", Some(true));
        within("/srv//data/./a", Some(true));
        within("/srv/data-evil", Some(false));
        within("/srv", Some(false));
        within("/etc/passwd", Some(false));
        within("srv/data/a", Some(false));
    }

    #[test]
    fn a_path_of_two_readings_cannot_be_judged() {
        for path in [
            "",
            "/srv/data/../../etc/passwd",
            "/srv/data/..",
            "//srv/data",
            "~/.ssh",
            "/srv/data/%2e%2e/x",
            "/srv/data/..%5c",
            "/srv/data\\..\\x",
            "/srv/data/..;/x",
            "/srv/data/x.",
            "/srv/data/x ",
            "C:..\\x",
            "/srv/data/a:stream",
            "/srv/data/\u{ff0e}\u{ff0e}/x",
            "/srv/data/x\u{0}",
            "/srv/data/.../x",
        ] {
            within(path, None);
        }
    }
}
