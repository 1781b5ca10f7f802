//! Who is banned, why and until when.
//!
//! The map is what holds; the books here are what the map has no room for.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use abuser_common::{
    layout::{Ban, BanCause},
    prefix::PrefixKey,
};
use ipnet::IpNet;

use super::{Engine, EngineError, check_reason, key, keys, net};
use crate::{
    api::types::{BanDuration, BanInfo, BanRequest, EventKind, EventRecord, RemoveRequest},
    daemon::clock,
    dataplane::kernel_now,
    policy::{BanTime, Sentence},
};

/// Prefixes shorter than this are banned only by force.
const WIDEST_IPV4: u8 = 16;
const WIDEST_IPV6: u8 = 32;

/// What is known of a ban besides what the map holds.
#[derive(Debug, Clone, Default)]
struct BanRecord {
    created: Option<SystemTime>,
    limit: Option<String>,
    offences: Option<u32>,
    reason: Option<String>,
    /// As in the map: kernel time in nanoseconds, 0 for never.
    expires_ns: u64,
}

/// The books of all bans.
#[derive(Debug, Default)]
pub(super) struct BanBooks {
    records: HashMap<PrefixKey, BanRecord>,
    /// Bans that end, the first to end first.
    expiries: BTreeSet<(u64, PrefixKey)>,
    last_id: u64,
}

impl BanBooks {
    /// The books of bans that an earlier daemon made: what the map says is all there is.
    pub(super) fn adopt(entries: &[(PrefixKey, Ban)]) -> Self {
        let mut books = Self::default();
        for (key, ban) in entries {
            books.last_id = books.last_id.max(ban.id);
            let record = BanRecord {
                expires_ns: ban.expires_ns,
                ..BanRecord::default()
            };
            books.insert(*key, record);
        }
        books
    }

    pub(super) fn contains(&self, key: &PrefixKey) -> bool {
        self.records.contains_key(key)
    }

    /// How many bans are in force at `now_ns`.
    pub(super) fn count(&self, now_ns: u64) -> usize {
        let over = self
            .expiries
            .iter()
            .take_while(|(expires_ns, _)| *expires_ns <= now_ns)
            .count();
        self.records.len() - over
    }

    fn insert(&mut self, key: PrefixKey, record: BanRecord) {
        self.remove(&key);
        if record.expires_ns != 0 {
            self.expiries.insert((record.expires_ns, key));
        }
        self.records.insert(key, record);
    }

    fn remove(&mut self, key: &PrefixKey) {
        if let Some(record) = self.records.remove(key) {
            self.expiries.remove(&(record.expires_ns, *key));
        }
    }

    /// A ban that is over at `now_ns`.
    fn expired(&self, now_ns: u64) -> Option<PrefixKey> {
        let (expires_ns, key) = self.expiries.first()?;
        (*expires_ns <= now_ns).then_some(*key)
    }
}

impl Engine {
    /// Bans who went over a limit too often.
    pub(super) fn ban_offender(
        &mut self,
        key: PrefixKey,
        limit: &str,
        sentence: &Sentence,
    ) -> Result<(), EngineError> {
        let mut reason = format!("{} offences against limit {limit}", sentence.offences);
        if sentence.repeats > 0 {
            let _infallible = write!(reason, ", banned {} times before", sentence.repeats);
        }
        let record = BanRecord {
            limit: Some(limit.to_owned()),
            offences: Some(sentence.offences),
            reason: Some(reason),
            ..BanRecord::default()
        };
        self.ban(&[key], sentence.time, BanCause::Limit, &record)?;
        Ok(())
    }

