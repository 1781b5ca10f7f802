//! Sources, prefixes, and the longest-first look-up.
//!
//! Bans and the allow list are hash tables keyed by (family, length, masked address).
//! Beside each table lies a bit mask of the prefix lengths that occur in it, so a look-up
//! asks the table once per length in use, longest first, and not at all when it is empty.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bits;

/// An address family, by its number in the IP header.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

impl Family {
    /// The length of a host's prefix, in bits.
    #[inline(always)]
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// A packet's source address.
///
/// The address is kept as two words in host order, the first bit of the address in the
/// highest bit of `high`; an IPv4 address fills the upper half of `high`. Masking is then
/// the same for both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The family.
    pub family: Family,
    /// The first 64 bits.
    pub high: u64,
    /// The last 64 bits.
    pub low: u64,
}

impl Source {
    /// An IPv4 source from its octets in network order.
    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Self {
        Self {
            family: Family::V4,
            high: (u32::from_be_bytes(octets) as u64) << 32,
            low: 0,
        }
    }

    /// An IPv6 source from its octets in network order.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves of the address"
    )]
    pub const fn v6(octets: [u8; 16]) -> Self {
        let address = u128::from_be_bytes(octets);
        Self {
            family: Family::V6,
            high: (address >> 64) as u64,
            low: address as u64,
        }
    }

    /// The key of this source masked to its first `length` bits.
    #[inline(always)]
    pub const fn prefix(&self, length: u8) -> PrefixKey {
        // Without branches: the verifier would follow each of them for every length.
        let within_word = leading_ones(length & 63);
        let beyond_high = all_ones_if((length >> 6 | length >> 7) & 1);
        let whole = all_ones_if(length >> 7 & 1);
        let high = self.high & (within_word | beyond_high);
        let low = self.low & (within_word & beyond_high | whole);
        PrefixKey {
            family: self.family as u32,
            length: length as u32,
            address: ((high as u128) << 64 | low as u128).to_be_bytes(),
        }
    }

    /// The whole address as a key: an IPv4 /32 or an IPv6 /128.
    #[inline(always)]
    pub const fn host(&self) -> PrefixKey {
        self.prefix(self.family.bits())
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::v4(v4.octets()),
            IpAddr::V6(v6) => Self::v6(v6.octets()),
        }
    }
}

/// A word whose `count` highest bits are set; `count` is at most 63.
#[inline(always)]
const fn leading_ones(count: u8) -> u64 {
    !(u64::MAX >> (count & 63))
}

/// All bits set if `bit` is 1, none if it is 0.
#[inline(always)]
const fn all_ones_if(bit: u8) -> u64 {
    (bit as u64).wrapping_neg()
}

/// A prefix as a map key, aligned so that it is written a word at a time.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrefixKey {
    /// 4 or 6.
    pub family: u32,
    /// Bits that count: 0 to 32, or 0 to 128.
    pub length: u32,
    /// The masked address in network order; IPv4 in the first four octets.
    pub address: [u8; 16],
}

const _: () = assert!(size_of::<PrefixKey>() == 24);

impl PrefixKey {
    /// The prefix of `address` that is `length` bits long; `None` if that is too long.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let source = Source::from(address);
        (length <= source.family.bits()).then(|| source.prefix(length))
    }

    /// The family; `None` if the key is not one that this crate made.
    pub fn family(&self) -> Option<Family> {
        match self.family {
            4 => Some(Family::V4),
            6 => Some(Family::V6),
            _ => None,
        }
    }

    /// The masked address; `None` if the key is not one that this crate made.
    pub fn address(&self) -> Option<IpAddr> {
        let [a, b, c, d, ..] = self.address;
        Some(match self.family()? {
            Family::V4 => Ipv4Addr::new(a, b, c, d).into(),
            Family::V6 => Ipv6Addr::from(self.address).into(),
        })
    }
}

/// Which of the two prefix tables.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Banned sources.
    Bans = 0,
    /// Sources that are never dropped.
    Allowed = 1,
}

/// The prefix lengths that occur in one table: bit `n` is set if a prefix of `n` bits is
/// in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// IPv4, 0 to 32.
    pub ipv4: u64,
    /// IPv6, 0 to 128, 64 to a word.
    pub ipv6: [u64; 3],
}

