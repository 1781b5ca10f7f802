//! The books of throttles: which sources, by which limits, and until when.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::SystemTime,
};

use abuser_common::{gcra::KernelTime, layout::Ban, prefix::PrefixKey};

use super::super::{clocks::after_sleep, net};
use crate::{
    api::types::ThrottleInfo,
    daemon::clock,
    dataplane::{
        kernel_now,
        throttles::{Throttled, Throttling},
        wall_clock,
    },
    policy::Moved,
    store::{ThrottleNote, ThrottleRow},
};

/// A source's throttle by one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct ThrottleRecord {
    pub(super) expires_ns: u64,
    /// When it was made, or renewed.
    pub(super) created: SystemTime,
    pub(super) note: Arc<ThrottleNote>,
}

impl ThrottleRecord {
    pub(super) fn is_by(&self, limit: &str) -> bool {
        *self.note.limit == *limit
    }

    pub(super) fn expired(&self, now_ns: u64) -> bool {
        Ban::expired(self.expires_ns, now_ns)
    }

    /// As the API tells it.
    pub(super) fn info(&self, source: &PrefixKey) -> ThrottleInfo {
        let remaining = self.expires_ns.saturating_sub(kernel_now().0);
        ThrottleInfo {
            source: net(source),
            limit: self.note.limit.to_string(),
            created: clock::format(self.created),
            expires: clock::format_kernel(self.expires_ns),
            remaining_seconds: (self.expires_ns != 0).then_some(remaining / 1_000_000_000),
            reason: self.note.reason.clone(),
            by: self.note.by.clone(),
        }
    }

    /// As the store has it.
    pub(super) fn row(&self, source: &PrefixKey) -> ThrottleRow {
        let expires = KernelTime(self.expires_ns);
        ThrottleRow {
            source: *source,
            created: self.created,
            expires: (expires.0 != 0).then(|| wall_clock(expires)),
            note: Arc::clone(&self.note),
        }
    }
}

/// The books of all throttles, by source.
#[derive(Debug, Default)]
pub(in super::super) struct ThrottleBooks {
    /// At least one record of each source, and one of a limit.
    records: BTreeMap<PrefixKey, Vec<ThrottleRecord>>,
    /// Those that end, the first to end first.
    ends: BTreeSet<(u64, PrefixKey, Arc<str>)>,
}

impl ThrottleBooks {
    /// How many sources are throttled.
    pub(in super::super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(in super::super) fn contains(&self, source: &PrefixKey) -> bool {
        self.records.contains_key(source)
    }

    pub(super) fn of(&self, source: &PrefixKey) -> &[ThrottleRecord] {
        self.records.get(source).map_or(&[], Vec::as_slice)
    }

    /// The limits that exactly this prefix is throttled by at `now_ns`.
    pub(in super::super) fn limits_of(
        &self,
        source: &PrefixKey,
        now_ns: u64,
    ) -> impl Iterator<Item = String> {
        let records = self.of(source).iter();
        records
            .filter(move |record| !record.expired(now_ns))
            .map(|record| record.note.limit.to_string())
    }

    /// All of them, by source.
    pub(super) fn records(&self) -> &BTreeMap<PrefixKey, Vec<ThrottleRecord>> {
        &self.records
    }

    /// At most `count` sources after `after`, or from the first on.
    pub(in super::super) fn page(
        &self,
        after: Option<PrefixKey>,
        count: usize,
    ) -> impl Iterator<Item = (&PrefixKey, &Vec<ThrottleRecord>)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.records.range((from, Bound::Unbounded)).take(count)
    }

    /// Makes or renews a throttle.
    pub(super) fn insert(&mut self, source: PrefixKey, record: ThrottleRecord) {
        self.remove(&source, &Arc::clone(&record.note.limit));
        if record.expires_ns != 0 {
            let limit = Arc::clone(&record.note.limit);
            self.ends.insert((record.expires_ns, source, limit));
        }
        self.records.entry(source).or_default().push(record);
    }

