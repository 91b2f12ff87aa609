//! Logs: to stderr, as much as `CALLGATE_LOG` asks for.

use crate::terminal::tell;
use gateway::config::LogLevel;
use json::quote;
use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Starts logging. `CALLGATE_LOG` is `error`, `warn`, `info` (the default), `debug`, `trace` or `off`, or directives such as
/// `gateway=debug`.
pub fn start() {
    begin(None, false);
}

/// The same for a service, with another level than `info` where the environment names none: what does not go to a terminal is
/// read by machines, and is JSON.
pub fn start_at(level: Option<LogLevel>) {
    begin(level, !std::io::stderr().is_terminal());
}

fn begin(level: Option<LogLevel>, structured: bool) {
    let default = match level {
        None | Some(LogLevel::Info) => "info",
        Some(LogLevel::Error) => "error",
        Some(LogLevel::Warn) => "warn",
        Some(LogLevel::Debug) => "debug",
    };
    let filter = match std::env::var("CALLGATE_LOG") {
        Ok(wanted) => EnvFilter::try_new(&wanted).unwrap_or_else(|_| {
            tell!("warning: CALLGATE_LOG is no level (error, warn, info, debug, trace, off); taking `{default}`");
            EnvFilter::new(default)
        }),
        Err(_) => EnvFilter::new(default),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .log_internal_errors(false);
    if structured { lines.event_format(JsonLines).init() } else { lines.init() }
}

/// One JSON object for each event: `at`, `level`, `target`, `message`, and the event's own fields.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let at = jiff::Timestamp::now();
        write!(writer, r#"{{"at":"{at:.3}","level":"{level}","target":{}"#, quote(event.metadata().target()))?;
        let mut members = Members(String::new());
        event.record(&mut members);
        writeln!(writer, "{}}}", members.0)
    }
}

/// The fields of an event, each as a member with a comma before it.
struct Members(String);

impl Members {
    fn add(&mut self, field: &Field, value: &str) {
        // Infallible: it is a String.
        let _ = write!(self.0, ",{}:{value}", quote(field.name()));
    }
}

impl Visit for Members {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &quote(&format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, &quote(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, &value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, if value { "true" } else { "false" });
    }
}
