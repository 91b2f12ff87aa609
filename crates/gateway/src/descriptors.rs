//! How many files and sockets this process may have open.
//!
//! A listener with ten thousand idle streams needs as many descriptors, and the usual soft limit is 1,024. We raise ours;
//! children get back what we were given, since some programs walk through all descriptors that they might have.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use std::sync::OnceLock;

/// What we were started with, once it has been raised.
static GIVEN: OnceLock<Rlimit> = OnceLock::new();
/// More than any number of connections that we serve needs.
const WANTED: u64 = 65_536;
/// For the state, the policy, pipes of children, and what the runtime needs.
const RESERVED: u64 = 256;

/// Raises the soft limit as far as it is of use and the hard limit permits.
pub fn raise_descriptor_limit() {
    let given = getrlimit(Resource::Nofile);
    let reachable = given.maximum.map_or(WANTED, |maximum| maximum.min(WANTED));
    if given.current.is_some_and(|current| current < reachable) {
        let raised = Rlimit { current: Some(reachable), ..given };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            let _ = GIVEN.set(given);
        }
    }
}

/// How many connections there is room for, where each needs `each` descriptors.
pub(crate) fn room(each: u64) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = limit.saturating_sub(RESERVED.min(limit / 2)) / each;
    usize::try_from(room).unwrap_or(usize::MAX)
}

/// Gives a child the limit that we were given. Where the system cannot do that, it keeps ours.
pub(crate) fn restore(child: Pid) {
    #[cfg(target_os = "linux")]
    if let Some(given) = GIVEN.get() {
        let _ = rustix::process::prlimit(Some(child), Resource::Nofile, *given);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = child;
}
