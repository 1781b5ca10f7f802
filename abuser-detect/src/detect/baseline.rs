//! A key or a source that departs from its own history: far more requests than it usually makes, or
//! far more different endpoints.
//!
//! A stolen key stays below every limit that suits the largest customer. What gives it away is that its owner never
//! asked that much, or for those things. So for each key (or source, or whatever is tracked) the
//! requests and the different templates of paths ([`super::template`]) are counted in each period, an hour
//! say, and what is usual is learned: the mean and the variance, in which the last period counts a little and those
//! before it ever less (an exponentially weighted average over about `history` periods). Different templates count
//! exactly up to 64 and within a few percent beyond.
//!
//! A finding is a period in which a count is greater than all of
//!
//! - the mean and `deviations` standard deviations, where these are at least what chance alone makes (√mean);
//! - `factor` times the mean;
//! - `count`, or `templates` for different endpoints: below it nothing is worth a finding.
//!
//! It comes within the period, with the request that exceeds it. Then it is quiet until as much comes
//! again within the same period.
//!
//! # What is learned, and by whom
//!
//! Nothing is found before `history` periods are over: what is new has no usual. Whoever begins with abuse teaches it
//! that abuse is usual, so this detector is not for sources that nobody knows, but for keys.
//!
//! Whoever takes over a key may try to teach more slowly. What is learned of a period is therefore cut off at
//! one standard deviation above the mean or a quarter above it, whatever is more (but never below what is
//! no finding anyway). With 24 periods, the mean of a steady key rises by at most 2 % a period. Whoever always asks for
//! just as much as is no finding has to do so for 60 periods until he may ask for ten times what was usual; and
//! whoever asks for fifteen times as much from the first hour on is found in each of the next 80. With a key that was always
//! restless, by as much as its mean, it is 8 % a period.
//!
//! Periods without a request count as zeros, but no more of them than a quarter of `history` in a row: who
//! comes back on Monday does not have to begin at nothing. After a gap of years the history is what it
//! was, a little lower.
//!
//! A period begins at a multiple of its length, so hours are hours of UTC. A record from before the period that is
//! counted counts in it; one from long before begins a new history, as its log is another.

use std::{hash::BuildHasher, time::Duration};

use foldhash::quality::RandomState;

pub use super::Track;
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

/// Bytes on the heap for each of those that are tracked, in the mean.
const HEAP_BYTES: usize = 512;

/// What a baseline detector looks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whose history it is.
    pub track: Track,
    /// How long a period is.
    pub period: Duration,
    /// Periods that are learned before anything is found, and over which the mean is taken.
    pub history: u16,
    /// How many times the mean is too much.
    pub factor: f64,
    /// How many standard deviations above the mean are too much.
    pub deviations: f64,
    /// Requests in a period below which there is no finding.
    pub count: u32,
    /// Different templates in a period below which there is no finding.
    pub templates: u32,
    /// How much of an address is a source.
    pub masks: Masks,
    /// Histories that are remembered. One takes 170 bytes and up to 1.6 KB for what it counts, of which there
    /// are 512 bytes for each in the mean: when these are used up, whoever was quiet for longest is forgotten too.
    pub capacity: usize,
}

impl Default for Settings {
    /// A key's hours, of which a day is learned; three times the mean, four deviations, and 100 requests
    /// or 20 templates.
    fn default() -> Self {
        Self {
            track: Track::Field(Field::Key),
            period: Duration::from_secs(3600),
            history: 24,
            factor: 3.0,
            deviations: 4.0,
            count: 100,
            templates: 20,
            masks: Masks::default(),
            capacity: 65_536,
        }
    }
}

/// The detector.
pub struct Baseline {
    settings: Settings,
    templates: Templates,
    histories: WeighedTable<u64, History>,
    state: RandomState,
}

/// What somebody does in this period, and what is usual.
#[derive(Debug)]
struct History {
    /// The how manieth since 1970 it is.
    period: u64,
    /// How many periods were learned.
    learned: u16,
    requests: u32,
    templates: Distinct,
    /// Who did it in this period.
    sources: Lately,
    usual_requests: Usual,
    usual_templates: Usual,
}

/// The mean and variance of a count, and what it may rise to.
#[derive(Clone, Copy, Debug)]
struct Usual {
    mean: f32,
    variance: f32,
    /// More than that is a finding.
    bound: u32,
}

impl Baseline {
    /// A detector that knows no history.
    pub fn new(settings: Settings) -> Self {
        let budget = settings.capacity.max(1).saturating_mul(HEAP_BYTES);
        Self {
            templates: Templates::default(),
            histories: WeighedTable::new(settings.capacity, budget),
            state: RandomState::default(),
            settings,
        }
    }

    /// Bytes on the heap for what is counted, without the table itself.
    pub fn heap_bytes(&self) -> usize {
        self.histories.heap_bytes()
    }
}

