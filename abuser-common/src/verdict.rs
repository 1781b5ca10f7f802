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
//! still it beats everything.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`prefixes`] | bans and the allow list |
//! | [`limits`] | which limits apply, and charging them |
//! | `report` | events |

use crate::{
    atomic::{Shared, Word},
    bucket::{Key, Set},
    event::{Event, Reason, Verdict},
    gate::{EventOutcome, Tally},
    gcra::KernelTime,
    layout::{Ban, Limit, LimitOutcome, Outcome, ProtocolLimits, Scales, Settings},
    packet::{self, Bytes, Network, Transport, Unreadable},
    prefix::{Family, LengthMask, Lengths, List, PrefixKey, Source},
};

pub mod limits;
pub mod prefixes;
mod report;

use self::{
    limits::{ChargeRequest, Charged},
    prefixes::BanMet,
};

/// What the packet path asks of the kernel besides its tables: clocks and sockets.
pub trait Kernel {
    /// The monotonic clock. It is the dearest call of all, so it is asked only where the
    /// time must be exact.
    fn now(&self) -> KernelTime;
    /// The same clock as of the kernel's last tick: free, and 1 to 10 ms behind.
    fn tick(&self) -> KernelTime;
    /// Calls [`packet::transport`]: it loops; see [`Tables::meet_ban`].
    fn transport<B: Bytes + ?Sized>(&self, packet: &B, network: &Network) -> Transport;
    /// Whether a packet belongs to an established TCP connection; see [`packet::tcp_tuple`].
    fn is_connected<B: Bytes + ?Sized>(
        &self,
        packet: &B,
        network: &Network,
        transport: Transport,
    ) -> bool;
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

    /// Counts a packet under a limit; `index` as for [`Tables::limit`].
    fn count_limit(&self, index: u32, outcome: LimitOutcome);
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
    /// Calls [`limits::charge`].
    fn charge(&self, request: &ChargeRequest) -> Charged;
    /// Calls [`limits::check`].
    fn check(&self, request: &ChargeRequest) -> Charged;
}

/// Decides what becomes of a packet, charges its source, and reports it where due.
///
/// The caller counts the outcome.
#[inline(always)]
pub fn decide<B: Bytes + ?Sized, T: Tables, K: Kernel>(
    bytes: &B,
    tables: &T,
    kernel: &K,
) -> Outcome {
    let settings = tables.settings();
    let network = match packet::network(bytes) {
        Ok(Some(network)) => network,
        Ok(None) => return Outcome::NotIp,
        Err(Unreadable::Malformed) => return Outcome::Malformed,
        Err(Unreadable::Hidden) if settings.observe() => return Outcome::Observed,
        Err(Unreadable::Hidden) => return Outcome::DroppedHidden,
    };
    let path = Path {
        bytes,
        tables,
        kernel,
        settings,
        network: &network,
    };
    if !is_empty(tables, List::Bans, network.source.family) {
        let met = tables.meet_ban(&network.source, kernel.tick());
        if met.banned() {
            return path.refuse_banned(met);
        }
    }
    let transport = kernel.transport(bytes, &network);
    if transport.is_malformed() {
        return Outcome::Malformed;
    }
    if transport.is_hidden() {
        return path.refuse_hidden();
    }
    path.apply_limits(transport)
}

/// One packet on its way, once its source is known.
struct Path<'a, B: ?Sized, T, K> {
    bytes: &'a B,
    tables: &'a T,
    kernel: &'a K,
    settings: Settings,
    network: &'a Network,
}

impl<B: Bytes + ?Sized, T: Tables, K: Kernel> Path<'_, B, T, K> {
    #[inline(always)]
    fn refuse_banned(&self, met: BanMet) -> Outcome {
        let verdict = self.verdict(self.settings.observe());
        if met.due() {
            self.report_ban(met.length(), verdict);
        } else {
            self.tables.count_event(EventOutcome::Suppressed);
        }
        outcome(verdict, Reason::Ban)
    }

    /// A packet that limits could apply to, had it not hidden what it is.
    #[inline(always)]
    fn refuse_hidden(&self) -> Outcome {
        match self.verdict(self.settings.observe()) {
            Verdict::Drop => Outcome::DroppedHidden,
            Verdict::Observe => Outcome::Observed,
            Verdict::Allow => Outcome::Allowed,
        }
    }

    /// What happens to a packet that is about to be dropped.
    #[inline(always)]
    fn verdict(&self, observe: bool) -> Verdict {
        let source = &self.network.source;
        let none = is_empty(self.tables, List::Allowed, source.family);
        if !none && self.tables.is_allowed(source) {
            Verdict::Allow
        } else if observe {
            Verdict::Observe
        } else {
            Verdict::Drop
        }
    }
}

#[inline(always)]
fn is_empty<T: Tables>(tables: &T, list: List, family: Family) -> bool {
    tables.lengths(list).of(family) == 0
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
