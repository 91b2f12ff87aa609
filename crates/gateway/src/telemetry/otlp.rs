//! OTLP over HTTP, in its JSON form (OpenTelemetry Protocol 1.x, §OTLP/HTTP and §JSON Protobuf Encoding): spans, figures and
//! the lines of the audit log.
//!
//! A collector that does not answer holds up nobody: what cannot be delivered after a few attempts is dropped, and counted.

use super::prometheus::seconds;
use super::{Telemetry, TelemetryError};
use crate::observe::meters::{BOUNDS_US, Histogram, Row};
use crate::observe::trace::{Span, now_ns, random};
use crate::tls::UpstreamTls;
use crate::upstream::HttpTarget;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use json::quote;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Spans that go together, at most, and how long the first of them waits.
const TOGETHER: usize = 512;
const WAIT: Duration = Duration::from_secs(1);
/// How often figures go.
const FIGURES: Duration = Duration::from_secs(10);
/// How long a collector may take over one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before a delivery is tried again, each time twice as long.
const AGAIN: Duration = Duration::from_millis(500);
const ATTEMPTS: u32 = 3;

/// One collector.
pub(super) struct Exporter {
    traces: HttpTarget,
    metrics: HttpTarget,
    logs: HttpTarget,
    resource: String,
}

impl Exporter {
    /// The collector at `url`, which the key `named` of the configuration names.
    pub fn at(url: &str, named: &'static str) -> Result<Exporter, TelemetryError> {
        let base = url.trim_end_matches('/');
        let target = |path: &str| {
            HttpTarget::new(&format!("{base}{path}"), &[], &UpstreamTls::default(), PATIENCE)
                .map_err(|error| TelemetryError::Collector(named, error))
        };
        let instance = random::<8>().unwrap_or_default();
        let attributes = attributes(&[
            ("service.name", "callgate".to_owned()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", instance),
        ]);
        let resource = format!(r#""resource":{{"attributes":{attributes}}}"#);
        Ok(Exporter { traces: target("/v1/traces")?, metrics: target("/v1/metrics")?, logs: target("/v1/logs")?, resource })
    }

    /// Delivers spans and figures until `stop` is cancelled, and then what is left.
    pub async fn run(self, telemetry: Arc<Telemetry>, mut spans: mpsc::Receiver<Span>, stop: CancellationToken) {
        let mut figures = tokio::time::interval_at(Instant::now() + FIGURES, FIGURES);
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                count = spans.recv_many(&mut waiting, TOGETHER) => {
                    if count == 0 {
                        break;
                    }
                    // More may be about to come.
                    let more = tokio::time::sleep(WAIT);
                    tokio::pin!(more);
                    while waiting.len() < TOGETHER {
                        let room = TOGETHER - waiting.len();
                        tokio::select! {
                            count = spans.recv_many(&mut waiting, room) => if count == 0 { break },
                            () = &mut more => break,
                            () = stop.cancelled() => break,
                        }
                    }
                    self.deliver_spans(&telemetry, &mut waiting).await;
                }
                _ = figures.tick() => self.deliver_figures(&telemetry).await,
                () = stop.cancelled() => break,
            }
        }
        while let Ok(span) = spans.try_recv() {
            waiting.push(span);
        }
        self.deliver_spans(&telemetry, &mut waiting).await;
        self.deliver_figures(&telemetry).await;
    }

