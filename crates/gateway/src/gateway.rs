//! The gateway of a configuration: all servers, and what is in force at each of them.
//!
//! Another configuration takes the place of the one before as a whole. A server that is called as before keeps its children
//! and sessions; whoever goes on under a grant that is gone is ended. Change is found by content, as that of policies is, and
//! a configuration with mistakes changes nothing.

mod serving;
mod snapshot;

pub use serving::serve_gateway;

use crate::approvers::Approvers;
use crate::config::{Config, ConfigFile, GrantConfig, ServerConfig, grants};
use crate::downstream::door::Endpoint;
use crate::downstream::federated::{Federation, Patience, ServerStanding};
use crate::downstream::server::Server;
use crate::enforcer::{Caller, Enforcer};
use crate::identity::Identity;
use crate::observe::Observatory;
use crate::pins::LockFile;
use crate::snapshot::{Current, Snapshot};
use crate::upstream::TargetError;
use crate::webhooks::Webhooks;
use ring::digest::{Context, SHA256};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use store::{ArgumentsMode, Reader, Store, StoredGrant};
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

/// Servers by their names.
pub(crate) type Servers = HashMap<String, Arc<Server>>;

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often grants are looked at: a revocation takes effect within a second.
const GRANTS_INTERVAL: Duration = Duration::from_millis(250);

/// Many servers before many callers.
pub struct Gateway {
    store: Store,
    current: Arc<Current>,
    servers: RwLock<Arc<Servers>>,
    federation: Arc<Federation>,
    identity: RwLock<Option<Arc<Identity>>>,
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
}

#[derive(Default)]
struct Applied {
    config: Option<Arc<Config>>,
    /// What the state keeps of grants, and the version of that.
    stored: (i64, Vec<StoredGrant>),
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
}

/// What stands in the place of a server's name in records of what was refused at `/mcp` before it was known for whom it was:
/// no server is called that.
const ALL_SERVERS: &str = "*";

impl Gateway {
    /// A gateway as `config` has it, that pins definitions in `lock`. Nothing is started before somebody needs it. Within a runtime, for the sake of its clocks.
    ///
    /// # Errors
    /// When a server's address, header or certificate cannot be used, or a name stands for two grants.
    pub fn new(config: Config, store: Store, lock: Option<Arc<LockFile>>) -> Result<Arc<Gateway>, GatewayError> {
        let (current, (reloaded, _)) = (Current::new(Snapshot::default()), watch::channel(0));
        let (servers, applied, ending) = (RwLock::default(), Mutex::default(), TaskTracker::new());
        if let Some(lock) = &lock {
            let changed = reloaded.clone();
            lock.watch(move || changed.send_modify(|version| *version += 1));
        }
        // No policy holds there: what no server has is denied.
        let nowhere = Enforcer::of(store.clone(), ALL_SERVERS, config.audit.arguments, current.clone());
        let in_force = current.clone();
        let may_use = move |caller: &Caller, server: &str| in_force.snapshot().policies(server, &caller.grant).is_some();
        let federation = Federation::new(nowhere, [], Arc::new(may_use), Patience::default());
        let observatory = OnceLock::new();
        let webhooks = Webhooks::new(Vec::new(), store.clock().clone());
        let approvers = Approvers::new(store.clone()).telling(webhooks.clone().teller());
        let gateway = Arc::new(Gateway {
            store,
            current,
            servers,
            federation,
            identity: RwLock::default(),
            applied,
            lock,
            reloaded,
            observatory,
            ending,
            approvers,
            webhooks,
        });
        match gateway.store.reader().and_then(|reader| reader.grants()) {
            Ok(stored) => gateway.lock().stored = stored,
            // They come once it can be read; until then their tokens are unknown.
            Err(error) => warn!(%error, "the grants that the state keeps cannot be read"),
        }
        gateway.apply(config)?;
        follow_grants(&gateway);
        let expiring = Arc::downgrade(&gateway);
        tokio::spawn(async move {
            while let Some(gateway) = expiring.upgrade() {
                gateway.snapshot().grants().end_expired(gateway.store.clock().now());
                drop(gateway);
                tokio::time::sleep(GRANTS_INTERVAL).await;
            }
        });
        Ok(gateway)
    }

