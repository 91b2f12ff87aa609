//! Grants: who may use what, found by the token that a request carries, or by the certificate that its client has shown.
//!
//! A token is 256 random bits with a prefix by which people and scanners of secrets know it. It is shown once; what is kept is
//! a digest, and a caller is found by the digest of what it shows, so that no comparison can tell how near a guess has come.
//!
//! This module knows no files and no sockets.

use crate::certificate::{CertificateName, ClientCertificate};
use crate::edition::Edition;
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A grant that is in force.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Its name, in counters and records.
    pub name: String,
    /// The person, agent or service that it was given to.
    pub principal: String,
    /// The names of the servers it is for.
    pub servers: Vec<String>,
    /// When it ends, in milliseconds since the Unix epoch.
    pub expires: Option<i64>,
    /// Whether its client may be asked for approvals.
    pub approve_in_client: bool,
    /// Stays the same for as long as what was begun in its name goes on.
    pub(crate) edition: Edition,
    /// Cancelled when it is revoked or has expired: whatever goes on in its name ends then.
    pub(crate) ended: CancellationToken,
}

impl Grant {
    /// Whether it is for this server.
    pub fn is_for(&self, server: &str) -> bool {
        self.servers.iter().any(|name| name == server)
    }

    /// Whether it has not ended at `now`, in milliseconds since the Unix epoch.
    pub fn is_valid(&self, now: i64) -> bool {
        !self.ended.is_cancelled() && self.expires.is_none_or(|expires| now < expires)
    }
}

/// By what the holder of a grant is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The SHA-256 of its token.
    Sha256([u8; 32]),
    /// The digest of a token under the key of the state, in hexadecimal, and until when that token is good, in milliseconds
    /// since the Unix epoch.
    Kept(String, i64),
    /// A name in a client's certificate.
    Certificate(CertificateName),
    /// Claims of an authorization server's tokens: a digest of all that decides whose lead here.
    Claims([u8; 32]),
}

impl Credential {
    /// Whether it is good at `now`, in milliseconds since the Unix epoch.
    fn is_good(&self, now: i64) -> bool {
        !matches!(self, Credential::Kept(_, until) if *until <= now)
    }

    /// Whether both are one, whatever its end.
    fn is_same(&self, other: &Credential) -> bool {
        match (self, other) {
            (Credential::Kept(one, _), Credential::Kept(other, _)) => one == other,
            (one, other) => one == other,
        }
    }
}

/// A new token: 256 bits of chance.
///
/// `None` where the system has no chance to give.
pub fn new_token() -> Option<Secret> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
}

/// What every token of ours begins with.
const PREFIX: &str = "callgate_";

/// All grants, by name and by token.
#[derive(Debug, Default)]
pub struct Grants {
    by_name: HashMap<String, Arc<Grant>>,
    by_digest: HashMap<[u8; 32], Arc<Grant>>,
    /// By the digest under the key of the state, and until when that token is good.
    by_kept: HashMap<String, (Arc<Grant>, i64)>,
    /// `None`: several are known by that name, so that it leads to nobody.
    by_certificate: HashMap<CertificateName, Option<Arc<Grant>>>,
    /// By the name of the grant.
    credentials: HashMap<String, Vec<Credential>>,
}

impl Grants {
    /// These grants with their credentials, in the place of `before`. What goes on in the name of one goes on, where it is
    /// still given to the same principal, and every credential that was good at `now` still is: whatever was begun with one that
    /// is not good any more must not go on.
    pub fn new(all: impl IntoIterator<Item = (Grant, Vec<Credential>)>, before: &Grants, now: i64) -> Grants {
        let mut grants = Grants::default();
        for (mut grant, credentials) in all {
            let same = before.named(&grant.name).filter(|before| before.principal == grant.principal && before.is_valid(now));
            if let Some(same) = same.filter(|_| before.is_still_known(&grant.name, &credentials, now)) {
                (grant.edition, grant.ended) = (same.edition, same.ended.clone());
            }
            let grant = Arc::new(grant);
            for credential in &credentials {
                match credential.clone() {
                    Credential::Sha256(digest) => drop(grants.by_digest.insert(digest, grant.clone())),
                    Credential::Kept(digest, until) => drop(grants.by_kept.insert(digest, (grant.clone(), until))),
                    Credential::Certificate(name) => {
                        let known = grants.by_certificate.entry(name).or_insert_with(|| Some(grant.clone()));
                        known.take_if(|known| !Arc::ptr_eq(known, &grant));
                    }
                    // Whoever verifies tokens knows where their claims lead.
                    Credential::Claims(_) => {}
                }
            }
            grants.credentials.insert(grant.name.clone(), credentials);
            grants.by_name.insert(grant.name.clone(), grant);
        }
        grants
    }