impl Lengths {
    /// Whether the table is empty for a family, so that it need not be asked.
    #[inline(always)]
    pub const fn is_empty(&self, family: Family) -> bool {
        let [low, middle, high] = self.ipv6;
        match family {
            Family::V4 => self.ipv4 == 0,
            Family::V6 => low | middle | high == 0,
        }
    }

    /// Sets the bit of a prefix of `length` bits.
    pub fn insert(&mut self, family: Family, length: u8) {
        match family {
            Family::V4 => self.ipv4 |= 1 << (length % 64),
            Family::V6 => {
                if let Some(word) = self.ipv6.get_mut(usize::from(length / 64)) {
                    *word |= 1 << (length % 64);
                }
            }
        }
    }
}

/// Asks `look_up` for each prefix length of `family` in `lengths`, longest first, until it
/// answers.
#[inline(always)]
pub fn longest<R>(
    lengths: &Lengths,
    family: Family,
    mut look_up: impl FnMut(u8) -> Option<R>,
) -> Option<R> {
    let [low, middle, high] = match family {
        Family::V4 => [lengths.ipv4, 0, 0],
        Family::V6 => lengths.ipv6,
    };
    let (mut base, mut word) = (128, high);
    // Counted, not `while`: the verifier cannot see that the words shrink. One pass a
    // length, and one to go on to each of the two lower words.
    for _ in 0..u32::from(Family::V6.bits()) + 3 {
        if word == 0 {
            if base == 0 {
                break;
            }
            base -= 64;
            word = if base == 0 { low } else { middle };
            continue;
        }
        let bit = bits::highest(word);
        word &= !(1 << bit);
        if let Some(found) = look_up(base + bit) {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn source(address: &str) -> Source {
        Source::from(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_key_holds_the_masked_address_in_network_order() {
        let key = source("203.0.113.77").prefix(24);
        assert_eq!(key.address(), Some("203.0.113.0".parse().unwrap()));
        let key = source("2001:db8:1:2:3:4:5:6").prefix(64);
        assert_eq!(key.address(), Some("2001:db8:1:2::".parse().unwrap()));
        let key = source("2001:db8:1:2:3:4:5:6").prefix(80);
        assert_eq!(key.address(), Some("2001:db8:1:2:3::".parse().unwrap()));
        assert_eq!(
            source("2001:db8::1").host().address(),
            Some("2001:db8::1".parse().unwrap())
        );
    }

    #[test]
    fn length_zero_covers_everything_of_its_family() {
        assert_eq!(
            source("203.0.113.77").prefix(0),
            source("0.0.0.0").prefix(0)
        );
        assert_ne!(source("::").prefix(0), source("0.0.0.0").prefix(0));
    }

    #[test]
    fn a_prefix_longer_than_an_address_is_refused() {
        assert_eq!(PrefixKey::new("192.0.2.1".parse().unwrap(), 33), None);
        assert_eq!(PrefixKey::new("::1".parse().unwrap(), 129), None);
    }

    #[test]
    fn lengths_are_asked_longest_first_and_only_those_in_use() {
        let mut lengths = Lengths::default();
        for length in [0, 48, 64, 65, 128] {
            lengths.insert(Family::V6, length);
        }
        lengths.insert(Family::V4, 24);
        let mut asked = Vec::new();
        longest::<()>(&lengths, Family::V6, |length| {
            asked.push(length);
            None
        });
        assert_eq!(asked, [128, 65, 64, 48, 0]);
    }

    proptest! {
        #[test]
        fn a_prefix_is_found_exactly_if_it_covers_the_source(
            prefixes in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..40),
            probe in any::<u32>(),
        ) {
            let mut lengths = Lengths::default();
            let mut table = HashSet::new();
            for (address, length) in &prefixes {
                lengths.insert(Family::V4, *length);
                table.insert(Source::v4(address.to_be_bytes()).prefix(*length));
            }
            let source = Source::v4(probe.to_be_bytes());
            let found = longest(&lengths, Family::V4, |length| {
                table.contains(&source.prefix(length)).then_some(length)
            });
            let expected = prefixes
                .iter()
                .filter(|(address, length)| {
                    let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
                    address & mask == probe & mask
                })
                .map(|(_, length)| *length)
                .max();
            prop_assert_eq!(found, expected);
        }
    }
}
