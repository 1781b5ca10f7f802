//! What is stored, as the engine has it. Times are the wall clock's, to the millisecond.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use abuser_common::{layout::BanCause, prefix::PrefixKey};
use serde::{Deserialize, Serialize};

use crate::policy::Moved;

/// Why there is a ban, and what was said about it; shared by all bans of one command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BanNote {
    /// What made it.
    pub cause: BanCause,
    /// The limit that was exceeded, or the list that names it.
    pub subject: Option<String>,
    /// The policy that said for how long, if one did.
    pub policy: Option<String>,
    /// What whoever made it said, or what the policy found.
    pub reason: Option<String>,
    /// Who asked for it, if somebody did.
    pub by: Option<String>,
}

/// A ban in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanRow {
    /// Its number.
    pub id: u64,
    /// Whom it bans.
    pub source: PrefixKey,
    /// When it was made, if that is known.
    pub created: Option<SystemTime>,
    /// When it ends; `None`: never.
    pub expires: Option<SystemTime>,
    /// The offences that led to it; 0 if none did.
    pub offences: u32,
    /// Why.
    pub note: Arc<BanNote>,
}

/// A ban that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// The ban.
    pub ban: BanRow,
    /// When it ended.
    pub ended: SystemTime,
    /// `expired`, or how else.
    pub how: String,
    /// Packets that met it.
    pub hits: u64,
}

/// Something that led to a ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceRow {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// What.
    pub text: String,
}

/// What is remembered of who committed offences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffenderRow {
    /// Who.
    pub source: PrefixKey,
    /// Under which policy.
    pub policy: String,
    /// Bans so far, as they stood at `since`.
    pub bans: u32,
    /// Since when it has been clean.
    pub since: SystemTime,
    /// Offences that may still lead to a ban.
    pub offences: Vec<EvidenceRow>,
}

/// An allow entry that was added by command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowRow {
    /// Who is allowed.
    pub source: PrefixKey,
    /// When it was added.
    pub created: SystemTime,
    /// What whoever added it said.
    pub reason: Option<String>,
    /// Who that was.
    pub by: Option<String>,
}

/// By which limit a source is throttled, and what was said about it; shared by all throttles of one
/// command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ThrottleNote {
    /// The limit's name.
    pub limit: Arc<str>,
    /// What whoever made it said, or found.
    pub reason: Option<String>,
    /// Who asked for it, if somebody did.
    pub by: Option<String>,
}

/// A source that is throttled by a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottleRow {
    /// Who is throttled.
    pub source: PrefixKey,
    /// When that was made or renewed.
    pub created: SystemTime,
    /// When it ends; `None`: never.
    pub expires: Option<SystemTime>,
    /// By what, and why.
    pub note: Arc<ThrottleNote>,
}

/// Which kept position: one for each source and file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PositionKey {
    /// The source's name.
    pub source: String,
    /// The device of the file; 0 for a journal.
    pub device: u64,
    /// The inode of the file; 0 for a journal.
    pub inode: u64,
}

/// How far a source was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionRow {
    /// Of what.
    pub key: PositionKey,
    /// The file as it was called; empty for a journal.
    pub path: PathBuf,
    /// The first bytes of the file, by which it is known again.
    pub beginning: Vec<u8>,
    /// Where the first line begins that was not read, in bytes.
    pub offset: u64,
    /// The entry of a journal that was read last.
    pub cursor: Option<String>,
    /// When that was so, by the clock that the kernel stamps files by.
    pub at: SystemTime,
}

/// How the clocks stood when all other rows were right by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockRow {
    /// A number of the boot: clocks of different ones cannot be compared.
    pub boot: i64,
    /// For how long the machine had slept since the boot, in milliseconds: the kernel's clock, by which bans
    /// end, stands still meanwhile.
    pub slept_ms: i64,
    /// How far the wall clock was ahead of the time since the boot, in milliseconds.
    pub ahead_ms: i64,
}

/// What clocks went through from one look to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// For how long the machine slept.
    pub slept: Duration,
    /// By how many milliseconds the wall clock was set forward; back, if it is less than 0.
    pub stepped: i64,
}

impl ClockRow {
    /// What happened since `before`; `None` if there was a reboot.
    pub fn since(&self, before: &Self) -> Option<Passed> {
        let slept = self.slept_ms.saturating_sub(before.slept_ms);
        (self.boot == before.boot).then(|| Passed {
            slept: Duration::from_millis(u64::try_from(slept).unwrap_or_default()),
            stepped: self.ahead_ms.saturating_sub(before.ahead_ms),
        })
    }
}

/// All that a start needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Bans, some over by now.
    pub bans: Vec<BanRow>,
    /// Allow entries.
    pub allowed: Vec<AllowRow>,
    /// Offenders.
    pub offenders: Vec<OffenderRow>,
    /// Throttles, some over by now.
    pub throttles: Vec<ThrottleRow>,
    /// How far sources were read.
    pub positions: Vec<PositionRow>,
    /// The highest number that a ban ever had.
    pub last_id: u64,
    /// How the clocks stood.
    pub clocks: Option<ClockRow>,
}

impl Snapshot {
    /// Has all times follow a wall clock that was set since they were written down; but for positions in
    /// files, which the kernel stamps.
    pub fn step(&mut self, moved: Moved) {
        for row in &mut self.bans {
            row.created = row.created.map(|created| moved.time(created));
            row.expires = row.expires.map(|expires| moved.time(expires));
        }
        for row in &mut self.throttles {
            row.created = moved.time(row.created);
            row.expires = row.expires.map(|expires| moved.time(expires));
        }
        for row in &mut self.allowed {
            row.created = moved.time(row.created);
        }
        for row in &mut self.offenders {
            row.since = moved.time(row.since);
            for offence in &mut row.offences {
                offence.at = offence.at.saturating_add(moved.0);
            }
        }
    }
}

/// Milliseconds since 1970.
pub fn to_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// The time that is so many milliseconds since 1970; what cannot be a time is 1970.
pub fn from_millis(millis: i64) -> SystemTime {
    let since = Duration::from_millis(u64::try_from(millis).unwrap_or_default());
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}
