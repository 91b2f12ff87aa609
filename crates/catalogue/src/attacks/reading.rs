//! The attacks' files, read. They are ours, so one mistake is enough to stop at.

use super::applies::{Answer, Asked, Does, Takes, Way};
use super::case::{Case, Scene, Send, Server, Step};
use super::{Attack, AttackClass, AttackSource, Control, Frameworks, Reach, Seen, Use};
use json::quote;
use policy::RiskClass;
use policy::{Fields, Kind, Node, Reader, Source, Vocabulary};

/// Reads the list of classes.
pub(super) fn classes(source: &Source) -> Result<Vec<AttackClass>, String> {
    read(source, |reading, node| {
        let fields = reading.fields(node, "a class", &["name", "title", "works"])?;
        Some(AttackClass {
            name: reading.text(fields, "name")?,
            title: reading.text(fields, "title")?,
            works: reading.text(fields, "works")?,
        })
    })
}

/// Reads one file of attacks.
pub(super) fn attacks(source: &Source) -> Result<Vec<Attack>, String> {
    read(source, |reading, node| reading.attack(node))
}

fn read<T>(source: &Source, element: impl Fn(&mut Reading<'_>, &Node) -> Option<T>) -> Result<Vec<T>, String> {
    let mut reading = Reading { reader: Reader::new(source, &VOCABULARY) };
    let root = reading.reader.root();
    let elements = root.as_ref().and_then(|root| reading.reader.list(root, "the file"));
    let read = elements.map(|elements| elements.iter().map(|node| element(&mut reading, node)).collect::<Option<Vec<T>>>());
    match (read.flatten(), reading.reader.finish().first()) {
        (Some(read), None) => Ok(read),
        (_, Some(problem)) => Err(format!("{}:{}: {}", source.name, problem.line, problem.message)),
        (None, None) => Err(format!("{}: something is missing", source.name)),
    }
}

const VOCABULARY: Vocabulary = Vocabulary { synonyms: &[], places: &[] };
const MISSING: &str = "missing";

struct Reading<'s> {
    reader: Reader<'s>,
}

