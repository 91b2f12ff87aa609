//! Signals that ask us to end.

use std::io;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Told of every SIGHUP: whoever runs a service means by it that its configuration be read again.
pub fn on_hangup() -> io::Result<Arc<Notify>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let told = Arc::new(Notify::new());
    let notify = told.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            notify.notify_one();
        }
    });
    Ok(told)
}

/// The same as [`stop_token`] for whom SIGHUP means something else.
pub fn stop_token_but_hangup() -> io::Result<CancellationToken> {
    stop_on(&[SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit()])
}

/// A token that is cancelled by the first SIGTERM, SIGINT, SIGHUP or SIGQUIT; the second ends the process at once, and
/// kills its children.
///
/// SIGHUP is among them because the child must not outlive a terminal that was closed.
pub fn stop_token() -> io::Result<CancellationToken> {
    stop_on(&[SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()])
}

fn stop_on(kinds: &[SignalKind]) -> io::Result<CancellationToken> {
    let signals = kinds.iter().map(|kind| signal(*kind)).collect::<io::Result<Vec<_>>>()?;
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
