//! How it stands with `CrowdSec`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A local API of `CrowdSec` whose decisions are enforced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CrowdsecStatus {
    /// Where it is.
    pub url: String,
    /// Whether it answered when it was asked last.
    pub connected: bool,
    /// When it answered last; `null`: never.
    #[schema(format = DateTime)]
    pub last_answer: Option<String>,
    /// How often it did not answer, or not as it should.
    pub failures: u64,
    /// Why not, if it did not the last time. What it had decided stays in force.
    pub error: Option<String>,
    /// Its decisions that ban somebody here; without those that this daemon has pushed.
    pub decisions: u64,
    /// Decisions that ban nobody here, by why, since all of them came last: `type` (no ban), `scope` (no
    /// address and no prefix), `simulated`, `wide` (takes `force`), `malformed`.
    pub ignored: BTreeMap<String, u64>,
    /// How it stands with the bans that are pushed there; `null` if none are.
    pub push: Option<CrowdsecPushStatus>,
}

/// Bans that are pushed to a local API of `CrowdSec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CrowdsecPushStatus {
    /// Whether it answered when something was told to it last.
    pub connected: bool,
    /// Bans pushed since the start.
    pub pushed: u64,
    /// Decisions taken back since the start, because the ban ended before them.
    pub withdrawn: u64,
    /// Bans, and decisions to end, since the start that the local API refused for what they are, while it took
    /// others. Such a ban is not pushed until it changes.
    pub refused: u64,
    /// Bans of this daemon that the local API has now.
    pub active: u64,
    /// Bans that wait to be pushed, or to be taken back. While the local API does not answer, others may
    /// come: then all bans are compared with what it has.
    pub queued: u64,
    /// How often it did not answer, or not as it should.
    pub failures: u64,
    /// Why not, if it did not the last time.
    pub error: Option<String>,
}
