//! The tools and prompts of an upstream, as its own lists describe them.
//!
//! Learnt from every list that passes by. Where a definition is needed that has not passed yet (for a rule that needs a
//! schema, for headers, to hold it against the pinned one), the gateway asks for one list of its own, in the era of the
//! connection; calls that need it meanwhile wait for that one list.
//!
//! What one list says of one name in two ways, on one page or on several, is disputed: it is neither shown nor called, until
//! a whole list says it in one.

mod walk;

use crate::pins::{Definitions, Finding, Section};
use crate::refusal::{is_modern, malformed};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use json::{Document, Strictness, Value};
use mcp::headers::{HeaderMismatch, Mirrored, check_request};
use mcp::tools::ToolList;
use mcp::{Malformed, Message, Revision, Side};
use policy::{RiskClass, ToolSchema};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;
pub(crate) use walk::Place;
use walk::{Before, Said, Walks};

/// Sends a question of the gateway's own and waits for its reply.
pub(crate) type Ask = Arc<dyn Fn(Message) -> BoxFuture<'static, Option<Message>> + Send + Sync>;

/// Servers take up to 30 s to start on a small machine; twice that.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a server that has failed to give its list is not asked again.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a definition that is pinned is taken to be what it was: a server may change it without a word.
const FRESH: Duration = Duration::from_secs(60);
/// No server pages today; this many pages is a server that never ends its list.
const MAX_PAGES: usize = 1_000;

/// What a definition says. Read when somebody asks: few of the tools of a long list are called.
pub(crate) struct ToolFacts {
    section: Section,
    name: String,
    /// The definition as the list has it: a part of its text.
    text: Bytes,
    /// Whether its list says something else of the same name.
    is_disputed: bool,
    has_schema: bool,
    schema: OnceLock<ToolSchema>,
    mirrored: OnceLock<Result<Mirrored, String>>,
    digest: OnceLock<String>,
    /// What was found out about it.
    finding: OfVersion<Arc<Finding>>,
    /// What the tool may do.
    class: OfVersion<RiskClass>,
}

/// What was worked out under one version of the pins.
type OfVersion<T> = Mutex<Option<(u64, T)>>;

impl ToolFacts {
    /// Of a definition in a list.
    pub fn new(section: Section, name: &str, definition: Value<'_>) -> ToolFacts {
        ToolFacts::of(section, name, definition.bytes(), definition.get("inputSchema").is_some(), false)
    }

    /// The same definition, disputed or not.
    fn disputed(&self, is_disputed: bool) -> ToolFacts {
        ToolFacts::of(self.section, &self.name, self.text.clone(), self.has_schema, is_disputed)
    }

    fn of(section: Section, name: &str, text: Bytes, has_schema: bool, is_disputed: bool) -> ToolFacts {
        ToolFacts {
            section,
            name: name.to_owned(),
            text,
            is_disputed,
            has_schema,
            schema: OnceLock::new(),
            mirrored: OnceLock::new(),
            digest: OnceLock::new(),
            finding: Mutex::default(),
            class: Mutex::default(),
        }
    }

    /// The name of the tool or prompt.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the arguments must look like; `None` where the definition does not say.
    pub fn schema(&self) -> Option<&ToolSchema> {
        self.has_schema.then(|| self.schema.get_or_init(|| self.with_schema(ToolSchema::new)))
    }

    /// Which of the arguments headers repeat; or why the definition is invalid over HTTP. `None` as for the schema.
    pub fn mirrored(&self) -> Option<&Result<Mirrored, String>> {
        self.has_schema.then(|| self.mirrored.get_or_init(|| self.with_schema(Mirrored::of)))
    }

    /// Names the definition: its digest.
    pub fn digest(&self) -> &str {
        self.digest.get_or_init(|| catalogue::digest(self.document().root()))
    }

    /// The definition in its canonical form: two that mean the same have the same.
    pub fn canonical(&self) -> String {
        self.document().root().canonical()
    }

    /// What is to be held against the definition, if anything.
    pub fn finding(&self, definitions: &Definitions) -> Arc<Finding> {
        under(&self.finding, definitions, || {
            let mut finding = definitions.judge(self.section, &self.name, self.document().root());
            if self.is_disputed {
                finding.refused = Some("the server's list has another definition of the same name".to_owned());
            }
            Arc::new(finding)
        })
    }

