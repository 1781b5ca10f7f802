//! What goes over the socket. The command line prints the same JSON, so this is also the
//! reference of `--json`; and the comments are the descriptions in [`super::openapi`].
//!
//! Times are RFC 3339 in UTC with milliseconds. Addresses are text; where a prefix is
//! meant it always carries its length (`203.0.113.7/32`).

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

mod bulk;
mod crowdsec;
mod detection;
mod explanation;
mod fleet;
mod latest;
mod line;
mod notify;
mod offences;
mod text;
mod throttles;
mod top;

pub use bulk::{
    BlocklistStatus, ExportQuery, ImportEntry, ImportRequest, Imported, MAX_IMPORT, RefusedEntry,
};
pub use crowdsec::{CrowdsecPushStatus, CrowdsecStatus};
pub use detection::{Detection, DetectorStatus, SourceStatus};
pub use explanation::{Evidence, ExplainedBan, Explanation, LimitLevel, OffenceRecord, PastBan};
pub use fleet::{
    FleetLatency, FleetLoginRequest, FleetNode, FleetRevokeRequest, FleetRevoked, FleetStatus,
};
pub use latest::{DEFAULT_LATEST, LatestBans, LatestQuery, MAX_LATEST};
pub use notify::{NotifierStatus, NotifyTest, NotifyTestRequest};
pub use offences::{MAX_OFFENCES, OffenceReport, OffencesRequest, OffencesTaken, RefusedOffence};
pub(super) use text::{Address, Null, Prefix};
pub use throttles::{ThrottleInfo, ThrottleRequest, UnthrottleRequest};
pub use top::{
    BanOrder, BansQuery, DEFAULT_TOP, MAX_TOP, ObserveRequest, Observing, Top, TopBan, TopQuery,
    TopSource,
};

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
    /// Packets and bytes by what became of them; the keys are `passed`, `not_ip`,
    /// `malformed`, `allowed`, `observed`, `dropped_limit`, `dropped_ban`, `dropped_hidden`.
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

/// One limit and what was counted under it, in packets.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LimitStatus {
    /// Its name.
    pub name: String,
    /// `any`, `tcp`, `udp`, `icmp`, or a number.
    pub protocol: String,
    /// Destination ports and ranges; empty: all.
    pub ports: Vec<String>,
    /// `packets`, `bytes` or `connections`.
    pub count: String,
    /// For example `60/m`.
    pub rate: String,
    /// Units on top of the rate.
    pub burst: u64,
    /// `drop` or `observe`.
    pub action: String,
    /// Bits of an IPv4 source that tell sources apart.
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 source that tell sources apart.
    pub ipv6_prefix: u8,
    /// `throttled` if it applies to throttled sources only.
    pub only: Option<String>,
    /// Packets within this limit and all others, and charged to it.
    pub passed: u64,
    /// Packets over it that were dropped.
    pub dropped: u64,
    /// Packets over it that were only observed.
    pub observed: u64,
    /// Packets over it that passed because of the allow list.
    pub allowed: u64,
    /// Part of the three above: counted as over because the bucket could not be updated.
    pub contended: u64,
    /// Sources whose bucket is not full now.
    pub sources: usize,
}

/// One ban.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BanInfo {
    /// Its number.
    pub id: u64,
    /// Whom it bans.
    #[schema(value_type = Prefix)]
    pub source: IpNet,
    /// When it was made; `null` for one that was found in the kernel and nowhere else.
    #[schema(format = DateTime)]
    pub created: Option<String>,
    /// When it ends; `null`: never.
    #[schema(format = DateTime)]
    pub expires: Option<String>,
    /// Seconds until then.
    pub remaining_seconds: Option<u64>,
    /// `manual`, `limit`, `import`, `blocklist`, `rollup` (too many hosts in it are banned),
    /// `detector`, `application` (one told of its offences), `crowdsec`, or `fleet` (another node of it
    /// made the ban).
    pub cause: String,
    /// The limit that was exceeded, if that is the cause.
    pub limit: Option<String>,
    /// The block list that names it, if that is the cause.
    pub blocklist: Option<String>,
    /// The detector that found it, if that is the cause.
    pub detector: Option<String>,
    /// The origin of `CrowdSec`'s decision, if that is the cause: `cscli`, `CAPI`, `lists:…`.
    pub crowdsec: Option<String>,
    /// The node of the fleet that made it, if another one did.
    pub node: Option<String>,
    /// The policy that said for how long, if one did.
    pub policy: Option<String>,
    /// How many offences, or lines of a log, led to it; `null` if none did.
    pub offences: Option<u32>,
    /// What whoever made it said.
    pub reason: Option<String>,
    /// Who asked for it, if somebody did: the user's name.
    pub by: Option<String>,
    /// Packets that met it.
    pub hits: u64,
    /// When the last one did.
    #[schema(format = DateTime)]
    pub last_hit: Option<String>,
}

