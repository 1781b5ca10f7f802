//! [`Tables`] over BPF maps: the only place that touches them.

use core::ptr::NonNull;

use abuser_common::{
    atomic::{Shared, Word},
    bucket::{self, Key, Set},
    event::{Event, Verdict},
    gate::{EVENT_SLOTS, EventOutcome, EventStats, SourceStats, TALLY_SLOTS, Tally},
    gcra::KernelTime,
    interface::{self, Entry, PLACES, SLOTS},
    layout::{
        BANKS, Ban, EVENTS_BYTES, Host, Limit, LimitCounters, LimitOutcome, MAX_ALLOWED, MAX_BANS,
        MAX_LIMITS, MAX_THROTTLED, Outcome, Outcomes, PORTS_PER_BANK, PROTOCOLS_PER_BANK,
        ProtocolLimits, Scales, Settings, Throttle,
    },
    prefix::{
        FILTER_BITS, Family, HINTS, LengthMask, Lengths, List, PrefixKey, Source, hint_index,
    },
    verdict::{
        Packet, Tables,
        limits::{Applied, ChargeRequest, Charged},
        prefixes::BanMet,
    },
    verified,
};
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};

use crate::subprograms;

/// The daemon maps the array into its memory.
const MAPPED: usize = BPF_F_MMAPABLE as usize;
/// Entries take memory as they come.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
static HOST: Array<Host, 1> = Array::new();
#[btf_map]
static PROTOCOLS: Array<ProtocolLimits, { (BANKS * PROTOCOLS_PER_BANK) as usize }> = Array::new();
#[btf_map]
static PORTS: Array<u64, { (BANKS * PORTS_PER_BANK) as usize }, MAPPED> = Array::new();
#[btf_map]
static LIMITS: Array<Limit, { (BANKS * MAX_LIMITS) as usize }> = Array::new();
#[btf_map]
static SCALES: Array<Scales, 1> = Array::new();
#[btf_map]
static BUCKETS: Array<Set, { 1 << bucket::SET_BITS }, MAPPED> = Array::new();
#[btf_map]
static VERIFIED: Array<Set, { 1 << verified::SET_BITS }, MAPPED> = Array::new();
#[btf_map]
static BANS: HashMap<PrefixKey, Ban, { MAX_BANS as usize }, ON_DEMAND> = HashMap::new();
#[btf_map]
static ALLOWED: HashMap<PrefixKey, u64, { MAX_ALLOWED as usize }, ON_DEMAND> = HashMap::new();
#[btf_map]
static THROTTLED: HashMap<PrefixKey, Throttle, { MAX_THROTTLED as usize }, ON_DEMAND> =
    HashMap::new();
#[btf_map]
static LENGTHS: Array<Lengths, { List::ALL.len() }, MAPPED> = Array::new();
#[btf_map]
static HINTS_IPV4: Array<u64, { List::ALL.len() * HINTS as usize }, MAPPED> = Array::new();
#[btf_map]
static HINTS_IPV6: Array<LengthMask, { List::ALL.len() * HINTS as usize }, MAPPED> = Array::new();
#[btf_map]
static FILTER: Array<u64, { 1 << (FILTER_BITS - u64::BITS.ilog2()) }, MAPPED> = Array::new();
#[btf_map]
static INTERFACES: Array<Entry, { PLACES as usize }, MAPPED> = Array::new();
#[btf_map]
static OUTCOMES: PerCpuArray<Outcomes, { SLOTS as usize }> = PerCpuArray::new();
#[btf_map]
static LIMIT_COUNTERS: PerCpuArray<LimitCounters, { (BANKS * MAX_LIMITS) as usize }> =
    PerCpuArray::new();
#[btf_map]
static EVENT_TIMES: Array<u64, { EVENT_SLOTS as usize }> = Array::new();
#[btf_map]
static TALLIES: PerCpuArray<Tally, { TALLY_SLOTS as usize }> = PerCpuArray::new();
#[btf_map]
static EVENT_STATS: PerCpuArray<EventStats, 1> = PerCpuArray::new();
#[btf_map]
static SOURCE_STATS: PerCpuArray<SourceStats, 1> = PerCpuArray::new();
#[btf_map]
static EVENTS: RingBuf<(), { EVENTS_BYTES as usize }> = RingBuf::new();

/// The maps.
pub(crate) struct Maps;

