//! Status, limits and metrics, as the API tells them.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use abuser_common::layout::{
    LimitCounters, MAX_ALLOWED, MAX_BANS, MAX_LIMITS, MAX_THROTTLED, Outcome, Scales, Traffic,
};

use super::{Engine, EngineError, Reply, complete};
use crate::{
    api::types::{
        BucketCounts, Capacity, ComponentStatus, DispatcherStatus, EventCounts, InterfaceState,
        InterfaceStatus, LimitBytes, LimitStatus, LookupCounts, PinsStatus, ReconcilerStatus,
        SecurityStatus, Status, StoreStatus, TrafficCount, VerifiedCounts,
    },
    config::{LimitConfig, Scope},
    daemon::clock,
    dataplane::{
        attach::mode_name,
        buckets::{self, Buckets},
        dispatcher::Chain,
        kernel_now,
        protected::Protection,
        verified::{self, VerifiedSources},
    },
    metrics::EngineReadings,
    store::Health,
    words::counted,
};

/// The tables whose entries nobody counts as they come and go: to know how many there are
/// takes milliseconds, and is done where no ban waits for it.
pub(super) struct Occupancy {
    buckets: Arc<Buckets>,
    scales: Scales,
    /// The slots of the limits in force, in their order.
    slots: Vec<u8>,
    verified: Arc<VerifiedSources>,
}

impl Occupancy {
    /// Buckets that are not full, by the slot of their limit.
    fn active_buckets(&self) -> [usize; MAX_LIMITS as usize] {
        self.buckets.active(&self.scales, kernel_now())
    }

    /// Completes what [`Engine::status`] began.
    pub(super) fn complete_status(&self, status: &mut Status) {
        status.buckets.active = self.active_buckets().iter().sum();
        status.verified.sources = self.verified.count(kernel_now());
    }

    /// Completes what [`Engine::readings`] began.
    pub(super) fn complete_readings(&self, readings: &mut EngineReadings) {
        let active = self.active_buckets();
        readings.status.buckets.active = active.iter().sum();
        readings.status.verified.sources = self.verified.count(kernel_now());
        self.tell_limits(&active, &mut readings.limits);
    }

    /// Completes what [`Engine::limits`] began.
    pub(super) fn complete_limits(&self, limits: &mut [LimitStatus]) {
        self.tell_limits(&self.active_buckets(), limits);
    }

    fn tell_limits(&self, active: &[usize], limits: &mut [LimitStatus]) {
        for (limit, slot) in limits.iter_mut().zip(&self.slots) {
            limit.sources = active.get(usize::from(*slot)).copied().unwrap_or_default();
        }
    }
}

impl Engine {
    /// Tells how it stands; tables are counted where no ban waits for it.
    pub(super) fn tell_status(&self, reply: Reply<Status>) {
        let occupancy = self.occupancy();
        complete(reply, self.status(), move |status| {
            occupancy.complete_status(status);
        });
    }

    /// Tells the limits, as [`Engine::tell_status`] does.
    pub(super) fn tell_limits(&self, reply: Reply<Vec<LimitStatus>>) {
        let occupancy = self.occupancy();
        complete(reply, self.limits(), move |limits| {
            occupancy.complete_limits(limits);
        });
    }

    /// Tells what metrics are made of, as [`Engine::tell_status`] does.
    pub(super) fn tell_readings(&self, reply: Reply<EngineReadings>) {
        let occupancy = self.occupancy();
        complete(reply, self.readings(), move |readings| {
            occupancy.complete_readings(readings);
        });
    }

    /// How it stands, in a line.
    pub(super) fn summary(&self) -> String {
        let mut parts: Vec<_> = self.dataplane.protected().states().map(state).collect();
        if self.observe {
            parts.push("observing only".to_owned());
        }
        let bans = self.bans.count(kernel_now().0);
        parts.push(counted(bans.try_into().unwrap_or(u64::MAX), "ban", "bans"));
        if let Health::Failed { error, .. } = self.store.health() {
            parts.push(format!("the store cannot be written ({error})"));
        }
        if let Some(failure) = self.dataplane.upkeep().failure() {
            parts.push(format!("no pins ({})", failure.error));
        }
        parts.join(", ")
    }

