//! Calls that wait for a person: for a while, and where it is allowed, for the one before the client.
//!
//! A call that waits takes nothing and holds up nobody. When there is an answer it is judged once more from the beginning,
//! whatever the answer was; so nothing that happened meanwhile is overlooked, and what lets it through is the approval that is
//! then spent. When its time is over it is answered as if it had not waited.
//!
//! An agent must not approve its own calls. So the client is asked only where the operator has said so for its grant, and by a
//! question that clients put to people (elicitation).

use super::{Answer, Gate, Judged};
use crate::approvers::Waiting;
use crate::shown::approval_facts;
use crate::sink::Sink;
use json::quote;
use mcp::{Id, Message};
use std::time::Duration;
use store::{Answer as Said, Approval};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// So often a client that has asked for progress is told that its call still waits.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long a question to the person before the client may stay open.
const PATIENCE_OF_CLIENT: Duration = Duration::from_secs(600);
/// The key under which the stateless era is asked.
pub(super) const QUESTION: &str = "callgate-approval";

/// A call that may wait for its answer.
pub(crate) struct Held {
    gate: Gate,
    message: Message,
    waiting: Waiting,
    /// What it is answered when nobody has.
    unanswered: Answer,
    /// Whether the person before the client may be asked by a request of ours.
    may_ask_client: bool,
}

/// A question to the person before the client, and where the answer will arrive.
pub(crate) struct Question {
    /// The request, to be said to the client.
    pub request: bytes::Bytes,
    /// Its id.
    pub id: Id,
    reply: oneshot::Receiver<Message>,
}

impl Held {
    pub fn new(gate: Gate, message: Message, waiting: Waiting, unanswered: Answer, may_ask_client: bool) -> Held {
        Held { gate, message, waiting, unanswered, may_ask_client }
    }

    /// The question for the person before a client of the legacy era that can be asked; its answer is to be sent to what is
    /// given beside it.
    pub fn question(&self) -> Option<(Question, oneshot::Sender<Message>)> {
        if !self.may_ask_client {
            return None;
        }
        let name = format!("callgate-approval-{}-{}", self.waiting.approval.id, crate::chance::token()?);
        let id = Id::from(name.as_str());
        let request = format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"elicitation/create","params":{}}}"#,
            id.text(),
            form(&self.waiting.approval)
        );
        let (answer, reply) = oneshot::channel();
        Some((Question { request: request.into(), id, reply }, answer))
    }

    /// Whether there is anything to wait for, where the client cannot be asked.
    pub fn waits(&self) -> bool {
        !self.waiting.wait.is_zero()
    }

    /// What it is answered without waiting.
    pub fn unanswered(self) -> Answer {
        self.unanswered
    }

    /// Whether somebody can see that it waits.
    pub fn tells_progress(&self) -> bool {
        self.message.progress_token().is_some()
    }

    /// Waits for an answer, for `sink`'s client; then judges anew. Gives the message back where it was let through, for whoever
    /// needs to know what it was. Ends early, as if its time were over, when `stop` is cancelled.
    pub async fn judged(self, question: Option<Question>, sink: &Sink, stop: &CancellationToken) -> Judged {
        let by_client = question.is_some();
        let longest = if by_client { self.waiting.wait.max(PATIENCE_OF_CLIENT) } else { self.waiting.wait };
        let until = Instant::now() + longest;
        let id = self.waiting.approval.id.clone();
        let approvers = self.gate.enforcer.approvers().clone();
        let mut answered = std::pin::pin!(approvers.answered(&id));
        let mut asked = std::pin::pin!(async {
            match question {
                Some(question) => question.reply.await.ok(),
                None => std::future::pending().await,
            }
        });
        let mut told = 0_u32;
        self.tell_progress(told, sink).await;
        loop {
            tokio::select! {
                () = &mut answered => break,
                reply = &mut asked => match self.heed(reply.as_ref()).await {
                    true => break,
                    false => return Judged::Answer(self.unanswered),
                },
                () = tokio::time::sleep_until(until) => return Judged::Answer(self.unanswered),
                () = stop.cancelled() => return Judged::Answer(self.unanswered),
                () = tokio::time::sleep(PROGRESS) => {
                    told += 1;
                    self.tell_progress(told, sink).await;
                }
            }
            if sink.is_closed() {
                return Judged::Answer(self.unanswered);
            }
        }
        self.gate.judge_again(self.message).await
    }

    /// Carries out what the person before the client has said. Gives whether anything was.
    async fn heed(&self, reply: Option<&Message>) -> bool {
        let result = reply.and_then(Message::result);
        match result.and_then(said) {
            Some(said) => answer(&self.gate, &self.waiting.approval.id, said).await,
            None => false,
        }
    }

    async fn tell_progress(&self, told: u32, sink: &Sink) {
        let Some(token) = self.message.progress_token() else { return };
        // Progress must grow, and the server's own, which comes later, begins at 0 or 1.
        let progress = f64::from(told) / 1_000_000.0 - 1.0;
        let message = format!("waiting for approval {}", self.waiting.approval.id);
        let notice = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{},"progress":{progress:.6},"message":{}}}}}"#,
            token.raw(),
            quote(&message)
        );
        sink.event(notice.into()).await;
    }
}

/// Answers an approval in the name of the person before a caller's client.
pub(super) async fn answer(gate: &Gate, id: &str, said: Said) -> bool {
    let by = format!("client of {}", gate.caller.principal);
    match gate.enforcer.store().answer(id, said, &by).await {
        Ok(_) => true,
        Err(error) => {
            // Somebody else may have answered meanwhile: the call finds out.
            warn!(server = gate.enforcer.server(), approval = id, %error, "an answer given in the client does not count");
            matches!(error, store::StoreError::ApprovalClosed { .. })
        }
    }
}

/// What a person has said in the form: `None` where it was only put away.
pub(super) fn said(result: json::Value<'_>) -> Option<Said> {
    let action = result.get("action")?.as_str()?;
    let approves = || result.get("content").and_then(|content| content.get("approve")?.as_bool());
    match (&*action, approves()) {
        ("accept", Some(true)) => Some(Said::Approve),
        ("accept", Some(false)) | ("decline", _) => Some(Said::Deny),
        _ => None,
    }
}

/// The parameters of an `elicitation/create` about this approval.
pub(super) fn form(approval: &Approval) -> String {
    let mut text = String::from("An agent wants to make this call, and the policy asks you first.\n");
    for (name, fact) in approval_facts(approval) {
        if matches!(name, "tool" | "server" | "rule" | "arguments" | "expires") {
            text.push_str(&format!("{name}: {fact}\n"));
        }
    }
    // 2025-06-18 §Elicitation: a flat object of primitive properties.
    format!(
        concat!(
            r#"{{"message":{},"requestedSchema":{{"type":"object","properties":{{"approve":{{"type":"boolean","title":"Approve","#,
            r#""description":"Whether exactly this call may be made, once"}}}},"required":["approve"]}}}}"#
        ),
        quote(text.trim_end())
    )
}
