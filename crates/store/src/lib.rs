//! Everything that is remembered: counters, audit records and their chain, approvals.
//!
//! The one idea: what a call takes and the record that says so are **one commit**, made before the call is forwarded.
//! [`Store::admit`] takes all charges or none, spends or opens an approval, and records the verdict, whatever it is;
//! [`Store::settle`] records how the call ended. When state cannot be written, nothing is admitted: every error is a denial.
//!
//! State is one SQLite file that any number of processes share exactly, or memory. Beside the file lies a journal: most
//! calls append to it where they are and are done, and the database follows. One thread uses the database; readers
//! ([`Reader`]) have connections of their own, and see both.
//!
//! This crate knows nothing of rules, MCP or HTTP. Time comes from the store's own [`Clock`].

pub mod arguments;

mod address;
mod admission;
mod admit;
mod approvals;
mod authorizations;
mod book;
mod chain;
mod clock;
mod counted;
mod counters;
mod departed;
mod documents;
mod draft;
mod entry;
mod error;
mod follow;
mod front;
mod grants;
mod instances;
mod issued;
mod job;
mod journal;
mod key;
mod lease;
mod line;
mod lookups;
mod lost;
mod moment;
mod once;
mod place;
mod reader;
mod redis;
mod retention;
mod server;
mod session;
mod shared;
mod sql;
mod sqlite;
mod status;
mod tables;
mod tally;
mod tls;
mod trouble;
mod url;
mod value;
mod verify;
mod worker;
mod writer;

pub use address::ServerAddress;
pub use admission::{Admission, Admitted, ApprovalRequest, Once, Reservation, Subject, Verdict};
pub use approvals::{Answer, Approval, ApprovalState, ShownArguments, Vote};
pub use arguments::ArgumentsMode;
pub use authorizations::{AuthorizationChange, StoredAuthorization};
pub use clock::{Clock, ServerClock, rfc3339};
pub use documents::{Condition, Document, DocumentKind, Expected};
pub use draft::{Changed, Draft, Phase, Recorded, Reply, Row};
pub use entry::{Entered, Entry};
pub use error::StoreError;
pub use grants::{GrantChange, Kept, StoredGrant};
pub use instances::{Instance, Running};
pub use issued::Issued;
pub use key::DigestKey;
pub use line::OneLine;
pub use reader::{Filter, Position, Reader, Rows};
pub use redis::RedisAddress;
pub use retention::Retention;
pub use status::{RuleCount, ServerStatus, Status};
pub use url::StateUrl;
pub use verify::{Broken, Verification};

use error::Fault;
use job::{Plain, Work};
use lease::Leases;
use lookups::Lookups;
use place::Patience;
use redis::Redis;
use shared::Shared;
use sqlite::{BUSY, Database};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use writer::Writer;

/// How state is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where time comes from.
    pub clock: Clock,
    /// What a record survives.
    pub durability: Durability,
    /// When audit records are removed; never, without it.
    pub retention: Option<Retention>,
    /// What `status` says of this process; without it, nothing.
    pub instance: Option<Instance>,
    /// How long the database may stay behind the journal. The end of the chain is signed when it follows.
    pub follow_after: Duration,
    /// The directory of the keys that this gateway signs its chains with, where state lies on a server; without it
    /// `callgate/keys` in the user's data directory.
    pub keys: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            clock: Clock::default(),
            durability: Durability::default(),
            retention: None,
            instance: None,
            follow_after: Duration::from_millis(50),
            keys: None,
        }
    }
}

/// What a record survives once a call has been forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of this process, by `kill -9` too.
    #[default]
    Process,
    /// A power failure as well: every commit is flushed to the disk first.
    Power,
}

/// Whether state can be used.
#[derive(Clone, Debug)]
pub struct Health {
    /// Why not; `None` when the last commit went well.
    pub trouble: Option<StoreError>,
}

/// The state of a gateway. Cheap to clone; all clones share one writer.
///
/// When the last clone is dropped the writer signs off by itself; [`Store::close`] waits for that.
#[derive(Clone)]
pub struct Store {
    writer: Arc<Writer>,
    url: StateUrl,
    clock: Clock,
    /// Where this gateway's keys lie, of state on a server.
    keys: PathBuf,
    /// Where counters lie, when not with the rest.
    counters: Option<Arc<Redis>>,
    /// What this gateway has taken of limits ahead of calls, where counters lie on a server.
    leases: Option<Arc<Leases>>,
    lookups: Arc<Lookups>,
}

