//! The start: what the store holds and what the kernel still has become the books.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use abuser_common::{
    layout::{AllowOrigin, Ban, BanCause},
    prefix::PrefixKey,
};

use super::{
    Engine, EngineError,
    allow::{self, AllowRecord},
    books::{BanRecord, Books},
    clocks::after_sleep,
    net,
};
use crate::{
    config::LimitConfig,
    daemon::{clock, names::ConfiguredAllow},
    dataplane::kernel_now,
    policy::ends::same_end,
    store::{AllowRow, BanRow, Change, HistoryRow, Snapshot, rows::BanNote},
};

impl Engine {
    /// Makes the books of what the store and the map hold, and brings both in line with them.
    /// Nothing that is in force is taken away.
    ///
    /// An earlier daemon wrote into the map first: what the map has beyond the store was never
    /// acknowledged and is kept, what the store has beyond the map is put back.
    pub(super) fn restore(
        &mut self,
        mut snapshot: Snapshot,
        allow: &[ConfiguredAllow],
        limits: &[LimitConfig],
    ) -> Result<(), EngineError> {
        let slept = self.bring_up(&mut snapshot);
        let Snapshot {
            bans,
            allowed,
            offenders,
            throttles,
            // Those are for whoever reads sources.
            positions: _,
            last_id,
            clocks: _,
        } = snapshot;
        let mut changes = self.restore_bans(bans, last_id, slept)?;
        changes.extend(self.restore_allowed(allowed, allow)?);
        changes.extend(self.restore_offenders(offenders));
        changes.extend(self.restore_throttles(throttles, limits));
        self.count_for_rollup();
        self.keep(changes);
        Ok(())
    }

    fn restore_bans(
        &mut self,
        rows: Vec<BanRow>,
        last_id: u64,
        slept: Duration,
    ) -> Result<Vec<Change>, EngineError> {
        // Nothing but hits has changed since they were read.
        let entries = self.dataplane.bans().0.take_adopted();
        let Restored {
            records,
            missing,
            moved,
            over,
            changes,
            ..
        } = Restored::from(rows, entries, slept);
        if self.dataplane.adopted() {
            warn_of_missing(&missing);
            self.repairs.kernel += missing.len() as u64;
        }
        let (table, hints) = self.dataplane.bans();
        table.insert(hints, &missing)?;
        drop(missing);
        table.insert(hints, &moved)?;
        drop(moved);
        for source in over {
            table.remove(hints, &source)?;
        }
        self.bans = Books::new(records.into_iter().collect(), last_id);
        Ok(changes)
    }

    /// Notes who is allowed because a command said so.
    pub(super) fn allow_stored(&mut self, rows: Vec<AllowRow>) {
        for row in rows {
            let record = AllowRecord {
                origin: AllowOrigin::Command,
                note: row.reason,
                by: row.by,
                created: Some(row.created),
            };
            self.allowed.insert(row.source, record);
        }
    }

    fn restore_allowed(
        &mut self,
        rows: Vec<AllowRow>,
        configured: &[ConfiguredAllow],
    ) -> Result<Vec<Change>, EngineError> {
        let mut changes = Vec::new();
        self.allow_stored(rows);
        for (source, origin) in self.dataplane.allowed().0.take_adopted() {
            if origin == AllowOrigin::Command as u64 && !self.allowed.contains(&source) {
                self.allowed
                    .insert(source, AllowRecord::new(AllowOrigin::Command, None));
                changes.push(Change::Allow(AllowRow {
                    source,
                    created: SystemTime::now(),
                    reason: None,
                    by: None,
                }));
            }
            // Until the fleet is heard of, what was in force of it stays so, as bans do.
            if origin == AllowOrigin::Fleet as u64 {
                self.allowed
                    .insert(source, AllowRecord::new(AllowOrigin::Fleet, None));
            }
        }
        for (source, record) in allow::configured(configured)? {
            self.allowed.insert(source, record);
        }
        self.write_all_allowed()?;
        Ok(changes)
    }
}

