//! The tokens that users have given by authorising the gateway in a browser: used, renewed, and taken back.

use super::client::{Granted, Trouble};
use super::consents::{Consents, FoundKept, Kept, Of};
use super::found::Found;
use super::{Authorizer, Held, Lack, NOT_THROUGH_GATEWAY, PATIENCE, PAUSE, Token, asks_nothing_new};
use crate::enforcer::Caller;
use crate::secret::Secret;
use crate::upstream::{Failure, RefusedBearer};
use http::StatusCode;
use std::sync::Arc;
use std::time::Instant;
use tracing::info;

/// By what code an authorization server says that a refresh token is good for nothing any more (RFC 6749 §5.2).
const ENDED: &str = "invalid_grant";

impl Authorizer {
    /// What a user has authorised, renewed where that is due.
    pub(super) async fn of_user(
        &self,
        caller: &Caller,
        refused: Option<&RefusedBearer<'_>>,
        held: &mut Held,
    ) -> Result<Arc<Token>, Failure> {
        let Some(consents) = &self.callers.consents else { return Err(Failure::unsent(NOT_THROUGH_GATEWAY)) };
        let resting = held.failed.as_ref().filter(|(at, _)| at.elapsed() < PAUSE).map(|(_, failure)| failure.clone());
        let renewed = tokio::time::timeout(PATIENCE, self.renewed(consents, &caller.principal, refused, resting.is_some())).await;
        match renewed.unwrap_or_else(|_| Err("it does not answer".into())) {
            Ok(token) => Ok(Arc::new(token)),
            Err(lack) => {
                if let (Lack::Trouble(_), Some(resting)) = (&lack, resting) {
                    return Err(resting);
                }
                let has_failed = !matches!(lack, Lack::Consent(_) | Lack::Scope);
                let failure = self.failure(caller, lack);
                held.failed = has_failed.then(|| (Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    async fn renewed(
        &self,
        consents: &Consents,
        principal: &str,
        refused: Option<&RefusedBearer<'_>>,
        rests: bool,
    ) -> Result<Token, Lack> {
        let resource = self.resource();
        loop {
            let version = consents.version();
            let Some(FoundKept { kept, version: of_kept }) = consents.find(&self.server, &resource, principal) else {
                return Err(Lack::Consent(self.wanted(refused, "")));
            };
            let token = Token::new(&kept.access, kept.key.clone(), kept.renew, kept.expires, kept.scope.clone())?;
            let refused = refused.filter(|refused| *refused.bearer == token.header);
            if let Some(refused) = refused.filter(|refused| refused.status == StatusCode::FORBIDDEN) {
                if asks_nothing_new(refused, &kept.scope) {
                    return Err(Lack::Scope);
                }
                // More than the user has agreed to.
                return Err(Lack::Consent(self.wanted(Some(refused), &kept.scope)));
            }
            // It was authorised before that was asked for.
            let is_unbound = self.config.dpop == Some(true) && kept.key.is_none();
            let is_due = is_unbound || consents.now() >= token.renew;
            if refused.is_none() && !is_due {
                return Ok(token);
            }
            let usable = (refused.is_none() && !is_unbound && consents.now() < token.ends).then_some(token);
            let Some(refresh) = &kept.refresh else { return usable.ok_or_else(|| Lack::Consent(self.wanted(None, &kept.scope))) };
            if rests {
                return usable.ok_or_else(|| "it does not answer".into());
            }
            let found = match self.found_of(&kept.issuer).await {
                Ok(found) if found.issuer == kept.issuer => found,
                // What was given by another is nothing there; but it is kept, as the server may have named that in error.
                Ok(_) => return usable.ok_or_else(|| Lack::Consent(self.wanted(None, &kept.scope))),
                Err(trouble) => return usable.ok_or(Lack::Trouble(trouble)),
            };
            if !consents.claim(&self.server, principal, of_kept).await? {
                if let Some(usable) = usable {
                    return Ok(usable);
                }
                // Another gateway is at it.
                consents.changed(version).await;
                continue;
            }
            match self.refresh(&kept, &found, refresh).await {
                Ok(granted) => {
                    let refresh = granted.refresh.clone().or_else(|| kept.refresh.clone());
                    let of = Of { resource: &resource, issuer: &kept.issuer };
                    let fresh = Kept::new(of, kept.registered.clone(), granted, &kept.scope, consents.now());
                    let fresh = Kept { refresh, ..fresh };
                    if !consents.refresh(&self.server, principal, of_kept, &fresh).await? {
                        // Forgotten meanwhile, or authorised anew: what holds now is what the state says.
                        info!(server = %self.server, principal, "a token was refreshed that is not kept any more");
                        continue;
                    }
                    return Ok(Token::new(&fresh.access, fresh.key.clone(), fresh.renew, fresh.expires, fresh.scope.clone())?);
                }
                Err(Trouble::Refused(code)) if code == ENDED => {
                    info!(server = %self.server, principal, "what a user has authorised is not good any more");
                    consents.forget(&self.server, principal, of_kept).await?;
                    return Err(Lack::Consent(self.wanted(None, &kept.scope)));
                }
                // Any other refusal is about who asks or how, and says nothing of what the user has given.
                Err(trouble) => return usable.ok_or(Lack::Trouble(trouble)),
            }
        }
    }

    async fn refresh(&self, kept: &Kept, found: &Found, refresh: &Secret) -> Result<Granted, Trouble> {
        let client = kept.registered.clone().or_else(|| self.configured()).ok_or("the gateway has no client id there")?;
        let parameters =
            [("grant_type", "refresh_token"), ("refresh_token", refresh.expose()), ("resource", found.resource.as_str())];
        // What a client without a secret refreshes is bound to the key that it had (RFC 9449 §5).
        let key = match &kept.key {
            Some(key) => Some(key.clone()),
            None if self.config.dpop == Some(true) => self.proof_key(found)?,
            None => None,
        };
        self.ask(&client, found, &parameters, key).await
    }

    /// Tells the authorization server that what a principal has authorised is not needed any more (RFC 7009).
    ///
    /// # Errors
    /// Why it does not know, for people.
    pub async fn take_back(&self, principal: &str) -> Result<(), String> {
        let kept = self.callers.consents.as_ref().and_then(|consents| consents.find(&self.server, &self.resource(), principal));
        let Some(FoundKept { kept, .. }) = kept else { return Err("nothing is kept that it could take back".into()) };
        let told = tokio::time::timeout(PATIENCE, async {
            let found = self.found().await?;
            if found.issuer != kept.issuer {
                return Err("the server names another authorization server than the one that has given the token".into());
            }
            let client = kept.registered.clone().or_else(|| self.configured()).ok_or("the gateway has no client id there")?;
            self.pin(&client, &found).await?;
            // With the token by which others are had, those end too (RFC 7009 §2.1).
            let token = kept.refresh.as_ref().unwrap_or(&kept.access);
            client.revoke(&found, &self.asking(None), token).await
        });
        told.await.unwrap_or_else(|_| Err("it does not answer".into())).map_err(|why: Trouble| why.to_string())
    }
}
