//! Bans that come by the thousand.

use std::{collections::HashMap, sync::Arc};

use abuser_common::{layout::BanCause, prefix::PrefixKey};

use super::{
    Changed, Engine, EngineError,
    bans::{NewBan, end},
    by_hand::check_width,
    check_reason, key, net,
};
use crate::{
    api::types::{ImportEntry, ImportRequest, Imported, MAX_IMPORT, RefusedEntry},
    policy::ends::outlasts,
    store::rows::BanNote,
    words::counted,
};

impl Engine {
    /// Bans all that can be, and tells what cannot. A source that is banned already, and for at
    /// least as long, stays as it is.
    pub(super) fn import(
        &mut self,
        request: &ImportRequest,
        by: &str,
    ) -> Result<Changed<Imported>, EngineError> {
        if request.entries.len() > MAX_IMPORT {
            return Err(EngineError::Refused(format!(
                "{} entries are too many for one request; send {MAX_IMPORT} at a time",
                request.entries.len()
            )));
        }
        let mut imported = Imported::default();
        let mut notes: HashMap<Option<&str>, Arc<BanNote>> = HashMap::new();
        let mut new: Vec<NewBan> = Vec::with_capacity(request.entries.len());
        let mut places: HashMap<PrefixKey, usize> = HashMap::new();
        for (number, entry) in request.entries.iter().enumerate() {
            let (key, expires_ns) = match self.check(entry, request.force) {
                Ok(checked) => checked,
                Err(error) => {
                    imported.refused.push(RefusedEntry {
                        entry: number,
                        source: entry.source,
                        error: error.to_string(),
                    });
                    continue;
                }
            };
            let reason = entry.reason.as_deref();
            let note = notes
                .entry(reason)
                .or_insert_with(|| import_note(reason, by));
            let ban = NewBan::new(key, expires_ns, note);
            // Named twice: the ban that lasts longer counts.
            if let Some(earlier) = places.get(&key).and_then(|place| new.get_mut(*place)) {
                imported.duplicates += 1;
                if outlasts(expires_ns, earlier.expires_ns) {
                    *earlier = ban;
                }
                continue;
            }
            // What a list bans is banned for another reason from now on: the list may drop it.
            let there = self.bans.get(&key);
            let there = there.filter(|record| !record.note.cause.is_listed());
            match there.map(|record| record.expires_ns) {
                Some(there) if !outlasts(expires_ns, there) => {
                    imported.duplicates += 1;
                    continue;
                }
                Some(_) => imported.extended += 1,
                None => imported.added += 1,
            }
            places.insert(key, new.len());
            new.push(ban);
        }
        if request.dry_run {
            return Ok(Changed {
                value: imported,
                changes: Vec::new(),
            });
        }
        // Neighbours are at hand in the books.
        new.sort_unstable_by_key(|ban| ban.source);
        let Changed { value, changes } = self.ban_many(new)?;
        if value > 0 {
            let sources = counted(value as u64, "source", "sources");
            tracing::info!(by, "banned {sources} of an import");
        }
        Ok(Changed {
            value: imported,
            changes,
        })
    }

    /// Whom an entry bans, and until when.
    fn check(&self, entry: &ImportEntry, force: bool) -> Result<(PrefixKey, u64), EngineError> {
        let key = key(&entry.source)?;
        check_reason(entry.reason.as_deref())?;
        if !force {
            // As the map has it: an IPv4-mapped prefix is narrow only as it is written.
            let source = net(&key);
            check_width(&source)?;
            self.check_essential(&source)?;
        }
        Ok((key, end(self.time_of(entry.duration)?)))
    }
}

fn import_note(reason: Option<&str>, by: &str) -> Arc<BanNote> {
    Arc::new(BanNote {
        cause: BanCause::Import,
        subject: None,
        policy: None,
        reason: reason.map(str::to_owned),
        by: Some(by.to_owned()),
    })
}
