//! The fleet: nodes that share bans and allow entries.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The fleet as this node sees it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FleetStatus {
    /// What this node is called.
    pub node: String,
    /// The bucket that all share.
    pub bucket: String,
    /// Whether there is a connection to a server.
    pub connected: bool,
    /// That server's name; `null` without one.
    pub server: Option<String>,
    /// Since when there is a connection, or none.
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// Connections that were made again after one was lost.
    pub reconnects: u64,
    /// Whether all that the bucket holds was heard since the connection was made. What was heard before
    /// stays in force until then.
    pub complete: bool,
    /// What does not work; `null` if all is well.
    pub error: Option<String>,
    /// Bans that this node shares.
    pub shared_bans: usize,
    /// Allow entries that this node shares.
    pub shared_allow: usize,
    /// Changes of those that the bucket is not known to have yet.
    pub pending: usize,
    /// Changes that it has taken.
    pub published: u64,
    /// Entries that were not shared because there are too many.
    pub unshared: u64,
    /// Sources that other nodes ban, within the caps.
    pub bans: usize,
    /// Sources that other nodes allow, within the caps.
    pub allow: usize,
    /// Messages of other nodes that were heard.
    pub received: u64,
    /// Those that do not count, by why: `unknown` (no key or value of this version), `ignored` (of a
    /// node, or a kind, that the configuration says not to take), `wide`, `too_many`, `too_fast`.
    pub refused: BTreeMap<String, u64>,
    /// How long the latest messages took from the node that wrote them to here, by both clocks; `null`
    /// if there were none.
    pub latency: Option<FleetLatency>,
    /// The nodes that were heard of, this one included, by their names.
    pub nodes: Vec<FleetNode>,
}

/// How long messages took, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct FleetLatency {
    /// Half of them no longer.
    pub median_ms: u64,
    /// 99 of 100 no longer.
    pub p99_ms: u64,
}

/// One node.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FleetNode {
    /// Its name.
    pub name: String,
    /// Whether it is the one that tells this.
    pub this: bool,
    /// Its version; `null` if it was not heard of by itself.
    pub version: Option<String>,
    /// When it was heard of last.
    #[schema(format = DateTime)]
    pub seen: Option<String>,
    /// Sources that it bans, within the caps.
    pub bans: usize,
    /// Sources that it allows, within the caps.
    pub allow: usize,
    /// Whether the configuration says not to take anything from it.
    pub ignored: bool,
    /// Whether nothing was heard of it for a minute, while nodes tell thrice in one that they are there. What
    /// it said holds all the same; when none of it does, it is told of for a day more.
    pub gone: bool,
    /// By how much its clock is ahead of this one's, in milliseconds; less what its messages take to get
    /// here.
    pub ahead_ms: Option<i64>,
}

/// Asks for something that servers let some users do only.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetLoginRequest {
    /// As whom: the text of a file of credentials,
    #[serde(default)]
    pub credentials: Option<String>,
    /// or the seed of an nkey,
    #[serde(default)]
    pub nkey: Option<String>,
    /// or a user
    #[serde(default)]
    pub user: Option<String>,
    /// with a password. Without any of them, as who `[fleet]` says.
    #[serde(default)]
    pub password: Option<String>,
}

/// Asks to take out all that a node has said.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetRevokeRequest {
    /// Which node.
    pub node: String,
    /// As whom.
    #[serde(default)]
    pub login: FleetLoginRequest,
}

/// What a node had said, and was taken out.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FleetRevoked {
    /// The node.
    pub node: String,
    /// Its bans.
    pub bans: usize,
    /// Its allow entries.
    pub allow: usize,
}