impl Maps {
    /// Counts what became of a packet that came in on the interface with this index.
    #[inline(always)]
    pub(crate) fn count(interface: u32, outcome: Outcome, length: u32) {
        let slot = interface::slot(interface, |place| {
            INTERFACES.get(place).copied().unwrap_or_default()
        });
        if let Some(outcomes) = OUTCOMES.get_ptr_mut(slot) {
            // SAFETY: the slot is this CPU's own.
            unsafe { (*outcomes).count(outcome, length) };
        }
    }

    /// The time of a tick of the kernel.
    #[inline(always)]
    pub(crate) fn tick_time(jiffies: u64) -> KernelTime {
        HOST.get(0)
            .map_or_else(KernelTime::default, |host| host.tick_time(jiffies))
    }
}

/// Changes this CPU's own statistics.
#[inline(always)]
fn with_source_stats<R: Default>(change: impl FnOnce(&mut SourceStats) -> R) -> R {
    SOURCE_STATS
        .get_ptr_mut(0)
        // SAFETY: the slot is this CPU's own.
        .map_or_else(R::default, |stats| change(unsafe { &mut *stats }))
}

impl Tables for Maps {
    #[inline(always)]
    fn settings(&self) -> Settings {
        SETTINGS
            .get_ptr_mut(0)
            .map_or_else(Settings::default, |settings| {
                // SAFETY: an array's slot lives as long as the program, and `Settings` is one
                // word that the daemon writes at once.
                Settings(unsafe { Word::new(settings.cast()) }.load())
            })
    }

    #[inline(always)]
    fn key(&self) -> Key {
        HOST.get(0).map_or_else(Key::default, |host| host.key)
    }

    #[inline(always)]
    fn lengths(&self, list: List) -> Lengths {
        LENGTHS.get(list as u32).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn hints(&self, list: List, source: &Source) -> LengthMask {
        let index = hint_index(list, source);
        match source.family {
            Family::V4 => [HINTS_IPV4.get(index).copied().unwrap_or_default(), 0, 0],
            Family::V6 => HINTS_IPV6.get(index).copied().unwrap_or_default(),
        }
    }

    #[inline(always)]
    fn filter(&self, bit: u32) -> bool {
        FILTER
            .get(bit / u64::BITS)
            .is_some_and(|word| word >> (bit % u64::BITS) & 1 != 0)
    }

    #[inline(always)]
    fn ban(&self, prefix: &PrefixKey) -> Option<Shared<'_, Ban>> {
        let ban = NonNull::new(BANS.get_ptr_mut(prefix)?)?;
        // SAFETY: the kernel frees an entry only after the program is done with it; the
        // daemon changes one only as a whole, through the map.
        Some(unsafe { Shared::new(ban) })
    }

    #[inline(always)]
    fn is_listed(&self, prefix: &PrefixKey) -> bool {
        ALLOWED.get_ptr(prefix).is_some()
    }

    #[inline(always)]
    fn throttle(&self, prefix: &PrefixKey) -> Option<&Throttle> {
        let throttle = THROTTLED.get_ptr(prefix)?;
        // SAFETY: the kernel frees an entry only after the program is done with it; the daemon
        // changes one only as a whole, through the map.
        Some(unsafe { &*throttle })
    }

    #[inline(always)]
    fn protocol(&self, index: u32) -> ProtocolLimits {
        PROTOCOLS.get(index).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn port(&self, index: u32) -> u64 {
        PORTS.get(index).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn limit(&self, index: u32) -> Option<&Limit> {
        LIMITS.get(index)
    }

    #[inline(always)]
    fn scales(&self) -> Option<&Scales> {
        SCALES.get(0)
    }

    #[inline(always)]
    fn buckets(&self, set: u32) -> Option<Shared<'_, Set>> {
        // SAFETY: an array's slot lives as long as the program; all change it by words.
        Some(unsafe { Shared::new(NonNull::new(BUCKETS.get_ptr_mut(set)?)?) })
    }

    #[inline(always)]
    fn verified(&self, set: u32) -> Option<Shared<'_, Set>> {
        // SAFETY: as above.
        Some(unsafe { Shared::new(NonNull::new(VERIFIED.get_ptr_mut(set)?)?) })
    }

    #[inline(always)]
    fn count_limit(&self, index: u32, outcome: LimitOutcome, length: u32) {
        if let Some(counters) = LIMIT_COUNTERS.get_ptr_mut(index) {
            // SAFETY: the slot is this CPU's own.
            unsafe { (*counters).count(outcome, length) };
        }
    }

