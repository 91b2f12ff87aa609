//! One line to a server for many sessions.
//!
//! Each session has a link of its own, as to any server; behind those links stands one line for each protocol revision that
//! clients ask for. The handshake on it is ours, and is made once: what the server has answered is remembered, and answered to
//! every later `initialize`. Ids and progress tokens are exchanged for numbers of ours.
//!
//! In the stateless era there is no handshake; there the "sessions" are the conversations of all who call with one grant, and
//! one line carries them all. What names a request of theirs (a subscription, a cancellation) is exchanged like ids.
//!
//! What cannot be told apart is not shared: a server's requests are answered in the client's place, since nobody is their
//! addressee; notifications go to whoever's request they belong to, or to all where they say that a list has changed, or to
//! nobody. Methods that change what the server does for a session, or list what others have begun, are not offered.

use crate::enforcer::{Caller, Permit};
use crate::tools::Schemas;
use crate::upstream::{Connection, Failure, Inbound, Link, Sent, Upstream};
use bytes::Bytes;
use json::Value;
use mcp::{Era, Id, Kind, Message, Revision, Side};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// What a session may leave unread before it is closed: others must not wait for it.
const MAX_WAITING: usize = 1_024;
/// The same of all who call with one grant: more than they can have in flight, so that answers alone never close it.
const MAX_WAITING_STATELESS: usize = 32_768;
/// How long a server that is no longer needed gets to end by itself.
const PATIENCE: Duration = Duration::from_millis(500);
/// So often a link is asked whether something has waited too long.
const TICK: Duration = Duration::from_millis(500);
/// Under this number our own `initialize` goes; those of clients' requests begin behind it.
const GREETING: u64 = 0;

/// What changes a server for one session, or shows one session what is another's.
const NOT_SHARED: [&str; 4] = ["logging/setLevel", "resources/subscribe", "resources/unsubscribe", "tasks/list"];
/// What concerns every session.
const FOR_ALL: [&str; 3] =
    ["notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed"];

/// An upstream whose lines are shared by sessions.
pub struct Shared {
    upstream: Upstream,
    /// Whether only the sessions of one principal share a line.
    by_principal: bool,
    lines: Mutex<HashMap<Sharers, Arc<Line>>>,
}

/// Whose sessions share a line.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Sharers {
    /// As whom they call, as far as it matters who does.
    caller: Option<Caller>,
    /// The revision that all of them speak; `None`: they are stateless.
    revision: Option<Revision>,
}

impl Shared {
    pub(crate) fn new(upstream: Upstream, by_principal: bool) -> Shared {
        Shared { upstream, by_principal, lines: Mutex::default() }
    }

    /// The upstream itself.
    pub(crate) fn alone(&self) -> &Upstream {
        &self.upstream
    }

    /// Gives a session of `caller` its link. The line behind it is opened when somebody first says `initialize`.
    pub(crate) fn connect(self: &Arc<Shared>, schemas: &Schemas, caller: &Caller) -> Connection {
        let (to_client, inbound) = mpsc::channel(MAX_WAITING);
        let back = to_client.downgrade();
        let (shared, schemas) = (self.clone(), schemas.clone());
        let sharer = self.by_principal.then(|| self.sharer(caller));
        let link = SharedLink { shared, sharer, schemas, to_client: Some(to_client), back, joined: None };
        Connection { link: Link::Shared(link), inbound }
    }

    /// Gives all who call with one grant in the stateless era, as `caller` does, their link.
    ///
    /// # Errors
    /// When no line can be opened; see [`Upstream::connect`].
    pub(crate) fn connect_stateless(self: &Arc<Shared>, schemas: &Schemas, caller: &Caller) -> io::Result<Connection> {
        let sharer = self.by_principal.then(|| self.sharer(caller));
        let line = self.line(Sharers { caller: sharer.clone(), revision: None }, schemas)?;
        let (to_client, inbound) = mpsc::channel(MAX_WAITING_STATELESS);
        let back = to_client.downgrade();
        let client = line.lock().add(to_client).ok_or_else(|| io::Error::other("the server has just ended"))?;
        let (shared, schemas, joined) = (self.clone(), schemas.clone(), Some((line, client)));
        let link = SharedLink { shared, sharer, schemas, to_client: None, back, joined };
        Ok(Connection { link: Link::Shared(link), inbound })
    }

