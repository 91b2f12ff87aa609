//! Which crate may know which.
//!
//! The table below is the crate table of ARCHITECTURE.md as data. It is compared with `cargo metadata`, so a dependency
//! that breaks the layering fails here and not in a review. Development dependencies are free: a test may know anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use serde_json::Value;

use crate::imports;
use crate::workspace::Workspace;

/// One crate of the workspace, and what it may and may not reach.
struct Layer {
    name: &'static str,
    /// The crates of the workspace that it may name in its dependencies.
    may_use: &'static [&'static str],
    /// The crates that must not be in its tree at all, however they would get there.
    never: &'static [&'static str],
}

const LAYERS: &[Layer] = &[
    Layer { name: "callgate-json", may_use: &[], never: PURE },
    Layer { name: "callgate-policy", may_use: &["callgate-json"], never: PURE },
    // `http` is the vocabulary of headers, without input or output; `hyper` would be a transport.
    Layer { name: "callgate-mcp", may_use: &["callgate-json"], never: PURE },
    Layer { name: "callgate-store", may_use: &["callgate-json", "callgate-policy"], never: &["hyper", "http"] },
    // What it says of a definition is the same whoever asks: no state, no network.
    Layer { name: "callgate-catalogue", may_use: &["callgate-json", "callgate-policy"], never: PURE },
    // A file and what is in it; who asks servers is the caller's to say.
    Layer {
        name: "callgate-collection",
        may_use: &["callgate-json", "callgate-policy", "callgate-catalogue"],
        never: &["tokio", "hyper", "rustls"],
    },
    // From a path to a text; sockets and files are the caller's.
    Layer {
        name: "callgate-pages",
        may_use: &["callgate-json", "callgate-catalogue", "callgate-collection"],
        never: &["tokio", "hyper", "rustls"],
    },
    // Files of other programs: nothing of ours is in them.
    Layer { name: "callgate-clients", may_use: &[], never: PURE },
    Layer {
        name: "callgate-gateway",
        may_use: &["callgate-json", "callgate-policy", "callgate-mcp", "callgate-store", "callgate-catalogue"],
        never: &["clap", "maud", "axum"],
    },
    Layer {
        name: "callgate-cli",
        may_use: &[
            "callgate-json",
            "callgate-policy",
            "callgate-mcp",
            "callgate-store",
            "callgate-catalogue",
            "callgate-clients",
            "callgate-collection",
            "callgate-pages",
            "callgate-gateway",
        ],
        never: &["axum", "rmcp"],
    },
    // SQLite is in it to read what the operator for SQL lets through.
    Layer {
        name: "callgate-fuzz-targets",
        may_use: &["callgate-json", "callgate-policy", "callgate-mcp", "callgate-catalogue"],
        never: &["tokio", "hyper", "rustls", "async-std", "mio"],
    },
    // A fixture of the conformance suite: it must be another's work than the gateway, or both would err alike.
    Layer { name: "everything-server", may_use: &[], never: &["axum", "rusqlite"] },
    // Another fixture, for the same reason: what it reads and we do not must show.
    Layer { name: "rmcp-reader", may_use: &[], never: &["axum", "rusqlite"] },
    // What tests of every crate share.
    Layer { name: "scratch", may_use: &[], never: PURE },
    // It measures from outside, so that what it measures is the binary that people run.
    Layer { name: "callgate-bench", may_use: &["callgate-json", "callgate-policy", "callgate-mcp"], never: &["tokio", "hyper"] },
    Layer { name: "xtask", may_use: &["callgate-json", "callgate-policy", "callgate-catalogue"], never: &["tokio"] },
];

/// What a crate without input and output does without.
const PURE: &[&str] = &["tokio", "hyper", "rustls", "rusqlite", "async-std", "mio"];

/// Holds every crate of the workspace against the table, and looks for import cycles inside each.
///
/// # Errors
/// Every finding, one a line.
pub fn check(workspace: &Workspace) -> Result<String, String> {
    let mut findings = Vec::new();
    let graph = Graph::of(workspace);
    let mut crates = 0;
    for package in workspace.members() {
        let name = text(&package["name"]);
        crates += 1;
        match LAYERS.iter().find(|layer| layer.name == name) {
            Some(layer) => findings.extend(against(layer, package, &graph)),
            None => findings.push(format!("`{name}` has no row in the table of xtask/src/layers.rs: say there what it may use")),
        }
        if let Some(directory) = Path::new(text(&package["manifest_path"])).parent() {
            findings.extend(imports::cycles(directory)?.into_iter().map(|cycle| format!("{name}: {cycle}")));
        }
    }
    if findings.is_empty() {
        return Ok(format!("layers: {crates} crates keep to the table, no import cycles"));
    }
    Err(format!("{} of the layering:\n  {}", plural(findings.len(), "breach", "breaches"), findings.join("\n  ")))
}

