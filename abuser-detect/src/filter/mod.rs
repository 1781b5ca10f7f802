//! fail2ban's filters, unmodified and at native speed.
//!
//! There is a filter for nearly every daemon that logs failures, kept up by people who know that
//! daemon. Here they are read as fail2ban reads them (`ini`, `options`), their expressions are
//! matched as Python does (`tags`, `pattern`), dates are found and read with its heuristics (`dates`),
//! and what belongs to one connection is put together (`session`). fail2ban's own sample suite is the
//! measure: `tests/fail2ban_samples.rs`.
//!
//! What differs: names of hosts are never looked up, and memory is bounded.

mod build;
mod dates;
mod error;
mod expression;
mod groups;
pub(crate) mod ini;
mod lines;
pub(crate) mod options;
mod pattern;
mod session;
mod tags;

use std::{borrow::Cow, net::IpAddr, path::PathBuf, sync::Arc};

use compact_str::{CompactString, format_compact};
use jiff::tz::TimeZone;
use smallvec::smallvec;

use self::{
    dates::{Clock, Detector},
    expression::Expression,
    groups::{CIDR, DNS, FID, IP4, IP6, MLFID, USER},
    lines::Lines,
    pattern::{Found, Scratch},
    session::{Failure, Merged, Sessions, Users},
};
pub use self::{error::Error, groups::Groups, ini::Files, options::split, session::Texts};
use crate::{
    line,
    record::{Fields, Record},
    time::Time,
};

/// The length that a line is cut to, in bytes. Lines that [`line::text`] makes are not cut again:
/// what it ends those with that it cut keeps an expression from taking the cut for the end.
pub const MAX_LINE: usize = line::MAX + line::CUT.len();
/// For how long a line without a date is taken to be as old as the one before it.
const DATE_HOLDS_MS: u64 = 60_000;

/// How to run a filter.
#[derive(Clone, Debug)]
pub struct Options {
    /// Options of the filter, over those it is named with: `("mode", "aggressive")`.
    pub options: Vec<(String, String)>,
    /// Whether lines come from the journal, which writes other prefixes than a file.
    pub journal: bool,
    /// The zone of dates that do not say theirs.
    pub zone: TimeZone,
    /// fail2ban's `logtimezone`, which comes before `zone`: `UTC`, `CET`, `UTC+0200`.
    pub log_zone: Option<String>,
    /// Tries every failregex on each line rather than stop at the first that matches, as fail2ban's
    /// own tests do.
    pub every: bool,
}

impl Default for Options {
    /// A file, in UTC.
    fn default() -> Self {
        Self {
            options: Vec::new(),
            journal: false,
            zone: TimeZone::UTC,
            log_zone: None,
            every: false,
        }
    }
}

/// A failure that a filter has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// When, as the line says.
    pub time: Option<Time>,
    /// Who: an address, a prefix, a name of a host, or what else the filter counts by.
    pub host: CompactString,
    /// The address, if there is one; a name is not looked up.
    pub source: Option<IpAddr>,
    /// The length of the prefix, where the filter finds prefixes.
    pub prefix: Option<u8>,
    /// Those that were tried, if this connection has tried more than one.
    users: Users,
    /// What the groups with names have found.
    pub fields: Groups,
    /// The lines it rests on.
    pub lines: Texts,
    /// Which failregex it was, from 0.
    pub regex: usize,
}

impl Match {
    /// All users that were tried within this connection.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        let alone = if self.users.is_empty() {
            self.user()
        } else {
            None
        };
        self.users.iter().map(CompactString::as_str).chain(alone)
    }

    /// The user that was named or tried.
    pub fn user(&self) -> Option<&str> {
        self.fields.value(USER).filter(|user| !user.is_empty())
    }

    /// As detectors take it.
    pub fn record(&self) -> Record<'_> {
        let fields = self.fields.iter();
        let groups = fields.map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value)));
        let raw = self.lines.last().map_or("", String::as_str);
        Record {
            time: self.time,
            source: self.source,
            user: self.user().map(Cow::Borrowed),
            message: Some(Cow::Borrowed(raw)),
            fields: Fields::Groups(groups.collect()),
            raw,
            ..Record::default()
        }
    }
}

