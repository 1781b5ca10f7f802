//! Rates by the real daemon: live frames over virtual cables into its interfaces, one cable for each
//! CPU, as a network card has a queue for each. Both count for the same limit.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use abuser_common::layout::{BANKS, LAYOUT_VERSION, LimitCounters, MAX_LIMITS, maps};
use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::{Map, MapData, PerCpuArray};
use testkit::{Daemon, Namespace, Packet, veth};

use super::{Cell, Method, Rate};
use crate::{
    cpu,
    programs::{self, Name, Programs},
};

/// Rates that grant enough packets in seconds.
pub(crate) const RATES: [Rate; 5] = [
    Rate::ALL[4],
    Rate::ALL[5],
    Rate::ALL[6],
    Rate::ALL[7],
    Rate::ALL[8],
];
/// How long each is flooded.
pub(crate) const TIME: Duration = Duration::from_secs(6);
/// A bucket is half a second deep: whoever has to wait for a CPU for less loses nothing.
const BURSTS_IN_SECOND: u64 = 2;
/// Frames in one call.
const FRAMES: u32 = 400_000;
/// Frames in a call that ends the window: the flood must be faster than the limit in it.
const LAST_FRAMES: u32 = 150_000;
/// So often that is tried.
const TRIES: usize = 40;
/// So much faster.
const FASTER: f64 = 1.15;
/// What a call may take besides its frames: when they were is known to half of that.
const OVERHEAD: Duration = Duration::from_millis(60);
/// The port of the first rate.
const PORT: u16 = 1000;

/// A daemon with a cable for each CPU.
pub struct Cables {
    // The daemon goes before its cables.
    daemon: Daemon,
    lanes: Vec<Lane>,
    client: Namespace,
    rates: Vec<Rate>,
}

struct Lane {
    programs: Arc<Programs>,
    macs: ([u8; 6], [u8; 6]),
}

impl Cables {
    /// Lays so many cables, to a daemon with a limit for each of these rates.
    ///
    /// # Errors
    /// If the kernel refuses it, or the daemon does not start.
    pub fn lay(cpus: usize, rates: &[Rate]) -> Result<Self> {
        let (server, client) = (Namespace::new()?, Namespace::new()?);
        let mut lanes = Vec::new();
        for number in 0..cpus {
            let (near, far) = (format!("lane{number}"), format!("far{number}"));
            let (near, far) = veth(&server, &near, &client, &far)?;
            lanes.push(Lane {
                programs: Arc::new(Programs::load_flood(1, far.index())?),
                macs: (far.mac(), near.mac()),
            });
        }
        let names: Vec<_> = (0..cpus)
            .map(|number| format!("\"lane{number}\""))
            .collect();
        let mut config = format!(
            "interfaces = [{}]\n[xdp]\nmode = \"driver\"\n",
            names.join(", ")
        );
        for (port, rate) in (PORT..).zip(rates) {
            let _infallible = writeln!(
                config,
                "[[limit]]\nname = \"at-{port}\"\nprotocol = \"udp\"\nports = [{port}]\nrate = \"{}\"\nburst = {}",
                rate.name(),
                burst(*rate)
            );
        }
        let binary = testkit::abuser_binary()?;
        let daemon = Daemon::try_start(&binary, &server, &config)
            .context("start abuser at the end of cables")?;
        Ok(Self {
            daemon,
            lanes,
            client,
            rates: rates.to_vec(),
        })
    }

