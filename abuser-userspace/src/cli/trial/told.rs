//! What is told of lines, for people and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{filter, pick::Trial};
use crate::{
    cli::{
        CliError,
        args::TestArgs,
        output::{self, counted, span},
    },
    config::DetectorAction,
    replay::{
        lines::{Lines, Read, Verdict},
        logs::{FindingReport, moment},
        report::BanReport,
    },
};

/// How far a line came.
pub(super) enum Why {
    /// To the detector; if through a filter, that failregex found it, from 0.
    Matched(Option<usize>),
    /// It is no record.
    NoRecord(String),
    /// The condition does not hold.
    Condition,
    /// The filter wanted nothing of it.
    Step(String),
}

impl Why {
    /// Why not further.
    fn text(&self) -> Option<String> {
        match self {
            Self::Matched(_) => None,
            Self::NoRecord(why) => Some(format!("no record: {why}")),
            Self::Condition => Some("the condition does not hold".to_owned()),
            Self::Step(why) => Some(why.clone()),
        }
    }
}

/// What `test --json` prints, a line each.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Record<'r> {
    Line {
        line: u64,
        time: Option<String>,
        matched: bool,
        source: Option<String>,
        failregex: Option<usize>,
        why: Option<String>,
        spared: bool,
        text: &'r str,
    },
    Finding {
        line: u64,
        detector: &'r str,
        #[serde(flatten)]
        finding: FindingReport,
        throttle_seconds: Option<u64>,
        limit: Option<&'r str>,
        bans: Vec<BanReport>,
    },
    Summary(Summary),
}

#[derive(Serialize)]
struct Summary {
    file: String,
    detector: String,
    source: String,
    parser: String,
    lines: u64,
    unparsed: u64,
    matched: u64,
    findings: u64,
    spared: u64,
    failregexes: Vec<Failregex>,
    bans: Vec<BanReport>,
}

/// A failregex that has found something.
#[derive(Serialize)]
struct Failregex {
    number: usize,
    lines: u64,
    pattern: String,
}

/// What was told, and what is to be told at the end.
pub(super) struct Told<'t> {
    out: output::Lines,
    args: &'t TestArgs,
    trial: &'t Trial,
    file: String,
    lines: u64,
    unparsed: u64,
    matched: u64,
    findings: u64,
    spared: u64,
    failregexes: BTreeMap<usize, u64>,
}

impl<'t> Told<'t> {
    pub(super) fn new(args: &'t TestArgs, trial: &'t Trial, file: &str) -> Result<Self, CliError> {
        let mut out = output::Lines::new();
        if !args.json {
            out.text(&format!(
                "{} reads {file} as a log of the source {} with {}",
                trial.rule.name, trial.source, trial.reader
            ))?;
        }
        Ok(Self {
            out,
            args,
            trial,
            file: file.to_owned(),
            lines: 0,
            unparsed: 0,
            matched: 0,
            findings: 0,
            spared: 0,
            failregexes: BTreeMap::new(),
        })
    }

    /// Tells of a line, if that is wanted.
    pub(super) fn line(&mut self, text: &str, read: &Read, why: &Why) -> Result<(), CliError> {
        self.lines += 1;
        self.unparsed += u64::from(matches!(why, Why::NoRecord(_)));
        self.spared += u64::from(read.spared);
        let mut failregex = None;
        if let Why::Matched(found) = why {
            self.matched += 1;
            failregex = *found;
            if let Some(number) = failregex {
                *self.failregexes.entry(number).or_default() += 1;
            }
        } else if !self.args.all {
            return Ok(());
        }
        let time = read.outcome.at.map(moment);
        let source = read.outcome.source.map(|source| source.to_string());
        if self.args.json {
            self.out.json(&Record::Line {
                line: self.lines,
                time,
                matched: matches!(why, Why::Matched(_)),
                source,
                failregex: failregex.map(|number| number + 1),
                why: why.text(),
                spared: read.spared,
                text,
            })?;
            return Ok(());
        }
        let what = match (why.text(), failregex) {
            (Some(why), _) => why,
            (None, None) => "matched".to_owned(),
            (None, Some(number)) => format!("failregex {} matched", number + 1),
        };
        let spared = if read.spared { " (banned already)" } else { "" };
        self.out.text(&format!(
            "{:>6}  {}  {}{spared}  {what}: {}",
            self.lines,
            time.as_deref().unwrap_or("-"),
            source.as_deref().unwrap_or("-"),
            output::start(text)
        ))?;
        Ok(())
    }

