//! A user authorises the gateway: the steps in the browser, between an invitation and a token.
//!
//! An invitation is bound to a principal, and whoever opens it could be somebody else, lured there: so the first page says in
//! whose name it is, and nothing begins before somebody has agreed to that. What goes on then is bound to that browser by a
//! cookie, to the authorization server by its issuer and by where it leads back to, to the server by its address, and to what
//! was begun by PKCE: the answer that comes back is of use to nobody else. Nothing of it is remembered here meanwhile; it travels sealed.

use super::client::{Client, ClientProof, Granted, SecretPlace, text};
use super::consents::{Consents, Invitation, Kept, Of};
use super::found::{Found, OFFLINE};
use super::{Authorizer, Trouble};
use crate::fetch::{self, Answer, Way};
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use form_urlencoded::Serializer;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use json::{Document, Strictness, quote};
use ring::digest::{SHA256, digest};
use tracing::{info, warn};

/// Where browsers come back to; the name of the server follows.
const CALLBACK: &str = "/authorize/callback/";
/// What an authorization server calls us by is no longer than this.
const MAX_ID_BYTES: usize = 2_048;
/// How long somebody may take at the authorization server, in milliseconds.
const JOURNEY_MS: i64 = 10 * 60 * 1_000;

/// What a browser is shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// Somebody is asked whether that is meant: the server, in whose name, and the ticket to go on with.
    Ask { server: String, principal: String, ticket: String },
    /// It goes on elsewhere; what it must bring back is in the cookie.
    Go { to: String, cookie: String },
    /// It is done: the server, and in whose name.
    Done { server: String, principal: String },
    /// It came to nothing, and why.
    Failed(StatusCode, String),
}

fn failed(status: StatusCode, why: &str) -> Page {
    Page::Failed(status, why.to_owned())
}

fn over() -> Page {
    failed(StatusCode::BAD_REQUEST, "This invitation is over, or was never one. Make the call again to get another.")
}

/// What is known of a server by its name, to get tokens for it.
pub(crate) type Authorizers<'a> = &'a (dyn Fn(&str) -> Option<Authorizer> + Send + Sync);

/// For which server a browser is led back to this path.
pub(crate) fn led_back_for(path: &str) -> Option<&str> {
    path.strip_prefix(CALLBACK).filter(|server| !server.is_empty() && !server.contains('/'))
}

/// Where a browser is led back to. Each server has a place of its own, so that an authorization server that one names cannot
/// have another's answer taken for its own (RFC 9700 §4.4.2.2).
fn place_for(consents: &Consents, server: &str) -> String {
    format!("{}{CALLBACK}{server}", consents.origin().unwrap_or_default())
}

/// The client document, for authorization servers that know clients by the addresses of such: that this is `id`, and where
/// browsers may be led back to for these servers.
pub(crate) fn client_document<'s>(consents: &Consents, id: &str, servers: impl Iterator<Item = &'s str>) -> String {
    let places: Vec<String> = servers.map(|server| quote(&place_for(consents, server))).collect();
    format!(
        r#"{{"client_id":{},"client_name":"callgate",{}}}"#,
        quote(id),
        metadata_of(&places.join(","), "none", consents.origin().unwrap_or_default())
    )
}

/// What a client says of itself (RFC 7591 §2), in a document or registering; `places` are JSON.
fn metadata_of(places: &str, method: &str, origin: &str) -> String {
    // 2026-07-28 §Dynamic Client Registration: whoever registers says what kind of application it is.
    let kind = if origin.starts_with("https:") { "web" } else { "native" };
    format!(
        r#""redirect_uris":[{places}],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"{method}","application_type":"{kind}""#
    )
}

/// Asks whether an invitation is meant.
pub(crate) fn introduce(consents: &Consents, ticket: &str) -> Page {
    match consents.invitation(ticket) {
        Some(Invitation { server, principal, .. }) => Page::Ask { server, principal, ticket: ticket.to_owned() },
        None => over(),
    }
}

