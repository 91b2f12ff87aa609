//! What users have authorised the gateway to do at servers in their names: sealed in the state, open here.
//!
//! All gateways on a state share it. Whoever refreshes a token claims it first, since the token by which that is done may be
//! good once only; the others wait for what comes of it. What somebody forgets, on whatever machine, is gone here as soon as
//! the state is looked at.

use super::client::{Client, ClientProof, Granted, SecretPlace, text};
use super::dpop::ProofKey;
use super::renewal;
use super::vault::Vault;
use crate::chance;
use crate::secret::Secret;
use crate::upstream::Consent;
use json::{Document, Strictness, Value, quote};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use store::{AuthorizationChange, Store, StoreError, StoredAuthorization};
use tokio::sync::watch;
use tracing::warn;

/// For how long an invitation is good, in milliseconds: a person reads it, logs in and answers.
pub(crate) const INVITATION_MS: i64 = 15 * 60 * 1_000;
/// Whoever refreshes a token may take so long, in milliseconds.
const CLAIM_MS: i64 = 15_000;
/// Under which name what the gateway itself does is recorded.
const OURSELVES: &str = "callgate";

/// The authorisations of all principals at all servers.
pub(crate) struct Consents {
    store: Store,
    vault: Vault,
    /// Where browsers find us: a scheme, a host and perhaps a port.
    origin: OnceLock<String>,
    known: RwLock<Arc<Known>>,
    changes: watch::Sender<i64>,
}

#[derive(Default)]
struct Known {
    version: i64,
    by_server: HashMap<String, HashMap<String, Arc<Entry>>>,
}

struct Entry {
    version: i64,
    sealed: String,
    /// Opened when somebody first needs it; nothing, where it cannot be.
    opened: OnceLock<Option<Arc<Kept>>>,
}

/// An authorisation.
pub(super) struct Kept {
    /// For which server, by its address: whatever else is called so later is not given it.
    pub resource: String,
    /// Who has given it.
    pub issuer: String,
    /// As whom we are known there, where that was agreed upon there and is not configured.
    pub registered: Option<Client>,
    pub access: Secret,
    pub refresh: Option<Secret>,
    /// To which key they are bound, if to any.
    pub key: Option<Arc<ProofKey>>,
    /// When it is renewed, and when it ends; milliseconds since the Unix epoch.
    pub renew: i64,
    pub expires: i64,
    pub scope: String,
}

/// By whom something is given, and for which server, by its address.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub resource: &'a str,
    pub issuer: &'a str,
}

/// One that was found.
pub(super) struct FoundKept {
    pub kept: Arc<Kept>,
    pub version: i64,
}

impl Kept {
    /// What was granted at `now`. Where nothing is said of how long it lasts, it is good until it is refused.
    pub fn new(of: Of<'_>, registered: Option<Client>, granted: Granted, scope: &str, now: i64) -> Kept {
        let (renew, expires) = granted.lasts.map_or((i64::MAX, i64::MAX), |lasts| renewal(now, lasts));
        let scope = granted.scope.unwrap_or_else(|| scope.to_owned());
        let (access, refresh, key) = (granted.access, granted.refresh, granted.key);
        let (resource, issuer) = (of.resource.to_owned(), of.issuer.to_owned());
        Kept { resource, issuer, registered, access, refresh, key, renew, expires, scope }
    }

    fn to_json(&self) -> String {
        let mut members = vec![
            format!("\"resource\":{}", quote(&self.resource)),
            format!("\"issuer\":{}", quote(&self.issuer)),
            format!("\"access\":{}", quote(self.access.expose())),
            format!("\"renew\":{},\"expires\":{}", self.renew, self.expires),
            format!("\"scope\":{}", quote(&self.scope)),
        ];
        members.extend(self.refresh.iter().map(|refresh| format!("\"refresh\":{}", quote(refresh.expose()))));
        members.extend(self.key.iter().map(|key| format!("\"key\":{}", quote(key.kept().expose()))));
        members.extend(self.registered.iter().map(|client| format!("\"client\":{}", client_json(client))));
        format!("{{{}}}", members.join(","))
    }

    fn parse(json: &str) -> Option<Kept> {
        let document = Document::parse(json.to_owned(), Strictness::Request).ok()?;
        let root = document.root();
        Some(Kept {
            resource: text(root, "resource")?,
            issuer: text(root, "issuer")?,
            registered: match root.get("client") {
                Some(client) => Some(client_of(client)?),
                None => None,
            },
            access: Secret::new(text(root, "access")?),
            refresh: text(root, "refresh").map(Secret::new),
            key: match text(root, "key") {
                Some(key) => Some(Arc::new(ProofKey::read(&key)?)),
                None => None,
            },
            renew: root.get("renew")?.raw().parse().ok()?,
            expires: root.get("expires")?.raw().parse().ok()?,
            scope: text(root, "scope")?,
        })
    }
}

