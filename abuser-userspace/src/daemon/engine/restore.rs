//! The start: what the store holds and what the kernel still has become the books.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

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
        changes.extend(self.restore_offenders(offenders));
        self.count_for_rollup();
        if !changes.is_empty() {
            self.store.write(changes, None);
        }
        Ok(())
    }

    fn restore_bans(
        &mut self,
        rows: Vec<BanRow>,
        last_id: u64,
    ) -> Result<Vec<Change>, EngineError> {
        let (now, wall) = (kernel_now().0, SystemTime::now());
        let entries = self.dataplane.bans().0.entries()?;
        let mut in_map: HashMap<PrefixKey, Ban> = entries.into_iter().collect();
        let mut changes = Vec::new();
        let mut records = Vec::with_capacity(rows.len());
        let mut missing = Vec::new();
        let mut over = Vec::new();
        for row in rows {
            let entry = in_map.remove(&row.source);
            // A number says which ban it is; of two, the higher one came later.
            let newer = entry.filter(|entry| entry.id >= row.id);
            let expires_ns = match (newer, row.expires) {
                // The kernel's clock is the one that the ban ends by.
                (Some(entry), _) => entry.expires_ns,
                (None, None) => 0,
                (None, Some(expires)) => match expires.duration_since(wall) {
                    Ok(left) => clock::kernel_deadline(left),
                    Err(_) => 1,
                },
            };
            if Ban::expired(expires_ns, now) {
                changes.push(Change::Unban(HistoryRow {
                    ended: row.expires.unwrap_or(wall),
                    how: "expired".to_owned(),
                    hits: entry.map_or(0, |entry| entry.hits.total),
                    ban: row.clone(),
                }));
                over.extend(entry.map(|_| row.source));
                continue;
            }
            // Made after the one that was written down, which had ended.
            if let Some(entry) = newer.filter(|entry| entry.id != row.id) {
                let record = found(&entry);
                changes.push(Change::Erase(row.id));
                changes.push(Change::Ban(record.row(&row.source)));
                records.push((row.source, record));
                continue;
            }
            let record = BanRecord {
                id: row.id,
                expires_ns,
                created: row.created,
                offences: row.offences,
                note: row.note,
            };
            if newer.is_none() {
                missing.push((row.source, record.entry(entry)));
            }
            // It was renewed, and that was not written down any more.
            let written = record.row(&row.source);
            if !same_end(row.expires, written.expires) {
                changes.push(Change::Ban(written));
            }
            records.push((row.source, record));
        }
        for (source, entry) in in_map {
            if Ban::expired(entry.expires_ns, now) {
                over.push(source);
                continue;
            }
            let record = found(&entry);
            changes.push(Change::Ban(record.row(&source)));
            records.push((source, record));
        }
        if self.dataplane.adopted() {
            self.repairs.kernel += missing.len() as u64;
        }
        let (table, hints) = self.dataplane.bans();
        table.insert(hints, &missing)?;
        for source in over {
            table.remove(hints, &source)?;
        }
        // One after the other in order: a tree that grows at random takes many times as long.
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
        for (source, origin) in self.dataplane.allowed().0.entries()? {
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
