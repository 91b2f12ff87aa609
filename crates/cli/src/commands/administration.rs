//! The admin API beside a gateway: its credentials, its listener, its end.

use crate::failure::{Failure, OK};
use crate::terminal::{tell, visible};
use gateway::config::AdminConfig;
use gateway::{Admin, AdminCredential, AdminCredentials, Listener, ListenerFiles, ListenerTls, Place, Secret};
use policy::SecretReference;
use std::io::Write;
use std::net::SocketAddr;
use store::Store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// `openapi`: the OpenAPI document.
pub fn print_openapi() -> Result<u8, Failure> {
    std::io::stdout().write_all(gateway::openapi().as_bytes())?;
    Ok(OK)
}

/// An admin API that does not listen yet.
pub struct Administration {
    listen: SocketAddr,
    hosts: Vec<String>,
    tls: Option<ListenerFiles>,
    admin: Admin,
}

/// One that listens, and answers nobody yet.
pub struct Bound {
    listener: Listener,
    hosts: Vec<String>,
    admin: Admin,
}

impl Administration {
    /// As a configuration file has it.
    pub fn of_config(config: AdminConfig, store: &Store) -> Administration {
        let AdminConfig { listen, hosts, tls, credentials, .. } = config;
        Administration { listen, hosts, tls, admin: Admin { credentials, store: store.clone(), place: None } }
    }

    /// As a command line has it: `tokens` are `env:NAME` or `file:PATH`, perhaps with a name before (`alice=env:NAME`).
    pub fn of_arguments(listen: SocketAddr, tokens: &[String], store: &Store) -> Result<Administration, Failure> {
        if !listen.ip().is_loopback() {
            let what = format!(
                "`--admin {listen}` can be reached from other machines; listen on 127.0.0.1, or use a configuration file"
            );
            return Err(Failure::invalid(what));
        }
        let credentials: Vec<AdminCredential> = tokens.iter().map(|token| credential(token)).collect::<Result<_, _>>()?;
        let admin = Admin { credentials: AdminCredentials::new(credentials), store: store.clone(), place: None };
        Ok(Administration { listen, hosts: Vec::new(), tls: None, admin })
    }

    /// Listens, and says where.
    pub async fn bind(self) -> Result<Bound, Failure> {
        let Administration { listen, hosts, tls, admin } = self;
        let listening = |error: std::io::Error| Failure::because(&format!("cannot listen on {listen}"), &error);
        let tls = tls.map(ListenerTls::read).transpose()?;
        let listener = Listener::bind(listen, tls).await.map_err(listening)?;
        let address = listener.address().map_err(listening)?;
        tell!("callgate administered on {}://{address}/v1", listener.scheme());
        Ok(Bound { listener, hosts, admin })
    }
}

impl Bound {
    /// The same for a gateway that has a configuration.
    pub fn of(mut self, place: Place) -> Bound {
        self.admin.place = Some(place);
        self
    }

    /// Answers until `stop` is cancelled.
    pub fn serve(self, stop: &CancellationToken) -> JoinHandle<()> {
        let Bound { listener, hosts, admin } = self;
        let stop = stop.clone();
        tokio::spawn(async move {
            if let Err(error) = gateway::serve_admin(listener, admin, &hosts, stop).await {
                tracing::error!(%error, "the admin API has failed");
            }
        })
    }
}

fn credential(token: &str) -> Result<AdminCredential, Failure> {
    let (name, reference) = match token.split_once('=') {
        Some((name, reference)) if !name.contains(':') => (name, reference),
        _ => ("admin", token),
    };
    // It may be a token itself: it is not repeated.
    let Some(reference) = SecretReference::parse(reference) else {
        let what = "the token of `--admin-token` must not stand on the command line; write `env:NAME` or `file:PATH`";
        return Err(Failure::invalid(what));
    };
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Failure::usage(format!("`{}` is no name for an administrator", visible(name))));
    }
    let secret = Secret::of(&reference).map_err(|error| Failure::invalid(error.to_string()))?;
    Ok(AdminCredential::new(name, secret.expose()))
}
