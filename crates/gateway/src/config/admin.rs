//! `admin`: the administration's own listener.

use super::reading::{Reading, code};
use crate::credentials::{AdminCredential, AdminCredentials};
use crate::tls::ListenerFiles;
use policy::{Fields, Kind, Node};
use std::net::SocketAddr;

/// Where the gateway is administered.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Where to listen. Other machines' addresses only with TLS.
    pub listen: SocketAddr,
    /// Names under which it may be called besides the address itself.
    pub hosts: Vec<String>,
    /// The certificate that the listener shows, and those that it asks for.
    pub tls: Option<ListenerFiles>,
    /// Who may administer.
    pub credentials: AdminCredentials,
}

/// The keys of `admin`.
pub(crate) const KEYS: &[&str] = &["listen", "hosts", "tls", "token", "tokens"];

pub(super) fn read(reading: &mut Reading<'_>, node: &Node) -> Option<AdminConfig> {
    let fields = reading.fields(node, "`admin`", KEYS)?;
    let listen = match fields.get("listen") {
        Some(node) => reading.address(node, "`listen`"),
        None => Some(SocketAddr::from(([127, 0, 0, 1], 7421))),
    };
    let hosts = fields.get("hosts").map(|node| reading.names(node, "`hosts`", "a host name")).unwrap_or_default();
    let tls = fields.get("tls").map(|node| super::listener_tls(reading, node));
    if let (Some(listen), Some(node), None) = (listen, fields.get("listen"), &tls)
        && !listen.ip().is_loopback()
    {
        reading.error(code::REACHABLE, &node.at, "other machines could reach the administration, and read along").help =
            Some("listen on 127.0.0.1, or add `tls: {certificate: …, key: …}`".into());
    }
    let credentials = credentials(reading, &fields)?;
    Some(AdminConfig { listen: listen?, hosts, tls: tls.flatten(), credentials })
}

/// `token: env:NAME`, whose holder is `admin`; and `tokens: {alice: env:NAME}`.
fn credentials(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Option<AdminCredentials> {
    let mut named: Vec<(&str, &Node)> = fields.get("token").map(|node| ("admin", node)).into_iter().collect();
    if let Some(node) = fields.get("tokens") {
        match &node.kind {
            Kind::Object(members) => named.extend(members.iter().map(|member| (member.key.as_str(), &member.value))),
            Kind::Invalid => return None,
            _ => reading.expected(&node.at, "`tokens`", "`{alice: env:NAME}`: a name and its token"),
        }
    }
    if named.is_empty() {
        let problem = reading.error(code::MISSING, &fields.node.at, "`admin` names nobody who may administer");
        problem.help = Some("add `token: env:NAME`, or `tokens: {alice: env:NAME, bob: env:OTHER}`".into());
        return None;
    }
    let mut credentials = Vec::new();
    for (name, node) in &named {
        if let Err(why) = super::grants::check_name(name) {
            reading.error(code::VALUE, &node.at, format!("`{}` is no name for an administrator", policy::shown(name))).help =
                Some(why.into());
        }
        let secret = reading.secret(node, &format!("the token of `{}`", policy::shown(name)))?;
        credentials.push((node, AdminCredential::new(*name, secret.expose())));
    }
    for (at, (node, credential)) in credentials.iter().enumerate() {
        if credentials[..at].iter().any(|(_, other)| other.is_same(credential)) {
            reading.error(code::TWICE, &node.at, "two administrators have the same token or the same name").help =
                Some("give each a name and a token of their own: what they do is recorded under it".into());
        }
    }
    Some(AdminCredentials::new(credentials.into_iter().map(|(_, credential)| credential).collect()))
}
