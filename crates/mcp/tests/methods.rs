//! The method table against the official schemas of every revision.

use mcp::{METHODS, Method, Revision, Side};

const FACTS: &str = include_str!("data/methods.txt");
const REVISIONS: [Revision; 5] =
    [Revision::V2024_11_05, Revision::V2025_03_26, Revision::V2025_06_18, Revision::V2025_11_25, Revision::V2026_07_28];

/// What the schemas do not have: the tasks extension of 2026-07-28 (`seps/2663-tasks-extension.md`).
const EXTENSIONS: [&str; 4] = [
    "2026-07-28 client request tasks/get",
    "2026-07-28 client request tasks/cancel",
    "2026-07-28 client request tasks/update",
    "2026-07-28 server notification notifications/tasks",
];

fn facts() -> Vec<&'static str> {
    FACTS.lines().filter(|line| !line.starts_with('#')).collect()
}

fn spelt(row: &Method, revision: Revision) -> String {
    let from = if row.from == Side::Client { "client" } else { "server" };
    let kind = if row.is_request { "request" } else { "notification" };
    format!("{revision} {from} {kind} {}", row.name)
}

fn rows() -> Vec<String> {
    let of = |row: &'static Method| {
        REVISIONS
            .into_iter()
            .filter(|revision| row.revisions.0 <= *revision && *revision <= row.revisions.1)
            .map(|r| spelt(row, r))
    };
    METHODS.iter().flat_map(of).collect()
}

#[test]
fn every_method_of_every_schema_has_a_row() {
    let rows = rows();
    let missing: Vec<_> = facts().into_iter().filter(|fact| !rows.iter().any(|row| row == fact)).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn every_row_is_in_a_schema_or_a_known_extension() {
    let facts = facts();
    let (known, strange): (Vec<_>, Vec<_>) = rows().into_iter().partition(|row| facts.contains(&row.as_str()));
    assert_eq!(strange.len(), EXTENSIONS.len(), "{strange:?}");
    assert!(strange.iter().all(|row| EXTENSIONS.contains(&row.as_str())), "{strange:?}");
    assert_eq!(known.len(), facts.len());
}
