//! Listening streams before a server that tells of changes by itself.
//!
//! A stream is acknowledged with what the server can tell, once it has answered to each resource. A resource that several
//! streams name is subscribed to once.

use super::ToLegacy;
use crate::bridge::{Step, change_params, flag, own_id};
use crate::id::Id;
use crate::keys;
use crate::message::Message;
use crate::reply;
use json::{Value, quote};

/// Listening streams of one line, and resources of one stream: more than anybody has use for.
const MAX_LISTENS: usize = 1_024;
const MAX_RESOURCES: usize = 256;
/// What the names of all resources of all streams may take.
const MAX_LISTENED_BYTES: usize = 1024 * 1024;
/// How long a server may take to grant a subscription; streams that want it are acknowledged without it then.
const GRANTING_MS: u64 = 10_000;

/// One listening stream of the client's.
pub(super) struct Listen {
    pub(super) id: Id,
    pub(super) tools: bool,
    pub(super) prompts: bool,
    pub(super) resources: bool,
    pub(super) uris: Vec<String>,
    /// Whether the client knows what it is told of. Before that it is told nothing.
    acknowledged: bool,
}

/// What is listened to by one stream or several, and subscribed to once.
pub(super) struct Subscription {
    streams: usize,
    /// The question to the server, and until when its answer is waited for; `None` once it is granted.
    asked: Option<(Id, u64)>,
}

impl ToLegacy {
    /// Gives a notice to every stream that wants it.
    pub(super) fn tell(&self, message: &Message, wants: impl Fn(&Listen) -> bool) -> Vec<Step> {
        let notice = |listen: &Listen| {
            let tag = format!("{}:{}", quote(keys::SUBSCRIPTION_ID), listen.id.text());
            let out = [keys::SUBSCRIPTION_ID];
            Step::Deliver(change_params(message, message.edit(), &[], "", &out, &tag).finish())
        };
        self.listens.values().filter(|listen| listen.acknowledged && wants(listen)).map(notice).collect()
    }

    pub(super) fn listen(&mut self, message: &Message, id: &Id, now_ms: u64) -> Vec<Step> {
        let refuse = |why: &str| vec![Step::Deliver(reply::error(Some(id), reply::INVALID_PARAMS, why, None))];
        let Some(wanted) = message.params().and_then(|params| params.get("notifications")) else {
            return refuse("`notifications` is missing");
        };
        let wants = |key: &str| wanted.get(key).and_then(|value| value.as_bool()) == Some(true);
        let tells = |kind: &str| flag(self.capabilities(), kind, "listChanged");
        let uris = wanted.get("resourceSubscriptions").and_then(Value::elements).into_iter().flatten();
        let uris: Vec<_> = uris.filter_map(|uri| uri.as_str().map(|uri| uri.into_owned())).collect();
        let uris = if flag(self.capabilities(), "resources", "subscribe") { uris } else { Vec::new() };
        let bytes = self.listened_bytes + uris.iter().map(String::len).sum::<usize>();
        if uris.len() > MAX_RESOURCES || self.listens.len() >= MAX_LISTENS || bytes > MAX_LISTENED_BYTES {
            return refuse("too many subscriptions");
        }
        let listen = Listen {
            id: id.clone(),
            tools: wants("toolsListChanged") && tells("tools"),
            prompts: wants("promptsListChanged") && tells("prompts"),
            resources: wants("resourcesListChanged") && tells("resources"),
            uris,
            acknowledged: false,
        };
        self.listened_bytes = bytes;
        let mut steps = Vec::new();
        for uri in &listen.uris {
            if let Some(known) = self.subscribed.get_mut(uri) {
                known.streams += 1;
                continue;
            }
            let (id, step) = subscription("resources/subscribe", uri, &mut self.next);
            let asked = Some((id, now_ms.saturating_add(GRANTING_MS)));
            self.subscribed.insert(uri.clone(), Subscription { streams: 1, asked });
            steps.push(step);
        }
        self.next += 1;
        self.listens.insert(self.next, listen);
        steps.extend(self.acknowledge());
        steps
    }

