//! `abuser test`: a detector or a filter of fail2ban on a log, line by line.

mod pick;
mod told;

use std::time::SystemTime;

use abuser_detect::{
    filter::{Filter, Step},
    pipeline::Outcome,
    time::Time,
};
use indicatif::ProgressBar;

use self::told::{Told, Why};
use super::{
    CliError,
    args::TestArgs,
    blocks::{Contents, Input, Opened},
    output,
};
use crate::replay::{LineReader, judge::Judge, lines::Lines};

pub(super) fn test(args: &TestArgs) -> Result<(), CliError> {
    let trial = pick::pick(args)?;
    let judge = Judge::new(&trial.whole);
    let mut lines = Lines::new(&trial.config, judge, Time::from(SystemTime::now()))
        .map_err(|error| CliError::Usage(error.to_string()))?;
    let progress = if output::is_terminal() {
        // It would be drawn between the lines.
        ProgressBar::hidden()
    } else {
        ProgressBar::new_spinner()
    };
    let opened = Opened::open(&args.file, &progress)?;
    let name = opened.name.clone();
    match opened.contents() {
        Contents::Text => {}
        Contents::Empty => {
            return Err(anyhow::anyhow!("{name} is empty: there is nothing to test").into());
        }
        Contents::Capture => {
            return Err(anyhow::anyhow!(
                "{name} is a capture of packets and no log; `abuser replay` reads those"
            )
            .into());
        }
        Contents::Other => {
            return Err(anyhow::anyhow!(
                "{name} is not text, so it is no log; for a journal, pipe what journalctl prints into `-`"
            )
            .into());
        }
    }
    let mut told = Told::new(args, &trial, &opened.name)?;
    let mut reader = LineReader::new(Input::of(opened).blocks());
    let result = read(&mut reader, &mut lines, &mut told, &name);
    progress.finish_and_clear();
    // What was read is told in any case.
    told.finish(&lines)?;
    result
}

/// Reads all lines.
fn read(
    reader: &mut LineReader,
    lines: &mut Lines,
    told: &mut Told<'_>,
    name: &str,
) -> Result<(), CliError> {
    loop {
        let line = reader.next_line();
        let line =
            line.map_err(|error| anyhow::anyhow!("{name} cannot be read any further: {error}"))?;
        let Some(line) = line else {
            return Ok(());
        };
        let given_up = filter(lines).map_or(0, |filter| filter.counters().given_up);
        let read = lines.read(0, line);
        let why = why(&read.outcome, filter(lines), given_up);
        let text = abuser_detect::line::text(line);
        told.line(&text, &read, &why)?;
        for verdict in &read.verdicts {
            told.finding(verdict)?;
        }
    }
}

/// The filter, if it is one that is tested.
fn filter(lines: &Lines) -> Option<&Filter> {
    lines.detection().pipeline.filter(0, 0)
}

/// How far a line came.
fn why(outcome: &Outcome, filter: Option<&Filter>, given_up: u64) -> Why {
    if let Some(unparsed) = outcome.unparsed {
        return Why::NoRecord(unparsed.to_string());
    }
    let Some(filter) = filter else {
        return if outcome.matched {
            Why::Matched(None)
        } else {
            Why::Condition
        };
    };
    let mut step = match filter.step() {
        Step::Failure(regex) if outcome.matched => return Why::Matched(Some(regex)),
        Step::Failure(_) => return Why::Condition,
        Step::NoPrefix => "prefregex does not match".to_owned(),
        Step::NoMatch => "no failregex matches".to_owned(),
        Step::Ignored(regex) => format!("ignoreregex {} matches", regex + 1),
        Step::NoFailure(regex) => format!(
            "failregex {} matches, which is no failure but tells of a connection",
            regex + 1
        ),
        Step::Pending(regex) => format!(
            "failregex {} matches, but it is not known yet whose failure it is",
            regex + 1
        ),
    };
    if !filter.dated() {
        step.push_str("; no date was found");
    }
    if filter.counters().given_up > given_up {
        step.push_str("; an expression took too many steps and was given up");
    }
    Why::Step(step)
}
