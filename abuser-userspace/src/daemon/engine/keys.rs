//! From prefixes as people write them to keys of the maps, and back.

use std::{collections::HashSet, net::IpAddr};

use abuser_common::prefix::PrefixKey;
use ipnet::IpNet;

use super::EngineError;
use crate::{api::types::MAX_IMPORT, config::normalise};

/// The key of a prefix as people write it, so that the API normalises as the command line
/// does: an IPv4-mapped IPv6 address is the IPv4 address.
pub(super) fn key(source: &IpNet) -> Result<PrefixKey, EngineError> {
    let source = normalise(*source).map_err(|error| EngineError::Refused(error.to_string()))?;
    PrefixKey::new(source.addr(), source.prefix_len())
        .ok_or_else(|| EngineError::Refused(format!("{source} is not a prefix")))
}

/// The prefixes that cover an address, the longest first; that is the address alone.
pub(super) fn covering(address: IpAddr) -> Result<Vec<PrefixKey>, EngineError> {
    let host = net(&key(&IpNet::from(address))?);
    let lengths = (0..=host.prefix_len()).rev();
    let prefixes = lengths.filter_map(|length| PrefixKey::new(host.addr(), length));
    Ok(prefixes.collect())
}

pub(super) fn keys(sources: &[IpNet], action: &str) -> Result<Vec<PrefixKey>, EngineError> {
    if sources.is_empty() {
        return Err(EngineError::Refused(format!(
            "name at least one address or prefix to {action}"
        )));
    }
    // Bans for offences do not wait for more.
    if sources.len() > MAX_IMPORT {
        return Err(EngineError::Refused(format!(
            "{} sources are too many for one request; name {MAX_IMPORT} at a time to {action}",
            sources.len()
        )));
    }
    let mut seen = HashSet::new();
    sources
        .iter()
        .map(key)
        .filter(|key| key.as_ref().map_or(true, |key| seen.insert(*key)))
        .collect()
}

/// The prefix of a key that this program made.
pub(super) fn net(key: &PrefixKey) -> IpNet {
    let length = u8::try_from(key.length).unwrap_or(0);
    key.address()
        .and_then(|address| IpNet::new(address, length).ok())
        .unwrap_or_default()
}
