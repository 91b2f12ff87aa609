//! Many decisions on a simulated clock.
//!
//! The calls take the path of live ones: each is made into the message a client would send, read as strictly, judged by an
//! [`Enforcer`] and charged to a store in memory. Only time is not real: it stands still until a call moves it.

use crate::enforcer::{Caller, Decided, Enforcer, Facts, LOCAL};
use crate::pins::{LockFile, Pinning, Section};
use crate::snapshot::Current;
use crate::tools::ToolFacts;
use catalogue::{Lock, Pinned};
use jiff::Timestamp;
use json::{Document, Kind, Strictness, Value, quote};
use mcp::{Malformed, Message, Side, ToolCall};
use policy::{Decision, Outcome, Policies, Reason, RiskClass, Schema, Tool, Tools};
use std::collections::HashMap;
use std::sync::Arc;
use store::{Answer, ArgumentsMode, Clock, Draft, Options, Phase, Reply, Reservation, Retention, StateUrl, Store, StoreError};

/// A policy, its counters, and a clock.
pub struct Simulation {
    policies: Policies,
    /// What is in force instead, where that is not the same for every caller.
    current: Option<Arc<Current>>,
    tools: Option<Tools>,
    /// The tools of servers by their names, where that is known.
    tools_of: HashMap<String, Tools>,
    /// What is pinned of every server.
    pinned: Option<Pinned>,
    clock: Clock,
    store: Store,
    /// By the upstream's name.
    enforcers: HashMap<String, Arc<Enforcer>>,
}

impl Simulation {
    /// A simulation with fresh counters that begins at `start`. Without `tools` (graded, as [`read_tools`] gives them), `validate`
    /// is not judged, and a step says so; a tool that is not among them counts as every class of risk.
    ///
    /// # Errors
    /// When no store can be opened in memory.
    pub fn new(policies: impl Into<Policies>, tools: Option<Tools>, start: Timestamp) -> Result<Simulation, StoreError> {
        let clock = Clock::simulated(start.as_millisecond());
        // What is decided here is told at once; the records of it need not grow without end.
        let retention = Some(Retention { max_age: None, max_bytes: Some(MOST_REMEMBERED) });
        let store = Store::open(StateUrl::Memory, Options { clock: clock.clone(), retention, ..Options::default() })?;
        let (policies, tools_of, enforcers) = (policies.into(), HashMap::new(), HashMap::new());
        Ok(Simulation { policies, current: None, tools, tools_of, pinned: None, clock, store, enforcers })
    }

    /// The same, in which something else holds for each grant at each server.
    #[must_use]
    pub(crate) fn under(self, current: Option<Arc<Current>>) -> Simulation {
        Simulation { current, ..self }
    }

    /// The same, with the tools (graded) of some servers by their names; what was given for all holds for the others.
    #[must_use]
    pub fn with_tools_of(self, tools_of: HashMap<String, Tools>) -> Simulation {
        Simulation { tools_of, ..self }
    }

    /// The same, with the tools held against these, which were accepted of every server.
    #[must_use]
    pub(crate) fn pinning(self, accepted: &Tools) -> Simulation {
        let canonical = |tool: &Tool| {
            let definition = Document::parse(tool.definition.clone(), Strictness::Reply).ok()?;
            Some((tool.name.clone(), definition.root().canonical()))
        };
        let pinned = Pinned { tools: Some(accepted.iter().filter_map(canonical).collect()), ..Pinned::default() };
        Simulation { pinned: Some(pinned), ..self }
    }

    /// Milliseconds since the Unix epoch.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// Moves the clock by so many milliseconds.
    pub fn advance(&self, millis: i64) {
        self.clock.advance(millis);
    }

    /// Sets the clock; back, too.
    pub fn set(&self, at: Timestamp) {
        self.clock.advance(at.as_millisecond().saturating_sub(self.clock.now()));
    }

    /// Sets the clock where the call says so, decides it, and lets it end as it says.
    pub async fn decide(&mut self, call: &SimulatedCall) -> Decision {
        let Decided { decision, id, reservation, .. } = self.judge(call).await;
        if decision.outcome == Outcome::Allow && call.reply == Reply::Refused {
            self.give_back(id, reservation).await;
        }
        decision
    }

