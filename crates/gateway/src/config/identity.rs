//! `identity`: callers who show a token of an authorization server.

use super::reading::{Reading, code};
use crate::fetch::is_safe;
use crate::identity::{Algorithm, ClaimMapping, IdentityConfig};
use crate::tls::UpstreamTls;
use policy::{Kind, Node};
use std::collections::BTreeMap;
use std::time::Duration;

/// The keys of `identity`.
pub(crate) const KEYS: &[&str] = &["issuer", "audience", "jwks", "ca", "algorithms", "types", "leeway", "once", "grants"];
/// The keys of a mapping.
pub(crate) const MAPPING_KEYS: &[&str] = &["grant", "claims", "principal"];

const LEEWAY: Duration = Duration::from_secs(30);
const MAX_LEEWAY: Duration = Duration::from_secs(5 * 60);

pub(super) fn read(reading: &mut Reading<'_>, node: &Node, grants: &[&str]) -> Option<IdentityConfig> {
    let fields = reading.fields(node, "`identity`", KEYS)?;
    let issuer = reading.required(&fields, "issuer", "`identity`").and_then(|node| address(reading, node, "`issuer`"));
    let audience = reading.required(&fields, "audience", "`identity`");
    let audience = audience.map(|node| reading.names(node, "`audience`", "an audience")).unwrap_or_default();
    let jwks = fields.get("jwks").map(|node| address(reading, node, "`jwks`"));
    let authorities = fields.get("ca").map(|node| reading.file(node, "`ca`"));
    let algorithms = fields.get("algorithms").map(|node| {
        let named = reading.list(node, "`algorithms`");
        named.iter().filter_map(|node| reading.word(node, "`algorithm`", &Algorithm::ALL)).collect()
    });
    let types = fields.get("types").map(|node| reading.names(node, "`types`", "a type"));
    let leeway = fields.get("leeway").and_then(|node| {
        let leeway = reading.span(node, "`leeway`")?;
        if leeway > MAX_LEEWAY {
            reading.expected(&node.at, "`leeway`", "at most `5m`");
        }
        Some(leeway)
    });
    let once = fields.get("once").and_then(|node| reading.boolean(node, "`once`"));
    let mappings = reading.required(&fields, "grants", "`identity`").map(|node| mappings(reading, node, grants));
    let authorities = match authorities {
        Some(file) => Some(file?),
        None => None,
    };
    Some(IdentityConfig {
        issuer: issuer?,
        audience,
        jwks: match jwks {
            Some(place) => Some(place?),
            None => None,
        },
        tls: UpstreamTls { authorities, certificate: None },
        algorithms: algorithms.unwrap_or_else(|| vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA]),
        types: types
            .map_or_else(|| vec!["at+jwt".to_owned()], |types| types.iter().map(|name| name.to_ascii_lowercase()).collect()),
        leeway: leeway.unwrap_or(LEEWAY),
        once: once.unwrap_or(false),
        grants: mappings.unwrap_or_default(),
    })
}

fn address(reading: &mut Reading<'_>, node: &Node, what: &str) -> Option<String> {
    let text = reading.string(node, what)?;
    if !is_safe(text) {
        reading.expected(&node.at, what, "an address that begins with `https://`");
        return None;
    }
    Some(text.to_owned())
}

fn mappings(reading: &mut Reading<'_>, node: &Node, grants: &[&str]) -> Vec<ClaimMapping> {
    let nodes = reading.list(node, "`grants` of `identity`");
    nodes.iter().filter_map(|node| mapping(reading, node, grants)).collect()
}

fn mapping(reading: &mut Reading<'_>, node: &Node, grants: &[&str]) -> Option<ClaimMapping> {
    let fields = reading.fields(node, "a mapping of claims", MAPPING_KEYS)?;
    let grant = reading.required(&fields, "grant", "a mapping of claims");
    let grant = grant.and_then(|node| {
        let name = reading.string(node, "`grant`")?;
        if !grants.contains(&name) {
            reading.error(code::UNKNOWN, &node.at, format!("there is no grant `{}` in this file", policy::shown(name)));
        }
        Some(name.to_owned())
    });
    let mut claims = BTreeMap::new();
    if let Some(node) = reading.required(&fields, "claims", "a mapping of claims") {
        match &node.kind {
            Kind::Object(members) if !members.is_empty() => {
                for member in members {
                    claims.insert(member.key.clone(), reading.names(&member.value, "a claim", "a value of a claim"));
                }
            }
            _ => reading.expected(&node.at, "`claims`", "a mapping of claims to what they must say"),
        }
    }
    let principal = fields.get("principal").and_then(|node| reading.string(node, "`principal`")).map(str::to_owned);
    Some(ClaimMapping { grant: grant?, claims, principal })
}
