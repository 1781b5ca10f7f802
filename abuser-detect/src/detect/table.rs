//! The bounded memory of a detector: what it knows of each source, key or whatever else it counts by.
//!
//! Attackers choose the keys and how many there are. So there is room for a number of them, and when it is used
//! up whoever was quiet for longest is forgotten; and the hash has a secret seed, so
//! that nobody can choose keys that collide.
//!
//! Sources come by the million, so bytes count. A map that holds keys and values itself has room for twice as many as
//! it holds, and for thrice as many while it grows. Here the values lie densely in a
//! vector, in no order, linked from the newest to the oldest; the map is an index of five bytes for each place. Growing
//! copies the index only, because the allocator moves pages of a large vector, not bytes.

use std::hash::{BuildHasher, Hash};

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use super::Occupancy;

/// Bytes on the heap that the values of a small table may hold, so that a single busy key always fits.
pub const LEAST_HEAP: usize = 1 << 20;

/// No slot.
const NONE: u32 = u32::MAX;

/// At most so many keys, each with a value; whoever was quiet for longest is forgotten first.
pub struct Table<K, V> {
    index: HashTable<u32>,
    slots: Vec<Slot<K, V>>,
    hasher: RandomState,
    newest: u32,
    oldest: u32,
    capacity: usize,
    evicted: u64,
}

struct Slot<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
}

/// Where a key is.
struct Place<V> {
    slot: usize,
    is_new: bool,
    /// What had to go for it.
    evicted: Option<V>,
}