impl Store {
    /// Opens state, and makes what is missing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be used as it is.
    pub fn open(url: StateUrl, options: Options) -> Result<Store, StoreError> {
        match &url {
            StateUrl::Postgres(address) => return Store::on_server(address.clone(), url, options, true),
            StateUrl::Redis { counters, records } => {
                let (address, clock) = (counters.clone(), options.clock.clone());
                return Store::open((**records).clone(), options)?.counting_in(address, url, &clock, true);
            }
            StateUrl::Sqlite(_) | StateUrl::Memory => {}
        }
        let patience = Patience::new(BUSY);
        let database = Database::open(&url, options.durability, options.clock.now(), &patience);
        let database = database.map_err(|fault| fault.at(&url.to_string()))?;
        Store::start(url, options, Some(database), patience)
    }

    /// Opens state that may not be usable yet. Until it is, calls get [`StoreError::Unavailable`]; it is tried again twice a
    /// second.
    ///
    /// # Errors
    /// Only when no thread can be started.
    pub fn open_lazy(url: StateUrl, options: Options) -> Result<Store, StoreError> {
        match &url {
            StateUrl::Postgres(address) => return Store::on_server(address.clone(), url, options, false),
            StateUrl::Redis { counters, records } => {
                let (address, clock) = (counters.clone(), options.clock.clone());
                return Store::open_lazy((**records).clone(), options)?.counting_in(address, url, &clock, false);
            }
            StateUrl::Sqlite(_) | StateUrl::Memory => {}
        }
        Store::start(url, options, None, Patience::new(BUSY))
    }

    fn start(url: StateUrl, options: Options, database: Option<Database>, patience: Patience) -> Result<Store, StoreError> {
        let clock = options.clock.clone();
        let writer = Arc::new(Writer::start(url.clone(), options, database, patience)?);
        Ok(Store { writer, url, clock, keys: PathBuf::new(), counters: None, leases: None, lookups: Lookups::new() })
    }

    /// The same state with its counters elsewhere.
    fn counting_in(self, address: RedisAddress, url: StateUrl, clock: &Clock, now: bool) -> Result<Store, StoreError> {
        let redis = Redis::start(address, clock, Box::new(counted::Epoch(self.writer.clone())), now)?;
        Ok(Store { url, clock: redis.clock.clone(), counters: Some(Arc::new(redis)), leases: Some(Arc::default()), ..self })
    }

    fn on_server(address: ServerAddress, url: StateUrl, options: Options, now: bool) -> Result<Store, StoreError> {
        let keys = options.keys.clone().map_or_else(StateUrl::default_keys, Ok)?;
        let server_clock = Arc::new(ServerClock::new());
        let clock = if options.clock.is_simulated() { options.clock.clone() } else { Clock::Server(server_clock.clone()) };
        let writer = Writer::start_on_server(address, keys.clone(), options, server_clock, now)?;
        let (leases, lookups) = (Some(Arc::default()), Lookups::new());
        Ok(Store { writer: Arc::new(writer), url, clock, keys, counters: None, leases, lookups })
    }

    /// Admits a call, or does not, and records which.
    ///
    /// In one commit: an identical recent call refuses it; an approval that it needs must be there and is spent, or is
    /// opened; all charges are taken or none; the record of the verdict is appended. A future that is dropped early leaves
    /// nothing half-done: either all of it happens or nothing.
    ///
    /// # Errors
    /// Nothing was taken and nothing is on record then, as far as is known: the call must not be forwarded.
    pub async fn admit(&self, admission: Admission) -> Result<Admitted, StoreError> {
        match &self.leases {
            Some(leases) if admission.charges.iter().any(|charge| charge.lease.is_some()) => {
                Box::pin(lease::admit(self, leases, admission)).await
            }
            _ => self.admit_counted(admission).await,
        }
    }

    /// Admits a call whose charges are all taken where counters lie.
    async fn admit_counted(&self, admission: Admission) -> Result<Admitted, StoreError> {
        match &self.counters {
            None => self.admit_here(admission).await,
            Some(redis) => Box::pin(counted::admit(&self.writer, redis, admission)).await,
        }
    }

