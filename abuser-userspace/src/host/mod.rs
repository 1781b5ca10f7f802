//! What this host must not lock out: itself, its gateways and resolvers, and whoever
//! administers it over SSH.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `network` | own addresses and gateways, as the kernel tells them |
//! | `resolvers` | resolvers, as resolv.conf names them |
//! | `ssh` | the other end of an SSH session |

mod network;
mod resolvers;
mod ssh;

use std::{collections::BTreeMap, fmt, net::IpAddr};

use rtnetlink::MulticastGroup;

use crate::dataplane::{DataplaneError, interfaces::Netlink, links::NetlinkChanges};

pub use self::ssh::{SshSession, session};

/// What an address is to this host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Its own, on this interface.
    Own(String),
    /// The next hop of a route, over this interface.
    Gateway(String),
    /// A resolver that this file names.
    Resolver(&'static str),
    /// The other end of the SSH session that this process was started from.
    Ssh(u32),
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(interface) => write!(formatter, "own address on {interface}"),
            Self::Gateway(interface) => write!(formatter, "gateway on {interface}"),
            Self::Resolver(file) => write!(formatter, "resolver in {file}"),
            Self::Ssh(pid) => write!(formatter, "SSH session of process {pid}"),
        }
    }
}

/// Addresses that must not be locked out, each with its first role.
pub type Essential = BTreeMap<IpAddr, Role>;

/// The most addresses that are believed to be essential: far more than a host has, and less
/// than the allow list holds.
const MAX_ESSENTIAL: usize = 4096;

/// Knows what is essential, and hears when that may have changed.
pub struct HostWatch {
    changes: NetlinkChanges,
    netlink: Netlink,
    resolvers: resolvers::Resolvers,
    ssh: Option<SshSession>,
    /// What was last read: kept if the kernel does not answer.
    network_last: Vec<(IpAddr, Role)>,
    failed: bool,
}

impl HostWatch {
    /// Begins to follow. Must be called within a tokio runtime.
    pub fn follow() -> Result<Self, DataplaneError> {
        const GROUPS: [MulticastGroup; 4] = [
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        Ok(Self {
            changes: NetlinkChanges::follow(&GROUPS, "addresses and routes")?,
            netlink: Netlink::connect()?,
            resolvers: resolvers::Resolvers::default(),
            ssh: session(),
            network_last: Vec::new(),
            failed: false,
        })
    }

    /// Waits until something may have changed; at most some seconds, because nobody tells of
    /// files. Dropping the future loses nothing.
    pub async fn changed(&self) {
        self.changes.changed().await;
    }

    /// What is essential now.
    pub async fn read(&mut self) -> Essential {
        match network::read(&self.netlink).await {
            Ok(found) => {
                self.network_last = found;
                self.failed = false;
            }
            Err(error) if !self.failed => {
                tracing::warn!(
                    %error,
                    "cannot read this host's addresses and routes; those known so far stay allowed"
                );
                self.failed = true;
            }
            Err(_) => {}
        }
        let ssh = self
            .ssh
            .iter()
            .map(|session| (session.client, Role::Ssh(session.pid)));
        let resolvers = self.resolvers.read();
        let resolvers = resolvers.map(|(address, file)| (address, Role::Resolver(file)));
        let found = self.network_last.iter().cloned();
        let mut essential = Essential::new();
        for (address, role) in found.chain(resolvers).chain(ssh) {
            let address = address.to_canonical();
            if is_of_use(address) && essential.len() < MAX_ESSENTIAL {
                essential.entry(address).or_insert(role);
            }
        }
        essential
    }
}

/// An address as people and programs write it, also a link-local one with its interface
/// (`fe80::1%eth0`).
fn parse_address(text: &str) -> Option<IpAddr> {
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    address.parse().ok()
}

/// Whether a packet from outside may have this source. Who attaches to the loopback interface
/// wants it filtered.
fn is_of_use(address: IpAddr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_packet_from_outside_has_is_left_out() {
        let of_use = |address: &str| is_of_use(address.parse().unwrap());
        for address in ["127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1"] {
            assert!(!of_use(address), "{address}");
        }
        for address in ["192.0.2.1", "fe80::1", "2001:db8::1"] {
            assert!(of_use(address), "{address}");
        }
    }
}