    /// What a call of the tool may do at worst, by its definition and by the pinned one.
    pub fn class(&self, definitions: &Definitions) -> RiskClass {
        under(&self.class, definitions, || definitions.class(&self.name, self.document().root()))
    }

    fn with_schema<T>(&self, read: impl FnOnce(Value<'_>) -> T) -> T {
        let document = self.document();
        read(document.root().get("inputSchema").expect("`has_schema` says so"))
    }

    fn document(&self) -> Document {
        Document::parse(self.text.clone(), Strictness::Reply).expect("it was a value in a text that was read")
    }
}

/// What was worked out under the pins as they are; works it out where they were others.
fn under<T: Clone>(found: &OfVersion<T>, definitions: &Definitions, work_out: impl FnOnce() -> T) -> T {
    let version = definitions.version();
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of, known)) = &*found
        && *of == version
    {
        return known.clone();
    }
    let worked_out = work_out();
    *found = Some((version, worked_out.clone()));
    worked_out
}

#[derive(Default)]
struct Known {
    /// By name, with when the definition was last seen.
    entries: HashMap<String, (Arc<ToolFacts>, Instant)>,
    /// When all pages of one list were seen, if they were since it last changed.
    complete: Option<Instant>,
    /// How often it has changed.
    generation: u64,
    /// When the server last failed to give its list.
    failed: Option<Instant>,
    /// What those have read who are in the middle of a list.
    walks: Walks,
}

/// What is known of an upstream's tools and prompts. Shared by all conversations with it.
#[derive(Default)]
pub(crate) struct LiveTools {
    tools: Mutex<Known>,
    prompts: Mutex<Known>,
    asking: tokio::sync::Mutex<()>,
    definitions: Arc<Definitions>,
}

/// The tools of an upstream, and a way to ask for them.
#[derive(Clone)]
pub(crate) struct Schemas {
    pub tools: Arc<LiveTools>,
    pub ask: Ask,
}

/// What has to be asked for before a request can be judged: a whole list, or one that has this in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    pub section: Section,
    pub name: Option<String>,
}

impl LiveTools {
    /// Of a server whose definitions are held against those.
    pub fn of(definitions: Arc<Definitions>) -> Arc<LiveTools> {
        Arc::new(LiveTools { definitions, ..LiveTools::default() })
    }

    /// Takes in the page at `place`, and gives what it says, in its order; nothing for what an earlier page has said already.
    pub fn learn(&self, section: Section, list: &ToolList<'_>, place: Place<'_>) -> Vec<Option<Arc<ToolFacts>>> {
        let mut known = self.lock(section);
        let known = &mut *known;
        let before = known.walks.before(place);
        let next = list.next_cursor().map(cursor_text);
        // What is not said anywhere else in a whole list is disputed no more.
        let is_whole = next.is_none() && before != Before::Forgotten;
        let now = Instant::now();
        let (mut learnt, mut disputed) = (Vec::new(), HashSet::new());
        for tool in list.tools() {
            let (name, text) = (&*tool.name, tool.definition.raw());
            let entry = known.entries.get_mut(name);
            let said = match before {
                // In doubt it is.
                Before::Forgotten if entry.as_ref().is_some_and(|(facts, _)| facts.text != text) => Said::Other,
                before => known.walks.said(before, name, text),
            };
            if said == Said::Same {
                learnt.push(None);
                continue;
            }
            let is_disputed = tool.is_disputed || said == Said::Other;
            if is_disputed {
                disputed.insert(name);
            }
            let was_disputed = entry.as_ref().is_some_and(|(facts, _)| facts.is_disputed);
            let stays_disputed = is_disputed || (was_disputed && !is_whole);
            learnt.push(Some(match entry {
                // Most lists say what the last one has said.
                Some((facts, seen)) if facts.text == text && facts.is_disputed == stays_disputed => {
                    *seen = now;
                    facts.clone()
                }
                _ => {
                    let facts = Arc::new(ToolFacts::new(section, name, tool.definition).disputed(stays_disputed));
                    known.entries.insert(name.to_owned(), (facts.clone(), now));
                    facts
                }
            }));
        }
        if let Some(next) = next {
            let names = list.tools().map(|tool| (&*tool.name, tool.definition.raw(), disputed.contains(&*tool.name)));
            known.walks.go_on(before, Place { cursor: Some(&next), ..place }, names);
        } else {
            for (name, (facts, _)) in &mut known.entries {
                if facts.is_disputed && !disputed.contains(name.as_str()) && known.walks.is_settled(before, name) {
                    *facts = Arc::new(facts.disputed(false));
                }
            }
        }
        learnt
    }

