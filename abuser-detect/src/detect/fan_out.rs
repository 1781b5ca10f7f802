//! Keys and addresses that do not belong together: one key from many sources, one source with many
//! keys, many keys that do the same.
//!
//! An account has a few addresses: at home, at work, on the road. A key that comes from dozens within minutes has been
//! leaked or is shared, or its owner rotates addresses to get round a limit. The other way round, a source with
//! dozens of keys is a large office behind one address, or somebody with a list of stolen keys. Both are
//! counts of different things within a time ([`super::sketch`]); what is a key here is a field of the record: `key`,
//! `user` or any other.
//!
//! # What to do about it
//!
//! A finding about a key has as its sources those that used it last, 64 at most. One of them may be the owner, so
//! `alert` is the action for it, and to revoke the key what helps; a ban of all its addresses is right only for keys
//! that nobody honest has. A finding about a source has that source.
//!
//! # Many keys that do the same
//!
//! Somebody who has several accounts sends the same requests with the key of each: he tries what each may
//! see, or votes once with each. One request in common means nothing: all users of an application ask for
//! `/api/me`. So what is compared are runs: the last `run` requests of a key, method and target with its ids, in order.
//! Of those only requests count that have an id in them ([`super::template`]), because what an application
//! asks for when it starts has none, while `/api/users/17` differs from account to account;
//! and at least half of a run have to be different, so that to poll is not a run. Found is a run that `identical`
//! keys have done within the time.
//!
//! What this cannot tell: many honest users who follow the same path through popular things. One page of a shop may
//! ask for `/products/17`, its prices and its first six pictures. `run` has to be longer than what one page
//! asks for. And it does not see keys that do the same in another order.
//!
//! After a finding its count begins anew, so it is quiet until as many have come again. All counts begin anew when `within` is
//! over since the first, so none holds more than came within that time.

use std::{hash::BuildHasher, time::Duration};

use foldhash::quality::RandomState;

use super::{
    Detector, Finding, Occupancy,
    lately::Lately,
    sketch::Distinct,
    subject::Subject,
    table::{Weigh, WeighedTable},
    template::Templates,
    words,
};
use crate::{
    field::Field,
    record::Record,
    source::{Masks, Source},
    time::Time,
};

/// The longest run.
const LONGEST_RUN: u8 = 64;
/// Bytes on the heap for each key, source or run, in the mean.
const HEAP_BYTES: usize = 256;

/// What a fan-out detector looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Different sources of one key that are a finding; `None` if no number is.
    pub sources: Option<u32>,
    /// Different keys of one source that are one; `None` if no number is.
    pub keys: Option<u32>,
    /// Different keys with the same run of requests that are one; `None` if no number is.
    pub identical: Option<u32>,
    /// Requests with ids that make a run: 2 to 64.
    pub run: u8,
    /// The time within which they come.
    pub within: Duration,
    /// What is a key.
    pub by: Field,
    /// How much of an address is a source.
    pub masks: Masks,
    /// Keys, sources and runs that are remembered, so many of each. One takes 130 bytes and up to 1.6 KB for what it counts, of
    /// which there are 256 bytes for each in the mean: when these are used up, whoever was quiet for longest is
    /// forgotten too.
    pub capacity: usize,
}

impl Default for Settings {
    /// 20 sources of a key or 20 keys of a source within ten minutes; runs are not compared, and are of
    /// 16 requests if they are.
    fn default() -> Self {
        Self {
            sources: Some(20),
            keys: Some(20),
            identical: None,
            run: 16,
            within: Duration::from_secs(600),
            by: Field::Key,
            masks: Masks::default(),
            capacity: 65_536,
        }
    }
}

/// The detector.
pub struct FanOut {
    settings: Settings,
    templates: Templates,
    /// The sources of each key, by its hash.
    of_key: WeighedTable<u64, Fan>,
    /// The keys of each source.
    of_source: WeighedTable<Source, Fan>,
    /// The last requests of each key.
    requests: WeighedTable<u64, Run>,
    /// The keys of each run.
    of_run: WeighedTable<u64, Fan>,
    state: RandomState,
}

/// Different things that belong to one.
#[derive(Debug)]
struct Fan {
    since: Time,
    different: Distinct,
    sources: Lately,
    /// Records since the count began.
    records: u32,
}

/// The last requests of a key, hashed.
#[derive(Debug, Default)]
struct Run {
    requests: Vec<u64>,
    /// Where the oldest is, when there are as many as make a run.
    oldest: u8,
}

impl FanOut {
    /// A detector that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        let budget = settings.capacity.max(1).saturating_mul(HEAP_BYTES);
        Self {
            templates: Templates::default(),
            of_key: WeighedTable::new(settings.capacity, budget),
            of_source: WeighedTable::new(settings.capacity, budget),
            requests: WeighedTable::new(settings.capacity, budget),
            of_run: WeighedTable::new(settings.capacity, budget),
            state: RandomState::default(),
            settings,
        }
    }

    /// Bytes on the heap for what is counted, without the tables themselves.
    pub fn heap_bytes(&self) -> usize {
        self.of_key.heap_bytes()
            + self.of_source.heap_bytes()
            + self.requests.heap_bytes()
            + self.of_run.heap_bytes()
    }

    /// The run that a request of a key ends, if it ends one.
    fn run(&mut self, record: &Record<'_>, key: u64) -> Option<u64> {
        let template = self.templates.read(record.path.as_deref()?);
        if template.ids.is_empty() {
            return None;
        }
        let method = record.method.as_deref();
        let ids = template.ids.iter().map(|id| (id.place, id.value));
        let request = ids.fold(self.state.hash_one((method, template.hash)), |hash, id| {
            self.state.hash_one((hash, id))
        });
        let length = usize::from(self.settings.run.clamp(2, LONGEST_RUN));
        let state = &self.state;
        self.requests
            .update(key, Run::default, |run| run.note(request, length, state))
    }
}

