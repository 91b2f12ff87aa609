//! To which authorization servers our secrets were shown first.
//!
//! A server that names its authorization server itself decides to whom a configured secret goes, and whose word is taken for who
//! has answered in a browser. What was agreed upon first holds for good: who it is, and where its endpoints are. It holds for
//! requests to the server and for the pages by which users authorise it, on every gateway on the state, and after the next start.

use super::found::Found;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use store::{Store, StoreError};

/// By server and its address: the authorization server that was named first.
#[derive(Default)]
pub(crate) struct Pins {
    /// `None` where a server is only asked once, by a command: then for as long as that runs.
    kept_in: Option<Store>,
    known: Mutex<HashMap<(String, String), String>>,
}

impl Pins {
    /// Those that `store` keeps.
    pub fn kept_in(store: Store) -> Pins {
        Pins { kept_in: Some(store), known: Mutex::default() }
    }

    /// Whether `found` is the one that was named first for this server at this address, where it was then; or is now.
    ///
    /// # Errors
    /// When the state cannot be used.
    pub(super) async fn is_first(&self, server: &str, resource: &str, found: &Found) -> Result<bool, StoreError> {
        let named = agreed(found);
        let at = (server.to_owned(), resource.to_owned());
        let Some(store) = &self.kept_in else {
            // Of two who ask at a time, the faster one is the first.
            return Ok(*self.lock().entry(at).or_insert_with(|| named.clone()) == named);
        };
        // An older state may hold the bare issuer: that is meant, and from now on in full.
        let known = self.lock().get(&at).filter(|known| **known != found.issuer).cloned();
        let first = match known {
            Some(known) => known,
            None => {
                let first = store.first_issuer(server, resource, &named, &found.issuer).await?;
                self.lock().insert(at, first.clone());
                first
            }
        };
        Ok(first == named)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who an authorization server is, and where codes, secrets and browsers go.
fn agreed(Found { issuer, token_endpoint, authorization_endpoint, .. }: &Found) -> String {
    let pages = authorization_endpoint.as_deref().unwrap_or("none");
    format!("{issuer}, tokens at {token_endpoint}, pages at {pages}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Options, StateUrl};

    #[tokio::test]
    async fn the_first_that_is_named_is_the_only_one() {
        let store = Store::open(StateUrl::Memory, Options::default()).unwrap();
        for pins in [Pins::default(), Pins::kept_in(store.clone())] {
            let is_first = async |server, resource, issuer| pins.is_first(server, resource, &found(issuer)).await.unwrap();
            assert!(is_first("web", "https://web/mcp", "https://id").await);
            assert!(!is_first("web", "https://web/mcp", "https://evil").await);
            assert!(is_first("web", "https://web/mcp", "https://id").await);
            // It is the first one as it was then: who takes codes elsewhere may be somebody else.
            let moved = [
                Found { token_endpoint: "https://evil/token".to_owned(), ..found("https://id") },
                Found { authorization_endpoint: Some("https://honest/authorize".to_owned()), ..found("https://id") },
            ];
            for moved in moved {
                assert!(!pins.is_first("web", "https://web/mcp", &moved).await.unwrap());
            }
            // Another server, and another host of that name, speak for themselves.
            assert!(is_first("wiki", "https://wiki/mcp", "https://evil").await);
            assert!(is_first("web", "https://other/mcp", "https://other").await);
        }
        // The next start knows it too.
        assert!(!Pins::kept_in(store).is_first("web", "https://web/mcp", &found("https://evil")).await.unwrap());
    }

    #[tokio::test]
    async fn one_that_was_kept_by_its_name_alone_is_kept_in_full_once() {
        let store = Store::open(StateUrl::Memory, Options::default()).unwrap();
        store.first_issuer("web", "https://web/mcp", "https://id", "").await.unwrap();
        let pins = Pins::kept_in(store.clone());
        let is_first = async |found: Found| pins.is_first("web", "https://web/mcp", &found).await.unwrap();
        assert!(!is_first(found("https://evil")).await);
        assert!(is_first(found("https://id")).await && is_first(found("https://id")).await);
        assert!(!is_first(Found { token_endpoint: "https://evil/token".to_owned(), ..found("https://id") }).await);
        assert!(!is_first(found("https://evil")).await);
        let first = store.first_issuer("web", "https://web/mcp", "https://evil", "").await.unwrap();
        assert!(first.starts_with("https://id, tokens at "), "{first}");
    }

    fn found(issuer: &str) -> Found {
        let (issuer, token_endpoint) = (issuer.to_owned(), format!("{issuer}/token"));
        Found { issuer, token_endpoint, ..Found::default() }
    }
}