/// Asks for bans.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BanRequest {
    /// Whom to ban. All or none of them are.
    #[schema(value_type = Vec<Prefix>, min_items = 1)]
    pub sources: Vec<IpNet>,
    /// For how long; without it, what the policy's `bantime` says.
    #[serde(default)]
    pub duration: BanDuration,
    /// Why, in the words of whoever asks.
    #[serde(default)]
    pub reason: Option<String>,
    /// Ban also prefixes wider than IPv4 /16 and IPv6 /32.
    #[serde(default)]
    pub force: bool,
}

/// How long a ban or a throttle lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BanDuration {
    /// As the policy's `bantime` says.
    #[default]
    Policy,
    /// For good.
    Permanent,
    /// So many seconds; at least one.
    Seconds(u64),
}

/// Asks to remove bans or allow entries.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveRequest {
    /// Which. All or none of them are removed.
    #[serde(default)]
    #[schema(value_type = Vec<Prefix>)]
    pub sources: Vec<IpNet>,
    /// All there are; for bans only.
    #[serde(default)]
    pub all: bool,
}

/// One entry of the allow list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AllowInfo {
    /// Who is never dropped.
    #[schema(value_type = Prefix)]
    pub source: IpNet,
    /// `config`, `command`, `automatic` or `fleet` (another node of it allows the source); an entry that has
    /// several is listed for each.
    pub origin: String,
    /// The DNS name it was resolved from, what it is to this host, the node of the fleet that allows it,
    /// or what whoever made it said.
    pub note: Option<String>,
    /// Who made it, if somebody did: the user's name.
    pub by: Option<String>,
    /// When that was.
    #[schema(format = DateTime)]
    pub created: Option<String>,
}

/// Asks for allow entries.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowRequest {
    /// Whom to allow. All or none of them are.
    #[schema(value_type = Vec<Prefix>, min_items = 1)]
    pub sources: Vec<IpNet>,
    /// Why, in the words of whoever asks.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Asks to detach.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DetachRequest {
    /// From which interfaces; none: from all, and stop the daemon.
    #[serde(default)]
    pub interfaces: Vec<String>,
}

/// What was detached.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Detached {
    /// The interfaces, by name.
    pub interfaces: Vec<String>,
    /// Whether a daemon was stopped.
    pub stopped: bool,
}

/// What a reload changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// Interfaces that are protected now and were not.
    pub attached: Vec<String>,
    /// Interfaces that were and are not any more.
    pub detached: Vec<String>,
    /// Limits that are new.
    pub limits_added: Vec<String>,
    /// Limits that are gone.
    pub limits_removed: Vec<String>,
    /// Limits that are not as they were; their buckets are full again.
    pub limits_changed: Vec<String>,
    /// Other settings that have changed: `[ban]`, `[[policy]]` and so on.
    pub settings: Vec<String>,
    /// Settings that differ and are as they were until the daemon is restarted.
    pub needs_restart: Vec<String>,
}

impl std::fmt::Display for Reloaded {
    /// In words, on one line.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "reloaded")?;
        let parts = [
            ("attached to", &self.attached),
            ("detached from", &self.detached),
            ("new limits", &self.limits_added),
            ("removed limits", &self.limits_removed),
            ("changed limits", &self.limits_changed),
            ("changed settings", &self.settings),
            ("needs a restart", &self.needs_restart),
        ];
        if parts.iter().all(|(_, names)| names.is_empty()) {
            write!(formatter, "; nothing has changed")?;
        }
        for (what, names) in parts {
            if !names.is_empty() {
                write!(formatter, "; {what}: {}", names.join(", "))?;
            }
        }
        Ok(())
    }
}

/// What an event is about: packets that were dropped (`drop`), or would have been if they were not
/// only observed (`observe`) or their source on the allow list (`allow`); a `ban` and its end
/// (`unban`); a source that is throttled (`throttle`) and the end of that (`unthrottle`);
/// what a detector found (`detect`); events that this reader was too slow for (`missed`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Packets of a source were dropped.
    Drop,
    /// They would have been, but are only observed.
    Observe,
    /// They would have been, but the allow list has the source.
    Allow,
    /// A source was banned.
    Ban,
    /// A ban ended.
    Unban,
    /// A detector found a source.
    Detect,
    /// A source is throttled by a limit.
    Throttle,
    /// It is not any more.
    Unthrottle,
    /// The reader was too slow: `drops` events are missing here.
    Missed,
}

