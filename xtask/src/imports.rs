//! Import cycles between the top-level modules of a crate.
//!
//! Two modules that use each other are one module in two files. The edges come from paths that start at the crate's root
//! (`crate::name`, and `super::…` where that reaches the root) in code that is not a test. A name that the root only
//! passes on (`pub use model::Policy;`) counts as its module. The root itself may use everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::source;

/// From a module to the module it uses, with the first place where it does.
type Edges = BTreeMap<(String, String), String>;

/// The cycles of the crate in this directory, each told by the imports that make it.
///
/// # Errors
/// When a source file cannot be read.
pub fn cycles(directory: &Path) -> Result<Vec<String>, String> {
    let sources = directory.join("src");
    let Some(root) = ["lib.rs", "main.rs"].iter().map(|name| sources.join(name)).find(|path| path.exists()) else {
        return Ok(Vec::new());
    };
    let reexports = reexports(&source::code(&read(&root)?));
    let mut modules = Vec::new();
    for file in rust_files(&sources)? {
        let inside = file.strip_prefix(&sources).unwrap_or(&file);
        let path = module_path(inside);
        // `main.rs` beside a `lib.rs` and programs under `bin` are crates of their own; a file of tests is a test.
        if path.is_empty() || path[0] == "bin" || path.iter().any(|part| part == "tests") {
            continue;
        }
        modules.push((path, inside.to_path_buf(), source::code(&read(&file)?)));
    }
    let names: BTreeSet<&str> = modules.iter().map(|(path, _, _)| path[0].as_str()).collect();

    let mut edges = Edges::new();
    for (path, file, code) in &modules {
        for (at, name) in root_names(code, path.len()) {
            let used = reexports.get(name).map_or(name, String::as_str);
            if used != path[0] && names.contains(used) {
                let line = code[..at].matches('\n').count() + 1;
                edges.entry((path[0].clone(), used.to_owned())).or_insert_with(|| format!("{}:{line}", file.display()));
            }
        }
    }
    Ok(cyclic(&edges))
}

/// One line for each pair of modules that can reach each other and where one names the other.
fn cyclic(edges: &Edges) -> Vec<String> {
    let reaches = |from: &str, to: &str| {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![from]);
        while let Some(module) = waiting.pop() {
            for (_, next) in edges.keys().filter(|(user, _)| user == module) {
                if next == to {
                    return true;
                }
                if seen.insert(next.as_str()) {
                    waiting.push(next);
                }
            }
        }
        false
    };
    let back = edges.iter().filter(|((from, to), _)| reaches(to, from));
    back.map(|((from, to), place)| {
        format!("`{from}` uses `{to}` ({place}), which uses `{from}`: break the cycle or make them one")
    })
    .collect()
}

/// Each place in the code where a path begins at the crate's root, with the first name after it.
///
/// `depth` is how many `super`s lead from the file's module to the root.
fn root_names(code: &str, depth: usize) -> Vec<(usize, &str)> {
    let climb = "super::".repeat(depth);
    let mut found = Vec::new();
    for start in ["crate::", climb.as_str()] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|last| last.is_alphanumeric() || matches!(last, '_' | ':' | '$')) {
                continue;
            }
            found.extend(first_names(&code[at + start.len()..]).into_iter().map(|name| (at, name)));
        }
    }
    found
}

/// The name a path goes on with, or the first names of each branch of a `{…}` group.
fn first_names(path: &str) -> Vec<&str> {
    let path = path.trim_start();
    let Some(group) = path.strip_prefix('{') else {
        return word(path).into_iter().collect();
    };
    let (mut names, mut depth, mut fresh) = (Vec::new(), 0_usize, true);
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => break,
            b'}' => depth -= 1,
            b',' if depth == 0 => fresh = true,
            _ if byte.is_ascii_whitespace() => {}
            _ if fresh && depth == 0 => {
                names.extend(word(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

fn word(text: &str) -> Option<&str> {
    let end = text.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(text.len());
    (end > 0 && !matches!(&text[..end], "super" | "self")).then(|| &text[..end])
}

/// What the root passes on (`pub use module::{…}`): each name in the statement, and the module it comes from.
fn reexports(root: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for statement in root.split(';') {
        let Some((before, path)) = statement.split_once("use ") else { continue };
        let passed_on = before.rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with("pub"));
        let path = path.trim().trim_start_matches("crate::").trim_start_matches("self::");
        if let (true, Some((module, names))) = (passed_on, path.split_once("::")) {
            let words = names.split(|next: char| !next.is_alphanumeric() && next != '_');
            found.extend(words.filter(|word| !word.is_empty()).map(|word| (word.to_owned(), module.to_owned())));
        }
    }
    found
}

/// The module that a file below `src` is: `a/b.rs` and `a/b/mod.rs` are `[a, b]`, the roots are `[]`.
fn module_path(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> = file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") || matches!(parts.as_slice(), [only] if only == "lib" || only == "main") {
        parts.pop();
    }
    parts
}

fn rust_files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error| format!("cannot list {}: {error}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn names(code: &str, depth: usize, expected: &[&str]) {
        let found: Vec<&str> = root_names(code, depth).into_iter().map(|(_, name)| name).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_path_from_the_root_names_a_module() {
        names("use crate::window::Window;", 1, &["window"]);
        names("let x = crate::amount::ZERO; other::crate_like::y", 1, &["amount"]);
        names("use crate::{model::{Rule, Limit}, window, amount as a};", 1, &["model", "window", "amount"]);
    }

    #[test]
    fn super_counts_only_where_it_reaches_the_root() {
        names("use super::window;", 1, &["window"]);
        names("use super::sibling; use super::super::window;", 2, &["window"]);
    }

    #[test]
    fn what_the_root_passes_on_is_its_modules() {
        let found = reexports(
            "mod model;\nmod window;\npub use model::{Policy, Rule as R};\npub(crate) use window::Window;\nuse other::Thing;",
        );
        assert_eq!(found.get("Policy").map(String::as_str), Some("model"));
        assert_eq!(found.get("R").map(String::as_str), Some("model"));
        assert_eq!(found.get("Window").map(String::as_str), Some("window"));
        assert_eq!(found.get("Thing"), None);
    }

    #[test]
    fn a_cycle_is_told_by_both_its_imports() {
        let edge = |from: &str, to: &str| ((from.to_owned(), to.to_owned()), format!("{from}.rs:1"));
        let edges = Edges::from([edge("a", "b"), edge("b", "c"), edge("c", "b"), edge("c", "d")]);
        let found = cyclic(&edges);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("`b` uses `c` (b.rs:1)"), "{found:?}");
    }
}
