//! A legacy client before a modern server.
//!
//! The bridge is the client that the server sees: every request gets the envelope that the handshake has told us, and what the
//! server wants to know before it goes on (`input_required`) is asked of the client as a server of its era would ask, whereupon
//! the request is sent once more with the answers. What a legacy server says by itself is listened for on streams of our own.

use super::{Able, ENVELOPE, Step, cancelled, change, change_params, flag, may_ask_back, own_id, renumber, without_tasks};
use crate::id::Id;
use crate::keys;
use crate::message::{Kind, Message};
use crate::ourselves::IMPLEMENTATION;
use crate::reply;
use crate::revision::{Era, Revision};
use bytes::Bytes;
use json::{Kind as JsonKind, Value, quote};
use std::collections::HashMap;

/// The state of one line. See the module.
pub struct ToModern {
    /// What the server has said of itself: the response to `server/discover`.
    discovered: Message,
    capabilities: String,
    info: String,
    able: Able,
    level: Option<String>,
    /// By the client's ids.
    requests: HashMap<Id, Request>,
    /// What the client is asked now: the request it is for, and the key under which the server wants the answer.
    questions: HashMap<Id, (Id, String)>,
    /// By their ids towards the server.
    listens: HashMap<Id, Listen>,
    next: u64,
}

struct Request {
    message: Message,
    /// Its id towards the server: another with every round.
    wire: Id,
    rounds: u32,
    /// Between two rounds: the server's state, what the client has not answered, what it has.
    round: Option<Round>,
}

struct Round {
    state: Option<String>,
    open: usize,
    answers: Vec<String>,
}

struct Listen {
    /// The resource; none for the stream of changed lists.
    uri: Option<String>,
    /// The client's `resources/subscribe` that waits for the server's word.
    waiting: Option<Id>,
    /// When it is asked for again, after it has ended.
    again_ms: Option<u64>,
    failures: u32,
}

/// So often a server may ask during one request.
const MAX_ROUNDS: u32 = 32;
/// So much a server may ask at once.
const MAX_QUESTIONS: usize = 16;
/// Resources that one client may listen to; each is a stream.
const MAX_SUBSCRIPTIONS: usize = 64;
/// Before a listening stream that has ended is asked for again, and how often in vain.
const LISTEN_AGAIN_MS: u64 = 2_000;
const MAX_FAILURES: u32 = 5;