impl<K: Hash + Eq, V> Table<K, V> {
    /// An empty table with room for `capacity` keys: one at least, four billion at most. Memory is
    /// taken as keys come.
    pub fn new(capacity: usize) -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            hasher: RandomState::default(),
            newest: NONE,
            oldest: NONE,
            capacity: capacity.clamp(1, NONE as usize),
            evicted: 0,
        }
    }

    /// The value of a key, which is `new` if it has none; the key is the newest now.
    pub fn get_or_insert_with(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        let Place { slot, .. } = self.renew_or_insert(key, new);
        &mut self.slots[slot].value
    }

    /// The value of a key, which is the newest now.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let slot = self.find(key)?;
        self.renew(slot);
        self.slots
            .get_mut(slot as usize)
            .map(|slot| &mut slot.value)
    }

    /// The value of a key, which becomes no newer by that.
    pub fn peek(&self, key: &K) -> Option<&V> {
        let slot = self.find(key)?;
        self.slots.get(slot as usize).map(|slot| &slot.value)
    }

    /// Forgets a key; its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.find(key)?;
        Some(self.take(slot).1)
    }

    /// Forgets whoever was quiet for longest, to make room.
    pub fn evict_oldest(&mut self) -> Option<(K, V)> {
        if self.oldest == NONE {
            return None;
        }
        self.evicted += 1;
        Some(self.take(self.oldest))
    }

    /// All keys with their values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().map(|slot| (&slot.key, &slot.value))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How much is remembered.
    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            tracked: self.slots.len(),
            capacity: self.capacity,
            evicted: self.evicted,
        }
    }

    /// The slot of a key, which is the newest now.
    fn renew_or_insert(&mut self, key: K, new: impl FnOnce() -> V) -> Place<V> {
        let hash = self.hasher.hash_one(&key);
        if let Some(slot) = self.find_hashed(hash, &key) {
            self.renew(slot);
            return Place {
                slot: slot as usize,
                is_new: false,
                evicted: None,
            };
        }
        let full = self.slots.len() >= self.capacity;
        let evicted = full.then(|| self.evict_oldest()).flatten();
        let place = self.slots.len();
        // Below the capacity, which is below `NONE`.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "slots are counted in 32 bits"
        )]
        let slot = place as u32;
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, slot, |&slot| {
            hasher.hash_one(&slots[slot as usize].key)
        });
        self.slots.push(Slot {
            key,
            value: new(),
            newer: NONE,
            older: NONE,
        });
        self.link(slot);
        Place {
            slot: place,
            is_new: true,
            evicted: evicted.map(|(_, value)| value),
        }
    }

    fn find(&self, key: &K) -> Option<u32> {
        self.find_hashed(self.hasher.hash_one(key), key)
    }

    fn find_hashed(&self, hash: u64, key: &K) -> Option<u32> {
        let slots = &self.slots;
        let found = self
            .index
            .find(hash, |&slot| slots[slot as usize].key == *key);
        found.copied()
    }

    fn renew(&mut self, slot: u32) {
        if self.newest != slot {
            self.unlink(slot);
            self.link(slot);
        }
    }

    /// Makes a slot that is in no list the newest.
    fn link(&mut self, slot: u32) {
        self.slots[slot as usize].older = self.newest;
        self.slots[slot as usize].newer = NONE;
        match self.slots.get_mut(self.newest as usize) {
            Some(newest) => newest.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }

    /// Takes a slot out of the list.
    fn unlink(&mut self, slot: u32) {
        let Slot { newer, older, .. } = self.slots[slot as usize];
        self.relink(newer, older, older, newer);
    }

    /// Lets the neighbours of a slot know where it is, or who follows it: `to_newer` is what its newer
    /// neighbour has as the older one.
    fn relink(&mut self, newer: u32, older: u32, to_newer: u32, to_older: u32) {
        match self.slots.get_mut(newer as usize) {
            Some(neighbour) => neighbour.older = to_newer,
            None => self.newest = to_newer,
        }
        match self.slots.get_mut(older as usize) {
            Some(neighbour) => neighbour.newer = to_older,
            None => self.oldest = to_older,
        }
    }

    /// Takes out what is in a slot, which the last one moves into.
    fn take(&mut self, slot: u32) -> (K, V) {
        self.unlink(slot);
        self.unindex(slot, None);
        let taken = self.slots.swap_remove(slot as usize);
        if let Some(moved) = self.slots.get(slot as usize) {
            let Slot { newer, older, .. } = *moved;
            self.relink(newer, older, slot, slot);
            // `swap_remove` made the vector one shorter: its length is where that slot was.
            #[expect(
                clippy::cast_possible_truncation,
                reason = "slots are counted in 32 bits"
            )]
            let was = self.slots.len() as u32;
            self.unindex(was, Some(slot));
        }
        (taken.key, taken.value)
    }

    /// Takes the index entry of a slot away, or lets it say where the slot is now.
    fn unindex(&mut self, slot: u32, now: Option<u32>) {
        let at = now.unwrap_or(slot) as usize;
        let hash = self.hasher.hash_one(&self.slots[at].key);
        if let Ok(mut entry) = self.index.find_entry(hash, |&other| other == slot) {
            match now {
                Some(now) => *entry.get_mut() = now,
                None => drop(entry.remove()),
            }
        }
    }
}

/// Makes short keys of texts of any length, so that long keys cost no memory: 128 bits that
/// nobody can foresee. Two texts share one by chance once in 10^26 pairs.
#[derive(Clone, Default)]
pub struct TextKeys {
    // Two functions that have nothing in common but their input.
    sip: std::hash::RandomState,
    fold: RandomState,
}

/// What stands for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TextKey(u64, u64);

impl TextKeys {
    /// What stands for `text` here; other `TextKeys` make something else of it.
    pub fn key(&self, text: &str) -> TextKey {
        TextKey(self.sip.hash_one(text), self.fold.hash_one(text))
    }
}

/// What a table holds for a key, of which some lies on the heap.
pub trait Weigh {
    /// Bytes on the heap.
    fn heap_bytes(&self) -> usize;
}

/// A [`Table`] whose values grow with what they have seen: bounded not only in its number of keys but
/// also in what all of them hold on the heap.
pub struct WeighedTable<K, V> {
    table: Table<K, V>,
    heap_bytes: usize,
    heap_budget: usize,
}