fn against(layer: &Layer, package: &Value, graph: &Graph) -> Vec<String> {
    let mut findings = Vec::new();
    for used in direct(package).filter(|used| LAYERS.iter().any(|other| other.name == *used)) {
        if !layer.may_use.contains(&used) {
            findings
                .push(format!("`{}` depends on `{used}`, which it must not know: see the table of ARCHITECTURE.md", layer.name));
        }
    }
    for banned in layer.never {
        if let Some(path) = graph.path(text(&package["id"]), banned) {
            findings.push(format!("`{}` must build without `{banned}`, and reaches it: {}", layer.name, path.join(" → ")));
        }
    }
    findings
}

/// What a package names under `[dependencies]` and `[build-dependencies]`.
fn direct(package: &Value) -> impl Iterator<Item = &str> {
    let all = package["dependencies"].as_array().into_iter().flatten();
    all.filter(|dependency| dependency["kind"] != "dev").map(|dependency| text(&dependency["name"]))
}

/// The resolved dependency graph without development dependencies, by package id.
struct Graph<'m> {
    names: BTreeMap<&'m str, &'m str>,
    edges: BTreeMap<&'m str, Vec<&'m str>>,
}

impl<'m> Graph<'m> {
    fn of(workspace: &'m Workspace) -> Self {
        let names = workspace.packages().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let nodes = workspace.metadata["resolve"]["nodes"].as_array();
        let edges = nodes.into_iter().flatten().map(|node| (text(&node["id"]), used(node))).collect();
        Self { names, edges }
    }

    /// The shortest way from a package to one of this name, as names, both ends included.
    fn path(&self, from: &'m str, to: &str) -> Option<Vec<&'m str>> {
        let mut came_from = BTreeMap::new();
        let mut seen = BTreeSet::from([from]);
        let mut waiting = VecDeque::from([from]);
        while let Some(id) = waiting.pop_front() {
            if id != from && self.names.get(id) == Some(&to) {
                let back = std::iter::successors(Some(id), |id| came_from.get(id).copied());
                let mut path: Vec<_> = back.filter_map(|id| self.names.get(id).copied()).collect();
                path.reverse();
                return Some(path);
            }
            for next in self.edges.get(id).into_iter().flatten() {
                if seen.insert(next) {
                    came_from.insert(*next, id);
                    waiting.push_back(next);
                }
            }
        }
        None
    }
}

fn used(node: &Value) -> Vec<&str> {
    let wanted = |dependency: &&Value| {
        dependency["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"] != "dev"))
    };
    node["deps"].as_array().into_iter().flatten().filter(wanted).map(|dependency| text(&dependency["pkg"])).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::PathBuf;

    /// A workspace of one crate that names `dependency`, which names `below`.
    fn workspace(name: &str, dependency: &str, kind: Option<&str>, below: &str) -> Workspace {
        let package = |name: &str, dependencies: Value| json!({"id": name, "name": name, "manifest_path": "/nowhere/Cargo.toml", "dependencies": dependencies});
        let node = |id: &str, deps: Value| json!({"id": id, "deps": deps});
        let metadata = json!({
            "workspace_members": [name],
            "packages": [package(name, json!([{"name": dependency, "kind": kind}])), package(dependency, json!([])), package(below, json!([]))],
            "resolve": {"nodes": [
                node(name, json!([{"pkg": dependency, "dep_kinds": [{"kind": kind}]}])),
                node(dependency, json!([{"pkg": below, "dep_kinds": [{"kind": null}]}])),
                node(below, json!([])),
            ]},
        });
        Workspace { root: PathBuf::new(), target: PathBuf::new(), metadata }
    }

    #[track_caller]
    fn finds(workspace: &Workspace, expected: &str) {
        let found = check(workspace).expect_err("a breach");
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn a_lower_crate_may_not_know_a_higher_one() {
        finds(&workspace("callgate-policy", "callgate-store", None, "x"), "`callgate-policy` depends on `callgate-store`");
    }

    #[test]
    fn a_pure_crate_may_not_reach_tokio_by_any_way() {
        finds(&workspace("callgate-mcp", "innocent", None, "tokio"), "callgate-mcp → innocent → tokio");
    }

    #[test]
    fn a_test_may_know_anything() {
        assert!(check(&workspace("callgate-mcp", "innocent", Some("dev"), "tokio")).is_ok());
    }

    #[test]
    fn a_crate_without_a_row_is_a_finding() {
        finds(&workspace("callgate-new", "innocent", None, "x"), "`callgate-new` has no row");
    }
}
