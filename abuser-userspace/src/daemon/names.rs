//! Allow entries from the configuration: prefixes as they are, DNS names resolved.

use std::time::Duration;

use futures_util::future::join_all;
use ipnet::IpNet;

use crate::config::AllowEntry;

/// How long a name may take; all are asked at once.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One entry, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredAllow {
    /// Who is allowed.
    pub prefix: IpNet,
    /// The name it was resolved from.
    pub name: Option<String>,
}

/// Every entry as prefixes, with the name each was resolved from. A name that does not
/// resolve is left out with a warning: protection must not wait for DNS.
pub async fn resolve(entries: &[AllowEntry]) -> Vec<ConfiguredAllow> {
    let each = entries.iter().map(|entry| async move {
        match entry {
            AllowEntry::Prefix(prefix) => vec![ConfiguredAllow {
                prefix: *prefix,
                name: None,
            }],
            AllowEntry::Name(name) => resolve_name(name).await,
        }
    });
    join_all(each).await.concat()
}

async fn resolve_name(name: &str) -> Vec<ConfiguredAllow> {
    let lookup = tokio::net::lookup_host((name, 0));
    match tokio::time::timeout(TIMEOUT, lookup).await {
        Ok(Ok(addresses)) => addresses
            .map(|address| ConfiguredAllow {
                prefix: IpNet::from(address.ip()),
                name: Some(name.to_owned()),
            })
            .collect(),
        Ok(Err(error)) => {
            tracing::warn!(name, %error, "an allowed name does not resolve; it is not allowed");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(
                name,
                "an allowed name did not resolve in time; it is not allowed"
            );
            Vec::new()
        }
    }
}
