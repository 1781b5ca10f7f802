//! The order of the packet path.
//!
//! ```text
//! parse -> not IP?                              pass
//!       -> source hidden?                       drop
//!       -> banned (unexpired)?                  about to drop, reason `ban`
//!       -> transport hidden?                    about to drop
//!       -> each limit for (protocol, port):
//!            over it?                           about to drop, reason `limit`
//!       -> otherwise                            pass
//! about to drop -> in the allow list?           pass, counted as allowed
//!               -> limit or program observing?  pass, counted as observed
//!               -> otherwise                    drop
//! ```
//!
//! The allow list is asked only before a drop: the common path never pays for it, and
//! still it beats everything. Limits are independent: every one that applies to a packet
//! is charged, and the packet must conform to all. The first in the configuration's order
//! that would drop it gives the reason.

use crate::{
    atomic::Shared,
    bits,
    bucket::{self, Bucket, Charge},
    event::{EVENT_VERSION, Event, Reason, Verdict},
    gate::{EventOutcome, Hits},
    gcra::{KernelTime, MAX_COST},
    layout::{
        Ban, BucketKey, Count, Limit, LimitOutcome, MAX_LIMITS, Outcome, PORTS_PER_BANK,
        PROTOCOLS_PER_BANK, ProtocolLimits, Settings,
    },
    packet::{self, Bytes, Network, Transport, Unreadable},
    prefix::{self, Family, Lengths, List, PrefixKey, Source},
};

/// Where the state of the packet path lives: BPF maps, or collections on the host.
pub trait Tables {
    /// What steers the whole program.
    fn settings(&self) -> Settings;
    /// The clock. It is the dearest call, so it is asked only where a time is needed.
    fn now(&self) -> KernelTime;
    /// Prefix lengths that occur in `list`.
    fn lengths(&self, list: List) -> Lengths;
    /// The ban of exactly this prefix, expired or not.
    fn ban(&self, prefix: &PrefixKey) -> Option<Shared<'_, Ban>>;
    /// The limits for a protocol; `index` is `bank * 256 + protocol`.
    fn protocol(&self, index: u32) -> ProtocolLimits;
    /// The mask of limits for a port; `index` is `bank * 65536 + port`.
    fn port(&self, index: u32) -> u64;
    /// A limit; `index` is `bank * 64 + limit`.
    fn limit(&self, index: u32) -> Option<Limit>;
    /// The bucket of a source, made full if there was none; `None` if it cannot be made.
    fn bucket(&self, key: &BucketKey) -> Option<Shared<'_, Bucket>>;
    /// Counts a packet under a limit; `index` as for [`Tables::limit`].
    fn count_limit(&self, index: u32, outcome: LimitOutcome);
    /// Takes one event from this CPU's budget; see [`crate::gate::EventStats`].
    fn take_event_budget(&self, now: KernelTime) -> bool;
    /// Counts what became of an event.
    fn count_event(&self, outcome: EventOutcome);
    /// Writes an event; `false` if there is no room.
    fn emit(&self, event: impl FnOnce() -> Event) -> bool;

    // The parts below are loops and the bodies of loops. Inlined, the kernel's verifier
    // would walk each again for every way that leads to it, and refuse the program as too
    // large; so the program calls them as functions that are verified once, and everything
    // else calls them as they are.

    /// Calls [`meet_ban`].
    fn meet_ban(&self, source: &Source) -> BanMet;
    /// Calls [`meet_ban_of`].
    fn meet_ban_of(&self, source: &Source, length: u8) -> BanMet;
    /// Whether the allow list has exactly the first `length` bits of `source`.
    fn allows(&self, source: &Source, length: u8) -> bool;
    /// Calls [`is_allowed`].
    fn is_allowed(&self, source: &Source) -> bool;
    /// Calls [`charge`].
    fn charge(&self, request: &ChargeRequest) -> Charged;
}

