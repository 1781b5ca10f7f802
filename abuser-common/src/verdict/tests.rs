//! The packet path over the [`Model`].

use core::ptr::{NonNull, with_exposed_provenance_mut};

use super::*;
use crate::{
    atomic::{Shared, schedule},
    bucket::{ATTEMPTS, Place, Set, WORDS},
    gate::INTERVAL_NS,
    gcra::Rate,
    layout::{Count, LimitCounters, MAX_TERMS, Term},
    model::{Machine, Model},
    packet::{TCP, TCP_ACK, TCP_SYN, TcpTuple, UDP},
};

const START: KernelTime = KernelTime(1_000_000_000_000);
const SECOND: u64 = 1_000_000_000;

/// A UDP datagram over IPv4 to port 53.
fn udp(source: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, UDP, 0, 0]);
    frame.extend(source);
    frame.extend([192, 0, 2, 1, 0x30, 0x39, 0, 53, 0, 8, 0, 0]);
    frame
}

/// A model on a machine with a clock that stands still.
struct Host {
    model: Model,
    machine: Machine,
}

impl Host {
    fn decide(&self, frame: &[u8]) -> Outcome {
        decide(frame, &self.model, &self.machine).outcome
    }

    fn decide_many(&self, frame: &[u8], count: usize) -> Vec<Outcome> {
        (0..count).map(|_| self.decide(frame)).collect()
    }

    fn counters(&self, index: u32) -> LimitCounters {
        let counters = self.model.limit_counters.borrow();
        counters.get(&index).copied().unwrap_or_default()
    }
}

fn limit(index: u32, rate: u64, burst: u64, observe: u8) -> Limit {
    Limit {
        rate: Rate::new(rate, SECOND, burst, 1).unwrap(),
        id: u64::from(100 + index),
        slot: u8::try_from(index).unwrap(),
        count: Count::Packets as u8,
        observe,
        ipv4_prefix: 32,
        ipv6_prefix: 64,
        padding: [0; 3],
    }
}

/// A host with limits on TCP and UDP, whatever the port: packets a second, burst, and
/// whether each only observes.
fn host(limits: &[(u64, u64, u8)]) -> Host {
    let limits: Vec<_> = (0..)
        .zip(limits)
        .map(|(index, (rate, burst, observe))| limit(index, *rate, *burst, *observe))
        .collect();
    host_with(&limits)
}

fn host_with(limits: &[Limit]) -> Host {
    let mut model = Model::default();
    let mask = (1 << limits.len()) - 1;
    let connections = (0..)
        .zip(limits)
        .filter(|(_, limit)| limit.count == Count::Connections as u8)
        .fold(0, |mask, (number, _): (u32, _)| mask | 1 << number);
    for protocol in [TCP, UDP] {
        let masks = ProtocolLimits {
            all: mask,
            portless: mask,
            connections,
            exact: 0,
            throttled: 0,
        };
        model.protocols.insert(u32::from(protocol), masks);
    }
    for (index, limit) in (0..).zip(limits) {
        model.add_limit(index, *limit);
    }
    let machine = Machine::default();
    machine.now.set(START);
    Host { model, machine }
}

/// A TCP segment over IPv4 from port 40000 to port 443.
fn tcp(source: [u8; 4], flags: u8) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, TCP, 0, 0]);
    frame.extend(source);
    frame.extend([192, 0, 2, 1, 0x9c, 0x40, 0x01, 0xbb]);
    frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    frame
}

/// Makes the connection that [`tcp`] segments of this source belong to.
fn connect(host: &Host, source: [u8; 4]) {
    let [a, b, c, d] = source;
    let octets = [a, b, c, d, 192, 0, 2, 1, 0x9c, 0x40, 0x01, 0xbb];
    let mut connections = host.machine.connections.borrow_mut();
    connections.insert(TcpTuple::V4 { octets });
}

#[test]
fn a_packet_over_one_limit_is_charged_to_none_and_the_first_that_drops_gives_the_reason() {
    let host = host(&[(10, 4, 1), (10, 2, 0), (10, 0, 0)]);
    let outcomes = host.decide_many(&udp([203, 0, 113, 7]), 10);
    assert_eq!(outcomes[0], Outcome::Passed);
    assert!(outcomes[1..].iter().all(|o| *o == Outcome::DroppedLimit));
    // The third limit holds all but one back: the others were charged only for that.
    for index in 0..3 {
        assert_eq!(host.counters(index).passed.packets, 1, "limit {index}");
    }
    assert_eq!(host.counters(2).dropped.packets, 9);
    assert_eq!(
        (
            host.counters(0).observed.packets,
            host.counters(1).dropped.packets
        ),
        (0, 0)
    );
    assert_eq!(host.model.events.borrow()[0].cause, 102);
}

