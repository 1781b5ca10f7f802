//! What all that happens at once shares: the daemon, the flood's cable, whether it is up, and what
//! went wrong.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use testkit::{Daemon, Wire};

use super::{log::Log, verdict::Promise};
use crate::{
    control::Connection,
    flood::AbuserEnd,
    wire::{Flood, RECEIVER},
};

/// Sources of the flood.
const SOURCES: u32 = 1 << 20;
/// The port that no limit is for.
pub(super) const OPEN_PORT: u16 = 10;
/// A client that nobody bans.
pub(super) const CLEAN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11));
/// Lets what is sent to the open port through to a socket, ahead of the rule that drops the flood.
const LET_THROUGH: &str = "insert rule ip bench sink udp dport 10 accept";
/// Of what went wrong in one way, so much is told.
const TOLD: usize = 5;

/// The daemon at the end of a cable, and who is about.
pub(super) struct Stage {
    // Dropped in this order: the daemon lets go of the cable first.
    daemon: RwLock<Daemon>,
    pub(super) flood: Flood,
    pub(super) log: Log,
    pub(super) socket: PathBuf,
    pub(super) pin_dir: PathBuf,
    /// How often the daemon went or came; it is there if that is even.
    changes: AtomicU64,
    over: AtomicBool,
    /// Whose bans were being ended when a daemon went.
    cut_off: Mutex<Vec<Ipv4Addr>>,
    faults: Mutex<BTreeMap<Promise, Faults>>,
    pub(super) timings: Timings,
}

/// What went wrong in one way.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) count: u64,
    /// The first of them.
    pub(super) told: Vec<String>,
}

/// How long things took since the last sample, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Timings {
    /// Calls of the API.
    pub(super) calls: Mutex<Vec<f64>>,
    /// From an offender's last line to its ban in the kernel.
    pub(super) offences: Mutex<Vec<f64>>,
}

/// A moment in the daemon's lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(u64);

impl Moment {
    /// Whether there is a daemon.
    pub(super) const fn is_up(self) -> bool {
        self.0.is_multiple_of(2)
    }
}

impl Stage {
    /// Lays the cable and starts the daemon; nothing is sent yet.
    pub(super) fn set() -> Result<Self> {
        let log = Log::create()?;
        let AbuserEnd { daemon, flood } = AbuserEnd::start(SOURCES, &config(&log.path()))?;
        flood.nft(LET_THROUGH)?;
        let clean = format!("{CLEAN}/24");
        let added = flood.wire.client_end.add_address(&clean);
        added.context("give the client a second address")?;
        Ok(Self {
            socket: daemon.socket().to_owned(),
            pin_dir: daemon.pin_dir().to_owned(),
            daemon: RwLock::new(daemon),
            flood,
            log,
            changes: AtomicU64::new(0),
            over: AtomicBool::new(false),
            cut_off: Mutex::default(),
            faults: Mutex::default(),
            timings: Timings::default(),
        })
    }

    /// The daemon, which is not restarted meanwhile.
    pub(super) fn daemon(&self) -> RwLockReadGuard<'_, Daemon> {
        self.daemon.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The daemon, to restart it: nobody looks at it meanwhile who has asked for that.
    pub(super) fn daemon_alone(&self) -> RwLockWriteGuard<'_, Daemon> {
        self.daemon.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to the daemon.
    pub(super) fn connect(&self) -> Result<Connection> {
        Connection::open(&self.socket)
    }

    /// Now.
    pub(super) fn moment(&self) -> Moment {
        Moment(self.changes.load(Ordering::SeqCst))
    }

    /// Whether the daemon has been there all the time since.
    pub(super) fn is_same_life(&self, since: Moment) -> bool {
        since.is_up() && self.moment() == since
    }

    /// The daemon is about to go, or has come.
    pub(super) fn change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until there is a daemon; false if all is over first.
    pub(super) fn wait_until_up(&self) -> bool {
        while !self.moment().is_up() {
            if self.is_over() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Whether it is time to go.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// It is time to go.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Sleeps, but not past the end.
    pub(super) fn sleep(&self, time: Duration) {
        const STEP: Duration = Duration::from_millis(50);
        let until = Instant::now() + time;
        while !self.is_over() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(STEP));
        }
    }

    /// The daemon went while it ended the ban of `source`, which the next one takes up again if the store did not
    /// know of its end.
    pub(super) fn cut_off(&self, source: Ipv4Addr) {
        lock(&self.cut_off).push(source);
    }

    /// Whose bans were being ended when the last daemon went.
    pub(super) fn take_cut_off(&self) -> Vec<Ipv4Addr> {
        std::mem::take(&mut lock(&self.cut_off))
    }

    /// A promise was broken.
    pub(super) fn fault(&self, promise: Promise, what: impl Into<String>) {
        let what = what.into();
        let mut faults = lock(&self.faults);
        let faults = faults.entry(promise).or_default();
        faults.count += 1;
        if faults.told.len() < TOLD && !faults.told.contains(&what) {
            eprintln!("  {}: {what}", promise.name());
            faults.told.push(what);
        }
    }

    /// What went wrong.
    pub(super) fn faults(&self) -> MutexGuard<'_, BTreeMap<Promise, Faults>> {
        lock(&self.faults)
    }
}

/// A lock that a thread which panicked does not keep from the others.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A limit that the flood's sources exceed with their third packet, bans by hand and by a detector.
/// As people have it, offences of who may be forged count for nothing. Of bans that are over so few are
/// remembered that the database, and what of it is cached, has its size soon.
fn config(log: &Path) -> String {
    format!(
        r#"
interfaces = ["{RECEIVER}"]
[xdp]
mode = "driver"
persist = true
[[limit]]
name = "flood"
protocol = "udp"
ports = [7]
rate = "1/h"
burst = 1
[[policy]]
name = "passwords"
bantime = "{}s"
[store]
history_max = 2000
[[source]]
name = "web"
files = ["{}"]
parser = "nginx-combined"
[[detector]]
name = "passwords"
where = "status == 401"
count = {}
within = "1m"
action = "ban"
policy = "passwords"
"#,
        super::log::BANTIME.as_secs(),
        log.display(),
        super::log::COUNT,
    )
}

/// The client that is banned from the beginning to the end.
pub(super) const BANNED: IpAddr = Wire::CLIENT_V4;