impl ToModern {
    /// A question by which a server tells its era, in the gateway's own name.
    pub fn probe(id: &Id) -> Bytes {
        format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"server/discover","params":{{"_meta":{{{}}}}}}}"#,
            id.text(),
            envelope("{}", IMPLEMENTATION, None)
        )
        .into()
    }

    /// Whether a server has shown by its answer to [`ToModern::probe`] that it speaks the modern era.
    pub fn is_modern(answer: &Message) -> bool {
        let versions = answer.result().and_then(|result| result.get("supportedVersions")).and_then(Value::elements);
        let known = |version: Value<'_>| version.as_str().as_deref() == Some(Revision::V2026_07_28.as_str());
        versions.into_iter().flatten().any(known)
    }

    /// Whether a server has shown by its answer to a modern request that it speaks the modern era, be it by an error that
    /// only such a server knows (2026-07-28, streamable HTTP, §Backward Compatibility). One of both eras whose legacy half
    /// refuses the revision names what it speaks instead.
    pub fn shows_modern(answer: &Message) -> bool {
        let Some(error) = answer.error() else { return ToModern::is_modern(answer) };
        let code = error.get("code").and_then(|code| code.raw().parse::<i64>().ok());
        let supported = error.get("data").and_then(|data| data.get("supported")?.elements());
        let modern = |version: Value<'_>| {
            version.as_str().and_then(|name| Revision::parse(&name)).is_some_and(|known| known.era() == Era::Modern)
        };
        match code {
            Some(reply::HEADER_MISMATCH | reply::MISSING_CLIENT_CAPABILITY) => true,
            Some(reply::UNSUPPORTED_PROTOCOL_VERSION) => supported.into_iter().flatten().any(modern),
            _ => false,
        }
    }

    /// Whether a server has said, in its answer to [`ToModern::probe`], that it speaks a legacy revision as well.
    pub fn is_legacy_too(answer: &Message) -> bool {
        let listed = answer.result().and_then(|result| result.get("supportedVersions")).and_then(Value::elements);
        let legacy = |version: Value<'_>| {
            version.as_str().and_then(|name| Revision::parse(&name)).is_some_and(|known| known.era() == Era::Legacy)
        };
        listed.into_iter().flatten().any(legacy)
    }

    /// A line to the server that has answered `discovered` to [`ToModern::probe`].
    pub fn new(discovered: Message) -> ToModern {
        ToModern {
            discovered,
            capabilities: "{}".to_owned(),
            info: IMPLEMENTATION.to_owned(),
            able: Able::default(),
            level: None,
            requests: HashMap::new(),
            questions: HashMap::new(),
            listens: HashMap::new(),
            next: 0,
        }
    }

    /// Takes a message of the client's.
    pub fn client(&mut self, message: &Message) -> Vec<Step> {
        match (message.kind(), message.id()) {
            (Kind::Request, Some(id)) => self.request(message, id),
            (Kind::Notification, _) => match message.method().unwrap_or_default() {
                "notifications/initialized" => self.listen_to_lists(),
                "notifications/cancelled" => {
                    message.cancelled_id().and_then(|id| Id::of(id).ok()).map_or_else(Vec::new, |id| self.cancel(&id))
                }
                // What the modern era does not have.
                "notifications/progress" | "notifications/roots/list_changed" | "notifications/tasks/status" => Vec::new(),
                _ => vec![Step::Forward(self.enveloped(message).finish())],
            },
            (Kind::Response { .. }, Some(id)) => self.answered(message, id),
            _ => Vec::new(),
        }
    }

    fn request(&mut self, message: &Message, id: &Id) -> Vec<Step> {
        let nothing = |id: &Id| vec![Step::Deliver(reply::result(id, "{}"))];
        let refuse = |code, why: &str| vec![Step::Deliver(reply::error(Some(id), code, why, None))];
        let method = message.method().unwrap_or_default();
        match method {
            "initialize" => return vec![Step::Deliver(reply::result(id, &self.initialized(message)))],
            "ping" => return nothing(id),
            "logging/setLevel" => {
                let Some(level) = message.params().and_then(|params| params.get("level")?.as_str()) else {
                    return refuse(reply::INVALID_PARAMS, "`level` must be a string");
                };
                self.level = Some(level.into_owned());
                return nothing(id);
            }
            "resources/subscribe" => return self.subscribe(message, id),
            "resources/unsubscribe" => return self.unsubscribe(message, id),
            "tasks/get" | "tasks/cancel" | "tasks/result" | "tasks/list" => {
                return refuse(reply::METHOD_NOT_FOUND, "the server has no tasks that this protocol revision could follow");
            }
            _ => {}
        }
        let text = self.enveloped(message).finish();
        self.requests.insert(id.clone(), Request { message: message.clone(), wire: id.clone(), rounds: 0, round: None });
        vec![Step::Forward(text)]
    }

    /// The result of `initialize`.
    fn initialized(&mut self, message: &Message) -> String {
        let said =
            |key: &str| message.params().and_then(|params| params.get(key)).filter(|value| value.kind() == JsonKind::Object);
        if let Some(capabilities) = said("capabilities") {
            self.capabilities = without_tasks(capabilities);
            self.able = Able::of(capabilities);
        }
        if let Some(info) = said("clientInfo") {
            self.info = info.raw().to_owned();
        }
        let asked = message.params().and_then(|params| params.get("protocolVersion")?.as_str());
        let asked = asked.and_then(|version| Revision::parse(&version)).filter(|version| version.era() == Era::Legacy);
        let version = asked.unwrap_or(Revision::V2025_11_25);
        let found = |key: &str| self.discovered.result().and_then(|result| result.get(key));
        let capabilities = found("capabilities").map_or_else(|| "{}".to_owned(), without_tasks);
        let info = self.discovered.meta(keys::SERVER_INFO).or_else(|| found("serverInfo"));
        let info = info.filter(|info| info.kind() == JsonKind::Object).map_or(r#"{"name":"","version":""}"#, Value::raw);
        let instructions = found("instructions").filter(|value| value.kind() == JsonKind::String);
        let instructions = instructions.map(|text| format!(",\"instructions\":{}", text.raw())).unwrap_or_default();
        format!(r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"serverInfo":{info}{instructions}}}"#)
    }

    /// The message with the envelope that a modern server expects.
    fn enveloped<'t>(&self, message: &'t Message) -> crate::splice::Edit<'t> {
        self.spliced(message, "")
    }

    fn spliced<'t>(&self, message: &'t Message, added: &str) -> crate::splice::Edit<'t> {
        let meta = envelope(&self.capabilities, &self.info, self.level.as_deref());
        // A retry is what only the bridge makes here.
        let out: &[&str] = if message.method().is_some_and(may_ask_back) { &["requestState", "inputResponses"] } else { &[] };
        change_params(message, message.edit(), out, added, ENVELOPE, &meta)
    }

    fn cancel(&mut self, id: &Id) -> Vec<Step> {
        let why = "the client has cancelled the request";
        let Some(request) = self.requests.remove(id) else { return Vec::new() };
        if request.round.is_none() {
            return vec![Step::Close { text: cancelled(&request.wire, why), id: request.wire }];
        }
        self.drop_questions(id, why)
    }

    /// Takes back what the client is asked for the sake of its request `id`.
    fn drop_questions(&mut self, id: &Id, why: &str) -> Vec<Step> {
        let open: Vec<_> =
            self.questions.iter().filter(|(_, (request, _))| request == id).map(|(question, _)| question.clone()).collect();
        for question in &open {
            self.questions.remove(question);
        }
        open.iter().map(|question| Step::Deliver(cancelled(question, why))).collect()
    }

    /// Takes the client's answer to a question of the server's.
    fn answered(&mut self, message: &Message, id: &Id) -> Vec<Step> {
        let Some((request, key)) = self.questions.remove(id) else { return Vec::new() };
        let is_elicitation = key.starts_with(ELICITATION);
        let key = &key[1..];
        let answer = match (message.result(), message.error()) {
            (Some(result), _) => result.raw().to_owned(),
            // The modern era has no errors here; this is how it says that the user has not answered.
            (None, _) if is_elicitation => r#"{"action":"cancel"}"#.to_owned(),
            (None, error) => {
                let said = error.and_then(|error| error.get("message")?.as_str()).unwrap_or_default();
                let why = format!("the client did not answer what the server has asked: {}", said.escape_debug());
                return self.fail_request(&request, &why);
            }
        };
        let Some(round) = self.requests.get_mut(&request).and_then(|request| request.round.as_mut()) else { return Vec::new() };
        round.answers.push(format!("{}:{answer}", quote(key)));
        round.open = round.open.saturating_sub(1);
        if round.open > 0 { Vec::new() } else { self.again(&request) }
    }

    fn fail_request(&mut self, id: &Id, why: &str) -> Vec<Step> {
        self.requests.remove(id);
        let mut steps = self.drop_questions(id, why);
        steps.push(Step::Deliver(reply::error(Some(id), reply::INTERNAL_ERROR, why, None)));
        steps
    }

    /// Sends a request once more, with the client's answers.
    fn again(&mut self, id: &Id) -> Vec<Step> {
        let wire = own_id(&mut self.next);
        let Some(request) = self.requests.get_mut(id) else { return Vec::new() };
        let Some(round) = request.round.take() else { return Vec::new() };
        request.wire = wire.clone();
        let mut added = Vec::new();
        if !round.answers.is_empty() {
            added.push(format!("\"inputResponses\":{{{}}}", round.answers.join(",")));
        }
        added.extend(round.state.map(|state| format!("\"requestState\":{state}")));
        let message = request.message.clone();
        let text = renumber(&message, self.spliced(&message, &added.join(",")), &wire).finish();
        vec![Step::Again { id: id.clone(), text }]
    }

    /// The client's request that failed, by its id towards the server; and what else is to be done.
    pub fn fail(&mut self, wire: &Id, now_ms: u64) -> (Option<Id>, Vec<Step>) {
        if self.listens.contains_key(wire) {
            return (None, self.listen_ended(wire, "the server does not answer", now_ms));
        }
        let id = self.by_wire(wire);
        if let Some(id) = &id {
            self.requests.remove(id);
        }
        (id, Vec::new())
    }

    fn by_wire(&self, wire: &Id) -> Option<Id> {
        self.requests.iter().find(|(_, request)| request.wire == *wire && request.round.is_none()).map(|(id, _)| id.clone())
    }

    /// Takes a message of the server's.
    pub fn server(&mut self, message: &Message, now_ms: u64) -> Vec<Step> {
        match message.kind() {
            Kind::Response { .. } => self.response(message, now_ms),
            Kind::Request => {
                let why = "a server of this protocol revision asks nothing by itself";
                message.id().map(|id| Step::Say(reply::error(Some(id), reply::METHOD_NOT_FOUND, why, None))).into_iter().collect()
            }
            Kind::Notification => self.notification(message, now_ms),
        }
    }

    fn response(&mut self, message: &Message, now_ms: u64) -> Vec<Step> {
        let Some(wire) = message.id() else { return Vec::new() };
        if self.listens.contains_key(wire) {
            let said = message.error().and_then(|error| error.get("message")?.as_str()).unwrap_or_default().into_owned();
            return self.listen_ended(wire, &said, now_ms);
        }
        // By one id at a time: whoever renumbers requests gives out each number once.
        let Some(id) = self.by_wire(wire) else { return Vec::new() };
        let kind = message.result().and_then(|result| result.get("resultType")).and_then(Value::as_str);
        let method = self.requests.get(&id).and_then(|request| request.message.method()).unwrap_or_default().to_owned();
        match kind.as_deref() {
            None | Some("complete") => {}
            Some("input_required") if may_ask_back(&method) => return self.ask(message, &id),
            Some(_) => return self.fail_request(&id, "the server answered with a kind of result that this client does not know"),
        }
        self.requests.remove(&id);
        vec![Step::Deliver(legacy_response(message, &method, &id))]
    }

    /// Asks the client what the server wants to know.
    fn ask(&mut self, message: &Message, id: &Id) -> Vec<Step> {
        let Some(result) = message.result() else { return Vec::new() };
        let Some(request) = self.requests.get_mut(id) else { return Vec::new() };
        request.rounds += 1;
        if request.rounds > MAX_ROUNDS {
            return self.fail_request(id, "the server asks without end");
        }
        let state =
            result.get("requestState").filter(|state| state.kind() == JsonKind::String).map(|state| state.raw().to_owned());
        let asked: Vec<_> = result.get("inputRequests").and_then(Value::members).into_iter().flatten().collect();
        if asked.len() > MAX_QUESTIONS {
            return self.fail_request(id, "the server asks too much at once");
        }
        let mut steps = Vec::new();
        let mut questions = Vec::new();
        for member in &asked {
            let (method, params) = (member.value.get("method").and_then(Value::as_str), member.value.get("params"));
            let Some(method) = method.filter(|method| self.able.answers(method, params)) else {
                return self.fail_request(id, "the server asks for what this client cannot give");
            };
            let question = own_id(&mut self.next);
            let params = params.map(|params| format!(",\"params\":{}", params.raw())).unwrap_or_default();
            let text = format!(r#"{{"jsonrpc":"2.0","id":{},"method":{}{params}}}"#, question.text(), quote(&method));
            steps.push(Step::Deliver(text.into()));
            let mark = if method == "elicitation/create" { ELICITATION } else { OTHER };
            questions.push((question, (id.clone(), format!("{mark}{}", member.key))));
        }
        let Some(request) = self.requests.get_mut(id) else { return Vec::new() };
        request.round = Some(Round { state, open: questions.len(), answers: Vec::new() });
        self.questions.extend(questions);
        if steps.is_empty() { self.again(id) } else { steps }
    }

    fn notification(&mut self, message: &Message, now_ms: u64) -> Vec<Step> {
        match message.method().unwrap_or_default() {
            "notifications/subscriptions/acknowledged" => self.acknowledged(message),
            "notifications/cancelled" => {
                let id = message.cancelled_id().and_then(|id| Id::of(id).ok());
                id.map_or_else(Vec::new, |id| self.listen_ended(&id, "the server has ended it", now_ms))
            }
            "notifications/tasks" => Vec::new(),
            _ if message.subscription_id().is_some() => {
                let meta = message.params().and_then(|params| params.get("_meta")?.members());
                // A `_meta` that says nothing else goes as well.
                let alone = meta.is_some_and(|members| members.count() == 1);
                let out: &[&str] = if alone { &["_meta"] } else { &[] };
                let out_of_meta: &[&str] = if alone { &[] } else { &[keys::SUBSCRIPTION_ID] };
                vec![Step::Deliver(change_params(message, message.edit(), out, "", out_of_meta, "").finish())]
            }
            _ => vec![Step::Deliver(message.text().clone())],
        }
    }

    // ------------------------------------------------------------ listening

    /// Opens the stream on which the server says that a list has changed.
    fn listen_to_lists(&mut self) -> Vec<Step> {
        let listens_already = self.listens.values().any(|listen| listen.uri.is_none());
        if listens_already { Vec::new() } else { self.listen(None, None, 0).into_iter().collect() }
    }

    fn listen(&mut self, uri: Option<String>, waiting: Option<Id>, failures: u32) -> Option<Step> {
        let capabilities = self.discovered.result().and_then(|result| result.get("capabilities"));
        let tells = |kind: &str| flag(capabilities, kind, "listChanged");
        let wanted: Vec<_> = match &uri {
            Some(uri) => vec![format!("\"resourceSubscriptions\":[{}]", quote(uri))],
            None => [("tools", "toolsListChanged"), ("prompts", "promptsListChanged"), ("resources", "resourcesListChanged")]
                .into_iter()
                .filter(|(kind, _)| tells(kind))
                .map(|(_, key)| format!("\"{key}\":true"))
                .collect(),
        };
        if wanted.is_empty() {
            return None;
        }
        let id = own_id(&mut self.next);
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"subscriptions/listen","params":{{"_meta":{{{}}},"notifications":{{{}}}}}}}"#,
            id.text(),
            envelope(&self.capabilities, &self.info, None),
            wanted.join(",")
        );
        self.listens.insert(id, Listen { uri, waiting, again_ms: None, failures });
        Some(Step::Say(text.into()))
    }

    fn acknowledged(&mut self, message: &Message) -> Vec<Step> {
        let id = message.subscription_id().and_then(|id| Id::of(id).ok());
        let Some(id) = id else { return Vec::new() };
        let Some(listen) = self.listens.get_mut(&id) else { return Vec::new() };
        listen.failures = 0;
        let granted = message.params().and_then(|params| params.get("notifications")?.get("resourceSubscriptions")?.elements());
        let is_granted = granted.into_iter().flatten().any(|uri| uri.as_str().as_deref() == listen.uri.as_deref());
        let Some(client) = listen.waiting.take() else { return Vec::new() };
        if is_granted {
            return vec![Step::Deliver(reply::result(&client, "{}"))];
        }
        let why = "the server does not tell when this resource changes";
        self.listens.remove(&id);
        vec![
            Step::Close { text: cancelled(&id, why), id },
            Step::Deliver(reply::error(Some(&client), reply::INVALID_PARAMS, why, None)),
        ]
    }

    /// A stream has ended. One that the server had granted is asked for again in a while; one that it refuses is not.
    fn listen_ended(&mut self, id: &Id, why: &str, now_ms: u64) -> Vec<Step> {
        let Some(listen) = self.listens.get_mut(id) else { return Vec::new() };
        listen.failures += 1;
        if let Some(client) = listen.waiting.take() {
            self.listens.remove(id);
            let why = format!("the server does not let this resource be subscribed to: {}", why.escape_debug());
            return vec![Step::Deliver(reply::error(Some(&client), reply::INVALID_PARAMS, &why, None))];
        }
        if listen.failures > MAX_FAILURES {
            self.listens.remove(id);
        } else {
            listen.again_ms = Some(now_ms.saturating_add(LISTEN_AGAIN_MS * u64::from(listen.failures)));
        }
        Vec::new()
    }

    /// Asks again for the streams that have ended.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Step> {
        let due = |listen: &Listen| listen.again_ms.is_some_and(|again| again <= now_ms);
        let ended: Vec<_> = self.listens.iter().filter(|(_, listen)| due(listen)).map(|(id, _)| id.clone()).collect();
        let ended: Vec<_> = ended.into_iter().filter_map(|id| self.listens.remove(&id)).collect();
        ended.into_iter().filter_map(|listen| self.listen(listen.uri, None, listen.failures)).collect()
    }

    fn subscribe(&mut self, message: &Message, id: &Id) -> Vec<Step> {
        let refuse = |why: &str| vec![Step::Deliver(reply::error(Some(id), reply::INVALID_PARAMS, why, None))];
        let Some(uri) = message.params().and_then(|params| params.get("uri")?.as_str()) else {
            return refuse("`uri` must be a string");
        };
        if self.listens.values().any(|listen| listen.uri.as_deref() == Some(&uri)) {
            return vec![Step::Deliver(reply::result(id, "{}"))];
        }
        if self.listens.len() >= MAX_SUBSCRIPTIONS {
            return refuse("there are too many subscriptions");
        }
        self.listen(Some(uri.into_owned()), Some(id.clone()), 0).into_iter().collect()
    }

    fn unsubscribe(&mut self, message: &Message, id: &Id) -> Vec<Step> {
        let uri = message.params().and_then(|params| params.get("uri")?.as_str());
        let of_uri = |listen: &Listen| listen.uri.is_some() && listen.uri.as_deref() == uri.as_deref();
        let found = self.listens.iter().find(|(_, listen)| of_uri(listen)).map(|(id, _)| id.clone());
        let mut steps = Vec::new();
        if let Some(listen) = found {
            self.listens.remove(&listen);
            steps.push(Step::Close { text: cancelled(&listen, "the client has unsubscribed"), id: listen });
        }
        steps.push(Step::Deliver(reply::result(id, "{}")));
        steps
    }
}