    /// Floods one source under this rate for so long, on all CPUs.
    ///
    /// # Errors
    /// If the machine is too busy to send faster than the rate.
    pub fn measure(&mut self, rate: Rate, time: Duration) -> Result<Cell> {
        let at = self.rates.iter().position(|known| *known == rate);
        let at = at.with_context(|| format!("there is no limit of {}", rate.name()))?;
        let port = PORT + u16::try_from(at)?;
        let before = self.counted()?;
        // One frame opens the bucket: a call with many begins late.
        let begun = Instant::now();
        self.send(0, port, 1)?;
        let over = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..self.lanes.len())
            .map(|cpu| self.flood_on(cpu, port, &over))
            .collect::<Result<_>>()?;
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread
                .join()
                .map_err(|_| anyhow!("a thread that floods panicked"))??;
        }
        let elapsed = self.end_window(rate, port, begun)?;
        let after = self.counted()?;
        let admitted = after.passed.packets - before.passed.packets;
        let dropped = after.dropped.packets - before.dropped.packets;
        #[expect(clippy::cast_precision_loss, reason = "counts here are below 2^52")]
        let expected =
            (1 + burst(rate)) as f64 + elapsed.as_secs_f64() * 1e9 / rate.period_ns() as f64;
        Ok(Cell {
            rate,
            sources: 1,
            cpus: self.lanes.len(),
            method: Method::Live,
            offered: admitted + dropped,
            admitted,
            expected,
        })
    }

    /// Sends faster than the limit, so that nothing is left in the bucket; when that ended.
    fn end_window(&self, rate: Rate, port: u16, begun: Instant) -> Result<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
        let period_ns = rate.period_ns() as f64;
        let mut seen = String::new();
        for _ in 0..TRIES {
            let dropped = self.counted()?.dropped.packets;
            let since = Instant::now();
            let each_ns = self.send(0, port, LAST_FRAMES)?;
            let (took, elapsed) = (since.elapsed(), begun.elapsed());
            let dropped = self.counted()?.dropped.packets - dropped;
            let sending = Duration::from_secs_f64(each_ns * f64::from(LAST_FRAMES) / 1e9);
            let overhead = took.saturating_sub(sending);
            if dropped > 0 && each_ns * FASTER < period_ns && overhead < OVERHEAD {
                // Before the frames the kernel does what it undoes behind them.
                return Ok(elapsed.saturating_sub(overhead / 2));
            }
            seen = format!(
                "{dropped} of {LAST_FRAMES} frames dropped, {each_ns:.0} ns a frame, {overhead:?} besides"
            );
        }
        bail!(
            "the machine is too busy to send faster than {} for a moment: {seen}",
            rate.name()
        )
    }

    fn flood_on(
        &self,
        cpu: usize,
        port: u16,
        over: &Arc<AtomicBool>,
    ) -> Result<std::thread::JoinHandle<Result<()>>> {
        let lane = self.lanes.get(cpu).context("a cable for each CPU")?;
        let (programs, frame, over) = (
            Arc::clone(&lane.programs),
            lane.frame(port),
            Arc::clone(over),
        );
        Ok(self.client.spawn(move || {
            cpu::pin(cpu)?;
            cpu::go_first()?;
            while !over.load(Ordering::Relaxed) {
                programs::send(programs.get(Name::Flood)?, &frame, FRAMES)?;
            }
            Ok(())
        }))
    }

    /// Sends over one cable; nanoseconds a frame.
    fn send(&self, lane: usize, port: u16, frames: u32) -> Result<f64> {
        let lane = self.lanes.get(lane).context("a cable for each CPU")?;
        self.client.run(|| {
            cpu::go_first()?;
            programs::send(lane.programs.get(Name::Flood)?, &lane.frame(port), frames)
        })
    }

    /// What was counted under all limits: only one of them has packets at a time.
    fn counted(&self) -> Result<LimitCounters> {
        let folder = self.daemon.pin_dir().join(format!("v{LAYOUT_VERSION}"));
        let path = folder.join(maps::LIMIT_COUNTERS);
        let data = MapData::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
        let counters = PerCpuArray::<_, LimitCounters>::try_from(Map::PerCpuArray(data));
        let counters = counters.with_context(|| format!("read {} as counters", path.display()))?;
        let mut sum = LimitCounters::default();
        for index in 0..BANKS * MAX_LIMITS {
            let values = counters.get(&index, 0);
            for value in values.context("read the counters of a limit")?.iter() {
                sum.passed += value.passed;
                sum.dropped += value.dropped;
            }
        }
        Ok(sum)
    }
}

impl Lane {
    fn frame(&self, port: u16) -> Vec<u8> {
        let (from, to) = self.macs;
        Packet::eth()
            .macs(from, to)
            .ipv4("198.51.100.7")
            .to("192.0.2.1")
            .udp(port)
            .payload_len(18)
            .build()
    }
}

fn burst(rate: Rate) -> u64 {
    rate.count / BURSTS_IN_SECOND
}
