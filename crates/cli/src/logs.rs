//! Logs: to stderr, as much as `CALLGATE_LOG` asks for.

use crate::terminal::tell;
use tracing_subscriber::EnvFilter;

/// Starts logging. `CALLGATE_LOG` is `error`, `warn`, `info` (the default), `debug`, `trace` or `off`, or directives such as
/// `gateway=debug`.
pub fn start() {
    let filter = match std::env::var("CALLGATE_LOG") {
        Ok(wanted) => EnvFilter::try_new(&wanted).unwrap_or_else(|_| {
            tell!("warning: CALLGATE_LOG is no level (error, warn, info, debug, trace, off); taking `info`");
            EnvFilter::new(DEFAULT)
        }),
        Err(_) => EnvFilter::new(DEFAULT),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
}

const DEFAULT: &str = "info";
