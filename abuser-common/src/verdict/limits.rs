//! Which limits apply to a packet, and charging them.
//!
//! A packet must conform to all of its limits. If it is over one that drops, none is
//! charged: whoever is held back by one limit does not use up what another grants to its
//! neighbours too (nginx does the same with several `limit_req`). A limit that only
//! observes holds nothing back, and so does not keep the others from being charged.

use crate::{
    bits,
    bucket::{self, Charge, Packet, Place},
    event::Reason,
    gcra::{KernelTime, MAX_COST},
    layout::{
        Count, Limit, LimitOutcome, MAX_LIMITS, Outcome, PORTS_PER_BANK, PROTOCOLS_PER_BANK,
        ProtocolLimits, Settings,
    },
    packet::{Bytes, Transport},
    prefix::{Family, Source},
    verified::Note,
};

use super::{Kernel, Path, Tables, Verdict, outcome};

/// The limits that a packet is over; bit `n` stands for limit `n`.
#[derive(Clone, Copy, Default)]
pub(super) struct Over {
    limits: u64,
    /// Those of them that drop.
    drops: u64,
    /// The limit that gives the reason: the first that drops, else the first.
    pub(super) reason: u8,
    /// Who is over that limit.
    pub(super) who: u64,
}

impl Over {
    /// Takes note of limit `number`; to be called from the last limit to the first.
    #[inline(always)]
    fn add(&mut self, number: u8, charged: Charged) {
        let bit = u64::from(charged.over()) << number;
        self.limits |= bit;
        if bit != 0 && (charged.drops() || self.drops == 0) {
            self.reason = number;
            self.who = charged.who();
        }
        if charged.drops() {
            self.drops |= bit;
        }
    }
}

impl<B: Bytes + ?Sized, T: Tables, K: Kernel> Path<'_, B, T, K> {
    #[inline(always)]
    pub(super) fn apply_limits(&self, transport: Transport) -> Outcome {
        let (applying, limits) = applying(self.tables, self.settings, transport);
        if applying == 0 {
            return Outcome::Passed;
        }
        let mut charging = applying;
        if !transport.opens_connection() {
            charging &= !limits.connections;
        }
        if applying & limits.connections != 0 && transport.claims_connection() {
            self.note_connection(transport);
        }
        if charging == 0 {
            return Outcome::Passed;
        }
        let now = if charging & limits.exact == 0 {
            self.kernel.tick()
        } else {
            self.kernel.now()
        };
        let over = self.charge(charging, now);
        if over.limits == 0 {
            return Outcome::Passed;
        }
        self.refuse_over(transport, over)
    }

    /// Charges the limits in `mask`, unless the packet is over one that drops.
    #[inline(always)]
    fn charge(&self, mask: u64, now: KernelTime) -> Over {
        let mut over = Over::default();
        let length = self.bytes.length();
        let request = |number| ChargeRequest {
            index: limit_index(self.settings, number),
            length,
            source: self.network.source,
            now,
        };
        let mut conforming = mask;
        if mask & mask.wrapping_sub(1) != 0 {
            conforming = 0;
            let mut remaining = mask;
            // Counted, not `while remaining != 0`: the verifier cannot see that it shrinks.
            for _ in 0..MAX_LIMITS {
                if remaining == 0 {
                    break;
                }
                let number = bits::highest(remaining);
                remaining &= !(1 << number);
                let checked = self.tables.check(&request(number));
                over.add(number, checked);
                conforming |= u64::from(!checked.over()) << number;
            }
            if over.drops != 0 {
                return over;
            }
        }
        for _ in 0..MAX_LIMITS {
            if conforming == 0 {
                break;
            }
            let number = bits::highest(conforming);
            conforming &= !(1 << number);
            over.add(number, self.tables.charge(&request(number)));
        }
        over
    }

    #[inline(always)]
    fn refuse_over(&self, transport: Transport, over: Over) -> Outcome {
        let verdict = self.verdict(over.drops == 0 || self.settings.observe());
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
            self.tables
                .count_limit(limit_index(self.settings, number), LimitOutcome::Over(own));
        }
        self.report_limit(transport, over, verdict);
        outcome(verdict, Reason::Limit)
    }

    /// Looks a segment that claims to belong to a connection up in the kernel's sockets, if
    /// its source is due.
    #[inline(always)]
    fn note_connection(&self, transport: Transport) {
        let now = self.kernel.tick();
        let note = Note::new(&self.tables.key(), &self.network.source);
        let Some(set) = self.tables.verified(note.set()) else {
            return;
        };
        if note.is_due(set, now) && self.tables.take_lookup(now) {
            let connected = self.is_connected(transport);
            if connected {
                self.tables.count_connected();
            }
            note.write(set, now, connected);
        }
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
    const OVER: u64 = 1;
    const DROPS: u64 = 1 << 1;
    const WHO_SHIFT: u32 = 8;

    #[inline(always)]
    fn over_limit(limit: &Limit, who: u64) -> Self {
        let drops = if limit.observe == 0 { Self::DROPS } else { 0 };
        Self(Self::OVER | drops | who << Self::WHO_SHIFT)
    }

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

    /// Who is over it: the limit's slot and the bucket's place.
    #[inline(always)]
    pub const fn who(self) -> u64 {
        self.0 >> Self::WHO_SHIFT
    }
}

/// Charges one packet under one limit; what [`Tables::charge`] does.
#[inline(always)]
pub fn charge<T: Tables>(tables: &T, request: &ChargeRequest) -> Charged {
    let Some((limit, scales)) = tables.limit(request.index).zip(tables.scales()) else {
        return Charged::default();
    };
    let packet = packet(tables, limit, request);
    let Some(set) = tables.buckets(packet.place.set()) else {
        return Charged::default();
    };
    match bucket::charge(set, &packet, |slot| scales.get(slot)) {
        Charge::Conforms => {}
        Charge::Evicts => tables.count_eviction(),
        Charge::Over => return Charged::over_limit(limit, who(&packet)),
        Charge::Contended => {
            tables.count_limit(request.index, LimitOutcome::Contended);
            return Charged::over_limit(limit, who(&packet));
        }
    }
    tables.count_limit(request.index, LimitOutcome::Passed);
    Charged::default()
}

/// As [`charge`], but only tells whether the packet would be over; what [`Tables::check`]
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
fn packet<'a, T: Tables>(tables: &T, limit: &'a Limit, request: &ChargeRequest) -> Packet<'a> {
    const BYTES: u8 = Count::Bytes as u8;
    let slot = (limit.slot as u8) & (MAX_LIMITS as u8 - 1);
    let length = match request.source.family {
        Family::V4 => limit.ipv4_prefix,
        Family::V6 => limit.ipv6_prefix,
    };
    let cost = match limit.count {
        BYTES if u64::from(request.length) < MAX_COST => u64::from(request.length),
        BYTES => MAX_COST,
        _ => 1,
    };
    Packet {
        slot,
        rate: &limit.rate,
        place: Place::new(&tables.key(), slot, &request.source.masked(length as u8)),
        now: request.now,
        cost,
    }
}

#[inline(always)]
const fn who(packet: &Packet<'_>) -> u64 {
    (packet.slot as u64) << 38 | packet.place.bits()
}

#[inline(always)]
pub(super) const fn limit_index(settings: Settings, number: u8) -> u32 {
    settings.bank() * MAX_LIMITS + number as u32
}
