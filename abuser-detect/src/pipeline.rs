//! From the lines of sources to findings.
//!
//! A line is parsed once for all detectors of its source; filters read it as it is. The daemon
//! gives lines as they are written; a replay gives those of a file on the file's own clock.

use std::{net::IpAddr, time::Duration};

use crate::{
    condition::Condition,
    detect::{Detector, Finding, Occupancy},
    evidence::{Evidence, Recent, beginning},
    filter::{Filter, Match},
    line,
    parse::{Parser, Unparsed},
    record::Record,
    time::Time,
};

/// How much older than its arrival a line may be by its own account: what a daemon that did not
/// run for longer missed is of no use to it.
pub const MAX_AGE: Duration = Duration::from_secs(3600);
/// How much later than its arrival a line may be by its own account without being counted as
/// one whose clock is wrong. It counts as of now in any case.
const MAX_AHEAD: Duration = Duration::from_secs(5);

/// Whose time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// That of the host: a line is about now, or it is too old.
    Host,
    /// That of the log: a replay.
    Log,
}

/// A line as a source gives it.
#[derive(Clone, Copy, Debug)]
pub struct Line<'l> {
    /// Its bytes, without the end of line.
    pub bytes: &'l [u8],
    /// When it was read.
    pub arrived: Time,
    /// When it was written, if whoever handed it on says so (a journal does).
    pub stated: Option<Time>,
}

/// What makes records of a source's lines.
#[derive(Debug)]
pub enum Reader {
    /// Of each line one.
    Parser(Box<Parser>),
    /// Of each failure one; other lines are none, and no error.
    Filter(Box<Filter>),
}

impl Reader {
    /// When a line happened by its own account, if it has one: for who has to put lines in order
    /// before they are read.
    pub fn when(&mut self, line: Line<'_>) -> Option<Time> {
        let text = line::text(line.bytes);
        let own = match self {
            Self::Parser(parser) => {
                parser.set_now(line.arrived);
                parser.parse(&text).ok().and_then(|record| record.time)
            }
            Self::Filter(filter) => filter.date(&text, line.arrived),
        };
        own.or(line.stated)
    }
}

/// What reads a source's lines.
#[derive(Debug, Default)]
pub struct Feed {
    /// Makes records of lines; without one, only filters of detectors read them.
    pub reader: Option<Reader>,
}

/// A detector, and what it is given.
pub struct Watch {
    /// The sources that it reads, by number.
    pub feeds: Vec<usize>,
    /// What reads their lines instead of their parsers: one for each of `feeds`, because a filter
    /// remembers lines. Empty if their parsers do.
    pub filters: Vec<Filter>,
    /// Which records it is given; all without one.
    pub condition: Option<Condition>,
    /// Whether lines are to be shown with what it finds: they take memory and time.
    pub evidence: bool,
    /// The detector.
    pub detector: Box<dyn Detector>,
}

/// What a detector has found, with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The detector, by number.
    pub watch: usize,
    /// Whom it found.
    pub finding: Finding,
    /// The lines that show it, if its [`Watch::evidence`] is kept.
    pub evidence: Vec<Evidence>,
}

/// What became of one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Why the parser could make no record of it, if it could not.
    pub unparsed: Option<Unparsed>,
    /// Whether it is too old to matter.
    pub stale: bool,
    /// Whether a detector wanted it.
    pub matched: bool,
    /// How many findings it led to.
    pub found: usize,
    /// When it happened, as detectors take it; `None` if it is no record.
    pub at: Option<Time>,
    /// Whom it is about, if that is an address.
    pub source: Option<IpAddr>,
}

impl Outcome {
    fn is_of(&mut self, record: &Record<'_>, at: Time) {
        self.at = Some(at);
        self.source = record.source.or(self.source);
    }
}

/// What became of a source's lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedCounts {
    /// Lines read.
    pub lines: u64,
    /// Those of which the parser could make no record.
    pub unparsed: u64,
    /// One of them, and what is wrong with it.
    pub unparsed_sample: Option<(String, Unparsed)>,
    /// Those that were too old.
    pub stale: u64,
    /// Those that claim to be from the future.
    pub ahead: u64,
    /// When the last one happened, by its own account.
    pub last: Option<Time>,
}

/// What became of a detector's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Records it was given.
    pub matched: u64,
    /// What it found.
    pub found: u64,
    /// What it remembers.
    pub occupancy: Occupancy,
}

