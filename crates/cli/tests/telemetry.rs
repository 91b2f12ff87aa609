//! What a gateway tells the outside: figures, health, traces, logs, and its records elsewhere.
//!
//! The collector is one of ours; what it is sent is read by OpenTelemetry's own types.

#![allow(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

#[path = "../../store/tests/support/servers.rs"]
mod servers;

mod support;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};
use servers::Postgres;
use std::net::TcpListener;
use support::http::{Client, exchange};
use support::receiver::Receiver;
use support::{LEGACY, MODERN, PATIENCE, Scratch, Served, audit, ended, is_denied, lenient, run, tools_run, until};

const POLICY: &str = "version: \"1\"\ndefault: allow\nhide: [read_file]\n";
const TOKEN: &str = "canary-token-0123456789";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// A collector that takes everything.
struct Collector(Receiver);

impl Collector {
    fn start() -> Collector {
        Collector(Receiver::start())
    }

    fn spans(&self) -> Vec<Span> {
        let read = |body: Vec<u8>| serde_json::from_slice::<ExportTraceServiceRequest>(&body).expect("OTLP");
        let requests = self.0.bodies("/v1/traces").into_iter().map(read);
        requests.flat_map(|request| request.resource_spans).flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect()
    }

    /// The lines of the audit log.
    fn lines(&self) -> Vec<Value> {
        let read = |body: Vec<u8>| serde_json::from_slice::<ExportLogsServiceRequest>(&body).expect("OTLP");
        let requests = self.0.bodies("/v1/logs").into_iter().map(read);
        let records =
            requests.flat_map(|request| request.resource_logs).flat_map(|of| of.scope_logs).flat_map(|of| of.log_records);
        let text = |record: opentelemetry_proto::tonic::logs::v1::LogRecord| match record.body.and_then(|body| body.value) {
            Some(any_value::Value::StringValue(text)) => serde_json::from_str(&text).expect("a line"),
            other => panic!("{other:?}"),
        };
        records.map(text).collect()
    }
}

/// A gateway before one child, that tells what it is asked to.
fn gateway(scratch: &Scratch, sections: &str) -> Served {
    gateway_on(scratch, &scratch.state(), sections)
}

/// The same with its state elsewhere.
fn gateway_on(scratch: &Scratch, state: &str, sections: &str) -> Served {
    scratch.policy(POLICY);
    let child = serde_json::to_string(&lenient(&scratch.log(), &["--stdio"])).unwrap();
    let config = format!(
        "listen: 127.0.0.1:0\nstate: env:STATE\nservers:\n  lab: {{command: {child}, policy: policy.yaml, pin: 'off'}}\ngrants:\n  \
         - {{name: ada, principal: 'person:ada', token: 'env:ADA', servers: [lab]}}\n{sections}"
    );
    let home = scratch.path("home").display().to_string();
    let variables = [("ADA", TOKEN), ("STATE", state), ("XDG_DATA_HOME", &home)];
    Served::configured(&scratch.write("callgate.yaml", config), &variables)
}

fn client(gate: &Served, revision: &str) -> Client {
    let client = Client::silent(&gate.address, revision).at("/mcp/lab", TOKEN);
    if revision == MODERN {
        return client;
    }
    let params = json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let session = client.ask("\"i\"", "initialize", params).header("mcp-session-id").map(str::to_owned);
    Client { session, ..client }
}

fn metrics_address(gate: &Served) -> String {
    let found = until(PATIENCE, || {
        let text = gate.stderr.lock().unwrap().clone();
        Some(text.split_once("callgate metrics at http://")?.1.split_once("/metrics")?.0.to_owned())
    });
    found.expect("it says where")
}

fn get(address: &str, path: &str, more: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{more}\r\n");
    let reply = exchange(address, request.as_bytes()).expect("an answer");
    (reply.status, String::from_utf8_lossy(&reply.body).into_owned())
}

fn attribute<'a>(all: &'a [KeyValue], key: &str) -> &'a str {
    let found = all.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_ref()?.value.as_ref());
    match found {
        Some(any_value::Value::StringValue(text)) => text,
        _ => "",
    }
}

