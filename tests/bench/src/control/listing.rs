//! All bans as they are told: how long an export takes, and how much memory a list.

use std::{io::Read as _, process::Stdio, time::Instant};

use anyhow::{Context as _, Result, ensure};

use super::{
    megabytes,
    million::{Million, PREFIXES},
    process::Process,
};
use crate::scenario::Measured;

/// How much more memory the daemon may take while it tells a million bans, in MB.
const DAEMON_GROWTH: f64 = 16.0;

/// `abuser ban export` of a million bans.
pub(super) fn export(million: &Million) -> Result<Measured> {
    let begun = Instant::now();
    let told = tell(million, &["ban", "export"])?;
    let value = begun.elapsed().as_secs_f64();
    ensure!(
        told.lines == PREFIXES,
        "`abuser ban export` wrote {} lines for {PREFIXES} bans",
        told.lines
    );
    Ok(Measured {
        value,
        ..Measured::default()
    })
}

/// `abuser ban list --json` of a million bans.
pub(super) fn memory(million: &Million) -> Result<Measured> {
    let daemon = Process(million.daemon.pid());
    let before = daemon.memory()?.resident;
    daemon.forget_peak()?;
    let begun = Instant::now();
    let told = tell(million, &["ban", "list", "--json"])?;
    let seconds = begun.elapsed().as_secs_f64();
    let peak = daemon.peak().context("the daemon is gone")?;
    // One ban a line, between brackets.
    ensure!(
        told.lines == PREFIXES + 2,
        "`abuser ban list --json` wrote {} lines for {PREFIXES} bans",
        told.lines
    );
    let growth = megabytes(peak.saturating_sub(before));
    ensure!(
        growth <= DAEMON_GROWTH,
        "the daemon took {growth:.1} MB more while it told its bans, which may be \
         {DAEMON_GROWTH:.0} MB"
    );
    Ok(Measured {
        value: megabytes(told.peak),
        also: vec![("daemon_growth_megabytes", growth), ("seconds", seconds)],
        ..Measured::default()
    })
}

/// What a command printed and took.
struct Told {
    lines: usize,
    /// The most memory that it had, in bytes.
    peak: u64,
}

/// Runs a command and reads what it prints, as it comes.
fn tell(million: &Million, arguments: &[&str]) -> Result<Told> {
    let what = || format!("run `abuser {}`", arguments.join(" "));
    let mut command = million.daemon.command(arguments);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(what)?;
    let process = Process(child.id());
    let mut stdout = child.stdout.take().with_context(what)?;
    let mut told = Told { lines: 0, peak: 0 };
    let mut buffer = vec![0; 1 << 16];
    let (mut parts, mut read) = (0_usize, 1);
    while read > 0 {
        read = stdout.read(&mut buffer).with_context(what)?;
        let ends = buffer[..read].iter().filter(|byte| **byte == b'\n');
        told.lines += ends.count();
        // The kernel keeps the peak, so it is enough to look now and then, and late.
        if parts.is_multiple_of(64) || read < buffer.len() {
            told.peak = process.peak().unwrap_or_default().max(told.peak);
        }
        parts += 1;
    }
    let status = child.wait().with_context(what)?;
    ensure!(
        status.success(),
        "`abuser {}` ended with {status}",
        arguments.join(" ")
    );
    Ok(told)
}
