//! The parts of the packet path that loop, and the bodies of loops, as functions of their own.
//!
//! The verifier checks a global function once, for any arguments, instead of once for
//! every state in which it could be reached (Linux 5.6). Such a function takes at most
//! five plain numbers (or the context, for one) and returns one, so each comes with its
//! packing. It costs some 5 ns more than code that is part of the path.

use abuser_common::{
    event::Verdict,
    gcra::KernelTime,
    layout::Settings,
    packet::{self, MAX_OFFSET, NextHeader, Transport},
    prefix::{Family, Source},
    verdict::{
        At, Connection, Packet,
        limits::{self, Applied, ChargeRequest, Charged},
        prefixes::{self, BanMet},
        report,
    },
};

use aya_ebpf::{EbpfContext as _, bindings::xdp_md, programs::XdpContext};

use crate::{bytes::Frame, kernel::Machine, sockets, tables::Maps};

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

/// A length in bits, then the bank and, in the lowest bit, whether it is IPv6.
#[inline(always)]
fn pack_length(source: &Source, length: u8, bank: u32) -> u64 {
    u64::from(length) << 2 | u64::from(bank & 1) << 1 | is_ipv6(source)
}

#[inline(always)]
const fn unpack_length(packed: u64) -> (u8, u32) {
    ((packed >> 2) as u8, (packed >> 1) as u32 & 1)
}

#[inline(always)]
pub(crate) fn call_throttling(source: &Source, bank: u32, now: KernelTime) -> u64 {
    throttling(pack_length(source, 0, bank), source.high, source.low, now.0)
}

/// `bank` as `pack_length` makes it, with no length.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn throttling(bank: u64, high: u64, low: u64, now_ns: u64) -> u64 {
    let source = source(bank, high, low);
    let (_, bank) = unpack_length(bank);
    prefixes::throttling(&Maps, &source, bank, KernelTime(now_ns))
}

#[inline(always)]
pub(crate) fn call_throttling_from(
    source: &Source,
    base: u8,
    lengths: u64,
    bank: u32,
    now: KernelTime,
) -> u64 {
    let base = pack_length(source, base, bank);
    throttling_from(base, lengths, source.high, source.low, now.0)
}

/// `base` as `pack_length` makes it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn throttling_from(base: u64, lengths: u64, high: u64, low: u64, now_ns: u64) -> u64 {
    let source = source(base, high, low);
    let (base, bank) = unpack_length(base);
    prefixes::throttling_from(&Maps, &source, base, lengths, bank, KernelTime(now_ns))
}

#[inline(always)]
pub(crate) fn call_throttling_of(source: &Source, length: u8, bank: u32, now: KernelTime) -> u64 {
    let prefix = pack_length(source, length, bank);
    throttling_of(prefix, source.high, source.low, now.0)
}

/// `prefix` as `pack_length` makes it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn throttling_of(prefix: u64, high: u64, low: u64, now_ns: u64) -> u64 {
    let source = source(prefix, high, low);
    let (length, bank) = unpack_length(prefix);
    prefixes::throttling_of(&Maps, &source, length, bank, KernelTime(now_ns))
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
pub(crate) fn call_apply_several(packet: &Packet, limits: u64, now: KernelTime) -> Applied {
    let Source { high, low, .. } = packet.source;
    Applied(apply_several(
        Token::new(packet, false).0,
        high,
        low,
        limits,
        now.0,
    ))
}

/// The source is passed, not read from the frame again: reading branches by its family, and the verifier would walk
/// all of this once for each.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn apply_several(token: u64, high: u64, low: u64, limits: u64, now_ns: u64) -> u64 {
    let packet = Token(token).packet(source(token, high, low));
    limits::apply_several(&packet, &Maps, limits, KernelTime(now_ns)).0
}

#[inline(always)]
pub(crate) fn call_charge_again(request: &ChargeRequest) -> Charged {
    let ChargeRequest { source, now, .. } = request;
    Charged(charge_again(pack(request), source.high, source.low, now.0))
}

/// `packet` as `pack` makes it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn charge_again(packet: u64, high: u64, low: u64, now_ns: u64) -> u64 {
    limits::charge_again(&Maps, &unpack(packet, high, low, now_ns)).0
}

