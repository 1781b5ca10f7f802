//! What is told of the fleet.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    link::Link,
    publish::Own,
    state::{Refusal, State},
    wire::{Kind, millis},
};
use crate::{
    api::types::{FleetLatency, FleetNode, FleetStatus},
    config::FleetConfig,
    daemon::clock,
};

/// How many of the latest times are kept.
const LATEST: usize = 1024;

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) reconnects: u64,
    pub(super) published: u64,
    pub(super) received: u64,
    refused: BTreeMap<Refusal, u64>,
    latencies: VecDeque<u64>,
}

impl Counts {
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        *self.refused.entry(refusal).or_default() += 1;
    }

    /// A message took so many milliseconds.
    pub(super) fn took(&mut self, millis: u64) {
        if self.latencies.len() >= LATEST {
            self.latencies.pop_front();
        }
        self.latencies.push_back(millis);
    }

    fn latency(&self) -> Option<FleetLatency> {
        let mut sorted: Vec<_> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let place = (sorted.len() * percent).div_ceil(100);
            sorted.get(place.saturating_sub(1)).copied()
        };
        Some(FleetLatency {
            median_ms: at(50)?,
            p99_ms: at(99)?,
        })
    }
}

/// All that is told.
pub(super) fn status(
    config: &FleetConfig,
    link: &Link,
    counts: &Counts,
    own: &Own,
    state: &State,
) -> FleetStatus {
    let (shared_bans, shared_allow) = (own.count(Kind::Ban), own.count(Kind::Allow));
    let this = FleetNode {
        name: config.node.clone(),
        this: true,
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        seen: Some(clock::now()),
        bans: shared_bans,
        allow: shared_allow,
        ignored: false,
        gone: false,
        ahead_ms: None,
    };
    let now = millis(SystemTime::now());
    let others = state.nodes().map(|(name, node)| FleetNode {
        name: name.to_owned(),
        this: false,
        version: node
            .presence
            .as_ref()
            .map(|presence| presence.version.clone()),
        seen: (node.seen > 0).then(|| clock::format(UNIX_EPOCH + Duration::from_millis(node.seen))),
        bans: node.bans,
        allow: node.allowed,
        ignored: !config.accepts(name),
        gone: node.is_gone(now),
        ahead_ms: node.ahead,
    });
    let mut nodes: Vec<_> = others.chain([this]).collect();
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    FleetStatus {
        node: config.node.clone(),
        bucket: config.bucket.clone(),
        connected: link.server.is_some(),
        server: link.server.clone(),
        since: link.since.map(clock::format),
        reconnects: counts.reconnects,
        complete: link.complete,
        error: link.error.clone().or_else(|| link.write_error.clone()),
        shared_bans,
        shared_allow,
        pending: own.pending(),
        published: counts.published,
        unshared: own.unshared(),
        bans: state.banned(),
        allow: state.allowed(),
        received: counts.received,
        refused: Refusal::ALL
            .into_iter()
            .map(|refusal| {
                let count = counts.refused.get(&refusal).copied().unwrap_or_default();
                (refusal.name().to_owned(), count)
            })
            .collect(),
        latency: counts.latency(),
        nodes,
    }
}

/// The latest status, for whoever asks; `None` if this node is in no fleet.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Option<FleetStatus>>);

impl Board {
    pub(super) fn write(&self, status: Option<FleetStatus>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    pub(super) fn read(&self) -> Option<FleetStatus> {
        let status = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        status.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_times_tell_how_long_most_take() {
        let mut counts = Counts::default();
        assert!(counts.latency().is_none());
        counts.took(7);
        assert_eq!(counts.latency().unwrap().p99_ms, 7);
        (0..LATEST as u64 * 2).for_each(|millis| counts.took(millis));
        let latency = counts.latency().unwrap();
        assert_eq!((latency.median_ms, latency.p99_ms), (1535, 2037));
    }
}
