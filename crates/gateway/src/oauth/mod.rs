//! What goes upstream in the name of the gateway or of a caller: access tokens of authorization servers.
//!
//! A server's tokens are the gateway's own (client credentials, or an assertion of the platform that it runs on), given for what a
//! caller has shown (RFC 8693, at one authorization server or by way of the enterprise's own), or what a user has authorised in a
//! browser (authorization code with PKCE). Either way a token is for that one server, is fetched by
//! one request however many wait for it, and is renewed before it ends. What a caller shows is never sent to a server.

mod assertion;
mod browser;
mod challenge;
mod client;
mod consents;
mod dpop;
mod found;
mod obtaining;
mod pins;
mod subjects;
mod users;
mod vault;

pub(crate) use browser::{Page, callback, client_document, introduce, led_back_for, send_off, ticket};
pub(crate) use client::is_signing_key;
pub use client::{ClientProof, SecretPlace};
pub(crate) use consents::{BEGIN, Consents};
pub(crate) use pins::Pins;
pub(crate) use subjects::Subjects;

use crate::enforcer::Caller;
use crate::fetch;
use crate::secret::Secret;
use crate::tls::UpstreamTls;
use crate::upstream::{Bearers, Credentials, Errand, Failure, RefusedBearer};
use client::{Client, Trouble};
use dpop::{Asker, Nonces, Occasion, ProofKey};
use found::Found;
use futures_util::future::BoxFuture;
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue};
use policy::SecretReference;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use store::Clock;
use tracing::{info, warn};

/// How requests to a server are authorised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationConfig {
    /// By whose authority.
    pub flow: Flow,
    /// The authorization server; `None`: the one that the server names.
    pub issuer: Option<String>,
    /// As whom the gateway is known there; `None`: it registers itself.
    pub client_id: Option<String>,
    /// How it shows that.
    pub proof: ClientProof,
    /// What is asked for; empty: what the server asks for.
    pub scopes: Vec<String>,
    /// The `audience` of an exchange, besides the `resource`.
    pub audience: Option<String>,
    /// What callers' tokens are exchanged as.
    pub subject: SubjectKind,
    /// The enterprise's own authorization server, where it vouches for callers at the server's.
    pub provider: Option<IdentityProvider>,
    /// Where the assertion of the platform is that tokens are given for.
    pub assertion: Option<SecretReference>,
    /// Whether tokens are bound to a key of the gateway's (RFC 9449): always, never, or where no issuer is named and both servers
    /// say that they know it.
    pub dpop: Option<bool>,
    /// How the authorization server is told from an impostor.
    pub tls: UpstreamTls,
}

/// By whose authority a server is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The gateway's own.
    ClientCredentials,
    /// The gateway's own, as the workload that its platform says it is (RFC 7523).
    WorkloadIdentity,
    /// That of the caller, whose token of an authorization server is exchanged for one of the server's.
    TokenExchange,
    /// That of the caller, for whom the enterprise's identity provider vouches at the server's authorization server (ID-JAG).
    EnterpriseManaged,
    /// That of the user, who has authorised the gateway in a browser.
    AuthorizationCode,
}

impl Flow {
    /// Whether every caller's requests are the gateway's own.
    pub fn is_our_own(self) -> bool {
        matches!(self, Flow::ClientCredentials | Flow::WorkloadIdentity)
    }

    /// Whether what a caller has shown is exchanged.
    pub fn is_of_subject(self) -> bool {
        matches!(self, Flow::TokenExchange | Flow::EnterpriseManaged)
    }
}

/// What a token is that callers show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// An access token for the gateway (RFC 9068).
    AccessToken,
    /// Who somebody is (OpenID Connect).
    IdToken,
}

/// An identity provider, and who the gateway is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityProvider {
    /// Its name; `None` until it is known whose tokens callers show.
    pub issuer: Option<String>,
    /// As whom the gateway is known there.
    pub client_id: String,
    /// How it shows that.
    pub proof: ClientProof,
    /// How it is told from an impostor.
    pub tls: UpstreamTls,
}

/// What is known of callers, for whose authorisation it matters.
#[derive(Clone, Default)]
pub(crate) struct Callers {
    pub subjects: Arc<Subjects>,
    pub consents: Option<Arc<Consents>>,
    /// The address of the client document, by which authorization servers may know the gateway.
    pub client_document: Option<Arc<str>>,
    pub clock: Clock,
    /// To whom our secrets were shown first.
    pub pins: Arc<Pins>,
}

