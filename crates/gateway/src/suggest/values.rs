//! The values that an argument has had, as far as bounds can be made of them.
//!
//! What is kept of them is bounded, however many there were: a few distinct ones, and what all have in common.

use crate::recorded::is_redacted;
use json::{Decimal, Kind, Value, quote};
use std::collections::BTreeSet;

/// The values at one path, over all calls of a tool.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// In how many calls the path led to a value for every element on its way.
    pub calls: u64,
    /// How many values there were.
    count: u64,
    kind: Option<Kind>,
    /// Of several kinds, nested, or not kept as they were.
    is_mixed: bool,
    /// As JSON; `None` once there were too many, or long ones.
    distinct: Option<BTreeSet<String>>,
    least: Option<Decimal>,
    most: Option<Decimal>,
    /// What all texts begin with.
    prefix: Option<String>,
    /// Whether all texts are absolute paths that have one reading only.
    are_paths: bool,
    /// The hosts, where all texts are plain URLs; `None` once one was not, or there were too many.
    hosts: Option<BTreeSet<String>>,
}

/// What can be asked of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// The operator and its value, where the argument must be there.
    pub holds: Option<(&'static str, String)>,
    /// Those of which none may hold, where it need not be there; the ones that say the same.
    pub fails: Vec<(&'static str, String)>,
    /// What was seen, for the reader.
    pub seen: String,
}

impl Values {
    /// Takes in a value.
    pub fn add(&mut self, value: Value<'_>) {
        if self.count == 0 {
            self.distinct = Some(BTreeSet::new());
            self.hosts = Some(BTreeSet::new());
            (self.kind, self.are_paths) = (Some(value.kind()), true);
        }
        self.count += 1;
        self.is_mixed |= self.kind != Some(value.kind()) || is_redacted(value);
        match value.kind() {
            Kind::String => self.add_text(&value.as_str().unwrap_or_default()),
            Kind::Number => self.add_number(value),
            Kind::Bool => self.remember(value.raw().to_owned()),
            Kind::Null | Kind::Array | Kind::Object => self.is_mixed = true,
        }
    }

    fn add_number(&mut self, value: Value<'_>) {
        let Some(number) = value.as_decimal() else {
            self.is_mixed = true;
            return;
        };
        self.remember(number.to_string());
        if self.least.as_ref().is_none_or(|least| number < *least) {
            self.least = Some(number.clone());
        }
        if self.most.as_ref().is_none_or(|most| number > *most) {
            self.most = Some(number);
        }
    }

    fn add_text(&mut self, text: &str) {
        if text.len() <= LONGEST_LISTED {
            self.remember(quote(text))
        } else {
            self.distinct = None
        }
        self.prefix = Some(match self.prefix.take() {
            None => text.chars().take(LONGEST_PREFIX).collect(),
            Some(prefix) => common(&prefix, text).to_owned(),
        });
        self.are_paths &= is_plain_path(text);
        if let Some(hosts) = &mut self.hosts {
            match plain_host(text) {
                Some(host) => drop(hosts.insert(host.to_ascii_lowercase())),
                None => self.hosts = None,
            }
        }
        if self.hosts.as_ref().is_some_and(|hosts| hosts.len() > MOST_LISTED) {
            self.hosts = None;
        }
    }

    fn remember(&mut self, text: String) {
        if let Some(distinct) = &mut self.distinct {
            distinct.insert(text);
            if distinct.len() > MOST_LISTED {
                self.distinct = None;
            }
        }
    }

    /// What of all calls so far could be asked of the next one; `None` where nothing can.
    pub fn bound(&self) -> Option<Bound> {
        if self.is_mixed {
            return None;
        }
        let few = self.distinct.as_ref().filter(|distinct| distinct.len() as u64 * 2 <= self.count);
        if let Some(distinct) = few {
            let list = format!("[{}]", distinct.iter().cloned().collect::<Vec<_>>().join(", "));
            let seen = format!("{} in {}", counted(distinct.len() as u64, "value"), counted(self.count, "use"));
            return Some(Bound { holds: Some(("in", list.clone())), fails: vec![("not_in", list)], seen });
        }
        match self.kind {
            Some(Kind::Number) => {
                let (least, most) = (self.least.as_ref()?.to_string(), self.most.as_ref()?.to_string());
                let seen = format!("from {least} to {most}");
                Some(Bound { holds: None, fails: vec![("lt", least), ("gt", most)], seen })
            }
            Some(Kind::String) => self.of_texts(),
            Some(Kind::Null | Kind::Bool | Kind::Array | Kind::Object) | None => None,
        }
    }

    fn of_texts(&self) -> Option<Bound> {
        let bound = |operator, value, seen| Some(Bound { holds: Some((operator, value)), fails: Vec::new(), seen });
        if let Some(hosts) = self.hosts.as_ref().filter(|hosts| !hosts.is_empty()) {
            let hosts: Vec<String> = hosts.iter().map(|host| quote(host)).collect();
            return bound("host_in", format!("[{}]", hosts.join(", ")), "URLs of these hosts".to_owned());
        }
        let prefix = self.prefix.as_deref().unwrap_or_default();
        // Where all have a directory in common, its name ends with the slash.
        let directory = prefix.rfind('/').map(|slash| &prefix[..slash]).filter(|directory| !directory.is_empty());
        if let Some(directory) = directory.filter(|_| self.are_paths) {
            return bound("path_within", format!("[{}]", quote(directory)), "paths in this directory".to_owned());
        }
        // One text alone has no beginning in common with anything.
        let is_common = self.distinct.as_ref().is_none_or(|distinct| distinct.len() > 1);
        (is_common && prefix.chars().count() >= SHORTEST_PREFIX)
            .then(|| bound("starts_with", quote(prefix), "texts that begin alike".to_owned()))?
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What both texts begin with.
fn common<'t>(one: &'t str, other: &str) -> &'t str {
    let same = one.char_indices().zip(other.chars()).find(|((_, a), b)| a != b).map(|((at, _), _)| at);
    let end = same.unwrap_or_else(|| one.len().min(other.len()));
    &one[..end]
}

/// Whether `path_within` reads it, beyond any doubt.
fn is_plain_path(text: &str) -> bool {
    let plain = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.+@".contains(&byte))
            && !part.starts_with("..")
            && !part.ends_with('.')
    };
    text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|part| !part.is_empty() && plain(part)))
}

