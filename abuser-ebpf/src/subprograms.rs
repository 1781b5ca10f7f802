//! The parts of the packet path that loop, as functions of their own.
//!
//! The verifier checks a global function once, for any arguments, instead of once for
//! every state in which it could be reached (Linux 5.6). Such a function takes at most
//! five plain numbers (or the context, for one) and returns one, so each comes with its packing.

use abuser_common::{
    gcra::KernelTime,
    packet::{self, MAX_OFFSET, Network, Transport},
    prefix::{Family, Source},
    verdict::{
        limits::{self, ChargeRequest, Charged},
        prefixes::{self, BanMet},
    },
};

use aya_ebpf::{EbpfContext as _, bindings::xdp_md, programs::XdpContext};

use crate::{bytes::Frame, sockets, tables::Maps};

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
pub(crate) fn call_meet_ban(source: &Source, now: KernelTime) -> BanMet {
    BanMet(meet_ban(is_ipv6(source), source.high, source.low, now.0))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn meet_ban(is_ipv6: u64, high: u64, low: u64, now_ns: u64) -> u64 {
    prefixes::meet_ban(&Maps, &source(is_ipv6, high, low), KernelTime(now_ns)).0
}

#[inline(always)]
pub(crate) fn call_meet_ban_of(source: &Source, length: u8, now: KernelTime) -> BanMet {
    let prefix = u64::from(length) << 1 | is_ipv6(source);
    BanMet(meet_ban_of(prefix, source.high, source.low, now.0))
}

/// `prefix` holds the length and, in the lowest bit, whether it is IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn meet_ban_of(prefix: u64, high: u64, low: u64, now_ns: u64) -> u64 {
    let source = source(prefix, high, low);
    prefixes::meet_ban_of(&Maps, &source, (prefix >> 1) as u8, KernelTime(now_ns)).0
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
    let source = source(prefix, high, low);
    u64::from(prefixes::allows(&Maps, &source, (prefix >> 1) as u8))
}

#[inline(always)]
pub(crate) fn call_is_allowed(source: &Source) -> bool {
    is_allowed(is_ipv6(source), source.high, source.low) != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_allowed(is_ipv6: u64, high: u64, low: u64) -> u64 {
    u64::from(prefixes::is_allowed(&Maps, &source(is_ipv6, high, low)))
}

/// The bits of a frame's length that are passed on; longer frames do not exist.
const LENGTH: u32 = 0x1f_ffff;

/// The limit's index in the upper half, then the frame's length, and whether it is IPv6.
#[inline(always)]
fn pack(request: &ChargeRequest) -> u64 {
    u64::from(request.index) << 32
        | u64::from(request.length & LENGTH) << 1
        | is_ipv6(&request.source)
}

#[inline(always)]
fn unpack(packet: u64, high: u64, low: u64, now_ns: u64) -> ChargeRequest {
    ChargeRequest {
        index: (packet >> 32) as u32,
        length: (packet >> 1) as u32 & LENGTH,
        source: source(packet, high, low),
        now: KernelTime(now_ns),
    }
}

#[inline(always)]
pub(crate) fn call_charge(request: &ChargeRequest) -> Charged {
    let ChargeRequest { source, now, .. } = request;
    Charged(charge(pack(request), source.high, source.low, now.0))
}

/// `packet` as `pack` makes it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn charge(packet: u64, high: u64, low: u64, now_ns: u64) -> u64 {
    limits::charge(&Maps, &unpack(packet, high, low, now_ns)).0
}

#[inline(always)]
pub(crate) fn call_check(request: &ChargeRequest) -> Charged {
    let ChargeRequest { source, now, .. } = request;
    Charged(check(pack(request), source.high, source.low, now.0))
}

/// `packet` as `pack` makes it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn check(packet: u64, high: u64, low: u64, now_ns: u64) -> u64 {
    limits::check(&Maps, &unpack(packet, high, low, now_ns)).0
}

/// The IP header's offset and, in the lowest bit, whether it is IPv6.
#[inline(always)]
fn header(network: &Network) -> u64 {
    (network.offset as u64) << 1 | is_ipv6(&network.source)
}

/// The offset, bounded by a mask: a comparison the compiler would make before the shift,
/// where it tells the verifier nothing.
#[inline(always)]
fn offset(header: u64) -> usize {
    (header >> 1) as usize & MAX_OFFSET
}

#[inline(always)]
pub(crate) fn call_transport(ctx: &XdpContext, network: &Network) -> Transport {
    Transport(transport(ctx.as_ptr().cast(), header(network)))
}

/// `ctx` is the program's own, which the verifier knows by its type.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn transport(ctx: *mut xdp_md, header: u64) -> u64 {
    let ctx = XdpContext::new(ctx);
    let family = source(header, 0, 0).family;
    packet::transport(&Frame::new(&ctx), family, offset(header)).0
}

#[inline(always)]
pub(crate) fn call_is_connected(ctx: &XdpContext, network: &Network, transport: Transport) -> bool {
    is_connected(ctx.as_ptr().cast(), header(network), transport.0) != 0
}

/// `ctx` as for `transport`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_connected(ctx: *mut xdp_md, header: u64, transport: u64) -> u64 {
    let ctx = XdpContext::new(ctx);
    let family = source(header, 0, 0).family;
    let frame = Frame::new(&ctx);
    let tuple = packet::tcp_tuple(&frame, family, offset(header), Transport(transport));
    u64::from(sockets::is_connected(&ctx, tuple))
}
