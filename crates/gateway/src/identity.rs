//! Identity: callers who show an access token of an authorization server instead of a grant's own.
//!
//! The server's keys are found by its discovery document and kept; a token that names another key makes them be asked for
//! again, at most once in a few seconds whoever asks. A token that is believed is matched with grants by its claims; what it may
//! do is the grant's business from there on.

mod jwt;

pub use jwt::Algorithm;
pub(crate) use jwt::{Claims, unverified_claims};

use crate::fetch::{self, PATIENCE, Way};
use crate::tls::UpstreamTls;
use jwt::{Demands, Key, Refused, Unverified, read_keys};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use store::Store;
use tracing::warn;

/// Keys older than this are asked for again: one that was withdrawn must not be believed for long.
const FRESH: Duration = Duration::from_secs(10 * 60);
/// Where they cannot be had, older ones are believed for so long.
const USABLE: Duration = Duration::from_secs(60 * 60);
/// Keys are not asked for more often than this, whatever tokens name.
const PAUSE: Duration = Duration::from_secs(5);

/// Whose tokens are believed, and which grants they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityConfig {
    /// The authorization server, as its tokens name it.
    pub issuer: String,
    /// What tokens for us name as their audience: one of these.
    pub audience: Vec<String>,
    /// Where its keys are; `None`: where its discovery document says.
    pub jwks: Option<String>,
    /// How it is told from an impostor.
    pub tls: UpstreamTls,
    /// How tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    /// What `typ` of a token may be, in lower case.
    pub types: Vec<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// Whether a token may be used once only.
    pub once: bool,
    /// Which claims lead to which grant; the first that fits.
    pub grants: Vec<ClaimMapping>,
}

/// Claims, and the grant that they lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimMapping {
    /// The grant.
    pub grant: String,
    /// What claims must say, all of it.
    pub claims: BTreeMap<String, Vec<String>>,
    /// The claim that says who the principal is; `None`: the grant does.
    pub principal: Option<String>,
}

/// Knows callers by the tokens of one authorization server.
pub(crate) struct Identity {
    config: IdentityConfig,
    demands: Demands,
    keys: RwLock<Known>,
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: Arc<Vec<Key>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

/// Why nobody was known by a token.
#[derive(Debug)]
pub(crate) enum Unknown {
    /// There is something wrong with it.
    Refused(&'static str),
    /// The authorization server's keys cannot be had, or whether the token was used before cannot be found out.
    Unavailable,
}

impl From<Refused> for Unknown {
    fn from(why: Refused) -> Unknown {
        Unknown::Refused(why)
    }
}

impl Identity {
    pub fn new(config: &IdentityConfig) -> Identity {
        let demands = Demands {
            issuer: config.issuer.clone(),
            audiences: config.audience.clone(),
            algorithms: config.algorithms.clone(),
            types: config.types.clone(),
            leeway: i64::try_from(config.leeway.as_secs()).unwrap_or(i64::MAX),
            with_id: config.once,
        };
        Identity { config: config.clone(), demands, keys: RwLock::default(), asking: tokio::sync::Mutex::default() }
    }

    /// What it is made of.
    pub fn config(&self) -> &IdentityConfig {
        &self.config
    }

    /// The claims of a token that is believed at `now`, in milliseconds since the Unix epoch. One that may be used once is used up
    /// in `store`, for all gateways on it.
    pub async fn claims(&self, token: &str, now: i64, store: &Store) -> Result<Claims, Unknown> {
        let unverified = Unverified::read(token)?;
        let keys = self.keys(&unverified).await?;
        let claims = unverified.verify(&keys, &self.demands, now.div_euclid(1_000))?;
        if self.config.once {
            self.use_up(&claims, store).await?;
        }
        Ok(claims)
    }

    /// When a token of these claims is not good any more, in milliseconds since the Unix epoch.
    pub fn end_of(&self, claims: &Claims) -> Option<i64> {
        claims.time("exp").map(|end| end.saturating_add(self.demands.leeway).saturating_mul(1_000))
    }

