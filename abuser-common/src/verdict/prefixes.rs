//! Bans and the allow list: the longest prefix that covers a source. Throttles: all that do.

use crate::{
    bits, gate,
    gcra::KernelTime,
    layout::Ban,
    prefix::{self, Family, LengthMask, Lengths, List, Source},
};

use super::{Kernel, Packet, Tables};

/// Whether a source is banned, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BanMet(pub u64);

impl BanMet {
    const BANNED: u64 = 1 << 8;
    const DUE: u64 = 1 << 9;
    const LENGTH: u64 = 0xff;

    /// An unexpired ban covers the source.
    #[inline(always)]
    pub const fn banned(self) -> bool {
        self.0 & Self::BANNED != 0
    }

    /// One does, and an event is due.
    #[inline(always)]
    pub const fn due(self) -> bool {
        self.0 & Self::DUE != 0
    }

    /// The length of the ban's prefix in bits.
    #[inline(always)]
    pub const fn length(self) -> u8 {
        (self.0 & Self::LENGTH) as u8
    }
}

/// The lengths of `list` that a source can be covered by.
#[inline(always)]
fn lengths<T: Tables>(tables: &T, list: List, source: &Source) -> LengthMask {
    let short = tables.lengths(list).of(source.family) & !Lengths::LONGER;
    let [low, middle, high] = tables.hints(list, source);
    match source.family {
        Family::V4 => [low | short, 0, 0],
        Family::V6 => [low | short, middle, high & 1],
    }
}

/// Those of `lengths` that are left if there is nothing in the source's neighbourhood.
#[inline(always)]
fn narrow<T: Tables>(tables: &T, list: List, source: &Source, lengths: LengthMask) -> LengthMask {
    let near = prefix::near_lengths(source.family);
    if is_none(and(lengths, near)) || tables.filter(prefix::neighbourhood_bit(list, source)) {
        return lengths;
    }
    let [low, middle, high] = near;
    and(lengths, [!low, !middle, !high])
}

/// Whether a list has no entry of a family.
#[inline(always)]
pub(super) fn is_empty<T: Tables>(tables: &T, list: List, family: Family) -> bool {
    tables.lengths(list).of(family) == 0
}

#[inline(always)]
const fn and(a: LengthMask, b: LengthMask) -> LengthMask {
    let ([a_low, a_middle, a_high], [b_low, b_middle, b_high]) = (a, b);
    [a_low & b_low, a_middle & b_middle, a_high & b_high]
}

#[inline(always)]
const fn is_none([low, middle, high]: LengthMask) -> bool {
    low | middle | high == 0
}

/// Looks for the longest unexpired ban that covers `source` and counts the packet there.
///
/// Most bans are of hosts: those are looked for here, and only if there are others about is
/// the function called that looks for all lengths.
#[inline(always)]
pub(super) fn find_ban<T: Tables, K: Kernel>(tables: &T, kernel: &K, source: &Source) -> BanMet {
    if is_empty(tables, List::Bans, source.family) {
        return BanMet::default();
    }
    let lengths = lengths(tables, List::Bans, source);
    if is_none(lengths) {
        return BanMet::default();
    }
    let now = kernel.tick();
    let (lengths, host) = split_host(lengths, source.family);
    if host {
        // Each family by itself: of a length that the compiler knows little is left to do.
        let met = match source.family {
            Family::V4 => meet_ban_of(tables, source, Family::V4.bits(), now),
            Family::V6 => meet_ban_of(tables, source, Family::V6.bits(), now),
        };
        if met.banned() {
            return met;
        }
    }
    if is_none(narrow(tables, List::Bans, source, lengths)) {
        return BanMet::default();
    }
    tables.meet_ban(source, now)
}

/// The lengths without that of a host, and whether it was among them.
#[inline(always)]
const fn split_host([low, middle, high]: LengthMask, family: Family) -> (LengthMask, bool) {
    const HOST_V4: u64 = 1 << 32;
    match family {
        Family::V4 => ([low & !HOST_V4, 0, 0], low & HOST_V4 != 0),
        Family::V6 => ([low, middle, 0], high & 1 != 0),
    }
}

/// Looks for the longest unexpired ban of a network that covers `source` and counts the
/// packet there; what [`Tables::meet_ban`] does.
#[inline(always)]
pub fn meet_ban<T: Tables>(tables: &T, source: &Source, now: KernelTime) -> BanMet {
    let (lengths, _) = split_host(lengths(tables, List::Bans, source), source.family);
    prefix::longest(lengths, |length| {
        let met = tables.meet_ban_of(source, length, now);
        met.banned().then_some(met)
    })
    .unwrap_or_default()
}

