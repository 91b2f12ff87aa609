//! `catalog diff`: what has changed between two versions of a server, or between two catalogs.

use super::browse::server;
use crate::arguments::CatalogDiff;
use crate::commands::pins::{in_json, told};
use crate::failure::{Failure, GENERAL, OK};
use crate::terminal::{Paint, visible};
use catalogue::{Difference, Pinned, compare};
use collection::{Collection, Page, Server};
use std::collections::BTreeMap;
use std::io::Write as _;

/// What has changed of one server.
struct Changed {
    name: String,
    differences: Vec<Difference>,
}

pub fn diff(arguments: &CatalogDiff) -> Result<u8, Failure> {
    let collection = Collection::open(&arguments.catalog.path)?;
    let changed = match &arguments.since {
        None => vec![of_versions(&collection, &arguments.servers)?],
        Some(path) => of_catalogs(&Collection::open(path)?, &collection, &arguments.servers)?,
    };
    let changed: Vec<Changed> = changed.into_iter().filter(|changed| !changed.differences.is_empty()).collect();
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let each = changed.iter().flat_map(|changed| changed.differences.iter().map(|one| in_json(&changed.name, one)));
        writeln!(out, r#"{{"same":{},"differences":[{}]}}"#, changed.is_empty(), each.collect::<Vec<_>>().join(","))?;
    } else if changed.is_empty() {
        writeln!(out, "nothing differs")?;
    } else {
        for Changed { name, differences } in &changed {
            write!(out, "{}", told(name, differences, Paint::stdout()))?;
        }
    }
    Ok(if changed.is_empty() { OK } else { GENERAL })
}

fn of_versions(collection: &Collection, names: &[String]) -> Result<Changed, Failure> {
    let (old, new) = match names {
        [old, new] => (server(collection, old)?, server(collection, new)?),
        [name] => {
            let new = server(collection, name)?;
            let versions = collection.versions(&new.facts.name)?;
            // Older ones come after it.
            let older = versions.into_iter().skip_while(|version| version.id != new.id).skip(1);
            let mut answered = older.filter(|version| version.facts.problem.is_none());
            let missing = || Failure::general(format!("the catalog has no older version of `{}`", visible(name)));
            (answered.next().ok_or_else(missing)?, new)
        }
        _ => return Err(Failure::usage("name a server, or an older catalog: `--since FILE`")),
    };
    let name = format!("{} → {}", old.designation(), new.designation());
    Ok(Changed { name, differences: compare(&said(collection, &old)?, &said(collection, &new)?, true) })
}

/// Of one that did not answer nothing can be compared.
fn said(collection: &Collection, server: &Server) -> Result<Pinned, Failure> {
    match &server.facts.problem {
        None => Ok(collection.pinned(server)?),
        Some(problem) => {
            let what = format!("`{}` was not captured: {}", visible(&server.designation()), visible(problem));
            Err(Failure::general(what))
        }
    }
}

/// The current servers of both, or those that are named.
fn of_catalogs(old: &Collection, new: &Collection, names: &[String]) -> Result<Vec<Changed>, Failure> {
    let listed = |collection: &Collection| -> Result<BTreeMap<String, Server>, Failure> {
        let servers = collection.servers("", Page::WHOLE)?.into_iter();
        let wanted = servers.filter(|server| names.is_empty() || names.contains(&server.facts.name));
        Ok(wanted.filter(|server| server.facts.problem.is_none()).map(|server| (server.facts.name.clone(), server)).collect())
    };
    let (before, after) = (listed(old)?, listed(new)?);
    if let Some(unknown) = names.iter().find(|name| !before.contains_key(*name) && !after.contains_key(*name)) {
        return Err(Failure::general(format!("neither catalog has a server `{}`", visible(unknown))));
    }
    let mut changed = Vec::new();
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    // What is not there says nothing, which is not the same as not having been asked.
    let nothing = || Pinned { instructions: Some(None), tools: Some(BTreeMap::new()), prompts: Some(BTreeMap::new()) };
    for name in names {
        let differences = match (before.get(name), after.get(name)) {
            (Some(one), Some(other)) if one.digest == other.digest => continue,
            (one, other) => {
                let one = one.map_or_else(|| Ok(nothing()), |server| old.pinned(server))?;
                let other = other.map_or_else(|| Ok(nothing()), |server| new.pinned(server))?;
                compare(&one, &other, true)
            }
        };
        changed.push(Changed { name: name.clone(), differences });
    }
    Ok(changed)
}
