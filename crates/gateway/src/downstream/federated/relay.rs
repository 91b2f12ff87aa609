//! What is learnt of an answer on its way to the client: whose tasks and resources it speaks of.

use crate::sink::{Relay, Sink};
use bytes::Bytes;
use mcp::federation::{Claims, Whose, mentioned};
use mcp::{Message, Side};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// More tasks than this are not remembered; of one that is not, nobody is asked.
const MAX_TASKS: usize = 50_000;

/// To which server belongs what a client has been told of.
#[derive(Default)]
pub(super) struct Known(Mutex<Owned>);

#[derive(Default)]
struct Owned {
    claims: Claims,
    /// None for one that two servers have spoken of.
    tasks: HashMap<String, Option<Arc<str>>>,
}

impl Known {
    pub fn with_claims<T>(&self, use_them: impl FnOnce(&mut Claims) -> T) -> T {
        use_them(&mut self.lock().claims)
    }

    pub fn task(&self, id: &str) -> Whose {
        match self.lock().tasks.get(id) {
            None => Whose::Unknown,
            Some(None) => Whose::Disputed,
            Some(Some(server)) => Whose::Of(server.clone()),
        }
    }

    /// A server speaks of a task; says whether it is that server's alone.
    pub fn claim_task(&self, server: &Arc<str>, id: &str) -> bool {
        let mut owned = self.lock();
        let has_room = owned.tasks.len() < MAX_TASKS;
        match owned.tasks.get_mut(id) {
            Some(Some(owner)) if owner == server => true,
            Some(owner) => {
                *owner = None;
                false
            }
            None if has_room => {
                owned.tasks.insert(id.to_owned(), Some(server.clone()));
                true
            }
            None => false,
        }
    }

    /// Whether a notice of a server's speaks of nothing that is another's.
    pub fn is_own(&self, server: &Arc<str>, notice: &Message) -> bool {
        let named = |key: &str| notice.params()?.get(key)?.as_str();
        match notice.method() {
            Some("notifications/tasks" | "notifications/tasks/status") => {
                named("taskId").is_some_and(|task| self.claim_task(server, &task))
            }
            Some("notifications/resources/updated") => named("uri").is_some_and(|uri| {
                let whose = self.with_claims(|claims| claims.resource(&uri));
                whose == Whose::Unknown || whose == Whose::Of(server.clone())
            }),
            _ => true,
        }
    }

    /// Learns from an answer of a server's.
    fn learn(&self, server: &Arc<str>, body: &Bytes) {
        // Few results have either, and some are long.
        let may_link = memchr::memmem::find(body, b"\"resource").is_some();
        if !may_link && memchr::memmem::find(body, b"\"taskId\"").is_none() {
            return;
        }
        let Ok(reply) = Message::parse(body.clone(), Side::Server) else { return };
        if let Some(task) = mcp::created_task(&reply) {
            self.claim_task(server, &task);
        }
        if may_link {
            let mut owned = self.lock();
            mentioned(&reply).iter().for_each(|uri| owned.claims.mention(server, uri));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Owned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is done when an exchange is over.
type After = Box<dyn FnOnce() + Send>;

/// One exchange with one server.
pub(super) struct Observed {
    sink: Sink,
    server: Arc<str>,
    known: Arc<Known>,
    after: Mutex<Option<After>>,
}

impl Observed {
    /// The sink for a request to `server`; `after` is called once, when it was answered or never will be.
    pub fn sink(sink: Sink, server: &Arc<str>, known: &Arc<Known>, after: impl FnOnce() + Send + 'static) -> Sink {
        let after = Mutex::new(Some(Box::new(after) as After));
        Sink::Relay(Arc::new(Observed { sink, server: server.clone(), known: known.clone(), after }))
    }

    fn finish(&self) {
        let after = self.after.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(after) = after {
            after();
        }
    }
}

impl Relay for Observed {
    fn event(&self, message: Bytes) -> Option<(Sink, Bytes)> {
        Some((self.sink.clone(), message))
    }

    fn over(&self, body: Option<&Bytes>) -> Option<Sink> {
        if let Some(body) = body {
            self.known.learn(&self.server, body);
        }
        self.finish();
        Some(self.sink.clone())
    }

    fn is_closed(&self) -> bool {
        self.sink.is_closed()
    }

    fn is_exchange(&self) -> bool {
        self.sink.is_exchange()
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.finish();
    }
}