impl EventKind {
    /// The name used in JSON and in lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Observe => "observe",
            Self::Allow => "allow",
            Self::Ban => "ban",
            Self::Unban => "unban",
            Self::Detect => "detect",
            Self::Throttle => "throttle",
            Self::Unthrottle => "unthrottle",
            Self::Missed => "missed",
        }
    }
}

/// One event. Every key is always there; `null` where it means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventRecord {
    /// When.
    #[schema(format = DateTime)]
    pub time: String,
    /// What.
    pub kind: EventKind,
    /// The interface that the packet came in on.
    pub interface: Option<String>,
    /// The packet's source address; for bans, throttles and their ends, and for `detect`, the prefix.
    pub source: Option<String>,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or the number.
    pub protocol: Option<String>,
    /// The destination port.
    pub port: Option<u16>,
    /// The limit that was exceeded, or that the source is throttled by.
    pub limit: Option<String>,
    /// The number of the ban.
    pub ban: Option<u64>,
    /// For bans and their ends: what made it, as in a ban's `cause`.
    pub cause: Option<String>,
    /// For bans and their ends: the policy that said for how long, if one did.
    pub policy: Option<String>,
    /// Packets of this source and cause since its last event, this one included.
    pub drops: Option<u64>,
    /// Whether the source is known to be no forgery; for drops over a limit.
    pub verified: Option<bool>,
    /// The frame's length in bytes.
    pub bytes: Option<u32>,
    /// For `ban` and `throttle`: when it ends; `null`: never.
    #[schema(format = DateTime)]
    pub expires: Option<String>,
    /// For bans, throttles and their ends, and for `detect`: why.
    pub reason: Option<String>,
    /// For `detect`, and for bans by a detector and their ends: its name.
    pub detector: Option<String>,
    /// For `detect`: what follows from it, in words: `alert`, `throttle`, `ban`, or why nothing does.
    pub action: Option<String>,
}

impl EventRecord {
    /// One of which nothing more is known.
    pub fn new(kind: EventKind, time: String) -> Self {
        Self {
            time,
            kind,
            interface: None,
            source: None,
            protocol: None,
            port: None,
            limit: None,
            ban: None,
            cause: None,
            policy: None,
            drops: None,
            verified: None,
            bytes: None,
            expires: None,
            reason: None,
            detector: None,
            action: None,
        }
    }
}

/// Which events a reader wants; all that are given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// Sources within this prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Prefix>)]
    pub source: Option<IpNet>,
    /// This kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<EventKind>,
    /// This limit, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

impl EventFilter {
    /// Whether `event` is wanted. A [`EventKind::Missed`] always is.
    pub fn matches(&self, event: &EventRecord) -> bool {
        let Self {
            source,
            kind,
            limit,
        } = self;
        if event.kind == EventKind::Missed {
            return true;
        }
        let source_matches = source.is_none_or(|wanted| {
            let of_event = event.source.as_deref().unwrap_or_default();
            let address = of_event.parse::<std::net::IpAddr>().map(IpNet::from);
            address
                .or_else(|_| of_event.parse())
                .ok()
                .is_some_and(|source: IpNet| wanted.contains(&source))
        });
        source_matches
            && kind.is_none_or(|kind| kind == event.kind)
            && (limit.is_none() || *limit == event.limit)
    }
}

/// Why a request failed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// What was tried, on what, and what to do.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, source: &str, limit: Option<&str>) -> EventRecord {
        EventRecord {
            source: Some(source.to_owned()),
            limit: limit.map(str::to_owned),
            ..EventRecord::new(kind, String::new())
        }
    }

    #[test]
    fn a_filter_matches_an_event_only_if_all_of_it_does() {
        let filter = EventFilter {
            source: Some("203.0.113.0/24".parse().unwrap()),
            kind: Some(EventKind::Drop),
            limit: Some("api".to_owned()),
        };
        assert!(filter.matches(&event(EventKind::Drop, "203.0.113.9", Some("api"))));
        assert!(!filter.matches(&event(EventKind::Drop, "203.0.114.9", Some("api"))));
        assert!(!filter.matches(&event(EventKind::Observe, "203.0.113.9", Some("api"))));
        assert!(!filter.matches(&event(EventKind::Drop, "203.0.113.9", Some("flood"))));
        assert!(!filter.matches(&event(EventKind::Drop, "203.0.113.9", None)));
    }

    #[test]
    fn a_ban_s_prefix_matches_the_prefix_it_lies_in() {
        let filter = EventFilter {
            source: Some("203.0.113.0/24".parse().unwrap()),
            ..EventFilter::default()
        };
        assert!(filter.matches(&event(EventKind::Ban, "203.0.113.128/25", None)));
        assert!(!filter.matches(&event(EventKind::Ban, "203.0.0.0/16", None)));
        assert!(filter.matches(&event(EventKind::Missed, "", None)));
    }
}