    /// Has a person answer an approval that was opened here.
    ///
    /// # Errors
    /// When it is not there, or is over.
    pub(crate) async fn answer(&self, id: &str, answer: Answer, by: &str) -> Result<(), StoreError> {
        self.store.answer(id, answer, by).await.map(drop)
    }

    /// Gives back what a call has taken that was never sent.
    pub(crate) async fn give_back(&self, id: Arc<str>, reservation: Reservation) {
        let draft = Draft { id, phase: Phase::Finished, reply: Some(Reply::Refused), ..Draft::default() };
        if let Err(error) = self.store.settle(reservation, draft, true).await {
            tracing::warn!(%error, "a simulated call could not be refunded");
        }
    }

    /// What a tool of a server may do, where its definition is known.
    pub(crate) fn class_of(&self, server: &str, tool: &str) -> Option<RiskClass> {
        self.tools_of(server)?.get(tool)?.class
    }

    /// The tools of a server, where they are known.
    pub(crate) fn tools_of(&self, server: &str) -> Option<&Tools> {
        self.tools_of.get(server).or(self.tools.as_ref())
    }

    /// Sets the clock where the call says so, and decides it; how it ends is to come.
    pub(crate) async fn judge(&mut self, call: &SimulatedCall) -> Decided {
        if let Some(at) = call.at {
            self.set(at);
        }
        let refused = |malformed: &Malformed| Decided {
            decision: Decision::deny(Reason::Malformed, malformed.message.clone()),
            id: Arc::default(),
            reservation: Reservation::default(),
            waiting: None,
            record: None,
        };
        let message = match &call.message {
            Ok(message) => message,
            Err(malformed) => return refused(malformed),
        };
        let tool_call = match ToolCall::of(message) {
            Ok(tool_call) => tool_call,
            Err(malformed) => return refused(&malformed),
        };
        let enforcer = self.enforcer(&call.server);
        let tools = self.tools_of(&call.server);
        let tool = tools.and_then(|tools| tools.get(&tool_call.name));
        let schema = match tools {
            None => Schema::Unjudged,
            Some(_) => tool.map_or(Schema::Unknown, |tool| Schema::Known(&tool.schema)),
        };
        // Where nothing is pinned, nothing is held against the definitions that were given.
        let defined = tool.filter(|_| self.pinned.is_some()).and_then(|tool| {
            let definition = Document::parse(tool.definition.clone(), Strictness::Reply).ok()?;
            Some(ToolFacts::new(Section::Tools, &tool.name, definition.root()))
        });
        let (principal, grant, session) = (call.principal.clone(), call.grant.clone(), call.session.clone());
        let caller = Caller { principal, grant, session, ..Caller::default() };
        let policies = enforcer.policies(&caller);
        let objection = enforcer.objection(defined.as_ref(), &policies);
        let class = match &defined {
            Some(defined) => Some(defined.class(enforcer.definitions())),
            None => tool.and_then(|tool| tool.class),
        };
        let facts = Facts {
            schema,
            class,
            explained: true,
            beside: call.beside.clone(),
            objection,
            ..Facts::of(&tool_call.name, tool_call.arguments)
        };
        enforcer.decide(facts, &policies, &caller).await
    }

    fn enforcer(&mut self, server: &str) -> Arc<Enforcer> {
        let make = || {
            let store = self.store.clone();
            let enforcer = match &self.current {
                Some(current) => Enforcer::of(store, (server, None), ArgumentsMode::Drop, current.clone()),
                None => Enforcer::new(store, server, ArgumentsMode::Drop, self.policies.clone()),
            };
            if let Some(pinned) = &self.pinned {
                let lock = Lock { servers: [(server.to_owned(), pinned.clone())].into() };
                enforcer.pin(LockFile::of(lock), Pinning::Required);
            }
            enforcer
        };
        self.enforcers.entry(server.to_owned()).or_insert_with(make).clone()
    }
}

