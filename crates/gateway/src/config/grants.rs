//! `grants`: who may use what, and by which credential it is known.

use super::kept::KEPT;
use super::reading::{Reading, code};
use super::servers::ServerConfig;
use crate::certificate::{CertificateName, digest_of_hex};
use crate::enforcer::LOCAL;
use crate::grants::sha256;
use crate::secret::Secret;
use policy::{Fields, Kind, Node, Policy, Severity, Source, Span};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One grant of the file.
#[derive(Clone, Debug)]
pub struct GrantConfig {
    /// Its name, in counters and records.
    pub name: String,
    /// The person, agent or service that it was given to.
    pub principal: String,
    /// What its holder shows; `None`: nothing of its own, it is reached through an identity.
    pub token: Option<TokenConfig>,
    /// By which name in a certificate its holder is known, if by any.
    pub certificate: Option<CertificateName>,
    /// The names of the servers it is for, of the file or kept in the state.
    pub servers: Vec<String>,
    /// The policies that hold besides the server's, all of which must allow.
    pub policies: Vec<Arc<Policy>>,
    /// Its tools and limits, as a policy: a further restriction, and nothing that could allow.
    pub bounds: Option<Arc<Policy>>,
    /// When it ends, in milliseconds since the Unix epoch.
    pub expires: Option<i64>,
    /// For people, and for finding it again.
    pub labels: BTreeMap<String, String>,
    /// Whether its client may be asked for approvals.
    pub approve_in_client: bool,
}

/// What is known of a token.
#[derive(Clone, Debug)]
pub enum TokenConfig {
    /// The token.
    Plain(Secret),
    /// Its SHA-256.
    Sha256([u8; 32]),
    /// Digests under the key of the state, in hexadecimal: of the token, and of the one before it with the time until which
    /// that is good, in milliseconds since the Unix epoch.
    Kept {
        /// Of the token.
        digest: String,
        /// Of the token before it.
        former: Option<(String, i64)>,
    },
}

/// The keys of a grant.
pub(crate) const KEYS: &[&str] = &[
    "name",
    "principal",
    "token",
    "certificate",
    "servers",
    "tools",
    "policy",
    "limits",
    "expires",
    "labels",
    "approve_in_client",
];

pub(super) fn read(reading: &mut Reading<'_>, fields: &Fields<'_>, servers: &[ServerConfig], known: &[&str]) -> Vec<GrantConfig> {
    // Where callers show tokens of an authorization server, a grant needs none of its own.
    let needs_token = fields.get("identity").is_none();
    let Some(node) = fields.get("grants") else { return Vec::new() };
    let nodes = reading.list(node, "`grants`");
    let mut named = Vec::new();
    let mut grants = Vec::new();
    for node in nodes {
        let Some(fields) = reading.fields(node, "a grant", KEYS) else { continue };
        if let Some(node) = fields.get("name")
            && let Some(name) = node.as_str()
        {
            named.push((name, node));
        }
        let token = match fields.get("token") {
            None if needs_token && fields.get("certificate").is_none() => reading.required(&fields, "token", "a grant"),
            token => token,
        };
        let token = token.and_then(|node| self::token(reading, node));
        grants.extend(grant(reading, &fields, servers, known, token));
    }
    super::each_once(reading, named.into_iter(), "the grant");
    each_token_once(reading, &grants, node);
    each_certificate_once(reading, &grants, node);
    grants
}

/// Reports certificates by which grants would be known, where clients are not asked for any.
pub(super) fn refuse_certificates(reading: &mut Reading<'_>, fields: &Fields<'_>) {
    let Some(node) = fields.get("grants") else { return };
    let Kind::Array(nodes) = &node.kind else { return };
    for node in nodes {
        let Kind::Object(members) = &node.kind else { continue };
        for member in members.iter().filter(|member| member.key == "certificate") {
            nobody_shows(reading, &member.key_at);
        }
    }
}

fn nobody_shows(reading: &mut Reading<'_>, at: &Span) {
    let problem = reading.error(code::MISSING, at, "nobody could show a certificate: clients are not asked");
    problem.help = Some("add `client_ca` to `tls`: the file of the authorities whose certificates are believed".into());
}

/// Reports a certificate of a grant that is read by itself: where clients are not asked for any, and where one of `others` is
/// known by the same name. `is_asked`: whether clients are.
pub(super) fn check_certificate(
    reading: &mut Reading<'_>,
    fields: &Fields<'_>,
    grant: &GrantConfig,
    others: &[GrantConfig],
    is_asked: bool,
) {
    let (Some(member), Some(name)) = (fields.member("certificate"), &grant.certificate) else { return };
    if !is_asked {
        nobody_shows(reading, &member.key_at);
    }
    if let Some(other) = others.iter().find(|other| other.certificate.as_ref() == Some(name)) {
        same_certificate(reading, &member.key_at, &other.name, &grant.name);
    }
}

