//! Opening hours: when a tool may be used.
//!
//! Hours are what a clock on the wall shows, in a named time zone: an hour that it shows twice is open twice, and one that it
//! skips is not there.

use crate::window::Zone;
use jiff::{Timestamp, ToSpan};
use std::fmt;

/// The times when a tool may be used: days of the week, and hours of the day in a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Monday first.
    days: [bool; 7],
    /// Minutes since midnight, from and before; the second may be the smaller one (over midnight). Empty: all day.
    hours: Vec<(i16, i16)>,
    zone: Zone,
}

impl Schedule {
    /// Reads `days` (`mon-fri`, `mon,wed,sat-sun`) and `hours` (`09:00-17:00`, `22:00-06:00`, `09:00-12:00,13:00-17:00`).
    ///
    /// Each may be absent: every day, all day. Hours over midnight belong to the day on which they begin. The end of a span
    /// is not part of it; `24:00` is an end.
    ///
    /// # Errors
    /// One sentence: what is wrong, and what is expected.
    pub fn parse(days: Option<&str>, hours: Option<&str>, zone: Zone) -> Result<Schedule, String> {
        let days = days.map_or(Ok([true; 7]), parse_days)?;
        let hours = match hours {
            Some(text) => text.split(',').map(|part| parse_hours(part.trim())).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        Ok(Schedule { days, hours, zone })
    }

    /// Whether the tool may be used at this time.
    pub fn is_open(&self, at: Timestamp) -> bool {
        let local = self.zone.local(at.as_millisecond());
        let minute = i16::from(local.hour()) * 60 + i16::from(local.minute());
        let today = usize::from(local.weekday().to_monday_zero_offset().unsigned_abs());
        let yesterday = (today + 6) % 7;
        if self.hours.is_empty() {
            return self.days[today];
        }
        self.hours.iter().any(|&(from, to)| {
            if from < to {
                self.days[today] && (from..to).contains(&minute)
            } else {
                (self.days[today] && minute >= from) || (self.days[yesterday] && minute < to)
            }
        })
    }

    /// The next time after `at` when the tool may be used; `None` when `at` is such a time itself.
    pub fn opens_at(&self, at: Timestamp) -> Option<Timestamp> {
        if self.is_open(at) {
            return None;
        }
        let today = self.zone.local(at.as_millisecond()).date();
        let starts: Vec<i16> = if self.hours.is_empty() { vec![0] } else { self.hours.iter().map(|&(from, _)| from).collect() };
        // Eight days on is the same weekday and one more, for a clock change may swallow one opening.
        (0..=8)
            .flat_map(|days| starts.iter().map(move |&minutes| (days, minutes)))
            .filter_map(|(days, minutes)| {
                let date = today.checked_add(i64::from(days).days()).ok()?;
                let time = jiff::civil::time(i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?, 0, 0);
                self.zone.instant(date.to_datetime(time))
            })
            .filter(|&opening| opening > at && self.is_open(opening))
            .min()
    }
}

impl fmt::Display for Schedule {
    /// `mon-fri 09:00-17:00 Europe/Berlin`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for day in (0..7).filter(|&day| self.days[day]) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == day => *last = day,
                _ => runs.push((day, day)),
            }
        }
        let days: Vec<String> = runs
            .iter()
            .map(|&(from, to)| if from == to { DAYS[from].to_owned() } else { format!("{}-{}", DAYS[from], DAYS[to]) })
            .collect();
        write!(f, "{}", days.join(","))?;
        for (i, (from, to)) in self.hours.iter().enumerate() {
            let comma = if i == 0 { ' ' } else { ',' };
            write!(f, "{comma}{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)?;
        }
        write!(f, " {}", self.zone.name())
    }
}

fn parse_days(text: &str) -> Result<[bool; 7], String> {
    let expected = "expected days as `mon-fri` or `mon,wed,sat-sun`";
    let day = |name: &str| {
        DAYS.iter().position(|day| *day == name.trim()).ok_or_else(|| format!("unknown day `{}`; {expected}", name.trim()))
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        let length = (last + 7 - first) % 7;
        for step in 0..=length {
            days[(first + step) % 7] = true;
        }
    }
    Ok(days)
}

