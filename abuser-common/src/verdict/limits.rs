//! Which limits apply to a packet, and charging them.
//!
//! A packet must conform to all of its limits. If it is over one that drops, none is
//! charged: whoever is held back by one limit does not use up what another grants to its
//! neighbours too (nginx does the same with several `limit_req`). A limit that only
//! observes holds nothing back, and so does not keep the others from being charged.
//!
//! A limit may apply to throttled sources only. Whether a source is one is asked where such a
//! limit would apply to the packet, so others pay nothing for it.

use crate::{
    bits,
    bucket::{self, ATTEMPTS, Charge, Place},
    event::Reason,
    gate::{self, EVENT_SLOTS, EventOutcome, TALLY_SLOTS},
    gcra::{KernelTime, MAX_COST},
    layout::{
        Count, Limit, LimitOutcome, MAX_LIMITS, Outcome, PORTS_PER_BANK, PROTOCOLS_PER_BANK,
        ProtocolLimits, Settings,
    },
    packet::{Bytes, Transport},
    prefix::{Family, Source},
    verified::Note,
};

use super::{At, Connection, Kernel, Packet, Tables, Verdict, outcome, prefixes, verdict};

/// The limits that a packet is over; bit `n` stands for limit `n`.
#[derive(Clone, Copy, Default)]
struct Over {
    limits: u64,
    /// Those of them that drop.
    drops: u64,
}

impl Over {
    /// Takes note of what limit `number` came to. Without a branch: the verifier would walk the rest of a
    /// loop once for each way.
    #[inline(always)]
    fn add(&mut self, number: u8, charged: Charged) {
        self.limits |= charged.over_bit() << number;
        self.drops |= charged.drops_bit() << number;
    }

    /// The limit that gives the reason: the first that drops, else the first.
    #[inline(always)]
    fn reason(&self) -> u8 {
        bits::lowest(if self.drops == 0 {
            self.limits
        } else {
            self.drops
        })
    }
}

/// Applies the limits for a packet.
#[inline(always)]
pub(super) fn apply<B: Bytes + ?Sized, T: Tables, K: Kernel>(
    at: &At<'_, B>,
    tables: &T,
    kernel: &K,
    transport: Transport,
) -> Outcome {
    let (applying, limits) = applying(tables, at.packet.settings, transport);
    if applying == 0 {
        return Outcome::Passed;
    }
    let applying = if applying & limits.throttled == 0 {
        applying
    } else {
        let throttling = prefixes::find_throttling(tables, kernel, &at.packet);
        applying & (!limits.throttled | throttling)
    };
    if applying & limits.connections != 0 && transport.claims_connection() {
        kernel.note_connection(at, tables, transport, kernel.tick());
    }
    let charging = charging(applying, &limits, transport);
    if charging == 0 {
        return Outcome::Passed;
    }
    let now = if charging & limits.exact == 0 {
        kernel.tick()
    } else {
        kernel.now()
    };
    let applied = if charging.is_power_of_two() {
        apply_one(at, tables, bits::lowest(charging), now)
    } else {
        tables.apply_several(&at.packet, charging, now)
    };
    let Some(verdict) = applied.verdict() else {
        return Outcome::Passed;
    };
    if applied.due() {
        kernel.report_limit(at, tables, applied.number(), verdict);
    } else {
        tables.count_event(EventOutcome::Suppressed);
    }
    outcome(verdict, Reason::Limit)
}

/// What limits came to, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied(pub u64);

impl Applied {
    const OVER: u64 = 1;
    const DUE: u64 = 1 << 1;
    const VERDICT_SHIFT: u32 = 8;
    const NUMBER_SHIFT: u32 = 16;

    /// Over limit `number`, which gives the reason.
    #[inline(always)]
    fn over(number: u8, verdict: Verdict, due: bool) -> Self {
        Self(
            Self::OVER
                | if due { Self::DUE } else { 0 }
                | (verdict as u64) << Self::VERDICT_SHIFT
                | u64::from(number) << Self::NUMBER_SHIFT,
        )
    }

    /// What happens to the packet; `None` if it is within all limits.
    #[inline(always)]
    pub const fn verdict(self) -> Option<Verdict> {
        if self.0 & Self::OVER == 0 {
            return None;
        }
        Some(Verdict::from_bits(self.0 >> Self::VERDICT_SHIFT))
    }

