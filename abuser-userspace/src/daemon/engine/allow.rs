//! Who is never dropped, and why: the configuration may say so, a command, or what this host
//! is, several of them at once.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use abuser_common::{layout::AllowOrigin, prefix::PrefixKey};
use ipnet::IpNet;

use super::{
    Changed, Engine, EngineError, check_reason, covering, key, keys, log_budget::LogBudget, net,
};
use crate::{
    api::types::{AllowInfo, AllowRequest, RemoveRequest},
    daemon::names::ConfiguredAllow,
    policy::{Moved, Spared, WIDEST_ALLOWED_IPV4, WIDEST_ALLOWED_IPV6, exempts_many, overlap},
    store::{AllowRow, Change},
};

/// One reason for an allow entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AllowRecord {
    pub(super) origin: AllowOrigin,
    /// The DNS name it was resolved from, or what whoever made it said.
    pub(super) note: Option<String>,
    /// Who made it, if somebody did.
    pub(super) by: Option<String>,
    /// When that was.
    pub(super) created: Option<SystemTime>,
}

impl AllowRecord {
    pub(super) fn new(origin: AllowOrigin, note: Option<String>) -> Self {
        Self {
            origin,
            note,
            by: None,
            created: None,
        }
    }
}

/// The reasons for each entry, at least one, at most one of an origin.
#[derive(Debug, Default)]
pub(super) struct AllowBooks(BTreeMap<PrefixKey, Vec<AllowRecord>>);

impl AllowBooks {
    pub(super) fn contains(&self, key: &PrefixKey) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &PrefixKey> {
        self.0.keys()
    }

    /// What the map has for an entry.
    pub(super) fn value(&self, key: &PrefixKey) -> Option<u64> {
        let records = self.0.get(key)?;
        let by_command = records
            .iter()
            .find(|record| record.origin == AllowOrigin::Command);
        Some(by_command.or(records.first())?.origin as u64)
    }

    pub(super) fn insert(&mut self, key: PrefixKey, record: AllowRecord) {
        let records = self.0.entry(key).or_default();
        records.retain(|other| other.origin != record.origin);
        records.push(record);
        records.sort_by_key(|record| record.origin);
    }

    /// Takes one reason away; whether there was such a one.
    fn remove(&mut self, key: &PrefixKey, origin: AllowOrigin) -> Option<AllowRecord> {
        let records = self.0.get_mut(key)?;
        let position = records.iter().position(|record| record.origin == origin)?;
        let record = records.remove(position);
        if records.is_empty() {
            self.0.remove(key);
        }
        Some(record)
    }

    /// The entries that have this reason.
    fn of(&self, origin: AllowOrigin) -> impl Iterator<Item = (&PrefixKey, &AllowRecord)> {
        let entries = self.0.iter();
        let records = entries.flat_map(|(key, records)| records.iter().map(move |r| (key, r)));
        records.filter(move |(_, record)| record.origin == origin)
    }

    /// Has what is told of entries follow a wall clock that was set.
    pub(super) fn step(&mut self, moved: Moved) {
        for record in self.0.values_mut().flatten() {
            record.created = record.created.map(|created| moved.time(created));
        }
    }

    /// What the store is to have: what a command said.
    pub(super) fn rows(&self) -> Vec<AllowRow> {
        self.of(AllowOrigin::Command)
            .map(|(key, record)| AllowRow {
                source: *key,
                created: record.created.unwrap_or(SystemTime::UNIX_EPOCH),
                reason: record.note.clone(),
                by: record.by.clone(),
            })
            .collect()
    }

    fn infos(&self) -> impl Iterator<Item = AllowInfo> {
        let entries = self.0.iter();
        entries.flat_map(|(key, records)| records.iter().map(|record| allow_info(key, record)))
    }
}

/// The configured entries, with their reason.
pub(super) fn configured(
    allow: &[ConfiguredAllow],
) -> Result<Vec<(PrefixKey, AllowRecord)>, EngineError> {
    allow
        .iter()
        .map(|ConfiguredAllow { prefix, name }| {
            let record = AllowRecord::new(AllowOrigin::Config, name.clone());
            Ok((key(prefix)?, record))
        })
        .collect()
}