fn same_certificate(reading: &mut Reading<'_>, at: &Span, one: &str, other: &str) {
    let message = format!("the grants `{one}` and `{other}` are known by the same name in a certificate");
    reading.error(code::TWICE, at, message).help = Some("give each a name of its own".into());
}

/// One grant. `known` are the names of all servers.
pub(super) fn grant(
    reading: &mut Reading<'_>,
    fields: &Fields<'_>,
    servers: &[ServerConfig],
    known: &[&str],
    token: Option<TokenConfig>,
) -> Option<GrantConfig> {
    let name = reading.required(fields, "name", "a grant").and_then(|node| name(reading, node));
    let what = name.map_or_else(|| "a grant".to_owned(), |name| format!("the grant `{name}`"));
    let principal = reading.required(fields, "principal", &what).and_then(|node| reading.string(node, "`principal`"));
    let for_servers = reading.required(fields, "servers", &what).map(|node| of_servers(reading, node, known)).unwrap_or_default();
    let policies = fields.get("policy").map(|node| policies(reading, node)).unwrap_or_default();
    for server in &for_servers {
        if let Some(node) = fields.get("policy") {
            super::check_names(reading, server, policies.iter().flat_map(|policy| policy.tools_named()), node);
        }
        if let Some(node) = fields.get("tools") {
            let tools = reading.names(node, "`tools`", "the name or pattern of a tool");
            let named = tools.iter().map(String::as_str).filter(|tool| !tool.contains(['*', '?']));
            super::check_names(reading, server, named, node);
        }
    }
    let expires = fields.get("expires").and_then(|node| expiry(reading, node));
    let labels = fields.get("labels").map(|node| labels(reading, node)).unwrap_or_default();
    let certificate = fields.get("certificate").map(|node| self::certificate(reading, node));
    let approve_in_client = fields.get("approve_in_client").and_then(|node| reading.boolean(node, "`approve_in_client`"));
    let bounds = bounds(reading, fields);
    if policies.is_empty() && fields.get("policy").is_none() {
        let bare: Vec<&str> = servers
            .iter()
            .filter(|server| server.policy.is_none() && for_servers.contains(&server.name))
            .map(|server| server.name.as_str())
            .collect();
        if !bare.is_empty() {
            let message = format!("{what} allows nothing at `{}`: neither of the two has a policy", bare.join("`, `"));
            let at = fields.member("servers").map_or(fields.node.at.clone(), |member| member.key_at.clone());
            reading.warn(code::WITHOUT_POLICY, &at, message).help = Some("add a `policy` to the server or to the grant".into());
        }
    }
    Some(GrantConfig {
        name: name?.to_owned(),
        principal: principal?.to_owned(),
        token,
        certificate: match certificate {
            Some(name) => Some(name?),
            None => None,
        },
        servers: for_servers,
        policies,
        bounds: bounds?,
        expires,
        labels,
        approve_in_client: approve_in_client.unwrap_or(false),
    })
}

fn name<'n>(reading: &mut Reading<'_>, node: &'n Node) -> Option<&'n str> {
    let name = reading.string(node, "`name`")?;
    if let Err(why) = check_name(name) {
        reading.error(code::VALUE, &node.at, format!("`{}` is no name for a grant", policy::shown(name))).help = Some(why.into());
        return None;
    }
    Some(name)
}

/// Whether a grant may be called so.
///
/// # Errors
/// What to write instead.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte));
    if name == LOCAL {
        return Err("`local` is the grant of `run` and `serve -p`; take another name");
    }
    if !plain || !name.starts_with(|first: char| first.is_ascii_alphanumeric()) || name.len() > 64 {
        return Err("use letters, digits and `.`, `_`, `@`, `-`, at most 64, a letter or digit first");
    }
    Ok(())
}

fn token(reading: &mut Reading<'_>, node: &Node) -> Option<TokenConfig> {
    let what = "the token of a grant";
    if let Some(hex) = node.as_str().and_then(|text| text.strip_prefix("sha256:")) {
        let digest = digest_of_hex(hex);
        if digest.is_none() {
            reading.error(code::VALUE, &node.at, format!("{what} is no SHA-256")).help =
                Some("write `sha256:` and 64 hexadecimal digits, as `printf %s \"$TOKEN\" | sha256sum` prints them".into());
        }
        return digest.map(TokenConfig::Sha256);
    }
    let secret = reading.secret(node, what)?;
    if secret.expose().chars().any(|c| c.is_whitespace() || c.is_control()) {
        reading.error(code::VALUE, &node.at, format!("{what} contains white space")).help =
            Some("a token is one word: it travels in a header".into());
        return None;
    }
    Some(TokenConfig::Plain(secret))
}

