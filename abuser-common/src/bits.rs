//! Walking the set bits of a word.

/// The number of the highest set bit: 63 to 0; 0 also if there is none.
#[cfg(not(target_arch = "bpf"))]
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "below 64")]
pub fn highest(word: u64) -> u8 {
    word.checked_ilog2().unwrap_or(0) as u8
}

/// The number of the highest set bit: 63 to 0; 0 also if there is none.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn highest(word: u64) -> u8 {
    highest_bit(word) as u8 & 63
}

/// The number of the lowest set bit: 0 to 63; any of them if there is none.
///
/// A dozen instructions in BPF, where [`highest`] is a call.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "masked to 63")]
pub const fn lowest(word: u64) -> u8 {
    (word & word.wrapping_neg()).wrapping_sub(1).count_ones() as u8 & 63
}

/// BPF has no instruction for this, and what the compiler makes instead is dear to verify:
/// as a global function it is verified once, not in every pass of every loop (Linux 5.6).
#[cfg(target_arch = "bpf")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn highest_bit(word: u64) -> u64 {
    (word | 1).ilog2() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bit_of_every_shift_is_found() {
        for bit in 0..64 {
            assert_eq!(lowest(1 << bit), bit);
            assert_eq!(lowest(u64::MAX << bit), bit);
        }
    }

    #[test]
    fn the_highest_bit_of_every_shift_is_found() {
        assert_eq!(highest(0), 0);
        for bit in 0..64 {
            assert_eq!(highest(1 << bit), bit);
            assert_eq!(highest(u64::MAX >> (63 - bit)), bit);
        }
    }
}