/// What other nodes of the fleet allow, with what they say of it.
pub(super) fn of_fleet(allowed: Vec<(PrefixKey, String)>) -> Vec<(PrefixKey, AllowRecord)> {
    let entries = allowed.into_iter();
    let entry = |(source, note)| (source, AllowRecord::new(AllowOrigin::Fleet, Some(note)));
    entries.map(entry).collect()
}

impl Engine {
    /// Brings the map in line with the books for these keys.
    pub(super) fn write_allowed(&mut self, keys: &[PrefixKey]) -> Result<(), EngineError> {
        let entries = keys
            .iter()
            .filter_map(|key| Some((*key, self.allowed.value(key)?)));
        let entries: Vec<_> = entries.collect();
        let gone = keys.iter().filter(|key| !self.allowed.contains(key));
        let gone: Vec<_> = gone.collect();
        let (table, hints) = self.dataplane.allowed();
        // Those that go make room for those that come.
        for key in gone {
            table.remove(hints, key)?;
        }
        Ok(table.insert(hints, &entries)?)
    }

    /// Makes the entries with this reason these, and writes what differs.
    pub(super) fn replace_allowed(
        &mut self,
        origin: AllowOrigin,
        entries: Vec<(PrefixKey, AllowRecord)>,
    ) -> Result<(), EngineError> {
        let before: BTreeMap<_, _> = self
            .allowed
            .of(origin)
            .map(|(key, record)| (*key, record.clone()))
            .collect();
        let after: BTreeMap<_, _> = entries.into_iter().collect();
        let gone = before.keys().filter(|key| !after.contains_key(key));
        let mut changed: Vec<_> = gone.copied().collect();
        // Other nodes can change thousands at once.
        let now = Instant::now();
        let mut lines = LogBudget::new(now);
        let mut tells = || origin != AllowOrigin::Fleet || lines.take(now);
        for key in &changed {
            if tells() {
                tracing::info!(source = %net(key), origin = origin.name(), "no longer allowed");
            }
            self.allowed.remove(key, origin);
        }
        for (key, record) in after {
            if before.get(&key) == Some(&record) {
                continue;
            }
            if tells() {
                tracing::info!(
                    source = %net(&key),
                    origin = origin.name(),
                    note = record.note.as_deref().unwrap_or_default(),
                    "allowed"
                );
            }
            self.allowed.insert(key, record);
            changed.push(key);
        }
        let more = lines.take_unsaid();
        if more > 0 {
            tracing::info!(more, "fleet: and other allow entries that came or went");
        }
        if !changed.is_empty() {
            self.reconsider_fleet();
        }
        self.write_allowed(&changed)
    }

    /// Drops entries of the map that the books do not have: those of an earlier daemon's
    /// configuration.
    pub(super) fn drop_stale_allow_entries(&mut self) -> Result<(), EngineError> {
        let before = self.dataplane.allowed().0.entries()?;
        let stale = before.iter().map(|(key, _)| *key);
        let stale: Vec<_> = stale.filter(|key| !self.allowed.contains(key)).collect();
        self.write_allowed(&stale)
    }

    /// Writes all that is allowed into the map.
    pub(super) fn write_all_allowed(&mut self) -> Result<(), EngineError> {
        let keys: Vec<_> = self.allowed.keys().copied().collect();
        self.write_allowed(&keys)
    }

    /// Who is to be spared when another node bans exactly this prefix: as [`Engine::spared_within`] says,
    /// but quickly for a host.
    pub(super) fn is_spared(&self, source: &PrefixKey) -> bool {
        let range = net(source);
        if self.trusted.iter().any(|proxy| overlap(proxy, &range)) {
            return true;
        }
        if range.prefix_len() < range.max_prefix_len() {
            return self.spared_within(&range).is_some();
        }
        covering(range.addr()).is_ok_and(|keys| keys.iter().any(|key| self.allowed.contains(key)))
    }

    /// Who is to be spared of bans by policies within a range, or covers it; the first of them.
    pub(super) fn spared_within(&self, range: &IpNet) -> Option<Spared> {
        Spared::within(range, &self.trusted, self.allowed.keys().map(net))
    }

