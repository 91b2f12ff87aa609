//! A line whose two ends may speak different eras.
//!
//! On first need it finds out whether the server speaks the client's era. If so it takes itself out, and all passes as
//! without it. If not, a translator stands between ([`mcp::bridge`]): permits go in, permits come out, and of a call the tool
//! and the arguments are held against what was judged ([`Permit::bridged`]). Nothing here judges, charges or records.
//!
//! A legacy server that is shared may ask something that nobody can tell whose call it is for. So a modern client that can be
//! asked gets a line to itself for the time of its request, retries included; the common line never asks anybody anything, and
//! tells nobody what the server logs. A line on which a request was given up is nobody's any more: what the server says there
//! may still be about that request.

mod opening;
#[cfg(test)]
mod tests;

use crate::enforcer::Permit;
use crate::tools::{Schemas, own_id};
use crate::upstream::eras::Eras;
use crate::upstream::{Failure, Inbound, Link, Upstream};
use bytes::Bytes;
use mcp::bridge::{Client, Step, ToLegacy, ToModern, may_ask_back};
use mcp::{Era, Id, Kind, Message, Side};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Lines of their own that callers of one server may have at once, where each is a child.
const MAX_CHILDREN: usize = 8;
/// The same over HTTP, where each is a session.
const MAX_SESSIONS: usize = 64;
/// Requests that wait for a line, or for a line to be ready.
const MAX_HELD: usize = 256;
/// A line of its own that nobody has used for so long is closed.
const IDLE: Duration = Duration::from_secs(5 * 60);
/// One that nobody may use any more is closed so long after the server was told why.
const HEARING: Duration = Duration::from_secs(1);
/// A server that says nothing to `server/discover` for so long is asked for a sign of life beside it, …
const SILENCE: Duration = Duration::from_secs(3);
/// … and so long after that it is taken for one that does not know the question.
const AFTER_SIGN: Duration = Duration::from_secs(1);
/// Servers take up to 30 s to start on a small machine; twice that.
const PATIENCE: Duration = Duration::from_secs(60);

/// A line to a server of either era, for a client of either era.
pub(crate) struct Bridged {
    upstream: Upstream,
    schemas: Schemas,
    eras: Arc<Eras>,
    /// Whether the clients are many: then the common line asks none of them anything.
    shared: bool,
    arrivals: mpsc::Sender<Inbound>,
    main: Line,
    /// Lines that one caller has to itself at a time.
    own: BTreeMap<u32, Line>,
    /// Which of those a request of the client's is on.
    routes: HashMap<Id, u32>,
    /// Requests that wait for a line of their own, and since when.
    waiting: VecDeque<(Instant, Permit)>,
    /// For the client, in order.
    ready: VecDeque<Inbound>,
    began: Instant,
    next: u32,
    /// Held by each line of a caller's own that is being closed: until then it has a place among the children.
    closing: Arc<()>,
}

struct Line {
    link: Link,
    mode: Mode,
    /// What cannot be sent yet.
    held: VecDeque<Permit>,
    /// Of requests that may have to be sent once more, with answers.
    permits: HashMap<Id, Permit>,
    /// What the server was told of the client, where the line is one of a caller's own.
    client: Option<Client>,
    /// Whose it is, of those who share the common line: what the server says late is for nobody else.
    sharer: Option<u64>,
    used: Instant,
}

enum Mode {
    /// Nobody knows the server's era yet.
    Unknown,
    /// A request of the client's own will show it; it is kept, should the other era have to take it.
    Watching(Box<Permit>),
    /// The server was asked for its era. `refused`: what it has answered to the client's own era before.
    Probing {
        id: Id,
        since: Instant,
        sign: Sign,
        client: Era,
        refused: Option<Inbound>,
    },
    Plain,
    Legacy {
        translator: Box<ToLegacy>,
        refused: Option<Inbound>,
    },
    Modern(Box<ToModern>),
}

/// A sign of life that a silent server was asked for.
enum Sign {
    None,
    Asked(Id),
    Given(Instant),
}

impl Sign {
    fn is_asked(&self, answered: Option<&Id>) -> bool {
        matches!(self, Sign::Asked(id) if answered == Some(id))
    }
}