/// The keys of `certificate` of a grant, of which it has one.
pub(crate) const CERTIFICATE_KEYS: &[&str] = &["san", "subject", "fingerprint"];

fn certificate(reading: &mut Reading<'_>, node: &Node) -> Option<CertificateName> {
    let fields = reading.fields(node, "`certificate`", CERTIFICATE_KEYS)?;
    let [member] = fields.members() else {
        reading.expected(&node.at, "`certificate`", "one of `san`, `subject` and `fingerprint`");
        return None;
    };
    let text = reading.string(&member.value, &format!("`{}`", member.key))?;
    let name = match member.key.as_str() {
        "san" => Some(CertificateName::alternative(text)),
        "subject" if text.contains('=') => Some(CertificateName::Subject(text.to_owned())),
        "fingerprint" => CertificateName::fingerprint(text),
        _ => None,
    };
    if name.is_none() {
        let expected = match member.key.as_str() {
            "fingerprint" => "64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` prints them",
            _ => "a text such as `CN=ci,O=Example`, as `openssl x509 -noout -subject -nameopt RFC2253` prints it",
        };
        reading.expected(&member.value.at, &format!("`{}`", member.key), expected);
    }
    name
}

/// A file names a server that the state keeps as `state:NAME`; whether there is one shows when it is served.
fn of_servers(reading: &mut Reading<'_>, node: &Node, known: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    for (text, node) in reading.strings(node, "`servers`", "the name of a server") {
        let kept = text.strip_prefix(KEPT);
        let name = kept.unwrap_or(text);
        let is_known = known.contains(&name);
        if kept.is_some() && !reading.knows_state() {
            if !super::servers::is_name(name) {
                reading.expected(&node.at, "a server that the state keeps", "`state:` and its name");
            } else if is_known {
                let message = format!("the server `{name}` stands in this file, and not in the state");
                reading.error(code::UNKNOWN, &node.at, message).help = Some(format!("write `{name}`"));
            }
        } else if !is_known {
            let kept = if reading.knows_state() { "" } else { "; one that the state keeps is named `state:NAME`" };
            reading.error(code::UNKNOWN, &node.at, format!("there is no server `{}`", policy::shown(name))).help =
                Some(format!("the servers are: {}{kept}", known.join(", ")));
        }
        names.push(name.to_owned());
    }
    names
}

fn policies(reading: &mut Reading<'_>, node: &Node) -> Vec<Arc<Policy>> {
    match node.as_str() {
        Some(_) => reading.policy(node, "`policy`").into_iter().collect(),
        None => reading.list(node, "`policy`").iter().filter_map(|node| reading.policy(node, "`policy`")).collect(),
    }
}

