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
const LINES: usize = 150_000;
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
    let (mut ours, mut theirs, mut like_the_server) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let reading = reading::read(&config, log.text.as_bytes(), log.end)?;
        for (options, rates) in [
            (peer::PLAIN, &mut theirs),
            (peer::LIKE_THE_SERVER, &mut like_the_server),
        ] {
            let outcome = peer::run(&namespace, &file, "sshd", options)?;
            reading.ensure_same(&outcome)?;
            rates.push(rate(outcome.lines, outcome.cpu));
        }
        ensure!(reading.found > 0, "nobody was found in sshd's log");
        ours.push(reading.per_cpu_second());
    }
    let ours = median(&ours);
    Ok(Measured {
        value: ours,
        reference: Some(median(&theirs)),
        also: vec![("server_ratio", ours / median(&like_the_server))],
        ..Measured::default()
    })
}
