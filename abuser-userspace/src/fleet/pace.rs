//! How soon something that others can cause is done again.
//!
//! At once after a while of rest; without one after a pause, twice as long each time. So what happens now
//! and then waits for nothing, and whoever causes it without end has it done ever more rarely.

use std::time::{Duration, Instant};

use crate::outbound::backoff;

/// How many times as long as the last pause a rest is.
const REST: u32 = 4;
/// The shortest rest.
const SHORTEST_REST: Duration = Duration::from_secs(2);

/// When it was done last, and how often without a rest.
#[derive(Debug)]
pub(super) struct Pace {
    longest: Duration,
    count: u32,
    pause: Duration,
    last: Option<Instant>,
}

impl Pace {
    /// With no longer pauses than that.
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            longest,
            count: 0,
            pause: Duration::ZERO,
            last: None,
        }
    }

    /// When it may be done, now that there is a reason to; it counts as done then. `chance` is as for
    /// [`backoff`].
    pub(super) fn next(&mut self, now: Instant, chance: f64) -> Instant {
        let rest = (self.pause * REST).max(SHORTEST_REST);
        if self.last.is_none_or(|last| now >= last + rest) {
            (self.count, self.pause) = (0, Duration::ZERO);
        } else {
            self.count = self.count.saturating_add(1);
            self.pause = backoff(self.count, self.longest, chance);
        }
        let time = now + self.pause;
        self.last = Some(time);
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(300);

    #[test]
    fn what_has_rested_is_done_at_once_and_what_is_caused_without_end_ever_more_rarely() {
        let mut pace = Pace::new(LONGEST);
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let time = pace.next(now, 1.0);
            pauses.push((time - now).as_secs());
            now = time + Duration::from_secs(1);
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        now += LONGEST * REST;
        assert_eq!(pace.next(now, 1.0), now);
    }

    #[test]
    fn what_happens_now_and_then_waits_no_longer_than_a_part_of_the_time_between() {
        let mut pace = Pace::new(LONGEST);
        let start = Instant::now();
        for round in 0..100 {
            let now = start + Duration::from_secs(60) * round;
            assert!(pace.next(now, 1.0) - now <= Duration::from_secs(16));
        }
    }
}
