//! Throttles: sources to which stricter limits apply for a while. The map first, then the books,
//! then the store and the stream.

mod books;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::SystemTime,
};

use abuser_common::{layout::MAX_TERMS, prefix::PrefixKey};

use self::books::ThrottleRecord;
pub(super) use self::books::{ThrottleBooks, throttling};
use super::{
    Changed, Engine, EngineError, Page, bans::end, check_reason, covering, keys, net,
    restore::deadline,
};
use crate::{
    api::types::{
        BanDuration, EventKind, EventRecord, ThrottleInfo, ThrottleRequest, UnthrottleRequest,
    },
    config::{LimitConfig, Scope},
    daemon::clock,
    dataplane::{kernel_now, throttles::entry},
    policy::{WIDEST_IPV4, WIDEST_IPV6, ends::outlasts, is_wide},
    store::{Change, ThrottleNote, ThrottleRow},
};

/// Sources that are told in one page, and throttles that are cleared away in one go; events do not
/// wait for more.
const AT_ONCE: usize = 256;

/// A throttle that is to be.
#[derive(Debug, Clone)]
pub(super) struct NewThrottle {
    pub(super) source: PrefixKey,
    /// As in the map: kernel time in nanoseconds, 0 for never.
    pub(super) expires_ns: u64,
    /// By which limit, and why.
    pub(super) note: Arc<ThrottleNote>,
}

/// Whether a limit with this name is for throttled sources.
fn can_throttle<'a>(limits: impl IntoIterator<Item = &'a LimitConfig>, name: &str) -> bool {
    let mut limits = limits.into_iter();
    limits.any(|limit| limit.name == name && limit.only == Scope::Throttled)
}

impl Engine {
    /// Throttles sources: all of them or, if one cannot be throttled, none. One that is throttled
    /// by the same limit already is so for longer, never for less. Prefixes that are too wide to be
    /// banned are refused unless `force` is set.
    pub(super) fn throttle(
        &mut self,
        new: Vec<NewThrottle>,
        force: bool,
    ) -> Result<Changed<Vec<ThrottleInfo>>, EngineError> {
        let (now, created) = (kernel_now().0, SystemTime::now());
        // Those that were not swept yet end before what follows them begins.
        let records = |new: &NewThrottle| {
            let records = self.throttles.of(&new.source).iter();
            let over = records.filter(|record| record.expired(now));
            let over = over.map(|record| (new.source, Arc::clone(&record.note.limit)));
            over.collect::<Vec<_>>()
        };
        let over: Vec<_> = new.iter().flat_map(records).collect();
        self.end_expired_throttles(&over)?;
        let mut after = BTreeMap::<PrefixKey, Vec<ThrottleRecord>>::new();
        // In their order: the source, its limit, and whether that is anything new.
        let mut made = Vec::with_capacity(new.len());
        for NewThrottle {
            source,
            expires_ns,
            note,
        } in new
        {
            self.check_throttle(&source, &note.limit, force)?;
            let records = after
                .entry(source)
                .or_insert_with(|| self.throttles.of(&source).to_vec());
            let known = records.iter().find(|record| record.is_by(&note.limit));
            let is_new = known.is_none_or(|known| outlasts(expires_ns, known.expires_ns));
            made.push((source, Arc::clone(&note.limit), is_new));
            if !is_new {
                continue;
            }
            records.retain(|record| !record.is_by(&note.limit));
            if records.len() >= MAX_TERMS {
                return Err(too_many(&source, records));
            }
            records.push(ThrottleRecord {
                expires_ns,
                created,
                note,
            });
        }
        let (table, hints, limits) = self.dataplane.throttled();
        let entries = after.iter().map(|(source, records)| {
            let entry = entry(&throttling(records), limits.configs(), limits.bank());
            (*source, entry)
        });
        let entries: Vec<_> = entries.collect();
        table.insert(hints, &entries)?;
        let mut throttled = Changed::<Vec<_>>::default();
        for (source, records) in after {
            for record in records {
                self.throttles.insert(source, record);
            }
        }
        for (source, limit, is_new) in made {
            let records = self.throttles.of(&source);
            let Some(record) = records.iter().find(|record| record.is_by(&limit)) else {
                continue;
            };
            let info = record.info(&source);
            if is_new {
                throttled
                    .changes
                    .push(Change::Throttle(record.row(&source)));
                tracing::info!(
                    source = %info.source,
                    limit = info.limit,
                    expires = info.expires.as_deref().unwrap_or("never"),
                    reason = info.reason.as_deref().unwrap_or_default(),
                    "throttled"
                );
                self.publish(throttle_event(
                    EventKind::Throttle,
                    &info,
                    info.reason.clone(),
                ));
            }
            throttled.value.push(info);
        }
        Ok(throttled)
    }

