//! The maps: names, keys, values and sizes. What the kernel half and the daemon must agree
//! on to the byte; any change of it is a new [`LAYOUT_VERSION`].

use crate::atomic::{Shared, Word};
use crate::{
    bucket::Key,
    event::Verdict,
    gate::Hits,
    gcra::{KernelTime, Rate, Scale},
};

/// Version of everything in this module, and of the folder that maps are pinned in.
pub const LAYOUT_VERSION: u32 = 5;

/// The program's name in the kernel.
pub const PROGRAM: &str = "abuser";

/// The name of the program that reads the kernel's clocks; see [`Clocks`].
pub const CLOCKS_PROGRAM: &str = "abuser_clocks";

/// The name of the program that is [`PROGRAM`] at a time that the frame tells, for tests:
/// nanoseconds in the first eight octets, as the machine writes them.
pub const TIMED_PROGRAM: &str = "abuser_timed";

/// Names of the maps.
pub mod maps {
    /// ARRAY of one [`Settings`](super::Settings) word.
    pub const SETTINGS: &str = "SETTINGS";
    /// ARRAY of one [`Host`](super::Host).
    pub const HOST: &str = "HOST";
    /// ARRAY of [`ProtocolLimits`](super::ProtocolLimits), 256 a bank.
    pub const PROTOCOLS: &str = "PROTOCOLS";
    /// ARRAY, mapped into memory, of `u64` masks of the limits that name a port, 65,536 a bank.
    pub const PORTS: &str = "PORTS";
    /// ARRAY of [`Limit`](super::Limit), [`MAX_LIMITS`](super::MAX_LIMITS) a bank.
    pub const LIMITS: &str = "LIMITS";
    /// ARRAY of one [`Scales`](super::Scales).
    pub const SCALES: &str = "SCALES";
    /// ARRAY, mapped into memory, of bucket [`Set`](crate::bucket::Set)s.
    pub const BUCKETS: &str = "BUCKETS";
    /// ARRAY, mapped into memory, of [`Set`](crate::bucket::Set)s of verified sources.
    pub const VERIFIED: &str = "VERIFIED";
    /// HASH of [`PrefixKey`](crate::prefix::PrefixKey) to [`Ban`](super::Ban).
    pub const BANS: &str = "BANS";
    /// HASH of [`PrefixKey`](crate::prefix::PrefixKey) to an [`AllowOrigin`](super::AllowOrigin).
    pub const ALLOWED: &str = "ALLOWED";
    /// HASH of [`PrefixKey`](crate::prefix::PrefixKey) to [`Throttle`](super::Throttle).
    pub const THROTTLED: &str = "THROTTLED";
    /// ARRAY, mapped into memory, of [`Lengths`](crate::prefix::Lengths), by
    /// [`List`](crate::prefix::List).
    pub const LENGTHS: &str = "LENGTHS";
    /// ARRAY, mapped into memory, of a word of lengths for each IPv4 /16, by
    /// [`hint_index`](crate::prefix::hint_index).
    pub const HINTS_IPV4: &str = "HINTS_IPV4";
    /// ARRAY, mapped into memory, of [`LengthMask`](crate::prefix::LengthMask)s, by
    /// [`hint_index`](crate::prefix::hint_index).
    pub const HINTS_IPV6: &str = "HINTS_IPV6";
    /// ARRAY, mapped into memory, of the words of the filter, by
    /// [`filter_bit`](crate::prefix::filter_bit).
    pub const FILTER: &str = "FILTER";
    /// ARRAY, mapped into memory, of [`Entry`](crate::interface::Entry), by [`places`](crate::interface::places).
    pub const INTERFACES: &str = "INTERFACES";
    /// `PERCPU_ARRAY` of [`Outcomes`](super::Outcomes), by the [slot](crate::interface) of the
    /// interface.
    pub const OUTCOMES: &str = "OUTCOMES";
    /// `PERCPU_ARRAY` of [`LimitCounters`](super::LimitCounters), as `LIMITS`.
    pub const LIMIT_COUNTERS: &str = "LIMIT_COUNTERS";
    /// ARRAY of the times of sources' last events; see [`gate`](crate::gate).
    pub const EVENT_TIMES: &str = "EVENT_TIMES";
    /// `PERCPU_ARRAY` of [`Tally`](crate::gate::Tally).
    pub const TALLIES: &str = "TALLIES";
    /// `PERCPU_ARRAY` of one [`EventStats`](crate::gate::EventStats).
    pub const EVENT_STATS: &str = "EVENT_STATS";
    /// `PERCPU_ARRAY` of one [`SourceStats`](crate::gate::SourceStats).
    pub const SOURCE_STATS: &str = "SOURCE_STATS";
    /// RINGBUF of [`Event`](crate::event::Event).
    pub const EVENTS: &str = "EVENTS";

