//! `servers`: the upstreams, by name.

use super::reading::{Reading, code};
use crate::oauth::{AuthorizationConfig, Authorizer, Callers};
use crate::ownership::text_of;
use crate::pins::Pinning;
use crate::secret::Secret;
use crate::tls::{CertificateFiles, UpstreamTls};
use crate::upstream::{ChildCommand, HttpTarget, TargetError, Upstream, Vitals};
use http::HeaderName;
use policy::{Fields, Kind, Member, Policy};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// One upstream.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Its name: `[a-z0-9-]+`, in paths, counters and records.
    pub name: String,
    /// What it is.
    pub target: Target,
    /// The policy that holds for every grant.
    pub policy: Option<Arc<Policy>>,
    /// Who shares a line to it.
    pub isolation: Isolation,
    /// When a child is started.
    pub start: Start,
    /// Headers of requests that travel upstream, besides those that the protocol needs; in lower case.
    pub request_headers: Vec<String>,
    /// How long it may be silent over one request.
    pub timeout: Duration,
    /// Whether clients of the other era are translated for.
    pub bridge_eras: bool,
    /// When its definitions are pinned.
    pub pin: Pinning,
    /// By what authority it is called, where that takes access tokens.
    pub authorization: Option<AuthorizationConfig>,
}

/// What an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An HTTP endpoint.
    Http {
        /// Where.
        url: Secret,
        /// Sent with every request.
        headers: Vec<(String, Secret)>,
        /// How it is told from an impostor, and who we are to it.
        tls: UpstreamTls,
    },
    /// A child process.
    Command {
        /// The program and its arguments.
        words: Vec<String>,
        /// Its environment, besides `PATH`, `HOME`, `LANG` and `TMPDIR`.
        env: Vec<(String, Secret)>,
        /// How many of it may live at a time.
        max_children: usize,
    },
}

/// Who shares a line to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All sessions of all callers.
    Shared,
    /// Each session has one of its own.
    #[default]
    Session,
    /// The sessions of one principal share one.
    Principal,
}

/// When a child is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// When somebody needs it.
    #[default]
    OnDemand,
    /// With the gateway.
    AtStart,
}

impl ServerConfig {
    /// Whether it is called as `other` is: whatever stands before one can stand before the other. Policies do not matter.
    pub fn is_called_as(&self, other: &ServerConfig) -> bool {
        let parts = |server: &ServerConfig| (server.isolation, server.start, server.timeout, server.bridge_eras, server.pin);
        self.name == other.name
            && self.target == other.target
            && self.request_headers == other.request_headers
            && self.authorization == other.authorization
            && parts(self) == parts(other)
    }