/// What is carried to the authorization server and back.
struct Journey {
    server: String,
    /// Its address.
    resource: String,
    principal: String,
    scopes: String,
    issuer: String,
    verifier: String,
    /// As whom we were there.
    client_id: String,
    /// The digest of what the browser holds.
    browser: String,
    until: i64,
}

impl Journey {
    fn to_json(&self) -> String {
        format!(
            r#"{{"server":{},"resource":{},"principal":{},"scopes":{},"issuer":{},"verifier":{},"client_id":{},"browser":{},"until":{}}}"#,
            quote(&self.server),
            quote(&self.resource),
            quote(&self.principal),
            quote(&self.scopes),
            quote(&self.issuer),
            quote(&self.verifier),
            quote(&self.client_id),
            quote(&self.browser),
            self.until
        )
    }

    fn parse(json: &str) -> Option<Journey> {
        let document = Document::parse(json.to_owned(), Strictness::Request).ok()?;
        let root = document.root();
        Some(Journey {
            server: text(root, "server")?,
            resource: text(root, "resource")?,
            principal: text(root, "principal")?,
            scopes: text(root, "scopes")?,
            issuer: text(root, "issuer")?,
            verifier: text(root, "verifier")?,
            client_id: text(root, "client_id")?,
            browser: text(root, "browser")?,
            until: root.get("until")?.raw().parse().ok()?,
        })
    }
}

/// Sends a browser to the authorization server, once somebody has agreed to an invitation.
pub(crate) async fn send_off(consents: &Consents, ticket: &str, authorizers: Authorizers<'_>) -> Page {
    let Some(invitation) = consents.invitation(ticket) else { return over() };
    let Some(authorizer) = authorizers(&invitation.server) else { return over() };
    match journey(consents, invitation, &authorizer).await {
        Ok(page) => page,
        Err(trouble) => {
            warn!(server = %authorizer.server, why = %trouble, "a user cannot be sent to the authorization server");
            failed(StatusCode::BAD_GATEWAY, "The authorization server cannot be used now. Try again later.")
        }
    }
}

async fn journey(consents: &Consents, invitation: Invitation, authorizer: &Authorizer) -> Result<Page, Trouble> {
    let found = authorizer.found().await?;
    let place = found.authorization_endpoint.as_deref().ok_or("it names no place to authorise at")?;
    // MCP 2025-11-25 §Authorization Code Protection: where S256 is not named, it may not be used without.
    if !found.has_pkce {
        return Err(Trouble::Away("it does not say that it speaks PKCE with S256"));
    }
    let redirect = place_for(consents, &invitation.server);
    // MCP 2025-11-25 §Client Registration Approaches: what was agreed upon, else by a document, else by registering.
    let client = match authorizer.configured().or_else(|| authorizer.documented(&found)) {
        Some(client) => client,
        None => registered(consents, &invitation.server, &found, &redirect, authorizer).await?,
    };
    // What comes back is redeemed with our secret: to whom that may not be shown, nobody is sent.
    authorizer.pin(&client, &found).await?;
    let (verifier, browser) = chance().zip(chance()).ok_or("the system gives no random numbers")?;
    let mut scopes = if invitation.scopes.is_empty() { found.scopes.join(" ") } else { invitation.scopes };
    // Without it, some give no token by which the user need not be asked again. What the operator has named stays as it is.
    if found.lasts_offline && authorizer.config.scopes.is_empty() && !scopes.split(' ').any(|scope| scope == OFFLINE) {
        scopes = format!("{scopes} {OFFLINE}").trim_start().to_owned();
    }
    let journey = Journey {
        server: invitation.server,
        resource: authorizer.resource(),
        principal: invitation.principal,
        issuer: found.issuer.clone(),
        browser: hashed(&browser),
        until: consents.now() + JOURNEY_MS,
        client_id: client.id,
        scopes,
        verifier,
    };
    let state = consents.seal_state(&journey.to_json()).ok_or("the system gives no random numbers")?;
    let mut query = Serializer::new(String::new());
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", &journey.client_id)
        .append_pair("redirect_uri", &redirect)
        .append_pair("state", &state)
        .append_pair("code_challenge", &hashed(&journey.verifier))
        .append_pair("code_challenge_method", "S256")
        .append_pair("resource", &found.resource);
    if !journey.scopes.is_empty() {
        query.append_pair("scope", &journey.scopes);
    }
    let separator = if place.contains('?') { '&' } else { '?' };
    Ok(Page::Go { to: format!("{place}{separator}{}", query.finish()), cookie: browser })
}

