//! Throttles: sources to which stricter limits apply for a while.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{BanDuration, Prefix};

/// A source that is throttled by a limit; one that is throttled by several is told once for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ThrottleInfo {
    /// Who is throttled.
    #[schema(value_type = Prefix)]
    pub source: IpNet,
    /// The limit that applies to it.
    pub limit: String,
    /// When that was made, or renewed.
    #[schema(format = DateTime)]
    pub created: String,
    /// When it ends; `null`: never.
    #[schema(format = DateTime)]
    pub expires: Option<String>,
    /// Seconds until then.
    pub remaining_seconds: Option<u64>,
    /// What whoever made it said.
    pub reason: Option<String>,
    /// Who asked for it, if somebody did: the user's name.
    pub by: Option<String>,
}

/// Asks to throttle sources.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ThrottleRequest {
    /// Whom to throttle. All or none of them are.
    #[schema(value_type = Vec<Prefix>, min_items = 1)]
    pub sources: Vec<IpNet>,
    /// By which limit; one with `only = "throttled"`.
    pub limit: String,
    /// For how long; without it, what the policy's `bantime` says.
    #[serde(default)]
    pub duration: BanDuration,
    /// Why, in the words of whoever asks.
    #[serde(default)]
    pub reason: Option<String>,
    /// Throttle also prefixes wider than IPv4 /16 and IPv6 /32.
    #[serde(default)]
    pub force: bool,
}

/// Asks to end throttles.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnthrottleRequest {
    /// Whose. All or none of them are ended.
    #[schema(value_type = Vec<Prefix>, min_items = 1)]
    pub sources: Vec<IpNet>,
    /// Only that by this limit; without it, by all.
    #[serde(default)]
    pub limit: Option<String>,
}
