//! The real `fail2ban-regex` on a log.
//!
//! It is measured as people run it, and once more [`LIKE_THE_SERVER`]. Python's start is counted;
//! the logs are long enough for it not to matter.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike as _},
};
use testkit::{Namespace, peers};

/// As people run it: every expression is tried on each line.
pub(super) const PLAIN: &[&str] = &[];
/// No more than fail2ban's server does: the first expression that matches is the last one.
pub(super) const LIKE_THE_SERVER: &[&str] = &["--no-check-all"];

/// What it took, and came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// Lines it read.
    pub(super) lines: u64,
    /// Lines that matched.
    pub(super) matched: u64,
    /// Seconds of a CPU.
    pub(super) cpu: f64,
}

/// The folder with fail2ban's configuration: the installed one, or that which was unpacked.
pub(super) fn folder() -> Result<PathBuf> {
    let folders = [
        PathBuf::from("/etc/fail2ban"),
        peers::folder().join("etc/fail2ban"),
    ];
    let found = folders
        .iter()
        .find(|folder| folder.join("filter.d/sshd.conf").is_file());
    found.cloned().with_context(|| {
        format!(
            "there is no filter.d/sshd.conf of fail2ban: run `{}` as root",
            peers::REMEDY
        )
    })
}

/// Runs a filter, by name or path, over a log whose times are in UTC.
pub(super) fn run(
    namespace: &Namespace,
    log: &Path,
    filter: &str,
    options: &[&str],
) -> Result<Outcome> {
    let mut command = peers::command(namespace, "fail2ban-regex")?;
    command
        .arg("--config")
        .arg(folder()?)
        .args(["--raw", "--timezone", "UTC"])
        .args(options)
        .arg(log)
        .arg(filter);
    let cpu = children_cpu()?;
    let output = command.output().context("run fail2ban-regex")?;
    let cpu = children_cpu()? - cpu;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "fail2ban-regex failed on {filter}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (lines, matched) =
        counts(&text).with_context(|| format!("fail2ban-regex printed no counts: {text}"))?;
    Ok(Outcome {
        lines,
        matched,
        cpu,
    })
}

/// Of `Lines: 1000 lines, 0 ignored, 98 matched, 902 missed` the first number and the third.
fn counts(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("Lines: "))?;
    let mut counts = line
        .split(", ")
        .map(|part| part.split(' ').next()?.parse().ok());
    let lines = counts.next()??;
    let matched = counts.nth(1)??;
    Some((lines, matched))
}

/// How long children that have ended kept CPUs busy, in seconds.
fn children_cpu() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("read what children used")?;
    let used: TimeVal = usage.user_time() + usage.system_time();
    #[expect(
        clippy::cast_precision_loss,
        reason = "times here are below 2^52 microseconds"
    )]
    Ok(used.num_microseconds() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_read_from_what_fail2ban_regex_prints() {
        let text = "Failregex: 98 total\n\nLines: 1000 lines, 0 ignored, 98 matched, 902 missed\n[processed in 1.88 sec]\n";
        assert_eq!(counts(text), Some((1000, 98)));
        assert_eq!(counts("nothing"), None);
    }
}
