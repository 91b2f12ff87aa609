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
    /// Whether servers that the state keeps may be commands.
    pub commands: bool,
}

/// The keys of `admin`.
pub(crate) const KEYS: &[&str] = &["listen", "hosts", "tls", "token", "tokens", "approvers", "commands"];

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
    let commands = fields.get("commands").and_then(|node| reading.boolean(node, "`commands`")).unwrap_or(true);
    Some(AdminConfig { listen: listen?, hosts, tls: tls.flatten(), credentials, commands })
}

/// `token: env:NAME`, whose holder is `admin`; `tokens: {alice: env:NAME}`; and `approvers` alike, who change nothing.
fn credentials(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Option<AdminCredentials> {
    let mut named: Vec<(&str, &Node, bool)> = fields.get("token").map(|node| ("admin", node, true)).into_iter().collect();
    for (key, may_change) in [("tokens", true), ("approvers", false)] {
        let Some(node) = fields.get(key) else { continue };
        match &node.kind {
            Kind::Object(members) => named.extend(members.iter().map(|member| (member.key.as_str(), &member.value, may_change))),
            Kind::Invalid => return None,
            _ => reading.expected(&node.at, &format!("`{key}`"), "`{alice: env:NAME}`: a name and its token"),
        }
    }
    if named.is_empty() {
        let problem = reading.error(code::MISSING, &fields.node.at, "`admin` names nobody who may administer");
        problem.help = Some("add `token: env:NAME`, or `tokens: {alice: env:NAME, bob: env:OTHER}`".into());
        return None;
    }
    let mut credentials = Vec::new();
    for (name, node, may_change) in &named {
        if let Err(why) = super::grants::check_name(name) {
            reading.error(code::VALUE, &node.at, format!("`{}` is no name for an administrator", policy::shown(name))).help =
                Some(why.into());
        }
        let secret = reading.secret(node, &format!("the token of `{}`", policy::shown(name)))?;
        let credential = match may_change {
            true => AdminCredential::new(*name, secret.expose()),
            false => AdminCredential::for_approvals(*name, secret.expose()),
        };
        credentials.push((node, credential));
    }
    for (at, (node, credential)) in credentials.iter().enumerate() {
        if credentials[..at].iter().any(|(_, other)| other.is_same(credential)) {
            reading.error(code::TWICE, &node.at, "two administrators have the same token or the same name").help =
                Some("give each a name and a token of their own: what they do is recorded under it".into());
        }
    }
    Some(AdminCredentials::new(credentials.into_iter().map(|(_, credential)| credential).collect()))
}
