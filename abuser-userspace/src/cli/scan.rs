//! `abuser scan`: who is in a log, and how often. Nothing here asks a daemon or touches the kernel.

mod work;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use abuser_detect::{
    parse::{self, Kind},
    scan::{Counted, Row, Settings, Totals, Window},
    time::Time,
};
use indicatif::ProgressBar;
use jiff::tz::TimeZone;
use serde::Serialize;

use self::work::{Outcome, Sample, Team};
use super::{
    CliError,
    args::ScanArgs,
    blocks::Input,
    output::{self, counted},
};

/// How many lines of a log are looked at to find out what it is written by.
const LOOKED_AT: usize = 64;

/// What `scan --json` prints.
#[derive(Serialize)]
struct Report {
    by: String,
    lines: u64,
    unparsed: u64,
    matched: u64,
    first: Option<String>,
    last: Option<String>,
    values: usize,
    rows: Vec<Line>,
}

/// A row of it.
#[derive(Serialize)]
struct Line {
    value: String,
    count: u64,
    share: f64,
    first: Option<String>,
    last: Option<String>,
}

/// Counts what the logs have.
pub(super) fn scan(args: &ScanArgs) -> Result<(), CliError> {
    if let Some(kind) = args.parser {
        // What makes no sense is said before anything is read.
        new_parser(kind, args)?;
    }
    let progress = ProgressBar::new_spinner();
    let inputs = args
        .files
        .iter()
        .map(|path| Input::open(path, &progress))
        .collect::<Result<Vec<_>, _>>()?;
    let settings = Settings {
        condition: args.condition.clone(),
        by: args.by.clone(),
        window: window(args),
    };
    let outcome = work::with_team(&settings, |team| {
        inputs
            .into_iter()
            .try_for_each(|input| read(input, args, team, &progress))
    });
    progress.finish_and_clear();
    let Outcome {
        scan,
        unparsed,
        sample,
    } = outcome?;
    let found = scan.finish(args.over);
    if let Some(sample) = sample {
        complain(found.totals, unparsed, &sample)?;
    }
    let Totals { without_time, .. } = found.totals;
    if without_time > 0 {
        output::error(&format!(
            "not counted: {} without a time, of which nobody knows whether --within holds",
            counted(without_time, "line", "lines")
        ));
    }
    report(found, unparsed, args)
}

/// Which part of the logs counts.
fn window(args: &ScanArgs) -> Window {
    match args.within {
        None => Window::All,
        Some(within) if args.now => Window::Since(Time::from(SystemTime::now()) - within),
        Some(within) => Window::Last(within),
    }
}

fn new_parser(kind: Kind, args: &ScanArgs) -> Result<parse::Settings, CliError> {
    let settings = parse::Settings {
        pattern: args.pattern.clone(),
        trusted_proxies: args.trusted_proxies.clone(),
        zone: TimeZone::system(),
        ..parse::Settings::new(kind)
    };
    match parse::Parser::new(settings.clone()) {
        Ok(_) => Ok(settings),
        Err(error) => Err(CliError::Usage(error.to_string())),
    }
}

/// Has the lines of a log counted.
fn read(
    mut input: Input,
    args: &ScanArgs,
    team: &mut Team<'_>,
    progress: &ProgressBar,
) -> Result<(), CliError> {
    let mut is_first = true;
    while let Some(block) = input.next_block()? {
        if std::mem::take(&mut is_first) {
            let kind = match args.parser {
                Some(kind) => kind,
                None => guess(&block, &input.name, progress)?,
            };
            team.begin(new_parser(kind, args)?, &input.name);
        }
        if !team.count(block) {
            break;
        }
    }
    Ok(())
}

/// What a log is written by whose first block this is.
fn guess(block: &[u8], name: &str, progress: &ProgressBar) -> Result<Kind, CliError> {
    let lines = block.split(|byte| *byte == b'\n');
    let lines = lines.map(abuser_detect::line::text);
    let lines: Vec<_> = lines
        .filter(|line| !line.is_empty())
        .take(LOOKED_AT)
        .collect();
    let Some(kind) = parse::guess(&lines) else {
        return Err(CliError::Usage(format!(
            "cannot tell what {name} is written by; name it with --parser, which knows {}",
            Kind::ALL.map(|(name, _)| name).join(", ")
        )));
    };
    progress.suspend(|| output::error(&format!("{name} looks like {kind}")));
    Ok(kind)
}

/// Says on standard error what is no record; fails if nothing is one.
fn complain(totals: Totals, unparsed: u64, sample: &Sample) -> Result<(), CliError> {
    let Sample { log, line, why, .. } = sample;
    let unparsed = counted(unparsed, "line is no record", "lines are no records");
    let start = output::start(line);
    let problem = format!("{unparsed}; the first, in {log}: {why}: {start}");
    if totals.records == 0 {
        return Err(CliError::Other(anyhow::anyhow!(
            "{problem}; if that is written by something else, name it with --parser"
        )));
    }
    output::error(&problem);
    Ok(())
}

fn report(found: Counted, unparsed: u64, args: &ScanArgs) -> Result<(), CliError> {
    let Counted {
        rows,
        values,
        matched,
        span,
        totals,
    } = found;
    let shown = args.top.unwrap_or(usize::MAX);
    let rows = rows.into_iter().take(shown);
    if args.json {
        let report = Report {
            by: args.by.to_string(),
            lines: totals.records + unparsed,
            unparsed,
            matched,
            first: span.map(|(first, _)| millis(first)),
            last: span.map(|(_, last)| millis(last)),
            values,
            rows: rows.map(|row| line(row, matched)).collect(),
        };
        return Ok(output::json(&report)?);
    }
    let by = args.by.to_string().to_uppercase();
    let header = ["COUNT", by.as_str(), "FIRST", "LAST", "SHARE"];
    let rows = rows.map(|row| cells(row, matched)).collect();
    output::table(&header, rows, &[0, 4])?;
    Ok(())
}

fn line(row: Row, matched: u64) -> Line {
    Line {
        share: share(row.count, matched),
        value: row.value,
        count: row.count,
        first: row.first.map(millis),
        last: row.last.map(millis),
    }
}

fn cells(row: Row, matched: u64) -> Vec<String> {
    let time = |time: Option<Time>| time.map_or_else(|| "-".to_owned(), seconds);
    // What is empty would be taken for no column.
    let value = Some(row.value).filter(|value| !value.is_empty());
    vec![
        row.count.to_string(),
        value.unwrap_or_else(|| "-".to_owned()),
        time(row.first),
        time(row.last),
        format!("{:.1}%", share(row.count, matched) * 100.0),
    ]
}

/// Of 1.
#[expect(
    clippy::cast_precision_loss,
    reason = "nobody reads the sixteenth digit of a share"
)]
fn share(count: u64, of: u64) -> f64 {
    count as f64 / of.max(1) as f64
}

fn millis(time: Time) -> String {
    humantime::format_rfc3339_millis(moment(time)).to_string()
}

fn seconds(time: Time) -> String {
    humantime::format_rfc3339_seconds(moment(time)).to_string()
}

/// The last moment that can be written is in the year 9999.
fn moment(time: Time) -> SystemTime {
    const LAST: u64 = 253_402_300_799_999;
    UNIX_EPOCH + Duration::from_millis(time.0.min(LAST))
}
