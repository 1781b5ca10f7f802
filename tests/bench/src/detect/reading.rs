//! Reading a log as the daemon does, on one thread: bytes, lines, pipeline.
//!
//! What is measured is how long the thread kept a CPU busy. A machine that others use makes that
//! longer too, but by less than it does the time that passes.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use abuser::{config, detection::Detection};
use abuser_detect::{
    pipeline::{Clock, Found, Line},
    time::Time,
};
use anyhow::{Context as _, Result, ensure};
use nix::time::{ClockId, clock_gettime};

use super::peer;

/// What reading a log took, and came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Lines.
    pub(super) lines: u64,
    /// Records that the detector was given.
    pub(super) matched: u64,
    /// What it found.
    pub(super) found: u64,
    /// Seconds of a CPU.
    pub(super) cpu: f64,
    /// Seconds that passed.
    pub(super) seconds: f64,
}

impl Reading {
    /// Lines in a second of a CPU.
    pub(super) fn per_cpu_second(self) -> f64 {
        rate(self.lines, self.cpu)
    }

    /// Makes sure that fail2ban saw the same.
    ///
    /// # Errors
    /// If it read other lines, or matched others.
    pub(super) fn ensure_same(&self, theirs: &peer::Outcome) -> Result<()> {
        ensure!(
            (theirs.lines, theirs.matched) == (self.lines, self.matched),
            "of the same log fail2ban-regex matched {} of {} lines, and abuser {} of {}",
            theirs.matched,
            theirs.lines,
            self.matched,
            self.lines
        );
        Ok(())
    }
}

/// So many in a second.
#[expect(clippy::cast_precision_loss, reason = "counts here are below 2^52")]
pub(super) fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

/// What a configuration makes of lines.
pub(super) fn detection(config: &str, clock: Clock) -> Result<Detection> {
    let config = config::parse(config, Path::new("bench"))
        .context("read the detectors of a scenario as abuser's configuration")?;
    Detection::new(&config, clock).context("build what reads lines")
}

/// Reads a log that came all at once, by a detection that has seen nothing yet.
pub(super) fn read(config: &str, log: &[u8], arrived: Time) -> Result<Reading> {
    let mut pipeline = detection(config, Clock::Host)?.pipeline;
    let mut found: Vec<Found> = Vec::new();
    let (begun, cpu) = (Instant::now(), thread_cpu()?);
    for bytes in lines(log) {
        let line = Line {
            bytes,
            arrived,
            stated: None,
        };
        pipeline.read(0, line, &mut found);
        // As if it were handed over.
        found.clear();
    }
    let (cpu, seconds) = (
        thread_cpu()?.saturating_sub(cpu),
        begun.elapsed().as_secs_f64(),
    );
    let lines = pipeline.feed_counts().map(|counts| counts.lines).sum();
    let watch = pipeline.watch_counts().next();
    let watch = watch.context("the configuration of a scenario has no detector")?;
    Ok(Reading {
        lines,
        matched: watch.matched,
        found: watch.found,
        cpu: cpu.as_secs_f64(),
        seconds,
    })
}

/// The lines of a log, without their ends.
pub(super) fn lines(log: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = log;
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest)?;
        let (line, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        Some(line)
    })
}

fn thread_cpu() -> Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    Ok(time.context("read how long this thread ran")?.into())
}