    /// Whether an event is due.
    #[inline(always)]
    pub const fn due(self) -> bool {
        self.0 & Self::DUE != 0
    }

    /// The limit that gives the reason.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "6 bits")]
    pub const fn number(self) -> u8 {
        (self.0 >> Self::NUMBER_SHIFT) as u8 & 63
    }
}

/// Applies the only limit there is for a packet.
#[inline(always)]
fn apply_one<B: Bytes + ?Sized, T: Tables>(
    at: &At<'_, B>,
    tables: &T,
    number: u8,
    now: KernelTime,
) -> Applied {
    let charged = charge(tables, &request(&at.packet, number, now));
    if !charged.over() {
        return Applied::default();
    }
    let index = limit_index(at.packet.settings, number);
    let observe = !charged.drops() || at.packet.settings.observe();
    let verdict = verdict(tables, &at.packet.source, observe);
    tables.count_limit(index, LimitOutcome::Over(verdict), at.packet.length);
    Applied::over(number, verdict, tell(tables, charged.who(), now))
}

/// Applies several limits, those in `mask`, to a packet at `now`; what [`Tables::apply_several`]
/// does.
#[inline(always)]
pub fn apply_several<T: Tables>(
    packet: &Packet,
    tables: &T,
    mask: u64,
    now: KernelTime,
) -> Applied {
    let over = charge_several(packet, tables, mask, now);
    if over.limits == 0 {
        return Applied::default();
    }
    let observe = over.drops == 0 || packet.settings.observe();
    let verdict = verdict(tables, &packet.source, observe);
    let Packet {
        settings, length, ..
    } = *packet;
    // Where the packet is dropped, limits that only observe have observed it.
    let observing = match verdict {
        Verdict::Drop => over.limits & !over.drops,
        Verdict::Observe | Verdict::Allow => 0,
    };
    tables.count_several(over.limits, observing, verdict, settings, length);
    let reason = over.reason();
    let request = request(packet, reason, now);
    let who = tables
        .limit(request.index)
        .map_or(0, |limit| who(&self::packet(tables, limit, &request)));
    Applied::over(reason, verdict, tell(tables, who, now))
}

/// Counts a packet that is over several limits, those in `mask`, with each of them: by `verdict`, and as
/// observed by those in `observing`, which is empty unless it is dropped. What [`Tables::count_several`] does.
#[inline(always)]
pub fn count_several<T: Tables>(
    tables: &T,
    mask: u64,
    observing: u64,
    verdict: Verdict,
    settings: Settings,
    length: u32,
) {
    let mut remaining = mask;
    for _ in 0..MAX_LIMITS {
        if remaining == 0 {
            break;
        }
        let number = bits::lowest(remaining);
        remaining &= remaining - 1;
        let own = if observing & (1 << number) == 0 {
            verdict
        } else {
            Verdict::Observe
        };
        tables.count_over(limit_index(settings, number), own, length);
    }
}

/// Counts a packet that is over one of several limits; what [`Tables::count_over`] does.
#[inline(always)]
pub fn count_over<T: Tables>(tables: &T, index: u32, verdict: Verdict, length: u32) {
    tables.count_limit(index, LimitOutcome::Over(verdict), length);
}

/// Charges the limits in `mask`, unless the packet is over one that drops.
#[inline(always)]
fn charge_several<T: Tables>(packet: &Packet, tables: &T, mask: u64, now: KernelTime) -> Over {
    let mut over = Over::default();
    let mut remaining = mask;
    // Counted, not `while remaining != 0`: the verifier cannot see that it shrinks.
    for _ in 0..MAX_LIMITS {
        if remaining == 0 {
            break;
        }
        let number = bits::lowest(remaining);
        remaining &= remaining - 1;
        over.add(number, tables.check(&request(packet, number, now)));
    }
    if over.drops != 0 {
        return over;
    }
    let mut conforming = mask & !over.limits;
    for _ in 0..MAX_LIMITS {
        if conforming == 0 {
            break;
        }
        let number = bits::lowest(conforming);
        conforming &= conforming - 1;
        over.add(number, charge(tables, &request(packet, number, now)));
    }
    over
}

