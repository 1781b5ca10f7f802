//! What a run came to: a verdict on each promise, and the figures.

use abuser_common::layout::{Outcome, Outcomes};

use super::{
    churn,
    clients::Datagrams,
    lives::Lives,
    people,
    plan::{Plan, Restart},
    record::{End, Record},
    sample::Sample,
    stage::Stage,
    verdict::{Promise, Verdict, growths},
};
use crate::statistics::{median, percentile};

/// Of what a clean source sends so much arrives at least, in hundredths: the rest is what a virtual
/// cable drops whose queue a flood fills.
const SERVED: u64 = 90;

/// What was done.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) seconds: f64,
    pub(super) churn: churn::Counts,
    pub(super) people: people::Counts,
    pub(super) offenders_banned: u32,
    pub(super) datagrams: Datagrams,
    pub(super) outcomes: Outcomes,
    pub(super) received: u64,
    pub(super) flood_sent: u64,
}

/// How it stands, in a line.
pub(super) fn progress(minute: u64, sample: &Sample) -> String {
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    format!(
        "  minute {minute:3}, life {}: own {:.2} MB, rss {:.2} MB, {} descriptors, {} threads, api p99 {}, \
         offence {}, lag {} bytes, {} packets, {} dropped by limit, {} by ban",
        sample.life,
        sample.own_megabytes,
        sample.rss_megabytes,
        sample.descriptors,
        sample.threads,
        ms(sample.call_p99_ms),
        ms(sample.offence_p50_ms),
        sample.lag_bytes,
        grouped(sample.received),
        grouped(sample.dropped_limit),
        grouped(sample.dropped_ban),
    )
}

/// Judges, and tells the figures.
pub(super) fn conclude(
    plan: &Plan,
    stage: &Stage,
    lives: &Lives,
    done: &Done,
    record: &Record,
) -> End {
    let Datagrams {
        banned_sent,
        banned_arrived,
        clean_sent,
        clean_arrived,
    } = done.datagrams;
    if banned_arrived > 0 {
        let said =
            format!("{banned_arrived} of {banned_sent} datagrams of a banned source arrived");
        stage.fault(Promise::BannedPackets, said);
    }
    if clean_arrived * 100 < clean_sent * SERVED {
        let said =
            format!("only {clean_arrived} of {clean_sent} datagrams of a clean source arrived");
        stage.fault(Promise::CleanPackets, said);
    }
    let (grown, faults) = growths(&record.samples, plan);
    for fault in faults {
        stage.fault(Promise::Growth, fault);
    }
    let figures = |promise| match promise {
        Promise::LostBans => format!(
            "{} bans and ends of bans acknowledged, each looked up in the kernel; all of them compared \
             {} times, {} restarts among them",
            grouped(done.churn.calls),
            grouped(done.churn.checks),
            lives.ended,
        ),
        Promise::WrongBans => format!("{} lists compared", grouped(done.churn.checks)),
        Promise::Offenders => format!(
            "{} of {} offenders in {} lines banned, the last may have just begun",
            grouped(done.offenders_banned.into()),
            grouped(stage.log.offenders().into()),
            grouped(stage.log.lines()),
        ),
        Promise::BannedPackets => format!(
            "{} sent, {} arrived",
            grouped(banned_sent),
            grouped(banned_arrived)
        ),
        Promise::CleanPackets => format!(
            "{} sent, {} arrived",
            grouped(clean_sent),
            grouped(clean_arrived)
        ),
        Promise::Counters => format!(
            "the interface took {} packets, {} had an outcome; compared {} times",
            grouped(done.received),
            grouped(done.outcomes.total().packets),
            grouped(record.samples.len() as u64 + 1),
        ),
        Promise::NoRepairs => format!("asked at the end of each of {} lives", lives.ended + 1),
        Promise::Answers => format!(
            "{} looks, {} scrapes, {} streams of events, {} reloads, {} reloads refused as they should be",
            grouped(done.people.looks),
            grouped(done.people.scrapes),
            grouped(done.people.streams),
            grouped(done.people.reloads),
            grouped(done.people.refused_reloads),
        ),
        Promise::Growth => grown.clone(),
    };
    let faults = stage.faults();
    let verdicts: Vec<_> = Promise::ALL
        .into_iter()
        .map(|promise| {
            let faults = faults.get(&promise);
            let mut figures = figures(promise);
            if let Some(faults) = faults {
                figures = format!("broken {} x; {figures}", grouped(faults.count));
            }
            Verdict {
                promise: promise.name().to_owned(),
                kept: faults.is_none(),
                figures,
                faults: faults.map(|faults| faults.told.clone()).unwrap_or_default(),
            }
        })
        .collect();
    End {
        seconds: done.seconds,
        passed: verdicts.iter().all(|verdict| verdict.kept),
        verdicts,
        told: told(stage, done, record),
    }
}

