//! How long to leave somebody alone who does not answer.

use std::time::Duration;

use crate::outbound::backoff;

/// At most: who is back is to be caught up with soon.
const LONGEST: Duration = Duration::from_secs(60);

/// Twice as long each time, within bounds.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// There was an answer.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after another failure. `jitter`, from 0 to 1, has those who lost somebody at the
    /// same moment come back at different ones.
    pub(super) fn next(&mut self, jitter: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        backoff(self.failures, LONGEST, jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_twice_as_long_each_time_up_to_a_minute_and_begins_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.next(0.0), LONGEST / 2);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(500));
    }
}
