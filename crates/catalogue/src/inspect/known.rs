//! Names of packages that imitate those of known servers.
//!
//! Whoever mistypes `npx -y @modelcontextprotocol/server-filesytem` starts a stranger with all rights of their own. The list
//! holds names of packages as registries have them; a name that stands in it is never suspected.

use super::{Flaw, Introduction, Suspicion, Weight};
use crate::names::look_alike;
use policy::visible;

/// Known packages.
const KNOWN: &str = include_str!("known.txt");

/// What the words by which a server is started have of a known name that is not theirs.
pub(super) fn imitations(server: &Introduction<'_>) -> Vec<Flaw> {
    let words = if server.origin.is_empty() { std::slice::from_ref(&server.name) } else { &server.origin };
    let known: Vec<&str> = KNOWN.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let named = words.iter().filter_map(|word| package(word)).filter(|name| !known.contains(name));
    let flaw = |name: &str| {
        let (weight, other) = known.iter().find_map(|other| Some((alike(name, other)?, other)))?;
        Some(Flaw {
            rule: Suspicion::ImitatesServer,
            weight,
            subject: None,
            path: String::new(),
            quote: visible(name).into_owned(),
            why: format!("a known server is called `{other}`"),
            span: None,
        })
    };
    named.take(MOST_WORDS).filter_map(flaw).collect()
}

const MOST_WORDS: usize = 100;

/// The name of a package in a word of a command, without its version: `@scope/name@1.2`, `name==1.2`.
fn package(word: &str) -> Option<&str> {
    let word = word.split("==").next()?;
    let end = word.char_indices().skip(1).find(|(_, c)| *c == '@').map_or(word.len(), |(at, _)| at);
    let name = &word[..end];
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '@' | '/' | '.' | '-' | '_') || !c.is_ascii();
    let is_path = name.starts_with(['/', '.', '-', '~']) || name.matches('/').count() > usize::from(name.starts_with('@'));
    (name.len() >= SHORTEST && !is_path && name.chars().all(is_name)).then_some(name)
}

/// How much one name is like another that it is not.
fn alike(name: &str, known: &str) -> Option<Weight> {
    let bare = |name: &str| name.to_lowercase().replace(['-', '_', '.', '@', '/'], "");
    let (a, b) = (bare(name), bare(known));
    if a == b || look_alike(name, known) {
        return Some(Weight::Dangerous);
    }
    // One slip; two in a long name.
    let most = if b.len() >= 20 { 2 } else { 1 };
    let near = a.len().abs_diff(b.len()) <= most && strsim::osa_distance(&a, &b) <= most;
    near.then_some(Weight::Doubtful)
}

/// Shorter names are like each other by chance.
const SHORTEST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, expected: Option<Weight>) {
        let server =
            Introduction { origin: vec!["npx".into(), "-y".into(), word.into(), "/srv/data".into()], ..Introduction::default() };
        assert_eq!(imitations(&server).first().map(|flaw| flaw.weight), expected, "{word}");
    }

    #[test]
    fn names_that_are_nearly_known_are_told() {
        check("@modelcontextprotocol/server-filesystem", None);
        check("@modelcontextprotocol/server-filesystem@2025.1.2", None);
        check("@modelcontextprotocol/server-filesytem", Some(Weight::Doubtful));
        check("@modelcontextprotoco1/server-filesystem", Some(Weight::Dangerous));
        check("@modelcontextprotocol-server/filesystem", Some(Weight::Dangerous));
        check("@playwrіght/mcp", Some(Weight::Dangerous));
        check("mcp_server_git", Some(Weight::Dangerous));
        check("my-own-server", None);
        check("/srv/mcp-server-git", None);
    }
}