    /// Tells what the last line has led to.
    pub(super) fn finding(&mut self, verdict: &Verdict) -> Result<(), CliError> {
        self.findings += 1;
        let rule = &self.trial.rule;
        let is_throttled = verdict.action == DetectorAction::Throttle.name();
        if self.args.json {
            self.out.json(&Record::Finding {
                line: self.lines,
                detector: &rule.name,
                finding: FindingReport::new(verdict),
                throttle_seconds: is_throttled.then_some(rule.throttle_for.as_secs()),
                limit: rule.limit.as_deref().filter(|_| is_throttled),
                bans: verdict.bans.iter().map(BanReport::new).collect(),
            })?;
            return Ok(());
        }
        let source = verdict.source.map(|source| source.to_string());
        let bans: Vec<_> = verdict.bans.iter().map(BanReport::new).collect();
        let what = if !bans.is_empty() {
            let own = |ban: &BanReport| Some(&ban.source) == source.as_ref();
            let bans = bans.iter().map(|ban| match until(ban) {
                until if own(ban) => until,
                until => format!("{} {until}", ban.source),
            });
            format!("ban {}", bans.collect::<Vec<_>>().join(", and "))
        } else if is_throttled {
            format!(
                "throttle until {} by the limit {}",
                moment(verdict.at + rule.throttle_for),
                rule.limit.as_deref().unwrap_or("-")
            )
        } else {
            verdict.action.clone()
        };
        let whom = source.or_else(|| verdict.subject.clone());
        self.out.text(&format!(
            "{:>6}  {}  {}  FOUND by {}: {}: {what}",
            self.lines,
            moment(verdict.at),
            whom.as_deref().unwrap_or("-"),
            rule.name,
            verdict.reason,
        ))?;
        Ok(())
    }

    /// Tells what came of it all.
    pub(super) fn finish(mut self, lines: &Lines) -> Result<(), CliError> {
        let bans: Vec<_> = lines.judge().bans().iter().map(BanReport::new).collect();
        let patterns: Vec<_> = filter(lines)
            .map(|filter| filter.failregexes().collect())
            .unwrap_or_default();
        let failregexes = self.failregexes.iter().map(|(number, lines)| Failregex {
            number: number + 1,
            lines: *lines,
            pattern: patterns
                .get(*number)
                .map_or_else(String::new, |pattern| (*pattern).to_owned()),
        });
        let summary = Summary {
            file: self.file,
            detector: self.trial.rule.name.clone(),
            source: self.trial.source.clone(),
            parser: self.trial.reader.clone(),
            lines: self.lines,
            unparsed: self.unparsed,
            matched: self.matched,
            findings: self.findings,
            spared: self.spared,
            failregexes: failregexes.collect(),
            bans,
        };
        if self.args.json {
            self.out.json(&Record::Summary(summary))?;
        } else {
            for line in summary.lines() {
                self.out.text(&line)?;
            }
        }
        self.out.finish()?;
        Ok(())
    }
}

impl Summary {
    fn lines(&self) -> Vec<String> {
        let mut count = counted(self.lines, "line", "lines");
        if self.unparsed > 0 {
            let unparsed = counted(self.unparsed, "is no record", "are no records");
            count = format!("{count}, {unparsed}");
        }
        let mut lines = vec![format!(
            "{count}: {} matched, {}",
            output::grouped(self.matched),
            counted(self.findings, "finding", "findings"),
        )];
        for failregex in &self.failregexes {
            lines.push(format!(
                "failregex {} matched {}: {}",
                failregex.number,
                counted(failregex.lines, "line", "lines"),
                output::start(&failregex.pattern)
            ));
        }
        if self.bans.is_empty() {
            lines.push("nobody would have been banned".to_owned());
        }
        for ban in &self.bans {
            lines.push(format!(
                "would have banned {} from {} {}; {}",
                ban.source,
                ban.time,
                until(ban),
                counted(
                    ban.hits,
                    "later line is from there",
                    "later lines are from there"
                ),
            ));
        }
        lines
    }
}

/// When a ban ends.
fn until(ban: &BanReport) -> String {
    match (&ban.expires, ban.seconds) {
        (Some(expires), Some(seconds)) => format!("until {expires} ({})", span(seconds)),
        _ => "for good".to_owned(),
    }
}
