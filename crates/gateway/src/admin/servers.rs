//! Servers, as the admin API shows them.

use super::documents::{View, common, document, inlined};
use crate::config::Target;
use json::quote;
use store::DocumentKind;

/// One server: how it is called, where clients find it, how it stands.
pub(super) fn shown(view: &View<'_>, name: &str) -> Option<String> {
    let (in_force, kept) = (view.whole.server(name), document(view, DocumentKind::Server, name));
    if in_force.is_none() && kept.is_none() {
        return None;
    }
    let target = in_force.map(|server| match server.target {
        Target::Http { .. } => "\"http\"",
        Target::Command { .. } => "\"command\"",
    });
    let standing = view.standings.iter().find(|(known, _)| known == name);
    Some(format!(
        r#"{{{},"url":{},"in_force":{},"target":{},"grants":[{}],"standing":{},"document":{}}}"#,
        common(view, DocumentKind::Server, name),
        quote(&format!("{}/mcp/{name}", view.origin)),
        in_force.is_some(),
        target.unwrap_or("null"),
        view.whole
            .grants
            .iter()
            .filter(|grant| grant.servers.iter().any(|server| server == name))
            .map(|grant| quote(&grant.name))
            .collect::<Vec<_>>()
            .join(","),
        standing.map_or("null", |(_, shown)| shown),
        inlined(kept.as_ref())
    ))
}