/// Whether the filter knows of the first `length` bits of `source`.
#[inline(always)]
fn is_hinted<T: Tables>(tables: &T, list: List, source: &Source, length: u8) -> bool {
    tables.filter(prefix::filter_bit(list, &source.masked(length), length))
}

/// Counts the packet in the ban of the first `length` bits of `source`, if there is one;
/// what [`Tables::meet_ban_of`] does.
#[inline(always)]
pub fn meet_ban_of<T: Tables>(tables: &T, source: &Source, length: u8, now: KernelTime) -> BanMet {
    if !is_hinted(tables, List::Bans, source, length) {
        return BanMet::default();
    }
    let Some(ban) = tables.ban(&source.prefix(length)) else {
        return BanMet::default();
    };
    if Ban::expired(ban.expires_ns().load(), now.0) {
        return BanMet::default();
    }
    let last_hit_ns = ban.last_hit_ns();
    if last_hit_ns.load() != now.0 {
        last_hit_ns.store(now.0);
    }
    let hits = ban.hits();
    hits.add();
    let due = if gate::is_due(hits.event_ns(), now) {
        BanMet::DUE
    } else {
        0
    };
    BanMet(BanMet::BANNED | due | u64::from(length))
}

/// Whether the allow list covers `source`; what [`Tables::is_allowed`] does.
#[inline(always)]
pub fn is_allowed<T: Tables>(tables: &T, source: &Source) -> bool {
    prefix::longest(lengths(tables, List::Allowed, source), |length| {
        tables.allows(source, length).then_some(())
    })
    .is_some()
}

/// Whether the allow list has exactly the first `length` bits of `source`; what
/// [`Tables::allows`] does.
#[inline(always)]
pub fn allows<T: Tables>(tables: &T, source: &Source, length: u8) -> bool {
    is_hinted(tables, List::Allowed, source, length) && tables.is_listed(&source.prefix(length))
}

/// The limits that the source of a packet is throttled by.
///
/// Most sources are not, as the hints say; only for the others is the function called that looks
/// for all lengths.
#[inline(always)]
pub(super) fn find_throttling<T: Tables, K: Kernel>(
    tables: &T,
    kernel: &K,
    packet: &Packet,
) -> u64 {
    let Packet {
        source, settings, ..
    } = packet;
    if is_empty(tables, List::Throttled, source.family) {
        return 0;
    }
    let lengths = lengths(tables, List::Throttled, source);
    if is_none(lengths) || is_none(narrow(tables, List::Throttled, source, lengths)) {
        return 0;
    }
    tables.throttling(source, settings.bank(), kernel.tick())
}

/// The limits in `bank` that some unexpired throttle of a prefix that covers `source` names; what
/// [`Tables::throttling`] does.
#[inline(always)]
pub fn throttling<T: Tables>(tables: &T, source: &Source, bank: u32, now: KernelTime) -> u64 {
    let lengths = lengths(tables, List::Throttled, source);
    let [low, middle, high] = narrow(tables, List::Throttled, source, lengths);
    let mut limits = 0;
    if low != 0 {
        limits |= tables.throttling_from(source, 0, low, bank, now);
    }
    if middle != 0 {
        limits |= tables.throttling_from(source, 64, middle, bank, now);
    }
    if high != 0 {
        limits |= tables.throttling_of(source, Family::V6.bits(), bank, now);
    }
    limits
}

/// As [`throttling`], for prefixes whose lengths are `base` and the numbers of the bits of
/// `lengths`; what [`Tables::throttling_from`] does.
#[inline(always)]
pub fn throttling_from<T: Tables>(
    tables: &T,
    source: &Source,
    base: u8,
    mut lengths: u64,
    bank: u32,
    now: KernelTime,
) -> u64 {
    let mut limits = 0;
    // Counted, not `while`: the verifier cannot see that it shrinks. All are asked, so in any order:
    // the lowest bit is the cheapest to find.
    for _ in 0..u64::BITS {
        if lengths == 0 {
            break;
        }
        let length = base + bits::lowest(lengths);
        lengths &= lengths - 1;
        limits |= tables.throttling_of(source, length, bank, now);
    }
    limits
}

/// The limits that the unexpired throttle of exactly the first `length` bits of `source` names;
/// what [`Tables::throttling_of`] does.
#[inline(always)]
pub fn throttling_of<T: Tables>(
    tables: &T,
    source: &Source,
    length: u8,
    bank: u32,
    now: KernelTime,
) -> u64 {
    if !is_hinted(tables, List::Throttled, source, length) {
        return 0;
    }
    match tables.throttle(&source.prefix(length)) {
        Some(throttle) => throttle.limits(bank, now.0),
        None => 0,
    }
}
