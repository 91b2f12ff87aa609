//! Whether a server answers, as its operator is told: once when it stops, now and then while it does not, once when it is back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How often it is said that a server still does not answer.
const AGAIN: Duration = Duration::from_secs(60);

/// Whether one server answers.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Read for every answer: nothing is locked while all is well.
    is_down: AtomicBool,
    outage: Mutex<Option<Outage>>,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    said: Instant,
    requests: u64,
}

impl Reach {
    /// Takes note that a request got no answer, and says so at the first and then once a minute.
    pub fn fails(&self, host: &str, why: &str, help: Option<&str>) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        self.is_down.store(true, Ordering::Relaxed);
        let Some(known) = &mut *outage else {
            *outage = Some(Outage { since: now, said: now, requests: 1 });
            return warn!(host, why, help, "the server does not answer");
        };
        known.requests += 1;
        if now.duration_since(known.said) >= AGAIN {
            known.said = now;
            warn!(host, why, help, requests = known.requests, "the server still does not answer");
        }
    }

    /// Takes note of an answer, whatever it says.
    pub fn answers(&self, host: &str) {
        if !self.is_down.load(Ordering::Relaxed) {
            return;
        }
        let outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.is_down.store(false, Ordering::Relaxed);
        if let Some(Outage { since, requests, .. }) = outage {
            info!(host, seconds = since.elapsed().as_secs(), requests, "the server answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_an_outage() {
        let reach = Reach::default();
        assert!(!reach.is_down.load(Ordering::Relaxed));
        reach.fails("h", "no", None);
        reach.fails("h", "no", None);
        assert!(reach.is_down.load(Ordering::Relaxed));
        reach.answers("h");
        assert!(!reach.is_down.load(Ordering::Relaxed));
    }
}
