//! Windows.
//!
//! A counter is kept in buckets, each addressed by its start; nothing is ever reset. A *sliding* window has buckets of one
//! sixtieth of its length, and a bucket that is partly expired counts in full: so no span of the window's length ever holds
//! more than the bound, at the price of waiting up to a sixtieth longer. A *calendar* window has one bucket per span.
//! Buckets that begin in the future (a clock set back, another machine's clock) always count.
//!
//! Times are milliseconds since the Unix epoch, UTC. Whose clock they come from is the caller's business.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use std::fmt;
use std::hash::{Hash, Hasher};

/// The span over which a counter counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// The last so many milliseconds, at any time.
    Sliding {
        /// At least 1.
        millis: u64,
    },
    /// From one boundary of the calendar to the next.
    Calendar {
        /// Which boundaries.
        unit: CalendarUnit,
        /// Where the calendar hangs.
        zone: Zone,
    },
}

/// A unit of the calendar. Weeks begin on Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CalendarUnit {
    /// `minute`
    Minute,
    /// `hour`
    Hour,
    /// `day`
    Day,
    /// `week`
    Week,
    /// `month`
    Month,
}

/// `align:` whether a window slides or follows the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// `sliding`
    Sliding,
    /// `calendar`
    Calendar,
}

impl Window {
    /// Reads `minute` and `hour` (sliding), `day`, `week` and `month` (calendar, UTC), or `10s`, `15m`, `2h`, `3d` (sliding;
    /// from one second to 400 days).
    pub fn parse(text: &str) -> Option<Window> {
        let calendar = |unit| Some(Window::Calendar { unit, zone: Zone::utc() });
        match text {
            "minute" => Some(Window::Sliding { millis: MINUTE }),
            "hour" => Some(Window::Sliding { millis: HOUR }),
            "day" => calendar(CalendarUnit::Day),
            "week" => calendar(CalendarUnit::Week),
            "month" => calendar(CalendarUnit::Month),
            _ => span_millis(text).map(|millis| Window::Sliding { millis }),
        }
    }

    /// A sliding window of so many seconds, from 1 to 400 days.
    pub fn seconds(seconds: u64) -> Option<Window> {
        let millis = seconds.checked_mul(1000)?;
        (1..=LONGEST).contains(&millis).then_some(Window::Sliding { millis })
    }

    /// The same window with another alignment. `zone` is UTC when not given.
    ///
    /// `None` where the calendar has no such span (`15m`). A sliding month is 31 days, the longest one, so that it never
    /// admits more than the calendar would.
    pub fn aligned(self, align: Align, zone: Option<Zone>) -> Option<Window> {
        let unit = match &self {
            Window::Calendar { unit, .. } => Some(*unit),
            Window::Sliding { millis: MINUTE } => Some(CalendarUnit::Minute),
            Window::Sliding { millis: HOUR } => Some(CalendarUnit::Hour),
            Window::Sliding { millis: DAY } => Some(CalendarUnit::Day),
            Window::Sliding { millis } if *millis == 7 * DAY => Some(CalendarUnit::Week),
            Window::Sliding { .. } => None,
        };
        match align {
            Align::Calendar => Some(Window::Calendar { unit: unit?, zone: zone.unwrap_or_else(Zone::utc) }),
            Align::Sliding => match self {
                Window::Sliding { .. } => Some(self),
                Window::Calendar { unit, .. } => Some(Window::Sliding { millis: unit.millis() }),
            },
        }
    }

    /// A text that is equal exactly for equal windows, and stays the same from version to version: a part of counter keys.
    pub fn key(&self) -> String {
        match self {
            Window::Sliding { millis } if millis % 1000 == 0 => format!("{}s", millis / 1000),
            Window::Sliding { millis } => format!("{millis}ms"),
            Window::Calendar { unit, zone } if zone.is_utc() => unit.word().to_owned(),
            Window::Calendar { unit, zone } => format!("{}@{}", unit.word(), zone.name()),
        }
    }

    /// When the bucket that starts at `bucket` ends: from then on amounts lie in the next one.
    pub fn bucket_end(&self, bucket: i64) -> i64 {
        match self {
            Window::Sliding { millis } => self.frees_at(bucket).saturating_sub(signed(*millis)),
            Window::Calendar { .. } => self.frees_at(bucket),
        }
    }

