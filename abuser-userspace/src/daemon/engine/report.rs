//! Status and limits, as the API tells them.

use abuser_common::layout::{Count, LimitCounters, MAX_ALLOWED, MAX_BANS, MAX_LIMITS};

use super::{Engine, EngineError};
use crate::{
    api::types::{
        BucketCounts, Capacity, EventCounts, InterfaceState, InterfaceStatus, LimitStatus,
        LookupCounts, Status, TrafficCount,
    },
    config::LimitConfig,
    daemon::clock,
    dataplane::{attach::mode_name, buckets, kernel_now, protected::Protection},
};

impl Engine {
    pub(super) fn status(&self) -> Result<Status, EngineError> {
        let events = self.dataplane.counters().events()?;
        let outcomes = self.dataplane.counters().outcomes()?;
        let sources = self.dataplane.counters().sources()?;
        let active = self.active_buckets();
        let (started, since) = self.started;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: clock::format(started),
            uptime_seconds: since.elapsed().as_secs(),
            observe: self.observe,
            interfaces: self
                .dataplane
                .protected()
                .states()
                .map(interface_status)
                .collect(),
            outcomes: outcomes
                .into_iter()
                .map(|(outcome, traffic)| {
                    let count = TrafficCount {
                        packets: traffic.packets,
                        bytes: traffic.bytes,
                    };
                    (outcome.name().to_owned(), count)
                })
                .collect(),
            events: EventCounts {
                sent: events.sent,
                suppressed: events.suppressed,
                lost: events.lost,
            },
            buckets: BucketCounts {
                capacity: buckets::CAPACITY,
                active: active.iter().sum(),
                evictions: sources.evictions,
            },
            lookups: LookupCounts {
                total: sources.lookups,
                connected: sources.connected,
            },
            capacity: Capacity {
                limits: MAX_LIMITS,
                bans: MAX_BANS,
                allow: MAX_ALLOWED,
            },
            limits: self.dataplane.limits().loaded().len(),
            bans: self.bans.count(kernel_now().0),
            allow: self.allowed.len(),
        })
    }

    pub(super) fn limits(&self) -> Result<Vec<LimitStatus>, EngineError> {
        let limits = self.dataplane.limits();
        let active = self.active_buckets();
        Ok(limits
            .loaded()
            .iter()
            .zip(limits.counted()?)
            .map(|(limit, counted)| {
                let sources = active.get(usize::from(limit.slot)).copied();
                limit_status(&limit.config, &counted, sources.unwrap_or_default())
            })
            .collect())
    }

    /// Buckets that are not full, by the slot of their limit.
    fn active_buckets(&self) -> [usize; MAX_LIMITS as usize] {
        let scales = self.dataplane.limits().scales();
        self.dataplane.buckets().active(&scales, kernel_now())
    }
}

fn interface_status(state: Protection<'_>) -> InterfaceStatus {
    match state {
        Protection::Attached(attachment) => InterfaceStatus {
            name: attachment.name.clone(),
            configured: attachment.configured.clone(),
            state: InterfaceState::Attached,
            index: Some(attachment.index),
            mode: Some(mode_name(attachment.generic).to_owned()),
            program_id: Some(attachment.program),
            error: None,
        },
        Protection::Missing { name } => InterfaceStatus {
            name: name.to_owned(),
            configured: name.to_owned(),
            state: InterfaceState::Missing,
            index: None,
            mode: None,
            program_id: None,
            error: None,
        },
        Protection::Refused { interface, error } => InterfaceStatus {
            name: interface.name.clone(),
            configured: interface.name.clone(),
            state: InterfaceState::Refused,
            index: Some(interface.index),
            mode: None,
            program_id: None,
            error: Some(error.to_owned()),
        },
    }
}

fn limit_status(config: &LimitConfig, counted: &LimitCounters, sources: usize) -> LimitStatus {
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
        count: match config.count {
            Count::Packets => "packets",
            Count::Bytes => "bytes",
            Count::Connections => "connections",
        }
        .to_owned(),
        rate: config.rate.to_string(),
        burst: config.burst,
        action: config.action.to_string(),
        ipv4_prefix: config.ipv4_prefix,
        ipv6_prefix: config.ipv6_prefix,
        passed: counted.passed,
        dropped: counted.dropped,
        observed: counted.observed,
        allowed: counted.allowed,
        contended: counted.contended,
        sources,
    }
}
