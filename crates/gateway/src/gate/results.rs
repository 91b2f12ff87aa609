//! What servers answer and say, before the client has it: what the policies say of results.
//!
//! Every answer passes by here, whichever way it comes, and whatever else a server says to its client. A result is judged by what
//! is said of its tool; where nobody can know of which tool something is (a notification, a stream that is taken up again, a
//! task from before a restart), by all that is said of any.

use super::{Expected, Gate, denial, refusal_of};
use crate::enforcer::{Noted, Ticket};
use crate::pins::Section;
use crate::refusal::NOT_ALLOWED;
use bytes::Bytes;
use json::{Document, Strictness};
use mcp::{Id, Message, Side};
use policy::{Decision, JudgedResult, Policies, Reason, ResultFilter, ResultFindings, Withheld};
use tracing::warn;

/// What becomes of a reply.
pub(super) enum Screened {
    /// It passes as it is.
    Same,
    /// This passes in its place.
    Changed(Message),
    /// The client is told this in its place, and why is recorded.
    Withheld(Bytes),
}

impl Gate {
    /// What holds for the reply to what was expected, a result or an error; `None` where nothing does.
    pub(super) fn filter_of(&self, expected: &Expected, is_result: bool) -> Option<ResultFilter> {
        let policies = self.policies();
        if !policies.judge_results() {
            return None;
        }
        let of_tool = |tool: Option<&str>| match tool {
            Some(tool) => policies.results_of_tool(tool, self.class_of(tool, &policies)),
            None => policies.results_of_any(),
        };
        let filter = match expected.method.as_str() {
            _ if expected.is_resumed => policies.results_of_any(),
            // What a server says of itself is a matter of `definitions`.
            "initialize" | "server/discover" | "tools/list" | "prompts/list" if is_result => return None,
            method if method == "tools/call" || mcp::TASK_METHODS.contains(&method) => {
                of_tool(expected.ticket.as_ref().and_then(Ticket::tool))
            }
            _ => policies.results_of_others(),
        };
        (!filter.is_empty()).then_some(filter)
    }

    fn class_of(&self, tool: &str, policies: &Policies) -> Option<policy::RiskClass> {
        let known = policies.needs_class(tool).then(|| self.schemas.tools.known(Section::Tools, tool))??;
        Some(known.class(self.enforcer.definitions()))
    }

    /// Judges a reply by what holds for it.
    pub(super) async fn screen_reply(
        &self,
        filter: ResultFilter,
        expected: &mut Expected,
        reply: &Message,
        client_id: &Id,
    ) -> Screened {
        let JudgedResult { enforced, shadow } = judged(filter, reply).await;
        if let Some(ticket) = expected.ticket.as_mut() {
            note_shadow(ticket, shadow);
        }
        match applied(reply, enforced) {
            Ok(None) => Screened::Same,
            Ok(Some((changed, what))) => {
                if let Some(ticket) = expected.ticket.as_mut() {
                    ticket.note(format!("changed: {what}"));
                }
                Screened::Changed(changed)
            }
            Err(withheld) => Screened::Withheld(self.withheld(expected, withheld, client_id).await),
        }
    }

    /// Records that a reply is withheld; gives what the client is told.
    async fn withheld(&self, expected: &mut Expected, withheld: Withheld, client_id: &Id) -> Bytes {
        warn!(server = self.enforcer.server(), rule = &*withheld.rule, "withheld a result");
        let decision = decision(withheld);
        let id = match expected.ticket.take() {
            Some(ticket) => {
                let id = ticket.id();
                ticket.withhold(&decision).await;
                id
            }
            None => {
                let noted = Noted { detail: Some("the result is withheld".into()), ..Noted::default() };
                self.enforcer.record_denied(Some(&expected.method), &decision, noted, &self.caller).await
            }
        };
        // 2025-11-25 §Tasks: the answer to `tasks/result` is what the call itself would have been answered.
        match expected.method.as_str() {
            "tools/call" | "tasks/result" => denial(&decision, &id, client_id, expected.modern),
            _ => refusal_of(&decision, &id, NOT_ALLOWED, client_id),
        }
    }

    /// Whether a reply is withheld for what it says; nothing is recorded.
    pub(super) fn is_withheld(&self, expected: &Expected, reply: &Message) -> bool {
        let Some(filter) = self.filter_of(expected, reply.result().is_some()) else { return false };
        is_too_long_a_question(&filter, reply) || judged_now(&filter, reply).enforced.withheld.is_some()
    }

    /// What may pass of the body of an error that is no reply: all, or nothing.
    pub fn screen_body(&self, expected: &Expected, body: Bytes) -> Bytes {
        if self.enforcer.over(&self.caller).is_some() {
            return Bytes::new();
        }
        let Some(filter) = self.filter_of(expected, false) else { return body };
        let document = Document::parse(body.clone(), Strictness::Reply);
        let is_clean = |document: &Document| filter.judge(document.root()).enforced == ResultFindings::default();
        if document.is_ok_and(|document| is_clean(&document)) { body } else { Bytes::new() }
    }

