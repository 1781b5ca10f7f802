//! Who met limits and bans most of late, in bounded memory whoever comes: a summary of heavy
//! hitters (Space-Saving: Metwally, Agrawal, El Abbadi, 2005), fed by events.
//!
//! A source that there is no room for takes the place of the lightest one, and inherits its weight,
//! so none that is heavy is missed. Weights fade: after a minute a packet counts half. To that end
//! later packets weigh more, and what is there is not touched (forward decay: Cormode et al., 2009).
//! The weight only says who stays; what is told of a source are packets that events told of while it
//! was remembered, so never too many.

use std::collections::{BTreeSet, HashMap};

use abuser_common::{event::Verdict, prefix::PrefixKey};

/// Sources that are remembered.
pub(super) const CAPACITY: usize = 4096;

/// Packets of this time are recent, in seconds.
pub(super) const WINDOW_SECONDS: u64 = BIN_SECONDS * BINS;

/// The time that one bin counts, and how many of them there are.
const BIN_SECONDS: u64 = 5;
const BINS: u64 = 12;
const SLOTS: usize = 12;
const _: () = assert!(SLOTS as u64 == BINS);
/// Whole bins that a rate is taken over, besides the one that is being filled.
const RATE_BINS: u64 = 2;

const SECOND_NS: u64 = 1_000_000_000;
const BIN_NS: u64 = BIN_SECONDS * SECOND_NS;

/// The seconds after which a packet counts half.
const HALF_LIFE: f64 = 60.0;

/// Half-lives after which weights are written down again, long before they overflow.
const FURTHEST: f64 = 512.0;

/// What an event tells of a source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met {
    /// Who was charged.
    pub(super) source: PrefixKey,
    /// What became of the packets.
    pub(super) verdict: Verdict,
    /// How many there were.
    pub(super) packets: u64,
    /// The limit they were over, by its id; without one, it was a ban.
    pub(super) limit: Option<u64>,
    /// Whether the source is known to be no forgery, if that was asked.
    pub(super) verified: Option<bool>,
    /// Kernel time in nanoseconds.
    pub(super) time_ns: u64,
}

/// What is remembered of a source.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its weight, as the bits of a number that is not negative: they have the same order.
    weight: u64,
    /// Packets that were dropped, only observed, or passed by the allow list.
    pub(super) dropped: u64,
    pub(super) observed: u64,
    pub(super) allowed: u64,
    /// Kernel times of the first and the last event.
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    /// The limit that it was over last.
    pub(super) limit: Option<u64>,
    /// What its last event under a limit said.
    pub(super) verified: Option<bool>,
    /// Packets by the time of their event; the newest bin's number is `newest`.
    bins: [u64; SLOTS],
    newest: u64,
}

impl Entry {
    fn new(met: &Met) -> Self {
        Self {
            weight: 0,
            dropped: 0,
            observed: 0,
            allowed: 0,
            first_ns: met.time_ns,
            last_ns: met.time_ns,
            limit: None,
            verified: None,
            bins: [0; SLOTS],
            newest: met.time_ns / BIN_NS,
        }
    }

    fn bin(&mut self, number: u64) -> Option<&mut u64> {
        let index = usize::try_from(number % BINS).ok()?;
        self.bins.get_mut(index)
    }

    fn add(&mut self, met: &Met) {
        let total = match met.verdict {
            Verdict::Drop => &mut self.dropped,
            Verdict::Observe => &mut self.observed,
            Verdict::Allow => &mut self.allowed,
        };
        *total = total.saturating_add(met.packets);
        self.first_ns = self.first_ns.min(met.time_ns);
        self.last_ns = self.last_ns.max(met.time_ns);
        self.limit = met.limit.or(self.limit);
        self.verified = met.verified.or(self.verified);
        let number = met.time_ns / BIN_NS;
        let passed = number.saturating_sub(self.newest).min(BINS);
        for later in 0..passed {
            if let Some(bin) = self.bin(number - later) {
                *bin = 0;
            }
        }
        self.newest = self.newest.max(number);
        if number + BINS > self.newest
            && let Some(bin) = self.bin(number)
        {
            *bin = bin.saturating_add(met.packets);
        }
    }

    /// Packets in the last `bins` bins, the one that is being filled included.
    fn within(&self, bins: u64, now_ns: u64) -> u64 {
        let now = (now_ns / BIN_NS).max(self.newest);
        let first = (now + 1).saturating_sub(bins);
        let oldest = (self.newest + 1).saturating_sub(BINS);
        (first.max(oldest)..=self.newest)
            .filter_map(|number| self.bins.get(usize::try_from(number % BINS).ok()?))
            .fold(0, |sum, bin| sum.saturating_add(*bin))
    }

