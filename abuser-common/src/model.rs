//! The packet path's tables as ordinary collections.
//!
//! With these, [`decide`](crate::verdict::decide) runs on the host as it runs in the
//! kernel: `abuser replay` runs captures through it, and tests use it by itself and beside the
//! real program to see that both agree.

use core::{
    cell::{Cell, RefCell, UnsafeCell},
    ptr::NonNull,
};
use std::{
    boxed::Box,
    collections::{HashMap, HashSet},
    vec,
    vec::Vec,
};

use crate::{
    atomic::{Shared, Word},
    bucket::{self, Key, Set},
    event::{Event, Verdict},
    gate::{EVENT_SLOTS, EventOutcome, EventStats, SourceStats, TALLY_SLOTS, Tally},
    gcra::KernelTime,
    layout::{Ban, Limit, LimitCounters, LimitOutcome, ProtocolLimits, Scales, Settings, Throttle},
    packet::{self, Bytes, TcpTuple, Transport},
    prefix::{self, Family, LengthMask, Lengths, List, PrefixKey, Source},
    verdict::{
        At, Connection, Kernel, Packet, Tables,
        limits::{self, Applied, ChargeRequest, Charged},
        prefixes::{self, BanMet},
    },
    verified,
};

/// A clock that stands still, and connections that are.
#[derive(Default)]
pub struct Machine {
    /// The clock.
    pub now: Cell<KernelTime>,
    /// Segments of established connections.
    pub connections: RefCell<HashSet<TcpTuple>>,
    /// Segments of connections whose handshake has not ended.
    pub opening: RefCell<HashSet<TcpTuple>>,
}

impl Kernel for Machine {
    fn now(&self) -> KernelTime {
        self.now.get()
    }

    fn tick(&self) -> KernelTime {
        self.now.get()
    }

    fn connection<B: Bytes + ?Sized>(&self, at: &At<'_, B>, transport: Transport) -> Connection {
        let (family, offset) = (at.packet.source.family, at.packet.offset);
        match packet::tcp_tuple(at.bytes, family, offset, transport) {
            Some(segment) if self.connections.borrow().contains(&segment) => {
                Connection::Established
            }
            Some(segment) if self.opening.borrow().contains(&segment) => Connection::Opening,
            _ => Connection::None,
        }
    }
}

/// Sets of words, all of them zero to begin with.
///
/// Memory of zeros comes from the system as it is first touched: a model of a few sources takes a few
/// pages of the sixteen megabytes, and no time to be made.
struct Sets {
    words: Box<[UnsafeCell<u64>]>,
    /// Where the first set begins, in words: sets are aligned to their size.
    first: usize,
    count: usize,
}

impl Sets {
    fn empty(bits: u32) -> Self {
        const WORDS: usize = bucket::WORDS as usize;
        let count = 1 << bits;
        let words = Box::into_raw(vec![0_u64; (count + 1) * WORDS].into_boxed_slice());
        // SAFETY: `UnsafeCell<u64>` has the layout of `u64`, and the box has no other owner.
        let words = unsafe { Box::from_raw(words as *mut [UnsafeCell<u64>]) };
        let first = words.as_ptr().align_offset(align_of::<Set>());
        Self {
            words,
            first,
            count,
        }
    }

    #[expect(
        clippy::cast_ptr_alignment,
        reason = "`first` is where sets are aligned, and each is as long as its alignment"
    )]
    fn get(&self, set: u32) -> Option<NonNull<Set>> {
        let set = usize::try_from(set).ok().filter(|set| *set < self.count)?;
        let words = self
            .words
            .get(self.first + set * bucket::WORDS as usize..)?;
        // Of the whole rest, so that the pointer may be used for all of the set.
        NonNull::new(words.as_ptr().cast::<Set>().cast_mut())
    }

    fn iter(&self) -> impl Iterator<Item = NonNull<Set>> {
        (0..).map_while(|set| self.get(set))
    }
}

