//! Access tokens that are JWTs: read strictly, verified by one key, believed for nobody but us.
//!
//! RFC 9068 with RFC 8725 in mind: the algorithm must be one that the configuration names and that fits the kind of the key,
//! so that neither `none` nor a public key taken for a shared secret gets anywhere; every claim that is relied on must be
//! there. This module knows no sockets and no clock.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use json::{Document, Strictness, Value};
use ring::digest;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey,
};

/// How a token is signed. No shared secrets, and nothing unsigned: there is no way to name those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as RFC 7518 and RFC 8037 name them")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// All of them, by their names.
    pub const ALL: [(&'static str, Algorithm); 9] = [
        ("RS256", Algorithm::RS256),
        ("RS384", Algorithm::RS384),
        ("RS512", Algorithm::RS512),
        ("PS256", Algorithm::PS256),
        ("PS384", Algorithm::PS384),
        ("PS512", Algorithm::PS512),
        ("ES256", Algorithm::ES256),
        ("ES384", Algorithm::ES384),
        ("EdDSA", Algorithm::EdDSA),
    ];
}

/// A public key of an issuer.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// By which tokens name it.
    pub id: Option<String>,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Reads a JWK set (RFC 7517). Keys of kinds that are not known, and such as are for encryption, are left out.
pub(crate) fn read_keys(text: &[u8]) -> Option<Vec<Key>> {
    let document = Document::parse(text.to_vec(), Strictness::Reply).ok()?;
    let keys = document.root().get("keys")?.elements()?;
    Some(keys.filter_map(read_key).take(MOST_KEYS).collect())
}

const MOST_KEYS: usize = 100;

fn read_key(key: Value<'_>) -> Option<Key> {
    let text = |name: &str| key.get(name).and_then(|value| value.as_str()).map(|text| text.into_owned());
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let point = |length: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        (x.len() == length && y.len() == length).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
    };
    let material = match (text("kty")?.as_str(), text("crv").as_deref()) {
        ("RSA", _) => Material::Rsa { n: bytes("n")?, e: bytes("e")? },
        ("EC", Some("P-256")) => Material::P256(point(32)?),
        ("EC", Some("P-384")) => Material::P384(point(48)?),
        ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x")?),
        _ => return None,
    };
    Some(Key { id: text("kid"), material })
}

impl Key {
    /// Whether this key can sign so, and has signed this.
    fn has_signed(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let rsa = |parameters| match &self.material {
            Material::Rsa { n, e } => RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok(),
            _ => false,
        };
        let point = |parameters, key: &[u8]| UnparsedPublicKey::new(parameters, key).verify(signed, signature).is_ok();
        match (algorithm, &self.material) {
            (Algorithm::RS256, _) => rsa(&RSA_PKCS1_2048_8192_SHA256),
            (Algorithm::RS384, _) => rsa(&RSA_PKCS1_2048_8192_SHA384),
            (Algorithm::RS512, _) => rsa(&RSA_PKCS1_2048_8192_SHA512),
            (Algorithm::PS256, _) => rsa(&RSA_PSS_2048_8192_SHA256),
            (Algorithm::PS384, _) => rsa(&RSA_PSS_2048_8192_SHA384),
            (Algorithm::PS512, _) => rsa(&RSA_PSS_2048_8192_SHA512),
            (Algorithm::ES256, Material::P256(key)) => point(&ECDSA_P256_SHA256_FIXED, key),
            (Algorithm::ES384, Material::P384(key)) => point(&ECDSA_P384_SHA384_FIXED, key),
            (Algorithm::EdDSA, Material::Ed25519(key)) => UnparsedPublicKey::new(&ED25519, key).verify(signed, signature).is_ok(),
            (Algorithm::ES256 | Algorithm::ES384 | Algorithm::EdDSA, _) => false,
        }
    }
}

/// What a token must satisfy.
#[derive(Clone, Debug)]
pub(crate) struct Demands {
    pub issuer: String,
    /// One of these must be among its audiences: it is for us.
    pub audiences: Vec<String>,
    pub algorithms: Vec<Algorithm>,
    /// What its `typ` may be, in lower case, without `application/`.
    pub types: Vec<String>,
    /// How far clocks may differ, in seconds.
    pub leeway: i64,
    /// Whether it must have an id and say when it was made, so that it can be used once.
    pub with_id: bool,
}