#[test]
fn of_several_limits_that_are_exceeded_the_first_that_drops_gives_the_reason_else_the_first() {
    for (observing, cause) in [([1, 0, 0], 101), ([1, 1, 1], 100), ([0, 1, 0], 100)] {
        let host = host(&observing.map(|observe| (1, 0, observe)));
        host.decide_many(&udp([203, 0, 113, 7]), 2);
        assert_eq!(host.model.events.borrow()[0].cause, cause, "{observing:?}");
    }
}

#[test]
fn what_one_host_is_refused_its_neighbours_keep() {
    // Two packets for each host, five for its /24.
    let network = Limit {
        ipv4_prefix: 24,
        ..limit(1, 1, 4, 0)
    };
    let host = host_with(&[limit(0, 1, 1, 0), network]);
    let flood = host.decide_many(&udp([203, 0, 113, 7]), 100);
    assert_eq!(flood.iter().filter(|o| **o == Outcome::Passed).count(), 2);
    for neighbour in 8..11 {
        let outcome = host.decide(&udp([203, 0, 113, neighbour]));
        assert_eq!(outcome, Outcome::Passed, "{neighbour}");
    }
    let outcome = host.decide(&udp([203, 0, 113, 11]));
    assert_eq!(
        outcome,
        Outcome::DroppedLimit,
        "the network has used its five"
    );
    assert_eq!(
        (
            host.counters(0).passed.packets,
            host.counters(1).passed.packets
        ),
        (5, 5)
    );
}

#[test]
fn a_limit_that_observes_keeps_nobody_from_being_charged() {
    let host = host(&[(1, 0, 1), (1, 2, 0)]);
    let outcomes = host.decide_many(&udp([203, 0, 113, 7]), 4);
    assert_eq!(
        outcomes,
        [
            Outcome::Passed,
            Outcome::Observed,
            Outcome::Observed,
            Outcome::DroppedLimit
        ]
    );
    assert_eq!(
        (
            host.counters(0).passed.packets,
            host.counters(0).observed.packets
        ),
        (1, 3)
    );
    assert_eq!(
        (
            host.counters(1).passed.packets,
            host.counters(1).dropped.packets
        ),
        (3, 1)
    );
    let events = host.model.events.borrow();
    assert_eq!((events[0].cause, events[1].cause), (100, 101));
}

#[test]
fn a_packet_limit_s_offence_is_verified_by_the_packet_s_own_connection() {
    let host = host(&[(1, 0, 0)]);
    let client = [203, 0, 113, 7];
    host.decide_many(&tcp(client, TCP_ACK), 2);
    connect(&host, client);
    host.machine.now.set(KernelTime(START.0 + INTERVAL_NS));
    host.decide_many(&tcp(client, TCP_ACK), 2);
    host.machine.now.set(KernelTime(START.0 + 2 * INTERVAL_NS));
    host.decide_many(&tcp(client, TCP_SYN), 2);
    let events = host.model.events.borrow();
    let verified: Vec<_> = events.iter().map(Event::verified).collect();
    // A SYN is no part of the connection that it shares its ports with.
    assert_eq!(verified, [false, true, false]);
}

#[test]
fn a_connection_limit_s_offence_is_verified_if_the_source_has_spoken() {
    let connections = Limit {
        count: Count::Connections as u8,
        ..limit(0, 1, 0, 0)
    };
    let host = host_with(&[connections]);
    let (client, forged) = ([203, 0, 113, 7], [203, 0, 113, 8]);
    connect(&host, client);
    for source in [client, forged] {
        assert_eq!(host.decide(&tcp(source, TCP_ACK)), Outcome::Passed);
        host.decide_many(&tcp(source, TCP_SYN), 2);
    }
    let verified: Vec<_> = {
        let events = host.model.events.borrow();
        events.iter().map(Event::verified).collect()
    };
    assert_eq!(verified, [true, false]);
    let stats = host.model.source_stats.get();
    assert_eq!((stats.lookups, stats.connected), (2, 1));
    host.decide_many(&tcp(client, TCP_ACK), 100);
    assert_eq!(host.model.source_stats.get().lookups, 2, "once a minute");
    assert_eq!(host.counters(0).passed.packets, 2, "only SYNs are charged");
}

