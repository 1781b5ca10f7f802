//! From a word of the table back to whom it is of: for who lists sources and has only the table.
//!
//! [`Place::new`] maps a limit's slot and a masked IPv4 address to a set and a tag one to one, so
//! these tell the address. Of an IPv6 address they are a hash, which tells nothing but the family.

use super::{GOLDEN, Key, PLACE_BITS, PLACES, RING_BITS, TAG_BITS, slot_of};
use crate::prefix::Source;

/// What undoes [`super::Place::new`] for one key.
#[derive(Clone, Copy, Debug)]
pub struct Inverse {
    /// What the slots' shifts begin with.
    first: u64,
    /// Factors that undo those of the three rounds, the last round first.
    factors: [u64; 3],
}

impl Inverse {
    /// For the places that this key makes.
    pub const fn new(key: &Key) -> Self {
        let [first, second, third, fourth] = key.0;
        Self {
            first,
            factors: [reciprocal(fourth), reciprocal(third), reciprocal(second)],
        }
    }

    /// The IPv4 source, masked as its limit says, whose bucket is this word in this set; `None` if
    /// it is an IPv6 source's, or nobody's.
    pub fn ipv4(&self, set: u32, word: u64) -> Option<Source> {
        let tag = word >> RING_BITS & ((1 << TAG_BITS) - 1);
        let place = u64::from(set) << TAG_BITS | tag;
        let name = self.factors.iter().fold(place, |name, factor| {
            // A shift by half the bits undoes itself.
            (name ^ name >> (PLACE_BITS / 2)).wrapping_mul(*factor) & PLACES
        });
        let shift = self
            .first
            .wrapping_add(GOLDEN.wrapping_mul(slot_of(word).into()));
        let name = name.wrapping_sub(shift) & PLACES;
        let address = u32::try_from(name).ok()?;
        (word != 0).then(|| Source::v4(address.to_be_bytes()))
    }
}

/// What undoes the multiplication by a round's factor, modulo a power of two.
const fn reciprocal(key: u64) -> u64 {
    let odd = key | 1;
    let mut inverse = odd;
    // Newton's iteration doubles the bits that are right, from three on.
    let mut round = 0;
    while round < 5 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        round += 1;
    }
    inverse
}
