//! Bans as they are told: one by one, those that cover an address, and all of them a page at a
//! time, so that a million of them hold up nothing and take no memory.

use std::{net::IpAddr, sync::Arc};

use abuser_common::{
    gcra::KernelTime,
    layout::{Ban, BanCause},
    prefix::PrefixKey,
};

use ipnet::IpNet;

use super::{Engine, EngineError, Page, books::BanRecord, covering, net};
use crate::{
    api::types::{BanInfo, BanOrder},
    daemon::clock,
    dataplane::{kernel_now, prefixes::PrefixReader, wall_clock},
    exchange::Record,
};

/// Bans of one page.
const PAGE_SIZE: usize = 1024;

/// One ban, as the books have it.
#[derive(Debug, Clone)]
pub struct BanEntry {
    key: PrefixKey,
    record: BanRecord,
    /// What has met it is read where it is told, by whoever tells it.
    table: Arc<PrefixReader<Ban>>,
}

impl BanEntry {
    /// Its number; a later ban has a higher one.
    pub fn id(&self) -> u64 {
        self.record.id
    }

    /// Whom it bans.
    pub fn source(&self) -> IpNet {
        net(&self.key)
    }

    /// What it is known by, besides its source: what made it, under which name, and what was said.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let note = &self.record.note;
        let said = [&note.subject, &note.policy, &note.reason, &note.by];
        let said = said.into_iter().filter_map(|text| text.as_deref());
        std::iter::once(note.cause.name()).chain(said)
    }

    /// As the API tells it.
    pub fn info(&self) -> BanInfo {
        let Self { key, record, .. } = self;
        info(key, Some(record), &record.entry(self.in_map()))
    }

    /// As an export has it; without what has met it, which costs a system call, unless that is
    /// asked for.
    pub fn exported(&self, with_hits: bool) -> Record<'_> {
        let Self { key, record, .. } = self;
        let expires = KernelTime(record.expires_ns);
        let ban = if with_hits { self.in_map() } else { None };
        Record {
            source: net(key),
            created: record.created,
            expires: (expires.0 != 0).then(|| wall_clock(expires)),
            cause: record.note.cause.name(),
            reason: record.note.reason.as_deref(),
            by: record.note.by.as_deref(),
            hits: ban.map_or(0, |ban| ban.hits.total),
        }
    }

    /// The entry of the map; one that somebody deleted is put back by the reconciler, and nothing
    /// has met it.
    fn in_map(&self) -> Option<Ban> {
        self.table.get(&self.key)
    }
}

impl Engine {
    /// The bans in force after the one of `after`, or the first ones.
    pub(super) fn ban_page(
        &mut self,
        after: Option<PrefixKey>,
    ) -> Result<Page<BanEntry>, EngineError> {
        let now = kernel_now().0;
        let table = Arc::new(self.dataplane.bans().0.reader()?);
        let mut page = Page::default();
        for (key, record) in self.bans.page(after, PAGE_SIZE) {
            page.next = Some(*key);
            if !Ban::expired(record.expires_ns, now) {
                page.items.push(BanEntry {
                    key: *key,
                    record: record.clone(),
                    table: Arc::clone(&table),
                });
            }
        }
        Ok(page)
    }

    /// At most `count` bans in force, in this order, as a page that none follows.
    pub(super) fn some_bans(
        &mut self,
        order: BanOrder,
        count: usize,
    ) -> Result<Page<BanEntry>, EngineError> {
        let now = kernel_now().0;
        let table = Arc::new(self.dataplane.bans().0.reader()?);
        let in_force = |(_, record): &(&PrefixKey, &BanRecord)| -> bool {
            !Ban::expired(record.expires_ns, now)
        };
        let found: Vec<_> = match order {
            BanOrder::Source => self.bans.iter().filter(in_force).take(count).collect(),
            BanOrder::Ends => {
                let with_end = self.bans.ending(u64::MAX);
                let with_end = with_end.filter_map(|key| Some((key, self.bans.get(key)?)));
                let without = self.bans.iter();
                let without = without.filter(|(_, record)| record.expires_ns == 0);
                with_end
                    .filter(in_force)
                    .chain(without)
                    .take(count)
                    .collect()
            }
        };
        let entries = found.into_iter().map(|(key, record)| BanEntry {
            key: *key,
            record: record.clone(),
            table: Arc::clone(&table),
        });
        Ok(Page {
            items: entries.collect(),
            next: None,
        })
    }

    pub(super) fn ban_info(&self, key: &PrefixKey, ban: &Ban) -> BanInfo {
        info(key, self.bans.get(key), ban)
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
}

fn info(key: &PrefixKey, record: Option<&BanRecord>, ban: &Ban) -> BanInfo {
    let note = record.map(|record| &record.note);
    let subject = |cause| {
        note.filter(|note| note.cause == cause)
            .and_then(|note| note.subject.clone())
    };
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
        limit: subject(BanCause::Limit),
        blocklist: subject(BanCause::Blocklist),
        detector: subject(BanCause::Detector),
        crowdsec: subject(BanCause::Crowdsec),
        node: subject(BanCause::Fleet),
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
