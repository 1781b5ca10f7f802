//! A store that could not even be read at the start, and is there at last: its file system was
//! not mounted yet.

use std::time::SystemTime;

use abuser_common::layout::Ban;

use super::{Engine, EngineError, bans::NewBan, restore::deadline};
use crate::{
    dataplane::kernel_now,
    store::{Change, Snapshot},
};

impl Engine {
    /// Takes in what a store holds that could not be read at the start: who is banned or allowed
    /// by it is so from now on. Bans get new numbers, since the old ones may be taken by now.
    pub(super) fn take_in(&mut self, mut snapshot: Snapshot) -> Result<(), EngineError> {
        // What the kernel has was right before.
        let _slept = self.bring_up(&mut snapshot);
        let Snapshot {
            bans,
            allowed,
            offenders,
            throttles,
            // Sources are being read, from another place.
            positions: _,
            last_id,
            clocks: _,
        } = snapshot;
        self.bans.skip_to(last_id);
        let (now, wall) = (kernel_now().0, SystemTime::now());
        let mut changes: Vec<_> = bans.iter().map(|row| Change::Erase(row.id)).collect();
        let unknown = bans.iter().filter(|row| !self.bans.contains(&row.source));
        let new = unknown.map(|row| NewBan {
            offences: row.offences,
            ..NewBan::new(
                row.source,
                deadline(row.created, row.expires, wall),
                &row.note,
            )
        });
        let new: Vec<_> = new
            .filter(|new| !Ban::expired(new.expires_ns, now))
            .collect();
        let (count, known) = (new.len(), self.allowed.len());
        changes.extend(self.ban_many(new)?.changes);
        // Those that were made meanwhile may have had numbers of those that are erased.
        changes.extend(
            self.bans
                .iter()
                .map(|(key, record)| Change::Ban(record.row(key))),
        );
        self.allow_stored(allowed);
        self.write_all_allowed()?;
        self.take_in_throttles(throttles)?;
        changes.extend(self.restore_offenders(offenders));
        tracing::warn!(
            "the store could be read at last: {count} more bans and {} more allow entries are in \
             force",
            self.allowed.len() - known
        );
        self.store.write(changes, None);
        Ok(())
    }
}
