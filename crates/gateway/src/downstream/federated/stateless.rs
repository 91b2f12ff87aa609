//! Clients of the stateless era at many servers.
//!
//! A request finds its server by what it names, a retry too: the state that it hands back is that server's, which knows its
//! own. What is remembered here is only what clients have been shown, and can be asked for again.

use super::Federation;
use super::gather::{Ground, Line};
use super::listening;
use super::member::Member;
use super::relay::{Known, Observed};
use super::seat::reason_of;
use super::session::{no_such, unreachable};
use crate::conversation::Command;
use crate::downstream::http::{Abandonment, Body, empty, json, respond};
use crate::enforcer::Caller;
use crate::gate::{discovery, unauthorised};
use crate::refusal::{lacks_tasks, malformed};
use crate::sink::{MAX_WAITING, Sink};
use crate::tools::{ToolFacts, own_id};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use mcp::federation::{Greeting, Target, capabilities, instructions, own_name};
use mcp::{Era, Id, Kind, Malformed, Message, Side};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What is kept for one caller.
pub(super) struct Stateless {
    federation: Arc<Federation>,
    caller: Caller,
    known: Arc<Known>,
}

impl Stateless {
    pub fn new(federation: &Arc<Federation>, caller: &Caller) -> Arc<Stateless> {
        Arc::new(Stateless { federation: federation.clone(), caller: caller.clone(), known: Arc::default() })
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

    /// The conversation with a server that all clients of this grant share.
    pub async fn line(&self, member: &Arc<Member>) -> Result<Line, String> {
        match member.sessions.shared(&self.caller).await {
            Ok(session) => Ok(Line { session, exchange: member.sessions.next_exchange() }),
            Err(response) => Err(reason_of(*response).await),
        }
    }

    /// Answers one message, whose headers agree with it as far as they do not depend on a tool.
    pub async fn handle(self: Arc<Self>, headers: &HeaderMap, message: Message) -> Response<Body> {
        if message.kind() != Kind::Request {
            // Closing the stream is what cancels here, and nothing else is for every server.
            if message.method() == Some("notifications/cancelled") {
                return empty(StatusCode::ACCEPTED);
            }
            let refused = malformed(&message, mcp::reply::INVALID_REQUEST, "this cannot be told to many servers");
            return self.federation.refuse(refused, &self.caller).await;
        }
        if is_of_the_other_era(message.method().unwrap_or_default()) {
            let why = "this method is of an older revision";
            return self.refuse(&message, mcp::reply::METHOD_NOT_FOUND, why).await;
        }
        let ground = Ground::Stateless(self.clone());
        let target = Target::of(&message);
        match (&target, message.method().unwrap_or_default()) {
            (Target::List(kind), _) => json(StatusCode::OK, ground.list(*kind, &message).await),
            (_, "server/discover") => json(StatusCode::OK, self.discover(&ground, &message).await),
            (_, "subscriptions/listen") => listening::listen(self.clone(), message).await,
            (Target::Other, _) => {
                let why = "no server can be told by this method; ask one at /mcp/<server>";
                self.refuse(&message, mcp::reply::METHOD_NOT_FOUND, why).await
            }
            (_, method) => match ground.route(&target, &message).await {
                Some(member) => {
                    drop(target);
                    self.forward(&member, headers, message).await
                }
                None if method == "tools/call" && matches!(target, Target::Name(_)) => {
                    drop(target);
                    let (sink, given) = mpsc::channel(1);
                    self.federation.deny_unknown(message, &self.caller, &Sink::Exchange(sink), true).await;
                    respond(given, Abandonment::by_nobody()).await
                }
                None => {
                    // Whoever knows of no tasks hears that first.
                    let refused = lacks_tasks(&message).unwrap_or_else(|| no_such(&message, mcp::reply::INVALID_PARAMS, &target));
                    drop(target);
                    self.refuse_as(refused).await
                }
            },
        }
    }

    async fn forward(&self, member: &Arc<Member>, headers: &HeaderMap, message: Message) -> Response<Body> {
        // In the name of somebody who has yet to authorise it, nothing is found out about the server.
        if let Some(failure) = member.sessions.lacking(&self.caller)
            && let Some(answer) = unauthorised(&member.sessions.enforcer, &message, false, &self.caller, &failure).await
        {
            return json(answer.status(), answer.body);
        }
        let own = match Message::parse(own_name(&message, &member.name).finish(), Side::Client) {
            Ok(own) => own,
            Err(malformed) => return self.federation.refuse(malformed, &self.caller).await,
        };
        // Which arguments headers repeat, only the tool's definition says.
        let facts = member.sessions.schemas(&self.caller).of_call(&own).await;
        if let Some(Ok(mirrored)) = facts.as_deref().and_then(ToolFacts::mirrored)
            && !mirrored.is_empty()
            && let Err(mismatch) = mcp::headers::check_request(headers, &message, Some(mirrored))
        {
            let refused = malformed(&message, mismatch.code, &mismatch.message);
            return self.federation.refuse(mcp::Malformed { data: mismatch.data, ..refused }, &self.caller).await;
        }
        let (sink, given) = mpsc::channel(MAX_WAITING);
        let line = match self.line(member).await {
            Ok(line) => line,
            Err(why) => {
                unreachable(&self.caller, member, &message, &why, &Sink::Exchange(sink)).await;
                return respond(given, Abandonment::by_nobody()).await;
            }
        };
        let passed = member.sessions.passed(headers);
        let observed = Observed::sink(Sink::Exchange(sink), &member.name, &self.known, || {});
        let abandonment = Abandonment { commands: line.session.commands.clone(), exchange: line.exchange };
        let _ =
            line.session.commands.send(Command::Message { message: own, sink: observed, exchange: line.exchange, passed }).await;
        drop(line);
        respond(given, abandonment).await
    }

    /// What all servers can do. Those of which nothing is known yet are waited for, for a while.
    async fn discover(&self, ground: &Ground, message: &Message) -> Bytes {
        let members = self.federation.members_for(&self.caller);
        let unknown = members.iter().filter(|member| member.greeting().is_none());
        let question = |member: &Arc<Member>| {
            Some((member.clone(), Message::parse(message.with_id(&Id::from(&*own_id())), Side::Client).ok()?))
        };
        let questions: Vec<_> = unknown.filter_map(question).collect();
        let gathered = ground.gather(questions, None, self.federation.patience.greeting).await;
        for (member, reply) in gathered.replies {
            if let Some(greeting) = Greeting::of(&member.name, reply) {
                member.has_greeted(greeting);
            }
        }
        let greetings: Vec<_> = members.iter().filter_map(|member| member.greeting()).collect();
        let able = capabilities(greetings.iter(), greetings.len() == members.len());
        let said = instructions(greetings.iter()).map(|text| format!(",\"instructions\":{text}")).unwrap_or_default();
        discovery(message.id().unwrap_or(&Id::from("")), &able, &said)
    }

    async fn refuse(&self, message: &Message, code: i64, why: &str) -> Response<Body> {
        self.refuse_as(malformed(message, code, why)).await
    }

    async fn refuse_as(&self, malformed: Malformed) -> Response<Body> {
        let status = match malformed.code {
            mcp::reply::METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
            mcp::reply::MISSING_CLIENT_CAPABILITY => StatusCode::BAD_REQUEST,
            _ => StatusCode::OK,
        };
        let refused = self.federation.enforcer.refuse(malformed, &self.caller).await;
        json(status, refused.error())
    }
}

/// Whether clients of the stateless era have no such method, though others have.
fn is_of_the_other_era(method: &str) -> bool {
    let mut rows = mcp::METHODS.iter().filter(|row| row.name == method && row.from == Side::Client).peekable();
    rows.peek().is_some() && rows.all(|row| row.revisions.1.era() == Era::Legacy)
}
