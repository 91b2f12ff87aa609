//! The documents say what the code says: methods, reasons, codes, commands, policies, names of tests, links.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Scratch, callgate};

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
    for directory in ["", "docs", "docs/policy", "examples/healthomics", "tests"] {
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

/// Every block of YAML in the pages: whole policies, and sections of configurations. The policy book is run elsewhere, and the list
/// in the page of the catalog is no configuration.
#[test]
fn policies_and_sections_in_pages_are_read_without_a_warning() {
    let (mut policies, mut sections) = (0, 0);
    for page in pages().iter().filter(|page| !page.starts_with("docs/policy/") && *page != "docs/catalog.md") {
        for block in read(page).split("```yaml\n").skip(1) {
            let text = block.split("```").next().unwrap_or_default();
            if text.starts_with("version:") {
                let loaded = policy::load(&policy::Source::new(page, text));
                assert!(loaded.problems.is_empty(), "{page}: {:?}", loaded.problems);
                policies += 1;
            } else {
                check_section(page, text);
                sections += 1;
            }
        }
    }
    assert!(policies >= 2 && sections >= 10, "{policies} policies, {sections} sections");
}

/// Has a part of a configuration checked, with the least that it needs besides and with all that it refers to.
#[track_caller]
fn check_section(page: &str, text: &str) {
    let scratch = Scratch::new();
    // What lies elsewhere on a machine of theirs lies here.
    let mut whole = text.replace("file:/", "file:");
    let has = |key: &str| text.lines().any(|line| line.starts_with(&format!("{key}:")));
    let named = text.lines().skip_while(|line| *line != "servers:").find_map(|line| line.strip_prefix("  ")?.strip_suffix(':'));
    let server = named.unwrap_or("web");
    for (key, section) in [
        ("servers", "  web: {url: 'https://web.example.org/mcp', policy: open.yaml}\n".to_owned()),
        ("grants", ["ada", "readers"].map(|name| format!("  - {{name: {name}, principal: {name}, servers: [{server}], policy: open.yaml}}\n")).concat()),
        ("identity", "  {issuer: 'https://id.example.org', audience: us, types: [at+jwt, JWT], grants: [{grant: ada, claims: {sub: ada}}]}\n".to_owned()),
        ("authorizations", "  {key: env:KEY, url: 'https://mcp.example.org'}\n".to_owned()),
    ] {
        if !has(key) {
            whole.push_str(&format!("{key}:\n{section}"));
        }
    }
    scratch.write("open.yaml", "version: \"1\"\ndefault: deny\ntools: {echo: {}}\n");
    let references = |kind: &str| {
        let found =
            whole.split(kind).skip(1).map(|rest| rest.split([',', '}', ']', '"', '\'', ' ', '\n']).next().unwrap_or_default());
        found.filter(|name| !name.is_empty() && !name.contains('*')).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    for place in references("file:") {
        let path = scratch.path(&place);
        fs::create_dir_all(path.parent().expect("it is in a directory")).expect("a directory");
        fs::write(&path, if place.ends_with(".pem") { key.clone() } else { secret(&place) }).expect("a file");
    }
    let config = scratch.write("callgate.yaml", &whole);
    let variables = references("env:").into_iter().map(|name| (name.clone(), secret(&name)));
    let output = callgate().arg("check").arg(&config).envs(variables).output().expect("callgate starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !said.contains("warning"), "{page}: {said} in\n{whole}");
}

/// Good for whatever is referred to: long enough for a key, an address, and another's for each name.
fn secret(name: &str) -> String {
    format!("https://hooks.example.com/0123456789abcdef/{name}")
}

#[test]
fn the_tests_that_a_promise_names_exist_and_are_run() {
    let promises = read("SECURITY.md") + &read("docs/verification.md");
    let suite = read("xtask/src/suite.rs");
    let mut found = 0;
    for promise in promises.lines() {
        let tests = quoted(promise).filter_map(|text| text.split_once("::")).filter(|(file, _)| file.ends_with(".rs"));
        for (file, test) in tests {
            let standing = standing(&read(file), test).unwrap_or_else(|| panic!("{file} has no test `{test}`"));
            if standing == Standing::Ignored {
                // A step of the suite runs all of such a file, and whoever reads the promise is told which.
                let name = Path::new(file).file_stem().and_then(|name| name.to_str()).expect("a name");
                assert!(suite.contains(&format!("\"--test\", \"{name}\", \"--run-ignored\"")), "nobody runs `{test}`");
                assert!(promise.contains(&format!("`cargo xtask test {name}`")), "say what runs `{test}`: {promise}");
            }
            found += 1;
        }
    }
    assert!(found > 150, "{found}");
}

/// How a test is run.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// With all others.
    Run,
    /// When it is asked for.
    Ignored,
}

/// How a test of this name is run; `None` where there is none: a helper, or a name in a comment, is no test.
fn standing(source: &str, test: &str) -> Option<Standing> {
    let marked = |attributes: &str| {
        let is_test = attributes.contains("#[test]") || attributes.contains("#[tokio::test");
        is_test.then(|| if attributes.contains("#[ignore") { Standing::Ignored } else { Standing::Run })
    };
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let of_function = lines.iter().enumerate().filter(|(_, line)| {
        let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        rest.is_some_and(|rest| rest.strip_prefix(test).is_some_and(|rest| rest.starts_with('(')))
    });
    let attributes = |at: usize| {
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("///"));
        above.filter(|line| line.starts_with("#[")).copied().collect::<String>()
    };
    if let Some(standing) = of_function.map(|(at, _)| marked(&attributes(at))).find_map(|standing| standing) {
        return Some(standing);
    }
    // Or a row of a macro of the file's own, whose body says what each row becomes: `name,` or `name: …`.
    let body = source.split_once("macro_rules! ")?.1.split_once("\n}")?.0;
    let rows = lines.iter().filter_map(|line| line.strip_prefix(test));
    let is_row = rows.into_iter().any(|rest| rest == "," || rest.starts_with(": "));
    if is_row { marked(body) } else { None }
}

#[test]
fn what_is_no_test_is_not_taken_for_one() {
    let source = "/// Says so.\n#[test]\nfn one() {}\n#[test]\n#[ignore = \"long\"]\nfn two() {}\nfn three() {}\n// four(\nlet five = five();\n";
    assert_eq!(standing(source, "one"), Some(Standing::Run));
    assert_eq!(standing(source, "two"), Some(Standing::Ignored));
    for other in ["three", "four", "five", "on", "six"] {
        assert_eq!(standing(source, other), None, "{other}");
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