    /// With whom `caller` shares a line: with whoever has the same principal; but where the server is called by callers' own
    /// authority, with whoever has the very same.
    fn sharer(&self, caller: &Caller) -> Caller {
        let is_authorized = self.upstream.endpoint().is_some_and(|(target, _)| target.is_authorized());
        match is_authorized {
            true => caller.in_general(),
            false => Caller { principal: caller.principal.clone(), ..Caller::nobody() },
        }
    }

    /// Ends all lines.
    pub(crate) async fn shut_down(&self) {
        let lines: Vec<_> = self.lock().drain().map(|(_, line)| line).collect();
        let ends = lines.iter().filter_map(|line| line.lock().link.take()).map(|link| link.shut_down(PATIENCE));
        futures_util::future::join_all(ends).await;
    }

    /// The line of those who share it, opened where there is none.
    fn line(self: &Arc<Shared>, sharers: Sharers, schemas: &Schemas) -> io::Result<Arc<Line>> {
        let mut lines = self.lock();
        if let Some(line) = lines.get(&sharers) {
            return Ok(line.clone());
        }
        let nobody = Caller::nobody();
        let connection = self.upstream.connect(schemas, sharers.caller.as_ref().unwrap_or(&nobody))?;
        let line = Line::open(connection.link, sharers.revision)?;
        lines.insert(sharers.clone(), line.clone());
        tokio::spawn(self.clone().read(line.clone(), sharers, connection.inbound));
        Ok(line)
    }

    /// Takes what comes over a line to whom it is for, until the line ends.
    async fn read(self: Arc<Shared>, line: Arc<Line>, sharers: Sharers, mut inbound: mpsc::Receiver<Inbound>) {
        let mut tick = tokio::time::interval(TICK);
        while line.lock().pump() {
            tokio::select! {
                arrived = inbound.recv() => match arrived {
                    Some(arrived) => line.lock().receive(arrived),
                    None => break,
                },
                _ = tick.tick() => line.lock().tick(),
            }
        }
        {
            let mut lines = self.lock();
            if lines.get(&sharers).is_some_and(|known| Arc::ptr_eq(known, &line)) {
                lines.remove(&sharers);
            }
        }
        let link = {
            let mut state = line.lock();
            // Without a way back to them, their conversations end.
            state.clients.clear();
            state.link.take()
        };
        if let Some(link) = link {
            let _ = link.shut_down(PATIENCE).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Sharers, Arc<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({:?})", self.upstream)
    }
}

/// One session's end of a shared line.
pub(crate) struct SharedLink {
    shared: Arc<Shared>,
    /// Who it is for, where that matters.
    sharer: Option<Caller>,
    schemas: Schemas,
    /// Handed over to the line: when that drops it, this session's conversation ends.
    to_client: Option<mpsc::Sender<Inbound>>,
    back: mpsc::WeakSender<Inbound>,
    /// The line, and the number of this session on it; none before `initialize`.
    joined: Option<(Arc<Line>, u64)>,
}

impl SharedLink {
    /// Sends what a permit permits, as far as it may be shared.
    pub fn send(&mut self, permit: Permit) -> Sent {
        let method = permit.message().method().unwrap_or_default().to_owned();
        if method == "initialize" && !self.is_stateless() {
            let outcome = self.join(&permit);
            return Sent { ticket: permit.into_ticket(), outcome };
        }
        let Some((line, client)) = &self.joined else {
            return unsent(permit, "no handshake yet: begin with `initialize`");
        };
        let mut state = line.lock();
        if permit.message().kind() != Kind::Request {
            // The handshake is ours, and so is what the server knows of its client; only a cancellation is for it.
            if method == "notifications/cancelled" {
                let cancelled = permit.message().cancelled_id().and_then(|id| Id::of(id).ok());
                cancelled.into_iter().for_each(|id| state.cancel(*client, &id));
            }
            return Sent { ticket: permit.into_ticket(), outcome: Ok(()) };
        }
        if NOT_SHARED.contains(&method.as_str()) {
            let why = "several clients share this server, so this method is not offered";
            let refusal = mcp::reply::error(permit.wire_id(), mcp::reply::METHOD_NOT_FOUND, why, None);
            let told = Message::parse(refusal, Side::Server)
                .is_ok_and(|reply| self.back.upgrade().is_some_and(|back| back.try_send(Inbound::Message(reply)).is_ok()));
            return if told { Sent { ticket: permit.into_ticket(), outcome: Ok(()) } } else { unsent(permit, why) };
        }
        state.forward(*client, permit)
    }

