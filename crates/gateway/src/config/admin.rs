//! `admin`: the administration's own listener.

use super::reading::{Reading, code};
use crate::secret::Secret;
use policy::Node;
use std::net::SocketAddr;

/// Where the gateway is administered.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Where to listen; only this machine's own addresses.
    pub listen: SocketAddr,
    /// What an administrator shows.
    pub token: Secret,
}

/// The keys of `admin`.
pub(crate) const KEYS: &[&str] = &["listen", "token"];

pub(super) fn read(reading: &mut Reading<'_>, node: &Node) -> Option<AdminConfig> {
    let fields = reading.fields(node, "`admin`", KEYS)?;
    let listen = match fields.get("listen") {
        Some(node) => reading.address(node, "`listen`"),
        None => Some(SocketAddr::from(([127, 0, 0, 1], 7421))),
    };
    if let (Some(listen), Some(node)) = (listen, fields.get("listen"))
        && !listen.ip().is_loopback()
    {
        reading.error(code::REACHABLE, &node.at, "other machines could reach the administration").help =
            Some("listen on 127.0.0.1, and let a proxy with its own authentication stand before it".into());
    }
    let token = reading.required(&fields, "token", "`admin`").and_then(|node| reading.secret(node, "the token of `admin`"));
    Some(AdminConfig { listen: listen?, token: token? })
}
