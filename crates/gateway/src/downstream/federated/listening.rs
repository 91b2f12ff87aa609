//! Listening streams of the stateless era, at many servers at once.
//!
//! Each server has a stream of its own, for what of the request is its: the booleans are everybody's, a resource or a task is
//! its server's. A stream that ends is opened again; when a server comes back, or comes for the first time after lists were
//! given without it, the client is told that the lists have changed.

use super::gather::Ground;
use super::member::Member;
use super::seat::Pause;
use super::stateless::Stateless;
use crate::conversation::Command;
use crate::downstream::http::{Abandonment, Body, respond};
use crate::sink::{Down, MAX_WAITING, Sink};
use bytes::Bytes;
use http::Response;
use json::{Value, quote};
use mcp::federation::Target;
use mcp::{Id, Message, Side};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::debug;

/// Resources and tasks of one stream: more than anybody has use for.
const MAX_NAMED: usize = 256;
const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
const LISTS: [(&str, &str); 3] = [
    ("toolsListChanged", "notifications/tools/list_changed"),
    ("promptsListChanged", "notifications/prompts/list_changed"),
    ("resourcesListChanged", "notifications/resources/list_changed"),
];

/// One client's stream.
struct Stream {
    request: Message,
    id: Id,
    client: mpsc::Sender<Down>,
    /// The lists whose changes it wants to be told of, by the notices that do.
    lists: Vec<&'static str>,
}

/// What a stream asks of one server.
#[derive(Default)]
struct Share {
    resources: Vec<String>,
    tasks: Vec<String>,
}

pub(super) async fn listen(stateless: Arc<Stateless>, request: Message) -> Response<Body> {
    let (client, given) = mpsc::channel(MAX_WAITING);
    let id = request.id().cloned().unwrap_or_else(|| Id::from(""));
    let refuse =
        |why: &str| Down::Last { body: mcp::reply::error(Some(&id), mcp::reply::INVALID_PARAMS, why, None), status: 200 };
    let wanted = request.params().and_then(|params| params.get("notifications"));
    let first = match wanted {
        None => refuse("`notifications` is missing"),
        Some(wanted) if strings(wanted, "resourceSubscriptions").chain(strings(wanted, "taskIds")).count() > MAX_NAMED => {
            refuse("too many subscriptions")
        }
        Some(wanted) => {
            let shares = share(&stateless, &request, wanted).await;
            let lists = LISTS.iter().filter(|(key, _)| wanted.get(key).and_then(Value::as_bool) == Some(true));
            let lists: Vec<_> = lists.map(|(_, notice)| *notice).collect();
            let acknowledged = acknowledgement(&id, &lists, &shares);
            let stream = Arc::new(Stream { request: request.clone(), id: id.clone(), client: client.clone(), lists });
            for (member, share) in shares {
                tokio::spawn(stream.clone().follow(stateless.clone(), member, share));
            }
            Down::Event(acknowledged)
        }
    };
    let _ = client.send(first).await;
    drop(client);
    respond(given, Abandonment::by_nobody()).await
}

/// What of a request is whose. What leads to no server is left out, as the acknowledgement says.
async fn share(stateless: &Arc<Stateless>, request: &Message, wanted: Value<'_>) -> Vec<(Arc<Member>, Share)> {
    let ground = Ground::Stateless(stateless.clone());
    let mut shares: HashMap<Arc<str>, Share> = HashMap::new();
    for uri in strings(wanted, "resourceSubscriptions") {
        if let Some(member) = ground.route(&Target::Resource(uri.clone()), request).await {
            shares.entry(member.name.clone()).or_default().resources.push(uri.into_owned());
        }
    }
    let tasks: Vec<_> = strings(wanted, "taskIds").collect();
    ground.learn_makers(tasks.iter().map(|task| &**task)).await;
    for task in tasks {
        if let Some(member) = ground.maker(&task) {
            shares.entry(member.name.clone()).or_default().tasks.push(task.into_owned());
        }
    }
    let members = stateless.federation().members_for(stateless.caller()).into_iter();
    members.map(|member| (member.clone(), shares.remove(&member.name).unwrap_or_default())).collect()
}

fn strings<'d>(wanted: Value<'d>, key: &str) -> impl Iterator<Item = Cow<'d, str>> {
    wanted.get(key).and_then(Value::elements).into_iter().flatten().filter_map(Value::as_str)
}

fn quoted<'s>(texts: impl Iterator<Item = &'s String>) -> String {
    texts.map(|text| quote(text)).collect::<Vec<_>>().join(",")
}