#[test]
fn a_segment_that_ends_a_handshake_keeps_no_other_from_being_looked_up() {
    let connections = Limit {
        count: Count::Connections as u8,
        ..limit(0, 1, 0, 0)
    };
    let host = host_with(&[connections]);
    let client = [203, 0, 113, 7];
    connect(&host, client);
    host.machine.connections.swap(&host.machine.opening);
    host.decide(&tcp(client, TCP_ACK));
    host.machine.connections.swap(&host.machine.opening);
    host.decide(&tcp(client, TCP_ACK));
    host.decide_many(&tcp(client, TCP_SYN), 2);
    assert!(host.model.events.borrow()[0].verified());
    let stats = host.model.source_stats.get();
    assert_eq!((stats.lookups, stats.connected), (2, 1));
}

#[test]
fn an_answer_to_a_connection_of_this_host_s_own_is_neither_charged_nor_looked_up() {
    let connections = Limit {
        count: Count::Connections as u8,
        ..limit(0, 1, 0, 0)
    };
    let host = host_with(&[connections]);
    let server = [203, 0, 113, 7];
    connect(&host, server);
    let outcomes = host.decide_many(&tcp(server, TCP_SYN | TCP_ACK), 3);
    assert_eq!(outcomes, [Outcome::Passed; 3]);
    assert_eq!(host.counters(0), LimitCounters::default());
    assert_eq!(host.model.source_stats.get().lookups, 0);
}

#[test]
fn a_source_whose_bucket_two_cpus_opened_at_once_is_over_and_counted_as_contended() {
    let host = host(&[(1, 5, 0)]);
    let source = [203, 0, 113, 7];
    assert_eq!(host.decide(&udp(source)), Outcome::Passed);
    let place = Place::new(&host.model.key, 0, &Source::v4(source));
    let set = host.model.buckets(place.set()).unwrap();
    let (own, other) = (set.word(0).load(), set.word(1));
    assert!(own != 0 && other.compare_exchange(0, own));
    assert_eq!(host.decide(&udp(source)), Outcome::DroppedLimit);
    let LimitCounters {
        passed,
        dropped,
        contended,
        ..
    } = host.counters(0);
    assert_eq!((passed.packets, dropped.packets, contended), (1, 1, 1));
}

/// What becomes of a packet whose bucket under the first of these limits another CPU changes so often, once after each
/// access of this one.
fn overtaken(limits: &[(u64, u64, u8)], changes: u64) -> (Outcome, LimitCounters) {
    type Task = Box<dyn FnOnce() -> Option<(Outcome, LimitCounters)> + Send>;
    let source = [203, 0, 113, 7];
    let host = host(limits);
    assert_eq!(host.decide(&udp(source)), Outcome::Passed);
    let place = Place::new(&host.model.key, 0, &Source::v4(source));
    let set = host.model.buckets(place.set()).unwrap();
    let own = set.word(0).load();
    assert_ne!(own, 0);
    let address = set.as_ptr().expose_provenance();
    // Both tasks have ended before the host goes, with what it points at.
    let host = std::sync::Arc::new(std::sync::Mutex::new(host));
    let kept = std::sync::Arc::clone(&host);
    let this: Task = Box::new(move || {
        let host = host.lock().unwrap();
        Some((host.decide(&udp(source)), host.counters(0)))
    });
    let other: Task = Box::new(move || {
        let set = NonNull::new(with_exposed_provenance_mut(address)).unwrap();
        // SAFETY: the host is kept, and its sets never move.
        let set: Shared<'_, Set> = unsafe { Shared::new(set) };
        for change in 1..=changes {
            set.word(0).store(own + change);
        }
        None
    });
    let schedule = [1, 0].repeat(1_000);
    let came = schedule::run(schedule, std::vec![this, other]);
    drop(kept);
    came[0].unwrap()
}

#[test]
fn who_is_overtaken_tries_again_and_is_over_and_contended_if_that_goes_on() {
    // An attempt looks at each word of a set, and exchanges one.
    let attempt = u64::from(WORDS) + 1;
    let one = [(1, 5, 0)];
    let two = [(1, 5, 0), (1, 5, 0)];
    // Several limits are looked at before the first is charged.
    for (limits, before) in [(&one[..], 0), (&two[..], 2 * u64::from(WORDS))] {
        let counted = |changes| {
            let (outcome, counters) = overtaken(limits, changes);
            let LimitCounters {
                passed,
                dropped,
                contended,
                ..
            } = counters;
            (outcome, (passed.packets, dropped.packets, contended))
        };
        let over = (Outcome::DroppedLimit, (1, 1, 1));
        let least = (1..1_000)
            .find(|changes| counted(*changes) == over)
            .unwrap();
        assert_eq!((least - before).div_ceil(attempt), u64::from(ATTEMPTS));
        assert_eq!(counted(least - 1), (Outcome::Passed, (2, 0, 0)));
        assert_eq!(counted(1_000), over);
    }
}

