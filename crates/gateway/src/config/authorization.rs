//! `authorization` of a server, and `authorizations`: by what authority servers are called.

use super::reading::{Reading, code};
use crate::fetch::{is_here, is_safe, split};
use crate::identity::IdentityConfig;
use crate::oauth::{AuthorizationConfig, ClientProof, Flow, IdentityProvider, SecretPlace, SubjectKind, is_signing_key};
use crate::secret::Secret;
use crate::tls::UpstreamTls;
use policy::{Fields, Kind, Node, Span};
use std::net::SocketAddr;

/// What the authorisations of users need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationsConfig {
    /// What tokens are sealed with in the state.
    pub key: Secret,
    /// Where browsers find the gateway: scheme, host and perhaps port. `None`: where it listens, which is on this machine.
    pub url: Option<String>,
    /// Where authorization servers find the document that says who the gateway is; `None`: it registers with each of them.
    pub client_document: Option<String>,
}

/// The keys of `authorizations`.
pub(crate) const SECTION_KEYS: &[&str] = &["key", "url", "client_document"];
/// The keys of `authorization`.
pub(crate) const KEYS: &[&str] = &[
    "flow",
    "issuer",
    "client_id",
    "client_secret",
    "client_secret_in",
    "client_key",
    "client_assertion",
    "scope",
    "audience",
    "subject_token",
    "identity_provider",
    "assertion",
    "dpop",
    "ca",
];
/// The keys of `identity_provider`.
pub(crate) const PROVIDER_KEYS: &[&str] = &["client_id", "client_secret", "client_secret_in", "client_key", "client_assertion"];

/// As long as 192 bits of chance are in base64: nobody remembers that.
const LEAST_KEY: usize = 32;

pub(super) fn read_section(reading: &mut Reading<'_>, node: &Node) -> Option<AuthorizationsConfig> {
    let fields = reading.fields(node, "`authorizations`", SECTION_KEYS)?;
    let key = reading.required(&fields, "key", "`authorizations`").and_then(|node| {
        let key = reading.secret(node, "`key`")?;
        if key.expose().trim().len() < LEAST_KEY {
            reading.error(code::VALUE, &node.at, format!("the key is shorter than {LEAST_KEY} characters")).help =
                Some("make one with `openssl rand -base64 32`, and keep it with the state's backups, but not in them".into());
            return None;
        }
        Some(key)
    });
    let url = fields.get("url").map(|node| origin(reading, node));
    let document = fields.get("client_document").map(|node| document(reading, node));
    Some(AuthorizationsConfig { key: key?, url: optional(url)?, client_document: optional(document)? })
}

/// An address that can be a client's id (Client ID Metadata Documents §3): `https`, with a path, and nothing else in it.
fn document(reading: &mut Reading<'_>, node: &Node) -> Option<String> {
    let text = reading.string(node, "`client_document`")?;
    let (_, path) = split(text);
    let is_plain = !text.contains(['?', '#', '@']) && !path.split('/').any(|part| matches!(part, "." | ".."));
    if !text.starts_with("https://") || path.len() < 2 || !is_plain {
        let what = "an address with a path, such as `https://mcp.example.org/authorize/client.json`";
        reading.expected(&node.at, "`client_document`", what);
        return None;
    }
    Some(text.to_owned())
}

fn origin(reading: &mut Reading<'_>, node: &Node) -> Option<String> {
    let text = reading.string(node, "`url`")?.trim_end_matches('/');
    let (_, path) = split(text);
    if !is_safe(text) || !path.is_empty() || text.contains(['?', '#', '@']) {
        reading.expected(&node.at, "`url`", "where browsers find the gateway, such as `https://mcp.example.org`, without a path");
        return None;
    }
    Some(text.to_owned())
}

const FLOWS: [(&str, Flow); 5] = [
    ("client_credentials", Flow::ClientCredentials),
    ("workload_identity", Flow::WorkloadIdentity),
    ("token_exchange", Flow::TokenExchange),
    ("enterprise_managed", Flow::EnterpriseManaged),
    ("authorization_code", Flow::AuthorizationCode),
];

