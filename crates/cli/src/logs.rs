//! Logs: to stderr, as much as `CALLGATE_LOG` asks for.

use crate::terminal::tell;
use gateway::config::LogLevel;
use tracing_subscriber::EnvFilter;

/// Starts logging. `CALLGATE_LOG` is `error`, `warn`, `info` (the default), `debug`, `trace` or `off`, or directives such as
/// `gateway=debug`.
pub fn start() {
    start_at(None);
}

/// The same, with another level than `info` where the environment names none.
pub fn start_at(level: Option<LogLevel>) {
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
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
}
