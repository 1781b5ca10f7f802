//! Logs through detectors and policies, and what would have come of it.

use std::{io, time::Duration};

use abuser_common::prefix::Source;
use abuser_detect::time::Time;
use serde::Serialize;

use super::{
    judge::Judge,
    lines::{Lines, Verdict},
    merge::Merge,
    report::{BanReport, Sources, time},
    seconds, setting_notes,
    text::LineReader,
};
use crate::{
    config::{Config, DetectorAction},
    detection::{self, DetectionError},
    words::counted,
};

/// Findings that are told of each detector.
const TOLD: usize = 5;

/// A log that is to be replayed.
pub struct Log {
    /// What it is called.
    pub path: String,
    /// The source that it is of, by name.
    pub source: String,
    /// What is in it.
    pub lines: LineReader,
}

/// What a replay of logs came to.
#[derive(Debug, Serialize)]
pub struct LogsReport {
    /// What was replayed, by the sources that it is of.
    pub logs: Vec<LogReport>,
    /// When the earliest record happened; `None` if there is none.
    pub from: Option<String>,
    /// When the latest one did.
    pub to: Option<String>,
    /// The time between the two, in seconds.
    pub seconds: f64,
    /// Lines that were read.
    pub lines: u64,
    /// Those of sources that would have been banned already.
    pub spared: u64,
    /// What each detector would have found that reads one of the logs.
    pub detectors: Vec<DetectorReport>,
    /// Bans that would have been made, in the order of time.
    pub bans: Vec<BanReport>,
    /// Whom most would have been spared of, then who has most lines.
    pub sources: Vec<SourceReport>,
    /// What is to be known about all this.
    pub notes: Vec<String>,
}

/// The logs of one source.
#[derive(Debug, Serialize)]
pub struct LogReport {
    /// The source's name.
    pub source: String,
    /// The files.
    pub files: Vec<FileReport>,
    /// Lines in them.
    pub lines: u64,
    /// Those that are no records, although the source has a parser.
    pub unparsed: u64,
    /// One of them.
    pub unparsed_sample: Option<String>,
    /// What is wrong with it.
    pub unparsed_reason: Option<String>,
}

/// One log.
#[derive(Debug, Serialize)]
pub struct FileReport {
    /// What it is called.
    pub path: String,
    /// Lines that were read.
    pub lines: u64,
    /// Why the rest of it was not read; `None` if all of it was.
    pub error: Option<String>,
}

/// One detector.
#[derive(Debug, Serialize)]
pub struct DetectorReport {
    /// Its name.
    pub name: String,
    /// What it looks for.
    pub kind: &'static str,
    /// What follows.
    pub action: &'static str,
    /// The sources that it read.
    pub sources: Vec<String>,
    /// Records it was given.
    pub matched: u64,
    /// What it found.
    pub found: u64,
    /// The first of that, less what it found of those who would have been banned already.
    pub findings: Vec<FindingReport>,
}

/// What a detector found, for one source.
#[derive(Debug, Serialize)]
pub struct FindingReport {
    /// When.
    pub time: String,
    /// Whom; `None` if no address is known.
    pub source: Option<String>,
    /// The key or user that it is about, where that is counted by.
    pub subject: Option<String>,
    /// Why.
    pub reason: String,
    /// What would have been done, in words.
    pub action: String,
}

/// One source of lines.
#[derive(Debug, Serialize)]
pub struct SourceReport {
    /// The address.
    pub source: String,
    /// Records of it.
    pub lines: u64,
    /// Those of them that it would have been banned before.
    pub spared: u64,
}

impl FindingReport {
    /// What is told of it.
    pub fn new(verdict: &Verdict) -> Self {
        Self {
            time: moment(verdict.at),
            source: verdict.source.map(|source| source.to_string()),
            subject: verdict.subject.clone(),
            reason: verdict.reason.clone(),
            action: verdict.action.clone(),
        }
    }
}

/// Replays logs as one stream in the order of time; `now` is for lines that name no year, and `top` how many
/// sources are named.
///
/// # Errors
///
/// If a filter of fail2ban cannot be read. A log that cannot be read is replayed as far as it goes,
/// and its report says so.
pub fn replay_logs(
    config: &Config,
    logs: Vec<Log>,
    now: Time,
    top: usize,
) -> Result<LogsReport, DetectionError> {
    let names: Vec<_> = logs.iter().map(|log| log.source.as_str()).collect();
    let part = detection::only(config, &names);
    let place = |name: &str| part.sources.iter().position(|source| source.name() == name);
    let mut lines = Lines::new(&part, Judge::new(config), now)?;
    let is_one = logs.len() == 1;
    let mut streams = Vec::with_capacity(logs.len());
    // Of each log its source's number and its report.
    let mut files = Vec::with_capacity(logs.len());
    for log in logs {
        let number = place(&log.source).unwrap_or(usize::MAX);
        let dating = match part.sources.get(number) {
            Some(source) if !is_one => detection::dating(&part, source)?,
            _ => None,
        };
        streams.push((log.lines, dating));
        let report = FileReport {
            path: log.path,
            lines: 0,
            error: None,
        };
        files.push((number, report));
    }
    let mut stream = Merge::new(streams, now);
    let mut seen = Seen::new(&lines);
    while stream.next(|number, bytes| {
        if let Some((source, report)) = files.get_mut(number) {
            report.lines += 1;
            seen.line(&mut lines, *source, bytes);
        }
    }) {}
    for ((_, report), error) in files.iter_mut().zip(stream.errors()) {
        report.error = error.map(|error| told(&error));
    }
    Ok(report(config, &part, &lines, seen, files, top))
}

