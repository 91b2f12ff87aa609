//! A server's tools beside those of the others that the same model sees.
//!
//! To a model all tools are one list. So one server can take the place of another's tool: by its name or one like it, by its
//! description, or by speaking of it.

use super::text::{plain, sentences, shortened};
use super::{Flaw, Introduction, Suspicion, Weight};
use crate::comparison::Subject;
use crate::names::{look_alike, looks};
use json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// All tools of all servers, found by what they are called and by what they say.
pub(super) struct Neighbours {
    tools: Vec<Vec<Tool>>,
    /// Which tools look like this: server and place.
    by_look: HashMap<String, Vec<(usize, usize)>>,
    by_description: HashMap<String, Vec<(usize, usize)>>,
    servers: Vec<String>,
}

struct Tool {
    name: String,
    /// In plain letters.
    description: String,
}

impl Neighbours {
    pub(super) fn of(servers: &[Introduction<'_>]) -> Neighbours {
        let text = |value: Option<Value<'_>>| value.and_then(Value::as_str).unwrap_or_default().into_owned();
        let tool =
            |tool: &Value<'_>| Tool { name: text(tool.get("name")), description: plain(text(tool.get("description")).trim()) };
        let tools: Vec<Vec<Tool>> = servers.iter().map(|server| server.tools.iter().map(tool).collect()).collect();
        let mut neighbours = Neighbours {
            tools: Vec::new(),
            by_look: HashMap::new(),
            by_description: HashMap::new(),
            servers: servers.iter().map(|server| server.name.clone()).collect(),
        };
        // Alone, a server has nobody to be taken for.
        if servers.len() > 1 {
            for (server, tools) in tools.iter().enumerate() {
                for (place, tool) in tools.iter().enumerate() {
                    for look in BTreeSet::from(looks(&tool.name)) {
                        neighbours.by_look.entry(look).or_default().push((server, place));
                    }
                    if says_enough(&tool.description) {
                        neighbours.by_description.entry(tool.description.clone()).or_default().push((server, place));
                    }
                }
            }
        }
        neighbours.tools = tools;
        neighbours
    }

    /// The names of one server's tools.
    pub(super) fn names_of(&self, server: usize) -> impl Iterator<Item = &str> {
        self.tools[server].iter().map(|tool| tool.name.as_str())
    }

    /// What is found in one server's tools because of the others.
    pub(super) fn flaws(&self, server: usize, introduction: &Introduction<'_>) -> Vec<Flaw> {
        if self.by_look.is_empty() {
            return Vec::new();
        }
        let (kin, mut flaws) = self.kin(server);
        for (tool, definition) in self.tools[server].iter().zip(&introduction.tools) {
            let span = |key: &str| definition.get(key).map(Value::span);
            let subject = Subject::Tool(tool.name.clone());
            let flaw = |weight, path: &str, quote: &str, why| Flaw {
                rule: Suspicion::ShadowsTool,
                weight,
                subject: Some(subject.clone()),
                path: path.to_owned(),
                quote: shortened(quote),
                why,
                span: span(path),
            };
            let strangers = |found: Option<&Vec<(usize, usize)>>| -> Vec<(usize, &Tool)> {
                let found = found.into_iter().flatten().filter(|(of, _)| *of != server && !kin.contains(of));
                found.map(|(of, place)| (*of, &self.tools[*of][*place])).collect()
            };
            let (named, described) = (self.like_named(tool, &strangers), self.like_described(tool, &strangers));
            // By chance a name is like another, or a description; not both.
            let is_copy = described.is_some() && named.as_ref().is_some_and(|(weight, _)| *weight >= Weight::Doubtful);
            if let Some((weight, why)) = named {
                flaws.push(flaw(if is_copy { Weight::Dangerous } else { weight }, "name", &tool.name, why));
            }
            if let Some((of, other)) = described {
                let why = format!("it says what `{}` of {} says, under another name", other.name, self.servers[of]);
                flaws.push(flaw(Weight::Doubtful, "description", &tool.description, why));
            }
            if let Some((sentence, why)) = self.spoken_of(server, tool, &strangers) {
                let ordered = flaw(Weight::Dangerous, "description", &sentence, why);
                flaws.push(Flaw { rule: Suspicion::OrdersOtherTools, ..ordered });
            }
        }
        flaws
    }

    /// Servers with mostly the same tools: another version or another configuration of the same thing. It is said once.
    fn kin(&self, server: usize) -> (BTreeSet<usize>, Vec<Flaw>) {
        let own: BTreeSet<&str> = self.names_of(server).collect();
        let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
        for (other, tools) in self.tools.iter().enumerate().filter(|(other, _)| *other != server) {
            shared.insert(other, tools.iter().filter(|tool| own.contains(tool.name.as_str())).count());
        }
        let is_kin = |(other, count): &(usize, usize)| {
            let smaller = own.len().min(self.tools[*other].len());
            *count >= 2 && *count * 2 > smaller || *count == 1 && smaller == 1
        };
        let kin: BTreeSet<usize> = shared.into_iter().filter(is_kin).map(|(other, _)| other).collect();
        let flaw = |other: &usize| Flaw {
            rule: Suspicion::ShadowsTool,
            weight: Weight::Remark,
            subject: None,
            path: String::new(),
            quote: self.servers[*other].clone(),
            why: "it has mostly the same tools: the same server twice, or one that stands in for the other".to_owned(),
            span: None,
        };
        let flaws = kin.iter().map(flaw).collect();
        (kin, flaws)
    }

    fn like_named<'s>(
        &'s self,
        tool: &Tool,
        strangers: &impl Fn(Option<&'s Vec<(usize, usize)>>) -> Vec<(usize, &'s Tool)>,
    ) -> Option<(Weight, String)> {
        for look in looks(&tool.name) {
            for (of, other) in strangers(self.by_look.get(&look)) {
                let of = &self.servers[of];
                if other.name == tool.name {
                    return Some((Weight::Remark, format!("{of} has a tool of the same name")));
                }
                if json::same_folded(&other.name, &tool.name) {
                    return Some((Weight::Remark, format!("{of} has `{}`: only the case differs", other.name)));
                }
                if look_alike(&other.name, &tool.name) {
                    return Some((Weight::Dangerous, format!("it looks like `{}` of {of}, and is not", other.name)));
                }
            }
        }
        let bare = without_boast(&tool.name)?;
        let (of, other) = looks(bare).iter().find_map(|look| strangers(self.by_look.get(look)).into_iter().next())?;
        Some((Weight::Doubtful, format!("it is called like `{}` of {}, and a little better", other.name, self.servers[of])))
    }

