//! Which sources are known to be no forgeries.
//!
//! Whoever can forge a source address must not be able to get its owner banned. A source
//! that has a TCP connection to this host has answered to what was sent to it, and so is
//! where it says. A SYN belongs to no connection yet; for limits that count connections the
//! source must have spoken shortly before. So segments that claim to belong to a connection
//! are looked up in the kernel's sockets, and what came of it is noted in a table of sets,
//! as buckets are:
//!
//! ```text
//! word = tag (22 bits) | last found (22 bits) | next look-up (20 bits), in 2^26 ns
//! ```
//!
//! A source that was found is looked up again after a minute, and one that was not after a
//! second: its first segments may come before the kernel has made the connection. One whose
//! connection is just being made is not noted, and looked up again with its next segment. All
//! look-ups have a budget on each CPU. A source that is not verified never takes the place of one
//! that is: who forges can fill the table with nothing.

use crate::{
    atomic::Shared,
    bucket::{Key, Place, Set, WORDS},
    gcra::KernelTime,
    prefix::Source,
};

/// Binary logarithm of the number of sets.
pub const SET_BITS: u32 = 16;

/// How long a source stays verified without being found again: it is looked up each minute
/// while it speaks, and this is twice that.
const VALID: u64 = 120_000_000_000 >> TIME_SHIFT;

const TAG_BITS: u32 = 22;
const FOUND_BITS: u32 = 22;
const NEXT_BITS: u32 = u64::BITS - TAG_BITS - FOUND_BITS;
const FOUND: u64 = (1 << FOUND_BITS) - 1;
const NEXT: u64 = (1 << NEXT_BITS) - 1;
const STATE: u64 = (1 << (FOUND_BITS + NEXT_BITS)) - 1;
/// A unit of time is 67 ms.
const TIME_SHIFT: u32 = 26;
/// How long after a source was found it is looked up again.
const RECHECK: u64 = 60_000_000_000 >> TIME_SHIFT;
/// How long after it was not.
const RETRY: u64 = 1_000_000_000 >> TIME_SHIFT;

/// The slot that no limit has.
const SLOT: u8 = u8::MAX;

/// Where a source is noted.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    place: u64,
}

impl Note {
    /// Where `source`, as a whole address, is noted.
    #[inline(always)]
    pub const fn new(key: &Key, source: &Source) -> Self {
        Self {
            place: Place::new(key, SLOT, source).bits(),
        }
    }

    /// The set.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "16 bits")]
    pub const fn set(self) -> u32 {
        (self.place >> TAG_BITS) as u32
    }

    #[inline(always)]
    const fn tag(self) -> u64 {
        self.place << (u64::BITS - TAG_BITS)
    }

    /// What is noted of the source in its set; 0: nothing.
    #[inline(always)]
    fn find(self, set: Shared<'_, Set>) -> u64 {
        let mut found = 0;
        for index in 0..WORDS {
            let word = set.word(index).load();
            if word & !STATE == self.tag() && word & STATE != 0 {
                found = word;
            }
        }
        found
    }

    /// Whether the source is known to be no forgery.
    #[inline(always)]
    pub fn is_verified(self, set: Shared<'_, Set>, now: KernelTime) -> bool {
        is_valid(self.find(set), now)
    }

    /// Whether the source is to be looked up.
    #[inline(always)]
    pub fn is_due(self, set: Shared<'_, Set>, now: KernelTime) -> bool {
        let word = self.find(set);
        // At most a minute is to be waited; what seems longer is of long ago.
        let wait = word.wrapping_sub(units(now)) & NEXT;
        word == 0 || wait == 0 || wait > RECHECK
    }

    /// Notes what a look-up found.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
    pub fn write(self, set: Shared<'_, Set>, now: KernelTime, connected: bool) {
        // One after the other, and not all at once with the best kept: the verifier would
        // follow every order that they may come in.
        let mut index = WORDS;
        for candidate in 0..WORDS {
            if set.word(candidate).load() & !STATE == self.tag() {
                index = candidate;
                break;
            }
        }
        let own = index < WORDS;
        if !own {
            for candidate in 0..WORDS {
                if !is_valid(set.word(candidate).load(), now) {
                    index = candidate;
                    break;
                }
            }
        }
        if index == WORDS {
            if !connected {
                return;
            }
            // All are verified: any of them makes room.
            index = units(now) as u32;
        }
        let old = set.word(index).load();
        // A look-up that failed says nothing against one that did not.
        let found = if connected {
            found(now)
        } else if own && is_valid(old, now) {
            old & FOUND << NEXT_BITS
        } else {
            0
        };
        let wait = if connected { RECHECK } else { RETRY };
        let next = (units(now) + wait) & NEXT;
        // Never all zeros, which is no note at all.
        let next = if found | next == 0 { 1 } else { next };
        // Whoever was faster noted something as true.
        set.word(index)
            .compare_exchange(old, self.tag() | found | next);
    }
}

