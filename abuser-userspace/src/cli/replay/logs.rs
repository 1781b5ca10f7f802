//! `abuser replay` of logs.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use crate::{
    cli::{
        CliError,
        blocks::{Input, Opened},
        logs,
        output::{self, counted, grouped},
    },
    config::{Config, LogSource},
    replay::{
        LineReader,
        logs::{DetectorReport, FindingReport, Log, LogReport, LogsReport, SourceReport},
    },
};

/// A file, as it was named.
pub(super) struct Named {
    /// The source that is named before it.
    pub(super) source: Option<String>,
    /// The file.
    pub(super) path: PathBuf,
}

impl Named {
    /// Takes `web=access.log` apart. What is before the `=` has to be a source, unless there is a file that
    /// is called so.
    pub(super) fn new(argument: &Path, config: &Config) -> Result<Self, CliError> {
        let whole = || Self {
            source: None,
            path: argument.to_owned(),
        };
        let bytes = argument.as_os_str().as_bytes();
        let Some(end) = bytes.iter().position(|byte| *byte == b'=') else {
            return Ok(whole());
        };
        let (name, path) = bytes.split_at(end);
        let name = String::from_utf8_lossy(name);
        if logs::source(config, &name).is_some() {
            let path = path.get(1..).unwrap_or_default();
            return Ok(Self {
                source: Some(name.into_owned()),
                path: PathBuf::from(OsStr::from_bytes(path)),
            });
        }
        if argument.exists() || name.contains('/') {
            return Ok(whole());
        }
        Err(logs::no_source(config, &name))
    }

    /// A log that is of the source that was named, or of the one that it fits.
    pub(super) fn log(self, opened: Opened, config: &Config) -> Result<Log, CliError> {
        let input = Input::of(opened);
        let source = self.source.or_else(|| logs::of_path(config, &self.path));
        let source = source.ok_or_else(|| unknown(&input.name, config))?;
        Ok(Log {
            path: input.name.clone(),
            source,
            lines: LineReader::new(input.blocks()),
        })
    }
}

/// The error that nobody knows which source a log is of.
fn unknown(name: &str, config: &Config) -> CliError {
    let sources = config.sources.iter().map(LogSource::name);
    let sources: Vec<_> = sources.collect();
    CliError::Usage(match sources.first() {
        None => format!(
            "{name} is text and no capture, and the configuration has no [[source]] whose log it could be"
        ),
        Some(first) => format!(
            "cannot tell which [[source]] {name} is a log of; write for example {first}={name}; there are {}",
            sources.join(", ")
        ),
    })
}

/// What came of it, a line each.
pub(super) fn lines(report: &LogsReport) -> Vec<String> {
    let mut lines: Vec<_> = report.logs.iter().map(log).collect();
    if let (Some(from), Some(to)) = (&report.from, &report.to) {
        lines.push(format!(
            "replayed: {}, {from} to {to}",
            counted(report.lines, "line", "lines"),
        ));
    }
    for detector in &report.detectors {
        lines.push(detected(detector));
        lines.extend(detector.findings.iter().map(finding));
    }
    lines.push(counted(report.bans.len() as u64, "ban", "bans"));
    let bans = report.bans.iter();
    lines.extend(bans.map(|ban| super::ban(ban, "later line", "later lines")));
    lines.extend(report.sources.iter().map(source));
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines
}

fn log(log: &LogReport) -> String {
    let files: Vec<_> = log.files.iter().map(|file| file.path.as_str()).collect();
    let mut line = format!(
        "{}: {} of {}",
        log.source,
        counted(log.lines, "line", "lines"),
        files.join(", ")
    );
    if log.unparsed > 0 {
        let unparsed = counted(log.unparsed, "is no record", "are no records");
        line = format!("{line}, {unparsed}");
    }
    if let (Some(reason), Some(sample)) = (&log.unparsed_reason, &log.unparsed_sample) {
        line = format!("{line} ({reason}, as in: {})", output::start(sample));
    }
    line
}

fn detected(detector: &DetectorReport) -> String {
    format!(
        "detector {} ({}, {}): {} matched, {}",
        detector.name,
        detector.kind,
        detector.action,
        counted(detector.matched, "record", "records"),
        counted(detector.found, "finding", "findings"),
    )
}

fn finding(finding: &FindingReport) -> String {
    let whom = finding.source.as_deref().or(finding.subject.as_deref());
    format!(
        "  {}  {}: {}; {}",
        finding.time,
        whom.unwrap_or("nobody in particular"),
        finding.reason,
        finding.action
    )
}

fn source(source: &SourceReport) -> String {
    let mut line = format!(
        "source {}: {}",
        source.source,
        counted(source.lines, "line", "lines")
    );
    if source.spared > 0 {
        line = format!("{line}, {} after a ban", grouped(source.spared));
    }
    line
}
