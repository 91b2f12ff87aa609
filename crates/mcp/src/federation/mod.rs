//! Many servers as one: names, targets, lists, cursors and ownership. Sans-IO.
//!
//! A tool, a prompt or a resource of a server is called `server__name` by clients. Names of servers have no underscore, so a
//! name leads back to one server without a table, and two servers can never mean the same. URIs stay as they are, for they
//! stand in results that nobody rewrites; to whom one belongs, [`Claims`] knows.
//!
//! This module puts prefixes on and takes them off, by splicing. It knows no connections, and not whether anything may pass.

mod claims;
mod cursor;
mod greeting;
mod lists;
#[cfg(test)]
mod tests;

pub use claims::{Claims, Whose, mentioned};
pub use cursor::Cursor;
pub use greeting::{Greeting, capabilities, instructions};
pub use lists::{LeftOut, ListKind, Merged, Part, merge, merge_tasks};

use crate::message::Message;
use crate::splice::Edit;
use json::{Value, quote};
use std::borrow::Cow;

/// Stands between the name of a server and a name of its own.
pub const SEPARATOR: &str = "__";

/// A name of more characters is not offered (2025-11-25 §Tool Names: "SHOULD be between 1 and 128 characters").
pub const MAX_NAME: usize = 128;

/// The name by which clients know `name` of `server`.
///
/// # Errors
/// Says why there is none: it would be empty, or longer than [`MAX_NAME`].
pub fn join(server: &str, name: &str) -> Result<String, &'static str> {
    fits(server, name).map(|()| format!("{server}{SEPARATOR}{name}"))
}

/// Whether there is such a name.
fn fits(server: &str, name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("its name is empty");
    }
    if server.chars().count() + SEPARATOR.len() + name.chars().count() > MAX_NAME {
        return Err("with its server's name it is longer than 128 characters");
    }
    Ok(())
}

/// The server that a client's name for something leads to, and its own name there. `None` for a name that [`join`] does not
/// give.
pub fn split(name: &str) -> Option<(&str, &str)> {
    let (server, own) = name.split_once(SEPARATOR)?;
    // As many readers cut a name of three underscores in one place as in the other: servers have no underscore, so it is here.
    (!server.is_empty() && fits(server, own).is_ok()).then_some((server, own))
}

/// What a request of the client's is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<'m> {
    /// A tool or a prompt, by the name that clients know it by.
    Name(Cow<'m, str>),
    /// A resource.
    Resource(Cow<'m, str>),
    /// A template of resources.
    Template(Cow<'m, str>),
    /// A task.
    Task(Cow<'m, str>),
    /// A list of what all servers have.
    List(ListKind),
    /// Something that the request does not name, though its method asks for it.
    Missing,
    /// None of these: its method says which servers it is for.
    Other,
}

impl Target<'_> {
    /// The target of a request.
    pub fn of(message: &Message) -> Target<'_> {
        let method = message.method().unwrap_or_default();
        if let Some(kind) = ListKind::of_method(method) {
            return Target::List(kind);
        }
        let named = match method {
            "tools/call" | "prompts/get" => named(message).and_then(Value::as_str).map(Target::Name),
            "completion/complete" => match (named(message), referred(message).and_then(|reference| reference.get("uri"))) {
                (Some(name), None) => name.as_str().map(Target::Name),
                (None, Some(uri)) => uri.as_str().map(Target::Template),
                _ => None,
            },
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
                message.params().and_then(|params| params.get("uri")?.as_str()).map(Target::Resource)
            }
            "tasks/get" | "tasks/update" | "tasks/cancel" | "tasks/result" => {
                message.params().and_then(|params| params.get("taskId")?.as_str()).map(Target::Task)
            }
            _ => return Target::Other,
        };
        named.unwrap_or(Target::Missing)
    }
}

/// The envelope of a request of the stateless era as a member of `params` for another: `"_meta":{…}`. `None` where it has
/// none.
pub fn envelope(like: &Message) -> Option<String> {
    let members = like.params()?.get("_meta")?.members()?;
    let own = members.filter(|member| member.key.starts_with("io.modelcontextprotocol/"));
    let own: Vec<_> = own.map(|member| format!("{}:{}", quote(&member.key), member.value.raw())).collect();
    (!own.is_empty()).then(|| format!(r#""_meta":{{{}}}"#, own.join(",")))
}

/// The value that names a tool or a prompt in a request.
fn named(message: &Message) -> Option<Value<'_>> {
    match message.method()? {
        "tools/call" | "prompts/get" => message.params()?.get("name"),
        "completion/complete" => referred(message)?.get("name"),
        _ => None,
    }
}

fn referred(message: &Message) -> Option<Value<'_>> {
    message.params()?.get("ref")
}

/// Begins an edit of a request, in which the tool or the prompt has the name that its server knows it by. Nothing else is
/// changed, and nothing at all where the request names none of `server`.
pub fn own_name<'m>(message: &'m Message, server: &str) -> Edit<'m> {
    let edit = message.edit();
    let Some(value) = named(message) else { return edit };
    let Some(name) = value.as_str() else { return edit };
    match split(&name) {
        Some((of, own)) if of == server => {
            let (span, prefix) = (value.span(), server.len() + SEPARATOR.len());
            // As it stands, unless the prefix is spelt with escapes.
            if value.raw().get(1..=prefix).is_some_and(|written| name.starts_with(written)) {
                edit.remove(span.start + 1..span.start + 1 + prefix)
            } else {
                edit.replace(span, quote(own))
            }
        }
        _ => edit,
    }
}
