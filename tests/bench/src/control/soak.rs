//! Everything at once for as long as it takes: a flood of random sources, bans that come, end
//! and are lifted, and people who look now and then. What grows meanwhile would grow for good.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{
    churn::Churn,
    connection::Connection,
    megabytes,
    process::{Memory, Process},
};
use crate::{
    flood::AbuserEnd,
    scenario::Measured,
    statistics::{growth, percentile},
    subject,
    wire::RECEIVER,
};

/// Sources of the flood.
const SOURCES: u32 = 1 << 20;
/// A million packets a second, a tenth of a second's worth at a time: the filter always has
/// work, and the rest of the machine goes on.
const FRAMES: u32 = 100_000;
const PERIOD: Duration = Duration::from_millis(100);
/// From one call to the next.
const CALL: Duration = Duration::from_millis(5);
/// From one look to the next, by each of [`LOOKS`] in turn.
const LOOK: Duration = Duration::from_secs(1);
/// From one sample to the next.
const SAMPLE: Duration = Duration::from_secs(10);
/// What happens before is the beginning, unless a fifth of the run is shorter.
const BEGINNING: Duration = Duration::from_secs(120);
/// Descriptors and threads may differ by so many: an idle thread of a pool is let go now and
/// then, a connection is closed a moment later.
const LEEWAY: f64 = 2.0;

/// What people do.
const LOOKS: [&[&str]; 4] = [
    &["ban", "list", "--json"],
    &["status", "--json"],
    &["explain", "198.18.0.1", "--json"],
    &["reload"],
];

/// How it stands at one moment.
struct Sample {
    seconds: f64,
    memory: Memory,
    descriptors: usize,
    threads: u64,
    p99_ms: f64,
}

/// Goes on for so many minutes.
pub(crate) fn measure(minutes: u32) -> Result<Measured> {
    let end = AbuserEnd::start(SOURCES, &subject::soak_config(RECEIVER))?;
    let counted = counters_agree(&end, (0, 0))?;
    let process = Process(end.daemon.pid());
    let mut connection = Connection::open(end.daemon.socket())?;
    let mut churn = Churn::begin(&mut connection)?;
    let flood = end.flood.send_paced(FRAMES, PERIOD);
    let time = Duration::from_secs(60 * u64::from(minutes));
    let mut samples: Vec<Sample> = Vec::new();
    let mut calls = Vec::new();
    let begun = Instant::now();
    let (mut last_look, mut last_sample, mut told) = (begun, begun, 0);
    let mut looks = LOOKS.iter().cycle();
    eprintln!();
    while begun.elapsed() < time {
        ensure!(!flood.has_ended(), "the flood ended before its time");
        calls.push(churn.call(&mut connection)?.as_secs_f64() * 1e3);
        std::thread::sleep(CALL);
        if last_sample.elapsed() >= SAMPLE {
            last_sample = Instant::now();
            samples.push(Sample {
                seconds: begun.elapsed().as_secs_f64(),
                memory: process.memory()?,
                descriptors: process.descriptors()?,
                threads: process.threads()?,
                p99_ms: percentile(&calls, 99),
            });
            calls.clear();
        } else if last_look.elapsed() >= LOOK {
            // Not together with a sample: a connection would be counted that is about to close.
            last_look = Instant::now();
            if let Some(arguments) = looks.next() {
                look(&end, arguments)?;
            }
        }
        let minute = begun.elapsed().as_secs() / 60;
        if minute > told {
            told = minute;
            if let Some(sample) = samples.last() {
                eprintln!("{}", line(minute, sample, &churn));
            }
        }
    }
    flood.stop()?;
    counters_agree(&end, counted)?;
    churn.check(&end.daemon)?;
    let repairs = end.daemon.try_json(&["status"])?["reconciler"].clone();
    for key in ["kernel_repairs", "store_repairs"] {
        ensure!(
            repairs[key] == 0,
            "something had to be put right: {repairs}"
        );
    }
    result(&samples, time)
}

