//! Approvals in clients of the stateless era: the question stands in the result, and the call comes again with its answer.
//!
//! The state that comes back with the answer is sealed: nobody but the holder of the state's key can make one, any gateway on
//! the same state can check it, it ends with its approval, and it is for one call of one caller under one policy. What it was
//! made for is not kept anywhere: it is computed anew from the call that hands it back. State and answer are taken out before
//! the call is judged, for they are not the server's.

use super::held::{QUESTION, answer, form, said};
use super::unreached::STATE;
use super::{Gate, is_modern};
use crate::approvers::Waiting;
use bytes::Bytes;
use json::{Value, quote};
use mcp::{Id, Message, Side};

/// How a state of ours begins. A server's may begin so too, but then it is not sealed.
const PREFIX: &str = "callgate-approval.";

/// The result that asks the person before the client; `None` where this call cannot be asked about there.
pub(super) fn question(gate: &Gate, message: &Message, waiting: &Waiting) -> Option<Bytes> {
    let params = message.params()?;
    let interrupted = params.get("requestState").is_some() || params.get("inputResponses").is_some();
    // With a state of the server's there would be two, and room for one.
    if interrupted || !is_modern(message) || !message.declares_elicitation() || !waiting.suits_client() {
        return None;
    }
    let (id, expires) = (&waiting.approval.id, waiting.approval.expires);
    let state = format!("{PREFIX}{id}.{expires}.{}", seal(gate, message, id, expires)?);
    let asked = format!(r#"{{"{QUESTION}":{{"method":"elicitation/create","params":{}}}}}"#, form(&waiting.approval));
    let result = format!(r#"{{"resultType":"input_required","inputRequests":{asked},"requestState":{}}}"#, quote(&state));
    Some(mcp::reply::result(message.id().unwrap_or(&Id::from("")), &result))
}

/// Whether a call hands back something that looks like a state of ours.
pub(super) fn hands_back(message: &Message) -> bool {
    let state = message.params().and_then(|params| params.get("requestState")?.as_str());
    state.is_some_and(|state| state.starts_with(PREFIX) || state.starts_with(STATE))
}

/// Takes the state and the answer out of a call that hands them back, and carries the answer out. Where the state is not one for
/// this call, it stays as it was, and is refused as one that was never issued.
pub(super) async fn take_back(gate: &Gate, message: Message) -> Message {
    let params = || message.params();
    let state = params().and_then(|params| params.get("requestState")?.as_str());
    if state.as_ref().is_some_and(|state| state.starts_with(STATE)) {
        // Nothing hangs on it: the call is judged and sent as one that comes for the first time.
        return stripped(&message).unwrap_or(message);
    }
    let Some(id) = state.and_then(|state| opened(gate, &message, &state)) else { return message };
    let Some(stripped) = stripped(&message) else { return message };
    if let Some(said) = params().and_then(|params| said(params.get("inputResponses")?.get(QUESTION)?)) {
        // Whatever comes of it: the call is judged by what is then in the state.
        answer(gate, &id, said).await;
    }
    stripped
}

/// The approval that a state is for, where it is sealed, for this call, and not over.
fn opened(gate: &Gate, message: &Message, state: &str) -> Option<String> {
    let mut parts = state.strip_prefix(PREFIX)?.split('.');
    let (id, expires, sealed) = (parts.next()?, parts.next()?.parse::<i64>().ok()?, parts.next()?);
    let lasts = gate.enforcer.store().clock().now() < expires && parts.next().is_none();
    // A keyed digest is compared in constant time: else it could be found digit by digit.
    let expected = seal(gate, message, id, expires)?;
    let same = expected.len() == sealed.len()
        && expected.bytes().zip(sealed.bytes()).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0;
    (lasts && same && gate.enforcer.asks_in_client(&gate.caller)).then(|| id.to_owned())
}

/// The keyed digest of everything that a state is bound to.
fn seal(gate: &Gate, message: &Message, id: &str, expires: i64) -> Option<String> {
    let params = message.params()?;
    let raw = |key: &str| params.get(key).map_or("", Value::raw);
    let (name, policies) = (params.get("name")?.as_str()?, gate.policies());
    let expires = expires.to_string();
    let parts = [
        "callgate approval state v1",
        id,
        &expires,
        gate.enforcer.server(),
        &gate.caller.principal,
        &gate.caller.grant,
        &name,
        raw("arguments"),
        raw("task"),
        policies.revision(),
    ];
    let text: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    gate.enforcer.store().digest(&text)
}

/// The call without its state and answers.
fn stripped(message: &Message) -> Option<Message> {
    let params = message.params()?;
    let kept: Vec<String> = params
        .members()?
        .filter(|member| !matches!(&*member.key, "requestState" | "inputResponses"))
        .map(|member| format!("{}:{}", quote(&member.key), member.value.raw()))
        .collect();
    let text = message.edit().replace(params.span(), format!("{{{}}}", kept.join(","))).finish();
    Message::parse(text, Side::Client).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edition::Edition;
    use crate::enforcer::{Caller, Enforcer};
    use crate::grants::{Grant, Grants};
    use crate::snapshot::{AtServer, Current, Rules, Snapshot};
    use crate::tools::{LiveTools, Schemas};
    use policy::{Policies, Source, load};
    use serde_json::json;
    use std::collections::HashMap;
    use std::sync::Arc;
    use store::{ArgumentsMode, Clock, Options, StateUrl, Store};
    use tokio_util::sync::CancellationToken;

    const NOON: i64 = 1_772_366_400_000;
    const ASKS: &str = "version: \"1\"\ntools: {pay: {action: require_approval}, give: {action: require_approval}}\n";

    /// Where a call is made, and by whom.
    #[derive(Clone)]
    struct At {
        store: Store,
        server: &'static str,
        policy: String,
        principal: &'static str,
        grant: &'static str,
        in_client: bool,
    }

    impl At {
        fn gate(&self) -> Gate {
            let loaded = load(&Source::new("p.yaml", self.policy.clone()));
            let policies = Policies::from(Arc::new(loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.problems))));
            let names = ["ada's", "bob's"];
            let rules = names.map(|name| (name.to_owned(), policies.clone())).into();
            let grants = names.map(|name| {
                let grant = Grant {
                    name: name.to_owned(),
                    principal: String::new(),
                    servers: vec![self.server.to_owned()],
                    expires: None,
                    approve_in_client: self.in_client,
                    edition: Edition::another(),
                    ended: CancellationToken::new(),
                };
                (grant, Vec::new())
            });
            let grants = Grants::new(grants, &Grants::default(), NOON);
            let at = AtServer { edition: None, rules: Rules::OfGrants(rules) };
            let snapshot = Snapshot::new(HashMap::from([(self.server.to_owned(), at)]), grants);
            let enforcer = Enforcer::of(self.store.clone(), (self.server, None), ArgumentsMode::Full, Current::new(snapshot));
            let schemas = Schemas { tools: Arc::<LiveTools>::default(), ask: Arc::new(|_| Box::pin(async { None })) };
            let (principal, grant) = (self.principal.into(), self.grant.into());
            Gate {
                enforcer,
                caller: Caller { principal, grant, ..Caller::default() },
                schemas,
                over_http: false,
                stateless: true,
                elicits: false,
                opens_urls: false,
            }
        }
    }

    /// A call; `arguments` are text, for every byte of them counts.
    fn call(tool: &str, arguments: &str, beside: &str) -> Message {
        let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
        let params = format!(r#"{{"name":"{tool}","arguments":{arguments}{beside},"_meta":{meta}}}"#);
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        Message::parse(text, Side::Client).unwrap()
    }

    #[tokio::test]
    async fn a_state_is_for_one_call_of_one_caller_under_one_policy_and_for_a_while() {
        let clock = Clock::simulated(NOON);
        let state = || Store::open(StateUrl::Memory, Options { clock: clock.clone(), ..Options::default() }).unwrap();
        let at = At { store: state(), server: "s", policy: ASKS.to_owned(), principal: "ada", grant: "ada's", in_client: true };
        let arguments = r#"{"to": "eve", "amount": 1}"#;
        let pay = || call("pay", arguments, "");
        let super::super::Judged::Answer(answer) = at.gate().judge(pay()).await else { panic!("it is asked") };
        let asked: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let state_of = asked["result"]["requestState"].as_str().unwrap().to_owned();
        let is_good = |at: &At, message: &Message, state: &str| opened(&at.gate(), message, state).is_some();

        assert!(is_good(&at, &pay(), &state_of), "{asked}");
        assert!(is_good(&at.clone(), &pay(), &state_of), "any gateway on the state");
        let others = [
            ("another principal", At { principal: "bob", ..at.clone() }),
            ("another grant", At { grant: "bob's", ..at.clone() }),
            ("another server", At { server: "t", ..at.clone() }),
            ("another policy", At { policy: ASKS.replace("give", "lend"), ..at.clone() }),
            ("a grant that may not", At { in_client: false, ..at.clone() }),
            ("a gateway on another state", At { store: state(), ..at.clone() }),
        ];
        for (what, other) in &others {
            assert!(!is_good(other, &pay(), &state_of), "{what}");
        }
        let calls = [
            ("another tool", call("give", arguments, "")),
            ("another value", call("pay", &arguments.replace('1', "2"), "")),
            ("another byte", call("pay", &arguments.replace(": 1", ":1"), "")),
            ("another order", call("pay", r#"{"amount": 1, "to": "eve"}"#, "")),
            ("a task", call("pay", arguments, r#","task":{}"#)),
        ];
        for (what, other) in &calls {
            assert!(!is_good(&at, other, &state_of), "{what}");
        }
        // Nor is it good when anything of it is changed.
        for place in 0..state_of.len() {
            let mut bytes = state_of.clone().into_bytes();
            bytes[place] = if bytes[place] == b'1' { b'2' } else { b'1' };
            assert!(!is_good(&at, &pay(), std::str::from_utf8(&bytes).unwrap()), "byte {place}");
        }
        for other in
            [format!("{state_of}."), format!("{state_of}.x"), state_of[..state_of.len() - 1].to_owned(), PREFIX.to_owned()]
        {
            assert!(!is_good(&at, &pay(), &other), "{other}");
        }
        let expires: i64 = state_of.split('.').nth(2).unwrap().parse().unwrap();
        clock.advance(expires - NOON - 1);
        assert!(is_good(&at, &pay(), &state_of));
        clock.advance(1);
        assert!(!is_good(&at, &pay(), &state_of), "its time is over");
    }
}
