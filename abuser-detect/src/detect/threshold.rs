//! So many in so short a time: fail2ban's `maxretry` within `findtime`, and Snort's thresholds.
//!
//! | type | finds | then |
//! | --- | --- | --- |
//! | `maxretry` | the last of `count` within any time of that length | the count starts anew |
//! | `limit` | the first `count` of an interval | no more until the interval is over |
//! | `threshold` | the last of `count` in an interval | a new interval with a count of zero starts |
//! | `both` | the last of the first `count` of an interval | no more until the interval is over |
//! | `detection_filter` | each after the first `count` of an interval | so each while it goes on |
//!
//! `maxretry` slides, see [`window`](super::window); a hit exactly as old as `within` still counts, as in fail2ban
//! (`FailManager.addFailure`, fail2ban/server/failmanager.py).
//!
//! The others are what `sfthd_test_non_suppress` does (Snort 3, src/filters/sfthd.cc; Snort 2, src/sfthd.c): an
//! interval starts with a hit and is over when one comes that is `within` or more later, which starts the
//! next. `threshold` starts one whenever it finds something. `detection_filter`, if the interval before had more than
//! `count` hits and was not left by a pause of more than `within`, finds each hit of the interval. Times are in
//! milliseconds where Snort has seconds. Snort wants a count above 1 for `both`; here 1 finds
//! the first of each interval.
//!
//! A hit that is older than the start of the interval belongs to it, unless it is older by `within` or
//! more: then the clock was set back, and the hit starts an interval.

mod interval;

use std::{hash::Hash, time::Duration};

use ipnet::IpNet;

use self::interval::Interval;
pub use super::Track;
use super::{
    Detector, Finding, Occupancy,
    subject::Subject,
    table::{TextKey, TextKeys, Weigh, WeighedTable},
    window::{Span, Window},
    words,
};
use crate::{
    record::Record,
    source::{Masks, Source},
    time::Time,
};

/// Bytes on the heap for each source there is room for: with them a million sources fit in 200 MB.
const HEAP_PER_KEY: usize = 72;
/// Sources of a key that are remembered.
const SOURCES: usize = 64;

/// What the detector counts, and up to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which of the hits are found.
    pub kind: Kind,
    /// How many hits it takes; 0 is 1. Up to 1024 `maxretry` is exact; above that whoever reaches it
    /// within 99.7 % of `within` is found for certain, and nobody who does not reach it.
    pub count: u32,
    /// Within which time, exact to the millisecond up to 12 days, to a billionth above that.
    pub within: Duration,
    /// Whose hits are counted together.
    pub track: Track,
    /// How much of an address is a source.
    pub masks: Masks,
    /// Sources or keys that are remembered.
    pub capacity: usize,
}

impl Default for Settings {
    /// As a jail of fail2ban: five within ten minutes, by source. Room for a million sources.
    fn default() -> Self {
        Self {
            kind: Kind::Maxretry,
            count: 5,
            within: Duration::from_secs(600),
            track: Track::Source,
            masks: Masks::default(),
            capacity: 1_000_000,
        }
    }
}

/// Which of the hits are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The last of `count` within a time that slides.
    #[default]
    Maxretry,
    /// The first `count` of an interval.
    Limit,
    /// Each `count`th within an interval.
    Threshold,
    /// The `count`th of an interval.
    Both,
    /// Each after the `count`th of an interval.
    DetectionFilter,
}

/// Finds who comes too often.
pub struct Threshold {
    settings: Settings,
    rule: Rule,
    memory: Memory,
    texts: TextKeys,
}

/// What all counters of a detector have in common.
struct Rule {
    kind: Kind,
    count: u32,
    within_ms: u64,
    span: Span,
}

/// Each with what it needs and no more.
enum Memory {
    Windows(WeighedTable<Source, Window>),
    Intervals(WeighedTable<Source, Interval>),
    FieldWindows(WeighedTable<TextKey, Tracked<Window>>),
    FieldIntervals(WeighedTable<TextKey, Tracked<Interval>>),
}

/// Counts the hits of one source or key.
trait Counter: Weigh + Default {
    /// Takes note of a hit; how many hits there were if it is found.
    fn hit(&mut self, at: Time, rule: &Rule) -> Option<u32>;
}

impl Counter for Window {
    fn hit(&mut self, at: Time, rule: &Rule) -> Option<u32> {
        self.hit(at, &rule.span)
    }
}

impl Counter for Interval {
    fn hit(&mut self, at: Time, rule: &Rule) -> Option<u32> {
        self.hit(at, rule.kind, rule.count, rule.within_ms)
    }
}

fn table<K: Hash + Eq, V: Weigh>(capacity: usize) -> WeighedTable<K, V> {
    WeighedTable::with_heap_per_key(capacity, HEAP_PER_KEY)
}

impl Threshold {
    /// A detector that has seen nothing yet.
    pub fn new(settings: Settings) -> Self {
        let Settings {
            kind,
            count,
            within,
            ref track,
            masks: _,
            capacity,
        } = settings;
        let rule = Rule {
            kind,
            count: count.max(1),
            within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
            span: Span::new(count, within),
        };
        let memory = match (kind, track) {
            (Kind::Maxretry, Track::Source) => Memory::Windows(table(capacity)),
            (_, Track::Source) => Memory::Intervals(table(capacity)),
            (Kind::Maxretry, Track::Field(_)) => Memory::FieldWindows(table(capacity)),
            (_, Track::Field(_)) => Memory::FieldIntervals(table(capacity)),
        };
        Self {
            settings,
            rule,
            memory,
            texts: TextKeys::default(),
        }
    }

