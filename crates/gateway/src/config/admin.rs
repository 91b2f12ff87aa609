//! `admin`: the administration's own listener.

use super::reading::{Reading, code};
use crate::credentials::{AdminCredential, AdminCredentials};
use crate::tls::ListenerFiles;
use policy::{Fields, Kind, Node};
use std::net::SocketAddr;
use std::path::{Component, Path};

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
    /// What the state keeps may refer to.
    pub references: References,
}

/// Which secrets and files a document of the state may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum References {
    /// All: whoever may start programs reads what the gateway can read.
    All,
    /// Those that one of these fits: `env:NAME`, `file:PATH`, or the beginning of one before a `*`.
    Only(Vec<String>),
}

/// On a gateway that nobody administers, whoever may write the state could have its secrets sent elsewhere.
pub(super) static NOTHING: References = References::Only(Vec::new());

impl References {
    /// Whether the policy at `path`, written as `text`, may be named: those below the configuration's directory `base` may.
    pub(super) fn allow_policy(&self, base: &Path, path: &Path, text: &str) -> bool {
        let is_below = |base: &Path| {
            path.strip_prefix(base)
                .is_ok_and(|inner| inner.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)))
        };
        // The configuration may have been named by a relative path, and the policy from the root.
        let whole = || if base.as_os_str().is_empty() { Path::new(".") } else { base }.canonicalize();
        self.allow(&format!("file:{text}")) || is_below(base) || whole().is_ok_and(|base| is_below(&base))
    }

    /// Whether `reference`, as it is written, may be named.
    pub(crate) fn allow(&self, reference: &str) -> bool {
        let References::Only(patterns) = self else { return true };
        // No way leads out of what a pattern begins with.
        let leaves = reference.split_once(':').is_none_or(|(_, rest)| rest.split('/').any(|part| part == ".."));
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => reference.starts_with(beginning),
            None => reference == pattern,
        };
        !leaves && patterns.iter().any(fits)
    }
}

/// The keys of `admin`.
pub(crate) const KEYS: &[&str] = &["listen", "hosts", "tls", "token", "tokens", "approvers", "commands", "references"];

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
    let references = match fields.get("references") {
        Some(node) => References::Only(references(reading, node)),
        None if commands => References::All,
        None => References::Only(Vec::new()),
    };
    Some(AdminConfig { listen: listen?, hosts, tls: tls.flatten(), credentials, commands, references })
}

fn references(reading: &mut Reading<'_>, node: &Node) -> Vec<String> {
    let mut patterns = Vec::new();
    for (text, node) in reading.strings(node, "`references`", "a reference, or the beginning of one") {
        let rest = text.strip_prefix("env:").or_else(|| text.strip_prefix("file:")).unwrap_or_default();
        let inner = rest.strip_suffix('*').unwrap_or(rest);
        if rest.is_empty() || inner.contains('*') || inner.split('/').any(|part| part == "..") {
            reading.expected(&node.at, "this", "`env:NAME`, `file:PATH`, or the beginning of one and a `*`");
        } else {
            patterns.push(text.to_owned());
        }
    }
    patterns
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
