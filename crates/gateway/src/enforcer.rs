//! The enforcer: the one place where a call is let through.
//!
//! A message becomes a [`Permit`] only after it was judged, charged and recorded; upstreams take nothing else. The permit
//! holds the very message that was judged. Every way of failing on the way there is a denial with a reason of its own.

mod passing;
mod permit;
mod recalling;

use crate::approvers::{Approvers, Waiting};
use crate::edition::Edition;
use crate::grants::Grants;
use crate::observe::{Observatory, Observed, Observer};
use crate::ownership::{Owner, Ownership, Purpose};
use crate::pins::{Definitions, Finding, LockFile, Objection, Pinning, Section};
use crate::snapshot::{AtServer, Current, Rules, Snapshot};
use crate::tools::{Schemas, ToolFacts};
use futures_util::future::BoxFuture;
use mcp::{Malformed, Message, ToolCall};
pub(crate) use passing::{Noted, unissued};
pub use permit::Permit;
pub(crate) use permit::{Passed, Ticket};
use policy::{ApprovalTerms, Call, Decision, Outcome, Plan, Policies, Reason, RiskClass, Schema, Treatment};
pub(crate) use recalling::MOST_NAMED;
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store::{
    Admission, Approval, ApprovalRequest, ApprovalState, ArgumentsMode, Draft, Entered, Entry, Once, Phase, Reservation,
    ShownArguments, Store, StoreError, Subject, Verdict,
};
use tokio_util::task::TaskTracker;
use tracing::error;

/// Who is calling.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The person, agent or service.
    pub principal: String,
    /// The credential it uses; limits are scoped to it.
    pub grant: String,
    /// In which edition of the grant it was let in; `None`: by no credential that could be taken back.
    pub edition: Option<Edition>,
    /// The legacy session or the stdio process, where there is one.
    pub session: Option<String>,
    /// Where the principal is the subject of an authorization server's token that this caller has shown, a digest of what that
    /// says. Somebody whom the grant calls the same has not, or by a token that says something else.
    pub subject: Option<[u8; 32]>,
}

/// The grant of `run` and `serve -p`, and its principal; no configuration has such a grant.
pub(crate) const LOCAL: &str = "local";

impl Caller {
    /// The one caller of `run` and `serve -p`: the same on every machine that shares a store.
    pub fn local(session: Option<String>) -> Caller {
        Caller { principal: LOCAL.into(), grant: LOCAL.into(), session, ..Caller::default() }
    }

    /// The same caller, in a session.
    pub(crate) fn in_session(&self, session: &str) -> Caller {
        Caller { session: Some(session.to_owned()), ..self.clone() }
    }

    /// The same caller, whatever its session, and whenever it was let in: what is kept for it is kept by this.
    pub(crate) fn in_general(&self) -> Caller {
        Caller { session: None, edition: None, ..self.clone() }
    }

    /// Nobody in particular: the gateway itself, or several at once.
    pub(crate) fn nobody() -> Caller {
        Caller::default()
    }

    /// Whether both are the same person with the same credential: a session belongs to whoever has opened it.
    pub(crate) fn is_same(&self, other: &Caller) -> bool {
        (&self.principal, &self.grant, self.subject) == (&other.principal, &other.grant, other.subject)
    }

    /// Whether nobody else can call: `run` and `serve -p` have one grant.
    pub(crate) fn is_alone(&self) -> bool {
        *self == Caller::local(self.session.clone())
    }

    /// To whom belongs what is issued to this caller.
    pub(crate) fn owner(&self) -> Owner {
        Owner { principal: self.principal.clone(), grant: self.grant.clone(), subject: self.subject }
    }
}

