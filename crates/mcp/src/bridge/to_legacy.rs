//! A modern client before a legacy server.
//!
//! The bridge holds the session: it shakes hands once, answers `server/discover` from what the server has said then, and keeps
//! the listening streams. What the server asks during a request becomes the end of that request (`input_required`), under a
//! state of ours; the client's retry, judged anew by whoever owns the line, gives the server its answers, and the reply to
//! the first request becomes the reply to the retry. A state is unguessable, good once, for a while, and for that request.

mod listening;

use super::{Able, ENVELOPE, Step, cancelled, change, change_params, is_cacheable, may_ask_back, own_id, renumber};
use crate::id::Id;
use crate::keys;
use crate::message::{Kind, Message};
use crate::ourselves::IMPLEMENTATION;
use crate::reply;
use crate::revision::Revision;
use bytes::Bytes;
use json::{Kind as JsonKind, Value, quote};
use listening::{Listen, Subscription};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

/// For whom a session with a server is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// What the server is told that the client can do; an object.
    pub capabilities: String,
    /// What the server is told who the client is; an object.
    pub info: String,
}

impl Client {
    /// Reads what a modern request says of its client, as far as a legacy server can make use of it: the questions that it
    /// can answer, and its name. `None` without an envelope.
    pub fn of(request: &Message) -> Option<Client> {
        let capabilities = request.meta(keys::CLIENT_CAPABILITIES).filter(|value| value.kind() == JsonKind::Object)?;
        let kept: Vec<_> = capabilities
            .members()
            .into_iter()
            .flatten()
            .filter(|member| {
                matches!(&*member.key, "elicitation" | "sampling" | "roots") && member.value.kind() == JsonKind::Object
            })
            // The modern era does not tell servers when roots change.
            .map(|member| format!("{}:{}", quote(&member.key), super::without(member.value, &["listChanged"])))
            .collect();
        let info = request.meta(keys::CLIENT_INFO).filter(|value| value.kind() == JsonKind::Object);
        let info = info.map_or_else(|| IMPLEMENTATION.to_owned(), |info| info.raw().to_owned());
        Some(Client { capabilities: format!("{{{}}}", kept.join(",")), info })
    }

    /// A client of which nothing may be asked.
    pub fn unable() -> Client {
        Client { capabilities: "{}".to_owned(), info: IMPLEMENTATION.to_owned() }
    }
}

/// How far the handshake is.
#[derive(Debug)]
enum Handshake {
    Open,
    Asked(Id),
    Done(Box<Message>),
    Failed(String),
}

/// Makes a state that nobody can guess; `None` where there is no chance to be had.
pub type Mint = Box<dyn FnMut() -> Option<String> + Send>;

/// The state of one line. See the module.
pub struct ToLegacy {
    client: Client,
    handshake: Handshake,
    /// By the order of their arrival; an id of the client's may stand for a request that the server knows by an older one.
    requests: BTreeMap<u64, Request>,
    listens: BTreeMap<u64, Listen>,
    /// Resources that streams listen to.
    subscribed: HashMap<String, Subscription>,
    /// How long the names of all those are together, once for each stream.
    listened_bytes: usize,
    level: Option<String>,
    /// Whether its requests are many clients'; then nobody is told what the server logs.
    for_many: bool,
    /// Whether the server may still be at work on a request that was given up.
    spent: bool,
    mint: Mint,
    hash: RandomState,
    next: u64,
}

/// A request that the server has not answered.
struct Request {
    /// Its id towards the server.
    wire: Id,
    /// The client's request that waits for the answer; `None` while the client has to answer first.
    client: Option<Id>,
    method: String,
    /// Whether it came with an envelope: a client that has changed its mind shakes hands after all.
    modern: bool,
    digest: u64,
    able: Able,
    /// The progress token towards the server, and the one that the client waits under now.
    tokens: Option<(String, Option<String>)>,
    logs: bool,
    questions: Vec<Question>,
    parked: Option<Parked>,
    /// What the server has answered while the client was to answer.
    answer: Option<Bytes>,
}

