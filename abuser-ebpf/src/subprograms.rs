//! The parts of the packet path that loop, as functions of their own.
//!
//! The verifier checks a global function once, for any arguments, instead of once for
//! every state in which it could be reached (Linux 5.6). Such a function takes at most
//! five plain numbers and returns one, so each comes with its packing.

use abuser_common::{
    gcra::KernelTime,
    prefix::{Family, Source},
    verdict::{self, BanMet, ChargeRequest, Charged},
};

use crate::tables::Maps;

#[inline(always)]
const fn source(is_ipv6: u64, high: u64, low: u64) -> Source {
    Source {
        family: if is_ipv6 & 1 == 0 {
            Family::V4
        } else {
            Family::V6
        },
        high,
        low,
    }
}

#[inline(always)]
fn is_ipv6(source: &Source) -> u64 {
    u64::from(source.family == Family::V6)
}

#[inline(always)]
pub(crate) fn call_meet_ban(source: &Source) -> BanMet {
    BanMet(meet_ban(is_ipv6(source), source.high, source.low))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn meet_ban(is_ipv6: u64, high: u64, low: u64) -> u64 {
    verdict::meet_ban(&Maps, &source(is_ipv6, high, low)).0
}

#[inline(always)]
pub(crate) fn call_meet_ban_of(source: &Source, length: u8) -> BanMet {
    let prefix = u64::from(length) << 1 | is_ipv6(source);
    BanMet(meet_ban_of(prefix, source.high, source.low))
}

/// `prefix` holds the length and, in the lowest bit, whether it is IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn meet_ban_of(prefix: u64, high: u64, low: u64) -> u64 {
    verdict::meet_ban_of(&Maps, &source(prefix, high, low), (prefix >> 1) as u8).0
}

#[inline(always)]
pub(crate) fn call_allows(source: &Source, length: u8) -> bool {
    let prefix = u64::from(length) << 1 | is_ipv6(source);
    allows(prefix, source.high, source.low) != 0
}

/// `prefix` as for `meet_ban_of`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn allows(prefix: u64, high: u64, low: u64) -> u64 {
    u64::from(Maps::allows_prefix(
        &source(prefix, high, low).prefix((prefix >> 1) as u8),
    ))
}

#[inline(always)]
pub(crate) fn call_is_allowed(source: &Source) -> bool {
    is_allowed(is_ipv6(source), source.high, source.low) != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_allowed(is_ipv6: u64, high: u64, low: u64) -> u64 {
    u64::from(verdict::is_allowed(&Maps, &source(is_ipv6, high, low)))
}

/// The bits of a frame's length that are passed on; longer frames do not exist.
const LENGTH: u32 = 0x1f_ffff;

#[inline(always)]
pub(crate) fn call_charge(request: &ChargeRequest) -> Charged {
    let ChargeRequest {
        index,
        length,
        opens_connection,
        source,
        now,
    } = request;
    let packet = u64::from(*index) << 32
        | u64::from(length & LENGTH) << 2
        | u64::from(*opens_connection) << 1
        | is_ipv6(source);
    Charged(charge(packet, source.high, source.low, now.0))
}

/// `packet` holds the limit's index in the upper half, then the frame's length, whether
/// it opens a connection, and whether it is IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn charge(packet: u64, high: u64, low: u64, now_ns: u64) -> u64 {
    let request = ChargeRequest {
        index: (packet >> 32) as u32,
        length: (packet >> 2) as u32 & LENGTH,
        opens_connection: packet & 2 != 0,
        source: source(packet, high, low),
        now: KernelTime(now_ns),
    };
    verdict::charge(&Maps, &request).0
}
