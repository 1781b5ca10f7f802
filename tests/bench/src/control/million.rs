//! A daemon with a million bans, imported as people do it: from a file, by `abuser ban import`.

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use testkit::{Daemon, Wire};

use super::{
    process::{Memory, Process},
    records,
    restart::{self, FromStore, Restarted},
};
use crate::{prefixes, subject, wire::RECEIVER};

/// Prefixes of the list.
pub(super) const PREFIXES: usize = 1_000_000;
/// How long they are banned. A ban that ends takes more than one for good.
const TIME: &str = "30d";
/// How long memory must stay as it is, to a quarter of a megabyte, before it is believed.
const QUIET: Duration = Duration::from_secs(2);
/// How long that may take.
const SETTLE: Duration = Duration::from_secs(20);

/// The daemon, and what was measured with it.
pub(crate) struct Million {
    // Dropped in this order: the daemon lets go of the cable first.
    pub(super) daemon: Daemon,
    pub(super) wire: Wire,
    /// Its memory before the import.
    pub(super) rest: Memory,
    imported: Option<Imported>,
    restarted: Option<Restarted>,
    from_store: Option<FromStore>,
}

/// What the import took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Imported {
    pub(super) seconds: f64,
    /// How long the daemon kept CPUs busy with it.
    pub(super) cpu_seconds: f64,
    /// The daemon's memory when it had settled.
    pub(super) memory: Memory,
}

impl Million {
    /// The daemon with no bans.
    pub(super) fn start() -> Result<Self> {
        let wire = Wire::try_new()?;
        wire.client_end
            .set_neighbour(Wire::SERVER_V4, wire.server_end.mac())?;
        let binary = testkit::abuser_binary()?;
        let config = subject::flood_config(RECEIVER, subject::NO_MATCH);
        let daemon = Daemon::try_start(&binary, &wire.server, &config)
            .context("start abuser for a million bans")?;
        let rest = settled(Process(daemon.pid()))?;
        Ok(Self {
            daemon,
            wire,
            rest,
            imported: None,
            restarted: None,
            from_store: None,
        })
    }

    /// Imports the list, the first time.
    pub(super) fn imported(&mut self) -> Result<Imported> {
        if let Some(imported) = self.imported {
            return Ok(imported);
        }
        let list = self.write_list()?;
        let file = list.display().to_string();
        let arguments = ["ban", "import", "--for", TIME, "--json", &file];
        let process = Process(self.daemon.pid());
        let (begun, cpu_before) = (Instant::now(), process.cpu_seconds()?);
        let output = self.daemon.command(&arguments).output();
        let seconds = begun.elapsed().as_secs_f64();
        let cpu_seconds = process.cpu_seconds()? - cpu_before;
        let output = output.context("run `abuser ban import`")?;
        ensure!(
            output.status.success(),
            "`abuser ban import {file}` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let outcome: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("read what the import printed")?;
        ensure!(
            outcome["added"] == PREFIXES,
            "of {PREFIXES} prefixes only {} were imported: {outcome}",
            outcome["added"]
        );
        self.check()?;
        let memory = settled(process)?;
        Ok(*self.imported.insert(Imported {
            seconds,
            cpu_seconds,
            memory,
        }))
    }

    /// Kills the daemon and starts it again, the first time.
    pub(super) fn restarted(&mut self) -> Result<Restarted> {
        self.imported()?;
        if self.restarted.is_none() {
            self.restarted = Some(restart::after_kill(self)?);
        }
        self.restarted.context("it was restarted")
    }

    /// Stops the daemon, which leaves nothing in the kernel, and starts it again, the first time.
    pub(super) fn started_from_store(&mut self) -> Result<FromStore> {
        self.imported()?;
        if self.from_store.is_none() {
            self.from_store = Some(restart::from_store(self)?);
        }
        self.from_store.context("it was started")
    }

    /// Makes sure that books, map and store hold the same million bans.
    pub(super) fn check(&self) -> Result<()> {
        let status = self.daemon.try_json(&["status"])?;
        let told = &status["bans"];
        ensure!(*told == PREFIXES, "`abuser status` tells of {told} bans");
        let repairs = &status["reconciler"];
        for key in ["kernel_repairs", "store_repairs"] {
            ensure!(
                repairs[key] == 0,
                "books, map and store did not agree: {repairs}"
            );
        }
        let (map, store) = (
            records::in_map(&self.daemon)?,
            records::in_store(&self.daemon)?,
        );
        ensure!(
            map == store,
            "the map and the store do not hold the same bans: {} and {}",
            map.len(),
            store.len()
        );
        ensure!(
            map.len() == PREFIXES,
            "of {PREFIXES} bans the map and the store hold {}",
            map.len()
        );
        Ok(())
    }

    /// The list, in the folder that goes with the daemon.
    fn write_list(&self) -> Result<PathBuf> {
        let mut text = String::with_capacity(20 * PREFIXES);
        for prefixes::Prefix { address, length } in prefixes::blocklist(PREFIXES, 3) {
            let _infallible = match length {
                32 => writeln!(text, "{address}"),
                _ => writeln!(text, "{address}/{length}"),
            };
        }
        let path = self.daemon.store_path().with_file_name("list.txt");
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

/// The memory of a process when it does not change any more.
pub(crate) fn settled(process: Process) -> Result<Memory> {
    const NOISE: u64 = 256 * 1024;
    let deadline = Instant::now() + SETTLE;
    let mut known = process.memory()?;
    let mut since = Instant::now();
    while since.elapsed() < QUIET && Instant::now() < deadline {
        thread::sleep(QUIET / 8);
        let memory = process.memory()?;
        if memory.own().abs_diff(known.own()) > NOISE {
            (known, since) = (memory, Instant::now());
        }
    }
    process.memory()
}