    /// What it counts, and up to what.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn reason(&self, count: u32, subject: Option<&str>, sources: usize) -> String {
        let limit = self.rule.count;
        let within = words::duration(self.settings.within);
        let subject = match (&self.settings.track, subject) {
            (Track::Field(name), Some(subject)) => {
                let sources = words::many(sources as u64, "source");
                let name = name.to_string();
                format!(
                    " of {} {} from {sources}",
                    words::shown(&name),
                    words::quoted(subject)
                )
            }
            _ => String::new(),
        };
        let matches = words::many(count, "match").replace("matchs", "matches");
        match self.rule.kind {
            Kind::Maxretry | Kind::Threshold | Kind::Both => {
                format!("{matches}{subject} within {within}")
            }
            Kind::Limit => {
                format!("match {count}{subject} of the first {limit} within {within}")
            }
            Kind::DetectionFilter => {
                format!("{matches}{subject} within {within}, where {limit} are allowed")
            }
        }
    }
}

impl Detector for Threshold {
    fn observe(&mut self, record: &Record<'_>, at: Time) -> Option<Finding> {
        let source = record
            .source
            .map(|address| Source::new(address, self.settings.masks));
        let rule = &self.rule;
        let (count, sources, subject) = match &self.settings.track {
            Track::Source => {
                let source = source?;
                let count = match &mut self.memory {
                    Memory::Windows(table) => count(table, source, at, rule),
                    Memory::Intervals(table) => count(table, source, at, rule),
                    Memory::FieldWindows(_) | Memory::FieldIntervals(_) => None,
                };
                (count?, vec![source], None)
            }
            Track::Field(field) => {
                let subject = Subject::of(field, record)?;
                let key = subject.key(&self.texts);
                let found = match &mut self.memory {
                    Memory::FieldWindows(table) => track(table, key, source, at, rule),
                    Memory::FieldIntervals(table) => track(table, key, source, at, rule),
                    Memory::Windows(_) | Memory::Intervals(_) => None,
                };
                let (count, sources) = found?;
                (count, sources, Some(subject.name()))
            }
        };
        let reason = self.reason(count, subject.as_deref(), sources.len());
        let masks = self.settings.masks;
        let sources: Vec<IpNet> = sources
            .into_iter()
            .map(|source| source.net(masks))
            .collect();
        Some(Finding {
            sources,
            subject,
            at,
            count,
            reason,
        })
    }

    fn occupancy(&self) -> Occupancy {
        match &self.memory {
            Memory::Windows(table) => table.occupancy(),
            Memory::Intervals(table) => table.occupancy(),
            Memory::FieldWindows(table) => table.occupancy(),
            Memory::FieldIntervals(table) => table.occupancy(),
        }
    }
}

fn count<C: Counter>(
    table: &mut WeighedTable<Source, C>,
    source: Source,
    at: Time,
    rule: &Rule,
) -> Option<u32> {
    table.update(source, C::default, |counter| counter.hit(at, rule))
}

fn track<C: Counter>(
    table: &mut WeighedTable<TextKey, Tracked<C>>,
    key: TextKey,
    source: Option<Source>,
    at: Time,
    rule: &Rule,
) -> Option<(u32, Vec<Source>)> {
    table.update(key, Tracked::default, |tracked| {
        if let Some(source) = source {
            tracked.remember(source, at);
        }
        let count = tracked.counter.hit(at, rule)?;
        Some((count, tracked.sources(at, rule)))
    })
}

/// The hits of a key, and the sources that were seen with it.
#[derive(Default)]
struct Tracked<C> {
    counter: C,
    /// With the time each was seen last; who was seen last comes last.
    sources: Vec<(Source, Time)>,
}

impl<C: Weigh> Weigh for Tracked<C> {
    fn heap_bytes(&self) -> usize {
        self.counter.heap_bytes() + self.sources.capacity() * size_of::<(Source, Time)>()
    }
}

impl<C> Tracked<C> {
    fn remember(&mut self, source: Source, at: Time) {
        let known = self.sources.iter().rposition(|(known, _)| *known == source);
        let at = match known {
            Some(known) => self.sources.remove(known).1.max(at),
            None => at,
        };
        if self.sources.len() >= SOURCES {
            self.sources.remove(0);
        }
        if self.sources.len() == self.sources.capacity() {
            // Most keys have one source or two.
            self.sources.reserve_exact(self.sources.len().max(1));
        }
        self.sources.push((source, at));
    }

    /// Who was seen within the time of the rule before `at`. Where the count starts anew, so does this.
    fn sources(&mut self, at: Time, rule: &Rule) -> Vec<Source> {
        let since = Time(at.0.saturating_sub(rule.within_ms));
        let recent = self.sources.iter().filter(|(_, seen)| *seen >= since);
        let recent = recent.map(|(source, _)| *source).collect();
        if matches!(rule.kind, Kind::Maxretry | Kind::Threshold) {
            self.sources = Vec::new();
        }
        recent
    }
}

#[cfg(test)]
mod tests;
