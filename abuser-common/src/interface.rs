//! Which counters a packet belongs to: each protected interface has a set of its own.
//!
//! A packet tells the index of its interface, which is any number of 32 bits. A hash map from it
//! to a set would cost as much as all else that a clean packet pays for. So an index has two places in
//! an array, and the daemon writes it to one that is free. Indexes that follow each other have
//! different first places, and look-ups that need the second one are rare. Two indexes of which
//! neither place is free are rarer than one in ten thousand hosts with ten interfaces; the packets of
//! such an interface are counted as [`OTHER`].

/// Bits of a place.
const PLACE_BITS: u32 = 12;
/// Places for interfaces.
pub const PLACES: u32 = 1 << PLACE_BITS;

/// Sets of counters, one for each slot.
pub const SLOTS: u32 = 256;
/// The slot of packets whose interface has none of its own.
pub const OTHER: u32 = 0;
/// The slot that holds what was counted of interfaces that are gone. The program never counts there.
pub const GONE: u32 = 1;
/// The first slot that an interface can have; all from here on are for one each.
pub const FIRST: u32 = 2;

/// An interface's index and its slot, in one word so that both change at once. Zero: none.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    /// The interface with this index, which is not 0, counts in this slot.
    pub const fn new(index: u32, slot: u32) -> Self {
        Self((index as u64) << 32 | slot as u64)
    }

    /// The interface's index; 0 if there is none.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Its slot.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    pub const fn slot(self) -> u32 {
        self.0 as u32
    }
}

/// The places where the entry of an interface may be.
#[inline(always)]
pub const fn places(index: u32) -> [u32; 2] {
    // Knuth's multiplier: indexes with the same first place lie far apart by it.
    let second = index.wrapping_mul(2_654_435_769) >> (u32::BITS - PLACE_BITS);
    [index & (PLACES - 1), second]
}

/// The slot of the interface with this index; `entry` looks into a place.
#[inline(always)]
pub fn slot(index: u32, entry: impl Fn(u32) -> Entry) -> u32 {
    let [first, second] = places(index);
    let found = entry(first);
    if found.index() == index {
        return found.slot();
    }
    let found = entry(second);
    if found.index() == index {
        return found.slot();
    }
    OTHER
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: one word, of which any is a value.
    unsafe impl aya::Pod for super::Entry {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_tells_index_and_slot_and_none_is_that_of_no_interface() {
        let entry = Entry::new(u32::MAX, 255);
        assert_eq!((entry.index(), entry.slot()), (u32::MAX, 255));
        assert_eq!(Entry::default().index(), 0);
    }

    #[test]
    fn an_interface_is_found_in_either_place_and_no_other_is_taken_for_it() {
        for index in [1, 2, 4095, 4096, 4098, 1_000_003, u32::MAX] {
            for place in places(index) {
                assert!(place < PLACES);
                let at = |asked| {
                    if asked == place {
                        Entry::new(index, 7)
                    } else {
                        Entry::default()
                    }
                };
                assert_eq!(slot(index, at), 7);
                assert_eq!(slot(index ^ PLACES, at), OTHER);
            }
        }
    }

    #[test]
    fn indexes_that_share_a_first_place_have_second_places_of_their_own() {
        let mut seconds: Vec<_> = (0..64).map(|n| places(7 + n * PLACES)[1]).collect();
        seconds.sort_unstable();
        seconds.dedup();
        assert_eq!(seconds.len(), 64);
    }
}