    fn like_described<'s>(
        &'s self,
        tool: &Tool,
        strangers: &impl Fn(Option<&'s Vec<(usize, usize)>>) -> Vec<(usize, &'s Tool)>,
    ) -> Option<(usize, &'s Tool)> {
        // Something may have been put before it.
        let rest = tool.description.split_once(". ").map(|(_, rest)| rest);
        let texts = [Some(tool.description.as_str()), rest];
        let found = texts.into_iter().flatten().find_map(|text| strangers(self.by_description.get(text)).into_iter().next());
        found.filter(|(_, other)| other.name != tool.name)
    }

    /// A sentence that orders something about a tool of another server.
    fn spoken_of<'s>(
        &'s self,
        server: usize,
        tool: &Tool,
        strangers: &impl Fn(Option<&'s Vec<(usize, usize)>>) -> Vec<(usize, &'s Tool)>,
    ) -> Option<(String, String)> {
        for sentence in sentences(&tool.description) {
            let words = sentence.plain.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-');
            let orders = ORDERS.iter().any(|order| sentence.plain.contains(order));
            // A plain word may be meant as a word.
            for word in words.filter(|word| orders && word.len() > 5 && word.contains(['_', '-'])) {
                let is_own = self.names_of(server).any(|own| json::same_folded(own, word));
                let other = looks(word).iter().find_map(|look| strangers(self.by_look.get(look)).into_iter().next());
                if let Some((of, other)) = other.filter(|_| !is_own) {
                    let why = format!("it gives orders about `{}`, a tool of {}", other.name, self.servers[of]);
                    return Some((sentence.plain.clone(), why));
                }
            }
        }
        None
    }
}

/// With these a sentence is no mere mention.
const ORDERS: &[&str] =
    &["must", "always", "never", "instead", "do not", "don't", "before", "override", "replace", "deprecated", "unsafe"];

/// Whether two tools that both say this hardly do so by chance.
fn says_enough(description: &str) -> bool {
    description.len() >= 24 && description.split(' ').count() >= 4
}

/// The name without what makes it sound newer or safer than another: `_v2`, `secure_`.
fn without_boast(name: &str) -> Option<&str> {
    let after = [
        "_v1",
        "_v2",
        "_v3",
        "_new",
        "_secure",
        "_safe",
        "_pro",
        "_plus",
        "_fast",
        "_better",
        "_official",
        "_enhanced",
        "-v2",
        "-new",
        "-secure",
        "-safe",
        "-pro",
        "-official",
    ];
    let before = ["new_", "secure_", "safe_", "better_", "official_", "fast_", "enhanced_", "real_", "trusted_"];
    after
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .or_else(|| before.iter().find_map(|prefix| name.strip_prefix(prefix)))
}
