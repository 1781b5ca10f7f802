//! The narrator: plain lines with a clock, and a list of what was claimed.

use std::{
    io::{self, Write as _},
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Instant,
};

use anyhow::{Context as _, bail};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

/// Tells the story and keeps the record of its claims.
pub(super) struct Stage {
    started: Instant,
    interrupted: Arc<AtomicBool>,
    claims: Vec<(bool, String)>,
}

impl Stage {
    /// From here on an interrupt ends the story at its next line, so that destructors clean
    /// up; a second one ends the process at once.
    pub(super) fn new() -> anyhow::Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register_conditional_shutdown(signal, 1, Arc::clone(&interrupted))
                .and_then(|_| flag::register(signal, Arc::clone(&interrupted)))
                .context("cannot handle signals")?;
        }
        Ok(Self {
            started: Instant::now(),
            interrupted,
            claims: Vec::new(),
        })
    }

    /// Fails once the user has interrupted.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// A line of the story, with the time since its beginning.
    pub(super) fn say(&self, text: &str) -> anyhow::Result<()> {
        let clock = self.started.elapsed().as_secs_f64();
        self.line(&format!("[{clock:4.1} s] {text}"))
    }

    /// Text of others: a file, a command's output.
    pub(super) fn quote(&self, text: &str) -> anyhow::Result<()> {
        text.lines()
            .try_for_each(|line| self.line(&format!("         | {line}")))
    }

    /// Records whether what the story says is true, and says so.
    pub(super) fn claim(&mut self, holds: bool, text: String) -> anyhow::Result<()> {
        if !holds {
            self.say(&format!("NOT TRUE: {text}"))?;
        }
        self.claims.push((holds, text));
        Ok(())
    }

    /// The list of claims; an error if one of them does not hold.
    pub(super) fn conclude(&self) -> anyhow::Result<()> {
        self.line("")?;
        for (holds, text) in &self.claims {
            let mark = if *holds { "  ok " } else { "  NO " };
            self.line(&format!("{mark} {text}"))?;
        }
        self.line("")?;
        let broken = self.claims.iter().filter(|(holds, _)| !holds).count();
        if broken > 0 {
            bail!("{broken} of {} claims are not true", self.claims.len());
        }
        self.line("All of it was checked and is true.")
    }

    fn line(&self, text: &str) -> anyhow::Result<()> {
        self.check()?;
        // Not println!, which panics when the reader has gone.
        writeln!(io::stdout(), "{}", text.trim_end()).context("cannot write to standard output")
    }
}
