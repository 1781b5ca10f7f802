//! What must hold for any traffic under any tables: `decide()` says what plain code says.
//!
//! An input is read as a scenario ([`scenario`]): limits, bans, an allow list, throttles, a clock and
//! packets. [`slow`] has what should come of it, in plain code that shares nothing with the packet
//! path: lists that are searched from their beginning, and times that do not wrap.

mod frame;
mod scenario;
mod slow;

use std::collections::BTreeMap;

use abuser_common::{
    event::{Event, Reason},
    gcra::KernelTime,
    layout::{Limit, LimitCounters, MAX_LIMITS, Outcome, ProtocolLimits, Settings},
    model::{Machine, Model},
    verdict::{Decision, decide as fast},
};

use self::{
    scenario::{Scenario, Step},
    slow::Slow,
};

/// Runs a scenario through `decide()` and through plain code.
///
/// # Panics
///
/// If they disagree about a packet, a counter or a ban, or an event tells of what was not.
pub fn decide(bytes: &[u8]) {
    let Some(mut scenario) = Scenario::read(bytes) else {
        return;
    };
    let mut model = tables(&scenario);
    let mut slow = Slow::new(&scenario);
    let machine = Machine::default();
    let mut now = KernelTime(1 << 42);
    machine.now.set(now);
    let mut outcomes: BTreeMap<Outcome, u64> = BTreeMap::new();
    while let Some(step) = scenario.next(now) {
        match step {
            Step::Wait(ns) => {
                now = KernelTime(now.0 + ns);
                machine.now.set(now);
            }
            Step::Ban(prefix, ban) => {
                model.add_ban(prefix, ban);
                slow.ban(prefix, ban.expires_ns);
            }
            Step::Allow(prefix) => {
                model.add_allow(prefix);
                slow.allow(prefix);
            }
            Step::Throttle(prefix, terms) => {
                model.add_throttle(prefix, scenario::entry(&terms, scenario.bank));
                slow.throttle(prefix, terms);
            }
            Step::Packet(packet) => {
                let frame = packet.build();
                let Decision { outcome, length } = fast(frame.as_slice(), &model, &machine);
                if model.source_stats.get().evictions > 0 {
                    // More sources than a set has words: what is forgotten then, plain code does not know.
                    return;
                }
                let expected = slow.packet(&packet, frame.len(), now.0);
                assert_eq!(outcome, expected, "{packet:?} at {now:?}");
                assert_eq!(length as usize, frame.len());
                *outcomes.entry(outcome).or_default() += 1;
            }
        }
    }
    slow.within_rates(now.0);
    counters_add_up(&scenario, &model, &slow);
    events_tell_no_more(&model, &outcomes);
}

/// The scenario's limits in the tables of the packet path.
fn tables(scenario: &Scenario) -> Model {
    let mut model = Model::default();
    model.settings = Settings::new(scenario.bank, scenario.observe);
    let mut protocols = vec![ProtocolLimits::default(); 256];
    for (number, limit) in (0_u8..).zip(&scenario.limits) {
        let bit = 1 << number;
        for (protocol, masks) in (0_u8..=255).zip(&mut protocols) {
            if limit.protocol.is_none_or(|only| only == protocol) {
                masks.all |= bit;
                masks.portless |= if limit.ports.is_empty() { bit } else { 0 };
                masks.connections |= if limit.is_of_connections() { bit } else { 0 };
                masks.throttled |= if limit.only_throttled { bit } else { 0 };
            }
        }
        for port in &limit.ports {
            let index = scenario.bank * 65_536 + u32::from(*port);
            *model.ports.entry(index).or_default() |= bit;
        }
        let index = scenario.bank * MAX_LIMITS + u32::from(number);
        model.add_limit(
            index,
            Limit {
                rate: limit.rate,
                id: u64::from(number) + 1,
                slot: number,
                count: limit.count as u8,
                observe: u8::from(limit.observe),
                ipv4_prefix: limit.ipv4_prefix,
                ipv6_prefix: limit.ipv6_prefix,
                padding: [0; 3],
            },
        );
    }
    model.protocols = (scenario.bank * 256..).zip(protocols).collect();
    model
}

fn counters_add_up(scenario: &Scenario, model: &Model, slow: &Slow) {
    let counted = model.limit_counters.borrow();
    for (number, expected) in (0..).zip(slow.counters()) {
        let index = scenario.bank * MAX_LIMITS + number;
        let counted: LimitCounters = counted.get(&index).copied().unwrap_or_default();
        assert_eq!(counted, *expected, "limit {number}");
    }
    for (prefix, hits) in slow.hits() {
        let ban = model.ban_of(prefix).expect("it was added");
        assert_eq!(ban.hits.total, hits, "{prefix:?}");
    }
}

/// Events stand for packets that there were, each packet in one at most.
fn events_tell_no_more(model: &Model, outcomes: &BTreeMap<Outcome, u64>) {
    let events = model.events.borrow();
    let told = |reason: Reason| -> u64 {
        let events = events.iter().filter(|event| event.reason() == Some(reason));
        events.map(|event| event.drops).sum()
    };
    let met = |outcome| outcomes.get(&outcome).copied().unwrap_or(0);
    let spared = met(Outcome::Allowed) + met(Outcome::Observed);
    assert!(told(Reason::Limit) <= met(Outcome::DroppedLimit) + spared);
    assert!(told(Reason::Ban) <= met(Outcome::DroppedBan) + spared);
    let mut last: BTreeMap<(u8, u64, [u8; 16]), u64> = BTreeMap::new();
    for event in events.iter() {
        assert!(event.verdict().is_some() && event.drops > 0, "{event:?}");
        // A record goes to the daemon as bytes.
        let key = (event.reason, event.cause, event.source.address);
        let before = last.insert(key, event.time_ns);
        let apart = before.is_none_or(|before| event.time_ns - before >= 1_000_000_000);
        assert!(apart, "twice within a second: {event:?}");
        assert!(matches!(Event::decode(&bytes_of(event)), Ok(again) if again == *event));
    }
}

/// An event as the ring buffer has it, field by field.
fn bytes_of(event: &Event) -> Vec<u8> {
    let mut bytes = vec![event.version, event.verdict, event.reason, event.protocol];
    bytes.extend(event.port.to_ne_bytes());
    bytes.extend([event.flags, event.tcp_flags]);
    for word in [event.time_ns, event.drops, event.cause] {
        bytes.extend(word.to_ne_bytes());
    }
    for word in [
        event.interface,
        event.length,
        event.source.family,
        event.source.length,
    ] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(event.source.address);
    bytes.extend(event.prefix.to_ne_bytes());
    bytes
}
