//! The token endpoint of an authorization server: who we are there, what we ask, and what is given.
//!
//! What such a server says in words is shown to nobody: it may repeat what it was sent. Only its error codes are, which are
//! few and have a form.

use super::assertion;
use super::dpop::{Asker, Nonces, Occasion, ProofKey};
use super::found::Found;
use crate::fetch::{self, Answer, Way};
use crate::secret::Secret;
use crate::tls::UpstreamTls;
use crate::upstream::{PROOF, USE_NONCE};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use form_urlencoded::Serializer;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use json::{Document, Strictness, Value, quote};
use policy::SecretReference;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::sync::Arc;

/// What an identity assertion for another authorization server is called (draft-ietf-oauth-identity-assertion-authz-grant).
pub(super) const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";
/// A token that is longer is none.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// For how long what we sign ourselves is good, in seconds.
const ASSERTION_SECONDS: i64 = 60;

/// How a client shows that it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientProof {
    /// Not at all: whoever names it is it.
    None,
    /// By a secret; `None`: in the way that the server prefers.
    Secret(Secret, Option<SecretPlace>),
    /// By a signature (RFC 7523) of a private key in PEM: Ed25519, P-256 or RSA.
    Key(Secret),
    /// By an assertion of the platform that the gateway runs on (RFC 7523), which is read anew for each request.
    Assertion(SecretReference),
}

/// Where a client's secret goes (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// Into a header.
    Basic,
    /// Into the body.
    Post,
}

/// A client, as an authorization server knows it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Client {
    /// Empty where what is shown says it.
    pub id: String,
    pub proof: ClientProof,
}

/// How a token is asked for.
pub(super) struct Asking<'a> {
    /// How the authorization server is told from an impostor.
    pub tls: &'a UpstreamTls,
    /// To which it is to be bound, if to any.
    pub key: Option<Arc<ProofKey>>,
    pub nonces: &'a Nonces,
    /// Milliseconds since the Unix epoch.
    pub now: i64,
}

/// What an authorization server gives.
pub(super) struct Granted {
    pub access: Secret,
    /// The key that it is bound to, if it is to any.
    pub key: Option<Arc<ProofKey>>,
    pub refresh: Option<Secret>,
    /// For how long it is good, in seconds, where that is said.
    pub lasts: Option<i64>,
    /// What it is for, where that is said.
    pub scope: Option<String>,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server cannot be asked, or has answered nonsense.
    Away(&'static str),
    /// It has said no, by this code.
    Refused(String),
}

impl From<&'static str> for Trouble {
    fn from(why: &'static str) -> Trouble {
        Trouble::Away(why)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Away(why) => f.write_str(why),
            Trouble::Refused(code) => write!(f, "it refuses, with `{code}`"),
        }
    }
}