impl Detector for FanOut {
    fn observe(&mut self, record: &Record<'_>, at: Time) -> Option<Finding> {
        let source = Source::new(record.source?, self.settings.masks);
        let subject = Subject::of(&self.settings.by, record)?;
        let key = subject.hash(&self.state);
        let Settings { within, masks, .. } = self.settings;
        let mut found = None;

        if let Some(wanted) = self.settings.sources {
            let thing = self.state.hash_one(source);
            let new = || Fan::new(at);
            let enough = self.of_key.update(key, new, |fan| {
                fan.note(thing, source, at, within, wanted, masks)
            });
            found = enough.map(|(count, records, sources)| Finding {
                sources,
                subject: Some(subject.name()),
                at,
                count: records,
                reason: format!(
                    "one key from {count} sources within {}",
                    words::duration(within)
                ),
            });
        }
        if let Some(wanted) = self.settings.keys {
            let enough = self.of_source.update(
                source,
                || Fan::new(at),
                |fan| fan.note(key, source, at, within, wanted, masks),
            );
            let enough = enough.map(|(count, records, sources)| Finding {
                sources,
                subject: None,
                at,
                count: records,
                reason: format!(
                    "{count} keys from one source within {}",
                    words::duration(within)
                ),
            });
            found = found.or(enough);
        }
        if let Some(wanted) = self.settings.identical
            && let Some(run) = self.run(record, key)
        {
            let enough = self.of_run.update(
                run,
                || Fan::new(at),
                |fan| fan.note(key, source, at, within, wanted, masks),
            );
            if enough.is_some() {
                // The next request of this key would end the next run that all of them have in common.
                self.requests.remove(&key);
            }
            let length = self.settings.run.clamp(2, LONGEST_RUN);
            let enough = enough.map(|(count, records, sources)| Finding {
                sources,
                subject: None,
                at,
                count: records.saturating_mul(u32::from(length)),
                reason: format!(
                    "{count} keys with the same {length} requests within {}",
                    words::duration(within)
                ),
            });
            found = found.or(enough);
        }
        found
    }

    fn occupancy(&self) -> Occupancy {
        let Self {
            of_key,
            of_source,
            requests,
            of_run,
            ..
        } = self;
        let used = [
            self.settings.sources.map(|_| of_key.occupancy()),
            self.settings.keys.map(|_| of_source.occupancy()),
            self.settings.identical.map(|_| requests.occupancy()),
            self.settings.identical.map(|_| of_run.occupancy()),
        ];
        used.into_iter()
            .flatten()
            .fold(Occupancy::default(), |all, one| Occupancy {
                tracked: all.tracked + one.tracked,
                capacity: all.capacity + one.capacity,
                evicted: all.evicted + one.evicted,
            })
    }
}

impl Fan {
    fn new(since: Time) -> Self {
        Self {
            since,
            different: Distinct::default(),
            sources: Lately::default(),
            records: 0,
        }
    }

    /// Takes note of a thing, and of who sent it. When there are enough: how many things, on how many
    /// records, and who sent them; then the count begins anew.
    fn note(
        &mut self,
        thing: u64,
        source: Source,
        at: Time,
        within: Duration,
        wanted: u32,
        masks: Masks,
    ) -> Option<(u32, u32, Vec<ipnet::IpNet>)> {
        if at.apart(self.since) > within {
            *self = Self::new(at);
        }
        self.different.insert(thing);
        self.sources.note(source);
        self.records = self.records.saturating_add(1);
        let count = self.different.count();
        (count >= wanted.max(2)).then(|| {
            let fan = std::mem::replace(self, Self::new(at));
            (count, fan.records, fan.sources.nets(masks))
        })
    }
}

impl Weigh for Fan {
    fn heap_bytes(&self) -> usize {
        self.different.heap_bytes() + self.sources.heap_bytes()
    }
}

impl Run {
    /// Takes note of a request; a hash of the last `length` of them if there are as many, and half of
    /// them are different.
    fn note(&mut self, request: u64, length: usize, state: &RandomState) -> Option<u64> {
        let oldest = usize::from(self.oldest);
        if self.requests.len() < length {
            self.requests.push(request);
        } else if let Some(place) = self.requests.get_mut(oldest) {
            *place = request;
            self.oldest = self.oldest.wrapping_add(1);
            if usize::from(self.oldest) >= length {
                self.oldest = 0;
            }
        }
        if self.requests.len() < length {
            return None;
        }
        let (newer, older) = self.requests.split_at(usize::from(self.oldest));
        let mut sorted = [u64::MAX; LONGEST_RUN as usize];
        let sorted = sorted.get_mut(..length)?;
        sorted.copy_from_slice(&self.requests);
        sorted.sort_unstable();
        let different = sorted.chunk_by(|one, other| one == other).count();
        if different * 2 < length {
            return None;
        }
        Some(
            older
                .iter()
                .chain(newer)
                .fold(0, |hash, request| state.hash_one((hash, request))),
        )
    }
}

impl Weigh for Run {
    fn heap_bytes(&self) -> usize {
        self.requests.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests;
