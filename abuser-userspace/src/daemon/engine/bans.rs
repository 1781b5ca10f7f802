//! Bans: made, renewed, ended. The map first, then the books, then the store and the stream.

use std::{sync::Arc, time::SystemTime};

use abuser_common::{layout::Ban, prefix::PrefixKey};

use super::{Changed, Engine, EngineError, books::BanRecord, net};
use crate::{
    api::types::{BanInfo, EventKind, EventRecord},
    daemon::clock,
    dataplane::kernel_now,
    policy::BanTime,
    store::{Change, EvidenceRow, HistoryRow, rows::BanNote},
};

/// Expired bans that are cleared away in one go; events do not wait for more.
const SWEPT_AT_ONCE: usize = 256;

/// A ban that is to be.
#[derive(Debug, Clone)]
pub(super) struct NewBan {
    pub(super) source: PrefixKey,
    /// As in the map: kernel time in nanoseconds, 0 for never.
    pub(super) expires_ns: u64,
    pub(super) offences: u32,
    pub(super) note: Arc<BanNote>,
    /// What led to it.
    pub(super) evidence: Vec<EvidenceRow>,
}

impl NewBan {
    /// One that no offences led to.
    pub(super) fn new(source: PrefixKey, expires_ns: u64, note: &Arc<BanNote>) -> Self {
        Self {
            source,
            expires_ns,
            offences: 0,
            note: Arc::clone(note),
            evidence: Vec::new(),
        }
    }
}

/// When a ban of this length that begins now ends, as in the map.
pub(super) fn end(time: BanTime) -> u64 {
    match time {
        BanTime::Permanent => 0,
        BanTime::For(duration) => clock::kernel_deadline(duration),
    }
}

impl Engine {
    /// Makes or renews bans: all of them or, if one cannot be made, none. Each is told to the
    /// log and to the stream.
    pub(super) fn ban(&mut self, new: Vec<NewBan>) -> Result<Changed<Vec<BanInfo>>, EngineError> {
        let Changed { value, changes } = self.enforce(new, true)?;
        let banned = value.iter().map(|(key, ban)| {
            let info = self.ban_info(key, ban);
            tracing::info!(
                source = %info.source,
                expires = info.expires.as_deref().unwrap_or("never"),
                reason = info.reason.as_deref().unwrap_or_default(),
                "banned"
            );
            self.publish(ban_event(EventKind::Ban, &info, info.reason.clone()));
            info
        });
        Ok(Changed {
            value: banned.collect(),
            changes,
        })
    }

    /// Makes or renews bans, so many that a line in the log for each would be too much; those
    /// who follow the stream are told of each. How many there were.
    pub(super) fn ban_many(&mut self, new: Vec<NewBan>) -> Result<Changed<usize>, EngineError> {
        let Changed { value, changes } = self.enforce(new, false)?;
        if self.is_followed() {
            for (key, ban) in &value {
                let info = self.ban_info(key, ban);
                self.publish(ban_event(EventKind::Ban, &info, info.reason.clone()));
            }
        }
        Ok(Changed {
            value: value.len(),
            changes,
        })
    }

    /// Makes or renews bans and tells nobody of them; `log` says whether the log is told of those that
    /// were over before.
    fn enforce(
        &mut self,
        new: Vec<NewBan>,
        log: bool,
    ) -> Result<Changed<Vec<(PrefixKey, Ban)>>, EngineError> {
        let mut last_id = self.bans.last_id();
        let now = kernel_now().0;
        let mut entries = Vec::with_capacity(new.len());
        let mut over = Vec::new();
        for ban in &new {
            let there = self.ban_in_map(&ban.source)?;
            let in_force = there.filter(|there| !Ban::expired(there.expires_ns, now));
            if in_force.is_none() && self.bans.contains(&ban.source) {
                over.push((ban.source, there));
            }
            // A ban that is renewed keeps its number and its count.
            let before = in_force.unwrap_or_else(|| {
                last_id += 1;
                Ban {
                    id: last_id,
                    ..Ban::default()
                }
            });
            let entry = Ban {
                expires_ns: ban.expires_ns,
                cause: ban.note.cause as u64,
                ..before
            };
            entries.push((ban.source, entry));
        }
        let (table, hints) = self.dataplane.bans();
        table.insert(hints, &entries)?;
        let mut changes = Vec::with_capacity(new.len());
        // Those that were not swept yet end before what follows them begins.
        for (key, ban) in over {
            let ended = self.over(&key, ban.as_ref(), "expired", false);
            if log {
                tell_ended(&ended, "expired");
            }
            changes.extend(ended.changes);
        }
        let created = SystemTime::now();
        for (new, (key, ban)) in new.into_iter().zip(&entries) {
            let record = BanRecord {
                id: ban.id,
                expires_ns: ban.expires_ns,
                created: Some(created),
                offences: new.offences,
                note: new.note,
            };
            let row = record.row(key);
            if let Some(before) = self.bans.insert(*key, record) {
                self.forget_for_rollup(key, &before.note);
            }
            changes.push(Change::Ban(row));
            if !new.evidence.is_empty() {
                changes.push(Change::Evidence(ban.id, new.evidence));
            }
        }
        Ok(Changed {
            value: entries,
            changes,
        })
    }