    /// What may pass of the body of an error where no reply is expected: all, or nothing. Where anything is said of what comes
    /// back, nothing passes that cannot be judged.
    pub fn screen_bare(&self, body: Bytes) -> Bytes {
        // For whom nothing goes on any more nothing is said of it either.
        let passes = self.enforcer.over(&self.caller).is_none() && !self.policies().judge_results();
        if passes { body } else { Bytes::new() }
    }

    /// What may pass of a notification. What would keep everybody waiting while it is judged does not.
    ///
    /// # Errors
    /// Why nothing does.
    pub(super) fn screen_noticed(&self, message: Message) -> Result<Message, Decision> {
        let Some(filter) = self.filter_of_said() else { return Ok(message) };
        if message.text().len() > MOST_AT_ONCE {
            return Err(decision(Withheld::unjudged()));
        }
        let findings = judged_now(&filter, &message).enforced;
        passed(message, findings)
    }

    /// What may pass of what a server asks its client for.
    ///
    /// # Errors
    /// Why nothing does.
    pub(super) async fn screen_asked(&self, message: Message) -> Result<Message, Decision> {
        let Some(filter) = self.filter_of_said() else { return Ok(message) };
        let findings = judged(filter, &message).await.enforced;
        passed(message, findings)
    }

    /// What holds for what a server says by itself, where anything may come of it: nobody would read what is only tried out.
    fn filter_of_said(&self) -> Option<ResultFilter> {
        let policies = self.policies();
        policies.judge_results().then(|| policies.results_of_any()).filter(ResultFilter::is_enforced)
    }
}

fn passed(message: Message, findings: ResultFindings) -> Result<Message, Decision> {
    match applied(&message, findings) {
        Ok(changed) => Ok(changed.map_or(message, |(changed, _)| changed)),
        Err(withheld) => Err(decision(withheld)),
    }
}

impl Ticket {
    /// Records that the call has ended, and that its result is withheld.
    async fn withhold(mut self, decision: &Decision) {
        self.because(decision.reason, decision.rule.as_deref());
        self.finish(store::Reply::Withheld, decision.message.clone()).await;
    }
}

fn decision(withheld: Withheld) -> Decision {
    let Withheld { rule, message } = withheld;
    Decision { rule: Some(rule), ..Decision::deny(Reason::ResultWithheld, message) }
}

/// Judges all that a message says, wherever it says it. Its method and its id are judged as what they are.
fn judged_now(filter: &ResultFilter, message: &Message) -> JudgedResult {
    filter.judge_message(message.document().root(), &["jsonrpc", "id", "method"])
}

/// Whether a reply asks for more at such length that it is withheld without a look: whether it is withheld must be known at once.
fn is_too_long_a_question(filter: &ResultFilter, reply: &Message) -> bool {
    let asks = || reply.result().is_some_and(|result| result.get("requestState").is_some());
    reply.text().len() > MOST_AT_ONCE && filter.is_enforced() && asks()
}

/// Judges a message; a long one where it keeps nobody waiting.
async fn judged(filter: ResultFilter, reply: &Message) -> JudgedResult {
    let unjudged = || {
        let enforced = ResultFindings { withheld: Some(Withheld::unjudged()), ..ResultFindings::default() };
        JudgedResult { enforced, shadow: ResultFindings::default() }
    };
    if is_too_long_a_question(&filter, reply) {
        return unjudged();
    }
    if reply.text().len() <= LONG {
        return judged_now(&filter, reply);
    }
    let reply = reply.clone();
    let judged = tokio::task::spawn_blocking(move || judged_now(&filter, &reply)).await;
    judged.unwrap_or_else(|_| unjudged())
}

/// The message with what was found exchanged, and what that is; `None` where nothing was.
fn applied(message: &Message, findings: ResultFindings) -> Result<Option<(Message, String)>, Withheld> {
    let what = findings.counted();
    let ResultFindings { withheld, changes, counts: _ } = findings;
    if let Some(withheld) = withheld {
        return Err(withheld);
    }
    if changes.is_empty() {
        return Ok(None);
    }
    // It is a message still; were it none, it would not pass.
    let changed =
        Message::parse(message.edit().replace_each(changes).finish(), Side::Server).map_err(|_| Withheld::unjudged())?;
    Ok(Some((changed, what)))
}

/// Notes in the record of a call what sections in shadow mode would have done.
fn note_shadow(ticket: &mut Ticket, shadow: ResultFindings) {
    if !shadow.changes.is_empty() {
        ticket.note(format!("would be changed: {}", shadow.counted()));
    }
    if let Some(withheld) = shadow.withheld {
        ticket.would_be_withheld(withheld.rule, withheld.message);
    }
}

/// From here on judging takes about as long as waking a thread.
const LONG: usize = 64 << 10;

/// What is judged while others wait: a few milliseconds' worth.
const MOST_AT_ONCE: usize = 256 << 10;