    /// All of them: what is pinned.
    pub const ALL: [&str; 23] = [
        SETTINGS,
        HOST,
        PROTOCOLS,
        PORTS,
        LIMITS,
        SCALES,
        BUCKETS,
        VERIFIED,
        BANS,
        ALLOWED,
        THROTTLED,
        LENGTHS,
        HINTS_IPV4,
        HINTS_IPV6,
        FILTER,
        INTERFACES,
        OUTCOMES,
        LIMIT_COUNTERS,
        EVENT_TIMES,
        TALLIES,
        EVENT_STATS,
        SOURCE_STATS,
        EVENTS,
    ];
}

/// Limits at most: one bit each in a 64-bit mask.
pub const MAX_LIMITS: u32 = 64;
/// Bans at most, hosts and networks together. Memory is taken as they come.
pub const MAX_BANS: u32 = 1 << 20;
/// Allow entries at most.
pub const MAX_ALLOWED: u32 = 1 << 14;
/// Throttled sources at most, hosts and networks together. Memory is taken as they come.
pub const MAX_THROTTLED: u32 = 1 << 16;
/// Limits at most that one source can be throttled by.
pub const MAX_TERMS: usize = 4;
/// Size of the event ring buffer in bytes.
pub const EVENTS_BYTES: u32 = 1 << 19;

/// Slots of the `PROTOCOLS` map in one bank.
pub const PROTOCOLS_PER_BANK: u32 = 1 << 8;
/// Slots of the `PORTS` map in one bank.
pub const PORTS_PER_BANK: u32 = 1 << 16;
/// Limits are written to the bank that is not in use, then the bank is switched, so that
/// no packet ever meets half of a new configuration.
pub const BANKS: u32 = 2;

/// What steers the whole program, in one word so that it changes at once.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings(pub u64);

impl Settings {
    const BANK: u64 = 1;
    const OBSERVE: u64 = 1 << 1;

    /// Limits are read from `bank` (0 or 1); with `observe` nothing is dropped.
    pub const fn new(bank: u32, observe: bool) -> Self {
        Self((bank as u64 & Self::BANK) | if observe { Self::OBSERVE } else { 0 })
    }

    /// The bank that is in use: 0 or 1.
    #[inline(always)]
    pub const fn bank(self) -> u32 {
        (self.0 & Self::BANK) as u32
    }

    /// Whether nothing is dropped, only counted and reported.
    #[inline(always)]
    pub const fn observe(self) -> bool {
        self.0 & Self::OBSERVE != 0
    }
}

/// What is so on this machine: set before the program is attached, and then left alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// What makes places in the bucket table unpredictable.
    pub key: Key,
    /// Nanoseconds in one of the kernel's ticks (jiffies).
    pub jiffy_ns: u64,
    /// Kernel time in nanoseconds when the count of ticks was zero, modulo 2^64.
    pub jiffies_epoch_ns: u64,
}

impl Host {
    /// The kernel time of the tick with this number. Reading it costs nothing, but it moves
    /// in steps of 1 to 10 ms.
    #[inline(always)]
    pub const fn tick_time(&self, jiffies: u64) -> KernelTime {
        let since_epoch = jiffies.wrapping_mul(self.jiffy_ns);
        KernelTime(since_epoch.wrapping_add(self.jiffies_epoch_ns))
    }
}

/// What the program [`CLOCKS_PROGRAM`] writes into its frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The kernel's count of ticks.
    pub jiffies: u64,
    /// The monotonic clock in nanoseconds.
    pub monotonic_ns: u64,
}

