//! Proofs of possession (DPoP, RFC 9449): access tokens that are bound to a key of the gateway's own, so that whoever takes one
//! away from a server or a log has nothing by it.
//!
//! Each authorisation has a key of its own. For every request a proof is signed anew: for its method and address, for the token
//! that it goes with, and with what the server has last asked to be repeated (its nonce).

use crate::fetch;
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use json::quote;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Where a server says what the next proof has to repeat.
pub(super) const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// How we sign (RFC 7518 §3.4).
pub(super) const ALGORITHM: &str = "ES256";
/// A server that names ever more origins has those forgotten that it has named before: they ask again.
const MAX_ORIGINS: usize = 16;
/// What is to be repeated is no longer than this.
const MAX_NONCE_BYTES: usize = 512;

/// A key to which tokens are bound.
pub(super) struct ProofKey {
    /// In PKCS #8.
    document: Vec<u8>,
    pair: EcdsaKeyPair,
    /// The public half as a JWK.
    public: String,
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofKey(…)")
    }
}

/// What a proof is for.
#[derive(Clone, Copy)]
pub(super) struct Occasion<'o> {
    pub method: &'o str,
    /// With or without a query, which the proof is not about.
    pub url: &'o str,
    /// The digest of the token that goes along, where one does.
    pub token: Option<&'o str>,
    /// What the server has asked to be repeated.
    pub nonce: Option<&'o str>,
    /// Milliseconds since the Unix epoch.
    pub now: i64,
}

impl ProofKey {
    /// A new one; `None` where the system has no chance to give.
    pub fn new() -> Option<ProofKey> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).ok()?;
        ProofKey::of(document.as_ref().to_vec())
    }

    /// One that was kept.
    pub fn read(kept: &str) -> Option<ProofKey> {
        ProofKey::of(URL_SAFE_NO_PAD.decode(kept).ok()?)
    }

    /// What of it is kept: all of it, so that it must be sealed.
    pub fn kept(&self) -> Secret {
        Secret::new(URL_SAFE_NO_PAD.encode(&self.document))
    }

    fn of(document: Vec<u8>) -> Option<ProofKey> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &document, &SystemRandom::new()).ok()?;
        let (x, y) = pair.public_key().as_ref().get(1..65)?.split_at(32);
        let [x, y] = [x, y].map(|half| URL_SAFE_NO_PAD.encode(half));
        let public = format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}"#);
        Some(ProofKey { document, pair, public })
    }

    /// A proof for one request (RFC 9449 §4.2); `None` where the system has no chance to give.
    pub fn prove(&self, occasion: Occasion<'_>) -> Option<HeaderValue> {
        let (origin, path) = fetch::split(occasion.url);
        let path = if path.is_empty() { "/" } else { path };
        let more = [("ath", occasion.token), ("nonce", occasion.nonce)].into_iter();
        let more: String = more.filter_map(|(name, value)| value.map(|value| format!(r#","{name}":{}"#, quote(value)))).collect();
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"{ALGORITHM}","jwk":{}}}"#, self.public);
        let claims = format!(
            r#"{{"jti":{},"htm":{},"htu":{},"iat":{}{more}}}"#,
            quote(&crate::chance::token()?),
            quote(occasion.method),
            quote(&format!("{origin}{path}")),
            occasion.now.div_euclid(1_000),
        );
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        HeaderValue::from_str(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))).ok()
    }
}

/// What proofs say of the token that they go with.
pub(super) fn digest_of(token: &Secret) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, token.expose().as_bytes()))
}

/// What servers have last asked to be repeated, by who asks and their origins: a server, its authorization server, and few others
/// ever.
#[derive(Default)]
pub(super) struct Nonces(Mutex<HashMap<(Asker, String), String>>);

/// Who asks for something to be repeated. What the one asks for is nothing to the other, also where they share an origin (RFC 9449
/// §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    AuthorizationServer,
    Server,
}

impl Nonces {
    /// What the next proof for `url` has to repeat.
    pub fn of(&self, asker: Asker, url: &str) -> Option<String> {
        self.lock().get(&(asker, fetch::split(url).0.to_owned())).cloned()
    }