    /// Packets within [`WINDOW_SECONDS`].
    pub(super) fn recent(&self, now_ns: u64) -> u64 {
        self.within(BINS, now_ns)
    }

    /// Packets a second, over the last ten seconds or a little more.
    #[expect(clippy::cast_precision_loss, reason = "a rate is for people")]
    pub(super) fn rate(&self, now_ns: u64) -> f64 {
        let over = RATE_BINS * BIN_NS + now_ns % BIN_NS;
        // A source that has just come was not silent before.
        let known = now_ns.saturating_sub(self.first_ns).max(SECOND_NS);
        let seconds = over.min(known) as f64 / SECOND_NS as f64;
        self.within(RATE_BINS + 1, now_ns) as f64 / seconds
    }
}

/// The sources that met most.
#[derive(Debug)]
pub(in super::super) struct Summary {
    entries: HashMap<PrefixKey, Entry, foldhash::fast::RandomState>,
    /// The same sources, the lightest first.
    by_weight: BTreeSet<(u64, PrefixKey)>,
    capacity: usize,
    /// Where weights begin to grow, in nanoseconds of kernel time.
    landmark_ns: u64,
}

impl Default for Summary {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl Summary {
    fn new(capacity: usize) -> Self {
        Self {
            entries: HashMap::default(),
            by_weight: BTreeSet::new(),
            capacity,
            landmark_ns: 0,
        }
    }

    /// Sources that are remembered.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes in an event.
    pub(super) fn add(&mut self, met: &Met) {
        let growth = self.growth(met.time_ns);
        #[expect(clippy::cast_precision_loss, reason = "a weight is a guess anyway")]
        let gained = met.packets as f64 * growth.exp2();
        if !self.entries.contains_key(&met.source) {
            let inherited = self.make_room();
            let entry = Entry {
                weight: inherited,
                ..Entry::new(met)
            };
            self.entries.insert(met.source, entry);
        }
        let Some(entry) = self.entries.get_mut(&met.source) else {
            return;
        };
        entry.add(met);
        self.by_weight.remove(&(entry.weight, met.source));
        entry.weight = (f64::from_bits(entry.weight) + gained).to_bits();
        self.by_weight.insert((entry.weight, met.source));
    }

    /// How many half-lives weights have grown since the landmark, which is moved if it is too far.
    fn growth(&mut self, time_ns: u64) -> f64 {
        let growth = half_lives(time_ns, self.landmark_ns);
        if growth <= FURTHEST {
            return growth;
        }
        self.landmark_ns = time_ns;
        let shrink = (-growth).exp2();
        for entry in self.entries.values_mut() {
            entry.weight = (f64::from_bits(entry.weight) * shrink).to_bits();
        }
        let weights = self.entries.iter();
        self.by_weight = weights.map(|(source, e)| (e.weight, *source)).collect();
        0.0
    }

    /// Makes room for one more; the weight of whoever had to go.
    fn make_room(&mut self) -> u64 {
        if self.entries.len() < self.capacity {
            return 0;
        }
        let Some((weight, source)) = self.by_weight.pop_first() else {
            return 0;
        };
        self.entries.remove(&source);
        weight
    }

