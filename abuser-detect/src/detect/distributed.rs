//! Many sources that do the same at a steady beat: a botnet whose members each stay below every limit.
//!
//! What gives them away is their clock. People ask at random: the time between two requests of a
//! person is now short, now long. A program that waits `n` seconds between requests asks at intervals
//! that hardly differ, and the members of a botnet all run the same program. So for each source and
//! template of a path ([`super::template`]) the last intervals are remembered; a source is *steady* if their standard
//! deviation is at most `spread` of their mean. Found are sources that are steady on the same template, at intervals
//! that differ by no more than about a tenth, as soon as there are `sources` of them.
//!
//! # Applications that poll
//!
//! The thousand users of an application that asks `/api/news` every 30 seconds do exactly that. No clock
//! tells them from a botnet, so something else must:
//!
//! - what they get: the requests of an application succeed, those of a botnet that tries passwords or guesses ids are
//!   refused. A source counts only if at least `failures` of its last requests were answered with 400 or above;
//! - where they ask: no application polls a login, a search or an export. With a `where` for such endpoints,
//!   `failures` may be 0.
//!
//! With `failures = 0` and no `where`, applications that poll will be found. There is no third way: a
//! botnet that harvests what everybody may read, at the beat of an application, looks like its users.
//!
//! # The resolution of logs
//!
//! Most logs have whole seconds: an interval of 2.5 s is then 2 or 3 s. Rounding adds a sixth of
//! a square second to the variance of intervals. If all times of a source are whole seconds, twice as much is
//! forgiven, and intervals below three seconds are not looked at, where chance would pass for a steady
//! beat. So is the rate of a faster member (one request in three seconds, a thousand an hour) for a threshold to find.
//!
//! A source that asks at random is steady for a moment once in ten thousand requests or so; it stops being counted with its
//! next request. A member that asks twice at once now and then is not steady for the next few requests.
//!
//! After a finding its sources are not counted for `within`: it is quiet until as many others do the same. What the
//! findings name is up to 1024 sources; a group holds no more than that.

use std::{collections::HashMap, time::Duration};

use foldhash::quality::RandomState;

use super::{Detector, Finding, Occupancy, table::Table, template::Templates, words};
use crate::{
    record::Record,
    source::{Masks, Source},
    time::Time,
};

/// Intervals that are remembered of a source.
const INTERVALS: usize = 8;
/// The most sources that a detector can wait for.
pub const MAX_SOURCES: u32 = 1024;
/// Sources that a group holds.
const MEMBERS: usize = MAX_SOURCES as usize;
/// Groups that are remembered: each is a template and an interval.
const GROUPS: usize = 256;
/// Each group is for intervals up to so much longer than those of the one before. With its two
/// neighbours it holds what differs by about a tenth.
const GROUP_WIDTH: f64 = 1.05;
/// The resolution of most logs, milliseconds.
const SECOND_MS: u64 = 1000;
/// Intervals in whole seconds that are too short to tell.
const COARSE_LEAST_MS: f64 = 3000.0;

/// What a detector of distributed abuse looks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Sources that have to do the same for a finding: up to [`MAX_SOURCES`].
    pub sources: u32,
    /// How long a source counts after its last request.
    pub within: Duration,
    /// How much the intervals of a source may differ: their standard deviation, as a share of their mean.
    pub spread: f64,
    /// Requests of each source that have to be steady; 4 to 9.
    pub requests: u8,
    /// The share of these that have to be answered with a status of 400 or more.
    pub failures: f64,
    /// How much of an address is a source.
    pub masks: Masks,
    /// Sources that are remembered, once for each template. One takes 150 bytes.
    pub capacity: usize,
}

impl Default for Settings {
    /// 20 sources within ten minutes, each with eight requests at intervals that differ by a tenth, half of
    /// them refused.
    fn default() -> Self {
        Self {
            sources: 20,
            within: Duration::from_secs(600),
            spread: 0.1,
            requests: 8,
            failures: 0.5,
            masks: Masks::default(),
            capacity: 65_536,
        }
    }
}