#[inline(always)]
pub(crate) fn call_charge_once(request: &ChargeRequest) -> Charged {
    let ChargeRequest { source, now, .. } = request;
    Charged(charge_once(pack(request), source.high, source.low, now.0))
}

/// `packet` as `pack` makes it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn charge_once(packet: u64, high: u64, low: u64, now_ns: u64) -> u64 {
    limits::charge_once(&Maps, &unpack(packet, high, low, now_ns)).0
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

#[inline(always)]
pub(crate) fn call_count_several(
    mask: u64,
    observing: u64,
    verdict: Verdict,
    settings: Settings,
    length: u32,
) {
    let packet = u64::from(length & LENGTH) << 4 | (settings.0 & 3) << 2 | verdict as u64;
    count_several(mask, observing, packet);
}

/// `packet` holds the frame's length, the program's settings (2 bits) and the verdict (2).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_several(mask: u64, observing: u64, packet: u64) -> u64 {
    let (verdict, settings) = (Verdict::from_bits(packet), Settings(packet >> 2 & 3));
    let length = (packet >> 4) as u32;
    limits::count_several(&Maps, mask, observing, verdict, settings, length);
    0
}

#[inline(always)]
pub(crate) fn call_count_over(index: u32, verdict: Verdict, length: u32) {
    count_over(index.into(), verdict as u64, length.into());
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_over(index: u64, verdict: u64, length: u64) -> u64 {
    limits::count_over(
        &Maps,
        index as u32,
        Verdict::from_bits(verdict),
        length as u32,
    );
    0
}

/// What is known of a packet, in one word, but for its source, which is read again or passed beside it: from the
/// lowest bit, whether it is IPv6, whether the time is told, the program's settings (2 bits),
/// the IP header's offset (13), the frame's length (21), and 24 for whoever has more to say.
#[derive(Clone, Copy)]
pub(crate) struct Token(u64);

impl Token {
    const TOLD: u64 = 1 << 1;
    const SETTINGS_SHIFT: u32 = 2;
    const OFFSET_SHIFT: u32 = 4;
    const LENGTH_SHIFT: u32 = 17;
    const MORE_SHIFT: u32 = 40;

    #[inline(always)]
    pub(crate) fn new(packet: &Packet, told: bool) -> Self {
        Self(
            is_ipv6(&packet.source)
                | if told { Self::TOLD } else { 0 }
                | (packet.settings.0 & 3) << Self::SETTINGS_SHIFT
                | ((packet.offset & MAX_OFFSET) as u64) << Self::OFFSET_SHIFT
                | u64::from(packet.length & LENGTH) << Self::LENGTH_SHIFT,
        )
    }

    #[inline(always)]
    fn with(self, more: u8, verdict: Verdict) -> u64 {
        let more = u64::from(more) << 8 | verdict as u64;
        self.0 | more << Self::MORE_SHIFT
    }

    #[inline(always)]
    fn more(self) -> (u8, Verdict) {
        let more = self.0 >> Self::MORE_SHIFT;
        ((more >> 8) as u8, Verdict::from_bits(more))
    }

    #[inline(always)]
    fn family(self) -> Family {
        source(self.0, 0, 0).family
    }

    /// Bounded by a mask: a comparison the compiler would make before the shift, where it
    /// tells the verifier nothing.
    #[inline(always)]
    fn offset(self) -> usize {
        (self.0 >> Self::OFFSET_SHIFT) as usize & MAX_OFFSET
    }

    /// The packet, with its `source`.
    #[inline(always)]
    fn packet(self, source: Source) -> Packet {
        Packet {
            source,
            offset: self.offset(),
            length: (self.0 >> Self::LENGTH_SHIFT) as u32 & LENGTH,
            settings: Settings(self.0 >> Self::SETTINGS_SHIFT & 3),
        }
    }

    #[inline(always)]
    fn told(self, now_ns: u64) -> Option<KernelTime> {
        (self.0 & Self::TOLD != 0).then_some(KernelTime(now_ns))
    }
}

/// Calls `part` with what a function of its own was passed.
#[inline(always)]
fn resume<R: Default>(
    ctx: *mut xdp_md,
    token: Token,
    now_ns: u64,
    part: impl FnOnce(&At<'_, Frame<'_>>, &Machine<'_>) -> R,
) -> R {
    let ctx = XdpContext::new(ctx);
    let frame = Frame::new(&ctx);
    let Some(source) = packet::source_at(&frame, token.family(), token.offset()) else {
        return R::default();
    };
    let at = At {
        bytes: &frame,
        packet: token.packet(source),
    };
    let machine = Machine {
        ctx: &ctx,
        told: token.told(now_ns),
    };
    part(&at, &machine)
}

#[inline(always)]
pub(crate) fn call_transport_of_ipv6(ctx: &XdpContext, token: Token) -> Transport {
    Transport(transport_of_ipv6(ctx.as_ptr().cast(), token.0))
}

/// `ctx` is the program's own, which the verifier knows by its type; so it is in all of these.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn transport_of_ipv6(ctx: *mut xdp_md, token: u64) -> u64 {
    let ctx = XdpContext::new(ctx);
    packet::transport_of_ipv6(&Frame::new(&ctx), Token(token).offset()).0
}

#[inline(always)]
pub(crate) fn call_pass_extension(ctx: &XdpContext, at: NextHeader) -> NextHeader {
    NextHeader(pass_extension(ctx.as_ptr().cast(), at.0))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pass_extension(ctx: *mut xdp_md, at: u64) -> u64 {
    let ctx = XdpContext::new(ctx);
    packet::pass_extension(&Frame::new(&ctx), NextHeader(at)).0
}

#[inline(always)]
pub(crate) fn call_connection(ctx: &XdpContext, token: Token, transport: Transport) -> Connection {
    match connection(ctx.as_ptr().cast(), token.0, transport.0) {
        ESTABLISHED => Connection::Established,
        OPENING => Connection::Opening,
        _ => Connection::None,
    }
}

const OPENING: u64 = Connection::Opening as u64;
const ESTABLISHED: u64 = Connection::Established as u64;

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn connection(ctx: *mut xdp_md, token: u64, transport: u64) -> u64 {
    let (ctx, token) = (XdpContext::new(ctx), Token(token));
    let segment = packet::tcp_tuple(
        &Frame::new(&ctx),
        token.family(),
        token.offset(),
        Transport(transport),
    );
    sockets::connection(&ctx, segment) as u64
}

#[inline(always)]
pub(crate) fn call_note_connection(
    ctx: &XdpContext,
    token: Token,
    transport: Transport,
    now: KernelTime,
) {
    note_connection(ctx.as_ptr().cast(), token.0, transport.0, now.0);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note_connection(ctx: *mut xdp_md, token: u64, transport: u64, now_ns: u64) -> u64 {
    resume(ctx, Token(token), now_ns, |at, machine| {
        limits::note_connection(at, &Maps, machine, Transport(transport), KernelTime(now_ns));
    });
    0
}

#[inline(always)]
pub(crate) fn call_report_ban(
    ctx: &XdpContext,
    token: Token,
    length: u8,
    verdict: Verdict,
    now: KernelTime,
) {
    report_ban(ctx.as_ptr().cast(), token.with(length, verdict), now.0);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn report_ban(ctx: *mut xdp_md, token: u64, now_ns: u64) -> u64 {
    resume(ctx, Token(token), now_ns, |at, machine| {
        let (length, verdict) = Token(token).more();
        report::report_ban(at, &Maps, machine, length, verdict);
    });
    0
}

#[inline(always)]
pub(crate) fn call_report_limit(
    ctx: &XdpContext,
    token: Token,
    number: u8,
    verdict: Verdict,
    now: KernelTime,
) {
    report_limit(ctx.as_ptr().cast(), token.with(number, verdict), now.0);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn report_limit(ctx: *mut xdp_md, token: u64, now_ns: u64) -> u64 {
    resume(ctx, Token(token), now_ns, |at, machine| {
        let (number, verdict) = Token(token).more();
        report::report_limit(at, &Maps, machine, number & 63, verdict);
    });
    0
}
