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
