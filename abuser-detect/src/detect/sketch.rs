//! How many different things were seen, in bounded memory.
//!
//! An attacker chooses the ids, keys and addresses that are counted, so a set of them grows as he likes. Here a
//! few are kept exactly; when there are more, their hashes go into the registers of a
//! `HyperLogLog` (Flajolet and others, 2007), each of which remembers the longest run of zeros it has seen.
//!
//! The estimate is not the usual one over all registers but a sum kept while they change ("historic inverse
//! probability": Cohen, 2014; Ting, 2014): whenever a register changes, whatever had the chance `q` to change one has
//! come, and stands for `1/q` things. It has no bias at any size, an error of `0.83/√m` instead
//! of `1.04/√m`, and costs nothing to read. Sketches of this kind cannot be merged, which nobody needs here.
//!
//! The hashes are keyed, because who knows them could choose things that do not count, or one that
//! counts as millions.

/// Things that are kept exactly: as much memory as the registers.
const FEW: usize = 64;
/// Registers: a standard error of 0.83/√512 = 3.7 %.
const REGISTERS: usize = 512;
const REGISTER_BITS: u32 = REGISTERS.trailing_zeros();

/// A count of different things, by their keyed 64-bit hashes. At most 560 bytes, and 48 as long as there are none.
#[derive(Clone, Debug, Default)]
pub struct Distinct {
    seen: Seen,
    count: f64,
}

#[derive(Clone, Debug)]
enum Seen {
    Few(Vec<u64>),
    Many(Box<Registers>),
}

#[derive(Clone, Debug)]
struct Registers {
    longest: [u8; REGISTERS],
    /// The sum of 2^-longest over all registers; over their number it is the chance that
    /// something new changes one.
    open: f64,
}

impl Default for Seen {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Distinct {
    /// Takes note of a thing with that hash; whether it is known to be new.
    pub fn insert(&mut self, hash: u64) -> bool {
        match &mut self.seen {
            Seen::Few(few) => {
                if few.contains(&hash) {
                    return false;
                }
                if few.len() < FEW {
                    few.push(hash);
                    self.count += 1.0;
                    return true;
                }
                let mut registers = Box::new(Registers::default());
                for &hash in few.iter() {
                    registers.insert(hash);
                }
                let (new, stands_for) = registers.insert(hash);
                self.count += stands_for;
                self.seen = Seen::Many(registers);
                new
            }
            Seen::Many(registers) => {
                let (new, stands_for) = registers.insert(hash);
                self.count += stands_for;
                new
            }
        }
    }

    /// How many there were: exact up to 64, then within a few percent.
    pub fn count(&self) -> u32 {
        // From 0 up, and a cast of what is too large is the largest.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it saturates"
        )]
        let count = self.count.round() as u32;
        count
    }

    /// Forgets all, and gives back the memory.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.seen {
            Seen::Few(few) => few.capacity() * size_of::<u64>(),
            Seen::Many(_) => size_of::<Registers>(),
        }
    }
}

impl Default for Registers {
    fn default() -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let open = REGISTERS as f64;
        Self {
            longest: [0; REGISTERS],
            open,
        }
    }
}

impl Registers {
    /// Whether a register changed, and how many things that stands for.
    fn insert(&mut self, hash: u64) -> (bool, f64) {
        // The low bits choose the register, the others give the run of zeros.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "masked to the number of registers"
        )]
        let register = hash as usize & (REGISTERS - 1);
        let rest = hash >> REGISTER_BITS;
        let run = rest.leading_zeros() - REGISTER_BITS + 1;
        let run = u8::try_from(run).unwrap_or(u8::MAX);
        let Some(longest) = self.longest.get_mut(register) else {
            return (false, 0.0);
        };
        if run <= *longest {
            return (false, 0.0);
        }
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let chance = self.open / REGISTERS as f64;
        self.open -= weight(*longest) - weight(run);
        *longest = run;
        (true, 1.0 / chance)
    }
}

fn weight(run: u8) -> f64 {
    f64::powi(2.0, -i32::from(run))
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use foldhash::quality::FixedState;
    use proptest::prelude::*;

    use super::*;

    fn count(things: impl Iterator<Item = u64>, seed: u64) -> u32 {
        let state = FixedState::with_seed(seed);
        let mut distinct = Distinct::default();
        for thing in things {
            distinct.insert(state.hash_one(thing));
        }
        distinct.count()
    }

    #[test]
    fn a_few_are_counted_exactly_and_each_once() {
        for few in 0..=64 {
            assert_eq!(
                count((0..few).chain(0..few), 1),
                u32::try_from(few).expect("few")
            );
        }
    }

    #[test]
    fn many_are_counted_within_a_few_percent_whatever_they_are() {
        for many in [65_u64, 100, 300, 1_000, 5_000, 100_000] {
            let mut squares = 0.0;
            for seed in 0..50 {
                let counted = f64::from(count((0..many).map(|thing| thing * 4096), seed));
                #[expect(clippy::cast_precision_loss, reason = "a small number")]
                let error = counted / many as f64 - 1.0;
                assert!(error.abs() < 0.16, "{many} counted as {counted}");
                squares += error * error;
            }
            let error = f64::sqrt(squares / 50.0);
            assert!(error < 0.05, "a standard error of {error} for {many}");
        }
    }

    #[test]
    fn what_comes_again_does_not_count_again() {
        let once = count(0..10_000, 7);
        assert_eq!(count((0..10_000).cycle().take(50_000), 7), once);
    }

    #[test]
    fn memory_stays_the_same_however_many_there_are() {
        let state = FixedState::with_seed(1);
        let mut distinct = Distinct::default();
        for thing in 0..1_000_000_u64 {
            distinct.insert(state.hash_one(thing));
            assert!(distinct.heap_bytes() <= 520);
        }
        distinct.clear();
        assert_eq!((distinct.heap_bytes(), distinct.count()), (0, 0));
    }

    proptest! {
        #[test]
        fn any_hashes_count(hashes in prop::collection::vec(any::<u64>(), 0..300)) {
            let mut distinct = Distinct::default();
            for hash in &hashes {
                distinct.insert(*hash);
                prop_assert!(!distinct.insert(*hash));
            }
        }
    }
}