/// `tools` and `limits`, made into a policy, so that they are judged, counted and recorded as any other.
fn bounds(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Option<Option<Arc<Policy>>> {
    let tools = fields.get("tools").map(|node| reading.names(node, "`tools`", "the name or pattern of a tool"));
    let limits = fields.get("limits").map(|node| reading.names(node, "`limits`", "a limit such as `100/hour`"));
    let text = bounds_text(tools.as_deref(), limits.as_deref());
    let Some(text) = text else { return Some(None) };
    match policy::load(&Source::new("the grant", text)) {
        policy::Loaded { policy: Some(policy), .. } => Some(Some(Arc::new(policy))),
        loaded => {
            let at = fields.any(&["tools", "limits"]).map_or(fields.node.at.clone(), |member| member.key_at.clone());
            let why = loaded.problems.into_iter().find(|problem| problem.severity == policy::Severity::Error);
            let why = why.map(|problem| problem.message).unwrap_or_default();
            reading.error(code::VALUE, &at, format!("`tools` or `limits` of a grant: {why}")).help =
                Some("write `tools: [read_*]`, `limits: [100/hour]`".into());
            None
        }
    }
}

/// The policy, as JSON, that `tools` and `limits` of a grant amount to.
pub(crate) fn bounds_text(tools: Option<&[String]>, limits: Option<&[String]>) -> Option<String> {
    if tools.is_none() && limits.is_none() {
        return None;
    }
    let posture = if tools.is_some() { "deny" } else { "allow" };
    let everything = tools.is_some_and(|tools| tools.iter().any(|tool| tool == "*"));
    let posture = if everything { "allow" } else { posture };
    let named = tools.unwrap_or_default().iter().filter(|tool| *tool != "*");
    let mut entries: Vec<String> = named.map(|tool| format!("{}:{{}}", json::quote(tool))).collect();
    let limits: Vec<String> = limits
        .unwrap_or_default()
        .iter()
        .map(|limit| {
            format!(r#"{{"name":{},"rate_limit":{}}}"#, json::quote(&format!("limit of the grant: {limit}")), json::quote(limit))
        })
        .collect();
    if !limits.is_empty() {
        entries.push(format!(r#""*":{{"rules":[{}]}}"#, limits.join(",")));
    }
    Some(format!(r#"{{"version":"1","default":"{posture}","tools":{{{}}}}}"#, entries.join(",")))
}

/// Whether a grant's tools and limits can be judged by.
///
/// # Errors
/// What is wrong with them.
pub fn check_bounds(tools: &[String], limits: &[String]) -> Result<(), String> {
    let given = |texts: &'_ [String]| (!texts.is_empty()).then(|| texts.to_vec());
    let Some(text) = bounds_text(given(tools).as_deref(), given(limits).as_deref()) else { return Ok(()) };
    let problems = policy::load(&Source::new("the grant", text)).problems;
    match problems.into_iter().find(|problem| problem.severity == Severity::Error) {
        Some(problem) => Err(format!("the tools or limits of the grant: {}", problem.message)),
        None => Ok(()),
    }
}

/// What people are shown of a grant that the state keeps.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// To whom it was given.
    pub principal: String,
    /// The servers that it is for.
    pub servers: Vec<String>,
    /// When it ends, in milliseconds since the Unix epoch.
    pub expires: Option<i64>,
    /// To find it by.
    pub labels: Vec<(String, String)>,
}

/// Reads what is shown of a spec; nothing of what cannot be read.
pub fn summary(spec: &str) -> Summary {
    let Ok(document) = json::Document::parse(spec.to_owned(), json::Strictness::Reply) else { return Summary::default() };
    let root = document.root();
    let text = |key: &str| root.get(key).and_then(|value| value.as_str()).map(|text| text.into_owned());
    let servers = root.get("servers").and_then(|value| value.elements()).into_iter().flatten();
    let labels = root.get("labels").and_then(|value| value.members()).into_iter().flatten();
    Summary {
        principal: text("principal").unwrap_or_default(),
        servers: servers.filter_map(|server| Some(server.as_str()?.into_owned())).collect(),
        expires: text("expires").as_deref().and_then(parse_time),
        labels: labels.filter_map(|label| Some((label.key.to_string(), label.value.as_str()?.into_owned()))).collect(),
    }
}

fn expiry(reading: &mut Reading<'_>, node: &Node) -> Option<i64> {
    let at = node.as_str().and_then(parse_time);
    if at.is_none() {
        reading.expected(&node.at, "`expires`", "a time such as `\"2027-01-01T00:00:00Z\"`, or a day");
    }
    at
}

/// A time, or the beginning of a day in UTC.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let time: Option<jiff::Timestamp> = text.parse().ok();
    let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|day| day.timestamp());
    time.or_else(day).map(|time| time.as_millisecond())
}

fn labels(reading: &mut Reading<'_>, node: &Node) -> BTreeMap<String, String> {
    let Kind::Object(members) = &node.kind else {
        reading.expected(&node.at, "`labels`", "a mapping of names to texts");
        return BTreeMap::new();
    };
    members.iter().filter_map(|member| Some((member.key.clone(), reading.string(&member.value, "a label")?.to_owned()))).collect()
}

/// A token tells two grants apart, or neither.
fn each_token_once(reading: &mut Reading<'_>, grants: &[GrantConfig], node: &Node) {
    let mut seen: BTreeMap<[u8; 32], &str> = BTreeMap::new();
    for grant in grants {
        let Some(digest) = grant.token.as_ref().and_then(TokenConfig::sha256) else { continue };
        if let Some(other) = seen.insert(digest, &grant.name) {
            let message = format!("the grants `{other}` and `{}` have the same token", grant.name);
            reading.error(code::TWICE, &node.at, message).help = Some("give each a token of its own".into());
        }
    }
}

/// A name in a certificate tells two grants apart, or neither.
fn each_certificate_once(reading: &mut Reading<'_>, grants: &[GrantConfig], node: &Node) {
    let mut seen: HashMap<&CertificateName, &str> = HashMap::new();
    for grant in grants {
        let Some(name) = &grant.certificate else { continue };
        if let Some(other) = seen.insert(name, &grant.name) {
            same_certificate(reading, &node.at, other, &grant.name);
        }
    }
}

impl TokenConfig {
    /// The SHA-256 of the token, where that can be known.
    pub fn sha256(&self) -> Option<[u8; 32]> {
        match self {
            TokenConfig::Plain(token) => Some(sha256(token.expose())),
            TokenConfig::Sha256(digest) => Some(*digest),
            TokenConfig::Kept { .. } => None,
        }
    }
}
