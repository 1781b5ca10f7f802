//! Sources, prefixes, and the longest-first look-up.
//!
//! Bans, the allow list and throttles are hash tables keyed by (family, length, masked
//! address). A look-up in such a table is dear, so two hints come before it:
//!
//! - *lengths*: a bit mask of the prefix lengths that occur, for each IPv4 /16 and for a
//!   hash of the first 32 bits of IPv6; the few prefixes that are shorter are in a mask for
//!   all. Only these lengths are tried, longest first.
//! - a *filter*: one bit for each prefix in a table of 2^25, by a hash of it. A source is
//!   looked up under a length only if the bit is set. Another bit tells whether there is
//!   any prefix at all in the IPv4 /24 or IPv6 /64 that the source lies in. With a million
//!   prefixes some six in a hundred look-ups are in vain, with 100,000 six in a thousand.
//!
//! Hints are exact: a bit is set if and only if some entry calls for it.

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

    /// This source with all but its first `length` bits zero.
    #[inline(always)]
    #[must_use]
    pub const fn masked(&self, length: u8) -> Self {
        // Without branches: the verifier would follow each of them for every length.
        let within_word = leading_ones(length & 63);
        let beyond_high = all_ones_if((length >> 6 | length >> 7) & 1);
        let whole = all_ones_if(length >> 7 & 1);
        Self {
            family: self.family,
            high: self.high & (within_word | beyond_high),
            low: self.low & (within_word & beyond_high | whole),
        }
    }

    /// The key of this source masked to its first `length` bits.
    #[inline(always)]
    pub const fn prefix(&self, length: u8) -> PrefixKey {
        let Self { high, low, .. } = self.masked(length);
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PrefixKey {
    /// 4 or 6.
    pub family: u32,
    /// Bits that count: 0 to 32, or 0 to 128.
    pub length: u32,
    /// The masked address in network order; IPv4 in the first four octets.
    pub address: [u8; 16],
}

const _: () = assert!(size_of::<PrefixKey>() == 24);

/// As people sort prefixes: by family, then by address, a network before its hosts.
impl Ord for PrefixKey {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        // As a number the address is compared at once, in the same order.
        let parts = |key: &Self| (key.family, u128::from_be_bytes(key.address), key.length);
        parts(self).cmp(&parts(other))
    }
}

impl PartialOrd for PrefixKey {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

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

    /// The masked address as a source; `None` if the key is not one that this crate made.
    pub fn source(&self) -> Option<Source> {
        self.address().map(Source::from)
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

/// Which of the prefix tables.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum List {
    /// Banned sources.
    Bans = 0,
    /// Sources that are never dropped.
    Allowed = 1,
    /// Sources that have limits of their own.
    Throttled = 2,
}

impl List {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Bans, Self::Allowed, Self::Throttled];
}

/// A set of prefix lengths: bit `n` stands for `n` bits, 64 lengths to a word. IPv4 fills
/// only the first word.
pub type LengthMask = [u64; 3];

/// The hints that hold for a whole table: lengths of prefixes too short for the hints of a
/// part of the address space.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// IPv4: lengths 0 to 15.
    pub ipv4: u64,
    /// IPv6: lengths 0 to 31.
    pub ipv6: u64,
}

impl Lengths {
    /// Set if there are any longer prefixes of the family.
    pub const LONGER: u64 = 1 << 63;

    /// The word of a family.
    #[inline(always)]
    pub const fn of(&self, family: Family) -> u64 {
        match family {
            Family::V4 => self.ipv4,
            Family::V6 => self.ipv6,
        }
    }
}

/// The shortest prefixes that have hints of their own part of the address space.
#[inline(always)]
pub const fn shortest_hinted(family: Family) -> u8 {
    match family {
        Family::V4 => 16,
        Family::V6 => 32,
    }
}

/// Hints of one family in one table.
pub const HINTS: u32 = 1 << 16;

/// The hint for the part of the address space that `source` lies in: an index within a
/// family's hints for a table.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "16 bits")]
pub const fn hint_index(list: List, source: &Source) -> u32 {
    let part = match source.family {
        Family::V4 => source.high >> 48,
        Family::V6 => (source.high >> 32).wrapping_mul(GOLDEN) >> 48,
    };
    list as u32 * HINTS + part as u32
}

/// Binary logarithm of the number of bits in the filter.
pub const FILTER_BITS: u32 = 25;

