//! `abuser replay`: what a configuration would have done with captured packets.

use std::{fs::File, io};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    CliError,
    args::ReplayArgs,
    output::{self, counted, grouped, plain, span},
};
use crate::{
    config,
    replay::{
        self, Input, Options,
        report::{BanReport, CaptureReport, LimitReport, Report, SourceReport},
    },
};

pub(super) fn replay(args: &ReplayArgs) -> Result<(), CliError> {
    let config = config::load(&args.config)?;
    let progress = ProgressBar::new(0);
    progress.set_style(style());
    let inputs = open(args, &progress)?;
    let options = Options {
        to: args.to.clone(),
        top: args.top,
    };
    let report = replay::replay(&config, inputs, &options);
    progress.finish_and_clear();
    let report = report.map_err(anyhow::Error::from)?;
    if args.json {
        output::json(&report)?;
    } else {
        for line in lines(&report) {
            output::line(&plain(&line))?;
        }
    }
    let mut is_damaged = false;
    for capture in &report.captures {
        if let Some(error) = &capture.error {
            output::error(&plain(&format!("{} {error}", capture.path)));
            is_damaged |= !capture.is_cut;
        }
    }
    if is_damaged {
        return Err(CliError::Silent);
    }
    Ok(())
}

/// Opens all captures; the progress is that of reading their files.
fn open(args: &ReplayArgs, progress: &ProgressBar) -> Result<Vec<Input>, CliError> {
    let mut inputs = Vec::with_capacity(args.captures.len());
    for path in &args.captures {
        let name = path.display().to_string();
        let opened = File::open(path).and_then(|file| {
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::Error::from(io::ErrorKind::IsADirectory));
            }
            Ok((file, metadata.len()))
        });
        let (file, size) =
            opened.map_err(|error| anyhow::anyhow!("cannot read {}: {error}", plain(&name)))?;
        progress.inc_length(size);
        inputs.push(Input {
            path: name,
            contents: Box::new(progress.wrap_read(file)),
        });
    }
    Ok(inputs)
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
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
    lines.extend(report.bans.iter().map(ban));
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

fn ban(ban: &BanReport) -> String {
    let time = ban.seconds.map_or_else(
        || "for good".to_owned(),
        |seconds| format!("for {}", span(seconds)),
    );
    format!(
        "{}  ban {}  {time}: {}; {} met it",
        ban.time,
        ban.source,
        ban.reason,
        counted(ban.hits, "later packet", "later packets")
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