impl Reading<'_> {
    fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&'static str]) -> Option<Fields<'n>> {
        self.reader.fields(node, what, known)
    }

    fn text(&mut self, fields: Fields<'_>, key: &'static str) -> Option<String> {
        match fields.get(key) {
            Some(node) => self.reader.string(node, key).map(|text| text.trim_end().to_owned()),
            None => {
                self.reader.error(MISSING, &fields.node.at, format!("`{key}` is missing"));
                None
            }
        }
    }

    fn optional_text(&mut self, fields: Fields<'_>, key: &'static str) -> Option<String> {
        fields.get(key).and_then(|_| self.text(fields, key))
    }

    fn texts(&mut self, fields: Fields<'_>, key: &'static str) -> Vec<String> {
        let Some(node) = fields.get(key) else { return Vec::new() };
        let nodes = self.reader.list(node, key).unwrap_or_default();
        nodes.iter().filter_map(|node| self.reader.string(node, key).map(str::to_owned)).collect()
    }

    fn list<T>(&mut self, fields: Fields<'_>, key: &'static str, one: fn(&mut Self, &Node) -> Option<T>) -> Option<Vec<T>> {
        let Some(node) = fields.get(key) else { return Some(Vec::new()) };
        let nodes = self.reader.list(node, key)?;
        nodes.iter().map(|node| one(self, node)).collect()
    }

    fn number(&mut self, fields: Fields<'_>, key: &'static str) -> Option<u32> {
        let node = fields.get(key)?;
        let number = json_of(node).parse().ok();
        if number.is_none() {
            self.reader.wrong_type(node, key, "a whole number");
        }
        number
    }

    fn is_set(&mut self, fields: Fields<'_>, key: &'static str) -> bool {
        fields.get(key).and_then(|node| self.reader.boolean(node, key)).unwrap_or(false)
    }

    /// Names and texts.
    fn pairs(&mut self, fields: Fields<'_>, key: &'static str) -> Vec<(String, String)> {
        let Some(Kind::Object(members)) = fields.get(key).map(|node| &node.kind) else { return Vec::new() };
        let pair =
            |member: &policy::Member| self.reader.string(&member.value, key).map(|value| (member.key.clone(), value.to_owned()));
        members.iter().filter_map(pair).collect()
    }

    fn attack(&mut self, node: &Node) -> Option<Attack> {
        const KNOWN: &[&str] = &[
            "id",
            "title",
            "date",
            "affected",
            "classes",
            "happened",
            "cves",
            "sources",
            "frameworks",
            "reach",
            "remains",
            "controls",
            "elsewhere",
            "note",
            "policy",
            "configuration",
            "ways",
            "cases",
        ];
        let fields = self.fields(node, "an attack", KNOWN)?;
        let reach = Reach::ALL.map(|reach| (reach.name(), reach));
        let reach = fields.get("reach").and_then(|node| self.reader.word(node, "`reach`", &reach))?;
        let frameworks = match fields.get("frameworks") {
            Some(node) => self.frameworks(node)?,
            None => Frameworks::default(),
        };
        Some(Attack {
            id: self.text(fields, "id")?,
            title: self.text(fields, "title")?,
            date: self.text(fields, "date")?,
            affected: self.text(fields, "affected")?,
            classes: self.texts(fields, "classes"),
            happened: self.text(fields, "happened")?,
            cves: self.texts(fields, "cves"),
            sources: self.list(fields, "sources", Self::source)?,
            frameworks,
            reach,
            remains: self.optional_text(fields, "remains"),
            controls: self.uses(fields, "controls")?,
            elsewhere: self.uses(fields, "elsewhere")?,
            note: self.optional_text(fields, "note"),
            policy: self.optional_text(fields, "policy").map(|text| text + "\n"),
            configuration: self.optional_text(fields, "configuration").map(|text| text + "\n"),
            ways: self.list(fields, "ways", Self::way)?,
            cases: self.list(fields, "cases", Self::case)?,
        })
    }

    fn source(&mut self, node: &Node) -> Option<AttackSource> {
        let fields = self.fields(node, "a source", &["url", "seen"])?;
        let seen = Seen::ALL.map(|seen| (seen.name(), seen));
        let seen = fields.get("seen").and_then(|node| self.reader.word(node, "`seen`", &seen))?;
        Some(AttackSource { url: self.text(fields, "url")?, seen })
    }

    fn frameworks(&mut self, node: &Node) -> Option<Frameworks> {
        let fields = self.fields(node, "`frameworks`", &["atlas", "mcp", "llm", "agentic"])?;
        Some(Frameworks {
            atlas: self.texts(fields, "atlas"),
            mcp: self.texts(fields, "mcp"),
            llm: self.texts(fields, "llm"),
            agentic: self.texts(fields, "agentic"),
        })
    }

    /// `{control: how}`, in the order in which they are written.
    fn uses(&mut self, fields: Fields<'_>, key: &'static str) -> Option<Vec<Use>> {
        let Some(node) = fields.get(key) else { return Some(Vec::new()) };
        let names: Vec<&'static str> = Control::ALL.iter().map(|control| control.name()).collect();
        let uses = self.fields(node, key, &names)?;
        let used = |control: &Control| {
            let how = self.text(uses, control.name())?;
            Some(Use { control: *control, how })
        };
        let order = |used: &Use| uses.members().iter().position(|member| member.key == used.control.name());
        let present = Control::ALL.iter().filter(|control| uses.get(control.name()).is_some());
        let mut read: Vec<Use> = present.map(used).collect::<Option<_>>()?;
        read.sort_by_key(order);
        Some(read)
    }

    fn way(&mut self, node: &Node) -> Option<Way> {
        let known = &["takes", "arguments", "pattern", "with", "changes", "does", "named", "asks", "answer"];
        let fields = self.fields(node, "a way", known)?;
        let with = match fields.get("with") {
            None => Vec::new(),
            Some(node) => self.reader.list(node, "with")?.iter().map(json_of).collect(),
        };
        if let Some(node) = fields.get("takes") {
            let takes = self.reader.word(node, "`takes`", &Takes::ALL.map(|takes| (takes.name(), takes)))?;
            let pattern = self.optional_text(fields, "pattern");
            let (arguments, changes) = (self.texts(fields, "arguments"), self.is_set(fields, "changes"));
            return Some(Way::Argument { takes, arguments, pattern, with, changes });
        }
        if let Some(node) = fields.get("asks") {
            return self.reader.word(node, "`asks`", &Asked::ALL.map(|asked| (asked.name(), asked))).map(Way::Asks);
        }
        let answers = [Answer::Hide, Answer::Ask, Answer::Pace].map(|answer| (answer.name(), answer));
        let answer = match fields.get("answer") {
            Some(node) => self.reader.word(node, "`answer`", &answers)?,
            None => Answer::Hide,
        };
        let does = match fields.get("does") {
            Some(node) => {
                let class = RiskClass::ALL.map(|class| (class.name(), class));
                Does::Class(self.reader.word(node, "`does`", &class)?)
            }
            None => Does::Named(self.texts(fields, "named")),
        };
        Some(Way::Call { does, answer })
    }

    fn case(&mut self, node: &Node) -> Option<Case> {
        let fields = self.fields(node, "a case", &["title", "scene", "server", "pinned", "steps"])?;
        let scene = match fields.get("scene") {
            Some(node) => self.reader.word(node, "`scene`", &Scene::ALL.map(|scene| (scene.name(), scene)))?,
            None => Scene::Run,
        };
        let server = match fields.get("server") {
            Some(node) => self.server(node)?,
            None => Server::default(),
        };
        let steps = self.list(fields, "steps", Self::step)?;
        Some(Case { title: self.text(fields, "title")?, scene, server, is_pinned: self.is_set(fields, "pinned"), steps })
    }

    fn server(&mut self, node: &Node) -> Option<Server> {
        let known = &[
            "tools",
            "becomes",
            "after",
            "returns",
            "asks",
            "params",
            "at_url",
            "status",
            "headers",
            "redirects",
            "environment",
            "gathers",
        ];
        let fields = self.fields(node, "a server", known)?;
        let tools = |reading: &mut Self, key| {
            let node = fields.get(key)?;
            reading.reader.list(node, key).map(|tools| tools.iter().map(json_of).collect::<Vec<_>>())
        };
        let after = self.number(fields, "after").unwrap_or(0);
        let params = fields.get("params").map_or_else(|| "{}".to_owned(), json_of);
        let status = self.number(fields, "status").and_then(|status| u16::try_from(status).ok());
        let headers = self.pairs(fields, "headers");
        Some(Server {
            tools: tools(self, "tools").unwrap_or_default(),
            becomes: tools(self, "becomes").map(|tools| (after, tools)),
            returns: fields.get("returns").map(returned).unwrap_or_default(),
            asks: self.optional_text(fields, "asks").map(|method| (method, params)),
            is_at_url: self.is_set(fields, "at_url"),
            answers: status.map(|status| (status, headers)),
            redirects: self.is_set(fields, "redirects"),
            notes_environment: self.is_set(fields, "environment"),
            gathers: self.number(fields, "gathers").unwrap_or(0),
        })
    }

    fn step(&mut self, node: &Node) -> Option<Step> {
        const KNOWN: &[&str] = &[
            "call",
            "with",
            "method",
            "params",
            "raw",
            "times",
            "by",
            "session_of",
            "headers",
            "path",
            "stopped",
            "keeps_from_client",
            "keeps_from_server",
        ];
        let fields = self.fields(node, "a step", KNOWN)?;
        let json = |key| fields.get(key).map_or_else(|| "{}".to_owned(), json_of);
        let send = match (self.optional_text(fields, "call"), self.optional_text(fields, "method")) {
            (Some(tool), _) => Send::Call(tool, json("with")),
            (None, Some(method)) => Send::Method(method, json("params")),
            (None, None) => Send::Raw(self.text(fields, "raw")?),
        };
        Some(Step {
            send,
            times: self.number(fields, "times").unwrap_or(1),
            by: self.optional_text(fields, "by"),
            session_of: self.optional_text(fields, "session_of"),
            headers: self.pairs(fields, "headers"),
            path: self.optional_text(fields, "path"),
            stopped: self.optional_text(fields, "stopped"),
            keeps_from_client: self.optional_text(fields, "keeps_from_client"),
            keeps_from_server: self.optional_text(fields, "keeps_from_server"),
        })
    }
}

/// What tools return. A text stands for a result that holds nothing else.
fn returned(node: &Node) -> Vec<(String, String)> {
    let Kind::Object(members) = &node.kind else { return Vec::new() };
    let result = |node: &Node| match node.as_str() {
        Some(text) => format!(r#"{{"content":[{{"type":"text","text":{}}}]}}"#, quote(text)),
        None => json_of(node),
    };
    members.iter().map(|member| (member.key.clone(), result(&member.value))).collect()
}

/// The JSON text of a value.
pub(super) fn json_of(node: &Node) -> String {
    match &node.kind {
        Kind::Empty | Kind::Null | Kind::Odd { .. } | Kind::Invalid => "null".to_owned(),
        Kind::Bool(value) => value.to_string(),
        Kind::Number(number) => number.to_string(),
        Kind::String(text) => quote(text.as_str()),
        Kind::Array(elements) => format!("[{}]", elements.iter().map(json_of).collect::<Vec<_>>().join(",")),
        Kind::Object(members) => {
            let member = |member: &policy::Member| format!("{}:{}", quote(&member.key), json_of(&member.value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
        }
    }
}