    /// Takes note of what the server at `url` asks for with an answer, and out of that; says whether it does.
    pub fn take(&self, asker: Asker, url: &str, headers: &mut HeaderMap) -> bool {
        let Some(nonce) = headers.remove(NONCE) else { return false };
        let Some(nonce) = nonce.to_str().ok().filter(|nonce| (1..=MAX_NONCE_BYTES).contains(&nonce.len())) else { return false };
        let place = (asker, fetch::split(url).0.to_owned());
        let mut known = self.lock();
        if known.len() >= MAX_ORIGINS && !known.contains_key(&place) {
            known.clear();
        }
        known.insert(place, nonce.to_owned());
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(Asker, String), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Asker::{AuthorizationServer, Server};
    use super::*;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    fn part(proof: &HeaderValue, at: usize) -> String {
        let part = proof.to_str().unwrap().split('.').nth(at).unwrap();
        String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn a_proof_is_for_one_request_with_one_token() {
        let key = ProofKey::new().unwrap();
        let occasion =
            Occasion { method: "POST", url: "https://h/mcp?key=1#x", token: Some("ath"), nonce: Some("n\"1"), now: 7_900 };
        let proof = key.prove(occasion).unwrap();
        assert!(part(&proof, 0).starts_with(r#"{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":""#));
        let claims = part(&proof, 1);
        assert!(claims.ends_with(r#""htm":"POST","htu":"https://h/mcp","iat":7,"ath":"ath","nonce":"n\"1"}"#), "{claims}");
        assert_ne!(key.prove(occasion).unwrap(), proof, "each has an id of its own");
        let text = proof.to_str().unwrap();
        let (signed, signature) = text.rsplit_once('.').unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key().as_ref());
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let bare = key.prove(Occasion { url: "https://h", token: None, nonce: None, ..occasion }).unwrap();
        assert!(part(&bare, 1).ends_with(r#""htu":"https://h/","iat":7}"#), "{}", part(&bare, 1));
    }

    #[test]
    fn a_key_that_was_kept_is_the_same_and_is_not_shown() {
        let key = ProofKey::new().unwrap();
        let again = ProofKey::read(key.kept().expose()).unwrap();
        assert_eq!((again.public, format!("{key:?}")), (key.public, "ProofKey(…)".to_owned()));
        assert!(ProofKey::read("nonsense").is_none());
    }

    #[test]
    fn what_a_server_wants_repeated_is_for_its_own_origin() {
        let nonces = Nonces::default();
        let with = |nonce: &str| HeaderMap::from_iter([(NONCE, HeaderValue::from_str(nonce).unwrap())]);
        assert!(!nonces.take(Server, "https://h/mcp", &mut HeaderMap::new()) && nonces.of(Server, "https://h/mcp").is_none());
        assert!(
            nonces.take(Server, "https://h/mcp", &mut with("one")) && nonces.take(Server, "https://h/other", &mut with("two"))
        );
        assert_eq!(nonces.of(Server, "https://h/x").as_deref(), Some("two"));
        assert!(nonces.of(Server, "https://id/token").is_none());
        assert!(!nonces.take(Server, "https://h", &mut with(&"x".repeat(513))), "nothing long is repeated");
        // Nor for who gives the tokens there.
        assert!(nonces.of(AuthorizationServer, "https://h/token").is_none());
        assert!(nonces.take(AuthorizationServer, "https://h/token", &mut with("three")));
        assert_eq!(nonces.of(Server, "https://h/mcp").as_deref(), Some("two"));
        assert_eq!(nonces.of(AuthorizationServer, "https://h/token").as_deref(), Some("three"));
    }

    #[test]
    fn one_who_asks_for_something_new_leaves_the_others_theirs() {
        let nonces = Nonces::default();
        let take = |at: usize, nonce: &str| {
            let mut headers = HeaderMap::from_iter([(NONCE, HeaderValue::from_str(nonce).unwrap())]);
            nonces.take(Server, &format!("https://h{at}/mcp"), &mut headers)
        };
        assert!((0..MAX_ORIGINS).all(|at| take(at, "one")) && take(0, "two"));
        assert_eq!(nonces.of(Server, "https://h0/").as_deref(), Some("two"));
        assert_eq!(nonces.of(Server, "https://h1/").as_deref(), Some("one"));
    }
}