    /// Whether every credential of a grant that is good at `now` is among these.
    fn is_still_known(&self, grant: &str, among: &[Credential], now: i64) -> bool {
        let mut good = self.credentials.get(grant).into_iter().flatten().filter(|credential| credential.is_good(now));
        good.all(|credential| among.iter().any(|other| other.is_same(credential) && other.is_good(now)))
    }

    /// The grant of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Grant>> {
        self.by_name.get(name)
    }

    /// The same, in this edition of it. `None`: which one does not matter.
    pub(crate) fn in_edition(&self, name: &str, edition: Option<Edition>) -> Option<&Arc<Grant>> {
        self.named(name).filter(|grant| edition.is_none_or(|edition| edition == grant.edition))
    }

    /// The grant whose token this is at `now`, in milliseconds since the Unix epoch. `keyed` gives its digest under the key of
    /// the state.
    pub fn of_token(&self, token: &str, now: i64, keyed: impl FnOnce(&str) -> Option<String>) -> Option<&Arc<Grant>> {
        let kept = || {
            let (grant, until) = (!self.by_kept.is_empty()).then(|| self.by_kept.get(&keyed(token)?)).flatten()?;
            (now < *until).then_some(grant)
        };
        self.by_digest.get(&sha256(token)).or_else(kept).filter(|grant| grant.is_valid(now))
    }

    /// The grant whose holder has shown this certificate at `now`, in milliseconds since the Unix epoch. None, too, where a name
    /// of it or two of them lead to several grants: nobody could say which of them is meant.
    pub fn of_certificate(&self, certificate: &ClientCertificate, now: i64) -> Option<&Arc<Grant>> {
        if self.by_certificate.is_empty() || certificate.expires() <= now {
            return None;
        }
        let mut found = certificate.names().iter().filter_map(|name| self.by_certificate.get(name));
        let first = found.next()?.as_ref()?;
        let is_one = found.all(|other| other.as_ref().is_some_and(|other| Arc::ptr_eq(first, other)));
        (is_one && first.is_valid(now)).then_some(first)
    }

    /// Ends what goes on in the name of grants that are not in force any more, or not as they were.
    pub(crate) fn end_all_but(&self, after: &Grants) {
        for grant in self.iter() {
            if after.in_edition(&grant.name, Some(grant.edition)).is_none() {
                grant.ended.cancel();
            }
        }
    }

    /// Ends what goes on in the name of grants that have expired at `now`, in milliseconds since the Unix epoch.
    pub(crate) fn end_expired(&self, now: i64) {
        for grant in self.iter().filter(|grant| grant.expires.is_some_and(|expires| expires <= now)) {
            grant.ended.cancel();
        }
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Grant>> {
        self.by_name.values()
    }
}

/// The SHA-256 of a text.
pub(crate) fn sha256(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_certificate_that_two_grants_have_leads_to_nobody() {
        let name = |text: &str| CertificateName::alternative(text);
        let grant = |grant: &str, certificate: &str| {
            let grant = Grant {
                name: grant.into(),
                principal: "p".into(),
                servers: Vec::new(),
                expires: None,
                approve_in_client: false,
                edition: Edition::another(),
                ended: CancellationToken::new(),
            };
            (grant, vec![Credential::Certificate(name(certificate))])
        };
        let all = [grant("a", "ci"), grant("b", "ci"), grant("c", "ci"), grant("d", "own")];
        let grants = Grants::new(all, &Grants::default(), 0);
        assert!(grants.by_certificate[&name("ci")].is_none());
        assert!(grants.by_certificate[&name("own")].as_ref().is_some_and(|grant| grant.name == "d"));
    }
}
