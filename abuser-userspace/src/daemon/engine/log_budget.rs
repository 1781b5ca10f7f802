//! What attackers cause by the thousand is not all written to the log, which would fill the disk: so
//! many lines in a second, and then how many more there were.

use std::time::{Duration, Instant};

/// Lines in a second.
const LINES: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);

/// How many lines the log may still have.
#[derive(Debug)]
pub(super) struct LogBudget {
    since: Instant,
    left: u32,
    unsaid: u64,
}

impl LogBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            left: LINES,
            unsaid: 0,
        }
    }

    /// Whether there may be another line.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= SECOND {
            (self.since, self.left) = (now, LINES);
        }
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            return true;
        }
        self.unsaid += 1;
        false
    }

    /// How many lines there would have been since this was asked last, and were not.
    pub(super) fn take_unsaid(&mut self) -> u64 {
        std::mem::take(&mut self.unsaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_others_are_counted() {
        let start = Instant::now();
        let mut budget = LogBudget::new(start);
        let taken = |budget: &mut LogBudget, at| (0..50).filter(|_| budget.take(at)).count();
        assert_eq!(taken(&mut budget, start), 20);
        assert_eq!(taken(&mut budget, start + SECOND / 2), 0);
        assert_eq!(budget.take_unsaid(), 80);
        assert_eq!(budget.take_unsaid(), 0);
        assert_eq!(taken(&mut budget, start + SECOND), 20);
    }
}