    /// Has all that end do so this much earlier, by the kernel's clock.
    pub(in super::super) fn after_sleep(&mut self, slept_ns: u64) {
        self.ends.clear();
        for (source, records) in &mut self.records {
            for record in records {
                record.expires_ns = after_sleep(record.expires_ns, slept_ns);
                if record.expires_ns != 0 {
                    let limit = Arc::clone(&record.note.limit);
                    self.ends.insert((record.expires_ns, *source, limit));
                }
            }
        }
    }

    /// Has what is told of them follow a wall clock that was set.
    pub(in super::super) fn step(&mut self, moved: Moved) {
        for record in self.records.values_mut().flatten() {
            record.created = moved.time(record.created);
        }
    }

    pub(super) fn remove(
        &mut self,
        source: &PrefixKey,
        limit: &Arc<str>,
    ) -> Option<ThrottleRecord> {
        let records = self.records.get_mut(source)?;
        let position = records.iter().position(|record| record.is_by(limit))?;
        let record = records.remove(position);
        if records.is_empty() {
            self.records.remove(source);
        }
        self.ends
            .remove(&(record.expires_ns, *source, Arc::clone(limit)));
        Some(record)
    }

    /// Those that are over at `now_ns`, the first to end first; `count` at the most.
    pub(super) fn over(&self, now_ns: u64, count: usize) -> Vec<(PrefixKey, Arc<str>)> {
        let over = self.ends.iter();
        let over = over.take_while(|(expires_ns, ..)| *expires_ns <= now_ns);
        over.take(count)
            .map(|(_, source, limit)| (*source, Arc::clone(limit)))
            .collect()
    }

    /// Those that meet a condition.
    pub(super) fn matching(
        &self,
        mut is: impl FnMut(&ThrottleNote) -> bool,
    ) -> Vec<(PrefixKey, Arc<str>)> {
        let records = self.records.iter();
        let records =
            records.flat_map(|(source, records)| records.iter().map(move |r| (source, r)));
        records
            .filter(|(_, record)| is(&record.note))
            .map(|(source, record)| (*source, Arc::clone(&record.note.limit)))
            .collect()
    }

    /// What the store is to have.
    pub(in super::super) fn rows(&self) -> Vec<ThrottleRow> {
        let records = self.records.iter();
        records
            .flat_map(|(source, records)| records.iter().map(|record| record.row(source)))
            .collect()
    }

    /// What the map is to have.
    pub(in super::super) fn throttled(&self) -> Throttled {
        let records = self.records.iter();
        records
            .map(|(source, records)| (*source, throttling(records)))
            .collect()
    }
}

/// What the map is to have of one source.
pub(in super::super) fn throttling(records: &[ThrottleRecord]) -> Vec<Throttling> {
    records
        .iter()
        .map(|record| Throttling {
            limit: Arc::clone(&record.note.limit),
            expires_ns: record.expires_ns,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PrefixKey {
        PrefixKey::new([203, 0, 113, number].into(), 32).unwrap()
    }

    fn record(limit: &str, expires_ns: u64) -> ThrottleRecord {
        ThrottleRecord {
            expires_ns,
            created: SystemTime::UNIX_EPOCH,
            note: Arc::new(ThrottleNote {
                limit: limit.into(),
                reason: None,
                by: None,
            }),
        }
    }

    #[test]
    fn throttles_end_in_the_order_of_their_ends_each_limit_for_itself() {
        let mut books = ThrottleBooks::default();
        books.insert(key(1), record("slow", 30));
        books.insert(key(1), record("slower", 10));
        books.insert(key(2), record("slow", 0));
        books.insert(key(3), record("slow", 20));
        books.insert(key(3), record("slow", 25));
        let over = |books: &ThrottleBooks, now| -> Vec<_> {
            let over = books.over(now, 9).into_iter();
            over.map(|(source, limit)| (source, limit.to_string()))
                .collect()
        };
        assert_eq!(over(&books, 9), []);
        assert_eq!(
            over(&books, 25),
            [(key(1), "slower".to_owned()), (key(3), "slow".to_owned())]
        );
        books.remove(&key(1), &"slower".into());
        books.remove(&key(3), &"slow".into());
        assert_eq!(over(&books, u64::MAX), [(key(1), "slow".to_owned())]);
        assert_eq!(books.len(), 2, "one has no end");
        assert!(!books.contains(&key(3)));
    }
}