pub(super) fn read(reading: &mut Reading<'_>, node: &Node) -> Option<AuthorizationConfig> {
    let fields = reading.fields(node, "`authorization`", KEYS)?;
    let flow = reading.required(&fields, "flow", "`authorization`").and_then(|node| reading.word(node, "`flow`", &FLOWS));
    let issuer = fields.get("issuer").map(|node| issuer(reading, node));
    let client_id = fields.get("client_id").map(|node| reading.string(node, "`client_id`").map(str::to_owned));
    let proof = proof(reading, &fields);
    let scopes = fields.get("scope").map(|node| reading.names(node, "`scope`", "a scope")).unwrap_or_default();
    let audience = fields.get("audience").map(|node| reading.string(node, "`audience`").map(str::to_owned));
    let kinds = [("access_token", SubjectKind::AccessToken), ("id_token", SubjectKind::IdToken)];
    let subject = fields.get("subject_token").map(|node| reading.word(node, "`subject_token`", &kinds));
    // MCP Enterprise-Managed Authorization: what is exchanged there is by itself an ID token.
    let usual = if flow == Some(Flow::EnterpriseManaged) { SubjectKind::IdToken } else { SubjectKind::AccessToken };
    let provider = fields.get("identity_provider").map(|node| provider(reading, node));
    let assertion = fields.get("assertion").map(|node| reading.reference(node, "`assertion`"));
    let dpop = fields.get("dpop").map(|node| reading.boolean(node, "`dpop`"));
    let authorities = fields.get("ca").map(|node| reading.file(node, "`ca`"));
    let config = AuthorizationConfig {
        flow: flow?,
        issuer: optional(issuer)?,
        client_id: optional(client_id)?,
        proof: proof?,
        scopes: scopes.iter().flat_map(|scopes| scopes.split_whitespace()).map(str::to_owned).collect(),
        audience: optional(audience)?,
        subject: optional(subject)?.unwrap_or(usual),
        provider: optional(provider)?,
        assertion: optional(assertion)?,
        dpop: optional(dpop)?,
        tls: UpstreamTls { authorities: optional(authorities)?, certificate: None },
    };
    check(reading, &fields, &config);
    Some(config)
}

/// What was read, where something stands there.
fn optional<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(None) => None,
        Some(value) => Some(value),
        None => Some(None),
    }
}

fn issuer(reading: &mut Reading<'_>, node: &Node) -> Option<String> {
    let text = reading.string(node, "`issuer`")?;
    if !is_safe(text) {
        reading.expected(&node.at, "`issuer`", "an address that begins with `https://`");
        return None;
    }
    Some(text.to_owned())
}

/// The identity provider, but for its name: whose tokens callers show is said by `identity`.
fn provider(reading: &mut Reading<'_>, node: &Node) -> Option<IdentityProvider> {
    let fields = reading.fields(node, "`identity_provider`", PROVIDER_KEYS)?;
    let client_id = reading.required(&fields, "client_id", "`identity_provider`");
    let client_id = client_id.and_then(|node| reading.string(node, "`client_id`").map(str::to_owned));
    let proof = proof(reading, &fields);
    Some(IdentityProvider { issuer: None, client_id: client_id?, proof: proof?, tls: UpstreamTls::default() })
}

fn proof(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Option<ClientProof> {
    let place = fields
        .get("client_secret_in")
        .map(|node| reading.word(node, "`client_secret_in`", &[("header", SecretPlace::Basic), ("body", SecretPlace::Post)]));
    match (fields.get("client_secret"), fields.get("client_key"), fields.get("client_assertion")) {
        (None, None, None) => Some(ClientProof::None),
        (Some(node), None, None) => Some(ClientProof::Secret(reading.secret(node, "`client_secret`")?, optional(place)?)),
        (None, Some(node), None) => {
            let key = reading.secret(node, "`client_key`")?;
            if !is_signing_key(&key) {
                reading.error(code::VALUE, &node.at, "the client's key is no private key in PEM: Ed25519, P-256 or RSA").help =
                    Some("make one with `openssl genpkey -algorithm ED25519`".into());
                return None;
            }
            Some(ClientProof::Key(key))
        }
        (None, None, Some(node)) => reading.reference(node, "`client_assertion`").map(ClientProof::Assertion),
        (_, Some(node), _) | (_, _, Some(node)) => {
            reading
                .error(code::COMBINATION, &node.at, "a client has a secret, a key or an assertion, and not two of them")
                .help = Some("remove one of them".into());
            None
        }
    }
}

fn check(reading: &mut Reading<'_>, fields: &Fields<'_>, config: &AuthorizationConfig) {
    let at = fields.get("flow").map_or(&fields.node.at, |node| &node.at);
    let is_known = config.client_id.is_some();
    match config.flow {
        Flow::ClientCredentials if !is_known || config.proof == ClientProof::None => {
            reading.error(code::MISSING, at, "client credentials are missing").help = Some(
                "add `client_id: …`, and `client_secret: env:NAME`, `client_key: file:PATH` or `client_assertion: file:PATH`"
                    .into(),
            );
        }
        Flow::TokenExchange | Flow::EnterpriseManaged if !is_known => {
            reading.error(code::MISSING, at, "`client_id` is missing").help = Some("add `client_id: …`".into());
        }
        Flow::AuthorizationCode | Flow::WorkloadIdentity if !is_known && config.proof != ClientProof::None => {
            reading.error(code::MISSING, at, "a client that has a secret has an id").help = Some("add `client_id: …`".into());
        }
        _ => {}
    }
    match config.flow {
        Flow::WorkloadIdentity if config.assertion.is_none() => {
            reading.error(code::MISSING, at, "`assertion` is missing").help =
                Some("add `assertion: file:PATH`, the token that the platform puts there".into());
        }
        Flow::EnterpriseManaged if config.provider.is_none() => {
            reading.error(code::MISSING, at, "`identity_provider` is missing").help =
                Some("add `identity_provider: {client_id: …, client_secret: env:NAME}`: who the gateway is there".into());
        }
        _ => {}
    }
    let belong = [
        ("audience", config.flow == Flow::TokenExchange, "a token exchange", "tokens are asked for by the server's own address"),
        ("subject_token", config.flow.is_of_subject(), "flows that exchange callers' tokens", "nothing is exchanged here"),
        ("identity_provider", config.flow == Flow::EnterpriseManaged, "`enterprise_managed`", "nobody else vouches for callers"),
        (
            "assertion",
            config.flow == Flow::WorkloadIdentity,
            "`workload_identity`",
            "where it is to show a client's identity, write `client_assertion`",
        ),
    ];
    for (key, does, to, why) in belong {
        if let Some(member) = fields.member(key).filter(|_| !does) {
            reading.error(code::COMBINATION, &member.key_at, format!("`{key}` belongs to {to} alone")).help =
                Some(format!("remove it: {why}"));
        }
    }
}

/// What the authorization of a server must fit.
pub(super) struct Around<'a> {
    pub grants: &'a [super::GrantConfig],
    pub identity: Option<&'a IdentityConfig>,
    /// Whether there are `authorizations`, and whether they say where browsers find the gateway.
    pub authorizations: Option<bool>,
    pub listen: SocketAddr,
}

