//! The one clock of the store.
//!
//! Counters and records live longer than a process and are shared by several, so time is the wall clock: milliseconds since
//! the Unix epoch, UTC. A wall clock can be set back; what was charged "in the future" then still counts, so that this
//! never frees anything early. A clock set forward is believed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the store takes its time from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's.
    #[default]
    System,
    /// Milliseconds since the Unix epoch, set by whoever holds the other end: for simulation and tests.
    Simulated(Arc<AtomicI64>),
}

impl Clock {
    /// A simulated clock that stands at `millis`.
    pub fn simulated(millis: i64) -> Clock {
        Clock::Simulated(Arc::new(AtomicI64::new(millis)))
    }

    /// Milliseconds since the Unix epoch, UTC.
    pub fn now(&self) -> i64 {
        match self {
            Clock::System => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
                Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
            },
            Clock::Simulated(millis) => millis.load(Ordering::SeqCst),
        }
    }

    /// Moves a simulated clock by so many milliseconds, back where negative; the system's stays as it is.
    pub fn advance(&self, millis: i64) {
        if let Clock::Simulated(now) = self {
            now.fetch_add(millis, Ordering::SeqCst);
        }
    }

    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self, Clock::Simulated(_))
    }
}

/// Writes a time as RFC 3339, UTC, with milliseconds: `2026-01-15T10:30:00.000Z`.
///
/// Years before 0 and after 9999 are written as the nearest that can be.
pub fn rfc3339(millis: i64) -> String {
    let millis = millis.clamp(-62_167_219_200_000, 253_402_207_200_000);
    let at = jiff::Timestamp::from_millisecond(millis).expect("the years 0 to 9999 are timestamps");
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_768_473_000_007), "2026-01-15T10:30:00.007Z");
        assert_eq!(rfc3339(i64::MIN).len(), "0000-01-01T00:00:00.000Z".len());
        assert_eq!(rfc3339(i64::MAX).len(), "9999-12-30T22:00:00.000Z".len());
    }

    #[test]
    fn a_simulated_clock_moves_when_told() {
        let clock = Clock::simulated(1000);
        clock.advance(-5);
        assert_eq!(clock.now(), 995);
    }
}
