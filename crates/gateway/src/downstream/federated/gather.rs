//! Asking many servers one thing, and giving one answer: without those that do not answer in time.

use super::relay::Known;
use super::session::Session;
use super::stateless::Stateless;
use super::{Federation, Member};
use crate::conversation::Command;
use crate::downstream::http::Abandonment;
use crate::downstream::sessions;
use crate::enforcer::{Caller, MOST_NAMED};
use crate::refusal::UPSTREAM_FAILED;
use crate::sink::{Down, Sink};
use crate::tools::own_id;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use mcp::federation::{Cursor, ListKind, Merged, Part, Target, Whose, merge};
use mcp::{Id, Message, Side};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long a server that starts, or answers too late, is waited for all the same: then it is known that it is there.
const LATE: Duration = Duration::from_secs(60);
/// Pages of one list that are read to find out whose a resource is.
const MAX_PAGES: usize = 100;

/// A conversation with one server, and the number of an exchange there; 0 in a legacy session.
pub(super) struct Line {
    pub session: sessions::Session,
    pub exchange: u64,
}

impl Line {
    /// Asks, and waits for the answer.
    pub async fn ask(self, message: Message) -> Option<Message> {
        let (sink, mut given) = mpsc::channel(16);
        self.session.touch();
        let commands = self.session.commands;
        let mut abandonment = Abandonment { commands: commands.clone(), exchange: self.exchange };
        let command = Command::Message { message, sink: Sink::Exchange(sink), exchange: self.exchange, passed: None };
        commands.send(command).await.ok()?;
        drop(commands);
        while let Some(down) = given.recv().await {
            match down {
                Down::Event(_) => {}
                Down::Last { body, .. } => {
                    abandonment.exchange = 0;
                    return Message::parse(body, Side::Server).ok();
                }
                Down::Accepted => return None,
            }
        }
        None
    }
}

/// In whose name servers are asked: a legacy session's, or a stateless caller's.
#[derive(Clone)]
pub(super) enum Ground {
    Legacy(Arc<Session>),
    Stateless(Arc<Stateless>),
}

/// What has come of a question to many.
pub(super) struct Gathered {
    /// In the order of the servers' names.
    pub replies: Vec<(Arc<Member>, Message)>,
    /// Who has not answered.
    pub missing: Vec<Arc<Member>>,
}

impl Ground {
    fn federation(&self) -> &Arc<Federation> {
        match self {
            Ground::Legacy(session) => session.federation(),
            Ground::Stateless(stateless) => stateless.federation(),
        }
    }

    pub fn caller(&self) -> &Caller {
        match self {
            Ground::Legacy(session) => session.caller(),
            Ground::Stateless(stateless) => stateless.caller(),
        }
    }

    pub fn known(&self) -> &Arc<Known> {
        match self {
            Ground::Legacy(session) => session.known(),
            Ground::Stateless(stateless) => stateless.known(),
        }
    }

    fn is_modern(&self) -> bool {
        matches!(self, Ground::Stateless(_))
    }

    fn line<'a>(&'a self, member: &'a Arc<Member>) -> BoxFuture<'a, Result<Line, String>> {
        match self {
            Ground::Legacy(session) => Box::pin(session.line(member, LATE)),
            Ground::Stateless(stateless) => Box::pin(stateless.line(member)),
        }
    }

    /// A list of this kind has been given without the server.
    fn missed(&self, member: &Arc<Member>, kind: Option<ListKind>) {
        if let (Ground::Legacy(session), Some(kind)) = (self, kind) {
            session.missed(member, kind);
        }
    }

    /// A server has answered after all.
    fn came_late(&self, member: &Arc<Member>) {
        member.is_well();
        if let Ground::Legacy(session) = self {
            session.came(member);
        }
    }

    /// Asks each of `questions`, side by side, for at most `patience`.
    pub async fn gather(&self, questions: Vec<(Arc<Member>, Message)>, kind: Option<ListKind>, patience: Duration) -> Gathered {
        let begun = Instant::now();
        let (to_us, mut answers) = mpsc::channel(questions.len().max(1));
        let mut open: Vec<_> = questions.iter().map(|(member, _)| Some((member.clone(), member.is_slow()))).collect();
        for (index, (member, question)) in questions.into_iter().enumerate() {
            let (ground, to_us) = (self.clone(), to_us.clone());
            tokio::spawn(async move {
                let answer = ground.ask(&member, question).await;
                // Nobody waits for it any more: it is known at least that the server is there.
                if let Err(mpsc::error::SendError((_, Ok(_)))) = to_us.send((index, answer)).await {
                    ground.came_late(&member);
                }
            });
        }
        drop(to_us);
        let (mut replies, mut missing) = (Vec::new(), Vec::new());
        let (deadline, soon) = (begun + patience, begun + patience.min(self.federation().patience.slow));
        while open.iter().any(Option::is_some) {
            // Those that have let the last list go without them are not waited for as long.
            let until = if open.iter().flatten().all(|(_, is_slow)| *is_slow) { soon } else { deadline };
            let answer = match tokio::time::timeout_at(until, answers.recv()).await {
                Ok(answer) => answer,
                Err(_) => {
                    // What is sent from here on is late; what was sent before is not.
                    answers.close();
                    answers.recv().await
                }
            };
            let Some((index, answer)) = answer else { break };
            let Some((member, _)) = open[index].take() else { continue };
            match answer {
                Ok(reply) => {
                    member.is_well();
                    replies.push((index, member, reply));
                }
                Err(why) => {
                    member.is_away(&why);
                    missing.push(member);
                }
            }
        }
        for (member, _) in open.into_iter().flatten() {
            member.let_wait();
            missing.push(member);
        }
        for member in &missing {
            self.missed(member, kind);
        }
        replies.sort_by_key(|(index, _, _)| *index);
        Gathered { replies: replies.into_iter().map(|(_, member, reply)| (member, reply)).collect(), missing }
    }

