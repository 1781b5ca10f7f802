//! Until when, as texts say it: a time, or how long.

use std::time::Duration;

use crate::{
    config::parse_duration,
    policy::{BanTime, MAX_BAN},
};

use super::Expiry;

/// What `expires` and `duration` say together; a time that is said wins.
pub(super) fn expiry(expires: Option<&str>, duration: Option<&str>) -> Result<Expiry, String> {
    match (expires, duration) {
        (Some(time), _) if time.eq_ignore_ascii_case("never") => Ok(Expiry::Never),
        (Some(time), _) => humantime::parse_rfc3339_weak(time)
            .map(Expiry::At)
            .map_err(|_| format!("{time:?} is no time; write one such as 2026-11-24T12:00:00Z")),
        (None, Some(duration)) => match parse_duration(duration) {
            Ok(BanTime::Permanent) => Ok(Expiry::Never),
            Ok(BanTime::For(time)) => Ok(Expiry::In(time)),
            Err(error) => Err(error.to_string()),
        },
        (None, None) => Ok(Expiry::Unsaid),
    }
}

/// For good, where every time has an end: what is left of it counts as for good when it is read
/// again, for a hundred years. Go, in whose syntax it is written, takes no more than 292.
pub(crate) const FOR_GOOD: Duration = Duration::from_secs(2 * MAX_BAN.as_secs());

/// What is left, as crowdsec says it: in Go's syntax. A hundred years and more are for good, which
/// it has no other way to say.
pub(crate) fn left(duration: &str) -> Result<Expiry, String> {
    match go_duration(duration) {
        Some(left) if left >= MAX_BAN.as_nanos() => Ok(Expiry::Never),
        Some(left) => {
            let left = u64::try_from(left).unwrap_or(u64::MAX);
            Ok(Expiry::In(Duration::from_nanos(left)))
        }
        None => Err(format!("{duration:?} is no duration such as 3h59m49.5s")),
    }
}

/// The nanoseconds of a duration such as `3h59m49.123456s`; those of one below zero are none.
fn go_duration(text: &str) -> Option<u128> {
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u128;
    while !rest.is_empty() {
        let (digits, after) = split_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_digits(after),
            None => ("", after),
        };
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at_checked(end.unwrap_or(after.len()))?;
        let unit = nanoseconds(unit)?;
        if digits.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole = if digits.is_empty() {
            0
        } else {
            digits.parse().ok()?
        };
        total = total.checked_add(unit.checked_mul(whole)?)?;
        // One digit after the other, each worth a tenth of the one before; those beyond
        // nanoseconds are worth nothing.
        let mut worth = unit;
        for digit in fraction.chars().filter_map(|digit| digit.to_digit(10)) {
            worth /= 10;
            total = total.checked_add(worth * u128::from(digit))?;
        }
        rest = after;
    }
    Some(if is_negative { 0 } else { total })
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at_checked(end.unwrap_or(text.len()))
        .unwrap_or((text, ""))
}

fn nanoseconds(unit: &str) -> Option<u128> {
    const SECOND: u128 = 1_000_000_000;
    Some(match unit {
        "ns" => 1,
        // With the sign for micro, or with the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        // Not Go's, but taken by newer versions of crowdsec.
        "d" => 86_400 * SECOND,
        _ => return None,
    })
}