/// How far a line came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    /// prefregex does not match.
    NoPrefix,
    /// No failregex matches.
    #[default]
    NoMatch,
    /// That ignoreregex matches.
    Ignored(usize),
    /// That failregex matches, and is a failure.
    Failure(usize),
    /// That failregex matches, but is no failure by itself: it tells of a connection.
    NoFailure(usize),
    /// That failregex matches, but it is not known yet who it was.
    Pending(usize),
}

/// What a filter has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Lines.
    pub lines: u64,
    /// Lines that an ignoreregex matched.
    pub ignored: u64,
    /// Failures.
    pub matched: u64,
    /// Lines that have no date.
    pub undated: u64,
    /// Lines that were cut to [`MAX_LINE`].
    pub cut: u64,
    /// Expressions that were given up on a line, because they take too many steps.
    pub given_up: u64,
}

/// A filter of fail2ban's, ready to run.
#[derive(Debug)]
pub struct Filter {
    prefix: Option<Expression>,
    names: Arc<[Box<str>]>,
    content: Option<usize>,
    failures: Vec<Expression>,
    /// Which of them can match what begins with each byte, and last, with none.
    by_first: Vec<Vec<u16>>,
    ignores: Vec<Expression>,
    journal_matches: Vec<String>,
    dates: Detector,
    zone: TimeZone,
    offset: Option<i32>,
    every: bool,
    lines: Lines,
    sessions: Sessions,
    last_time: Option<Time>,
    scratch: Scratch,
    prefix_scratch: Scratch,
    /// What prefregex searches: the line without its date, or lines.
    text: String,
    /// What the failregexes search, if that is another text.
    inner: String,
    step: Step,
    dated: bool,
    counters: Counters,
}

impl Filter {
    /// Loads a filter: by name, perhaps with options (`sshd`, `sshd[mode=aggressive]`), from the first
    /// of the folders that has it; or by path, if there is a `/` or a `.conf` in it. Its `.local` and
    /// what it includes are read with it.
    ///
    /// # Errors
    /// What is wrong with it: the file, the option and the expression.
    pub fn load(
        filter: &str,
        folders: &[PathBuf],
        options: &Options,
        files: &dyn Files,
    ) -> Result<Self, Error> {
        let (name, mut given) = split(filter)?;
        given.extend(options.options.iter().cloned());
        let definition = options::load(&name, folders, &given, options.journal, files)?;
        build::build(&definition, options)
    }

    /// The matches of its `journalmatch`, a line each, as `journalctl` takes them.
    pub fn journal_matches(&self) -> &[String] {
        &self.journal_matches
    }

    /// Its failregexes, with their tags expanded.
    pub fn failregexes(&self) -> impl Iterator<Item = &str> {
        self.failures
            .iter()
            .map(|failure| failure.pattern().source())
    }

    /// Its ignoreregexes, with their tags expanded.
    pub fn ignoreregexes(&self) -> impl Iterator<Item = &str> {
        self.ignores.iter().map(|ignore| ignore.pattern().source())
    }

    /// What it has seen so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How far the last line came.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Whether the last line had a date.
    pub fn dated(&self) -> bool {
        self.dated
    }