/// As whom we are known at an authorization server where that is not configured: as before, else by registering (RFC 7591).
async fn registered(
    consents: &Consents,
    server: &str,
    found: &Found,
    redirect: &str,
    authorizer: &Authorizer,
) -> Result<Client, Trouble> {
    let resource = authorizer.resource();
    let of = Of { resource: &resource, issuer: &found.issuer };
    if let Some(known) = consents.registered(server, of, redirect) {
        return Ok(known);
    }
    let place = found.registration_endpoint.as_deref().ok_or("it registers nobody; configure a `client_id`")?;
    let kept_secret = ["client_secret_basic", "client_secret_post"];
    let method = if found.methods.is_empty() || found.methods.iter().any(|method| method == "none") {
        "none"
    } else {
        kept_secret.into_iter().find(|method| found.methods.iter().any(|known| known == method)).unwrap_or("none")
    };
    let scope = authorizer.wanted(None, &found.scopes.join(" "));
    let scope = if scope.is_empty() { String::new() } else { format!(",\"scope\":{}", quote(&scope)) };
    let body = format!(r#"{{"client_name":"callgate",{}{scope}}}"#, metadata_of(&quote(redirect), method, redirect));
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let way = Way { tls: &authorizer.config.tls, within: found.within };
    let Answer { status, body: answer, .. } = fetch::post(place, way, headers, body.into()).await?;
    if !status.is_success() {
        return Err(Trouble::Away("it does not register the gateway; configure a `client_id`"));
    }
    let answer = Document::parse(answer, Strictness::Reply).map_err(|_| "its answer is no JSON")?;
    let id =
        text(answer.root(), "client_id").filter(|id| (1..=MAX_ID_BYTES).contains(&id.len())).ok_or("it gives no client id")?;
    let said = text(answer.root(), "token_endpoint_auth_method");
    let secret = text(answer.root(), "client_secret").filter(|secret| !secret.is_empty()).map(Secret::new);
    let proof = match (secret, said.as_deref()) {
        (None, _) | (_, Some("none")) => ClientProof::None,
        (Some(secret), Some("client_secret_post")) => ClientProof::Secret(secret, Some(SecretPlace::Post)),
        (Some(secret), Some("client_secret_basic")) => ClientProof::Secret(secret, Some(SecretPlace::Basic)),
        (Some(secret), _) => ClientProof::Secret(secret, None),
    };
    let client = Client { id, proof };
    consents.register(server, of, redirect, &client).await.map_err(|_| "what it has registered cannot be kept")?;
    info!(server, issuer = %found.issuer, "registered at the authorization server");
    Ok(client)
}

/// What a browser brings back: the query, and what it holds. It was led to the place of `server`.
pub(crate) async fn callback(
    consents: &Consents,
    server: &str,
    query: &str,
    cookie: Option<&str>,
    authorizers: Authorizers<'_>,
) -> Page {
    let Ok([state, code, error, issuer]) = parameters(query, ["state", "code", "error", "iss"]) else {
        return failed(StatusCode::BAD_REQUEST, "This answer is not one.");
    };
    let journey = state.and_then(|state| consents.open_state(&state)).and_then(|json| Journey::parse(&json));
    let Some(journey) = journey.filter(|journey| consents.now() < journey.until) else { return over() };
    if journey.server != server {
        return failed(StatusCode::BAD_REQUEST, "This is the answer for another server.");
    }
    if cookie.map(hashed).as_deref() != Some(&journey.browser) {
        return failed(StatusCode::BAD_REQUEST, "This was begun in another browser. Begin it where it is to end.");
    }
    // Where the server has moved meanwhile, this was for another.
    let authorizer = authorizers(&journey.server).filter(|authorizer| authorizer.resource() == journey.resource);
    let Some(authorizer) = authorizer else { return over() };
    match redeem(consents, &authorizer, &journey, code, error, issuer).await {
        Ok(()) => {
            info!(server = %journey.server, principal = %journey.principal, "a user has authorised the gateway at a server");
            Page::Done { server: journey.server, principal: journey.principal }
        }
        Err(Trouble::Refused(code)) => {
            info!(server = %journey.server, principal = %journey.principal, code, "a user has not authorised the gateway");
            failed(StatusCode::FORBIDDEN, &format!("The authorization server says no: {code}."))
        }
        Err(trouble) => {
            warn!(server = %journey.server, principal = %journey.principal, why = %trouble, "an authorisation came to nothing");
            failed(StatusCode::BAD_GATEWAY, "The authorization server's answer cannot be used. Begin anew.")
        }
    }
}

async fn redeem(
    consents: &Consents,
    authorizer: &Authorizer,
    journey: &Journey,
    code: Option<String>,
    error: Option<String>,
    issuer: Option<String>,
) -> Result<(), Trouble> {
    let found = authorizer.found().await?;
    // RFC 9207 §2.4: an answer of another server's is not taken to this one.
    let is_from = match &issuer {
        Some(issuer) => *issuer == journey.issuer,
        None => !found.says_issuer,
    };
    if !is_from || found.issuer != journey.issuer {
        return Err(Trouble::Away("the answer is of another issuer than was asked"));
    }
    if let Some(error) = error {
        let is_code = error.len() <= 64 && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        return Err(Trouble::Refused(if is_code { error } else { "an error".to_owned() }));
    }
    let code = code.ok_or("the answer holds no code")?;
    let redirect = place_for(consents, &journey.server);
    let of = Of { resource: &journey.resource, issuer: &journey.issuer };
    let is_same = |client: &Client| client.id == journey.client_id;
    let (client, registered) = match authorizer.configured() {
        Some(client) => (Some(client).filter(is_same), None),
        None => {
            let registered = consents.registered(&journey.server, of, &redirect);
            let client = authorizer.documented(&found).into_iter().chain(registered).find(is_same);
            (client.clone(), client)
        }
    };
    let client = client.ok_or("the gateway is known there as another client by now")?;
    let parameters = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", &redirect),
        ("code_verifier", &journey.verifier),
        ("resource", &found.resource),
    ];
    let key = authorizer.proof_key(&found)?;
    let granted: Granted = authorizer.ask(&client, &found, &parameters, key).await?;
    let kept = Kept::new(of, registered, granted, &journey.scopes, consents.now());
    consents.give(&journey.server, &journey.principal, &kept).await.map_err(|_| "what was authorised cannot be kept".into())
}

/// The values of these parameters of a query, each of which may stand once (RFC 6749 §3.1).
fn parameters<const N: usize>(query: &str, names: [&str; N]) -> Result<[Option<String>; N], ()> {
    let mut found = [const { None }; N];
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some(at) = names.iter().position(|known| *known == name) else { continue };
        if found[at].replace(value.into_owned()).is_some() {
            return Err(());
        }
    }
    Ok(found)
}

/// The one ticket of a query.
pub(crate) fn ticket(query: &str) -> Option<String> {
    let Ok([ticket]) = parameters(query, ["ticket"]) else { return None };
    ticket
}

/// 256 bits of chance, as RFC 7636 §4.1 has a verifier.
fn chance() -> Option<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

fn hashed(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}