#[test]
fn one_source_s_flood_takes_nothing_from_another() {
    let host = host(&[(1, 0, 0)]);
    host.decide_many(&udp([203, 0, 113, 7]), 100);
    assert_eq!(host.decide(&udp([203, 0, 113, 8])), Outcome::Passed);
    assert_eq!(host.model.bucket_count(START), 2);
}

#[test]
fn events_tell_of_every_drop_but_come_once_a_second() {
    let host = host(&[(1, 0, 0)]);
    let frame = udp([203, 0, 113, 7]);
    host.decide_many(&frame, 42);
    host.machine.now.set(KernelTime(START.0 + INTERVAL_NS));
    host.decide_many(&frame, 2);
    let events = host.model.events.borrow();
    let drops: Vec<_> = events.iter().map(|event| event.drops).collect();
    // The first packet of each second conforms.
    assert_eq!(drops, [1, 41]);
    let stats = host.model.event_stats.get();
    assert_eq!((stats.sent, stats.suppressed, stats.lost), (2, 40, 0));
}

#[test]
fn each_source_that_is_over_one_of_several_limits_is_told_of_by_itself() {
    let host = host(&[(1, 5, 0), (1, 0, 0)]);
    let sources = [[203, 0, 113, 7], [203, 0, 113, 8]];
    for source in sources {
        host.decide_many(&udp(source), 3);
    }
    let events = host.model.events.borrow();
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.cause, event.drops))
        .collect();
    assert_eq!(told, [(101, 1), (101, 1)]);
    drop(events);
    // The second drop of each was counted for it, and is told with its next one.
    host.machine.now.set(KernelTime(START.0 + INTERVAL_NS));
    for source in sources {
        host.decide_many(&udp(source), 2);
    }
    let events = host.model.events.borrow();
    assert_eq!((events[2].drops, events[3].drops), (2, 2));
}

#[test]
fn a_full_ring_loses_the_event_but_not_its_count() {
    let host = host(&[(1, 0, 0)]);
    let frame = udp([203, 0, 113, 7]);
    host.model.ring_room.set(Some(0));
    host.decide_many(&frame, 11);
    assert_eq!(host.model.event_stats.get().lost, 1);
    host.model.ring_room.set(None);
    host.machine.now.set(KernelTime(START.0 + INTERVAL_NS));
    host.decide_many(&frame, 2);
    assert_eq!(host.model.events.borrow()[0].drops, 11);
}

#[test]
fn an_expired_ban_lets_a_wider_one_that_holds_decide() {
    let mut host = host(&[]);
    let source = Source::v4([203, 0, 113, 7]);
    let expired = Ban {
        expires_ns: START.0,
        id: 1,
        ..Ban::default()
    };
    host.model.add_ban(source.host(), expired);
    let frame = udp([203, 0, 113, 7]);
    assert_eq!(host.decide(&frame), Outcome::Passed);
    let permanent = Ban {
        id: 2,
        ..Ban::default()
    };
    host.model.add_ban(source.prefix(24), permanent);
    assert_eq!(host.decide(&frame), Outcome::DroppedBan);
    assert_eq!(host.model.events.borrow()[0].cause, 2);
    assert_eq!(host.model.ban_of(&source.host()).unwrap().hits.total, 0);
    let met = host.model.ban_of(&source.prefix(24)).unwrap();
    assert_eq!((met.hits.total, met.last_hit_ns), (1, START.0));
}

#[test]
fn the_allow_list_beats_bans_limits_and_observation() {
    let mut host = host(&[(1, 0, 0)]);
    let source = Source::v4([203, 0, 113, 7]);
    host.model.add_allow(source.prefix(24));
    let frame = udp([203, 0, 113, 7]);
    let outcomes = host.decide_many(&frame, 3);
    assert_eq!(
        outcomes,
        [Outcome::Passed, Outcome::Allowed, Outcome::Allowed]
    );
    host.model.settings = Settings::new(0, true);
    assert_eq!(host.decide(&frame), Outcome::Allowed);
    host.model.add_ban(source.host(), Ban::default());
    assert_eq!(host.decide(&frame), Outcome::Allowed);
    assert_eq!(host.counters(0).allowed.packets, 3);
}

