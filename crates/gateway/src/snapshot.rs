//! What is in force: which policies hold for whom, at which server.
//!
//! A [`Snapshot`] is made once and never changed. Whoever judges takes the one in force and keeps it to the end, so that
//! nothing is judged half by one version and half by the next; a reload puts another in its place, as a whole.
//!
//! This module knows no files, sockets or messages.

use crate::grants::Grants;
use policy::Policies;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokio_util::sync::CancellationToken;

/// Which policies hold for whom; replaced as a whole.
#[derive(Debug, Default)]
pub struct Snapshot {
    servers: HashMap<String, Rules>,
    grants: Grants,
}

/// What holds at one server.
#[derive(Debug)]
pub enum Rules {
    /// The same for every caller: `run` and `serve -p` have one grant.
    OfAll(Policies),
    /// By the name of the grant. For a grant that is not among them, nothing is allowed.
    OfGrants(HashMap<String, Policies>),
}

impl Snapshot {
    /// What holds at each server, by its name, and whose credentials are accepted.
    pub fn new(servers: HashMap<String, Rules>, grants: Grants) -> Snapshot {
        Snapshot { servers, grants }
    }

    /// Whether there are grants: where everybody is treated alike, there are none that could end.
    fn has_grants(&self, server: &str) -> bool {
        matches!(self.servers.get(server), Some(Rules::OfGrants(_)) | None)
    }

    /// What is cancelled when a grant ends with which a server is used: at once, where it has ended before. `None`: it never
    /// ends.
    pub fn end_of(&self, server: &str, grant: &str) -> Option<CancellationToken> {
        if !self.has_grants(server) {
            return None;
        }
        let ended = || {
            let ended = CancellationToken::new();
            ended.cancel();
            ended
        };
        Some(self.grants.named(grant).map_or_else(ended, |grant| grant.ended.clone()))
    }

    /// Whose credentials are accepted.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The policies for a call with this grant at this server; `None` where the grant may not use it.
    pub fn policies(&self, server: &str, grant: &str) -> Option<&Policies> {
        match self.servers.get(server)? {
            Rules::OfAll(policies) => Some(policies),
            Rules::OfGrants(grants) => grants.get(grant),
        }
    }
}

/// The snapshot that is in force now. Shared by everything that judges.
#[derive(Debug, Default)]
pub struct Current(RwLock<Arc<Snapshot>>);

impl Current {
    /// Begins with `snapshot`.
    pub fn new(snapshot: Snapshot) -> Arc<Current> {
        Current::of(Arc::new(snapshot))
    }

    /// The same with one that others hold too.
    pub(crate) fn of(snapshot: Arc<Snapshot>) -> Arc<Current> {
        Arc::new(Current(RwLock::new(snapshot)))
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another in force, for whatever begins from now on.
    pub fn replace(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let before = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), snapshot.clone());
        before.grants.end_all_but(&snapshot.grants);
    }
}