    /// Forgets everything of a section: the list has changed. Whoever is in the middle of it is still known.
    pub fn forget(&self, section: Section) {
        let mut known = self.lock(section);
        let walks = std::mem::take(&mut known.walks);
        *known = Known { generation: known.generation + 1, walks, ..Known::default() };
    }

    /// What is known of a tool or prompt.
    pub fn known(&self, section: Section, name: &str) -> Option<Arc<ToolFacts>> {
        self.lock(section).entries.get(name).map(|(facts, _)| facts.clone())
    }

    /// Whether asking would bring nothing new: it is known, or is in no list, or the server has just failed to give one.
    pub fn is_settled(&self, section: Section, name: Option<&str>) -> bool {
        let wanted = self.definitions.wants(section);
        let pinned = self.definitions.are_pinned();
        let known = self.lock(section);
        let is_fresh = |seen: &Instant| !pinned || seen.elapsed() < FRESH;
        let is_known = || match name {
            Some(name) => {
                known.entries.get(name).is_some_and(|(_, seen)| is_fresh(seen)) || known.complete.as_ref().is_some_and(is_fresh)
            }
            None => true,
        };
        known.failed.is_some_and(|failed| failed.elapsed() < SILENCE) || (!wanted && is_known())
    }

    fn lock(&self, section: Section) -> std::sync::MutexGuard<'_, Known> {
        let known = match section {
            Section::Tools => &self.tools,
            Section::Prompts => &self.prompts,
        };
        known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Schemas {
    /// Checks the headers of a POST against its body, and gives the revision they agree on.
    pub async fn check_headers(&self, headers: &HeaderMap, message: &Message) -> Result<Revision, Malformed> {
        let refused =
            |mismatch: HeaderMismatch| Malformed { data: mismatch.data, ..malformed(message, mismatch.code, &mismatch.message) };
        let revision = check_request(headers, message, None).map_err(refused)?;
        // Nobody is asked for the sake of a message that is refused anyway.
        match self.of_call(message).await.as_deref().and_then(ToolFacts::mirrored) {
            Some(Ok(mirrored)) if !mirrored.is_empty() => check_request(headers, message, Some(mirrored)).map_err(refused),
            Some(_) | None => Ok(revision),
        }
    }

    /// What is known of the tool that a `tools/call` of the stateless era calls: its headers repeat some of its arguments.
    pub async fn of_call(&self, message: &Message) -> Option<Arc<ToolFacts>> {
        if !is_modern(message) || message.method() != Some("tools/call") {
            return None;
        }
        self.of(Section::Tools, &message.params()?.get("name")?.as_str()?, message).await
    }

    /// What is known of a tool or prompt; asks the upstream where it is not known yet. `like` is a message of the connection
    /// whose era the question takes.
    pub async fn of(&self, section: Section, name: &str, like: &Message) -> Option<Arc<ToolFacts>> {
        self.fill(section, Some(name), like).await;
        self.tools.known(section, name)
    }

    /// Asks the upstream for its list, unless that would bring nothing new.
    pub async fn fill(&self, section: Section, name: Option<&str>, like: &Message) {
        if self.tools.is_settled(section, name) {
            return;
        }
        let _one_at_a_time = self.tools.asking.lock().await;
        if self.tools.is_settled(section, name) {
            return;
        }
        let listed = tokio::time::timeout(PATIENCE, self.list(section, like)).await;
        if listed.is_err() {
            warn!(name, "the server has not answered a question of ours for its list");
        }
        let mut known = self.tools.lock(section);
        known.failed = (listed != Ok(true)).then(Instant::now);
    }

    /// Asks for a whole list. Whether it was given, and is still the one that there is.
    async fn list(&self, section: Section, like: &Message) -> bool {
        let (mut cursor, mut seen) = (None, HashSet::new());
        let generation = self.tools.lock(section).generation;
        let mut listed = Vec::new();
        for _ in 0..MAX_PAGES {
            let Some(question) = question(section, like, cursor.as_deref()) else { return false };
            let Some(reply) = (self.ask)(question).await else { return false };
            // A server without prompts may know no list of them.
            let has_none = reply.error().and_then(|error| error.get("code")).is_some_and(|code| code.raw() == METHOD_NOT_FOUND);
            if !has_none {
                let Some(Ok(list)) = reply.result().map(|result| section_of(section, result)) else {
                    warn!(?section, "the server has answered a question of ours for its list with something else");
                    return false;
                };
                let place = Place { reader: "", cursor: cursor.as_deref() };
                listed.extend(self.tools.learn(section, &list, place).into_iter().flatten());
                cursor = list.next_cursor().and_then(|cursor| cursor.as_str()).map(|cursor| cursor.into_owned());
            }
            if cursor.is_none() || has_none {
                return self.complete(section, generation, listed);
            }
            // A cursor that was there before leads round in a circle.
            if !seen.insert(cursor.clone()) {
                break;
            }
        }
        warn!(?section, "the server's list does not end");
        false
    }

    /// Takes in that a whole list has been read, unless it is not the one that there is any more.
    fn complete(&self, section: Section, generation: u64, listed: Vec<Arc<ToolFacts>>) -> bool {
        let mut known = self.tools.lock(section);
        if known.generation != generation {
            return false;
        }
        let names: HashSet<&str> = listed.iter().map(|facts| facts.name.as_str()).collect();
        known.entries.retain(|name, _| names.contains(name.as_str()));
        known.complete = Some(Instant::now());
        if self.tools.definitions.wants(section) {
            // Of two definitions of one name neither is accepted by having been there first.
            let is_one = |facts: &&Arc<ToolFacts>| known.entries.get(&facts.name).is_none_or(|(facts, _)| !facts.is_disputed);
            let pinned: BTreeMap<_, _> =
                listed.iter().filter(is_one).map(|facts| (facts.name.clone(), facts.canonical())).collect();
            drop(known);
            self.tools.definitions.pin_list(section, pinned);
        }
        true
    }
}

/// Reads a page of a list.
pub(crate) fn section_of<'d>(section: Section, result: Value<'d>) -> Result<ToolList<'d>, mcp::tools::NotAList> {
    match section {
        Section::Tools => ToolList::of(result),
        Section::Prompts => ToolList::of_prompts(result),
    }
}

