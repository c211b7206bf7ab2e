//! [`Timestamp`] and [`Date`]: moments and days as integers since 1970, with their ISO 8601 text.

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A moment: milliseconds since 1970-01-01T00:00:00 UTC.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Timestamp(i64);

/// A day: days since 1970-01-01 in the proleptic Gregorian calendar.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Date(i32);

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

impl Timestamp {
    /// The earliest moment: before every record.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// The latest moment: the watermark at the end of input.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// The moment `millis` milliseconds after 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Timestamp(millis)
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// The day it is in, UTC; the first or last that there is where days do not reach that far.
    pub fn date(self) -> Date {
        let days = self.0.div_euclid(DAY_MS);
        Date(days.clamp(i32::MIN as i64, i32::MAX as i64) as i32)
    }
}

impl Date {
    /// The day `days` days after 1970-01-01.
    pub const fn from_days(days: i32) -> Self {
        Date(days)
    }

    /// Days since 1970-01-01.
    pub const fn days(self) -> i32 {
        self.0
    }

    /// The day of that year, month (1 to 12) and day of the month; nothing where there is no such day.
    pub fn from_calendar(year: i32, month: u32, day: u32) -> Option<Self> {
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        i32::try_from(days_from_calendar(year as i64, month as i64, day as i64))
            .ok()
            .map(Date)
    }

    /// Year, month (1 to 12) and day of the month.
    pub fn calendar(self) -> (i32, u32, u32) {
        let (year, month, day) = calendar_from_days(self.0 as i64);
        (year as i32, month, day)
    }
}

fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date. Years are counted from March, so that the leap day is a year's last.
fn days_from_calendar(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_calendar`].
fn calendar_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + (month <= 2) as i64;
    (year, month as u32, day as u32)
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.calendar();
        write_date(f, year as i64, month, day)
    }
}

fn write_date(f: &mut fmt::Formatter<'_>, year: i64, month: u32, day: u32) -> fmt::Result {
    let sign = if year < 0 { "-" } else { "" };
    write!(f, "{sign}{:04}-{month:02}-{day:02}", year.abs())
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = calendar_from_days(self.0.div_euclid(DAY_MS));
        let ms = self.0.rem_euclid(DAY_MS);
        write_date(f, year, month, day)?;
        write!(
            f,
            "T{:02}:{:02}:{:02}.{:03}Z",
            ms / 3_600_000,
            ms / 60_000 % 60,
            ms / 1000 % 60,
            ms % 1000
        )
    }
}

/// The text is no date or timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseTimeError {
    expected: &'static str,
}

impl fmt::Display for ParseTimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not {}", self.expected)
    }
}

impl std::error::Error for ParseTimeError {}

impl FromStr for Date {
    type Err = ParseTimeError;

    /// Parses `2026-11-22`, with a sign before a year that has one.
    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        parse_date(text).ok_or(ParseTimeError {
            expected: "a date such as 2026-11-22",
        })
    }
}

fn parse_date(text: &str) -> Option<Date> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (rest, day) = digits.rsplit_once('-')?;
    let (year, month) = rest.rsplit_once('-')?;
    let year = number(year, 4..=7)? as i32;
    let year = if negative { -year } else { year };
    Date::from_calendar(year, number(month, 2..=2)?, number(day, 2..=2)?)
}

/// The number that `text`, so many digits and nothing else, spells.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    (digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

impl FromStr for Timestamp {
    type Err = ParseTimeError;

    /// Parses `2026-11-22T10:31:41.5Z`: `T` or a blank between day and time, up to nine digits of a second
    /// (cut to milliseconds), `Z` or an offset such as `+01:00` or nothing, which means UTC; or a day alone.
    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        parse_timestamp(text).ok_or(ParseTimeError {
            expected: "a timestamp such as 2026-11-22T10:31:41.500Z",
        })
    }
}

fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let Some((date, time)) = text.split_once(['T', ' ']) else {
        return (parse_date(text)?.0 as i64).checked_mul(DAY_MS).map(Timestamp);
    };
    let (time, offset_ms) = match time.strip_suffix('Z') {
        Some(time) => (time, 0),
        None => match time.rfind(['+', '-']) {
            Some(at) => {
                let (hours, minutes) = time[at + 1..].split_once(':')?;
                let (hours, minutes) = (number(hours, 2..=2)?, number(minutes, 2..=2)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let ms = (hours * 60 + minutes) as i64 * 60_000;
                (&time[..at], if time.as_bytes()[at] == b'-' { -ms } else { ms })
            }
            None => (time, 0),
        },
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = time.split(':');
    let hours = number(parts.next()?, 2..=2)?;
    let minutes = number(parts.next()?, 2..=2)?;
    let seconds = number(parts.next().unwrap_or("00"), 2..=2)?;
    if parts.next().is_some() || hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let millis = number(fraction, 1..=9)? as u64 * 1000 / 10_u64.pow(fraction.len() as u32);
    let ms = ((hours * 60 + minutes) * 60 + seconds) as i64 * 1000 + millis as i64;
    (parse_date(date)?.0 as i64)
        .checked_mul(DAY_MS)?
        .checked_add(ms)?
        .checked_sub(offset_ms)
        .map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_days_agree_over_four_centuries_and_at_the_ends() {
        let mut day = Date::from_calendar(1800, 1, 1).expect("a day");
        let (mut year, mut month, mut of_month) = (1800, 1, 1);
        for _ in 0..400 * 366 {
            assert_eq!(day.calendar(), (year, month, of_month));
            assert_eq!(Date::from_calendar(year, month, of_month), Some(day));
            of_month += 1;
            if of_month > days_in_month(year, month) {
                (month, of_month) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
            day = Date(day.0 + 1);
        }
        for day in [Date(i32::MIN), Date(i32::MAX), Date(-1)] {
            let (year, month, of_month) = day.calendar();
            assert_eq!(Date::from_calendar(year, month, of_month), Some(day));
            assert_eq!(day.to_string().parse(), Ok(day));
        }
        assert_eq!(Date(0).to_string(), "1970-01-01");
        assert_eq!(Date::from_calendar(1900, 2, 29), None);
        assert_eq!(Date::from_calendar(2000, 2, 29).map(Date::days), Some(11_016));
    }

    #[test]
    fn timestamps_print_and_parse() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
        ] {
            assert_eq!(Timestamp(millis).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp(millis)));
        }
        for (text, millis) in [
            ("1970-01-02", DAY_MS),
            ("1970-01-01 00:01", 60_000),
            ("1970-01-01T01:00:00.5+01:00", 500),
            ("1969-12-31T23:00:00.123456789-01:00", 123),
        ] {
            assert_eq!(text.parse(), Ok(Timestamp(millis)), "{text}");
        }
        for text in [
            "",
            "T",
            "1970-01-01T24:00:00",
            "1970-1-1",
            "1970-01-01T00:00:00.",
            "1970-01-01T+01:00",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
