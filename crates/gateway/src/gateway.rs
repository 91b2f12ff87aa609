//! The gateway of a configuration: all servers, and what is in force at each of them.
//!
//! Another configuration takes the place of the one before as a whole. A server that is called as before keeps its children
//! and sessions; whoever goes on under a grant that is gone is ended. Change is found by content, as that of policies is, and
//! a configuration with mistakes changes nothing.

mod authorizing;
mod keeping;
mod serving;
pub(crate) mod snapshot;
mod standing;

pub use authorizing::{invitation, take_back};
pub use serving::serve_gateway;

use crate::approvers::Approvers;
use crate::config::kept::Whole;
use crate::config::{Config, ConfigFile, ServerConfig};
use crate::downstream::door::Endpoint;
use crate::downstream::federated::{Federation, Patience};
use crate::downstream::server::Server;
use crate::enforcer::{Caller, Enforcer};
use crate::identity::Identity;
use crate::oauth::{Callers, Consents, Pins};
use crate::observe::Observatory;
use crate::pins::LockFile;
use crate::policy_file::content;
use crate::snapshot::{Current, Snapshot};
use crate::upstream::TargetError;
use crate::webhooks::Webhooks;
use ring::digest::{Context, SHA256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use store::{ArgumentsMode, Kept, Store};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

/// Servers by their names.
pub(crate) type Servers = HashMap<String, Arc<Server>>;

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked for grants whose time is over.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

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

/// What came of looking at the files anew.
#[derive(Debug)]
pub(crate) enum Reloaded {
    /// What they say is in force.
    InForce,
    /// They have mistakes: these, as JSON.
    Mistaken(Vec<String>),
    /// They cannot be read, or what they say cannot be put in force; why.
    Refused(String),
}

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
                gateway.snapshot().grants().end_expired(gateway.store.clock().now());
                drop(gateway);
                tokio::time::sleep(EXPIRY_INTERVAL).await;
            }
        });
        Ok(gateway)
    }

    /// Puts another configuration in force, as a whole, with what the state keeps. Where it listens, where state is kept, what
    /// is recorded and how, and what is told to the outside stay as they were at the start.
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
        let before = self.servers();
        let mut servers = Servers::with_capacity(whole.servers.len());
        for server in &whole.servers {
            let known = applied.whole.servers.iter().find(|known| known.is_called_as(server));
            let kept = known.and_then(|known| before.get(&known.name)).cloned();
            let standing = match kept {
                Some(kept) => kept,
                None => Arc::new(self.stand_before(server)?),
            };
            servers.insert(server.name.clone(), standing);
        }
        let servers = Arc::new(servers);
        *self.servers.write().unwrap_or_else(PoisonError::into_inner) = servers.clone();
        self.webhooks.replace(config.approvals.webhooks.clone());
        let exchanges = |server: &ServerConfig| server.authorization.as_ref().is_some_and(|by| by.flow.is_of_subject());
        self.callers.subjects.want(whole.servers.iter().any(exchanges));
        keeping::report(&whole, &applied.whole);
        let now = self.store.clock().now();
        self.current.replace(snapshot::of(&whole.servers, &whole.grants, &self.current.snapshot(), now));
        let mut identity = self.identity.write().unwrap_or_else(PoisonError::into_inner);
        // Its keys, and the tokens that were used, are kept while it is the same.
        if identity.as_ref().map(|identity| identity.config()) != config.identity.as_ref() {
            *identity = config.identity.as_ref().map(|config| Arc::new(Identity::new(config)));
        }
        drop(identity);
        (applied.config, applied.whole) = (Some(config), whole);
        self.reloaded.send_modify(|version| *version += 1);
        let is_same = |name: &String, server: &Arc<Server>| before.get(name).is_some_and(|known| Arc::ptr_eq(known, server));
        if before.len() == servers.len() && servers.iter().all(|(name, server)| is_same(name, server)) {
            return Ok(());
        }
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

    fn lock(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand_before(&self, server: &ServerConfig) -> Result<Server, TargetError> {
        let enforcer = Enforcer::of(self.store.clone(), server.name.as_str(), self.arguments, self.current.clone());
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

    /// Takes up each later version of the file that `began` was read from, for as long as the gateway lives: when it or a file
    /// that it names has changed, and when `asked` or an administrator says so. `say` is given a version that is not taken up.
    pub fn watch(self: &Arc<Gateway>, began: Watched, asked: Arc<Notify>, say: impl Fn(&ConfigFile) + Send + 'static) {
        let Some(mut questions) = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let environment = self.environment;
        let gateway = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut watched = began;
            let mut unreadable = false;
            loop {
                let (is_asked, answer) = tokio::select! {
                    () = tokio::time::sleep(INTERVAL) => (false, None),
                    () = asked.notified() => (true, None),
                    Some(answer) = questions.recv() => (true, Some(answer)),
                };
                let Some(gateway) = gateway.upgrade() else { return };
                let Some(read) = watched.look(is_asked, environment).await else { continue };
                let reloaded = match read {
                    Err(_) if unreadable && !is_asked => continue,
                    Err(error) => {
                        unreadable = true;
                        warn!(path = %watched.path.display(), %error, "the configuration cannot be read; it stays as it is");
                        Reloaded::Refused(format!("the configuration cannot be read: {error}"))
                    }
                    Ok(file) => {
                        unreadable = false;
                        gateway.take_up(file, &watched.path, &say)
                    }
                };
                // Whoever has asked may have gone.
                let _ = answer.map(|answer| answer.send(reloaded));
            }
        });
    }

    fn take_up(&self, file: ConfigFile, path: &Path, say: &impl Fn(&ConfigFile)) -> Reloaded {
        if file.config().is_none() {
            error!(path = %path.display(), "the configuration has mistakes; it stays as it is");
            say(&file);
            return Reloaded::Mistaken(file.reports().iter().map(|report| report.problem.to_json()).collect());
        }
        let Some(config) = file.into_config() else { return Reloaded::Mistaken(Vec::new()) };
        match self.apply(config) {
            Ok(()) => {
                info!(path = %path.display(), "another configuration is in force");
                Reloaded::InForce
            }
            Err(error) => {
                error!(path = %path.display(), %error, "the configuration cannot be used; it stays as it is");
                Reloaded::Refused(error.to_string())
            }
        }
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
        match content(file) {
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
