//! Finds the date in a line, as fail2ban's detector does.
//!
//! A log has the same kind of date on every line, so the template that matched last is tried first,
//! and the same date is not read twice.

mod strptime;
mod template;

use std::sync::Arc;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use self::template::{Place, Template};
use super::pattern::Scratch;
use crate::time::Time;

/// Seconds after which a template counts as unused.
const UNUSED: u64 = 300;

/// What is needed to read a date that does not say all.
pub(super) struct Clock<'z> {
    pub(super) now: Time,
    /// The zone of dates that say none.
    pub(super) zone: &'z TimeZone,
    /// The same as minutes east of Greenwich, if it was given so.
    pub(super) offset: Option<i32>,
}

impl Clock<'_> {
    fn local(&self) -> DateTime {
        let millis = i64::try_from(self.now.0).unwrap_or(i64::MAX);
        let now = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
        self.zone.to_datetime(now)
    }
}

/// The minutes east of Greenwich of a `logtimezone`.
pub(super) fn zone_offset(zone: &str) -> Option<i32> {
    strptime::offset(zone)
}

/// Finds dates.
#[derive(Debug)]
pub(super) struct Detector {
    templates: Vec<Ranked>,
    /// The template that matched last.
    last: Option<usize>,
    last_start: Edge,
    last_end: Edge,
    first_unused: usize,
    read: Read,
    same: Same,
    /// Whether the last date was found by the template that had found the one before it.
    settled: bool,
}

/// How a line begins that has its date there: a line that begins the same has the same date.
#[derive(Debug, Default)]
struct Same {
    start: Vec<u8>,
    place: Option<Place>,
}

/// The place where the last date began or ended, and the characters around it.
#[derive(Clone, Copy, Debug, Default)]
struct Edge {
    at: usize,
    before: Option<u8>,
    after: Option<u8>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Read {
    text: String,
    template: usize,
    /// The minute of the clock: what is not said is guessed by it.
    minute: u64,
    time: Option<u64>,
}

#[derive(Debug)]
struct Ranked {
    template: Arc<Template>,
    hits: u32,
    /// How often it matched at all, even if another was preferred.
    matched: bool,
    last_used: u64,
    distance: usize,
}

impl Ranked {
    fn weight(&self) -> f64 {
        let distance = u32::try_from(self.distance).unwrap_or(u32::MAX).max(1);
        f64::from(self.hits) * self.template.weight / f64::from(distance)
    }
}

/// A date in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dated {
    /// Where it is.
    pub(super) span: (usize, usize),
    /// What it says; `None` if that is no date.
    pub(super) time: Option<Time>,
}

impl Detector {
    /// A detector for the patterns of a filter, one a line; fail2ban's own if there are none.
    ///
    /// # Errors
    /// The pattern, and what is wrong with it.
    pub(super) fn new(patterns: &str) -> Result<Self, (String, String)> {
        let mut templates: Vec<Arc<Template>> = Vec::new();
        let mut add = |template: Arc<Template>| {
            if !templates.iter().any(|other| other.name == template.name) {
                templates.push(template);
            }
        };
        for pattern in patterns
            .lines()
            .map(str::trim)
            .filter(|pattern| !pattern.is_empty())
        {
            let error = |what: String| (pattern.to_owned(), what);
            let upper = pattern.to_uppercase();
            if upper == "{DEFAULT}" {
                template::all().iter().cloned().for_each(&mut add);
            } else if upper == "{^LN-BEG}" {
                let anchored = template::all().iter().filter(|template| template.anchored);
                anchored.cloned().for_each(&mut add);
            } else if template::date_tag(pattern).is_some() {
                for template in template::plain() {
                    let within = template.within(pattern).map_err(error)?;
                    within.check().map_err(error)?;
                    add(Arc::new(within));
                }
            } else {
                let text = if upper == "{NONE}" { "{UNB}^" } else { pattern };
                let template = Template::new(text).map_err(error)?;
                template.check().map_err(error)?;
                add(Arc::new(template));
            }
        }
        if templates.is_empty() {
            templates.extend(template::all().iter().cloned());
        }
        let ranked = |template| Ranked {
            template,
            hits: 0,
            matched: false,
            last_used: 0,
            distance: 0x7fff_ffff,
        };
        Ok(Self {
            templates: templates.into_iter().map(ranked).collect(),
            last: None,
            last_start: Edge {
                at: 1,
                ..Edge::default()
            },
            last_end: Edge::default(),
            first_unused: 0,
            read: Read::default(),
            same: Same::default(),
            settled: false,
        })
    }

    /// Finds and reads the date of a line.
    pub(super) fn find(
        &mut self,
        line: &str,
        clock: &Clock<'_>,
        scratch: &mut Scratch,
    ) -> Option<Dated> {
        let minute = clock.now.0 / 60_000;
        if let Some(place) = self.same.place
            && self.read.minute == minute
            && line.as_bytes().starts_with(&self.same.start)
        {
            if let Some(ranked) = self.last.and_then(|last| self.templates.get_mut(last)) {
                ranked.hits = ranked.hits.saturating_add(1);
                ranked.last_used = clock.now.0 / 1000;
            }
            return Some(Dated {
                span: place.date,
                time: self.read.time.map(Time),
            });
        }
        self.same.place = None;
        let (index, place) = self.search(line, clock, scratch)?;
        let reach = scratch.reach();
        let text = line.get(place.date.0..place.date.1)?;
        if text.is_empty() {
            return Some(Dated {
                span: place.date,
                time: None,
            });
        }
        let same =
            self.read.text == text && self.read.template == index && self.read.minute == minute;
        if !same {
            let template = &self.templates.get(index)?.template;
            let time = template.read(line, scratch, clock);
            self.read.text.clear();
            self.read.text.push_str(text);
            self.read.template = index;
            self.read.minute = minute;
            self.read.time = time;
        }
        let anchored = self
            .templates
            .get(index)
            .is_some_and(|ranked| ranked.template.anchored);
        if anchored
            && self.settled
            && let Some(start) = line.as_bytes().get(..=reach)
        {
            self.same.start.clear();
            self.same.start.extend_from_slice(start);
            self.same.place = Some(place);
        }
        Some(Dated {
            span: place.date,
            time: self.read.time.map(Time),
        })
    }

