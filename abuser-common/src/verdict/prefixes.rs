//! Bans and the allow list: the longest prefix that covers a source.

use crate::{
    gate,
    gcra::KernelTime,
    layout::Ban,
    prefix::{self, Family, LengthMask, Lengths, List, Source},
};

use super::Tables;

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
    let [low, middle, high] = tables.hints(list, source);
    let short = tables.lengths(list).of(source.family) & !Lengths::LONGER;
    match source.family {
        Family::V4 => [low | short, 0, 0],
        Family::V6 => [low | short, middle, high],
    }
}

/// Looks for the longest unexpired ban that covers `source` and counts the packet there;
/// what [`Tables::meet_ban`] does.
#[inline(always)]
pub fn meet_ban<T: Tables>(tables: &T, source: &Source, now: KernelTime) -> BanMet {
    prefix::longest(lengths(tables, List::Bans, source), |length| {
        let met = tables.meet_ban_of(source, length, now);
        met.banned().then_some(met)
    })
    .unwrap_or_default()
}

/// Counts the packet in the ban of the first `length` bits of `source`, if there is one;
/// what [`Tables::meet_ban_of`] does.
#[inline(always)]
pub fn meet_ban_of<T: Tables>(tables: &T, source: &Source, length: u8, now: KernelTime) -> BanMet {
    let masked = source.masked(length);
    if !tables.filter(prefix::filter_bit(List::Bans, &masked, length)) {
        return BanMet::default();
    }
    let Some(ban) = tables.ban(&masked.prefix(length)) else {
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
    let masked = source.masked(length);
    tables.filter(prefix::filter_bit(List::Allowed, &masked, length))
        && tables.is_listed(&masked.prefix(length))
}