impl Bridged {
    /// Stands before `link`, a line to `upstream`, for one client of either era; what comes over it goes to `arrivals`.
    pub fn new(link: Link, upstream: &Upstream, eras: &Arc<Eras>, schemas: &Schemas, arrivals: mpsc::Sender<Inbound>) -> Bridged {
        Bridged {
            upstream: upstream.clone(),
            schemas: schemas.clone(),
            eras: eras.clone(),
            shared: false,
            arrivals,
            main: Line::new(link, None, None),
            own: BTreeMap::new(),
            routes: HashMap::new(),
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            began: Instant::now(),
            next: 0,
            closing: Arc::default(),
        }
    }

    /// The clients are many: the common line asks none of them anything.
    pub fn share(&mut self) {
        self.shared = true;
    }

    /// Whether both ends speak one era: the line itself is then all there is.
    pub fn is_plain(&self) -> bool {
        matches!(self.main.mode, Mode::Plain) && self.ready.is_empty() && self.main.held.is_empty() && self.own.is_empty()
    }

    /// The line itself.
    pub fn into_plain(self) -> Link {
        self.main.link
    }

    /// How long the server may be silent over one request, where the line does not see to that itself.
    pub fn patience(&self) -> Option<Duration> {
        self.main.link.patience()
    }

    /// Closes the exchange of a request, where it has one of its own and nothing stands between.
    pub fn abandon(&mut self, id: &Id) -> bool {
        self.stop_watching(id);
        match self.main.mode {
            Mode::Plain | Mode::Unknown | Mode::Watching(_) => self.main.link.abandon(id),
            Mode::Probing { .. } | Mode::Legacy { .. } | Mode::Modern(_) => false,
        }
    }

    /// What has arrived for the client, and was not read off the line.
    pub fn ready(&mut self) -> Option<Inbound> {
        self.ready.pop_front()
    }

    /// Ends all lines; gives the exit status of the first.
    pub async fn shut_down(self, patience: Duration) -> io::Result<u8> {
        let own = self.own.into_values().map(|line| line.link.shut_down(patience));
        let (first, _) =
            futures_util::future::join(Box::pin(self.main.link.shut_down(patience)), futures_util::future::join_all(own)).await;
        first
    }

    /// Takes what the client sends. Its ticket has been taken; failures arrive as [`Inbound::Failed`].
    pub fn send(&mut self, permit: Permit) {
        let cancelled = permit.message().cancelled_id().and_then(|id| Id::of(id).ok());
        let number = match self.line_for(&permit) {
            Ok(number) => number,
            Err(NoLine) if self.waiting.len() < MAX_HELD && (!self.own.is_empty() || self.is_closing()) => {
                return self.waiting.push_back((Instant::now(), permit));
            }
            Err(NoLine) => {
                let failure = Failure::unsent("there is no line to the server that this call could have to itself");
                return self.fail(permit.wire_id().cloned(), failure);
            }
        };
        self.send_on(number, permit);
        if let Some(id) = cancelled {
            // A server need not answer what was cancelled: nothing else would take it out.
            self.stop_watching(&id);
            self.forget(number, &id);
        }
    }

    /// Whoever gives up the request that was to show the server's era leaves that to the next one: a server need not answer
    /// what was cancelled.
    fn stop_watching(&mut self, cancelled: &Id) {
        if matches!(&self.main.mode, Mode::Watching(kept) if kept.wire_id() == Some(cancelled)) {
            self.main.mode = Mode::Unknown;
        }
    }

    /// Forgets a request that is over for the client.
    fn forget(&mut self, number: u32, id: &Id) {
        self.routes.remove(id);
        if let Some(line) = self.line(number) {
            line.permits.remove(id);
        }
    }

    /// Gives up a request of whose client nothing may be asked: the server goes on waiting else.
    pub fn give_up(&mut self, state: &str) {
        let numbers: Vec<_> = std::iter::once(0).chain(self.own.keys().copied()).collect();
        for number in numbers {
            let steps = self.line(number).map(|line| match &mut line.mode {
                Mode::Legacy { translator, .. } => translator.give_up_state(state),
                _ => Vec::new(),
            });
            self.take(number, steps.unwrap_or_default(), None);
        }
    }

    fn fail(&mut self, id: Option<Id>, failure: Failure) {
        self.ready.extend(id.map(|id| Inbound::Failed { id, failure }));
    }

