//! Events: what the daemon is told of drops.

use crate::{
    atomic::Word,
    event::{EVENT_VERSION, Event, Reason},
    gate::{self, EventOutcome},
    gcra::KernelTime,
    layout::Count,
    packet::{Bytes, Transport},
    prefix::Family,
    verified::Note,
};

use super::{
    At, Kernel, Tables, Verdict,
    limits::{self, event_slot, limit_index, request, tally_number},
};

/// Reports a packet from a source that the ban of its first `length` bits covers, if an
/// event is due; what [`Kernel::report_ban`] does.
#[inline(always)]
pub fn report_ban<B: Bytes + ?Sized, T: Tables, K: Kernel>(
    at: &At<'_, B>,
    tables: &T,
    kernel: &K,
    length: u8,
    verdict: Verdict,
) {
    let Some(ban) = tables.ban(&at.packet.source.prefix(length)) else {
        return;
    };
    // A source is banned whatever it sends; the transport only illustrates the event, and a
    // malformed one has protocol 0 and no port.
    let transport = kernel.transport(at);
    let now = kernel.now();
    let hits = ban.hits();
    if !may_send(tables, hits.event_ns(), now) {
        return;
    }
    let drops = hits.unreported();
    let event = Event {
        reason: Reason::Ban as u8,
        cause: ban.id().load(),
        prefix: u64::from(length),
        drops,
        ..event(at, transport, verdict, now)
    };
    if send(tables, event) {
        hits.report(drops);
    }
}

/// Reports a packet over limit `number`, if an event is due; what [`Kernel::report_limit`]
/// does.
#[inline(always)]
pub fn report_limit<B: Bytes + ?Sized, T: Tables, K: Kernel>(
    at: &At<'_, B>,
    tables: &T,
    kernel: &K,
    number: u8,
    verdict: Verdict,
) {
    const CONNECTIONS: u8 = Count::Connections as u8;
    let now = kernel.now();
    let Some(limit) = tables.limit(limit_index(at.packet.settings, number)) else {
        return;
    };
    let who = limits::who(&limits::packet(
        tables,
        limit,
        &request(&at.packet, number, now),
    ));
    let Some(last) = tables.event_time(event_slot(who)) else {
        return;
    };
    if !may_send(tables, last, now) {
        return;
    }
    let transport = kernel.transport(at);
    let verified = if limit.count == CONNECTIONS {
        is_verified(at, tables, now)
    } else {
        transport.claims_connection() && kernel.is_connected(at, transport)
    };
    let drops = tables.tally(tally_number(who), |tally| tally.drops);
    let event = event(at, transport, verdict, now);
    let event = Event {
        reason: Reason::Limit as u8,
        cause: limit.id,
        prefix: u64::from(match at.packet.source.family {
            Family::V4 => limit.ipv4_prefix,
            Family::V6 => limit.ipv6_prefix,
        }),
        drops,
        flags: event.flags | if verified { Event::VERIFIED } else { 0 },
        ..event
    };
    if send(tables, event) {
        tables.tally(tally_number(who), |tally| {
            tally.drops = 0;
            0
        });
    }
}

/// Whether the source has spoken shortly before.
#[inline(always)]
fn is_verified<B: Bytes + ?Sized, T: Tables>(at: &At<'_, B>, tables: &T, now: KernelTime) -> bool {
    let note = Note::new(&tables.key(), &at.packet.source);
    let set = tables.verified(note.set());
    set.is_some_and(|set| note.is_verified(set, now))
}

/// Takes the right to send an event, or counts it as suppressed.
#[inline(always)]
fn may_send<T: Tables>(tables: &T, last: Word<'_>, now: KernelTime) -> bool {
    let may = gate::is_due(last, now) && tables.take_event_budget(now) && gate::claim(last, now);
    if !may {
        tables.count_event(EventOutcome::Suppressed);
    }
    may
}

/// Sends an event and counts what became of it.
#[inline(always)]
fn send<T: Tables>(tables: &T, event: Event) -> bool {
    let sent = tables.emit(|| event);
    tables.count_event(if sent {
        EventOutcome::Sent
    } else {
        EventOutcome::Lost
    });
    sent
}

/// An event of this packet, but for why it is sent.
#[inline(always)]
fn event<B: Bytes + ?Sized>(
    at: &At<'_, B>,
    transport: Transport,
    verdict: Verdict,
    now: KernelTime,
) -> Event {
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
        interface: at.bytes.interface(),
        length: at.packet.length,
        source: at.packet.source.host(),
        prefix: 0,
    }
}
