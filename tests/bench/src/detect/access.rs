//! An access log through a threshold with a condition, alone and beside fail2ban.

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, Result, ensure};
use testkit::Namespace;

use super::{
    logs::{self, Log},
    peer,
    reading::{self, rate},
};
use crate::{scenario::Measured, statistics::median};

/// Lines of the log.
const LINES: usize = 300_000;
/// How often it is read; each time by a detection that has seen nothing yet.
const REPEATS: usize = 9;
/// Lines of the log that fail2ban reads too.
const LINES_BESIDE: usize = 300_000;
/// How often each side reads it, in turns.
const TURNS: usize = 3;

/// What failures of an access log are.
const FAILURES: &str = r#"
[[source]]
name = "web"
files = ["/var/log/nginx/access.log"]
parser = "nginx-combined"

[[detector]]
name = "failures"
where = "status in [401, 403, 429]"
count = 100
within = "60s"
action = "alert"
"#;

/// The same lines to fail2ban.
const FAILREGEX: &str = r#"^<ADDR> \S+ \S+ \[\] "[^"]*" (?:401|403|429) "#;
/// How fail2ban's own filters for access logs have dates found (`nginx-botsearch`).
const AS_SHIPPED: &[&str] = &[
    r"{^LN-BEG}%%ExY(?P<_sep>[-/.])%%m(?P=_sep)%%d[T ]%%H:%%M:%%S(?:[.,]%%f)?(?:\s*%%z)?",
    r"^[^\[]*\[({DATE})",
    "{^LN-BEG}",
];
/// How somebody might who knows that a combined log has nothing else.
const TUNED: &[&str] = &[r"%%d/%%b/%%Y:%%H:%%M:%%S %%z"];

/// `detect-nginx`.
pub(crate) fn measure() -> Result<Measured> {
    let log = logs::access(LINES);
    let mut readings = Vec::new();
    for _ in 0..REPEATS {
        readings.push(read(&log)?);
    }
    let per_cpu: Vec<_> = readings
        .iter()
        .map(|reading| reading.per_cpu_second())
        .collect();
    let wall: Vec<_> = readings
        .iter()
        .map(|reading| rate(reading.lines, reading.seconds))
        .collect();
    Ok(Measured {
        value: median(&per_cpu),
        also: vec![("wall_lines_per_second", median(&wall))],
        ..Measured::default()
    })
}

/// `detect-nginx-ratio`.
pub(crate) fn beside_fail2ban() -> Result<Measured> {
    let log = logs::access(LINES_BESIDE);
    let folder = tempfile::tempdir().context("make a folder for a log")?;
    let file = folder.path().join("access.log");
    fs::write(&file, &log.text).with_context(|| format!("write {}", file.display()))?;
    let filter = |name: &str, dates: &[&str]| -> Result<String> {
        let path = folder.path().join(name);
        let mut text = format!("[Definition]\nfailregex = {FAILREGEX}\ndatepattern =");
        for pattern in dates {
            let _infallible = writeln!(text, " {pattern}");
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path.display().to_string())
    };
    let (shipped, tuned) = (
        filter("shipped.conf", AS_SHIPPED)?,
        filter("tuned.conf", TUNED)?,
    );
    let namespace = Namespace::new()?;
    let (mut ours, mut theirs, mut theirs_tuned) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let reading = read(&log)?;
        ours.push(reading.per_cpu_second());
        for (filter, rates) in [(&shipped, &mut theirs), (&tuned, &mut theirs_tuned)] {
            let outcome = peer::run(&namespace, &file, filter, peer::PLAIN)?;
            reading.ensure_same(&outcome)?;
            rates.push(rate(outcome.lines, outcome.cpu));
        }
    }
    let (ours, tuned) = (median(&ours), median(&theirs_tuned));
    Ok(Measured {
        value: ours,
        reference: Some(median(&theirs)),
        also: vec![
            ("tuned_lines_per_second", tuned),
            ("tuned_ratio", ours / tuned),
        ],
        ..Measured::default()
    })
}

/// Reads the log, and makes sure that it was read.
fn read(log: &Log) -> Result<reading::Reading> {
    let reading = reading::read(FAILURES, log.text.as_bytes(), log.end)?;
    ensure!(
        reading.matched == log.failures && reading.found > 0,
        "of {} failures {} were seen, and {} sources found",
        log.failures,
        reading.matched,
        reading.found
    );
    Ok(reading)
}
