//! The start: what the store holds and what the kernel still has become the books.

use std::{sync::Arc, time::SystemTime};

use abuser_common::{
    layout::{AllowOrigin, Ban, BanCause},
    prefix::PrefixKey,
};

use super::{
    Engine, EngineError,
    allow::{self, AllowRecord},
    books::{BanRecord, Books},
};
use crate::{
    daemon::{clock, names::ConfiguredAllow},
    dataplane::kernel_now,
    store::{
        AllowRow, BanRow, Change, HistoryRow, Snapshot,
        rows::{BanNote, same_end},
    },
};

impl Engine {
    /// Makes the books of what the store and the map hold, and brings both in line with them.
    /// Nothing that is in force is taken away.
    ///
    /// An earlier daemon wrote into the map first: what the map has beyond the store was never
    /// acknowledged and is kept, what the store has beyond the map is put back.
    pub(super) fn restore(
        &mut self,
        snapshot: Snapshot,
        allow: &[ConfiguredAllow],
    ) -> Result<(), EngineError> {
        let Snapshot {
            bans,
            allowed,
            offenders,
            last_id,
        } = snapshot;
        let mut changes = self.restore_bans(bans, last_id)?;
        changes.extend(self.restore_allowed(allowed, allow)?);
        self.restore_offenders(offenders);
        self.count_for_rollup();
        if !changes.is_empty() {
            self.store.write(changes, None);
        }
        Ok(())
    }

    /// Rows and entries are gone through side by side, both in the order of their sources: a
    /// million of them take no table to look them up in, and the books grow in order.
    fn restore_bans(
        &mut self,
        mut rows: Vec<BanRow>,
        last_id: u64,
    ) -> Result<Vec<Change>, EngineError> {
        rows.sort_unstable_by_key(|row| (row.source, row.id));
        // Nothing but hits has changed since they were read.
        let mut entries = self.dataplane.bans().0.take_adopted();
        entries.sort_unstable_by_key(|(source, _)| *source);
        let mut entries = entries.into_iter().peekable();
        let mut restored = Restored::now();
        // As long as the rows and in their memory: there is one for nearly each.
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
        let Restored {
            found,
            missing,
            over,
            changes,
            ..
        } = restored;
        records.extend(found);
        if self.dataplane.adopted() {
            self.repairs.kernel += missing.len() as u64;
        }
        let (table, hints) = self.dataplane.bans();
        table.insert(hints, &missing)?;
        drop(missing);
        for source in over {
            table.remove(hints, &source)?;
        }
        self.bans = Books::new(records.into_iter().collect(), last_id);
        Ok(changes)
    }

    fn restore_allowed(
        &mut self,
        rows: Vec<AllowRow>,
        configured: &[ConfiguredAllow],
    ) -> Result<Vec<Change>, EngineError> {
        let mut changes = Vec::new();
        for row in rows {
            let record = AllowRecord {
                origin: AllowOrigin::Command,
                note: row.reason,
                by: row.by,
                created: Some(row.created),
            };
            self.allowed.insert(row.source, record);
        }
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
        }
        for (source, record) in allow::configured(configured)? {
            self.allowed.insert(source, record);
        }
        self.write_all_allowed()?;
        Ok(changes)
    }
}

/// What becomes of rows and entries.
struct Restored {
    /// The time, by the kernel's clock and by people's.
    now: u64,
    wall: SystemTime,
    /// Bans that only the map has.
    found: Vec<(PrefixKey, BanRecord)>,
    /// Entries that the map lacks.
    missing: Vec<(PrefixKey, Ban)>,
    /// Entries that are over.
    over: Vec<PrefixKey>,
    /// What the store is to be told.
    changes: Vec<Change>,
}

impl Restored {
    fn now() -> Self {
        Self {
            now: kernel_now().0,
            wall: SystemTime::now(),
            found: Vec::new(),
            missing: Vec::new(),
            over: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Takes a row of the store and what the map has of the same source; the ban, if there is one
    /// still.
    fn row(&mut self, row: BanRow, entry: Option<Ban>) -> Option<(PrefixKey, BanRecord)> {
        // A number says which ban it is; of two, the higher one came later.
        let newer = entry.filter(|entry| entry.id >= row.id);
        let expires_ns = match (newer, row.expires) {
            // The kernel's clock is the one that the ban ends by.
            (Some(entry), _) => entry.expires_ns,
            (None, None) => 0,
            (None, Some(expires)) => match expires.duration_since(self.wall) {
                Ok(left) => clock::kernel_deadline(left),
                Err(_) => 1,
            },
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
            let record = found(&entry);
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
        if newer.is_none() {
            self.missing.push((row.source, record.entry(entry)));
        }
        // It was renewed, and that was not written down any more.
        if !same_end(row.expires, record.expires()) {
            self.changes.push(Change::Ban(record.row(&row.source)));
        }
        Some((row.source, record))
    }

    /// Takes an entry of the map of whose source the store has no row.
    fn entry(&mut self, source: PrefixKey, entry: &Ban) {
        if Ban::expired(entry.expires_ns, self.now) {
            self.over.push(source);
            return;
        }
        let record = found(entry);
        self.changes.push(Change::Ban(record.row(&source)));
        self.found.push((source, record));
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
