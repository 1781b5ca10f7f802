//! Packets, limits, interfaces, and what became of the program's events.

use std::{collections::BTreeMap, fmt};

use abuser_common::layout::{EVENTS_BYTES, Outcome};

use super::{
    Readings,
    page::{Family, Page},
};
use crate::api::types::{InterfaceState, InterfaceStatus, LimitStatus, TrafficCount};

pub(super) fn write(page: &mut Page<'_>, readings: &Readings) -> fmt::Result {
    let status = &readings.engine.status;
    outcomes(page, &status.interfaces, &readings.engine.elsewhere)?;
    limits(page, &readings.engine.limits)?;
    interfaces(page, &status.interfaces)?;
    let lookups = status.lookups;
    page.counters(
        Family::new(
            "events",
            "Events of the XDP program: sent, suppressed because another one stands for them, or \
             lost because the ring buffer was full.",
        ),
        [
            ([("result", "sent")], status.events.sent),
            ([("result", "suppressed")], status.events.suppressed),
            ([("result", "lost")], status.events.lost),
        ],
    )?;
    page.gauge(
        Family::bytes(
            "events_unread",
            "Events in the ring buffer that are not read yet.",
        ),
        readings.engine.unread_bytes,
    )?;
    page.gauge(
        Family::bytes("events_capacity", "Size of the ring buffer of events."),
        u64::from(EVENTS_BYTES),
    )?;
    page.counters(
        Family::new(
            "socket_lookups",
            "Look-ups of sockets, by whether there was a connection: sources that have one are no \
             forgeries.",
        ),
        [
            ([("result", "connected")], lookups.connected),
            (
                [("result", "unconnected")],
                lookups.total.saturating_sub(lookups.connected),
            ),
        ],
    )?;
    page.gauge(
        Family::new(
            "observing",
            "1 if nothing is dropped, only counted and reported.",
        ),
        i64::from(status.observe),
    )
}

/// What happened to a packet, and for what reason.
const fn verdict(outcome: Outcome) -> [(&'static str, &'static str); 2] {
    let reason = match outcome {
        Outcome::Passed => "conforming",
        Outcome::NotIp => "not_ip",
        Outcome::Malformed => "malformed",
        Outcome::Allowed => "allowed",
        Outcome::Observed => "observed",
        Outcome::DroppedLimit => "limit",
        Outcome::DroppedBan => "ban",
        Outcome::DroppedHidden => "hidden",
    };
    let verdict = if outcome.dropped() {
        "dropped"
    } else {
        "passed"
    };
    [("verdict", verdict), ("reason", reason)]
}

/// Counted packets by the interface's name, and by what became of them.
type ByInterface<'a> = BTreeMap<(&'a str, Outcome), TrafficCount>;

fn outcomes(
    page: &mut Page<'_>,
    interfaces: &[InterfaceStatus],
    elsewhere: &BTreeMap<String, TrafficCount>,
) -> fmt::Result {
    let mut counted = ByInterface::new();
    let mut add = |interface, outcomes: &BTreeMap<String, TrafficCount>| {
        for outcome in Outcome::ALL {
            let TrafficCount { packets, bytes } =
                outcomes.get(outcome.name()).copied().unwrap_or_default();
            // For a moment two may be known by the same name.
            let sum: &mut TrafficCount = counted.entry((interface, outcome)).or_default();
            sum.packets += packets;
            sum.bytes += bytes;
        }
    };
    for interface in interfaces {
        if let Some(outcomes) = &interface.outcomes {
            add(interface.name.as_str(), outcomes);
        }
    }
    if elsewhere.values().any(|count| count.packets > 0) {
        add("", elsewhere);
    }
    let samples = || {
        counted.iter().map(|((interface, outcome), count)| {
            let [verdict, reason] = verdict(*outcome);
            ([("interface", *interface), verdict, reason], count)
        })
    };
    page.counters(
        Family::new("packets", "Packets since their interface is protected."),
        samples().map(|(labels, count)| (labels, count.packets)),
    )?;
    page.counters(
        Family::bytes(
            "packet",
            "Bytes of the frames of packets since their interface is protected.",
        ),
        samples().map(|(labels, count)| (labels, count.bytes)),
    )
}

fn limits(page: &mut Page<'_>, limits: &[LimitStatus]) -> fmt::Result {
    let counts = |counts: fn(&LimitStatus) -> [(&'static str, u64); 4]| {
        limits.iter().flat_map(move |limit| {
            let name = ("limit", limit.name.as_str());
            counts(limit).map(|(verdict, count)| ([name, ("verdict", verdict)], count))
        })
    };
    page.counters(
        Family::new(
            "limit_packets",
            "Packets that a limit applied to: passed and charged, dropped, only observed, or passed \
             because of the allow list.",
        ),
        counts(|limit| {
            [
                ("passed", limit.passed),
                ("dropped", limit.dropped),
                ("observed", limit.observed),
                ("allowed", limit.allowed),
            ]
        }),
    )?;
    page.counters(
        Family::bytes(
            "limit_packet",
            "Bytes of the frames of packets that a limit applied to.",
        ),
        counts(|LimitStatus { bytes, .. }| {
            [
                ("passed", bytes.passed),
                ("dropped", bytes.dropped),
                ("observed", bytes.observed),
                ("allowed", bytes.allowed),
            ]
        }),
    )?;
    let by_limit = |count: fn(&LimitStatus) -> u64| {
        limits
            .iter()
            .map(move |limit| ([("limit", limit.name.as_str())], count(limit)))
    };
    page.counters(
        Family::new(
            "limit_contended",
            "Packets that were taken for over the limit because their bucket could not be updated.",
        ),
        by_limit(|limit| limit.contended),
    )?;
    page.gauges(
        Family::new("limit_sources", "Sources whose bucket is not full."),
        by_limit(|limit| limit.sources as u64),
    )
}

fn interfaces(page: &mut Page<'_>, interfaces: &[InterfaceStatus]) -> fmt::Result {
    // One that was renamed may bear the name that another one is waited for by.
    let mut attached = BTreeMap::new();
    for interface in interfaces {
        let is_attached = interface.state == InterfaceState::Attached;
        let mode = interface.mode.as_deref().unwrap_or("none");
        *attached
            .entry([("interface", interface.name.as_str()), ("mode", mode)])
            .or_insert(false) |= is_attached;
    }
    page.gauges(
        Family::new(
            "interface_attached",
            "1 if the interface is protected; its mode is driver or generic then, and else none.",
        ),
        attached
            .into_iter()
            .map(|(labels, is_attached)| (labels, i64::from(is_attached))),
    )
}