    /// Acknowledges the streams of which all is known that the server grants.
    fn acknowledge(&mut self) -> Vec<Step> {
        let subscribed = &self.subscribed;
        let is_open = |uri: &String| subscribed.get(uri).is_some_and(|subscription| subscription.asked.is_some());
        let known = |listen: &&mut Listen| !listen.acknowledged && !listen.uris.iter().any(is_open);
        let acknowledge = |listen: &mut Listen| {
            listen.acknowledged = true;
            Step::Deliver(listen.acknowledgement().into())
        };
        self.listens.values_mut().filter(known).map(acknowledge).collect()
    }

    /// The resource that the server was asked to tell of under this id.
    pub(super) fn asked_to_subscribe(&self, id: &Id) -> Option<String> {
        let is = |subscription: &Subscription| subscription.asked.as_ref().is_some_and(|(asked, _)| asked == id);
        self.subscribed.iter().find(|(_, subscription)| is(subscription)).map(|(uri, _)| uri.clone())
    }

    /// Takes the server's word on a subscription. What it refuses, no stream is told that it gets.
    pub(super) fn subscription_answered(&mut self, uri: &str, granted: bool) -> Vec<Step> {
        if granted {
            if let Some(subscription) = self.subscribed.get_mut(uri) {
                subscription.asked = None;
            }
        } else {
            self.subscribed.remove(uri);
            for listen in self.listens.values_mut() {
                let before = listen.uris.len();
                listen.uris.retain(|wanted| wanted != uri);
                self.listened_bytes -= (before - listen.uris.len()) * uri.len();
            }
        }
        self.acknowledge()
    }

    /// Goes on without what the server has not granted in time.
    pub(super) fn give_up_subscribing(&mut self, now_ms: u64) -> Vec<Step> {
        let is_late = |subscription: &Subscription| subscription.asked.as_ref().is_some_and(|(_, until_ms)| *until_ms < now_ms);
        let late: Vec<_> =
            self.subscribed.iter().filter(|(_, subscription)| is_late(subscription)).map(|(uri, _)| uri.clone()).collect();
        let mut steps = Vec::new();
        for uri in late {
            steps.push(subscription("resources/unsubscribe", &uri, &mut self.next).1);
            steps.extend(self.subscription_answered(&uri, false));
        }
        steps
    }

    /// Ends a listening stream, and the subscriptions that nobody else has.
    pub(super) fn unlisten(&mut self, at: u64) -> Vec<Step> {
        let Some(listen) = self.listens.remove(&at) else { return Vec::new() };
        self.listened_bytes -= listen.uris.iter().map(String::len).sum::<usize>();
        listen.uris.iter().filter_map(|uri| self.unsubscribe(uri)).collect()
    }

    fn unsubscribe(&mut self, uri: &str) -> Option<Step> {
        let subscription_of = self.subscribed.get_mut(uri)?;
        subscription_of.streams -= 1;
        if subscription_of.streams > 0 {
            return None;
        }
        self.subscribed.remove(uri);
        Some(subscription("resources/unsubscribe", uri, &mut self.next).1)
    }
}

impl Listen {
    fn acknowledgement(&self) -> String {
        let lists =
            [("toolsListChanged", self.tools), ("promptsListChanged", self.prompts), ("resourcesListChanged", self.resources)];
        let granted = lists.into_iter().filter(|(_, granted)| *granted).map(|(key, _)| format!("\"{key}\":true"));
        let uris: Vec<_> = self.uris.iter().map(|uri| quote(uri)).collect();
        let uris = (!uris.is_empty()).then(|| format!("\"resourceSubscriptions\":[{}]", uris.join(",")));
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{{}:{}}},"notifications":{{{}}}}}}}"#,
            quote(keys::SUBSCRIPTION_ID),
            self.id.text(),
            granted.chain(uris).collect::<Vec<_>>().join(",")
        )
    }
}

fn subscription(method: &str, uri: &str, next: &mut u64) -> (Id, Step) {
    let id = own_id(next);
    let text = format!(r#"{{"jsonrpc":"2.0","id":{},"method":"{method}","params":{{"uri":{}}}}}"#, id.text(), quote(uri));
    (id, Step::Say(text.into()))
}