fn client_json(client: &Client) -> String {
    let secret = match &client.proof {
        ClientProof::Secret(secret, place) => {
            let place = match place {
                Some(SecretPlace::Basic) => r#","place":"header""#,
                Some(SecretPlace::Post) => r#","place":"body""#,
                None => "",
            };
            format!(",\"secret\":{}{place}", quote(secret.expose()))
        }
        ClientProof::None | ClientProof::Key(_) | ClientProof::Assertion(_) => String::new(),
    };
    format!("{{\"id\":{}{secret}}}", quote(&client.id))
}

fn client_of(value: Value<'_>) -> Option<Client> {
    let place = match text(value, "place").as_deref() {
        Some("header") => Some(SecretPlace::Basic),
        Some("body") => Some(SecretPlace::Post),
        _ => None,
    };
    let secret = text(value, "secret").map(|secret| ClientProof::Secret(Secret::new(secret), place));
    Some(Client { id: text(value, "id")?, proof: secret.unwrap_or(ClientProof::None) })
}

impl Consents {
    /// Those that `store` keeps, to which `key` is the key. Browsers find us at `origin`, where that is known already.
    pub fn new(store: Store, key: &Secret, origin: Option<String>) -> Arc<Consents> {
        let consents = Consents {
            store,
            vault: Vault::new(key),
            origin: origin.map(OnceLock::from).unwrap_or_default(),
            known: RwLock::default(),
            changes: watch::Sender::new(0),
        };
        match consents.store.reader().and_then(|reader| reader.authorizations()) {
            Ok((version, all)) => consents.take(version, all),
            // They come once it can be read.
            Err(error) => warn!(%error, "what users have authorised cannot be read"),
        }
        Arc::new(consents)
    }

    /// Browsers find us here, where nothing else was configured.
    pub fn set_origin(&self, origin: String) {
        let _ = self.origin.set(origin);
    }

    /// Where browsers find us.
    pub fn origin(&self) -> Option<&str> {
        self.origin.get().map(String::as_str)
    }

    /// The time of the state, in milliseconds since the Unix epoch.
    pub fn now(&self) -> i64 {
        self.store.clock().now()
    }

    /// Which version of them is known here.
    pub fn version(&self) -> i64 {
        self.known().version
    }

    /// Takes up what the state holds now.
    pub fn take(&self, version: i64, all: Vec<StoredAuthorization>) {
        let before = self.known();
        let mut by_server: HashMap<String, HashMap<String, Arc<Entry>>> = HashMap::new();
        for StoredAuthorization { server, principal, sealed, version, .. } in all {
            let same = before.by_server.get(&server).and_then(|of_server| of_server.get(&principal));
            let entry = match same.filter(|entry| entry.version == version) {
                Some(same) => same.clone(),
                None => Arc::new(Entry { version, sealed, opened: OnceLock::new() }),
            };
            by_server.entry(server).or_default().insert(principal, entry);
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Known { version, by_server });
        self.changes.send_replace(version);
    }

