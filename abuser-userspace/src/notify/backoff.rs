//! How long to wait before a receiver that failed is tried again: pure.
//!
//! As anybody who fails (see [`backoff`]), but not before the receiver asks for it.

use std::time::{Duration, SystemTime};

use crate::outbound::backoff;

/// The longest of all.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// The longest that a receiver can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);

/// How long to wait after so many failures in a row, as [`backoff`] says, and no less than the receiver
/// asked for.
pub(super) fn delay(failures: u32, chance: f64, asked: Option<Duration>) -> Duration {
    let ours = backoff(failures, LONGEST, chance);
    ours.max(asked.unwrap_or_default().min(LONGEST_ASKED))
}

/// What a `Retry-After` asks for: seconds, or a time in the form of HTTP
/// (RFC 9110, 10.2.3); `None` if it makes no sense.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let time = jiff::fmt::rfc2822::parse(value).ok()?;
    let time = SystemTime::from(time.timestamp());
    Some(time.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_failure_doubles_the_delay_up_to_five_minutes() {
        let longest = |failures| delay(failures, 1.0, None);
        assert_eq!([1, 2, 3, 4].map(longest), [1, 2, 4, 8].map(|n| SECOND * n));
        assert_eq!(longest(9), 256 * SECOND);
        assert_eq!(longest(10), LONGEST);
        assert_eq!(longest(u32::MAX), LONGEST);
        assert_eq!(delay(3, 0.0, None), 2 * SECOND);
    }

    #[test]
    fn a_receiver_is_not_tried_before_the_time_it_asks_for() {
        assert_eq!(delay(1, 1.0, Some(30 * SECOND)), 30 * SECOND);
        assert_eq!(delay(4, 1.0, Some(SECOND)), 8 * SECOND);
        assert_eq!(delay(1, 1.0, Some(Duration::MAX)), LONGEST_ASKED);
    }

    #[test]
    fn retry_after_is_seconds_or_a_time_of_http() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_400);
        assert_eq!(retry_after(" 120 ", now), Some(120 * SECOND));
        let at = "Wed, 21 Oct 2015 07:28:00 GMT";
        assert_eq!(retry_after(at, now), Some(80 * SECOND));
        assert_eq!(retry_after(at, now + 1000 * SECOND), Some(Duration::ZERO));
        for senseless in ["", "soon", "-1", "1.5", "Wed, 99 Oct 2015 07:28:00 GMT"] {
            assert_eq!(retry_after(senseless, now), None, "{senseless}");
        }
    }

    proptest! {
        #[test]
        fn a_delay_is_within_its_bounds(failures in 1..u32::MAX, chance in 0.0..=1.0) {
            let delay = delay(failures, chance, None);
            prop_assert!(delay >= SECOND / 2 && delay <= LONGEST);
        }
    }
}
