//! Upstreams: the servers that are called.
//!
//! A [`Link`] is one line to one upstream. Whatever goes out over it is in a [`Permit`]: there is no other way to send.

pub(crate) mod bridged;
pub(crate) mod child;
pub(crate) mod eras;
pub(crate) mod http;
pub(crate) mod outside;
pub(crate) mod pool;
mod reach;
mod shared;
pub(crate) mod sse;
mod vitals;

use crate::enforcer::{Caller, Permit, Ticket};
use crate::tools::Schemas;
use ::http::header::{HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use ::http::{Method, StatusCode, Uri};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use mcp::{Id, Message, Side};
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::warn;

pub use child::{ChildCommand, kill_children};
pub use eras::Eras;
pub use http::{HttpTarget, TargetError};
pub use shared::Shared;
pub(crate) use vitals::jittered;
pub use vitals::{Condition, Vitals};

/// Which server stands behind the gateway.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// A child process that speaks over its standard streams.
    Child(ChildCommand),
    /// A streamable HTTP endpoint, or one of HTTP+SSE.
    Http(HttpTarget),
    /// Either, before which clients of either era are served: see [`Upstream::across_eras`].
    OfEitherEra(Box<Upstream>, Arc<Eras>),
    /// Any of them, whose lines sessions share.
    Shared(Arc<Shared>),
}

impl Upstream {
    /// The same server, for clients of either era: where it does not speak a client's, the gateway stands in between.
    pub fn across_eras(self) -> Upstream {
        Upstream::OfEitherEra(Box::new(self), Arc::default())
    }

    /// The same server, with one line for all sessions instead of one for each.
    pub fn shared(self) -> Upstream {
        Upstream::Shared(Arc::new(Shared::new(self, false)))
    }

    /// The same server, with one line for all sessions of a principal.
    pub fn shared_by_principal(self) -> Upstream {
        Upstream::Shared(Arc::new(Shared::new(self, true)))
    }

    /// The HTTP endpoint, where it is one; and what is known of its eras, where that matters.
    pub(crate) fn endpoint(&self) -> Option<(&HttpTarget, Option<&Arc<Eras>>)> {
        match self {
            Upstream::Child(_) => None,
            Upstream::Http(target) => Some((target, None)),
            Upstream::OfEitherEra(server, eras) => server.endpoint().map(|(target, _)| (target, Some(eras))),
            Upstream::Shared(shared) => shared.alone().endpoint(),
        }
    }

    /// Opens a line of its own to the server, for a session of `caller`. `schemas` says which arguments headers must repeat,
    /// where there are headers.
    ///
    /// # Errors
    /// When a child cannot be started; [`io::ErrorKind::QuotaExceeded`] when there are as many as there may be, [`io::ErrorKind::WouldBlock`] while none may be
    /// started. A server that cannot be reached over HTTP is found out by the first request.
    pub(crate) fn connect(&self, schemas: &Schemas, caller: &Caller) -> io::Result<Connection> {
        let (to_us, inbound) = mpsc::channel(32);
        if let Some(own) = self.in_the_name_of(caller) {
            return own.connect(schemas, caller);
        }
        let link = match self {
            Upstream::Shared(shared) => return Ok(shared.connect(schemas, caller)),
            Upstream::OfEitherEra(server, eras) => {
                let link = server.open(schemas, to_us.clone())?;
                Link::Bridged(Box::new(bridged::Bridged::new(link, server, eras, schemas, to_us)))
            }
            server => server.open(schemas, to_us)?,
        };
        Ok(Connection { link, inbound })
    }

    /// The same for all who call with one grant in the stateless era, as `caller` does.
    ///
    /// # Errors
    /// As [`Upstream::connect`].
    pub(crate) fn connect_stateless(&self, schemas: &Schemas, caller: &Caller) -> io::Result<Connection> {
        match self {
            Upstream::Shared(shared) => shared.connect_stateless(schemas, caller),
            upstream => upstream.connect(schemas, caller),
        }
    }