/// A cursor as it is compared: what is no text should not be one, but clients hand it back all the same.
pub(crate) fn cursor_text(cursor: Value<'_>) -> Cow<'_, str> {
    cursor.as_str().unwrap_or(Cow::Borrowed(cursor.raw()))
}

/// -32601, as it stands in a text.
const METHOD_NOT_FOUND: &str = "-32601";

/// A question for a list under an id that no client uses. In the modern era it carries the caller's own envelope.
fn question(section: Section, like: &Message, cursor: Option<&str>) -> Option<Message> {
    let method = match section {
        Section::Tools => "tools/list",
        Section::Prompts => "prompts/list",
    };
    let mut params = Vec::new();
    if let Some(cursor) = cursor {
        params.push(format!("\"cursor\":{}", json::quote(cursor)));
    }
    let envelope = like.params().and_then(|params| params.get("_meta")).and_then(Value::members);
    let envelope: Vec<_> = envelope
        .into_iter()
        .flatten()
        .filter(|member| member.key.starts_with("io.modelcontextprotocol/"))
        .map(|member| format!("{}:{}", json::quote(&member.key), member.value.raw()))
        .collect();
    if !envelope.is_empty() {
        params.push(format!("\"_meta\":{{{}}}", envelope.join(",")));
    }
    let text =
        format!(r#"{{"jsonrpc":"2.0","id":{},"method":"{method}","params":{{{}}}}}"#, json::quote(&own_id()), params.join(","));
    Message::parse(text, Side::Client).ok()
}

/// An id for a question of the gateway's own, never used twice in a process.
pub(crate) fn own_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("callgate-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Place<'_> = Place { reader: "ada", cursor: None };
    const SECOND: Place<'_> = Place { reader: "ada", cursor: Some("2") };

    /// Reads a page; gives for each tool whether it may be shown, or nothing for one that is left out as repeated.
    fn read(tools: &LiveTools, place: Place<'_>, page: &str) -> Vec<Option<bool>> {
        let document = Document::parse(page.to_owned(), Strictness::Reply).expect("it is JSON");
        let learnt = tools.learn(Section::Tools, &ToolList::of(document.root()).expect("it is a list"), place);
        learnt.into_iter().map(|facts| facts.map(|facts| !facts.is_disputed)).collect()
    }

    fn may_be_called(tools: &LiveTools, name: &str) -> bool {
        let facts = tools.known(Section::Tools, name).expect("it is known");
        facts.finding(&Definitions::of("s")).refused.is_none()
    }

    #[test]
    fn what_two_pages_say_differently_of_one_name_is_disputed() {
        let tools = LiveTools::default();
        let first = r#"{"tools":[{"name":"a"},{"name":"b"}],"nextCursor":"2"}"#;
        assert_eq!(read(&tools, FIRST, first), [Some(true), Some(true)]);
        // What a server says in between makes nobody forget.
        tools.forget(Section::Tools);
        assert_eq!(
            read(&tools, SECOND, r#"{"tools":[{"name":"a","x":1},{"name":"b"},{"name":"c"}]}"#),
            [Some(false), None, Some(true)]
        );
        assert!(!may_be_called(&tools, "a") && may_be_called(&tools, "c"));
        // It stays so until a whole list says it in one way, whoever reads it.
        assert_eq!(read(&tools, Place { reader: "bob", ..FIRST }, first), [Some(false), Some(true)]);
        assert!(!may_be_called(&tools, "a"));
        assert_eq!(read(&tools, Place { reader: "bob", ..SECOND }, r#"{"tools":[{"name":"c"}]}"#), [Some(true)]);
        assert!(may_be_called(&tools, "a"));
    }

    #[test]
    fn a_page_that_is_read_again_repeats_nothing() {
        let tools = LiveTools::default();
        read(&tools, FIRST, r#"{"tools":[{"name":"a"}],"nextCursor":2}"#);
        for page in [r#"{"tools":[{"name":"b"}]}"#, r#"{"tools":[{"name":"b","x":1}]}"#] {
            assert_eq!(read(&tools, SECOND, page), [Some(true)], "it has changed");
        }
        // Of pages that nobody has read before this one, nothing can be known: what is known otherwise counts.
        let lost = Place { reader: "bob", cursor: Some("2") };
        assert_eq!(read(&tools, lost, r#"{"tools":[{"name":"a","x":1},{"name":"c"}]}"#), [Some(false), Some(true)]);
    }

    #[test]
    fn two_definitions_on_one_page_are_disputed_until_one_is_left() {
        let tools = LiveTools::default();
        let page = |tools: &str| format!(r#"{{"tools":[{tools}]}}"#);
        assert_eq!(read(&tools, FIRST, &page(r#"{"name":"a"},{"name":"b"},{"name":"a","x":1}"#)), [Some(false), Some(true)]);
        assert!(!may_be_called(&tools, "a"));
        assert_eq!(read(&tools, FIRST, &page(r#"{"name":"a"},{"name":"a"}"#)), [Some(true)]);
        assert!(may_be_called(&tools, "a"));
    }

    #[test]
    fn of_an_endless_list_little_is_kept() {
        let tools = LiveTools::default();
        let names = |of: usize| (0..500).map(|at| format!(r#"{{"name":"{of}-{at}"}}"#)).collect::<Vec<_>>().join(",");
        read(&tools, FIRST, &format!(r#"{{"tools":[{}],"nextCursor":"1"}}"#, names(0)));
        for page in 1..50 {
            let (cursor, next) = (page.to_string(), page + 1);
            let text = format!(r#"{{"tools":[{}],"nextCursor":"{next}"}}"#, names(page));
            read(&tools, Place { cursor: Some(&cursor), ..FIRST }, &text);
        }
        assert!(tools.lock(Section::Tools).walks.len() <= 20_000);
    }

    #[tokio::test]
    async fn a_list_that_leads_round_in_a_circle_is_given_up() {
        let asked = Arc::new(AtomicU64::new(0));
        let count = asked.clone();
        let ask: Ask = Arc::new(move |question| {
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                let id = question.id()?.text().to_owned();
                let page = r#"{"tools":[{"name":"a","inputSchema":{"type":"object"}}],"nextCursor":""}"#;
                Message::parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{page}}}"#), Side::Server).ok()
            })
        });
        let schemas = Schemas { tools: Arc::default(), ask };
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"b"}}"#;
        let call = Message::parse(call, Side::Client).expect("it is a message");
        assert!(schemas.of(Section::Tools, "b", &call).await.is_none());
        // Its first page, and the one that says the same again.
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert!(schemas.of(Section::Tools, "a", &call).await.is_some());
    }
}
