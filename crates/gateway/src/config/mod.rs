//! The configuration file of `serve -c`: every section of it, checked as a whole.
//!
//! It is read by the reader that policies are read by, so that every mistake is reported with its place and how to mend it.
//! Secrets come by reference (`env:NAME`, `file:PATH`), never from the file; but one may stand where nobody expects it, so no
//! diagnostic shows a line of this file. Each section has a file of its own here.
//!
//! This module reads files and the environment. It starts nothing.

mod admin;
mod approvals;
mod audit;
pub(crate) mod authorization;
pub(crate) mod grants;
mod identity;
pub(crate) mod kept;
pub(crate) mod lasting;
mod reading;
mod servers;
mod telemetry;

pub use admin::{AdminConfig, References};
pub use approvals::ApprovalsConfig;
pub use audit::{AuditConfig, ExportConfig};
pub use authorization::AuthorizationsConfig;
pub use grants::{GrantConfig, Summary, TokenConfig, check_bounds, check_name as check_grant_name, summary};
pub use servers::{Isolation, ServerConfig, Start, Target};
pub use telemetry::{LogLevel, TelemetryConfig};

use crate::identity::IdentityConfig;
use crate::tls::{CertificateFiles, ClientAuthorities, ListenerFiles};
use policy::{Fields, Node, Problem, Severity, Source};
use reading::{Reading, code};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use store::{StateUrl, StoreError};

/// What a configuration file says, with every reference resolved.
#[derive(Debug)]
pub struct Config {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Names under which we may be called besides the address itself.
    pub hosts: Vec<String>,
    /// The certificate that the listener shows, and those that it asks for; without one it speaks plain HTTP.
    pub tls: Option<ListenerFiles>,
    /// Where state is kept; `None`: in the user's data directory.
    pub state: Option<StateUrl>,
    /// The upstreams, in the order of the file; each name once.
    pub servers: Vec<ServerConfig>,
    /// The grants of the file, in its order; each name and each token once.
    pub grants: Vec<GrantConfig>,
    /// Whose tokens are believed besides those of grants, if anybody's.
    pub identity: Option<IdentityConfig>,
    /// What the authorisations of users need, if there may be any.
    pub authorizations: Option<AuthorizationsConfig>,
    /// The administration's own listener, if there is one.
    pub admin: Option<AdminConfig>,
    /// Who is told of calls that wait for a person.
    pub approvals: ApprovalsConfig,
    /// What is recorded, and how.
    pub audit: AuditConfig,
    /// Where definitions are pinned.
    pub lock: PathBuf,
    /// What is told to the outside.
    pub telemetry: TelemetryConfig,
    /// What paths are relative to.
    pub base: PathBuf,
}

/// A configuration file that was read, whatever is wrong with it.
#[derive(Debug)]
pub struct ConfigFile {
    config: Option<Config>,
    reports: Vec<Report>,
    fingerprint: [u8; 32],
    files: Vec<PathBuf>,
}

/// A problem, and the text that it is about: the configuration's, or that of a policy it names.
#[derive(Debug)]
pub struct Report {
    /// What is wrong.
    pub problem: Problem,
    source: std::sync::Arc<Source>,
}

impl Report {
    /// The text that it is about, for its name.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The problem as text for a terminal; see [`Problem::render`].
    pub fn render(&self, colour: bool) -> String {
        self.problem.render(&self.source, colour)
    }
}

impl Config {
    /// Where state is kept, and where the records of it lie.
    ///
    /// # Errors
    /// [`StoreError::Address`] where no user data directory is known, or records cannot lie where they should.
    pub fn place(&self) -> Result<StateUrl, StoreError> {
        let url = match &self.state {
            Some(url) => url.clone(),
            None => StateUrl::default_place()?,
        };
        match &self.audit.state {
            Some(records) => url.with_records_in(records.clone()),
            None => Ok(url),
        }
    }

    /// What the state keeps may refer to.
    pub(crate) fn references(&self) -> &References {
        self.admin.as_ref().map_or(&admin::NOTHING, |admin| &admin.references)
    }

