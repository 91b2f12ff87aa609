//! The one clock of the store.
//!
//! Counters and records live longer than a process and are shared by several, so time is the wall clock: milliseconds since
//! the Unix epoch, UTC. A wall clock can be set back; what was charged "in the future" then still counts, so that this
//! never frees anything early. A clock set forward is believed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where the store takes its time from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's.
    #[default]
    System,
    /// Milliseconds since the Unix epoch, set by whoever holds the other end: for simulation and tests.
    Simulated(Arc<AtomicI64>),
    /// That of the server which keeps the state: as it was told last, and how long ago that was.
    Server(Arc<ServerClock>),
}

/// A server's clock, as this process knows it.
#[derive(Debug)]
pub struct ServerClock {
    begun: Instant,
    /// The server's milliseconds when `begun` was; `i64::MIN` before it has said anything.
    at_begin: AtomicI64,
}

impl ServerClock {
    pub(crate) fn new() -> ServerClock {
        ServerClock { begun: Instant::now(), at_begin: AtomicI64::new(i64::MIN) }
    }

    /// Takes over what the server says.
    pub(crate) fn tell(&self, now: i64) {
        self.at_begin.store(now.saturating_sub(self.elapsed()), Ordering::Relaxed);
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn now(&self) -> Option<i64> {
        let at_begin = self.at_begin.load(Ordering::Relaxed);
        (at_begin != i64::MIN).then(|| at_begin.saturating_add(self.elapsed()))
    }
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
            Clock::Server(clock) => clock.now().unwrap_or_else(|| Clock::System.now()),
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
    let mut text = String::new();
    write_rfc3339(millis, &mut text);
    text
}

/// Appends to `out` what [`rfc3339`] gives.
pub(crate) fn write_rfc3339(millis: i64, out: &mut String) {
    let millis = millis.clamp(-62_167_219_200_000, 253_402_207_200_000);
    let (days, of_day) = (millis.div_euclid(DAY_MS), millis.rem_euclid(DAY_MS));
    // The proleptic Gregorian calendar in eras of 400 years that begin with March, so that a leap day comes last.
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
    let fields = [(year, 3), (month, 6), (day, 9), (hour, 12), (minute, 15), (second, 18), (of_day % 1_000, 22)];
    for (mut number, last) in fields {
        let mut at = last;
        while number > 0 {
            text[at] = b'0' + u8::try_from(number % 10).expect("a digit");
            (number, at) = (number / 10, at.saturating_sub(1));
        }
    }
    out.push_str(std::str::from_utf8(&text).expect("digits are ASCII"));
}

const DAY_MS: i64 = 86_400_000;

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
    fn days_are_those_of_the_calendar() {
        // Every day of the years 0 to 9999, at a time that moves.
        for day in -719_528..2_932_896 {
            let millis = day * DAY_MS + (day * 7_919_333).rem_euclid(DAY_MS);
            if day % 29 == 0 || (day + 719_528) % 1461 < 3 {
                let at = jiff::Timestamp::from_millisecond(millis).unwrap();
                assert_eq!(rfc3339(millis), format!("{at:.3}"));
            }
        }
    }

    #[test]
    fn a_simulated_clock_moves_when_told() {
        let clock = Clock::simulated(1000);
        clock.advance(-5);
        assert_eq!(clock.now(), 995);
    }
}
