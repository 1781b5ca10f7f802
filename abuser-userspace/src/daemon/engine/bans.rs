//! Bans: made, renewed, ended. The map first, then the books, then the store and the stream.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use abuser_common::{
    layout::{Ban, BanCause},
    prefix::PrefixKey,
};
use ipnet::IpNet;

use super::{Changed, Engine, EngineError, books::BanRecord, check_reason, covering, keys, net};
use crate::{
    api::types::{BanDuration, BanInfo, BanRequest, EventKind, EventRecord, RemoveRequest},
    daemon::clock,
    dataplane::kernel_now,
    policy::{BanTime, DEFAULT_POLICY, WIDEST_IPV4, WIDEST_IPV6},
    store::{Change, EvidenceRow, HistoryRow, rows::BanNote},
};

/// Expired bans that are cleared away in one go; events do not wait for more.
const SWEPT_AT_ONCE: usize = 256;

/// A ban that is to be.
#[derive(Debug, Clone)]
pub(super) struct NewBan {
    pub(super) source: PrefixKey,
    pub(super) time: BanTime,
    pub(super) offences: u32,
    pub(super) note: Arc<BanNote>,
    /// What led to it.
    pub(super) evidence: Vec<EvidenceRow>,
}

impl Engine {
    /// Makes or renews bans: all of them or, if one cannot be made, none.
    pub(super) fn ban(&mut self, new: Vec<NewBan>) -> Result<Changed<Vec<BanInfo>>, EngineError> {
        let mut last_id = self.bans.last_id();
        let mut entries = Vec::with_capacity(new.len());
        for ban in &new {
            // A ban that is renewed keeps its number and its count.
            let before = self.ban_in_force(&ban.source)?.unwrap_or_else(|| {
                last_id += 1;
                Ban {
                    id: last_id,
                    ..Ban::default()
                }
            });
            let entry = Ban {
                expires_ns: match ban.time {
                    BanTime::Permanent => 0,
                    BanTime::For(duration) => clock::kernel_deadline(duration),
                },
                cause: ban.note.cause as u64,
                ..before
            };
            entries.push((ban.source, entry));
        }
        let (table, hints) = self.dataplane.bans();
        table.insert(hints, &entries)?;
        let mut changes = Vec::with_capacity(new.len());
        let mut infos = Vec::with_capacity(new.len());
        for (new, (key, ban)) in new.into_iter().zip(&entries) {
            if let Some(before) = self.bans.remove(key) {
                self.forget_for_rollup(key, &before.note);
                // One that is over and not swept yet has another number.
                if before.id != ban.id {
                    changes.push(over_change(key, &before, "expired", 0));
                }
            }
            let record = BanRecord {
                id: ban.id,
                expires_ns: ban.expires_ns,
                created: Some(SystemTime::now()),
                offences: new.offences,
                note: new.note,
            };
            changes.push(Change::Ban(record.row(key)));
            if !new.evidence.is_empty() {
                changes.push(Change::Evidence(ban.id, new.evidence));
            }
            self.bans.insert(*key, record);
            let info = self.ban_info(key, ban);
            tracing::info!(
                source = %info.source,
                expires = info.expires.as_deref().unwrap_or("never"),
                reason = info.reason.as_deref().unwrap_or_default(),
                "banned"
            );
            self.publish(ban_event(EventKind::Ban, &info, info.reason.clone()));
            infos.push(info);
        }
        Ok(Changed {
            value: infos,
            changes,
        })
    }

    /// The ban of exactly this prefix, unless it is over.
    pub(super) fn ban_in_force(&mut self, key: &PrefixKey) -> Result<Option<Ban>, EngineError> {
        // The books first: they are at hand, the map is a system call away.
        if !self.bans.contains(key) {
            return Ok(None);
        }
        let ban = self.dataplane.bans().0.get(key)?;
        Ok(ban.filter(|ban| !Ban::expired(ban.expires_ns, kernel_now().0)))
    }

