//! `abuser replay`: what a configuration would have done with captured packets, or with logs.

mod logs;

use std::time::SystemTime;

use abuser_detect::time::Time;
use indicatif::ProgressBar;

use self::logs::Named;
use super::{
    CliError,
    args::ReplayArgs,
    blocks::{Contents, Opened},
    output::{self, counted, grouped, span},
};
use crate::{
    config::{self, Config},
    replay::{
        self, Input, Options,
        logs::replay_logs,
        report::{BanReport, CaptureReport, LimitReport, Report, SourceReport},
    },
};

/// A file that is to be replayed.
struct File {
    named: Named,
    opened: Opened,
    contents: Contents,
}

pub(super) fn replay(args: &ReplayArgs) -> Result<(), CliError> {
    let config = config::load(&args.config)?;
    let progress = ProgressBar::new_spinner();
    let files = args.files.iter().map(|argument| {
        let named = Named::new(argument, &config)?;
        let opened = Opened::open(&named.path, &progress)?;
        Ok(File {
            contents: opened.contents(),
            named,
            opened,
        })
    });
    let files = files.collect::<Result<Vec<_>, CliError>>()?;
    let is_log = |file: &&File| file.named.source.is_some() || file.contents == Contents::Text;
    match files.iter().find(is_log) {
        None => captures(&config, files, args, &progress),
        Some(log) => {
            let other = files
                .iter()
                .find(|file| !matches!(file.contents, Contents::Text | Contents::Empty));
            if let Some(other) = other {
                return Err(not_together(other, log));
            }
            of_logs(&config, files, args, &progress)
        }
    }
}

/// The error that a file is no log, while there are logs.
fn not_together(other: &File, log: &File) -> CliError {
    let name = &other.opened.name;
    match other.contents {
        Contents::Capture if other.named.source.is_some() => {
            CliError::Usage(format!("{name} is a capture, and no log of a [[source]]"))
        }
        Contents::Capture => CliError::Usage(format!(
            "{name} is a capture and {} is a log; replay one kind at a time",
            log.opened.name
        )),
        _ => anyhow::anyhow!("{name} is neither text, as logs are, nor a capture").into(),
    }
}

fn captures(
    config: &Config,
    files: Vec<File>,
    args: &ReplayArgs,
    progress: &ProgressBar,
) -> Result<(), CliError> {
    let inputs = files.into_iter().map(|file| Input {
        path: file.opened.name.clone(),
        contents: file.opened.bytes(),
    });
    let options = Options {
        to: args.to.clone(),
        top: args.top,
    };
    let report = replay::replay(config, inputs.collect(), &options);
    progress.finish_and_clear();
    let report = report.map_err(anyhow::Error::from)?;
    tell(&report, || lines(&report), args)?;
    let mut is_damaged = false;
    for capture in &report.captures {
        if let Some(error) = &capture.error {
            output::error(&format!("{} {error}", capture.path));
            is_damaged |= !capture.is_cut;
        }
    }
    if is_damaged {
        return Err(CliError::Silent);
    }
    Ok(())
}

fn of_logs(
    config: &Config,
    files: Vec<File>,
    args: &ReplayArgs,
    progress: &ProgressBar,
) -> Result<(), CliError> {
    if !args.to.is_empty() {
        let error = "--to is for captures; a log is of this host anyway".to_owned();
        return Err(CliError::Usage(error));
    }
    let logs = files
        .into_iter()
        .map(|file| file.named.log(file.opened, config));
    let logs = logs.collect::<Result<Vec<_>, _>>()?;
    let report = replay_logs(config, logs, Time::from(SystemTime::now()), args.top);
    progress.finish_and_clear();
    let report = report.map_err(|error| CliError::Usage(error.to_string()))?;
    tell(&report, || logs::lines(&report), args)?;
    let mut is_damaged = false;
    for file in report.logs.iter().flat_map(|log| &log.files) {
        if let Some(error) = &file.error {
            output::error(&format!("{} {error}", file.path));
            is_damaged = true;
        }
    }
    if is_damaged {
        return Err(CliError::Silent);
    }
    Ok(())
}

/// Prints a report as it is wanted.
fn tell(
    report: &impl serde::Serialize,
    lines: impl FnOnce() -> Vec<String>,
    args: &ReplayArgs,
) -> Result<(), CliError> {
    if args.json {
        return Ok(output::json(report)?);
    }
    let mut out = output::Lines::new();
    for line in lines() {
        out.text(&line)?;
    }
    Ok(out.finish()?)
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines: Vec<_> = report.captures.iter().map(capture).collect();
    if let (Some(from), Some(to)) = (&report.from, &report.to) {
        lines.push(format!(
            "replayed: {}, {}, {from} to {to}",
            counted(report.packets, "packet", "packets"),
            counted(report.bytes, "byte", "bytes"),
        ));
    }
    for (outcome, traffic) in report.outcomes.each() {
        if traffic.packets > 0 {
            lines.push(format!(
                "{}: {}",
                outcome.name(),
                counted(traffic.packets, "packet", "packets")
            ));
        }
    }
    lines.extend(report.limits.iter().map(limit));
    lines.push(format!(
        "{} against limits, {}",
        counted(report.offences.counted, "offence", "offences"),
        counted(report.bans.len() as u64, "ban", "bans")
    ));
    let bans = report.bans.iter();
    lines.extend(bans.map(|met| ban(met, "later packet", "later packets")));
    lines.extend(report.sources.iter().map(source));
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines
}

fn capture(capture: &CaptureReport) -> String {
    let host = if capture.hosts.is_empty() {
        "this host".to_owned()
    } else {
        capture.hosts.join(", ")
    };
    format!(
        "{}: {}, {} to {host}",
        capture.path,
        counted(capture.frames, "packet", "packets"),
        grouped(capture.replayed)
    )
}

fn limit(limit: &LimitReport) -> String {
    let mut line = format!("limit {}: {} passed", limit.name, grouped(limit.passed));
    for (count, what) in [
        (limit.dropped, "dropped"),
        (limit.observed, "observed"),
        (limit.allowed, "allowed"),
    ] {
        if count > 0 {
            line = format!("{line}, {} {what}", grouped(count));
        }
    }
    line
}

/// A ban; `one` and `many` are what met it.
fn ban(ban: &BanReport, one: &str, many: &str) -> String {
    let time = ban.seconds.map_or_else(
        || "for good".to_owned(),
        |seconds| format!("for {}", span(seconds)),
    );
    format!(
        "{}  ban {}  {time}: {}; {} met it",
        ban.time,
        ban.source,
        ban.reason,
        counted(ban.hits, one, many)
    )
}

fn source(source: &SourceReport) -> String {
    let mut line = format!(
        "source {}: {}",
        source.source,
        counted(source.packets, "packet", "packets")
    );
    if source.dropped > 0 {
        line = format!("{line}, {} dropped", grouped(source.dropped));
    }
    line
}
