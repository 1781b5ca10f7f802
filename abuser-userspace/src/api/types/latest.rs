//! The latest bans.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::BanInfo;

/// Bans of one [`LatestBans`] at most.
pub const MAX_LATEST: usize = 1000;

/// Bans of one [`LatestBans`] unless it is said how many.
pub const DEFAULT_LATEST: usize = 50;

/// Which of the latest bans.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LatestQuery {
    /// At most so many, from 1 to 1,000; without it, 50.
    #[param(minimum = 1, maximum = 1000)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only those with a lower number: the page after the one that ends with this ban.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Only those that this finds: an address or a prefix those that have something in common
    /// with it, other text those that have it in their source, cause, names, reason or `by`, in
    /// upper or lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
}

/// The latest bans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LatestBans {
    /// The latest first.
    pub bans: Vec<BanInfo>,
    /// How many bans in force are found, on this page and all others.
    pub found: usize,
}
