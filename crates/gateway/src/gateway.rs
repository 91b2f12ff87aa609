//! The gateway of a configuration: all servers, and what is in force at each of them.
//!
//! Another configuration takes the place of the one before as a whole: who lets callers in takes [`InForce`] once for each
//! request, and enforcers see the very same. A server that is called as before keeps its children and sessions; one that is
//! called otherwise is another edition, and what was begun before it ends. Whoever goes on under a grant that is gone is ended
//! too. A configuration with mistakes changes nothing.

mod authorizing;
mod keeping;
mod serving;
pub(crate) mod snapshot;
mod standing;
#[cfg(test)]
mod tests;
mod watching;

pub use authorizing::{invitation, take_back};
pub use serving::serve_gateway;
pub(crate) use watching::Reloaded;
pub use watching::Watched;

use crate::approvers::Approvers;
use crate::config::kept::Whole;
use crate::config::lasting::Lasting;
use crate::config::{Config, ServerConfig};
use crate::credentials::AdminCredentials;
use crate::downstream::door::Endpoint;
use crate::downstream::federated::{Federation, Patience};
use crate::downstream::server::Server;
use crate::edition::Edition;
use crate::enforcer::{Caller, Enforcer};
use crate::identity::Identity;
use crate::oauth::{Callers, Consents, Pins};
use crate::observe::Observatory;
use crate::pins::LockFile;
use crate::snapshot::{Current, Snapshot};
use crate::upstream::TargetError;
use crate::webhooks::Webhooks;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use store::{ArgumentsMode, Kept, Store};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;
use tracing::warn;

/// Servers by their names.
pub(crate) type Servers = HashMap<String, Arc<Server>>;

/// How often it is looked for grants whose time is over.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// What a configuration and the state have put in force: replaced as a whole, and taken once for a request.
#[derive(Default)]
pub(crate) struct InForce {
    /// What holds for whom: what enforcers go by.
    pub snapshot: Arc<Snapshot>,
    /// Who stands before each server.
    pub servers: Servers,
    /// Who knows callers by tokens of an authorization server, if anybody.
    pub identity: Option<Arc<Identity>>,
    /// Who may administer.
    pub administrators: AdminCredentials,
}

/// Many servers before many callers.
pub struct Gateway {
    store: Store,
    /// The snapshot in force, for enforcers; replaced together with `in_force`.
    current: Arc<Current>,
    in_force: RwLock<Arc<InForce>>,
    federation: Arc<Federation>,
    /// What stays as it was at the start.
    began: Lasting,
    /// What was put in force last. Held while something else takes its place.
    applied: Mutex<Applied>,
    /// Where definitions are pinned, if any are.
    lock: Option<Arc<LockFile>>,
    reloaded: watch::Sender<u64>,
    observatory: OnceLock<Arc<Observatory>>,
    /// Servers that are gone, and end what they had under way.
    ending: TaskTracker,
    approvers: Approvers,
    webhooks: Webhooks,
    /// For whose authorisation what is known of callers matters.
    callers: Callers,
    /// What is kept of arguments, as it was at the start.
    arguments: ArgumentsMode,
    /// Gives the value of a variable.
    environment: Environment,
    /// Asks whoever watches the files to look at once.
    look: mpsc::Sender<oneshot::Sender<Reloaded>>,
    /// Taken by whoever watches.
    asked: Mutex<Option<mpsc::Receiver<oneshot::Sender<Reloaded>>>>,
}

/// Gives the value of a variable of the process.
pub type Environment = fn(&str) -> Option<String>;

#[derive(Default)]
struct Applied {
    /// What the file says.
    config: Option<Arc<Config>>,
    /// What the state keeps.
    kept: Kept,
    /// What both say together: this is in force.
    whole: Arc<Whole>,
}

/// Why a configuration cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A server's address, header or certificate cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A name stands for two grants.
    #[error("the grant `{0}` stands in the configuration, and is kept in the state too; give one of them another name")]
    GrantTwice(String),
    /// A name stands for two servers.
    #[error("the server `{0}` stands in the configuration, and is kept in the state too; give one of them another name")]
    ServerTwice(String),
}

/// What stands in the place of a server's name in records of what was refused at `/mcp` before it was known for whom it was:
/// no server is called that.
const ALL_SERVERS: &str = "*";

