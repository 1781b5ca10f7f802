//! The hints of the prefix tables: what the program reads before it looks a prefix up.
//!
//! A bit is set if and only if some entry calls for it. Several may call for the same, so
//! those beyond the first are counted here; most bits have but one.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::atomic::{AtomicU64, Ordering},
};

use abuser_common::{
    layout::maps,
    prefix::{
        FILTER_BITS, Family, HINTS, Lengths, List, PrefixKey, filter_bit, hint_index,
        neighbourhood_bit, shortest_hinted, shortest_near,
    },
};
use aya::Ebpf;
use foldhash::fast::RandomState;

use super::{
    error::DataplaneError,
    memory::{Words, assign},
};

const LISTS: usize = List::ALL.len();
const LENGTHS_WORDS: usize = 2 * LISTS;
const IPV4_WORDS: usize = LISTS * HINTS as usize;
const IPV6_WORDS: usize = 3 * LISTS * HINTS as usize;
const FILTER_WORDS: usize = 1 << (FILTER_BITS - u64::BITS.ilog2());

/// Which memory a bit lies in.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Area {
    Lengths,
    Ipv4,
    Ipv6,
    Filter,
}

/// One bit: its area, and its number there.
type Bit = (Area, u64);

/// The hints, in memory of the program's or of our own.
pub struct Hints<M = Words> {
    lengths: M,
    ipv4: M,
    ipv6: M,
    filter: M,
    /// How many entries call for a bit beyond the first, if any do.
    more: HashMap<Bit, u32, RandomState>,
}

impl Hints<Vec<AtomicU64>> {
    fn empty() -> Self {
        let words = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            lengths: words(LENGTHS_WORDS),
            ipv4: words(IPV4_WORDS),
            ipv6: words(IPV6_WORDS),
            filter: words(FILTER_WORDS),
            more: HashMap::default(),
        }
    }
}

impl Hints {
    pub(super) fn open(program: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            lengths: Words::open(program, maps::LENGTHS, LENGTHS_WORDS)?,
            ipv4: Words::open(program, maps::HINTS_IPV4, IPV4_WORDS)?,
            ipv6: Words::open(program, maps::HINTS_IPV6, IPV6_WORDS)?,
            filter: Words::open(program, maps::FILTER, FILTER_WORDS)?,
            more: HashMap::default(),
        })
    }
}

impl<M: Deref<Target = [AtomicU64]>> Hints<M> {
    /// Makes the hints exact for these entries, whatever they were. A bit that was right
    /// stays so all the while: the program may be using them.
    pub(super) fn rebuild<'a>(&mut self, entries: impl Iterator<Item = (List, &'a PrefixKey)>) {
        let mut fresh = Hints::empty();
        for (list, key) in entries {
            fresh.insert(list, key);
        }
        for (old, new) in [
            (&self.lengths, &fresh.lengths),
            (&self.ipv4, &fresh.ipv4),
            (&self.ipv6, &fresh.ipv6),
            (&self.filter, &fresh.filter),
        ] {
            assign(
                old.iter(),
                new.iter().map(|word| word.load(Ordering::Relaxed)),
            );
        }
        self.more = fresh.more;
    }

    /// Takes note of a new entry of `list`.
    pub(super) fn insert(&mut self, list: List, key: &PrefixKey) {
        for bit in bits(list, key).into_iter().flatten() {
            let Some((word, mask)) = self.word(bit) else {
                continue;
            };
            if word.fetch_or(mask, Ordering::SeqCst) & mask != 0 {
                *self.more.entry(bit).or_default() += 1;
            }
        }
    }

    /// Takes note that an entry of `list` is gone.
    pub(super) fn remove(&mut self, list: List, key: &PrefixKey) {
        for bit in bits(list, key).into_iter().flatten() {
            if let Some(more) = self.more.get_mut(&bit) {
                *more -= 1;
                if *more == 0 {
                    self.more.remove(&bit);
                }
            } else if let Some((word, mask)) = self.word(bit) {
                word.fetch_and(!mask, Ordering::SeqCst);
            }
        }
    }

    fn word(&self, (area, number): Bit) -> Option<(&AtomicU64, u64)> {
        let words = match area {
            Area::Lengths => &self.lengths,
            Area::Ipv4 => &self.ipv4,
            Area::Ipv6 => &self.ipv6,
            Area::Filter => &self.filter,
        };
        let index = usize::try_from(number / 64).ok()?;
        Some((words.get(index)?, 1 << (number % 64)))
    }
}