/// The limits that packets of one protocol may meet; bit `n` stands for limit `n`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProtocolLimits {
    /// Limits for this protocol; those with ports among them apply only if the port's
    /// mask has them too.
    pub all: u64,
    /// The part of `all` that names no ports: what applies when the port is unknown.
    pub portless: u64,
    /// The part of `all` that counts connections.
    pub connections: u64,
    /// The part of `all` that needs an exact clock; see [`Rate::can_tick`].
    pub exact: u64,
    /// The part of `all` that applies to throttled sources only.
    pub throttled: u64,
}

/// The scale of each limit by its slot, that words of other limits in a set can be read.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scales(pub [Scale; MAX_LIMITS as usize]);

impl Default for Scales {
    fn default() -> Self {
        Self([Scale::default(); MAX_LIMITS as usize])
    }
}

impl Scales {
    /// The scale of the limit with this slot.
    #[inline(always)]
    pub fn get(&self, slot: u8) -> Scale {
        let Self(scales) = self;
        scales
            .get(usize::from(slot) & (MAX_LIMITS as usize - 1))
            .copied()
            .unwrap_or_default()
    }
}

/// What a limit counts.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// Every packet, 1 each.
    Packets = 0,
    /// Every packet, its frame's length in bytes.
    Bytes = 1,
    /// TCP segments with SYN and without ACK, 1 each.
    Connections = 2,
}

impl Count {
    /// The name used in the configuration, in JSON and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Bytes => "bytes",
            Self::Connections => "connections",
        }
    }
}

/// One limit, as the packet path reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// The rate for each source.
    pub rate: Rate,
    /// Tells limits apart in events, also across restarts: a limit whose definition is
    /// unchanged keeps its id.
    pub id: u64,
    /// Tells limits apart in buckets: below [`MAX_LIMITS`]. A limit that keeps its id keeps
    /// its slot, and so its buckets.
    pub slot: u8,
    /// A [`Count`].
    pub count: u8,
    /// 1: over the limit is reported, not dropped.
    pub observe: u8,
    /// Bits of an IPv4 source that tell sources apart.
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 source that tell sources apart.
    pub ipv6_prefix: u8,
    /// Not used; explicit, that all bytes are initialised.
    pub padding: [u8; 3],
}

const _: () = assert!(size_of::<Limit>() == 40);

/// Why a source is banned.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BanCause {
    /// Someone said so.
    Manual = 0,
    /// It went over a limit too often.
    Limit = 1,
    /// It came with an import.
    Import = 2,
    /// A block list of the configuration names it.
    Blocklist = 3,
    /// Too many hosts in it are banned.
    Rollup = 4,
    /// A detector found it in what applications log.
    Detector = 5,
    /// An application told of its offences.
    Application = 6,
    /// A local API of `CrowdSec` has decided it.
    Crowdsec = 7,
    /// Another node of the fleet has banned it.
    Fleet = 8,
}

impl BanCause {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Manual,
        Self::Limit,
        Self::Import,
        Self::Blocklist,
        Self::Rollup,
        Self::Detector,
        Self::Application,
        Self::Crowdsec,
        Self::Fleet,
    ];

    /// The name used in JSON, in tables and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Limit => "limit",
            Self::Import => "import",
            Self::Blocklist => "blocklist",
            Self::Rollup => "rollup",
            Self::Detector => "detector",
            Self::Application => "application",
            Self::Crowdsec => "crowdsec",
            Self::Fleet => "fleet",
        }
    }

    /// Whether such a ban lasts for as long as others, who keep a list, name its source.
    pub const fn is_listed(self) -> bool {
        matches!(self, Self::Blocklist | Self::Crowdsec | Self::Fleet)
    }

    /// The cause with this number, as in [`Ban::cause`].
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| *cause as u64 == number)
    }
}

/// Who put an entry on the allow list.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AllowOrigin {
    /// The configuration: it goes when the configuration does not have it any more.
    Config = 0,
    /// Someone said so.
    Command = 1,
    /// It is an address of this host, its gateway, its resolver, or the other end of the SSH
    /// session that the daemon was started from.
    Automatic = 2,
    /// Another node of the fleet allows it.
    Fleet = 3,
}

impl AllowOrigin {
    /// The name used in JSON and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Command => "command",
            Self::Automatic => "automatic",
            Self::Fleet => "fleet",
        }
    }
}

