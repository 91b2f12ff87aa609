//! To which server a resource belongs.
//!
//! What a server lists is its own. What two servers list is nobody's: it is neither shown nor read, for whoever came last
//! could otherwise take the place of another. A URI that merely stands in a result of a server's (a link) leads to that server
//! only as long as nobody lists it, and no other result of another server's has it. In doubt there is no answer.

use crate::message::Message;
use json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// More is not remembered, nor a longer URI: what is not known here is asked for again, or refused.
const MAX_CLAIMS: usize = 50_000;
const MAX_URI_BYTES: usize = 8 * 1024;
/// A result links to so many resources at most that are remembered.
const MAX_MENTIONS: usize = 256;

/// Whose something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// One server's.
    Of(Arc<str>),
    /// More than one says that it is its own.
    Disputed,
    /// Nobody has said so.
    Unknown,
}

/// Who has claimed what.
#[derive(Debug, Default)]
pub struct Claims {
    listed: HashMap<Box<str>, Vec<Arc<str>>>,
    templates: HashMap<Box<str>, Vec<Arc<str>>>,
    mentioned: HashMap<Box<str>, Vec<Arc<str>>>,
}

impl Claims {
    /// A server's list of resources begins anew: what it has listed before does not count any more.
    pub fn begin_resources(&mut self, server: &str) {
        forget(&mut self.listed, server);
    }

    /// The same for its templates.
    pub fn begin_templates(&mut self, server: &str) {
        forget(&mut self.templates, server);
    }

    /// A server lists a resource. Says whether that is remembered.
    pub fn list(&mut self, server: &Arc<str>, uri: &str) -> bool {
        claim(&mut self.listed, server, uri)
    }

    /// A server lists a template.
    pub fn list_template(&mut self, server: &Arc<str>, template: &str) -> bool {
        claim(&mut self.templates, server, template)
    }

    /// A result of a server's links to a resource.
    pub fn mention(&mut self, server: &Arc<str>, uri: &str) {
        claim(&mut self.mentioned, server, uri);
    }

    /// Whose a resource is: by the lists, else by the templates that it fits, else by the results that link to it.
    pub fn resource(&self, uri: &str) -> Whose {
        match whose(self.listed.get(uri)) {
            Whose::Unknown => {}
            known => return known,
        }
        let mut found = Whose::Unknown;
        for (template, servers) in &self.templates {
            if !fits(uri, template) {
                continue;
            }
            found = match (found, whose(Some(servers))) {
                (Whose::Unknown, one) => one,
                (Whose::Of(a), Whose::Of(b)) if a == b => Whose::Of(a),
                _ => return Whose::Disputed,
            };
        }
        if found == Whose::Unknown { whose(self.mentioned.get(uri)) } else { found }
    }

    /// Whose a template is; also that of a plain URI, for completions may name either.
    pub fn template(&self, template: &str) -> Whose {
        match whose(self.templates.get(template)) {
            Whose::Unknown => self.resource(template),
            known => known,
        }
    }
}

fn claim(claims: &mut HashMap<Box<str>, Vec<Arc<str>>>, server: &Arc<str>, what: &str) -> bool {
    if let Some(servers) = claims.get_mut(what) {
        if !servers.contains(server) {
            servers.push(server.clone());
        }
        return true;
    }
    let has_room = claims.len() < MAX_CLAIMS && what.len() <= MAX_URI_BYTES;
    if has_room {
        claims.insert(what.into(), vec![server.clone()]);
    }
    has_room
}

fn forget(claims: &mut HashMap<Box<str>, Vec<Arc<str>>>, server: &str) {
    claims.retain(|_, servers| {
        servers.retain(|of| **of != *server);
        !servers.is_empty()
    });
}

fn whose(servers: Option<&Vec<Arc<str>>>) -> Whose {
    match servers.map(Vec::as_slice) {
        None | Some([]) => Whose::Unknown,
        Some([one]) => Whose::Of(one.clone()),
        Some(_) => Whose::Disputed,
    }
}

/// Whether a URI can have come of a template (RFC 6570), whatever stands in the place of its expressions. Rather too much
/// than too little: what fits templates of two servers is refused.
fn fits(uri: &str, template: &str) -> bool {
    let mut literals = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        literals.push(before);
        let Some((_, after)) = after.split_once('}') else { return false };
        rest = after;
    }
    let Some((first, others)) = literals.split_first() else { return uri == template };
    let Some(mut left) = uri.strip_prefix(first) else { return false };
    for literal in others {
        let Some(at) = left.find(literal) else { return false };
        left = &left[at + literal.len()..];
    }
    left.ends_with(rest)
}

/// The resources that a result links to: of a call, a prompt, or a definition that stands in a list of tools.
pub fn mentioned(reply: &Message) -> Vec<Cow<'_, str>> {
    let Some(result) = reply.result() else { return Vec::new() };
    let blocks = result.get("content").and_then(Value::elements).into_iter().flatten();
    let messages = result.get("messages").and_then(Value::elements).into_iter().flatten();
    let contents = messages.filter_map(|message| message.get("content"));
    let linked = blocks.chain(contents).filter_map(|block| match block.get("type") {
        Some(kind) if kind.says("resource_link") => block.get("uri"),
        Some(kind) if kind.says("resource") => block.get("resource")?.get("uri"),
        _ => None,
    });
    let tools = result.get("tools").and_then(Value::elements).into_iter().flatten();
    let shown = tools.filter_map(|tool| tool.get("_meta")?.get("ui")?.get("resourceUri"));
    linked.chain(shown).filter_map(Value::as_str).take(MAX_MENTIONS).collect()
}