/// Everything about an authorization server is asked for anew after so long.
const FRESH: Duration = Duration::from_secs(60 * 60);
/// How long getting a token may take, all in all.
const PATIENCE: Duration = Duration::from_secs(15);
/// After a failure nobody tries again for so long.
const PAUSE: Duration = Duration::from_secs(2);
/// A token that is refused so soon after it was given is not worth asking for another.
const YOUNG: Duration = Duration::from_secs(1);
/// Tokens are renewed so long before they end, or when a tenth of their time is left.
const MARGIN_SECONDS: i64 = 60;
/// A token of which nobody says how long it lasts.
const UNSAID_SECONDS: i64 = 10 * 60;
/// More callers than this at one server: those that nothing is under way for make room.
const MAX_SLOTS: usize = 10_000;

/// Gets the tokens for one server.
pub(crate) struct Authorizer {
    server: String,
    url: String,
    server_tls: UpstreamTls,
    config: AuthorizationConfig,
    callers: Callers,
    found: Finding,
    /// The same of the identity provider.
    provider: Finding,
    /// What servers want proofs to repeat.
    nonces: Nonces,
    slots: Mutex<HashMap<Caller, Arc<Slot>>>,
}

/// What is known of an authorization server, and since when; held while that is found out.
type Finding = tokio::sync::Mutex<Option<(Instant, Arc<Found>)>>;

/// The tokens of one caller; held while one is fetched, so that it is fetched once.
type Slot = tokio::sync::Mutex<Held>;

#[derive(Default)]
struct Held {
    token: Option<Arc<Token>>,
    failed: Option<(Instant, Failure)>,
}

struct Token {
    header: HeaderValue,
    /// The key that it is bound to, and its own digest, where it is.
    bound: Option<(Arc<ProofKey>, String)>,
    given: Instant,
    /// When it is renewed, and when it ends; milliseconds since the Unix epoch.
    renew: i64,
    ends: i64,
    scope: String,
}

impl Token {
    fn new(access: &Secret, key: Option<Arc<ProofKey>>, renew: i64, ends: i64, scope: String) -> Result<Token, Trouble> {
        let scheme = if key.is_some() { "DPoP" } else { "Bearer" };
        let mut header = HeaderValue::from_str(&format!("{scheme} {}", access.expose())).map_err(|_| "it gives no token")?;
        header.set_sensitive(true);
        let bound = key.map(|key| (key, dpop::digest_of(access)));
        Ok(Token { header, bound, given: Instant::now(), renew, ends, scope })
    }
}

/// When a token that is given at `now` is renewed, and when it ends; milliseconds since the Unix epoch.
fn renewal(now: i64, lasts_seconds: i64) -> (i64, i64) {
    let ends = now.saturating_add(lasts_seconds.saturating_mul(1_000));
    (ends.saturating_sub(MARGIN_SECONDS.min(lasts_seconds / 10) * 1_000), ends)
}

/// Why there is no token for a request.
enum Lack {
    /// The authorization server's or our own.
    Trouble(Trouble),
    /// The principal has to authorise it first, by these scopes.
    Consent(String),
    /// The caller has shown nothing that could be exchanged.
    NoSubject,
    /// The server wants a scope that its token has.
    Scope,
    /// What users have authorised, or to whom our secrets are shown, cannot be read or written.
    State,
}

impl From<Trouble> for Lack {
    fn from(trouble: Trouble) -> Lack {
        Lack::Trouble(trouble)
    }
}

impl From<&'static str> for Lack {
    fn from(why: &'static str) -> Lack {
        Lack::Trouble(Trouble::Away(why))
    }
}

impl From<store::StoreError> for Lack {
    fn from(_: store::StoreError) -> Lack {
        Lack::State
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorizer({})", self.server)
    }
}

impl Bearers for Authorizer {
    fn lacking(&self, caller: &Caller) -> Option<Failure> {
        if self.is_in_nobodys_name(caller) {
            return Some(Failure::unsent(NOT_THROUGH_GATEWAY));
        }
        let lack = match (self.config.flow, &self.callers.consents) {
            (Flow::TokenExchange | Flow::EnterpriseManaged, _) => {
                let subject = self.callers.subjects.of(caller, self.callers.clock.now());
                subject.is_none().then_some(Lack::NoSubject)
            }
            (Flow::AuthorizationCode, Some(consents)) => {
                let kept = consents.find(&self.server, &self.resource(), &caller.principal);
                kept.is_none().then(|| Lack::Consent(self.wanted(None, "")))
            }
            (Flow::ClientCredentials | Flow::WorkloadIdentity | Flow::AuthorizationCode, _) => None,
        };
        lack.map(|lack| self.failure(caller, lack))
    }

    fn bearer<'a>(
        &'a self,
        caller: &'a Caller,
        errand: Errand<'a>,
        refused: Option<RefusedBearer<'a>>,
    ) -> BoxFuture<'a, Result<Credentials, Failure>> {
        Box::pin(async move { self.shown(&*self.held(caller, refused).await?, errand) })
    }

    fn hears(&self, errand: Errand<'_>, answer: &mut HeaderMap) {
        if answer.contains_key(dpop::NONCE) {
            self.nonces.take(Asker::Server, &errand.uri.to_string(), answer);
        }
    }
}