/// Decides what becomes of a packet, charges its source, and reports it where due.
///
/// The caller counts the outcome.
#[inline(always)]
pub fn decide<B: Bytes + ?Sized, T: Tables>(bytes: &B, tables: &T) -> Outcome {
    let settings = tables.settings();
    let network = match packet::network(bytes) {
        Ok(Some(network)) => network,
        Ok(None) => return Outcome::NotIp,
        Err(Unreadable::Malformed) => return Outcome::Malformed,
        Err(Unreadable::Hidden) if settings.observe() => return Outcome::Observed,
        Err(Unreadable::Hidden) => return Outcome::DroppedHidden,
    };
    if !tables.lengths(List::Bans).is_empty(network.source.family) {
        let met = tables.meet_ban(&network.source);
        if met.banned() {
            return refuse_banned(bytes, tables, settings, &network, met);
        }
    }
    let Ok(transport) = packet::transport(bytes, &network) else {
        return Outcome::Malformed;
    };
    if transport.hidden {
        return match verdict(tables, &network.source, settings.observe()) {
            Verdict::Drop => Outcome::DroppedHidden,
            Verdict::Observe => Outcome::Observed,
            Verdict::Allow => Outcome::Allowed,
        };
    }
    let mask = matching_limits(tables, settings, &transport);
    if mask == 0 {
        return Outcome::Passed;
    }
    apply_limits(bytes, tables, settings, &network, &transport, mask)
}

#[inline(always)]
fn refuse_banned<B: Bytes + ?Sized, T: Tables>(
    bytes: &B,
    tables: &T,
    settings: Settings,
    network: &Network,
    met: BanMet,
) -> Outcome {
    let verdict = verdict(tables, &network.source, settings.observe());
    if met.due() {
        report_ban(bytes, tables, network, met.length(), verdict);
    } else {
        tables.count_event(EventOutcome::Suppressed);
    }
    outcome(verdict, Reason::Ban)
}

/// Reports a packet from a source that the ban of its first `length` bits covers.
#[inline(always)]
fn report_ban<B: Bytes + ?Sized, T: Tables>(
    bytes: &B,
    tables: &T,
    network: &Network,
    length: u8,
    verdict: Verdict,
) {
    let Some(ban) = tables.ban(&network.source.prefix(length)) else {
        return;
    };
    // A source is banned whatever it sends; the transport only illustrates the event.
    let transport = packet::transport(bytes, network).unwrap_or_default();
    let now = tables.now();
    let event = Event {
        reason: Reason::Ban as u8,
        cause: ban.id().load(),
        prefix: u64::from(length),
        ..event(bytes, network, &transport, verdict, now)
    };
    report(tables, ban.hits(), now, |drops| Event { drops, ..event });
}

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

/// Looks for the longest unexpired ban that covers `source` and counts the packet there;
/// what [`Tables::meet_ban`] does.
#[inline(always)]
pub fn meet_ban<T: Tables>(tables: &T, source: &Source) -> BanMet {
    prefix::longest(&tables.lengths(List::Bans), source.family, |length| {
        let met = tables.meet_ban_of(source, length);
        met.banned().then_some(met)
    })
    .unwrap_or_default()
}

/// Counts the packet in the ban of the first `length` bits of `source`, if there is one;
/// what [`Tables::meet_ban_of`] does.
#[inline(always)]
pub fn meet_ban_of<T: Tables>(tables: &T, source: &Source, length: u8) -> BanMet {
    let Some(ban) = tables.ban(&source.prefix(length)) else {
        return BanMet::default();
    };
    let now = tables.now();
    if Ban::expired(ban.expires_ns().load(), now.0) {
        return BanMet::default();
    }
    ban.last_hit_ns().store(now.0);
    let hits = ban.hits();
    hits.add();
    let due = if hits.due(now) { BanMet::DUE } else { 0 };
    BanMet(BanMet::BANNED | due | u64::from(length))
}

/// Whether the allow list covers `source`; what [`Tables::is_allowed`] does.
#[inline(always)]
pub fn is_allowed<T: Tables>(tables: &T, source: &Source) -> bool {
    prefix::longest(&tables.lengths(List::Allowed), source.family, |length| {
        tables.allows(source, length).then_some(())
    })
    .is_some()
}

/// The limits that apply to a packet; bit `n` stands for limit `n`.
#[inline(always)]
fn matching_limits<T: Tables>(tables: &T, settings: Settings, transport: &Transport) -> u64 {
    let bank = settings.bank();
    let limits = tables.protocol(bank * PROTOCOLS_PER_BANK + u32::from(transport.protocol));
    match transport.port {
        _ if limits.all == 0 => 0,
        Some(port) => {
            let by_port = tables.port(bank * PORTS_PER_BANK + u32::from(port));
            limits.portless | (limits.all & by_port)
        }
        None => limits.portless,
    }
}

