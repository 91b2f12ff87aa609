//! Getting tokens of the gateway's own, and those for which callers' are exchanged.

use super::client::{Asking, Client, Granted, ID_JAG, Trouble};
use super::dpop::ProofKey;
use super::found::{self, Found};
use super::{Authorizer, FRESH, Flow, IdentityProvider, Lack, SubjectKind, Token, UNSAID_SECONDS, assertion, renewal};
use crate::enforcer::Caller;
use crate::secret::Secret;
use std::sync::Arc;
use std::time::Instant;

impl SubjectKind {
    /// What it is called in an exchange (RFC 8693 §3).
    fn name(self) -> &'static str {
        match self {
            SubjectKind::AccessToken => "urn:ietf:params:oauth:token-type:access_token",
            SubjectKind::IdToken => "urn:ietf:params:oauth:token-type:id_token",
        }
    }
}

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

impl Authorizer {
    /// A new token of the gateway's own, or for the caller's.
    pub(super) async fn obtain(&self, caller: &Caller, scopes: &str) -> Result<Token, Lack> {
        if self.config.flow == Flow::TokenExchange && self.config.issuer.is_none() {
            // A server that could name it would be given callers' tokens.
            return Err("the issuer that exchanges tokens is not configured".into());
        }
        let found = self.found().await?;
        let client = self.configured().ok_or("the gateway has no client id there")?;
        let scopes = if scopes.is_empty() { found.scopes.join(" ") } else { scopes.to_owned() };
        let mut parameters = vec![("resource", found.resource.as_str())];
        if !scopes.is_empty() {
            parameters.push(("scope", &scopes));
        }
        let now = self.callers.clock.now();
        let subject = match self.config.flow.is_of_subject() {
            true => Some(self.callers.subjects.of(caller, now).ok_or(Lack::NoSubject)?),
            false => None,
        };
        let assertion = match (self.config.flow, &subject) {
            (Flow::EnterpriseManaged, Some((subject, _))) => {
                // Nobody is vouched for at an authorization server that is not the server's.
                self.pin(&client, &found).await?;
                Some(self.vouched(subject, &parameters, &found).await?)
            }
            (Flow::WorkloadIdentity, _) => {
                let place = self.config.assertion.as_ref().ok_or("there is no assertion to show")?;
                Some(assertion::read(place, &found, &found.token_endpoint, now).await?)
            }
            _ => None,
        };
        match (&assertion, &subject) {
            (Some(assertion), _) => parameters.extend([("grant_type", JWT_BEARER), ("assertion", assertion.expose())]),
            (None, Some((subject, _))) => {
                parameters.extend([
                    ("grant_type", EXCHANGE),
                    ("subject_token", subject.expose()),
                    ("subject_token_type", self.config.subject.name()),
                    ("requested_token_type", SubjectKind::AccessToken.name()),
                ]);
                parameters.extend(self.config.audience.as_deref().map(|audience| ("audience", audience)));
            }
            (None, None) => parameters.push(("grant_type", "client_credentials")),
        }
        let key = self.proof_key(&found)?;
        let granted = self.ask(&client, &found, &parameters, key).await?;
        if subject.as_ref().is_some_and(|(subject, _)| *subject == granted.access) {
            return Err("it gives the caller's own token back, which no server is to have".into());
        }
        let (renew, ends) = renewal(now, granted.lasts.unwrap_or(UNSAID_SECONDS));
        // A caller who is not known any more is not called for.
        let until = subject.map_or(i64::MAX, |(_, until)| until);
        Ok(Token::new(&granted.access, granted.key, renew.min(until), ends.min(until), granted.scope.unwrap_or(scopes))?)
    }

