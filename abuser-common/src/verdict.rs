//! The order of the packet path.
//!
//! ```text
//! parse -> not IP?                              pass
//!       -> source hidden?                       drop
//!       -> banned (unexpired)?                  about to drop, reason `ban`
//!       -> transport hidden?                    about to drop
//!       -> each limit for (protocol, port):
//!            for throttled sources, and this is none?   left out
//!            over it?                           about to drop, reason `limit`
//!       -> otherwise                            pass
//! about to drop -> in the allow list?           pass, counted as allowed
//!               -> limit or program observing?  pass, counted as observed
//!               -> otherwise                    drop
//! ```
//!
//! The allow list is asked only before a drop: the common path never pays for it, and
//! still it beats everything.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`prefixes`] | bans, the allow list, and who is throttled |
//! | [`limits`] | which limits apply, and charging them |
//! | [`report`] | events |

use crate::{
    atomic::{Shared, Word},
    bucket::{Key, Set},
    event::{Event, Reason, Verdict},
    gate::{EventOutcome, Tally},
    gcra::KernelTime,
    layout::{Ban, Limit, LimitOutcome, Outcome, ProtocolLimits, Scales, Settings, Throttle},
    packet::{self, Bytes, Transport, Unreadable},
    prefix::{LengthMask, Lengths, List, PrefixKey, Source},
};

pub mod limits;
pub mod prefixes;
pub mod report;

use self::{
    limits::{Applied, ChargeRequest, Charged},
    prefixes::BanMet,
};

/// What the packet path asks of the kernel besides its tables: clocks and sockets.
///
/// Its other methods are parts of the path that need the packet's bytes or the machine as well as tables; see the
/// end of [`Tables`] for why the program has them as functions of their own.
pub trait Kernel: Sized {
    /// The monotonic clock. It is the dearest call of all, so it is asked only where the
    /// time must be exact.
    fn now(&self) -> KernelTime;
    /// The same clock as of the kernel's last tick: free, and 1 to 10 ms behind.
    fn tick(&self) -> KernelTime;
    /// Which TCP connection a packet belongs to; see [`packet::tcp_tuple`].
    fn connection<B: Bytes + ?Sized>(&self, at: &At<'_, B>, transport: Transport) -> Connection;

    /// Whether a packet belongs to an established TCP connection.
    #[inline(always)]
    fn is_connected<B: Bytes + ?Sized>(&self, at: &At<'_, B>, transport: Transport) -> bool {
        self.connection(at, transport) == Connection::Established
    }

    /// Calls [`packet::transport`].
    #[inline(always)]
    fn transport<B: Bytes + ?Sized>(&self, at: &At<'_, B>) -> Transport {
        packet::transport(at.bytes, at.packet.source.family, at.packet.offset)
    }

    /// Calls [`limits::note_connection`].
    #[inline(always)]
    fn note_connection<B: Bytes + ?Sized, T: Tables>(
        &self,
        at: &At<'_, B>,
        tables: &T,
        transport: Transport,
        now: KernelTime,
    ) {
        limits::note_connection(at, tables, self, transport, now);
    }

    /// Calls [`report::report_ban`].
    #[inline(always)]
    fn report_ban<B: Bytes + ?Sized, T: Tables>(
        &self,
        at: &At<'_, B>,
        tables: &T,
        ban_length: u8,
        verdict: Verdict,
    ) {
        report::report_ban(at, tables, self, ban_length, verdict);
    }

    /// Calls [`report::report_limit`].
    #[inline(always)]
    fn report_limit<B: Bytes + ?Sized, T: Tables>(
        &self,
        at: &At<'_, B>,
        tables: &T,
        number: u8,
        verdict: Verdict,
    ) {
        report::report_limit(at, tables, self, number, verdict);
    }
}

/// The TCP connection that a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// None that this host knows of.
    None,
    /// One whose handshake has not ended: its source is not proven yet, and may be at once.
    Opening,
    /// One whose source has answered.
    Established,
}

