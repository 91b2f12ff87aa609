//! What must be read by nobody but us, and not be changed: tokens at rest, and what browsers carry between two steps.
//!
//! Each text is encrypted under a key of its own (ChaCha20-Poly1305), made by HKDF-SHA256 of the operator's secret and 128
//! bits of chance that stand before it, so that no nonce is ever used twice. What it is for is bound to it: what was sealed for
//! one purpose does not open for another.

use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};

/// Seals and opens texts.
pub(crate) struct Vault(Prk);

const CHANCE: usize = 16;

impl Vault {
    /// A vault to which `secret` is the key.
    pub fn new(secret: &Secret) -> Vault {
        Vault(Salt::new(HKDF_SHA256, b"callgate authorizations v1").extract(secret.expose().trim().as_bytes()))
    }

    /// Seals a text for `purpose`. `None` where the system has no chance to give.
    pub fn seal(&self, purpose: &str, text: &str) -> Option<String> {
        let mut sealed = vec![0u8; CHANCE];
        getrandom::fill(&mut sealed).ok()?;
        let key = self.key(&sealed)?;
        let mut body = text.as_bytes().to_vec();
        key.seal_in_place_append_tag(nonce(), Aad::from(purpose.as_bytes()), &mut body).ok()?;
        sealed.append(&mut body);
        Some(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// What was sealed for `purpose`; `None` where it was not, or not here.
    pub fn open(&self, purpose: &str, sealed: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (chance, body) = bytes.split_at_checked(CHANCE)?;
        let mut body = body.to_vec();
        let text = self.key(chance)?.open_in_place(nonce(), Aad::from(purpose.as_bytes()), &mut body).ok()?;
        String::from_utf8(text.to_vec()).ok()
    }

    fn key(&self, chance: &[u8]) -> Option<LessSafeKey> {
        let info = [chance];
        let made = self.0.expand(&info, &CHACHA20_POLY1305).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(made)))
    }
}

/// Each key seals one text.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_purpose_and_under_its_key_alone() {
        let vault = Vault::new(&Secret::new("a secret"));
        let sealed = vault.seal("state", "tokens").unwrap();
        assert_eq!(vault.open("state", &sealed).as_deref(), Some("tokens"));
        assert!(!sealed.contains("tokens") && sealed != vault.seal("state", "tokens").unwrap());
        assert_eq!(vault.open("ticket", &sealed), None);
        assert_eq!(Vault::new(&Secret::new("another")).open("state", &sealed), None);
        let mut changed = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
        for at in 0..changed.len() {
            changed[at] ^= 1;
            assert_eq!(vault.open("state", &URL_SAFE_NO_PAD.encode(&changed)), None, "{at}");
            changed[at] ^= 1;
        }
        assert_eq!(vault.open("state", ""), None);
    }
}
