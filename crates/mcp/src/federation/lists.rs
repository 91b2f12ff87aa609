//! One list of what many servers have.
//!
//! The elements are the servers' own bytes; only their names get a prefix. What the servers say of their lists as a whole
//! cannot be true of all together: the page is kept by nobody for longer than the shortest of them allows, and by one client.

use crate::federation::claims::{Claims, Whose};
use crate::federation::{SEPARATOR, cursor, fits};
use crate::keys;
use crate::message::Message;
use crate::tools::REPEATED;
use json::{Kind as JsonKind, Value};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;

/// What a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListKind {
    /// Tools.
    Tools,
    /// Prompts.
    Prompts,
    /// Resources.
    Resources,
    /// Templates of resources.
    Templates,
}

impl ListKind {
    /// All kinds.
    pub const ALL: [ListKind; 4] = [ListKind::Tools, ListKind::Prompts, ListKind::Resources, ListKind::Templates];

    /// The kind that a method lists.
    pub fn of_method(method: &str) -> Option<ListKind> {
        ListKind::ALL.into_iter().find(|kind| kind.method() == method)
    }

    /// The method that lists it.
    pub fn method(self) -> &'static str {
        match self {
            ListKind::Tools => "tools/list",
            ListKind::Prompts => "prompts/list",
            ListKind::Resources => "resources/list",
            ListKind::Templates => "resources/templates/list",
        }
    }

    /// The notice that such a list has changed.
    pub fn changed(self) -> &'static str {
        match self {
            ListKind::Tools => "notifications/tools/list_changed",
            ListKind::Prompts => "notifications/prompts/list_changed",
            ListKind::Resources | ListKind::Templates => "notifications/resources/list_changed",
        }
    }

    /// The capability of servers that have any.
    pub fn capability(self) -> &'static str {
        match self {
            ListKind::Tools => "tools",
            ListKind::Prompts => "prompts",
            ListKind::Resources | ListKind::Templates => "resources",
        }
    }

    fn member(self) -> &'static str {
        match self {
            ListKind::Tools => "tools",
            ListKind::Prompts => "prompts",
            ListKind::Resources => "resources",
            ListKind::Templates => "resourceTemplates",
        }
    }

    /// By what a client asks for an element.
    fn identity(self) -> &'static str {
        match self {
            ListKind::Tools | ListKind::Prompts => "name",
            ListKind::Resources => "uri",
            ListKind::Templates => "uriTemplate",
        }
    }
}

/// One server's page.
#[derive(Clone, Debug)]
pub struct Part {
    /// Whose.
    pub server: Arc<str>,
    /// What it has answered.
    pub reply: Message,
    /// Whether it is the first page of its list.
    pub first: bool,
}

/// Something that is not offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Whose.
    pub server: Arc<str>,
    /// Its name or URI there; empty where the whole list is meant.
    pub name: String,
    /// Why, for a person.
    pub why: &'static str,
}

/// One page of the list of many.
#[derive(Debug)]
pub struct Merged {
    /// The members of the result, as JSON text without the braces around them; the cursor is not among them.
    pub members: String,
    /// The servers whose lists go on, and their cursors.
    pub next: Vec<(String, String)>,
    /// What is not offered.
    pub left_out: Vec<LeftOut>,
}