/// Waits for a line among the figures.
#[track_caller]
fn assert_told(address: &str, line: &str) {
    let found = until(PATIENCE, || get(address, "/metrics", "").1.lines().any(|told| told == line).then_some(()));
    assert!(found.is_some(), "{line} is not in\n{}", get(address, "/metrics", "").1);
}

#[test]
fn calls_are_counted_by_server_tool_outcome_and_reason() {
    let scratch = Scratch::new();
    let gate = gateway(&scratch, "telemetry: {metrics: '127.0.0.1:0'}\n");
    let address = metrics_address(&gate);
    let client = client(&gate, LEGACY);
    client.call("1", "echo", json!({"a": 1}));
    client.call("2", "echo", json!({"a": 2}));
    assert!(is_denied(&client.call("3", "read_file", json!({}))));
    client.ask("4", "prompts/get", json!({"name": "p"}));
    client.ask("5", "no/such/method", json!({}));
    let told = |line: &str| assert_told(&address, line);
    told(r#"callgate_calls_total{server="lab",tool="echo",outcome="allow",reason="allowed"} 2"#);
    told(r#"callgate_calls_total{server="lab",tool="read_file",outcome="deny",reason="hidden"} 1"#);
    told(r#"callgate_replies_total{server="lab",tool="echo",reply="completed"} 2"#);
    told(r#"callgate_call_duration_seconds_count{server="lab",tool="echo"} 2"#);
    told(r#"callgate_call_duration_seconds_bucket{server="lab",tool="echo",le="+Inf"} 2"#);
    told(r#"callgate_decision_duration_seconds_count{server="lab"} 3"#);
    told(r#"callgate_requests_total{server="lab",method="prompts/get",outcome="allow",reason="allowed"} 1"#);
    told("callgate_store_up 1");
    told("callgate_ready 1");
    // Each series once, each name with its type, and nothing else.
    let (status, text) = get(&address, "/metrics", "");
    assert_eq!(status, 200);
    let series: Vec<&str> =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0).collect();
    let once: std::collections::BTreeSet<_> = series.iter().collect();
    assert_eq!(once.len(), series.len(), "{text}");
    for name in series {
        let name = name.split('{').next().unwrap();
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let typed = |name: &str| text.contains(&format!("# TYPE {name} "));
        assert!(typed(name) || of_histogram.is_some_and(typed), "{name}");
    }
}

#[test]
fn health_is_told_apart_from_readiness_and_to_no_page() {
    let scratch = Scratch::new();
    let gate = gateway(&scratch, "telemetry: {metrics: '127.0.0.1:0'}\n");
    let address = metrics_address(&gate);
    assert_eq!(get(&address, "/healthz", ""), (200, r#"{"status":"ok"}"#.to_owned()));
    assert_eq!(get(&address, "/readyz", "").0, 200);
    assert_eq!(get(&address, "/metrics", "Origin: http://evil.example\r\n").0, 403);
    assert_eq!(get(&address, "/", "").0, 404);
    assert_eq!(get(&gate.address, "/metrics", "").0, 404, "it is not served where clients are");
    // One call hangs, so that the gateway drains: it lives, and is not ready.
    let client = client(&gate, LEGACY);
    let hanging = std::thread::spawn(move || client.ask("1", "tools/call", json!({"name": "hang", "arguments": {}})));
    until(PATIENCE, || tools_run(&scratch.log()).iter().any(|tool| tool == "hang").then_some(())).expect("the call has arrived");
    gate.signal(rustix::process::Signal::TERM);
    let drains = until(PATIENCE, || (get(&address, "/readyz", "").0 == 503).then_some(()));
    assert!(drains.is_some());
    assert_eq!(get(&address, "/healthz", "").0, 200);
    let _ = hanging.join();
}

#[test]
fn a_state_that_cannot_be_written_is_told_and_so_is_its_return() {
    const METRICS: &str = "telemetry: {metrics: '127.0.0.1:0'}\n";
    // From the start, and in the middle.
    let scratch = Scratch::new();
    let place = scratch.write("state", "in the way");
    let gate = gateway_on(&scratch, &format!("sqlite:{}", place.join("callgate.db").display()), METRICS);
    assert_told_unready(&gate);
    std::fs::remove_file(&place).unwrap();
    assert_told_ready(&gate);
    let Some(server) = Postgres::start() else { return };
    let scratch = Scratch::new();
    let gate = gateway_on(&scratch, &server.url(), METRICS);
    assert_told_ready(&gate);
    server.kill();
    assert_told_unready(&gate);
    server.resume();
    assert_told_ready(&gate);
}

#[track_caller]
fn assert_told_ready(gate: &Served) {
    let address = metrics_address(gate);
    until(PATIENCE, || (get(&address, "/readyz", "").0 == 200).then_some(())).expect("it is ready");
    assert_told(&address, "callgate_store_up 1");
    assert_told(&address, "callgate_ready 1");
    assert!(!is_denied(&client(gate, MODERN).call("1", "echo", json!({}))));
}

#[track_caller]
fn assert_told_unready(gate: &Served) {
    let address = metrics_address(gate);
    until(PATIENCE, || (get(&address, "/readyz", "").0 == 503).then_some(())).expect("it is not ready");
    let (_, said) = get(&address, "/readyz", "");
    assert_eq!(said, r#"{"status":"not ready","store":"cannot be written","stopping":false}"#);
    assert_eq!(get(&address, "/healthz", "").0, 200, "it lives");
    assert_told(&address, "callgate_store_up 0");
    assert_told(&address, "callgate_ready 0");
    assert!(is_denied(&client(gate, MODERN).call("1", "echo", json!({}))));
}

#[test]
fn a_trace_of_the_clients_is_continued_and_passed_on() {
    let scratch = Scratch::new();
    let collector = Collector::start();
    let mut gate = gateway(&scratch, &format!("telemetry: {{otlp: '{}'}}\n", collector.0.url));
    for (revision, tool) in [(LEGACY, "echo"), (MODERN, "echo"), (LEGACY, "read_file")] {
        let client = client(&gate, revision);
        let meta = json!({"traceparent": format!("00-{TRACE}-{SPAN}-01")});
        client.ask("1", "tools/call", json!({"name": tool, "arguments": {}, "_meta": meta}));
    }
    client(&gate, LEGACY).call("2", "echo", json!({}));
    let spans = until(PATIENCE, || {
        let spans: Vec<Span> = collector.spans().into_iter().filter(|span| span.name.starts_with("tools/call")).collect();
        (spans.len() >= 4).then_some(spans)
    });
    let spans = spans.expect("four calls are told of");
    let continued: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    assert_eq!(continued.len(), 3);
    assert!(
        continued.iter().all(|span| hex(&span.parent_span_id) == SPAN && span.end_time_unix_nano >= span.start_time_unix_nano)
    );
    let denied = spans.iter().find(|span| span.name == "tools/call read_file").expect("denials are told of");
    assert_eq!(attribute(&denied.attributes, "callgate.outcome"), "deny");
    assert_eq!(attribute(&denied.attributes, "callgate.reason"), "hidden");
    let own = spans.iter().find(|span| span.parent_span_id.is_empty()).expect("a call without a trace begins one");
    assert_eq!(attribute(&own.attributes, "callgate.reply"), "completed");
    assert_eq!(attribute(&own.attributes, "callgate.server"), "lab");
    // The server is told our span, and the record names the same decision.
    let ours: Vec<String> = continued.iter().map(|span| hex(&span.span_id)).collect();
    let raw = std::fs::read_to_string(scratch.log()).expect("a log");
    let told = ours.iter().filter(|span| raw_holds(&raw, &format!("00-{TRACE}-{span}-01"))).count();
    assert_eq!(told, 2, "both calls that were let through");
    assert!(!raw_holds(&raw, SPAN), "the client's own span is behind ours");
    let id = attribute(&own.attributes, "callgate.decision.id");
    assert!(audit(&scratch.state()).iter().any(|record| record["id"] == id));
    gate.signal(rustix::process::Signal::TERM);
    ended(&mut gate.child, PATIENCE).expect("it ends");
}

/// Whether the stand-in's log, which keeps what it got in base64, holds a text.
fn raw_holds(log: &str, text: &str) -> bool {
    use base64::Engine;
    log.lines().any(|line| {
        let entry: Value = serde_json::from_str(line).unwrap_or_default();
        let bytes = base64::engine::general_purpose::STANDARD.decode(entry["b64"].as_str().unwrap_or_default());
        line.contains(text) || bytes.is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn figures_go_to_the_collector_and_what_is_left_goes_at_the_end() {
    let scratch = Scratch::new();
    let collector = Collector::start();
    let mut gate = gateway(&scratch, &format!("telemetry: {{otlp: '{}'}}\n", collector.0.url));
    client(&gate, LEGACY).call("1", "echo", json!({}));
    gate.signal(rustix::process::Signal::TERM);
    ended(&mut gate.child, PATIENCE).expect("it ends");
    let bodies = collector.0.bodies("/v1/metrics");
    let last: ExportMetricsServiceRequest = serde_json::from_slice(bodies.last().expect("figures")).expect("OTLP");
    let resource = last.resource_metrics[0].resource.clone().expect("a resource");
    assert_eq!(attribute(&resource.attributes, "service.name"), "callgate");
    let metrics = &last.resource_metrics[0].scope_metrics[0].metrics;
    let calls = metrics.iter().find(|metric| metric.name == "callgate.calls").expect("calls");
    let Some(metric::Data::Sum(sum)) = &calls.data else { panic!("{calls:?}") };
    let echo = sum.data_points.iter().find(|point| attribute(&point.attributes, "gen_ai.tool.name") == "echo").expect("echo");
    assert_eq!(attribute(&echo.attributes, "callgate.reason"), "allowed");
    let durations = metrics.iter().find(|metric| metric.name == "callgate.call.duration").expect("durations");
    let Some(metric::Data::Histogram(durations)) = &durations.data else { panic!("{durations:?}") };
    assert_eq!(durations.data_points[0].count, 1);
    assert_eq!(durations.data_points[0].bucket_counts.len(), durations.data_points[0].explicit_bounds.len() + 1);
    assert!(collector.spans().iter().any(|span| span.name == "tools/call echo"), "what was waiting was told");
}

#[test]
fn records_go_to_files_that_take_turns_and_to_a_collector() {
    let scratch = Scratch::new();
    let collector = Collector::start();
    let export = format!("audit:\n  export: {{file: out.jsonl, rotate_bytes: 4096, keep: 50, otlp: '{}'}}\n", collector.0.url);
    let lines = |scratch: &Scratch| {
        let mut files: Vec<_> = std::fs::read_dir(scratch.path("")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("out.jsonl"));
        let mut all: Vec<Value> = Vec::new();
        for path in &files {
            let text = std::fs::read_to_string(path).unwrap();
            all.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
        all.sort_by_key(|line| line["seq"].as_i64());
        (files.len(), all)
    };
    for round in 0..2 {
        let mut gate = gateway(&scratch, &export);
        let client = client(&gate, LEGACY);
        for number in 0..10 {
            client.call(&number.to_string(), "echo", json!({"round": round}));
        }
        gate.signal(rustix::process::Signal::TERM);
        ended(&mut gate.child, PATIENCE).expect("it ends");
        let (_, exported) = lines(&scratch);
        let kept = audit(&scratch.state());
        assert_eq!(exported, kept[..exported.len()], "in the words of the audit log, each once");
        assert!(exported.len() >= 20 * (round + 1), "{} of {}", exported.len(), kept.len());
    }
    assert!(lines(&scratch).0 > 1, "one file has become several");
    let told = collector.lines();
    let kept = audit(&scratch.state());
    assert!(told.len() >= 20 && told.iter().all(|line| kept.contains(line)), "{} of {}", told.len(), kept.len());
    let ran = run(&["audit", "verify", "--state", &scratch.state()], "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn an_export_that_fails_is_told_and_loses_nothing() {
    let scratch = Scratch::new();
    // Where the file should be is a directory.
    std::fs::create_dir(scratch.path("out.jsonl")).unwrap();
    let gate = gateway(&scratch, "telemetry: {metrics: '127.0.0.1:0'}\naudit: {export: {file: out.jsonl}}\n");
    let address = metrics_address(&gate);
    assert_told(&address, "callgate_audit_export_up 0");
    assert_eq!(get(&address, "/readyz", "").0, 200, "calls go on: their records are safe");
    assert!(!is_denied(&client(&gate, MODERN).call("1", "echo", json!({}))));
    std::fs::remove_dir(scratch.path("out.jsonl")).unwrap();
    assert_told(&address, "callgate_audit_export_up 1");
    let kept = audit(&scratch.state());
    let exported = || {
        let text = std::fs::read_to_string(scratch.path("out.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    until(PATIENCE, || (exported() == kept).then_some(())).expect("what was recorded meanwhile is exported");
}

#[test]
fn a_collector_that_is_gone_holds_nobody_up() {
    let scratch = Scratch::new();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sections = format!("telemetry: {{otlp: 'http://{gone}'}}\naudit: {{export: {{otlp: 'http://{gone}'}}}}\n");
    let mut gate = gateway(&scratch, &sections);
    let client = client(&gate, LEGACY);
    let begun = std::time::Instant::now();
    for number in 0..20 {
        assert!(client.call(&number.to_string(), "echo", json!({}))["result"].is_object());
    }
    assert!(begun.elapsed() < PATIENCE);
    gate.signal(rustix::process::Signal::TERM);
    assert_eq!(ended(&mut gate.child, PATIENCE).expect("it ends").code(), Some(0));
}

#[test]
fn nothing_that_is_told_holds_a_secret() {
    let scratch = Scratch::new();
    let collector = Collector::start();
    let url = &collector.0.url;
    let sections = format!(
        "telemetry: {{metrics: '127.0.0.1:0', otlp: '{url}', log: debug}}\naudit: {{arguments: hmac, export: {{otlp: '{url}'}}}}\n"
    );
    let mut gate = gateway(&scratch, &sections);
    let address = metrics_address(&gate);
    let mut told = String::new();
    for revision in [LEGACY, MODERN] {
        let client = client(&gate, revision);
        // In an argument, and so in the result; in a denied call; in a state; in what cannot be read.
        client.call("1", "echo", json!({"key": "canary-argument"}));
        client.call("2", "read_file", json!({"path": "/canary-denied"}));
        client.ask("3", "tools/call", json!({"name": "echo", "arguments": {}, "requestState": "canary-state"}));
        client.send(&client.headers("tools/call", Some("echo")), b"{\"jsonrpc\":\"2.0\",\"canary-broken\"");
        told.push_str(&get(&address, "/metrics", "").1);
    }
    let wrong = Client::silent(&gate.address, LEGACY).at("/mcp/lab", "canary-wrong-token");
    assert_eq!(wrong.ask("1", "ping", json!({})).status, 401);
    gate.signal(rustix::process::Signal::TERM);
    ended(&mut gate.child, PATIENCE).expect("it ends");
    for (_, body) in collector.0.posted.lock().unwrap().iter() {
        told.push_str(&String::from_utf8_lossy(body));
    }
    told.push_str(&gate.stderr.lock().unwrap());
    assert!(told.contains("tools/call echo") && told.contains("callgate_calls_total"), "something was told");
    let at = told.find("canary").map(|at| told[at.saturating_sub(200)..].chars().take(400).collect::<String>());
    assert_eq!(at, None);
}

#[test]
fn what_a_service_logs_is_json_where_nobody_watches() {
    let scratch = Scratch::new();
    let mut gate = gateway(&scratch, "telemetry: {log: info}\n");
    gate.signal(rustix::process::Signal::TERM);
    ended(&mut gate.child, PATIENCE).expect("it ends");
    let text = gate.stderr.lock().unwrap().clone();
    let logged: Vec<&str> = text.lines().filter(|line| !line.starts_with("callgate ")).collect();
    assert!(!logged.is_empty(), "{text}");
    for line in logged {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["at"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
}
