//! What is known of bans besides what the map holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::SystemTime,
};

use abuser_common::{
    gcra::KernelTime,
    layout::{Ban, BanCause},
    prefix::PrefixKey,
};

use super::clocks::after_sleep;
use crate::{
    dataplane::wall_clock,
    metrics::CountedBans,
    policy::Moved,
    store::{BanRow, rows::BanNote},
};

/// One ban.
#[derive(Debug, Clone)]
pub(super) struct BanRecord {
    pub(super) id: u64,
    /// As in the map: kernel time in nanoseconds, 0 for never.
    pub(super) expires_ns: u64,
    /// `None` for one that was found in the kernel and nowhere else.
    pub(super) created: Option<SystemTime>,
    /// The offences that led to it.
    pub(super) offences: u32,
    pub(super) note: Arc<BanNote>,
}

impl BanRecord {
    /// As the map has it, with the hits of the entry that is there.
    pub(super) fn entry(&self, there: Option<Ban>) -> Ban {
        Ban {
            id: self.id,
            expires_ns: self.expires_ns,
            cause: self.note.cause as u64,
            ..there.unwrap_or_default()
        }
    }

    /// When it ends, as people tell time; `None`: never.
    pub(super) fn expires(&self) -> Option<SystemTime> {
        (self.expires_ns != 0).then(|| wall_clock(KernelTime(self.expires_ns)))
    }

    /// As the store has it.
    pub(super) fn row(&self, source: &PrefixKey) -> BanRow {
        BanRow {
            id: self.id,
            source: *source,
            created: self.created,
            expires: self.expires(),
            offences: self.offences,
            note: Arc::clone(&self.note),
        }
    }
}

/// When a ban ends, and whose it is.
pub(super) type Ending = (u64, PrefixKey);

/// The books of all bans, by source.
#[derive(Debug, Default)]
pub(super) struct Books {
    records: BTreeMap<PrefixKey, BanRecord>,
    /// Bans that end, the first to end first.
    expiries: BTreeSet<Ending>,
    last_id: u64,
    tallies: Tallies,
}

/// How many bans there are of each cause, and were made: whoever asks is not to walk through a million.
#[derive(Debug, Clone, Copy, Default)]
struct Tallies([Tally; BanCause::ALL.len()]);

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    there: usize,
    made: u64,
}

impl Tallies {
    fn change(&mut self, cause: BanCause, change: impl FnOnce(&mut Tally)) {
        let tallies = BanCause::ALL.into_iter().zip(&mut self.0);
        if let Some((_, tally)) = tallies.into_iter().find(|(known, _)| *known == cause) {
            change(tally);
        }
    }
}

impl Books {
    /// The books of these bans; a number up to `last_id` is not given again.
    pub(super) fn new(records: BTreeMap<PrefixKey, BanRecord>, last_id: u64) -> Self {
        let expiries = records
            .iter()
            .filter(|(_, record)| record.expires_ns != 0)
            .map(|(key, record)| (record.expires_ns, *key));
        let highest = records.values().map(|record| record.id).max();
        let mut tallies = Tallies::default();
        for record in records.values() {
            tallies.change(record.note.cause, |tally| tally.there += 1);
        }
        Self {
            expiries: expiries.collect(),
            last_id: last_id.max(highest.unwrap_or_default()),
            records,
            tallies,
        }
    }

    pub(super) fn get(&self, key: &PrefixKey) -> Option<&BanRecord> {
        self.records.get(key)
    }

    pub(super) fn contains(&self, key: &PrefixKey) -> bool {
        self.records.contains_key(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PrefixKey, &BanRecord)> {
        self.records.iter()
    }

    /// At most `count` bans after the one of `after`, or from the first on, by source.
    pub(super) fn page(
        &self,
        after: Option<PrefixKey>,
        count: usize,
    ) -> impl Iterator<Item = (&PrefixKey, &BanRecord)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.records.range((from, Bound::Unbounded)).take(count)
    }

    /// How many bans are in force at `now_ns`.
    pub(super) fn count(&self, now_ns: u64) -> usize {
        self.records.len() - self.ending(now_ns).count()
    }

    /// How many bans there are of each cause, those included that are over and not removed yet; and
    /// how many were made.
    pub(super) fn by_cause(&self) -> impl Iterator<Item = CountedBans> {
        let tallies = BanCause::ALL.into_iter().zip(self.tallies.0);
        tallies.map(|(cause, Tally { there, made })| CountedBans {
            cause,
            in_force: there,
            made,
        })
    }

