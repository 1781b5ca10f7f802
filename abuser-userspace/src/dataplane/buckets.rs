//! The bucket table, seen from the daemon: which limit keeps how many sources, and clearing
//! away what is past before the clock comes round to it again.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use abuser_common::{
    bucket::{self, Inverse, Key, Packet, Place, SET_BITS, WORDS, ahead, slot_of, used},
    gcra::KernelTime,
    layout::{MAX_LIMITS, Scales, maps},
    prefix::{PrefixKey, Source},
};
use aya::Ebpf;

use super::{error::DataplaneError, limits::LoadedLimit, memory::Words};

/// Buckets that the table has room for.
pub const CAPACITY: usize = (WORDS as usize) << SET_BITS;

/// The least and the most time between two sweeps.
const SWEEP: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(250)..=Duration::from_secs(300);

/// How far other clocks may be behind ours: what is past for less is left to the next sweep.
const BEHIND_NS: u64 = 50_000_000;

/// The bucket table.
pub struct Buckets<M = Words>(M);

/// Whose bucket lies where.
#[derive(Debug, Clone, Copy)]
pub struct Owners {
    key: Key,
    inverse: Inverse,
}

impl Owners {
    /// By the key of the table.
    pub fn new(key: Key) -> Self {
        Self {
            key,
            inverse: Inverse::new(&key),
        }
    }
}

/// A bucket that is not full.
#[derive(Debug, Clone, Copy)]
pub struct Charged<'a> {
    /// The limit.
    pub limit: &'a LoadedLimit,
    /// Whose it is, as the limit counts it.
    pub source: PrefixKey,
    /// How far it is from full, in ticks of the limit.
    pub ahead: u64,
}

impl Buckets {
    pub(super) fn open(program: &mut Ebpf) -> Result<Self, DataplaneError> {
        Words::open(program, maps::BUCKETS, CAPACITY).map(Self)
    }
}

