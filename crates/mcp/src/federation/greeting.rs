//! What many servers can do together, and what they say of themselves.

use crate::message::Message;
use json::{Document, Kind as JsonKind, Strictness, Value, quote};
use std::sync::Arc;

/// Instructions past this length are left out: the longest that a real server has given is 19,500 characters.
const MAX_INSTRUCTIONS: usize = 128 * 1024;
/// Capabilities nest three deep.
const MAX_DEPTH: usize = 8;

/// What is not known of a server that has not answered yet: it may have anything.
const ANYTHING: &str = concat!(
    r#"{"tools":{"listChanged":true},"prompts":{"listChanged":true},"#,
    r#""resources":{"listChanged":true,"subscribe":true},"logging":{},"completions":{}}"#
);
/// What the gateway adds where there is any: a server that was away comes back.
const COMES_BACK: [&str; 3] = ["tools", "prompts", "resources"];

/// What a server has answered to `initialize` or `server/discover`.
#[derive(Clone, Debug)]
pub struct Greeting {
    server: Arc<str>,
    reply: Message,
}

impl Greeting {
    /// `None` for a reply without capabilities.
    pub fn of(server: &Arc<str>, reply: Message) -> Option<Greeting> {
        reply.result()?.get("capabilities")?.members()?;
        Some(Greeting { server: server.clone(), reply })
    }

    /// Whether the server has declared a capability, by its path.
    pub fn has(&self, path: &[&str]) -> bool {
        let mut value = self.reply.result().and_then(|result| result.get("capabilities"));
        for key in path {
            value = value.and_then(|value| value.get(key));
        }
        value.is_some_and(|value| value.as_bool() != Some(false) && !value.is_null())
    }

    fn capabilities(&self) -> Option<Value<'_>> {
        self.reply.result()?.get("capabilities")
    }

    fn instructions(&self) -> Option<String> {
        let text = self.reply.result()?.get("instructions")?.as_str()?;
        (!text.trim().is_empty()).then(|| format!("# {}\n\n{}", self.server, text.trim()))
    }
}

/// What the servers can do together, as JSON text: what any of them can. `complete` says that all have answered.
pub fn capabilities<'g>(greetings: impl Iterator<Item = &'g Greeting>, complete: bool) -> String {
    let anything = Document::parse(ANYTHING, Strictness::Reply).expect("it is a constant");
    let unknown = (!complete).then(|| anything.root());
    let mut all: Vec<Value<'_>> = Vec::new();
    for greeting in greetings {
        all.extend(greeting.capabilities());
    }
    all.extend(unknown);
    let united = unite(&all, MAX_DEPTH);
    let Ok(document) = Document::parse(united.clone(), Strictness::Reply) else { return united };
    let members = document.root().members().into_iter().flatten().map(|member| {
        let key = quote(&member.key);
        if COMES_BACK.contains(&&*member.key) && member.value.kind() == JsonKind::Object {
            let others = member.value.members().into_iter().flatten().filter(|inner| inner.key != "listChanged");
            let others: String = others.map(|inner| format!(",{}:{}", quote(&inner.key), inner.value.raw())).collect();
            return format!(r#"{key}:{{"listChanged":true{others}}}"#);
        }
        format!("{key}:{}", member.value.raw())
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// What the servers say of themselves, each under its name; as JSON text. `None` where nobody says anything.
pub fn instructions<'g>(greetings: impl Iterator<Item = &'g Greeting>) -> Option<String> {
    let mut whole = String::new();
    for text in greetings.filter_map(Greeting::instructions) {
        if whole.len() + text.len() > MAX_INSTRUCTIONS {
            continue;
        }
        if !whole.is_empty() {
            whole.push_str("\n\n");
        }
        whole.push_str(&text);
    }
    (!whole.is_empty()).then(|| quote(&whole))
}

/// Objects are united member by member, flags are set where any is; of anything else the first counts.
fn unite(values: &[Value<'_>], depth: usize) -> String {
    let Some(first) = values.first() else { return "{}".to_owned() };
    if values.len() == 1 || depth == 0 {
        return first.raw().to_owned();
    }
    match first.kind() {
        JsonKind::Object => {
            let objects = values.iter().filter_map(|value| value.members());
            let mut united: Vec<(String, Vec<Value<'_>>)> = Vec::new();
            for member in objects.flatten() {
                match united.iter_mut().find(|(key, _)| *key == *member.key) {
                    Some((_, values)) => values.push(member.value),
                    None => united.push((member.key.into_owned(), vec![member.value])),
                }
            }
            let members = united.iter().map(|(key, values)| format!("{}:{}", quote(key), unite(values, depth - 1)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        JsonKind::Bool => values.iter().any(|value| value.as_bool() == Some(true)).to_string(),
        JsonKind::Null | JsonKind::Number | JsonKind::String | JsonKind::Array => first.raw().to_owned(),
    }
}