/// Judges, charges and records; for one upstream.
pub struct Enforcer {
    store: Store,
    server: Arc<str>,
    /// Which edition of the server this is before; `None`: there never is another.
    edition: Option<Edition>,
    /// Tells what the server's name stands for from all that it may come to stand for; where it is not said, what the server
    /// issues is remembered in this process only.
    fingerprint: OnceLock<String>,
    arguments: ArgumentsMode,
    current: Arc<Current>,
    owned: Ownership,
    definitions: Arc<Definitions>,
    /// Endings that are still being recorded.
    endings: TaskTracker,
    /// Whoever takes note of what is decided, if anybody does.
    observer: OnceLock<Observer>,
    approvers: OnceLock<Approvers>,
}

/// What is judged of a call, besides the policy.
pub struct Facts<'a> {
    /// The tool's name.
    pub tool: &'a str,
    /// Its arguments: an object, or absent.
    pub arguments: Option<json::Value<'a>>,
    /// The tool's definition in canonical text, where it is known: an approval is for this one.
    pub definition: Option<String>,
    /// What is known of its schema.
    pub schema: Schema<'a>,
    /// What the tool may do, where its definition is known.
    pub class: Option<RiskClass>,
    /// Whether somebody wants to know how the decision came about.
    pub explained: bool,
    /// What else decides what the call does: its task, the server's state, answers to the server's questions; as text.
    pub beside: String,
    /// What is kept of that in the record.
    pub detail: Option<String>,
    /// Whether it hands back a state that was not issued for it.
    pub unissued: bool,
    /// What follows from that definition, where it is not simply the accepted one.
    pub objection: Option<Objection>,
}

impl<'a> Facts<'a> {
    /// A call of which nothing else is known.
    pub fn of(tool: &'a str, arguments: Option<json::Value<'a>>) -> Facts<'a> {
        Facts {
            tool,
            arguments,
            definition: None,
            schema: Schema::Unknown,
            class: None,
            explained: false,
            beside: String::new(),
            detail: None,
            unissued: false,
            objection: None,
        }
    }
}

/// A decision that has been recorded, and charged where it allows.
#[derive(Debug)]
pub struct Decided {
    /// The decision.
    pub decision: Decision,
    /// Its id: equal in its records and in what the client is told.
    pub id: Arc<str>,
    /// What was taken for it; to be settled with how the call ended.
    pub reservation: Reservation,
    /// What it waits for, where a person must approve it.
    pub waiting: Option<Box<Waiting>>,
    /// What was recorded of it, where it was admitted: a draft of how the call ends has most of it.
    pub record: Option<Box<Draft>>,
}

impl Enforcer {
    /// An enforcer for the upstream called `server`, at which the same holds for every caller.
    pub fn new(
        store: Store,
        server: impl Into<Arc<str>>,
        arguments: ArgumentsMode,
        policies: impl Into<Policies>,
    ) -> Arc<Enforcer> {
        let server = server.into();
        let current = Current::new(sole(&server, policies.into()));
        Enforcer::of(store, (server, None), arguments, current)
    }

    /// An enforcer for the upstream called `server`, that goes by what is in force. It allows nothing where the server is not
    /// there in this edition; `None`: which one does not matter.
    pub fn of(
        store: Store,
        (server, edition): (impl Into<Arc<str>>, Option<Edition>),
        arguments: ArgumentsMode,
        current: Arc<Current>,
    ) -> Arc<Enforcer> {
        let server = server.into();
        let definitions = Arc::new(Definitions::of(&server));
        let (owned, endings) = (Ownership::default(), TaskTracker::new());
        let (fingerprint, observer, approvers) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Arc::new(Enforcer {
            store,
            server,
            edition,
            fingerprint,
            arguments,
            current,
            owned,
            definitions,
            endings,
            observer,
            approvers,
        })
    }

    /// Has all that is decided and how it ends observed from here on.
    pub fn observe(&self, observatory: &Arc<Observatory>) {
        let _ = self.observer.set(observatory.of_server(&self.server));
    }

    /// Waits until the ending of every call that is over is on record.
    pub async fn settled(&self) {
        self.endings.close();
        self.endings.wait().await;
    }

    /// The name of the upstream in counters and records.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Which edition of the upstream this is before.
    pub(crate) fn edition(&self) -> Option<Edition> {
        self.edition
    }