    /// Whether a source may be throttled to a limit of that name.
    pub(super) fn check_throttle(
        &self,
        source: &PrefixKey,
        limit: &str,
        force: bool,
    ) -> Result<(), EngineError> {
        let source = net(source);
        if is_wide(&source) && !force {
            return Err(EngineError::Refused(format!(
                "{source} is wider than /{WIDEST_IPV4} (IPv4) or /{WIDEST_IPV6} (IPv6) and may slow \
                 down many; use --force if you mean it"
            )));
        }
        let limits = self.dataplane.limits();
        if can_throttle(limits.configs(), limit) {
            return Ok(());
        }
        if limits.configs().any(|known| known.name == limit) {
            return Err(EngineError::Refused(format!(
                "limit {limit} applies to all sources, throttled or not; name one that says only = \
                 \"throttled\""
            )));
        }
        let throttling = limits.configs();
        let throttling = throttling.filter(|limit| limit.only == Scope::Throttled);
        let names: Vec<_> = throttling.map(|limit| limit.name.as_str()).collect();
        Err(EngineError::Refused(if names.is_empty() {
            format!(
                "there is no limit {limit:?}; add a [[limit]] with this name and only = \
                 \"throttled\""
            )
        } else {
            format!(
                "there is no limit {limit:?} for throttled sources; there are: {}",
                names.join(", ")
            )
        }))
    }

    pub(super) fn throttle_by_hand(
        &mut self,
        request: &ThrottleRequest,
        by: &str,
    ) -> Result<Changed<Vec<ThrottleInfo>>, EngineError> {
        let ThrottleRequest {
            sources,
            limit,
            duration,
            reason,
            force,
        } = request;
        check_reason(reason.as_deref())?;
        if *duration == BanDuration::Seconds(0) {
            return Err(EngineError::Refused(
                "a throttle of no time at all slows nobody; say for how long".to_owned(),
            ));
        }
        let expires_ns = end(self.time_of(*duration)?);
        let keys = keys(sources, "throttle")?;
        let note = Arc::new(ThrottleNote {
            limit: limit.as_str().into(),
            reason: reason.clone(),
            by: Some(by.to_owned()),
        });
        let new = keys.into_iter().map(|source| NewThrottle {
            source,
            expires_ns,
            note: Arc::clone(&note),
        });
        self.throttle(new.collect(), *force)
    }

    pub(super) fn unthrottle_by_hand(
        &mut self,
        request: &UnthrottleRequest,
        by: &str,
    ) -> Result<Changed<Vec<ThrottleInfo>>, EngineError> {
        let UnthrottleRequest { sources, limit } = request;
        let keys = keys(sources, "throttle no more")?;
        let now = kernel_now().0;
        let mut ending = Vec::new();
        for key in &keys {
            let records = self.throttles.of(key).iter();
            let records = records.filter(|record| !record.expired(now));
            let named = records.filter(|record| limit.as_deref().is_none_or(|l| record.is_by(l)));
            let before = ending.len();
            ending.extend(named.map(|record| (*key, Arc::clone(&record.note.limit))));
            if ending.len() == before {
                return Err(self.not_throttled(key, limit.as_deref()));
            }
        }
        let how = format!("removed by {by}");
        let ended = self.end_throttles(&ending, &how)?;
        for info in &ended.value {
            tracing::info!(source = %info.source, limit = info.limit, by, "no longer throttled");
        }
        Ok(ended)
    }