fn parse_hours(text: &str) -> Result<(i16, i16), String> {
    let error = || format!("unknown hours `{text}`; expected `09:00-17:00`");
    let minutes = |clock: &str| -> Option<i16> {
        let (hour, minute) = clock.trim().split_once(':')?;
        let number = |text: &str| {
            (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<i16>().ok()).flatten()
        };
        let (hour, minute) = (number(hour)?, number(minute)?);
        (minute < 60 && hour * 60 + minute <= 24 * 60).then_some(hour * 60 + minute)
    };
    let (from, to) = text.split_once('-').ok_or_else(error)?;
    let (from, to) = (minutes(from).ok_or_else(error)?, minutes(to).ok_or_else(error)?);
    if from == 24 * 60 {
        return Err(error());
    }
    if from == to {
        return Err(format!(
            "hours `{text}` begin and end at the same time; expected `09:00-17:00`, or `00:00-24:00` for all day"
        ));
    }
    Ok((from, to))
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_open(days: Option<&str>, hours: Option<&str>, zone: &str, time: &str, opens: Option<&str>) {
        let schedule = Schedule::parse(days, hours, Zone::parse(zone).unwrap()).unwrap();
        let time = time.parse().unwrap();
        assert_eq!(schedule.is_open(time), opens.is_none(), "{schedule} at {time}");
        assert_eq!(schedule.opens_at(time).map(|t| t.to_string()).as_deref(), opens, "{schedule} at {time}");
    }

    #[test]
    fn office_hours_are_local() {
        let (days, hours) = (Some("mon-fri"), Some("09:00-17:00"));
        check_open(days, hours, "Europe/Berlin", "2026-01-15T08:00:00Z", None);
        check_open(days, hours, "Europe/Berlin", "2026-01-15T07:59:59Z", Some("2026-01-15T08:00:00Z"));
        check_open(days, hours, "Europe/Berlin", "2026-01-16T16:00:00Z", Some("2026-01-19T08:00:00Z"));
        check_open(days, hours, "Europe/Berlin", "2026-07-15T07:00:00Z", None);
    }

    #[test]
    fn hours_over_midnight_belong_to_the_day_they_begin_on() {
        let (days, hours) = (Some("fri"), Some("22:00-06:00"));
        check_open(days, hours, "UTC", "2026-01-16T22:00:00Z", None);
        check_open(days, hours, "UTC", "2026-01-17T05:59:59Z", None);
        check_open(days, hours, "UTC", "2026-01-17T06:00:00Z", Some("2026-01-23T22:00:00Z"));
        check_open(days, hours, "UTC", "2026-01-16T05:00:00Z", Some("2026-01-16T22:00:00Z"));
    }

    #[test]
    fn days_alone_and_hours_alone() {
        check_open(Some("sat-sun"), None, "UTC", "2026-01-16T12:00:00Z", Some("2026-01-17T00:00:00Z"));
        check_open(None, Some("12:00-24:00,00:00-01:00"), "UTC", "2026-01-16T11:00:00Z", Some("2026-01-16T12:00:00Z"));
        check_open(None, Some("12:00-24:00"), "UTC", "2026-01-16T23:59:59Z", None);
    }

    #[test]
    fn mistakes_in_schedules_are_named() {
        for (days, hours) in
            [("mon-fry", "09:00-17:00"), ("mon", "9-17"), ("mon", "09:00-25:00"), ("mon", "09:00-09:00"), ("", "09:00-10:00")]
        {
            assert!(Schedule::parse(Some(days), Some(hours), Zone::utc()).is_err(), "{days} {hours}");
        }
        let schedule = Schedule::parse(Some("mon-wed,sat"), Some("09:00-12:00,13:00-17:00"), Zone::utc()).unwrap();
        assert_eq!(schedule.to_string(), "mon-wed,sat 09:00-12:00,13:00-17:00 UTC");
    }
}