    /// Says what tells the server from whatever else its name may stand for, before the first call.
    pub(crate) fn stand_before(&self, fingerprint: String) {
        let _ = self.fingerprint.set(fingerprint);
    }

    /// Says how people are asked, before the first call.
    pub fn ask_by(&self, approvers: Approvers) {
        let _ = self.approvers.set(approvers);
    }

    /// How people are asked; where nobody has said it, nobody is told.
    pub(crate) fn approvers(&self) -> &Approvers {
        self.approvers.get_or_init(|| Approvers::new(self.store.clone()))
    }

    /// Whether the client of this caller may be asked for approvals.
    pub(crate) fn asks_in_client(&self, caller: &Caller) -> bool {
        if caller.is_alone() {
            return self.approvers().asks_sole_client();
        }
        let snapshot = self.current.snapshot();
        snapshot.grants().in_edition(&caller.grant, caller.edition).is_some_and(|grant| grant.approve_in_client)
    }

    /// Where things are remembered.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Holds what the server says of itself against `file` from now on. To be called before anything goes by.
    pub fn pin(&self, file: Arc<LockFile>, pinning: Pinning) {
        self.definitions.pin(file, pinning);
    }

    /// What is known of the server's definitions.
    pub(crate) fn definitions(&self) -> &Arc<Definitions> {
        &self.definitions
    }

    /// What follows from the definition of a tool or prompt, as far as it is known; `None` where nothing is to be held
    /// against it. What is only tried out stops nothing.
    pub(crate) fn objection(&self, facts: Option<&ToolFacts>, policies: &Policies) -> Option<Objection> {
        let finding = match facts {
            Some(facts) => facts.finding(&self.definitions),
            None if self.definitions.are_pinned() => Arc::new(Finding::unknown()),
            None => return None,
        };
        let mut objection = finding.under(policies.definitions());
        if policies.is_shadow() {
            (objection.treatment, objection.escape) = (objection.treatment.min(Treatment::Warn), false);
        }
        (objection.treatment != Treatment::Allow || objection.escape).then_some(objection)
    }

    /// What was issued to whom.
    pub(crate) fn owned(&self) -> &Ownership {
        &self.owned
    }

    /// What holds for a caller now; a call takes it once and keeps it. For a grant that may not use this server, and where
    /// either is another edition by now, nothing is allowed.
    pub fn policies(&self, caller: &Caller) -> Policies {
        let snapshot = self.current.snapshot();
        let is_meant = snapshot.has_server(&self.server, self.edition)
            && (caller.edition.is_none() || snapshot.grants().in_edition(&caller.grant, caller.edition).is_some());
        let policies = snapshot.policies(&self.server, &caller.grant).filter(|_| is_meant);
        policies.cloned().unwrap_or_else(|| Policies::all_of(Vec::new()))
    }

