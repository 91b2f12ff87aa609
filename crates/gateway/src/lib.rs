//! The gateway: the enforcer, its permits, upstreams and downstreams.
//!
//! Whatever the transport, a message of a client's takes one path: it is read once and strictly, judged by the
//! [`Enforcer`], charged and recorded in one transaction, and only then is there a [`Permit`] that an upstream accepts.
//! `run` (stdio before a child), the bridge (stdio before HTTP) and `serve` (HTTP before either) are compositions of the same
//! parts.

mod admin;
mod approvers;
mod book;
mod budget;
mod certificate;
mod chance;
pub mod config;
mod conversation;
mod credentials;
mod descriptors;
mod downstream;
mod edition;
mod enforcer;
mod fetch;
mod gate;
mod gateway;
mod grants;
mod identity;
mod listing;
mod methods;
mod oauth;
mod observe;
mod outbox;
mod ownership;
mod pins;
mod policy_file;
mod policy_watch;
mod recorded;
mod refusal;
mod replay;
mod secret;
mod shown;
mod simulate;
mod sink;
mod snapshot;
pub mod streams;
mod suggest;
mod telemetry;
mod tls;
mod tools;
mod unanswered;
mod upstream;
mod webhooks;

pub use admin::{Admin, Place, openapi, serve_admin};
pub use approvers::{Approvers, Tell, Waiting};
pub use book::{BookFailure, BookRun, Undecided, run_book};
pub use certificate::{CertificateName, ClientCertificate};
pub use credentials::{AdminCredential, AdminCredentials};
pub use descriptors::raise_descriptor_limit;
pub use downstream::federated::{ServerStanding, Standing};
pub use downstream::http::serve;
pub use downstream::listener::Listener;
pub use downstream::stdio::run;
pub use edition::Edition;
pub use enforcer::{Caller, Decided, Enforcer, Facts, Permit};
pub use gateway::{Environment, Gateway, GatewayError, Watched, invitation, serve_gateway, take_back};
pub use grants::{Grant, Grants, new_token};
pub use identity::{Algorithm, ClaimMapping, IdentityConfig};
pub use listing::{Listing, ListingError, list_tools};
pub use methods::explain_method;
pub use oauth::{AuthorizationConfig, ClientProof, Flow, IdentityProvider, SecretPlace, SubjectKind};
pub use observe::Observatory;
pub use pins::{LockError, LockFile, Objection, Pinning, Section, change_lock, pending_path, read_lock, tidy};
pub use policy_file::PolicyFile;
pub use recorded::{Was, time_of};
pub use replay::{Candidate, Difference, Replay, Replayed, Tally, Unknown, Which};
pub use secret::{Secret, SecretError};
pub use shown::{approval_facts, approval_json, arguments_text, status_json, visible};
pub use simulate::{SimulatedCall, Simulation, read_tools};
pub use snapshot::{AtServer, Current, Rules, Snapshot};
pub use store::Reply;
pub use suggest::Observed;
pub use telemetry::{TelemetryError, Telling};
pub use tls::{CertificateFiles, ClientAuthorities, ListenerFiles, ListenerTls, TlsError, UpstreamTls};
pub use upstream::{ChildCommand, Condition, Eras, HttpTarget, Shared, TargetError, Upstream, Vitals, kill_children};
pub use webhooks::{WebhookError, Webhooks};