    #[inline(always)]
    fn count_eviction(&self) {
        with_source_stats(|stats| stats.evictions += 1);
    }

    #[inline(always)]
    fn take_lookup(&self, now: KernelTime) -> bool {
        with_source_stats(|stats| stats.take_lookup(now))
    }

    #[inline(always)]
    fn count_connected(&self) {
        with_source_stats(|stats| stats.connected += 1);
    }

    #[inline(always)]
    fn event_time(&self, slot: u32) -> Option<Word<'_>> {
        // SAFETY: an array's slot lives as long as the program, and is one word.
        Some(unsafe { Word::new(EVENT_TIMES.get_ptr_mut(slot)?) })
    }

    #[inline(always)]
    fn tally(&self, number: u32, change: impl FnOnce(&mut Tally) -> u64) -> u64 {
        TALLIES
            .get_ptr_mut(number)
            // SAFETY: the slot is this CPU's own.
            .map_or(0, |tally| change(unsafe { &mut *tally }))
    }

    #[inline(always)]
    fn has_event_budget(&self, now: KernelTime) -> bool {
        EVENT_STATS.get_ptr_mut(0).is_some_and(|stats| {
            // SAFETY: the slot is this CPU's own.
            unsafe { (*stats).has_budget(now) }
        })
    }

    #[inline(always)]
    fn take_event_budget(&self, now: KernelTime) -> bool {
        EVENT_STATS.get_ptr_mut(0).is_some_and(|stats| {
            // SAFETY: the slot is this CPU's own.
            unsafe { (*stats).take_budget(now) }
        })
    }

    #[inline(always)]
    fn count_event(&self, outcome: EventOutcome) {
        if let Some(stats) = EVENT_STATS.get_ptr_mut(0) {
            // SAFETY: the slot is this CPU's own.
            unsafe { (*stats).count(outcome) };
        }
    }

    #[inline(always)]
    fn emit(&self, event: impl FnOnce() -> Event) -> bool {
        match EVENTS.reserve_untyped::<Event>(0) {
            Some(mut entry) => {
                entry.write(event());
                entry.submit(0);
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn meet_ban(&self, source: &Source, now: KernelTime) -> BanMet {
        subprograms::call_meet_ban(source, now)
    }

    #[inline(always)]
    fn meet_ban_of(&self, source: &Source, length: u8, now: KernelTime) -> BanMet {
        subprograms::call_meet_ban_of(source, length, now)
    }

    #[inline(always)]
    fn is_allowed(&self, source: &Source) -> bool {
        subprograms::call_is_allowed(source)
    }

    #[inline(always)]
    fn allows(&self, source: &Source, length: u8) -> bool {
        subprograms::call_allows(source, length)
    }

    #[inline(always)]
    fn throttling(&self, source: &Source, bank: u32, now: KernelTime) -> u64 {
        subprograms::call_throttling(source, bank, now)
    }

    #[inline(always)]
    fn throttling_from(
        &self,
        source: &Source,
        base: u8,
        lengths: u64,
        bank: u32,
        now: KernelTime,
    ) -> u64 {
        subprograms::call_throttling_from(source, base, lengths, bank, now)
    }

    #[inline(always)]
    fn throttling_of(&self, source: &Source, length: u8, bank: u32, now: KernelTime) -> u64 {
        subprograms::call_throttling_of(source, length, bank, now)
    }

    #[inline(always)]
    fn apply_several(&self, packet: &Packet, limits: u64, now: KernelTime) -> Applied {
        subprograms::call_apply_several(packet, limits, now)
    }

    #[inline(always)]
    fn charge_again(&self, request: &ChargeRequest) -> Charged {
        subprograms::call_charge_again(request)
    }

    #[inline(always)]
    fn charge_once(&self, request: &ChargeRequest) -> Charged {
        subprograms::call_charge_once(request)
    }

    #[inline(always)]
    fn check(&self, request: &ChargeRequest) -> Charged {
        subprograms::call_check(request)
    }

    #[inline(always)]
    fn count_several(
        &self,
        mask: u64,
        observing: u64,
        verdict: Verdict,
        settings: Settings,
        length: u32,
    ) {
        subprograms::call_count_several(mask, observing, verdict, settings, length);
    }

    #[inline(always)]
    fn count_over(&self, index: u32, verdict: Verdict, length: u32) {
        subprograms::call_count_over(index, verdict, length);
    }
}
