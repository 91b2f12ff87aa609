//! Asking the client: for its user's word, its model's, or its roots.
//!
//! A tool says what it wants to know and does not care about the era: a modern client is answered with
//! `input_required` and comes again with what was asked for; a legacy one is sent requests while its call waits.

use std::collections::BTreeMap;

use rmcp::RoleServer;
use rmcp::model::{ClientResult, ErrorData, InputRequest, InputRequiredResult, InputResponses, ProtocolVersion, ServerRequest};
use rmcp::service::RequestContext;
use serde_json::{Value, json};

/// What is asked for, by the key under which the answer comes.
pub type Questions = BTreeMap<String, InputRequest>;

/// What came of asking.
pub enum Asked {
    /// Every question has an answer.
    Answered(InputResponses),
    /// The client is to come again with answers.
    Again(InputRequiredResult),
}

/// Asks, or finds the answers in what the client brought.
///
/// # Errors
/// When a legacy client cannot be asked or refuses.
pub async fn ask(
    questions: Questions,
    brought: Option<&InputResponses>,
    state: Option<String>,
    context: &RequestContext<RoleServer>,
) -> Result<Asked, ErrorData> {
    if is_modern(context) {
        return Ok(match brought {
            Some(brought) if questions.keys().all(|key| brought.get(key).is_some_and(Value::is_object)) => {
                Asked::Answered(brought.clone())
            }
            _ => Asked::Again(InputRequiredResult::new(Some(questions), state)),
        });
    }
    let mut answers = InputResponses::new();
    for (key, question) in questions {
        answers.insert(key, put(question, context).await?);
    }
    Ok(Asked::Answered(answers))
}

/// Whether this request is of the stateless era.
pub fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

async fn put(question: InputRequest, context: &RequestContext<RoleServer>) -> Result<Value, ErrorData> {
    let request = match question {
        InputRequest::CreateMessage(request) => ServerRequest::CreateMessageRequest(request),
        InputRequest::Elicitation(request) => ServerRequest::ElicitRequest(request),
        InputRequest::ListRoots(request) => ServerRequest::ListRootsRequest(request),
        other => return Err(ErrorData::internal_error(format!("cannot ask {other:?}"), None)),
    };
    let refused = |error| ErrorData::internal_error(format!("the client did not answer: {error}"), None);
    let answer = context.peer.send_request(request).await.map_err(refused)?;
    Ok(match answer {
        ClientResult::CustomResult(custom) => custom.0,
        typed => serde_json::to_value(typed).unwrap_or(Value::Null),
    })
}

/// A question for the user: a form with these properties, all of them required where `required` says so.
pub fn elicit(message: &str, properties: Value, required: Value) -> InputRequest {
    let schema = json!({"type": "object", "properties": properties, "required": required});
    request(json!({"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}))
}

/// A question for the client's model.
pub fn sample(prompt: &str, tokens: u32) -> InputRequest {
    let messages = json!([{"role": "user", "content": {"type": "text", "text": prompt}}]);
    request(json!({"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": tokens}}))
}

/// A question for the client's roots.
pub fn roots() -> InputRequest {
    request(json!({"method": "roots/list", "params": {}}))
}

fn request(request: Value) -> InputRequest {
    serde_json::from_value(request).expect("the question keeps to the protocol")
}
