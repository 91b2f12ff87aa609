//! Listening streams before a server that tells of changes by itself.
//!
//! A stream is acknowledged with what the server can tell. A resource that several streams name is subscribed to once.

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

/// One listening stream of the client's.
pub(super) struct Listen {
    pub(super) id: Id,
    pub(super) tools: bool,
    pub(super) prompts: bool,
    pub(super) resources: bool,
    pub(super) uris: Vec<String>,
}

impl ToLegacy {
    /// Gives a notice to every stream that wants it.
    pub(super) fn tell(&self, message: &Message, wants: impl Fn(&Listen) -> bool) -> Vec<Step> {
        let notice = |listen: &Listen| {
            let tag = format!("{}:{}", quote(keys::SUBSCRIPTION_ID), listen.id.text());
            let out = [keys::SUBSCRIPTION_ID];
            Step::Deliver(change_params(message, message.edit(), &[], "", &out, &tag).finish())
        };
        self.listens.values().filter(|listen| wants(listen)).map(notice).collect()
    }

    pub(super) fn listen(&mut self, message: &Message, id: &Id) -> Vec<Step> {
        let refuse = |why: &str| vec![Step::Deliver(reply::error(Some(id), reply::INVALID_PARAMS, why, None))];
        let Some(wanted) = message.params().and_then(|params| params.get("notifications")) else {
            return refuse("`notifications` is missing");
        };
        let wants = |key: &str| wanted.get(key).and_then(|value| value.as_bool()) == Some(true);
        let tells = |kind: &str| flag(self.capabilities(), kind, "listChanged");
        let uris = wanted.get("resourceSubscriptions").and_then(Value::elements).into_iter().flatten();
        let uris: Vec<_> = uris.filter_map(|uri| uri.as_str().map(|uri| uri.into_owned())).collect();
        if uris.len() > MAX_RESOURCES || self.listens.len() >= MAX_LISTENS {
            return refuse("too many subscriptions");
        }
        let listen = Listen {
            id: id.clone(),
            tools: wants("toolsListChanged") && tells("tools"),
            prompts: wants("promptsListChanged") && tells("prompts"),
            resources: wants("resourcesListChanged") && tells("resources"),
            uris: if flag(self.capabilities(), "resources", "subscribe") { uris } else { Vec::new() },
        };
        let mut granted: Vec<_> = [
            ("toolsListChanged", listen.tools),
            ("promptsListChanged", listen.prompts),
            ("resourcesListChanged", listen.resources),
        ]
        .into_iter()
        .filter(|(_, granted)| *granted)
        .map(|(key, _)| format!("\"{key}\":true"))
        .collect();
        if !listen.uris.is_empty() {
            let uris: Vec<_> = listen.uris.iter().map(|uri| quote(uri)).collect();
            granted.push(format!("\"resourceSubscriptions\":[{}]", uris.join(",")));
        }
        let acknowledged = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{{}:{}}},"notifications":{{{}}}}}}}"#,
            quote(keys::SUBSCRIPTION_ID),
            id.text(),
            granted.join(",")
        );
        let mut steps = vec![Step::Deliver(acknowledged.into())];
        for uri in &listen.uris {
            let streams = self.subscribed.entry(uri.clone()).or_default();
            *streams += 1;
            if *streams == 1 {
                steps.push(subscription("resources/subscribe", uri, &mut self.next));
            }
        }
        self.next += 1;
        self.listens.insert(self.next, listen);
        steps
    }

    pub(super) fn unsubscribe(&mut self, uri: &str) -> Option<Step> {
        let streams = self.subscribed.get_mut(uri)?;
        *streams -= 1;
        if *streams > 0 {
            return None;
        }
        self.subscribed.remove(uri);
        Some(subscription("resources/unsubscribe", uri, &mut self.next))
    }
}

fn subscription(method: &str, uri: &str, next: &mut u64) -> Step {
    let id = own_id(next);
    let text = format!(r#"{{"jsonrpc":"2.0","id":{},"method":"{method}","params":{{"uri":{}}}}}"#, id.text(), quote(uri));
    Step::Say(text.into())
}
