//! The gateway: the enforcer, its permits, upstreams and downstreams.
