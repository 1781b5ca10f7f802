//! What a million sources take, in the real daemon.
//!
//! A million clients fail, each from an address of its own, three times at different seconds, by lines
//! of a log. The figure is what the daemon's own memory grew by until it has stayed the same for two
//! seconds; all of it counts: the detector, the reader, the latest lines that it keeps as evidence.

use std::{
    fmt::Write as _,
    fs::File,
    io::Write as _,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use testkit::Daemon;

use super::{logs, site::Site};
use crate::{
    control::{self, Process},
    scenario::Measured,
};

const DETECTOR: &str = r#"[[detector]]
name = "failures"
where = "status == 401"
count = 100
within = "10m"
action = "alert"
"#;
/// Sources.
const SOURCES: u32 = 1_000_000;
/// How often each of them comes until it is measured.
const ROUNDS: u64 = 3;
/// How often until its hits need memory of their own, and the bound of that is reached.
const MANY_ROUNDS: u64 = 9;
/// Between two rounds by the log's account; all are within the detector's time.
const ROUND_MS: u64 = 10_000;
/// How long the daemon may take to read a round.
const PATIENCE: Duration = Duration::from_secs(120);

/// `detect-memory`.
pub(crate) fn measure() -> Result<Measured> {
    let site = Site::start(DETECTOR)?;
    let process = Process(site.daemon.pid());
    let rest = control::settled(process)?.own();
    let mut log = site.append()?;
    let begin_ms = logs::now_ms() - MANY_ROUNDS * ROUND_MS;
    let mut grown = Vec::new();
    for round in 1..=MANY_ROUNDS {
        fail(&mut log, begin_ms + round * ROUND_MS)?;
        let detector = read(&site.daemon, round)?;
        if round <= ROUNDS {
            ensure!(
                detector["tracked"] == SOURCES && detector["evicted"] == 0,
                "not every source is remembered: {detector}"
            );
        }
        if [1, ROUNDS, MANY_ROUNDS].contains(&round) {
            let now = control::settled(process)?.own();
            grown.push(control::megabytes(now.saturating_sub(rest)));
        }
    }
    let [once, value, many] = grown.as_slice() else {
        return Err(anyhow::anyhow!("memory was not looked at"));
    };
    Ok(Measured {
        value: *value,
        also: vec![("once_megabytes", *once), ("most_megabytes", *many)],
        ..Measured::default()
    })
}

/// Appends a line of each source.
fn fail(log: &mut File, at_ms: u64) -> Result<()> {
    let time = logs::nginx_time(at_ms);
    let mut text = String::new();
    for number in 0..SOURCES {
        // An odd factor: each number another address, all over 16.0.0.0/4.
        let address =
            Ipv4Addr::from(0x1000_0000 | (number.wrapping_mul(2_654_435_761) & 0x0fff_ffff));
        let _infallible = writeln!(
            text,
            "{address} - - [{time}] \"POST /login HTTP/1.1\" 401 153 \"-\" \"-\""
        );
        if text.len() > 1 << 20 || number + 1 == SOURCES {
            log.write_all(text.as_bytes()).context("write a log")?;
            text.clear();
        }
    }
    Ok(())
}

/// Waits until the daemon has read so many rounds; what it tells of the detector.
fn read(daemon: &Daemon, rounds: u64) -> Result<serde_json::Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = daemon.try_json(&["detectors"])?;
        let detector = &told["detectors"][0];
        if detector["matched"] == rounds * u64::from(SOURCES) {
            return Ok(detector.clone());
        }
        ensure!(
            Instant::now() < deadline,
            "the log was not read within {PATIENCE:?}: {told}"
        );
        thread::sleep(Duration::from_millis(100));
    }
}