    async fn deliver_spans(&self, telemetry: &Telemetry, spans: &mut Vec<Span>) {
        let all: Vec<Span> = std::mem::take(spans);
        if all.is_empty() {
            return;
        }
        let listed: Vec<_> = all.iter().map(span_text).collect();
        let body =
            format!(r#"{{"resourceSpans":[{{{},"scopeSpans":[{{{SCOPE},"spans":[{}]}}]}}]}}"#, self.resource, listed.join(","));
        if !deliver(&self.traces, body).await {
            telemetry.observatory().drop_spans(all.len() as u64);
        }
    }

    async fn deliver_figures(&self, telemetry: &Telemetry) {
        let metrics = figures_text(telemetry);
        let body = format!(r#"{{"resourceMetrics":[{{{},"scopeMetrics":[{{{SCOPE},"metrics":[{metrics}]}}]}}]}}"#, self.resource);
        deliver(&self.metrics, body).await;
    }

    /// Delivers lines of the audit log, each with the time of its record in nanoseconds; says whether that went.
    pub async fn deliver_lines(&self, lines: &[(u64, String)]) -> bool {
        let record = |(at, line): &(u64, String)| {
            format!(
                r#"{{"timeUnixNano":"{at}","observedTimeUnixNano":"{}","severityNumber":9,"severityText":"INFO","eventName":"callgate.audit","body":{{"stringValue":{}}}}}"#,
                now_ns(),
                quote(line)
            )
        };
        let listed: Vec<_> = lines.iter().map(record).collect();
        let body = format!(
            r#"{{"resourceLogs":[{{{},"scopeLogs":[{{{SCOPE},"logRecords":[{}]}}]}}]}}"#,
            self.resource,
            listed.join(",")
        );
        deliver(&self.logs, body).await
    }
}

const SCOPE: &str = concat!(r#""scope":{"name":"callgate","version":""#, env!("CARGO_PKG_VERSION"), "\"}");

/// Posts one document; says whether the collector has taken it. What may pass is tried again (OTLP/HTTP §Failures).
async fn deliver(target: &HttpTarget, body: String) -> bool {
    let body = Bytes::from(body);
    let mut pause = AGAIN;
    for attempt in 1..=ATTEMPTS {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        match target.send(Method::POST, headers, body.clone()).await {
            Ok(response) if response.status().is_success() => {
                // Read to its end, so that the connection can be used again.
                let _ = target.whole(response.into_body()).await;
                return true;
            }
            Ok(response) => {
                let status = response.status();
                let passes = matches!(
                    status,
                    StatusCode::TOO_MANY_REQUESTS
                        | StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                );
                debug!(%status, "the collector has not taken what it was sent");
                if !passes {
                    return false;
                }
            }
            Err(failure) => debug!(why = failure.message, "the collector does not answer"),
        }
        if attempt < ATTEMPTS {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
    false
}

fn attributes(all: &[(&'static str, String)]) -> String {
    let one = |(key, value): &(&'static str, String)| format!(r#"{{"key":"{key}","value":{{"stringValue":{}}}}}"#, quote(value));
    format!("[{}]", all.iter().map(one).collect::<Vec<_>>().join(","))
}

fn span_text(span: &Span) -> String {
    let parent = span.parent.as_ref().map(|parent| format!(r#","parentSpanId":"{parent}""#)).unwrap_or_default();
    // 2: an error; else nothing is said.
    let status = span.error.map(|error| format!(r#","status":{{"code":2,"message":"{error}"}}"#)).unwrap_or_default();
    format!(
        r#"{{"traceId":"{}","spanId":"{}"{parent},"name":{},"kind":2,"startTimeUnixNano":"{}","endTimeUnixNano":"{}","attributes":{}{status}}}"#,
        span.trace,
        span.id,
        quote(&span.name),
        span.begun_ns,
        span.ended_ns,
        attributes(&span.attributes),
    )
}

/// All figures, as metrics.
fn figures_text(telemetry: &Telemetry) -> String {
    let times = format!(r#""startTimeUnixNano":"{}","timeUnixNano":"{}""#, telemetry.observatory().begun_ns(), now_ns());
    let (mut calls, mut replies, mut durations, mut decisions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for server in telemetry.observatory().servers() {
        let of_server = ("callgate.server", server.server.clone());
        for (tool, row) in server.tools.all() {
            let labels = [of_server.clone(), ("gen_ai.tool.name", tool)];
            decided(&mut calls, &times, &labels, &row);
            for (reply, count) in row.replies() {
                replies.push(point(&times, &labels, &[("callgate.reply", reply.as_str())], count));
            }
            durations.extend(distribution(&times, &labels, &row.durations));
        }
        for (method, row) in server.methods.all() {
            decided(&mut calls, &times, &[of_server.clone(), ("mcp.method.name", method)], &row);
        }
        decisions.extend(distribution(&times, &[of_server], &server.decisions));
    }
    let sum = |name: &str, points: &[String]| {
        format!(
            r#"{{"name":"{name}","unit":"1","sum":{{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{}]}}}}"#,
            points.join(",")
        )
    };
    let histogram = |name: &str, points: &[String]| {
        format!(
            r#"{{"name":"{name}","unit":"s","histogram":{{"aggregationTemporality":2,"dataPoints":[{}]}}}}"#,
            points.join(",")
        )
    };
    let store_up = u64::from(telemetry.figures().store_up);
    [
        sum("callgate.calls", &calls),
        sum("callgate.replies", &replies),
        histogram("callgate.call.duration", &durations),
        histogram("callgate.decision.duration", &decisions),
        format!(r#"{{"name":"callgate.store.up","unit":"1","gauge":{{"dataPoints":[{{{times},"asInt":"{store_up}"}}]}}}}"#),
    ]
    .join(",")
}

fn decided(points: &mut Vec<String>, times: &str, labels: &[(&'static str, String)], row: &Row) {
    for (outcome, reason, count) in row.decisions() {
        let more = [("callgate.outcome", outcome.as_str()), ("callgate.reason", reason.as_str())];
        points.push(point(times, labels, &more, count));
    }
}

fn point(times: &str, labels: &[(&'static str, String)], more: &[(&'static str, &str)], count: u64) -> String {
    let mut all = labels.to_vec();
    all.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
    format!(r#"{{"attributes":{},{times},"asInt":"{count}"}}"#, attributes(&all))
}

fn distribution(times: &str, labels: &[(&'static str, String)], histogram: &Histogram) -> Option<String> {
    let (buckets, sum_us) = histogram.read();
    let count: u64 = buckets.iter().sum();
    if count == 0 {
        return None;
    }
    let (mut counts, mut bounds) = (String::new(), String::new());
    for (at, bucket) in buckets.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(counts, "{comma}\"{bucket}\"");
    }
    for (at, bound) in BOUNDS_US.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(bounds, "{comma}{}", seconds(*bound));
    }
    Some(format!(
        r#"{{"attributes":{},{times},"count":"{count}","sum":{},"bucketCounts":[{counts}],"explicitBounds":[{bounds}]}}"#,
        attributes(labels),
        seconds(sum_us)
    ))
}
