//! A legacy session at many servers.
//!
//! To the client it is one server; at each server it has a seat of its own. What a client asks goes to one server under the
//! client's own id, or to all; what servers ask goes to the client under numbers of ours, for two servers may use one id, and
//! answers find their way back by them. What a server says of a request or a task that is another's is dropped.

use super::gather::{Ground, Line};
use super::member::Member;
use super::relay::{Known, Observed};
use super::seat::{Seat, tell};
use super::{Federation, Patience, agreed};
use crate::conversation::Command;
use crate::enforcer::Caller;
use crate::gate::unauthorised;
use crate::refusal::{UPSTREAM_FAILED, malformed};
use crate::sink::{Relay, Sink};
use crate::tools::own_id;
use crate::upstream::recorded;
use bytes::Bytes;
use http::HeaderMap;
use mcp::federation::{ListKind, Part, Target, Whose, capabilities, instructions, merge_tasks, own_name};
use mcp::{Id, Kind, Malformed, Message, Revision, Side};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

/// More requests in flight than any client has use for.
const MAX_IN_FLIGHT: usize = 4_096;
/// Questions of servers that the client has not answered; past so many the oldest is forgotten.
const MAX_ASKED: usize = 1_024;
/// What servers say by themselves before anybody listens.
const MAX_UNHEARD: usize = 256;
/// Resources that one session has subscribed to.
const MAX_SUBSCRIBED: usize = 4_096;
/// How long a request waits for a server that starts.
const STARTING: Duration = Duration::from_secs(60);

pub(super) struct Session {
    federation: Arc<Federation>,
    caller: Caller,
    /// As the client has said it: every server is told the same.
    initialize: Message,
    revision: Revision,
    known: Arc<Known>,
    stop: CancellationToken,
    used: Mutex<Instant>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seats: BTreeMap<Arc<str>, Arc<Seat>>,
    /// Whether the client has finished the handshake.
    initialized: bool,
    listener: Option<Sink>,
    unheard: VecDeque<Bytes>,
    flights: HashMap<Id, Flight>,
    /// By the number under which the client was asked.
    asked: BTreeMap<u64, Asked>,
    next: u64,
    /// The last `logging/setLevel`, and subscriptions by URI: a server that comes back is told again.
    level: Option<Message>,
    subscribed: HashMap<String, Message>,
}

/// A request of the client's that is under way.
struct Flight {
    /// None for what many are asked.
    server: Option<Arc<str>>,
    sink: Sink,
    token: Option<String>,
    /// Tells it from another of the same id.
    serial: u64,
}

/// What a server has asked the client.
struct Asked {
    server: Arc<str>,
    id: Id,
    token: Option<String>,
}

impl Session {
    /// Begins one, and takes a seat at every server that the caller may use.
    pub fn begin(federation: &Arc<Federation>, caller: Caller, initialize: Message) -> Arc<Session> {
        let asked = initialize.params().and_then(|params| params.get("protocolVersion")?.as_str());
        let session = Arc::new(Session {
            federation: federation.clone(),
            revision: agreed(asked.as_deref()),
            caller,
            initialize,
            known: Arc::default(),
            stop: federation.stop.child_token(),
            used: Mutex::new(Instant::now()),
            state: Mutex::default(),
        });
        session.reseat();
        session
    }