/// The members of `notifications` that name resources and tasks.
fn named<'s>(shares: impl Iterator<Item = &'s Share> + Clone) -> Vec<String> {
    let resources = quoted(shares.clone().flat_map(|share| &share.resources));
    let tasks = quoted(shares.flat_map(|share| &share.tasks));
    let lists = [("resourceSubscriptions", resources), ("taskIds", tasks)].into_iter();
    lists.filter(|(_, list)| !list.is_empty()).map(|(key, list)| format!("\"{key}\":[{list}]")).collect()
}

fn flags(lists: &[&str]) -> Vec<String> {
    LISTS.iter().filter(|(_, notice)| lists.contains(notice)).map(|(key, _)| format!("\"{key}\":true")).collect()
}

fn acknowledgement(id: &Id, lists: &[&str], shares: &[(Arc<Member>, Share)]) -> Bytes {
    let granted = [flags(lists), named(shares.iter().map(|(_, share)| share))].concat().join(",");
    let tag = format!("{}:{}", quote(SUBSCRIPTION_ID), id.text());
    let method = "notifications/subscriptions/acknowledged";
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"_meta":{{{tag}}},"notifications":{{{granted}}}}}}}"#).into()
}

impl Stream {
    /// Follows one server until the client has gone.
    async fn follow(self: Arc<Stream>, stateless: Arc<Stateless>, member: Arc<Member>, share: Share) {
        let mut pause = Pause::new(stateless.federation().patience.again);
        let mut comings = member.comings();
        let stop = stateless.federation().stop.clone();
        let over = member.sessions.enforcer.end_of(stateless.caller());
        let following = async {
            let mut is_first = true;
            loop {
                self.follow_once(&stateless, &member, &share, &mut is_first, &mut pause).await;
                tokio::time::sleep(pause.next()).await;
            }
        };
        let announcing = async {
            while comings.changed().await.is_ok() {
                self.tell_changed().await;
            }
        };
        tokio::select! {
            () = following => {}
            () = announcing => {}
            () = self.client.closed() => {}
            () = stop.cancelled() => {}
            () = over => {}
        }
    }

    async fn follow_once(
        &self,
        stateless: &Arc<Stateless>,
        member: &Arc<Member>,
        share: &Share,
        is_first: &mut bool,
        pause: &mut Pause,
    ) {
        let line = match stateless.line(member).await {
            Ok(line) => line,
            Err(why) => {
                *is_first = false;
                return member.is_away(&why);
            }
        };
        let Some(message) = self.question(share) else { return };
        let (sink, mut given) = mpsc::channel(MAX_WAITING);
        // The stream at the server ends when this one does.
        let _abandonment = Abandonment { commands: line.session.commands.clone(), exchange: line.exchange };
        let command = Command::Message { message, sink: Sink::Exchange(sink), exchange: line.exchange, passed: None };
        if line.session.commands.send(command).await.is_err() {
            return;
        }
        drop(line);
        while let Some(down) = given.recv().await {
            match down {
                Down::Event(text) if memchr::memmem::find(&text, b"notifications/subscriptions/acknowledged").is_some() => {
                    pause.reset();
                    member.is_well();
                    // What has changed while nobody followed is not known.
                    if !std::mem::replace(is_first, false) {
                        self.tell_changed().await;
                    }
                }
                Down::Event(text) => {
                    let is_own = |notice: Message| stateless.known().is_own(&member.name, &notice);
                    if Message::parse(text.clone(), Side::Server).is_ok_and(is_own) {
                        Sink::Exchange(self.client.clone()).event(text).await;
                    } else {
                        debug!(server = %member.name, "dropped what belongs to nothing of this server's");
                    }
                }
                Down::Last { .. } | Down::Accepted => break,
            }
        }
        *is_first = false;
    }

    /// The client's request, with what of it is one server's.
    fn question(&self, share: &Share) -> Option<Message> {
        let wanted = self.request.params()?.get("notifications")?;
        let own = [flags(&self.lists), named(std::iter::once(share))].concat().join(",");
        let text = self.request.edit().replace(wanted.span(), format!("{{{own}}}")).finish();
        Message::parse(text, Side::Client).ok()
    }

    async fn tell_changed(&self) {
        for notice in &self.lists {
            let tag = format!("{}:{}", quote(SUBSCRIPTION_ID), self.id.text());
            let text = format!(r#"{{"jsonrpc":"2.0","method":"{notice}","params":{{"_meta":{{{tag}}}}}}}"#);
            Sink::Exchange(self.client.clone()).event(text.into()).await;
        }
    }
}