    /// Puts another configuration in force, as a whole. Where it listens, where state is kept, what is recorded and how, and
    /// what is told to the outside stay as they were at the start.
    ///
    /// # Errors
    /// When a server's address, header or certificate cannot be used, or a name stands for two grants; nothing has changed
    /// then.
    pub fn apply(&self, config: Config) -> Result<(), GatewayError> {
        let mut applied = self.lock();
        let of_file = |name: &str| config.grants.iter().any(|grant| grant.name == name);
        if let Some(twice) = applied.stored.1.iter().find(|stored| stored.spec.is_some() && of_file(&stored.name)) {
            return Err(GatewayError::GrantTwice(twice.name.clone()));
        }
        let before = self.servers();
        let arguments = applied.config.as_ref().map_or(config.audit.arguments, |config| config.audit.arguments);
        let mut servers = Servers::with_capacity(config.servers.len());
        for server in &config.servers {
            let known = applied.config.iter().flat_map(|config| &config.servers).find(|known| known.is_called_as(server));
            let kept = known.and_then(|known| before.get(&known.name)).cloned();
            let standing = match kept {
                Some(kept) => kept,
                None => Arc::new(self.stand_before(server, arguments)?),
            };
            servers.insert(server.name.clone(), standing);
        }
        let servers = Arc::new(servers);
        *self.servers.write().unwrap_or_else(PoisonError::into_inner) = servers.clone();
        self.webhooks.replace(config.approvals.webhooks.clone());
        applied.config = Some(Arc::new(config));
        self.put_in_force(&applied);
        self.federation
            .replace(servers.iter().map(|(name, server)| (name.clone(), server.sessions().clone())).collect::<Vec<_>>());
        for (name, server) in before.iter() {
            if !servers.get(name).is_some_and(|kept| Arc::ptr_eq(kept, server)) {
                let server = server.clone();
                self.ending.spawn(async move { server.shut_down().await });
            }
        }
        Ok(())
    }

    fn put_in_force(&self, applied: &Applied) {
        let Some(config) = &applied.config else { return };
        let revoked: HashSet<&str> =
            applied.stored.1.iter().filter(|stored| stored.revoked.is_some()).map(|stored| stored.name.as_str()).collect();
        let mut grants: Vec<&GrantConfig> = config.grants.iter().filter(|grant| !revoked.contains(grant.name.as_str())).collect();
        let kept: Vec<GrantConfig> = applied.stored.1.iter().filter_map(|stored| usable(stored, config)).collect();
        grants.extend(&kept);
        let now = self.store.clock().now();
        self.current.replace(snapshot::of(config, &grants, &self.current.snapshot(), now));
        let mut identity = self.identity.write().unwrap_or_else(PoisonError::into_inner);
        // Its keys, and the tokens that were used, are kept while it is the same.
        if identity.as_ref().map(|identity| identity.config()) != config.identity.as_ref() {
            *identity = config.identity.as_ref().map(|config| Arc::new(Identity::new(config)));
        }
        self.reloaded.send_modify(|version| *version += 1);
    }

    /// Takes up what has become of grants.
    fn take_grants(&self, stored: (i64, Vec<StoredGrant>)) {
        let mut applied = self.lock();
        applied.stored = stored;
        self.put_in_force(&applied);
    }

    fn lock(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand_before(&self, server: &ServerConfig, arguments: ArgumentsMode) -> Result<Server, TargetError> {
        let enforcer = Enforcer::of(self.store.clone(), &server.name, arguments, self.current.clone());
        if let Some(observatory) = self.observatory.get() {
            enforcer.observe(observatory);
        }
        enforcer.ask_by(self.approvers.clone());
        if let Some(lock) = &self.lock {
            enforcer.pin(lock.clone(), server.pin);
        }
        let messages = format!("{}/{}", Endpoint::Messages.path(), server.name);
        Ok(Server::new(enforcer, server.upstream()?, &messages, self.reloaded.subscribe()))
    }

    /// Takes up each later version of the file that `began` was read from, for as long as the gateway lives: when it or a file
    /// that it names has changed, and when `asked` says so. `environment` gives the value of a variable; `say` is given a
    /// version that is not taken up.
    pub fn watch(
        self: &Arc<Gateway>,
        began: Watched,
        environment: fn(&str) -> Option<String>,
        asked: Arc<Notify>,
        say: impl Fn(&ConfigFile) + Send + 'static,
    ) {
        let gateway = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut watched = began;
            let mut unreadable = false;
            loop {
                let is_asked = tokio::time::timeout(INTERVAL, asked.notified()).await.is_ok();
                let Some(gateway) = gateway.upgrade() else { return };
                let Some(read) = watched.look(is_asked, environment).await else { continue };
                match read {
                    Err(_) if unreadable && !is_asked => {}
                    Err(error) => {
                        unreadable = true;
                        warn!(path = %watched.path.display(), %error, "the configuration cannot be read; it stays as it is");
                    }
                    Ok(file) => {
                        unreadable = false;
                        gateway.take_up(file, &watched.path, &say);
                    }
                }
            }
        });
    }

    fn take_up(&self, file: ConfigFile, path: &Path, say: &impl Fn(&ConfigFile)) {
        if file.config().is_none() {
            error!(path = %path.display(), "the configuration has mistakes; it stays as it is");
            return say(&file);
        }
        let Some(config) = file.into_config() else { return };
        match self.apply(config) {
            Ok(()) => info!(path = %path.display(), "another configuration is in force"),
            Err(error) => error!(path = %path.display(), %error, "the configuration cannot be used; it stays as it is"),
        }
    }

    /// Has everything observed from here on.
    pub fn observe(&self, observatory: &Arc<Observatory>) {
        // Servers that come meanwhile wait for what is put in force.
        let _applying = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.observatory.set(observatory.clone());
        self.servers().values().for_each(|server| server.enforcer.observe(observatory));
        self.federation.enforcer().observe(observatory);
    }

    /// What is in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.snapshot()
    }

    /// The configuration in force.
    pub fn config(&self) -> Option<Arc<Config>> {
        self.lock().config.clone()
    }

    /// Where things are remembered.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The servers there are now.
    pub(crate) fn servers(&self) -> Arc<Servers> {
        self.servers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who knows callers by tokens of an authorization server, if anybody.
    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How each server stands, by name: for people.
    pub fn standings(&self) -> Vec<ServerStanding> {
        self.federation.standings()
    }

    /// All that a caller may use, as one server.
    pub(crate) fn federation(&self) -> &Arc<Federation> {
        &self.federation
    }

    /// Lets what is only kept open end: nobody new is let in from here on.
    pub(crate) fn finish(&self) {
        self.servers().values().for_each(|server| server.finish());
        self.federation.finish();
    }

    /// Ends all servers.
    pub(crate) async fn shut_down(&self) {
        self.federation.shut_down().await;
        let servers = self.servers();
        futures_util::future::join_all(servers.values().map(|server| server.shut_down())).await;
        self.ending.close();
        self.ending.wait().await;
        if let Some(lock) = &self.lock {
            lock.close();
        }
    }
}