    /// Waits until the caller's grant is revoked or has expired; for ever, where there is none that could be.
    pub(crate) fn end_of(&self, caller: &Caller) -> impl Future<Output = ()> + Send + use<> {
        let ended = self.current.snapshot().end_of(&self.server, &caller.grant, caller.edition);
        async move {
            match ended {
                Some(ended) => ended.cancelled_owned().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Why nothing goes on here any more in the caller's name, if nothing does.
    pub(crate) fn over(&self, caller: &Caller) -> Option<Over> {
        let snapshot = self.current.snapshot();
        if !snapshot.has_server(&self.server, self.edition) {
            return Some(Over::Server);
        }
        let ended = snapshot.end_of(&self.server, &caller.grant, caller.edition)?;
        ended.is_cancelled().then_some(Over::Grant)
    }

    /// Puts other policies in force for every caller, for calls that begin from now on.
    pub fn replace(&self, policies: impl Into<Policies>) {
        self.current.replace(sole(&self.server, policies.into()));
    }

    /// Judges a call, charges it and records it: one transaction. Denials are recorded too.
    pub async fn decide(&self, facts: Facts<'_>, policy: &Policies, caller: &Caller) -> Decided {
        let proposal = self.propose(&facts, policy, caller);
        let entered = self.enter(proposal.entry).await;
        self.decided(proposal.open, entered)
    }

    /// Judges a call. What is to be charged and recorded is left to be entered, and then to be [`Enforcer::decided`].
    fn propose(&self, facts: &Facts<'_>, policy: &Policies, caller: &Caller) -> Proposal {
        let id = match store::fresh_id() {
            Ok(id) => id,
            Err(error) => return Proposal::nothing(self.unrecorded(Arc::default(), &error)),
        };
        let rendered = self.store.render(self.arguments, facts.arguments);
        if rendered.is_none() && facts.arguments.is_some() && self.arguments != ArgumentsMode::Drop {
            return Proposal::nothing(self.unrecorded(id, &"the key for digests is not there yet"));
        }
        let at = jiff::Timestamp::from_millisecond(self.store.clock().now()).unwrap_or(jiff::Timestamp::MAX);
        let &Facts { tool, arguments, schema, class, explained, .. } = facts;
        let call = Call { tool, arguments, schema, class, at, explained };
        let mut plan = policy.evaluate(&call);
        let mut draft = self.draft(&id, Phase::Decided, Some("tools/call".into()), caller);
        draft.arguments = rendered;
        draft.policy = Some(policy.revision().clone());
        draft.tool = Some(facts.tool.into());
        draft.detail = with_objection(facts.detail.clone(), facts.objection.as_ref());
        if let Some(over) = self.over(caller) {
            return Proposal::denial(draft, over.decision());
        }
        if plan.decision.outcome == Outcome::Deny {
            return Proposal::denial(draft, plan.decision);
        }
        // What is only tried out stops nothing.
        if facts.unissued && !policy.is_shadow() {
            return Proposal::denial(draft, unissued());
        }
        match &facts.objection {
            Some(objection) if objection.treatment == Treatment::Deny => {
                let decision = Decision::deny(objection.reason, objection.message(Section::Tools));
                return Proposal::denial(draft, Decision { rule: Some(objection.rule().into()), ..decision });
            }
            Some(objection) if objection.treatment == Treatment::Ask => {
                plan = plan.asking(objection.rule(), &objection.asked());
            }
            Some(_) | None => {}
        }
        let asked = plan.approval.as_ref().map(|terms| Box::new(self.asked(terms, facts, policy, caller)));
        let decided = Arc::new(OnceLock::new());
        let slot = decided.clone();
        let admission = Admission {
            id: id.clone(),
            subject: subject_of(&draft),
            charges: plan.charges.clone(),
            once: plan.once.as_ref().map(|once| Once {
                tool: facts.tool.to_owned(),
                // Spelling does not make a call another call: `1` and `1.0`, or members in another order, are the same.
                digest: digest(&format!("{}\n{}", store::arguments::digest(facts.arguments), facts.beside)),
                window_ms: once.window_ms,
            }),
            approval: plan.approval.as_ref().map(|terms| approval_request(terms, facts, policy)),
            record: Box::new(move |verdict| {
                let decision = resolve(plan, verdict);
                draft.decide(&decision);
                draft.approval = approval_of(verdict);
                let _ = slot.set(decision);
                draft
            }),
        };
        Proposal { entry: Some(Entry::Admit(Box::new(admission))), open: Open::Proposed { id, decided, asked } }
    }

    /// Enters one thing by itself.
    async fn enter(&self, entry: Option<Entry>) -> Option<Result<Entered, StoreError>> {
        Some(self.store.enter_alone(entry?).await)
    }

    /// What was decided, by what became of its entry.
    fn decided(&self, open: Open, entered: Option<Result<Entered, StoreError>>) -> Decided {
        let refused = |decision, id| Decided { decision, id, reservation: Reservation::default(), waiting: None, record: None };
        match (open, entered) {
            (Open::Decided(decided), _) => *decided,
            (Open::Denied { decision, id }, entered) => {
                if let Some(Err(error)) = entered {
                    // It is denied either way; only the trace of it is lost, and that is said here.
                    error!(server = %self.server, %error, "a denial could not be recorded");
                    self.missed_record();
                }
                refused(decision, id)
            }
            (Open::Proposed { id, decided, asked }, Some(Ok(Entered::Admitted(admitted)))) => {
                // The closure is gone by now, and with it the other end of the slot.
                match Arc::into_inner(decided).and_then(OnceLock::into_inner) {
                    Some(decision) => {
                        let waiting = asked.and_then(|asked| self.waits(*asked, &admitted.verdict)).map(Box::new);
                        Decided { decision, id, reservation: admitted.reservation, waiting, record: Some(admitted.draft) }
                    }
                    None => self.unrecorded(id, &"the store has decided nothing"),
                }
            }
            (Open::Proposed { id, .. }, Some(Err(error))) => self.unrecorded(id, &error),
            (Open::Proposed { id, .. }, _) => self.unrecorded(id, &"the store has decided nothing"),
        }
    }

    /// Turns a `tools/call` into a permit, or says why not. `schemas` may ask the upstream for what it does not know.
    pub(crate) async fn admit(self: Arc<Self>, message: Message, caller: &Caller, schemas: &Schemas) -> Result<Permit, Denied> {
        let call = match ToolCall::of(&message) {
            Ok(call) => call,
            Err(malformed) => return Err(Denied::Malformed(self.refuse(malformed, caller).await)),
        };
        let policies = self.policies(caller);
        let known = match self.needs_definition(&call.name, &policies) {
            true => schemas.of(Section::Tools, &call.name, &message).await,
            false => schemas.tools.known(Section::Tools, &call.name),
        };
        let (entry, undecided) = self.begin_call(&message, &call, known.as_deref(), &policies, caller);
        drop(call);
        let entered = self.enter(entry).await;
        self.conclude(message, undecided, entered, caller)
    }

    /// The same as far as it goes without waiting for anybody: what is left is to make the entry, and then to
    /// [`Enforcer::conclude`]. `None` where somebody may have to be waited for.
    pub(crate) fn begin(&self, message: &Message, caller: &Caller, schemas: &Schemas) -> Option<(Option<Entry>, Undecided)> {
        let call = ToolCall::of(message).ok()?;
        let policies = self.policies(caller);
        let is_settled = || schemas.tools.is_settled(Section::Tools, Some(&call.name));
        if policies.may_ask(&call.name) || (self.needs_definition(&call.name, &policies) && !is_settled()) {
            return None;
        }
        let known = schemas.tools.known(Section::Tools, &call.name);
        Some(self.begin_call(message, &call, known.as_deref(), &policies, caller))
    }

    /// Whether a call of a tool is judged by its definition.
    fn needs_definition(&self, tool: &str, policies: &Policies) -> bool {
        policies.needs_schema(tool) || policies.may_ask(tool) || policies.needs_class(tool) || self.definitions.are_pinned()
    }

    fn begin_call(
        &self,
        message: &Message,
        call: &ToolCall<'_>,
        known: Option<&ToolFacts>,
        policies: &Policies,
        caller: &Caller,
    ) -> (Option<Entry>, Undecided) {
        let observed = self.observer.get().map(|observer| observer.begin(message, Some(&call.name)));
        let objection = self.objection(known, policies);
        let asks =
            policies.may_ask(&call.name) || objection.as_ref().is_some_and(|objection| objection.treatment == Treatment::Ask);
        let schema = known.filter(|_| policies.needs_schema(&call.name)).and_then(ToolFacts::schema);
        let facts = Facts {
            tool: &call.name,
            arguments: call.arguments,
            schema: schema.map_or(Schema::Unknown, Schema::Known),
            class: known.filter(|_| policies.needs_class(&call.name)).map(|facts| facts.class(&self.definitions)),
            explained: false,
            beside: beside(call),
            detail: self.kept_beside(message),
            unissued: self.is_unissued(message, caller),
            definition: known.filter(|_| asks).map(ToolFacts::canonical),
            objection,
        };
        let Proposal { entry, open } = self.propose(&facts, policies, caller);
        (entry, Undecided { open, observed: observed.map(|observed| (observed, call.name.to_string())) })
    }

    /// What became of a call, by what became of its entry.
    pub(crate) fn conclude(
        self: &Arc<Self>,
        message: Message,
        undecided: Undecided,
        entered: Option<Result<Entered, StoreError>>,
        caller: &Caller,
    ) -> Result<Permit, Denied> {
        let Undecided { open, observed } = undecided;
        let Decided { decision, id, reservation, waiting, record } = self.decided(open, entered);
        let observed =
            self.observer.get().zip(observed).and_then(|(observer, (observed, tool))| {
                observer.decided(observed, Some("tools/call"), Some(&tool), &decision, &id)
            });
        match decision.outcome {
            Outcome::Allow => {
                let mut draft = record.unwrap_or_else(|| self.draft(&id, Phase::Decided, Some("tools/call".into()), caller));
                draft.begin_end();
                let ticket = Ticket::new(self.clone(), draft, reservation, Purpose::of(&message));
                Ok(Permit::new(message, Some(ticket.observed(observed))))
            }
            Outcome::Ask | Outcome::Deny => {
                Err(Denied::ByPolicy { decision: Box::new(decision), id, waiting, message: Box::new(message) })
            }
        }
    }

    /// Records what is refused before it was a call, and gives it back for the answer.
    ///
    /// On the heap, because it is rare: else every future that may come to a refusal had room for one.
    pub(crate) fn refuse<'a>(&'a self, malformed: Malformed, caller: &'a Caller) -> BoxFuture<'a, Malformed> {
        Box::pin(self.record_refused(malformed, caller))
    }

    async fn record_refused(&self, malformed: Malformed, caller: &Caller) -> Malformed {
        let reason = refusal_reason(malformed.code);
        if let Some(observer) = self.observer.get() {
            observer.counted(malformed.method.as_deref(), malformed.tool.as_deref(), Outcome::Deny, reason);
        }
        let id = store::fresh_id().unwrap_or_default();
        let mut draft = self.draft(&id, Phase::Refused, malformed.method.clone().map(Cow::from), caller);
        draft.decide(&Decision::deny(reason, malformed.message.clone()));
        draft.tool = malformed.tool.as_deref().map(Arc::from);
        if let Err(error) = self.store.record(draft).await {
            // It is refused either way; only the trace of it is lost, and that is said here.
            error!(server = %self.server, %error, "a refused message could not be recorded");
            self.missed_record();
        }
        malformed
    }

    /// What a person will be asked, should it come to that.
    fn asked(&self, terms: &ApprovalTerms, facts: &Facts<'_>, policy: &Policies, caller: &Caller) -> Asked {
        let raw = facts.arguments.map_or("{}", |arguments| arguments.raw());
        let created = self.store.clock().now();
        let arguments = if raw.len() <= store::arguments::LONGEST {
            ShownArguments::Whole(raw.to_owned())
        } else {
            let note = self.store.render(ArgumentsMode::Hmac, facts.arguments);
            ShownArguments::TooLong(note.map_or_else(String::new, |note| note.to_string()))
        };
        let approval = Approval {
            id: String::new(),
            state: ApprovalState::Pending,
            server: self.server.to_string(),
            grant: caller.grant.clone(),
            principal: caller.principal.clone(),
            tool: facts.tool.to_owned(),
            digest: String::new(),
            policy: policy.revision().to_string(),
            rule: terms.rule.to_string(),
            arguments,
            created,
            expires: created,
            timeout_ms: terms.timeout_ms,
            decided: None,
            decided_by: None,
            quorums: terms.quorums.clone(),
            votes: Vec::new(),
            spent_by: None,
        };
        let waiting = Waiting { approval, wait: Duration::from_millis(terms.wait_ms) };
        Asked { waiting, policy: policy.clone() }
    }

    /// What a call waits for, if it does. Tells people where they do not know yet.
    fn waits(&self, asked: Asked, verdict: &Verdict) -> Option<Waiting> {
        let Verdict::ApprovalPending { id, expires_at, opened } = verdict else { return None };
        let Asked { waiting, policy } = asked;
        let approval = Approval { id: id.clone(), expires: *expires_at, ..waiting.approval };
        if *opened {
            self.approvers().tell(&approval, &policy.webhooks());
        }
        Some(Waiting { approval, ..waiting })
    }

    /// Denies what cannot be recorded. Why is for the operator; the client is told only what it can do.
    fn unrecorded(&self, id: Arc<str>, cause: &dyn fmt::Display) -> Decided {
        error!(server = %self.server, %cause, "a call is denied: it cannot be recorded");
        self.missed_record();
        let message = "The gateway cannot record this call, so it is not made. Try again later, or tell the user.";
        Decided {
            decision: Decision::deny(Reason::StoreUnavailable, message),
            id,
            reservation: Reservation::default(),
            waiting: None,
            record: None,
        }
    }

    /// How a call ended was recorded, or this has prevented it.
    pub(crate) fn ended(&self, error: Option<StoreError>) {
        if let Some(error) = error {
            error!(server = %self.server, %error, "how a call ended could not be recorded");
            self.missed_record();
        }
    }

    /// A record could not be written.
    fn missed_record(&self) {
        if let Some(observer) = self.observer.get() {
            observer.unrecorded();
        }
    }

    /// On the heap: it goes from hand to hand until the call is over.
    fn draft(&self, id: &Arc<str>, phase: Phase, method: Option<Cow<'static, str>>, caller: &Caller) -> Box<Draft> {
        Box::new(Draft {
            server: Some(self.server.clone()),
            method,
            principal: Some(caller.principal.as_str().into()),
            grant: Some(caller.grant.as_str().into()),
            session: caller.session.as_deref().map(Arc::from),
            id: id.clone(),
            phase,
            ..Draft::default()
        })
    }
}

impl fmt::Debug for Enforcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Enforcer({})", self.server)
    }
}

/// A call that was judged, and what is to be entered for it.
struct Proposal {
    entry: Option<Entry>,
    open: Open,
}

impl Proposal {
    /// There is nothing to enter.
    fn nothing(decided: Decided) -> Proposal {
        Proposal { entry: None, open: Open::Decided(Box::new(decided)) }
    }