#[inline(always)]
fn apply_limits<B: Bytes + ?Sized, T: Tables>(
    bytes: &B,
    tables: &T,
    settings: Settings,
    network: &Network,
    transport: &Transport,
    mask: u64,
) -> Outcome {
    let now = tables.now();
    let over = charge_limits(bytes, tables, settings, network, transport, mask, now);
    if over.limits == 0 {
        return Outcome::Passed;
    }
    let verdict = verdict(tables, &network.source, over.drops == 0);
    let mut remaining = over.limits;
    for _ in 0..MAX_LIMITS {
        if remaining == 0 {
            break;
        }
        let number = bits::highest(remaining);
        remaining &= !(1 << number);
        let own = match verdict {
            Verdict::Drop if over.drops & (1 << number) == 0 => Verdict::Observe,
            verdict => verdict,
        };
        tables.count_limit(limit_index(settings, number), LimitOutcome::Over(own));
    }
    // The limit that gives the reason: the first that drops, else the first.
    let reasons = if over.drops == 0 {
        over.limits
    } else {
        over.drops
    };
    let number = bits::lowest(reasons);
    if over.due & (1 << number) == 0 {
        tables.count_event(EventOutcome::Suppressed);
    } else {
        report_limit(
            bytes,
            tables,
            limit_index(settings, number),
            network,
            transport,
            verdict,
            now,
        );
    }
    outcome(verdict, Reason::Limit)
}

/// Reports a packet over the limit at `index`.
#[inline(always)]
fn report_limit<B: Bytes + ?Sized, T: Tables>(
    bytes: &B,
    tables: &T,
    index: u32,
    network: &Network,
    transport: &Transport,
    verdict: Verdict,
    now: KernelTime,
) {
    let Some(limit) = tables.limit(index) else {
        return;
    };
    let key = bucket_key(&limit, &network.source);
    let Some(bucket) = tables.bucket(&key) else {
        return;
    };
    let event = Event {
        reason: Reason::Limit as u8,
        cause: u64::from(limit.id),
        prefix: u64::from(key.source.length),
        ..event(bytes, network, transport, verdict, now)
    };
    report(tables, bucket.hits(), now, |drops| Event { drops, ..event });
}

/// The limits that a packet is over; in each, bit `n` stands for limit `n`.
struct Over {
    limits: u64,
    /// Those of them that drop.
    drops: u64,
    /// Those of them whose event is due.
    due: u64,
}

#[inline(always)]
fn charge_limits<B: Bytes + ?Sized, T: Tables>(
    bytes: &B,
    tables: &T,
    settings: Settings,
    network: &Network,
    transport: &Transport,
    mask: u64,
    now: KernelTime,
) -> Over {
    let mut over = Over {
        limits: 0,
        drops: 0,
        due: 0,
    };
    let length = bytes.length();
    let mut remaining = mask;
    // Counted, not `while remaining != 0`: the verifier cannot see that it shrinks.
    for _ in 0..MAX_LIMITS {
        if remaining == 0 {
            break;
        }
        let number = bits::highest(remaining);
        remaining &= !(1 << number);
        let charged = tables.charge(&ChargeRequest {
            index: limit_index(settings, number),
            length,
            opens_connection: transport.opens_connection(),
            source: network.source,
            now,
        });
        over.limits |= u64::from(charged.over()) << number;
        over.drops |= u64::from(charged.drops() && !settings.observe()) << number;
        over.due |= u64::from(charged.due()) << number;
    }
    over
}

/// One packet to be charged under one limit.
#[derive(Clone, Copy, Debug)]
pub struct ChargeRequest {
    /// The limit; see [`Tables::limit`].
    pub index: u32,
    /// The frame's length in bytes.
    pub length: u32,
    /// Whether the packet asks for a new TCP connection.
    pub opens_connection: bool,
    /// Who is charged, before masking.
    pub source: Source,
    /// When.
    pub now: KernelTime,
}

/// What charging came to, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charged(pub u64);

impl Charged {
    const OVER: u64 = 1;
    const DROPS: u64 = 1 << 1;
    const DUE: u64 = 1 << 2;

    /// The packet is over the limit.
    #[inline(always)]
    pub const fn over(self) -> bool {
        self.0 & Self::OVER != 0
    }

    /// It is, and the limit drops.
    #[inline(always)]
    pub const fn drops(self) -> bool {
        self.0 & Self::DROPS != 0
    }

    /// It is, and an event is due.
    #[inline(always)]
    pub const fn due(self) -> bool {
        self.0 & Self::DUE != 0
    }
}