    // The work is made here, and not in the future: that would have room for all of it, and is moved for every call.
    fn admit_here(&self, admission: Admission) -> impl Future<Output = Result<Admitted, StoreError>> + Send {
        let now = self.clock.now();
        let wants = |charges: &admit::Keyed| {
            charges.iter().map(|(key, charge)| (key.clone(), charge.counter.window.counts_from(now))).collect()
        };
        let work = if admit::is_plain(&admission) {
            let Admission { id, subject, charges, record, .. } = admission;
            let charges = admit::keyed(charges, &subject);
            let wants = wants(&charges);
            let work =
                Box::new(move |book: &mut dyn book::Book| admit::admit_plain(book, id, admit::Charged::Here(charges), record));
            Work::Plain(Plain { wants, work })
        } else {
            let wants = wants(&admit::keyed(admission.charges.clone(), &admission.subject));
            Work::Whole(wants, Box::new(|ledger| admit::admit(ledger, admission, None)))
        };
        self.writer.perform(true, work)
    }

    /// Records something that takes nothing: a refused message, an administrator's act, the end of a call.
    ///
    /// # Errors
    /// It is not on record then; after a time-out it may be, later.
    pub fn record(&self, draft: impl Into<Box<Draft>>) -> impl Future<Output = Result<Recorded, StoreError>> + Send {
        let draft = draft.into();
        let work = Box::new(move |book: &mut dyn book::Book| book.append(&draft));
        self.writer.perform(false, Work::Plain(Plain { wants: Vec::new(), work }))
    }

    /// Records how an admitted call ended. `refund` gives back what it has taken: charges, the approval, its place among
    /// recent calls; only for a call that is known never to have been sent.
    ///
    /// # Errors
    /// It is not on record then, and nothing is given back; after a time-out it may be, later.
    pub async fn settle(
        &self,
        reservation: Reservation,
        draft: impl Into<Box<Draft>>,
        refund: bool,
    ) -> Result<Recorded, StoreError> {
        let draft = draft.into();
        match &self.counters {
            None => self.settle_here(reservation, draft, refund).await,
            Some(redis) => Box::pin(self.settle_there(redis, reservation, draft, refund)).await,
        }
    }

    /// The same where counters are elsewhere.
    async fn settle_there(
        &self,
        redis: &Redis,
        mut reservation: Reservation,
        draft: Box<Draft>,
        refund: bool,
    ) -> Result<Recorded, StoreError> {
        let taken = std::mem::take(&mut reservation.taken);
        let recorded = self.settle_here(reservation, draft, refund).await?;
        if refund && let Err(error) = redis.give_back(&taken).await {
            tracing::warn!(%error, "a call that was not sent could not be refunded, and stays spent");
        }
        Ok(recorded)
    }

    fn settle_here(
        &self,
        reservation: Reservation,
        draft: Box<Draft>,
        refund: bool,
    ) -> impl Future<Output = Result<Recorded, StoreError>> + Send {
        let wants: Vec<_> = match refund {
            true => reservation.taken.iter().map(|taken| (taken.key.clone(), taken.bucket)).collect(),
            false => Vec::new(),
        };
        let work = if refund && !reservation.is_plain() {
            Work::Whole(wants, Box::new(move |ledger| admit::settle(ledger, &reservation, draft, refund)))
        } else {
            let work = Box::new(move |book: &mut dyn book::Book| admit::settle_plain(book, &reservation, draft, refund));
            Work::Plain(Plain { wants, work })
        };
        self.writer.perform(false, work)
    }

    /// Makes all these entries in one commit, here and now, and gives what became of each, in their order. Nobody is waited for:
    /// where that would be needed, nothing is done and they are given back, for [`Store::enter_alone`].
    ///
    /// # Errors
    /// The entries, as they were.
    pub fn enter(&self, entries: Vec<Entry>) -> Result<Vec<Result<Entered, StoreError>>, Vec<Entry>> {
        if self.counters.is_some() || self.leases.is_some() {
            return Err(entries);
        }
        self.writer.enter(entries)
    }

    /// Makes one entry, and waits for whatever it takes.
    ///
    /// # Errors
    /// As those of [`Store::admit`], [`Store::record`] and [`Store::settle`].
    pub async fn enter_alone(&self, entry: Entry) -> Result<Entered, StoreError> {
        match entry {
            Entry::Admit(admission) => self.admit(*admission).await.map(|admitted| Entered::Admitted(Box::new(admitted))),
            Entry::Record(draft) => self.record(draft).await.map(Entered::Recorded),
            Entry::Settle(reservation, draft) => self.settle(reservation, draft, false).await.map(Entered::Recorded),
        }
    }

