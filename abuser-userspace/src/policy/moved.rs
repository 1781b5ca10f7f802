//! A wall clock that was set, and times that it had told before.

use std::time::{Duration, SystemTime};

/// By how many milliseconds the wall clock was set forward; back, if it is less than 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved(pub i64);

impl Moved {
    /// What the clock would have shown then, had it been set before. A time that there cannot be stays.
    pub fn time(self, time: SystemTime) -> SystemTime {
        let by = Duration::from_millis(self.0.unsigned_abs());
        let moved = if self.0 < 0 {
            time.checked_sub(by)
                .filter(|moved| *moved >= SystemTime::UNIX_EPOCH)
        } else {
            time.checked_add(by)
        };
        moved.unwrap_or(time)
    }

    /// The same, as time since 1970. What never comes, which is the longest there is, stays so.
    pub fn since_epoch(self, time: Duration) -> Duration {
        if time == Duration::MAX {
            return time;
        }
        let by = Duration::from_millis(self.0.unsigned_abs());
        if self.0 < 0 {
            time.saturating_sub(by)
        } else {
            time.saturating_add(by)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn times_go_with_the_clock_and_never_stays_never() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(Moved(3_000).time(at(10)), at(13));
        assert_eq!(Moved(-3_000).time(at(10)), at(7));
        assert_eq!(Moved(-30_000).time(at(10)), at(10), "before 1970");
        let since = Duration::from_secs;
        assert_eq!(Moved(3_000).since_epoch(since(10)), since(13));
        assert_eq!(Moved(-30_000).since_epoch(since(10)), since(0));
        assert_eq!(Moved(-1).since_epoch(Duration::MAX), Duration::MAX);
    }
}
