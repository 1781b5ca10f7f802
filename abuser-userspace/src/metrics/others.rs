//! Those whom the daemon talks to: `CrowdSec`, the fleet, and who is notified. Each has metrics only if it is
//! configured.

use std::fmt;

use super::{
    Readings,
    page::{Family, Page, timestamp},
};
use crate::api::types::{CrowdsecPushStatus, CrowdsecStatus, FleetStatus, NotifierStatus};

pub(super) fn write(page: &mut Page<'_>, readings: &Readings) -> fmt::Result {
    let status = &readings.engine.status;
    if let Some(lapi) = &status.crowdsec {
        crowdsec(page, lapi)?;
        if let Some(push) = &lapi.push {
            crowdsec_push(page, push)?;
        }
    }
    if let Some(status) = &status.fleet {
        fleet(page, status)?;
    }
    if status.notify.is_empty() {
        return Ok(());
    }
    notifiers(page, &status.notify)
}

fn crowdsec(page: &mut Page<'_>, lapi: &CrowdsecStatus) -> fmt::Result {
    page.gauge(
        Family::new(
            "crowdsec_up",
            "1 if CrowdSec's local API answered when it was asked last.",
        ),
        i64::from(lapi.connected),
    )?;
    page.gauges(
        Family::seconds(
            "crowdsec_last_answer_timestamp",
            "When CrowdSec's local API answered last, in seconds since 1970.",
        ),
        lapi.last_answer
            .as_deref()
            .and_then(timestamp)
            .map(|time| ([], time)),
    )?;
    page.counter(
        Family::new(
            "crowdsec_failures",
            "Answers of CrowdSec's local API that did not come, or not as they should.",
        ),
        lapi.failures,
    )?;
    page.gauges(
        Family::new(
            "crowdsec_decisions",
            "Decisions of CrowdSec that ban somebody here.",
        ),
        [([], lapi.decisions)],
    )?;
    page.gauges(
        Family::new(
            "crowdsec_ignored_decisions",
            "Decisions of CrowdSec that ban nobody here, by why.",
        ),
        lapi.ignored
            .iter()
            .map(|(why, count)| ([("why", why.as_str())], *count)),
    )
}

fn crowdsec_push(page: &mut Page<'_>, push: &CrowdsecPushStatus) -> fmt::Result {
    page.gauge(
        Family::new(
            "crowdsec_push_up",
            "1 if CrowdSec's local API took what was pushed last.",
        ),
        i64::from(push.connected),
    )?;
    page.gauges(
        Family::new(
            "crowdsec_pushed_bans",
            "Bans of this daemon that CrowdSec's local API has.",
        ),
        [([], push.active)],
    )?;
    page.gauges(
        Family::new(
            "crowdsec_push_pending",
            "Bans that wait to be pushed to CrowdSec, or to be taken back.",
        ),
        [([], push.queued)],
    )?;
    page.counters(
        Family::new(
            "crowdsec_pushes",
            "Bans pushed to CrowdSec, those taken back, those that it refuses, and requests that failed.",
        ),
        [
            ([("result", "pushed")], push.pushed),
            ([("result", "withdrawn")], push.withdrawn),
            ([("result", "refused")], push.refused),
            ([("result", "failed")], push.failures),
        ],
    )
}