    /// What the identity provider says of whoever has shown `subject` to the authorization server that was `found`, and to no
    /// other: for the resource and the scope of `parameters`.
    async fn vouched(&self, subject: &Secret, parameters: &[(&str, &str)], found: &Found) -> Result<Secret, Trouble> {
        let IdentityProvider { issuer, client_id, proof, tls } =
            self.config.provider.as_ref().ok_or("there is no identity provider")?;
        // A server that could name it would be given callers' tokens.
        let issuer = issuer.as_deref().ok_or("the identity provider is not configured")?;
        let mut known = self.provider.lock().await;
        let provider = match known.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            Some((_, provider)) => provider.clone(),
            None => {
                let provider = Arc::new(found::provider(issuer, tls).await?);
                *known = Some((Instant::now(), provider.clone()));
                provider
            }
        };
        drop(known);
        let client = Client { id: client_id.clone(), proof: proof.clone() };
        let mut parameters = parameters.to_vec();
        parameters.extend([
            ("grant_type", EXCHANGE),
            ("subject_token", subject.expose()),
            ("subject_token_type", self.config.subject.name()),
            ("requested_token_type", ID_JAG),
            ("audience", &found.issuer),
        ]);
        let asking = Asking { tls, key: None, nonces: &self.nonces, now: self.callers.clock.now() };
        let vouched = client.request_assertion(&provider, &asking, &parameters).await;
        match vouched {
            Ok(vouched) if vouched == *subject => Err("the identity provider gives the caller's own token back".into()),
            Ok(vouched) => Ok(vouched),
            Err(trouble) => {
                *self.provider.lock().await = None;
                Err(trouble)
            }
        }
    }

    /// A new key to bind a token to, where that is asked for, or where both servers say that they know it. Of a named issuer's server
    /// nobody has heard: there it has to be asked for.
    pub(super) fn proof_key(&self, found: &Found) -> Result<Option<Arc<ProofKey>>, Trouble> {
        if !self.config.dpop.unwrap_or(found.binds) {
            return Ok(None);
        }
        let key = ProofKey::new().ok_or("the system gives no random numbers")?;
        Ok(Some(Arc::new(key)))
    }

    /// How tokens are asked for, to be bound to this key.
    pub(super) fn asking(&self, key: Option<Arc<ProofKey>>) -> Asking<'_> {
        Asking { tls: &self.config.tls, key, nonces: &self.nonces, now: self.callers.clock.now() }
    }

    /// Asks for a token; where the authorization server has moved its endpoints, they are looked for the next time.
    pub(super) async fn ask(
        &self,
        client: &Client,
        found: &Found,
        parameters: &[(&str, &str)],
        key: Option<Arc<ProofKey>>,
    ) -> Result<Granted, Trouble> {
        self.pin(client, found).await?;
        let granted = client.request(found, &self.asking(key), parameters).await;
        if granted.is_err() {
            *self.found.lock().await = None;
        }
        match granted {
            Ok(granted) if granted.key.is_none() && self.config.dpop == Some(true) => {
                Err("it gives a token that is not bound to the gateway's key".into())
            }
            granted => granted,
        }
    }

    /// Holds an authorization server that the server names to what was agreed upon first: the server may not name another one later,
    /// nor may that one move its endpoints. For it is given our secret, or its word is taken for who has answered in a browser.
    /// It is not held to anything where neither is so: we are known there by nothing that is configured, and it says in each answer
    /// who it is (RFC 9207), or no browser is led there.
    pub(super) async fn pin(&self, client: &Client, found: &Found) -> Result<(), Trouble> {
        let is_configured = self.config.client_id.as_ref() == Some(&client.id);
        let is_named = self.config.flow != Flow::AuthorizationCode || found.says_issuer;
        // Where the operator has named it, the server has no say.
        if self.config.issuer.is_some() || (!is_configured && is_named) {
            return Ok(());
        }
        match self.callers.pins.is_first(&self.server, &self.resource(), found).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("the server names another authorization server than before, or that has moved; if that is meant, name it under `issuer`".into()),
            Err(_) => Err("the state does not say whether it is the one that the server has named before".into()),
        }
    }
}