    pub fn federation(&self) -> &Arc<Federation> {
        &self.federation
    }

    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    pub fn known(&self) -> &Arc<Known> {
        &self.known
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn initialize(&self) -> &Message {
        &self.initialize
    }

    pub fn patience(&self) -> Patience {
        self.federation.patience
    }

    pub fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub fn is_idle(&self, longest: Duration) -> bool {
        let unused = self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > longest;
        unused && self.lock().listener.as_ref().is_none_or(Sink::is_closed)
    }

    /// Whether nothing that the client has asked is under way.
    pub fn is_quiet(&self) -> bool {
        self.lock().flights.is_empty()
    }

    /// Gives up every seat, and ends the stream that listens.
    pub fn close(&self) {
        self.stop.cancel();
        self.lock().listener = None;
    }

    pub fn is_over(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Takes seats at servers that have come to what the caller may use, and gives up those that have gone.
    pub fn reseat(self: &Arc<Self>) {
        let members = self.federation.members_for(&self.caller);
        let (mut state, mut changed) = (self.lock(), false);
        state.seats.retain(|_, seat| {
            let stays = members.iter().any(|member| Arc::ptr_eq(member, &seat.member));
            if !stays {
                seat.close();
                changed = true;
            }
            stays
        });
        for member in members {
            if !state.seats.contains_key(&member.name) {
                let seat = Seat::new(member.clone(), self.stop.child_token());
                self.federation.running.spawn(seat.clone().keep(self.clone()));
                state.seats.insert(member.name.clone(), seat);
                changed = true;
            }
        }
        let tells = changed && state.initialized;
        drop(state);
        if tells {
            let session = self.clone();
            tokio::spawn(async move { session.tell_changed(ListKind::ALL).await });
        }
    }

    /// The answer to `initialize`: what all servers can do. Those of which nothing is known yet are waited for, for a while.
    pub async fn greet(&self) -> Bytes {
        let seats: Vec<_> = self.lock().seats.values().cloned().collect();
        let unknown = seats.iter().filter(|seat| seat.member.greeting().is_none()).map(|seat| seat.settled());
        let _ = tokio::time::timeout(self.patience().greeting, futures_util::future::join_all(unknown)).await;
        let greetings: Vec<_> = seats.iter().filter_map(|seat| seat.member.greeting()).collect();
        let able = capabilities(greetings.iter(), greetings.len() == seats.len());
        let said = instructions(greetings.iter()).map(|text| format!(",\"instructions\":{text}")).unwrap_or_default();
        let (version, info) = (self.revision, mcp::IMPLEMENTATION);
        let result = format!(r#"{{"protocolVersion":"{version}","capabilities":{able},"serverInfo":{info}{said}}}"#);
        mcp::reply::result(self.initialize.id().unwrap_or(&Id::from("")), &result)
    }

    /// Takes one message of the client's, and the headers of the request that it came with.
    pub async fn hear(self: &Arc<Self>, message: Message, sink: Sink, headers: &HeaderMap) {
        match message.kind() {
            Kind::Request => self.hear_request(message, sink, headers).await,
            Kind::Notification => self.hear_notification(message, sink).await,
            Kind::Response { .. } => self.hear_response(message, sink).await,
        }
    }

    /// What servers say by themselves goes there from now on.
    pub fn attach(self: &Arc<Self>, sink: Sink) {
        let mut state = self.lock();
        let unheard = std::mem::take(&mut state.unheard);
        state.listener = Some(sink.clone());
        drop(state);
        tokio::spawn(async move {
            for message in unheard {
                sink.event(message).await;
            }
        });
    }

    async fn hear_request(self: &Arc<Self>, message: Message, sink: Sink, headers: &HeaderMap) {
        let Some(id) = message.id().cloned() else { return };
        let is_taken = {
            let state = self.lock();
            let full = state.flights.len() >= MAX_IN_FLIGHT;
            state
                .flights
                .contains_key(&id)
                .then_some("a request of this id is still being answered")
                .or(full.then_some("too many requests are waiting for their answers"))
        };
        let method = message.method().unwrap_or_default();
        let refusal = if method == "initialize" { Some("this session is initialized already") } else { is_taken };
        if let Some(why) = refusal {
            return self.refuse(&message, mcp::reply::INVALID_REQUEST, why, &sink).await;
        }
        let target = Target::of(&message);
        match (&target, method) {
            (_, "ping") => sink.last(mcp::reply::result(&id, "{}"), 200).await,
            (Target::List(kind), _) => {
                let flight = self.take_off(&id, None, &sink, None);
                let answer = Ground::Legacy(self.clone()).list(*kind, &message).await;
                self.land(&id, flight);
                sink.last(answer, 200).await;
            }
            (_, "logging/setLevel") => self.set_level(message, sink).await,
            (_, "tasks/list") => {
                let answer = self.list_tasks(&message, &id).await;
                sink.last(answer, 200).await;
            }
            (Target::Other, _) => {
                let why = "no server can be told by this method; ask one at /mcp/<server>";
                self.refuse(&message, mcp::reply::METHOD_NOT_FOUND, why, &sink).await;
            }
            _ => match Ground::Legacy(self.clone()).route(&target, &message).await {
                Some(member) => {
                    drop(target);
                    self.forward(&member, message, id, sink, headers).await;
                }
                None if method == "tools/call" && matches!(target, Target::Name(_)) => {
                    drop(target);
                    self.federation.deny_unknown(message, &self.caller, &sink, false).await;
                }
                None => {
                    // -32002 is what these revisions say of a resource that is not there.
                    let code = if matches!(target, Target::Resource(_)) { -32002 } else { mcp::reply::INVALID_PARAMS };
                    self.refuse_as(&message, no_such(&message, code, &target), &sink).await;
                }
            },
        }
    }

    /// Sends a request to the one server that it is for.
    async fn forward(self: &Arc<Self>, member: &Arc<Member>, message: Message, id: Id, sink: Sink, headers: &HeaderMap) {
        if let Some(failure) = member.sessions.lacking(&self.caller) {
            let opens_urls = self.initialize.opens_urls();
            let answer = unauthorised(&member.sessions.enforcer, &message, opens_urls, &self.caller, &failure).await;
            return match answer {
                Some(answer) => sink.last(answer.body, answer.status).await,
                None => sink.accepted().await,
            };
        }
        let taken = match self.seat(&member.name) {
            Some(seat) => seat.taken(STARTING).await,
            None => Err("it is not offered any more".to_owned()),
        };
        let taken = match taken {
            Ok(taken) => taken,
            Err(why) => return unreachable(&self.caller, member, &message, &why, &sink).await,
        };
        let own = match message.method() {
            Some("tools/call" | "prompts/get" | "completion/complete") => {
                Message::parse(own_name(&message, &member.name).finish(), Side::Client)
            }
            _ => Ok(message.clone()),
        };
        let own = match own {
            Ok(own) => own,
            Err(malformed) => return sink.refused(&self.federation.enforcer.refuse(malformed, &self.caller).await).await,
        };
        self.remember(&own);
        taken.touch();
        let token = own.progress_token().map(|token| token.raw().to_owned());
        let serial = self.take_off(&id, Some(&member.name), &sink, token);
        let session = Arc::downgrade(self);
        let observed = Observed::sink(sink.clone(), &member.name, &self.known, move || {
            if let Some(session) = session.upgrade() {
                session.land(&id, serial);
            }
        });
        let command = Command::Message { message: own, sink: observed, exchange: 0, passed: member.sessions.passed(headers) };
        if taken.commands.send(command).await.is_err() {
            unreachable(&self.caller, member, &message, "it has ended; it is started again", &sink).await;
        }
    }

    /// A request is under way from here on; gives its serial.
    fn take_off(&self, id: &Id, server: Option<&Arc<str>>, sink: &Sink, token: Option<String>) -> u64 {
        let mut state = self.lock();
        let serial = state.number();
        state.flights.insert(id.clone(), Flight { server: server.cloned(), sink: sink.clone(), token, serial });
        serial
    }

    fn land(&self, id: &Id, serial: u64) {
        let mut state = self.lock();
        if state.flights.get(id).is_some_and(|flight| flight.serial == serial) {
            state.flights.remove(id);
        }
    }

    /// Keeps what a server that comes back must be told again.
    fn remember(&self, message: &Message) {
        let uri = || message.params().and_then(|params| params.get("uri")?.as_str());
        match message.method() {
            Some("resources/subscribe") => {
                let mut state = self.lock();
                if let Some(uri) = uri().filter(|_| state.subscribed.len() < MAX_SUBSCRIBED) {
                    state.subscribed.insert(uri.into_owned(), message.clone());
                }
            }
            Some("resources/unsubscribe") => {
                let mut state = self.lock();
                uri().inspect(|uri| drop(state.subscribed.remove(&**uri)));
            }
            _ => {}
        }
    }

    async fn set_level(self: &Arc<Self>, message: Message, sink: Sink) {
        let logs = |member: &Arc<Member>| member.may_have("logging");
        let answers = self.ask_all(&message, logs).await;
        let id = message.id().cloned().unwrap_or_else(|| Id::from(""));
        // One that knows no such level says so; where any takes it, it is set.
        let refused = answers.iter().all(|part| part.reply.error().is_some()).then(|| answers.first()).flatten();
        let body = match refused {
            Some(part) => part.reply.with_id(&id),
            None => {
                self.lock().level = Some(message);
                mcp::reply::result(&id, "{}")
            }
        };
        sink.last(body, 200).await;
    }

    async fn list_tasks(self: &Arc<Self>, message: &Message, id: &Id) -> Bytes {
        // Cursors of tasks are not merged: a client that has so many asks the server itself.
        if message.params().is_some_and(|params| params.get("cursor").is_some()) {
            return mcp::reply::error(Some(id), mcp::reply::INVALID_PARAMS, "unknown cursor", None);
        }
        let parts = self.ask_all(message, |member| member.may_have("tasks")).await;
        let parts: Vec<_> = parts.into_iter().filter(|part| part.reply.result().is_some()).collect();
        let tasks = merge_tasks(&parts, |server, task| self.known.claim_task(server, task));
        mcp::reply::result(id, &format!("{{{tasks}}}"))
    }

    async fn ask_all(self: &Arc<Self>, message: &Message, of: impl Fn(&Arc<Member>) -> bool) -> Vec<Part> {
        let members = self.federation.members_for(&self.caller).into_iter().filter(|member| of(member));
        let question = |member| Some((member, Message::parse(message.with_id(&Id::from(&*own_id())), Side::Client).ok()?));
        let questions: Vec<_> = members.filter_map(question).collect();
        let gathered = Ground::Legacy(self.clone()).gather(questions, None, self.patience().list).await;
        let part = |(member, reply): (Arc<Member>, Message)| Part { server: member.name.clone(), reply, first: true };
        gathered.replies.into_iter().map(part).collect()
    }

    async fn hear_notification(self: &Arc<Self>, message: Message, sink: Sink) {
        match message.method() {
            // Every server was told by us, when it had answered.
            Some("notifications/initialized") => self.lock().initialized = true,
            Some("notifications/cancelled") => {
                let id = message.cancelled_id().and_then(|id| Id::of(id).ok());
                let server = id.and_then(|id| self.lock().flights.get(&id)?.server.clone());
                if let Some(taken) = server.and_then(|server| self.seat(&server)?.now()) {
                    tell(&taken, message.text().clone()).await;
                }
            }
            Some("notifications/progress") => {
                let number = message.progress_token().and_then(|token| token.raw().parse::<u64>().ok());
                let own = number.and_then(|number| {
                    let state = self.lock();
                    let asked = state.asked.get(&number)?;
                    Some((asked.server.clone(), asked.token.clone()?))
                });
                if let (Some((server, own)), Some(token)) = (own, message.progress_token())
                    && let Some(taken) = self.seat(&server).and_then(|seat| seat.now())
                {
                    tell(&taken, message.edit().replace(token.span(), own).finish()).await;
                }
            }
            _ => {
                let seats: Vec<_> = self.lock().seats.values().cloned().collect();
                for taken in seats.iter().filter_map(|seat| seat.now()) {
                    tell(&taken, message.text().clone()).await;
                }
            }
        }
        sink.accepted().await;
    }

    async fn hear_response(self: &Arc<Self>, message: Message, sink: Sink) {
        let number = message.id().and_then(|id| id.text().parse::<u64>().ok());
        let asked = number.and_then(|number| self.lock().asked.remove(&number));
        let Some(asked) = asked else {
            return self.refuse(&message, mcp::reply::INVALID_REQUEST, "a response to nothing that was asked", &sink).await;
        };
        let taken = self.seat(&asked.server).and_then(|seat| seat.now());
        let own = Message::parse(message.with_id(&asked.id), Side::Client).ok();
        match taken.zip(own) {
            Some((taken, message)) => {
                let _ = taken.commands.send(Command::Message { message, sink, exchange: 0, passed: None }).await;
            }
            // Whoever has asked is gone.
            None => sink.accepted().await,
        }
    }

    /// What the client is told when a server says something by itself, and where.
    fn relay(&self, member: &Arc<Member>, text: Bytes) -> Option<(Sink, Bytes)> {
        let message = Message::parse(text, Side::Server).ok()?;
        let Some(text) = self.translate(&member.name, &message) else {
            debug!(server = %member.name, method = message.method(), "dropped what belongs to nothing of this server's");
            return None;
        };
        self.addressed(Some(&member.name), text)
    }

    /// What the client is told in its place; `None` where it speaks of something that is not this server's.
    fn translate(&self, server: &Arc<str>, message: &Message) -> Option<Bytes> {
        if message.kind() == Kind::Request {
            let token = message.progress_token();
            let mut state = self.lock();
            let number = state.number();
            if state.asked.len() >= MAX_ASKED {
                state.asked.pop_first();
            }
            let asked =
                Asked { server: server.clone(), id: message.id()?.clone(), token: token.map(|token| token.raw().to_owned()) };
            state.asked.insert(number, asked);
            drop(state);
            let id = Id::from(number);
            let edit = message.edit_with_id(&id);
            return Some(match token {
                Some(token) => edit.replace(token.span(), id.text().to_owned()).finish(),
                None => edit.finish(),
            });
        }
        match message.method()? {
            "notifications/cancelled" => {
                let named = message.cancelled_id()?;
                let id = Id::of(named).ok()?;
                let mut state = self.lock();
                let is_it = |asked: &Asked| asked.server == *server && asked.id == id;
                let number = state.asked.iter().find(|(_, asked)| is_it(asked)).map(|(number, _)| *number)?;
                state.asked.remove(&number);
                Some(message.edit().replace(named.span(), number.to_string()).finish())
            }
            "notifications/progress" => {
                let token = message.progress_token()?;
                let state = self.lock();
                let is_it =
                    |flight: &Flight| flight.server.as_ref() == Some(server) && flight.token.as_deref() == Some(token.raw());
                state.flights.values().any(is_it).then(|| message.text().clone())
            }
            _ => self.known.is_own(server, message).then(|| message.text().clone()),
        }
    }

    /// Where something goes that belongs to no answer: to the stream that listens, else to one that waits for that server,
    /// else to any; else it is kept until somebody listens.
    fn addressed(&self, server: Option<&Arc<str>>, text: Bytes) -> Option<(Sink, Bytes)> {
        let mut state = self.lock();
        let listening = state.listener.clone().filter(|sink| !sink.is_closed());
        let open = || {
            let open = state.flights.values().filter(|flight| !flight.sink.is_closed());
            open.max_by_key(|flight| flight.server.as_ref() == server).map(|flight| flight.sink.clone())
        };
        match listening.or_else(open) {
            Some(sink) => return Some((sink, text)),
            None if state.unheard.len() < MAX_UNHEARD => state.unheard.push_back(text),
            None => warn!("dropped a message of a server's: nobody listens"),
        }
        None
    }

    async fn tell_changed(&self, kinds: impl IntoIterator<Item = ListKind>) {
        let mut methods: Vec<_> = kinds.into_iter().map(ListKind::changed).collect();
        methods.sort_unstable();
        methods.dedup();
        for method in methods {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#);
            if let Some((sink, text)) = self.addressed(None, text.into()) {
                sink.event(text).await;
            }
        }
    }

    /// A seat is taken, perhaps again: the client is told of lists that were given without it, and the server of what it was
    /// told before.
    pub async fn seated(self: &Arc<Self>, seat: &Seat, again: bool) {
        let mut kinds = seat.take_missed();
        if again {
            kinds.extend(ListKind::ALL.into_iter().filter(|kind| seat.member.may_have(kind.capability())));
        }
        let (level, subscribed) = {
            let state = self.lock();
            (state.level.clone(), state.subscribed.clone())
        };
        if let (Some(taken), true) = (seat.now(), again) {
            let of_server =
                |uri: &String| self.known.with_claims(|claims| claims.resource(uri)) == Whose::Of(seat.member.name.clone());
            let subscribed = subscribed.into_iter().filter(|(uri, _)| of_server(uri)).map(|(_, message)| message);
            for message in level.filter(|_| seat.member.may_have("logging")).into_iter().chain(subscribed) {
                tell(&taken, message.with_id(&Id::from(&*own_id()))).await;
            }
        }
        self.tell_changed(kinds).await;
    }

    /// A list has been given without this server.
    pub fn missed(&self, member: &Arc<Member>, kind: ListKind) {
        self.seat(&member.name).inspect(|seat| seat.missed(kind));
    }

    /// A server has answered after all.
    pub fn came(self: &Arc<Self>, member: &Arc<Member>) {
        let Some(seat) = self.seat(&member.name) else { return };
        let (session, kinds) = (self.clone(), seat.take_missed());
        tokio::spawn(async move { session.tell_changed(kinds).await });
    }

    /// The conversation with a server; one that starts is waited for.
    pub async fn line(&self, member: &Arc<Member>, patience: Duration) -> Result<Line, String> {
        let seat = self.seat(&member.name).ok_or_else(|| "it is not offered any more".to_owned())?;
        Ok(Line { session: seat.taken(patience).await?, exchange: 0 })
    }

    async fn refuse(&self, message: &Message, code: i64, why: &str, sink: &Sink) {
        self.refuse_as(message, malformed(message, code, why), sink).await;
    }

    async fn refuse_as(&self, message: &Message, malformed: Malformed, sink: &Sink) {
        let refused = self.federation.enforcer.refuse(malformed, &self.caller).await;
        // In a session an error is an answer like any other.
        match (sink, message.kind()) {
            (Sink::Exchange(_), Kind::Request) => sink.last(refused.error(), 200).await,
            _ => sink.refused(&refused).await,
        }
    }

    fn seat(&self, server: &str) -> Option<Arc<Seat>> {
        self.lock().seats.get(server).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// Hears what one server says by itself.
pub(super) struct Hearing {
    session: Weak<Session>,
    member: Arc<Member>,
    /// Cancelled when the conversation with the server has ended, and this with it.
    _ended: DropGuard,
}

impl Hearing {
    /// The sink for what a server says by itself, and what is cancelled when it says nothing any more.
    pub fn sink(session: &Arc<Session>, member: &Arc<Member>) -> (Sink, CancellationToken) {
        let ended = CancellationToken::new();
        let hearing = Hearing { session: Arc::downgrade(session), member: member.clone(), _ended: ended.clone().drop_guard() };
        (Sink::Relay(Arc::new(hearing)), ended)
    }
}

impl Relay for Hearing {
    fn event(&self, message: Bytes) -> Option<(Sink, Bytes)> {
        self.session.upgrade()?.relay(&self.member, message)
    }

    fn over(&self, _: Option<&Bytes>) -> Option<Sink> {
        None
    }

    fn is_closed(&self) -> bool {
        false
    }

    fn is_exchange(&self) -> bool {
        false
    }
}

/// Why a request leads nowhere, by what it names.
fn unknown(target: &Target<'_>) -> &'static str {
    match target {
        Target::Resource(_) | Target::Template(_) => "no server, or more than one, has this resource",
        Target::Task(_) => "no such task",
        Target::Missing => "the request does not name what it is about",
        Target::Name(_) | Target::List(_) | Target::Other => "no server has this",
    }
}

/// What is said of a request that leads to no server. Of a resource it says which.
pub(super) fn no_such(message: &Message, code: i64, target: &Target<'_>) -> Malformed {
    let data = match target {
        Target::Resource(uri) => Some(format!(r#"{{"uri":{}}}"#, json::quote(uri))),
        _ => None,
    };
    Malformed { data, ..malformed(message, code, unknown(target)) }
}

/// Answers for a server that cannot be reached; on record, it was refused.
pub(super) async fn unreachable(caller: &Caller, member: &Arc<Member>, message: &Message, why: &str, sink: &Sink) {
    let why = format!("the server `{}` cannot be reached: {why}", member.name);
    let refused = malformed(message, UPSTREAM_FAILED, recorded(&why));
    let refused = member.sessions.enforcer.refuse(refused, caller).await;
    sink.last(Malformed { message: why, ..refused }.error(), 200).await;
}
