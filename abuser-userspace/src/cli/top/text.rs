//! Words and numbers that fit a column.

use std::time::Duration;

use crate::cli::output::{grouped, span};

/// A count in seven columns at most.
pub(super) fn count(count: u64) -> String {
    const UNITS: [(u64, &str); 5] = [
        (1_000_000_000_000_000_000, "E"),
        (1_000_000_000_000_000, "P"),
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
    ];
    if count < 100_000 {
        return grouped(count);
    }
    let unit = UNITS.into_iter().find(|(unit, _)| count >= *unit);
    let (unit, name) = unit.unwrap_or((1000, "k"));
    let tenths = count / (unit / 10);
    if tenths < 1000 {
        format!("{}.{}{name}", tenths / 10, tenths % 10)
    } else {
        format!("{}{name}", tenths / 10)
    }
}

/// A rate in seven columns at most; one that is less than ten with its tenths.
pub(super) fn rate(rate: f64) -> String {
    if rate >= 9.95 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is not negative, and the conversion stops at the largest"
        )]
        return count(rate.round() as u64);
    }
    if rate < 0.05 {
        return "0".to_owned();
    }
    format!("{rate:.1}")
}

/// Bits a second, by bytes a second.
pub(super) fn bits(bytes: f64) -> String {
    let bits = bytes * 8.0;
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.into_iter().find(|(unit, _)| bits >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}bit/s", bits / unit),
        None => format!("{bits:.0} bit/s"),
    }
}

/// The time that is left of a ban.
pub(super) fn left(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "for good".to_owned(), span)
}

/// The time of day in a time as the API writes it.
pub(super) fn time_of_day(time: &str) -> &str {
    time.get(11..19).unwrap_or(time)
}

/// A source without the length of its prefix if it is a host.
pub(super) fn source(source: &ipnet::IpNet) -> String {
    if source.prefix_len() == source.max_prefix_len() {
        source.addr().to_string()
    } else {
        source.to_string()
    }
}

/// A time in words.
pub(super) fn time(time: Duration) -> String {
    span(time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_to_seven_columns() {
        let shown = [
            0,
            99_999,
            100_000,
            999_999,
            1_234_567,
            123_456_789,
            u64::MAX,
        ]
        .map(count);
        let expected = ["0", "99 999", "100k", "999k", "1.2M", "123M", "18.4E"];
        assert_eq!(shown, expected);
        let rates = [0.0, 0.04, 0.06, 9.94, 9.96, 1e6].map(rate);
        assert_eq!(rates, ["0", "0", "0.1", "9.9", "10", "1.0M"]);
        assert_eq!(bits(0.0), "0 bit/s");
        assert_eq!(bits(1.25e8), "1.0 Gbit/s");
    }
}
