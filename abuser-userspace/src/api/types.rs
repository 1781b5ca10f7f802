//! What goes over the socket. The command line prints the same JSON, so this is also the
//! reference of `--json`; and the comments are the descriptions in [`super::openapi`].
//!
//! Times are RFC 3339 in UTC with milliseconds. Addresses are text; where a prefix is
//! meant it always carries its length (`203.0.113.7/32`).
//!
//! | module | what it is about |
//! | --- | --- |
//! | `status` | the daemon at a glance |
//! | `bans`, `latest`, `bulk` | bans: one by one, the latest, and thousands |
//! | `allow`, `throttles`, `limits` | the allow list, throttles, limits |
//! | `explanation`, `top` | what a packet would meet; who is busiest |
//! | `events`, `line` | what happens, and as a line of text |
//! | `detection`, `offences` | logs and detectors; what applications tell of |
//! | `fleet`, `crowdsec`, `notify` | others |
//! | `running` | reloads and detaching |
//! | `text` | how addresses and prefixes are described |

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod allow;
mod bans;
mod bulk;
mod crowdsec;
mod detection;
mod events;
mod explanation;
mod fleet;
mod latest;
mod limits;
mod line;
mod notify;
mod offences;
mod running;
mod status;
mod text;
mod throttles;
mod top;

pub use allow::{AllowInfo, AllowRequest};
pub use bans::{BanDuration, BanInfo, BanRequest, RemoveRequest};
pub use bulk::{
    BlocklistStatus, ExportQuery, ImportEntry, ImportRequest, Imported, MAX_IMPORT, RefusedEntry,
};
pub use crowdsec::{CrowdsecPushStatus, CrowdsecStatus};
pub use detection::{Detection, DetectorStatus, SourceStatus};
pub use events::{EventFilter, EventKind, EventRecord};
pub use explanation::{Evidence, ExplainedBan, Explanation, LimitLevel, OffenceRecord, PastBan};
pub use fleet::{
    FleetLatency, FleetLoginRequest, FleetNode, FleetRevokeRequest, FleetRevoked, FleetStatus,
};
pub use latest::{DEFAULT_LATEST, LatestBans, LatestQuery, MAX_LATEST};
pub use limits::{LimitBytes, LimitStatus};
pub use notify::{NotifierStatus, NotifyTest, NotifyTestRequest};
pub use offences::{MAX_OFFENCES, OffenceReport, OffencesRequest, OffencesTaken, RefusedOffence};
pub use running::{DetachRequest, Detached, Reloaded};
pub use status::{
    BucketCounts, Capacity, ComponentStatus, DispatcherStatus, EventCounts, InterfaceState,
    InterfaceStatus, LookupCounts, PinsStatus, ReconcilerStatus, SandboxState, SecurityStatus,
    Status, StoreStatus, TrafficCount, VerifiedCounts,
};
pub(super) use text::{Address, Null, Prefix};
pub use throttles::{ThrottleInfo, ThrottleRequest, UnthrottleRequest};
pub use top::{
    BanOrder, BansQuery, DEFAULT_TOP, MAX_TOP, ObserveRequest, Observing, Top, TopBan, TopQuery,
    TopSource,
};

/// Why a request failed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// What was tried, on what, and what to do.
    pub error: String,
}