    /// Tells what its name stands for from everything else that the name may stand for, here, at another gateway or after a
    /// restart: where it is, by whose authority it is called, and who shares a line to it. Not how long it is waited for, nor
    /// what is translated.
    ///
    /// Not to be kept as it is: it is a plain digest, of secrets too.
    pub(crate) fn fingerprint(&self) -> String {
        let mut parts = vec![self.name.clone(), format!("{:?}", self.isolation), self.request_headers.join(",")];
        match &self.target {
            Target::Http { url, headers, tls } => {
                parts.extend(["http".to_owned(), url.expose().to_owned(), format!("{tls:?}")]);
                parts.extend(headers.iter().flat_map(|(name, value)| [name.clone(), value.expose().to_owned()]));
            }
            Target::Command { words, env, max_children: _ } => {
                parts.extend(["command".to_owned(), words.len().to_string()]);
                parts.extend(words.iter().cloned());
                parts.extend(env.iter().flat_map(|(name, value)| [name.clone(), value.expose().to_owned()]));
            }
        }
        // As `Debug` has it: all of it but what secrets are, and whoever shows another secret is still the same client.
        parts.push(format!("{:?}", self.authorization));
        text_of(&parts.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The upstream as it is called in nobody's name. Nothing is started ahead: whoever only checks a server starts no program.
    ///
    /// # Errors
    /// When its address, a header or a certificate cannot be used.
    pub fn upstream(&self) -> Result<Upstream, TargetError> {
        self.made(&Callers::default(), Start::OnDemand)
    }

    /// Gets the access tokens for it, where it needs any.
    pub(crate) fn authorizer(&self, callers: &Callers) -> Option<Authorizer> {
        let (Target::Http { url, tls, .. }, Some(config)) = (&self.target, &self.authorization) else { return None };
        Some(Authorizer::new(&self.name, url.expose(), tls, config, callers))
    }

    /// The upstream as it is called for these callers. A child that is to be there at the start is started.
    ///
    /// # Errors
    /// When its address, a header or a certificate cannot be used.
    pub(crate) fn upstream_for(&self, callers: &Callers) -> Result<Upstream, TargetError> {
        self.made(callers, self.start)
    }

    fn made(&self, callers: &Callers, start: Start) -> Result<Upstream, TargetError> {
        let upstream = match &self.target {
            Target::Http { url, headers, tls } => {
                let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {}", value.expose())).collect();
                let target = HttpTarget::new(url.expose(), &headers, tls, self.timeout)?;
                let target = target.passing(&self.request_headers);
                Upstream::Http(match self.authorizer(callers) {
                    Some(authorizer) => target.authorized(Arc::new(authorizer)),
                    None => target,
                })
            }
            Target::Command { words, env, max_children } => {
                let env = env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
                let command = ChildCommand::secluded(words, &[]).with(env).within(self.timeout).at_most(*max_children);
                let command = command.watched(&Vitals::new(&self.name, SILENCE));
                Upstream::Child(if start == Start::AtStart { command.ahead() } else { command })
            }
        };
        let upstream = if self.bridge_eras { upstream.across_eras() } else { upstream };
        Ok(match self.isolation {
            Isolation::Shared => upstream.shared(),
            Isolation::Session => upstream,
            Isolation::Principal => upstream.shared_by_principal(),
        })
    }
}

/// The keys of a server.
pub(crate) const KEYS: &[&str] = &[
    "url",
    "command",
    "headers",
    "env",
    "policy",
    "isolation",
    "start",
    "request_headers",
    "timeout",
    "ca",
    "certificate",
    "key",
    "max_children",
    "bridge_eras",
    "pin",
    "authorization",
];

/// A server may be silent so long over one request, unless it says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60 * 60);
const MAX_CHILDREN: usize = 64;
/// A child that nobody waits for is asked for a sign of life after so long.
const SILENCE: Duration = Duration::from_secs(30);

pub(super) fn read(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Vec<ServerConfig> {
    let Some(node) = reading.required(fields, "servers", "the configuration") else { return Vec::new() };
    let Kind::Object(members) = &node.kind else {
        reading.expected(&node.at, "`servers`", "a mapping of names to servers");
        return Vec::new();
    };
    members.iter().filter_map(|member| server(reading, member)).collect()
}

/// The names that stand in the file.
pub(super) fn names<'n>(fields: &Fields<'n>) -> Vec<&'n str> {
    match fields.get("servers").map(|node| &node.kind) {
        Some(Kind::Object(members)) => members.iter().map(|member| member.key.as_str()).collect(),
        _ => Vec::new(),
    }
}

/// One of them, under its name.
pub(super) fn server(reading: &mut Reading<'_>, member: &Member) -> Option<ServerConfig> {
    let name = member.key.as_str();
    let what = format!("the server `{}`", policy::shown(name));
    if !is_name(name) {
        let problem = reading.error(code::VALUE, &member.key_at, format!("`{}` is no name for a server", policy::shown(name)));
        problem.help = Some("use lower-case letters, digits and hyphens, at most 64".into());
    }
    let fields = reading.fields(&member.value, &what, KEYS)?;
    let target = target(reading, &fields, member, &what);
    let policy = fields.get("policy").map(|node| {
        let policy = reading.policy(node, "`policy`");
        super::check_names(reading, name, policy.iter().flat_map(|policy| policy.tools_named()), node);
        policy
    });
    let isolation = fields.get("isolation").and_then(|node| {
        let words = [("shared", Isolation::Shared), ("session", Isolation::Session), ("principal", Isolation::Principal)];
        reading.word(node, "`isolation`", &words)
    });
    let start = fields
        .get("start")
        .and_then(|node| reading.word(node, "`start`", &[("on-demand", Start::OnDemand), ("at-start", Start::AtStart)]));
    let request_headers = fields.get("request_headers").map(|node| request_headers(reading, node)).unwrap_or_default();
    let timeout = fields.get("timeout").and_then(|node| reading.span(node, "`timeout`"));
    let bridge_eras =
        fields.get("bridge_eras").and_then(|node| reading.word(node, "`bridge_eras`", &[("auto", true), ("never", false)]));
    let pin = fields.get("pin").and_then(|node| {
        let words = [("on-first-use", Pinning::OnFirstUse), ("required", Pinning::Required), ("off", Pinning::Off)];
        reading.word(node, "`pin`", &words)
    });
    let authorization = match fields.get("authorization") {
        Some(node) => Some(authorization(reading, &fields, node)?),
        None => None,
    };
    let server = ServerConfig {
        name: name.to_owned(),
        target: target?,
        policy: policy.flatten(),
        isolation: isolation.unwrap_or_default(),
        start: start.unwrap_or_default(),
        request_headers,
        timeout: timeout.unwrap_or(TIMEOUT),
        bridge_eras: bridge_eras.unwrap_or(true),
        pin: pin.unwrap_or_default(),
        authorization,
    };
    if let Err(error) = server.upstream() {
        let at = fields.get("url").map_or(&member.key_at, |node| &node.at);
        reading.error(code::VALUE, at, format!("{what} cannot be used: {}", with_causes(&error)));
        return None;
    }
    Some(server)
}

fn authorization(reading: &mut Reading<'_>, fields: &Fields<'_>, node: &policy::Node) -> Option<AuthorizationConfig> {
    if let Some(Kind::Object(headers)) = fields.get("headers").map(|node| &node.kind)
        && let Some(twice) = headers.iter().find(|header| header.key.eq_ignore_ascii_case("authorization"))
    {
        reading.error(code::COMBINATION, &twice.key_at, "`authorization` and a header of that name exclude each other").help =
            Some("keep one: access tokens are sent in that header".into());
    }
    super::authorization::read(reading, node)
}

fn target(reading: &mut Reading<'_>, fields: &Fields<'_>, member: &Member, what: &str) -> Option<Target> {
    let of_http = ["headers", "ca", "certificate", "key", "request_headers", "authorization"];
    let of_command = ["env", "start", "max_children"];
    match (fields.get("url"), fields.get("command")) {
        (Some(url), None) => {
            without(reading, fields, &of_command, "`url`");
            let address = reading.value("url", url, "`url`");
            if address.as_ref().is_some_and(|url| url.expose().contains('@')) && !is_reference(url.as_str()) {
                reading.literal(&url.at, "a user or password in `url`");
            }
            let headers = headers(reading, fields);
            let tls = tls(reading, fields);
            Some(Target::Http { url: address?, headers: headers?, tls: tls? })
        }
        (None, Some(command)) => {
            without(reading, fields, &of_http, "`command`");
            let words = reading.names(command, "`command`", "a word of `command`");
            if words.is_empty() {
                reading.expected(&command.at, "`command`", "the program and its arguments: `[npx, -y, some-server]`");
            }
            let env = variables(reading, fields);
            let max_children = fields.get("max_children").map(|node| reading.number(node, "`max_children`", 1, 65_535));
            let max_children = max_children.flatten().and_then(|children| usize::try_from(children).ok());
            Some(Target::Command { words, env: env?, max_children: max_children.unwrap_or(MAX_CHILDREN) })
        }
        (Some(_), Some(command)) => {
            reading.error(code::COMBINATION, &command.at, format!("{what} has both `url` and `command`")).help =
                Some("keep one: a server is reached over HTTP or started as a child".into());
            None
        }
        (None, None) => {
            reading.error(code::MISSING, &member.key_at, format!("{what} has neither `url` nor `command`")).help =
                Some("add `url: https://…`, or `command: [program, argument]`".into());
            None
        }
    }
}

fn without(reading: &mut Reading<'_>, fields: &Fields<'_>, keys: &[&str], beside: &str) {
    for key in keys {
        if let Some(member) = fields.member(key) {
            reading.error(code::COMBINATION, &member.key_at, format!("`{key}` means nothing beside {beside}")).help =
                Some("remove it".into());
        }
    }
}

fn is_reference(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.starts_with("env:") || text.starts_with("file:"))
}