impl Gateway {
    /// A gateway as `config` has it and what the state keeps besides, that pins definitions in `lock`. Nothing is started
    /// before somebody needs it. Within a runtime, for the sake of its clocks.
    ///
    /// # Errors
    /// When a server's address, header or certificate cannot be used, or a name stands for two grants or servers.
    pub fn new(
        config: Config,
        store: Store,
        lock: Option<Arc<LockFile>>,
        environment: Environment,
    ) -> Result<Arc<Gateway>, GatewayError> {
        let (current, (reloaded, _)) = (Current::new(Snapshot::default()), watch::channel(0));
        let (in_force, applied, ending) = (RwLock::default(), Mutex::default(), TaskTracker::new());
        if let Some(lock) = &lock {
            let changed = reloaded.clone();
            lock.watch(move || changed.send_modify(|version| *version += 1));
        }
        // No policy holds there: what no server has is denied.
        let nowhere = Enforcer::of(store.clone(), (ALL_SERVERS, None), config.audit.arguments, current.clone());
        let judged_by = current.clone();
        let may_use = move |caller: &Caller, server: &str| judged_by.snapshot().policies(server, &caller.grant).is_some();
        let federation = Federation::new(nowhere, [], Arc::new(may_use), Patience::default());
        let observatory = OnceLock::new();
        let webhooks = Webhooks::new(Vec::new(), store.clock().clone());
        let approvers = Approvers::new(store.clone()).telling(webhooks.clone().teller());
        let (look, asked) = mpsc::channel(1);
        let callers = Callers {
            consents: config
                .authorizations
                .as_ref()
                .map(|section| Consents::new(store.clone(), &section.key, section.url.clone())),
            clock: store.clock().clone(),
            client_document: config.authorizations.as_ref().and_then(|section| section.client_document.as_deref()).map(Arc::from),
            pins: Arc::new(Pins::kept_in(store.clone())),
            ..Callers::default()
        };
        let gateway = Arc::new(Gateway {
            store,
            current,
            in_force,
            federation,
            began: Lasting::of(&config),
            applied,
            lock,
            reloaded,
            observatory,
            ending,
            approvers,
            webhooks,
            arguments: config.audit.arguments,
            environment,
            look,
            asked: Mutex::new(Some(asked)),
            callers,
        });
        match gateway.store.reader().and_then(|reader| reader.kept()) {
            Ok(kept) => gateway.lock().kept = kept,
            // It comes once it can be read; until then its servers are not there, and its tokens unknown.
            Err(error) => warn!(%error, "what the state keeps cannot be read"),
        }
        gateway.apply(config)?;
        keeping::follow(&gateway);
        let expiring = Arc::downgrade(&gateway);
        tokio::spawn(async move {
            while let Some(gateway) = expiring.upgrade() {
                gateway.in_force().snapshot.grants().end_expired(gateway.store.clock().now());
                drop(gateway);
                tokio::time::sleep(EXPIRY_INTERVAL).await;
            }
        });
        Ok(gateway)
    }

    /// Puts another configuration in force, as a whole, with what the state keeps. Where it listens, where state is kept, what
    /// is recorded and how, and what is told to the outside stay as they were at the start ([`Lasting`]).
    ///
    /// # Errors
    /// When a server's address, header or certificate cannot be used, or a name stands for two grants or servers; nothing has
    /// changed then.
    pub fn apply(&self, config: Config) -> Result<(), GatewayError> {
        let mut applied = self.lock();
        let of_file = |name: &str| config.grants.iter().any(|grant| grant.name == name);
        if let Some(twice) = applied.kept.grants.iter().find(|stored| stored.spec.is_some() && of_file(&stored.name)) {
            return Err(GatewayError::GrantTwice(twice.name.clone()));
        }
        let of_file = |name: &str| config.servers.iter().any(|server| server.name == name);
        if let Some(twice) = applied.kept.servers.iter().find(|document| of_file(&document.name)) {
            return Err(GatewayError::ServerTwice(twice.name.clone()));
        }
        let whole = Whole::of(&config, &applied.kept, &self.environment, &applied.whole);
        self.put_in_force(&mut applied, Arc::new(config), Arc::new(whole))
    }