    /// Whether what happens is written to the store.
    pub(in crate::daemon) fn has_store(&self) -> bool {
        matches!(self.store.health(), Health::Good)
    }

    pub(super) fn occupancy(&self) -> Occupancy {
        let limits = self.dataplane.limits();
        Occupancy {
            buckets: Arc::clone(self.dataplane.buckets()),
            scales: limits.scales(),
            slots: limits.loaded().iter().map(|limit| limit.slot).collect(),
            verified: Arc::clone(self.dataplane.verified()),
        }
    }

    /// The status, but for the tables' [`Occupancy`].
    pub(super) fn status(&self) -> Result<Status, EngineError> {
        let events = self.dataplane.counters().events()?;
        let packets = self.dataplane.counters().packets();
        let sources = self.dataplane.counters().sources()?;
        let (started, since) = self.started;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: clock::format(started),
            uptime_seconds: since.elapsed().as_secs(),
            observe: self.observe,
            confirm_by: self.confirm_by.map(|deadline| {
                let left = deadline.saturating_duration_since(tokio::time::Instant::now());
                clock::format(SystemTime::now() + left)
            }),
            interfaces: self.interfaces()?,
            outcomes: traffic_counts(packets.outcomes()?),
            events: EventCounts {
                sent: events.sent,
                suppressed: events.suppressed,
                lost: events.lost,
            },
            buckets: BucketCounts {
                capacity: buckets::CAPACITY,
                active: 0,
                evictions: sources.evictions,
            },
            lookups: LookupCounts {
                total: sources.lookups,
                connected: sources.connected,
            },
            verified: VerifiedCounts {
                capacity: verified::CAPACITY,
                sources: 0,
            },
            store: self.store_status(),
            pins: self.pins_status(),
            reconciler: ReconcilerStatus {
                passes: self.repairs.passes,
                kernel_repairs: self.repairs.kernel,
                store_repairs: self.store.repairs(),
            },
            blocklists: self.lists.blocklist_status(),
            // The route asks those who know.
            crowdsec: None,
            fleet: None,
            notify: Vec::new(),
            security: SecurityStatus::default(),
            capacity: Capacity {
                limits: MAX_LIMITS,
                bans: MAX_BANS,
                allow: MAX_ALLOWED,
                throttles: MAX_THROTTLED,
            },
            limits: self.dataplane.limits().loaded().len(),
            bans: self.bans.count(kernel_now().0),
            allow: self.allowed.len(),
            throttles: self.throttles.len(),
        })
    }

    /// What metrics are made of, but for the tables' [`Occupancy`].
    pub(super) fn readings(&self) -> Result<EngineReadings, EngineError> {
        Ok(EngineReadings {
            status: self.status()?,
            limits: self.limits()?,
            bans: self.bans.by_cause().collect(),
            elsewhere: traffic_counts(self.dataplane.counters().packets().elsewhere()?.each()),
            unread_bytes: self.dataplane.unread_events(),
        })
    }

    /// How it stands with each interface.
    fn interfaces(&self) -> Result<Vec<InterfaceStatus>, EngineError> {
        let packets = self.dataplane.counters().packets();
        let states = self.dataplane.protected().states();
        let told = states.map(|state| {
            let counted = match state {
                Protection::Attached(attachment) => packets.on(attachment.index)?,
                Protection::Missing { .. } | Protection::Refused { .. } => None,
            };
            Ok(InterfaceStatus {
                outcomes: counted.map(|counted| traffic_counts(counted.each())),
                ..interface_status(state)
            })
        });
        told.collect()
    }

    fn store_status(&self) -> StoreStatus {
        let (error, failed) = match self.store.health() {
            Health::Good => (None, None),
            Health::Failed { error, since } => (Some(error), Some(clock::format(since))),
        };
        StoreStatus {
            path: self.store.path().display().to_string(),
            error,
            failed,
            damaged: self
                .store
                .aside()
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
        }
    }

    fn pins_status(&self) -> PinsStatus {
        let upkeep = self.dataplane.upkeep();
        let failure = upkeep.failure();
        PinsStatus {
            path: self.dataplane.pin_dir().display().to_string(),
            error: failure.map(|failure| failure.error.clone()),
            failed: failure.map(|failure| clock::format(failure.since)),
            repairs: upkeep.repairs(),
        }
    }

    /// The limits, but for the bucket table's [`Occupancy`].
    pub(super) fn limits(&self) -> Result<Vec<LimitStatus>, EngineError> {
        let limits = self.dataplane.limits();
        Ok(limits
            .loaded()
            .iter()
            .zip(limits.counted()?)
            .map(|(limit, counted)| limit_status(&limit.config, &counted))
            .collect())
    }
}