/// A token that has been taken apart and not been believed.
pub(crate) struct Unverified {
    header: Document,
    claims: Document,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

/// Why a token is refused: for whoever has sent it, without anything of it.
pub(crate) type Refused = &'static str;

impl Unverified {
    /// Takes a compact JWS apart. A key that stands twice is an error: two readers would read two tokens.
    pub fn read(token: &str) -> Result<Unverified, Refused> {
        const NONE: Refused = "the token is no JWT";
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(NONE);
        };
        let document = |part: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| NONE)?;
            Document::parse(bytes, Strictness::Request).map_err(|_| NONE)
        };
        let signed = token.as_bytes()[..header.len() + 1 + claims.len()].to_vec();
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| NONE)?;
        Ok(Unverified { header: document(header)?, claims: document(claims)?, signed, signature })
    }

    /// The id of the key that it names.
    pub fn key_id(&self) -> Option<String> {
        self.header.root().get("kid").and_then(|id| id.as_str()).map(|id| id.into_owned())
    }

    /// Whether one of these keys could have signed it: the one that it names, or any where it names none.
    pub fn knows(&self, keys: &[Key]) -> bool {
        let id = self.key_id();
        keys.iter().any(|key| id.is_none() || key.id == id)
    }

    /// Believes the token, or says why not. `now` is in seconds since the Unix epoch.
    pub fn verify(self, keys: &[Key], demands: &Demands, now: i64) -> Result<Claims, Refused> {
        let header = self.header.root();
        if header.get("crit").is_some() {
            return Err("the token has critical extensions, and none is known here");
        }
        let named = header.get("alg").and_then(|name| name.as_str()).ok_or("the token names no algorithm")?;
        let algorithm = Algorithm::ALL.iter().find(|(name, _)| *name == named).map(|(_, algorithm)| *algorithm);
        let algorithm = algorithm.filter(|algorithm| demands.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or("the token's algorithm is not accepted")?;
        // RFC 7519 §5.1: what says nothing of its type is a JWT like any other.
        let of_type = match header.get("typ") {
            Some(name) => name.as_str().unwrap_or_default().to_ascii_lowercase(),
            None => "jwt".to_owned(),
        };
        if !demands.types.iter().any(|known| of_type.strip_prefix("application/").unwrap_or(&of_type) == known) {
            return Err("the token is of another type than access tokens are");
        }
        let id = self.key_id();
        let mut fitting = keys.iter().filter(|key| id.is_none() || key.id == id);
        if !fitting.any(|key| key.has_signed(algorithm, &self.signed, &self.signature)) {
            return Err("the token's signature is of no key of its issuer");
        }
        let claims = Claims(self.claims);
        claims.satisfy(demands, now)?;
        Ok(claims)
    }
}

/// What a token says that nobody has verified: good for telling whom it is meant for, and for nothing else.
pub(crate) fn unverified_claims(token: &str) -> Result<Claims, Refused> {
    Ok(Claims(Unverified::read(token)?.claims))
}

/// The claims of a token that is believed.
pub(crate) struct Claims(Document);

/// Claims that are others in each token of the same authority: RFC 7519, RFC 9068, OpenID Connect, and Entra's own. A claim that
/// is not known here makes another authority, so that nobody gets more by it.
const OF_ONE_TOKEN: [&str; 12] =
    ["iat", "exp", "nbf", "jti", "auth_time", "nonce", "at_hash", "c_hash", "s_hash", "uti", "aio", "rh"];