    /// Takes a line, without its end, and returns the failures that it gives away: usually none or
    /// one.
    pub fn observe(&mut self, line: &str, now: Time) -> Vec<Match> {
        let line = self.take(line);
        let clock = Clock {
            now,
            zone: &self.zone,
            offset: self.offset,
        };
        let found = self.dates.find(line, &clock, &mut self.scratch);
        let holds = |last: &Time| last.0 + DATE_HOLDS_MS > now.0;
        let (span, time) = match found {
            Some(found) if found.time.is_some() => {
                self.last_time = found.time;
                (found.span, found.time)
            }
            // A pattern that asks for no date.
            Some(found) if found.span.0 == found.span.1 => {
                let time = self.last_time.filter(holds).unwrap_or(now);
                (found.span, Some(time))
            }
            found => {
                self.counters.undated += 1;
                let time = self.last_time.filter(holds);
                // Where a date is made up, nothing is left out.
                let span = if time.is_some() {
                    None
                } else {
                    found.map(|found| found.span)
                };
                (span.unwrap_or_default(), time)
            }
        };
        self.dated = found.is_some_and(|found| found.time.is_some());
        self.find(line, span, time, now)
    }

    /// Takes a line whose time is known, as that of a journal's entry is. Such lines are to look as
    /// fail2ban makes them: `host sshd[123]: message`.
    pub fn observe_at(&mut self, line: &str, time: Time, now: Time) -> Vec<Match> {
        let line = self.take(line);
        self.last_time = Some(time);
        self.dated = true;
        self.find(line, (0, 0), Some(time), now)
    }

    /// The date of a line, if it has one. The line is not looked at otherwise, nor counted.
    pub fn date(&mut self, line: &str, now: Time) -> Option<Time> {
        let line = line::beginning(line, MAX_LINE);
        let clock = Clock {
            now,
            zone: &self.zone,
            offset: self.offset,
        };
        let found = self.dates.find(line, &clock, &mut self.scratch);
        found.and_then(|found| found.time)
    }

