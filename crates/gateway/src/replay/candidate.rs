//! Under what recorded calls are decided again: some policies, whoever has called; or a configuration, with its servers and
//! grants and with what the state keeps besides.

use crate::config::Config;
use crate::config::kept::Whole;
use crate::enforcer::LOCAL;
use crate::gateway::snapshot;
use crate::snapshot::{Current, Snapshot};
use policy::{Policies, Policy, Severity};
use std::collections::HashSet;
use std::sync::Arc;
use store::Kept;

/// What is tried.
pub struct Candidate(Inner);

enum Inner {
    /// The same for every caller of every server.
    OfAll(Policies),
    Configured(Box<Configured>),
}

struct Configured {
    whole: Whole,
    snapshot: Arc<Snapshot>,
    /// Grants whose principals tokens name.
    by_claims: HashSet<String>,
    revoked: HashSet<String>,
    /// Everything that is judged by somewhere.
    policies: Policies,
}

/// What a caller's grant is to a candidate.
pub(super) enum Holding {
    /// It is there; and whose it is.
    Holds(String),
    /// There is none, or not any more: why.
    Ended(&'static str),
    /// That cannot be known: why.
    Unknown(&'static str),
}

impl From<Policies> for Candidate {
    fn from(policies: Policies) -> Candidate {
        Candidate(Inner::OfAll(policies))
    }
}

impl Candidate {
    /// A configuration, with what the state keeps. `environment` gives the value of a variable.
    pub fn of_configuration(config: &Config, kept: &Kept, environment: &dyn Fn(&str) -> Option<String>) -> Candidate {
        let whole = Whole::of(config, kept, environment, &Whole::default());
        let snapshot = Arc::new(snapshot::of(&whole, None, |_| None, &Snapshot::default(), i64::MIN));
        let mappings = config.identity.iter().flat_map(|identity| &identity.grants);
        let by_claims = mappings.filter(|mapping| mapping.principal.is_some()).map(|mapping| mapping.grant.clone()).collect();
        let revoked = kept.grants.iter().filter(|grant| grant.revoked.is_some()).map(|grant| grant.name.clone()).collect();
        let of_servers = whole.servers.iter().filter_map(|server| server.policy.clone());
        let of_grants = whole.grants.iter().flat_map(|grant| grant.policies.iter().chain(&grant.bounds).cloned());
        let policies: Vec<Arc<Policy>> = of_servers.chain(of_grants).collect();
        let policies = Policies::all_of(policies);
        Candidate(Inner::Configured(Box::new(Configured { whole, snapshot, by_claims, revoked, policies })))
    }

    /// What the state keeps and cannot be used under the configuration, one sentence each.
    pub fn left_out(&self) -> Vec<String> {
        let Inner::Configured(configured) = &self.0 else { return Vec::new() };
        let wrong = configured.whole.said.iter().filter(|said| said.is_wrong());
        let told = wrong.map(|said| {
            let problem = said.problems.iter().find(|problem| problem.severity == Severity::Error);
            let why = problem.map(|problem| problem.message.as_str()).unwrap_or_default();
            format!("the {} `{}` that the state keeps is left out: {why}", said.kind.as_str(), said.name)
        });
        told.collect()
    }

    /// Names these versions of the policies, where they are the same for all.
    pub fn revision(&self) -> Option<&str> {
        match &self.0 {
            Inner::OfAll(policies) => Some(&**policies.revision()),
            Inner::Configured(_) => None,
        }
    }

    /// The beginning of what matters at this time; see [`Policies::goes_back_to`].
    pub fn goes_back_to(&self, at: i64) -> i64 {
        match &self.0 {
            Inner::OfAll(policies) => policies.goes_back_to(at),
            Inner::Configured(configured) => configured.policies.goes_back_to(at),
        }
    }

    /// What is in force for callers, where that is not the same for all.
    pub(super) fn current(&self) -> Option<Arc<Current>> {
        match &self.0 {
            Inner::OfAll(_) => None,
            Inner::Configured(configured) => Some(Current::of(configured.snapshot.clone())),
        }
    }

    /// What holds at a server for a grant; nothing is allowed where that may not use it.
    pub(super) fn policies(&self, server: &str, grant: &str) -> Policies {
        match &self.0 {
            Inner::OfAll(policies) => policies.clone(),
            Inner::Configured(configured) => {
                configured.snapshot.policies(server, grant).cloned().unwrap_or_else(|| Policies::all_of(Vec::new()))
            }
        }
    }

    /// What a grant is at `at`, in milliseconds since the Unix epoch, with which this principal has called.
    pub(super) fn holding(&self, grant: &str, principal: &str, at: i64) -> Holding {
        let Inner::Configured(configured) = &self.0 else { return Holding::Holds(principal.to_owned()) };
        match configured.whole.grant(grant) {
            None if configured.revoked.contains(grant) => Holding::Unknown(REVOKED),
            None if grant == LOCAL => Holding::Unknown(NOT_CONFIGURED),
            None => Holding::Ended("the configuration has no such grant"),
            Some(found) if found.expires.is_some_and(|expires| expires <= at) => Holding::Ended("the grant has expired"),
            Some(_) if configured.by_claims.contains(grant) => Holding::Holds(principal.to_owned()),
            Some(found) => Holding::Holds(found.principal.clone()),
        }
    }
}

const REVOKED: &str = "its grant was revoked since";
const NOT_CONFIGURED: &str = "it was made without a configuration (`run`, `serve -p`)";