/// Counts a drop for the next event of whoever is over a limit; whether that is due.
#[inline(always)]
fn tell<T: Tables>(tables: &T, who: u64, now: KernelTime) -> bool {
    tables.tally(tally_number(who), |tally| {
        tally.add(who);
        0
    });
    // A flood in many names spends the budget, and must not cost more than it was for: times
    // of last events lie all over their table, the budget does not.
    if !tables.has_event_budget(now) {
        return false;
    }
    // A time of the last tick is behind the clock: an event comes late rather than early.
    let last = tables.event_time(event_slot(who));
    last.is_some_and(|last| gate::is_due(last, now))
}

/// Where the time of the last event of `who` is kept.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "16 bits")]
pub(super) const fn event_slot(who: u64) -> u32 {
    who as u32 & (EVENT_SLOTS - 1)
}

/// Which tally counts the drops of `who`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "12 bits")]
pub(super) const fn tally_number(who: u64) -> u32 {
    who as u32 & (TALLY_SLOTS - 1)
}

/// Looks a segment that claims to belong to a connection up in the kernel's sockets, if its
/// source is due; what [`Kernel::note_connection`] does.
#[inline(always)]
pub fn note_connection<B: Bytes + ?Sized, T: Tables, K: Kernel>(
    at: &At<'_, B>,
    tables: &T,
    kernel: &K,
    transport: Transport,
    now: KernelTime,
) {
    let note = Note::new(&tables.key(), &at.packet.source);
    let Some(set) = tables.verified(note.set()) else {
        return;
    };
    if note.is_due(set, now) && tables.take_lookup(now) {
        match kernel.connection(at, transport) {
            Connection::Established => {
                tables.count_connected();
                note.write(set, now, true);
            }
            // The segment that ends the handshake: noted as a failure, it would keep those
            // that follow from being looked up, for all of a short connection.
            Connection::Opening => {}
            Connection::None => note.write(set, now, false),
        }
    }
}

/// Of the limits that apply to a packet, those that count it.
#[inline(always)]
const fn charging(applying: u64, limits: &ProtocolLimits, transport: Transport) -> u64 {
    if transport.opens_connection() {
        applying
    } else {
        applying & !limits.connections
    }
}

#[inline(always)]
pub(super) const fn request(packet: &Packet, number: u8, now: KernelTime) -> ChargeRequest {
    ChargeRequest {
        index: limit_index(packet.settings, number),
        length: packet.length,
        source: packet.source,
        now,
    }
}

/// The limits that apply to a packet, and what is known of those of its protocol.
#[inline(always)]
fn applying<T: Tables>(
    tables: &T,
    settings: Settings,
    transport: Transport,
) -> (u64, ProtocolLimits) {
    let bank = settings.bank();
    let limits = tables.protocol(bank * PROTOCOLS_PER_BANK + u32::from(transport.protocol()));
    if limits.all == limits.portless || !transport.has_port() {
        return (limits.portless, limits);
    }
    let port = u32::from(transport.port_or_zero());
    let by_port = tables.port(bank * PORTS_PER_BANK + port);
    (limits.portless | (limits.all & by_port), limits)
}

/// One packet to be charged under one limit.
#[derive(Clone, Copy, Debug)]
pub struct ChargeRequest {
    /// The limit; see [`Tables::limit`].
    pub index: u32,
    /// The frame's length in bytes.
    pub length: u32,
    /// Who is charged, before masking.
    pub source: Source,
    /// When.
    pub now: KernelTime,
}

/// What charging came to, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charged(pub u64);

impl Charged {
    const DROPS_SHIFT: u32 = 1;
    const LOST: u64 = 1 << 2;
    const WHO_SHIFT: u32 = 8;

    #[inline(always)]
    fn over_limit(limit: &Limit, who: u64) -> Self {
        let drops = u64::from(limit.observe == 0) << Self::DROPS_SHIFT;
        Self(1 | drops | who << Self::WHO_SHIFT)
    }

    /// 1 if the packet is over the limit, else 0.
    #[inline(always)]
    const fn over_bit(self) -> u64 {
        self.0 & 1
    }

    /// 1 if it is, and the limit drops, else 0.
    #[inline(always)]
    const fn drops_bit(self) -> u64 {
        self.0 >> Self::DROPS_SHIFT & 1
    }

    /// The packet is over the limit.
    #[inline(always)]
    pub const fn over(self) -> bool {
        self.over_bit() != 0
    }

