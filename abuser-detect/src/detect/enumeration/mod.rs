//! Who walks through the ids of an endpoint, or takes too many of them.
//!
//! 54 million records of one company left through an endpoint that was asked for one subscriber number after the
//! other, at no rate that a limit would have noticed. Two things are looked at here, for each place in a
//! template where an id stands ([`super::template`]):
//!
//! - ids that are taken in order, at any stride up to `max_stride` and in either direction: the module `walk`
//!   has the test, and why a busy client that takes ids at random is not mistaken for a walker;
//! - how many different ids are taken, whatever their order. For UUIDs and long hexadecimal ids, which have no
//!   order to speak of (those of versions 1 and 7 hold a time, and are not
//!   taken by counting), this is all.
//!
//! Both count within `within`, from the first id on; when that is over, all starts anew. So never more is
//! counted than came within that time, and a short walk across the end of it may have nearly twice
//! `count` ids unfound. After a finding of either kind that kind is quiet until the same amount has come again.
//!
//! # What is a walk and what is not
//!
//! - A reader who leafs through `?page=1` to `?page=20` walks, but ends before `count`.
//! - A dashboard that asks for the same fifty ids in order, again and again, walks fifty ids: each id
//!   counts once. One with more than `count` needs a larger `count`, or a `where` without it.
//! - Answers do not matter: whoever walks through ids that do not exist (404) is a walker, too.
//!
//! # Walks from many addresses
//!
//! Tracked by source, a walk that changes its address with each request is invisible. Tracked by
//! key, it is that key's, and the finding has the sources of the ids that were walked. Where there is no key, it can be tracked by
//! path: the ids that all clients take of a template are looked at together, and the order is found when at least
//! about a fifth of them are the walk's. Blamed are all whose ids fit into that order, and a reader's may by
//! chance: better suited to `alert` and `throttle` than to `ban`.

mod walk;

use std::{hash::BuildHasher, time::Duration};

use foldhash::quality::RandomState;

use self::walk::Recent;
use super::{
    Detector, Finding, Occupancy,
    sketch::Distinct,
    subject::Subject,
    table::{Weigh, WeighedTable},
    template::{Templates, Value},
    words,
};
use crate::{
    field::Field,
    record::Record,
    source::{Masks, Source},
    time::Time,
};

/// Bytes on the heap for each place, in the mean.
const HEAP_BYTES: usize = 512;
/// Sources that one finding blames at most.
const BLAMED: usize = 1024;

/// What an enumeration detector looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Different ids that have to be taken in order for a finding.
    pub count: u32,
    /// The time within which they are taken.
    pub within: Duration,
    /// The largest step between two ids in order.
    pub max_stride: u64,
    /// Different ids within that time, in any order, that are a finding too; `None` if no number is.
    /// Exact up to 64, then with a standard error of 4 %.
    pub distinct: Option<u32>,
    /// Whose ids are looked at together.
    pub track: Track,
    /// How much of an address is a source.
    pub masks: Masks,
    /// Places of ids that are remembered, over all sources. One takes 200 bytes and, as ids are taken there, up to
    /// 2.1 KB more (4.2 KB if not tracked by source), of which there are 512 bytes for each in the mean: when these are
    /// used up, whoever was quiet for longest is forgotten too.
    pub capacity: usize,
}

/// Whose ids are looked at together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Track {
    /// Those of a source.
    #[default]
    Source,
    /// Those of a key or user, or of whatever has the same value of a field, from wherever they are taken.
    Field(Field),
    /// Those of everybody.
    Path,
}

impl From<Field> for Track {
    fn from(field: Field) -> Self {
        match field {
            Field::Source => Self::Source,
            Field::Path => Self::Path,
            field => Self::Field(field),
        }
    }
}

impl Default for Settings {
    /// 60 ids in order or 5000 in any order, within ten minutes, by source.
    fn default() -> Self {
        Self {
            count: 60,
            within: Duration::from_secs(600),
            max_stride: 16,
            distinct: Some(5000),
            track: Track::Source,
            masks: Masks::default(),
            capacity: 65_536,
        }
    }
}

/// The detector.
pub struct Enumeration {
    settings: Settings,
    templates: Templates,
    /// By a keyed hash of who takes the ids and where they stand.
    taken: WeighedTable<u64, Taken>,
    state: RandomState,
}

/// What somebody took at one place.
#[derive(Debug)]
struct Taken {
    since: Time,
    all: Distinct,
    walked: Distinct,
    /// How many ids, walked and in all, are the next finding.
    walk_at: u32,
    distinct_at: u32,
    recent: Recent,
    /// Whose ids were walked, unless that is who is tracked.
    blamed: Vec<Source>,
}

/// Which of the two findings it is, and how many ids there were.
enum Kind {
    Walked(u32, Vec<Source>),
    Distinct(u32),
}

