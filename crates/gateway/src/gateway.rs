//! The gateway of a configuration: all servers, and what is in force at each of them.

use crate::config::{Config, ServerConfig};
use crate::downstream::door::Endpoint;
use crate::downstream::federated::{Federation, Patience, ServerStanding};
use crate::downstream::server::Server;
use crate::enforcer::{Caller, Enforcer};
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
    federation: Arc<Federation>,
    reloaded: watch::Sender<u64>,
}

/// What stands in the place of a server's name in records of what was refused at `/mcp` before it was known for whom it was:
/// no server is called that.
const ALL_SERVERS: &str = "*";

impl Gateway {
    /// A gateway as `config` has it. Nothing is started before somebody needs it.
    ///
    /// # Errors
    /// When a server's address, header or certificate cannot be used.
    pub fn new(config: &Config, store: Store) -> Result<Arc<Gateway>, TargetError> {
        let current = Current::new(Snapshot::of(config));
        let (reloaded, _) = watch::channel(0);
        // No policy holds there: what no server has is denied.
        let nowhere = Enforcer::of(store.clone(), ALL_SERVERS, config.audit.arguments, current.clone());
        let in_force = current.clone();
        let may_use = move |caller: &Caller, server: &str| in_force.snapshot().policies(server, &caller.grant).is_some();
        let federation = Federation::new(nowhere, [], Arc::new(may_use), Patience::default());
        let gateway = Gateway { store, current, servers: RwLock::default(), federation, reloaded };
        let servers = config
            .servers
            .iter()
            .map(|server| Ok((server.name.clone(), Arc::new(gateway.stand_before(server, config.audit.arguments)?))));
        let servers: Result<Servers, TargetError> = servers.collect();
        gateway.put(servers?);
        Ok(Arc::new(gateway))
    }

    /// Puts these servers in the place of those there are.
    fn put(&self, servers: Servers) {
        let sessions: Vec<_> = servers.iter().map(|(name, server)| (name.clone(), server.sessions().clone())).collect();
        *self.servers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(servers);
        self.federation.replace(sessions);
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

    /// How each server stands, by name: for people.
    pub fn standings(&self) -> Vec<ServerStanding> {
        self.federation.standings()
    }

    /// All that a caller may use, as one server.
    pub(crate) fn federation(&self) -> &Arc<Federation> {
        &self.federation
    }

    /// Ends all servers.
    pub(crate) async fn shut_down(&self) {
        self.federation.shut_down().await;
        let servers = self.servers();
        futures_util::future::join_all(servers.values().map(|server| server.shut_down())).await;
    }
}
