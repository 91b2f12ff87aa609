//! Who may administer: names, and the tokens by which they are known.

use http::HeaderValue;
use ring::digest::{SHA256, digest};

/// One administrator.
#[derive(Clone)]
pub struct AdminCredential {
    /// Under which what it does is recorded, and by which policies name approvers.
    pub name: String,
    /// Whether it may change what the gateway does, and not only answer approvals and look.
    pub may_change: bool,
    digest: [u8; 32],
}

impl AdminCredential {
    /// Whether both are known by the same name, or by the same token.
    pub(crate) fn is_same(&self, other: &AdminCredential) -> bool {
        self.name == other.name || self.digest == other.digest
    }

    /// Known by `token`, of which only a digest is kept.
    pub fn new(name: impl Into<String>, token: &str) -> AdminCredential {
        AdminCredential { name: name.into(), may_change: true, digest: sha256(token) }
    }

    /// The same for somebody who answers approvals and looks, and changes nothing.
    pub fn for_approvals(name: impl Into<String>, token: &str) -> AdminCredential {
        AdminCredential { may_change: false, ..AdminCredential::new(name, token) }
    }
}

/// All administrators.
#[derive(Clone, Default)]
pub struct AdminCredentials(Vec<AdminCredential>);

impl AdminCredentials {
    /// These. Whose token is another's too is known by the first name.
    pub fn new(credentials: Vec<AdminCredential>) -> AdminCredentials {
        AdminCredentials(credentials)
    }

    /// Whoever shows this header. Found by digests, so that no comparison tells how near a guess has come.
    pub(crate) fn holder(&self, authorization: Option<&HeaderValue>) -> Option<&AdminCredential> {
        let (scheme, token) = authorization?.to_str().ok()?.split_once(' ')?;
        let shown = sha256(token.trim());
        let known = self.0.iter().find(|credential| credential.digest == shown)?;
        scheme.eq_ignore_ascii_case("bearer").then_some(known)
    }
}

impl std::fmt::Debug for AdminCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|credential| &credential.name)).finish()
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_administrator_is_known_by_the_token_alone() {
        let credentials =
            AdminCredentials::new(vec![AdminCredential::new("alice", "a-token"), AdminCredential::new("bob", "b-token")]);
        let name =
            |header: &str| credentials.holder(Some(&HeaderValue::from_str(header).unwrap())).map(|holder| holder.name.clone());
        assert_eq!(name("Bearer a-token").as_deref(), Some("alice"));
        assert_eq!(name("bearer b-token").as_deref(), Some("bob"));
        for wrong in ["Bearer ", "Bearer a-toke", "Basic a-token", "a-token", "Bearer a-token b-token"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
        assert!(credentials.holder(None).is_none());
        assert!(!format!("{credentials:?}").contains("token"));
    }
}