impl Enumeration {
    /// A detector that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        let state = RandomState::default();
        let budget = settings.capacity.max(1).saturating_mul(HEAP_BYTES);
        let taken = WeighedTable::new(settings.capacity, budget);
        Self {
            settings,
            templates: Templates::default(),
            taken,
            state,
        }
    }

    /// Bytes on the heap for the ids that are remembered, without the table itself.
    pub fn heap_bytes(&self) -> usize {
        self.taken.heap_bytes()
    }
}

impl Detector for Enumeration {
    fn observe(&mut self, record: &Record<'_>, at: Time) -> Option<Finding> {
        let Self {
            settings,
            templates,
            taken,
            state,
        } = self;
        let source = Source::new(record.source?, settings.masks);
        let target = record.path.as_deref()?;
        let subject = match &settings.track {
            Track::Source | Track::Path => None,
            Track::Field(field) => Some(Subject::of(field, record)?),
        };
        let who = match (&settings.track, &subject) {
            (Track::Source, _) => state.hash_one(source),
            (_, Some(subject)) => subject.hash(state),
            (_, None) => 0,
        };

        let template = templates.read(target);
        let mut found = None;
        for id in template.ids {
            let place = state.hash_one((who, id.place));
            let kind = taken.update(
                place,
                || Taken::new(at, settings),
                |taken| taken.observe(id.value, source, at, settings, state),
            );
            let Some(kind) = kind else { continue };
            // All ids are taken note of, even if one finding is enough.
            found.get_or_insert_with(|| {
                let place = template.describe(id);
                let place = words::shown(&place);
                let within = words::duration(settings.within);
                let (count, sources, reason) = match kind {
                    Kind::Walked(count, sources) => {
                        let reason =
                            format!("walked {count} ids of {place} in order within {within}");
                        (count, sources, reason)
                    }
                    Kind::Distinct(count) => {
                        let reason = format!("{count} distinct ids of {place} within {within}");
                        (count, Vec::new(), reason)
                    }
                };
                let sources = if sources.is_empty() {
                    vec![source]
                } else {
                    sources
                };
                let sources = sources
                    .into_iter()
                    .map(|source| source.net(settings.masks))
                    .collect();
                Finding {
                    sources,
                    subject: subject.as_ref().map(Subject::name),
                    at,
                    count,
                    reason,
                }
            });
        }
        found
    }

    fn occupancy(&self) -> Occupancy {
        self.taken.occupancy()
    }
}

impl Taken {
    fn new(since: Time, settings: &Settings) -> Self {
        Self {
            since,
            walk_at: settings.count.max(1),
            distinct_at: settings.distinct.unwrap_or(u32::MAX).max(1),
            all: Distinct::default(),
            walked: Distinct::default(),
            recent: Recent::default(),
            blamed: Vec::new(),
        }
    }

    fn observe(
        &mut self,
        id: Value,
        source: Source,
        at: Time,
        settings: &Settings,
        state: &RandomState,
    ) -> Option<Kind> {
        // The log may be older than what is remembered, too: of another day, read afterwards.
        if at.apart(self.since) > settings.within {
            *self = Self::new(at, settings);
        }
        let kept = (settings.track != Track::Source).then_some(source);
        if settings.distinct.is_some() {
            self.all.insert(match id {
                Value::Number(number) => state.hash_one(number),
                Value::Opaque(hash) => hash,
            });
        }
        if let Value::Number(number) = id {
            self.note(number, kept, settings, state);
        }
        let walked = self.walked.count();
        if walked >= self.walk_at {
            self.walk_at = walked.saturating_add(settings.count.max(1));
            return Some(Kind::Walked(walked, std::mem::take(&mut self.blamed)));
        }
        let all = self.all.count();
        if let Some(distinct) = settings.distinct
            && all >= self.distinct_at
        {
            self.distinct_at = all.saturating_add(distinct.max(1));
            return Some(Kind::Distinct(all));
        }
        None
    }

    /// Takes note of a number in its order.
    fn note(
        &mut self,
        number: u64,
        source: Option<Source>,
        settings: &Settings,
        state: &RandomState,
    ) {
        if !self.recent.push(number, source) {
            return;
        }
        let Self {
            walked,
            recent,
            blamed,
            ..
        } = self;
        recent.walked(settings.max_stride, state, |id, source| {
            walked.insert(state.hash_one(id));
            if let Some(source) = source
                && blamed.len() < BLAMED
                && !blamed.contains(&source)
            {
                blamed.push(source);
            }
        });
    }
}

impl Weigh for Taken {
    fn heap_bytes(&self) -> usize {
        self.all.heap_bytes()
            + self.walked.heap_bytes()
            + self.recent.heap_bytes()
            + self.blamed.capacity() * size_of::<Source>()
    }
}

#[cfg(test)]
mod tests;