#[test]
fn observing_drops_nothing_and_counts_everything() {
    let mut host = host(&[(1, 0, 0)]);
    host.model.settings = Settings::new(0, true);
    let frame = udp([203, 0, 113, 7]);
    assert_eq!(host.decide_many(&frame, 2)[1], Outcome::Observed);
    host.model
        .add_ban(Source::v4([203, 0, 113, 7]).host(), Ban::default());
    assert_eq!(host.decide(&frame), Outcome::Observed);
    assert_eq!(host.counters(0).observed.packets, 1);
}

#[test]
fn no_frame_of_any_length_panics() {
    let host = host(&[(1, 0, 0)]);
    let frame = udp([203, 0, 113, 7]);
    for length in 0..frame.len() {
        let outcome = host.decide(&frame[..length]);
        let readable = length >= 38;
        assert_eq!(
            outcome == Outcome::Malformed,
            !readable,
            "{length} bytes: {outcome:?}"
        );
    }
}

/// Makes the limits in `mask` apply to throttled sources only.
fn only_throttled(host: &mut Host, mask: u64) {
    for limits in host.model.protocols.values_mut() {
        limits.throttled = mask;
    }
}

/// Throttles a prefix by the limits in `mask` until then.
fn throttle(host: &mut Host, address: [u8; 4], length: u8, mask: u64, expires_ns: u64) {
    let mut throttle = Throttle::default();
    throttle.terms[0] = Term {
        expires_ns,
        limits: [mask, 0],
    };
    let prefix = Source::v4(address).prefix(length);
    host.model.add_throttle(prefix, throttle);
}

#[test]
fn a_limit_for_throttled_sources_charges_and_counts_nobody_else() {
    let mut host = host(&[(1, 0, 0)]);
    only_throttled(&mut host, 1);
    let (client, other) = ([203, 0, 113, 7], [203, 0, 113, 8]);
    assert_eq!(host.decide_many(&udp(client), 3), [Outcome::Passed; 3]);
    throttle(&mut host, client, 32, 1, 0);
    assert_eq!(host.decide_many(&udp(other), 3), [Outcome::Passed; 3]);
    assert_eq!(host.counters(0), LimitCounters::default());
    let outcomes = host.decide_many(&udp(client), 2);
    assert_eq!(outcomes, [Outcome::Passed, Outcome::DroppedLimit]);
    assert_eq!(
        (
            host.counters(0).passed.packets,
            host.counters(0).dropped.packets
        ),
        (1, 1)
    );
    assert_eq!(host.model.events.borrow()[0].cause, 100);
}

#[test]
fn a_throttle_ends_to_the_nanosecond() {
    let mut host = host(&[(1, 0, 0)]);
    only_throttled(&mut host, 1);
    let client = [203, 0, 113, 7];
    throttle(&mut host, client, 24, 1, START.0 + 10);
    host.machine.now.set(KernelTime(START.0 + 9));
    let outcomes = host.decide_many(&udp(client), 2);
    assert_eq!(outcomes, [Outcome::Passed, Outcome::DroppedLimit]);
    host.machine.now.set(KernelTime(START.0 + 10));
    assert_eq!(host.decide_many(&udp(client), 3), [Outcome::Passed; 3]);
}

#[test]
fn a_throttle_names_limits_of_the_bank_that_is_in_use() {
    let mut host = host(&[(1, 0, 0)]);
    only_throttled(&mut host, 1);
    let client = [203, 0, 113, 7];
    let mut throttle = Throttle::default();
    throttle.terms[MAX_TERMS - 1].limits = [0, 1];
    let prefix = Source::v4(client).prefix(32);
    host.model.add_throttle(prefix, throttle);
    assert_eq!(host.decide_many(&udp(client), 3), [Outcome::Passed; 3]);
    throttle.terms[0].limits = [1, 0];
    host.model.add_throttle(prefix, throttle);
    let outcomes = host.decide_many(&udp(client), 2);
    assert_eq!(outcomes, [Outcome::Passed, Outcome::DroppedLimit]);
}

#[test]
fn connections_are_looked_up_for_a_limit_only_if_it_applies_to_their_source() {
    let connections = Limit {
        count: Count::Connections as u8,
        ..limit(0, 1, 0, 0)
    };
    let mut host = host_with(&[connections]);
    only_throttled(&mut host, 1);
    let client = [203, 0, 113, 7];
    connect(&host, client);
    host.decide(&tcp(client, TCP_ACK));
    assert_eq!(host.model.source_stats.get().lookups, 0);
    throttle(&mut host, client, 32, 1, 0);
    host.decide(&tcp(client, TCP_ACK));
    assert_eq!(host.model.source_stats.get().lookups, 1);
    host.decide_many(&tcp(client, TCP_SYN), 2);
    assert!(host.model.events.borrow()[0].verified());
}