/// Names bans that only the store had, the first of them: there may be a million.
fn warn_of_missing(missing: &[(PrefixKey, Ban)]) {
    const NAMED: usize = 10;
    for (source, _) in missing.iter().take(NAMED) {
        tracing::warn!(
            source = %net(source),
            "the kernel had no ban of {} when abuser started, and the store has one; it is in force again",
            net(source)
        );
    }
    if missing.len() > NAMED {
        let others = missing.len() - NAMED;
        tracing::warn!(others, "so it was with the bans of {others} others");
    }
}

/// What becomes of rows and entries.
struct Restored {
    /// The time, by the kernel's clock and by people's.
    now: u64,
    wall: SystemTime,
    /// For how long the machine has slept since the entries were right, in nanoseconds.
    slept_ns: u64,
    /// The bans, those that only the map has at the end.
    records: Vec<(PrefixKey, BanRecord)>,
    /// Entries that the map lacks.
    missing: Vec<(PrefixKey, Ban)>,
    /// Entries that end otherwise, because the machine has slept.
    moved: Vec<(PrefixKey, Ban)>,
    /// Entries that are over.
    over: Vec<PrefixKey>,
    /// What the store is to be told.
    changes: Vec<Change>,
}

impl Restored {
    /// Goes through rows and entries side by side, both in the order of their sources: a million of
    /// them take no table to look them up in, and the books grow in order.
    fn from(mut rows: Vec<BanRow>, mut entries: Vec<(PrefixKey, Ban)>, slept: Duration) -> Self {
        rows.sort_unstable_by_key(|row| (row.source, row.id));
        entries.sort_unstable_by_key(|(source, _)| *source);
        let mut restored = Self {
            now: kernel_now().0,
            wall: SystemTime::now(),
            slept_ns: u64::try_from(slept.as_nanos()).unwrap_or(u64::MAX),
            records: Vec::new(),
            missing: Vec::new(),
            moved: Vec::new(),
            over: Vec::new(),
            changes: Vec::new(),
        };
        let mut entries = entries.into_iter().peekable();
        // In the memory of the rows, which are a little larger: there is one for nearly each.
        let mut records: Vec<_> = rows
            .into_iter()
            .filter_map(|row| {
                while let Some((source, entry)) =
                    entries.next_if(|(source, _)| *source < row.source)
                {
                    restored.entry(source, &entry);
                }
                let entry = entries.next_if(|(source, _)| *source == row.source);
                restored.row(row, entry.map(|(_, entry)| entry))
            })
            .collect();
        for (source, entry) in entries {
            restored.entry(source, &entry);
        }
        records.append(&mut restored.records);
        restored.records = records;
        restored
    }

    /// Takes a row of the store and what the map has of the same source; the ban, if there is one
    /// still.
    fn row(&mut self, row: BanRow, entry: Option<Ban>) -> Option<(PrefixKey, BanRecord)> {
        // A number says which ban it is; of two, the higher one came later.
        let newer = entry.filter(|entry| entry.id >= row.id);
        let expires_ns = match newer {
            // Some entries may have been moved already before a crash, and some not.
            Some(entry) if entry.id == row.id && self.slept_ns > 0 => {
                deadline(row.created, row.expires, self.wall)
            }
            // The kernel's clock is the one that the ban ends by.
            Some(entry) => after_sleep(entry.expires_ns, self.slept_ns),
            None => deadline(row.created, row.expires, self.wall),
        };
        if Ban::expired(expires_ns, self.now) {
            self.over.extend(entry.map(|_| row.source));
            self.changes.push(Change::Unban(HistoryRow {
                ended: row.expires.unwrap_or(self.wall),
                how: "expired".to_owned(),
                hits: entry.map_or(0, |entry| entry.hits.total),
                ban: row,
            }));
            return None;
        }
        // Made after the one that was written down, which had ended.
        if let Some(entry) = newer.filter(|entry| entry.id != row.id) {
            let record = found(&Ban {
                expires_ns,
                ..entry
            });
            self.moved(row.source, &record, &entry);
            self.changes.push(Change::Erase(row.id));
            self.changes.push(Change::Ban(record.row(&row.source)));
            return Some((row.source, record));
        }
        let record = BanRecord {
            id: row.id,
            expires_ns,
            created: row.created,
            offences: row.offences,
            note: row.note,
        };
        match newer {
            Some(entry) => self.moved(row.source, &record, &entry),
            None => self.missing.push((row.source, record.entry(entry))),
        }
        // It was renewed, and that was not written down any more.
        if !same_end(row.expires, record.expires()) {
            self.changes.push(Change::Ban(record.row(&row.source)));
        }
        Some((row.source, record))
    }

