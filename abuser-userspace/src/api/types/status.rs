//! The daemon at a glance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{BlocklistStatus, CrowdsecStatus, FleetStatus, NotifierStatus};

/// The daemon at a glance.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    #[schema(format = DateTime)]
    pub started: String,
    /// Seconds since then.
    pub uptime_seconds: u64,
    /// Whether nothing is dropped, only counted and reported.
    pub observe: bool,
    /// When the daemon detaches unless somebody confirms; `null` if it does not.
    #[schema(format = DateTime)]
    pub confirm_by: Option<String>,
    /// Interfaces that are protected, and those that should be.
    pub interfaces: Vec<InterfaceStatus>,
    /// Packets and bytes by what became of them, on all interfaces and those that are gone; the keys are
    /// `passed`, `not_ip`, `malformed`, `allowed`, `observed`, `dropped_limit`, `dropped_ban`,
    /// `dropped_hidden`.
    pub outcomes: BTreeMap<String, TrafficCount>,
    /// What became of drop events.
    pub events: EventCounts,
    /// The bucket table.
    pub buckets: BucketCounts,
    /// Socket look-ups that tell which sources are no forgeries.
    pub lookups: LookupCounts,
    /// The sources that they told are none.
    pub verified: VerifiedCounts,
    /// What outlives the daemon.
    pub store: StoreStatus,
    /// What a crash leaves on, and the next start goes on with.
    pub pins: PinsStatus,
    /// Comparing what is in force with what should be.
    pub reconciler: ReconcilerStatus,
    /// Block lists of the configuration.
    pub blocklists: Vec<BlocklistStatus>,
    /// The local API of `CrowdSec`; `null` if none is configured.
    pub crowdsec: Option<CrowdsecStatus>,
    /// The fleet that this node is in; `null` if it is in none.
    pub fleet: Option<FleetStatus>,
    /// Who is notified of events.
    pub notify: Vec<NotifierStatus>,
    /// What the daemon has given up, and what it may still do.
    pub security: SecurityStatus,
    /// What there is room for.
    pub capacity: Capacity,
    /// Limits in force.
    pub limits: usize,
    /// Bans in force.
    pub bans: usize,
    /// Entries of the allow list.
    pub allow: usize,
    /// Throttled sources.
    pub throttles: usize,
}

/// What the daemon has given up, and what it may still do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct SecurityStatus {
    /// How much it has given up.
    pub sandbox: SandboxState,
    /// The capabilities that it has, as Linux calls them, such as `CAP_BPF`.
    pub capabilities: Vec<String>,
    /// Whether programs that it runs cannot have more than it has (`no_new_privs`).
    pub no_new_privileges: bool,
    /// The version of Landlock that keeps it from writing outside of its folders; `null` if none does.
    pub landlock: Option<u32>,
    /// Whether system calls that it does not need are refused, by a filter of its own.
    pub seccomp: bool,
}

/// How much the daemon has given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    /// All that it does not need.
    On,
    /// Capabilities that it does not need, but nothing that is lost to its commands.
    Commands,
    /// Nothing.
    #[default]
    Off,
}

/// One interface that is to be protected.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct InterfaceStatus {
    /// Its name, as it is now.
    pub name: String,
    /// The name it was configured by; another one if it was renamed since.
    pub configured: String,
    /// Whether it is protected.
    pub state: InterfaceState,
    /// Its index; `null` if it is missing.
    pub index: Option<u32>,
    /// `driver` (native XDP) or `generic`; `null` unless it is attached.
    pub mode: Option<String>,
    /// The XDP program's id, as `bpftool prog` and `ip link` show it; `null` unless it is
    /// attached.
    pub program_id: Option<u32>,
    /// The programs that are called on it one after the other, abuser's among them; `null` if abuser's
    /// is the only one, attached without a dispatcher of libxdp.
    pub dispatcher: Option<DispatcherStatus>,
    /// Packets and bytes that came in on it since it is protected, by what became of them, as in `outcomes`
    /// of all interfaces; `null` unless it is attached.
    pub outcomes: Option<BTreeMap<String, TrafficCount>>,
    /// Why it was refused, if it was.
    pub error: Option<String>,
}

/// A dispatcher of libxdp: the XDP program on an interface that calls others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DispatcherStatus {
    /// Its program's id.
    pub program_id: u32,
    /// The programs that it calls, in this order.
    pub components: Vec<ComponentStatus>,
}

/// A program that a dispatcher calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComponentStatus {
    /// The program's name.
    pub name: String,
    /// Its id.
    pub program_id: u32,
    /// Whoever has the lower number is called first.
    pub priority: u32,
    /// Whether it is this daemon's.
    pub own: bool,
}

/// Whether an interface is protected: it is (`attached`); it vanished, and is attached to again when
/// it returns (`missing`); it came back and could not be attached to (`refused`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceState {
    /// It is.
    Attached,
    /// It vanished; when it returns it is attached to again.
    Missing,
    /// It came back and could not be attached to; it is tried again when it changes.
    Refused,
}

/// Packets and their bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
pub struct TrafficCount {
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// What became of drop events, summed over CPUs.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
pub struct EventCounts {
    /// Sent to the daemon.
    pub sent: u64,
    /// Held back because a recent event stands for them, or a CPU's budget was spent.
    pub suppressed: u64,
    /// Lost because the daemon did not read fast enough.
    pub lost: u64,
}

/// The bucket table: one bucket a source and limit.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
pub struct BucketCounts {
    /// Buckets that there is room for.
    pub capacity: usize,
    /// Buckets that are not full: sources that were charged and have not paid yet.
    pub active: usize,
    /// Such buckets that made room for others, and were forgotten.
    pub evictions: u64,
}

/// Socket look-ups, summed over CPUs.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
pub struct LookupCounts {
    /// All.
    pub total: u64,
    /// Those that found an established connection.
    pub connected: u64,
}

/// The table of verified sources.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
pub struct VerifiedCounts {
    /// Sources that there is room for.
    pub capacity: usize,
    /// Sources that were found to have a connection within two minutes. They are noted only
    /// if a limit counts connections.
    pub sources: usize,
}

/// The store of bans, their history, offences and allow entries.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StoreStatus {
    /// The database's path; `:memory:` for none.
    pub path: String,
    /// Why nothing is written now; `null` if all is well.
    pub error: Option<String>,
    /// Since when.
    #[schema(format = DateTime)]
    pub failed: Option<String>,
    /// Where databases were moved, the latest last, that were found damaged since the start. They have
    /// the history up to then, and are never deleted.
    pub damaged: Vec<String>,
}

/// The pins of maps and links in a BPF file system. Without them the filter is on for as long as the daemon runs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PinsStatus {
    /// The folder that they are in.
    pub path: String,
    /// Why not all are there that should be; `null` if all is well.
    pub error: Option<String>,
    /// Since when.
    #[schema(format = DateTime)]
    pub failed: Option<String>,
    /// Pins that somebody had removed or replaced, and that were made again.
    pub repairs: u64,
}

/// Every 30 seconds the kernel's maps and the store are compared with what they should hold.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
pub struct ReconcilerStatus {
    /// Comparisons that were finished.
    pub passes: u64,
    /// Entries of the kernel's maps that were put right.
    pub kernel_repairs: u64,
    /// Rows of the store that were put right.
    pub store_repairs: u64,
}

/// How many of each there is room for.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
pub struct Capacity {
    /// Limits.
    pub limits: u32,
    /// Bans.
    pub bans: u32,
    /// Entries of the allow list.
    pub allow: u32,
    /// Throttled sources.
    pub throttles: u32,
}