/// All state of the packet path. Fields that tests set up are public.
pub struct Model {
    /// See [`Tables::settings`].
    pub settings: Settings,
    /// See [`Tables::key`].
    pub key: Key,
    /// See [`Tables::protocol`].
    pub protocols: HashMap<u32, ProtocolLimits>,
    /// See [`Tables::port`].
    pub ports: HashMap<u32, u64>,
    /// See [`Tables::scales`].
    pub scales: Scales,
    /// What was counted under each limit, by its index.
    pub limit_counters: RefCell<HashMap<u32, LimitCounters>>,
    /// The event budget and its counters.
    pub event_stats: Cell<EventStats>,
    /// The look-up budget and its counters.
    pub source_stats: Cell<SourceStats>,
    /// Events that were sent.
    pub events: RefCell<Vec<Event>>,
    /// How many events the ring buffer has room for; `None`: any number.
    pub ring_room: Cell<Option<usize>>,
    limits: HashMap<u32, Limit>,
    lengths: [Lengths; List::ALL.len()],
    hints: HashMap<(List, u8, u32), LengthMask>,
    filter: HashSet<u32>,
    allowed: HashSet<PrefixKey>,
    throttled: HashMap<PrefixKey, Throttle>,
    bans: HashMap<PrefixKey, Box<UnsafeCell<Ban>>>,
    buckets: Sets,
    verified: Sets,
    event_times: Vec<UnsafeCell<u64>>,
    tallies: RefCell<Vec<Tally>>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            key: Key([2, 3, 5, 7]),
            protocols: HashMap::new(),
            ports: HashMap::new(),
            scales: Scales::default(),
            limit_counters: RefCell::default(),
            event_stats: Cell::default(),
            source_stats: Cell::default(),
            events: RefCell::default(),
            ring_room: Cell::default(),
            limits: HashMap::new(),
            lengths: Default::default(),
            hints: HashMap::new(),
            filter: HashSet::new(),
            allowed: HashSet::new(),
            throttled: HashMap::new(),
            bans: HashMap::new(),
            buckets: Sets::empty(bucket::SET_BITS),
            verified: Sets::empty(verified::SET_BITS),
            event_times: (0..EVENT_SLOTS).map(|_| UnsafeCell::default()).collect(),
            tallies: RefCell::new(vec![Tally::default(); TALLY_SLOTS as usize]),
        }
    }
}

impl Model {
    /// Puts a limit in force; `index` as for [`Tables::limit`].
    pub fn add_limit(&mut self, index: u32, limit: Limit) {
        if let Some(scale) = self.scales.0.get_mut(usize::from(limit.slot)) {
            *scale = limit.rate.scale;
        }
        self.limits.insert(index, limit);
    }

    /// Bans a prefix.
    pub fn add_ban(&mut self, prefix: PrefixKey, ban: Ban) {
        self.hint(List::Bans, &prefix);
        self.bans.insert(prefix, Box::new(UnsafeCell::new(ban)));
    }

    /// Allows a prefix.
    pub fn add_allow(&mut self, prefix: PrefixKey) {
        self.hint(List::Allowed, &prefix);
        self.allowed.insert(prefix);
    }

    /// Throttles a prefix.
    pub fn add_throttle(&mut self, prefix: PrefixKey, throttle: Throttle) {
        self.hint(List::Throttled, &prefix);
        self.throttled.insert(prefix, throttle);
    }

    /// The ban of exactly this prefix as it stands.
    pub fn ban_of(&self, prefix: &PrefixKey) -> Option<Ban> {
        // SAFETY: nobody else reads or writes at this moment: the model is not `Sync`.
        self.bans.get(prefix).map(|ban| unsafe { *ban.get() })
    }

    /// How many sources have a bucket that is not full.
    pub fn bucket_count(&self, now: KernelTime) -> usize {
        let words = self.buckets.iter().flat_map(|set| {
            // SAFETY: as above.
            unsafe { *set.as_ptr() }.words
        });
        words
            .filter(|word| bucket::ahead(*word, self.scales.get(bucket::slot_of(*word)), now) != 0)
            .count()
    }