    /// Takes an entry of the map of whose source the store has no row.
    fn entry(&mut self, source: PrefixKey, entry: &Ban) {
        let expires_ns = after_sleep(entry.expires_ns, self.slept_ns);
        if Ban::expired(expires_ns, self.now) {
            self.over.push(source);
            return;
        }
        let record = found(&Ban {
            expires_ns,
            ..*entry
        });
        self.moved(source, &record, entry);
        self.changes.push(Change::Ban(record.row(&source)));
        self.records.push((source, record));
    }

    /// Notes an entry that does not end as its record does.
    fn moved(&mut self, source: PrefixKey, record: &BanRecord, entry: &Ban) {
        if record.expires_ns != entry.expires_ns {
            self.moved.push((source, record.entry(Some(*entry))));
        }
    }
}

/// When a stored ban or throttle ends, as in the map; 1 if it is over. It never lasts longer than
/// when it was made, whatever a clock that lost its battery shows.
pub(super) fn deadline(
    created: Option<SystemTime>,
    expires: Option<SystemTime>,
    wall: SystemTime,
) -> u64 {
    let Some(expires) = expires else {
        return 0;
    };
    let whole = created.and_then(|created| expires.duration_since(created).ok());
    match expires.duration_since(wall) {
        Ok(left) => clock::kernel_deadline(whole.map_or(left, |whole| left.min(whole))),
        Err(_) => 1,
    }
}