    /// Carries out a person's answer to an approval, and records it. `by` says who answered.
    ///
    /// # Errors
    /// [`StoreError::NoSuchApproval`], or [`StoreError::ApprovalClosed`] when it was decided, spent, or its time ran out.
    pub async fn answer(&self, id: &str, answer: Answer, by: &str) -> Result<Approval, StoreError> {
        let (id, by) = (id.to_owned(), by.to_owned());
        self.writer.submit(false, Vec::new(), move |ledger| approvals::answer(ledger, &id, answer, &by)).await
    }

    /// Makes, changes or revokes a grant, and records it. `by` says who wanted it.
    ///
    /// # Errors
    /// [`StoreError::Grant`] when it exists already, is revoked, or is none of those that are kept here;
    /// [`StoreError::OtherVersion`] and [`StoreError::Moved`] when the condition does not hold.
    pub async fn change_grant(
        &self,
        name: &str,
        change: GrantChange,
        condition: Condition,
        by: &str,
    ) -> Result<StoredGrant, StoreError> {
        let (name, by) = (name.to_owned(), by.to_owned());
        self.writer.submit(false, Vec::new(), move |ledger| grants::change(ledger, &name, &change, condition, &by)).await
    }

    /// Puts another version of a server or policy in the place of the one there is, or removes it (no `text`), and records it.
    /// Grants are changed by [`Store::change_grant`]. `by` says who wanted it.
    ///
    /// # Errors
    /// [`StoreError::NoSuchDocument`] when there is nothing to remove; [`StoreError::OtherVersion`] and [`StoreError::Moved`]
    /// when the condition does not hold.
    pub async fn change_document(
        &self,
        kind: DocumentKind,
        name: &str,
        text: Option<String>,
        condition: Condition,
        by: &str,
    ) -> Result<Document, StoreError> {
        let (name, by) = (name.to_owned(), by.to_owned());
        let work = move |ledger: &mut chain::Ledger<'_>| documents::change(ledger, kind, &name, text.as_deref(), condition, &by);
        self.writer.submit(false, Vec::new(), work).await
    }

    /// Keeps, refreshes, claims or forgets what a principal has authorised at a server; says whether there was anything to
    /// change. What is given and forgotten is recorded; `by` says who wanted it.
    ///
    /// # Errors
    /// When state cannot be used.
    pub async fn change_authorization(
        &self,
        server: &str,
        principal: &str,
        change: AuthorizationChange,
        by: &str,
    ) -> Result<bool, StoreError> {
        let (server, principal, by) = (server.to_owned(), principal.to_owned(), by.to_owned());
        let work = move |ledger: &mut chain::Ledger<'_>| authorizations::change(ledger, &server, &principal, &change, &by);
        self.writer.submit(false, Vec::new(), work).await
    }

    /// The authorization server that a server at the address `resource` has named first, for good: `issuer`, where it has named
    /// none before, or was `formerly` kept as that. What is new is recorded.
    ///
    /// # Errors
    /// When state cannot be used.
    pub async fn first_issuer(&self, server: &str, resource: &str, issuer: &str, formerly: &str) -> Result<String, StoreError> {
        let [server, resource, issuer, formerly] = [server, resource, issuer, formerly].map(str::to_owned);
        let work =
            move |ledger: &mut chain::Ledger<'_>| authorizations::first_issuer(ledger, &server, &resource, &issuer, &formerly);
        self.writer.submit(false, Vec::new(), work).await
    }

    /// Uses up a name that is good once; gives whether nobody had used it before, at any gateway on this state. It is remembered
    /// until `until`, and could not be used before `since`: both in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// When that cannot be found out: state cannot be used, or has lost what was used `since` then. The name may be used up.
    pub async fn use_up(&self, name: &str, since: i64, until: i64) -> Result<bool, StoreError> {
        let name = key::hex(ring::digest::digest(&ring::digest::SHA256, name.as_bytes()).as_ref());
        match &self.counters {
            Some(redis) => redis.use_up(&name, since, until).await,
            None => self.writer.submit(true, Vec::new(), move |ledger| once::use_up(ledger, &name, until)).await,
        }
    }