/// The bits that an entry calls for.
fn bits(list: List, key: &PrefixKey) -> [Option<Bit>; 4] {
    let (Some(source), Ok(length)) = (key.source(), u8::try_from(key.length)) else {
        return [None; 4];
    };
    let family = source.family;
    let second = u64::from(family == Family::V6);
    let for_all = (list as u64 * 2 + second) * 64;
    let filter = (Area::Filter, u64::from(filter_bit(list, &source, length)));
    if length < shortest_hinted(family) {
        let short = (Area::Lengths, for_all + u64::from(length));
        return [Some(filter), Some(short), None, None];
    }
    let longer = u64::from(Lengths::LONGER.trailing_zeros());
    let index = u64::from(hint_index(list, &source));
    let hint = match family {
        Family::V4 => (Area::Ipv4, index * 64 + u64::from(length)),
        Family::V6 => (Area::Ipv6, index * 3 * 64 + u64::from(length)),
    };
    // What is read first is set last.
    let near = (length >= shortest_near(family))
        .then(|| (Area::Filter, u64::from(neighbourhood_bit(list, &source))));
    [
        Some(filter),
        near,
        Some(hint),
        Some((Area::Lengths, for_all + longer)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{
        collections::BTreeSet,
        net::{IpAddr, Ipv4Addr, Ipv6Addr},
    };

    type TestHints = Hints<Vec<AtomicU64>>;

    /// The words that are not zero.
    fn words(hints: &TestHints) -> Vec<(usize, usize, u64)> {
        [&hints.lengths, &hints.ipv4, &hints.ipv6, &hints.filter]
            .into_iter()
            .enumerate()
            .flat_map(|(area, words)| {
                words.iter().enumerate().filter_map(move |(index, word)| {
                    let word = word.load(Ordering::Relaxed);
                    (word != 0).then_some((area, index, word))
                })
            })
            .collect()
    }

    /// Prefixes that often share hints.
    fn entry() -> impl Strategy<Value = (List, PrefixKey)> {
        let list = prop::sample::select(&List::ALL[..]);
        let v4 = (0_u32..4, 0_u8..=32).prop_map(|(n, length)| {
            PrefixKey::new(
                IpAddr::V4(Ipv4Addr::from(0xc633_6400 | n << 15 | n)),
                length,
            )
        });
        let v6 = (0_u128..4, 0_u8..=128).prop_map(|(n, length)| {
            let address = 0x2001_0db8_u128 << 96 | n << 70 | n;
            PrefixKey::new(IpAddr::V6(Ipv6Addr::from(address)), length)
        });
        (
            list,
            prop_oneof![v4, v6].prop_map(|key| key.expect("a length that fits")),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// After any sequence of inserts and removals (expiries are removals) the hints are
        /// those of the entries that are left, to the bit.
        #[test]
        fn hints_are_exact_after_any_sequence(
            steps in prop::collection::vec((any::<bool>(), entry()), 0..150),
        ) {
            let mut hints = TestHints::empty();
            let mut entries = BTreeSet::new();
            for (insert, (list, key)) in steps {
                if insert {
                    if entries.insert((list as u32, key)) {
                        hints.insert(list, &key);
                    }
                } else if entries.remove(&(list as u32, key)) {
                    hints.remove(list, &key);
                }
            }
            let left: Vec<_> = entries
                .iter()
                .map(|(list, key)| (List::ALL[*list as usize], *key))
                .collect();
            let mut expected = TestHints::empty();
            for (list, key) in &left {
                expected.insert(*list, key);
            }
            prop_assert_eq!(words(&hints), words(&expected));
            // Stale hints of whatever origin are put right.
            hints.ipv4[7].store(u64::MAX, Ordering::Relaxed);
            hints.rebuild(left.iter().map(|(list, key)| (*list, key)));
            prop_assert_eq!(words(&hints), words(&expected));
            // A daemon that adopts entries knows which of them share hints.
            let mut adopted = TestHints::empty();
            adopted.rebuild(left.iter().map(|(list, key)| (*list, key)));
            let (gone, rest) = left.split_at(left.len() / 2);
            for (list, key) in gone {
                adopted.remove(*list, key);
                hints.remove(*list, key);
            }
            let mut expected = TestHints::empty();
            for (list, key) in rest {
                expected.insert(*list, key);
            }
            prop_assert_eq!(words(&adopted), words(&expected));
            prop_assert_eq!(words(&hints), words(&expected));
        }
    }
}