/// Charges one packet under one limit; what [`Tables::charge`] does.
#[inline(always)]
pub fn charge<T: Tables>(tables: &T, request: &ChargeRequest) -> Charged {
    let Some(limit) = tables.limit(request.index) else {
        return Charged::default();
    };
    let Some(cost) = cost(&limit, request) else {
        return Charged::default();
    };
    let Some(bucket) = tables.bucket(&bucket_key(&limit, &request.source)) else {
        // No bucket can be made: over, and said so, rather than open.
        tables.count_limit(request.index, LimitOutcome::Contended);
        return over(&limit, false);
    };
    match bucket::charge(bucket.tat(), &limit.rate, request.now.ticks(), cost) {
        Charge::Conforms => {
            tables.count_limit(request.index, LimitOutcome::Conforming);
            return Charged::default();
        }
        Charge::Over => {}
        Charge::Contended => tables.count_limit(request.index, LimitOutcome::Contended),
    }
    let hits = bucket.hits();
    hits.add();
    over(&limit, hits.due(request.now))
}

#[inline(always)]
fn over(limit: &Limit, due: bool) -> Charged {
    let drops = if limit.observe == 0 {
        Charged::DROPS
    } else {
        0
    };
    Charged(Charged::OVER | drops | if due { Charged::DUE } else { 0 })
}

/// The bucket of `source` under `limit`.
#[inline(always)]
fn bucket_key(limit: &Limit, source: &Source) -> BucketKey {
    let length = match source.family {
        Family::V4 => limit.ipv4_prefix,
        Family::V6 => limit.ipv6_prefix,
    };
    BucketKey {
        limit: u64::from(limit.id),
        source: source.prefix(length),
    }
}

/// What a packet costs under a limit; `None` if the limit does not count it.
#[inline(always)]
fn cost(limit: &Limit, request: &ChargeRequest) -> Option<u64> {
    const BYTES: u8 = Count::Bytes as u8;
    const CONNECTIONS: u8 = Count::Connections as u8;
    match limit.count {
        BYTES => {
            let length = u64::from(request.length);
            Some(if length < MAX_COST { length } else { MAX_COST })
        }
        CONNECTIONS => request.opens_connection.then_some(1),
        _ => Some(1),
    }
}

/// What happens to a packet that is about to be dropped.
#[inline(always)]
fn verdict<T: Tables>(tables: &T, source: &Source, observe: bool) -> Verdict {
    if !tables.lengths(List::Allowed).is_empty(source.family) && tables.is_allowed(source) {
        Verdict::Allow
    } else if observe {
        Verdict::Observe
    } else {
        Verdict::Drop
    }
}

#[inline(always)]
const fn outcome(verdict: Verdict, reason: Reason) -> Outcome {
    match (verdict, reason) {
        (Verdict::Allow, _) => Outcome::Allowed,
        (Verdict::Observe, _) => Outcome::Observed,
        (Verdict::Drop, Reason::Limit) => Outcome::DroppedLimit,
        (Verdict::Drop, Reason::Ban) => Outcome::DroppedBan,
    }
}

/// An event of a packet, but for why it is sent.
#[inline(always)]
fn event<B: Bytes + ?Sized>(
    bytes: &B,
    network: &Network,
    transport: &Transport,
    verdict: Verdict,
    now: KernelTime,
) -> Event {
    Event {
        version: EVENT_VERSION,
        verdict: verdict as u8,
        reason: 0,
        protocol: transport.protocol,
        port: transport.port.unwrap_or(0),
        has_port: u8::from(transport.port.is_some()),
        tcp_flags: transport.tcp_flags,
        time_ns: now.0,
        drops: 0,
        cause: 0,
        interface: bytes.interface(),
        length: bytes.length(),
        source: network.source.host(),
        prefix: 0,
    }
}

/// Sends an event if one is due, and counts what became of it.
#[inline(always)]
fn report<T: Tables>(
    tables: &T,
    hits: Shared<'_, Hits>,
    now: KernelTime,
    event: impl FnOnce(u64) -> Event,
) {
    if !hits.due(now) || !tables.take_event_budget(now) || !hits.claim(now) {
        tables.count_event(EventOutcome::Suppressed);
        return;
    }
    let drops = hits.unreported();
    if tables.emit(|| event(drops)) {
        hits.report(drops);
        tables.count_event(EventOutcome::Sent);
    } else {
        tables.count_event(EventOutcome::Lost);
    }
}

#[inline(always)]
const fn limit_index(settings: Settings, number: u8) -> u32 {
    settings.bank() * MAX_LIMITS + number as u32
}

#[cfg(test)]
mod tests;