    /// Ends a ban; `how` is for history and the stream.
    fn unban(
        &mut self,
        key: &PrefixKey,
        how: &str,
    ) -> Result<Changed<Option<BanInfo>>, EngineError> {
        let (table, hints) = self.dataplane.bans();
        let ban = table.get(key)?;
        table.remove(hints, key)?;
        let info = ban.map(|ban| self.ban_info(key, &ban));
        let mut changes = Vec::new();
        if let Some(record) = self.bans.remove(key) {
            let met = info.as_ref().map_or(0, |info| info.hits);
            self.forget_for_rollup(key, &record.note);
            changes.push(over_change(key, &record, how, met));
        }
        if let Some(info) = &info {
            tracing::info!(source = %info.source, hits = info.hits, how, "unbanned");
            self.publish(ban_event(EventKind::Unban, info, Some(how.to_owned())));
        }
        Ok(Changed {
            value: info,
            changes,
        })
    }

    /// Clears some expired bans away; whether there are more.
    pub(super) fn sweep(&mut self) -> bool {
        let now = kernel_now().0;
        let mut changes = Vec::new();
        let mut more = false;
        while let Some(key) = self.bans.expired(now) {
            if changes.len() >= SWEPT_AT_ONCE {
                more = true;
                break;
            }
            match self.unban(&key, "expired") {
                Ok(unbanned) => changes.extend(unbanned.changes),
                Err(error) => {
                    tracing::error!(source = %net(&key), %error, "cannot clear an expired ban away");
                    break;
                }
            }
        }
        if !changes.is_empty() {
            self.store.write(changes, None);
        }
        more
    }

    pub(super) fn ban_info(&self, key: &PrefixKey, ban: &Ban) -> BanInfo {
        let record = self.bans.get(key);
        let note = record.map(|record| &record.note);
        let remaining = ban.expires_ns.saturating_sub(kernel_now().0);
        BanInfo {
            id: ban.id,
            source: net(key),
            created: record.and_then(|record| record.created).map(clock::format),
            expires: clock::format_kernel(ban.expires_ns),
            remaining_seconds: (ban.expires_ns != 0).then_some(remaining / 1_000_000_000),
            cause: BanCause::from_number(ban.cause)
                .unwrap_or(BanCause::Manual)
                .name()
                .to_owned(),
            limit: note
                .filter(|note| note.cause == BanCause::Limit)
                .and_then(|note| note.subject.clone()),
            policy: note.and_then(|note| note.policy.clone()),
            offences: record
                .map(|record| record.offences)
                .filter(|offences| *offences > 0),
            reason: note.and_then(|note| note.reason.clone()),
            by: note.and_then(|note| note.by.clone()),
            hits: ban.hits.total,
            last_hit: clock::format_kernel(ban.last_hit_ns),
        }
    }

    /// Bans in force, by source.
    pub(super) fn ban_list(&mut self) -> Result<Vec<BanInfo>, EngineError> {
        let now = kernel_now().0;
        let mut entries = self.dataplane.bans().0.entries()?;
        entries.retain(|(_, ban)| !Ban::expired(ban.expires_ns, now));
        entries.sort_unstable_by_key(|(key, _)| *key);
        Ok(entries
            .iter()
            .map(|(key, ban)| self.ban_info(key, ban))
            .collect())
    }

    /// The bans that cover an address, the longest prefix first.
    pub(super) fn bans_covering(&mut self, address: IpAddr) -> Result<Vec<BanInfo>, EngineError> {
        let mut found = Vec::new();
        for key in covering(address)? {
            if let Some(ban) = self.ban_in_force(&key)? {
                found.push(self.ban_info(&key, &ban));
            }
        }
        Ok(found)
    }