/// A call to be decided. Without more words, it is of the one caller of `run`, and completes.
#[derive(Clone, Debug)]
pub struct SimulatedCall {
    /// As a client would send it, or why it would be refused at the door.
    message: Result<Message, Malformed>,
    /// When; the clock stays where it is without it.
    pub at: Option<Timestamp>,
    /// With which credential.
    pub grant: String,
    /// By whom.
    pub principal: String,
    /// Of which upstream.
    pub server: String,
    /// In which session, where there are some.
    pub session: Option<String>,
    /// What stands beside its arguments and makes it another call.
    pub(crate) beside: String,
    /// How it ends, once it is allowed. Only what was never sent is refunded.
    pub reply: Reply,
}

impl SimulatedCall {
    /// A call of `tool`. `arguments` is JSON text; what is no object is refused when it is decided, as it would be live.
    pub fn new(tool: &str, arguments: Option<&str>) -> SimulatedCall {
        let arguments = arguments.map(|arguments| format!(",\"arguments\":{arguments}")).unwrap_or_default();
        let name = quote(tool);
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":{name}{arguments}}}}}"#);
        SimulatedCall {
            message: Message::parse(text, Side::Client),
            at: None,
            grant: LOCAL.into(),
            principal: LOCAL.into(),
            server: "local".into(),
            session: None,
            beside: String::new(),
            reply: Reply::Completed,
        }
    }

    /// Reads a call from a line of JSON, and gives the names of members that mean nothing here as well.
    ///
    /// # Errors
    /// One sentence, when the line is no call. Arguments that would be refused at the door are no error but a denial.
    pub fn parse(line: &str) -> Result<(SimulatedCall, Vec<String>), String> {
        let document = Document::parse(line.to_owned(), Strictness::Reply).map_err(|error| format!("no JSON: {error}"))?;
        let Some(members) = document.root().members() else { return Err("not a JSON object".into()) };
        let mut known: HashMap<&str, Value<'_>> = HashMap::new();
        let mut unread = Vec::new();
        for member in members {
            match MEMBERS.iter().find(|known| **known == member.key) {
                Some(name) if known.insert(name, member.value).is_some() => return Err(format!("`{name}` stands there twice")),
                Some(_) => {}
                None => unread.push(member.key.into_owned()),
            }
        }
        let text = |name: &str| match known.get(name).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => value.as_str().map(|text| Some(text.into_owned())).ok_or_else(|| format!("`{name}` must be a string")),
        };
        let Some(tool) = text("tool")? else { return Err("`tool` is missing".into()) };
        let mut call = SimulatedCall::new(&tool, known.get("arguments").map(|arguments| arguments.raw()));
        if let Some(at) = text("at")? {
            let wrong = || format!("`at` must be a time such as `2026-01-15T10:30:00Z`, not `{at}`");
            call.at = Some(at.parse().map_err(|_| wrong())?);
        }
        if let Some(reply) = text("reply")? {
            call.reply = reply_of(&reply)?;
        }
        for (name, place) in [("grant", &mut call.grant), ("principal", &mut call.principal), ("server", &mut call.server)] {
            if let Some(given) = text(name)? {
                *place = given;
            }
        }
        Ok((call, unread))
    }
}

/// Reads a `tools/list`, as [`Tools::parse`] does, and grades its tools.
///
/// # Errors
/// One sentence: what is not as expected.
pub fn read_tools(text: &[u8]) -> Result<Tools, String> {
    Ok(Tools::parse(text)?.graded(|definition, server| catalogue::grade(definition, server).class))
}

/// The reply of this word.
///
/// # Errors
/// One sentence that names the words there are.
pub(crate) fn reply_of(word: &str) -> Result<Reply, String> {
    use Reply::{Completed, InputRequired, Lost, Refused, ToolError, UpstreamError, Withheld};
    let known = [Completed, ToolError, UpstreamError, Refused, Lost, InputRequired, Withheld];
    known.into_iter().find(|reply| reply.as_str() == word).ok_or_else(|| {
        let known: Vec<String> = known.iter().map(|reply| format!("`{}`", reply.as_str())).collect();
        format!("unknown reply `{word}`; expected one of {}", known.join(", "))
    })
}

/// Whether the text is a JSON object by itself, to tell a bad test from a bad call.
pub(crate) fn is_object(text: &str) -> bool {
    Document::parse(text.to_owned(), Strictness::Reply).is_ok_and(|document| document.root().kind() == Kind::Object)
}