struct Question {
    key: String,
    /// The server's id for it; `None` for one that came as an error: then the client's retry is the answer.
    id: Option<Id>,
    /// `{"method":…,"params":…}`
    text: String,
}

struct Parked {
    state: String,
    until_ms: u64,
}

/// How long a client may take to answer what the server has asked: a person has to read it.
pub const PATIENCE_MS: u64 = 10 * 60 * 1000;
/// Questions of one request: more than anybody has use for.
const MAX_QUESTIONS: usize = 16;
/// Requests of one line for which the client has to answer.
const MAX_PARKED: usize = 256;
/// A server says "no such resource" so up to 2025-11-25.
const RESOURCE_NOT_FOUND: &str = "-32002";
/// A server of 2025-11-25 that wants the user at a URL first says so.
const URL_ELICITATION_REQUIRED: &str = "-32042";

impl ToLegacy {
    /// A line on which nothing has been said, for `client`.
    pub fn new(client: Client, mint: Mint) -> ToLegacy {
        ToLegacy {
            client,
            handshake: Handshake::Open,
            requests: BTreeMap::new(),
            listens: BTreeMap::new(),
            subscribed: HashMap::new(),
            listened_bytes: 0,
            level: None,
            for_many: false,
            spent: false,
            mint,
            hash: RandomState::new(),
            next: 0,
        }
    }

    /// The same for requests of many clients. What the server logs does not say whose request it is about, and is for nobody.
    pub fn for_many(self) -> ToLegacy {
        ToLegacy { for_many: true, ..self }
    }