/// The shortest prefixes that lie in one neighbourhood: an IPv4 /24, an IPv6 /64.
#[inline(always)]
pub const fn shortest_near(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

/// The lengths that lie in one neighbourhood.
#[inline(always)]
pub const fn near_lengths(family: Family) -> LengthMask {
    match family {
        Family::V4 => [u64::MAX << 24, 0, 0],
        Family::V6 => [0, u64::MAX, u64::MAX],
    }
}

/// The filter's bit that says whether there is any prefix in the neighbourhood of `source`:
/// for most sources it spares all others.
#[inline(always)]
pub const fn neighbourhood_bit(list: List, source: &Source) -> u32 {
    // No prefix has this length.
    const ANY: u8 = u8::MAX;
    let near = source.masked(shortest_near(source.family));
    filter_bit(list, &near, ANY)
}

/// The filter's bit for the prefix of `length` bits whose masked address is `masked`.
///
/// Prefixes of one neighbourhood have their bits in one cache line, and so have wider ones
/// of a wider neighbourhood: memory is waited for once.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "25 bits")]
pub const fn filter_bit(list: List, masked: &Source, length: u8) -> u32 {
    const LINE_BITS: u32 = 9;
    let common = if length >= shortest_near(masked.family) {
        shortest_near(masked.family)
    } else {
        shortest_hinted(masked.family)
    };
    let neighbourhood = masked.masked(common).high;
    let kind = (list as u64) << 8 | masked.family as u64;
    let line = (neighbourhood ^ kind).wrapping_mul(GOLDEN);
    let line = (line ^ line >> 32).wrapping_mul(GOLDEN) >> (u64::BITS - FILTER_BITS + LINE_BITS);
    let word = (masked.high ^ length as u64).wrapping_mul(GOLDEN) ^ masked.low;
    let word = (word ^ word >> 32).wrapping_mul(GOLDEN);
    (line << LINE_BITS | word >> (u64::BITS - LINE_BITS)) as u32
}

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Asks `look_up` for each length in `lengths`, longest first, until it answers.
#[inline(always)]
pub fn longest<R>(lengths: LengthMask, mut look_up: impl FnMut(u8) -> Option<R>) -> Option<R> {
    let [low, middle, high] = lengths;
    // Of the third word only length 128 exists.
    if high & 1 != 0
        && let found @ Some(_) = look_up(Family::V6.bits())
    {
        return found;
    }
    if let found @ Some(_) = longest_from(64, middle, &mut look_up) {
        return found;
    }
    longest_from(0, low, &mut look_up)
}

/// As [`longest`], for the lengths that are `base` and the number of a bit of `word`.
#[inline(always)]
fn longest_from<R>(
    base: u8,
    mut word: u64,
    look_up: &mut impl FnMut(u8) -> Option<R>,
) -> Option<R> {
    // Counted, not `while`: the verifier cannot see that the word shrinks.
    for _ in 0..u64::BITS {
        if word == 0 {
            break;
        }
        let bit = bits::highest(word);
        word &= !(1 << bit);
        if let found @ Some(_) = look_up(base + bit) {
            return found;
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
        let mut asked = Vec::new();
        longest::<()>([1 | 1 << 48, 1 | 2, 1], |length| {
            asked.push(length);
            None
        });
        assert_eq!(asked, [128, 65, 64, 48, 0]);
    }

    #[test]
    fn bits_that_are_no_length_are_not_asked() {
        let found = longest([0, 0, !1], |_| Some(()));
        assert_eq!(found, None);
    }

    #[test]
    fn lists_families_and_lengths_have_filter_bits_of_their_own() {
        let v4 = source("0.0.0.0");
        let v6 = source("::");
        let bits: HashSet<_> = (0..=32)
            .flat_map(|length| {
                List::ALL.into_iter().flat_map(move |list| {
                    [filter_bit(list, &v4, length), filter_bit(list, &v6, length)]
                })
            })
            .collect();
        // Bits within a line may coincide, and few do.
        assert!(bits.len() > 33 * 6 - 18, "{}", bits.len());
    }

    proptest! {
        #[test]
        fn a_prefix_is_found_exactly_if_it_covers_the_source(
            prefixes in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..40),
            probe in any::<u32>(),
        ) {
            let mut lengths = 0;
            let mut table = HashSet::new();
            for (address, length) in &prefixes {
                lengths |= 1 << length;
                table.insert(Source::v4(address.to_be_bytes()).prefix(*length));
            }
            let source = Source::v4(probe.to_be_bytes());
            let found = longest([lengths, 0, 0], |length| {
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