/// One ban.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ban {
    /// When it ends, in nanoseconds of kernel time; 0: never.
    pub expires_ns: u64,
    /// Numbers bans; unique among those in force.
    pub id: u64,
    /// When a packet last met it, in nanoseconds of kernel time; 0: never.
    pub last_hit_ns: u64,
    /// A [`BanCause`].
    pub cause: u64,
    /// Packets that met it, and what of them was reported.
    pub hits: Hits,
}

const _: () = assert!(size_of::<Ban>() == 56);

impl Ban {
    /// Whether the ban is over at `now_ns` of kernel time.
    #[inline(always)]
    pub const fn expired(expires_ns: u64, now_ns: u64) -> bool {
        expires_ns != 0 && expires_ns <= now_ns
    }
}

impl<'a> Shared<'a, Ban> {
    /// When the ban ends; see [`Ban::expires_ns`].
    #[inline(always)]
    pub fn expires_ns(&self) -> Word<'a> {
        // SAFETY: `Shared::new` promises a live, aligned value for 'a.
        unsafe { Word::new(&raw mut (*self.as_ptr()).expires_ns) }
    }

    /// The ban's number.
    #[inline(always)]
    pub fn id(&self) -> Word<'a> {
        // SAFETY: as above.
        unsafe { Word::new(&raw mut (*self.as_ptr()).id) }
    }

    /// When a packet last met the ban.
    #[inline(always)]
    pub fn last_hit_ns(&self) -> Word<'a> {
        // SAFETY: as above.
        unsafe { Word::new(&raw mut (*self.as_ptr()).last_hit_ns) }
    }

    /// The count of packets that met the ban.
    #[inline(always)]
    pub fn hits(&self) -> Shared<'a, Hits> {
        // SAFETY: as above; a field of a live value is not null.
        unsafe {
            Shared::new(core::ptr::NonNull::new_unchecked(
                &raw mut (*self.as_ptr()).hits,
            ))
        }
    }
}

/// One limit that a source is throttled by, and until when.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Term {
    /// When it ends, in nanoseconds of kernel time; 0: never.
    pub expires_ns: u64,
    /// The limit's bit, by the bank: its number may be another one in each. No bit: no limit.
    pub limits: [u64; BANKS as usize],
}

/// One throttled source.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// The limits; those that are not used have no bits.
    pub terms: [Term; MAX_TERMS],
}

const _: () = assert!(size_of::<Throttle>() == 96);

impl Throttle {
    /// The limits in `bank` (0 or 1) that the source is throttled by at `now_ns` of kernel time.
    #[inline(always)]
    pub const fn limits(&self, bank: u32, now_ns: u64) -> u64 {
        // Unrolled by hand: a loop would be one for the verifier, too.
        let [first, second, third, fourth] = &self.terms;
        first.in_force(bank, now_ns)
            | second.in_force(bank, now_ns)
            | third.in_force(bank, now_ns)
            | fourth.in_force(bank, now_ns)
    }
}

impl Term {
    #[inline(always)]
    const fn in_force(&self, bank: u32, now_ns: u64) -> u64 {
        if Ban::expired(self.expires_ns, now_ns) {
            return 0;
        }
        let [zero, one] = self.limits;
        if bank == 0 { zero } else { one }
    }
}

/// What became of a packet. Every packet has exactly one outcome.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Passed: neither banned nor over a limit.
    Passed = 0,
    /// Passed: not IPv4 or IPv6.
    NotIp = 1,
    /// Passed, for the kernel to drop: a header is cut short or contradicts itself.
    Malformed = 2,
    /// Passed, because the allow list says so; otherwise it would have been dropped.
    Allowed = 3,
    /// Passed, because only observed; otherwise it would have been dropped.
    Observed = 4,
    /// Dropped: over a limit.
    DroppedLimit = 5,
    /// Dropped: from a banned source.
    DroppedBan = 6,
    /// Dropped: source or transport are [hidden](crate::packet::Unreadable::Hidden).
    DroppedHidden = 7,
}

