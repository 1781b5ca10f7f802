//! An access log at a steady rate, in which one client after another tries passwords: exactly these
//! must be banned. It is rotated as `logrotate` does it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use testkit::api_traffic::Request;

use super::{
    churn::is_in,
    stage::{Moment, Stage, lock},
    verdict::Promise,
};
use crate::{control::ban_table, detect::now_ms};

/// Failures that ban.
pub(super) const COUNT: u32 = 5;
/// For how long they do.
pub(super) const BANTIME: Duration = Duration::from_secs(20);
/// Lines in a second, of clients that are not to be banned.
const LINES: u32 = 1_000;
/// So many at once.
const STEP: u32 = 50;
/// Clients that write them. One line of twenty is a failure, each of another client in turn: so one
/// client has one in 100 s, and two if a daemon that was killed has lines read again.
const CLIENTS: u32 = 5_000;
const FAILURES: u32 = 20;
/// Where they are: all over the unicast space, and nobody that anyone bans.
const FIRST_CLIENT: u32 = 0x0b00_0000;
const CLIENT_STEP: u32 = 17_701;
/// Offenders come one after another, each an address of its own: shared space (RFC 6598).
const FIRST_OFFENDER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
/// Between two lines of an offender.
const PAUSE: Duration = Duration::from_millis(5);
/// From one look at the kernel's table to the next.
const LOOK: Duration = Duration::from_micros(300);
/// How long a ban may take with a daemon that is there all the while. The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an offender waits after a restart before it goes on: what detectors have counted begins
/// anew then.
const AGAIN: Duration = Duration::from_secs(2);

/// The log, and who has offended by it.
#[derive(Debug)]
pub(super) struct Log {
    folder: TempDir,
    file: Mutex<File>,
    lines: AtomicU64,
    rotations: AtomicU64,
    offenders: AtomicU32,
}

/// Whether this address is one of so many offenders.
pub(super) fn is_offender(address: Ipv4Addr, offenders: u32) -> bool {
    address.to_bits().wrapping_sub(FIRST_OFFENDER.to_bits()) < offenders
}

impl Log {
    /// An empty log in a folder of its own.
    pub(super) fn create() -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for a log")?;
        let file = Mutex::new(create(&path(&folder))?);
        Ok(Self {
            folder,
            file,
            lines: AtomicU64::new(0),
            rotations: AtomicU64::new(0),
            offenders: AtomicU32::new(0),
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        path(&self.folder)
    }

    /// How many have offended, or are about to.
    pub(super) fn offenders(&self) -> u32 {
        self.offenders.load(Ordering::SeqCst)
    }

    /// Lines of all kinds so far.
    pub(super) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// How often it was rotated.
    pub(super) fn rotations(&self) -> u64 {
        self.rotations.load(Ordering::Relaxed)
    }

    fn append(&self, text: &str, lines: u32) -> Result<()> {
        let written = lock(&self.file).write_all(text.as_bytes());
        written.with_context(|| format!("write to {}", self.path().display()))?;
        self.lines.fetch_add(u64::from(lines), Ordering::Relaxed);
        Ok(())
    }

    /// Another file takes its place; the one before the last is removed.
    fn rotate(&self) -> Result<()> {
        let mut file = lock(&self.file);
        let (log, old) = (self.path(), self.folder.path().join("access.log.1"));
        fs::rename(&log, &old).with_context(|| format!("rename {}", log.display()))?;
        *file = create(&log)?;
        self.rotations.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn path(folder: &TempDir) -> PathBuf {
    folder.path().join("access.log")
}

fn create(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("make {}", path.display()))
}

/// Writes as clients do who are not to be banned, until all is over.
pub(super) fn write_on(stage: &Stage, rotation: Duration) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(11);
    let mut failed = 0;
    let begun = Instant::now();
    let (mut steps, mut last_rotation) = (0, Instant::now());
    let mut rotated_at = stage.moment();
    while !stage.is_over() {
        let mut text = String::new();
        for number in 0..STEP {
            let fails = number % FAILURES == 0;
            let client = if fails {
                failed = (failed + 1) % CLIENTS;
                failed
            } else {
                random.u32(..CLIENTS)
            };
            let source = Ipv4Addr::from_bits(FIRST_CLIENT + client * CLIENT_STEP);
            text += &line(source, if fails { 401 } else { 200 });
        }
        stage.log.append(&text, STEP)?;
        // What is written while no daemon reads stays readable for the next one, if the log is rotated
        // once meanwhile.
        let may_rotate = stage.moment().is_up() || stage.moment() != rotated_at;
        if last_rotation.elapsed() >= rotation && may_rotate {
            stage.log.rotate()?;
            (last_rotation, rotated_at) = (Instant::now(), stage.moment());
        }
        steps += 1;
        let due = Duration::from_secs(1) * steps * STEP / LINES;
        stage.sleep(due.saturating_sub(begun.elapsed()));
    }
    Ok(())
}

fn line(source: Ipv4Addr, status: u16) -> String {
    let request = Request {
        at_ms: now_ms(),
        source,
        key: None,
        path: "/login".to_owned(),
        status,
        user_agent: "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
        abuse: status == 401,
    };
    request.nginx_combined() + "\n"
}

/// Offends, one after the other, until all is over; how many were banned.
pub(super) fn offend(stage: &Stage, pause: Duration) -> Result<u32> {
    let mut banned = 0;
    while !stage.is_over() {
        stage.sleep(pause);
        let number = stage.log.offenders.fetch_add(1, Ordering::SeqCst);
        let offender = Ipv4Addr::from_bits(FIRST_OFFENDER.to_bits() + number);
        while stage.wait_until_up() {
            let moment = stage.moment();
            match try_to_be_banned(stage, offender, moment)? {
                Attempt::Banned => {
                    banned += 1;
                    break;
                }
                Attempt::NotYet if stage.is_over() => {
                    // Whoever has just begun may be left out; nobody waits for the end of it.
                    return Ok(banned);
                }
                // Another daemon has begun to count.
                Attempt::NotYet if !stage.is_same_life(moment) => {}
                Attempt::NotYet => {
                    let said = format!(
                        "{offender} failed {COUNT} times and was not banned within {PATIENCE:?}"
                    );
                    stage.fault(Promise::Offenders, said);
                    break;
                }
            }
        }
    }
    Ok(banned)
}

enum Attempt {
    Banned,
    NotYet,
}

/// Fails as often as it takes, and waits for the ban in the kernel.
fn try_to_be_banned(stage: &Stage, offender: Ipv4Addr, moment: Moment) -> Result<Attempt> {
    for number in 1..=COUNT {
        stage.log.append(&line(offender, 401), 1)?;
        if number < COUNT {
            thread::sleep(PAUSE);
        }
    }
    let written = Instant::now();
    loop {
        // It is another one after a takeover, and there may be none for a moment.
        let found = ban_table(&stage.pin_dir).and_then(|table| is_in(&table, offender));
        if matches!(found, Ok(Some(_))) {
            if stage.is_same_life(moment) {
                lock(&stage.timings.offences).push(written.elapsed().as_secs_f64() * 1e3);
            }
            return Ok(Attempt::Banned);
        }
        let patience = if stage.is_same_life(moment) {
            found?;
            PATIENCE
        } else if stage.wait_until_up() {
            AGAIN
        } else {
            return Ok(Attempt::NotYet);
        };
        if written.elapsed() >= patience || stage.is_over() {
            return Ok(Attempt::NotYet);
        }
        thread::sleep(LOOK);
    }
}