    /// Who was asked under `state` is not to be asked.
    pub fn give_up(&self, state: &str) {
        if let Some((line, _)) = &self.joined
            && let Some(link) = &mut line.lock().link
        {
            link.give_up(state);
        }
    }

    fn is_stateless(&self) -> bool {
        self.joined.as_ref().is_some_and(|(line, _)| line.lock().stateless)
    }

    /// How long the server may be silent over one request.
    pub fn patience(&self) -> Option<Duration> {
        self.joined.as_ref()?.0.lock().link.as_ref()?.patience()
    }

    /// Joins the line of the revision that an `initialize` asks for; answers it, or has it answered.
    fn join(&mut self, permit: &Permit) -> Result<(), Failure> {
        let message = permit.message();
        let asked = message.params().and_then(|params| params.get("protocolVersion")?.as_str());
        let revision = asked.and_then(|name| Revision::parse(&name)).filter(|revision| revision.era() == Era::Legacy);
        let revision = revision.unwrap_or(Revision::V2025_11_25);
        let sharers = Sharers { caller: self.sharer.clone(), revision: Some(revision) };
        let line = self.shared.line(sharers, &self.schemas).map_err(|error| {
            warn!(%error, "the server cannot be started");
            Failure::unsent("the server cannot be started")
        })?;
        let id = permit.wire_id().cloned().ok_or_else(|| Failure::unsent("`initialize` without an id"))?;
        let ended = || Failure::unsent("the server has ended");
        let mut state = line.lock();
        let to_client = self.to_client.take().or_else(|| self.back.upgrade()).ok_or_else(ended)?;
        let client = state.add(to_client).ok_or_else(ended)?;
        match state.greeting.clone() {
            Some(greeting) => state.tell(client, &greeting, &id),
            None => state.waiting.push((client, id)),
        }
        drop(state);
        self.leave();
        self.joined = Some((line, client));
        Ok(())
    }