    /// Has all bans that end do so this much earlier, by the kernel's clock.
    pub(super) fn after_sleep(&mut self, slept_ns: u64) {
        self.expiries.clear();
        for (key, record) in &mut self.records {
            record.expires_ns = after_sleep(record.expires_ns, slept_ns);
            if record.expires_ns != 0 {
                self.expiries.insert((record.expires_ns, *key));
            }
        }
    }

    /// Has what is told of bans follow a wall clock that was set.
    pub(super) fn step(&mut self, moved: Moved) {
        for record in self.records.values_mut() {
            record.created = record.created.map(|created| moved.time(created));
        }
    }

    /// The number of the last ban so far.
    pub(super) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Gives no number up to `id` from now on.
    pub(super) fn skip_to(&mut self, id: u64) {
        self.last_id = self.last_id.max(id);
    }

    /// Makes or replaces a ban; the one that was there.
    pub(super) fn insert(&mut self, key: PrefixKey, record: BanRecord) -> Option<BanRecord> {
        self.last_id = self.last_id.max(record.id);
        let (id, expires_ns, cause) = (record.id, record.expires_ns, record.note.cause);
        let before = self.records.insert(key, record);
        let is_new = before.as_ref().is_none_or(|before| before.id != id);
        self.tallies.change(cause, |tally| {
            tally.there += 1;
            tally.made += u64::from(is_new);
        });
        if let Some(before) = &before {
            let cause = before.note.cause;
            self.tallies.change(cause, |tally| tally.there -= 1);
            self.expiries.remove(&(before.expires_ns, key));
        }
        if expires_ns != 0 {
            self.expiries.insert((expires_ns, key));
        }
        before
    }

    pub(super) fn remove(&mut self, key: &PrefixKey) -> Option<BanRecord> {
        let record = self.records.remove(key)?;
        self.expiries.remove(&(record.expires_ns, *key));
        self.tallies
            .change(record.note.cause, |tally| tally.there -= 1);
        Some(record)
    }

    /// The bans that are over at `time_ns`, or will be by then, the first to end first.
    pub(super) fn ending(&self, time_ns: u64) -> impl Iterator<Item = &PrefixKey> {
        self.expiries
            .iter()
            .take_while(move |(expires_ns, _)| *expires_ns <= time_ns)
            .map(|(_, key)| key)
    }

    /// At most `count` bans that are over at `time_ns`, or will be by then, the first to end
    /// first, from after `place` on.
    pub(super) fn ending_page(
        &self,
        place: Option<Ending>,
        time_ns: u64,
        count: usize,
    ) -> impl Iterator<Item = &Ending> {
        let from = place.map_or(Bound::Unbounded, Bound::Excluded);
        self.expiries
            .range((from, Bound::Unbounded))
            .take_while(move |(expires_ns, _)| *expires_ns <= time_ns)
            .take(count)
    }

    /// A ban that is over at `now_ns`.
    pub(super) fn expired(&self, now_ns: u64) -> Option<PrefixKey> {
        self.ending(now_ns).next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abuser_common::layout::BanCause;

    fn key(number: u8) -> PrefixKey {
        PrefixKey::new([203, 0, 113, number].into(), 32).unwrap()
    }

    fn record(id: u64, expires_ns: u64) -> BanRecord {
        BanRecord {
            id,
            expires_ns,
            created: None,
            offences: 0,
            note: Arc::new(BanNote {
                cause: BanCause::Manual,
                subject: None,
                policy: None,
                reason: None,
                by: None,
            }),
        }
    }

    #[test]
    fn bans_end_in_the_order_of_their_ends_whatever_became_of_them_before() {
        let records = [(key(1), record(1, 30)), (key(2), record(2, 0))];
        let mut books = Books::new(records.into(), 7);
        books.insert(key(3), record(8, 10));
        books.insert(key(4), record(9, 20));
        books.insert(key(3), record(8, 25));
        books.insert(key(5), record(10, 5));
        books.remove(&key(5));
        assert_eq!(books.last_id(), 10);
        assert_eq!([0, 20, 30].map(|now| books.count(now)), [4, 3, 1]);
        let page = |place| -> Vec<_> { books.ending_page(place, 29, 1).copied().collect() };
        assert_eq!(page(None), [(20, key(4))]);
        assert_eq!(page(Some((20, key(4)))), [(25, key(3))]);
        assert_eq!(page(Some((25, key(3)))), []);
        let mut ended = Vec::new();
        while let Some(key) = books.expired(30) {
            ended.push(key);
            books.remove(&key);
        }
        assert_eq!(ended, [4, 3, 1].map(key));
        assert_eq!(books.expired(u64::MAX), None, "the permanent one stays");
        assert!(books.contains(&key(2)));
    }

    #[test]
    fn pages_show_each_ban_once_by_source() {
        let mut books = Books::default();
        for number in [5, 3, 9, 1] {
            books.insert(key(number), record(u64::from(number), 0));
        }
        let network = PrefixKey::new([203, 0, 113, 0].into(), 24).unwrap();
        books.insert(network, record(100, 0));
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let page: Vec<_> = books.page(after, 2).map(|(key, _)| *key).collect();
            let Some(last) = page.last() else { break };
            after = Some(*last);
            seen.extend(page);
        }
        assert_eq!(seen, [network, key(1), key(3), key(5), key(9)]);
    }