    /// Whether exactly this prefix is banned. A ban that is over may be in the books for a moment
    /// longer; what is found then counts.
    pub(super) fn is_banned(&self, key: &PrefixKey) -> bool {
        let record = self.bans.get(key);
        record.is_some_and(|record| !Ban::expired(record.expires_ns, kernel_now().0))
    }

    /// The ban of exactly this prefix, unless it is over.
    pub(super) fn ban_in_force(&mut self, key: &PrefixKey) -> Result<Option<Ban>, EngineError> {
        let ban = self.ban_in_map(key)?;
        Ok(ban.filter(|ban| !Ban::expired(ban.expires_ns, kernel_now().0)))
    }

    /// The ban of exactly this prefix, also one that is over and not swept yet.
    fn ban_in_map(&mut self, key: &PrefixKey) -> Result<Option<Ban>, EngineError> {
        // The books first: they are at hand, the map is a system call away.
        if !self.bans.contains(key) {
            return Ok(None);
        }
        Ok(self.dataplane.bans().0.get(key)?)
    }

    /// Ends a ban; `how` is for history and the stream.
    pub(super) fn unban(
        &mut self,
        key: &PrefixKey,
        how: &str,
    ) -> Result<Changed<Option<BanInfo>>, EngineError> {
        let ended = self.end_ban(key, how, false)?;
        tell_ended(&ended, how);
        Ok(ended)
    }

    /// Ends a ban and tells it to the stream, but not to the log. `among_all` is whether all bans
    /// are ended at once.
    pub(super) fn end_ban(
        &mut self,
        key: &PrefixKey,
        how: &str,
        among_all: bool,
    ) -> Result<Changed<Option<BanInfo>>, EngineError> {
        let (table, hints) = self.dataplane.bans();
        let ban = table.get(key)?;
        table.remove(hints, key)?;
        Ok(self.over(key, ban.as_ref(), how, among_all))
    }

    /// Takes note that a ban is not in the map any more, where it was as `ban` says, and tells it
    /// to the stream.
    fn over(
        &mut self,
        key: &PrefixKey,
        ban: Option<&Ban>,
        how: &str,
        among_all: bool,
    ) -> Changed<Option<BanInfo>> {
        let info = ban.map(|ban| self.ban_info(key, ban));
        let mut changes = Vec::new();
        if let Some(record) = self.bans.remove(key) {
            let met = info.as_ref().map_or(0, |info| info.hits);
            self.forget_for_rollup(key, &record.note);
            changes.push(over_change(key, &record, how, met));
        }
        if let Some(info) = info.as_ref().filter(|_| self.is_followed()) {
            self.publish(EventRecord {
                among_all,
                ..ban_event(EventKind::Unban, info, Some(how.to_owned()))
            });
        }
        Changed {
            value: info,
            changes,
        }
    }

    /// Clears some expired bans away; whether there are more.
    pub(super) fn sweep(&mut self) -> bool {
        self.tell_unsaid();
        self.forget_listed();
        let renewed = self.renew_listed().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot keep a ban that a block list calls for");
            Changed::default()
        });
        let Changed {
            value: mut more,
            mut changes,
        } = renewed;
        let most = changes.len() + SWEPT_AT_ONCE;
        let now = kernel_now().0;
        while let Some(key) = self.bans.expired(now) {
            if changes.len() >= most {
                more = true;
                break;
            }
            // A list may have come too late to take it over before.
            let ended = match self.listed(&key) {
                Some(heir) => self.ban_many(vec![heir]).map(|changed| changed.changes),
                None => self.unban(&key, "expired").map(|changed| changed.changes),
            };
            match ended {
                Ok(ended) => changes.extend(ended),
                Err(error) => {
                    tracing::error!(source = %net(&key), %error, "cannot clear an expired ban away");
                    break;
                }
            }
        }
        self.keep(changes);
        more
    }
}

/// Tells the log of a ban that has ended.
fn tell_ended(ended: &Changed<Option<BanInfo>>, how: &str) {
    if let Some(info) = &ended.value {
        tracing::info!(source = %info.source, hits = info.hits, how, "unbanned");
    }
}

fn over_change(key: &PrefixKey, record: &BanRecord, how: &str, hits: u64) -> Change {
    Change::Unban(HistoryRow {
        ban: record.row(key),
        ended: SystemTime::now(),
        how: how.to_owned(),
        hits,
    })
}

fn ban_event(kind: EventKind, info: &BanInfo, reason: Option<String>) -> EventRecord {
    let expires = info.expires.clone();
    EventRecord {
        source: Some(info.source.to_string()),
        limit: info.limit.clone(),
        detector: info.detector.clone(),
        ban: Some(info.id),
        cause: Some(info.cause.clone()),
        policy: info.policy.clone(),
        drops: (kind == EventKind::Unban).then_some(info.hits),
        expires: expires.filter(|_| kind == EventKind::Ban),
        reason,
        ..EventRecord::new(kind, clock::now())
    }
}
