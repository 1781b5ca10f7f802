//! Who is busiest: the sources that met limits and bans of late, and those that have used most of
//! what a limit grants them.
//!
//! The former are known from events ([`summary`]), the latter from the bucket table, which tells
//! IPv4 sources exactly and IPv6 sources not at all. To go through the table takes milliseconds, so
//! that is done where no ban waits for it ([`Search`]); how it stands with whoever was found is
//! told by the engine in a second step ([`Engine::complete_top`]).

mod summary;

use std::{collections::HashSet, sync::Arc};

use abuser_common::{
    event::{Event, Reason},
    gcra::KernelTime,
    prefix::PrefixKey,
};

pub(super) use self::summary::Summary;
use self::summary::{CAPACITY, Entry, Met, WINDOW_SECONDS};
use super::{Engine, EngineError, explain::limit_level, key, net};
use crate::{
    api::types::{Top, TopBan, TopSource},
    daemon::clock,
    dataplane::{
        buckets::{Buckets, Charged, Owners},
        kernel_now,
        limits::LoadedLimit,
        wall_clock,
    },
};

impl Summary {
    /// Takes in what an event of the program tells.
    pub(super) fn note(&mut self, event: &Event) {
        let (Some(verdict), Some(reason)) = (event.verdict(), event.reason()) else {
            return;
        };
        let by_limit = reason == Reason::Limit;
        let counted = event.source.source().map(|source| {
            let length = u8::try_from(event.prefix).unwrap_or(u8::MAX);
            source.prefix(length.min(source.family.bits()))
        });
        let source = if by_limit {
            counted
        } else {
            Some(event.source)
        };
        let Some(source) = source else {
            return;
        };
        self.add(&Met {
            source,
            verdict,
            packets: event.drops,
            limit: by_limit.then_some(event.cause),
            verified: by_limit.then(|| event.verified()),
            time_ns: event.time_ns,
        });
    }
}

/// What is needed to find the busiest sources.
pub(super) struct Search {
    count: usize,
    now: KernelTime,
    /// Those that events told of, the first with most packets.
    met: Vec<(PrefixKey, Entry)>,
    limits: Vec<LoadedLimit>,
    buckets: Arc<Buckets>,
    owners: Owners,
}

impl Search {
    /// Completes what [`Engine::top`] began: who met most comes first, then who has used most.
    pub(super) fn complete(self, top: &mut Top) {
        let Self {
            count,
            now,
            met,
            limits,
            buckets,
            owners,
        } = self;
        for (source, entry) in &met {
            let by_id = |limit: &&LoadedLimit| Some(limit.id) == entry.limit;
            let limit = limits.iter().find(by_id);
            let level = limit.and_then(|limit| {
                let ahead = buckets.level(&owners, limit, &source.source()?, now);
                Some(limit_level(limit, source, ahead))
            });
            top.sources.push(TopSource {
                recent: entry.recent(now.0),
                rate: entry.rate(now.0),
                dropped: entry.dropped,
                observed: entry.observed,
                allowed: entry.allowed,
                since: Some(clock::format(wall_clock(KernelTime(entry.first_ns)))),
                last: Some(clock::format(wall_clock(KernelTime(entry.last_ns)))),
                verified: entry.verified,
                level,
                ..TopSource::new(net(source))
            });
        }
        let mut told: HashSet<_> = met.into_iter().map(|(source, _)| source).collect();
        // A source may have a bucket under each limit, and some are told already.
        let enough = (count + told.len()) * limits.len().max(1);
        for charged in buckets.fullest(&owners, &limits, now, enough) {
            if top.sources.len() >= count {
                break;
            }
            let Charged {
                limit,
                source,
                ahead,
            } = charged;
            if told.insert(source) {
                top.sources.push(TopSource {
                    level: Some(limit_level(limit, &source, ahead)),
                    ..TopSource::new(net(&source))
                });
            }
        }
    }
}

impl Engine {
    /// What is known of the busiest sources at hand, and what finds the rest.
    pub(super) fn top(&self, count: usize) -> (Result<Top, EngineError>, Search) {
        let now = kernel_now();
        let top = Top {
            time: clock::now(),
            window_seconds: WINDOW_SECONDS,
            remembered: self.met.len(),
            capacity: CAPACITY,
            sources: Vec::new(),
        };
        let search = Search {
            count,
            now,
            met: self.met.busiest(count, now.0),
            limits: self.dataplane.limits().loaded().to_vec(),
            buckets: Arc::clone(self.dataplane.buckets()),
            owners: self.dataplane.bucket_owners(),
        };
        (Ok(top), search)
    }

    /// Tells how it stands with the sources that were found: who of them is banned, allowed or
    /// throttled.
    pub(super) fn complete_top(&self, mut top: Top) -> Result<Top, EngineError> {
        for told in &mut top.sources {
            let covering = prefixes_over(&key(&told.source)?);
            let banned = covering.iter().find(|prefix| self.is_banned(prefix));
            told.ban = banned.and_then(|prefix| {
                let record = self.bans.get(prefix)?;
                let left = record.expires_ns.saturating_sub(kernel_now().0);
                Some(TopBan {
                    id: record.id,
                    source: net(prefix),
                    cause: record.note.cause.name().to_owned(),
                    expires: clock::format_kernel(record.expires_ns),
                    remaining_seconds: (record.expires_ns != 0).then_some(left / 1_000_000_000),
                })
            });
            told.allow = covering.iter().any(|prefix| self.allowed.contains(prefix));
            let throttled = covering.iter();
            told.throttled = throttled
                .flat_map(|prefix| self.throttles.limits_of(prefix, kernel_now().0))
                .collect();
            told.throttled.sort_unstable();
            told.throttled.dedup();
        }
        Ok(top)
    }
}

/// A prefix and all that it lies in, the longest first.
fn prefixes_over(prefix: &PrefixKey) -> Vec<PrefixKey> {
    let length = u8::try_from(prefix.length).unwrap_or_default();
    let source = prefix.source();
    let lengths = source.iter().flat_map(|_| (0..=length).rev());
    lengths
        .filter_map(|length| Some(source?.prefix(length)))
        .collect()
}
