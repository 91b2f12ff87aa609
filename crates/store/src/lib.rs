//! Everything that is remembered: counters, audit records and their chain, approvals.
