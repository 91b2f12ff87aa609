//! To which authorization servers our secrets were shown first.
//!
//! A server that names its authorization server itself decides to whom a configured secret goes. What it named first holds for
//! good, for whatever asks: requests to the server, the pages by which users authorise it, and every gateway on the state, also
//! after the next start.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use store::{Store, StoreError};

/// By server and its address: the issuer that was named first.
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

    /// Whether `issuer` is the one that was named first for this server at this address, or is now.
    ///
    /// # Errors
    /// When the state cannot be used.
    pub async fn is_first(&self, server: &str, resource: &str, issuer: &str) -> Result<bool, StoreError> {
        let at = (server.to_owned(), resource.to_owned());
        let known = self.lock().get(&at).cloned();
        let first = match (known, &self.kept_in) {
            (Some(known), _) => known,
            (None, Some(store)) => store.first_issuer(server, resource, issuer).await?,
            (None, None) => issuer.to_owned(),
        };
        // Of two who ask at a time without a state, the faster one is the first.
        Ok(self.lock().entry(at).or_insert(first) == issuer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Options, StateUrl};

    #[tokio::test]
    async fn the_first_that_is_named_is_the_only_one() {
        let store = Store::open(StateUrl::Memory, Options::default()).unwrap();
        for pins in [Pins::default(), Pins::kept_in(store.clone())] {
            let is_first = async |server, resource, issuer| pins.is_first(server, resource, issuer).await.unwrap();
            assert!(is_first("web", "https://web/mcp", "https://id").await);
            assert!(!is_first("web", "https://web/mcp", "https://evil").await);
            assert!(is_first("web", "https://web/mcp", "https://id").await);
            // Another server, and another host of that name, speak for themselves.
            assert!(is_first("wiki", "https://wiki/mcp", "https://evil").await);
            assert!(is_first("web", "https://other/mcp", "https://other").await);
        }
        // The next start knows it too.
        assert!(!Pins::kept_in(store).is_first("web", "https://web/mcp", "https://evil").await.unwrap());
    }
}
