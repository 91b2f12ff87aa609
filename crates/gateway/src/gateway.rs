//! The gateway of a configuration: all servers, and what is in force at each of them.

use crate::config::{Config, ServerConfig};
use crate::downstream::door::Endpoint;
use crate::downstream::server::Server;
use crate::enforcer::Enforcer;
use crate::snapshot::{Current, Snapshot};
use crate::upstream::TargetError;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use store::{ArgumentsMode, Store};
use tokio::sync::watch;

/// Servers by their names.
pub(crate) type Servers = HashMap<String, Arc<Server>>;

/// Many servers before many callers.
pub struct Gateway {
    store: Store,
    current: Arc<Current>,
    servers: RwLock<Arc<Servers>>,
    reloaded: watch::Sender<u64>,
}

impl Gateway {
    /// A gateway as `config` has it. Nothing is started before somebody needs it.
    ///
    /// # Errors
    /// When a server's address, header or certificate cannot be used.
    pub fn new(config: &Config, store: Store) -> Result<Arc<Gateway>, TargetError> {
        let current = Current::new(Snapshot::of(config));
        let (reloaded, _) = watch::channel(0);
        let gateway = Gateway { store, current, servers: RwLock::default(), reloaded };
        let servers = config
            .servers
            .iter()
            .map(|server| Ok((server.name.clone(), Arc::new(gateway.stand_before(server, config.audit.arguments)?))));
        let servers: Result<Servers, TargetError> = servers.collect();
        *gateway.servers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(servers?);
        Ok(Arc::new(gateway))
    }

    fn stand_before(&self, server: &ServerConfig, arguments: ArgumentsMode) -> Result<Server, TargetError> {
        let enforcer = Enforcer::of(self.store.clone(), &server.name, arguments, self.current.clone());
        let messages = format!("{}/{}", Endpoint::Messages.path(), server.name);
        Ok(Server::new(enforcer, server.upstream()?, &messages, self.reloaded.subscribe()))
    }

    /// What is in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.snapshot()
    }

    /// Where things are remembered.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The servers there are now.
    pub(crate) fn servers(&self) -> Arc<Servers> {
        self.servers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends all servers.
    pub(crate) async fn shut_down(&self) {
        let servers = self.servers();
        futures_util::future::join_all(servers.values().map(|server| server.shut_down())).await;
    }
}