impl Authorizer {
    /// Gets tokens for the server called `server` at `url`.
    pub fn new(server: &str, url: &str, server_tls: &UpstreamTls, config: &AuthorizationConfig, callers: &Callers) -> Authorizer {
        Authorizer {
            server: server.to_owned(),
            url: url.to_owned(),
            server_tls: server_tls.clone(),
            config: config.clone(),
            callers: callers.clone(),
            found: Finding::default(),
            provider: Finding::default(),
            nonces: Nonces::default(),
            slots: Mutex::default(),
        }
    }

    /// By whose authority it gets them.
    pub fn flow(&self) -> Flow {
        self.config.flow
    }

    /// What goes with a request that this token is for.
    fn shown(&self, token: &Token, errand: Errand<'_>) -> Result<Credentials, Failure> {
        let authorization = token.header.clone();
        let Some((key, digest)) = &token.bound else { return Ok(Credentials { authorization, proof: None }) };
        let url = errand.uri.to_string();
        let nonce = self.nonces.of(Asker::Server, &url);
        let (method, token_digest, now) = (errand.method.as_str(), Some(digest.as_str()), self.callers.clock.now());
        let occasion = Occasion { method, url: &url, token: token_digest, nonce: nonce.as_deref(), now };
        let proof = key.prove(occasion).ok_or_else(|| Failure::unsent("the system gives no random numbers"))?;
        Ok(Credentials { authorization, proof: Some(proof) })
    }

    async fn held(&self, caller: &Caller, refused: Option<RefusedBearer<'_>>) -> Result<Arc<Token>, Failure> {
        if self.is_in_nobodys_name(caller) {
            return Err(Failure::unsent(NOT_THROUGH_GATEWAY));
        }
        let slot = self.slot(caller);
        let mut held = slot.lock().await;
        if self.config.flow == Flow::AuthorizationCode {
            // What is authorised may be withdrawn anywhere: what is known is what the state holds.
            return self.of_user(caller, refused.as_ref(), &mut held).await;
        }
        let now = self.callers.clock.now();
        let refused = refused.filter(|refused| held.token.as_ref().is_some_and(|token| token.header == refused.bearer));
        if let Some(token) = held.token.as_ref().filter(|token| refused.is_none() && now < token.renew) {
            return Ok(token.clone());
        }
        let is_young = held.token.as_ref().is_some_and(|token| token.given.elapsed() < YOUNG);
        let scope = held.token.as_ref().map_or("", |token| &token.scope);
        if refused.as_ref().is_some_and(|refused| asks_nothing_new(refused, scope)) {
            return Err(self.failure(caller, Lack::Scope));
        }
        let wanted = self.wanted(refused.as_ref(), scope);
        if refused.as_ref().is_some_and(|refused| refused.status == StatusCode::UNAUTHORIZED) && is_young {
            return Err(refused_failure());
        }
        let usable = held.token.clone().filter(|token| refused.is_none() && now < token.ends);
        let resting = held.failed.as_ref().filter(|(at, _)| at.elapsed() < PAUSE).map(|(_, failure)| failure.clone());
        if let Some(failure) = resting {
            return usable.ok_or(failure);
        }
        let obtained = tokio::time::timeout(PATIENCE, self.obtain(caller, &wanted)).await;
        match obtained.unwrap_or_else(|_| Err("it does not answer".into())) {
            Ok(token) => {
                let token = Arc::new(token);
                *held = Held { token: Some(token.clone()), failed: None };
                Ok(token)
            }
            Err(lack) => {
                let failure = self.failure(caller, lack);
                held.failed = Some((Instant::now(), failure.clone()));
                usable.ok_or(failure)
            }
        }
    }

    /// Whether a call that needs somebody's authority is made by nobody in particular: on a line that several share.
    fn is_in_nobodys_name(&self, caller: &Caller) -> bool {
        caller.principal.is_empty() && !self.config.flow.is_our_own()
    }