    /// The same server, called in the name of `caller`; `None` where that makes no difference, or it is done already.
    fn in_the_name_of(&self, caller: &Caller) -> Option<Upstream> {
        match self {
            Upstream::Http(target) => target.in_the_name_of(caller).map(Upstream::Http),
            Upstream::OfEitherEra(server, eras) => {
                Some(Upstream::OfEitherEra(Box::new(server.in_the_name_of(caller)?), eras.clone()))
            }
            Upstream::Child(_) | Upstream::Shared(_) => None,
        }
    }

    /// How its processes are, where it has any that are watched.
    pub(crate) fn condition(&self) -> Option<Condition> {
        match self {
            Upstream::Child(command) => command.vitals().map(|vitals| vitals.condition()),
            Upstream::Http(_) => None,
            Upstream::OfEitherEra(server, _) => server.condition(),
            Upstream::Shared(shared) => shared.alone().condition(),
        }
    }

    /// Ends what outlives its lines. Their own ends come first.
    pub(crate) async fn shut_down(&self) {
        if let Upstream::Shared(shared) = self {
            shared.shut_down().await;
        }
    }

    /// The same; what comes over the line goes to `to_us`.
    fn open(&self, schemas: &Schemas, to_us: mpsc::Sender<Inbound>) -> io::Result<Link> {
        Ok(match self {
            Upstream::Child(command) => Link::Child(child::ChildLink::start(command, to_us)?),
            Upstream::Http(target) => Link::Http(http::HttpLink::start(target.clone(), to_us, schemas.clone())),
            Upstream::OfEitherEra(server, _) => server.open(schemas, to_us)?,
            Upstream::Shared(shared) => shared.alone().open(schemas, to_us)?,
        })
    }

    /// How long it may be silent over one request.
    pub(crate) fn patience(&self) -> Duration {
        match self {
            Upstream::Child(command) => command.patience().unwrap_or(Duration::MAX),
            Upstream::Http(target) => target.patience(),
            Upstream::OfEitherEra(server, _) => server.patience(),
            Upstream::Shared(shared) => shared.alone().patience(),
        }
    }

    /// Whether messages to it travel over HTTP, where headers repeat arguments.
    pub(crate) fn is_http(&self) -> bool {
        self.endpoint().is_some()
    }
}

/// A line that has just been opened, and what comes over it.
pub(crate) struct Connection {
    pub link: Link,
    pub inbound: mpsc::Receiver<Inbound>,
}

/// What comes from an upstream, in the order in which it came.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// A message.
    Message(Message),
    /// A request of this id will get no reply.
    Failed { id: Id, failure: Failure },
    /// A notification that belongs to the request of this id, though it does not say so.
    Beside { id: Id, message: Message },
    /// Something on another line that a bridge has opened.
    Of { line: u32, arrived: Box<Inbound> },
    /// Nothing more will come.
    Closed,
}

impl Inbound {
    /// Reads what a server has sent as one message. What is none is dropped, and logged; but if it was meant to answer a
    /// request, whoever waits for that is told.
    pub fn read(text: Bytes) -> Option<Inbound> {
        let malformed = match Message::parse(text, Side::Server) {
            Ok(message) => return Some(Inbound::Message(message)),
            Err(malformed) => malformed,
        };
        warn!(reason = %malformed.message, "dropped something of the server's that is not a message");
        let failure = Failure::lost("the server's answer cannot be read");
        malformed.id.filter(|_| malformed.method.is_none()).map(|id| Inbound::Failed { id, failure })
    }
}

/// Why a request got no reply from its upstream.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// For the client: one sentence without secrets.
    pub message: String,
    /// Whether the upstream may have seen the request.
    pub may_have_run: bool,
    /// What an HTTP upstream answered instead of a message.
    pub status: Option<u16>,
    /// What the caller has to do in a browser first, where that is why.
    pub consent: Option<Arc<Consent>>,
}