/// Names of headers and their values; `None` where one cannot be had.
fn headers(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Option<Vec<(String, Secret)>> {
    pairs(reading, fields, "headers", |reading, member| {
        let is_header = HeaderName::from_str(&member.key).is_ok();
        if !is_header {
            reading.error(code::VALUE, &member.key_at, format!("`{}` is no name of a header", policy::shown(&member.key)));
        }
        is_header
    })
}

fn variables(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Option<Vec<(String, Secret)>> {
    pairs(reading, fields, "env", |reading, member| {
        let is_variable = !member.key.is_empty() && !member.key.contains(['=', '\0']);
        if !is_variable {
            reading.error(code::VALUE, &member.key_at, "no name of a variable");
        }
        is_variable
    })
}

fn pairs(
    reading: &mut Reading<'_>,
    fields: &Fields<'_>,
    key: &str,
    is_name: impl Fn(&mut Reading<'_>, &Member) -> bool,
) -> Option<Vec<(String, Secret)>> {
    let Some(node) = fields.get(key) else { return Some(Vec::new()) };
    let Kind::Object(members) = &node.kind else {
        reading.expected(&node.at, &format!("`{key}`"), "a mapping of names to values");
        return None;
    };
    let mut pairs = Vec::with_capacity(members.len());
    let mut whole = true;
    for member in members {
        let what = format!("`{}`", policy::shown(&member.key));
        let value = reading.value(&member.key, &member.value, &what);
        match value.filter(|_| is_name(reading, member)) {
            Some(value) if value.expose().contains(['\n', '\r', '\0']) => {
                reading.error(code::VALUE, &member.value.at, format!("{what} contains a line break"));
                whole = false;
            }
            Some(value) => pairs.push((member.key.clone(), value)),
            None => whole = false,
        }
    }
    whole.then_some(pairs)
}

fn tls(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Option<UpstreamTls> {
    let mut path = |key: &str| fields.get(key).map(|node| reading.file(node, &format!("`{key}`")));
    let (authorities, certificate, key) = (path("ca"), path("certificate"), path("key"));
    let certificate = match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(CertificateFiles { certificate: certificate?, key: key? }),
        (Some(_), None) | (None, Some(_)) => {
            let member = fields.any(&["certificate", "key"])?;
            reading.error(code::COMBINATION, &member.key_at, "`certificate` and `key` belong together").help =
                Some("write both, or neither".into());
            return None;
        }
    };
    match authorities {
        Some(None) => None,
        authorities => Some(UpstreamTls { authorities: authorities.flatten(), certificate }),
    }
}

fn request_headers(reading: &mut Reading<'_>, node: &policy::Node) -> Vec<String> {
    let named = reading.strings(node, "`request_headers`", "the name of a header");
    let mut names = Vec::with_capacity(named.len());
    for (text, node) in named {
        let name = text.to_ascii_lowercase();
        if NEVER.contains(&name.as_str()) || name.starts_with("mcp-") {
            reading
                .error(code::VALUE, &node.at, format!("`{}` never travels upstream from a client", policy::shown(text)))
                .help = Some("what the server needs to know us by stands under `headers`".into());
        } else if HeaderName::from_str(&name).is_err() {
            reading.expected(&node.at, "this", "the name of a header");
        } else {
            names.push(name);
        }
    }
    names
}

/// Credentials, and what frames a message.
const NEVER: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "content-encoding",
    "accept-encoding",
    "expect",
    "last-event-id",
];

/// Letters in lower case, digits and hyphens; at most 64.
pub(super) fn is_name(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    plain && !name.is_empty() && name.len() <= 64
}

fn with_causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_causes(cause)),
        None => error.to_string(),
    }
}
