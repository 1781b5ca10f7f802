//! Status and limits, as the API tells them.

use abuser_common::layout::{Count, LimitCounters};

use super::{Engine, EngineError};
use crate::{
    api::types::{EventCounts, InterfaceStatus, LimitStatus, Status, TrafficCount},
    config::LimitConfig,
    daemon::clock,
    dataplane::{attach::mode_name, kernel_now},
};

impl Engine {
    pub(super) fn status(&self) -> Result<Status, EngineError> {
        let events = self.dataplane.counters().events()?;
        let outcomes = self.dataplane.counters().outcomes()?;
        let (started, since) = self.started;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: clock::format(started),
            uptime_seconds: since.elapsed().as_secs(),
            observe: self.observe,
            interfaces: self
                .dataplane
                .attachments()
                .iter()
                .map(|attachment| InterfaceStatus {
                    name: attachment.name.clone(),
                    index: attachment.index,
                    mode: mode_name(attachment.generic).to_owned(),
                    program_id: attachment.program,
                })
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
            limits: self.dataplane.limits().loaded().len(),
            bans: self.bans.count(kernel_now().0),
            allow: self.allowed.len(),
        })
    }

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
        conforming: counted.conforming,
        dropped: counted.dropped,
        observed: counted.observed,
        allowed: counted.allowed,
        contended: counted.contended,
    }
}
