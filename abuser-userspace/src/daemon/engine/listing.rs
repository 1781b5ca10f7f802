//! Bans as they are told: one by one, those that cover an address, and all of them a page at a
//! time, so that a million of them hold up nothing and take no memory.

use std::net::IpAddr;

use abuser_common::{
    gcra::KernelTime,
    layout::{Ban, BanCause},
    prefix::PrefixKey,
};

use super::{Engine, EngineError, Page, books::BanRecord, covering, net};
use crate::{
    api::types::BanInfo,
    daemon::clock,
    dataplane::{kernel_now, wall_clock},
    exchange::Record,
};

/// Bans of one page.
const PAGE_SIZE: usize = 512;

/// One ban, as the books and the map have it.
#[derive(Debug, Clone)]
pub struct BanEntry {
    key: PrefixKey,
    record: BanRecord,
    ban: Ban,
}

impl BanEntry {
    /// As the API tells it.
    pub fn info(&self) -> BanInfo {
        info(&self.key, Some(&self.record), &self.ban)
    }

    /// As an export has it.
    pub fn exported(&self) -> Record<'_> {
        let Self { key, record, ban } = self;
        Record {
            source: net(key),
            created: record.created,
            expires: (ban.expires_ns != 0).then(|| wall_clock(KernelTime(ban.expires_ns))),
            cause: record.note.cause.name(),
            reason: record.note.reason.as_deref(),
            by: record.note.by.as_deref(),
            hits: ban.hits.total,
        }
    }
}

impl Engine {
    /// The bans in force after the one of `after`, or the first ones.
    pub(super) fn ban_page(
        &mut self,
        after: Option<PrefixKey>,
    ) -> Result<Page<BanEntry>, EngineError> {
        let now = kernel_now().0;
        let mut page = Page::default();
        let table = self.dataplane.bans().0;
        for (key, record) in self.bans.page(after, PAGE_SIZE) {
            page.next = Some(*key);
            let record = record.clone();
            // One that somebody deleted is put back by the reconciler, and tells no hits.
            let ban = table.get(key)?.unwrap_or_else(|| record.entry(None));
            if !Ban::expired(ban.expires_ns, now) {
                let key = *key;
                page.items.push(BanEntry { key, record, ban });
            }
        }
        Ok(page)
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
