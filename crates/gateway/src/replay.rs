//! Recorded calls, decided again under other policies.
//!
//! The records are lived through once more, in their order: each call is judged on the clock of its record by an enforcer with
//! counters of its own, what was never sent is given back when it ended, and people answer when they did. So the same policies
//! decide as they did, and others show what they would have done. What the records do not say is told, and not guessed.

mod candidate;

pub use candidate::Candidate;

use crate::enforcer::Decided;
use crate::methods::explain_method;
use crate::recorded::{Event, Kept, Recorded, RecordedCall, Was, is_redacted};
use crate::simulate::{SimulatedCall, Simulation};
use candidate::Holding;
use jiff::Timestamp;
use json::{Document, Strictness};
use policy::{Decision, Outcome, Policies, Reason, RiskClass, Tools};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use store::{Reply, Reservation, Row, StoreError};

/// A candidate before calls that were recorded.
pub struct Replay {
    candidate: Candidate,
    simulation: Simulation,
    /// The processes that are known to keep arguments.
    keeping: HashSet<String>,
    /// From when on decisions are compared; what comes before it is counted.
    since: i64,
    /// Of which server and with which grant; of all, where they are not named.
    only: (Option<String>, Option<String>),
    /// What calls have taken that have not ended, by the id of the recorded decision.
    open: HashMap<String, (Arc<str>, Reservation)>,
    /// The approvals that were opened here, by the recorded ids of those that were opened for the same calls.
    asked: HashMap<String, String>,
    tally: Tally,
}

/// What became of a record.
#[derive(Clone, Debug)]
pub enum Replayed {
    /// The decision is the one that was recorded.
    Same {
        /// Whether it allows.
        allowed: bool,
    },
    /// It is another one.
    Different(Box<Difference>),
    /// It cannot be known.
    Unknown(Box<Unknown>),
    /// There is nothing to compare: it lies before the time from which on that is done, no policy has decided it, or it is no
    /// decision.
    Passed,
}

/// A decision that would have been another one.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Which one.
    pub which: Which,
    /// What was decided.
    pub was: Was,
    /// What would have been decided.
    pub now: Decision,
}

/// A decision that cannot be made again.
#[derive(Clone, Debug)]
pub struct Unknown {
    /// Which one.
    pub which: Which,
    /// What was decided.
    pub was: Was,
    /// What is missing, as a sentence without a full stop.
    pub why: &'static str,
}

/// Names a recorded decision.
#[derive(Clone, Debug)]
pub struct Which {
    /// The number of its record.
    pub seq: i64,
    /// Its id.
    pub id: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub at: i64,
    /// The server.
    pub server: String,
    /// Whose call it was.
    pub principal: String,
    /// With which grant.
    pub grant: String,
    /// The method.
    pub method: String,
    /// The tool, of a call.
    pub tool: Option<String>,
}

/// How many records became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Decisions that were made again.
    pub decided: u64,
    /// Those that would have been other ones.
    pub different: u64,
    /// Those of them that were allowed, and would not be.
    pub stricter: u64,
    /// Those of them that were not allowed, and would be.
    pub looser: u64,
    /// Decisions that could not be made again.
    pub unknown: u64,
    /// Decisions that no policy has made, such as those about definitions.
    pub beyond: u64,
    /// Calls of tools whose definitions are not known, where that matters: they counted as every class of risk.
    pub unclassed: u64,
    /// Calls whose arguments were not held to their schemas, though a rule asks for it: the schemas are not known.
    pub unvalidated: u64,
    /// Records that cannot be read.
    pub spoilt: u64,
}

impl Replay {
    /// A replay under `candidate` that compares what was decided at or after `since` (milliseconds since the Unix epoch).
    ///
    /// `keeping` names the processes that keep arguments ([`Replay::keeping`]); `tools` are those of servers (graded), by their
    /// names, and `any` those of all others.
    ///
    /// # Errors
    /// When no store can be opened in memory.
    pub fn new(
        candidate: impl Into<Candidate>,
        tools: HashMap<String, Tools>,
        any: Option<Tools>,
        keeping: HashSet<String>,
        since: i64,
    ) -> Result<Replay, StoreError> {
        let candidate = candidate.into();
        // Of nobody in particular: what holds for all, or nothing.
        let simulation = Simulation::new(candidate.policies("", ""), any, Timestamp::UNIX_EPOCH)?.with_tools_of(tools);
        let simulation = simulation.under(candidate.current());
        let (only, open, asked, tally) = ((None, None), HashMap::new(), HashMap::new(), Tally::default());
        Ok(Replay { candidate, simulation, keeping, since, only, open, asked, tally })
    }