/// What a caller has to do in a browser, before the server can be called in the caller's name.
#[derive(PartialEq, Eq)]
pub(crate) struct Consent {
    /// By which clients know it again.
    pub id: String,
    /// Where. Whoever has it can begin in the caller's place, so it is for the caller alone.
    pub url: String,
}

impl fmt::Debug for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Consent(…)")
    }
}

/// Before the address that a client is told.
const OPEN: &str = ": open ";

/// What of [`Failure::told`] may be recorded: what is to be opened is for the caller alone.
pub(crate) fn recorded(told: &str) -> &str {
    told.split_once(OPEN).map_or(told, |(recorded, _)| recorded)
}

/// Whether what a client was told holds what is to be opened.
pub(crate) fn is_for_caller(told: &str) -> bool {
    told.contains(OPEN)
}

/// Where the access tokens for a server come from.
pub(crate) trait Bearers: fmt::Debug + Send + Sync {
    /// Why there is none in the name of `caller`, where that is known without asking anybody: the caller has to do something
    /// first.
    fn lacking(&self, caller: &Caller) -> Option<Failure>;

    /// What goes with a request in the name of `caller`; another token than what was `refused`.
    fn bearer<'a>(
        &'a self,
        caller: &'a Caller,
        errand: Errand<'a>,
        refused: Option<RefusedBearer<'a>>,
    ) -> BoxFuture<'a, Result<Credentials, Failure>>;

    /// Takes note of what the server wants proofs to repeat, and out of its answer.
    fn hears(&self, errand: Errand<'_>, answer: &mut HeaderMap);
}

/// A request that is to be authorised.
#[derive(Clone, Copy)]
pub(crate) struct Errand<'a> {
    pub method: &'a Method,
    pub uri: &'a Uri,
}

/// What goes with a request that is authorised.
pub(crate) struct Credentials {
    /// What goes as `Authorization`.
    pub authorization: HeaderValue,
    /// What shows, for this one request, that the token in it was given to us, where it is bound to a key (RFC 9449).
    pub proof: Option<HeaderValue>,
}

/// Where a proof goes that a token is ours (RFC 9449 §4.1).
pub(crate) const PROOF: HeaderName = HeaderName::from_static("dpop");
/// By which error a server asks for the same request with another proof (RFC 9449 §9).
pub(crate) const USE_NONCE: &str = "use_dpop_nonce";

/// What a server says of the credentials that it wants: one challenge after another, as in one header.
pub(crate) fn challenges(headers: &HeaderMap) -> String {
    let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|challenge| challenge.to_str().ok());
    challenges.collect::<Vec<_>>().join(", ")
}

/// What a server would not take.
#[derive(Clone, Copy)]
pub(crate) struct RefusedBearer<'a> {
    pub bearer: &'a HeaderValue,
    /// 401, or 403 where its scope does not suffice.
    pub status: StatusCode,
    /// The `WWW-Authenticate` that came with it.
    pub challenge: &'a str,
}

impl Failure {
    /// Nothing has left us.
    pub fn unsent(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), may_have_run: false, status: None, consent: None }
    }

    /// Nothing has come of it for `patience`.
    pub fn silent(patience: Duration) -> Failure {
        Failure::lost(format!("the server has been silent for {patience:?}"))
    }

    /// It has left us, or may have.
    pub fn lost(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), may_have_run: true, status: None, consent: None }
    }

    /// What the client is told of it in words, and nobody else.
    pub fn told(&self) -> Cow<'_, str> {
        match &self.consent {
            Some(consent) => format!("{}{OPEN}{}", self.message, consent.url).into(),
            None => Cow::Borrowed(&self.message),
        }
    }
}

/// One line to one upstream.
pub(crate) enum Link {
    Child(child::ChildLink),
    Http(http::HttpLink),
    /// Either, whose server may speak another era than the client.
    Bridged(Box<bridged::Bridged>),
    /// One session's end of a shared line.
    Shared(shared::SharedLink),
    /// None any more.
    Closed,
}