    fn known(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until they have changed.
    pub async fn changed(&self, since: i64) {
        let _ = self.changes.subscribe().wait_for(|version| *version != since).await;
    }

    /// What a principal has authorised at a server, while it is at the address `resource`.
    pub(super) fn find(&self, server: &str, resource: &str, principal: &str) -> Option<FoundKept> {
        let known = self.known();
        let entry = known.by_server.get(server)?.get(principal)?;
        let opened = entry.opened.get_or_init(|| {
            let opened = self.vault.open(&tokens_of(server, principal), &entry.sealed).and_then(|json| Kept::parse(&json));
            if opened.is_none() {
                warn!(
                    server,
                    principal,
                    "what was authorised was sealed under another key, or in another form; it must be authorised again"
                );
            }
            opened.map(Arc::new)
        });
        // A name may come to mean another host, which is not whom the user has meant.
        let kept = opened.clone().filter(|kept| kept.resource == resource)?;
        Some(FoundKept { kept, version: entry.version })
    }

    /// Keeps what a principal has authorised.
    pub(super) async fn give(&self, server: &str, principal: &str, kept: &Kept) -> Result<(), StoreError> {
        let sealed = self.sealed(&tokens_of(server, principal), &kept.to_json())?;
        self.change(server, principal, AuthorizationChange::Give(sealed), principal).await.map(drop)
    }

    /// Says that we refresh this version now; false where somebody else does, or it is gone.
    pub(super) async fn claim(&self, server: &str, principal: &str, version: i64) -> Result<bool, StoreError> {
        let claim = AuthorizationChange::Claim { version, for_ms: CLAIM_MS };
        self.store.change_authorization(server, principal, claim, OURSELVES).await
    }

    /// Keeps what has taken the place of this version; false where that is gone by now.
    pub(super) async fn refresh(&self, server: &str, principal: &str, version: i64, kept: &Kept) -> Result<bool, StoreError> {
        let sealed = self.sealed(&tokens_of(server, principal), &kept.to_json())?;
        self.change(server, principal, AuthorizationChange::Refresh { version, sealed }, OURSELVES).await
    }

    /// Forgets this version, which is good for nothing any more.
    pub(super) async fn forget(&self, server: &str, principal: &str, version: i64) -> Result<bool, StoreError> {
        self.change(server, principal, AuthorizationChange::Forget(Some(version)), OURSELVES).await
    }

    /// As whom we are registered at the authorization server of `server`, for browsers that come back to `redirect`.
    pub(super) fn registered(&self, server: &str, of: Of<'_>, redirect: &str) -> Option<Client> {
        let known = self.known();
        let sealed = &known.by_server.get(server)?.get("")?.sealed;
        let document = Document::parse(self.vault.open(&registration_at(server), sealed)?, Strictness::Request).ok()?;
        let root = document.root();
        let is_of = text(root, "resource")? == of.resource && text(root, "issuer")? == of.issuer;
        let is_this = is_of && text(root, "redirect")? == redirect;
        root.get("client").filter(|_| is_this).and_then(client_of)
    }

    /// Keeps as whom we are registered.
    pub(super) async fn register(&self, server: &str, of: Of<'_>, redirect: &str, client: &Client) -> Result<(), StoreError> {
        let (resource, issuer, redirect) = (quote(of.resource), quote(of.issuer), quote(redirect));
        let client = client_json(client);
        let json = format!(r#"{{"resource":{resource},"issuer":{issuer},"redirect":{redirect},"client":{client}}}"#);
        let sealed = self.sealed(&registration_at(server), &json)?;
        self.change(server, "", AuthorizationChange::Give(sealed), OURSELVES).await.map(drop)
    }

    /// What is not sealed is not kept, and whoever wanted it kept must know.
    fn sealed(&self, purpose: &str, json: &str) -> Result<String, StoreError> {
        let problem = || "the system gives no random numbers".to_owned();
        let failed = || StoreError::Unavailable { place: "authorizations".to_owned(), problem: problem(), source: None };
        self.vault.seal(purpose, json).ok_or_else(failed)
    }

    async fn change(&self, server: &str, principal: &str, change: AuthorizationChange, by: &str) -> Result<bool, StoreError> {
        let done = self.store.change_authorization(server, principal, change, by).await?;
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || store.reader()?.authorizations());
        if let Ok(Ok((version, all))) = read.await {
            self.take(version, all);
        }
        Ok(done)
    }

    /// Where a principal authorises the gateway at a server, by these scopes; `None` while nobody knows where browsers find us.
    pub fn invite(&self, server: &str, principal: &str, scopes: &str) -> Option<Consent> {
        let invitation = Invitation {
            server: server.to_owned(),
            principal: principal.to_owned(),
            scopes: scopes.to_owned(),
            until: self.now() + INVITATION_MS,
        };
        let url = format!("{}{BEGIN}?ticket={}", self.origin()?, self.vault.seal(TICKET, &invitation.to_json())?);
        Some(Consent { id: chance::token()?, url })
    }

    /// The invitation that a ticket is, where it is one and not over.
    pub(super) fn invitation(&self, ticket: &str) -> Option<Invitation> {
        Invitation::parse(&self.vault.open(TICKET, ticket)?).filter(|invitation| self.now() < invitation.until)
    }

    /// Seals what a browser carries to the authorization server and back.
    pub(super) fn seal_state(&self, json: &str) -> Option<String> {
        self.vault.seal(STATE, json)
    }

    /// What a browser has brought back.
    pub(super) fn open_state(&self, state: &str) -> Option<String> {
        self.vault.open(STATE, state)
    }
}

/// What somebody is invited to.
pub(super) struct Invitation {
    pub server: String,
    pub principal: String,
    /// Separated by spaces; empty: what the server asks for.
    pub scopes: String,
    /// Until when, in milliseconds since the Unix epoch.
    pub until: i64,
}

impl Invitation {
    fn to_json(&self) -> String {
        let (server, principal, scopes) = (quote(&self.server), quote(&self.principal), quote(&self.scopes));
        format!(r#"{{"server":{server},"principal":{principal},"scopes":{scopes},"until":{}}}"#, self.until)
    }

    fn parse(json: &str) -> Option<Invitation> {
        let document = Document::parse(json.to_owned(), Strictness::Request).ok()?;
        let root = document.root();
        Some(Invitation {
            server: text(root, "server")?,
            principal: text(root, "principal")?,
            scopes: text(root, "scopes")?,
            until: root.get("until")?.raw().parse().ok()?,
        })
    }
}

/// Where invitations lead.
pub(crate) const BEGIN: &str = "/authorize/begin";

const TICKET: &str = "ticket";
const STATE: &str = "state";

fn tokens_of(server: &str, principal: &str) -> String {
    format!("tokens\n{server}\n{principal}")
}

fn registration_at(server: &str) -> String {
    format!("registration\n{server}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Options, StateUrl};

    const AT: &str = "https://web/mcp";

    fn kept() -> Kept {
        Kept {
            resource: AT.into(),
            issuer: "https://id".into(),
            registered: Some(Client {
                id: "us".into(),
                proof: ClientProof::Secret(Secret::new("quiet"), Some(SecretPlace::Post)),
            }),
            access: Secret::new("an-access-token"),
            refresh: Some(Secret::new("a-refresh-token")),
            key: ProofKey::new().map(Arc::new),
            renew: 6,
            expires: 7,
            scope: "a b".into(),
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_read_by_who_has_the_key_alone() {
        let store = Store::open(StateUrl::Memory, Options::default()).unwrap();
        let consents = |key: &str| Consents::new(store.clone(), &Secret::new(key), Some("https://us".into()));
        consents("one key").give("web", "ann", &kept()).await.unwrap();
        let found = consents("one key").find("web", AT, "ann").unwrap().kept;
        assert_eq!((found.access.expose(), found.refresh.as_ref().unwrap().expose()), ("an-access-token", "a-refresh-token"));
        assert!(found.registered == kept().registered && found.scope == "a b" && found.expires == 7);
        assert!(found.key.is_some(), "what they are bound to is kept with them");
        assert!(consents("another key").find("web", AT, "ann").is_none());
        assert!(consents("one key").find("web", AT, "bob").is_none() && consents("one key").find("other", AT, "ann").is_none());
        // Nor is it for whatever else is called so.
        assert!(consents("one key").find("web", "https://elsewhere/mcp", "ann").is_none());
        let (_, all) = store.reader().unwrap().authorizations().unwrap();
        assert!(!all[0].sealed.contains("token"), "nothing can be read in the state");
        // A row that is moved to another principal does not open there.
        let moved = StoredAuthorization { principal: "bob".into(), ..all[0].clone() };
        let consents = consents("one key");
        consents.take(9, vec![moved]);
        assert!(consents.find("web", AT, "bob").is_none());
    }

    #[tokio::test]
    async fn what_was_forgotten_meanwhile_is_not_kept_again() {
        let store = Store::open(StateUrl::Memory, Options::default()).unwrap();
        let consents = Consents::new(store, &Secret::new("key"), None);
        consents.give("web", "ann", &kept()).await.unwrap();
        let version = consents.find("web", AT, "ann").unwrap().version;
        assert!(consents.claim("web", "ann", version).await.unwrap());
        assert!(consents.forget("web", "ann", version).await.unwrap());
        assert!(!consents.refresh("web", "ann", version, &kept()).await.unwrap());
        assert!(consents.find("web", AT, "ann").is_none());
    }

    #[tokio::test]
    async fn a_registration_is_for_one_address_of_a_server_one_issuer_and_one_place_to_come_back_to() {
        let store = Store::open(StateUrl::Memory, Options::default()).unwrap();
        let consents = Consents::new(store, &Secret::new("key"), None);
        let (of, client) = (Of { resource: AT, issuer: "https://id" }, kept().registered.unwrap());
        consents.register("web", of, "https://us/back", &client).await.unwrap();
        assert!(consents.registered("web", of, "https://us/back") == Some(client));
        assert!(consents.registered("web", of, "https://us/elsewhere").is_none());
        assert!(consents.registered("web", Of { resource: "https://elsewhere/mcp", ..of }, "https://us/back").is_none());
        assert!(consents.registered("web", Of { issuer: "https://other", ..of }, "https://us/back").is_none());
    }

    #[tokio::test]
    async fn an_invitation_is_for_one_principal_and_ends() {
        let clock = store::Clock::simulated(1_000);
        let store = Store::open(StateUrl::Memory, Options { clock: clock.clone(), ..Options::default() }).unwrap();
        let consents = Consents::new(store, &Secret::new("key"), Some("https://us".into()));
        let consent = consents.invite("web", "ann", "a").unwrap();
        let ticket = consent.url.strip_prefix("https://us/authorize/begin?ticket=").unwrap().to_owned();
        let invitation = consents.invitation(&ticket).unwrap();
        assert_eq!((invitation.server.as_str(), invitation.principal.as_str()), ("web", "ann"));
        assert!(consents.open_state(&ticket).is_none(), "a ticket is no state");
        clock.advance(INVITATION_MS);
        assert!(consents.invitation(&ticket).is_none());
    }
}