impl<K: Hash + Eq, V: Weigh> WeighedTable<K, V> {
    /// An empty table with room for `capacity` keys whose values hold at most `heap_budget` bytes on
    /// the heap together; a single one may hold more.
    pub fn new(capacity: usize, heap_budget: usize) -> Self {
        Self {
            table: Table::new(capacity),
            heap_bytes: 0,
            heap_budget,
        }
    }

    /// The same with so many bytes on the heap for each key that there is room for, but at least
    /// [`LEAST_HEAP`].
    pub fn with_heap_per_key(capacity: usize, bytes: usize) -> Self {
        Self::new(capacity, capacity.saturating_mul(bytes).max(LEAST_HEAP))
    }

    /// Changes the value of a key, which is `new` if it has none; the key is the newest now. If the value
    /// has grown too much, others are forgotten for it, those first that were quiet for longest.
    pub fn update<R>(
        &mut self,
        key: K,
        new: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> R {
        let Place {
            slot,
            is_new,
            evicted,
        } = self.table.renew_or_insert(key, new);
        let evicted_bytes = evicted.map_or(0, |evicted| evicted.heap_bytes());
        let value = &mut self.table.slots[slot].value;
        // What is new was not counted yet, whatever it holds.
        let before = if is_new { 0 } else { value.heap_bytes() };
        let result = change(value);
        let after = value.heap_bytes();
        self.heap_bytes = (self.heap_bytes + after).saturating_sub(before + evicted_bytes);
        while self.heap_bytes > self.heap_budget && self.table.len() > 1 {
            let Some((_, evicted)) = self.table.evict_oldest() else {
                break;
            };
            self.heap_bytes = self.heap_bytes.saturating_sub(evicted.heap_bytes());
        }
        result
    }

    /// The value of a key, which becomes no newer by that.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.table.peek(key)
    }

