//! Tests' callers, and an enforcer before them.

use crate::enforcer::{Caller, Enforcer};
use policy::{Source, load};
use std::sync::Arc;
use store::{ArgumentsMode, Options, StateUrl, Store};

/// An enforcer that allows everything.
pub fn enforcer() -> Arc<Enforcer> {
    let loaded = load(&Source::new("p.yaml", "version: \"1\"\ntools: {}\n".to_owned()));
    let policy = Arc::new(loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.problems)));
    let store = Store::open(StateUrl::Memory, Options::default()).unwrap();
    Enforcer::new(store, "s", ArgumentsMode::Full, policy)
}

/// Somebody who calls with a grant.
pub fn caller(principal: &str, grant: &str) -> Caller {
    Caller { principal: principal.into(), grant: grant.into(), ..Caller::default() }
}