impl<M: std::ops::Deref<Target = [AtomicU64]>> Buckets<M> {
    /// Clears words whose buckets are full, and those of limits that are no more. A word
    /// that the program changes meanwhile is left to it.
    pub fn sweep(&self, scales: &Scales, now: KernelTime) {
        for (_, word, old) in used(&self.0) {
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
        if slots.is_empty() {
            return;
        }
        for (_, word, old) in used(&self.0) {
            if slots.contains(&slot_of(old)) {
                let _changed = word.compare_exchange(old, 0, Ordering::SeqCst, Ordering::Relaxed);
            }
        }
    }

    /// How far the bucket of a source under a limit is from full, in ticks of the limit; the
    /// source is masked as the limit says.
    pub fn level(
        &self,
        owners: &Owners,
        limit: &LoadedLimit,
        source: &Source,
        now: KernelTime,
    ) -> u64 {
        let rate = limit.config.rate();
        let packet = &Packet {
            slot: limit.slot,
            rate: &rate,
            place: Place::new(&owners.key, limit.slot, source),
            now,
            cost: 0,
        };
        let first = usize::try_from(packet.place.set()).unwrap_or_default() * WORDS as usize;
        let words = self
            .0
            .get(first..first + WORDS as usize)
            .unwrap_or_default();
        let words = words.iter().map(|word| word.load(Ordering::Relaxed));
        bucket::level(&words.collect::<Vec<_>>(), packet)
    }

    /// The buckets of IPv4 sources with the least left of what their limit grants, the emptiest
    /// first; at most `count`. Takes milliseconds.
    pub fn fullest<'a>(
        &self,
        owners: &Owners,
        limits: &'a [LoadedLimit],
        now: KernelTime,
        count: usize,
    ) -> Vec<Charged<'a>> {
        /// What is used of a whole bucket is told in these parts of it.
        const PARTS: u64 = 1 << 16;
        let mut by_slot = [None; MAX_LIMITS as usize];
        for limit in limits {
            let rate = limit.config.rate();
            // In ticks: what has to be paid for at most.
            let whole = (rate.window + (rate.period >> 8)).max(1);
            if let Some(place) = by_slot.get_mut(usize::from(limit.slot)) {
                *place = Some((limit, rate.scale, whole));
            }
        }
        // The least used of those that are kept comes first.
        let mut kept: BinaryHeap<Reverse<(u64, PrefixKey, u8, u64)>> =
            BinaryHeap::with_capacity(count + 1);
        for (index, _, word) in used(&self.0) {
            let Some((_, scale, whole)) =
                by_slot.get(usize::from(slot_of(word))).copied().flatten()
            else {
                continue;
            };
            let ahead = ahead(word, scale, now);
            let used = ahead * PARTS / whole;
            let least = kept.peek().map(|Reverse((used, ..))| *used);
            if ahead == 0 || (kept.len() >= count && Some(used) <= least) {
                continue;
            }
            let set = u32::try_from(index / WORDS as usize).unwrap_or_default();
            let Some(source) = owners.inverse.ipv4(set, word) else {
                continue;
            };
            kept.push(Reverse((used, source.host(), slot_of(word), ahead)));
            if kept.len() > count {
                kept.pop();
            }
        }
        kept.into_sorted_vec()
            .into_iter()
            .filter_map(|Reverse((_, source, slot, ahead))| {
                let (limit, ..) = by_slot.get(usize::from(slot)).copied().flatten()?;
                let source = source.source()?.prefix(limit.config.ipv4_prefix);
                Some(Charged {
                    limit,
                    source,
                    ahead,
                })
            })
            .collect()
    }

    /// How many buckets are not full, by the slot of their limit.
    pub fn active(&self, scales: &Scales, now: KernelTime) -> [usize; MAX_LIMITS as usize] {
        let mut active = [0; MAX_LIMITS as usize];
        for (_, _, word) in used(&self.0) {
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
    fn the_fullest_buckets_are_told_with_their_ipv4_sources_whatever_their_limit() {
        let text = "[[limit]]\nname = \"a\"\nrate = \"1/h\"\nburst = 9\n\
                    [[limit]]\nname = \"b\"\nrate = \"1000/s\"\nburst = 99999\nipv4_prefix = 24\n";
        let config = crate::config::parse(text, std::path::Path::new("test.toml")).unwrap();
        let limits: Vec<_> = (0_u8..)
            .zip(&config.limits)
            .map(|(number, config)| LoadedLimit {
                config: config.clone(),
                id: u64::from(number) + 1,
                slot: number + 3,
            })
            .collect();
        let owners = Owners::new(Key([3, 1, 4, 1_592_653]));
        let now = KernelTime(1000 * SECOND);
        let words = (0..CAPACITY).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        // Each has used so many of ten parts of its bucket, but for those of nobody.
        let charge = |slot: u8, source: &str, parts: u64| {
            let source: std::net::IpAddr = source.parse().unwrap();
            let source = Source::from(source);
            let limit = limits.iter().find(|limit| limit.slot == slot);
            let rate = limit.unwrap_or(&limits[0]).config.rate();
            let place = Place::new(&owners.key, slot, &source);
            let tag = place.bits() & 0xf_ffff;
            let ahead = rate.window / 10 * parts;
            let tat = (rate.scale.ticks(now) + ahead) & RING;
            let index = place.set() as usize * WORDS as usize + 5;
            words[index].store(u64::from(slot) << 58 | tag << 38 | tat, Ordering::Relaxed);
        };
        charge(3, "192.0.2.1", 3);
        charge(4, "198.51.100.0", 8);
        charge(3, "192.0.2.3", 5);
        charge(4, "2001:db8::", 9);
        charge(9, "192.0.2.9", 9);
        let buckets = Buckets(words);
        let told = |count| -> Vec<_> {
            let fullest = buckets.fullest(&owners, &limits, now, count);
            let told = fullest.into_iter().map(|charged| {
                let address = charged.source.address().unwrap().to_string();
                (charged.limit.slot, address, charged.source.length)
            });
            told.collect()
        };
        let all = [
            (4, "198.51.100.0", 24),
            (3, "192.0.2.3", 32),
            (3, "192.0.2.1", 32),
        ];
        let all = all.map(|(slot, address, length)| (slot, address.to_owned(), length));
        assert_eq!(told(9), all);
        assert_eq!(told(2), all[..2]);
        assert_eq!(told(0), []);
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