/// A grant that the state keeps, as it is in force; `None` where it is revoked, or there is something wrong with it.
fn usable(stored: &StoredGrant, config: &Config) -> Option<GrantConfig> {
    if stored.revoked.is_some() || stored.spec.is_none() {
        return None;
    }
    if config.grants.iter().any(|grant| grant.name == stored.name) {
        error!(grant = %stored.name, "a grant that the state keeps has the name of one in the configuration, and is left out");
        return None;
    }
    // References belong into the configuration.
    match grants::read_stored(stored, &config.base, &|_| None, &config.servers) {
        Ok(grant) => Some(grant),
        Err(problems) => {
            let why = problems.first().map(|problem| problem.message.clone()).unwrap_or_default();
            error!(grant = %stored.name, why, "a grant that the state keeps cannot be used, and is left out");
            None
        }
    }
}

/// Looks for changes of grants in the state, on a thread that may wait for it, for as long as the gateway lives.
fn follow_grants(gateway: &Arc<Gateway>) {
    let (gateway, store) = (Arc::downgrade(gateway), gateway.store.clone());
    let follow = move || {
        let mut reader: Option<Reader> = None;
        let mut said = false;
        loop {
            std::thread::sleep(GRANTS_INTERVAL);
            let Some(gateway) = gateway.upgrade() else { return };
            let known = gateway.lock().stored.0;
            let look = |reader: &Reader| match reader.grants_version()? {
                version if version == known => Ok(None),
                _ => reader.grants().map(Some),
            };
            let opened = match reader.take() {
                Some(reader) => Ok(reader),
                None => store.reader(),
            };
            match opened.and_then(|opened| look(&opened).map(|found| (opened, found))) {
                Ok((opened, found)) => {
                    (reader, said) = (Some(opened), false);
                    if let Some(stored) = found {
                        info!("grants have changed");
                        gateway.take_grants(stored);
                    }
                }
                Err(error) if !said => {
                    said = true;
                    warn!(%error, "the grants that the state keeps cannot be read; they stay as they were");
                }
                Err(_) => {}
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("grants".to_owned()).spawn(follow) {
        error!(%error, "no thread can be started to look for revoked grants");
    }
}

/// What a configuration depends on, and what that held when it was looked at last.
pub struct Watched {
    path: PathBuf,
    files: Vec<PathBuf>,
    held: [u8; 32],
    /// What was read of it.
    fingerprint: [u8; 32],
}

impl Watched {
    /// Begins with a file that was read from `path`.
    pub fn new(path: &Path, file: &ConfigFile) -> Watched {
        let files = file.files().to_vec();
        // What has changed since it was read must show: so nothing is taken for known.
        Watched { path: path.to_owned(), files, held: [0; 32], fingerprint: file.fingerprint() }
    }

    /// Reads it again if something has changed, or if it `must`; `None` where it means what it meant.
    async fn look(&mut self, must: bool, environment: fn(&str) -> Option<String>) -> Option<std::io::Result<ConfigFile>> {
        let (path, files) = (self.path.clone(), self.files.clone());
        let held = self.held;
        let looked = tokio::task::spawn_blocking(move || {
            let now = content_of(&files);
            (now != held || must).then(|| (now, ConfigFile::read(&path, &environment)))
        });
        let (now, read) = looked.await.ok()??;
        self.held = now;
        if let Ok(file) = &read {
            if file.fingerprint() == self.fingerprint && !must {
                return None;
            }
            self.fingerprint = file.fingerprint();
            if self.files != file.files() {
                self.files = file.files().to_vec();
                self.held = [0; 32];
            }
        }
        Some(read)
    }
}

/// A digest of what files hold.
fn content_of(files: &[PathBuf]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for file in files {
        match std::fs::read(file) {
            Ok(content) => {
                context.update(&(content.len() as u64).to_le_bytes());
                context.update(&content);
            }
            Err(_) => context.update(b"\0unreadable"),
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