/// The detector.
pub struct Distributed {
    settings: Settings,
    templates: Templates,
    /// By template and source.
    beats: Table<(u64, Source), Beat>,
    /// By template and group of intervals.
    groups: Table<(u64, i32), Group>,
    state: RandomState,
}

/// When a source asked for a template.
#[derive(Clone, Copy, Debug)]
struct Beat {
    last: Option<Time>,
    intervals_ms: [u32; INTERVALS],
    /// How many of them there are.
    filled: u8,
    next: u8,
    /// The lowest bit is whether the last request failed, and so on.
    failed: u16,
    /// Whether all times were whole seconds.
    coarse: bool,
    /// The group that it counts in.
    group: Option<i32>,
    /// When it was part of a finding, as it was known when it left its last group.
    found: Option<Time>,
}

/// The sources that are steady on a template at about the same interval.
#[derive(Debug, Default)]
struct Group {
    members: HashMap<Source, Member, RandomState>,
    /// Members that were not part of a finding.
    unfound: u32,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    last: Time,
    found: Option<Time>,
}

impl Distributed {
    /// A detector that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        Self {
            templates: Templates::default(),
            beats: Table::new(settings.capacity),
            groups: Table::new(GROUPS),
            state: RandomState::default(),
            settings,
        }
    }

    /// The sources of a group and its neighbours that count and were in no finding, if they are
    /// enough; they are in one from now on.
    fn find(&mut self, template: u64, group: i32, at: Time) -> Option<Vec<Source>> {
        let within = self.settings.within;
        let wanted = self.settings.sources.max(1);
        let near = [group.saturating_sub(1), group, group.saturating_add(1)];
        let unfound = |groups: &mut Table<(u64, i32), Group>| {
            let of = near.map(|near| {
                groups
                    .get_mut(&(template, near))
                    .map_or(0, |group| group.unfound)
            });
            of.into_iter().sum::<u32>()
        };
        // Most of the time there are not enough even with those that have left since.
        if unfound(&mut self.groups) < wanted {
            return None;
        }
        for near in near {
            if let Some(group) = self.groups.get_mut(&(template, near)) {
                group.forget_old(at, within);
            }
        }
        if unfound(&mut self.groups) < wanted {
            return None;
        }
        let mut found = Vec::new();
        for near in near {
            let Some(group) = self.groups.get_mut(&(template, near)) else {
                continue;
            };
            let unfound = group
                .members
                .iter_mut()
                .filter(|(_, member)| member.found.is_none());
            for (source, member) in unfound.take(MEMBERS - found.len()) {
                member.found = Some(at);
                group.unfound -= 1;
                found.push(*source);
            }
        }
        found.sort_unstable();
        Some(found)
    }
}

impl Detector for Distributed {
    fn observe(&mut self, record: &Record<'_>, at: Time) -> Option<Finding> {
        let source = Source::new(record.source?, self.settings.masks);
        let template = self.templates.read(record.path.as_deref()?);
        let (hash, failed) = (
            template.hash,
            record.status.is_some_and(|status| status >= 400),
        );
        let beat = self.beats.get_or_insert_with((hash, source), Beat::default);
        beat.note(at, failed, self.settings.within);
        let steady = beat.steady(&self.settings);
        let group = steady.map(group_of);
        if group != beat.group {
            if let Some(left) = beat.group.and_then(|was| self.groups.get_mut(&(hash, was))) {
                beat.found = left.remove(source).or(beat.found);
            }
            beat.group = group;
        }
        let found = beat.found;
        let (group, interval_ms) = (group?, steady?);
        let state = &self.state;
        let joined = self.groups.get_or_insert_with((hash, group), || Group {
            members: HashMap::with_hasher(state.clone()),
            unfound: 0,
        });
        joined.insert(source, at, found, self.settings.within);

        let found = self.find(hash, group, at)?;
        let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
        let template = self.templates.read(record.path.as_deref()?);
        let reason = format!(
            "{count} sources ask for {} every {:.1}s each",
            words::shown(template.text),
            interval_ms / 1000.0
        );
        let masks = self.settings.masks;
        let sources = found.into_iter().map(|source| source.net(masks)).collect();
        let count = count.saturating_mul(u32::from(self.settings.requests()));
        Some(Finding {
            sources,
            subject: None,
            at,
            count,
            reason,
        })
    }