    /// The part of a line that is looked at.
    fn take<'l>(&mut self, line: &'l str) -> &'l str {
        self.counters.lines += 1;
        self.counters.cut += u64::from(line.len() > MAX_LINE);
        line::beginning(line, MAX_LINE)
    }

    /// Looks for failures in a line whose date, at `span`, is left out.
    fn find(
        &mut self,
        line: &str,
        span: (usize, usize),
        time: Option<Time>,
        now: Time,
    ) -> Vec<Match> {
        let mut out = Vec::new();
        self.step = Step::NoMatch;
        self.lines.push(line, span, &mut self.text);
        // Where there are few of them, they are looked at first.
        if !self.ignores.is_empty() && self.ignores.len() + 2 < self.failures.len() {
            let text = std::mem::take(&mut self.text);
            let ignored = self.ignored(&text);
            self.text = text;
            if ignored {
                return out;
            }
        }
        let lines = if self.lines.several() {
            self.lines.kept()
        } else {
            vec![]
        };
        let Some(narrowed) = self.narrow() else {
            return out;
        };
        let candidates = self.candidates(narrowed);
        for at in 0.. {
            let Some(&index) = self.by_first.get(candidates).and_then(|list| list.get(at)) else {
                break;
            };
            let index = usize::from(index);
            let Some(expression) = self.failures.get(index) else {
                continue;
            };
            let text = if narrowed { &self.inner } else { &self.text };
            match expression.search(text, &mut self.scratch) {
                Found::Yes => {}
                Found::No => continue,
                Found::Unknown => {
                    self.counters.given_up += 1;
                    continue;
                }
            }
            let mut groups = Groups::new(&self.names);
            if let Some(prefix) = &self.prefix {
                prefix.groups(&self.text, &self.prefix_scratch, &mut groups);
            }
            expression.groups(text, &self.scratch, &mut groups);
            let (matched, rest) = lines::split(&lines, text, expression, &self.scratch);
            let is_ignored = !self.ignores.is_empty() && {
                let text = if self.lines.several() {
                    let mut text = String::new();
                    lines::join(&matched, &mut text);
                    text
                } else {
                    text.clone()
                };
                self.ignored(&text)
            };
            if self.lines.several() {
                let text = if narrowed {
                    &mut self.inner
                } else {
                    &mut self.text
                };
                self.lines.replace(rest, text);
            }
            if is_ignored {
                if self.every {
                    continue;
                }
                break;
            }
            let matched = if self.lines.several() {
                matched.into_iter().map(|line| line.whole).collect()
            } else {
                smallvec![line.to_owned()]
            };
            let Some(found) = self.failure(index, groups, matched, time, now) else {
                if self.every || self.step == Step::NoMatch {
                    continue;
                }
                break;
            };
            self.counters.matched += 1;
            out.push(found);
            if !self.every {
                break;
            }
        }
        out
    }

    /// Searches prefregex. `None` if it does not match; else whether what it finds is to be searched
    /// instead of the whole.
    fn narrow(&mut self) -> Option<bool> {
        let Some(prefix) = &self.prefix else {
            return Some(false);
        };
        let found = prefix.search(&self.text, &mut self.prefix_scratch);
        if found != Found::Yes {
            self.counters.given_up += u64::from(found == Found::Unknown);
            self.step = Step::NoPrefix;
            return None;
        }
        let content = self
            .content
            .and_then(|group| self.prefix_scratch.group(group));
        let content = content.and_then(|(from, to)| self.text.get(from..to));
        let Some(content) = content.filter(|content| !content.is_empty()) else {
            return Some(false);
        };
        self.inner.clear();
        self.inner.push_str(content);
        self.inner.push('\n');
        if self.lines.several() {
            self.lines.only(content);
        }
        Some(true)
    }

    /// Which list of expressions can match the text.
    fn candidates(&self, narrowed: bool) -> usize {
        let text = if narrowed { &self.inner } else { &self.text };
        let none = self.by_first.len().saturating_sub(1);
        text.bytes().next().map_or(none, usize::from)
    }

    fn ignored(&mut self, text: &str) -> bool {
        for (index, ignore) in self.ignores.iter().enumerate() {
            match ignore.search(text, &mut self.scratch) {
                Found::Yes => {
                    self.counters.ignored += 1;
                    self.step = Step::Ignored(index);
                    return true;
                }
                Found::No => {}
                Found::Unknown => self.counters.given_up += 1,
            }
        }
        false
    }

    /// What an expression that has matched means: a failure of somebody, or what is only to be
    /// remembered.
    fn failure(
        &mut self,
        regex: usize,
        groups: Groups,
        matched: Texts,
        time: Option<Time>,
        now: Time,
    ) -> Option<Match> {
        let failure = if let Some(id) = groups.value(MLFID) {
            let id = CompactString::from(id);
            match self
                .sessions
                .merge(&id, groups, matched, now, |groups| whom(groups).is_some())
            {
                Merged::Failure(failure) => failure,
                Merged::Quiet => {
                    self.step = Step::NoFailure(regex);
                    return None;
                }
                Merged::Pending => {
                    self.step = Step::Pending(regex);
                    return None;
                }
            }
        } else {
            Failure::alone(groups, matched)
        };
        if failure.quiet() {
            self.step = Step::NoFailure(regex);
            return None;
        }
        let groups = &failure.groups;
        // A group that would say it has taken no part.
        let host = whom(groups)?;
        self.step = Step::Failure(regex);
        let address = groups.value(IP4).or_else(|| groups.value(IP6));
        let named = address.or_else(|| groups.value(DNS)).unwrap_or(host);
        let prefix: Option<u8> = address.and_then(|_| groups.value(CIDR)?.parse().ok());
        let host = match prefix {
            Some(bits) if address == Some(host) => format_compact!("{host}/{bits}"),
            _ => host.into(),
        };
        Some(Match {
            time,
            source: named.parse().ok(),
            prefix,
            host,
            users: failure.users,
            fields: failure.groups,
            lines: failure.lines,
            regex,
        })
    }
}

/// Whom groups tell of.
fn whom(groups: &Groups) -> Option<&str> {
    [FID, IP4, IP6, DNS]
        .into_iter()
        .find_map(|name| groups.value(name))
}

#[cfg(test)]
mod tests;