/// The host of a URL that `host_in` reads, beyond any doubt.
fn plain_host(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_name = host.contains('.') && host.split('.').all(label) && host.ends_with(|c: char| c.is_ascii_alphabetic());
    let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./~?=&+,".contains(&byte));
    (is_name && is_plain).then_some(host)
}

/// More distinct values are no list.
const MOST_LISTED: usize = 8;
/// Longer texts are not listed, in bytes.
const LONGEST_LISTED: usize = 64;
/// A longer beginning is not looked for, in characters.
const LONGEST_PREFIX: usize = 128;
/// A shorter one says nothing.
const SHORTEST_PREFIX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use json::{Document, Strictness};

    #[track_caller]
    fn check(values: &str, expected: Option<&str>) {
        let document = Document::parse(values.to_owned(), Strictness::Reply).unwrap();
        let mut seen = Values::default();
        document.root().elements().unwrap().for_each(|value| seen.add(value));
        let bound = seen.bound().map(|bound| match bound.holds {
            Some((operator, value)) => format!("{operator} {value}"),
            None => bound.fails.iter().map(|(operator, value)| format!("not {operator} {value}")).collect::<Vec<_>>().join(", "),
        });
        assert_eq!(bound.as_deref(), expected, "{values}");
    }

    #[test]
    fn few_values_are_listed_and_many_are_bounded() {
        check(r#"["a","b","a","b"]"#, Some(r#"in ["a", "b"]"#));
        check("[true,true]", Some("in [true]"));
        check("[true,false]", None);
        check("[5,5,5]", Some("in [5]"));
        check("[5,7,1.50]", Some("not lt 1.5, not gt 7"));
        check(r#"["one","two"]"#, None);
        check(r#"["only once"]"#, None);
        check(r#"["a",5,"a",5]"#, None);
        check("[[1],[1]]", None);
    }

    #[test]
    fn texts_are_bounded_by_what_they_have_in_common() {
        check(r#"["/srv/data/a.txt","/srv/data/b/c.txt"]"#, Some(r#"path_within ["/srv/data"]"#));
        check(r#"["/srv/data/a.txt"]"#, Some(r#"path_within ["/srv/data"]"#));
        check(r#"["/srv/a","/etc/b"]"#, None);
        check(r#"["/srv/data/a","/srv/data/../b"]"#, Some(r#"starts_with "/srv/data/""#));
        check(r#"["https://a.example/x","https://B.example"]"#, Some(r#"host_in ["a.example", "b.example"]"#));
        check(r#"["https://a.example/x","https://u@b.example/"]"#, Some(r#"starts_with "https://""#));
        check(r#"["run-17","run-18"]"#, Some(r#"starts_with "run-1""#));
        check(r#"["run-17"]"#, None);
    }

    #[test]
    fn what_was_redacted_bounds_nothing() {
        check(r#"["[hmac:0123456789abcdef]","[hmac:0123456789abcdef]"]"#, None);
    }
}