    fn leave(&mut self) {
        if let Some((line, client)) = self.joined.take() {
            line.lock().forget(client);
        }
    }
}

impl Drop for SharedLink {
    fn drop(&mut self) {
        self.leave();
    }
}

fn unsent(permit: Permit, why: &str) -> Sent {
    Sent { ticket: permit.into_ticket(), outcome: Err(Failure::unsent(why)) }
}

/// One line, and whom it carries.
struct Line(Mutex<State>);

struct State {
    /// None once the line has ended.
    link: Option<Link>,
    clients: HashMap<u64, mpsc::Sender<Inbound>>,
    /// By the number under which they went to the server.
    pending: HashMap<u64, Pending>,
    /// What the server has answered to `initialize`.
    greeting: Option<Message>,
    /// Whose `initialize` waits for that.
    waiting: Vec<(u64, Id)>,
    next: u64,
    /// Nothing more will come.
    ended: bool,
    /// Whether there is no handshake, and whoever calls names its requests in the stateless era's ways.
    stateless: bool,
}

/// A request of some session's.
struct Pending {
    client: u64,
    /// Under which its conversation waits for the reply.
    id: Id,
    token: Option<String>,
}

impl Line {
    /// Takes a line over and makes the handshake on it, where `revision` has one.
    fn open(mut link: Link, revision: Option<Revision>) -> io::Result<Arc<Line>> {
        link.share();
        if let Some(revision) = revision {
            let hello = mcp::initialize_params(revision);
            let text = format!(r#"{{"jsonrpc":"2.0","id":{GREETING},"method":"initialize","params":{hello}}}"#);
            let permit = Message::parse(text, Side::Client).ok().and_then(Permit::own).expect("our own `initialize` is one");
            link.send(permit).outcome.map_err(|failure| io::Error::other(failure.message))?;
        }
        let state = State {
            link: Some(link),
            clients: HashMap::new(),
            pending: HashMap::new(),
            greeting: None,
            waiting: Vec::new(),
            next: GREETING + 1,
            ended: false,
            stateless: revision.is_none(),
        };
        Ok(Arc::new(Line(Mutex::new(state))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// Takes on a session; gives its number, or `None` where the line has ended.
    fn add(&mut self, to_client: mpsc::Sender<Inbound>) -> Option<u64> {
        self.link.as_ref()?;
        let client = self.next_number();
        self.clients.insert(client, to_client);
        Some(client)
    }

    fn forward(&mut self, client: u64, permit: Permit) -> Sent {
        let number = self.next_number();
        let Some(id) = permit.wire_id().cloned() else { return unsent(permit, "a request without an id") };
        // Where a conversation has many clients, it has put its own number in the place of theirs.
        let token = permit.message().progress_token().map(|token| match self.stateless {
            true => id.text().to_owned(),
            false => token.raw().to_owned(),
        });
        let Some(link) = &mut self.link else { return unsent(permit, "the server has ended") };
        let sent = link.send(permit.renumbered(number, true).of_sharer(client));
        if sent.outcome.is_ok() {
            self.pending.insert(number, Pending { client, id, token });
        }
        self.pump();
        sent
    }

    /// Takes what has come over the line.
    fn receive(&mut self, arrived: Inbound) {
        let ready = self.link.as_mut().and_then(|link| link.receive(arrived));
        self.ended |= ready.is_some_and(|ready| !self.take(ready));
    }

    /// Takes what is ready without having come just now; false when the line has ended.
    fn pump(&mut self) -> bool {
        while let Some(ready) = self.link.as_mut().and_then(Link::ready) {
            self.ended |= !self.take(ready);
        }
        !self.ended
    }

    fn tick(&mut self) {
        if let Some(link) = &mut self.link {
            link.tick();
        }
    }

    /// Takes one thing to whom it is for; false when nothing can come after it.
    fn take(&mut self, arrived: Inbound) -> bool {
        match arrived {
            Inbound::Message(message) => self.arrive(message),
            Inbound::Failed { id, failure } => self.fail(&id, failure),
            Inbound::Beside { id, message } => {
                let pending = number_of(&id).and_then(|number| self.pending.get(&number));
                if let Some((client, id)) = pending.map(|pending| (pending.client, pending.id.clone())) {
                    self.give(client, Inbound::Beside { id, message });
                }
                true
            }
            // Only a bridge has several lines, and it has taken this in itself.
            Inbound::Of { .. } => true,
            Inbound::Closed => false,
        }
    }

    /// Takes one message of the server's; false when nothing can come after it.
    fn arrive(&mut self, message: Message) -> bool {
        match message.kind() {
            Kind::Response { .. } => {
                let number = message.id().and_then(number_of);
                if number == Some(GREETING) && self.greeting.is_none() {
                    return self.greet(message);
                }
                match number.and_then(|number| self.pending.remove(&number)) {
                    Some(Pending { client, id, .. }) => self.tell(client, &message, &id),
                    None => warn!("dropped a reply to nothing that was asked"),
                }
            }
            Kind::Request => {
                let Some(id) = message.id() else { return true };
                let answer = match message.method() {
                    Some("ping") => mcp::reply::result(id, "{}"),
                    _ => {
                        let why = "several clients share this connection, and none of them is asked";
                        mcp::reply::error(Some(id), mcp::reply::METHOD_NOT_FOUND, why, None)
                    }
                };
                self.say(answer, Permit::answer);
            }
            Kind::Notification => self.notice(&message),
        }
        true
    }

    fn notice(&mut self, message: &Message) {
        if self.stateless
            && let Some(named) = message.subscription_id().or_else(|| message.cancelled_id())
        {
            let pending = Id::of(named).ok().and_then(|id| self.pending.get(&number_of(&id)?));
            let Some(Pending { client, id, .. }) = pending else {
                return debug!(method = message.method(), "dropped a notification about no request");
            };
            return self.give_edited(*client, message.edit().replace(named.span(), id.text().to_owned()).finish());
        }
        if FOR_ALL.contains(&message.method().unwrap_or_default()) {
            let clients: Vec<_> = self.clients.keys().copied().collect();
            clients.into_iter().for_each(|client| self.give(client, Inbound::Message(message.clone())));
            return;
        }
        let token = message.progress_token();
        let pending = token.and_then(|token| self.pending.get(&number_of(&Id::of(token).ok()?)?));
        let Some((token, Pending { client, token: Some(original), .. })) = token.zip(pending) else {
            return debug!(method = message.method(), "dropped a notification that is for nobody");
        };
        self.give_edited(*client, message.edit().replace(token.span(), original.clone()).finish());
    }

    fn give_edited(&mut self, client: u64, text: Bytes) {
        if let Ok(message) = Message::parse(text, Side::Server) {
            self.give(client, Inbound::Message(message));
        }
    }

    /// Takes the server's answer to our `initialize`; false where there is none to speak of.
    fn greet(&mut self, message: Message) -> bool {
        let is_agreed = message.result().is_some();
        let greeting = if is_agreed { without_what_is_not_shared(&message) } else { Some(message) };
        let Some(greeting) = greeting else { return false };
        for (client, id) in std::mem::take(&mut self.waiting) {
            self.tell(client, &greeting, &id);
        }
        if is_agreed {
            self.greeting = Some(greeting);
            self.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.into(), Permit::own);
        }
        is_agreed
    }

    /// Tells whoever waits for a reply that there will be none; false when that was the handshake.
    fn fail(&mut self, id: &Id, failure: Failure) -> bool {
        let number = number_of(id);
        if number == Some(GREETING) && self.greeting.is_none() {
            for (client, id) in std::mem::take(&mut self.waiting) {
                self.give(client, Inbound::Failed { id, failure: failure.clone() });
            }
            return false;
        }
        if let Some(Pending { client, id, .. }) = number.and_then(|number| self.pending.remove(&number)) {
            self.give(client, Inbound::Failed { id, failure });
        }
        true
    }

    /// Tells the server that a session does not wait for a request any more.
    fn cancel(&mut self, client: u64, id: &Id) {
        let found = self.pending.iter().find(|(_, pending)| pending.client == client && pending.id == *id);
        let Some(number) = found.map(|(number, _)| *number) else { return };
        self.pending.remove(&number);
        // 2026-07-28, streamable HTTP: closing the stream is the cancellation, and the only one.
        if self.stateless && self.link.as_mut().is_some_and(|link| link.abandon(&Id::from(number))) {
            return;
        }
        let notice = format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number}}}}}"#);
        self.say(notice.into(), Permit::own);
    }

    /// Forgets a session; what it has asked for is cancelled.
    fn forget(&mut self, client: u64) {
        self.clients.remove(&client);
        self.waiting.retain(|(waiting, _)| *waiting != client);
        let ids: Vec<_> = self.pending.values().filter(|pending| pending.client == client).map(|p| p.id.clone()).collect();
        ids.iter().for_each(|id| self.cancel(client, id));
    }

    fn say(&mut self, text: Bytes, permit: fn(Message) -> Option<Permit>) {
        let permit = Message::parse(text, Side::Client).ok().and_then(permit);
        if let Some((link, permit)) = self.link.as_mut().zip(permit) {
            link.send(permit);
        }
    }

    fn tell(&mut self, client: u64, reply: &Message, id: &Id) {
        match Message::parse(reply.with_id(id), Side::Server) {
            Ok(reply) => self.give(client, Inbound::Message(reply)),
            Err(_) => self.give(client, Inbound::Failed { id: id.clone(), failure: Failure::lost("the answer cannot be read") }),
        }
    }

    fn give(&mut self, client: u64, inbound: Inbound) {
        let Some(to_client) = self.clients.get(&client) else { return };
        if to_client.try_send(inbound).is_err() {
            warn!("closed a session that does not take what the server says");
            self.clients.remove(&client);
        }
    }
}

