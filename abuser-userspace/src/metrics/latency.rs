//! How long things take.
//!
//! Whoever does a thing measures it, and says so here; a mutex for some nanoseconds, and nothing
//! that grows with what it measures.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Upper bounds in seconds: from what an idle machine takes to what makes people wait.
const BOUNDS: [f64; 15] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];

/// How long one kind of thing takes. Clones share their counts.
#[derive(Debug, Clone)]
pub struct Latency(Histogram);

impl Default for Latency {
    fn default() -> Self {
        Self(histogram())
    }
}

fn histogram() -> Histogram {
    Histogram::new(BOUNDS)
}

impl Latency {
    /// Takes note of one.
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

/// What led to a ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// A packet over a limit.
    Packet,
    /// A line of a log.
    Line,
}

impl EncodeLabelValue for Trigger {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Packet => "packet",
            Self::Line => "line",
        };
        name.encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBan {
    trigger: Trigger,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequest {
    method: &'static str,
    route: Arc<str>,
    code: u16,
}

/// All that is measured.
#[derive(Debug)]
pub struct Latencies {
    bans: Family<OfBan, Histogram, fn() -> Histogram>,
    requests: Family<OfRequest, Histogram, fn() -> Histogram>,
    transactions: Latency,
}

impl Latencies {
    /// With those that are measured elsewhere: transactions of the store.
    pub fn new(transactions: Latency) -> Self {
        let bans = Family::new_with_constructor(histogram as fn() -> Histogram);
        for trigger in [Trigger::Packet, Trigger::Line] {
            // So that there is a zero to count from.
            drop(bans.get_or_create(&OfBan { trigger }));
        }
        Self {
            bans,
            requests: Family::new_with_constructor(histogram as fn() -> Histogram),
            transactions,
        }
    }

    /// A ban is in the kernel's map, so long after what led to it.
    pub fn banned(&self, trigger: Trigger, after: Duration) {
        let delay = self.bans.get_or_create(&OfBan { trigger });
        delay.observe(after.as_secs_f64());
    }

    /// A request of the API was answered with this status. `route` is what the path is matched by, so
    /// there are few; `None`: there is no such resource.
    pub fn answered(&self, method: &str, route: Option<&str>, code: u16, took: Duration) {
        // A client may send any word.
        let known = ["GET", "POST", "DELETE"];
        let method = known.into_iter().find(|known| *known == method);
        let request = OfRequest {
            method: method.unwrap_or("other"),
            route: route.unwrap_or("none").into(),
            code,
        };
        let duration = self.requests.get_or_create(&request);
        duration.observe(took.as_secs_f64());
    }

    /// Has a page show all of it.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "ban_delay",
            "Time from the packet over a limit, or from reading the line of a log, that led to a ban, \
             to the ban in the kernel's map",
            Unit::Seconds,
            self.bans.clone(),
        );
        registry.register_with_unit(
            "store_transaction_duration",
            "Time that transactions of the store took, until they were on disk",
            Unit::Seconds,
            self.transactions.0.clone(),
        );
        registry.register_with_unit(
            "api_request_duration",
            "Time from the head of a request of the API to the head of its answer",
            Unit::Seconds,
            self.requests.clone(),
        );
    }
}
