//! Two eras in one conversation.
//!
//! Where a client and a server know only each other's other era, something between them has to speak both: [`ToLegacy`] for
//! a modern client before a legacy server, [`ToModern`] for a legacy client before a modern one. Each is a state machine of
//! one line to one server: a message goes in, [`Step`]s come out, and time arrives as an argument.
//!
//! A message that passes is spliced: envelopes, result types and the like are put in and taken out, and the rest (names,
//! arguments, results) stays byte for byte. What only one era has is answered, remembered or asked here.

mod to_legacy;
mod to_modern;

pub use to_legacy::{Client, Mint, PATIENCE_MS, ToLegacy};
pub use to_modern::ToModern;

use crate::id::Id;
use crate::keys;
use crate::message::Message;
use crate::splice::Edit;
use bytes::Bytes;
use json::{Kind as JsonKind, Value};
use std::fmt::Write as _;

/// What is to be done next, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To the server: the client's message that has just been taken, in the server's era.
    Forward(Bytes),
    /// To the server: the request that the client has sent under `id` once more, with what the server has asked for.
    Again {
        /// The client's request.
        id: Id,
        /// It, under an id of its own.
        text: Bytes,
    },
    /// To the server: something of the bridge's own, or an answer to what the server has asked; never a call.
    Say(Bytes),
    /// To the server: nobody waits for the request that it knows as `id`. Where its exchange can be closed, that says so;
    /// elsewhere `text` does.
    Close {
        /// The id towards the server.
        id: Id,
        /// The notification.
        text: Bytes,
    },
    /// To the client.
    Deliver(Bytes),
    /// To the client, beside the answer to its request `id`.
    Beside {
        /// The client's request.
        id: Id,
        /// The notification.
        text: Bytes,
    },
}

/// Which questions a client can answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Able {
    /// A form.
    pub elicitation: bool,
    /// Sending the user to a URL.
    pub url: bool,
    /// Asking the client's model.
    pub sampling: bool,
    /// Naming its roots.
    pub roots: bool,
}

impl Able {
    /// Reads a client's capabilities.
    pub fn of(capabilities: Value<'_>) -> Able {
        let is = |value: Option<Value<'_>>| value.is_some_and(|value| value.kind() == JsonKind::Object);
        let elicitation = capabilities.get("elicitation").filter(|value| value.kind() == JsonKind::Object);
        let url = is(elicitation.and_then(|elicitation| elicitation.get("url")));
        let form = is(elicitation.and_then(|elicitation| elicitation.get("form")));
        Able {
            // Without a mode, a form is meant (2025-11-25 §Elicitation, Capabilities).
            elicitation: elicitation.is_some() && (form || !url),
            url,
            sampling: is(capabilities.get("sampling")),
            roots: is(capabilities.get("roots")),
        }
    }

    /// Whether the client can be asked anything at all.
    pub fn any(self) -> bool {
        self.elicitation || self.url || self.sampling || self.roots
    }

    /// Whether the client can answer this.
    pub fn answers(self, method: &str, params: Option<Value<'_>>) -> bool {
        match method {
            "elicitation/create" => {
                let mode = params.and_then(|params| params.get("mode")?.as_str());
                if mode.as_deref() == Some("url") { self.url } else { self.elicitation }
            }
            "sampling/createMessage" => self.sampling,
            "roots/list" => self.roots,
            _ => false,
        }
    }
}

/// Requests during which a server may ask something back (2026-07-28 §Multi Round-Trip Requests, Supported Requests).
pub fn may_ask_back(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}

/// Results that say how long and for whom they may be kept (2026-07-28 §Caching).
fn is_cacheable(method: &str) -> bool {
    matches!(
        method,
        "server/discover" | "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" | "resources/read"
    )
}

/// What the modern era says of a request in its `_meta`.
const ENVELOPE: &[&str] = &[keys::PROTOCOL_VERSION, keys::CLIENT_CAPABILITIES, keys::CLIENT_INFO, keys::LOG_LEVEL];

