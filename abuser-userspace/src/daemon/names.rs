//! Allow entries from the configuration: prefixes as they are, DNS names resolved, and again
//! every minute.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
    time::Duration,
};

use futures_util::future::join_all;
use ipnet::IpNet;

use crate::config::AllowEntry;

/// How long a name may take; all are asked at once.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often names are resolved.
pub const AGAIN: Duration = Duration::from_secs(60);

/// One entry, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredAllow {
    /// Who is allowed.
    pub prefix: IpNet,
    /// The name it was resolved from.
    pub name: Option<String>,
}

/// The configured entries, and what their names were last resolved to.
#[derive(Debug, Default)]
pub struct Resolver {
    entries: Vec<AllowEntry>,
    last: HashMap<String, Vec<IpAddr>>,
    /// Names that did not resolve the last time.
    failed: HashSet<String>,
}

impl Resolver {
    /// For these entries.
    pub fn new(entries: Vec<AllowEntry>) -> Self {
        Self {
            entries,
            ..Self::default()
        }
    }

    /// For other entries, with what is known of their names.
    #[must_use]
    pub fn with_entries(&self, entries: Vec<AllowEntry>) -> Self {
        Self {
            entries,
            last: self.last.clone(),
            failed: self.failed.clone(),
        }
    }

    /// Whether there is any name.
    pub fn has_names(&self) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| matches!(entry, AllowEntry::Name(_)))
    }

    /// Every entry as prefixes, with the name each was resolved from. A name that does not
    /// resolve keeps the addresses it had, and is left out if it had none: protection must not
    /// wait for DNS.
    pub async fn resolve(&mut self) -> Vec<ConfiguredAllow> {
        let names = self.entries.iter().filter_map(|entry| match entry {
            AllowEntry::Name(name) => Some(name.clone()),
            AllowEntry::Prefix(_) => None,
        });
        let names: HashSet<_> = names.collect();
        let found = join_all(names.into_iter().map(|name| async move {
            let addresses = resolve(&name).await;
            (name, addresses)
        }));
        for (name, addresses) in found.await {
            self.note(name, addresses);
        }
        let each = self.entries.iter().flat_map(|entry| match entry {
            AllowEntry::Prefix(prefix) => vec![ConfiguredAllow {
                prefix: *prefix,
                name: None,
            }],
            AllowEntry::Name(name) => self.addresses(name),
        });
        each.collect()
    }

    fn addresses(&self, name: &str) -> Vec<ConfiguredAllow> {
        let addresses = self.last.get(name).into_iter().flatten();
        let each = addresses.map(|address| ConfiguredAllow {
            prefix: IpNet::from(*address),
            name: Some(name.to_owned()),
        });
        each.collect()
    }

    /// Takes note of an answer; says once what is wrong with it.
    fn note(&mut self, name: String, answer: io::Result<Vec<IpAddr>>) {
        match answer {
            Ok(addresses) => {
                self.failed.remove(&name);
                self.last.insert(name, addresses);
            }
            Err(error) if self.failed.insert(name.clone()) => {
                let then = if self.last.contains_key(&name) {
                    "its last addresses stay allowed"
                } else {
                    "it is not allowed until it does"
                };
                tracing::warn!(name, %error, "an allowed name does not resolve; {then}");
            }
            Err(_) => {}
        }
    }
}

async fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    let lookup = tokio::net::lookup_host((name, 0));
    let addresses = tokio::time::timeout(TIMEOUT, lookup).await??;
    let mut addresses: Vec<_> = addresses
        .map(|address| address.ip().to_canonical())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_fails_keeps_its_addresses_until_it_answers_again() {
        let name = "host.example.com";
        let mut resolver = Resolver::new(vec![AllowEntry::Name(name.to_owned())]);
        let failure = || Err(io::Error::other("no answer"));
        let now = |resolver: &Resolver| -> Vec<_> {
            let found = resolver.addresses(name).into_iter();
            found.map(|entry| entry.prefix.to_string()).collect()
        };
        resolver.note(name.to_owned(), failure());
        assert!(now(&resolver).is_empty());
        resolver.note(name.to_owned(), Ok(vec![[192, 0, 2, 1].into()]));
        resolver.note(name.to_owned(), failure());
        assert_eq!(now(&resolver), ["192.0.2.1/32"]);
        resolver.note(name.to_owned(), Ok(vec![[192, 0, 2, 2].into()]));
        assert_eq!(now(&resolver), ["192.0.2.2/32"]);
    }

    #[tokio::test]
    async fn prefixes_and_names_become_entries() {
        let mut resolver = Resolver::new(vec![
            AllowEntry::Prefix("10.0.0.0/8".parse().unwrap()),
            AllowEntry::Name("localhost".to_owned()),
            AllowEntry::Name("does-not-exist.invalid".to_owned()),
        ]);
        assert!(resolver.has_names());
        let found = resolver.resolve().await;
        assert_eq!(found[0].prefix, "10.0.0.0/8".parse().unwrap());
        let names: HashSet<_> = found[1..]
            .iter()
            .map(|entry| entry.name.as_deref())
            .collect();
        assert_eq!(names, [Some("localhost")].into());
        assert!(!Resolver::new(Vec::new()).has_names());
    }
}
