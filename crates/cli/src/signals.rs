//! Signals that ask us to end.

use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// A token that is cancelled by the first SIGTERM, SIGINT, SIGHUP or SIGQUIT; the second ends the process at once, and
/// kills its children.
///
/// SIGHUP is among them because the child must not outlive a terminal that was closed.
pub fn stop_token() -> io::Result<CancellationToken> {
    let mut signals = Vec::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()] {
        signals.push(signal(kind)?);
    }
    let stop = CancellationToken::new();
    let token = stop.clone();
    for mut signal in signals {
        let token = token.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                if token.is_cancelled() {
                    // Nothing is dropped on this way out, so nothing else would end them.
                    gateway::kill_children();
                    std::process::exit(1);
                }
                info!("asked to stop");
                token.cancel();
            }
        });
    }
    Ok(stop)
}
