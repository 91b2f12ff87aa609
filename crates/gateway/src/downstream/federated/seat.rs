//! A session's seat at one server: taken, lost, and taken again.
//!
//! The handshake on it is the client's own, under an id of ours. A seat that is lost is taken again, each time after a longer
//! pause; one that was closed because nobody used it is taken again when somebody does.

use super::gather::Line;
use super::member::Member;
use super::session::{Hearing, Session};
use crate::conversation::Command;
use crate::downstream::http::Body;
use crate::downstream::sessions;
use crate::sink::Sink;
use crate::tools::own_id;
use crate::upstream::{is_for_caller, jittered};
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use mcp::federation::{Greeting, ListKind};
use mcp::{Id, Message, Side};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long a server may take to answer `initialize`: the slowest take 30 s to start.
const STARTING: Duration = Duration::from_secs(60);
/// A seat that was kept for so long was a good one: the next pause is the first again.
const HEALTHY: Duration = Duration::from_secs(60);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Where a session stands with one server.
#[derive(Clone)]
enum Place {
    /// The handshake is under way.
    Starting,
    Taken(sessions::Session),
    /// The server cannot be reached; why. It is tried again by itself.
    Away(String),
    /// Closed because nobody has used it.
    Asleep,
}

pub(super) struct Seat {
    pub member: Arc<Member>,
    place: watch::Sender<Place>,
    wake: Notify,
    stop: CancellationToken,
    /// Lists that were given to the client without this server.
    missed: Mutex<HashSet<ListKind>>,
}

impl Seat {
    pub fn new(member: Arc<Member>, stop: CancellationToken) -> Arc<Seat> {
        let place = watch::Sender::new(Place::Starting);
        Arc::new(Seat { member, place, wake: Notify::new(), stop, missed: Mutex::default() })
    }

    /// Gives it up for good.
    pub fn close(&self) {
        self.stop.cancel();
    }

    /// The session at the server, if there is one now.
    pub fn now(&self) -> Option<sessions::Session> {
        match &*self.place.borrow() {
            Place::Taken(taken) if !taken.commands.is_closed() => Some(taken.clone()),
            Place::Taken(_) | Place::Starting | Place::Away(_) | Place::Asleep => None,
        }
    }

    /// The session at the server. One that starts is waited for, for at most `patience`; else says why there is none.
    pub async fn taken(&self, patience: Duration) -> Result<sessions::Session, String> {
        // It is nearly always there.
        if let Some(taken) = self.now() {
            return Ok(taken);
        }
        let (mut changes, mut has_woken) = (self.place.subscribe(), false);
        let found = tokio::time::timeout(patience, async {
            loop {
                let place = changes.borrow_and_update().clone();
                match place {
                    Place::Taken(taken) if !taken.commands.is_closed() => return Ok(taken),
                    Place::Taken(_) => return Err("it has ended".to_owned()),
                    // The caller may have authorised it just now: it is tried again at once, and once.
                    Place::Away(why) if is_for_caller(&why) && !has_woken => {
                        has_woken = true;
                        self.wake.notify_one();
                    }
                    Place::Away(why) => return Err(why),
                    Place::Asleep => self.wake.notify_one(),
                    Place::Starting => {}
                }
                if changes.changed().await.is_err() {
                    return Err("it has ended".to_owned());
                }
            }
        });
        found.await.unwrap_or_else(|_| Err("it does not answer".to_owned()))
    }

    /// Waits until it is known whether the server can be reached.
    pub async fn settled(&self) {
        let mut changes = self.place.subscribe();
        let _ = changes.wait_for(|place| !matches!(place, Place::Starting)).await;
    }

