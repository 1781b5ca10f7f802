//! sshd's log through fail2ban's own filter, unmodified, in abuser and in fail2ban.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use testkit::Namespace;

use super::{
    logs, peer,
    reading::{self, rate},
};
use crate::{scenario::Measured, statistics::median};

/// Lines of the log.
const LINES: usize = 50_000;
/// How often each side reads it, in turns.
const TURNS: usize = 3;

/// `detect-sshd-ratio`.
pub(crate) fn measure() -> Result<Measured> {
    let log = logs::sshd(LINES);
    let folder = tempfile::tempdir().context("make a folder for a log")?;
    let file = folder.path().join("auth.log");
    fs::write(&file, &log.text).with_context(|| format!("write {}", file.display()))?;
    let filter = peer::folder()?.join("filter.d/sshd.conf");
    let config = format!(
        r#"
[[source]]
name = "sshd"
files = ["/var/log/auth.log"]

[[detector]]
name = "sshd"
filter = "fail2ban:{}"
action = "alert"
"#,
        filter.display()
    );
    let namespace = Namespace::new()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let reading = reading::read(&config, log.text.as_bytes(), log.end)?;
        let outcome = peer::run(&namespace, &file, "sshd")?;
        ensure!(
            (outcome.lines, outcome.matched) == (reading.lines, reading.matched),
            "of the same log fail2ban-regex matched {} of {} lines, and abuser {} of {}",
            outcome.matched,
            outcome.lines,
            reading.matched,
            reading.lines
        );
        ensure!(reading.found > 0, "nobody was found in sshd's log");
        ours.push(reading.per_cpu_second());
        theirs.push(rate(outcome.lines, outcome.cpu));
    }
    Ok(Measured {
        value: median(&ours),
        reference: Some(median(&theirs)),
        ..Measured::default()
    })
}
