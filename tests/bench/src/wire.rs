//! A flood over a virtual cable: two namespaces, frames from nowhere, and a sink.
//!
//! Frames are made by the kernel itself (`BPF_PROG_TEST_RUN` with live frames) and handed to
//! the receiving end's driver, as a network card would. They are addressed to the receiver,
//! and whatever the filter under test lets through is dropped at the first hook of the
//! network stack: what lies behind it is the same for every filter.

use std::{
    io::Write as _,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use testkit::{Packet, Wire};

use crate::{
    prefixes::CLEAN_SOURCE,
    programs::{self, Name, Offender, Programs},
};

/// The receiving end of every [`Wire`].
pub(crate) const RECEIVER: &str = "veth-server";

/// Frames that a background flood sends at a time; it can be stopped only in between.
const BACKGROUND_FRAMES: u32 = 8_000_000;

/// A cable with a flood at one end.
pub(crate) struct Flood {
    pub(crate) wire: Wire,
    programs: Arc<Programs>,
    frame: Vec<u8>,
    /// The offender in [`Flood::send_on`].
    pub(crate) offender: Offender,
}

impl Flood {
    /// Lays the cable for a flood from so many sources, a power of two. The receiving end
    /// drops nothing yet.
    pub(crate) fn lay(sources: u32) -> Result<Self> {
        let wire = Wire::try_new()?;
        // Nobody asks for the address of a neighbour in the middle of a measurement.
        wire.client_end
            .set_neighbour(Wire::SERVER_V4, wire.server_end.mac())?;
        let mut programs = Programs::load_flood(sources, wire.client_end.index())?;
        let frame = Packet::eth()
            .macs(wire.client_end.mac(), wire.server_end.mac())
            .ipv4(CLEAN_SOURCE)
            .to(Wire::SERVER_V4)
            .udp(7)
            .payload_len(18)
            .build();
        let offender = programs.take_offender()?;
        Ok(Self {
            wire,
            programs: Arc::new(programs),
            frame,
            offender,
        })
    }

    /// Sends frames; how many a second the receiving end took and worked off.
    pub(crate) fn packets_per_second(&self, frames: u32) -> Result<f64> {
        let before = self.received()?;
        let each_ns = self.wire.client.run(|| self.send_here(frames))?;
        let received = self.received()? - before;
        ensure!(
            received > u64::from(frames) / 100,
            "of {frames} frames only {received} arrived: nothing takes the flood"
        );
        #[expect(clippy::cast_precision_loss, reason = "counts here are below 2^52")]
        Ok(received as f64 / (each_ns * f64::from(frames) / 1e9))
    }

    fn send_here(&self, frames: u32) -> Result<f64> {
        programs::send(self.programs.get(Name::Flood)?, &self.frame, frames)
    }

    /// Sends frames until the returned value is dropped; now and then one is the offender's.
    pub(crate) fn send_on(&self) -> Background {
        let stop = Arc::new(AtomicBool::new(false));
        let (programs, frame) = (Arc::clone(&self.programs), self.frame.clone());
        let sent = Arc::new(AtomicU64::new(0));
        let (ours, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = self.wire.client.spawn(move || {
            while !ours.load(Ordering::Relaxed) {
                let flood = programs.get(Name::FloodWithOffender)?;
                programs::send(flood, &frame, BACKGROUND_FRAMES)?;
                count.fetch_add(u64::from(BACKGROUND_FRAMES), Ordering::Relaxed);
            }
            Ok(())
        });
        Background {
            stop,
            sent,
            thread: Some(thread),
        }
    }

    /// Sends frames at a pace, so many at a time, until the returned value is dropped.
    pub(crate) fn send_paced(&self, frames: u32, period: Duration) -> Background {
        let stop = Arc::new(AtomicBool::new(false));
        let (programs, frame) = (Arc::clone(&self.programs), self.frame.clone());
        let sent = Arc::new(AtomicU64::new(0));
        let (ours, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = self.wire.client.spawn(move || {
            let mut due = Instant::now();
            while !ours.load(Ordering::Relaxed) {
                programs::send(programs.get(Name::Flood)?, &frame, frames)?;
                count.fetch_add(u64::from(frames), Ordering::Relaxed);
                // What a busy machine did not send in time is not made up for.
                due = (due + period).max(Instant::now());
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(())
        });
        Background {
            stop,
            sent,
            thread: Some(thread),
        }
    }

    /// Packets that the receiving end has taken since it was made, whatever became of them.
    ///
    /// The driver's count, for every filter alike: `nft` would list millions of elements of
    /// its set to show one counter.
    pub(crate) fn received(&self) -> Result<u64> {
        let file = "/proc/thread-self/net/dev";
        let text = self
            .wire
            .server
            .run(|| std::fs::read_to_string(file))
            .with_context(|| format!("read {file}"))?;
        text.lines()
            .find_map(|line| {
                let numbers = line.trim().strip_prefix(RECEIVER)?.strip_prefix(':')?;
                // Bytes, then packets.
                numbers.split_whitespace().nth(1)?.parse().ok()
            })
            .with_context(|| format!("{file} shows no packets of {RECEIVER}: {text}"))
    }

    /// Puts nftables rules in force at the receiving end.
    pub(crate) fn nft(&self, rules: &str) -> Result<()> {
        let mut command = self.wire.server.command("nft");
        // Debian keeps it where only root's `PATH` has it.
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = command
            .args(["-f", "-"])
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start nft; `cargo xtask doctor --fix` gets it")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(rules.as_bytes())
                .context("write rules to `nft -f -`")?;
        }
        let output = child.wait_with_output().context("wait for `nft -f -`")?;
        ensure!(
            output.status.success(),
            "`nft -f -` failed: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

/// A flood that goes on until this is stopped or dropped.
pub(crate) struct Background {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Background {
    /// Whether it has failed, and so is not there.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Frames that the kernel was given to send so far; those that it is at are not among them.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it; the error is what went wrong meanwhile.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(result) => result.map_err(|_| anyhow!("the flood's thread panicked"))?,
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Whoever wants to know what went wrong has called `stop`.
        let _failed = self.end();
    }
}