    /// The template that finds the date best, and where. The scratch has the parts.
    fn search(
        &mut self,
        line: &str,
        clock: &Clock<'_>,
        scratch: &mut Scratch,
    ) -> Option<(usize, Place)> {
        self.settled = false;
        let mut ignore = None;
        // The nearest so far of those that match further on than is usual.
        let mut far: Option<(usize, Place)> = None;
        if let Some(last) = self.last
            && let Some(ranked) = self.templates.get_mut(last)
        {
            let template = &ranked.template;
            let (start, end) = (self.last_start, self.last_end);
            let place = if template.anchored {
                ignore = Some(last);
                template.find(line, scratch)
            } else if same_edges(line, start, end) {
                let part = line.get(..end.at).unwrap_or(line);
                template.find_from(part, start.at, scratch)
            } else {
                ignore = Some(last);
                template.find(line, scratch)
            };
            if let Some(place) = place {
                ranked.matched = true;
                let usual = place.start == start.at && place.end == end.at;
                if self.templates.len() == 1
                    || usual
                    || self
                        .templates
                        .get(last)
                        .is_some_and(|ranked| ranked.template.anchored)
                {
                    self.settled = true;
                    return Some((self.won(last, line, place, clock), place));
                }
                far = Some((last, place));
            }
        }
        let mut winner = None;
        for at in 0..self.templates.len() {
            if ignore == Some(at) {
                continue;
            }
            let next_used = self.templates.get(at + 1).map(|next| next.matched);
            let Some(ranked) = self.templates.get_mut(at) else {
                break;
            };
            let Some(place) = ranked.template.find(line, scratch) else {
                continue;
            };
            ranked.matched = true;
            let only = next_used.is_none() || ranked.template.anchored;
            let settled = place.start == 0 && ranked.hits > 0 && next_used == Some(false);
            if !only
                && !settled
                && (place.start > ranked.distance || place.start > self.last_start.at)
            {
                if far.is_none_or(|(_, far)| place.start < far.start) {
                    far = Some((at, place));
                }
                continue;
            }
            winner = Some((at, place));
            break;
        }
        let (index, place) = if let Some(winner) = winner {
            winner
        } else {
            let (index, _) = far?;
            // Once more, for the parts.
            let template = &self.templates.get(index)?.template;
            (index, template.find(line, scratch)?)
        };
        Some((self.won(index, line, place, clock), place))
    }

    /// Remembers which template won, and where it stands now.
    fn won(&mut self, index: usize, line: &str, place: Place, clock: &Clock<'_>) -> usize {
        let bytes = line.as_bytes();
        let edge = |at: usize| Edge {
            at,
            before: at
                .checked_sub(1)
                .and_then(|before| bytes.get(before).copied()),
            after: bytes.get(at).copied(),
        };
        if let Some(ranked) = self.templates.get_mut(index) {
            ranked.hits = ranked.hits.saturating_add(1);
            ranked.last_used = clock.now.0 / 1000;
            ranked.distance = place.start;
        }
        if self.first_unused == index {
            self.first_unused += 1;
        }
        (self.last_start, self.last_end) = (edge(place.start), edge(place.end));
        let index = if index > 0 && self.last != Some(index) {
            self.reorder(index)
        } else {
            index
        };
        self.last = Some(index);
        index
    }

    /// Moves a template up if it is of more use than those before it; says where it is then.
    fn reorder(&mut self, index: usize) -> usize {
        let Some(ranked) = self.templates.get(index) else {
            return index;
        };
        let (weight, unused) = (ranked.weight(), ranked.last_used.saturating_sub(UNUSED));
        let movable = |to: usize| {
            let other = self.templates.get(to);
            other.is_some_and(|other| weight > other.weight() || unused > other.last_used)
        };
        let mut to = if self.first_unused < index {
            self.first_unused
        } else {
            index / 2
        };
        if !movable(to) {
            if to == index - 1 {
                return index;
            }
            to = index - 1;
            if !movable(to) {
                return index;
            }
        }
        if let Some(part) = self.templates.get_mut(to..=index) {
            part.rotate_right(1);
        }
        // What was read is known by where its template stands.
        self.read.text.clear();
        while self
            .templates
            .get(self.first_unused)
            .is_some_and(|ranked| ranked.hits > 0)
        {
            self.first_unused += 1;
        }
        to
    }
}

/// Whether the characters where the last date began and ended are the same in this line, so that it
/// is likely that the date is there as well.
fn same_edges(line: &str, start: Edge, end: Edge) -> bool {
    let bytes = line.as_bytes();
    let before = |at: usize| at.checked_sub(1).and_then(|at| bytes.get(at).copied());
    let after = |at: usize| bytes.get(at).copied();
    let mark = |byte: Option<u8>| byte.is_some_and(|byte| !byte.is_ascii_alphanumeric());
    let starts =
        before(start.at) == start.before || (after(start.at) == start.after && mark(start.after));
    let ends = after(end.at) == end.after || (before(end.at) == end.before && mark(end.before));
    starts && ends
}
