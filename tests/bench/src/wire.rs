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
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, anyhow, bail};
use testkit::{Packet, Wire};

use crate::{
    prefixes::CLEAN_SOURCE,
    programs::{self, Name, Programs},
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
}

impl Flood {
    /// Lays the cable. The receiving end drops nothing yet.
    pub(crate) fn lay() -> Result<Self> {
        let wire = Wire::try_new()?;
        // Nobody asks for the address of a neighbour in the middle of a measurement.
        wire.client_end
            .set_neighbour(Wire::SERVER_V4, wire.server_end.mac())?;
        let programs = Programs::load(&[Name::Flood], wire.client_end.index())?;
        let frame = Packet::eth()
            .macs(wire.client_end.mac(), wire.server_end.mac())
            .ipv4(CLEAN_SOURCE)
            .to(Wire::SERVER_V4)
            .udp(7)
            .payload_len(18)
            .build();
        Ok(Self {
            wire,
            programs: Arc::new(programs),
            frame,
        })
    }

    /// Sends frames and returns when they are sent, with the seconds it took.
    pub(crate) fn send(&self, frames: u32) -> Result<f64> {
        let each_ns = self.wire.client.run(|| self.send_here(frames))?;
        Ok(each_ns * f64::from(frames) / 1e9)
    }

    fn send_here(&self, frames: u32) -> Result<f64> {
        programs::send(self.programs.get(Name::Flood)?, &self.frame, frames)
    }

    /// Sends frames until the returned value is dropped.
    pub(crate) fn send_on(&self) -> Background {
        let stop = Arc::new(AtomicBool::new(false));
        let (programs, frame) = (Arc::clone(&self.programs), self.frame.clone());
        let ours = Arc::clone(&stop);
        let thread = self.wire.client.spawn(move || {
            while !ours.load(Ordering::Relaxed) {
                programs::send(programs.get(Name::Flood)?, &frame, BACKGROUND_FRAMES)?;
            }
            Ok(())
        });
        Background {
            stop,
            thread: Some(thread),
        }
    }

    /// Puts nftables rules in force at the receiving end.
    pub(crate) fn nft(&self, rules: &str) -> Result<()> {
        self.run_nft(&["-f", "-"], rules).map(|_| ())
    }

    /// What `nft` says of a counter, in packets.
    pub(crate) fn nft_packets(&self, counter: &str) -> Result<u64> {
        let arguments = ["list", "counter", "ip", "bench", counter];
        let text = self.run_nft(&arguments, "")?;
        let mut words = text
            .split_whitespace()
            .skip_while(|word| *word != "packets");
        words
            .nth(1)
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("nft shows no packets of the counter {counter}: {text}"))
    }

    fn run_nft(&self, arguments: &[&str], input: &str) -> Result<String> {
        let shown = format!("nft {}", arguments.join(" "));
        let mut command = self.wire.server.command("nft");
        // Debian keeps it where only root's `PATH` has it.
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = command
            .args(arguments)
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start `{shown}`; `cargo xtask doctor --fix` gets nft"))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(input.as_bytes())
                .with_context(|| format!("write to `{shown}`"))?;
        }
        let output = child
            .wait_with_output()
            .with_context(|| format!("wait for `{shown}`"))?;
        if !output.status.success() {
            bail!(
                "`{shown}` failed: {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A flood that goes on until this is stopped or dropped.
pub(crate) struct Background {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Background {
    /// Whether it has failed, and so is not there.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it; the error is what went wrong meanwhile.
    pub(crate) fn stop(mut self) -> Result<()> {
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