/// One packet on its way, once its source is known.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Who sent it.
    pub source: Source,
    /// Offset of the IP header in bytes.
    pub offset: usize,
    /// The frame's length in bytes.
    pub length: u32,
    /// What steers the program, as it was when the packet came.
    pub settings: Settings,
}

/// A packet and its bytes.
#[derive(Debug)]
pub struct At<'a, B: ?Sized> {
    /// The frame.
    pub bytes: &'a B,
    /// What is known of it.
    pub packet: Packet,
}

/// Where the state of the packet path lives: BPF maps, or collections on the host.
pub trait Tables {
    /// What steers the whole program.
    fn settings(&self) -> Settings;
    /// The key of the places in the tables of sets.
    fn key(&self) -> Key;

    /// The lengths that occur in all of `list`.
    fn lengths(&self, list: List) -> Lengths;
    /// The longer lengths that occur where `source` lies.
    fn hints(&self, list: List, source: &Source) -> LengthMask;
    /// A bit of the filter.
    fn filter(&self, bit: u32) -> bool;
    /// The ban of exactly this prefix, expired or not.
    fn ban(&self, prefix: &PrefixKey) -> Option<Shared<'_, Ban>>;
    /// Whether the allow list has exactly this prefix.
    fn is_listed(&self, prefix: &PrefixKey) -> bool;
    /// By what exactly this prefix is throttled, expired or not.
    fn throttle(&self, prefix: &PrefixKey) -> Option<&Throttle>;

    /// The limits for a protocol; `index` is `bank * 256 + protocol`.
    fn protocol(&self, index: u32) -> ProtocolLimits;
    /// The mask of limits for a port; `index` is `bank * 65536 + port`.
    fn port(&self, index: u32) -> u64;
    /// A limit; `index` is `bank * 64 + limit`.
    fn limit(&self, index: u32) -> Option<&Limit>;
    /// The scales of all limits.
    fn scales(&self) -> Option<&Scales>;
    /// A set of buckets; see [`crate::bucket`].
    fn buckets(&self, set: u32) -> Option<Shared<'_, Set>>;
    /// A set of verified sources; see [`crate::verified`].
    fn verified(&self, set: u32) -> Option<Shared<'_, Set>>;

    /// Counts a packet of `length` bytes under a limit; `index` as for [`Tables::limit`].
    fn count_limit(&self, index: u32, outcome: LimitOutcome, length: u32);
    /// Counts a bucket that was not full and made room.
    fn count_eviction(&self);
    /// Takes one socket look-up from this CPU's budget.
    fn take_lookup(&self, now: KernelTime) -> bool;
    /// Counts a look-up that found a connection.
    fn count_connected(&self);

    /// The time of the last event of whoever has this slot.
    fn event_time(&self, slot: u32) -> Option<Word<'_>>;
    /// Changes this CPU's tally with this number; 0 if there is none.
    fn tally(&self, number: u32, change: impl FnOnce(&mut Tally) -> u64) -> u64;
    /// Whether there is an event left in this CPU's budget.
    fn has_event_budget(&self, now: KernelTime) -> bool;
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