    /// Clears words of full buckets, as the daemon does before the clock comes round to them.
    pub fn sweep(&self, now: KernelTime) {
        for set in self.buckets.iter() {
            // SAFETY: as above.
            for word in unsafe { &mut (*set.as_ptr()).words } {
                if bucket::ahead(*word, self.scales.get(bucket::slot_of(*word)), now) == 0 {
                    *word = 0;
                }
            }
        }
    }

    fn hint(&mut self, list: List, prefix: &PrefixKey) {
        let (Some(source), Ok(length)) = (prefix.source(), u8::try_from(prefix.length)) else {
            return;
        };
        self.filter
            .insert(prefix::filter_bit(list, &source, length));
        if length >= prefix::shortest_near(source.family) {
            self.filter.insert(prefix::neighbourhood_bit(list, &source));
        }
        let [bans, allowed, throttled] = &mut self.lengths;
        let lengths = match list {
            List::Bans => bans,
            List::Allowed => allowed,
            List::Throttled => throttled,
        };
        let word = match source.family {
            Family::V4 => &mut lengths.ipv4,
            Family::V6 => &mut lengths.ipv6,
        };
        if length < prefix::shortest_hinted(source.family) {
            *word |= 1 << length;
            return;
        }
        *word |= Lengths::LONGER;
        let at = (list, source.family as u8, prefix::hint_index(list, &source));
        let mask = self.hints.entry(at).or_default();
        if let Some(word) = mask.get_mut(usize::from(length / 64)) {
            *word |= 1 << (length % 64);
        }
    }
}

/// Element `index` of what stands for an array map.
fn element<T>(array: &[UnsafeCell<T>], index: u32) -> Option<NonNull<T>> {
    NonNull::new(array.get(index as usize)?.get())
}

impl Tables for Model {
    fn settings(&self) -> Settings {
        self.settings
    }

    fn key(&self) -> Key {
        self.key
    }

    fn lengths(&self, list: List) -> Lengths {
        let [bans, allowed, throttled] = self.lengths;
        match list {
            List::Bans => bans,
            List::Allowed => allowed,
            List::Throttled => throttled,
        }
    }

    fn hints(&self, list: List, source: &Source) -> LengthMask {
        let at = (list, source.family as u8, prefix::hint_index(list, source));
        self.hints.get(&at).copied().unwrap_or_default()
    }

    fn filter(&self, bit: u32) -> bool {
        self.filter.contains(&bit)
    }

