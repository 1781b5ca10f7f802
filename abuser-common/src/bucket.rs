//! The bucket table: one word a source and limit, eight words a set, one cache line a set.
//!
//! ```text
//! word = limit's slot (6 bits) | tag (20 bits) | tat (38 bits, ticks of the limit)
//! ```
//!
//! A keyed bijection maps a masked source to a set and a tag. For IPv4 slot, set and tag
//! together are the limit and the address, exactly: no source is ever charged for
//! another's packets. IPv6 addresses are hashed to the same 38 bits; the key is drawn when
//! the maps are made, and no one outside can tell which addresses share a word.
//!
//! A word whose `tat` is past is a full bucket: the same as no word. So a new source takes
//! such a slot (rather one that was full for a while, for the sake of CPUs that were held
//! up), and nothing is lost; if there is none, it takes the one that is due to be full
//! first, so that sources of one packet make room for each other and heavy ones stay.
//!
//! Every change is one compare-and-swap of limit, source and time together. Two CPUs can
//! neither spend one token twice nor open two buckets for one source: who opens a bucket
//! looks at the set again, and takes its own back if there is another; who finds two
//! charges neither.

use crate::{
    atomic::{Shared, Word},
    gcra::{KernelTime, RING, RING_BITS, Rate, Scale},
    prefix::{Family, Source},
};

/// Binary logarithm of the number of sets.
pub const SET_BITS: u32 = 18;

/// Words in a set.
pub const WORDS: u32 = 8;

/// How often a lost compare-and-swap is tried again before the packet counts as over.
///
/// Each loss means that another CPU changed the same word meanwhile.
pub const ATTEMPTS: u32 = 8;

/// How long a CPU may be held up between reading the clock and using what it read, in
/// nanoseconds. By its clock a bucket may not be full that is by another's: so none is taken
/// for full before it has been for so long. An interrupt takes microseconds, and a
/// hypervisor some milliseconds.
const HELD_UP_NS: u64 = 20_000_000;

/// Bits that name a source: a set and a tag.
const PLACE_BITS: u32 = 38;
const PLACES: u64 = (1 << PLACE_BITS) - 1;
const TAG_BITS: u32 = PLACE_BITS - SET_BITS;
const SLOT_BITS: u32 = 6;

const _: () = assert!(SLOT_BITS + TAG_BITS + RING_BITS == u64::BITS);

/// Eight words that share a cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// See the module.
    pub words: [u64; WORDS as usize],
}

const _: () = assert!(size_of::<Set>() == 64);

impl<'a> Shared<'a, Set> {
    /// Word `index` modulo [`WORDS`].
    #[inline(always)]
    pub fn word(&self, index: u32) -> Word<'a> {
        let first = self.as_ptr().cast::<u64>();
        // SAFETY: `Shared::new` promises a live, aligned set for 'a, and the masked index
        // lies within it.
        unsafe { Word::new(first.add((index & (WORDS - 1)) as usize)) }
    }
}

/// What makes places unpredictable. Drawn once for a table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key(pub [u64; 4]);

/// Where the bucket of a source under a limit lies: its 38 bits, of 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place(u64);

impl Place {
    /// The place of a source, masked as the limit says, under the limit with this slot.
    #[inline(always)]
    pub const fn new(key: &Key, slot: u8, source: &Source) -> Self {
        let [first, second, third, fourth] = key.0;
        let name = match source.family {
            // Below every name of an IPv6 source.
            Family::V4 => source.high >> 32,
            Family::V6 => {
                const NAMES: u64 = 1 << (PLACE_BITS - 1);
                let mixed = mix(source.high ^ first, third);
                NAMES | mix(mixed ^ source.low ^ second, fourth) & (NAMES - 1)
            }
        };
        // Spread over the sets by limit, too: one source under many limits fits.
        let name = name.wrapping_add(first.wrapping_add(GOLDEN.wrapping_mul(slot as u64)));
        Self(permute(permute(permute(name, second), third), fourth))
    }

    /// The set.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "18 bits")]
    pub const fn set(self) -> u32 {
        (self.0 >> TAG_BITS) as u32
    }

    /// All bits of the place.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }

    #[inline(always)]
    const fn tag(self) -> u64 {
        self.0 & ((1 << TAG_BITS) - 1)
    }
}

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One round of the bijection: an odd factor, then the upper half into the lower.
#[inline(always)]
const fn permute(name: u64, key: u64) -> u64 {
    let name = name.wrapping_mul(key | 1) & PLACES;
    name ^ name >> (PLACE_BITS / 2)
}

/// One round of the hash of an IPv6 address.
#[inline(always)]
const fn mix(word: u64, key: u64) -> u64 {
    let word = word.wrapping_mul(GOLDEN);
    let word = (word ^ word >> 32).wrapping_mul(key | 1);
    word ^ word >> 29
}

/// One packet of one source under one limit, to be charged.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The limit's slot: its number in words.
    pub slot: u8,
    /// The limit's rate.
    pub rate: &'a Rate,
    /// Where the source's bucket lies.
    pub place: Place,
    /// When.
    pub now: KernelTime,
    /// What it costs, in the rate's units.
    pub cost: u64,
}

