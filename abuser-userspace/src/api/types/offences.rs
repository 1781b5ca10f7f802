//! Offences that applications tell of.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Address, Prefix};

/// The most offences in one request.
pub const MAX_OFFENCES: usize = 1000;

/// Tells of offences.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OffencesRequest {
    /// At most 1,000.
    pub offences: Vec<OffenceReport>,
}

/// One offence, as the application that met it tells of it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OffenceReport {
    /// Who did it: the client, not a proxy before the application. Of an IPv6 address its /64
    /// counts.
    #[schema(value_type = Address)]
    pub source: IpAddr,
    /// The policy that judges it; that of `[ban]` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What it did, kept as evidence: at most 1,000 bytes.
    pub reason: String,
}

/// What became of offences.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OffencesTaken {
    /// How many were counted.
    pub counted: u64,
    /// Who was banned for them.
    #[schema(value_type = Vec<Prefix>)]
    pub banned: Vec<IpNet>,
    /// Those that were not counted, and why.
    pub refused: Vec<RefusedOffence>,
}

/// An offence that was not counted.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RefusedOffence {
    /// Who is said to have done it.
    #[schema(value_type = Address)]
    pub source: IpAddr,
    /// Why it was not counted.
    pub error: String,
}
