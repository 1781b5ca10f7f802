//! The daemon's lives: how one ends and the next begins while traffic goes on, and what the
//! program counted over all of them.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use abuser_common::{
    interface::SLOTS,
    layout::{LAYOUT_VERSION, Outcome, Outcomes, maps},
};
use anyhow::{Context as _, Result, ensure};
use aya::maps::{Map, MapData, PerCpuArray};

use super::{plan::Restart, stage::Stage, verdict::Promise};

/// An older layout version: what of it is pinned is replaced, not read.
const OLDER: u32 = LAYOUT_VERSION - 1;
/// Packets that the filter has counted and the interface not yet: it does that for all that it
/// polled at once.
const BETWEEN: u64 = 1_000;
/// How long the daemon may take to stop, on a machine that others use.
const PATIENCE: Duration = Duration::from_secs(60);
/// So often is looked, at rest, until interface and filter agree.
const TRIES: usize = 25;

/// What has been.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// How many have ended.
    pub(super) ended: u64,
    /// How the last one ended.
    last: Option<Restart>,
    /// What became of packets, as counted by programs whose counters are gone.
    before: Outcomes,
    /// What the interface had taken when nothing was counted yet.
    offset: u64,
    /// How long the daemon was away, in milliseconds, in each restart.
    pub(super) away_ms: Vec<f64>,
}

impl Lives {
    /// Finds out what the interface took before it was protected; nothing may be sent meanwhile.
    pub(super) fn begin(stage: &Stage) -> Result<Self> {
        let mut lives = Self::default();
        let mut known = None;
        for _ in 0..TRIES {
            std::thread::sleep(Duration::from_millis(200));
            let now = (
                stage.flood.received()?,
                lives.outcomes(stage)?.total().packets,
            );
            if known == Some(now) {
                lives.offset = now.0 - now.1;
                return Ok(lives);
            }
            known = Some(now);
        }
        anyhow::bail!("packets come in that nobody here has sent")
    }

    /// Ends a daemon and starts the next.
    pub(super) fn restart(&mut self, stage: &Stage, restart: Restart) -> Result<()> {
        let mut daemon = stage.daemon_alone();
        self.no_repairs(stage, &daemon)?;
        stage.change();
        let begun = Instant::now();
        let mut old = None;
        match restart {
            Restart::Stop => {
                let status = daemon.terminate_within(PATIENCE);
                if !status.success() {
                    let said = format!("the daemon was told to stop and ended with {status}");
                    stage.fault(Promise::Answers, said);
                }
            }
            Restart::Kill => {
                daemon.kill();
            }
            Restart::Takeover => {
                daemon.kill();
                let folder = |layout| stage.pin_dir.join(format!("v{layout}"));
                let renamed = fs::rename(folder(LAYOUT_VERSION), folder(OLDER));
                renamed.context("make what is pinned that of an older version")?;
                old = Some(counters(&folder(OLDER))?);
            }
        }
        daemon.try_restart()?;
        stage.change();
        self.away_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        self.ended += 1;
        self.last = Some(restart);
        if let Some(old) = old {
            let said = daemon.stderr() + &daemon.stdout();
            ensure!(
                said.contains(&format!("took over from layout v{OLDER}")),
                "the daemon did not say that it took over: {said}"
            );
            self.before += sum(&old)?;
        }
        Ok(())
    }

    /// Makes sure that nothing had to be put right in this life, except a ban that the daemon before it had ended in the
    /// kernel, but not yet in the store, when it was killed.
    pub(super) fn no_repairs(&self, stage: &Stage, daemon: &testkit::Daemon) -> Result<()> {
        let reconciler = daemon.try_json(&["status"])?["reconciler"].clone();
        let said = daemon.stderr() + &daemon.stdout();
        let was_killed = self.last != Some(Restart::Stop);
        let begun_again = stage.take_cut_off().into_iter().filter(|source| {
            was_killed && said.contains(&format!("no ban of {source}/32 when abuser started"))
        });
        let expected = begun_again.count();
        if reconciler["kernel_repairs"] != expected || reconciler["store_repairs"] != 0 {
            let life = self.ended + 1;
            let warnings: Vec<_> = said
                .lines()
                .filter(|line| line.contains(" WARN "))
                .collect();
            let said = format!(
                "in life {life} something had to be put right: {reconciler}; it warned: {warnings:?}"
            );
            stage.fault(Promise::NoRepairs, said);
        }
        Ok(())
    }

    /// What became of packets, over all lives.
    pub(super) fn outcomes(&self, stage: &Stage) -> Result<Outcomes> {
        let mut connection = stage.connect()?;
        let status = connection.get("/v1/status")?;
        let status: serde_json::Value = serde_json::from_str(status).context("read the status")?;
        let mut outcomes = self.before;
        for (sum, outcome) in outcomes.0.iter_mut().zip(Outcome::ALL) {
            let told = &status["outcomes"][outcome.name()]["packets"];
            let told = told.as_u64();
            sum.packets += told.with_context(|| {
                format!(
                    "the status tells no packets of {}: {status}",
                    outcome.name()
                )
            })?;
        }
        Ok(outcomes)
    }

    /// Compares what the filter counted with what the interface took meanwhile; both go on.
    pub(super) fn compare(&self, stage: &Stage) -> Result<(Outcomes, u64)> {
        let before = stage.flood.received()? - self.offset;
        let outcomes = self.outcomes(stage)?;
        let after = stage.flood.received()? - self.offset;
        let counted = outcomes.total().packets;
        if !(before..=after + BETWEEN).contains(&counted) {
            let said = format!(
                "the interface took {before} to {after} packets, and {counted} had an outcome"
            );
            stage.fault(Promise::Counters, said);
        }
        Ok((outcomes, after))
    }

    /// The same at rest, when both must be the same to the packet.
    pub(super) fn compare_exactly(&self, stage: &Stage) -> Result<(Outcomes, u64)> {
        let mut now = (Outcomes::default(), 0);
        for _ in 0..TRIES {
            std::thread::sleep(Duration::from_millis(200));
            now = (self.outcomes(stage)?, stage.flood.received()? - self.offset);
            if now.0.total().packets == now.1 {
                return Ok(now);
            }
        }
        let said = format!(
            "at rest, the interface had taken {} packets, and {} had an outcome",
            now.1,
            now.0.total().packets
        );
        stage.fault(Promise::Counters, said);
        Ok(now)
    }
}

/// The counters that are pinned in this folder.
fn counters(folder: &Path) -> Result<PerCpuArray<MapData, Outcomes>> {
    let path = folder.join(maps::OUTCOMES);
    let data = MapData::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
    PerCpuArray::try_from(Map::PerCpuArray(data))
        .with_context(|| format!("read {} as counters", path.display()))
}

/// All interfaces and CPUs together.
fn sum(counters: &PerCpuArray<MapData, Outcomes>) -> Result<Outcomes> {
    let mut sum = Outcomes::default();
    for slot in 0..SLOTS {
        let values = counters.get(&slot, 0);
        let values = values.with_context(|| format!("read the counters in slot {slot}"))?;
        for value in values.iter() {
            sum += *value;
        }
    }
    Ok(sum)
}
