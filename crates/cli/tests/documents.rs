//! The documents say what the code says: methods, reasons, codes, commands, policies, names of tests, links.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(place: &str) -> String {
    fs::read_to_string(root().join(place)).unwrap_or_else(|error| panic!("{place}: {error}"))
}

/// The cells of the rows of the first table whose head is `head`.
fn table(place: &str, head: &str) -> Vec<Vec<String>> {
    let text = read(place);
    let rows = text.lines().skip_while(|line| *line != head).skip(2).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "{place} has no table `{head}`");
    rows
}

/// Every Markdown file of ours, by its place.
fn pages() -> Vec<String> {
    let mut pages = Vec::new();
    for directory in ["", "docs", "docs/policy", "examples/healthomics"] {
        for entry in fs::read_dir(root().join(directory)).expect("a directory") {
            let name = entry.expect("a file").file_name().into_string().expect("a plain name");
            if name.ends_with(".md") {
                pages.push(if directory.is_empty() { name } else { format!("{directory}/{name}") });
            }
        }
    }
    pages.sort();
    pages
}

/// The texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_table_of_methods_is_the_table_of_the_code() {
    let written = table("docs/wire.md", "| method | kind | from | revisions | route |");
    let known: Vec<Vec<String>> = mcp::METHODS
        .iter()
        .map(|method| {
            let (first, last) = method.revisions;
            let revisions = if first == last { first.to_string() } else { format!("{first} to {last}") };
            let kind = if method.is_request { "request" } else { "notification" };
            let from = format!("{:?}", method.from).to_lowercase();
            vec![format!("`{}`", method.name), kind.to_owned(), from, revisions, format!("{:?}", method.route)]
        })
        .collect();
    assert_eq!(written, known);
}

#[test]
fn a_policy_can_name_every_method_that_has_no_rules_of_its_own() {
    // Calls and lists of tools, and what servers ask for, have sections of their own.
    let elsewhere = ["tools/call", "tools/list", "sampling/createMessage", "elicitation/create", "roots/list"];
    let known: BTreeSet<&str> = mcp::METHODS.iter().map(|method| method.name).filter(|name| !elsewhere.contains(name)).collect();
    let named: BTreeSet<&str> = policy::METHOD_NAMES.iter().chain(policy::PROTOCOL_METHODS).copied().collect();
    assert_eq!(named, known);
}

#[test]
fn every_reason_is_documented() {
    let written: Vec<String> = table("docs/errors.md", "| code | why |").into_iter().map(|mut row| row.swap_remove(0)).collect();
    let known: Vec<String> = policy::Reason::ALL.iter().map(|reason| format!("`{reason}`")).collect();
    assert_eq!(written, known);
}

#[test]
fn every_diagnostic_has_its_section_in_the_book() {
    let source = read("crates/policy/src/problem.rs");
    let known: BTreeSet<&str> = source.split('"').filter(|text| text.len() == 4 && text.starts_with('P')).collect();
    assert!(known.len() > 30, "the codes are not where they were");
    let page = read("docs/policy/16-mistakes.md");
    for code in known {
        // What cannot even be read can be described, but not shown in a block.
        let found = page.contains(&format!(" {code} ")) || code == "P000" && page.contains("### P000: ");
        assert!(found, "chapter 16 has no example of {code}");
    }
}

#[test]
fn every_command_is_in_the_readme() {
    let written: BTreeSet<String> = table("README.md", "| command | does |")
        .iter()
        .flat_map(|row| quoted(&row[0]).map(|command| command.trim_start_matches("callgate ").to_owned()).collect::<Vec<_>>())
        .collect();
    let help = Command::new(env!("CARGO_BIN_EXE_callgate")).arg("--help").output().expect("callgate starts");
    let help = String::from_utf8(help.stdout).expect("help is text");
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let named = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let known: BTreeSet<String> =
        named.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect();
    assert_eq!(written, known);
}

#[test]
fn policies_in_pages_load_without_a_warning() {
    let mut found = 0;
    for page in ["README.md", "docs/audit.md", "docs/wire.md"] {
        for block in read(page).split("```yaml\n").skip(1) {
            let text = block.split("```").next().unwrap_or_default();
            let loaded = policy::load(&policy::Source::new(page, text));
            assert!(loaded.problems.is_empty(), "{page}: {:?}", loaded.problems);
            found += 1;
        }
    }
    assert!(found > 0);
}

#[test]
fn the_tests_that_a_promise_names_exist() {
    let promises = read("SECURITY.md") + &read("docs/verification.md");
    let named: Vec<_> =
        quoted(&promises).filter_map(|text| text.split_once("::")).filter(|(file, _)| file.ends_with(".rs")).collect();
    assert!(named.len() > 60);
    for (file, test) in named {
        let source = read(file);
        assert!(source.contains(&format!("{test}(")) || source.contains(&format!("{test}:")), "{file} has no test `{test}`");
    }
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = read(&page);
        let directory = root().join(&page).parent().expect("a file is in a directory").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, place) = target.split_once('#').unwrap_or((target, ""));
            if file.contains("://") {
                continue;
            }
            let path = if file.is_empty() { root().join(&page) } else { directory.join(file) };
            assert!(path.exists(), "{page}: the link to {target} leads nowhere");
            if !place.is_empty() {
                let headings = fs::read_to_string(&path).unwrap_or_default();
                let found = headings.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == place);
                assert!(found, "{page}: there is no heading for {target}");
            }
        }
    }
}

/// The anchor that a heading gets: lower case, spaces as dashes, other signs left out.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
