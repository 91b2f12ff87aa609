//! What a configuration says that is gone by from the start to the end of the process.

use super::{AdminConfig, AuditConfig, AuthorizationsConfig, Config, TelemetryConfig};
use crate::tls::ListenerFiles;
use std::net::SocketAddr;
use std::path::PathBuf;
use store::StateUrl;

/// The sections that a reload leaves as they are: listeners, what is kept where, and what is told to the outside.
#[derive(Debug)]
pub(crate) struct Lasting {
    listen: SocketAddr,
    hosts: Vec<String>,
    tls: Option<ListenerFiles>,
    state: Option<StateUrl>,
    authorizations: Option<AuthorizationsConfig>,
    admin: Option<(SocketAddr, Vec<String>, Option<ListenerFiles>)>,
    audit: AuditConfig,
    lock: PathBuf,
    telemetry: TelemetryConfig,
}

impl Lasting {
    pub fn of(config: &Config) -> Lasting {
        Lasting {
            listen: config.listen,
            hosts: config.hosts.clone(),
            tls: config.tls.clone(),
            state: config.state.clone(),
            authorizations: config.authorizations.clone(),
            admin: config.admin.as_ref().map(listener),
            audit: config.audit.clone(),
            lock: config.lock.clone(),
            telemetry: config.telemetry.clone(),
        }
    }

    /// The sections in which `config` says something else, as the file names them, in its order. Of `admin`, only where it
    /// listens and under which names: who administers, and what the state may name, is taken up.
    pub fn changed_in(&self, config: &Config) -> Vec<&'static str> {
        let now = Lasting::of(config);
        let sections = [
            ("listen", self.listen != now.listen),
            ("hosts", self.hosts != now.hosts),
            ("tls", self.tls != now.tls),
            ("state", self.state != now.state),
            ("authorizations", self.authorizations != now.authorizations),
            ("admin", self.admin != now.admin),
            ("audit", self.audit != now.audit),
            ("lock", self.lock != now.lock),
            ("telemetry", self.telemetry != now.telemetry),
        ];
        sections.into_iter().filter(|(_, is_other)| *is_other).map(|(name, _)| name).collect()
    }
}

fn listener(admin: &AdminConfig) -> (SocketAddr, Vec<String>, Option<ListenerFiles>) {
    (admin.listen, admin.hosts.clone(), admin.tls.clone())
}