    /// Remembers, for every gateway on this state, that a server has issued something to an owner: the last thousand of each owner.
    /// Thing and owner are kept as digests.
    ///
    /// # Errors
    /// When state cannot be used; after a time-out it may be remembered, later.
    pub async fn issue(&self, thing: &str, owner: &str, issued: Issued) -> Result<(), StoreError> {
        let (thing, owner) = (thing.to_owned(), owner.to_owned());
        self.writer.submit(false, Vec::new(), move |ledger| issued::keep(ledger, &thing, &owner, &issued)).await
    }

    /// Which servers have issued each of these things to an owner, by any gateway on this state, as far as it still counts; in
    /// the order of the things. It is only read, in one question, and waited for for two seconds: nothing that is charged or
    /// recorded waits for it.
    ///
    /// # Errors
    /// When state cannot be read in time.
    pub async fn issued(&self, things: &[String], owner: &str) -> Result<Vec<Vec<Issued>>, StoreError> {
        let key = Shared::lock(&self.writer.shared.digests).clone().ok_or_else(|| self.writer.shared.gone())?;
        let wanted = Arc::new(issued::Wanted::new(&key, things, owner));
        self.lookups.ask(self, move |reader| reader.issued(wanted.clone())).await
    }

    /// The digest under which a grant's token is kept; `None` while the key cannot be read.
    pub fn token_digest(&self, token: &str) -> Option<String> {
        let key = Shared::lock(&self.writer.shared.digests).clone()?;
        Some(key.of_token(token))
    }

    /// Changes what `status` says of this process, for instance after a new policy.
    pub fn announce(&self, instance: Instance) {
        *Shared::lock(&self.writer.shared.instance) = Some(instance);
    }

    /// Applies retention now instead of within the next minute; gives when nothing more is to be removed.
    ///
    /// # Errors
    /// When state cannot be used.
    pub async fn tidy(&self, retention: Option<Retention>) -> Result<(), StoreError> {
        while self.writer.submit(false, Vec::new(), move |ledger| retention::tidy(ledger, retention)).await? {}
        Ok(())
    }

    /// Whether state can be used, as of the last commit, at most ten seconds ago. Costs nothing.
    pub fn health(&self) -> Health {
        let counters = || self.counters.as_ref().and_then(|redis| redis.trouble.get());
        Health { trouble: self.writer.shared.trouble.get().or_else(counters).map(|(_, error)| error) }
    }

    /// A reader of this state, for a thread that may wait.
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        match self.url.records() {
            StateUrl::Sqlite(_) | StateUrl::Redis { .. } => Reader::open(&self.url, self.clock.clone()),
            StateUrl::Memory => Ok(Reader::of_memory(self.writer.clone(), self.clock.clone())),
            StateUrl::Postgres(address) => Reader::of_server(address, self.keys.clone(), self.clock.clone()),
        }
    }

    /// What is to be kept of a call's arguments; see [`arguments::render`]. Nothing, while the key cannot be read: calls are
    /// denied then.
    pub fn render(&self, mode: ArgumentsMode, arguments: Option<json::Value<'_>>) -> Option<OneLine> {
        let key = Shared::lock(&self.writer.shared.digests).clone()?;
        arguments::render(mode, arguments?, &key)
    }

    /// The keyed digest of a text: only who holds the state's key can make it. `None` while that key cannot be read.
    pub fn digest(&self, text: &str) -> Option<String> {
        Some(Shared::lock(&self.writer.shared.digests).clone()?.digest(text.as_bytes()))
    }

    /// The clock that state goes by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Where state is kept.
    pub fn url(&self) -> &StateUrl {
        &self.url
    }

    /// Gives back what was taken of limits and not used, finishes what waits, keeps the head of the chain as a checkpoint, and
    /// closes the file. Everything after it fails.
    pub async fn close(&self) {
        if let Some(leases) = &self.leases {
            leases.give_back(self).await;
        }
        self.lookups.close();
        self.writer.stop().await;
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.url)
    }
}

/// Makes an id for a decision: 16 characters, 80 random bits.
///
/// # Errors
/// [`StoreError::Unavailable`] when the system gives no random numbers.
pub fn fresh_id() -> Result<Arc<str>, StoreError> {
    key::random_id(16).map(Arc::from).map_err(|problem| Fault::State(problem).at("the system"))
}