    /// Begins the handshake. What the client sends is given to [`ToLegacy::client`] once [`ToLegacy::is_ready`].
    pub fn begin(&mut self) -> Vec<Step> {
        let id = own_id(&mut self.next);
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"initialize","params":{{"protocolVersion":"{}","capabilities":{},"clientInfo":{}}}}}"#,
            id.text(),
            Revision::V2025_11_25,
            self.client.capabilities,
            self.client.info,
        );
        self.handshake = Handshake::Asked(id);
        vec![Step::Say(text.into())]
    }

    /// Whether the server has agreed.
    pub fn is_ready(&self) -> bool {
        matches!(self.handshake, Handshake::Done(_))
    }

    /// Whether `id` is that of the handshake, while it lasts.
    pub fn is_handshake(&self, id: &Id) -> bool {
        matches!(&self.handshake, Handshake::Asked(asked) if asked == id)
    }

    /// Why the handshake has failed, if it has.
    pub fn failure(&self) -> Option<&str> {
        if let Handshake::Failed(why) = &self.handshake { Some(why) } else { None }
    }

    /// Whether nothing is under way and nobody listens.
    pub fn is_idle(&self) -> bool {
        self.requests.is_empty() && self.listens.is_empty()
    }

    /// Whether all that is under way waits for its client to come back with answers.
    pub fn is_parked(&self) -> bool {
        self.listens.is_empty() && self.requests.values().all(|request| request.parked.is_some())
    }

    /// Whether a request was given up before the server had answered it: what it asks or logs from now on may still be about
    /// that one.
    pub fn is_spent(&self) -> bool {
        self.spent
    }

    /// Whether this line has given out `state` and still waits for it.
    pub fn knows(&self, state: &str) -> bool {
        self.parked(state).is_some()
    }

    fn parked(&self, state: &str) -> Option<u64> {
        let is = |request: &Request| request.parked.as_ref().is_some_and(|parked| parked.state == state);
        self.requests.iter().find(|(_, request)| is(request)).map(|(at, _)| *at)
    }

    /// Takes a message of the client's.
    pub fn client(&mut self, message: &Message, now_ms: u64) -> Vec<Step> {
        match (message.kind(), message.id()) {
            (Kind::Request, Some(id)) => self.request(message, id, now_ms),
            (Kind::Notification, _) if message.method() == Some("notifications/cancelled") => {
                message.cancelled_id().and_then(|id| Id::of(id).ok()).map_or_else(Vec::new, |id| self.cancel(&id))
            }
            (Kind::Notification, _) if message.method() == Some("notifications/initialized") => Vec::new(),
            (Kind::Notification, _) => vec![Step::Forward(envelope_removed(message))],
            // The modern era has no responses of clients.
            _ => Vec::new(),
        }
    }

    fn request(&mut self, message: &Message, id: &Id, now_ms: u64) -> Vec<Step> {
        let method = message.method().unwrap_or_default();
        if let Some(version) = message.protocol_version().filter(|version| Revision::parse(version).is_none()) {
            let (code, data) = (reply::UNSUPPORTED_PROTOCOL_VERSION, reply::unsupported_version(&version));
            let why = format!("unsupported protocol version `{}`", version.escape_debug());
            return vec![Step::Deliver(reply::error(Some(id), code, &why, Some(&data)))];
        }
        match method {
            "server/discover" => return vec![Step::Deliver(reply::result(id, &self.discovered()))],
            "subscriptions/listen" => return self.listen(message, id, now_ms),
            "initialize" => {
                let agreed = self.agreed().map_or("{}", Value::raw);
                return vec![Step::Deliver(reply::result(id, agreed))];
            }
            "tasks/get" | "tasks/update" | "tasks/cancel" => {
                let why = "the server has no tasks that this protocol revision could follow";
                return vec![Step::Deliver(reply::error(Some(id), reply::METHOD_NOT_FOUND, why, None))];
            }
            _ => {}
        }
        let mut steps = Vec::new();
        if may_ask_back(method)
            && let Some(state) = message.params().and_then(|params| params.get("requestState")?.as_str())
        {
            match self.resume(message, id, &state, now_ms) {
                Resumed::Steps(steps) => return steps,
                Resumed::Anew => {}
            }
        }
        let level = message.meta(keys::LOG_LEVEL).and_then(Value::as_str).filter(|_| !self.for_many);
        let logs = level.is_some();
        if let Some(level) = level.filter(|level| self.level.as_deref() != Some(level) && self.has("logging")) {
            let own = own_id(&mut self.next);
            let set = format!(
                r#"{{"jsonrpc":"2.0","id":{},"method":"logging/setLevel","params":{{"level":{}}}}}"#,
                own.text(),
                quote(&level)
            );
            self.level = Some(level.into_owned());
            steps.push(Step::Say(set.into()));
        }
        self.next += 1;
        let token = message.progress_token().map(|token| token.raw().to_owned());
        let capabilities = message.meta(keys::CLIENT_CAPABILITIES);
        let request = Request {
            wire: id.clone(),
            client: Some(id.clone()),
            method: method.to_owned(),
            modern: message.protocol_version().is_some(),
            digest: self.digest(message),
            able: capabilities.map(Able::of).unwrap_or_default(),
            tokens: token.map(|token| (token.clone(), Some(token))),
            logs,
            questions: Vec::new(),
            parked: None,
            answer: None,
        };
        self.requests.insert(self.next, request);
        steps.push(Step::Forward(envelope_removed(message)));
        steps
    }

    /// What a state is bound to: the method and all that the call does, without what a retry adds.
    fn digest(&self, message: &Message) -> u64 {
        let params = message.params().and_then(Value::members).into_iter().flatten();
        let said: Vec<_> = params
            .filter(|member| !matches!(&*member.key, "_meta" | "requestState" | "inputResponses"))
            .map(|member| (member.key.into_owned(), member.value.canonical()))
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect();
        self.hash.hash_one((message.method(), said))
    }

    /// Takes the retry of a request for which the client had to answer.
    fn resume(&mut self, message: &Message, id: &Id, state: &str, now_ms: u64) -> Resumed {
        let refuse = |why: &str| Resumed::Steps(vec![Step::Deliver(reply::error(Some(id), reply::INVALID_PARAMS, why, None))]);
        let digest = self.digest(message);
        let Some(at) = self.parked(state) else { return refuse("this `requestState` is unknown, used or expired") };
        let Some(request) = self.requests.get_mut(&at) else { return refuse("this `requestState` is unknown") };
        if request.digest != digest || request.parked.as_ref().is_none_or(|parked| parked.until_ms < now_ms) {
            // It stays good for the request it was given for.
            return refuse("this `requestState` was given for another request, or has expired");
        }
        request.parked = None;
        if request.questions.iter().any(|question| question.id.is_none()) {
            self.requests.remove(&at);
            return Resumed::Anew;
        }
        request.client = Some(id.clone());
        request.logs |= message.meta(keys::LOG_LEVEL).is_some();
        if let Some((_, current)) = &mut request.tokens {
            *current = message.progress_token().map(|token| token.raw().to_owned());
        }
        let responses = message.params().and_then(|params| params.get("inputResponses"));
        let mut steps = Vec::new();
        request.questions.retain(|question| {
            let answer = responses.and_then(|responses| responses.get(&question.key));
            let (Some(answer), Some(asked)) = (answer.filter(|answer| answer.kind() == JsonKind::Object), &question.id) else {
                return true;
            };
            steps.push(Step::Say(reply::result(asked, answer.raw())));
            false
        });
        if let Some(answer) = request.answer.take() {
            self.requests.remove(&at);
            steps.push(Step::Deliver(with_id(answer, id)));
        } else if !request.questions.is_empty() {
            steps.extend(self.park(at, now_ms));
        }
        Resumed::Steps(steps)
    }

    /// Ends the client's request with what the server has asked.
    fn park(&mut self, at: u64, now_ms: u64) -> Vec<Step> {
        let parked = self.requests.values().filter(|request| request.parked.is_some()).count();
        let state = (self.mint)().filter(|_| parked < MAX_PARKED);
        let Some(request) = self.requests.get_mut(&at) else { return Vec::new() };
        let Some(client) = request.client.take() else { return Vec::new() };
        let Some(state) = state else {
            let why = "too many requests wait for their clients' answers";
            let mut steps = vec![Step::Deliver(reply::error(Some(&client), reply::INTERNAL_ERROR, why, None))];
            steps.extend(self.give_up(at, why));
            return steps;
        };
        let questions: Vec<_> =
            request.questions.iter().map(|question| format!("{}:{}", quote(&question.key), question.text)).collect();
        let result = format!(
            r#"{{"resultType":"input_required","inputRequests":{{{}}},"requestState":{}}}"#,
            questions.join(","),
            quote(&state)
        );
        request.parked = Some(Parked { state, until_ms: now_ms.saturating_add(PATIENCE_MS) });
        vec![Step::Deliver(reply::result(&client, &result))]
    }

    /// Forgets the request that `state` was given for, because its client will not be asked.
    pub fn give_up_state(&mut self, state: &str) -> Vec<Step> {
        self.parked(state).map_or_else(Vec::new, |at| self.give_up(at, "the client is not asked this"))
    }

    /// Forgets a request; the server is told, and its questions are answered so that it does not wait.
    fn give_up(&mut self, at: u64, why: &str) -> Vec<Step> {
        let Some(request) = self.requests.remove(&at) else { return Vec::new() };
        self.spent |= request.answer.is_none();
        let refused = |id: &Id| Step::Say(reply::error(Some(id), reply::INTERNAL_ERROR, why, None));
        let mut steps: Vec<_> = request.questions.iter().filter_map(|question| question.id.as_ref()).map(refused).collect();
        // One that is answered, or was never asked about within an exchange, is over for the server.
        if request.answer.is_none() && request.questions.iter().all(|question| question.id.is_some()) {
            steps.push(Step::Say(cancelled(&request.wire, why)));
        }
        steps
    }

    fn cancel(&mut self, id: &Id) -> Vec<Step> {
        if let Some(at) = self.listens.iter().find(|(_, listen)| listen.id == *id).map(|(at, _)| *at) {
            return self.unlisten(at);
        }
        let at = self.requests.iter().find(|(_, request)| request.client.as_ref() == Some(id)).map(|(at, _)| *at);
        at.map_or_else(Vec::new, |at| self.give_up(at, "the client has cancelled the request"))
    }

    /// Gives up what has waited too long for its client.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Step> {
        let is_late = |request: &Request| request.parked.as_ref().is_some_and(|parked| parked.until_ms < now_ms);
        let late: Vec<_> = self.requests.iter().filter(|(_, request)| is_late(request)).map(|(at, _)| *at).collect();
        let mut steps: Vec<_> = late.into_iter().flat_map(|at| self.give_up(at, "the client has not answered in time")).collect();
        steps.extend(self.give_up_subscribing(now_ms));
        steps
    }

    /// The request that the client waits for under another id, by its id towards the server; it failed without an answer.
    /// And what else is to be done.
    pub fn fail(&mut self, wire: &Id, why: &str) -> (Option<Id>, Vec<Step>) {
        if let Some(uri) = self.asked_to_subscribe(wire) {
            return (None, self.subscription_answered(&uri, false));
        }
        let Some(at) = self.by_wire(wire) else { return (None, Vec::new()) };
        self.spent = true;
        let Some(request) = self.requests.get_mut(&at) else { return (None, Vec::new()) };
        let Some(client) = request.client.take() else {
            request.answer = Some(reply::error(Some(wire), reply::INTERNAL_ERROR, why, None));
            return (None, Vec::new());
        };
        self.requests.remove(&at);
        (Some(client), Vec::new())
    }

    /// Forgets a request of the client's that has not been sent after all.
    pub fn unsent(&mut self, id: &Id) {
        self.requests.retain(|_, request| request.client.as_ref() != Some(id));
    }

    fn by_wire(&self, wire: &Id) -> Option<u64> {
        self.requests.iter().find(|(_, request)| request.wire == *wire).map(|(at, _)| *at)
    }

    /// Takes a message of the server's.
    pub fn server(&mut self, message: &Message, now_ms: u64) -> Vec<Step> {
        match message.kind() {
            Kind::Response { .. } => self.response(message, now_ms),
            Kind::Request => self.asked(message, now_ms),
            Kind::Notification => self.notification(message),
        }
    }

    fn response(&mut self, message: &Message, now_ms: u64) -> Vec<Step> {
        let Some(id) = message.id() else { return Vec::new() };
        if let Handshake::Asked(asked) = &self.handshake
            && asked == id
        {
            return self.agree(message);
        }
        if let Some(uri) = self.asked_to_subscribe(id) {
            return self.subscription_answered(&uri, message.result().is_some());
        }
        let Some(at) = self.by_wire(id) else { return Vec::new() };
        if let Some(steps) = self.asked_by_error(at, message, now_ms) {
            return steps;
        }
        let Some(request) = self.requests.get_mut(&at) else { return Vec::new() };
        let Some(client) = request.client.clone() else {
            request.answer = Some(answered(message, request, id));
            request.questions.clear();
            return Vec::new();
        };
        let text = answered(message, request, &client);
        self.requests.remove(&at);
        vec![Step::Deliver(text)]
    }

    fn agree(&mut self, message: &Message) -> Vec<Step> {
        let version = message.result().and_then(|result| result.get("protocolVersion")?.as_str());
        if version.is_none_or(|version| Revision::parse(&version).is_none()) {
            let said = message.error().and_then(|error| error.get("message")?.as_str());
            let said = said.map_or_else(|| "it names no revision that is known".into(), |said| said.escape_debug().to_string());
            self.handshake = Handshake::Failed(format!("the server does not agree to a session: {said}"));
            return Vec::new();
        }
        self.handshake = Handshake::Done(Box::new(message.clone()));
        vec![Step::Say(Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#))]
    }

    /// An error that asks the user to visit a URL first.
    fn asked_by_error(&mut self, at: u64, message: &Message, now_ms: u64) -> Option<Vec<Step>> {
        let error =
            message.error().filter(|error| error.get("code").is_some_and(|code| code.raw() == URL_ELICITATION_REQUIRED))?;
        let request = self.requests.get_mut(&at).filter(|request| request.able.url && request.client.is_some())?;
        let elicitations = error.get("data")?.get("elicitations")?.elements()?;
        let asked = elicitations.filter(|asked| asked.kind() == JsonKind::Object).take(MAX_QUESTIONS).enumerate();
        request.questions = asked
            .map(|(number, asked)| Question {
                key: format!("elicitation-{}", number + 1),
                id: None,
                text: format!(r#"{{"method":"elicitation/create","params":{}}}"#, asked.raw()),
            })
            .collect();
        if request.questions.is_empty() {
            return None;
        }
        Some(self.park(at, now_ms))
    }

    /// Takes a request of the server's.
    fn asked(&mut self, message: &Message, now_ms: u64) -> Vec<Step> {
        let (Some(id), Some(method)) = (message.id(), message.method()) else { return Vec::new() };
        if method == "ping" {
            return vec![Step::Say(reply::result(id, "{}"))];
        }
        // Whoever holds the line sees to it that it could only be the oldest, or that all are of one client.
        let could = |request: &Request| {
            request.able.answers(method, message.params())
                && may_ask_back(&request.method)
                && request.answer.is_none()
                && request.questions.len() < MAX_QUESTIONS
        };
        let Some(at) = self.requests.iter().find(|(_, request)| could(request)).map(|(at, _)| *at) else {
            let why = "there is no client that could be asked this now";
            return vec![Step::Say(reply::error(Some(id), reply::METHOD_NOT_FOUND, why, None))];
        };
        self.next += 1;
        let key = format!("{}-{}", method.split('/').next().unwrap_or_default(), self.next);
        let params = message.params().map_or_else(String::new, |params| format!(",\"params\":{}", params.raw()));
        let text = format!(r#"{{"method":{}{params}}}"#, quote(method));
        let Some(request) = self.requests.get_mut(&at) else { return Vec::new() };
        request.questions.push(Question { key, id: Some(id.clone()), text });
        if request.client.is_some() { self.park(at, now_ms) } else { Vec::new() }
    }

    fn notification(&mut self, message: &Message) -> Vec<Step> {
        match message.method().unwrap_or_default() {
            "notifications/cancelled" => {
                let id = message.cancelled_id().and_then(|id| Id::of(id).ok());
                for request in self.requests.values_mut() {
                    request.questions.retain(|question| question.id.is_none() || question.id != id);
                }
                Vec::new()
            }
            "notifications/progress" => self.progress(message),
            "notifications/message" => {
                let wants = |request: &&Request| request.logs && request.client.is_some();
                let id = self.requests.values().find(wants).and_then(|request| request.client.clone());
                id.map(|id| Step::Beside { id, text: message.text().clone() }).into_iter().collect()
            }
            "notifications/tools/list_changed" => self.tell(message, |listen| listen.tools),
            "notifications/prompts/list_changed" => self.tell(message, |listen| listen.prompts),
            "notifications/resources/list_changed" => self.tell(message, |listen| listen.resources),
            "notifications/resources/updated" => {
                let uri = message.params().and_then(|params| params.get("uri")?.as_str()).unwrap_or_default();
                // A part of a resource may be named where the whole is subscribed to.
                self.tell(message, |listen| listen.uris.iter().any(|subscribed| is_within(&uri, subscribed)))
            }
            // What the modern era has no word for.
            "notifications/elicitation/complete" | "notifications/tasks/status" => Vec::new(),
            _ => vec![Step::Deliver(message.text().clone())],
        }
    }

    fn progress(&self, message: &Message) -> Vec<Step> {
        let Some(token) = message.progress_token() else { return Vec::new() };
        let of_token = |request: &&Request| request.tokens.as_ref().is_some_and(|(wire, _)| wire == token.raw());
        let Some(request) = self.requests.values().find(of_token) else { return vec![Step::Deliver(message.text().clone())] };
        let current = request.tokens.as_ref().and_then(|(_, current)| current.clone());
        match (current, &request.client) {
            (Some(current), Some(_)) => vec![Step::Deliver(message.edit().replace(token.span(), current).finish())],
            // Nobody waits just now.
            _ => Vec::new(),
        }
    }

    fn agreed(&self) -> Option<Value<'_>> {
        if let Handshake::Done(agreed) = &self.handshake { agreed.result() } else { None }
    }

    fn capabilities(&self) -> Option<Value<'_>> {
        self.agreed()?.get("capabilities")
    }

    fn has(&self, capability: &str) -> bool {
        self.capabilities().is_some_and(|capabilities| capabilities.get(capability).is_some())
    }

    /// The result of `server/discover`.
    fn discovered(&self) -> String {
        let capabilities = self.capabilities().map_or_else(|| "{}".to_owned(), super::without_tasks);
        let agreed = |key: &str| self.agreed().and_then(|agreed| agreed.get(key));
        let instructions = agreed("instructions").filter(|value| value.kind() == JsonKind::String);
        let instructions = instructions.map(|text| format!(",\"instructions\":{}", text.raw())).unwrap_or_default();
        let info = agreed("serverInfo").filter(|value| value.kind() == JsonKind::Object);
        let info = info.map(|info| format!(",\"_meta\":{{{}:{}}}", quote(keys::SERVER_INFO), info.raw())).unwrap_or_default();
        // The gateway speaks all of them with its clients, whatever the server speaks.
        let versions = crate::reply::supported_versions();
        format!(
            r#"{{"resultType":"complete","supportedVersions":{versions},"capabilities":{capabilities}{instructions},{UNCACHED}{info}}}"#
        )
    }
}

/// Whether `uri` is the resource `whole`, or a part of it.
fn is_within(uri: &str, whole: &str) -> bool {
    let is_part = |rest: &str| rest.is_empty() || (!whole.is_empty() && rest.starts_with(['/', '?', '#']));
    uri.strip_prefix(whole).is_some_and(is_part)
}

enum Resumed {
    Steps(Vec<Step>),
    /// The request is made once more from the beginning.
    Anew,
}

/// What nobody may keep: the bridge cannot tell how long it will stay true.
const UNCACHED: &str = r#""ttlMs":0,"cacheScope":"private""#;

/// The client's message without its envelope, and without what only retries have.
fn envelope_removed(message: &Message) -> Bytes {
    let retry: &[&str] = if message.method().is_some_and(may_ask_back) { &["requestState", "inputResponses"] } else { &[] };
    change_params(message, message.edit(), retry, "", ENVELOPE, "").finish()
}

/// The server's answer as a modern one, to the client's request `id`.
fn answered(message: &Message, request: &Request, id: &Id) -> Bytes {
    let edit = renumber(message, message.edit(), id);
    if !request.modern {
        return edit.finish();
    }
    if let Some(code) = message.error().and_then(|error| error.get("code")).filter(|code| code.raw() == RESOURCE_NOT_FOUND) {
        return edit.replace(code.span(), reply::INVALID_PARAMS.to_string()).finish();
    }
    let Some(result) = message.result().filter(|result| result.kind() == JsonKind::Object) else { return edit.finish() };
    // A server of the older era means nothing by members of these names.
    let mut added = vec!["\"resultType\":\"complete\""];
    if is_cacheable(&request.method) {
        added.push(UNCACHED);
    }
    change(edit, result, &["resultType", "ttlMs", "cacheScope"], &added.join(",")).finish()
}

/// A response of ours under another id.
fn with_id(response: Bytes, id: &Id) -> Bytes {
    match Message::parse(response.clone(), crate::message::Side::Server) {
        Ok(message) => message.with_id(id),
        Err(_) => response,
    }
}