    fn denial(mut draft: Box<Draft>, decision: Decision) -> Proposal {
        let id = draft.id.clone();
        draft.decide(&decision);
        Proposal { entry: Some(Entry::Record(draft)), open: Open::Denied { decision, id } }
    }
}

/// How far a decision has come without its entry.
enum Open {
    Decided(Box<Decided>),
    /// Whatever becomes of the entry.
    Denied {
        decision: Decision,
        id: Arc<str>,
    },
    /// The store puts the decision into the slot, in its commit.
    Proposed {
        id: Arc<str>,
        decided: Arc<OnceLock<Decision>>,
        asked: Option<Box<Asked>>,
    },
}

/// What a person is asked, should it come to that, and the policy that says who is told.
struct Asked {
    waiting: Waiting,
    policy: Policies,
}

/// A call that was judged and whose entry is being made.
pub(crate) struct Undecided {
    open: Open,
    /// With the name of its tool.
    observed: Option<(Observed, String)>,
}

/// On whose account the call of this draft is charged.
fn subject_of(draft: &Draft) -> Subject {
    let Draft { server, grant, principal, session, .. } = draft;
    let [server, grant, principal] = [server, grant, principal].map(|text| text.clone().unwrap_or_default());
    Subject { server, grant, principal, session: session.clone() }
}

/// A snapshot of one server that treats all alike.
fn sole(server: &str, policies: Policies) -> Snapshot {
    let at = AtServer { edition: None, rules: Rules::OfAll(policies) };
    Snapshot::new([(server.to_owned(), at)].into(), Grants::default())
}

/// What is said where a grant was revoked or has expired.
pub(crate) const GRANT_ENDED: &str = "the grant was revoked or has expired";

/// Why nothing more goes on at a server in a caller's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The grant was revoked, has expired, or is given otherwise.
    Grant,
    /// The server is gone, or is another by now.
    Server,
}