    fn ban(&self, prefix: &PrefixKey) -> Option<Shared<'_, Ban>> {
        let ban = NonNull::new(self.bans.get(prefix)?.get())?;
        // SAFETY: the box keeps its address and lives as long as the borrow of the model.
        Some(unsafe { Shared::new(ban) })
    }

    fn is_listed(&self, prefix: &PrefixKey) -> bool {
        self.allowed.contains(prefix)
    }

    fn throttle(&self, prefix: &PrefixKey) -> Option<&Throttle> {
        self.throttled.get(prefix)
    }

    fn protocol(&self, index: u32) -> ProtocolLimits {
        self.protocols.get(&index).copied().unwrap_or_default()
    }

    fn port(&self, index: u32) -> u64 {
        self.ports.get(&index).copied().unwrap_or(0)
    }

    fn limit(&self, index: u32) -> Option<&Limit> {
        self.limits.get(&index)
    }

    fn scales(&self) -> Option<&Scales> {
        Some(&self.scales)
    }

    fn buckets(&self, set: u32) -> Option<Shared<'_, Set>> {
        // SAFETY: the vector never grows, and lives as long as the borrow of the model.
        Some(unsafe { Shared::new(self.buckets.get(set)?) })
    }

    fn verified(&self, set: u32) -> Option<Shared<'_, Set>> {
        // SAFETY: as above.
        Some(unsafe { Shared::new(self.verified.get(set)?) })
    }

    fn count_limit(&self, index: u32, outcome: LimitOutcome, length: u32) {
        let mut counters = self.limit_counters.borrow_mut();
        counters.entry(index).or_default().count(outcome, length);
    }

    fn count_eviction(&self) {
        let mut stats = self.source_stats.get();
        stats.evictions += 1;
        self.source_stats.set(stats);
    }

    fn take_lookup(&self, now: KernelTime) -> bool {
        let mut stats = self.source_stats.get();
        let taken = stats.take_lookup(now);
        self.source_stats.set(stats);
        taken
    }

    fn count_connected(&self) {
        let mut stats = self.source_stats.get();
        stats.connected += 1;
        self.source_stats.set(stats);
    }

    fn event_time(&self, slot: u32) -> Option<Word<'_>> {
        // SAFETY: as for `buckets`.
        Some(unsafe { Word::new(element(&self.event_times, slot)?.as_ptr()) })
    }

    fn tally(&self, number: u32, change: impl FnOnce(&mut Tally) -> u64) -> u64 {
        let mut tallies = self.tallies.borrow_mut();
        tallies.get_mut(number as usize).map_or(0, change)
    }

    fn has_event_budget(&self, now: KernelTime) -> bool {
        self.event_stats.get().has_budget(now)
    }

    fn take_event_budget(&self, now: KernelTime) -> bool {
        let mut stats = self.event_stats.get();
        let taken = stats.take_budget(now);
        self.event_stats.set(stats);
        taken
    }

    fn count_event(&self, outcome: EventOutcome) {
        let mut stats = self.event_stats.get();
        stats.count(outcome);
        self.event_stats.set(stats);
    }

    fn emit(&self, event: impl FnOnce() -> Event) -> bool {
        let mut events = self.events.borrow_mut();
        if self.ring_room.get() == Some(events.len()) {
            return false;
        }
        events.push(event());
        true
    }

    fn meet_ban(&self, source: &Source, now: KernelTime) -> BanMet {
        prefixes::meet_ban(self, source, now)
    }

    fn meet_ban_of(&self, source: &Source, length: u8, now: KernelTime) -> BanMet {
        prefixes::meet_ban_of(self, source, length, now)
    }

    fn is_allowed(&self, source: &Source) -> bool {
        prefixes::is_allowed(self, source)
    }

    fn allows(&self, source: &Source, length: u8) -> bool {
        prefixes::allows(self, source, length)
    }

    fn throttling(&self, source: &Source, bank: u32, now: KernelTime) -> u64 {
        prefixes::throttling(self, source, bank, now)
    }

    fn throttling_from(
        &self,
        source: &Source,
        base: u8,
        lengths: u64,
        bank: u32,
        now: KernelTime,
    ) -> u64 {
        prefixes::throttling_from(self, source, base, lengths, bank, now)
    }

    fn throttling_of(&self, source: &Source, length: u8, bank: u32, now: KernelTime) -> u64 {
        prefixes::throttling_of(self, source, length, bank, now)
    }

    fn apply_several(&self, packet: &Packet, limits: u64, now: KernelTime) -> Applied {
        limits::apply_several(packet, self, limits, now)
    }

    fn charge_again(&self, request: &ChargeRequest) -> Charged {
        limits::charge_again(self, request)
    }

    fn charge_once(&self, request: &ChargeRequest) -> Charged {
        limits::charge_once(self, request)
    }

    fn check(&self, request: &ChargeRequest) -> Charged {
        limits::check(self, request)
    }

    fn count_several(
        &self,
        mask: u64,
        observing: u64,
        verdict: Verdict,
        settings: Settings,
        length: u32,
    ) {
        limits::count_several(self, mask, observing, verdict, settings, length);
    }

    fn count_over(&self, index: u32, verdict: Verdict, length: u32) {
        limits::count_over(self, index, verdict, length);
    }
}
