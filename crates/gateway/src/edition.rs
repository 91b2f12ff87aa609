//! Editions: a name stays, and what it stands for may become another thing.
//!
//! A server's address changes, a grant is given to somebody else. What was begun under a name before must not go on under
//! what the name means now; so it remembers the edition, and whoever judges compares.

use std::sync::atomic::{AtomicU64, Ordering};

/// Tells what a name stands for from what it stood for before. Of this process: no two are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Edition(u64);

impl Edition {
    /// Another than all before.
    pub(crate) fn another() -> Edition {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Edition(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
