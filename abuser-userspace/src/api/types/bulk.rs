//! Many bans at once.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{BanDuration, Prefix};

/// Entries of one [`ImportRequest`] at most.
pub const MAX_IMPORT: usize = 10_000;

/// Asks for many bans, each for itself: what cannot be banned is refused, and told.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// Whom to ban, at most 10,000.
    #[schema(max_items = 10_000)]
    pub entries: Vec<ImportEntry>,
    /// Ban also prefixes wider than IPv4 /16 and IPv6 /32, and those that hold an address that
    /// is essential to this host.
    #[serde(default)]
    pub force: bool,
    /// Ban nobody: only tell what would be.
    #[serde(default)]
    pub dry_run: bool,
}

/// One of many bans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportEntry {
    /// Whom to ban.
    #[schema(value_type = Prefix)]
    pub source: IpNet,
    /// For how long; without it, what the policy's `bantime` says.
    #[serde(default)]
    pub duration: BanDuration,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How bans are exported.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// `plain`, `csv`, `json`, `ipset`, `nft` or `crowdsec`.
    pub format: String,
}

/// What became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Imported {
    /// Sources that are banned now and were not.
    pub added: u64,
    /// Sources whose ban ends later now.
    pub extended: u64,
    /// Entries that changed nothing: banned already for at least as long, or named twice.
    pub duplicates: u64,
    /// Entries that were refused.
    pub refused: Vec<RefusedEntry>,
}

/// An entry that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedEntry {
    /// Its place among the entries, from 0.
    pub entry: usize,
    /// Whom it was to ban.
    #[schema(value_type = Prefix)]
    pub source: IpNet,
    /// Why it was refused.
    pub error: String,
}

/// A block list of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlocklistStatus {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: String,
    /// How many sources it names; `null` if it could not be read yet.
    pub entries: Option<usize>,
    /// Lines that were left out.
    pub bad: u64,
    /// When it was read last; `null` if it could not be read yet.
    #[schema(format = DateTime)]
    pub read: Option<String>,
    /// Why what it says now is not in force, if it is not.
    pub error: Option<String>,
}