/// What was seen of all lines.
struct Seen {
    lines: u64,
    spared: u64,
    span: Option<(Time, Time)>,
    addresses: Sources,
    findings: Vec<Vec<FindingReport>>,
}

impl Seen {
    fn new(lines: &Lines) -> Self {
        let detectors = lines.detection().detectors.iter();
        Self {
            lines: 0,
            spared: 0,
            span: None,
            addresses: Sources::default(),
            findings: detectors.map(|_| Vec::new()).collect(),
        }
    }

    fn line(&mut self, lines: &mut Lines, source: usize, bytes: &[u8]) {
        let read = lines.read(source, bytes);
        self.lines += 1;
        self.spared += u64::from(read.spared);
        if let Some(at) = read.outcome.at {
            let (from, to) = self.span.unwrap_or((at, at));
            self.span = Some((from.min(at), to.max(at)));
        }
        let key = read
            .outcome
            .source
            .map(|source| Source::from(source).host());
        if let Some(key) = key {
            self.addresses.count(key, read.spared, 0);
        }
        for verdict in &read.verdicts {
            let findings = self.findings.get_mut(verdict.detector);
            if let Some(findings) = findings.filter(|findings| findings.len() < TOLD) {
                findings.push(FindingReport::new(verdict));
            }
        }
    }
}

fn report(
    config: &Config,
    part: &Config,
    lines: &Lines,
    seen: Seen,
    files: Vec<(usize, FileReport)>,
    top: usize,
) -> LogsReport {
    let detection = lines.detection();
    let mut logs: Vec<_> = part
        .sources
        .iter()
        .zip(detection.pipeline.feed_counts())
        .map(|(source, counts)| LogReport {
            source: source.name().to_owned(),
            files: Vec::new(),
            lines: counts.lines,
            unparsed: counts.unparsed,
            unparsed_sample: counts
                .unparsed_sample
                .as_ref()
                .map(|(line, _)| line.clone()),
            unparsed_reason: counts
                .unparsed_sample
                .as_ref()
                .map(|(_, why)| why.to_string()),
        })
        .collect();
    for (number, file) in files {
        if let Some(log) = logs.get_mut(number) {
            log.files.push(file);
        }
    }
    let detectors = detection
        .detectors
        .iter()
        .zip(detection.pipeline.watch_counts())
        .zip(seen.findings)
        .map(|((detector, counts), findings)| DetectorReport {
            name: detector.rule.name.clone(),
            kind: detector.kind,
            action: detector.rule.action.name(),
            sources: detector.sources.clone(),
            matched: counts.matched,
            found: counts.found,
            findings,
        });
    let top = seen.addresses.top(top).into_iter();
    LogsReport {
        logs,
        from: seen.span.map(|(from, _)| moment(from)),
        to: seen.span.map(|(_, to)| moment(to)),
        seconds: seen.span.map_or(0.0, |(from, to)| seconds(to.since(from))),
        lines: seen.lines,
        spared: seen.spared,
        detectors: detectors.collect(),
        bans: lines.judge().bans().iter().map(BanReport::new).collect(),
        sources: top
            .map(|source| SourceReport {
                source: source.source,
                lines: source.packets,
                spared: source.dropped,
            })
            .collect(),
        notes: notes(config, part, lines, seen.spared, seen.addresses.forgot),
    }
}

/// What is to be known about a replay of logs.
fn notes(config: &Config, part: &Config, lines: &Lines, spared: u64, forgot: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if spared > 0 {
        let lines = counted(spared, "line is", "lines are");
        notes.push(format!(
            "{lines} of sources that would have been banned, and detectors were given them all the \
             same"
        ));
    }
    let is_left_out = |name: &str| {
        let mut kept = part.detectors.iter();
        !kept.any(|detector| detector.rule.name == name)
    };
    let left_out: Vec<_> = config
        .detectors
        .iter()
        .map(|detector| detector.rule.name.as_str())
        .filter(|name| is_left_out(name))
        .collect();
    if !left_out.is_empty() {
        notes.push(format!(
            "detectors that read none of these logs: {}",
            left_out.join(", ")
        ));
    }
    let acts = part
        .detectors
        .iter()
        .any(|detector| detector.rule.action != DetectorAction::Alert);
    notes.extend(setting_notes(config, lines.judge(), forgot, acts));
    notes
}

/// A time as JSON has it.
pub(crate) fn moment(at: Time) -> String {
    time(Duration::from_millis(at.0))
}

/// Why reading has ended early.
fn told(error: &io::Error) -> String {
    format!("cannot be read any further: {error}; all before that was replayed")
}