/// How much room the records of a simulation may take, in bytes.
const MOST_REMEMBERED: u64 = 64 << 20;

const MEMBERS: &[&str] = &["tool", "arguments", "at", "grant", "principal", "server", "reply"];

#[cfg(test)]
mod tests {
    use super::*;
    use policy::Source;

    fn simulation(policy: &str) -> Simulation {
        let loaded = policy::load(&Source::new("policy.yaml", policy));
        let policy = Arc::new(loaded.policy.expect("the policy of a test is valid"));
        Simulation::new(policy, None, "2026-01-15T10:30:00Z".parse().unwrap()).unwrap()
    }

    /// Decides the lines in their order, and compares the outcomes and reasons.
    #[track_caller]
    fn check(policy: &str, lines: &[(&str, &str)]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut simulation = simulation(policy);
        for (line, expected) in lines {
            let (call, _) = SimulatedCall::parse(line).unwrap();
            let decision = runtime.block_on(simulation.decide(&call));
            assert_eq!(format!("{} {}", decision.outcome, decision.reason), *expected, "{line}");
        }
    }

    const TWO_A_MINUTE: &str = "version: '1'\ntools: {t: {rules: [{name: r, rate_limit: 2/minute}]}}\n";

    #[test]
    fn time_stands_still_until_a_call_moves_it() {
        check(
            TWO_A_MINUTE,
            &[
                (r#"{"tool":"t"}"#, "allow allowed"),
                (r#"{"tool":"t","at":"2026-01-15T10:30:30Z"}"#, "allow allowed"),
                (r#"{"tool":"t"}"#, "deny limit-reached"),
                (r#"{"tool":"t","at":"2026-01-15T10:32:00Z"}"#, "allow allowed"),
            ],
        );
    }

    #[test]
    fn grants_and_servers_have_counters_of_their_own() {
        check(
            TWO_A_MINUTE,
            &[
                (r#"{"tool":"t"}"#, "allow allowed"),
                (r#"{"tool":"t","reply":"lost"}"#, "allow allowed"),
                (r#"{"tool":"t"}"#, "deny limit-reached"),
                (r#"{"tool":"t","grant":"other"}"#, "allow allowed"),
                (r#"{"tool":"t","server":"other"}"#, "allow allowed"),
            ],
        );
    }

    #[test]
    fn only_what_was_never_sent_is_refunded() {
        for (reply, third) in [
            ("refused", "allow allowed"),
            ("lost", "deny limit-reached"),
            ("tool_error", "deny limit-reached"),
            ("upstream_error", "deny limit-reached"),
        ] {
            let second = format!(r#"{{"tool":"t","reply":"{reply}"}}"#);
            let lines = [(r#"{"tool":"t"}"#, "allow allowed"), (second.as_str(), "allow allowed"), (r#"{"tool":"t"}"#, third)];
            check(TWO_A_MINUTE, &lines);
        }
    }

    #[test]
    fn what_the_door_would_refuse_is_denied_as_malformed() {
        check(
            TWO_A_MINUTE,
            &[
                (r#"{"tool":"t","arguments":[1]}"#, "deny malformed"),
                (r#"{"tool":"t","arguments":null}"#, "deny malformed"),
                (r#"{"tool":"t","arguments":{"a":1,"a":2}}"#, "deny malformed"),
                (r#"{"tool":"t\u0000"}"#, "deny malformed"),
                (r#"{"tool":""}"#, "deny malformed"),
            ],
        );
    }

    #[test]
    fn a_line_that_is_no_call_says_why() {
        for (line, why) in [
            ("{", "no JSON"),
            ("[]", "not a JSON object"),
            ("{}", "`tool` is missing"),
            (r#"{"tool":5}"#, "`tool` must be a string"),
            (r#"{"tool":"t","tool":"u"}"#, "twice"),
            (r#"{"tool":"t","at":"noon"}"#, "`at` must be a time"),
            (r#"{"tool":"t","reply":"maybe"}"#, "unknown reply `maybe`"),
        ] {
            let error = SimulatedCall::parse(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        assert_eq!(SimulatedCall::parse(r#"{"tool":"t","args":{}}"#).unwrap().1, ["args"]);
    }
}
