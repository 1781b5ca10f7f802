//! Who is never dropped.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Prefix;

/// One entry of the allow list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AllowInfo {
    /// Who is never dropped.
    #[schema(value_type = Prefix)]
    pub source: IpNet,
    /// `config`, `command`, `automatic` or `fleet` (another node of it allows the source); an entry that has
    /// several is listed for each.
    pub origin: String,
    /// The DNS name it was resolved from, what it is to this host, the node of the fleet that allows it,
    /// or what whoever made it said.
    pub note: Option<String>,
    /// Who made it, if somebody did: the user's name.
    pub by: Option<String>,
    /// When that was.
    #[schema(format = DateTime)]
    pub created: Option<String>,
}

/// Asks for allow entries.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowRequest {
    /// Whom to allow. All or none of them are.
    #[schema(value_type = Vec<Prefix>, min_items = 1)]
    pub sources: Vec<IpNet>,
    /// Why, in the words of whoever asks.
    #[serde(default)]
    pub reason: Option<String>,
    /// Allow also prefixes wider than IPv4 /8 and IPv6 /16, other than local ones.
    #[serde(default)]
    pub force: bool,
}