/// The figure, once neither descriptors nor threads have grown.
fn result(samples: &[Sample], time: Duration) -> Result<Measured> {
    let beginning = BEGINNING.min(time / 5).as_secs_f64();
    let settled: Vec<_> = samples
        .iter()
        .filter(|sample| sample.seconds >= beginning)
        .collect();
    let grown = |value: fn(&Sample) -> f64| {
        let points: Vec<_> = settled
            .iter()
            .map(|sample| (sample.seconds, value(sample)))
            .collect();
        growth(&points)
    };
    #[expect(clippy::cast_precision_loss, reason = "counts here are small")]
    let counts: [(&str, f64); 2] = [
        ("descriptors", grown(|sample| sample.descriptors as f64)),
        ("threads", grown(|sample| sample.threads as f64)),
    ];
    for (what, grown) in counts {
        ensure!(
            grown <= LEEWAY,
            "the daemon had {grown:.0} {what} more at the end than at the beginning"
        );
    }
    let last = settled.last().context("the run was too short")?;
    let slow: Vec<_> = settled.iter().map(|sample| sample.p99_ms).collect();
    Ok(Measured {
        value: grown(|sample| megabytes(sample.memory.own())),
        also: vec![
            ("own_megabytes", megabytes(last.memory.own())),
            ("rss_megabytes", megabytes(last.memory.resident)),
            ("p99_ms", percentile(&slow, 50)),
            ("minutes", time.as_secs_f64() / 60.0),
        ],
        ..Measured::default()
    })
}

fn line(minute: u64, sample: &Sample, churn: &Churn) -> String {
    format!(
        "  minute {minute:3}: own {:.2} MB, rss {:.2} MB, {} descriptors, {} threads, \
         api p99 {:.1} ms, {} calls, {} bans kept",
        megabytes(sample.memory.own()),
        megabytes(sample.memory.resident),
        sample.descriptors,
        sample.threads,
        sample.p99_ms,
        churn.calls(),
        churn.kept(),
    )
}

fn look(end: &AbuserEnd, arguments: &[&str]) -> Result<()> {
    let output = end.daemon.abuser(arguments);
    ensure!(output.status.success(), "{output}");
    Ok(())
}

/// Makes sure that since `before`, or since the start, every packet that the interface took had
/// one outcome; how many it took and how many outcomes there were.
fn counters_agree(end: &AbuserEnd, before: (u64, u64)) -> Result<(u64, u64)> {
    const TRIES: usize = 10;
    let mut now = (0, 0);
    for _ in 0..TRIES {
        // A packet may come in between: there are a few even without a flood.
        std::thread::sleep(Duration::from_millis(200));
        now = (end.flood.received()?, outcomes(end)?);
        if before == (0, 0) || now.0 - before.0 == now.1 - before.1 {
            return Ok(now);
        }
    }
    anyhow::bail!(
        "the interface took {} packets, but {} had an outcome",
        now.0 - before.0,
        now.1 - before.1
    )
}

fn outcomes(end: &AbuserEnd) -> Result<u64> {
    let status = end.daemon.try_json(&["status"])?;
    let outcomes = status["outcomes"].as_object();
    let outcomes = outcomes.context("`abuser status --json` has no outcomes")?;
    let packets = outcomes.values().map(|count| count["packets"].as_u64());
    packets
        .sum::<Option<u64>>()
        .context("`abuser status --json` has an outcome without a count")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(memory: impl Fn(f64) -> u64, threads: impl Fn(f64) -> u64) -> Result<Measured> {
        let samples: Vec<_> = (1..=30)
            .map(|number| f64::from(number) * 10.0)
            .map(|seconds| Sample {
                seconds,
                memory: Memory {
                    resident: memory(seconds) + 500,
                    maps: 500,
                },
                descriptors: 10,
                threads: threads(seconds),
                p99_ms: 1.0,
            })
            .collect();
        result(&samples, Duration::from_secs(300))
    }

    #[test]
    fn what_the_beginning_takes_is_no_growth() {
        let warming_up = |seconds| if seconds < 60.0 { 1_000 } else { 20_000_000 };
        let measured = run(warming_up, |_| 5).unwrap();
        assert!(measured.value.abs() < 1e-9);
    }

    #[test]
    fn a_leak_is_told_and_threads_that_gather_fail_the_run() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small and positive"
        )]
        let leak = |seconds: f64| (seconds * 10_000.0) as u64;
        let measured = run(leak, |_| 5).unwrap();
        assert!((measured.value - 2.4).abs() < 0.01, "{}", measured.value);
        assert!(run(|_| 1, leak).is_err());
    }
}
