//! How it stands at one moment: a line of the record.

use std::time::Instant;

use abuser_common::layout::Outcome;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{
    clients::{Clients, Datagrams},
    lives::Lives,
    stage::{Stage, lock},
};
use crate::{
    control::{Process, megabytes},
    statistics::percentile,
    wire::Background,
};

/// How it stands. Counts are since the beginning, over all lives of the daemon.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Since the beginning.
    pub(super) seconds: f64,
    /// Which life of the daemon it is, from 1 on, and how old it is.
    pub(super) life: u64,
    pub(super) life_seconds: f64,
    /// Memory of the daemon less the maps of the kernel that it has mapped, and with them.
    pub(super) own_megabytes: f64,
    pub(super) rss_megabytes: f64,
    pub(super) descriptors: f64,
    pub(super) threads: f64,
    /// Hundredths of a core since the last sample of this life.
    pub(super) cpu_percent: Option<f64>,
    /// Calls of the API since the last sample; `None` if there was none.
    pub(super) call_p50_ms: Option<f64>,
    pub(super) call_p99_ms: Option<f64>,
    /// From an offender's last line to its ban, since the last sample.
    pub(super) offence_p50_ms: Option<f64>,
    pub(super) offence_max_ms: Option<f64>,
    /// Of the log, what is written and not read.
    pub(super) lag_bytes: f64,
    /// Events that the program lost since its counters began.
    pub(super) events_lost: f64,
    /// Frames that the flood has sent, and packets that the interface took of all kinds.
    pub(super) flood_sent: u64,
    pub(super) received: u64,
    pub(super) passed: u64,
    pub(super) dropped_limit: u64,
    pub(super) dropped_ban: u64,
    pub(super) other: u64,
    #[serde(flatten)]
    pub(super) datagrams: Datagrams,
    pub(super) log_lines: u64,
    /// Of the whole machine, over a minute.
    pub(super) load: f64,
}

/// Takes samples.
pub(super) struct Sampler {
    begun: Instant,
    life: u64,
    life_begun: Instant,
    /// The daemon's time on CPUs, and when that was.
    cpu: Option<(f64, Instant)>,
}

impl Sampler {
    pub(super) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            life: 1,
            life_begun: Instant::now(),
            cpu: None,
        }
    }

    /// Since the beginning.
    pub(super) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Another life has begun.
    pub(super) fn next_life(&mut self) {
        self.life += 1;
        self.life_begun = Instant::now();
        self.cpu = None;
    }

    /// How it stands now.
    pub(super) fn take(
        &mut self,
        stage: &Stage,
        lives: &Lives,
        flood: &Background,
        clients: &Clients,
    ) -> Result<Sample> {
        let process = Process(stage.daemon().pid());
        let memory = process.memory()?;
        let (descriptors, threads) = (process.descriptors()?, process.threads()?);
        let (cpu, now) = (process.cpu_seconds()?, Instant::now());
        let before = self.cpu.replace((cpu, now));
        let cpu_percent = before.map(|(before, since)| {
            (cpu - before) / now.duration_since(since).as_secs_f64() * 100.0
        });
        let (lag_bytes, events_lost) = scraped(stage)?;
        let (outcomes, received) = lives.compare(stage)?;
        let of = |outcome| outcomes.of(outcome).packets;
        let [passed, dropped_limit, dropped_ban] =
            [Outcome::Passed, Outcome::DroppedLimit, Outcome::DroppedBan].map(of);
        let calls = std::mem::take(&mut *lock(&stage.timings.calls));
        let offences = std::mem::take(&mut *lock(&stage.timings.offences));
        let of_any =
            |values: &[f64], percent| (!values.is_empty()).then(|| percentile(values, percent));
        #[expect(clippy::cast_precision_loss, reason = "counts here are small")]
        Ok(Sample {
            seconds: self.seconds(),
            life: self.life,
            life_seconds: self.life_begun.elapsed().as_secs_f64(),
            own_megabytes: megabytes(memory.own()),
            rss_megabytes: megabytes(memory.resident),
            descriptors: descriptors as f64,
            threads: threads as f64,
            cpu_percent,
            call_p50_ms: of_any(&calls, 50),
            call_p99_ms: of_any(&calls, 99),
            offence_p50_ms: of_any(&offences, 50),
            offence_max_ms: of_any(&offences, 100),
            lag_bytes,
            events_lost,
            flood_sent: flood.sent(),
            received,
            passed,
            dropped_limit,
            dropped_ban,
            other: outcomes.total().packets - passed - dropped_limit - dropped_ban,
            datagrams: clients.datagrams(),
            log_lines: stage.log.lines(),
            load: load()?,
        })
    }
}

/// What only `/metrics` tells: how far the log is behind, and events that were lost.
fn scraped(stage: &Stage) -> Result<(f64, f64)> {
    let mut connection = stage.connect()?;
    let page = connection.get("/metrics")?;
    let value = |name: &str| {
        value_of(page, name).with_context(|| format!("`GET /metrics` does not tell {name}"))
    };
    Ok((
        value(r#"abuser_source_lag_bytes{source="web"}"#)?,
        value(r#"abuser_events_total{result="lost"}"#)?,
    ))
}

/// How many tasks wanted a CPU, over the last minute.
fn load() -> Result<f64> {
    let file = "/proc/loadavg";
    let text = std::fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    let first = text
        .split_whitespace()
        .next()
        .and_then(|load| load.parse().ok());
    first.with_context(|| format!("{file} is not as it should be: {text}"))
}

fn value_of(page: &str, name: &str) -> Option<f64> {
    let lines = page.lines();
    lines
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .find_map(|value| value.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let page = "# TYPE a counter\na_total{x=\"1\"} 2\na_total{x=\"10\"} 3\n";
        assert_eq!(value_of(page, r#"a_total{x="10"}"#), Some(3.0));
        assert_eq!(value_of(page, r#"a_total{x="1"}"#), Some(2.0));
        assert_eq!(value_of(page, "a_total"), None);
    }
}