/// What is measured and not judged.
fn told(stage: &Stage, done: &Done, record: &Record) -> Vec<(String, String)> {
    let samples = &record.samples;
    let values = |value: fn(&Sample) -> Option<f64>| -> Vec<f64> {
        samples.iter().filter_map(value).collect()
    };
    let usual_and_worst = |value: fn(&Sample) -> Option<f64>, unit: &str| {
        let values = values(value);
        format!(
            "{:.1}{unit}, at most {:.1}{unit}",
            median(&values),
            percentile(&values, 100)
        )
    };
    let of = |outcome| grouped(done.outcomes.of(outcome).packets);
    let restarts = Restart::ALL.map(|kind| {
        let of_kind = record
            .restarts
            .iter()
            .filter(|restart| restart.kind == kind);
        let away: Vec<f64> = of_kind.map(|restart| restart.away_ms).collect();
        format!(
            "{} by {} ({:.0} ms without a daemon, at most {:.0} ms)",
            away.len(),
            kind.name(),
            median(&away),
            percentile(&away, 100)
        )
    });
    let rows = [
        ("time", format!("{:.1} minutes", done.seconds / 60.0)),
        ("restarts", restarts.join(", ")),
        (
            "own memory",
            usual_and_worst(|sample| Some(sample.own_megabytes), " MB"),
        ),
        (
            "descriptors",
            usual_and_worst(|sample| Some(sample.descriptors), ""),
        ),
        (
            "threads",
            usual_and_worst(|sample| Some(sample.threads), ""),
        ),
        (
            "the daemon's CPU",
            usual_and_worst(|sample| sample.cpu_percent, "% of a core"),
        ),
        (
            "bans by the API, median",
            usual_and_worst(|sample| sample.call_p50_ms, " ms"),
        ),
        (
            "bans by the API, 99th percentile",
            usual_and_worst(|sample| sample.call_p99_ms, " ms"),
        ),
        (
            "from an offender's last line to its ban",
            usual_and_worst(|sample| sample.offence_max_ms, " ms"),
        ),
        (
            "the log not yet read",
            usual_and_worst(|sample| Some(sample.lag_bytes), " bytes"),
        ),
        (
            "the log",
            format!(
                "{} lines, rotated {} times",
                grouped(stage.log.lines()),
                stage.log.rotations()
            ),
        ),
        (
            "packets",
            format!(
                "the flood sent {}; {} passed, {} dropped by the limit, {} by bans",
                grouped(done.flood_sent),
                of(Outcome::Passed),
                of(Outcome::DroppedLimit),
                of(Outcome::DroppedBan)
            ),
        ),
        ("events that were lost", grouped(events_lost(samples))),
        (
            "calls without an answer, because the daemon went",
            grouped(done.churn.unanswered),
        ),
        (
            "load of the machine",
            usual_and_worst(|sample| Some(sample.load), ""),
        ),
    ];
    rows.map(|(what, figure)| (what.to_owned(), figure)).into()
}

/// Over all counters that there were: they begin anew with another version's maps.
fn events_lost(samples: &[Sample]) -> u64 {
    let (mut sum, mut before) = (0.0, 0.0);
    for sample in samples {
        sum += if sample.events_lost >= before {
            sample.events_lost - before
        } else {
            sample.events_lost
        };
        before = sample.events_lost;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count"
    )]
    let sum = sum as u64;
    sum
}

/// A number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn lost_events_are_summed_up_over_counters_that_begin_anew() {
        let samples = [0.0, 3.0, 5.0, 1.0, 2.0].map(|events_lost| Sample {
            events_lost,
            ..Sample::default()
        });
        assert_eq!(events_lost(&samples), 7);
    }
}