    fn not_throttled(&self, key: &PrefixKey, limit: Option<&str>) -> EngineError {
        let source = net(key);
        let by = limit.map_or_else(String::new, |limit| format!(" by limit {limit}"));
        let covering = self.throttles_covering(source.addr()).unwrap_or_default();
        let mut covering = covering.iter();
        let wider = covering.find(|info| {
            info.source.contains(&source)
                && info.source != source
                && limit.is_none_or(|limit| limit == info.limit)
        });
        EngineError::NotFound(wider.map_or_else(
            || format!("{source} is not throttled{by}; `abuser throttle list` shows who is"),
            |info| {
                format!(
                    "{source} is not throttled{by} by itself but as part of {}",
                    info.source
                )
            },
        ))
    }

    /// Ends throttles and tells it to the stream, but not to the log; `how` is for the stream.
    fn end_throttles(
        &mut self,
        ending: &[(PrefixKey, Arc<str>)],
        how: &str,
    ) -> Result<Changed<Vec<ThrottleInfo>>, EngineError> {
        let mut left = BTreeMap::<PrefixKey, Vec<ThrottleRecord>>::new();
        for (source, limit) in ending {
            let records = left
                .entry(*source)
                .or_insert_with(|| self.throttles.of(source).to_vec());
            records.retain(|record| !record.is_by(limit));
        }
        self.write_throttles(&left)?;
        let mut ended = Changed::<Vec<_>>::default();
        for (source, limit) in ending {
            let records = self.throttles.of(source);
            let Some(record) = records.iter().find(|record| record.is_by(limit)).cloned() else {
                continue;
            };
            let info = record.info(source);
            ended.changes.push(self.forget_throttle(source, &record));
            if self.events.receiver_count() > 0 {
                let why = Some(how.to_owned());
                self.publish(throttle_event(EventKind::Unthrottle, &info, why));
            }
            ended.value.push(info);
        }
        Ok(ended)
    }

    /// Brings the map in line with what these sources are to be throttled by.
    pub(super) fn write_throttles(
        &mut self,
        wanted: &BTreeMap<PrefixKey, Vec<ThrottleRecord>>,
    ) -> Result<(), EngineError> {
        let (table, hints, limits) = self.dataplane.throttled();
        let mut entries = Vec::new();
        for (source, records) in wanted {
            if records.is_empty() {
                table.remove(hints, source)?;
            } else {
                let entry = entry(&throttling(records), limits.configs(), limits.bank());
                entries.push((*source, entry));
            }
        }
        Ok(table.insert(hints, &entries)?)
    }

    /// Takes a throttle out of the books.
    fn forget_throttle(&mut self, source: &PrefixKey, record: &ThrottleRecord) -> Change {
        let limit = &record.note.limit;
        self.throttles.remove(source, limit);
        Change::Unthrottle(*source, Arc::clone(limit))
    }

    /// Ends throttles that are over, and tells of each.
    fn end_expired_throttles(&mut self, over: &[(PrefixKey, Arc<str>)]) -> Result<(), EngineError> {
        if over.is_empty() {
            return Ok(());
        }
        let Changed { value, changes } = self.end_throttles(over, "expired")?;
        for info in &value {
            tracing::info!(
                source = %info.source,
                limit = info.limit,
                how = "expired",
                "no longer throttled"
            );
        }
        self.store.write(changes, None);
        Ok(())
    }

    /// Clears some throttles away that are over; whether there are more.
    pub(super) fn sweep_throttles(&mut self) -> bool {
        let over = self.throttles.over(kernel_now().0, AT_ONCE);
        if over.is_empty() {
            return false;
        }
        match self.end_expired_throttles(&over) {
            Ok(()) => over.len() == AT_ONCE,
            Err(error) => {
                tracing::error!(%error, "cannot clear throttles away that are over");
                false
            }
        }
    }

    /// Ends the throttles by limits that a new configuration does not have, or has for all.
    pub(super) fn end_throttles_without_limit(&mut self) {
        let limits = self.dataplane.limits();
        let ending = self
            .throttles
            .matching(|note| !can_throttle(limits.configs(), &note.limit));
        if ending.is_empty() {
            return;
        }
        match self.end_throttles(&ending, "the limit is gone") {
            Ok(ended) => {
                let gone: BTreeSet<_> = ending.iter().map(|(_, limit)| &**limit).collect();
                for limit in gone {
                    let count = ended.value.iter().filter(|info| info.limit == limit);
                    tracing::info!(
                        limit,
                        "no longer throttled, because the limit is gone: {}",
                        crate::words::counted(count.count() as u64, "source", "sources")
                    );
                }
                self.store.write(ended.changes, None);
            }
            Err(error) => {
                tracing::error!(%error, "cannot end the throttles by a limit that is gone");
            }
        }
    }