struct FeedState {
    feed: Feed,
    /// The watches that get its records.
    records: Vec<usize>,
    /// The watches whose filters get its lines, and which of their filters do.
    filters: Vec<(usize, usize)>,
    counts: FeedCounts,
}

struct WatchState {
    watch: Watch,
    recent: Recent,
    matched: u64,
    found: u64,
}

/// All sources and detectors.
pub struct Pipeline {
    clock: Clock,
    feeds: Vec<FeedState>,
    watches: Vec<WatchState>,
}

impl Pipeline {
    /// One that has seen nothing yet.
    pub fn new(clock: Clock, feeds: Vec<Feed>, watches: Vec<Watch>) -> Self {
        let state = |(number, feed): (usize, Feed)| {
            let reads = |(index, watch): (usize, &Watch)| {
                let place = watch.feeds.iter().position(|feed| *feed == number)?;
                Some((index, place, watch.filters.is_empty()))
            };
            let readers: Vec<_> = watches.iter().enumerate().filter_map(reads).collect();
            let of_records = readers.iter().filter(|(.., records)| *records);
            let of_lines = readers.iter().filter(|(.., records)| !*records);
            FeedState {
                feed,
                records: of_records.map(|(index, ..)| *index).collect(),
                filters: of_lines.map(|(index, place, _)| (*index, *place)).collect(),
                counts: FeedCounts::default(),
            }
        };
        let feeds = feeds.into_iter().enumerate().map(state).collect();
        let state = |watch| WatchState {
            watch,
            recent: Recent::default(),
            matched: 0,
            found: 0,
        };
        Self {
            clock,
            feeds,
            watches: watches.into_iter().map(state).collect(),
        }
    }

    /// Reads a line of a source, and appends what it gives away to `found`.
    pub fn read(&mut self, feed: usize, line: Line<'_>, found: &mut Vec<Found>) -> Outcome {
        let Self {
            clock,
            feeds,
            watches,
        } = self;
        let Some(feed) = feeds.get_mut(feed) else {
            return Outcome::default();
        };
        feed.counts.lines += 1;
        let before = found.len();
        let text = line::text(line.bytes);
        let mut watches = Watches {
            states: watches,
            found,
        };
        let mut outcome = feed.read_records(*clock, &line, &text, &mut watches);
        feed.read_filters(*clock, &line, &text, &mut watches, &mut outcome);
        outcome.found = found.len() - before;
        outcome
    }

    /// Takes over what an earlier pipeline knows: `feeds` and `watches` say for each of this one which
    /// one of that it was, if it is as it was.
    pub fn adopt(&mut self, old: Self, feeds: &[Option<usize>], watches: &[Option<usize>]) {
        let mut old_feeds: Vec<_> = old.feeds.into_iter().map(Some).collect();
        for (new, place) in self.feeds.iter_mut().zip(feeds) {
            let old = place.and_then(|place| old_feeds.get_mut(place)?.take());
            if let Some(old) = old {
                new.feed = old.feed;
                new.counts = old.counts;
            }
        }
        let mut old_watches: Vec<_> = old.watches.into_iter().map(Some).collect();
        for (new, place) in self.watches.iter_mut().zip(watches) {
            let old = place.and_then(|place| old_watches.get_mut(place)?.take());
            if let Some(mut old) = old {
                // Its sources have other numbers now.
                old.watch.feeds = std::mem::take(&mut new.watch.feeds);
                *new = old;
            }
        }
    }

    /// The filter through which a detector's records come from a source, if one does: the
    /// detector's own, or the source's parser.
    pub fn filter(&self, watch: usize, feed: usize) -> Option<&Filter> {
        let watch = &self.watches.get(watch)?.watch;
        let place = watch.feeds.iter().position(|number| *number == feed)?;
        if let Some(filter) = watch.filters.get(place) {
            return Some(filter);
        }
        match &self.feeds.get(feed)?.feed.reader {
            Some(Reader::Filter(filter)) => Some(filter),
            _ => None,
        }
    }

    /// What became of the lines of each source.
    pub fn feed_counts(&self) -> impl Iterator<Item = &FeedCounts> {
        self.feeds.iter().map(|feed| &feed.counts)
    }

    /// What became of the records of each detector.
    pub fn watch_counts(&self) -> impl Iterator<Item = WatchCounts> {
        self.watches.iter().map(|state| WatchCounts {
            matched: state.matched,
            found: state.found,
            occupancy: state.watch.detector.occupancy(),
        })
    }
}

