//! Who is busiest.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{LimitLevel, Prefix};

/// Sources of one [`Top`] at most.
pub const MAX_TOP: usize = 100;

/// Sources of one [`Top`] unless it is said how many.
pub const DEFAULT_TOP: usize = 20;

/// How many of the busiest sources are asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TopQuery {
    /// So many at most: from 1 to 100; without it, 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<usize>,
}

/// The busiest sources.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Top {
    /// When this was so.
    #[schema(format = DateTime)]
    pub time: String,
    /// How many seconds back packets are `recent`.
    pub window_seconds: u64,
    /// Sources that met limits or bans and are remembered.
    pub remembered: usize,
    /// How many can be remembered; those that met least of late make room for others.
    pub capacity: usize,
    /// Those that met limits and bans most of late, the busiest first; then those that have used
    /// most of what a limit grants them. Of the latter, only IPv4 sources are known.
    pub sources: Vec<TopSource>,
}

/// A source that is busy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TopSource {
    /// The source: as the limit counts it, or the address that met a ban.
    #[schema(value_type = Prefix)]
    pub source: IpNet,
    /// Packets over a limit or of somebody banned within the last `window_seconds`, whatever
    /// became of them.
    pub recent: u64,
    /// Such packets a second, over the last ten seconds or so.
    pub rate: f64,
    /// Packets that were dropped since `since`, as far as events told.
    pub dropped: u64,
    /// Packets that were only observed since then.
    pub observed: u64,
    /// Packets that passed because of the allow list since then.
    pub allowed: u64,
    /// The first event since which it is remembered; `null` if it met neither limit nor ban.
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// The last event.
    #[schema(format = DateTime)]
    pub last: Option<String>,
    /// Whether the source was known to be no forgery when it was last over a limit; `null` if it
    /// was not.
    pub verified: Option<bool>,
    /// The limit that it was over last, or else the one of which it has used most, and what that
    /// has left for it.
    pub level: Option<LimitLevel>,
    /// The ban that holds for it; the one of the longest prefix if there are several.
    pub ban: Option<TopBan>,
    /// Whether the allow list covers it.
    pub allow: bool,
    /// Limits that it is throttled by.
    pub throttled: Vec<String>,
}

impl TopSource {
    /// One of which nothing more is known.
    pub fn new(source: IpNet) -> Self {
        Self {
            source,
            recent: 0,
            rate: 0.0,
            dropped: 0,
            observed: 0,
            allowed: 0,
            since: None,
            last: None,
            verified: None,
            level: None,
            ban: None,
            allow: false,
            throttled: Vec::new(),
        }
    }
}

/// The ban of a source that is busy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopBan {
    /// Its number.
    pub id: u64,
    /// Whom it bans.
    #[schema(value_type = Prefix)]
    pub source: IpNet,
    /// What made it, as in a list of bans.
    pub cause: String,
    /// When it ends; `null`: never.
    #[schema(format = DateTime)]
    pub expires: Option<String>,
    /// Seconds until then.
    pub remaining_seconds: Option<u64>,
}

/// Asks to only observe, or to enforce.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObserveRequest {
    /// Whether nothing is to be dropped, only counted and reported.
    pub observe: bool,
}

/// Whether the daemon only observes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Observing {
    /// Whether nothing is dropped now, only counted and reported.
    pub observe: bool,
    /// Whether it was so before.
    pub before: bool,
}

/// In which order bans are told: by their sources (`source`), or those that end first come first,
/// and those that never do last (`ends`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BanOrder {
    /// By their sources.
    #[default]
    Source,
    /// By their ends.
    Ends,
}

/// Some of many bans.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BansQuery {
    /// So many at most, from 1 to 1,000; without it all, or 1,000 if `order` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// `source` (the default) or `ends`: those that end first come first, those that never do last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<BanOrder>)]
    pub order: Option<BanOrder>,
}