fn fleet(page: &mut Page<'_>, fleet: &FleetStatus) -> fmt::Result {
    page.gauge(
        Family::new(
            "fleet_up",
            "1 if there is a connection to a server of the fleet.",
        ),
        i64::from(fleet.connected),
    )?;
    page.gauge(
        Family::new(
            "fleet_complete",
            "1 if all that the fleet's bucket holds was heard since the connection was made.",
        ),
        i64::from(fleet.complete),
    )?;
    page.counter(
        Family::new(
            "fleet_reconnects",
            "Connections to the fleet that were made again after one was lost.",
        ),
        fleet.reconnects,
    )?;
    let (bans, allow) = ([("kind", "ban")], [("kind", "allow")]);
    page.gauges(
        Family::new(
            "fleet_entries",
            "Sources that other nodes ban or allow, within the caps.",
        ),
        [(bans, fleet.bans as u64), (allow, fleet.allow as u64)],
    )?;
    page.gauges(
        Family::new(
            "fleet_shared",
            "Bans and allow entries that this node shares.",
        ),
        [
            (bans, fleet.shared_bans as u64),
            (allow, fleet.shared_allow as u64),
        ],
    )?;
    page.counter(
        Family::new(
            "fleet_unshared",
            "Bans and allow entries that were not shared because there are too many.",
        ),
        fleet.unshared,
    )?;
    page.gauges(
        Family::new(
            "fleet_pending",
            "Changes of this node that the fleet's bucket is not known to have yet.",
        ),
        [([], fleet.pending as u64)],
    )?;
    page.counter(
        Family::new(
            "fleet_published",
            "Changes of this node that the fleet's bucket has taken.",
        ),
        fleet.published,
    )?;
    page.counter(
        Family::new("fleet_received", "Messages of other nodes that were heard."),
        fleet.received,
    )?;
    page.counters(
        Family::new(
            "fleet_refused",
            "Messages of other nodes that do not count, by why.",
        ),
        fleet
            .refused
            .iter()
            .map(|(why, count)| ([("why", why.as_str())], *count)),
    )?;
    fleet_nodes(page, fleet)
}

fn fleet_nodes(page: &mut Page<'_>, fleet: &FleetStatus) -> fmt::Result {
    page.gauges(
        Family::new(
            "fleet_nodes",
            "Nodes that were heard of, this one included.",
        ),
        [([], fleet.nodes.len() as u64)],
    )?;
    let gone = fleet.nodes.iter().filter(|node| node.gone).count();
    page.gauges(
        Family::new(
            "fleet_nodes_gone",
            "Of those, nodes that were not heard of for a minute; they are told of for a day.",
        ),
        [([], gone as u64)],
    )?;
    let latency = fleet.latency;
    page.gauges(
        Family::seconds(
            "fleet_latency",
            "Time that the latest messages took from the node that wrote them, by both clocks: no longer \
             than this for that share of them.",
        ),
        latency.into_iter().flat_map(|latency| {
            [
                ([("share", "0.5")], seconds(latency.median_ms)),
                ([("share", "0.99")], seconds(latency.p99_ms)),
            ]
        }),
    )
}

fn notifiers(page: &mut Page<'_>, notifiers: &[NotifierStatus]) -> fmt::Result {
    let each = || {
        notifiers
            .iter()
            .map(|status| (status.name.as_str(), status))
    };
    page.gauges(
        Family::new(
            "notify_up",
            "1 unless the last attempt to notify somebody failed.",
        ),
        each().map(|(name, status)| ([("notifier", name)], u64::from(status.error.is_none()))),
    )?;
    page.counters(
        Family::new(
            "notify_events",
            "Events that were delivered, that could not be, and that there was no room for.",
        ),
        each().flat_map(|(name, status)| {
            [
                ("sent", status.sent),
                ("failed", status.failed),
                ("dropped", status.dropped),
            ]
            .map(|(result, count)| ([("notifier", name), ("result", result)], count))
        }),
    )?;
    page.counters(
        Family::new(
            "notify_retries",
            "Attempts to notify somebody that failed and were made again.",
        ),
        each().map(|(name, status)| ([("notifier", name)], status.retried)),
    )?;
    page.gauges(
        Family::new(
            "notify_pending_events",
            "Events that wait to be delivered, or are being delivered.",
        ),
        each().map(|(name, status)| ([("notifier", name)], status.pending)),
    )
}

#[expect(clippy::cast_precision_loss, reason = "nothing takes that long")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}