    /// It is, and the limit drops.
    #[inline(always)]
    pub const fn drops(self) -> bool {
        self.drops_bit() != 0
    }

    /// Another CPU was faster; it is over unless it is charged after all.
    #[inline(always)]
    const fn lost(self) -> bool {
        self.0 & Self::LOST != 0
    }

    /// Who is over it: the limit's slot and the bucket's place.
    #[inline(always)]
    pub const fn who(self) -> u64 {
        self.0 >> Self::WHO_SHIFT
    }
}

/// Charges one packet under one limit, again and again where another CPU is faster.
#[inline(always)]
fn charge<T: Tables>(tables: &T, request: &ChargeRequest) -> Charged {
    let charged = tables.charge_once(request);
    if charged.lost() {
        return tables.charge_again(request);
    }
    charged
}

/// All attempts but the first to charge a packet under a limit; what [`Tables::charge_again`] does.
///
/// The loop is out here because the verifier walks every pass: of a call there is little to walk.
#[inline(always)]
pub fn charge_again<T: Tables>(tables: &T, request: &ChargeRequest) -> Charged {
    // Else whoever lost the first would pass.
    const _: () = assert!(ATTEMPTS > 1);
    let mut charged = Charged::default();
    for _ in 1..ATTEMPTS {
        charged = tables.charge_once(request);
        if !charged.lost() {
            return charged;
        }
    }
    tables.count_limit(request.index, LimitOutcome::Contended, request.length);
    charged
}

/// One attempt to charge a packet under a limit; what [`Tables::charge_once`] does.
#[inline(always)]
pub fn charge_once<T: Tables>(tables: &T, request: &ChargeRequest) -> Charged {
    let Some((limit, scales)) = tables.limit(request.index).zip(tables.scales()) else {
        return Charged::default();
    };
    let packet = packet(tables, limit, request);
    let Some(set) = tables.buckets(packet.place.set()) else {
        return Charged::default();
    };
    let who = who(&packet);
    match bucket::charge_once(set, &packet, |slot| scales.get(slot)) {
        Charge::Conforms => {}
        Charge::Evicts => tables.count_eviction(),
        Charge::Over => return Charged::over_limit(limit, who),
        Charge::Lost => return Charged(Charged::over_limit(limit, who).0 | Charged::LOST),
        Charge::Contended => {
            tables.count_limit(request.index, LimitOutcome::Contended, request.length);
            return Charged::over_limit(limit, who);
        }
    }
    tables.count_limit(request.index, LimitOutcome::Passed, request.length);
    Charged::default()
}

/// As [`charge_once`], but only tells whether the packet would be over; what [`Tables::check`]
/// does.
#[inline(always)]
pub fn check<T: Tables>(tables: &T, request: &ChargeRequest) -> Charged {
    let Some(limit) = tables.limit(request.index) else {
        return Charged::default();
    };
    let packet = packet(tables, limit, request);
    match tables.buckets(packet.place.set()) {
        Some(set) if !bucket::conforms(set, &packet) => Charged::over_limit(limit, who(&packet)),
        _ => Charged::default(),
    }
}

#[inline(always)]
pub(super) fn packet<'a, T: Tables>(
    tables: &T,
    limit: &'a Limit,
    request: &ChargeRequest,
) -> bucket::Packet<'a> {
    const BYTES: u8 = Count::Bytes as u8;
    const LAST_SLOT: u8 = 63;
    const _: () = assert!(MAX_LIMITS == LAST_SLOT as u32 + 1);
    let slot = limit.slot & LAST_SLOT;
    let length = match request.source.family {
        Family::V4 => limit.ipv4_prefix,
        Family::V6 => limit.ipv6_prefix,
    };
    let cost = match limit.count {
        BYTES if u64::from(request.length) < MAX_COST => u64::from(request.length),
        BYTES => MAX_COST,
        _ => 1,
    };
    bucket::Packet {
        slot,
        rate: &limit.rate,
        place: Place::new(&tables.key(), slot, &request.source.masked(length)),
        now: request.now,
        cost,
    }
}

#[inline(always)]
pub(super) const fn who(packet: &bucket::Packet<'_>) -> u64 {
    (packet.slot as u64) << 38 | packet.place.bits()
}

#[inline(always)]
pub(super) const fn limit_index(settings: Settings, number: u8) -> u32 {
    settings.bank() * MAX_LIMITS + number as u32
}