    /// Map first, then the books, then the stream. All are banned or, if one cannot be, none.
    fn ban(
        &mut self,
        keys: &[PrefixKey],
        time: BanTime,
        cause: BanCause,
        record: &BanRecord,
    ) -> Result<Vec<BanInfo>, EngineError> {
        let expires_ns = match time {
            BanTime::Permanent => 0,
            BanTime::For(duration) => clock::kernel_deadline(duration),
        };
        let mut last_id = self.bans.last_id;
        let mut new = Vec::with_capacity(keys.len());
        for key in keys {
            // A ban that is renewed keeps its number and its count.
            let ban = self.ban_in_force(key)?.unwrap_or_else(|| {
                last_id += 1;
                Ban {
                    id: last_id,
                    ..Ban::default()
                }
            });
            let ban = Ban {
                expires_ns,
                cause: cause as u64,
                ..ban
            };
            new.push((*key, ban));
        }
        let (table, hints) = self.dataplane.bans();
        table.insert(hints, &new)?;
        self.bans.last_id = last_id;
        let record = BanRecord {
            created: Some(SystemTime::now()),
            expires_ns,
            ..record.clone()
        };
        let banned = new.iter().map(|(key, ban)| {
            self.bans.insert(*key, record.clone());
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
        Ok(banned.collect())
    }

    /// The ban of exactly this prefix, unless it is over.
    fn ban_in_force(&mut self, key: &PrefixKey) -> Result<Option<Ban>, EngineError> {
        // The books first: they are at hand, the map is a system call away.
        if !self.bans.contains(key) {
            return Ok(None);
        }
        let ban = self.dataplane.bans().0.get(key)?;
        Ok(ban.filter(|ban| !Ban::expired(ban.expires_ns, kernel_now().0)))
    }

    fn unban(&mut self, key: &PrefixKey, reason: &str) -> Result<Option<BanInfo>, EngineError> {
        let (table, hints) = self.dataplane.bans();
        let Some(ban) = table.get(key)? else {
            self.bans.remove(key);
            return Ok(None);
        };
        table.remove(hints, key)?;
        let info = self.ban_info(key, &ban);
        self.bans.remove(key);
        tracing::info!(source = %info.source, hits = info.hits, reason, "unbanned");
        self.publish(ban_event(EventKind::Unban, &info, Some(reason.to_owned())));
        Ok(Some(info))
    }

    /// Clears expired bans away.
    pub(super) fn sweep(&mut self) {
        let now = kernel_now().0;
        while let Some(key) = self.bans.expired(now) {
            if let Err(error) = self.unban(&key, "expired") {
                tracing::error!(source = %net(&key), %error, "cannot clear an expired ban away");
                return;
            }
        }
    }

    fn ban_info(&self, key: &PrefixKey, ban: &Ban) -> BanInfo {
        let record = self.bans.records.get(key);
        let remaining = ban.expires_ns.saturating_sub(kernel_now().0);
        BanInfo {
            id: ban.id,
            source: net(key),
            created: record.and_then(|record| record.created).map(clock::format),
            expires: clock::format_kernel(ban.expires_ns),
            remaining_seconds: (ban.expires_ns != 0).then_some(remaining / 1_000_000_000),
            cause: match ban.cause {
                cause if cause == BanCause::Limit as u64 => "limit",
                _ => "manual",
            }
            .to_owned(),
            limit: record.and_then(|record| record.limit.clone()),
            offences: record.and_then(|record| record.offences),
            reason: record.and_then(|record| record.reason.clone()),
            hits: ban.hits.total,
            last_hit: clock::format_kernel(ban.last_hit_ns),
        }
    }

    /// Bans in force, by source.
    pub(super) fn ban_list(&mut self) -> Result<Vec<BanInfo>, EngineError> {
        let now = kernel_now().0;
        let mut entries = self.dataplane.bans().0.entries()?;
        entries.retain(|(_, ban)| !Ban::expired(ban.expires_ns, now));
        entries.sort_unstable_by_key(|(key, _)| (key.family, key.address, key.length));
        Ok(entries
            .iter()
            .map(|(key, ban)| self.ban_info(key, ban))
            .collect())
    }

    /// The bans that cover an address, the longest prefix first.
    pub(super) fn bans_covering(&mut self, address: IpAddr) -> Result<Vec<BanInfo>, EngineError> {
        let host = net(&key(&IpNet::from(address))?);
        let mut found = Vec::new();
        for length in (0..=host.prefix_len()).rev() {
            let Some(key) = PrefixKey::new(host.addr(), length) else {
                continue;
            };
            if let Some(ban) = self.ban_in_force(&key)? {
                found.push(self.ban_info(&key, &ban));
            }
        }
        Ok(found)
    }

    pub(super) fn ban_by_hand(
        &mut self,
        request: &BanRequest,
    ) -> Result<Vec<BanInfo>, EngineError> {
        let BanRequest {
            sources,
            duration,
            reason,
            force,
        } = request;
        check_reason(reason.as_deref())?;
        let time = match duration {
            BanDuration::Policy => self.policy.ban_time(0, fastrand::f64()),
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
        let mut longer = HashMap::new();
        if *duration == BanDuration::Policy {
            for key in &keys {
                longer.extend(self.longer_ban(key, time)?.map(|kept| (*key, kept)));
            }
        }
        let record = BanRecord {
            reason: reason.clone(),
            ..BanRecord::default()
        };
        let new: Vec<_> = keys
            .iter()
            .filter(|key| !longer.contains_key(*key))
            .copied()
            .collect();
        let mut banned = self.ban(&new, time, BanCause::Manual, &record)?.into_iter();
        // As they were asked for.
        let bans = keys
            .iter()
            .filter_map(|key| longer.get(key).cloned().or_else(|| banned.next()));
        Ok(bans.collect())
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
    ) -> Result<Vec<BanInfo>, EngineError> {
        let RemoveRequest { sources, all } = request;
        let keys = if *all {
            let banned = self.ban_list()?;
            banned
                .iter()
                .map(|ban| key(&ban.source))
                .collect::<Result<Vec<_>, _>>()?
        } else {
            keys(sources, "unban")?
        };
        if let Some(missing) = keys.iter().find(|key| !self.bans.contains(key)) {
            let missing = net(missing);
            let covering = self.bans_covering(missing.addr())?;
            return Err(not_banned(&missing, &covering));
        }
        let mut removed = Vec::new();
        for key in keys {
            removed.extend(self.unban(&key, "by hand")?);
            self.offenders.forgive(key);
        }
        Ok(removed)
    }
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
