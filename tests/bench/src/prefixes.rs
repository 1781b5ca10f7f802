//! Blocklists like those that are published: mostly hosts, many small networks, few large.

use std::{collections::HashSet, net::Ipv4Addr};

/// The clean and the single sources of the scenarios: nothing here covers it.
pub(crate) const CLEAN_SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// An IPv4 prefix; the bits behind the length are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Prefix {
    /// The network's address.
    pub(crate) address: Ipv4Addr,
    /// Its length in bits.
    pub(crate) length: u8,
}

impl Prefix {
    /// The prefix of this length around an address.
    pub(crate) fn around(address: Ipv4Addr, length: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        Self {
            address: Ipv4Addr::from_bits(address.to_bits() & mask),
            length,
        }
    }

    fn covers(self, address: Ipv4Addr) -> bool {
        Self::around(address, self.length) == self
    }
}

/// That many different prefixes, the same for the same seed: 90% hosts, 9.9% /24, 0.1% evenly
/// /16 to /23, at random over the unicast space. None covers [`CLEAN_SOURCE`].
pub(crate) fn blocklist(count: usize, seed: u64) -> Vec<Prefix> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut known = HashSet::with_capacity(count);
    let mut list = Vec::with_capacity(count);
    while list.len() < count {
        let length = match random.u32(0..1000) {
            0..900 => 32,
            900..999 => 24,
            _ => random.u8(16..24),
        };
        let address = Ipv4Addr::from_bits(random.u32(1 << 24..224 << 24));
        let prefix = Prefix::around(address, length);
        if !prefix.covers(CLEAN_SOURCE) && known.insert(prefix) {
            list.push(prefix);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocklist_has_the_mix_that_it_claims() {
        let list = blocklist(10_000, 1);
        let share = |wanted: std::ops::RangeInclusive<u8>| {
            let matching = list.iter().filter(|prefix| wanted.contains(&prefix.length));
            matching.count() / 100
        };
        assert!((89..=91).contains(&share(32..=32)));
        assert!((9..=10).contains(&share(24..=24)));
        assert!(share(16..=23) <= 1);
        assert_eq!(list, blocklist(10_000, 1));
        assert_ne!(list, blocklist(10_000, 2));
    }

    #[test]
    fn a_prefix_has_no_bits_behind_its_length() {
        let prefix = Prefix::around(Ipv4Addr::new(192, 0, 2, 10), 24);
        assert_eq!(prefix.address, Ipv4Addr::new(192, 0, 2, 0));
        assert!(prefix.covers(CLEAN_SOURCE));
        assert!(Prefix::around(CLEAN_SOURCE, 32).covers(CLEAN_SOURCE));
    }
}
