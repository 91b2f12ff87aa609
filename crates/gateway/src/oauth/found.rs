//! Which authorization server stands before a server, and where its endpoints are.
//!
//! MCP 2025-11-25 §Authorization: the server says itself, when it is asked without credentials (RFC 9728), else at a
//! well-known place; the authorization server then says the rest (RFC 8414). What a server says of others is believed no
//! further than needed: its own metadata must be of its own origin and about itself, and whoever it names must be reached over
//! TLS, or be on this machine as it is.

use super::challenge;
use super::client::{SecretPlace, Trouble, text};
use super::dpop;
use crate::enforcer::Permit;
use crate::fetch::{self, Way};
use crate::tls::UpstreamTls;
use crate::tools::own_id;
use crate::upstream::outside::{Whereabouts, Within, whereabouts};
use crate::upstream::{HttpTarget, challenges};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};
use json::{Document, Strictness, Value};
use mcp::{Message, Side};
use std::time::Duration;

/// What was found out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub issuer: String,
    /// Whether the operator has named it, and not the server.
    pub is_named: bool,
    pub token_endpoint: String,
    pub authorization_endpoint: Option<String>,
    pub registration_endpoint: Option<String>,
    pub revocation_endpoint: Option<String>,
    /// Ways to authenticate at the token endpoint; empty where that is not said.
    pub methods: Vec<String>,
    /// Whether PKCE with S256 is spoken.
    pub has_pkce: bool,
    /// Whether whoever comes back must say from whom (RFC 9207).
    pub says_issuer: bool,
    /// Whether it takes the address of a document for a client's id (Client ID Metadata Documents).
    pub reads_documents: bool,
    /// Whether it gives tokens that outlive the user's presence, where they are asked for by `offline_access`.
    pub lasts_offline: bool,
    /// Whether it binds tokens to keys such as ours, and the server takes such (RFC 9449).
    pub binds: bool,
    /// Where its endpoints must be: on the internet, if a server out there has named it.
    pub within: Within,
    /// What tokens are for (RFC 8707); empty of an identity provider, which gives none.
    pub resource: String,
    /// What the server asks for.
    pub scopes: Vec<String>,
}

impl Found {
    /// Where a secret goes, where that is left to the server.
    pub fn preferred_place(&self) -> SecretPlace {
        let speaks = |method: &str| self.methods.iter().any(|known| known == method);
        if speaks("client_secret_post") && !speaks("client_secret_basic") { SecretPlace::Post } else { SecretPlace::Basic }
    }
}

/// What is known of the server at `url`: by `issuer`, where the operator has named it, else by what the server says.
pub(super) async fn find(url: &str, issuer: Option<&str>, server_tls: &UpstreamTls, tls: &UpstreamTls) -> Result<Found, Trouble> {
    let (origin, path) = fetch::split(url);
    let canonical = format!("{origin}{path}");
    let Some(issuer) = issuer else {
        // What a server says that is found in our own network must come from there: its name may lead elsewhere a moment later.
        let (of_server, within) = match place_of(&canonical).await {
            Whereabouts::Inside => (Within::Inside, Within::Anywhere),
            Whereabouts::Outside | Whereabouts::Both => (Within::Anywhere, Within::Outside),
        };
        let way = Way { tls: server_tls, within: of_server };
        let Said { issuer, resource, scopes, wants_proof } = said(&canonical, way).await?;
        if within == Within::Outside && place_of(&issuer).await != Whereabouts::Outside {
            return Err("the server names an authorization server in a private network; name it under `issuer`".into());
        }
        let found = found(&issuer, url, Way { tls, within }).await?;
        let scopes = scopes.into_iter().filter(|scope| found.lasts_offline || scope != OFFLINE).collect();
        // A server that says nothing of it might not know such tokens.
        return Ok(Found { resource, scopes, binds: found.binds && wants_proof, ..found });
    };
    Ok(Found { is_named: true, binds: false, resource: canonical, ..found(issuer, url, Way::anywhere(tls)).await? })
}