/// An interface in a few words.
fn state(state: Protection<'_>) -> String {
    match state {
        Protection::Attached(attachment) => {
            let mode = mode_name(attachment.generic);
            format!("protecting {} ({mode})", attachment.name)
        }
        Protection::Missing { name } => format!("{name} is missing"),
        Protection::Refused { interface, error } => {
            format!("cannot protect {}: {error}", interface.name)
        }
    }
}

/// Packets and bytes, by the names of what became of them.
fn traffic_counts(
    outcomes: impl IntoIterator<Item = (Outcome, Traffic)>,
) -> BTreeMap<String, TrafficCount> {
    let named = outcomes.into_iter().map(|(outcome, traffic)| {
        let Traffic { packets, bytes } = traffic;
        (outcome.name().to_owned(), TrafficCount { packets, bytes })
    });
    named.collect()
}

/// The status of an interface, but for what was counted there.
fn interface_status(state: Protection<'_>) -> InterfaceStatus {
    match state {
        Protection::Attached(attachment) => InterfaceStatus {
            name: attachment.name.clone(),
            configured: attachment.configured.clone(),
            state: InterfaceState::Attached,
            index: Some(attachment.index),
            mode: Some(mode_name(attachment.generic).to_owned()),
            program_id: Some(attachment.program),
            dispatcher: attachment
                .chain()
                .map(|chain| dispatcher_status(chain, attachment.program)),
            outcomes: None,
            error: None,
        },
        Protection::Missing { name } => InterfaceStatus {
            name: name.to_owned(),
            configured: name.to_owned(),
            state: InterfaceState::Missing,
            index: None,
            mode: None,
            program_id: None,
            dispatcher: None,
            outcomes: None,
            error: None,
        },
        Protection::Refused { interface, error } => InterfaceStatus {
            name: interface.name.clone(),
            configured: interface.name.clone(),
            state: InterfaceState::Refused,
            index: Some(interface.index),
            mode: None,
            program_id: None,
            dispatcher: None,
            outcomes: None,
            error: Some(error.to_owned()),
        },
    }
}

fn dispatcher_status(chain: &Chain, own: u32) -> DispatcherStatus {
    let components = chain.links.iter().map(|link| ComponentStatus {
        name: link.name.clone(),
        program_id: link.program,
        priority: link.priority,
        own: link.program == own,
    });
    DispatcherStatus {
        program_id: chain.dispatcher,
        components: components.collect(),
    }
}

fn limit_status(config: &LimitConfig, counted: &LimitCounters) -> LimitStatus {
    LimitStatus {
        name: config.name.clone(),
        protocol: config.protocol.to_string(),
        ports: config
            .ports
            .iter()
            .map(|range| {
                if range.start() == range.end() {
                    range.start().to_string()
                } else {
                    format!("{}-{}", range.start(), range.end())
                }
            })
            .collect(),
        count: config.count.name().to_owned(),
        rate: config.rate.to_string(),
        burst: config.burst,
        action: config.action.to_string(),
        ipv4_prefix: config.ipv4_prefix,
        ipv6_prefix: config.ipv6_prefix,
        only: match config.only {
            Scope::All => None,
            Scope::Throttled => Some("throttled".to_owned()),
        },
        passed: counted.passed.packets,
        dropped: counted.dropped.packets,
        observed: counted.observed.packets,
        allowed: counted.allowed.packets,
        contended: counted.contended,
        bytes: LimitBytes {
            passed: counted.passed.bytes,
            dropped: counted.dropped.bytes,
            observed: counted.observed.bytes,
            allowed: counted.allowed.bytes,
        },
        sources: 0,
    }
}