    /// The same, of which only decisions about calls of this server and with this grant are compared; the others are counted.
    #[must_use]
    pub fn comparing_only(self, server: Option<String>, grant: Option<String>) -> Replay {
        Replay { only: (server, grant), ..self }
    }

    /// What is tried.
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    fn compares(&self, recorded: &Recorded) -> bool {
        let fits = |only: &Option<String>, name: &String| only.as_ref().is_none_or(|only| only == name);
        recorded.at >= self.since && fits(&self.only.0, &recorded.server) && fits(&self.only.1, &recorded.grant)
    }

    /// The process that wrote a record, if the record shows that it keeps arguments.
    pub fn keeping(row: &Row) -> Option<String> {
        Recorded::read(row).filter(Recorded::keeps_arguments).map(|recorded| recorded.instance)
    }

    /// How many records became what, so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Lives through the next record; they come in the order in which they were written.
    pub async fn take(&mut self, row: &Row) -> Replayed {
        let Some(recorded) = Recorded::read(row) else {
            self.tally.spoilt += 1;
            return Replayed::Passed;
        };
        if let Ok(at) = Timestamp::from_millisecond(recorded.at) {
            self.simulation.set(at);
        }
        let replayed = match &recorded.event {
            Event::Call(call) => self.call(&recorded, call).await,
            Event::Method { method, was } => self.method(&recorded, method, was),
            Event::Ended(reply) => {
                // Dropped, what was taken stays so.
                let taken = self.open.remove(&recorded.id);
                if let Some((id, reservation)) = taken.filter(|_| *reply == Reply::Refused) {
                    self.simulation.give_back(id, reservation).await;
                }
                Replayed::Passed
            }
            Event::Answered(id, answer) => {
                // Another policy may not have asked, or may have stopped asking since.
                if let Some(ours) = self.asked.get(id) {
                    let _ = self.simulation.answer(ours, *answer, &recorded.principal).await;
                }
                Replayed::Passed
            }
            Event::Other { decided } => {
                self.tally.beyond += u64::from(*decided && self.compares(&recorded));
                Replayed::Passed
            }
        };
        if !self.compares(&recorded) {
            return Replayed::Passed;
        }
        self.count(&replayed);
        replayed
    }

    fn count(&mut self, replayed: &Replayed) {
        match replayed {
            Replayed::Same { .. } => self.tally.decided += 1,
            Replayed::Unknown(_) => self.tally.unknown += 1,
            Replayed::Passed => {}
            Replayed::Different(difference) => {
                let allowed = [difference.was.outcome, difference.now.outcome].map(|outcome| outcome == Outcome::Allow);
                self.tally.decided += 1;
                self.tally.different += 1;
                self.tally.stricter += u64::from(allowed == [true, false]);
                self.tally.looser += u64::from(allowed == [false, true]);
            }
        }
    }

    async fn call(&mut self, recorded: &Recorded, call: &RecordedCall) -> Replayed {
        let (server, tool) = (&recorded.server, call.tool.as_str());
        let class = self.simulation.class_of(server, tool);
        let of = || Which::of(recorded, "tools/call", Some(tool));
        let policies = self.candidate.policies(server, &recorded.grant);
        let principal = match self.principal(recorded, of, &call.was) {
            Ok(principal) => principal,
            Err(replayed) => return *replayed,
        };
        if let Some(why) = self.lacks(recorded, call, class, &policies) {
            return Replayed::Unknown(Box::new(Unknown { which: of(), was: call.was.clone(), why }));
        }
        if self.compares(recorded) {
            self.tally.unclassed += u64::from(class.is_none() && policies.needs_class(tool));
            let is_unvalidated = self.simulation.tools_of(server).is_none() && policies.needs_schema(tool);
            self.tally.unvalidated += u64::from(is_unvalidated);
        }
        let arguments = match &call.arguments {
            Kept::Whole(text) | Kept::Digest(text) => Some(text.as_str()),
            Kept::Nothing => None,
        };
        let mut simulated = SimulatedCall::new(tool, arguments);
        simulated.grant.clone_from(&recorded.grant);
        simulated.principal = principal;
        simulated.server.clone_from(server);
        simulated.session.clone_from(&call.session);
        simulated.beside.clone_from(&call.beside);
        let Decided { decision, id, reservation, waiting, .. } = self.simulation.judge(&simulated).await;
        if let (Some(theirs), Some(waiting)) = (&call.approval, waiting) {
            self.asked.insert(theirs.clone(), waiting.approval.id);
        }
        if decision.outcome == Outcome::Allow && call.was.outcome == Outcome::Allow {
            self.open.insert(recorded.id.clone(), (id, reservation));
        }
        compared(of(), &call.was, decision)
    }

