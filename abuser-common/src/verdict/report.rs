//! Events: what the daemon is told of drops.

use crate::{
    atomic::Word,
    event::{EVENT_VERSION, Event, Reason},
    gate::{self, EVENT_SLOTS, EventOutcome, TALLY_SLOTS},
    gcra::KernelTime,
    layout::Count,
    packet::{Bytes, Transport},
    prefix::Family,
    verified::Note,
};

use super::{
    Kernel, Path, Tables, Verdict,
    limits::{Over, limit_index},
};

impl<B: Bytes + ?Sized, T: Tables, K: Kernel> Path<'_, B, T, K> {
    /// Reports a packet from a source that the ban of its first `length` bits covers.
    #[inline(always)]
    pub(super) fn report_ban(&self, length: u8, verdict: Verdict) {
        let Some(ban) = self.tables.ban(&self.network.source.prefix(length)) else {
            return;
        };
        // A source is banned whatever it sends; the transport only illustrates the event.
        let transport = self.kernel.transport(self.bytes, self.network);
        let now = self.kernel.now();
        let hits = ban.hits();
        if !self.may_send(hits.event_ns(), now) {
            return;
        }
        let drops = hits.unreported();
        let event = Event {
            reason: Reason::Ban as u8,
            cause: ban.id().load(),
            prefix: u64::from(length),
            drops,
            ..self.event(transport, verdict, now)
        };
        if self.send(event) {
            hits.report(drops);
        }
    }

    /// Counts a packet over a limit, and reports it if an event is due.
    #[inline(always)]
    pub(super) fn report_limit(&self, transport: Transport, over: Over, verdict: Verdict) {
        #[expect(clippy::cast_possible_truncation, reason = "indexes of fewer bits")]
        let (event_slot, tally) = (
            over.who as u32 & (EVENT_SLOTS - 1),
            over.who as u32 & (TALLY_SLOTS - 1),
        );
        let drops = self.tables.tally(tally, |tally| {
            tally.add(over.who);
            tally.drops
        });
        let Some(last) = self.tables.event_time(event_slot) else {
            return;
        };
        // The tick is behind the clock: an event comes a tick late rather than early.
        if !gate::is_due(last, self.kernel.tick()) {
            self.tables.count_event(EventOutcome::Suppressed);
            return;
        }
        let Some(limit) = self.tables.limit(limit_index(self.settings, over.reason)) else {
            return;
        };
        let now = self.kernel.now();
        if !self.may_send(last, now) {
            return;
        }
        const CONNECTIONS: u8 = Count::Connections as u8;
        let verified = if limit.count == CONNECTIONS {
            self.is_verified(now)
        } else {
            self.is_connected(transport)
        };
        let event = self.event(transport, verdict, now);
        let event = Event {
            reason: Reason::Limit as u8,
            cause: limit.id,
            prefix: u64::from(match self.network.source.family {
                Family::V4 => limit.ipv4_prefix,
                Family::V6 => limit.ipv6_prefix,
            }),
            drops,
            flags: event.flags | if verified { Event::VERIFIED } else { 0 },
            ..event
        };
        if self.send(event) {
            self.tables.tally(tally, |tally| {
                tally.drops = 0;
                0
            });
        }
    }

    /// Whether the source has spoken shortly before.
    #[inline(always)]
    fn is_verified(&self, now: KernelTime) -> bool {
        let note = Note::new(&self.tables.key(), &self.network.source);
        self.tables
            .verified(note.set())
            .is_some_and(|set| note.is_verified(set, now))
    }

    /// Whether the packet belongs to an established TCP connection.
    #[inline(always)]
    pub(super) fn is_connected(&self, transport: Transport) -> bool {
        transport.claims_connection()
            && self
                .kernel
                .is_connected(self.bytes, self.network, transport)
    }

    /// Takes the right to send an event, or counts it as suppressed.
    #[inline(always)]
    fn may_send(&self, last: Word<'_>, now: KernelTime) -> bool {
        let may =
            gate::is_due(last, now) && self.tables.take_event_budget(now) && gate::claim(last, now);
        if !may {
            self.tables.count_event(EventOutcome::Suppressed);
        }
        may
    }

    /// Sends an event and counts what became of it.
    #[inline(always)]
    fn send(&self, event: Event) -> bool {
        let sent = self.tables.emit(|| event);
        self.tables.count_event(if sent {
            EventOutcome::Sent
        } else {
            EventOutcome::Lost
        });
        sent
    }

    /// An event of this packet, but for why it is sent.
    #[inline(always)]
    fn event(&self, transport: Transport, verdict: Verdict, now: KernelTime) -> Event {
        Event {
            version: EVENT_VERSION,
            verdict: verdict as u8,
            reason: 0,
            protocol: transport.protocol(),
            port: transport.port_or_zero(),
            flags: if transport.has_port() {
                Event::HAS_PORT
            } else {
                0
            },
            tcp_flags: transport.tcp_flags(),
            time_ns: now.0,
            drops: 0,
            cause: 0,
            interface: self.bytes.interface(),
            length: self.bytes.length(),
            source: self.network.source.host(),
            prefix: 0,
        }
    }
}
