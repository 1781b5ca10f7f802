//! What `abuser explain` tells.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AllowInfo, BanInfo, Prefix, ThrottleInfo};

/// What a packet from an address would meet now, and why.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The address.
    pub address: String,
    /// `allowed`; `banned`; `limited`: a limit that drops has nothing left for it now;
    /// `passes`. What only observes does not count.
    pub verdict: String,
    /// Whether the daemon only observes, so that in the end everything passes.
    pub observe: bool,
    /// Allow entries that cover it.
    pub allow: Vec<AllowInfo>,
    /// Bans that cover it, the longest prefix first.
    pub bans: Vec<ExplainedBan>,
    /// What it is throttled by, the longest prefix first.
    pub throttles: Vec<ThrottleInfo>,
    /// Each limit that applies to it, and what that has left for it.
    pub limits: Vec<LimitLevel>,
    /// What is remembered of it, under each policy that remembers something.
    pub offences: Vec<OffenceRecord>,
    /// Bans that are over, the latest first; 20 at most.
    pub history: Vec<PastBan>,
}

/// A ban and what led to it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ExplainedBan {
    /// The ban.
    #[serde(flatten)]
    pub ban: BanInfo,
    /// What led to it, the oldest first.
    pub evidence: Vec<Evidence>,
}

/// Something that led to a ban, or may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// When.
    #[schema(format = DateTime)]
    pub time: String,
    /// What.
    pub text: String,
}

/// What a limit has left for a source.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LimitLevel {
    /// The limit.
    pub limit: String,
    /// What it counts the address as.
    #[schema(value_type = Prefix)]
    pub source: IpNet,
    /// `packets`, `bytes` or `connections`.
    pub count: String,
    /// For example `60/m`.
    pub rate: String,
    /// How many conform when the bucket is full.
    pub capacity: u64,
    /// How many conform now.
    pub left: u64,
    /// `drop` or `observe`.
    pub action: String,
}

/// What is remembered of a source under a policy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OffenceRecord {
    /// The policy.
    pub policy: String,
    /// Who is remembered.
    #[schema(value_type = Prefix)]
    pub source: IpNet,
    /// Offences within `findtime`.
    pub offences: usize,
    /// So many ban.
    pub maxretry: u32,
    /// Earlier bans that count.
    pub bans: u32,
    /// Seconds that the next ban would last, without `rndtime`; `null`: for good.
    pub next_ban_seconds: Option<u64>,
    /// The offences, the oldest first.
    pub evidence: Vec<Evidence>,
}

/// A ban that is over.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PastBan {
    /// Its number.
    pub id: u64,
    /// Whom it banned.
    #[schema(value_type = Prefix)]
    pub source: String,
    /// When it was made, if that is known.
    #[schema(format = DateTime)]
    pub created: Option<String>,
    /// When it ended.
    #[schema(format = DateTime)]
    pub ended: String,
    /// How: `expired`, or `removed by` somebody.
    pub how: String,
    /// What made it.
    pub cause: String,
    /// Why.
    pub reason: Option<String>,
    /// Who asked for it, if somebody did.
    pub by: Option<String>,
    /// Packets that met it.
    pub hits: u64,
}