/// What became of a permit that was handed to a link.
pub(crate) struct Sent {
    /// To be finished when the reply is there, or right away where there was a failure.
    pub ticket: Option<Ticket>,
    pub outcome: Result<(), Failure>,
}

impl Link {
    /// Sends what a permit permits. `text` is the permitted message, perhaps under another id (see [`Permit::text`]).
    pub fn send(&mut self, mut permit: Permit) -> Sent {
        if let Link::Bridged(bridged) = self {
            let ticket = permit.take_ticket();
            bridged.send(permit);
            return Sent { ticket, outcome: Ok(()) };
        }
        let outcome = match self {
            Link::Shared(shared) => return shared.send(permit),
            Link::Child(child) => child.send(&permit),
            Link::Http(http) => {
                http.send(&permit);
                Ok(())
            }
            Link::Bridged(_) | Link::Closed => Err(Failure::unsent("the server has ended")),
        };
        Sent { ticket: permit.into_ticket(), outcome }
    }

    /// How long the server may be silent over one request, where the line does not see to that itself.
    pub fn patience(&self) -> Option<Duration> {
        match self {
            Link::Child(child) => child.patience(),
            Link::Http(http) => http.patience(),
            Link::Bridged(bridged) => bridged.patience(),
            Link::Shared(shared) => shared.patience(),
            Link::Closed => None,
        }
    }

    /// Takes what has arrived over the line; gives what of it is for the client now. More may be [`Link::ready`].
    pub fn receive(&mut self, arrived: Inbound) -> Option<Inbound> {
        let Link::Bridged(bridged) = self else { return Some(arrived) };
        bridged.receive(arrived);
        self.ready()
    }

    /// What is for the client without having just arrived.
    pub fn ready(&mut self) -> Option<Inbound> {
        let Link::Bridged(bridged) = self else { return None };
        let ready = bridged.ready();
        // Where both ends speak one era, nothing stands between them.
        if ready.is_none()
            && bridged.is_plain()
            && let Link::Bridged(bridged) = std::mem::replace(self, Link::Closed)
        {
            *self = bridged.into_plain();
        }
        ready
    }

    /// The request that was to go on under `state` will not: its client is not asked what the server wants to know.
    pub fn give_up(&mut self, state: &str) {
        match self {
            Link::Bridged(bridged) => bridged.give_up(state),
            Link::Shared(shared) => shared.give_up(state),
            Link::Child(_) | Link::Http(_) | Link::Closed => {}
        }
    }

    /// The line carries many clients, not one.
    pub fn share(&mut self) {
        if let Link::Bridged(bridged) = self {
            bridged.share();
        }
    }

    /// Sees to what has waited too long.
    pub fn tick(&mut self) {
        if let Link::Bridged(bridged) = self {
            bridged.tick();
        }
    }

    /// Whether [`Link::tick`] does anything.
    pub fn ticks(&self) -> bool {
        matches!(self, Link::Bridged(_))
    }

    /// Closes the exchange of a request, where it has one of its own; says whether it had.
    pub fn abandon(&mut self, id: &Id) -> bool {
        match self {
            Link::Child(_) | Link::Shared(_) | Link::Closed => false,
            Link::Http(http) => http.abandon(id),
            Link::Bridged(bridged) => bridged.abandon(id),
        }
    }

    /// Ends the line. A child gets `patience` to end by itself once its input has closed. Gives the child's exit status as a
    /// shell would, 0 where there is no child.
    pub async fn shut_down(self, patience: Duration) -> io::Result<u8> {
        match self {
            Link::Child(child) => child.shut_down(patience).await.map(exit_code),
            Link::Http(http) => {
                http.shut_down().await;
                Ok(0)
            }
            Link::Bridged(bridged) => Box::pin(bridged.shut_down(patience)).await,
            // Others use what is behind it.
            Link::Shared(_) | Link::Closed => Ok(0),
        }
    }
}

/// The code a shell would give: 128 and the signal for a child that was killed.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
