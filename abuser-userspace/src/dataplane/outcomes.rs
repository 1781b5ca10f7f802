//! What became of packets, by the interface that they came in on.
//!
//! Each protected interface has a slot of counters for as long as it is protected, and begins at
//! zero, as the counters of an interface begin anew when it does. What was counted on one that is gone
//! is kept in a slot of its own, so sums over all interfaces only grow. A slot that an interface
//! has left is not given to another before the packets that were on their way are
//! counted.
//!
//! Some interfaces let others run the program: the ports of a bond, or the virtual function beneath
//! an interface of Hyper-V. Their packets tell the port's index, and are counted for its controller.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use abuser_common::{
    interface::{Entry, FIRST, GONE, OTHER, PLACES, SLOTS, places},
    layout::{Outcome, Outcomes, Traffic, maps},
};
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};

use super::{
    counters::{put, sum},
    error::DataplaneError,
    memory::Words,
    program::take_map,
};

/// How long a packet may be on its way through the program: an RCU grace period is shorter.
const IN_FLIGHT: Duration = Duration::from_secs(1);

/// The counters of packets, and whose they are.
pub struct PacketCounters {
    entries: Words,
    counted: PerCpuArray<MapData, Outcomes>,
    slots: Slots,
}

/// Which slots are whose.
#[derive(Debug, Default)]
struct Slots {
    /// Slots of interfaces, by their index.
    owned: BTreeMap<u32, u32>,
    /// Those that interfaces have left, and when.
    left: Vec<(u32, Instant)>,
    /// Those in which nothing is counted.
    free: BTreeSet<u32>,
}

impl Slots {
    /// Takes a slot for the interface with this index.
    fn take(&mut self, index: u32) -> Option<u32> {
        let slot = self.free.pop_first()?;
        self.owned.insert(index, slot);
        Some(slot)
    }

    /// The slots that interfaces have left a while ago, by `now`.
    fn settled(&self, now: Instant) -> Vec<u32> {
        let is_settled = |left: &Instant| now.saturating_duration_since(*left) >= IN_FLIGHT;
        let settled = self.left.iter().filter(|(_, left)| is_settled(left));
        settled.map(|(slot, _)| *slot).collect()
    }

    /// Whoever takes this slot next begins at zero in it.
    fn free(&mut self, slot: u32) {
        self.left.retain(|(left, _)| *left != slot);
        self.free.insert(slot);
    }

    /// Slots that may hold something.
    fn counting(&self) -> impl Iterator<Item = u32> {
        let left = self.left.iter().map(|(slot, _)| *slot);
        [OTHER, GONE]
            .into_iter()
            .chain(self.owned.values().copied())
            .chain(left)
    }
}

impl PacketCounters {
    pub(super) fn open(program: &mut Ebpf) -> Result<Self, DataplaneError> {
        let entries = Words::open(program, maps::INTERFACES, PLACES as usize)?;
        let counted = take_map(program, maps::OUTCOMES)?;
        let mut slots = Slots::default();
        // What an earlier daemon left is whose it was until this one has attached to its interfaces.
        let taken: BTreeSet<_> = each(&entries).map(|(_, entry)| entry.slot()).collect();
        for slot in (FIRST..SLOTS).filter(|slot| !taken.contains(slot)) {
            if read(&counted, slot)? == Outcomes::default() {
                slots.free.insert(slot);
            } else {
                slots.left.push((slot, Instant::now()));
            }
        }
        Ok(Self {
            entries,
            counted,
            slots,
        })
    }

    /// Has the packets of the interface with this index counted by themselves from now on; `goes_on` if
    /// an earlier daemon's program is on it, whose counters are to go on.
    ///
    /// Whoever protects an interface does so by itself; this is for those who run the program without
    /// attaching it.
    pub fn begin(&mut self, index: u32, goes_on: bool) -> Result<(), DataplaneError> {
        if self.slots.owned.contains_key(&index) {
            return Ok(());
        }
        let found = each(&self.entries).find(|(_, entry)| entry.index() == index);
        if let Some((place, entry)) = found {
            let is_free = !self.slots.owned.values().any(|slot| *slot == entry.slot());
            if goes_on && is_free {
                self.slots.owned.insert(index, entry.slot());
                return Ok(());
            }
            place.store(0, Ordering::Relaxed);
            let used = each(&self.entries).any(|(_, other)| other.slot() == entry.slot());
            if is_free && !used {
                self.slots.left.push((entry.slot(), Instant::now()));
            }
        }
        if self.slots.free.is_empty() {
            self.settle_slots(Instant::now() + IN_FLIGHT)?;
        }
        let Some(slot) = self.slots.take(index) else {
            tracing::warn!(
                index,
                "more than {} interfaces are protected; the packets of this one are not counted by \
                 themselves",
                SLOTS - FIRST
            );
            return Ok(());
        };
        if !self.enter(index, slot) {
            self.slots.owned.remove(&index);
            self.slots.free.insert(slot);
        }
        Ok(())
    }

