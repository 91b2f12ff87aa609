//! What becomes of requests, as it is seen from outside: counted, timed and traced.
//!
//! Fed where the [`Enforcer`](crate::Enforcer) decides and where calls end. Nothing of it holds arguments, results, tokens or
//! what clients are told. Where it is not configured there is none of it: an enforcer that nobody observes looks at one
//! pointer for every call.
//!
//! This module tells nobody anything; that is for [`telemetry`](crate::telemetry).

pub(crate) mod meters;
pub(crate) mod trace;

use mcp::Message;
use meters::ServerMeters;
use policy::{Decision, Outcome, Reason};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use store::Reply;
use tokio::sync::mpsc;
use trace::{Live, Span};

/// Everything that is observed of this process.
pub struct Observatory {
    servers: Mutex<Vec<Arc<ServerMeters>>>,
    spans: Option<mpsc::Sender<Span>>,
    /// Spans that nobody was told of.
    dropped: AtomicU64,
    begun_ns: u64,
}

impl Observatory {
    /// Counts; and where `spans` are wanted, gives them there. One that there is no room for is dropped and counted: calls do
    /// not wait for a collector.
    pub(crate) fn new(spans: Option<mpsc::Sender<Span>>) -> Arc<Observatory> {
        let (servers, dropped) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Observatory { servers, spans, dropped, begun_ns: trace::now_ns() })
    }

    /// Observes the server called `name`.
    pub(crate) fn of_server(self: &Arc<Observatory>, name: &str) -> Observer {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = servers.iter().find(|server| server.server == name).cloned();
        let meters = known.unwrap_or_else(|| {
            let meters = Arc::new(ServerMeters::new(name));
            servers.push(meters.clone());
            meters
        });
        Observer { observatory: self.clone(), meters }
    }

    /// What was counted, server by server.
    pub(crate) fn servers(&self) -> Vec<Arc<ServerMeters>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many spans nobody was told of.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// So many spans are lost.
    pub(crate) fn drop_spans(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// When it began, in nanoseconds since the Unix epoch.
    pub(crate) fn begun_ns(&self) -> u64 {
        self.begun_ns
    }
}

/// Takes note of what becomes of one server's requests.
pub(crate) struct Observer {
    observatory: Arc<Observatory>,
    meters: Arc<ServerMeters>,
}

/// A request that is observed.
pub(crate) struct Observed {
    begun: Instant,
    span: Option<Box<Live>>,
}

impl Observed {
    /// What stands for the client's `traceparent` towards the server.
    pub fn traceparent(&self) -> Option<String> {
        self.span.as_ref()?.traceparent()
    }
}

impl Observer {
    /// A request has come in.
    pub fn begin(&self, message: &Message, tool: Option<&str>) -> Observed {
        let span = self.observatory.spans.as_ref().and_then(|_| Live::begin(message, &self.meters.server, tool));
        Observed { begun: Instant::now(), span: span.map(Box::new) }
    }

    /// A request that was observed from its beginning was decided. It is over unless it was allowed.
    pub fn decided(
        &self,
        mut observed: Observed,
        method: Option<&str>,
        tool: Option<&str>,
        decision: &Decision,
        id: &str,
    ) -> Option<Observed> {
        self.counted(method, tool, decision.outcome, decision.reason);
        if method == Some("tools/call") {
            self.meters.decisions.record(observed.begun.elapsed());
        }
        if let Some(span) = &mut observed.span {
            span.note("callgate.decision.id", id);
            span.note("callgate.outcome", decision.outcome.as_str());
            span.note("callgate.reason", decision.reason.as_str());
            if let Some(rule) = decision.rule.as_deref() {
                span.note("callgate.rule", rule);
            }
        }
        if decision.outcome == Outcome::Allow {
            return Some(observed);
        }
        self.give(observed.span, None);
        None
    }

    /// Something was decided that is not observed any further.
    pub fn counted(&self, method: Option<&str>, tool: Option<&str>, outcome: Outcome, reason: Reason) {
        self.meters.row(method, tool).decided(outcome, reason);
    }

    /// What was let through is over.
    pub fn ended(&self, observed: Option<Observed>, method: Option<&str>, tool: Option<&str>, reply: Reply, took: Duration) {
        self.meters.row(method, tool).ended(reply, took);
        let Some(mut span) = observed.and_then(|observed| observed.span) else { return };
        span.note("callgate.reply", reply.as_str());
        let error = match reply {
            Reply::Completed | Reply::InputRequired => None,
            reply => Some(reply.as_str()),
        };
        self.give(Some(span), error);
    }

    /// A record could not be written.
    pub fn unrecorded(&self) {
        self.meters.unrecorded.fetch_add(1, Ordering::Relaxed);
    }

    fn give(&self, span: Option<Box<Live>>, error: Option<&'static str>) {
        let (Some(span), Some(spans)) = (span, &self.observatory.spans) else { return };
        if spans.try_send(span.end(error)).is_err() {
            self.observatory.drop_spans(1);
        }
    }
}
