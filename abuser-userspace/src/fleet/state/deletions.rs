//! What a node has taken back: remembered for a while, so that a value that comes after its deletion and is
//! older does not bring back what is gone.
//!
//! Of too many, the oldest are forgotten first. Then a late value holds until the bucket, which is heard in
//! its order, tells of the deletion again.

use std::collections::{BTreeSet, HashMap};

use super::super::wire::Topic;

/// How long a deletion is remembered, in milliseconds: what is older than it comes within seconds.
pub(super) const REMEMBERED: u64 = 60_000;
/// Deletions of one node that are remembered at most.
pub(super) const MAX_REMEMBERED: usize = 10_000;

/// Deletions of one node.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    /// Their numbers, and until when they are remembered.
    latest: HashMap<Topic, (u64, u64)>,
    /// The same, the first to be forgotten first.
    ends: BTreeSet<(u64, Topic)>,
}

impl Deletions {
    /// Whether what has this number was taken back.
    pub(super) fn covers(&self, topic: &Topic, seq: u64) -> bool {
        let deleted = self.latest.get(topic);
        deleted.is_some_and(|(deleted, _)| *deleted >= seq)
    }

    pub(super) fn remember(&mut self, topic: Topic, seq: u64, now: u64) {
        let end = now.saturating_add(REMEMBERED);
        let before = self.latest.insert(topic, (seq, end));
        if let Some((known, end_before)) = before {
            self.ends.remove(&(end_before, topic));
            self.latest.insert(topic, (known.max(seq), end));
        }
        self.ends.insert((end, topic));
        if self.ends.len() > MAX_REMEMBERED
            && let Some((_, oldest)) = self.ends.pop_first()
        {
            self.latest.remove(&oldest);
        }
    }

    pub(super) fn pass_time(&mut self, now: u64) {
        while let Some((end, topic)) = self.ends.first().copied()
            && end <= now
        {
            self.ends.pop_first();
            self.latest.remove(&topic);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use abuser_common::prefix::PrefixKey;

    use super::*;
    use crate::fleet::wire::Kind;

    fn topic(number: usize) -> Topic {
        let [high, low] = [number >> 8, number & 0xff].map(|byte| u8::try_from(byte).unwrap());
        Topic {
            kind: Kind::Ban,
            source: PrefixKey::new([198, 18, high, low].into(), 32).unwrap(),
        }
    }

    #[test]
    fn the_latest_number_is_remembered_for_a_minute() {
        let mut deletions = Deletions::default();
        deletions.remember(topic(1), 7, 0);
        deletions.remember(topic(1), 5, 1000);
        deletions.pass_time(REMEMBERED);
        assert!(deletions.covers(&topic(1), 7) && !deletions.covers(&topic(1), 8));
        deletions.pass_time(REMEMBERED + 1000);
        assert!(!deletions.covers(&topic(1), 7) && deletions.is_empty());
    }

    #[test]
    fn of_any_number_of_deletions_the_latest_ones_are_remembered() {
        let mut deletions = Deletions::default();
        for round in 0..3 {
            for number in 0..MAX_REMEMBERED + 100 {
                deletions.remember(topic(number), round, round);
            }
        }
        assert_eq!(deletions.ends.len(), MAX_REMEMBERED);
        assert_eq!(deletions.latest.len(), MAX_REMEMBERED);
        assert!(deletions.covers(&topic(MAX_REMEMBERED + 99), 2));
    }
}