    pub(super) fn allow_list(&self) -> Vec<AllowInfo> {
        self.allowed.infos().collect()
    }

    pub(super) fn allow_by_hand(
        &mut self,
        request: &AllowRequest,
        by: &str,
    ) -> Result<Changed<Vec<AllowInfo>>, EngineError> {
        let AllowRequest {
            sources,
            reason,
            force,
        } = request;
        check_reason(reason.as_deref())?;
        let keys = keys(sources, "allow")?;
        // As the map has it: an IPv4-mapped prefix is narrow only as it is written.
        let mut nets = keys.iter().map(net);
        if let Some(source) = nets.find(|source| !force && exempts_many(source)) {
            return Err(EngineError::Refused(format!(
                "{source} is wider than /{WIDEST_ALLOWED_IPV4} (IPv4) or /{WIDEST_ALLOWED_IPV6} (IPv6): \
                 nobody who comes from there would be limited or banned; use --force if you mean it"
            )));
        }
        let created = SystemTime::now();
        let record = AllowRecord {
            origin: AllowOrigin::Command,
            note: reason.clone(),
            by: Some(by.to_owned()),
            created: Some(created),
        };
        // The map first: if it is full, the books stay as they are.
        let entries: Vec<_> = keys
            .iter()
            .map(|key| (*key, AllowOrigin::Command as u64))
            .collect();
        let (table, hints) = self.dataplane.allowed();
        table.insert(hints, &entries)?;
        let mut allowed = Changed::<Vec<_>>::default();
        for source in keys {
            allowed.value.push(allow_info(&source, &record));
            allowed.changes.push(Change::Allow(AllowRow {
                source,
                created,
                reason: reason.clone(),
                by: record.by.clone(),
            }));
            self.allowed.insert(source, record.clone());
        }
        self.when_allowed.notify_one();
        self.reconsider_fleet();
        Ok(allowed)
    }

    pub(super) fn disallow_by_hand(
        &mut self,
        request: &RemoveRequest,
    ) -> Result<Changed<Vec<AllowInfo>>, EngineError> {
        if request.all {
            return Err(EngineError::Refused(
                "name the allow entries to remove; there is no --all for them".to_owned(),
            ));
        }
        let keys = keys(&request.sources, "remove from the allow list")?;
        for key in &keys {
            self.check_removable(key)?;
        }
        let mut removed = Changed::<Vec<_>>::default();
        for key in &keys {
            if let Some(record) = self.allowed.remove(key, AllowOrigin::Command) {
                removed.value.push(allow_info(key, &record));
                removed.changes.push(Change::Disallow(*key));
            }
        }
        self.write_allowed(&keys)?;
        self.when_allowed.notify_one();
        self.reconsider_fleet();
        Ok(removed)
    }

    /// Whether an entry is there because a command said so.
    fn check_removable(&self, key: &PrefixKey) -> Result<(), EngineError> {
        let Some(records) = self.allowed.0.get(key) else {
            return Err(EngineError::NotFound(format!(
                "{} is not in the allow list; `abuser allow list` shows what is",
                net(key)
            )));
        };
        let mut origins = records.iter().map(|record| record.origin);
        if origins.any(|origin| origin == AllowOrigin::Command) {
            return Ok(());
        }
        let source = net(key);
        Err(EngineError::Refused(match records.first() {
            Some(record) if record.origin == AllowOrigin::Automatic => format!(
                "{source} is allowed by itself ({}); without that, set \
                 [allow] automatic = false",
                record.note.as_deref().unwrap_or_default()
            ),
            Some(record) if record.origin == AllowOrigin::Fleet => format!(
                "{source} is allowed by another node of the fleet ({}); take it off the list there",
                record.note.as_deref().unwrap_or_default()
            ),
            _ => format!(
                "{source} is allowed by the configuration; take it out of [allow] addresses"
            ),
        }))
    }
}

fn allow_info(key: &PrefixKey, record: &AllowRecord) -> AllowInfo {
    AllowInfo {
        source: net(key),
        origin: record.origin.name().to_owned(),
        note: record.note.clone(),
        by: record.by.clone(),
        created: record.created.map(crate::daemon::clock::format),
    }
}
