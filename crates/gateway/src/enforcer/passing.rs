//! Messages that are no calls: how they pass, and what is recorded of them.

use super::{Caller, Enforcer, Permit, Ticket};
use crate::ownership::Purpose;
use crate::refusal::{UNAVAILABLE, malformed};
use json::Value;
use mcp::{Malformed, Message};
use policy::{Decision, Outcome, Reason};
use std::sync::Arc;
use store::{ArgumentsMode, Draft, OneLine, Phase, Reply, Reservation};
use tracing::error;

/// What a record says of a message that is no call, besides its method.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noted {
    /// The tool that it concerns.
    pub tool: Option<String>,
    /// What stands for its arguments, as it is kept.
    pub arguments: Option<OneLine>,
    pub detail: Option<String>,
}

/// The denial of a state that was not issued for the request that hands it back.
pub(crate) fn unissued() -> Decision {
    let why = "This `requestState` was not issued for this call. Make the call again without it.";
    Decision::deny(Reason::UnknownState, why)
}

impl Enforcer {
    /// Turns a message that is no call into a permit. Where there is something to note it is recorded, as a call is.
    pub(crate) async fn pass(
        self: Arc<Self>,
        message: Message,
        caller: &Caller,
        recorded: Option<(Decision, Noted)>,
    ) -> Result<Permit, Malformed> {
        if message.method() == Some("tools/call") {
            let refused = malformed(&message, mcp::reply::INVALID_REQUEST, "a call of a tool needs an id");
            return Err(self.refuse(refused, caller).await);
        }
        let Some((decision, noted)) = recorded else { return Ok(Permit::new(message, None)) };
        let id = store::fresh_id().map_err(|_| malformed(&message, UNAVAILABLE, "refused: no id can be made for its record"))?;
        let observed = self.observer.get().and_then(|observer| {
            let observed = observer.begin(&message, None);
            observer.decided(observed, message.method(), None, &decision, &id)
        });
        let Noted { tool, arguments, detail } = noted;
        let policy = Some(self.policies(caller).revision().clone());
        let method = || message.method().map(|method| method.to_owned().into());
        let mut draft = self.draft(&id, Phase::Decided, method(), caller);
        draft.tool = tool.as_deref().map(Arc::from);
        (draft.arguments, draft.detail, draft.policy) = (arguments, detail, policy);
        draft.decide(&decision);
        if let Err(error) = self.store.record(draft).await {
            error!(server = %self.server, %error, "a request is refused: it cannot be recorded");
            return Err(malformed(&message, UNAVAILABLE, "refused: it cannot be recorded; try again later"));
        }
        let mut draft = self.draft(&id, Phase::Finished, method(), caller);
        draft.tool = tool.map(Arc::from);
        let ticket = Ticket::new(self.clone(), draft, Reservation::default(), Purpose::of(&message));
        Ok(Permit::new(message, Some(ticket.observed(observed))))
    }

    /// Records that a message of this method was denied; gives the decision's id. It is denied whether or not that succeeds.
    pub(crate) async fn record_denied(
        &self,
        method: Option<&str>,
        decision: &Decision,
        noted: Noted,
        caller: &Caller,
    ) -> Arc<str> {
        let (id, draft) = self.denied(method, decision, noted, caller);
        if let Err(error) = self.store.record(draft).await {
            // It is denied either way; only the trace of it is lost, and that is said here.
            error!(server = %self.server, %error, "a denial could not be recorded");
        }
        id
    }

    /// The same without anybody waiting for it.
    pub(crate) fn leave_denied(self: &Arc<Self>, method: Option<&str>, decision: &Decision, noted: Noted, caller: &Caller) {
        let (_, draft) = self.denied(method, decision, noted, caller);
        self.leave(draft);
    }

    fn leave(self: &Arc<Self>, draft: Box<Draft>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let enforcer = self.clone();
        let recording = async move {
            if let Err(error) = enforcer.store.record(draft).await {
                error!(server = %enforcer.server, %error, "a denial could not be recorded");
            }
        };
        self.endings.spawn_on(recording, &runtime);
    }

    /// Records what was found out about a definition, without anybody waiting for it.
    pub(crate) fn leave_definition(self: &Arc<Self>, method: &str, decision: &Decision, noted: Noted, caller: &Caller) {
        let (_, mut draft) = self.denied(Some(method), decision, noted, caller);
        if decision.outcome == Outcome::Allow {
            (draft.phase, draft.reply) = (Phase::Decided, None);
        }
        self.leave(draft);
    }

    fn denied(&self, method: Option<&str>, decision: &Decision, noted: Noted, caller: &Caller) -> (Arc<str>, Box<Draft>) {
        let id = store::fresh_id().unwrap_or_default();
        let Noted { tool, arguments, detail } = noted;
        if let Some(observer) = self.observer.get() {
            observer.counted(method, tool.as_deref(), decision.outcome, decision.reason);
        }
        let policy = Some(self.policies(caller).revision().clone());
        let mut draft = self.draft(&id, Phase::Refused, method.map(|method| method.to_owned().into()), caller);
        draft.tool = tool.map(Arc::from);
        (draft.arguments, draft.detail, draft.policy) = (arguments, detail, policy);
        draft.decide(decision);
        draft.reply = Some(Reply::Refused);
        (id, draft)
    }

    /// Records that the server may ask the client for something. Says whether that succeeded: what is not on record is not
    /// let through.
    pub(crate) async fn record_asked(&self, method: &str, decision: &Decision, caller: &Caller) -> bool {
        let Ok(id) = store::fresh_id() else { return false };
        if let Some(observer) = self.observer.get() {
            observer.counted(Some(method), None, decision.outcome, decision.reason);
        }
        let policy = Some(self.policies(caller).revision().clone());
        let detail = Some("asked by the server".to_owned());
        let mut draft = self.draft(&id, Phase::Decided, Some(method.to_owned().into()), caller);
        (draft.policy, draft.detail) = (policy, detail);
        draft.decide(decision);
        let recorded = self.store.record(draft).await;
        if let Err(error) = &recorded {
            error!(server = %self.server, %error, "a request of the server is refused: it cannot be recorded");
        }
        recorded.is_ok()
    }

    /// Whether a request hands back a state that was not issued to its caller for it.
    pub(crate) fn is_unissued(&self, message: &Message, caller: &Caller) -> bool {
        let state = message.params().and_then(|params| params.get("requestState")?.as_str());
        let Some(state) = state else { return false };
        let Some(purpose) = Purpose::of(message) else { return false };
        !self.owned.holds_state(&caller.owner(), &purpose, &state, self.store.clock().now())
    }

    /// What is kept of a value that a caller has sent, in the manner in which arguments are.
    pub(crate) fn kept(&self, value: Option<Value<'_>>) -> Option<OneLine> {
        self.store.render(self.arguments, Some(value?))
    }

    /// What is kept of a state and of answers that stand beside a request's arguments. A state is a secret of the server's,
    /// and never kept whole.
    pub(crate) fn kept_beside(&self, message: &Message) -> Option<String> {
        let params = message.params()?;
        let responses = self.kept(params.get("inputResponses")).map(|kept| format!("inputResponses: {kept}"));
        let state = params.get("requestState").filter(|_| self.arguments != ArgumentsMode::Drop);
        let state = state.and_then(|state| self.store.render(ArgumentsMode::Hmac, Some(state)));
        let parts: Vec<String> = responses.into_iter().chain(state.map(|kept| format!("requestState: {kept}"))).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}