    /// The length in milliseconds; the longest one, where the calendar varies (a day of 25 hours, a month of 31 days).
    pub fn millis(&self) -> u64 {
        match self {
            Window::Sliding { millis } => *millis,
            Window::Calendar { unit: unit @ (CalendarUnit::Minute | CalendarUnit::Hour), .. } => unit.millis(),
            Window::Calendar { unit, zone } if zone.is_utc() => unit.millis(),
            Window::Calendar { unit, .. } => unit.millis() + HOUR,
        }
    }

    /// The longest that anything charged can keep counting: the length and one bucket. Bounds `retryAfterMs`.
    pub fn longest_wait(&self) -> u64 {
        match self {
            Window::Sliding { millis } => millis.saturating_add(grain(*millis)),
            Window::Calendar { .. } => self.millis(),
        }
    }

    /// The start of the bucket in which a charge taken at `now` is kept.
    pub fn bucket(&self, now: i64) -> i64 {
        match self {
            Window::Sliding { millis } => {
                let grain = signed(grain(*millis));
                now.div_euclid(grain).saturating_mul(grain)
            }
            Window::Calendar { unit, zone } => unit.start(now, zone),
        }
    }

    /// Buckets whose start is at or after this still count at `now`.
    pub fn counts_from(&self, now: i64) -> i64 {
        match self {
            // A bucket holds charges of [start, start + grain). The last of them is outside every span that ends at `now`
            // once start + grain + length <= now.
            Window::Sliding { millis } => {
                now.saturating_sub(signed(*millis)).saturating_sub(signed(grain(*millis))).saturating_add(1)
            }
            Window::Calendar { unit, zone } => unit.start(now, zone),
        }
    }

    /// When the bucket that starts at `bucket` stops counting.
    pub fn frees_at(&self, bucket: i64) -> i64 {
        match self {
            Window::Sliding { millis } => bucket.saturating_add(signed(*millis)).saturating_add(signed(grain(*millis))),
            Window::Calendar { unit, zone } => unit.end(bucket, zone),
        }
    }

    /// `a minute`, `an hour`, `in 15 minutes`: for messages.
    pub fn phrase(&self) -> String {
        let unit = match self {
            Window::Calendar { unit, .. } => *unit,
            Window::Sliding { millis: MINUTE } => CalendarUnit::Minute,
            Window::Sliding { millis: HOUR } => CalendarUnit::Hour,
            Window::Sliding { millis } => return format!("in {}", length_phrase(*millis)),
        };
        match unit {
            CalendarUnit::Hour => "an hour".to_owned(),
            _ => format!("a {}", unit.word()),
        }
    }
}

/// Reads a span of time as `30s`, `15m`, `2h` or `3d`, from one second to 400 days.
pub fn parse_span(text: &str) -> Option<jiff::SignedDuration> {
    span_millis(text).map(|millis| jiff::SignedDuration::from_millis(signed(millis)))
}