    /// # Errors
    /// When a server's address, header or certificate cannot be used; nothing has changed then.
    fn put_in_force(&self, applied: &mut Applied, config: Arc<Config>, whole: Arc<Whole>) -> Result<(), GatewayError> {
        let before = self.in_force();
        let mut servers = Servers::with_capacity(whole.servers.len());
        for server in &whole.servers {
            let known = applied.whole.servers.iter().find(|known| known.is_called_as(server));
            let kept = known.and_then(|known| before.servers.get(&known.name)).cloned();
            let standing = match kept {
                Some(kept) => kept,
                None => Arc::new(self.stand_before(server)?),
            };
            servers.insert(server.name.clone(), standing);
        }
        // Its keys are kept while it is the same.
        let identity = match (&before.identity, &config.identity) {
            (Some(kept), Some(config)) if kept.config() == config => Some(kept.clone()),
            (_, config) => config.as_ref().map(|config| Arc::new(Identity::new(config))),
        };
        let administrators = config.admin.as_ref().map(|admin| admin.credentials.clone()).unwrap_or_default();
        self.webhooks.replace(config.approvals.webhooks.clone());
        let exchanges = |server: &ServerConfig| server.authorization.as_ref().is_some_and(|by| by.flow.is_of_subject());
        self.callers.subjects.want(whole.servers.iter().any(exchanges));
        keeping::report(&whole, &applied.whole);
        let edition = |server: &str| servers.get(server).and_then(|server| server.enforcer.edition());
        let now = self.store.clock().now();
        let snapshot = snapshot::of(&whole, config.identity.as_ref(), edition, &before.snapshot, now);
        self.current.replace_with(snapshot, |snapshot| {
            let in_force = InForce { snapshot: snapshot.clone(), servers, identity, administrators };
            *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(in_force);
        });
        (applied.config, applied.whole) = (Some(config), whole);
        self.reloaded.send_modify(|version| *version += 1);
        self.change_servers(&before.servers, &self.in_force().servers);
        Ok(())
    }

    /// Has the federation go by the servers there are now, and ends those that are there no more.
    fn change_servers(&self, before: &Servers, now: &Servers) {
        let is_kept = |name: &String, server: &Arc<Server>| now.get(name).is_some_and(|kept| Arc::ptr_eq(kept, server));
        if before.len() == now.len() && before.iter().all(|(name, server)| is_kept(name, server)) {
            return;
        }
        self.federation.replace(now.iter().map(|(name, server)| (name.clone(), server.sessions().clone())).collect::<Vec<_>>());
        for (_, server) in before.iter().filter(|(name, server)| !is_kept(name, server)) {
            let server = server.clone();
            self.ending.spawn(async move { server.shut_down().await });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand_before(&self, server: &ServerConfig) -> Result<Server, TargetError> {
        let at = (server.name.as_str(), Some(Edition::another()));
        let enforcer = Enforcer::of(self.store.clone(), at, self.arguments, self.current.clone());
        enforcer.stand_before(server.fingerprint());
        if let Some(observatory) = self.observatory.get() {
            enforcer.observe(observatory);
        }
        enforcer.ask_by(self.approvers.clone());
        if let Some(lock) = &self.lock {
            enforcer.pin(lock.clone(), server.pin);
        }
        let messages = format!("{}/{}", Endpoint::Messages.path(), server.name);
        Ok(Server::new(enforcer, server.upstream_for(&self.callers)?, &messages, self.reloaded.subscribe()))
    }

    /// Has the files looked at now, and gives what came of it; `None` where nobody watches them.
    pub(crate) async fn reload(&self) -> Option<Reloaded> {
        let (answer, answered) = oneshot::channel();
        self.look.send(answer).await.ok()?;
        answered.await.ok()
    }

    /// Has everything observed from here on.
    pub fn observe(&self, observatory: &Arc<Observatory>) {
        // Servers that come meanwhile wait for what is put in force.
        let _applying = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.observatory.set(observatory.clone());
        self.in_force().servers.values().for_each(|server| server.enforcer.observe(observatory));
        self.federation.enforcer().observe(observatory);
    }

    /// What is in force.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The configuration in force.
    pub fn config(&self) -> Option<Arc<Config>> {
        self.lock().config.clone()
    }

    /// Where things are remembered.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What is known of callers, for whose authorisation it matters.
    pub(crate) fn callers(&self) -> &Callers {
        &self.callers
    }

    /// What users have authorised, where they may.
    pub(crate) fn consents(&self) -> Option<&Arc<Consents>> {
        self.callers.consents.as_ref()
    }

    /// All that a caller may use, as one server.
    pub(crate) fn federation(&self) -> &Arc<Federation> {
        &self.federation
    }

    /// Lets what is only kept open end: nobody new is let in from here on.
    pub(crate) fn finish(&self) {
        self.in_force().servers.values().for_each(|server| server.finish());
        self.federation.finish();
    }

    /// Ends all servers.
    pub(crate) async fn shut_down(&self) {
        self.federation.shut_down().await;
        let in_force = self.in_force();
        futures_util::future::join_all(in_force.servers.values().map(|server| server.shut_down())).await;
        self.ending.close();
        self.ending.wait().await;
        if let Some(lock) = &self.lock {
            lock.close();
        }
    }
}