    /// The grant that claims are mapped to, and the principal where a claim says who that is: the first that fits.
    pub fn grant_of(&self, claims: &Claims) -> Option<(&str, Option<String>)> {
        let fits = |mapping: &&ClaimMapping| {
            mapping.claims.iter().all(|(name, wanted)| {
                let said = claims.texts(name);
                wanted.iter().all(|wanted| said.contains(wanted))
            })
        };
        let mapping = self.config.grants.iter().find(fits)?;
        match &mapping.principal {
            // Whoever is not named is not let in.
            Some(claim) => Some((&mapping.grant, Some(claims.text(claim).filter(|principal| !principal.is_empty())?))),
            None => Some((&mapping.grant, None)),
        }
    }

    /// The scopes by which one of these grants could be reached.
    pub fn scopes_for(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let wanted = self.config.grants.iter().filter(|mapping| is_wanted(&mapping.grant));
        let mut scopes: Vec<String> = wanted.filter_map(|mapping| mapping.claims.get("scope")).flatten().cloned().collect();
        scopes.sort();
        scopes.dedup();
        scopes
    }

    async fn use_up(&self, claims: &Claims, store: &Store) -> Result<(), Unknown> {
        let (Some(id), Some(issued), Some(end)) = (claims.text("jti"), claims.time("iat"), self.end_of(claims)) else {
            return Err(Unknown::Refused("the token has no id, or does not say when it was made"));
        };
        let since = issued.saturating_sub(self.demands.leeway).saturating_mul(1_000);
        match store.use_up(&format!("{}\n{id}", self.config.issuer), since, end).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Unknown::Refused("the token was used before")),
            Err(error) => {
                warn!(%error, "whether a token was used before cannot be found out");
                Err(Unknown::Unavailable)
            }
        }
    }

    /// The keys of the authorization server; asked for where there are none, where they are old, and where the token names
    /// another.
    async fn keys(&self, token: &Unverified) -> Result<Arc<Vec<Key>>, Unknown> {
        let usable = || {
            let known = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            let age = known.fetched.map(|fetched| fetched.elapsed());
            let rests = known.tried.is_some_and(|tried| tried.elapsed() < PAUSE);
            let is_fresh = age.is_some_and(|age| age < FRESH) && token.knows(&known.keys);
            (is_fresh || rests).then(|| match age {
                Some(age) if age < USABLE => Ok(known.keys.clone()),
                _ => Err(Unknown::Unavailable),
            })
        };
        if let Some(known) = usable() {
            return known;
        }
        let _one_at_a_time = self.asking.lock().await;
        if let Some(known) = usable() {
            return known;
        }
        let fetched = tokio::time::timeout(PATIENCE, self.fetch()).await.unwrap_or(Err("it does not answer"));
        let mut known = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        known.tried = Some(Instant::now());
        match fetched {
            Ok(keys) => (known.keys, known.fetched) = (Arc::new(keys), Some(Instant::now())),
            Err(why) => warn!(issuer = %self.config.issuer, why, "the keys of the authorization server cannot be had"),
        }
        match known.fetched {
            Some(fetched) if fetched.elapsed() < USABLE => Ok(known.keys.clone()),
            _ => Err(Unknown::Unavailable),
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, &'static str> {
        let place = match &self.config.jwks {
            Some(place) => place.clone(),
            None => self.discover().await?,
        };
        read_keys(&fetch::get(&place, Way::anywhere(&self.config.tls)).await?).ok_or("its key set is none")
    }

    /// Where the keys are, by the discovery document.
    async fn discover(&self) -> Result<String, &'static str> {
        let metadata = fetch::metadata(&self.config.issuer, Way::anywhere(&self.config.tls), "jwks_uri").await?;
        let place = metadata.root().get("jwks_uri").and_then(|place| place.as_str());
        place.map(|place| place.into_owned()).ok_or("its discovery document names no keys")
    }
}