impl Detector for Baseline {
    fn observe(&mut self, record: &Record<'_>, at: Time) -> Option<Finding> {
        let Self {
            settings,
            templates,
            histories,
            state,
        } = self;
        let source = Source::new(record.source?, settings.masks);
        let subject = match &settings.track {
            Track::Source => None,
            Track::Field(field) => Some(Subject::of(field, record)?),
        };
        let who = match &subject {
            None => state.hash_one(source),
            Some(subject) => subject.hash(state),
        };
        let template = record.path.as_deref().map(|path| templates.read(path).hash);
        let period = at.0 / settings.period_ms();

        let found = histories.update(
            who,
            || History::new(period),
            |history| {
                history.move_to(period, settings);
                history.note(template, source, settings)
            },
        )?;
        let period = words::duration(settings.period);
        let Found {
            count,
            usual,
            what,
            sources,
        } = found;
        Some(Finding {
            sources: sources.nets(settings.masks),
            subject: subject.as_ref().map(Subject::name),
            at,
            count,
            reason: format!("{count} {what} within {period}, usually {usual:.0}"),
        })
    }

    fn occupancy(&self) -> Occupancy {
        self.histories.occupancy()
    }
}

impl Settings {
    fn period_ms(&self) -> u64 {
        u64::try_from(self.period.as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    fn history(&self) -> u16 {
        self.history.max(1)
    }
}

/// What is more than usual.
struct Found {
    count: u32,
    usual: f32,
    what: &'static str,
    sources: Lately,
}

impl History {
    fn new(period: u64) -> Self {
        Self {
            period,
            learned: 0,
            requests: 0,
            templates: Distinct::default(),
            sources: Lately::default(),
            usual_requests: Usual::UNKNOWN,
            usual_templates: Usual::UNKNOWN,
        }
    }

    /// Learns the periods that are over.
    fn move_to(&mut self, period: u64, settings: &Settings) {
        let history = settings.history();
        let Some(over) = period.checked_sub(self.period) else {
            if self.period - period > u64::from(history) {
                *self = Self::new(period);
            }
            return;
        };
        if over == 0 {
            return;
        }
        self.learn(settings);
        let empty = (over - 1).min(u64::from(history / 4));
        for _ in 0..empty {
            self.learn(settings);
        }
        self.period = period;
        if self.learned >= history {
            self.usual_requests.set_bound(settings.count, settings);
            self.usual_templates.set_bound(settings.templates, settings);
        }
    }

    /// Learns what was counted, and begins anew.
    fn learn(&mut self, settings: &Settings) {
        let known = self.learned >= settings.history();
        self.learned = self.learned.saturating_add(1);
        // At first all periods weigh the same.
        let latest = 2.0 / (f32::from(settings.history()) + 1.0);
        let weight = f32::max(1.0 / f32::from(self.learned), latest);
        let least = |least| known.then_some(least);
        self.usual_requests
            .learn(self.requests, weight, least(settings.count));
        self.usual_templates
            .learn(self.templates.count(), weight, least(settings.templates));
        self.requests = 0;
        self.templates.clear();
        self.sources = Lately::default();
    }

    fn note(
        &mut self,
        template: Option<u64>,
        source: Source,
        settings: &Settings,
    ) -> Option<Found> {
        self.requests = self.requests.saturating_add(1);
        if settings.track != Track::Source || self.requests == 1 {
            self.sources.note(source);
        }
        if let Some(template) = template {
            self.templates.insert(template);
        }
        let counts = [
            (self.requests, &mut self.usual_requests, "requests"),
            (
                self.templates.count(),
                &mut self.usual_templates,
                "different paths",
            ),
        ];
        let mut found = None;
        for (count, usual, what) in counts {
            if usual.exceeded_by(count) {
                let sources = self.sources.clone();
                found.get_or_insert(Found {
                    count,
                    usual: usual.mean,
                    what,
                    sources,
                });
            }
        }
        found
    }
}

impl Weigh for History {
    fn heap_bytes(&self) -> usize {
        self.templates.heap_bytes() + self.sources.heap_bytes()
    }
}

impl Usual {
    const UNKNOWN: Self = Self {
        mean: 0.0,
        variance: 0.0,
        bound: u32::MAX,
    };

    /// Takes note of what a period had; cut off where the usual is known, above what is no finding
    /// anyway.
    fn learn(&mut self, count: u32, weight: f32, known_from: Option<u32>) {
        let mut count = as_f32(count);
        if let Some(least) = known_from {
            let above = f32::max(self.variance.sqrt(), self.mean / 4.0);
            count = count.min(f32::max(self.mean + above, as_f32(least)));
        }
        let off = count - self.mean;
        self.mean += weight * off;
        self.variance = (1.0 - weight) * (self.variance + weight * off * off);
    }

    fn set_bound(&mut self, least: u32, settings: &Settings) {
        let mean = f64::from(self.mean);
        let deviation = f64::from(self.variance).max(mean).sqrt();
        let bound = (mean + settings.deviations * deviation).max(settings.factor * mean);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it saturates"
        )]
        let bound = bound as u32;
        self.bound = bound.max(least);
    }

    /// Whether that is more than usual; then as much has to come again.
    fn exceeded_by(&mut self, count: u32) -> bool {
        let exceeded = count > self.bound;
        if exceeded {
            self.bound = self.bound.saturating_add(count);
        }
        exceeded
    }
}

/// Counts are learned to seven digits.
fn as_f32(count: u32) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "seven digits are enough")]
    let count = count as f32;
    count
}

#[cfg(test)]
mod tests;
