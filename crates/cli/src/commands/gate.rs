//! `run` and `serve`: the gateway before one server.

use crate::arguments::{BridgeWord, ErasArgument, IsolationWord, KeepingArguments, Run, Serve, UpstreamArguments};
use crate::commands::administration::Administration;
use crate::commands::{block_on, block_on_all_cores};
use crate::failure::{Failure, OK};
use crate::terminal::{tell, visible};
use crate::{headers, logs, policies, server_name, signals};
use gateway::{
    Approvers, Caller, ChildCommand, Enforcer, HttpTarget, Listener, ListenerTls, LockFile, Pinning, PolicyFile, Upstream,
    UpstreamTls, Webhooks,
};
use policy::Severity;
use std::sync::Arc;
use std::time::Duration;
use store::{Instance, Options, Store};
use tokio::sync::watch;

pub fn run(arguments: Run) -> Result<u8, Failure> {
    logs::start();
    let file = policies::read(&arguments.policy.policy)?;
    policies::print(&file, Severity::Warning);
    let timeout = arguments.keeping.timeout;
    let (upstream, name) = given(&arguments.upstream, timeout)?;
    let words = arguments.upstream.command;
    let upstream = arguments.eras.around(upstream);
    let mode = if words.is_empty() { "bridge" } else { "run" };
    block_on(async {
        let stop = signals::stop_token().map_err(|error| Failure::because("cannot listen for signals", &error))?;
        let kept = Kept::open(file, &arguments.keeping, name, mode)?;
        let (input, output) = (gateway::streams::input(), gateway::streams::output());
        let ended = gateway::run(kept.enforcer.clone(), upstream, input, output, kept.reloaded.clone(), stop).await;
        kept.close().await;
        ended.map_err(|error| match words.first() {
            Some(program) => Failure::because(&format!("cannot start `{}`", visible(program)), &error),
            None => Failure::because("the bridge has failed", &error),
        })
    })
}

pub fn serve(arguments: Serve) -> Result<u8, Failure> {
    if let Some(path) = &arguments.config {
        return super::gateway::serve(path);
    }
    logs::start();
    if !arguments.listen.ip().is_loopback() && arguments.tls_client_ca.is_none() {
        let what = format!(
            "`--listen {}` can be reached from other machines, and there are no credentials to tell callers apart; listen on 127.0.0.1, or ask clients for certificates with `--tls-client-ca`",
            arguments.listen
        );
        return Err(Failure::invalid(what));
    }
    let Some(path) = &arguments.policy else { return Err(Failure::usage("a policy is missing: `-p POLICY`")) };
    let file = policies::read(path)?;
    policies::print(&file, Severity::Warning);
    let secluded = |words: &[String]| ChildCommand::secluded(words, &arguments.env).at_most(usize::from(arguments.max_children));
    let http =
        arguments.upstream.as_deref().map(|url| Http { url, headers: &arguments.header, tls: arguments.upstream_tls.tls() });
    let (upstream, name) = upstream(http, &arguments.command, arguments.keeping.timeout, secluded)?;
    let upstream = arguments.eras.around(upstream);
    let upstream = if arguments.isolation == IsolationWord::Shared { upstream.shared() } else { upstream };
    let tls = arguments.listener_files().map(ListenerTls::read).transpose()?;
    gateway::raise_descriptor_limit();
    block_on_all_cores(async {
        let stop = signals::stop_token().map_err(|error| Failure::because("cannot listen for signals", &error))?;
        let listening = |error: std::io::Error| Failure::because(&format!("cannot listen on {}", arguments.listen), &error);
        let listener = Listener::bind(arguments.listen, tls).await.map_err(listening)?;
        let address = listener.address().map_err(listening)?;
        let scheme = listener.scheme();
        let kept = Kept::open(file, &arguments.keeping, name, "serve")?;
        let admin = match arguments.admin {
            Some(listen) => {
                let admin = Administration::of_arguments(listen, &arguments.admin_token, &kept.store)?;
                Some(admin.bind().await?.serve(&stop))
            }
            None => None,
        };
        tell!("callgate listening on {scheme}://{address}/mcp");
        let ended = gateway::serve(listener, kept.enforcer.clone(), upstream, &arguments.host, kept.reloaded.clone(), stop).await;
        if let Some(admin) = admin {
            let _ = admin.await;
        }
        kept.close().await;
        ended.map(|()| OK).map_err(|error| Failure::because("the listener has failed", &error))
    })
}

