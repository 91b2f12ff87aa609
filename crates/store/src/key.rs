//! The key of a state file: it signs the chain's head and keys the digests of arguments.
//!
//! One Ed25519 key pair (PKCS#8, the file beside the state with `.key` appended, mode 0600). Each kind of signed statement
//! begins with its own words, so that an old checkpoint can never pass as a head. The key for digests is derived from the
//! same secret, so that there is one thing to keep, and one to lose.

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use ring::{digest, hmac};
use std::cell::RefCell;
use std::sync::Arc;

/// What is signed: that the record `seq` has this hash, at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statement<'a> {
    pub kind: Kind,
    pub seq: i64,
    pub hash: &'a str,
    pub at: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This record is the last.
    Head,
    /// This record was the last once, and is kept for comparison.
    Checkpoint,
    /// Records up to this one have been removed by retention.
    Anchor,
}

impl Statement<'_> {
    fn text(&self) -> String {
        let kind = match self.kind {
            Kind::Head => "head",
            Kind::Checkpoint => "checkpoint",
            Kind::Anchor => "anchor",
        };
        format!("callgate audit {kind} v1\nseq {}\nhash {}\nat {}\n", self.seq, self.hash, self.at)
    }

    /// Whether `signature` (lower-case hexadecimal) is this statement's under `public`.
    pub fn is_signed(&self, public: &PublicKey, signature: &str) -> bool {
        let Some(signature) = unhex(signature) else { return false };
        UnparsedPublicKey::new(&ED25519, &public.0).verify(self.text().as_bytes(), &signature).is_ok()
    }
}

/// The half that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey(Vec<u8>);

impl PublicKey {
    pub fn parse(hex: &str) -> Option<PublicKey> {
        unhex(hex).filter(|bytes| bytes.len() == 32).map(PublicKey)
    }

    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

/// The secret half, and the key derived from it.
pub(crate) struct SecretKey {
    pair: Ed25519KeyPair,
    digests: DigestKey,
    seal: Seal,
}

impl SecretKey {
    /// Makes a new key; gives it with the PKCS#8 bytes to keep.
    pub fn generate() -> Result<(SecretKey, Vec<u8>), String> {
        let failed = |_| "the system gives no random numbers".to_owned();
        let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).map_err(failed)?;
        let bytes = document.as_ref().to_vec();
        Ok((SecretKey::parse(&bytes)?, bytes))
    }

    /// Reads the PKCS#8 bytes that [`SecretKey::generate`] gave.
    pub fn parse(pkcs8: &[u8]) -> Result<SecretKey, String> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| "it is not an Ed25519 key in PKCS#8 form".to_owned())?;
        let extract = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, pkcs8), b"callgate argument digests v1");
        let seal = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, pkcs8), b"callgate journal v1");
        Ok(SecretKey {
            pair,
            digests: DigestKey(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, extract.as_ref()))),
            seal: Seal(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, seal.as_ref()))),
        })
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.pair.public_key().as_ref().to_vec())
    }

    /// The same key with another one for digests: where several gateways must find the same digest for the same call.
    pub fn sharing(self, secret: &[u8]) -> SecretKey {
        SecretKey { digests: DigestKey(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret))), ..self }
    }

    pub fn digests(&self) -> &DigestKey {
        &self.digests
    }

    pub fn seal(&self) -> &Seal {
        &self.seal
    }

    pub fn sign(&self, statement: &Statement<'_>) -> String {
        hex(self.pair.sign(statement.text().as_bytes()).as_ref())
    }
}

/// A key for digests that only the holder of the state's key can compute: equal values are seen to be equal, and a value
/// cannot be found by trying likely ones.
#[derive(Clone, Debug)]
pub struct DigestKey(Arc<hmac::Key>);

impl DigestKey {
    /// The HMAC-SHA256 of `bytes` in hexadecimal.
    pub fn digest(&self, bytes: &[u8]) -> String {
        hex(hmac::sign(&self.0, bytes).as_ref())
    }
}

/// The key that seals what stands in the journal: a signature would cost every call twenty times as much.
#[derive(Clone)]
pub(crate) struct Seal(Arc<hmac::Key>);

impl Seal {
    /// The seal of a text at a place of a journal, in hexadecimal: 64 digits.
    pub fn of(&self, journal: &str, place: u64, text: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(journal.as_bytes());
        context.update(&place.to_le_bytes());
        context.update(text);
        hex(context.sign().as_ref())
    }
}

/// The SHA-256 of `bytes` in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> Arc<str> {
    let mut text = [0; 64];
    write_hex(digest::digest(&digest::SHA256, bytes).as_ref(), &mut text);
    std::str::from_utf8(&text).expect(DIGITS).into()
}

/// The first sixteen digits of a hash, as a number.
pub(crate) fn first_eight(hash: &str) -> i64 {
    u64::from_str_radix(&hash[..16], 16).expect("a hash is hexadecimal").cast_signed()
}

/// Makes an id that cannot be guessed: so many random characters of an alphabet without look-alikes, five bits each.
pub(crate) fn random_id(characters: usize) -> Result<String, String> {
    CHANCE.with_borrow_mut(|chance| {
        if chance.len() < characters {
            chance.resize(characters.max(1024), 0);
            if let Err(error) = getrandom::fill(chance) {
                chance.clear();
                return Err(format!("the system gives no random numbers: {error}"));
            }
        }
        let bytes = chance.drain(chance.len() - characters..);
        Ok(bytes.map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
    })
}

thread_local! {
    /// Random bytes that nobody has used yet: asking the system for each id costs more than making it.
    static CHANCE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Crockford's base 32, in lower case.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = vec![0; bytes.len() * 2];
    write_hex(bytes, &mut text);
    String::from_utf8(text).expect(DIGITS)
}

fn write_hex(bytes: &[u8], text: &mut [u8]) {
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    for (pair, byte) in text.as_chunks_mut().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
}

const DIGITS: &str = "digits are ASCII";

/// Strict, so that a text has one spelling: lower case, two digits a byte.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_signed_as_what_it_is() {
        let (key, pkcs8) = SecretKey::generate().unwrap();
        let again = SecretKey::parse(&pkcs8).unwrap();
        assert_eq!(key.public(), again.public());
        assert_eq!(PublicKey::parse(&key.public().hex()).unwrap(), key.public());
        let statement = Statement { kind: Kind::Checkpoint, seq: 7, hash: "ab", at: 1 };
        let signature = key.sign(&statement);
        assert!(statement.is_signed(&again.public(), &signature));
        assert!(!statement.is_signed(&again.public(), &signature.to_uppercase()));
        for other in [
            Statement { kind: Kind::Head, ..statement },
            Statement { seq: 8, ..statement },
            Statement { hash: "ac", ..statement },
            Statement { at: 2, ..statement },
        ] {
            assert!(!other.is_signed(&again.public(), &signature), "{other:?}");
        }
    }

    #[test]
    fn digests_depend_on_the_key() {
        let (one, two) = (SecretKey::generate().unwrap().0, SecretKey::generate().unwrap().0);
        assert_eq!(one.digests().digest(b"x"), one.digests().digest(b"x"));
        assert_ne!(one.digests().digest(b"x"), two.digests().digest(b"x"));
    }
}
