//! Rates as people write them: `60/m`.

use std::{fmt, str::FromStr, time::Duration};

use super::error::quote;

/// So many units in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSpec {
    /// Packets, bytes or connections; not 0.
    pub count: u64,
    /// The time they are for: a second, a minute, an hour or a day.
    pub per: Duration,
}

/// Why a text is not a rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// It is not `NUMBER/UNIT`.
    #[error("{} is not a rate; write a number and a unit of time, for example \"60/m\" or \"5000/s\"", quote(.0))]
    Syntax(String),
    /// The number does not fit.
    #[error("{} is too large a number; write one below 2^64", quote(.0))]
    TooLarge(String),
    /// Nothing would pass.
    #[error("a rate of 0 would pass nothing; write at least 1, or ban the sources instead")]
    Zero,
    /// There is no such unit.
    #[error("{} is not a unit of time for a rate; write /s, /m, /h or /d", quote(.0))]
    Unit(String),
}

/// Units of time and their names; the first is the one shown.
const UNITS: [(u64, &[&str]); 4] = [
    (1, &["s", "sec", "second"]),
    (60, &["m", "min", "minute"]),
    (3600, &["h", "hr", "hour"]),
    (86_400, &["d", "day"]),
];

impl FromStr for RateSpec {
    type Err = RateError;

    /// Reads `60/m`; k, M and G after the number stand for thousands, millions, billions.
    fn from_str(text: &str) -> Result<Self, RateError> {
        let syntax = || RateError::Syntax(text.to_owned());
        let (number, unit) = text.split_once('/').ok_or_else(syntax)?;
        let (number, unit) = (number.trim(), unit.trim());
        let (digits, scale) = match number.strip_suffix(['k', 'K', 'M', 'G']) {
            Some(digits) if number.ends_with('M') => (digits, 1_000_000),
            Some(digits) if number.ends_with('G') => (digits, 1_000_000_000),
            Some(digits) => (digits, 1_000),
            None => (number, 1),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(syntax());
        }
        let count = digits
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(scale))
            .ok_or_else(|| RateError::TooLarge(number.to_owned()))?;
        if count == 0 {
            return Err(RateError::Zero);
        }
        let seconds = UNITS
            .iter()
            .find(|(_, names)| names.contains(&unit))
            .map(|(seconds, _)| *seconds)
            .ok_or_else(|| RateError::Unit(unit.to_owned()))?;
        Ok(Self {
            count,
            per: Duration::from_secs(seconds),
        })
    }
}

impl fmt::Display for RateSpec {
    /// `60/m`, as it is read.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.per.as_secs();
        let unit = UNITS.iter().find(|(unit, _)| *unit == seconds);
        match unit.and_then(|(_, names)| names.first()) {
            Some(name) => write!(formatter, "{}/{name}", self.count),
            None => write!(formatter, "{} per {:?}", self.count, self.per),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rate_is_a_number_and_a_unit_of_time() {
        for (text, count, seconds) in [
            ("60/m", 60, 60),
            ("5000/s", 5000, 1),
            ("1/h", 1, 3600),
            ("1/day", 1, 86_400),
            ("10k/s", 10_000, 1),
            ("10M/s", 10_000_000, 1),
            ("2G/s", 2_000_000_000, 1),
        ] {
            let expected = RateSpec {
                count,
                per: Duration::from_secs(seconds),
            };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!("60 / m".parse::<RateSpec>().unwrap().to_string(), "60/m");
    }

    #[test]
    fn what_is_no_rate_is_refused_with_what_to_write() {
        for text in [
            "", "60", "/m", "k/s", "-1/s", "1.5/s", "+5/s", "60r/m", "10 M/s", "m/60",
        ] {
            assert_eq!(
                text.parse::<RateSpec>(),
                Err(RateError::Syntax(text.into()))
            );
        }
        assert_eq!("0/s".parse::<RateSpec>(), Err(RateError::Zero));
        for unit in ["", "x", "M", "w", "s/s"] {
            let text = format!("1/{unit}");
            assert_eq!(text.parse::<RateSpec>(), Err(RateError::Unit(unit.into())));
        }
        for number in ["18446744073709551616", "18446744073709552k"] {
            let text = format!("{number}/s");
            assert_eq!(
                text.parse::<RateSpec>(),
                Err(RateError::TooLarge(number.into()))
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_is_read_reads_again(text in "[0-9]{0,21}[kMG]?/[smhd]|\\PC*") {
            if let Ok(rate) = text.parse::<RateSpec>() {
                prop_assert_eq!(rate.to_string().parse(), Ok(rate));
            }
        }
    }
}