impl Outcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Passed,
        Self::NotIp,
        Self::Malformed,
        Self::Allowed,
        Self::Observed,
        Self::DroppedLimit,
        Self::DroppedBan,
        Self::DroppedHidden,
    ];

    /// The name used in JSON and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::NotIp => "not_ip",
            Self::Malformed => "malformed",
            Self::Allowed => "allowed",
            Self::Observed => "observed",
            Self::DroppedLimit => "dropped_limit",
            Self::DroppedBan => "dropped_ban",
            Self::DroppedHidden => "dropped_hidden",
        }
    }

    /// Whether the packet was dropped.
    pub const fn dropped(self) -> bool {
        matches!(
            self,
            Self::DroppedLimit | Self::DroppedBan | Self::DroppedHidden
        )
    }
}

/// Packets and their bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

impl Traffic {
    /// Counts one packet with a frame of `length` bytes.
    #[inline(always)]
    pub fn count(&mut self, length: u32) {
        self.packets += 1;
        self.bytes += u64::from(length);
    }
}

impl core::ops::AddAssign for Traffic {
    fn add_assign(&mut self, Self { packets, bytes }: Self) {
        self.packets += packets;
        self.bytes += bytes;
    }
}

/// What one CPU counted on one interface.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes(pub [Traffic; Outcome::ALL.len()]);

impl Outcomes {
    /// Counts one packet with a frame of `length` bytes.
    #[inline(always)]
    pub fn count(&mut self, outcome: Outcome, length: u32) {
        // Masked, or the kernel's verifier would not know that it is there.
        const MASK: usize = Outcome::ALL.len() - 1;
        const _: () = assert!(Outcome::ALL.len().is_power_of_two());
        if let Some(traffic) = self.0.get_mut(outcome as usize & MASK) {
            traffic.count(length);
        }
    }

    /// What came to this outcome.
    pub fn of(&self, outcome: Outcome) -> Traffic {
        self.0.get(outcome as usize).copied().unwrap_or_default()
    }

    /// What came to any outcome.
    pub fn total(&self) -> Traffic {
        let mut total = Traffic::default();
        for traffic in self.0 {
            total += traffic;
        }
        total
    }

    /// All of them, in the order of their numbers.
    pub fn each(&self) -> impl Iterator<Item = (Outcome, Traffic)> {
        Outcome::ALL.into_iter().zip(self.0)
    }
}

impl core::ops::AddAssign for Outcomes {
    fn add_assign(&mut self, other: Self) {
        for (sum, traffic) in self.0.iter_mut().zip(other.0) {
            *sum += traffic;
        }
    }
}

/// What one packet over or within a limit is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitOutcome {
    /// Within this limit and all others.
    Passed,
    /// Over it.
    Over(Verdict),
    /// Besides `Over`: the bucket could not be updated.
    Contended,
}

/// What one CPU counted under one limit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitCounters {
    /// Within this limit and all others, and charged.
    pub passed: Traffic,
    /// Over it, and dropped for it.
    pub dropped: Traffic,
    /// Over it, and passed because only observed.
    pub observed: Traffic,
    /// Over it, and passed because the allow list says so.
    pub allowed: Traffic,
    /// Packets of the three above that were counted as over because the bucket could not be updated.
    pub contended: u64,
}

impl LimitCounters {
    /// Counts one packet with a frame of `length` bytes.
    #[inline(always)]
    pub fn count(&mut self, outcome: LimitOutcome, length: u32) {
        match outcome {
            LimitOutcome::Passed => self.passed.count(length),
            LimitOutcome::Over(Verdict::Drop) => self.dropped.count(length),
            LimitOutcome::Over(Verdict::Observe) => self.observed.count(length),
            LimitOutcome::Over(Verdict::Allow) => self.allowed.count(length),
            LimitOutcome::Contended => self.contended += 1,
        }
    }
}

impl core::ops::AddAssign for LimitCounters {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.dropped += other.dropped;
        self.observed += other.observed;
        self.allowed += other.allowed;
        self.contended += other.contended;
    }
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: all of these are `repr(C)` or transparent, made of integers and explicit
    // padding, so any bytes are a value and every byte is initialised.
    unsafe impl aya::Pod for super::Settings {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ProtocolLimits {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Limit {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Host {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Ban {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Throttle {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Outcomes {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::LimitCounters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Scales {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::gate::EventStats {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::gate::SourceStats {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::prefix::PrefixKey {}
}
