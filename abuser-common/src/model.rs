//! The packet path's tables as ordinary collections.
//!
//! With these, [`decide`](crate::verdict::decide) runs on the host as it runs in the
//! kernel: tests use it by itself, and beside the real program to see that both agree.

use core::cell::{Cell, RefCell, UnsafeCell};
use std::{
    boxed::Box,
    collections::{HashMap, HashSet},
    vec::Vec,
};

use crate::{
    atomic::Shared,
    bucket::Bucket,
    event::Event,
    gate::{EventOutcome, EventStats},
    gcra::KernelTime,
    layout::{Ban, BucketKey, Limit, LimitCounters, LimitOutcome, ProtocolLimits, Settings},
    prefix::{Lengths, List, PrefixKey, Source},
    verdict::{self, BanMet, ChargeRequest, Charged, Tables},
};

/// All state of the packet path. Fields that tests set up are public.
#[derive(Default)]
pub struct Model {
    /// See [`Tables::settings`].
    pub settings: Settings,
    /// The clock.
    pub now: Cell<KernelTime>,
    /// See [`Tables::protocol`].
    pub protocols: HashMap<u32, ProtocolLimits>,
    /// See [`Tables::port`].
    pub ports: HashMap<u32, u64>,
    /// See [`Tables::limit`].
    pub limits: HashMap<u32, Limit>,
    /// What was counted under each limit, by the same index.
    pub limit_counters: RefCell<HashMap<u32, LimitCounters>>,
    /// The event budget and its counters.
    pub event_stats: Cell<EventStats>,
    /// Events that were sent.
    pub events: RefCell<Vec<Event>>,
    /// How many events the ring buffer has room for; `None`: any number.
    pub ring_room: Cell<Option<usize>>,
    /// Buckets that can be made; `None`: any number.
    pub bucket_room: Cell<Option<usize>>,
    lengths: [Lengths; 2],
    allowed: HashSet<PrefixKey>,
    bans: HashMap<PrefixKey, Box<UnsafeCell<Ban>>>,
    buckets: RefCell<HashMap<BucketKey, Box<UnsafeCell<Bucket>>>>,
}

impl Model {
    /// Bans a prefix.
    pub fn add_ban(&mut self, prefix: PrefixKey, ban: Ban) {
        self.note_length(List::Bans, &prefix);
        self.bans.insert(prefix, Box::new(UnsafeCell::new(ban)));
    }

    /// Allows a prefix.
    pub fn add_allow(&mut self, prefix: PrefixKey) {
        self.note_length(List::Allowed, &prefix);
        self.allowed.insert(prefix);
    }

    /// The ban of exactly this prefix as it stands.
    pub fn ban_of(&self, prefix: &PrefixKey) -> Option<Ban> {
        // SAFETY: nobody else reads or writes at this moment: the model is not `Sync`.
        self.bans.get(prefix).map(|ban| unsafe { *ban.get() })
    }

    /// How many sources have a bucket.
    pub fn bucket_count(&self) -> usize {
        self.buckets.borrow().len()
    }

    fn note_length(&mut self, list: List, prefix: &PrefixKey) {
        let (Some(family), Ok(length)) = (prefix.family(), u8::try_from(prefix.length)) else {
            return;
        };
        let [bans, allowed] = &mut self.lengths;
        match list {
            List::Bans => bans.insert(family, length),
            List::Allowed => allowed.insert(family, length),
        }
    }
}

impl Tables for Model {
    fn settings(&self) -> Settings {
        self.settings
    }

    fn now(&self) -> KernelTime {
        self.now.get()
    }

    fn lengths(&self, list: List) -> Lengths {
        let [bans, allowed] = self.lengths;
        match list {
            List::Bans => bans,
            List::Allowed => allowed,
        }
    }

    fn ban(&self, prefix: &PrefixKey) -> Option<Shared<'_, Ban>> {
        let ban = self.bans.get(prefix)?;
        // SAFETY: the box keeps its address and lives as long as the borrow of the model.
        Some(unsafe { Shared::new(core::ptr::NonNull::new_unchecked(ban.get())) })
    }

    fn protocol(&self, index: u32) -> ProtocolLimits {
        self.protocols.get(&index).copied().unwrap_or_default()
    }

    fn port(&self, index: u32) -> u64 {
        self.ports.get(&index).copied().unwrap_or(0)
    }

    fn limit(&self, index: u32) -> Option<Limit> {
        Some(self.limits.get(&index).copied().unwrap_or_default())
    }

    fn bucket(&self, key: &BucketKey) -> Option<Shared<'_, Bucket>> {
        let mut buckets = self.buckets.borrow_mut();
        if !buckets.contains_key(key) && self.bucket_room.get() == Some(buckets.len()) {
            return None;
        }
        let bucket = buckets
            .entry(*key)
            .or_insert_with(|| Box::new(UnsafeCell::new(Bucket::FULL)));
        // SAFETY: boxes keep their address when the map grows, and none is ever removed.
        Some(unsafe { Shared::new(core::ptr::NonNull::new_unchecked(bucket.get())) })
    }

    fn count_limit(&self, index: u32, outcome: LimitOutcome) {
        let mut counters = self.limit_counters.borrow_mut();
        counters.entry(index).or_default().count(outcome);
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

    fn meet_ban(&self, source: &Source) -> BanMet {
        verdict::meet_ban(self, source)
    }

    fn meet_ban_of(&self, source: &Source, length: u8) -> BanMet {
        verdict::meet_ban_of(self, source, length)
    }

    fn allows(&self, source: &Source, length: u8) -> bool {
        self.allowed.contains(&source.prefix(length))
    }

    fn is_allowed(&self, source: &Source) -> bool {
        verdict::is_allowed(self, source)
    }

    fn charge(&self, request: &ChargeRequest) -> Charged {
        verdict::charge(self, request)
    }
}