fn number_of(id: &Id) -> Option<u64> {
    id.text().parse().ok()
}

/// A server's `initialize` result that offers nothing of what several sessions cannot share.
fn without_what_is_not_shared(greeting: &Message) -> Option<Message> {
    let mut edit = greeting.edit();
    let capabilities = greeting.result().and_then(|result| result.get("capabilities"));
    let of = |key: &str| capabilities.and_then(|capabilities| capabilities.get(key));
    if let Some(span) = capabilities.and_then(|capabilities| span_of(capabilities, "logging")) {
        edit = edit.remove(span);
    }
    if let Some(span) = of("resources").and_then(|resources| span_of(resources, "subscribe")) {
        edit = edit.remove(span);
    }
    if let Some(span) = of("tasks").and_then(|tasks| span_of(tasks, "list")) {
        edit = edit.remove(span);
    }
    Message::parse(edit.finish(), Side::Server).ok()
}

/// Where a member stands in its object, with the comma that goes with it.
fn span_of(object: Value<'_>, key: &str) -> Option<std::ops::Range<usize>> {
    let members: Vec<_> = object.members()?.collect();
    let at = members.iter().position(|member| member.key == key)?;
    let (start, end) = (members[at].key_span.start, members[at].value.span().end);
    Some(match (members.get(at + 1), at.checked_sub(1)) {
        (Some(next), _) => start..next.key_span.start,
        (None, Some(before)) => members[before].value.span().end..end,
        (None, None) => start..end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shared_is_not_offered() {
        let check = |capabilities: &str, expected: &str| {
            let text = |capabilities: &str| {
                format!(r#"{{"jsonrpc":"2.0","id":0,"result":{{"protocolVersion":"2025-11-25","capabilities":{capabilities}}}}}"#)
            };
            let greeting = Message::parse(text(capabilities), Side::Server).unwrap();
            assert_eq!(without_what_is_not_shared(&greeting).unwrap().text(), &text(expected));
        };
        check(r#"{"tools":{"listChanged":true}}"#, r#"{"tools":{"listChanged":true}}"#);
        check(r#"{"logging":{}}"#, "{}");
        check(r#"{"logging":{},"tools":{}}"#, r#"{"tools":{}}"#);
        check(r#"{"tools":{}, "logging":{} }"#, r#"{"tools":{} }"#);
        check(
            r#"{"resources":{"subscribe":true,"listChanged":true},"logging":{},"tasks":{"cancel":{},"list":{}}}"#,
            r#"{"resources":{"listChanged":true},"tasks":{"cancel":{}}}"#,
        );
    }
}
