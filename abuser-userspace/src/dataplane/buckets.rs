//! The bucket table, seen from the daemon: which limit keeps how many sources, and clearing
//! away what is past before the clock comes round to it again.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use abuser_common::{
    bucket::{self, SET_BITS, WORDS, ahead, slot_of},
    gcra::KernelTime,
    layout::{MAX_LIMITS, Scales, maps},
};
use aya::Ebpf;

use super::{error::DataplaneError, memory::Words};

/// Buckets that the table has room for.
pub const CAPACITY: usize = (WORDS as usize) << SET_BITS;

/// The least and the most time between two sweeps.
const SWEEP: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(250)..=Duration::from_secs(300);

/// How far other clocks may be behind ours: what is past for less is left to the next sweep.
const BEHIND_NS: u64 = 50_000_000;

/// The bucket table.
pub struct Buckets<M = Words>(M);

impl Buckets {
    pub(super) fn open(program: &mut Ebpf) -> Result<Self, DataplaneError> {
        Words::open(program, maps::BUCKETS, CAPACITY).map(Self)
    }
}

impl<M: std::ops::Deref<Target = [AtomicU64]>> Buckets<M> {
    /// Clears words whose buckets are full, and those of limits that are no more. A word
    /// that the program changes meanwhile is left to it.
    pub fn sweep(&self, scales: &Scales, now: KernelTime) {
        for word in self.0.iter() {
            let old = word.load(Ordering::Relaxed);
            if old == 0 {
                continue;
            }
            let scale = scales.get(slot_of(old));
            // On a short ring 50 ms may be a long way.
            let behind = BEHIND_NS.min(scale.ring_ns() / 16);
            let past = KernelTime(now.0.saturating_sub(behind));
            if !scale.is_used() || ahead(old, scale, past) == 0 {
                // It may have changed, and then it is not past.
                let _changed = word.compare_exchange(old, 0, Ordering::SeqCst, Ordering::Relaxed);
            }
        }
    }

    /// Clears all words of limits with these slots, which are about to have other limits.
    pub(super) fn clear(&self, slots: &[u8]) {
        for word in self.0.iter() {
            let old = word.load(Ordering::Relaxed);
            if old != 0 && slots.contains(&slot_of(old)) {
                let _changed = word.compare_exchange(old, 0, Ordering::SeqCst, Ordering::Relaxed);
            }
        }
    }

    /// How far the bucket of a packet's source is from full, in ticks of its limit.
    pub fn level(&self, packet: &bucket::Packet<'_>) -> u64 {
        let first = usize::try_from(packet.place.set()).unwrap_or_default() * WORDS as usize;
        let words = self
            .0
            .get(first..first + WORDS as usize)
            .unwrap_or_default();
        let words = words.iter().map(|word| word.load(Ordering::Relaxed));
        bucket::level(&words.collect::<Vec<_>>(), packet)
    }

    /// How many buckets are not full, by the slot of their limit.
    pub fn active(&self, scales: &Scales, now: KernelTime) -> [usize; MAX_LIMITS as usize] {
        let mut active = [0; MAX_LIMITS as usize];
        for word in self.0.iter() {
            let word = word.load(Ordering::Relaxed);
            let slot = slot_of(word);
            if bucket::ahead(word, scales.get(slot), now) != 0
                && let Some(active) = active.get_mut(usize::from(slot))
            {
                *active += 1;
            }
        }
        active
    }
}

/// How often to sweep so that no word ever comes round: four times while the fastest clock
/// goes round once.
pub fn sweep_interval(scales: &Scales) -> Duration {
    let Scales(scales) = scales;
    let ring_ns = scales
        .iter()
        .filter(|scale| scale.is_used())
        .map(|scale| scale.ring_ns())
        .min();
    let interval = Duration::from_nanos(ring_ns.unwrap_or(u64::MAX) / 4);
    interval.clamp(*SWEEP.start(), *SWEEP.end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use abuser_common::gcra::{RING, Rate};

    const SECOND: u64 = 1_000_000_000;

    /// A word of the limit with this slot whose `tat` is `ahead` ticks ahead.
    fn word(slot: u64, rate: &Rate, now: KernelTime, ahead: u64) -> AtomicU64 {
        AtomicU64::new(slot << 58 | 7 << 38 | (rate.scale.ticks(now) + ahead) & RING)
    }

    #[test]
    fn a_sweep_clears_what_is_past_or_nobody_s_and_leaves_the_rest() {
        let rate = Rate::new(1, SECOND, 10, 1).unwrap();
        let mut scales = Scales::default();
        scales.0[3] = rate.scale;
        let then = KernelTime(100 * SECOND);
        let buckets = Buckets(vec![
            word(3, &rate, then, 1),
            word(3, &rate, then, rate.window),
            word(4, &rate, then, rate.window),
            AtomicU64::new(0),
        ]);
        assert_eq!(buckets.active(&scales, then)[3], 2);
        let left = || -> Vec<_> {
            let words = buckets.0.iter();
            words
                .map(|word| word.load(Ordering::Relaxed) != 0)
                .collect()
        };
        // By a clock that is that far behind, the first is not past.
        buckets.sweep(&scales, KernelTime(then.0 + BEHIND_NS));
        assert_eq!(left(), [true, true, false, false]);
        buckets.sweep(&scales, KernelTime(then.0 + SECOND));
        assert_eq!(left(), [false, true, false, false]);
        assert_eq!(buckets.active(&scales, then)[3], 1);
        buckets.clear(&[3]);
        assert_eq!(buckets.active(&scales, then)[3], 0);
    }

    #[test]
    fn sweeps_come_four_times_a_turn_of_the_fastest_ring() {
        let mut scales = Scales::default();
        assert_eq!(sweep_interval(&scales), Duration::from_secs(300));
        scales.0[0] = Rate::new(1_000_000, SECOND, 100, 1).unwrap().scale;
        let interval = sweep_interval(&scales);
        assert!(interval * 4 <= Duration::from_nanos(scales.0[0].ring_ns()));
        assert!(interval < Duration::from_secs(300));
    }
}