    /// A list has been given without this server.
    pub fn missed(&self, kind: ListKind) {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).insert(kind);
    }

    /// The lists that the client should ask for again.
    pub fn take_missed(&self) -> HashSet<ListKind> {
        std::mem::take(&mut self.missed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps the seat for as long as the session lasts.
    pub async fn keep(self: Arc<Seat>, session: Arc<Session>) {
        let over = self.member.sessions.enforcer.end_of(session.caller());
        tokio::select! {
            () = self.keep_on(&session) => {}
            () = self.stop.cancelled() => {}
            // The grant is over, at every server.
            () = over => session.close(),
        }
        // Whoever still waits for it waits no longer.
        self.place.send_replace(Place::Away("it is not offered any more".to_owned()));
    }

    async fn keep_on(&self, session: &Arc<Session>) {
        let mut pause = Pause::new(session.patience().again);
        let mut was_taken = false;
        loop {
            let kept = self.keep_once(session, &mut was_taken, &mut pause).await;
            match kept {
                Kept::Evicted => {
                    self.place.send_replace(Place::Asleep);
                    self.wake.notified().await;
                }
                Kept::Lost(why) => {
                    self.member.is_away(&why);
                    // What a caller has yet to authorise costs little to try again.
                    let is_for_caller = is_for_caller(&why);
                    let pause = if is_for_caller { session.patience().again } else { pause.next() };
                    self.place.send_replace(Place::Away(why));
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.wake.notified(), if is_for_caller => {}
                    }
                }
            }
            self.place.send_replace(Place::Starting);
        }
    }

    /// Takes the seat, and says how it was lost.
    async fn keep_once(&self, session: &Arc<Session>, was_taken: &mut bool, pause: &mut Pause) -> Kept {
        let (held, ended) = match self.take(session).await {
            Ok(taken) => taken,
            Err(why) => return Kept::Lost(why),
        };
        self.member.is_well();
        self.place.send_replace(Place::Taken(held.session.clone()));
        session.seated(self, std::mem::replace(was_taken, true)).await;
        let since = Instant::now();
        ended.cancelled().await;
        if since.elapsed() >= HEALTHY {
            pause.reset();
        }
        // The server's own sessions make room when there are too many.
        if held.session.stop.is_cancelled() { Kept::Evicted } else { Kept::Lost("it has ended; it is started again".to_owned()) }
    }

    async fn take(&self, session: &Arc<Session>) -> Result<(Held, CancellationToken), String> {
        let begun = self.member.sessions.begin_seat(session.caller()).await;
        let (secret, begun) = match begun {
            Ok(begun) => begun,
            Err(response) => return Err(reason_of(*response).await),
        };
        let held = Held { member: self.member.clone(), secret, session: begun };
        let (listener, over) = Hearing::sink(session, &self.member);
        let ended = || "it has ended before it has answered".to_owned();
        held.session.commands.send(Command::Attach(listener)).await.map_err(|_| ended())?;
        let initialize = session.initialize().with_id(&Id::from(&*own_id()));
        let initialize = Message::parse(initialize, Side::Client).map_err(|malformed| malformed.message)?;
        let line = Line { session: held.session.clone(), exchange: 0 };
        let reply = tokio::time::timeout(STARTING, line.ask(initialize)).await;
        let reply = reply.map_err(|_| "it does not answer".to_owned())?.ok_or_else(ended)?;
        if let Some(error) = reply.error() {
            let why = error.get("message").and_then(|message| message.as_str()).unwrap_or_default();
            return Err(why.into_owned());
        }
        match Greeting::of(&self.member.name, reply) {
            Some(greeting) => self.member.has_greeted(greeting),
            None => return Err("it has answered `initialize` with something else".to_owned()),
        }
        tell(&held.session, Bytes::from_static(INITIALIZED)).await;
        Ok((held, over))
    }
}

/// Sends a notice or a question whose answer nobody waits for.
pub(super) async fn tell(session: &sessions::Session, text: Bytes) {
    let Ok(message) = Message::parse(text, Side::Client) else { return };
    let (nobody, _) = mpsc::channel(1);
    let _ = session.commands.send(Command::Message { message, sink: Sink::Exchange(nobody), exchange: 0, passed: None }).await;
}

const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// How a seat was lost.
enum Kept {
    /// It was not used.
    Evicted,
    Lost(String),
}

/// A seat that is given back however it ends.
struct Held {
    member: Arc<Member>,
    secret: String,
    session: sessions::Session,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.member.sessions.end(&self.session);
        self.member.sessions.forget(&self.secret);
    }
}

/// What an error response says.
pub(super) async fn reason_of(response: Response<Body>) -> String {
    let Ok(body) = response.into_body().collect().await;
    let said = Message::parse(body.to_bytes(), Side::Server).ok();
    let why = said.as_ref().and_then(|said| said.error()?.get("message")?.as_str());
    why.map_or_else(|| "it cannot be started".to_owned(), |why| why.into_owned())
}

/// Ever longer pauses, none of which is quite as long as another's.
pub(super) struct Pause {
    first: Duration,
    next: Duration,
}

impl Pause {
    pub fn new(first: Duration) -> Pause {
        Pause { first, next: first }
    }

    /// Between three and five quarters of twice the one before.
    pub fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        jittered(pause)
    }

    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_begin_again() {
        let mut pause = Pause::new(Duration::from_secs(1));
        let pauses: Vec<_> = (0..10).map(|_| pause.next().as_secs_f64()).collect();
        for (pause, expected) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]) {
            assert!((expected * 0.75..=expected * 1.25).contains(pause), "{pauses:?}");
        }
        pause.reset();
        assert!(pause.next() <= Duration::from_millis(1250));
    }
}