impl Client {
    /// Asks for a token; bound to the key of `asking`, where there is one and the authorization server binds it.
    pub async fn request(&self, found: &Found, asking: &Asking<'_>, parameters: &[(&str, &str)]) -> Result<Granted, Trouble> {
        let answer = self.ask(found, asking, parameters).await?;
        let says = |name: &str| text(answer.root(), name);
        let is_kind = |name: &str| says("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case(name));
        let key = match &asking.key {
            Some(key) if is_kind("dpop") => Some(key.clone()),
            _ if is_kind("bearer") => None,
            _ => return Err(Trouble::Away("it gives tokens of a kind that is not known")),
        };
        let access = says("access_token").filter(|token| is_token(token)).ok_or("it gives no token")?;
        let lasts = answer.root().get("expires_in").and_then(|lasts| {
            // Some write a number, some a text.
            lasts.as_str().as_deref().unwrap_or(lasts.raw()).split('.').next()?.parse::<i64>().ok()
        });
        Ok(Granted {
            access: Secret::new(access),
            key,
            refresh: says("refresh_token").filter(|token| is_token(token)).map(Secret::new),
            lasts: lasts.map(|lasts| lasts.max(0)),
            scope: says("scope"),
        })
    }

    /// Asks for an assertion of who somebody is, for another authorization server (ID-JAG).
    pub async fn request_assertion(
        &self,
        found: &Found,
        asking: &Asking<'_>,
        parameters: &[(&str, &str)],
    ) -> Result<Secret, Trouble> {
        let answer = self.ask(found, asking, parameters).await?;
        // Anything else would be good for more than this one server.
        if text(answer.root(), "issued_token_type").as_deref() != Some(ID_JAG) {
            return Err(Trouble::Away("the identity provider gives no identity assertion"));
        }
        let assertion = text(answer.root(), "access_token").filter(|token| is_token(token));
        assertion.map(Secret::new).ok_or(Trouble::Away("the identity provider gives no identity assertion"))
    }

    /// What the token endpoint answers to `parameters`, where that is no error.
    async fn ask(&self, found: &Found, asking: &Asking<'_>, parameters: &[(&str, &str)]) -> Result<Document, Trouble> {
        let Answer { status, body, .. } = self.post(&found.token_endpoint, found, asking, parameters).await?;
        let answer = Document::parse(body, Strictness::Reply).map_err(|_| "its answer is no JSON")?;
        match status {
            StatusCode::OK => Ok(answer),
            // That says nothing of what was asked for.
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => Err("it cannot answer now".into()),
            status => match code(text(answer.root(), "error"), status) {
                code if code == USE_NONCE || code == "invalid_dpop_proof" => Err("it takes no proof of the gateway's key".into()),
                code => Err(Trouble::Refused(code)),
            },
        }
    }

    /// Says that a token is no longer needed (RFC 7009). Where a server has named the authorization server, that is agreed upon
    /// with its token endpoint: what takes tokens back is asked at the same origin, or not at all.
    pub async fn revoke(&self, found: &Found, asking: &Asking<'_>, token: &Secret) -> Result<(), Trouble> {
        let Some(place) = &found.revocation_endpoint else { return Err(Trouble::Away("it takes no tokens back")) };
        if !found.is_named && fetch::split(place).0 != fetch::split(&found.token_endpoint).0 {
            return Err(
                "it takes tokens back at another origin than it gives them; if that is meant, name it under `issuer`".into()
            );
        }
        let Answer { status, .. } = self.post(place, found, asking, &[("token", token.expose())]).await?;
        if status.is_success() { Ok(()) } else { Err(Trouble::Refused(code(None, status))) }
    }

    /// What is answered to `parameters` at `place`; once more, where the authorization server wants something repeated by our proof
    /// (RFC 9449 §8).
    async fn post(
        &self,
        place: &str,
        found: &Found,
        asking: &Asking<'_>,
        parameters: &[(&str, &str)],
    ) -> Result<Answer, Trouble> {
        let mut answer = self.post_once(place, found, asking, parameters).await?;
        let is_given = asking.nonces.take(Asker::AuthorizationServer, place, &mut answer.headers);
        let wants_it = |says: Document| text(says.root(), "error").as_deref() == Some(USE_NONCE);
        let parsed = || Document::parse(answer.body.clone(), Strictness::Reply);
        if asking.key.is_some() && is_given && !answer.status.is_success() && parsed().is_ok_and(wants_it) {
            answer = self.post_once(place, found, asking, parameters).await?;
            asking.nonces.take(Asker::AuthorizationServer, place, &mut answer.headers);
        }
        Ok(answer)
    }

    async fn post_once(
        &self,
        place: &str,
        found: &Found,
        asking: &Asking<'_>,
        parameters: &[(&str, &str)],
    ) -> Result<Answer, Trouble> {
        let platform = match &self.proof {
            ClientProof::Assertion(reference) => Some(assertion::read(reference, found, place, asking.now).await?),
            _ => None,
        };
        let (mut headers, body) = self.form(found, parameters, platform.as_ref(), asking.now)?;
        if let Some(key) = &asking.key {
            let nonce = asking.nonces.of(Asker::AuthorizationServer, place);
            let occasion = Occasion { method: "POST", url: place, token: None, nonce: nonce.as_deref(), now: asking.now };
            headers.insert(PROOF, key.prove(occasion).ok_or("the system gives no random numbers")?);
        }
        Ok(fetch::post(place, Way { tls: asking.tls, within: found.within }, headers, body).await?)
    }

    /// The parameters as a form, with what shows who we are; `platform` is what the platform says of that.
    fn form(
        &self,
        found: &Found,
        parameters: &[(&str, &str)],
        platform: Option<&Secret>,
        now: i64,
    ) -> Result<(HeaderMap, Bytes), Trouble> {
        let mut form = Serializer::new(String::new());
        form.extend_pairs(parameters);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        match &self.proof {
            ClientProof::None => {
                if !self.id.is_empty() {
                    form.append_pair("client_id", &self.id);
                }
            }
            ClientProof::Secret(secret, place) => match place.unwrap_or(found.preferred_place()) {
                SecretPlace::Basic => {
                    headers.insert(AUTHORIZATION, self.basic(secret)?);
                }
                SecretPlace::Post => {
                    form.append_pair("client_id", &self.id).append_pair("client_secret", secret.expose());
                }
            },
            ClientProof::Key(key) => {
                let assertion = self.assertion(key, &found.issuer, now).ok_or("the gateway's own key cannot sign")?;
                self.assert(&mut form, &assertion);
            }
            ClientProof::Assertion(_) => {
                self.assert(&mut form, platform.ok_or("there is no assertion to show")?.expose());
            }
        }
        Ok((headers, form.finish().into()))
    }

    fn assert(&self, form: &mut Serializer<'_, String>, assertion: &str) {
        form.append_pair("client_id", &self.id)
            .append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
            .append_pair("client_assertion", assertion);
    }

    fn basic(&self, secret: &Secret) -> Result<HeaderValue, Trouble> {
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let both = STANDARD.encode(format!("{}:{}", encoded(&self.id), encoded(secret.expose())));
        let mut value = HeaderValue::from_str(&format!("Basic {both}")).map_err(|_| "the gateway's own secret is not text")?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// What shows that we hold the key (RFC 7523 §3), for one use within a minute.
    fn assertion(&self, key: &Secret, issuer: &str, now: i64) -> Option<String> {
        let signer = Signer::read(key)?;
        let now = now.div_euclid(1_000);
        let header = format!(r#"{{"alg":"{}","typ":"JWT"}}"#, signer.algorithm());
        let claims = format!(
            r#"{{"iss":{id},"sub":{id},"aud":{},"jti":{},"iat":{now},"exp":{}}}"#,
            quote(issuer),
            quote(&crate::chance::token()?),
            now + ASSERTION_SECONDS,
            id = quote(&self.id),
        );
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = signer.sign(signed.as_bytes())?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// A text of an object.
pub(super) fn text(object: Value<'_>, name: &str) -> Option<String> {
    object.get(name).and_then(|value| value.as_str()).map(|text| text.into_owned())
}

/// An error code as RFC 6749 §5.2 has them, or the status.
fn code(said: Option<String>, status: StatusCode) -> String {
    let is_code = |code: &String| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    said.filter(is_code).unwrap_or_else(|| format!("HTTP {}", status.as_u16()))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether this is a private key that can sign for a client.
pub(crate) fn is_signing_key(key: &Secret) -> bool {
    Signer::read(key).is_some()
}

enum Signer {
    Edwards(Ed25519KeyPair),
    Point(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    fn read(key: &Secret) -> Option<Signer> {
        let der = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).ok()?;
        let bytes = der.secret_der();
        let point = || EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes, &SystemRandom::new()).ok();
        let rsa = || RsaKeyPair::from_pkcs8(bytes).or_else(|_| RsaKeyPair::from_der(bytes)).ok();
        (Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).ok().map(Signer::Edwards))
            .or_else(|| point().map(|pair| Signer::Point(Box::new(pair))))
            .or_else(|| rsa().map(|pair| Signer::Rsa(Box::new(pair))))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Signer::Edwards(_) => "EdDSA",
            Signer::Point(_) => "ES256",
            Signer::Rsa(_) => "RS256",
        }
    }

    fn sign(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Signer::Edwards(pair) => Some(pair.sign(bytes).as_ref().to_vec()),
            Signer::Point(pair) => Some(pair.sign(&random, bytes).ok()?.as_ref().to_vec()),
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).ok()?;
                Some(signature)
            }
        }
    }
}
