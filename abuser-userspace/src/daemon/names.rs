//! Allow entries from the configuration: prefixes as they are, DNS names resolved.

use std::time::Duration;

use ipnet::IpNet;

use crate::config::AllowEntry;

/// How long all names together may take.
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
    let mut resolved = Vec::new();
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    for entry in entries {
        match entry {
            AllowEntry::Prefix(prefix) => resolved.push(ConfiguredAllow {
                prefix: *prefix,
                name: None,
            }),
            AllowEntry::Name(name) => {
                let lookup = tokio::net::lookup_host((name.as_str(), 0));
                match tokio::time::timeout_at(deadline, lookup).await {
                    Ok(Ok(addresses)) => {
                        resolved.extend(addresses.map(|address| ConfiguredAllow {
                            prefix: IpNet::from(address.ip()),
                            name: Some(name.clone()),
                        }));
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(name, %error, "an allowed name does not resolve; it is not allowed");
                    }
                    Err(_) => {
                        tracing::warn!(
                            name,
                            "an allowed name did not resolve in time; it is not allowed"
                        );
                    }
                }
            }
        }
    }
    resolved
}
