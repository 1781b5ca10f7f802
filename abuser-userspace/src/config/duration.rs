//! Times as people write them: fail2ban's syntax.
//!
//! Not `humantime`'s, whose months differ from fail2ban's and whose `M` is a month where
//! others expect minutes: here `m` is minutes, `mo` is months, and `M` is refused.

use std::time::Duration;

use crate::policy::{BanTime, MAX_BAN};

use super::error::quote;

/// Why a text is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is not made of numbers and units.
    #[error(
        "{} is not a time; write for example \"90s\", \"10m\", \"1d 12h\", \"5w\", \"1mo\" \
         or a number of seconds",
        quote(.0)
    )]
    Syntax(String),
    /// A number has a unit that does not exist.
    #[error("{} is not a unit of time; write s, m, h, d, w, mo or y", quote(.0))]
    Unit(String),
    /// Could be minutes as well as months.
    #[error("\"M\" could be minutes or months; write m for minutes, mo for months")]
    MinutesOrMonths,
    /// More than [`MAX_BAN`], or less than nothing.
    #[error("{} is not between 0 and 100 years; write less, or \"permanent\" for a ban", quote(.0))]
    Range(String),
}

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// A year of 365.25 days, as in fail2ban.
const YEAR: u64 = 31_557_600 * SECOND;

/// Units and their nanoseconds.
const UNITS: [(&[&str], u64); 10] = [
    (&["ns", "nsec"], 1),
    (&["us", "usec"], 1_000),
    (&["ms", "msec"], 1_000_000),
    (&["s", "ss", "sec", "secs", "second", "seconds"], SECOND),
    (&["m", "mm", "min", "mins", "minute", "minutes"], MINUTE),
    (&["h", "hh", "hr", "hrs", "ho", "hour", "hours"], HOUR),
    (&["d", "dd", "da", "day", "days"], DAY),
    (&["w", "ww", "wk", "wks", "wee", "week", "weeks"], 7 * DAY),
    (&["mo", "mon", "month", "months"], YEAR / 12),
    (&["y", "yy", "yr", "yrs", "yea", "year", "years"], YEAR),
];

/// Reads a time such as `10m`, `1d 12h`, `1year-6mo` or `600` (seconds); `permanent` and
/// `-1` mean without end.
///
/// Units are s, m, h, d, w, mo, y and their names, also ms, us and ns. A month is a
/// twelfth of a year and a year is 365.25 days, as in fail2ban. Terms are added; a `-`
/// between two subtracts.
///
/// # Errors
///
/// See [`DurationError`]; more than 100 years is one.
pub fn parse_duration(text: &str) -> Result<BanTime, DurationError> {
    let trimmed = text.trim();
    if trimmed == "-1" || trimmed.eq_ignore_ascii_case("permanent") {
        return Ok(BanTime::Permanent);
    }
    let syntax = || DurationError::Syntax(text.to_owned());
    let range = || DurationError::Range(text.to_owned());

    let mut total = 0_i128;
    let mut rest = trimmed;
    let mut first = true;
    while !rest.is_empty() {
        let (sign, unsigned) = match rest.strip_prefix(['+', '-']) {
            Some(unsigned) if !first => (if rest.starts_with('-') { -1 } else { 1 }, unsigned),
            _ => (1, rest),
        };
        let (digits, after) = split_while(unsigned.trim_start(), |c| c.is_ascii_digit());
        let (unit, after) = split_while(after.trim_start(), char::is_alphabetic);
        if digits.is_empty() {
            return Err(syntax());
        }
        if unit.is_empty() && !(first && after.is_empty()) {
            // A number of seconds stands alone: "1 30m" is more likely a slip.
            return Err(syntax());
        }
        let number: i128 = digits.parse().map_err(|_| range())?;
        let term = number.checked_mul(nanoseconds(unit)?).ok_or_else(range)?;
        total = total.checked_add(sign * term).ok_or_else(range)?;
        rest = after.trim_start();
        first = false;
    }
    if first {
        return Err(syntax());
    }
    let total = u128::try_from(total).map_err(|_| range())?;
    if total > MAX_BAN.as_nanos() {
        return Err(range());
    }
    u64::try_from(total)
        .map(|nanoseconds| BanTime::For(Duration::from_nanos(nanoseconds)))
        .map_err(|_| range())
}

/// What `unit` is in nanoseconds; no unit is seconds.
fn nanoseconds(unit: &str) -> Result<i128, DurationError> {
    if unit.is_empty() {
        return Ok(SECOND.into());
    }
    if unit == "M" {
        return Err(DurationError::MinutesOrMonths);
    }
    let lower = unit.to_lowercase();
    UNITS
        .iter()
        .find(|(names, _)| names.contains(&lower.as_str()))
        .map(|(_, nanoseconds)| i128::from(*nanoseconds))
        .ok_or_else(|| DurationError::Unit(unit.to_owned()))
}

/// `text` cut where `belongs` first says no.
fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn assert_seconds(text: &str, expected: u64) {
        assert_eq!(
            parse_duration(text),
            Ok(BanTime::For(Duration::from_secs(expected))),
            "{text}"
        );
    }

    #[test]
    fn times_mean_what_they_mean_to_fail2ban() {
        assert_seconds("600", 600);
        assert_seconds("0", 0);
        assert_seconds("90s", 90);
        assert_seconds("10m", 600);
        assert_seconds("10 minutes", 600);
        assert_seconds("1d 12h", 129_600);
        assert_seconds("1d12h", 129_600);
        assert_seconds(" 1h + 30min ", 5400);
        assert_seconds("5w", 3_024_000);
        assert_seconds("1mo", 2_629_800);
        assert_seconds("1 Month", 2_629_800);
        assert_seconds("6 months", 15_778_800);
        assert_seconds("1y", 31_557_600);
        assert_seconds("1year", 31_557_600);
        assert_seconds("1year-6mo", 15_778_800);
        assert_seconds("100y", MAX_BAN.as_secs());
        assert_eq!(
            parse_duration("1500ms"),
            Ok(BanTime::For(Duration::from_millis(1500)))
        );
    }

    #[test]
    fn minus_one_and_permanent_have_no_end() {
        for text in ["-1", "permanent", "Permanent"] {
            assert_eq!(parse_duration(text), Ok(BanTime::Permanent));
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_to_write() {
        let syntax = |text: &str| Err(DurationError::Syntax(text.into()));
        for text in [
            "",
            " ",
            "m",
            "ten minutes",
            "1d 12",
            "1 30m",
            "1.5h",
            "-5m",
            "5m-",
            "+5m",
        ] {
            assert_eq!(parse_duration(text), syntax(text), "{text:?}");
        }
        assert_eq!(parse_duration("5x"), Err(DurationError::Unit("x".into())));
        assert_eq!(parse_duration("5M"), Err(DurationError::MinutesOrMonths));
        for text in [
            "101y",
            "1m-2m",
            "99999999999999999999999999999999999999999s",
        ] {
            assert_eq!(parse_duration(text), Err(DurationError::Range(text.into())));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9smhdwy +-]{0,40}|\\PC*") {
            let _ = parse_duration(&text);
        }
    }
}
