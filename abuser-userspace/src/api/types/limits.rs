//! Limits, and what was counted under each.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One limit and what was counted under it.
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
    /// Bytes of the frames of these packets.
    pub bytes: LimitBytes,
    /// Sources whose bucket is not full now.
    pub sources: usize,
}

/// Bytes of the frames that a limit applied to, with their Ethernet headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitBytes {
    /// Of packets within this limit and all others.
    pub passed: u64,
    /// Of packets over it that were dropped.
    pub dropped: u64,
    /// Of packets over it that were only observed.
    pub observed: u64,
    /// Of packets over it that passed because of the allow list.
    pub allowed: u64,
}
