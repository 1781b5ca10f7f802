//! [`Tables`] over BPF maps: the only place that touches them.

use core::ptr::NonNull;

use abuser_common::{
    atomic::{Shared, Word},
    bucket::Bucket,
    event::Event,
    gate::{EventOutcome, EventStats},
    gcra::KernelTime,
    layout::{
        BANKS, Ban, BucketKey, EVENTS_BYTES, Limit, LimitCounters, LimitOutcome, MAX_ALLOWED,
        MAX_BANS, MAX_BUCKETS, MAX_LIMITS, Outcome, PORTS_PER_BANK, PROTOCOLS_PER_BANK,
        ProtocolLimits, Settings, Traffic,
    },
    packet::Bytes as _,
    prefix::{Lengths, List, PrefixKey, Source},
    verdict::{BanMet, ChargeRequest, Charged, Tables},
};
use aya_ebpf::{
    bindings::BPF_NOEXIST,
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
    helpers::bpf_ktime_get_ns,
    macros::btf_map,
};

use crate::{bytes::Frame, subprograms};

#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
static PROTOCOLS: Array<ProtocolLimits, { (BANKS * PROTOCOLS_PER_BANK) as usize }> = Array::new();
#[btf_map]
static PORTS: Array<u64, { (BANKS * PORTS_PER_BANK) as usize }> = Array::new();
#[btf_map]
static LIMITS: Array<Limit, { (BANKS * MAX_LIMITS) as usize }> = Array::new();
#[btf_map]
static BUCKETS: LruHashMap<BucketKey, Bucket, { MAX_BUCKETS as usize }> = LruHashMap::new();
#[btf_map]
static BANS: HashMap<PrefixKey, Ban, { MAX_BANS as usize }> = HashMap::new();
#[btf_map]
static ALLOWED: HashMap<PrefixKey, u64, { MAX_ALLOWED as usize }> = HashMap::new();
#[btf_map]
static LENGTHS: Array<Lengths, 2> = Array::new();
#[btf_map]
static OUTCOMES: PerCpuArray<Traffic, { Outcome::ALL.len() }> = PerCpuArray::new();
#[btf_map]
static LIMIT_COUNTERS: PerCpuArray<LimitCounters, { (BANKS * MAX_LIMITS) as usize }> =
    PerCpuArray::new();
#[btf_map]
static EVENT_STATS: PerCpuArray<EventStats, 1> = PerCpuArray::new();
#[btf_map]
static EVENTS: RingBuf<(), { EVENTS_BYTES as usize }> = RingBuf::new();

/// A new source's bucket. In read-only data: built on the stack it would be a `memset`,
/// which libbpf's loader takes for a global function and refuses.
static FULL: Bucket = Bucket::FULL;

/// The maps.
pub(crate) struct Maps;

impl Maps {
    /// Whether the allow list has exactly this prefix.
    #[inline(always)]
    pub(crate) fn allows_prefix(prefix: &PrefixKey) -> bool {
        ALLOWED.get_ptr(prefix).is_some()
    }

    /// Counts what became of a packet.
    #[inline(always)]
    pub(crate) fn count(outcome: Outcome, frame: &Frame<'_>) {
        if let Some(traffic) = OUTCOMES.get_ptr_mut(outcome as u32) {
            // SAFETY: the slot is this CPU's own.
            unsafe {
                (*traffic).packets += 1;
                (*traffic).bytes += u64::from(frame.length());
            }
        }
    }
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
    fn now(&self) -> KernelTime {
        // SAFETY: the helper has no preconditions.
        KernelTime(unsafe { bpf_ktime_get_ns() })
    }

    #[inline(always)]
    fn lengths(&self, list: List) -> Lengths {
        LENGTHS.get(list as u32).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn ban(&self, prefix: &PrefixKey) -> Option<Shared<'_, Ban>> {
        let ban = NonNull::new(BANS.get_ptr_mut(prefix)?)?;
        // SAFETY: a preallocated hash map's values stay valid while the program runs; the
        // daemon changes one only as a whole, through the map.
        Some(unsafe { Shared::new(ban) })
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
    fn limit(&self, index: u32) -> Option<Limit> {
        LIMITS.get(index).copied()
    }

    #[inline(always)]
    fn bucket(&self, key: &BucketKey) -> Option<Shared<'_, Bucket>> {
        let bucket = if let Some(bucket) = BUCKETS.get_ptr_mut(key) {
            bucket
        } else {
            // If another CPU makes the bucket first, this fails and the look-up finds the
            // other's: there is never a second bucket to spend from.
            #[expect(
                clippy::needless_borrows_for_generic_args,
                reason = "by value it would be built on the stack"
            )]
            let _lost_race = BUCKETS.insert(key, &FULL, u64::from(BPF_NOEXIST));
            BUCKETS.get_ptr_mut(key)?
        };
        // SAFETY: an LRU hash map is preallocated, so the memory stays a bucket. If it is
        // evicted under our hands, one packet may charge the slot's next owner.
        Some(unsafe { Shared::new(NonNull::new(bucket)?) })
    }

    #[inline(always)]
    fn count_limit(&self, index: u32, outcome: LimitOutcome) {
        if let Some(counters) = LIMIT_COUNTERS.get_ptr_mut(index) {
            // SAFETY: the slot is this CPU's own.
            unsafe { (*counters).count(outcome) };
        }
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
    fn meet_ban(&self, source: &Source) -> BanMet {
        subprograms::call_meet_ban(source)
    }

    #[inline(always)]
    fn meet_ban_of(&self, source: &Source, length: u8) -> BanMet {
        subprograms::call_meet_ban_of(source, length)
    }

    #[inline(always)]
    fn allows(&self, source: &Source, length: u8) -> bool {
        subprograms::call_allows(source, length)
    }

    #[inline(always)]
    fn is_allowed(&self, source: &Source) -> bool {
        subprograms::call_is_allowed(source)
    }

    #[inline(always)]
    fn charge(&self, request: &ChargeRequest) -> Charged {
        subprograms::call_charge(request)
    }
}