    /// The sources with most recent packets, the first with the most of them; at most `count`, and
    /// none without any.
    pub(super) fn busiest(&self, count: usize, now_ns: u64) -> Vec<(PrefixKey, Entry)> {
        let recent = self.entries.iter();
        let recent = recent.map(|(source, entry)| (entry.recent(now_ns), *source));
        let mut recent: Vec<_> = recent.filter(|(recent, _)| *recent > 0).collect();
        recent.sort_unstable_by(|one, other| other.cmp(one));
        recent.truncate(count);
        recent
            .into_iter()
            .filter_map(|(_, source)| Some((source, self.entries.get(&source)?.clone())))
            .collect()
    }
}

/// Half-lives from `earlier` to a time; negative if that is before it.
#[expect(clippy::cast_precision_loss, reason = "a microsecond does not matter")]
fn half_lives(time_ns: u64, earlier: u64) -> f64 {
    let after = time_ns.saturating_sub(earlier) as f64;
    let before = earlier.saturating_sub(time_ns) as f64;
    (after - before) / SECOND_NS as f64 / HALF_LIFE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> PrefixKey {
        PrefixKey::new([203, 0, 113, number].into(), 32).unwrap()
    }

    fn met(source: u8, packets: u64, second: u64) -> Met {
        Met {
            source: key(source),
            verdict: Verdict::Drop,
            packets,
            limit: Some(7),
            verified: None,
            time_ns: second * SECOND_NS,
        }
    }

    #[test]
    fn what_is_recent_is_forgotten_after_a_minute_and_the_total_is_not() {
        let mut summary = Summary::new(10);
        summary.add(&met(1, 100, 1000));
        summary.add(&met(1, 20, 1030));
        summary.add(&met(2, 50, 1030));
        let told = |second| {
            let busiest = summary.busiest(9, second * SECOND_NS).into_iter();
            let told = busiest.map(|(source, e)| (source, e.recent(second * SECOND_NS), e.dropped));
            told.collect::<Vec<_>>()
        };
        assert_eq!(told(1030), [(key(1), 120, 120), (key(2), 50, 50)]);
        assert_eq!(told(1065), [(key(2), 50, 50), (key(1), 20, 120)]);
        assert_eq!(told(1095), []);
    }

    #[test]
    fn a_rate_is_over_the_last_seconds_or_since_the_source_came() {
        let mut summary = Summary::new(10);
        summary.add(&met(1, 1, 1000));
        for second in 1001..=1100 {
            summary.add(&met(1, 30, second));
        }
        let rate = |second| summary.entries[&key(1)].rate(second * SECOND_NS);
        assert!((rate(1100) - 30.0).abs() < 4.0, "{}", rate(1100));
        assert!(rate(1120) < 0.1, "{}", rate(1120));
        summary.add(&met(2, 300, 2000));
        let fresh = summary.entries[&key(2)].rate(2002 * SECOND_NS);
        assert!((fresh - 150.0).abs() < 1.0, "{fresh}");
    }

    #[test]
    fn an_event_that_comes_late_counts_where_it_belongs() {
        let mut summary = Summary::new(10);
        summary.add(&met(1, 10, 1100));
        summary.add(&met(1, 5, 1090));
        summary.add(&met(1, 7, 900));
        let entry = &summary.entries[&key(1)];
        assert_eq!(entry.recent(1100 * SECOND_NS), 15);
        assert_eq!(entry.recent(1151 * SECOND_NS), 10);
        assert_eq!(entry.dropped, 22);
    }

    #[test]
    fn the_heavy_of_long_ago_make_room_for_the_light_of_today() {
        let mut summary = Summary::new(4);
        for source in 0..4 {
            summary.add(&met(source, 1_000_000, 0));
        }
        // More than weights could grow without being written down again.
        let today = 200_000;
        for source in 10..14 {
            summary.add(&met(source, 5, today));
            summary.add(&met(source, 5, today + 1));
        }
        let busiest = summary.busiest(9, (today + 1) * SECOND_NS);
        let totals: Vec<_> = busiest.iter().map(|(_, entry)| entry.dropped).collect();
        assert_eq!(totals, [10; 4]);
    }

    proptest! {
        /// Whoever weighs more than its share of the table is in it; what is told of anybody was.
        #[test]
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        fn no_heavy_source_is_missed_and_none_is_told_more_of_than_there_was(
            events in proptest::collection::vec((0_u8..40, 1_u64..50, 0_u64..40), 1..400),
            capacity in 1_usize..12,
        ) {
            let mut summary = Summary::new(capacity);
            let mut exact = HashMap::<u8, (f64, u64)>::new();
            let (mut second, mut total) = (0, 0.0);
            for (source, packets, later) in events {
                // Now and then an hour passes, so that weights are written down again.
                second += if later == 39 { 60_000 } else { later };
                summary.add(&met(source, packets, second));
                for (weight, _) in exact.values_mut() {
                    *weight *= (-(if later == 39 { 60_000 } else { later } as f64) / HALF_LIFE).exp2();
                }
                let known = exact.entry(source).or_default();
                known.0 += packets as f64;
                known.1 += packets;
                total = exact.values().map(|(weight, _)| weight).sum();
            }
            prop_assert!(summary.len() <= capacity);
            prop_assert_eq!(summary.len(), summary.by_weight.len());
            for (source, (weight, packets)) in exact {
                let entry = summary.entries.get(&key(source));
                // A thousandth for rounding.
                if weight > total / capacity as f64 * 1.001 {
                    prop_assert!(entry.is_some(), "{source} weighs {weight} of {total}");
                }
                if let Some(entry) = entry {
                    prop_assert!(entry.dropped <= packets);
                    prop_assert!(entry.recent(second * SECOND_NS) <= entry.dropped);
                }
            }
        }
    }
}