    /// Whether a grant that the state keeps may name the policy at `path`.
    pub fn lets_grants_name(&self, path: &Path) -> bool {
        self.references().allow_policy(&self.base, path, &path.to_string_lossy())
    }
}

impl ConfigFile {
    /// Whether a text is meant as a configuration, and not as a policy: by its sections, which stand at the beginning of
    /// lines. It need not be readable.
    pub fn is_meant(text: &[u8]) -> bool {
        let text = String::from_utf8_lossy(text);
        let begins = |section: &&str| text.lines().any(|line| line.trim_start_matches(['"', '\'']).starts_with(section));
        ["servers:", "grants:", "listen:", "servers\"", "grants\"", "listen\""].iter().any(begins)
    }

    /// Reads the file at `path`, the policies and the secrets that it names. `environment` gives the value of a variable.
    ///
    /// # Errors
    /// When the file cannot be read, or when anybody on this machine may write to it. All else is in
    /// [`ConfigFile::reports`].
    pub fn read(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> std::io::Result<ConfigFile> {
        let text = reading::read_guarded(path)?;
        let source = Source::new(path.display().to_string(), text);
        let base = path.parent().unwrap_or(Path::new(""));
        let mut reading = Reading::new(&source, base, environment);
        let root = reading.root();
        let config = root.as_ref().and_then(|root| whole(&mut reading, root));
        let reading::Finished { problems, of_policies, fingerprint, mut files } = reading.finish();
        files.insert(0, path.to_owned());
        let own = std::sync::Arc::new(source.clone());
        let mut reports: Vec<Report> = problems.into_iter().map(|problem| Report { problem, source: own.clone() }).collect();
        reports.extend(of_policies);
        let is_valid = reports.iter().all(|report| report.problem.severity != Severity::Error);
        Ok(ConfigFile { config: config.filter(|_| is_valid), reports, fingerprint, files })
    }

    /// What it says; `None` when there are errors.
    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// The same, taken out.
    pub fn into_config(self) -> Option<Config> {
        self.config
    }

    /// Errors and warnings, those of the file itself first, in its order.
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// Every file that it depends on, itself first.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// A digest of everything that was read: the file, its policies, the values of its secrets. Two equal ones mean the same.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

/// The sections of the file.
pub(crate) const KEYS: &[&str] = &[
    "listen",
    "hosts",
    "tls",
    "state",
    "servers",
    "grants",
    "identity",
    "authorizations",
    "admin",
    "approvals",
    "audit",
    "lock",
    "telemetry",
];

fn whole(reading: &mut Reading<'_>, root: &Node) -> Option<Config> {
    let fields = reading.fields(root, "the configuration", KEYS)?;
    let listen = fields.get("listen").and_then(|node| reading.address(node, "`listen`"));
    let hosts = fields.get("hosts").map(|node| reading.names(node, "`hosts`", "a host name")).unwrap_or_default();
    let tls = fields.get("tls").and_then(|node| listener_tls(reading, node));
    let state = fields.get("state").and_then(|node| reading.state(node, "`state`"));
    let mut servers = servers::read(reading, &fields);
    // One that has mistakes is still a server: grants that name it are not wrong for that.
    let named = servers::names(&fields);
    let grants = grants::read(reading, &fields, &servers, &named);
    if tls.as_ref().is_none_or(|tls| tls.clients.is_none()) {
        grants::refuse_certificates(reading, &fields);
    }
    let named: Vec<&str> = grants.iter().map(|grant| grant.name.as_str()).collect();
    let identity = fields.get("identity").and_then(|node| identity::read(reading, node, &named));
    let authorizations = fields.get("authorizations").and_then(|node| authorization::read_section(reading, node));
    let admin = fields.get("admin").and_then(|node| admin::read(reading, node));
    let approvals = fields.get("approvals").map(|node| approvals::read(reading, node)).unwrap_or_default();
    let audit = fields.get("audit").map(|node| audit::read(reading, node)).unwrap_or_default();
    let lock = fields.get("lock").and_then(|node| reading.path(node, "`lock`"));
    let lock = lock.unwrap_or_else(|| reading.neighbour(LOCK));
    let telemetry = fields.get("telemetry").map(|node| telemetry::read(reading, node)).unwrap_or_default();
    let listen = listen.unwrap_or_else(default_address);
    check_reachable(reading, &fields, listen, &grants);
    authorization::check_whole(reading, &fields, &mut servers, &grants, identity.as_ref(), listen);
    let base = reading.base().to_owned();
    Some(Config {
        listen,
        hosts,
        tls,
        state,
        servers,
        grants,
        identity,
        authorizations,
        admin,
        approvals,
        audit,
        lock,
        telemetry,
        base,
    })
}

/// Definitions are pinned there unless the file says otherwise: beside it, since both belong in version control.
const LOCK: &str = "callgate.lock";

fn default_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7420))
}