/// What is known of a ban that only the kernel has.
pub(super) fn found(entry: &Ban) -> BanRecord {
    BanRecord {
        id: entry.id,
        expires_ns: entry.expires_ns,
        created: None,
        offences: 0,
        note: Arc::new(BanNote {
            cause: BanCause::from_number(entry.cause).unwrap_or(BanCause::Manual),
            subject: None,
            policy: None,
            reason: None,
            by: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PrefixKey {
        PrefixKey::new([203, 0, 113, number].into(), 32).unwrap()
    }

    /// A row that ends so many seconds from now; `None`: never.
    fn row(number: u8, id: u64, ends: Option<i64>) -> BanRow {
        let now = SystemTime::now();
        let seconds = |ends: i64| Duration::from_secs(ends.unsigned_abs());
        BanRow {
            id,
            source: key(number),
            created: Some(now),
            expires: ends.map(|ends| {
                if ends < 0 {
                    now - seconds(ends)
                } else {
                    now + seconds(ends)
                }
            }),
            offences: 3,
            note: found(&Ban::default()).note,
        }
    }

    fn entry(number: u8, id: u64, expires_ns: u64) -> (PrefixKey, Ban) {
        let ban = Ban {
            id,
            expires_ns,
            ..Ban::default()
        };
        (key(number), ban)
    }

    fn in_seconds(seconds: u64) -> u64 {
        clock::kernel_deadline(Duration::from_secs(seconds))
    }

    #[test]
    fn rows_and_entries_find_each_other_in_whatever_order_they_come() {
        let rows = [6, 2, 4, 8, 5].map(|number| row(number, u64::from(number), None));
        let entries = [8, 1, 6, 9, 3, 2, 5].map(|number| entry(number, u64::from(number), 0));
        let restored = Restored::from(rows.into(), entries.into(), Duration::ZERO);
        let mut records: Vec<_> = restored.records.iter().map(|(key, _)| *key).collect();
        records.sort_unstable();
        assert_eq!(records, [1, 2, 3, 4, 5, 6, 8, 9].map(key));
        let known = |(_, record): &&(PrefixKey, BanRecord)| record.created.is_some();
        assert_eq!(restored.records.iter().filter(known).count(), 5);
        let missing: Vec<_> = restored.missing.iter().map(|(key, _)| *key).collect();
        assert_eq!(missing, [key(4)]);
        assert!(restored.over.is_empty());
        // Those that only the map has are written down.
        assert_eq!(restored.changes.len(), 3);
    }

    #[test]
    fn of_two_bans_the_later_one_counts() {
        let rows = vec![row(1, 10, None), row(2, 11, None)];
        let entries = vec![entry(1, 12, 0), entry(2, 9, 0)];
        let restored = Restored::from(rows, entries, Duration::ZERO);
        let ids: Vec<_> = restored.records.iter().map(|(_, ban)| ban.id).collect();
        assert_eq!(ids, [12, 11]);
        assert!(matches!(
            restored.changes.as_slice(),
            [Change::Erase(10), Change::Ban(BanRow { id: 12, .. })]
        ));
        assert!(matches!(
            restored.missing.as_slice(),
            [(_, Ban { id: 11, .. })]
        ));
    }

    #[test]
    fn what_is_over_is_cleared_away_and_a_renewal_is_written_down() {
        let rows = vec![
            row(1, 1, Some(-5)),
            row(2, 2, Some(600)),
            row(3, 3, Some(600)),
            row(4, 4, Some(-5)),
        ];
        let entries = vec![
            entry(2, 2, in_seconds(600)),
            entry(3, 3, in_seconds(6000)),
            entry(4, 4, 1),
            entry(5, 5, 1),
        ];
        let restored = Restored::from(rows, entries, Duration::ZERO);
        let left: Vec<_> = restored.records.iter().map(|(key, _)| *key).collect();
        assert_eq!(left, [2, 3].map(key));
        assert_eq!(restored.over, [4, 5].map(key));
        assert!(restored.missing.is_empty());
        let ended = |change: &&Change| matches!(change, Change::Unban(_));
        assert_eq!(restored.changes.iter().filter(ended).count(), 2);
        let renewed = |change: &Change| matches!(change, Change::Ban(BanRow { id: 3, .. }));
        assert!(restored.changes.iter().any(renewed));
        assert_eq!(restored.changes.len(), 3);
    }

    #[test]
    fn a_clock_that_lost_its_battery_makes_no_ban_longer_than_when_it_was_made() {
        let day = Duration::from_secs(86_400);
        let made = SystemTime::now();
        let ends = made + Duration::from_secs(600);
        for wall in [made - 365 * day, made - day, made] {
            let expires_ns = deadline(Some(made), Some(ends), wall);
            assert!(expires_ns <= in_seconds(600), "{wall:?}");
            assert!(expires_ns > in_seconds(590), "{wall:?}");
        }
        assert_eq!(deadline(Some(made), Some(ends), ends + day), 1);
        assert_eq!(deadline(Some(made), None, made - day), 0);
    }

    #[test]
    fn after_a_sleep_entries_end_when_the_wall_clock_says_and_others_earlier_by_it() {
        let slept = Duration::from_secs(1000);
        let rows = vec![row(1, 1, Some(600)), row(2, 2, None), row(3, 3, Some(-5))];
        let entries = vec![
            entry(1, 1, in_seconds(1600)),
            entry(2, 2, 0),
            entry(3, 3, in_seconds(995)),
            entry(4, 4, in_seconds(1300)),
            entry(5, 5, in_seconds(900)),
            // It was moved before the crash already.
            entry(6, 6, in_seconds(600)),
        ];
        let mut rows = rows;
        rows.push(row(6, 6, Some(600)));
        let restored = Restored::from(rows, entries, slept);
        let left: Vec<_> = restored
            .records
            .iter()
            .map(|(key, record)| {
                let left = record.expires_ns.saturating_sub(restored.now);
                (*key, left.div_ceil(1_000_000_000))
            })
            .collect();
        for (found, expected) in left.iter().zip([(1, 600), (2, 0), (6, 600), (4, 300)]) {
            assert_eq!(found.0, key(expected.0), "{left:?}");
            assert!(found.1.abs_diff(expected.1) <= 2, "{left:?}");
        }
        assert_eq!(left.len(), 4);
        assert_eq!(restored.over, [3, 5].map(key));
        assert!(restored.missing.is_empty());
        let moved: Vec<_> = restored.moved.iter().map(|(key, _)| *key).collect();
        assert!(
            moved.contains(&key(1)) && moved.contains(&key(4)),
            "{moved:?}"
        );
    }
}