    #[test]
    fn after_a_sleep_bans_end_earlier_in_the_same_order_and_those_without_an_end_have_none() {
        let ends = [(1, 500), (2, 0), (3, 90), (4, 101)];
        let records = ends.map(|(number, ends)| (key(number), record(number.into(), ends)));
        let mut books = Books::new(records.into(), 4);
        books.after_sleep(100);
        let ends = [1, 2, 3, 4].map(|number| books.get(&key(number)).unwrap().expires_ns);
        assert_eq!(ends, [400, 0, 1, 1]);
        let ending: Vec<_> = books.ending(u64::MAX).copied().collect();
        assert_eq!(ending, [3, 4, 1].map(key));
        assert_eq!(books.count(399), 2);
        // What is in the order of ends is found there.
        books.remove(&key(1));
        assert_eq!(books.ending(u64::MAX).count(), 2);
    }

    /// In force and made, of each cause that there is anything of.
    fn tallied(books: &Books) -> Vec<(BanCause, usize, u64)> {
        let counted = books.by_cause();
        let counted = counted.map(|bans| (bans.cause, bans.in_force, bans.made));
        counted
            .filter(|(_, there, made)| *there > 0 || *made > 0)
            .collect()
    }

    fn because(cause: BanCause, id: u64) -> BanRecord {
        let mut record = record(id, 0);
        Arc::make_mut(&mut record.note).cause = cause;
        record
    }

    #[test]
    fn bans_are_tallied_by_cause_as_they_come_change_and_go() {
        use BanCause::{Blocklist, Limit, Manual};
        let restored = [(key(1), because(Limit, 1)), (key(2), because(Manual, 2))];
        let mut books = Books::new(restored.into(), 2);
        assert_eq!(tallied(&books), [(Manual, 1, 0), (Limit, 1, 0)]);
        books.insert(key(3), because(Limit, 3));
        // Renewed for another reason, under its number.
        books.insert(key(2), because(Blocklist, 2));
        assert_eq!(tallied(&books), [(Limit, 2, 1), (Blocklist, 1, 0)]);
        // Another ban of the same source.
        books.insert(key(1), because(Blocklist, 4));
        assert_eq!(tallied(&books), [(Limit, 1, 1), (Blocklist, 2, 1)]);
        for number in [1, 2, 3, 3] {
            books.remove(&key(number));
        }
        assert_eq!(tallied(&books), [(Limit, 0, 1), (Blocklist, 0, 1)]);
    }

    #[test]
    fn a_million_bans_are_counted_by_cause_as_fast_as_ten() {
        let note = record(0, 0).note;
        let records = (0..1_000_000_u32).map(|number| {
            let record = BanRecord {
                note: Arc::clone(&note),
                ..record(number.into(), 0)
            };
            (
                PrefixKey::new(number.to_be_bytes().into(), 32).unwrap(),
                record,
            )
        });
        let books = Books::new(records.collect(), 0);
        let begun = std::time::Instant::now();
        for _ in 0..1000 {
            assert_eq!(tallied(&books), [(BanCause::Manual, 1_000_000, 0)]);
        }
        // A walk through all takes some ten milliseconds, each time.
        assert!(begun.elapsed() < std::time::Duration::from_secs(1));
    }
}