    fn slot(&self, caller: &Caller) -> Arc<Slot> {
        let whose = match self.config.flow {
            // The gateway's own token is everybody's.
            Flow::ClientCredentials | Flow::WorkloadIdentity => Caller::nobody(),
            // What a user has authorised, all callers of that name share.
            Flow::AuthorizationCode => Caller { principal: caller.principal.clone(), ..Caller::nobody() },
            // What was exchanged is for whoever has shown what was exchanged, and for no other of that name.
            Flow::TokenExchange | Flow::EnterpriseManaged => caller.in_general(),
        };
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(&whose) {
            return slot.clone();
        }
        if slots.len() >= MAX_SLOTS {
            // Those in use are held by whoever uses them; the others can be fetched anew.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(whose).or_default().clone()
    }

    /// The scopes to ask for: what is configured, what is held, and what a server has asked for besides.
    fn wanted(&self, refused: Option<&RefusedBearer<'_>>, held: &str) -> String {
        let mut scopes: Vec<String> = self.config.scopes.clone();
        let asked = refused.and_then(|refused| challenge::parameter(refused.challenge, "scope")).unwrap_or_default();
        for scope in held.split_whitespace().chain(asked.split_whitespace()) {
            if !scopes.iter().any(|known| known == scope) {
                scopes.push(scope.to_owned());
            }
        }
        scopes.join(" ")
    }

    /// The server by its address: what was given for it is not for whatever else is called so later.
    fn resource(&self) -> String {
        let (origin, path) = fetch::split(&self.url);
        format!("{origin}{path}")
    }

    /// What is known of the authorization server; found out where it is not, or not any more.
    async fn found(&self) -> Result<Arc<Found>, Trouble> {
        let mut found = self.found.lock().await;
        if let Some((_, known)) = found.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(known.clone());
        }
        let issuer = self.config.issuer.as_deref();
        let known = Arc::new(found::find(&self.url, issuer, &self.server_tls, &self.config.tls).await?);
        if found.is_none() {
            info!(server = %self.server, issuer = %known.issuer, "found the authorization server");
        }
        *found = Some((Instant::now(), known.clone()));
        Ok(known)
    }

    /// The same, where it must be this one: the server may have named another since it was asked.
    async fn found_of(&self, issuer: &str) -> Result<Arc<Found>, Trouble> {
        let found = self.found().await?;
        if found.issuer == issuer {
            return Ok(found);
        }
        let mut known = self.found.lock().await;
        *known = known.take().filter(|(at, _)| at.elapsed() < PAUSE);
        drop(known);
        self.found().await
    }

    /// As whom we are configured to be known.
    fn configured(&self) -> Option<Client> {
        // Who a workload is, its assertion says.
        let unsaid = || (self.config.flow == Flow::WorkloadIdentity).then(String::new);
        Some(Client { id: self.config.client_id.clone().or_else(unsaid)?, proof: self.config.proof.clone() })
    }

    /// As whom we are known by the client document, at an authorization server that reads it.
    fn documented(&self, found: &Found) -> Option<Client> {
        let id = self.callers.client_document.as_ref().filter(|_| found.reads_documents)?.to_string();
        Some(Client { id, proof: ClientProof::None })
    }

    /// What a lack means for the request. What is wrong is said in the log; clients are told no more than helps them.
    fn failure(&self, caller: &Caller, lack: Lack) -> Failure {
        let server = &self.server;
        match lack {
            Lack::Trouble(why) => {
                warn!(server = %server, %why, "no access token can be had from the authorization server");
                Failure { status: Some(502), ..Failure::unsent("no access token for the server can be had; try again later") }
            }
            Lack::State => {
                Failure { status: Some(502), ..Failure::unsent("what was authorised cannot be read; try again later") }
            }
            Lack::Scope => {
                warn!(server = %server, "the server wants a scope that the access token has which it is called with");
                let message = "the server refuses for want of a scope that the gateway's access token has";
                Failure { status: Some(502), ..Failure::lost(message) }
            }
            Lack::NoSubject => {
                let shown = match self.config.subject {
                    SubjectKind::AccessToken => "access token",
                    SubjectKind::IdToken => "ID token",
                };
                let message = "this server is called by the caller's own authority: show an";
                Failure::unsent(format!("{message} {shown} of the authorization server"))
            }
            Lack::Consent(scopes) => {
                let consent =
                    self.callers.consents.as_ref().and_then(|consents| consents.invite(server, &caller.principal, &scopes));
                match consent {
                    Some(consent) => {
                        let message = format!("to use `{server}` you have to authorise that in a browser, then try again");
                        Failure { consent: Some(Arc::new(consent)), ..Failure::unsent(message) }
                    }
                    None => Failure::unsent(NOT_THROUGH_GATEWAY),
                }
            }
        }
    }
}

const NOT_THROUGH_GATEWAY: &str = "this server is called by the authority of users, who give it through a gateway that runs";

/// Whether a server refuses a token for want of scopes that it has: another one would not do better, however often it were
/// asked for.
fn asks_nothing_new(refused: &RefusedBearer<'_>, held: &str) -> bool {
    let asked = challenge::parameter(refused.challenge, "scope").unwrap_or_default();
    refused.status == StatusCode::FORBIDDEN
        && asked.split_whitespace().all(|scope| held.split_whitespace().any(|has| has == scope))
}

fn refused_failure() -> Failure {
    Failure { status: Some(502), ..Failure::lost("the server does not accept the gateway's access token") }
}
