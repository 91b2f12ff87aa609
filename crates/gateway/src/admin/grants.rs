//! Grants, as the admin API shows them.

use super::documents::{View, common, document, inlined};
use crate::Secret;
use crate::config::summary;
use json::{Document as Json, Strictness, quote};
use store::{DocumentKind, rfc3339};

/// The text of a grant with its name in it, where it does not say that itself.
pub(super) fn named(name: &str, text: String) -> String {
    let says = |document: Json| document.root().get("name").is_some();
    if Json::parse(text.clone(), Strictness::Request).is_ok_and(says) {
        return text;
    }
    let Some((_, members)) = text.split_once('{') else { return text };
    let comma = if members.trim_start().starts_with('}') { "" } else { "," };
    format!("{{\"name\":{}{comma}{members}", quote(name))
}

/// One grant: whose it is, where it leads, whether it is in force. `token`: its new token, told once.
pub(super) fn shown(view: &View<'_>, name: &str, token: Option<&Secret>) -> Option<String> {
    let stored = view.kept.grants.iter().find(|grant| grant.name == name);
    let of_file = view.config.grants.iter().find(|grant| grant.name == name);
    let (principal, servers, expires, labels) = match (of_file, stored) {
        (Some(grant), _) => {
            (grant.principal.clone(), grant.servers.clone(), grant.expires, grant.labels.clone().into_iter().collect::<Vec<_>>())
        }
        (None, Some(stored)) => {
            let summary = summary(stored.spec.as_deref().unwrap_or_default());
            (summary.principal, summary.servers, summary.expires, summary.labels)
        }
        (None, None) => return None,
    };
    let state = if stored.is_some_and(|stored| stored.revoked.is_some()) {
        "revoked"
    } else if expires.is_some_and(|expires| expires <= view.now) {
        "expired"
    } else if view.whole.grant(name).is_none() {
        "left-out"
    } else {
        "active"
    };
    let urls: Vec<String> =
        servers.iter().map(|server| format!("{}:{}", quote(server), quote(&format!("{}/mcp/{server}", view.origin)))).collect();
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{}:{}", quote(name), quote(value))).collect();
    let token = token.map(|token| format!(r#","token":{}"#, quote(token.expose()))).unwrap_or_default();
    Some(format!(
        r#"{{{},"state":"{state}","principal":{},"servers":[{}],"expires":{},"labels":{{{}}},"url":{},"urls":{{{}}},"document":{}{token}}}"#,
        common(view, DocumentKind::Grant, name),
        quote(&principal),
        servers.iter().map(|server| quote(server)).collect::<Vec<_>>().join(","),
        expires.map_or_else(|| "null".to_owned(), |at| quote(&rfc3339(at))),
        labels.join(","),
        quote(&format!("{}/mcp", view.origin)),
        urls.join(","),
        inlined(document(view, DocumentKind::Grant, name).as_ref())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_need_not_say_its_own_name() {
        for (given, named_so) in [
            (r#" {"principal":"p"}"#, r#"{"name":"g","principal":"p"}"#),
            ("{ }", r#"{"name":"g" }"#),
            (r#"{"name":"h"}"#, r#"{"name":"h"}"#),
        ] {
            assert_eq!(named("g", given.to_owned()), named_so);
        }
    }
}
