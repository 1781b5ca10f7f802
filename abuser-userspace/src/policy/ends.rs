//! When bans end, compared: clocks drift, and never comes last.
//!
//! Ends are kernel times in nanoseconds with 0 for never, as in the maps, or times of the wall clock with
//! `None` for never.

use std::time::{Duration, SystemTime};

/// How far apart two ends may be that are the same: clocks drift, and who is told how much is left is told
/// it after an answer was on its way.
const DRIFT: Duration = Duration::from_secs(2);

/// Whether what ends at `one` lasts longer than what ends at `other`, both kernel times.
pub const fn outlasts(one: u64, other: u64) -> bool {
    in_order(one) > in_order(other)
}

/// A kernel time as a number that is the larger the later it is: never, which is 0, comes last.
pub const fn in_order(end: u64) -> u64 {
    end.wrapping_sub(1)
}

/// Whether two ends, both kernel times, are the same but for clocks.
pub fn same_kernel_end(one: u64, other: u64) -> bool {
    match (one, other) {
        (0, _) | (_, 0) => one == other,
        _ => Duration::from_nanos(one.abs_diff(other)) <= DRIFT,
    }
}

/// Whether two ends, both of the wall clock, are the same but for clocks.
pub fn same_end(one: Option<SystemTime>, other: Option<SystemTime>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            let apart = one.duration_since(other);
            apart.unwrap_or_else(|error| error.duration()) <= DRIFT
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_of_never_outlasts_all_others_and_not_itself() {
        for (one, other, expected) in [
            (0, 0, false),
            (0, u64::MAX, true),
            (u64::MAX, 0, false),
            (2, 1, true),
            (1, 2, false),
            (1, 1, false),
        ] {
            assert_eq!(outlasts(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn ends_that_differ_by_how_long_an_answer_took_are_the_same_and_never_is_only_never() {
        const SECOND: u64 = 1_000_000_000;
        for (one, other, expected) in [
            (100, 101, true),
            (102, 100, true),
            (100, 103, false),
            (0, 0, true),
            (0, 1, false),
            (1, 0, false),
        ] {
            let (one_ns, other_ns) = (one * SECOND, other * SECOND);
            assert_eq!(same_kernel_end(one_ns, other_ns), expected, "{one} {other}");
            let wall = |seconds: u64| {
                (seconds != 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
            };
            assert_eq!(same_end(wall(one), wall(other)), expected, "{one} {other}");
        }
        assert!(!same_kernel_end(0, 1), "never is not soon");
    }
}