/// Changes the members of one object: some are taken out, `added` (without a comma at its ends) is put at the beginning.
fn change<'t>(mut edit: Edit<'t>, object: Value<'_>, out: &[&str], added: &str) -> Edit<'t> {
    let members: Vec<_> = object.members().into_iter().flatten().collect();
    if object.kind() != JsonKind::Object {
        return edit;
    }
    // Before what is taken out: both may begin at the same place.
    if !added.is_empty() {
        let begin = object.span().start + 1;
        let comma = if members.iter().any(|member| !out.contains(&&*member.key)) { "," } else { "" };
        edit = edit.replace(begin..begin, format!("{added}{comma}"));
    }
    // A comma goes with what is taken out; white space stays.
    let comma = |after: usize, before: usize| {
        let begin = object.span().start;
        object.raw()[after - begin..before - begin].find(',').map(|comma| after + comma)
    };
    let mut stayed = false;
    for (index, member) in members.iter().enumerate() {
        let span = member.key_span.start..member.value.span().end;
        if !out.contains(&&*member.key) {
            stayed = true;
        } else if stayed {
            let before = comma(members[index - 1].value.span().end, span.start);
            edit = edit.remove(before.unwrap_or(span.start)..span.end);
        } else {
            let behind = members.get(index + 1).and_then(|next| comma(span.end, next.key_span.start));
            edit = edit.remove(span.start..behind.map_or(span.end, |comma| comma + 1));
        }
    }
    edit
}

/// Changes the members of `params` and of its `_meta`, which are made where they are missing and something is added.
fn change_params<'t>(
    message: &'t Message,
    edit: Edit<'t>,
    out: &[&str],
    added: &str,
    out_of_meta: &[&str],
    meta: &str,
) -> Edit<'t> {
    let join = |a: &str, b: &str| if a.is_empty() || b.is_empty() { format!("{a}{b}") } else { format!("{a},{b}") };
    let new_meta = if meta.is_empty() { String::new() } else { format!("\"_meta\":{{{meta}}}") };
    let root = message.document().root();
    let Some(params) = message.params() else {
        let new = join(&new_meta, added);
        return match root.get("params") {
            _ if new.is_empty() => edit,
            Some(null) => edit.replace(null.span(), format!("{{{new}}}")),
            None => {
                let begin = root.span().start + 1;
                edit.replace(begin..begin, format!("\"params\":{{{new}}},"))
            }
        };
    };
    match params.get("_meta").filter(|meta| meta.kind() == JsonKind::Object) {
        Some(found) => change(change(edit, params, out, added), found, out_of_meta, meta),
        None => change(edit, params, out, &join(&new_meta, added)),
    }
}

/// Puts `id` in the place of the message's own.
fn renumber<'t>(message: &Message, edit: Edit<'t>, id: &Id) -> Edit<'t> {
    match message.document().root().get("id") {
        Some(old) => edit.replace(old.span(), id.text().to_owned()),
        None => edit,
    }
}

/// An object's text without the members `out`.
fn without(object: Value<'_>, out: &[&str]) -> String {
    let mut text = String::from("{");
    for member in object.members().into_iter().flatten().filter(|member| !out.contains(&&*member.key)) {
        let comma = if text.len() > 1 { "," } else { "" };
        let _ = write!(text, "{comma}{}:{}", json::quote(&member.key), member.value.raw());
    }
    text.push('}');
    text
}

/// Capabilities without tasks, which the two eras have in ways that do not meet.
fn without_tasks(capabilities: Value<'_>) -> String {
    const EXTENSION: &str = "io.modelcontextprotocol/tasks";
    let extensions = capabilities.get("extensions").filter(|extensions| extensions.get(EXTENSION).is_some());
    let Some(extensions) = extensions else { return without(capabilities, &["tasks"]) };
    let rest = without(capabilities, &["tasks", "extensions"]);
    let comma = if rest.len() > 2 { "," } else { "" };
    format!("{}{comma}\"extensions\":{}}}", &rest[..rest.len() - 1], without(extensions, &[EXTENSION]))
}

/// The notification that nobody waits for a request any more.
fn cancelled(id: &Id, why: &str) -> Bytes {
    let (id, why) = (id.text(), json::quote(why));
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":{why}}}}}"#).into()
}

/// An id for something of the bridge's own: a string, so that it is never a number of the conversation's.
fn own_id(number: &mut u64) -> Id {
    *number += 1;
    Id::from(format!("callgate-bridge-{number}").as_str())
}

/// Whether `object` has `flag: true`.
fn flag(object: Option<Value<'_>>, key: &str, flag: &str) -> bool {
    object.and_then(|object| object.get(key)?.get(flag)?.as_bool()) == Some(true)
}

#[cfg(test)]
mod tests;
