//! How often a node may speak: so often a second, and so often at once.

/// Values and deletions of one node that are looked at in a second.
const RATE: u64 = 5_000;
/// And at once as it says them: a tenth of a second of a flood is more than a busy node has to say.
pub(super) const LIVE: u64 = 20_000;
/// And at once from the bucket, which has all that a node has said for days, whether or not it is over.
pub(super) const KEPT: u64 = 1_000_000;

/// What a node may still say.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
    most: u64,
    /// Until when what is earned is in `left`, in milliseconds since 1970.
    since: u64,
}

impl Budget {
    pub(super) fn new(most: u64, now: u64) -> Self {
        Self {
            left: most,
            most,
            since: now,
        }
    }

    /// Whether there may be another word, which is paid for then.
    pub(super) fn spend(&mut self, now: u64) -> bool {
        self.earn(now);
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// Whether who has said too much has been quiet since, for long enough that another word is not too
    /// much again.
    pub(super) fn has_recovered(&mut self, now: u64) -> bool {
        self.earn(now);
        self.left >= self.most / 2
    }

    /// Makes it whole.
    pub(super) fn refill(&mut self) {
        self.left = self.most;
    }

    fn earn(&mut self, now: u64) {
        let earned = now.saturating_sub(self.since).saturating_mul(RATE) / 1000;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(self.most);
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_at_once_then_so_much_a_second_and_more_when_it_was_quiet() {
        let mut budget = Budget::new(LIVE, 0);
        let spent = |budget: &mut Budget, now| (0..2 * LIVE).filter(|_| budget.spend(now)).count();
        assert_eq!(spent(&mut budget, 0) as u64, LIVE);
        assert_eq!(spent(&mut budget, 1000) as u64, RATE);
        assert!(!budget.has_recovered(2000));
        assert!(budget.has_recovered(1000 + LIVE / 2 * 1000 / RATE));
        assert_eq!(spent(&mut budget, 1_000_000) as u64, LIVE, "and no more");
        budget.refill();
        assert_eq!(spent(&mut budget, 1_000_000) as u64, LIVE);
    }
}
