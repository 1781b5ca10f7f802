//! Bans, and what is asked for about them.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Prefix;

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