impl Claims {
    /// A digest of whom and what a token speaks for: the same for tokens that differ in their times and ids alone.
    pub fn authority(&self) -> [u8; 32] {
        let members = self.0.root().members().into_iter().flatten();
        let lasting = members.filter(|member| !OF_ONE_TOKEN.contains(&&*member.key));
        let mut said: Vec<(String, String)> = lasting.map(|member| (member.key.into_owned(), member.value.canonical())).collect();
        said.sort();
        let mut context = digest::Context::new(&digest::SHA256);
        for text in said.iter().flat_map(|(name, value)| [name, value]) {
            context.update(&text.len().to_le_bytes());
            context.update(text.as_bytes());
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }

    fn satisfy(&self, demands: &Demands, now: i64) -> Result<(), Refused> {
        if self.text("iss").as_deref() != Some(demands.issuer.as_str()) {
            return Err("the token is of another issuer");
        }
        let ours = |name: &str| demands.audiences.iter().any(|audience| audience == name);
        if !self.texts("aud").iter().any(|audience| ours(audience)) {
            return Err("the token is for another audience");
        }
        let expires = self.time("exp").ok_or("the token does not say when it ends")?;
        if now >= expires.saturating_add(demands.leeway) {
            return Err("the token has expired");
        }
        for begins in ["nbf", "iat"] {
            let begun = |at: i64| at <= now.saturating_add(demands.leeway);
            // One that cannot be read is no time at which it could have begun.
            if self.0.root().get(begins).is_some() && !self.time(begins).is_some_and(begun) {
                return Err("the token is of the future");
            }
        }
        if self.text("sub").is_none_or(|subject| subject.is_empty()) {
            return Err("the token has no subject");
        }
        if demands.with_id && (self.text("jti").is_none_or(|id| id.is_empty()) || self.time("iat").is_none()) {
            return Err("the token has no id, or does not say when it was made");
        }
        Ok(())
    }

    /// A claim that is a text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.0.root().get(name).and_then(|value| value.as_str()).map(|text| text.into_owned())
    }

    /// A claim that is a text, or several; those of `scope` are separated by spaces (RFC 8693 §4.2).
    pub fn texts(&self, name: &str) -> Vec<String> {
        let Some(value) = self.0.root().get(name) else { return Vec::new() };
        match value.as_str() {
            Some(text) if name == "scope" => text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
            Some(text) => vec![text.into_owned()],
            None => value.elements().into_iter().flatten().filter_map(|value| Some(value.as_str()?.into_owned())).collect(),
        }
    }

    /// A time in whole seconds since the Unix epoch; fractions are cut off (RFC 7519 §2 allows them).
    pub fn time(&self, name: &str) -> Option<i64> {
        let raw = self.0.root().get(name)?.raw();
        raw.split('.').next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};

    /// A key that nobody else uses: made for these tests.
    const RSA: &str = "MIIEpAIBAAKCAQEArg9T2XSW2d+OqHOgXwUzk5nrA3wR+wg6QvhS755GjD+r0XeSRN06QvpuKJ2Mbl26c+rl8Q4FHGpFfZtvB6F4hFKq38dCL9636sF+akWuwmuB7Dyw4NPg/2AcBsNn1ubmaMIKrr7or15hyat6qV1U8E4g626DynnKYrsRbtq1C/KqcLT79PWtJq94HZz+8sR/TrlZ9/Bs0uLjpw8Hl+yg+hB7+HzbT+tLmKi7CjzPZOtojUNP0G23SCoU1zXk8T/nhAEUx6Jc9+mtJB5KNSUDGpUx19LBcgr/wlC/H6FggGWfzWsxtRfHZWupxP23KEdvcsMPw48FA3OYANCQlHjcVwIDAQABAoIBAFF48zKSFBofPlMy7BoOATpRjWOwK2ppS3wVaByo5TS4iOAfK+P3+VFojy+LrzPpw2CGzuKqQVIvnB9TJgFYX2TwnPLp/d0STtwffeCYhViTodjF/7T8+BARGI1B4dUBd1AJo55v1dJgRz1yepPUD/H7YAVTUXTw1P6puVs+HAhe4fv1w+i9y02JAmSYC/rHXMmwc5YYB2AFXCUJX2nX7nAFq0wzK5q6mnAND0U+Ub39GtQ/SYLOD8QvMTI26yPti3FvDiWNVvaV48MuLrNY/VkHureLJDbjIDUvMu00IAjWJnb4BLw/Uijavirf9TfX9M2AetGUY4ysG0n84CVXxWECgYEA9SoYTfPjLvp3adIju/IAoMta0gH9uux4cpn5GwxdYTDL4dPcH4jaAs+0r89PUCzjh0zf04JLhQVcT0q7F97lO+NJVwJwjKA4mqFeRj+2fVfMLIEkmHgS+UOQoil/3OYUtACx3Q+WcK3Mxjp0GdbzDNcUfusXbhYkK+fHD6xFhb0CgYEAtcC469ap+eOLrRvim5s5pDiNQQm2fxfygHQFOswOsi8L05OQ8iO/n9IjJnu9mn0bIkzSdpRe/s1HCKqfNWW8DGiENE06Hxbbv0hZpzaPmPAssvXCZBxj67iJxIgMPW13jIVEf8XRVVBU9S+wkc2H9CND8ZmvD0HVjEsKa5/uWaMCgYEA24ksZnGk2GaVE/+G3EAi69nto+0AhqhGW2khtmTmIagOilSq4torTyUryds8TLFFtdzS+ZXNhnp8ZMyoqQGCCJTJEc8vdd3rkhw6TXG0Op2qSZgDazzq0Kb+FxhOVUL6+w08OJZCwvf/TOr/GDxxPOhEhDqEqqHNFjvg91nuj4kCgYB6II7hgfPjQuAHKRai4rHfxFQ+II2tZuT/JXaiJJ23Y196As1Bt326oZQW9szXszr5WE+PeHFAm6UgkK28TqkGWXCESGRGobB1HuOHNWVWKgSPGA5QALevm+eO1LAM0rKjDKWTidP4lKsRucLWphm1lcDA5ji4cs9QntfYq7WYKwKBgQCfBHlIijIvw88Rl1DSHmdZ1jN1R/IJZoUuCXHh30qqd/3OXOSVt/UKNOavS9w0ORxUTzMj32zc8l2S4yCuTJdf/U9zDvdsNWpEJZHmsqO6d2AQbdLfPpzP5Vb4TXtddnCVPKydL4N4WZabobO5k+yQW1xvy7mvnN0p5mZS2PRLKw==";
    const NOW: i64 = 1_800_000_000;

