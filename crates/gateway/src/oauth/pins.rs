//! To which authorization servers our secrets were shown first.
//!
//! A server that names its authorization server itself decides to whom a configured secret goes. What it named first holds
//! until the next start, for whatever asks: requests to the server, and the pages by which users authorise it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

/// By server and its address: the issuer that was named first.
#[derive(Default)]
pub(crate) struct Pins(Mutex<HashMap<(String, String), String>>);

impl Pins {
    /// Whether `issuer` is the one that was named first for this server at this address, or is now.
    pub fn is_first(&self, server: &str, resource: &str, issuer: &str) -> bool {
        let mut pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match pins.entry((server.to_owned(), resource.to_owned())) {
            Entry::Occupied(known) => known.get() == issuer,
            Entry::Vacant(free) => free.insert(issuer.to_owned()) == issuer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_named_is_the_only_one() {
        let pins = Pins::default();
        assert!(pins.is_first("web", "https://web/mcp", "https://id"));
        assert!(!pins.is_first("web", "https://web/mcp", "https://evil"));
        assert!(pins.is_first("web", "https://web/mcp", "https://id"));
        // Another server, and another host of that name, speak for themselves.
        assert!(pins.is_first("wiki", "https://wiki/mcp", "https://evil"));
        assert!(pins.is_first("web", "https://other/mcp", "https://other"));
    }
}