/// Merges the pages of several servers. `claims` learns of their resources. `whole` says that no server is missing: a page
/// that lacks one must not be kept. `modern` adds what 2026-07-28 asks of a result.
pub fn merge(kind: ListKind, parts: &[Part], claims: &mut Claims, whole: bool, modern: bool) -> Merged {
    let mut merged = Merged { members: String::new(), next: Vec::new(), left_out: Vec::new() };
    let mut lists = Vec::new();
    for part in parts {
        match elements(kind, part) {
            Ok((result, elements)) => {
                merged.next.extend(cursor::next_of(result).map(|cursor| (part.server.to_string(), cursor)));
                lists.push((part, result, elements));
            }
            Err(why) => merged.left_out.push(LeftOut { server: part.server.clone(), name: String::new(), why }),
        }
    }
    // All claims first: neither of two servers has a resource that both list, whichever has answered sooner.
    for (part, _, elements) in &lists {
        claim(kind, part, elements, claims);
    }
    // Each text is written once, and with its prefixes it is seldom longer than by a tenth.
    let length: usize = lists.iter().map(|(part, ..)| part.reply.text().len()).sum();
    let mut out = String::with_capacity(length + length / 10 + 1_024);
    let _ = write!(out, "\"{}\":[", kind.member());
    let mut is_first = true;
    for (part, _, elements) in &lists {
        let mut seen = HashSet::with_capacity(elements.len());
        for element in elements {
            match offered(kind, &part.server, *element, claims, &mut seen) {
                Ok((before, after)) => {
                    if !std::mem::take(&mut is_first) {
                        out.push(',');
                    }
                    out.push_str(before);
                    if !after.is_empty() {
                        out.push_str(&part.server);
                        out.push_str(SEPARATOR);
                        out.push_str(after);
                    }
                }
                Err(why) => {
                    let name = element.get(kind.identity()).and_then(Value::as_str).unwrap_or_default().into_owned();
                    merged.left_out.push(LeftOut { server: part.server.clone(), name, why });
                }
            }
        }
    }
    out.push(']');
    if modern {
        let shortest = lists.iter().map(|(_, result, _)| ttl(*result)).min().unwrap_or(0);
        let _ = write!(out, r#","ttlMs":{},"cacheScope":"private","resultType":"complete""#, if whole { shortest } else { 0 });
    }
    merged.members = out;
    merged
}

/// The elements of a page; or why there are none to be read.
fn elements(kind: ListKind, part: &Part) -> Result<(Value<'_>, Vec<Value<'_>>), &'static str> {
    let result = part.reply.result().ok_or("the server has answered with an error")?;
    if keys::check_twice(Some(result), keys::RESULT).is_err() {
        return Err("the server's list has a member twice");
    }
    let list = result.get(kind.member()).and_then(Value::elements).ok_or("the server has answered with no list")?;
    Ok((result, list.collect()))
}

fn claim(kind: ListKind, part: &Part, elements: &[Value<'_>], claims: &mut Claims) {
    if part.first {
        match kind {
            ListKind::Resources => claims.begin_resources(&part.server),
            ListKind::Templates => claims.begin_templates(&part.server),
            ListKind::Tools | ListKind::Prompts => {}
        }
    }
    for uri in elements.iter().filter_map(|element| element.get(kind.identity())?.as_str()) {
        match kind {
            ListKind::Resources => claims.list(&part.server, &uri),
            ListKind::Templates => claims.list_template(&part.server, &uri),
            ListKind::Tools | ListKind::Prompts => return,
        };
    }
}

/// An element as it is offered: its own text, in two parts where a prefix to its name comes between them; or why it is not.
fn offered<'d>(
    kind: ListKind,
    server: &Arc<str>,
    element: Value<'d>,
    claims: &Claims,
    seen: &mut HashSet<Cow<'d, str>>,
) -> Result<(&'d str, &'d str), &'static str> {
    if element.kind() != JsonKind::Object || keys::check_twice(Some(element), &["name", kind.identity()]).is_err() {
        return Err("it cannot be read without doubt");
    }
    let identity = element.get(kind.identity()).and_then(Value::as_str).ok_or("it has no name")?;
    let owner = match kind {
        ListKind::Tools | ListKind::Prompts => Whose::Of(server.clone()),
        ListKind::Resources => claims.resource(&identity),
        ListKind::Templates => claims.template(&identity),
    };
    match owner {
        Whose::Of(owner) if owner == *server => {}
        Whose::Of(_) | Whose::Disputed => return Err("another server has the same"),
        Whose::Unknown => return Err("there are too many, or its name is too long"),
    }
    if !seen.insert(identity) {
        return Err(REPEATED);
    }
    let Some(name) = element.get("name") else { return Ok((element.raw(), "")) };
    fits(server, &name.as_str().ok_or("its name is no text")?)?;
    let at = name.span().start + 1 - element.span().start;
    Ok(element.raw().split_at(at))
}

/// How long a client may keep a page.
fn ttl(result: Value<'_>) -> u64 {
    result.get("ttlMs").and_then(|ttl| ttl.raw().parse().ok()).unwrap_or(0)
}

/// The tasks of several servers as the members of one result. `claim` says whether a task is that server's alone.
pub fn merge_tasks(parts: &[Part], mut claim: impl FnMut(&Arc<str>, &str) -> bool) -> String {
    let mut tasks = Vec::new();
    for part in parts {
        let list = part.reply.result().and_then(|result| result.get("tasks")?.elements()).into_iter().flatten();
        for task in list {
            if task.get("taskId").and_then(Value::as_str).is_some_and(|id| claim(&part.server, &id)) {
                tasks.push(task.raw());
            }
        }
    }
    format!("\"tasks\":[{}]", tasks.join(","))
}