    struct Issuer {
        rsa: RsaKeyPair,
        point: EcdsaKeyPair,
        edwards: Ed25519KeyPair,
    }

    impl Issuer {
        fn new() -> Issuer {
            let random = SystemRandom::new();
            let point = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            let edwards = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
            Issuer {
                rsa: rsa_key(),
                point: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, point.as_ref(), &random).unwrap(),
                edwards: Ed25519KeyPair::from_pkcs8(edwards.as_ref()).unwrap(),
            }
        }

        fn keys(&self) -> String {
            let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
            let point = self.point.public_key().as_ref();
            format!(
                r#"{{"keys":[{{"kty":"RSA","kid":"r","use":"sig","n":"{}","e":"{}"}},{{"kty":"EC","crv":"P-256","kid":"e","x":"{}","y":"{}"}},{{"kty":"OKP","crv":"Ed25519","kid":"d","x":"{}"}},{{"kty":"RSA","kid":"x","use":"enc","n":"AQAB","e":"AQAB"}},{{"kty":"oct","kid":"s","k":"c2VjcmV0"}}]}}"#,
                encode(&n),
                encode(&e),
                encode(&point[1..33]),
                encode(&point[33..]),
                encode(self.edwards.public_key().as_ref())
            )
        }

        fn token(&self, header: &str, claims: &str) -> String {
            let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
            let random = SystemRandom::new();
            let signature = match header {
                header if header.contains("\"r\"") => {
                    let mut signature = vec![0; self.rsa.public().modulus_len()];
                    self.rsa.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
                    signature
                }
                header if header.contains("\"e\"") => self.point.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
                header if header.contains("HS256") => {
                    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.keys().as_bytes());
                    ring::hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
                }
                header if header.contains("none") => Vec::new(),
                _ => self.edwards.sign(signed.as_bytes()).as_ref().to_vec(),
            };
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
        }
    }

    fn rsa_key() -> RsaKeyPair {
        let der = STANDARD.decode(RSA).unwrap();
        RsaKeyPair::from_pkcs8(&der).or_else(|_| RsaKeyPair::from_der(&der)).unwrap()
    }

    fn demands() -> Demands {
        Demands {
            issuer: "https://id".into(),
            audiences: vec!["https://us".into()],
            algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
            types: vec!["at+jwt".into()],
            leeway: 30,
            with_id: false,
        }
    }

    const CLAIMS: &str =
        r#"{"iss":"https://id","aud":["https://us","https://them"],"sub":"ada","exp":1800000100,"iat":1800000000,"scope":"a b"}"#;

    #[track_caller]
    fn check(header: &str, claims: &str, demands: &Demands, expected: Result<(), &str>) {
        let issuer = Issuer::new();
        let keys = read_keys(issuer.keys().as_bytes()).unwrap();
        assert_eq!(keys.len(), 3);
        let judged = Unverified::read(&issuer.token(header, claims)).and_then(|token| token.verify(&keys, demands, NOW));
        match (judged, expected) {
            (Ok(claims), Ok(())) => {
                assert_eq!((claims.text("sub").unwrap(), claims.texts("scope")), ("ada".into(), vec!["a".into(), "b".into()]))
            }
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (judged, _) => panic!("{header} {claims}: {:?}", judged.err()),
        }
    }

    fn header(algorithm: &str, key: &str) -> String {
        format!(r#"{{"alg":"{algorithm}","kid":"{key}","typ":"at+jwt"}}"#)
    }

    #[test]
    fn a_token_of_each_kind_of_key_is_believed() {
        for (algorithm, key) in [("RS256", "r"), ("ES256", "e"), ("EdDSA", "d")] {
            check(&header(algorithm, key), CLAIMS, &demands(), Ok(()));
        }
        check(r#"{"alg":"ES256","kid":"e","typ":"application/at+jwt"}"#, CLAIMS, &demands(), Ok(()));
    }

    #[test]
    fn an_algorithm_must_be_named_and_fit_the_key() {
        for (algorithm, key) in [("none", "e"), ("HS256", "s"), ("ES384", "e"), ("RS512", "r"), ("", "e")] {
            check(&header(algorithm, key), CLAIMS, &demands(), Err("algorithm"));
        }
        for (algorithm, key) in [("RS256", "e"), ("ES256", "r"), ("ES256", "d"), ("ES256", "unknown")] {
            check(&header(algorithm, key), CLAIMS, &demands(), Err("signature"));
        }
        check(r#"{"alg":"ES256","kid":"e","typ":"JWT"}"#, CLAIMS, &demands(), Err("type"));
        check(r#"{"alg":"ES256","kid":"e"}"#, CLAIMS, &demands(), Err("type"));
        check(r#"{"alg":"ES256","kid":"e","typ":"at+jwt","crit":["x"]}"#, CLAIMS, &demands(), Err("critical"));
        check(r#"{"alg":"ES256","kid":"e","typ":"at+jwt","alg":"none"}"#, CLAIMS, &demands(), Err("no JWT"));
    }

    #[test]
    fn every_claim_that_is_relied_on_must_hold() {
        let with = |from: &str, to: &str, why: &'static str| {
            check(&header("ES256", "e"), &CLAIMS.replace(from, to), &demands(), Err(why))
        };
        with("https://id", "https://evil", "issuer");
        with("https://us", "https://other", "audience");
        with("1800000100", "1799999970", "expired");
        with("\"exp\":1800000100,", "", "when it ends");
        with("\"exp\":1800000100,", "\"exp\":\"soon\",", "when it ends");
        with("\"iat\":1800000000", "\"iat\":1800000031", "future");
        with("\"iat\":1800000000", "\"nbf\":1800000031", "future");
        with("\"iat\":1800000000", "\"nbf\":1e99", "future");
        with("\"sub\":\"ada\",", "", "subject");
        let once = Demands { with_id: true, ..demands() };
        check(&header("ES256", "e"), CLAIMS, &once, Err("no id"));
        check(&header("ES256", "e"), &CLAIMS.replace("\"iat\":1800000000", "\"jti\":\"1\""), &once, Err("when it was made"));
        check(&header("ES256", "e"), &CLAIMS.replace("\"iat\"", "\"jti\":\"1\",\"iat\""), &once, Ok(()));
        // Clocks differ.
        check(&header("ES256", "e"), &CLAIMS.replace("1800000100", "1799999971"), &demands(), Ok(()));
    }

    #[test]
    fn what_was_changed_is_not_believed() {
        let issuer = Issuer::new();
        let keys = read_keys(issuer.keys().as_bytes()).unwrap();
        let token = issuer.token(&header("ES256", "e"), CLAIMS);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (head, _) = signed.split_once('.').unwrap();
        let other = format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(CLAIMS.replace("ada", "eve")));
        assert!(Unverified::read(&other).unwrap().verify(&keys, &demands(), NOW).is_err());
        for text in ["", "a.b", "a.b.c", "a.b.c.d", &format!("{token}.x"), &token[1..]] {
            assert!(Unverified::read(text).is_err(), "{text}");
        }
    }
}