    /// Ends counting the packets of an interface by themselves.
    pub fn end(&mut self, index: u32) {
        let Some(slot) = self.slots.owned.remove(&index) else {
            return;
        };
        self.clear(slot, |_| true);
        self.slots.left.push((slot, Instant::now()));
    }

    /// Takes back a beginning that came to nothing: no program was on the interface, so nothing was counted.
    pub(super) fn take_back(&mut self, index: u32) {
        if let Some(slot) = self.slots.owned.remove(&index) {
            self.clear(slot, |_| true);
            self.slots.free(slot);
        }
    }

    /// Has the packets of these interfaces counted for their controller, and those of no others.
    pub fn set_ports(&mut self, controller: u32, ports: &[u32]) {
        let Some(slot) = self.slots.owned.get(&controller).copied() else {
            return;
        };
        let ports = ports.iter().copied();
        let ports = ports.filter(|port| !self.slots.owned.contains_key(port));
        let ports: Vec<_> = ports.collect();
        self.clear(slot, |index| index != controller && !ports.contains(&index));
        for port in ports {
            let found = each(&self.entries).find(|(_, entry)| entry.index() == port);
            match found {
                Some((place, _)) => place.store(Entry::new(port, slot).0, Ordering::Relaxed),
                None => {
                    self.enter(port, slot);
                }
            }
        }
    }

    /// Forgets interfaces that an earlier daemon protected and this one does not.
    pub(super) fn forget_others(&mut self) {
        let owned: BTreeSet<_> = self.slots.owned.values().copied().collect();
        let mut left = BTreeSet::new();
        for (place, entry) in each(&self.entries).filter(|(_, e)| !owned.contains(&e.slot())) {
            place.store(0, Ordering::Relaxed);
            left.insert(entry.slot());
        }
        let now = Instant::now();
        self.slots
            .left
            .extend(left.into_iter().map(|slot| (slot, now)));
    }

    /// Makes slots free again that interfaces have left; to be called now and then.
    pub(super) fn settle(&mut self) -> Result<(), DataplaneError> {
        self.settle_slots(Instant::now())
    }

    fn settle_slots(&mut self, now: Instant) -> Result<(), DataplaneError> {
        for slot in self.slots.settled(now) {
            let counted = read(&self.counted, slot)?;
            let mut gone = read(&self.counted, GONE)?;
            gone += counted;
            put(&mut self.counted, maps::OUTCOMES, GONE, gone)?;
            put(&mut self.counted, maps::OUTCOMES, slot, Outcomes::default())?;
            self.slots.free(slot);
        }
        Ok(())
    }

    /// Packets and bytes by what became of them, on all interfaces together, those included that are
    /// gone.
    pub fn outcomes(&self) -> Result<Vec<(Outcome, Traffic)>, DataplaneError> {
        let mut sum = Outcomes::default();
        for slot in self.slots.counting() {
            sum += read(&self.counted, slot)?;
        }
        Ok(sum.each().collect())
    }

    /// The same on the interface with this index since it is protected; `None` if its packets are not
    /// counted by themselves.
    pub fn on(&self, index: u32) -> Result<Option<Outcomes>, DataplaneError> {
        let slot = self.slots.owned.get(&index);
        slot.map(|slot| read(&self.counted, *slot)).transpose()
    }

    /// The same of packets that no interface's counters have.
    pub fn elsewhere(&self) -> Result<Outcomes, DataplaneError> {
        read(&self.counted, OTHER)
    }

    /// Writes an entry to a place that is free; `false` if neither is.
    fn enter(&self, index: u32, slot: u32) -> bool {
        let mut places = places(index).into_iter();
        let free = places.find_map(|place| {
            let place = self.entries.get(place as usize)?;
            (place.load(Ordering::Relaxed) == 0).then_some(place)
        });
        if let Some(place) = free {
            place.store(Entry::new(index, slot).0, Ordering::Relaxed);
        } else {
            tracing::warn!(
                index,
                "other interfaces have both places of this one; its packets are not counted by \
                 themselves"
            );
        }
        free.is_some()
    }

    /// Removes the entries that count in a slot, of interfaces of which `which` holds.
    fn clear(&self, slot: u32, which: impl Fn(u32) -> bool) {
        let entries = each(&self.entries).filter(|(_, entry)| entry.slot() == slot);
        for (place, _) in entries.filter(|(_, entry)| which(entry.index())) {
            place.store(0, Ordering::Relaxed);
        }
    }
}

/// The entries that there are, and their places.
fn each(entries: &[AtomicU64]) -> impl Iterator<Item = (&AtomicU64, Entry)> {
    let each = entries.iter();
    let each = each.map(|place| (place, Entry(place.load(Ordering::Relaxed))));
    each.filter(|(_, entry)| entry.index() != 0)
}

fn read(counted: &PerCpuArray<MapData, Outcomes>, slot: u32) -> Result<Outcomes, DataplaneError> {
    let values = counted.get(&slot, 0);
    let values = values.map_err(|error| DataplaneError::map(maps::OUTCOMES, error))?;
    Ok(sum(&values))
}