    /// Makes the books of what the store holds, of limits that there are; what the store is to
    /// forget. The map follows when the limits are put in force.
    pub(super) fn restore_throttles(
        &mut self,
        rows: Vec<ThrottleRow>,
        limits: &[LimitConfig],
    ) -> Vec<Change> {
        let (now, wall) = (kernel_now().0, SystemTime::now());
        let mut changes = Vec::new();
        for row in rows {
            let record = ThrottleRecord {
                expires_ns: deadline(Some(row.created), row.expires, wall),
                created: row.created,
                note: row.note,
            };
            let limit = &record.note.limit;
            let has_room = self.throttles.of(&row.source).len() < MAX_TERMS;
            if record.expired(now) || !can_throttle(limits, limit) || !has_room {
                changes.push(Change::Unthrottle(row.source, Arc::clone(limit)));
                continue;
            }
            self.throttles.insert(row.source, record);
        }
        changes
    }

    /// Takes in throttles of a store that could not be read at the start.
    pub(super) fn take_in_throttles(&mut self, rows: Vec<ThrottleRow>) -> Result<(), EngineError> {
        let configs: Vec<_> = self.dataplane.limits().configs().cloned().collect();
        let known = |row: &ThrottleRow| {
            let records = self.throttles.of(&row.source).iter();
            let mut records = records.filter(|record| record.is_by(&row.note.limit));
            records.next().is_some()
        };
        let unknown: Vec<_> = rows.into_iter().filter(|row| !known(row)).collect();
        let _forgotten = self.restore_throttles(unknown, &configs);
        self.write_throttles(&self.throttles.records().clone())
    }

    /// Drops entries of the map that the books do not have: those that an earlier daemon had not
    /// written down yet, and those of limits that are gone.
    pub(super) fn drop_stale_throttles(&mut self) -> Result<(), EngineError> {
        let entries = self.dataplane.throttled().0.entries()?;
        let stale = entries.into_iter().map(|(source, _)| source);
        let stale = stale.filter(|source| !self.throttles.contains(source));
        self.write_throttles(&stale.map(|source| (source, Vec::new())).collect())
    }

    /// The throttles in force of sources after `after`, or of the first ones.
    pub(super) fn throttle_page(&self, after: Option<PrefixKey>) -> Page<ThrottleInfo> {
        let now = kernel_now().0;
        let mut page = Page::default();
        for (source, records) in self.throttles.page(after, AT_ONCE) {
            page.next = Some(*source);
            let in_force = records.iter().filter(|record| !record.expired(now));
            page.items
                .extend(in_force.map(|record| record.info(source)));
        }
        page
    }

    /// What an address is throttled by, the longest prefix first.
    pub(super) fn throttles_covering(
        &self,
        address: IpAddr,
    ) -> Result<Vec<ThrottleInfo>, EngineError> {
        let now = kernel_now().0;
        let mut found = Vec::new();
        for source in covering(address)? {
            let in_force = self.throttles.of(&source).iter();
            let in_force = in_force.filter(|record| !record.expired(now));
            found.extend(in_force.map(|record| record.info(&source)));
        }
        Ok(found)
    }
}

fn too_many(source: &PrefixKey, records: &[ThrottleRecord]) -> EngineError {
    let source = net(source);
    let limits = records.iter().map(|record| &*record.note.limit);
    EngineError::Refused(format!(
        "{source} is throttled by {MAX_TERMS} limits already ({}), which is the most; end one with \
         `abuser throttle remove {source} --limit NAME`",
        limits.collect::<Vec<_>>().join(", ")
    ))
}

fn throttle_event(kind: EventKind, info: &ThrottleInfo, reason: Option<String>) -> EventRecord {
    let expires = info.expires.clone();
    EventRecord {
        source: Some(info.source.to_string()),
        limit: Some(info.limit.clone()),
        expires: expires.filter(|_| kind == EventKind::Throttle),
        reason,
        ..EventRecord::new(kind, clock::now())
    }
}