impl Over {
    /// What is said of it.
    pub fn why(self) -> &'static str {
        match self {
            Over::Grant => GRANT_ENDED,
            Over::Server => "the configuration of this server has changed; connect again",
        }
    }

    /// The denial of whatever would begin.
    pub fn decision(self) -> Decision {
        let reason = match self {
            Over::Grant => Reason::GrantEnded,
            Over::Server => Reason::ServerReplaced,
        };
        Decision::deny(reason, self.why())
    }
}

fn beside(call: &ToolCall<'_>) -> String {
    let parts = [("task", call.task), ("requestState", call.request_state), ("inputResponses", call.input_responses)];
    parts.iter().filter_map(|(name, value)| Some(format!("{name}:{}\n", value.as_ref()?.raw()))).collect()
}

fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is kept in the record, and what was found out about the definition.
fn with_objection(detail: Option<String>, objection: Option<&Objection>) -> Option<String> {
    let found = objection.filter(|found| found.treatment != Treatment::Allow).map(|found| format!("definition: {}", found.why));
    let parts: Vec<String> = detail.into_iter().chain(found).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// An approval is for these very bytes, and for all of them that the server goes by.
fn approval_request(terms: &ApprovalTerms, facts: &Facts<'_>, policy: &Policies) -> ApprovalRequest {
    let raw = facts.arguments.map_or("{}", |arguments| arguments.raw());
    let definition = facts.definition.as_deref().map(digest).unwrap_or_default();
    ApprovalRequest {
        tool: facts.tool.to_owned(),
        digest: digest(&format!("{definition}\n{raw}\n{}", facts.beside)),
        policy: policy.revision().to_string(),
        timeout_ms: terms.timeout_ms,
        quorums: terms.quorums.clone(),
        rule: terms.rule.to_string(),
        arguments: Some(raw.to_owned()),
    }
}

fn approval_of(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Granted { approval, .. } => approval.clone(),
        Verdict::ApprovalPending { id, .. } | Verdict::ApprovalDenied { id } => Some(id.clone()),
        Verdict::Exhausted { .. } | Verdict::Duplicate { .. } | Verdict::ApprovalsFull { .. } => None,
    }
}