    pub(super) fn ban_by_hand(
        &mut self,
        request: &BanRequest,
        by: &str,
    ) -> Result<Changed<Vec<BanInfo>>, EngineError> {
        let BanRequest {
            sources,
            duration,
            reason,
            force,
        } = request;
        check_reason(reason.as_deref())?;
        let time = match duration {
            BanDuration::Policy => {
                let policy = self.offenders.policy(0);
                policy.ban_time(0, fastrand::f64())
            }
            BanDuration::Permanent => BanTime::Permanent,
            BanDuration::Seconds(0) => {
                return Err(EngineError::Refused(
                    "a ban of no time at all bans nobody; say for how long".to_owned(),
                ));
            }
            BanDuration::Seconds(seconds) => BanTime::For(Duration::from_secs(*seconds)),
        };
        let keys = keys(sources, "ban")?;
        if let Some(wide) = sources.iter().find(|source| is_wide(source))
            && !force
        {
            return Err(EngineError::Refused(format!(
                "{wide} is wider than /{WIDEST_IPV4} (IPv4) or /{WIDEST_IPV6} (IPv6) and may lock \
                 out many, you among them; use --force if you mean it"
            )));
        }
        if !force {
            self.check_essential(sources)?;
        }
        let mut longer = HashMap::new();
        if *duration == BanDuration::Policy {
            for key in &keys {
                longer.extend(self.longer_ban(key, time)?.map(|kept| (*key, kept)));
            }
        }
        let note = Arc::new(BanNote {
            cause: BanCause::Manual,
            subject: None,
            policy: (*duration == BanDuration::Policy).then(|| DEFAULT_POLICY.to_owned()),
            reason: reason.clone(),
            by: Some(by.to_owned()),
        });
        let new = keys.iter().filter(|key| !longer.contains_key(*key));
        let new = new.map(|source| NewBan {
            source: *source,
            time,
            offences: 0,
            note: Arc::clone(&note),
            evidence: Vec::new(),
        });
        let new = new.collect();
        let Changed { value, changes } = self.ban(new)?;
        let mut banned = value.into_iter();
        // As they were asked for.
        let bans = keys
            .iter()
            .filter_map(|key| longer.get(key).cloned().or_else(|| banned.next()));
        Ok(Changed {
            value: bans.collect(),
            changes,
        })
    }

    /// The ban of `key` if it lasts longer than `time`: who asks for no time in particular
    /// does not ask to shorten it.
    fn longer_ban(
        &mut self,
        key: &PrefixKey,
        time: BanTime,
    ) -> Result<Option<BanInfo>, EngineError> {
        let Some(ban) = self.ban_in_force(key)? else {
            return Ok(None);
        };
        let longer = match time {
            BanTime::Permanent => false,
            BanTime::For(time) => {
                ban.expires_ns == 0 || ban.expires_ns > clock::kernel_deadline(time)
            }
        };
        Ok(longer.then(|| self.ban_info(key, &ban)))
    }

    pub(super) fn unban_by_hand(
        &mut self,
        request: &RemoveRequest,
        by: &str,
    ) -> Result<Changed<Vec<BanInfo>>, EngineError> {
        let RemoveRequest { sources, all } = request;
        let keys = if *all {
            self.bans.iter().map(|(key, _)| *key).collect()
        } else {
            keys(sources, "unban")?
        };
        if let Some(missing) = keys.iter().find(|key| !self.bans.contains(key)) {
            let missing = net(missing);
            let covering = self.bans_covering(missing.addr())?;
            return Err(not_banned(&missing, &covering));
        }
        let how = format!("removed by {by}");
        let mut removed = Changed::<Vec<_>>::default();
        for key in keys {
            let Changed { value, changes } = self.unban(&key, &how)?;
            removed.value.extend(value);
            removed.changes.extend(changes);
            self.offenders.forgive(key);
            removed.changes.push(Change::Forgive(key));
        }
        Ok(removed)
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

/// Whether a prefix is so wide that it is banned by force only.
pub(super) fn is_wide(source: &IpNet) -> bool {
    match source {
        IpNet::V4(v4) => v4.prefix_len() < WIDEST_IPV4,
        IpNet::V6(v6) => v6.prefix_len() < WIDEST_IPV6,
    }
}

fn not_banned(source: &IpNet, bans: &[BanInfo]) -> EngineError {
    let covering = bans.iter().find(|ban| ban.source.contains(source));
    EngineError::NotFound(covering.map_or_else(
        || format!("{source} is not banned; `abuser ban list` shows who is"),
        |ban| {
            format!(
                "{source} is not banned by itself but as part of {}; remove that ban, or allow \
                 {source} with `abuser allow add`",
                ban.source
            )
        },
    ))
}

fn ban_event(kind: EventKind, info: &BanInfo, reason: Option<String>) -> EventRecord {
    EventRecord {
        time: clock::now(),
        kind,
        interface: None,
        source: Some(info.source.to_string()),
        protocol: None,
        port: None,
        limit: info.limit.clone(),
        ban: Some(info.id),
        drops: (kind == EventKind::Unban).then_some(info.hits),
        verified: None,
        bytes: None,
        expires: if kind == EventKind::Ban {
            info.expires.clone()
        } else {
            None
        },
        reason,
    }
}
