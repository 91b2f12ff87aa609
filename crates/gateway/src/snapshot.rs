//! What is in force: which policies hold for whom, at which server.
//!
//! A [`Snapshot`] is made once and never changed. Whoever judges takes the one in force and keeps it to the end, so that
//! nothing is judged half by one version and half by the next; a reload puts another in its place, as a whole.
//!
//! What was begun before goes on only under what it was begun with: a server that is called otherwise now, and a grant that is
//! given otherwise, are other [`Edition`]s, for which nothing that was begun before is allowed any more.
//!
//! This module knows no files, sockets or messages.

use crate::edition::Edition;
use crate::grants::Grants;
use policy::Policies;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokio_util::sync::CancellationToken;

/// Which policies hold for whom; replaced as a whole.
#[derive(Debug, Default)]
pub struct Snapshot {
    servers: HashMap<String, AtServer>,
    grants: Grants,
}

/// A server, and what holds there.
#[derive(Debug)]
pub struct AtServer {
    /// Which edition of the server; `None`: there never is another.
    pub edition: Option<Edition>,
    /// What holds.
    pub rules: Rules,
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
    pub fn new(servers: HashMap<String, AtServer>, grants: Grants) -> Snapshot {
        Snapshot { servers, grants }
    }

    /// Whether there are grants: where everybody is treated alike, there are none that could end.
    fn has_grants(&self, server: &str) -> bool {
        matches!(self.servers.get(server), Some(AtServer { rules: Rules::OfGrants(_), .. }) | None)
    }

    /// Whether the server of this name is there in that edition. `None`: which one does not matter.
    pub(crate) fn has_server(&self, server: &str, edition: Option<Edition>) -> bool {
        edition.is_none() || self.servers.get(server).is_some_and(|at| at.edition == edition)
    }

    /// What is cancelled when a grant ends with which a server is used, in the edition that was shown: at once, where it has
    /// ended before. `None`: it never ends.
    pub fn end_of(&self, server: &str, grant: &str, edition: Option<Edition>) -> Option<CancellationToken> {
        if !self.has_grants(server) {
            return None;
        }
        let ended = || {
            let ended = CancellationToken::new();
            ended.cancel();
            ended
        };
        Some(self.grants.in_edition(grant, edition).map_or_else(ended, |grant| grant.ended.clone()))
    }

    /// Whose credentials are accepted.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The policies for a call with this grant at this server; `None` where the grant may not use it.
    pub fn policies(&self, server: &str, grant: &str) -> Option<&Policies> {
        match &self.servers.get(server)?.rules {
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
        self.replace_with(snapshot, |_| ());
    }

    /// The same, and `beside` it what belongs to it: nobody sees the one without the other.
    pub(crate) fn replace_with(&self, snapshot: Snapshot, beside: impl FnOnce(&Arc<Snapshot>)) {
        let snapshot = Arc::new(snapshot);
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        beside(&snapshot);
        let before = std::mem::replace(&mut *current, snapshot.clone());
        drop(current);
        before.grants.end_all_but(&snapshot.grants);
    }
}