/// How keys of questions are marked, so that an error is known for a form that the user has not filled in.
const ELICITATION: char = 'e';
const OTHER: char = '-';

/// The members of an envelope.
fn envelope(capabilities: &str, info: &str, level: Option<&str>) -> String {
    let version = quote(Revision::V2026_07_28.as_str());
    let level = level.map(|level| format!(",{}:{}", quote(keys::LOG_LEVEL), quote(level))).unwrap_or_default();
    format!(
        "{}:{version},{}:{info},{}:{capabilities}{level}",
        quote(keys::PROTOCOL_VERSION),
        quote(keys::CLIENT_INFO),
        quote(keys::CLIENT_CAPABILITIES)
    )
}

/// The server's answer as a legacy one, to the client's request `id`.
fn legacy_response(message: &Message, method: &str, id: &Id) -> Bytes {
    let edit = renumber(message, message.edit(), id);
    let code = message.error().and_then(|error| error.get("code"));
    // The modern era says "no such resource" as it says that parameters are wrong.
    if let Some(code) = code.filter(|code| method == "resources/read" && code.raw() == INVALID_PARAMS) {
        return edit.replace(code.span(), RESOURCE_NOT_FOUND).finish();
    }
    match message.result() {
        // Empty results are read strictly by deployed clients: what their era does not have goes.
        Some(result) => change(edit, result, &["resultType", "ttlMs", "cacheScope"], "").finish(),
        None => edit.finish(),
    }
}

const INVALID_PARAMS: &str = "-32602";
const RESOURCE_NOT_FOUND: &str = "-32002";
