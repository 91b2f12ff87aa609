//! `methods`: the official schemas, read again, against the list of methods that the tests hold the method table to.
//!
//! The npm package `@modelcontextprotocol/conformance` carries the schemas of the latest revisions as literals in its one
//! bundled file, the oldest first. Of each, four unions say who sends what, and a definition its method's name.

use crate::workspace::Workspace;
use std::collections::BTreeSet;

const LIST: &str = "crates/mcp/tests/data/methods.txt";
const UNIONS: [(&str, &str); 4] = [
    ("ClientRequest", "client request"),
    ("ClientNotification", "client notification"),
    ("ServerRequest", "server request"),
    ("ServerNotification", "server notification"),
];

/// Compares the schemas in a bundled file with our list.
pub fn check(workspace: &Workspace, bundle: &str) -> Result<String, String> {
    let place = workspace.root.join(LIST);
    let list = std::fs::read_to_string(&place).map_err(|error| format!("{LIST}: {error}"))?;
    let listed: BTreeSet<String> = list.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let text = std::fs::read_to_string(bundle).map_err(|error| format!("{bundle}: {error}"))?;
    // Quotes of any kind and white space tell nothing here.
    let text: String = text.chars().filter(|c| !c.is_whitespace() && !"\"'`".contains(*c)).collect();
    let is_schema = |at: &usize| [",definitions:{", ",$defs:{"].iter().any(|key| text_from(&text, *at, 90).contains(key));
    let begins = text.match_indices("={$schema:http").map(|(at, _)| at).filter(is_schema);
    let schemas: Vec<&str> = begins.map(|at| &text[at..]).collect();
    let revisions: BTreeSet<&str> = listed.iter().filter_map(|line| line.split(' ').next()).collect();
    if schemas.len() < 2 || schemas.len() > revisions.len() {
        return Err(format!("{bundle} has {} schemas: is it dist/index.js of the package?", schemas.len()));
    }
    let mut findings = Vec::new();
    for (at, revision) in revisions.iter().rev().take(schemas.len()).rev().enumerate() {
        let end = schemas.get(at + 1).map_or(0, |next| next.len());
        let schema = &schemas[at][..schemas[at].len() - end];
        let found: BTreeSet<String> = methods(schema).into_iter().map(|method| format!("{revision} {method}")).collect();
        let ours: BTreeSet<String> = listed.iter().filter(|line| line.starts_with(revision)).cloned().collect();
        findings.extend(found.difference(&ours).map(|line| format!("{LIST} lacks: {line}")));
        findings.extend(ours.difference(&found).map(|line| format!("no schema has: {line}")));
    }
    if findings.is_empty() { Ok(format!("{} schemas agree with {LIST}", schemas.len())) } else { Err(findings.join("\n")) }
}

/// The methods of one schema: `client request ping`.
fn methods(schema: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (union, who) in UNIONS {
        let Some(body) = definition(schema, union) else { continue };
        // One member stands there by itself.
        let end =
            body.find(']').filter(|_| text_from(body, 0, 400).contains("anyOf:[")).unwrap_or_else(|| body.find('}').unwrap_or(0));
        for reference in body[..end].split("$ref:#/").skip(1) {
            let name = reference.split('}').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
            found.extend(definition(schema, name).and_then(method_of).map(|method| format!("{who} {method}")));
        }
        if found.iter().all(|line| !line.starts_with(who)) {
            found.extend(method_of(body).map(|method| format!("{who} {method}")));
        }
    }
    found
}

fn definition<'s>(schema: &'s str, name: &str) -> Option<&'s str> {
    let at = [format!("{{{name}:{{"), format!(",{name}:{{")].iter().filter_map(|key| schema.find(key)).min()?;
    Some(&schema[at..])
}

fn method_of(definition: &str) -> Option<String> {
    let method = definition.split_once("method:{")?.1.split_once('}')?.0;
    Some(method.split_once("const:")?.1.split(',').next()?.to_owned())
}

fn text_from(text: &str, at: usize, length: usize) -> &str {
    let end = (at..=text.len().min(at + length)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(at);
    &text[at..end]
}