/// Whoever can be reached from other machines must be able to tell callers apart.
fn check_reachable(reading: &mut Reading<'_>, fields: &Fields<'_>, listen: SocketAddr, grants: &[GrantConfig]) {
    let Some(node) = fields.get("listen").filter(|_| !listen.ip().is_loopback()) else { return };
    // An empty list says that they are in the store.
    if grants.is_empty() && fields.get("grants").is_none() {
        let help =
            "add `grants`, or listen on 127.0.0.1; where all grants are made by `callgate grants create`, write `grants: []`";
        let problem =
            reading.error(code::REACHABLE, &node.at, "other machines can reach this address, and there are no credentials");
        problem.help = Some(help.into());
    }
}

/// The keys of `tls`.
pub(crate) const TLS_KEYS: &[&str] = &["certificate", "key", "client_ca", "client_certificates"];

fn listener_tls(reading: &mut Reading<'_>, node: &Node) -> Option<ListenerFiles> {
    let fields = reading.fields(node, "`tls`", TLS_KEYS)?;
    let certificate = reading.required(&fields, "certificate", "`tls`").and_then(|node| reading.file(node, "`certificate`"));
    let key = reading.required(&fields, "key", "`tls`").and_then(|node| reading.file(node, "`key`"));
    let authorities = fields.get("client_ca").map(|node| reading.file(node, "`client_ca`"));
    let words = [("required", true), ("optional", false)];
    let required = fields.get("client_certificates").map(|node| reading.word(node, "`client_certificates`", &words));
    if let (None, Some(member)) = (&authorities, fields.member("client_certificates")) {
        reading.error(code::COMBINATION, &member.key_at, "`client_certificates` is of no use without `client_ca`").help =
            Some("name the file of the authorities whose certificates clients may show".into());
    }
    let clients = match authorities {
        Some(authorities) => Some(ClientAuthorities { authorities: authorities?, required: required.flatten().unwrap_or(true) }),
        None => None,
    };
    Some(ListenerFiles { certificate: CertificateFiles { certificate: certificate?, key: key? }, clients })
}

/// Reports tools whose names would be too long for clients of `/mcp`, where each stands behind its server's.
fn check_names<'n>(reading: &mut Reading<'_>, server: &str, tools: impl Iterator<Item = &'n str>, node: &Node) {
    for tool in tools {
        if let Err(why) = mcp::federation::join(server, tool) {
            let message =
                format!("the tool `{}` of `{}` can have no name at `/mcp`: {why}", policy::shown(tool), policy::shown(server));
            reading.error(code::VALUE, &node.at, message).help = Some("give the server a shorter name".into());
        }
    }
}

/// Reports names that stand twice.
fn each_once<'n>(reading: &mut Reading<'_>, names: impl Iterator<Item = (&'n str, &'n Node)>, what: &str) {
    let mut seen = HashSet::new();
    for (name, node) in names {
        if !seen.insert(name) {
            reading.error(code::TWICE, &node.at, format!("{what} `{}` stands twice", policy::shown(name))).help =
                Some("give each a name of its own".into());
        }
    }
}

#[cfg(test)]
mod tests;
