//! `serve -c`: the gateway of a configuration file.

use crate::commands::administration::Administration;
use crate::commands::block_on_all_cores;
use crate::failure::{Failure, OK};
use crate::terminal::tell;
use crate::{configurations, logs, signals};
use gateway::config::Config;
use gateway::{Gateway, Listener, ListenerTls, LockFile, Place, Telling};
use policy::Severity;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::{Instance, Options, Store};

pub fn serve(path: &Path) -> Result<u8, Failure> {
    let (config, watched) = configurations::read(path)?;
    logs::start_at(config.telemetry.log);
    let tls = config.tls.clone().map(ListenerTls::read).transpose()?;
    let lock = LockFile::open(&config.lock)?;
    gateway::raise_descriptor_limit();
    block_on_all_cores(async {
        let no_signals = |error: std::io::Error| Failure::because("cannot listen for signals", &error);
        let asked = signals::on_hangup().map_err(no_signals)?;
        let stop = signals::stop_token_but_hangup().map_err(no_signals)?;
        let listening = |error: std::io::Error| Failure::because(&format!("cannot listen on {}", config.listen), &error);
        let listener = Listener::bind(config.listen, tls).await.map_err(listening)?;
        let (address, scheme) = (listener.address().map_err(listening)?, listener.scheme());
        let instance = instance(&config);
        let store = open_store(&config, instance.clone())?;
        let admin = config.admin.clone().map(|admin| Administration::of_config(admin, &store));
        let admin = match admin {
            Some(admin) => Some(admin.bind().await?),
            None => None,
        };
        let hosts = config.hosts.clone();
        let telling = Telling::start(&config, &store, &stop).await?;
        let gateway = Gateway::new(config, store.clone(), Some(lock), configurations::variable)?;
        if let Some(telling) = &telling {
            gateway.observe(telling.observatory());
            if let Some(address) = telling.address() {
                tell!("callgate metrics at http://{address}/metrics");
            }
        }
        gateway.watch(watched, asked, |file| configurations::print(file, Severity::Error));
        let origin = origin(scheme, address, &hosts);
        let admin = admin.map(|admin| admin.of(Place { gateway: gateway.clone(), origin }).serve(&stop));
        tokio::spawn(announce(gateway.clone(), instance));
        tell!("callgate listening on {scheme}://{address}/mcp");
        let ended = gateway::serve_gateway(listener, gateway, &hosts, stop).await;
        if let Some(admin) = admin {
            let _ = admin.await;
        }
        if let Some(telling) = telling {
            telling.close().await;
        }
        // A store that cannot be written does not hold us up.
        if tokio::time::timeout(CLOSING, store.close()).await.is_err() {
            tracing::warn!("the state could not be closed in time; its last record is not signed as the end");
        }
        ended.map(|()| OK).map_err(|error| Failure::because("the listener has failed", &error))
    })
}

/// How clients call the gateway: by its address, or where that stands for all of a machine's, by a name.
fn origin(scheme: &str, address: SocketAddr, hosts: &[String]) -> String {
    match hosts.first() {
        Some(host) if address.ip().is_unspecified() => format!("{scheme}://{host}:{}", address.port()),
        _ => format!("{scheme}://{address}"),
    }
}

/// What `status` says of this process.
fn instance(config: &Config) -> Instance {
    let names: Vec<&str> = config.servers.iter().map(|server| server.name.as_str()).collect();
    Instance {
        server: names.join(", "),
        mode: "serve".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Instance::default()
    }
}

/// Lets `status` know how the servers are, for as long as the gateway lives.
async fn announce(gateway: Arc<Gateway>, instance: Instance) {
    let (gateway, store) = (Arc::downgrade(&gateway), gateway.store().clone());
    while let Some(gateway) = gateway.upgrade() {
        let names = gateway.server_names().join(", ");
        store.announce(Instance { server: names, servers: Some(gateway.standings_json()), ..instance.clone() });
        drop(gateway);
        tokio::time::sleep(ANNOUNCE).await;
    }
}

/// State that cannot be used yet is no reason to stop: calls are denied until it can.
fn open_store(config: &Config, instance: Instance) -> Result<Store, Failure> {
    let options = Options {
        durability: config.audit.durability,
        retention: config.audit.retention,
        instance: Some(instance),
        ..Options::default()
    };
    let url = config.place()?;
    Ok(match Store::open(url.clone(), options.clone()) {
        Ok(store) => store,
        // The store says why in the log, and goes on trying.
        Err(_) => Store::open_lazy(url, options)?,
    })
}

/// Looked at so often; written down every ten seconds.
const ANNOUNCE: Duration = Duration::from_secs(2);
const CLOSING: Duration = Duration::from_secs(3);