impl ErasArgument {
    fn around(&self, upstream: Upstream) -> Upstream {
        match self.bridge_eras {
            BridgeWord::Auto => upstream.across_eras(),
            BridgeWord::Never => upstream,
        }
    }
}

/// An HTTP server, as a command line names it.
struct Http<'a> {
    url: &'a str,
    headers: &'a [String],
    tls: UpstreamTls,
}

/// The server that somebody has named, a command in our own environment; and its name by default.
pub(super) fn given(server: &UpstreamArguments, timeout: Duration) -> Result<(Upstream, String), Failure> {
    let http = server.upstream.as_deref().map(|url| Http { url, headers: &server.header, tls: server.tls.tls() });
    upstream(http, &server.command, timeout, ChildCommand::inheriting)
}

/// The upstream of a command line, and its name by default.
fn upstream(
    http: Option<Http<'_>>,
    words: &[String],
    timeout: Duration,
    child: impl FnOnce(&[String]) -> ChildCommand,
) -> Result<(Upstream, String), Failure> {
    match http {
        Some(Http { url, headers, tls }) => {
            let target = HttpTarget::new(url, &headers::resolved(headers)?, &tls, timeout)?;
            Ok((Upstream::Http(target), server_name::of_url(url)))
        }
        None if words.is_empty() => Err(Failure::usage(NO_SERVER)),
        None => Ok((Upstream::Child(child(words).within(timeout)), server_name::of_command(words))),
    }
}

/// What is said where no server is named.
const NO_SERVER: &str = "no server is named: end with `-- COMMAND` for one that is started here, or give `--upstream URL`";

/// Everything that lasts as long as the gateway does.
struct Kept {
    store: Store,
    enforcer: Arc<Enforcer>,
    reloaded: watch::Receiver<u64>,
    lock: Option<Arc<LockFile>>,
}

impl Kept {
    /// State that cannot be used yet is no reason to stop: calls are denied until it can.
    fn open(file: PolicyFile, keeping: &KeepingArguments, name: String, mode: &'static str) -> Result<Kept, Failure> {
        let policy = file.policy().ok_or_else(|| Failure::invalid("the policy has errors"))?;
        if let Some(webhook) = policy.webhook() {
            Webhooks::check(webhook).map_err(|error| Failure::invalid(error.to_string()))?;
        }
        let server = keeping.server.clone().unwrap_or(name);
        let instance = Instance {
            server: server.clone(),
            mode: mode.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            policy: Some(policy.revision().to_owned()),
            servers: None,
        };
        let durability = keeping.durability.into();
        let retention = keeping.retention();
        let options = Options { durability, retention, instance: Some(instance.clone()), ..Options::default() };
        let url = keeping.state.url()?;
        // Opened at once where that goes: until it is open, nothing can be kept of arguments.
        let store = match Store::open(url.clone(), options.clone()) {
            Ok(store) => store,
            // The store says why in the log, and goes on trying.
            Err(_) => Store::open_lazy(url, options)?,
        };
        let enforcer = Enforcer::new(store.clone(), server, keeping.audit_args, policy);
        let webhooks = Webhooks::new(Vec::new(), store.clock().clone());
        let approvers = Approvers::new(store.clone()).telling(webhooks.teller()).in_client(keeping.approve_in_client);
        enforcer.ask_by(approvers);
        let mut reloaded = file.watch(enforcer.clone(), |file| policies::print(file, Severity::Error));
        let lock = keeping.lock.as_deref().map(LockFile::open).transpose()?;
        if let Some(lock) = &lock {
            enforcer.pin(lock.clone(), Pinning::OnFirstUse);
            reloaded = lock.watch_beside(reloaded);
        }
        tokio::spawn(announce(store.clone(), enforcer.clone(), reloaded.clone(), instance));
        Ok(Kept { store, enforcer, reloaded, lock })
    }

    /// Signs the head of the chain. A store that cannot be written does not hold us up.
    async fn close(self) {
        if let Some(lock) = &self.lock {
            lock.close();
        }
        if tokio::time::timeout(CLOSING, self.store.close()).await.is_err() {
            tracing::warn!("the state could not be closed in time; its last record is not signed as the end");
        }
    }
}

/// Lets `status` know which policy is in force.
async fn announce(store: Store, enforcer: Arc<Enforcer>, mut reloaded: watch::Receiver<u64>, instance: Instance) {
    while reloaded.changed().await.is_ok() {
        let policy = Some(enforcer.policies(&Caller::local(None)).revision().to_string());
        store.announce(Instance { policy, ..instance.clone() });
    }
}

const CLOSING: Duration = Duration::from_secs(3);