/// What must hold between servers, `identity`, `authorizations` and the listener.
pub(super) fn check_whole(
    reading: &mut Reading<'_>,
    fields: &Fields<'_>,
    servers: &mut [super::ServerConfig],
    grants: &[super::GrantConfig],
    identity: Option<&IdentityConfig>,
    listen: SocketAddr,
) {
    let authorizations = fields.get("authorizations").map(|section| member(section, "url").is_some());
    let around = Around { grants, identity, authorizations, listen };
    for server in servers {
        let named = fields.get("servers").and_then(|servers| member(servers, &server.name));
        let at = named.and_then(|named| member(named, "authorization")).unwrap_or(fields.node).at.clone();
        check_server(reading, &at, server, &around);
    }
}

/// The same of one server, whose authorization stands `at` there.
pub(super) fn check_server(reading: &mut Reading<'_>, at: &Span, server: &mut super::ServerConfig, around: &Around<'_>) {
    let Some(config) = &mut server.authorization else { return };
    match config.flow {
        Flow::ClientCredentials | Flow::WorkloadIdentity => {}
        Flow::TokenExchange | Flow::EnterpriseManaged => {
            let Some(identity) = around.identity else {
                reading.error(code::MISSING, at, "there is no `identity` whose tokens could be exchanged").help =
                    Some("add `identity`: callers show its tokens".into());
                return;
            };
            // A server that could name it would be given callers' tokens.
            match &mut config.provider {
                Some(provider) => {
                    provider.issuer = Some(identity.issuer.clone());
                    provider.tls = identity.tls.clone();
                }
                None => drop(config.issuer.get_or_insert_with(|| identity.issuer.clone())),
            }
            if config.subject == SubjectKind::IdToken && identity.types.iter().all(|of_type| of_type == "at+jwt") {
                reading.error(code::COMBINATION, at, "ID tokens are to be exchanged, and `identity` takes none").help =
                    Some("add `types: [JWT]` to `identity`, or write `subject_token: access_token` here".into());
            }
            let uses = |name: &str| around.grants.iter().any(|grant| grant.name == name && grant.servers.contains(&server.name));
            let vague =
                identity.grants.iter().find(|mapping| uses(&mapping.grant) && mapping.principal.as_deref() != Some("sub"));
            if let Some(vague) = vague {
                let what = format!(
                    "the grant `{}` is reached without saying whose token it is, which could be exchanged for another's",
                    policy::shown(&vague.grant)
                );
                reading.error(code::COMBINATION, at, what).help =
                    Some("add `principal: sub` to its mapping under `identity`".into());
            }
        }
        Flow::AuthorizationCode => match around.authorizations {
            None => {
                reading.error(code::MISSING, at, "there is no key to seal what users authorise").help =
                    Some("add `authorizations: {key: env:NAME}`; make a key with `openssl rand -base64 32`".into());
            }
            Some(false) if !around.listen.ip().is_loopback() => {
                reading.error(code::MISSING, at, "nobody knows where browsers find the gateway").help =
                    Some("add `authorizations: {url: https://…}`: what stands before it, or its own name".into());
            }
            Some(_) => {}
        },
    }
    if !config.flow.is_our_own() && server.isolation == super::Isolation::Shared {
        reading.error(code::COMBINATION, at, "a server that is called in each caller's name cannot have one line for all").help =
            Some("write `isolation: principal`, or leave it out".into());
    }
}

pub(super) fn member<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    match &node.kind {
        Kind::Object(members) => members.iter().find(|member| member.key == name).map(|member| &member.value),
        _ => None,
    }
}

/// The name by which browsers call the gateway at such an address, without a port.
pub(crate) fn host_of(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1;
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => Some(host),
        _ => Some(authority),
    }
    .filter(|_| !is_here(url))
}
