//! The packet path over the [`Model`].

use super::*;
use crate::{
    gate::INTERVAL_NS,
    gcra::Rate,
    layout::Ban,
    model::Model,
    packet::{TCP, UDP},
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

/// A model with limits on every protocol and port: packets a second and burst of each.
fn model(limits: &[(u64, u64, u8)]) -> Model {
    let mut model = Model::default();
    model.now.set(START);
    let mask = (1 << limits.len()) - 1;
    for protocol in [TCP, UDP] {
        let all = ProtocolLimits {
            all: mask,
            portless: mask,
        };
        model.protocols.insert(u32::from(protocol), all);
    }
    for (index, (rate, burst, observe)) in (0..).zip(limits) {
        let limit = Limit {
            rate: Rate::new(*rate, SECOND, *burst, 1).unwrap(),
            id: 100 + index,
            count: Count::Packets as u8,
            observe: *observe,
            ipv4_prefix: 32,
            ipv6_prefix: 64,
        };
        model.limits.insert(index, limit);
    }
    model
}

fn decide_many(model: &Model, frame: &[u8], count: usize) -> Vec<Outcome> {
    (0..count).map(|_| decide(frame, model)).collect()
}

#[test]
fn all_limits_are_charged_and_the_first_that_drops_gives_the_reason() {
    let model = model(&[(10, 4, 1), (10, 2, 0), (10, 0, 0)]);
    let outcomes = decide_many(&model, &udp([203, 0, 113, 7]), 10);
    assert_eq!(outcomes[0], Outcome::Passed);
    assert!(outcomes[1..].iter().all(|o| *o == Outcome::DroppedLimit));
    let counters = model.limit_counters.borrow();
    assert_eq!(counters[&0].conforming, 5);
    assert_eq!(
        counters[&0].observed, 5,
        "an observed limit never says it dropped"
    );
    assert_eq!((counters[&1].conforming, counters[&1].dropped), (3, 7));
    assert_eq!((counters[&2].conforming, counters[&2].dropped), (1, 9));
    let events = model.events.borrow();
    assert_eq!(
        events[0].cause, 102,
        "only the third was exceeded at the second packet"
    );
    assert_eq!(
        events[1].cause, 101,
        "then the second, which comes first, was, too"
    );
}

#[test]
fn one_source_s_flood_takes_nothing_from_another() {
    let model = model(&[(1, 0, 0)]);
    decide_many(&model, &udp([203, 0, 113, 7]), 100);
    assert_eq!(decide(&udp([203, 0, 113, 8])[..], &model), Outcome::Passed);
    assert_eq!(model.bucket_count(), 2);
}

#[test]
fn a_source_without_a_bucket_is_over_and_counted_as_contended() {
    let model = model(&[(1000, 1000, 0)]);
    model.bucket_room.set(Some(0));
    assert_eq!(
        decide(&udp([203, 0, 113, 7])[..], &model),
        Outcome::DroppedLimit
    );
    let counters = model.limit_counters.borrow()[&0];
    assert_eq!((counters.dropped, counters.contended), (1, 1));
}

#[test]
fn events_tell_of_every_drop_but_come_once_a_second() {
    let model = model(&[(1, 0, 0)]);
    let frame = udp([203, 0, 113, 7]);
    decide_many(&model, &frame, 42);
    model.now.set(KernelTime(START.0 + INTERVAL_NS));
    decide_many(&model, &frame, 2);
    let events = model.events.borrow();
    let drops: Vec<_> = events.iter().map(|event| event.drops).collect();
    // The first packet of each second conforms.
    assert_eq!(drops, [1, 41]);
    let stats = model.event_stats.get();
    assert_eq!((stats.sent, stats.suppressed, stats.lost), (2, 40, 0));
}

#[test]
fn a_full_ring_loses_the_event_but_not_its_count() {
    let model = model(&[(1, 0, 0)]);
    let frame = udp([203, 0, 113, 7]);
    model.ring_room.set(Some(0));
    decide_many(&model, &frame, 11);
    assert_eq!(model.event_stats.get().lost, 1);
    model.ring_room.set(None);
    model.now.set(KernelTime(START.0 + INTERVAL_NS));
    decide_many(&model, &frame, 2);
    assert_eq!(model.events.borrow()[0].drops, 11);
}

#[test]
fn an_expired_ban_lets_a_wider_one_that_holds_decide() {
    let mut model = model(&[]);
    let source = Source::v4([203, 0, 113, 7]);
    let expired = Ban {
        expires_ns: START.0,
        id: 1,
        ..Ban::default()
    };
    model.add_ban(source.host(), expired);
    let frame = udp([203, 0, 113, 7]);
    assert_eq!(decide(&frame[..], &model), Outcome::Passed);
    let permanent = Ban {
        id: 2,
        ..Ban::default()
    };
    model.add_ban(source.prefix(24), permanent);
    assert_eq!(decide(&frame[..], &model), Outcome::DroppedBan);
    assert_eq!(model.events.borrow()[0].cause, 2);
    assert_eq!(model.ban_of(&source.host()).unwrap().hits.total, 0);
    let met = model.ban_of(&source.prefix(24)).unwrap();
    assert_eq!((met.hits.total, met.last_hit_ns), (1, START.0));
}

#[test]
fn the_allow_list_beats_bans_limits_and_observation() {
    let mut model = model(&[(1, 0, 0)]);
    let source = Source::v4([203, 0, 113, 7]);
    model.add_allow(source.prefix(24));
    let frame = udp([203, 0, 113, 7]);
    let outcomes = decide_many(&model, &frame, 3);
    assert_eq!(
        outcomes,
        [Outcome::Passed, Outcome::Allowed, Outcome::Allowed]
    );
    model.settings = Settings::new(0, true);
    assert_eq!(decide(&frame[..], &model), Outcome::Allowed);
    model.add_ban(source.host(), Ban::default());
    assert_eq!(decide(&frame[..], &model), Outcome::Allowed);
    assert_eq!(model.limit_counters.borrow()[&0].allowed, 3);
}

#[test]
fn observing_drops_nothing_and_counts_everything() {
    let mut model = model(&[(1, 0, 0)]);
    model.settings = Settings::new(0, true);
    let frame = udp([203, 0, 113, 7]);
    assert_eq!(decide_many(&model, &frame, 2)[1], Outcome::Observed);
    model.add_ban(Source::v4([203, 0, 113, 7]).host(), Ban::default());
    assert_eq!(decide(&frame[..], &model), Outcome::Observed);
    assert_eq!(model.limit_counters.borrow()[&0].observed, 1);
}

#[test]
fn no_frame_of_any_length_panics() {
    let model = model(&[(1, 0, 0)]);
    let frame = udp([203, 0, 113, 7]);
    for length in 0..frame.len() {
        let outcome = decide(&frame[..length], &model);
        let readable = length >= 38;
        assert_eq!(
            outcome == Outcome::Malformed,
            !readable,
            "{length} bytes: {outcome:?}"
        );
    }
}