    /// Asks one server. An error that says that it cannot be reached is none of its answers.
    async fn ask(&self, member: &Arc<Member>, question: Message) -> Result<Message, String> {
        let asked = async {
            let line = self.line(member).await?;
            line.ask(question).await.ok_or_else(|| "it has ended".to_owned())
        };
        let reply = tokio::time::timeout(LATE, asked).await.map_err(|_| "it does not answer".to_owned())??;
        match reply.error() {
            Some(error) if error.get("code").is_some_and(|code| code.raw().parse() == Ok(UPSTREAM_FAILED)) => {
                Err(error.get("message").and_then(|message| message.as_str()).unwrap_or_default().into_owned())
            }
            _ => Ok(reply),
        }
    }

    /// Answers a request for a list.
    pub async fn list(&self, kind: ListKind, request: &Message) -> Bytes {
        let id = request.id().cloned().unwrap_or_else(|| Id::from(""));
        let given = request.params().and_then(|params| params.get("cursor")).filter(|cursor| !cursor.is_null());
        let cursor = match given.map(|cursor| cursor.as_str()) {
            None => None,
            Some(text) => match text.and_then(|text| self.open_cursor(kind, &text)) {
                Some(cursor) => Some(cursor),
                None => return mcp::reply::error(Some(&id), mcp::reply::INVALID_PARAMS, "unknown cursor", None),
            },
        };
        let mut questions = Vec::new();
        for member in self.federation().members_for(self.caller()) {
            let place = cursor.as_ref().map(|cursor| cursor.servers.iter().find(|(server, _)| **server == *member.name));
            let edit = request.edit_with_id(&Id::from(&*own_id())).finish();
            let question = match place {
                // The list of this server has ended before.
                Some(None) => continue,
                Some(Some((_, own))) => Message::parse(edit, Side::Client).ok().and_then(|question| {
                    let cursor = question.params()?.get("cursor")?;
                    Message::parse(question.edit().replace(cursor.span(), own.clone()).finish(), Side::Client).ok()
                }),
                None => Message::parse(edit, Side::Client).ok(),
            };
            if member.may_have(kind.capability()) {
                questions.extend(question.map(|question| (member, question)));
            }
        }
        let gathered = self.gather(questions, Some(kind), self.federation().patience.list).await;
        let (merged, whole) = self.merge(kind, &gathered, cursor.is_none());
        let next = Cursor { kind, servers: merged.next };
        let next = next.seal(|text| self.federation().seal(self.caller(), text));
        let next = next.map(|next| format!(r#","nextCursor":"{next}""#)).unwrap_or_default();
        let meta = self.meta(if whole { &[] } else { &gathered.missing });
        // Written where it is: the list may be megabytes.
        let mut text = merged.members;
        text.insert_str(0, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"#, id.text()));
        for rest in [&next, &meta, "}}"] {
            text.push_str(rest);
        }
        text.into()
    }

    fn merge(&self, kind: ListKind, gathered: &Gathered, first: bool) -> (Merged, bool) {
        let has_it = |reply: &Message| {
            // A server without such a list says that it does not know the method.
            let code = reply.error().and_then(|error| error.get("code")?.raw().parse::<i64>().ok());
            code != Some(mcp::reply::METHOD_NOT_FOUND)
        };
        let parts: Vec<_> = gathered
            .replies
            .iter()
            .filter(|(_, reply)| has_it(reply))
            .map(|(member, reply)| Part { server: member.name.clone(), reply: reply.clone(), first })
            .collect();
        let whole = gathered.missing.is_empty();
        let merged = self.known().with_claims(|claims| {
            for part in &parts {
                for uri in mcp::federation::mentioned(&part.reply) {
                    claims.mention(&part.server, &uri);
                }
            }
            merge(kind, &parts, claims, whole, self.is_modern())
        });
        for left_out in &merged.left_out {
            let of = gathered.replies.iter().find(|(member, _)| member.name == left_out.server);
            of.inspect(|(member, _)| member.report(left_out));
        }
        (merged, whole)
    }

    /// What a merged result says of itself: who it is from, and who is missing.
    pub fn meta(&self, missing: &[Arc<Member>]) -> String {
        let mut said = Vec::new();
        if self.is_modern() {
            said.push(format!(r#""io.modelcontextprotocol/serverInfo":{}"#, mcp::IMPLEMENTATION));
        }
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|member| json::quote(&member.name)).collect();
            said.push(format!(r#""dev.callgate/unavailable":[{}]"#, names.join(",")));
        }
        if said.is_empty() { String::new() } else { format!(r#","_meta":{{{}}}"#, said.join(",")) }
    }

    fn open_cursor(&self, kind: ListKind, text: &str) -> Option<Cursor> {
        Cursor::open(kind, text, |text| self.federation().seal(self.caller(), text))
    }

    /// The server that a request leads to, by what it names; `None` where there is none, or more than one.
    pub async fn route(&self, target: &Target<'_>, like: &Message) -> Option<Arc<Member>> {
        let server: Arc<str> = match target {
            Target::Name(name) => mcp::federation::split(name)?.0.into(),
            Target::Task(id) => {
                self.learn_makers(std::iter::once(&**id)).await;
                return self.maker(id);
            }
            Target::Resource(_) | Target::Template(_) => match self.resource(target) {
                Whose::Of(server) => server,
                Whose::Disputed => return None,
                Whose::Unknown => {
                    self.learn_resources(like).await;
                    match self.resource(target) {
                        Whose::Of(server) => server,
                        Whose::Disputed | Whose::Unknown => return None,
                    }
                }
            },
            Target::List(_) | Target::Missing | Target::Other => return None,
        };
        self.federation().member_for(self.caller(), &server)
    }

    /// The server that has made a task for the caller, as far as is known here; `None` where there is none, or more than one.
    pub fn maker(&self, task: &str) -> Option<Arc<Member>> {
        match self.known().task(task) {
            Whose::Of(server) => self.federation().member_for(self.caller(), &server),
            Whose::Disputed | Whose::Unknown => None,
        }
    }

    /// Learns from the state which server has made each of these tasks for the caller, when another gateway, or another session,
    /// was told of it: of the first [`MOST_NAMED`] that are not known here.
    pub async fn learn_makers(&self, tasks: impl Iterator<Item = &str>) {
        let unknown = tasks.filter(|task| matches!(self.known().task(task), Whose::Unknown)).map(str::to_owned);
        let unknown: Vec<String> = unknown.take(MOST_NAMED).collect();
        if unknown.is_empty() {
            return;
        }
        let (federation, caller) = (self.federation(), self.caller());
        let makers = federation.enforcer.makers(&unknown, caller).await;
        let members = federation.members_for(caller).into_iter();
        let members: Vec<_> = members.filter_map(|member| Some((member.sessions.enforcer.server_digest()?, member))).collect();
        for (task, makers) in unknown.iter().zip(makers) {
            let mut found = members.iter().filter(|(digest, _)| makers.contains(digest));
            if let (Some((_, member)), None) = (found.next(), found.next()) {
                self.known().claim_task(&member.name, task);
            }
        }
    }

    fn resource(&self, target: &Target<'_>) -> Whose {
        self.known().with_claims(|claims| match target {
            Target::Resource(uri) => claims.resource(uri),
            Target::Template(template) => claims.template(template),
            _ => Whose::Unknown,
        })
    }

    /// Asks every server for what resources it has, where a client names one that nobody has listed to it.
    async fn learn_resources(&self, like: &Message) {
        for kind in [ListKind::Resources, ListKind::Templates] {
            let members = self.federation().members_for(self.caller()).into_iter().filter(|member| member.may_have("resources"));
            let mut left: Vec<(Arc<Member>, Option<String>)> = members.map(|member| (member, None)).collect();
            for page in 0..MAX_PAGES {
                let questions = left.drain(..).filter_map(|(member, cursor)| Some((member, question(kind, like, cursor)?)));
                let questions: Vec<_> = questions.collect();
                if questions.is_empty() {
                    break;
                }
                let gathered = self.gather(questions, None, self.federation().patience.list).await;
                let (merged, _) = self.merge(kind, &gathered, page == 0);
                let members = gathered.replies.into_iter().map(|(member, _)| member);
                left = members
                    .filter_map(|member| {
                        let (_, cursor) = merged.next.iter().find(|(server, _)| **server == *member.name)?;
                        Some((member, Some(cursor.clone())))
                    })
                    .collect();
            }
        }
    }
}

/// A question of our own for a list, in the era of the request `like`. `cursor` is JSON text.
fn question(kind: ListKind, like: &Message, cursor: Option<String>) -> Option<Message> {
    let mut params: Vec<_> = cursor.map(|cursor| format!(r#""cursor":{cursor}"#)).into_iter().collect();
    params.extend(mcp::federation::envelope(like));
    let (id, method) = (json::quote(&own_id()), kind.method());
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{}}}}}"#, params.join(","));
    Message::parse(text, Side::Client).ok()
}