impl Packet<'_> {
    /// The time by which buckets are told to be full for good.
    #[inline(always)]
    const fn past(&self) -> KernelTime {
        KernelTime(self.now.0.saturating_sub(HELD_UP_NS))
    }

    #[inline(always)]
    const fn id(&self) -> u64 {
        ((self.slot as u64) << TAG_BITS | self.place.tag()) << RING_BITS
    }

    /// The word of this source with a `tat` that is `ahead` of the clock.
    #[inline(always)]
    const fn word(&self, ahead: u64) -> u64 {
        let now = self.rate.scale.ticks(self.now);
        let word = self.id() | now.wrapping_add(ahead) & RING;
        // Zero is an empty slot: rather a tick more than a bucket forgotten.
        if word == 0 { 1 } else { word }
    }
}

/// The limit's slot in a word that is not zero.
#[inline(always)]
pub const fn slot_of(word: u64) -> u8 {
    (word >> (TAG_BITS + RING_BITS)) as u8
}

/// How far a word's `tat` is ahead of the clock in its limit's ticks; 0: the bucket is full.
#[inline(always)]
pub const fn ahead(word: u64, scale: Scale, now: KernelTime) -> u64 {
    if word == 0 {
        return 0;
    }
    scale.ahead(word & RING, scale.ticks(now))
}

/// How far the `tat` of the packet's source is ahead of the clock, in ticks of its limit, by what
/// its set holds; 0: its bucket is full. For who only looks.
pub fn level(set: &[u64], packet: &Packet<'_>) -> u64 {
    let own = set.iter().filter(|word| **word & !RING == packet.id());
    let ahead = own.map(|word| ahead(*word, packet.rate.scale, packet.now));
    ahead.max().unwrap_or(0)
}

/// What an attempt to charge a bucket came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Within the limit; the bucket paid.
    Conforms,
    /// As `Conforms`, and another source's bucket that was not full made room.
    Evicts,
    /// Over the limit; the bucket is unchanged.
    Over,
    /// Another CPU changed the word meanwhile, and nothing was charged: to be tried again, [`ATTEMPTS`] times in
    /// all.
    Lost,
    /// Two CPUs opened the bucket at once; counts as over, and is counted by itself.
    Contended,
}

/// What a set holds of a source.
#[derive(Clone, Copy)]
struct Found {
    /// Words of the source that are not long full, and so count.
    count: u32,
    /// The last of them.
    index: u32,
    word: u64,
}

#[inline(always)]
fn find(set: Shared<'_, Set>, packet: &Packet<'_>) -> Found {
    let mut found = Found {
        count: 0,
        index: 0,
        word: 0,
    };
    let id = packet.id();
    for index in 0..WORDS {
        let word = set.word(index).load();
        if word & !RING == id && ahead(word, packet.rate.scale, packet.past()) != 0 {
            found = Found {
                count: found.count + 1,
                index,
                word,
            };
        }
    }
    found
}

/// A slot to open a bucket in.
struct Room {
    index: u32,
    word: u64,
    /// How long its bucket takes to be full, in nanoseconds; 0: it is.
    full_in: u64,
}

/// The slot that is full, or will be first.
#[inline(always)]
fn room(set: Shared<'_, Set>, now: KernelTime, scale: impl Fn(u8) -> Scale) -> Room {
    let mut room = Room {
        index: 0,
        word: 0,
        full_in: u64::MAX,
    };
    for index in 0..WORDS {
        let word = set.word(index).load();
        let scale = scale(slot_of(word));
        let full_in = scale.nanoseconds(ahead(word, scale, now));
        if full_in < room.full_in {
            room = Room {
                index,
                word,
                full_in,
            };
        }
        if full_in == 0 {
            break;
        }
    }
    room
}

/// Charges a packet to its source's bucket in `set`, opening one if there is none; `scale`
/// tells the scale of the limit with a slot.
#[inline(always)]
pub fn charge_once(
    set: Shared<'_, Set>,
    packet: &Packet<'_>,
    scale: impl Fn(u8) -> Scale,
) -> Charge {
    let found = find(set, packet);
    if found.count > 1 {
        return Charge::Contended;
    }
    if found.count == 1 {
        let ahead = ahead(found.word, packet.rate.scale, packet.now);
        let Some(ahead) = packet.rate.admit(ahead, packet.cost) else {
            return Charge::Over;
        };
        let new = packet.word(ahead);
        return if set.word(found.index).compare_exchange(found.word, new) {
            Charge::Conforms
        } else {
            Charge::Lost
        };
    }
    // A full bucket admits anything.
    let Some(ahead) = packet.rate.admit(0, packet.cost) else {
        return Charge::Over;
    };
    let new = packet.word(ahead);
    let room = room(set, packet.past(), &scale);
    let slot = set.word(room.index);
    if !slot.compare_exchange(room.word, new) {
        return Charge::Lost;
    }
    if find(set, packet).count > 1 {
        slot.compare_exchange(new, 0);
        return Charge::Contended;
    }
    // Full by this CPU's clock, if not for long: nothing was lost.
    if room.full_in <= HELD_UP_NS {
        Charge::Conforms
    } else {
        Charge::Evicts
    }
}

/// Whether a packet would conform; changes nothing.
#[inline(always)]
pub fn conforms(set: Shared<'_, Set>, packet: &Packet<'_>) -> bool {
    let found = find(set, packet);
    match found.count {
        0 => true,
        1 => {
            let ahead = ahead(found.word, packet.rate.scale, packet.now);
            packet.rate.admit(ahead, packet.cost).is_some()
        }
        _ => false,
    }
}

// Down here because the lines above are recorded in the program's debug information.
mod inverse;
pub use self::inverse::Inverse;

#[cfg(not(target_arch = "bpf"))]
mod used;
#[cfg(not(target_arch = "bpf"))]
pub use self::used::used;

#[cfg(test)]
mod tests;