    /// Whose a call would be; else what becomes of it without being judged.
    fn principal(&self, recorded: &Recorded, of: impl Fn() -> Which, was: &Was) -> Result<String, Box<Replayed>> {
        match self.candidate.holding(&recorded.grant, &recorded.principal, recorded.at) {
            Holding::Holds(principal) => Ok(principal),
            Holding::Ended(why) => Err(Box::new(compared(of(), was, Decision::deny(Reason::GrantEnded, why)))),
            Holding::Unknown(why) => Err(Box::new(Replayed::Unknown(Box::new(Unknown { which: of(), was: was.clone(), why })))),
        }
    }

    /// What is missing to decide a call again.
    fn lacks(
        &self,
        recorded: &Recorded,
        call: &RecordedCall,
        class: Option<RiskClass>,
        policies: &Policies,
    ) -> Option<&'static str> {
        let tool = call.tool.as_str();
        let looks = || policies.look_at_arguments(tool, class);
        match &call.arguments {
            Kept::Digest(_) => looks().then_some(NOT_KEPT),
            Kept::Nothing => (!self.keeping.contains(&recorded.instance) && looks()).then_some(NOT_KEPT),
            Kept::Whole(text) => {
                let document = Document::parse(text.clone(), Strictness::Reply).ok()?;
                let looked_at = policies.looked_at(tool, class, document.root());
                looked_at.into_iter().any(is_redacted).then_some(REDACTED)
            }
        }
    }

    fn method(&self, recorded: &Recorded, method: &str, was: &Was) -> Replayed {
        let of = || Which::of(recorded, method, None);
        if let Err(replayed) = self.principal(recorded, of, was) {
            return *replayed;
        }
        let policies = self.candidate.policies(&recorded.server, &recorded.grant);
        let judged = |mode| explain_method(&policies, method, mode);
        let now = judged(None);
        // Which of the two it was is not on record.
        if ["form", "url"].into_iter().any(|mode| judged(Some(mode)).outcome != now.outcome) {
            return Replayed::Unknown(Box::new(Unknown { which: of(), was: was.clone(), why: NO_MODE }));
        }
        compared(of(), was, now)
    }
}

impl Which {
    fn of(recorded: &Recorded, method: &str, tool: Option<&str>) -> Which {
        Which {
            seq: recorded.seq,
            id: recorded.id.clone(),
            at: recorded.at,
            server: recorded.server.clone(),
            principal: recorded.principal.clone(),
            grant: recorded.grant.clone(),
            method: method.to_owned(),
            tool: tool.map(str::to_owned),
        }
    }
}

/// Two decisions are the same where the outcome and the reason are: rules are renamed more often than they are changed.
fn compared(which: Which, was: &Was, now: Decision) -> Replayed {
    if (was.outcome, was.reason) == (now.outcome, now.reason) {
        return Replayed::Same { allowed: now.outcome == Outcome::Allow };
    }
    Replayed::Different(Box::new(Difference { which, was: was.clone(), now }))
}

const NOT_KEPT: &str = "its arguments were not kept (`--audit-args full` or `redacted` keeps them)";
const REDACTED: &str = "a rule looks at an argument of which only a digest was kept";
const NO_MODE: &str = "the policy tells forms from URLs, and the record does not say which it was";

#[cfg(test)]
mod tests;