    /// Forgets a key; its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let value = self.table.remove(key)?;
        self.heap_bytes = self.heap_bytes.saturating_sub(value.heap_bytes());
        Some(value)
    }

    /// What all values hold on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }

    /// How much is remembered.
    pub fn occupancy(&self) -> Occupancy {
        self.table.occupancy()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Weigh for Vec<u8> {
        fn heap_bytes(&self) -> usize {
            self.capacity()
        }
    }

    fn keys<K: Hash + Eq + Copy + Ord, V>(table: &Table<K, V>) -> Vec<K> {
        let mut keys: Vec<K> = table.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn whoever_was_quiet_for_longest_is_forgotten_when_there_is_no_room() {
        let mut table = Table::new(3);
        for key in [1, 2, 3, 1, 4] {
            *table.get_or_insert_with(key, || 0) += 1;
        }
        assert_eq!(keys(&table), [1, 3, 4]);
        assert_eq!(
            table.peek(&1),
            Some(&2),
            "what is known of the others stays"
        );
        let expected = Occupancy {
            tracked: 3,
            capacity: 3,
            evicted: 1,
        };
        assert_eq!(table.occupancy(), expected);
    }

    #[test]
    fn to_look_at_a_key_makes_it_no_newer_and_to_change_it_does() {
        let mut table = Table::new(2);
        table.get_or_insert_with(1, || ());
        table.get_or_insert_with(2, || ());
        table.peek(&1);
        table.get_or_insert_with(3, || ());
        assert_eq!(keys(&table), [2, 3]);
        table.get_mut(&2);
        table.get_or_insert_with(4, || ());
        assert_eq!(keys(&table), [2, 4]);
    }

    #[test]
    fn a_table_for_nobody_has_room_for_one() {
        let mut table = Table::new(0);
        table.get_or_insert_with(1, || ());
        table.get_or_insert_with(2, || ());
        assert_eq!(keys(&table), [2]);
        assert_eq!(table.occupancy().evicted, 1);
    }

    #[test]
    fn what_grows_too_large_displaces_the_quiet_ones_and_never_itself() {
        let mut table = WeighedTable::new(100, 100);
        for key in 0..10 {
            table.update(key, Vec::new, |bytes| bytes.reserve_exact(10));
        }
        assert_eq!((table.heap_bytes(), table.occupancy().evicted), (100, 0));
        table.update(9, Vec::new, |bytes| bytes.reserve_exact(35));
        assert_eq!((table.heap_bytes(), table.occupancy().evicted), (95, 3));
        assert!(table.peek(&2).is_none() && table.peek(&3).is_some());
        table.update(5, Vec::new, |bytes| bytes.reserve_exact(1000));
        assert_eq!((table.heap_bytes(), table.occupancy().tracked), (1000, 1));
        table.remove(&5);
        assert_eq!(table.heap_bytes(), 0);
    }

    #[test]
    fn a_text_has_one_key_and_other_texts_others() {
        let texts = TextKeys::default();
        assert_eq!(texts.key("alice"), texts.key("alice"));
        assert_ne!(texts.key("alice"), texts.key("bob"));
        assert_ne!(texts.key("alice"), TextKeys::default().key("alice"));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8),
        Get(u8),
        Remove(u8),
        Evict,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..40_u8).prop_map(Step::Insert),
            2 => (0..40_u8).prop_map(Step::Get),
            1 => (0..40_u8).prop_map(Step::Remove),
            1 => Just(Step::Evict),
        ]
    }

    proptest! {
        /// The model is a list from the oldest to the newest.
        #[test]
        fn a_table_is_a_list_that_forgets_its_head(
            capacity in 1..30_usize,
            steps in prop::collection::vec(step(), 0..400),
        ) {
            let mut table = Table::new(capacity);
            let mut model: Vec<(u8, usize)> = Vec::new();
            let mut evicted = 0;
            for (at, step) in steps.into_iter().enumerate() {
                let place = |model: &[(u8, usize)], key| model.iter().position(|one| one.0 == key);
                match step {
                    Step::Insert(key) => {
                        let known = place(&model, key).map(|place| model.remove(place));
                        if known.is_none() && model.len() == capacity {
                            model.remove(0);
                            evicted += 1;
                        }
                        model.push(known.unwrap_or((key, at)));
                        prop_assert_eq!(*table.get_or_insert_with(key, || at), model[model.len() - 1].1);
                    }
                    Step::Get(key) => {
                        let known = place(&model, key).map(|place| model.remove(place));
                        model.extend(known);
                        prop_assert_eq!(table.get_mut(&key).copied(), known.map(|known| known.1));
                    }
                    Step::Remove(key) => {
                        let known = place(&model, key).map(|place| model.remove(place));
                        prop_assert_eq!(table.remove(&key), known.map(|known| known.1));
                    }
                    Step::Evict => {
                        let oldest = (!model.is_empty()).then(|| model.remove(0));
                        evicted += u64::from(oldest.is_some());
                        prop_assert_eq!(table.evict_oldest(), oldest);
                    }
                }
                prop_assert_eq!(table.occupancy(), Occupancy { tracked: model.len(), capacity, evicted });
            }
            for (key, value) in &model {
                prop_assert_eq!(table.peek(key), Some(value));
            }
            let oldest_first: Vec<_> = std::iter::from_fn(|| table.evict_oldest()).collect();
            prop_assert_eq!(oldest_first, model);
        }

        #[test]
        fn the_weight_of_all_is_known_whatever_comes_and_goes(
            capacity in 1..20_usize,
            steps in prop::collection::vec((0..30_u8, 0..50_usize, any::<bool>()), 0..300),
        ) {
            let mut table = WeighedTable::new(capacity, 200);
            for (key, bytes, keep) in steps {
                if keep {
                    let held = table.update(key, || Vec::with_capacity(3), |held| {
                        *held = Vec::with_capacity(bytes);
                        held.capacity()
                    });
                    prop_assert_eq!(held, bytes);
                } else {
                    table.remove(&key);
                }
                let sum: usize = table.table.iter().map(|(_, held)| held.capacity()).sum();
                prop_assert_eq!(table.heap_bytes(), sum);
                prop_assert!(sum <= 200);
            }
        }
    }
}
