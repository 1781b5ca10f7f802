//! From a line that is written to the ban in the kernel, by the real daemon.
//!
//! A program appends a line with an address that was never seen; the detector counts to one. From
//! just before the line is written the kernel's table of bans is asked for the address, again and again, past
//! the daemon. So it takes the file system, the reader, the parser, the detector, the policy and
//! the engine. It is no packet that is probed with: a packet meets the table that is asked here.

use std::{
    fs::File,
    io::Write as _,
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use abuser_common::{layout::Ban, prefix::PrefixKey};
use anyhow::{Context as _, Result, anyhow, ensure};
use aya::maps::{HashMap, MapData, MapError};
use fastrand::Rng;

use super::{
    logs,
    reading::{lines, rate},
    site::Site,
};
use crate::{
    control::ban_table,
    scenario::Measured,
    statistics::{median, percentile},
};

const DETECTOR: &str = r#"[[detector]]
name = "offence"
where = 'path == "/offence"'
count = 1
action = "ban"
"#;
/// Bans; six of them are above the 99th percentile.
const BANS: u32 = 600;
/// From a ban to the next line, in milliseconds: never the same, so as not to fall into step with
/// anything.
const PAUSE_MS: std::ops::Range<u64> = 10..25;
/// From one look at the table to the next.
const LOOK: Duration = Duration::from_micros(50);
/// How long a ban may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Banned addresses begin here: the range for benchmarks (RFC 2544).
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// What a busy server writes in a second.
const BUSY: u64 = 100_000;
/// So many lines at once.
const BUSY_LINES: u64 = 1000;

/// `detect-latency`.
pub(crate) fn alone() -> Result<Measured> {
    let offended = Offended::start()?;
    let latencies = offended.offend()?;
    Ok(measured(&latencies, vec![]))
}

/// `detect-latency-busy`.
pub(crate) fn busy() -> Result<Measured> {
    let offended = Offended::start()?;
    let (ended, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let log = logs::access_until_now(100 * usize::try_from(BUSY_LINES)?);
    let file = offended.site.append()?;
    let begun = Instant::now();
    let latencies = thread::scope(|scope| {
        let writer = scope.spawn(|| write_on(file, &log.text, &ended, &written));
        let latencies = offended.offend();
        ended.store(true, Ordering::Relaxed);
        let wrote = writer.join();
        wrote.map_err(|_| anyhow!("the thread that writes panicked"))??;
        latencies
    })?;
    let per_second = rate(written.into_inner(), begun.elapsed().as_secs_f64());
    Ok(measured(
        &latencies,
        vec![("written_lines_per_second", per_second)],
    ))
}

fn measured(latencies: &[f64], more: Vec<(&'static str, f64)>) -> Measured {
    let mut also = vec![
        ("p50_ms", median(latencies)),
        ("max_ms", percentile(latencies, 100)),
    ];
    also.extend(more);
    Measured {
        value: percentile(latencies, 99),
        also,
        ..Measured::default()
    }
}

/// A daemon that bans whoever asks for one path.
struct Offended {
    site: Site,
    bans: HashMap<MapData, PrefixKey, Ban>,
}

impl Offended {
    fn start() -> Result<Self> {
        let site = Site::start(DETECTOR)?;
        let bans = ban_table(site.daemon.pin_dir())?;
        Ok(Self { site, bans })
    }

    /// Offends again and again; how long each ban took, in milliseconds.
    fn offend(&self) -> Result<Vec<f64>> {
        let mut random = Rng::with_seed(5);
        let mut log = self.site.append()?;
        let mut latencies = Vec::new();
        for number in 0..BANS {
            thread::sleep(Duration::from_millis(random.u64(PAUSE_MS)));
            let address = Ipv4Addr::from_bits(FIRST.to_bits() + number);
            let time = logs::nginx_time(logs::now_ms());
            let line =
                format!("{address} - - [{time}] \"GET /offence HTTP/1.1\" 404 153 \"-\" \"-\"\n");
            let written = Instant::now();
            log.write_all(line.as_bytes()).context("write a line")?;
            latencies.push(self.banned(address, written)?);
        }
        let told = self.site.daemon.try_json(&["ban", "list"])?;
        let banned = told.as_array().map_or(0, Vec::len);
        ensure!(
            u32::try_from(banned) == Ok(BANS),
            "of {BANS} offenders {banned} are banned by `abuser ban list`"
        );
        Ok(latencies)
    }

    /// How long it took from then until that address is banned, in milliseconds.
    fn banned(&self, address: Ipv4Addr, since: Instant) -> Result<f64> {
        let key = PrefixKey::new(address.into(), 32).context("an address is a prefix")?;
        loop {
            match self.bans.get(&key, 0) {
                Ok(_) => return Ok(since.elapsed().as_secs_f64() * 1e3),
                Err(MapError::KeyNotFound) => thread::sleep(LOOK),
                Err(error) => return Err(error).context("look into the ban table"),
            }
            ensure!(
                since.elapsed() < PATIENCE,
                "{address} was not banned within {PATIENCE:?}"
            );
        }
    }
}

/// Writes what a busy server does, in steps, until it is told to end; what it is late with it makes up for.
fn write_on(mut log: File, text: &str, ended: &AtomicBool, written: &AtomicU64) -> Result<()> {
    let mut pieces = Vec::new();
    let (mut piece, mut count) = (Vec::new(), 0);
    for line in lines(text.as_bytes()) {
        piece.extend_from_slice(line);
        piece.push(b'\n');
        count += 1;
        if count == BUSY_LINES {
            pieces.push(std::mem::take(&mut piece));
            count = 0;
        }
    }
    let begun = Instant::now();
    for (piece, step) in pieces.iter().cycle().zip(1_u32..) {
        if ended.load(Ordering::Relaxed) {
            break;
        }
        log.write_all(piece).context("write lines")?;
        written.fetch_add(BUSY_LINES, Ordering::Relaxed);
        let due = Duration::from_secs(1) * step * u32::try_from(BUSY_LINES)? / u32::try_from(BUSY)?;
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    Ok(())
}