/// `15 minutes`, `1 day`: in the largest unit that is whole.
pub(crate) fn length_phrase(millis: u64) -> String {
    let (count, word) = match millis {
        m if m % DAY == 0 => (m / DAY, "day"),
        m if m % HOUR == 0 => (m / HOUR, "hour"),
        m if m % MINUTE == 0 => (m / MINUTE, "minute"),
        m if m % 1000 == 0 => (m / 1000, "second"),
        m => (m, "millisecond"),
    };
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

fn span_millis(text: &str) -> Option<u64> {
    let unit = match text.as_bytes().last()? {
        b's' => 1000,
        b'm' => MINUTE,
        b'h' => HOUR,
        b'd' => DAY,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || digits.len() > 9 || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let millis = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (millis <= LONGEST).then_some(millis)
}

/// The length of a sliding window's buckets. Rounded down: a finer bucket only makes the wait shorter.
fn grain(millis: u64) -> u64 {
    (millis / 60).max(1)
}

fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

impl CalendarUnit {
    /// The word used in policies and keys.
    pub fn word(self) -> &'static str {
        match self {
            CalendarUnit::Minute => "minute",
            CalendarUnit::Hour => "hour",
            CalendarUnit::Day => "day",
            CalendarUnit::Week => "week",
            CalendarUnit::Month => "month",
        }
    }

    fn millis(self) -> u64 {
        match self {
            CalendarUnit::Minute => MINUTE,
            CalendarUnit::Hour => HOUR,
            CalendarUnit::Day => DAY,
            CalendarUnit::Week => 7 * DAY,
            CalendarUnit::Month => 31 * DAY,
        }
    }

    fn start(self, now: i64, zone: &Zone) -> i64 {
        match self.short() {
            Some(length) => {
                // By the offset in force, not by the clock's face: the hour that a clock shows twice in autumn is two hours.
                let (now, offset) = (now.clamp(0, YEAR_9000), zone.offset_millis(now));
                (now + offset).div_euclid(length) * length - offset
            }
            None => first_instant(self.first_day(zone.local(now).date()), zone),
        }
    }

    fn end(self, start: i64, zone: &Zone) -> i64 {
        if let Some(length) = self.short() {
            return start.saturating_add(length);
        }
        let first = self.first_day(zone.local(start).date());
        let next = match self {
            CalendarUnit::Week => first.saturating_add(7.days()),
            CalendarUnit::Month => first.saturating_add(1.month()),
            CalendarUnit::Minute | CalendarUnit::Hour | CalendarUnit::Day => first.saturating_add(1.day()),
        };
        first_instant(next, zone)
    }

    /// The length of the units that are shorter than a day.
    fn short(self) -> Option<i64> {
        matches!(self, CalendarUnit::Minute | CalendarUnit::Hour).then(|| signed(self.millis()))
    }

    fn first_day(self, date: Date) -> Date {
        match self {
            CalendarUnit::Week => date.saturating_sub(i64::from(date.weekday().to_monday_zero_offset()).days()),
            CalendarUnit::Month => date.first_of_month(),
            CalendarUnit::Minute | CalendarUnit::Hour | CalendarUnit::Day => date,
        }
    }
}

/// The first instant of a day: not always midnight, for a clock may jump over it.
fn first_instant(date: Date, zone: &Zone) -> i64 {
    let midnight = date.to_zoned(zone.zone.clone()).expect("dates here lie between 1970 and 9000");
    midnight.timestamp().as_millisecond()
}

/// A time zone, known by its IANA name. Two are equal when their names are.
#[derive(Clone)]
pub struct Zone {
    zone: TimeZone,
}

impl Zone {
    /// Coordinated Universal Time.
    pub fn utc() -> Zone {
        Zone { zone: TimeZone::UTC }
    }

    /// The zone with this IANA name (`Europe/Berlin`); `None` when there is none.
    pub fn parse(name: &str) -> Option<Zone> {
        if matches!(name, "UTC" | "Etc/UTC" | "Z") {
            return Some(Zone::utc());
        }
        let zone = TimeZone::get(name).ok()?;
        zone.iana_name()?;
        Some(Zone { zone })
    }

    /// The name: `UTC`, `Europe/Berlin`.
    pub fn name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    fn is_utc(&self) -> bool {
        self.name() == "UTC"
    }

    /// What calendar and clock show at this time.
    pub(crate) fn local(&self, millis: i64) -> Zoned {
        instant(millis).to_zoned(self.zone.clone())
    }

    /// When they show this: the first time, of two; a moment later, when they never do.
    pub(crate) fn instant(&self, shown: jiff::civil::DateTime) -> Option<Timestamp> {
        Some(shown.to_zoned(self.zone.clone()).ok()?.timestamp())
    }

    fn offset_millis(&self, millis: i64) -> i64 {
        i64::from(self.zone.to_offset(instant(millis)).seconds()) * 1000
    }
}

/// Years before 1970 and after 9000 are read as those: no clock says them, and date arithmetic stays within its range.
pub(crate) fn instant(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis.clamp(0, YEAR_9000)).expect("years 1970 to 9000 are timestamps")
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl Hash for Zone {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const LONGEST: u64 = 400 * DAY;
/// 9000-01-01T00:00:00Z
const YEAR_9000: i64 = 221_845_392_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn window(text: &str) -> Window {
        Window::parse(text).unwrap()
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn calendar(unit: CalendarUnit, zone: &str) -> Window {
        Window::Calendar { unit, zone: Zone::parse(zone).unwrap() }
    }

    #[test]
    fn windows_have_words_and_lengths() {
        for (text, key, millis, phrase) in [
            ("minute", "60s", 60_000, "a minute"),
            ("60s", "60s", 60_000, "a minute"),
            ("hour", "3600s", 3_600_000, "an hour"),
            ("day", "day", 86_400_000, "a day"),
            ("month", "month", 31 * 86_400_000, "a month"),
            ("10s", "10s", 10_000, "in 10 seconds"),
            ("15m", "900s", 900_000, "in 15 minutes"),
            ("1d", "86400s", 86_400_000, "in 1 day"),
        ] {
            let window = window(text);
            assert_eq!((window.key().as_str(), window.millis(), window.phrase().as_str()), (key, millis, phrase), "{text}");
        }
        for text in ["", "s", "0s", "01s", "-1s", "1.5h", "hourly", "401d", "9999999999s", "fortnight", "1w", " 1s", "１s"] {
            assert_eq!(Window::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn alignment_can_be_changed_where_the_calendar_has_such_a_span() {
        assert_eq!(window("minute").aligned(Align::Calendar, None).unwrap().key(), "minute");
        assert_eq!(window("day").aligned(Align::Sliding, None).unwrap().key(), "86400s");
        assert_eq!(window("day").aligned(Align::Calendar, Zone::parse("Europe/Berlin")).unwrap().key(), "day@Europe/Berlin");
        assert_eq!(window("15m").aligned(Align::Calendar, None), None);
    }

    #[test]
    fn a_sliding_charge_counts_for_its_window_and_at_most_one_sixtieth_more() {
        let minute = window("minute");
        let bucket = minute.bucket(at("2026-01-15T10:30:00.999Z"));
        assert_eq!(bucket, at("2026-01-15T10:30:00Z"));
        assert_eq!(minute.frees_at(bucket), at("2026-01-15T10:31:01Z"));
        assert!(bucket >= minute.counts_from(at("2026-01-15T10:31:00.999Z")));
        assert!(bucket < minute.counts_from(at("2026-01-15T10:31:01Z")));
        assert_eq!(minute.longest_wait(), 61_000);
        assert_eq!(window("10s").longest_wait(), 10_166);
    }

    #[test]
    fn days_follow_the_zone_and_its_clock_changes() {
        let berlin = calendar(CalendarUnit::Day, "Europe/Berlin");
        let spring = berlin.bucket(at("2026-03-29T10:00:00Z"));
        assert_eq!(spring, at("2026-03-28T23:00:00Z"));
        assert_eq!(berlin.frees_at(spring), at("2026-03-29T22:00:00Z"), "23 hours");
        let autumn = berlin.bucket(at("2026-10-25T10:00:00Z"));
        assert_eq!((autumn, berlin.frees_at(autumn)), (at("2026-10-24T22:00:00Z"), at("2026-10-25T23:00:00Z")), "25 hours");
        assert!(berlin.millis() >= 25 * HOUR);
    }

    #[test]
    fn the_hour_that_a_clock_shows_twice_is_two_hours() {
        let hour = calendar(CalendarUnit::Hour, "Europe/Berlin");
        assert_eq!(hour.bucket(at("2026-10-25T00:30:00Z")), at("2026-10-25T00:00:00Z"));
        assert_eq!(hour.bucket(at("2026-10-25T01:30:00Z")), at("2026-10-25T01:00:00Z"));
        let kolkata = calendar(CalendarUnit::Hour, "Asia/Kolkata");
        assert_eq!(kolkata.bucket(at("2026-01-15T10:29:59Z")), at("2026-01-15T09:30:00Z"));
    }

    #[test]
    fn a_day_begins_at_its_first_instant_even_where_midnight_is_skipped() {
        // Beirut goes from 24:00 to 01:00; Samoa left out 30 December 2011.
        let beirut = calendar(CalendarUnit::Day, "Asia/Beirut");
        assert_eq!(beirut.bucket(at("2025-03-30T12:00:00Z")), at("2025-03-29T22:00:00Z"));
        let apia = calendar(CalendarUnit::Day, "Pacific/Apia");
        let last = apia.bucket(at("2011-12-30T09:00:00Z"));
        assert_eq!(apia.frees_at(last), at("2011-12-30T10:00:00Z"));
        assert_eq!(apia.bucket(at("2011-12-30T10:00:00Z")), at("2011-12-30T10:00:00Z"));
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        let (week, month) = (window("week"), window("month"));
        assert_eq!(week.bucket(at("2026-01-18T23:59:59Z")), at("2026-01-12T00:00:00Z"));
        assert_eq!(week.frees_at(at("2026-01-12T00:00:00Z")), at("2026-01-19T00:00:00Z"));
        assert_eq!(month.bucket(at("2026-02-28T12:00:00Z")), at("2026-02-01T00:00:00Z"));
        assert_eq!(month.frees_at(at("2026-12-01T00:00:00Z")), at("2027-01-01T00:00:00Z"));
    }

    #[test]
    fn absurd_clocks_do_not_panic() {
        for now in [i64::MIN, -1, i64::MAX] {
            for window in [window("10s"), window("month"), calendar(CalendarUnit::Hour, "Europe/Berlin")] {
                window.frees_at(window.bucket(now));
                window.counts_from(now);
            }
        }
    }
}
