//! Getting tokens of the gateway's own, and those for which callers' are exchanged.

use super::client::{Client, ClientProof, Granted, Trouble};
use super::found::Found;
use super::{Authorizer, Flow, Lack, Token, UNSAID_SECONDS, renewal};
use crate::enforcer::Caller;

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
        let subject = match self.config.flow {
            Flow::TokenExchange => Some(self.callers.subjects.of(caller, now).ok_or(Lack::NoSubject)?),
            Flow::ClientCredentials | Flow::AuthorizationCode => None,
        };
        match &subject {
            Some((subject, _)) => {
                parameters.extend([
                    ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                    ("subject_token", subject.expose()),
                    ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                    ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                ]);
                parameters.extend(self.config.audience.as_deref().map(|audience| ("audience", audience)));
            }
            None => parameters.push(("grant_type", "client_credentials")),
        }
        let granted = self.ask(&client, &found, &parameters).await?;
        if subject.as_ref().is_some_and(|(subject, _)| *subject == granted.access) {
            return Err("it gives the caller's own token back, which no server is to have".into());
        }
        let (renew, ends) = renewal(now, granted.lasts.unwrap_or(UNSAID_SECONDS));
        // A caller who is not known any more is not called for.
        let until = subject.map_or(i64::MAX, |(_, until)| until);
        Ok(Token::new(&granted.access, renew.min(until), ends.min(until), granted.scope.unwrap_or(scopes))?)
    }

    /// Asks for a token; where the authorization server has moved its endpoints, they are looked for the next time.
    pub(super) async fn ask(&self, client: &Client, found: &Found, parameters: &[(&str, &str)]) -> Result<Granted, Trouble> {
        self.pin(client, found).await?;
        let granted = client.request(found, &self.config.tls, parameters, self.callers.clock.now()).await;
        if granted.is_err() {
            *self.found.lock().await = None;
        }
        granted
    }

    /// Whoever the server names is given our secret: so it may not name another one later.
    pub(super) async fn pin(&self, client: &Client, found: &Found) -> Result<(), Trouble> {
        let is_configured = self.config.client_id.as_ref() == Some(&client.id);
        // Where the operator has named it, the server has no say.
        if !is_configured || self.config.issuer.is_some() || !matches!(client.proof, ClientProof::Secret(..)) {
            return Ok(());
        }
        match self.callers.pins.is_first(&self.server, &self.resource(), &found.issuer).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("the server names another authorization server than before; name it under `issuer`".into()),
            Err(_) => Err("the state does not say whether it is the one that the server has named before".into()),
        }
    }
}