    fn occupancy(&self) -> Occupancy {
        self.beats.occupancy()
    }
}

impl Settings {
    fn requests(&self) -> u8 {
        self.requests.clamp(4, 9)
    }
}

/// The group for intervals of that length.
fn group_of(interval_ms: f64) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the logarithm of an interval is small"
    )]
    let group = (interval_ms.max(1.0).ln() / GROUP_WIDTH.ln()).floor() as i32;
    group
}

impl Default for Beat {
    /// Of a source that has not asked yet.
    fn default() -> Self {
        Self {
            last: None,
            intervals_ms: [0; INTERVALS],
            filled: 0,
            next: 0,
            failed: 0,
            coarse: true,
            group: None,
            found: None,
        }
    }
}

impl Beat {
    fn note(&mut self, at: Time, failed: bool, within: Duration) {
        if self.last.is_some_and(|last| at.apart(last) > within) {
            *self = Self {
                group: self.group,
                found: self.found,
                ..Self::default()
            };
        }
        if let Some(last) = self.last {
            let interval = at.0.saturating_sub(last.0);
            if let Some(place) = self.intervals_ms.get_mut(usize::from(self.next)) {
                *place = u32::try_from(interval).unwrap_or(u32::MAX);
            }
            self.next = (self.next + 1) % 8;
            self.filled = self.filled.saturating_add(1).min(8);
        }
        self.failed = self.failed << 1 | u16::from(failed);
        self.coarse &= at.0.is_multiple_of(SECOND_MS);
        self.last = self.last.max(Some(at));
    }

    /// The mean interval, milliseconds, if the last ones hardly differ and enough requests failed.
    fn steady(&self, settings: &Settings) -> Option<f64> {
        let requests = settings.requests();
        let wanted = requests - 1;
        if self.filled < wanted {
            return None;
        }
        let newest_first = (1..=wanted).filter_map(|back| {
            let place = (usize::from(self.next) + INTERVALS - usize::from(back)) % INTERVALS;
            self.intervals_ms
                .get(place)
                .map(|interval| f64::from(*interval))
        });
        let wanted = f64::from(wanted);
        let mean = newest_first.clone().sum::<f64>() / wanted;
        let squares: f64 = newest_first.map(|interval| (interval - mean).powi(2)).sum();
        let variance = squares / (wanted - 1.0);
        let least = if self.coarse { COARSE_LEAST_MS } else { 1.0 };
        // A sixth of a square second is what rounding to seconds adds on average.
        let rounding = if self.coarse { 1e6 / 3.0 } else { 0.0 };
        if mean < least || variance > (settings.spread * mean).powi(2) + rounding {
            return None;
        }
        let last_requests = self.failed & ((1 << requests) - 1);
        let failures = f64::from(last_requests.count_ones()) / f64::from(requests);
        (failures >= settings.failures).then_some(mean)
    }
}

impl Group {
    /// Takes note that a source is steady.
    fn insert(&mut self, source: Source, at: Time, found: Option<Time>, within: Duration) {
        if self.members.len() >= MEMBERS && !self.members.contains_key(&source) {
            self.forget_old(at, within);
            if self.members.len() >= MEMBERS {
                return;
            }
        }
        let unfound = &mut self.unfound;
        let member = self.members.entry(source).or_insert_with(|| {
            *unfound += u32::from(found.is_none());
            Member { last: at, found }
        });
        member.last = at;
        if member.found.is_some_and(|found| at.since(found) > within) {
            member.found = None;
            *unfound += 1;
        }
    }

    /// A source is steady no more; when it was part of a finding.
    fn remove(&mut self, source: Source) -> Option<Time> {
        let member = self.members.remove(&source)?;
        self.unfound -= u32::from(member.found.is_none());
        member.found
    }

    fn forget_old(&mut self, at: Time, within: Duration) {
        let unfound = &mut self.unfound;
        self.members.retain(|_, member| {
            let keep = at.since(member.last) <= within && member.last.since(at) <= within;
            *unfound -= u32::from(!keep && member.found.is_none());
            keep
        });
    }
}

#[cfg(test)]
mod tests;
