//! Policies, as the admin API shows them.

use super::documents::{View, common, document};
use json::quote;
use policy::Policy;
use std::sync::Arc;
use store::DocumentKind;

/// One policy that the state keeps: its text, the revision that records name it by, and who is judged by it.
pub(super) fn shown(view: &View<'_>, name: &str) -> Option<String> {
    let kept = document(view, DocumentKind::Policy, name)?;
    let policy = view.whole.policies.get(name).and_then(|kept| kept.policy());
    let is_it = |other: &Arc<Policy>| policy.is_some_and(|policy| Arc::ptr_eq(policy, other));
    let servers = view.whole.servers.iter().filter(|server| server.policy.as_ref().is_some_and(is_it));
    let grants = view.whole.grants.iter().filter(|grant| grant.policies.iter().any(is_it));
    Some(format!(
        r#"{{{},"revision":{},"used_by":{{"servers":[{}],"grants":[{}]}},"text":{}}}"#,
        common(view, DocumentKind::Policy, name),
        policy.map_or_else(|| "null".to_owned(), |policy| quote(policy.revision())),
        servers.map(|server| quote(&server.name)).collect::<Vec<_>>().join(","),
        grants.map(|grant| quote(&grant.name)).collect::<Vec<_>>().join(","),
        quote(kept.text.as_deref().unwrap_or_default())
    ))
}