    /// Calls [`prefixes::meet_ban`].
    fn meet_ban(&self, source: &Source, now: KernelTime) -> BanMet;
    /// Calls [`prefixes::meet_ban_of`].
    fn meet_ban_of(&self, source: &Source, length: u8, now: KernelTime) -> BanMet;
    /// Calls [`prefixes::is_allowed`].
    fn is_allowed(&self, source: &Source) -> bool;
    /// Calls [`prefixes::allows`].
    fn allows(&self, source: &Source, length: u8) -> bool;
    /// Calls [`prefixes::throttling`].
    fn throttling(&self, source: &Source, bank: u32, now: KernelTime) -> u64;
    /// Calls [`prefixes::throttling_from`].
    fn throttling_from(
        &self,
        source: &Source,
        base: u8,
        lengths: u64,
        bank: u32,
        now: KernelTime,
    ) -> u64;
    /// Calls [`prefixes::throttling_of`].
    fn throttling_of(&self, source: &Source, length: u8, bank: u32, now: KernelTime) -> u64;
    /// Calls [`limits::apply_several`].
    fn apply_several(&self, packet: &Packet, limits: u64, now: KernelTime) -> Applied;
    /// Calls [`limits::charge_again`].
    fn charge_again(&self, request: &ChargeRequest) -> Charged;
    /// Calls [`limits::charge_once`].
    fn charge_once(&self, request: &ChargeRequest) -> Charged;
    /// Calls [`limits::check`].
    fn check(&self, request: &ChargeRequest) -> Charged;
    /// Calls [`limits::count_several`].
    fn count_several(
        &self,
        mask: u64,
        observing: u64,
        verdict: Verdict,
        settings: Settings,
        length: u32,
    );
    /// Calls [`limits::count_over`].
    fn count_over(&self, index: u32, verdict: Verdict, length: u32);
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The outcome.
    pub outcome: Outcome,
    /// The frame's length in bytes.
    pub length: u32,
}

/// Decides what becomes of a packet, charges its source, and reports it where due.
///
/// The caller counts the outcome.
#[inline(always)]
pub fn decide<B: Bytes + ?Sized, T: Tables, K: Kernel>(
    bytes: &B,
    tables: &T,
    kernel: &K,
) -> Decision {
    let settings = tables.settings();
    let outcome = match packet::network(bytes) {
        Ok(Some(network)) => {
            let length = network.frame_length(bytes);
            let packet = Packet {
                source: network.source,
                offset: network.offset,
                length,
                settings,
            };
            let outcome = decide_ip(&At { bytes, packet }, tables, kernel);
            return Decision { outcome, length };
        }
        Ok(None) => Outcome::NotIp,
        Err(Unreadable::Malformed) => Outcome::Malformed,
        Err(Unreadable::Hidden) if settings.observe() => Outcome::Observed,
        Err(Unreadable::Hidden) => Outcome::DroppedHidden,
    };
    Decision {
        outcome,
        length: bytes.length(),
    }
}

#[inline(always)]
fn decide_ip<B: Bytes + ?Sized, T: Tables, K: Kernel>(
    at: &At<'_, B>,
    tables: &T,
    kernel: &K,
) -> Outcome {
    let source = &at.packet.source;
    let met = prefixes::find_ban(tables, kernel, source);
    if met.banned() {
        return refuse_banned(at, tables, kernel, met);
    }
    let transport = kernel.transport(at);
    if transport.is_malformed() {
        return Outcome::Malformed;
    }
    if transport.is_hidden() {
        // Limits could apply to it, had it not hidden what it is.
        return match verdict(tables, source, at.packet.settings.observe()) {
            Verdict::Drop => Outcome::DroppedHidden,
            Verdict::Observe => Outcome::Observed,
            Verdict::Allow => Outcome::Allowed,
        };
    }
    limits::apply(at, tables, kernel, transport)
}

#[inline(always)]
fn refuse_banned<B: Bytes + ?Sized, T: Tables, K: Kernel>(
    at: &At<'_, B>,
    tables: &T,
    kernel: &K,
    met: BanMet,
) -> Outcome {
    let observe = at.packet.settings.observe();
    let verdict = verdict(tables, &at.packet.source, observe);
    // A flood in many names spends the budget, and must not cost more than it was for.
    if met.due() && tables.has_event_budget(kernel.tick()) {
        kernel.report_ban(at, tables, met.length(), verdict);
    } else {
        tables.count_event(EventOutcome::Suppressed);
    }
    outcome(verdict, Reason::Ban)
}

/// What happens to a packet that is about to be dropped.
#[inline(always)]
fn verdict<T: Tables>(tables: &T, source: &Source, observe: bool) -> Verdict {
    if !prefixes::is_empty(tables, List::Allowed, source.family) && tables.is_allowed(source) {
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

#[cfg(test)]
mod tests;