/// What is known of an identity provider, which the operator has named.
pub(super) async fn provider(issuer: &str, tls: &UpstreamTls) -> Result<Found, Trouble> {
    Ok(Found { is_named: true, ..found(issuer, issuer, Way::anywhere(tls)).await? })
}

/// What the authorization server `issuer` says of itself, as far as who is at `from` may lead there.
async fn found(issuer: &str, from: &str, way: Way<'_>) -> Result<Found, Trouble> {
    if !may_lead_to(from, issuer) {
        return Err(Trouble::Away("the server names an authorization server that is not https"));
    }
    let metadata = fetch::metadata(issuer, way, "token_endpoint").await?;
    let root = metadata.root();
    let endpoint = |name: &str| text(root, name).filter(|place| may_lead_to(from, place));
    let is_said = |name: &str| root.get(name).and_then(|says| says.as_bool()) == Some(true);
    Ok(Found {
        issuer: issuer.to_owned(),
        is_named: false,
        token_endpoint: endpoint("token_endpoint").ok_or("it names no token endpoint that could be used")?,
        authorization_endpoint: endpoint("authorization_endpoint").filter(|place| is_for_browsers(place)),
        registration_endpoint: endpoint("registration_endpoint"),
        revocation_endpoint: endpoint("revocation_endpoint"),
        methods: texts(root, "token_endpoint_auth_methods_supported"),
        has_pkce: texts(root, "code_challenge_methods_supported").iter().any(|method| method == "S256"),
        says_issuer: is_said("authorization_response_iss_parameter_supported"),
        reads_documents: is_said("client_id_metadata_document_supported"),
        // 2026-07-28 §Refresh Tokens: it is asked for where the authorization server knows it, whatever the server says.
        lasts_offline: texts(root, "scopes_supported").iter().any(|scope| scope == OFFLINE),
        binds: texts(root, "dpop_signing_alg_values_supported").iter().any(|name| name == dpop::ALGORITHM),
        within: way.within,
        resource: String::new(),
        scopes: Vec::new(),
    })
}

/// Where an address is, as far as can be found out.
async fn place_of(url: &str) -> Whereabouts {
    match url.parse() {
        Ok(url) => whereabouts(&url).await,
        Err(_) => Whereabouts::Outside,
    }
}

/// The scope by which refresh tokens are asked for.
pub(super) const OFFLINE: &str = "offline_access";

/// Whether a browser can be sent there with parameters: a fragment would swallow them (RFC 6749 §3.1), and a name before the
/// host make it look like another's.
fn is_for_browsers(place: &str) -> bool {
    let authority = fetch::split(place).0;
    place.len() <= 4_096 && place.bytes().all(|byte| byte.is_ascii_graphic()) && !place.contains('#') && !authority.contains('@')
}

/// A server in the clear on this machine may name others there; any other only such as are reached over TLS.
fn may_lead_to(from: &str, to: &str) -> bool {
    to.starts_with("https://") || (fetch::is_here(to) && fetch::is_here(from))
}

/// What a server says.
struct Said {
    /// Its authorization server.
    issuer: String,
    /// What it is called.
    resource: String,
    /// What it asks for.
    scopes: Vec<String>,
    /// Whether it takes tokens that are bound to a key of ours.
    wants_proof: bool,
}

