//! How a line begins: which era the server speaks, and what waits until that is known.
//!
//! What shows it is the client's own beginning where it has one (`initialize`, `server/discover`), which goes to the server
//! as it is; else a question of ours. What the server has said to the client's era is kept, and told if the other fails too.

use super::{Bridged, Mode, Sign};
use crate::chance;
use crate::enforcer::Permit;
use crate::tools::own_id;
use crate::upstream::{Failure, Inbound};
use mcp::bridge::{Client, ToLegacy, ToModern};
use mcp::{Era, Id};
use std::time::Instant;
use tracing::info;

impl Bridged {
    /// Takes the first message on a line whose server's era nobody has tried.
    pub(super) fn begin(&mut self, permit: Permit) {
        let message = permit.message();
        let client = if crate::refusal::is_modern(message) { Era::Modern } else { Era::Legacy };
        let known = self.eras.known();
        match (client, known.speaks(client), message.method()) {
            (_, Some(true), _) => {
                self.main.mode = Mode::Plain;
                self.pass(0, permit);
            }
            (Era::Modern, Some(false), _) => {
                self.begin_legacy(0, self.common_client(&permit), None);
                self.hold(0, permit);
            }
            (Era::Modern, None, Some("server/discover")) | (Era::Legacy, None, Some("initialize")) => {
                self.main.mode = Mode::Watching(Box::new(permit.copy()));
                self.pass(0, permit);
            }
            // What comes before a handshake says nothing of it.
            (Era::Legacy, _, method) if method != Some("initialize") => self.pass(0, permit),
            (client, _, _) => {
                self.hold(0, permit);
                self.probe(client, None);
            }
        }
    }

    /// For whom the common session with a legacy server is held.
    fn common_client(&self, permit: &Permit) -> Client {
        if self.shared { Client::unable() } else { Client::of(permit.message()).unwrap_or_else(Client::unable) }
    }

    /// Asks the server for its era.
    fn probe(&mut self, client: Era, refused: Option<Inbound>) {
        let id = Id::from(own_id().as_str());
        self.main.mode = Mode::Probing { id: id.clone(), since: Instant::now(), sign: Sign::None, client, refused };
        self.say(0, ToModern::probe(&id));
    }

    pub(super) fn begin_legacy(&mut self, number: u32, client: Client, refused: Option<Inbound>) {
        let mut translator = ToLegacy::new(client, Box::new(chance::token));
        if number == 0 && self.shared {
            translator = translator.for_many();
        }
        let steps = translator.begin();
        if let Some(line) = self.line(number) {
            line.mode = Mode::Legacy { translator: Box::new(translator), refused };
        }
        self.take(number, steps, None);
    }

    /// Sends what was held, now that it is known how.
    pub(super) fn release(&mut self, number: u32) {
        let held = self.line(number).map(|line| std::mem::take(&mut line.held)).unwrap_or_default();
        for permit in held {
            // On the common line it may be seen only now that a line of its own is needed.
            if number == 0 { self.send(permit) } else { self.send_on(number, permit) }
        }
    }

    /// Takes the server's answer to the request that shows its era.
    pub(super) fn watched(&mut self, arrived: Inbound) {
        let Mode::Watching(kept) = std::mem::replace(&mut self.main.mode, Mode::Unknown) else { return };
        let client = if kept.message().method() == Some("initialize") { Era::Legacy } else { Era::Modern };
        let speaks = match &arrived {
            Inbound::Message(answer) if client == Era::Legacy => Some(answer.result().is_some()),
            Inbound::Message(answer) => Some(ToModern::shows_modern(answer)),
            Inbound::Failed { failure, .. } => failure.status.filter(|status| matches!(status, 400 | 404 | 405)).map(|_| false),
            _ => None,
        };
        match speaks {
            // Nothing was learnt: it is told, and tried again with the next.
            None => self.ready.push_back(arrived),
            Some(true) => {
                self.eras.learn(client, true);
                self.main.mode = Mode::Plain;
                self.ready.push_back(arrived);
                self.release(0);
            }
            Some(false) if client == Era::Legacy => {
                self.main.held.push_front(*kept);
                self.probe(client, Some(arrived));
            }
            Some(false) => {
                let client = self.common_client(&kept);
                self.main.held.push_front(*kept);
                self.begin_legacy(0, client, Some(arrived));
            }
        }
    }

    /// Takes the server's answer to our question for its era, or its failure.
    pub(super) fn probed(&mut self, arrived: &Inbound) {
        let Mode::Probing { client, refused, .. } = std::mem::replace(&mut self.main.mode, Mode::Unknown) else { return };
        let discovered = match arrived {
            Inbound::Message(answer) if ToModern::is_modern(answer) => Some(answer.clone()),
            Inbound::Failed { failure, .. } if failure.status.is_none_or(|status| !matches!(status, 400 | 404 | 405)) => {
                return self.refuse_held(refused, failure.clone());
            }
            _ => None,
        };
        let speaks = matches!(arrived, Inbound::Message(answer) if ToModern::shows_modern(answer));
        match (client, discovered) {
            (Era::Modern, _) if speaks => {
                self.eras.learn(Era::Modern, true);
                self.main.mode = Mode::Plain;
                self.release(0);
            }
            (Era::Modern, _) => {
                let told = self.main.held.front().map_or_else(Client::unable, |permit| self.common_client(permit));
                self.begin_legacy(0, told, refused);
            }
            (Era::Legacy, Some(discovered)) => {
                info!("bridging a client with a handshake to a server without");
                self.eras.learn(Era::Legacy, false);
                self.eras.learn(Era::Modern, true);
                self.main.mode = Mode::Modern(Box::new(ToModern::new(discovered)));
                self.release(0);
            }
            (Era::Legacy, None) => {
                self.eras.forget();
                self.refuse_held(refused, Failure::unsent("the server speaks no protocol revision that is known"));
            }
        }
    }

    /// Gives up what waits for the server's era. Of the request that has shown it, what the server itself has said is told.
    pub(super) fn refuse_held(&mut self, refused: Option<Inbound>, failure: Failure) {
        let held = std::mem::take(&mut self.main.held);
        let told = match &refused {
            Some(Inbound::Message(message)) => message.id().cloned(),
            Some(Inbound::Failed { id, .. }) => Some(id.clone()),
            _ => None,
        };
        self.ready.extend(refused);
        for permit in held {
            if permit.wire_id() != told.as_ref() {
                self.fail(permit.wire_id().cloned(), failure.clone());
            }
        }
    }

    /// A server has not answered our question for its era, though perhaps another.
    pub(super) fn unanswered(&mut self, alive: bool) {
        let Mode::Probing { id, .. } = &self.main.mode else { return };
        let failure = Failure::lost("the server does not answer");
        let status = alive.then_some(404);
        self.probed(&Inbound::Failed { id: id.clone(), failure: Failure { status, ..failure } });
    }
}