    // ------------------------------------------------------------ which line

    /// The line for a message; 0 is the common one.
    fn line_for(&mut self, permit: &Permit) -> Result<u32, NoLine> {
        let message = permit.message();
        if !self.shared || !matches!(self.main.mode, Mode::Legacy { .. }) {
            return Ok(0);
        }
        if let Some(id) = message.cancelled_id().and_then(|id| Id::of(id).ok()) {
            self.waiting.retain(|(_, waiting)| waiting.wire_id() != Some(&id));
            return Ok(self.routes.get(&id).copied().unwrap_or(0));
        }
        if message.kind() != Kind::Request || !may_ask_back(message.method().unwrap_or_default()) {
            return Ok(0);
        }
        if let Some(state) = message.params().and_then(|params| params.get("requestState")?.as_str()) {
            return Ok(self.own.iter().find(|(_, line)| line.knows(&state)).map_or(0, |(line, _)| *line));
        }
        let Some(client) = Client::of(message) else { return Ok(0) };
        if client.capabilities == Client::unable().capabilities && message.log_level().is_none() {
            return Ok(0);
        }
        self.own_line(client, permit.sharer())
    }

    /// A line that nobody uses now, to a server that has been told of such a client, and of this caller's.
    fn own_line(&mut self, client: Client, sharer: Option<u64>) -> Result<u32, NoLine> {
        let free = self.own.iter().filter(|(_, line)| line.is_idle() && !line.is_spent());
        // The one that was used last: a server that keeps something in its session finds it there again.
        let fits = |line: &Line| line.client.as_ref() == Some(&client) && line.sharer == sharer;
        let fitting = free.filter(|(_, line)| fits(line)).max_by_key(|(_, line)| line.used);
        if let Some((number, _)) = fitting {
            return Ok(*number);
        }
        let most = if self.upstream.is_http() { MAX_SESSIONS } else { MAX_CHILDREN };
        if self.own.len() >= most && !self.give_way() {
            return Err(NoLine);
        }
        let (to_us, mut theirs) = mpsc::channel(32);
        let link = match self.upstream.open(&self.schemas, to_us) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
                // One at a time: its place is free only once its child has ended, and then whoever waits asks again.
                if !self.is_closing() {
                    self.give_way();
                }
                return Err(NoLine);
            }
            Err(error) => {
                warn!(%error, "a line of a caller's own cannot be opened");
                return Err(NoLine);
            }
        };
        self.next += 1;
        let (number, arrivals) = (self.next, self.arrivals.clone());
        tokio::spawn(async move {
            while let Some(arrived) = theirs.recv().await {
                if arrivals.send(Inbound::Of { line: number, arrived: Box::new(arrived) }).await.is_err() {
                    return;
                }
            }
        });
        self.own.insert(number, Line::new(link, Some(client.clone()), sharer));
        self.begin_legacy(number, client, None);
        Ok(number)
    }

    /// Closes a line that nobody uses now, if there is one. A client that was asked something and does not come back must not
    /// keep all others out.
    fn give_way(&mut self) -> bool {
        let unused = self.own.iter().filter(|(_, line)| line.is_idle() || line.is_parked());
        let oldest = unused.min_by_key(|(_, line)| (!line.is_idle(), line.used)).map(|(at, _)| *at);
        oldest.map(|oldest| self.close(oldest)).is_some()
    }

    fn is_closing(&self) -> bool {
        Arc::strong_count(&self.closing) > 1
    }

    fn close(&mut self, number: u32) {
        let Some(line) = self.own.remove(&number) else { return };
        let on_it: Vec<_> = self.routes.iter().filter(|(_, on)| **on == number).map(|(id, _)| id.clone()).collect();
        for id in on_it {
            self.routes.remove(&id);
            self.fail(Some(id), Failure::lost("the server has ended before it answered"));
        }
        let (closing, arrivals) = (self.closing.clone(), self.arrivals.clone());
        tokio::spawn(async move {
            let _ = line.link.shut_down(Duration::from_millis(500)).await;
            drop(closing);
            // So that whoever waits for its place asks for it now.
            let _ = arrivals.send(Inbound::Of { line: number, arrived: Box::new(Inbound::Closed) }).await;
        });
    }

    fn line(&mut self, number: u32) -> Option<&mut Line> {
        if number == 0 { Some(&mut self.main) } else { self.own.get_mut(&number) }
    }

    // ------------------------------------------------------------ towards the server

    fn send_on(&mut self, number: u32, permit: Permit) {
        let now = self.now();
        if number != 0
            && let Some(id) = permit.wire_id().filter(|_| permit.message().kind() == Kind::Request)
        {
            self.routes.insert(id.clone(), number);
        }
        let Some(line) = self.line(number) else { return };
        line.used = Instant::now();
        let must_wait = match &line.mode {
            Mode::Probing { .. } => true,
            Mode::Legacy { translator, .. } => !translator.is_ready(),
            Mode::Unknown | Mode::Watching(_) | Mode::Plain | Mode::Modern(_) => false,
        };
        if must_wait {
            return self.hold(number, permit);
        }
        let steps = match &mut line.mode {
            Mode::Unknown => return self.begin(permit),
            Mode::Legacy { translator, .. } => match Message::parse(permit.text().clone(), Side::Client) {
                Ok(message) => translator.client(&message, now),
                Err(_) => Vec::new(),
            },
            Mode::Modern(translator) => match Message::parse(permit.text().clone(), Side::Client) {
                Ok(message) => translator.client(&message),
                Err(_) => Vec::new(),
            },
            Mode::Plain | Mode::Watching(_) | Mode::Probing { .. } => return self.pass(number, permit),
        };
        self.take(number, steps, Some(permit));
    }

    fn hold(&mut self, number: u32, permit: Permit) {
        let cancelled = permit.message().cancelled_id().and_then(|id| Id::of(id).ok());
        let Some(line) = self.line(number) else { return };
        if let Some(cancelled) = cancelled {
            line.held.retain(|held| held.wire_id() != Some(&cancelled));
        } else if line.held.len() < MAX_HELD {
            line.held.push_back(permit);
        } else {
            self.fail(permit.wire_id().cloned(), Failure::unsent("too many calls wait for the server to start"));
        }
    }

    /// Sends a permit as it is.
    fn pass(&mut self, number: u32, permit: Permit) {
        let id = permit.wire_id().cloned();
        let Some(line) = self.line(number) else { return };
        if let Err(failure) = line.link.send(permit).outcome {
            self.fail(id, failure);
        }
    }

    /// Does what a translator wants done.
    fn take(&mut self, number: u32, steps: Vec<Step>, mut permit: Option<Permit>) {
        for step in steps {
            match step {
                Step::Forward(text) => {
                    let Some(permit) = permit.take() else { continue };
                    let is_sent = self.forward(number, permit.wire_id(), &permit, text);
                    let Some(line) = self.line(number).filter(|_| is_sent) else { continue };
                    if let (Mode::Modern(_), Some(id)) = (&line.mode, permit.wire_id().cloned()) {
                        line.permits.insert(id, permit);
                    }
                }
                Step::Again { id, text } => {
                    let kept = self.line(number).and_then(|line| line.permits.remove(&id));
                    let Some(kept) = kept else { continue };
                    let is_sent = self.forward(number, Some(&id), &kept, text);
                    if let Some(line) = self.line(number).filter(|_| is_sent) {
                        line.permits.insert(id, kept);
                    }
                }
                Step::Say(text) => self.say(number, text),
                Step::Close { id, text } => {
                    let closed = self.line(number).is_some_and(|line| line.link.abandon(&id));
                    if !closed {
                        self.say(number, text);
                    }
                }
                Step::Deliver(text) => self.deliver(number, text),
                Step::Beside { id, text } => {
                    if let Some(Inbound::Message(message)) = Inbound::read(text) {
                        self.ready.push_back(Inbound::Beside { id, message });
                    }
                }
            }
        }
    }

    /// Sends what a translator has made of a permit; says whether that went.
    fn forward(&mut self, number: u32, id: Option<&Id>, permit: &Permit, text: Bytes) -> bool {
        let now = self.now();
        let Some(line) = self.line(number) else { return false };
        let sent = match permit.bridged(text) {
            Some(permit) => line.link.send(permit).outcome,
            None => Err(Failure::unsent("this message cannot be put into the server's protocol revision")),
        };
        let Err(failure) = sent else { return true };
        let Some(id) = id else { return false };
        let steps = match &mut line.mode {
            Mode::Legacy { translator, .. } => {
                translator.unsent(id);
                Vec::new()
            }
            Mode::Modern(translator) => translator.fail(id, now).1,
            Mode::Unknown | Mode::Watching(_) | Mode::Probing { .. } | Mode::Plain => Vec::new(),
        };
        self.failed(number, Some(id.clone()), failure);
        self.take(number, steps, None);
        false
    }

    fn say(&mut self, number: u32, text: Bytes) {
        let permit = Message::parse(text, Side::Client).ok().and_then(|message| match message.kind() {
            Kind::Response { .. } => Permit::answer(message),
            Kind::Request | Kind::Notification => Permit::own(message),
        });
        match permit {
            Some(permit) => self.pass(number, permit),
            None => warn!("a message of the bridge's own is not one that may be sent"),
        }
    }

    fn deliver(&mut self, number: u32, text: Bytes) {
        let Some(arrived) = Inbound::read(text) else { return };
        if let Inbound::Message(message) = &arrived
            && let (Kind::Response { .. }, Some(id)) = (message.kind(), message.id())
        {
            self.forget(number, id);
        }
        self.ready.push_back(arrived);
    }

    // ------------------------------------------------------------ towards the client

    /// Takes what has arrived; what of it is for the client is then [`Bridged::ready`].
    pub fn receive(&mut self, arrived: Inbound) {
        match arrived {
            Inbound::Of { line, arrived } => self.arrive(line, *arrived),
            arrived => self.arrive(0, arrived),
        }
        self.send_waiting();
    }

    /// Sends what waits for lines of its own, as far as lines have become free.
    fn send_waiting(&mut self) {
        for _ in 0..self.waiting.len() {
            let Some((since, permit)) = self.waiting.pop_front() else { break };
            match self.line_for(&permit) {
                Ok(number) => self.send_on(number, permit),
                Err(NoLine) => {
                    self.waiting.push_front((since, permit));
                    break;
                }
            }
        }
    }

    /// Gives up what has waited for a line for as long as a server may be silent.
    fn give_up_waiting(&mut self) {
        let patience = self.upstream.patience();
        while let Some((_, late)) = self.waiting.pop_front_if(|(since, _)| since.elapsed() > patience) {
            self.fail(late.wire_id().cloned(), Failure::unsent("no line to the server has become free in time"));
        }
    }

    fn arrive(&mut self, number: u32, arrived: Inbound) {
        let now = self.now();
        if let Inbound::Closed = arrived {
            return self.closed(number);
        }
        let was_ready = self.is_ready(number);
        let Some(line) = self.line(number) else { return };
        let answered = match &arrived {
            Inbound::Message(message) if matches!(message.kind(), Kind::Response { .. }) => message.id(),
            Inbound::Failed { id, .. } => Some(id),
            _ => None,
        };
        let steps = match (&mut line.mode, &arrived) {
            (Mode::Watching(kept), _) if answered.is_some() && answered == kept.wire_id() => return self.watched(arrived),
            (Mode::Probing { id, .. }, _) if answered == Some(id) => return self.probed(&arrived),
            (Mode::Probing { sign, .. }, _) if sign.is_asked(answered) => {
                *sign = Sign::Given(Instant::now());
                return;
            }
            (Mode::Legacy { translator, .. }, Inbound::Message(message)) => translator.server(message, now),
            (Mode::Modern(translator), Inbound::Message(message)) => translator.server(message, now),
            (Mode::Legacy { translator, .. }, Inbound::Failed { id, failure }) => {
                if translator.is_handshake(id) {
                    return self.no_session(number, failure.clone());
                }
                let (client, steps) = translator.fail(id, &failure.told());
                self.failed(number, client, failure.clone());
                steps
            }
            (Mode::Modern(translator), Inbound::Failed { id, failure }) => {
                let (client, steps) = translator.fail(id, now);
                self.failed(number, client, failure.clone());
                steps
            }
            _ => return self.ready.push_back(arrived),
        };
        self.take(number, steps, None);
        self.after_handshake(number, was_ready);
    }

    fn failed(&mut self, number: u32, id: Option<Id>, failure: Failure) {
        let Some(id) = id else { return };
        self.forget(number, &id);
        self.fail(Some(id), failure);
    }

    fn is_ready(&mut self, number: u32) -> bool {
        self.line(number).is_some_and(|line| matches!(&line.mode, Mode::Legacy { translator, .. } if translator.is_ready()))
    }

    fn after_handshake(&mut self, number: u32, was_ready: bool) {
        if !was_ready && self.is_ready(number) {
            if number == 0 {
                info!("bridging a client without a handshake to a server with one");
                self.eras.learn(Era::Modern, false);
                self.eras.learn(Era::Legacy, true);
            }
            return self.release(number);
        }
        let failure = self.line(number).and_then(|line| match &line.mode {
            Mode::Legacy { translator, .. } => translator.failure().map(Failure::unsent),
            _ => None,
        });
        if let Some(failure) = failure {
            self.no_session(number, failure);
        }
    }

    /// The handshake with a legacy server has failed.
    fn no_session(&mut self, number: u32, failure: Failure) {
        self.eras.forget();
        let failure = Failure { may_have_run: false, ..failure };
        if number != 0 {
            let held = self.line(number).map(|line| std::mem::take(&mut line.held)).unwrap_or_default();
            for permit in held {
                let id = permit.wire_id().cloned();
                self.failed(number, id, failure.clone());
            }
            return self.close(number);
        }
        if let Mode::Legacy { refused, .. } = std::mem::replace(&mut self.main.mode, Mode::Unknown) {
            self.refuse_held(refused, failure);
        }
    }

    fn closed(&mut self, number: u32) {
        if number != 0 {
            return self.close(number);
        }
        // Whatever is started in its place may speak another era.
        self.eras.forget();
        self.ready.push_back(Inbound::Closed);
    }

    /// Sees to what has waited too long.
    pub fn tick(&mut self) {
        let now = self.now();
        if let Mode::Probing { since, sign, .. } = &mut self.main.mode {
            let waited = since.elapsed();
            let silent = matches!(sign, Sign::Given(at) if at.elapsed() >= AFTER_SIGN);
            if matches!(sign, Sign::None) && waited >= SILENCE && !self.upstream.is_http() {
                let id = Id::from(own_id().as_str());
                *sign = Sign::Asked(id.clone());
                self.say(0, format!(r#"{{"jsonrpc":"2.0","id":{},"method":"ping"}}"#, id.text()).into());
            } else if silent || waited >= PATIENCE {
                self.unanswered(silent);
            }
        }
        for number in std::iter::once(0).chain(self.own.keys().copied()).collect::<Vec<_>>() {
            let steps = self.line(number).map(|line| match &mut line.mode {
                Mode::Legacy { translator, .. } => translator.tick(now),
                Mode::Modern(translator) => translator.tick(now),
                _ => Vec::new(),
            });
            self.take(number, steps.unwrap_or_default(), None);
        }
        let unused = self.own.iter().filter(|(_, line)| {
            let patience = if line.is_spent() { HEARING } else { IDLE };
            line.is_idle() && line.used.elapsed() > patience
        });
        for number in unused.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.close(number);
        }
        self.send_waiting();
        self.give_up_waiting();
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// All lines are taken, and there may be no further one.
struct NoLine;

impl Line {
    fn new(link: Link, client: Option<Client>, sharer: Option<u64>) -> Line {
        let (held, permits) = (VecDeque::new(), HashMap::new());
        Line { link, mode: Mode::Unknown, held, permits, client, sharer, used: Instant::now() }
    }

    fn knows(&self, state: &str) -> bool {
        matches!(&self.mode, Mode::Legacy { translator, .. } if translator.knows(state))
    }

    fn is_spent(&self) -> bool {
        matches!(&self.mode, Mode::Legacy { translator, .. } if translator.is_spent())
    }

    fn is_idle(&self) -> bool {
        self.held.is_empty() && matches!(&self.mode, Mode::Legacy { translator, .. } if translator.is_idle())
    }

    /// Whether all that is under way waits for its client to come back.
    fn is_parked(&self) -> bool {
        self.held.is_empty()
            && matches!(&self.mode, Mode::Legacy { translator, .. } if translator.is_ready() && translator.is_parked())
    }
}