/// What the store's verdict makes of a plan.
fn resolve(plan: Plan, verdict: &Verdict) -> Decision {
    match verdict {
        Verdict::Granted { usages, approval: Some(approval) } => plan.approved(approval).granted(usages),
        Verdict::Granted { usages, approval: None } => plan.granted(usages),
        Verdict::Exhausted { index, usage } => plan.exhausted(*index, usage),
        Verdict::Duplicate { first_id, retry_after_ms } => plan.duplicate(first_id, *retry_after_ms),
        Verdict::ApprovalPending { id, .. } => plan.approval_pending(id),
        Verdict::ApprovalDenied { id } => plan.approval_denied(id),
        Verdict::ApprovalsFull { .. } => plan.too_many_approvals(),
    }
}

fn refusal_reason(code: i64) -> Reason {
    if code == mcp::reply::METHOD_NOT_FOUND { Reason::MethodRefused } else { Reason::Malformed }
}

/// Why a call got no permit.
#[derive(Debug)]
pub(crate) enum Denied {
    /// It was no call; to be answered with a JSON-RPC error.
    Malformed(Malformed),
    /// The policy, or doubt, denies it or asks for approval.
    ByPolicy {
        decision: Box<Decision>,
        id: Arc<str>,
        /// What it waits for, where a person must approve it.
        waiting: Option<Box<Waiting>>,
        /// The call itself, which may be judged again.
        message: Box<Message>,
    },
}