/// Whether a word tells of a source that was found not long ago.
#[inline(always)]
pub const fn is_valid(word: u64, now: KernelTime) -> bool {
    word >> NEXT_BITS & FOUND != 0 && age(word, now) < VALID
}

#[inline(always)]
const fn units(now: KernelTime) -> u64 {
    now.0 >> TIME_SHIFT
}

/// The part of a word that says that its source was found now; never 0.
#[inline(always)]
const fn found(now: KernelTime) -> u64 {
    (units(now) & FOUND | 1) << NEXT_BITS
}

/// How long ago a word's source was found.
#[inline(always)]
const fn age(word: u64, now: KernelTime) -> u64 {
    let age = (found(now).wrapping_sub(word & FOUND << NEXT_BITS) >> NEXT_BITS) & FOUND;
    // Another CPU's clock may be ahead.
    if age > FOUND / 2 { 0 } else { age }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::NonNull;

    const KEY: Key = Key([3, 5, 7, 11]);
    const NOW: KernelTime = KernelTime(5_000_000_000_000);

    fn after(seconds: u64) -> KernelTime {
        KernelTime(NOW.0 + seconds * 1_000_000_000)
    }

    fn note(n: u8) -> Note {
        Note::new(&KEY, &Source::v4([203, 0, 113, n]))
    }

    /// Works on one set, whichever notes belong there.
    fn with_set(test: impl FnOnce(Shared<'_, Set>)) {
        let mut set = Set::default();
        // SAFETY: the set outlives the test and nobody else touches it.
        test(unsafe { Shared::new(NonNull::from(&mut set)) });
    }

    #[test]
    fn a_source_that_was_found_is_verified_for_two_minutes_and_due_after_one() {
        with_set(|set| {
            assert!(note(1).is_due(set, NOW));
            assert!(!note(1).is_verified(set, NOW));
            note(1).write(set, NOW, true);
            assert!(!note(1).is_due(set, after(59)));
            assert!(note(1).is_due(set, after(61)));
            assert!(note(1).is_verified(set, after(119)));
            assert!(!note(1).is_verified(set, after(121)));
            assert!(!note(2).is_verified(set, NOW), "another source is not");
            note(2).write(set, after(1), true);
            assert!(note(2).is_verified(set, NOW), "by a clock that is behind");
        });
    }

    #[test]
    fn a_source_that_was_not_found_is_due_after_a_second() {
        with_set(|set| {
            note(1).write(set, NOW, false);
            assert!(!note(1).is_due(set, NOW));
            assert!(note(1).is_due(set, after(2)));
            assert!(!note(1).is_verified(set, NOW));
        });
    }

    #[test]
    fn a_verified_source_that_is_not_found_again_is_not_looked_up_with_each_packet() {
        with_set(|set| {
            note(1).write(set, NOW, true);
            assert!(note(1).is_due(set, after(61)));
            note(1).write(set, after(61), false);
            assert!(!note(1).is_due(set, after(61)));
            assert!(note(1).is_verified(set, after(61)));
            assert!(note(1).is_due(set, after(63)));
            assert!(!note(1).is_verified(set, after(121)));
        });
    }

    #[test]
    fn a_failed_look_up_does_not_undo_a_good_one() {
        with_set(|set| {
            note(1).write(set, NOW, true);
            note(1).write(set, after(61), false);
            assert!(note(1).is_verified(set, after(62)));
            note(1).write(set, after(200), false);
            assert!(!note(1).is_verified(set, after(200)));
        });
    }

    #[test]
    fn forgeries_never_displace_verified_sources_but_expired_ones() {
        with_set(|set| {
            for n in 0..8 {
                note(n).write(set, NOW, true);
            }
            for n in 8..100 {
                note(n).write(set, after(1), false);
            }
            assert!((0..8).all(|n| note(n).is_verified(set, after(1))));
            note(100).write(set, after(2), true);
            assert!(
                note(100).is_verified(set, after(2)),
                "a verified source does"
            );
            note(101).write(set, after(130), false);
            assert!(!note(101).is_due(set, after(130)));
        });
    }
}