async fn said(url: &str, way: Way<'_>) -> Result<Said, Trouble> {
    let (origin, path) = fetch::split(url);
    let challenge = challenge_of(url, way).await.unwrap_or_default();
    let asked = challenge::parameter(&challenge, "scope");
    let named = challenge::parameter(&challenge, "resource_metadata");
    // It speaks for itself alone.
    let named = named.filter(|place| fetch::split(place).0.eq_ignore_ascii_case(origin));
    let well_known = "/.well-known/oauth-protected-resource";
    let places = named.into_iter().chain([format!("{origin}{well_known}{path}"), format!("{origin}{well_known}")]);
    for place in places {
        let Ok(body) = fetch::get(&place, way).await else { continue };
        let Ok(metadata) = Document::parse(body, Strictness::Reply) else { continue };
        let root = metadata.root();
        let resource = text(root, "resource").unwrap_or_default();
        if !is_of(&resource, url) {
            return Err(Trouble::Away("the server's metadata is about another server"));
        }
        let issuer = texts(root, "authorization_servers").into_iter().next();
        let issuer = issuer.ok_or("the server names no authorization server")?;
        let scopes = match asked {
            Some(asked) => asked.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
            None => texts(root, "scopes_supported"),
        };
        // RFC 9728 §2.
        let algorithms = texts(root, "dpop_signing_alg_values_supported");
        let is_required = root.get("dpop_bound_access_tokens_required").and_then(|says| says.as_bool()) == Some(true);
        let is_known = algorithms.iter().any(|name| name == dpop::ALGORITHM);
        let wants_proof = is_known || is_required || challenge::wants_proof(&challenge);
        return Ok(Said { issuer, resource, scopes, wants_proof });
    }
    // 2025-03-26 §Authorization: the server's origin is its authorization server.
    let (issuer, resource) = (origin.to_owned(), url.to_owned());
    Ok(Said { issuer, resource, scopes: Vec::new(), wants_proof: challenge::wants_proof(&challenge) })
}

/// What the server says when it is asked without credentials.
async fn challenge_of(url: &str, way: Way<'_>) -> Option<String> {
    let ping = format!(r#"{{"jsonrpc":"2.0","id":{},"method":"ping"}}"#, json::quote(&own_id()));
    let permit = Permit::own(Message::parse(ping, Side::Client).ok()?)?;
    let target = HttpTarget::within(url, way.tls, PROBE, way.within).ok()?;
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let response = target.send(Method::POST, headers, permit.text().clone()).await.ok()?;
    Some(challenges(response.headers()))
}

const PROBE: Duration = Duration::from_secs(5);

/// Whether a resource of this name is the server at `url`, or all of its origin, or a path above it.
fn is_of(resource: &str, url: &str) -> bool {
    let ((origin, path), (of_origin, of_path)) = (fetch::split(resource), fetch::split(url));
    let path = path.trim_end_matches('/');
    let below = of_path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    origin.eq_ignore_ascii_case(of_origin) && below
}

fn texts(object: Value<'_>, name: &str) -> Vec<String> {
    let elements = object.get(name).and_then(|value| value.elements());
    elements.into_iter().flatten().filter_map(|value| Some(value.as_str()?.into_owned())).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_must_be_about_the_server_itself() {
        for resource in ["https://h/a/mcp", "https://h/a", "https://h", "https://h/", "HTTPS://H/a/mcp/"] {
            assert!(is_of(resource, "https://h/a/mcp"), "{resource}");
        }
        for resource in ["https://h/a/mc", "https://h/a/mcp/x", "https://evil", "http://h/a/mcp", "https://h:1/a/mcp", ""] {
            assert!(!is_of(resource, "https://h/a/mcp"), "{resource}");
        }
    }

    #[test]
    fn browsers_are_sent_where_parameters_arrive_and_the_host_is_plain() {
        assert!(is_for_browsers("https://id/authorize?tenant=1"));
        for place in ["https://id/authorize#x", "https://bank.example@evil/authorize", "https://id/a b", "https://id/\r\nX: y"] {
            assert!(!is_for_browsers(place), "{place}");
        }
    }

    #[test]
    fn a_server_elsewhere_leads_nobody_to_this_machine() {
        assert!(may_lead_to("https://h/mcp", "https://id"));
        assert!(may_lead_to("http://127.0.0.1:1/mcp", "http://localhost:2"));
        assert!(!may_lead_to("https://h/mcp", "http://127.0.0.1:2"));
        assert!(!may_lead_to("http://127.0.0.1:1/mcp", "http://10.0.0.1"));
    }
}
