//! How many hits there were in an interval that starts with one: what Snort counts with.

use super::Kind;
use crate::{detect::table::Weigh, time::Time};

/// The hits of one source in the interval that goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interval {
    start: u64,
    newest: u64,
    /// 0 before the first hit, and when `threshold` has found something.
    count: u32,
    /// In the interval before, if this one followed it without a pause.
    previous: u32,
}

impl Weigh for Interval {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Interval {
    /// Takes note of a hit; how many there were in the interval if this one is found.
    pub(super) fn hit(&mut self, at: Time, kind: Kind, count: u32, within_ms: u64) -> Option<u32> {
        let at = at.0;
        let is_first = *self == Self::default();
        if is_first || self.start.abs_diff(at) >= within_ms {
            // `abs_diff`: an interval that starts much later than this hit was before the clock was set back.
            let paused = is_first || self.newest.abs_diff(at) > within_ms;
            self.previous = if paused { 0 } else { self.count };
            self.start = at;
            self.newest = at;
            self.count = 1;
        } else {
            self.count = self.count.saturating_add(1);
            self.newest = self.newest.max(at);
        }
        let hits = self.count;
        let found = match kind {
            // Windows, not intervals, count for it.
            Kind::Maxretry => false,
            Kind::Limit => hits <= count,
            Kind::Threshold => hits >= count,
            Kind::Both => hits == count,
            Kind::DetectionFilter => hits > count || self.previous > count,
        };
        if found && kind == Kind::Threshold {
            self.start = at;
            self.count = 0;
        }
        found.then_some(hits)
    }

    /// As if there had been as many hits as can be counted.
    #[cfg(test)]
    pub(super) fn exhaust(&mut self) {
        self.count = u32::MAX;
    }
}