/// Who is given records, and where goes what they find.
struct Watches<'p> {
    states: &'p mut [WatchState],
    found: &'p mut Vec<Found>,
}

impl FeedState {
    /// Gives the line's record to whoever wants it.
    fn read_records(
        &mut self,
        clock: Clock,
        line: &Line<'_>,
        text: &str,
        watches: &mut Watches<'_>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        match &mut self.feed.reader {
            None => {}
            Some(Reader::Parser(parser)) => {
                parser.set_now(line.arrived);
                // By reference: a record is not small.
                match &parser.parse(text) {
                    Ok(record) => self.give(clock, line, record, watches, &mut outcome),
                    &Err(unparsed) => {
                        self.counts.unparsed += 1;
                        // Now and then: there may be nothing but such lines. Of an empty one nobody
                        // learns anything.
                        if self.counts.unparsed.is_power_of_two() && !text.is_empty() {
                            self.counts.unparsed_sample =
                                Some((beginning(text).to_owned(), unparsed));
                        }
                        outcome.unparsed = Some(unparsed);
                    }
                }
            }
            Some(Reader::Filter(filter)) => {
                for failure in failures(filter, line, text) {
                    let record = failure.record();
                    self.give(clock, line, &record, watches, &mut outcome);
                }
            }
        }
        outcome
    }

    /// Gives a record to whoever wants it.
    fn give(
        &mut self,
        clock: Clock,
        line: &Line<'_>,
        record: &Record<'_>,
        watches: &mut Watches<'_>,
        outcome: &mut Outcome,
    ) {
        let Some(at) = self.counts.time(clock, line, record.time) else {
            outcome.stale = true;
            return;
        };
        outcome.is_of(record, at);
        for number in &self.records {
            outcome.matched |= watches.observe(*number, record, at);
        }
    }

    /// Gives the line to the filters.
    fn read_filters(
        &mut self,
        clock: Clock,
        line: &Line<'_>,
        text: &str,
        watches: &mut Watches<'_>,
        outcome: &mut Outcome,
    ) {
        for (number, place) in &self.filters {
            let state = watches.states.get_mut(*number);
            let filter = state.and_then(|state| state.watch.filters.get_mut(*place));
            let Some(filter) = filter else {
                continue;
            };
            for failure in failures(filter, line, text) {
                if let Some(at) = self.counts.time(clock, line, failure.time) {
                    let record = failure.record();
                    outcome.is_of(&record, at);
                    outcome.matched |= watches.observe(*number, &record, at);
                }
            }
        }
    }
}

/// What a filter finds in a line.
fn failures(filter: &mut Filter, line: &Line<'_>, text: &str) -> Vec<Match> {
    match line.stated {
        Some(stated) => filter.observe_at(text, stated, line.arrived),
        None => filter.observe(text, line.arrived),
    }
}

impl FeedCounts {
    /// When a record happened; `None` if that is too long ago.
    fn time(&mut self, clock: Clock, line: &Line<'_>, own: Option<Time>) -> Option<Time> {
        let own = own.or(line.stated);
        let at = match clock {
            // A line without a time is of the time of those around it.
            Clock::Log => own.or(self.last).unwrap_or(line.arrived),
            Clock::Host => {
                let own = own.unwrap_or(line.arrived);
                if line.arrived.since(own) > MAX_AGE {
                    self.stale += 1;
                    return None;
                }
                if own.since(line.arrived) > MAX_AHEAD {
                    self.ahead += 1;
                }
                own.min(line.arrived)
            }
        };
        self.last = Some(at);
        Some(at)
    }
}

impl Watches<'_> {
    /// Gives a record to a detector if it is one of those that it wants; whether it was.
    fn observe(&mut self, number: usize, record: &Record<'_>, at: Time) -> bool {
        let Some(state) = self.states.get_mut(number) else {
            return false;
        };
        let condition = state.watch.condition.as_ref();
        if condition.is_some_and(|condition| !condition.holds(record)) {
            return false;
        }
        state.matched += 1;
        if state.watch.evidence {
            state.recent.push(record.source, at, record.raw);
        }
        if let Some(finding) = state.watch.detector.observe(record, at) {
            state.found += 1;
            self.found.push(Found {
                watch: number,
                evidence: state.recent.of(&finding.sources),
                finding,
            });
        }
        true
    }
}

#[cfg(test)]
mod tests;
